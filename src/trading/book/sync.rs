//! The venue's rules for keeping a local book, as a state machine for one instrument.
//!
//! In: pieces of deltas from the stream, pieces of a snapshot from REST, resets of the stream. Out: what each
//! piece changed, whether a snapshot is wanted, the book. What always holds: the book is `Live` only while
//! every update since its snapshot was applied, in order and without a hole; a message changes the book as a
//! whole or not at all.
//!
//! The rules are those of Binance's documentation ("How to manage a local order book correctly"), confirmed on
//! the recordings. Spot: drop `u <= L`; the first event has `U <= L+1 <= u`; then `U == previous u + 1`.
//! Futures (messages with `pu`): drop `u < L`; the first event has `U <= L <= u`; then `pu == previous u`.

use crate::trading::domain::{BookState, DepthChunk, DepthKind, Level, Price, ResetReason, Stamps};

use super::ladder::Ladder;

/// Pieces of deltas kept while a snapshot is awaited, some 600 kB: ten seconds of the densest recorded feed,
/// three times the deadline of a snapshot. When they are more, all are forgotten, and only a newer snapshot can
/// align.
pub const BUFFER_CHUNKS: usize = 2_048;

/// What happened to one book, counted since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncCounts {
    /// Deltas applied.
    pub applied: u64,
    /// Deltas that were older than the book.
    pub old_ignored: u64,
    /// Holes found: broken continuity, overruns, undecodable messages, crossed books.
    pub gaps: u64,
    /// Snapshots that did not fit the stream.
    pub refused_snapshots: u64,
    /// Snapshots aligned after a hole, a lost connection or a refused snapshot.
    pub resyncs: u64,
    /// Times that a complete update left the best bid at or above the best ask; each is a gap too.
    pub crossed: u64,
    /// Times that the buffer of deltas was full.
    pub overflows: u64,
    /// Snapshots that nobody waited for any more.
    pub unwanted_snapshots: u64,
}

/// Where the chain of updates broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The last update id before it.
    pub after: u64,
    /// The first id of the message that does not follow.
    pub first_id: u64,
    /// The id that the message says it follows, on futures.
    pub prev_id: Option<u64>,
}

/// What a piece changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing that shows.
    Nothing,
    /// The book, its state, or whether a snapshot is wanted.
    Changed,
}

/// How the book hangs on the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chain {
    /// Not at all: a snapshot is needed.
    None,
    /// The snapshot is loaded, the first delta that proves it has not come.
    Snapshot,
    /// A delta was applied; the next must follow it.
    Linked,
}

/// What to do with a complete delta.
enum Verdict {
    Old,
    Apply,
    Refuse,
    Gap,
}

/// The synchronisation of one book.
#[derive(Debug)]
pub struct BookSync {
    ladder: Ladder,
    tick: Option<Price>,
    state: BookState,
    chain: Chain,
    /// The last id applied, or the snapshot's.
    update_id: u64,
    stamps: Stamps,
    /// Whether the stream flows, so that a snapshot taken now can align.
    streaming: bool,
    /// Whether the next alignment is one after a loss.
    lost: bool,
    /// The highest last id of any complete delta of this connection, applied or not.
    newest: u64,
    /// Pieces not applied yet: complete messages first, then the one whose last piece has not come.
    buffer: Vec<DepthChunk>,
    /// How many pieces belong to complete messages.
    whole: usize,
    /// The snapshot being loaded.
    loading: Option<u64>,
    /// Whether the ladder is a whole book, live or not.
    whole_book: bool,
    counts: SyncCounts,
    hole: Option<Hole>,
}

impl Default for BookSync {
    fn default() -> Self {
        Self::new()
    }
}

impl BookSync {
    /// An empty book that waits for a stream.
    pub fn new() -> Self {
        Self {
            ladder: Ladder::new(),
            tick: None,
            state: BookState::Syncing,
            chain: Chain::None,
            update_id: 0,
            stamps: Stamps::default(),
            streaming: false,
            lost: false,
            newest: 0,
            buffer: Vec::with_capacity(BUFFER_CHUNKS),
            whole: 0,
            loading: None,
            whole_book: false,
            counts: SyncCounts::default(),
            hole: None,
        }
    }

    /// Whether the book may be traded on.
    pub fn state(&self) -> BookState {
        self.state
    }

    /// The levels. Meaningless unless [`BookSync::has_book`].
    pub fn ladder(&self) -> &Ladder {
        &self.ladder
    }

    /// Whether the ladder is a whole book as of [`BookSync::update_id`], live or not.
    pub fn has_book(&self) -> bool {
        self.whole_book
    }

    /// The last update id applied, or the snapshot's.
    pub fn update_id(&self) -> u64 {
        self.update_id
    }

