//! The words of an order, as the venue spells them, and the order as the venue remembers it.

use serde::{Deserialize, Serialize};

use crate::clock::UtcNs;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// The venue's spelling.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// The word that is spelled `text`.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words! {
    /// Which way.
    Side {
        /// Base asset in, quote asset out.
        Buy = "BUY",
        /// Base asset out, quote asset in.
        Sell = "SELL",
    }
}

words! {
    /// What kind of order.
    Kind {
        /// At a price or better.
        Limit = "LIMIT",
        /// At a price, never as a taker.
        LimitMaker = "LIMIT_MAKER",
        /// At whatever price there is.
        Market = "MARKET",
        /// A market order once the last price has gone against its owner as far as the stop price.
        StopLoss = "STOP_LOSS",
        /// A limit order once the last price has gone against its owner as far as the stop price.
        StopLossLimit = "STOP_LOSS_LIMIT",
        /// A market order once the last price has gone in favour of its owner as far as the stop price.
        TakeProfit = "TAKE_PROFIT",
        /// A limit order once the last price has gone in favour of its owner as far as the stop price.
        TakeProfitLimit = "TAKE_PROFIT_LIMIT",
    }
}

words! {
    /// How long an order stays.
    Tif {
        /// Until cancelled.
        Gtc = "GTC",
        /// What does not trade at once expires.
        Ioc = "IOC",
        /// All at once or nothing.
        Fok = "FOK",
    }
}

words! {
    /// Where an order stands.
    Status {
        /// On the book, nothing traded.
        New = "NEW",
        /// On the book, something traded.
        PartiallyFilled = "PARTIALLY_FILLED",
        /// All traded.
        Filled = "FILLED",
        /// Taken back by its owner.
        Canceled = "CANCELED",
        /// Ended by its own conditions.
        Expired = "EXPIRED",
        /// Ended by self-trade prevention.
        ExpiredInMatch = "EXPIRED_IN_MATCH",
    }
}

words! {
    /// What happens when an order would trade with its own account.
    Stp {
        /// It trades.
        None = "NONE",
        /// The arriving order expires.
        ExpireTaker = "EXPIRE_TAKER",
        /// The resting order expires.
        ExpireMaker = "EXPIRE_MAKER",
        /// Both expire.
        ExpireBoth = "EXPIRE_BOTH",
        /// Both lose what they would have traded.
        Decrement = "DECREMENT",
        /// The same between orders of one account; accounts in trade groups, which there are none of here, would pass
        /// the quantity on.
        Transfer = "TRANSFER",
    }
}

words! {
    /// How much the answer to an order says.
    Verbosity {
        /// The ids only.
        Ack = "ACK",
        /// How the order stands.
        Result = "RESULT",
        /// And the fills.
        Full = "FULL",
    }
}

impl Stp {
    /// Whether both orders lose what they would have traded.
    pub fn decrements(self) -> bool {
        matches!(self, Self::Decrement | Self::Transfer)
    }

    /// What happens when an arriving order of this mode meets a resting one of mode `maker`.
    #[must_use]
    pub fn effective(self, maker: Self) -> Self {
        if self == Self::Transfer && maker != Self::Transfer { Self::Decrement } else { self }
    }
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

    /// 0 for buy, 1 for sell: the index into pairs.
    pub fn index(self) -> usize {
        usize::from(self == Self::Sell)
    }
}

impl Kind {
    /// Whether it has a limit price.
    pub fn has_limit(self) -> bool {
        !matches!(self, Self::Market | Self::StopLoss | Self::TakeProfit)
    }

    /// Whether it takes a time in force.
    pub fn takes_tif(self) -> bool {
        matches!(self, Self::Limit | Self::StopLossLimit | Self::TakeProfitLimit)
    }

    /// Whether it waits for a stop price: the documentation's "algo" orders.
    pub fn is_stop(self) -> bool {
        !matches!(self, Self::Limit | Self::LimitMaker | Self::Market)
    }

