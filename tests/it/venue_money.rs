//! Proves the venue's money and its matching against a naive reference that shares no code with it: three symbols
//! that share their assets, three accounts with fees of their own, every kind of order, every self-trade mode,
//! cancel-replace, icebergs, reduced quantities, anonymous takers. After every act all balances, orders and books agree to the last unit; every
//! report is in order and every order ends once. On the wire the same holds while faults act on orders.

use std::collections::BTreeMap;

use pindrop::clock::UtcNs;
use pindrop::sim::api;
use pindrop::sim::calls::SPECS;
use pindrop::sim::exchange::{Exchange, Exec, Report};
use pindrop::sim::json::decimal;
use pindrop::sim::limits::RateLimits;
use pindrop::sim::order::{Kind, Side, Status};
use pindrop::sim::request::Params;
use pindrop::sim::settings::{AccountSettings, Secret, SymbolSettings, VenueSettings};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::venue::{ONE, World, fault, still};
use super::venue_fuzz::cases;
use super::venue_orders::check_money;

const UTC: UtcNs = UtcNs::from_millis(1_700_000_000_000);
const SYMBOLS: [&str; 3] = ["BTCUSDT", "ETHUSDT", "ETHBTC"];
/// Base and quote of each symbol, as indices into the exchange's assets: BTC, USDT, ETH.
const ASSETS: [(usize, usize); 3] = [(0, 1), (2, 1), (2, 0)];
/// Maker and taker fee of each account, in millionths of what it gets.
const FEES: [(i128, i128); 3] = [(1_000, 1_000), (0, 1_237), (333, 0)];
/// What quantities are multiples of, in lots.
const UNITS: [i64; 3] = [137, 211, 23];
const STPS: [&str; 5] = ["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH", "DECREMENT"];

fn settings() -> VenueSettings {
    let symbols: Vec<SymbolSettings> =
        SYMBOLS.into_iter().filter_map(SymbolSettings::named).collect();
    let secret = || Secret::Hmac("secret".to_owned());
    let mut accounts: Vec<AccountSettings> = ["key", "other", "poor"]
        .into_iter()
        .map(|name| AccountSettings::rich(name, name, secret(), &symbols))
        .collect();
    for (_, amount) in &mut accounts[2].balances {
        *amount /= 5_000;
    }
    let limits = RateLimits {
        weight_per_minute: u32::MAX,
        orders_per_10s: u32::MAX,
        orders_per_day: u32::MAX,
    };
    VenueSettings { symbols, accounts, limits, ..still() }
}

fn exchange() -> Exchange {
    let mut exchange = Exchange::new(&settings(), 1);
    assert_eq!(exchange.assets, ["BTC", "USDT", "ETH"]);
    for (account, fees) in exchange.accounts.iter_mut().zip(FEES) {
        account.fees_ppm = fees;
    }
    exchange
}

// --- the reference -------------------------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// For its stop price.
    Waiting,
    Working,
    Over(Status),
}

#[derive(Clone, Debug)]
struct Item {
    id: u64,
    account: usize,
    symbol: usize,
    side: Side,
    kind: Kind,
    tif: &'static str,
    price: i64,
    stop: i64,
    qty: i64,
    /// How much of an iceberg is seen at once, and is seen now; 0 for all others.
    part: i64,
    seen: i64,
    /// The amount of an order by quote amount; 0 for all others.
    amount: i128,
    stp: &'static str,
    executed: i64,
    quote: i128,
    prevented: i64,
    phase: Phase,
}

impl Item {
    fn left(&self) -> i64 {
        self.qty - self.executed - self.prevented
    }

    /// What others see of it.
    fn shows(&self) -> i64 {
        if self.part > 0 { self.seen } else { self.left() }
    }

    fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Over(_))
    }

    /// What it binds: asset and amount.
    fn binds(&self) -> (usize, i128) {
        let (base, quote) = ASSETS[self.symbol];
        let price = if self.kind.has_limit() { self.price } else { self.stop };
        let counts = self.is_open() && (self.kind.has_limit() || self.phase == Phase::Waiting);
        let left = if counts { i128::from(self.left()) } else { 0 };
        match self.side {
            Side::Buy => (quote, i128::from(price) * left / i128::from(ONE)),
            Side::Sell => (base, left),
        }
    }
}

