//! Which calls there are on REST and the WebSocket API, what they weigh, which parameters they take, who may make
//! them, and how much of the limits has been used.

use crate::clock::UtcNs;

use super::market_calls;
use super::refusal::{Answer, Refusal};
use super::request::Params;
use super::wire;

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
    /// Parameters beyond those of the signature.
    pub params: &'static [&'static str],
}

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

/// What a request weighs, by the documentation's tables.
pub fn weight(call: Call, params: &Params) -> u32 {
    let one_symbol = params.get("symbol").is_some();
    match call {
        Call::Ping
        | Call::Time
        | Call::Place
        | Call::TestPlace
        | Call::Cancel
        | Call::CancelAll => 1,
        Call::Account | Call::AllOrders | Call::Commission => 20,
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
        Call::OrderCount => 40,
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

/// Weight and orders used in the present windows.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    minute: i64,
    weight: u32,
    /// Per account: window of ten seconds and its count, day and its count.
    orders: Vec<(i64, u32, i64, u32)>,
}

impl Usage {
    /// Nothing used yet by so many accounts.
    pub fn new(accounts: usize) -> Self {
        Self { orders: vec![(0, 0, 0, 0); accounts], ..Self::default() }
    }

    /// The weight used in the present minute.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Counts a request.
    ///
    /// # Errors
    /// `429` beyond the limit.
    pub fn weigh(&mut self, weight: u32, utc: UtcNs) -> Answer<()> {
        let minute = utc.as_millis().div_euclid(60_000);
        if minute != self.minute {
            (self.minute, self.weight) = (minute, 0);
        }
        self.weight = self.weight.saturating_add(weight);
        if self.weight > wire::WEIGHT_LIMIT {
            let msg = format!(
                "Too much request weight used; current limit is {} request weight per 1 MINUTE. \
                 Please use WebSocket Streams for live updates to avoid polling the API.",
                wire::WEIGHT_LIMIT
            );
            return Err(Refusal { status: 429, code: -1003, msg });
        }
        Ok(())
    }

    /// Seconds until the minute is over.
    pub fn retry_after_s(&self, utc: UtcNs) -> i64 {
        60 - utc.as_millis().rem_euclid(60_000) / 1_000
    }

    /// Counts an order.
    pub fn count_order(&mut self, account: usize, utc: UtcNs) {
        let (ten, day) =
            (utc.as_millis().div_euclid(10_000), utc.as_millis().div_euclid(86_400_000));
        let Some(count) = self.orders.get_mut(account) else { return };
        if count.0 != ten {
            (count.0, count.1) = (ten, 0);
        }
        if count.2 != day {
            (count.2, count.3) = (day, 0);
        }
        count.1 += 1;
        count.3 += 1;
    }

    /// Orders of an account: in ten seconds, in a day.
    pub fn orders(&self, account: usize) -> (u32, u32) {
        self.orders.get(account).map_or((0, 0), |count| (count.1, count.3))
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
