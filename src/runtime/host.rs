//! A host: a thread that takes the turns of one or several seats, and rests when none had work.
//!
//! What always holds: no wake-up is lost. Before it sleeps, the host announces the sleep on every seat's waker and
//! then takes one more turn of every seat; whatever was sent before the announcement is seen by that turn, and
//! whatever is sent after it ends the sleep. The clock is read once per seat and turn.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use crate::clock::{Clock, MonoNs, UtcNs};

use super::actor::{ACTORS_FD, Fault, Waits, Work};
use super::health::Phase;
use super::idle::{Idler, Rest};
use super::placement::{HostPlan, pin_current};
use super::seat::Seat;
use super::wake::Waker;

/// How long the derived time of day is trusted.
const UTC_REFRESH: Duration = Duration::from_secs(1);
/// An idle turn's length is measured once in this many; a busy one's always.
const MEASURE_EVERY: u32 = 64;
/// A park with a descriptor that could not be armed.
const UNARMED_PARK: Duration = Duration::from_millis(1);
/// Shorter parks need the finer clock of `poll`; `epoll_wait` counts milliseconds.
const COARSE_PARK: Duration = Duration::from_millis(10);
/// Events taken from the set at once; more stay ready for the next park.
const EVENTS_MAX: usize = 32;

/// What the supervisor's thread and a host share.
#[derive(Debug, Default)]
pub(super) struct HostControl {
    /// Set when the host shall end.
    pub(super) halt: AtomicBool,
    /// Set by the host when it ends.
    pub(super) ended: AtomicBool,
    /// The actor whose turn began last, plus one; 0 while parked.
    pub(super) in_turn: AtomicU32,
}

/// The host's thread state.
pub(super) struct Host {
    seats: Vec<Seat>,
    wakers: Vec<Waker>,
    control: Arc<HostControl>,
    /// Wakes the supervisor when this host ends.
    supervisor: Waker,
    idler: Idler,
    waits: Waits,
    clock: Clock,
    anchor: Anchor,
    turns: u32,
    /// The end of a busy turn, which is the beginning of the next.
    fresh: Option<MonoNs>,
}

/// The time of day, derived from the monotonic time in between.
#[derive(Clone, Copy, Debug, Default)]
struct Anchor {
    mono: MonoNs,
    utc: UtcNs,
    until: MonoNs,
}

impl Anchor {
    fn utc(&mut self, clock: &Clock, now: MonoNs) -> UtcNs {
        if now >= self.until {
            *self = Self { mono: now, utc: clock.utc(), until: now.after(UTC_REFRESH) };
        }
        let since = now.as_nanos().saturating_sub(self.mono.as_nanos());
        let since = i64::try_from(since).unwrap_or(i64::MAX);
        UtcNs::from_nanos(self.utc.as_nanos().saturating_add(since))
    }
}

impl Host {
    /// A host that rests on `set`, which was made of `wakers`.
    pub(super) fn new(
        plan: &HostPlan,
        seats: Vec<Seat>,
        wakers: Vec<Waker>,
        set: OwnedFd,
        control: Arc<HostControl>,
        supervisor: Waker,
    ) -> Self {
        Self {
            seats,
            wakers,
            control,
            supervisor,
            idler: Idler::new(plan.idle),
            waits: Waits { epoll: Some(set), ..Waits::default() },
            clock: Clock::System,
            anchor: Anchor::default(),
            turns: 0,
            fresh: None,
        }
    }

    /// The thread's body: until it is halted.
    pub(super) fn run(mut self, core: Option<u32>, strict_pin: bool) {
        self.settle(core, strict_pin);
        while !self.control.halt.load(Ordering::Relaxed) {
            if self.turn_all() == Work::Busy {
                self.idler.busy();
                continue;
            }
            match self.idler.idle() {
                Rest::Spin => std::hint::spin_loop(),
                Rest::Yield => std::thread::yield_now(),
                Rest::Park(max) => self.park(max),
            }
        }
        // Actors are dropped before the end is told, so that nothing of them outlives the run.
        self.seats.clear();
        self.control.ended.store(true, Ordering::Release);
        self.supervisor.wake();
    }

