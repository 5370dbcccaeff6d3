//! Real recordings: every book rebuilt without a gap, equal to the venue's own touch and to the checkpoints;
//! and every fault put into them noticed as `expected.json` states. Pure path, no sockets: dialect, sync,
//! ladder.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use pindrop::clock::{MonoNs, UtcNs};
use pindrop::net::memory::MemoryNet;
use pindrop::net::server::{ConnId, Server, ServerConfig, ServerEvent};
use pindrop::net::url::WsUrl;
use pindrop::net::{HttpClient, HttpRequest, HttpResponse, NetError};
use pindrop::runtime::actor::{Actor, Cx, Stop};
use pindrop::runtime::mailbox::{Latest, Mailbox};
use pindrop::runtime::view::View;
use pindrop::trading::book::builder::{BookBuilder, BookBuilderPorts, BookBuilderSettings};
use pindrop::trading::book::sync::{BookSync, Hole, Step};
use pindrop::trading::domain::instrument::Name;
use pindrop::trading::domain::{
    BookState, DepthKind, Instrument, InstrumentId, Level, MarketUpdate, Notional, Price, Qty,
    Rules, Side, Stamps, VenueId,
};
use pindrop::trading::feed::reader::{FeedPorts, FeedReader, FeedSettings};
use pindrop::trading::feed::rest::{RestPorts, RestSettings, RestWorker};
use pindrop::trading::telemetry::{BookView, BooksView};
use pindrop::trading::venue::binance::{BinanceMarket, Flavor};
use pindrop::trading::venue::{FrameKind, MarketDialect};

const DECIMALS: u8 = 8;

/// The folder of the recordings; `None`, and a word about it, where it is absent.
fn data() -> Option<PathBuf> {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let folder = std::env::var_os("PINDROP_DATA").map_or_else(beside, PathBuf::from);
    if folder.join("NOTES.md").exists() {
        return Some(folder);
    }
    eprintln!("skipped: no recordings at {}", folder.display());
    None
}

/// The messages of a recording, in any of the forms that they come in.
struct Recording(Box<dyn BufRead>);

impl Recording {
    fn open(name: &str) -> Option<Self> {
        let path = data()?.join(name);
        let file = std::fs::File::open(&path).expect("a recording that NOTES.md names");
        let bytes: Box<dyn Read> = if name.ends_with(".gz") {
            Box::new(flate2::read::MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        };
        Some(Self(Box::new(BufReader::new(bytes))))
    }
}

impl Iterator for Recording {
    type Item = String;

    /// The next message without its time: `<ns> {json}`, `<float s>: {json}`, or bare.
    fn next(&mut self) -> Option<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line).expect("a readable recording") == 0 {
            return None;
        }
        let line = line.trim_end_matches('\n');
        let stamped = line.starts_with(|c: char| c.is_ascii_digit());
        let message =
            if stamped { line.split_once(' ').map_or("", |(_, rest)| rest) } else { line };
        Some(message.to_owned())
    }
}

type Touch = (Option<Level>, Option<Level>);

/// One book being rebuilt.
#[derive(Default)]
struct Book {
    sync: BookSync,
    depth: u64,
    /// The touch after every update applied.
    touches: Vec<(u64, Touch)>,
    /// The venue's own touches by update id.
    tickers: BTreeMap<u64, Touch>,
}

impl Book {
    /// How many touches could be compared with the venue's newest one, and how many of those were equal.
    fn compare(&self) -> (usize, usize) {
        let theirs = |u: &u64| self.tickers.range(..=u).next_back().map(|(_, touch)| touch);
        let pairs = self.touches.iter().filter_map(|(u, ours)| Some((ours, theirs(u)?)));
        let equal = pairs.clone().filter(|(ours, theirs)| ours == theirs).count();
        (pairs.count(), equal)
    }
}

struct Replay {
    dialect: BinanceMarket,
    books: Vec<Book>,
    noise: u64,
}

impl Replay {
    fn new(flavor: Flavor, symbols: &[&str]) -> Self {
        let instrument = |(n, symbol): (usize, &&str)| {
            let name = |text| Name::from(text).expect("a short name");
            let id = InstrumentId(n as u16);
            Instrument::new(id, VenueId(0), name("binance"), name(symbol), (DECIMALS, DECIMALS))
        };
        let instruments: Vec<_> = symbols.iter().enumerate().map(instrument).collect();
        let books = symbols.iter().map(|_| Book::default()).collect();
        Self { dialect: BinanceMarket::new(flavor, &instruments), books, noise: 0 }
    }

