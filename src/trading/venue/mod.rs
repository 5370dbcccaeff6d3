//! A venue is a dialect: pure functions between bytes and domain types. No socket, no clock.
//!
//! Connecting, reconnecting, heartbeats, gap handling and rate limits exist once, in the actors that use a
//! dialect; what differs between venues, and nothing else, stands behind [`MarketDialect`] and [`OrderDialect`].
//! Order encoders take [`Approved`] and nothing else: no order byte exists without the risk gate's verdict.

use std::fmt;

use arrayvec::{ArrayString, ArrayVec};

use crate::clock::UtcNs;

use super::domain::instrument::Name;
use super::domain::{
    ClientOrderId, Commission, ExecType, Instrument, InstrumentId, MarketUpdate, NewOrder,
    OrderStatus, Price, Qty, Rules, Side, Stamps,
};
use super::risk::gate::Approved;
use super::telemetry::Budget;

// Binance Spot.
pub mod binance;

/// Bytes that are not what the venue promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// What was being decoded and what was expected.
    pub what: String,
    /// The beginning of the offending bytes, at most [`DecodeError::EXCERPT_BYTES`], made printable.
    pub excerpt: String,
}

impl DecodeError {
    /// Most bytes quoted in an error.
    pub const EXCERPT_BYTES: usize = 120;

    /// An error about `frame`.
    pub fn new(what: impl Into<String>, frame: &[u8]) -> Self {
        let cut = &frame[..frame.len().min(Self::EXCERPT_BYTES)];
        Self { what: what.into(), excerpt: String::from_utf8_lossy(cut).escape_debug().to_string() }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: \"{}\"", self.what, self.excerpt)
    }
}

impl std::error::Error for DecodeError {}

/// What a market frame was, besides the updates it gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameKind {
    /// Market updates, given to the sink.
    Updates,
    /// The answer to a request of ours (subscribe and the like).
    Ack,
    /// The venue will close this connection soon (Binance `serverShutdown`).
    ServerShutdown,
    /// A valid message that we do not use, or one for an instrument that we did not ask for.
    Ignored,
}

/// How a venue talks about markets.
pub trait MarketDialect: Send {
    /// Path and query, below the stream URL, of one connection that carries depth, trades and the touch of all
    /// `instruments`.
    fn stream_target(&self, instruments: &[&Instrument]) -> String;

    /// Decodes one frame into updates, in order. Large depth messages come as several chunks.
    ///
    /// # Errors
    /// When the bytes are not what the venue's documentation promises; the sink may have received the chunks
    /// before the broken place, never a `last` one.
    fn decode(
        &mut self,
        frame: &[u8],
        stamps: Stamps,
        sink: &mut dyn FnMut(MarketUpdate),
    ) -> Result<FrameKind, DecodeError>;

    /// Path and query, below the REST URL, of a depth snapshot.
    fn snapshot_target(&self, instrument: &Instrument) -> String;

    /// Decodes a depth snapshot into chunks of kind `Snapshot`.
    ///
    /// # Errors
    /// As [`MarketDialect::decode`].
    fn decode_snapshot(
        &mut self,
        body: &[u8],
        instrument: InstrumentId,
        stamps: Stamps,
        sink: &mut dyn FnMut(MarketUpdate),
    ) -> Result<(), DecodeError>;

    /// The request budget that the headers (lower-case names) of a REST answer show, if they show one.
    fn budget(&self, headers: &[(String, String)]) -> Option<Budget>;

    /// Path and query, below the REST URL, of the rules of all `instruments`.
    fn rules_target(&self, instruments: &[&Instrument]) -> String;

    /// Decodes the rules of one instrument out of the answer to [`MarketDialect::rules_target`].
    ///
    /// # Errors
    /// When the instrument is not in it, or a rule that orders depend on is missing or not a number.
    fn decode_rules(&self, body: &[u8], instrument: &Instrument) -> Result<Rules, DecodeError>;
}

