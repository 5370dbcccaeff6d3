//! How orders, reports and books look on the wire. In: the exchange's types. Out: JSON text with the fields,
//! and in the order, of the venue's documentation.

use crate::clock::UtcNs;

use super::exchange::{Exchange, Exec, Report};
use super::history;
use super::json::{Json, TimeUnit};
use super::limits::RateLimits;
use super::listing::{Aggregate, Listing, Print};
use super::matching::{Diff, Top};
use super::order::{Fill, Kind, Order, PreventedMatch, Side, Status, Verbosity, notional};
use super::refusal::Refusal;

/// An error body.
pub fn error(refusal: &Refusal) -> String {
    Json::object(|j| {
        j.f_int("code", refusal.code).f_text("msg", &refusal.msg);
        if let Some(data) = &refusal.data {
            j.f_raw("data", data);
        }
    })
}

/// An error of the WebSocket API, which says in its body when to come again.
pub fn api_error(refusal: &Refusal, utc: UtcNs) -> String {
    let (Some(retry_after), None) = (refusal.retry_after_ms, &refusal.data) else {
        return error(refusal);
    };
    let times = Json::object(|j| {
        j.f_int("serverTime", utc.as_millis()).f_int("retryAfter", retry_after);
    });
    error(&Refusal { data: Some(times), ..refusal.clone() })
}

/// When an order began to work, as the venue writes it.
pub(super) fn working_time(j: &Json, order: &Order) -> i64 {
    order.working_time.map_or(-1, |since| j.unit().of(since))
}

/// Writes the fields that every full description of an order has from `price` to `side`.
fn order_fields(j: &mut Json, order: &Order) {
    j.f_dec("price", order.asked.price)
        .f_dec("origQty", order.qty)
        .f_dec("executedQty", order.executed)
        .f_dec("origQuoteOrderQty", order.asked.quote_qty)
        .f_dec("cummulativeQuoteQty", order.quote_executed)
        .f_text("status", order.status.label())
        .f_text("timeInForce", order.asked.tif.label())
        .f_text("type", order.asked.kind.label())
        .f_text("side", order.asked.side.label());
}

/// Fields of answers that some orders have; queries show the stop price of every order.
pub(super) fn conditional_fields(j: &mut Json, order: &Order) {
    if let Some(id) = order.prevented_match {
        j.f_int("preventedMatchId", id).f_dec("preventedQuantity", order.prevented);
    }
    if let Some(id) = order.asked.strategy_id {
        j.f_int("strategyId", id);
    }
    if let Some(kind) = order.asked.strategy_type {
        j.f_int("strategyType", kind);
    }
    if let Some(reason) = order.expiry {
        j.f_text("expiryReason", reason);
    }
}

/// Fields that orders have which wait for a price or show a part of themselves.
pub(super) fn stop_field(j: &mut Json, order: &Order) {
    if order.asked.kind.is_stop() {
        j.f_dec("stopPrice", order.asked.stop_price);
    }
    if order.asked.iceberg_qty > 0 {
        j.f_dec("icebergQty", order.asked.iceberg_qty);
    }
}

/// The answer to a placed order.
pub fn placed(
    exchange: &Exchange,
    order: &Order,
    fills: &[Fill],
    verbosity: Option<Verbosity>,
    unit: TimeUnit,
) -> String {
    let default = match order.asked.kind {
        Kind::Limit | Kind::Market => Verbosity::Full,
        _ => Verbosity::Ack,
    };
    let verbosity = verbosity.unwrap_or(default);
    let listing = &exchange.listings[order.asked.symbol];
    unit.object(|j| {
        j.f_text("symbol", &listing.rules.symbol)
            .f_int("orderId", order.id)
            .f_int("orderListId", -1)
            .f_text("clientOrderId", &order.client_id)
            .f_time("transactTime", order.time);
        if verbosity == Verbosity::Ack {
            return;
        }
        order_fields(j, order);
        stop_field(j, order);
        let working = working_time(j, order);
        j.f_int("workingTime", working);
        if verbosity == Verbosity::Full {
            let asset = &exchange.assets[listing.paid_asset(order.asked.side.opposite())];
            j.key("fills").arr(|j| {
                for fill in fills {
                    j.obj(|j| {
                        j.f_dec("price", fill.price)
                            .f_dec("qty", fill.qty)
                            .f_dec("commission", fill.fee)
                            .f_text("commissionAsset", asset)
                            .f_int("tradeId", fill.trade_id);
                    });
                }
            });
            history::prevented_by(j, exchange, order);
        }
        j.f_text("selfTradePreventionMode", order.asked.stp.label());
        conditional_fields(j, order);
    })
}

