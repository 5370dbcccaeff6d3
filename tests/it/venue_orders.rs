//! Proves the venue's orders and accounts: stop orders, cancel-replace, self-trade prevention, filters, limits and
//! history as documented; money conserved over random order flow; no panic on any parameters.

use pindrop::clock::UtcNs;
use pindrop::sim::api;
use pindrop::sim::calls::SPECS;
use pindrop::sim::exchange::{Exchange, Exec, Report};
use pindrop::sim::limits::RateLimits;
use pindrop::sim::order::{Kind, Side, Status};
use pindrop::sim::request::Params;
use pindrop::sim::settings::VenueSettings;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::venue::{LIMIT_BUY, World, still};

const UTC: UtcNs = UtcNs::from_millis(1_700_000_000_000);
const ONE: i64 = 100_000_000;
const TICK: i64 = 1_000_000;
const LOT: i64 = 1_000;
const MID: i64 = 60_000 * ONE;

// --- one exchange, without a wire ----------------------------------------------------------------------------------

pub(super) struct Bench {
    pub(super) exchange: Exchange,
    utc: UtcNs,
}

impl Bench {
    pub(super) fn new() -> Self {
        Self::of(&still())
    }

    pub(super) fn of(settings: &VenueSettings) -> Self {
        Self { exchange: Exchange::new(settings, 1), utc: UTC }
    }

    /// Does a call of an account by its WebSocket API name.
    fn call(&mut self, account: usize, method: &str, query: &str) -> Result<Value, Value> {
        let spec = SPECS.iter().find(|s| s.ws == method).expect("a call");
        let params = Params::from_form(query, "").expect("parameters");
        let done = params.check_known(spec, true).and_then(|()| {
            api::execute(&mut self.exchange, spec.call, Some(account), &params, self.utc)
        });
        match done {
            Ok(body) => Ok(serde_json::from_str(&body).expect("JSON")),
            Err(refusal) => {
                let body = pindrop::sim::wire::error(&refusal);
                let mut body: Value = serde_json::from_str(&body).expect("JSON");
                body["status"] = refusal.status.into();
                Err(body)
            }
        }
    }

    pub(super) fn ok(&mut self, account: usize, method: &str, query: &str) -> Value {
        self.call(account, method, query).unwrap_or_else(|e| panic!("{method} {query}: {e}"))
    }

    #[track_caller]
    pub(super) fn code(&mut self, method: &str, query: &str, code: i64, msg: &str) {
        let refused = self.call(0, method, query).expect_err("refused");
        assert_eq!(
            (&refused["code"], &refused["msg"]),
            (&json!(code), &json!(msg)),
            "{method} {query}"
        );
    }

    /// What an account was told of its orders since the last call: execution, status, expiry reason.
    fn told(&mut self) -> Vec<(&'static str, Status, Option<&'static str>)> {
        let word = |exec: &Exec| match exec {
            Exec::New => "NEW",
            Exec::Trade { .. } => "TRADE",
            Exec::Canceled => "CANCELED",
            Exec::Replaced => "REPLACED",
            Exec::Expired => "EXPIRED",
            Exec::Prevented { .. } => "TRADE_PREVENTION",
        };
        let reports = std::mem::take(&mut self.exchange.reports);
        let mut told = Vec::new();
        for report in &reports {
            if let Report::Execution { order, exec, .. } = report {
                told.push((word(exec), order.status, order.expiry));
            }
        }
        told
    }

    /// Somebody trades at `price`.
    fn trade_at(&mut self, price: i64) {
        let text = pindrop::sim::json::decimal(price);
        let order = format!("symbol=BTCUSDT&type=LIMIT&timeInForce=GTC&quantity=0.01&price={text}");
        self.ok(1, "order.place", &format!("{order}&side=SELL"));
        self.ok(1, "order.place", &format!("{order}&side=BUY&selfTradePreventionMode=NONE"));
    }
}

