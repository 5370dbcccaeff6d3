//! One connection of the [`super::server::Server`]: its states and what moves it between them.
//!
//! In: bytes, the caller's answers, `now`. Out: events and bytes. Always: at most one request is handed out at a
//! time (further ones wait in the input), nothing is read while the caller thinks, and once ended it stays so.

use std::collections::VecDeque;
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use bytes::Bytes;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use super::http1::{self, Body, Framing, Headers};
use super::server::{ConnId, ServerConfig, ServerEvent, ServerRequest};
use super::websocket::{READ_BUFFER_BYTES, ws_error};
use super::wire::{Wire, is_no_data, net_error};
use super::{HttpResponse, NetError, Wants};
use crate::clock::MonoNs;

/// Messages taken from one client in one pass, so that no client starves the others.
const MESSAGES_PER_PASS: usize = 64;
/// Reads from one plain connection in one pass.
const READS_PER_PASS: usize = 16;
/// How long a refused client may go on sending before the socket closes under it: closing at once would reset
/// the connection and take the refusal with it.
const LINGER: Duration = Duration::from_millis(500);
/// How long a client may take to answer our close frame, and a last answer to be written.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// What a message may cost beyond its own bytes: headers of its fragments, control frames between them.
const MESSAGE_OVERHEAD_BYTES: usize = 64 * 1024;
/// A control frame's payload is at most 125 bytes, of which the code takes two.
const CLOSE_REASON_BYTES_MAX: usize = 120;

/// Whether an act fitted the connection's state; an error ends the connection.
pub(super) type Outcome = Result<bool, NetError>;

/// What a connection speaks.
enum Speech {
    Http(Http),
    Ws(Box<Ws>),
    Nothing,
}

/// A plain connection.
struct Http {
    wire: Wire,
    input: Vec<u8>,
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
    Body { request: ServerRequest, body: Body, asked: Asked },
    /// The caller thinks.
    Asked(Asked),
    /// Whatever is queued is written, then the stream ends; input is dropped, for as long as `linger` says.
    Ending { linger: bool },
}

/// What must be known to answer.
#[derive(Clone, Debug)]
struct Asked {
    keep_alive: bool,
    is_head: bool,
    /// The key of a proper upgrade.
    upgrade: Option<String>,
}

/// A WebSocket connection.
struct Ws {
    socket: WebSocket<Wire>,
    last_received: MonoNs,
    pinged_at: Option<MonoNs>,
    close_by: Option<MonoNs>,
    /// Nothing is read any more; once what waits is written, or at the moment, the stream ends for this reason.
    leaving: Option<(String, MonoNs)>,
}

/// See the module.
pub(super) struct Conn {
    id: ConnId,
    speech: Speech,
    half_open: bool,
    end: Option<String>,
}

impl Conn {
    /// A connection just accepted.
    pub(super) fn new(id: ConnId, wire: Wire, now: MonoNs) -> Self {
        let http =
            Http { wire, input: Vec::new(), state: HttpState::Head, since: now, used: false };
        Self { id, speech: Speech::Http(http), half_open: false, end: None }
    }

    pub(super) fn id(&self) -> ConnId {
        self.id
    }