/// Orders in the order in which they came; the book is what of them rests, in the order in which it came to rest.
#[derive(Clone, Default)]
struct Reference {
    items: BTreeMap<u64, Item>,
    resting: Vec<u64>,
    triggered: Vec<u64>,
    /// By account and asset: free and bound together.
    totals: BTreeMap<(usize, usize), i128>,
    /// Symbol, who took (0: nobody known), who rested, price, quantity.
    trades: Vec<(usize, u64, u64, i64, i64)>,
}

/// Whoever arrives: an order, or somebody anonymous with a side, a limit and a quantity.
enum Arrival {
    Order(u64),
    Anonymous(usize, Side, i64, i64),
}

impl Reference {
    fn holds(&self, account: usize, asset: usize) -> (i128, i128) {
        let of = |item: &&Item| item.account == account && item.binds().0 == asset;
        let bound: i128 = self.items.values().filter(of).map(|item| item.binds().1).sum();
        (self.totals[&(account, asset)] - bound, bound)
    }

    /// The best resting order for a taker: best price, then the earliest.
    fn best(&self, symbol: usize, side: Side, limit: Option<i64>) -> Option<u64> {
        let mut best: Option<&Item> = None;
        for item in self.resting.iter().map(|id| &self.items[id]) {
            let good = |a: i64, b: i64| if side == Side::Buy { a <= b } else { a >= b };
            if item.symbol != symbol
                || item.side == side
                || limit.is_some_and(|l| !good(item.price, l))
            {
                continue;
            }
            if best.is_none_or(|b| !good(b.price, item.price)) {
                best = Some(item);
            }
        }
        best.map(|item| item.id)
    }

    fn end(&mut self, id: u64, status: Status) {
        self.items.get_mut(&id).expect("known").phase = Phase::Over(status);
        self.resting.retain(|other| *other != id);
    }

    fn prevent(&mut self, id: u64, qty: i64) {
        let item = self.items.get_mut(&id).expect("known");
        item.prevented += qty;
        if item.left() == 0 && item.amount == 0 {
            self.end(id, Status::ExpiredInMatch);
        }
    }

    /// Takes off what others saw of a resting order; the next part of an iceberg stands last.
    fn hide(&mut self, id: u64, qty: i64) {
        let item = self.items.get_mut(&id).expect("known");
        item.seen -= qty;
        if item.part > 0 && item.seen == 0 && item.is_open() {
            item.seen = item.part.min(item.left());
            self.resting.retain(|other| *other != id);
            self.resting.push(id);
        }
    }

    /// A smaller quantity, at the same place.
    fn amend(&mut self, id: u64, qty: i64) {
        let item = self.items.get_mut(&id).expect("known");
        item.qty = qty;
        item.seen = item.seen.min(item.left());
        if item.left() <= 0 {
            self.end(id, Status::Expired);
        }
    }

    /// One side of a trade.
    fn book(&mut self, id: u64, price: i64, qty: i64, fee_ppm: i128) {
        let value = i128::from(price) * i128::from(qty) / i128::from(ONE);
        let item = self.items.get_mut(&id).expect("known");
        item.executed += qty;
        item.quote += value;
        let (base, quote) = ASSETS[item.symbol];
        let (out, paid, into, got) = match item.side {
            Side::Buy => (quote, value, base, i128::from(qty)),
            Side::Sell => (base, i128::from(qty), quote, value),
        };
        let (account, done) = (item.account, item.amount == 0 && item.left() == 0);
        *self.totals.get_mut(&(account, out)).expect("an asset") -= paid;
        *self.totals.get_mut(&(account, into)).expect("an asset") +=
            got - got * fee_ppm / 1_000_000;
        if done {
            self.end(id, Status::Filled);
        }
    }

