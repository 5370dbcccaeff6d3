//! Tests that need a process of their own: what a runtime leaves behind when it has ended, and what a signal does when
//! the supervisor itself hangs.
//!
//! A thousand systems are started and stopped in this process, where nothing else runs; threads, descriptors and
//! memory are counted before and after. A supervisor that hangs is this program again, in a role named by its
//! environment.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test of its own says what it found"
)]

// The process harness is the one of the other process tests; this file uses a part of it.
#[path = "it/process.rs"]
#[expect(dead_code, reason = "a part of the harness is enough here")]
mod process;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pindrop::clock::Clock;
use pindrop::runtime::actor::{Actor, ActorId, Cx, Fault, Work};
use pindrop::runtime::child::ChildSpec;
use pindrop::runtime::mailbox::{
    EdgeSpec, Inbox, Latest, LatestInbox, LatestOutbox, Mailbox, OnRestart, Outbox, Overflow,
};
use pindrop::runtime::signal::Signals;
use pindrop::runtime::system::{StopHandle, System, SystemBuilder, SystemSettings, Threading};
use process::{PATIENCE, Process};
use rustix::process::Signal;

// ---- a thousand starts and stops

const CYCLES: u64 = 1_000;
/// Cycles after which everything that is made once has been made.
const WARM_UP: u64 = 100;
/// Messages that pass through a system before it is stopped.
const MESSAGES: u64 = 16;
/// Room for more than that: a producer that finds none sleeps until its own time is up.
const MAILBOX: usize = 64;
/// What the heap may have grown by in a thousand cycles; a lost thread stack or mailbox per cycle is more.
const GROWTH_KIB_MAX: u64 = 1_024;

struct Source {
    out: Outbox<u64>,
    next: u64,
    draining: bool,
}

impl Actor for Source {
    fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
        if self.draining || !self.out.has_room() {
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

/// Passes numbers on, and panics at its first message: its second life is counted as well.
struct Relay {
    inbox: Inbox<u64>,
    out: Outbox<u64>,
    newest: LatestOutbox<u64>,
}

impl Actor for Relay {
    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        if !self.out.has_room() {
            return Ok(Work::Idle);
        }
        let Some(message) = self.inbox.take(cx) else { return Ok(Work::Idle) };
        assert!(cx.generation.0 > 1, "the first life is short");
        self.newest.put(0, message);
        self.out.offer(message)?;
        Ok(Work::Busy)
    }
}

/// Asks for the end when enough has come.
struct Sink {
    inbox: Inbox<u64>,
    newest: LatestInbox<u64>,
    left: u64,
    stop: StopHandle,
}

impl Actor for Sink {
    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        // Which is the newest does not matter here.
        let _ = self.newest.take(cx);
        if self.inbox.take(cx).is_none() {
            return Ok(Work::Idle);
        }
        self.left = self.left.saturating_sub(1);
        if self.left == 0 {
            self.stop.drain("enough");
        }
        Ok(Work::Busy)
    }
}

fn edge(name: &str, from: ActorId, to: ActorId, overflow: Overflow) -> EdgeSpec {
    let name = name.to_owned();
    EdgeSpec {
        name,
        from: vec![from],
        to,
        capacity: MAILBOX,
        overflow,
        on_restart: OnRestart::Keep,
    }
}

fn system(threading: Threading) -> System {
    let mut builder = SystemBuilder::new(threading, SystemSettings::default());
    let [source, relay, sink] = ["source", "relay", "sink"].map(|name| builder.actor(name, true));
    let first: Mailbox<u64> = builder.mailbox(edge("first", source, relay, Overflow::Refuse));
    let second: Mailbox<u64> = builder.mailbox(edge("second", relay, sink, Overflow::Refuse));
    let newest: Latest<u64> = builder.latest(edge("newest", relay, sink, Overflow::DropNewest));
    let (stop, slot) = (builder.stop_handle(), newest.clone());
    let (in_first, in_second) = (first.clone(), second.clone());
    let spec = ChildSpec::new(move |_| {
        Ok(Box::new(Source { out: first.outbox(), next: 0, draining: false }))
    });
    builder.child(source, ChildSpec { depends_on: vec![relay], ..spec });
    let spec = ChildSpec::new(move |_| {
        let (inbox, out) = (in_first.inbox(), second.outbox());
        Ok(Box::new(Relay { inbox, out, newest: newest.outbox() }))
    });
    builder.child(relay, ChildSpec { phase: 1, depends_on: vec![sink], ..spec });
    let spec = ChildSpec::new(move |_| {
        let (inbox, newest, stop) = (in_second.inbox(), slot.inbox(), stop.clone());
        Ok(Box::new(Sink { inbox, newest, left: MESSAGES, stop }))
    });
    builder.child(sink, ChildSpec { phase: 2, ..spec });
    builder.build().expect("a valid system")
}