    /// The times of the last message applied.
    pub fn stamps(&self) -> Stamps {
        self.stamps
    }

    /// What happened so far.
    pub fn counts(&self) -> SyncCounts {
        self.counts
    }

    /// The first broken link since the beginning, if one was found.
    pub fn first_hole(&self) -> Option<Hole> {
        self.hole
    }

    /// Best bid and best ask; nothing while the book does not hang on the stream.
    pub fn touch(&self) -> (Option<Level>, Option<Level>) {
        if self.chain == Chain::None {
            return (None, None);
        }
        (self.ladder.best_bid(), self.ladder.best_ask())
    }

    /// Whether a snapshot taken from now on would help.
    pub fn wants_snapshot(&self) -> bool {
        self.chain == Chain::None && self.streaming
    }

    /// Whether a snapshot is loaded that no delta has confirmed or refuted yet.
    pub fn is_unproved(&self) -> bool {
        self.chain == Chain::Snapshot && self.state == BookState::Syncing
    }

    /// The stream is known to flow though nothing of it was seen here: after a restart of this side alone.
    pub fn assume_streaming(&mut self) {
        self.streaming = true;
    }

    /// The price step, once known: the ladder is fastest with it.
    pub fn set_tick(&mut self, tick: Price) {
        self.tick = Some(tick);
        if self.whole_book {
            self.ladder.set_tick(tick);
        }
    }

    /// The stream has a hole here. A message of which only the beginning came is forgotten.
    pub fn reset(&mut self, reason: ResetReason) {
        self.lost |= self.chain != Chain::None;
        if matches!(reason, ResetReason::Overrun | ResetReason::Undecodable)
            && self.chain != Chain::None
        {
            self.counts.gaps += 1;
        }
        self.chain = Chain::None;
        self.loading = None;
        self.forget_buffer();
        if matches!(reason, ResetReason::Connected | ResetReason::Disconnected) {
            // Another connection may be to a venue that counts anew.
            self.newest = 0;
        }
        (self.state, self.streaming) = match reason {
            ResetReason::Connected => (BookState::Syncing, true),
            ResetReason::Disconnected => (BookState::Stale, false),
            ResetReason::Overrun | ResetReason::Undecodable => (BookState::Gap, true),
        };
    }

    /// Takes a piece of a delta or of a snapshot.
    pub fn take(&mut self, chunk: &DepthChunk) -> Step {
        match chunk.kind {
            DepthKind::Delta => self.take_delta(chunk),
            DepthKind::Snapshot => self.take_snapshot(chunk),
        }
    }

    /// No delta has confirmed the snapshot for a while: the market is quiet, and the snapshot, which is younger
    /// than the stream, is believed. The first delta is still held against it.
    pub fn settle(&mut self) {
        if self.is_unproved() {
            self.go_live();
        }
    }

    /// The snapshot was asked for before the stream's last hole: unless deltas have proved it, it may be older
    /// than what the hole swallowed.
    pub fn distrust(&mut self) {
        if self.chain == Chain::Snapshot {
            self.refuse();
        }
    }

    fn take_delta(&mut self, chunk: &DepthChunk) -> Step {
        let begins = !self.streaming;
        self.streaming = true;
        if chunk.first {
            // What came of the message before is only its beginning: its rest will never come.
            self.buffer.truncate(self.whole);
        } else if !self.continues(chunk) {
            return Step::Nothing;
        }
        if chunk.last {
            self.newest = self.newest.max(chunk.last_id);
        }
        let alone = chunk.first && chunk.last;
        if alone && self.chain != Chain::None {
            return match self.judge(chunk) {
                Verdict::Old => self.ignore(),
                Verdict::Apply => {
                    self.ladder.apply(chunk);
                    self.applied(chunk)
                }
                Verdict::Refuse => {
                    self.keep(chunk);
                    self.refuse()
                }
                Verdict::Gap => {
                    self.keep(chunk);
                    self.gap(chunk)
                }
            };
        }
        self.keep(chunk);
        if chunk.last && self.chain != Chain::None {
            return self.replay();
        }
        if begins { Step::Changed } else { Step::Nothing }
    }

    /// Whether `chunk` is the next piece of the message that ends the buffer.
    fn continues(&self, chunk: &DepthChunk) -> bool {
        let open = self.buffer.len() > self.whole;
        open && self.buffer.last().is_some_and(|c| c.last_id == chunk.last_id)
    }

    fn keep(&mut self, chunk: &DepthChunk) {
        if self.buffer.len() == BUFFER_CHUNKS {
            self.counts.overflows += 1;
            self.forget_buffer();
            if !chunk.first {
                return;
            }
        }
        self.buffer.push(*chunk);
        if chunk.last {
            self.whole = self.buffer.len();
        }
    }

