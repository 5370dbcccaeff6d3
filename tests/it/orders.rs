//! Orders: one order sender against a scripted venue over memory streams, under a virtual clock.
//!
//! The venue is a table of orders and a dialect of one-line requests; what it answers, each test says. It proves:
//! acknowledgement, fills before it, duplicate and late fills, lost answers, disconnects, restarts, the journal's
//! stall, fences and the drain.

use arrayvec::ArrayString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pindrop::clock::{MonoNs, UtcNs, VirtualClock};
use pindrop::net::memory::MemoryNet;
use pindrop::net::server::{ConnId, Server, ServerConfig, ServerEvent};
use pindrop::net::url::WsUrl;
use pindrop::runtime::actor::{Actor, ActorId, Cx, EdgeId, Fault, Generation, Stop, Work};
use pindrop::runtime::child::ChildSpec;
use pindrop::runtime::health::Cell;
use pindrop::runtime::mailbox::{Edge, EdgeSpec, Inbox, Latest, Mailbox, OnRestart, Overflow};
use pindrop::runtime::setting::Setting;
use pindrop::runtime::stepper::Stepper;
use pindrop::runtime::system::{SystemBuilder, SystemSettings, Threading};
use pindrop::runtime::view::View;
use pindrop::runtime::wake::Waker;
use pindrop::trading::domain::instrument::Name;
use pindrop::trading::domain::*;
use pindrop::trading::order::{
    Durability, Kept, OnExit, OrderPorts, OrderSender, OrderSettings, StrategyPort, Vault,
};
use pindrop::trading::risk::{Approved, KillSwitch, Limits};
use pindrop::trading::telemetry::{OrdersView, SessionState};
use pindrop::trading::venue::{
    Answer, DecodeError, OrderDialect, RequestId, RequestKind, SessionMessage, VenueError,
    VenueOrder, VenueReport, VenueTrade,
};

const PORT: u16 = 9_000;
/// Trades in one answer.
const TRADES_PAGE: usize = 1_000;
const STEP: Duration = Duration::from_millis(5);
const RECV_WINDOW: Duration = Duration::from_secs(2);

/// Messages of the venue: what travels is their index.
type Script = Arc<Mutex<Vec<SessionMessage>>>;

/// A dialect whose requests are one line of words.
struct Words(Script);

fn line(out: &mut Vec<u8>, words: std::fmt::Arguments<'_>) {
    out.clear();
    std::io::Write::write_fmt(out, words).expect("a vector takes everything");
}

impl OrderDialect for Words {
    fn session_target(&self) -> String {
        String::new()
    }
    fn needs_logon(&self) -> bool {
        true
    }
    fn logon(&mut self, out: &mut Vec<u8>, seq: u64, _: UtcNs) {
        line(out, format_args!("logon {seq}"));
    }
    fn subscribe(&mut self, out: &mut Vec<u8>, seq: u64, _: UtcNs) {
        line(out, format_args!("subscribe {seq}"));
    }
    fn place(
        &mut self,
        out: &mut Vec<u8>,
        seq: u64,
        order: &Approved<NewOrder>,
        _: &Instrument,
        id: &ClientOrderId,
        _: UtcNs,
    ) {
        let NewOrder { side, price, qty, .. } = order.get();
        let (price, qty) = (price.units(), qty.units());
        line(out, format_args!("place {seq} {id} {} {price} {qty}", side.label()));
    }
    fn cancel(
        &mut self,
        out: &mut Vec<u8>,
        seq: u64,
        _: &Instrument,
        id: &ClientOrderId,
        _: UtcNs,
    ) {
        line(out, format_args!("cancel {seq} {id}"));
    }
    fn cancel_all(&mut self, out: &mut Vec<u8>, seq: u64, _: &Instrument, _: UtcNs) {
        line(out, format_args!("cancel_all {seq}"));
    }
    fn open_orders(&mut self, out: &mut Vec<u8>, seq: u64, _: &Instrument, _: UtcNs) {
        line(out, format_args!("open {seq}"));
    }
    fn order_status(
        &mut self,
        out: &mut Vec<u8>,
        seq: u64,
        _: &Instrument,
        id: &ClientOrderId,
        _: UtcNs,
    ) {
        line(out, format_args!("status {seq} {id}"));
    }
    fn trades(&mut self, out: &mut Vec<u8>, seq: u64, _: &Instrument, from: Option<u64>, _: UtcNs) {
        match from {
            Some(from) => line(out, format_args!("trades {seq} {from}")),
            None => line(out, format_args!("trades {seq}")),
        }
    }
    fn account(&mut self, out: &mut Vec<u8>, seq: u64, _: UtcNs) {
        line(out, format_args!("account {seq}"));
    }
    fn decode(&mut self, frame: &[u8]) -> Result<SessionMessage, DecodeError> {
        let bad = || DecodeError::new("expected an index", frame);
        let index: usize =
            std::str::from_utf8(frame).ok().and_then(|t| t.parse().ok()).ok_or_else(bad)?;
        self.0.lock().expect("one thread").get(index).cloned().ok_or_else(bad)
    }
    fn is_unknown_order(&self, error: &VenueError) -> bool {
        error.code == -2013 || error.code == -2011
    }
    fn recv_window(&self) -> Duration {
        RECV_WINDOW
    }
}

fn refusal(code: i32) -> VenueError {
    VenueError { status: 400, code, message: ArrayString::new(), retry_after: None }
}

/// The venue: what it holds, what it was asked, and which questions it does not answer by itself.
struct Venue {
    server: Server,
    script: Script,
    conn: Option<ConnId>,
    orders: Vec<VenueOrder>,
    trades: Vec<VenueTrade>,
    /// Every request, oldest first.
    asked: Vec<String>,
    /// Requests of these kinds are noted, and neither done nor answered.
    deaf: Vec<&'static str>,
    /// Requests of these kinds are done, and not answered.
    mute: Vec<&'static str>,
    last_trade: u64,
}

impl Venue {
    fn say(&mut self, message: SessionMessage) {
        let Some(conn) = self.conn else { return };
        let index = {
            let mut script = self.script.lock().expect("one thread");
            script.push(message);
            script.len() - 1
        };
        self.server.send_text(conn, &index.to_string());
        self.server.flush();
    }

    fn answer(&mut self, kind: RequestKind, seq: u64, result: Result<Answer, VenueError>) {
        self.say(SessionMessage::Answer { id: RequestId { kind, seq }, result });
    }

    fn pump(&mut self, now: MonoNs) {
        while let Some(event) = self.server.poll(now) {
            match event {
                ServerEvent::Upgrade { conn, .. } => {
                    self.server.accept_ws(conn);
                    self.conn = Some(conn);
                }
                ServerEvent::Message { text, .. } => self.hear(text.as_str()),
                ServerEvent::Closed { conn, .. } if self.conn == Some(conn) => self.conn = None,
                _ => {}
            }
        }
    }

    fn hear(&mut self, text: &str) {
        self.asked.push(text.to_owned());
        let words: Vec<&str> = text.split(' ').collect();
        if self.deaf.contains(&words[0]) {
            return;
        }
        let mute = self.mute.contains(&words[0]);
        let seq = words[1].parse().expect("a number");
        let (kind, result) = match words[0] {
            "logon" => (RequestKind::Logon, Ok(Answer::LoggedOn)),
            "subscribe" => (RequestKind::Subscribe, Ok(Answer::Subscribed)),
            "account" => (RequestKind::Account, Ok(Answer::Account(Vec::new()))),
            "open" => {
                let open = |o: &&VenueOrder| !o.status.is_terminal();
                let list = self.orders.iter().filter(open).copied().collect();
                (RequestKind::OpenOrders, Ok(Answer::OpenOrders(list)))
            }
            "trades" => (RequestKind::Trades, Ok(Answer::Trades(self.trades_from(words.get(2))))),
            "status" => {
                let found = self.find(words[2]).map(|at| Answer::Order(self.orders[at]));
                (RequestKind::OrderStatus, found.ok_or(refusal(-2013)))
            }
            "place" => {
                let placed = self.take_order(&words, !mute);
                (RequestKind::Place, Ok(Answer::Placed(placed)))
            }
            "cancel" => (RequestKind::Cancel, self.take_cancel(words[2], !mute)),
            other => panic!("unexpected request {other}"),
        };
        if !mute {
            self.answer(kind, seq, result);
        }
    }

    /// A page of trades: from an id on, or the newest.
    fn trades_from(&self, from: Option<&&str>) -> Vec<VenueTrade> {
        let Some(from) = from else {
            let old = self.trades.len().saturating_sub(TRADES_PAGE);
            return self.trades[old..].to_vec();
        };
        let from: u64 = from.parse().expect("a number");
        let list = self.trades.iter().filter(|t| t.trade_id >= from);
        list.take(TRADES_PAGE).copied().collect()
    }