/// What a request of ours asked for; travels inside its id, so that decoding needs no memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// Log the session on.
    Logon,
    /// Subscribe to the account's events.
    Subscribe,
    /// Place an order.
    Place,
    /// Cancel an order.
    Cancel,
    /// Cancel every open order of an instrument.
    CancelAll,
    /// List open orders.
    OpenOrders,
    /// Query one order.
    OrderStatus,
    /// List own trades.
    Trades,
    /// Query balances.
    Account,
}

/// The id of a request: what it asked for and a number from 1, unique per connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId {
    /// What was asked.
    pub kind: RequestKind,
    /// Which request it was.
    pub seq: u64,
}

/// Most bytes kept of the venue's words: enough to tell the documented ones apart.
pub const VENUE_WORDS_BYTES_MAX: usize = 80;

/// The venue's refusal of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VenueError {
    /// The HTTP-like status (400, 429, ...).
    pub status: u16,
    /// The venue's code, such as -2010.
    pub code: i32,
    /// The venue's words, cut to [`VENUE_WORDS_BYTES_MAX`].
    pub message: ArrayString<VENUE_WORDS_BYTES_MAX>,
    /// For rate limits: do not ask again before this time of the venue, if it says so.
    pub retry_after: Option<UtcNs>,
}

/// An event of the account stream about one of our orders, or of anybody else's on the same account.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VenueReport {
    /// What it is an order in, in the venue's spelling.
    pub symbol: Name,
    /// The order's key: for cancels the original id, not the cancel's own.
    pub client_order_id: ClientOrderId,
    /// The venue's key.
    pub venue_order_id: u64,
    /// What happened.
    pub exec: ExecType,
    /// Where the order stands.
    pub status: OrderStatus,
    /// Which way.
    pub side: Side,
    /// The limit price.
    pub price: Price,
    /// The ordered quantity.
    pub qty: Qty,
    /// Traded so far.
    pub cum_qty: Qty,
    /// Traded by this event.
    pub last_qty: Qty,
    /// At which price.
    pub last_price: Price,
    /// The trade, for fills.
    pub trade_id: Option<u64>,
    /// The fee of this fill.
    pub commission: Commission,
    /// The venue's error code for rejections; 0 for none.
    pub reject_code: i32,
    /// The venue's time of the event.
    pub venue_utc: UtcNs,
}

/// An order as a query shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VenueOrder {
    /// What it is an order in, in the venue's spelling.
    pub symbol: Name,
    /// Our key.
    pub client_order_id: ClientOrderId,
    /// The venue's key.
    pub venue_order_id: u64,
    /// Where it stands.
    pub status: OrderStatus,
    /// Which way.
    pub side: Side,
    /// The limit price.
    pub price: Price,
    /// The ordered quantity.
    pub qty: Qty,
    /// Traded so far.
    pub cum_qty: Qty,
}

/// A trade of ours as a query shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VenueTrade {
    /// What was traded, in the venue's spelling.
    pub symbol: Name,
    /// The trade.
    pub trade_id: u64,
    /// The order it belongs to.
    pub venue_order_id: u64,
    /// Which way.
    pub side: Side,
    /// At which price.
    pub price: Price,
    /// How much.
    pub qty: Qty,
    /// The fee.
    pub commission: Commission,
    /// When.
    pub venue_utc: UtcNs,
}

/// What the account holds of one asset, in units of `10^-8`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// The asset.
    pub asset: Name,
    /// Usable now.
    pub free: i64,
    /// Bound by open orders.
    pub locked: i64,
}

/// Most assets that one event can change: a trade changes three.
pub const EVENT_BALANCES_MAX: usize = 16;

