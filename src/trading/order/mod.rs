//! From order intents to bytes, and from bytes to execution reports.
//!
//! ```text
//! OrderIntent --> risk::gate --> client order id --> journal --> (written?) --> venue
//! venue --> lifecycle --> position, table --> journal --> (written?) --> ExecutionReport
//! ```

// Client order ids: engine, boot, generation, counter.
pub mod ids;
// The life of one order: every state x event pair.
pub mod lifecycle;
// The table of orders, by every key.
pub mod open_orders;
// What the sender is told and joined to.
pub mod settings;
// What outlives one generation.
pub mod vault;
