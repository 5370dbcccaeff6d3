//! What the checks of the runtime share: a consumer that rests as a host does.

use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::Check;
use crate::sync::atomic::{AtomicU32, Ordering};

use super::actor::{ActorId, Cx, EdgeId, Generation};
use super::health::Cell;
use super::mailbox::{EdgeSpec, OnRestart, Overflow};
use super::wake::Waker;

/// All checks of the runtime.
pub(crate) const ALL: &[Check] = &[
    ("mailbox: no wake-up is lost", 3, super::mailbox_checks::no_wake_up_is_lost),
    ("mailbox: nor with two producers", 2, super::mailbox_checks::nor_with_two_producers),
    ("mailbox: one wake-up after quiet offers", 2, super::mailbox_checks::quiet_offers),
    ("mailbox: the pill is last", 2, super::mailbox_checks::the_pill_is_last),
    ("mailbox: offers around a pill are accounted for", 2, super::mailbox_checks::around_a_pill),
    ("mailbox: offers around a close are accounted for", 2, super::mailbox_checks::around_a_close),
    ("mailbox: a hole is seen before what follows it", 2, super::mailbox_checks::overrun),
    ("mailbox: a pill survives an overrun", 2, super::mailbox_checks::pill_and_overrun),
    ("mailbox: a discard accounts for all", 2, super::mailbox_checks::discard),
    ("latest: the newest value is never lost", 2, super::latest_checks::newest),
    ("latest: nor by a restart", 2, super::latest_checks::nor_by_a_restart),
    ("latest: a restart accounts for all", 2, super::latest_checks::discarded_by_a_restart),
    ("latest: two producers are accounted for", 2, super::latest_checks::two_producers),
    ("seat: no word is missed by a sleeper", 2, super::seat_checks::no_word_is_missed),
    ("seat: a generation ends before the next begins", 2, super::seat_checks::generations),
    ("seat: a stale message is refused, never handled", 2, super::seat_checks::stale),
    ("seat: a stop is not taken back by a drain", 2, super::seat_checks::stop_and_drain),
];

pub(super) fn spec(capacity: usize, overflow: Overflow, on_restart: OnRestart) -> EdgeSpec {
    EdgeSpec {
        name: "a->b".to_owned(),
        from: Vec::new(),
        to: ActorId(0),
        capacity,
        overflow,
        on_restart,
    }
}

pub(super) const EDGE: EdgeId = EdgeId(0);

pub(super) fn cx() -> Cx {
    Cx::new(ActorId(0), Generation(1), Arc::new(Cell::new("b")))
}

/// Whether a sleeper on the descriptor would wake.
pub(super) fn is_woken(waker: &Waker) -> bool {
    let fd = waker.fd().expect("it has one");
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let at_once = Timespec::try_from(Duration::ZERO).expect("it fits");
    poll(&mut fds, Some(&at_once)).expect("the descriptor is open") > 0
}

/// The descriptor is invisible to the checker. Who wakes counts up afterwards, who polls counts up before: so it
/// tries both orders. Orders nothing itself.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<AtomicU32>);

impl Told {
    pub(super) fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Takes turns and rests between them, in the order in which a host does, until it would sleep for good. `turn` says
/// whether there was work.
pub(super) fn until_asleep(waker: &Waker, told: &Told, mut turn: impl FnMut() -> bool) {
    loop {
        while turn() {}
        waker.announce_sleep();
        if turn() {
            waker.awake();
            continue;
        }
        // Here the host waits for the descriptor.
        told.count();
        if !is_woken(waker) {
            return;
        }
        waker.drain();
        waker.awake();
    }
}
