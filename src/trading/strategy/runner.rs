//! The actor that hosts one strategy.
//!
//! Comes in: touches, trades, execution reports, time. Goes out: order intents, a view. What always holds: reports
//! come before the market they explain; an order whose intent was lost with a dead order sender does not stay on
//! the desk for ever; nothing is placed once the drain has begun.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::{MonoNs, UtcNs};
use crate::runtime::actor::{Actor, Cx, Fault, Stop, Waits, Work};
use crate::runtime::health::Cell;
use crate::runtime::mailbox::{Inbox, LatestInbox, Outbox};
use crate::runtime::setting::Setting;
use crate::runtime::view::View;
use crate::trading::domain::{
    ClientOrderId, Commission, ExecType, ExecutionReport, Instruments, OrderIntent, OrderStatus,
    Price, Qty, Reason, TopOfBook, Trade,
};
use crate::trading::limits::{TURN_MESSAGES_MAX, VIEW_PERIOD};
use crate::trading::telemetry::StrategyView;

use super::desk::{Desk, Drawer, OwnOrder, Positions};
use super::{Parameters, Strategy};

/// How long after the order sender's restart its word about an order is awaited: it speaks of all it knows at once.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// What the runner is told.
#[derive(Clone, Debug)]
pub struct StrategySettings {
    /// The strategy's number: its index in the order sender's ports.
    pub number: u8,
    /// All instruments of the engine.
    pub instruments: Instruments,
    /// How often the strategy's timer fires.
    pub timer: Duration,
}

/// What the runner is joined to.
pub struct StrategyPorts {
    /// The touch of every instrument.
    pub tops: LatestInbox<TopOfBook>,
    /// Trades in the market.
    pub trades: Inbox<Trade>,
    /// What becomes of our orders.
    pub reports: Inbox<ExecutionReport>,
    /// What we want.
    pub intents: Outbox<OrderIntent>,
    /// What the engine holds: the order sender's vault, asked through a closure.
    pub positions: Positions,
    /// The order sender's health; `None` for one that never fails.
    pub orders_cell: Option<Arc<Cell>>,
    /// Parameters that replace those that the strategy was built with; `None` for one that has none.
    pub parameters: Option<Setting<Parameters>>,
    /// What the ops page sees.
    pub view: View<StrategyView>,
}

/// The actor.
pub struct StrategyRunner {
    strategy: Box<dyn Strategy>,
    drawer: Drawer,
    tops: LatestInbox<TopOfBook>,
    trades: Inbox<Trade>,
    reports: Inbox<ExecutionReport>,
    orders_cell: Option<Arc<Cell>>,
    orders_generation: u32,
    /// When the order sender was seen to be another one.
    orders_restarted: MonoNs,
    timer: Duration,
    next_timer: MonoNs,
    parameters: Option<Setting<Parameters>>,
    view: View<StrategyView>,
    next_view: MonoNs,
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    books: u64,
    trades: u64,
    reports: u64,
}

impl StrategyRunner {
    /// One generation of `strategy`.
    pub fn new(
        settings: StrategySettings,
        ports: StrategyPorts,
        strategy: Box<dyn Strategy>,
    ) -> Self {
        let StrategySettings { number, instruments, timer } = settings;
        Self {
            strategy,
            drawer: Drawer::new(number, ports.intents, instruments, ports.positions),
            tops: ports.tops,
            trades: ports.trades,
            reports: ports.reports,
            orders_generation: ports.orders_cell.as_ref().map_or(0, |c| c.generation()),
            orders_cell: ports.orders_cell,
            orders_restarted: MonoNs::NEVER,
            timer,
            next_timer: MonoNs::ZERO,
            parameters: ports.parameters,
            view: ports.view,
            next_view: MonoNs::ZERO,
            seen: Seen::default(),
        }
    }

    fn take_reports(&mut self, cx: &mut Cx) -> Work {
        for taken in 0..TURN_MESSAGES_MAX {
            let Some(report) = self.reports.take(cx) else { return Work::when(taken > 0) };
            self.seen.reports += 1;
            // An order of an earlier generation: the order sender is cancelling it, and the new one starts clean.
            if report.order.generation() == self.drawer.generation {
                self.tell(&report, cx.now, cx.utc);
            }
        }
        Work::Busy
    }

    fn tell(&mut self, report: &ExecutionReport, now: MonoNs, utc: UtcNs) {
        self.drawer.note(report);
        let mut desk = Desk::new(&mut self.drawer, now, utc, report.recv);
        self.strategy.on_report(report, &mut desk);
    }

    fn take_tops(&mut self, cx: &mut Cx) -> Work {
        for taken in 0..TURN_MESSAGES_MAX {
            let Some((_, top)) = self.tops.take(cx) else { return Work::when(taken > 0) };
            self.seen.books += 1;
            let mut desk = Desk::new(&mut self.drawer, cx.now, cx.utc, top.stamps.recv);
            self.strategy.on_book(&top, &mut desk);
        }
        Work::Busy
    }