/// What a prevented match took off both orders.
pub(super) fn prevented_quantities(j: &mut Json, prevented: &PreventedMatch) {
    if let Some(qty) = prevented.taker_qty {
        j.f_dec("takerPreventedQuantity", qty);
    }
    if let Some(qty) = prevented.maker_qty {
        j.f_dec("makerPreventedQuantity", qty);
    }
}

/// The answer to a cancel.
pub fn canceled(j: &mut Json, listing: &Listing, order: &Order, cancel_id: &str) {
    j.obj(|j| {
        j.f_text("symbol", &listing.rules.symbol)
            .f_text("origClientOrderId", &order.client_id)
            .f_int("orderId", order.id)
            .f_int("orderListId", -1)
            .f_text("clientOrderId", cancel_id)
            .f_time("transactTime", order.update_time);
        order_fields(j, order);
        stop_field(j, order);
        j.f_text("selfTradePreventionMode", order.asked.stp.label());
        conditional_fields(j, order);
    });
}

/// An order as queries show it.
pub fn order(j: &mut Json, listing: &Listing, order: &Order) {
    let working = working_time(j, order);
    j.obj(|j| {
        j.f_text("symbol", &listing.rules.symbol)
            .f_int("orderId", order.id)
            .f_int("orderListId", -1)
            .f_text("clientOrderId", &order.client_id)
            .f_dec("price", order.asked.price)
            .f_dec("origQty", order.qty)
            .f_dec("executedQty", order.executed)
            .f_dec("cummulativeQuoteQty", order.quote_executed)
            .f_text("status", order.status.label())
            .f_text("timeInForce", order.asked.tif.label())
            .f_text("type", order.asked.kind.label())
            .f_text("side", order.asked.side.label())
            .f_dec("stopPrice", order.asked.stop_price)
            .f_dec("icebergQty", order.asked.iceberg_qty)
            .f_time("time", order.time)
            .f_time("updateTime", order.update_time)
            .f_flag("isWorking", order.working_time.is_some())
            .f_int("workingTime", working)
            .f_dec("origQuoteOrderQty", order.asked.quote_qty)
            .f_text("selfTradePreventionMode", order.asked.stp.label());
        conditional_fields(j, order);
    });
}

/// A trade of an account.
pub fn my_trade(j: &mut Json, exchange: &Exchange, fill: &Fill) {
    let listing = &exchange.listings[fill.symbol];
    j.obj(|j| {
        j.f_text("symbol", &listing.rules.symbol)
            .f_int("id", fill.trade_id)
            .f_int("orderId", fill.order_id)
            .f_int("orderListId", -1)
            .f_dec("price", fill.price)
            .f_dec("qty", fill.qty)
            .f_dec("quoteQty", fill.quote)
            .f_dec("commission", fill.fee)
            .f_text("commissionAsset", &exchange.assets[listing.paid_asset(fill.side.opposite())])
            .f_time("time", fill.time)
            .f_flag("isBuyer", fill.side == Side::Buy)
            .f_flag("isMaker", fill.maker)
            .f_flag("isBestMatch", true);
    });
}

/// A public trade.
pub fn trade(j: &mut Json, print: &Print) {
    j.obj(|j| {
        j.f_int("id", print.id)
            .f_dec("price", print.price)
            .f_dec("qty", print.qty)
            .f_dec("quoteQty", notional(print.price, print.qty))
            .f_time("time", print.time)
            .f_flag("isBuyerMaker", print.buyer_maker)
            .f_flag("isBestMatch", true);
    });
}

