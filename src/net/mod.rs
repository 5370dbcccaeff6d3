//! How bytes move. Knows nothing of trading and nothing of actors.
//!
//! Everything here is non-blocking and takes `now`: whoever calls decides when to call again, with the deadlines
//! that the calls themselves enforce. The one exception is the HTTP client on ureq, which may block for at most
//! its declared timeout and runs on threads of its own.

// Delays between attempts to connect.
pub mod backoff;
// Streams from the system: names, sockets, TLS.
pub mod dial;
// HTTP clients: blocking on ureq, and stepped.
pub mod http;
// Streams in memory, for the stepper.
pub mod memory;
// Names to addresses, on a thread of its own.
pub mod resolve;
// What HTTP/1.1 bytes mean.
mod http1;
// The small HTTP and WebSocket server of the venue and the ops page.
pub mod server;
// One connection of the server.
mod server_conn;
// Its plain half: requests and answers.
mod server_http;
// TCP and TLS streams.
pub mod stream;
// Base URLs.
pub mod url;
// A stream with an outgoing buffer.
mod wire;
// The WebSocket client.
pub mod websocket;

use std::fmt;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use crate::clock::MonoNs;

/// What a stream waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Bytes to read.
    Read,
    /// Bytes to read or room to write (also: a connect in progress).
    ReadWrite,
    /// No descriptor yet (DNS is under way): ask again at the next tick.
    Time,
}

/// A non-blocking byte stream: TCP, TLS over TCP, or memory. Reads and writes give `WouldBlock` when there is
/// nothing to do, also while the name is resolved, the connection made or the TLS handshake under way.
pub trait Stream: Read + Write + Send {
    /// The descriptor to poll, once there is one; memory streams have none.
    fn fd(&self) -> Option<BorrowedFd<'_>>;

    /// What to poll it for.
    fn wants(&self) -> Wants;

    /// Ends both directions at once.
    fn shutdown(&mut self);

    /// A handle that ends the stream from another thread; `None` where nothing can block.
    fn interrupter(&self) -> Option<Box<dyn Fn() + Send + Sync>>;

    /// The address of the other side; `None` where there is none, or none yet.
    fn peer(&self) -> Option<IpAddr> {
        None
    }
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address literal.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// Whether TLS is spoken.
    pub tls: bool,
}

/// Makes streams. The system's resolves and connects; the simulation's hands out memory pipes.
pub trait Dialer: Send {
    /// Begins to connect; returns at once.
    ///
    /// # Errors
    /// Only what is known at once: a bad host name, no descriptor left.
    fn dial(&mut self, endpoint: &Endpoint, now: MonoNs) -> Result<Box<dyn Stream>, NetError>;
}

/// Accepts streams, for the venue and the ops page.
pub trait Acceptor: Send {
    /// The next incoming stream, if one waits.
    ///
    /// # Errors
    /// The system's refusal (no descriptor left, say); listening goes on.
    fn accept(&mut self) -> Result<Option<Box<dyn Stream>>, NetError>;

    /// The descriptor to poll; memory listeners have none.
    fn fd(&self) -> Option<BorrowedFd<'_>>;
}

/// What took too long when the peer's system neither takes nor acknowledges what was written: the peer is gone, or does
/// not read.
pub const UNACKNOWLEDGED: &str = "the peer's acknowledgement";

/// Why the network did not do what was asked. Never contains secrets or query strings.
#[derive(Debug)]
pub enum NetError {
    /// The name could not be resolved.
    Resolve(String),
    /// The system's error, and during what.
    Io(&'static str, std::io::Error),
    /// A deadline passed, and which.
    Deadline(&'static str, Duration),
    /// TLS failed; the peer is not who it should be, or speaks nonsense.
    Tls(String),
    /// The peer broke the protocol, or answered the handshake with another status.
    Protocol(String),
    /// A cap was passed: what, and the cap.
    TooLarge(&'static str, usize),
    /// The peer closed the connection.
    Closed(String),
    /// An address or URL is not one.
    BadAddress(String),
}

impl fmt::Display for NetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(host) => write!(f, "cannot resolve {host}"),
            Self::Io(during, e) => write!(f, "{during}: {e}"),
            Self::Deadline(what, limit) => write!(f, "{what} took longer than {limit:?}"),
            Self::Tls(why) => write!(f, "tls: {why}"),
            Self::Protocol(why) => write!(f, "protocol: {why}"),
            Self::TooLarge(what, cap) => write!(f, "{what} larger than {cap} bytes"),
            Self::Closed(why) => write!(f, "closed by peer: {why}"),
            Self::BadAddress(what) => write!(f, "not an address: {what}"),
        }
    }
}

impl std::error::Error for NetError {}

/// A request to a REST API.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// `GET`, `POST`, `DELETE`, ...
    pub method: &'static str,
    /// The base, such as `https://api.binance.com`.
    pub base_url: String,
    /// Path and query below the base.
    pub target: String,
    /// Header names and values.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
}

impl fmt::Debug for HttpRequest {
    /// Without the query, the headers' values and the body: they carry keys and signatures.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.target.split('?').next().unwrap_or_default();
        write!(f, "{} {}{path}", self.method, self.base_url)
    }
}

/// The answer to an [`HttpRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status code.
    pub status: u16,
    /// Header names (lower case) and values.
    pub headers: Vec<(String, String)>,
    /// The body, capped by the client.
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// The value of a header, by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

/// One HTTP call at a time. The system's client blocks inside `begin` for at most `timeout`; the stepped one
/// never blocks and finishes in a later `poll`.
pub trait HttpClient: Send {
    /// Begins a call; an unfinished earlier one is given up.
    fn begin(&mut self, request: HttpRequest, timeout: Duration, now: MonoNs);

    /// The outcome, once there is one.
    fn poll(&mut self, now: MonoNs) -> Option<Result<HttpResponse, NetError>>;

    /// Whether `begin` blocks, so that the caller declares a blocking section around it.
    fn blocks(&self) -> bool;
}
