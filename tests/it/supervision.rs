//! Supervision with toy actors only: on the stepper under a virtual clock, and on real threads with gates. No test
//! sleeps; every wait on a real thread has a deadline that only a failure reaches.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use pindrop::clock::{UtcNs, VirtualClock};
use pindrop::runtime::actor::{Actor, ActorId, Cx, Fault, Stop, Waits, Work};
use pindrop::runtime::child::{ChildSpec, Restart, SpecError, ThreadSpec};
use pindrop::runtime::health::ActorState;
use pindrop::runtime::idle::IdleStrategy;
use pindrop::runtime::mailbox::{
    EdgeSpec, Inbox, Latest, LatestInbox, Mailbox, OnRestart, Outbox, Overflow,
};
use pindrop::runtime::report::Outcome;
use pindrop::runtime::signal::Signals;
use pindrop::runtime::stepper::Stepper;
use pindrop::runtime::system::{StopHandle, System, SystemBuilder, SystemSettings, Threading};
use pindrop::runtime::thread;

/// What a gate waits at most; nothing but a failure takes so long.
const GATE: Duration = Duration::from_secs(20);
/// A message on which [`Sink`] panics.
const POISON: u64 = u64::MAX;

/// Offers 1, 2, 3, ... until `count`, one per turn.
struct Source {
    out: Outbox<u64>,
    next: u64,
    count: u64,
    draining: bool,
}

impl Actor for Source {
    fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
        if self.draining || self.next > self.count || !self.out.has_room() {
            return Ok(Work::Idle);
        }
        self.out.offer(self.next)?;
        self.next += 1;
        Ok(Work::Busy)
    }

    fn on_drain(&mut self, _cx: &mut Cx) -> Result<(), Fault> {
        self.draining = true;
        Ok(())
    }
}

/// Takes one message per turn, panics on [`POISON`], tells the rest through a gate if it has one.
struct Sink {
    inbox: Inbox<u64>,
    handled: Arc<AtomicU64>,
    gate: Option<Sender<(u32, u64)>>,
}

impl Actor for Sink {
    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        let Some(message) = self.inbox.take(cx) else { return Ok(Work::Idle) };
        assert!(message != POISON, "poisoned");
        self.handled.fetch_add(1, Ordering::SeqCst);
        if let Some(gate) = &self.gate {
            // A full gate means that the test has seen enough.
            let _ = gate.try_send((cx.generation.0, message));
        }
        Ok(Work::Busy)
    }
}

fn edge(name: &str, from: &[ActorId], to: ActorId) -> EdgeSpec {
    EdgeSpec {
        name: name.to_owned(),
        from: from.to_vec(),
        to,
        capacity: 16,
        overflow: Overflow::Refuse,
        on_restart: OnRestart::Keep,
    }
}

fn source(mailbox: &Mailbox<u64>, count: u64) -> ChildSpec {
    let mailbox = mailbox.clone();
    ChildSpec::new(move |_| {
        Ok(Box::new(Source { out: mailbox.outbox(), next: 1, count, draining: false }))
    })
}

fn sink(mailbox: &Mailbox<u64>, handled: &Arc<AtomicU64>) -> ChildSpec {
    gated_sink(mailbox, handled, None)
}

fn gated_sink(
    mailbox: &Mailbox<u64>,
    handled: &Arc<AtomicU64>,
    gate: Option<Sender<(u32, u64)>>,
) -> ChildSpec {
    let (mailbox, handled) = (mailbox.clone(), Arc::clone(handled));
    ChildSpec::new(move |_| {
        let (handled, gate) = (Arc::clone(&handled), gate.clone());
        Ok(Box::new(Sink { inbox: mailbox.inbox(), handled, gate }))
    })
}

fn builder() -> SystemBuilder {
    SystemBuilder::new(Threading::Dedicated, SystemSettings::default())
}

/// A source of `count` messages before a sink, in drain phases 0 and 1.
fn pipeline(
    mut builder: SystemBuilder,
    count: u64,
) -> (SystemBuilder, Mailbox<u64>, Arc<AtomicU64>) {
    let handled = Arc::new(AtomicU64::new(0));
    let (a, b) = (builder.actor("source", true), builder.actor("sink", true));
    let mailbox = builder.mailbox::<u64>(edge("source->sink", &[a], b));
    builder.child(a, ChildSpec { depends_on: vec![b], ..source(&mailbox, count) });
    builder.child(b, ChildSpec { phase: 1, must_drain: true, ..sink(&mailbox, &handled) });
    (builder, mailbox, handled)
}

fn stepper(builder: SystemBuilder, seed: u64) -> Stepper {
    let system = builder.build().expect("a valid system");
    system.stepper(seed, VirtualClock::new(UtcNs::from_millis(1_700_000_000_000)))
}

#[track_caller]
fn assert_conserved(outcome: &Outcome) {
    for (name, counts) in &outcome.edges {
        assert!(counts.conserved(), "{name}: {counts:?}");
    }
}

