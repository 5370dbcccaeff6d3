//! What each request does: orders and accounts. In: a call of an account with its parameters. Out: the JSON of the
//! answer, or the venue's refusal; what accounts are to be told lies in [`Exchange::reports`].

use crate::clock::UtcNs;

use super::amends;
use super::api::symbol;
use super::calls::Call;
use super::exchange::Exchange;
use super::history;
use super::info;
use super::json::{Json, TimeUnit, parse_decimal};
use super::order::{Kind, NewOrder, Order, Side, Status, Stp, Tif, Verbosity};
use super::refusal::{Answer, Refusal};
use super::request::Params;
use super::wire;

/// The refusal of a query whose two ids are not one order's; to cancel it is an order that nobody knows.
const WRONG_CLIENT_ID: i32 = -2039;

/// The deepest level that an order may be pegged to.
const PEG_LEVEL_MAX: u64 = 100;

/// Does a call of `account` that needs no connection.
///
/// # Errors
/// The venue's refusal.
pub fn execute(
    exchange: &mut Exchange,
    call: Call,
    account: usize,
    params: &Params,
    utc: UtcNs,
) -> Answer<String> {
    match call {
        Call::Account => account_status(exchange, account, params),
        Call::Place => {
            let (new, verbosity) = new_order(exchange, params)?;
            exchange.check_filters(account, &new)?;
            exchange.accounts[account].counts.check(&exchange.limits, utc)?;
            place(exchange, account, new, (verbosity, params.unit()), utc)
        }
        Call::TestPlace => test_place(exchange, account, params),
        Call::QueryOrder => {
            let symbol = symbol(exchange, params)?;
            let order = find_order(exchange, account, symbol, params, ORDER_IDS)?
                .ok_or_else(|| Refusal::new(-2013, "Order does not exist."))?;
            let mut json = Json::of(params.unit());
            wire::order(&mut json, &exchange.listings[symbol], order);
            Ok(json.finish())
        }
        Call::Cancel => {
            let symbol = symbol(exchange, params)?;
            let restriction = restriction(params)?;
            let cancel_id = params.client_id("newClientOrderId")?;
            let id = to_cancel(exchange, account, symbol, params, ORDER_IDS, restriction)?;
            cancel(exchange, account, id, cancel_id, (params.unit(), utc))
        }
        Call::Amend => amends::amend(exchange, account, params, utc),
        Call::Amendments => amends::amendments(exchange, account, params),
        Call::CancelAll => cancel_all(exchange, account, params, utc),
        Call::CancelReplace => cancel_replace(exchange, account, params, utc),
        Call::Commission => {
            let symbol = symbol(exchange, params)?;
            let fees = exchange.accounts[account].fees_ppm;
            Ok(Json::object(|j| wire::commission(j, &exchange.listings[symbol], fees)))
        }
        Call::OrderCount => {
            let counts = exchange.accounts[account].counts.at(utc);
            Ok(Json::array(|j| wire::order_limits(j, &exchange.limits, Some(counts))))
        }
        Call::MyFilters => {
            let symbol = symbol(exchange, params)?;
            Ok(info::my_filters(&exchange.listings[symbol]))
        }
        Call::Unsupported(refused) => refused.answer(exchange, params),
        _ => history::execute(exchange, call, account, params),
    }
}

/// What is documented and not traded here: orders in lists, orders routed to several books.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the venue's documentation")]
pub enum Unsupported {
    Oco,
    Oto,
    Opo,
    Sor,
    CancelList,
    QueryList,
}

