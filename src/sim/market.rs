//! A seeded market that looks alive: a mid price that walks with trends, makers that refresh levels near it, takers
//! that come in clusters and trade against whatever rests, the accounts' orders included.
//!
//! In: the time. Out: changes of one listing's book. Invariant: the same seed and the same orders at the same moments
//! give the same market; on average the configured number of book changes per second.

use std::time::Duration;

use crate::clock::{MonoNs, UtcNs};

use super::exchange::Exchange;
use super::listing::{Liquidity, PRICE_MAX};
use super::order::Side;

/// Levels per side at the start, and after a jump.
const LEVELS_SEEDED: i64 = 300;

/// Most levels per side; the farthest go.
const LEVELS_MAX: usize = 400;

/// A market that was not asked for longer than this goes on from now instead of catching up.
const BACKLOG_MAX: Duration = Duration::from_secs(1);

/// Distance of the touch from the mid, in millionths of the price.
const HALF_SPREAD_PPM: f64 = 5.0;

/// Average distance between seeded levels, in millionths of the price.
const SPACING_PPM: f64 = 5.0;

/// The market of one symbol.
#[derive(Debug)]
pub struct Synthetic {
    symbol: usize,
    rng: fastrand::Rng,
    /// Where it began; it never leaves a tenth to ten times of it by itself.
    start: f64,
    mid: f64,
    /// Fair price that the quotes have not followed yet.
    fair: f64,
    updates_per_s: f64,
    /// Standard deviation of the relative move over one second.
    volatility: f64,
    /// Relative move per second of the present trend.
    drift: f64,
    tempo: f64,
    taker_side: Side,
    due: MonoNs,
    last: MonoNs,
    phase_until: MonoNs,
}

impl Synthetic {
    /// The market of listing `symbol`; its book is empty until [`Synthetic::open`].
    pub fn new(symbol: usize, mid: i64, seed: u64, updates_per_s: u32, centibps: u32) -> Self {
        Self {
            symbol,
            rng: fastrand::Rng::with_seed(seed.wrapping_add(symbol as u64 * 0x9e37_79b9)),
            start: mid as f64,
            mid: mid as f64,
            fair: mid as f64,
            updates_per_s: f64::from(updates_per_s),
            volatility: f64::from(centibps) * 1e-6,
            drift: 0.0,
            tempo: 1.0,
            taker_side: Side::Buy,
            due: MonoNs::ZERO,
            last: MonoNs::ZERO,
            phase_until: MonoNs::ZERO,
        }
    }

    /// Fills the book and starts at `now`.
    pub fn open(&mut self, exchange: &mut Exchange, now: MonoNs) {
        self.seed_levels(exchange);
        (self.last, self.due, self.phase_until) = (now, now, now);
        if self.updates_per_s == 0.0 {
            self.due = MonoNs::NEVER;
        }
    }

    /// When the next change is due.
    pub fn due(&self) -> MonoNs {
        self.due
    }

    /// Does the next action if it is due; whether it did.
    pub fn step(&mut self, exchange: &mut Exchange, now: MonoNs, utc: UtcNs) -> bool {
        if now < self.due {
            return false;
        }
        if now.since(self.due) > BACKLOG_MAX {
            self.due = now;
        }
        let at = self.due;
        self.walk(at);
        let before = exchange.listings[self.symbol].update_id();
        match self.rng.f64() {
            p if p < 0.15 => self.follow(exchange, utc),
            p if p < 0.35 => self.take(exchange, utc),
            p if p < 0.85 => self.refresh(exchange, 60.0),
            _ => self.refresh(exchange, 1_500.0),
        }
        self.keep_touch(exchange, utc);
        let changes = exchange.listings[self.symbol].update_id() - before;
        let gap_s = changes.max(1) as f64 * self.exponential() / (self.updates_per_s * self.tempo);
        // A long gap is cut, so that a quiet market still moves.
        self.due = at.after(Duration::from_secs_f64(gap_s.min(10.0)));
        true
    }

