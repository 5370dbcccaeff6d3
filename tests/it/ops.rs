//! Status, health, metrics, page, report and log: what the interface promises, over real requests.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use log::{Level, LevelFilter, Log, Record};
use serde_json::{Value, json};

use pindrop::clock::{Clock, MonoNs, UtcNs, VirtualClock};
use pindrop::net::memory::MemoryNet;
use pindrop::net::{Endpoint, Stream};
use pindrop::ops::health::Health;
use pindrop::ops::logger::{LogFormat, LogSettings, Logger};
use pindrop::ops::metrics;
use pindrop::ops::report::{FinalReport, replace_file};
use pindrop::ops::server::{OpsServer, OpsSettings};
use pindrop::ops::sources::{
    EngineState, EventLine, RateLimit, Stage, StatusSources, TradingGate, Watched,
};
use pindrop::ops::status::{Status, StatusBuilder};
use pindrop::runtime::actor::{Actor, Cx, Fault, Stop, Work};
use pindrop::runtime::child::ChildSpec;
use pindrop::runtime::health::Cell;
use pindrop::runtime::mailbox::{Edge, EdgeCounts, Mailbox};
use pindrop::runtime::report::{ActorOutcome, Outcome, PhaseOutcome};
use pindrop::runtime::stepper::{Pace, Stepper};
use pindrop::runtime::system::{SystemBuilder, SystemSettings, Threading};
use pindrop::runtime::view::View;
use pindrop::trading::domain::instrument::Name;
use pindrop::trading::domain::{
    BookState, ClientOrderId, Instrument, InstrumentId, Level as BookLevel, Notional, OrderStatus,
    Price, Qty, Reason, Rules, Side, SignedQty, VenueId,
};
use pindrop::trading::telemetry::{
    BookView, BooksView, FeedInstrumentView, FeedView, JournalView, LatencyView, OpenOrderView,
    OrderTotals, OrdersView, PositionView, SessionState, StrategyView,
};
use pindrop::trading::venue::Balance;

const NOW: MonoNs = MonoNs::from_millis(5_000);

fn name(text: &str) -> Name {
    Name::from(text).expect("short")
}

fn level(price: i64, qty: i64) -> BookLevel {
    BookLevel { price: Price::from_units(price), qty: Qty::from_units(qty) }
}

/// An engine with one of everything, all in order. Prices have 2 decimals, quantities 4.
struct Engine {
    feed: View<FeedView>,
    books: View<BooksView>,
    orders: View<OrdersView>,
    state: Arc<Mutex<EngineState>>,
    sources: StatusSources,
}

fn instrument() -> Instrument {
    let id = InstrumentId(0);
    let instrument = Instrument::new(id, VenueId(0), name("binance"), name("BTCUSDT"), (2, 4));
    let set = instrument.set_rules(Rules {
        base: name("BTC"),
        quote: name("USDT"),
        tick: Price::from_units(1),
        price_min: Price::ZERO,
        price_max: Price::ZERO,
        lot: Qty::from_units(1),
        qty_min: Qty::ZERO,
        qty_max: Qty::ZERO,
        notional_min: Notional::ZERO,
        trading: true,
    });
    assert!(set);
    instrument
}

fn orders_view() -> OrdersView {
    let mut refused = [0; Reason::ALL.len()];
    refused[Reason::PriceCollar as usize] = 3;
    let totals =
        OrderTotals { sent: 10, acknowledged: 9, filled: 4, fills: 6, ..OrderTotals::default() };
    OrdersView {
        state: SessionState::Live,
        trading: true,
        totals,
        refused,
        open: vec![OpenOrderView {
            instrument: InstrumentId(0),
            client_order_id: ClientOrderId::from("pin-1").expect("short"),
            status: OrderStatus::New,
            side: Side::Buy,
            price: Price::from_units(6_000_000),
            qty: Qty::from_units(100),
            cum_qty: Qty::from_units(25),
            sent: MonoNs::from_millis(4_000),
        }],
        positions: vec![PositionView {
            instrument: InstrumentId(0),
            qty: SignedQty::from_units(-5_000),
            avg_price: Price::from_units(6_000_000),
            realized_pnl: Notional::from_units(1_500_000),
            unrealized_pnl: Notional::from_units(-2_000_000),
            fees: Notional::from_units(10_000),
        }],
        balances: vec![Balance { asset: name("USDT"), free: 100_000_000_000, locked: 50_000_000 }],
        latency: vec![LatencyView {
            name: name("tick_to_trade"),
            count: 10,
            p50_ns: 12_345,
            p99_ns: 20_000,
            p999_ns: 30_000,
            max_ns: 40_000,
        }],
        ..OrdersView::default()
    }
}

