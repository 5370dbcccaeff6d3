//! What each request does. In: a call with its parameters and whose it is. Out: the JSON of the answer, or the
//! venue's refusal; what accounts are to be told lies in [`Exchange::reports`].

use crate::clock::UtcNs;

use super::calls::Call;
use super::exchange::Exchange;
use super::json::Json;
use super::market_calls;
use super::order::{Fill, Kind, NewOrder, Order, Side, Status, Stp, Tif, Verbosity};
use super::refusal::{Answer, Refusal};
use super::request::Params;
use super::wire;

/// Does a call that needs no connection. `account` is whose it is, for those that need one.
///
/// # Errors
/// The venue's refusal.
pub fn execute(
    exchange: &mut Exchange,
    call: Call,
    account: Option<usize>,
    params: &Params,
    utc: UtcNs,
) -> Answer<String> {
    match call {
        Call::Ping => Ok("{}".to_owned()),
        Call::Time => Ok(Json::object(|j| {
            j.f_int("serverTime", utc.as_millis());
        })),
        Call::ExchangeInfo
        | Call::Depth
        | Call::Trades
        | Call::HistoricalTrades
        | Call::AggTrades
        | Call::BlockTrades
        | Call::Klines
        | Call::UiKlines
        | Call::AveragePrice
        | Call::DayTicker
        | Call::TradingDayTicker
        | Call::RollingTicker
        | Call::PriceTicker
        | Call::BookTicker
        | Call::ReferencePrice
        | Call::ReferencePriceSource
        | Call::ExecutionRules => market_calls::execute(exchange, call, params, utc),
        _ => {
            let account =
                account.ok_or_else(|| Refusal::unauthorized(-2014, "API-key format invalid."))?;
            execute_private(exchange, call, account, params, utc)
        }
    }
}

fn execute_private(
    exchange: &mut Exchange,
    call: Call,
    account: usize,
    params: &Params,
    utc: UtcNs,
) -> Answer<String> {
    match call {
        Call::Account => account_status(exchange, account, params, utc),
        Call::Place => {
            let (new, verbosity) = new_order(exchange, params)?;
            let (id, fills) = exchange.place(account, new, utc)?;
            let gone =
                || Refusal::new(-1000, "An unknown error occurred while processing the request.");
            let order = exchange.accounts[account].order(id).ok_or_else(gone)?;
            Ok(wire::placed(exchange, order, &fills, verbosity))
        }
        Call::TestPlace => test_place(exchange, account, params),
        Call::QueryOrder => {
            let symbol = symbol(exchange, params)?;
            let order = find_order(exchange, account, symbol, params)?
                .ok_or_else(|| Refusal::new(-2013, "Order does not exist."))?;
            let mut json = Json::new();
            wire::order(&mut json, &exchange.listings[symbol], order);
            Ok(json.finish())
        }
        Call::Cancel => cancel(exchange, account, params, utc),
        Call::CancelAll => cancel_all(exchange, account, params, utc),
        Call::OpenOrders => {
            let only = match params.get("symbol") {
                Some(_) => Some(symbol(exchange, params)?),
                None => None,
            };
            let open = exchange.accounts[account].open_orders();
            Ok(orders_json(exchange, open.filter(|o| only.is_none_or(|s| s == o.asked.symbol))))
        }
        Call::AllOrders => all_orders(exchange, account, params),
        Call::MyTrades => my_trades(exchange, account, params),
        Call::Commission => commission(exchange, params),
        _ => Err(Refusal::new(-1020, "This operation is not supported.")),
    }
}

fn check_symbol_text(name: &str, text: &str) -> Answer<()> {
    let legal = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    if text.len() > 20 || !text.bytes().all(legal) {
        return Err(Refusal::illegal(name, "^[A-Z0-9-_.]{1,20}$"));
    }
    Ok(())
}

fn find_symbol(exchange: &Exchange, text: &str) -> Answer<usize> {
    let found = exchange.listings.iter().position(|l| l.rules.symbol == text);
    found.ok_or_else(Refusal::symbol)
}

pub(super) fn symbol(exchange: &Exchange, params: &Params) -> Answer<usize> {
    let text = params.need("symbol")?;
    check_symbol_text("symbol", text)?;
    find_symbol(exchange, text)
}