    fn forget_buffer(&mut self) {
        self.buffer.clear();
        self.whole = 0;
    }

    fn judge(&self, head: &DepthChunk) -> Verdict {
        let known = self.update_id;
        match (self.chain, head.prev_id) {
            (Chain::None, _) => Verdict::Gap,
            (Chain::Snapshot, Some(prev)) => {
                if head.last_id < known {
                    Verdict::Old
                } else if head.first_id <= known || prev == known {
                    // A message that says it follows the snapshot's id proves the same as one that contains it.
                    Verdict::Apply
                } else {
                    Verdict::Refuse
                }
            }
            (Chain::Snapshot, None) => {
                if head.last_id <= known {
                    Verdict::Old
                } else if head.first_id <= known.saturating_add(1) {
                    Verdict::Apply
                } else {
                    Verdict::Refuse
                }
            }
            (Chain::Linked, prev) => {
                let follows = match prev {
                    Some(prev) => prev == known,
                    None => head.first_id == known.saturating_add(1),
                };
                if head.last_id <= known {
                    Verdict::Old
                } else if follows {
                    Verdict::Apply
                } else {
                    Verdict::Gap
                }
            }
        }
    }

    /// Judges and applies the complete messages of the buffer; what was handled leaves it.
    fn replay(&mut self) -> Step {
        let mut step = Step::Nothing;
        let mut from = 0;
        while from < self.whole && self.chain != Chain::None {
            let length = self.buffer[from..self.whole].iter().position(|c| c.last);
            let until = length.map_or(self.whole, |n| from + n + 1);
            let head = self.buffer[from];
            match self.judge(&head) {
                Verdict::Old => {
                    self.ignore();
                }
                Verdict::Apply => {
                    for chunk in &self.buffer[from..until] {
                        self.ladder.apply(chunk);
                    }
                    step = self.applied(&head);
                }
                // The message stays in the buffer: it may follow the next snapshot.
                Verdict::Refuse => {
                    step = self.refuse();
                    break;
                }
                Verdict::Gap => {
                    step = self.gap(&head);
                    break;
                }
            }
            from = until;
        }
        self.buffer.drain(..from);
        self.whole -= from;
        step
    }

    fn ignore(&mut self) -> Step {
        self.counts.old_ignored += 1;
        Step::Nothing
    }

    fn applied(&mut self, head: &DepthChunk) -> Step {
        self.update_id = head.last_id;
        self.stamps = head.stamps;
        self.chain = Chain::Linked;
        self.counts.applied += 1;
        if self.ladder.is_crossed() {
            self.counts.crossed += 1;
            return self.lose();
        }
        if self.ladder.is_overfull() {
            return self.lose();
        }
        self.go_live();
        Step::Changed
    }

    fn go_live(&mut self) {
        self.state = BookState::Live;
        self.counts.resyncs += u64::from(std::mem::take(&mut self.lost));
    }

    fn gap(&mut self, head: &DepthChunk) -> Step {
        let (first_id, prev_id) = (head.first_id, head.prev_id);
        self.hole.get_or_insert(Hole { after: self.update_id, first_id, prev_id });
        self.lose()
    }

    fn lose(&mut self) -> Step {
        self.counts.gaps += 1;
        self.lost = true;
        self.chain = Chain::None;
        self.state = BookState::Gap;
        Step::Changed
    }

    fn refuse(&mut self) -> Step {
        self.counts.refused_snapshots += 1;
        self.lost = true;
        self.chain = Chain::None;
        self.state = BookState::Syncing;
        Step::Changed
    }

    fn take_snapshot(&mut self, chunk: &DepthChunk) -> Step {
        if self.chain != Chain::None || !self.streaming {
            self.counts.unwanted_snapshots += u64::from(chunk.last);
            return Step::Nothing;
        }
        if chunk.first {
            self.ladder.begin_snapshot();
            self.loading = Some(chunk.last_id);
            self.whole_book = false;
        } else if self.loading != Some(chunk.last_id) {
            return Step::Nothing;
        }
        self.ladder.load(chunk);
        if !chunk.last {
            return Step::Nothing;
        }
        self.loading = None;
        self.ladder.end_snapshot(self.tick);
        self.whole_book = true;
        if self.ladder.is_crossed() || self.ladder.is_overfull() {
            return self.refuse();
        }
        self.update_id = chunk.last_id;
        self.stamps = chunk.stamps;
        self.chain = Chain::Snapshot;
        self.state = BookState::Syncing;
        self.replay();
        if self.chain == Chain::Snapshot && self.update_id < self.newest {
            // A delta behind it was seen and forgotten: nothing that is still to come can align.
            return self.refuse();
        }
        Step::Changed
    }
}

#[cfg(test)]
#[path = "sync_tests.rs"]
mod tests;