#[track_caller]
fn assert_ended(outcome: &Outcome, code: i32, exits: &str) {
    let seen: Vec<&str> = outcome.actors.iter().map(|a| a.exit).collect();
    assert_eq!((outcome.exit_code, seen.join(" ")), (code, exits.to_owned()), "{outcome:?}");
    assert_conserved(outcome);
}

// ---- on the stepper

#[test]
fn s43_a_backlog_is_handled_before_the_pill() {
    let (builder, mailbox, handled) = pipeline(builder(), 0);
    for n in 1..=10 {
        mailbox.outbox().offer(n).expect("there is room");
    }
    let mut stepper = stepper(builder, 1);
    assert!(stepper.run_until(GATE, |s| s.health().iter().all(|cell| cell.is_up())));
    let outcome = stepper.drain("test");
    assert_ended(&outcome, 0, "drained drained");
    assert_eq!(handled.load(Ordering::SeqCst), 10);
    assert_eq!(outcome.phases.iter().map(|p| p.late).collect::<Vec<_>>(), [false, false]);
}

#[test]
fn s26_a_panic_loses_the_message_in_hand_and_nothing_else() {
    let (builder, mailbox, handled) = pipeline(builder(), 0);
    for n in [1, 2, 3, POISON, 5, 6, 7, 8, 9, 10] {
        mailbox.outbox().offer(n).expect("there is room");
    }
    let mut stepper = stepper(builder, 1);
    stepper.run_for(Duration::from_secs(1));
    let events = stepper.events().recent();
    let exit = events.iter().find(|e| e.name == "actor.exit").expect("the crash is reported");
    for part in ["actor=sink", "kind=panic", "msg=poisoned", "last_msg=source->sink#4", "left=6"] {
        assert!(exit.text.contains(part), "{part} is missing in {}", exit.text);
    }
    let outcome = stepper.drain("test");
    assert_ended(&outcome, 0, "drained drained");
    assert_eq!(handled.load(Ordering::SeqCst), 9);
    assert_eq!((outcome.edges[0].1.lost_in_flight, outcome.actors[1].restarts), (1, 1));
}

#[test]
fn s30_offers_behind_the_pill_are_counted() {
    let (builder, mailbox, _) = pipeline(builder(), 0);
    let mut stepper = stepper(builder, 1);
    assert!(stepper.run_until(GATE, |s| s.health().iter().all(|cell| cell.is_up())));
    let outcome = stepper.drain("test");
    assert_ended(&outcome, 0, "drained drained");
    // The consumer is gone for good.
    mailbox.outbox().offer(1).expect("it is dropped, not refused");
    let counts = pindrop::runtime::mailbox::Edge::counts(&mailbox);
    assert_eq!((counts.dropped_closed, counts.conserved()), (1, true));
}

#[test]
fn panicking_at_every_start_exhausts_the_budget() {
    let (mut builder, _, _) = pipeline(builder(), u64::MAX);
    builder.inject(&"panic:sink:every=1".parse().expect("a fault")).expect("a known actor");
    let mut stepper = stepper(builder, 1);
    stepper.run_for(Duration::from_secs(60));
    assert_eq!(stepper.exit_code(), Some(70));
    let outcome = stepper.finish();
    assert_eq!(outcome.reason, "restart budget of sink exhausted");
    // Five restarts, one with the group, one more: the eighth failure in a row is the last.
    assert_eq!((outcome.actors[1].restarts, outcome.actors[1].generation), (7, 8));
    assert_conserved(&outcome);
}

#[test]
fn a_one_shot_fault_breaks_one_generation_only() {
    for text in ["panic:sink", "panic:sink:after=100", "fail:sink:after=2s"] {
        let (mut builder, _, handled) = pipeline(builder(), 1_000);
        builder.inject(&text.parse().expect("a fault")).expect("a known actor");
        let mut stepper = stepper(builder, 1);
        stepper.run_for(Duration::from_secs(10));
        let outcome = stepper.drain("test");
        assert_ended(&outcome, 0, "drained drained");
        assert_eq!(outcome.actors[1].restarts, 1, "{text}");
        let lost = outcome.edges[0].1.lost_in_flight;
        assert_eq!(handled.load(Ordering::SeqCst), 1_000, "{text}");
        assert_eq!(lost, u64::from(text.ends_with("100")), "{text}");
    }
}

#[test]
fn an_unknown_fault_target_names_the_actors() {
    let (mut builder, _, _) = pipeline(builder(), 0);
    let error = builder.inject(&"panic:sunk".parse().expect("a fault")).expect_err("no such actor");
    assert!(error.contains("source, sink"), "{error}");
}

/// Never says that it is drained.
struct Stubborn;

impl Actor for Stubborn {
    fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
        Ok(Work::Idle)
    }

    fn drained(&self) -> bool {
        false
    }
}