fn stop(kind: &str, side: &str, stop: &str) -> String {
    let limit = if kind.ends_with("LIMIT") { "&timeInForce=GTC&price=60000" } else { "" };
    format!("symbol=BTCUSDT&side={side}&type={kind}&quantity=0.01&stopPrice={stop}{limit}")
}

#[track_caller]
fn triggers(kind: &str, side: &str, at: &str, not_at: i64, by: i64) {
    let mut bench = Bench::new();
    bench.trade_at(MID);
    let placed =
        bench.ok(0, "order.place", &format!("{}&newOrderRespType=FULL", stop(kind, side, at)));
    assert_eq!(
        (&placed["status"], &placed["workingTime"]),
        (&json!("NEW"), &json!(-1)),
        "{placed}"
    );
    bench.trade_at(MID + not_at * ONE);
    let waiting = bench.ok(0, "openOrders.status", "");
    assert_eq!(waiting[0]["isWorking"], false, "{waiting}");
    bench.exchange.reports.clear();
    bench.trade_at(MID + by * ONE);
    let id = placed["orderId"].as_u64().expect("an id");
    let order = bench.exchange.accounts[0].order(id).cloned().expect("remembered");
    assert!(order.working_time.is_some(), "{kind} {side} triggered");
    let told = bench.told();
    let expect = if kind.ends_with("LIMIT") { Status::New } else { Status::Expired };
    assert_eq!(order.status, expect, "{told:?}");
    check_money(&bench.exchange);
}

#[test]
fn stops_wait_for_their_price() {
    triggers("STOP_LOSS", "BUY", "60100", 99, 100);
    triggers("STOP_LOSS", "SELL", "59900", -99, -100);
    triggers("TAKE_PROFIT", "SELL", "60100", 99, 101);
    triggers("TAKE_PROFIT", "BUY", "59900", -99, -101);
    triggers("STOP_LOSS_LIMIT", "BUY", "60100", 99, 100);
    triggers("TAKE_PROFIT_LIMIT", "SELL", "60100", 99, 100);
}

#[test]
fn a_triggered_stop_trades_and_a_poor_one_is_rejected() {
    let mut bench = Bench::new();
    bench.trade_at(MID);
    bench.ok(0, "order.place", &stop("STOP_LOSS", "BUY", "60100"));
    bench.ok(
        1,
        "order.place",
        "symbol=BTCUSDT&side=SELL&type=LIMIT_MAKER&quantity=0.02&price=60200",
    );
    bench.told();
    bench.trade_at(MID + 100 * ONE);
    assert_eq!(
        bench.told()[4..],
        [
            ("NEW", Status::New, None),
            ("TRADE", Status::Filled, None),
            ("TRADE", Status::PartiallyFilled, None)
        ]
    );
    bench.ok(0, "order.place", &LIMIT_BUY.replace("0.01", "180"));
    let free = bench.exchange.accounts[0].holdings[1].free;
    let qty = free * i128::from(ONE) / i128::from(60_300 * ONE) / i128::from(LOT) * i128::from(LOT);
    let qty = i64::try_from(qty).expect("small");
    let text = pindrop::sim::json::decimal(qty);
    bench.ok(
        0,
        "order.place",
        &format!("symbol=BTCUSDT&side=BUY&type=STOP_LOSS&quantity={text}&stopPrice=60300"),
    );
    bench.ok(
        1,
        "order.place",
        "symbol=BTCUSDT&side=SELL&type=LIMIT&timeInForce=GTC&quantity=90&price=61000",
    );
    bench.told();
    bench.exchange.market_takes(0, Side::Buy, 60_200 * ONE, 2_000_000, UTC);
    bench.trade_at(MID + 300 * ONE);
    let told = bench.told();
    assert!(told.contains(&("EXPIRED", Status::Expired, Some("REJECTED"))), "{told:?}");
    check_money(&bench.exchange);
}

