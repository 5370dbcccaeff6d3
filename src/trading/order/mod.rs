//! From order intents to bytes, and from bytes to execution reports.
//!
//! ```text
//! OrderIntent --> risk::gate --> client order id --> journal --> (written?) --> venue
//! venue --> lifecycle --> position, table --> journal --> (written?) --> ExecutionReport
//! ```
#![deny(clippy::float_arithmetic)]

// The actor: one turn, intents, sending.
pub mod sender;
// What the sender is told and joined to.
pub mod settings;
// The connection: states, requests.
mod session;
// What the venue says, turned into events.
mod answers;
// Comparing our orders and fills with the venue's.
mod reconcile;
// What follows when the sender itself did not run.
mod suspension;
// What is due by time: overdue answers, cancels, the drain.
mod upkeep;
// Orders and positions, and how each fact is told on.
mod ledger;
// What waits for the journal.
mod hold;
// The life of one order: every state x event pair.
pub mod lifecycle;
// The table of orders, by every key.
pub mod open_orders;
// Which trades were counted.
mod trades;
// Client order ids: engine, boot, generation, counter.
pub mod ids;
// What outlives one generation.
pub mod vault;
// How long orders take.
mod latency;
// What the ops page sees.
mod view;
// Cancelling everything without the actor.
pub mod emergency;

pub use emergency::{Cancelled, cancel_everything};
pub use sender::OrderSender;
pub use settings::{Durability, OnExit, OrderPorts, OrderSettings, StrategyPort};
pub use vault::{Kept, Vault};