    /// So many trades of somebody else's orders on this account, each of one unit.
    fn trade_elsewhere(&mut self, count: u64) {
        for _ in 0..count {
            self.last_trade += 1;
            self.trades.push(VenueTrade {
                symbol: name("BTCUSDT"),
                trade_id: self.last_trade,
                venue_order_id: 7,
                side: Side::Buy,
                price: Price::from_units(9_990),
                qty: Qty::from_units(1),
                commission: Commission::default(),
                venue_utc: UtcNs::default(),
            });
        }
    }

    fn find(&self, id: &str) -> Option<usize> {
        self.orders.iter().position(|o| o.client_order_id.as_str() == id)
    }

    fn take_order(&mut self, words: &[&str], tell: bool) -> VenueOrder {
        let number = |at: usize| words[at].parse::<i64>().expect("a number");
        let order = VenueOrder {
            symbol: name("BTCUSDT"),
            client_order_id: ClientOrderId::from(words[2]).expect("short"),
            venue_order_id: 100 + self.orders.len() as u64,
            status: OrderStatus::New,
            side: if words[3] == "buy" { Side::Buy } else { Side::Sell },
            price: Price::from_units(number(4)),
            qty: Qty::from_units(number(5)),
            cum_qty: Qty::ZERO,
        };
        self.orders.push(order);
        if tell {
            self.report(self.orders.len() - 1, ExecType::New, 0, None);
        }
        order
    }

    fn take_cancel(&mut self, id: &str, tell: bool) -> Result<Answer, VenueError> {
        let open = self.find(id).filter(|at| !self.orders[*at].status.is_terminal());
        let at = open.ok_or(refusal(-2011))?;
        self.orders[at].status = OrderStatus::Canceled;
        if tell {
            self.report(at, ExecType::Canceled, 0, None);
        }
        Ok(Answer::Canceled(self.orders[at]))
    }

    fn report(&mut self, at: usize, exec: ExecType, last: i64, trade_id: Option<u64>) {
        let order = self.orders[at];
        self.say(SessionMessage::Report(VenueReport {
            symbol: order.symbol,
            client_order_id: order.client_order_id,
            venue_order_id: order.venue_order_id,
            exec,
            status: order.status,
            side: order.side,
            price: order.price,
            qty: order.qty,
            cum_qty: order.cum_qty,
            last_qty: Qty::from_units(last),
            last_price: order.price,
            trade_id,
            commission: Commission::default(),
            reject_code: 0,
            venue_utc: UtcNs::default(),
        }));
    }

    /// Order number `at` trades `qty`; told to the account's stream unless `quiet`.
    fn fill(&mut self, at: usize, qty: i64, quiet: bool) {
        let order = &mut self.orders[at];
        order.cum_qty = Qty::from_units(order.cum_qty.units() + qty);
        let full = order.cum_qty == order.qty;
        if !order.status.is_terminal() {
            order.status = if full { OrderStatus::Filled } else { OrderStatus::PartiallyFilled };
        }
        self.last_trade += 1;
        self.trades.push(VenueTrade {
            symbol: self.orders[at].symbol,
            trade_id: self.last_trade,
            venue_order_id: self.orders[at].venue_order_id,
            side: self.orders[at].side,
            price: self.orders[at].price,
            qty: Qty::from_units(qty),
            commission: Commission::default(),
            venue_utc: UtcNs::default(),
        });
        if !quiet {
            self.report(at, ExecType::Trade, qty, Some(self.last_trade));
        }
    }

    /// The number of the newest request of this kind.
    fn asked_last(&self, kind: &str) -> u64 {
        let of_kind = |text: &&String| text.split(' ').next() == Some(kind);
        let text = self.asked.iter().rfind(of_kind).expect("asked");
        text.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a number")
    }

    fn count(&self, kind: &str) -> usize {
        self.asked.iter().filter(|text| text.split(' ').next() == Some(kind)).count()
    }
}

fn name(text: &str) -> Name {
    Name::from(text).expect("short")
}

fn instrument() -> Instrument {
    let it = Instrument::new(InstrumentId(0), VenueId(0), name("sim"), name("BTCUSDT"), (2, 3));
    it.set_rules(Rules {
        base: name("BTC"),
        quote: name("USDT"),
        tick: Price::from_units(1),
        price_min: Price::ZERO,
        price_max: Price::ZERO,
        lot: Qty::from_units(1),
        qty_min: Qty::ZERO,
        qty_max: Qty::ZERO,
        notional_min: Notional::ZERO,
        trading: true,
    });
    it
}

/// The engine's side of the world: one order sender, and the ends that its peers would hold.
struct World {
    now: MonoNs,
    generation: u32,
    sender: OrderSender,
    cx: Cx,
    venue: Venue,
    net: MemoryNet,
    settings: OrderSettings,
    intents: Mailbox<OrderIntent>,
    tops: Latest<TopOfBook>,
    reports_box: Mailbox<ExecutionReport>,
    reports: Inbox<ExecutionReport>,
    journal_box: Mailbox<Entry>,
    journal: Inbox<Entry>,
    journal_cell: Option<Arc<Cell>>,
    book_cell: Option<Arc<Cell>>,
    strategy_cell: Option<Arc<Cell>>,
    journal_stalls: bool,
    written: Written,
    limits: Setting<Vec<(InstrumentId, Limits)>>,
    kill_switch: KillSwitch,
    view: View<OrdersView>,
    vault: Vault,
    next_order: u64,
    /// Every report so far: what and where the order stood.
    told: Vec<ExecutionReport>,
    records: Vec<Entry>,
}

fn intents_box() -> Mailbox<OrderIntent> {
    let spec = EdgeSpec {
        name: "strategy->orders".to_owned(),
        from: Vec::new(),
        to: ActorId(0),
        capacity: 64,
        overflow: Overflow::Refuse,
        on_restart: OnRestart::Refuse,
    };
    Mailbox::new(EdgeId(0), spec, Waker::none())
}

fn limits() -> Limits {
    Limits {
        order_qty_max: Qty::from_units(1_000),
        order_notional_max: Notional::from_units(100_000_000),
        position_max: Qty::from_units(5_000),
        open_orders_max: 10,
        orders_per_s_max: 50,
        price_collar_bps: 500,
        book_age_max: Duration::from_secs(1),
        decision_age_max: Duration::from_millis(200),
    }
}