#[test]
fn a_stubborn_actor_is_stopped_and_the_drain_goes_on() {
    let (mut builder, _, _) = pipeline(builder(), 100);
    let id = builder.actor("stubborn", false);
    builder.child(id, ChildSpec::new(|_| Ok(Box::new(Stubborn))));
    let mut stepper = stepper(builder, 1);
    stepper.run_for(Duration::from_secs(1));
    let outcome = stepper.drain("test");
    assert_ended(&outcome, 76, "drained drained deadline");
    assert_eq!(outcome.phases.iter().map(|p| p.late).collect::<Vec<_>>(), [true, false]);
    assert!(outcome.drain < Duration::from_secs(3), "{:?}", outcome.drain);
}

#[test]
fn idle_time_costs_nothing() {
    let (builder, _, handled) = pipeline(builder(), 500);
    let mut stepper = stepper(builder, 1);
    let mut steps = 0;
    while stepper.now().as_nanos() < 60_000_000_000 {
        stepper.step();
        steps += 1;
    }
    assert_eq!(handled.load(Ordering::SeqCst), 500);
    // One per jump of at most 10 ms, and those with work.
    assert!(steps < 12_000, "{steps}");
}

/// A run with random crashes of both actors; the events and the outcome in text.
fn crashing_run(seed: u64) -> String {
    let (mut builder, _, _) = pipeline(builder(), 10_000);
    let mut random = fastrand::Rng::with_seed(seed);
    for actor in ["source", "sink"] {
        let kind = if random.bool() { "panic" } else { "fail" };
        let fault = format!("{kind}:{actor}:every={}", random.u32(2_000..20_000));
        builder.inject(&fault.parse().expect("a fault")).expect("a known actor");
    }
    let mut stepper = stepper(builder, seed);
    stepper.run_for(Duration::from_millis(random.u64(1..200)));
    let events: Vec<String> = stepper.events().recent().into_iter().map(|e| e.text).collect();
    let outcome = stepper.finish();
    assert_conserved(&outcome);
    assert_eq!(outcome.stale_events, 0);
    format!("{events:?} {outcome:?}")
}

