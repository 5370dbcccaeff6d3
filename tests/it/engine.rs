//! The built engine as an operator runs it: it trades, drains, frees its ports, and agrees with the venue.

use std::net::SocketAddr;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::Value;

use super::process::{Process, http};

/// A venue process of its own and its address.
pub(crate) struct Venue {
    process: Process,
    pub(crate) addr: SocketAddr,
}

impl Venue {
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut all =
            vec!["venue", "--listen", "127.0.0.1:0", "--key", "k-test", "--secret", "s-test"];
        all.extend(args);
        let mut process = Process::start(&all);
        let addr = process.wait_value("event=venue.listening", "addr").parse().expect("an address");
        Self { process, addr }
    }

    pub(crate) fn state(&self) -> Value {
        let (status, body) = http(self.addr, "GET", "/sim/state", "").expect("the venue answers");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("JSON")
    }
}

/// Lines of the configuration that [`Setup`] writes.
const BASE_LINES: usize = 14;

/// A configuration that trades at `venue`, with its keys in files; the folder lives as long as the value.
pub(crate) struct Setup {
    dir: tempfile::TempDir,
}

impl Setup {
    pub(crate) fn new(venue: SocketAddr) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a temporary folder");
        for (name, text) in [("key", "k-test"), ("secret", "s-test")] {
            let path = dir.path().join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        }
        let folder = dir.path().display();
        let config = format!(
            "mode = \"testnet\"\n[venue.binance]\ndialect = \"binance\"\nrest_url = \"http://{venue}\"\n\
             stream_url = \"ws://{venue}\"\nws_api_url = \"ws://{venue}/ws-api/v3\"\nsymbols = [\"BTCUSDT\"]\n\
             key_type = \"hmac\"\napi_key_file = \"{folder}/key\"\napi_secret_file = \"{folder}/secret\"\n\
             [strategy.quotes]\nkind = \"market_maker\"\nvenue = \"binance\"\nsymbol = \"BTCUSDT\"\n"
        );
        std::fs::write(dir.path().join("engine.toml"), config).expect("written");
        Self { dir }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// Adds lines to the configuration, whose last table is `[strategy.quotes]`.
    pub(crate) fn append(&self, text: &str) {
        let path = self.path("engine.toml");
        let config = std::fs::read_to_string(&path).expect("a configuration");
        std::fs::write(path, config + text).expect("written");
    }

    /// The same, after what was added before is taken away.
    pub(crate) fn append_anew(&self, text: &str) {
        let path = self.path("engine.toml");
        let config = std::fs::read_to_string(&path).expect("a configuration");
        let lines: Vec<&str> = config.lines().take(BASE_LINES).collect();
        std::fs::write(path, format!("{}\n{text}", lines.join("\n"))).expect("written");
    }

    pub(crate) fn start(&self, args: &[&str]) -> Process {
        let (config, state, report) =
            (self.path("engine.toml"), self.path("state"), self.path("report.json"));
        let mut all = vec!["run", &config, "--state", &state, "--report", &report];
        all.extend(args);
        Process::start(&all)
    }

    pub(crate) fn report(&self) -> Value {
        let text =
            std::fs::read_to_string(PathBuf::from(self.path("report.json"))).expect("a report");
        serde_json::from_str(&text).expect("JSON")
    }
}

pub(crate) fn open_orders(state: &Value) -> usize {
    let accounts = state["accounts"].as_array().expect("accounts");
    accounts.iter().map(|a| a["open_orders"].as_array().expect("open orders").len()).sum()
}

/// What the venue says the engine bought, in decimal text.
fn venue_position(state: &Value, symbol: &str) -> String {
    let positions = state["accounts"][0]["positions"].as_array().expect("positions");
    let found = positions.iter().find(|p| p["symbol"] == symbol).expect("the symbol");
    found["qty"].as_str().expect("a quantity").to_owned()
}

/// The engine has ended: it and the venue agree on orders and position, and no message is unaccounted for.
pub(crate) fn assert_agreed(venue: &Venue, setup: &Setup) {
    let (state, report) = (venue.state(), setup.report());
    assert_eq!(open_orders(&state), 0);
    assert_eq!(report["positions"][0]["qty"], venue_position(&state, "BTCUSDT").as_str());
    assert_books_balance(&report);
}

