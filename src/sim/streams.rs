//! Market stream subscriptions. In: a connection's path and its SUBSCRIBE messages. Out: answers, and for every
//! published event the connections that want it, each text made once and shared.
//!
//! Stream names that mean nothing here are accepted and stay silent, as at the venue; so are `@referencePrice` and
//! `@blockTrade`, because no symbol here has either. A stream that was asked for under another of its names
//! (`@depth@1000ms`) is told under that name. permessage-deflate is declined: frames are never compressed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::value::RawValue;
use tungstenite::Utf8Bytes;

use crate::clock::{MonoNs, UtcNs};
use crate::net::server::ConnId;

use super::candles::Interval;
use super::json::{Json, push_string};

/// Streams per connection.
const STREAMS_MAX: usize = 1_024;

/// Messages that a connection may send per second.
const MESSAGES_PER_S_MAX: u32 = 5;

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamKind {
    /// `@trade`
    Trade,
    /// `@aggTrade`
    AggTrade,
    /// `@bookTicker`
    BookTicker,
    /// `@depth@100ms` (0), `@depth` (1) or `@depth@1000ms` (2).
    Depth(usize),
    /// `@depth5`, `@depth10`, `@depth20`, with the speed as in `Depth`.
    Partial(usize, usize),
    /// `@kline_<interval>`, in UTC or, when true, at `+08:00`.
    Candle(Interval, bool),
    /// `@miniTicker`, `!miniTicker@arr`.
    MiniTicker,
    /// `@ticker`.
    Ticker,
    /// `@ticker_<window>`, `!ticker_<window>@arr`: index into the windows.
    WindowTicker(usize),
    /// `@avgPrice`.
    Average,
}

/// The windows of `@ticker_<window>` and their length in milliseconds.
pub(super) const WINDOWS: [(&str, i64); 3] =
    [("1h", 3_600_000), ("4h", 14_400_000), ("1d", 86_400_000)];

/// The speed of streams whose name says `@1000ms`, which have the frames of speed 1.
const NAMED_SLOW: usize = 2;

/// In place of a symbol where a stream tells about all of them.
pub(super) const ALL_MARKET: usize = usize::MAX;

/// One stream: which symbol, or all of them, and what.
pub type StreamKey = (usize, StreamKind);

#[derive(Debug)]
struct StreamConn {
    combined: bool,
    micros: bool,
    names: Vec<String>,
    second: MonoNs,
    messages: u32,
}

/// All subscriptions.
#[derive(Debug, Default)]
pub struct Streams {
    symbols: Vec<String>,
    conns: BTreeMap<ConnId, StreamConn>,
    by_key: BTreeMap<StreamKey, Vec<ConnId>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum Method {
    Subscribe,
    Unsubscribe,
    ListSubscriptions,
    SetProperty,
    GetProperty,
}

/// The id alone: it is echoed even where the rest of a request makes no sense. It may be missing and is `null` then: the
/// documentation has an error for that, yet the venue answers clients that send none.
#[derive(Deserialize)]
struct Identified<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Request<'a> {
    method: Method,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

impl Streams {
    /// Subscriptions to the streams of `symbols`, upper case, in the order of the listings.
    pub fn new<'a>(symbols: impl Iterator<Item = &'a str>) -> Self {
        Self { symbols: symbols.map(str::to_lowercase).collect(), ..Self::default() }
    }