    fn trigger(&mut self, symbol: usize, price: i64) {
        let mut due: Vec<(bool, i64, u64)> = Vec::new();
        for item in self.items.values() {
            if item.symbol != symbol
                || item.phase != Phase::Waiting
                || self.triggered.contains(&item.id)
            {
                continue;
            }
            // A loss is stopped where the price runs away from the order's side, a profit taken where it comes.
            let loss = matches!(item.kind, Kind::StopLoss | Kind::StopLossLimit);
            let rising = loss == (item.side == Side::Buy);
            if (rising && price >= item.stop) || (!rising && price <= item.stop) {
                due.push((!rising, if rising { item.stop } else { -item.stop }, item.id));
            }
        }
        due.sort_unstable();
        self.triggered.extend(due.into_iter().map(|(_, _, id)| id));
    }

    fn take(&mut self, arrival: &Arrival) {
        let (mut anonymous_left, mut spent) = (0, 0_i128);
        let (id, symbol, side, limit) = match *arrival {
            Arrival::Order(id) => {
                let item = &self.items[&id];
                (id, item.symbol, item.side, item.kind.has_limit().then_some(item.price))
            }
            Arrival::Anonymous(symbol, side, limit, qty) => {
                anonymous_left = qty;
                (0, symbol, side, Some(limit))
            }
        };
        let lot = [1_000, 10_000, 100_000][symbol];
        while let Some(maker) = self.best(symbol, side, limit) {
            let (price, rests, whose) =
                (self.items[&maker].price, self.items[&maker].left(), self.items[&maker].account);
            let want = match self.items.get(&id) {
                None => anonymous_left,
                Some(item) if !item.is_open() => return,
                Some(item) if item.amount > 0 => {
                    let qty = (item.amount - spent) * i128::from(ONE) / i128::from(price);
                    i64::try_from(qty).expect("small") / lot * lot
                }
                Some(item) => item.left(),
            };
            if want == 0 {
                return;
            }
            let qty = want.min(self.items[&maker].shows());
            let own = self.items.get(&id).filter(|item| item.account == whose).map(|item| item.stp);
            match own {
                Some("EXPIRE_MAKER") => {
                    self.prevent(maker, rests);
                    continue;
                }
                Some(stp @ ("EXPIRE_TAKER" | "EXPIRE_BOTH")) => {
                    if stp == "EXPIRE_BOTH" {
                        self.prevent(maker, rests);
                    }
                    let left = self.items[&id].left();
                    self.prevent(id, left);
                    return;
                }
                Some("DECREMENT") => {
                    self.prevent(maker, qty);
                    self.hide(maker, qty);
                    self.prevent(id, qty);
                    spent += i128::from(price) * i128::from(qty) / i128::from(ONE);
                    continue;
                }
                _ => {}
            }
            spent += i128::from(price) * i128::from(qty) / i128::from(ONE);
            anonymous_left -= qty;
            self.trades.push((symbol, id, maker, price, qty));
            if let Some(item) = self.items.get(&id) {
                self.book(id, price, qty, FEES[item.account].1);
            }
            self.book(maker, price, qty, FEES[whose].0);
            self.hide(maker, qty);
            self.trigger(symbol, price);
        }
    }

    /// An order that works from now on: trades, then rests or ends.
    fn work(&mut self, id: u64) {
        let item = &self.items[&id];
        let kills = item.tif == "FOK" && item.kind.has_limit();
        let qty = item.qty;
        let mut ahead = self.clone();
        ahead.take(&Arrival::Order(id));
        if !kills || ahead.items[&id].executed >= qty {
            *self = ahead;
        }
        let item = &self.items[&id];
        if !item.is_open() {
            return;
        }
        if item.kind.has_limit() && item.tif == "GTC" {
            let seen = item.part.min(item.left());
            self.items.get_mut(&id).expect("known").seen = seen;
            self.resting.push(id);
        } else {
            self.end(id, Status::Expired);
        }
    }

    fn arrive(&mut self, item: Item) {
        let (id, waits) = (item.id, item.phase == Phase::Waiting);
        self.items.insert(id, item);
        if !waits {
            self.work(id);
            self.settle_stops();
        }
    }

