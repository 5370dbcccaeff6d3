//! How many orders may leave in one second: an exact sliding window.
//!
//! Comes in: the moments at which orders were let through. Goes out: whether one more may pass. What always
//! holds: no second-long window, wherever it begins, contains more orders than allowed.

use std::time::Duration;

use crate::clock::MonoNs;

/// The window.
const WINDOW: Duration = Duration::from_secs(1);

/// The last moments, as many as are allowed per second, in a ring.
#[derive(Clone, Debug)]
pub struct Throttle {
    moments: Box<[Option<MonoNs>]>,
    /// The oldest moment's place, which the next one takes.
    oldest: usize,
}

impl Throttle {
    /// A throttle that lets `per_s` orders pass in any second; 0 lets none pass.
    pub fn new(per_s: u32) -> Self {
        Self { moments: vec![None; per_s as usize].into_boxed_slice(), oldest: 0 }
    }

    /// Lets `per_s` orders pass in any second from now on; what passed in the last second still counts.
    pub fn allow(&mut self, per_s: u32) {
        let (newer, older) = (&self.moments[..self.oldest], &self.moments[self.oldest..]);
        let newest_first = newer.iter().rev().chain(older.iter().rev()).flatten();
        let mut moments: Vec<_> = newest_first.take(per_s as usize).copied().map(Some).collect();
        moments.resize(per_s as usize, None);
        moments.reverse();
        (self.moments, self.oldest) = (moments.into_boxed_slice(), 0);
    }

    /// Whether one more may pass at `now`.
    pub fn has_room(&self, now: MonoNs) -> bool {
        match self.moments.get(self.oldest) {
            None => false,
            Some(None) => true,
            Some(Some(then)) => now.since(*then) >= WINDOW,
        }
    }

    /// Counts one that passed at `now`.
    pub fn count(&mut self, now: MonoNs) {
        if let Some(place) = self.moments.get_mut(self.oldest) {
            *place = Some(now);
            self.oldest = (self.oldest + 1) % self.moments.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_allowed_number_per_second() {
        let mut throttle = Throttle::new(2);
        for ms in [0, 10] {
            assert!(throttle.has_room(MonoNs::from_millis(ms)));
            throttle.count(MonoNs::from_millis(ms));
        }
        assert!(!throttle.has_room(MonoNs::from_millis(999)));
        assert!(throttle.has_room(MonoNs::from_millis(1_000)));
        throttle.count(MonoNs::from_millis(1_000));
        assert!(!throttle.has_room(MonoNs::from_millis(1_009)));
        assert!(throttle.has_room(MonoNs::from_millis(1_010)));
    }

    #[test]
    fn zero_lets_nothing_pass() {
        assert!(!Throttle::new(0).has_room(MonoNs::from_millis(5_000)));
    }

    #[test]
    fn a_change_forgets_nobody() {
        let at = MonoNs::from_millis;
        let mut throttle = Throttle::new(3);
        for ms in [0, 100, 200, 1_100] {
            throttle.count(at(ms));
        }
        throttle.allow(2);
        assert!(!throttle.has_room(at(1_150)), "200 and 1,100 passed");
        assert!(throttle.has_room(at(1_200)));
        throttle.allow(4);
        for _ in 0..2 {
            assert!(throttle.has_room(at(1_199)));
            throttle.count(at(1_199));
        }
        assert!(!throttle.has_room(at(1_199)));
        throttle.allow(0);
        assert!(!throttle.has_room(at(9_000)));
    }

    proptest::proptest! {
        #[test]
        fn no_window_holds_more(steps in proptest::collection::vec(0_u64..400, 1..200), per_s in 1_u32..8) {
            let mut throttle = Throttle::new(per_s);
            let (mut ms, mut passed) = (0, Vec::new());
            for step in steps {
                ms += step;
                if throttle.has_room(MonoNs::from_millis(ms)) {
                    throttle.count(MonoNs::from_millis(ms));
                    passed.push(ms);
                }
            }
            for (i, from) in passed.iter().enumerate() {
                let within = passed[i..].iter().filter(|t| **t < from + 1_000).count();
                proptest::prop_assert!(within <= per_s as usize);
            }
        }
    }
}
