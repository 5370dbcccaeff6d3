//! Proves that nothing a client sends breaks the simulated venue: HTTP heads and bodies, query strings and forms,
//! messages and frames of both WebSockets, `/sim` bodies. Whatever comes, every answer is well-formed and documented,
//! money is whole, nobody's connection is left behind, and the next client is served.
//!
//! Every property prints its seed first; `PROPTEST_RNG_SEED=<seed>` replays it, `PROPTEST_CASES=<n>` makes it longer.

use std::io::ErrorKind;

use pindrop::clock::Clock;
use pindrop::net::{Endpoint, Stream};
use pindrop::sim::calls::{SPECS, Security, Spec};
use pindrop::sim::limits::RateLimits;
use pindrop::sim::request::rest_payload;
use pindrop::sim::settings::{ConnectionLimits, VenueSettings};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use serde_json::{Map, Value, json};

use super::venue::{KEY, LIMIT_BUY, PORT, World, hmac, still};
use super::venue_orders::check_money;

/// What the documentation and RFC 9110 know as answers to a client's request.
const STATUSES: &[u16] = &[
    200, 400, 401, 403, 404, 405, 408, 409, 410, 411, 413, 414, 418, 426, 429, 431, 500, 503, 504,
];

/// The codes of the documentation's `errors.md`, and of its change log (-1131). The last one is in neither: the venue
/// is known to answer so when a session logs on with an HMAC key, which the documentation forbids without a code.
const CODES: &[i64] = &[
    -1000, -1001, -1002, -1003, -1006, -1007, -1008, -1013, -1014, -1015, -1016, -1020, -1021,
    -1022, -1033, -1034, -1035, -1100, -1101, -1102, -1103, -1104, -1105, -1106, -1108, -1111,
    -1112, -1114, -1115, -1116, -1117, -1118, -1119, -1120, -1121, -1122, -1125, -1127, -1128,
    -1130, -1134, -1135, -1139, -1145, -1151, -1194, -1210, -1211, -1220, -2010, -2011, -2013,
    -2014, -2015, -2016, -2021, -2022, -2026, -2035, -2036, -2038, -2039, -2042, -2043, -1131,
    -4056,
];

