//! `pindrop drill` on the built binary: a few short drills, the list, a drill that must fail, wrong words, Ctrl+C.

use std::process::{Command, Stdio};

use pindrop::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::process::{PATIENCE, Process};

/// Runs `pindrop drill` to its end: the exit code, standard output, standard error.
fn drill(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_pindrop"))
        .arg("drill")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// The folder of a test, with a configuration that would trade real money.
fn live_configuration() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join("live.toml");
    let text = r#"
        mode = "live"
        on_exit = "keep"
        [venue.north]
        dialect = "binance"
        rest_url = "https://api.binance.com"
        stream_url = "wss://stream.binance.com:9443"
        ws_api_url = "wss://ws-api.binance.com:443/ws-api/v3"
        symbols = ["BTCUSDT"]
        key_type = "ed25519"
        api_key_file = "/nonexistent/api_key"
        api_secret_file = "/nonexistent/secret.pem"
        [strategy.quotes]
        kind = "market_maker"
        venue = "north"
        symbol = "BTCUSDT"
    "#;
    std::fs::write(&path, text).expect("written");
    (dir, path.display().to_string())
}

#[test]
fn the_list_names_every_actor_of_the_engine() {
    let (code, out, err) = drill(&["--list", "--json"]);
    assert_eq!(code, 0, "{err}");
    let list = json(&out);
    let drills = list.as_array().expect("a list");
    assert!(drills.iter().all(|d| d["promise"].as_str().is_some_and(|p| p.ends_with('.'))));
    let named = |name: String| drills.iter().any(|d| d["name"] == name.as_str());
    // The engine itself says which actors it has.
    let mut engine = Process::start(&["run"]);
    let addr = engine.wait_value("event=ops.listening", "addr").parse().expect("an address");
    let status = engine.wait_json(addr, "/status", "actors", |s| s["actors"][0]["id"].is_string());
    for actor in status["actors"].as_array().expect("actors") {
        // The embedded venue is not part of what is drilled: the drills bring their own.
        let id = actor["id"].as_str().expect("an id");
        assert!(id == "venue" || named(format!("panic-{id}")), "nobody kills {id}");
    }
    engine.signal(Signal::TERM);
    assert_eq!(engine.wait_exit().0, 0, "{}", engine.log());
}

#[test]
fn short_drills_of_a_live_configuration_pass_on_play_money() {
    let (dir, config) = live_configuration();
    let keep = dir.path().join("kept").display().to_string();
    let args =
        [&config, "steady", "panic-book-north", "disconnect-stream", "--json", "--keep", &keep];
    let (code, out, err) = drill(&args);
    assert_eq!(code, 0, "{out}\n{err}");
    let answer = json(&out);
    assert_eq!((answer["ok"].clone(), answer["passed"].clone()), (true.into(), 3.into()), "{out}");
    let drills = answer["drills"].as_array().expect("drills");
    assert_eq!(drills[0]["exit_code"], 0, "{out}");
    assert_eq!(drills[0]["orders_left"], 0, "{out}");
    assert_eq!(drills[1]["restarts"], 1, "{out}");
    assert!(drills[1]["measured"]["replaced_after_ms"].as_f64() < Some(1_000.0), "{out}");
    assert!(drills[2]["measured"]["noticed_after_ms"].is_number(), "{out}");
    assert!(answer["changes"][0].as_str().is_some_and(|c| c.contains("on_exit")), "{out}");
    for (k, name) in ["steady", "panic-book-north", "disconnect-stream"].iter().enumerate() {
        assert!(err.contains(&format!("[{}/3 ", k + 1)) && err.contains(name), "{err}");
        let log = format!("{keep}/{name}/engine.log");
        let log = std::fs::read_to_string(log).expect("a kept log");
        assert!(log.contains("mode=testnet") && !log.contains("binance.com"), "{log}");
    }
}

#[test]
fn a_hanging_order_sender_is_drilled() {
    let (code, out, err) = drill(&["--only", "block-orders-binance"]);
    assert_eq!(code, 0, "{out}\n{err}");
    assert!(out.contains("cancelled on a fresh connection"), "{out}");
    assert!(out.ends_with("1 passed, 0 broken, 0 skipped, 0 not played\n"), "{out}");
}