impl Engine {
    fn new() -> Self {
        let sources = StatusSources::new(
            "demo",
            MonoNs::from_millis(1_000),
            Arc::new([]),
            Arc::new([instrument()]),
        );
        let state = EngineState { stage: Stage::Running, ..EngineState::default() };
        let state = Arc::new(Mutex::new(state));
        let (feed, books, orders) = (View::new(), View::new(), View::new());
        let mut engine = Self { feed, books, orders, state, sources };
        engine.wire();
        engine.feed.publish(|view: &mut FeedView| {
            view.state = SessionState::Live;
            let last_update = MonoNs::from_millis(4_900);
            view.instruments =
                vec![FeedInstrumentView { instrument: InstrumentId(0), last_update, messages: 77 }];
        });
        engine.set_book(BookState::Live);
        engine.orders.publish(|view| *view = orders_view());
        engine
    }

    fn wire(&mut self) {
        let (strategy, journal) = (View::<StrategyView>::new(), View::<JournalView>::new());
        strategy.publish(|view| view.note = "<b>quoting</b>".to_owned());
        journal.publish(|view| view.records = 12);
        let state = Arc::clone(&self.state);
        let sources = &mut self.sources;
        sources.feeds.push(Watched::new("feed-binance", self.feed.clone()));
        sources.books.push(Watched::new("book-binance", self.books.clone()));
        sources.orders.push(Watched::new("orders-binance", self.orders.clone()));
        sources.strategies.push(Watched::new("strategy-quotes", strategy));
        sources.journal = Some(Watched::new("journal", journal));
        sources.engine =
            Box::new(move || state.lock().unwrap_or_else(PoisonError::into_inner).clone());
        sources.events = Box::new(|| {
            let line = |n| EventLine {
                utc: UtcNs::from_millis(n),
                event: "actor.exit".to_owned(),
                text: format!("event=actor.exit n={n}"),
            };
            (0..60).map(line).collect()
        });
        sources.rate_limits = Box::new(|| {
            let window = Duration::from_secs(60);
            vec![RateLimit { name: "binance weight".to_owned(), used: 5, limit: 6_000, window }]
        });
        let edge = Mailbox::<u8>::detached("feed->book", 4);
        for n in 0..5 {
            let _ = edge.outbox().offer(n);
        }
        sources.edges = Arc::new([Arc::new(edge) as Arc<dyn Edge>]);
    }

    /// Adds an actor that was declared and not started.
    fn declare_actor(&mut self) {
        self.sources.health = Arc::new([Arc::new(Cell::new("book-binance"))]);
        self.sources.set_idle(vec!["park".to_owned()]);
    }

    fn set_book(&self, state: BookState) {
        self.books.publish(|view| {
            view.books = vec![BookView {
                instrument: InstrumentId(0),
                state,
                update_id: 42,
                bid: Some(level(5_999_900, 10_000)),
                ask: Some(level(6_000_100, 20_000)),
                bid_levels: 100,
                ask_levels: 101,
                applied: 9,
                checksum: 7,
                ..BookView::default()
            }];
        });
    }

