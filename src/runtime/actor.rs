//! What an actor is: one role, one turn at a time, never blocking, never knowing its thread.
//!
//! The runner owns the loop; the actor owns one turn of it. The same boxed actor runs on a pinned thread in
//! production and is stepped on one thread under a virtual clock in simulation (after Agrona's `Agent`,
//! `AgentRunner` and `AgentInvoker`). A panic or a [`Fault`] ends one life of an actor, its *generation*; the
//! supervisor builds the next one from the child spec's `start`, never from the memory of the dead one.

use std::borrow::Cow;
use std::fmt;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::epoll;
use rustix::io::Errno;

use crate::clock::{MonoNs, UtcNs};

use super::health::{Cell, Phase};

/// One role in the system. All methods are called on the actor's own thread.
pub trait Actor {
    /// Once, before the first turn. Allocates and pre-touches; does not connect anywhere: connecting is a state
    /// of the turn, since a venue that is down is not a crash.
    ///
    /// # Errors
    /// A [`Fault`] counts as a failed start.
    fn on_start(&mut self, _cx: &mut Cx) -> Result<(), Fault> {
        Ok(())
    }

    /// One turn: takes a bounded amount of work, never blocks.
    ///
    /// # Errors
    /// A [`Fault`] ends this generation.
    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault>;

    /// The drain of this actor's phase begins: take no new work from outside, finish what is in hand. Turns go on
    /// until every inbox has given its pill, a turn was idle and [`Actor::drained`] says so.
    ///
    /// # Errors
    /// A [`Fault`] ends this generation; during a drain it is recorded, not restarted.
    fn on_drain(&mut self, _cx: &mut Cx) -> Result<(), Fault> {
        Ok(())
    }

    /// Whether nothing is left to finish. Asked only while draining, after an idle turn.
    fn drained(&self) -> bool {
        true
    }

    /// What ends this actor's idleness besides its mailboxes: sockets and timers. Asked only before parking.
    fn waits(&self, _waits: &mut Waits) {}

    /// Once, after the last turn. Not called after a panic.
    fn on_stop(&mut self, _cx: &mut Cx, _stop: Stop) {}
}

/// What a turn achieved; decides whether the idle strategy may rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// There was nothing to do.
    Idle,
    /// Something was done; there may be more.
    Busy,
    /// The actor's work is done for good: its life ends here, normally.
    Done,
}

impl Work {
    /// The more of the two: done before busy, busy before idle.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Done, _) | (_, Self::Done) => Self::Done,
            (Self::Busy, _) | (_, Self::Busy) => Self::Busy,
            (Self::Idle, Self::Idle) => Self::Idle,
        }
    }

    /// Busy when `did` holds.
    #[must_use]
    pub fn when(did: bool) -> Self {
        if did { Self::Busy } else { Self::Idle }
    }
}

/// Why an actor is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// Everything before the pill was handled.
    Drained,
    /// The drain deadline passed first.
    Deadline,
    /// The actor returned a fault.
    Faulted,
    /// The actor said that it is done.
    Done,
    /// Its group is restarted: another generation takes over at once.
    Restarting,
}

