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
        // Without it the venue gives the newest trades: what is old before the first comparison is history.
        if let Some(from_id) = from_id {
            request.number("fromId", i64::try_from(from_id).unwrap_or(i64::MAX));
        }
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
            || (error.code == CANCEL_REJECTED && error.message.as_str() == "Unknown order sent.")
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use arrayvec::ArrayString;
    use serde_json::Value;

    use super::*;
    use crate::trading::domain::instrument::Name;
    use crate::trading::domain::{ExecType, InstrumentId, OrderStatus, Price, Qty};
    use crate::trading::venue::{Answer, RequestId};

    // The key of fix-api.md, published there to check signatures with.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIIJEYWtGBrhACmb9Dvy+qa8WEf0lQOl1s4CLIAB9m89u\n\
        -----END PRIVATE KEY-----\n";
    const UTC: UtcNs = UtcNs::from_millis(1_660_801_715_431);

    fn credentials(hmac: bool) -> Credentials {
        if hmac { Credentials::hmac("key\n", "secret") } else { Credentials::ed25519("key", PEM) }
    }

    fn instrument() -> Instrument {
        let name = |text| Name::from(text).expect("short");
        Instrument::new(InstrumentId(0), VenueId(0), name("binance"), name("BTCUSDT"), (8, 8))
    }

    fn orders(hmac: bool) -> BinanceOrders {
        let window = Duration::from_micros(5_000_900);
        BinanceOrders::new(&credentials(hmac), &[instrument()], window).expect("valid keys")
    }

    fn new_order(kind: OrderKind, tif: TimeInForce) -> Approved<NewOrder> {
        Approved::for_encoder_test(NewOrder {
            instrument: InstrumentId(0),
            side: Side::Sell,
            kind,
            tif,
            price: Price::from_units(2_341_610_000_000),
            qty: Qty::from_units(847_000),
        })
    }

    fn key(text: &str) -> ClientOrderId {
        ArrayString::from(text).expect("short")
    }

    // What the venue would sign: every parameter but the signature, sorted by name, values raw.
    fn payload(params: &serde_json::Map<String, Value>) -> String {
        let sorted: BTreeMap<_, _> = params.iter().filter(|(k, _)| *k != "signature").collect();
        let raw = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        sorted.iter().map(|(k, v)| format!("{k}={}", raw(v))).collect::<Vec<_>>().join("&")
    }

    // The frame asks for `method` with `params` (JSON), and is signed exactly when it carries the key.
    #[track_caller]
    fn check(out: &[u8], dialect: &BinanceOrders, id: &str, method: &str, params: &str) {
        let frame: Value = serde_json::from_slice(out).expect("valid JSON");
        assert_eq!((&frame["id"], &frame["method"]), (&id.into(), &method.into()));
        let mut found = frame["params"].as_object().expect("an object").clone();
        let text = payload(&found);
        let signature = found.remove("signature");
        assert_eq!(signature.is_some(), found.remove("apiKey").is_some());
        if let Some(signature) = signature {
            let mut expect = Vec::new();
            dialect.signer.sign(text.as_bytes(), &mut expect);
            assert_eq!(signature.as_str().map(str::as_bytes), Some(expect.as_slice()), "{text}");
        }
        assert_eq!(Value::Object(found), serde_json::from_str::<Value>(params).expect("valid"));
    }

    #[track_caller]
    fn check_place(hmac: bool, kind: OrderKind, tif: TimeInForce, differs: &str) {
        let (mut dialect, mut out) = (orders(hmac), b"left over".to_vec());
        dialect.place(&mut out, 7, &new_order(kind, tif), &instrument(), &key("a-1"), UTC);
        let params = format!(
            r#"{{"newClientOrderId":"a-1","newOrderRespType":"RESULT","quantity":"0.00847","recvWindow":5000,
            "returnRateLimits":false,"side":"SELL","symbol":"BTCUSDT","timestamp":1660801715431,{differs}}}"#
        );
        check(&out, &dialect, "p7", "order.place", &params);
        assert_eq!(out.windows(9).any(|w| w == b"signature"), hmac);
    }

    #[test]
    fn places_every_kind_of_order() {
        use {OrderKind::*, TimeInForce::*};
        let limit = |tif| format!(r#""price":"23416.1","timeInForce":"{tif}","type":"LIMIT""#);
        for hmac in [true, false] {
            check_place(hmac, Limit, Gtc, &limit("GTC"));
            check_place(hmac, Limit, Ioc, &limit("IOC"));
            check_place(hmac, Limit, Fok, &limit("FOK"));
            check_place(hmac, LimitMaker, Gtc, r#""price":"23416.1","type":"LIMIT_MAKER""#);
            check_place(hmac, Market, Gtc, r#""type":"MARKET""#);
        }
    }

    #[test]
    fn cancels_and_queries() {
        for hmac in [true, false] {
            let (mut d, i, mut out) = (orders(hmac), instrument(), Vec::new());
            let common = r#""recvWindow":5000,"returnRateLimits":false,"timestamp":1660801715431"#;
            let about = format!(r#"{common},"symbol":"BTCUSDT""#);
            let one = format!(r#"{{{about},"origClientOrderId":"a-1"}}"#);
            let all = format!("{{{about}}}");
            d.cancel(&mut out, 1, &i, &key("a-1"), UTC);
            check(&out, &d, "c1", "order.cancel", &one);
            d.order_status(&mut out, 2, &i, &key("a-1"), UTC);
            check(&out, &d, "s2", "order.status", &one);
            d.cancel_all(&mut out, 3, &i, UTC);
            check(&out, &d, "a3", "openOrders.cancelAll", &all);
            d.open_orders(&mut out, 4, &i, UTC);
            check(&out, &d, "o4", "openOrders.status", &all);
            d.trades(&mut out, 5, &i, Some(9), UTC);
            check(&out, &d, "t5", "myTrades", &format!(r#"{{{about},"fromId":9,"limit":1000}}"#));
            d.trades(&mut out, 5, &i, None, UTC);
            check(&out, &d, "t5", "myTrades", &format!(r#"{{{about},"limit":1000}}"#));
            d.account(&mut out, 6, UTC);
            check(
                &out,
                &d,
                "b6",
                "account.status",
                &format!(r#"{{{common},"omitZeroBalances":true}}"#),
            );
        }
    }

    #[test]
    fn a_session_begins() {
        let mut out = Vec::new();
        let timed = r#"{"recvWindow":5000,"timestamp":1660801715431}"#;
        let mut d = orders(false);
        assert!(d.needs_logon());
        d.logon(&mut out, 1, UTC);
        check(&out, &d, "l1", "session.logon", timed);
        d.subscribe(&mut out, 2, UTC);
        check(&out, &d, "u2", "userDataStream.subscribe", "{}");
        let mut d = orders(true);
        assert!(!d.needs_logon());
        d.subscribe(&mut out, 2, UTC);
        check(&out, &d, "u2", "userDataStream.subscribe.signature", timed);
    }

    #[test]
    fn odd_names_stay_valid_json() {
        let (mut d, mut out) = (orders(true), Vec::new());
        d.cancel(&mut out, 1, &instrument(), &key("a\"b\\c\u{1}"), UTC);
        serde_json::from_slice::<Value>(&out).expect("valid JSON");
    }

    #[track_caller]
    fn decoded(frame: &str) -> SessionMessage {
        orders(true).decode(frame.as_bytes()).expect(frame)
    }

    #[track_caller]
    fn refused(id: &str, rest: &str) -> VenueError {
        match decoded(&format!(r#"{{"id":"{id}",{rest}}}"#)) {
            SessionMessage::Answer { result: Err(error), .. } => error,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn refusals_keep_code_and_time() {
        let error = refused(
            "p1",
            r#""status":418,"error":{"code":-1003,"msg":"Way too much","data":{"serverTime":1,"retryAfter":1659146400000}}"#,
        );
        assert_eq!((error.status, error.code), (418, -1003));
        assert_eq!(error.retry_after, Some(UtcNs::from_millis(1_659_146_400_000)));
        let d = orders(true);
        let cancel = |m: &str| {
            refused("c1", &format!(r#""status":400,"error":{{"code":-2011,"msg":"{m}"}}"#))
        };
        assert!(d.is_unknown_order(&cancel("Unknown order sent.")));
        assert!(!d.is_unknown_order(&cancel("Order was not canceled due to cancel restrictions.")));
        let query =
            r#""status":400,"error":{"code":-2013,"msg":"Order does not exist.","data":[1]}"#;
        assert!(d.is_unknown_order(&refused("s1", query)));
        assert_eq!(refused("p1", r#""status":504"#).status, 504);
    }

    #[test]
    fn answers_without_our_id() {
        let revoked = r#"{"id":null,"status":401,"error":{"code":-2015,"msg":"Invalid API-key"}}"#;
        let error = orders(true).decode(revoked.as_bytes()).expect_err("names the trouble");
        assert!(error.what.contains("-2015 Invalid API-key"), "{error}");
        assert_eq!(decoded(r#"{"id":7,"status":200,"result":{}}"#), SessionMessage::Ignored);
        assert_eq!(decoded(r#"{"id":"zz","status":200,"result":{}}"#), SessionMessage::Ignored);
        let empty = orders(true).decode(br#"{"id":"p1","status":200}"#);
        assert!(empty.is_err());
    }

    // An execution report with `fields` over those of a resting order.
    #[track_caller]
    fn report(fields: &[(&str, &str)]) -> Result<crate::trading::venue::VenueReport, DecodeError> {
        let base = [
            ("e", "\"executionReport\""),
            ("E", "1"),
            ("s", "\"BTCUSDT\""),
            ("c", "\"new\""),
            ("S", "\"BUY\""),
            ("q", "\"1.5\""),
            ("p", "\"100.00000000\""),
            ("C", "\"\""),
            ("x", "\"NEW\""),
            ("X", "\"NEW\""),
            ("r", "\"NONE\""),
            ("i", "12"),
            ("l", "\"0.00000000\""),
            ("z", "\"0.5\""),
            ("L", "\"0.00000000\""),
            ("n", "\"0\""),
            ("N", "null"),
            ("T", "1499405658657"),
            ("t", "-1"),
        ];
        let mut all: BTreeMap<_, _> = base.into_iter().collect();
        all.extend(fields.iter().copied());
        let body: Vec<_> = all.iter().map(|(k, v)| format!("\"{k}\":{v}")).collect();
        let frame = format!(r#"{{"subscriptionId":0,"event":{{{}}}}}"#, body.join(","));
        match orders(true).decode(frame.as_bytes())? {
            SessionMessage::Report(report) => Ok(report),
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn check_report(exec: &str, status: &str, expect: (ExecType, OrderStatus)) {
        let (x, s) = (format!("\"{exec}\""), format!("\"{status}\""));
        let r = report(&[("x", &x), ("X", &s)]).expect("valid");
        assert_eq!((r.exec, r.status), expect, "{exec} {status}");
    }

    #[test]
    fn every_execution_type_and_status() {
        use {ExecType as E, OrderStatus as S};
        check_report("NEW", "NEW", (E::New, S::New));
        check_report("NEW", "PENDING_NEW", (E::New, S::PendingNew));
        check_report("REPLACED", "NEW", (E::New, S::New));
        check_report("TRADE", "PARTIALLY_FILLED", (E::Trade, S::PartiallyFilled));
        check_report("TRADE", "FILLED", (E::Trade, S::Filled));
        check_report("CANCELED", "CANCELED", (E::Canceled, S::Canceled));
        check_report("PENDING_CANCEL", "PENDING_CANCEL", (E::PendingCancel, S::PendingCancel));
        check_report("REJECTED", "REJECTED", (E::Rejected, S::Rejected));
        check_report("EXPIRED", "EXPIRED", (E::Expired, S::Expired));
        check_report("TRADE_PREVENTION", "EXPIRED_IN_MATCH", (E::Expired, S::Expired));
        check_report("TRADE_PREVENTION", "PARTIALLY_FILLED", (E::New, S::PartiallyFilled));
        assert!(report(&[("x", "\"SOMETHING\"")]).is_err());
        assert!(report(&[("X", "\"SOMETHING\"")]).is_err());
        assert!(report(&[("q", "\"-1\"")]).is_err());
    }

    #[test]
    fn reports_keep_every_field() {
        let fill = report(&[
            ("x", "\"TRADE\""),
            ("X", "\"FILLED\""),
            ("l", "\"0.25\""),
            ("L", "\"99.5\""),
            ("t", "77"),
            ("n", "\"-0.00000003\""),
            ("N", "\"BNB\""),
        ])
        .expect("valid");
        assert_eq!(fill.trade_id, Some(77));
        assert_eq!((fill.commission.amount, &*fill.commission.asset), (-3, "BNB"));
        assert_eq!((fill.last_qty.units(), fill.last_price.units()), (25_000_000, 9_950_000_000));
        assert_eq!((fill.qty.units(), fill.cum_qty.units()), (150_000_000, 50_000_000));
        assert_eq!((fill.venue_order_id, fill.side, fill.reject_code), (12, Side::Buy, 0));
        assert_eq!(fill.venue_utc, UtcNs::from_millis(1_499_405_658_657));
        let cancel = report(&[("x", "\"CANCELED\""), ("X", "\"CANCELED\""), ("C", "\"orig\"")]);
        assert_eq!(&*cancel.expect("valid").client_order_id, "orig");
        let plain = report(&[]).expect("valid");
        assert_eq!((&*plain.client_order_id, plain.trade_id), ("new", None));
        let rejected = report(&[("x", "\"REJECTED\""), ("X", "\"REJECTED\"")]);
        assert_eq!(rejected.expect("valid").reject_code, -2010);
        assert!(report(&[("N", "\"A name that is much too long\"")]).is_err());
    }

    #[test]
    fn three_wrappings() {
        for event in ["eventStreamTerminated", "serverShutdown", "balanceUpdate", "listStatus"] {
            let bare = format!(r#"{{"e":"{event}","E":1}}"#);
            let expect = match event {
                "eventStreamTerminated" => SessionMessage::StreamEnded,
                "serverShutdown" => SessionMessage::ServerShutdown,
                _ => SessionMessage::Ignored,
            };
            assert_eq!(decoded(&bare), expect);
            assert_eq!(decoded(&format!(r#"{{"event":{bare}}}"#)), expect);
            assert_eq!(decoded(&format!(r#"{{"subscriptionId":0,"event":{bare}}}"#)), expect);
            assert_eq!(decoded(&format!(r#"{{"stream":"x","data":{bare}}}"#)), expect);
        }
        assert_eq!(decoded("[1]"), SessionMessage::Ignored);
        assert_eq!(decoded("{}"), SessionMessage::Ignored);
    }

    #[test]
    fn a_cancel_of_everything_takes_lists_apart() {
        let order = |key: &str| {
            format!(
                r#"{{"symbol":"BTCUSDT","origClientOrderId":"{key}","orderId":1,"clientOrderId":"x",
            "price":"1","origQty":"1","executedQty":"0","status":"CANCELED","side":"SELL"}}"#
            )
        };
        let frame = format!(
            r#"{{"id":"a1","status":200,"result":[{},{{"orderListId":1,"orderReports":[{},{}]}}]}}"#,
            order("one"),
            order("two"),
            order("three")
        );
        let SessionMessage::Answer { id, result: Ok(Answer::CanceledAll(all)) } = decoded(&frame)
        else {
            panic!("no list")
        };
        assert_eq!(id, RequestId { kind: RequestKind::CancelAll, seq: 1 });
        let keys: Vec<_> = all.iter().map(|o| o.client_order_id.to_string()).collect();
        assert_eq!(keys, ["one", "two", "three"]);
    }

    #[test]
    fn the_window_is_kept_in_bounds() {
        let window = |d| {
            let all = [instrument()];
            BinanceOrders::new(&credentials(true), &all, d).expect("valid").recv_window()
        };
        assert_eq!(window(Duration::ZERO), Duration::from_millis(1));
        assert_eq!(window(Duration::from_secs(90)), RECV_WINDOW_MAX);
        assert_eq!(window(Duration::from_micros(5_500)), Duration::from_millis(5));
    }

    #[test]
    fn nothing_prints_secrets() {
        for hmac in [true, false] {
            let text = format!("{:?} {:?}", credentials(hmac), orders(hmac));
            assert!(
                !text.contains("secret") && !text.contains("MC4CAQ") && !text.contains("key\"")
            );
        }
    }
}
