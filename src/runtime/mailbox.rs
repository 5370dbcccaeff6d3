//! Mailboxes: bounded, counted, and with the policy for being full in their declaration, never at a call site.
//!
//! What comes in: offers from any number of producers; an offer never blocks. What goes out: messages, in order,
//! to one consumer, then the poison pill. What always holds, for every mailbox and at every moment when nobody is
//! inside a call:
//!
//! ```text
//! sent = handled + refused + dropped{overflow, closed, restart, resync} + lost in flight + left
//! ```
//!
//! A mailbox outlives its actors: the next generation gets new ends of the same one. The message in hand when an
//! actor panics is lost, counted and named; it is never delivered again.
//!
//! [`Mailbox`] keeps every message or says what happened to it. [`Latest`] keeps the newest value per key.

use std::fmt;
use std::sync::Arc;

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::channel::{Receiver, Sender, TrySendError, bounded};

use super::actor::{ActorId, Cx, EdgeId, Fault};
use super::wake::Waker;

pub use super::latest::{Latest, LatestInbox, LatestOutbox};

/// What happens to an offer when the mailbox is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The message comes back to the producer, which must act on it.
    Refuse,
    /// The newest message is dropped and counted.
    DropNewest,
    /// The stream is broken: everything is dropped, the consumer sees [`Inbox::take_overrun`] and resyncs.
    Resync,
}

/// What happens to queued messages when the consumer is restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRestart {
    /// The next generation handles them.
    Keep,
    /// They are dropped and counted before the next generation starts.
    Discard,
    /// The next generation must refuse them, one by one, with [`Inbox::take_stale`].
    Refuse,
}

/// The declaration of a mailbox.
#[derive(Clone, Debug)]
pub struct EdgeSpec {
    /// `from->to` or another unique name; appears in status, metrics, logs and the report.
    pub name: String,
    /// The actors that offer.
    pub from: Vec<ActorId>,
    /// The one actor that takes.
    pub to: ActorId,
    /// Most messages waiting at once; at least 1.
    pub capacity: usize,
    /// The policy when full.
    pub overflow: Overflow,
    /// The policy when the consumer restarts.
    pub on_restart: OnRestart,
}

/// An offer that was not taken; the message comes back.
#[derive(Debug)]
pub struct Refused<M> {
    /// What was offered.
    pub message: M,
    /// Why it was refused.
    pub why: RefusedWhy,
}

/// Why an offer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedWhy {
    /// As many messages wait as the capacity allows.
    Full,
    /// The consumer has taken its poison pill, or has ended for good.
    Closed,
}

impl<M> From<Refused<M>> for Fault {
    fn from(refused: Refused<M>) -> Self {
        Self::fatal(match refused.why {
            RefusedWhy::Full => "a mailbox that must not be full is full",
            RefusedWhy::Closed => "a mailbox that must be open is closed",
        })
    }
}

/// The books of one edge. Every field counts messages since the system began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeCounts {
    /// Offers made.
    pub sent: u64,
    /// Messages whose handling ended.
    pub handled: u64,
    /// Offers that came back to the producer, and stale messages that the consumer refused.
    pub refused: u64,
    /// Dropped because the mailbox was full.
    pub dropped_overflow: u64,
    /// Dropped because the consumer is gone for good.
    pub dropped_closed: u64,
    /// Dropped because the consumer was restarted.
    pub dropped_restart: u64,
    /// Dropped because the stream was broken and resynced.
    pub dropped_resync: u64,
    /// Replaced by a newer value before they were taken (not a loss on a conflated edge).
    pub conflated: u64,
    /// In hand when the consumer panicked.
    pub lost_in_flight: u64,
    /// Waiting now.
    pub left: u64,
    /// Most that ever waited at once, as the consumer saw it.
    pub high_water: u64,
}

impl EdgeCounts {
    /// All messages that were dropped, for whatever reason.
    pub fn dropped(&self) -> u64 {
        self.dropped_overflow + self.dropped_closed + self.dropped_restart + self.dropped_resync
    }

    /// Whether no message is unaccounted for. Holds whenever nobody is inside a call and no message is in hand.
    pub fn conserved(&self) -> bool {
        self.sent
            == self.handled
                + self.refused
                + self.dropped()
                + self.conflated
                + self.lost_in_flight
                + self.left
    }
}

