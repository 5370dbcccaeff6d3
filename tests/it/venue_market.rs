//! Proves the venue's market data: the shapes of the documentation's examples, candles and tickers that agree with
//! the trades, streams that agree with REST, and the documented refusals.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;
use std::time::Duration;

use pindrop::clock::{UtcNs, VirtualClock};
use pindrop::net::memory::MemoryNet;
use pindrop::net::url::WsUrl;
use pindrop::net::websocket::{WsClient, WsConfig, WsEvent};
use pindrop::net::{Endpoint, Stream};
use pindrop::runtime::actor::{Actor, Cx};
use pindrop::sim::candles::{Candle, History, Interval};
use pindrop::sim::json::parse_decimal;
use pindrop::sim::listing::Print;
use pindrop::sim::settings::{MarketSettings, VenueSettings};
use pindrop::sim::venue::Venue;
use proptest::prelude::*;
use serde_json::{Value, json};

const UTC_MS: i64 = 1_700_000_000_000;
const PORT: u16 = 7;

struct World {
    net: MemoryNet,
    clock: VirtualClock,
    venue: Venue,
}

impl World {
    fn new(updates_per_s: u32) -> Self {
        let market = MarketSettings::Synthetic { updates_per_s, volatility_centibps: 150 };
        let settings = VenueSettings::synthetic(["BTCUSDT", "ETHUSDT"], 5).expect("known symbols");
        let settings = VenueSettings { market, ..settings };
        let net = MemoryNet::new();
        let venue = Venue::new(&settings, net.listener(PORT)).expect("settings make a venue");
        let clock = VirtualClock::new(UtcNs::from_millis(UTC_MS));
        let mut world = Self { net, clock, venue };
        world.turn();
        world
    }

    fn turn(&mut self) {
        let mut cx = Cx::detached(self.clock.now(), self.clock.utc());
        self.venue.turn(&mut cx).expect("the venue goes on");
    }

    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.clock.advance(Duration::from_millis(10));
            self.turn();
        }
    }

    fn http(&mut self, target: &str) -> (u16, Value) {
        let endpoint = Endpoint { host: "venue".to_owned(), port: PORT, tls: false };
        let mut stream = self.net.dialer().dial(&endpoint, self.clock.now()).expect("a listener");
        let request = format!("GET /api/v3/{target} HTTP/1.1\r\nhost: venue\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("room");
        let mut got = Vec::new();
        for _ in 0..200 {
            self.turn();
            read_all(&mut *stream, &mut got);
            if let Some(answer) = parse_http(&got) {
                return answer;
            }
        }
        panic!("no answer to {target}: {}", String::from_utf8_lossy(&got));
    }

    fn get(&mut self, target: &str) -> Value {
        let (status, body) = self.http(target);
        assert_eq!(status, 200, "{target}: {body}");
        body
    }

    fn ws(&mut self, target: &str) -> WsClient {
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

    fn read(&mut self, client: &mut WsClient) -> Vec<Value> {
        self.turn();
        let mut all = Vec::new();
        while let Ok(Some(event)) = client.poll(self.clock.now()) {
            if let WsEvent::Text(text) = event {
                all.push(serde_json::from_str(&text).expect("JSON"));
            }
        }
        all
    }

    fn call(&mut self, client: &mut WsClient, method: &str, params: &Value) -> Value {
        let request = json!({"id": 1, "method": method, "params": params});
        client.send_text(request.to_string().as_bytes(), self.clock.now()).expect("open");
        client.flush().expect("open");
        self.turn();
        self.read(client).into_iter().find(|answer| answer["id"] == 1).expect("an answer")
    }
}

fn read_all(stream: &mut dyn Stream, got: &mut Vec<u8>) {
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

fn parse_http(got: &[u8]) -> Option<(u16, Value)> {
    let (head, body) = std::str::from_utf8(got).ok()?.split_once("\r\n\r\n")?;
    let head = head.to_lowercase();
    let length: usize =
        head.lines().find_map(|l| l.strip_prefix("content-length: "))?.parse().ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body.get(..length)?).ok()?))
}

// --- shapes --------------------------------------------------------------------------------------------------------

