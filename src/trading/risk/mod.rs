//! The gate between what a strategy wants and what is sent.
#![deny(clippy::float_arithmetic)]

// Position, cost and profit of one instrument, from its fills.
pub mod exposure;
// The checks, in order; sole constructor of `Approved`.
pub mod gate;
// What stops all new orders at once.
pub mod kill_switch;
// The limits as typed, and as meant for one instrument.
pub mod limits;
// How many orders per second.
pub mod throttle;

pub use exposure::{Exposure, Fill};
pub use gate::{Approved, Gate, Situation};
pub use kill_switch::{KillSwitch, TradingState};
pub use limits::{Limits, LimitsConfig};
pub use throttle::Throttle;