    fn take_trades(&mut self, cx: &mut Cx) -> Work {
        for taken in 0..TURN_MESSAGES_MAX {
            let Some(trade) = self.trades.take(cx) else { return Work::when(taken > 0) };
            self.seen.trades += 1;
            let mut desk = Desk::new(&mut self.drawer, cx.now, cx.utc, trade.stamps.recv);
            self.strategy.on_trade(&trade, &mut desk);
        }
        Work::Busy
    }

    /// Notices a new order sender, and gives up orders that it never speaks of.
    fn watch_orders(&mut self, cx: &Cx) {
        let Some(cell) = &self.orders_cell else { return };
        if cell.generation() != self.orders_generation {
            self.orders_generation = cell.generation();
            self.orders_restarted = cx.now;
        }
        let since = self.orders_restarted;
        if since == MonoNs::NEVER || !cell.is_up() || cx.now < since.after(SILENCE_MAX) {
            return;
        }
        self.orders_restarted = MonoNs::NEVER;
        let lost = |own: &&OwnOrder| !own.heard_of && own.placed <= since;
        while let Some(own) = self.drawer.orders.iter().find(lost).copied() {
            let report = lost_report(&own, cx.now);
            self.tell(&report, cx.now, cx.utc);
        }
    }

    fn publish(&mut self, now: MonoNs) {
        self.next_view = now.after(VIEW_PERIOD);
        let Self { view, strategy, drawer, seen, .. } = self;
        view.publish(|view| {
            view.books = seen.books;
            view.trades = seen.trades;
            view.reports = seen.reports;
            view.intents = drawer.offered;
            view.busy = drawer.busy;
            view.note.clear();
            strategy.note(now, &mut view.note);
        });
    }
}

/// The last word about an order whose intent a dead order sender had in hand: it was never sent.
fn lost_report(own: &OwnOrder, now: MonoNs) -> ExecutionReport {
    ExecutionReport {
        instrument: own.new.instrument,
        order: own.order,
        client_order_id: ClientOrderId::new(),
        venue_order_id: 0,
        exec: ExecType::Refused,
        status: OrderStatus::Rejected,
        side: own.new.side,
        price: own.new.price,
        qty: own.new.qty,
        cum_qty: Qty::ZERO,
        leaves_qty: Qty::ZERO,
        last_qty: Qty::ZERO,
        last_price: Price::ZERO,
        trade_id: 0,
        commission: Commission::default(),
        reason: Some(Reason::Restarted),
        venue_code: 0,
        venue_utc: UtcNs::default(),
        recv: now,
    }
}

