//! Proves that clients which are slow, dead or rude do not disturb the others: fifty of them on real sockets against the
//! built venue, while one reads every depth update in sequence and trades.
//!
//! Each of the fifty must be gone at the end by the venue's own decision, `/sim/state` names the limit, and the venue's
//! descriptors and memory are what they were. Nothing here sleeps: it goes on with every depth update of the good
//! client, until the venue says that it is done or patience ends.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use pindrop::clock::{Clock, MonoNs};
use pindrop::net::UNACKNOWLEDGED;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tungstenite::{Message, WebSocket};

use super::process::{Process, http};

/// Whoever waits so long has found a hang: idle heads go after 5 s, missing pongs after 10 s.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the venue may need more than before once everybody is gone: allocators keep some of what they had.
const SLACK_KB: u64 = 24 * 1024;

const STREAMS: &str = "/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@trade";

/// How a client is bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Bad {
    /// Listens to everything and never reads.
    NeverReads,
    /// Listens to everything and reads a byte now and then.
    OneByte,
    /// Sends half a request head and stops.
    HalfHead,
    /// Sends half a WebSocket frame and stops.
    HalfFrame,
    /// Connects and says nothing.
    Silent,
    /// Closes its half of a WebSocket.
    HalfClosed,
    /// Asks for two hundred large books and reads none.
    Greedy,
}

/// Of who does not read and so cannot answer a ping either, or has begun a frame that it must finish first.
const NO_PONG: &str = "answer to ping took longer than 8s";

/// Of who has begun a message.
const UNFINISHED: &str = "end of a message took longer than 10s";

/// Of who does not read.
const UNREAD: [&str; 2] = ["does not read", UNACKNOWLEDGED];

/// The fifty, and how the venue says that each was ended: any of these, at the beginning of why.
const CROWD: [(Bad, usize, &[&str]); 7] = [
    (Bad::NeverReads, 10, &["does not read", UNACKNOWLEDGED, NO_PONG]),
    (Bad::OneByte, 8, &["does not read", UNACKNOWLEDGED, NO_PONG]),
    (Bad::HalfHead, 8, &["refused with 408"]),
    (Bad::HalfFrame, 8, &[NO_PONG, UNFINISHED]),
    (Bad::Silent, 8, &["refused with 408"]),
    (Bad::HalfClosed, 4, &["closed by peer"]),
    (Bad::Greedy, 4, &[UNACKNOWLEDGED, "answer not taken"]),
];

fn now() -> MonoNs {
    Clock::System.now()
}

/// A socket whose system takes little: what a client does not read waits at the venue.
fn dial(addr: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("set");
    socket.connect(&addr.into()).expect("the venue listens");
    socket.into()
}

impl Bad {
    fn begin(self, addr: SocketAddr) -> TcpStream {
        let mut stream = dial(addr);
        let upgrade = format!(
            "GET {STREAMS} HTTP/1.1\r\nHost: v\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let quiet = upgrade.replace(STREAMS, "/ws");
        let ask = "GET /api/v3/depth?symbol=BTCUSDT&limit=5000 HTTP/1.1\r\nHost: v\r\n\r\n";
        let said = match self {
            Self::NeverReads | Self::OneByte => upgrade,
            Self::HalfHead => "GET /api/v3/ping HTTP/1.1\r\nHos".to_owned(),
            Self::HalfFrame => quiet,
            Self::Silent => String::new(),
            Self::HalfClosed => quiet,
            Self::Greedy => ask.repeat(200),
        };
        stream.write_all(said.as_bytes()).expect("room");
        match self {
            // A masked text frame of 126 bytes or more, whose length has only begun.
            Self::HalfFrame => stream.write_all(&[0x81, 0xfe, 0x01]).expect("room"),
            Self::HalfClosed => stream.shutdown(Shutdown::Write).expect("connected"),
            _ => {}
        }
        stream.set_nonblocking(true).expect("set");
        stream
    }
}

type Ws = WebSocket<TcpStream>;

/// The client that must not notice: it reads depth updates and trades, one order after the other.
struct Good {
    market: Ws,
    session: Ws,
    last: Option<u64>,
    diffs: u64,
    placed: u64,
    answered: u64,
}

fn open(addr: SocketAddr, target: &str) -> Ws {
    let stream = TcpStream::connect(addr).expect("the venue listens");
    let (ws, _) = tungstenite::client(format!("ws://{addr}{target}"), stream).expect("an upgrade");
    ws.get_ref().set_nonblocking(true).expect("set");
    ws
}

/// The next text, if there is one now. Pings are answered by the codec.
fn hear(ws: &mut Ws) -> Option<Value> {
    loop {
        match ws.read() {
            Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("JSON")),
            Ok(_) => {}
            Err(tungstenite::Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => return None,
            Err(e) => panic!("a good client was dropped: {e}"),
        }
    }
}

impl Good {
    fn open(addr: SocketAddr) -> Self {
        let market = open(addr, "/ws/btcusdt@depth@100ms");
        let session = open(addr, "/ws-api/v3");
        Self { market, session, last: None, diffs: 0, placed: 0, answered: 0 }
    }

    /// Asks for an order far from the market, or for its end.
    fn ask(&mut self) {
        let id = self.placed;
        self.placed += 1;
        let order = format!("g{}", id / 2);
        let ms = Clock::System.utc().as_millis();
        let (method, payload) = if id.is_multiple_of(2) {
            let order = format!(
                "apiKey=k&newClientOrderId={order}&price=50000.00&quantity=0.00100&recvWindow=60000&side=BUY\
                 &symbol=BTCUSDT&timeInForce=GTC&timestamp={ms}&type=LIMIT"
            );
            ("order.place", order)
        } else {
            let cancel = format!(
                "apiKey=k&origClientOrderId={order}&recvWindow=60000&symbol=BTCUSDT&timestamp={ms}"
            );
            ("order.cancel", cancel)
        };
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s");
        let tag = ring::hmac::sign(&key, payload.as_bytes());
        let hex: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        let pairs = payload.split('&').filter_map(|pair| pair.split_once('='));
        let mut params: BTreeMap<&str, &str> = pairs.collect();
        params.insert("signature", &hex);
        let request = serde_json::json!({"id": id, "method": method, "params": params});
        self.session.send(Message::text(request.to_string())).expect("the venue reads");
    }

