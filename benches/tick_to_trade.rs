//! Tick to trade over loopback: from the venue's write of a depth update to the venue's read of the order that
//! answers it, through the whole engine on system sockets.
//!
//! Comes in: `--test` for a tiny run, `--gap-us N` for another distance between updates (200), and words that choose
//! modes by their names. Goes out: one row per mode, with its ratio to the raw round trip of 300 bytes in the same wait
//! mode, and the engine's own latency: from the beginning of the turn that read the update to the order handed to the
//! socket, both system calls included. In the same run: the round trips, over one socket as in a ping and over two as
//! between a venue and an engine, and the hiccup baseline (how much later than asked a thread comes back that does
//! nothing but read the clock).
//!
//! What always holds: the venue is one thread that polls its sockets without rest on a core of its own, in the round
//! trips as in the modes, so that "park" and "blocking" speak of the other side only; both times are taken beside
//! the system call. Updates do not queue: the next one comes after the gap, and not before the strategy has
//! heard the end of its last order, which the venue reports as cancelled by itself right after accepting it. So every
//! update finds a strategy without an order and is answered by a new one, not by a cancel; the inventory is full
//! from the first order on, so that it is one order and not two.
#![expect(clippy::print_stdout, reason = "a bench reports on standard output")]

use std::fmt::Write as _;
use std::hint::spin_loop;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use core_affinity::CoreId;
use pindrop::clock::{Clock, MonoNs};
use pindrop::config::tree::Tree;
use pindrop::config::{Config, Mode};
use pindrop::net::dial::SystemDialer;
use pindrop::net::http::UreqClient;
use pindrop::net::resolve::Resolver;
use pindrop::net::stream::Tls;
use pindrop::ops::sources::StatusSources;
use pindrop::runtime::mailbox::Edge;
use pindrop::runtime::report::Outcome;
use pindrop::runtime::system::StopHandle;
use pindrop::runtime::thread;
use pindrop::topology::{Engine, Parts, VenueAccess, World};
use pindrop::trading::limits::BODY_BYTES_MAX;
use pindrop::trading::telemetry::LatencyView;
use pindrop::trading::venue::binance::Credentials;
use serde_json::Value;
use tempfile::TempDir;
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

/// From one update, or round trip, to the next: far apart enough for a thread to fall asleep, and for others to run.
const GAP_US: u64 = 200;
/// Between updates while the engine connects: longer than anything it then does.
const SETTLE: Duration = Duration::from_millis(20);
/// An update not answered by then is given up.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// The engine must trade by then.
const LIVE_LIMIT: Duration = Duration::from_secs(20);
/// Of the round trips; an update has about as many.
const ECHO_BYTES: usize = 300;
/// What the hiccup baseline waits for: about a round trip.
const HICCUP_WINDOW: Duration = Duration::from_micros(15);
/// Those that share a thread when threads are shared.
const HOT: [&str; 4] = ["feed-binance", "book-binance", "strategy-quotes", "orders-binance"];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let tiny = args.iter().any(|a| a == "--test");
    let at = args.iter().position(|a| a == "--gap-us");
    let typed = at.and_then(|at| args.get(at + 1)?.parse().ok());
    let gap = Duration::from_micros(typed.unwrap_or(GAP_US));
    let word = |a: &&String| !a.starts_with("--") && a.parse::<u64>().is_err();
    let wanted: Vec<&String> = args.iter().filter(word).collect();
    let (rounds, warm_up, ticks) = if tiny { (1, 20, 50) } else { (5, 500, 2_000) };
    let pace = Pace { warm_up, ticks, gap };
    let cores = Cores::new();
    let setups: Vec<Setup> = setups(cores.count())
        .filter(|s| wanted.iter().all(|w| s.name().contains(w.as_str())))
        .collect();
    let mut hiccup = Row::new(&format!("hiccup (a wait of {HICCUP_WINDOW:?})"));
    let mut polled = Row::new("raw echo, busy-polled");
    let mut apart = Row::new("raw echo, busy-polled, two sockets");
    let mut blocked = Row::new("raw echo, blocking");
    let mut rows: Vec<Row> = setups.iter().map(|s| Row::new(&s.name())).collect();
    for _ in 0..rounds {
        hiccup.ns.extend(cores.on_venues(move || hiccups(pace)));
        if cores.count() >= 2 {
            polled.ns.extend(echo(&cores, pace, true, false));
            apart.ns.extend(echo(&cores, pace, true, true));
        }
        blocked.ns.extend(echo(&cores, pace, false, false));
        for (setup, row) in setups.iter().zip(&mut rows) {
            measure(setup, &cores, pace, row);
        }
    }
    println!("{} cores; {rounds} rounds; updates {gap:?} apart", cores.count());
    println!("{:<36} {:>6} {:>8} {:>8} {:>8} {:>8}", "us", "n", "p50", "p99", "p99.9", "max");
    hiccup.print(None);
    let polled = polled.print(None);
    apart.print(polled);
    let blocked = blocked.print(None);
    for (setup, row) in setups.iter().zip(rows) {
        row.print(if setup.spins { polled } else { blocked });
    }
}