    fn settle_stops(&mut self) {
        while !self.triggered.is_empty() {
            let id = self.triggered.remove(0);
            self.items.get_mut(&id).expect("known").phase = Phase::Working;
            let item = &self.items[&id];
            let (account, (asset, _)) = (item.account, item.binds());
            if !item.kind.has_limit() {
                let needs = if item.side == Side::Sell {
                    i128::from(item.qty)
                } else {
                    let mut ahead = self.clone();
                    ahead.take(&Arrival::Order(id));
                    ahead.items[&id].quote
                };
                if needs > self.holds(account, asset).0 {
                    self.end(id, Status::Expired);
                    continue;
                }
            }
            self.work(id);
        }
    }
}

// --- what happens --------------------------------------------------------------------------------------------------

#[derive(Clone, Debug)]
struct Act {
    account: usize,
    symbol: usize,
    what: u8,
    side: Side,
    kind: Kind,
    tif: &'static str,
    price: i64,
    stop: i64,
    size: i64,
    /// An iceberg shows so many times the smallest size; 0 for no iceberg.
    part: i64,
    stp: &'static str,
    nth: usize,
}

fn act() -> impl Strategy<Value = Act> {
    let kind = prop_oneof![
        6 => Just(Kind::Limit),
        1 => Just(Kind::LimitMaker),
        2 => Just(Kind::Market),
        1 => Just(Kind::StopLoss),
        1 => Just(Kind::StopLossLimit),
        1 => Just(Kind::TakeProfit),
        1 => Just(Kind::TakeProfitLimit),
    ];
    let tif = prop_oneof![5 => Just("GTC"), 1 => Just("IOC"), 1 => Just("FOK")];
    let side = prop_oneof![Just(Side::Buy), Just(Side::Sell)];
    let symbol = prop_oneof![3 => Just(0_usize), 1 => Just(1), 1 => Just(2)];
    let who = (0..3_usize, symbol, 0..14_u8, side, kind, tif);
    let part = prop_oneof![2 => Just(0_i64), 1 => 1..4_i64];
    let size = (1..7_i64, part);
    let how = (0..12_i64, 0..12_i64, size, prop::sample::select(&STPS[..]), 0..6_usize);
    (who, how).prop_map(
        |((account, symbol, what, side, kind, tif), (price, stop, (size, part), stp, nth))| Act {
            account,
            symbol,
            what,
            side,
            kind,
            tif,
            price,
            stop,
            size,
            part,
            stp,
            nth,
        },
    )
}

impl Act {
    fn rules(&self) -> SymbolSettings {
        SymbolSettings::named(SYMBOLS[self.symbol]).expect("a symbol")
    }

    /// The order that it asks for.
    fn item(&self, id: u64) -> Item {
        let rules = self.rules();
        let at = |steps: i64| rules.mid + (steps - 6) * rules.tick * 3;
        let by_amount = self.kind == Kind::Market && self.nth.is_multiple_of(2);
        let one = rules.lot * UNITS[self.symbol];
        let qty = self.size * one;
        let takes_tif = self.kind.takes_tif();
        Item {
            id,
            account: self.account,
            symbol: self.symbol,
            side: self.side,
            kind: self.kind,
            tif: if takes_tif { self.tif } else { "GTC" },
            price: if self.kind.has_limit() { at(self.price) } else { 0 },
            stop: if self.kind.is_stop() { at(self.stop) } else { 0 },
            qty: if by_amount { 0 } else { qty },
            part: if self.kind.has_limit() { self.part * one } else { 0 },
            seen: 0,
            amount: if by_amount {
                i128::from(rules.mid) * i128::from(qty) / i128::from(ONE) + 7
            } else {
                0
            },
            stp: self.stp,
            executed: 0,
            quote: 0,
            prevented: 0,
            phase: if self.kind.is_stop() { Phase::Waiting } else { Phase::Working },
        }
    }

    fn query(&self) -> String {
        let item = self.item(0);
        let mut query = format!(
            "symbol={}&side={}&type={}&selfTradePreventionMode={}",
            SYMBOLS[self.symbol],
            self.side.label(),
            self.kind.label(),
            self.stp
        );
        for (name, units) in [
            ("quantity", item.qty),
            ("price", item.price),
            ("stopPrice", item.stop),
            ("icebergQty", item.part),
        ] {
            if units > 0 {
                query += &format!("&{name}={}", decimal(units));
            }
        }
        if item.amount > 0 {
            query += &format!("&quoteOrderQty={}", decimal(item.amount));
        }
        if self.kind.takes_tif() {
            query += &format!("&timeInForce={}", self.tif);
        }
        query
    }
}