fn settings() -> OrderSettings {
    OrderSettings {
        engine: "pin".to_owned(),
        boot: UtcNs::from_millis(1_700_000_000_000),
        url: WsUrl::parse(&format!("ws://venue:{PORT}/ws-api/v3")).expect("good url"),
        instruments: Arc::from(vec![instrument()]),
        limits: vec![(InstrumentId(0), limits())],
        durability: Durability::Written,
        on_exit: OnExit::Cancel,
        ack_timeout: OrderSettings::ACK_TIMEOUT,
        seed: 1,
    }
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut OrderSettings)) -> Self {
        let net = MemoryNet::new();
        let server = Server::new(net.listener(PORT), ServerConfig::default());
        let mut settings = settings();
        change(&mut settings);
        let script = Script::default();
        let venue = Venue {
            server,
            script: Arc::clone(&script),
            conn: None,
            orders: Vec::new(),
            trades: Vec::new(),
            asked: Vec::new(),
            deaf: Vec::new(),
            mute: Vec::new(),
            last_trade: 10,
        };
        let reports_box = Mailbox::detached("orders->strategy", 1_000);
        let journal_box = Mailbox::detached("orders->journal", 1_000);
        let (intents, tops) = (intents_box(), Latest::detached("book->orders", 1));
        let (written, kill_switch) = (Written::default(), KillSwitch::new());
        let (view, vault) = (View::new(), Vault::new(1));
        let limits = Setting::new(settings.limits.clone());
        let ports = OrderPorts {
            intents: intents.inbox(),
            tops: tops.inbox(),
            strategies: vec![StrategyPort { reports: reports_box.outbox(), cell: None }],
            journal: journal_box.outbox(),
            journal_cell: None,
            book_cell: None,
            written: written.clone(),
            limits: limits.clone(),
            kill_switch: kill_switch.clone(),
            view: view.clone(),
            vault: vault.clone(),
        };
        let dialect = Box::new(Words(script));
        let sender = OrderSender::new(settings.clone(), ports, dialect, net.dialer());
        let mut world = Self {
            now: MonoNs::from_millis(1_000),
            generation: 1,
            sender: sender.expect("a good name"),
            cx: Cx::detached(MonoNs::ZERO, UtcNs::default()),
            venue,
            net,
            settings,
            intents,
            tops,
            reports: reports_box.inbox(),
            reports_box,
            journal: journal_box.inbox(),
            journal_box,
            journal_cell: None,
            book_cell: None,
            strategy_cell: None,
            journal_stalls: false,
            written,
            limits,
            kill_switch,
            view,
            vault,
            next_order: 1,
            told: Vec::new(),
            records: Vec::new(),
        };
        world.begin();
        world
    }

    fn cx(&self) -> Cx {
        let cell = Arc::new(Cell::new("orders"));
        let mut cx = Cx::new(ActorId(0), Generation(self.generation), cell);
        cx.now = self.now;
        cx.utc = UtcNs::from_millis(1_700_000_000_000);
        cx
    }

    fn begin(&mut self) {
        self.cx = self.cx();
        self.sender.on_start(&mut self.cx).expect("starts");
    }

    /// A world whose sender is live.
    fn live() -> Self {
        let mut world = Self::new();
        world.run(100);
        assert_eq!(world.state(), SessionState::Live);
        world
    }

    /// Replaces the sender by a next generation, as a supervisor does after a panic.
    fn restart(&mut self) {
        self.intents.before_restart();
        self.generation += 1;
        let ports = OrderPorts {
            intents: self.intents.inbox(),
            tops: self.tops.inbox(),
            strategies: vec![StrategyPort {
                reports: self.reports_box.outbox(),
                cell: self.strategy_cell.clone(),
            }],
            journal: self.journal_box.outbox(),
            journal_cell: self.journal_cell.clone(),
            book_cell: self.book_cell.clone(),
            written: self.written.clone(),
            limits: self.limits.clone(),
            kill_switch: self.kill_switch.clone(),
            view: self.view.clone(),
            vault: self.vault.clone(),
        };
        let dialect = Box::new(Words(Arc::clone(&self.venue.script)));
        let sender = OrderSender::new(self.settings.clone(), ports, dialect, self.net.dialer());
        self.sender = sender.expect("a good name");
        self.begin();
    }

    /// One step of everybody, then time passes.
    fn step(&mut self) {
        self.cx.now = self.now;
        self.venue.pump(self.now);
        self.sender.turn(&mut self.cx).expect("no fault");
        self.venue.pump(self.now);
        while let Some(entry) = self.journal.take(&mut self.cx) {
            self.records.push(entry);
        }
        if !self.journal_stalls {
            let last = self.records.iter().map(|entry| entry.seq).max().unwrap_or(0);
            self.written.advance(last);
        }
        while let Some(report) = self.reports.take(&mut self.cx) {
            self.told.push(report);
        }
        self.now = self.now.after(STEP);
    }

    fn run(&mut self, ms: u64) {
        let until = self.now.after(Duration::from_millis(ms));
        while self.now < until {
            self.put_top();
            self.step();
        }
    }

    /// The sender's thread does not run for `ms` between its last turn and its next one.
    fn suspend(&mut self, ms: u64) {
        self.now = self.now.after(Duration::from_millis(ms).saturating_sub(STEP));
    }

    fn put_top(&mut self) {
        let level =
            |price| Some(Level { price: Price::from_units(price), qty: Qty::from_units(1) });
        self.tops.outbox().put(
            0,
            TopOfBook {
                state: BookState::Live,
                bid: level(9_990),
                ask: level(10_010),
                stamps: Stamps { recv: self.now, venue_utc: UtcNs::default() },
                ..TopOfBook::default()
            },
        );
    }

    fn offer(&mut self, body: IntentBody) -> OrderRef {
        let order = OrderRef::new(0, 1, self.next_order);
        self.next_order += 1;
        let intent = OrderIntent { order, body, recv: self.now, decided: self.now };
        self.intents.outbox().offer(intent).expect("room");
        order
    }

    fn place(&mut self) -> OrderRef {
        self.offer(IntentBody::Place(NewOrder {
            instrument: InstrumentId(0),
            side: Side::Buy,
            kind: OrderKind::LimitMaker,
            tif: TimeInForce::Gtc,
            price: Price::from_units(9_990),
            qty: Qty::from_units(10),
        }))
    }

    fn cancel(&mut self, order: OrderRef) {
        let instrument = InstrumentId(0);
        self.offer(IntentBody::Cancel(CancelOrder { instrument, order }));
    }

    /// An order that rests at the venue and is acknowledged.
    fn resting(&mut self) -> OrderRef {
        let order = self.place();
        self.run(20);
        assert_eq!(self.last(order), (ExecType::New, OrderStatus::New));
        order
    }

    #[track_caller]
    fn last(&self, order: OrderRef) -> (ExecType, OrderStatus) {
        let report = self.told.iter().rfind(|r| r.order == order).expect("a report");
        (report.exec, report.status)
    }

    fn reason(&self, order: OrderRef) -> Option<Reason> {
        self.told.iter().rfind(|r| r.order == order)?.reason
    }

    fn position(&self) -> i64 {
        self.vault.position(InstrumentId(0)).units()
    }

    /// The sender's newest view, published now.
    fn look(&mut self) -> OrdersView {
        self.run(150);
        let view = self.view.take().expect("published");
        (*view).clone()
    }

    fn state(&mut self) -> SessionState {
        self.look().state
    }

    /// Drains until the sender says that it is done; how long that took, in milliseconds.
    fn drain(&mut self) -> u64 {
        self.cx.now = self.now;
        self.sender.on_drain(&mut self.cx).expect("no fault");
        for steps in 0..2_000 {
            if self.sender.drained() {
                self.sender.on_stop(&mut self.cx, Stop::Drained);
                return steps * 5;
            }
            self.run(5);
        }
        panic!("never drained");
    }
}

#[test]
fn an_order_is_journaled_then_sent_then_acknowledged() {
    let mut world = World::live();
    let order = world.place();
    world.step();
    assert_eq!(world.venue.count("place"), 0, "its record is not written yet");
    let recorded = |e: &Entry| matches!(e.record, Record::Order { order: o, .. } if o == order);
    assert!(world.records.iter().any(recorded));
    world.run(20);
    assert_eq!(world.venue.count("place"), 1);
    assert_eq!(world.last(order), (ExecType::New, OrderStatus::New));
    let told = world.told.iter().filter(|r| r.order == order).count();
    assert_eq!(told, 1, "answer and stream event are one acknowledgement");
    let view = world.look();
    assert_eq!((view.totals.sent, view.totals.acknowledged, view.open.len()), (1, 1, 1));
    assert_eq!(view.latency[0].count, 1);
}

#[test]
fn account_events_are_subscribed_before_anything_is_compared() {
    let world = World::live();
    let first: Vec<&str> = world.venue.asked.iter().map(|t| &t[..4]).take(5).collect();
    assert_eq!(first, ["logo", "subs", "open", "acco", "trad"]);
}

#[test]
fn a_fill_before_the_acknowledgement_counts() {
    let mut world = World::live();
    world.venue.mute = vec!["place"];
    let order = world.place();
    world.run(20);
    world.venue.fill(0, 4, false);
    world.run(20);
    assert_eq!(world.last(order), (ExecType::Trade, OrderStatus::PartiallyFilled));
    world.venue.report(0, ExecType::New, 0, None);
    world.run(20);
    assert_eq!(world.last(order), (ExecType::Trade, OrderStatus::PartiallyFilled));
    assert_eq!(world.position(), 4);
}

#[test]
fn a_fill_told_twice_counts_once() {
    let mut world = World::live();
    let order = world.resting();
    world.venue.fill(0, 4, false);
    world.venue.report(0, ExecType::Trade, 4, Some(11));
    // Even under another trade id its total says nothing new.
    world.venue.report(0, ExecType::Trade, 4, Some(12));
    world.run(20);
    assert_eq!(world.position(), 4);
    let fills = |r: &&ExecutionReport| r.order == order && r.exec == ExecType::Trade;
    assert_eq!(world.told.iter().filter(fills).count(), 1);
    assert_eq!(world.look().totals.duplicates, 2);
}

#[test]
fn a_cancel_that_crosses_the_last_fill_ends_filled() {
    let mut world = World::live();
    let order = world.resting();
    world.venue.fill(0, 10, true);
    world.cancel(order);
    world.step();
    world.venue.report(0, ExecType::Trade, 10, Some(11));
    world.run(50);
    assert_eq!(world.last(order).1, OrderStatus::Filled);
    assert_eq!((world.position(), world.look().open.len()), (10, 0));
}

#[test]
fn a_cancel_refused_before_the_fill_is_heard_asks_and_ends_filled() {
    let mut world = World::live();
    let order = world.resting();
    world.venue.fill(0, 10, true);
    world.cancel(order);
    world.run(100);
    // The venue said that there is nothing to cancel; its query said filled; the fill itself was never told.
    world.run(2_500);
    assert_eq!(world.last(order), (ExecType::Trade, OrderStatus::Filled));
    assert_eq!(world.position(), 10);
}

