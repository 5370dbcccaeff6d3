//! Everything the order sender knows about its orders and positions, and how each fact is told on.
//!
//! Comes in: events of orders, trades of the account. Goes out: reports and position records to the journal's hold,
//! and from there to strategies. What always holds: a fact changes table, position and vault at once, and is told
//! to a strategy only after its record was written.

use std::time::Duration;

use crate::clock::{MonoNs, UtcNs};
use crate::runtime::actor::Fault;
use crate::runtime::mailbox::RefusedWhy;
use crate::trading::domain::{
    ClientOrderId, Commission, Entry, ExecType, ExecutionReport, Instrument, InstrumentId,
    Instruments, NewOrder, OrderIntent, OrderKind, OrderRef, OrderStatus, Price, Qty, Reason,
    Record, Side, TimeInForce,
};
use crate::trading::risk::gate::Approved;
use crate::trading::risk::{Fill, Throttle};
use crate::trading::telemetry::OrderTotals;
use crate::trading::venue::{VenueReport, VenueTrade};

use super::hold::{At, Hold, Then};
use super::ids::Ids;
use super::latency::Latency;
use super::lifecycle::{Ask, Event, Lifecycle, Step};
use super::open_orders::{OpenOrders, Order};
use super::settings::StrategyPort;
use super::trades::TradeIds;
use super::vault::{Kept, Vault};

/// What a message says beside the event itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) last_price: Price,
    pub(super) trade_id: u64,
    pub(super) commission: Commission,
    pub(super) reason: Option<Reason>,
    pub(super) venue_code: i32,
    pub(super) venue_utc: UtcNs,
    /// Reported in place of what the life of the order says: our own refusals.
    pub(super) exec: Option<ExecType>,
}

impl Facts {
    /// Our own refusal of an order that was never sent.
    pub(super) fn refused(reason: Reason) -> Self {
        Self { reason: Some(reason), exec: Some(ExecType::Refused), ..Self::default() }
    }

    /// The venue's refusal.
    pub(super) fn venue(code: i32) -> Self {
        Self { reason: Some(Reason::Venue), venue_code: code, ..Self::default() }
    }

    /// What a report of the account stream says.
    pub(super) fn of(report: &VenueReport) -> Self {
        Self {
            last_price: report.last_price,
            trade_id: report.trade_id.unwrap_or(0),
            commission: report.commission,
            reason: (report.reject_code != 0).then_some(Reason::Venue),
            venue_code: report.reject_code,
            venue_utc: report.venue_utc,
            exec: None,
        }
    }

    fn of_trade(trade: &VenueTrade) -> Self {
        Self {
            last_price: trade.price,
            trade_id: trade.trade_id,
            commission: trade.commission,
            venue_utc: trade.venue_utc,
            ..Self::default()
        }
    }
}

/// The books of the order sender.
pub(super) struct Ledger {
    pub(super) orders: OpenOrders,
    pub(super) ids: Ids,
    pub(super) hold: Hold,
    pub(super) strategies: Vec<StrategyPort>,
    pub(super) vault: Vault,
    pub(super) instruments: Instruments,
    /// By instrument index.
    pub(super) kept: Vec<Kept>,
    /// By instrument index.
    pub(super) trades: Vec<TradeIds>,
    pub(super) throttle: Throttle,
    pub(super) totals: OrderTotals,
    pub(super) refused: [u64; Reason::ALL.len()],
    pub(super) latency: Latency,
    pub(super) ack_timeout: Duration,
}

impl Ledger {
    pub(super) fn instrument(&self, id: InstrumentId) -> Option<&Instrument> {
        self.instruments.get(id.index())
    }