    /// Ends the connection; the first reason counts.
    pub(super) fn end(&mut self, why: String) {
        if let Some(wire) = self.wire_mut() {
            wire.shutdown();
        }
        self.speech = Speech::Nothing;
        self.end.get_or_insert(why);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    /// Why the connection ended, if it did.
    pub(super) fn take_end(&mut self) -> Option<String> {
        self.end.take()
    }

    pub(super) fn half_open(&mut self, on: bool) {
        self.half_open = on;
    }

    pub(super) fn buffered(&self) -> usize {
        self.wire().map_or(0, Wire::buffered)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.end.is_none() && (self.half_open || self.buffered() == 0)
    }

    fn wire(&self) -> Option<&Wire> {
        match &self.speech {
            Speech::Http(http) => Some(&http.wire),
            Speech::Ws(ws) => Some(ws.socket.get_ref()),
            Speech::Nothing => None,
        }
    }

    fn wire_mut(&mut self) -> Option<&mut Wire> {
        match &mut self.speech {
            Speech::Http(http) => Some(&mut http.wire),
            Speech::Ws(ws) => Some(ws.socket.get_mut()),
            Speech::Nothing => None,
        }
    }

    /// Names the descriptor if something on it would move this connection.
    pub(super) fn waits(&self, each: &mut dyn FnMut(BorrowedFd<'_>, bool)) {
        let thinking =
            matches!(&self.speech, Speech::Http(h) if matches!(h.state, HttpState::Asked(_)));
        let Some(wire) = self.wire().filter(|_| !self.half_open) else { return };
        let writable = wire.wants() == Wants::ReadWrite;
        // While the caller thinks nothing is read: polling for it would spin.
        if let Some(fd) = wire.stream().fd().filter(|_| writable || !thinking) {
            each(fd, writable);
        }
    }

    /// Writes what waits.
    pub(super) fn pump(&mut self) {
        if self.half_open {
            return;
        }
        if let Some(Err(e)) = self.wire_mut().map(Wire::pump) {
            self.end(net_error("writing", e).to_string());
        }
    }

    /// Reads, writes and keeps the deadlines, once.
    pub(super) fn serve(
        &mut self,
        config: &ServerConfig,
        now: MonoNs,
        events: &mut VecDeque<ServerEvent>,
    ) {
        if self.half_open {
            return;
        }
        self.pump();
        let id = self.id;
        let served = match &mut self.speech {
            Speech::Http(http) => http.serve(id, config, now, events),
            Speech::Ws(ws) => ws.serve(id, config, now, events),
            Speech::Nothing => return,
        };
        match served {
            Ok(None) => self.pump(),
            Ok(Some(why)) => self.end(why),
            Err(e) => self.end(e.to_string()),
        }
    }

    /// Answers the request that was handed out.
    pub(super) fn respond(&mut self, response: &HttpResponse, now: MonoNs) -> Outcome {
        match &mut self.speech {
            Speech::Http(http) => http.respond(response, now),
            Speech::Ws(_) | Speech::Nothing => Ok(false),
        }
    }

    /// Becomes a WebSocket connection, if that was asked for.
    pub(super) fn accept_ws(&mut self, config: &ServerConfig, now: MonoNs) -> Outcome {
        let key = match &self.speech {
            Speech::Http(Http {
                state: HttpState::Asked(Asked { upgrade: Some(key), .. }),
                ..
            }) => key.clone(),
            _ => return Ok(false),
        };
        let Speech::Http(http) = std::mem::replace(&mut self.speech, Speech::Nothing) else {
            return Ok(false);
        };
        let mut wire = http.wire;
        let answer = format!(
            "HTTP/1.1 101 {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            http1::reason(101),
            derive_accept_key(key.as_bytes())
        );
        wire.append(answer.as_bytes())?;
        let codec = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(config.message_bytes_max))
            .max_frame_size(Some(config.message_bytes_max));
        let socket = WebSocket::from_partially_read(wire, http.input, Role::Server, Some(codec));
        let ws = Ws { socket, last_received: now, pinged_at: None, close_by: None, leaving: None };
        self.speech = Speech::Ws(Box::new(ws));
        Ok(true)
    }

    /// Queues a text message.
    pub(super) fn send_text(&mut self, text: &str) -> Outcome {
        let Speech::Ws(ws) = &mut self.speech else { return Ok(false) };
        if !ws.socket.can_write() || ws.leaving.is_some() {
            return Ok(false);
        }
        if !self.half_open {
            let (head, head_bytes) = text_frame_head(text.len());
            let wire = ws.socket.get_mut();
            wire.append(&head[..head_bytes])?;
            wire.append(text.as_bytes())?;
        }
        Ok(true)
    }

    /// Begins to close.
    pub(super) fn close(&mut self, code: u16, reason: &str, now: MonoNs) -> Outcome {
        match &mut self.speech {
            Speech::Http(http) => {
                http.since = now;
                http.state = HttpState::Ending { linger: false };
                Ok(true)
            }
            Speech::Ws(ws) if ws.close_by.is_none() && ws.leaving.is_none() => {
                ws.close_by = Some(now.after(CLOSE_DEADLINE));
                let cut = reason.floor_char_boundary(CLOSE_REASON_BYTES_MAX);
                let frame =
                    CloseFrame { code: CloseCode::from(code), reason: reason[..cut].into() };
                match ws.socket.close(Some(frame)) {
                    Ok(()) | Err(Error::ConnectionClosed) => Ok(true),
                    Err(e) => Err(ws_error(e, 0)),
                }
            }
            Speech::Ws(_) | Speech::Nothing => Ok(false),
        }
    }
}

/// The head of an unmasked, final text frame (RFC 6455, 5.2), and its length.
fn text_frame_head(payload_bytes: usize) -> ([u8; 10], usize) {
    let mut head = [0; 10];
    head[0] = 0x81;
    let length = u64::try_from(payload_bytes).unwrap_or(u64::MAX).to_be_bytes();
    match payload_bytes {
        0..=125 => {
            head[1] = length[7];
            (head, 2)
        }
        126..=0xffff => {
            head[1] = 126;
            head[2..4].copy_from_slice(&length[6..]);
            (head, 4)
        }
        _ => {
            head[1] = 127;
            head[2..10].copy_from_slice(&length);
            (head, 10)
        }
    }
}

/// Serving says: go on, or why the connection ended in good order.
type Served = Result<Option<String>, NetError>;

impl Http {
    fn serve(
        &mut self,
        id: ConnId,
        config: &ServerConfig,
        now: MonoNs,
        events: &mut VecDeque<ServerEvent>,
    ) -> Served {
        match self.state {
            HttpState::Asked(_) => return Ok(None),
            HttpState::Ending { linger } => return self.serve_ending(linger, now),
            HttpState::Head | HttpState::Body { .. } => {}
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
        let mut ended = false;
        let mut fresh = true;
        for _ in 0..READS_PER_PASS {
            if (fresh || ended)
                && let Some((request, asked)) = self.parse(config)?
            {
                return Ok(Step::Request(request, asked));
            }
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
                    self.check_head_size(config)?;
                }
                Err(e) if is_no_data(&e) => return Ok(Step::Wait),
                Err(e) => return Err(Refusal::Net(net_error("reading a request", e))),
            }
        }
        Ok(Step::Wait)
    }

