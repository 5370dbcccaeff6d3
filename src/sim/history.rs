//! What accounts ask about their past: orders, trades, prevented matches. In: a call with its parameters. Out: the
//! JSON of what is remembered, or the venue's refusal.

use super::api::symbol;
use super::calls::Call;
use super::exchange::Exchange;
use super::json::Json;
use super::order::{Fill, Order, PreventedMatch};
use super::refusal::{Answer, Refusal};
use super::request::{Params, Span};
use super::wire;

/// Longest time between `startTime` and `endTime`, in microseconds; the end counts to the end of its millisecond.
const RANGE_MAX_US: i64 = 24 * 3_600_000_000 + 999;

/// Does a call about the past of `account`.
///
/// # Errors
/// The venue's refusal.
pub fn execute(exchange: &Exchange, call: Call, account: usize, params: &Params) -> Answer<String> {
    match call {
        Call::OpenOrders => {
            let only = match params.get("symbol") {
                Some(_) => Some(symbol(exchange, params)?),
                None => None,
            };
            let open = exchange.accounts[account].open_orders();
            let open = open.filter(|o| only.is_none_or(|s| s == o.asked.symbol));
            Ok(orders_json(exchange, params, open))
        }
        Call::AllOrders => all_orders(exchange, account, params),
        Call::MyTrades => my_trades(exchange, account, params),
        Call::PreventedMatches => prevented_matches(exchange, account, params),
        Call::OrderLists => {
            params.limit(500, 1_000)?;
            let from = params.long("fromId")?;
            if span(params)?.is_sent() && from.is_some() {
                return Err(Refusal::combination());
            }
            Ok("[]".to_owned())
        }
        // There are no order lists.
        Call::OpenOrderLists => Ok("[]".to_owned()),
        Call::Allocations => allocations(exchange, params),
        _ => Err(Refusal::new(-1020, "This operation is not supported.")),
    }
}

fn orders_json<'a>(
    exchange: &Exchange,
    params: &Params,
    orders: impl Iterator<Item = &'a Order>,
) -> String {
    params.unit().array(|j| {
        for order in orders {
            wire::order(j, &exchange.listings[order.asked.symbol], order);
        }
    })
}

/// The span of a request about the past: at most a day.
fn span(params: &Params) -> Answer<Span> {
    let span = params.span()?;
    if let (Some(start), Some(end)) = (span.start, span.end) {
        if start > end {
            return Err(Refusal::combination());
        }
        if end.saturating_sub(start) > RANGE_MAX_US {
            let msg = "More than 24 hours between startTime and endTime.";
            return Err(Refusal::new(-1127, msg));
        }
    }
    Ok(span)
}

/// The newest `limit` items, oldest first, of items that come newest first.
fn newest<'a, T>(items: impl Iterator<Item = &'a T>, limit: usize) -> Vec<&'a T> {
    let mut newest: Vec<&T> = items.take(limit).collect();
    newest.reverse();
    newest
}

fn all_orders(exchange: &Exchange, account: usize, params: &Params) -> Answer<String> {
    let symbol = symbol(exchange, params)?;
    let limit = params.limit(500, 1_000)?;
    let from = params.long("orderId")?;
    let span = span(params)?;
    let matching = |o: &&Order| o.asked.symbol == symbol && span.has(o.time);
    let holder = &exchange.accounts[account];
    if from.is_some() || span.start.is_some() {
        let orders = holder.orders_from(from.unwrap_or(0)).filter(matching).take(limit);
        return Ok(orders_json(exchange, params, orders));
    }
    let newest = newest(holder.orders().rev().filter(matching), limit);
    Ok(orders_json(exchange, params, newest.into_iter()))
}

fn my_trades(exchange: &Exchange, account: usize, params: &Params) -> Answer<String> {
    let symbol = symbol(exchange, params)?;
    let limit = params.limit(500, 1_000)?;
    let (order, from) = (params.long("orderId")?, params.long("fromId")?);
    let span = span(params)?;
    if span.is_sent() && (order.is_some() || from.is_some()) {
        return Err(Refusal::combination());
    }
    let matching = |f: &&Fill| {
        f.symbol == symbol
            && order.is_none_or(|id| f.order_id == id)
            && from.is_none_or(|from| f.trade_id >= from)
            && span.has(f.time)
    };
    let fills = exchange.accounts[account].fills();
    let chosen: Vec<&Fill> = if from.is_some() || span.start.is_some() {
        fills.iter().filter(matching).take(limit).collect()
    } else {
        newest(fills.iter().rev().filter(matching), limit)
    };
    Ok(params.unit().array(|j| chosen.iter().for_each(|fill| wire::my_trade(j, exchange, fill))))
}

fn prevented_matches(exchange: &Exchange, account: usize, params: &Params) -> Answer<String> {
    let symbol = symbol(exchange, params)?;
    let limit = params.limit(500, 1_000)?;
    let (id, order) = (params.long("preventedMatchId")?, params.long("orderId")?);
    let from = params.long("fromPreventedMatchId")?;
    let legal = match (id, order, from) {
        (Some(_), None, None) => params.get("limit").is_none(),
        // The official connector always sends a limit here, and the documentation does not forbid it.
        (None, Some(_), None | Some(_)) => true,
        _ => false,
    };
    if !legal {
        return Err(Refusal::combination());
    }
    let matching = |m: &&PreventedMatch| {
        m.symbol == symbol
            && id.is_none_or(|id| m.id == id)
            && order.is_none_or(|order| m.taker == order || m.maker == order)
            && from.is_none_or(|from| m.id >= from)
    };
    let all = exchange.accounts[account].prevented().iter();
    Ok(params.unit().array(|j| {
        for prevented in all.filter(matching).take(limit) {
            wire::prevented(j, &exchange.listings[symbol], prevented);
        }
    }))
}

/// What self-trade prevention kept an arriving order from; nothing when it met none of its own.
pub(super) fn prevented_by(j: &mut Json, exchange: &Exchange, order: &Order) {
    let all = exchange.accounts[order.account].prevented().iter().rev();
    let recent = all.take_while(|m| m.time >= order.time);
    let mut mine: Vec<&PreventedMatch> = recent.filter(|m| m.taker == order.id).collect();
    if mine.is_empty() {
        return;
    }
    mine.reverse();
    j.key("preventedMatches").arr(|j| {
        for prevented in mine {
            j.obj(|j| {
                j.f_int("preventedMatchId", prevented.id)
                    .f_text("makerSymbol", &exchange.listings[prevented.symbol].rules.symbol)
                    .f_int("makerOrderId", prevented.maker)
                    .f_dec("price", prevented.price);
                wire::prevented_quantities(j, prevented);
            });
        }
    });
}

/// Allocations come from orders that are routed to several books; there are none.
fn allocations(exchange: &Exchange, params: &Params) -> Answer<String> {
    symbol(exchange, params)?;
    params.limit(500, 1_000)?;
    let (order, from) = (params.long("orderId")?, params.long("fromAllocationId")?);
    if span(params)?.is_sent() && (order.is_some() || from.is_some()) {
        return Err(Refusal::combination());
    }
    Ok("[]".to_owned())
}
