//! `--fault` on the built binary: every actor may panic, spin or block, and the promises hold.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;

use rustix::process::Signal;

use super::engine::{Setup, Venue, assert_agreed, open_orders};
use super::process::Process;

fn actor<'a>(status: &'a Value, id: &str) -> &'a Value {
    let actors = status["actors"].as_array().expect("actors");
    actors.iter().find(|a| a["id"] == id).unwrap_or(&Value::Null)
}

/// The actor panics once, in the middle of trading; it is restarted, trading goes on, engine and venue agree.
#[track_caller]
fn restarted(id: &str, settings: &[&str]) {
    let venue = Venue::start(&["--updates-per-s", "200"]);
    let setup = Setup::new(venue.addr);
    let fault = format!("panic:{id}:after=1500ms");
    let mut args = vec!["--ops", "127.0.0.1:0", "--fault", &fault];
    args.extend(settings.iter().flat_map(|s| ["--set", s]));
    let mut engine = setup.start(&args);
    let addr: SocketAddr =
        engine.wait_value("event=ops.listening", "addr").parse().expect("an address");
    let down = time_of(&engine.wait_line("event=actor.exit"));
    let up = time_of(&engine.wait_line("event=actor.ready"));
    println!("{id}: up again after {:?}", up - down);
    let status = engine.wait_json(addr, "/status", "live again", |s| {
        s["state"] == "live" && actor(s, id)["generation"] == 2
    });
    let panicked = actor(&status, id);
    assert_eq!(panicked["restarts"], 1, "{panicked}");
    let why = panicked["last_exit"].as_str();
    assert!(why.is_some_and(|e| e.contains("panic")), "{panicked}");
    let others = status["actors"].as_array().expect("actors").iter();
    let moved: Vec<_> = others.filter(|a| a["id"] != id && a["generation"] != 1).collect();
    assert!(moved.is_empty(), "others were restarted, too: {moved:?}");
    let sent = status["orders"]["sent"].as_u64();
    engine.wait_json(addr, "/status", "trades on", |s| s["orders"]["sent"].as_u64() > sent);
    engine.signal(Signal::TERM);
    assert_eq!(engine.wait_exit().0, 0, "{}", engine.log());
    assert_agreed(&venue, &setup);
}

/// When a log line was written, as a duration since midnight.
fn time_of(line: &str) -> Duration {
    let (clock, _) = line.split_once('Z').expect("a time");
    let mut parts = clock.split_once('T').expect("date and time").1.split([':', '.']);
    let mut next = || parts.next().and_then(|p| p.parse::<u64>().ok()).expect("a number");
    let seconds = (next() * 60 + next()) * 60 + next();
    Duration::from_secs(seconds) + Duration::from_micros(next())
}

#[test]
fn feed_panics() {
    restarted("feed-binance", &[]);
}

#[test]
fn book_panics() {
    restarted("book-binance", &[]);
}

#[test]
fn strategy_panics() {
    restarted("strategy-quotes", &[]);
}

#[test]
fn order_sender_panics() {
    restarted("orders-binance", &[]);
}

#[test]
fn rest_worker_panics() {
    restarted("rest-binance", &[]);
}

#[test]
fn journal_panics() {
    restarted("journal", &[]);
}

#[test]
fn a_panic_on_a_shared_thread_is_one_actors() {
    restarted("strategy-quotes", &["threading=shared"]);
}

#[test]
fn panicking_at_every_start_exhausts_the_budget() {
    let mut engine =
        Process::start(&["run", "--ops", "off", "--fault", "panic:strategy-quotes:every=1"]);
    let (code, _) = engine.wait_exit();
    assert_eq!(code, 70, "{}", engine.log());
    let count = |event: &str| engine.log().matches(&format!("event={event} ")).count();
    // Five on its own, one with the group, one more before the eighth failure in a row.
    let counts = [count("restart.scheduled"), count("restart.group"), count("escalate")];
    assert_eq!(counts, [6, 1, 2], "{}", engine.log());
}

#[track_caller]
fn wedged(fault: &str, id: &str, how: &str) {
    let mut engine = Process::start(&["run", "--ops", "off", "--fault", fault]);
    let line = engine.wait_line("event=stall.warn");
    assert!(line.contains(&format!("actor={id}")), "{line}");
    // The second look can compare.
    let line = engine.wait_line("event=wedge.interrupt");
    assert!(line.contains(how), "{line}");
    engine.wait_line("event=wedge.fence");
    let (code, took) = engine.wait_exit();
    println!("{fault}: exit after {took:?} from the fence");
    assert_eq!(code, 75, "{}", engine.log());
}

#[test]
fn s39_a_spinning_strategy_is_named_and_ends_the_process() {
    wedged("spin:strategy-quotes:after=1500ms", "strategy-quotes", "loop");
}

#[test]
fn a_blocked_book_is_named_and_ends_the_process() {
    wedged("block:book-binance:after=1500ms", "book-binance", "blocked");
}

#[test]
fn a_blocked_order_sender_is_named_and_ends_the_process() {
    wedged("block:orders-binance:after=1500ms", "orders-binance", "blocked");
}

#[test]
fn what_a_hanging_order_sender_leaves_open_is_cancelled_over_another_connection() {
    let venue = Venue::start(&[]);
    let setup = Setup::new(venue.addr);
    let mut engine = setup.start(&["--ops", "off", "--fault", "block:orders-binance:after=2s"]);
    engine.wait_line("event=order.first");
    let line = engine.wait_line("event=emergency.cancelled");
    assert!(line.contains("confirmed=1 unconfirmed=0"), "{line}");
    assert_eq!(engine.wait_exit().0, 75, "{}", engine.log());
    assert_eq!(open_orders(&venue.state()), 0);
}
