//! One WebSocket connection as a client: tungstenite's codec over a stream of ours.
//!
//! In: `now`, and text to send. Out: events, in order. Always: one deadline from `open` to `Opened`, caps on
//! frame, message and write buffer, a bounded close handshake, pings answered, reads that resume at any byte
//! boundary, and after an error or `Closed` the connection stays ended.
//!
//! The upgrade is made here and not by tungstenite: its handshake takes an answer in many small pieces for an
//! attack, and an `EINTR` for a failure.
//!
//! Allocation (tungstenite 0.30; a counting allocator saw none in 1,900 rounds of mixed sizes): a received message is a slice of tungstenite's
//! read buffer. While the caller drops each message before the next `poll`, that buffer has one owner and is
//! used again, so receiving allocates nothing after warm-up (fragmented messages are put together in new memory,
//! and a larger message than ever before grows the buffer). Sending copies the payload into a buffer of ours
//! that works the same way, then into tungstenite's `Vec` (masked there) and from there into the wire's;
//! all keep their capacity. The mask comes from a generator that enters the kernel once per 64 KiB of masks.

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::handshake::client::generate_key;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tungstenite::{Message, Utf8Bytes, WebSocket};

use super::url::WsUrl;
use super::wire::{Wire, net_error};
use super::{Dialer, NetError, Wants};
use crate::clock::MonoNs;

/// Zero-filled before each read, so it is small; several market-data messages fit.
pub(super) const READ_BUFFER_BYTES: usize = 4 * 1024;
/// The answer to an upgrade.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Headers in the answer to an upgrade.
const HEADERS_MAX: usize = 64;
/// Control frames handled in one call, so that a flood of pings does not hold the caller.
const CONTROLS_PER_POLL: u32 = 64;
/// What a message may cost beyond its own bytes: headers of its fragments, control frames between them.
const MESSAGE_OVERHEAD_BYTES: usize = 64 * 1024;
/// The code that stands for "the peer gave none".
const CODE_NONE: u16 = 1005;
/// The code that stands for "ended without a close frame".
const CODE_ABNORMAL: u16 = 1006;

/// Limits and timings of a [`WsClient`].
#[derive(Clone, PartialEq, Eq)]
pub struct WsConfig {
    /// From `open` to `Opened`: name, connection, TLS and upgrade together.
    pub connect_deadline: Duration,
    /// One frame.
    pub frame_bytes_max: usize,
    /// One message.
    pub message_bytes_max: usize,
    /// Bytes waiting for a peer that does not read (16 KiB at least); beyond them the connection ends.
    pub write_buffer_bytes_max: usize,
    /// How long nothing may have arrived before we ping; `None` for never.
    pub ping_every: Option<Duration>,
    /// How long after our ping something must arrive.
    pub pong_deadline: Duration,
    /// How long the peer may take to answer our close.
    pub close_deadline: Duration,
    /// Further request headers (an API key, say). Never shown.
    pub headers: Vec<(String, String)>,
}

impl std::fmt::Debug for WsConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WsConfig")
            .field("connect_deadline", &self.connect_deadline)
            .field("message_bytes_max", &self.message_bytes_max)
            .field("headers", &self.headers.len())
            .finish_non_exhaustive()
    }
}

impl Default for WsConfig {
    fn default() -> Self {
        Self {
            connect_deadline: Duration::from_secs(5),
            frame_bytes_max: 1024 * 1024,
            message_bytes_max: 4 * 1024 * 1024,
            write_buffer_bytes_max: 256 * 1024,
            ping_every: Some(Duration::from_secs(5)),
            pong_deadline: Duration::from_secs(5),
            close_deadline: Duration::from_secs(1),
            headers: Vec::new(),
        }
    }
}

/// What happened on the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WsEvent {
    /// The upgrade is done: messages may be sent.
    Opened,
    /// A whole text message. Drop it before the next `poll`, so that its buffer is used again.
    Text(Utf8Bytes),
    /// A binary message of so many bytes, dropped: no dialect of ours has them, the caller decides what it means.
    Binary(usize),
    /// The close handshake is done, or the peer began it and was answered. The connection is over.
    Closed {
        /// The peer's code; 1005 when it gave none, 1006 when it did not answer our close.
        code: u16,
        /// The peer's reason.
        reason: String,
    },
}

/// How far the connection is.
enum Link {
    Upgrading(Box<Upgrade>),
    Open(Box<WebSocket<Wire>>),
    Ended,
}

/// The upgrade under way.
struct Upgrade {
    wire: Wire,
    key: String,
    answer: Vec<u8>,
}

