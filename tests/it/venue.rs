//! Proves the simulated venue: matching against a naive reference, conservation of money, diff streams that rebuild
//! the book, recordings served whole, and the wire over in-memory streams.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use pindrop::clock::{MonoNs, UtcNs, VirtualClock};
use pindrop::net::Endpoint;
use pindrop::net::Stream;
use pindrop::net::memory::MemoryNet;
use pindrop::net::url::WsUrl;
use pindrop::net::websocket::{WsClient, WsConfig, WsEvent};
use pindrop::runtime::actor::{Actor, Cx};
use pindrop::sim::exchange::{Exchange, Exec, Report};
use pindrop::sim::json::{decimal, parse_decimal};
use pindrop::sim::listing::Liquidity;
use pindrop::sim::market::Synthetic;
use pindrop::sim::order::{Kind, NewOrder, Side, Stp, Tif};
use pindrop::sim::recording::symbol_of;
use pindrop::sim::settings::{
    AccountSettings, MarketSettings, Secret, SymbolSettings, VenueSettings,
};
use pindrop::sim::venue::Venue;
use proptest::prelude::*;
use serde_json::{Value, json};

pub(crate) const KEY: &str = "key";
const SECRET: &str = "secret";
const UTC: UtcNs = UtcNs::from_millis(1_700_000_000_000);
pub(crate) const PORT: u16 = 7;
pub(crate) const ONE: i64 = 100_000_000;

pub(crate) fn settings(market: MarketSettings) -> VenueSettings {
    let symbols: Vec<SymbolSettings> =
        ["BTCUSDT", "ETHUSDT"].into_iter().filter_map(SymbolSettings::named).collect();
    let account = |name: &str, key: &str| {
        AccountSettings::rich(name, key, Secret::Hmac(SECRET.to_owned()), &symbols)
    };
    let accounts = vec![account("one", KEY), account("two", "other")];
    VenueSettings { symbols, accounts, market, ..VenueSettings::demo(3) }
}

pub(crate) fn still() -> VenueSettings {
    settings(MarketSettings::Synthetic { updates_per_s: 0, volatility_centibps: 0 })
}

// --- matching ------------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Act {
    Place { account: usize, side: Side, kind: Kind, tif: Tif, price: i64, lots: i64, stp: Stp },
    Cancel { account: usize, nth: usize },
    Market { side: Side, price: i64, lots: i64 },
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Buy), Just(Side::Sell)]
}

fn act(stp: impl Strategy<Value = Stp> + Clone + 'static) -> impl Strategy<Value = Act> {
    let kind = prop_oneof![
        4 => Just((Kind::Limit, Tif::Gtc)),
        1 => Just((Kind::Limit, Tif::Ioc)),
        1 => Just((Kind::Limit, Tif::Fok)),
        1 => Just((Kind::LimitMaker, Tif::Gtc)),
        1 => Just((Kind::Market, Tif::Gtc)),
    ];
    prop_oneof![
        5 => (0..2_usize, side(), kind, 0..20_i64, 10..60_i64, stp).prop_map(
            |(account, side, (kind, tif), price, lots, stp)| Act::Place {
                account, side, kind, tif, price, lots, stp
            }
        ),
        1 => (0..2_usize, 0..8_usize).prop_map(|(account, nth)| Act::Cancel { account, nth }),
        1 => (side(), 0..20_i64, 10..60_i64)
            .prop_map(|(side, price, lots)| Act::Market { side, price, lots }),
    ]
}

const TICK: i64 = 1_000_000;
const LOT: i64 = 1_000;

fn price_of(step: i64) -> i64 {
    60_000 * ONE + step * TICK
}

fn new_order(act: &Act) -> Option<(usize, NewOrder)> {
    let Act::Place { account, side, kind, tif, price, lots, stp } = act.clone() else {
        return None;
    };
    let price = if kind == Kind::Market { 0 } else { price_of(price) };
    let new = NewOrder {
        symbol: 0,
        side,
        kind,
        tif,
        price,
        qty: lots * LOT,
        stop_price: 0,
        quote_qty: 0,
        iceberg_qty: 0,
        client_id: None,
        stp,
        strategy_id: None,
        strategy_type: None,
    };
    Some((account, new))
}

fn run(exchange: &mut Exchange, act: &Act) {
    match act {
        Act::Place { .. } => {
            // A refusal is an outcome, too.
            let _ = new_order(act).map(|(account, new)| exchange.place(account, new, UTC));
        }
        Act::Cancel { account, nth } => {
            let id = exchange.accounts[*account].open_orders().nth(*nth).map(|o| o.id);
            if let Some(id) = id {
                exchange.cancel(*account, id, None, UTC).expect("an open order can be cancelled");
            }
        }
        Act::Market { side, price, lots } => {
            exchange.market_takes(0, *side, price_of(*price), lots * LOT, UTC);
        }
    }
}

fn check_money(exchange: &Exchange) {
    for asset in 0..exchange.assets.len() {
        let held = exchange.accounts.iter().map(|a| a.holdings[asset]);
        let (now, before): (i128, i128) =
            held.fold((0, 0), |(n, b), h| (n + h.free + h.locked, b + h.initial));
        assert_eq!(now + exchange.fees[asset] + exchange.market_gain[asset], before, "conserved");
    }
    for account in &exchange.accounts {
        let mut needs = vec![0_i128; exchange.assets.len()];
        for order in account.open_orders() {
            let listing = &exchange.listings[order.asked.symbol];
            let need = match order.asked.side {
                Side::Buy => {
                    i128::from(order.asked.price) * i128::from(order.remaining()) / 100_000_000
                }
                Side::Sell => i128::from(order.remaining()),
            };
            assert!(need > 0, "an open order has something left");
            needs[listing.paid_asset(order.asked.side)] += need;
        }
        for (holding, need) in account.holdings.iter().zip(needs) {
            assert_eq!(holding.locked, need, "locked is what open orders need");
            assert!(holding.free >= 0, "free is not negative");
        }
    }
}

