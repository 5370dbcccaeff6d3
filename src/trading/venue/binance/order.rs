//! How Binance takes orders on its WebSocket API. Comes in: approved orders, cancels, queries, the time. Goes out: one
//! text frame each, and the meaning of the frames that come back. Always: without an [`Approved`] there is no order
//! frame; nothing is allocated by encoding once the buffers have grown.
//!
//! With an Ed25519 key the session logs on once and requests carry only a time stamp; with HMAC every request is
//! signed (web-socket-api.md, "Session Authentication").

use std::time::Duration;

use crate::clock::UtcNs;
use crate::trading::domain::{
    ClientOrderId, Instrument, Instruments, NewOrder, OrderKind, Side, TimeInForce, VenueId,
};
use crate::trading::risk::gate::Approved;
use crate::trading::venue::{DecodeError, OrderDialect, RequestKind, SessionMessage, VenueError};

use super::request::Request;
use super::session;
use super::sign::{Credentials, SignError, Signer};
use super::symbols::Symbols;

/// The longest `recvWindow` that the venue takes.
pub const RECV_WINDOW_MAX: Duration = Duration::from_secs(60);

/// Most trades per answer of myTrades.
const TRADES_LIMIT: i64 = 1_000;

/// "Order does not exist.": the answer to a query.
const NO_SUCH_ORDER: i32 = -2013;

/// The answer to a cancel that failed; its message says why.
const CANCEL_REJECTED: i32 = -2011;

/// The order half of the dialect.
#[derive(Debug)]
pub struct BinanceOrders {
    signer: Signer,
    symbols: Symbols,
    recv_window: Duration,
    // What is signed; kept for its memory.
    payload: Vec<u8>,
}

impl BinanceOrders {
    /// A dialect for one account. `recv_window` is how long after its time stamp the venue may accept a request:
    /// whole milliseconds, at least 1 ms, at most [`RECV_WINDOW_MAX`]; other values are brought into these bounds.
    ///
    /// # Errors
    /// When the credentials cannot sign.
    pub fn new(
        credentials: &Credentials,
        instruments: &[Instrument],
        recv_window: Duration,
    ) -> Result<Self, SignError> {
        Self::with(credentials, Symbols::new(instruments.iter()), recv_window)
    }

    /// As [`BinanceOrders::new`], with those of `instruments` that are traded at `venue`.
    ///
    /// # Errors
    /// When the credentials cannot sign.
    pub fn of_venue(
        credentials: &Credentials,
        instruments: &Instruments,
        venue: VenueId,
        recv_window: Duration,
    ) -> Result<Self, SignError> {
        let symbols = Symbols::new(instruments.iter().filter(|i| i.venue == venue));
        Self::with(credentials, symbols, recv_window)
    }

    fn with(
        credentials: &Credentials,
        symbols: Symbols,
        recv_window: Duration,
    ) -> Result<Self, SignError> {
        let signer = Signer::new(credentials)?;
        let recv_window = whole_recv_window(recv_window);
        Ok(Self { signer, symbols, recv_window, payload: Vec::new() })
    }

    // A request that is signed here, unless the session has logged on.
    fn begin<'a>(
        &'a mut self,
        out: &'a mut Vec<u8>,
        id: (RequestKind, u64),
        method: &str,
    ) -> (Request<'a>, i64) {
        let signer = if self.signer.can_log_on() { None } else { Some(&self.signer) };
        let window = window_ms(self.recv_window);
        (Request::begin(out, &mut self.payload, id, method, signer), window)
    }

    // A request whose parameters, but for the common ones, are a symbol and perhaps a client order id.
    fn about(
        &mut self,
        out: &mut Vec<u8>,
        id: (RequestKind, u64),
        method: &str,
        (instrument, order): (&Instrument, Option<&ClientOrderId>),
        utc: UtcNs,
    ) {
        let (mut request, window) = self.begin(out, id, method);
        if let Some(order) = order {
            request.text("origClientOrderId", order);
        }
        request.number("recvWindow", window);
        request.flag("returnRateLimits", false);
        request.text("symbol", &instrument.symbol);
        request.number("timestamp", utc.as_millis());
        request.end();
    }
}

/// `window` in whole milliseconds and within the venue's bounds.
pub(super) fn whole_recv_window(window: Duration) -> Duration {
    let ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(ms).clamp(Duration::from_millis(1), RECV_WINDOW_MAX)
}

/// Milliseconds of a window that [`whole_recv_window`] has made.
pub(super) fn window_ms(window: Duration) -> i64 {
    i64::try_from(window.as_millis()).unwrap_or(i64::MAX)
}

impl OrderDialect for BinanceOrders {
    fn session_target(&self) -> String {
        String::new()
    }

    fn needs_logon(&self) -> bool {
        self.signer.can_log_on()
    }

    fn logon(&mut self, out: &mut Vec<u8>, seq: u64, utc: UtcNs) {
        let id = (RequestKind::Logon, seq);
        let mut request =
            Request::begin(out, &mut self.payload, id, "session.logon", Some(&self.signer));
        request.number("recvWindow", window_ms(self.recv_window));
        request.number("timestamp", utc.as_millis());
        request.end();
    }