/// Threads, descriptors, and memory in KiB.
fn held() -> (usize, usize, u64) {
    let count = |path: &str| std::fs::read_dir(path).expect("the kernel tells").count();
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let rss = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap_or_default();
    let rss = rss.trim().trim_end_matches(" kB").parse().expect("a number");
    (count("/proc/self/task"), count("/proc/self/fd"), rss)
}

fn cycle(n: u64) {
    let threading = if n.is_multiple_of(2) { Threading::Dedicated } else { Threading::Shared };
    let outcome = system(threading).run(None, None);
    assert_eq!(outcome.exit_code, 0, "{outcome:?}");
    assert_eq!(outcome.actors[1].restarts, 1, "{outcome:?}");
    for (name, counts) in &outcome.edges {
        assert!(counts.conserved(), "{name}: {counts:?}");
    }
}

fn a_thousand_starts_and_stops_leave_nothing() {
    let begun = Clock::System.now();
    (0..WARM_UP).for_each(cycle);
    let before = held();
    (0..CYCLES).for_each(cycle);
    // A thread that was joined is gone from the kernel's list a moment later.
    let deadline = Clock::System.now().after(PATIENCE);
    while held().0 > before.0 && Clock::System.now() < deadline {
        std::thread::yield_now();
    }
    let after = held();
    let took = Clock::System.now().since(begun);
    println!(
        "threads, descriptors, KiB: {before:?} before {CYCLES} cycles, {after:?} after; {took:?}"
    );
    assert_eq!((after.0, after.1), (before.0, before.1), "threads and descriptors");
    assert!(after.2 <= before.2 + GROWTH_KIB_MAX, "memory: {before:?} before, {after:?} after");
}

// ---- a supervisor that hangs

/// The environment's word for what this process shall be, and the hard limit of its drain in milliseconds.
const ROLE: &str = "PINDROP_HARD_LIMIT_MS";

struct Spinner(Arc<AtomicU64>);

impl Actor for Spinner {
    fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Work::Busy)
    }
}

/// A system whose supervisor hangs, spinning, as soon as its drain begins; beside it an actor spins.
fn hang(hard_limit_ms: u64) -> i32 {
    let signals = Signals::register().expect("handlers");
    let hard_limit = Duration::from_millis(hard_limit_ms);
    let settings = SystemSettings { hard_limit, ..SystemSettings::default() };
    let mut builder = SystemBuilder::new(Threading::Dedicated, settings);
    let id = builder.actor("spinner", true);
    let spec = ChildSpec::new(|_| Ok(Box::new(Spinner(Arc::default()))));
    builder.child(id, ChildSpec { drain_timeout: Duration::from_millis(100), ..spec });
    builder.on_event(|event| {
        eprintln!("{}", event.text);
        if event.name == "drain.begin" {
            loop {
                std::hint::spin_loop();
            }
        }
    });
    builder.build().expect("a valid system").run(Some(&signals), None).exit_code
}

/// This program once more, with a supervisor that hangs in its drain.
fn hanging(hard_limit_ms: u64) -> Process {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.env(ROLE, hard_limit_ms.to_string());
    let mut process = Process::spawn(command);
    process.wait_line("event=actor.ready");
    process.signal(Signal::TERM);
    process.wait_line("event=drain.begin");
    process
}

fn s46_a_second_signal_ends_a_process_whose_supervisor_hangs() {
    for (signal, expected) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let mut process = hanging(60_000);
        process.signal(signal);
        let (code, took) = process.wait_exit();
        println!("supervisor hangs, second signal {signal:?}: {code} after {took:?}");
        assert_eq!(code, expected, "{}", process.log());
    }
}

fn the_reaper_ends_a_process_whose_supervisor_hangs() {
    let mut process = hanging(1_000);
    let (code, took) = process.wait_exit();
    println!("supervisor hangs, hard limit 1 s: {code} after {took:?}");
    assert_eq!(code, 76, "{}", process.log());
}

fn main() -> std::process::ExitCode {
    if let Some(limit) = std::env::var(ROLE).ok().and_then(|text| text.parse().ok()) {
        return std::process::ExitCode::from(u8::try_from(hang(limit)).unwrap_or(u8::MAX));
    }
    a_thousand_starts_and_stops_leave_nothing();
    s46_a_second_signal_ends_a_process_whose_supervisor_hangs();
    the_reaper_ends_a_process_whose_supervisor_hangs();
    println!("test result: ok. 3 passed; 0 failed");
    std::process::ExitCode::SUCCESS
}