    fn set(&self, change: impl FnOnce(&mut EngineState)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn build(self) -> (Status, Health) {
        StatusBuilder::new(Arc::new(self.sources)).build(NOW)
    }
}

/// The word, the health and its HTTP status after `change`.
#[track_caller]
fn check(change: impl FnOnce(&mut Engine), state: &str, health: &str, http: u16) {
    let mut engine = Engine::new();
    change(&mut engine);
    let (status, verdict) = engine.build();
    let reasons = &status.reasons;
    assert_eq!(status.state, state, "{reasons:?}");
    assert_eq!((verdict.status, verdict.http_status()), (health, http), "{reasons:?}");
    assert_eq!(reasons.is_empty(), state == "live" || state == "draining" || state == "stopped");
}

#[test]
fn all_in_order_is_live() {
    check(|_| {}, "live", "ok", 200);
}

#[test]
fn states_of_the_engine() {
    check(|e| e.set(|s| s.stage = Stage::Starting), "starting", "degraded", 200);
    check(|e| e.set(|s| s.stage = Stage::Draining), "draining", "degraded", 200);
    check(|e| e.set(|s| s.stage = Stage::Stopped), "stopped", "degraded", 200);
    check(|e| e.set(|s| s.trading = TradingGate::CancelOnly), "cancel_only", "degraded", 200);
    check(|e| e.set(|s| s.trading = TradingGate::Halted), "halted", "halted", 503);
}

#[test]
fn states_of_actors_and_sessions() {
    check(Engine::declare_actor, "starting", "degraded", 200);
    check(|e| e.set_book(BookState::Stale), "degraded", "degraded", 200);
    check(|e| e.feed.publish(|f| f.last_error = "reset".to_owned()), "degraded", "degraded", 200);
    check(|e| e.feed.publish(|f| *f = FeedView::default()), "starting", "degraded", 200);
    let held = |e: &mut Engine| {
        e.orders.publish(|o| *o = OrdersView { trading: false, ..orders_view() });
    };
    check(held, "halted", "halted", 503);
    let reconcile = |e: &mut Engine| {
        let state = SessionState::Reconciling;
        e.orders.publish(|o| *o = OrdersView { state, trading: false, ..orders_view() });
    };
    check(reconcile, "reconciling", "degraded", 200);
    let stuck = |e: &mut Engine| {
        e.orders.publish(|o| *o = OrdersView { stuck: 1, ..orders_view() });
    };
    check(stuck, "degraded", "degraded", 200);
}

#[test]
fn reasons_name_the_part() {
    let engine = Engine::new();
    engine.set_book(BookState::Gap);
    let (status, _) = engine.build();
    assert_eq!(status.reasons, ["book binance:BTCUSDT: gap"]);
}

/// The keys of an object.
fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// Every promised key is there.
#[track_caller]
fn promised(value: &Value, fields: &str) {
    let there = keys(value);
    for field in fields.split(", ") {
        assert!(there.contains(field), "{field} is missing in {there:?}");
    }
}

#[test]
fn status_has_the_fields_of_the_interface() {
    let mut engine = Engine::new();
    engine.declare_actor();
    let (status, _) = engine.build();
    let status = serde_json::to_value(&status).expect("plain data");
    promised(
        &status,
        "version, pid, mode, state, reasons, uptime_ms, actors, feeds, books, orders",
    );
    promised(&status, "open_orders, positions, cash, equity, rate_limits, latency_us, events");
    let actor = &status["actors"][0];
    promised(actor, "id, tid, core, pinned, idle, state, generation, restarts, last_exit");
    promised(actor, "beat_age_ms, turns, busy_turns, turn_max_us, mailboxes, uptime_ms");
    promised(actor, "consecutive, long_turns, messages_in, messages_out, in_flight_lost, stalls");
    promised(actor, "stall_age_ms, interrupted, cpus_allowed, cpu_ms, switches_voluntary");
    promised(&status["supervisor"], "plan, overprovisioned, suspended, stale_events, errors");
    let mailbox = "edge, depth, capacity, high_water, refused, dropped, dropped_by, conflated";
    promised(&actor["mailboxes"][0], mailbox);
    promised(&status["feeds"][0], "venue, symbol, transport, state, last_update_age_ms, messages");
    promised(&status["feeds"][0], "gaps, resyncs, reconnects");
    promised(
        &status["books"][0],
        "venue, symbol, state, update_id, bid, bid_qty, ask, ask_qty, levels",
    );
    promised(
        &status["orders"],
        "open, unknown, sent, acknowledged, filled, cancelled, rejected, refused",
    );
    let position = "venue, symbol, qty, avg_price, realized_pnl, unrealized_pnl";
    promised(&status["positions"][0], position);
    promised(&status["latency_us"]["tick_to_trade"], "count, p50, p99, p999, max");
}

#[test]
fn status_speaks_in_decimals() {
    let (status, _) = Engine::new().build();
    let status = serde_json::to_value(&status).expect("plain data");
    assert_eq!(status["uptime_ms"], 4_000);
    assert_eq!(status["feeds"][0]["last_update_age_ms"], 100);
    assert_eq!(status["books"][0]["bid"], "59999.00");
    assert_eq!(status["books"][0]["ask_qty"], "2.0000");
    assert_eq!(status["books"][0]["levels"], 201);
    assert_eq!(status["orders"]["refused"], json!({ "price_collar": 3 }));
    assert_eq!(status["open_orders"][0]["cum_qty"], "0.0025");
    assert_eq!(status["open_orders"][0]["age_ms"], 1_000);
    assert_eq!(status["positions"][0]["qty"], "-0.5000");
    assert_eq!(status["positions"][0]["realized_pnl"], "1.500000");
    assert_eq!(
        status["cash"],
        json!({ "USDT": { "free": "1000.00000000", "locked": "0.50000000" } })
    );
    // 1000.50 in cash, 0.5 BTC short at a middle of 60,000.
    assert_eq!(status["equity"], json!({ "USDT": "-28999.50000000" }));
    assert_eq!(status["latency_us"]["tick_to_trade"]["p50"], 12.345);
    assert_eq!(status["events"].as_array().expect("a list").len(), 50);
    assert_eq!(status["events"][0]["text"], "n=10");
}

#[test]
fn equity_is_the_sum_of_all_accounts() {
    let mut engine = Engine::new();
    let other = View::new();
    other.publish(|view: &mut OrdersView| {
        view.balances = vec![Balance { asset: name("USDT"), free: 20_000_000_000, locked: 0 }];
    });
    engine.sources.orders.push(Watched::new("orders-other", other));
    let (status, _) = engine.build();
    // 200 more than the one account has.
    assert_eq!(status.equity["USDT"], "-28799.50000000");
}

#[test]
fn a_view_stays_readable_for_every_reader() {
    let view = View::<JournalView>::new();
    let watched = Watched::new("journal", view.clone());
    assert_eq!(watched.read(|v| v.records), None);
    view.publish(|v| v.records = 1);
    assert_eq!(watched.read(|v| v.records), Some(1));
    assert_eq!(watched.read(|v| v.records), Some(1));
    view.publish(|v| v.records = 2);
    assert_eq!(watched.read(|v| v.records), Some(2));
}

/// Checks one line of metrics text; the family it declares or belongs to.
fn metric_line<'a>(line: &'a str, declared: &mut BTreeSet<&'a str>) {
    if let Some(rest) = line.strip_prefix("# TYPE ") {
        let (family, kind) = rest.split_once(' ').expect("a kind");
        assert!(["counter", "gauge"].contains(&kind), "{line}");
        assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
        assert!(declared.insert(family), "declared twice: {line}");
        return;
    }
    if line.starts_with("# HELP ") {
        return;
    }
    let (series, value) = line.rsplit_once(' ').expect("a value");
    assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
    let family = match series.split_once('{') {
        None => series,
        Some((family, labels)) => {
            check_labels(labels.strip_suffix('}').expect("closed"), line);
            family
        }
    };
    assert!(family.starts_with("pindrop_"), "{line}");
    assert!(family.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{line}");
    assert!(declared.contains(family), "not declared: {line}");
}

fn check_labels(mut rest: &str, line: &str) {
    while !rest.is_empty() {
        let (key, value) = rest.split_once("=\"").expect("a label");
        assert!(key.bytes().all(|b| b.is_ascii_lowercase()), "{line}");
        let mut escaped = false;
        let end = value.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        rest = &value[end.expect("a closing quote") + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

#[test]
fn every_line_of_metrics_is_one() {
    let mut engine = Engine::new();
    engine.declare_actor();
    engine.sources.mode = "de\"mo\\\nx".to_owned();
    let (status, health) = engine.build();
    let text = metrics::render(&status, &health);
    let mut declared = BTreeSet::new();
    text.lines().for_each(|line| metric_line(line, &mut declared));
    assert!(text.ends_with('\n'));
    assert!(text.contains("mode=\"de\\\"mo\\\\\\nx\""), "{text}");
    assert!(text.contains("\npindrop_state{state=\"starting\"} 1\n"), "{text}");
    assert!(text.contains("\npindrop_equity{asset=\"USDT\"} -28999.50000000\n"), "{text}");
    assert!(text.contains(
        "\npindrop_mailbox_refused_total{edge=\"feed->book\",actor=\"book-binance\"} 1\n"
    ));
}

/// The ops actor over an in-memory network.
struct Page {
    net: MemoryNet,
    server: OpsServer,
    now: MonoNs,
}

impl Page {
    fn new(engine: Engine, settings: OpsSettings) -> Self {
        let net = MemoryNet::new();
        let server = OpsServer::new(settings, Arc::new(engine.sources), net.listener(9_100));
        Self { net, server, now: NOW }
    }

    /// Sends `request` and reads until the connection ends or nothing more comes.
    fn ask(&mut self, request: &str) -> String {
        let endpoint = Endpoint { host: "memory".to_owned(), port: 9_100, tls: false };
        let mut stream = self.net.dialer().dial(&endpoint, self.now).expect("listening");
        stream.write_all(request.as_bytes()).expect("room");
        let mut answer = Vec::new();
        let mut cx = Cx::detached(self.now, UtcNs::default());
        for _ in 0..8 {
            self.server.turn(&mut cx).expect("no fault");
            read_all(&mut *stream, &mut answer);
        }
        String::from_utf8(answer).expect("text")
    }

    fn get(&mut self, path: &str) -> String {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:9100\r\n\r\n"))
    }
}

fn read_all(stream: &mut dyn Stream, into: &mut Vec<u8>) {
    let mut chunk = [0; 4_096];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return,
            Ok(n) => into.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return,
            Err(e) => panic!("{e}"),
        }
    }
}

/// An actor that has work until it drains.
struct Toy;

impl Actor for Toy {
    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        Ok(Work::when(!cx.draining()))
    }
}

/// A toy and the ops actor, supervised and stepped; the toy gets no turns for a while.
#[test]
fn an_actor_without_progress_is_named() {
    let net = MemoryNet::new();
    let mut builder = SystemBuilder::new(Threading::Dedicated, SystemSettings::default());
    let (toy, ops) = (builder.actor("toy", false), builder.actor("ops", false));
    // Not the ladder is on trial here: it would end the system first.
    let stall_fail = Duration::from_secs(60);
    builder.child(toy, ChildSpec { stall_fail, ..ChildSpec::new(|_| Ok(Box::new(Toy))) });
    let mut sources = StatusSources::new("demo", MonoNs::ZERO, builder.health(), Arc::new([]));
    sources.engine = Box::new(|| EngineState { stage: Stage::Running, ..EngineState::default() });
    let (sources, listening) = (Arc::new(sources), net.clone());
    let start = move |_: &mut Cx| -> Result<Box<dyn Actor>, Fault> {
        let acceptor = listening.listener(9_100);
        Ok(Box::new(OpsServer::new(OpsSettings::default(), Arc::clone(&sources), acceptor)))
    };
    builder.child(ops, ChildSpec { stall_fail, ..ChildSpec::new(start) });
    let system = builder.build().expect("a valid system");
    let mut stepper = system.stepper(1, VirtualClock::new(UtcNs::default()));
    stepper.set_pace(Pace { busy: Duration::from_millis(1), ..Pace::default() });
    stepper.run_for(Duration::from_millis(300));
    assert!(health_over(&net, &mut stepper).contains("{\"status\":\"ok\""));
    stepper.freeze(toy, Duration::from_millis(1_500));
    stepper.run_for(Duration::from_millis(1_300));
    let answer = health_over(&net, &mut stepper);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\"stalled\":[\"toy\"]"), "{answer}");
    stepper.run_for(Duration::from_millis(500));
    assert!(health_over(&net, &mut stepper).contains("{\"status\":\"ok\""));
    // The ops actor cannot look for a while: it says so, and accuses nobody.
    stepper.freeze(ops, Duration::from_millis(3_000));
    stepper.freeze(toy, Duration::from_millis(3_000));
    stepper.run_for(Duration::from_millis(3_010));
    let answer = health_over(&net, &mut stepper);
    assert!(answer.contains("looked 30") && answer.contains("\"stalled\":[]"), "{answer}");
    assert_eq!(stepper.drain("done").exit_code, 0);
}