    fn check_head_size(&self, config: &ServerConfig) -> Result<(), Refusal> {
        let in_head = matches!(self.state, HttpState::Head);
        let over = self.input.len() > config.head_bytes_max;
        // A head may be complete with a body behind it: only a cap's worth without an end is too large.
        let no_end = |input: &[u8]| !input.windows(4).any(|w| w == b"\r\n\r\n");
        if in_head && over && no_end(&self.input[..config.head_bytes_max]) {
            return Err(Refusal::Answer(431, "head too large".to_string()));
        }
        Ok(())
    }

    /// A complete request at the front of the input, if there is one; takes it out.
    fn parse(&mut self, config: &ServerConfig) -> Result<Option<(ServerRequest, Asked)>, Refusal> {
        if matches!(self.state, HttpState::Head) {
            let Some((head_bytes, request, http11)) = parse_head(&self.input)? else {
                return Ok(None);
            };
            self.input.drain(..head_bytes);
            let body = request_body(&request, config)?;
            let asked = judge_head(&request, http11)?;
            let expects =
                request.header("expect").is_some_and(|v| v.eq_ignore_ascii_case("100-continue"));
            if expects && !body.is_done() && self.input.is_empty() {
                self.wire.append(b"HTTP/1.1 100 Continue\r\n\r\n").map_err(Refusal::Net)?;
                self.wire.pump().map_err(|e| Refusal::Net(net_error("writing", e)))?;
            }
            self.state = HttpState::Body { request, body, asked };
        }
        let HttpState::Body { body, .. } = &mut self.state else { return Ok(None) };
        let used = body.feed(&self.input).map_err(|e| match e {
            NetError::TooLarge(..) => Refusal::Answer(413, e.to_string()),
            other => Refusal::Answer(400, other.to_string()),
        })?;
        self.input.drain(..used);
        if !body.is_done() {
            return Ok(None);
        }
        match std::mem::replace(&mut self.state, HttpState::Head) {
            HttpState::Body { mut request, body, asked } => {
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
        self.state = HttpState::Ending { linger: true };
        self.since = now;
        Ok(())
    }

    fn respond(&mut self, response: &HttpResponse, now: MonoNs) -> Outcome {
        let HttpState::Asked(asked) = &self.state else { return Ok(false) };
        self.wire.append(&answer(response, asked))?;
        self.since = now;
        self.used = true;
        self.state =
            if asked.keep_alive { HttpState::Head } else { HttpState::Ending { linger: false } };
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

impl Ws {
    fn serve(
        &mut self,
        id: ConnId,
        config: &ServerConfig,
        now: MonoNs,
        events: &mut VecDeque<ServerEvent>,
    ) -> Served {
        if let Some((why, by)) = &self.leaving {
            let done = self.socket.get_ref().buffered() == 0 || now >= *by;
            return Ok(done.then(|| why.clone()));
        }
        let budget = config.message_bytes_max.saturating_add(MESSAGE_OVERHEAD_BYTES);
        for _ in 0..MESSAGES_PER_PASS {
            self.socket.get_mut().grant_reads(budget);
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    events.push_back(ServerEvent::Message { conn: id, text })
                }
                Ok(Message::Binary(_)) => events.push_back(ServerEvent::Binary { conn: id }),
                Ok(Message::Close(frame)) => return Ok(self.answer_close(frame, now)),
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Err(Error::Io(e)) if is_no_data(&e) => break,
                Err(Error::ConnectionClosed) => return Ok(Some("closed by us".to_string())),
                Err(e) => return self.fail(e, config.message_bytes_max, now),
            }
        }
        if self.socket.get_mut().take_arrived() {
            self.last_received = now;
            self.pinged_at = None;
        }
        self.keep_deadlines(config, now)
    }

    /// Ends the connection for `why` as soon as the last words are written.
    fn leave(&mut self, why: String, now: MonoNs) -> Option<String> {
        match self.socket.get_mut().pump() {
            Ok(()) if self.socket.get_ref().buffered() > 0 => {
                self.leaving = Some((why, now.after(CLOSE_DEADLINE)));
                None
            }
            Ok(()) => Some(why),
            Err(e) => Some(format!("{why} ({e})")),
        }
    }

    /// The peer closes, or answers our close.
    fn answer_close(&mut self, frame: Option<CloseFrame>, now: MonoNs) -> Option<String> {
        // For a server "closed" is what success looks like: the answer is in the wire then.
        match self.socket.flush() {
            Ok(()) | Err(Error::ConnectionClosed) => {}
            Err(e) => log::debug!("answer to a close frame not written: {e}"),
        }
        let why = match frame {
            Some(f) => format!("closed by peer: {} {}", u16::from(f.code), f.reason),
            None => "closed by peer without a code".to_string(),
        };
        self.leave(why, now)
    }

    /// The peer broke a rule or a cap: it is told by code before the stream ends.
    fn fail(&mut self, e: Error, cap_bytes: usize, now: MonoNs) -> Served {
        let code: u16 = match &e {
            Error::Capacity(_) => 1009,
            Error::Utf8(_) => 1007,
            Error::Io(io) if io.kind() == std::io::ErrorKind::QuotaExceeded => 1009,
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) | Error::Io(_) => {
                return Err(ws_error(e, cap_bytes));
            }
            _ => 1002,
        };
        let [high, low] = code.to_be_bytes();
        self.socket.get_mut().append(&[0x88, 2, high, low])?;
        Ok(self.leave(ws_error(e, cap_bytes).to_string(), now))
    }

    fn keep_deadlines(&mut self, config: &ServerConfig, now: MonoNs) -> Served {
        if let Some(by) = self.close_by {
            return Ok((now >= by).then(|| "no answer to our close".to_string()));
        }
        let Some(every) = config.ping_every else { return Ok(None) };
        match self.pinged_at {
            Some(at) if now.since(at) >= config.pong_deadline => {
                Err(NetError::Deadline("answer to ping", config.pong_deadline))
            }
            None if now.since(self.last_received) >= every => {
                self.pinged_at = Some(now);
                let sent = self.socket.write(Message::Ping(Bytes::new()));
                sent.map(|()| None).map_err(|e| ws_error(e, config.write_buffer_bytes_max))
            }
            _ => Ok(None),
        }
    }
}