impl Actor for StrategyRunner {
    fn on_start(&mut self, cx: &mut Cx) -> Result<(), Fault> {
        self.drawer.generation = cx.generation.0 as u16;
        self.next_timer = cx.now.after(self.timer);
        let mut desk = Desk::new(&mut self.drawer, cx.now, cx.utc, cx.now);
        self.strategy.on_start(&mut desk);
        self.publish(cx.now);
        Ok(())
    }

    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        self.watch_orders(cx);
        let mut work = self.take_reports(cx);
        if self.drawer.draining {
            // Nothing can be placed any more: a market that never rests must not keep us from ever being idle.
            return Ok(work);
        }
        work = work.or(self.take_tops(cx));
        work = work.or(self.take_trades(cx));
        if cx.now >= self.next_timer {
            self.next_timer = cx.now.after(self.timer);
            let mut desk = Desk::new(&mut self.drawer, cx.now, cx.utc, cx.now);
            self.strategy.on_timer(&mut desk);
        }
        if cx.now >= self.next_view {
            if let Some(changed) = self.parameters.as_ref().and_then(Setting::news) {
                self.strategy.revise(&changed);
            }
            self.publish(cx.now);
        }
        Ok(work)
    }

    fn on_drain(&mut self, cx: &mut Cx) -> Result<(), Fault> {
        let mut desk = Desk::new(&mut self.drawer, cx.now, cx.utc, cx.now);
        self.strategy.on_drain(&mut desk);
        self.drawer.draining = true;
        Ok(())
    }

    fn waits(&self, waits: &mut Waits) {
        waits.until(self.next_timer);
        waits.until(self.next_view);
    }

    fn on_stop(&mut self, cx: &mut Cx, _stop: Stop) {
        self.publish(cx.now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::mailbox::{Latest, Mailbox};
    use crate::trading::domain::{
        BookState, InstrumentId, IntentBody, NewOrder, OrderKind, OrderRef, Side, SignedQty,
        TimeInForce,
    };

    /// Places one order per book; counts what it hears.
    #[derive(Default)]
    struct Eager {
        reports: usize,
    }

    impl Strategy for Eager {
        fn on_book(&mut self, top: &TopOfBook, desk: &mut Desk<'_>) {
            let new = NewOrder {
                instrument: top.instrument,
                side: Side::Buy,
                kind: OrderKind::Limit,
                tif: TimeInForce::Gtc,
                price: Price::from_units(1),
                qty: Qty::from_units(1),
            };
            // Busy is what the test looks at through the view.
            let _ = desk.place(new);
        }

        fn on_report(&mut self, _report: &ExecutionReport, _desk: &mut Desk<'_>) {
            self.reports += 1;
        }

        fn note(&self, _now: MonoNs, out: &mut String) {
            *out = format!("reports {}", self.reports);
        }
    }

    struct Bench {
        runner: StrategyRunner,
        cx: Cx,
        tops: Latest<TopOfBook>,
        reports: Mailbox<ExecutionReport>,
        intents: Inbox<OrderIntent>,
        view: View<StrategyView>,
    }

    impl Bench {
        fn new(room: usize) -> Self {
            let (tops, trades) = (Latest::detached("tops", 1), Mailbox::detached("trades", 4));
            let reports = Mailbox::detached("reports", 4);
            let intents = Mailbox::detached("intents", room);
            let view = View::new();
            let ports = StrategyPorts {
                tops: tops.inbox(),
                trades: trades.inbox(),
                reports: reports.inbox(),
                intents: intents.outbox(),
                positions: Box::new(|_| SignedQty::ZERO),
                orders_cell: None,
                parameters: None,
                view: view.clone(),
            };
            let settings = StrategySettings {
                number: 3,
                instruments: Arc::from(Vec::new()),
                timer: Duration::from_millis(10),
            };
            let mut runner = StrategyRunner::new(settings, ports, Box::<Eager>::default());
            let mut cx = Cx::detached(MonoNs::from_millis(1), UtcNs::default());
            runner.on_start(&mut cx).expect("starts");
            Self { runner, cx, tops, reports, intents: intents.inbox(), view }
        }

        fn book(&mut self) {
            let top = TopOfBook { state: BookState::Live, ..TopOfBook::default() };
            self.tops.outbox().put(0, top);
            self.runner.turn(&mut self.cx).expect("no fault");
        }

        fn look(&mut self) -> Box<StrategyView> {
            self.cx.now = self.cx.now.after(VIEW_PERIOD);
            self.runner.turn(&mut self.cx).expect("no fault");
            self.view.take().expect("published")
        }
    }

    #[test]
    fn orders_are_named_by_strategy_generation_and_counter() {
        let mut bench = Bench::new(8);
        bench.book();
        bench.book();
        let names: Vec<OrderRef> = std::iter::from_fn(|| bench.intents.take(&mut bench.cx))
            .map(|intent| intent.order)
            .collect();
        assert_eq!(names, [OrderRef::new(3, 1, 1), OrderRef::new(3, 1, 2)]);
    }

    #[test]
    fn a_full_order_sender_is_busy_and_the_order_is_not_on_the_desk() {
        let mut bench = Bench::new(1);
        bench.book();
        bench.book();
        assert_eq!(bench.runner.drawer.orders.len(), 1);
        let view = bench.look();
        assert_eq!((view.intents, view.busy, view.books), (1, 1, 2));
    }

    #[test]
    fn nothing_is_placed_once_the_drain_has_begun() {
        let mut bench = Bench::new(8);
        bench.runner.on_drain(&mut bench.cx).expect("no fault");
        bench.book();
        assert!(bench.intents.take(&mut bench.cx).is_none());
        bench.tops.outbox().put(0, TopOfBook::default());
        let work = bench.runner.turn(&mut bench.cx).expect("no fault");
        assert_eq!(work, Work::Idle, "a market that never rests must not hold up the drain");
    }

    #[test]
    fn reports_of_an_earlier_generation_are_not_told() {
        let mut bench = Bench::new(8);
        bench.book();
        let own = bench.runner.drawer.orders[0];
        let own_report = lost_report(&own, MonoNs::ZERO);
        let older = ExecutionReport { order: OrderRef::new(3, 0, 1), ..own_report };
        for report in [older, own_report] {
            bench.reports.outbox().offer(report).expect("room");
        }
        let view = bench.look();
        assert_eq!((view.reports, view.note.as_str()), (2, "reports 1"));
        assert!(bench.runner.drawer.orders.is_empty(), "done orders leave the desk");
    }

    #[test]
    fn intents_carry_when_their_cause_was_read() {
        let mut bench = Bench::new(8);
        bench.book();
        let intent = bench.intents.take(&mut bench.cx).expect("one");
        assert_eq!((intent.recv, intent.decided), (MonoNs::ZERO, bench.cx.now));
        assert!(matches!(intent.body, IntentBody::Place(new) if new.instrument == InstrumentId(0)));
    }
}