fn health_over(net: &MemoryNet, stepper: &mut Stepper) -> String {
    let endpoint = Endpoint { host: "memory".to_owned(), port: 9_100, tls: false };
    let mut stream = net.dialer().dial(&endpoint, stepper.now()).expect("listening");
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("room");
    stepper.run_for(Duration::from_millis(20));
    let mut answer = Vec::new();
    read_all(&mut *stream, &mut answer);
    String::from_utf8(answer).expect("text")
}

/// Asks a fresh page; the status line and the body.
#[track_caller]
fn check_answer(request: &str, status: u16, body_has: &str) {
    let mut page = Page::new(Engine::new(), OpsSettings::default());
    let answer = page.ask(request);
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request} gave {answer}");
    assert!(answer.contains(body_has), "{request} gave {answer}");
}

#[test]
fn paths_are_served() {
    check_answer("GET / HTTP/1.1\r\nHost: localhost:9100\r\n\r\n", 200, "<!doctype html>");
    check_answer(
        "GET / HTTP/1.1\r\nHost: [::1]:9100\r\n\r\n",
        200,
        "content-security-policy: default-src 'none'",
    );
    check_answer(
        "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        200,
        "{\"status\":\"ok\",\"reasons\":[],\"stalled\":[]}",
    );
    check_answer("GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, "\"state\":\"live\"");
    check_answer(
        "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        200,
        "text/plain; version=0.0.4",
    );
    check_answer("GET /favicon.ico HTTP/1.1\r\nHost: localhost\r\n\r\n", 204, "");
}

