//! The streams that tell by the clock: candles, tickers, average prices. In: listings and who listens. Out: one text
//! per stream and second, shared by all who listen.

use super::candles::Interval;
use super::streams::{ALL_MARKET, StreamKey, StreamKind, WINDOWS, stamp};
use super::tickers::{self, Statistics};
use super::venue::Venue;

/// Candles of all intervals but one second are told every other second.
const CANDLE_EVERY_S: i64 = 2;

/// What clients of `+08:00` streams are ahead of UTC.
const EAST_MS: i64 = 8 * 3_600_000;

impl Venue {
    /// Tells what streams tell every second. Must be called once a second.
    pub(super) fn publish_by_the_clock(&mut self) {
        let keys: Vec<StreamKey> = self.streams.by_the_clock().collect();
        if keys.is_empty() {
            return;
        }
        let utc = self.utc;
        let mut last_trade = std::mem::take(&mut self.told_trade);
        last_trade.resize(self.exchange.listings.len(), 0);
        let mut changed = Vec::new();
        for (at, listing) in self.exchange.listings.iter_mut().enumerate() {
            listing.advance(utc);
            let newest = listing.tape().back().map_or(0, |print| print.id);
            if std::mem::replace(&mut last_trade[at], newest) != newest {
                changed.push(at);
            }
        }
        self.told_trade = last_trade;
        for key in keys {
            self.publish_one_by_the_clock(key, &changed);
        }
    }

    fn publish_one_by_the_clock(&mut self, key: StreamKey, changed: &[usize]) {
        match key {
            (ALL_MARKET, kind) => {
                let one = |micros: bool| {
                    let each = changed.iter().map(|at| self.statistics_event(*at, kind, micros));
                    let all: Vec<String> = each.collect();
                    format!("[{}]", all.join(","))
                };
                if changed.is_empty() {
                    return;
                }
                let texts = [one(false), one(true)];
                self.publish(key, |micros| texts[usize::from(micros)].clone());
            }
            (at, StreamKind::Candle(interval, east)) => self.publish_candle(at, interval, east),
            (at, kind) => {
                let texts = [false, true].map(|micros| self.statistics_event(at, kind, micros));
                self.publish(key, |micros| texts[usize::from(micros)].clone());
            }
        }
    }

    fn statistics_event(&self, at: usize, kind: StreamKind, micros: bool) -> String {
        let listing = &self.exchange.listings[at];
        let symbol = &listing.rules.symbol;
        let (now, scale) = (stamp(self.utc, micros), if micros { 1_000 } else { 1 });
        match kind {
            StreamKind::Ticker => Statistics::day(listing, self.utc).day_event(listing, now, scale),
            StreamKind::WindowTicker(window) => {
                let (name, length_ms) = WINDOWS[window];
                let statistics = Statistics::rolling(listing, length_ms, self.utc);
                statistics.window_event(listing, name, now, scale)
            }
            StreamKind::Average => {
                let (price, last) = tickers::average(listing, self.utc);
                tickers::average_event(symbol, price, now, stamp(last, micros))
            }
            _ => Statistics::day(listing, self.utc).mini_event(symbol, now),
        }
    }

    /// The candle that has just ended, once, and then the one that goes on.
    fn publish_candle(&mut self, at: usize, interval: Interval, east: bool) {
        let offset = if east { EAST_MS } else { 0 };
        let now_ms = self.utc.as_millis();
        let begin = interval.begin(now_ms, offset);
        let ended = now_ms - begin < 1_000 || interval.is_second();
        if ended {
            self.publish_candle_at(at, (interval, east), begin - 1, true);
        }
        if !interval.is_second() && (ended || now_ms.div_euclid(1_000) % CANDLE_EVERY_S == 0) {
            self.publish_candle_at(at, (interval, east), now_ms, false);
        }
    }

    fn publish_candle_at(
        &mut self,
        at: usize,
        (interval, east): (Interval, bool),
        ms: i64,
        closed: bool,
    ) {
        let offset = if east { EAST_MS } else { 0 };
        let listing = &self.exchange.listings[at];
        let Some(candle) = listing.history().at(interval, offset, ms) else { return };
        let symbol = listing.rules.symbol.clone();
        let next_ms = interval.next(candle.open_ms, offset);
        let utc = self.utc;
        self.publish((at, StreamKind::Candle(interval, east)), |micros| {
            let scale = if micros { 1_000 } else { 1 };
            let end = (next_ms, closed);
            tickers::candle_event(&symbol, interval, &candle, end, stamp(utc, micros), scale)
        });
    }
}
