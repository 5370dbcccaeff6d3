//! Proves the venue's REST side against the public documentation, row by row: every endpoint is there, weighs what it
//! says, takes the parameters it names, and refuses in the documented words.

use pindrop::sim::calls::{SPECS, Security};
use pindrop::sim::settings::SymbolSettings;
use serde_json::{Value, json};

use super::venue::{KEY, LIMIT_BUY, ONE, World, still};
use super::venue_orders::{Bench, check_money};

/// Every endpoint of `rest-api.md`: security, weight without optional parameters.
const ENDPOINTS: &str = "
GET ping 1
GET time 1
GET exchangeInfo 20
GET executionRules?symbol=BTCUSDT 2
GET depth?symbol=BTCUSDT 5
GET trades?symbol=BTCUSDT 25
GET historicalTrades?symbol=BTCUSDT 25
GET historicalBlockTrades?symbol=BTCUSDT&fromId=1 25
GET aggTrades?symbol=BTCUSDT 4
GET klines?symbol=BTCUSDT&interval=1m 2
GET uiKlines?symbol=BTCUSDT&interval=1M&timeZone=05:45 2
GET avgPrice?symbol=BTCUSDT 2
GET ticker/24hr 80
GET ticker/24hr?symbol=BTCUSDT 2
GET ticker/tradingDay?symbol=BTCUSDT&timeZone=-1:00 4
GET ticker/price 4
GET ticker/price?symbol=BTCUSDT 2
GET ticker/bookTicker?symbols=[\"BTCUSDT\"] 4
GET ticker?symbol=BTCUSDT&windowSize=59m 4
GET referencePrice?symbol=BTCUSDT 2 -2043
GET referencePrice/calculation?symbol=BTCUSDT&symbolStatus=TRADING 2 -2043
POST order 1 -1102
POST order/test 1 -1102
DELETE order 1 -1102
DELETE openOrders 1 -1102
POST order/cancelReplace 1 -1102
PUT order/amend/keepPriority 4 -1102
POST order/oco?symbol=BTCUSDT 1 -2010
POST orderList/oco?symbol=BTCUSDT 1 -2010
POST orderList/oto?symbol=BTCUSDT 1 -2010
POST orderList/otoco?symbol=BTCUSDT 1 -2010
POST orderList/opo?symbol=BTCUSDT 1 -2010
POST orderList/opoco?symbol=BTCUSDT 1 -2010
DELETE orderList?symbol=BTCUSDT&orderListId=1 1 -2011
POST sor/order?symbol=BTCUSDT 1 -1020
POST sor/order/test?symbol=BTCUSDT 1 -1020
GET account 20
GET order?symbol=BTCUSDT&orderId=1 4 -2013
GET openOrders 80
GET openOrders?symbol=BTCUSDT 6
GET allOrders?symbol=BTCUSDT 20
GET orderList?orderListId=1 4 -2013
GET allOrderList 20
GET openOrderList 6
GET myTrades?symbol=BTCUSDT 20
GET myTrades?symbol=BTCUSDT&orderId=1 5
GET rateLimit/order 40
GET myPreventedMatches?symbol=BTCUSDT&preventedMatchId=1 2
GET myPreventedMatches?symbol=BTCUSDT&orderId=1 20
GET myAllocations?symbol=BTCUSDT 20
GET account/commission?symbol=BTCUSDT 20
GET order/amendments?symbol=BTCUSDT&orderId=1 4
GET myFilters?symbol=BTCUSDT 40
";

fn used_weight(head: &str) -> i64 {
    let line = head.lines().find_map(|line| line.strip_prefix("x-mbx-used-weight-1m: "));
    line.and_then(|number| number.trim().parse().ok()).expect("a used weight on every answer")
}

#[test]
fn every_endpoint_is_there_and_weighs_what_it_says() {
    for row in ENDPOINTS.lines().filter(|row| !row.is_empty()) {
        let parts: Vec<&str> = row.split(' ').collect();
        let [method, target, weight, code @ ..] = parts.as_slice() else { panic!("{row}") };
        let mut world = World::new(&still());
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let public = SPECS.iter().find(|s| s.rest == (*method, path)).expect("a call").security
            == Security::Open;
        let body = if public {
            let target = format!("/api/v3/{target}").replace('"', "%22");
            world.http(method, &target, "", "").2
        } else {
            world.signed(method, &format!("/api/v3/{path}"), query).1
        };
        let code: Option<i64> = code.first().and_then(|code| code.parse().ok());
        assert_eq!(body["code"].as_i64(), code, "{row}: {body}");
        let (_, head, _) = world.http("GET", "/api/v3/ping", "", "");
        assert_eq!((used_weight(&head) - 1).to_string(), *weight, "{row}");
    }
}

#[test]
fn orders_that_succeed_weigh_nothing() {
    let mut world = World::new(&still());
    let (status, placed) = world.signed("POST", "/api/v3/order", LIMIT_BUY);
    assert_eq!(status, 200, "{placed}");
    let (status, _) = world.signed("DELETE", "/api/v3/openOrders", "symbol=BTCUSDT");
    assert_eq!(status, 200);
    let (_, head, _) = world.http("GET", "/api/v3/ping", "", "");
    assert_eq!(used_weight(&head), 1);
    let info = world.get("/api/v3/exchangeInfo?symbol=BTCUSDT");
    let raw = json!({"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 300_000});
    assert_eq!(info["rateLimits"][3], raw);
}

/// What a call of the first account is refused with, by its WebSocket API name.
#[track_caller]
fn refused(method: &str, query: &str, code: i64, msg: &str) {
    Bench::new().code(method, query, code, msg);
}

#[test]
fn parameters_are_refused_in_the_documented_words() {
    let missing = |name: &str| {
        format!("Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    };
    let invalid = |name: &str| format!("Data sent for parameter '{name}' is not valid.");
    let combination = "Combination of optional parameters invalid.";
    let btc = "symbol=BTCUSDT";
    refused("depth", "", -1102, &missing("symbol"));
    refused("depth", "symbol=", -1102, &missing("symbol"));
    refused("depth", &format!("{btc}&limit=0"), -1130, &invalid("limit"));
    refused("allOrders", &format!("{btc}&limit=0"), -1130, &invalid("limit"));
    let range =
        "Illegal characters found in parameter 'symbol'; legal range is '^[A-Z0-9-_.]{1,20}$'.";
    refused("depth", "symbol=btcusdt", -1100, range);
    refused("depth", "symbol=%EF%BC%91%EF%BC%92", -1121, "Invalid symbol.");
    let unread = "Not all sent parameters were read; read '1' parameter(s) but was sent '2'.";
    refused("depth", &format!("{btc}&x=1"), -1104, unread);
    refused("klines", &format!("{btc}&interval=7m"), -1120, "Invalid interval.");
    refused("klines", &format!("{btc}&interval=1m&timeZone=15"), -1130, &invalid("timeZone"));
    refused("ticker", &format!("{btc}&windowSize=60m"), -1130, &invalid("windowSize"));
    refused("ticker.24hr", &format!("{btc}&type=X"), -1139, "Invalid ticker type.");
    refused("depth", &format!("{btc}&symbolStatus=X"), -1122, "Invalid symbolStatus.");
    refused(
        "depth",
        &format!("{btc}&symbolStatus=HALT"),
        -1220,
        "The symbol's status does not match the requested symbolStatus.",
    );
    refused("ticker.price", &format!("{btc}&symbols=[\"BTCUSDT\"]"), -1128, combination);
    refused(
        "ticker.price",
        "symbols=[]",
        -1100,
        r#"Illegal characters found in parameter 'symbols'; legal range is '^\["[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}\]$'."#,
    );
    refused(
        "ticker.price",
        "symbols=[\"BTCUSDT\",\"BTCUSDT\"]",
        -1151,
        "Symbol is present multiple times in the list.",
    );
    refused("trades.aggregate", &format!("{btc}&fromId=1&startTime=1"), -1128, combination);
    refused("allOrderLists", "fromId=1&startTime=1", -1128, combination);
    refused("myAllocations", &format!("{btc}&orderId=1&endTime=1"), -1128, combination);
    refused("order.amendments", btc, -1102, &missing("orderId"));
    refused(
        "allOrderLists",
        "symbol=BTCUSDT",
        -1104,
        &unread.replace("'1'", "'0'").replace("'2'", "'1'"),
    );
    refused(
        "order.cancel",
        btc,
        -1102,
        "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!",
    );
    refused(
        "order.cancel",
        &format!("{btc}&orderId=1&cancelRestrictions=X"),
        -1145,
        "Invalid cancelRestrictions",
    );
}

#[test]
fn orders_are_refused_in_the_documented_words() {
    let order = |more: &str| format!("{LIMIT_BUY}&{more}");
    let place = "order.place";
    refused(place, &order("pegPriceType=X"), -1210, "Invalid pegPriceType.");
    refused(
        place,
        &order("pegPriceType=MARKET_PEG&pegOffsetType=X"),
        -1211,
        "Invalid pegOffsetType.",
    );
    refused(
        place,
        &order("pegPriceType=MARKET_PEG&pegOffsetType=PRICE_LEVEL"),
        -1128,
        "Combination of optional fields invalid. Recommendation: 'pegOffsetType' and 'pegOffsetValue' must both be \
         sent.",
    );
    refused(
        place,
        &order("pegPriceType=MARKET_PEG&pegOffsetType=PRICE_LEVEL&pegOffsetValue=101"),
        -1102,
        "'pegOffsetValue' contains unexpected value. Cannot be greater than 100.",
    );
    let peg = "symbol=BTCUSDT&side=BUY&quantity=1&pegPriceType=MARKET_PEG&type=";
    refused(place, &format!("{peg}MARKET"), -2010, "This order type may not use pegged price.");
    refused(
        place,
        &format!("{peg}LIMIT_MAKER"),
        -2010,
        "This price peg cannot be used with this order type.",
    );
    refused(
        place,
        &format!("{peg}LIMIT&timeInForce=GTC"),
        -2010,
        "Pegged orders are not supported for this symbol.",
    );
    let ioc = LIMIT_BUY.replace("GTC", "IOC");
    refused(place, &format!("{ioc}&icebergQty=0.001"), -1014, "Unsupported order combination.");
    refused(place, &order("icebergQty=0.02"), -2010, "IcebergQty exceeds QTY.");
    refused(place, &order("icebergQty=0.00009"), -1013, "Filter failure: ICEBERG_PARTS");
    refused(
        place,
        &order("icebergQty=0.000999999"),
        -1111,
        "Parameter 'icebergQty' has too much precision.",
    );
    refused(place, &order("icebergQty=0.00101001"), -1013, "Filter failure: LOT_SIZE");
    refused(
        place,
        "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=1&icebergQty=1",
        -1106,
        "Parameter 'icebergQty' sent when not required.",
    );
    refused(
        place,
        &order("selfTradePreventionMode=X"),
        -1013,
        "This symbol does not allow the specified self-trade prevention mode.",
    );
    refused(
        place,
        "symbol=BTCUSDT&side=BUY&type=MARKET&quoteOrderQty=100",
        -2010,
        "Order book liquidity is less than symbol minimum quantity.",
    );
}

#[test]
fn a_market_order_without_a_market_expires() {
    let mut bench = Bench::new();
    let order = "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=1";
    let got = bench.ok(0, "order.place", order);
    let told = [&got["status"], &got["executedQty"], &got["expiryReason"]];
    assert_eq!(told, ["EXPIRED", "0.00000000", "INSUFFICIENT_LIQUIDITY"], "{got}");
}

// --- amendments ----------------------------------------------------------------------------------------------------

const AMEND: &str = "order.amend.keepPriority";

#[test]
fn an_amended_order_keeps_its_place() {
    let mut bench = Bench::new();
    let sell = "symbol=BTCUSDT&side=SELL&type=LIMIT&timeInForce=GTC&quantity=0.03&price=60000";
    let first = bench.ok(0, "order.place", &format!("{sell}&newClientOrderId=a"));
    bench.ok(1, "order.place", sell);
    let id = &first["orderId"];
    let got =
        bench.ok(0, AMEND, &format!("symbol=BTCUSDT&orderId={id}&newQty=0.02&newClientOrderId=b"));
    let order = &got["amendedOrder"];
    let told =
        [&order["origClientOrderId"], &order["clientOrderId"], &order["qty"], &order["status"]];
    assert_eq!(told, ["a", "b", "0.02000000", "NEW"], "{got}");
    let depth = bench.ok(0, "depth", "symbol=BTCUSDT");
    assert_eq!(depth["asks"][0][1], "0.05000000");
    bench.ok(1, "order.place", &sell.replace("SELL", "BUY").replace("0.03", "0.02"));
    let done = bench.ok(0, "order.status", "symbol=BTCUSDT&origClientOrderId=b");
    assert_eq!(
        (&done["status"], &done["origQty"]),
        (&json!("FILLED"), &json!("0.02000000")),
        "{done}"
    );
    let history = bench.ok(0, "order.amendments", &format!("symbol=BTCUSDT&orderId={id}"));
    assert_eq!(history[0]["executionId"], got["executionId"], "{history}");
    assert_eq!(
        (&history[0]["origQty"], &history[0]["newQty"], &history[0]["newClientOrderId"]),
        (&json!("0.03000000"), &json!("0.02000000"), &json!("b"))
    );
    check_money(&bench.exchange);
}

#[track_caller]
fn amend_refused(qty: &str, code: i64, msg: &str) {
    let mut bench = Bench::new();
    bench.ok(0, "order.place", LIMIT_BUY);
    bench.code(AMEND, &format!("symbol=BTCUSDT&orderId=1&newQty={qty}"), code, msg);
}

#[test]
fn amendments_are_refused_in_the_documented_words() {
    amend_refused("0.01", -2038, "The requested action would change no state; rejecting");
    amend_refused("0.02", -2038, "Order amend (quantity increase) is not supported.");
    amend_refused("0.0000001", -1013, "Filter failure: LOT_SIZE");
    amend_refused("0.00005", -1013, "Filter failure: NOTIONAL");
    amend_refused(
        "",
        -1102,
        "Mandatory parameter 'newQty' was not sent, was empty/null, or malformed.",
    );
    refused(AMEND, "symbol=BTCUSDT&orderId=7&newQty=1", -2038, "Unknown order sent.");
    let mut bench = Bench::new();
    bench.ok(0, "order.place", LIMIT_BUY);
    for n in 1..=10 {
        bench.ok(0, AMEND, &format!("symbol=BTCUSDT&orderId=1&newQty=0.00{}", 990 - n));
    }
    bench.code(
        AMEND,
        "symbol=BTCUSDT&orderId=1&newQty=0.005",
        -2038,
        "Filter failure: MAX_NUM_ORDER_AMENDS",
    );
}

#[test]
fn an_amendment_to_what_was_traded_ends_the_order() {
    let mut bench = Bench::new();
    let sell = "symbol=BTCUSDT&side=SELL&type=LIMIT&timeInForce=GTC&quantity=0.03&price=60000";
    bench.ok(0, "order.place", sell);
    bench.ok(1, "order.place", &sell.replace("SELL", "BUY").replace("0.03", "0.01"));
    let got = bench.ok(0, AMEND, "symbol=BTCUSDT&orderId=1&newQty=0.01");
    assert_eq!(got["amendedOrder"]["status"], "EXPIRED", "{got}");
    assert_eq!(bench.ok(0, "depth", "symbol=BTCUSDT")["asks"], json!([]));
    check_money(&bench.exchange);
}

#[test]
fn amendments_are_told_to_the_account() {
    let mut world = World::new(&still());
    let mut ws = world.ws("/ws-api/v3");
    world.call(&mut ws, "userDataStream.subscribe.signature", json!({}));
    let (_, placed) =
        world.signed("POST", "/api/v3/order", &format!("{LIMIT_BUY}&newClientOrderId=a"));
    let query = format!("symbol=BTCUSDT&orderId={}&newQty=0.005", placed["orderId"]);
    let (status, got) = world.signed("PUT", "/api/v3/order/amend/keepPriority", &query);
    assert_eq!(status, 200, "{got}");
    let told = world.read(&mut ws);
    let event = told.iter().find(|m| m["event"]["x"] == "REPLACED").expect("an event");
    let event = &event["event"];
    assert_eq!(
        (&event["C"], &event["c"], &event["q"]),
        (&json!("a"), &got["amendedOrder"]["clientOrderId"], &json!("0.00500000")),
        "{event}"
    );
}

// --- icebergs ------------------------------------------------------------------------------------------------------

#[test]
fn an_iceberg_shows_a_part_and_queues_again() {
    let mut bench = Bench::new();
    let sell = "symbol=BTCUSDT&side=SELL&type=LIMIT&timeInForce=GTC&quantity=0.05&price=60000";
    let placed = bench.ok(0, "order.place", &format!("{sell}&icebergQty=0.02"));
    assert_eq!(placed["icebergQty"], "0.02000000", "{placed}");
    bench.ok(1, "order.place", sell);
    let shown = |bench: &mut Bench| bench.ok(0, "depth", "symbol=BTCUSDT")["asks"][0][1].clone();
    assert_eq!(shown(&mut bench), "0.07000000");
    // The shown part first, then who came next, then the iceberg again.
    let buy = sell.replace("SELL", "BUY") + "&selfTradePreventionMode=NONE";
    let got = bench.ok(1, "order.place", &buy.replace("0.05", "0.03"));
    assert_eq!(got["status"], "FILLED", "{got}");
    let order = bench.ok(0, "order.status", "symbol=BTCUSDT&orderId=1");
    assert_eq!(
        (&order["executedQty"], &order["icebergQty"]),
        (&json!("0.02000000"), &json!("0.02000000")),
        "{order}"
    );
    assert_eq!(shown(&mut bench), "0.06000000");
    // What is hidden counts for an order that wants all or nothing.
    let all = buy.replace("GTC", "FOK").replace("0.05", "0.07");
    assert_eq!(bench.ok(1, "order.place", &all)["status"], "FILLED");
    assert_eq!(bench.ok(0, "depth", "symbol=BTCUSDT")["asks"], json!([]));
    check_money(&bench.exchange);
}

#[test]
fn an_amended_iceberg_loses_what_it_hides_first() {
    let mut bench = Bench::new();
    bench.ok(0, "order.place", &format!("{LIMIT_BUY}&icebergQty=0.004"));
    let shown = |bench: &mut Bench| bench.ok(0, "depth", "symbol=BTCUSDT")["bids"][0][1].clone();
    bench.ok(0, AMEND, "symbol=BTCUSDT&orderId=1&newQty=0.006");
    assert_eq!(shown(&mut bench), "0.00400000");
    bench.ok(0, AMEND, "symbol=BTCUSDT&orderId=1&newQty=0.003");
    assert_eq!(shown(&mut bench), "0.00300000");
    check_money(&bench.exchange);
}

// --- prevented matches ---------------------------------------------------------------------------------------------

#[test]
fn answers_tell_of_prevented_matches() {
    let mut bench = Bench::new();
    let sell = "symbol=BTCUSDT&side=SELL&type=LIMIT&timeInForce=GTC&quantity=0.02&price=60000";
    bench.ok(0, "order.place", &format!("{sell}&selfTradePreventionMode=TRANSFER"));
    let buy = sell.replace("SELL", "BUY").replace("0.02", "0.01");
    let got = bench.ok(0, "order.place", &format!("{buy}&selfTradePreventionMode=TRANSFER"));
    let matched = json!([{
        "preventedMatchId": 1, "makerSymbol": "BTCUSDT", "makerOrderId": 1, "price": "60000.00000000",
        "takerPreventedQuantity": "0.01000000", "makerPreventedQuantity": "0.01000000"
    }]);
    assert_eq!(
        (&got["preventedMatches"], &got["status"]),
        (&matched, &json!("EXPIRED_IN_MATCH")),
        "{got}"
    );
    let all = bench.ok(0, "myPreventedMatches", "symbol=BTCUSDT&preventedMatchId=1");
    assert_eq!(all[0]["selfTradePreventionMode"], "TRANSFER");
    let maker = bench.ok(0, "order.status", "symbol=BTCUSDT&orderId=1");
    assert_eq!(
        (&maker["status"], &maker["preventedQuantity"]),
        (&json!("NEW"), &json!("0.01000000"))
    );
    check_money(&bench.exchange);
}

// --- settings ------------------------------------------------------------------------------------------------------

#[test]
fn an_account_may_have_fees_of_its_own() {
    let mut settings = still();
    settings.accounts[1].fees_ppm = Some((20, 400));
    let mut bench = Bench::of(&settings);
    let rates = bench.ok(1, "account.commission", "symbol=BTCUSDT");
    let standard = &rates["standardCommission"];
    assert_eq!(
        (&standard["maker"], &standard["taker"]),
        (&json!("0.00002000"), &json!("0.00040000"))
    );
    assert_eq!(bench.ok(0, "account.status", "")["commissionRates"]["taker"], "0.00100000");
    let sell = "symbol=BTCUSDT&side=SELL&type=LIMIT&timeInForce=GTC&quantity=0.02&price=60000";
    bench.ok(0, "order.place", sell);
    let got = bench.ok(1, "order.place", &sell.replace("SELL", "BUY"));
    assert_eq!(got["fills"][0]["commission"], "0.00000800", "{got}");
    check_money(&bench.exchange);
}

#[test]
fn positions_are_bounded_where_a_symbol_says_so() {
    let mut settings = still();
    let position = 101 * ONE;
    settings.symbols[0] =
        SymbolSettings { max_position: Some(position), ..settings.symbols[0].clone() };
    let mut bench = Bench::of(&settings);
    let info = bench.ok(0, "myFilters", "symbol=BTCUSDT");
    let listed = json!({"filterType": "MAX_POSITION", "maxPosition": "101.00000000"});
    let filters = info["symbolFilters"].as_array().expect("a list");
    assert!(filters.contains(&listed), "{info}");
    bench.ok(0, "order.place", &LIMIT_BUY.replace("0.01", "0.9"));
    let more = LIMIT_BUY.replace("0.01", "0.2");
    bench.code("order.place", &more, -1013, "Filter failure: MAX_POSITION");
    let sell = more.replace("BUY", "SELL").replace("50000", "70000");
    bench.ok(0, "order.place", &sell);
}

// --- time ----------------------------------------------------------------------------------------------------------

/// An answer with the times in a unit: the header is put behind the key.
fn in_unit(world: &mut World, unit: &str, target: &str) -> (u16, Value) {
    let (status, _, body) =
        world.http("GET", target, &format!("{KEY}\r\nX-MBX-TIME-UNIT: {unit}"), "");
    (status, body)
}

#[test]
fn times_are_told_in_the_unit_that_was_asked_for() {
    let mut world = World::new(&still());
    let now = world.ms();
    world.signed("POST", "/api/v3/order", "symbol=BTCUSDT&side=BUY&type=MARKET&quantity=0.01");
    for unit in ["MICROSECOND", "microsecond"] {
        assert_eq!(in_unit(&mut world, unit, "/api/v3/time").1["serverTime"], now * 1_000);
    }
    assert_eq!(in_unit(&mut world, "MILLISECOND", "/api/v3/time").1["serverTime"], now);
    let (status, body) = in_unit(&mut world, "SECOND", "/api/v3/time");
    let words = "Invalid value for time unit; expected either MICROSECOND or MILLISECOND.";
    assert_eq!((status, body), (400, json!({"code": -1194, "msg": words})));
    let query = format!("symbol=BTCUSDT&timestamp={now}");
    let signature = super::venue::hmac(&query);
    let target = format!("/api/v3/myTrades?{query}&signature={signature}");
    assert_eq!(in_unit(&mut world, "MICROSECOND", &target).1[0]["time"], now * 1_000);
    let klines = "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=1";
    let (ms, us) = (world.get(klines), in_unit(&mut world, "MICROSECOND", klines).1);
    let open = ms[0][0].as_i64().expect("a time");
    assert_eq!((&us[0][0], &us[0][6]), (&json!(open * 1_000), &json!((open + 60_000) * 1_000 - 1)));
    for path in ["ticker/24hr", "avgPrice", "ticker"] {
        let target = format!("/api/v3/{path}?symbol=BTCUSDT");
        let (ms, us) = (world.get(&target), in_unit(&mut world, "MICROSECOND", &target).1);
        let close = ms["closeTime"].as_i64().expect("a time");
        assert_eq!(us["closeTime"], close * 1_000, "{path}");
    }
    let from = format!("/api/v3/aggTrades?symbol=BTCUSDT&startTime={}", now * 1_000);
    let (ms, us) = (world.get(&from), in_unit(&mut world, "MICROSECOND", &from).1);
    assert_eq!((&ms[0]["T"], &us[0]["T"]), (&json!(now), &json!(now * 1_000)), "{ms}");
    assert_eq!(
        world.get(&format!("/api/v3/aggTrades?symbol=BTCUSDT&startTime={}", now * 1_000 + 1)),
        json!([])
    );
}

#[test]
fn of_a_parameter_in_query_and_body_the_query_is_taken() {
    let mut world = World::new(&still());
    let query = format!("{LIMIT_BUY}&timestamp={}", world.ms());
    let body = "quantity=0.02";
    let target = format!(
        "/api/v3/order?{query}&signature={}",
        super::venue::hmac(&format!("{query}{body}"))
    );
    let (status, _, got) = world.http("POST", &target, KEY, body);
    assert_eq!((status, &got["origQty"]), (200, &json!("0.01000000")), "{got}");
}

#[test]
fn listed_filters_are_those_that_are_enforced() {
    let mut bench = Bench::new();
    let info = bench.ok(0, "exchangeInfo", "symbol=BTCUSDT");
    let symbol = &info["symbols"][0];
    let filters = symbol["filters"].as_array().expect("filters").iter();
    let names: Vec<&str> = filters.filter_map(|f| f["filterType"].as_str()).collect();
    assert_eq!(
        names,
        [
            "PRICE_FILTER",
            "LOT_SIZE",
            "ICEBERG_PARTS",
            "NOTIONAL",
            "MARKET_LOT_SIZE",
            "PERCENT_PRICE_BY_SIDE",
            "MAX_NUM_ORDERS",
            "MAX_NUM_ALGO_ORDERS",
            "MAX_NUM_ORDER_AMENDS"
        ]
    );
    let flags = ["icebergAllowed", "amendAllowed", "cancelReplaceAllowed"];
    assert!(flags.iter().all(|flag| symbol[flag] == true), "{symbol}");
    let permitted = bench.ok(0, "exchangeInfo", "permissions=SPOT&showPermissionSets=false");
    assert_eq!(permitted["symbols"][0]["permissionSets"], json!([]));
}