/// A WebSocket connection as a client.
pub struct WsClient {
    link: Link,
    config: WsConfig,
    opened_at: MonoNs,
    last_received: MonoNs,
    last_sent: MonoNs,
    pinged_at: Option<MonoNs>,
    close_by: Option<MonoNs>,
    scratch: BytesMut,
}

impl WsClient {
    /// Begins to connect to `url` and asks for `target` below it.
    ///
    /// # Errors
    /// Only what is known at once: a bad target or header, or the dialer's refusal.
    pub fn open(
        dialer: &mut dyn Dialer,
        url: &WsUrl,
        target: &str,
        config: WsConfig,
        now: MonoNs,
    ) -> Result<Self, NetError> {
        let key = generate_key();
        let request = upgrade_request(url, target, &key, &config.headers)?;
        let stream = dialer.dial(url.endpoint(), now)?;
        let mut wire = Wire::new(stream, config.write_buffer_bytes_max.max(ANSWER_BYTES_MAX));
        wire.append(request.as_bytes())?;
        Ok(Self {
            link: Link::Upgrading(Box::new(Upgrade { wire, key, answer: Vec::new() })),
            scratch: BytesMut::with_capacity(READ_BUFFER_BYTES),
            config,
            opened_at: now,
            last_received: now,
            last_sent: now,
            pinged_at: None,
            close_by: None,
        })
    }

    /// The next event, or `None` when there is nothing to do now. Also writes what waits and keeps the deadlines.
    ///
    /// # Errors
    /// Whatever ended the connection; it stays ended.
    pub fn poll(&mut self, now: MonoNs) -> Result<Option<WsEvent>, NetError> {
        let polled = match &self.link {
            Link::Upgrading(_) => self.poll_upgrade(now),
            Link::Open(_) => self.poll_open(now),
            Link::Ended => Err(NetError::Closed("ended before".to_string())),
        };
        if matches!(polled, Err(_) | Ok(Some(WsEvent::Closed { .. }))) {
            self.shutdown();
        }
        polled
    }

    fn poll_upgrade(&mut self, now: MonoNs) -> Result<Option<WsEvent>, NetError> {
        if self.close_by.is_some() {
            return Ok(Some(WsEvent::Closed {
                code: CODE_ABNORMAL,
                reason: "given up".to_string(),
            }));
        }
        if now.since(self.opened_at) >= self.config.connect_deadline {
            return Err(NetError::Deadline("connecting", self.config.connect_deadline));
        }
        let Link::Upgrading(upgrade) = &mut self.link else { return Ok(None) };
        let Some(tail) = upgrade.step()? else { return Ok(None) };
        let Link::Upgrading(upgrade) = std::mem::replace(&mut self.link, Link::Ended) else {
            return Ok(None);
        };
        let mut wire = upgrade.wire;
        wire.take_arrived();
        let codec = codec_config(&self.config);
        let socket = WebSocket::from_partially_read(wire, tail, Role::Client, Some(codec));
        self.link = Link::Open(Box::new(socket));
        self.last_received = now;
        Ok(Some(WsEvent::Opened))
    }

    fn poll_open(&mut self, now: MonoNs) -> Result<Option<WsEvent>, NetError> {
        let Link::Open(socket) = &mut self.link else { return Ok(None) };
        let budget = self.config.message_bytes_max.saturating_add(MESSAGE_OVERHEAD_BYTES);
        let read = read_event(socket, budget, self.config.message_bytes_max);
        if socket.get_mut().take_arrived() > 0 {
            self.last_received = now;
            self.pinged_at = None;
        }
        match read? {
            None => self.keep_deadlines(now),
            event => Ok(event),
        }
    }