/// How much is measured, and how fast.
#[derive(Clone, Copy)]
struct Pace {
    warm_up: usize,
    ticks: usize,
    gap: Duration,
}

/// The cores this process may use. The venue has the first one; whoever spins on the other side has one of its own,
/// from the last on.
struct Cores(Vec<CoreId>);

impl Cores {
    fn new() -> Self {
        Self(core_affinity::get_core_ids().unwrap_or_default())
    }

    fn count(&self) -> usize {
        self.0.len()
    }

    /// The core of the spinner `n`.
    fn spinner(&self, n: usize) -> Option<CoreId> {
        self.0.get(self.count().checked_sub(n + 1)?).copied()
    }

    /// What `body` gives on a thread on the venue's core. The calling thread stays unpinned, because every thread
    /// that it makes inherits its cores.
    fn on_venues<T: Send + 'static>(&self, body: impl FnOnce() -> T + Send + 'static) -> T {
        let core = self.0.first().filter(|_| self.count() >= 2).copied();
        let body = move || {
            pin(core);
            body()
        };
        thread::spawn("venue", body).expect("a thread").join().expect("the venue does not panic")
    }
}

/// Pins the calling thread, if there is a core to pin it to.
fn pin(core: Option<CoreId>) {
    if let Some(core) = core
        && !core_affinity::set_for_current(core)
    {
        println!("(core {} cannot be had)", core.id);
    }
}

/// One line of the table.
struct Row {
    what: String,
    ns: Vec<u64>,
    /// What the engine measured itself, one per round.
    inside: Vec<LatencyView>,
    /// Updates without an order.
    lost: usize,
    cancels: u64,
}

impl Row {
    fn new(what: &str) -> Self {
        Self { what: what.to_owned(), ns: Vec::new(), inside: Vec::new(), lost: 0, cancels: 0 }
    }

    /// Prints the distribution; gives its median in nanoseconds, if there is one.
    fn print(mut self, floor: Option<u64>) -> Option<u64> {
        self.ns.sort_unstable();
        let (p50, last) = (*self.ns.get(self.ns.len() / 2)?, self.ns.len() - 1);
        let values = [500, 990, 999, 1_000].map(|per_mille| self.ns[last * per_mille / 1_000]);
        let ratio = floor.map(|floor| format!("{:.2} x raw echo", p50 as f64 / floor as f64));
        print_line(&self.what, self.ns.len(), values, &ratio.unwrap_or_default());
        self.inside.sort_by_key(|view| view.p50_ns);
        if let Some(view) = self.inside.get(self.inside.len() / 2) {
            let values = [view.p50_ns, view.p99_ns, view.p999_ns, view.max_ns];
            let count = usize::try_from(view.count).unwrap_or(usize::MAX);
            print_line("  inside (of the median round)", count, values, "");
        }
        if self.lost > 0 || self.cancels > 0 {
            println!("  {} updates without an order, {} cancels", self.lost, self.cancels);
        }
        Some(p50)
    }
}

fn print_line(what: &str, n: usize, ns: [u64; 4], rest: &str) {
    let [p50, p99, p999, max] = ns.map(|ns| ns as f64 / 1_000.0);
    println!("{what:<36} {n:>6} {p50:>8.1} {p99:>8.1} {p999:>8.1} {max:>8.1}  {rest}");
}

