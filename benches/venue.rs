//! What the simulated venue carries on one core: a market at 20,000 updates a second read whole by one client, and
//! 2,000 orders a second in, at the same time.
//!
//! An *update* is one change of one price level, with an update id of its own. The diff stream sums up what happened in
//! 100 ms: a *level* is one `[price, quantity]` pair that it carries, a *frame* one WebSocket message of any stream. The
//! client reads the diff stream, `bookTicker` and `trade`, decodes every frame, checks that `U` follows `u`, and rebuilds
//! the book from a snapshot, which must never cross and must end as the venue's own. An *order* is one `order.place`
//! over the WebSocket API, signed, from four accounts in turn, each of which listens to its account's events: nine of
//! ten rest and are cancelled as soon as they are answered, one trades. Orders are sent when they are due and not when the
//! last one was answered, and their time counts from then.
//!
//! Comes in: `--seconds N` (15), `--updates N` (20000), `--orders N` (2000), `--slow N` (0) more clients that subscribe to
//! everything and never read, `--history N` (2000) orders and fills that the venue remembers of each account: full in half a
//! minute, so that from then on its memory must not grow; `--test` for a tiny run. Goes out: the figures, and beside them those of a raw echo of the
//! same sizes at the same pace on the same core, in the same run. The venue is the built binary, pinned to the last core;
//! the client has the first one. Ends with an error when anything was lost, refused or out of order.
#![expect(clippy::print_stdout, reason = "a bench reports on standard output")]

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use core_affinity::CoreId;
use hdrhistogram::Histogram;
use pindrop::clock::{Clock, MonoNs};
use pindrop::runtime::thread;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Deserialize;
use serde_json::value::RawValue;
use tungstenite::protocol::WebSocketConfig;
use tungstenite::{Message, WebSocket};

const ACCOUNTS: usize = 4;
/// One order of so many trades, the others rest and are cancelled.
const TRADES_EVERY: u64 = 10;
/// Orders under way per account in the phase without a pace.
const WINDOW: usize = 32;
/// Unanswered requests of an account, at most: 200 open orders are allowed, and a client that was not scheduled for a
/// while would send more than that at once. Orders that wait for this count from when they were due.
const UNANSWERED_MAX: usize = 150;
/// What an order and its answer take on the wire, about.
const ORDER_BYTES: usize = 330;
const ANSWER_BYTES: usize = 540;
/// Anything that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

fn now() -> MonoNs {
    Clock::System.now()
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let tiny = args.iter().any(|a| a == "--test");
    let number = |name: &str, usual: u64| {
        let at = args.iter().position(|a| a == name);
        at.and_then(|at| args.get(at + 1)?.parse().ok()).unwrap_or(usual)
    };
    let seconds = number("--seconds", if tiny { 1 } else { 15 });
    let (updates, orders) = (number("--updates", 20_000), number("--orders", 2_000));
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let (ours, venues) = match cores.as_slice() {
        [first, .., last] => (Some(*first), Some(*last)),
        _ => (None, None),
    };
    println!(
        "{} cores; venue on {venues:?}, client on {ours:?}; {updates} updates/s, {orders} orders/s, {seconds} s",
        cores.len()
    );
    let venue = Venue::start(venues, updates, number("--history", 2_000));
    pin(ours);
    let slow: Vec<Socket> = (0..number("--slow", 0)).map(|_| venue.dial(STREAMS)).collect();
    let mut client = Client::open(&venue);
    client.run(&venue, orders, Duration::from_secs(1), false);
    let paced = client.run(&venue, orders, Duration::from_secs(seconds), true);
    let most = client.run(&venue, 0, Duration::from_secs(seconds.div_ceil(5).min(5)), false);
    client.check_book(&venue);
    drop((client, slow));
    let echo = echo(venues, orders, Duration::from_secs(seconds.min(5)));
    report(&paced, &most, &echo, orders);
    assert!(paced.errors + most.errors == 0, "something was lost, refused or out of order");
}

