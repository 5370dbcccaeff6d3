//! What the supervisor counts of itself and of the errors it saw; shared with whoever looks.
//!
//! Errors come in one by one and are kept by actor, kind and place, each with its first and last time and a count
//! (after Aeron's distinct error log), so that a million times the same is one row. The table is bounded.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::UtcNs;

/// Distinct errors kept; beyond that, the one that was quiet the longest makes room.
const ERRORS_MAX: usize = 64;

/// One distinct error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistinctError {
    /// The actor's name.
    pub actor: String,
    /// How the life ended: `panic`, `fault`, `start_failed`.
    pub kind: &'static str,
    /// `file:line` of a panic; the text of a fault, which has no place.
    pub at: String,
    /// What it said the first time.
    pub message: String,
    /// When it was seen first.
    pub first: UtcNs,
    /// When it was seen last.
    pub last: UtcNs,
    /// How often.
    pub count: u64,
}

#[derive(Debug, Default)]
struct Shared {
    suspended: AtomicU64,
    stale_events: AtomicU64,
    pins_lost: AtomicU64,
    overprovisioned: AtomicBool,
    errors: Mutex<Vec<DistinctError>>,
}

/// The supervisor's counts; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Shared>);

impl Tally {
    /// How often the supervisor was itself not running, so that it accused nobody.
    pub fn suspended(&self) -> u64 {
        self.0.suspended.load(Ordering::Relaxed)
    }

    /// Reports of dead generations that came late and were ignored.
    pub fn stale_events(&self) -> u64 {
        self.0.stale_events.load(Ordering::Relaxed)
    }

    /// How often a thread was found off the core it had been pinned to.
    pub fn pins_lost(&self) -> u64 {
        self.0.pins_lost.load(Ordering::Relaxed)
    }

    /// Whether there are too few cores for the hot threads, so that none spins.
    pub fn overprovisioned(&self) -> bool {
        self.0.overprovisioned.load(Ordering::Relaxed)
    }

    /// The distinct errors, in the order in which they were first seen.
    pub fn errors(&self) -> Vec<DistinctError> {
        self.lock().clone()
    }

    pub(super) fn count_suspended(&self) {
        self.0.suspended.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_stale_events(&self, count: u64) {
        self.0.stale_events.store(count, Ordering::Relaxed);
    }

    pub(super) fn count_lost_pin(&self) {
        self.0.pins_lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_overprovisioned(&self, is: bool) {
        self.0.overprovisioned.store(is, Ordering::Relaxed);
    }

    /// Notes an error; how often it has been seen by now.
    pub(super) fn note(&self, error: DistinctError) -> u64 {
        let mut errors = self.lock();
        let same = |e: &&mut DistinctError| {
            e.actor == error.actor && e.kind == error.kind && e.at == error.at
        };
        if let Some(known) = errors.iter_mut().find(same) {
            known.last = error.last;
            known.count += 1;
            return known.count;
        }
        if errors.len() == ERRORS_MAX
            && let Some((quiet, _)) = errors.iter().enumerate().min_by_key(|(_, e)| e.last)
        {
            errors.remove(quiet);
        }
        errors.push(error);
        1
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<DistinctError>> {
        // Every change leaves whole rows, also where a reader panicked.
        self.0.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(at: &str, when: i64) -> DistinctError {
        let (actor, message) = ("book".to_owned(), "boom".to_owned());
        let when = UtcNs::from_nanos(when);
        DistinctError {
            actor,
            kind: "panic",
            at: at.to_owned(),
            message,
            first: when,
            last: when,
            count: 1,
        }
    }

    #[test]
    fn the_same_error_is_one_row_with_first_last_and_count() {
        let tally = Tally::default();
        let counts: Vec<u64> = (1..=3).map(|n| tally.note(error("x.rs:1", n))).collect();
        assert_eq!((counts, tally.note(error("x.rs:2", 9))), (vec![1, 2, 3], 1));
        let row = &tally.errors()[0];
        assert_eq!((row.first.as_nanos(), row.last.as_nanos(), row.count), (1, 3, 3));
    }

    #[test]
    fn the_table_is_bounded_and_the_quietest_makes_room() {
        let tally = Tally::default();
        (0..ERRORS_MAX).for_each(|n| {
            tally.note(error(&n.to_string(), i64::try_from(n).expect("small")));
        });
        tally.note(error("0", 1_000));
        tally.note(error("new", 1_001));
        let errors = tally.errors();
        assert_eq!(errors.len(), ERRORS_MAX);
        assert!(errors.iter().any(|e| e.at == "0") && !errors.iter().any(|e| e.at == "1"));
    }
}