fn check_reports(exchange: &mut Exchange) {
    while let Some(report) = exchange.reports.pop_front() {
        let Report::Execution { order, exec: Exec::Trade { price, .. }, .. } = report else {
            continue;
        };
        if order.asked.kind != Kind::Market {
            let within = match order.asked.side {
                Side::Buy => price <= order.asked.price,
                Side::Sell => price >= order.asked.price,
            };
            assert!(within, "no order trades through its limit");
        }
    }
}

/// The reference: a list of resting orders, searched from the front for the best price.
#[derive(Default)]
struct Naive {
    resting: Vec<(u64, usize, Side, i64, i64)>,
}

impl Naive {
    fn take(&mut self, side: Side, limit: Option<i64>, mut qty: i64) -> i64 {
        while qty > 0 {
            let better = |a: i64, b: i64| if side == Side::Buy { a < b } else { a > b };
            let mut best: Option<usize> = None;
            for (at, order) in self.resting.iter().enumerate() {
                let meets = limit
                    .is_none_or(|l| if side == Side::Buy { l >= order.3 } else { l <= order.3 });
                if order.2 != side
                    && meets
                    && best.is_none_or(|b| better(order.3, self.resting[b].3))
                {
                    best = Some(at);
                }
            }
            let Some(at) = best else { break };
            let traded = qty.min(self.resting[at].4);
            qty -= traded;
            self.resting[at].4 -= traded;
            if self.resting[at].4 == 0 {
                self.resting.remove(at);
            }
        }
        qty
    }
}

