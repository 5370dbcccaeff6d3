//! Orders whose quantity is reduced and that keep their place in the queue. In: a call with its parameters. Out: the JSON
//! of the answer, or the venue's refusal; after the documentation's FAQ on Order Amend Keep Priority.
//!
//! Invariant: a refused amendment changes nothing.

use crate::clock::UtcNs;

use super::api::symbol;
use super::exchange::{Exchange, Exec};
use super::filters::AMENDS_MAX;
use super::json::{Json, TimeUnit};
use super::listing::{Liquidity, Listing};
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
    Ok(amended(params.unit(), &exchange.listings[symbol], order, &amend))
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
        wanted.take(limit).for_each(|amend| amendment(j, listing, order, amend));
    }))
}

/// The answer to an amendment: the order since.
fn amended(unit: TimeUnit, listing: &Listing, order: &Order, amend: &Amend) -> String {
    unit.object(|j| {
        j.f_time("transactTime", amend.time).f_int("executionId", amend.exec_id);
        let working = wire::working_time(j, order);
        j.key("amendedOrder").obj(|j| {
            j.f_text("symbol", &listing.rules.symbol)
                .f_int("orderId", order.id)
                .f_int("orderListId", -1)
                .f_text("origClientOrderId", &amend.client_id)
                .f_text("clientOrderId", &order.client_id)
                .f_dec("price", order.asked.price)
                .f_dec("qty", order.qty)
                .f_dec("executedQty", order.executed)
                .f_dec("preventedQty", order.prevented)
                .f_dec("quoteOrderQty", order.asked.quote_qty)
                .f_dec("cumulativeQuoteQty", order.quote_executed)
                .f_text("status", order.status.label())
                .f_text("timeInForce", order.asked.tif.label())
                .f_text("type", order.asked.kind.label())
                .f_text("side", order.asked.side.label());
            wire::stop_field(j, order);
            j.f_int("workingTime", working)
                .f_text("selfTradePreventionMode", order.asked.stp.label());
            wire::conditional_fields(j, order);
        });
    })
}

/// One amendment of an order.
fn amendment(j: &mut Json, listing: &Listing, order: &Order, amend: &Amend) {
    j.obj(|j| {
        j.f_text("symbol", &listing.rules.symbol)
            .f_int("orderId", order.id)
            .f_int("executionId", amend.exec_id)
            .f_text("origClientOrderId", &amend.client_id)
            .f_text("newClientOrderId", &amend.new_client_id)
            .f_dec("origQty", amend.qty)
            .f_dec("newQty", amend.new_qty)
            .f_time("time", amend.time);
    });
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
