//! Market stream subscriptions. In: a connection's path and its SUBSCRIBE messages. Out: answers, and for every
//! published event the connections that want it, each text made once and shared.
//!
//! Stream names that mean nothing here are accepted and stay silent, as at the venue.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use tungstenite::Utf8Bytes;

use crate::clock::{MonoNs, UtcNs};
use crate::net::server::ConnId;

use super::json::{Json, push_string};

/// Streams per connection.
const STREAMS_MAX: usize = 1_024;

/// Messages that a connection may send per second.
const MESSAGES_PER_S_MAX: u32 = 5;

/// Longest request id that is echoed, in bytes of JSON.
const ID_BYTES_MAX: usize = 64;

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamKind {
    /// `@trade`
    Trade,
    /// `@aggTrade`
    AggTrade,
    /// `@bookTicker`
    BookTicker,
    /// `@depth@100ms` (0) or `@depth` (1).
    Depth(usize),
    /// `@depth5`, `@depth10`, `@depth20`, with the speed as in `Depth`.
    Partial(usize, usize),
}

/// One stream.
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

#[derive(Deserialize)]
struct Request<'a> {
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
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
    }

    fn parse(&self, name: &str) -> Option<StreamKey> {
        let (symbol, stream) = name.split_once('@')?;
        let symbol = self.symbols.iter().position(|s| s == symbol)?;
        let (stream, speed) = match stream.strip_suffix("@100ms") {
            Some(stream) => (stream, 0),
            None => (stream.strip_suffix("@1000ms").unwrap_or(stream), 1),
        };
        let kind = match stream {
            "trade" => StreamKind::Trade,
            "aggTrade" => StreamKind::AggTrade,
            "bookTicker" => StreamKind::BookTicker,
            "depth" => StreamKind::Depth(speed),
            "depth5" => StreamKind::Partial(5, speed),
            "depth10" => StreamKind::Partial(10, speed),
            "depth20" => StreamKind::Partial(20, speed),
            _ => return None,
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

    /// Answers a message of a stream connection; `None` when it sent too many and must go.
    pub fn request(&mut self, conn: ConnId, text: &str, now: MonoNs) -> Option<String> {
        let open = self.conns.get_mut(&conn)?;
        if now.since(open.second).as_millis() >= 1_000 {
            (open.second, open.messages) = (now, 0);
        }
        open.messages += 1;
        if open.messages > MESSAGES_PER_S_MAX {
            return None;
        }
        if let Err(e) = serde_json::from_str::<&RawValue>(text) {
            return Some(refusal(3, &format!("Invalid JSON: {e}"), "null"));
        }
        let Ok(request) = serde_json::from_str::<Request<'_>>(text) else {
            return Some(refusal(2, "Invalid request: expected an object", "null"));
        };
        let id = request.id.map_or("null", RawValue::get);
        if id.len() > ID_BYTES_MAX || id.starts_with(['{', '[', 't', 'f']) {
            let msg = "Invalid request: request ID must be an unsigned integer";
            return Some(refusal(2, msg, "null"));
        }
        Some(match self.apply(conn, &request) {
            Ok(result) => Json::object(|j| {
                j.f_raw("result", &result).f_raw("id", id);
            }),
            Err((code, msg)) => refusal(code, &msg, id),
        })
    }

    fn apply(&mut self, conn: ConnId, request: &Request<'_>) -> Result<String, (i32, String)> {
        let invalid = |msg: &str| (2, format!("Invalid request: {msg}"));
        let params = request.params.map_or("[]", RawValue::get);
        match request.method.as_deref() {
            None => Err(invalid("missing field `method`")),
            Some(method @ ("SUBSCRIBE" | "UNSUBSCRIBE")) => {
                let names: Vec<String> = serde_json::from_str(params)
                    .map_err(|_| invalid("params must be a list of strings"))?;
                for name in &names {
                    if method == "UNSUBSCRIBE" {
                        if let Some(open) = self.conns.get_mut(&conn) {
                            open.names.retain(|known| known != name);
                        }
                        self.forget(conn, name);
                    } else if !self.subscribe(conn, name) {
                        return Err(invalid("too many parameters"));
                    }
                }
                Ok("null".to_owned())
            }
            Some("LIST_SUBSCRIPTIONS") => Ok(Json::array(|j| {
                for name in self.conns.get(&conn).map_or(&[][..], |c| &c.names) {
                    j.text(name);
                }
            })),
            Some("GET_PROPERTY") => match property(params)? {
                (true, _) => {
                    let combined = self.conns.get(&conn).is_some_and(|c| c.combined);
                    Ok(combined.to_string())
                }
                (false, _) => Err((0, "Unknown property".to_owned())),
            },
            Some("SET_PROPERTY") => match property(params)? {
                (true, Some(value)) => {
                    if let Some(open) = self.conns.get_mut(&conn) {
                        open.combined = value;
                    }
                    Ok("null".to_owned())
                }
                (true, None) => Err((1, "Invalid value type: expected Boolean".to_owned())),
                (false, _) => Err((0, "Unknown property".to_owned())),
            },
            Some(other) => Err(invalid(&format!(
                "unknown variant `{other}`, expected one of `SUBSCRIBE`, `UNSUBSCRIBE`, \
                 `LIST_SUBSCRIPTIONS`, `SET_PROPERTY`, `GET_PROPERTY`"
            ))),
        }
    }

    /// Gives every listener of `key` its text to `send`. `encode` makes the event, with times in microseconds when
    /// asked so; each of the four forms is made at most once.
    pub fn publish(
        &self,
        key: StreamKey,
        encode: impl Fn(bool) -> String,
        mut send: impl FnMut(ConnId, &Utf8Bytes),
    ) {
        let Some(listeners) = self.by_key.get(&key) else { return };
        let mut forms: [Option<Utf8Bytes>; 4] = [None, None, None, None];
        for conn in listeners {
            let Some(open) = self.conns.get(conn) else { continue };
            let form = &mut forms[usize::from(open.combined) + 2 * usize::from(open.micros)];
            let text = form.get_or_insert_with(|| {
                let event = encode(open.micros);
                if open.combined { self.wrap(key, &event).into() } else { event.into() }
            });
            send(*conn, text);
        }
    }

    fn wrap(&self, key: StreamKey, event: &str) -> String {
        let mut out = String::with_capacity(event.len() + 64);
        out.push_str("{\"stream\":");
        push_string(&mut out, &self.name(key));
        out.push_str(",\"data\":");
        out.push_str(event);
        out.push('}');
        out
    }

    fn name(&self, (symbol, kind): StreamKey) -> String {
        let fast = |speed: usize| if speed == 0 { "@100ms" } else { "" };
        let symbol = &self.symbols[symbol];
        match kind {
            StreamKind::Trade => format!("{symbol}@trade"),
            StreamKind::AggTrade => format!("{symbol}@aggTrade"),
            StreamKind::BookTicker => format!("{symbol}@bookTicker"),
            StreamKind::Depth(speed) => format!("{symbol}@depth{}", fast(speed)),
            StreamKind::Partial(n, speed) => format!("{symbol}@depth{n}{}", fast(speed)),
        }
    }
}

/// A moment as an event carries it.
pub fn stamp(utc: UtcNs, micros: bool) -> i64 {
    if micros { utc.as_micros() } else { utc.as_millis() }
}

/// Whether the property is `combined`, and the truth value that follows.
fn property(params: &str) -> Result<(bool, Option<bool>), (i32, String)> {
    let not_named = || (2, "Invalid request: property name must be a string".to_owned());
    let items: Vec<serde_json::Value> = serde_json::from_str(params).map_err(|_| not_named())?;
    let name = items.first().and_then(|v| v.as_str()).ok_or_else(not_named)?;
    Ok((name == "combined", items.get(1).and_then(serde_json::Value::as_bool)))
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
