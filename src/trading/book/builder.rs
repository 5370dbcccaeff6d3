//! The actor that keeps the books of one feed.
//!
//! In: market updates from the feed reader, pieces of snapshots from the rest worker. Out: the touch of every
//! book on every change of touch or state, trades, requests for snapshots, sampled journal records, a view.
//! What always holds: a touch that is published as `Live` belongs to a complete, continuous book of a feed that
//! shows life; of one book, at most one snapshot is asked for at a time, and a request that is not answered in
//! time is asked again.

use std::time::Duration;

use crate::clock::MonoNs;
use crate::runtime::actor::{Actor, Cx, Fault, Stop, Waits, Work};
use crate::runtime::mailbox::{Inbox, LatestOutbox, Outbox};
use crate::runtime::view::View;
use crate::trading::domain::{
    BookState, BookTicker, DepthChunk, Entry, InstrumentId, Instruments, MarketUpdate, Record,
    ResetReason, Side, SnapshotRequest, TopOfBook, Trade,
};
use crate::trading::limits::{TURN_MESSAGES_MAX, VIEW_PERIOD};
use crate::trading::telemetry::{BookView, BooksView};

use super::sync::{BookSync, Step};

/// The delay before a snapshot is asked for a second time; doubled each further time.
const RETRY_FIRST: Duration = Duration::from_millis(250);
/// How often it is doubled: at most every 8 s, far below the venue's request weight.
const RETRY_DOUBLINGS_MAX: u32 = 5;

/// A book that was live for this long after its last request is calm: its next hole is the first again. Until
/// then holes in a row count like failures, or a broken feed would spend the venue's whole request weight.
const CALM_AFTER: Duration = Duration::from_secs(10);

/// A live touch that later updates leave as it is is published again this often: whoever trades on it judges its age,
/// and it is as young as what confirms it. Far below any sensible limit on that age, and rare beside updates.
const CONFIRM_EVERY: Duration = Duration::from_millis(250);

/// What a book builder keeps, and its patience.
#[derive(Clone, Debug)]
pub struct BookBuilderSettings {
    /// The engine's table of instruments.
    pub instruments: Instruments,
    /// Those whose books are kept here.
    pub mine: Vec<InstrumentId>,
    /// A live book without any sign of life from its feed (delta, trade, touch) for this long is stale. Quiet
    /// pairs were recorded silent for 10.5 s.
    pub stale_after: Duration,
    /// A snapshot that no delta has refuted for this long is believed.
    pub settle_after: Duration,
    /// A snapshot that has not come after this long is asked for again; longer than the rest worker's own
    /// deadline.
    pub answer_deadline: Duration,
    /// How often the touch is written to the journal besides changes of state.
    pub sample_every: Duration,
}

impl BookBuilderSettings {
    /// The usual patience.
    pub fn new(instruments: Instruments, mine: Vec<InstrumentId>) -> Self {
        Self {
            instruments,
            mine,
            stale_after: Duration::from_secs(15),
            settle_after: Duration::from_secs(2),
            answer_deadline: Duration::from_secs(5),
            sample_every: Duration::from_secs(1),
        }
    }
}

/// A book builder's edges.
pub struct BookBuilderPorts {
    /// From the feed reader; overflow resyncs.
    pub feed: Inbox<MarketUpdate>,
    /// From the rest worker: pieces of snapshots.
    pub snapshots: Inbox<MarketUpdate>,
    /// To the rest worker.
    pub requests: Outbox<SnapshotRequest>,
    /// To strategies and the order sender, keyed by instrument index.
    pub tops: Vec<LatestOutbox<TopOfBook>>,
    /// To strategies; the newest are dropped and counted when they are late.
    pub trades: Vec<Outbox<Trade>>,
    /// To the journal, if it takes market records; the newest are dropped and counted when it is late.
    pub journal: Option<Outbox<Entry>>,
    /// What the ops page sees.
    pub view: View<BooksView>,
}

/// One book and what was said about it.
struct Slot {
    id: InstrumentId,
    sync: BookSync,
    top: TopOfBook,
    ticker: BookTicker,
    disagreements: u64,
    /// When the feed last said anything about it.
    alive: MonoNs,
    silent: bool,
    /// Whether the feed has said anything since it may last have been down unnoticed. Before, a snapshot that no
    /// delta refutes proves nothing.
    heard: bool,
    /// When an unproved snapshot is believed.
    settles: MonoNs,
    asking: Asking,
    tick_known: bool,
}

/// The request for a snapshot.
struct Asking {
    /// Until when an answer is awaited; `None` when none is under way.
    awaited: Option<MonoNs>,
    /// When to ask next, at the earliest.
    next: MonoNs,
    /// Answers that did not help in a row.
    failures: u32,
    /// Whether the stream had a hole since the answer awaited was asked for.
    outdated: bool,
}