/// The close codes that a server may send (RFC 6455, 7.4).
fn is_close_code(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// The server's caps, as its settings have them.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const BODY_BYTES_MAX: usize = 1024 * 1024;
const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Turns without a word after which the venue is taken to have said all.
const QUIET_TURNS: usize = 6;

// --- a venue under fire --------------------------------------------------------------------------------------------

pub(crate) struct Target {
    pub(crate) world: World,
}

/// What came back on one connection.
struct Heard {
    bytes: Vec<u8>,
    ended: bool,
    /// How many of the bytes were sent, and how many were before the first answer came.
    taken: usize,
    before_answer: Option<usize>,
}

impl Target {
    pub(crate) fn new() -> Self {
        let limits = RateLimits {
            weight_per_minute: u32::MAX,
            orders_per_10s: u32::MAX,
            orders_per_day: u32::MAX,
        };
        let connections =
            ConnectionLimits { connects_max: usize::MAX, ..ConnectionLimits::default() };
        Self { world: World::new(&VenueSettings { limits, connections, ..still() }) }
    }

    fn dial(&self) -> Box<dyn Stream> {
        let endpoint = Endpoint { host: "venue".to_owned(), port: PORT, tls: false };
        self.world.net.dialer().dial(&endpoint, self.world.clock.now()).expect("a listener")
    }

    /// Sends `bytes` in pieces that end at `cuts`, and listens until the venue falls silent.
    fn talk(&mut self, stream: &mut dyn Stream, bytes: &[u8], cuts: &[usize]) -> Heard {
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut heard = Heard { bytes: Vec::new(), ended: false, taken: 0, before_answer: None };
        let mut quiet = 0;
        for end in ends {
            while heard.taken < end && !heard.ended && quiet < 200 {
                match stream.write(&bytes[heard.taken..end]) {
                    Ok(n) => (heard.taken, quiet) = (heard.taken + n, 0),
                    Err(e) if e.kind() == ErrorKind::WouldBlock => quiet += 1,
                    Err(_) => break,
                }
                self.world.turn();
                listen(stream, &mut heard);
            }
        }
        quiet = 0;
        while quiet < QUIET_TURNS && !heard.ended {
            let before = heard.bytes.len();
            self.world.turn();
            listen(stream, &mut heard);
            quiet = if heard.bytes.len() == before { quiet + 1 } else { 0 };
        }
        heard
    }

    /// A connection that was upgraded to a WebSocket.
    fn upgraded(&mut self, target: &str) -> Box<dyn Stream> {
        let mut stream = self.dial();
        let head = format!("GET {target} HTTP/1.1\r\nhost: v\r\n{UPGRADE}");
        let heard = self.talk(&mut *stream, head.as_bytes(), &[]);
        assert!(heard.bytes.starts_with(b"HTTP/1.1 101"), "{target}");
        stream
    }

    // --- one case of each kind, checked --------------------------------------------------------------------------

    /// Raw bytes on a new connection.
    pub(crate) fn raw(&mut self, bytes: &[u8], cuts: &[usize]) {
        let mut stream = self.dial();
        let heard = self.talk(&mut *stream, bytes, cuts);
        judge_http(&heard.bytes, bytes);
    }

    /// A REST request with a form as it is; signed when the call wants it and `sign` says so.
    pub(crate) fn rest(&mut self, spec: &Spec, form: &[u8], in_body: bool, sign: bool) {
        let mut form = form.to_vec();
        if sign && spec.security != Security::Open {
            if !form.windows(9).any(|w| w == b"timestamp") {
                form.extend_from_slice(format!("&timestamp={}", self.world.ms()).as_bytes());
            }
            let text = String::from_utf8_lossy(&form).into_owned();
            let signature = hmac(&rest_payload(&text, ""));
            form.extend_from_slice(format!("&signature={signature}").as_bytes());
        }
        let in_query = !in_body && form.len() < 8_000 && form.iter().all(u8::is_ascii_graphic);
        let (query, body) =
            if in_query { (form.as_slice(), &b""[..]) } else { (&b""[..], form.as_slice()) };
        let (method, path) = spec.rest;
        let mut bytes = format!("{method} /api/v3/{path}?").into_bytes();
        bytes.extend_from_slice(query);
        let head = format!(
            " HTTP/1.1\r\nhost: v\r\nx-mbx-apikey: {KEY}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(body);
        let mut stream = self.dial();
        let heard = self.talk(&mut *stream, &bytes, &[]);
        let answers = judge_http(&heard.bytes, &bytes);
        assert_eq!(answers, 1, "{}: {}", show(&bytes), show(&heard.bytes));
    }

    /// One text message to a WebSocket: `/ws...`, `/stream...` or `/ws-api/v3`. Its first answer, if there is one.
    pub(crate) fn message(&mut self, stream: &mut dyn Stream, text: &str) -> Option<Value> {
        let bytes = frame(0x81, text.as_bytes(), true, None);
        let heard = self.talk(stream, &bytes, &[]);
        let said = said(&heard.bytes);
        let texts = said.iter().filter_map(|s| match s {
            Said::Text(text) => Some(text),
            _ => None,
        });
        let mut first = None;
        for answer in texts {
            let answer: Value = serde_json::from_str(answer).unwrap_or_else(|e| {
                panic!("{text}: {answer}: {e}");
            });
            judge_message(&answer);
            first.get_or_insert(answer);
        }
        first
    }

    /// A WebSocket API request with these parameters, signed.
    pub(crate) fn api(&mut self, stream: &mut dyn Stream, spec: &Spec, params: Map<String, Value>) {
        let params = self.world.sign(Value::Object(params));
        let request = json!({"id": 7, "method": spec.ws, "params": params});
        let answer = self.message(stream, &request.to_string());
        assert_eq!(answer.map(|a| a["id"].clone()), Some(json!(7)), "{request}");
    }

    /// Raw bytes after an upgrade.
    pub(crate) fn frames(&mut self, target: &str, bytes: &[u8], cuts: &[usize]) {
        let mut stream = self.upgraded(target);
        let heard = self.talk(&mut *stream, bytes, cuts);
        for said in said(&heard.bytes) {
            if let Said::Text(text) = said {
                judge_message(&serde_json::from_str(&text).expect("JSON"));
            }
        }
    }

    /// A `/sim` request.
    pub(crate) fn control(&mut self, method: &str, path: &str, body: &[u8]) -> u16 {
        let head = format!(
            "{method} /sim/{path} HTTP/1.1\r\nhost: v\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let bytes = [head.as_bytes(), body].concat();
        let mut stream = self.dial();
        let heard = self.talk(&mut *stream, &bytes, &[]);
        let (status, body) = one_answer(&heard.bytes);
        assert!(matches!(status, 200 | 400 | 404), "{}: {status}", show(&bytes));
        if status == 400 {
            assert!(body["error"].as_str().is_some_and(|e| !e.is_empty()), "{body}");
        }
        status
    }

    /// Money is whole; once everybody has gone, nothing is left of them, and a good client is served.
    pub(crate) fn check(&mut self) {
        check_money(self.world.venue.exchange());
        assert_eq!(self.world.get("/api/v3/ping"), json!({}));
    }

    pub(crate) fn check_all(&mut self) {
        self.world.http("DELETE", "/sim/faults", "", "");
        self.world.clock.advance(std::time::Duration::from_secs(700));
        for _ in 0..QUIET_TURNS {
            self.world.turn();
        }
        let state: Value = serde_json::from_str(&self.world.venue.state()).expect("JSON");
        let connections = &state["connections"];
        for (key, left) in [
            ("total", json!(0)),
            ("ws_api", json!(0)),
            ("user_data", json!(0)),
            ("open", json!([])),
            ("streams", json!([])),
        ] {
            assert_eq!(connections[key], left, "{key}: {connections}");
        }
        self.check();
        let mut ws = self.world.ws("/ws-api/v3");
        let got = self.world.call(&mut ws, "userDataStream.subscribe.signature", json!({}));
        assert_eq!(got[0]["status"], 200, "{got:?}");
        let (status, order) = self.world.signed("POST", "/api/v3/order", LIMIT_BUY);
        if status == 200 {
            let id = format!("symbol=BTCUSDT&orderId={}", order["orderId"]);
            let gone = self.world.signed("DELETE", "/api/v3/order", &id).1;
            // Earlier cases may have moved the market to where it trades at once.
            let is_over = order["status"] == "FILLED" && gone["code"] == -2011;
            assert!(is_over || gone["status"] == "CANCELED", "{order}: {gone}");
            assert!(!self.world.read(&mut ws).is_empty(), "it is told");
        } else {
            // Earlier cases may have spent the money or used up the filters.
            assert!(matches!(order["code"].as_i64(), Some(-2010 | -1013)), "{order}");
        }
        check_money(self.world.venue.exchange());
    }
}

fn listen(stream: &mut dyn Stream, heard: &mut Heard) {
    let mut buffer = [0; 16_384];
    while !heard.ended {
        match stream.read(&mut buffer) {
            Ok(0) => heard.ended = true,
            Ok(n) => {
                heard.before_answer.get_or_insert(heard.taken);
                heard.bytes.extend_from_slice(&buffer[..n]);
            }
            Err(e) if e.kind() == ErrorKind::WouldBlock => return,
            Err(_) => heard.ended = true,
        }
    }
}

fn show(bytes: &[u8]) -> String {
    bytes[..bytes.len().min(4_000)].escape_ascii().to_string()
}

// --- what an answer may be -----------------------------------------------------------------------------------------

/// The first answer of a plain exchange.
fn one_answer(bytes: &[u8]) -> (u16, Value) {
    let at = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    let status = std::str::from_utf8(&bytes[9..12]).ok().and_then(|s| s.parse().ok());
    let body = serde_json::from_slice(&bytes[at + 4..]).expect("JSON");
    (status.expect("a status"), body)
}

/// Takes the answers on a connection apart as a strict client does; how many there were, not counting interim ones.
fn judge_http(mut bytes: &[u8], sent: &[u8]) -> usize {
    let asks_heads = sent.windows(4).any(|w| w == b"HEAD");
    let mut answers = 0;
    while !bytes.is_empty() {
        let at = bytes.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or_else(|| {
            panic!("{}: no head in {}", show(sent), show(bytes));
        });
        let head = std::str::from_utf8(&bytes[..at]).expect("a head is text");
        bytes = &bytes[at + 4..];
        let (status, headers) = judge_head(head);
        match status {
            100 => continue,
            101 => {
                said(bytes);
                return answers + 1;
            }
            _ => {}
        }
        answers += 1;
        let value = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let length: usize = value("content-length").and_then(|l| l.parse().ok()).expect("a length");
        if asks_heads && (bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 ")) {
            continue;
        }
        assert!(bytes.len() >= length, "{}: body cut: {head}", show(sent));
        judge_body(status, value("content-type").unwrap_or_default(), &bytes[..length], sent);
        bytes = &bytes[length..];
        if value("connection") == Some("close") {
            assert!(bytes.is_empty(), "nothing comes after the last answer: {}", show(bytes));
        }
    }
    answers
}

fn judge_head(head: &str) -> (u16, Vec<(String, String)>) {
    let mut lines = head.split("\r\n");
    let first = lines.next().expect("a status line");
    let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).expect("a status");
    let status: u16 = status.parse().expect("a number");
    assert!(matches!(status, 100 | 101) || STATUSES.contains(&status), "{head}");
    let headers = lines.map(|line| {
        assert!(!line.chars().any(char::is_control), "{head:?}");
        let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("{head:?}"));
        (name.to_ascii_lowercase(), value.to_owned())
    });
    (status, headers.collect())
}

fn judge_body(status: u16, kind: &str, body: &[u8], sent: &[u8]) {
    if !kind.starts_with("application/json") {
        assert!(status >= 400, "only failures are not JSON: {}", show(sent));
        return;
    }
    let body: Value = serde_json::from_slice(body)
        .unwrap_or_else(|e| panic!("{}: {}: {e}", show(sent), show(body)));
    if status < 400 || !kind.contains("charset") || (status == 404 && body == json!({})) {
        return;
    }
    let code = body["code"].as_i64();
    assert!(code.is_some_and(|c| CODES.contains(&c)), "{}: {body}", show(sent));
    assert!(body["msg"].as_str().is_some_and(|m| !m.is_empty()), "{body}");
}

/// A message of a WebSocket: an answer, a documented error or an event.
fn judge_message(message: &Value) {
    let error = &message["error"];
    if error.is_null() {
        let known = ["result", "event", "e", "stream", "u"];
        assert!(known.iter().any(|key| message.get(key).is_some()), "{message}");
        return;
    }
    assert!(message.get("id").is_some() && message.get("result").is_none(), "{message}");
    assert!(error["msg"].as_str().is_some_and(|m| !m.is_empty()), "{message}");
    let code = error["code"].as_i64().expect("a code");
    match message.get("status") {
        Some(status) => {
            let status = status.as_u64().and_then(|s| u16::try_from(s).ok());
            assert!(status.is_some_and(|s| STATUSES.contains(&s) && s >= 400), "{message}");
            assert!(CODES.contains(&code), "{message}");
        }
        // Market streams have codes of their own: 0 to 3.
        None => assert!((0..=3).contains(&code), "{message}"),
    }
}

/// What a server's frame says.
#[derive(Debug, PartialEq)]
enum Said {
    Text(String),
    Ping,
    Pong(Vec<u8>),
    Close(Option<u16>),
}

/// Takes a server's frames apart: final, unmasked, of the shortest length, text that is UTF-8, nothing after a close.
fn said(mut bytes: &[u8]) -> Vec<Said> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        assert!(!matches!(all.last(), Some(Said::Close(_))), "{} after a close", show(bytes));
        let (length, head) = match bytes[1] {
            short @ 0..=125 => (usize::from(short), 2),
            126 => (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), 4),
            127 => (usize::from_be_bytes(bytes[2..10].try_into().expect("eight bytes")), 10),
            _ => panic!("masked"),
        };
        let shortest = if length < 126 {
            2
        } else if length < 65_536 {
            4
        } else {
            10
        };
        assert_eq!(head, shortest, "of the shortest length");
        let payload = &bytes[head..head + length];
        all.push(match bytes[0] {
            0x81 => Said::Text(String::from_utf8(payload.to_vec()).expect("UTF-8")),
            0x88 if payload.is_empty() => Said::Close(None),
            0x88 => {
                let code = u16::from_be_bytes([payload[0], payload[1]]);
                assert!(is_close_code(code), "{code}");
                Said::Close(Some(code))
            }
            0x89 => Said::Ping,
            0x8a => Said::Pong(payload.to_vec()),
            other => panic!("frame {other:#x}"),
        });
        bytes = &bytes[head + length..];
    }
    all
}

