//! What waits for the journal: orders to be sent and reports to be told, in the order of their records.
//!
//! Comes in: records, each with what is to happen once it is written. Goes out: the same, in order, when the
//! journal has written that far. What always holds: nothing is let out before its record was at least handed over;
//! a record that the journal's mailbox did not take is offered again, and until then no new order is let in.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::{MonoNs, UtcNs};
use crate::runtime::actor::{Cx, Fault};
use crate::runtime::health::Cell;
use crate::runtime::mailbox::Outbox;
use crate::trading::domain::{Entry, Record, Written};

use super::settings::Durability;

/// Most records that wait: every open order acknowledged, filled and cancelled while the journal stalls.
const HELD_MAX: usize = 4_096;

/// From this many on no new order is let in, so that what the venue still reports always finds room.
const HELD_FULL: usize = HELD_MAX / 4;

/// What happens once a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing.
    Nothing,
    /// The order with this counter is sent.
    Send(u64),
    /// The report is told to its strategy.
    Forward,
}

/// The moment of a turn, in both times.
#[derive(Clone, Copy, Debug)]
pub(super) struct At {
    pub(super) now: MonoNs,
    pub(super) utc: UtcNs,
}

impl At {
    pub(super) fn of(cx: &Cx) -> Self {
        Self { now: cx.now, utc: cx.utc }
    }
}

#[derive(Clone, Copy, Debug)]
struct Held {
    entry: Entry,
    then: Then,
}

/// The queue before the journal.
pub(super) struct Hold {
    queue: VecDeque<Held>,
    /// How many at the back the journal's mailbox has not taken yet.
    waiting: usize,
    journal: Outbox<Entry>,
    cell: Option<Arc<Cell>>,
    generation: u32,
    written: Written,
    durability: Durability,
    /// Records were handed over since the journal was woken last.
    unwoken: bool,
}

impl Hold {
    pub(super) fn new(
        journal: Outbox<Entry>,
        cell: Option<Arc<Cell>>,
        written: Written,
        durability: Durability,
    ) -> Self {
        let generation = cell.as_ref().map_or(0, |c| c.generation());
        let queue = VecDeque::with_capacity(HELD_MAX);
        Self { queue, waiting: 0, journal, cell, generation, written, durability, unwoken: false }
    }

    /// Whether a new order's record would be taken.
    pub(super) fn is_up(&self) -> bool {
        self.waiting == 0
            && self.queue.len() < HELD_FULL
            && self.journal.has_room()
            && self.journal_runs()
    }

    /// Whether the journal itself is at work, in the generation that was handed what waits.
    pub(super) fn journal_runs(&self) -> bool {
        self.is_same_journal() && self.cell.as_ref().is_none_or(|c| c.is_up())
    }

    fn is_same_journal(&self) -> bool {
        self.cell.as_ref().is_none_or(|c| c.generation() == self.generation)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Hands a record to the journal.
    ///
    /// # Errors
    /// When more records wait than a stall of the journal can explain: trading blind is worse than ending.
    pub(super) fn record(&mut self, at: At, record: Record, then: Then) -> Result<(), Fault> {
        let entry = Entry { seq: self.written.next(), at: at.now, utc: at.utc, record };
        let handed = self.waiting == 0 && self.hand_over(entry);
        if handed && then == Then::Nothing {
            return Ok(());
        }
        if self.queue.len() == HELD_MAX {
            return Err(Fault::fatal("the journal does not take records any more"));
        }
        self.waiting += usize::from(!handed);
        self.queue.push_back(Held { entry, then });
        Ok(())
    }

    /// Where orders wait for the journal it is woken at once; where they do not, they leave first.
    fn hand_over(&mut self, entry: Entry) -> bool {
        if self.durability == Durability::Written {
            return self.journal.offer(entry).is_ok();
        }
        let handed = self.journal.offer_quietly(entry).is_ok();
        self.unwoken |= handed;
        handed
    }

    /// The urgent part of the turn is over.
    pub(super) fn wake_journal(&mut self) {
        if std::mem::take(&mut self.unwoken) {
            self.journal.wake();
        }
    }

    /// The next thing that may happen now.
    pub(super) fn release(&mut self) -> Option<(Entry, Then)> {
        let front = self.queue.front().filter(|_| self.queue.len() > self.waiting)?;
        // The generation is looked at after the mark: a mark that a new generation moved may have passed over a
        // record that died with the one before.
        let written = self.durability == Durability::HandedOver
            || front.then == Then::Nothing
            || front.entry.seq <= self.written.up_to() && self.is_same_journal();
        if !written {
            return None;
        }
        self.queue.pop_front().map(|held| (held.entry, held.then))
    }

    /// Offers again what the mailbox did not take.
    pub(super) fn offer_again(&mut self) {
        while self.waiting > 0 {
            let next = self.queue.len() - self.waiting;
            if !self.hand_over(self.queue[next].entry) {
                return;
            }
            self.waiting -= 1;
        }
    }

    /// If the journal was restarted: hands everything over again, since nobody knows what its last generation
    /// had in hand, and gives the counters of the orders that were never sent and now never will be.
    pub(super) fn after_restart(&mut self) -> Option<Vec<u64>> {
        let cell = self.cell.as_ref().filter(|c| c.generation() != self.generation)?;
        self.generation = cell.generation();
        let unsent = self.queue.iter().filter_map(|held| match held.then {
            Then::Send(seq) => Some(seq),
            _ => None,
        });
        let unsent = unsent.collect();
        self.queue.retain(|held| !matches!(held.then, Then::Send(_)));
        for held in &mut self.queue {
            held.entry.seq = self.written.next();
        }
        self.waiting = self.queue.len();
        self.offer_again();
        Some(unsent)
    }
}
