//! What supervision costs: the restart of a crashed actor, the turn of a busy one, and a tick of the supervisor.
//!
//! A restart is timed from the panic to the first turn of the next generation, on real threads, each time the first
//! crash of a fresh system, so that no back-off delays it. A busy turn is timed on a host and in a bare loop that
//! calls the same actor and reads the clock once per turn, as whoever lends it the time must. A tick is timed in the
//! stepper. In the same run: the hiccup baseline, a hop to a parked thread, and a bare thread that panics, is joined
//! and spawned again. `--test` makes a tiny run.
#![expect(clippy::print_stdout, reason = "a bench reports on standard output")]

use std::hint::black_box;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use pindrop::clock::{Clock, MonoNs, UtcNs, VirtualClock};
use pindrop::runtime::actor::{Actor, ActorId, Cx, Fault, Work};
use pindrop::runtime::child::{ChildSpec, Restart, ThreadSpec};
use pindrop::runtime::idle::IdleStrategy;
use pindrop::runtime::mailbox::{EdgeSpec, Inbox, Mailbox, OnRestart, Overflow};
use pindrop::runtime::stepper::Pace;
use pindrop::runtime::system::{System, SystemBuilder, SystemSettings, Threading};
use pindrop::runtime::thread;
use pindrop::trading::domain::instrument::Name;
use pindrop::trading::domain::{Instrument, InstrumentId, Stamps, VenueId};
use pindrop::trading::venue::MarketDialect;
use pindrop::trading::venue::binance::{BinanceMarket, Flavor};

/// Time enough for a parking thread to be asleep before something happens.
const SETTLE: Duration = Duration::from_micros(300);
/// How often a waiting bench looks: it shares the machine with what it times.
const LOOK: Duration = Duration::from_micros(200);
/// Actors of the ticked system: as many as the engine has for one venue.
const TICKED: usize = 9;

fn main() {
    let tiny = std::env::args().any(|a| a == "--test");
    println!("{:<34} {:>9} {:>9} {:>9} {:>9}  ratio", "ns", "p50", "p99", "p99.9", "max");
    report("hiccup (two clocks)", hiccups(if tiny { 200 } else { 200_000 }), None);
    restarts(if tiny { 3 } else { 400 });
    println!();
    let (rounds, turns) = if tiny { (2, 1_000) } else { (25, 200_000) };
    busy_turns(rounds, turns);
    println!();
    ticks(if tiny { 500 } else { 200_000 });
}

/// Prints the distribution; gives its median.
fn report(what: &str, mut ns: Vec<u64>, limit: Option<(&str, u64)>) -> u64 {
    ns.sort_unstable();
    let at = |per_mille: usize| ns[(ns.len() - 1) * per_mille / 1_000];
    let (p50, p99, p999, max) = (at(500), at(990), at(999), at(1_000));
    let ratio = limit.map_or_else(String::new, |(name, limit)| {
        let hundredths = p50 * 100 / limit.max(1);
        format!("{}.{:02} x {name}", hundredths / 100, hundredths % 100)
    });
    println!("{what:<34} {p50:>9} {p99:>9} {p999:>9} {max:>9}  {ratio}");
    p50
}

fn since(earlier: MonoNs) -> u64 {
    Clock::System.now().since(earlier).as_nanos().try_into().expect("it fits")
}

/// Gaps between two readings of the clock.
fn hiccups(rounds: u64) -> Vec<u64> {
    (0..rounds).map(|_| since(Clock::System.now())).collect()
}

fn await_value(what: &AtomicU32, value: u32) {
    while what.load(Ordering::Acquire) != value {
        std::thread::park_timeout(LOOK);
    }
}

// ---- restarts

fn restarts(runs: u32) {
    let hop = report("hop to a parked thread", parked_hops(runs), None);
    let limit = Some(("hop", hop));
    let bare = report("bare thread: panic, join, spawn", bare_restarts(runs), limit);
    let limit = Some(("bare thread", bare));
    let parks = IdleStrategy::PARK;
    let times = |threading, idle| (0..runs).map(|_| restart(threading, idle)).collect();
    report("restart, dedicated, parked", times(Threading::Dedicated, parks), limit);
    report("restart, dedicated, spinning", times(Threading::Dedicated, IdleStrategy::Spin), limit);
    report("restart, shared with a neighbour", times(Threading::Shared, parks), limit);
}