/// A client's frame; `claimed` in place of the payload's length.
fn frame(first: u8, payload: &[u8], masked: bool, claimed: Option<u64>) -> Vec<u8> {
    const MASK: [u8; 4] = [1, 2, 3, 4];
    let length = claimed.unwrap_or(payload.len() as u64);
    let mask_bit = if masked { 0x80 } else { 0 };
    let mut bytes = vec![first];
    let be = length.to_be_bytes();
    match length {
        0..=125 => bytes.push(mask_bit | be[7]),
        126..=0xffff => bytes.extend_from_slice(&[mask_bit | 126, be[6], be[7]]),
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend_from_slice(&be);
        }
    }
    if masked {
        bytes.extend_from_slice(&MASK);
        bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    } else {
        bytes.extend_from_slice(payload);
    }
    bytes
}

// --- what is thrown at it ------------------------------------------------------------------------------------------

/// So many cases, from a seed that is printed and can be given.
pub(crate) fn cases(count: u32) -> ProptestConfig {
    let mut config = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = count;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(Clock::System.now().as_nanos());
    }
    if let RngSeed::Fixed(seed) = config.rng_seed {
        println!("PROPTEST_RNG_SEED={seed}");
    }
    config
}

/// A change to bytes: where, how many, and what comes there instead.
type Change = (usize, usize, Vec<u8>);

