//! What one level update costs: our ladder, a BTreeMap and a sorted vector, on the same stream near the touch
//! and on a recording. All three must end every message with the same touch; a hash of all touches is printed.
//!
//! `cargo bench --bench book`; `-- --test` runs a tiny version.

#![expect(clippy::print_stdout, reason = "a bench prints its figures")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Read;
use std::path::PathBuf;

use pindrop::clock::Clock;
use pindrop::trading::book::ladder::Ladder;
use pindrop::trading::domain::instrument::Name;
use pindrop::trading::domain::{
    DepthKind, Instrument, InstrumentId, MarketUpdate, Price, Qty, Side, Stamps, VenueId,
};
use pindrop::trading::venue::MarketDialect;
use pindrop::trading::venue::binance::{BinanceMarket, Flavor};

/// A tick of 0.01 in units of 1e-8, and a price of Bitcoin.
const TICK: i64 = 1_000_000;
const MID: i64 = 6_183_763 * TICK;
/// Level updates per message; the touch is read after each.
const PER_MESSAGE: usize = 8;
const ROUNDS: usize = 7;

#[derive(Clone, Copy)]
struct Update {
    side: Side,
    price: i64,
    qty: i64,
}

type Touch = (i64, i64, i64, i64);

/// What is measured: set a level, read the touch.
trait Book {
    fn load(&mut self, levels: &[Update]);
    fn set(&mut self, update: Update);
    fn touch(&self) -> Touch;
}

impl Book for Ladder {
    fn load(&mut self, levels: &[Update]) {
        self.begin_snapshot();
        self.end_snapshot(Some(Price::from_units(TICK)));
        levels.iter().for_each(|level| Book::set(self, *level));
    }

    #[inline]
    fn set(&mut self, u: Update) {
        Self::set(self, u.side, Price::from_units(u.price), Qty::from_units(u.qty));
    }

    fn touch(&self) -> Touch {
        let units = |l: pindrop::trading::domain::Level| (l.price.units(), l.qty.units());
        let (bid, ask) = (self.best_bid().map(units), self.best_ask().map(units));
        let ((b, bq), (a, aq)) = (bid.unwrap_or_default(), ask.unwrap_or_default());
        (b, bq, a, aq)
    }
}

#[derive(Default)]
struct Trees {
    bids: BTreeMap<i64, i64>,
    asks: BTreeMap<i64, i64>,
}

impl Book for Trees {
    fn load(&mut self, levels: &[Update]) {
        levels.iter().for_each(|level| self.set(*level));
    }

    #[inline]
    fn set(&mut self, u: Update) {
        let side = if u.side == Side::Buy { &mut self.bids } else { &mut self.asks };
        if u.qty == 0 {
            side.remove(&u.price);
        } else {
            side.insert(u.price, u.qty);
        }
    }

    fn touch(&self) -> Touch {
        let bid = self.bids.last_key_value().map_or((0, 0), |(p, q)| (*p, *q));
        let ask = self.asks.first_key_value().map_or((0, 0), |(p, q)| (*p, *q));
        (bid.0, bid.1, ask.0, ask.1)
    }
}

/// Sorted vectors, the best level last; keys of asks are negated.
#[derive(Default)]
struct Vectors {
    bids: Vec<(i64, i64)>,
    asks: Vec<(i64, i64)>,
}

impl Book for Vectors {
    fn load(&mut self, levels: &[Update]) {
        levels.iter().rev().for_each(|level| self.set(*level));
    }

    #[inline]
    fn set(&mut self, u: Update) {
        let (side, key) = if u.side == Side::Buy {
            (&mut self.bids, u.price)
        } else {
            (&mut self.asks, -u.price)
        };
        match (side.binary_search_by_key(&key, |(k, _)| *k), u.qty) {
            (Ok(at), 0) => {
                side.remove(at);
            }
            (Ok(at), qty) => side[at].1 = qty,
            (Err(_), 0) => {}
            (Err(at), qty) => side.insert(at, (key, qty)),
        }
    }

    fn touch(&self) -> Touch {
        let bid = self.bids.last().copied().unwrap_or_default();
        let ask = self.asks.last().copied().unwrap_or_default();
        (bid.0, bid.1, -ask.0, ask.1)
    }
}

/// `levels` around the middle, then `count` updates near the touch that never cross it.
fn stream(levels: usize, count: usize, seed: u64) -> (Vec<Update>, Vec<Update>) {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut book = Trees::default();
    let snapshot: Vec<_> = (0..levels / 2)
        .flat_map(|n| {
            let away = n as i64 * TICK;
            let level = |side, price| Update { side, price, qty: 1 + n as i64 };
            [level(Side::Buy, MID - away), level(Side::Sell, MID + TICK + away)]
        })
        .collect();
    Book::load(&mut book, &snapshot);
    let mut updates = Vec::with_capacity(count);
    while updates.len() < count {
        let (bid, _, ask, _) = book.touch();
        let side = if rng.bool() { Side::Buy } else { Side::Sell };
        // Half of all updates are within a few ticks of the touch; some improve it.
        let reach = 1 << rng.u32(1..=7);
        let depth = rng.i64(1..=reach) - 2;
        let price = if side == Side::Buy { bid - depth * TICK } else { ask + depth * TICK };
        let crosses = if side == Side::Buy { price >= ask } else { price <= bid };
        let there = if side == Side::Buy { &book.bids } else { &book.asks };
        let removes = there.contains_key(&price) && there.len() * 2 >= levels && rng.u8(0..10) < 4;
        if crosses {
            continue;
        }
        let update = Update { side, price, qty: if removes { 0 } else { rng.i64(1..1_000_000) } };
        book.set(update);
        updates.push(update);
    }
    (snapshot, updates)
}

