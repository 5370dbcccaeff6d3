//! Price statistics over a span of time and how they look on the wire. In: a listing that knows the time. Out: the
//! numbers of the `ticker` requests and streams, as JSON with the fields, and in the order, of the documentation.
//!
//! Statistics are made of minutes: a window begins with the minute that its first moment lies in.

use crate::clock::UtcNs;

use super::candles::{Candle, DAY_MS, Interval};
use super::json::Json;
use super::listing::Listing;

const MINUTE_MS: i64 = 60_000;

/// What is told about a span of time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statistics {
    /// The span as one candle.
    candle: Candle,
    /// The last price before it.
    before: i64,
    last_qty: i64,
    open_ms: i64,
    close_ms: i64,
}

/// Which fields a `ticker` request gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `FULL`, without the book.
    Full,
    /// `FULL` of `ticker/24hr`.
    FullWithBook,
    /// `MINI`.
    Mini,
}

impl Statistics {
    /// From `open_ms` to `close_ms`, as they are told.
    fn new(listing: &Listing, open_ms: i64, close_ms: i64) -> Self {
        let flat = || Candle::flat(open_ms, listing.last_price);
        let candle = listing.history().since(open_ms).unwrap_or_else(flat);
        let before = listing.history().price_before(open_ms).unwrap_or(candle.open);
        let last_qty = listing.tape().back().map_or(0, |print| print.qty);
        Self { candle, before, last_qty, open_ms, close_ms }
    }

    /// The last 24 hours.
    pub(super) fn day(listing: &Listing, utc: UtcNs) -> Self {
        Self::new(listing, utc.as_millis() - DAY_MS, utc.as_millis())
    }

    /// The last `window_ms` and what is missing of the minute in which that begins.
    pub(super) fn rolling(listing: &Listing, window_ms: i64, utc: UtcNs) -> Self {
        let open_ms = (utc.as_millis() - window_ms).div_euclid(MINUTE_MS) * MINUTE_MS;
        Self::new(listing, open_ms, utc.as_millis())
    }

    /// The calendar day of a time zone.
    pub(super) fn trading_day(listing: &Listing, offset_ms: i64, utc: UtcNs) -> Self {
        let open_ms = Interval::day().begin(utc.as_millis(), offset_ms);
        Self::new(listing, open_ms, open_ms + DAY_MS - 1)
    }

    fn change(&self) -> i64 {
        self.candle.close - self.candle.open
    }

    /// The relative change in percent, with three digits.
    fn percent(&self) -> String {
        let open = i128::from(self.candle.open.max(1));
        let thousandths =
            (i128::from(self.change()) * 200_000 / open + i128::from(self.change().signum())) / 2;
        let sign = if thousandths < 0 { "-" } else { "" };
        let size = thousandths.unsigned_abs();
        format!("{sign}{}.{:03}", size / 1_000, size % 1_000)
    }

    /// First and last trade id; the venue says -1 when there was no trade.
    fn ids(&self) -> (i64, i64) {
        let id = |id: u64| i64::try_from(id).unwrap_or(i64::MAX);
        if self.candle.count == 0 {
            return (-1, -1);
        }
        (id(self.candle.first_id), id(self.candle.last_id))
    }

    /// The answer of a `ticker` request about one symbol.
    pub(super) fn write(&self, j: &mut Json, listing: &Listing, form: Form) {
        let candle = &self.candle;
        let ids = self.ids();
        let scale = j.unit().per_ms();
        j.obj(|j| {
            j.f_text("symbol", &listing.rules.symbol);
            if form != Form::Mini {
                j.f_dec("priceChange", self.change())
                    .f_text("priceChangePercent", &self.percent())
                    .f_dec("weightedAvgPrice", candle.average());
            }
            if form == Form::FullWithBook {
                let top = listing.top();
                let (bid, ask) = (top.bid.unwrap_or_default(), top.ask.unwrap_or_default());
                j.f_dec("prevClosePrice", self.before)
                    .f_dec("lastPrice", candle.close)
                    .f_dec("lastQty", self.last_qty)
                    .f_dec("bidPrice", bid.0)
                    .f_dec("bidQty", bid.1)
                    .f_dec("askPrice", ask.0)
                    .f_dec("askQty", ask.1);
            }
            j.f_dec("openPrice", candle.open)
                .f_dec("highPrice", candle.high)
                .f_dec("lowPrice", candle.low);
            if form != Form::FullWithBook {
                j.f_dec("lastPrice", candle.close);
            }
            j.f_dec("volume", candle.volume)
                .f_dec("quoteVolume", candle.quote)
                .f_int("openTime", self.open_ms * scale)
                .f_int("closeTime", self.close_ms * scale)
                .f_int("firstId", ids.0)
                .f_int("lastId", ids.1)
                .f_int("count", candle.count);
        });
    }

    /// The event of `@miniTicker`.
    pub(super) fn mini_event(&self, symbol: &str, event_time: i64) -> String {
        let candle = &self.candle;
        Json::object(|j| {
            j.f_text("e", "24hrMiniTicker")
                .f_int("E", event_time)
                .f_text("s", symbol)
                .f_dec("c", candle.close)
                .f_dec("o", candle.open)
                .f_dec("h", candle.high)
                .f_dec("l", candle.low)
                .f_dec("v", candle.volume)
                .f_dec("q", candle.quote);
        })
    }

