//! Proves the venue's WebSocket side by the words of its documentation: limits of connections, names and units of
//! streams, requests and answers, the order of answers and events.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use pindrop::clock::Clock;
use pindrop::net::websocket::{WsClient, WsEvent};
use pindrop::net::{Endpoint, Stream};
use pindrop::sim::limits::RateLimits;
use pindrop::sim::settings::VenueSettings;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::process::Process;
use super::venue::{LIMIT_BUY, PORT, World, hmac, parse_http, read_all, still};

/// An order that trades at once.
const TAKE: &str = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=IOC&quantity=0.01&price=70000";

fn fault(world: &mut World, body: &str) {
    let (status, _, answer) = world.http("POST", "/sim/faults", "", body);
    assert_eq!(status, 200, "{answer}");
}

/// Reads until nothing comes; whether the venue ended the connection.
fn ended(world: &mut World, ws: &mut WsClient) -> bool {
    for _ in 0..10 {
        world.turn();
        match ws.poll(world.clock.now()) {
            Err(_) | Ok(Some(WsEvent::Closed { .. })) => return true,
            Ok(_) => {}
        }
        let _ = ws.flush();
    }
    false
}

/// A connection that speaks frames by hand: upgraded to `path`.
fn by_hand(world: &mut World, path: &str) -> Box<dyn Stream> {
    let endpoint = Endpoint { host: "venue".to_owned(), port: PORT, tls: false };
    let mut stream = world.net.dialer().dial(&endpoint, world.clock.now()).expect("a listener");
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: v\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("room");
    stream
}

fn said(world: &mut World, stream: &mut dyn Stream) -> String {
    let mut got = Vec::new();
    for _ in 0..5 {
        world.turn();
        read_all(stream, &mut got);
    }
    String::from_utf8_lossy(&got).into_owned()
}

// --- limits --------------------------------------------------------------------------------------------------------

/// So many masked, empty control frames in a second: does the connection end?
#[track_caller]
fn controls(path: &str, opcode: u8, count: usize, ends: bool) {
    let mut world = World::new(&still());
    let mut stream = by_hand(&mut world, path);
    said(&mut world, &mut *stream);
    for _ in 0..count {
        stream.write_all(&[0x80 | opcode, 0x80, 0, 0, 0, 0]).expect("room");
    }
    let got = said(&mut world, &mut *stream);
    assert_eq!(got.contains("Too many requests"), ends, "{path} {opcode:x} x {count}: {got:?}");
}

#[test]
fn pings_and_pongs_are_messages_of_streams() {
    for opcode in [0x9, 0xa] {
        controls("/ws/btcusdt@trade", opcode, 5, false);
        controls("/ws/btcusdt@trade", opcode, 6, true);
        controls("/ws-api/v3", opcode, 60, false);
    }
}

#[test]
fn a_connection_too_many_is_told_so() {
    let mut settings = still();
    settings.connections.connects_max = 1;
    let mut world = World::new(&settings);
    let mut first = by_hand(&mut world, "/ws");
    assert!(said(&mut world, &mut *first).starts_with("HTTP/1.1 101"));
    let mut second = by_hand(&mut world, "/ws-api/v3");
    let got = said(&mut world, &mut *second);
    let msg = "Too many connection attempts from IP; current limit is 1 per '5 MINUTE'.";
    assert!(got.starts_with("HTTP/1.1 429") && got.contains("-1034") && got.contains(msg), "{got}");
}

fn limited(weight_per_minute: u32) -> World {
    let limits = RateLimits { weight_per_minute, ..RateLimits::default() };
    World::new(&VenueSettings { limits, ..still() })
}

