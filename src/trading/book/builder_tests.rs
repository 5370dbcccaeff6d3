//! The builder as an actor, with detached mailboxes and a clock that stands still until it is moved.

use super::*;
use crate::clock::UtcNs;
use crate::runtime::actor::{ActorId, EdgeId, Generation};
use crate::runtime::mailbox::{EdgeSpec, Latest, LatestInbox, Mailbox, OnRestart, Overflow};
use crate::runtime::wake::Waker;
use crate::trading::domain::instrument::Name;
use crate::trading::domain::{DepthKind, Instrument, Level, Price, Qty, Stamps, VenueId};

const MINE: InstrumentId = InstrumentId(1);
const FEED_CAPACITY: usize = 8;

struct Rig {
    builder: BookBuilder,
    cx: Cx,
    feed: Outbox<MarketUpdate>,
    snapshots: Outbox<MarketUpdate>,
    requests: Inbox<SnapshotRequest>,
    tops: LatestInbox<TopOfBook>,
    trades: Inbox<Trade>,
    journal: Inbox<Entry>,
    view: View<BooksView>,
}

fn name(text: &str) -> Name {
    Name::from(text).expect("a short name")
}

fn resync_mailbox() -> Mailbox<MarketUpdate> {
    let spec = EdgeSpec {
        name: "feed->book".to_owned(),
        from: Vec::new(),
        to: ActorId(0),
        capacity: FEED_CAPACITY,
        overflow: Overflow::Resync,
        on_restart: OnRestart::Discard,
    };
    Mailbox::new(EdgeId(0), spec, Waker::none())
}

fn rig() -> Rig {
    let instrument =
        |n| Instrument::new(InstrumentId(n), VenueId(0), name("v"), name("XY"), (2, 2));
    let instruments: Instruments = (0..2).map(instrument).collect::<Vec<_>>().into();
    let (feed, snapshots) = (resync_mailbox(), Mailbox::detached("rest->book", 8));
    let (requests, trades) = (Mailbox::detached("book->rest", 8), Mailbox::detached("trades", 8));
    let (journal, tops) = (Mailbox::detached("journal", 64), Latest::detached("tops", 2));
    let view = View::new();
    let ports = BookBuilderPorts {
        feed: feed.inbox(),
        snapshots: snapshots.inbox(),
        requests: requests.outbox(),
        tops: vec![tops.outbox()],
        trades: vec![trades.outbox()],
        journal: Some(journal.outbox()),
        view: view.clone(),
    };
    let settings = BookBuilderSettings::new(instruments, vec![MINE]);
    let mut rig = Rig {
        builder: BookBuilder::new(settings, ports),
        cx: Cx::detached(MonoNs::from_millis(1), UtcNs::default()),
        feed: feed.outbox(),
        snapshots: snapshots.outbox(),
        requests: requests.inbox(),
        tops: tops.inbox(),
        trades: trades.inbox(),
        journal: journal.inbox(),
        view,
    };
    rig.builder.on_start(&mut rig.cx).expect("starts");
    assert_eq!(rig.top().map(|top| top.state), Some(BookState::Syncing));
    rig
}

fn level(price: i64, qty: i64) -> Level {
    Level { price: Price::from_units(price), qty: Qty::from_units(qty) }
}

/// A delta of one bid.
fn delta(first_id: u64, last_id: u64) -> DepthChunk {
    let mut chunk = DepthChunk {
        instrument: MINE,
        first_id,
        last_id,
        first: true,
        last: true,
        bids: 1,
        len: 1,
        ..DepthChunk::default()
    };
    chunk.levels[0] = level(100, last_id as i64);
    chunk
}

fn snapshot(id: u64) -> DepthChunk {
    let mut chunk = DepthChunk { kind: DepthKind::Snapshot, len: 2, ..delta(id, id) };
    chunk.levels[1] = level(101, 7);
    chunk
}

impl Rig {
    fn turn(&mut self) {
        self.builder.turn(&mut self.cx).expect("no fault");
    }

    fn say(&mut self, update: MarketUpdate) {
        self.feed.offer(update).expect("resync never refuses");
        self.turn();
    }

    fn reset(&mut self, reason: ResetReason) {
        self.say(MarketUpdate::Reset { instrument: MINE, reason, at: self.cx.now });
    }

    fn answer(&mut self, id: u64) {
        self.snapshots.offer(MarketUpdate::Depth(snapshot(id))).expect("room");
        self.turn();
    }

    fn pass(&mut self, ms: u64) {
        self.cx.now = self.cx.now.after(Duration::from_millis(ms));
        self.turn();
    }

