//! The nouns every stage speaks. Plain data: no I/O, no clock, no floating point.
#![deny(clippy::float_arithmetic)]

// Scaled integers and their decimal text.
pub mod decimal;
// What is traded, and the rules the venue sets for it.
pub mod instrument;
// What the market does.
pub mod market;
// What we want, and what we send.
pub mod order;
// What is written to the journal.
pub mod record;
// What the venue says about our orders.
pub mod report;
// How far the journal is written.
pub mod written;

pub use decimal::{Notional, Price, Qty, SignedQty};
pub use instrument::{Instrument, InstrumentId, Instruments, Rules, VenueId};
pub use market::{
    BookState, BookTicker, DepthChunk, DepthKind, Level, MarketUpdate, ResetReason,
    SnapshotRequest, Stamps, TopOfBook, Trade,
};
pub use order::{
    CancelOrder, ClientOrderId, IntentBody, NewOrder, OrderIntent, OrderKind, OrderRef, Side,
    TimeInForce,
};
pub use record::{Entry, Record};
pub use report::{Commission, ExecType, ExecutionReport, OrderStatus, Reason};
pub use written::Written;
