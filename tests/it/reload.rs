//! SIGHUP on the built engine: what may change is in force without a restart, a mistake changes nothing.

use std::net::SocketAddr;

use rustix::process::Signal;
use serde_json::Value;

use super::engine::{Setup, Venue, assert_agreed};
use super::process::Process;

fn sent(status: &Value) -> u64 {
    status["orders"]["sent"].as_u64().expect("a number")
}

/// The quantity of the order that the venue took last.
fn last_qty(state: &Value) -> Option<&str> {
    state["accounts"][0]["orders"].as_array()?.last()?["origQty"].as_str()
}

#[test]
fn a_reload_changes_what_may_change_and_names_the_rest() {
    let venue = Venue::start(&["--updates-per-s", "200"]);
    let setup = Setup::new(venue.addr);
    let mut engine = setup.start(&["--ops", "127.0.0.1:0"]);
    let addr: SocketAddr =
        engine.wait_value("event=ops.listening", "addr").parse().expect("an address");
    engine.wait_json(addr, "/status", "trades", |s| s["state"] == "live" && sent(s) > 0);

    setup.append("timer_ms = 200\norder_qty = \"0.002\"\n[risk]\nopen_orders_max = 9\n");
    engine.signal(Signal::HUP);
    let line = engine.wait_line("event=reload.applied key=risk.open_orders_max");
    assert!(line.contains("from=\"default\" to=\"9\""), "{line}");
    engine.wait_line("event=reload.applied key=strategy.quotes.order_qty");
    engine.wait_line("event=reload.needs_restart key=strategy.quotes.timer_ms");
    engine.wait_line("event=reload.done applied=2 needs_restart=1");
    engine.wait_json(venue.addr, "/sim/state", "orders of the new size", |s| {
        last_qty(s).is_some_and(|qty| qty.starts_with("0.002"))
    });

    // One mistake among good lines.
    setup.append("order_qty_max = \"0.001\"\norders_per_s_max = \"often\"\n[nonsense]\n");
    engine.signal(Signal::HUP);
    let line = engine.wait_line("event=reload.error");
    assert!(line.contains("risk.orders_per_s_max"), "{line}");
    engine.wait_line("event=reload.error");
    engine.wait_line("event=reload.refused errors=2");
    let before = engine.wait_json(addr, "/status", "status", |_| true);
    let after = engine.wait_json(addr, "/status", "trades on", |s| sent(s) > sent(&before) + 3);
    assert_eq!(after["orders"]["refused"]["quantity"], Value::Null, "nothing has changed");

    // A limit tightened below what the strategy wants stops it.
    setup.append_anew(
        "order_qty = \"0.002\"\n[risk]\norder_qty_max = \"0.001\"\n[log]\nlevel = \"debug\"\n",
    );
    engine.signal(Signal::HUP);
    engine.wait_line("event=reload.applied key=log.level");
    engine.wait_line("event=reload.done applied=3");
    engine.wait_json(addr, "/status", "refuses", |s| {
        s["orders"]["refused"]["quantity"].as_u64() > Some(0)
    });
    engine.signal(Signal::TERM);
    assert_eq!(engine.wait_exit().0, 0, "{}", engine.log());
    assert!(!engine.log().contains("event=restart."), "{}", engine.log());
    assert_agreed(&venue, &setup);
}

#[test]
fn the_demo_has_nothing_to_reload_and_says_so() {
    let mut engine = Process::start(&["run", "--ops", "off"]);
    engine.wait_line("event=order.first");
    engine.signal(Signal::HUP);
    engine.wait_line("event=reload.none");
    engine.signal(Signal::TERM);
    assert_eq!(engine.wait_exit().0, 0, "{}", engine.log());
}