#[test]
fn messages_are_conserved_whatever_crashes() {
    for seed in 0..100 {
        let run = crashing_run(seed);
        // 76: the sink was down when the drain came, and it must drain.
        let codes = ["exit_code: 0", "exit_code: 70", "exit_code: 76"];
        assert!(codes.iter().any(|code| run.contains(code)), "seed {seed}: {run}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(crashing_run(7), crashing_run(7));
    assert_ne!(crashing_run(7), crashing_run(8));
}

/// Takes the newest value of each key.
struct Watcher(LatestInbox<u64>, Arc<AtomicU64>);

impl Actor for Watcher {
    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        let Some((_, value)) = self.0.take(cx) else { return Ok(Work::Idle) };
        self.1.store(value, Ordering::SeqCst);
        Ok(Work::Busy)
    }
}

fn watcher(latest: &Latest<u64>, seen: &Arc<AtomicU64>) -> ChildSpec {
    let (latest, seen) = (latest.clone(), Arc::clone(seen));
    ChildSpec::new(move |_| Ok(Box::new(Watcher(latest.inbox(), Arc::clone(&seen)))))
}

#[test]
fn a_conflated_edge_drains_without_a_message_for_a_pill() {
    let mut builder = builder();
    let seen = Arc::new(AtomicU64::new(0));
    let id = builder.actor("watcher", true);
    let latest = builder.latest::<u64>(edge("x->watcher", &[], id));
    builder.child(id, watcher(&latest, &seen));
    for n in 1..=5 {
        latest.outbox().put(0, n);
    }
    let outcome = stepper(builder, 1).drain("test");
    assert_ended(&outcome, 0, "drained");
    assert_eq!((seen.load(Ordering::SeqCst), outcome.edges[0].1.conflated), (5, 4));
}

#[test]
fn s03_every_mistake_is_found_at_once() {
    let mut builder = builder();
    let a = builder.actor("a", true);
    let b = builder.actor("a", true);
    let lone = builder.actor("lone", false);
    let bad = builder.actor("two words", false);
    let mut none = edge("none", &[], a);
    none.capacity = 0;
    builder.mailbox::<u64>(none);
    builder.mailbox::<u64>(edge("nowhere", &[], ActorId(99)));
    let spinning = |core| ThreadSpec { host: None, core: Some(core), idle: IdleStrategy::Spin };
    let child = || ChildSpec::new(|_| Ok(Box::new(Stubborn)));
    builder.child(a, ChildSpec { depends_on: vec![b], thread: spinning(0), ..child() });
    builder.child(b, ChildSpec { depends_on: vec![a], thread: spinning(0), ..child() });
    let long = Duration::from_secs(60);
    builder.child(bad, ChildSpec { thread: spinning(1_024), drain_timeout: long, ..child() });
    let _ = lone;
    let errors = builder.build().expect_err("nothing of it is right");
    let has = |check: fn(&SpecError) -> bool| assert!(errors.iter().any(check), "{errors:?}");
    has(|e| matches!(e, SpecError::DuplicateActor(n) if n == "a"));
    has(|e| matches!(e, SpecError::NoChild(n) if n == "lone"));
    has(|e| matches!(e, SpecError::BadName(n) if n == "two words"));
    has(|e| matches!(e, SpecError::ZeroCapacity(n) if n == "none"));
    has(|e| matches!(e, SpecError::EdgeEnd(n) if n == "nowhere"));
    has(|e| matches!(e, SpecError::Cycle(names) if names.len() == 2));
    has(|e| matches!(e, SpecError::TwoSpinners { core: 0, .. }));
    has(|e| matches!(e, SpecError::Core { core: 1_024, .. }));
    has(|e| matches!(e, SpecError::DrainTooLong { .. }));
}

// ---- on real threads

/// A system that runs on a thread of its own, and how to end it.
struct Live {
    stop: StopHandle,
    done: Receiver<Outcome>,
}

impl Live {
    fn start(system: System) -> Self {
        let stop = system.stop_handle();
        let (tx, done) = bounded(1);
        thread::spawn("test-main", move || {
            let _ = tx.try_send(system.run(None, None));
        })
        .expect("a thread");
        Self { stop, done }
    }

    fn drain(self) -> Outcome {
        self.stop.drain("test");
        self.wait()
    }

    fn wait(self) -> Outcome {
        self.done.recv_timeout(GATE).expect("the system ends")
    }
}

/// Parks practically for ever: only a wake-up ends it.
fn long_park() -> ThreadSpec {
    let idle = IdleStrategy::Park { max: Duration::from_secs(3_600) };
    ThreadSpec { host: None, core: None, idle }
}

/// A gated sink on a thread, fed by the test.
fn live_sink(thread: ThreadSpec) -> (Live, Mailbox<u64>, Receiver<(u32, u64)>) {
    let mut builder = builder();
    let (tx, gate) = bounded(64);
    let id = builder.actor("sink", true);
    let mailbox = builder.mailbox::<u64>(edge("test->sink", &[], id));
    let spec = gated_sink(&mailbox, &Arc::default(), Some(tx));
    builder.child(id, ChildSpec { thread, ..spec });
    (Live::start(builder.build().expect("a valid system")), mailbox, gate)
}

#[test]
fn a_parked_actor_wakes_on_an_offer_and_on_the_end() {
    let (live, mailbox, gate) = live_sink(long_park());
    for n in 1..=100 {
        mailbox.outbox().offer(n).expect("the sink keeps up");
        assert_eq!(gate.recv_timeout(GATE), Ok((1, n)));
    }
    assert_ended(&live.drain(), 0, "drained");
}

#[test]
fn every_idle_strategy_delivers() {
    let backoff = IdleStrategy::Backoff {
        spins: 1,
        yields: 1,
        park_min: Duration::from_micros(1),
        park_max: Duration::from_secs(3_600),
    };
    for idle in [IdleStrategy::PARK, IdleStrategy::BACKOFF, backoff] {
        let (live, mailbox, gate) = live_sink(ThreadSpec { host: None, core: None, idle });
        for n in 1..=20 {
            mailbox.outbox().offer(n).expect("the sink keeps up");
            assert_eq!(gate.recv_timeout(GATE), Ok((1, n)));
        }
        assert_ended(&live.drain(), 0, "drained");
    }
}

#[test]
fn a_crashed_actor_is_replaced_on_its_thread() {
    let (live, mailbox, gate) = live_sink(long_park());
    for n in [1, POISON, 3] {
        mailbox.outbox().offer(n).expect("there is room");
    }
    assert_eq!(gate.recv_timeout(GATE), Ok((1, 1)));
    assert_eq!(gate.recv_timeout(GATE), Ok((2, 3)));
    let outcome = live.drain();
    assert_ended(&outcome, 0, "drained");
    assert_eq!((outcome.actors[0].generation, outcome.edges[0].1.lost_in_flight), (2, 1));
}

#[test]
fn one_seats_panic_leaves_its_neighbour_alone() {
    let mut builder = SystemBuilder::new(Threading::Shared, SystemSettings::default());
    let (tx, gate) = bounded(64);
    let (a, b) = (builder.actor("a", true), builder.actor("b", true));
    let to_a = builder.mailbox::<u64>(edge("test->a", &[], a));
    let to_b = builder.mailbox::<u64>(edge("test->b", &[], b));
    let spec = |mailbox: &Mailbox<u64>| ChildSpec {
        thread: long_park(),
        ..gated_sink(mailbox, &Arc::default(), Some(tx.clone()))
    };
    builder.child(a, spec(&to_a));
    builder.child(b, spec(&to_b));
    let system = builder.build().expect("a valid system");
    assert_eq!(system.plan().hosts.len(), 1);
    let live = Live::start(system);
    to_a.outbox().offer(POISON).expect("there is room");
    to_a.outbox().offer(1).expect("there is room");
    assert_eq!(gate.recv_timeout(GATE), Ok((2, 1)));
    to_b.outbox().offer(2).expect("there is room");
    assert_eq!(gate.recv_timeout(GATE), Ok((1, 2)));
    assert_ended(&live.drain(), 0, "drained drained");
}

/// Waits for a socket, not for a mailbox.
struct Reader(UnixStream, Sender<u8>);

impl Actor for Reader {
    fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
        let mut byte = [0];
        if self.0.read(&mut byte).is_err() {
            return Ok(Work::Idle);
        }
        let _ = self.1.try_send(byte[0]);
        Ok(Work::Busy)
    }

    fn waits(&self, waits: &mut Waits) {
        waits.readable(self.0.as_fd());
    }
}

