//! No allocation per message on the hot path after warm-up: a counting allocator watches the turns of the hot actors.
//!
//! Method: the whole engine trades at the venue on one thread, in memory. A probe around the feed reader, the book
//! builder, the strategy and the order sender counts allocations during their turns; the venue and the cold actors may
//! allocate as they like. After a warm-up the count must not move, however many messages pass.

#![allow(clippy::print_stdout, reason = "a test of its own says what it found")]

// The simulated world is the one of the simulation test; this file uses a part of it.
#[path = "it/world.rs"]
#[expect(dead_code, reason = "a part of the world is enough here")]
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use pindrop::runtime::actor::{Actor, Cx, Fault, Stop, Waits, Work};

/// Set after the warm-up when `PINDROP_TRACE` is in the environment: every allocation tells where it comes from.
static TRACE: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The hot actor whose turn it is, by its place in `HOT`; one past the end for nobody.
    static TURN_OF: Cell<usize> = const { Cell::new(HOT.len()) };
    /// Allocations in the turns of each.
    static COUNTS: [Cell<u64>; HOT.len()] = const { [const { Cell::new(0) }; HOT.len()] };
}

const HOT: [&str; 4] = ["feed-binance", "book-binance", "strategy-quotes", "orders-binance"];

/// The venue pings each connection every 20 s, and a pong is allocated: that is per connection, not per message.
const CONTROL_FRAMES_MAX: u64 = 4;

struct Counting;

// Each call is passed on to the system's allocator with the arguments unchanged; counting touches only plain
// thread-local cells that need no allocation and no destructor.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn note() {
    let whose = TURN_OF.try_with(Cell::get).unwrap_or(HOT.len());
    if whose < HOT.len() {
        let _ = COUNTS.try_with(|counts| counts[whose].set(counts[whose].get() + 1));
        if TRACE.load(Ordering::Relaxed) {
            // The trace allocates, too: nobody is watched meanwhile.
            TURN_OF.set(HOT.len());
            println!("{} allocates: {}", HOT[whose], std::backtrace::Backtrace::force_capture());
            TURN_OF.set(whose);
        }
    }
}

/// An actor whose turns are watched.
struct Probe {
    whose: usize,
    inner: Box<dyn Actor>,
}

impl Actor for Probe {
    fn on_start(&mut self, cx: &mut Cx) -> Result<(), Fault> {
        self.inner.on_start(cx)
    }

    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        TURN_OF.set(self.whose);
        let work = self.inner.turn(cx);
        TURN_OF.set(HOT.len());
        work
    }

    fn on_drain(&mut self, cx: &mut Cx) -> Result<(), Fault> {
        self.inner.on_drain(cx)
    }

    fn drained(&self) -> bool {
        self.inner.drained()
    }

    fn waits(&self, waits: &mut Waits) {
        self.inner.waits(waits);
    }

    fn on_stop(&mut self, cx: &mut Cx, stop: Stop) {
        self.inner.on_stop(cx, stop);
    }
}

fn counts() -> [u64; HOT.len()] {
    COUNTS.with(|counts| std::array::from_fn(|i| counts[i].get()))
}

fn main() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let wrap: pindrop::runtime::system::Wrap =
        Arc::new(|name, inner| match HOT.iter().position(|h| *h == name) {
            Some(whose) => Box::new(Probe { whose, inner }),
            None => inner,
        });
    let mut sim = world::simulate(3, dir.path(), &[], &["demo.updates_per_s=500"], Some(wrap));
    sim.stepper.run_for(Duration::from_secs(20));
    let (before, sent) = (counts(), sim.sent());
    TRACE.store(std::env::var_os("PINDROP_TRACE").is_some(), Ordering::Relaxed);
    sim.stepper.run_for(Duration::from_secs(20));
    let (after, sent) = (counts(), sim.sent() - sent);
    assert_eq!(sim.stepper.exit_code(), None);
    assert!(sent > 100, "only {sent} orders were sent: the hot path was not walked");
    for (i, name) in HOT.iter().enumerate() {
        println!(
            "{name}: {} allocations in 20 s of trading, {} before",
            after[i] - before[i],
            before[i]
        );
    }
    let most = (0..HOT.len()).map(|i| after[i] - before[i]).max();
    assert!(most <= Some(CONTROL_FRAMES_MAX), "the hot path allocates: {HOT:?}");
    println!("test result: ok. 1 passed; 0 failed");
}
