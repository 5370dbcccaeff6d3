//! Where threads run: too few cores, cores that cannot be had, and masks that somebody else changes.
//!
//! The planner itself is tested by tables beside it; here the kernel is asked, about the built binary and about a toy
//! system whose pinned thread is moved away.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crossbeam_channel::bounded;
use pindrop::runtime::actor::{Actor, Cx, Fault, Work};
use pindrop::runtime::child::{ChildSpec, ThreadSpec};
use pindrop::runtime::system::{SystemBuilder, SystemSettings, Threading};
use pindrop::runtime::thread;
use rustix::process::Signal;
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
use serde_json::Value;

use super::process::{PATIENCE, Process};

/// The one actor that these tests pin, and to which core.
const PINNED: &str = "actor.strategy-quotes.core=1";

fn only(core: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(core);
    set
}

/// Starts `pindrop` as `taskset -c 0` would: a new process gets the mask of the thread that makes it.
pub(crate) fn on_core_zero(args: &[&str]) -> Process {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let started = thread::spawn("core-0", move || {
        sched_setaffinity(None, &only(0)).expect("core 0 is ours");
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        Process::start(&args)
    });
    started.expect("a thread").join().expect("it starts")
}

/// Whether this test may use a second core; says so otherwise.
fn has_two_cores() -> bool {
    let has = sched_getaffinity(None).is_ok_and(|set| set.is_set(0) && set.is_set(1));
    if !has {
        println!("skipped: it needs the cores 0 and 1");
    }
    has
}

fn ops(engine: &mut Process) -> SocketAddr {
    engine.wait_value("event=ops.listening", "addr").parse().expect("an address")
}

fn trades(status: &Value) -> bool {
    status["state"] == "live" && status["orders"]["filled"].as_u64() > Some(0)
}

fn actor(status: &Value, id: &str) -> Value {
    let actors = status["actors"].as_array().expect("actors");
    actors.iter().find(|a| a["id"] == id).expect("it is there").clone()
}

/// Every thread of the process: its name and the cores it may use.
fn threads(pid: u32) -> Vec<(i64, String, String)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let one = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.ok()?.path();
        // A helper may have ended since the folder was read.
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
            line.trim().to_owned()
        };
        let tid = path.file_name()?.to_str()?.parse().ok()?;
        Some((tid, field("Name:"), field("Cpus_allowed_list:")))
    };
    tasks.filter_map(one).collect()
}

#[track_caller]
fn ends_well(mut engine: Process) {
    engine.signal(Signal::TERM);
    assert_eq!(engine.wait_exit().0, 0, "{}", engine.log());
}

// ---- cores are few, or cannot be had

#[test]
fn s51_five_hot_actors_on_one_core_say_so_and_trade() {
    let mut engine = on_core_zero(&["run", "--ops", "127.0.0.1:0"]);
    let addr = ops(&mut engine);
    let line = engine.wait_line("event=sup.overprovisioned");
    assert!(line.contains(" cores=1"), "{line}");
    assert!(!line.contains("/spin"), "nobody spins: {line}");
    assert_eq!(engine.log().matches("event=sup.overprovisioned").count(), 1, "one line");
    engine.wait_json(addr, "/status", "trades", trades);
    ends_well(engine);
}

#[test]
fn s51_spinning_on_one_core_is_changed_to_parking() {
    let spin = ["feed-binance", "book-binance", "strategy-quotes", "orders-binance"]
        .map(|id| format!("actor.{id}.idle=spin"));
    let mut args = vec!["run", "--ops", "127.0.0.1:0"];
    args.extend(spin.iter().flat_map(|setting| ["--set", setting]));
    let mut engine = on_core_zero(&args);
    let addr = ops(&mut engine);
    let line = engine.wait_line("event=sup.overprovisioned");
    assert!(!line.contains("/spin"), "{line}");
    engine.wait_json(addr, "/status", "trades", trades);
    ends_well(engine);
}

#[test]
fn s52_cores_that_do_not_exist_are_errors_of_the_configuration() {
    #[track_caller]
    fn check(settings: &[&str], needles: &[&str]) {
        let mut args = vec!["run", "--ops", "off"];
        args.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let mut engine = Process::start(&args);
        assert_eq!(engine.wait_exit().0, 78, "{}", engine.log());
        for needle in needles {
            assert!(engine.log().contains(needle), "no {needle:?} in {}", engine.log());
        }
        assert!(!engine.log().contains("event=actor."), "nothing was started: {}", engine.log());
    }
    check(&["actor.strategy-quotes.core=1023"], &["strategy-quotes: core 1023 is not online"]);
    check(&["actor.strategy-quotes.core=1024"], &["actor.strategy-quotes.core: 1024 is not"]);
    check(&["actor.strategy-quotes.core=9999"], &["actor.strategy-quotes.core: 9999 is not"]);
    // All at once.
    let two = ["actor.feed-binance.core=1022", "actor.journal.core=1021"];
    check(&two, &["feed-binance: core 1022 is not online", "journal: core 1021 is not online"]);
}

/// A cpuset of core 0 alone, as a container has one; taken away when the test ends.
struct Cpuset(PathBuf);

impl Cpuset {
    /// `None` where this process may not make one.
    fn make(name: &str) -> Option<Self> {
        let path =
            Path::new("/sys/fs/cgroup/cpuset").join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir(&path).ok()?;
        let set = Self(path);
        let write = |file: &str| std::fs::write(set.0.join(file), "0");
        write("cpuset.cpus").and_then(|()| write("cpuset.mems")).ok()?;
        Some(set)
    }