/// One way to a thread that std parked.
fn parked_hops(rounds: u32) -> Vec<u64> {
    let (sent, arrived) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (from, to) = (Arc::clone(&sent), Arc::clone(&arrived));
    let sleeper = thread::spawn("sleeper", move || {
        for _ in 0..rounds {
            while from.load(Ordering::Acquire) == 0 {
                std::thread::park_timeout(Duration::from_secs(1));
            }
            let span = since(MonoNs::from_nanos(from.swap(0, Ordering::AcqRel)));
            to.store(span.max(1), Ordering::Release);
        }
    })
    .expect("a thread");
    let hop = || {
        std::thread::park_timeout(SETTLE);
        sent.store(Clock::System.now().as_nanos(), Ordering::Release);
        sleeper.thread().unpark();
        while arrived.load(Ordering::Acquire) == 0 {
            std::thread::park_timeout(LOOK);
        }
        arrived.swap(0, Ordering::AcqRel)
    };
    let spans = (0..rounds).map(|_| hop()).collect();
    sleeper.join().expect("it does not panic");
    spans
}

/// What std alone needs: from a panic, through the join, to the first instruction of the next thread.
fn bare_restarts(runs: u32) -> Vec<u64> {
    let one = || {
        let first = thread::spawn("first", || {
            std::thread::park_timeout(SETTLE);
            resume_unwind(Box::new(Clock::System.now()));
        });
        let payload = first.expect("a thread").join().expect_err("it panics");
        let crashed = *payload.downcast::<MonoNs>().expect("the time of the panic");
        let second = thread::spawn("second", move || since(crashed)).expect("a thread");
        second.join().expect("it does not panic")
    };
    (0..runs).map(|_| one()).collect()
}

/// What a victim shows of itself.
#[derive(Default)]
struct Marks {
    /// The generation that took its first turn last.
    turning: AtomicU32,
    crashed_ns: AtomicU64,
    restart_ns: AtomicU64,
}

/// Panics on the first message.
struct Victim {
    inbox: Inbox<()>,
    marks: Arc<Marks>,
    begun: bool,
}

impl Actor for Victim {
    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        let marks = &self.marks;
        if !self.begun {
            self.begun = true;
            let crashed = MonoNs::from_nanos(marks.crashed_ns.load(Ordering::Relaxed));
            marks.restart_ns.store(since(crashed), Ordering::Relaxed);
            marks.turning.store(cx.generation.0, Ordering::Release);
        }
        if self.inbox.take(cx).is_some() {
            marks.crashed_ns.store(Clock::System.now().as_nanos(), Ordering::Relaxed);
            panic!("as it was told");
        }
        Ok(Work::Idle)
    }
}

/// Does nothing, beside a victim.
struct Neighbour;

impl Actor for Neighbour {
    fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
        Ok(Work::Idle)
    }
}

fn edge(to: ActorId) -> EdgeSpec {
    EdgeSpec {
        name: format!("bench->{}", to.0),
        from: Vec::new(),
        to,
        capacity: 64,
        overflow: Overflow::Refuse,
        on_restart: OnRestart::Keep,
    }
}

fn on_thread(spec: ChildSpec, idle: IdleStrategy) -> ChildSpec {
    ChildSpec { thread: ThreadSpec { idle, ..ThreadSpec::default() }, ..spec }
}

/// Runs the system beside `body`, then drains it.
fn beside<T>(system: System, body: impl FnOnce() -> T) -> T {
    let stop = system.stop_handle();
    let run = thread::spawn("bench-main", move || system.run(None, None)).expect("a thread");
    let value = body();
    stop.drain("done");
    let outcome = run.join().expect("the system does not panic");
    assert!(outcome.exit_code == 0, "{outcome:?}");
    value
}

