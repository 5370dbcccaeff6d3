//! Candles of one symbol, in four bounded rings: seconds, minutes, quarters of an hour and days; every other interval
//! is put together from these when somebody asks. In: trades, the time. Out: candles of any interval and time zone.
//!
//! Invariants: a ring has no holes (what nobody traded is a flat candle at the last price), never grows beyond its
//! bound, and a coarser ring says the same as the finer ones where both reach.

use std::collections::VecDeque;

use super::listing::Print;
use super::order::notional;

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
/// Milliseconds of a day.
pub const DAY_MS: i64 = 24 * HOUR_MS;

/// Width of each ring's candles, and how many it keeps: an hour of seconds, a week of minutes and a bit, a month of
/// quarters, nearly three years of days.
const RINGS: [(i64, usize); 4] =
    [(SECOND_MS, 3_600), (MINUTE_MS, 10_200), (15 * MINUTE_MS, 3_072), (DAY_MS, 1_000)];

/// The ring of minutes, the finest that invented history has throughout.
pub(super) const MINUTES: usize = 1;

/// The intervals by name, with their width; weeks begin on Monday, months have their own length.
const INTERVALS: [(&str, i64); 16] = [
    ("1s", SECOND_MS),
    ("1m", MINUTE_MS),
    ("3m", 3 * MINUTE_MS),
    ("5m", 5 * MINUTE_MS),
    ("15m", 15 * MINUTE_MS),
    ("30m", 30 * MINUTE_MS),
    ("1h", HOUR_MS),
    ("2h", 2 * HOUR_MS),
    ("4h", 4 * HOUR_MS),
    ("6h", 6 * HOUR_MS),
    ("8h", 8 * HOUR_MS),
    ("12h", 12 * HOUR_MS),
    ("1d", DAY_MS),
    ("3d", 3 * DAY_MS),
    ("1w", 7 * DAY_MS),
    ("1M", 0),
];

/// Monday after the epoch, a Thursday.
const FIRST_MONDAY_MS: i64 = 4 * DAY_MS;

/// How long a candle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Interval(u8);

/// What was traded in a span of time; prices and amounts in units of `10^-8`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candle {
    /// When it begins, in milliseconds since the epoch.
    pub open_ms: i64,
    /// Price of the first trade; the last price before when there was none.
    pub open: i64,
    /// Highest price.
    pub high: i64,
    /// Lowest price.
    pub low: i64,
    /// Price of the last trade.
    pub close: i64,
    /// Base that was traded.
    pub volume: i128,
    /// Quote that was traded.
    pub quote: i128,
    /// Base that was bought by who took.
    pub taker_base: i128,
    /// Quote that was paid by who took.
    pub taker_quote: i128,
    /// Trades.
    pub count: u64,
    /// Id of the first trade; meaningless without any.
    pub first_id: u64,
    /// Id of the last trade; meaningless without any.
    pub last_id: u64,
}

/// The candles of one symbol.
#[derive(Clone, Debug)]
pub struct History {
    rings: [VecDeque<Candle>; 4],
}

impl Interval {
    /// The interval of this name, which is case-sensitive.
    pub fn named(name: &str) -> Option<Self> {
        let at = INTERVALS.iter().position(|(known, _)| *known == name)?;
        u8::try_from(at).ok().map(Self)
    }

    /// Every interval, shortest first.
    pub fn all() -> impl Iterator<Item = Self> {
        INTERVALS.iter().filter_map(|(name, _)| Self::named(name))
    }

    /// One day.
    pub fn day() -> Self {
        Self(12)
    }

    /// As clients write it.
    pub fn name(self) -> &'static str {
        INTERVALS[usize::from(self.0)].0
    }

    /// Whether it is one second, which streams tell twice as often.
    pub fn is_second(self) -> bool {
        self.0 == 0
    }

    /// When the candle that holds `ms` begins, where clocks are `offset_ms` ahead of UTC.
    pub fn begin(self, ms: i64, offset_ms: i64) -> i64 {
        let local = ms.saturating_add(offset_ms);
        let begin = match INTERVALS[usize::from(self.0)] {
            (_, 0) => month_begin(local, 0),
            ("1w", width) => (local - FIRST_MONDAY_MS).div_euclid(width) * width + FIRST_MONDAY_MS,
            (_, width) => local.div_euclid(width) * width,
        };
        begin - offset_ms
    }

    /// When the candle after the one that begins at `begin_ms` begins.
    pub fn next(self, begin_ms: i64, offset_ms: i64) -> i64 {
        match INTERVALS[usize::from(self.0)].1 {
            0 => month_begin(begin_ms + offset_ms, 1) - offset_ms,
            width => begin_ms + width,
        }
    }

    /// The coarsest ring whose candles fit into this interval in that time zone.
    fn ring(self, offset_ms: i64) -> usize {
        let width = match INTERVALS[usize::from(self.0)].1 {
            0 => DAY_MS,
            width => width,
        };
        let fits = |of: i64| width % of == 0 && offset_ms % of == 0;
        RINGS.iter().rposition(|(of, _)| fits(*of)).unwrap_or(0)
    }
}