    /// Moves the market to `mid` at once; what rests in between trades or goes.
    pub fn jump(&mut self, exchange: &mut Exchange, mid: i64, utc: UtcNs) {
        (self.start, self.fair) = (mid as f64, mid as f64);
        self.follow(exchange, utc);
        self.seed_levels(exchange);
    }

    fn walk(&mut self, at: MonoNs) {
        if at >= self.phase_until {
            // A new phase: a trend, and with one chance in ten a burst three times as busy.
            self.drift = self.normal() * self.volatility * 0.3;
            self.tempo = if self.rng.f64() < 0.1 { 3.0 } else { 0.78 };
            let length = Duration::from_secs_f64(0.5 + self.exponential().min(8.0) * 2.0);
            self.phase_until = at.after(length);
        }
        let dt = at.since(self.last).as_secs_f64();
        self.last = at;
        let burst = self.tempo.sqrt();
        let step = self.normal() * self.volatility * burst * dt.sqrt() + self.drift * dt;
        let fair = self.fair * (1.0 + step.clamp(-0.01, 0.01));
        self.fair = fair.clamp(self.start * 0.1, self.start * 10.0);
    }

    /// Makers follow the fair price: quotes on the wrong side of it go, and orders left there are taken.
    fn follow(&mut self, exchange: &mut Exchange, utc: UtcNs) {
        self.mid = self.fair;
        let (bid, ask) = (self.near(exchange, Side::Buy), self.near(exchange, Side::Sell));
        for (side, price) in [(Side::Buy, bid), (Side::Sell, ask)] {
            let Liquidity::Live(book) = &mut exchange.listings[self.symbol].liquidity else {
                return;
            };
            let wrong = |p: i64| if side == Side::Buy { p > price } else { p < price };
            let gone: Vec<i64> =
                book.levels(side).map(|(p, _)| p).take_while(|p| wrong(*p)).collect();
            for level in gone {
                book.set_market(side, level, 0);
            }
            // What is left there belongs to accounts; somebody trades with it up to the mid.
            let mid = self.on_tick(exchange, self.mid, side);
            let Liquidity::Live(book) = &exchange.listings[self.symbol].liquidity else { return };
            let beyond = |p: i64| if side == Side::Buy { p > mid } else { p < mid };
            let qty: i64 = book.levels(side).take_while(|(p, _)| beyond(*p)).map(|(_, q)| q).sum();
            if qty > 0 {
                exchange.market_takes(self.symbol, side.opposite(), mid, qty, utc);
            }
        }
    }

    /// A taker comes; the next one more likely than not from the same side.
    fn take(&mut self, exchange: &mut Exchange, utc: UtcNs) {
        if self.rng.f64() < 0.35 {
            self.taker_side = self.taker_side.opposite();
        }
        let side = self.taker_side;
        let top = exchange.listings[self.symbol].top();
        let best = if side == Side::Buy { top.ask } else { top.bid };
        let Some((best, _)) = best else { return };
        let reach = best / 10_000;
        let limit = if side == Side::Buy { best + reach } else { best - reach };
        let qty = self.quantity(exchange, 4.0);
        exchange.market_takes(self.symbol, side, limit, qty, utc);
    }

    /// A maker sets or pulls a level, `spread_ppm` from the touch on average.
    fn refresh(&mut self, exchange: &mut Exchange, spread_ppm: f64) {
        let side = if self.rng.bool() { Side::Buy } else { Side::Sell };
        let distance = self.exponential() * spread_ppm * 1e-6;
        let sign = if side == Side::Buy { -1.0 } else { 1.0 };
        let wish = self.near(exchange, side) as f64 + sign * distance * self.mid;
        let price = self.on_tick(exchange, wish, side);
        let pull = self.rng.f64() < 0.25;
        let qty = if pull { 0 } else { self.quantity(exchange, 1.0) };
        let Liquidity::Live(book) = &mut exchange.listings[self.symbol].liquidity else { return };
        book.set_market(side, price, qty);
        if book.depth(side) > LEVELS_MAX
            && let Some(far) = book.farthest_market(side)
        {
            book.set_market(side, far, 0);
        }
    }