const HEAD_PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r\n\r\n",
    b"\n\n",
    b"\0",
    b" ",
    b":",
    b"%",
    b"?",
    b"\xff\xfe",
    b"Content-Length: 5\r\n",
    b"Content-Length: 6\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    b"GET /api/v3/time HTTP/1.1\r\n\r\n",
    b"HEAD /api/v3/time HTTP/1.1\r\n\r\n",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"0\r\n\r\n",
    b"ffffffffffffffff\r\n",
    b"5\r\nabcde\r\n",
];

const REQUESTS: &[&str] = &[
    "GET /api/v3/ping HTTP/1.1\r\nhost: v\r\n\r\n",
    "GET /api/v3/depth?symbol=BTCUSDT&limit=5 HTTP/1.1\r\nhost: v\r\n\r\n",
    "GET /api/v3/depth?symbol=BTCUSDT&limit=5 HTTP/1.0\r\n\r\n",
    "POST /api/v3/order HTTP/1.1\r\nhost: v\r\nx-mbx-apikey: key\r\ncontent-length: 14\r\n\r\nsymbol=BTCUSDT",
    "POST /api/v3/order HTTP/1.1\r\nhost: v\r\ntransfer-encoding: chunked\r\n\r\n5\r\nside=\r\n3;x=y\r\nBUY\r\n0\r\nt: 1\r\n\r\n",
    "DELETE /api/v3/openOrders?symbol=BTCUSDT HTTP/1.1\r\nhost: v\r\n\r\n",
    "GET /ws/btcusdt@trade HTTP/1.1\r\nhost: v\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
     sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "GET /nowhere HTTP/1.1\r\nhost: v\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nhost: v\r\n\r\n",
    "PUT /api/v3/order HTTP/1.1\r\nhost: v\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\nabc",
    "POST /api/v3/userDataStream HTTP/1.1\r\nhost: v\r\n\r\n",
];

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let piece = prop_oneof![
        3 => prop::sample::select(HEAD_PIECES).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec((any::<usize>(), 0..6_usize, piece), 0..4)
}

fn changed(text: &[u8], changes: &[Change]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    for (at, gone, come) in changes {
        let at = at % (bytes.len() + 1);
        let end = (at + gone).min(bytes.len());
        bytes.splice(at..end, come.iter().copied());
    }
    bytes
}

fn connection() -> impl Strategy<Value = Vec<u8>> {
    let one = (prop::sample::select(REQUESTS), changes())
        .prop_map(|(text, changes)| changed(text.as_bytes(), &changes));
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..400),
        8 => prop::collection::vec(one, 1..4).prop_map(|all| all.concat()),
    ]
}

/// Values that mean something somewhere, and values that mean nothing anywhere; percent-encoded where they must be.
const VALUES: &[&str] = &[
    "",
    "0",
    "00",
    "1",
    "-1",
    "+1",
    "0.01",
    "0.010000000",
    "0.00000001",
    "59990",
    "60010.01",
    "3000",
    "1e5",
    "NaN",
    "0x10",
    "1000000",
    "1700000000000",
    "1700000000000000",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "99999999999999999999",
    "99999999999999999999.99999999999999999999",
    "BTCUSDT",
    "ETHUSDT",
    "NOPE",
    "btcusdt",
    "BUY",
    "SELL",
    "LIMIT",
    "MARKET",
    "LIMIT_MAKER",
    "STOP_LOSS",
    "STOP_LOSS_LIMIT",
    "TAKE_PROFIT",
    "TAKE_PROFIT_LIMIT",
    "GTC",
    "IOC",
    "FOK",
    "ACK",
    "RESULT",
    "FULL",
    "MINI",
    "true",
    "false",
    "null",
    "NONE",
    "DECREMENT",
    "EXPIRE_BOTH",
    "EXPIRE_TAKER",
    "STOP_ON_FAILURE",
    "ALLOW_FAILURE",
    "CANCEL_ONLY",
    "ONLY_NEW",
    "TRADING",
    "HALT",
    "1m",
    "1s",
    "1M",
    "3d",
    "7d",
    "59m",
    "08:00",
    "-12:00",
    "14:00",
    "24:00",
    "%C3%A9%C3%A9",
    "%2B1:00",
    "[%22BTCUSDT%22]",
    "[%22BTCUSDT%22,%22BTCUSDT%22]",
    "[]",
    "[",
    "[[[[[[",
    "[1,null,{}]",
    "%00",
    "%",
    "%zz",
    "%ff%fe",
    "%0d%0aEvil:%201",
    "%F0%9F%98%80",
    "a%20b",
    "%22%5C%22",
    "60000",
    "60000.01",
    "999999999999",
    "TRUE",
    "[\"BTCUSDT\"]",
    "a b",
    "\u{1F600}",
];