/// When the month of a local time begins, `later` months later. By the calendar arithmetic of March-based years.
fn month_begin(local_ms: i64, later: i64) -> i64 {
    let days = local_ms.div_euclid(DAY_MS) + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Months counted from March of year 0.
    let month = (era * 400 + year) * 12 + (5 * of_year + 2) / 153 + later;
    let (year, month) = (month.div_euclid(12), month.rem_euclid(12));
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let days = of_era * 365 + of_era / 4 - of_era / 100 + (153 * month + 2) / 5;
    (era * 146_097 + days - 719_468) * DAY_MS
}

impl Candle {
    /// A span in which nobody traded.
    pub fn flat(open_ms: i64, price: i64) -> Self {
        Self { open_ms, open: price, high: price, low: price, close: price, ..Self::default() }
    }

    /// One trade at a moment of the venue's clock.
    pub fn of(print: &Print, at_ms: i64) -> Self {
        let quote = notional(print.price, print.qty);
        let volume = i128::from(print.qty);
        let taken = if print.buyer_maker { (0, 0) } else { (volume, quote) };
        Self {
            volume,
            quote,
            taker_base: taken.0,
            taker_quote: taken.1,
            count: 1,
            first_id: print.id,
            last_id: print.id,
            ..Self::flat(at_ms, print.price)
        }
    }

    /// Adds what happened later in the same span.
    pub fn add(&mut self, later: &Self) {
        if later.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = Self { open_ms: self.open_ms, ..*later };
            return;
        }
        self.high = self.high.max(later.high);
        self.low = self.low.min(later.low);
        self.close = later.close;
        self.volume += later.volume;
        self.quote += later.quote;
        self.taker_base += later.taker_base;
        self.taker_quote += later.taker_quote;
        self.count += later.count;
        self.last_id = later.last_id;
    }

    /// The average price by volume; the close when nobody traded.
    pub fn average(&self) -> i64 {
        if self.volume == 0 {
            return self.close;
        }
        i64::try_from(self.quote * 100_000_000 / self.volume).unwrap_or(i64::MAX)
    }
}

impl Default for History {
    fn default() -> Self {
        Self { rings: std::array::from_fn(|_| VecDeque::new()) }
    }
}

impl History {
    /// Adds a trade that happened at `at_ms`.
    pub fn add(&mut self, print: &Print, at_ms: i64) {
        self.add_candle(0, &Candle::of(print, at_ms));
    }

    /// Adds a candle to the ring of its width, `finest`, and to all coarser ones.
    pub(super) fn add_candle(&mut self, finest: usize, candle: &Candle) {
        for (at, (width, _)) in RINGS.iter().enumerate().skip(finest) {
            self.advance_ring(at, candle.open_ms);
            let ring = &mut self.rings[at];
            match ring.back_mut() {
                Some(last) => last.add(candle),
                None => {
                    let open_ms = candle.open_ms.div_euclid(*width) * width;
                    ring.push_back(Candle { open_ms, ..*candle });
                }
            }
        }
    }

    /// Time passes: candles begin, flat until somebody trades.
    pub fn advance(&mut self, now_ms: i64) {
        for at in 0..RINGS.len() {
            self.advance_ring(at, now_ms);
        }
    }

    fn advance_ring(&mut self, at: usize, now_ms: i64) {
        let (width, most) = RINGS[at];
        let ring = &mut self.rings[at];
        let Some(last) = ring.back() else { return };
        let (price, begun) = (last.close, last.open_ms);
        let now = now_ms.div_euclid(width) * width;
        let reach = width * i64::try_from(most).unwrap_or(0);
        // After a very long silence only the end of it is kept.
        let mut next = (begun + width).max(now - reach + width);
        if next > begun + width {
            ring.clear();
        }
        while next <= now {
            if ring.len() >= most {
                ring.pop_front();
            }
            ring.push_back(Candle::flat(next, price));
            next += width;
        }
    }

    /// The last candle that has begun; `None` before the first trade.
    pub fn last(&self) -> Option<&Candle> {
        self.rings[0].back()
    }

    /// Everything in `[from_ms, to_ms)` as one candle that begins at `from_ms`; `None` when the ring has nothing
    /// there.
    fn fold(&self, ring: usize, from_ms: i64, to_ms: i64) -> Option<Candle> {
        let width = RINGS[ring].0;
        let candles = &self.rings[ring];
        let first = candles.front()?.open_ms;
        let index = |ms: i64| {
            let at = (ms.max(first) - first + width - 1) / width;
            usize::try_from(at).map_or(candles.len(), |at| at.min(candles.len()))
        };
        let mut span = candles.range(index(from_ms)..index(to_ms).max(index(from_ms)));
        let mut whole = Candle { open_ms: from_ms, ..*span.next()? };
        span.for_each(|candle| whole.add(candle));
        Some(whole)
    }

