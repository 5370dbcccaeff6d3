//! The past of a synthetic market, invented so that clients find trades and candles from the first moment.
//!
//! In: a seed, the price now, the time. Out: about three years of candles, the last quarter of an hour trade by trade.
//! Invariants: the past ends at the price now; the same seed at the same moment invents the same past; nothing of it
//! ever was in the book.

use crate::clock::UtcNs;

use super::candles::{Candle, DAY_MS, History, MINUTES};
use super::listing::Print;
use super::settings::SymbolSettings;

/// Trades invented one by one: one per second.
const TRADES: i64 = 1_000;

/// Standard deviation of the relative price change over one second.
const VOLATILITY: f64 = 5e-5;

const MINUTE_MS: i64 = 60_000;
const QUARTER_MS: i64 = 15 * MINUTE_MS;

/// Which ring candles go to, how wide they are and over which span, newest first.
const SPANS: [(usize, i64, i64); 3] = [
    (MINUTES, MINUTE_MS, 7 * DAY_MS),
    (MINUTES + 1, QUARTER_MS, 24 * DAY_MS),
    (MINUTES + 2, DAY_MS, 900 * DAY_MS),
];

struct Past<'a> {
    rules: &'a SymbolSettings,
    rng: fastrand::Rng,
    price: f64,
}

/// Fills `history` and hands out the newest trades, oldest first.
pub(super) fn invent(
    rules: &SymbolSettings,
    price: i64,
    seed: u64,
    utc: UtcNs,
    history: &mut History,
) -> Vec<Print> {
    let salt = rules.symbol.bytes().fold(seed, |h, b| h.rotate_left(7) ^ u64::from(b));
    let mut past =
        Past { rules, rng: fastrand::Rng::with_seed(salt ^ 0x7061_7374), price: price as f64 };
    let now = utc.as_millis();
    // Trades begin with a minute, minutes with a quarter, quarters with a day: no candle is half invented twice.
    let mut begin = (now - TRADES * 1_000).div_euclid(MINUTE_MS) * MINUTE_MS;
    let mut prints = past.trades(price, begin, now);
    let mut candles: Vec<(usize, Candle)> = Vec::new();
    for (at, (ring, width, span)) in SPANS.into_iter().enumerate() {
        let coarser = SPANS.get(at + 1).map_or(DAY_MS, |(_, width, _)| *width);
        let end = begin;
        begin = (end - span).div_euclid(coarser) * coarser;
        for open_ms in (0..(end - begin) / width).map(|back| end - (back + 1) * width) {
            candles.push((ring, past.candle(open_ms, width)));
        }
    }
    let mut id = 1;
    for (ring, candle) in candles.iter_mut().rev() {
        candle.first_id = id;
        id += candle.count;
        candle.last_id = id - 1;
        history.add_candle(*ring, candle);
    }
    for print in &mut prints {
        print.id = id;
        id += 1;
        history.add(print, print.time.as_millis());
    }
    prints
}

impl Past<'_> {
    /// One trade a second from `begin` to `now`, oldest first, the last one at `price`.
    fn trades(&mut self, price: i64, begin: i64, now: i64) -> Vec<Print> {
        let mut prints = Vec::new();
        let mut at = now;
        let mut price = price;
        while at > begin {
            let qty = self.quantity();
            prints.push(Print {
                id: 0,
                price,
                qty,
                buyer_maker: self.rng.bool(),
                time: UtcNs::from_millis(at),
                // No arriving order that anybody could ask for.
                taker: 0,
            });
            at -= 1_000;
            price = self.step(1.0);
        }
        prints.reverse();
        prints
    }

    /// The candle before the one that was made last.
    fn candle(&mut self, open_ms: i64, width: i64) -> Candle {
        let seconds = width as f64 / 1_000.0;
        let close = self.on_tick();
        let open = self.step(seconds);
        let reach = VOLATILITY * seconds.sqrt() * 0.6;
        let (up, down) = (self.rng.f64() * reach, self.rng.f64() * reach);
        let tick = self.rules.tick;
        let above = |price: i64| (price as f64 * (1.0 + up)) as i64 / tick * tick;
        let below = |price: i64| (price as f64 * (1.0 - down)) as i64 / tick * tick;
        let high = above(open.max(close)).max(open).max(close);
        let low = below(open.min(close)).min(open).min(close).max(tick);
        let count = (seconds * (0.5 + self.rng.f64())).max(1.0) as u64;
        let volume = i128::from(self.quantity()) * i128::from(count);
        let middle =
            (i128::from(open) + i128::from(close) + i128::from(high) + i128::from(low)) / 4;
        let quote = volume * middle / 100_000_000;
        let taken = i128::from(self.rng.i64(350..650));
        let lot = i128::from(self.rules.lot);
        Candle {
            open_ms,
            open,
            high,
            low,
            close,
            volume,
            quote,
            taker_base: volume * taken / 1_000 / lot * lot,
            taker_quote: quote * taken / 1_000,
            count,
            first_id: 0,
            last_id: 0,
        }
    }

    /// Walks back over so many seconds; the price there.
    fn step(&mut self, seconds: f64) -> i64 {
        let normal = (0..12).map(|_| self.rng.f64()).sum::<f64>() - 6.0;
        let mid = self.rules.mid as f64;
        let change = 1.0 + (normal * VOLATILITY * seconds.sqrt()).clamp(-0.2, 0.2);
        // Over years a free walk could leave the range of sensible prices.
        self.price = (self.price * change).clamp(mid * 0.2, mid * 5.0);
        self.on_tick()
    }

    fn on_tick(&self) -> i64 {
        ((self.price / self.rules.tick as f64).round() as i64).max(1) * self.rules.tick
    }

    /// A quantity as the synthetic market trades them, on the lot grid.
    fn quantity(&mut self) -> i64 {
        let value = self.rules.min_notional as f64 * 5.0 * 100.0_f64.powf(self.rng.f64());
        let lots = value / self.price * 1e8 / self.rules.lot as f64;
        (lots as i64).clamp(1, 1_000_000) * self.rules.lot
    }
}
