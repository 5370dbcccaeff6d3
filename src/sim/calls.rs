//! Which calls there are on REST and the WebSocket API, what they weigh, which parameters they take, who may make
//! them.

use super::market_calls;
use super::request::Params;

pub use super::private::Unsupported;

/// What a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are those of the venue's documentation")]
pub enum Call {
    Ping,
    Time,
    ExchangeInfo,
    Depth,
    Trades,
    HistoricalTrades,
    AggTrades,
    BlockTrades,
    Klines,
    UiKlines,
    AveragePrice,
    DayTicker,
    TradingDayTicker,
    RollingTicker,
    PriceTicker,
    BookTicker,
    ReferencePrice,
    ReferencePriceSource,
    ExecutionRules,
    Account,
    Place,
    TestPlace,
    QueryOrder,
    Cancel,
    OpenOrders,
    CancelAll,
    AllOrders,
    MyTrades,
    Commission,
    OrderCount,
    CancelReplace,
    PreventedMatches,
    MyFilters,
    Amend,
    Amendments,
    Allocations,
    OrderLists,
    OpenOrderLists,
    Unsupported(Unsupported),
    Logon,
    SessionStatus,
    Logout,
    Subscribe,
    SubscribeSignature,
    Unsubscribe,
    Subscriptions,
}

/// Who may make a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Anybody.
    Open,
    /// Who signs it, or whose session is logged on.
    Signed,
    /// Who signs it here and now.
    SignedHere,
    /// Whose session is logged on.
    Session,
}

/// One call: where it is and what it takes.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// Which call.
    pub call: Call,
    /// HTTP method and path below `/api/v3/`; empty for none.
    pub rest: (&'static str, &'static str),
    /// Method of the WebSocket API; empty for none.
    pub ws: &'static str,
    /// Who may make it.
    pub security: Security,
    /// Parameters beyond those of the signature; [`ANY`] for calls that read none of theirs.
    pub params: &'static [&'static str],
}

/// The parameters of calls that are refused whatever they say.
pub const ANY: &[&str] = &["*"];

const PLACE: &[&str] = &[
    "symbol",
    "side",
    "type",
    "timeInForce",
    "quantity",
    "quoteOrderQty",
    "price",
    "newClientOrderId",
    "strategyId",
    "strategyType",
    "stopPrice",
    "trailingDelta",
    "icebergQty",
    "newOrderRespType",
    "selfTradePreventionMode",
    "pegPriceType",
    "pegOffsetValue",
    "pegOffsetType",
];
const TEST_PLACE: &[&str] = &[
    "symbol",
    "side",
    "type",
    "timeInForce",
    "quantity",
    "quoteOrderQty",
    "price",
    "newClientOrderId",
    "strategyId",
    "strategyType",
    "stopPrice",
    "trailingDelta",
    "icebergQty",
    "newOrderRespType",
    "selfTradePreventionMode",
    "pegPriceType",
    "pegOffsetValue",
    "pegOffsetType",
    "computeCommissionRates",
];
const CANCEL_REPLACE: &[&str] = &[
    "symbol",
    "side",
    "type",
    "cancelReplaceMode",
    "timeInForce",
    "quantity",
    "quoteOrderQty",
    "price",
    "cancelNewClientOrderId",
    "cancelOrigClientOrderId",
    "cancelOrderId",
    "newClientOrderId",
    "strategyId",
    "strategyType",
    "stopPrice",
    "trailingDelta",
    "icebergQty",
    "newOrderRespType",
    "selfTradePreventionMode",
    "cancelRestrictions",
    "orderRateLimitExceededMode",
    "pegPriceType",
    "pegOffsetValue",
    "pegOffsetType",
];
const PREVENTED: &[&str] =
    &["symbol", "preventedMatchId", "orderId", "fromPreventedMatchId", "limit"];
