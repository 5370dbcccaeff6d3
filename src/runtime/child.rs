//! What the supervisor must know of a child before it lives, in the words of Erlang's child specs.
//!
//! In goes what the wiring table says of one actor; out comes a [`ChildSpec`], or with its neighbours a list of
//! every [`SpecError`] at once. Nothing here starts anything.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::actor::{Actor, ActorId, Cx, Fault};
use super::group::GroupId;
use super::idle::IdleStrategy;

/// Core ids at and above this are beyond the kernel's fixed CPU mask: pinning to one aborts the process.
pub const CORE_ID_LIMIT: u32 = 1024;

/// Builds one life of an actor. Called on the actor's own thread, once per generation, so that what it builds
/// need not be able to move between threads.
pub type Start = Arc<dyn Fn(&mut Cx) -> Result<Box<dyn Actor>, Fault> + Send + Sync>;

/// Whether an actor that ended lives again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// Always.
    Permanent,
    /// Only after a panic or a fault.
    Transient,
    /// Never.
    Temporary,
}

/// The thread an actor runs on.
#[derive(Clone, Debug, Default)]
pub struct ThreadSpec {
    /// The name of a host shared with other actors; `None` for a thread of its own.
    pub host: Option<String>,
    /// The core to pin to. On a shared host at most one core may be named.
    pub core: Option<u32>,
    /// What the thread does when there is nothing to do. A shared host takes the least restful of its seats.
    pub idle: IdleStrategy,
}

/// The declaration of one child.
#[derive(Clone)]
pub struct ChildSpec {
    /// Builds each generation.
    pub start: Start,
    /// Whether it lives again after it ended.
    pub restart: Restart,
    /// The group it is restarted with, and to which its crashes are charged.
    pub group: GroupId,
    /// Whether its end by itself counts for its group's [`AutoShutdown`](super::group::AutoShutdown); never for a
    /// permanent child, which has no such end.
    pub significant: bool,
    /// Started for the first time, and together with its group, only once these are up; restarted alone without
    /// waiting for them.
    pub depends_on: Vec<ActorId>,
    /// The drain phase: lower phases drain first, the actors of one phase drain at the same time. A mailbox gives
    /// its pill only if all its producers drain in lower phases than its consumer; otherwise the consumer ends
    /// when it is idle and says that it is drained.
    pub phase: u8,
    /// How long its drain may take before it is stopped where it stands.
    pub drain_timeout: Duration,
    /// No progress for this long is reported, and fences trading if the actor is essential.
    pub stall_warn: Duration,
    /// No progress for this long is a wedge: interrupted, then the process ends with 75.
    pub stall_fail: Duration,
    /// Its thread.
    pub thread: ThreadSpec,
    /// Whether trading is fenced while it makes no progress.
    pub essential: bool,
    /// Whether the process must end with 76 rather than 0 unless it drained in full once it was ever ready: the
    /// order sender and the journal.
    pub must_drain: bool,
    /// Whether the emergency routine runs when a drain finds that it is gone, or cannot make it end: it leaves
    /// something open outside that nobody else would close.
    pub emergency: bool,
}