    /// Takes an approved order in: mints its id and puts it before the journal.
    pub(super) fn admit(
        &mut self,
        at: At,
        intent: &OrderIntent,
        approved: Approved<NewOrder>,
    ) -> Result<(), Fault> {
        let new = *approved.get();
        let seq = self.orders.free_seq(self.vault.next_seq());
        self.vault.use_up_to(seq + 1);
        let order = Order {
            order: intent.order,
            seq,
            generation: self.ids.generation(),
            client_order_id: self.ids.mint(seq),
            venue_order_id: 0,
            new,
            approved: Some(approved),
            life: Lifecycle::new(new.qty),
            recv: intent.recv,
            sent: MonoNs::NEVER,
            check_at: MonoNs::NEVER,
            doomed: false,
            cancel_refusals: 0,
            heard: MonoNs::ZERO,
            unnamed: Qty::ZERO,
        };
        if !self.orders.insert(order) {
            return self.refuse(at, intent.order, Some(&new), Reason::Busy);
        }
        self.throttle.count(at.now);
        self.vault.keep_last_order(at.now);
        self.vault.keep_order(&order);
        let client_order_id = order.client_order_id;
        let record = Record::Order { order: intent.order, client_order_id, new };
        self.hold.record(at, record, Then::Send(seq))
    }

    /// Reports an intent that leads to nothing.
    pub(super) fn refuse(
        &mut self,
        at: At,
        order: OrderRef,
        new: Option<&NewOrder>,
        reason: Reason,
    ) -> Result<(), Fault> {
        self.count_refusal(reason);
        let mut report = unknown_report(order, new.unwrap_or(&blank_order()), at.now);
        report.reason = Some(reason);
        if !self.hold.is_up() {
            // A journal that stalls must not be buried in refusals: they are counted, and told at once.
            return self.tell(&report);
        }
        self.hold.record(at, Record::Report(report), Then::Forward)
    }

    fn count_refusal(&mut self, reason: Reason) {
        self.totals.refused += 1;
        self.refused[reason as usize] += 1;
    }

    /// Reports that a cancel cannot be: the order is not known, or done.
    pub(super) fn refuse_cancel(
        &mut self,
        at: At,
        instrument: InstrumentId,
        order: OrderRef,
    ) -> Result<(), Fault> {
        self.refused[Reason::UnknownOrder as usize] += 1;
        let facts = Facts { reason: Some(Reason::UnknownOrder), ..Facts::default() };
        let report = match self.orders.by_ref(order) {
            Some(known) => report_of(known, ExecType::CancelRejected, Qty::ZERO, &facts, at.now),
            None => {
                let new = NewOrder { instrument, ..blank_order() };
                let mut report = unknown_report(order, &new, at.now);
                report.exec = ExecType::CancelRejected;
                report.reason = facts.reason;
                report
            }
        };
        self.hold.record(at, Record::Report(report), Then::Forward)
    }

    /// Moves the life of one order and tells what changed; gives what to ask the venue.
    pub(super) fn step(
        &mut self,
        at: At,
        seq: u64,
        event: Event,
        facts: Facts,
    ) -> Result<Ask, Fault> {
        let Some(order) = self.orders.find(seq) else { return Ok(Ask::Nothing) };
        let before = order.life;
        let step = self.move_life(at, seq, |life| life.on(event));
        if matches!(event, Event::Fill { .. }) && step.exec.is_none() {
            self.totals.duplicates += 1;
        }
        self.told(at, seq, before, step, facts)
    }

    /// Changes the life of an order, and notes when that made it owe more.
    fn move_life(&mut self, at: At, seq: u64, change: impl FnOnce(&mut Lifecycle) -> Step) -> Step {
        let before = self.orders.find(seq).map(|order| order.life.owed()).unwrap_or_default();
        let step = self.orders.step(seq, change).unwrap_or_default();
        self.orders.edit(seq, |order| {
            if order.life.owed() > before {
                order.heard = at.now;
            }
        });
        step
    }

    /// Notes a total heard of in passing; fills that it contains and we lack are asked for if they do not come.
    pub(super) fn hear_of(&mut self, at: At, seq: u64, cum: Qty) {
        let heard = |life: &mut Lifecycle| {
            life.hear_of(cum);
            Step::default()
        };
        let _ = self.move_life(at, seq, heard);
        let Some(order) = self.orders.find(seq).filter(|o| !o.life.owed().is_zero()) else {
            return;
        };
        let check_at = self.next_check(order, at.now);
        self.orders.edit(seq, |order| order.check_at = check_at);
    }