    /// Feeds one message; `each` sees the book after every change.
    fn feed(&mut self, message: &str, mut each: impl FnMut(&Book)) {
        let Self { dialect, books, noise } = self;
        let mut sink = |update| take(books, update, &mut each);
        let bytes = message.as_bytes();
        if message.starts_with("{\"lastUpdateId\"") {
            let decoded =
                dialect.decode_snapshot(bytes, InstrumentId(0), Stamps::default(), &mut sink);
            decoded.expect("a snapshot");
            return;
        }
        let kind = dialect.decode(bytes, Stamps::default(), &mut sink);
        *noise += u64::from(!matches!(kind, Ok(FrameKind::Updates)));
    }

    fn snapshot_of(&mut self, id: InstrumentId, body: &str) {
        let Self { dialect, books, .. } = self;
        let mut sink = |update| take(books, update, &mut |_| ());
        let decoded = dialect.decode_snapshot(body.as_bytes(), id, Stamps::default(), &mut sink);
        decoded.expect("a snapshot");
    }
}

fn take(books: &mut [Book], update: MarketUpdate, each: &mut impl FnMut(&Book)) {
    match update {
        MarketUpdate::Depth(chunk) => {
            let book = &mut books[chunk.instrument.index()];
            let applied = book.sync.counts().applied;
            let step = book.sync.take(&chunk);
            book.depth += u64::from(chunk.last && chunk.kind == DepthKind::Delta);
            if step == Step::Changed && book.sync.counts().applied > applied {
                book.touches.push((book.sync.update_id(), book.sync.touch()));
            }
            if step == Step::Changed {
                each(book);
            }
        }
        MarketUpdate::Ticker(ticker) => {
            let book = &mut books[ticker.instrument.index()];
            book.tickers.insert(ticker.update_id, (Some(ticker.bid), Some(ticker.ask)));
        }
        MarketUpdate::Trade(_) | MarketUpdate::Reset { .. } => {}
    }
}

/// The ten best levels of a side, as (price, quantity) text of the ladder's units.
fn top10(book: &Book, side: Side) -> Vec<Level> {
    book.sync.ladder().levels(side).take(10).collect()
}

fn levels(json: &Value) -> Vec<Level> {
    let text = |v: &Value| v.as_str().expect("a decimal string").to_owned();
    let level = |pair: &Value| Level {
        price: Price::parse(text(&pair[0]).as_bytes(), DECIMALS).expect("a price"),
        qty: Qty::parse(text(&pair[1]).as_bytes(), DECIMALS).expect("a quantity"),
    };
    json.as_array().expect("levels").iter().map(level).collect()
}

/// A checkpoint or the final book of a case.
#[track_caller]
fn check_book(book: &Book, expect: &Value, what: &str) {
    assert_eq!(Some(book.sync.update_id()), expect["u"].as_u64(), "{what}");
    assert_eq!(top10(book, Side::Buy), levels(&expect["bids"]), "{what}");
    assert_eq!(top10(book, Side::Sell), levels(&expect["asks"]), "{what}");
    for (side, key) in [(Side::Buy, "bid_levels"), (Side::Sell, "ask_levels")] {
        let count = book.sync.ladder().level_count(side) as u64;
        assert_eq!(Some(count), expect[key].as_u64(), "{what} {key}");
    }
}

#[track_caller]
fn check_clean(book: &Book, depth: u64, applied: u64) {
    let counts = book.sync.counts();
    assert_eq!((counts.gaps, counts.crossed, counts.refused_snapshots), (0, 0, 0));
    assert_eq!((book.depth, counts.applied), (depth, applied));
    assert_eq!(counts.applied + counts.old_ignored, depth);
    assert_eq!(book.sync.state(), BookState::Live);
}

