//! What every actor shows of itself: single-writer atomics that the supervisor and the ops page read.
//!
//! The runner writes a cell at most a few times per turn, with relaxed stores and no clock of its own; the
//! supervisor times the *absence of change*. Cold facts (why the last life ended) stand behind a lock that no
//! hot actor takes.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::clock::MonoNs;

use super::actor::EdgeId;

/// What an actor is doing, as it declares it; the supervisor judges each kind by its own deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// In a turn, or between two.
    Work = 0,
    /// Parked by its idle strategy, until the phase deadline at the latest.
    Parked = 1,
    /// In a declared blocking section with its own deadline.
    Blocking = 2,
    /// In `on_start`.
    Init = 3,
}

/// Where a child stands in its life cycle, as the supervisor sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ActorState {
    /// Declared, not started yet.
    Declared = 0,
    /// Starting: its thread runs `on_start`.
    Starting = 1,
    /// Taking turns.
    Running = 2,
    /// Waiting for a scheduled restart.
    Backoff = 3,
    /// Draining.
    Draining = 4,
    /// Ended for good.
    Exited = 5,
    /// Makes no progress and cannot be killed.
    Wedged = 6,
}

impl ActorState {
    /// The word used in status, metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Declared => "declared",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Backoff => "backoff",
            Self::Draining => "draining",
            Self::Exited => "exited",
            Self::Wedged => "wedged",
        }
    }

    fn from_u8(value: u8) -> Self {
        match value {
            0 => Self::Declared,
            1 => Self::Starting,
            2 => Self::Running,
            3 => Self::Backoff,
            4 => Self::Draining,
            6 => Self::Wedged,
            _ => Self::Exited,
        }
    }
}

/// A turn longer than this is counted: whatever else the actor does has waited for it.
pub const TURN_LONG: Duration = Duration::from_millis(100);

// 100 ms fit by far; a conversion that cannot fail at run time.
const TURN_LONG_NS: u64 = TURN_LONG.as_nanos() as u64;

/// The counters of the actor's own thread.
#[derive(Debug, Default)]
struct Hot {
    beat: AtomicU64,
    busy_turns: AtomicU64,
    turn_max_ns: AtomicU64,
    long_turns: AtomicU64,
    phase: AtomicU8,
    phase_deadline_ns: AtomicU64,
    breadcrumb_edge: AtomicU32,
    breadcrumb_seq: AtomicU64,
}

/// Interrupt handles kept per generation.
const INTERRUPTS_MAX: usize = 16;

type Interrupt = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Cold {
    op: &'static str,
    last_exit: Option<String>,
    interrupts: Vec<Interrupt>,
}

