//! Signals at the worst moments, a venue that answers nothing while the engine drains, and a log that nobody reads.
//!
//! Proved: a second signal ends the process whatever its threads do; a first one always ends it within the hard limit;
//! a reader of the log that has stalled holds up nobody.

use std::net::SocketAddr;
use std::time::Duration;

use pindrop::clock::Clock;
use pindrop::runtime::thread;
use rustix::process::Signal;
use serde_json::Value;

use super::engine::{Setup, Venue, open_orders};
use super::placement::on_core_zero;
use super::process::{PATIENCE, Process, http, value_of};

/// Runs of the binary that get two signals at random moments, and how many of them at the same time.
const RUNS: u64 = 200;
const AT_ONCE: u64 = 8;
/// The hard limit of a drain, and the time that the report and the last lines may take beside it.
const HARD_LIMIT: Duration = Duration::from_millis(8_000 + 1_500);

fn demo(args: &[&str]) -> Process {
    let mut all = vec!["run", "--ops", "off"];
    all.extend(args);
    Process::start(&all)
}

fn ask(addr: SocketAddr, body: &str) {
    let (status, answer) = http(addr, "POST", "/sim/faults", body).expect("the venue answers");
    assert_eq!(status, 200, "{body}: {answer}");
}

// ---- a second signal

/// One run: two SIGTERM at moments that `rng` chooses. The exit code and the time from the second signal to the end.
fn two_signals(rng: &mut fastrand::Rng, state: &str) -> (i32, Duration) {
    // One in four meets the first lines of main.
    let first_us = if rng.u8(..4) == 0 { 20_000 } else { 400_000 };
    let gap_us = [200, 5_000, 60_000][rng.usize(..3)];
    let first = Duration::from_micros(rng.u64(..first_us));
    let gap = Duration::from_micros(rng.u64(..gap_us));
    let mut engine = demo(&["--state", state]);
    engine.idle(first);
    engine.signal(Signal::TERM);
    engine.idle(gap);
    engine.signal(Signal::TERM);
    let (code, took) = engine.wait_exit();
    assert!(
        code == 143 || code == 0,
        "exit code {code} after SIGTERM at {first:?} and {gap:?} later: {}",
        engine.log()
    );
    let drained = engine.log().contains("event=sup.exit code=0");
    assert!(code == 143 || drained, "0 without a drain: {}", engine.log());
    (code, took)
}

#[test]
fn s46_two_signals_at_any_two_moments_end_the_process() {
    let given = std::env::var("PINDROP_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = given.unwrap_or_else(|| Clock::System.utc().as_nanos().unsigned_abs());
    println!("PINDROP_SEED={seed}");
    let runner = |worker: u64| {
        move || {
            let dir = tempfile::tempdir().expect("a temporary folder");
            let run = |run: u64| {
                let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(run));
                let state = dir.path().join(run.to_string()).display().to_string();
                two_signals(&mut rng, &state)
            };
            (worker..RUNS).step_by(AT_ONCE as usize).map(run).collect::<Vec<_>>()
        }
    };
    let workers: Vec<_> = (0..AT_ONCE)
        .map(|n| thread::spawn(&format!("runs-{n}"), runner(n)).expect("a thread"))
        .collect();
    let ends: Vec<(i32, Duration)> =
        workers.into_iter().flat_map(|w| w.join().expect("no run failed")).collect();
    let at_once = ends.iter().filter(|(code, _)| *code == 143).count();
    let worst = ends.iter().map(|(_, took)| *took).max().unwrap_or_default();
    println!(
        "{at_once} x 143, {} x 0, worst {worst:?} after the second signal",
        ends.len() - at_once
    );
    assert_eq!(ends.len() as u64, RUNS);
    assert!(at_once > 0, "no second signal met a drain");
}

