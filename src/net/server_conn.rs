//! One connection of the [`super::server::Server`]: its states and what moves it between them.
//!
//! In: bytes, the caller's answers, `now`. Out: events and bytes. Always: at most one request is handed out at a
//! time (further ones wait in the input), nothing is read while the caller thinks, and once ended it stays so.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use bytes::Bytes;
use tungstenite::error::{Error, ProtocolError};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

use super::http1;
use super::server::{ConnId, Interest, ServerConfig, ServerEvent};
use super::server_http::Http;
use super::websocket::{READ_BUFFER_BYTES, ws_error};
use super::wire::{Wire, is_no_data, net_error};
use super::{HttpResponse, NetError, Wants};
use crate::clock::MonoNs;

/// Messages taken from one client in one pass, so that no client starves the others.
const MESSAGES_PER_PASS: usize = 64;
/// How long a client may take to answer our close frame, and a last answer to be written.
pub(super) const CLOSE_DEADLINE: Duration = Duration::from_secs(2);
/// What a message may cost beyond its own bytes: headers of its fragments, control frames between them.
const MESSAGE_OVERHEAD_BYTES: usize = 64 * 1024;
/// The head of a client's control frame, with its mask.
const CONTROL_HEAD_BYTES: usize = 6;
/// A control frame's payload is at most 125 bytes, of which the code takes two.
const CLOSE_REASON_BYTES_MAX: usize = 120;

/// Whether an act fitted the connection's state; an error ends the connection.
pub(super) type Outcome = Result<bool, NetError>;

/// What a connection speaks.
enum Speech {
    Http(Box<Http>),
    Ws(Box<Ws>),
    Nothing,
}

/// What arrived of a message that is not whole yet. The codec does not tell, so it is reckoned from what arrived and
/// what came out: control frames may come between the parts of a message and must not make it look whole.
#[derive(Default)]
struct Partial {
    bytes: usize,
    since: Option<MonoNs>,
}

impl Partial {
    /// A whole message came out; what came after it counts from its next byte on.
    fn whole(&mut self) {
        *self = Self::default();
    }

    /// A masked control frame came out.
    fn control(&mut self, payload_bytes: usize) {
        self.bytes = self.bytes.saturating_sub(CONTROL_HEAD_BYTES + payload_bytes);
    }

    /// Nothing more comes out now: since when something waits for the rest of it.
    fn wait(&mut self, now: MonoNs) {
        self.since = (self.bytes > 0).then(|| self.since.unwrap_or(now));
    }
}

/// A WebSocket connection.
struct Ws {
    socket: WebSocket<Wire>,
    /// Whether the codec may hold more than it has told.
    unread: bool,
    partial: Partial,
    pinged_at: MonoNs,
    /// When the oldest ping without an answer was sent.
    unanswered: Option<MonoNs>,
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
    /// Whether the stream may have bytes for us or room for ours; always, where nobody can tell.
    ready: bool,
    /// Whether the stream took less than there was, and nobody has told since that there is room.
    stuck: bool,
}

impl Conn {
    /// A connection just accepted.
    pub(super) fn new(id: ConnId, wire: Wire, now: MonoNs) -> Self {
        Self {
            id,
            speech: Speech::Http(Box::new(Http::new(wire, now))),
            half_open: false,
            end: None,
            ready: true,
            stuck: false,
        }
    }

    /// What the system says of the stream; until it says something else.
    pub(super) fn set_ready(&mut self, ready: bool) {
        self.ready = ready;
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

    /// Writes one byte per pass from now on, or all at once again.
    pub(super) fn slice(&mut self, on: bool) {
        if let Some(wire) = self.wire_mut() {
            wire.slice(on);
        }
    }

    /// Queues bytes as they are, whatever the connection speaks.
    pub(super) fn send_raw(&mut self, bytes: &[u8]) -> Outcome {
        if self.half_open {
            return Ok(true);
        }
        match self.wire_mut() {
            Some(wire) => wire.append(bytes).map(|()| true),
            None => Ok(false),
        }
    }

    pub(super) fn buffered(&self) -> usize {
        self.wire().map_or(0, Wire::buffered)
    }

    /// From which address the client came, where the stream knows.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        self.wire()?.stream().peer()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.end.is_none() && (self.half_open || self.buffered() == 0)
    }

    fn wire(&self) -> Option<&Wire> {
        match &self.speech {
            Speech::Http(http) => Some(http.wire()),
            Speech::Ws(ws) => Some(ws.socket.get_ref()),
            Speech::Nothing => None,
        }
    }

    fn wire_mut(&mut self) -> Option<&mut Wire> {
        match &mut self.speech {
            Speech::Http(http) => Some(http.wire_mut()),
            Speech::Ws(ws) => Some(ws.socket.get_mut()),
            Speech::Nothing => None,
        }
    }

    /// Names the descriptor if something on it would move this connection.
    pub(super) fn waits<'a>(&'a self, each: &mut dyn FnMut(BorrowedFd<'a>, Interest)) {
        let reads = match &self.speech {
            Speech::Http(http) => http.reads(),
            Speech::Ws(ws) => ws.leaving.is_none(),
            Speech::Nothing => return,
        };
        let Some(wire) = self.wire().filter(|_| !self.half_open) else { return };
        let writes = wire.wants() == Wants::ReadWrite;
        // What is not read now would end every wait at once.
        let interest = match (reads, writes) {
            (true, true) => Interest::Both,
            (true, false) => Interest::Read,
            (false, true) => Interest::Write,
            (false, false) => return,
        };
        if let Some(fd) = wire.stream().fd() {
            each(fd, interest);
        }
    }

