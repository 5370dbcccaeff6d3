//! How often and how soon a crashed actor may live again.
//!
//! Crash times come in; out come verdicts and delays. `RestartWindow` counts over a sliding window, after
//! Erlang's `supervisor`; `Backoff` adds the delay that Erlang lacks. Neither reads a clock.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::MonoNs;

/// At most `count_max` restarts within any `period`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Intensity {
    /// Restarts tolerated; 0 means that the first crash is final.
    pub count_max: usize,
    /// The length of the sliding window; above zero.
    pub period: Duration,
}

impl Default for Intensity {
    /// Five in a minute.
    fn default() -> Self {
        Self { count_max: 5, period: Duration::from_secs(60) }
    }
}

/// What a recorded crash means.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The child may live again.
    Restart,
    /// Too many: the next level decides.
    Escalate,
}

/// The restarts that are still inside the window.
#[derive(Debug)]
pub(super) struct RestartWindow {
    intensity: Intensity,
    // Ascending; at most `count_max` entries as long as every verdict was to restart.
    restarts: VecDeque<MonoNs>,
}

impl RestartWindow {
    pub(super) fn new(intensity: Intensity) -> Self {
        Self { intensity, restarts: VecDeque::new() }
    }

    /// Records a crash at `now` and judges it.
    pub(super) fn record(&mut self, now: MonoNs) -> Verdict {
        while let Some(&oldest) = self.restarts.front() {
            if now.since(oldest) <= self.intensity.period {
                break;
            }
            self.restarts.pop_front();
        }
        self.restarts.push_back(now);
        if self.restarts.len() <= self.intensity.count_max {
            return Verdict::Restart;
        }
        Verdict::Escalate
    }

    /// What it was charged with is the next level's business now.
    pub(super) fn clear(&mut self) {
        self.restarts.clear();
    }

    pub(super) fn intensity(&self) -> Intensity {
        self.intensity
    }

    /// Crashes inside the window, the last one included.
    pub(super) fn count(&self) -> usize {
        self.restarts.len()
    }
}

/// The delay before the second restart in a row; the first has none.
const BASE: Duration = Duration::from_millis(50);
/// No restart waits longer.
const CAP: Duration = Duration::from_secs(5);
/// A life this long begins the count anew.
pub(super) const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// Crashes in a row and the delay they have earned.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// The delay before the next start: 0, 50, 100, 200, ... ms, spread by a fifth either way, then capped at 5 s.
    /// `lived` is how long the last generation was ready.
    pub(super) fn next(&mut self, lived: Duration, random: &mut fastrand::Rng) -> Duration {
        self.credit(lived);
        self.attempts = self.attempts.saturating_add(1);
        if self.attempts == 1 {
            return Duration::ZERO;
        }
        // Twenty doublings are far above the cap, also after the jitter.
        let doublings = (self.attempts - 2).min(20);
        let whole = BASE.saturating_mul(1 << doublings);
        let permille = random.u32(800..=1_200);
        (whole.saturating_mul(permille) / 1_000).min(CAP)
    }

    /// A life of this length has ended; a healthy minute forgives what was before.
    pub(super) fn credit(&mut self, lived: Duration) {
        if lived >= HEALTHY_AFTER {
            self.attempts = 0;
        }
    }

    /// Crashes in a row.
    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds crash times in ms and compares the verdicts, `.` for restart and `X` for give up.
    #[track_caller]
    fn check(count_max: usize, period_ms: u64, crashes_ms: &[u64], expect: &str) {
        let period = Duration::from_millis(period_ms);
        let mut window = RestartWindow::new(Intensity { count_max, period });
        let verdict = |ms: &u64| match window.record(MonoNs::from_millis(*ms)) {
            Verdict::Restart => '.',
            Verdict::Escalate => 'X',
        };
        assert_eq!(crashes_ms.iter().map(verdict).collect::<String>(), expect);
    }

    #[test]
    fn the_sixth_of_a_burst_is_final() {
        check(5, 60_000, &[0, 10, 20, 30, 40, 50], ".....X");
    }

    #[test]
    fn old_crashes_are_forgiven() {
        check(5, 60_000, &[0, 10, 20, 30, 40, 60_001], "......");
    }

    #[test]
    fn a_crash_exactly_one_period_old_counts() {
        check(1, 1_000, &[0, 1_000], ".X");
    }

    #[test]
    fn zero_tolerates_none() {
        check(0, 1_000, &[0], "X");
    }

    #[test]
    fn s16_delays_double_within_a_fifth_and_never_pass_the_cap() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(Duration::ZERO, &mut random), Duration::ZERO);
        for n in 0..1_000_u32 {
            let whole = 50_u64.saturating_mul(1 << n.min(20));
            let delay = backoff.next(Duration::ZERO, &mut random);
            assert!(delay >= Duration::from_millis(whole * 8 / 10).min(CAP), "{n}: {delay:?}");
            assert!(delay <= Duration::from_millis(whole * 12 / 10).min(CAP), "{n}: {delay:?}");
        }
        backoff.attempts = u32::MAX;
        assert_eq!(backoff.next(Duration::ZERO, &mut random), CAP);
    }

    #[test]
    fn only_a_healthy_minute_begins_anew() {
        let mut random = fastrand::Rng::with_seed(7);
        let mut backoff = Backoff::default();
        let _ = backoff.next(Duration::ZERO, &mut random);
        let almost = HEALTHY_AFTER.saturating_sub(Duration::from_nanos(1));
        assert!(backoff.next(almost, &mut random) > Duration::ZERO);
        assert_eq!(backoff.next(HEALTHY_AFTER, &mut random), Duration::ZERO);
    }
}