#[test]
fn who_is_banned_is_told_and_disconnected() {
    let mut world = limited(3);
    let (mut ws, mut other) = (world.ws("/ws-api/v3"), world.ws("/ws/btcusdt@trade"));
    let ping = json!({"id": 1, "method": "ping"});
    let ok = world.ask(&mut ws, &ping);
    assert_eq!(ok[0]["rateLimits"][0]["count"], 3, "two for the connection, one for the request");
    for _ in 0..20 {
        let got = world.ask(&mut ws, &ping);
        assert_eq!((&got[0]["status"], &got[0]["error"]["code"]), (&json!(429), &json!(-1003)));
        assert!(got[0]["error"]["data"]["retryAfter"].as_i64() > Some(world.ms()), "{got:?}");
    }
    let got = world.ask(&mut ws, &ping);
    let until = got[0]["error"]["data"]["retryAfter"].as_i64().expect("a moment");
    let msg = format!(
        "Way too much request weight used; IP banned until {until}. Please use WebSocket Streams for live updates to avoid bans."
    );
    assert_eq!((&got[0]["status"], &got[0]["error"]["msg"]), (&json!(418), &json!(msg)));
    assert_eq!(got[0]["rateLimits"][0]["rateLimitType"], "REQUEST_WEIGHT");
    assert!(ended(&mut world, &mut ws) && !ended(&mut world, &mut other));
    let mut again = by_hand(&mut world, "/ws-api/v3");
    let got = said(&mut world, &mut *again);
    assert!(got.starts_with("HTTP/1.1 418") && got.contains("retry-after: "), "{got}");
}

#[test]
fn a_ban_that_a_fault_plays_disconnects_one() {
    let mut world = World::new(&still());
    let (mut ws, mut other) = (world.ws("/ws-api/v3"), world.ws("/ws-api/v3"));
    fault(&mut world, r#"{"kind":"status","target":"ws_api","status":418}"#);
    let got = world.ask(&mut ws, &json!({"id": 1, "method": "ping"}));
    assert_eq!((&got[0]["id"], &got[0]["status"]), (&json!(1), &json!(418)), "{got:?}");
    assert!(ended(&mut world, &mut ws) && !ended(&mut world, &mut other));
}

#[test]
fn what_changes_orders_weighs_nothing_when_it_succeeds() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws-api/v3");
    let weight = |got: &[Value]| {
        let limits = got[0]["rateLimits"].as_array().expect("limits");
        limits.last().map(|limit| limit["count"].clone())
    };
    let order = json!({"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
                       "quantity": "0.01", "price": "50000"});
    assert_eq!(weight(&world.call(&mut ws, "order.place", order.clone())), Some(json!(2)));
    let all = json!({"symbol": "BTCUSDT"});
    assert_eq!(weight(&world.call(&mut ws, "openOrders.cancelAll", all.clone())), Some(json!(2)));
    assert_eq!(weight(&world.call(&mut ws, "openOrders.cancelAll", all)), Some(json!(3)), "failed");
}

// --- streams -------------------------------------------------------------------------------------------------------

#[test]
fn the_end_of_the_server_is_told_in_the_form_of_the_connection() {
    let mut world = World::new(&still());
    let mut raw = world.ws("/ws/btcusdt@trade");
    let mut combined = world.ws("/stream?streams=btcusdt@trade&timeUnit=MICROSECOND");
    let mut api = world.ws("/ws-api/v3");
    fault(&mut world, r#"{"kind":"server_shutdown","latency_ms":100}"#);
    let (ms, us) = (world.ms(), world.ms() * 1_000);
    assert_eq!(world.read(&mut raw), [json!({"e": "serverShutdown", "E": ms})]);
    let event = json!({"e": "serverShutdown", "E": us});
    assert_eq!(world.read(&mut combined), [json!({"stream": "!serverShutdown", "data": event})]);
    let event = json!({"e": "serverShutdown", "E": ms});
    assert_eq!(world.read(&mut api), [json!({"event": event})]);
}

#[test]
fn the_acknowledgement_comes_before_the_first_event() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws");
    let subscribe =
        json!({"method": "SUBSCRIBE", "params": ["btcusdt@depth@100ms", "btcusdt@trade"], "id": 1});
    let mut got = world.ask(&mut ws, &subscribe);
    world.signed("POST", "/api/v3/order", TAKE);
    world.pass(100);
    got.extend(world.read(&mut ws));
    assert_eq!(got[0], json!({"result": null, "id": 1}));
    let kinds: Vec<&str> = got[1..].iter().filter_map(|m| m["e"].as_str()).collect();
    assert!(kinds.contains(&"trade") && kinds.contains(&"depthUpdate"), "{kinds:?}");
}

