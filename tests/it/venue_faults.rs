//! Proves the simulated venue's faults, each by what a client sees of it on the wire and by what `/sim/state` tells;
//! its connection rules; paths and phases of its market; venues around one market seed; saved and restored accounts.

use std::io::Write;
use std::time::Duration;

use pindrop::net::Endpoint;
use pindrop::net::Stream;
use pindrop::net::websocket::{WsClient, WsEvent};
use pindrop::runtime::actor::{Actor, Cx, Stop};
use pindrop::sim::settings::{ConnectionLimits, MarketSettings, VenueSettings};
use serde_json::{Value, json};

use super::venue::{KEY, LIMIT_BUY, ONE, PORT, World, fault, hmac, read_all, settings, still};

const DIFFS: &str = "/ws/btcusdt@depth@100ms";

/// All faults that `/sim/state` tells of.
fn faults(world: &mut World) -> Vec<Value> {
    let state = world.get("/sim/state");
    let of = |key: &str| state["faults"][key].as_array().cloned().unwrap_or_default();
    of("active").into_iter().chain(of("over")).collect()
}

/// The only fault there is has hit so often, and says when and whom.
#[track_caller]
fn hit(world: &mut World, kind: &str, hits: u64) {
    let faults = faults(world);
    assert_eq!(faults.len(), 1, "{faults:?}");
    let it = &faults[0];
    assert_eq!((it["kind"].as_str(), it["hits"].as_u64()), (Some(kind), Some(hits)), "{it}");
    assert!(hits == 0 || (it["last_time"].is_i64() && it["last_whom"].is_string()), "{it}");
}

/// What a client sees now: texts, and why its connection is over.
fn seen(world: &mut World, ws: &mut WsClient) -> (Vec<String>, Option<String>) {
    world.turn();
    let mut texts = Vec::new();
    loop {
        match ws.poll(world.clock.now()) {
            Ok(Some(WsEvent::Text(text))) => texts.push(text.to_string()),
            Ok(Some(WsEvent::Closed { code, .. })) => return (texts, Some(code.to_string())),
            Ok(Some(_)) => {}
            Ok(None) => return (texts, None),
            Err(e) => return (texts, Some(e.to_string())),
        }
    }
}

/// Places an order at a price of its own and lets a period of the diff streams pass.
fn change(world: &mut World, price: u64) {
    let order = LIMIT_BUY.replace("50000", &price.to_string());
    assert_eq!(world.signed("POST", "/api/v3/order", &order).0, 200);
    world.pass(150);
}

fn ids(texts: &[String]) -> Vec<u64> {
    let id = |text: &String| serde_json::from_str::<Value>(text).ok()?["U"].as_u64();
    texts.iter().filter_map(id).collect()
}

fn dial(world: &World) -> Box<dyn Stream> {
    let endpoint = Endpoint { host: "venue".to_owned(), port: PORT, tls: false };
    world.net.dialer().dial(&endpoint, world.clock.now()).expect("a listener")
}

/// The bytes that a plain request gets within 50 turns, and whether the connection ended.
fn raw(world: &mut World, target: &str) -> (String, bool) {
    let mut stream = dial(world);
    stream.write_all(format!("GET {target} HTTP/1.1\r\nhost: v\r\n\r\n").as_bytes()).expect("room");
    let mut got = Vec::new();
    for _ in 0..50 {
        world.turn();
        read_all(&mut *stream, &mut got);
    }
    let ended = matches!(stream.read(&mut [0; 1]), Ok(0));
    (String::from_utf8_lossy(&got).into_owned(), ended)
}

fn listening(world: &mut World) -> WsClient {
    let mut ws = world.ws("/ws-api/v3");
    let got = world.call(&mut ws, "userDataStream.subscribe.signature", json!({}));
    assert_eq!(got[0]["status"], 200, "{got:?}");
    ws
}

const BUY_NOW: &str = "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.01";

/// The kinds of the account events among `texts`, in their order.
fn events(texts: &[String]) -> Vec<String> {
    let event = |text: &String| {
        let event = serde_json::from_str::<Value>(text).ok()?["event"].clone();
        let name = event["x"].as_str().or(event["e"].as_str())?;
        Some(name.to_owned())
    };
    texts.iter().filter_map(event).collect()
}

// --- one test per kind ---------------------------------------------------------------------------------------------