    /// Every trade of an instrument up to `newest` is counted, or was before our time. The first time this is said
    /// it goes to the journal before any order does: should this process die, the next one knows which trades are
    /// its business.
    pub(super) fn trades_known_to(
        &mut self,
        at: At,
        instrument: InstrumentId,
        newest: u64,
    ) -> Result<(), Fault> {
        let Some(kept) = self.kept.get_mut(instrument.index()) else { return Ok(()) };
        let first_time = kept.last_trade_id.is_none();
        kept.last_trade_id = kept.last_trade_id.max(Some(newest));
        let kept = *kept;
        self.vault.keep(instrument, &kept);
        if first_time { self.record_position(at, instrument, &kept) } else { Ok(()) }
    }

    /// Leaves the totals where the next generation finds them.
    pub(super) fn keep_totals(&self) {
        self.vault.keep_totals(&self.totals, &self.refused);
    }

    /// Goes on counting where the last generation ended.
    pub(super) fn restore_totals(&mut self) {
        (self.totals, self.refused) = self.vault.totals();
    }

    /// Counts the fills that an order owes and that the venue does not name.
    pub(super) fn count_unnamed(&mut self, at: At, seq: u64) -> Result<(), Fault> {
        let Some(order) = self.orders.find(seq) else { return Ok(()) };
        if order.life.owed().is_zero() {
            return Ok(());
        }
        let (before, price) = (order.life, order.new.price);
        let step = self.move_life(at, seq, Lifecycle::count_unnamed);
        self.orders.edit(seq, |order| {
            order.unnamed = order.unnamed.checked_add(step.filled).unwrap_or(order.unnamed);
        });
        let facts = Facts { last_price: price, ..Facts::default() };
        self.told(at, seq, before, step, facts).map(|_| ())
    }

    fn told(
        &mut self,
        at: At,
        seq: u64,
        before: Lifecycle,
        step: Step,
        facts: Facts,
    ) -> Result<Ask, Fault> {
        let Some(order) = self.orders.find(seq).copied() else { return Ok(Ask::Nothing) };
        let after = order.life;
        if !before.acknowledged() && after.acknowledged() {
            self.totals.acknowledged += 1;
            self.latency.order_ack.record(at.now.since(order.sent));
        }
        if before.status() != after.status() {
            self.count_status(&order, &facts);
        }
        // Before its fill moves the position: whatever fails between, the next generation counts no fill twice.
        if step.exec.is_some() || before != after || step.ask == Ask::Status {
            let check_at = self.next_check(&order, at.now);
            self.orders.edit(seq, |order| order.check_at = check_at);
            self.vault.keep_order(&order);
        }
        if !step.filled.is_zero() {
            let Facts { last_price: price, commission, .. } = facts;
            let fill = Fill { side: order.new.side, price, qty: step.filled, commission };
            self.fill(at, order.new.instrument, &fill, facts.trade_id)?;
        }
        if let Some(exec) = facts.exec.filter(|_| step.exec.is_some()).or(step.exec) {
            let report = report_of(&order, exec, step.filled, &facts, at.now);
            self.hold.record(at, Record::Report(report), Then::Forward)?;
        }
        Ok(step.ask)
    }

    fn count_status(&mut self, order: &Order, facts: &Facts) {
        match order.life.status() {
            OrderStatus::Filled => self.totals.filled += 1,
            OrderStatus::Canceled if !order.was_sent() => self.totals.withdrawn += 1,
            OrderStatus::Canceled => self.totals.cancelled += 1,
            OrderStatus::Expired => self.totals.expired += 1,
            OrderStatus::Rejected => match facts.reason.filter(|_| facts.exec.is_some()) {
                Some(reason) => self.count_refusal(reason),
                None => self.totals.rejected += 1,
            },
            _ => {}
        }
    }

    /// When to look after an order if nothing more is heard of it.
    fn next_check(&self, order: &Order, now: MonoNs) -> MonoNs {
        let expects = match order.life.status() {
            OrderStatus::PendingNew | OrderStatus::PendingCancel | OrderStatus::Unknown => true,
            status => !order.life.owed().is_zero() || order.doomed && !status.is_terminal(),
        };
        if expects && order.was_sent() { now.after(self.ack_timeout) } else { MonoNs::NEVER }
    }