impl Asking {
    /// The answer came, or will not come: the next request waits, longer each time.
    fn ended(&mut self, now: MonoNs) {
        self.awaited = None;
        let doublings = self.failures.min(RETRY_DOUBLINGS_MAX);
        self.next = now.after(RETRY_FIRST * (1 << doublings));
        self.failures = self.failures.saturating_add(1);
    }
}

impl Slot {
    fn new(id: InstrumentId) -> Self {
        Self {
            id,
            sync: BookSync::new(),
            top: TopOfBook { instrument: id, ..TopOfBook::default() },
            ticker: BookTicker::default(),
            disagreements: 0,
            alive: MonoNs::ZERO,
            silent: false,
            heard: false,
            settles: MonoNs::NEVER,
            asking: Asking { awaited: None, next: MonoNs::ZERO, failures: 0, outdated: false },
            tick_known: false,
        }
    }

    fn state(&self) -> BookState {
        match self.sync.state() {
            BookState::Live if self.silent => BookState::Stale,
            state => state,
        }
    }

    /// The touch as it is now.
    fn touch(&self, now: MonoNs) -> TopOfBook {
        let (bid, ask) = self.sync.touch();
        TopOfBook {
            instrument: self.id,
            state: self.state(),
            update_id: self.sync.update_id(),
            bid,
            ask,
            stamps: self.sync.stamps(),
            booked: now,
        }
    }

    /// The feed said something about this book; whether it was thought silent, or was not heard, before.
    fn live_again(&mut self, now: MonoNs) -> bool {
        self.alive = now;
        let heard = std::mem::replace(&mut self.heard, true);
        std::mem::take(&mut self.silent) || !heard
    }

    /// Holds the venue's own touch against ours, where both are of one update.
    fn compare(&mut self) {
        if self.ticker.update_id != self.sync.update_id() || self.sync.state() != BookState::Live {
            return;
        }
        let theirs = (Some(self.ticker.bid), Some(self.ticker.ask));
        self.disagreements += u64::from(self.sync.touch() != theirs);
        // Each is compared once.
        self.ticker.update_id = 0;
    }

    /// The earliest moment at which time alone changes something.
    fn due(&self, settings: &BookBuilderSettings) -> MonoNs {
        let mut due = if self.heard { self.settles } else { MonoNs::NEVER };
        if self.sync.wants_snapshot() {
            due = due.min(self.asking.awaited.unwrap_or(self.asking.next));
        }
        if self.sync.state() == BookState::Live && !self.silent {
            due = due.min(self.alive.after(settings.stale_after));
        }
        due
    }

    fn show(&self, with_checksum: bool) -> BookView {
        let counts = self.sync.counts();
        let ladder = self.sync.has_book().then(|| self.sync.ladder());
        let levels =
            |side| ladder.map_or(0, |l| u32::try_from(l.level_count(side)).unwrap_or(u32::MAX));
        BookView {
            instrument: self.id,
            state: self.state(),
            update_id: self.sync.update_id(),
            bid: ladder.and_then(|l| l.best_bid()),
            ask: ladder.and_then(|l| l.best_ask()),
            bid_levels: levels(Side::Buy),
            ask_levels: levels(Side::Sell),
            applied: counts.applied,
            gaps: counts.gaps,
            resyncs: counts.resyncs,
            refused_snapshots: counts.refused_snapshots,
            old_ignored: counts.old_ignored,
            crossed: counts.crossed,
            disagreements: self.disagreements,
            checksum: ladder.filter(|_| with_checksum).map_or(0, |l| l.checksum()),
        }
    }
}

/// The book builder.
pub struct BookBuilder {
    settings: BookBuilderSettings,
    ports: BookBuilderPorts,
    slots: Vec<Slot>,
    /// The slot of each instrument of the engine's table.
    by_instrument: Vec<Option<usize>>,
    /// When timers must be looked at; pulled forward by every change.
    due: MonoNs,
    next_view: MonoNs,
    next_sample: MonoNs,
}

impl BookBuilder {
    /// A builder with empty books.
    pub fn new(settings: BookBuilderSettings, ports: BookBuilderPorts) -> Self {
        let slots: Vec<Slot> = settings.mine.iter().copied().map(Slot::new).collect();
        let mut by_instrument = vec![None; settings.instruments.len()];
        for (n, slot) in slots.iter().enumerate() {
            if let Some(place) = by_instrument.get_mut(slot.id.index()) {
                *place = Some(n);
            }
        }
        let zero = MonoNs::ZERO;
        Self {
            settings,
            ports,
            slots,
            by_instrument,
            due: zero,
            next_view: zero,
            next_sample: zero,
        }
    }