impl Unsupported {
    fn answer(self, exchange: &Exchange, params: &Params) -> Answer<String> {
        let either = match self {
            Self::QueryList => Some("origClientOrderId"),
            Self::CancelList => Some("listClientOrderId"),
            _ => None,
        };
        if self != Self::QueryList {
            symbol(exchange, params)?;
        }
        if let Some(client_id) = either
            && params.long("orderListId")?.is_none()
            && params.get(client_id).is_none()
        {
            return Err(Refusal::missing_either(client_id, "orderListId"));
        }
        Err(match self {
            Self::Oco => Refusal::order("OCO orders are not supported for this symbol"),
            // The documentation has no words for this one; they are made like those of the other lists.
            Self::Oto => Refusal::order("OTO orders are not supported for this symbol"),
            Self::Opo => Refusal::order("OPO orders are not supported for this symbol."),
            Self::Sor => Refusal::new(-1020, "This operation is not supported."),
            Self::CancelList => Refusal::cancel("Unknown order sent."),
            Self::QueryList => Refusal::new(-2013, "Order does not exist."),
        })
    }
}

fn account_status(exchange: &Exchange, account: usize, params: &Params) -> Answer<String> {
    let omit_zero = params.flag("omitZeroBalances", false)?;
    let holder = &exchange.accounts[account];
    let (maker, taker) = holder.fees_ppm;
    Ok(params.unit().object(|j| {
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
            .f_time("updateTime", holder.update_time)
            .f_text("accountType", "SPOT");
        j.key("balances").arr(|j| {
            for (name, held) in exchange.assets.iter().zip(&holder.holdings) {
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

/// How much of an order others see at once; 0 for all.
fn iceberg(kind: Kind, tif: Option<Tif>, params: &Params) -> Answer<i64> {
    if params.get("icebergQty").and_then(parse_decimal) == Some(0) {
        return Ok(0);
    }
    let Some(part) = params.decimal("icebergQty")? else { return Ok(0) };
    if !kind.has_limit() {
        return Err(Refusal::not_required("icebergQty"));
    }
    if tif.is_some_and(|tif| tif != Tif::Gtc) {
        return Err(Refusal::new(-1014, "Unsupported order combination."));
    }
    Ok(part)
}

/// Pegged orders, which no symbol here allows: first what is wrong with them anywhere.
fn refuse_peg(kind: Kind, params: &Params) -> Answer<()> {
    let price = params.get("pegPriceType");
    let (offset, level) = (params.get("pegOffsetType"), params.long("pegOffsetValue")?);
    if price.is_none() && offset.is_none() && level.is_none() {
        return Ok(());
    }
    if price.is_some_and(|price| !matches!(price, "PRIMARY_PEG" | "MARKET_PEG")) {
        return Err(Refusal::new(-1210, "Invalid pegPriceType."));
    }
    if offset.is_some_and(|offset| offset != "PRICE_LEVEL") {
        return Err(Refusal::new(-1211, "Invalid pegOffsetType."));
    }
    if offset.is_some() != level.is_some() {
        let msg = "Combination of optional fields invalid. Recommendation: 'pegOffsetType' and \
                   'pegOffsetValue' must both be sent.";
        return Err(Refusal::new(-1128, msg));
    }
    if level.is_some_and(|level| level > PEG_LEVEL_MAX) {
        let msg = format!(
            "'pegOffsetValue' contains unexpected value. Cannot be greater than {PEG_LEVEL_MAX}."
        );
        return Err(Refusal::new(-1102, msg));
    }
    if price.is_none() {
        return Err(Refusal::combination());
    }
    if !kind.has_limit() {
        return Err(Refusal::order("This order type may not use pegged price."));
    }
    if kind == Kind::LimitMaker && price == Some("MARKET_PEG") {
        return Err(Refusal::order("This price peg cannot be used with this order type."));
    }
    Err(Refusal::order("Pegged orders are not supported for this symbol."))
}

fn refuse_extras(kind: Kind, params: &Params) -> Answer<()> {
    if params.long("trailingDelta")?.is_some() {
        if !kind.is_stop() {
            return Err(Refusal::not_required("trailingDelta"));
        }
        return Err(Refusal::order("Trailing stop orders are not supported for this symbol."));
    }
    refuse_peg(kind, params)
}

/// The numbers of an order: each present where its kind demands it, and absent where its kind does not take it.
struct Amounts {
    price: Option<i64>,
    stop_price: Option<i64>,
    qty: Option<i64>,
    quote_qty: Option<i64>,
}

fn amounts(kind: Kind, tif: Option<Tif>, params: &Params) -> Answer<Amounts> {
    let got = Amounts {
        qty: params.decimal("quantity")?,
        quote_qty: params.decimal("quoteOrderQty")?,
        price: params.decimal("price")?,
        stop_price: params.decimal("stopPrice")?,
    };
    if kind.takes_tif() && tif.is_none() {
        return Err(Refusal::missing("timeInForce"));
    }
    if kind == Kind::Market {
        match (got.qty, got.quote_qty) {
            (None, None) => return Err(Refusal::missing_either("quantity", "quoteOrderQty")),
            (Some(_), Some(_)) => return Err(Refusal::combination()),
            _ => {}
        }
    } else if got.qty.is_none() {
        return Err(Refusal::missing("quantity"));
    }
    if kind.has_limit() && got.price.is_none() {
        return Err(Refusal::missing("price"));
    }
    if kind.is_stop() && got.stop_price.is_none() {
        return Err(Refusal::missing_either("stopPrice", "trailingDelta"));
    }
    for (name, sent, taken) in [
        ("timeInForce", tif.is_some(), kind.takes_tif()),
        ("price", got.price.is_some(), kind.has_limit()),
        ("stopPrice", got.stop_price.is_some(), kind.is_stop()),
        ("quoteOrderQty", got.quote_qty.is_some(), kind == Kind::Market),
    ] {
        if sent && !taken {
            return Err(Refusal::not_required(name));
        }
    }
    Ok(got)
}

fn self_trade_prevention(params: &Params) -> Answer<Stp> {
    let Some(text) = params.get("selfTradePreventionMode") else { return Ok(Stp::ExpireMaker) };
    Stp::parse(text).ok_or_else(|| {
        Refusal::new(-1013, "This symbol does not allow the specified self-trade prevention mode.")
    })
}

/// Parses and validates an order, word by word.
fn new_order(exchange: &Exchange, params: &Params) -> Answer<(NewOrder, Option<Verbosity>)> {
    let symbol = symbol(exchange, params)?;
    let side =
        Side::parse(params.need("side")?).ok_or_else(|| Refusal::new(-1117, "Invalid side."))?;
    let kind = Kind::parse(params.need("type")?)
        .ok_or_else(|| Refusal::new(-1116, "Invalid orderType."))?;
    let tif = match params.get("timeInForce") {
        Some(text) => {
            Some(Tif::parse(text).ok_or_else(|| Refusal::new(-1115, "Invalid timeInForce."))?)
        }
        None => None,
    };
    refuse_extras(kind, params)?;
    let amounts = amounts(kind, tif, params)?;
    let iceberg_qty = iceberg(kind, tif, params)?;
    let stp = self_trade_prevention(params)?;
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
        price: amounts.price.unwrap_or(0),
        qty: amounts.qty.unwrap_or(0),
        stop_price: amounts.stop_price.unwrap_or(0),
        quote_qty: amounts.quote_qty.unwrap_or(0),
        iceberg_qty,
        client_id: params.client_id("newClientOrderId")?,
        stp,
        strategy_id: label("strategyId")?,
        strategy_type,
    };
    Ok((new, verbosity))
}

/// Places an order whose limits were checked, and counts it.
fn place(
    exchange: &mut Exchange,
    account: usize,
    new: NewOrder,
    (verbosity, unit): (Option<Verbosity>, TimeUnit),
    utc: UtcNs,
) -> Answer<String> {
    // Counted before it trades: its first fill takes it off the count again.
    let before = exchange.accounts[account].counts;
    exchange.accounts[account].counts.add(utc);
    let (id, fills) = match exchange.place(account, new, utc) {
        Ok(placed) => placed,
        Err(refusal) => {
            exchange.accounts[account].counts = before;
            return Err(refusal);
        }
    };
    let gone = || Refusal::new(-1000, "An unknown error occurred while processing the request.");
    let order = exchange.accounts[account].order(id).ok_or_else(gone)?;
    Ok(wire::placed(exchange, order, &fills, verbosity, unit))
}

fn test_place(exchange: &Exchange, account: usize, params: &Params) -> Answer<String> {
    let (new, _) = new_order(exchange, params)?;
    exchange.check_filters(account, &new)?;
    if !params.flag("computeCommissionRates", false)? {
        return Ok("{}".to_owned());
    }
    let fees = exchange.accounts[account].fees_ppm;
    Ok(Json::object(|j| wire::commission_of_order(j, fees)))
}

/// Names of the parameters that say which order is meant.
pub(super) type IdNames = (&'static str, &'static str);

pub(super) const ORDER_IDS: IdNames = ("orderId", "origClientOrderId");
const CANCEL_REPLACE_IDS: IdNames = ("cancelOrderId", "cancelOrigClientOrderId");

/// The order that is meant; with both ids, both must hold.
pub(super) fn find_order<'a>(
    exchange: &'a Exchange,
    account: usize,
    symbol: usize,
    params: &Params,
    names: IdNames,
) -> Answer<Option<&'a Order>> {
    let holder = &exchange.accounts[account];
    let client_id = params.get(names.1);
    let order = match (params.long(names.0)?, client_id) {
        (Some(id), None) => holder.order(id),
        (Some(id), Some(client_id)) => {
            let order = holder.order(id).filter(|o| o.asked.symbol == symbol);
            if order.is_some_and(|o| o.client_id != client_id) {
                let msg = "Client order ID is not correct for this order ID.";
                return Err(Refusal::new(WRONG_CLIENT_ID, msg));
            }
            order
        }
        (None, Some(client_id)) => holder.order_by_client_id(client_id),
        (None, None) => return Err(Refusal::missing_either(names.1, names.0)),
    };
    Ok(order.filter(|o| o.asked.symbol == symbol))
}

fn restriction(params: &Params) -> Answer<Option<Status>> {
    match params.get("cancelRestrictions") {
        None => Ok(None),
        Some("ONLY_NEW") => Ok(Some(Status::New)),
        Some("ONLY_PARTIALLY_FILLED") => Ok(Some(Status::PartiallyFilled)),
        Some(_) => Err(Refusal::new(-1145, "Invalid cancelRestrictions")),
    }
}

/// The open order that is to be cancelled.
fn to_cancel(
    exchange: &Exchange,
    account: usize,
    symbol: usize,
    params: &Params,
    names: IdNames,
    restriction: Option<Status>,
) -> Answer<u64> {
    let unknown = || Refusal::cancel("Unknown order sent.");
    let order = find_order(exchange, account, symbol, params, names)
        .map_err(|refusal| if refusal.code == WRONG_CLIENT_ID { unknown() } else { refusal })?
        .filter(|o| o.status.is_open())
        .ok_or_else(unknown)?;
    if restriction.is_some_and(|status| status != order.status) {
        return Err(Refusal::cancel("Order was not canceled due to cancel restrictions."));
    }
    Ok(order.id)
}

fn cancel(
    exchange: &mut Exchange,
    account: usize,
    id: u64,
    cancel_id: Option<String>,
    (unit, utc): (TimeUnit, UtcNs),
) -> Answer<String> {
    let (order, cancel_id) = exchange.cancel(account, id, cancel_id, utc)?;
    let mut json = Json::of(unit);
    wire::canceled(&mut json, &exchange.listings[order.asked.symbol], &order, &cancel_id);
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
    let mut canceled = Vec::with_capacity(ids.len());
    for id in ids {
        canceled.push(exchange.cancel(account, id, None, utc)?);
    }
    Ok(params.unit().array(|j| {
        for (order, cancel_id) in &canceled {
            wire::canceled(j, &exchange.listings[symbol], order, cancel_id);
        }
    }))
}

/// One of two words; `default` when it was not sent.
fn either(params: &Params, name: &str, words: [&str; 2], default: Option<bool>) -> Answer<bool> {
    match params.get(name) {
        None => default.ok_or_else(|| Refusal::missing(name)),
        Some(text) if text == words[0] => Ok(true),
        Some(text) if text == words[1] => Ok(false),
        Some(_) => Err(Refusal::invalid(name)),
    }
}

/// Cancels an order and places another; the filters and the order count are evaluated before both.
fn cancel_replace(
    exchange: &mut Exchange,
    account: usize,
    params: &Params,
    utc: UtcNs,
) -> Answer<String> {
    let modes = ["STOP_ON_FAILURE", "ALLOW_FAILURE"];
    let stop_on_failure = either(params, "cancelReplaceMode", modes, None)?;
    let exceeded = ["DO_NOTHING", "CANCEL_ONLY"];
    let do_nothing = either(params, "orderRateLimitExceededMode", exceeded, Some(true))?;
    let (new, verbosity) = new_order(exchange, params)?;
    let restriction = restriction(params)?;
    let cancel_id = params.client_id("cancelNewClientOrderId")?;
    if params.get(CANCEL_REPLACE_IDS.0).is_none() && params.get(CANCEL_REPLACE_IDS.1).is_none() {
        return Err(Refusal::missing_either(CANCEL_REPLACE_IDS.1, CANCEL_REPLACE_IDS.0));
    }
    exchange.check_filters(account, &new)?;
    let within = exchange.accounts[account].counts.check(&exchange.limits, utc);
    if let (Err(refusal), true) = (&within, do_nothing) {
        return Err(refusal.clone());
    }
    let canceled =
        to_cancel(exchange, account, new.symbol, params, CANCEL_REPLACE_IDS, restriction)
            .and_then(|id| cancel(exchange, account, id, cancel_id, (params.unit(), utc)));
    let exceeds = within.is_err();
    let placed = if canceled.is_err() && stop_on_failure {
        // A new order that was not attempted counts all the same.
        exchange.accounts[account].counts.add(utc);
        None
    } else {
        let words = (verbosity, params.unit());
        Some(within.and_then(|()| place(exchange, account, new, words, utc)))
    };
    cancel_replaced(&canceled, placed.as_ref(), exceeds && stop_on_failure)
}

/// The answer to a cancel-replace, by the documentation's table of outcomes.
fn cancel_replaced(
    canceled: &Answer<String>,
    placed: Option<&Answer<String>>,
    too_many: bool,
) -> Answer<String> {
    let word = |ok: bool| if ok { "SUCCESS" } else { "FAILURE" };
    let body = |answer: &Answer<String>| match answer {
        Ok(json) => json.clone(),
        Err(refusal) => wire::error(refusal),
    };
    let both = Json::object(|j| {
        j.f_text("cancelResult", word(canceled.is_ok()))
            .f_text("newOrderResult", placed.map_or("NOT_ATTEMPTED", |p| word(p.is_ok())))
            .f_raw("cancelResponse", &body(canceled))
            .f_raw("newOrderResponse", &placed.map_or("null".to_owned(), body));
    });
    let placed_ok = placed.is_some_and(Result::is_ok);
    let mut refusal = match (canceled.is_ok(), placed_ok) {
        (true, true) => return Ok(both),
        (false, false) => Refusal::new(-2022, "Order cancel-replace failed."),
        _ => {
            let partial = Refusal::new(-2021, "Order cancel-replace partially failed.");
            Refusal { status: 409, ..partial }
        }
    };
    if too_many {
        refusal.status = 429;
        refusal.retry_after_ms =
            placed.and_then(|p| p.as_ref().err()).and_then(|r| r.retry_after_ms);
    }
    refusal.data = Some(both);
    Err(refusal)
}