fn assert_books_balance(report: &Value) {
    for (edge, m) in report["messages"].as_object().expect("messages") {
        let n = |key: &str| m[key].as_u64().unwrap_or_else(|| panic!("{edge}.{key}"));
        let accounted = n("handled")
            + n("refused")
            + n("dropped")
            + n("conflated")
            + n("lost_in_flight")
            + n("left");
        assert_eq!(n("sent"), accounted, "{edge}: {m}");
    }
}

#[test]
fn the_demo_trades_and_drains() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let report = dir.path().join("report.json").display().to_string();
    let mut engine = Process::start(&["run", "--report", &report]);
    let addr: SocketAddr =
        engine.wait_value("event=ops.listening", "addr").parse().expect("an address");
    engine.wait_json(addr, "/status", "trades", |s| {
        s["state"] == "live"
            && s["orders"]["filled"].as_u64() > Some(0)
            && s["orders"]["cancelled"].as_u64() > Some(0)
    });
    let (status, page) = http(addr, "GET", "/", "").expect("a page");
    assert!(status == 200 && page.contains("<html"), "{page}");
    assert_eq!(http(addr, "GET", "/health", "").expect("health").0, 200);
    assert!(http(addr, "GET", "/metrics", "").expect("metrics").1.contains("pindrop_"));
    engine.signal(Signal::TERM);
    let (code, took) = engine.wait_exit();
    assert_eq!(code, 0, "{}", engine.log());
    println!("the demo drained in {took:?}");
    let report: Value =
        serde_json::from_str(&std::fs::read_to_string(report).expect("a report")).expect("JSON");
    assert_eq!(report["exit_code"], 0);
    assert_eq!(report["open_orders_left"], Value::Array(Vec::new()));
    assert_books_balance(&report);
}

#[test]
fn a_duration_ends_by_itself() {
    let mut engine = Process::start(&["run", "--ops", "off", "--duration", "1s"]);
    assert_eq!(engine.wait_exit().0, 0, "{}", engine.log());
}

#[test]
fn engine_and_venue_agree_and_no_order_is_left() {
    let venue = Venue::start(&["--updates-per-s", "200"]);
    let setup = Setup::new(venue.addr);
    let mut engine = setup.start(&["--ops", "127.0.0.1:0"]);
    let addr: SocketAddr =
        engine.wait_value("event=ops.listening", "addr").parse().expect("an address");
    engine.wait_json(addr, "/status", "fills", |s| s["orders"]["filled"].as_u64() > Some(3));
    engine.signal(Signal::TERM);
    assert_eq!(engine.wait_exit().0, 0, "{}", engine.log());
    assert_agreed(&venue, &setup);
}

#[test]
fn a_signal_at_any_moment_leaves_no_order() {
    let venue = Venue::start(&["--updates-per-s", "5000"]);
    let setup = Setup::new(venue.addr);
    // The moment is a line of the log: before the first actor, between two, connected, trading.
    for moment in [
        "event=engine.start",
        "event=actor.ready",
        "event=session.up",
        "event=engine.live",
        "event=order.first",
    ] {
        let mut engine = setup.start(&["--ops", "off"]);
        engine.wait_line(moment);
        engine.signal(Signal::TERM);
        let (code, took) = engine.wait_exit();
        println!("SIGTERM after {moment}: drained in {took:?}");
        assert_eq!(code, 0, "after {moment}: {}", engine.log());
        assert_eq!(open_orders(&venue.state()), 0, "after {moment}");
    }
}

#[test]
fn a_second_signal_exits_at_once() {
    let venue = Venue::start(&[]);
    let setup = Setup::new(venue.addr);
    let mut engine = setup.start(&["--ops", "off"]);
    engine.wait_line("event=engine.live");
    // A venue that does not answer keeps the drain waiting.
    venue.process.signal(Signal::STOP);
    engine.signal(Signal::TERM);
    engine.wait_line("event=drain.begin");
    engine.signal(Signal::TERM);
    let (code, took) = engine.wait_exit();
    venue.process.signal(Signal::CONT);
    assert_eq!(code, 143, "{}", engine.log());
    println!("the second signal took {took:?}");
}