/// From the panic of generation 1 to the first turn of generation 2.
fn restart(threading: Threading, idle: IdleStrategy) -> u64 {
    let mut builder = SystemBuilder::new(threading, SystemSettings::default());
    let victim = builder.actor("victim", true);
    let mailbox: Mailbox<()> = builder.mailbox(edge(victim));
    let marks = Arc::new(Marks::default());
    let (port, shown) = (mailbox.clone(), Arc::clone(&marks));
    let spec = ChildSpec::new(move |_| {
        Ok(Box::new(Victim { inbox: port.inbox(), marks: Arc::clone(&shown), begun: false }))
    });
    builder.child(victim, on_thread(spec, idle));
    if threading == Threading::Shared {
        let neighbour = builder.actor("neighbour", true);
        builder.child(neighbour, on_thread(ChildSpec::new(|_| Ok(Box::new(Neighbour))), idle));
    }
    let system = builder.build().expect("a valid system");
    beside(system, || {
        await_value(&marks.turning, 1);
        std::thread::park_timeout(SETTLE);
        mailbox.outbox().offer(()).expect("there is room");
        await_value(&marks.turning, 2);
        marks.restart_ns.load(Ordering::Relaxed)
    })
}

// ---- busy turns

/// What a busy actor does in one turn.
type Job = Box<dyn FnMut()>;

fn no_work() -> Job {
    Box::new(|| {})
}

/// Decodes one depth update of 20 levels, as the feed reader does.
fn decode() -> Job {
    let name = |text| Name::from(text).expect("short");
    let instrument =
        Instrument::new(InstrumentId(0), VenueId(0), name("binance"), name("BTCUSDT"), (8, 8));
    let mut market = BinanceMarket::new(Flavor::Spot, &[instrument]);
    let level = |i: u64| format!("[\"{}.{:02}000000\",\"0.{:05}000\"]", 60_000 + i, i * 7, i * 911);
    let side = (0..10).map(level).collect::<Vec<_>>().join(",");
    let frame = format!(
        "{{\"stream\":\"btcusdt@depth@100ms\",\"data\":{{\"e\":\"depthUpdate\",\"E\":1723161255208,\
         \"s\":\"BTCUSDT\",\"U\":50093239189,\"u\":50093239202,\"b\":[{side}],\"a\":[{side}]}}}}"
    );
    Box::new(move || {
        let frame = black_box(frame.as_bytes());
        market
            .decode(frame, Stamps::default(), &mut |u| {
                black_box(u);
            })
            .expect("we wrote it");
    })
}

/// Does its job every turn, and notes how long a number of turns took, once it is warm.
struct Worker {
    job: Job,
    turns: u64,
    done: u64,
    begin: MonoNs,
    /// Nanoseconds for all turns; zero until they are done.
    took: Arc<AtomicU64>,
}

impl Worker {
    fn new(job: fn() -> Job, turns: u64, took: Arc<AtomicU64>) -> Self {
        Self { job: job(), turns, done: 0, begin: MonoNs::ZERO, took }
    }

    fn warm(&self) -> u64 {
        self.turns / 10
    }
}

impl Actor for Worker {
    fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
        if self.done == self.warm() {
            self.begin = Clock::System.now();
        }
        (self.job)();
        self.done += 1;
        if self.done < self.warm() + self.turns {
            return Ok(Work::Busy);
        }
        self.took.store(since(self.begin), Ordering::Release);
        Ok(Work::Done)
    }
}

/// Nanoseconds per turn in a bare loop, which lends the time but nothing else.
fn bare(job: fn() -> Job, turns: u64, reads_clock: bool) -> u64 {
    let took = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&took);
    let body = move || {
        let mut worker: Box<dyn Actor> = black_box(Box::new(Worker::new(job, turns, shown)));
        let mut cx = Cx::detached(MonoNs::ZERO, UtcNs::default());
        while worker.turn(&mut cx).expect("it has no fault") == Work::Busy {
            if reads_clock {
                cx.now = Clock::System.now();
            }
        }
    };
    thread::spawn("bare", body).expect("a thread").join().expect("it does not panic");
    took.load(Ordering::Acquire) * 1_000 / turns
}

/// Nanoseconds per turn on a host, under a supervisor.
fn hosted(job: fn() -> Job, turns: u64) -> u64 {
    let mut builder = SystemBuilder::new(Threading::Dedicated, SystemSettings::default());
    let id = builder.actor("worker", true);
    let took = Arc::new(AtomicU64::new(0));
    let shown = Arc::clone(&took);
    let spec = ChildSpec::new(move |_| Ok(Box::new(Worker::new(job, turns, Arc::clone(&shown)))));
    builder.child(id, ChildSpec { restart: Restart::Temporary, ..spec });
    let system = builder.build().expect("a valid system");
    beside(system, || {
        while took.load(Ordering::Acquire) == 0 {
            std::thread::park_timeout(Duration::from_millis(5));
        }
    });
    took.load(Ordering::Acquire) * 1_000 / turns
}

