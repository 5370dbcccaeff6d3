//! Every rule of the synchronisation, and one property over all of them: a live book is the venue's book.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::trading::domain::{Qty, Side};

/// A one-piece delta that sets the bid 100 to the message's last id.
fn delta(first_id: u64, last_id: u64, prev_id: Option<u64>) -> DepthChunk {
    let mut chunk = DepthChunk { first_id, last_id, prev_id, ..piece(true, true) };
    chunk.levels[0] = level(100, last_id as i64);
    (chunk.bids, chunk.len) = (1, 1);
    chunk
}

fn piece(first: bool, last: bool) -> DepthChunk {
    DepthChunk { first, last, ..DepthChunk::default() }
}

fn level(price: i64, qty: i64) -> Level {
    Level { price: Price::from_units(price), qty: Qty::from_units(qty) }
}

fn snapshot(id: u64) -> DepthChunk {
    let mut chunk = DepthChunk { kind: DepthKind::Snapshot, ..delta(id, id, None) };
    chunk.levels[1] = level(200, 1);
    chunk.len = 2;
    chunk
}

/// A spot book that is live at id 10.
fn live() -> BookSync {
    let mut sync = BookSync::new();
    sync.take(&delta(8, 9, None));
    sync.take(&snapshot(9));
    sync.take(&delta(10, 10, None));
    assert_eq!(sync.state(), BookState::Live);
    sync
}

#[track_caller]
fn check(snapshot_id: u64, next: DepthChunk, state: BookState, count: impl Fn(&SyncCounts) -> u64) {
    let mut sync = BookSync::new();
    sync.assume_streaming();
    sync.take(&snapshot(snapshot_id));
    sync.take(&next);
    assert_eq!(sync.state(), state, "{:?}", sync.counts());
    assert_eq!(count(&sync.counts()), 1, "{:?}", sync.counts());
}

#[test]
fn the_first_event_on_spot() {
    check(10, delta(9, 10, None), BookState::Syncing, |c| c.old_ignored);
    check(10, delta(11, 11, None), BookState::Live, |c| c.applied);
    check(10, delta(5, 11, None), BookState::Live, |c| c.applied);
    check(10, delta(12, 13, None), BookState::Syncing, |c| c.refused_snapshots);
}

#[test]
fn the_first_event_on_futures() {
    check(10, delta(8, 9, Some(7)), BookState::Syncing, |c| c.old_ignored);
    check(10, delta(8, 10, Some(7)), BookState::Live, |c| c.applied);
    check(10, delta(10, 12, Some(9)), BookState::Live, |c| c.applied);
    check(10, delta(11, 12, Some(9)), BookState::Syncing, |c| c.refused_snapshots);
    check(10, delta(12, 14, Some(10)), BookState::Live, |c| c.applied);
}

#[track_caller]
fn check_next(next: DepthChunk, state: BookState, count: impl Fn(&SyncCounts) -> u64) {
    let mut sync = live();
    let before = count(&sync.counts());
    sync.take(&next);
    assert_eq!(sync.state(), state, "{:?}", sync.counts());
    assert_eq!(count(&sync.counts()), before + 1, "{:?}", sync.counts());
}

#[test]
fn every_further_event() {
    check_next(delta(11, 15, None), BookState::Live, |c| c.applied);
    check_next(delta(10, 10, None), BookState::Live, |c| c.old_ignored);
    check_next(delta(3, 4, None), BookState::Live, |c| c.old_ignored);
    check_next(delta(12, 12, None), BookState::Gap, |c| c.gaps);
    check_next(delta(10, 11, None), BookState::Gap, |c| c.gaps);
    check_next(delta(500, 511, Some(10)), BookState::Live, |c| c.applied);
    check_next(delta(11, 12, Some(9)), BookState::Gap, |c| c.gaps);
}

#[test]
fn a_gap_is_healed_by_a_newer_snapshot_and_what_came_meanwhile() {
    let mut sync = live();
    assert!(!sync.wants_snapshot());
    sync.take(&delta(12, 12, None));
    assert!(sync.wants_snapshot());
    assert_eq!(sync.touch(), (None, None));
    sync.take(&delta(13, 14, None));
    sync.take(&delta(15, 15, None));
    sync.take(&snapshot(13));
    assert_eq!((sync.state(), sync.update_id()), (BookState::Live, 15));
    let expect =
        SyncCounts { applied: 3, old_ignored: 2, gaps: 1, resyncs: 1, ..SyncCounts::default() };
    assert_eq!(sync.counts(), expect);
    assert_eq!(sync.first_hole(), Some(Hole { after: 10, first_id: 12, prev_id: None }));
}

