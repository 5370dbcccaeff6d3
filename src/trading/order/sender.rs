//! The order sender: the last hop before the venue, and the only one that speaks to it about orders.
//!
//! Comes in: order intents, touches, the venue's frames. Goes out: orders and cancels to the venue, records to the
//! journal, reports to strategies. What always holds: no order leaves without the gate's verdict and its record in
//! the journal; nothing is traded unless the session is live, which it is only after our orders, fills and the
//! venue's were compared, also after a time in which this thread did not run; a cancel always passes; an order nobody knows the fate of counts as working.
//!
//! One turn: the venue's word first (a fill may change the verdict on the next order), then touches, then intents,
//! then what the journal has let go, then whatever is due by time.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::MonoNs;
use crate::runtime::actor::{Actor, Cx, Fault, Generation, Stop, Waits, Work};
use crate::runtime::health::Cell;
use crate::runtime::mailbox::{Inbox, LatestInbox};
use crate::runtime::setting::Setting;
use crate::runtime::view::View;
use crate::trading::domain::{
    BookState, CancelOrder, InstrumentId, IntentBody, NewOrder, OrderIntent, Reason, Record,
    TopOfBook,
};
use crate::trading::limits::{TURN_MESSAGES_MAX, VIEW_PERIOD};
use crate::trading::risk::{Approved, Gate, KillSwitch, Limits, Situation, Throttle};
use crate::trading::telemetry::{OrderTotals, OrdersView, SessionState};
use crate::trading::venue::{Balance, OrderDialect, RequestKind};

use crate::net::Dialer;

use super::hold::{At, Hold, Then};
use super::ids::Ids;
use super::latency::Latency;
use super::ledger::{Facts, Ledger};
use super::lifecycle::Event;
use super::open_orders::{OpenOrders, Order};
use super::reconcile::Reconcile;
use super::session::{Session, Subject};
use super::settings::{OnExit, OrderPorts, OrderSettings};
use super::trades::TradeIds;
use super::upkeep::{Drain, Peer, SCAN_PERIOD};

/// How often a parked sender looks whether the journal has written: far below the time of a disk's flush.
const HOLD_PERIOD: Duration = Duration::from_micros(100);

/// The order sender.
pub struct OrderSender {
    pub(super) settings: OrderSettings,
    pub(super) session: Session,
    pub(super) ledger: Ledger,
    pub(super) reconcile: Reconcile,
    pub(super) gate: Gate,
    limits: Setting<Vec<(InstrumentId, Limits)>>,
    pub(super) kill_switch: KillSwitch,
    /// Whether new orders were allowed in the last turn.
    pub(super) was_enabled: bool,
    /// By instrument index.
    pub(super) tops: Vec<Option<TopOfBook>>,
    pub(super) balances: Vec<Balance>,
    pub(super) peers: Vec<Peer>,
    pub(super) drain: Drain,
    /// The venue asked us to be quiet until then: no new orders, and nothing is asked a second time.
    pub(super) quiet_until: MonoNs,
    pub(super) next_scan: MonoNs,
    /// The book builder's health, and when it was seen at work last.
    pub(super) book_cell: Option<Arc<Cell>>,
    pub(super) sighted: MonoNs,
    /// When the last suspension of this thread was noticed, and how long it was.
    pub(super) resumed: MonoNs,
    pub(super) suspended_for: Duration,
    intents: Inbox<OrderIntent>,
    touches: LatestInbox<TopOfBook>,
    view: View<OrdersView>,
    pub(super) next_view: MonoNs,
    /// When the last turn began.
    pub(super) now: MonoNs,
}

