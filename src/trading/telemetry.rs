//! What each actor shows of itself to the ops page and the final report: plain state, published through a
//! [`View`](crate::runtime::view::View) a few times per second. Every field is overwritten at each publication.

use std::time::Duration;

use crate::clock::MonoNs;

use super::domain::instrument::Name;
use super::domain::{
    BookState, ClientOrderId, InstrumentId, Level, Notional, OrderStatus, Price, Qty, Reason, Side,
    SignedQty,
};

/// How a feed gets its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// Pushed over a WebSocket.
    #[default]
    WebSocket,
    /// Polled over REST, because the socket cannot be had.
    Rest,
}

/// Where a session stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionState {
    /// Not connected; a retry is scheduled.
    #[default]
    Down,
    /// Connecting: DNS, TCP, TLS, WebSocket handshake.
    Connecting,
    /// Connected; logging on or subscribing.
    LoggingOn,
    /// Comparing our orders and fills with the venue's.
    Reconciling,
    /// In use.
    Live,
}

impl SessionState {
    /// The word used in status and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Connecting => "connecting",
            Self::LoggingOn => "logging_on",
            Self::Reconciling => "reconciling",
            Self::Live => "live",
        }
    }
}

/// One feed reader: one venue connection.
#[derive(Clone, Debug, Default)]
pub struct FeedView {
    /// How it gets its data now.
    pub transport: Transport,
    /// Where the connection stands.
    pub state: SessionState,
    /// Why it was lost last; empty if it never was.
    pub last_error: String,
    /// Connections opened after the first.
    pub reconnects: u64,
    /// Frames that could not be decoded.
    pub undecodable: u64,
    /// Per instrument, in the order of the feed's instruments.
    pub instruments: Vec<FeedInstrumentView>,
}

/// One instrument of a feed.
#[derive(Clone, Copy, Debug, Default)]
pub struct FeedInstrumentView {
    /// Which.
    pub instrument: InstrumentId,
    /// When the last update was read; `MonoNs::ZERO` before the first.
    pub last_update: MonoNs,
    /// Updates read.
    pub messages: u64,
}

/// One rest worker.
#[derive(Clone, Copy, Debug, Default)]
pub struct RestView {
    /// The venue's budget as its last answer showed it.
    pub budget: Option<Budget>,
}

/// A budget that the venue sets: so much per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Used in the running window.
    pub used: u64,
    /// Allowed per window.
    pub limit: u64,
    /// The window.
    pub window: Duration,
}

/// One book builder.
#[derive(Clone, Debug, Default)]
pub struct BooksView {
    /// Per instrument.
    pub books: Vec<BookView>,
}

/// One book.
#[derive(Clone, Copy, Debug, Default)]
pub struct BookView {
    /// Which.
    pub instrument: InstrumentId,
    /// Whether it may be traded on.
    pub state: BookState,
    /// The last update id applied.
    pub update_id: u64,
    /// Best bid.
    pub bid: Option<Level>,
    /// Best ask.
    pub ask: Option<Level>,
    /// Bid levels.
    pub bid_levels: u32,
    /// Ask levels.
    pub ask_levels: u32,
    /// Deltas applied.
    pub applied: u64,
    /// Holes found.
    pub gaps: u64,
    /// Snapshots aligned after a hole, a lost connection or a refused snapshot.
    pub resyncs: u64,
    /// Snapshots that did not fit the stream.
    pub refused_snapshots: u64,
    /// Deltas that were older than the book.
    pub old_ignored: u64,
    /// Updates that left the best bid at or above the best ask; each is a hole too.
    pub crossed: u64,
    /// Times that the venue's own touch of the same update id was another one.
    pub disagreements: u64,
    /// CRC-32C over every level (bids best first, then asks best first; price then quantity, 8 bytes little
    /// endian each): two books with one checksum are the same book. 0 while the builder runs, filled at its end.
    pub checksum: u32,
}