#[test]
fn partial_books_come_in_every_period() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/stream?streams=btcusdt@depth5@100ms/btcusdt@depth10@1000ms");
    world.read(&mut ws);
    world.pass(1_000);
    let got = world.read(&mut ws);
    let of = |name: &str| got.iter().filter(|m| m["stream"] == name).collect::<Vec<_>>();
    assert_eq!(of("btcusdt@depth5@100ms").len(), 10);
    let slow = of("btcusdt@depth10@1000ms");
    assert_eq!(slow.len(), 1);
    let data = &slow[0]["data"];
    assert_eq!(data["bids"].as_array().map(Vec::len), Some(10));
    assert!(data["lastUpdateId"].is_u64() && data.get("e").is_none());
}

#[test]
fn a_stream_with_the_wrong_time_uses_up_the_fault() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws/btcusdt@depth@100ms");
    fault(&mut world, r#"{"kind":"clock_skew_ms","target":"stream","skew_ms":5000,"count":2}"#);
    let mut wrong = Vec::new();
    for price in 50_001..50_005 {
        let order = LIMIT_BUY.replace("50000", &price.to_string());
        world.signed("POST", "/api/v3/order", &order);
        world.pass(100);
        let ms = world.ms();
        let got = world.read(&mut ws);
        wrong.extend(got.iter().map(|m| m["E"].as_i64().is_some_and(|at| at > ms)));
    }
    assert_eq!(wrong, [true, true, false, false]);
}