/// Does the same as [`run`] with the reference.
fn run_naive(naive: &mut Naive, exchange_before: &Exchange, act: &Act, id: u64) {
    match act {
        Act::Place { account, side, kind, tif, price, lots, .. } => {
            let qty = lots * LOT;
            let limit = (*kind != Kind::Market).then(|| price_of(*price));
            let (_, new) = new_order(act).expect("a placement");
            if exchange_before.check(*account, &new).is_err() {
                return;
            }
            let mut probe = Naive { resting: naive.resting.clone() };
            let left = probe.take(*side, limit, qty);
            if *tif == Tif::Fok && *kind == Kind::Limit && left > 0 {
                return;
            }
            naive.resting = probe.resting;
            if left > 0 && *tif == Tif::Gtc && *kind != Kind::Market {
                naive.resting.push((id, *account, *side, price_of(*price), left));
            }
        }
        Act::Cancel { account, nth } => {
            let id = exchange_before.accounts[*account].open_orders().nth(*nth).map(|o| o.id);
            naive.resting.retain(|order| Some(order.0) != id);
        }
        Act::Market { side, price, lots } => {
            naive.take(*side, Some(price_of(*price)), lots * LOT);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn money_is_conserved(
        acts in prop::collection::vec(
            act(prop_oneof![
                Just(Stp::None), Just(Stp::ExpireMaker), Just(Stp::ExpireTaker), Just(Stp::ExpireBoth)
            ]),
            1..120,
        )
    ) {
        let mut exchange = Exchange::new(&still(), 1);
        for act in &acts {
            run(&mut exchange, act);
            check_money(&exchange);
            check_reports(&mut exchange);
            let top = exchange.listings[0].top();
            if let (Some(bid), Some(ask)) = (top.bid, top.ask) {
                prop_assert!(bid.0 < ask.0, "never crossed");
            }
        }
    }

    #[test]
    fn matching_agrees_with_a_naive_reference(acts in prop::collection::vec(act(Just(Stp::None)), 1..80)) {
        let mut exchange = Exchange::new(&still(), 1);
        let mut naive = Naive::default();
        for act in &acts {
            let (next_id, _, _) = exchange.sequences();
            run_naive(&mut naive, &exchange, act, next_id);
            run(&mut exchange, act);
            let mut ours: Vec<(u64, usize, Side, i64, i64)> = Vec::new();
            for (at, account) in exchange.accounts.iter().enumerate() {
                let rest = account.open_orders();
                ours.extend(rest.map(|o| (o.id, at, o.asked.side, o.asked.price, o.remaining())));
            }
            let mut reference = naive.resting.clone();
            ours.sort();
            reference.sort();
            prop_assert_eq!(&ours, &reference);
        }
    }
}

// --- the synthetic market ------------------------------------------------------------------------------------------

fn levels(exchange: &Exchange, side: Side) -> Vec<(i64, i64)> {
    exchange.listings[0].levels(side).collect()
}

#[test]
fn diffs_rebuild_the_synthetic_book() {
    let mut exchange = Exchange::new(&still(), 1);
    let mut market = Synthetic::new(0, 60_000 * ONE, 1, 1_000, 150);
    market.open(&mut exchange, MonoNs::ZERO);
    let mut book: BTreeMap<(Side, i64), i64> = BTreeMap::new();
    let mut last = 0;
    let mut now = MonoNs::ZERO;
    for _ in 0..20_000 {
        now = now.after(Duration::from_millis(1));
        while market.step(&mut exchange, now, UTC) {}
        let Some(diff) = exchange.listings[0].take_diff(0) else { continue };
        assert_eq!(diff.first, last + 1);
        last = diff.last;
        for (side, changes) in [(Side::Buy, &diff.bids), (Side::Sell, &diff.asks)] {
            for (price, qty) in changes {
                if *qty == 0 {
                    book.remove(&(side, *price));
                } else {
                    book.insert((side, *price), *qty);
                }
            }
        }
    }
    let rebuilt: Vec<((Side, i64), i64)> = book.into_iter().collect();
    let mut truth: Vec<((Side, i64), i64)> = Vec::new();
    for side in [Side::Buy, Side::Sell] {
        truth.extend(levels(&exchange, side).into_iter().map(|(p, q)| ((side, p), q)));
    }
    truth.sort();
    assert_eq!(rebuilt, truth);
    let per_second = exchange.listings[0].update_id() as f64 / 20.0;
    assert!((500.0..2_000.0).contains(&per_second), "{per_second} updates per second");
    check_money(&exchange);
}

#[test]
fn quotes_near_the_touch_fill() {
    let mut exchange = Exchange::new(&still(), 1);
    let mut market = Synthetic::new(0, 60_000 * ONE, 5, 50, 150);
    market.open(&mut exchange, MonoNs::ZERO);
    let (mut now, mut fills) = (MonoNs::ZERO, 0);
    for _ in 0..600 {
        now = now.after(Duration::from_millis(100));
        while market.step(&mut exchange, now, UTC) {}
        let open: Vec<u64> = exchange.accounts[0].open_orders().map(|o| o.id).collect();
        for id in open {
            exchange.cancel(0, id, None, UTC).expect("open");
        }
        let top = exchange.listings[0].top();
        let (bid, ask) = (top.bid.expect("a bid").0, top.ask.expect("an ask").0);
        for (side, price) in [(Side::Buy, bid), (Side::Sell, ask)] {
            let act = Act::Place {
                account: 0,
                side,
                kind: Kind::LimitMaker,
                tif: Tif::Gtc,
                price: (price - 60_000 * ONE) / TICK,
                lots: 100,
                stp: Stp::ExpireMaker,
            };
            run(&mut exchange, &act);
        }
        fills += exchange.reports.drain(..).filter(is_trade).count();
    }
    assert!(fills > 60, "{fills} fills in a minute");
    check_money(&exchange);
}

fn is_trade(report: &Report) -> bool {
    matches!(report, Report::Execution { exec: Exec::Trade { .. }, .. })
}

#[test]
fn a_moved_market_trades_with_what_rests_in_between() {
    let mut exchange = Exchange::new(&still(), 1);
    let mut market = Synthetic::new(0, 60_000 * ONE, 1, 50, 150);
    market.open(&mut exchange, MonoNs::ZERO);
    let act = Act::Place {
        account: 0,
        side: Side::Sell,
        kind: Kind::Limit,
        tif: Tif::Gtc,
        price: 10_000,
        lots: 100,
        stp: Stp::ExpireMaker,
    };
    run(&mut exchange, &act);
    assert_eq!(exchange.accounts[0].open_orders().count(), 1);
    market.jump(&mut exchange, 61_000 * ONE, UTC);
    assert_eq!(exchange.accounts[0].open_orders().count(), 0);
    assert!(exchange.listings[0].top().bid.expect("a bid").0 > 60_900 * ONE);
    check_money(&exchange);
}

// --- the wire ------------------------------------------------------------------------------------------------------

pub(crate) struct World {
    pub(crate) net: MemoryNet,
    pub(crate) clock: VirtualClock,
    pub(crate) venue: Venue,
}

impl World {
    pub(crate) fn new(settings: &VenueSettings) -> Self {
        let net = MemoryNet::new();
        let venue = Venue::new(settings, net.listener(PORT)).expect("settings make a venue");
        let mut world = Self { net, clock: VirtualClock::new(UTC), venue };
        world.turn();
        world
    }

    pub(crate) fn turn(&mut self) {
        let mut cx = Cx::detached(self.clock.now(), self.clock.utc());
        self.venue.turn(&mut cx).expect("the venue goes on");
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        for _ in 0..ms {
            self.clock.advance(Duration::from_millis(1));
            self.turn();
        }
    }

    pub(crate) fn ms(&self) -> i64 {
        self.clock.utc().as_millis()
    }

    /// One HTTP exchange on a connection of its own: status, head and body.
    pub(crate) fn http(
        &mut self,
        method: &str,
        target: &str,
        key: &str,
        body: &str,
    ) -> (u16, String, Value) {
        let endpoint = Endpoint { host: "venue".to_owned(), port: PORT, tls: false };
        let mut stream = self.net.dialer().dial(&endpoint, self.clock.now()).expect("a listener");
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: venue\r\nX-MBX-APIKEY: {key}\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("room");
        let mut got = Vec::new();
        for _ in 0..200 {
            self.turn();
            read_all(&mut *stream, &mut got);
            if let Some(answer) = parse_http(&got) {
                return answer;
            }
        }
        panic!("no answer to {method} {target}: {}", String::from_utf8_lossy(&got));
    }

    pub(crate) fn get(&mut self, target: &str) -> Value {
        let (status, _, body) = self.http("GET", target, "", "");
        assert_eq!(status, 200, "{target}: {body}");
        body
    }

    pub(crate) fn signed(&mut self, method: &str, path: &str, query: &str) -> (u16, Value) {
        let query = format!("{query}&timestamp={}", self.ms());
        let query = query.trim_start_matches('&');
        let target = format!("{path}?{query}&signature={}", hmac(query));
        let (status, _, body) = self.http(method, &target, KEY, "");
        (status, body)
    }

    pub(crate) fn ws(&mut self, target: &str) -> WsClient {
        let url = WsUrl::parse("ws://venue:7").expect("a url");
        let config = WsConfig { ping_every: None, ..WsConfig::default() };
        let mut dialer = self.net.dialer();
        let mut client =
            WsClient::open(&mut *dialer, &url, target, config, self.clock.now()).expect("a dial");
        for _ in 0..50 {
            self.turn();
            if client.poll(self.clock.now()).expect("an upgrade") == Some(WsEvent::Opened) {
                return client;
            }
        }
        panic!("not upgraded");
    }

    /// All messages that are there now.
    pub(crate) fn read(&mut self, client: &mut WsClient) -> Vec<Value> {
        self.turn();
        let mut all = Vec::new();
        while let Ok(Some(event)) = client.poll(self.clock.now()) {
            if let WsEvent::Text(text) = event {
                all.push(serde_json::from_str(&text).expect("JSON"));
            }
        }
        all
    }

    pub(crate) fn ask(&mut self, client: &mut WsClient, request: &Value) -> Vec<Value> {
        client.send_text(request.to_string().as_bytes(), self.clock.now()).expect("open");
        client.flush().expect("open");
        self.turn();
        self.read(client)
    }

    pub(crate) fn call(
        &mut self,
        client: &mut WsClient,
        method: &str,
        params: Value,
    ) -> Vec<Value> {
        let params = self.sign(params);
        self.ask(client, &json!({"id": "x", "method": method, "params": params}))
    }

    pub(crate) fn sign(&self, mut params: Value) -> Value {
        params["apiKey"] = KEY.into();
        params["timestamp"] = self.ms().into();
        let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        let fields = params.as_object().expect("an object");
        let sorted: BTreeMap<&String, String> = fields.iter().map(|(k, v)| (k, text(v))).collect();
        let pairs: Vec<String> = sorted.iter().map(|(k, v)| format!("{k}={v}")).collect();
        params["signature"] = hmac(&pairs.join("&")).into();
        params
    }
}

pub(crate) fn hmac(payload: &str) -> String {
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = ring::hmac::sign(&key, payload.as_bytes());
    tag.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn read_all(stream: &mut dyn Stream, got: &mut Vec<u8>) {
    let mut buffer = [0; 16_384];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(n) => got.extend_from_slice(&buffer[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return,
            Err(e) => panic!("reading: {e}"),
        }
    }
}

pub(crate) fn parse_http(got: &[u8]) -> Option<(u16, String, Value)> {
    let text = std::str::from_utf8(got).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let head = head.to_lowercase();
    let length: usize =
        head.lines().find_map(|l| l.strip_prefix("content-length: "))?.parse().ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = body.get(..length)?;
    let body = serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()));
    Some((status, head, body))
}

pub(crate) const LIMIT_BUY: &str =
    "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.01&price=50000";

#[test]
fn rest_public() {
    let mut world = World::new(&still());
    assert_eq!(world.get("/api/v3/ping"), json!({}));
    assert_eq!(world.get("/api/v3/time")["serverTime"], world.ms());
    let depth = world.get("/api/v3/depth?symbol=BTCUSDT&limit=5");
    assert_eq!(depth["bids"].as_array().map(Vec::len), Some(5));
    let info = world.get("/api/v3/exchangeInfo?symbols=%5B%22BTCUSDT%22%5D");
    assert_eq!(info["symbols"][0]["filters"][0]["tickSize"], "0.01000000");
    let (status, head, _) = world.http("GET", "/api/v3/time", "", "");
    assert!(status == 200 && head.contains("x-mbx-used-weight-1m: "), "{head}");
    assert!(head.contains("date: tue, 14 nov 2023 22:13:20 gmt"), "{head}");
    let (status, _, body) = world.http("POST", "/api/v3/userDataStream", KEY, "");
    assert!(status == 410 && body.as_str().is_some_and(|b| b.contains("410 Gone")));
}

#[track_caller]
fn refused(method: &str, path: &str, query: &str, code: i64) {
    let mut world = World::new(&still());
    let (_, body) = world.signed(method, path, query);
    assert_eq!(body["code"], code, "{method} {path}?{query}: {body}");
}

#[test]
fn rest_refusals() {
    let order = "/api/v3/order";
    refused("POST", order, &LIMIT_BUY.replace("BTCUSDT", "NOPEUSDT"), -1121);
    refused("POST", order, &LIMIT_BUY.replace("BUY", "LONG"), -1117);
    refused("POST", order, &LIMIT_BUY.replace("LIMIT", "FOO"), -1116);
    refused("POST", order, &LIMIT_BUY.replace("GTC", "GTX"), -1115);
    refused("POST", order, &LIMIT_BUY.replace("50000", "50000.001"), -1013);
    refused("POST", order, &LIMIT_BUY.replace("0.01", "0.0000100001"), -1111);
    refused("POST", order, &LIMIT_BUY.replace("0.01", "0.000015"), -1013);
    refused("POST", order, &LIMIT_BUY.replace("0.01", "0.00001"), -1013);
    refused("POST", order, &LIMIT_BUY.replace("0.01", "8000"), -2010);
    refused("POST", order, &format!("{LIMIT_BUY}&postOnly=true"), -1104);
    refused("POST", order, &format!("{LIMIT_BUY}&symbol=BTCUSDT"), -1101);
    refused("POST", order, &LIMIT_BUY.replace("&price=50000", ""), -1102);
    refused("DELETE", order, "symbol=BTCUSDT&orderId=9", -2011);
    refused("GET", order, "symbol=BTCUSDT&orderId=9", -2013);
    refused("GET", order, "symbol=BTCUSDT", -1102);
    refused("DELETE", "/api/v3/openOrders", "symbol=BTCUSDT", -2011);
    refused("GET", "/api/v3/account", "timestamp=1", -1101);
}

#[test]
fn rest_signatures() {
    let mut world = World::new(&still());
    let query = format!("timestamp={}", world.ms());
    let bad = format!("/api/v3/account?{query}&signature={}", "0".repeat(64));
    assert_eq!(world.http("GET", &bad, KEY, "").2["code"], -1022);
    let good = format!("/api/v3/account?{query}&signature={}", hmac(&query));
    assert_eq!(world.http("GET", &good, KEY, "").0, 200);
    let (status, _, body) = world.http("GET", &good, "nobody", "");
    assert_eq!((status, &body["code"]), (401, &json!(-2015)));
    assert_eq!(world.http("GET", &good, "", "").2["code"], -2014);
    world.pass(5_001);
    assert_eq!(world.http("GET", &good, KEY, "").2["code"], -1021);
    // Mixed: the payload is the query and the body, one after the other.
    let (query, body) = (
        "symbol=BTCUSDT&side=BUY&type=LIMIT",
        format!("timeInForce=GTC&quantity=0.01&price=50000&timestamp={}", world.ms()),
    );
    let signed = format!("{body}&signature={}", hmac(&format!("{query}{body}")));
    let (status, _, body) = world.http("POST", &format!("/api/v3/order?{query}"), KEY, &signed);
    assert_eq!((status, &body["status"]), (200, &json!("NEW")), "{body}");
}

#[test]
fn an_order_lives_and_dies() {
    let mut world = World::new(&still());
    let (_, order) =
        world.signed("POST", "/api/v3/order", &format!("{LIMIT_BUY}&newClientOrderId=a1"));
    assert_eq!(order["status"], "NEW", "{order}");
    let (_, again) =
        world.signed("POST", "/api/v3/order", &format!("{LIMIT_BUY}&newClientOrderId=a1"));
    assert_eq!(again["msg"], "Duplicate order sent.");
    let state = world.get("/sim/state");
    assert_eq!(state["accounts"][0]["balances"][1]["locked"], "500.00000000");
    let (_, open) = world.signed("GET", "/api/v3/openOrders", "symbol=BTCUSDT");
    assert_eq!(open[0]["clientOrderId"], "a1");
    let (_, gone) = world.signed("DELETE", "/api/v3/order", "symbol=BTCUSDT&origClientOrderId=a1");
    assert_eq!((&gone["status"], &gone["origClientOrderId"]), (&json!("CANCELED"), &json!("a1")));
    let state = world.get("/sim/state");
    assert_eq!(state["accounts"][0]["balances"][1]["free"], "10000000.00000000");
    let (_, market) =
        world.signed("POST", "/api/v3/order", "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.01");
    assert_eq!(market["status"], "FILLED", "{market}");
    let (_, trades) = world.signed("GET", "/api/v3/myTrades", "symbol=BTCUSDT");
    assert_eq!(trades.as_array().map(Vec::len), market["fills"].as_array().map(Vec::len));
    assert_eq!(trades[0]["commission"], market["fills"][0]["commission"]);
}

#[test]
fn api_answers_before_events() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws-api/v3");
    let got = world.call(&mut ws, "userDataStream.subscribe.signature", json!({}));
    assert_eq!(got[0]["result"], json!({"subscriptionId": 0}), "{got:?}");
    let order = json!({
        "symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
        "quantity": "0.01", "price": "70000.00", "newClientOrderId": "mine"
    });
    let got = world.call(&mut ws, "order.place", order);
    assert_eq!((&got[0]["status"], &got[0]["id"]), (&json!(200), &json!("x")), "{got:?}");
    assert_eq!(got[0]["rateLimits"].as_array().map(Vec::len), Some(3));
    let kinds: Vec<&str> = got[1..]
        .iter()
        .filter_map(|m| m["event"]["x"].as_str().or(m["event"]["e"].as_str()))
        .collect();
    assert_eq!(kinds.first(), Some(&"NEW"));
    assert_eq!(kinds.last(), Some(&"outboundAccountPosition"));
    assert!(kinds[1..kinds.len() - 1].iter().all(|k| *k == "TRADE") && kinds.len() > 2);
    let last = &got[got.len() - 2]["event"];
    assert_eq!(
        (&last["X"], &last["z"], &last["N"]),
        (&json!("FILLED"), &json!("0.01000000"), &json!("BTC"))
    );
    let second = world.call(&mut ws, "userDataStream.subscribe.signature", json!({}));
    assert_eq!(second[0]["error"]["code"], -2035);
    let off = world.ask(&mut ws, &json!({"id": 1, "method": "userDataStream.unsubscribe"}));
    assert_eq!(off[0]["result"], json!({}));
    assert_eq!(off[1]["event"]["e"], "eventStreamTerminated");
}

