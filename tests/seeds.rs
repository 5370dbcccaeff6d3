//! Toy actors under seeded faults, stepped under a virtual clock, with every promise checked after every step.
//!
//! One seed decides a system (how many actors, their mailboxes and policies, groups and strategies), its faults
//! (panics and errors at the k-th message, starts that fail, actors that get no turns for a while or for ever, slow
//! and endless drains, a suspended supervisor, two of them at once) and when it is told to stop. `PINDROP_SEEDS=N`
//! runs N seeds in place of 10,000; `PINDROP_SEED=n` runs that one and says what the supervisor said. A canary run
//! breaks a promise on purpose, and must be caught.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pindrop::clock::{MonoNs, UtcNs, VirtualClock};
use pindrop::runtime::actor::{Actor, ActorId, Cx, Fault, Stop, Work};
use pindrop::runtime::child::{ChildSpec, Restart};
use pindrop::runtime::group::{AutoShutdown, GroupId, GroupSpec, Strategy};
use pindrop::runtime::mailbox::{
    EdgeSpec, Inbox, Latest, LatestInbox, LatestOutbox, Mailbox, OnRestart, Outbox, Overflow,
};
use pindrop::runtime::stepper::{Pace, Stepper};
use pindrop::runtime::system::{SystemBuilder, SystemSettings, Threading};
use pindrop::runtime::thread;

const SEEDS: u64 = 10_000;
/// A drain never takes longer, and neither does the ladder.
const HARD_LIMIT: Duration = Duration::from_secs(8);
/// Told to stop after this at the latest.
const RUN_MAX_MS: u64 = 12_000;

/// A promise that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Canary {
    None,
    /// The sender sends although trading is fenced.
    SendsWhileFenced,
    /// An actor's last life is never dropped, as if two were running.
    OutlivesItself,
}

/// What goes wrong with one actor.
#[derive(Clone, Debug, Default)]
struct Script {
    panics_at: Vec<u64>,
    fails_at: Vec<u64>,
    /// Starts that fail, by generation; 0 for none.
    failing_starts: Vec<u32>,
    panics_on_drain: bool,
    panics_on_stop: bool,
    /// Turns until its drain is over; `None` never ends.
    drain_turns: Option<u64>,
    /// Ends by itself after so many messages.
    done_at: Option<u64>,
    canary: bool,
}

/// What all actors of a run share with the checks.
#[derive(Default)]
struct Shared {
    fenced: AtomicBool,
    sent_while_fenced: AtomicU64,
    alive: Vec<AtomicI32>,
    /// Messages that the actors say they had in hand, those that they made themselves included.
    handled: Vec<AtomicU64>,
    made: AtomicU64,
    /// Panics with a message in hand that came from a mailbox.
    panicked: Vec<AtomicU64>,
    starts: Vec<AtomicU32>,
}

/// Counts one life of an actor for as long as it exists.
struct Alive {
    shared: Arc<Shared>,
    index: usize,
    leaks: bool,
}