/// An event of the account stream: `executionReport` or `outboundAccountPosition`.
pub fn report(exchange: &Exchange, report: &Report) -> String {
    match report {
        Report::Execution { order, exec, cancel_id, exec_id, utc } => {
            execution(exchange, order, exec, cancel_id.as_deref(), *exec_id, *utc)
        }
        Report::Position { balances, utc, .. } => Json::object(|j| {
            j.f_text("e", "outboundAccountPosition")
                .f_int("E", utc.as_millis())
                .f_int("u", utc.as_millis());
            j.key("B").arr(|j| {
                for (asset, free, locked) in balances {
                    j.obj(|j| {
                        j.f_text("a", &exchange.assets[*asset])
                            .f_dec("f", *free)
                            .f_dec("l", *locked);
                    });
                }
            });
        }),
    }
}

fn execution(
    exchange: &Exchange,
    order: &Order,
    exec: &Exec,
    cancel_id: Option<&str>,
    exec_id: u64,
    utc: UtcNs,
) -> String {
    let listing = &exchange.listings[order.asked.symbol];
    let (kind, status) = match exec {
        Exec::New => ("NEW", Status::New),
        Exec::Trade { .. } => ("TRADE", order.status),
        Exec::Canceled => ("CANCELED", order.status),
        Exec::Replaced => ("REPLACED", order.status),
        Exec::Expired => ("EXPIRED", order.status),
        Exec::Prevented { .. } => ("TRADE_PREVENTION", order.status),
    };
    let (qty, price, quote, fee, trade_id, maker) = match *exec {
        Exec::Trade { trade_id, price, qty, quote, fee, maker } => {
            (qty, price, quote, fee, i64::try_from(trade_id).unwrap_or(i64::MAX), maker)
        }
        _ => (0, 0, 0, 0, -1, false),
    };
    let (id, original) = match (exec, cancel_id) {
        // An amended order has its new id already.
        (Exec::Replaced, Some(original)) => (order.client_id.as_str(), original),
        (_, Some(id)) => (id, order.client_id.as_str()),
        (_, None) => (order.client_id.as_str(), ""),
    };
    Json::object(|j| {
        j.f_text("e", "executionReport")
            .f_int("E", utc.as_millis())
            .f_text("s", &listing.rules.symbol)
            .f_text("c", id)
            .f_text("S", order.asked.side.label())
            .f_text("o", order.asked.kind.label())
            .f_text("f", order.asked.tif.label())
            .f_dec("q", order.qty)
            .f_dec("p", order.asked.price)
            .f_dec("P", order.asked.stop_price)
            .f_dec("F", order.asked.iceberg_qty)
            .f_int("g", -1)
            .f_text("C", original)
            .f_text("x", kind)
            .f_text("X", status.label())
            .f_text("r", "NONE")
            .f_int("i", order.id)
            .f_dec("l", qty)
            .f_dec("z", order.executed)
            .f_dec("L", price);
        let asset = &exchange.assets[listing.paid_asset(order.asked.side.opposite())];
        execution_fee(j, (trade_id >= 0).then_some((fee, asset)));
        j.f_int("T", utc.as_millis()).f_int("t", trade_id);
        if let Some(id) = order.prevented_match {
            j.f_int("v", id);
        }
        j.f_int("I", exec_id)
            .f_flag("w", status.is_open() && order.working_time.is_some())
            .f_flag("m", maker)
            .f_flag("M", trade_id >= 0)
            .f_int("O", order.time.as_millis())
            .f_dec("Z", order.quote_executed)
            .f_dec("Y", quote)
            .f_dec("Q", order.asked.quote_qty);
        execution_conditionals(j, order, exec, &listing.rules.symbol);
    })
}