#[test]
fn orders_are_validated_word_by_word() {
    let mut bench = Bench::new();
    bench.trade_at(MID);
    let missing = |name: &str| {
        format!("Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    };
    let place = "order.place";
    let base = "symbol=BTCUSDT&side=BUY";
    bench.code(
        place,
        &format!("{base}&type=STOP_LOSS&quantity=1"),
        -1102,
        "Param 'stopPrice' or 'trailingDelta' must be sent, but both were empty/null!",
    );
    bench.code(
        place,
        &format!("{base}&type=STOP_LOSS_LIMIT&quantity=1&stopPrice=61000&price=1"),
        -1102,
        &missing("timeInForce"),
    );
    bench.code(
        place,
        &format!("{base}&type=TAKE_PROFIT_LIMIT&timeInForce=GTC&quantity=1&stopPrice=61000"),
        -1102,
        &missing("price"),
    );
    bench.code(
        place,
        &format!("{base}&type=STOP_LOSS&quantity=1&stopPrice=61000&price=61000"),
        -1106,
        "Parameter 'price' sent when not required.",
    );
    bench.code(
        place,
        &format!("{base}&type=MARKET&quantity=1&stopPrice=61000"),
        -1106,
        "Parameter 'stopPrice' sent when not required.",
    );
    bench.code(
        place,
        &format!("{base}&type=MARKET"),
        -1102,
        "Param 'quantity' or 'quoteOrderQty' must be sent, but both were empty/null!",
    );
}

#[test]
fn what_is_not_traded_is_refused_by_name() {
    let mut bench = Bench::new();
    bench.trade_at(MID);
    let (place, base) = ("order.place", "symbol=BTCUSDT&side=BUY");
    bench.code(
        place,
        &stop("STOP_LOSS", "BUY", "60000"),
        -2010,
        "Order would trigger immediately.",
    );
    bench.code(
        place,
        &stop("TAKE_PROFIT", "BUY", "60001"),
        -2010,
        "Order would trigger immediately.",
    );
    bench.code(
        place,
        &format!("{base}&type=STOP_LOSS&quantity=1&trailingDelta=100"),
        -2010,
        "Trailing stop orders are not supported for this symbol.",
    );
    bench.code(
        place,
        &format!("{LIMIT_BUY}&pegPriceType=PRIMARY_PEG"),
        -2010,
        "Pegged orders are not supported for this symbol.",
    );
    bench.code(
        place,
        &format!("{LIMIT_BUY}&strategyType=5"),
        -1134,
        "`strategyType` was less than 1000000.",
    );
    bench.code(
        place,
        &format!("{LIMIT_BUY}&newClientOrderId="),
        -1118,
        "New client order ID was empty.",
    );
    bench.code(
        place,
        &format!("{LIMIT_BUY}&strategyId="),
        -1105,
        "Parameter 'strategyId' was empty.",
    );
    bench.code("orderList.place.oco", base, -2010, "OCO orders are not supported for this symbol");
    bench.code("sor.order.place", base, -1020, "This operation is not supported.");
    assert_eq!(bench.ok(0, "allOrderLists", ""), json!([]));
}

#[test]
fn filters_refuse_by_name() {
    let mut bench = Bench::new();
    bench.trade_at(MID);
    let order = |from: &str, to: &str| LIMIT_BUY.replace(from, to);
    let place = "order.place";
    bench.code(place, &order("50000", "50000.001"), -1013, "Filter failure: PRICE_FILTER");
    bench.code(place, &order("50000", "300000.01"), -1013, "Filter failure: PERCENT_PRICE_BY_SIDE");
    bench.code(place, &order("50000", "11999.99"), -1013, "Filter failure: PERCENT_PRICE_BY_SIDE");
    bench.code(place, &order("0.01", "0.000015"), -1013, "Filter failure: LOT_SIZE");
    bench.code(place, &order("0.01", "0.00005"), -1013, "Filter failure: NOTIONAL");
    bench.code(
        place,
        &order("0.01", "8999").replace("50000", "200000"),
        -1013,
        "Filter failure: NOTIONAL",
    );
    bench.code(
        place,
        "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=901",
        -1013,
        "Filter failure: MARKET_LOT_SIZE",
    );
    for _ in 0..5 {
        bench.ok(0, place, &stop("STOP_LOSS_LIMIT", "BUY", "60100"));
    }
    bench.code(
        place,
        &stop("STOP_LOSS_LIMIT", "BUY", "60100"),
        -1013,
        "Filter failure: MAX_NUM_ALGO_ORDERS",
    );
    bench.exchange.limits.orders_per_10s = 1_000;
    for _ in 0..195 {
        bench.ok(0, place, &LIMIT_BUY.replace("0.01", "0.001"));
    }
    bench.code("order.test", LIMIT_BUY, -1013, "Filter failure: MAX_NUM_ORDERS");
    bench.ok(0, "openOrders.cancelAll", "symbol=BTCUSDT");
    assert_eq!(bench.ok(0, "order.test", LIMIT_BUY), json!({}));
    check_money(&bench.exchange);
}

#[test]
fn cancel_replace_answers_by_the_table() {
    let mut bench = Bench::new();
    bench.trade_at(MID);
    let method = "order.cancelReplace";
    let id = bench.ok(0, "order.place", LIMIT_BUY)["orderId"].to_string();
    let both = |mode: &str, id: &str, order: &str| {
        format!("{order}&cancelReplaceMode={mode}&cancelOrderId={id}")
    };
    let done = bench.ok(0, method, &both("STOP_ON_FAILURE", &id, LIMIT_BUY));
    assert_eq!(
        (&done["cancelResult"], &done["newOrderResult"]),
        (&json!("SUCCESS"), &json!("SUCCESS"))
    );
    assert_eq!(done["cancelResponse"]["status"], "CANCELED");
    let next = done["newOrderResponse"]["orderId"].to_string();
    let maker = "symbol=BTCUSDT&side=BUY&type=LIMIT_MAKER&quantity=0.01&price=61000";
    bench.ok(
        1,
        "order.place",
        "symbol=BTCUSDT&side=SELL&type=LIMIT&timeInForce=GTC&quantity=1&price=60500",
    );
    let cases = [
        ("STOP_ON_FAILURE", "99", LIMIT_BUY, 400, -2022, "FAILURE", "NOT_ATTEMPTED"),
        ("ALLOW_FAILURE", "99", maker, 400, -2022, "FAILURE", "FAILURE"),
        ("ALLOW_FAILURE", "99", LIMIT_BUY, 409, -2021, "FAILURE", "SUCCESS"),
        ("STOP_ON_FAILURE", &next, maker, 409, -2021, "SUCCESS", "FAILURE"),
    ];
    for (mode, id, order, status, code, canceled, placed) in cases {
        let got = bench.call(0, method, &both(mode, id, order)).expect_err("not both");
        assert_eq!((&got["status"], &got["code"]), (&json!(status), &json!(code)), "{mode}: {got}");
        let data = &got["data"];
        assert_eq!(
            (&data["cancelResult"], &data["newOrderResult"]),
            (&json!(canceled), &json!(placed))
        );
        assert_eq!(data["newOrderResponse"].is_null(), placed == "NOT_ATTEMPTED", "{data}");
    }
    bench.code(
        method,
        &both("MAYBE", "1", LIMIT_BUY),
        -1130,
        "Data sent for parameter 'cancelReplaceMode' is not valid.",
    );
    let restricted = both("STOP_ON_FAILURE", "99", LIMIT_BUY) + "&cancelRestrictions=ONLY_OLD";
    bench.code(method, &restricted, -1145, "Invalid cancelRestrictions");
    check_money(&bench.exchange);
}

#[test]
fn too_many_unfilled_orders_are_refused() {
    let mut bench = Bench::new();
    bench.exchange.limits = RateLimits { orders_per_10s: 2, ..RateLimits::default() };
    bench.exchange.accounts[1].counts = Default::default();
    let id = bench.ok(0, "order.place", LIMIT_BUY)["orderId"].to_string();
    bench.ok(0, "order.place", LIMIT_BUY);
    let words = "Too many new orders; current limit is 2 orders per 10 SECOND.";
    bench.code("order.place", LIMIT_BUY, -1015, words);
    let replace = format!("{LIMIT_BUY}&cancelReplaceMode=STOP_ON_FAILURE&cancelOrderId={id}");
    bench.code("order.cancelReplace", &replace, -1015, words);
    let only = format!("{replace}&orderRateLimitExceededMode=CANCEL_ONLY");
    let got = bench.call(0, "order.cancelReplace", &only).expect_err("too many");
    assert_eq!((&got["status"], &got["code"]), (&json!(429), &json!(-2021)), "{got}");
    assert_eq!(got["data"]["newOrderResponse"]["code"], -1015);
    // The resting one is filled: five fewer.
    bench.exchange.market_takes(0, Side::Sell, 50_000 * ONE, LOT, UTC);
    assert_eq!(bench.ok(0, "account.rateLimits.orders", "")[0]["count"], 0);
}

#[track_caller]
fn self_trade(mode: &str, told: &[(&'static str, Status)], matches: &Value) {
    let mut bench = Bench::new();
    bench.ok(
        0,
        "order.place",
        "symbol=BTCUSDT&side=SELL&type=LIMIT&timeInForce=GTC&quantity=0.02&price=60000",
    );
    bench.told();
    let order = "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC&quantity=0.03&price=60000";
    bench.ok(0, "order.place", &format!("{order}&selfTradePreventionMode={mode}"));
    let got: Vec<(&str, Status)> = bench.told().iter().skip(1).map(|t| (t.0, t.1)).collect();
    assert_eq!(got, told, "{mode}");
    let all = bench.ok(0, "myPreventedMatches", "symbol=BTCUSDT&orderId=2");
    let pick = |name: &str| all[0].get(name).cloned().unwrap_or(Value::Null);
    assert_eq!(
        json!([pick("takerPreventedQuantity"), pick("makerPreventedQuantity")]),
        *matches,
        "{mode}"
    );
    check_money(&bench.exchange);
}

#[test]
fn self_trades_are_prevented_by_mode() {
    let gone = ("TRADE_PREVENTION", Status::ExpiredInMatch);
    self_trade("EXPIRE_MAKER", &[gone], &json!([null, "0.02000000"]));
    self_trade("EXPIRE_TAKER", &[gone], &json!(["0.03000000", null]));
    self_trade("EXPIRE_BOTH", &[gone, gone], &json!(["0.03000000", "0.02000000"]));
    self_trade(
        "DECREMENT",
        &[gone, ("TRADE_PREVENTION", Status::New)],
        &json!(["0.02000000", "0.02000000"]),
    );
    self_trade(
        "NONE",
        &[("TRADE", Status::PartiallyFilled), ("TRADE", Status::Filled)],
        &json!([null, null]),
    );
}

#[test]
fn history_is_asked_in_documented_combinations() {
    let mut bench = Bench::new();
    for n in 0..3 {
        bench.utc = UtcNs::from_millis(UTC.as_millis() + n * 1_000);
        bench.ok(
            1,
            "order.place",
            "symbol=BTCUSDT&side=SELL&type=LIMIT&timeInForce=GTC&quantity=0.01&price=60000",
        );
        bench.ok(0, "order.place", &LIMIT_BUY.replace("50000", "60000"));
    }
    let start = UTC.as_millis();
    let mut count = |method: &str, query: &str| {
        let got = bench.ok(0, method, &format!("symbol=BTCUSDT{query}"));
        got.as_array().map_or(0, Vec::len)
    };
    assert_eq!(count("myTrades", ""), 3);
    assert_eq!(count("myTrades", "&orderId=4"), 1);
    assert_eq!(count("myTrades", "&fromId=2"), 2);
    assert_eq!(count("myTrades", "&orderId=4&fromId=3"), 0);
    assert_eq!(count("myTrades", "&limit=2"), 2);
    assert_eq!(count("myTrades", &format!("&startTime={}", start + 1)), 2);
    assert_eq!(count("myTrades", &format!("&startTime={start}&endTime={}", start + 1_000)), 2);
    assert_eq!(count("allOrders", "&orderId=4"), 2);
    assert_eq!(count("allOrders", &format!("&endTime={start}")), 1);
    let words = "Combination of optional parameters invalid.";
    bench.code("myTrades", "symbol=BTCUSDT&orderId=4&startTime=1", -1128, words);
    bench.code("myTrades", "symbol=BTCUSDT&fromId=4&endTime=1", -1128, words);
    bench.code("myPreventedMatches", "symbol=BTCUSDT", -1128, words);
    bench.code(
        "allOrders",
        "symbol=BTCUSDT&startTime=1&endTime=86400002",
        -1127,
        "More than 24 hours between startTime and endTime.",
    );
    bench.code(
        "order.status",
        "symbol=BTCUSDT&orderId=2&origClientOrderId=x",
        -2039,
        "Client order ID is not correct for this order ID.",
    );
    let rates = bench.ok(0, "order.test", &format!("{LIMIT_BUY}&computeCommissionRates=true"));
    assert_eq!(rates["standardCommissionForOrder"]["taker"], "0.00100000");
}

// --- the wire ------------------------------------------------------------------------------------------------------

#[test]
fn weight_limits_reach_both_transports() {
    let limits = RateLimits { weight_per_minute: 40, ..RateLimits::default() };
    let mut world = World::new(&VenueSettings { limits, ..still() });
    let mut ws = world.ws("/ws-api/v3");
    // The connection weighed two.
    for _ in 0..38 {
        world.get("/api/v3/ping");
    }
    let (status, head, body) = world.http("GET", "/api/v3/ping", "", "");
    assert_eq!((status, &body["code"]), (429, &json!(-1003)), "{body}");
    assert!(head.contains("retry-after: "), "{head}");
    for _ in 0..19 {
        world.http("GET", "/api/v3/ping", "", "");
    }
    let got = world.ask(&mut ws, &json!({"id": 1, "method": "ping"}));
    assert_eq!(got[0]["status"], 418, "{got:?}");
    assert!(got[0]["error"]["data"]["retryAfter"].as_i64() > Some(world.ms()), "{got:?}");
    assert_eq!(world.http("GET", "/api/v3/ping", "", "").0, 418);
}

#[test]
fn stops_and_cancel_replace_on_the_wire() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws-api/v3");
    world.call(&mut ws, "userDataStream.subscribe.signature", json!({}));
    let stop = json!({
        "symbol": "BTCUSDT", "side": "BUY", "type": "STOP_LOSS_LIMIT", "timeInForce": "GTC",
        "quantity": "0.01", "price": "70000.00", "stopPrice": "65000"
    });
    let got = world.call(&mut ws, "order.place", stop);
    assert_eq!(got[0]["status"], 200, "{got:?}");
    assert!(got[0]["result"].get("status").is_none(), "ACK by default: {got:?}");
    let event = &got[1]["event"];
    assert_eq!((&event["w"], &event["P"]), (&json!(false), &json!("65000.00000000")), "{event}");
    assert!(event.get("W").is_none());
    let (status, placed) = world.signed("POST", "/api/v3/order", LIMIT_BUY);
    assert_eq!(status, 200, "{placed}");
    let query = format!(
        "{LIMIT_BUY}&cancelReplaceMode=STOP_ON_FAILURE&cancelOrderId={}",
        placed["orderId"]
    );
    let (status, done) = world.signed("POST", "/api/v3/order/cancelReplace", &query);
    assert_eq!((status, &done["newOrderResult"]), (200, &json!("SUCCESS")), "{done}");
    let (status, done) = world.signed("POST", "/api/v3/order/cancelReplace", &query);
    assert_eq!((status, &done["data"]["newOrderResult"]), (400, &json!("NOT_ATTEMPTED")), "{done}");
}

// --- random flow ---------------------------------------------------------------------------------------------------

pub(crate) fn check_money(exchange: &Exchange) {
    for asset in 0..exchange.assets.len() {
        let held = exchange.accounts.iter().map(|a| a.holdings[asset]);
        let (now, before): (i128, i128) =
            held.fold((0, 0), |(n, b), h| (n + h.free + h.locked, b + h.initial));
        assert_eq!(now + exchange.fees[asset] + exchange.market_gain[asset], before, "conserved");
    }
    for account in &exchange.accounts {
        let mut needs = vec![0_i128; exchange.assets.len()];
        let mut open = 0;
        for order in account.open_orders() {
            open += 1;
            let left = i128::from(order.qty - order.executed - order.prevented);
            assert!(left > 0, "an open order has something left: {order:?}");
            let price = if order.asked.kind.has_limit() {
                order.asked.price
            } else {
                order.asked.stop_price
            };
            let listing = &exchange.listings[order.asked.symbol];
            match order.asked.side {
                Side::Buy => needs[listing.quote] += i128::from(price) * left / i128::from(ONE),
                Side::Sell => needs[listing.base] += left,
            }
        }
        let counted: usize = (0..exchange.listings.len()).map(|s| account.open_count(s).0).sum();
        assert_eq!(counted, open);
        for (holding, need) in account.holdings.iter().zip(needs) {
            assert!(
                holding.free >= 0 && holding.locked == need,
                "locked {holding:?}, needs {need}"
            );
        }
    }
}

/// Nothing waits whose stop price was reached, nothing traded through its limit, and the book holds what is open.
fn check_orders(exchange: &mut Exchange) {
    let last = exchange.listings[0].last_price;
    let (mut resting, mut hidden) = (0_i64, 0_i64);
    for order in exchange.accounts.iter().flat_map(|a| a.open_orders()) {
        if order.is_waiting() {
            let reached = if order.asked.kind.triggers_above(order.asked.side) {
                order.asked.stop_price <= last
            } else {
                order.asked.stop_price >= last
            };
            assert!(!reached, "{order:?} at {last}");
        } else {
            resting += order.remaining();
            // Of an iceberg a part is seen, of which something may have been traded.
            hidden += if order.asked.iceberg_qty > 0 { order.remaining() - 1 } else { 0 };
        }
    }
    let listing = &exchange.listings[0];
    let shown: i64 =
        [Side::Buy, Side::Sell].iter().flat_map(|s| listing.levels(*s)).map(|l| l.1).sum();
    assert!((resting - hidden..=resting).contains(&shown), "the book is the open orders");
    if let (Some(bid), Some(ask)) = (listing.top().bid, listing.top().ask) {
        assert!(bid.0 < ask.0, "crossed");
    }
    for report in std::mem::take(&mut exchange.reports) {
        let Report::Execution { order, exec: Exec::Trade { price, .. }, .. } = report else {
            continue;
        };
        if order.asked.kind.has_limit() {
            let through = match order.asked.side {
                Side::Buy => price > order.asked.price,
                Side::Sell => price < order.asked.price,
            };
            assert!(!through, "{order:?} at {price}");
        }
    }
}

#[derive(Clone, Debug)]
struct Flow {
    account: usize,
    what: u8,
    side: Side,
    kind: Kind,
    tif: &'static str,
    price: i64,
    stop: i64,
    lots: i64,
    stp: &'static str,
    nth: usize,
}

fn flow() -> impl Strategy<Value = Flow> {
    let kind = prop_oneof![
        4 => Just(Kind::Limit),
        1 => Just(Kind::LimitMaker),
        1 => Just(Kind::Market),
        2 => Just(Kind::StopLoss),
        2 => Just(Kind::StopLossLimit),
        2 => Just(Kind::TakeProfit),
        2 => Just(Kind::TakeProfitLimit),
    ];
    let tif = prop_oneof![4 => Just("GTC"), 1 => Just("IOC"), 1 => Just("FOK")];
    let stp = prop::sample::select(vec![
        "NONE",
        "EXPIRE_TAKER",
        "EXPIRE_MAKER",
        "EXPIRE_BOTH",
        "DECREMENT",
        "TRANSFER",
    ]);
    let side = prop_oneof![Just(Side::Buy), Just(Side::Sell)];
    ((0..2_usize, 0..9_u8, side, kind, tif), (0..20_i64, 0..20_i64, 10..60_i64, stp, 0..6_usize))
        .prop_map(|((account, what, side, kind, tif), (price, stop, lots, stp, nth))| Flow {
            account,
            what,
            side,
            kind,
            tif,
            price,
            stop,
            lots,
            stp,
            nth,
        })
}

fn order_query(flow: &Flow) -> String {
    let price = |steps: i64| pindrop::sim::json::decimal(MID + steps * TICK);
    let qty = pindrop::sim::json::decimal(flow.lots * LOT * 10);
    let mut query = format!(
        "symbol=BTCUSDT&side={}&type={}&selfTradePreventionMode={}",
        flow.side.label(),
        flow.kind.label(),
        flow.stp
    );
    if flow.kind == Kind::Market && flow.nth.is_multiple_of(2) {
        query += &format!("&quoteOrderQty={}", flow.lots * 7);
    } else {
        query += &format!("&quantity={qty}");
    }
    if flow.kind.has_limit() {
        query += &format!("&price={}", price(flow.price));
    }
    if flow.kind.takes_tif() {
        query += &format!("&timeInForce={}", flow.tif);
    }
    if flow.kind.has_limit() && flow.tif == "GTC" && flow.nth == 3 {
        query += &format!("&icebergQty={}", pindrop::sim::json::decimal(flow.lots * LOT));
    }
    if flow.kind.is_stop() {
        query += &format!("&stopPrice={}", price(flow.stop));
    }
    query
}

fn run(bench: &mut Bench, flow: &Flow) {
    let open = bench.exchange.accounts[flow.account].open_orders().nth(flow.nth).map(|o| o.id);
    // A refusal is an outcome, too.
    let _ = match flow.what {
        0 => bench.call(
            flow.account,
            "order.cancel",
            &format!("symbol=BTCUSDT&orderId={}", open.unwrap_or(0)),
        ),
        1 | 2 => {
            let mode = if flow.what == 1 { "ALLOW_FAILURE" } else { "STOP_ON_FAILURE" };
            let id = open.unwrap_or(99_999);
            let query =
                format!("{}&cancelReplaceMode={mode}&cancelOrderId={id}", order_query(flow));
            bench.call(flow.account, "order.cancelReplace", &query)
        }
        8 => {
            let qty = pindrop::sim::json::decimal(flow.lots * LOT * 5);
            let query = format!("symbol=BTCUSDT&orderId={}&newQty={qty}", open.unwrap_or(0));
            bench.call(flow.account, "order.amend.keepPriority", &query)
        }
        _ => bench.call(flow.account, "order.place", &order_query(flow)),
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn random_flow_conserves_money(flows in prop::collection::vec(flow(), 1..120)) {
        let mut bench = Bench::new();
        bench.exchange.limits = RateLimits { orders_per_10s: 10_000, ..RateLimits::default() };
        for flow in &flows {
            run(&mut bench, flow);
            check_money(&bench.exchange);
            check_orders(&mut bench.exchange);
        }
    }
}