/// Pins the calling thread, if there is a core to pin it to.
fn pin(core: Option<CoreId>) {
    if let Some(core) = core
        && !core_affinity::set_for_current(core)
    {
        println!("(core {} cannot be had)", core.id);
    }
}

// --- the venue -----------------------------------------------------------------------------------------------------

const STREAMS: &str = "/stream?streams=btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@trade";

/// The built binary as a process.
struct Venue {
    child: Child,
    address: SocketAddr,
    _accounts: tempfile::NamedTempFile,
}

/// What the process has used and holds.
#[derive(Clone, Copy)]
struct Usage {
    cpu_ns: u64,
    rss_kb: u64,
    fds: usize,
}

impl Venue {
    fn start(core: Option<CoreId>, updates: u64, history: u64) -> Self {
        let mut accounts = tempfile::NamedTempFile::new().expect("a file");
        for n in 0..ACCOUNTS {
            writeln!(
                accounts,
                "[[account]]\nname = \"a{n}\"\napi_key = \"key{n}\"\nsecret = \"s\""
            )
            .expect("room");
        }
        let path = accounts.path().to_owned();
        // A child has the cores of the thread that starts it.
        let spawn = move || {
            pin(core);
            Command::new(env!("CARGO_BIN_EXE_pindrop"))
                .args(["venue", "--listen", "127.0.0.1:0", "--symbols", "BTCUSDT"])
                .args(["--updates-per-s", &updates.to_string(), "--accounts"])
                .arg(path)
                .args(["--weight-per-minute", "100000000", "--orders-per-10s", "1000000"])
                .args(["--orders-per-day", "1000000000", "--history", &history.to_string()])
                .stderr(Stdio::piped())
                .spawn()
        };
        let spawned = thread::spawn("starter", spawn).expect("a thread").join();
        let mut child = spawned.expect("no panic").expect("the venue starts");
        let mut log = BufReader::new(child.stderr.take().expect("piped"));
        let address = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).expect("a log") > 0, "the venue ended");
            if let Some((_, rest)) = line.split_once("addr=") {
                break rest.split(' ').next().and_then(|a| a.parse().ok()).expect("an address");
            }
        };
        // Nobody reads the rest of the log, but somebody must.
        thread::spawn("log", move || std::io::copy(&mut log, &mut std::io::sink()))
            .expect("a thread");
        Self { child, address, _accounts: accounts }
    }

    fn dial(&self, target: &str) -> Socket {
        let stream = TcpStream::connect(self.address).expect("the venue listens");
        stream.set_nodelay(true).expect("set");
        let config = WebSocketConfig::default().read_buffer_size(64 * 1024);
        let url = format!("ws://{}{target}", self.address);
        let opened = tungstenite::client::client_with_config(url, stream, Some(config));
        let (socket, _) = opened.expect("an upgrade");
        socket.get_ref().set_nonblocking(true).expect("set");
        socket
    }

    fn get(&self, target: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("the venue listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        write!(stream, "GET {target} HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\r\n")
            .expect("room");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
    }

    fn usage(&self) -> Usage {
        let dir = format!("/proc/{}", self.child.id());
        let tasks = fs::read_dir(format!("{dir}/task")).expect("it runs");
        let cpu = |task: fs::DirEntry| -> u64 {
            let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
        };
        let status = fs::read_to_string(format!("{dir}/status")).expect("it runs");
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        Usage {
            cpu_ns: tasks.flatten().map(cpu).sum(),
            rss_kb: rss.and_then(|v| v.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0),
            fds: fs::read_dir(format!("{dir}/fd")).expect("it runs").count(),
        }
    }
}