/// The fee of a trade and its asset.
fn execution_fee(j: &mut Json, fee: Option<(i128, &String)>) {
    match fee {
        Some((fee, asset)) => j.f_dec("n", fee).f_text("N", asset),
        None => j.f_text("n", "0").f_raw("N", "null"),
    };
}

fn execution_conditionals(j: &mut Json, order: &Order, exec: &Exec, symbol: &str) {
    if let Some(since) = order.working_time {
        j.f_int("W", since.as_millis());
    }
    j.f_text("V", order.asked.stp.label());
    if let Some(id) = order.asked.strategy_id {
        j.f_int("j", id);
    }
    if let Some(kind) = order.asked.strategy_type {
        j.f_int("J", kind);
    }
    if let Exec::Prevented { qty, counter, match_qty, match_price } = *exec {
        j.f_dec("A", order.prevented)
            .f_dec("B", qty)
            .f_int("u", -1)
            .f_int("U", counter)
            .f_text("Cs", symbol)
            .f_dec("pl", match_qty)
            .f_dec("pL", match_price)
            .f_dec("pY", notional(match_price, match_qty));
    }
    if let Some(reason) = order.expiry {
        j.f_text("eR", reason);
    }
}

/// A book snapshot with at most `limit` levels per side.
pub fn depth(listing: &Listing, limit: usize) -> String {
    Json::object(|j| {
        j.f_int("lastUpdateId", listing.update_id());
        for (name, side) in [("bids", Side::Buy), ("asks", Side::Sell)] {
            j.key(name);
            levels(j, listing.levels(side).take(limit));
        }
    })
}

fn levels(j: &mut Json, levels: impl Iterator<Item = (i64, i64)>) {
    j.arr(|j| {
        for (price, qty) in levels {
            j.arr(|j| {
                j.dec(price).dec(qty);
            });
        }
    });
}

/// A `depthUpdate` event.
pub fn depth_update(symbol: &str, diff: &Diff, event_time: i64) -> String {
    Json::object(|j| {
        j.f_text("e", "depthUpdate")
            .f_int("E", event_time)
            .f_text("s", symbol)
            .f_int("U", diff.first)
            .f_int("u", diff.last);
        j.key("b");
        levels(j, diff.bids.iter().copied());
        j.key("a");
        levels(j, diff.asks.iter().copied());
    })
}

/// A `trade` event.
pub fn trade_event(symbol: &str, print: &Print, event_time: i64, time: i64) -> String {
    Json::object(|j| {
        j.f_text("e", "trade")
            .f_int("E", event_time)
            .f_text("s", symbol)
            .f_int("t", print.id)
            .f_dec("p", print.price)
            .f_dec("q", print.qty)
            .f_int("T", time)
            .f_flag("m", print.buyer_maker)
            .f_flag("M", true);
    })
}

/// The fields of an aggregate trade after `e`, `E` and `s`.
pub fn aggregate_fields(j: &mut Json, aggregate: &Aggregate, time: i64) {
    j.f_int("a", aggregate.id)
        .f_dec("p", aggregate.last.price)
        .f_dec("q", aggregate.qty)
        .f_int("f", aggregate.first)
        .f_int("l", aggregate.last.id)
        .f_int("T", time)
        .f_flag("m", aggregate.last.buyer_maker)
        .f_flag("M", true);
}

/// An `aggTrade` event.
pub fn aggregate_event(symbol: &str, aggregate: &Aggregate, event_time: i64, time: i64) -> String {
    Json::object(|j| {
        j.f_text("e", "aggTrade").f_int("E", event_time).f_text("s", symbol);
        aggregate_fields(j, aggregate, time);
    })
}

/// A `bookTicker` event.
pub fn touch_event(symbol: &str, update_id: u64, top: &Top) -> String {
    let (bid, ask) = (top.bid.unwrap_or_default(), top.ask.unwrap_or_default());
    Json::object(|j| {
        j.f_int("u", update_id)
            .f_text("s", symbol)
            .f_dec("b", bid.0)
            .f_dec("B", bid.1)
            .f_dec("a", ask.0)
            .f_dec("A", ask.1);
    })
}