#[test]
fn a_late_fill_moves_the_position_and_not_the_order() {
    let mut world = World::live();
    let order = world.resting();
    world.cancel(order);
    world.run(50);
    assert_eq!(world.last(order), (ExecType::Canceled, OrderStatus::Canceled));
    world.venue.fill(0, 3, false);
    world.run(50);
    assert_eq!(world.last(order), (ExecType::Trade, OrderStatus::Canceled));
    assert_eq!(world.position(), 3);
}

#[test]
fn a_lost_acknowledgement_is_asked_for() {
    let mut world = World::live();
    world.venue.mute = vec!["place"];
    let order = world.place();
    world.run(900);
    assert_eq!(world.venue.count("status"), 0);
    world.run(300);
    assert_eq!(world.venue.count("status"), 1);
    assert_eq!(world.last(order), (ExecType::New, OrderStatus::New));
    let unknown = |r: &ExecutionReport| r.exec == ExecType::Unknown;
    assert!(world.told.iter().any(unknown));
}

#[test]
fn absence_is_believed_only_when_the_order_cannot_arrive_any_more() {
    let mut world = World::live();
    world.venue.deaf = vec!["place"];
    let order = world.place();
    world.run(2_500);
    assert_eq!(world.last(order), (ExecType::Unknown, OrderStatus::Unknown));
    assert_eq!(world.look().open.len(), 1);
    world.run(2_500);
    assert_eq!(world.last(order), (ExecType::Rejected, OrderStatus::Rejected));
    assert_eq!(world.reason(order), Some(Reason::NeverArrived));
}

#[test]
fn an_order_the_venue_refuses_is_rejected_with_its_code() {
    let mut world = World::live();
    world.venue.deaf = vec!["place"];
    let order = world.place();
    world.run(20);
    let text = world.venue.asked.last().expect("asked").clone();
    let seq = text.split(' ').nth(1).and_then(|t| t.parse().ok()).expect("a number");
    world.venue.answer(RequestKind::Place, seq, Err(refusal(-2010)));
    world.run(20);
    assert_eq!(world.last(order), (ExecType::Rejected, OrderStatus::Rejected));
    assert_eq!(world.told.last().map(|r| r.venue_code), Some(-2010));
    assert_eq!(world.look().totals.rejected, 1);
}

#[test]
fn a_rate_limit_silences_new_orders_only() {
    let mut world = World::live();
    let resting = world.resting();
    world.venue.deaf = vec!["place"];
    world.place();
    world.run(20);
    let text = world.venue.asked.last().expect("asked").clone();
    let seq = text.split(' ').nth(1).and_then(|t| t.parse().ok()).expect("a number");
    let error = VenueError { status: 429, ..refusal(-1015) };
    world.venue.answer(RequestKind::Place, seq, Err(error));
    world.run(20);
    let order = world.place();
    world.run(20);
    assert_eq!(world.reason(order), Some(Reason::OrderRate));
    world.cancel(resting);
    world.run(20);
    assert_eq!(world.last(resting).1, OrderStatus::Canceled);
    world.venue.deaf.clear();
    world.run(10_000);
    let order = world.place();
    world.run(20);
    assert_eq!(world.last(order).1, OrderStatus::New);
}

#[test]
fn history_longer_than_a_page_is_not_our_position() {
    let mut world = World::new();
    world.venue.trade_elsewhere(2_500);
    world.run(500);
    assert_eq!((world.state(), world.position()), (SessionState::Live, 0));
    world.venue.trade_elsewhere(3);
    world.net.disconnect_all(PORT);
    world.run(1_000);
    assert_eq!(world.state(), SessionState::Live);
    assert_eq!(world.position(), 3, "what this account traded since is held");
}

#[test]
fn a_fill_told_before_the_first_list_of_trades_does_not_make_history_ours() {
    let mut world = World::new();
    world.venue.trade_elsewhere(5);
    world.venue.take_order(&["place", "0", "somebody-else", "buy", "9990", "10"], false);
    world.venue.deaf = vec!["trades"];
    world.run(200);
    let seq = world.venue.asked_last("trades");
    let history = world.venue.trades_from(None);
    world.venue.fill(0, 4, false);
    world.run(20);
    assert_eq!(world.position(), 4);
    world.venue.answer(RequestKind::Trades, seq, Ok(Answer::Trades(history)));
    world.run(200);
    assert_eq!((world.state(), world.position()), (SessionState::Live, 4));
}

#[test]
fn a_disconnect_is_made_whole() {
    let mut world = World::live();
    let kept = world.resting();
    world.venue.mute = vec!["place"];
    let doubted = world.place();
    world.run(20);
    world.net.disconnect_all(PORT);
    world.venue.fill(0, 4, true);
    world.venue.fill(1, 10, true);
    world.step();
    world.step();
    assert_eq!(world.last(doubted), (ExecType::Unknown, OrderStatus::Unknown));
    let refused = world.place();
    world.run(10);
    assert_eq!(world.reason(refused), Some(Reason::SessionDown));
    world.venue.mute.clear();
    world.run(1_000);
    assert_eq!(world.state(), SessionState::Live);
    assert_eq!(world.last(kept), (ExecType::Trade, OrderStatus::PartiallyFilled));
    assert_eq!(world.last(doubted), (ExecType::Trade, OrderStatus::Filled));
    assert_eq!(world.position(), 14);
    assert_eq!(world.look().open.len(), 1, "an order that rests survives a disconnect");
}

/// An order of which 4 were counted without the name of their trade, which the venue's list did not have.
fn unnamed() -> (World, VenueTrade) {
    let mut world = World::live();
    world.resting();
    world.venue.fill(0, 4, true);
    let trade = world.venue.trades.pop().expect("it traded");
    world.net.disconnect_all(PORT);
    world.run(1_000);
    assert_eq!((world.state(), world.position()), (SessionState::Live, 4));
    (world, trade)
}

/// The order is done, and the next generation knows nothing of it.
#[track_caller]
fn counted_once_after_a_restart(mut world: World) {
    world.cancel(OrderRef::new(0, 1, 1));
    world.run(50);
    assert_eq!(world.venue.orders[0].status, OrderStatus::Canceled);
    world.restart();
    world.run(1_000);
    assert_eq!((world.state(), world.position()), (SessionState::Live, 4));
}

#[test]
fn a_fill_counted_without_its_name_and_told_later_counts_once() {
    let (mut world, trade) = unnamed();
    world.venue.trades.push(trade);
    world.venue.report(0, ExecType::Trade, 4, Some(trade.trade_id));
    world.run(50);
    assert_eq!(world.position(), 4);
    counted_once_after_a_restart(world);
}

#[test]
fn a_fill_counted_without_its_name_and_listed_later_counts_once() {
    let (mut world, trade) = unnamed();
    world.venue.trades.push(trade);
    world.net.disconnect_all(PORT);
    world.run(1_000);
    assert_eq!(world.position(), 4);
    counted_once_after_a_restart(world);
}

#[test]
fn a_total_heard_after_the_trades_were_asked_for_waits_for_its_trade() {
    let mut world = World::live();
    world.resting();
    world.venue.deaf = vec!["trades"];
    world.net.disconnect_all(PORT);
    world.run(1_000);
    let seq = world.venue.asked_last("trades");
    world.venue.fill(0, 4, true);
    world.venue.orders[0].status = OrderStatus::Canceled;
    world.venue.report(0, ExecType::Canceled, 0, None);
    world.run(20);
    world.venue.answer(RequestKind::Trades, seq, Ok(Answer::Trades(Vec::new())));
    world.run(20);
    assert_eq!(world.position(), 0, "its fill is on its way");
    world.venue.report(0, ExecType::Trade, 4, Some(11));
    world.run(20);
    assert_eq!(world.position(), 4);
    let fills: Vec<_> = world.told.iter().filter(|r| r.last_qty.units() > 0).collect();
    assert_eq!((fills.len(), fills[0].trade_id), (1, 11));
}

#[test]
fn s27_a_restarted_sender_refuses_the_stale_and_cancels_what_is_open() {
    let mut world = World::live();
    let order = world.resting();
    world.venue.fill(0, 4, false);
    world.run(20);
    let stale = world.place();
    let before = world.venue.count("place");
    world.restart();
    world.run(1_000);
    assert_eq!(world.reason(stale), Some(Reason::Restarted));
    assert_eq!(world.venue.count("place"), before);
    assert_eq!(world.last(order), (ExecType::Canceled, OrderStatus::Canceled));
    assert_eq!(world.state(), SessionState::Live);
    assert_eq!(world.position(), 4, "the position outlives the generation");
    let again = world.place();
    world.run(20);
    assert_eq!(world.last(again), (ExecType::New, OrderStatus::New));
    let ids = world.venue.orders.iter().map(|o| o.client_order_id);
    let ids: std::collections::BTreeSet<_> = ids.collect();
    assert_eq!(ids.len(), 2, "no id is used twice");
}