impl OrderSender {
    /// One generation of an order sender.
    ///
    /// # Errors
    /// [`Fault::Config`] when the engine's name cannot be part of a client order id.
    pub fn new(
        settings: OrderSettings,
        ports: OrderPorts,
        dialect: Box<dyn OrderDialect>,
        dialer: Box<dyn Dialer>,
    ) -> Result<Self, Fault> {
        let generation = Generation(0);
        let ids = Ids::new(&settings.engine, settings.boot, generation);
        let ids = ids.map_err(|e| Fault::Config(e.to_string().into()))?;
        let count = settings.instruments.len();
        let gate = gate_of(count, &settings.limits)
            .ok_or(Fault::Config("limits for an unknown instrument".into()))?;
        let (journal, cell) = (ports.journal, ports.journal_cell);
        let ledger = Ledger {
            orders: OpenOrders::new(count),
            ids,
            hold: Hold::new(journal, cell, ports.written, settings.durability),
            strategies: ports.strategies,
            vault: ports.vault,
            instruments: settings.instruments.clone(),
            kept: Vec::with_capacity(count),
            trades: vec![TradeIds::new(); count],
            throttle: Throttle::new(rate_of(&settings.limits)),
            totals: OrderTotals::default(),
            refused: [0; Reason::ALL.len()],
            latency: Latency::new(),
            ack_timeout: settings.ack_timeout,
        };
        Ok(Self {
            session: Session::new(dialect, dialer, settings.url.clone(), settings.seed),
            reconcile: Reconcile::new(),
            gate,
            limits: ports.limits,
            kill_switch: ports.kill_switch,
            was_enabled: true,
            book_cell: ports.book_cell,
            sighted: MonoNs::ZERO,
            resumed: MonoNs::ZERO,
            suspended_for: Duration::ZERO,
            tops: vec![None; count],
            balances: Vec::with_capacity(16),
            peers: vec![Peer::default(); ledger.strategies.len()],
            drain: Drain::No,
            quiet_until: MonoNs::ZERO,
            next_scan: MonoNs::ZERO,
            intents: ports.intents,
            touches: ports.tops,
            view: ports.view,
            next_view: MonoNs::ZERO,
            now: MonoNs::ZERO,
            settings,
            ledger,
        })
    }

    /// Takes the newest touches.
    fn take_touches(&mut self, cx: &mut Cx) -> Work {
        let mut work = Work::Idle;
        for _ in 0..TURN_MESSAGES_MAX {
            let Some((_, top)) = self.touches.take(cx) else { break };
            if let Some(place) = self.tops.get_mut(top.instrument.index()) {
                *place = Some(top);
            }
            work = Work::Busy;
        }
        work
    }

    /// Takes what strategies want.
    fn take_intents(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        let at = At::of(cx);
        for taken in 0..TURN_MESSAGES_MAX {
            let Some(intent) = self.intents.take(cx) else {
                return Ok(Work::when(taken > 0));
            };
            match intent.body {
                IntentBody::Place(new) => self.on_place(at, &intent, &new)?,
                IntentBody::Cancel(cancel) => self.on_cancel(at, cancel)?,
                IntentBody::CancelAll(instrument) => {
                    let strategy = intent.order.strategy();
                    self.doom_where(at, |order| {
                        order.order.strategy() == strategy && order.new.instrument == instrument
                    })?;
                }
            }
        }
        Ok(Work::Busy)
    }

    fn on_place(&mut self, at: At, intent: &OrderIntent, new: &NewOrder) -> Result<(), Fault> {
        let verdict = if self.is_from_the_dead(intent) {
            Err(Reason::Restarted)
        } else if self.is_from_before(intent) {
            Err(Reason::Suspended)
        } else if self.ledger.orders.by_ref(intent.order).is_some()
            || !self.ledger.orders.has_room()
        {
            Err(Reason::Busy)
        } else {
            self.judge(at, intent.recv, new)
        };
        match verdict {
            Ok(approved) => self.ledger.admit(at, intent, approved),
            Err(reason) => self.ledger.refuse(at, intent.order, Some(new), reason),
        }
    }

    /// Whether a generation of its strategy decided this that has ended since.
    fn is_from_the_dead(&self, intent: &OrderIntent) -> bool {
        let port = self.ledger.strategies.get(usize::from(intent.order.strategy()));
        let cell = port.and_then(|port| port.cell.as_ref());
        cell.is_some_and(|cell| cell.generation() as u16 != intent.order.generation())
    }

    fn judge(&self, at: At, recv: MonoNs, new: &NewOrder) -> Result<Approved<NewOrder>, Reason> {
        let index = new.instrument.index();
        let instrument = self.settings.instruments.get(index).ok_or(Reason::NotTrading)?;
        let kept = self.ledger.kept.get(index).copied().unwrap_or_default();
        let working = self.ledger.orders.working(new.instrument).quantities();
        let situation = Situation {
            now: at.now,
            recv,
            draining: self.drain != Drain::No,
            trading: self.kill_switch.state(),
            journal_up: self.ledger.hold.is_up(),
            session_live: self.session.state() == SessionState::Live,
            instrument,
            top: self.tops.get(index).and_then(Option::as_ref),
            position: kept.exposure.qty,
            working_buy: working.0,
            working_sell: working.1,
            open_orders: self.ledger.orders.unsettled().len(),
            rate_has_room: self.ledger.throttle.has_room(at.now) && at.now >= self.quiet_until,
        };
        self.gate.check(new, &situation)
    }