    /// Whether an order of this kind and `side` is triggered by a last price at or above its stop price, not at or
    /// below it.
    pub fn triggers_above(self, side: Side) -> bool {
        let loss = matches!(self, Self::StopLoss | Self::StopLossLimit);
        loss == (side == Side::Buy)
    }
}

impl Status {
    /// Whether the order is still on the book.
    pub fn is_open(self) -> bool {
        matches!(self, Self::New | Self::PartiallyFilled)
    }
}

/// An order as a client asks for it, already validated word by word; numbers in units of `10^-8`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewOrder {
    /// The index of the symbol.
    pub symbol: usize,
    /// Which way.
    pub side: Side,
    /// What kind.
    pub kind: Kind,
    /// How long; GTC for kinds that take none.
    pub tif: Tif,
    /// The limit; 0 for kinds without one.
    pub price: i64,
    /// The base quantity; 0 for market orders by quote quantity.
    pub qty: i64,
    /// The last price that triggers it; 0 for kinds that do not wait.
    pub stop_price: i64,
    /// The quote quantity of a market order; 0 for none.
    pub quote_qty: i64,
    /// How much of it others see at once; 0 for all.
    #[serde(default)]
    pub iceberg_qty: i64,
    /// The client's id, if it sent one.
    pub client_id: Option<String>,
    /// Self-trade prevention.
    pub stp: Stp,
    /// A label of the client's, echoed.
    pub strategy_id: Option<i64>,
    /// A label of the client's, echoed.
    pub strategy_type: Option<i64>,
}

/// An order as the venue remembers it; numbers in units of `10^-8`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The venue's id.
    pub id: u64,
    /// The client's id, or one that the venue made.
    pub client_id: String,
    /// Whose.
    pub account: usize,
    /// What was asked.
    pub asked: NewOrder,
    /// Base quantity; for market orders by quote quantity what it came to.
    pub qty: i64,
    /// Traded so far.
    pub executed: i64,
    /// Quote amount traded so far.
    pub quote_executed: i128,
    /// Quantity that self-trade prevention took away.
    pub prevented: i64,
    /// The prevented match, if self-trade prevention ended it.
    pub prevented_match: Option<u64>,
    /// Where it stands.
    pub status: Status,
    /// When it came.
    #[serde(with = "nanos")]
    pub time: UtcNs,
    /// Since when it is on the book; `None` while it waits for its stop price.
    #[serde(with = "nanos::maybe")]
    pub working_time: Option<UtcNs>,
    /// When it last changed.
    #[serde(with = "nanos")]
    pub update_time: UtcNs,
    /// Why it expired.
    #[serde(default, with = "reason")]
    pub expiry: Option<Reason>,
    /// What of the account's balance it binds now: quote for buys, base for sells.
    pub locked: i128,
    /// How its quantity was reduced, oldest first; at most `AMENDS_MAX`.
    #[serde(default)]
    pub amends: Vec<Amend>,
}

/// A reduction of an order's quantity that kept its place in the queue; numbers in units of `10^-8`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amend {
    /// The number of the event that told of it.
    pub exec_id: u64,
    /// The client's id before.
    pub client_id: String,
    /// The client's id since.
    pub new_client_id: String,
    /// The quantity before.
    pub qty: i64,
    /// The quantity since.
    pub new_qty: i64,
    /// When.
    #[serde(with = "nanos")]
    pub time: UtcNs,
}

impl Order {
    /// What may still trade.
    pub fn remaining(&self) -> i64 {
        (self.qty - self.executed - self.prevented).max(0)
    }

    /// How much of it others see at once while it rests.
    pub fn shown(&self) -> i64 {
        match self.asked.iceberg_qty {
            0 => self.remaining(),
            part => part.min(self.remaining()),
        }
    }

    /// Whether it waits for its stop price.
    pub fn is_waiting(&self) -> bool {
        self.status.is_open() && self.working_time.is_none()
    }