/// One actor's health.
pub struct Cell {
    name: String,
    hot: CachePadded<Hot>,
    state: AtomicU8,
    generation: AtomicU32,
    restarts: AtomicU32,
    consecutive: AtomicU32,
    /// When this generation became ready; zero while none is.
    ready_ns: AtomicU64,
    stalls: AtomicU32,
    /// Zero while there is progress.
    stall_age_ns: AtomicU64,
    interrupted: AtomicU32,
    tid: AtomicI32,
    core: AtomicI32,
    pinned: AtomicBool,
    cold: Mutex<Cold>,
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cell").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Cell {
    /// The cell of the actor called `name`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            hot: CachePadded::default(),
            state: AtomicU8::new(ActorState::Declared as u8),
            generation: AtomicU32::new(0),
            restarts: AtomicU32::new(0),
            consecutive: AtomicU32::new(0),
            ready_ns: AtomicU64::new(0),
            stalls: AtomicU32::new(0),
            stall_age_ns: AtomicU64::new(0),
            interrupted: AtomicU32::new(0),
            tid: AtomicI32::new(0),
            core: AtomicI32::new(-1),
            pinned: AtomicBool::new(false),
            cold: Mutex::default(),
        }
    }

    /// The actor's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Turns taken by all generations together; the runner's heartbeat.
    pub fn beat(&self) -> u64 {
        self.hot.beat.load(Ordering::Relaxed)
    }

    /// Turns in which there was work.
    pub fn busy_turns(&self) -> u64 {
        self.hot.busy_turns.load(Ordering::Relaxed)
    }

    /// The longest turn measured, in nanoseconds.
    pub fn turn_max_ns(&self) -> u64 {
        self.hot.turn_max_ns.load(Ordering::Relaxed)
    }

    /// Counts a turn; called by the actor's own thread only.
    pub(super) fn count_turn(&self, busy: bool) {
        let beat = self.hot.beat.load(Ordering::Relaxed);
        self.hot.beat.store(beat + 1, Ordering::Relaxed);
        if busy {
            let turns = self.hot.busy_turns.load(Ordering::Relaxed);
            self.hot.busy_turns.store(turns + 1, Ordering::Relaxed);
        }
    }

    /// Notes how long a turn took; called by the actor's own thread only.
    pub(super) fn measure_turn(&self, ns: u64) {
        if ns > self.hot.turn_max_ns.load(Ordering::Relaxed) {
            self.hot.turn_max_ns.store(ns, Ordering::Relaxed);
        }
        if ns > TURN_LONG_NS {
            let turns = self.hot.long_turns.load(Ordering::Relaxed);
            self.hot.long_turns.store(turns + 1, Ordering::Relaxed);
        }
    }

    /// Measured turns that took longer than [`TURN_LONG`].
    pub fn long_turns(&self) -> u64 {
        self.hot.long_turns.load(Ordering::Relaxed)
    }

    /// Declares what the actor does from here on and until when it may.
    pub(super) fn enter(&self, phase: Phase, op: &'static str, deadline: MonoNs) {
        self.hot.phase_deadline_ns.store(deadline.as_nanos(), Ordering::Relaxed);
        self.hot.phase.store(phase as u8, Ordering::Release);
        if phase == Phase::Blocking || !op.is_empty() {
            self.cold().op = op;
        }
    }

    /// What the actor says it is doing, and until when it may.
    pub fn phase(&self) -> (Phase, MonoNs) {
        let phase = match self.hot.phase.load(Ordering::Acquire) {
            1 => Phase::Parked,
            2 => Phase::Blocking,
            3 => Phase::Init,
            _ => Phase::Work,
        };
        (phase, MonoNs::from_nanos(self.hot.phase_deadline_ns.load(Ordering::Relaxed)))
    }

    /// The name of the blocking section entered last.
    pub fn op(&self) -> &'static str {
        self.cold().op
    }

    /// Leaves the number of the message in hand where a crash report finds it.
    pub(super) fn breadcrumb(&self, edge: EdgeId, seq: u64) {
        self.hot.breadcrumb_edge.store(u32::from(edge.0) + 1, Ordering::Relaxed);
        self.hot.breadcrumb_seq.store(seq, Ordering::Relaxed);
    }

    /// The edge and number of the message taken last, if one ever was.
    pub fn last_message(&self) -> Option<(EdgeId, u64)> {
        let edge = self.hot.breadcrumb_edge.load(Ordering::Relaxed).checked_sub(1)?;
        let seq = self.hot.breadcrumb_seq.load(Ordering::Relaxed);
        Some((EdgeId(u16::try_from(edge).ok()?), seq))
    }

    /// Where the supervisor sees this child.
    pub fn state(&self) -> ActorState {
        ActorState::from_u8(self.state.load(Ordering::Acquire))
    }

    /// Whether the actor takes turns, so that what is sent to it is handled soon.
    pub fn is_up(&self) -> bool {
        matches!(self.state(), ActorState::Running | ActorState::Draining)
    }

    pub(super) fn set_state(&self, state: ActorState) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// The current generation; 0 before the first start.
    pub fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    pub(super) fn set_generation(&self, generation: u32) {
        self.generation.store(generation, Ordering::Release);
    }

    /// How often the actor was restarted.
    pub fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }

    pub(super) fn count_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// Failures in a row as of the last one, each within a minute of its start.
    pub fn consecutive(&self) -> u32 {
        self.consecutive.load(Ordering::Relaxed)
    }

    pub(super) fn set_consecutive(&self, failures: u32) {
        self.consecutive.store(failures, Ordering::Relaxed);
    }

    /// When the present generation became ready; `None` while none is.
    pub fn ready_since(&self) -> Option<MonoNs> {
        let ns = self.ready_ns.load(Ordering::Relaxed);
        (ns > 0).then(|| MonoNs::from_nanos(ns))
    }

    pub(super) fn set_ready_since(&self, since: Option<MonoNs>) {
        self.ready_ns.store(since.map_or(0, |s| s.as_nanos().max(1)), Ordering::Relaxed);
    }

    /// How often the actor was found without progress.
    pub fn stalls(&self) -> u32 {
        self.stalls.load(Ordering::Relaxed)
    }

    /// How long the actor has made no progress, as far as that was reported; zero while it does.
    pub fn stall_age(&self) -> Duration {
        Duration::from_nanos(self.stall_age_ns.load(Ordering::Relaxed))
    }

    /// A stall was reported at this age; zero ends it.
    pub(super) fn set_stall_age(&self, age: Duration) {
        let ns = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        if self.stall_age_ns.swap(ns, Ordering::Relaxed) == 0 && ns > 0 {
            self.stalls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the supervisor has used the actor's interrupt handles.
    pub fn interrupted(&self) -> u32 {
        self.interrupted.load(Ordering::Relaxed)
    }

    /// The kernel's id of the thread that runs the actor; 0 before the first start.
    pub fn tid(&self) -> i32 {
        self.tid.load(Ordering::Relaxed)
    }

    /// The core the actor's thread is pinned to, read back from the kernel; `None` when it floats.
    pub fn core(&self) -> Option<u32> {
        if !self.pinned.load(Ordering::Relaxed) {
            return None;
        }
        u32::try_from(self.core.load(Ordering::Relaxed)).ok()
    }

    pub(super) fn set_thread(&self, tid: i32, core: Option<u32>) {
        self.tid.store(tid, Ordering::Relaxed);
        self.core.store(core.and_then(|c| i32::try_from(c).ok()).unwrap_or(-1), Ordering::Relaxed);
        self.pinned.store(core.is_some(), Ordering::Relaxed);
    }

    /// How the previous generation ended.
    pub fn last_exit(&self) -> Option<String> {
        self.cold().last_exit.clone()
    }

    pub(super) fn set_last_exit(&self, reason: String) {
        self.cold().last_exit = Some(reason);
    }

    pub(super) fn add_interrupt(&self, interrupt: Interrupt) {
        let mut cold = self.cold();
        // An actor that reconnects registers again and again; its oldest streams are gone.
        if cold.interrupts.len() == INTERRUPTS_MAX {
            drop(cold.interrupts.remove(0));
        }
        cold.interrupts.push(interrupt);
    }

    /// Frees the generation from its blocking calls; the number of handles used.
    pub(super) fn interrupt(&self) -> usize {
        self.interrupted.fetch_add(1, Ordering::Relaxed);
        let interrupts = std::mem::take(&mut self.cold().interrupts);
        for interrupt in &interrupts {
            interrupt();
        }
        interrupts.len()
    }

    pub(super) fn clear_interrupts(&self) {
        self.cold().interrupts.clear();
    }

    fn cold(&self) -> std::sync::MutexGuard<'_, Cold> {
        // A panic while holding this lock cannot leave it half-written: every write is one assignment.
        self.cold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All cells, by actor id.
pub type HealthTable = Arc<[Arc<Cell>]>;