    fn enter(&self) -> String {
        format!("echo $$ > {}/tasks", self.0.display())
    }
}

impl Drop for Cpuset {
    fn drop(&mut self) {
        // A group that still holds a process stays; it ends with the machine.
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn s52_a_core_outside_the_cpuset_is_a_warning_or_an_error() {
    let Some(set) = has_two_cores().then(|| Cpuset::make("pindrop-s52")).flatten() else {
        println!("skipped: no cpuset can be made here");
        return;
    };
    let args = ["run", "--ops", "127.0.0.1:0", "--set", PINNED];
    let mut lax = Process::start_after(&set.enter(), &args);
    let addr = ops(&mut lax);
    let line = lax.wait_line("event=pin.failed");
    assert!(line.contains("actor=strategy-quotes core=1"), "{line}");
    let status = lax.wait_json(addr, "/status", "trades", trades);
    assert_eq!(actor(&status, "strategy-quotes")["pinned"], false, "{status:#}");
    ends_well(lax);
    let strict = [&args[..], &["--set", "supervisor.strict_pin=true"]].concat();
    let mut strict = Process::start_after(&set.enter(), &strict);
    assert_eq!(strict.wait_exit().0, 78, "{}", strict.log());
    assert!(strict.log().contains("the kernel refuses core 1"), "{}", strict.log());
}

#[test]
fn s53_a_core_outside_the_inherited_mask_is_had_when_the_kernel_gives_it() {
    if !has_two_cores() {
        return;
    }
    let strict = "supervisor.strict_pin=true";
    let args = ["run", "--ops", "127.0.0.1:0", "--set", PINNED, "--set", strict];
    let mut engine = on_core_zero(&args);
    let addr = ops(&mut engine);
    let status = engine.wait_json(addr, "/status", "trades", trades);
    let pinned = actor(&status, "strategy-quotes");
    assert_eq!((&pinned["pinned"], &pinned["core"]), (&true.into(), &1.into()), "{pinned}");
    let tid = pinned["tid"].as_i64();
    let threads = threads(engine.pid());
    let own = threads.iter().find(|(t, ..)| Some(*t) == tid).expect("it runs");
    assert_eq!(own.2, "1", "{threads:?}");
    ends_well(engine);
}

/// What is promised: no other thread is pinned to an actor's core, or inherits its mask. Keeping the rest of the
/// process away from that core is isolcpus' or the cpuset's business.
#[test]
fn s54_nobody_inherits_the_mask_of_a_pinned_thread() {
    if !has_two_cores() {
        return;
    }
    let fault = "panic:strategy-quotes:after=500ms";
    let mut engine =
        Process::start(&["run", "--ops", "127.0.0.1:0", "--set", PINNED, "--fault", fault]);
    let addr = ops(&mut engine);
    // Its second life is on the same thread.
    let status = engine.wait_json(addr, "/status", "trades after a restart", |s| {
        trades(s) && actor(s, "strategy-quotes")["generation"] == 2
    });
    let tid = actor(&status, "strategy-quotes")["tid"].as_i64();
    let threads = threads(engine.pid());
    assert!(threads.len() > 9, "actors, reaper, logger, resolver, main: {threads:?}");
    for (thread, name, cores) in &threads {
        assert_eq!(cores == "1", Some(*thread) == tid, "{name}: {threads:?}");
    }
    ends_well(engine);
}

// ---- masks that somebody else changes

struct Idle;

impl Actor for Idle {
    fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
        Ok(Work::Idle)
    }
}

#[test]
fn a_pinned_thread_that_was_moved_is_pinned_again_and_named() {
    if !has_two_cores() {
        return;
    }
    let masks_every = Duration::from_millis(20);
    let settings = SystemSettings { masks_every, ..SystemSettings::default() };
    let mut builder = SystemBuilder::new(Threading::Dedicated, settings);
    let id = builder.actor("idle", false);
    let mut spec = ChildSpec::new(|_| Ok(Box::new(Idle)));
    spec.thread = ThreadSpec { core: Some(1), ..ThreadSpec::default() };
    builder.child(id, spec);
    let (tx, events) = bounded(256);
    builder.on_event(move |event| {
        // The test takes them one by one; more than that many would fail it.
        let _ = tx.try_send(event.clone());
    });
    let (stop, tally) = (builder.stop_handle(), builder.tally());
    let system = builder.build().expect("a valid system");
    let health = system.health();
    let running = thread::spawn("sup", move || system.run(None, None)).expect("a thread");
    let wait = |name: &str| loop {
        let event = events.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("no {name}: {e}"));
        if event.name == name {
            return event.text;
        }
    };
    wait("actor.ready");
    let tid = Pid::from_raw(health[0].tid()).expect("a thread");
    let mask = || sched_getaffinity(Some(tid)).expect("it runs");
    assert_eq!((mask().count(), health[0].core()), (1, Some(1)));
    for times in 1..=2 {
        let mut both = only(0);
        both.set(1);
        sched_setaffinity(Some(tid), &both).expect("moved");
        let line = wait("pin.lost");
        for part in ["actor=idle", "core=1", "found=0-1", "action=pinned_again"] {
            assert!(line.contains(part), "no {part} in {line}");
        }
        assert!(mask().is_set(1) && mask().count() == 1, "{line}");
        assert_eq!(tally.pins_lost(), times);
    }
    stop.drain("test");
    let outcome = running.join().expect("it ended");
    assert_eq!(outcome.exit_code, 0, "{outcome:?}");
}