    fn top(&mut self) -> Option<TopOfBook> {
        self.tops.take(&mut self.cx).map(|(key, top)| {
            assert_eq!(key, MINE.index());
            top
        })
    }

    fn state(&mut self) -> Option<BookState> {
        self.top().map(|top| top.state)
    }

    fn asked(&mut self) -> bool {
        let request = self.requests.take(&mut self.cx);
        assert!(request.is_none_or(|r| r.instrument == MINE));
        request.is_some()
    }

    /// Connected, snapshot 10, delta 11: live.
    fn live(&mut self) {
        self.reset(ResetReason::Connected);
        assert!(self.asked());
        self.answer(10);
        self.say(MarketUpdate::Depth(delta(11, 11)));
        assert_eq!(self.state(), Some(BookState::Live));
    }

    fn show(&mut self) -> BookView {
        self.builder.on_stop(&mut self.cx, Stop::Drained);
        self.view.take().expect("published").books[0]
    }
}

#[test]
fn nothing_is_asked_before_the_feed_is_connected() {
    let mut rig = rig();
    rig.turn();
    assert!(!rig.asked());
    rig.reset(ResetReason::Connected);
    assert!(rig.asked());
    rig.turn();
    assert!(!rig.asked(), "never twice at once");
}

#[test]
fn the_touch_is_published_when_it_changes() {
    let mut rig = rig();
    rig.live();
    rig.say(MarketUpdate::Depth(delta(12, 12)));
    let top = rig.top().expect("the quantity changed");
    assert_eq!((top.bid, top.ask), (Some(level(100, 12)), Some(level(101, 7))));
    assert_eq!((top.update_id, top.booked), (12, rig.cx.now));
    // A change far from the touch is none for those who see only the touch.
    let mut deep = delta(13, 13);
    deep.levels[0] = level(50, 1);
    rig.say(MarketUpdate::Depth(deep));
    assert_eq!(rig.top(), None);
    // Half a message changes nothing that shows.
    rig.say(MarketUpdate::Depth(DepthChunk { last: false, ..delta(14, 14) }));
    assert_eq!(rig.top(), None);
}

#[test]
fn a_touch_that_updates_confirm_is_published_again_now_and_then() {
    let mut rig = rig();
    rig.live();
    for (id, ms, told) in [
        (12, 100, false),
        (13, 249, false),
        (14, 250, true),
        (15, 499, false),
        (16, 600, true),
        (17, 610, false),
    ] {
        let mut deep = delta(id, id);
        deep.levels[0] = level(50, ms);
        deep.stamps.recv = MonoNs::from_millis(ms as u64);
        rig.say(MarketUpdate::Depth(deep));
        let top = rig.top();
        assert_eq!(top.map(|t| t.stamps.recv), told.then_some(deep.stamps.recv), "at {ms} ms");
        assert!(top.is_none_or(|t| t.bid == Some(level(100, 11))), "the same touch");
    }
    rig.pass(1_000);
    assert_eq!(rig.top(), None, "silence confirms nothing");
}

#[test]
fn a_gap_is_asked_about_and_healed() {
    let mut rig = rig();
    rig.live();
    rig.say(MarketUpdate::Depth(delta(13, 13)));
    let top = rig.top().expect("published");
    assert_eq!((top.state, top.bid, top.ask), (BookState::Gap, None, None));
    // The answer before this one was used a moment ago: the next request keeps its distance.
    rig.pass(250);
    assert!(rig.asked());
    rig.answer(12);
    let top = rig.top().expect("published");
    assert_eq!((top.state, top.update_id), (BookState::Live, 13));
    let view = rig.show();
    assert_eq!((view.gaps, view.resyncs, view.applied), (1, 1, 2));
}

#[test]
fn a_lost_answer_is_asked_for_again() {
    let mut rig = rig();
    rig.reset(ResetReason::Connected);
    assert!(rig.asked());
    rig.pass(4_999);
    assert!(!rig.asked());
    rig.pass(1);
    rig.pass(250);
    assert!(rig.asked());
    // Later each time.
    rig.pass(5_000);
    rig.pass(250);
    assert!(!rig.asked());
    rig.pass(250);
    assert!(rig.asked());
}

#[test]
fn a_refused_snapshot_is_asked_for_again() {
    let mut rig = rig();
    rig.reset(ResetReason::Connected);
    rig.say(MarketUpdate::Depth(delta(20, 21)));
    assert!(rig.asked());
    rig.answer(10);
    assert!(!rig.asked());
    rig.pass(250);
    assert!(rig.asked());
    rig.answer(20);
    assert_eq!(rig.state(), Some(BookState::Live));
    assert_eq!(rig.show().refused_snapshots, 1);
}