#[test]
fn a_parked_actor_wakes_when_its_socket_is_readable() {
    let (ours, mut theirs) = UnixStream::pair().expect("a socket pair");
    ours.set_nonblocking(true).expect("it can be set");
    let (tx, gate) = bounded(8);
    let mut builder = builder();
    let id = builder.actor("reader", true);
    let spec = ChildSpec::new(move |_| {
        Ok(Box::new(Reader(ours.try_clone().expect("a descriptor"), tx.clone())))
    });
    builder.child(id, ChildSpec { thread: long_park(), ..spec });
    let live = Live::start(builder.build().expect("a valid system"));
    for byte in 1..=100 {
        theirs.write_all(&[byte]).expect("the reader keeps up");
        assert_eq!(gate.recv_timeout(GATE), Ok(byte));
    }
    assert_ended(&live.drain(), 0, "drained");
}

/// Loops in its turn until it is released, or interrupted.
struct Looper {
    looping: Arc<AtomicBool>,
    entered: Sender<()>,
    busy: bool,
}

impl Actor for Looper {
    fn on_start(&mut self, cx: &mut Cx) -> Result<(), Fault> {
        let looping = Arc::clone(&self.looping);
        if !self.busy {
            cx.on_interrupt(Box::new(move || looping.store(false, Ordering::SeqCst)));
        }
        Ok(())
    }

    fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
        if self.looping.load(Ordering::SeqCst) {
            let _ = self.entered.try_send(());
        }
        while self.looping.load(Ordering::SeqCst) {
            if !self.busy {
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
        Ok(Work::Idle)
    }
}

/// Limits small enough to see the ladder's end soon.
fn quick() -> SystemSettings {
    SystemSettings {
        wedge_grace: Duration::from_millis(50),
        tick: Duration::from_millis(5),
        reaper_exit: |code| panic!("reaped with {code}"),
        ..SystemSettings::default()
    }
}

struct Wedge {
    live: Live,
    looping: Arc<AtomicBool>,
    fences: Receiver<(bool, String)>,
    emergency: Receiver<Duration>,
    events: Receiver<String>,
}

/// A system with an actor that loops in its first turn beside one that does not.
fn wedge(busy: bool, threading: Threading) -> Wedge {
    // An interrupted actor must get its time also on a busy machine.
    let wedge_grace = if busy { quick().wedge_grace } else { GATE };
    let mut builder = SystemBuilder::new(threading, SystemSettings { wedge_grace, ..quick() });
    let (fence_tx, fences) = bounded(64);
    let (emergency_tx, emergency) = bounded(1);
    let (event_tx, events) = bounded(1_024);
    let (entered, _) = bounded(1);
    builder.on_fence(move |on, why| fence_tx.try_send((on, why.to_owned())).unwrap_or(()));
    builder.on_emergency(move |limit| emergency_tx.try_send(limit).unwrap_or(()));
    builder.on_event(move |event| event_tx.try_send(event.text.clone()).unwrap_or(()));
    let looping = Arc::new(AtomicBool::new(true));
    let (a, b) = (builder.actor("looper", true), builder.actor("bystander", true));
    let flag = Arc::clone(&looping);
    let limits = ChildSpec {
        stall_warn: Duration::from_millis(100),
        stall_fail: Duration::from_millis(200),
        essential: true,
        ..ChildSpec::new(move |_| {
            let (looping, entered) = (Arc::clone(&flag), entered.clone());
            Ok(Box::new(Looper { looping, entered, busy }))
        })
    };
    let start = Arc::new(|_: &mut Cx| Ok(Box::new(Stubborn) as Box<dyn Actor>));
    let mut bystander = ChildSpec { start, ..limits.clone() };
    if threading == Threading::Dedicated {
        // A busy machine may withhold the core from its thread; only the neighbour's loop must not be its fault.
        (bystander.stall_warn, bystander.stall_fail) = (GATE, 2 * GATE);
    }
    builder.child(b, bystander);
    builder.child(a, limits);
    let live = Live::start(builder.build().expect("a valid system"));
    Wedge { live, looping, fences, emergency, events }
}

/// The ladder's end, for an actor whose interrupt does not help.
#[track_caller]
fn check_wedge(threading: Threading) {
    let wedge = wedge(true, threading);
    let (on, why) = wedge.fences.recv_timeout(GATE).expect("trading is fenced");
    assert!(on && why.starts_with("looper"), "{why}");
    assert_eq!(wedge.emergency.recv_timeout(GATE), Ok(Duration::from_secs(3)));
    let outcome = wedge.live.wait();
    wedge.looping.store(false, Ordering::SeqCst);
    assert_eq!(outcome.exit_code, 75, "{outcome:?}");
    assert!(outcome.reason.starts_with("looper is wedged: "), "{}", outcome.reason);
    // The bystander was accused of nothing.
    for event in wedge.events.try_iter().filter(|e| e.contains("actor=bystander")) {
        assert!(!event.contains("stall") && !event.contains("wedge"), "{event}");
    }
}

#[test]
fn a_looping_actor_is_seen_fenced_and_ends_with_75() {
    check_wedge(Threading::Dedicated);
}

#[test]
fn on_a_shared_host_the_seat_in_its_turn_is_accused() {
    check_wedge(Threading::Shared);
}

#[test]
fn s38_an_interrupt_frees_a_blocked_actor_without_a_restart() {
    let wedge = wedge(false, Threading::Dedicated);
    assert_eq!(wedge.fences.recv_timeout(GATE).map(|f| f.0), Ok(true));
    assert_eq!(wedge.fences.recv_timeout(GATE).map(|f| f.0), Ok(false));
    let outcome = wedge.live.drain();
    // The bystander never says that it is drained.
    assert_ended(&outcome, 76, "drained deadline");
    assert_eq!(outcome.actors[0].generation, 1);
}

#[test]
fn s44_a_thread_that_never_drains_is_left_behind() {
    let (release, held) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
    let (entered, gate) = bounded(1);
    let mut builder = SystemBuilder::new(Threading::Dedicated, quick());
    let id = builder.actor("stuck", false);
    let flag = Arc::clone(&release);
    let spec = ChildSpec::new(move |_| {
        let (looping, entered) = (Arc::clone(&flag), entered.clone());
        Ok(Box::new(Looper { looping, entered, busy: true }))
    });
    let must = ChildSpec {
        must_drain: true,
        emergency: true,
        drain_timeout: Duration::from_millis(50),
        stall_warn: GATE,
        stall_fail: 2 * GATE,
        ..spec
    };
    builder.child(id, must);
    let flag = Arc::clone(&held);
    builder.on_emergency(move |_| flag.store(true, Ordering::SeqCst));
    let live = Live::start(builder.build().expect("a valid system"));
    gate.recv_timeout(GATE).expect("it loops");
    let outcome = live.drain();
    release.store(false, Ordering::SeqCst);
    assert_eq!((outcome.exit_code, outcome.actors[0].exit), (76, "none"), "{outcome:?}");
    assert!(
        held.load(Ordering::SeqCst),
        "what it left open was cancelled by the emergency routine"
    );
}

#[test]
fn a_drain_while_starting_goes_straight_through() {
    let (entered, started) = bounded::<()>(1);
    let (release, hold) = bounded::<()>(1);
    let mut builder = builder();
    let (a, b) = (builder.actor("slow", false), builder.actor("late", false));
    let slow = ChildSpec::new(move |_| {
        let _ = entered.try_send(());
        hold.recv_timeout(GATE).map_err(|e| Fault::fatal(e.to_string()))?;
        Ok(Box::new(Watcher(Latest::detached("x", 1).inbox(), Arc::default())))
    });
    builder.child(a, slow);
    let late = ChildSpec::new(|_| Ok(Box::new(Stubborn)));
    builder.child(b, ChildSpec { depends_on: vec![a], ..late });
    let live = Live::start(builder.build().expect("a valid system"));
    started.recv_timeout(GATE).expect("the slow one starts");
    live.stop.drain("test");
    release.try_send(()).expect("it waits");
    assert_ended(&live.wait(), 0, "drained none");
}

#[test]
fn the_duration_ends_a_run() {
    let (builder, _, handled) = pipeline(builder(), 10);
    let outcome =
        builder.build().expect("a valid system").run(None, Some(Duration::from_millis(200)));
    assert_ended(&outcome, 0, "drained drained");
    assert_eq!((outcome.reason.as_str(), handled.load(Ordering::SeqCst)), ("duration", 10));
}

#[test]
fn a_pinned_thread_is_read_back() {
    let mut builder = builder();
    let id = builder.actor("pinned", true);
    let spec =
        ChildSpec::new(|_| Ok(Box::new(Watcher(Latest::detached("x", 1).inbox(), Arc::default()))));
    let thread = ThreadSpec { core: Some(0), ..ThreadSpec::default() };
    builder.child(id, ChildSpec { thread, restart: Restart::Transient, ..spec });
    let cell = Arc::clone(&builder.health()[0]);
    let outcome =
        builder.build().expect("core 0 is online").run(None, Some(Duration::from_millis(50)));
    assert_ended(&outcome, 0, "drained");
    // A machine that forbids core 0 says so in the log and goes on.
    assert!(cell.core().is_none_or(|c| c == 0));
    assert!(cell.tid() > 0);
}

#[test]
fn the_first_signal_drains() {
    let signals = Signals::register().expect("the handlers");
    let (builder, _, _) = pipeline(builder(), 10);
    let events = builder.events();
    for signal in [signal_hook::consts::SIGHUP, signal_hook::consts::SIGUSR1] {
        signal_hook::low_level::raise(signal).expect("it is sent");
    }
    // Once only: a second one would end the test's process.
    signal_hook::low_level::raise(signal_hook::consts::SIGTERM).expect("it is sent");
    let outcome = builder.build().expect("a valid system").run(Some(&signals), None);
    assert_eq!((outcome.exit_code, outcome.reason.as_str()), (0, "SIGTERM"));
    assert_conserved(&outcome);
    let names: Vec<&str> = events.recent().iter().map(|e| e.name).collect();
    for name in ["sup.start", "signal", "actor.dump", "drain.begin", "drain.end", "sup.exit"] {
        assert!(names.contains(&name), "{name} is missing in {names:?}");
    }
}

/// Set for the process that this test starts of itself.
const CHILD: &str = "PINDROP_TEST_SECOND_SIGNAL";

#[test]
fn the_second_signal_ends_the_process_at_once() {
    if std::env::var_os(CHILD).is_some() {
        let _signals = Signals::register().expect("the handlers");
        signal_hook::low_level::raise(signal_hook::consts::SIGINT).expect("it is sent");
        signal_hook::low_level::raise(signal_hook::consts::SIGTERM).expect("it is sent");
        unreachable!("the second signal ended the process inside its handler");
    }
    let test = "supervision::the_second_signal_ends_the_process_at_once";
    let status = std::process::Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", test])
        .env(CHILD, "1")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .expect("it starts");
    assert_eq!(status.code(), Some(128 + 15));
}

#[test]
fn an_actor_that_gets_no_turns_does_not_hold_the_drain() {
    let (builder, _, _) = pipeline(builder(), 10);
    let mut stepper = stepper(builder, 1);
    stepper.run_for(Duration::from_secs(1));
    stepper.freeze(ActorId(1), Duration::from_secs(60));
    let outcome = stepper.drain("test");
    assert_ended(&outcome, 76, "drained none");
    assert!(outcome.drain < Duration::from_secs(8), "{:?}", outcome.drain);
}

#[test]
fn a_supervisor_that_was_suspended_says_so_and_accuses_nobody() {
    let (builder, _, _) = pipeline(builder(), 10);
    let mut stepper = stepper(builder, 1);
    stepper.run_for(Duration::from_secs(1));
    stepper.clock().advance(Duration::from_secs(30));
    stepper.run_for(Duration::from_secs(1));
    let names: Vec<&str> = stepper.events().recent().iter().map(|e| e.name).collect();
    assert_eq!(names.iter().filter(|n| **n == "sup.suspended").count(), 1, "{names:?}");
    assert!(!names.iter().any(|n| n.starts_with("stall") || n.starts_with("actor.exit")));
    assert_ended(&stepper.drain("test"), 0, "drained drained");
}

#[test]
fn losses_are_named_once_not_per_message() {
    let mut builder = builder();
    let id = builder.actor("watcher", true);
    let seen = Arc::new(AtomicU64::new(0));
    let latest = builder.latest::<u64>(edge("x->watcher", &[], id));
    let mut full = edge("y->watcher", &[], id);
    full.overflow = Overflow::DropNewest;
    let nobody_takes = builder.mailbox::<u64>(full);
    builder.child(id, watcher(&latest, &seen));
    for n in 0..100 {
        nobody_takes.outbox().offer(n).expect("it is dropped, not refused");
    }
    let mut stepper = stepper(builder, 1);
    stepper.run_for(Duration::from_secs(5));
    let lines: Vec<String> = stepper
        .events()
        .recent()
        .into_iter()
        .filter(|e| e.name == "dead_letter")
        .map(|e| e.text)
        .collect();
    assert_eq!(lines, ["event=dead_letter edge=y->watcher why=overflow new=84 total=84"]);
}

#[test]
fn s32_losses_are_told_ten_times_and_then_summed_up() {
    let mut builder = builder();
    let id = builder.actor("deaf", true);
    let mut full = edge("y->deaf", &[], id);
    full.overflow = Overflow::DropNewest;
    let nobody_takes = builder.mailbox::<u64>(full);
    let seen = Arc::new(AtomicU64::new(0));
    let latest = builder.latest::<u64>(edge("x->deaf", &[], id));
    builder.child(id, watcher(&latest, &seen));
    let told = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&told);
    builder.on_event(move |e| {
        count.fetch_add(u64::from(e.name == "dead_letter"), Ordering::SeqCst);
    });
    let mut stepper = stepper(builder, 1);
    // One more loss a second, for half an hour.
    for _ in 0..1_800 {
        let full = nobody_takes.outbox().has_room();
        (0..if full { 17 } else { 1 }).for_each(|n| {
            nobody_takes.outbox().offer(n).expect("it is dropped, not refused");
        });
        stepper.run_for(Duration::from_secs(1));
    }
    // Ten of the first ten seconds, then one every five minutes.
    assert_eq!(told.load(Ordering::SeqCst), 10 + 1_800 / 300 - 1);
}