fn call(
    exchange: &mut Exchange,
    account: usize,
    method: &str,
    query: &str,
) -> Result<Value, Value> {
    let spec = SPECS.iter().find(|s| s.ws == method).expect("a call");
    let params = Params::from_form(query, "").expect("parameters");
    let done = params
        .check_known(spec, true)
        .and_then(|()| api::execute(exchange, spec.call, Some(account), &params, UTC));
    let json = |text: &str| serde_json::from_str(text).expect("JSON");
    done.map(|body| json(&body)).map_err(|refusal| json(&pindrop::sim::wire::error(&refusal)))
}

/// Does it at the venue and in the reference.
fn run(exchange: &mut Exchange, reference: &mut Reference, act: &Act) {
    let open = exchange.accounts[act.account].open_orders().nth(act.nth).map(|o| o.id);
    let id_of = |placed: &Value| placed["orderId"].as_u64();
    match act.what {
        0 => {
            let limit = act.item(0);
            let price = if limit.price > 0 { limit.price } else { act.rules().mid };
            let qty = limit.qty.max(act.rules().lot);
            exchange.market_takes(act.symbol, act.side, price, qty, UTC);
            reference.take(&Arrival::Anonymous(act.symbol, act.side, price, qty));
            reference.settle_stops();
        }
        1 => {
            let Some(id) = open else { return };
            let symbol = reference.items[&id].symbol;
            let query = format!("symbol={}&orderId={id}", SYMBOLS[symbol]);
            call(exchange, act.account, "order.cancel", &query).expect("an open order");
            reference.end(id, Status::Canceled);
        }
        2 | 3 => {
            let mode = if act.what == 2 { "ALLOW_FAILURE" } else { "STOP_ON_FAILURE" };
            let id = open.unwrap_or(99_999);
            let query = format!("{}&cancelReplaceMode={mode}&cancelOrderId={id}", act.query());
            let done = call(exchange, act.account, "order.cancelReplace", &query);
            let both = done.unwrap_or_else(|refused| refused["data"].clone());
            if both["cancelResult"] == "SUCCESS" {
                reference.end(id, Status::Canceled);
            }
            if let Some(id) = id_of(&both["newOrderResponse"]) {
                reference.arrive(act.item(id));
            }
        }
        12 | 13 => {
            let Some(id) = open else { return };
            let symbol = reference.items[&id].symbol;
            let lot = SymbolSettings::named(SYMBOLS[symbol]).expect("a symbol").lot;
            let qty = act.size * lot * UNITS[symbol];
            let query = format!("symbol={}&orderId={id}&newQty={}", SYMBOLS[symbol], decimal(qty));
            if call(exchange, act.account, "order.amend.keepPriority", &query).is_ok() {
                reference.amend(id, qty);
            }
        }
        _ => {
            let placed = call(exchange, act.account, "order.place", &act.query());
            if let Some(id) = placed.ok().as_ref().and_then(id_of) {
                reference.arrive(act.item(id));
            }
        }
    }
}