#[test]
fn fills_missed_by_a_dead_sender_are_found_by_the_next() {
    let mut world = World::live();
    let order = world.resting();
    world.venue.conn = None;
    world.venue.fill(0, 10, true);
    world.restart();
    world.run(1_000);
    assert_eq!(world.last(order), (ExecType::Trade, OrderStatus::Filled));
    assert_eq!(world.position(), 10);
}

/// An order that we were told is cancelled, and that the venue has open all the same.
fn undead() -> World {
    let mut world = World::live();
    let order = world.resting();
    world.cancel(order);
    world.run(50);
    assert_eq!(world.last(order).1, OrderStatus::Canceled);
    world.venue.orders[0].status = OrderStatus::New;
    world
}

#[test]
fn an_order_called_done_that_the_venue_lists_is_cancelled_by_the_comparison() {
    let mut world = undead();
    world.net.disconnect_all(PORT);
    world.run(1_000);
    assert_eq!(world.state(), SessionState::Live);
    assert_eq!(world.venue.orders[0].status, OrderStatus::Canceled);
}

#[test]
fn an_order_called_done_that_the_venue_lists_is_cancelled_by_the_drain() {
    let mut world = undead();
    world.drain();
    assert_eq!(world.venue.orders[0].status, OrderStatus::Canceled);
}

#[test]
fn an_order_believed_never_to_have_arrived_is_cancelled_until_it_is_gone() {
    let mut world = World::live();
    world.venue.deaf = vec!["place"];
    let order = world.place();
    world.run(5_000);
    assert_eq!(world.last(order), (ExecType::Rejected, OrderStatus::Rejected));
    let text = world.venue.asked.iter().find(|text| text.starts_with("place ")).expect("asked");
    let text = text.clone();
    world.venue.deaf = vec!["cancel"];
    world.venue.take_order(&text.split(' ').collect::<Vec<_>>(), true);
    world.run(50);
    assert_eq!(world.venue.count("cancel"), 1);
    world.venue.deaf.clear();
    world.run(1_500);
    assert_eq!(world.venue.orders[0].status, OrderStatus::Canceled);
}

/// A sender that ends because nobody takes its records; `more` shifts which of a fill's two records it is.
#[track_caller]
fn faults_with_a_full_hold(more: bool) {
    let mut world = World::live();
    world.journal_stalls = true;
    let large = NewOrder {
        instrument: InstrumentId(0),
        side: Side::Buy,
        kind: OrderKind::LimitMaker,
        tif: TimeInForce::Gtc,
        price: Price::from_units(9_990),
        qty: Qty::from_units(1_000),
    };
    world.journal_stalls = false;
    for _ in 0..4 {
        world.offer(IntentBody::Place(large));
    }
    world.run(50);
    if more {
        world.kill_switch.fence();
        world.venue.deaf = vec!["cancel"];
        world.run(10);
    }
    // Nobody takes records any more, and nothing is written.
    let filled = (0..4_000).find(|number| {
        world.venue.fill(number / 1_000, 1, false);
        world.cx.now = world.now;
        world.venue.server.flush();
        world.sender.turn(&mut world.cx).is_err()
    });
    let filled = filled.expect("a fault") as i64 + 1;
    world.venue.deaf.clear();
    world.restart();
    world.run(3_000);
    assert_eq!((world.state(), world.position()), (SessionState::Live, filled));
}

#[test]
fn a_fault_in_the_middle_of_a_fill_counts_it_once() {
    faults_with_a_full_hold(false);
    faults_with_a_full_hold(true);
}

#[test]
fn strays_of_another_boot_are_cancelled_and_strangers_left_alone() {
    let mut world = World::new();
    for id in ["pin-abc-1-1", "somebody-else"] {
        let words = ["place", "0", id, "buy", "9990", "10"];
        world.venue.take_order(&words, false);
    }
    world.run(500);
    assert_eq!(world.state(), SessionState::Live);
    assert_eq!(world.venue.orders[0].status, OrderStatus::Canceled);
    assert_eq!(world.venue.orders[1].status, OrderStatus::New);
}

#[test]
fn a_stalled_journal_holds_orders_and_lets_cancels_pass() {
    let mut world = World::live();
    let resting = world.resting();
    world.journal_stalls = true;
    let held = world.place();
    world.run(50);
    assert_eq!(world.venue.count("place"), 1, "held until its record is written");
    world.cancel(resting);
    world.run(50);
    assert_eq!(world.venue.orders[0].status, OrderStatus::Canceled);
    assert_eq!(world.last(resting).1, OrderStatus::New, "its report waits for the journal too");
    world.journal_stalls = false;
    world.run(20);
    assert_eq!(world.last(resting).1, OrderStatus::Canceled);
    assert_eq!(world.last(held).1, OrderStatus::New);
}

#[test]
fn an_order_held_too_long_is_refused_not_sent() {
    let mut world = World::live();
    world.journal_stalls = true;
    let held = world.place();
    world.run(500);
    world.journal_stalls = false;
    world.run(20);
    assert_eq!(world.last(held), (ExecType::Refused, OrderStatus::Rejected));
    assert_eq!(world.reason(held), Some(Reason::DecisionAge));
    assert_eq!(world.venue.count("place"), 0);
}

#[test]
fn a_journal_that_is_down_stops_new_orders() {
    let mut world = World::live();
    // A cell that nobody started is not up.
    world.journal_cell = Some(Arc::new(Cell::new("journal")));
    world.restart();
    world.run(500);
    let order = world.place();
    world.run(20);
    assert_eq!(world.reason(order), Some(Reason::JournalDown));
}

#[test]
fn a_book_builder_that_is_down_leaves_nothing_to_trade_on() {
    let mut world = World::live();
    // A cell that nobody started is not up.
    world.book_cell = Some(Arc::new(Cell::new("book")));
    world.restart();
    world.run(500);
    let order = world.place();
    world.run(20);
    assert_eq!(world.reason(order), Some(Reason::BookState));
    assert_eq!(world.venue.count("place"), 0);
}

#[test]
fn orders_handed_over_do_not_wait_for_the_disk() {
    let mut world = World::with(|settings| settings.durability = Durability::HandedOver);
    world.run(300);
    world.journal_stalls = true;
    world.place();
    world.step();
    assert_eq!(world.venue.count("place"), 1);
}

#[test]
fn a_fence_cancels_what_is_open_and_refuses_what_is_new() {
    let mut world = World::live();
    let order = world.resting();
    world.kill_switch.fence();
    world.venue.mute = vec!["cancel"];
    world.run(50);
    assert_eq!(world.venue.count("cancel"), 1);
    let refused = world.place();
    world.run(20);
    assert_eq!(world.reason(refused), Some(Reason::KillSwitch));
    // The answer is lost: the order is asked about until it is known to be gone.
    world.run(1_500);
    assert_eq!(world.last(order).1, OrderStatus::Canceled);
    world.kill_switch.unfence();
    world.venue.mute.clear();
    let again = world.place();
    world.run(20);
    assert_eq!(world.last(again).1, OrderStatus::New);
}

#[test]
fn a_cancel_nobody_hears_is_repeated() {
    let mut world = World::live();
    let order = world.resting();
    world.venue.deaf = vec!["cancel"];
    world.cancel(order);
    world.run(2_500);
    assert!(world.venue.count("cancel") >= 2);
    assert!(world.venue.count("cancel") <= 4, "at most once per answer timeout");
    world.venue.deaf.clear();
    world.run(1_500);
    assert_eq!(world.last(order).1, OrderStatus::Canceled);
}

#[test]
fn a_refused_cancel_is_not_repeated_for_every_wish() {
    let mut world = World::live();
    let order = world.resting();
    world.venue.deaf = vec!["cancel"];
    for _ in 0..50 {
        world.cancel(order);
        world.run(10);
        let cancel = world.venue.asked.iter().rfind(|text| text.starts_with("cancel ")).cloned();
        let seq = cancel.as_deref().and_then(|text| text.split(' ').nth(1)?.parse().ok());
        let refused = Err(refusal(-2010));
        world.venue.answer(RequestKind::Cancel, seq.expect("asked"), refused);
    }
    assert_eq!(world.venue.count("cancel"), 1, "fifty wishes in half a second");
    world.venue.deaf.clear();
    world.run(1_500);
    assert_eq!(world.last(order).1, OrderStatus::Canceled, "asked again when it was due");
}