    /// Goes on until the next depth update; orders are answered and asked for meanwhile.
    fn go_on(&mut self, limit: MonoNs) {
        let begun = self.diffs;
        while self.diffs == begun {
            assert!(now() < limit, "no depth update; {} were", self.diffs);
            if self.answered == self.placed {
                self.ask();
            }
            self.rest();
            while let Some(diff) = hear(&mut self.market) {
                let first = diff["U"].as_u64().expect("U");
                assert!(
                    self.last.is_none_or(|last| first == last + 1),
                    "{first} after {:?}",
                    self.last
                );
                self.last = diff["u"].as_u64();
                self.diffs += 1;
            }
            while let Some(answer) = hear(&mut self.session) {
                assert_eq!(
                    (&answer["id"], &answer["status"]),
                    (&self.answered.into(), &200.into()),
                    "{answer}"
                );
                self.answered += 1;
            }
        }
    }

    /// Waits until one of the sockets has something.
    fn rest(&self) {
        let fds = [&self.market, &self.session].map(|ws| ws.get_ref().as_fd());
        let mut fds = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let timeout = Timespec { tv_sec: 1, tv_nsec: 0 };
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => panic!("poll: {e}"),
        }
    }
}

fn state(addr: SocketAddr) -> Value {
    let (status, body) = http(addr, "GET", "/sim/state?limit=1", "").expect("an answer");
    assert_eq!(status, 200);
    serde_json::from_str(&body).expect("JSON")
}

/// Connections of the venue, without the one that asks.
fn connections(addr: SocketAddr) -> u64 {
    state(addr)["connections"]["total"].as_u64().expect("a number") - 1
}

/// Descriptors, and kB of memory, of a process.
fn holds(pid: u32) -> (usize, u64) {
    let fds = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    (fds, rss.trim().trim_end_matches(" kB").parse().expect("a number"))
}

#[test]
fn fifty_bad_clients_disturb_nobody_and_are_dropped() {
    let mut venue = Process::start(&[
        "venue",
        "--listen",
        "127.0.0.1:0",
        "--symbols",
        "BTCUSDT",
        "--updates-per-s",
        "2000",
        "--key",
        "k",
        "--secret",
        "s",
        "--unread-bytes-max",
        "65536",
        "--ping-every",
        "2s",
        "--pong-within",
        "8s",
        "--orders-per-10s",
        "1000000",
        "--weight-per-minute",
        "10000000",
    ]);
    let addr: SocketAddr = venue.wait_value("venue.listening", "addr").parse().expect("an address");
    let limit = now().after(PATIENCE);
    let mut good = Good::open(addr);
    for _ in 0..10 {
        good.go_on(limit);
    }
    assert_eq!(connections(addr), 2);
    // With the next update the connection that asked is gone, too.
    good.go_on(limit);
    let (fds, rss_kb) = holds(venue.pid());

    let crowd = CROWD.iter().flat_map(|(bad, n, _)| std::iter::repeat_n(*bad, *n));
    let mut crowd: Vec<(Bad, TcpStream)> = crowd.map(|bad| (bad, bad.begin(addr))).collect();
    assert_eq!(crowd.len(), 50);
    let (diffs, answered) = (good.diffs, good.answered);
    while connections(addr) > 2 {
        good.go_on(limit);
        for (_, stream) in crowd.iter_mut().filter(|(bad, _)| *bad == Bad::OneByte) {
            // What it reads, also that it was dropped, does not matter.
            let _ = stream.read(&mut [0]);
        }
    }
    for _ in 0..10 {
        good.go_on(limit);
    }
    assert!(good.diffs >= diffs + 20 && good.answered >= answered + 20, "the good client went on");

    let state = state(addr);
    let ended = state["connections"]["ended"].as_array().expect("a list");
    let mut ended: Vec<(u64, &str)> =
        ended.iter().filter_map(|e| Some((e["id"].as_u64()?, e["why"].as_str()?))).collect();
    // They connected one after the other.
    ended.sort_unstable();
    assert_eq!(ended.len(), crowd.len(), "{ended:#?}");
    for ((_, why), (bad, _)) in ended.iter().zip(&crowd) {
        let expected = CROWD.iter().find(|(of, ..)| of == bad).expect("one of the crowd").2;
        assert!(expected.iter().any(|e| why.starts_with(e)), "{bad:?}: {why}");
    }
    let unread = ended.iter().filter(|(_, why)| UNREAD.iter().any(|u| why.starts_with(u))).count();
    assert_eq!(state["counters"]["slow_dropped"], unread, "dropped because they did not read");
    assert!(unread >= 10, "{ended:#?}");
    good.go_on(limit);
    let (fds_after, rss_after_kb) = holds(venue.pid());
    assert_eq!(fds_after, fds, "descriptors");
    assert!(rss_after_kb < rss_kb + SLACK_KB, "{rss_kb} kB before, {rss_after_kb} kB after");
    println!(
        "50 bad clients: {} diffs and {} answers meanwhile; {fds} descriptors; {rss_kb} kB before, {rss_after_kb} kB after",
        good.diffs - diffs,
        good.answered - answered
    );
}
