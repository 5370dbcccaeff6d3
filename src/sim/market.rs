//! A seeded market that looks alive: a mid price that walks with trends, makers that refresh levels near it, takers
//! that come in clusters and trade against whatever rests, the accounts' orders included.
//!
//! In: the time. Out: changes of one listing's book. Invariant: the same seed and the same orders at the same moments
//! give the same market; on average the configured number of book changes per second.

use std::collections::VecDeque;
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

/// Fair prices move at the multiples of this.
const SLOT: Duration = Duration::from_millis(50);

/// A market that slept longer than this does not make up for all of it.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// How much of a symbol's moves all symbols share; the square is the correlation of two of them.
const COMMON: f64 = 0.8;

/// In which time the distance of a venue's prices from the fair ones is forgotten, in seconds.
const DRIFT_MEMORY_S: f64 = 20.0;

/// How often a market on a path moves.
const PATH_STEP: Duration = Duration::from_millis(20);

/// Far enough along a path for new levels, relative.
const RESEED: f64 = 0.001;

/// What a market is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Phase {
    name: &'static str,
    /// How much busier than on average.
    tempo: f64,
    /// How much wider the spread is.
    spread: f64,
    /// Relative move per second.
    trend: f64,
    slots_left: u32,
}

/// Where fair prices go: the same at every venue of one market seed.
#[derive(Debug)]
struct Walk {
    common: fastrand::Rng,
    own: fastrand::Rng,
    venue: fastrand::Rng,
    /// Where it began; it never leaves a tenth to ten times of it by itself.
    start: f64,
    value: f64,
    /// Standard deviation of the relative move over one second.
    volatility: f64,
    /// Standard deviation of this venue's distance from the fair price, relative.
    drift: f64,
    offset: f64,
    phase: Phase,
    last: MonoNs,
}

