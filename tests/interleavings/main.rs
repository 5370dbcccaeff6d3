//! Every interleaving of our own lock-free pieces, and every value that a weak memory may show them.
//!
//! The pieces are the product's source files, compiled here once more: they name their atomics through
//! `crate::sync`, and in this crate that module holds the model checker's. Each check is run once per distinct
//! execution, with preemptions bounded as its line below says; the first execution that breaks a promise fails the
//! test. Prints one line per check; arguments that name checks run only those.
#![allow(
    dead_code,
    unused_imports,
    missing_docs,
    unreachable_pub,
    reason = "the product's files are here for their protocols only"
)]
#![expect(clippy::print_stdout, reason = "a test without a harness reports on standard output")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

// The model's atomics, and models of the queues.
mod sync;

// The product's files.
#[path = "../../src/clock.rs"]
mod clock;
#[path = "../../src/trading/risk/kill_switch.rs"]
mod kill_switch;
mod runtime;
#[path = "../../src/trading/domain/written.rs"]
mod written;

// What must hold of them.
mod shared_state;

use clock::Clock;

/// A check: its name, the most preemptions in one execution (a thread switched away from though it could go on), and
/// one execution of it.
type Check = (&'static str, usize, fn());

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    canary();
    let checks = [runtime::checks::ALL, shared_state::ALL].concat();
    let mut ran = 0;
    for (name, preemptions, check) in checks {
        if wanted.is_empty() || wanted.iter().any(|w| name.contains(w.as_str())) {
            explore(name, preemptions, check);
            ran += 1;
        }
    }
    println!("{ran} checks passed");
}

/// Runs `check` in every execution.
fn explore(name: &str, preemptions: usize, check: fn()) {
    let begun = Clock::System.now();
    let executions = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&executions);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    // Printed first, so that a failure has a name.
    print!("{name:<50} ");
    model.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        check();
    });
    let (n, ms) =
        (executions.load(Ordering::Relaxed), Clock::System.now().since(begun).as_millis());
    println!("{n:>8} executions, at most {preemptions} preemptions, {ms:>6} ms");
}

/// A protocol that is known to be broken: two threads, each of which announces itself and looks for the other, and
/// no fence. A checker that does not see both of them miss each other sees nothing.
fn canary() {
    // Its panic is wanted: nobody needs to read it. The checker adds a hook of its own on top, which must stay.
    static QUIET: AtomicBool = AtomicBool::new(true);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !QUIET.load(Ordering::Relaxed) {
            hook(info);
        }
    }));
    let caught = std::panic::catch_unwind(|| loom::model(missed_each_other));
    QUIET.store(false, Ordering::Relaxed);
    assert!(caught.is_err(), "the canary was not caught: the checks below prove nothing");
    println!("canary: caught");
}

fn missed_each_other() {
    use loom::sync::atomic::{AtomicBool, Ordering};
    let here = loom::sync::Arc::new((AtomicBool::new(false), AtomicBool::new(false)));
    let other = here.clone();
    let thread = loom::thread::spawn(move || {
        other.0.store(true, Ordering::Release);
        other.1.load(Ordering::Acquire)
    });
    here.1.store(true, Ordering::Release);
    let seen = here.0.load(Ordering::Acquire);
    assert!(thread.join().expect("it does not panic") || seen);
}