#[test]
fn api_errors_keep_the_connection() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws-api/v3?returnRateLimits=false");
    let mut code = |method: &str, params: Value, code: i64| {
        let got = world.call(&mut ws, method, params);
        assert_eq!(
            (&got[0]["error"]["code"], &got[0]["status"]),
            (&json!(code), &json!(400)),
            "{got:?}"
        );
        assert!(got[0].get("rateLimits").is_none());
    };
    code("no.such", json!({}), -1020);
    code("order.cancel", json!({"symbol": "BTCUSDT", "orderId": "77"}), -2011);
    code("order.status", json!({"symbol": "BTCUSDT", "orderId": 77}), -2013);
    code("openOrders.cancelAll", json!({"symbol": "BTCUSDT"}), -2011);
    code("session.logon", json!({}), -4056);
    code("order.place", json!({"symbol": "BTCUSDT"}), -1102);
    let got = world.ask(&mut ws, &json!({"id": null, "method": "v3/ping"}));
    assert_eq!(got, [json!({"id": null, "status": 200, "result": {}})]);
}

#[test]
fn ed25519_sessions_log_on_once() {
    use base64::Engine as _;
    use ring::signature::KeyPair as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let pair = ring::signature::Ed25519KeyPair::from_seed_unchecked(&[9; 32]).expect("32 bytes");
    let public = base64.encode(pair.public_key().as_ref());
    let mut settings = still();
    settings.accounts[0].secret = Secret::Ed25519Public(public);
    let mut world = World::new(&settings);
    let mut ws = world.ws("/ws-api/v3");
    let payload = format!("apiKey={KEY}&timestamp={}", world.ms());
    let signature = base64.encode(pair.sign(payload.as_bytes()));
    let params = json!({"apiKey": KEY, "timestamp": world.ms(), "signature": signature});
    let got = world.ask(&mut ws, &json!({"id": 1, "method": "session.logon", "params": params}));
    assert_eq!(got[0]["result"]["apiKey"], KEY, "{got:?}");
    let got = world.ask(&mut ws, &json!({"id": 2, "method": "userDataStream.subscribe"}));
    assert_eq!(got[0]["result"]["subscriptionId"], 0, "{got:?}");
    let params = json!({"timestamp": world.ms()});
    let got = world.ask(&mut ws, &json!({"id": 3, "method": "account.status", "params": params}));
    assert_eq!(got[0]["status"], 200, "{got:?}");
    let got = world.ask(&mut ws, &json!({"id": 4, "method": "session.logout"}));
    assert_eq!(got[0]["result"]["apiKey"], Value::Null);
    assert_eq!(got[1]["event"]["e"], "eventStreamTerminated");
}

