//! The final report: sources and the outcome of the run come in, one JSON object goes out, whole or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::runtime::mailbox::EdgeCounts;
use crate::runtime::report::{ActorOutcome, Outcome, PhaseOutcome};
use crate::trading::telemetry::BookView;

use super::rows;
use super::sources::StatusSources;
use super::status::{BookStatus, LatencyStatus, PositionStatus, ms};

/// The report.
#[derive(Clone, Debug, Serialize)]
pub struct FinalReport {
    /// The process's exit code.
    pub exit_code: i32,
    /// Why the run ended.
    pub reason: String,
    /// `demo`, `testnet`, `paper` or `live`.
    pub mode: String,
    /// From the start to the end.
    pub uptime_ms: u64,
    /// Of that, the drain.
    pub drain_ms: u64,
    /// The phases of the drain.
    pub phases: Vec<PhaseReport>,
    /// Every actor.
    pub actors: Vec<ActorReport>,
    /// Totals of orders.
    pub orders: OrdersReport,
    /// Client ids of orders that may still be open at the venue.
    pub open_orders_left: Vec<String>,
    /// The books of every mailbox.
    pub messages: BTreeMap<String, MessagesReport>,
    /// Latencies by name, in microseconds.
    pub latency_us: BTreeMap<String, LatencyStatus>,
    /// Equity by quote asset.
    pub equity: BTreeMap<String, String>,
    /// Every book as it was at the end.
    pub books: Vec<BookReport>,
    /// Every position.
    pub positions: Vec<PositionStatus>,
}

/// One phase of the drain.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub ms: u64,
    /// Whether its deadline passed first.
    pub late: bool,
}

/// One actor.
#[derive(Clone, Debug, Serialize)]
pub struct ActorReport {
    /// Its name.
    pub id: String,
    /// Which life was its last.
    pub generation: u32,
    /// How often it was restarted.
    pub restarts: u32,
    /// How it ended, in one word.
    pub exit: &'static str,
    /// The same in more words.
    pub detail: String,
}

/// Totals of orders.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct OrdersReport {
    /// Sent.
    pub sent: u64,
    /// Accepted by the venue.
    pub acknowledged: u64,
    /// Completely filled.
    pub filled: u64,
    /// Cancelled.
    pub cancelled: u64,
    /// Rejected by the venue.
    pub rejected: u64,
    /// Refused by the gate.
    pub refused: u64,
    /// Whose fate nobody knows.
    pub unknown: u64,
    /// Fills, partial ones counted each.
    pub fills: u64,
    /// Ended by the venue's own rules.
    pub expired: u64,
}

/// The books of one mailbox: `sent` is the sum of all that follow.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct MessagesReport {
    /// Offers made.
    pub sent: u64,
    /// Messages handled.
    pub handled: u64,
    /// Offers that came back.
    pub refused: u64,
    /// Messages dropped, for whatever reason.
    pub dropped: u64,
    /// Values replaced by newer ones.
    pub conflated: u64,
    /// In hand when the consumer panicked.
    pub lost_in_flight: u64,
    /// Never taken.
    pub left: u64,
}

/// One book at the end.
#[derive(Clone, Debug, Serialize)]
pub struct BookReport {
    /// The book.
    #[serde(flatten)]
    pub book: BookStatus,
    /// CRC-32C over every level; 0 when its builder did not end in order.
    pub checksum: u32,
    /// Deltas applied.
    pub applied: u64,
    /// Holes found.
    pub gaps: u64,
    /// Snapshots aligned after the first.
    pub resyncs: u64,
}

