//! A small HTTP/1.1 and WebSocket server, for the venue and the ops page.
//!
//! In: streams from an acceptor, and `now`. Out: requests and messages as events; what the caller answers goes back.
//! Always: one thread (the caller's), nothing blocks, every buffer has a cap and every wait a deadline, events of
//! one connection come in order, and a [`ConnId`] is never used twice.
//!
//! Why our own: the live HTTP server crates bring a thread pool or a runtime, block in reads without a deadline
//! for heads, and cannot be stepped over memory streams under a virtual clock. What is hard is not ours: httparse
//! reads the heads, tungstenite the frames; this file holds the connections' states and `http1` the
//! rules for lengths. Outgoing frames are unmasked and trivial, so they are put together here, once per client
//! straight into its buffer.
//!
//! ```text
//! Http: Reading -> Asked -> Reading ...          (keep-alive, one request at a time)
//!                        -> Ending               (answer, then close)
//!       Reading -> AskedUpgrade -> Ws            (accept_ws)
//! ```

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tungstenite::Utf8Bytes;

use super::server_conn::{Conn, Outcome};
use super::wire::Wire;
use super::{Acceptor, HttpResponse, Stream};
use crate::clock::MonoNs;

/// Streams accepted in one pass.
const ACCEPTS_PER_PASS: usize = 16;

/// How long one warning stands for all like it.
const MUTED: Duration = Duration::from_secs(1);

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
    /// From the first byte of a WebSocket message to its last.
    pub message_deadline: Duration,
    /// Between two requests of a kept-alive connection.
    pub idle_deadline: Duration,
    /// How often to ping WebSocket clients; `None` for never.
    pub ping_every: Option<Duration>,
    /// How long after our ping a pong must have arrived.
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
            message_deadline: Duration::from_secs(10),
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

/// What to poll a descriptor of the server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Bytes to read.
    Read,
    /// Room to write; what there is to read stays where it is.
    Write,
    /// Either.
    Both,
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
    /// A ping, which is answered already, or a pong: venues count them as messages.
    Control {
        /// From whom.
        conn: ConnId,
    },
    /// The connection is gone; its id means nothing any more. Comes once for every connection.
    Closed {
        /// Which.
        conn: ConnId,
        /// Why, for the log.
        why: String,
    },
}

/// The server.
pub struct Server {
    acceptor: Box<dyn Acceptor>,
    config: ServerConfig,
    /// Ordered by id, because ids only grow.
    conns: Vec<Conn>,
    events: VecDeque<ServerEvent>,
    next_id: u64,
    now: MonoNs,
    /// The last attempt to accept was refused: what waits there stays, and waking for it would never end.
    accept_refused: bool,
    /// Until when further refusals to accept are not logged.
    mute_until: MonoNs,
}

impl Server {
    /// A server on what `acceptor` accepts.
    pub fn new(acceptor: Box<dyn Acceptor>, config: ServerConfig) -> Self {
        Self {
            acceptor,
            config,
            conns: Vec::new(),
            events: VecDeque::new(),
            next_id: 1,
            now: MonoNs::ZERO,
            accept_refused: false,
            mute_until: MonoNs::ZERO,
        }
    }

    /// The next event; reads and writes when its queue is empty. `None`: nothing is ready.
    pub fn poll(&mut self, now: MonoNs) -> Option<ServerEvent> {
        self.now = now;
        if self.events.is_empty() {
            self.accept();
            self.serve();
        }
        self.events.pop_front()
    }

    /// Writes what waits, as far as the sockets take it; `poll` does it too, once its events are taken.
    pub fn flush(&mut self) {
        for conn in &mut self.conns {
            conn.flush();
        }
    }

    fn accept(&mut self) {
        self.accept_refused = false;
        for _ in 0..ACCEPTS_PER_PASS {
            match self.acceptor.accept() {
                Ok(Some(stream)) => self.admit(stream),
                Ok(None) => return,
                Err(e) => {
                    self.accept_refused = true;
                    self.warn(&e.to_string());
                    return;
                }
            }
        }
    }

    fn admit(&mut self, mut stream: Box<dyn Stream>) {
        if self.conns.len() >= self.config.conns_max {
            self.warn("all connections are taken");
            stream.shutdown();
            return;
        }
        let wire = Wire::new(stream, self.config.write_buffer_bytes_max);
        self.conns.push(Conn::new(ConnId(self.next_id), wire, self.now));
        self.next_id += 1;
    }

    /// Says that a connection was not accepted, but not for each of many.
    fn warn(&mut self, why: &str) {
        if self.now >= self.mute_until {
            self.mute_until = self.now.after(MUTED);
            log::warn!("connection not accepted: {why}");
        }
    }

    /// One pass over all connections.
    fn serve(&mut self) {
        self.look();
        let (now, config, events) = (self.now, &self.config, &mut self.events);
        for conn in &mut self.conns {
            conn.serve(config, now, events);
        }
        self.reap();
    }

    /// Asks the system once which connections have something. A read that finds nothing costs as much as one that finds
    /// something: those that are silent must not cost the others.
    fn look(&mut self) {
        let mut fds = Vec::with_capacity(self.conns.len());
        let mut asked = Vec::with_capacity(self.conns.len());
        for (at, conn) in self.conns.iter().enumerate() {
            conn.waits(&mut |fd, interest| {
                let flags = match interest {
                    Interest::Read => PollFlags::IN | PollFlags::RDHUP,
                    Interest::Write => PollFlags::OUT,
                    Interest::Both => PollFlags::IN | PollFlags::RDHUP | PollFlags::OUT,
                };
                fds.push(PollFd::from_borrowed_fd(fd, flags));
                asked.push(at);
            });
        }
        // Where the system does not tell, each is asked by itself.
        let told = poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok();
        let ready: Vec<bool> = fds.iter().map(|fd| !told || !fd.revents().is_empty()).collect();
        drop(fds);
        for (at, ready) in asked.into_iter().zip(ready) {
            self.conns[at].set_ready(ready);
        }
    }

