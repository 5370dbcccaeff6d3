//! The supervisor's words to a seat: none is missed, and no generation outlives its end.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use loom::thread;

use crate::clock::{MonoNs, UtcNs};
use crate::sync::atomic::{AtomicU32, Ordering};
use crate::sync::channel::{Receiver, bounded};

use super::actor::{Actor, ActorId, Cx, Fault, Work};
use super::checks::{EDGE, Told, is_woken, spec, until_asleep};
use super::health::Cell;
use super::mailbox::{Edge, Inbox, Mailbox, OnRestart, Overflow};
use super::protocol::Event;
use super::seat::{Reports, Seat, SeatControl, SeatParts};
use super::wake::Waker;

/// What the lives leave behind; the checker's atomics, so that it tries every order of leaving and looking.
#[derive(Default)]
struct Traces {
    alive: AtomicU32,
    handled: AtomicU32,
    refused: AtomicU32,
}

/// Refuses what is stale, then counts what it takes. Never drained, so that only a stop ends its drain.
struct Toy {
    inbox: Inbox<u32>,
    traces: Arc<Traces>,
}

impl Actor for Toy {
    fn on_start(&mut self, _cx: &mut Cx) -> Result<(), Fault> {
        while let Some(bit) = self.inbox.take_stale() {
            self.traces.refused.fetch_or(bit, Ordering::SeqCst);
        }
        Ok(())
    }

    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        let Some(bit) = self.inbox.take(cx) else { return Ok(Work::Idle) };
        self.traces.handled.fetch_or(bit, Ordering::SeqCst);
        Ok(Work::Busy)
    }

    fn drained(&self) -> bool {
        false
    }
}

impl Drop for Toy {
    fn drop(&mut self) {
        self.traces.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Stage {
    control: Arc<SeatControl>,
    waker: Waker,
    mailbox: Mailbox<u32>,
    traces: Arc<Traces>,
    reports: Receiver<Event>,
    told: Told,
}

/// A seat for the host's thread, and the supervisor's side of it.
fn stage() -> (SeatParts, Stage) {
    let waker = Waker::new().expect("a descriptor");
    let edge = spec(2, Overflow::Refuse, OnRestart::Refuse);
    let mailbox = Mailbox::new(EDGE, edge, waker.clone());
    let traces = Arc::new(Traces::default());
    let (tx, reports) = bounded(4);
    let control = Arc::new(SeatControl::default());
    let (theirs, ports) = (Arc::clone(&traces), mailbox.clone());
    let parts = SeatParts {
        id: ActorId(0),
        cell: Arc::new(Cell::new("toy")),
        control: Arc::clone(&control),
        start: Arc::new(move |_| {
            assert_eq!(theirs.alive.fetch_add(1, Ordering::SeqCst), 0, "two generations live");
            Ok(Box::new(Toy { inbox: ports.inbox(), traces: Arc::clone(&theirs) }))
        }),
        edges: Arc::new([]),
        pills_due: 0,
        reports: Reports { tx, waker: Waker::none() },
    };
    (parts, Stage { control, waker, mailbox, traces, reports, told: Told::default() })
}

fn turn(seat: &mut Seat) -> bool {
    seat.turn(MonoNs::ZERO, UtcNs::default()) == Work::Busy
}

impl Stage {
    fn command(&self, give: impl FnOnce(&SeatControl)) {
        give(&self.control);
        self.waker.wake();
        self.told.count();
    }

    /// Waits for the next report: the generation that is ready, or minus the one that has exited.
    fn next(&self) -> i64 {
        loop {
            if let Some(report) = self.poll() {
                return report;
            }
            thread::yield_now();
        }
    }

    fn poll(&self) -> Option<i64> {
        match self.reports.try_recv().ok()? {
            Event::Ready { generation, .. } => Some(i64::from(generation)),
            Event::Exited { generation, .. } => Some(-i64::from(generation)),
            other => panic!("no such report: {other:?}"),
        }
    }
}

/// A host that rests between words: when it sleeps for good it has obeyed all of them.
pub(super) fn no_word_is_missed() {
    let (parts, stage) = stage();
    let (waker, told) = (stage.waker.clone(), stage.told.clone());
    let host = thread::spawn(move || {
        let mut seat = Seat::new(parts);
        until_asleep(&waker, &told, || turn(&mut seat));
    });
    stage.command(|c| c.start(1));
    stage.command(|c| c.terminate(1));
    host.join().expect("it does not panic");
    let obeyed = (stage.poll(), stage.poll()) == (Some(1), Some(-1));
    assert!(obeyed || is_woken(&stage.waker), "a word was missed");
}

/// A host that never rests, until `halt`, which the checker does not see.
fn spin(parts: SeatParts, halt: &Arc<AtomicBool>) -> thread::JoinHandle<()> {
    let halt = Arc::clone(halt);
    thread::spawn(move || {
        let mut seat = Seat::new(parts);
        while !halt.load(Ordering::SeqCst) {
            if !turn(&mut seat) {
                thread::yield_now();
            }
        }
    })
}

/// What is reported dead is gone, and the next one lives: `Toy::start` asserts that it is alone.
pub(super) fn generations() {
    let (parts, stage) = stage();
    let halt = Arc::default();
    let host = spin(parts, &halt);
    stage.command(|c| c.start(1));
    stage.command(|c| c.terminate(1));
    assert_eq!(stage.next(), 1);
    assert_eq!(stage.next(), -1);
    assert_eq!(stage.traces.alive.load(Ordering::SeqCst), 0, "reported dead, yet alive");
    stage.command(|c| c.start(2));
    assert_eq!(stage.next(), 2);
    halt.store(true, Ordering::SeqCst);
    host.join().expect("it does not panic");
    assert_eq!(stage.poll(), None, "generation 2 was never told to end");
}

/// What waited when the consumer was down is refused by the next generation; what comes later is handled.
pub(super) fn stale() {
    let (parts, stage) = stage();
    let halt = Arc::default();
    let host = spin(parts, &halt);
    stage.command(|c| c.start(1));
    stage.command(|c| c.terminate(1));
    assert_eq!((stage.next(), stage.next()), (1, -1));
    let out = stage.mailbox.outbox();
    out.offer(1).expect("there is room");
    // As the driver does it: first the mailboxes, then the word.
    stage.mailbox.before_restart();
    stage.command(|c| c.start(2));
    assert_eq!(stage.next(), 2);
    halt.store(true, Ordering::SeqCst);
    host.join().expect("it does not panic");
    let (refused, handled) = (&stage.traces.refused, &stage.traces.handled);
    assert_eq!((refused.load(Ordering::SeqCst), handled.load(Ordering::SeqCst)), (1, 0));
}

/// A drain that comes after the stop changes nothing: the life still ends.
pub(super) fn stop_and_drain() {
    let (parts, stage) = stage();
    let halt = Arc::default();
    let host = spin(parts, &halt);
    stage.command(|c| c.start(1));
    stage.command(SeatControl::drain);
    stage.command(SeatControl::stop_now);
    stage.command(SeatControl::drain);
    assert_eq!((stage.next(), stage.next()), (1, -1));
    halt.store(true, Ordering::SeqCst);
    host.join().expect("it does not panic");
}