/// The listings that `symbol` or `symbols` name; `None` when neither was sent.
pub(super) fn symbols(exchange: &Exchange, params: &Params) -> Answer<Option<Vec<usize>>> {
    match (params.get("symbol"), params.get("symbols")) {
        (Some(_), Some(_)) => {
            Err(Refusal::new(-1128, "Combination of optional parameters invalid."))
        }
        (Some(_), None) => Ok(Some(vec![symbol(exchange, params)?])),
        (None, Some(list)) => {
            let names: Vec<String> = serde_json::from_str(list).map_err(|_| {
                Refusal::illegal(
                    "symbols",
                    r#"^\["[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}\]$"#,
                )
            })?;
            let mut found = Vec::new();
            for name in &names {
                check_symbol_text("symbols", name)?;
                let at = find_symbol(exchange, name)?;
                if found.contains(&at) {
                    return Err(Refusal::new(
                        -1151,
                        "Symbol is present multiple times in the list.",
                    ));
                }
                found.push(at);
            }
            Ok(Some(found))
        }
        (None, None) => Ok(None),
    }
}

fn account_status(
    exchange: &Exchange,
    account: usize,
    params: &Params,
    utc: UtcNs,
) -> Answer<String> {
    let omit_zero = params.flag("omitZeroBalances", false)?;
    let (maker, taker) = exchange.fees_ppm();
    Ok(Json::object(|j| {
        // The old fields count basis points, the new ones are rates.
        j.f_int("makerCommission", maker / 100)
            .f_int("takerCommission", taker / 100)
            .f_int("buyerCommission", 0)
            .f_int("sellerCommission", 0);
        j.key("commissionRates").obj(|j| {
            j.f_dec("maker", maker * 100)
                .f_dec("taker", taker * 100)
                .f_dec("buyer", 0)
                .f_dec("seller", 0);
        });
        j.f_flag("canTrade", true)
            .f_flag("canWithdraw", true)
            .f_flag("canDeposit", true)
            .f_flag("brokered", false)
            .f_flag("requireSelfTradePrevention", false)
            .f_flag("preventSor", false)
            .f_int("updateTime", utc.as_millis())
            .f_text("accountType", "SPOT");
        j.key("balances").arr(|j| {
            for (name, held) in exchange.assets.iter().zip(&exchange.accounts[account].holdings) {
                if omit_zero && held.free == 0 && held.locked == 0 {
                    continue;
                }
                j.obj(|j| {
                    j.f_text("asset", name).f_dec("free", held.free).f_dec("locked", held.locked);
                });
            }
        });
        j.f_raw("permissions", r#"["SPOT"]"#).f_int("uid", account + 1);
    }))
}

/// The documented kinds that this venue does not trade, and the venue's words for that.
const UNSUPPORTED: [(&str, &str); 4] = [
    ("STOP_LOSS", "Stop loss orders are not supported for this symbol."),
    ("STOP_LOSS_LIMIT", "Stop loss limit orders are not supported for this symbol."),
    ("TAKE_PROFIT", "Take profit orders are not supported for this symbol."),
    ("TAKE_PROFIT_LIMIT", "Take profit limit orders are not supported for this symbol."),
];

fn kind(params: &Params) -> Answer<Kind> {
    let text = params.need("type")?;
    if let Some(kind) = Kind::parse(text) {
        return Ok(kind);
    }
    match UNSUPPORTED.iter().find(|(name, _)| *name == text) {
        Some((_, msg)) => Err(Refusal::order(msg)),
        None => Err(Refusal::new(-1116, "Invalid orderType.")),
    }
}

fn refuse_extras(params: &Params) -> Answer<()> {
    for (name, msg) in [
        ("icebergQty", "Iceberg orders are not supported for this symbol."),
        ("trailingDelta", "Trailing stop orders are not supported for this symbol."),
        ("pegPriceType", "Pegged orders are not supported for this symbol."),
        ("pegOffsetType", "Pegged orders are not supported for this symbol."),
        ("pegOffsetValue", "Pegged orders are not supported for this symbol."),
    ] {
        if params.get(name).is_some() {
            return Err(Refusal::order(msg));
        }
    }
    if params.get("stopPrice").is_some() {
        return Err(Refusal::not_required("stopPrice"));
    }
    Ok(())
}

/// Checks that an order has what its kind demands, and nothing that its kind does not take.
fn check_kind(
    kind: Kind,
    tif: Option<Tif>,
    price: Option<i64>,
    qty: Option<i64>,
    quote_qty: Option<i64>,
) -> Answer<()> {
    match kind {
        Kind::Limit => {
            tif.ok_or_else(|| Refusal::missing("timeInForce"))?;
        }
        _ if tif.is_some() => return Err(Refusal::not_required("timeInForce")),
        _ => {}
    }
    if kind == Kind::Market {
        if price.is_some() {
            return Err(Refusal::not_required("price"));
        }
        match (qty, quote_qty) {
            (None, None) => return Err(Refusal::missing_either("quantity", "quoteOrderQty")),
            (Some(_), Some(_)) => {
                return Err(Refusal::new(-1128, "Combination of optional parameters invalid."));
            }
            _ => {}
        }
    } else {
        qty.ok_or_else(|| Refusal::missing("quantity"))?;
        price.ok_or_else(|| Refusal::missing("price"))?;
        if quote_qty.is_some() {
            return Err(Refusal::not_required("quoteOrderQty"));
        }
    }
    Ok(())
}

/// Parses and validates an order, word by word.
fn new_order(exchange: &Exchange, params: &Params) -> Answer<(NewOrder, Option<Verbosity>)> {
    let symbol = symbol(exchange, params)?;
    let side =
        Side::parse(params.need("side")?).ok_or_else(|| Refusal::new(-1117, "Invalid side."))?;
    let kind = kind(params)?;
    let tif = match params.get("timeInForce") {
        Some(text) => {
            Some(Tif::parse(text).ok_or_else(|| Refusal::new(-1115, "Invalid timeInForce."))?)
        }
        None => None,
    };
    refuse_extras(params)?;
    let (qty, quote_qty) = (params.decimal("quantity")?, params.decimal("quoteOrderQty")?);
    let price = params.decimal("price")?;
    check_kind(kind, tif, price, qty, quote_qty)?;
    let stp = match params.get("selfTradePreventionMode") {
        None => Stp::ExpireMaker,
        Some(text) => Stp::parse(text).ok_or_else(|| {
            Refusal::new(
                -1013,
                "This symbol does not allow the specified self-trade prevention mode.",
            )
        })?,
    };
    let verbosity = match params.get("newOrderRespType") {
        None => None,
        Some(text) => {
            Some(Verbosity::parse(text).ok_or_else(|| Refusal::missing("newOrderRespType"))?)
        }
    };
    let label = |name: &str| -> Answer<Option<i64>> {
        Ok(params.long(name)?.map(|n| i64::try_from(n).unwrap_or(i64::MAX)))
    };
    let strategy_type = label("strategyType")?;
    if strategy_type.is_some_and(|kind| kind < 1_000_000) {
        return Err(Refusal::new(-1134, "`strategyType` was less than 1000000."));
    }
    let new = NewOrder {
        symbol,
        side,
        kind,
        tif: tif.unwrap_or(Tif::Gtc),
        price: price.unwrap_or(0),
        qty: qty.unwrap_or(0),
        quote_qty: quote_qty.unwrap_or(0),
        client_id: params.client_id("newClientOrderId")?,
        stp,
        strategy_id: label("strategyId")?,
        strategy_type,
    };
    Ok((new, verbosity))
}

fn test_place(exchange: &Exchange, account: usize, params: &Params) -> Answer<String> {
    let (new, _) = new_order(exchange, params)?;
    exchange.check(account, &new)?;
    if !params.flag("computeCommissionRates", false)? {
        return Ok("{}".to_owned());
    }
    Ok(Json::object(|j| commission_fields(j, exchange)))
}

fn commission_fields(j: &mut Json, exchange: &Exchange) {
    let (maker, taker) = exchange.fees_ppm();
    j.key("standardCommissionForOrder").obj(|j| {
        j.f_dec("maker", maker * 100).f_dec("taker", taker * 100);
    });
}

fn commission(exchange: &Exchange, params: &Params) -> Answer<String> {
    let listing = &exchange.listings[symbol(exchange, params)?];
    let (maker, taker) = exchange.fees_ppm();
    Ok(Json::object(|j| {
        j.f_text("symbol", &listing.rules.symbol);
        let zero = (0, 0);
        for (name, (maker, taker)) in [
            ("standardCommission", (maker * 100, taker * 100)),
            ("specialCommission", zero),
            ("taxCommission", zero),
        ] {
            j.key(name).obj(|j| {
                j.f_dec("maker", maker).f_dec("taker", taker).f_dec("buyer", 0).f_dec("seller", 0);
            });
        }
        j.key("discount").obj(|j| {
            j.f_flag("enabledForAccount", false)
                .f_flag("enabledForSymbol", false)
                .f_text("discountAsset", "BNB")
                .f_dec("discount", 0);
        });
    }))
}

/// The order that `orderId` or `origClientOrderId` names; with both, both must hold.
fn find_order<'a>(
    exchange: &'a Exchange,
    account: usize,
    symbol: usize,
    params: &Params,
) -> Answer<Option<&'a Order>> {
    let holder = &exchange.accounts[account];
    let client_id = params.get("origClientOrderId");
    let order = match (params.long("orderId")?, client_id) {
        (Some(id), None) => holder.order(id),
        (Some(id), Some(client_id)) => holder.order(id).filter(|o| o.client_id == client_id),
        (None, Some(client_id)) => holder.order_by_client_id(client_id),
        (None, None) => return Err(Refusal::missing_either("origClientOrderId", "orderId")),
    };
    Ok(order.filter(|o| o.asked.symbol == symbol))
}