impl ChildSpec {
    /// A permanent child in drain phase 0 on a parking thread of its own, with 2 s to drain, reported after
    /// 500 ms and wedged after 2 s without progress.
    pub fn new(
        start: impl Fn(&mut Cx) -> Result<Box<dyn Actor>, Fault> + Send + Sync + 'static,
    ) -> Self {
        Self {
            start: Arc::new(start),
            restart: Restart::Permanent,
            group: GroupId::MAIN,
            significant: false,
            depends_on: Vec::new(),
            phase: 0,
            drain_timeout: Duration::from_secs(2),
            stall_warn: Duration::from_millis(500),
            stall_fail: Duration::from_secs(2),
            thread: ThreadSpec::default(),
            essential: false,
            must_drain: false,
            emergency: false,
        }
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("restart", &self.restart)
            .field("depends_on", &self.depends_on)
            .field("phase", &self.phase)
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}

/// What is wrong with a system's declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpecError {
    /// Two actors have the same name.
    DuplicateActor(String),
    /// An actor has no name, or one with blanks or control characters.
    BadName(String),
    /// An actor was named but never given a child spec.
    NoChild(String),
    /// An actor was given two child specs.
    TwoChildren(String),
    /// An actor depends on one that does not exist.
    UnknownDependency(String),
    /// An actor belongs to a group that was not declared.
    UnknownGroup(String),
    /// Two groups have the same name.
    DuplicateGroup(String),
    /// A permanent actor, or one of a group without automatic shutdown, cannot be significant.
    Significant(String),
    /// A restart intensity over a period of zero; the name of the group.
    ZeroPeriod(String),
    /// A limit of the system that must be above zero.
    ZeroLimit(&'static str),
    /// These actors wait for each other.
    Cycle(Vec<String>),
    /// The core cannot be had, and why.
    Core {
        /// The actor that asks for it.
        actor: String,
        /// The core asked for.
        core: u32,
        /// Why it cannot be had.
        why: &'static str,
    },
    /// The seats of one host ask for different cores.
    CoresOfHost(String),
    /// Two threads would spin on one core; each would starve the other a thousandfold.
    TwoSpinners {
        /// The core.
        core: u32,
        /// The two hosts.
        hosts: [String; 2],
    },
    /// Two edges have the same name.
    DuplicateEdge(String),
    /// A mailbox for no message.
    ZeroCapacity(String),
    /// An edge begins or ends at an actor that does not exist.
    EdgeEnd(String),
    /// A deadline of zero, or stall limits in the wrong order.
    Deadline(String),
    /// The drain phases together may take longer than the hard limit.
    DrainTooLong {
        /// What the phases may take together.
        phases: Duration,
        /// The limit.
        limit: Duration,
    },
    /// The system refused something (a descriptor, usually).
    System(String),
}

impl SpecError {
    /// Whether the system refused something, rather than the declaration being wrong.
    pub fn is_of_system(&self) -> bool {
        matches!(self, Self::System(_))
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateActor(name) => write!(f, "two actors are called {name}"),
            Self::BadName(name) => write!(f, "{name:?} is no name for an actor"),
            Self::NoChild(name) => write!(f, "actor {name} has no child spec"),
            Self::TwoChildren(name) => write!(f, "actor {name} has two child specs"),
            Self::UnknownDependency(name) => {
                write!(f, "actor {name} depends on an actor that does not exist")
            }
            Self::UnknownGroup(name) => write!(f, "actor {name} is in a group that does not exist"),
            Self::DuplicateGroup(name) => write!(f, "two groups are called {name}"),
            Self::Significant(name) => write!(
                f,
                "actor {name} is significant: it must not be permanent, and its group needs automatic shutdown"
            ),
            Self::ZeroLimit(name) => write!(f, "{name} must be above zero"),
            Self::ZeroPeriod(name) => write!(f, "group {name}: the period must be above zero"),
            Self::Cycle(names) => {
                write!(f, "these actors wait for each other: {}", names.join(", "))
            }
            Self::Core { actor, core, why } => write!(f, "actor {actor}: core {core} {why}"),
            Self::CoresOfHost(host) => write!(f, "the actors of host {host} name different cores"),
            Self::TwoSpinners { core, hosts: [a, b] } => {
                write!(f, "{a} and {b} would both spin on core {core}")
            }
            Self::DuplicateEdge(name) => write!(f, "two edges are called {name}"),
            Self::ZeroCapacity(name) => write!(f, "edge {name} has no capacity"),
            Self::EdgeEnd(name) => write!(f, "edge {name} ends at an actor that does not exist"),
            Self::Deadline(name) => {
                write!(f, "actor {name}: deadlines must be above zero, stall_warn below stall_fail")
            }
            Self::DrainTooLong { phases, limit } => {
                write!(f, "the drain phases may take {phases:?} together; the limit is {limit:?}")
            }
            Self::System(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for SpecError {}