#[test]
fn nothing_is_asked_twice_while_the_venue_wants_quiet() {
    let mut world = World::live();
    let orders: Vec<OrderRef> = (0..3).map(|_| world.resting()).collect();
    world.venue.deaf = vec!["cancel", "status"];
    world.venue.report(0, ExecType::New, 0, None);
    for order in &orders {
        world.cancel(*order);
    }
    world.run(20);
    let seq = world.venue.asked_last("cancel");
    let error = VenueError { status: 429, ..refusal(-1003) };
    for seq in seq - 2..=seq {
        world.venue.answer(RequestKind::Cancel, seq, Err(error.clone()));
    }
    world.run(9_500);
    assert_eq!((world.venue.count("cancel"), world.venue.count("status")), (3, 0));
    world.venue.deaf.clear();
    world.run(2_500);
    assert!(world.venue.orders.iter().all(|order| order.status == OrderStatus::Canceled));
}

#[test]
fn a_stray_is_asked_once_while_the_venue_wants_quiet() {
    let mut world = World::new();
    world.venue.take_order(&["place", "0", "pin-abc-1-1", "buy", "9990", "10"], false);
    world.venue.deaf = vec!["cancel"];
    world.run(100);
    let seq = world.venue.asked_last("cancel");
    let error = VenueError { status: 418, ..refusal(-1003) };
    world.venue.answer(RequestKind::Cancel, seq, Err(error));
    world.run(9_500);
    assert_eq!(world.venue.count("cancel"), 1);
    world.venue.deaf.clear();
    world.run(2_500);
    assert_eq!(world.venue.orders[0].status, OrderStatus::Canceled);
}

#[test]
fn an_order_held_when_the_venue_wants_quiet_is_refused() {
    let mut world = World::live();
    let resting = world.resting();
    world.venue.deaf = vec!["cancel"];
    world.cancel(resting);
    world.run(20);
    world.journal_stalls = true;
    let held = world.place();
    world.step();
    let seq = world.venue.asked_last("cancel");
    let error = VenueError { status: 429, ..refusal(-1003) };
    world.venue.answer(RequestKind::Cancel, seq, Err(error));
    world.run(20);
    world.journal_stalls = false;
    world.run(20);
    assert_eq!(world.reason(held), Some(Reason::OrderRate));
}

#[test]
fn a_restart_makes_no_room_for_more_orders_in_the_same_second() {
    let mut world = World::with(|settings| settings.limits[0].1.orders_per_s_max = 2);
    world.run(300);
    world.place();
    world.place();
    world.run(20);
    world.restart();
    world.run(500);
    assert_eq!(world.state(), SessionState::Live);
    let early = world.place();
    world.run(20);
    assert_eq!(world.reason(early), Some(Reason::OrderRate));
    world.run(500);
    let later = world.place();
    world.run(20);
    assert_eq!(world.last(later).1, OrderStatus::New);
}

#[test]
fn a_restart_is_quiet_as_long_as_the_venue_wants() {
    let mut world = World::live();
    let order = world.resting();
    world.venue.deaf = vec!["cancel"];
    world.cancel(order);
    world.run(20);
    let seq = world.venue.asked_last("cancel");
    let error = VenueError { status: 418, ..refusal(-1003) };
    world.venue.answer(RequestKind::Cancel, seq, Err(error));
    world.run(20);
    let asked = world.venue.asked.len();
    world.restart();
    world.run(9_500);
    assert_eq!(world.venue.asked.len(), asked);
    world.venue.deaf.clear();
    world.run(2_500);
    assert_eq!(world.venue.orders[0].status, OrderStatus::Canceled);
}

#[test]
fn a_market_that_never_rests_does_not_keep_a_drain_from_being_idle() {
    let mut world = World::live();
    world.cx.now = world.now;
    world.sender.on_drain(&mut world.cx).expect("no fault");
    world.run(500);
    assert!(world.sender.drained());
    world.put_top();
    world.cx.now = world.now;
    assert_eq!(world.sender.turn(&mut world.cx).expect("no fault"), Work::Idle);
}

#[test]
fn the_drain_cancels_and_verifies() {
    let mut world = World::live();
    let order = world.resting();
    let lists = world.venue.count("open");
    let took = world.drain();
    assert!(took < 200, "took {took} ms");
    assert_eq!(world.last(order).1, OrderStatus::Canceled);
    assert_eq!(world.venue.count("open"), lists + 1, "verified by a query");
    assert!(world.view.take().expect("last words").open.is_empty());
}

#[test]
fn the_drain_finds_what_the_table_does_not_know() {
    let mut world = World::live();
    world.venue.take_order(&["place", "0", "pin-abc-1-1", "buy", "9990", "10"], false);
    world.drain();
    assert_eq!(world.venue.orders[0].status, OrderStatus::Canceled);
}

#[test]
fn a_late_list_does_not_verify_the_next_attempt() {
    let mut world = World::live();
    world.venue.deaf = vec!["open"];
    world.cx.now = world.now;
    world.sender.on_drain(&mut world.cx).expect("no fault");
    world.run(100);
    let late = world.venue.asked_last("open");
    world.run(1_000);
    assert_ne!(world.venue.asked_last("open"), late, "asked again");
    world.venue.take_order(&["place", "0", "pin-abc-1-1", "buy", "9990", "10"], false);
    world.venue.answer(RequestKind::OpenOrders, late, Ok(Answer::OpenOrders(Vec::new())));
    world.run(50);
    assert!(!world.sender.drained(), "that list is from before");
    world.venue.deaf.clear();
    world.run(1_500);
    assert!(world.sender.drained());
    assert_eq!(world.venue.orders[0].status, OrderStatus::Canceled);
}

#[test]
fn the_drain_may_keep_orders() {
    let mut world = World::with(|settings| settings.on_exit = OnExit::Keep);
    world.run(300);
    world.resting();
    world.drain();
    assert_eq!(world.venue.orders[0].status, OrderStatus::New);
    assert_eq!(world.view.take().expect("last words").open.len(), 1);
}

#[test]
fn a_sender_that_never_connected_drains_at_once() {
    let mut world = World::new();
    assert_eq!(world.drain(), 0);
}

#[test]
fn a_sender_that_never_connected_does_not_vouch_for_an_earlier_process() {
    let mut world = World::new();
    let kept = Kept { last_trade_id: Some(0), ..Kept::default() };
    world.vault.keep(InstrumentId(0), &kept);
    world.restart();
    world.venue.take_order(&["place", "0", "pin-abc-1-1", "buy", "9990", "10"], false);
    world.venue.deaf = vec!["logon"];
    world.cx.now = world.now;
    world.sender.on_drain(&mut world.cx).expect("no fault");
    world.run(1_000);
    assert!(!world.sender.drained());
    world.venue.deaf.clear();
    world.run(20_000);
    assert!(world.sender.drained());
    assert_eq!(world.venue.orders[0].status, OrderStatus::Canceled);
}

#[test]
fn a_venue_that_says_nonsense_is_left_and_met_again() {
    let mut world = World::live();
    let conn = world.venue.conn.expect("connected");
    world.venue.server.send_text(conn, "nonsense");
    world.venue.server.flush();
    world.run(1_000);
    let view = world.look();
    assert_eq!((view.state, view.reconnects), (SessionState::Live, 1));
    assert!(view.last_error.contains("expected an index"), "{}", view.last_error);
}

/// An order waits in the mailbox, one for the journal, and the sender does not run for `ms` between two turns.
#[track_caller]
fn suspended(ms: u64, fenced: bool) {
    // Decisions may be old here: it is the gap that refuses.
    let mut world = World::with(|settings| {
        settings.limits[0].1.decision_age_max = Duration::from_secs(60);
        settings.limits[0].1.book_age_max = Duration::from_secs(60);
    });
    world.run(300);
    world.journal_stalls = true;
    let held = world.place();
    world.step();
    let waits = world.place();
    let asked = world.venue.asked.len();
    world.suspend(ms);
    world.journal_stalls = false;
    world.run(100);
    let fresh = world.place();
    world.run(50);
    assert_eq!(world.last(fresh).1, OrderStatus::New, "trades again");
    let asked: Vec<&str> =
        world.venue.asked[asked..].iter().filter_map(|text| text.split(' ').next()).collect();
    if fenced {
        assert_eq!(world.reason(held), Some(Reason::Suspended), "held");
        assert_eq!(world.reason(waits), Some(Reason::Suspended), "waiting");
        assert_eq!(asked, ["open", "account", "trades", "place"]);
    } else {
        assert_eq!(asked, ["place"; 3]);
    }
    let view = world.look();
    assert_eq!((view.suspended, view.reconnects), (u64::from(fenced), 0), "after {ms} ms");
}