/// A whole recording with its snapshot inside, against its checkpoints.
fn check_recording(
    files: &[&str],
    flavor: Flavor,
    symbol: &str,
    checkpoints: Option<&str>,
) -> Option<Replay> {
    let mut expect = BTreeMap::new();
    for line in checkpoints.and_then(Recording::open).into_iter().flatten() {
        let checkpoint: Value = serde_json::from_str(&line).expect("a checkpoint");
        expect.insert(checkpoint["applied"].as_u64().expect("a count"), checkpoint);
    }
    let mut replay = Replay::new(flavor, &[symbol]);
    let mut checked = 0;
    for file in files {
        for message in Recording::open(file)? {
            replay.feed(&message, |book| {
                if let Some(checkpoint) = expect.get(&book.sync.counts().applied) {
                    check_book(book, checkpoint, file);
                    checked += 1;
                }
            });
        }
    }
    assert_eq!(checked, expect.len(), "checkpoints reached");
    Some(replay)
}

#[test]
fn spot_btcusdt() {
    let files = ["binance-spot/btcusdt_20240808.gz"];
    let checkpoints = Some("derived/btcusdt_spot.checkpoints.jsonl.gz");
    let Some(replay) = check_recording(&files, Flavor::Spot, "BTCUSDT", checkpoints) else {
        return;
    };
    check_clean(&replay.books[0], 3_451, 3_449);
    assert_eq!(replay.books[0].compare(), (3_449, 3_449));
    assert_eq!(replay.noise, 0);
}

#[test]
fn usdm_btcusdt() {
    let files = ["binance-usdm/btcusdt_20240808.gz"];
    let checkpoints = Some("derived/btcusdt_usdm.checkpoints.jsonl.gz");
    let Some(replay) = check_recording(&files, Flavor::UsdM, "BTCUSDT", checkpoints) else {
        return;
    };
    check_clean(&replay.books[0], 6_551, 6_547);
    assert_eq!(replay.books[0].compare(), (6_546, 6_546));
    assert_eq!(replay.noise, 0);
}

#[test]
fn coinm_ethusd_over_two_days() {
    let files = ["binance-cm/ethusd_perp_20240808.gz", "binance-cm/ethusd_perp_20240809.gz"];
    let Some(replay) = check_recording(&files, Flavor::CoinM, "ETHUSD_PERP", None) else { return };
    check_clean(&replay.books[0], 39_155, 39_133);
    // 27 more than the README's, which leaves out touches that arrived after their update.
    assert_eq!(replay.books[0].compare(), (39_132, 39_132));
}

#[test]
fn spot_ethbtc_hour() {
    let Some(snapshot) = Recording::open("binance-spot/ethbtc_20201101T09_snapshot.json") else {
        return;
    };
    let mut replay = Replay::new(Flavor::Spot, &["ETHBTC"]);
    let updates = Recording::open("binance-spot/ethbtc_20201101T09_update.jsonl.gz");
    let snapshot: String = snapshot.collect();
    for (n, message) in updates.into_iter().flatten().enumerate() {
        replay.feed(&message, |_| ());
        if n == 0 {
            replay.snapshot_of(InstrumentId(0), &snapshot);
        }
    }
    // The snapshot is younger than the first event.
    check_clean(&replay.books[0], 3_600, 3_599);
}

#[test]
fn four_symbols_on_one_connection() {
    let symbols = ["NKNUSDT", "BLZETH", "LRCBTC", "RUNEEUR"];
    let Some(recording) = Recording::open("binance-spot/cf_BINANCE.ws.log.gz") else { return };
    let messages: Vec<String> = recording.filter(|m| m.starts_with('{')).collect();
    let mut replay = Replay::new(Flavor::Spot, &symbols);
    // The snapshots were taken during the stream; taken at its end, they meet the whole stream in the buffer.
    messages.iter().for_each(|message| replay.feed(message, |_| ()));
    for (n, symbol) in symbols.iter().enumerate() {
        let file = format!("binance-spot/cf_BINANCE_snapshot_{symbol}.json");
        let body: String = Recording::open(&file).into_iter().flatten().collect();
        replay.snapshot_of(InstrumentId(n as u16), &body);
    }
    assert_eq!(replay.books.iter().map(|book| book.depth).sum::<u64>(), 177);
    let mut compared = 0;
    for book in &replay.books {
        let counts = book.sync.counts();
        assert_eq!((counts.gaps, counts.crossed, counts.refused_snapshots), (0, 0, 0));
        assert_eq!(counts.applied + counts.old_ignored, book.depth);
        assert_eq!(book.sync.state(), BookState::Live);
        let newest = book.tickers.range(..=book.sync.update_id()).next_back();
        // One of the pairs was too quiet for a touch of its own in 30 seconds.
        if let Some((_, touch)) = newest {
            compared += 1;
            assert_eq!(*touch, book.sync.touch());
        }
    }
    assert!(compared >= 3, "{compared}");
}