#[test]
fn others_are_refused() {
    check_answer("GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n", 404, "{\"error\":");
    check_answer(
        "POST /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
        405,
        "allow: GET",
    );
    check_answer("GET /status HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403, "{\"error\":");
    check_answer(
        "GET /status HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n",
        403,
        "Origin",
    );
}

#[test]
fn one_status_serves_for_a_tenth_of_a_second() {
    let engine = Engine::new();
    let books = engine.books.clone();
    let mut page = Page::new(engine, OpsSettings::default());
    assert!(page.get("/status").contains("\"update_id\":42"));
    books.publish(|view| view.books.clear());
    assert!(page.get("/status").contains("\"update_id\":42"));
    page.now = page.now.after(Duration::from_millis(100));
    assert!(!page.get("/status").contains("\"update_id\":42"));
}

#[test]
fn status_json_is_replaced_each_second() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("status.json");
    let settings = OpsSettings { status_file: Some(path.clone()), ..OpsSettings::default() };
    let engine = Engine::new();
    let state = Arc::clone(&engine.state);
    let mut page = Page::new(engine, settings);
    let read = || -> Value {
        serde_json::from_slice(&std::fs::read(&path).expect("written")).expect("whole")
    };
    let mut turn = |after_ms: u64| {
        page.now = page.now.after(Duration::from_millis(after_ms));
        page.server.turn(&mut Cx::detached(page.now, UtcNs::default())).expect("no fault")
    };
    assert_eq!(turn(0), Work::Busy);
    assert_eq!(read()["uptime_ms"], 4_000);
    turn(999);
    assert_eq!(read()["uptime_ms"], 4_000);
    turn(1);
    assert_eq!(read()["uptime_ms"], 5_000);
    state.lock().expect("whole").stage = Stage::Stopped;
    let mut cx = Cx::detached(page.now, UtcNs::default());
    page.server.on_stop(&mut cx, Stop::Drained);
    assert_eq!(read()["state"], "stopped");
    assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 1);
}