/// The running books of one edge.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) sent: AtomicU64,
    pub(super) taken: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) dropped_overflow: AtomicU64,
    pub(super) dropped_closed: AtomicU64,
    pub(super) dropped_restart: AtomicU64,
    pub(super) dropped_resync: AtomicU64,
    pub(super) conflated: AtomicU64,
    pub(super) lost_in_flight: AtomicU64,
    pub(super) high_water: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self, left: u64) -> EdgeCounts {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        let lost = get(&self.lost_in_flight);
        EdgeCounts {
            sent: get(&self.sent),
            handled: get(&self.taken).saturating_sub(lost),
            refused: get(&self.refused),
            dropped_overflow: get(&self.dropped_overflow),
            dropped_closed: get(&self.dropped_closed),
            dropped_restart: get(&self.dropped_restart),
            dropped_resync: get(&self.dropped_resync),
            conflated: get(&self.conflated),
            lost_in_flight: lost,
            left,
            high_water: get(&self.high_water),
        }
    }
}

/// What the supervisor does with an edge without knowing its messages.
pub trait Edge: Send + Sync {
    /// The edge's declaration.
    fn spec(&self) -> &EdgeSpec;
    /// The edge's number.
    fn id(&self) -> EdgeId;
    /// Puts the pill behind everything that was sent; false when there is no room yet. Later offers are refused.
    fn send_pill(&self) -> bool;
    /// The consumer is gone for good: later offers are counted as dropped.
    fn close(&self);
    /// Applies the restart policy before the next generation of the consumer starts.
    fn before_restart(&self);
    /// The consumer died with a message of this edge in hand.
    fn lose_in_flight(&self);
    /// The books.
    fn counts(&self) -> EdgeCounts;
    /// The most that may wait.
    fn capacity(&self) -> usize {
        self.spec().capacity
    }
}

enum Parcel<M> {
    Message(M),
    Pill,
}

pub(super) const OPEN: u64 = 0;
pub(super) const PILLED: u64 = 1;
pub(super) const CLOSED: u64 = 2;

struct Shared<M> {
    id: EdgeId,
    spec: EdgeSpec,
    tx: Sender<Parcel<M>>,
    rx: Receiver<Parcel<M>>,
    counters: Counters,
    waker: Waker,
    gate: AtomicU64,
    /// The pill waits in the queue, where it is no message.
    pill: AtomicBool,
    overrun: AtomicBool,
    /// Messages that were queued when the consumer last restarted and must be refused by it.
    stale: AtomicU64,
}

/// A mailbox as its owner, the system, holds it.
pub struct Mailbox<M>(Arc<Shared<M>>);

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M: Send> Mailbox<M> {
    /// A mailbox whose consumer is woken through `waker`.
    ///
    /// # Panics
    /// When the capacity is zero; specs are validated before.
    pub fn new(id: EdgeId, spec: EdgeSpec, waker: Waker) -> Self {
        assert!(spec.capacity > 0, "edge {} has no capacity", spec.name);
        // One place more than the capacity, so that a pill finds room behind a full backlog.
        let (tx, rx) = bounded(spec.capacity + 1);
        Self(Arc::new(Shared {
            id,
            spec,
            tx,
            rx,
            counters: Counters::default(),
            waker,
            gate: AtomicU64::new(OPEN),
            pill: AtomicBool::new(false),
            overrun: AtomicBool::new(false),
            stale: AtomicU64::new(0),
        }))
    }

    /// A mailbox outside any system, for tests of a single actor. Full means refuse.
    pub fn detached(name: &str, capacity: usize) -> Self {
        let spec = EdgeSpec {
            name: name.to_owned(),
            from: Vec::new(),
            to: ActorId(0),
            capacity,
            overflow: Overflow::Refuse,
            on_restart: OnRestart::Keep,
        };
        Self::new(EdgeId(0), spec, Waker::none())
    }

    /// A producer's end.
    pub fn outbox(&self) -> Outbox<M> {
        Outbox(Arc::clone(&self.0))
    }

    /// The consumer's end. One generation holds one at a time.
    pub fn inbox(&self) -> Inbox<M> {
        Inbox { shared: Arc::clone(&self.0), pilled: false }
    }
}

