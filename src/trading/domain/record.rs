//! What is written to the journal: everything that is needed to say later what was done and why.

use crate::clock::{MonoNs, UtcNs};

use super::decimal::{Notional, SignedQty};
use super::instrument::InstrumentId;
use super::market::{TopOfBook, Trade};
use super::order::{ClientOrderId, NewOrder, OrderRef};
use super::report::ExecutionReport;

/// One message to the journal writer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry {
    /// For order and report records the number that [`Written`](super::Written) counts, from 1; 0 for market records.
    pub seq: u64,
    /// When it happened.
    pub at: MonoNs,
    /// The time of day then.
    pub utc: UtcNs,
    /// What happened.
    pub record: Record,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Record {
    /// A new order is about to be sent.
    Order {
        /// The strategy's name for it.
        order: OrderRef,
        /// Our key at the venue.
        client_order_id: ClientOrderId,
        /// The order.
        new: NewOrder,
    },
    /// A cancel is about to be sent.
    Cancel {
        /// What it is an order in.
        instrument: InstrumentId,
        /// The order.
        order: OrderRef,
        /// Our key at the venue.
        client_order_id: ClientOrderId,
    },
    /// A report, before anybody acts on it.
    Report(ExecutionReport),
    /// The position after a fill: what a later process needs to go on.
    Position {
        /// Which instrument.
        instrument: InstrumentId,
        /// Net quantity.
        qty: SignedQty,
        /// What the open part cost, in notional units, negative when short.
        cost: Notional,
        /// Realized profit, fees included, in notional units.
        realized_pnl: Notional,
        /// Fees paid, in notional units.
        fees: Notional,
        /// The newest trade counted in.
        last_trade_id: u64,
    },
    /// The touch, sampled.
    Top(TopOfBook),
    /// A trade in the market.
    Trade(Trade),
    /// The kill switch was tripped or released, or trading was fenced.
    Trading {
        /// Whether new orders are sent from here on.
        enabled: bool,
    },
}