    /// The slot of an instrument; `None` for one that is not kept here.
    fn slot(&self, id: InstrumentId) -> Option<usize> {
        self.by_instrument.get(id.index()).copied().flatten()
    }

    fn on_update(&mut self, update: MarketUpdate, cx: &Cx) {
        match update {
            MarketUpdate::Depth(chunk) => self.on_depth(&chunk, cx),
            MarketUpdate::Trade(trade) => self.on_trade(trade, cx),
            MarketUpdate::Ticker(ticker) => self.on_ticker(ticker, cx),
            MarketUpdate::Reset { instrument, reason, .. } => {
                if let Some(n) = self.slot(instrument) {
                    self.reset(n, reason, cx);
                }
            }
        }
    }

    fn on_depth(&mut self, chunk: &DepthChunk, cx: &Cx) {
        let Some(n) = self.slot(chunk.instrument) else { return };
        let slot = &mut self.slots[n];
        let woke = slot.live_again(cx.now);
        let step = slot.sync.take(chunk);
        if chunk.last {
            slot.compare();
        }
        if woke || step == Step::Changed {
            self.stepped(n, cx);
        }
    }

    fn on_snapshot(&mut self, update: MarketUpdate, cx: &Cx) {
        let MarketUpdate::Depth(chunk) = update else { return };
        let Some(n) = self.slot(chunk.instrument) else { return };
        let slot = &mut self.slots[n];
        let step = slot.sync.take(&chunk);
        if chunk.last {
            if std::mem::take(&mut slot.asking.outdated) {
                slot.sync.distrust();
            }
            slot.asking.ended(cx.now);
            self.due = cx.now;
        } else if slot.asking.awaited.is_some() {
            slot.asking.awaited = Some(cx.now.after(self.settings.answer_deadline));
        }
        if step == Step::Changed {
            self.stepped(n, cx);
        }
    }

    fn on_trade(&mut self, trade: Trade, cx: &Cx) {
        let Some(n) = self.slot(trade.instrument) else { return };
        if self.slots[n].live_again(cx.now) {
            self.stepped(n, cx);
        }
        for trades in &self.ports.trades {
            // A full mailbox drops and counts; a closed one belongs to a strategy that has ended.
            let _ = trades.offer(trade);
        }
        self.record(Record::Trade(trade), cx);
    }

    fn on_ticker(&mut self, ticker: BookTicker, cx: &Cx) {
        let Some(n) = self.slot(ticker.instrument) else { return };
        let slot = &mut self.slots[n];
        let woke = slot.live_again(cx.now);
        slot.ticker = ticker;
        slot.compare();
        if woke {
            self.stepped(n, cx);
        }
    }

    fn reset(&mut self, n: usize, reason: ResetReason, cx: &Cx) {
        let slot = &mut self.slots[n];
        slot.alive = cx.now;
        // The word that the connection is gone may be among what an overrun dropped.
        slot.heard = matches!(reason, ResetReason::Connected | ResetReason::Undecodable);
        slot.asking.outdated |= slot.asking.awaited.is_some();
        slot.sync.reset(reason);
        if reason == ResetReason::Connected {
            // The pauses between connections are pause enough.
            slot.asking.next = cx.now;
        }
        self.stepped(n, cx);
    }

    /// After anything that may have changed a book.
    fn stepped(&mut self, n: usize, cx: &Cx) {
        let slot = &mut self.slots[n];
        slot.settles = match (slot.sync.is_unproved(), slot.settles) {
            (false, _) => MonoNs::NEVER,
            (true, MonoNs::NEVER) => cx.now.after(self.settings.settle_after),
            (true, settles) => settles,
        };
        if slot.sync.state() == BookState::Live && cx.now.since(slot.asking.next) >= CALM_AFTER {
            slot.asking.failures = 0;
        }
        if slot.sync.wants_snapshot() || slot.settles != MonoNs::NEVER {
            self.due = cx.now;
        }
        self.publish(n, cx);
    }

    /// Publishes the touch if it, or the state, is another than before, or if it was confirmed a while after that.
    fn publish(&mut self, n: usize, cx: &Cx) {
        let slot = &mut self.slots[n];
        let top = slot.touch(cx.now);
        let state_changed = top.state != slot.top.state;
        let confirmed = top.state == BookState::Live
            && top.stamps.recv.since(slot.top.stamps.recv) >= CONFIRM_EVERY;
        let same = (top.bid, top.ask) == (slot.top.bid, slot.top.ask);
        if !state_changed && same && !confirmed {
            return;
        }
        slot.top = top;
        self.send(top);
        if state_changed {
            self.record(Record::Top(top), cx);
        }
    }