    /// Opens a connection to `/ws...` or `/stream...`; false when the path is another one.
    pub fn open(&mut self, conn: ConnId, path: &str, query: &str, now: MonoNs) -> bool {
        let (combined, names) = match path.strip_prefix("/ws") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => (false, rest.to_owned()),
            _ if path.trim_end_matches('/') == "/stream" => {
                let streams = query.split('&').find_map(|pair| pair.strip_prefix("streams="));
                (true, streams.unwrap_or_default().replace("%40", "@").replace("%2F", "/"))
            }
            _ => return false,
        };
        let micros = query.split('&').any(|pair| pair.eq_ignore_ascii_case("timeUnit=MICROSECOND"));
        let opened = StreamConn { combined, micros, names: Vec::new(), second: now, messages: 0 };
        self.conns.insert(conn, opened);
        for name in names.split('/').filter(|name| !name.is_empty()) {
            // A path that names too many streams keeps the first ones.
            let _ = self.subscribe(conn, name);
        }
        true
    }

    /// Forgets a connection.
    pub fn close(&mut self, conn: ConnId) {
        let names = self.conns.remove(&conn).map(|c| c.names).unwrap_or_default();
        for name in names {
            self.forget(conn, &name);
        }
    }

    /// Whether `conn` is a stream connection.
    pub fn contains(&self, conn: ConnId) -> bool {
        self.conns.contains_key(&conn)
    }

    /// A text that belongs to no subscription, as a connection gets it.
    pub fn notice(&self, conn: ConnId, name: &str, event: impl Fn(bool) -> String) -> String {
        let Some(open) = self.conns.get(&conn) else { return event(false) };
        let event = event(open.micros);
        if open.combined { wrapped(name, &event) } else { event }
    }

    /// All connections and what they listen to.
    pub fn connections(&self) -> impl Iterator<Item = (ConnId, &[String])> {
        self.conns.iter().map(|(conn, c)| (*conn, c.names.as_slice()))
    }

    /// Whether anybody listens to anything.
    pub fn any_subscription(&self) -> bool {
        !self.by_key.is_empty()
    }

    /// Whether anybody listens to a stream.
    pub fn wants(&self, key: StreamKey) -> bool {
        self.by_key.contains_key(&key)
            || other_name(key).is_some_and(|k| self.by_key.contains_key(&k))
    }

    /// Whether anybody listens to partial books of `speed`.
    pub fn any_partial(&self, speed: usize) -> bool {
        let same = |of: usize| of == speed || (of == NAMED_SLOW && speed == 1);
        self.by_key.keys().any(|(_, kind)| matches!(kind, StreamKind::Partial(_, of) if same(*of)))
    }

    /// The streams with listeners that tell by the clock and not when something happens.
    pub fn by_the_clock(&self) -> impl Iterator<Item = StreamKey> + '_ {
        let by_the_clock = |kind: StreamKind| {
            matches!(
                kind,
                StreamKind::Candle(..)
                    | StreamKind::MiniTicker
                    | StreamKind::Ticker
                    | StreamKind::WindowTicker(_)
                    | StreamKind::Average
            )
        };
        self.by_key.keys().copied().filter(move |(_, kind)| by_the_clock(*kind))
    }

    fn parse(&self, name: &str) -> Option<StreamKey> {
        if let Some(all) = name.strip_prefix('!') {
            // The venue's old names with a speed; python-binance still asks for them.
            let all = all.strip_suffix("@1000ms").or(all.strip_suffix("@3000ms")).unwrap_or(all);
            let kind = match all.strip_suffix("@arr")? {
                "miniTicker" => StreamKind::MiniTicker,
                other => StreamKind::WindowTicker(window(other)?),
            };
            return Some((ALL_MARKET, kind));
        }
        let (symbol, stream) = name.split_once('@')?;
        let symbol = self.symbols.iter().position(|s| s == symbol)?;
        let kind = match stream {
            "trade" => StreamKind::Trade,
            "aggTrade" => StreamKind::AggTrade,
            "bookTicker" => StreamKind::BookTicker,
            "miniTicker" => StreamKind::MiniTicker,
            "ticker" => StreamKind::Ticker,
            "avgPrice" => StreamKind::Average,
            other => match other.strip_prefix("kline_") {
                Some(interval) => {
                    let east = interval.strip_suffix("@+08:00");
                    let interval = Interval::named(east.unwrap_or(interval))?;
                    StreamKind::Candle(interval, east.is_some())
                }
                None => depth(other).or_else(|| window(other).map(StreamKind::WindowTicker))?,
            },
        };
        Some((symbol, kind))
    }

    fn subscribe(&mut self, conn: ConnId, name: &str) -> bool {
        let key = self.parse(name);
        let Some(open) = self.conns.get_mut(&conn) else { return false };
        if open.names.iter().any(|known| known == name) {
            return true;
        }
        if open.names.len() >= STREAMS_MAX || name.len() > 128 {
            return false;
        }
        open.names.push(name.to_owned());
        if let Some(key) = key {
            let listeners = self.by_key.entry(key).or_default();
            if !listeners.contains(&conn) {
                listeners.push(conn);
            }
        }
        true
    }

    fn forget(&mut self, conn: ConnId, name: &str) {
        let Some(key) = self.parse(name) else { return };
        if let Some(listeners) = self.by_key.get_mut(&key) {
            listeners.retain(|c| *c != conn);
            if listeners.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }

    /// Counts a message, a ping or a pong of a connection; whether there were not too many in this second.
    pub fn count(&mut self, conn: ConnId, now: MonoNs) -> bool {
        let Some(open) = self.conns.get_mut(&conn) else { return true };
        if now.since(open.second).as_millis() >= 1_000 {
            (open.second, open.messages) = (now, 0);
        }
        open.messages += 1;
        open.messages <= MESSAGES_PER_S_MAX
    }

    /// Answers a message of a stream connection; `None` when it sent too many and must go.
    pub fn request(&mut self, conn: ConnId, text: &str, now: MonoNs) -> Option<String> {
        if !self.count(conn, now) {
            return None;
        }
        if let Err(e) = serde_json::from_str::<&RawValue>(text) {
            return Some(refusal(3, &format!("Invalid JSON: {e}"), "null"));
        }
        let identified = serde_json::from_str::<Identified<'_>>(text);
        let id = identified.ok().map(|request| request.id.map_or("null", RawValue::get));
        let id = id.filter(|id| is_request_id(id));
        let Some(id) = id else {
            let msg = "Invalid request: request ID must be an unsigned integer";
            return Some(refusal(2, msg, "null"));
        };
        let request: Request<'_> = match serde_json::from_str(text) {
            Ok(request) => request,
            Err(e) => return Some(refusal(2, &format!("Invalid request: {e}"), id)),
        };
        Some(match self.apply(conn, &request) {
            Ok(result) => Json::object(|j| {
                j.f_raw("result", &result).f_raw("id", id);
            }),
            Err((code, msg)) => refusal(code, &msg, id),
        })
    }

    fn apply(&mut self, conn: ConnId, request: &Request<'_>) -> Result<String, (i32, String)> {
        let params = request.params.map_or("[]", RawValue::get);
        match request.method {
            Method::Subscribe => self.subscribe_all(conn, &names(params)?),
            Method::Unsubscribe => {
                for name in names(params)? {
                    if let Some(open) = self.conns.get_mut(&conn) {
                        open.names.retain(|known| *known != name);
                    }
                    self.forget(conn, &name);
                }
                Ok("null".to_owned())
            }
            Method::ListSubscriptions if !names(params)?.is_empty() => Err(too_many()),
            Method::ListSubscriptions => Ok(Json::array(|j| {
                for name in self.conns.get(&conn).map_or(&[][..], |c| &c.names) {
                    j.text(name);
                }
            })),
            Method::GetProperty => {
                property(params, 1)?;
                let combined = self.conns.get(&conn).is_some_and(|c| c.combined);
                Ok(combined.to_string())
            }
            Method::SetProperty => {
                let value = property(params, 2)?;
                let value = value.and_then(|value| value.as_bool());
                let value =
                    value.ok_or_else(|| (1, "Invalid value type: expected Boolean".to_owned()))?;
                if let Some(open) = self.conns.get_mut(&conn) {
                    open.combined = value;
                }
                Ok("null".to_owned())
            }
        }
    }

    /// Subscribes to all of `names`, or to none when there is no room for them.
    fn subscribe_all(&mut self, conn: ConnId, names: &[String]) -> Result<String, (i32, String)> {
        let open = self.conns.get(&conn).map_or(&[][..], |open| &open.names);
        let new: BTreeSet<&String> = names.iter().filter(|name| !open.contains(name)).collect();
        if open.len() + new.len() > STREAMS_MAX {
            return Err(too_many());
        }
        for name in names {
            if !self.subscribe(conn, name) {
                return Err(too_many());
            }
        }
        Ok("null".to_owned())
    }

    /// Gives every listener of `key`, by whichever of its names, its text to `send`. `encode` makes the event, with
    /// times in microseconds when asked so; each of the four forms of a name is made at most once.
    pub fn publish(
        &self,
        key: StreamKey,
        encode: impl Fn(bool) -> String,
        mut send: impl FnMut(ConnId, &Utf8Bytes),
    ) {
        self.publish_named(key, &encode, &mut send);
        if let Some(other) = other_name(key) {
            self.publish_named(other, &encode, &mut send);
        }
    }

    fn publish_named(
        &self,
        key: StreamKey,
        encode: &impl Fn(bool) -> String,
        send: &mut impl FnMut(ConnId, &Utf8Bytes),
    ) {
        let Some(listeners) = self.by_key.get(&key) else { return };
        let mut forms: [Option<Utf8Bytes>; 4] = [None, None, None, None];
        for conn in listeners {
            let Some(open) = self.conns.get(conn) else { continue };
            let form = &mut forms[usize::from(open.combined) + 2 * usize::from(open.micros)];
            let text = form.get_or_insert_with(|| {
                let event = encode(open.micros);
                if open.combined { wrapped(&self.name(key), &event).into() } else { event.into() }
            });
            send(*conn, text);
        }
    }

    fn name(&self, (symbol, kind): StreamKey) -> String {
        let fast = |speed: usize| ["@100ms", "", "@1000ms"].get(speed).copied().unwrap_or("");
        let Some(symbol) = self.symbols.get(symbol) else {
            return match kind {
                StreamKind::WindowTicker(window) => format!("!ticker_{}@arr", WINDOWS[window].0),
                _ => "!miniTicker@arr".to_owned(),
            };
        };
        match kind {
            StreamKind::Candle(interval, east) => {
                format!("{symbol}@kline_{}{}", interval.name(), if east { "@+08:00" } else { "" })
            }
            StreamKind::MiniTicker => format!("{symbol}@miniTicker"),
            StreamKind::Ticker => format!("{symbol}@ticker"),
            StreamKind::WindowTicker(window) => format!("{symbol}@ticker_{}", WINDOWS[window].0),
            StreamKind::Average => format!("{symbol}@avgPrice"),
            StreamKind::Trade => format!("{symbol}@trade"),
            StreamKind::AggTrade => format!("{symbol}@aggTrade"),
            StreamKind::BookTicker => format!("{symbol}@bookTicker"),
            StreamKind::Depth(speed) => format!("{symbol}@depth{}", fast(speed)),
            StreamKind::Partial(n, speed) => format!("{symbol}@depth{n}{}", fast(speed)),
        }
    }
}