/// Where [`Clumsy`] panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Factory,
    Start,
    Turn,
    Drain,
    Stop,
    Drop,
}

/// Panics in one of its methods in its first life.
struct Clumsy(Option<Where>);

impl Clumsy {
    fn reach(&self, place: Where) {
        assert!(self.0 != Some(place), "clumsy in {place:?}");
    }
}

impl Actor for Clumsy {
    fn on_start(&mut self, _cx: &mut Cx) -> Result<(), Fault> {
        self.reach(Where::Start);
        Ok(())
    }

    fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
        self.reach(Where::Turn);
        Ok(Work::Idle)
    }

    fn on_drain(&mut self, _cx: &mut Cx) -> Result<(), Fault> {
        self.reach(Where::Drain);
        Ok(())
    }

    fn on_stop(&mut self, _cx: &mut Cx, _stop: Stop) {
        self.reach(Where::Stop);
    }
}

impl Drop for Clumsy {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.reach(Where::Drop);
        }
    }
}

#[test]
fn s21_a_panic_anywhere_gives_one_report_of_its_kind() {
    for (place, exits) in [
        (Where::Factory, "panic"),
        (Where::Start, "panic"),
        (Where::Turn, "panic drained"),
        (Where::Drain, "panic"),
        (Where::Stop, "panic"),
        (Where::Drop, "panic"),
    ] {
        let mut builder = builder();
        let id = builder.actor("clumsy", true);
        let spec = ChildSpec::new(move |cx: &mut Cx| {
            let clumsy = Clumsy((cx.generation.0 == 1).then_some(place));
            clumsy.reach(Where::Factory);
            Ok(Box::new(clumsy))
        });
        builder.child(id, spec);
        let mut stepper = stepper(builder, 1);
        stepper.run_for(Duration::from_secs(1));
        let events = stepper.events();
        let _ = stepper.drain("test");
        let kind = |text: &str| {
            let pair = text.split(' ').find_map(|p| p.strip_prefix("kind="));
            pair.unwrap_or_default().to_owned()
        };
        let recent = events.recent();
        let said = recent.iter().filter(|e| e.name == "actor.exit").map(|e| kind(&e.text));
        assert_eq!(said.collect::<Vec<_>>().join(" "), exits, "{place:?}");
    }
}

