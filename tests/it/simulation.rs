//! The whole engine and the venue on one thread, under a virtual clock, over in-memory streams, with faults.
//!
//! Method: the same topology as in production is wired into a world of memory, a minute of trading is stepped with one
//! injected panic and one disconnect, then the engine drains. Checked: engine and venue agree on orders and position,
//! every message is accounted for, and the journal's bytes are a function of the seed.

use std::path::Path;
use std::time::Duration;

use pindrop::runtime::actor::ActorId;

use super::world::{PORT, simulate};

/// The journal's bytes, all segments in order.
fn journal(dir: &Path) -> Vec<u8> {
    let mut files: Vec<_> =
        std::fs::read_dir(dir).expect("a journal").map(|f| f.expect("readable").path()).collect();
    files.sort();
    files.iter().flat_map(|f| std::fs::read(f).expect("readable")).collect()
}

/// A minute of trading with a panic and a disconnect; the journal's bytes.
fn minute(seed: u64) -> Vec<u8> {
    println!("seed {seed}");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut sim = simulate(seed, dir.path(), &["panic:strategy-quotes:after=500"], &[], None);
    sim.stepper.run_for(Duration::from_secs(30));
    sim.net.disconnect_all(PORT);
    sim.stepper.run_for(Duration::from_secs(30));
    assert_eq!(sim.stepper.exit_code(), None, "{:#?}", sim.stepper.events().recent());
    // Trading stops and what is open is cancelled; then the two can be compared.
    sim.kill_switch.trip("the minute is over");
    sim.stepper.run_for(Duration::from_secs(1));
    let traded = sim.venue_state();
    assert_eq!(traded["accounts"][0]["open_orders"].as_array().map(Vec::len), Some(0));
    let edges = sim.stepper.edges();
    assert_eq!(sim.position().as_deref(), traded["accounts"][0]["positions"][0]["qty"].as_str());
    let fills = traded["accounts"][0]["fills"].as_array().map_or(0, Vec::len);
    assert!(fills > 0 && sim.sent() > 0, "nothing was traded");
    let outcome = sim.stepper.drain("the minute is over");
    assert_eq!(outcome.exit_code, 0, "{outcome:#?}");
    for edge in &*edges {
        assert!(edge.counts().conserved(), "{}: {:?}", edge.spec().name, edge.counts());
    }
    let restarts: u32 = outcome.actors.iter().map(|a| a.restarts).sum();
    assert_eq!(restarts, 1, "{:#?}", outcome.actors);
    journal(dir.path())
}

#[test]
fn the_same_seed_gives_the_same_journal() {
    let first = minute(7);
    assert!(!first.is_empty());
    assert!(first == minute(7), "the same seed gave another journal");
    assert!(first != minute(8), "another seed gave the same journal");
}

/// The order sender gets no turns for a while in the middle of trading; everything else goes on.
#[track_caller]
fn frozen(ms: u64, suspended: u64) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut sim = simulate(3, dir.path(), &[], &["demo.updates_per_s=200"], None);
    sim.stepper.run_for(Duration::from_secs(5));
    let health = sim.stepper.health();
    let index = health.iter().position(|cell| cell.name() == "orders-binance").expect("an actor");
    let id = ActorId(u16::try_from(index).expect("small"));
    for _ in 0..3 {
        // One thread, or the whole process: what hangs longer than that is another test's business.
        if ms < 2_000 {
            sim.stepper.freeze(id, Duration::from_millis(ms));
            sim.stepper.run_for(Duration::from_millis(ms));
        } else {
            sim.stepper.clock().advance(Duration::from_millis(ms));
        }
        sim.stepper.run_for(Duration::from_millis(500));
    }
    let (seen, sent) = sim.look_at_orders(|view| (view.suspended, view.totals.sent));
    assert_eq!(seen, suspended, "after three freezes of {ms} ms");
    sim.stepper.run_for(Duration::from_secs(5));
    assert!(sim.sent() > sent, "it trades on");
    assert_eq!(sim.look_at_orders(|view| view.reconnects), 0);
    sim.kill_switch.trip("the test is over");
    sim.stepper.run_for(Duration::from_secs(1));
    let state = sim.venue_state();
    assert_eq!(sim.position().as_deref(), state["accounts"][0]["positions"][0]["qty"].as_str());
    let outcome = sim.stepper.drain("the test is over");
    assert_eq!(outcome.exit_code, 0, "{outcome:#?}");
    assert_eq!(outcome.actors.iter().map(|a| a.restarts).sum::<u32>(), 0);
}

#[test]
fn a_frozen_order_sender_compares_and_trades_on() {
    frozen(1_500, 0);
    frozen(2_500, 3);
    frozen(8_000, 3);
}
