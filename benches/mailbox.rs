//! One hop between two threads: from `offer` to the consumer's `take`, the sender waiting for each message's arrival.
//!
//! The receiver is a real actor on a real host, once spinning and once parked. In the same run: the hiccup baseline
//! (what the machine takes away from a thread that only reads the clock) and a bare cache line passed back and forth
//! (what the hardware allows), to which the figures are given as ratios. `--test` makes a tiny run.
#![expect(clippy::print_stdout, reason = "a bench reports on standard output")]

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use pindrop::clock::{Clock, MonoNs};
use pindrop::runtime::actor::{Actor, Cx, Fault, Work};
use pindrop::runtime::child::{ChildSpec, ThreadSpec};
use pindrop::runtime::idle::IdleStrategy;
use pindrop::runtime::mailbox::{EdgeSpec, Inbox, OnRestart, Overflow};
use pindrop::runtime::system::{SystemBuilder, SystemSettings, Threading};
use pindrop::runtime::thread;

/// Time enough for a parking thread to be asleep before the next message.
const SETTLE: Duration = Duration::from_micros(200);

fn main() {
    let tiny = std::env::args().any(|a| a == "--test");
    let (rounds, parks) = if tiny { (200, 50) } else { (200_000, 5_000) };
    println!("{:<22} {:>9} {:>9} {:>9} {:>9}  ratio", "ns", "p50", "p99", "p99.9", "max");
    report("hiccup (two clocks)", hiccups(rounds), None);
    let line = report("cache line, one way", cache_line(rounds), None);
    report("mailbox, spinning", hop(IdleStrategy::Spin, rounds), Some(line));
    report("mailbox, parked", hop(IdleStrategy::PARK, parks), Some(line));
}

/// Prints the distribution; gives its median.
fn report(what: &str, mut ns: Vec<u64>, limit: Option<u64>) -> u64 {
    ns.sort_unstable();
    let at = |per_mille: usize| ns[(ns.len() - 1) * per_mille / 1_000];
    let (p50, p99, p999, max) = (at(500), at(990), at(999), at(1_000));
    let ratio = limit.map_or_else(String::new, |limit| {
        let tenths = p50 * 10 / limit.max(1);
        format!("{}.{} x cache line", tenths / 10, tenths % 10)
    });
    println!("{what:<22} {p50:>9} {p99:>9} {p999:>9} {max:>9}  {ratio}");
    p50
}

fn since(earlier: MonoNs) -> u64 {
    Clock::System.now().as_nanos() - earlier.as_nanos()
}

/// Gaps between two readings of the clock.
fn hiccups(rounds: u64) -> Vec<u64> {
    (0..rounds).map(|_| since(Clock::System.now())).collect()
}

/// Half of a round trip over two atomics on lines of their own.
fn cache_line(rounds: u64) -> Vec<u64> {
    let ping = Arc::new(CachePadded::new(AtomicU64::new(0)));
    let pong = Arc::new(CachePadded::new(AtomicU64::new(0)));
    let (there, back) = (Arc::clone(&ping), Arc::clone(&pong));
    let echo = thread::spawn("echo", move || {
        for n in 1..=rounds {
            while there.load(Ordering::Acquire) != n {
                spin_loop();
            }
            back.store(n, Ordering::Release);
        }
    })
    .expect("a thread");
    let mut ns = Vec::with_capacity(usize::try_from(rounds).expect("it fits"));
    for n in 1..=rounds {
        let begin = Clock::System.now();
        ping.store(n, Ordering::Release);
        while pong.load(Ordering::Acquire) != n {
            spin_loop();
        }
        ns.push(since(begin) / 2);
    }
    echo.join().expect("the echo does not panic");
    ns
}

/// What the receiver shows the sender.
#[derive(Default)]
struct Arrivals {
    count: CachePadded<AtomicU64>,
    last_ns: CachePadded<AtomicU64>,
    ready: AtomicBool,
}

/// Notes how long each message, which is the time it was sent, took.
struct Receiver {
    inbox: Inbox<MonoNs>,
    arrivals: Arc<Arrivals>,
}

impl Actor for Receiver {
    fn on_start(&mut self, _cx: &mut Cx) -> Result<(), Fault> {
        self.arrivals.ready.store(true, Ordering::Release);
        Ok(())
    }

    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        let Some(sent) = self.inbox.take(cx) else { return Ok(Work::Idle) };
        self.arrivals.last_ns.store(since(sent), Ordering::Relaxed);
        self.arrivals.count.fetch_add(1, Ordering::Release);
        Ok(Work::Busy)
    }
}

/// One-way times of messages to an actor that rests as `idle` says.
fn hop(idle: IdleStrategy, rounds: u64) -> Vec<u64> {
    let mut builder = SystemBuilder::new(Threading::Dedicated, SystemSettings::default());
    let id = builder.actor("receiver", true);
    let mailbox = builder.mailbox::<MonoNs>(EdgeSpec {
        name: "bench->receiver".to_owned(),
        from: Vec::new(),
        to: id,
        capacity: 64,
        overflow: Overflow::Refuse,
        on_restart: OnRestart::Keep,
    });
    let arrivals = Arc::new(Arrivals::default());
    let (inbox, seen) = (mailbox.clone(), Arc::clone(&arrivals));
    let spec = ChildSpec::new(move |_| {
        Ok(Box::new(Receiver { inbox: inbox.inbox(), arrivals: Arc::clone(&seen) }))
    });
    builder.child(id, ChildSpec { thread: ThreadSpec { idle, ..ThreadSpec::default() }, ..spec });
    let system = builder.build().expect("a valid system");
    if system.plan().overprovisioned {
        println!("(too few cores: every thread parks)");
    }
    let stop = system.stop_handle();
    let run = thread::spawn("bench-main", move || system.run(None, None)).expect("a thread");
    while !arrivals.ready.load(Ordering::Acquire) {
        std::thread::yield_now();
    }
    let out = mailbox.outbox();
    let parks = idle != IdleStrategy::Spin;
    let mut ns = Vec::with_capacity(usize::try_from(rounds).expect("it fits"));
    for n in 1..=rounds {
        if parks {
            std::thread::park_timeout(SETTLE);
        }
        out.offer(Clock::System.now()).expect("there is room: each message is awaited");
        while arrivals.count.load(Ordering::Acquire) != n {
            spin_loop();
        }
        ns.push(arrivals.last_ns.load(Ordering::Relaxed));
    }
    stop.drain("done");
    let outcome = run.join().expect("the system does not panic");
    assert!(outcome.exit_code == 0, "{outcome:?}");
    ns
}