#[test]
fn a_stale_snapshot_is_refused_and_the_next_one_taken() {
    let mut sync = BookSync::new();
    sync.take(&delta(20, 21, None));
    sync.take(&snapshot(10));
    assert!(sync.wants_snapshot());
    sync.take(&snapshot(20));
    assert_eq!((sync.state(), sync.counts().refused_snapshots), (BookState::Live, 1));
    assert_eq!(sync.counts().resyncs, 1);
}

#[test]
fn a_message_in_pieces_is_applied_at_its_end() {
    let mut sync = live();
    let whole = delta(11, 14, None);
    sync.take(&DepthChunk { last: false, ..whole });
    sync.take(&DepthChunk { first: false, last: false, ..whole });
    assert_eq!(sync.update_id(), 10);
    assert_eq!(sync.ladder().qty_at(Side::Buy, Price::from_units(100)).units(), 10);
    sync.take(&DepthChunk { first: false, ..whole });
    assert_eq!((sync.update_id(), sync.counts().applied), (14, 2));
    assert_eq!(sync.ladder().qty_at(Side::Buy, Price::from_units(100)).units(), 14);
}

#[test]
fn half_a_message_changes_nothing() {
    let mut sync = live();
    sync.take(&DepthChunk { last: false, ..delta(11, 14, None) });
    // Its rest never came; the same ids come again whole.
    sync.take(&delta(11, 12, None));
    assert_eq!((sync.state(), sync.update_id()), (BookState::Live, 12));
    // The rest of a message whose beginning nobody saw.
    sync.take(&DepthChunk { first: false, ..delta(13, 13, None) });
    assert_eq!((sync.state(), sync.update_id()), (BookState::Live, 12));
}

#[test]
fn half_a_message_before_a_reset_is_forgotten() {
    let mut sync = live();
    sync.take(&DepthChunk { last: false, ..delta(11, 14, None) });
    sync.reset(ResetReason::Overrun);
    sync.take(&DepthChunk { first: false, ..delta(11, 14, None) });
    sync.take(&snapshot(10));
    assert!(sync.is_unproved());
    assert_eq!(sync.counts().gaps, 1);
}

#[test]
fn resets_say_what_the_book_is() {
    for (reason, state, wants) in [
        (ResetReason::Connected, BookState::Syncing, true),
        (ResetReason::Disconnected, BookState::Stale, false),
        (ResetReason::Overrun, BookState::Gap, true),
        (ResetReason::Undecodable, BookState::Gap, true),
    ] {
        let mut sync = live();
        sync.reset(reason);
        assert_eq!((sync.state(), sync.wants_snapshot()), (state, wants), "{reason:?}");
    }
}

#[test]
fn a_crossed_book_is_a_gap() {
    let mut sync = live();
    let mut cross = delta(11, 11, None);
    cross.levels[0] = level(200, 1);
    sync.take(&cross);
    assert_eq!((sync.state(), sync.counts().crossed), (BookState::Gap, 1));
    assert_eq!(sync.counts().gaps, 1);
}

#[test]
fn a_quiet_book_settles_and_is_still_held_against_the_next_event() {
    let mut sync = BookSync::new();
    sync.reset(ResetReason::Connected);
    sync.take(&snapshot(10));
    assert!(sync.is_unproved());
    sync.settle();
    assert_eq!(sync.state(), BookState::Live);
    sync.take(&delta(12, 12, None));
    assert_eq!((sync.state(), sync.counts().refused_snapshots), (BookState::Syncing, 1));
}

#[test]
fn a_full_buffer_is_forgotten_and_counted() {
    let mut sync = BookSync::new();
    for id in 1..=BUFFER_CHUNKS as u64 + 5 {
        sync.take(&delta(id, id, None));
    }
    assert_eq!(sync.counts().overflows, 1);
    sync.take(&snapshot(10));
    assert_eq!(sync.counts().refused_snapshots, 1);
    sync.take(&snapshot(BUFFER_CHUNKS as u64));
    assert_eq!((sync.state(), sync.update_id()), (BookState::Live, BUFFER_CHUNKS as u64 + 5));
}