#[test]
fn s28_an_overrun_is_a_gap_and_resyncs() {
    let mut rig = rig();
    rig.live();
    for n in 0..=FEED_CAPACITY as u64 {
        rig.feed.offer(MarketUpdate::Depth(delta(12 + n, 12 + n))).expect("never refused");
    }
    rig.turn();
    assert_eq!(rig.state(), Some(BookState::Gap));
    rig.pass(250);
    assert!(rig.asked());
    rig.say(MarketUpdate::Depth(delta(30, 30)));
    rig.answer(29);
    let top = rig.top().expect("published");
    assert_eq!((top.state, top.update_id), (BookState::Live, 30));
    let view = rig.show();
    assert_eq!((view.gaps, view.resyncs), (1, 1));
}

#[test]
fn a_silent_feed_makes_its_books_stale_until_it_speaks() {
    let mut rig = rig();
    rig.live();
    rig.pass(14_999);
    assert_eq!(rig.state(), None);
    rig.pass(1);
    assert_eq!(rig.state(), Some(BookState::Stale));
    rig.pass(60_000);
    assert_eq!(rig.state(), None);
    // Any sign of life will do, and nothing was lost meanwhile: the next delta proves it.
    rig.say(MarketUpdate::Trade(Trade { instrument: MINE, ..Trade::default() }));
    assert_eq!(rig.state(), Some(BookState::Live));
    assert!(rig.trades.take(&mut rig.cx).is_some());
    rig.say(MarketUpdate::Depth(delta(12, 12)));
    assert_eq!(rig.state(), Some(BookState::Live));
}

#[test]
fn a_lost_connection_makes_its_books_stale() {
    let mut rig = rig();
    rig.live();
    rig.reset(ResetReason::Disconnected);
    assert_eq!(rig.state(), Some(BookState::Stale));
    rig.pass(10_000);
    assert!(!rig.asked(), "a snapshot without a stream aligns with nothing");
    rig.reset(ResetReason::Connected);
    assert_eq!(rig.state(), Some(BookState::Syncing));
    assert!(rig.asked());
}

#[test]
fn a_quiet_book_is_believed_after_a_while() {
    let mut rig = rig();
    rig.reset(ResetReason::Connected);
    rig.answer(10);
    assert_eq!(rig.state(), Some(BookState::Syncing));
    rig.pass(1_999);
    assert_eq!(rig.state(), None);
    rig.pass(1);
    assert_eq!(rig.state(), Some(BookState::Live));
}

#[test]
fn the_venues_own_touch_is_compared_at_equal_ids() {
    let mut rig = rig();
    rig.live();
    let ticker = |update_id, qty| BookTicker {
        instrument: MINE,
        update_id,
        bid: level(100, qty),
        ask: level(101, 7),
        stamps: Stamps::default(),
    };
    rig.say(MarketUpdate::Ticker(ticker(11, 11)));
    assert_eq!(rig.show().disagreements, 0);
    rig.say(MarketUpdate::Ticker(ticker(11, 12)));
    rig.say(MarketUpdate::Ticker(ticker(13, 12)));
    assert_eq!(rig.show().disagreements, 1);
    // The touch that came before its update is compared when the update comes.
    rig.say(MarketUpdate::Depth(delta(12, 13)));
    assert_eq!(rig.show().disagreements, 2);
}

#[test]
fn the_last_view_holds_the_checksum_of_the_book() {
    let mut rig = rig();
    rig.live();
    rig.pass(100);
    let running = rig.view.take().expect("published").books[0];
    assert_eq!((running.checksum, running.state), (0, BookState::Live));
    rig.reset(ResetReason::Disconnected);
    let last = rig.show();
    let bytes: Vec<u8> = [100_i64, 11, 101, 7].iter().flat_map(|n| n.to_le_bytes()).collect();
    assert_eq!(last.checksum, crc32c::crc32c(&bytes));
    assert_eq!((last.update_id, last.bid_levels, last.ask_levels), (11, 1, 1));
}

#[test]
fn changes_of_state_and_samples_are_recorded() {
    let mut rig = rig();
    rig.live();
    rig.pass(1_000);
    let mut states = Vec::new();
    while let Some(entry) = rig.journal.take(&mut rig.cx) {
        if let Record::Top(top) = entry.record {
            states.push(top.state);
        }
    }
    assert_eq!(states, [BookState::Live, BookState::Live]);
}

