//! The files of `src/runtime` that hold a protocol between threads, and what these name.

#[path = "../../../src/runtime/actor.rs"]
pub(crate) mod actor;
#[path = "../../../src/runtime/child.rs"]
mod child;
#[path = "../../../src/runtime/events.rs"]
mod events;
#[path = "../../../src/runtime/exit.rs"]
mod exit;
#[path = "../../../src/runtime/group.rs"]
mod group;
#[path = "../../../src/runtime/health.rs"]
mod health;
#[path = "../../../src/runtime/idle.rs"]
mod idle;
#[path = "../../../src/runtime/latest.rs"]
mod latest;
#[path = "../../../src/runtime/mailbox.rs"]
mod mailbox;
#[path = "../../../src/runtime/panic.rs"]
mod panic;
#[path = "../../../src/runtime/protocol.rs"]
mod protocol;
#[path = "../../../src/runtime/restart.rs"]
mod restart;
#[path = "../../../src/runtime/seat.rs"]
mod seat;
#[path = "../../../src/runtime/setting.rs"]
pub(crate) mod setting;
#[path = "../../../src/runtime/view.rs"]
pub(crate) mod view;
#[path = "../../../src/runtime/wake.rs"]
mod wake;

// What must hold of them.
pub(crate) mod checks;
mod latest_checks;
mod mailbox_checks;
mod seat_checks;