#[test]
fn a_broken_promise_is_exit_1_and_keeps_its_log() {
    let (code, out, err) = drill(&["canary", "--json"]);
    assert_eq!(code, 1, "{out}\n{err}");
    let answer = json(&out);
    assert_eq!(answer["broken"], 1, "{out}");
    let broken = &answer["drills"][0];
    assert_eq!(
        (broken["verdict"].clone(), broken["exit_code"].clone()),
        ("broken".into(), 137.into())
    );
    assert!(err.contains("canary BROKEN: exit code 137, expected 0"), "{err}");
    let folder = broken["folder"].as_str().expect("a kept folder");
    let log = std::fs::read_to_string(format!("{folder}/engine.log")).expect("a kept log");
    assert!(log.contains("event=order.first"), "{log}");
    std::fs::remove_dir_all(folder).expect("ours");
}

#[test]
fn wrong_words_and_configurations_are_named() {
    #[track_caller]
    fn check(args: &[&str], code: i32, needle: &str) {
        let (found, _, err) = drill(args);
        assert_eq!(found, code, "{err}");
        assert!(err.contains(needle), "no {needle:?} in {err}");
    }
    check(&["--dies-with", "1", "--", "run"], 71, "the drill is gone");
    check(&["lost-akc"], 2, "did you mean `lost-ack`?");
    check(&["--liste"], 2, "--list");
    check(&["/nonexistent.toml"], 78, "/nonexistent.toml");
    check(&["--set", "risk.order_qty_maxx=1"], 78, "did you mean `order_qty_max`?");
    // Right as such, and yet not for this machine: the engine itself says so.
    check(&["--set", "actor.journal.core=1023"], 78, "1023");
    check(&["steady", "--keep", env!("CARGO_MANIFEST_DIR")], 2, "not empty");
    check(&["--set", "venue.north.symbols=[\"BTCNONE\"]"], 78, "BTCNONE");
}

/// A drill under way, and its two processes: an empty list would prove nothing.
fn drill_with_children() -> (Process, Vec<i32>) {
    let mut process = Process::start(&["drill", "spin"]);
    process.wait_line("[1/5 ");
    let me = process.pid();
    let mut children: Vec<i32> = Vec::new();
    let begin = Clock::System.now();
    while children.len() < 2 {
        assert!(Clock::System.now().since(begin) < PATIENCE, "no children: {}", process.log());
        let list = std::fs::read_to_string(format!("/proc/{me}/task/{me}/children"));
        let list = list.unwrap_or_default();
        // Before it runs what it was started for, a process has not yet asked to die with the drill.
        let runs = |pid: &i32| {
            let words = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            !words.is_empty() && !words.contains("\0drill\0")
        };
        children =
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).filter(runs).collect();
    }
    (process, children)
}

#[track_caller]
fn check_nobody_is_left_after(signals: &[Signal]) {
    let (mut process, children) = drill_with_children();
    for child in &children {
        // A stopped process does nothing by itself: not even end.
        let pid = Pid::from_raw(*child).expect("a child's id");
        kill_process(pid, Signal::STOP).expect("it is ours");
    }
    for signal in signals {
        process.signal(*signal);
    }
    process.wait_exit();
    let begin = Clock::System.now();
    for child in children {
        // One that nobody has waited for yet is gone as well.
        let runs = || {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            state.is_some_and(|state| !"ZX".contains(state))
        };
        while runs() {
            assert!(Clock::System.now().since(begin) < PATIENCE, "{child} is still there");
        }
    }
}

#[test]
fn a_second_ctrl_c_leaves_nobody_behind() {
    check_nobody_is_left_after(&[Signal::INT, Signal::INT]);
}

#[test]
fn a_killed_drill_leaves_nobody_behind() {
    check_nobody_is_left_after(&[Signal::KILL]);
}

#[test]
fn ctrl_c_ends_the_drill_and_its_children() {
    let (mut process, children) = drill_with_children();
    process.signal(Signal::INT);
    assert_eq!(process.wait_exit().0, 130, "{}", process.log());
    for child in children {
        let path = format!("/proc/{child}");
        assert!(!std::path::Path::new(&path).exists(), "{child} is still there");
    }
}
