//! A plain HTTP/1.1 connection of the server, before it may become a WebSocket.
//!
//! In: bytes, one answer per request, `now`. Out: whole requests as events, answers as bytes. Always: one request
//! at a time, nothing is read while the caller thinks, what cannot be read is answered with its status and ends
//! the connection.

use std::collections::VecDeque;
use std::io::Read;
use std::time::Duration;

use super::http1::{self, Body, Framing, Headers};
use super::server::{ConnId, ServerConfig, ServerEvent, ServerRequest};
use super::server_conn::{CLOSE_DEADLINE, Outcome, Served};
use super::websocket::READ_BUFFER_BYTES;
use super::wire::{Wire, is_no_data, net_error};
use super::{HttpResponse, NetError, Wants};
use crate::clock::MonoNs;

/// Reads from one connection in one pass.
const READS_PER_PASS: usize = 16;
/// How long a refused client may go on sending before the socket closes under it: closing at once would reset
/// the connection and take the refusal with it.
const LINGER: Duration = Duration::from_millis(500);

/// A plain connection.
pub(super) struct Http {
    wire: Wire,
    input: Vec<u8>,
    /// Whether the input, or the stream, may hold more than was looked at.
    unread: bool,
    state: HttpState,
    /// When this state, or the request being read, began.
    since: MonoNs,
    /// Whether a request was answered before on this connection.
    used: bool,
}

enum HttpState {
    /// Waiting for a head.
    Head,
    /// The head is there, the body is not.
    Body(Box<Unfinished>),
    /// The caller thinks.
    Asked(Asked),
    /// Whatever is queued is written, then the stream ends; input is dropped, for as long as `linger` says.
    Ending {
        linger: bool,
        /// Why, when it is not that everything was answered.
        why: Option<String>,
    },
}

/// A request whose body is not there yet.
struct Unfinished {
    request: ServerRequest,
    body: Body,
    asked: Asked,
}

/// What must be known to answer.
#[derive(Clone, Debug)]
struct Asked {
    keep_alive: bool,
    is_head: bool,
    /// The key of a proper upgrade.
    upgrade: Option<String>,
}