    fn on_cancel(&mut self, at: At, cancel: CancelOrder) -> Result<(), Fault> {
        let open = |o: &&Order| !o.life.status().is_terminal();
        match self.ledger.orders.by_ref(cancel.order).filter(open).map(|o| o.seq) {
            Some(seq) => self.doom(at, seq),
            None => self.ledger.refuse_cancel(at, cancel.instrument, cancel.order),
        }
    }

    /// Lets out what the journal has written: orders to the venue, reports to strategies.
    fn release(&mut self, at: At) -> Result<Work, Fault> {
        self.ledger.hold.offer_again();
        let mut work = Work::Idle;
        for _ in 0..2 * TURN_MESSAGES_MAX {
            let Some((entry, then)) = self.ledger.hold.release() else { return Ok(work) };
            work = Work::Busy;
            match then {
                Then::Nothing => {}
                Then::Forward => self.ledger.forward(&entry)?,
                Then::Send(seq) => self.send_order(at, seq)?,
            }
        }
        Ok(work)
    }

    /// Sends an order whose record is written, unless the world has changed since it was approved.
    fn send_order(&mut self, at: At, seq: u64) -> Result<(), Fault> {
        let Some(order) = self.ledger.orders.find(seq).copied() else { return Ok(()) };
        let Some(approved) = order.approved.filter(|_| !order.life.status().is_terminal()) else {
            // It was cancelled while it waited.
            return Ok(());
        };
        if let Some(reason) = self.refuses_now(at, order.recv, &order.new) {
            return self.refuse_unsent(at, seq, reason);
        }
        let instruments = &self.settings.instruments;
        let Some(instrument) = instruments.get(order.new.instrument.index()) else { return Ok(()) };
        let sent = self.session.ask(
            at,
            RequestKind::Place,
            Subject::Order(seq),
            |dialect, out, number| {
                let id = &order.client_order_id;
                dialect.place(out, number, &approved, instrument, id, at.utc);
            },
        );
        self.after_sending(at, seq, sent)
    }

    /// Notes that an order is on its way. Part of it may be at the venue even when the connection broke under it.
    fn after_sending(&mut self, at: At, seq: u64, sent: bool) -> Result<(), Fault> {
        let check_at = at.now.after(self.settings.ack_timeout);
        self.ledger.orders.edit(seq, |order| {
            order.sent = at.now;
            order.check_at = check_at;
            order.approved = None;
        });
        self.ledger.totals.sent += 1;
        if let Some(order) = self.ledger.orders.find(seq) {
            // The hot path reads the clock once per turn: an order counts as sent when its turn began.
            self.ledger.latency.tick_to_trade.record(at.now.since(order.recv));
            self.ledger.vault.keep_order(order);
        }
        let event = if sent { Event::Sent } else { Event::Timeout };
        self.ledger.step(at, seq, event, Facts::default()).map(|_| ())
    }

    /// What may have changed between the verdict and the sending.
    fn refuses_now(&self, at: At, recv: MonoNs, new: &NewOrder) -> Option<Reason> {
        let index = new.instrument.index();
        let limits = self.settings.instruments.get(index).and_then(|i| self.gate.limits(i));
        let old = limits.is_none_or(|l| at.now.since(recv) > l.decision_age_max);
        let live = |top: &TopOfBook| top.state == BookState::Live;
        if self.drain != Drain::No {
            Some(Reason::Draining)
        } else if !self.kill_switch.state().enabled() {
            Some(Reason::KillSwitch)
        } else if self.session.state() != SessionState::Live {
            Some(Reason::SessionDown)
        } else if at.now < self.quiet_until {
            Some(Reason::OrderRate)
        } else if !self.tops.get(index).and_then(Option::as_ref).is_some_and(live) {
            Some(Reason::BookState)
        } else if old {
            Some(Reason::DecisionAge)
        } else {
            None
        }
    }

    pub(super) fn refuse_unsent(&mut self, at: At, seq: u64, reason: Reason) -> Result<(), Fault> {
        self.ledger.step(at, seq, Event::Reject, Facts::refused(reason)).map(|_| ())
    }

