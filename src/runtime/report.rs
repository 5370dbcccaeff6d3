//! How a run ended, for the final report and the exit code.

use std::time::Duration;

use super::mailbox::EdgeCounts;
use super::reaper::Reaper;

/// One drain phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhaseOutcome {
    /// Its name.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// Whether its deadline passed.
    pub late: bool,
}

/// One actor's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorOutcome {
    /// Its name.
    pub name: String,
    /// Its last generation; 0 if it never lived.
    pub generation: u32,
    /// How often it was restarted.
    pub restarts: u32,
    /// How its last life ended: `drained`, `deadline`, `done`, `restarting`, `fault`, `panic`, `start_failed`, `none`
    /// if it never lived or still does.
    pub exit: &'static str,
    /// The same in words.
    pub detail: String,
}

/// The end of a system.
#[derive(Debug)]
pub struct Outcome {
    /// What the process should exit with.
    pub exit_code: i32,
    /// Why it ended.
    pub reason: String,
    /// From the start of the supervisor to its end.
    pub uptime: Duration,
    /// From the beginning of the drain to its end; zero without a drain.
    pub drain: Duration,
    /// The drain phases, in order.
    pub phases: Vec<PhaseOutcome>,
    /// All actors, by actor id.
    pub actors: Vec<ActorOutcome>,
    /// All edges by edge id: the name and the books.
    pub edges: Vec<(String, EdgeCounts)>,
    /// Reports of dead generations that came late and were ignored.
    pub stale_events: u64,
    /// Still armed if a drain began: keep the outcome until the process exits, so that writing the report cannot
    /// hang it. `None` in the stepper.
    pub reaper: Option<Reaper>,
}