/// The body of a successful answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The session is logged on.
    LoggedOn,
    /// Account events flow.
    Subscribed,
    /// The order was accepted, and stands as shown.
    Placed(VenueOrder),
    /// The order was cancelled, and stands as shown.
    Canceled(VenueOrder),
    /// These were cancelled.
    CanceledAll(Vec<VenueOrder>),
    /// These are open.
    OpenOrders(Vec<VenueOrder>),
    /// The order asked for.
    Order(VenueOrder),
    /// Own trades, oldest first.
    Trades(Vec<VenueTrade>),
    /// What the account holds.
    Account(Vec<Balance>),
}

/// One frame of the order session, decoded.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "passed by value once per frame; a box would be allocated"
)]
pub enum SessionMessage {
    /// The answer to a request of ours.
    Answer {
        /// Which request.
        id: RequestId,
        /// The body, or the refusal.
        result: Result<Answer, VenueError>,
    },
    /// An event about an order.
    Report(VenueReport),
    /// What the account holds after an event; only the assets that changed.
    Balances(ArrayVec<Balance, EVENT_BALANCES_MAX>),
    /// The account stream ended: subscribe again.
    StreamEnded,
    /// The venue will close this connection soon.
    ServerShutdown,
    /// A valid message that we do not use.
    Ignored,
}

/// How a venue takes orders on one duplex session. Every encoder clears `out` and writes one whole text frame.
pub trait OrderDialect: Send {
    /// Path and query of the session below the session URL; usually empty.
    fn session_target(&self) -> String;

    /// Whether the session needs [`OrderDialect::logon`] before anything else.
    fn needs_logon(&self) -> bool;

    /// Logs the session on.
    fn logon(&mut self, out: &mut Vec<u8>, seq: u64, utc: UtcNs);

    /// Subscribes to the account's events.
    fn subscribe(&mut self, out: &mut Vec<u8>, seq: u64, utc: UtcNs);

    /// Places an order that the risk gate has approved.
    fn place(
        &mut self,
        out: &mut Vec<u8>,
        seq: u64,
        order: &Approved<NewOrder>,
        instrument: &Instrument,
        client_order_id: &ClientOrderId,
        utc: UtcNs,
    );

    /// Cancels an order by our key.
    fn cancel(
        &mut self,
        out: &mut Vec<u8>,
        seq: u64,
        instrument: &Instrument,
        id: &ClientOrderId,
        utc: UtcNs,
    );

    /// Cancels every open order of an instrument, whoever placed it.
    fn cancel_all(&mut self, out: &mut Vec<u8>, seq: u64, instrument: &Instrument, utc: UtcNs);

    /// Lists the open orders of an instrument.
    fn open_orders(&mut self, out: &mut Vec<u8>, seq: u64, instrument: &Instrument, utc: UtcNs);

    /// Queries an order by our key.
    fn order_status(
        &mut self,
        out: &mut Vec<u8>,
        seq: u64,
        instrument: &Instrument,
        id: &ClientOrderId,
        utc: UtcNs,
    );

    /// Lists own trades in an instrument, oldest first, at most 1,000: those with ids from `from_id` on, or the newest
    /// for `None`.
    fn trades(
        &mut self,
        out: &mut Vec<u8>,
        seq: u64,
        instrument: &Instrument,
        from_id: Option<u64>,
        utc: UtcNs,
    );

    /// Queries balances.
    fn account(&mut self, out: &mut Vec<u8>, seq: u64, utc: UtcNs);

    /// Decodes one frame. Prices and quantities are scaled with the decimals of the dialect.
    ///
    /// # Errors
    /// When the bytes are not what the venue's documentation promises.
    fn decode(&mut self, frame: &[u8]) -> Result<SessionMessage, DecodeError>;

    /// Whether `error`, the answer to a query or cancel, means that no such order exists.
    fn is_unknown_order(&self, error: &VenueError) -> bool;

    /// How long after its time stamp the venue may still accept a request of ours (Binance `recvWindow`).
    fn recv_window(&self) -> std::time::Duration;
}