impl Http {
    /// A connection just accepted.
    pub(super) fn new(wire: Wire, now: MonoNs) -> Self {
        let (input, state) = (Vec::new(), HttpState::Head);
        Self { wire, input, unread: true, state, since: now, used: false }
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    pub(super) fn wire_mut(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Whether anything is read now: not while the caller has a request in hand, nor before its answer is taken, so
    /// that who asks and never reads is owed one answer at most.
    pub(super) fn reads(&self) -> bool {
        match self.state {
            HttpState::Asked(_) => false,
            HttpState::Head => self.wire.buffered() == 0,
            HttpState::Body(_) | HttpState::Ending { .. } => true,
        }
    }

    /// The key of the upgrade that the caller has in hand.
    pub(super) fn upgrade_key(&self) -> Option<&str> {
        match &self.state {
            HttpState::Asked(asked) => asked.upgrade.as_deref(),
            _ => None,
        }
    }

    /// The stream, and what was read beyond the last request.
    pub(super) fn into_parts(self) -> (Wire, Vec<u8>) {
        (self.wire, self.input)
    }

    /// Ends once what is queued is written.
    pub(super) fn close(&mut self, now: MonoNs) {
        self.since = now;
        self.state = HttpState::Ending { linger: false, why: None };
    }

    /// Reads, writes and keeps the deadlines, once.
    pub(super) fn serve(
        &mut self,
        id: ConnId,
        config: &ServerConfig,
        now: MonoNs,
        ready: bool,
        events: &mut VecDeque<ServerEvent>,
    ) -> Served {
        match &self.state {
            HttpState::Asked(_) => return Ok(None),
            HttpState::Ending { linger, why } => {
                let why = why.clone();
                let ended = self.serve_ending(*linger, now)?;
                return Ok(ended.map(|end| why.unwrap_or(end)));
            }
            HttpState::Head if self.wire.buffered() > 0 => {
                let late = now.since(self.since) >= config.idle_deadline;
                return Ok(late.then(|| "answer not taken".to_string()));
            }
            HttpState::Head | HttpState::Body(_) if ready || self.unread => {}
            HttpState::Head | HttpState::Body(_) => return self.check_deadline(config, now),
        }
        match self.read_request(config, now) {
            Ok(Step::Wait) => self.check_deadline(config, now),
            Ok(Step::Eof) => Ok(Some("closed by peer".to_string())),
            Ok(Step::Request(request, asked)) => {
                let upgrade = asked.upgrade.is_some();
                self.state = HttpState::Asked(asked);
                events.push_back(if upgrade {
                    ServerEvent::Upgrade { conn: id, request }
                } else {
                    ServerEvent::Request { conn: id, request }
                });
                Ok(None)
            }
            Err(Refusal::Answer(status, why)) => {
                log::debug!("request refused with {status}: {why}");
                self.refuse(status, &why, now)?;
                Ok(None)
            }
            Err(Refusal::Net(e)) => Err(e),
        }
    }

    /// Reads until a request is complete or nothing is there.
    fn read_request(&mut self, config: &ServerConfig, now: MonoNs) -> Result<Step, Refusal> {
        let mut chunk = [0; READ_BUFFER_BYTES];
        self.unread = true;
        let mut ended = false;
        let mut fresh = true;
        for _ in 0..READS_PER_PASS {
            if (fresh || ended)
                && let Some((request, asked)) = self.parse(config)?
            {
                return Ok(Step::Request(request, asked));
            }
            self.check_head_size(config)?;
            if ended {
                return Ok(Step::Eof);
            }
            fresh = false;
            match self.wire.read(&mut chunk) {
                Ok(0) => ended = true,
                Ok(n) => {
                    if self.input.is_empty() && self.used && matches!(self.state, HttpState::Head) {
                        // The deadline of a kept-alive connection's next request begins with its first byte.
                        self.since = now;
                        self.used = false;
                    }
                    self.input.extend_from_slice(&chunk[..n]);
                    // Only the end of a line can complete a head.
                    fresh = chunk[..n].contains(&b'\n') || !matches!(self.state, HttpState::Head);
                }
                Err(e) if is_no_data(&e) => {
                    self.unread = false;
                    return Ok(Step::Wait);
                }
                Err(e) => return Err(Refusal::Net(net_error("reading a request", e))),
            }
        }
        Ok(Step::Wait)
    }

    /// What is there of a head that is not complete: empty lines before it count.
    fn check_head_size(&self, config: &ServerConfig) -> Result<(), Refusal> {
        let in_head = matches!(self.state, HttpState::Head);
        if in_head && self.input.len() > config.head_bytes_max {
            return Err(head_too_large());
        }
        Ok(())
    }

    /// A complete request at the front of the input, if there is one; takes it out.
    fn parse(&mut self, config: &ServerConfig) -> Result<Option<(ServerRequest, Asked)>, Refusal> {
        if matches!(self.state, HttpState::Head) {
            let Some((head_bytes, request, http11)) = parse_head(&self.input)? else {
                return Ok(None);
            };
            if head_bytes > config.head_bytes_max {
                return Err(head_too_large());
            }
            self.input.drain(..head_bytes);
            let body = request_body(&request, config)?;
            let asked = judge_head(&request, http11)?;
            let expects =
                request.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue"));
            if expects && !body.is_done() && self.input.is_empty() {
                self.wire.append(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(Refusal::Net)?;
                self.wire.pump().map_err(|e| Refusal::Net(net_error("writing", e)))?;
            }
            self.state = HttpState::Body(Box::new(Unfinished { request, body, asked }));
        }
        let HttpState::Body(unfinished) = &mut self.state else { return Ok(None) };
        let used = unfinished.body.feed(&self.input).map_err(|e| match e {
            NetError::TooLarge(..) => Refusal::Answer(413, e.to_string()),
            other => Refusal::Answer(400, other.to_string()),
        })?;
        self.input.drain(..used);
        if !unfinished.body.is_done() {
            return Ok(None);
        }
        match std::mem::replace(&mut self.state, HttpState::Head) {
            HttpState::Body(unfinished) => {
                let Unfinished { mut request, body, asked } = *unfinished;
                request.body = body.into_bytes();
                Ok(Some((request, asked)))
            }
            _ => Ok(None),
        }
    }

    fn check_deadline(&mut self, config: &ServerConfig, now: MonoNs) -> Served {
        let between = self.used && self.input.is_empty() && matches!(self.state, HttpState::Head);
        if between {
            let idle = now.since(self.since) >= config.idle_deadline;
            return Ok(idle.then(|| "idle".to_string()));
        }
        if now.since(self.since) < config.head_deadline {
            return Ok(None);
        }
        self.refuse(408, "request took too long", now)?;
        Ok(None)
    }

    /// Answers on our own account and ends.
    fn refuse(&mut self, status: u16, why: &str, now: MonoNs) -> Result<(), NetError> {
        let mut headers = vec![("content-type".to_string(), "text/plain".to_string())];
        if status == 426 {
            headers.push(("sec-websocket-version".to_string(), "13".to_string()));
        }
        let body = format!("{why}\n").into_bytes();
        let asked = Asked { keep_alive: false, is_head: false, upgrade: None };
        self.wire.append(&answer(&HttpResponse { status, headers, body }, &asked))?;
        self.input = Vec::new();
        self.state = HttpState::Ending {
            linger: true,
            why: Some(format!("refused with {status}: {}", why.trim_end())),
        };
        self.since = now;
        Ok(())
    }

    /// Answers the request that the caller has in hand.
    pub(super) fn respond(&mut self, response: &HttpResponse, now: MonoNs) -> Outcome {
        let HttpState::Asked(asked) = &self.state else { return Ok(false) };
        self.wire.append(&answer(response, asked))?;
        self.since = now;
        self.used = true;
        self.state = if asked.keep_alive {
            HttpState::Head
        } else {
            HttpState::Ending { linger: false, why: None }
        };
        Ok(true)
    }

    fn serve_ending(&mut self, linger: bool, now: MonoNs) -> Served {
        let waited = now.since(self.since);
        if waited >= CLOSE_DEADLINE {
            return Ok(Some("last answer not taken".to_string()));
        }
        if self.wire.buffered() > 0 || self.wire.wants() == Wants::ReadWrite {
            return Ok(None);
        }
        let mut dropped = [0; READ_BUFFER_BYTES];
        for _ in 0..READS_PER_PASS {
            match self.wire.read(&mut dropped) {
                Ok(0) => return Ok(Some("answered, closed by peer".to_string())),
                Ok(_) => {}
                Err(e) if is_no_data(&e) => {
                    let done = !linger || waited >= LINGER;
                    return Ok(done.then(|| "answered and closed".to_string()));
                }
                Err(e) => return Err(net_error("reading", e)),
            }
        }
        Ok((waited >= LINGER).then(|| "answered and closed".to_string()))
    }
}

/// What reading a request came to.
enum Step {
    Wait,
    Eof,
    Request(ServerRequest, Asked),
}

/// Why a request is not handed out.
enum Refusal {
    /// The client can be told.
    Answer(u16, String),
    /// The stream failed.
    Net(NetError),
}

fn head_too_large() -> Refusal {
    Refusal::Answer(431, "head too large".to_string())
}

/// The head at the front of `input`, if complete: its length, the request, whether it is HTTP/1.1.
fn parse_head(input: &[u8]) -> Result<Option<(usize, ServerRequest, bool)>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; http1::HEADERS_MAX];
    let mut parsed = httparse::Request::new(&mut headers);
    let head_bytes = match parsed.parse(input) {
        Ok(httparse::Status::Complete(n)) => n,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::Answer(431, "too many headers".to_string()));
        }
        Err(e) => return Err(Refusal::Answer(400, e.to_string())),
    };
    let headers: Headers =
        http1::own_headers(parsed.headers).map_err(|e| Refusal::Answer(400, e.to_string()))?;
    let target = parsed.path.unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !path.starts_with('/') && path != "*" {
        return Err(Refusal::Answer(400, "bad target".to_string()));
    }
    let request = ServerRequest {
        method: parsed.method.unwrap_or_default().to_string(),
        path: path.to_string(),
        query: query.to_string(),
        headers,
        body: Vec::new(),
    };
    Ok(Some((head_bytes, request, parsed.version == Some(1))))
}

