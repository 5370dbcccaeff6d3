//! What becomes of our orders: the venue's word, or our own gate's.

use crate::clock::{MonoNs, UtcNs};

use super::decimal::{Price, Qty};
use super::instrument::{InstrumentId, Name};
use super::order::{ClientOrderId, OrderRef, Side};

/// What a report says has happened (FIX `ExecType`, and our own refusals).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecType {
    /// The order was sent; the venue has not answered.
    PendingNew,
    /// The venue has accepted the order.
    New,
    /// A fill.
    Trade,
    /// The cancel was sent; the venue has not answered.
    PendingCancel,
    /// The order is cancelled.
    Canceled,
    /// The venue refused the order.
    Rejected,
    /// The order ended at the venue by its own rules.
    Expired,
    /// The venue refused the cancel; the order is as it was.
    CancelRejected,
    /// We refused the intent; nothing was sent.
    Refused,
    /// Nobody knows whether the order lives; a query is under way.
    Unknown,
}

/// Where an order stands (FIX `OrdStatus`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrderStatus {
    /// Sent, not answered.
    PendingNew,
    /// Resting.
    New,
    /// Resting with fills.
    PartiallyFilled,
    /// Done: all of it traded.
    Filled,
    /// A cancel is under way.
    PendingCancel,
    /// Done: cancelled.
    Canceled,
    /// Done: the venue refused it.
    Rejected,
    /// Done: ended by its own rules.
    Expired,
    /// Nobody knows; a query is under way.
    Unknown,
}

impl OrderStatus {
    /// Whether nothing can happen to the order any more, save late fills.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Filled | Self::Canceled | Self::Rejected | Self::Expired)
    }

    /// The word used in status and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::PendingNew => "pending_new",
            Self::New => "new",
            Self::PartiallyFilled => "partially_filled",
            Self::Filled => "filled",
            Self::PendingCancel => "pending_cancel",
            Self::Canceled => "canceled",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }
}

/// Why an intent was refused by us, or an order or cancel rejected by the venue. The labels are counted in
/// `/status` and `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// Quantity is zero, below the minimum, above the limit, or off the lot.
    Quantity,
    /// Price is off the tick or outside the venue's bounds.
    PriceStep,
    /// Price times quantity is below the venue's minimum or above our limit.
    Notional,
    /// The position, working orders included, would pass its limit.
    Position,
    /// Too many open orders.
    OpenOrders,
    /// Too many orders per second.
    OrderRate,
    /// The price is too far from the touch.
    PriceCollar,
    /// The book is not live.
    BookState,
    /// The decision is too old.
    DecisionAge,
    /// The kill switch is on, or trading is fenced.
    KillSwitch,
    /// The instrument's rules are not known, or the venue does not trade it now.
    NotTrading,
    /// The order session is down or reconciling.
    SessionDown,
    /// The journal does not take records.
    JournalDown,
    /// The engine drains.
    Draining,
    /// The order sender has no room for it.
    Busy,
    /// The order sender was restarted before it saw the intent.
    Restarted,
    /// The order is not known, or done.
    UnknownOrder,
    /// The venue said no; its code is beside.
    Venue,
    /// The venue's answer never came and the order is proved not to exist.
    NeverArrived,
    /// The order sender did not run for a while after this was decided: it is about another market.
    Suspended,
}

impl Reason {
    /// Every reason, in the order of their numbers.
    pub const ALL: [Self; 20] = [
        Self::Quantity,
        Self::PriceStep,
        Self::Notional,
        Self::Position,
        Self::OpenOrders,
        Self::OrderRate,
        Self::PriceCollar,
        Self::BookState,
        Self::DecisionAge,
        Self::KillSwitch,
        Self::NotTrading,
        Self::SessionDown,
        Self::JournalDown,
        Self::Draining,
        Self::Busy,
        Self::Restarted,
        Self::UnknownOrder,
        Self::Venue,
        Self::NeverArrived,
        Self::Suspended,
    ];

    /// The word used in status, metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Quantity => "quantity",
            Self::PriceStep => "price_step",
            Self::Notional => "notional",
            Self::Position => "position",
            Self::OpenOrders => "open_orders",
            Self::OrderRate => "order_rate",
            Self::PriceCollar => "price_collar",
            Self::BookState => "book_state",
            Self::DecisionAge => "decision_age",
            Self::KillSwitch => "kill_switch",
            Self::NotTrading => "not_trading",
            Self::SessionDown => "session_down",
            Self::JournalDown => "journal_down",
            Self::Draining => "draining",
            Self::Busy => "busy",
            Self::Restarted => "restarted",
            Self::UnknownOrder => "unknown_order",
            Self::Venue => "venue",
            Self::NeverArrived => "never_arrived",
            Self::Suspended => "suspended",
        }
    }
}

/// The fee of one fill.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Commission {
    /// In units of `10^-8` of the asset; negative for a rebate.
    pub amount: i64,
    /// What it was paid in.
    pub asset: Name,
}

/// What the order sender tells a strategy and the journal about one order.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExecutionReport {
    /// What it is an order in.
    pub instrument: InstrumentId,
    /// The strategy's name for the order.
    pub order: OrderRef,
    /// Our key at the venue; empty when the intent was refused before it got one.
    pub client_order_id: ClientOrderId,
    /// The venue's key; 0 before it is known.
    pub venue_order_id: u64,
    /// What happened.
    pub exec: ExecType,
    /// Where the order stands now.
    pub status: OrderStatus,
    /// Which way.
    pub side: Side,
    /// The limit price.
    pub price: Price,
    /// The ordered quantity.
    pub qty: Qty,
    /// Traded so far.
    pub cum_qty: Qty,
    /// Still working; 0 once the order is done.
    pub leaves_qty: Qty,
    /// Traded by this report; 0 unless it is a fill.
    pub last_qty: Qty,
    /// At which price; 0 unless it is a fill.
    pub last_price: Price,
    /// The venue's id of the trade; 0 where the fill was found by a query that names none.
    pub trade_id: u64,
    /// The fee of this fill.
    pub commission: Commission,
    /// Why, for refusals and rejections.
    pub reason: Option<Reason>,
    /// The venue's error code, for [`Reason::Venue`].
    pub venue_code: i32,
    /// The venue's time of the event.
    pub venue_utc: UtcNs,
    /// When the bytes were read, or when we decided.
    pub recv: MonoNs,
}