fn agree(exchange: &Exchange, reference: &Reference) {
    for (at, account) in exchange.accounts.iter().enumerate() {
        for (asset, holding) in account.holdings.iter().enumerate() {
            let held = (holding.free, holding.locked);
            assert_eq!(held, reference.holds(at, asset), "account {at}, asset {asset}");
        }
    }
    for item in reference.items.values() {
        let order = exchange.accounts[item.account].order(item.id).expect("remembered");
        let ours = (order.executed, order.quote_executed, order.is_waiting());
        assert_eq!(ours, (item.executed, item.quote, item.phase == Phase::Waiting), "{order:?}");
        if item.amount > 0 {
            // What an order by amount comes to is not known before: it ends at once, in one way or the other.
            assert!(!order.status.is_open(), "{order:?}");
            continue;
        }
        assert_eq!(order.prevented, item.prevented, "{order:?}");
        let status = match (item.phase, item.executed) {
            (Phase::Over(status), _) => status,
            (_, 0) => Status::New,
            _ => Status::PartiallyFilled,
        };
        assert_eq!(order.status, status, "{order:?}");
    }
    for (symbol, listing) in exchange.listings.iter().enumerate() {
        for side in [Side::Buy, Side::Sell] {
            let mut levels: BTreeMap<i64, i64> = BTreeMap::new();
            for item in reference.resting.iter().map(|id| &reference.items[id]) {
                if item.symbol == symbol && item.side == side {
                    *levels.entry(item.price).or_default() += item.shows();
                }
            }
            let mut levels: Vec<(i64, i64)> = levels.into_iter().collect();
            if side == Side::Buy {
                levels.reverse();
            }
            assert_eq!(listing.levels(side).collect::<Vec<_>>(), levels, "{symbol} {side:?}");
        }
    }
}

/// What the venue told, act by act, must make sense by itself.
#[derive(Default)]
struct Ledger {
    last_exec: u64,
    last_order: u64,
    last_trade: [u64; 3],
    /// By order: traded so far as told, and whether its end was told.
    told: BTreeMap<u64, (i64, bool)>,
    /// Symbol, taker, maker, price, quantity.
    trades: Vec<(usize, u64, u64, i64, i64)>,
    pending: BTreeMap<(usize, u64), u64>,
}

impl Ledger {
    fn read(&mut self, exchange: &mut Exchange) {
        for report in std::mem::take(&mut exchange.reports) {
            let Report::Execution { order, exec, exec_id, .. } = report else { continue };
            assert!(exec_id > self.last_exec, "event numbers increase");
            self.last_exec = exec_id;
            let fresh = !self.told.contains_key(&order.id);
            if fresh {
                assert!(exec == Exec::New && order.id > self.last_order, "order numbers increase");
                self.last_order = order.id;
            }
            let told = self.told.entry(order.id).or_default();
            assert!(!told.1, "nothing after the end: {order:?}");
            told.1 = !order.status.is_open();
            if let Exec::Trade { trade_id, price, qty, maker, .. } = exec {
                told.0 += qty;
                assert_eq!(told.0, order.executed, "trades sum up: {order:?}");
                self.trade(order.asked.symbol, order.id, trade_id, price, qty, maker);
            }
            // A quantity may be reduced below what was traded before; that ends the order.
            let most = order.amends.iter().map(|amend| amend.qty).max().unwrap_or(order.qty);
            assert!(order.executed + order.prevented <= most, "no more than asked: {order:?}");
        }
        for account in &exchange.accounts {
            for order in account.orders() {
                let fills = account.fills().iter().filter(|f| f.order_id == order.id);
                let (qty, quote) = fills.fold((0, 0), |(q, v), f| (q + f.qty, v + f.quote));
                assert_eq!((qty, quote), (order.executed, order.quote_executed), "{order:?}");
                assert_eq!(self.told[&order.id], (order.executed, !order.status.is_open()));
            }
        }
    }

    /// The taker's half comes first.
    fn trade(&mut self, symbol: usize, order: u64, trade: u64, price: i64, qty: i64, maker: bool) {
        if !maker {
            assert!(trade > self.last_trade[symbol], "trade numbers increase");
            self.pending.insert((symbol, trade), order);
        }
        self.last_trade[symbol] = trade;
        if maker {
            let taker = self.pending.remove(&(symbol, trade)).unwrap_or(0);
            self.trades.push((symbol, taker, order, price, qty));
        }
    }
}

proptest! {
    #![proptest_config(cases(250))]

    #[test]
    fn everything_agrees_with_the_reference(acts in prop::collection::vec(act(), 1..90)) {
        let (mut exchange, mut reference, mut ledger) =
            (exchange(), Reference::default(), Ledger::default());
        for (at, account) in exchange.accounts.iter().enumerate() {
            for (asset, holding) in account.holdings.iter().enumerate() {
                reference.totals.insert((at, asset), holding.free);
            }
        }
        for act in &acts {
            run(&mut exchange, &mut reference, act);
            check_money(&exchange);
            agree(&exchange, &reference);
            ledger.read(&mut exchange);
            prop_assert_eq!(&ledger.trades, &reference.trades, "who traded with whom, in which order");
        }
    }
}