fn documented() -> Option<Vec<Value>> {
    let root = std::env::var_os("PINDROP_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let path = root.join("binance-examples/spot_docs_examples.jsonl");
    let Ok(text) = std::fs::read_to_string(&path) else {
        println!("skipped: {} is not here", path.display());
        return None;
    };
    Some(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}

/// Fields, their order where objects have one, and JSON types must be those of the example.
fn same_shape(ours: &Value, theirs: &Value, what: &str) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let names = |of: &serde_json::Map<String, Value>| {
                let mut names: Vec<String> = of.keys().cloned().collect();
                names.sort();
                names
            };
            assert_eq!(names(a), names(b), "{what}");
            for (name, value) in a {
                same_shape(value, &b[name], &format!("{what}.{name}"));
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            let tuple = b.iter().any(|item| !item.is_object() && !item.is_array());
            assert!(!tuple || a.len() == b.len(), "{what}: {} for {}", a.len(), b.len());
            for (at, value) in a.iter().enumerate() {
                if let Some(example) = b.get(if tuple { at } else { 0 }) {
                    same_shape(value, example, &format!("{what}[{at}]"));
                }
            }
        }
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_)) => {}
        _ => panic!("{what}: {ours} instead of {theirs}"),
    }
}

fn example<'a>(all: &'a [Value], file: &str, section: &str, nth: usize) -> &'a Value {
    let of = |o: &&Value| {
        let end = o["section"].as_str().is_some_and(|s| s.ends_with(section));
        o["file"] == file && end && o["json"].get("method").is_none()
    };
    &all.iter().filter(of).nth(nth).unwrap_or_else(|| panic!("{section} {nth}"))["json"]
}

#[test]
fn rest_answers_have_the_documented_shape() {
    let Some(all) = documented() else { return };
    let mut world = World::new(50);
    world.pass(500);
    for (target, section, nth) in [
        ("depth?symbol=BTCUSDT", "Order book", 0),
        ("trades?symbol=BTCUSDT", "Recent trades list", 0),
        ("historicalTrades?symbol=BTCUSDT&fromId=1", "Old trade lookup", 0),
        ("aggTrades?symbol=BTCUSDT", "Aggregate trades list", 0),
        ("klines?symbol=BTCUSDT&interval=1h", "Candlestick data", 0),
        ("uiKlines?symbol=BTCUSDT&interval=1m", "UIKlines", 0),
        ("avgPrice?symbol=BTCUSDT", "Current average price", 0),
        ("ticker/24hr?symbol=BTCUSDT", "24hr ticker price change statistics", 0),
        ("ticker/24hr", "24hr ticker price change statistics", 1),
        ("ticker/24hr?symbol=BTCUSDT&type=MINI", "24hr ticker price change statistics", 2),
        ("ticker/24hr?type=MINI", "24hr ticker price change statistics", 3),
        ("ticker/tradingDay?symbol=BTCUSDT", "Trading Day Ticker", 0),
        ("ticker/tradingDay?symbols=[\"BTCUSDT\"]&timeZone=8", "Trading Day Ticker", 1),
        ("ticker/tradingDay?symbol=BTCUSDT&type=MINI", "Trading Day Ticker", 2),
        ("ticker/price?symbol=BTCUSDT", "Symbol price ticker", 0),
        ("ticker/price", "Symbol price ticker", 1),
        ("ticker/bookTicker?symbol=BTCUSDT", "Symbol order book ticker", 0),
        ("ticker/bookTicker", "Symbol order book ticker", 1),
        ("ticker?symbol=BTCUSDT&windowSize=1h", "Rolling window price change statistics", 0),
        ("ticker?symbols=[\"BTCUSDT\"]", "Rolling window price change statistics", 1),
        ("ticker?symbol=BTCUSDT&type=MINI", "Rolling window price change statistics", 2),
    ] {
        let target = target.replace('"', "%22").replace('[', "%5B").replace(']', "%5D");
        let ours = world.get(&target);
        assert!(ours.as_array().is_none_or(|list| !list.is_empty()), "{target} is empty");
        same_shape(&ours, example(&all, "rest-api.md", section, nth), &target);
    }
}

