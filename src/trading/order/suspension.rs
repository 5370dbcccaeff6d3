//! Self-fencing: a sender that did not run for a while trusts nothing that it knew (after Aeron's cluster).
//!
//! Comes in: the time of each turn, on the monotonic clock; a step of the time of day is none of its business. Goes
//! out: refusals, and a new comparison with the venue. What always holds: no order decided before a gap of more than
//! [`FENCE_GAP`] between two turns leaves after it, and none at all leaves before the session was compared once more.
//! Cancels pass.
//!
//! What froze between the reading of the clock and the writing of the bytes is caught by the venue: each request is
//! signed with the time of its turn, and its receive window is no longer than the gap.

use std::time::Duration;

use crate::runtime::actor::Fault;
use crate::trading::domain::{OrderIntent, Reason};
use crate::trading::limits::FENCE_GAP;
use crate::trading::telemetry::SessionState;

use super::hold::At;
use super::sender::OrderSender;
use super::upkeep::Drain;

impl OrderSender {
    /// Looks at how long ago the last turn began; the first thing in every turn, before anything is read or written.
    pub(super) fn watch_own_gap(&mut self, at: At) -> Result<(), Fault> {
        let gap = at.now.since(self.now);
        if gap <= FENCE_GAP { Ok(()) } else { self.resume(at, gap) }
    }

    /// Whether this was decided, or what it answers was read, before the last suspension ended.
    pub(super) fn is_from_before(&self, intent: &OrderIntent) -> bool {
        intent.decided.min(intent.recv) < self.resumed
    }

    fn resume(&mut self, at: At, gap: Duration) -> Result<(), Fault> {
        self.resumed = at.now;
        self.suspended_for = gap;
        self.ledger.vault.count_suspension();
        // Whoever looks shall see it now, not at the next publication.
        self.next_view = at.now;
        self.refuse_held(at)?;
        let why = format_args!("suspended for {} ms", gap.as_millis());
        if self.session.holds_unsent() {
            // Orders may be among it.
            return self.lose_session(at, &why);
        }
        if matches!(self.drain, Drain::Verifying(..)) {
            self.drain = Drain::Cancelling;
        }
        // A session that is not that far yet will compare anyway.
        if matches!(self.session.state(), SessionState::Reconciling | SessionState::Live) {
            self.session.doubt(&why);
            self.compare(at);
        }
        Ok(())
    }

    /// Refuses what was let in and still waits for the journal.
    fn refuse_held(&mut self, at: At) -> Result<(), Fault> {
        let mut index = self.ledger.orders.unsettled().len();
        while let Some(seq) = self.previous_unsettled(&mut index) {
            if self.ledger.orders.find(seq).is_some_and(|order| !order.was_sent()) {
                self.refuse_unsent(at, seq, Reason::Suspended)?;
            }
        }
        Ok(())
    }
}