impl FinalReport {
    /// The report of a run that ended with `outcome`.
    pub fn new(sources: &StatusSources, outcome: &Outcome) -> Self {
        let mut report = Self {
            exit_code: outcome.exit_code,
            reason: outcome.reason.clone(),
            mode: sources.mode.clone(),
            uptime_ms: ms(outcome.uptime),
            drain_ms: ms(outcome.drain),
            phases: outcome.phases.iter().map(phase).collect(),
            actors: outcome.actors.iter().map(actor).collect(),
            orders: OrdersReport::default(),
            open_orders_left: Vec::new(),
            messages: outcome.edges.iter().map(messages).collect(),
            latency_us: BTreeMap::new(),
            equity: rows::equity(sources),
            books: books(sources),
            positions: Vec::new(),
        };
        report.fill_orders(sources);
        report
    }

    fn fill_orders(&mut self, sources: &StatusSources) {
        for orders in &sources.orders {
            orders.read(|view| {
                let (sum, totals) = (&mut self.orders, &view.totals);
                sum.sent += totals.sent;
                sum.acknowledged += totals.acknowledged;
                sum.filled += totals.filled;
                sum.cancelled += totals.cancelled;
                sum.rejected += totals.rejected;
                sum.refused += view.refused.iter().sum::<u64>();
                sum.unknown += totals.unknown;
                sum.fills += totals.fills;
                sum.expired += totals.expired;
                let open = view.open.iter().map(|order| order.client_order_id.to_string());
                self.open_orders_left.extend(open);
                let positions = view.positions.iter();
                self.positions.extend(positions.map(|p| rows::position_row(sources, p)));
                for latency in &view.latency {
                    self.latency_us.insert(latency.name.to_string(), rows::latency_row(latency));
                }
            });
        }
    }

    /// The report as JSON text with a newline at its end.
    pub fn to_json(&self) -> String {
        // Text keys and plain numbers: there is nothing that JSON could not express.
        let mut text = serde_json::to_string_pretty(self).expect("a report is plain data");
        text.push('\n');
        text
    }

    /// Writes the report to `path`, or to `out` where the path is `-`.
    ///
    /// # Errors
    /// The system's refusal; a file that was there before is then as it was.
    pub fn write(&self, path: &Path, out: &mut dyn Write) -> io::Result<()> {
        if path == Path::new("-") {
            out.write_all(self.to_json().as_bytes())?;
            return out.flush();
        }
        replace_file(path, self.to_json().as_bytes())
    }
}

/// Puts a new content in the place of a file, so that whoever reads it at any moment, also after a crash, finds the
/// old or the new content whole.
///
/// # Errors
/// The system's refusal; the file is then as it was.
pub fn replace_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".tmp");
    let beside = path.with_file_name(name);
    let write = || {
        let mut file = File::create(&beside)?;
        file.write_all(content)?;
        file.sync_data()?;
        std::fs::rename(&beside, path)
    };
    write().inspect_err(|_| {
        // The half-written neighbour is of no use; the first error is the one to tell.
        let _ = std::fs::remove_file(&beside);
    })
}

fn phase(phase: &PhaseOutcome) -> PhaseReport {
    PhaseReport { name: phase.name.clone(), ms: ms(phase.took), late: phase.late }
}

fn actor(actor: &ActorOutcome) -> ActorReport {
    ActorReport {
        id: actor.name.clone(),
        generation: actor.generation,
        restarts: actor.restarts,
        exit: actor.exit,
        detail: actor.detail.clone(),
    }
}

fn messages((edge, counts): &(String, EdgeCounts)) -> (String, MessagesReport) {
    let messages = MessagesReport {
        sent: counts.sent,
        handled: counts.handled,
        refused: counts.refused,
        dropped: counts.dropped(),
        conflated: counts.conflated,
        lost_in_flight: counts.lost_in_flight,
        left: counts.left,
    };
    (edge.clone(), messages)
}

fn books(sources: &StatusSources) -> Vec<BookReport> {
    let report = |book: &BookView| BookReport {
        book: rows::book_row(sources, book),
        checksum: book.checksum,
        applied: book.applied,
        gaps: book.gaps,
        resyncs: book.resyncs,
    };
    rows::book_views(sources).iter().map(report).collect()
}