/// `second` meets a drain that `first` has begun and that a dead venue keeps waiting.
#[track_caller]
fn second(first: Signal, second: Signal, code: i32) {
    let venue = Venue::start(&[]);
    let setup = Setup::new(venue.addr);
    let mut engine = setup.start(&["--ops", "off"]);
    engine.wait_line("event=order.first");
    ask(venue.addr, r#"{"kind":"half_open","target":"rest","duration_ms":20000}"#);
    ask(venue.addr, r#"{"kind":"half_open","target":"ws_api","duration_ms":20000}"#);
    engine.signal(first);
    engine.wait_line("event=drain.phase phase=1");
    engine.signal(second);
    let (seen, took) = engine.wait_exit();
    println!("{first:?}, {second:?}: {seen} after {took:?}");
    assert_eq!(seen, code, "{}", engine.log());
    assert!(!engine.log().contains("event=drain.end"), "{}", engine.log());
}

#[test]
fn s47_terminate_then_terminate() {
    second(Signal::TERM, Signal::TERM, 143);
}

#[test]
fn s47_interrupt_then_terminate() {
    second(Signal::INT, Signal::TERM, 143);
}

#[test]
fn s47_terminate_then_interrupt() {
    second(Signal::TERM, Signal::INT, 130);
}

#[test]
fn s47_interrupt_then_quit() {
    second(Signal::INT, Signal::QUIT, 131);
}

/// The kernel keeps one pending signal of a kind: two in the same millisecond are two, or one. Both are answered.
#[test]
fn s47_twice_in_the_same_millisecond() {
    for signals in [[Signal::TERM, Signal::TERM], [Signal::INT, Signal::TERM]] {
        for _ in 0..5 {
            let mut engine = demo(&[]);
            engine.wait_line("event=book.live");
            signals.iter().for_each(|signal| engine.signal(*signal));
            let (code, took) = engine.wait_exit();
            println!("{signals:?} at once: {code} after {took:?}");
            assert!([0, 130, 143].contains(&code), "{code}: {}", engine.log());
            assert!(signals[0] == Signal::INT || code != 130, "{}", engine.log());
        }
    }
}

/// Nothing is ready yet, so that nothing is started any more.
#[test]
fn s47_a_signal_before_the_first_ready() {
    let venue = Venue::start(&["--updates-per-s", "5000"]);
    let setup = Setup::new(venue.addr);
    for _ in 0..10 {
        let mut engine = setup.start(&["--ops", "off"]);
        // The first line of all; actors are started after it.
        engine.wait_line("event=engine.start");
        engine.signal(Signal::TERM);
        assert_eq!(engine.wait_exit().0, 0, "{}", engine.log());
        let log = engine.log();
        let begun = log.find("event=drain.begin").unwrap_or_else(|| panic!("no drain: {log}"));
        // Whoever was starting may become ready; who was waiting for others is not begun.
        let late = log[begun..].matches("event=actor.ready").count();
        let early = log[..begun].matches("event=actor.ready").count();
        println!("{early} actors were ready before the drain, {late} while it ran");
        assert_eq!(open_orders(&venue.state()), 0, "{log}");
    }
}

#[test]
fn s46_a_second_signal_ends_a_process_all_of_whose_threads_spin_on_one_core() {
    let actors = ["feed-binance", "book-binance", "strategy-quotes", "orders-binance", "journal"];
    let faults: Vec<String> = actors.iter().map(|a| format!("spin:{a}:after=1s")).collect();
    let mut args = vec!["run", "--ops", "off"];
    args.extend(faults.iter().flat_map(|fault| ["--fault", fault]));
    let mut engine = on_core_zero(&args);
    engine.wait_line("event=stall.warn");
    engine.signal(Signal::TERM);
    engine.wait_line("event=drain.begin");
    engine.signal(Signal::TERM);
    let (code, took) = engine.wait_exit();
    println!("every thread spins: {code} after {took:?}");
    assert_eq!(code, 143, "{}", engine.log());
}

/// Nobody in the process runs when the two signals come: both wait for it.
#[test]
fn s46_two_signals_to_a_stopped_process_end_it_when_it_goes_on() {
    let mut engine = demo(&[]);
    engine.wait_line("event=engine.live");
    engine.signal(Signal::STOP);
    engine.signal(Signal::TERM);
    engine.signal(Signal::INT);
    engine.signal(Signal::CONT);
    let (code, took) = engine.wait_exit();
    println!("two signals while stopped: {code} after {took:?}");
    // Which of two pending signals is handled first is the kernel's business.
    assert!([130, 143].contains(&code), "{code}: {}", engine.log());
}

#[test]
fn s19_a_signal_ends_a_restart_loop() {
    let fault = "panic:strategy-quotes:every=1";
    let mut engine = demo(&["--set", "supervisor.restarts_max=1000", "--fault", fault]);
    engine.wait_line("event=restart.scheduled");
    engine.signal(Signal::TERM);
    let (code, took) = engine.wait_exit();
    println!("a restart loop: {code} after {took:?}");
    assert_eq!(code, 0, "{}", engine.log());
    let log = engine.log();
    let begun = log.find("event=drain.begin").expect("it drained");
    assert!(!log[begun..].contains("event=restart."), "{log}");
}

// ---- a venue that answers nothing

#[test]
fn s45_a_black_hole_in_the_settle_phase_ends_with_76_in_time() {
    let venue = Venue::start(&["--updates-per-s", "200"]);
    let setup = Setup::new(venue.addr);
    let mut engine = setup.start(&["--ops", "off"]);
    engine.wait_line("event=order.first");
    // Connections are taken, requests are read, nothing is ever answered.
    for target in ["rest", "ws_api", "user_data"] {
        let body = format!(r#"{{"kind":"half_open","target":"{target}","duration_ms":30000}}"#);
        ask(venue.addr, &body);
    }
    engine.signal(Signal::TERM);
    let (code, took) = engine.wait_exit();
    println!("a black hole: {code} after {took:?}");
    assert_eq!(code, 76, "{}", engine.log());
    assert!(took < HARD_LIMIT, "{took:?}: {}", engine.log());
    // Whatever is open there is named here.
    let report = setup.report();
    let named = report["open_orders_left"].as_array().expect("a list").clone();
    let state = venue.state();
    let open = state["accounts"][0]["open_orders"].as_array().expect("a list");
    println!("{} orders are open, {} are named", open.len(), named.len());
    for order in open {
        assert!(named.contains(&order["clientOrderId"]), "{order} is not among {named:?}");
    }
}

// ---- a log that nobody reads

/// A demo whose standard error is a full pipe; with the pipe's other end and the address of its page.
fn stalled_log() -> (Process, std::process::ChildStderr, SocketAddr) {
    let mut engine = Process::start(&["run"]);
    let addr = engine.wait_value("event=ops.listening", "addr").parse().expect("an address");
    engine.wait_line("event=order.first");
    let pipe = engine.stop_reading();
    rustix::pipe::fcntl_setpipe_size(&pipe, 4_096).expect("a small pipe");
    // Each dump is some twenty lines: more than the pipe and the logger's own queue can hold.
    for _ in 0..1_000 {
        engine.signal(Signal::USR1);
        engine.idle(Duration::from_millis(1));
    }
    (engine, pipe, addr)
}

fn sent(status: &Value) -> Option<u64> {
    status["orders"]["sent"].as_u64()
}

#[test]
fn s56_a_stalled_log_stops_nothing_and_the_lost_lines_are_counted() {
    let (mut engine, pipe, addr) = stalled_log();
    let before = engine.wait_json(addr, "/status", "status", |s| s["state"] == "live");
    engine.wait_json(addr, "/status", "trades on", |s| sent(s) > sent(&before).map(|n| n + 5));
    engine.read_again(pipe);
    let line = engine.wait_line("event=log.dropped");
    let lost = value_of(&line, "n").and_then(|n| n.parse::<u64>().ok());
    println!("{line}");
    assert!(lost > Some(0), "{line}");
    engine.signal(Signal::TERM);
    assert_eq!(engine.wait_exit().0, 0, "{}", engine.log());
}

#[test]
fn s56_a_stalled_log_does_not_hold_the_drain() {
    let (mut engine, pipe, addr) = stalled_log();
    engine.wait_json(addr, "/status", "status", |s| s["state"] == "live");
    engine.signal(Signal::TERM);
    let (code, took) = engine.wait_exit();
    println!("nobody reads the log: {code} after {took:?}");
    assert_eq!(code, 0);
    assert!(took < HARD_LIMIT.min(PATIENCE), "{took:?}");
    drop(pipe);
}