#[test]
fn stream_events_have_the_documented_shape() {
    let Some(all) = documented() else { return };
    let mut world = World::new(50);
    for (stream, section) in [
        ("btcusdt@aggTrade", "Aggregate Trade Streams"),
        ("btcusdt@trade", "/ Trade Streams"),
        ("btcusdt@kline_1m", "Candlestick Streams for UTC"),
        ("btcusdt@kline_1d@+08:00", "Candlestick Streams with timezone offset"),
        ("btcusdt@miniTicker", "Individual Symbol Mini Ticker Stream"),
        ("btcusdt@ticker", "Individual Symbol Ticker Streams"),
        ("btcusdt@ticker_1h", "Individual Symbol Rolling Window Statistics Streams"),
        ("btcusdt@bookTicker", "Individual Symbol Book Ticker Streams"),
        ("btcusdt@avgPrice", "Average Price"),
        ("btcusdt@depth5", "Partial Book Depth Streams"),
        ("btcusdt@depth@100ms", "Diff. Depth Stream"),
    ] {
        let mut client = world.ws(&format!("/stream?streams={stream}"));
        world.pass(3_000);
        let events = world.read(&mut client);
        let event = events.first().unwrap_or_else(|| panic!("{stream} is silent"));
        assert_eq!(event["stream"], stream);
        same_shape(&event["data"], example(&all, "web-socket-streams.md", section, 0), stream);
    }
}

#[test]
fn the_websocket_api_answers_as_rest() {
    let mut world = World::new(0);
    let mut client = world.ws("/ws-api/v3");
    for (method, params, target) in [
        ("depth", json!({"symbol": "BTCUSDT"}), "depth?symbol=BTCUSDT"),
        (
            "trades.recent",
            json!({"symbol": "BTCUSDT", "limit": 3}),
            "trades?symbol=BTCUSDT&limit=3",
        ),
        ("trades.aggregate", json!({"symbol": "BTCUSDT"}), "aggTrades?symbol=BTCUSDT"),
        (
            "klines",
            json!({"symbol": "BTCUSDT", "interval": "1M"}),
            "klines?symbol=BTCUSDT&interval=1M",
        ),
        ("avgPrice", json!({"symbol": "BTCUSDT"}), "avgPrice?symbol=BTCUSDT"),
        ("ticker.24hr", json!({}), "ticker/24hr"),
        ("ticker.tradingDay", json!({"symbol": "BTCUSDT"}), "ticker/tradingDay?symbol=BTCUSDT"),
        ("ticker", json!({"symbol": "BTCUSDT"}), "ticker?symbol=BTCUSDT"),
        ("ticker.price", json!({"symbols": ["BTCUSDT"]}), "ticker/price?symbols=[%22BTCUSDT%22]"),
        ("ticker.book", json!({}), "ticker/bookTicker"),
    ] {
        let answer = world.call(&mut client, method, &params);
        assert_eq!(answer["result"], world.get(target), "{method}: {answer}");
    }
}

// --- refusals ------------------------------------------------------------------------------------------------------

#[test]
fn refusals() {
    let mut world = World::new(0);
    for (target, code) in [
        ("klines?symbol=BTCUSDT", -1102),
        ("klines?symbol=BTCUSDT&interval=7m", -1120),
        ("klines?symbol=BTCUSDT&interval=1D", -1120),
        ("klines?symbol=NOPE&interval=1m", -1121),
        ("klines?symbol=btcusdt&interval=1m", -1100),
        ("klines?symbol=BTCUSDT&interval=1m&limit=0", -1130),
        ("klines?symbol=BTCUSDT&interval=1m&limit=-1", -1100),
        ("klines?symbol=BTCUSDT&interval=1m&startTime=x", -1100),
        ("klines?symbol=BTCUSDT&interval=1m&timeZone=15", -1130),
        ("klines?symbol=BTCUSDT&interval=1m&nosuch=1", -1104),
        ("avgPrice", -1102),
        ("aggTrades?symbol=BTCUSDT&fromId=1&startTime=5", -1128),
        ("ticker", -1102),
        ("ticker?symbol=BTCUSDT&windowSize=60m", -1130),
        ("ticker/tradingDay", -1102),
        ("ticker/24hr?symbol=BTCUSDT&symbols=[%22BTCUSDT%22]", -1128),
        ("ticker/24hr?symbols=[%22BTCUSDT%22,%22BTCUSDT%22]", -1151),
        ("ticker/24hr?symbols=BTCUSDT", -1100),
        ("ticker/24hr?type=HUGE", -1139),
        ("ticker/price?symbolStatus=OPEN", -1122),
        ("ticker/price?symbol=BTCUSDT&symbolStatus=HALT", -1220),
        ("exchangeInfo?symbol=BTCUSDT&permissions=SPOT", -1128),
        ("exchangeInfo?permissions=NONSENSE", -1130),
        ("historicalBlockTrades?symbol=BTCUSDT", -1102),
        ("referencePrice?symbol=BTCUSDT", -2043),
    ] {
        let (status, body) = world.http(target);
        assert_eq!((status, &body["code"]), (400, &json!(code)), "{target}: {body}");
    }
    assert_eq!(world.get("ticker/price?symbolStatus=HALT"), json!([]));
    let none = world.get("exchangeInfo?permissions=[%22MARGIN%22]");
    assert_eq!(none["symbols"], json!([]));
}