#[test]
fn a_snapshot_that_nobody_wants_changes_nothing() {
    let mut sync = live();
    sync.take(&snapshot(500));
    assert_eq!((sync.update_id(), sync.counts().unwanted_snapshots), (10, 1));
}

/// The venue's truth: one bid per id, so that a lost or doubled update shows.
fn truth(id: u64) -> BTreeMap<i64, i64> {
    (1..=id).map(|n| ((n % 40) as i64 + 1, n as i64)).collect()
}

fn event(id: u64, pieces: u64) -> Vec<DepthChunk> {
    // Ids come in events of two; each id sets its own price.
    let ids = [id * 2 - 1, id * 2];
    (0..pieces)
        .map(|n| {
            let mut chunk =
                DepthChunk { first_id: ids[0], last_id: ids[1], ..piece(n == 0, n + 1 == pieces) };
            for id in ids.iter().filter(|id| **id % pieces == n) {
                chunk.levels[usize::from(chunk.len)] = level((id % 40) as i64 + 1, *id as i64);
                chunk.len += 1;
            }
            chunk.bids = chunk.len;
            chunk
        })
        .collect()
}

fn whole_book(id: u64) -> Vec<DepthChunk> {
    let levels: Vec<_> = truth(id).into_iter().rev().collect();
    let chunks = levels.chunks(14);
    let count = chunks.len();
    chunks
        .enumerate()
        .map(|(n, part)| {
            let mut chunk = DepthChunk {
                kind: DepthKind::Snapshot,
                first_id: id,
                last_id: id,
                ..piece(n == 0, n + 1 == count)
            };
            for (i, (price, qty)) in part.iter().enumerate() {
                chunk.levels[i] = level(*price, *qty);
            }
            (chunk.bids, chunk.len) = (part.len() as u8, part.len() as u8);
            chunk
        })
        .collect()
}

proptest! {
    #[test]
    fn a_live_book_is_the_venues_book(
        faults in proptest::collection::vec((0_u8..12, 1_u64..3), 50..150),
    ) {
        let mut sync = BookSync::new();
        for (n, (fault, pieces)) in faults.iter().enumerate() {
            let id = n as u64 + 1;
            let mut chunks = event(id, *pieces);
            match fault {
                0 => chunks.clear(),
                1 => { chunks.pop(); }
                2 => { chunks.remove(0); }
                3 => chunks.extend(event(id, *pieces)),
                4 if id > 3 => chunks = [event(id - 2, 1), chunks].concat(),
                5 => { sync.reset(ResetReason::Undecodable); }
                6 => { sync.reset(ResetReason::Disconnected); }
                7 if id > 4 => chunks.extend(whole_book(id * 2 - 5)),
                8 => chunks = [chunks, event(id + 1, 1)].concat(),
                9 | 10 if sync.wants_snapshot() => chunks.extend(whole_book(id * 2 - 1)),
                _ => {}
            }
            for chunk in &chunks {
                sync.take(chunk);
                if sync.state() == BookState::Live {
                    let book: BTreeMap<i64, i64> = sync
                        .ladder()
                        .levels(Side::Buy)
                        .map(|l| (l.price.units(), l.qty.units()))
                        .collect();
                    prop_assert_eq!(book, truth(sync.update_id()));
                }
            }
        }
    }
}

#[test]
fn a_snapshot_older_than_what_was_seen_and_forgotten_is_refused() {
    let mut sync = live();
    sync.take(&delta(11, 20, None));
    sync.reset(ResetReason::Undecodable);
    sync.take(&snapshot(15));
    sync.settle();
    assert_ne!(sync.state(), BookState::Live, "11 to 20 was applied once and is not in this book");
    assert_eq!(sync.counts().refused_snapshots, 1);
    sync.take(&snapshot(20));
    sync.settle();
    assert_eq!(sync.state(), BookState::Live);
    // Another connection may lead to a venue that counts anew.
    sync.reset(ResetReason::Disconnected);
    sync.reset(ResetReason::Connected);
    sync.take(&snapshot(3));
    sync.settle();
    assert_eq!(sync.state(), BookState::Live);
}