    /// Counts a fill into the position.
    fn fill(
        &mut self,
        at: At,
        instrument: InstrumentId,
        fill: &Fill,
        trade_id: u64,
    ) -> Result<(), Fault> {
        self.totals.fills += 1;
        let index = instrument.index();
        let (Some(it), Some(kept)) = (self.instruments.get(index), self.kept.get_mut(index)) else {
            return Ok(());
        };
        let fits = kept.exposure.apply(fill, it);
        fits.map_err(|_| Fault::fatal("a position grew beyond what its numbers hold"))?;
        if trade_id != 0 {
            self.trades[index].note(trade_id);
            kept.last_trade_id = kept.last_trade_id.max(Some(trade_id));
        }
        let kept = *kept;
        self.vault.keep(instrument, &kept);
        self.record_position(at, instrument, &kept)
    }

    /// Records every position and watermark that is known once more: the dead journal may have had them in hand.
    pub(super) fn record_positions(&mut self, at: At) -> Result<(), Fault> {
        for index in 0..self.instruments.len().min(self.kept.len()) {
            let kept = self.kept[index];
            if kept.last_trade_id.is_some() {
                self.record_position(at, self.instruments[index].id, &kept)?;
            }
        }
        Ok(())
    }

    fn record_position(
        &mut self,
        at: At,
        instrument: InstrumentId,
        kept: &Kept,
    ) -> Result<(), Fault> {
        let record = Record::Position {
            instrument,
            qty: kept.exposure.qty,
            cost: kept.exposure.cost,
            realized_pnl: kept.exposure.realized,
            fees: kept.exposure.fees,
            last_trade_id: kept.last_trade_id.unwrap_or(0),
        };
        self.hold.record(at, record, Then::Nothing)
    }

    /// Takes a fill of the account stream; `seq` is the order it belongs to, if it is one of ours that is known.
    pub(super) fn on_fill_report(
        &mut self,
        at: At,
        instrument: InstrumentId,
        seq: Option<u64>,
        report: &VenueReport,
    ) -> Result<Ask, Fault> {
        let trade_id = report.trade_id.unwrap_or(0);
        if self.trades[instrument.index()].has(trade_id) {
            self.totals.duplicates += 1;
            return Ok(Ask::Nothing);
        }
        let Some(seq) = seq else {
            // An order of an earlier process, or of somebody else on this account: what is held changes all the same.
            let VenueReport { side, last_price: price, last_qty: qty, commission, .. } = *report;
            self.fill(at, instrument, &Fill { side, price, qty, commission }, trade_id)?;
            return Ok(Ask::Nothing);
        };
        let event = Event::Fill { last: report.last_qty, cum: Some(report.cum_qty) };
        let ask = self.step(at, seq, event, Facts::of(report))?;
        if self.orders.find(seq).is_some_and(|order| report.cum_qty <= order.life.cum_qty()) {
            self.name_trade(at, seq, trade_id, report.last_qty)?;
        }
        Ok(ask)
    }

    /// Notes the id of a trade that is in the order's total already, so that nobody counts it again: not the next
    /// generation, and not the next process.
    fn name_trade(&mut self, at: At, seq: u64, trade_id: u64, qty: Qty) -> Result<(), Fault> {
        let Some(instrument) = self.orders.find(seq).map(|order| order.new.instrument) else {
            return Ok(());
        };
        let index = instrument.index();
        if trade_id == 0 || self.trades[index].has(trade_id) {
            return Ok(());
        }
        self.orders.edit(seq, |order| order.unnamed = order.unnamed.minus(qty));
        self.trades[index].note(trade_id);
        let Some(kept) = self.kept.get_mut(index) else { return Ok(()) };
        kept.last_trade_id = kept.last_trade_id.max(Some(trade_id));
        let kept = *kept;
        self.vault.keep(instrument, &kept);
        self.record_position(at, instrument, &kept)
    }