#[test]
fn disconnect() {
    let mut world = World::new(&still());
    let (mut one, mut two) = (world.ws(DIFFS), world.ws(DIFFS));
    fault(&mut world, r#"{"kind":"disconnect","target":"stream","count":1}"#);
    assert!(seen(&mut world, &mut one).1.is_some() && seen(&mut world, &mut two).1.is_none());
    hit(&mut world, "disconnect", 1);
    fault(&mut world, r#"{"kind":"disconnect","target":"rest"}"#);
    assert_eq!(raw(&mut world, "/api/v3/ping"), (String::new(), true));
    assert!(raw(&mut world, "/api/v3/ping").0.starts_with("HTTP/1.1 200"));
}

#[test]
fn half_open() {
    let mut world = World::new(&still());
    let mut ws = world.ws(DIFFS);
    fault(&mut world, r#"{"kind":"half_open","target":"stream","duration_ms":1000}"#);
    change(&mut world, 50_001);
    assert_eq!(seen(&mut world, &mut ws), (vec![], None));
    hit(&mut world, "half_open", 1);
    world.pass(1_000);
    change(&mut world, 50_002);
    assert_eq!(seen(&mut world, &mut ws).0.len(), 1, "it speaks again; what was said is lost");
    fault(&mut world, r#"{"kind":"half_open","target":"rest","count":1}"#);
    assert_eq!(raw(&mut world, "/api/v3/ping"), (String::new(), false));
}

#[test]
fn refuse_connect() {
    let mut world = World::new(&still());
    fault(&mut world, r#"{"kind":"refuse_connect","target":"rest","count":2}"#);
    assert_eq!(raw(&mut world, "/api/v3/ping"), (String::new(), true));
    assert_eq!(raw(&mut world, "/api/v3/ping"), (String::new(), true));
    assert!(raw(&mut world, "/api/v3/ping").0.starts_with("HTTP/1.1 200"));
    hit(&mut world, "refuse_connect", 2);
    fault(&mut world, r#"{"kind":"refuse_connect","target":"stream"}"#);
    assert_eq!(upgrade(&mut world), (String::new(), true));
    assert!(upgrade(&mut world).0.starts_with("HTTP/1.1 101"));
}

/// What an upgrade to the diff stream gets within 50 turns, and whether the connection ended.
fn upgrade(world: &mut World) -> (String, bool) {
    upgrade_to(world, DIFFS)
}

fn upgrade_to(world: &mut World, path: &str) -> (String, bool) {
    let mut stream = dial(world);
    let request = format!(
        "GET {path} HTTP/1.1\r\nhost: v\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("room");
    let mut got = Vec::new();
    for _ in 0..50 {
        world.turn();
        read_all(&mut *stream, &mut got);
    }
    let ended = matches!(stream.read(&mut [0; 1]), Ok(0));
    (String::from_utf8_lossy(&got).into_owned(), ended)
}

#[test]
fn slow() {
    let mut world = World::new(&still());
    let mut ws = world.ws(DIFFS);
    fault(&mut world, r#"{"kind":"slow","target":"stream","latency_ms":500,"jitter_ms":100}"#);
    change(&mut world, 50_001);
    world.pass(300);
    assert!(seen(&mut world, &mut ws).0.is_empty());
    world.pass(300);
    assert_eq!(seen(&mut world, &mut ws).0.len(), 1);
    hit(&mut world, "slow", 1);
}

#[test]
fn drop_frames() {
    let mut world = World::new(&still());
    let mut ws = world.ws(DIFFS);
    fault(&mut world, r#"{"kind":"drop","target":"stream","symbol":"ETHUSDT"}"#);
    change(&mut world, 50_001);
    assert_eq!(seen(&mut world, &mut ws).0.len(), 1, "it is about another symbol");
    hit(&mut world, "drop", 0);
    world.http("DELETE", "/sim/faults", "", "");
    fault(&mut world, r#"{"kind":"drop","target":"stream","symbol":"BTCUSDT"}"#);
    change(&mut world, 50_002);
    assert!(seen(&mut world, &mut ws).0.is_empty());
    fault(&mut world, r#"{"kind":"drop","target":"rest"}"#);
    assert_eq!(raw(&mut world, "/api/v3/ping"), (String::new(), false), "no answer, still open");
}

#[test]
fn duplicate() {
    let mut world = World::new(&still());
    let mut ws = world.ws(DIFFS);
    fault(&mut world, r#"{"kind":"duplicate","target":"stream"}"#);
    change(&mut world, 50_001);
    let texts = seen(&mut world, &mut ws).0;
    assert!(texts.len() == 2 && texts[0] == texts[1], "{texts:?}");
    hit(&mut world, "duplicate", 1);
}

#[test]
fn reorder() {
    let mut world = World::new(&still());
    let mut ws = world.ws(DIFFS);
    fault(&mut world, r#"{"kind":"reorder","target":"stream"}"#);
    change(&mut world, 50_001);
    assert!(seen(&mut world, &mut ws).0.is_empty(), "it waits for the next one");
    change(&mut world, 50_002);
    let order = ids(&seen(&mut world, &mut ws).0);
    assert!(order.len() == 2 && order[0] > order[1], "{order:?}");
    hit(&mut world, "reorder", 1);
}

#[test]
fn gap() {
    let mut world = World::new(&still());
    let mut ws = world.ws(DIFFS);
    fault(&mut world, r#"{"kind":"gap","target":"stream","symbol":"BTCUSDT"}"#);
    change(&mut world, 50_001);
    change(&mut world, 50_002);
    assert_eq!(ids(&seen(&mut world, &mut ws).0).len(), 1);
    hit(&mut world, "gap", 1);
}

#[test]
fn stale_snapshot() {
    let mut world = World::new(&still());
    let depth = "/api/v3/depth?symbol=BTCUSDT&limit=5";
    let old = world.get(depth);
    fault(&mut world, r#"{"kind":"stale_snapshot","target":"rest","symbol":"BTCUSDT"}"#);
    change(&mut world, 59_990);
    assert_eq!(world.get(depth), old);
    assert_ne!(world.get(depth), old);
    hit(&mut world, "stale_snapshot", 1);
}

/// What a client says of a diff that is broken in this way.
#[track_caller]
fn corrupt(how: &str, expect: &str) {
    let mut world = World::new(&still());
    let mut ws = world.ws(DIFFS);
    let body = json!({"kind": "corrupt", "target": "stream", "how": how}).to_string();
    fault(&mut world, &body);
    change(&mut world, 50_001);
    let (texts, over) = seen(&mut world, &mut ws);
    match over {
        Some(why) => assert!(why.to_lowercase().contains(expect), "{how}: {why}"),
        None => {
            assert_eq!(expect, "");
            assert!(serde_json::from_str::<Value>(&texts[0]).is_err(), "{how}: {texts:?}");
        }
    }
    hit(&mut world, "corrupt", 1);
}

#[test]
fn corrupt_frames() {
    corrupt("json", "");
    corrupt("utf8", "utf");
    corrupt("huge", "");
    corrupt("truncated", "");
}

#[test]
fn corrupt_answers() {
    let mut world = World::new(&still());
    let mut ask = |how: &str| {
        fault(&mut world, &json!({"kind": "corrupt", "target": "rest", "how": how}).to_string());
        raw(&mut world, "/api/v3/time")
    };
    assert!(ask("json").0.ends_with("{\"serverTime\":"));
    assert!(ask("utf8").0.contains('\u{fffd}'));
    assert!(ask("huge").0.contains("content-length: 1099511627776"));
    let (text, ended) = ask("truncated");
    assert!(text.contains("content-length: 29") && ended, "{text}");
}

#[test]
fn slice() {
    let mut world = World::new(&still());
    let mut ws = world.ws(DIFFS);
    fault(&mut world, r#"{"kind":"slice","target":"rest"}"#);
    let mut stream = dial(&world);
    stream.write_all(b"GET /api/v3/ping HTTP/1.1\r\nhost: v\r\n\r\n").expect("room");
    let mut got = Vec::new();
    for _ in 0..10 {
        world.turn();
        read_all(&mut *stream, &mut got);
    }
    assert!(!got.is_empty() && got.len() < 80, "{}", got.len());
    for _ in 0..400 {
        world.turn();
        read_all(&mut *stream, &mut got);
    }
    assert!(got.ends_with(b"{}"), "all of it in the end");
    assert!(world.http("DELETE", "/sim/faults", "", "").0 == 200);
    hit(&mut world, "slice", 1);
    fault(&mut world, r#"{"kind":"slice","target":"stream"}"#);
    change(&mut world, 50_001);
    world.pass(300);
    assert_eq!(seen(&mut world, &mut ws).0.len(), 1, "whole in the end");
}

#[test]
fn status() {
    let mut world = World::new(&still());
    for (status, code) in [(429, -1003), (418, -1003), (500, -1000), (503, -1008), (504, -1007)] {
        for when in ["before", "after"] {
            let before = world.venue.exchange().accounts[0].open_orders().count();
            let body = json!({"kind": "status", "target": "rest", "status": status, "when": when});
            fault(&mut world, &body.to_string());
            let (got, answer) = world.signed("POST", "/api/v3/order", LIMIT_BUY);
            assert_eq!((got, &answer["code"]), (status, &json!(code)));
            let made = world.venue.exchange().accounts[0].open_orders().count() - before;
            assert_eq!(made, usize::from(when == "after"), "{status} {when}");
        }
    }
    fault(&mut world, r#"{"kind":"status","target":"rest","status":403}"#);
    assert!(raw(&mut world, "/api/v3/ping").0.contains("403 Forbidden"));
    let (head, _) = {
        fault(&mut world, r#"{"kind":"status","target":"rest","status":429}"#);
        raw(&mut world, "/api/v3/ping")
    };
    assert!(head.to_lowercase().contains("retry-after: "), "{head}");
    let mut ws = world.ws("/ws-api/v3");
    fault(&mut world, r#"{"kind":"status","target":"ws_api","status":503}"#);
    let answer = world.ask(&mut ws, &json!({"id": 1, "method": "ping"}));
    assert_eq!((&answer[0]["status"], &answer[0]["error"]["code"]), (&json!(503), &json!(-1008)));
    let msg =
        "Server is currently overloaded with other requests. Please try again in a few minutes.";
    assert_eq!(answer[0]["error"]["msg"], msg);
    assert_eq!(faults(&mut world).iter().filter(|f| f["hits"] == 1).count(), 13);
}

#[test]
fn lost_ack() {
    let mut world = World::new(&still());
    fault(&mut world, r#"{"kind":"lost_ack","target":"rest","count":1}"#);
    let query = format!("{LIMIT_BUY}&timestamp={}", world.ms());
    let mut stream = dial(&world);
    let request = format!(
        "POST /api/v3/order?{query}&signature={} HTTP/1.1\r\nhost: v\r\nX-MBX-APIKEY: {KEY}\r\n\
         content-length: 0\r\n\r\n",
        hmac(&query)
    );
    stream.write_all(request.as_bytes()).expect("room");
    world.turn();
    assert!(matches!(stream.read(&mut [0; 16]), Ok(0)), "no answer");
    assert_eq!(world.venue.exchange().accounts[0].open_orders().count(), 1);
    hit(&mut world, "lost_ack", 1);
}

#[test]
fn late_fill() {
    let mut world = World::new(&still());
    let mut ws = listening(&mut world);
    fault(&mut world, r#"{"kind":"late_fill","target":"user_data","latency_ms":200}"#);
    world.signed("POST", "/api/v3/order", BUY_NOW);
    let first = events(&seen(&mut world, &mut ws).0);
    world.pass(200);
    let late = events(&seen(&mut world, &mut ws).0);
    assert_eq!(first, ["NEW", "outboundAccountPosition"]);
    assert_eq!(late, ["TRADE"]);
    hit(&mut world, "late_fill", 1);
}

#[test]
fn duplicate_fill() {
    let mut world = World::new(&still());
    let mut ws = listening(&mut world);
    fault(&mut world, r#"{"kind":"duplicate_fill"}"#);
    world.signed("POST", "/api/v3/order", BUY_NOW);
    let texts = seen(&mut world, &mut ws).0;
    assert_eq!(events(&texts), ["NEW", "TRADE", "TRADE", "outboundAccountPosition"]);
    assert_eq!(texts[1], texts[2], "the same trade");
    hit(&mut world, "duplicate_fill", 1);
}

#[test]
fn reject() {
    let mut world = World::new(&still());
    fault(&mut world, r#"{"kind":"reject","target":"rest","symbol":"BTCUSDT"}"#);
    assert_eq!(world.signed("POST", "/api/v3/order", LIMIT_BUY).1["code"], -2010);
    assert_eq!(world.signed("POST", "/api/v3/order", LIMIT_BUY).0, 200);
    hit(&mut world, "reject", 1);
    fault(&mut world, r#"{"kind":"reject","code":-1015,"msg":"Too many new orders."}"#);
    assert_eq!(world.signed("POST", "/api/v3/order", LIMIT_BUY).1["msg"], "Too many new orders.");
}

#[test]
fn clock_skew() {
    let mut world = World::new(&still());
    fault(&mut world, r#"{"kind":"clock_skew_ms","skew_ms":-5000}"#);
    let time = world.get("/api/v3/time")["serverTime"].as_i64();
    assert_eq!(time, Some(world.ms() - 5_000));
    assert_eq!(world.signed("POST", "/api/v3/order", LIMIT_BUY).1["code"], -1021);
    hit(&mut world, "clock_skew_ms", 2);
    world.http("DELETE", "/sim/faults", "", "");
    assert_eq!(world.get("/api/v3/time")["serverTime"].as_i64(), Some(world.ms()));
}

#[test]
fn server_shutdown() {
    let mut world = World::new(&still());
    let (mut ws, mut api) = (world.ws(DIFFS), world.ws("/ws-api/v3"));
    fault(&mut world, r#"{"kind":"server_shutdown","latency_ms":100}"#);
    let told = json!({"e": "serverShutdown", "E": world.ms()});
    for (ws, expect) in [(&mut ws, told.clone()), (&mut api, json!({"event": told}))] {
        let (texts, over) = seen(&mut world, ws);
        assert_eq!(serde_json::from_str::<Value>(&texts[0]).expect("JSON"), expect);
        assert_eq!(over, None);
    }
    world.pass(101);
    assert_eq!(seen(&mut world, &mut ws).1.as_deref(), Some("1001"));
    assert!(seen(&mut world, &mut api).1.is_some());
    hit(&mut world, "server_shutdown", 2);
}

#[test]
fn symbol_status() {
    let mut world = World::new(&still());
    let status = |world: &mut World| {
        world.get("/api/v3/exchangeInfo?symbol=BTCUSDT")["symbols"][0]["status"].clone()
    };
    fault(&mut world, r#"{"kind":"symbol_status","symbol":"BTCUSDT","status":"HALT"}"#);
    assert_eq!(status(&mut world), "HALT");
    let refused = world.signed("POST", "/api/v3/order", LIMIT_BUY);
    assert_eq!((refused.0, &refused.1["msg"]), (400, &json!("Market is closed.")));
    hit(&mut world, "symbol_status", 1);
    world.http("DELETE", "/sim/faults", "", "");
    assert_eq!(status(&mut world), "TRADING");
    assert_eq!(world.signed("POST", "/api/v3/order", LIMIT_BUY).0, 200);
}

const TARGETS: [&str; 4] = ["stream", "rest", "ws_api", "user_data"];

/// Every kind, what a request for it must say besides, and where it can happen.
const KINDS: [(&str, &str, &[&str]); 19] = [
    ("disconnect", "", &TARGETS),
    ("half_open", "", &TARGETS),
    ("refuse_connect", "", &["stream", "rest", "ws_api"]),
    ("slow", r#","latency_ms":10,"jitter_ms":5"#, &TARGETS),
    ("drop", "", &TARGETS),
    ("duplicate", "", &["stream", "ws_api", "user_data"]),
    ("reorder", "", &["stream", "ws_api", "user_data"]),
    ("gap", "", &["stream", "user_data"]),
    ("stale_snapshot", "", &["rest", "ws_api"]),
    ("corrupt", "", &TARGETS),
    ("slice", "", &TARGETS),
    ("status", r#","status":503"#, &["rest", "ws_api"]),
    ("lost_ack", "", &["rest", "ws_api"]),
    ("late_fill", "", &["user_data"]),
    ("duplicate_fill", "", &["user_data"]),
    ("reject", "", &["rest", "ws_api"]),
    ("clock_skew_ms", r#","skew_ms":500"#, &["stream", "rest", "ws_api"]),
    ("server_shutdown", r#","latency_ms":10"#, &["stream", "ws_api", "user_data"]),
    ("symbol_status", r#","symbol":"BTCUSDT""#, &[]),
];

/// Does everything that a client can do on every transport, whatever becomes of it.
fn provoke(world: &mut World, api: &mut WsClient) {
    for path in ["/ws/btcusdt@trade", "/ws-api/v3"] {
        upgrade_to(world, path);
    }
    raw(world, "/api/v3/depth?symbol=BTCUSDT&limit=5");
    for order in [BUY_NOW, LIMIT_BUY] {
        let query = format!("{order}&timestamp={}", world.ms());
        let head = format!("X-MBX-APIKEY: {KEY}\r\ncontent-length: 0\r\n\r\n");
        let target = format!("/api/v3/order?{query}&signature={}", hmac(&query));
        let mut stream = dial(world);
        let request = format!("POST {target} HTTP/1.1\r\nhost: v\r\n{head}");
        stream.write_all(request.as_bytes()).expect("room");
        world.pass(2);
    }
    let params = world.sign(json!({
        "symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"
    }));
    for request in [
        json!({"id": 1, "method": "depth", "params": {"symbol": "BTCUSDT"}}),
        json!({"id": 2, "method": "order.place", "params": params}),
    ] {
        // The fault may have ended the connection.
        let _ = api.send_text(request.to_string().as_bytes(), world.clock.now());
        let _ = api.flush();
        world.pass(2);
    }
    world.pass(150);
}

/// A fault of this kind is taken, happens where it was told to, and says so in the state.
fn happens(kind: &str, more: &str, target: Option<&str>) {
    let mut world = World::new(&still());
    let _ws = world.ws(DIFFS);
    let mut api = listening(&mut world);
    let to = target.map(|t| format!(",\"target\":\"{t}\"")).unwrap_or_default();
    fault(&mut world, &format!("{{\"kind\":\"{kind}\"{more}{to}}}"));
    provoke(&mut world, &mut api);
    let faults = faults(&mut world);
    assert_eq!(faults.len(), 1, "{faults:?}");
    let it = &faults[0];
    assert_eq!((&it["kind"], &it["target"]), (&json!(kind), &json!(target.unwrap_or("all"))));
    assert!(it["hits"].as_u64() > Some(0) && it["last_time"].is_i64(), "{kind} {target:?}: {it}");
    let whom = it["last_whom"].as_str().unwrap_or_default();
    assert!(target.is_none_or(|t| whom.starts_with(t)), "{kind} {target:?}: {it}");
}

#[test]
fn every_kind_happens_on_every_transport_that_it_has() {
    for (kind, more, known) in KINDS {
        happens(kind, more, None);
        for target in TARGETS {
            if known.contains(&target) {
                happens(kind, more, Some(target));
                continue;
            }
            let body = format!("{{\"kind\":\"{kind}\"{more},\"target\":\"{target}\"}}");
            let mut world = World::new(&still());
            let (status, _, answer) = world.http("POST", "/sim/faults", "", &body);
            let why = answer["error"].as_str().unwrap_or_default();
            let expect = match known {
                [] => "has none".to_owned(),
                known => format!("{kind} has {}", known.join(", ")),
            };
            assert!(status == 400 && why.contains(&expect), "{body}: {answer}");
            assert!(faults(&mut world).is_empty());
        }
    }
}

#[test]
fn unknown_faults_are_refused_by_name() {
    let mut world = World::new(&still());
    for (body, expect) in [
        (r#"{"kind":"explode"}"#, "server_shutdown, symbol_status"),
        (r#"{"kind":"drop","colour":1}"#, "probability"),
        (r#"{"kind":"lost_ack","target":"stream"}"#, "rest, ws_api"),
    ] {
        let (status, _, answer) = world.http("POST", "/sim/faults", "", body);
        let why = answer["error"].as_str().unwrap_or_default();
        assert!(status == 400 && why.contains(expect), "{body}: {answer}");
    }
}

#[test]
fn chance_is_seeded() {
    let life = || {
        let mut world = World::new(&still());
        let mut ws = world.ws(DIFFS);
        fault(&mut world, r#"{"kind":"drop","target":"stream","probability":0.5}"#);
        for price in 50_001..50_020 {
            change(&mut world, price);
        }
        let got = ids(&seen(&mut world, &mut ws).0);
        let hits = faults(&mut world)[0]["hits"].as_u64().expect("hits");
        assert_eq!(got.len() as u64 + hits, 19);
        got
    };
    let first = life();
    assert!((3..17).contains(&first.len()) && first == life());
}

// --- connection rules ----------------------------------------------------------------------------------------------

fn limited(connections: ConnectionLimits) -> VenueSettings {
    VenueSettings { connections, ..still() }
}

/// Lets seconds pass in steps of one.
fn seconds(world: &mut World, count: u64, ws: &mut [WsClient]) {
    for _ in 0..count {
        world.clock.advance(Duration::from_secs(1));
        world.turn();
        for ws in &mut *ws {
            // Answers pings; an end of the connection is looked at by the caller.
            let _ = ws.poll(world.clock.now());
            let _ = ws.flush();
        }
    }
}

#[test]
fn who_answers_pings_stays_and_who_does_not_goes() {
    let mut world = World::new(&still());
    let mut clients = [world.ws(DIFFS)];
    let mut dead = dial(&world);
    let request = format!(
        "GET {DIFFS} HTTP/1.1\r\nhost: v\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    dead.write_all(request.as_bytes()).expect("room");
    world.turn();
    let open =
        |world: &mut World| world.get("/sim/state")["connections"]["open"].as_array().map(Vec::len);
    seconds(&mut world, 79, &mut clients);
    let mut got = Vec::new();
    read_all(&mut *dead, &mut got);
    assert_eq!(got.windows(1).filter(|b| b[0] == 0x89).count(), 3, "pinged every 20 s");
    assert_eq!(open(&mut world), Some(2));
    seconds(&mut world, 3, &mut clients);
    assert_eq!(open(&mut world), Some(1), "60 s after the first ping");
    seconds(&mut world, 200, &mut clients);
    assert_eq!(open(&mut world), Some(1));
}

#[test]
fn connections_live_only_so_long() {
    let life = Duration::from_secs(100);
    let mut world = World::new(&limited(ConnectionLimits { life, ..ConnectionLimits::default() }));
    let mut clients = [world.ws(DIFFS)];
    seconds(&mut world, 95, &mut clients);
    assert_eq!(world.get("/sim/state")["counters"]["aged_out"], 0);
    seconds(&mut world, 10, &mut clients);
    assert_eq!(world.get("/sim/state")["counters"]["aged_out"], 1);
    assert_eq!(world.get("/sim/state")["connections"]["open"], json!([]));
}

#[test]
fn too_many_connections_are_refused_for_a_while() {
    let limits = ConnectionLimits { connects_max: 3, ..ConnectionLimits::default() };
    let mut world = World::new(&limited(limits));
    for _ in 0..3 {
        assert!(upgrade(&mut world).0.starts_with("HTTP/1.1 101"));
    }
    assert!(upgrade(&mut world).0.starts_with("HTTP/1.1 429"));
    seconds(&mut world, 300, &mut []);
    assert!(upgrade(&mut world).0.starts_with("HTTP/1.1 101"));
}

#[test]
fn fifty_clients_that_do_not_read_slow_nobody_and_are_dropped() {
    let market = MarketSettings::Synthetic { updates_per_s: 2_000, volatility_centibps: 150 };
    let connections =
        ConnectionLimits { unread_bytes_max: 64 * 1024, ..ConnectionLimits::default() };
    let mut world = World::new(&VenueSettings { connections, ..settings(market) });
    let stream = "/stream?streams=btcusdt@depth@100ms/btcusdt@trade/btcusdt@bookTicker";
    let dead: Vec<WsClient> = (0..50).map(|_| world.ws(stream)).collect();
    let mut reader = world.ws(stream);
    let mut got = 0;
    for step in 0..1_000 {
        world.pass(20);
        let now = world.clock.now();
        while let Ok(Some(event)) = reader.poll(now) {
            got += usize::from(matches!(event, WsEvent::Text(_)));
        }
        let state: Value = serde_json::from_str(&world.venue.state()).expect("JSON");
        if state["counters"]["slow_dropped"] == 50 {
            assert!(got > 100, "{got} frames after {step} steps");
            assert_eq!(state["connections"]["open"].as_array().map(Vec::len), Some(1));
            drop(dead);
            return;
        }
    }
    panic!("not dropped; {got} frames read");
}

#[test]
fn who_pings_and_never_reads_is_dropped() {
    let limits = ConnectionLimits { unread_bytes_max: 16 * 1024, ..ConnectionLimits::default() };
    let mut world = World::new(&limited(limits));
    let mut stream = dial(&world);
    let upgrade = "GET /ws-api/v3 HTTP/1.1\r\nhost: v\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
                   sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).expect("room");
    world.pass(2);
    // A masked ping of the largest size; its mask is zero.
    let ping = [&[0x89, 0xfd, 0, 0, 0, 0][..], &[b'x'; 125]].concat();
    let burst = ping.repeat(16);
    let dropped = |world: &World| {
        let state: Value = serde_json::from_str(&world.venue.state()).expect("JSON");
        state["counters"]["slow_dropped"] == 1
    };
    for _ in 0..300 {
        if stream.write_all(&burst).is_err() {
            break;
        }
        world.turn();
    }
    assert!(dropped(&world), "still there");
}

// --- markets -------------------------------------------------------------------------------------------------------

fn mid(world: &World, symbol: usize) -> i64 {
    let top = world.venue.exchange().listings[symbol].top();
    (top.bid.expect("a bid").0 + top.ask.expect("an ask").0) / 2
}

#[test]
fn markets_are_led_along_paths() {
    let mut world = World::new(&still());
    let body = r#"{"symbol":"BTCUSDT","path":[[100,"60000"],[1100,61000],[1200,"59000.5"]]}"#;
    assert_eq!(world.http("POST", "/sim/market", "", body).0, 200);
    let mut near = |ms: u64, whole: i64| {
        world.pass(ms);
        let off = (mid(&world, 0) - whole * ONE).abs();
        assert!(off < 15 * ONE, "{whole}: {off}");
    };
    near(100, 60_000);
    near(500, 60_500);
    near(500, 61_000);
    near(100, 59_000);
    near(1_000, 59_000);
    for body in [
        r#"{"symbol":"BTCUSDT","path":[]}"#,
        r#"{"symbol":"BTCUSDT","path":[[5,"1"],[4,"1"]]}"#,
        r#"{"symbol":"BTCUSDT","path":[[5,"-1"]]}"#,
        r#"{"symbol":"BTCUSDT","mid":"1","path":[[5,"1"]]}"#,
        r#"{"symbol":"BTCUSDT","colour":1}"#,
    ] {
        assert_eq!(world.http("POST", "/sim/market", "", body).0, 400, "{body}");
    }
}

fn lively(updates_per_s: u32, seed: u64, market_seed: u64, drift_bps: u32) -> World {
    let market = MarketSettings::Synthetic { updates_per_s, volatility_centibps: 150 };
    World::new(&VenueSettings { seed, market_seed, drift_bps, ..settings(market) })
}

#[test]
fn symbols_move_together_and_phases_change() {
    let mut world = lively(100, 1, 1, 0);
    let (mut pairs, mut phases) = (Vec::new(), Vec::new());
    let mut last = (mid(&world, 0) as f64, mid(&world, 1) as f64);
    for _ in 0..240 {
        world.pass(250);
        let now = (mid(&world, 0) as f64, mid(&world, 1) as f64);
        pairs.push((now.0 / last.0 - 1.0, now.1 / last.1 - 1.0));
        last = now;
        let state: Value = serde_json::from_str(&world.venue.state()).expect("JSON");
        phases.push(state["market"]["symbols"][0]["phase"].as_str().map(str::to_owned));
    }
    let sum = |f: fn(&(f64, f64)) -> f64| pairs.iter().map(f).sum::<f64>();
    let correlation = sum(|p| p.0 * p.1) / (sum(|p| p.0 * p.0).sqrt() * sum(|p| p.1 * p.1).sqrt());
    assert!(correlation > 0.2, "{correlation}");
    phases.sort();
    phases.dedup();
    assert!(phases.len() >= 2, "{phases:?}");
}

#[test]
fn rates_are_kept() {
    for (rate, seconds) in [(10, 300), (1_000, 20), (20_000, 3)] {
        let mut world = lively(rate, 3, 3, 0);
        let first = world.venue.exchange().listings[0].update_id();
        world.pass(seconds * 1_000);
        let made = world.venue.exchange().listings[0].update_id() - first;
        let per_s = made as f64 / seconds as f64;
        let ratio = per_s / f64::from(rate);
        assert!((0.3..2.5).contains(&ratio), "{per_s} of {rate} per second");
    }
}

#[test]
fn venues_of_one_market_seed_drift_apart_and_come_back() {
    let (mut one, mut two) = (lively(100, 1, 9, 10), lively(100, 2, 9, 10));
    let mut apart = Vec::new();
    for _ in 0..240 {
        one.pass(250);
        two.pass(250);
        apart.push((mid(&one, 0) - mid(&two, 0)) as f64 / mid(&one, 0) as f64 * 1e4);
    }
    let most = apart.iter().fold(0.0_f64, |most, bps| most.max(bps.abs()));
    assert!((3.0..80.0).contains(&most), "{most} basis points apart at most");
}

#[test]
fn the_state_is_complete() {
    let mut world = lively(50, 4, 5, 0);
    let _api = listening(&mut world);
    let _ws = world.ws(DIFFS);
    world.signed("POST", "/api/v3/order", LIMIT_BUY);
    world.pass(500);
    let state = world.get("/sim/state");
    assert_eq!((&state["market"]["seed"], &state["market"]["market_seed"]), (&json!(4), &json!(5)));
    let open = state["connections"]["open"].as_array().expect("connections");
    let of = |transport: &str| open.iter().find(|c| c["transport"] == transport).expect("one");
    assert_eq!(of("stream")["listens_to"], json!(["btcusdt@depth@100ms"]));
    assert_eq!(of("ws_api")["listens_to"], json!(["one"]));
    assert_eq!(state["rate_limits"]["orders"][0]["orders_10s"], 1);
    assert!(state["rate_limits"]["weight_1m"].as_u64().is_some_and(|w| w > 0));
    for key in ["accounts", "symbols", "totals", "sequences", "counters", "faults"] {
        assert!(!state[key].is_null(), "{key}");
    }
}

#[test]
fn accounts_live_on_in_a_file() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("venue.json");
    let market = || MarketSettings::Synthetic { updates_per_s: 50, volatility_centibps: 150 };
    let mut world = World::new(&VenueSettings { save: Some(path.clone()), ..settings(market()) });
    world.signed("POST", "/api/v3/order", LIMIT_BUY);
    world.signed("POST", "/api/v3/order", BUY_NOW);
    let (_, none) = world.signed("POST", "/api/v3/order", &LIMIT_BUY.replace("GTC", "IOC"));
    assert_eq!(none["expiryReason"], "UNFILLED_IOC_QUANTITY_EXPIRED", "{none}");
    let mut cx = Cx::detached(world.clock.now(), world.clock.utc());
    world.venue.on_stop(&mut cx, Stop::Drained);
    let before: Value = serde_json::from_str(&world.venue.state()).expect("JSON");
    let again = VenueSettings { restore: Some(path.clone()), ..settings(market()) };
    let mut world = World::new(&again);
    let after: Value = serde_json::from_str(&world.venue.state()).expect("JSON");
    for key in ["balances", "open_orders", "orders", "fills"] {
        assert_eq!(before["accounts"][0][key], after["accounts"][0][key], "{key}");
    }
    for key in ["totals", "sequences"] {
        assert_eq!(before[key], after[key], "{key}");
    }
    let order = format!("symbol=BTCUSDT&orderId={}", before["accounts"][0]["orders"][0]["orderId"]);
    assert_eq!(world.signed("DELETE", "/api/v3/order", &order).1["status"], "CANCELED");
    let order = format!("symbol=BTCUSDT&orderId={}", none["orderId"]);
    let (_, none_again) = world.signed("GET", "/api/v3/order", &order);
    assert_eq!(none_again["expiryReason"], none["expiryReason"], "{none_again}");
    std::fs::write(&path, r#"{"version":9}"#).expect("room");
    let net = pindrop::net::memory::MemoryNet::new();
    let error = pindrop::sim::venue::Venue::new(&again, net.listener(PORT)).expect_err("refused");
    assert!(error.contains("venue.json"), "{error}");
}