/// One item of `ticker/bookTicker`.
pub fn touch(j: &mut Json, listing: &Listing) {
    let top = listing.top();
    let (bid, ask) = (top.bid.unwrap_or_default(), top.ask.unwrap_or_default());
    j.obj(|j| {
        j.f_text("symbol", &listing.rules.symbol)
            .f_dec("bidPrice", bid.0)
            .f_dec("bidQty", bid.1)
            .f_dec("askPrice", ask.0)
            .f_dec("askQty", ask.1);
    });
}

/// The numbers of one window of a limit.
/// One entry of the limits: its kind, interval and number of them, and what of it is used.
pub fn limit(
    j: &mut Json,
    kind: &str,
    (interval, num): (&str, u32),
    limit: u32,
    count: Option<u32>,
) {
    j.obj(|j| {
        j.f_text("rateLimitType", kind)
            .f_text("interval", interval)
            .f_int("intervalNum", num)
            .f_int("limit", limit);
        if let Some(count) = count {
            j.f_int("count", count);
        }
    });
}

/// The limits on orders, with the counts of ten seconds and of the day where they are known.
pub fn order_limits(j: &mut Json, limits: &RateLimits, counts: Option<(u32, u32)>) {
    let (ten_seconds, day) = (counts.map(|c| c.0), counts.map(|c| c.1));
    limit(j, "ORDERS", ("SECOND", 10), limits.orders_per_10s, ten_seconds);
    limit(j, "ORDERS", ("DAY", 1), limits.orders_per_day, day);
}

/// The limit on request weight, with what is used where it is known.
pub fn weight_limit(j: &mut Json, limits: &RateLimits, weight: Option<u32>) {
    limit(j, "REQUEST_WEIGHT", ("MINUTE", 1), limits.weight_per_minute, weight);
}

/// Commission rates of an account on a symbol; `fees_ppm` are maker and taker.
pub fn commission(j: &mut Json, listing: &Listing, (maker, taker): (i128, i128)) {
    j.f_text("symbol", &listing.rules.symbol);
    for (name, (maker, taker)) in [
        ("standardCommission", (maker * 100, taker * 100)),
        ("specialCommission", (0, 0)),
        ("taxCommission", (0, 0)),
    ] {
        j.key(name).obj(|j| {
            j.f_dec("maker", maker).f_dec("taker", taker).f_dec("buyer", 0).f_dec("seller", 0);
        });
    }
    discount(j);
}

/// Commission rates of an order that is tested; `fees_ppm` are maker and taker.
pub fn commission_of_order(j: &mut Json, (maker, taker): (i128, i128)) {
    for (name, (maker, taker)) in [
        ("standardCommissionForOrder", (maker * 100, taker * 100)),
        ("specialCommissionForOrder", (0, 0)),
        ("taxCommissionForOrder", (0, 0)),
    ] {
        j.key(name).obj(|j| {
            j.f_dec("maker", maker).f_dec("taker", taker);
        });
    }
    discount(j);
}

fn discount(j: &mut Json) {
    j.key("discount").obj(|j| {
        j.f_flag("enabledForAccount", false)
            .f_flag("enabledForSymbol", false)
            .f_text("discountAsset", "BNB")
            .f_dec("discount", 0);
    });
}

/// A match that self-trade prevention did not let happen.
pub fn prevented(j: &mut Json, listing: &Listing, prevented: &PreventedMatch) {
    let symbol = &listing.rules.symbol;
    j.obj(|j| {
        j.f_text("symbol", symbol)
            .f_int("preventedMatchId", prevented.id)
            .f_int("takerOrderId", prevented.taker)
            .f_text("makerSymbol", symbol)
            .f_int("makerOrderId", prevented.maker)
            .f_int("tradeGroupId", -1)
            .f_text("selfTradePreventionMode", prevented.mode.label())
            .f_dec("price", prevented.price);
        prevented_quantities(j, prevented);
        j.f_time("transactTime", prevented.time);
    });
}