    /// What ends the wait of an order with nothing to do: its deadline, or the next look at everything.
    fn is_scan_needed(&self) -> bool {
        !self.ledger.orders.unsettled().is_empty()
            || !self.reconcile.strays.is_empty()
            || self.drain != Drain::No
            || self.session.state() == SessionState::Reconciling
    }

    /// Takes limits that a person has changed. What was approved by the old ones and waits for the journal still goes.
    fn take_limits(&mut self) {
        let Some(limits) = self.limits.news() else { return };
        if let Some(gate) = gate_of(self.settings.instruments.len(), &limits) {
            self.gate = gate;
            self.ledger.throttle.limit_to(rate_of(&limits));
            self.settings.limits = limits;
        }
    }

    fn publish(&mut self, at: At) {
        self.next_view = at.now.after(VIEW_PERIOD);
        let view = self.view.clone();
        view.publish(|view| self.fill_view(view));
    }
}

impl Actor for OrderSender {
    fn on_start(&mut self, cx: &mut Cx) -> Result<(), Fault> {
        self.now = cx.now;
        self.restore(At::of(cx), cx.generation)?;
        while let Some(intent) = self.intents.take_stale() {
            let new = match &intent.body {
                IntentBody::Place(new) => Some(new),
                _ => None,
            };
            self.ledger.refuse(At::of(cx), intent.order, new, Reason::Restarted)?;
        }
        self.publish(At::of(cx));
        Ok(())
    }

    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        let at = At::of(cx);
        self.watch_own_gap(at)?;
        self.now = cx.now;
        self.watch(at)?;
        let mut work = self.hear(at)?;
        let touched = self.take_touches(cx);
        if self.is_blind(at) {
            // What is known of the market is from another life.
            self.tops.fill(None);
        }
        if self.drain == Drain::No {
            // In a drain the market decides nothing any more, and must not keep us from ever being idle.
            work = work.or(touched);
        }
        work = work.or(self.take_intents(cx)?);
        work = work.or(self.release(at)?);
        if at.now >= self.next_scan {
            self.next_scan = at.now.after(SCAN_PERIOD);
            self.scan(at)?;
        }
        if work == Work::Busy {
            self.ledger.keep_totals();
        }
        if at.now >= self.next_view {
            self.take_limits();
            self.publish(at);
        }
        self.ledger.hold.wake_journal();
        Ok(work)
    }

    fn on_drain(&mut self, cx: &mut Cx) -> Result<(), Fault> {
        let at = At::of(cx);
        self.next_scan = at.now;
        match self.settings.on_exit {
            OnExit::Keep => self.drain = Drain::Settled,
            OnExit::Cancel => {
                self.drain = Drain::Cancelling;
                self.doom_where(at, |_| true)?;
                if !self.may_have_open_orders() {
                    self.drain = Drain::Settled;
                }
            }
        }
        Ok(())
    }

    fn drained(&self) -> bool {
        let told = self.ledger.hold.is_empty() || !self.ledger.hold.journal_runs();
        self.drain == Drain::Settled && told
    }

    fn waits(&self, waits: &mut Waits) {
        self.session.waits(waits, self.now);
        waits.until(self.next_view);
        if self.is_scan_needed() {
            waits.until(self.next_scan);
        }
        if !self.ledger.hold.is_empty() {
            // The journal moves its mark without waking anybody.
            waits.until(self.now.after(HOLD_PERIOD));
        }
    }

    fn on_stop(&mut self, cx: &mut Cx, _stop: Stop) {
        self.session.close(cx.now);
        self.ledger.hold.wake_journal();
        self.publish(At::of(cx));
    }
}

/// The gate of these limits; `None` when they name an instrument that the engine does not have.
fn gate_of(instruments: usize, limits: &[(InstrumentId, Limits)]) -> Option<Gate> {
    let mut places = vec![None; instruments];
    for (instrument, its) in limits {
        *places.get_mut(instrument.index())? = Some(*its);
    }
    Some(Gate::new(places))
}

/// Orders per second of the account: the least that any of its instruments allows.
fn rate_of(limits: &[(InstrumentId, Limits)]) -> u32 {
    limits.iter().map(|(_, its)| its.orders_per_s_max).min().unwrap_or(0)
}

/// The record of a cancel that is about to be sent.
pub(super) fn cancel_record(order: &Order) -> Record {
    Record::Cancel {
        instrument: order.new.instrument,
        order: order.order,
        client_order_id: order.client_order_id,
    }
}