/// How the engine runs.
struct Setup {
    shared: bool,
    spins: bool,
    /// Whether an order waits until its record is written.
    waits: bool,
}

/// All that make sense here: two threads that spin on one core are a thousand times slower than two that park.
fn setups(cores: usize) -> impl Iterator<Item = Setup> {
    let all = [true, false].into_iter().flat_map(|shared| {
        [true, false].into_iter().flat_map(move |spins| {
            [false, true].into_iter().map(move |waits| Setup { shared, spins, waits })
        })
    });
    all.filter(move |s| !s.spins || cores >= if s.shared { 2 } else { 2 + HOT.len() })
}

impl Setup {
    fn name(&self) -> String {
        let threads = if self.shared { "shared" } else { "dedicated" };
        let idle = if self.spins { "spin" } else { "park" };
        let journal = if self.waits { "written" } else { "handed_over" };
        format!("{threads}, {idle}, {journal}")
    }

    fn config(&self, cores: &Cores) -> Config {
        let mut text = format!(
            "threading = \"{}\"\n[journal]\norders = \"{}\"\n\
             [venue.binance]\nsymbols = [\"BTCUSDT\"]\n\
             [risk]\norders_per_s_max = 10000\nbook_age_max_ms = 60000\ndecision_age_max_ms = 10000\n\
             [strategy.quotes]\nkind = \"market_maker\"\ntimer_ms = 60000\nmin_requote_interval_ms = 0\n\
             order_qty = \"{QTY}\"\ninventory_limit = \"{QTY}\"\nskew_bps = \"0\"\nrequote_bps = \"0\"\n",
            if self.shared { "shared" } else { "dedicated" },
            if self.waits { "written" } else { "handed_over" },
        );
        let idle = if self.spins { "spin" } else { "park" };
        for (n, actor) in HOT.iter().enumerate() {
            // Writing into a string cannot fail.
            let _ = writeln!(text, "[actor.{actor}]\nidle = \"{idle}\"");
            let core = cores.spinner(if self.shared { 0 } else { n });
            if let Some(core) = core.filter(|_| self.spins) {
                let _ = writeln!(text, "core = {}", core.id);
            }
        }
        let tree = Tree::parse("bench", &text).expect("TOML");
        Config::read(&tree, Some(Mode::Demo)).expect("a configuration")
    }
}

fn now() -> MonoNs {
    Clock::System.now()
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

/// How much longer than asked short waits on the clock take.
fn hiccups(pace: Pace) -> Vec<u64> {
    let until = |moment: MonoNs| loop {
        let now = now();
        if now >= moment {
            return now;
        }
    };
    let late = |_| {
        let due = now().after(HICCUP_WINDOW);
        let late = nanos(until(due).since(due));
        until(due.after(pace.gap));
        late
    };
    (0..pace.ticks).map(late).collect()
}

/// Round trips of [`ECHO_BYTES`] to a thread on a core of its own that polls, or blocks in reading. `apart`: it reads
/// from one socket and answers on another.
fn echo(cores: &Cores, pace: Pace, polls: bool, apart: bool) -> Vec<u64> {
    let (near, far) = pair(polls);
    let (near_in, far_out) = if apart { pair(polls) } else { (twin(&near), twin(&far)) };
    // Also when it blocks: woken on the venue's core it would stop the venue.
    let core = cores.spinner(0);
    let answering = move || {
        pin(core);
        answer_all(far, far_out);
    };
    let far = thread::spawn("echo", answering).expect("a thread");
    let ns = cores.on_venues(move || {
        (0..pace.ticks).map(|_| round_trip(&near, &near_in, pace.gap)).collect()
    });
    far.join().expect("the echo does not panic");
    ns
}

/// Two ends of one connection; the first polls, the second as asked.
fn pair(polls: bool) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (far, _) = listener.accept().expect("accepted");
    for socket in [&near, &far] {
        socket.set_nodelay(true).expect("set");
    }
    near.set_nonblocking(true).expect("set");
    far.set_nonblocking(polls).expect("set");
    far.set_read_timeout(Some(LIVE_LIMIT)).expect("set");
    (near, far)
}