/// `depth`, `depth5`, `depth10`, `depth20`, and their speed.
fn depth(stream: &str) -> Option<StreamKind> {
    let (stream, speed) = match (stream.strip_suffix("@100ms"), stream.strip_suffix("@1000ms")) {
        (Some(stream), _) => (stream, 0),
        (_, Some(stream)) => (stream, NAMED_SLOW),
        _ => (stream, 1),
    };
    match stream {
        "depth" => Some(StreamKind::Depth(speed)),
        "depth5" => Some(StreamKind::Partial(5, speed)),
        "depth10" => Some(StreamKind::Partial(10, speed)),
        "depth20" => Some(StreamKind::Partial(20, speed)),
        _ => None,
    }
}

/// An event as combined streams bring it.
fn wrapped(name: &str, event: &str) -> String {
    let mut out = String::with_capacity(event.len() + 64);
    out.push_str("{\"stream\":");
    push_string(&mut out, name);
    out.push_str(",\"data\":");
    out.push_str(event);
    out.push('}');
    out
}

/// The window of `ticker_<window>`.
fn window(stream: &str) -> Option<usize> {
    let name = stream.strip_prefix("ticker_")?;
    WINDOWS.iter().position(|(known, _)| *known == name)
}

/// A moment as an event carries it.
pub fn stamp(utc: UtcNs, micros: bool) -> i64 {
    if micros { utc.as_micros() } else { utc.as_millis() }
}