impl Drop for Alive {
    fn drop(&mut self) {
        if !self.leaks {
            self.shared.alive[self.index].fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Takes from every inbox, gives to every outbox; the last one of a system sends orders.
struct Toy {
    alive: Alive,
    script: Script,
    inboxes: Vec<Inbox<u64>>,
    newest: Option<LatestInbox<u64>>,
    outboxes: Vec<Outbox<u64>>,
    put: Option<LatestOutbox<u64>>,
    source: bool,
    sends: bool,
    produced: u64,
    drain_left: Option<u64>,
}

impl Toy {
    fn handle(&mut self, message: u64, taken: bool) -> Result<Work, Fault> {
        let shared = &self.alive.shared;
        let seen = shared.handled[self.alive.index].fetch_add(1, Ordering::Relaxed) + 1;
        if self.script.panics_at.contains(&seen) {
            shared.panicked[self.alive.index].fetch_add(u64::from(taken), Ordering::Relaxed);
            panic!("scripted panic");
        }
        if self.script.fails_at.contains(&seen) {
            return Err(Fault::fatal("scripted fault"));
        }
        if self.sends {
            let fenced = shared.fenced.load(Ordering::Relaxed);
            if fenced && self.script.canary {
                shared.sent_while_fenced.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.give(message);
        let done = self.script.done_at.is_some_and(|n| seen >= n);
        Ok(if done { Work::Done } else { Work::Busy })
    }

    fn give(&self, message: u64) {
        for out in &self.outboxes {
            // A refused message is the mailbox's to count, and a toy has no other use for it.
            let _ = out.offer(message);
        }
        if let Some(put) = &self.put {
            put.put(0, message);
        }
    }
}

impl Actor for Toy {
    fn on_start(&mut self, _cx: &mut Cx) -> Result<(), Fault> {
        for inbox in &mut self.inboxes {
            while inbox.take_stale().is_some() {}
        }
        Ok(())
    }

    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        let mut work = Work::Idle;
        for i in 0..self.inboxes.len() {
            if self.inboxes[i].take_overrun() {
                work = Work::Busy;
            }
            if let Some(message) = self.inboxes[i].take(cx) {
                return self.handle(message, true);
            }
        }
        if let Some((_, message)) = self.newest.as_mut().and_then(|n| n.take(cx)) {
            return self.handle(message, true);
        }
        if self.source && !cx.draining() && self.produced < cx.now.as_nanos() / 5_000_000 {
            self.produced = cx.now.as_nanos() / 5_000_000;
            self.alive.shared.made.fetch_add(1, Ordering::Relaxed);
            return self.handle(self.produced, false);
        }
        if cx.draining() {
            self.drain_left = self.drain_left.map(|n| n.saturating_sub(1));
        }
        Ok(work)
    }

    fn on_drain(&mut self, _cx: &mut Cx) -> Result<(), Fault> {
        assert!(!self.script.panics_on_drain, "scripted panic");
        Ok(())
    }

    fn drained(&self) -> bool {
        self.drain_left == Some(0)
    }

    fn on_stop(&mut self, _cx: &mut Cx, _stop: Stop) {
        assert!(!self.script.panics_on_stop, "scripted panic");
    }
}

/// What the supervisor said, for the checks.
#[derive(Default)]
struct Said {
    exits: Vec<(String, u32)>,
    drains: u32,
    escalations: u32,
    /// How often each of its events was said.
    events: BTreeMap<&'static str, u64>,
}

/// What happened in the trials of a worker: events, and exits by code. A simulation in which nothing goes wrong
/// proves nothing.
type Seen = BTreeMap<String, u64>;

/// One seed's system under its faults.
struct Trial {
    random: fastrand::Rng,
    stepper: Stepper,
    shared: Arc<Shared>,
    said: Arc<Mutex<Said>>,
    actors: Vec<ActorId>,
    drained_at: Option<MonoNs>,
    /// Whether anybody was kept from its turns: nobody else may be called wedged.
    disturbed: bool,
    /// Generations when the drain began.
    generations: Vec<u32>,
    groups: u32,
}

fn pick<T: Copy>(random: &mut fastrand::Rng, of: &[T]) -> T {
    of[random.usize(..of.len())]
}

fn script(random: &mut fastrand::Rng, canary: bool) -> Script {
    let mut s = Script { drain_turns: Some(random.u64(0..20)), canary, ..Script::default() };
    for _ in 0..pick(random, &[0, 0, 1, 2, 8]) {
        s.panics_at.push(random.u64(1..500));
    }
    for _ in 0..pick(random, &[0, 0, 0, 1, 3]) {
        s.fails_at.push(random.u64(1..500));
    }
    if random.u8(..8) == 0 {
        s.failing_starts.extend([random.u32(1..4), random.u32(2..4)]);
    }
    s.panics_on_drain = random.u8(..30) == 0;
    s.panics_on_stop = random.u8(..30) == 0;
    if random.u8(..30) == 0 {
        s.drain_turns = None;
    }
    if random.u8(..20) == 0 {
        // A poison that kills every generation.
        s.panics_at = (100..400).collect();
    }
    s.done_at = (random.u8(..20) == 0).then(|| random.u64(50..400));
    s
}

fn edge(random: &mut fastrand::Rng, name: String, from: ActorId, to: ActorId) -> EdgeSpec {
    let capacity = random.usize(1..24);
    let overflow = pick(random, &[Overflow::Refuse, Overflow::DropNewest, Overflow::Resync]);
    let on_restart = pick(random, &[OnRestart::Keep, OnRestart::Discard, OnRestart::Refuse]);
    EdgeSpec { name, from: vec![from], to, capacity, overflow, on_restart }
}

/// The mailboxes of a system: a chain, perhaps a way back, and a conflated edge from its first to its last.
struct Wires {
    chain: Vec<Mailbox<u64>>,
    back: Option<Mailbox<u64>>,
    newest: Latest<u64>,
}

fn wire(random: &mut fastrand::Rng, builder: &mut SystemBuilder, actors: &[ActorId]) -> Wires {
    let (first, last) = (actors[0], actors[actors.len() - 1]);
    let mut chain = Vec::new();
    for pair in actors.windows(2) {
        let name = format!("{}->{}", pair[0].0, pair[1].0);
        chain.push(builder.mailbox(edge(random, name, pair[0], pair[1])));
    }
    let back = random.bool().then(|| builder.mailbox(edge(random, "back".to_owned(), last, first)));
    let mut spec = edge(random, "newest".to_owned(), first, last);
    spec.capacity = 1;
    let newest = builder.latest(spec);
    Wires { chain, back, newest }
}

fn group(random: &mut fastrand::Rng, name: &str) -> GroupSpec {
    let strategy = pick(random, &[Strategy::OneForOne, Strategy::RestForOne, Strategy::OneForAll]);
    let auto_shutdown = pick(random, &[AutoShutdown::AnySignificant, AutoShutdown::AllSignificant]);
    GroupSpec { strategy, auto_shutdown, ..GroupSpec::new(name) }
}

fn toy(wires: &Wires, shared: &Arc<Shared>, i: usize, count: usize, script: Script) -> ChildSpec {
    let inbox = (i > 0).then(|| wires.chain[i - 1].clone());
    let outbox = wires.chain.get(i).cloned();
    let back = wires.back.clone();
    let (newest, shared) = (wires.newest.clone(), Arc::clone(shared));
    ChildSpec::new(move |cx| {
        let generation = cx.generation.0;
        shared.starts[i].store(generation, Ordering::Relaxed);
        if script.failing_starts.contains(&generation) {
            return Err(Fault::fatal("scripted start"));
        }
        shared.alive[i].fetch_add(1, Ordering::Relaxed);
        let leaks = script.canary && i == 0;
        let mut toy = Toy {
            alive: Alive { shared: Arc::clone(&shared), index: i, leaks },
            script: script.clone(),
            inboxes: inbox.iter().map(Mailbox::inbox).collect(),
            newest: None,
            outboxes: outbox.iter().map(Mailbox::outbox).collect(),
            put: None,
            source: i == 0,
            sends: i + 1 == count,
            produced: cx.now.as_nanos() / 5_000_000,
            drain_left: script.drain_turns,
        };
        if i == 0 {
            toy.inboxes.extend(back.iter().map(Mailbox::inbox));
            toy.put = Some(newest.outbox());
        }
        if i + 1 == count {
            toy.outboxes.extend(back.iter().map(Mailbox::outbox));
            toy.newest = Some(newest.inbox());
        }
        Ok(Box::new(toy))
    })
}

impl Trial {
    fn new(seed: u64, canary: Canary) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let settings = SystemSettings { seed, hard_limit: HARD_LIMIT, ..SystemSettings::default() };
        let mut builder = SystemBuilder::new(Threading::Dedicated, settings);
        let count = random.usize(2..6);
        let actors: Vec<ActorId> =
            (0..count).map(|i| builder.actor(&format!("toy{i}"), true)).collect();
        let wires = wire(&mut random, &mut builder, &actors);
        let groups: Vec<GroupId> = (0..random.usize(1..3))
            .map(|g| builder.group(group(&mut random, &format!("group{g}"))))
            .collect();
        let counters = || (0..count).map(|_| AtomicI32::new(0)).collect();
        let shared = Arc::new(Shared {
            alive: counters(),
            handled: (0..count).map(|_| AtomicU64::new(0)).collect(),
            panicked: (0..count).map(|_| AtomicU64::new(0)).collect(),
            starts: (0..count).map(|_| AtomicU32::new(0)).collect(),
            ..Shared::default()
        });
        for i in 0..count {
            let broken = match canary {
                Canary::None => false,
                Canary::SendsWhileFenced => i + 1 == count,
                Canary::OutlivesItself => i == 0,
            };
            let script = script(&mut random, broken);
            let mut spec = toy(&wires, &shared, i, count, script);
            spec.restart = pick(
                &mut random,
                &[Restart::Permanent, Restart::Permanent, Restart::Transient, Restart::Temporary],
            );
            spec.significant = spec.restart != Restart::Permanent && random.bool();
            spec.group = pick(&mut random, &groups);
            spec.phase = u8::try_from(i).expect("few actors");
            spec.drain_timeout = Duration::from_millis(random.u64(100..1_500));
            spec.essential = random.bool();
            spec.must_drain = random.u8(..4) == 0;
            spec.emergency = random.u8(..4) == 0;
            // Consumers start first.
            spec.depends_on = actors.get(i + 1).copied().into_iter().collect();
            builder.child(actors[i], spec);
        }
        let said = Arc::new(Mutex::new(Said::default()));
        listen(&mut builder, &said, &shared);
        let system = builder.build().expect("a valid system");
        let clock = VirtualClock::new(UtcNs::from_millis(1_700_000_000_000));
        let mut stepper = system.stepper(seed, clock);
        let jump_max = Duration::from_millis(50);
        stepper.set_pace(Pace { busy: Duration::from_micros(200), jump_max });
        let groups = u32::try_from(groups.len()).expect("few groups") + 1;
        let (drained_at, disturbed, generations) = (None, false, vec![0; count]);
        Self { random, stepper, shared, said, actors, drained_at, disturbed, generations, groups }
    }

    /// Runs to the end and adds to `seen` what happened; what promise was broken.
    fn run(mut self, seen: &mut Seen) -> Result<(), String> {
        let stop = MonoNs::from_millis(self.random.u64(0..RUN_MAX_MS));
        let mut next_fault = MonoNs::from_millis(self.random.u64(1..3_000));
        let handle = self.stepper.stop_handle();
        let mut asked = false;
        while self.stepper.exit_code().is_none() {
            if self.stepper.now() >= next_fault {
                self.outside_fault();
                // Now and then a second one at the same moment.
                let gap = if self.random.u8(..4) == 0 { 0 } else { self.random.u64(100..6_000) };
                next_fault = self.stepper.now().after(Duration::from_millis(gap));
            }
            if !asked && self.stepper.now() >= stop {
                asked = true;
                handle.drain("the trial is over");
            }
            self.stepper.step();
            self.check()?;
        }
        for (event, count) in &self.said().events {
            *seen.entry((*event).to_owned()).or_default() += count;
        }
        *seen.entry(format!("exit {}", self.stepper.exit_code().unwrap_or(-1))).or_default() += 1;
        self.check_end()
    }

    /// Something happens to threads rather than in them.
    fn outside_fault(&mut self) {
        let actor = pick(&mut self.random, &self.actors);
        self.disturbed = true;
        match self.random.u8(..10) {
            0..=5 => {
                self.stepper.freeze(actor, Duration::from_millis(self.random.u64(10..1_900)));
            }
            6 => self.stepper.freeze(actor, Duration::from_secs(60)),
            // The whole process: SIGSTOP, a paused machine.
            _ => {
                let span = Duration::from_millis(self.random.u64(100..10_000));
                self.stepper.clock().advance(span);
                self.drained_at = self.drained_at.map(|at| at.after(span));
            }
        }
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&mut self) -> Result<(), String> {
        for edge in self.stepper.edges().iter() {
            let counts = edge.counts();
            if !counts.conserved() {
                return Err(format!("{}: messages unaccounted for: {counts:?}", edge.spec().name));
            }
        }
        for (i, alive) in self.shared.alive.iter().enumerate() {
            let alive = alive.load(Ordering::Relaxed);
            if !(0..=1).contains(&alive) {
                return Err(format!("toy{i}: {alive} lives at once"));
            }
        }
        let sent = self.shared.sent_while_fenced.load(Ordering::Relaxed);
        if sent > 0 {
            return Err(format!("{sent} orders sent while trading was fenced"));
        }
        let now = self.stepper.now();
        let starts = self.shared.starts.iter().map(|s| s.load(Ordering::Relaxed));
        if self.said().drains == 0 {
            self.generations = starts.collect();
        } else if let Some(i) = starts.zip(&self.generations).position(|(s, g)| s > *g + 1) {
            return Err(format!("toy{i} was restarted during the drain"));
        }
        if self.said().drains > 0 {
            let since = *self.drained_at.get_or_insert(now);
            if now.since(since) > HARD_LIMIT {
                return Err(format!("a drain of {:?}", now.since(since)));
            }
        }
        if now > MonoNs::from_millis(600_000) {
            return Err("it never ends".to_owned());
        }
        Ok(())
    }

    fn check_end(self) -> Result<(), String> {
        let code = self.stepper.exit_code();
        let said = self.said();
        if !matches!(code, Some(0 | 70 | 75 | 76)) {
            return Err(format!("exit code {code:?}"));
        }
        if code == Some(75) && !self.disturbed {
            return Err("somebody was called wedged who had all its turns".to_owned());
        }
        if said.drains > 1 {
            return Err(format!("{} drains", said.drains));
        }
        // Every group once, charged to the root, whose second charge is the last.
        if said.escalations > 2 || said.escalations > 0 && self.groups == 0 {
            return Err(format!("{} escalations", said.escalations));
        }
        let mut exits = said.exits.clone();
        exits.sort();
        let reports = exits.len();
        exits.dedup();
        if exits.len() != reports {
            return Err("a life was reported twice".to_owned());
        }
        self.check_books()?;
        for (i, starts) in self.shared.starts.iter().enumerate() {
            let (name, starts) = (format!("toy{i}"), starts.load(Ordering::Relaxed));
            for generation in 1..starts {
                if !exits.contains(&(name.clone(), generation)) {
                    return Err(format!(
                        "{name}: the end of generation {generation} was not reported"
                    ));
                }
            }
        }
        Ok(())
    }
}

impl Trial {
    /// The mailboxes' books must agree with what the actors say.
    fn check_books(&self) -> Result<(), String> {
        for (i, actor) in self.actors.iter().enumerate() {
            let (mut taken, mut lost) = (0, 0);
            for edge in self.stepper.edges().iter().filter(|e| e.spec().to == *actor) {
                let counts = edge.counts();
                taken += counts.handled + counts.lost_in_flight;
                lost += counts.lost_in_flight;
            }
            let made = if i == 0 { self.shared.made.load(Ordering::Relaxed) } else { 0 };
            let said = self.shared.handled[i].load(Ordering::Relaxed) - made;
            let panicked = self.shared.panicked[i].load(Ordering::Relaxed);
            if (taken, lost) != (said, panicked) {
                return Err(format!(
                    "toy{i}: {taken} taken, {lost} lost by the books; {said} and {panicked} by its own"
                ));
            }
        }
        Ok(())
    }
}

/// Writes down what the supervisor says, and shows the fence to the sender.
fn listen(builder: &mut SystemBuilder, said: &Arc<Mutex<Said>>, shared: &Arc<Shared>) {
    let (said, shared) = (Arc::clone(said), Arc::clone(shared));
    builder.on_fence(move |fenced, _| shared.fenced.store(fenced, Ordering::Relaxed));
    let verbose = std::env::var_os("PINDROP_SEED").is_some();
    builder.on_event(move |event| {
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        let value = |key: &str| {
            let pair = event.text.split(' ').find_map(|p| p.strip_prefix(key));
            pair.unwrap_or_default().to_owned()
        };
        match event.name {
            "actor.exit" => {
                said.exits.push((value("actor="), value("gen=").parse().unwrap_or(0)));
            }
            "drain.begin" => said.drains += 1,
            "escalate" => said.escalations += 1,
            _ => {}
        }
        *said.events.entry(event.name).or_default() += 1;
        if verbose {
            eprintln!("{}", event.text);
        }
    });
}

/// Runs one seed; a broken promise, or a panic outside the actors, comes back with the seed.
fn run(seed: u64, canary: Canary, seen: &mut Seen) -> Result<(), String> {
    let trial = AssertUnwindSafe(|| Trial::new(seed, canary).run(seen));
    match std::panic::catch_unwind(trial) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(why)) => Err(format!("PINDROP_SEED={seed}: {why}")),
        Err(_) => Err(format!("PINDROP_SEED={seed}: the harness or the supervisor panicked")),
    }
}

#[test]
fn s34_every_promise_holds_under_ten_thousand_seeds() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    if let Some(seed) = number("PINDROP_SEED") {
        eprintln!("seed {seed}");
        run(seed, Canary::None, &mut Seen::new()).expect("every promise");
        return;
    }
    let seeds = number("PINDROP_SEEDS").unwrap_or(SEEDS);
    eprintln!("seeds 0 to {seeds}; PINDROP_SEED=n repeats one");
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let workers: Vec<_> = (0..threads)
        .map(|worker| {
            let mine = (worker..seeds).step_by(usize::try_from(threads).unwrap_or(1));
            thread::spawn(&format!("seeds-{worker}"), move || trials(mine)).expect("a thread")
        })
        .collect();
    let (mut broken, mut seen) = (String::new(), Seen::new());
    for worker in workers {
        let (why, what) = worker.join().expect("a worker catches what panics");
        broken.push_str(&why);
        what.into_iter().for_each(|(event, count)| *seen.entry(event).or_default() += count);
    }
    eprintln!("seen: {seen:?}");
    assert!(broken.is_empty(), "{broken}");
    if seeds >= SEEDS {
        let expected = [
            "actor.ready",
            "restart.scheduled",
            "restart.group",
            "escalate",
            "stall.warn",
            "stall.clear",
            "wedge.interrupt",
            "wedge.exit",
            "drain.late",
            "sup.suspended",
            "exit 0",
            "exit 70",
            "exit 75",
            "exit 76",
        ];
        let missing: Vec<_> = expected.iter().filter(|e| !seen.contains_key(**e)).collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

/// The broken promises of some seeds, one line each, and what was seen.
fn trials(seeds: impl Iterator<Item = u64>) -> (String, Seen) {
    let (mut broken, mut seen) = (String::new(), Seen::new());
    for seed in seeds {
        if let Err(why) = run(seed, Canary::None, &mut seen) {
            // Writing to a string cannot fail.
            let _ = writeln!(broken, "{why}");
        }
    }
    (broken, seen)
}

/// The checks must see what they are there to see.
#[track_caller]
fn caught(canary: Canary, needle: &str) {
    let found = (0..500).find_map(|seed| run(seed, canary, &mut Seen::new()).err());
    assert!(found.as_ref().is_some_and(|why| why.contains(needle)), "{canary:?}: {found:?}");
}

#[test]
fn the_canary_that_sends_while_fenced_is_caught() {
    caught(Canary::SendsWhileFenced, "sent while trading was fenced");
}

#[test]
fn the_canary_that_outlives_itself_is_caught() {
    caught(Canary::OutlivesItself, "lives at once");
}