    fn subscribe(&mut self, out: &mut Vec<u8>, seq: u64, utc: UtcNs) {
        let id = (RequestKind::Subscribe, seq);
        if self.signer.can_log_on() {
            // Takes no parameters at all.
            return Request::begin(out, &mut self.payload, id, "userDataStream.subscribe", None)
                .end();
        }
        let (mut request, window) = self.begin(out, id, "userDataStream.subscribe.signature");
        request.number("recvWindow", window);
        request.number("timestamp", utc.as_millis());
        request.end();
    }

    fn place(
        &mut self,
        out: &mut Vec<u8>,
        seq: u64,
        order: &Approved<NewOrder>,
        instrument: &Instrument,
        client_order_id: &ClientOrderId,
        utc: UtcNs,
    ) {
        let order = order.get();
        let (mut request, window) = self.begin(out, (RequestKind::Place, seq), "order.place");
        request.text("newClientOrderId", client_order_id);
        // ACK would not say whether the order already traded; FULL would list fills that the reports bring anyway.
        request.text("newOrderRespType", "RESULT");
        if order.kind != OrderKind::Market {
            request.decimal("price", order.price.units(), instrument.price_decimals);
        }
        request.decimal("quantity", order.qty.units(), instrument.qty_decimals);
        request.number("recvWindow", window);
        request.flag("returnRateLimits", false);
        request.text("side", side(order.side));
        request.text("symbol", &instrument.symbol);
        if order.kind == OrderKind::Limit {
            request.text("timeInForce", time_in_force(order.tif));
        }
        request.number("timestamp", utc.as_millis());
        request.text("type", order_type(order.kind));
        request.end();
    }

    fn cancel(
        &mut self,
        out: &mut Vec<u8>,
        seq: u64,
        instrument: &Instrument,
        id: &ClientOrderId,
        utc: UtcNs,
    ) {
        let request = (RequestKind::Cancel, seq);
        self.about(out, request, "order.cancel", (instrument, Some(id)), utc);
    }

    fn cancel_all(&mut self, out: &mut Vec<u8>, seq: u64, instrument: &Instrument, utc: UtcNs) {
        let request = (RequestKind::CancelAll, seq);
        self.about(out, request, "openOrders.cancelAll", (instrument, None), utc);
    }

    fn open_orders(&mut self, out: &mut Vec<u8>, seq: u64, instrument: &Instrument, utc: UtcNs) {
        let request = (RequestKind::OpenOrders, seq);
        self.about(out, request, "openOrders.status", (instrument, None), utc);
    }

    fn order_status(
        &mut self,
        out: &mut Vec<u8>,
        seq: u64,
        instrument: &Instrument,
        id: &ClientOrderId,
        utc: UtcNs,
    ) {
        let request = (RequestKind::OrderStatus, seq);
        self.about(out, request, "order.status", (instrument, Some(id)), utc);
    }

    fn trades(
        &mut self,
        out: &mut Vec<u8>,
        seq: u64,
        instrument: &Instrument,
        from_id: Option<u64>,
        utc: UtcNs,
    ) {
        let (mut request, window) = self.begin(out, (RequestKind::Trades, seq), "myTrades");
        // Without it the venue would give the newest trades, not the oldest.
        let from_id = i64::try_from(from_id.unwrap_or(0)).unwrap_or(i64::MAX);
        request.number("fromId", from_id);
        request.number("limit", TRADES_LIMIT);
        request.number("recvWindow", window);
        request.flag("returnRateLimits", false);
        request.text("symbol", &instrument.symbol);
        request.number("timestamp", utc.as_millis());
        request.end();
    }

    fn account(&mut self, out: &mut Vec<u8>, seq: u64, utc: UtcNs) {
        let (mut request, window) = self.begin(out, (RequestKind::Account, seq), "account.status");
        request.flag("omitZeroBalances", true);
        request.number("recvWindow", window);
        request.flag("returnRateLimits", false);
        request.number("timestamp", utc.as_millis());
        request.end();
    }

    fn decode(&mut self, frame: &[u8]) -> Result<SessionMessage, DecodeError> {
        session::decode(frame, &self.symbols)
    }

    fn is_unknown_order(&self, error: &VenueError) -> bool {
        // errors.md: -2011 has many messages; only this one says that there is no such order.
        error.code == NO_SUCH_ORDER
            || (error.code == CANCEL_REJECTED && error.message == "Unknown order sent.")
    }

    fn recv_window(&self) -> Duration {
        self.recv_window
    }
}

fn side(side: Side) -> &'static str {
    match side {
        Side::Buy => "BUY",
        Side::Sell => "SELL",
    }
}

fn time_in_force(tif: TimeInForce) -> &'static str {
    match tif {
        TimeInForce::Gtc => "GTC",
        TimeInForce::Ioc => "IOC",
        TimeInForce::Fok => "FOK",
    }
}

fn order_type(kind: OrderKind) -> &'static str {
    match kind {
        OrderKind::Limit => "LIMIT",
        OrderKind::LimitMaker => "LIMIT_MAKER",
        OrderKind::Market => "MARKET",
    }
}