    /// What it binds of its account's balance: quote for buys, base for sells. An order at market prices binds
    /// something only while it waits.
    pub fn needs(&self) -> i128 {
        if self.asked.kind.has_limit() || self.is_waiting() {
            self.asked.lock(self.remaining())
        } else {
            0
        }
    }
}

impl NewOrder {
    /// What `qty` of it binds: quote for buys, base for sells.
    pub fn lock(&self, qty: i64) -> i128 {
        match self.side {
            // A stop order at market prices is reckoned at its stop price; what the market price then takes beyond
            // comes out of the free balance.
            Side::Buy if !self.kind.has_limit() => notional(self.stop_price, qty),
            Side::Buy => notional(self.price, qty),
            Side::Sell => i128::from(qty),
        }
    }
}

/// Two orders of one account that self-trade prevention kept from trading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreventedMatch {
    /// Its number.
    pub id: u64,
    /// The index of the symbol.
    pub symbol: usize,
    /// The arriving order.
    pub taker: u64,
    /// The resting order.
    pub maker: u64,
    /// The arriving order's mode.
    pub mode: Stp,
    /// At which price they would have traded.
    pub price: i64,
    /// What the arriving order lost; `None` when it lost nothing by its mode.
    pub taker_qty: Option<i64>,
    /// What the resting order lost; `None` when it lost nothing by its mode.
    pub maker_qty: Option<i64>,
    /// When.
    pub time: UtcNs,
}

/// A trade of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// The trade, unique per symbol.
    pub trade_id: u64,
    /// The account's order.
    pub order_id: u64,
    /// The index of the symbol.
    pub symbol: usize,
    /// Which way the account traded.
    pub side: Side,
    /// At which price.
    pub price: i64,
    /// How much base.
    pub qty: i64,
    /// How much quote.
    pub quote: i128,
    /// The fee, in the received asset.
    pub fee: i128,
    /// Whether the account's order rested.
    pub maker: bool,
    /// When.
    #[serde(with = "nanos")]
    pub time: UtcNs,
}

/// A word of the documentation's "Order Expiry Reason".
pub type Reason = &'static str;

/// Price times quantity in units of `10^-8` of the quote asset, rounded down.
pub fn notional(price: i64, qty: i64) -> i128 {
    i128::from(price) * i128::from(qty) / 100_000_000
}

/// Reasons of expiry in files.
mod reason {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Reason;

    const ALL: [Reason; 8] = [
        "REJECTED",
        "EXCHANGE_CANCELED",
        "OCO_TRIGGER",
        "OTO_PHASE_ONE_EXPIRED",
        "UNFILLED_IOC_QUANTITY_EXPIRED",
        "UNFILLED_FOK_ORDER_EXPIRED",
        "INSUFFICIENT_LIQUIDITY",
        "EXECUTION_RULE_PRICE_RANGE_EXCEEDED",
    ];

    pub(super) fn serialize<S: Serializer>(
        reason: &Option<Reason>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        reason.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Reason>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        let known = ALL.into_iter().find(|known| *known == text);
        known.map(Some).ok_or_else(|| D::Error::custom(format!("no reason of expiry: {text}")))
    }
}

/// Moments in files: nanoseconds of UTC.
mod nanos {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::UtcNs;

    pub(super) fn serialize<S: Serializer>(utc: &UtcNs, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(utc.as_nanos())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<UtcNs, D::Error> {
        i64::deserialize(from).map(UtcNs::from_nanos)
    }

    /// Moments that may not have come.
    pub(super) mod maybe {
        use super::{Deserialize, Deserializer, Serializer, UtcNs};

        pub(in super::super) fn serialize<S: Serializer>(
            utc: &Option<UtcNs>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match utc {
                Some(utc) => to.serialize_some(&utc.as_nanos()),
                None => to.serialize_none(),
            }
        }

        pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
            from: D,
        ) -> Result<Option<UtcNs>, D::Error> {
            Ok(Option::<i64>::deserialize(from)?.map(UtcNs::from_nanos))
        }
    }
}