fn cancel(exchange: &mut Exchange, account: usize, params: &Params, utc: UtcNs) -> Answer<String> {
    let symbol = symbol(exchange, params)?;
    let restriction = match params.get("cancelRestrictions") {
        None => None,
        Some("ONLY_NEW") => Some(Status::New),
        Some("ONLY_PARTIALLY_FILLED") => Some(Status::PartiallyFilled),
        Some(_) => return Err(Refusal::new(-1145, "Invalid cancelRestrictions")),
    };
    let cancel_id = params.client_id("newClientOrderId")?;
    let order = find_order(exchange, account, symbol, params)?
        .filter(|o| o.status.is_open())
        .ok_or_else(|| Refusal::cancel("Unknown order sent."))?;
    if restriction.is_some_and(|status| status != order.status) {
        return Err(Refusal::cancel("Order was not canceled due to cancel restrictions."));
    }
    let id = order.id;
    let (order, cancel_id) = exchange.cancel(account, id, cancel_id, utc)?;
    let mut json = Json::new();
    wire::canceled(&mut json, &exchange.listings[symbol], &order, &cancel_id);
    Ok(json.finish())
}

fn cancel_all(
    exchange: &mut Exchange,
    account: usize,
    params: &Params,
    utc: UtcNs,
) -> Answer<String> {
    let symbol = symbol(exchange, params)?;
    let open = exchange.accounts[account].open_orders();
    let ids: Vec<u64> = open.filter(|o| o.asked.symbol == symbol).map(|o| o.id).collect();
    if ids.is_empty() {
        return Err(Refusal::cancel("Unknown order sent."));
    }
    let mut json = Json::new();
    let mut canceled = Vec::with_capacity(ids.len());
    for id in ids {
        canceled.push(exchange.cancel(account, id, None, utc)?);
    }
    json.arr(|j| {
        for (order, cancel_id) in &canceled {
            wire::canceled(j, &exchange.listings[symbol], order, cancel_id);
        }
    });
    Ok(json.finish())
}

