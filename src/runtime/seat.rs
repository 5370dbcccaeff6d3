//! One actor's seat: the lives of an actor, one after the other, wherever its turns are taken.
//!
//! A host's thread or the stepper calls [`Seat::turn`]; the supervisor commands through [`SeatControl`], one word
//! that a turn can read for nothing. All code of the actor runs inside `caught`. What always holds: every life that
//! was begun reports `Exited` exactly once, after the actor is dropped.

use std::sync::Arc;

use crate::clock::{MonoNs, UtcNs};
use crate::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use crate::sync::channel::Sender;

use super::actor::{Actor, ActorId, Cx, Fault, Generation, Stop, Waits, Work};
use super::child::Start;
use super::exit::ExitReason;
use super::health::{Cell, Phase};
use super::mailbox::Edge;
use super::panic::{PanicNote, caught};
use super::protocol::Event;
use super::wake::Waker;

const RUN: u8 = 0;
const DRAIN: u8 = 1;
const STOP_NOW: u8 = 2;

/// What the supervisor wants of a seat.
#[derive(Debug, Default)]
pub(super) struct SeatControl {
    /// The generation that shall live.
    wanted: AtomicU32,
    /// The last generation that shall not live on.
    ended: AtomicU32,
    stop: AtomicU8,
}

impl SeatControl {
    pub(super) fn start(&self, generation: u32) {
        self.wanted.store(generation, Ordering::Release);
    }

    pub(super) fn terminate(&self, generation: u32) {
        self.ended.store(generation, Ordering::Release);
    }

    pub(super) fn drain(&self) {
        // A stop is never taken back.
        let _ = self.stop.compare_exchange(RUN, DRAIN, Ordering::Release, Ordering::Relaxed);
    }

    pub(super) fn stop_now(&self) {
        self.stop.store(STOP_NOW, Ordering::Release);
    }
}

/// Where a seat reports to.
#[derive(Clone)]
pub(super) struct Reports {
    pub(super) tx: Sender<Event>,
    pub(super) waker: Waker,
}

impl Reports {
    pub(super) fn tell(&self, event: Event) {
        // There is room for two reports of every seat, and a seat has at most that many under way.
        if self.tx.try_send(event).is_err() {
            log::error!(target: "supervisor", "event=report.lost");
        }
        self.waker.wake();
    }
}

struct Life {
    actor: Box<dyn Actor>,
    cx: Cx,
}

/// How a turn ended.
enum Turned {
    Went(Work),
    Drained,
}

/// What a seat is made of; unlike the seat, which holds a living actor, it can be sent to its thread.
pub(super) struct SeatParts {
    pub(super) id: ActorId,
    pub(super) cell: Arc<Cell>,
    pub(super) control: Arc<SeatControl>,
    pub(super) start: Start,
    pub(super) edges: Arc<[Arc<dyn Edge>]>,
    /// Pills to take before a drain may end.
    pub(super) pills_due: u32,
    pub(super) reports: Reports,
}

/// The seat of one actor.
pub(super) struct Seat {
    pub(super) parts: SeatParts,
    /// Why no life may begin on this thread.
    pub(super) refusal: Option<Fault>,
    generation: u32,
    life: Option<Life>,
}

impl Seat {
    pub(super) fn new(parts: SeatParts) -> Self {
        Self { parts, refusal: None, generation: 0, life: None }
    }

    /// Whether an actor lives in it.
    pub(super) fn is_taken(&self) -> bool {
        self.life.is_some()
    }

