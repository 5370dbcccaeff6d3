//! How long to wait before connecting again.
//!
//! In: which attempt it is and a seed. Out: the delay. Always: 100 ms doubling to 10 s, spread by up to a fifth
//! so that many connections lost together do not come back together, and never above the cap.

use std::time::Duration;

use crate::clock::MonoNs;

/// The delay before the first further attempt.
const FIRST: Duration = Duration::from_millis(100);
/// No delay is longer.
const LONGEST: Duration = Duration::from_secs(10);
/// A connection that lived this long begins again at the first delay.
const SETTLED: Duration = Duration::from_secs(30);

/// The delay before attempt `attempt` (0 for the first one after a loss), jittered by up to 20 % either way as
/// `seed` decides, below the cap.
pub fn delay(attempt: u32, seed: u64) -> Duration {
    let base = FIRST.saturating_mul(1 << attempt.min(16)).min(LONGEST);
    let percent = fastrand::Rng::with_seed(seed ^ u64::from(attempt).rotate_left(32)).u32(80..=120);
    (base.saturating_mul(percent) / 100).min(LONGEST)
}

/// Counts attempts for one connection that is made again and again.
#[derive(Clone, Debug)]
pub struct Backoff {
    attempt: u32,
    seed: u64,
    connected: MonoNs,
}

impl Backoff {
    /// For one connection; connections with other seeds wait other delays.
    pub fn new(seed: u64) -> Self {
        Self { attempt: 0, seed, connected: MonoNs::NEVER }
    }

    /// The connection stands.
    pub fn connected(&mut self, now: MonoNs) {
        self.connected = now;
    }

    /// The connection, or the attempt to make one, was lost: when to try again.
    pub fn lost(&mut self, now: MonoNs) -> MonoNs {
        if now.since(self.connected) >= SETTLED {
            self.attempt = 0;
        }
        self.connected = MonoNs::NEVER;
        let at = now.after(delay(self.attempt, self.seed));
        self.attempt = self.attempt.saturating_add(1);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_within_a_fifth_and_below_the_cap() {
        for attempt in 0..40 {
            let base = Duration::from_millis(100 << attempt.min(7)).min(LONGEST);
            for seed in 0..50 {
                let got = delay(attempt, seed);
                assert!(
                    got >= base * 4 / 5 && got <= (base * 6 / 5).min(LONGEST),
                    "{attempt} {got:?}"
                );
                assert_eq!(got, delay(attempt, seed), "pure");
            }
        }
    }

    #[test]
    fn a_settled_connection_begins_again() {
        let mut backoff = Backoff::new(7);
        let t = MonoNs::from_millis(1_000);
        for _ in 0..10 {
            backoff.lost(t);
        }
        backoff.connected(t);
        assert!(backoff.lost(t.after(SETTLED / 2)).since(t) > Duration::from_secs(16), "unsettled");
        backoff.connected(t);
        assert_eq!(backoff.lost(t.after(SETTLED)).since(t.after(SETTLED)), delay(0, 7));
    }
}