impl<M: Send> Edge for Mailbox<M> {
    fn spec(&self) -> &EdgeSpec {
        &self.0.spec
    }

    fn id(&self) -> EdgeId {
        self.0.id
    }

    fn send_pill(&self) -> bool {
        let _ = self.0.gate.compare_exchange(OPEN, PILLED, Ordering::SeqCst, Ordering::SeqCst);
        self.0.pill.store(true, Ordering::SeqCst);
        let sent = self.0.tx.try_send(Parcel::Pill).is_ok();
        if !sent {
            self.0.pill.store(false, Ordering::SeqCst);
        }
        self.0.waker.wake();
        sent
    }

    fn close(&self) {
        self.0.gate.store(CLOSED, Ordering::SeqCst);
    }

    fn before_restart(&self) {
        match self.0.spec.on_restart {
            OnRestart::Keep => {}
            OnRestart::Discard => {
                self.0.discard(&self.0.counters.dropped_restart);
                self.0.overrun.store(false, Ordering::SeqCst);
            }
            OnRestart::Refuse => {
                self.0.stale.store(self.0.rx.len() as u64, Ordering::SeqCst);
            }
        }
    }

    fn lose_in_flight(&self) {
        Counters::add(&self.0.counters.lost_in_flight, 1);
    }

    fn counts(&self) -> EdgeCounts {
        let pill = u64::from(self.0.pill.load(Ordering::SeqCst));
        self.0.counters.snapshot((self.0.rx.len() as u64).saturating_sub(pill))
    }
}

impl<M> Shared<M> {
    /// Drops everything that is queued, counting it; a pill stays in effect.
    fn discard(&self, counter: &AtomicU64) {
        let mut dropped = 0;
        let mut pilled = false;
        // Bounded: at most what is queued now, however fast producers are.
        for _ in 0..self.rx.len() {
            match self.rx.try_recv() {
                Ok(Parcel::Message(_)) => dropped += 1,
                Ok(Parcel::Pill) => pilled = true,
                Err(_) => break,
            }
        }
        Counters::add(counter, dropped);
        if pilled {
            // There is room: the queue was just emptied and offers are refused behind a pill.
            let _ = self.tx.try_send(Parcel::Pill);
        }
    }
}

/// A producer's end of a mailbox.
pub struct Outbox<M>(Arc<Shared<M>>);

impl<M> Clone for Outbox<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> fmt::Debug for Outbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Outbox").field(&self.0.spec.name).finish()
    }
}

impl<M: Send> Outbox<M> {
    /// Offers a message; never blocks. `Ok` means that the declared policy took care of it.
    ///
    /// # Errors
    /// With [`Overflow::Refuse`], the message comes back when the mailbox is full; always when it is closed by a
    /// pill.
    pub fn offer(&self, message: M) -> Result<(), Refused<M>> {
        let offered = self.offer_quietly(message);
        if offered.is_ok() {
            self.wake();
        }
        offered
    }

    /// [`Outbox::offer`] without waking the consumer. Waking a thread costs its system call, some 10 us: a producer
    /// with something urgent to do does that first, and then owes a [`Outbox::wake`].
    ///
    /// # Errors
    /// As [`Outbox::offer`].
    pub fn offer_quietly(&self, message: M) -> Result<(), Refused<M>> {
        let shared = &*self.0;
        let counters = &shared.counters;
        Counters::add(&counters.sent, 1);
        match shared.gate.load(Ordering::Relaxed) {
            OPEN => {}
            PILLED => {
                Counters::add(&counters.refused, 1);
                return Err(Refused { message, why: RefusedWhy::Closed });
            }
            _ => {
                Counters::add(&counters.dropped_closed, 1);
                return Ok(());
            }
        }
        if shared.overrun.load(Ordering::Relaxed) {
            Counters::add(&counters.dropped_resync, 1);
            return Ok(());
        }
        // The last place is the pill's.
        if shared.tx.len() >= shared.spec.capacity {
            return self.overflow(message);
        }
        match shared.tx.try_send(Parcel::Message(message)) {
            Ok(()) => Ok(()),
            Err(
                TrySendError::Full(Parcel::Message(m))
                | TrySendError::Disconnected(Parcel::Message(m)),
            ) => self.overflow(m),
            Err(TrySendError::Full(Parcel::Pill) | TrySendError::Disconnected(Parcel::Pill)) => {
                Ok(())
            }
        }
    }