fn twin(socket: &TcpStream) -> TcpStream {
    socket.try_clone().expect("a descriptor")
}

/// One round trip, and the rest of its gap.
fn round_trip(mut out: &TcpStream, mut back: &TcpStream, gap: Duration) -> u64 {
    let mut block = [7; ECHO_BYTES];
    let begin = now();
    out.write_all(&block).expect("written");
    let (mut end, mut got) = (begin, 0);
    // Reading goes on when everything is here, as it does in the modes.
    while got < block.len() || now().since(begin) < gap {
        match back.read(&mut block) {
            Ok(n) => (got, end) = (got + n, now()),
            Err(e) => assert!(e.kind() == ErrorKind::WouldBlock, "{e}"),
        }
    }
    nanos(end.since(begin))
}

/// Sends back what comes, until the other side is gone.
fn answer_all(mut from: TcpStream, mut to: TcpStream) {
    let mut block = [0; ECHO_BYTES];
    loop {
        match from.read(&mut block) {
            Ok(0) => return,
            Ok(n) => to.write_all(&block[..n]).expect("written"),
            Err(e) if e.kind() == ErrorKind::WouldBlock => spin_loop(),
            Err(e) => panic!("the echo: {e}"),
        }
    }
}

/// One round of one mode.
fn measure(setup: &Setup, cores: &Cores, pace: Pace, row: &mut Row) {
    let Pace { warm_up, ticks, gap } = pace;
    let mut venue = Venue::open(gap);
    let engine = Running::start(&setup.config(cores), venue.address());
    let (ns, lost, cancels, inside) = cores.on_venues(move || {
        venue.go_live();
        for _ in 0..warm_up {
            venue.tick(&engine);
        }
        let mut ns: Vec<u64> = Vec::with_capacity(ticks);
        let (cancels, mut lost) = (venue.cancels, 0_usize);
        while ns.len() < ticks {
            match venue.tick(&engine) {
                Some(time) => ns.push(time),
                None => lost += 1,
            }
            assert!(lost <= 10 + ticks / 10, "too few orders: {}", engine.refusals());
        }
        let cancels = venue.cancels - cancels;
        (ns, lost, cancels, engine.stop(&mut venue))
    });
    row.ns.extend(ns);
    row.inside.push(inside);
    row.lost += lost;
    row.cancels += cancels;
}

/// The engine on threads of its own.
struct Running {
    thread: JoinHandle<Outcome>,
    stop: StopHandle,
    sources: Arc<StatusSources>,
    /// From the order sender to the strategy.
    reports: Arc<dyn Edge>,
    _dir: TempDir,
}

impl Running {
    fn start(config: &Config, venue: SocketAddr) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let tls = Tls::new(None).expect("roots");
        let resolver = Resolver::new(&|name, body| thread::spawn(name, body).map(drop));
        let resolver = resolver.expect("a thread");
        let (dial_tls, dial_resolver) = (tls.clone(), resolver.clone());
        let world = World {
            clock: Clock::System,
            dialer: Arc::new(move || {
                Ok(Box::new(SystemDialer::new(dial_resolver.clone(), dial_tls.clone())))
            }),
            http: Arc::new(move || {
                Ok(Box::new(UreqClient::new(&tls, resolver.clone(), BODY_BYTES_MAX)?))
            }),
            venue: None,
            ops: None,
        };
        let access = VenueAccess {
            rest_url: format!("http://{venue}"),
            stream_url: format!("ws://{venue}"),
            ws_api_url: format!("ws://{venue}/ws-api/v3"),
            credentials: Arc::new(Credentials::hmac("key", "secret")),
        };
        let parts = Parts {
            world,
            access: vec![access],
            embedded: None,
            journal_dir: dir.path().join("journal"),
            status_file: None,
            faults: Vec::new(),
            wrap: None,
            boot: Clock::System.utc(),
            started: now(),
        };
        let engine = Engine::wire(config, parts).expect("an engine");
        let (stop, sources) = (engine.system.stop_handle(), engine.sources);
        let ours = |e: &&Arc<dyn Edge>| e.spec().name == "orders-binance->strategy-quotes";
        let reports = Arc::clone(sources.edges.iter().find(ours).expect("the reports' edge"));
        let system = engine.system;
        let thread = thread::spawn("bench-main", move || system.run(None, None));
        Self { thread: thread.expect("a thread"), stop, sources, reports, _dir: dir }
    }

    /// Reports that the strategy was told, and whether none waits.
    fn told(&self) -> (u64, bool) {
        let counts = self.reports.counts();
        (counts.sent, counts.handled == counts.sent)
    }

    fn refusals(&self) -> String {
        let seen = self.sources.orders[0].read(|v| format!("{:?} {:?}", v.totals, v.refused));
        seen.unwrap_or_default()
    }

    /// Drains; gives what the engine measured itself.
    fn stop(self, venue: &mut Venue) -> LatencyView {
        self.stop.drain("done");
        while !self.thread.is_finished() {
            venue.serve();
        }
        let outcome = self.thread.join().expect("the system does not panic");
        assert!(outcome.exit_code == 0, "{outcome:?}");
        let own = |l: &&LatencyView| l.name.as_str() == "tick_to_trade";
        let latency = self.sources.orders[0].read(|v| v.latency.iter().find(own).copied());
        latency.flatten().expect("the order sender's last words")
    }
}

