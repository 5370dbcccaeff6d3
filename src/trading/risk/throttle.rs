//! How many orders may leave in one second: an exact sliding window.
//!
//! Comes in: the moments at which orders were let through. Goes out: whether one more may pass. What always
//! holds: no second-long window, wherever it begins, contains more orders than allowed.

use std::time::Duration;

use crate::clock::MonoNs;

/// The window.
const WINDOW: Duration = Duration::from_secs(1);

/// The last moments, as many as were ever allowed per second, in a ring.
#[derive(Clone, Debug)]
pub struct Throttle {
    moments: Box<[Option<MonoNs>]>,
    /// The oldest moment's place, which the next one takes.
    oldest: usize,
    /// As many may pass in any second; never more than there are places.
    per_s: usize,
}

impl Throttle {
    /// A throttle that lets `per_s` orders pass in any second; 0 lets none pass.
    pub fn new(per_s: u32) -> Self {
        let per_s = per_s as usize;
        Self { moments: vec![None; per_s].into_boxed_slice(), oldest: 0, per_s }
    }

    /// Lets `per_s` orders pass in any second from now on; what passed in the last second still counts.
    pub fn limit_to(&mut self, per_s: u32) {
        self.per_s = per_s as usize;
        // The places stay when less is allowed: when it is more again, what passed meanwhile still counts.
        let more = self.per_s.saturating_sub(self.moments.len());
        if more > 0 {
            let (newer, older) = self.moments.split_at(self.oldest);
            let free = std::iter::repeat_n(None, more);
            let moments = free.chain(older.iter().copied()).chain(newer.iter().copied());
            (self.moments, self.oldest) = (moments.collect(), 0);
        }
    }

    /// Whether one more may pass at `now`.
    pub fn has_room(&self, now: MonoNs) -> bool {
        if self.per_s == 0 {
            return false;
        }
        let places = self.moments.len();
        let first = (self.oldest + places - self.per_s) % places;
        self.moments[first].is_none_or(|then| now.since(then) >= WINDOW)
    }

    /// Counts one that passed at `now`.
    pub fn count(&mut self, now: MonoNs) {
        if let Some(place) = self.moments.get_mut(self.oldest) {
            *place = Some(now);
            self.oldest = (self.oldest + 1) % self.moments.len();
        }
    }

    /// Counts as many as are allowed at the moment `then`: all that is known of what passed is when the last did.
    pub fn exhaust(&mut self, then: MonoNs) {
        for _ in 0..self.moments.len() {
            self.count(then);
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
        throttle.limit_to(2);
        assert!(!throttle.has_room(at(1_150)), "200 and 1,100 passed");
        assert!(throttle.has_room(at(1_200)));
        throttle.limit_to(4);
        for _ in 0..2 {
            assert!(throttle.has_room(at(1_199)));
            throttle.count(at(1_199));
        }
        assert!(!throttle.has_room(at(1_199)));
        throttle.limit_to(0);
        assert!(!throttle.has_room(at(9_000)));
    }

    #[test]
    fn less_and_then_more_forgets_nobody() {
        let at = MonoNs::from_millis;
        let mut throttle = Throttle::new(3);
        for ms in [0, 100, 200] {
            throttle.count(at(ms));
        }
        throttle.limit_to(1);
        assert!(!throttle.has_room(at(1_150)));
        throttle.limit_to(3);
        assert!(!throttle.has_room(at(999)), "three passed within the second");
        assert!(throttle.has_room(at(1_000)));
    }

    #[test]
    fn an_exhausted_throttle_rests_for_a_second() {
        let mut throttle = Throttle::new(3);
        throttle.exhaust(MonoNs::from_millis(500));
        assert!(!throttle.has_room(MonoNs::from_millis(1_499)));
        assert!(throttle.has_room(MonoNs::from_millis(1_500)));
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