#[test]
fn a_file_is_replaced_or_left() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("report.json");
    replace_file(&path, b"old").expect("writable");
    replace_file(&path, b"new").expect("writable");
    assert_eq!(std::fs::read(&path).expect("there"), b"new");
    assert!(replace_file(&dir.path().join("none/report.json"), b"x").is_err());
}

#[test]
fn the_report_as_it_is_promised() {
    let engine = Engine::new();
    let phase =
        PhaseOutcome { name: "settle".to_owned(), took: Duration::from_secs(7), late: true };
    let actor = ActorOutcome {
        name: "book-binance".to_owned(),
        generation: 2,
        restarts: 1,
        exit: "deadline",
        detail: "stopped where it stood".to_owned(),
    };
    let counts = EdgeCounts { sent: 5, refused: 1, left: 4, ..EdgeCounts::default() };
    let outcome = Outcome {
        exit_code: 76,
        reason: "drain deadline".to_owned(),
        uptime: Duration::from_secs(60),
        drain: Duration::from_secs(8),
        phases: vec![phase],
        actors: vec![actor],
        edges: vec![("feed->book".to_owned(), counts)],
        stale_events: 0,
        reaper: None,
    };
    let report = FinalReport::new(&engine.sources, &outcome);
    let golden = json!({
        "exit_code": 76, "reason": "drain deadline", "mode": "demo", "uptime_ms": 60_000, "drain_ms": 8_000,
        "phases": [{ "name": "settle", "ms": 7_000, "late": true }],
        "actors": [{
            "id": "book-binance", "generation": 2, "restarts": 1, "exit": "deadline",
            "detail": "stopped where it stood",
        }],
        "orders": {
            "sent": 10, "acknowledged": 9, "filled": 4, "cancelled": 0, "rejected": 0, "refused": 3,
            "unknown": 0, "fills": 6, "expired": 0,
        },
        "open_orders_left": ["pin-1"],
        "messages": { "feed->book": {
            "sent": 5, "handled": 0, "refused": 1, "dropped": 0, "conflated": 0, "lost_in_flight": 0, "left": 4,
        } },
        "latency_us": { "tick_to_trade": { "count": 10, "p50": 12.345, "p99": 20.0, "p999": 30.0, "max": 40.0 } },
        "equity": { "USDT": "-28999.50000000" },
        "books": [{
            "venue": "binance", "symbol": "BTCUSDT", "state": "live", "update_id": 42, "bid": "59999.00",
            "bid_qty": "1.0000", "ask": "60001.00", "ask_qty": "2.0000", "levels": 201, "checksum": 7,
            "applied": 9, "gaps": 0, "resyncs": 0,
        }],
        "positions": [{
            "venue": "binance", "symbol": "BTCUSDT", "qty": "-0.5000", "avg_price": "60000.00",
            "realized_pnl": "1.500000", "unrealized_pnl": "-2.000000", "fees": "0.010000",
        }],
    });
    let mut out = Vec::new();
    report.write("-".as_ref(), &mut out).expect("memory");
    assert_eq!(serde_json::from_slice::<Value>(&out).expect("JSON"), golden);
}