/// A client's book, rebuilt by the documented rules.
#[derive(Default)]
struct Rebuilt {
    last: u64,
    aligned: bool,
    sides: [BTreeMap<i64, i64>; 2],
}

impl Rebuilt {
    fn from_snapshot(snapshot: &Value) -> Self {
        let mut book =
            Self { last: snapshot["lastUpdateId"].as_u64().expect("an id"), ..Self::default() };
        book.set(0, &snapshot["bids"]);
        book.set(1, &snapshot["asks"]);
        book
    }

    fn set(&mut self, side: usize, levels: &Value) {
        for level in levels.as_array().expect("levels") {
            let number = |at: usize| level[at].as_str().and_then(parse_decimal).expect("a number");
            if level[1] == "0.00000000" {
                self.sides[side].remove(&number(0));
            } else {
                self.sides[side].insert(number(0), number(1));
            }
        }
    }

    fn apply(&mut self, event: &Value) {
        let (first, last) = (event["U"].as_u64().expect("U"), event["u"].as_u64().expect("u"));
        if last <= self.last {
            assert!(!self.aligned, "events go on");
            return;
        }
        if self.aligned {
            assert_eq!(first, self.last + 1, "no gap");
        } else {
            assert!(first <= self.last + 1, "aligned: U {first} <= L+1 {}", self.last + 1);
        }
        self.aligned = true;
        self.last = last;
        self.set(0, &event["b"]);
        self.set(1, &event["a"]);
    }