    /// Forgets ended connections, telling why.
    fn reap(&mut self) {
        let events = &mut self.events;
        self.conns.retain_mut(|conn| match conn.take_end() {
            Some(why) => {
                events.push_back(ServerEvent::Closed { conn: conn.id(), why });
                false
            }
            None => true,
        });
    }

    fn conn(&mut self, id: ConnId) -> Option<&mut Conn> {
        let at = self.conns.binary_search_by_key(&id, Conn::id).ok()?;
        self.conns.get_mut(at)
    }

    /// Answers the request or refuses the upgrade; false when the connection is gone or asked nothing. Adds
    /// `Content-Length` and `Connection`; what it cannot send as a header is left out and logged.
    pub fn respond(&mut self, conn: ConnId, response: HttpResponse) -> bool {
        let now = self.now;
        self.act(conn, |conn| conn.respond(&response, now))
    }

    /// Accepts the upgrade; false when the connection is gone or asked for none.
    pub fn accept_ws(&mut self, conn: ConnId) -> bool {
        let (now, config) = (self.now, self.config.clone());
        self.act(conn, |conn| conn.accept_ws(&config, now))
    }

    /// Queues a text message (a `&Utf8Bytes` will do); false when the connection is gone or not an open
    /// WebSocket. A client whose buffer is full is dropped. The bytes leave with the next `flush` or `poll`.
    pub fn send_text(&mut self, conn: ConnId, text: &str) -> bool {
        self.act(conn, |conn| conn.send_text(text))
    }

    /// Queues bytes as they are, whatever the connection speaks: how a broken venue looks. False when the
    /// connection is gone.
    pub fn send_raw(&mut self, conn: ConnId, bytes: &[u8]) -> bool {
        self.act(conn, |conn| conn.send_raw(bytes))
    }

    /// Writes one byte per pass to a client from now on, or all at once again.
    pub fn slice(&mut self, conn: ConnId, on: bool) {
        if let Some(conn) = self.conn(conn) {
            conn.slice(on);
        }
    }

    /// Ends the connection once what its socket takes now is written.
    pub fn cut(&mut self, conn: ConnId) {
        if let Some(conn) = self.conn(conn) {
            conn.pump();
            conn.end("cut by us".to_string());
        }
    }

    fn act(&mut self, id: ConnId, act: impl FnOnce(&mut Conn) -> Outcome) -> bool {
        match self.conn(id).map(act) {
            Some(Ok(done)) => done,
            Some(Err(e)) => {
                if let Some(conn) = self.conn(id) {
                    conn.end(e.to_string());
                }
                false
            }
            None => false,
        }
    }

    /// Begins the close handshake of a WebSocket (the reason is cut at 120 bytes); a plain connection ends once
    /// what is queued is written.
    pub fn close(&mut self, conn: ConnId, code: u16, reason: &str) {
        let now = self.now;
        self.act(conn, |conn| conn.close(code, reason, now));
    }

    /// Ends the connection at once, losing what is queued.
    pub fn drop_conn(&mut self, conn: ConnId) {
        self.drop_because(conn, "dropped by us");
    }

    /// [`Server::drop_conn`], with the reason that [`ServerEvent::Closed`] tells.
    pub fn drop_because(&mut self, conn: ConnId, why: &str) {
        if let Some(conn) = self.conn(conn) {
            conn.end(why.to_string());
        }
    }

    /// Stops (or resumes) reading and writing, keeping TCP: a peer that is there and says nothing. What is sent
    /// to it meanwhile is lost.
    pub fn half_open(&mut self, conn: ConnId, on: bool) {
        if let Some(conn) = self.conn(conn) {
            conn.half_open(on);
        }
    }

    /// From which address a client came; `None` when it is gone or came through memory.
    pub fn peer(&self, conn: ConnId) -> Option<IpAddr> {
        let at = self.conns.binary_search_by_key(&conn, Conn::id).ok()?;
        self.conns[at].peer()
    }

    /// How many connections are held.
    pub fn connections(&self) -> usize {
        self.conns.iter().filter(|conn| !conn.has_ended()).count()
    }

    /// Bytes queued for a client; zero when it is gone.
    pub fn buffered(&self, conn: ConnId) -> usize {
        let at = self.conns.binary_search_by_key(&conn, Conn::id);
        at.map_or(0, |at| self.conns[at].buffered())
    }

    /// The descriptors to poll, and for what. The listener is not among them
    /// while the system refuses to accept (no descriptor left, say): every `poll` tries again.
    pub fn waits<'a>(&'a self, each: &mut dyn FnMut(BorrowedFd<'a>, Interest)) {
        if let Some(fd) = self.acceptor.fd().filter(|_| !self.accept_refused) {
            each(fd, Interest::Read);
        }
        for conn in &self.conns {
            conn.waits(each);
        }
    }

    /// Whether no event waits and nothing is queued for any client.
    pub fn is_idle(&self) -> bool {
        self.events.is_empty() && self.conns.iter().all(Conn::is_idle)
    }
}