/// A socket that knows when its last calls with an effect were made.
struct Stamped {
    socket: TcpStream,
    /// After the last read that brought bytes.
    read: MonoNs,
    /// Before the last write.
    wrote: MonoNs,
}

impl Read for Stamped {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.socket.read(buf)?;
        self.read = now();
        Ok(n)
    }
}

impl Write for Stamped {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.wrote = now();
        self.socket.write(buf)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

type Socket = WebSocket<Stamped>;

/// The size of every order, which is also the whole inventory.
const QTY: &str = "0.00100000";
/// Levels per side of the snapshot; above the lowest bid and below the lowest ask one more comes and goes.
const LEVELS: u32 = 100;
const BID: u32 = 50_000;
const ASK: u32 = 50_012;
const BID_OF_HIGH: u32 = 50_002;
const ASK_OF_LOW: u32 = 50_010;

/// A venue that knows one symbol and one script.
struct Venue {
    listener: TcpListener,
    gap: Duration,
    market: Option<Socket>,
    session: Option<Socket>,
    /// The last update id.
    last_id: u64,
    /// Which of its two books the market has.
    high: bool,
    orders: u64,
    cancels: u64,
    /// Whether the inventory was filled.
    bought: bool,
}

impl Venue {
    fn open(gap: Duration) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        listener.set_nonblocking(true).expect("set");
        Self {
            listener,
            gap,
            market: None,
            session: None,
            last_id: 100,
            high: false,
            orders: 0,
            cancels: 0,
            bought: false,
        }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("bound")
    }

    /// Serves until the engine trades and its inventory is full.
    fn go_live(&mut self) {
        let limit = now().after(LIVE_LIMIT);
        let mut next = now();
        let mut answered = 0;
        while answered < 3 {
            assert!(now() < limit, "the engine does not trade");
            answered += usize::from(self.serve().is_some() && self.bought);
            if now() >= next && self.market.is_some() {
                self.update();
                next = now().after(SETTLE);
            }
        }
        let settled = now().after(SETTLE);
        while now() < settled {
            self.serve();
        }
    }

    /// One update and the time to its order; then waits until the strategy is done with that and the gap is over.
    fn tick(&mut self, engine: &Running) -> Option<u64> {
        let (told, _) = engine.told();
        let begin = self.update();
        let limit = begin.after(ANSWER_LIMIT);
        let placed = loop {
            match self.serve_session() {
                None if now() < limit => {}
                placed => break placed,
            }
        };
        // The acceptance and the end.
        let done = || {
            let (sent, none_waits) = engine.told();
            sent >= told + 2 && none_waits
        };
        while now() < begin.after(self.gap) || (!done() && now() < limit) {
            self.serve_session();
        }
        placed.map(|placed| nanos(placed.since(begin)))
    }