    /// Somebody always quotes near the mid; an account's order that is in the way is taken.
    fn keep_touch(&mut self, exchange: &mut Exchange, utc: UtcNs) {
        for side in [Side::Buy, Side::Sell] {
            let near = self.near(exchange, side);
            let slack = (self.mid * HALF_SPREAD_PPM * 2e-6) as i64;
            let top = exchange.listings[self.symbol].top();
            let (own, other) =
                if side == Side::Buy { (top.bid, top.ask) } else { (top.ask, top.bid) };
            let far = own.is_none_or(|(p, _)| {
                (p - near).abs() > slack && { if side == Side::Buy { p < near } else { p > near } }
            });
            if !far {
                continue;
            }
            let qty = self.quantity(exchange, 1.0);
            let crossed = other.is_some_and(|(p, _)| super::matching::meets(side, near, p));
            if crossed {
                exchange.market_takes(self.symbol, side, near, qty, utc);
            }
            let Liquidity::Live(book) = &mut exchange.listings[self.symbol].liquidity else {
                return;
            };
            book.set_market(side, near, qty);
        }
    }

    fn seed_levels(&mut self, exchange: &mut Exchange) {
        self.mid = self.fair;
        for side in [Side::Buy, Side::Sell] {
            let sign = if side == Side::Buy { -1.0 } else { 1.0 };
            let near = self.near(exchange, side) as f64;
            for i in 0..LEVELS_SEEDED {
                let steps = i as f64 * (1.0 + i as f64 / 100.0) + self.rng.f64() * 0.5;
                let wish = near + sign * steps * SPACING_PPM * 1e-6 * self.mid;
                let price = self.on_tick(exchange, wish, side);
                let qty = self.quantity(exchange, 1.0 + i as f64 / 50.0);
                let listing = &mut exchange.listings[self.symbol];
                if price < listing.rules.tick {
                    continue;
                }
                if let Liquidity::Live(book) = &mut listing.liquidity {
                    book.set_market(side, price, qty);
                }
            }
        }
        self.prune(exchange);
    }

    fn prune(&self, exchange: &mut Exchange) {
        let Liquidity::Live(book) = &mut exchange.listings[self.symbol].liquidity else { return };
        for side in [Side::Buy, Side::Sell] {
            while book.depth(side) > LEVELS_MAX
                && let Some(far) = book.farthest_market(side)
            {
                book.set_market(side, far, 0);
            }
        }
    }

    /// Where the touch of a side belongs now.
    fn near(&self, exchange: &Exchange, side: Side) -> i64 {
        let tick = exchange.listings[self.symbol].rules.tick as f64;
        let half = (self.mid * HALF_SPREAD_PPM * 1e-6).max(tick);
        let wish = if side == Side::Buy { self.mid - half } else { self.mid + half };
        self.on_tick(exchange, wish, side)
    }

    /// The price on the tick grid, away from the mid.
    fn on_tick(&self, exchange: &Exchange, wish: f64, side: Side) -> i64 {
        let tick = exchange.listings[self.symbol].rules.tick;
        let ticks = wish / tick as f64;
        let ticks = if side == Side::Buy { ticks.floor() } else { ticks.ceil() };
        (ticks as i64).clamp(1, PRICE_MAX / tick) * tick
    }

    /// A quantity worth some hundred to some ten thousand units of quote, on the lot grid.
    fn quantity(&mut self, exchange: &Exchange, scale: f64) -> i64 {
        let rules = &exchange.listings[self.symbol].rules;
        // Between five and three thousand times the smallest order, log-uniform.
        let value = rules.min_notional as f64 * (5.0 * (600.0_f64).powf(self.rng.f64())) * scale;
        let lots = value / self.mid * 1e8 / rules.lot as f64;
        (lots as i64).clamp(1, 1_000_000_000) * rules.lot
    }

    /// Exponential with mean 1.
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.rng.f64()).ln()
    }

    /// Close to a standard normal: the sum of twelve uniforms.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.rng.f64()).sum::<f64>() - 6.0
    }
}