/// A returned error that ends one life of an actor. A lost connection is not one: reconnecting is a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The actor cannot go on; a fresh one may.
    Fatal(Cow<'static, str>),
    /// The configuration is wrong; no restart will help.
    Config(Cow<'static, str>),
    /// The system refuses input or output, as a full disk does; if restarts do not help, the process ends with 74.
    Io(Cow<'static, str>),
    /// What the first start needs is not there yet, a port that somebody still holds: tried again until the start
    /// deadline. Later than that it means the same as [`Fault::Fatal`].
    Retry(Cow<'static, str>),
}

impl Fault {
    /// A fault with a text made for the occasion.
    pub fn fatal(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Fatal(why.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fatal(why) | Self::Io(why) | Self::Retry(why) => write!(f, "{why}"),
            Self::Config(why) => write!(f, "configuration: {why}"),
        }
    }
}

impl std::error::Error for Fault {}

/// One life of an actor, counted from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An actor's number: its index in the system's table of children and of health cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorId(pub u16);

impl ActorId {
    /// The index into tables of actors.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// An edge's number: its index in the system's table of mailboxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EdgeId(pub u16);

impl EdgeId {
    /// The index into tables of edges.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A message that was taken and is not yet handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InHand {
    /// The mailbox it came from.
    pub edge: EdgeId,
    /// Its number among the messages taken from that mailbox, from 1.
    pub seq: u64,
}

/// What the runner lends to an actor for the length of one call.
pub struct Cx {
    /// The monotonic time at which this turn began: read once per turn.
    pub now: MonoNs,
    /// The time of day at which this turn began; derived from `now`, re-anchored about once a second.
    pub utc: UtcNs,
    /// This life of the actor.
    pub generation: Generation,
    actor: ActorId,
    cell: Arc<Cell>,
    draining: bool,
    in_hand: Option<InHand>,
    pills: u32,
    messages: u64,
}

impl Cx {
    /// A context for one life of `actor`, which reports through `cell`.
    pub fn new(actor: ActorId, generation: Generation, cell: Arc<Cell>) -> Self {
        Self {
            now: MonoNs::ZERO,
            utc: UtcNs::default(),
            generation,
            actor,
            cell,
            draining: false,
            in_hand: None,
            pills: 0,
            messages: 0,
        }
    }

    /// A context that belongs to no system, for tests of a single actor.
    pub fn detached(now: MonoNs, utc: UtcNs) -> Self {
        let mut cx = Self::new(ActorId(0), Generation(1), Arc::new(Cell::new("detached")));
        cx.now = now;
        cx.utc = utc;
        cx
    }

    /// Whose context this is.
    pub fn actor(&self) -> ActorId {
        self.actor
    }

    /// The actor's health cell.
    pub fn cell(&self) -> &Arc<Cell> {
        &self.cell
    }

    /// Whether the drain of this actor's phase has begun.
    pub fn draining(&self) -> bool {
        self.draining
    }

    /// Declares a section that may block for at most `limit`, such as a blocking HTTP call: the supervisor judges
    /// the actor against this deadline instead of its stall timeout until the section ends.
    pub fn blocking<T>(
        &mut self,
        op: &'static str,
        limit: Duration,
        body: impl FnOnce() -> T,
    ) -> T {
        self.cell.enter(Phase::Blocking, op, self.now.after(limit));
        let value = body();
        self.cell.enter(Phase::Work, "", MonoNs::NEVER);
        value
    }

    /// Registers `interrupt`, which frees this generation from a blocking call when the supervisor runs it from
    /// another thread (usually: shut the socket down). Forgotten when the generation ends; of more than 16 the
    /// oldest is forgotten.
    pub fn on_interrupt(&mut self, interrupt: Box<dyn Fn() + Send + Sync>) {
        self.cell.add_interrupt(interrupt);
    }

    /// Forgets all interrupts of this generation, and what they hold: call it before a new stream replaces one
    /// whose handle was registered.
    pub fn forget_interrupts(&mut self) {
        self.cell.clear_interrupts();
    }

    /// Notes that a message was taken: the breadcrumb that a crash report names.
    pub(super) fn begin_message(&mut self, edge: EdgeId, seq: u64) {
        self.in_hand = Some(InHand { edge, seq });
        self.messages += 1;
        self.cell.breadcrumb(edge, seq);
    }

    /// Notes that one of the actor's inboxes gave its pill.
    pub(super) fn take_pill(&mut self) {
        self.pills += 1;
    }

    /// The number of pills this generation has taken.
    pub fn pills(&self) -> u32 {
        self.pills
    }

    /// The number of messages this generation has taken.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// The message that is being handled, if any.
    pub fn in_hand(&self) -> Option<InHand> {
        self.in_hand
    }

    /// The turn is over and what was in hand is handled.
    pub(super) fn end_turn(&mut self) {
        self.in_hand = None;
    }

    /// The drain of this actor's phase begins.
    pub(super) fn begin_drain(&mut self) {
        self.draining = true;
    }
}

/// What may end a park: sockets, a moment.
///
/// Descriptors are armed at once in the host's epoll set, for one wake-up each. So nothing needs to be disarmed:
/// one that is not named again ends at most one more park.
#[derive(Debug, Default)]
pub struct Waits {
    /// The host's set; `None` in the stepper, which never sleeps.
    pub(super) epoll: Option<OwnedFd>,
    pub(super) until: Option<MonoNs>,
    /// Set when something is already waiting: do not park at all.
    pub(super) ready: bool,
    /// Set when a descriptor could not be armed: park briefly, it must be looked at.
    pub(super) unarmed: bool,
}

/// What an epoll event of an actor's own descriptor carries; the wakers' carry their index.
pub(super) const ACTORS_FD: u64 = u64::MAX;

impl Waits {
    /// Wake when `fd` is readable.
    pub fn readable(&mut self, fd: BorrowedFd<'_>) {
        self.arm(fd, epoll::EventFlags::IN | epoll::EventFlags::RDHUP);
    }

    /// Wake when `fd` is readable or writable.
    pub fn writable(&mut self, fd: BorrowedFd<'_>) {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::OUT;
        self.arm(fd, flags);
    }

    /// Wake when `fd` is writable, and not for what it has to read.
    pub fn room(&mut self, fd: BorrowedFd<'_>) {
        self.arm(fd, epoll::EventFlags::OUT);
    }

    /// Wake at `deadline` at the latest.
    pub fn until(&mut self, deadline: MonoNs) {
        self.until = Some(self.until.map_or(deadline, |u| u.min(deadline)));
    }

    /// Do not park: there is work that no descriptor shows (bytes already decrypted, say).
    pub fn ready(&mut self) {
        self.ready = true;
    }

    /// Forgets what the last park waited for.
    pub(super) fn clear(&mut self) {
        self.until = None;
        self.ready = false;
        self.unarmed = false;
    }

    fn arm(&mut self, fd: BorrowedFd<'_>, flags: epoll::EventFlags) {
        let Some(set) = &self.epoll else { return };
        let flags = flags | epoll::EventFlags::ONESHOT;
        let data = || epoll::EventData::new_u64(ACTORS_FD);
        // Known from an earlier park, usually: arming again also looks at what is readable by now.
        let armed = match epoll::modify(set, fd, data(), flags) {
            Err(Errno::NOENT) => epoll::add(set, fd, data(), flags),
            other => other,
        };
        self.unarmed |= armed.is_err();
    }
}