    /// The event of `@ticker`; `scale` is 1,000 where times are told in microseconds.
    pub(super) fn day_event(&self, listing: &Listing, event_time: i64, scale: i64) -> String {
        let candle = &self.candle;
        let top = listing.top();
        let (bid, ask) = (top.bid.unwrap_or_default(), top.ask.unwrap_or_default());
        Json::object(|j| {
            j.f_text("e", "24hrTicker")
                .f_int("E", event_time)
                .f_text("s", &listing.rules.symbol)
                .f_dec("p", self.change())
                .f_text("P", &self.percent())
                .f_dec("w", candle.average())
                .f_dec("x", self.before)
                .f_dec("c", candle.close)
                .f_dec("Q", self.last_qty)
                .f_dec("b", bid.0)
                .f_dec("B", bid.1)
                .f_dec("a", ask.0)
                .f_dec("A", ask.1)
                .f_dec("o", candle.open)
                .f_dec("h", candle.high)
                .f_dec("l", candle.low);
            self.tail(j, scale);
        })
    }

    /// The event of `@ticker_<window>`.
    pub(super) fn window_event(
        &self,
        listing: &Listing,
        window: &str,
        event_time: i64,
        scale: i64,
    ) -> String {
        let candle = &self.candle;
        Json::object(|j| {
            j.f_text("e", &format!("{window}Ticker"))
                .f_int("E", event_time)
                .f_text("s", &listing.rules.symbol)
                .f_dec("p", self.change())
                .f_text("P", &self.percent())
                .f_dec("o", candle.open)
                .f_dec("h", candle.high)
                .f_dec("l", candle.low)
                .f_dec("c", candle.close)
                .f_dec("w", candle.average());
            self.tail(j, scale);
        })
    }

    fn tail(&self, j: &mut Json, scale: i64) {
        let ids = self.ids();
        j.f_dec("v", self.candle.volume)
            .f_dec("q", self.candle.quote)
            .f_int("O", self.open_ms * scale)
            .f_int("C", self.close_ms * scale)
            .f_int("F", ids.0)
            .f_int("L", ids.1)
            .f_int("n", self.candle.count);
    }
}

/// The minutes that `avgPrice` looks back over.
pub(super) const AVERAGE_MINS: i64 = 5;

/// The average price, and when the last trade was in milliseconds.
pub(super) fn average(listing: &Listing, utc: UtcNs) -> (i64, UtcNs) {
    let from = utc.as_millis() - AVERAGE_MINS * MINUTE_MS;
    let price = listing.history().since(from).map_or(listing.last_price, |c| c.average());
    (price, listing.tape().back().map_or(utc, |print| print.time))
}

/// Writes a candle that ends before `next_ms` as the twelve-element array of `klines`.
pub(super) fn candle_array(j: &mut Json, candle: &Candle, next_ms: i64) {
    let scale = j.unit().per_ms();
    j.arr(|j| {
        j.int(candle.open_ms * scale)
            .dec(candle.open)
            .dec(candle.high)
            .dec(candle.low)
            .dec(candle.close)
            .dec(candle.volume)
            .int(next_ms * scale - 1)
            .dec(candle.quote)
            .int(candle.count)
            .dec(candle.taker_base)
            .dec(candle.taker_quote)
            .text("0");
    });
}

/// The event of `@kline_<interval>`: a candle that ends before `next_ms` and is `closed` or goes on.
pub(super) fn candle_event(
    symbol: &str,
    interval: Interval,
    candle: &Candle,
    (next_ms, closed): (i64, bool),
    event_time: i64,
    scale: i64,
) -> String {
    let id = |id: u64| if candle.count == 0 { -1 } else { i64::try_from(id).unwrap_or(i64::MAX) };
    Json::object(|j| {
        j.f_text("e", "kline").f_int("E", event_time).f_text("s", symbol);
        j.key("k").obj(|j| {
            j.f_int("t", candle.open_ms * scale)
                .f_int("T", next_ms * scale - 1)
                .f_text("s", symbol)
                .f_text("i", interval.name())
                .f_int("f", id(candle.first_id))
                .f_int("L", id(candle.last_id))
                .f_dec("o", candle.open)
                .f_dec("c", candle.close)
                .f_dec("h", candle.high)
                .f_dec("l", candle.low)
                .f_dec("v", candle.volume)
                .f_int("n", candle.count)
                .f_flag("x", closed)
                .f_dec("q", candle.quote)
                .f_dec("V", candle.taker_base)
                .f_dec("Q", candle.taker_quote)
                .f_text("B", "0");
        });
    })
}

/// The event of `@avgPrice`.
pub(super) fn average_event(symbol: &str, price: i64, event_time: i64, last_time: i64) -> String {
    Json::object(|j| {
        j.f_text("e", "avgPrice")
            .f_int("E", event_time)
            .f_text("s", symbol)
            .f_text("i", "5m")
            .f_dec("w", price)
            .f_int("T", last_time);
    })
}
