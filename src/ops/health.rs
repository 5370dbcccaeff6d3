//! Progress: beats come in, sampled by the ops actor; ages and the names of stalled actors go out.
//!
//! The sampler times the absence of change, as the supervisor does, and knows that it can be late itself: a gap in
//! its own sampling counts only up to a cap, and in such a sample nobody is accused.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::clock::MonoNs;
use crate::runtime::health::{ActorState, Cell, Phase};

/// Without a beat for longer than this, outside parks and blocking sections, an actor is stalled.
pub const STALL_AFTER: Duration = Duration::from_secs(1);

/// A gap between two samples beyond this means that the ops actor itself was late.
pub const LATE_AFTER: Duration = Duration::from_millis(500);

/// How long an own lateness stays among the reasons.
const LATE_SHOWN: Duration = Duration::from_secs(10);

/// What `/health` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Health {
    /// `ok`, `degraded`, `halted` or `stalled`.
    pub status: &'static str,
    /// Why it is not `ok`.
    pub reasons: Vec<String>,
    /// Actors without progress.
    pub stalled: Vec<String>,
}

impl Health {
    /// The HTTP status: 200 for `ok` and `degraded`, 503 otherwise.
    pub fn http_status(&self) -> u16 {
        if matches!(self.status, "ok" | "degraded") { 200 } else { 503 }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    beat: u64,
    /// Since the beat changed, as far as we looked.
    age: Duration,
    stalled: bool,
}

/// The memory of the sampler.
#[derive(Debug, Default)]
pub struct Beats {
    seen: Vec<Seen>,
    sampled: Option<MonoNs>,
    /// The last time we were late: when, and by how much.
    late: Option<(MonoNs, Duration)>,
}

impl Beats {
    /// Looks at every actor.
    pub fn sample(&mut self, cells: &[Arc<Cell>], now: MonoNs) {
        let gap = self.sampled.map_or(Duration::ZERO, |at| now.since(at));
        self.sampled = Some(now);
        let late = gap > LATE_AFTER;
        if late {
            self.late = Some((now, gap));
        }
        self.seen.resize(cells.len(), Seen::default());
        for (seen, cell) in self.seen.iter_mut().zip(cells) {
            let beat = cell.beat();
            let age =
                if beat == seen.beat { seen.age + gap.min(LATE_AFTER) } else { Duration::ZERO };
            // What was no stall before we were late is none because we were.
            let stalled =
                is_stalled(cell.state(), cell.phase(), age, now) && (!late || seen.stalled);
            *seen = Seen { beat, age, stalled };
        }
    }

    /// How long the actor with index `actor` has not beaten.
    pub fn age(&self, actor: usize) -> Duration {
        self.seen.get(actor).map_or(Duration::ZERO, |seen| seen.age)
    }

    /// Whether the actor with index `actor` makes no progress.
    pub fn stalled(&self, actor: usize) -> bool {
        self.seen.get(actor).is_some_and(|seen| seen.stalled)
    }

    /// Why our own word is to be taken with care, for a while after we were late.
    pub fn own_lateness(&self, now: MonoNs) -> Option<String> {
        let (at, gap) = self.late?;
        (now.since(at) < LATE_SHOWN).then(|| format!("ops: looked {} ms late", gap.as_millis()))
    }
}

/// Whether an actor in `state` that has not beaten for `age` is stuck, given what it said it was doing and until when.
fn is_stalled(state: ActorState, said: (Phase, MonoNs), age: Duration, now: MonoNs) -> bool {
    let (phase, deadline) = said;
    let overdue = now > deadline.after(STALL_AFTER);
    match state {
        ActorState::Wedged => true,
        ActorState::Running | ActorState::Draining => match phase {
            Phase::Work => age > STALL_AFTER,
            // It may sleep or block until then; afterwards it has as long as anybody to show a beat.
            Phase::Parked | Phase::Blocking | Phase::Init => overdue && age > STALL_AFTER,
        },
        ActorState::Starting => overdue && age > STALL_AFTER,
        ActorState::Declared | ActorState::Backoff | ActorState::Exited => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::actor::{ActorId, Cx, Generation};

    /// Samples a cell whose actor entered a blocking section of `limit_ms`, at the given moments.
    #[track_caller]
    fn check(limit_ms: u64, samples_ms: &[u64], expect_age_ms: u64, expect_late: bool) {
        let cell = Arc::new(Cell::new("a"));
        let mut cx = Cx::new(ActorId(0), Generation(1), Arc::clone(&cell));
        let mut beats = Beats::default();
        cx.blocking("test", Duration::from_millis(limit_ms), || {
            for ms in samples_ms {
                beats.sample(&[Arc::clone(&cell)], MonoNs::from_millis(*ms));
            }
        });
        assert_eq!(beats.age(0), Duration::from_millis(expect_age_ms));
        let now = MonoNs::from_millis(*samples_ms.last().expect("one at least"));
        assert_eq!(beats.own_lateness(now).is_some(), expect_late);
        // It was never started: nobody to accuse.
        assert!(!beats.stalled(0));
    }

    /// Judges an actor at second 10 that has not beaten for `age_ms`; its phase may last until `deadline_ms`.
    #[track_caller]
    fn judge(state: ActorState, phase: Phase, deadline_ms: u64, age_ms: u64, expect: bool) {
        let said = (phase, MonoNs::from_millis(deadline_ms));
        let now = MonoNs::from_millis(10_000);
        assert_eq!(is_stalled(state, said, Duration::from_millis(age_ms), now), expect);
    }

    #[test]
    fn a_turn_has_one_second() {
        judge(ActorState::Running, Phase::Work, u64::MAX, 1_000, false);
        judge(ActorState::Running, Phase::Work, u64::MAX, 1_001, true);
        judge(ActorState::Draining, Phase::Work, u64::MAX, 1_001, true);
    }

    #[test]
    fn a_park_lasts_until_its_deadline() {
        judge(ActorState::Running, Phase::Parked, u64::MAX, 9_000, false);
        judge(ActorState::Running, Phase::Parked, 9_500, 9_000, false);
        judge(ActorState::Running, Phase::Parked, 8_000, 9_000, true);
    }

    #[test]
    fn a_blocking_section_lasts_until_its_deadline() {
        judge(ActorState::Running, Phase::Blocking, 9_500, 3_000, false);
        judge(ActorState::Running, Phase::Blocking, 8_000, 3_000, true);
    }

    #[test]
    fn who_does_not_run_is_not_accused() {
        judge(ActorState::Declared, Phase::Work, 0, 9_000, false);
        judge(ActorState::Backoff, Phase::Work, 0, 9_000, false);
        judge(ActorState::Exited, Phase::Work, 0, 9_000, false);
        judge(ActorState::Wedged, Phase::Work, 0, 0, true);
    }

    #[test]
    fn ages_grow_with_samples() {
        check(1_000, &[0, 100, 200, 300], 300, false);
    }

    #[test]
    fn own_gap_counts_only_up_to_the_cap() {
        check(1_000, &[0, 100, 5_000], 600, true);
    }
}