// --- agreement -----------------------------------------------------------------------------------------------------

fn units(value: &Value) -> i64 {
    parse_decimal(value.as_str().expect("decimal text")).expect("a decimal")
}

#[test]
fn there_is_a_past_from_the_first_moment() {
    let mut world = World::new(0);
    for interval in Interval::all().map(Interval::name) {
        for zone in ["0", "8", "05:45"] {
            let target = format!("klines?symbol=BTCUSDT&interval={interval}&timeZone={zone}");
            let candles = world.get(&target);
            let candles = candles.as_array().expect("a list");
            assert!(!candles.is_empty(), "{target}");
            for pair in candles.windows(2) {
                assert_eq!(pair[0][6].as_i64().map(|end| end + 1), pair[1][0].as_i64(), "{target}");
            }
            for candle in candles {
                let price = |at: usize| units(&candle[at]);
                let (open, high, low, close) = (price(1), price(2), price(3), price(4));
                assert!(low <= open.min(close) && open.max(close) <= high, "{target}: {candle}");
            }
        }
    }
    let last = world.get("klines?symbol=BTCUSDT&interval=1m&limit=1000");
    assert_eq!(last.as_array().map(Vec::len), Some(1_000));
    let price = world.get("ticker/price?symbol=BTCUSDT");
    assert_eq!(last[999][4], price["price"]);
    let from = last[10][0].as_i64().expect("a time");
    let paged = world.get(&format!("klines?symbol=BTCUSDT&interval=1m&startTime={from}&limit=2"));
    assert_eq!((&paged[0], &paged[1]), (&last[10], &last[11]));
    let back = world.get(&format!("klines?symbol=BTCUSDT&interval=1m&endTime={from}&limit=2"));
    assert_eq!((&back[0], &back[1]), (&last[9], &last[10]));
}

#[test]
fn aggregates_and_tickers_agree_with_trades() {
    let mut world = World::new(500);
    let born = UTC_MS;
    world.pass(5_000);
    let trades = world.get("trades?symbol=BTCUSDT&limit=1000");
    let trades = trades.as_array().expect("a list");
    let aggregates =
        world.get(&format!("aggTrades?symbol=BTCUSDT&startTime={}&limit=1000", born + 1));
    let aggregates = aggregates.as_array().expect("a list");
    assert!(aggregates.len() > 10, "{} aggregates", aggregates.len());
    for pair in aggregates.windows(2) {
        assert_eq!(pair[0]["a"].as_i64().map(|a| a + 1), pair[1]["a"].as_i64());
        assert_eq!(pair[0]["l"].as_i64().map(|l| l + 1), pair[1]["f"].as_i64());
    }
    for aggregate in aggregates {
        let within = |t: &&Value| {
            let id = t["id"].as_i64();
            aggregate["f"].as_i64() <= id && id <= aggregate["l"].as_i64()
        };
        let sum: i64 = trades.iter().filter(within).map(|t| units(&t["qty"])).sum();
        assert_eq!(sum, units(&aggregate["q"]), "{aggregate}");
        assert!(trades.iter().filter(within).all(|t| t["price"] == aggregate["p"]));
    }
    let minute = world.get("ticker?symbol=BTCUSDT&windowSize=1m");
    let candles =
        world.get(&format!("klines?symbol=BTCUSDT&interval=1s&startTime={}", minute["openTime"]));
    let volume: i64 = candles.as_array().expect("a list").iter().map(|c| units(&c[5])).sum();
    assert_eq!(volume, units(&minute["volume"]));
    let last = trades.last().expect("trades");
    assert_eq!((&minute["lastPrice"], &minute["lastId"]), (&last["price"], &last["id"]));
}

