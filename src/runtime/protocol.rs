//! What the supervisor's core takes and gives: plans and limits at first, then events in and actions out.

use std::time::Duration;

use super::actor::{ActorId, EdgeId};
use super::child::Restart;
use super::events::Line;
use super::exit::{ExitReason, StopReason};
use super::group::GroupId;
use super::health::ActorState;
use super::restart::Intensity;

/// What the core knows of one child.
#[derive(Clone, Debug)]
pub(super) struct ChildPlan {
    pub(super) name: String,
    pub(super) restart: Restart,
    pub(super) group: GroupId,
    pub(super) significant: bool,
    pub(super) depends_on: Vec<ActorId>,
    pub(super) phase: u8,
    pub(super) drain_timeout: Duration,
    pub(super) essential: bool,
    pub(super) must_drain: bool,
    pub(super) emergency: bool,
}

/// What the core knows of one edge.
#[derive(Clone, Debug)]
pub(super) struct EdgePlan {
    pub(super) from: Vec<ActorId>,
    pub(super) to: ActorId,
}

/// Every limit of supervision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Group restarts tolerated of the whole system.
    pub(super) root_intensity: Intensity,
    pub(super) consecutive_max: u32,
    pub(super) start_timeout: Duration,
    /// How long a first start may be tried again.
    pub(super) start_deadline: Duration,
    pub(super) hard_limit: Duration,
    pub(super) stop_grace: Duration,
    pub(super) wedge_grace: Duration,
    pub(super) emergency_limit: Duration,
}

/// What happened.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Start the children.
    Begin,
    /// An actor takes turns.
    Ready { actor: ActorId, generation: u32 },
    /// A life ended; nothing of it is left on its thread.
    Exited { actor: ActorId, generation: u32, reason: ExitReason },
    /// Time passed.
    Tick,
    /// The supervisor was itself not running for this long.
    Suspended(Duration),
    /// Somebody wants the system to stop.
    Drain(StopReason),
    /// An actor makes no progress.
    Stalled { actor: ActorId, generation: u32 },
    /// It does again.
    Recovered { actor: ActorId, generation: u32 },
    /// It makes no progress for so long that it must be assumed never to come back; how it looks.
    Wedged { actor: ActorId, generation: u32, how: String },
    /// The emergency routine returned.
    EmergencyDone,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Start {
        actor: ActorId,
        generation: u32,
    },
    /// End this life between two turns; another will follow.
    Terminate {
        actor: ActorId,
        generation: u32,
    },
    BeginDrain(ActorId),
    SendPill(EdgeId),
    /// The consumer is gone for good.
    Close(EdgeId),
    /// The drain deadline of this actor passed: stop it where it stands.
    StopNow(ActorId),
    Interrupt(ActorId),
    Fence(String),
    Unfence,
    /// Run the emergency routine on a helper thread.
    Emergency,
    /// End the process with `code` after `limit`, whatever becomes of the supervisor.
    ArmReaper {
        limit: Duration,
        code: i32,
    },
    /// Publish how often the child failed in a row.
    Failures(ActorId, u32),
    /// Publish where the child stands.
    Mark(ActorId, ActorState),
    Say(Line),
    /// The end: the exit code.
    Exit(i32),
}
