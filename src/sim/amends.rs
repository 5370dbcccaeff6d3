//! Orders whose quantity is reduced and that keep their place in the queue. In: a call with its parameters. Out: the JSON
//! of the answer, or the venue's refusal; after the documentation's FAQ on Order Amend Keep Priority.
//!
//! Invariant: a refused amendment changes nothing.

use crate::clock::UtcNs;

use super::api::symbol;
use super::exchange::{Exchange, Exec};
use super::filters::AMENDS_MAX;
use super::listing::Liquidity;
use super::order::{Amend, NewOrder, Order, Status};
use super::private::{ORDER_IDS, find_order};
use super::refusal::{Answer, Refusal};
use super::request::Params;
use super::wire;

/// Reduces the quantity of an open order.
///
/// # Errors
/// The venue's refusal.
pub(super) fn amend(
    exchange: &mut Exchange,
    account: usize,
    params: &Params,
    utc: UtcNs,
) -> Answer<String> {
    let symbol = symbol(exchange, params)?;
    params.need("newQty")?;
    let new_qty = params.decimal("newQty")?.unwrap_or(0);
    let client_id = params.client_id("newClientOrderId")?;
    let order = find_order(exchange, account, symbol, params, ORDER_IDS)?
        .filter(|o| o.status.is_open())
        .ok_or_else(|| Refusal::amend("Unknown order sent."))?;
    check(exchange, order, new_qty, client_id.as_deref())?;
    let id = order.id;
    let client_id = match client_id {
        Some(id) => id,
        None => exchange.make_client_id(),
    };
    let amend = exchange.amend(account, id, new_qty, &client_id, utc);
    let order = exchange.accounts[account].order(id);
    let (Some(amend), Some(order)) = (amend, order) else {
        return Err(Refusal::amend("Unknown order sent."));
    };
    Ok(wire::amended(params.unit(), &exchange.listings[symbol], order, &amend))
}

fn check(exchange: &Exchange, order: &Order, new_qty: i64, client_id: Option<&str>) -> Answer<()> {
    if new_qty > order.qty {
        return Err(Refusal::amend("Order amend (quantity increase) is not supported."));
    }
    if new_qty == order.qty {
        return Err(Refusal::amend("The requested action would change no state; rejecting"));
    }
    if order.amends.len() >= AMENDS_MAX {
        return Err(Refusal::amend("Filter failure: MAX_NUM_ORDER_AMENDS"));
    }
    let asked = NewOrder { qty: new_qty, ..order.asked.clone() };
    exchange.listings[order.asked.symbol].check_amounts(&asked)?;
    let holder = &exchange.accounts[order.account];
    let taken = client_id.and_then(|id| holder.order_by_client_id(id));
    if taken.is_some_and(|other| other.id != order.id && other.status.is_open()) {
        return Err(Refusal::amend("Duplicate order sent."));
    }
    Ok(())
}

/// The amendments of an order, oldest first.
///
/// # Errors
/// The venue's refusal.
pub(super) fn amendments(exchange: &Exchange, account: usize, params: &Params) -> Answer<String> {
    let symbol = symbol(exchange, params)?;
    params.need("orderId")?;
    let id = params.long("orderId")?.unwrap_or(0);
    let from = params.long("fromExecutionId")?.unwrap_or(0);
    let limit = params.limit(500, 1_000)?;
    let order = exchange.accounts[account].order(id).filter(|o| o.asked.symbol == symbol);
    let listing = &exchange.listings[symbol];
    Ok(params.unit().array(|j| {
        let Some(order) = order else { return };
        let wanted = order.amends.iter().filter(|amend| amend.exec_id >= from);
        wanted.take(limit).for_each(|amend| wire::amendment(j, listing, order, amend));
    }))
}

impl Exchange {
    /// Reduces the quantity of an open order to `qty`; what is traded already ends it.
    fn amend(
        &mut self,
        account: usize,
        id: u64,
        qty: i64,
        client_id: &str,
        utc: UtcNs,
    ) -> Option<Amend> {
        let before = self.accounts[account].order(id)?.clone();
        let exec_id = self.sequences().1;
        let amend = Amend {
            exec_id,
            client_id: before.client_id.clone(),
            new_client_id: client_id.to_owned(),
            qty: before.qty,
            new_qty: qty,
            time: utc,
        };
        let (symbol, side, price) = (before.asked.symbol, before.asked.side, before.asked.price);
        self.accounts[account].rename(id, client_id);
        let changed = self.accounts[account].change(id, |order| {
            order.qty = qty;
            order.asked.qty = qty;
            order.update_time = utc;
            order.amends.push(amend.clone());
        })?;
        let left = changed.remaining();
        let asset = self.listings[symbol].paid_asset(side);
        self.accounts[account].relock(id, asset);
        self.report(account, id, Exec::Replaced, Some(before.client_id.clone()), utc);
        if left == 0 {
            self.take_off(&before);
            self.end(account, id, Status::Expired, None, utc);
            self.report(account, id, Exec::Expired, None, utc);
        } else if !before.is_waiting() {
            match &mut self.listings[symbol].liquidity {
                Liquidity::Live(book) => book.amend(id, side, price, left),
                Liquidity::Recorded(recorded) => recorded.amend(id, left),
            }
        }
        self.report_positions(symbol, &mut vec![account], utc);
        Some(amend)
    }
}