/// Whether `id` is what the documentation accepts: null, a 64-bit integer, or text of at most 36 characters.
pub(super) fn is_request_id(id: &str) -> bool {
    if id.starts_with('"') {
        let text: Result<String, _> = serde_json::from_str(id);
        return text.is_ok_and(|text| text.len() <= 36);
    }
    id == "null" || id.parse::<i64>().is_ok()
}

/// The other name of a slow stream.
fn other_name((symbol, kind): StreamKey) -> Option<StreamKey> {
    let kind = match kind {
        StreamKind::Depth(1) => StreamKind::Depth(NAMED_SLOW),
        StreamKind::Partial(levels, 1) => StreamKind::Partial(levels, NAMED_SLOW),
        _ => return None,
    };
    Some((symbol, kind))
}

fn too_many() -> (i32, String) {
    (2, "Invalid request: too many parameters".to_owned())
}

/// The stream names of a request.
fn names(params: &str) -> Result<Vec<String>, (i32, String)> {
    let not_names = |e| (2, format!("Invalid request: {e}"));
    serde_json::from_str(params).map_err(not_names)
}

/// What follows the name of the one property, `combined`, in a request of at most `len` parameters.
fn property(params: &str, len: usize) -> Result<Option<serde_json::Value>, (i32, String)> {
    let not_named = || (2, "Invalid request: property name must be a string".to_owned());
    let items: Vec<serde_json::Value> = serde_json::from_str(params).map_err(|_| not_named())?;
    let name = items.first().and_then(|v| v.as_str()).ok_or_else(not_named)?;
    if name != "combined" {
        return Err((0, "Unknown property".to_owned()));
    }
    if items.len() > len {
        return Err(too_many());
    }
    Ok(items.into_iter().nth(1))
}