    fn top(&self, depth: usize) -> [Vec<(i64, i64)>; 2] {
        let pair = |(p, q): (&i64, &i64)| (*p, *q);
        [
            self.sides[0].iter().rev().take(depth).map(pair).collect(),
            self.sides[1].iter().take(depth).map(pair).collect(),
        ]
    }
}

fn truth(exchange: &Exchange, depth: usize) -> [Vec<(i64, i64)>; 2] {
    [Side::Buy, Side::Sell].map(|side| exchange.listings[0].levels(side).take(depth).collect())
}

#[track_caller]
fn streams_align(stream: &str, join_after_ms: u64) {
    let market = MarketSettings::Synthetic { updates_per_s: 500, volatility_centibps: 150 };
    let mut world = World::new(&settings(market));
    world.pass(join_after_ms);
    let mut ws = world.ws(&format!("/stream?streams={stream}"));
    let mut buffered = Vec::new();
    for _ in 0..40 {
        world.pass(50);
        buffered.extend(world.read(&mut ws));
    }
    let mut book = Rebuilt::from_snapshot(&world.get("/api/v3/depth?symbol=BTCUSDT&limit=5000"));
    for message in &buffered {
        book.apply(&message["data"]);
    }
    for _ in 0..60 {
        world.pass(50);
        for message in world.read(&mut ws) {
            assert_eq!(message["stream"], stream);
            book.apply(&message["data"]);
        }
    }
    // The end of the last period: nothing is pending.
    while book.last != world.venue.exchange().listings[0].update_id() {
        world.pass(1);
        for message in world.read(&mut ws) {
            book.apply(&message["data"]);
        }
    }
    assert_eq!(book.top(usize::MAX), truth(world.venue.exchange(), usize::MAX));
}

#[test]
fn clients_align_with_fast_diffs() {
    streams_align("btcusdt@depth@100ms", 0);
    streams_align("btcusdt@depth@100ms", 333);
}

#[test]
fn clients_align_with_slow_diffs() {
    streams_align("btcusdt@depth", 1_234);
}

#[test]
fn own_orders_show_in_streams() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws/btcusdt@depth@100ms");
    let (_, order) = world.signed("POST", "/api/v3/order", LIMIT_BUY);
    world.pass(150);
    let got = world.read(&mut ws);
    assert_eq!(got[0]["b"], json!([["50000.00000000", "0.01000000"]]), "{got:?}");
    world.signed(
        "DELETE",
        "/api/v3/order",
        &format!("symbol=BTCUSDT&orderId={}", order["orderId"]),
    );
    world.pass(150);
    let gone = world.read(&mut ws);
    assert_eq!(gone[0]["b"], json!([["50000.00000000", "0.00000000"]]));
    assert_eq!(gone[0]["U"].as_u64(), got[0]["u"].as_u64().map(|u| u + 1));
}