#[test]
fn only_a_gap_beyond_the_limit_fences() {
    // 50 ms is what an idle sender parks.
    for ms in [5, 50, 500, 1_900, 1_999, 2_000] {
        suspended(ms, false);
    }
    for ms in [2_001, 2_010, 3_000, 4_999] {
        suspended(ms, true);
    }
}

#[test]
fn what_was_decided_before_a_suspension_is_refused_even_long_after_it() {
    let mut world = World::with(|settings| {
        settings.limits[0].1.decision_age_max = Duration::from_secs(60);
    });
    world.run(300);
    let before = world.now;
    world.suspend(2_500);
    world.run(500);
    let after = world.now;
    let mut offer = |recv, decided| {
        let order = OrderRef::new(0, 1, world.next_order);
        world.next_order += 1;
        let body = IntentBody::Place(NewOrder {
            instrument: InstrumentId(0),
            side: Side::Buy,
            kind: OrderKind::LimitMaker,
            tif: TimeInForce::Gtc,
            price: Price::from_units(9_990),
            qty: Qty::from_units(10),
        });
        let intent = OrderIntent { order, body, recv, decided };
        world.intents.outbox().offer(intent).expect("room");
        world.run(50);
        world.reason(order)
    };
    assert_eq!(offer(before, before), Some(Reason::Suspended));
    assert_eq!(offer(before, after), Some(Reason::Suspended), "it answers the market before");
    assert_eq!(offer(after, after), None);
}

#[test]
fn a_suspended_sender_compares_before_it_sends_and_cancels_meanwhile() {
    let mut world = World::live();
    let order = world.resting();
    world.venue.deaf = vec!["open"];
    world.venue.fill(0, 4, true);
    world.suspend(3_000);
    world.run(50);
    let view = world.look();
    assert_eq!((view.state, view.suspended, view.trading), (SessionState::Reconciling, 1, false));
    assert_eq!(view.last_error, "suspended for 3000 ms");
    let refused = world.place();
    world.cancel(order);
    world.run(50);
    assert_eq!(world.reason(refused), Some(Reason::SessionDown));
    assert_eq!(world.venue.orders[0].status, OrderStatus::Canceled);
    assert_eq!(world.venue.count("place"), 1);
    // Nobody answers the comparison: the session is not believed to live, and opened again.
    world.run(4_000);
    assert_eq!(world.look().state, SessionState::Reconciling);
    world.venue.deaf.clear();
    world.run(2_500);
    let view = world.look();
    assert_eq!((view.state, view.reconnects), (SessionState::Live, 1));
    assert_eq!(world.position(), 4, "the fill that nobody told was asked for");
    let again = world.place();
    world.run(20);
    assert_eq!(world.last(again).1, OrderStatus::New);
}

#[test]
fn an_answer_from_before_a_suspension_does_not_count_for_the_comparison_after_it() {
    let mut world = World::new();
    world.venue.deaf = vec!["open", "account"];
    world.run(100);
    assert_eq!(world.state(), SessionState::Reconciling);
    let old = world.venue.asked.iter().rfind(|text| text.starts_with("open ")).expect("asked");
    let old = old.split(' ').nth(1).and_then(|text| text.parse().ok()).expect("a number");
    world.suspend(2_500);
    for _ in 0..3 {
        world.venue.answer(RequestKind::OpenOrders, old, Ok(Answer::OpenOrders(Vec::new())));
        world.run(10);
    }
    assert_eq!(world.venue.count("open"), 2);
    assert_eq!(world.venue.count("trades"), 0, "the list is still to come");
}

#[test]
fn a_suspension_without_a_session_compares_once_it_is_there() {
    let mut world = World::live();
    world.net.disconnect_all(PORT);
    world.step();
    let waits = world.place();
    world.suspend(2_500);
    world.run(1_000);
    assert_eq!(world.reason(waits), Some(Reason::Suspended));
    let view = world.look();
    assert_eq!((view.state, view.suspended), (SessionState::Live, 1));
}

#[test]
fn a_suspension_in_the_drain_still_verifies() {
    let mut world = World::live();
    world.resting();
    world.venue.deaf = vec!["open"];
    world.cx.now = world.now;
    world.sender.on_drain(&mut world.cx).expect("no fault");
    world.run(100);
    assert!(!world.sender.drained());
    world.suspend(2_500);
    world.venue.deaf.clear();
    world.run(200);
    assert!(world.sender.drained());
    assert_eq!(world.venue.orders[0].status, OrderStatus::Canceled);
    assert_eq!(world.look().suspended, 1);
}

#[test]
fn a_step_of_the_time_of_day_is_no_suspension() {
    let mut world = World::live();
    for utc in [1_700_003_600_000, 1_699_990_000_000, 0] {
        world.cx.utc = UtcNs::from_millis(utc);
        world.run(50);
        let order = world.place();
        world.run(50);
        assert_eq!(world.last(order).1, OrderStatus::New);
    }
    let view = world.look();
    assert_eq!((view.suspended, view.state), (0, SessionState::Live));
    assert_eq!(world.venue.count("open"), 1);
}

#[test]
fn suspensions_are_counted_over_all_generations() {
    let mut world = World::live();
    world.suspend(2_500);
    world.run(200);
    world.restart();
    world.run(500);
    assert_eq!(world.look().suspended, 1);
}

/// What `change` does to the limits holds for the next order, one decision later.
#[track_caller]
fn revised(change: impl FnOnce(&mut Limits), reason: Option<Reason>) {
    let mut world = World::live();
    let mut limits = world.limits.newest();
    change(&mut limits[0].1);
    world.limits.set(limits);
    world.run(150);
    let order = world.place();
    world.run(20);
    assert_eq!(world.reason(order), reason);
    // The next generation knows them, too.
    world.settings.limits = world.limits.newest();
    world.restart();
    world.run(1_000);
    let order = world.place();
    world.run(20);
    assert_eq!(world.reason(order), reason);
}

#[test]
fn limits_change_while_the_sender_runs() {
    revised(|_| {}, None);
    revised(|l| l.order_qty_max = Qty::from_units(9), Some(Reason::Quantity));
    revised(|l| l.order_qty_max = Qty::from_units(10), None);
    revised(|l| l.order_notional_max = Notional::from_units(99_899), Some(Reason::Notional));
    revised(|l| l.position_max = Qty::from_units(9), Some(Reason::Position));
    revised(|l| l.open_orders_max = 0, Some(Reason::OpenOrders));
    revised(|l| l.price_collar_bps = 1, Some(Reason::PriceCollar));
    revised(|l| l.orders_per_s_max = 0, Some(Reason::OrderRate));
}

/// The venue refuses to cancel what it is asked to.
fn refuse_cancels(world: &mut World, ms: u64) {
    world.venue.deaf = vec!["cancel"];
    let mut answered = 0;
    for _ in 0..ms / 10 {
        world.run(10);
        let cancels: Vec<u64> =
            world.venue.asked.iter().filter_map(|text| cancel_seq(text)).collect();
        for seq in &cancels[answered..] {
            world.venue.answer(RequestKind::Cancel, *seq, Err(refusal(-2010)));
        }
        answered = cancels.len();
    }
}

fn cancel_seq(text: &str) -> Option<u64> {
    text.strip_prefix("cancel ")?.split(' ').next()?.parse().ok()
}

#[test]
fn a_stray_that_the_venue_never_cancels_is_reported_and_not_waited_for() {
    let mut world = World::new();
    world.venue.take_order(&["place", "0", "pin-abc-1-1", "buy", "9990", "10"], false);
    refuse_cancels(&mut world, 3_000);
    let view = world.look();
    assert_eq!((view.state, view.stuck), (SessionState::Reconciling, 0), "not given up yet");
    refuse_cancels(&mut world, 4_000);
    let view = world.look();
    assert_eq!((view.state, view.stuck), (SessionState::Live, 1));
    assert_eq!(view.open.len(), 1, "it is shown");
    let order = world.place();
    world.run(20);
    assert_eq!(world.last(order).1, OrderStatus::New);
    // It is still asked to go, and noticed when it does.
    world.venue.deaf.clear();
    world.run(1_500);
    assert_eq!(world.venue.orders[0].status, OrderStatus::Canceled);
    assert_eq!(world.look().stuck, 0);
}