// --- the same, on the wire and with faults -------------------------------------------------------------------------

const FAULTS: [&str; 8] = [
    r#"{"kind":"reject","target":"rest"}"#,
    r#"{"kind":"reject","probability":0.3}"#,
    r#"{"kind":"lost_ack","target":"rest","count":2}"#,
    r#"{"kind":"lost_ack","target":"ws_api"}"#,
    r#"{"kind":"late_fill","latency_ms":5}"#,
    r#"{"kind":"duplicate_fill","count":3}"#,
    r#"{"kind":"status","target":"ws_api","status":503,"when":"after"}"#,
    r#"{"kind":"status","target":"ws_api","status":503,"when":"before"}"#,
];

/// What the account stream told of each order: traded, by trade, so that nothing counts twice.
fn listen(told: &mut BTreeMap<u64, BTreeMap<i64, String>>, messages: &[Value]) {
    for message in messages {
        let event = &message["event"];
        if event["x"] == "TRADE" {
            let (order, trade) = (event["i"].as_u64(), event["t"].as_i64());
            let trades = told.entry(order.expect("an order")).or_default();
            let qty = event["l"].as_str().expect("a quantity").to_owned();
            let before = trades.insert(trade.expect("a trade"), qty.clone());
            assert!(before.is_none_or(|b| b == qty), "a repeated fill is the same");
        }
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn faults_on_orders_lose_no_money(acts in prop::collection::vec((act(), prop::option::weighted(0.2, prop::sample::select(&FAULTS[..]))), 1..40)) {
        let mut world = World::new(&settings());
        let mut ws = world.ws("/ws-api/v3");
        world.call(&mut ws, "userDataStream.subscribe.signature", json!({}));
        let mut told = BTreeMap::new();
        for (act, broken) in &acts {
            if let Some(broken) = broken {
                fault(&mut world, broken);
            }
            let open = world.venue.exchange().accounts[0].open_orders().nth(act.nth).map(|o| o.id);
            let next = world.venue.exchange().sequences().0;
            let (method, params) = match (act.what, open) {
                (0 | 1, Some(id)) => {
                    let symbol = world.venue.exchange().accounts[0].order(id).map_or(0, |o| o.asked.symbol);
                    ("order.cancel", format!("symbol={}&orderId={id}", SYMBOLS[symbol]))
                }
                _ => ("order.place", act.query()),
            };
            let params: Value = params.split('&').filter_map(|p| p.split_once('=')).map(|(k, v)| (k.to_owned(), json!(v))).collect::<serde_json::Map<_, _>>().into();
            let got = world.call(&mut ws, method, params);
            let placed = world.venue.exchange().sequences().0 - next;
            if let Some(answer) = got.iter().find(|m| m.get("status").is_some()) {
                let (status, code) = (answer["status"].as_u64(), answer["error"]["code"].as_i64());
                match (status, code) {
                    (Some(200), _) => prop_assert_eq!(placed, u64::from(method == "order.place")),
                    // A failure after the fact: nobody can tell from the answer.
                    (Some(503), _) => prop_assert!(placed <= 1),
                    _ => prop_assert_eq!(placed, 0, "{}", answer),
                }
            }
            listen(&mut told, &got);
            check_money(world.venue.exchange());
        }
        world.http("DELETE", "/sim/faults", "", "");
        world.pass(20);
        let rest = world.read(&mut ws);
        listen(&mut told, &rest);
        let account = &world.venue.exchange().accounts[0];
        for order in account.orders() {
            let trades = told.get(&order.id).into_iter().flat_map(|t| t.values());
            let sum: i64 = trades.filter_map(|q| pindrop::sim::json::parse_decimal(q)).sum();
            prop_assert_eq!(sum, order.executed, "told once is told: {:?}", order);
        }
        check_money(world.venue.exchange());
    }
}