#[test]
fn a_dead_venue_does_not_hold_the_drain() {
    let venue = Venue::start(&[]);
    let setup = Setup::new(venue.addr);
    let mut engine = setup.start(&["--ops", "off"]);
    engine.wait_line("event=order.first");
    venue.process.signal(Signal::STOP);
    engine.signal(Signal::TERM);
    let (code, took) = engine.wait_exit();
    venue.process.signal(Signal::CONT);
    // Orders are possibly open: 76, and they are listed.
    assert_eq!(code, 76, "{}", engine.log());
    println!("drained from a dead venue in {took:?}");
    assert_ne!(setup.report()["open_orders_left"], Value::Array(Vec::new()));
}

#[test]
fn the_same_ports_bind_again_twenty_times() {
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let (venue, ops) = (format!("demo.listen={port}"), format!("127.0.0.1:{}", port.port() + 1));
    for round in 0..20 {
        let mut engine = Process::start(&["run", "--set", &venue, "--ops", &ops]);
        engine.wait_line("event=book.live");
        engine.signal(Signal::INT);
        assert_eq!(engine.wait_exit().0, 0, "round {round}: {}", engine.log());
    }
}

#[test]
fn a_killed_engine_is_made_whole_by_the_next() {
    let venue = Venue::start(&["--updates-per-s", "200"]);
    let setup = Setup::new(venue.addr);
    let mut engine = setup.start(&["--ops", "127.0.0.1:0"]);
    let addr: SocketAddr =
        engine.wait_value("event=ops.listening", "addr").parse().expect("an address");
    engine.wait_json(addr, "/status", "fills", |s| s["orders"]["filled"].as_u64() > Some(1));
    engine.signal(Signal::KILL);
    assert_eq!(engine.wait_exit().0, 137);
    let mut verify = Process::start(&["journal", "verify", &setup.path("state")]);
    assert_eq!(verify.wait_exit().0, 0, "{}", verify.log());
    let mut engine = setup.start(&["--ops", "off"]);
    engine.wait_line("event=engine.live");
    engine.signal(Signal::TERM);
    assert_eq!(engine.wait_exit().0, 0, "{}", engine.log());
    assert_agreed(&venue, &setup);
}

#[test]
fn one_engine_per_state_folder() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let state = dir.path().display().to_string();
    let mut first = Process::start(&["run", "--ops", "off", "--state", &state]);
    first.wait_line("event=engine.start");
    let mut second = Process::start(&["run", "--ops", "off", "--state", &state]);
    assert_eq!(second.wait_exit().0, 69, "{}", second.log());
    assert!(second.log().contains(&format!("process {}", first.pid())), "{}", second.log());
    first.signal(Signal::TERM);
    assert_eq!(first.wait_exit().0, 0);
}

#[test]
fn live_needs_every_limit() {
    let venue = Venue::start(&[]);
    let setup = Setup::new(venue.addr);
    let mut engine = setup.start(&["--mode", "live", "--set", "risk.order_qty_max=0.1"]);
    assert_eq!(engine.wait_exit().0, 78, "{}", engine.log());
    assert!(engine.log().contains("risk.position_max is not set for BTCUSDT"), "{}", engine.log());
    assert!(!engine.log().contains("order_qty_max"), "{}", engine.log());
}

#[test]
fn wrong_words_are_named() {
    #[track_caller]
    fn check(args: &[&str], code: i32, needle: &str) {
        let mut process = Process::start(args);
        assert_eq!(process.wait_exit().0, code, "{}", process.log());
        assert!(process.log().contains(needle), "no {needle:?} in {}", process.log());
    }
    check(&["run", "--durration", "1s"], 2, "--duration");
    check(&["run", "--duration", "30"], 2, "a number with a unit");
    check(&["run", "--set", "ops.listem=x"], 78, "did you mean `listen`?");
    check(&["run", "/nonexistent.toml"], 78, "/nonexistent.toml");
    check(&["run", "--fault", "panic:nobody"], 78, "nobody");
    check(&["run", "--mode", "live"], 78, "venue");
    check(&["journal", "verify", "/nonexistent"], 74, "/nonexistent");
}
