//! API only; the body follows.
use std::os::fd::BorrowedFd;
use std::time::Duration;

use tungstenite::Utf8Bytes;

use super::{Acceptor, HttpResponse};
use crate::clock::MonoNs;

/// Limits of a [`Server`]: every buffer and every wait has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Connections held at once; the next one is closed at once.
    pub conns_max: usize,
    /// The request line and headers of one request.
    pub head_bytes_max: usize,
    /// The body of one request.
    pub body_bytes_max: usize,
    /// One WebSocket message from a client, also one frame of it.
    pub message_bytes_max: usize,
    /// Bytes waiting for a client that does not read; beyond them it is dropped.
    pub write_buffer_bytes_max: usize,
    /// From a connection's or request's first byte to its last.
    pub head_deadline: Duration,
    /// Between two requests of a kept-alive connection.
    pub idle_deadline: Duration,
    /// How often to ping WebSocket clients; `None` for never.
    pub ping_every: Option<Duration>,
    /// How long after our ping something must have arrived.
    pub pong_deadline: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            conns_max: 256,
            head_bytes_max: 16 * 1024,
            body_bytes_max: 1024 * 1024,
            message_bytes_max: 256 * 1024,
            write_buffer_bytes_max: 8 * 1024 * 1024,
            head_deadline: Duration::from_secs(5),
            idle_deadline: Duration::from_secs(60),
            ping_every: Some(Duration::from_secs(20)),
            pong_deadline: Duration::from_secs(60),
        }
    }
}

/// Names one connection; never used twice by one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// What a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRequest {
    /// `GET`, `POST`, ...
    pub method: String,
    /// The path, undecoded.
    pub path: String,
    /// What follows `?`, raw and undecoded; empty for none.
    pub query: String,
    /// Header names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

impl ServerRequest {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// What happened on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerEvent {
    /// A request: answer it with [`Server::respond`].
    Request {
        /// Who asks.
        conn: ConnId,
        /// For what.
        request: ServerRequest,
    },
    /// A proper WebSocket upgrade: answer with [`Server::accept_ws`], or refuse it with [`Server::respond`].
    Upgrade {
        /// Who asks.
        conn: ConnId,
        /// The request line and headers.
        request: ServerRequest,
    },
    /// A whole text message.
    Message {
        /// From whom.
        conn: ConnId,
        /// The message.
        text: Utf8Bytes,
    },
    /// A binary message, whose bytes are dropped: no dialect of ours has them.
    Binary {
        /// From whom.
        conn: ConnId,
    },
    /// The connection is gone; its id means nothing any more. Comes once for every connection that had an
    /// `Upgrade` or `Request` event and for those that failed before.
    Closed {
        /// Which.
        conn: ConnId,
        /// Why, for the log.
        why: String,
    },
}

/// The server.
pub struct Server {}

impl Server {
    /// A server on what `acceptor` accepts.
    pub fn new(_acceptor: Box<dyn Acceptor>, _config: ServerConfig) -> Self {
        todo!()
    }
    /// The next event; reads and writes when its queue is empty. `None`: nothing is ready.
    pub fn poll(&mut self, _now: MonoNs) -> Option<ServerEvent> {
        todo!()
    }
    /// Writes what waits, as far as the sockets take it; `poll` does it too.
    pub fn flush(&mut self, _now: MonoNs) {
        todo!()
    }
    /// Answers the request; false when the connection is gone or asked nothing.
    pub fn respond(&mut self, _conn: ConnId, _response: HttpResponse) -> bool {
        todo!()
    }
    /// Accepts the upgrade; false when the connection is gone or asked for none.
    pub fn accept_ws(&mut self, _conn: ConnId) -> bool {
        todo!()
    }
    /// Queues a text message (a `&Utf8Bytes` will do); false when the connection is gone or not open.
    pub fn send_text(&mut self, _conn: ConnId, _text: &str) -> bool {
        todo!()
    }
    /// Begins the close handshake of a WebSocket; a plain connection ends after what is queued.
    pub fn close(&mut self, _conn: ConnId, _code: u16, _reason: &str) {
        todo!()
    }
    /// Ends the connection at once, losing what is queued.
    pub fn drop_conn(&mut self, _conn: ConnId) {
        todo!()
    }
    /// Stops (or resumes) reading and writing, keeping TCP: a peer that is there and says nothing.
    pub fn half_open(&mut self, _conn: ConnId, _on: bool) {
        todo!()
    }
    /// How many connections are held.
    pub fn connections(&self) -> usize {
        todo!()
    }
    /// Bytes queued for a client; zero when it is gone.
    pub fn buffered(&self, _conn: ConnId) -> usize {
        todo!()
    }
    /// The descriptors to poll, and whether also for room to write.
    pub fn waits(&self, _each: &mut dyn FnMut(BorrowedFd<'_>, bool)) {
        todo!()
    }
    /// Whether no event waits and nothing is queued for any client.
    pub fn is_idle(&self) -> bool {
        todo!()
    }
}