    /// One turn of the actor; or the beginning or the end of one of its lives.
    pub(super) fn turn(&mut self, now: MonoNs, utc: UtcNs) -> Work {
        let Some(life) = &mut self.life else { return self.begin_if_wanted(now, utc) };
        life.cx.now = now;
        life.cx.utc = utc;
        let stop = self.parts.control.stop.load(Ordering::Acquire);
        if stop == STOP_NOW {
            self.end(Stop::Deadline, ExitReason::Deadline);
            return Work::Busy;
        }
        if self.parts.control.ended.load(Ordering::Relaxed) >= self.generation {
            self.end(Stop::Restarting, ExitReason::Restarting);
            return Work::Busy;
        }
        let pills_due = self.parts.pills_due;
        let turned = caught(|| {
            if stop == DRAIN && !life.cx.draining() {
                life.cx.begin_drain();
                life.actor.on_drain(&mut life.cx)?;
            }
            let work = life.actor.turn(&mut life.cx)?;
            let done = work == Work::Idle
                && life.cx.draining()
                && life.cx.pills() >= pills_due
                && life.actor.drained();
            Ok::<_, Fault>(if done { Turned::Drained } else { Turned::Went(work) })
        });
        match turned {
            Ok(Ok(Turned::Went(Work::Done))) => {
                self.end(Stop::Done, ExitReason::Done);
                Work::Busy
            }
            Ok(Ok(Turned::Went(work))) => {
                life.cx.end_turn();
                self.parts.cell.count_turn(work == Work::Busy);
                work
            }
            Ok(Ok(Turned::Drained)) => {
                self.end(Stop::Drained, ExitReason::Drained);
                Work::Busy
            }
            Ok(Err(fault)) => {
                self.end(Stop::Faulted, ExitReason::Fault(fault));
                Work::Busy
            }
            Err(note) => {
                self.die(note);
                Work::Busy
            }
        }
    }

    /// Asks the actor what may end a park.
    pub(super) fn waits(&mut self, waits: &mut Waits) {
        let Some(life) = &self.life else { return };
        if let Err(note) = caught(|| life.actor.waits(waits)) {
            self.die(note);
            waits.ready();
        }
    }

    fn begin_if_wanted(&mut self, now: MonoNs, utc: UtcNs) -> Work {
        let wanted = self.parts.control.wanted.load(Ordering::Acquire);
        if wanted == self.generation {
            return Work::Idle;
        }
        self.generation = wanted;
        self.parts.cell.set_generation(wanted);
        self.parts.cell.enter(Phase::Init, "", MonoNs::NEVER);
        let mut cx = Cx::new(self.parts.id, Generation(wanted), Arc::clone(&self.parts.cell));
        cx.now = now;
        cx.utc = utc;
        let started = match self.refusal.clone() {
            Some(fault) => Ok(Err(fault)),
            None => caught(|| {
                let mut actor = (self.parts.start)(&mut cx)?;
                actor.on_start(&mut cx)?;
                Ok(actor)
            }),
        };
        self.parts.cell.enter(Phase::Work, "", MonoNs::NEVER);
        match started {
            Ok(Ok(actor)) => {
                cx.end_turn();
                self.life = Some(Life { actor, cx });
                self.parts.reports.tell(Event::Ready { actor: self.parts.id, generation: wanted });
            }
            Ok(Err(fault)) => self.report(ExitReason::StartFailed(fault)),
            Err(note) => {
                self.lose(&cx);
                self.report(panicked(note));
            }
        }
        Work::Busy
    }

    /// Ends a life that did not panic.
    fn end(&mut self, stop: Stop, reason: ExitReason) {
        let Some(Life { mut actor, mut cx }) = self.life.take() else { return };
        // What was in hand when a fault was returned is handled: by the fault.
        cx.end_turn();
        let last_words = caught(move || {
            actor.on_stop(&mut cx, stop);
            drop(actor);
        });
        self.report(last_words.map_or_else(panicked, |()| reason));
    }

    /// Ends a life that panicked.
    fn die(&mut self, note: PanicNote) {
        let Some(Life { actor, cx }) = self.life.take() else { return };
        self.lose(&cx);
        if let Err(second) = caught(move || drop(actor)) {
            let name = self.parts.cell.name();
            let (message, at) = (second.message, second.at);
            log::error!(target: "supervisor", "event=panic.drop actor={name} at={at} msg={message:?}");
        }
        self.report(panicked(note));
    }

    /// The message in hand is lost: counted, never delivered again.
    fn lose(&self, cx: &Cx) {
        if let Some(in_hand) = cx.in_hand()
            && let Some(edge) = self.parts.edges.get(in_hand.edge.index())
        {
            edge.lose_in_flight();
        }
    }

    fn report(&self, reason: ExitReason) {
        self.parts.cell.clear_interrupts();
        self.parts.cell.enter(Phase::Work, "", MonoNs::NEVER);
        let generation = self.generation;
        self.parts.reports.tell(Event::Exited { actor: self.parts.id, generation, reason });
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(life) = self.life.take() {
            // The process ends with this life in it; a panic here has nobody left to tell.
            let _ = caught(move || drop(life));
        }
    }
}

fn panicked(note: PanicNote) -> ExitReason {
    ExitReason::Panic { message: note.message, at: note.at }
}