    /// What time alone brings: the end of a close nobody answers, our pings, a peer that is gone.
    fn keep_deadlines(&mut self, now: MonoNs) -> Result<Option<WsEvent>, NetError> {
        if let Some(by) = self.close_by
            && now >= by
        {
            let reason = "no answer to our close".to_string();
            return Ok(Some(WsEvent::Closed { code: CODE_ABNORMAL, reason }));
        }
        let Some(every) = self.config.ping_every else { return Ok(None) };
        match self.pinged_at {
            Some(at) if now.since(at) >= self.config.pong_deadline => {
                Err(NetError::Deadline("answer to ping", self.config.pong_deadline))
            }
            None if self.close_by.is_none() && now.since(self.last_received) >= every => {
                self.pinged_at = Some(now);
                self.write(Message::Ping(Bytes::new()))?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Queues a text message and writes as much as the socket takes. Allocates nothing after warm-up.
    ///
    /// # Errors
    /// Not open, not UTF-8, the write buffer's cap, or the socket's error. Only after "not UTF-8" and "not open"
    /// is the connection as it was; otherwise it has ended.
    pub fn send_text(&mut self, payload: &[u8], now: MonoNs) -> Result<(), NetError> {
        if !self.is_open() {
            return Err(NetError::Closed("not open".to_string()));
        }
        self.scratch.extend_from_slice(payload);
        let text = Utf8Bytes::try_from(self.scratch.split().freeze())
            .map_err(|_| NetError::Protocol("text to send is not utf-8".to_string()))?;
        self.last_sent = now;
        self.write(Message::Text(text)).inspect_err(|_| self.shutdown())
    }

    fn write(&mut self, message: Message) -> Result<(), NetError> {
        let Link::Open(socket) = &mut self.link else {
            return Err(NetError::Closed("not open".to_string()));
        };
        let written = socket.write(message).and_then(|()| socket.flush());
        written.map_err(|e| ws_error(e, self.config.write_buffer_bytes_max))
    }

    /// Writes what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// The socket's: the connection has ended.
    pub fn flush(&mut self) -> Result<(), NetError> {
        let pumped = match &mut self.link {
            Link::Upgrading(upgrade) => upgrade.wire.pump(),
            Link::Open(socket) => socket.get_mut().pump(),
            Link::Ended => return Err(NetError::Closed("ended before".to_string())),
        };
        pumped.map_err(|e| {
            self.shutdown();
            net_error("writing", e)
        })
    }

    /// Begins the close handshake; `poll` finishes it within the deadline. A connection that is not open yet
    /// is given up.
    pub fn close(&mut self, code: u16, now: MonoNs) {
        if self.close_by.is_some() {
            return;
        }
        self.close_by = Some(now.after(self.config.close_deadline));
        if let Link::Open(socket) = &mut self.link {
            let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::default() };
            if let Err(e) = socket.close(Some(frame)) {
                log::debug!("close frame not written: {e}");
                self.close_by = Some(now);
            }
        }
    }

    /// Ends the connection at once.
    pub fn shutdown(&mut self) {
        match std::mem::replace(&mut self.link, Link::Ended) {
            Link::Upgrading(mut upgrade) => upgrade.wire.shutdown(),
            Link::Open(mut socket) => socket.get_mut().shutdown(),
            Link::Ended => {}
        }
    }

    /// A handle that ends the connection from another thread; `None` before there is a socket, and in memory.
    pub fn interrupter(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        self.wire()?.stream().interrupter()
    }

    /// Whether messages may be sent.
    pub fn is_open(&self) -> bool {
        matches!(&self.link, Link::Open(socket) if socket.can_write())
    }

    /// Bytes that wait to be written.
    pub fn buffered(&self) -> usize {
        self.wire().map_or(0, Wire::buffered)
    }

    /// When bytes last arrived; the moment of `open` before any did.
    pub fn last_received(&self) -> MonoNs {
        self.last_received
    }

    /// When text was last sent; the moment of `open` before any was.
    pub fn last_sent(&self) -> MonoNs {
        self.last_sent
    }

    /// The descriptor to poll, once there is one.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.wire()?.stream().fd()
    }

    /// What to poll it for.
    pub fn wants(&self) -> Wants {
        self.wire().map_or(Wants::Time, Wire::wants)
    }

    fn wire(&self) -> Option<&Wire> {
        match &self.link {
            Link::Upgrading(upgrade) => Some(&upgrade.wire),
            Link::Open(socket) => Some(socket.get_ref()),
            Link::Ended => None,
        }
    }
}

impl Upgrade {
    /// Reads on; once the answer is complete and right, gives what followed it.
    fn step(&mut self) -> Result<Option<Vec<u8>>, NetError> {
        let mut chunk = [0; 1024];
        loop {
            let n = match self.wire.read(&mut chunk) {
                Ok(0) => return Err(NetError::Closed("during the upgrade".to_string())),
                Ok(n) => n,
                Err(e) if super::wire::is_no_data(&e) => return Ok(None),
                Err(e) => return Err(net_error("connecting", e)),
            };
            self.answer.extend_from_slice(&chunk[..n]);
            // Only the end of a line can be the end of the head.
            if chunk[..n].contains(&b'\n')
                && let Some(head_bytes) = check_answer(&self.answer, &self.key)?
            {
                return Ok(Some(self.answer.split_off(head_bytes)));
            }
            if self.answer.len() > ANSWER_BYTES_MAX {
                return Err(NetError::TooLarge("answer to the upgrade", ANSWER_BYTES_MAX));
            }
        }
    }
}

/// The length of the answer's head when it is complete and accepts the upgrade (RFC 6455, 4.1).
fn check_answer(bytes: &[u8], key: &str) -> Result<Option<usize>, NetError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut answer = httparse::Response::new(&mut headers);
    let head_bytes = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(n)) => n,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(e) => return Err(NetError::Protocol(format!("answer to the upgrade: {e}"))),
    };
    let header = |name: &str| {
        let found = answer.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name));
        found.map(|h| h.value).unwrap_or_default()
    };
    let status = answer.code.unwrap_or_default();
    if status != 101 {
        return Err(NetError::Protocol(format!("upgrade answered with status {status}")));
    }
    let right = header("upgrade").eq_ignore_ascii_case(b"websocket")
        && super::http1::has_token(header("connection"), "upgrade")
        && header("sec-websocket-accept") == derive_accept_key(key.as_bytes()).as_bytes()
        && header("sec-websocket-extensions").is_empty()
        && header("sec-websocket-protocol").is_empty();
    if !right {
        return Err(NetError::Protocol("answer does not accept the upgrade".to_string()));
    }
    Ok(Some(head_bytes))
}