#[test]
fn a_silence_ends_for_whom_its_fault_struck() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws/btcusdt@depth@100ms");
    let mut api = world.ws("/ws-api/v3");
    fault(&mut world, r#"{"kind":"half_open","target":"stream","duration_ms":1000}"#);
    fault(&mut world, r#"{"kind":"half_open","target":"ws_api","duration_ms":3000}"#);
    world.pass(1_500);
    world.signed("POST", "/api/v3/order", LIMIT_BUY);
    world.pass(200);
    assert_eq!(world.read(&mut ws).len(), 1, "its fault is over");
    let ping = json!({"id": 1, "method": "ping"});
    assert_eq!(world.ask(&mut api, &ping).len(), 0, "its fault is not");
    world.pass(2_000);
    assert_eq!(world.ask(&mut api, &ping).last().map(|m| m["status"].clone()), Some(json!(200)));
}

// --- the WebSocket API ---------------------------------------------------------------------------------------------

#[track_caller]
fn api(text: &str, id: Value, code: i64, msg: &str) {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws-api/v3");
    ws.send_text(text.as_bytes(), world.clock.now()).expect("open");
    ws.flush().expect("open");
    world.turn();
    let got = world.read(&mut ws);
    let error = json!({"code": code, "msg": msg});
    assert_eq!((&got[0]["id"], &got[0]["error"]), (&id, &error), "{text}");
    assert_eq!(got[0]["status"], 400);
}

#[test]
fn malformed_requests_keep_their_id() {
    let invalid = "Invalid JSON Request";
    api("nonsense", Value::Null, -1135, invalid);
    api(r#"{"id":"a","method":7}"#, json!("a"), -1135, invalid);
    api(r#"{"id":9,"method":"ping","params":[1]}"#, json!(9), -1135, invalid);
    let missing = "Mandatory parameter 'method' was not sent, was empty/null, or malformed.";
    api(r#"{"id":9}"#, json!(9), -1102, missing);
}

/// Every moment in `value` lies near `now`, which counts in the same unit.
#[track_caller]
fn near(value: &Value, now: i64) {
    let at = value.as_i64().unwrap_or_else(|| panic!("no moment: {value}"));
    assert!((at - now).abs() <= now / 1_000_000, "{at} near {now}");
}

#[test]
fn sessions_tell_time_in_the_unit_of_their_url() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws-api/v3?returnRateLimits=false&timeUnit=microsecond");
    let us = world.ms() * 1_000;
    let status =
        world.ask(&mut ws, &json!({"id": 1_700_000_000_000_i64, "method": "session.status"}));
    assert_eq!(status[0]["id"], 1_700_000_000_000_i64, "ids are no moments");
    near(&status[0]["result"]["connectedSince"], us);
    near(&status[0]["result"]["serverTime"], us);
    near(&world.ask(&mut ws, &json!({"id": 1, "method": "time"}))[0]["result"]["serverTime"], us);
    world.call(&mut ws, "userDataStream.subscribe.signature", json!({}));
    let order = json!({"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC",
                       "quantity": "0.01", "price": "50000"});
    let got = world.call(&mut ws, "order.place", order);
    near(&got[0]["result"]["transactTime"], us);
    near(&got[0]["result"]["workingTime"], us);
    for key in ["E", "T", "O", "W"] {
        near(&got[1]["event"][key], us);
    }
    near(&got[2]["event"]["u"], us);
    for (query, code) in [("timeUnit=SECOND", "-1194"), ("responseFormat=sbe", "-1155")] {
        let mut refused = by_hand(&mut world, &format!("/ws-api/v3?{query}"));
        let got = said(&mut world, &mut *refused);
        assert!(got.starts_with("HTTP/1.1 400") && got.contains(code), "{query}: {got}");
    }
}

#[test]
fn a_wrong_signature_changes_nothing() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws-api/v3?returnRateLimits=false");
    let mut params = world.sign(json!({}));
    params["signature"] = "0".repeat(64).into();
    let ask = json!({"id": 5, "method": "userDataStream.subscribe.signature", "params": params});
    let error = json!({"code": -1022, "msg": "Signature for this request is not valid."});
    assert_eq!(world.ask(&mut ws, &ask), [json!({"id": 5, "status": 400, "error": error})]);
    let mut params = world.sign(json!({}));
    params["apiKey"] = "nobody".into();
    let ask = json!({"id": 6, "method": "account.status", "params": params});
    let got = world.ask(&mut ws, &ask);
    let error = json!({"code": -2015, "msg": "Invalid API-key, IP, or permissions for action."});
    assert_eq!(got, [json!({"id": 6, "status": 401, "error": error})]);
    let subscriptions = world.ask(&mut ws, &json!({"id": 7, "method": "session.subscriptions"}));
    assert_eq!(subscriptions[0]["result"], json!([]));
}

#[test]
fn both_transports_answer_an_order_alike() {
    let (mut rest, mut ws_world) = (World::new(&still()), World::new(&still()));
    let mut ws = ws_world.ws("/ws-api/v3?returnRateLimits=false");
    for query in [
        LIMIT_BUY,
        TAKE,
        "symbol=BTCUSDT&side=SELL&type=MARKET&quoteOrderQty=700&newClientOrderId=m",
        "symbol=BTCUSDT&side=SELL&type=LIMIT_MAKER&quantity=0.01&price=50000",
        "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=FOK&quantity=90&price=60001&newOrderRespType=RESULT",
        "symbol=BTCUSDT&side=SELL&type=STOP_LOSS&quantity=0.01&stopPrice=50000&strategyId=3&newOrderRespType=FULL",
        "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=0.01&price=50000",
        "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.01&price=1",
    ] {
        let query = if query.contains("newClientOrderId") {
            query.to_owned()
        } else {
            format!("{query}&newClientOrderId=same")
        };
        let (status, answer) = rest.signed("POST", "/api/v3/order", &query);
        let params = query.split('&').filter_map(|pair| pair.split_once('='));
        let params = params.map(|(name, value)| (name.to_owned(), json!(value))).collect();
        let got = ws_world.call(&mut ws, "order.place", Value::Object(params));
        assert_eq!(got[0]["status"], status, "{query}");
        let key = if status == 200 { "result" } else { "error" };
        assert_eq!(got[0][key], answer, "{query}");
        let cancel = "symbol=BTCUSDT";
        rest.signed("DELETE", "/api/v3/openOrders", cancel);
        ws_world.call(&mut ws, "openOrders.cancelAll", json!({"symbol": "BTCUSDT"}));
    }
}

// --- the built binary ----------------------------------------------------------------------------------------------

/// A venue process that saves to `file` and, from its second life on, begins with it.
fn life(file: &str, restore: bool) -> (Process, SocketAddr) {
    let mut args = vec!["venue", "--listen", "127.0.0.1:0", "--key", "key", "--secret", "secret"];
    args.extend(["--symbols", "BTCUSDT", "--updates-per-s", "1", "--save", file]);
    if restore {
        args.extend(["--restore", file]);
    }
    let mut process = Process::start(&args);
    let addr = process.wait_value("event=venue.listening", "addr").parse().expect("an address");
    (process, addr)
}

fn signed(addr: SocketAddr, method: &str, path: &str, query: &str) -> Value {
    let query = format!("{query}&timestamp={}", Clock::System.utc().as_millis());
    let mut stream = TcpStream::connect(addr).expect("the venue listens");
    let head = format!("{method} {path}?{query}&signature={} HTTP/1.1", hmac(&query));
    let headers = "host: v\r\nx-mbx-apikey: key\r\nconnection: close";
    stream.write_all(format!("{head}\r\n{headers}\r\n\r\n").as_bytes()).expect("room");
    let mut got = Vec::new();
    stream.read_to_end(&mut got).expect("an answer");
    parse_http(&got).expect("a whole answer").2
}

#[test]
fn a_venue_process_goes_on_where_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("venue.json");
    let file = file.to_str().expect("UTF-8");
    let (mut first, addr) = life(file, false);
    let order = signed(addr, "POST", "/api/v3/order", LIMIT_BUY);
    assert_eq!(order["status"], "NEW", "{order}");
    let taken = signed(addr, "POST", "/api/v3/order", TAKE);
    assert_eq!(taken["status"], "FILLED", "{taken}");
    let before = signed(addr, "GET", "/api/v3/account", "omitZeroBalances=true");
    first.signal(Signal::TERM);
    assert_eq!(first.wait_exit().0, 0, "{}", first.log());
    let (mut second, addr) = life(file, true);
    let after = signed(addr, "GET", "/api/v3/account", "omitZeroBalances=true");
    assert_eq!(after["balances"], before["balances"]);
    let open = signed(addr, "GET", "/api/v3/openOrders", "symbol=BTCUSDT");
    assert_eq!((&open[0]["orderId"], open.as_array().map(Vec::len)), (&order["orderId"], Some(1)));
    let trades = signed(addr, "GET", "/api/v3/myTrades", "symbol=BTCUSDT");
    assert_eq!(trades.as_array().map(Vec::len), taken["fills"].as_array().map(Vec::len));
    second.signal(Signal::TERM);
    assert_eq!(second.wait_exit().0, 0, "{}", second.log());
}

#[test]
fn each_transport_tells_of_the_limit_that_it_alone_has() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws-api/v3");
    let got = world.call(&mut ws, "exchangeInfo", json!({"symbol": "BTCUSDT"}));
    let limit = |kind: &str, limit: u32| json!({"rateLimitType": kind, "interval": "MINUTE", "intervalNum": 5, "limit": limit});
    let most = u32::try_from(still().connections.connects_max).expect("small");
    assert_eq!(got[0]["result"]["rateLimits"][3], limit("CONNECTIONS", most));
    let rest = world.get("/api/v3/exchangeInfo?symbol=BTCUSDT");
    assert_eq!(rest["rateLimits"][3], limit("RAW_REQUESTS", 300_000));
    assert_eq!(got[0]["result"]["symbols"], rest["symbols"]);
}