/// Rounds of each kind in turns, so that what the machine does meanwhile falls on all of them.
fn busy_turns(rounds: usize, turns: u64) {
    println!(
        "{:<34} {:>9} {:>9}  (of {rounds} rounds; costs are from the best, which the machine disturbed least)",
        "ns per busy turn", "p50", "best"
    );
    let mut costs = Vec::new();
    for (what, job) in [("empty", no_work as fn() -> Job), ("decode of 20 levels", decode)] {
        let (mut alone, mut clocked, mut full) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            alone.push(bare(job, turns, false));
            clocked.push(bare(job, turns, true));
            full.push(hosted(job, turns));
        }
        line(&format!("{what}: bare loop"), &mut alone);
        let without = line(&format!("{what}: with one clock read"), &mut clocked);
        let with = line(&format!("{what}: hosted and supervised"), &mut full);
        costs.push((what, without, with));
    }
    let cost = costs[0].2.saturating_sub(costs[0].1);
    println!(
        "supervision costs {}.{:03} ns per turn, 1 % of a turn of {} ns",
        cost / 1_000,
        cost % 1_000,
        cost / 10
    );
    for (what, without, with) in &costs[1..] {
        let ratio = cost * 10_000 / without;
        let seen = with.saturating_sub(*without) * 10_000 / without;
        println!(
            "{what}: {}.{:02} % of the turn (seen as {}.{:02} %)",
            ratio / 100,
            ratio % 100,
            seen / 100,
            seen % 100
        );
    }
}

/// Prints the median and the best of some rounds, given in picoseconds; gives the best.
fn line(what: &str, ps: &mut [u64]) -> u64 {
    ps.sort_unstable();
    let (p50, best) = (ps[ps.len() / 2], ps[0]);
    let ns = |ps: u64| format!("{}.{:01}", ps / 1_000, ps % 1_000 / 100);
    println!("{what:<34} {:>9} {:>9}", ns(p50), ns(best));
    best
}

// ---- ticks

/// Always has work: it never keeps the stepper from a step of fixed length.
struct Busy;

impl Actor for Busy {
    fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
        Ok(Work::Busy)
    }
}

/// The time that `steps` steps take, in each of which there is a tick, or is none.
fn stepped(steps: u64, ticking: bool) -> u64 {
    let step = SystemSettings::default().tick;
    let tick = if ticking { step } else { Duration::from_secs(1 << 30) };
    let settings = SystemSettings { tick, ..SystemSettings::default() };
    let mut builder = SystemBuilder::new(Threading::Dedicated, settings);
    for i in 0..TICKED {
        let id = builder.actor(&format!("busy-{i}"), true);
        let _: Mailbox<()> = builder.mailbox(edge(id));
        builder.child(id, ChildSpec::new(|_| Ok(Box::new(Busy))));
    }
    let clock = VirtualClock::new(UtcNs::default());
    let mut stepper = builder.build().expect("a valid system").stepper(1, clock);
    stepper.set_pace(Pace { busy: step, jump_max: step });
    (0..10).for_each(|_| assert!(stepper.step() == Work::Busy));
    let begin = Clock::System.now();
    (0..steps).for_each(|_| assert!(stepper.step() == Work::Busy));
    let took = since(begin);
    assert!(stepper.exit_code().is_none(), "it ended");
    took * 1_000 / steps
}

/// A tick, with every slower look in its proportion, and what that is of a core.
fn ticks(steps: u64) {
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        with.push(stepped(steps, true));
        without.push(stepped(steps, false));
    }
    let with = line(&format!("step of {TICKED} actors with a tick"), &mut with);
    let without = line(&format!("step of {TICKED} actors without"), &mut without);
    let cost = with.saturating_sub(without) / 1_000;
    let tick = u64::try_from(SystemSettings::default().tick.as_micros()).expect("it fits");
    println!(
        "a tick costs {cost} ns, every {tick} us: {} millionths of a core",
        cost * 1_000 / tick
    );
}