/// One derived case: counters, the first hole, and the final book as `expected.json` states them.
fn check_case(kind: &str, flavor: Flavor, name: &str, expect: &Value) {
    let file = format!("derived/btcusdt_{kind}.{name}.gz");
    let mut replay = Replay::new(flavor, &["BTCUSDT"]);
    for message in Recording::open(&file).expect("data is there") {
        replay.feed(&message, |book| {
            if book.sync.state() == BookState::Gap {
                assert_eq!(book.sync.touch(), (None, None), "no touch without a book");
            }
        });
    }
    let (book, outcome) = (&replay.books[0], &expect["outcome"]);
    let counts = book.sync.counts();
    for (key, count) in [
        ("gaps", counts.gaps),
        ("refused_snapshots", counts.refused_snapshots),
        ("resyncs", counts.resyncs),
        ("noise", replay.noise),
        ("old_ignored", counts.old_ignored),
        ("applied", counts.applied),
        ("crossed", counts.crossed),
    ] {
        assert_eq!(Some(count), outcome[key].as_u64(), "{file} {key}");
    }
    let live = book.sync.state() == BookState::Live;
    assert_eq!(Some(live), outcome["live_at_end"].as_bool(), "{file}");
    let bad = &outcome["first_bad_event"];
    let hole = bad["U"].as_u64().map(|first_id| Hole {
        after: bad["prev_u"].as_u64().expect("an id"),
        first_id,
        prev_id: bad["pu"].as_u64(),
    });
    assert_eq!(book.sync.first_hole(), hole, "{file}");
    if expect["final"].is_null() {
        assert!(!live, "{file}");
    } else {
        check_book(book, &expect["final"], &file);
    }
}

fn check_cases(kind: &str, flavor: Flavor) {
    let Some(recording) = Recording::open(&format!("derived/btcusdt_{kind}.expected.json")) else {
        return;
    };
    let expected: Value =
        serde_json::from_str(&recording.collect::<String>()).expect("expected.json");
    let cases = expected["cases"].as_object().expect("cases");
    assert_eq!(cases.len(), 8);
    for (name, expect) in cases {
        check_case(kind, flavor, name, expect);
    }
}

#[test]
fn derived_cases_on_spot() {
    check_cases("spot", Flavor::Spot);
}

#[test]
fn derived_cases_on_futures() {
    check_cases("usdm", Flavor::UsdM);
}

/// Answers that are there when they are put there: the next call in flight gets the next one.
#[derive(Clone, Default)]
struct Answers(Arc<Mutex<Vec<HttpResponse>>>);

impl Answers {
    fn put(&self, body: &str) {
        let answer = HttpResponse { status: 200, headers: Vec::new(), body: body.into() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
    }
}

impl HttpClient for Answers {
    fn begin(&mut self, _: HttpRequest, _: Duration, _: MonoNs) {}

    fn poll(&mut self, _: MonoNs) -> Option<Result<HttpResponse, NetError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop().map(Ok)
    }

    fn blocks(&self) -> bool {
        false
    }
}

/// The three actors of the market side over memory streams, stepped by hand.
struct Engine {
    reader: FeedReader,
    rest: RestWorker,
    builder: BookBuilder,
    cx: Cx,
    server: Server,
    conn: Option<ConnId>,
    answers: Answers,
    view: View<BooksView>,
}