/// Which call, which of its parameters have which value, wild pairs, whether in the body, whether signed.
type Form = (usize, Vec<(usize, usize)>, Vec<(String, String)>, bool, bool);

fn form() -> impl Strategy<Value = Form> {
    let known = prop::collection::vec((0..64_usize, 0..VALUES.len()), 0..8);
    let wild = prop::collection::vec((".{0,6}", ".{0,20}"), 0..2);
    (0..SPECS.len(), known, wild, any::<bool>(), prop::bool::weighted(0.9))
}

/// A good order under the wild parameters, so that some get past the first checks.
fn base(spec: &Spec) -> Vec<(String, String)> {
    let text = match spec.ws {
        "order.place" | "order.test" => LIMIT_BUY,
        "order.cancelReplace" => {
            "symbol=BTCUSDT&side=SELL&type=LIMIT&timeInForce=GTC&quantity=0.01&price=61000\
             &cancelReplaceMode=ALLOW_FAILURE&cancelOrderId=1"
        }
        "order.cancel" | "order.status" => "symbol=BTCUSDT&orderId=1",
        "klines" | "uiKlines" => "symbol=BTCUSDT&interval=1m",
        _ if spec.params.contains(&"symbol") => "symbol=BTCUSDT",
        _ => "",
    };
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

fn fields(spec: &Spec, known: &[(usize, usize)]) -> Vec<(String, String)> {
    let mut fields = base(spec);
    for (name, value) in known {
        let Some(name) = spec.params.get(name % spec.params.len().max(1)) else { continue };
        let value = VALUES[*value].to_owned();
        match fields.iter_mut().find(|(n, _)| n == name) {
            Some(field) => field.1 = value,
            None => fields.push(((*name).to_owned(), value)),
        }
    }
    fields
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        prop::sample::select(VALUES).prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((".{0,6}", inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

const MESSAGES: &[&str] = &[
    r#"{"id":1,"method":"ping"}"#,
    r#"{"id":"a-1","method":"depth","params":{"symbol":"BTCUSDT","limit":5}}"#,
    r#"{"id":null,"method":"ticker.24hr","params":{"symbols":["BTCUSDT","ETHUSDT"]}}"#,
    r#"{"id":3,"method":"order.place","params":{"symbol":"BTCUSDT","apiKey":"key","timestamp":1}}"#,
    r#"{"id":4,"method":"userDataStream.unsubscribe","params":{"subscriptionId":0}}"#,
    r#"{"method":"SUBSCRIBE","params":["btcusdt@depth","!miniTicker@arr"],"id":1}"#,
    r#"{"method":"UNSUBSCRIBE","params":["btcusdt@kline_1m@+08:00"],"id":"x"}"#,
    r#"{"method":"SET_PROPERTY","params":["combined",true],"id":null}"#,
    r#"{"method":"LIST_SUBSCRIPTIONS","id":18446744073709551615}"#,
];

const JSON_PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ",",
    ":",
    "null",
    "true",
    "-",
    "1e999",
    "0.1",
    "\\u0000",
    "\\ud800",
    "\u{7f}",
    "\u{0}",
    "é",
    "\u{1F600}",
    "{\"id\":",
    "\"id\":2,",
    "999999999999999999999",
    " ",
    "\n",
    "\"method\":",
];

/// A message of either dialect with pieces put in, or JSON of its shape with anything as its values.
fn message() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(JSON_PIECES).prop_map(|text| text.as_bytes().to_vec());
    let changes = prop::collection::vec((any::<usize>(), 0..3_usize, piece), 0..4);
    let mutated = (prop::sample::select(MESSAGES), changes).prop_map(|(text, changes)| {
        String::from_utf8_lossy(&changed(text.as_bytes(), &changes)).into_owned()
    });
    let methods: Vec<&str> = SPECS.iter().map(|spec| spec.ws).collect();
    let method = prop_oneof![
        4 => prop::sample::select(methods).prop_map(Value::from),
        2 => prop::sample::select(vec!["SUBSCRIBE", "UNSUBSCRIBE", "GET_PROPERTY"]).prop_map(Value::from),
        1 => json_value(),
    ];
    let shaped = (json_value(), method, json_value()).prop_map(|(id, method, params)| {
        json!({"id": id, "method": method, "params": params}).to_string()
    });
    let deep = (1..4_000_usize).prop_map(|depth| "[".repeat(depth) + &"{\"a\":".repeat(depth));
    prop_oneof![4 => mutated, 4 => shaped, 1 => ".{0,80}", 1 => deep]
}

/// A frame: first byte, payload, whether masked, what its length claims to be.
type Frame = (u8, Vec<u8>, bool, Option<u64>);

fn one_frame() -> impl Strategy<Value = Frame> {
    let first = prop_oneof![
        6 => prop::sample::select(vec![0x81_u8, 0x01, 0x80, 0x00, 0x89, 0x8a, 0x88, 0x82]),
        1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        3 => message().prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..130),
    ];
    let claimed = prop_oneof![
        9 => Just(None),
        1 => prop::sample::select(vec![0, 1, 126, 65_536, 1 << 20, u64::MAX]).prop_map(Some),
    ];
    (first, payload, prop::bool::weighted(0.95), claimed)
}

const WS_PATHS: &[&str] = &[
    "/ws",
    "/ws/btcusdt@trade",
    "/ws/0",
    "/stream?streams=",
    "/stream?streams=btcusdt@depth@100ms/!miniTicker@arr&timeUnit=MICROSECOND",
    "/ws-api/v3",
    "/ws-api/v3?returnRateLimits=false",
];

const FAULT_KEYS: &[&str] = &[
    "kind",
    "target",
    "symbol",
    "count",
    "probability",
    "duration_ms",
    "latency_ms",
    "jitter_ms",
    "how",
    "status",
    "when",
    "code",
    "msg",
    "skew_ms",
    "colour",
];

const FAULT_VALUES: &[&str] = &[
    r#""disconnect""#,
    r#""half_open""#,
    r#""refuse_connect""#,
    r#""slow""#,
    r#""drop""#,
    r#""duplicate""#,
    r#""reorder""#,
    r#""gap""#,
    r#""stale_snapshot""#,
    r#""corrupt""#,
    r#""slice""#,
    r#""status""#,
    r#""lost_ack""#,
    r#""late_fill""#,
    r#""duplicate_fill""#,
    r#""reject""#,
    r#""clock_skew_ms""#,
    r#""server_shutdown""#,
    r#""symbol_status""#,
    r#""stream""#,
    r#""rest""#,
    r#""ws_api""#,
    r#""user_data""#,
    r#""BTCUSDT""#,
    "0",
    "1",
    "-1",
    "0.5",
    "2.5",
    "503",
    "600000",
    "-600000",
    "18446744073709551615",
    "-9223372036854775808",
    "1e308",
    "null",
    "true",
    "[]",
    "{}",
    r#""HALT""#,
    r#""json""#,
    r#""after""#,
    r#""""#,
];

/// A body of `/sim/faults`: a kind, and values for other keys; or of `/sim/market`; or anything.
fn control() -> impl Strategy<Value = (&'static str, String)> {
    let value = || prop::sample::select(FAULT_VALUES);
    let kind = prop::sample::select(&FAULT_VALUES[..19]);
    let more = prop::collection::vec((prop::sample::select(&FAULT_KEYS[1..]), value()), 0..4);
    let fault = (kind, more).prop_map(|(kind, more)| {
        let more: String = more.iter().map(|(key, value)| format!(",\"{key}\":{value}")).collect();
        ("faults", format!("{{\"kind\":{kind}{more}}}"))
    });
    let mid = prop_oneof![
        prop::sample::select(VALUES).prop_map(|text| json!(text)),
        any::<f64>().prop_map(|mid| json!(mid)),
        (1..2_000_000_i64).prop_map(|mid| json!(mid)),
    ];
    let at = prop_oneof![0..2_000_u64, any::<u64>()];
    let path = prop::collection::vec((at, mid.clone()), 0..4);
    let symbol = prop::sample::select(vec!["BTCUSDT", "ETHUSDT", "", "NOPE"]);
    let jump = (symbol.clone(), mid).prop_map(|(s, mid)| json!({"symbol": s, "mid": mid}));
    let lead = (symbol, path).prop_map(|(s, path)| json!({"symbol": s, "path": path}));
    prop_oneof![
        5 => fault,
        2 => jump.prop_map(|body| ("market", body.to_string())),
        2 => lead.prop_map(|body| ("market", body.to_string())),
        1 => json_value().prop_map(|body| ("market", body.to_string())),
        1 => json_value().prop_map(|body| ("faults", body.to_string())),
    ]
}

// --- properties ----------------------------------------------------------------------------------------------------

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn http_bytes(all in prop::collection::vec((connection(), prop::collection::vec(any::<usize>(), 0..3)), 1..12)) {
        let mut target = Target::new();
        for (bytes, cuts) in &all {
            target.raw(bytes, cuts);
            target.check();
        }
        target.check_all();
    }

    #[test]
    fn forms(all in prop::collection::vec(form(), 1..40)) {
        let mut target = Target::new();
        for (at, known, wild, in_body, sign) in &all {
            let spec = &SPECS[*at];
            if spec.rest.1.is_empty() {
                continue;
            }
            let mut pairs: Vec<String> =
                fields(spec, known).iter().map(|(name, value)| format!("{name}={value}")).collect();
            pairs.extend(wild.iter().map(|(name, value)| format!("{name}={value}")));
            target.rest(spec, pairs.join("&").as_bytes(), *in_body, *sign);
            check_money(target.world.venue.exchange());
        }
        target.check_all();
    }

    #[test]
    fn signed_api_calls(all in prop::collection::vec((0..SPECS.len(), prop::collection::vec((0..64_usize, 0..VALUES.len()), 0..8), prop::option::weighted(0.3, (0..64_usize, json_value()))), 1..40)) {
        let mut target = Target::new();
        let mut stream = target.upgraded("/ws-api/v3");
        for (at, known, odd) in &all {
            let spec = &SPECS[*at];
            let fields = fields(spec, known).into_iter();
            let mut params: Map<String, Value> =
                fields.map(|(name, value)| (name, Value::from(value))).collect();
            if let Some((name, value)) = odd
                && let Some(name) = spec.params.get(name % spec.params.len().max(1))
            {
                params.insert((*name).to_owned(), value.clone());
            }
            target.api(&mut *stream, spec, params);
            check_money(target.world.venue.exchange());
        }
        drop(stream);
        target.check_all();
    }

    #[test]
    fn messages(all in prop::collection::vec((prop::sample::select(WS_PATHS), message()), 1..24)) {
        let mut target = Target::new();
        for (path, text) in &all {
            let mut stream = target.upgraded(path);
            let answer = target.message(&mut *stream, text);
            prop_assert!(answer.is_some(), "{path}: {text}: no answer");
        }
        target.check_all();
    }

    #[test]
    fn ws_frames(all in prop::collection::vec((prop::sample::select(WS_PATHS), prop::collection::vec(one_frame(), 0..8), prop::collection::vec(any::<usize>(), 0..3)), 1..12)) {
        let mut target = Target::new();
        for (path, frames, cuts) in &all {
            let bytes: Vec<u8> =
                frames.iter().flat_map(|(first, payload, masked, claimed)| frame(*first, payload, *masked, *claimed)).collect();
            target.frames(path, &bytes, cuts);
            target.check();
        }
        target.check_all();
    }

    #[test]
    fn ws_bytes(all in prop::collection::vec((prop::sample::select(WS_PATHS), prop::collection::vec(any::<u8>(), 0..300)), 1..12)) {
        let mut target = Target::new();
        for (path, bytes) in &all {
            target.frames(path, bytes, &[]);
        }
        target.check_all();
    }

    #[test]
    fn control_bodies(all in prop::collection::vec((control(), 0..3_u8, prop::option::weighted(0.1, changes())), 1..12)) {
        let mut target = Target::new();
        let _listener = target.upgraded("/ws/btcusdt@trade");
        let _session = target.upgraded("/ws-api/v3");
        for ((path, body), then, changes) in &all {
            let body = changed(body.as_bytes(), changes.as_deref().unwrap_or_default());
            target.control("POST", path, &body);
            // Whatever the faults do to a client, they do not break the venue.
            let mut stream = target.dial();
            let query = format!("{LIMIT_BUY}&timestamp={}", target.world.ms());
            let request = format!(
                "POST /api/v3/order?{query}&signature={} HTTP/1.1\r\nhost: v\r\nx-mbx-apikey: {KEY}\r\n\
                 content-length: 0\r\n\r\n",
                hmac(&query)
            );
            target.talk(&mut *stream, request.as_bytes(), &[]);
            drop(stream);
            target.world.pass(u64::from(*then) * 60);
            check_money(target.world.venue.exchange());
        }
        for path in ["state", "state?limit=0", "state?limit=99999999999999999999", "faults", "nothing"] {
            target.control("GET", path, b"");
        }
        drop((_listener, _session));
        target.check_all();
    }
}

