//! The journal writer: entries in, one write per turn out, the watermark moved behind it.
//!
//! What always holds: [`Written`] passes an order or report record only after its bytes were given to the system
//! (with [`SyncPolicy::EachBatch`], to the disk). Order and report records go first in every turn. Market records
//! that found the mailbox full leave a hole record with their count.
//!
//! A write error is a fault: the next generation opens the journal again, cuts what was half written and goes on
//! with what is queued. Records that the dead generation had taken and not written are lost, and the watermark
//! jumps over them with the next order record. An order sender sees that by the journal's generation in its
//! health cell: one that waited for the watermark while the generation changed must refuse the order and not send.

use std::path::PathBuf;
use std::time::Duration;

use crate::clock::{Clock, MonoNs, UtcNs};
use crate::runtime::actor::{Actor, Cx, Fault, Stop, Waits, Work};
use crate::runtime::mailbox::{Edge, Inbox, Mailbox};
use crate::runtime::view::View;
use crate::trading::domain::{Entry, Instruments, Written};
use crate::trading::limits::VIEW_PERIOD;
use crate::trading::telemetry::JournalView;

use super::record::Stored;
use super::segment::{JournalError, Segments};

/// Most records of each mailbox in one batch. Both together stay below 256 records of 512 bytes.
const BATCH_RECORDS_MAX: usize = 127;

/// A disk that needs longer than this for one synchronisation is judged as stalled.
const SYNC_LIMIT: Duration = Duration::from_secs(5);

/// When written records are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncPolicy {
    /// When the system likes; a crash of the process loses nothing, a crash of the machine some seconds.
    None,
    /// At most this long after the write.
    Interval(Duration),
    /// Before the watermark moves.
    EachBatch,
}

impl Default for SyncPolicy {
    fn default() -> Self {
        Self::Interval(Duration::from_millis(100))
    }
}

/// Where and how the journal is written.
#[derive(Clone, Debug)]
pub struct JournalSettings {
    /// The folder of the segments; created when it is missing.
    pub dir: PathBuf,
    /// A segment that has reached this many bytes is closed; at most 1 GiB.
    pub segment_bytes_max: u64,
    /// When records are made durable.
    pub sync: SyncPolicy,
    /// When this process began; every process begins a segment of its own.
    pub boot: UtcNs,
}

impl JournalSettings {
    /// The defaults: segments of 64 MiB, durable within 100 ms.
    pub fn new(dir: PathBuf, boot: UtcNs) -> Self {
        Self { dir, segment_bytes_max: 64 << 20, sync: SyncPolicy::default(), boot }
    }
}

/// One order sender's records and their watermark: each sender numbers its own.
pub struct OrderRecords {
    /// Order and report records.
    pub inbox: Inbox<Entry>,
    /// How far they are written.
    pub written: Written,
}

/// What the journal writer is joined to; made anew for every generation.
pub struct JournalPorts {
    /// Order and report records, by order sender.
    pub orders: Vec<OrderRecords>,
    /// Market records; the mailbox itself, because the writer notes what it dropped.
    pub market: Mailbox<Entry>,
    /// The instruments, named in every segment.
    pub instruments: Instruments,
    /// What the ops page sees.
    pub view: View<JournalView>,
    /// Measures writes for the view; nothing that is written depends on it.
    pub clock: Clock,
}

/// The actor.
pub struct JournalWriter {
    settings: JournalSettings,
    orders: Vec<OrderRecords>,
    market: Inbox<Entry>,
    market_edge: Mailbox<Entry>,
    instruments: Instruments,
    view: View<JournalView>,
    clock: Clock,
    /// The last number staged from each order sender; 0 for none in this batch.
    staged: Vec<u64>,
    /// `None` before the start.
    journal: Option<Segments>,
    /// The oldest write that is not durable; `NEVER` when all is.
    unsynced_since: MonoNs,
    shown: JournalView,
    publish_at: MonoNs,
}

impl JournalWriter {
    /// A journal writer that opens its files when it is started.
    pub fn new(settings: JournalSettings, ports: JournalPorts) -> Self {
        Self {
            settings,
            staged: vec![0; ports.orders.len()],
            orders: ports.orders,
            market: ports.market.inbox(),
            market_edge: ports.market,
            instruments: ports.instruments,
            view: ports.view,
            clock: ports.clock,
            journal: None,
            unsynced_since: MonoNs::NEVER,
            shown: JournalView::default(),
            publish_at: MonoNs::ZERO,
        }
    }

    /// Moves a batch from the mailboxes to the file; whether there was one.
    fn write_batch(&mut self, cx: &mut Cx, journal: &mut Segments) -> Result<bool, Fault> {
        if journal.is_full() {
            cx.blocking("journal rotate", SYNC_LIMIT, || journal.rotate()).map_err(fault)?;
            self.unsynced_since = MonoNs::NEVER;
        }
        let mut records = self.stage_orders(cx, journal);
        for entry in std::iter::from_fn(|| self.market.take(cx)).take(BATCH_RECORDS_MAX) {
            journal.stage(&Stored::Entry(entry));
            records += 1;
        }
        records += self.stage_hole(cx, journal);
        if records == 0 {
            return Ok(false);
        }
        self.write_staged(cx, journal)?;
        self.shown.records += records;
        for (orders, seq) in self.orders.iter().zip(&self.staged) {
            if *seq > 0 {
                self.shown.last_seq = *seq;
                orders.written.advance(*seq);
            }
        }
        Ok(true)
    }