const INFO: &[&str] = &["symbol", "symbols", "permissions", "showPermissionSets", "symbolStatus"];
const CANCEL: &[&str] =
    &["symbol", "orderId", "origClientOrderId", "newClientOrderId", "cancelRestrictions"];
const KLINES: &[&str] = &["symbol", "interval", "startTime", "endTime", "timeZone", "limit"];
const DAY_TICKER: &[&str] = &["symbol", "symbols", "type", "symbolStatus"];
const TICKER: &[&str] = &["symbol", "symbols", "symbolStatus"];
const HISTORY: &[&str] = &["symbol", "orderId", "startTime", "endTime", "limit"];
const MY_TRADES: &[&str] = &["symbol", "orderId", "startTime", "endTime", "fromId", "limit"];

const fn spec(
    call: Call,
    rest: (&'static str, &'static str),
    ws: &'static str,
    security: Security,
    params: &'static [&'static str],
) -> Spec {
    Spec { call, rest, ws, security, params }
}

const fn refused(what: Unsupported, rest: (&'static str, &'static str), ws: &'static str) -> Spec {
    spec(Call::Unsupported(what), rest, ws, Security::Signed, ANY)
}

/// Every call, once.
pub const SPECS: &[Spec] = &[
    spec(Call::Ping, ("GET", "ping"), "ping", Security::Open, &[]),
    spec(Call::Time, ("GET", "time"), "time", Security::Open, &[]),
    spec(Call::ExchangeInfo, ("GET", "exchangeInfo"), "exchangeInfo", Security::Open, INFO),
    spec(
        Call::Depth,
        ("GET", "depth"),
        "depth",
        Security::Open,
        &["symbol", "limit", "symbolStatus"],
    ),
    spec(Call::Trades, ("GET", "trades"), "trades.recent", Security::Open, &["symbol", "limit"]),
    spec(
        Call::HistoricalTrades,
        ("GET", "historicalTrades"),
        "trades.historical",
        Security::Open,
        &["symbol", "limit", "fromId"],
    ),
    spec(
        Call::AggTrades,
        ("GET", "aggTrades"),
        "trades.aggregate",
        Security::Open,
        &["symbol", "limit", "fromId", "startTime", "endTime"],
    ),
    spec(
        Call::BlockTrades,
        ("GET", "historicalBlockTrades"),
        "blockTrades.historical",
        Security::Open,
        &["symbol", "fromId", "limit"],
    ),
    spec(Call::Klines, ("GET", "klines"), "klines", Security::Open, KLINES),
    spec(Call::UiKlines, ("GET", "uiKlines"), "uiKlines", Security::Open, KLINES),
    spec(Call::AveragePrice, ("GET", "avgPrice"), "avgPrice", Security::Open, &["symbol"]),
    spec(Call::DayTicker, ("GET", "ticker/24hr"), "ticker.24hr", Security::Open, DAY_TICKER),
    spec(
        Call::TradingDayTicker,
        ("GET", "ticker/tradingDay"),
        "ticker.tradingDay",
        Security::Open,
        &["symbol", "symbols", "timeZone", "type", "symbolStatus"],
    ),
    spec(
        Call::RollingTicker,
        ("GET", "ticker"),
        "ticker",
        Security::Open,
        &["symbol", "symbols", "windowSize", "type", "symbolStatus"],
    ),
    spec(
        Call::ReferencePrice,
        ("GET", "referencePrice"),
        "referencePrice",
        Security::Open,
        &["symbol"],
    ),
    spec(
        Call::ReferencePriceSource,
        ("GET", "referencePrice/calculation"),
        "referencePrice.calculation",
        Security::Open,
        &["symbol", "symbolStatus"],
    ),
    spec(
        Call::ExecutionRules,
        ("GET", "executionRules"),
        "executionRules",
        Security::Open,
        &["symbol", "symbols", "symbolStatus"],
    ),
    spec(Call::PriceTicker, ("GET", "ticker/price"), "ticker.price", Security::Open, TICKER),
    spec(Call::BookTicker, ("GET", "ticker/bookTicker"), "ticker.book", Security::Open, TICKER),
    spec(
        Call::Account,
        ("GET", "account"),
        "account.status",
        Security::Signed,
        &["omitZeroBalances"],
    ),
    spec(Call::Place, ("POST", "order"), "order.place", Security::Signed, PLACE),
    spec(Call::TestPlace, ("POST", "order/test"), "order.test", Security::Signed, TEST_PLACE),
    spec(
        Call::QueryOrder,
        ("GET", "order"),
        "order.status",
        Security::Signed,
        &["symbol", "orderId", "origClientOrderId"],
    ),
    spec(Call::Cancel, ("DELETE", "order"), "order.cancel", Security::Signed, CANCEL),
    spec(
        Call::OpenOrders,
        ("GET", "openOrders"),
        "openOrders.status",
        Security::Signed,
        &["symbol"],
    ),
    spec(
        Call::CancelAll,
        ("DELETE", "openOrders"),
        "openOrders.cancelAll",
        Security::Signed,
        &["symbol"],
    ),
    spec(Call::AllOrders, ("GET", "allOrders"), "allOrders", Security::Signed, HISTORY),
    spec(Call::MyTrades, ("GET", "myTrades"), "myTrades", Security::Signed, MY_TRADES),
    spec(
        Call::Commission,
        ("GET", "account/commission"),
        "account.commission",
        Security::Signed,
        &["symbol"],
    ),
    spec(
        Call::OrderCount,
        ("GET", "rateLimit/order"),
        "account.rateLimits.orders",
        Security::Signed,
        &[],
    ),
    spec(
        Call::CancelReplace,
        ("POST", "order/cancelReplace"),
        "order.cancelReplace",
        Security::Signed,
        CANCEL_REPLACE,
    ),
    spec(
        Call::PreventedMatches,
        ("GET", "myPreventedMatches"),
        "myPreventedMatches",
        Security::Signed,
        PREVENTED,
    ),
    spec(Call::MyFilters, ("GET", "myFilters"), "myFilters", Security::Signed, &["symbol"]),
    refused(Unsupported::Oco, ("POST", "order/oco"), "orderList.place"),
    refused(Unsupported::Oco, ("POST", "orderList/oco"), "orderList.place.oco"),
    refused(Unsupported::Oto, ("POST", "orderList/oto"), "orderList.place.oto"),
    refused(Unsupported::Oto, ("POST", "orderList/otoco"), "orderList.place.otoco"),
    refused(Unsupported::Opo, ("POST", "orderList/opo"), "orderList.place.opo"),
    refused(Unsupported::Opo, ("POST", "orderList/opoco"), "orderList.place.opoco"),
    spec(
        Call::Unsupported(Unsupported::CancelList),
        ("DELETE", "orderList"),
        "orderList.cancel",
        Security::Signed,
        &["symbol", "orderListId", "listClientOrderId", "newClientOrderId"],
    ),
    spec(
        Call::Unsupported(Unsupported::QueryList),
        ("GET", "orderList"),
        "orderList.status",
        Security::Signed,
        &["orderListId", "origClientOrderId"],
    ),
    spec(
        Call::OpenOrderLists,
        ("GET", "openOrderList"),
        "openOrderLists.status",
        Security::Signed,
        &[],
    ),
    spec(
        Call::OrderLists,
        ("GET", "allOrderList"),
        "allOrderLists",
        Security::Signed,
        &["fromId", "startTime", "endTime", "limit"],
    ),
    refused(Unsupported::Sor, ("POST", "sor/order"), "sor.order.place"),
    refused(Unsupported::Sor, ("POST", "sor/order/test"), "sor.order.test"),
    spec(
        Call::Amend,
        ("PUT", "order/amend/keepPriority"),
        "order.amend.keepPriority",
        Security::Signed,
        &["symbol", "orderId", "origClientOrderId", "newClientOrderId", "newQty"],
    ),
    spec(
        Call::Amendments,
        ("GET", "order/amendments"),
        "order.amendments",
        Security::Signed,
        &["symbol", "orderId", "fromExecutionId", "limit"],
    ),
    spec(
        Call::Allocations,
        ("GET", "myAllocations"),
        "myAllocations",
        Security::Signed,
        &["symbol", "startTime", "endTime", "fromAllocationId", "limit", "orderId"],
    ),
    spec(Call::Logon, ("", ""), "session.logon", Security::SignedHere, &[]),
    spec(Call::SessionStatus, ("", ""), "session.status", Security::Open, &[]),
    spec(Call::Logout, ("", ""), "session.logout", Security::Open, &[]),
    spec(Call::Subscribe, ("", ""), "userDataStream.subscribe", Security::Session, &[]),
    spec(
        Call::SubscribeSignature,
        ("", ""),
        "userDataStream.subscribe.signature",
        Security::SignedHere,
        &[],
    ),
    spec(
        Call::Unsubscribe,
        ("", ""),
        "userDataStream.unsubscribe",
        Security::Open,
        &["subscriptionId"],
    ),
    spec(Call::Subscriptions, ("", ""), "session.subscriptions", Security::Open, &[]),
];

