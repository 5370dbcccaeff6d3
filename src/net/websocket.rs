//! API only; the body follows.
use std::os::fd::BorrowedFd;
use std::time::Duration;

use tungstenite::Utf8Bytes;

use super::url::WsUrl;
use super::{Dialer, NetError, Wants};
use crate::clock::MonoNs;

/// Limits and timings of a [`WsClient`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WsConfig {
    /// From `open` to `Opened`: name, connection, TLS and upgrade together.
    pub connect_deadline: Duration,
    /// One frame.
    pub frame_bytes_max: usize,
    /// One message.
    pub message_bytes_max: usize,
    /// Bytes waiting for a peer that does not read; beyond them the connection ends.
    pub write_buffer_bytes_max: usize,
    /// How long nothing may have arrived before we ping; `None` for never.
    pub ping_every: Option<Duration>,
    /// How long after our ping something must arrive.
    pub pong_deadline: Duration,
    /// How long the peer may take to answer our close.
    pub close_deadline: Duration,
    /// Further request headers (an API key, say). Never shown in errors.
    pub headers: Vec<(String, String)>,
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
    /// The close handshake is done, or the peer began it and we answered. The connection is over.
    Closed {
        /// The peer's code; 1005 when it gave none.
        code: u16,
        /// The peer's reason.
        reason: String,
    },
}

/// A WebSocket connection as a client.
pub struct WsClient {}

impl WsClient {
    /// Begins to connect to `url` and asks for `target` below it.
    ///
    /// # Errors
    /// Only what is known at once: a bad target or header, or the dialer's refusal.
    pub fn open(
        _dialer: &mut dyn Dialer,
        _url: &WsUrl,
        _target: &str,
        _config: WsConfig,
        _now: MonoNs,
    ) -> Result<Self, NetError> {
        todo!()
    }
    /// The next event, or `None` when there is nothing to do now. Also writes what waits and keeps the deadlines.
    ///
    /// # Errors
    /// Whatever ended the connection; it stays ended.
    pub fn poll(&mut self, _now: MonoNs) -> Result<Option<WsEvent>, NetError> {
        todo!()
    }
    /// Queues a text message and writes as much as the socket takes. Allocates nothing after warm-up.
    ///
    /// # Errors
    /// Not open, not UTF-8, the write buffer's cap, or the socket's error: the connection has ended.
    pub fn send_text(&mut self, _payload: &[u8], _now: MonoNs) -> Result<(), NetError> {
        todo!()
    }
    /// Writes what waits, as far as the socket takes it.
    ///
    /// # Errors
    /// The socket's: the connection has ended.
    pub fn flush(&mut self) -> Result<(), NetError> {
        todo!()
    }
    /// Begins the close handshake; `poll` finishes it within the deadline.
    pub fn close(&mut self, _code: u16, _now: MonoNs) {
        todo!()
    }
    /// Ends the connection at once.
    pub fn shutdown(&mut self) {
        todo!()
    }
    /// A handle that ends the connection from another thread.
    pub fn interrupter(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        todo!()
    }
    /// Whether messages may be sent.
    pub fn is_open(&self) -> bool {
        todo!()
    }
    /// Bytes that wait to be written.
    pub fn buffered(&self) -> usize {
        todo!()
    }
    /// When bytes last arrived; when it was opened, before any did.
    pub fn last_received(&self) -> MonoNs {
        todo!()
    }
    /// The descriptor to poll, once there is one.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        todo!()
    }
    /// What to poll it for.
    pub fn wants(&self) -> Wants {
        todo!()
    }
}