    /// Pins the thread and shows it in the cells.
    fn settle(&mut self, core: Option<u32>, strict_pin: bool) {
        // Short parks are lengthened by the timer slack, 50 us by default. A kernel that refuses keeps it.
        let _ = std::fs::write("/proc/thread-self/timerslack_ns", "1");
        let mut pinned = core;
        if let Some(wanted) = core
            && let Err(why) = pin_current(wanted)
        {
            pinned = None;
            let name = self.seats.first().map_or("", |s| s.parts.cell.name());
            log::warn!(target: "supervisor", "event=pin.failed actor={name} core={wanted} why={why:?}");
            if strict_pin {
                let fault = Fault::Config(why.into());
                self.seats.iter_mut().for_each(|s| s.refusal = Some(fault.clone()));
            }
        }
        let tid = rustix::thread::gettid().as_raw_nonzero().get();
        self.seats.iter().for_each(|s| s.parts.cell.set_thread(tid, pinned));
    }

    /// One turn of every seat.
    fn turn_all(&mut self) -> Work {
        let mut all = Work::Idle;
        let mut now = self.fresh.take().unwrap_or_else(|| self.clock.now());
        let mut end = None;
        self.turns = self.turns.wrapping_add(1);
        let measure_idle = self.turns.is_multiple_of(MEASURE_EVERY);
        let seats = self.seats.len();
        for (i, seat) in self.seats.iter_mut().enumerate() {
            self.control.in_turn.store(u32::from(seat.parts.id.0) + 1, Ordering::Relaxed);
            let utc = self.anchor.utc(&self.clock, now);
            let work = seat.turn(now, utc);
            all = all.or(work);
            end = None;
            // The next seat's beginning is this one's end.
            if i + 1 < seats || work == Work::Busy || measure_idle {
                let after = self.clock.now();
                seat.parts.cell.measure_turn(after.as_nanos().saturating_sub(now.as_nanos()));
                now = after;
                end = Some(after);
            }
        }
        // After work the next turn follows at once; after none there may be a rest in between.
        self.fresh = end.filter(|_| all == Work::Busy);
        all
    }

    /// Sleeps until a mailbox, a socket or a timer has something, for `max` at most.
    fn park(&mut self, max: Duration) {
        self.wakers.iter().for_each(Waker::announce_sleep);
        self.fresh = None;
        if self.turn_all() == Work::Busy || self.control.halt.load(Ordering::Relaxed) {
            self.wakers.iter().for_each(Waker::awake);
            self.idler.busy();
            return;
        }
        self.waits.clear();
        self.seats.iter_mut().for_each(|seat| seat.waits(&mut self.waits));
        let max = if self.waits.unarmed { max.min(UNARMED_PARK) } else { max };
        let now = self.clock.now();
        let until = self.waits.until.unwrap_or(MonoNs::NEVER).min(now.after(max));
        if !self.waits.ready && until > now {
            self.sleep(now, until);
        }
        self.wakers.iter().for_each(Waker::awake);
    }

    fn sleep(&mut self, now: MonoNs, until: MonoNs) {
        let Some(set) = &self.waits.epoll else { return };
        self.control.in_turn.store(0, Ordering::Relaxed);
        self.seats.iter().for_each(|s| s.parts.cell.enter(Phase::Parked, "", until));
        let woken = wait(set, until.since(now), &self.wakers);
        self.seats.iter().for_each(|s| s.parts.cell.enter(Phase::Work, "", MonoNs::NEVER));
        // Something happened: whatever the strategy counted is over.
        if woken {
            self.idler.busy();
        }
    }
}

/// An epoll set that contains the wakers' descriptors for good.
pub(super) fn wake_set(wakers: &[Waker]) -> io::Result<OwnedFd> {
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (i, waker) in (0_u64..).zip(wakers) {
        if let Some(fd) = waker.fd() {
            epoll::add(&set, fd, epoll::EventData::new_u64(i), epoll::EventFlags::IN)?;
        }
    }
    Ok(set)
}

/// Waits for the set for at most `span`; whether anything happened. An interrupting signal is no event.
fn wait(set: &OwnedFd, span: Duration, wakers: &[Waker]) -> bool {
    let mut coarse = Timespec::try_from(span).unwrap_or_default();
    if span < COARSE_PARK {
        let mut fds = [PollFd::new(set, PollFlags::IN)];
        if !poll(&mut fds, Some(&coarse)).is_ok_and(|n| n > 0) {
            return false;
        }
        coarse = Timespec::default();
    }
    let mut events =
        [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) };
            EVENTS_MAX];
    let ready = epoll::wait(set, &mut events[..], Some(&coarse)).unwrap_or(0);
    for event in &events[..ready] {
        let data = event.data;
        if data.u64() != ACTORS_FD
            && let Some(waker) = usize::try_from(data.u64()).ok().and_then(|i| wakers.get(i))
        {
            waker.drain();
        }
    }
    ready > 0
}