    /// Stages what the order senders have handed over, in turn; the number of records.
    fn stage_orders(&mut self, cx: &mut Cx, journal: &mut Segments) -> u64 {
        let share = BATCH_RECORDS_MAX / self.orders.len().max(1);
        let mut records = 0;
        for (orders, seq) in self.orders.iter_mut().zip(&mut self.staged) {
            *seq = 0;
            for entry in std::iter::from_fn(|| orders.inbox.take(cx)).take(share) {
                // A market record on this edge has no number; it must not move the watermark back.
                *seq = entry.seq.max(*seq);
                journal.stage(&Stored::Entry(entry));
                records += 1;
            }
        }
        records
    }

    /// Notes market records dropped since the last hole; the number of records staged.
    fn stage_hole(&mut self, cx: &Cx, journal: &mut Segments) -> u64 {
        let counts = self.market_edge.counts();
        let dropped_total = counts.dropped_overflow + counts.dropped_restart;
        let dropped = dropped_total.saturating_sub(journal.dropped_total());
        if dropped == 0 {
            return 0;
        }
        journal.stage(&Stored::Hole { at: cx.now, utc: cx.utc, dropped, dropped_total });
        self.shown.holes += dropped;
        1
    }

    fn write_staged(&mut self, cx: &mut Cx, journal: &mut Segments) -> Result<(), Fault> {
        let bytes = journal.staged_bytes() as u64;
        let begin = self.clock.now();
        journal.write().map_err(fault)?;
        if self.settings.sync == SyncPolicy::EachBatch {
            cx.blocking("fdatasync", SYNC_LIMIT, || journal.sync()).map_err(fault)?;
        } else if self.unsynced_since == MonoNs::NEVER {
            self.unsynced_since = cx.now;
        }
        let spent = u64::try_from(self.clock.now().since(begin).as_nanos()).unwrap_or(u64::MAX);
        self.shown.write_max_ns = self.shown.write_max_ns.max(spent);
        self.shown.bytes += bytes;
        Ok(())
    }

    /// When the next synchronisation is due; `NEVER` when none is.
    fn sync_at(&self) -> MonoNs {
        match self.settings.sync {
            SyncPolicy::Interval(period) => self.unsynced_since.after(period),
            SyncPolicy::None | SyncPolicy::EachBatch => MonoNs::NEVER,
        }
    }

    fn sync(&mut self, cx: &mut Cx, journal: &mut Segments) -> Result<(), Fault> {
        self.unsynced_since = MonoNs::NEVER;
        cx.blocking("fdatasync", SYNC_LIMIT, || journal.sync()).map_err(fault)
    }

    fn publish(&mut self, now: MonoNs, segments: u64) {
        if now < self.publish_at {
            return;
        }
        self.publish_at = now.after(VIEW_PERIOD);
        self.shown.segments = segments;
        let shown = self.shown.clone();
        self.view.publish(|view| *view = shown);
    }

    fn turn_with(&mut self, cx: &mut Cx, journal: &mut Segments) -> Result<Work, Fault> {
        let wrote = self.write_batch(cx, journal)?;
        // While a drain empties the mailboxes one synchronisation at the end is enough.
        let due = cx.now >= self.sync_at()
            || (cx.draining() && !wrote && self.unsynced_since < MonoNs::NEVER);
        if due {
            self.sync(cx, journal)?;
        }
        self.publish(cx.now, journal.opened());
        Ok(Work::when(wrote || due))
    }
}

impl Actor for JournalWriter {
    fn on_start(&mut self, cx: &mut Cx) -> Result<(), Fault> {
        let settings = &self.settings;
        let (journal, recovery) = cx
            .blocking("journal open", SYNC_LIMIT, || {
                Segments::open(
                    &settings.dir,
                    settings.segment_bytes_max,
                    settings.boot,
                    &self.instruments,
                )
            })
            .map_err(fault)?;
        log::info!(
            target: "journal",
            "event=journal.open dir={:?} last_number={} segments={} torn_bytes={}",
            settings.dir, recovery.last_number, recovery.segments, recovery.torn_bytes
        );
        self.journal = Some(journal);
        Ok(())
    }

    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        let Some(mut journal) = self.journal.take() else {
            return Err(Fault::fatal("the journal is not open"));
        };
        let work = self.turn_with(cx, &mut journal);
        self.journal = Some(journal);
        work
    }

    fn drained(&self) -> bool {
        self.orders.iter().all(|o| o.inbox.depth() == 0)
            && self.market.depth() == 0
            && self.unsynced_since == MonoNs::NEVER
    }

    fn waits(&self, waits: &mut Waits) {
        waits.until(self.sync_at());
    }

    fn on_stop(&mut self, cx: &mut Cx, stop: Stop) {
        let Some(mut journal) = self.journal.take() else { return };
        if stop != Stop::Faulted
            && let Err(e) = self.sync(cx, &mut journal)
        {
            log::error!(target: "journal", "event=journal.sync_failed msg={:?}", e.to_string());
        }
        self.publish_at = MonoNs::ZERO;
        self.publish(cx.now, journal.opened());
    }
}

fn fault(error: JournalError) -> Fault {
    Fault::Io(error.to_string().into())
}