/// Nanoseconds per level update, and a hash of all touches.
fn time<B: Book>(mut book: B, snapshot: &[Update], updates: &[Update]) -> (f64, u64) {
    book.load(snapshot);
    let mut hash = 0_u64;
    let begin = Clock::System.now();
    for message in updates.chunks(PER_MESSAGE) {
        for update in message {
            book.set(*update);
        }
        let (b, bq, a, aq) = black_box(book.touch());
        let touch = b ^ bq.rotate_left(16) ^ a.rotate_left(32) ^ aq.rotate_left(48);
        hash = hash.rotate_left(5).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ touch.cast_unsigned();
    }
    let spent = Clock::System.now().since(begin);
    (spent.as_nanos() as f64 / updates.len() as f64, hash)
}

/// All three, interleaved; medians over the rounds.
fn compare(what: &str, snapshot: &[Update], updates: &[Update], rounds: usize) {
    let mut figures = [Vec::new(), Vec::new(), Vec::new()];
    let mut hashes = Vec::new();
    for _ in 0..rounds {
        let results = [
            time(Ladder::new(), snapshot, updates),
            time(Trees::default(), snapshot, updates),
            time(Vectors::default(), snapshot, updates),
        ];
        for (figures, (ns, hash)) in figures.iter_mut().zip(results) {
            figures.push(ns);
            hashes.push(hash);
        }
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "the books disagree: {hashes:x?}");
    let [ladder, tree, vector] = figures.map(|mut ns| {
        ns.sort_by(f64::total_cmp);
        ns[ns.len() / 2]
    });
    println!(
        "{what:<28} {:>9} updates  ladder {ladder:6.1} ns  BTreeMap {tree:6.1} ns  sorted Vec {vector:6.1} ns  \
         ladder/BTreeMap {:.2}  ladder/Vec {:.2}  touches {:016x}",
        updates.len(),
        ladder / tree,
        ladder / vector,
        hashes[0],
    );
}

/// Snapshot and level updates of the recorded BTCUSDT stream.
fn recording() -> Option<(Vec<Update>, Vec<Update>)> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("PINDROP_DATA").map_or_else(beside, PathBuf::from);
    let file = std::fs::File::open(folder.join("binance-spot/btcusdt_20240808.gz")).ok()?;
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(file).read_to_string(&mut text).ok()?;
    let name = |text| Name::from(text).expect("a short name");
    let id = InstrumentId(0);
    let instrument = Instrument::new(id, VenueId(0), name("binance"), name("BTCUSDT"), (8, 8));
    let mut dialect = BinanceMarket::new(Flavor::Spot, &[instrument]);
    let (mut snapshot, mut updates, mut id_of_snapshot) = (Vec::new(), Vec::new(), u64::MAX);
    let mut take = |update| {
        let MarketUpdate::Depth(chunk) = update else { return };
        let to = if chunk.kind == DepthKind::Snapshot {
            id_of_snapshot = chunk.last_id;
            &mut snapshot
        } else {
            &mut updates
        };
        let bids = chunk.bids().iter().map(|l| (Side::Buy, l));
        for (side, level) in bids.chain(chunk.asks().iter().map(|l| (Side::Sell, l))) {
            to.push(Update { side, price: level.price.units(), qty: level.qty.units() });
        }
    };
    for message in text.lines().filter_map(|line| line.split_once(' ')).map(|(_, m)| m.as_bytes()) {
        let stamps = Stamps::default();
        let decoded = if message.starts_with(b"{\"lastUpdateId\"") {
            dialect.decode_snapshot(message, id, stamps, &mut take)
        } else {
            dialect.decode(message, stamps, &mut take).map(|_| ())
        };
        decoded.expect("a verified recording");
    }
    Some((snapshot, updates))
}

fn main() {
    let tiny = std::env::args().any(|arg| arg == "--test");
    let (count, rounds) = if tiny { (2_000, 1) } else { (1_000_000, ROUNDS) };
    for levels in [500, 5_000] {
        let (snapshot, updates) = stream(levels, count, 1);
        compare(&format!("near the touch, {levels} levels"), &snapshot, &updates, rounds);
    }
    match recording() {
        Some((snapshot, updates)) => {
            compare("recorded BTCUSDT", &snapshot, &updates, rounds);
        }
        None => println!("recorded BTCUSDT: skipped, no recordings"),
    }
}
