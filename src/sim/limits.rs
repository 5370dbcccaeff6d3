//! The limits of the venue: request weight of everybody, unfilled orders of each account. In: what is used. Out:
//! refusals with 429, and 418 for who goes on; after the documentation's LIMITS and its FAQ on unfilled orders.

use crate::clock::UtcNs;

use super::refusal::{Answer, Refusal};

/// Refused requests in one minute after which the venue bans; the documentation names no number.
const BAN_AFTER: u32 = 20;

/// The first ban; each further one is twice as long.
const BAN_MS: i64 = 2 * 60_000;

/// The longest ban.
const BAN_MAX_MS: i64 = 3 * 86_400_000;

/// In which requests are counted whatever they weigh.
const RAW_MS: i64 = 5 * 60_000;

/// How many orders a first fill takes off the count when the order rested before.
const FILLED_AS_MAKER: u32 = 5;

/// How much is allowed; exchangeInfo, account answers and headers tell these numbers. The defaults are the real
/// venue's; a test that needs more raises them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Request weight per minute.
    pub weight_per_minute: u32,
    /// Unfilled orders per account and ten seconds.
    pub orders_per_10s: u32,
    /// Unfilled orders per account and day.
    pub orders_per_day: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self { weight_per_minute: 6_000, orders_per_10s: 100, orders_per_day: 200_000 }
    }
}

impl RateLimits {
    /// Requests, whatever they weigh, per five minutes: the venue's number, and more where more weight is allowed.
    pub fn raw_requests_per_5m(&self) -> u32 {
        self.weight_per_minute.saturating_mul(50)
    }
}

/// Request weight used in the present minute.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    minute: i64,
    weight: u32,
    /// The present five minutes, and the requests in them.
    raw: (i64, u32),
    refused: u32,
    banned_until_ms: i64,
    bans: u32,
}

impl Usage {
    /// The weight used in the present minute.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Whether who goes on is banned now.
    pub fn is_banned(&self, utc: UtcNs) -> bool {
        utc.as_millis() < self.banned_until_ms
    }

    /// Counts a REST request, whatever it weighs.
    ///
    /// # Errors
    /// `429` beyond the limit.
    pub fn request(&mut self, limits: &RateLimits, utc: UtcNs) -> Answer<()> {
        let window = utc.as_millis().div_euclid(RAW_MS);
        if window != self.raw.0 {
            self.raw = (window, 0);
        }
        self.raw.1 = self.raw.1.saturating_add(1);
        if self.raw.1 <= limits.raw_requests_per_5m() {
            return Ok(());
        }
        let until = (window + 1) * RAW_MS;
        Err(Refusal::limited(429, -1003, "Too many requests queued.".to_owned(), until))
    }

    /// Takes back what a request weighed: orders and cancels that succeed weigh nothing.
    pub fn forgive(&mut self, weight: u32) {
        self.weight = self.weight.saturating_sub(weight);
    }

    /// Counts a request.
    ///
    /// # Errors
    /// `429` beyond the limit, `418` for who goes on.
    pub fn weigh(&mut self, weight: u32, limits: &RateLimits, utc: UtcNs) -> Answer<()> {
        let now_ms = utc.as_millis();
        let minute = now_ms.div_euclid(60_000);
        if minute != self.minute {
            (self.minute, self.weight, self.refused) = (minute, 0, 0);
        }
        if now_ms < self.banned_until_ms {
            return Err(banned(self.banned_until_ms));
        }
        self.weight = self.weight.saturating_add(weight);
        if self.weight <= limits.weight_per_minute {
            return Ok(());
        }
        self.refused += 1;
        if self.refused > BAN_AFTER {
            let ban_ms = (BAN_MS << self.bans.min(20)).min(BAN_MAX_MS);
            self.bans += 1;
            self.refused = 0;
            self.banned_until_ms = now_ms.saturating_add(ban_ms);
            return Err(banned(self.banned_until_ms));
        }
        let msg = format!(
            "Too much request weight used; current limit is {} request weight per 1 MINUTE. Please use WebSocket \
             Streams for live updates to avoid polling the API.",
            limits.weight_per_minute
        );
        Err(Refusal::limited(429, -1003, msg, (minute + 1) * 60_000))
    }
}

