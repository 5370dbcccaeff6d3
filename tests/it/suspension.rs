//! The built engine when its process does not run for a while, and when signals rain on it.
//!
//! SIGSTOP is what a debugger, a frozen container or a machine without memory does to it. Proved: nobody is accused or
//! restarted, the order sender compares with the venue before it trades on, and signals interrupt no call for good.

use std::net::SocketAddr;
use std::time::Duration;

use pindrop::clock::Clock;
use rustix::process::Signal;
use serde_json::Value;

use super::engine::{Setup, Venue, assert_agreed, open_orders};
use super::process::{Process, value_of};

fn ops(engine: &mut Process) -> SocketAddr {
    engine.wait_value("event=ops.listening", "addr").parse().expect("an address")
}

fn sent(status: &Value) -> u64 {
    status["orders"]["sent"].as_u64().expect("a number")
}

fn utc_ms() -> i64 {
    Clock::System.utc().as_millis()
}

/// When the venue took each order, in milliseconds of the time of day.
fn order_times(state: &Value) -> Vec<i64> {
    let orders = state["accounts"][0]["orders"].as_array().expect("orders");
    orders.iter().map(|order| order["time"].as_i64().expect("a time")).collect()
}

/// Nobody was restarted and nothing was connected again.
fn assert_undisturbed(status: &Value) {
    for actor in status["actors"].as_array().expect("actors") {
        assert_eq!((&actor["generation"], &actor["restarts"]), (&1.into(), &0.into()), "{actor}");
    }
}

/// A process that was stopped for `span` compares with the venue before it trades on.
#[track_caller]
fn stopped_for(span: Duration) {
    // Each answer takes a tenth of a second, so that one can watch.
    let venue = Venue::start(&["--updates-per-s", "200", "--latency-ms", "100"]);
    let setup = Setup::new(venue.addr);
    let mut engine = setup.start(&["--ops", "127.0.0.1:0"]);
    let addr = ops(&mut engine);
    engine.wait_json(addr, "/status", "trades", |s| {
        s["state"] == "live" && s["orders"]["filled"].as_u64() > Some(0)
    });
    let stopped = utc_ms();
    engine.signal(Signal::STOP);
    engine.idle(span);
    let went_on = utc_ms();
    engine.signal(Signal::CONT);
    let seen = engine.wait_json(addr, "/status", "reconciles", |s| s["state"] == "reconciling");
    let reasons = seen["reasons"].to_string();
    let seconds = span.as_secs();
    let wanted = format!("order session reconciling (suspended for {seconds}");
    assert!(reasons.contains(&wanted), "{reasons}");
    let sent_before = sent(&seen);
    assert_eq!(seen["orders"]["suspended"], 1, "{seen:#}");
    let live = engine
        .wait_json(addr, "/status", "trades on", |s| s["state"] == "live" && sent(s) > sent_before);
    assert_undisturbed(&live);
    assert_eq!(live["orders"]["suspended"], 1);
    engine.signal(Signal::TERM);
    assert_eq!(engine.wait_exit().0, 0, "{}", engine.log());
    let log = engine.log();
    assert!(log.contains("event=sup.suspended gap_ms="), "{log}");
    let told = log.find("event=order.suspended").unwrap_or_else(|| panic!("not told: {log}"));
    let line = log[told..].lines().next().unwrap_or_default();
    let gap = value_of(line, "gap_ms").and_then(|text| text.parse::<u64>().ok());
    let expected = seconds * 1_000 - 100..seconds * 1_000 + 7_000;
    assert!(gap.is_some_and(|ms| expected.contains(&ms)), "{line}");
    assert!(log[told..].contains("event=session.up"), "it came up again: {log}");
    for word in ["stall.warn", "wedge.", "restart.", "kind=panic"] {
        assert!(!log.contains(word), "{word}: {log}");
    }
    // Two rounds of questions come before the first order, and each answer takes its tenth of a second. What was on its
    // way to the venue when the process stopped is there within half a second.
    let early = order_times(&venue.state())
        .into_iter()
        .find(|ms| (stopped + 500..went_on + 200).contains(ms));
    assert_eq!(early, None, "an order between {stopped} and {went_on} + 200");
    assert_agreed(&venue, &setup);
}

#[test]
fn a_stopped_process_reconciles_before_it_trades_on() {
    stopped_for(Duration::from_secs(3));
}

/// The scenario asks for 30 s; nothing in the engine tells 10 s from 30 s, and the venue does: its pings.
#[test]
fn s40_ten_seconds_of_sigstop_accuse_nobody() {
    stopped_for(Duration::from_secs(10));
}

#[test]
fn a_short_stop_is_nobodys_business() {
    let venue = Venue::start(&["--updates-per-s", "200"]);
    let setup = Setup::new(venue.addr);
    let mut engine = setup.start(&["--ops", "127.0.0.1:0"]);
    let addr = ops(&mut engine);
    let before = engine.wait_json(addr, "/status", "trades", |s| {
        s["state"] == "live" && s["orders"]["filled"].as_u64() > Some(0)
    });
    engine.signal(Signal::STOP);
    engine.idle(Duration::from_millis(500));
    engine.signal(Signal::CONT);
    let after = engine.wait_json(addr, "/status", "trades on", |s| sent(s) > sent(&before) + 1);
    assert_eq!(after["orders"]["suspended"], 0);
    assert_undisturbed(&after);
    engine.signal(Signal::TERM);
    assert_eq!(engine.wait_exit().0, 0, "{}", engine.log());
    assert_agreed(&venue, &setup);
}

/// A thousand signals in about a second: no call that they interrupt is taken for a failure.
#[track_caller]
fn storm(signal: Signal, settings: &[&str]) {
    let venue = Venue::start(&["--updates-per-s", "200"]);
    let setup = Setup::new(venue.addr);
    let mut args = vec!["--ops", "127.0.0.1:0"];
    args.extend(settings.iter().flat_map(|s| ["--set", s]));
    let mut engine = setup.start(&args);
    let addr = ops(&mut engine);
    let before = engine.wait_json(addr, "/status", "trades", |s| {
        s["state"] == "live" && s["orders"]["filled"].as_u64() > Some(0)
    });
    for _ in 0..1_000 {
        engine.signal(signal);
        engine.idle(Duration::from_millis(1));
    }
    let after = engine.wait_json(addr, "/status", "trades on", |s| {
        s["state"] == "live" && sent(s) > sent(&before) + 1
    });
    assert_undisturbed(&after);
    assert_eq!(after["feeds"][0]["reconnects"], 0, "{after:#}");
    engine.signal(Signal::TERM);
    let (code, took) = engine.wait_exit();
    assert_eq!(code, 0, "{}", engine.log());
    println!("{signal:?}: drained in {took:?}, {} bytes of log", engine.log().len());
    for word in ["event=session.down", "event=feed.down", "event=restart.", "event=book.gap"] {
        assert!(!engine.log().contains(word), "{word}: {}", engine.log());
    }
    assert_eq!(open_orders(&venue.state()), 0);
    assert_agreed(&venue, &setup);
}

#[test]
fn s55_a_storm_of_dumps_interrupts_nothing() {
    storm(Signal::USR1, &[]);
}

#[test]
fn a_storm_of_dumps_interrupts_nothing_on_a_shared_thread() {
    storm(Signal::USR2, &["threading=shared"]);
}

#[test]
fn a_storm_of_reloads_interrupts_nothing() {
    storm(Signal::HUP, &[]);
}
