//! What the order sender is told and what it is joined to.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::UtcNs;
use crate::net::url::WsUrl;
use crate::runtime::health::Cell;
use crate::runtime::mailbox::{Inbox, LatestInbox, Outbox};
use crate::runtime::setting::Setting;
use crate::runtime::view::View;
use crate::trading::domain::{
    Entry, ExecutionReport, InstrumentId, Instruments, OrderIntent, TopOfBook, Written,
};
use crate::trading::risk::{KillSwitch, Limits};
use crate::trading::telemetry::OrdersView;

use super::vault::Vault;

/// When an order may leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Once the journal has written its record.
    #[default]
    Written,
    /// Once its record waits in the journal's mailbox.
    HandedOver,
}

/// What happens to open orders when the engine drains.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExit {
    /// They are cancelled, and that is verified at the venue.
    #[default]
    Cancel,
    /// They stay.
    Keep,
}

/// What the order sender is told.
#[derive(Clone, Debug)]
pub struct OrderSettings {
    /// The engine's name in client order ids: 1 to 6 of `a-z0-9`.
    pub engine: String,
    /// When the process started.
    pub boot: UtcNs,
    /// The venue's order session, such as `wss://ws-api.binance.com/ws-api/v3`.
    pub url: WsUrl,
    /// All instruments of the engine.
    pub instruments: Instruments,
    /// Those that this sender trades, each with its limits.
    pub limits: Vec<(InstrumentId, Limits)>,
    /// When an order may leave.
    pub durability: Durability,
    /// What happens to open orders at the end.
    pub on_exit: OnExit,
    /// How long an answer may take before the order's fate is unknown.
    pub ack_timeout: Duration,
    /// Spreads the delays of reconnecting.
    pub seed: u64,
}

impl OrderSettings {
    /// How long an answer may take: twenty times what a venue far away needs.
    pub const ACK_TIMEOUT: Duration = Duration::from_secs(1);
}

/// A strategy as the order sender sees it. Its index is the number in its [`OrderRef`]s.
///
/// [`OrderRef`]: crate::trading::domain::OrderRef
#[derive(Debug)]
pub struct StrategyPort {
    /// Where its reports go.
    pub reports: Outbox<ExecutionReport>,
    /// Its health: when it is down or was restarted, its orders are cancelled. `None` for one that never fails.
    pub cell: Option<Arc<Cell>>,
}

/// What the order sender is joined to.
pub struct OrderPorts {
    /// What strategies want.
    pub intents: Inbox<OrderIntent>,
    /// The touch of every instrument.
    pub tops: LatestInbox<TopOfBook>,
    /// The strategies, by number.
    pub strategies: Vec<StrategyPort>,
    /// Where order and report records go.
    pub journal: Outbox<Entry>,
    /// The journal's health; `None` for one that never fails.
    pub journal_cell: Option<Arc<Cell>>,
    /// The book builder's health; `None` for one that never fails.
    pub book_cell: Option<Arc<Cell>>,
    /// How far the journal has written.
    pub written: Written,
    /// Limits that replace those of the settings while the sender runs.
    pub limits: Setting<Vec<(InstrumentId, Limits)>>,
    /// What stops all new orders.
    pub kill_switch: KillSwitch,
    /// What the ops page sees.
    pub view: View<OrdersView>,
    /// What outlives a generation.
    pub vault: Vault,
}
