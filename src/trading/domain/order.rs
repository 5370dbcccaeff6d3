//! What a strategy wants and what the order sender sends.

use std::fmt;

use arrayvec::ArrayString;

use crate::clock::MonoNs;

use super::decimal::{Price, Qty};
use super::instrument::InstrumentId;

/// Buy or sell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// Buy the base asset.
    Buy,
    /// Sell the base asset.
    Sell,
}

impl Side {
    /// The other side.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }

    /// +1 for buy, -1 for sell.
    pub fn sign(self) -> i64 {
        match self {
            Self::Buy => 1,
            Self::Sell => -1,
        }
    }

    /// The word used in status and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
        }
    }
}

/// How an order may trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderKind {
    /// At the limit price or better.
    Limit,
    /// At the limit price, and only as maker: refused by the venue if it would trade at once.
    LimitMaker,
    /// At whatever price there is.
    Market,
}

/// How long an order may rest. Ignored for limit-maker and market orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimeInForce {
    /// Until cancelled.
    Gtc,
    /// What trades at once trades; the rest expires.
    Ioc,
    /// All at once or nothing.
    Fok,
}

/// A strategy's own name for one of its orders; unique for the life of the process.
///
/// Bits 56..64 the strategy's number, 40..56 its generation, 0..40 a counter from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderRef(pub u64);

impl OrderRef {
    /// The reference number `seq` of one generation of a strategy.
    pub fn new(strategy: u8, generation: u16, seq: u64) -> Self {
        Self((u64::from(strategy) << 56) | (u64::from(generation) << 40) | (seq & ((1 << 40) - 1)))
    }

    /// The strategy's number.
    pub fn strategy(self) -> u8 {
        (self.0 >> 56) as u8
    }

    /// The strategy's generation, modulo 65,536.
    pub fn generation(self) -> u16 {
        (self.0 >> 40) as u16
    }
}

impl fmt::Display for OrderRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.strategy(), self.generation(), self.0 & ((1 << 40) - 1))
    }
}

/// Longest client order id that Binance accepts, in bytes.
pub const CLIENT_ORDER_ID_BYTES_MAX: usize = 36;

/// Our key of an order at the venue: names engine, boot, generation and a counter; never used twice.
pub type ClientOrderId = ArrayString<CLIENT_ORDER_ID_BYTES_MAX>;

/// A new order as it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewOrder {
    /// What.
    pub instrument: InstrumentId,
    /// Which way.
    pub side: Side,
    /// How.
    pub kind: OrderKind,
    /// How long.
    pub tif: TimeInForce,
    /// The limit; ignored for market orders.
    pub price: Price,
    /// How much.
    pub qty: Qty,
}

/// The cancellation of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CancelOrder {
    /// What it is an order in.
    pub instrument: InstrumentId,
    /// Which order.
    pub order: OrderRef,
}

/// What a strategy asks of the order sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntentBody {
    /// Send this order under the intent's reference.
    Place(NewOrder),
    /// Cancel an order of this strategy.
    Cancel(CancelOrder),
    /// Cancel every order of this strategy in an instrument.
    CancelAll(InstrumentId),
}

/// An order intent: a wish, its name, and the moments it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderIntent {
    /// The strategy's name for it; for cancels the name of the request, not of the order.
    pub order: OrderRef,
    /// The wish.
    pub body: IntentBody,
    /// When the update that it answers was read from the wire.
    pub recv: MonoNs,
    /// When it was decided.
    pub decided: MonoNs,
}