/// The order sender.
#[derive(Clone, Debug, Default)]
pub struct OrdersView {
    /// Where the order session stands.
    pub state: SessionState,
    /// Why the session was lost last; empty if it never was.
    pub last_error: String,
    /// Sessions opened after the first.
    pub reconnects: u64,
    /// Times that the sender did not run for longer than its limit and compared with the venue before it went on.
    pub suspended: u64,
    /// How long it did not run the last time.
    pub suspended_for: Duration,
    /// Open orders that the venue refuses to cancel again and again.
    pub stuck: u64,
    /// Whether new orders are sent at all.
    pub trading: bool,
    /// Totals.
    pub totals: OrderTotals,
    /// Refusals by reason, indexed by `Reason as usize`.
    pub refused: [u64; Reason::ALL.len()],
    /// Orders that are not done.
    pub open: Vec<OpenOrderView>,
    /// Positions.
    pub positions: Vec<PositionView>,
    /// Balances of the account as last heard.
    pub balances: Vec<super::venue::Balance>,
    /// Latencies.
    pub latency: Vec<LatencyView>,
}

/// What became of all orders of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OrderTotals {
    /// Orders sent.
    pub sent: u64,
    /// Accepted by the venue.
    pub acknowledged: u64,
    /// Completely filled.
    pub filled: u64,
    /// Fills, partial ones counted each.
    pub fills: u64,
    /// Cancelled at the venue.
    pub cancelled: u64,
    /// Cancelled before they were sent.
    pub withdrawn: u64,
    /// Rejected by the venue.
    pub rejected: u64,
    /// Refused by the gate.
    pub refused: u64,
    /// Ended by the venue's own rules.
    pub expired: u64,
    /// Whose fate is being queried now.
    pub unknown: u64,
    /// Reports that said nothing new: duplicate fills and the like.
    pub duplicates: u64,
}

/// One open order.
#[derive(Clone, Copy, Debug)]
pub struct OpenOrderView {
    /// Which instrument.
    pub instrument: InstrumentId,
    /// Our key.
    pub client_order_id: ClientOrderId,
    /// Where it stands.
    pub status: OrderStatus,
    /// Which way.
    pub side: Side,
    /// The limit.
    pub price: Price,
    /// The ordered quantity.
    pub qty: Qty,
    /// Traded so far.
    pub cum_qty: Qty,
    /// When it was sent.
    pub sent: MonoNs,
}

/// What was bought and sold in one instrument by this engine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PositionView {
    /// Which instrument.
    pub instrument: InstrumentId,
    /// Net quantity, fees paid in the base asset taken off: the change of what the account holds.
    pub qty: SignedQty,
    /// What the open part cost on average; 0 when flat.
    pub avg_price: Price,
    /// Profit of what was closed, fees included, in notional units.
    pub realized_pnl: Notional,
    /// Profit of the open part at the last middle, in notional units.
    pub unrealized_pnl: Notional,
    /// Fees paid, in notional units.
    pub fees: Notional,
}

/// One latency, in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct LatencyView {
    /// What was measured, such as `tick_to_trade`.
    pub name: Name,
    /// How often.
    pub count: u64,
    /// Median.
    pub p50_ns: u64,
    /// 99th percentile.
    pub p99_ns: u64,
    /// 99.9th percentile.
    pub p999_ns: u64,
    /// The largest.
    pub max_ns: u64,
}

/// One strategy.
#[derive(Clone, Debug, Default)]
pub struct StrategyView {
    /// Book updates seen.
    pub books: u64,
    /// Trades seen.
    pub trades: u64,
    /// Execution reports seen.
    pub reports: u64,
    /// Intents offered.
    pub intents: u64,
    /// Intents that came back because the order sender was busy.
    pub busy: u64,
    /// One line about what the strategy thinks.
    pub note: String,
}

/// The journal writer.
#[derive(Clone, Debug, Default)]
pub struct JournalView {
    /// Records written.
    pub records: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Market records that were dropped.
    pub holes: u64,
    /// Segments opened.
    pub segments: u64,
    /// The last sequence number written.
    pub last_seq: u64,
    /// The longest write, in nanoseconds.
    pub write_max_ns: u64,
}