fn banned(until_ms: i64) -> Refusal {
    let msg = format!(
        "Way too much request weight used; IP banned until {until_ms}. Please use WebSocket Streams for live updates \
         to avoid bans."
    );
    Refusal::limited(418, -1003, msg, until_ms)
}

/// Unfilled orders of an account in the present windows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderCounts {
    ten_seconds: (i64, u32),
    day: (i64, u32),
}

const TEN_SECONDS_MS: i64 = 10_000;
const DAY_MS: i64 = 86_400_000;

impl OrderCounts {
    fn roll(&mut self, utc: UtcNs) {
        let now_ms = utc.as_millis();
        for (window, length) in [(&mut self.ten_seconds, TEN_SECONDS_MS), (&mut self.day, DAY_MS)] {
            let at = now_ms.div_euclid(length);
            if window.0 != at {
                *window = (at, 0);
            }
        }
    }

    /// Unfilled orders in the present ten seconds and in the present day.
    pub fn at(mut self, utc: UtcNs) -> (u32, u32) {
        self.roll(utc);
        (self.ten_seconds.1, self.day.1)
    }

    /// Whether one more order is allowed.
    ///
    /// # Errors
    /// `429` with `-1015`.
    pub fn check(self, limits: &RateLimits, utc: UtcNs) -> Answer<()> {
        let (ten_seconds, day) = self.at(utc);
        let refuse = |limit: u32, window: &str, length: i64| {
            let msg = format!("Too many new orders; current limit is {limit} orders per {window}.");
            let until = (utc.as_millis().div_euclid(length) + 1) * length;
            Err(Refusal::limited(429, -1015, msg, until))
        };
        if day >= limits.orders_per_day {
            return refuse(limits.orders_per_day, "1 DAY", DAY_MS);
        }
        if ten_seconds >= limits.orders_per_10s {
            return refuse(limits.orders_per_10s, "10 SECOND", TEN_SECONDS_MS);
        }
        Ok(())
    }

    /// Counts an order.
    pub fn add(&mut self, utc: UtcNs) {
        self.roll(utc);
        self.ten_seconds.1 += 1;
        self.day.1 += 1;
    }

    /// An order traded for the first time.
    pub fn first_fill(&mut self, maker: bool, utc: UtcNs) {
        self.roll(utc);
        let by = if maker { FILLED_AS_MAKER } else { 1 };
        self.ten_seconds.1 = self.ten_seconds.1.saturating_sub(by);
        self.day.1 = self.day.1.saturating_sub(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> UtcNs {
        UtcNs::from_millis(ms)
    }

    #[test]
    fn weight_is_refused_then_banned_then_forgiven() {
        let limits = RateLimits { weight_per_minute: 10, ..RateLimits::default() };
        let mut usage = Usage::default();
        assert_eq!(usage.weigh(10, &limits, at(60_000)), Ok(()));
        for _ in 0..BAN_AFTER {
            let refusal = usage.weigh(1, &limits, at(60_500)).expect_err("too much");
            assert_eq!((refusal.status, refusal.retry_after_ms), (429, Some(120_000)));
        }
        let refusal = usage.weigh(1, &limits, at(61_000)).expect_err("way too much");
        assert_eq!((refusal.status, refusal.retry_after_ms), (418, Some(181_000)));
        assert_eq!(usage.weigh(1, &limits, at(180_999)).expect_err("still").status, 418);
        assert_eq!(usage.weigh(1, &limits, at(181_000)), Ok(()));
    }

    #[test]
    fn fills_make_room_for_orders() {
        let limits = RateLimits { orders_per_10s: 2, ..RateLimits::default() };
        let mut counts = OrderCounts::default();
        counts.add(at(1));
        counts.add(at(2));
        let refusal = counts.check(&limits, at(3)).expect_err("too many");
        assert_eq!(
            (refusal.status, refusal.code, refusal.retry_after_ms),
            (429, -1015, Some(10_000))
        );
        counts.first_fill(false, at(4));
        assert_eq!((counts.check(&limits, at(5)), counts.at(at(5))), (Ok(()), (1, 1)));
        counts.first_fill(true, at(6));
        assert_eq!(counts.at(at(7)), (0, 0));
        counts.add(at(8));
        assert_eq!(counts.at(at(10_000)), (0, 1));
    }
}