impl Drop for Venue {
    fn drop(&mut self) {
        // It ends with us in any case.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// --- the client ----------------------------------------------------------------------------------------------------

type Socket = WebSocket<TcpStream>;

#[derive(Deserialize)]
struct Streamed<'a> {
    #[serde(borrow)]
    stream: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Diff<'a> {
    #[serde(rename = "U")]
    first: u64,
    #[serde(rename = "u")]
    last: u64,
    #[serde(borrow, rename = "b")]
    bids: Vec<[&'a str; 2]>,
    #[serde(borrow, rename = "a")]
    asks: Vec<[&'a str; 2]>,
}

#[derive(Deserialize)]
struct Snapshot<'a> {
    #[serde(rename = "lastUpdateId")]
    last: u64,
    #[serde(borrow)]
    bids: Vec<[&'a str; 2]>,
    #[serde(borrow)]
    asks: Vec<[&'a str; 2]>,
}

#[derive(Deserialize)]
struct Trade {
    t: u64,
}

#[derive(Deserialize)]
struct Touch<'a> {
    u: u64,
    #[serde(borrow)]
    b: &'a str,
    #[serde(borrow)]
    a: &'a str,
}

#[derive(Deserialize)]
struct Answer<'a> {
    id: Option<u64>,
    status: Option<u16>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

/// A decimal in units of 10^-8.
fn units(text: &str) -> i64 {
    pindrop::sim::json::parse_decimal(text).expect("a decimal")
}

/// One side of the book by price.
type Levels = BTreeMap<i64, i64>;

/// What one phase came to.
struct Figures {
    span: Duration,
    updates: u64,
    levels: u64,
    frames: u64,
    bytes: u64,
    events: u64,
    orders: u64,
    cancels: u64,
    trades: u64,
    errors: u64,
    /// From when an order was due to its answer, in nanoseconds.
    trip: Histogram<u64>,
    usage: [Usage; 2],
}

impl Figures {
    fn new(usage: Usage) -> Self {
        Self {
            span: Duration::ZERO,
            updates: 0,
            levels: 0,
            frames: 0,
            bytes: 0,
            events: 0,
            orders: 0,
            cancels: 0,
            trades: 0,
            errors: 0,
            trip: Histogram::new_with_max(60_000_000_000, 3).expect("three digits"),
            usage: [usage; 2],
        }
    }

    fn fail(&mut self, why: &str) {
        self.errors += 1;
        if self.errors <= 10 {
            println!("ERROR {why}");
        }
    }

    /// The venue's share of one core.
    fn share(&self) -> f64 {
        let [before, after] = self.usage;
        (after.cpu_ns - before.cpu_ns) as f64 / self.span.as_nanos() as f64
    }
}

/// One account's connection to the WebSocket API.
struct Trader {
    socket: Socket,
    api_key: String,
    /// What was sent and not answered: id, when it was due, the client's order id; cancels have none.
    waiting: VecDeque<(u64, MonoNs, Option<String>)>,
}

struct Client {
    market: Socket,
    traders: Vec<Trader>,
    key: ring::hmac::Key,
    bids: Levels,
    asks: Levels,
    /// Of the newest diff, touch and trade.
    last: u64,
    touch: u64,
    trade: u64,
    next_id: u64,
    /// Orders rest here, far from the touch.
    far: i64,
}

impl Client {
    fn open(venue: &Venue) -> Self {
        let trader = |n| Trader {
            socket: venue.dial("/ws-api/v3?returnRateLimits=false"),
            api_key: format!("key{n}"),
            waiting: VecDeque::new(),
        };
        let mut client = Self {
            market: venue.dial(STREAMS),
            traders: (0..ACCOUNTS).map(trader).collect(),
            key: ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"s"),
            bids: Levels::new(),
            asks: Levels::new(),
            last: 0,
            touch: 0,
            trade: 0,
            next_id: 1,
            far: 0,
        };
        for at in 0..ACCOUNTS {
            client.send(at, "userDataStream.subscribe.signature", &mut Vec::new(), now(), None);
        }
        client.synchronise(venue);
        client
    }

    /// Begins the book with a snapshot that is newer than the first diff.
    fn synchronise(&mut self, venue: &Venue) {
        let limit = now().after(PATIENCE);
        while self.last == 0 {
            assert!(now() < limit, "no diff");
            if let Some(text) = hear(&mut self.market)
                && let Streamed { stream: "btcusdt@depth@100ms", data } = parse(&text)
            {
                self.last = parse::<Diff<'_>>(data.get()).last;
            }
        }
        // Diffs since the first are in the socket; those that the snapshot has change nothing in it.
        let body = venue.get("/api/v3/depth?symbol=BTCUSDT&limit=5000");
        let snapshot: Snapshot<'_> = parse(&body);
        assert!(snapshot.last >= self.last, "a snapshot of the past");
        for (side, levels) in [(&mut self.bids, &snapshot.bids), (&mut self.asks, &snapshot.asks)] {
            side.extend(levels.iter().map(|[price, qty]| (units(price), units(qty))));
        }
        let best = *self.bids.last_key_value().expect("a bid").0;
        self.far = best * 95 / 100 / 1_000_000 * 1_000_000;
    }

    fn send(
        &mut self,
        at: usize,
        method: &str,
        params: &mut Vec<(&str, String)>,
        due: MonoNs,
        order: Option<String>,
    ) {
        let trader = &mut self.traders[at];
        params.push(("apiKey", trader.api_key.clone()));
        params.push(("timestamp", Clock::System.utc().as_millis().to_string()));
        params.sort_unstable();
        let pairs: Vec<String> = params.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let tag = ring::hmac::sign(&self.key, pairs.join("&").as_bytes());
        let hex: String = tag.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        params.push(("signature", hex));
        let fields: Vec<String> = params.iter().map(|(k, v)| format!("\"{k}\":\"{v}\"")).collect();
        let id = self.next_id;
        self.next_id += 1;
        let text =
            format!("{{\"id\":{id},\"method\":\"{method}\",\"params\":{{{}}}}}", fields.join(","));
        trader.waiting.push_back((id, due, order));
        trader.socket.send(Message::text(text)).expect("the venue reads");
    }

    fn place(&mut self, at: usize, due: MonoNs) {
        let n = self.next_id;
        let order = format!("o{n}");
        let mut params = vec![
            ("symbol", "BTCUSDT".to_owned()),
            ("newClientOrderId", order.clone()),
            ("newOrderRespType", "RESULT".to_owned()),
        ];
        if n.is_multiple_of(TRADES_EVERY) {
            let side = if (n / TRADES_EVERY).is_multiple_of(2) { "BUY" } else { "SELL" };
            params.extend([("side", side.to_owned()), ("type", "MARKET".to_owned())]);
            params.push(("quantity", "0.00020".to_owned()));
            self.send(at, "order.place", &mut params, due, Some(String::new()));
            return;
        }
        let price = self.far - i64::try_from(n % 50).unwrap_or(0) * 1_000_000;
        params.extend([("side", "BUY".to_owned()), ("type", "LIMIT".to_owned())]);
        params.extend([("timeInForce", "GTC".to_owned()), ("quantity", "0.00020".to_owned())]);
        params.push(("price", pindrop::sim::json::decimal(price)));
        self.send(at, "order.place", &mut params, due, Some(order));
    }

    fn cancel(&mut self, at: usize, order: String) {
        let mut params = vec![("symbol", "BTCUSDT".to_owned()), ("origClientOrderId", order)];
        self.send(at, "order.cancel", &mut params, now(), None);
    }

    /// Trades and reads for `span`: `orders` per second, or as many as are answered when that is 0.
    fn run(&mut self, venue: &Venue, orders: u64, span: Duration, tells: bool) -> Figures {
        let mut figures = Figures::new(venue.usage());
        let begin = now();
        let (end, gap) = (begin.after(span), Duration::from_nanos(1_000_000_000 / orders.max(1)));
        let (mut due, mut minute, mut turn) = (begin, 1, 0);
        while now() < end {
            if orders == 0 {
                for at in 0..ACCOUNTS {
                    while self.traders[at].waiting.len() < WINDOW {
                        self.place(at, now());
                        figures.orders += 1;
                    }
                }
            }
            while orders > 0 && due <= now() && due < end {
                if self.traders[turn % ACCOUNTS].waiting.len() >= UNANSWERED_MAX {
                    break;
                }
                self.place(turn % ACCOUNTS, due);
                (due, turn, figures.orders) = (due.after(gap), turn + 1, figures.orders + 1);
            }
            self.read(&mut figures);
            if tells && now().since(begin) >= Duration::from_secs(60 * minute) {
                let (usage, s) = (venue.usage(), now().since(begin).as_secs_f64());
                println!(
                    "  after {minute} min: {} kB, {:.0} updates/s, {:.0} levels/s, {:.0} orders/s, {} errors",
                    usage.rss_kb,
                    figures.updates as f64 / s,
                    figures.levels as f64 / s,
                    figures.orders as f64 / s,
                    figures.errors
                );
                minute += 1;
            }
            let idle = orders == 0 || due <= now();
            self.rest(if idle { end } else { due });
        }
        figures.span = now().since(begin);
        figures.usage[1] = venue.usage();
        self.settle(&mut figures);
        figures
    }

    /// Sleeps until something can be read, or `until`.
    fn rest(&self, until: MonoNs) {
        let sockets = std::iter::once(&self.market).chain(self.traders.iter().map(|t| &t.socket));
        let mut fds: Vec<PollFd<'_>> =
            sockets.map(|s| PollFd::from_borrowed_fd(s.get_ref().as_fd(), PollFlags::IN)).collect();
        let timeout = Timespec::try_from(until.since(now())).expect("short");
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => panic!("poll: {e}"),
        }
    }

    /// Reads until nothing is unanswered; what comes is not counted, what is wrong is.
    fn settle(&mut self, figures: &mut Figures) {
        let limit = now().after(PATIENCE);
        let mut more = Figures::new(figures.usage[1]);
        while self.traders.iter().any(|t| !t.waiting.is_empty()) {
            assert!(now() < limit, "orders without an answer");
            self.read(&mut more);
            self.rest(limit);
        }
        figures.errors += more.errors;
    }

    /// Reads everything that is there.
    fn read(&mut self, figures: &mut Figures) {
        while let Some(text) = hear(&mut self.market) {
            figures.frames += 1;
            figures.bytes += text.len() as u64;
            let streamed: Streamed<'_> = parse(&text);
            match streamed.stream {
                "btcusdt@depth@100ms" => self.take_diff(&parse(streamed.data.get()), figures),
                "btcusdt@trade" => self.take_trade(&parse(streamed.data.get()), figures),
                _ => self.take_touch(&parse(streamed.data.get()), figures),
            }
        }
        for at in 0..ACCOUNTS {
            while let Some(text) = hear(&mut self.traders[at].socket) {
                figures.bytes += text.len() as u64;
                self.take_answer(at, &parse(&text), figures);
            }
        }
    }

    fn take_diff(&mut self, diff: &Diff<'_>, figures: &mut Figures) {
        if diff.first != self.last + 1 {
            figures.fail(&format!("diff {} after {}", diff.first, self.last));
        }
        figures.updates += diff.last - self.last;
        figures.levels += (diff.bids.len() + diff.asks.len()) as u64;
        self.last = diff.last;
        for (side, levels) in [(&mut self.bids, &diff.bids), (&mut self.asks, &diff.asks)] {
            for [price, qty] in levels {
                match units(qty) {
                    0 => side.remove(&units(price)),
                    qty => side.insert(units(price), qty),
                };
            }
        }
        let (bid, ask) = (self.bids.last_key_value(), self.asks.first_key_value());
        if bid.zip(ask).is_none_or(|(bid, ask)| bid.0 >= ask.0) {
            figures.fail(&format!("crossed: {bid:?} {ask:?}"));
        }
    }

    fn take_trade(&mut self, trade: &Trade, figures: &mut Figures) {
        figures.trades += 1;
        if self.trade > 0 && trade.t != self.trade + 1 {
            figures.fail(&format!("trade {} after {}", trade.t, self.trade));
        }
        self.trade = trade.t;
    }

    fn take_touch(&mut self, touch: &Touch<'_>, figures: &mut Figures) {
        if touch.u <= self.touch || units(touch.b) >= units(touch.a) {
            figures.fail(&format!("touch {} {} {}", touch.u, touch.b, touch.a));
        }
        self.touch = touch.u;
    }

    fn take_answer(&mut self, at: usize, answer: &Answer<'_>, figures: &mut Figures) {
        if answer.event.is_some() {
            figures.events += 1;
            return;
        }
        let Some((id, due, order)) = self.traders[at].waiting.pop_front() else {
            return figures.fail("an answer to nothing");
        };
        if answer.id != Some(id) || answer.status != Some(200) {
            return figures.fail(&format!("{id}: answered {:?} {:?}", answer.id, answer.error));
        }
        let Some(order) = order else { return };
        figures.trip.saturating_record(ns(now().since(due)));
        if !order.is_empty() {
            figures.cancels += 1;
            self.cancel(at, order);
        }
    }

    /// The rebuilt book is the venue's own.
    fn check_book(&mut self, venue: &Venue) {
        let limit = now().after(PATIENCE);
        let mut figures = Figures::new(venue.usage());
        loop {
            let body = venue.get("/api/v3/depth?symbol=BTCUSDT&limit=5000");
            let snapshot: Snapshot<'_> = parse(&body);
            // The market never stands still: a diff that ends where a snapshot was taken must be waited for.
            while self.last < snapshot.last {
                assert!(now() < limit, "the diffs do not reach the snapshot");
                self.read(&mut figures);
            }
            if self.last == snapshot.last {
                let own = |levels: &[[&str; 2]]| -> Levels {
                    levels.iter().map(|[price, qty]| (units(price), units(qty))).collect()
                };
                assert!(
                    own(&snapshot.bids) == self.bids && own(&snapshot.asks) == self.asks,
                    "the book differs"
                );
                println!("book rebuilt from the diffs = the venue's at update {}", self.last);
                return;
            }
            if now() >= limit {
                println!("(no snapshot fell on the end of a diff; the book was not compared)");
                return;
            }
        }
    }
}

fn ns(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> T {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The next text, if there is one now.
fn hear(socket: &mut Socket) -> Option<tungstenite::Utf8Bytes> {
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => return Some(text),
            // Pings are answered by the codec, with the next read.
            Ok(_) => {}
            Err(tungstenite::Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => return None,
            Err(e) => panic!("the venue dropped us: {e}"),
        }
    }
}

// --- the limit -----------------------------------------------------------------------------------------------------

/// What the sockets alone allow.
struct Echo {
    trip: Histogram<u64>,
    /// Processor time per round trip on the echoing side.
    cost_ns: u64,
    most_per_s: f64,
}

/// Round trips of an order's size to a thread on the venue's core: at the orders' pace, then with a full window.
fn echo(core: Option<CoreId>, per_s: u64, span: Duration) -> Echo {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let address = listener.local_addr().expect("bound");
    let server = move || {
        pin(core);
        let (mut socket, _) = listener.accept().expect("a client");
        socket.set_nodelay(true).expect("set");
        let (mut order, answer) = ([0; ORDER_BYTES], [0; ANSWER_BYTES]);
        let (before, mut trips) = (own_cpu_ns(), 0);
        while socket.read_exact(&mut order).is_ok() {
            if order[0] == 1 {
                break;
            }
            socket.write_all(&answer).expect("a client");
            trips += 1;
        }
        let cost_ns = (own_cpu_ns() - before) / trips;
        while socket.read_exact(&mut order).is_ok() && socket.write_all(&answer).is_ok() {}
        cost_ns
    };
    let server = thread::spawn("echo", server).expect("a thread");
    let mut socket = TcpStream::connect(address).expect("the echo listens");
    socket.set_nodelay(true).expect("set");
    let (mut order, mut answer) = ([0; ORDER_BYTES], [0; ANSWER_BYTES]);
    let mut trip: Histogram<u64> =
        Histogram::new_with_max(60_000_000_000, 3).expect("three digits");
    let (begin, gap) = (now(), Duration::from_nanos(1_000_000_000 / per_s));
    let mut due = begin;
    while due < begin.after(span) {
        let timeout = Timespec::try_from(due.since(now())).expect("short");
        poll(&mut [], Some(&timeout)).expect("a rest");
        socket.write_all(&order).expect("it reads");
        socket.read_exact(&mut answer).expect("it answers");
        trip.saturating_record(ns(now().since(due)));
        due = due.after(gap);
    }
    order[0] = 1;
    socket.write_all(&order).expect("it reads");
    let (begin, mut answered) = (now(), 0);
    for _ in 0..WINDOW {
        socket.write_all(&order).expect("it reads");
    }
    while now().since(begin) < span / 5 {
        socket.read_exact(&mut answer).expect("it answers");
        socket.write_all(&order).expect("it reads");
        answered += 1;
    }
    let most_per_s = f64::from(answered) / now().since(begin).as_secs_f64();
    drop(socket);
    Echo { trip, cost_ns: server.join().expect("no panic"), most_per_s }
}

fn own_cpu_ns() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

fn report(paced: &Figures, most: &Figures, echo: &Echo, asked: u64) {
    let s = paced.span.as_secs_f64();
    let per_s = |n: u64| n as f64 / s;
    println!("over {s:.1} s:");
    println!(
        "market   {:.0} updates/s, {:.0} levels/s, {:.0} frames/s ({:.0} trades/s)",
        per_s(paced.updates),
        per_s(paced.levels),
        per_s(paced.frames),
        per_s(paced.trades)
    );
    println!(
        "orders   {:.0}/s in (asked {asked}), {:.0} cancels/s, {:.0} account events/s out",
        per_s(paced.orders),
        per_s(paced.cancels),
        per_s(paced.events)
    );
    println!("out      {:.2} MB/s", per_s(paced.bytes) / 1e6);
    println!("errors   {} (gaps, crossed books, refusals, answers out of order)", paced.errors);
    let [before, after] = paced.usage;
    println!("venue    {:.1} % of one core", paced.share() * 100.0);
    println!(
        "memory   {} kB at the start, {} kB at the end; descriptors {} and {}",
        before.rss_kb, after.rss_kb, before.fds, after.fds
    );
    let us = |h: &Histogram<u64>, q| h.value_at_quantile(q) as f64 / 1_000.0;
    let row = |name: &str, h: &Histogram<u64>| {
        let max = h.max() as f64 / 1_000.0;
        println!(
            "{name:<8} p50 {:.1} p99 {:.1} p99.9 {:.1} max {max:.1} us",
            us(h, 0.5),
            us(h, 0.99),
            us(h, 0.999)
        );
    };
    row("order", &paced.trip);
    row("raw echo", &echo.trip);
    println!("order    {:.1} x raw echo (p50)", us(&paced.trip, 0.5) / us(&echo.trip, 0.5));
    let most_per_s = most.orders as f64 / most.span.as_secs_f64();
    println!(
        "at most  {most_per_s:.0} orders/s with {:.0} cancels/s and the same market; raw echo {:.0} round trips/s: 1/{:.1}",
        most.cancels as f64 / most.span.as_secs_f64(),
        echo.most_per_s,
        echo.most_per_s / most_per_s
    );
    println!("raw echo takes {:.1} us of the core per round trip", echo.cost_ns as f64 / 1_000.0);
}