fn refusal(code: i32, msg: &str, id: &str) -> String {
    Json::object(|j| {
        j.key("error").obj(|j| {
            j.f_int("code", code).f_text("msg", msg);
        });
        j.f_raw("id", id);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(path: &str, query: &str) -> Streams {
        let mut streams = Streams::new(["BTCUSDT", "ETHUSDT"].into_iter());
        assert!(streams.open(ConnId(1), path, query, MonoNs::ZERO));
        streams
    }

    #[track_caller]
    fn ask(text: &str, expect: &str) {
        let mut streams = open("/ws/btcusdt@trade", "");
        let answer = streams.request(ConnId(1), text, MonoNs::ZERO).expect("not too many");
        assert_eq!(answer, expect, "{text}");
    }

    #[test]
    fn answers() {
        ask(
            r#"{"method":"LIST_SUBSCRIPTIONS","id":"a"}"#,
            r#"{"result":["btcusdt@trade"],"id":"a"}"#,
        );
        ask(r#"{"method":"SUBSCRIBE","params":["x"],"id":7}"#, r#"{"result":null,"id":7}"#);
        ask(
            r#"{"method":"GET_PROPERTY","params":["combined"],"id":2}"#,
            r#"{"result":false,"id":2}"#,
        );
        ask(
            r#"{"method":"SET_PROPERTY","params":["combined",3],"id":2}"#,
            r#"{"error":{"code":1,"msg":"Invalid value type: expected Boolean"},"id":2}"#,
        );
        ask(
            r#"{"method":"LIST_SUBSCRIPTIONS","id":null}"#,
            r#"{"result":["btcusdt@trade"],"id":null}"#,
        );
    }

    #[test]
    fn a_missing_id_is_null() {
        ask(r#"{"method":"UNSUBSCRIBE","params":["x"]}"#, r#"{"result":null,"id":null}"#);
    }

    #[track_caller]
    fn error(text: &str, code: i32, msg: &str) {
        let mut streams = open("/ws", "");
        let answer = streams.request(ConnId(1), text, MonoNs::ZERO).expect("an answer");
        let start = format!(r#"{{"error":{{"code":{code},"msg":"{msg}"#);
        assert!(answer.starts_with(&start), "{text}: {answer}");
    }

    #[test]
    fn errors_have_the_documented_words() {
        let id = "Invalid request: request ID must be an unsigned integer";
        error(r#"{"method":"LIST_SUBSCRIPTIONS","id":true}"#, 2, id);
        error(r#"{"method":"LIST_SUBSCRIPTIONS","id":1.5}"#, 2, id);
        error(
            r#"{"method":"LIST_SUBSCRIPTIONS","id":"1234567890123456789012345678901234567"}"#,
            2,
            id,
        );
        error(
            r#"{"method":"LIST_SUBSCRIPTIONS","params":["x"],"id":1}"#,
            2,
            "Invalid request: too many parameters",
        );
        error(
            r#"{"method":"GET_PROPERTY","params":["combined",1],"id":1}"#,
            2,
            "Invalid request: too many parameters",
        );
        error(
            r#"{"method":"SET_PROPERTY","params":["combined",true,1],"id":1}"#,
            2,
            "Invalid request: too many parameters",
        );
        error(
            r#"{"method":"GET_PROPERTY","id":1}"#,
            2,
            "Invalid request: property name must be a string",
        );
        error(
            r#"{"method":"GET_PROPERTY","params":[1],"id":1}"#,
            2,
            "Invalid request: property name must be a string",
        );
        error(r#"{"method":"SET_PROPERTY","params":["x",true],"id":1}"#, 0, "Unknown property");
        error(
            r#"{"method":"SET_PROPERTY","params":["combined"],"id":1}"#,
            1,
            "Invalid value type: expected Boolean",
        );
        error(
            r#"{"params":[],"id":1}"#,
            2,
            "Invalid request: missing field `method` at line 1 column ",
        );
        let methods =
            "`SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`";
        let unknown = format!(
            "Invalid request: unknown variant `subscribe`, expected one of {methods} at line 1 column "
        );
        error(r#"{"method":"subscribe","params":[],"id":1}"#, 2, &unknown);
        error("{nope", 3, "Invalid JSON: ");
    }

    #[test]
    fn a_stream_ends_and_is_told_under_the_name_it_was_asked_for() {
        let mut streams = open("/stream", "streams=btcusdt@depth@1000ms/btcusdt@depth");
        let told = |streams: &Streams| {
            let mut names = Vec::new();
            let send = |_, text: &Utf8Bytes| names.push(text.split('"').nth(3).map(str::to_owned));
            streams.publish((0, StreamKind::Depth(1)), |_| "{}".to_owned(), send);
            names.into_iter().flatten().collect::<Vec<_>>()
        };
        assert_eq!(told(&streams), ["btcusdt@depth", "btcusdt@depth@1000ms"]);
        let end = r#"{"method":"UNSUBSCRIBE","params":["btcusdt@depth@1000ms"],"id":1}"#;
        streams.request(ConnId(1), end, MonoNs::ZERO);
        assert_eq!(told(&streams), ["btcusdt@depth"]);
    }

    #[test]
    fn a_connection_has_room_for_so_many_streams() {
        let mut streams = open("/ws/btcusdt@trade", "");
        let ask = |streams: &mut Streams, from: usize, to: usize| {
            let names: Vec<String> = (from..to).map(|n| format!("\"s{n}\"")).collect();
            let text = format!(r#"{{"method":"SUBSCRIBE","params":[{}],"id":1}}"#, names.join(","));
            streams.request(ConnId(1), &text, MonoNs::ZERO).expect("few messages")
        };
        assert!(ask(&mut streams, 0, STREAMS_MAX).contains("too many parameters"));
        assert_eq!(streams.conns[&ConnId(1)].names.len(), 1, "all or nothing");
        assert!(ask(&mut streams, 1, STREAMS_MAX).contains(r#""result":null"#));
        assert!(ask(&mut streams, 1, STREAMS_MAX).contains(r#""result":null"#), "known ones");
        assert!(ask(&mut streams, 0, 1).contains("too many parameters"));
    }

    #[test]
    fn nonsense_has_codes() {
        for (text, code) in [("{nope", "\"code\":3"), (r#"{"method":"FOO","id":1}"#, "\"code\":2")]
        {
            let mut streams = open("/ws", "");
            let answer = streams.request(ConnId(1), text, MonoNs::ZERO).expect("an answer");
            assert!(answer.contains(code), "{answer}");
        }
    }

    #[test]
    fn a_sixth_message_in_a_second_ends_the_connection() {
        let mut streams = open("/ws", "");
        let text = r#"{"method":"LIST_SUBSCRIPTIONS","id":1}"#;
        for _ in 0..5 {
            assert!(streams.request(ConnId(1), text, MonoNs::ZERO).is_some());
        }
        assert!(streams.request(ConnId(1), text, MonoNs::ZERO).is_none());
    }

    #[test]
    fn combined_streams_are_wrapped_and_texts_shared() {
        let mut streams = open("/stream", "streams=btcusdt@depth@100ms/btcusdt@trade");
        streams.open(ConnId(2), "/ws/btcusdt@trade", "", MonoNs::ZERO);
        let mut sent = Vec::new();
        streams.publish(
            (0, StreamKind::Trade),
            |_| "{}".to_owned(),
            |c, t| sent.push((c.0, t.to_string())),
        );
        assert_eq!(
            sent,
            [(1, r#"{"stream":"btcusdt@trade","data":{}}"#.to_owned()), (2, "{}".to_owned())]
        );
        streams.close(ConnId(1));
        assert!(!streams.wants((0, StreamKind::Depth(0))));
    }

    #[test]
    fn unknown_paths() {
        let mut streams = Streams::new(["BTCUSDT"].into_iter());
        assert!(streams.open(ConnId(1), "/ws/0", "", MonoNs::ZERO));
        assert!(streams.open(ConnId(2), "/stream", "streams=", MonoNs::ZERO));
        assert!(!streams.open(ConnId(3), "/wsx", "", MonoNs::ZERO));
    }
}
