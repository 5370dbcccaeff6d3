//! Groups: actors that are restarted together, and the budget that they share.
//!
//! Words and rules are those of Erlang's `supervisor`: a strategy, a restart intensity, significant children. A group
//! is one level of the escalation: an actor's crashes are charged to its group, a group that has spent its budget is
//! restarted as a whole and charged to the root, and a root that has spent its own drains the system.

use super::restart::Intensity;

/// A group's number: its index in the system's table of groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u16);

impl GroupId {
    /// The group of every actor that names no other.
    pub const MAIN: Self = Self(0);

    /// The index into tables of groups.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Who is restarted when an actor of the group crashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The crashed actor alone; the others feel it as a message, or as silence.
    #[default]
    OneForOne,
    /// The crashed actor and those of its group that depend on it, through others as well.
    RestForOne,
    /// The whole group.
    OneForAll,
}

/// What it means for the system that significant actors of the group have ended by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoShutdown {
    /// Nothing: the group may have no significant actors.
    #[default]
    Never,
    /// The system drains when the first of them has ended.
    AnySignificant,
    /// The system drains when all of them have ended.
    AllSignificant,
}

/// The declaration of a group.
#[derive(Clone, Debug)]
pub struct GroupSpec {
    /// Its name, in logs.
    pub name: String,
    /// Who is restarted with a crashed actor.
    pub strategy: Strategy,
    /// Restarts tolerated of all its actors together; one more restarts the group.
    pub intensity: Intensity,
    /// What the end of its significant actors means.
    pub auto_shutdown: AutoShutdown,
}

impl GroupSpec {
    /// A one-for-one group with the default intensity.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            strategy: Strategy::default(),
            intensity: Intensity::default(),
            auto_shutdown: AutoShutdown::default(),
        }
    }
}