#[test]
fn s31_what_is_left_when_the_budget_is_spent_is_a_dead_letter() {
    let (mut builder, mailbox, handled) = pipeline(builder(), 0);
    for n in 0..16 {
        let message = if n < 3 { n } else { POISON };
        mailbox.outbox().offer(message).expect("there is room");
    }
    builder.on_fence(|_, _| {});
    let mut stepper = stepper(builder, 1);
    stepper.run_for(Duration::from_secs(60));
    assert_eq!(stepper.exit_code(), Some(70));
    let events = stepper.events().recent();
    let outcome = stepper.finish();
    // Three handled, eight lives lost one each, five left and named.
    assert_eq!(handled.load(Ordering::SeqCst), 3);
    let counts = outcome.edges[0].1;
    assert_eq!((counts.handled, counts.lost_in_flight, counts.left), (3, 8, 5));
    let expect = "event=dead_letter edge=source->sink why=consumer_gone left=5";
    assert!(events.iter().any(|e| e.text == expect), "{events:?}");
    assert_conserved(&outcome);
}

#[test]
fn s50_an_actor_that_is_done_before_its_phase_does_not_hold_the_drain() {
    struct Done;
    impl Actor for Done {
        fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
            Ok(Work::Done)
        }
    }
    let (mut builder, _, handled) = pipeline(builder(), 100);
    let id = builder.actor("done", true);
    let spec = ChildSpec::new(|_: &mut Cx| Ok(Box::new(Done)));
    builder.child(id, ChildSpec { restart: Restart::Transient, must_drain: true, ..spec });
    let mut stepper = stepper(builder, 1);
    stepper.run_for(Duration::from_secs(1));
    assert_eq!(stepper.health()[2].state(), ActorState::Exited);
    assert_ended(&stepper.drain("test"), 0, "drained drained done");
    assert_eq!(handled.load(Ordering::SeqCst), 100);
}