fn orders_json<'a>(exchange: &Exchange, orders: impl Iterator<Item = &'a Order>) -> String {
    Json::array(|j| {
        for order in orders {
            wire::order(j, &exchange.listings[order.asked.symbol], order);
        }
    })
}

fn time_range(params: &Params) -> Answer<(i64, i64)> {
    let at = |name: &str, default: i64| -> Answer<i64> {
        let time = params.long(name)?.map(|t| i64::try_from(t).unwrap_or(i64::MAX));
        Ok(time.unwrap_or(default))
    };
    Ok((at("startTime", i64::MIN)?, at("endTime", i64::MAX)?))
}

fn all_orders(exchange: &Exchange, account: usize, params: &Params) -> Answer<String> {
    let symbol = symbol(exchange, params)?;
    let limit = params.limit(500, 1_000)?;
    let from = params.long("orderId")?;
    let (start, end) = time_range(params)?;
    let matching =
        |o: &&Order| o.asked.symbol == symbol && (start..=end).contains(&o.time.as_millis());
    let holder = &exchange.accounts[account];
    if let Some(from) = from {
        return Ok(orders_json(exchange, holder.orders_from(from).filter(matching).take(limit)));
    }
    let mut newest: Vec<&Order> = holder.orders().rev().filter(matching).take(limit).collect();
    newest.reverse();
    Ok(orders_json(exchange, newest.into_iter()))
}

fn my_trades(exchange: &Exchange, account: usize, params: &Params) -> Answer<String> {
    let symbol = symbol(exchange, params)?;
    let limit = params.limit(500, 1_000)?;
    let (order, from) = (params.long("orderId")?, params.long("fromId")?);
    let (start, end) = time_range(params)?;
    let matching = |f: &&Fill| {
        f.symbol == symbol
            && order.is_none_or(|id| f.order_id == id)
            && from.is_none_or(|from| f.trade_id >= from)
            && (start..=end).contains(&f.time.as_millis())
    };
    let fills = exchange.accounts[account].fills();
    let chosen: Vec<&Fill> = if from.is_some() {
        fills.iter().filter(matching).take(limit).collect()
    } else {
        let mut newest: Vec<&Fill> = fills.iter().rev().filter(matching).take(limit).collect();
        newest.reverse();
        newest
    };
    Ok(Json::array(|j| chosen.iter().for_each(|fill| wire::my_trade(j, exchange, fill))))
}