#[test]
fn streams_agree_with_rest() {
    let mut world = World::new(200);
    let mut client = world.ws("/stream?streams=btcusdt@depth20@100ms/btcusdt@kline_1m");
    let mut raw = world.ws("/ws/!miniTicker@arr?timeUnit=MICROSECOND");
    world.pass(4_000);
    let depth = world.get("depth?symbol=BTCUSDT&limit=20");
    let events = world.read(&mut client);
    let kline = events.iter().rev().find(|e| e["stream"] == "btcusdt@kline_1m").expect("a candle");
    let same_id = |e: &&Value| e["data"]["lastUpdateId"] == depth["lastUpdateId"];
    if let Some(partial) = events.iter().find(same_id) {
        assert_eq!(partial["data"], depth);
    }
    let candles = world.get("klines?symbol=BTCUSDT&interval=1m&limit=1");
    assert_eq!(candles[0][0], kline["data"]["k"]["t"]);
    let all = world.read(&mut raw);
    let first = all.iter().find_map(|list| list.get(0)).expect("a ticker");
    assert!(first["E"].as_i64().is_some_and(|us| us > UTC_MS * 1_000), "{first}");
}

#[test]
fn the_old_name_of_all_mini_tickers_still_tells() {
    let mut world = World::new(200);
    let mut client = world.ws("/ws/!miniTicker@arr@1000ms");
    world.pass(2_500);
    assert!(world.read(&mut client).iter().any(|list| list[0]["e"] == "24hrMiniTicker"));
}

#[test]
fn a_candle_that_ends_is_told_once_as_closed() {
    let mut world = World::new(100);
    let mut client = world.ws("/ws/btcusdt@kline_1m");
    let mut events = Vec::new();
    for _ in 0..125 {
        world.pass(1_000);
        events.extend(world.read(&mut client));
    }
    let closed: Vec<i64> = events
        .iter()
        .filter(|e| e["k"]["x"] == true)
        .filter_map(|e| e["k"]["t"].as_i64())
        .collect();
    assert_eq!(closed.len(), 2, "{closed:?}");
    assert_eq!(closed[0] + 60_000, closed[1]);
    assert!(events.len() > 60, "{} events", events.len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Candles of every interval say what the trades in them say.
    #[test]
    fn candles_are_their_trades(
        trades in prop::collection::vec((1_i64..200_000, 1_i64..1_000, 1_i64..50, any::<bool>()), 1..60),
        interval in 0_usize..16,
    ) {
        let interval = Interval::all().nth(interval).expect("sixteen intervals");
        let mut history = History::default();
        let mut prints = Vec::new();
        let mut at_ms = UTC_MS;
        for (id, (gap, price, qty, buyer_maker)) in (1_u64..).zip(trades) {
            at_ms += gap / 10;
            let time = UtcNs::from_millis(at_ms);
            let print = Print { id, price, qty, buyer_maker, time, taker: id };
            history.add(&print, at_ms);
            prints.push(print);
        }
        let candles = history.candles(interval, 0, (None, None), 5_000);
        for candle in &candles {
            let end = interval.next(candle.open_ms, 0);
            let within = |p: &&Print| (candle.open_ms..end).contains(&p.time.as_millis());
            let inside: Vec<Candle> = prints
                .iter()
                .filter(within)
                .map(|p| Candle::of(p, candle.open_ms))
                .collect();
            prop_assert_eq!(candle.count, inside.len() as u64);
            let Some((first, rest)) = inside.split_first() else { continue };
            let mut whole = *first;
            rest.iter().for_each(|later| whole.add(later));
            prop_assert_eq!(*candle, whole);
        }
        let counted: u64 = candles.iter().map(|c| c.count).sum();
        prop_assert_eq!(counted, prints.len() as u64);
    }
}
