//! What a thread does when there is nothing to do.
//!
//! A turn's outcome comes in; out comes whether to spin, yield or park, and for how long at most. Deciding is pure;
//! the host does what is decided. Every rest ends on a wake-up, so that stopping never waits for a timeout.

use std::time::Duration;

/// How a host rests between turns without work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleStrategy {
    /// Never rests: the shortest reaction, a whole core. Only on a core of its own.
    Spin,
    /// Spins, then yields, then parks for doubling spans.
    Backoff {
        /// Turns that only spin.
        spins: u32,
        /// Turns that yield the core.
        yields: u32,
        /// The first park.
        park_min: Duration,
        /// The longest park.
        park_max: Duration,
    },
    /// Parks at once until a mailbox, a socket or a timer has something.
    Park {
        /// The longest park: how late something that wakes nobody can be noticed.
        max: Duration,
    },
}

impl IdleStrategy {
    /// Aeron's defaults: 10 spins, 20 yields, parks from 1 us to 1 ms.
    pub const BACKOFF: Self = Self::Backoff {
        spins: 10,
        yields: 20,
        park_min: Duration::from_micros(1),
        park_max: Duration::from_millis(1),
    };

    /// Parks of at most 50 ms.
    pub const PARK: Self = Self::Park { max: Duration::from_millis(50) };

    /// The word used in status and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Spin => "spin",
            Self::Backoff { .. } => "backoff",
            Self::Park { .. } => "park",
        }
    }

    /// The one of two that reacts sooner.
    #[must_use]
    pub(super) fn least_restful(self, other: Self) -> Self {
        match (self, other) {
            (Self::Spin, _) | (_, Self::Spin) => Self::Spin,
            (b @ Self::Backoff { .. }, _) | (_, b @ Self::Backoff { .. }) => b,
            (Self::Park { max: a }, Self::Park { max: b }) => Self::Park { max: a.min(b) },
        }
    }
}

impl Default for IdleStrategy {
    fn default() -> Self {
        Self::PARK
    }
}

/// What to do after an idle turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// Nothing but a hint to the processor.
    Spin,
    /// Let another thread run.
    Yield,
    /// Park for at most this long.
    Park(Duration),
}

/// Counts idle turns in a row and decides how to rest.
#[derive(Debug)]
pub(super) struct Idler {
    strategy: IdleStrategy,
    idle_turns: u32,
}

impl Idler {
    pub(super) fn new(strategy: IdleStrategy) -> Self {
        Self { strategy, idle_turns: 0 }
    }

    /// There was work: begin anew.
    pub(super) fn busy(&mut self) {
        self.idle_turns = 0;
    }

    /// There was none: how to rest.
    pub(super) fn idle(&mut self) -> Rest {
        match self.strategy {
            IdleStrategy::Spin => Rest::Spin,
            IdleStrategy::Park { max } => Rest::Park(max),
            IdleStrategy::Backoff { spins, yields, park_min, park_max } => {
                let n = self.idle_turns;
                self.idle_turns = n.saturating_add(1);
                if n < spins {
                    return Rest::Spin;
                }
                if n - spins < yields {
                    return Rest::Yield;
                }
                let doublings = (n - spins - yields).min(30);
                Rest::Park(park_min.saturating_mul(1 << doublings).min(park_max))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spin_never_rests() {
        let mut idler = Idler::new(IdleStrategy::Spin);
        assert!((0..1_000).all(|_| idler.idle() == Rest::Spin));
    }

    #[test]
    fn backoff_spins_yields_then_parks_longer_and_longer() {
        let mut idler = Idler::new(IdleStrategy::Backoff {
            spins: 2,
            yields: 1,
            park_min: Duration::from_micros(1),
            park_max: Duration::from_micros(3),
        });
        let us = |n| Rest::Park(Duration::from_micros(n));
        let seen: Vec<Rest> = (0..6).map(|_| idler.idle()).collect();
        assert_eq!(seen, [Rest::Spin, Rest::Spin, Rest::Yield, us(1), us(2), us(3)]);
        idler.busy();
        assert_eq!(idler.idle(), Rest::Spin);
    }

    #[test]
    fn backoff_counts_for_ever_without_overflow() {
        let mut idler = Idler::new(IdleStrategy::BACKOFF);
        idler.idle_turns = u32::MAX;
        assert_eq!(idler.idle(), Rest::Park(Duration::from_millis(1)));
    }

    #[test]
    fn a_shared_host_reacts_as_its_quickest_seat() {
        let park = |ms| IdleStrategy::Park { max: Duration::from_millis(ms) };
        assert_eq!(park(5).least_restful(park(3)), park(3));
        assert_eq!(park(5).least_restful(IdleStrategy::BACKOFF), IdleStrategy::BACKOFF);
        assert_eq!(IdleStrategy::BACKOFF.least_restful(IdleStrategy::Spin), IdleStrategy::Spin);
    }
}