#[test]
fn a_new_generation_resyncs_on_the_running_stream() {
    let mut rig = rig();
    rig.cx.generation = Generation(2);
    rig.builder.on_start(&mut rig.cx).expect("starts");
    assert_eq!(rig.state(), Some(BookState::Syncing));
    rig.turn();
    assert!(rig.asked());
}

#[test]
fn other_instruments_are_left_alone() {
    let mut rig = rig();
    rig.live();
    rig.say(MarketUpdate::Depth(DepthChunk { instrument: InstrumentId(0), ..delta(50, 50) }));
    rig.say(MarketUpdate::Depth(DepthChunk { instrument: InstrumentId(9), ..delta(50, 50) }));
    assert_eq!(rig.state(), None);
}

/// A generation whose predecessor died: nobody says again whether the feed is connected.
fn reborn() -> Rig {
    let mut rig = rig();
    rig.cx.generation = Generation(2);
    rig.builder.on_start(&mut rig.cx).expect("starts");
    rig.turn();
    assert!(rig.asked());
    while rig.state().is_some() {}
    rig
}

#[test]
fn a_snapshot_proves_nothing_while_the_feed_was_not_heard() {
    let mut rig = reborn();
    rig.answer(10);
    rig.pass(10_000);
    assert_eq!(rig.state(), Some(BookState::Syncing), "the connection may be down");
    rig.say(MarketUpdate::Trade(Trade { instrument: MINE, ..Trade::default() }));
    assert_eq!(rig.state(), Some(BookState::Live));
}

#[test]
fn an_overrun_may_have_swallowed_the_end_of_the_connection() {
    let mut rig = rig();
    rig.live();
    for n in 0..=FEED_CAPACITY as u64 {
        rig.feed.offer(MarketUpdate::Depth(delta(12 + n, 12 + n))).expect("never refused");
    }
    rig.turn();
    assert_eq!(rig.state(), Some(BookState::Gap));
    rig.pass(250);
    assert!(rig.asked());
    rig.answer(40);
    assert_eq!(rig.state(), Some(BookState::Syncing));
    rig.pass(10_000);
    assert_eq!(rig.state(), None);
    rig.say(MarketUpdate::Depth(delta(41, 41)));
    assert_eq!(rig.state(), Some(BookState::Live));
}

#[test]
fn an_answer_from_before_a_lost_connection_is_not_believed_for_silence() {
    let mut rig = rig();
    rig.reset(ResetReason::Connected);
    assert!(rig.asked());
    rig.reset(ResetReason::Disconnected);
    rig.reset(ResetReason::Connected);
    // The venue made this one before the connection that is read now; what happened between is in neither.
    rig.answer(10);
    rig.pass(249);
    assert!(!rig.asked());
    rig.pass(1);
    assert!(rig.asked());
    rig.pass(3_000);
    assert_ne!(rig.builder.slots[0].state(), BookState::Live);
    rig.answer(11);
    rig.pass(2_000);
    assert_eq!(rig.builder.slots[0].state(), BookState::Live);
}

#[test]
fn an_answer_from_before_a_lost_connection_will_do_when_deltas_prove_it() {
    let mut rig = rig();
    rig.reset(ResetReason::Connected);
    rig.reset(ResetReason::Disconnected);
    rig.reset(ResetReason::Connected);
    rig.say(MarketUpdate::Depth(delta(11, 12)));
    rig.answer(10);
    assert_eq!(rig.builder.slots[0].state(), BookState::Live);
}

#[test]
fn holes_in_a_row_are_asked_about_later_each_time() {
    let mut rig = rig();
    rig.live();
    let mut asked = 0;
    // Ten seconds of a feed with a hole in every update.
    for n in 0..100 {
        let id = 100 + 10 * n;
        rig.say(MarketUpdate::Depth(delta(id, id)));
        rig.pass(100);
        if rig.asked() {
            asked += 1;
            rig.answer(id);
            rig.say(MarketUpdate::Depth(delta(id + 1, id + 1)));
        }
    }
    assert!(asked <= 6, "{asked} snapshots in ten seconds");
    // A calm while later, the next hole is healed at once.
    rig.pass(8_000);
    rig.asked();
    rig.answer(5_000);
    rig.pass(2_000);
    for n in 1..200 {
        rig.say(MarketUpdate::Depth(delta(5_000 + n, 5_000 + n)));
        rig.pass(100);
    }
    rig.say(MarketUpdate::Depth(delta(9_000, 9_000)));
    assert!(rig.asked());
}