/// A sink that a test can look into.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Logs through `body` into memory; what was written.
fn logged(settings: LogSettings, body: impl FnOnce(&Logger)) -> String {
    let sink = Sink::default();
    let clock = Clock::Virtual(VirtualClock::new(UtcNs::from_nanos(1_000_001_999)));
    std::thread::scope(|scope| {
        let spawn = |run: Box<dyn FnOnce() + Send>| drop(scope.spawn(run));
        let logger = Logger::start(settings, clock, Box::new(sink.clone()), spawn);
        body(&logger);
        assert!(logger.flush_within(Duration::from_secs(10)));
    });
    let bytes = sink.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    String::from_utf8(bytes).expect("text")
}

#[track_caller]
fn check_line(
    format: LogFormat,
    target: &str,
    message: &str,
    pairs: &[(&str, &str)],
    expect: &str,
) {
    let settings = LogSettings { format, ..LogSettings::default() };
    let pairs: Vec<_> = pairs.to_vec();
    let text = logged(settings, |logger| {
        let mut record = Record::builder();
        record.level(Level::Warn).target(target).key_values(&pairs);
        logger.log(&record.args(format_args!("{message}")).build());
    });
    assert_eq!(text, expect);
}

#[test]
fn text_lines() {
    let text = LogFormat::Text;
    check_line(
        text,
        "pindrop::runtime::supervisor",
        "event=actor.exit gen=4",
        &[("msg", "a \"b\"\n=c"), ("n", "7")],
        "1970-01-01T00:00:01.000001Z WARN  supervisor event=actor.exit gen=4 msg=\"a \\\"b\\\"\\n=c\" n=7\n",
    );
    check_line(
        text,
        "venue",
        "two\r\nlines \u{1b}[31m\u{202e}",
        &[],
        "1970-01-01T00:00:01.000001Z WARN  venue two\\r\\nlines \\u{1b}[31m\\u{202e}\n",
    );
}