#[test]
fn own_trades_show_in_streams() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/stream?streams=btcusdt@trade/btcusdt@aggTrade/btcusdt@bookTicker");
    let order = "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.5";
    let (_, order) = world.signed("POST", "/api/v3/order", order);
    let got = world.read(&mut ws);
    let of = |name: &str| -> Vec<&Value> {
        let of = |m: &&Value| m["stream"].as_str().is_some_and(|s| s.ends_with(name));
        got.iter().filter(of).map(|m| &m["data"]).collect()
    };
    let fills = order["fills"].as_array().expect("fills");
    let trades = of("@trade");
    assert_eq!(trades.len(), fills.len());
    assert_eq!((&trades[0]["t"], &trades[0]["m"]), (&fills[0]["tradeId"], &json!(false)));
    assert_eq!(of("@aggTrade").len(), fills.len(), "one per price");
    assert!(of("@bookTicker").len() <= 1);
}

// --- faults --------------------------------------------------------------------------------------------------------

pub(crate) fn fault(world: &mut World, body: &str) {
    let (status, _, answer) = world.http("POST", "/sim/faults", "", body);
    assert_eq!(status, 200, "{answer}");
}

fn hits(world: &mut World) -> u64 {
    let state = world.get("/sim/state");
    let faults =
        ["active", "over"].map(|k| state["faults"][k].as_array().cloned().unwrap_or_default());
    faults.iter().flatten().filter_map(|f| f["hits"].as_u64()).sum()
}

#[test]
fn lost_acks_take_effect() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws-api/v3");
    fault(&mut world, r#"{"kind":"lost_ack","target":"ws_api"}"#);
    let order = json!({
        "symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
        "quantity": 0.01, "price": 50000
    });
    assert!(world.call(&mut ws, "order.place", order.clone()).is_empty());
    assert_eq!(world.venue.exchange().accounts[0].open_orders().count(), 1);
    assert_eq!(hits(&mut world), 1);
    assert_eq!(world.call(&mut ws, "order.place", order).len(), 1);
}

#[test]
fn gaps_skip_a_diff() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws/btcusdt@depth@100ms");
    fault(&mut world, r#"{"kind":"gap","symbol":"BTCUSDT"}"#);
    let mut ids = Vec::new();
    for price in 1..=3 {
        world.signed("POST", "/api/v3/order", &LIMIT_BUY.replace("50000", &format!("5000{price}")));
        world.pass(150);
        ids.extend(world.read(&mut ws).iter().filter_map(|m| m["U"].as_u64()));
    }
    assert_eq!(ids.len(), 2, "the first diff is missing");
}

