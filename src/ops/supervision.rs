//! What the status says of the supervisor itself: the plan of threads, its own pauses, and every distinct error.

use serde::Serialize;

use crate::runtime::tally::{DistinctError, Tally};

use super::sources::StatusSources;

/// The supervisor.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SupervisorStatus {
    /// Which thread runs where and how it rests: `feed-x=core2/spin book-x=any/park ...`.
    pub plan: String,
    /// Whether there are too few cores for the hot threads, so that none spins.
    pub overprovisioned: bool,
    /// How often the supervisor was itself not running, so that it accused nobody.
    pub suspended: u64,
    /// Reports of dead generations that came late and were ignored.
    pub stale_events: u64,
    /// How often a thread was found off the core it had been pinned to.
    pub pins_lost: u64,
    /// Every distinct error of an actor, with its first and last time and its count.
    pub errors: Vec<ErrorStatus>,
}

/// One distinct error.
#[derive(Clone, Debug, Serialize)]
pub struct ErrorStatus {
    /// The actor.
    pub actor: String,
    /// `panic`, `fault` or `start_failed`.
    pub kind: &'static str,
    /// `file:line` of a panic; the text of a fault.
    pub at: String,
    /// What it said the first time.
    pub message: String,
    /// When it was seen first, as text.
    pub first_utc: String,
    /// When it was seen last.
    pub last_utc: String,
    /// How often.
    pub count: u64,
}

impl From<DistinctError> for ErrorStatus {
    fn from(error: DistinctError) -> Self {
        let DistinctError { actor, kind, at, message, first, last, count } = error;
        let (first_utc, last_utc) = (first.to_string(), last.to_string());
        Self { actor, kind, at, message, first_utc, last_utc, count }
    }
}

/// The supervisor as its tally shows it.
pub(super) fn supervisor(sources: &StatusSources) -> SupervisorStatus {
    let tally: &Tally = &sources.tally;
    SupervisorStatus {
        plan: sources.plan().to_owned(),
        overprovisioned: tally.overprovisioned(),
        suspended: tally.suspended(),
        stale_events: tally.stale_events(),
        pins_lost: tally.pins_lost(),
        errors: tally.errors().into_iter().map(ErrorStatus::from).collect(),
    }
}
