//! How actors run. Knows nothing of trading and imports only the clock; could leave as a crate.
//!
//! Name actors, wire edges and give child specs to a [`system::SystemBuilder`]; run what it builds with
//! [`system::System::run`] on real threads, or step it with [`system::System::stepper`] under a virtual clock.

// The trait that roles implement, and what the runner lends them.
pub mod actor;
// Bounded, counted mailboxes, and conflated slots.
mod latest;
pub mod mailbox;
// The newest state of an actor, for whoever looks.
pub mod view;
// A value that a person may change while the engine runs.
pub mod setting;
// What every actor shows of itself.
pub mod health;
// Ending a sleep from another thread.
pub mod wake;

// The declaration of a child, and of a group of them.
pub mod child;
pub mod group;
// What a thread does when there is nothing to do.
pub mod idle;
// The declaration of a system, and the checks of it.
pub mod system;
mod validate;
// Which thread runs on which core.
pub mod placement;
// How a run ended.
pub mod report;

// The pure core: lives and ends, restarts of one or several, drains, the wedge ladder.
mod drain;
pub mod exit;
mod exits;
mod ladder;
mod protocol;
pub mod restart;
mod rounds;
mod supervisor;
// The shell around it.
mod driver;
pub mod events;
mod lookout;
mod rescue;
mod run;
mod stall;
pub mod stepper;
pub mod tally;

// One actor's lives, and the threads that take its turns.
mod host;
mod seat;
pub mod thread;

// What comes from outside, and what must work when nothing else does.
pub mod fault;
pub mod panic;
pub mod reaper;
pub mod signal;