fn upgrade_request(
    url: &WsUrl,
    target: &str,
    key: &str,
    headers: &[(String, String)],
) -> Result<String, NetError> {
    let path = url.path(target);
    if !path.bytes().all(|b| b.is_ascii_graphic()) {
        let shown = path.split('?').next().unwrap_or_default();
        return Err(NetError::BadAddress(format!("{shown:?} (bad path or query)")));
    }
    let mut request = format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n",
        url.host_header()
    );
    for (name, value) in headers {
        super::http1::push_header(&mut request, name, value)?;
    }
    request.push_str("\r\n");
    Ok(request)
}

fn codec_config(config: &WsConfig) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(config.write_buffer_bytes_max.max(ANSWER_BYTES_MAX))
        .max_message_size(Some(config.message_bytes_max))
        .max_frame_size(Some(config.frame_bytes_max))
}

/// The next event from an open socket; `None` when no whole message is there.
fn read_event(
    socket: &mut WebSocket<Wire>,
    budget_bytes: usize,
    message_bytes_max: usize,
) -> Result<Option<WsEvent>, NetError> {
    for _ in 0..CONTROLS_PER_POLL {
        socket.get_mut().grant_reads(budget_bytes);
        match socket.read() {
            Ok(Message::Text(text)) => return Ok(Some(WsEvent::Text(text))),
            Ok(Message::Binary(bytes)) => return Ok(Some(WsEvent::Binary(bytes.len()))),
            Ok(Message::Close(frame)) => {
                // The answer to the peer's close is written as far as the socket takes it: the peer is leaving.
                if let Err(e) = socket.flush() {
                    log::debug!("answer to a close frame not written: {e}");
                }
                return Ok(Some(closed(frame)));
            }
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
            Err(Error::Io(e)) if super::wire::is_no_data(&e) => {
                return socket.get_mut().pump().map(|()| None).map_err(|e| net_error("writing", e));
            }
            Err(Error::ConnectionClosed) => return Ok(Some(closed(None))),
            Err(e) => return Err(ws_error(e, message_bytes_max)),
        }
    }
    Ok(None)
}

fn closed(frame: Option<CloseFrame>) -> WsEvent {
    match frame {
        Some(frame) => {
            WsEvent::Closed { code: frame.code.into(), reason: frame.reason.as_str().to_string() }
        }
        None => WsEvent::Closed { code: CODE_NONE, reason: String::new() },
    }
}

/// tungstenite's error in our words.
pub(super) fn ws_error(e: Error, cap_bytes: usize) -> NetError {
    match e {
        Error::Io(e) if e.kind() == std::io::ErrorKind::QuotaExceeded => {
            NetError::Protocol("too many fragments without a message".to_string())
        }
        Error::Io(e) => net_error("websocket", e),
        Error::Capacity(CapacityError::MessageTooLong { max_size, .. }) => {
            NetError::TooLarge("websocket message", max_size)
        }
        Error::WriteBufferFull(_) => NetError::TooLarge("write buffer", cap_bytes),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            NetError::Closed("without a close frame".to_string())
        }
        Error::ConnectionClosed | Error::AlreadyClosed => NetError::Closed("ended".to_string()),
        other => NetError::Protocol(other.to_string()),
    }
}