#[test]
fn a_stray_that_the_venue_never_cancels_is_not_forgotten_by_the_drain() {
    let mut world = World::new();
    world.venue.take_order(&["place", "0", "pin-abc-1-1", "buy", "9990", "10"], false);
    refuse_cancels(&mut world, 7_000);
    assert_eq!(world.look().stuck, 1);
    world.cx.now = world.now;
    world.sender.on_drain(&mut world.cx).expect("no fault");
    refuse_cancels(&mut world, 2_000);
    assert!(!world.sender.drained(), "the venue still has it");
    // Also when the venue is gone at the end.
    world.venue.deaf = vec!["logon"];
    world.net.disconnect_all(PORT);
    let view = world.look();
    let named: Vec<_> = view.open.iter().map(|o| o.client_order_id.to_string()).collect();
    assert_eq!(named, ["pin-abc-1-1"]);
}

#[test]
fn an_order_of_a_dead_generation_that_the_venue_never_cancels_is_not_waited_for() {
    let mut world = World::live();
    world.resting();
    world.restart();
    refuse_cancels(&mut world, 8_000);
    let view = world.look();
    assert_eq!((view.state, view.stuck, view.open.len()), (SessionState::Live, 1, 1));
}

#[test]
fn a_rate_limit_does_not_make_an_order_stuck() {
    let mut world = World::live();
    let order = world.resting();
    world.cancel(order);
    world.venue.deaf = vec!["cancel"];
    for _ in 0..10 {
        world.run(1_000);
        let last = world.venue.asked.iter().rev().find_map(|text| cancel_seq(text));
        let error = VenueError { status: 429, ..refusal(-1003) };
        world.venue.answer(RequestKind::Cancel, last.unwrap_or(0), Err(error));
    }
    assert_eq!(world.look().stuck, 0);
}

#[test]
fn an_order_cancelled_before_it_was_sent_is_withdrawn() {
    let mut world = World::live();
    world.journal_stalls = true;
    let held = world.place();
    world.step();
    world.cancel(held);
    world.run(20);
    world.journal_stalls = false;
    world.run(20);
    assert_eq!(world.last(held), (ExecType::Canceled, OrderStatus::Canceled));
    let totals = world.look().totals;
    assert_eq!((totals.sent, totals.cancelled, totals.withdrawn), (0, 0, 1));
    assert_eq!(world.venue.count("place") + world.venue.count("cancel"), 0);
}

/// An actor of its own little system, whose health a sender watches.
struct Neighbour {
    system: Stepper,
    dies: Arc<AtomicBool>,
}

struct Mortal(Arc<AtomicBool>);

impl Actor for Mortal {
    fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
        if self.0.swap(false, Ordering::SeqCst) {
            Err(Fault::fatal("told to"))
        } else {
            Ok(Work::Idle)
        }
    }
}

impl Neighbour {
    fn new() -> Self {
        let dies = Arc::new(AtomicBool::new(false));
        let mut builder = SystemBuilder::new(Threading::Dedicated, SystemSettings::default());
        let id = builder.actor("neighbour", true);
        let fate = Arc::clone(&dies);
        builder.child(id, ChildSpec::new(move |_| Ok(Box::new(Mortal(Arc::clone(&fate))))));
        let clock = VirtualClock::new(UtcNs::default());
        let mut system = builder.build().expect("a valid system").stepper(1, clock);
        system.run_for(Duration::from_millis(100));
        assert!(system.health()[0].is_up());
        Self { system, dies }
    }

    fn cell(&self) -> Option<Arc<Cell>> {
        Some(Arc::clone(&self.system.health()[0]))
    }

    /// Dies, and lives again in its next generation.
    fn restart(&mut self) {
        self.dies.store(true, Ordering::SeqCst);
        self.system.run_for(Duration::from_secs(5));
        assert_eq!(self.system.health()[0].generation(), 2);
    }
}

#[test]
fn a_restarted_strategy_finds_its_orders_cancelled() {
    let mut world = World::live();
    let mut strategy = Neighbour::new();
    world.strategy_cell = strategy.cell();
    world.restart();
    world.run(300);
    let order = world.resting();
    strategy.restart();
    world.run(50);
    assert_eq!(world.last(order).1, OrderStatus::Canceled);
    let ghost = world.place();
    world.run(20);
    assert_eq!(world.reason(ghost), Some(Reason::Restarted), "the dead place no orders");
}

#[test]
fn a_restarted_journal_gets_reports_again_and_orders_held_are_refused() {
    let mut world = World::live();
    let mut journal = Neighbour::new();
    world.journal_cell = journal.cell();
    world.restart();
    world.run(300);
    let resting = world.resting();
    world.journal_stalls = true;
    let held = world.place();
    world.run(20);
    world.venue.fill(0, 4, false);
    world.run(20);
    let fills = |world: &World| {
        let fill = |e: &&Entry| matches!(e.record, Record::Report(r) if r.last_qty.units() == 4);
        world.records.iter().filter(fill).count()
    };
    assert_eq!(fills(&world), 1);
    journal.restart();
    world.run(20);
    assert_eq!(fills(&world), 2, "nobody knows what the dead journal wrote");
    world.journal_stalls = false;
    world.run(20);
    assert_eq!(
        (world.last(held).0, world.reason(held)),
        (ExecType::Refused, Some(Reason::JournalDown))
    );
    assert_eq!(world.last(resting), (ExecType::Trade, OrderStatus::PartiallyFilled));
    let again = world.place();
    world.run(20);
    assert_eq!(world.last(again).1, OrderStatus::New);
}

#[test]
fn a_restarted_journal_gets_the_watermark_again() {
    let mut world = World::new();
    let mut journal = Neighbour::new();
    world.journal_cell = journal.cell();
    world.restart();
    world.run(300);
    let watermarks = |world: &World| {
        let is_one = |e: &&Entry| matches!(e.record, Record::Position { last_trade_id: 0, .. });
        world.records.iter().filter(is_one).count()
    };
    assert_eq!(watermarks(&world), 1);
    journal.restart();
    world.run(20);
    assert_eq!(watermarks(&world), 2);
}

/// Whatever happens in whatever order: in the end engine and venue agree on position and open orders.
#[track_caller]
fn agree_after(seed: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::live();
    let mut placed = Vec::new();
    for _ in 0..300 {
        match random.u8(0..15) {
            0..=3 => placed.push(world.place()),
            4 | 5 => {
                if let Some(order) = random.choice(&placed).copied() {
                    world.cancel(order);
                }
            }
            6..=8 => {
                let open = |o: &VenueOrder| !o.status.is_terminal();
                let open: Vec<usize> = (0..world.venue.orders.len())
                    .filter(|at| open(&world.venue.orders[*at]))
                    .collect();
                if let Some(at) = random.choice(&open).copied() {
                    let order = world.venue.orders[at];
                    let left = order.qty.units() - order.cum_qty.units();
                    world.venue.fill(at, random.i64(1..=left), random.u8(0..4) == 0);
                }
            }
            9 => world.net.disconnect_all(PORT),
            10 => {
                world.venue.mute =
                    [vec![], vec!["place"], vec!["cancel"]][random.usize(0..3)].clone()
            }
            11 => {
                world.venue.deaf =
                    [vec![], vec!["place"], vec!["cancel"]][random.usize(0..3)].clone()
            }
            12 => world.journal_stalls = random.bool(),
            13 => world.suspend(random.u64(5..6_000)),
            _ if random.u8(0..5) == 0 => world.restart(),
            _ => world.run(random.u64(0..1_500)),
        }
        world.run(random.u64(0..30));
    }
    world.venue.mute.clear();
    world.venue.deaf.clear();
    world.journal_stalls = false;
    world.run(15_000);
    let view = world.look();
    assert_eq!(view.state, SessionState::Live, "seed {seed}");
    // What was filled without a word, on an order that rests, is found by the next comparison only.
    world.net.disconnect_all(PORT);
    world.run(15_000);
    let bought: i64 = world.venue.orders.iter().map(|o| o.cum_qty.units()).sum();
    let off: Vec<_> = world
        .venue
        .orders
        .iter()
        .filter_map(|o| {
            let id = o.client_order_id;
            let last = world.told.iter().rfind(|r| r.client_order_id == id);
            let cum = last.map(|r| r.cum_qty);
            (cum != Some(o.cum_qty)).then_some((o, last))
        })
        .collect();
    assert_eq!(world.position(), bought, "seed {seed}: {off:#?}");
    let open = world.venue.orders.iter().filter(|o| !o.status.is_terminal());
    let mut theirs: Vec<ClientOrderId> = open.map(|o| o.client_order_id).collect();
    let mut ours: Vec<ClientOrderId> =
        world.look().open.iter().map(|o| o.client_order_id).collect();
    theirs.sort();
    ours.sort();
    assert_eq!(ours, theirs, "seed {seed}");
    world.drain();
    assert!(world.venue.orders.iter().all(|o| o.status.is_terminal()), "seed {seed}");
}

#[test]
fn engine_and_venue_agree_whatever_happens() {
    for seed in 0..40 {
        agree_after(seed);
    }
}