#[test]
fn json_lines() {
    check_line(
        LogFormat::Json,
        "supervisor",
        "event=actor.exit msg=\"it \\\"broke\\\"\" gen=4",
        &[("n", "7")],
        "{\"time\":\"1970-01-01T00:00:01.000001Z\",\"level\":\"WARN\",\"target\":\"supervisor\",\
         \"event\":\"actor.exit\",\"msg\":\"it \\\"broke\\\"\",\"gen\":\"4\",\"n\":\"7\"}\n",
    );
    check_line(
        LogFormat::Json,
        "ops",
        "plain words, a=b",
        &[],
        "{\"time\":\"1970-01-01T00:00:01.000001Z\",\"level\":\"WARN\",\"target\":\"ops\",\"msg\":\"plain words, a=b\"}\n",
    );
}

#[test]
fn levels_and_foreign_targets() {
    let settings =
        LogSettings { level: LevelFilter::Trace, priority_prefix: true, ..LogSettings::default() };
    let text = logged(settings, |logger| {
        for target in ["tungstenite::client", "pindrop::net"] {
            for level in [Level::Error, Level::Info] {
                let args = format_args!("x");
                logger.log(&Record::builder().level(level).target(target).args(args).build());
            }
        }
    });
    let starts: Vec<_> = text.lines().map(|line| &line[..3]).collect();
    assert_eq!(starts, ["<3>", "<3>", "<6>"]);
}

#[test]
fn nobody_waits_for_a_pipe_that_nobody_reads() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    // Lines of 160 bytes: the channel holds more than a pipe of 64 KiB, and less than what is logged.
    let settings = LogSettings { lines_max: 2_000, ..LogSettings::default() };
    std::thread::scope(|scope| {
        let spawn = |run: Box<dyn FnOnce() + Send>| drop(scope.spawn(run));
        let logger = Logger::start(settings, Clock::System, Box::new(writer), spawn);
        // This ends only if nothing waits.
        for n in 0..5_000 {
            let args = format_args!("event=flood n={n} filler={:0100}", 0);
            logger.log(&Record::builder().level(Level::Info).target("test").args(args).build());
        }
        assert!(logger.dropped() > 0);
        assert!(!logger.flush_within(Duration::from_millis(20)));
        // A reader appears: what was kept comes, and a line that tells of the rest.
        let text = scope.spawn(move || {
            let mut text = String::new();
            let _ = std::io::BufReader::new(reader).read_to_string(&mut text);
            text
        });
        assert!(logger.flush_within(Duration::from_secs(10)));
        drop(logger);
        let text = text.join().expect("no panic");
        assert!(text.contains(" log event=log.dropped n="), "{}", &text[text.len() - 200..]);
    });
}