    /// What was traded from the minute of `from_ms` on.
    pub fn since(&self, from_ms: i64) -> Option<Candle> {
        let from_ms = from_ms.div_euclid(MINUTE_MS) * MINUTE_MS;
        self.fold(MINUTES, from_ms, i64::MAX - MINUTE_MS)
    }

    /// The last price before the minute of `ms`; `None` when history does not reach back so far.
    pub fn price_before(&self, ms: i64) -> Option<i64> {
        let end = ms.div_euclid(MINUTE_MS) * MINUTE_MS;
        self.fold(MINUTES, end - MINUTE_MS, end).map(|candle| candle.close)
    }

    /// The candle of `interval` that holds `ms`.
    pub fn at(&self, interval: Interval, offset_ms: i64, ms: i64) -> Option<Candle> {
        let begin = interval.begin(ms, offset_ms);
        self.fold(interval.ring(offset_ms), begin, interval.next(begin, offset_ms))
    }

    /// At most `limit` candles, oldest first, that begin in `[start_ms, end_ms]`: the first ones when there is a
    /// start, the last ones otherwise.
    pub fn candles(
        &self,
        interval: Interval,
        offset_ms: i64,
        (start_ms, end_ms): (Option<i64>, Option<i64>),
        limit: usize,
    ) -> Vec<Candle> {
        let ring = interval.ring(offset_ms);
        let (Some(first), Some(last)) = (self.rings[ring].front(), self.rings[ring].back()) else {
            return Vec::new();
        };
        let up = |ms: i64| {
            let begin = interval.begin(ms, offset_ms);
            if begin < ms { interval.next(begin, offset_ms) } else { begin }
        };
        // Of a candle whose beginning was forgotten the rest would tell less than what happened.
        let forgets = self.rings[ring].len() >= RINGS[ring].1;
        let begun = interval.begin(first.open_ms, offset_ms);
        let oldest = if forgets { up(first.open_ms) } else { begun };
        let newest = interval.begin(end_ms.unwrap_or(i64::MAX).min(last.open_ms), offset_ms);
        let from = match start_ms {
            Some(start) => up(start.clamp(oldest, last.open_ms + DAY_MS * 40)).max(oldest),
            None => {
                let mut from = newest;
                for _ in 1..limit {
                    from = interval.begin(from - 1, offset_ms);
                    if from <= oldest {
                        break;
                    }
                }
                from.max(oldest)
            }
        };
        let begins = std::iter::successors(Some(from), |at| Some(interval.next(*at, offset_ms)));
        begins
            .take_while(|begin| *begin <= newest)
            .take(limit)
            .filter_map(|begin| self.fold(ring, begin, interval.next(begin, offset_ms)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn begins(name: &str, ms: i64, offset_hours: i64, expect: i64, next: i64) {
        let interval = Interval::named(name).expect("an interval");
        let offset = offset_hours * HOUR_MS;
        let begin = interval.begin(ms, offset);
        assert_eq!((begin, interval.next(begin, offset)), (expect, next), "{name}");
    }

    #[test]
    fn candles_begin_by_the_calendar() {
        // 2024-02-29T12:34:56.789Z, a Thursday.
        let ms = 1_709_210_096_789;
        begins("1s", ms, 0, 1_709_210_096_000, 1_709_210_097_000);
        begins("1h", ms, 0, 1_709_208_000_000, 1_709_211_600_000);
        begins("1d", ms, 0, 1_709_164_800_000, 1_709_251_200_000);
        begins("1d", ms, 8, 1_709_136_000_000, 1_709_222_400_000);
        begins("1w", ms, 0, 1_708_905_600_000, 1_709_510_400_000);
        begins("1M", ms, 0, 1_706_745_600_000, 1_709_251_200_000);
        assert_eq!(Interval::named("7m"), None);
        assert_eq!(Interval::named("1M").map(Interval::name), Some("1M"));
    }

    #[test]
    fn silence_is_flat_and_bounded() {
        let print = |id: u64, price: i64| Print {
            id,
            price,
            qty: 100_000_000,
            buyer_maker: false,
            time: crate::clock::UtcNs::default(),
            taker: 1,
        };
        let mut history = History::default();
        history.add(&print(1, 5), 500);
        history.add(&print(2, 7), 3_500);
        let seconds = Interval::named("1s").expect("an interval");
        let all = history.candles(seconds, 0, (None, None), 10);
        let told: Vec<_> = all.iter().map(|c| (c.open_ms, c.close, c.count)).collect();
        assert_eq!(told, [(0, 5, 1), (1_000, 5, 0), (2_000, 5, 0), (3_000, 7, 1)]);
        history.advance(1_000 * DAY_MS * 400);
        for (at, (_, most)) in RINGS.iter().enumerate() {
            assert_eq!(history.rings[at].len(), *most);
        }
        assert_eq!(history.since(0).map(|c| (c.open, c.count)), Some((7, 0)));
    }
}