    /// Writes what waits, unless the stream has shown that it takes nothing now.
    pub(super) fn flush(&mut self) {
        if !self.stuck {
            self.pump();
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
        self.stuck = self.wire().is_some_and(|w| w.buffered() > 0 && w.stream().fd().is_some());
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
        // Said once: what is asked without a descriptor, or while nobody waits for it, is always worth a try.
        let ready = std::mem::replace(&mut self.ready, true);
        self.stuck &= !ready;
        self.flush();
        let id = self.id;
        let served = match &mut self.speech {
            Speech::Http(http) => http.serve(id, config, now, ready, events),
            Speech::Ws(ws) => ws.serve(id, config, now, ready, events),
            Speech::Nothing => return,
        };
        match served {
            Ok(None) => self.flush(),
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
        let Speech::Http(http) = &self.speech else { return Ok(false) };
        let Some(key) = http.upgrade_key().map(str::to_string) else { return Ok(false) };
        let Speech::Http(http) = std::mem::replace(&mut self.speech, Speech::Nothing) else {
            return Ok(false);
        };
        let (mut wire, input) = http.into_parts();
        let answer = format!(
            "HTTP/1.1 101 {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            http1::reason(101),
            derive_accept_key(key.as_bytes())
        );
        wire.append(answer.as_bytes())?;
        // What was read until here was the request, but for what may have followed it.
        wire.take_arrived();
        let partial = Partial { bytes: input.len(), since: None };
        let codec = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(config.message_bytes_max))
            .max_frame_size(Some(config.message_bytes_max));
        let socket = WebSocket::from_partially_read(wire, input, Role::Server, Some(codec));
        let ws = Ws {
            socket,
            unread: true,
            partial,
            pinged_at: now,
            unanswered: None,
            close_by: None,
            leaving: None,
        };
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
                http.close(now);
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
pub(super) type Served = Result<Option<String>, NetError>;

impl Ws {
    fn serve(
        &mut self,
        id: ConnId,
        config: &ServerConfig,
        now: MonoNs,
        ready: bool,
        events: &mut VecDeque<ServerEvent>,
    ) -> Served {
        if let Some((why, by)) = &self.leaving {
            let done = self.socket.get_ref().buffered() == 0 || now >= *by;
            return Ok(done.then(|| why.clone()));
        }
        if !ready && !self.unread {
            return self.keep_deadlines(config, now);
        }
        self.unread = true;
        let budget = config.message_bytes_max.saturating_add(MESSAGE_OVERHEAD_BYTES);
        for _ in 0..MESSAGES_PER_PASS {
            self.socket.get_mut().grant_reads(budget);
            let read = self.socket.read();
            self.partial.bytes += self.socket.get_mut().take_arrived();
            match read {
                Ok(Message::Text(text)) => {
                    self.partial.whole();
                    events.push_back(ServerEvent::Message { conn: id, text });
                }
                Ok(Message::Binary(_)) => {
                    self.partial.whole();
                    events.push_back(ServerEvent::Binary { conn: id });
                }
                Ok(Message::Close(frame)) => return Ok(self.answer_close(frame, now)),
                Ok(Message::Pong(payload)) => {
                    self.partial.control(payload.len());
                    self.take_pong(&payload);
                    events.push_back(ServerEvent::Control { conn: id });
                }
                Ok(Message::Ping(payload)) => {
                    self.partial.control(payload.len());
                    events.push_back(ServerEvent::Control { conn: id });
                }
                Ok(Message::Frame(_)) => {}
                Err(Error::Io(e)) if is_no_data(&e) => {
                    self.unread = false;
                    self.partial.wait(now);
                    break;
                }
                Err(Error::ConnectionClosed) => return Ok(Some("closed by us".to_string())),
                Err(e) => return self.fail(e, config.message_bytes_max, now),
            }
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
        // Nothing may follow a close frame (RFC 6455, 5.5.1), so a broken answer to ours is not told.
        if self.close_by.is_none() {
            let [high, low] = code.to_be_bytes();
            self.socket.get_mut().append(&[0x88, 2, high, low])?;
        }
        Ok(self.leave(ws_error(e, cap_bytes).to_string(), now))
    }

    /// A pong counts only with the payload of a ping that waits for it: others may be sent at any time.
    fn take_pong(&mut self, payload: &[u8]) {
        let of = std::str::from_utf8(payload).ok().and_then(|text| text.parse::<u64>().ok());
        let waits = |of: u64| {
            self.unanswered.is_some_and(|at| of >= at.as_nanos()) && of <= self.pinged_at.as_nanos()
        };
        if of.is_some_and(waits) {
            self.unanswered = None;
        }
    }

    fn keep_deadlines(&mut self, config: &ServerConfig, now: MonoNs) -> Served {
        if let Some(by) = self.close_by {
            return Ok((now >= by).then(|| "no answer to our close".to_string()));
        }
        if self.partial.since.is_some_and(|at| now.since(at) >= config.message_deadline) {
            return Err(NetError::Deadline("end of a message", config.message_deadline));
        }
        if self.unanswered.is_some_and(|at| now.since(at) >= config.pong_deadline) {
            return Err(NetError::Deadline("answer to ping", config.pong_deadline));
        }
        if config.ping_every.is_none_or(|every| now.since(self.pinged_at) < every) {
            return Ok(None);
        }
        self.pinged_at = now;
        self.unanswered.get_or_insert(now);
        let payload = Bytes::from(now.as_nanos().to_string());
        let sent = self.socket.write(Message::Ping(payload));
        sent.map(|()| None).map_err(|e| ws_error(e, config.write_buffer_bytes_max))
    }
}