    fn send(&self, top: TopOfBook) {
        for tops in &self.ports.tops {
            tops.put(top.instrument.index(), top);
        }
    }

    fn record(&self, record: Record, cx: &Cx) {
        if let Some(journal) = &self.ports.journal {
            // Market records may be lost; the mailbox counts them.
            let _ = journal.offer(Entry { seq: 0, at: cx.now, utc: cx.utc, record });
        }
    }

    fn on_time(&mut self, cx: &Cx) {
        for n in 0..self.slots.len() {
            self.ask(n, cx);
            let slot = &mut self.slots[n];
            if slot.heard && slot.settles <= cx.now {
                slot.settles = MonoNs::NEVER;
                slot.sync.settle();
            }
            let live = slot.sync.state() == BookState::Live;
            slot.silent = live && cx.now >= slot.alive.after(self.settings.stale_after);
            self.publish(n, cx);
        }
        if cx.now >= self.next_view {
            self.next_view = cx.now.after(VIEW_PERIOD);
            self.learn_ticks();
            self.show(false);
        }
        if cx.now >= self.next_sample {
            self.next_sample = cx.now.after(self.settings.sample_every);
            for slot in self.slots.iter().filter(|slot| slot.state() == BookState::Live) {
                self.record(Record::Top(slot.touch(cx.now)), cx);
            }
        }
        let due = self.slots.iter().map(|slot| slot.due(&self.settings)).min();
        self.due = due.unwrap_or(MonoNs::NEVER).min(self.next_view).min(self.next_sample);
    }

    /// Asks for a snapshot if one is wanted and none is under way.
    fn ask(&mut self, n: usize, cx: &Cx) {
        let slot = &mut self.slots[n];
        if slot.asking.awaited.is_some_and(|until| until <= cx.now) {
            slot.asking.ended(cx.now);
        }
        let due = slot.asking.awaited.is_none() && slot.asking.next <= cx.now;
        if cx.draining() {
            slot.asking.next = MonoNs::NEVER;
            return;
        }
        if !due || !slot.sync.wants_snapshot() {
            return;
        }
        match self.ports.requests.offer(SnapshotRequest { instrument: slot.id }) {
            Ok(()) => slot.asking.awaited = Some(cx.now.after(self.settings.answer_deadline)),
            Err(_) => slot.asking.ended(cx.now),
        }
    }

    /// The rules arrive some time after the start.
    fn learn_ticks(&mut self) {
        for slot in self.slots.iter_mut().filter(|slot| !slot.tick_known) {
            let instrument = self.settings.instruments.get(slot.id.index());
            if let Some(rules) = instrument.and_then(|i| i.rules()) {
                slot.tick_known = true;
                if !rules.tick.is_zero() {
                    slot.sync.set_tick(rules.tick);
                }
            }
        }
    }

    fn show(&self, with_checksum: bool) {
        self.ports.view.publish(|view| {
            view.books.clear();
            view.books.extend(self.slots.iter().map(|slot| slot.show(with_checksum)));
        });
    }
}

impl Actor for BookBuilder {
    fn on_start(&mut self, cx: &mut Cx) -> Result<(), Fault> {
        self.learn_ticks();
        for slot in &mut self.slots {
            slot.alive = cx.now;
            slot.top.booked = cx.now;
            if cx.generation.0 > 1 {
                // The feed reader lives on and will not say again that it is connected.
                slot.sync.assume_streaming();
            }
        }
        // Whoever believed the books of an earlier generation learns now that they are gone.
        for slot in &self.slots {
            self.send(slot.top);
        }
        Ok(())
    }

    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        let mut work = Work::Idle;
        if self.ports.feed.take_overrun() {
            work = Work::Busy;
            for n in 0..self.slots.len() {
                self.reset(n, ResetReason::Overrun, cx);
            }
        }
        for _ in 0..TURN_MESSAGES_MAX {
            let Some(update) = self.ports.snapshots.take(cx) else { break };
            work = Work::Busy;
            self.on_snapshot(update, cx);
        }
        for _ in 0..TURN_MESSAGES_MAX {
            let Some(update) = self.ports.feed.take(cx) else { break };
            work = Work::Busy;
            self.on_update(update, cx);
        }
        if cx.now >= self.due {
            self.on_time(cx);
        }
        Ok(work)
    }

    fn waits(&self, waits: &mut Waits) {
        waits.until(self.due);
    }

    fn on_stop(&mut self, _cx: &mut Cx, _stop: Stop) {
        self.show(true);
    }
}

#[cfg(test)]
#[path = "builder_tests.rs"]
mod tests;