    fn overflow(&self, message: M) -> Result<(), Refused<M>> {
        let counters = &self.0.counters;
        match self.0.spec.overflow {
            Overflow::Refuse => {
                Counters::add(&counters.refused, 1);
                return Err(Refused { message, why: RefusedWhy::Full });
            }
            Overflow::DropNewest => Counters::add(&counters.dropped_overflow, 1),
            Overflow::Resync => {
                Counters::add(&counters.dropped_overflow, 1);
                self.0.overrun.store(true, Ordering::SeqCst);
            }
        }
        Ok(())
    }

    /// Wakes the consumer if it sleeps.
    pub fn wake(&self) {
        self.0.waker.wake();
    }

    /// Messages waiting now.
    pub fn depth(&self) -> usize {
        self.0.tx.len()
    }

    /// Whether an offer would find room now. A single producer may rely on it.
    pub fn has_room(&self) -> bool {
        self.0.gate.load(Ordering::Relaxed) == OPEN && self.0.tx.len() < self.0.spec.capacity
    }
}

/// The consumer's end of a mailbox.
pub struct Inbox<M> {
    shared: Arc<Shared<M>>,
    pilled: bool,
}

impl<M> fmt::Debug for Inbox<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inbox").field(&self.shared.spec.name).finish()
    }
}

impl<M: Send> Inbox<M> {
    /// The next message, which is in hand until the next one is taken or the turn ends.
    pub fn take(&mut self, cx: &mut Cx) -> Option<M> {
        let shared = &*self.shared;
        let depth = shared.rx.len() as u64;
        if depth > shared.counters.high_water.load(Ordering::Relaxed) {
            shared.counters.high_water.store(depth, Ordering::Relaxed);
        }
        match shared.rx.try_recv().ok()? {
            Parcel::Message(message) => {
                let seq = shared.counters.taken.load(Ordering::Relaxed) + 1;
                shared.counters.taken.store(seq, Ordering::Relaxed);
                cx.begin_message(shared.id, seq);
                Some(message)
            }
            Parcel::Pill => {
                self.pilled = true;
                shared.pill.store(false, Ordering::SeqCst);
                cx.take_pill();
                None
            }
        }
    }

    /// The next message that was queued for a previous generation: refuse it, do not act on it. Only on edges
    /// declared [`OnRestart::Refuse`]; call it in `on_start` until it gives `None`.
    pub fn take_stale(&mut self) -> Option<M> {
        let shared = &*self.shared;
        let stale = shared.stale.load(Ordering::SeqCst);
        if stale == 0 {
            return None;
        }
        shared.stale.store(stale - 1, Ordering::SeqCst);
        match shared.rx.try_recv().ok()? {
            Parcel::Message(message) => {
                Counters::add(&shared.counters.refused, 1);
                Some(message)
            }
            Parcel::Pill => {
                // Nothing follows a pill: put it back for `take`, and nothing is stale any more.
                shared.stale.store(0, Ordering::SeqCst);
                let _ = shared.tx.try_send(Parcel::Pill);
                None
            }
        }
    }

    /// Whether the mailbox overran since the last call. If so, everything queued is dropped and counted, and
    /// offers are accepted again: what follows belongs to a stream with a hole. Only [`Overflow::Resync`].
    pub fn take_overrun(&mut self) -> bool {
        // Acquire: who sees the overrun also sees all that was sent before it, and drops it.
        if !self.shared.overrun.load(Ordering::Acquire) {
            return false;
        }
        self.shared.discard(&self.shared.counters.dropped_resync);
        self.shared.overrun.store(false, Ordering::SeqCst);
        true
    }

    /// Messages waiting now.
    pub fn depth(&self) -> usize {
        self.shared.rx.len()
    }

    /// Whether the pill was taken: nothing follows.
    pub fn is_pilled(&self) -> bool {
        self.pilled
    }
}