#[test]
fn disconnects_and_silence() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws/btcusdt@depth@100ms");
    fault(&mut world, r#"{"kind":"disconnect","target":"stream"}"#);
    world.turn();
    assert!(matches!(ws.poll(world.clock.now()), Err(_) | Ok(Some(WsEvent::Closed { .. }))));
    let mut ws = world.ws("/ws-api/v3");
    fault(&mut world, r#"{"kind":"half_open","target":"ws_api","duration_ms":500}"#);
    assert!(world.ask(&mut ws, &json!({"id": 1, "method": "ping"})).is_empty());
    world.pass(501);
    assert_eq!(world.read(&mut ws).len(), 1, "what was asked is answered once it speaks again");
    fault(&mut world, r#"{"kind":"slow","target":"ws_api","latency_ms":50}"#);
    assert!(world.ask(&mut ws, &json!({"id": 2, "method": "ping"})).is_empty());
    world.pass(50);
    assert_eq!(world.read(&mut ws).len(), 1);
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let life = |seed: u64| {
        let market = MarketSettings::Synthetic { updates_per_s: 200, volatility_centibps: 150 };
        let mut world = World::new(&VenueSettings { seed, ..settings(market) });
        let mut ws =
            world.ws("/stream?streams=btcusdt@depth@100ms/btcusdt@trade/btcusdt@bookTicker");
        world.signed("POST", "/api/v3/order", LIMIT_BUY);
        world.pass(2_000);
        let frames = world.read(&mut ws);
        (frames, world.get("/sim/state"))
    };
    let (first, second, other) = (life(11), life(11), life(12));
    assert!(first.0.len() > 50 && first == second);
    assert_ne!(first.0, other.0);
}

fn is_send<T: Send>(_: &T) {}

#[test]
fn the_venue_can_move_to_a_thread() {
    is_send(&World::new(&still()).venue);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nonsense_is_answered(
        path in "/(api/v3|sim)/(order|depth|account|state|market|faults|klines|[a-z/]{0,8})",
        query in "(symbol=BTCUSDT)?(&[a-zA-Z]{1,8}=[ -~&&[^ #]]{0,12}){0,6}",
        body in "[ -~]{0,60}",
        text in r#"\{"method":"(SUBSCRIBE|order.place|depth|[a-z.]{0,6})","params":(\[[^\]]{0,9}\]|\{"[a-z]{0,6}":[0-9"a-z.-]{0,9}\})[}]?"#,
    ) {
        let mut world = World::new(&still());
        for method in ["GET", "POST", "DELETE"] {
            let (status, _, _) = world.http(method, &format!("{path}?{query}"), KEY, &body);
            prop_assert!((200..500).contains(&status), "{}", status);
        }
        for target in ["/ws", "/ws-api/v3"] {
            let mut ws = world.ws(target);
            ws.send_text(text.as_bytes(), world.clock.now()).expect("open");
            ws.flush().expect("open");
            world.turn();
            prop_assert_eq!(world.read(&mut ws).len(), 1, "{}", text);
        }
    }
}

#[test]
fn the_market_moves_on_demand() {
    let mut world = World::new(&still());
    for (body, status) in [
        (r#"{"symbol":"BTCUSDT","mid":"55000"}"#, 200),
        (r#"{"symbol":"BTCUSDT","mid":99999999999}"#, 400),
        (r#"{"symbol":"NOPE","mid":"1"}"#, 400),
        ("nonsense", 400),
        (r#"{"symbol":"BTCUSDT","mid":"0.01"}"#, 200),
        (r#"{"symbol":"BTCUSDT","mid":1000000}"#, 200),
        (r#"{"symbol":"BTCUSDT","mid":"60000"}"#, 200),
    ] {
        assert_eq!(world.http("POST", "/sim/market", "", body).0, status, "{body}");
    }
    let bid = world.venue.exchange().listings[0].top().bid.expect("a bid").0;
    assert!((59_900 * ONE..60_000 * ONE).contains(&bid));
}

// --- recordings ----------------------------------------------------------------------------------------------------

fn recording() -> Option<PathBuf> {
    let folder = std::env::var_os("PINDROP_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let path = folder.join("binance-spot/btcusdt_20240808.gz");
    path.exists().then_some(path)
}

/// Touches that the diffs have not reached yet.
#[derive(Default)]
struct Touches(Vec<Value>);

impl Touches {
    /// Whether the newest touch that the book has reached agrees with it.
    fn verdict(&mut self, book: &Rebuilt) -> Option<bool> {
        let reached = |touch: &Value| touch["u"].as_u64().is_some_and(|u| u <= book.last);
        let count = self.0.iter().take_while(|touch| reached(touch)).count();
        let touch = self.0.drain(..count).next_back()?;
        let top = book.top(1);
        let side = |at: usize| top[at].first().map(|(p, _)| decimal(*p));
        Some(side(0).as_deref() == touch["b"].as_str() && side(1).as_deref() == touch["a"].as_str())
    }
}

#[track_caller]
fn replay(join_after_ms: u64, hold: bool) {
    let Some(path) = recording() else {
        eprintln!("skipped: no recording");
        return;
    };
    assert_eq!(symbol_of(&path).as_deref(), Ok("BTCUSDT"));
    let market = MarketSettings::Recording { path, speed: 10.0, hold };
    let mut settings = settings(market);
    settings.symbols.truncate(1);
    let mut world = World::new(&settings);
    world.pass(join_after_ms);
    let mut ws = world.ws("/stream?streams=btcusdt@depth@100ms/btcusdt@trade/btcusdt@bookTicker");
    let mut book: Option<Rebuilt> = None;
    let mut buffered = Vec::new();
    let (mut applied, mut compared, mut agree) = (0_u64, 0_u64, 0_u64);
    let mut touches = Touches::default();
    for _ in 0..3_600 {
        world.pass(10);
        for message in world.read(&mut ws) {
            let data = &message["data"];
            match (message["stream"].as_str(), &mut book) {
                (Some("btcusdt@depth@100ms"), Some(book)) => {
                    book.apply(data);
                    applied += 1;
                    if let Some(verdict) = touches.verdict(book) {
                        compared += 1;
                        agree += u64::from(verdict);
                    }
                }
                (Some("btcusdt@depth@100ms"), None) => buffered.push(data.clone()),
                (Some("btcusdt@bookTicker"), Some(_)) => touches.0.push(data.clone()),
                _ => {}
            }
        }
        if book.is_none() {
            let mut fresh =
                Rebuilt::from_snapshot(&world.get("/api/v3/depth?symbol=BTCUSDT&limit=5000"));
            buffered.iter().for_each(|event| fresh.apply(event));
            book = Some(fresh);
        }
    }
    let book = book.expect("a book");
    let state = world.get("/sim/state");
    assert_eq!(state["recording"]["over"], true);
    assert_eq!(state["symbols"][0]["recording_gaps"], 0);
    assert_eq!(book.top(usize::MAX), truth(world.venue.exchange(), usize::MAX));
    assert!(applied > 1_000, "{applied} applied");
    // The real venue's own touch disagrees with its diffs now and then, inside bursts.
    assert!(compared > 1_000 && agree + 2 >= compared, "{agree} of {compared} touches agree");
    if join_after_ms == 0 {
        assert!(
            applied + buffered.len() as u64 >= 3_440,
            "{applied} applied, {} buffered",
            buffered.len()
        );
    }
}

#[test]
fn a_recording_is_replayed_from_its_beginning() {
    replay(0, true);
}

#[test]
fn a_recording_can_be_joined_late() {
    replay(9_777, false);
}

#[test]
fn orders_rest_and_take_beside_a_recording() {
    let Some(path) = recording() else {
        eprintln!("skipped: no recording");
        return;
    };
    let market = MarketSettings::Recording { path, speed: 10.0, hold: false };
    let mut settings = settings(market);
    settings.symbols.truncate(1);
    let mut world = World::new(&settings);
    world.pass(500);
    let before = truth(world.venue.exchange(), 5);
    let (_, taken) =
        world.signed("POST", "/api/v3/order", "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.1");
    assert_eq!(taken["status"], "FILLED", "{taken}");
    assert_eq!(truth(world.venue.exchange(), 5), before, "the recording's book is its own");
    for step in 1..=5 {
        let price = decimal(before[0][0].0 - step * 100_000_000);
        world.signed("POST", "/api/v3/order", &LIMIT_BUY.replace("50000", &price));
    }
    world.pass(36_000);
    let account = &world.venue.exchange().accounts[0];
    assert!(account.fills().iter().any(|fill| fill.maker), "the market came to us");
    assert!(matches!(world.venue.exchange().listings[0].liquidity, Liquidity::Recorded(_)));
    check_money(world.venue.exchange());
}