    /// Moves the touch; the moment before the bytes were written.
    fn update(&mut self) -> MonoNs {
        self.high = !self.high;
        self.last_id += 1;
        let (id, filler) = (self.last_id, self.last_id % 7 + 1);
        let (bid, ask) = if self.high { (1, 0) } else { (0, 1) };
        let text = format!(
            "{{\"stream\":\"btcusdt@depth@100ms\",\"data\":{{\"e\":\"depthUpdate\",\"E\":1723161255208,\
             \"s\":\"BTCUSDT\",\"U\":{id},\"u\":{id},\
             \"b\":[[\"{BID_OF_HIGH}.00000000\",\"{bid}.00000000\"],[\"49990.00000000\",\"{filler}.50000000\"],[\"49980.00000000\",\"1.{filler}0000000\"]],\
             \"a\":[[\"{ASK_OF_LOW}.00000000\",\"{ask}.00000000\"],[\"50030.00000000\",\"{filler}.25000000\"]]}}}}"
        );
        let market = self.market.as_mut().expect("the market stream is there");
        market.send(Message::text(text)).expect("the market stream takes it");
        market.get_ref().wrote
    }

    /// Serves everything once; when the last new order was read, if there was one.
    fn serve(&mut self) -> Option<MonoNs> {
        match self.listener.accept() {
            Ok((socket, _)) => self.welcome(socket),
            Err(e) => assert!(e.kind() == ErrorKind::WouldBlock, "{e}"),
        }
        if let Some(market) = &mut self.market
            && hear(market).is_err()
        {
            self.market = None;
        }
        self.serve_session()
    }

    /// Answers what the session asks; when the last new order was read, if there was one.
    fn serve_session(&mut self) -> Option<MonoNs> {
        let mut session = self.session.take()?;
        let mut placed = None;
        while let Ok(heard) = hear(&mut session) {
            let Some(text) = heard else {
                self.session = Some(session);
                break;
            };
            let read = session.get_ref().read;
            let asked: Value = serde_json::from_str(&text).expect("the engine speaks JSON");
            if asked["method"] == "order.place" {
                placed = Some(read);
            }
            for frame in self.answers(&asked) {
                session.write(Message::text(frame)).expect("the session takes it");
            }
            session.flush().expect("the session takes it");
        }
        placed
    }

    fn answers(&mut self, asked: &Value) -> Vec<String> {
        let id = asked["id"].as_str().unwrap_or_default();
        let yes = |result: &str| format!("{{\"id\":\"{id}\",\"status\":200,\"result\":{result}}}");
        let no = |code: i32| {
            format!(
                "{{\"id\":\"{id}\",\"status\":400,\"error\":{{\"code\":{code},\"msg\":\"no such order\"}}}}"
            )
        };
        vec![match asked["method"].as_str().unwrap_or_default() {
            "userDataStream.subscribe.signature" => yes("{\"subscriptionId\":0}"),
            "openOrders.status" | "myTrades" => yes("[]"),
            "account.status" => yes("{\"balances\":[]}"),
            "order.place" => return self.place(id, &asked["params"]),
            "order.cancel" => {
                self.cancels += 1;
                no(-2011)
            }
            "order.status" => no(-2013),
            other => panic!("the engine asks for {other}"),
        }]
    }

    /// Accepts an order. The first that buys is filled, any other is at once not open any more.
    fn place(&mut self, id: &str, params: &Value) -> Vec<String> {
        self.orders += 1;
        let order = self.orders;
        let text = |name: &str| params[name].as_str().unwrap_or_default().to_owned();
        let (key, side, price) = (text("newClientOrderId"), text("side"), text("price"));
        let report = |exec: &str, status: &str, last: &str, trade: i64| {
            format!(
                "{{\"subscriptionId\":0,\"event\":{{\"e\":\"executionReport\",\"s\":\"BTCUSDT\",\"c\":\"{key}\",\
                 \"C\":\"\",\"S\":\"{side}\",\"q\":\"{QTY}\",\"p\":\"{price}\",\"x\":\"{exec}\",\"X\":\"{status}\",\
                 \"i\":{order},\"l\":\"{last}\",\"z\":\"{last}\",\"L\":\"{price}\",\"n\":\"0\",\"N\":\"USDT\",\
                 \"T\":1723161255208,\"t\":{trade}}}}}"
            )
        };
        let answer = format!(
            "{{\"id\":\"{id}\",\"status\":200,\"result\":{{\"symbol\":\"BTCUSDT\",\"orderId\":{order},\
             \"clientOrderId\":\"{key}\",\"price\":\"{price}\",\"origQty\":\"{QTY}\",\
             \"executedQty\":\"0.00000000\",\"status\":\"NEW\",\"side\":\"{side}\"}}}}"
        );
        let fills = side == "BUY" && !self.bought;
        self.bought |= fills;
        let end = if fills {
            report("TRADE", "FILLED", QTY, 1)
        } else {
            report("CANCELED", "CANCELED", "0.00000000", -1)
        };
        vec![answer, report("NEW", "NEW", "0.00000000", -1), end]
    }