/// Close to a standard normal: the sum of twelve uniforms.
fn normal(rng: &mut fastrand::Rng) -> f64 {
    (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0
}

/// Exponential with mean 1.
fn exponential(rng: &mut fastrand::Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}

impl Walk {
    fn fair(&self) -> f64 {
        self.value * (1.0 + self.offset)
    }

    fn advance(&mut self, at: MonoNs) {
        if at.since(self.last) > CATCH_UP_MAX {
            let skipped = at.since(self.last) - CATCH_UP_MAX;
            self.last = self.last.after(skipped);
        }
        while self.last.after(SLOT) <= at {
            self.last = self.last.after(SLOT);
            self.step();
        }
    }

    fn step(&mut self) {
        let dt = SLOT.as_secs_f64();
        if self.phase.slots_left == 0 {
            self.phase = self.next_phase();
        }
        self.phase.slots_left -= 1;
        let (common, own) = (normal(&mut self.common), normal(&mut self.own));
        let shock = COMMON * common + (1.0 - COMMON * COMMON).sqrt() * own;
        let wild = self.volatility * self.phase.tempo.sqrt() * dt.sqrt();
        let step = wild * shock + self.phase.trend * dt;
        let value = self.value * (1.0 + step.clamp(-0.01, 0.01));
        self.value = value.clamp(self.start * 0.1, self.start * 10.0);
        if self.drift > 0.0 {
            let forget = dt / DRIFT_MEMORY_S;
            let shock = self.drift * (2.0 * forget).sqrt() * normal(&mut self.venue);
            self.offset += shock - self.offset * forget;
        }
    }

    /// Most of the time calm, often quiet, at times a burst with wide spreads. On average as busy as configured.
    fn next_phase(&mut self) -> Phase {
        let rng = &mut self.own;
        let (name, tempo, spread) = match rng.f64() {
            p if p < 0.1 => ("burst", 3.0, 1.5 + 2.5 * rng.f64()),
            p if p < 0.4 => ("quiet", 0.3, 1.0),
            _ => ("calm", 61.0 / 60.0, 1.0 + 0.5 * rng.f64()),
        };
        let trend = normal(rng) * self.volatility * 0.3;
        let length_s = 0.5 + exponential(rng).min(8.0) * 2.0;
        let slots_left = (length_s / SLOT.as_secs_f64()) as u32 + 1;
        Phase { name, tempo, spread, trend, slots_left }
    }

    fn set(&mut self, mid: f64) {
        (self.start, self.value) = (mid, mid / (1.0 + self.offset));
    }
}

/// The market of one symbol.
#[derive(Debug)]
pub struct Synthetic {
    symbol: usize,
    rng: fastrand::Rng,
    walk: Walk,
    mid: f64,
    /// Fair price that the quotes have not followed yet.
    fair: f64,
    updates_per_s: f64,
    taker_side: Side,
    /// How much the latest takers draw others in; 1 on average.
    excitement: f64,
    /// What gaps come to because of it, on average.
    mean_gap: f64,
    due: MonoNs,
    /// Where the price is led, and from where.
    path: VecDeque<(MonoNs, f64)>,
    path_from: (MonoNs, f64),
    path_due: MonoNs,
    /// The mid when levels were last set all at once.
    seeded: f64,
}

impl Synthetic {
    /// The market of listing `symbol`; its book is empty until [`Synthetic::open`].
    pub fn new(symbol: usize, mid: i64, seed: u64, updates_per_s: u32, centibps: u32) -> Self {
        let seed = seed.wrapping_add(symbol as u64 * 0x9e37_79b9);
        let mid = mid as f64;
        let calm = Phase { name: "calm", tempo: 1.0, spread: 1.0, trend: 0.0, slots_left: 0 };
        Self {
            symbol,
            rng: fastrand::Rng::with_seed(seed),
            walk: Walk {
                common: fastrand::Rng::with_seed(seed ^ 0x63_6f6d_6d6f),
                own: fastrand::Rng::with_seed(seed ^ 0x6f_776e),
                venue: fastrand::Rng::with_seed(seed ^ 0x76_656e_7565),
                start: mid,
                value: mid,
                volatility: f64::from(centibps) * 1e-6,
                drift: 0.0,
                offset: 0.0,
                phase: calm,
                last: MonoNs::ZERO,
            },
            mid,
            fair: mid,
            updates_per_s: f64::from(updates_per_s),
            taker_side: Side::Buy,
            excitement: 1.0,
            mean_gap: 1.2,
            due: MonoNs::ZERO,
            path: VecDeque::new(),
            path_from: (MonoNs::ZERO, mid),
            path_due: MonoNs::NEVER,
            seeded: mid,
        }
    }

    /// The same market around the fair prices of `market_seed`, from which it wanders by `drift_bps` basis points
    /// (standard deviation).
    #[must_use]
    pub fn around(mut self, market_seed: u64, name: &str, drift_bps: u32) -> Self {
        // FNV-1a: the path of a symbol depends on its name, not on its place in a list.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        self.walk.common = fastrand::Rng::with_seed(market_seed ^ 0x63_6f6d_6d6f);
        self.walk.own = fastrand::Rng::with_seed(market_seed ^ hash);
        self.walk.drift = f64::from(drift_bps) * 1e-4;
        self
    }

    /// Fills the book and starts at `now`.
    pub fn open(&mut self, exchange: &mut Exchange, now: MonoNs) {
        self.seed_levels(exchange);
        (self.walk.last, self.due) = (now, now);
        if self.updates_per_s == 0.0 {
            self.due = MonoNs::NEVER;
        }
    }

    /// When the next change is due.
    pub fn due(&self) -> MonoNs {
        self.due.min(self.path_due)
    }

    /// What the market is doing: `quiet`, `calm` or `burst`, and the fair price in units of `10^-8`.
    pub fn phase(&self) -> (&'static str, i64) {
        (self.walk.phase.name, self.fair as i64)
    }

    /// Stands still for a moment: the symbol does not trade.
    pub fn rest(&mut self, now: MonoNs) {
        for due in [&mut self.due, &mut self.path_due] {
            if *due <= now {
                *due = now.after(PATH_STEP);
            }
        }
    }

    /// Does the next action if it is due; whether it did.
    pub fn step(&mut self, exchange: &mut Exchange, now: MonoNs, utc: UtcNs) -> bool {
        if self.path_due <= now {
            self.step_on_path(exchange, now, utc);
            return true;
        }
        if now < self.due {
            return false;
        }
        if now.since(self.due) > BACKLOG_MAX {
            self.due = now;
        }
        let at = self.due;
        if self.path.is_empty() {
            self.walk.advance(at);
            self.fair = self.walk.fair();
        }
        let before = exchange.listings[self.symbol].update_id();
        self.excitement *= 0.9;
        match self.rng.f64() {
            p if p < 0.15 => self.follow(exchange, utc),
            p if p < 0.35 => {
                self.excitement += 0.5;
                self.take(exchange, utc);
            }
            p if p < 0.85 => self.refresh(exchange, 60.0),
            _ => self.refresh(exchange, 1_500.0),
        }
        self.keep_touch(exchange, utc);
        let changes = exchange.listings[self.symbol].update_id() - before;
        let clustered = 1.0 / (0.5 + 0.5 * self.excitement);
        self.mean_gap += (clustered - self.mean_gap) * 0.002;
        let tempo = self.updates_per_s * self.walk.phase.tempo * self.mean_gap / clustered;
        let gap_s = changes.max(1) as f64 * exponential(&mut self.rng) / tempo;
        // A long gap is cut, so that a quiet market still moves.
        self.due = at.after(Duration::from_secs_f64(gap_s.min(10.0)));
        true
    }

    /// Moves the market to `mid` at once; what rests in between trades or goes.
    pub fn jump(&mut self, exchange: &mut Exchange, mid: i64, utc: UtcNs) {
        self.path.clear();
        self.path_due = MonoNs::NEVER;
        self.walk.set(mid as f64);
        self.fair = mid as f64;
        self.follow(exchange, utc);
        self.seed_levels(exchange);
    }

    /// Leads the mid along `path`, straight from point to point; afterwards it goes its own way from there.
    pub fn lead(&mut self, path: &[(Duration, i64)], now: MonoNs) {
        self.path = path.iter().map(|(after, mid)| (now.after(*after), *mid as f64)).collect();
        (self.path_from, self.path_due) = ((now, self.mid), now);
    }

    fn step_on_path(&mut self, exchange: &mut Exchange, now: MonoNs, utc: UtcNs) {
        while let Some(point) = self.path.front().copied().filter(|(at, _)| *at <= now) {
            self.path_from = point;
            self.path.pop_front();
        }
        let (from, mid) = self.path_from;
        let (mid, due) = match self.path.front() {
            Some((to, next)) => {
                let done = now.since(from).as_secs_f64() / to.since(from).as_secs_f64();
                (mid + (next - mid) * done, now.after(PATH_STEP).min(*to))
            }
            None => (mid, MonoNs::NEVER),
        };
        self.path_due = due;
        self.walk.set(mid);
        self.walk.last = now;
        self.fair = mid;
        self.follow(exchange, utc);
        self.keep_touch(exchange, utc);
        if (self.mid / self.seeded - 1.0).abs() > RESEED {
            self.seed_levels(exchange);
        }
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
        let distance = exponential(&mut self.rng) * spread_ppm * 1e-6;
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
        (self.mid, self.seeded) = (self.fair, self.fair);
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
        let half = (self.mid * HALF_SPREAD_PPM * self.walk.phase.spread * 1e-6).max(tick);
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
}
