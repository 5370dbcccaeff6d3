//! The ladder against a naive book: whatever is done to both, they contain the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::trading::domain::market::LEVELS_PER_CHUNK;

fn level(price: i64, qty: i64) -> Level {
    Level { price: Price::from_units(price), qty: Qty::from_units(qty) }
}

#[derive(Default)]
struct Naive {
    bids: BTreeMap<i64, i64>,
    asks: BTreeMap<i64, i64>,
}

impl Naive {
    fn set(&mut self, side: Side, price: i64, qty: i64) {
        let map = if side == Side::Buy { &mut self.bids } else { &mut self.asks };
        if qty == 0 {
            map.remove(&price);
        } else {
            map.insert(price, qty);
        }
    }

    fn levels(&self, side: Side) -> Vec<Level> {
        match side {
            Side::Buy => self.bids.iter().rev().map(|(p, q)| level(*p, *q)).collect(),
            Side::Sell => self.asks.iter().map(|(p, q)| level(*p, *q)).collect(),
        }
    }
}

#[track_caller]
fn same(ladder: &Ladder, naive: &Naive) {
    for side in [Side::Buy, Side::Sell] {
        let expect = naive.levels(side);
        let best = if side == Side::Buy { ladder.best_bid() } else { ladder.best_ask() };
        assert_eq!(best, expect.first().copied(), "best {side:?}");
        assert_eq!(ladder.level_count(side), expect.len(), "count {side:?}");
        assert_eq!(ladder.levels(side).collect::<Vec<_>>(), expect, "{side:?}");
        for l in &expect {
            assert_eq!(ladder.qty_at(side, l.price), l.qty);
        }
    }
}

fn chunk(bids: &[(i64, i64)], asks: &[(i64, i64)]) -> DepthChunk {
    let mut chunk = DepthChunk::default();
    for (i, (p, q)) in bids.iter().chain(asks).enumerate() {
        chunk.levels[i] = level(*p, *q);
    }
    chunk.bids = bids.len() as u8;
    chunk.len = (bids.len() + asks.len()) as u8;
    chunk
}

fn snapshot(ladder: &mut Ladder, naive: &mut Naive, levels: &[(bool, i64, i64)], tick: i64) {
    ladder.begin_snapshot();
    *naive = Naive::default();
    for piece in levels.chunks(LEVELS_PER_CHUNK) {
        let side = |bid| piece.iter().filter(move |l| l.0 == bid).map(|l| (l.1, l.2));
        let bids = side(true).collect::<Vec<_>>();
        ladder.load(&chunk(&bids, &side(false).collect::<Vec<_>>()));
    }
    for (bid, price, qty) in levels {
        naive.set(if *bid { Side::Buy } else { Side::Sell }, *price, *qty);
    }
    ladder.end_snapshot((tick > 0).then(|| Price::from_units(tick)));
}

#[test]
fn an_empty_ladder_has_no_touch() {
    let ladder = Ladder::new();
    assert_eq!((ladder.best_bid(), ladder.best_ask()), (None, None));
    assert!(!ladder.is_crossed());
    assert_eq!(ladder.checksum(), 0);
}

#[test]
fn a_price_off_the_tick_is_exact() {
    let (mut ladder, mut naive) = (Ladder::new(), Naive::default());
    snapshot(&mut ladder, &mut naive, &[(true, 1_000, 5), (false, 1_100, 6)], 100);
    for (price, qty) in [(1_037, 7), (1_001, 1), (1_037, 0), (1_000, 0)] {
        ladder.set(Side::Buy, Price::from_units(price), Qty::from_units(qty));
        naive.set(Side::Buy, price, qty);
        same(&ladder, &naive);
    }
}

#[test]
fn the_window_follows_the_touch() {
    let (mut ladder, mut naive) = (Ladder::new(), Naive::default());
    snapshot(&mut ladder, &mut naive, &[(true, 1_000_000, 5), (false, 1_000_010, 6)], 10);
    let far = WINDOW_SLOTS as i64 * 10 / 30 * 30;
    for k in 0..12 {
        let price = 1_000_020 + k * far / 3;
        ladder.set(Side::Sell, Price::from_units(price), Qty::from_units(k + 1));
        naive.set(Side::Sell, price, k + 1);
    }
    for k in -1..11 {
        let price = if k < 0 { 1_000_010 } else { 1_000_020 + k * far / 3 };
        ladder.set(Side::Sell, Price::from_units(price), Qty::ZERO);
        naive.set(Side::Sell, price, 0);
        same(&ladder, &naive);
    }
    // The touch stands in its window again, not outside.
    assert_eq!(ladder.halves[ASKS].inside, 1);
}

#[test]
fn crossing_is_seen() {
    let mut ladder = Ladder::new();
    ladder.set(Side::Buy, Price::from_units(10), Qty::from_units(1));
    ladder.set(Side::Sell, Price::from_units(11), Qty::from_units(1));
    assert!(!ladder.is_crossed());
    ladder.set(Side::Buy, Price::from_units(11), Qty::from_units(1));
    assert!(ladder.is_crossed());
}

#[test]
fn the_checksum_is_that_of_the_bytes() {
    let mut ladder = Ladder::new();
    ladder.set(Side::Sell, Price::from_units(11), Qty::from_units(3));
    ladder.set(Side::Buy, Price::from_units(10), Qty::from_units(2));
    let bytes: Vec<u8> = [10_i64, 2, 11, 3].iter().flat_map(|n| n.to_le_bytes()).collect();
    assert_eq!(ladder.checksum(), crc32c::crc32c(&bytes));
}

/// Prices that lie near, at the window's edges, far away, and off the step.
fn prices() -> impl Strategy<Value = i64> {
    let window = WINDOW_SLOTS as i64 * 100;
    prop_oneof![
        6 => (0_i64..64).prop_map(|k| 50_000_000 + k * 100),
        2 => (-300_i64..300).prop_map(move |k| 50_000_000 + k * window / 60 / 100 * 100),
        1 => 0_i64..100_000_000,
        1 => (0_i64..6_400).prop_map(|k| 50_000_000 + k),
        1 => Just(i64::MAX),
        1 => Just(0),
    ]
}

proptest! {
    #[test]
    fn a_ladder_is_a_book(
        first in proptest::collection::vec((any::<bool>(), prices(), 0_i64..4), 0..60),
        tick in prop_oneof![Just(0_i64), Just(100), Just(25), Just(1), Just(i64::MAX)],
        updates in proptest::collection::vec((any::<bool>(), prices(), 0_i64..3), 0..200),
        retick in any::<bool>(),
    ) {
        let (mut ladder, mut naive) = (Ladder::new(), Naive::default());
        snapshot(&mut ladder, &mut naive, &first, tick);
        same(&ladder, &naive);
        for (n, (bid, price, qty)) in updates.iter().enumerate() {
            let side = if *bid { Side::Buy } else { Side::Sell };
            ladder.set(side, Price::from_units(*price), Qty::from_units(*qty));
            naive.set(side, *price, *qty);
            if retick && n == 100 {
                ladder.set_tick(Price::from_units(50));
            }
            let best = ladder.levels(side).next();
            prop_assert_eq!(best, naive.levels(side).first().copied());
        }
        same(&ladder, &naive);
    }
}
