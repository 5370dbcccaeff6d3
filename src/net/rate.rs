//! At most so much in any window.
//!
//! In: what one wants to do, its weight and the time. Out: whether it may be done, else when to ask again.
//! Always: no window of the given length, wherever it begins, holds more than the limit, and at most
//! `limit` entries are remembered (one per granted call).

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::MonoNs;

/// A sliding-window limiter, for connection attempts and requests. All memory is taken at construction.
#[derive(Clone, Debug)]
pub struct RateLimit {
    limit: u32,
    window: Duration,
    used: u32,
    grants: VecDeque<(MonoNs, u32)>,
}

impl RateLimit {
    /// At most `limit` (at least 1) units of weight in any `window`.
    pub fn new(limit: u32, window: Duration) -> Self {
        let limit = limit.max(1);
        let grants =
            VecDeque::with_capacity(usize::try_from(limit).unwrap_or(usize::MAX).min(65_536));
        Self { limit, window, used: 0, grants }
    }

    /// Takes `weight` units (zero counts as one).
    ///
    /// # Errors
    /// The moment from which it may succeed; [`MonoNs::NEVER`] for a weight above the limit.
    pub fn take(&mut self, weight: u32, now: MonoNs) -> Result<(), MonoNs> {
        let weight = weight.max(1);
        self.forget(now);
        if weight > self.limit {
            return Err(MonoNs::NEVER);
        }
        if self.used.saturating_add(weight) > self.limit {
            return Err(self.free_at(weight));
        }
        self.used += weight;
        self.grants.push_back((now, weight));
        Ok(())
    }

    /// Units that could be taken now.
    pub fn left(&mut self, now: MonoNs) -> u32 {
        self.forget(now);
        self.limit - self.used
    }

    fn forget(&mut self, now: MonoNs) {
        while let Some((at, weight)) = self.grants.front().copied()
            && now >= at.after(self.window)
        {
            self.grants.pop_front();
            self.used -= weight;
        }
    }

    /// When enough of the oldest grants have left the window for `weight` to fit.
    fn free_at(&self, weight: u32) -> MonoNs {
        let mut used = self.used;
        for (at, granted) in &self.grants {
            used -= granted;
            if used.saturating_add(weight) <= self.limit {
                return at.after(self.window);
            }
        }
        MonoNs::NEVER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn refuses_and_says_until_when() {
        let mut rate = RateLimit::new(3, S);
        let t = MonoNs::from_millis;
        assert_eq!(rate.take(2, t(0)), Ok(()));
        assert_eq!(rate.take(1, t(500)), Ok(()));
        assert_eq!(rate.left(t(500)), 0);
        assert_eq!(rate.take(1, t(999)), Err(t(1_000)));
        assert_eq!(rate.take(3, t(999)), Err(t(1_500)));
        assert_eq!(rate.take(2, t(1_000)), Ok(()));
        assert_eq!(rate.take(4, t(9_000)), Err(MonoNs::NEVER));
    }

    proptest::proptest! {
        #[test]
        fn no_window_holds_more(asks in proptest::collection::vec((0u64..400, 1u32..5), 1..200)) {
            let mut rate = RateLimit::new(5, S);
            let (mut now, mut granted) = (0, Vec::new());
            for (step, weight) in asks {
                now += step;
                if rate.take(weight, MonoNs::from_millis(now)).is_ok() {
                    granted.push((now, weight));
                }
                let recent: u32 = granted.iter().filter(|(at, _)| at + 1_000 > now).map(|(_, w)| w).sum();
                proptest::prop_assert!(recent <= 5);
            }
        }
    }
}