// --- the borders, one by one ---------------------------------------------------------------------------------------

/// The first answer's status to bytes, and how many of them the venue took.
fn status(bytes: &[u8]) -> (u16, usize) {
    let mut target = Target::new();
    let mut stream = target.dial();
    let heard = target.talk(&mut *stream, bytes, &[]);
    judge_http(&heard.bytes, bytes);
    drop(stream);
    target.check_all();
    let status = std::str::from_utf8(heard.bytes.get(9..12).unwrap_or(b"0"));
    (
        status.ok().and_then(|s| s.parse().ok()).unwrap_or(0),
        heard.before_answer.unwrap_or(heard.taken),
    )
}

#[track_caller]
fn answers(head: &str, body: &str, expect: u16) {
    let bytes = format!("{head}\r\n\r\n{body}");
    assert_eq!(status(bytes.as_bytes()).0, expect, "{head:?}");
}

#[test]
fn lengths_that_contradict_each_other() {
    let post = "POST /api/v3/order HTTP/1.1\r\nhost: v\r\n";
    answers(&format!("{post}content-length: 3\r\ncontent-length: 4"), "abcd", 400);
    answers(&format!("{post}content-length: 3\r\ncontent-length: 3"), "abc", 401);
    answers(&format!("{post}content-length: 3, 4"), "abcd", 400);
    answers(&format!("{post}content-length: +3"), "abc", 400);
    answers(&format!("{post}content-length: -3"), "abc", 400);
    answers(&format!("{post}content-length: 18446744073709551616"), "", 400);
    answers(&format!("{post}content-length: 18446744073709551615"), "", 413);
    answers(&format!("{post}content-length: 1048577"), "", 413);
    answers(&format!("{post}content-length: 3\r\ntransfer-encoding: chunked"), "abc", 400);
    answers(&format!("{post}transfer-encoding: chunked, chunked"), "0\r\n\r\n", 400);
    answers(&format!("{post}transfer-encoding: identity"), "", 400);
    answers(&format!("{post}transfer-encoding: chunked"), "zz\r\n", 400);
    answers(&format!("{post}transfer-encoding: chunked"), "ffffffffffffffff\r\n", 413);
    answers(&format!("{post}transfer-encoding: chunked"), "3\r\nabcd\r\n0\r\n\r\n", 400);
    answers(&format!("{post}transfer-encoding: chunked"), "3\r\nabc\r\n0\r\n\r\n", 401);
}

