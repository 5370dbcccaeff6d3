//! What the order sender shows of itself.

use crate::trading::domain::{InstrumentId, OrderStatus, Price};
use crate::trading::telemetry::{OpenOrderView, OrdersView, PositionView, SessionState};

use super::open_orders::Order;
use super::sender::OrderSender;
use super::upkeep::Drain;

impl OrderSender {
    /// Overwrites all of `view`.
    pub(super) fn fill_view(&self, view: &mut OrdersView) {
        view.state = self.session.state();
        view.last_error.clear();
        view.last_error.push_str(&self.session.last_error);
        view.reconnects = self.ledger.vault.sessions().saturating_sub(1);
        view.suspended = self.ledger.vault.suspensions();
        view.suspended_for = self.suspended_for;
        view.stuck = self.stuck();
        view.trading = self.kill_switch.state().enabled()
            && self.session.state() == SessionState::Live
            && self.ledger.hold.is_up()
            && self.drain == Drain::No;
        let orders = || self.ledger.orders.iter().filter(|o| !o.life.status().is_terminal());
        view.totals = self.ledger.totals;
        let unknown = orders().filter(|o| o.life.status() == OrderStatus::Unknown).count();
        view.totals.unknown = unknown as u64;
        view.refused = self.ledger.refused;
        view.open.clear();
        view.open.extend(orders().map(open_view));
        // Ours and open, whoever placed them.
        view.open.extend(self.reconcile.strays.iter().map(|stray| stray.seen));
        view.positions.clear();
        view.positions.extend(self.settings.limits.iter().map(|(id, _)| self.position_view(*id)));
        view.balances.clear();
        view.balances.extend_from_slice(&self.balances);
        self.ledger.latency.fill_view(&mut view.latency);
    }

    /// Open orders that the venue refuses to cancel again and again.
    fn stuck(&self) -> u64 {
        let strays = self.reconcile.strays.iter().filter(|stray| stray.is_stuck()).count();
        let orders = self.ledger.orders.iter().filter(|order| order.is_stuck()).count();
        (strays + orders) as u64
    }

    fn position_view(&self, instrument: InstrumentId) -> PositionView {
        let index = instrument.index();
        let exposure = self.ledger.kept.get(index).copied().unwrap_or_default().exposure;
        let mid = self.tops.get(index).and_then(|top| top.as_ref()?.mid());
        PositionView {
            instrument,
            qty: exposure.qty,
            avg_price: exposure.avg_price(),
            realized_pnl: exposure.realized,
            unrealized_pnl: mid.map(|mid: Price| exposure.unrealized(mid)).unwrap_or_default(),
            fees: exposure.fees,
        }
    }
}

/// An order as it stands.
pub(super) fn open_view(order: &Order) -> OpenOrderView {
    OpenOrderView {
        instrument: order.new.instrument,
        client_order_id: order.client_order_id,
        status: order.life.status(),
        side: order.new.side,
        price: order.new.price,
        qty: order.new.qty,
        cum_qty: order.life.cum_qty(),
        sent: order.sent,
    }
}