/// The call of a REST request; `path` is below `/api/v3/`.
pub fn rest_spec(method: &str, path: &str) -> Option<&'static Spec> {
    SPECS.iter().find(|spec| spec.rest == (method, path) && !path.is_empty())
}

/// The call of a WebSocket API method.
pub fn ws_spec(method: &str) -> Option<&'static Spec> {
    let method = method.strip_prefix("v3/").unwrap_or(method);
    SPECS.iter().find(|spec| spec.ws == method)
}

impl Call {
    /// Whether it weighs nothing when it succeeds; the documentation's change log of 2026-03-27.
    pub fn is_free_when_done(self) -> bool {
        matches!(self, Self::Place | Self::Cancel | Self::CancelAll | Self::CancelReplace)
    }
}

/// What a request weighs, by the documentation's tables.
pub fn weight(call: Call, params: &Params) -> u32 {
    let one_symbol = params.get("symbol").is_some();
    match call {
        Call::Ping
        | Call::Time
        | Call::Place
        | Call::CancelReplace
        | Call::Cancel
        | Call::CancelAll => 1,
        Call::TestPlace => {
            if params.get("computeCommissionRates").is_some_and(|v| v.eq_ignore_ascii_case("true"))
            {
                20
            } else {
                1
            }
        }
        Call::PreventedMatches => {
            if params.get("orderId").is_some() {
                20
            } else {
                2
            }
        }
        Call::Amend | Call::Amendments | Call::Unsupported(Unsupported::QueryList) => 4,
        Call::OpenOrderLists => 6,
        Call::Unsupported(_) => 1,
        Call::Account
        | Call::AllOrders
        | Call::Commission
        | Call::OrderLists
        | Call::Allocations => 20,
        Call::QueryOrder => 4,
        Call::OpenOrders => {
            if one_symbol {
                6
            } else {
                80
            }
        }
        Call::MyTrades => {
            if params.get("orderId").is_some() {
                5
            } else {
                20
            }
        }
        Call::OrderCount | Call::MyFilters => 40,
        Call::Logon
        | Call::SessionStatus
        | Call::Logout
        | Call::Subscribe
        | Call::SubscribeSignature
        | Call::Unsubscribe
        | Call::Subscriptions => 2,
        _ => market_calls::weight(call, params),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_is_found_by_its_names() {
        for spec in SPECS {
            if !spec.rest.1.is_empty() {
                assert_eq!(rest_spec(spec.rest.0, spec.rest.1).map(|s| s.call), Some(spec.call));
            }
            assert_eq!(ws_spec(spec.ws).map(|s| s.call), Some(spec.call));
        }
        assert!(rest_spec("GET", "nosuch").is_none() && rest_spec("GET", "").is_none());
    }
}