impl Engine {
    fn new() -> Self {
        let name = |text: &str| Name::from(text).expect("a short name");
        let id = InstrumentId(0);
        let decimals = (DECIMALS, DECIMALS);
        let instrument = Instrument::new(id, VenueId(0), name("v"), name("BTCUSDT"), decimals);
        // Known already, so that the rest worker asks for nothing but snapshots.
        assert!(instrument.set_rules(Rules {
            base: name("BTC"),
            quote: name("USDT"),
            tick: Price::from_units(1_000_000),
            price_min: Price::ZERO,
            price_max: Price::ZERO,
            lot: Qty::from_units(1_000),
            qty_min: Qty::ZERO,
            qty_max: Qty::from_units(i64::MAX),
            notional_min: Notional::ZERO,
            trading: true,
        }));
        let instruments: Arc<[Instrument]> = vec![instrument].into();
        let net = MemoryNet::new();
        let server = Server::new(net.listener(1), ServerConfig::default());
        let dialect = || Box::new(BinanceMarket::new(Flavor::Spot, &instruments));
        let (feed, snapshots) = (Mailbox::detached("feed", 8_192), Mailbox::detached("rest", 64));
        let (requests, tops) = (Mailbox::detached("requests", 8), Latest::detached("tops", 1));
        let (view, answers) = (View::new(), Answers::default());
        let url = WsUrl::parse("ws://venue:1").expect("a URL");
        let reader = FeedReader::new(
            FeedSettings::new(url, Arc::clone(&instruments), vec![id]),
            FeedPorts { book: feed.outbox(), view: View::new() },
            dialect(),
            net.dialer(),
        );
        let rest = RestWorker::new(
            RestSettings::new("http://venue:1".to_owned(), Arc::clone(&instruments), vec![id]),
            RestPorts { requests: requests.inbox(), book: snapshots.outbox(), view: View::new() },
            dialect(),
            Box::new(answers.clone()),
        );
        let ports = BookBuilderPorts {
            feed: feed.inbox(),
            snapshots: snapshots.inbox(),
            requests: requests.outbox(),
            tops: vec![tops.outbox()],
            trades: Vec::new(),
            journal: None,
            view: view.clone(),
        };
        let settings = BookBuilderSettings::new(Arc::clone(&instruments), vec![id]);
        let builder = BookBuilder::new(settings, ports);
        let cx = Cx::detached(MonoNs::ZERO, UtcNs::default());
        Self { reader, rest, builder, cx, server, conn: None, answers, view }
    }

    /// Lets everybody do what can be done without time passing.
    fn settle(&mut self) {
        for _ in 0..4 {
            while let Some(event) = self.server.poll(self.cx.now) {
                if let ServerEvent::Upgrade { conn, .. } = event {
                    assert!(self.server.accept_ws(conn));
                    self.conn = Some(conn);
                }
            }
            for actor in [&mut self.reader as &mut dyn Actor, &mut self.rest, &mut self.builder] {
                actor.turn(&mut self.cx).expect("no fault");
            }
        }
    }

    fn run(mut self, recording: Recording) -> BookView {
        self.settle();
        for message in recording {
            if message.starts_with("{\"lastUpdateId\"") {
                self.answers.put(&message);
            } else {
                let conn = self.conn.expect("connected");
                assert!(self.server.send_text(conn, &message));
            }
            // Some 7,000 messages a minute.
            self.cx.now = self.cx.now.after(Duration::from_millis(8));
            self.settle();
        }
        self.builder.on_stop(&mut self.cx, Stop::Drained);
        self.view.take().expect("published").books[0]
    }
}

#[test]
fn the_actors_rebuild_what_the_pure_path_rebuilds() {
    for case in ["clean60s", "gap_then_resync", "duplicates"] {
        let file = format!("derived/btcusdt_spot.{case}.gz");
        let Some(recording) = Recording::open(&file) else { return };
        let seen = Engine::new().run(recording);
        let mut replay = Replay::new(Flavor::Spot, &["BTCUSDT"]);
        Recording::open(&file).into_iter().flatten().for_each(|m| replay.feed(&m, |_| ()));
        let (sync, ladder) = (&replay.books[0].sync, replay.books[0].sync.ladder());
        assert_eq!((seen.state, seen.update_id), (BookState::Live, sync.update_id()), "{case}");
        assert_eq!(seen.checksum, ladder.checksum(), "{case}");
        let counts = sync.counts();
        assert_eq!((seen.applied, seen.gaps), (counts.applied, counts.gaps), "{case}");
        assert_eq!(
            (seen.resyncs, seen.old_ignored),
            (counts.resyncs, counts.old_ignored),
            "{case}"
        );
        assert_eq!(seen.disagreements, 0, "{case}");
    }
}