    /// A new connection: a WebSocket, or one call of REST.
    fn welcome(&mut self, mut socket: TcpStream) {
        socket.set_nonblocking(false).expect("set");
        socket.set_read_timeout(Some(ANSWER_LIMIT)).expect("set");
        socket.set_nodelay(true).expect("set");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut chunk = [0; 1024];
            let n = socket.read(&mut chunk).expect("a request");
            assert!(n > 0, "half a request");
            head.extend_from_slice(&chunk[..n]);
        }
        let head = String::from_utf8(head).expect("text");
        let target = head.split(' ').nth(1).unwrap_or_default();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.to_owned())
        };
        let Some(key) = head.lines().find_map(header) else {
            let body = self.rest(target);
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\
                 Content-Length: {length}\r\n\r\n{body}"
            );
            return socket.write_all(answer.as_bytes()).expect("written");
        };
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        );
        socket.write_all(answer.as_bytes()).expect("written");
        socket.set_nonblocking(true).expect("set");
        let stamped = Stamped { socket, read: MonoNs::ZERO, wrote: MonoNs::ZERO };
        let config = WebSocketConfig::default().read_buffer_size(4 * 1024);
        let socket = WebSocket::from_raw_socket(stamped, Role::Server, Some(config));
        let place =
            if target.starts_with("/stream") { &mut self.market } else { &mut self.session };
        *place = Some(socket);
    }

    fn rest(&self, target: &str) -> String {
        if target.starts_with("/api/v3/exchangeInfo") {
            return "{\"symbols\":[{\"symbol\":\"BTCUSDT\",\"status\":\"TRADING\",\"baseAsset\":\"BTC\",\
                    \"quoteAsset\":\"USDT\",\"filters\":[\
                    {\"filterType\":\"PRICE_FILTER\",\"minPrice\":\"0.01\",\"maxPrice\":\"1000000\",\"tickSize\":\"0.01\"},\
                    {\"filterType\":\"LOT_SIZE\",\"minQty\":\"0.00001\",\"maxQty\":\"9000\",\"stepSize\":\"0.00001\"},\
                    {\"filterType\":\"NOTIONAL\",\"minNotional\":\"5\"}]}]}"
                .to_owned();
        }
        assert!(target.starts_with("/api/v3/depth"), "the engine asks for {target}");
        let level = |price: u32| format!("[\"{price}.00000000\",\"1.00000000\"]");
        let bids = (0..LEVELS).map(|n| level(BID - n));
        let asks = (0..LEVELS).map(|n| level(ASK + n));
        let (best_bid, best_ask) = if self.high {
            (Some(level(BID_OF_HIGH)), None)
        } else {
            (None, Some(level(ASK_OF_LOW)))
        };
        let bids: Vec<String> = best_bid.into_iter().chain(bids).collect();
        let asks: Vec<String> = best_ask.into_iter().chain(asks).collect();
        format!(
            "{{\"lastUpdateId\":{},\"bids\":[{}],\"asks\":[{}]}}",
            self.last_id,
            bids.join(","),
            asks.join(",")
        )
    }
}

/// The next text on a socket, if there is one now. The error is that the socket has ended.
fn hear(socket: &mut Socket) -> Result<Option<String>, tungstenite::Error> {
    loop {
        match socket.read() {
            Ok(Message::Text(text)) => return Ok(Some(text.as_str().to_owned())),
            // Pings are answered by the codec, with the next write.
            Ok(_) => {}
            Err(tungstenite::Error::Io(e)) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(e) => return Err(e),
        }
    }
}