fn request_body(request: &ServerRequest, config: &ServerConfig) -> Result<Body, Refusal> {
    match http1::framing(&request.headers).map_err(|e| Refusal::Answer(400, e.to_string()))? {
        Framing::Unsaid => Ok(Body::none()),
        framing => Body::new(framing, config.body_bytes_max)
            .map_err(|e| Refusal::Answer(413, e.to_string())),
    }
}

/// Whether the connection stays and whether it is to become a WebSocket; refuses an upgrade that is none.
fn judge_head(request: &ServerRequest, http11: bool) -> Result<Asked, Refusal> {
    let has = |name: &str, token: &str| {
        let mut values = request.headers.iter().filter(|(n, _)| n == name);
        values.any(|(_, v)| http1::has_token(v.as_bytes(), token))
    };
    let keep_alive = http11 && !has("connection", "close");
    let mut asked = Asked { keep_alive, is_head: request.method == "HEAD", upgrade: None };
    if !has("upgrade", "websocket") {
        return Ok(asked);
    }
    if request.header("sec-websocket-version") != Some("13") {
        return Err(Refusal::Answer(426, "websocket version 13 is spoken here".to_string()));
    }
    let key = request.header("sec-websocket-key").unwrap_or_default();
    // The base64 of 16 bytes (RFC 6455, 4.2.1).
    let key_ok = key.len() == 24 && key.ends_with("==");
    if request.method != "GET" || !http11 || !has("connection", "upgrade") || !key_ok {
        return Err(Refusal::Answer(400, "not a websocket upgrade".to_string()));
    }
    asked.upgrade = Some(key.to_string());
    Ok(asked)
}

/// The bytes of an answer.
fn answer(response: &HttpResponse, asked: &Asked) -> Vec<u8> {
    let status = response.status;
    let mut head = format!("HTTP/1.1 {status} {}\r\n", http1::reason(status));
    for (name, value) in &response.headers {
        let ours = ["content-length", "connection", "transfer-encoding"];
        if ours.iter().any(|o| o.eq_ignore_ascii_case(name)) {
            continue;
        }
        if let Err(e) = http1::push_header(&mut head, name, value) {
            log::warn!("answer sent without a header: {e}");
        }
    }
    let bodiless = matches!(status, 100..=199 | 204 | 304);
    if !bodiless {
        head.push_str(&format!("content-length: {}\r\n", response.body.len()));
    }
    head.push_str(if asked.keep_alive {
        "connection: keep-alive\r\n\r\n"
    } else {
        "connection: close\r\n\r\n"
    });
    let mut bytes = head.into_bytes();
    if !bodiless && !asked.is_head {
        bytes.extend_from_slice(&response.body);
    }
    bytes
}
