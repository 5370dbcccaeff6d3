//! From the top of the book and execution reports to order intents.
//!
//! A strategy implements [`Strategy`]: it is told what the market and its orders do, and answers through the
//! [`Desk`]: place, cancel, look at its position and its open orders. It owns no socket, no clock and no thread; it
//! never blocks and never waits for an answer, which arrives later as a report. The risk gate judges every order;
//! a refusal is a report with a [`Reason`](crate::trading::domain::Reason). When a strategy panics, its orders are
//! cancelled and a fresh one is built from the configuration.
//!
//! A complete one, which buys once when the spread is tight and sells when it has bought:
//!
//! ```
//! use pindrop::trading::domain::{
//!     BookState, ExecType, ExecutionReport, InstrumentId, NewOrder, OrderKind, Qty, Side, TimeInForce, TopOfBook,
//! };
//! use pindrop::trading::strategy::{Desk, Strategy};
//!
//! struct RoundTrip {
//!     instrument: InstrumentId,
//!     qty: Qty,
//!     asked: bool,
//! }
//!
//! impl Strategy for RoundTrip {
//!     fn on_book(&mut self, top: &TopOfBook, desk: &mut Desk<'_>) {
//!         // A book that is syncing, has a gap or is stale says nothing about the market.
//!         let (BookState::Live, Some(bid), Some(ask)) = (top.state, top.bid, top.ask) else { return };
//!         let Some(rules) = desk.instrument(self.instrument).and_then(|it| it.rules()) else { return };
//!         let tight = ask.price.units() - bid.price.units() <= 2 * rules.tick.units();
//!         if self.asked || !tight {
//!             return;
//!         }
//!         let side = if desk.position(self.instrument).units() > 0 { Side::Sell } else { Side::Buy };
//!         let price = if side == Side::Buy { ask.price } else { bid.price };
//!         let order = NewOrder {
//!             instrument: self.instrument,
//!             side,
//!             kind: OrderKind::Limit,
//!             tif: TimeInForce::Ioc,
//!             price,
//!             qty: rules.floor_qty(self.qty),
//!         };
//!         // Busy: the order sender has no room now. The next book asks again.
//!         self.asked = desk.place(order).is_ok();
//!     }
//!
//!     fn on_report(&mut self, report: &ExecutionReport, _desk: &mut Desk<'_>) {
//!         // Refused, filled, expired: whatever ended the order, the next book decides afresh.
//!         self.asked = !report.status.is_terminal();
//!         if report.exec == ExecType::Trade {
//!             // report.last_qty units were traded at report.last_price.
//!         }
//!     }
//! }
//! ```
//!
//! To make a new kind known to the configuration, add it to [`Parameters`]; to let its parameters change while it runs,
//! implement [`Strategy::revise`].

use std::fmt;

use crate::clock::MonoNs;
use crate::trading::domain::{ExecutionReport, Instrument, TopOfBook, Trade};

// What a strategy may do and see.
pub mod desk;
// Quotes both sides around the middle.
pub mod market_maker;
// The actor that hosts one strategy.
pub mod runner;

pub use desk::{Busy, Desk, OwnOrder};
pub use runner::{StrategyPorts, StrategyRunner, StrategySettings};

/// A trading idea. Every method is called on the strategy's own actor, one at a time; none may block.
pub trait Strategy: Send {
    /// Once, before anything else.
    fn on_start(&mut self, _desk: &mut Desk<'_>) {}

    /// The newest top of a book; older ones may have been skipped. Look at `top.state` first.
    fn on_book(&mut self, top: &TopOfBook, desk: &mut Desk<'_>);

    /// A trade in the market.
    fn on_trade(&mut self, _trade: &Trade, _desk: &mut Desk<'_>) {}

    /// Something happened to an order of ours. The desk knows it already.
    fn on_report(&mut self, _report: &ExecutionReport, _desk: &mut Desk<'_>) {}

    /// The timer fired.
    fn on_timer(&mut self, _desk: &mut Desk<'_>) {}

    /// The engine stops: nothing can be placed after this call. Open orders are cancelled by the order sender.
    fn on_drain(&mut self, _desk: &mut Desk<'_>) {}

    /// A person has changed the parameters. Called between two other calls; open orders are as they were.
    fn revise(&mut self, _parameters: &Parameters) {}

    /// One line about what it thinks, for the ops page; written a few times per second.
    fn note(&self, _now: MonoNs, _out: &mut String) {}
}

/// A strategy that cannot be built from its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildError(String);

impl BuildError {
    fn new(why: impl fmt::Display) -> Self {
        Self(why.to_string())
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for BuildError {}

/// Every kind that [`Parameters`] knows.
pub const KINDS: [&str; 1] = ["market_maker"];

/// The parameters of one kind of strategy, checked and in the units of its instrument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parameters {
    /// Of the market maker.
    MarketMaker(market_maker::Params),
}

impl Parameters {
    /// Reads the parameters of a strategy of `kind` that trades `instrument`, from the keys of its configuration table
    /// that are its own.
    ///
    /// # Errors
    /// An unknown kind, an unknown key, or a value that is no number of the instrument's scale.
    pub fn read(
        kind: &str,
        table: toml::Table,
        instrument: &Instrument,
    ) -> Result<Self, BuildError> {
        match kind {
            "market_maker" => {
                let config: market_maker::MarketMakerConfig =
                    table.try_into().map_err(|e: toml::de::Error| BuildError::new(e.message()))?;
                market_maker::Params::new(&config, instrument).map(Self::MarketMaker)
            }
            other => {
                Err(BuildError::new(format!("unknown kind {other:?}; known: {}", KINDS.join(", "))))
            }
        }
    }

    /// A strategy with these parameters that trades `instrument`.
    pub fn build(&self, instrument: &Instrument) -> Box<dyn Strategy> {
        match self {
            Self::MarketMaker(params) => {
                Box::new(market_maker::MarketMaker::new(*params, instrument.id))
            }
        }
    }
}
