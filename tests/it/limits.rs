//! A system that refuses threads or descriptors, at the start and later.
//!
//! Proved: at the start the process ends with 71 and names what was refused; later nobody is restarted for it, and
//! trading goes on when there are descriptors again. Nothing hangs.
//!
//! Threads are refused by size: every thread wants a large stack, and the address space has room for so many. The
//! limit on their number (`ulimit -u`) does not bind root, and counts the threads of the user's other processes.

use std::net::SocketAddr;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::Value;

use super::engine::{Setup, Venue, assert_agreed};
use super::process::{Process, http};

/// Starts the demo after `limits`; it must end with 71 and say `needle`.
#[track_caller]
fn refused(limits: &str, needle: &str) {
    let mut engine = Process::start_after(limits, &["run", "--ops", "127.0.0.1:0"]);
    let (code, took) = engine.wait_exit();
    println!("{limits}: {code} after {took:?}");
    assert_eq!(code, 71, "{}", engine.log());
    assert!(engine.log().contains(needle), "no {needle:?} in {}", engine.log());
    let log = engine.log();
    assert!(!log.contains("event=order.first") && !log.contains("panic"), "{log}");
}

/// Room for some threads of 256 MiB beside 200 MiB for everything else.
#[track_caller]
fn threads(room: u32, needle: &str) {
    let kib = (200 + 256 * room) * 1024;
    let limits =
        format!("ulimit -v {kib} && export MALLOC_ARENA_MAX=1 RUST_MIN_STACK={}", 256 << 20);
    refused(&limits, needle);
}

#[test]
fn s25_no_thread_for_the_resolver() {
    threads(1, "no thread for the resolver");
}

#[test]
fn s25_no_thread_for_the_reaper() {
    threads(2, "no thread for the reaper");
}

#[test]
fn s25_no_thread_for_the_first_actor() {
    threads(3, "no thread for feed-binance");
}

#[test]
fn s25_no_thread_for_an_actor_in_the_middle() {
    threads(6, "no thread for ");
}

#[test]
fn s25_no_thread_for_the_last_actor() {
    threads(11, "no thread for ops");
}

#[test]
fn no_descriptors_for_the_signals() {
    refused("ulimit -n 8", "signal handlers");
}

#[test]
fn too_few_descriptors_are_refused_before_anything_starts() {
    for n in [16, 24, 40, 60] {
        refused(&format!("ulimit -n {n}"), &format!("descriptors: {n} are allowed"));
    }
}

#[test]
fn descriptors_as_many_as_asked_for_are_enough() {
    let mut short = Process::start_after("ulimit -n 40", &["run", "--ops", "127.0.0.1:0"]);
    assert_eq!(short.wait_exit().0, 71);
    let needed = short.log().rsplit(' ').next().expect("a number").trim().to_owned();
    let limits = format!("ulimit -n {needed}");
    let mut engine = Process::start_after(&limits, &["run", "--ops", "127.0.0.1:0"]);
    let addr: SocketAddr =
        engine.wait_value("event=ops.listening", "addr").parse().expect("an address");
    engine.wait_json(addr, "/status", "trades", |s| s["orders"]["filled"].as_u64() > Some(0));
    engine.signal(Signal::TERM);
    assert_eq!(engine.wait_exit().0, 0, "{}", engine.log());
    assert!(!engine.log().contains("Too many open files"), "{}", engine.log());
}

/// Time on a core of all threads of a process, in milliseconds.
fn cpu_ms(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let of = |text: String| text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok());
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(entry.ok()?.path().join("schedstat")).ok()
    };
    tasks.filter_map(read).filter_map(of).sum::<u64>() / 1_000_000
}

/// Sets the limit of a running process; the one before.
fn descriptors(engine: &Process, current: Option<u64>) -> Rlimit {
    let pid = Pid::from_raw(i32::try_from(engine.pid()).expect("a process id"));
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current, maximum }).expect("it may be changed")
}

#[test]
fn descriptors_that_run_out_later_restart_nobody() {
    let venue = Venue::start(&["--updates-per-s", "200"]);
    let setup = Setup::new(venue.addr);
    let mut engine = setup.start(&["--ops", "127.0.0.1:0"]);
    let addr: SocketAddr =
        engine.wait_value("event=ops.listening", "addr").parse().expect("an address");
    let sent = |s: &Value| s["orders"]["sent"].as_u64();
    let before = engine.wait_json(addr, "/status", "trades", |s| {
        s["state"] == "live" && s["orders"]["filled"].as_u64() > Some(0)
    });
    // No number below 4 is free: whatever is closed from now on cannot be opened again.
    let old = descriptors(&engine, Some(4));
    let cpu = cpu_ms(engine.pid());
    for target in ["stream", "ws_api", "user_data"] {
        let body = format!(r#"{{"kind":"disconnect","target":"{target}","count":1}}"#);
        let (status, answer) = http(venue.addr, "POST", "/sim/faults", &body).expect("an answer");
        assert_eq!(status, 200, "{answer}");
    }
    engine.wait_line("event=feed.down");
    // Three attempts in vain, each later than the one before.
    for _ in 0..3 {
        engine.wait_line("Too many open files");
    }
    println!("{} ms of CPU without descriptors", cpu_ms(engine.pid()) - cpu);
    descriptors(&engine, old.current);
    let after = engine.wait_json(addr, "/status", "trades again", |s| {
        s["state"] == "live" && sent(s) > sent(&before).map(|n| n + 3)
    });
    for actor in after["actors"].as_array().expect("actors") {
        assert_eq!((&actor["generation"], &actor["restarts"]), (&1.into(), &0.into()), "{actor}");
    }
    engine.signal(Signal::TERM);
    assert_eq!(engine.wait_exit().0, 0, "{}", engine.log());
    assert!(!engine.log().contains("event=restart."), "{}", engine.log());
    assert_agreed(&venue, &setup);
}