    /// Takes a trade that a query shows; trades that are known already are passed over.
    pub(super) fn on_queried_trade(
        &mut self,
        at: At,
        instrument: InstrumentId,
        trade: &VenueTrade,
    ) -> Result<(), Fault> {
        if self.trades[instrument.index()].has(trade.trade_id) {
            return Ok(());
        }
        let order = self.orders.by_venue_id(instrument, trade.venue_order_id).map(|o| o.seq);
        let Some(seq) = order else {
            let VenueTrade { side, price, qty, commission, .. } = *trade;
            return self.fill(
                at,
                instrument,
                &Fill { side, price, qty, commission },
                trade.trade_id,
            );
        };
        let event = Event::Fill { last: trade.qty, cum: None };
        self.step(at, seq, event, Facts::of_trade(trade))?;
        // A trade that is not owed may also be one whose total is not told yet: that one is counted when it is.
        if self.orders.find(seq).is_some_and(|order| order.unnamed >= trade.qty) {
            self.name_trade(at, seq, trade.trade_id, trade.qty)?;
        }
        Ok(())
    }

    /// Tells a strategy what the journal has written.
    pub(super) fn forward(&mut self, entry: &Entry) -> Result<(), Fault> {
        let Record::Report(report) = &entry.record else { return Ok(()) };
        if report.status.is_terminal() && !report.client_order_id.is_empty() {
            let settled = |o: &&Order| o.life.is_settled();
            let known = self.orders.by_ref(report.order).filter(settled);
            if let Some(seq) = known.map(|o| o.seq) {
                self.vault.forget_order(seq);
            }
        }
        self.tell(report)
    }

    fn tell(&self, report: &ExecutionReport) -> Result<(), Fault> {
        let Some(port) = self.strategies.get(usize::from(report.order.strategy())) else {
            return Ok(());
        };
        match port.reports.offer(*report) {
            Ok(()) => Ok(()),
            // The strategy has drained or ended for good: there is nobody to tell.
            Err(refused) if refused.why == RefusedWhy::Closed => Ok(()),
            Err(refused) => Err(refused.into()),
        }
    }
}

fn blank_order() -> NewOrder {
    NewOrder {
        instrument: InstrumentId::default(),
        side: Side::Buy,
        kind: OrderKind::Limit,
        tif: TimeInForce::Gtc,
        price: Price::ZERO,
        qty: Qty::ZERO,
    }
}

/// A report about an order that the table does not have.
fn unknown_report(order: OrderRef, new: &NewOrder, now: MonoNs) -> ExecutionReport {
    ExecutionReport {
        instrument: new.instrument,
        order,
        client_order_id: ClientOrderId::new(),
        venue_order_id: 0,
        exec: ExecType::Refused,
        status: OrderStatus::Rejected,
        side: new.side,
        price: new.price,
        qty: new.qty,
        cum_qty: Qty::ZERO,
        leaves_qty: Qty::ZERO,
        last_qty: Qty::ZERO,
        last_price: Price::ZERO,
        trade_id: 0,
        commission: Commission::default(),
        reason: None,
        venue_code: 0,
        venue_utc: UtcNs::default(),
        recv: now,
    }
}

/// A report about an order as it stands now.
pub(super) fn report_of(
    order: &Order,
    exec: ExecType,
    filled: Qty,
    facts: &Facts,
    now: MonoNs,
) -> ExecutionReport {
    let life = &order.life;
    let done = life.status().is_terminal();
    let fill = !filled.is_zero();
    ExecutionReport {
        client_order_id: order.client_order_id,
        venue_order_id: order.venue_order_id,
        exec,
        status: life.status(),
        cum_qty: life.cum_qty(),
        leaves_qty: if done { Qty::ZERO } else { life.qty().minus(life.cum_qty()) },
        last_qty: filled,
        last_price: if fill { facts.last_price } else { Price::ZERO },
        trade_id: if fill { facts.trade_id } else { 0 },
        commission: if fill { facts.commission } else { Commission::default() },
        reason: facts.reason,
        venue_code: facts.venue_code,
        venue_utc: facts.venue_utc,
        ..unknown_report(order.order, &order.new, now)
    }
}