#[test]
fn requests_split_at_every_byte_are_the_same() {
    for request in REQUESTS {
        let mut target = Target::new();
        let mut stream = target.dial();
        let whole = target.talk(&mut *stream, request.as_bytes(), &[]).bytes;
        let mut stream = target.dial();
        let every: Vec<usize> = (0..request.len()).collect();
        let mut parts = target.talk(&mut *stream, request.as_bytes(), &every).bytes;
        // A client that waits for it is told to go on; one that does not is not.
        if let Some(rest) = parts.strip_prefix(b"HTTP/1.1 100 Continue\r\n\r\n") {
            parts = rest.to_vec();
        }
        let line = |bytes: &[u8]| bytes.split(|b| *b == b'\r').next().map(<[u8]>::to_vec);
        assert_eq!(line(&parts), line(&whole), "{request}");
        judge_http(&parts, request.as_bytes());
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut target = Target::new();
    let all: String = (1..=50)
        .map(|n| format!("GET /api/v3/depth?symbol=BTCUSDT&limit={n} HTTP/1.1\r\nhost: v\r\n\r\n"))
        .collect();
    let mut stream = target.dial();
    let heard = target.talk(&mut *stream, all.as_bytes(), &[]);
    assert_eq!(judge_http(&heard.bytes, all.as_bytes()), 50);
}

/// What never ends is refused with `expect` before the venue has taken more than the cap and what is on its way.
#[track_caller]
fn endless(head: &str, piece: &str, expect: u16, cap: usize) {
    const ON_ITS_WAY: usize = 256 * 1024 + 64 * 1024;
    let mut bytes = head.as_bytes().to_vec();
    while bytes.len() < cap + 2 * ON_ITS_WAY {
        bytes.extend_from_slice(piece.as_bytes());
    }
    let (status, taken) = status(&bytes);
    assert_eq!(status, expect, "{head:?} {piece:?}");
    assert!(taken <= cap + ON_ITS_WAY, "{head:?} {piece:?}: {taken} bytes taken");
}

#[test]
fn what_never_ends_is_refused_at_the_cap() {
    let get = "GET /api/v3/ping HTTP/1.1\r\n";
    let chunked = "POST /api/v3/order HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n";
    endless("", "\r\n", 431, HEAD_BYTES_MAX);
    endless("", "\n", 431, HEAD_BYTES_MAX);
    endless("", "G", 431, HEAD_BYTES_MAX);
    endless("GET /", "a", 431, HEAD_BYTES_MAX);
    endless("GET /?", "a=1&", 431, HEAD_BYTES_MAX);
    endless(&format!("{get}x: "), "a", 431, HEAD_BYTES_MAX);
    endless(get, "x: y\r\n", 431, HEAD_BYTES_MAX);
    let chunk = format!("400\r\n{}\r\n", "a".repeat(1_024));
    endless(chunked, &chunk, 413, BODY_BYTES_MAX);
    endless(chunked, "3;", 413, BODY_BYTES_MAX);
    endless(&format!("{chunked}0\r\n"), "x: y\r\n", 400, BODY_BYTES_MAX);
}

/// How a WebSocket ends that says these bytes: the code of the venue's close frame, if it ended at all.
#[track_caller]
fn ends(path: &str, bytes: &[u8], expect: Option<u16>) {
    let mut target = Target::new();
    let mut stream = target.upgraded(path);
    let heard = target.talk(&mut *stream, bytes, &[]);
    let last = said(&heard.bytes).pop();
    match expect {
        Some(code) => assert_eq!(last, Some(Said::Close(Some(code))), "{}", show(bytes)),
        None => assert!(!heard.ended, "{}: {last:?}", show(bytes)),
    }
    drop(stream);
    target.check_all();
}

#[test]
fn broken_frames_end_with_their_code() {
    for path in ["/ws", "/ws-api/v3"] {
        let ends = |bytes: &[u8], expect: Option<u16>| ends(path, bytes, expect);
        ends(&frame(0x81, b"{}", false, None), Some(1002));
        ends(&frame(0xc1, b"{}", true, None), Some(1002));
        ends(&frame(0x91, b"{}", true, None), Some(1002));
        ends(&frame(0xa1, b"{}", true, None), Some(1002));
        for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
            ends(&frame(0x80 | opcode, b"", true, None), Some(1002));
        }
        ends(&frame(0x80, b"x", true, None), Some(1002));
        ends(&[frame(0x01, b"x", true, None), frame(0x81, b"x", true, None)].concat(), Some(1002));
        ends(&frame(0x09, b"", true, None), Some(1002));
        ends(&frame(0x89, &[b'x'; 126], true, None), Some(1002));
        ends(&frame(0x8a, &[b'x'; 126], true, None), Some(1002));
        ends(&frame(0x88, &[b'x'; 126], true, None), Some(1002));
        ends(&frame(0x88, &[3], true, None), Some(1002));
        ends(&frame(0x88, &[3, 0xed], true, None), Some(1002));
        ends(&frame(0x88, &[3, 0xe8], true, None), Some(1000));
        ends(&frame(0x88, &[0x0f, 0xa0], true, None), Some(4000));
        ends(&frame(0x81, b"\xff", true, None), Some(1007));
        ends(
            &[frame(0x01, b"\xc3", true, None), frame(0x80, b"\x28", true, None)].concat(),
            Some(1007),
        );
        ends(&frame(0x82, b"x", true, None), Some(1003));
        ends(&frame(0x81, b"", true, Some(MESSAGE_BYTES_MAX as u64 + 1)), Some(1009));
        ends(&frame(0x81, b"", true, Some(1 << 62)), Some(1009));
        let piece = frame(0x00, &[b' '; 10_000], true, None);
        let many = [frame(0x01, b"{", true, None), piece.repeat(40)].concat();
        ends(&many, Some(1009));
        ends(&frame(0x89, b"hello", true, None), None);
        ends(&frame(0x8a, b"nobody asked", true, None), None);
        ends(&frame(0x81, b"{", true, Some(5)), None);
    }
}

#[test]
fn a_sixth_message_in_a_second_ends_a_stream() {
    let list = frame(0x81, br#"{"method":"LIST_SUBSCRIPTIONS","id":1}"#, true, None);
    ends("/ws", &list.repeat(5), None);
    ends("/ws", &list.repeat(200), Some(1008));
    ends("/ws-api/v3", &list.repeat(200), None);
}

#[test]
fn ids_that_no_client_could_read_back_are_not_echoed() {
    let mut target = Target::new();
    let mut stream = target.upgraded("/ws-api/v3");
    let mut ask = |id: &str| {
        let text = format!("{{\"id\":{id},\"method\":\"ping\"}}");
        let answer = target.message(&mut *stream, &text).expect("an answer");
        (answer["status"] == 200, answer["id"].to_string())
    };
    for id in ["1e999", "1.5", "\"\\ud800\"", "[1]", "{}", "true", "9223372036854775808"] {
        assert_eq!(ask(id), (false, "null".to_owned()), "{id}");
    }
    for id in ["0", "-1", "9223372036854775807", "null", "\"\"", "\"0\""] {
        assert_eq!(ask(id), (true, id.to_owned()), "{id}");
    }
}
