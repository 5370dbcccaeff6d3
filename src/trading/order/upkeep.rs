//! What is done by time rather than by message: looking after orders, peers, the drain.
//!
//! What always holds: an order that has to go is asked to be cancelled again until that is confirmed; an order
//! nobody answers for is asked about again until its fate is proved; each at most once per answer timeout, and not
//! again while the venue wants us to be quiet.

use std::time::Duration;

use crate::clock::MonoNs;
use crate::runtime::actor::{Fault, Generation};
use crate::runtime::health::ActorState;
use crate::trading::domain::{ExecType, OrderRef, OrderStatus, Qty, Reason, Record};
use crate::trading::telemetry::SessionState;
use crate::trading::venue::RequestKind;

use super::hold::{At, Then};
use super::ledger::{Facts, report_of};
use super::lifecycle::{Event, Lifecycle};
use super::open_orders::Order;
use super::reconcile::Round;
use super::sender::{OrderSender, cancel_record};
use super::session::Subject;
use super::vault::KeptOrder;

/// How often everything is looked at.
pub(super) const SCAN_PERIOD: Duration = Duration::from_millis(5);

/// How long the venue may take to list open orders at the end before it is asked again.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(1);

/// What was last seen of a strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Peer {
    generation: u32,
    up: bool,
}

/// How far the drain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Drain {
    /// It has not begun.
    No,
    /// Open orders are being cancelled.
    Cancelling,
    /// So many lists of open orders are still to come, until then.
    Verifying(usize, MonoNs),
    /// The venue has none of ours, or they are meant to stay.
    Settled,
}

/// A book builder that is restarted at once is back long before.
const BLIND_MAX: Duration = Duration::from_millis(100);

impl OrderSender {
    /// Takes over what the last generation left.
    pub(super) fn restore(&mut self, at: At, generation: Generation) -> Result<(), Fault> {
        self.ledger.ids.set_generation(generation);
        let count = self.settings.instruments.len();
        let ids = self.settings.instruments.iter().map(|it| it.id);
        self.ledger.kept.clear();
        self.ledger.kept.extend(ids.map(|id| self.ledger.vault.kept(id)));
        debug_assert_eq!(self.ledger.kept.len(), count);
        self.ledger.restore_totals();
        self.quiet_until = self.ledger.vault.quiet_until();
        self.session.rest_until(self.quiet_until);
        if let Some(last) = self.ledger.vault.last_order() {
            // As if all had passed at once: at most a second is lost, and no window holds more than is allowed.
            self.ledger.throttle.exhaust(last);
        }
        let orders: Vec<KeptOrder> = self.ledger.vault.orders().collect();
        for kept in orders {
            self.restore_order(at, &kept)?;
        }
        Ok(())
    }

    /// An open order of a dead generation is of unknown fate and has to go; strategies hear where it stands.
    fn restore_order(&mut self, at: At, kept: &KeptOrder) -> Result<(), Fault> {
        let order = Order {
            order: kept.order,
            seq: kept.seq,
            generation: kept.generation,
            client_order_id: self.ledger.ids.of(kept.generation, kept.seq),
            venue_order_id: kept.venue_order_id,
            new: kept.new,
            approved: None,
            life: Lifecycle::restored(kept.new.qty, kept.cum_qty, kept.status),
            recv: at.now,
            sent: kept.sent,
            check_at: at.now,
            doomed: true,
            cancel_refusals: 0,
            heard: MonoNs::ZERO,
            unnamed: Qty::ZERO,
        };
        self.ledger.orders.insert(order);
        if !order.was_sent() && !order.life.status().is_terminal() {
            return self.refuse_unsent(at, order.seq, Reason::Restarted);
        }
        let exec = match order.life.status() {
            OrderStatus::Filled => ExecType::Trade,
            OrderStatus::Canceled => ExecType::Canceled,
            OrderStatus::Rejected => ExecType::Rejected,
            OrderStatus::Expired => ExecType::Expired,
            _ => ExecType::Unknown,
        };
        let report = report_of(&order, exec, Qty::ZERO, &Facts::default(), at.now);
        self.ledger.hold.record(at, Record::Report(report), Then::Forward)
    }

    /// Looks at the journal, the switch, the book builder and the strategies.
    pub(super) fn watch(&mut self, at: At) -> Result<(), Fault> {
        if self.is_blind(at) {
            self.doom_where(at, |_| true)?;
        }
        if let Some(unsent) = self.ledger.hold.after_restart() {
            for seq in unsent {
                self.refuse_unsent(at, seq, Reason::JournalDown)?;
            }
            self.ledger.record_positions(at)?;
        }
        let enabled = self.kill_switch.state().enabled();
        if enabled != self.was_enabled {
            self.was_enabled = enabled;
            self.ledger.hold.record(at, Record::Trading { enabled }, Then::Nothing)?;
            if !enabled {
                self.doom_where(at, |_| true)?;
            }
        }
        for number in 0..self.peers.len() {
            if self.has_died(number) {
                self.doom_where(at, |order| usize::from(order.order.strategy()) == number)?;
            }
        }
        Ok(())
    }

    /// Whether the book builder has been down for longer than a restart takes. Nobody else would take back quotes that
    /// stand while no touch is published.
    pub(super) fn is_blind(&mut self, at: At) -> bool {
        let sees = self.book_cell.as_ref().is_none_or(|cell| cell.is_up());
        if sees {
            self.sighted = at.now;
        }
        at.now.since(self.sighted) > BLIND_MAX
    }

    /// Whether a strategy was restarted, or went down in another way than by draining.
    fn has_died(&mut self, number: usize) -> bool {
        let port = self.ledger.strategies.get(number);
        let Some(cell) = port.and_then(|port| port.cell.as_ref()) else { return false };
        let seen = Peer { generation: cell.generation(), up: cell.is_up() };
        let before = std::mem::replace(&mut self.peers[number], seen);
        let restarted = before.generation != 0 && before.generation != seen.generation;
        restarted || before.up && !seen.up && cell.state() != ActorState::Exited
    }

    /// Condemns every unsettled order that `which` names.
    pub(super) fn doom_where(
        &mut self,
        at: At,
        which: impl Fn(&Order) -> bool,
    ) -> Result<(), Fault> {
        let mut index = self.ledger.orders.unsettled().len();
        while let Some(seq) = self.previous_unsettled(&mut index) {
            if self.ledger.orders.find(seq).is_some_and(&which) {
                self.doom(at, seq)?;
            }
        }
        Ok(())
    }

    /// Condemns an order: cancelled now, and again until that is confirmed. One that was not sent yet never is.
    pub(super) fn doom(&mut self, at: At, seq: u64) -> Result<(), Fault> {
        let Some(order) = self.ledger.orders.find(seq).copied() else { return Ok(()) };
        if order.life.status().is_terminal() {
            return Ok(());
        }
        if !order.was_sent() {
            return self.event(at, seq, Event::CancelAck(Qty::ZERO), Facts::default());
        }
        if order.doomed {
            // It was asked, and is asked again when that is due: whoever wants it gone a hundred times a second,
            // because the venue refuses each cancel, must not make us ask as often.
            return Ok(());
        }
        self.ledger.orders.edit(seq, |order| order.doomed = true);
        if order.life.cancelling() || order.life.status() == OrderStatus::Unknown {
            return Ok(());
        }
        self.send_cancel(at, seq)
    }

    /// Asks the venue to cancel an order, or sees to it that this is tried when there is a session.
    pub(super) fn send_cancel(&mut self, at: At, seq: u64) -> Result<(), Fault> {
        let Some(order) = self.ledger.orders.find(seq).copied() else { return Ok(()) };
        let Some(instrument) = self.settings.instruments.get(order.new.instrument.index()) else {
            return Ok(());
        };
        let subject = Subject::Order(seq);
        let sent = self.session.can_ask()
            && self.session.ask(at, RequestKind::Cancel, subject, |d, out, number| {
                d.cancel(out, number, instrument, &order.client_order_id, at.utc);
            });
        if !sent {
            self.ledger.orders.edit(seq, |order| order.check_at = at.now);
            return Ok(());
        }
        self.ledger.hold.record(at, cancel_record(&order), Then::Nothing)?;
        self.event(at, seq, Event::CancelSent, Facts::default())?;
        let check_at = at.now.after(self.settings.ack_timeout);
        self.ledger.orders.edit(seq, |order| order.check_at = check_at);
        Ok(())
    }

    /// Asks the venue where an order stands.
    pub(super) fn ask_status(&mut self, at: At, seq: u64) {
        let Some(order) = self.ledger.orders.find(seq).copied() else { return };
        let Some(instrument) = self.settings.instruments.get(order.new.instrument.index()) else {
            return;
        };
        if self.session.can_ask() && at.now >= self.quiet_until {
            let subject = Subject::Order(seq);
            let _ = self.session.ask(at, RequestKind::OrderStatus, subject, |d, out, number| {
                d.order_status(out, number, instrument, &order.client_order_id, at.utc);
            });
        }
        let check_at = at.now.after(self.settings.ack_timeout).max(self.quiet_until);
        self.ledger.orders.edit(seq, |order| order.check_at = check_at);
    }

    /// The connection is gone: what was unanswered on it is of unknown fate now.
    pub(super) fn lose_session(
        &mut self,
        at: At,
        why: &dyn std::fmt::Display,
    ) -> Result<(), Fault> {
        self.session.lose(why, at.now, self.quiet_until);
        self.reconcile.reset();
        if matches!(self.drain, Drain::Verifying(..)) {
            self.drain = Drain::Cancelling;
        }
        let mut index = self.ledger.orders.unsettled().len();
        while let Some(seq) = self.previous_unsettled(&mut index) {
            if self.ledger.orders.find(seq).is_some_and(Order::was_sent) {
                // The question that follows is asked by the comparison on the next connection.
                self.ledger.step(at, seq, Event::Timeout, Facts::default())?;
            }
        }
        Ok(())
    }

    /// Looks at everything that may be due.
    pub(super) fn scan(&mut self, at: At) -> Result<(), Fault> {
        if self.session.can_ask() && self.reconcile.round != Round::Listing {
            let mut index = self.ledger.orders.unsettled().len();
            while let Some(seq) = self.previous_unsettled(&mut index) {
                self.look_after(at, seq)?;
            }
            self.cancel_strays(at)?;
        }
        self.advance_reconcile(at);
        self.advance_drain(at);
        Ok(())
    }

    fn look_after(&mut self, at: At, seq: u64) -> Result<(), Fault> {
        let Some(order) = self.ledger.orders.find(seq).copied() else { return Ok(()) };
        if at.now < order.check_at || !order.was_sent() {
            return Ok(());
        }
        match order.life.status() {
            OrderStatus::PendingNew | OrderStatus::PendingCancel => {
                self.event(at, seq, Event::Timeout, Facts::default())
            }
            _ if at.now < self.quiet_until => {
                let check_at = self.quiet_until;
                self.ledger.orders.edit(seq, |order| order.check_at = check_at);
                Ok(())
            }
            OrderStatus::Unknown => {
                self.ask_status(at, seq);
                Ok(())
            }
            status if order.doomed && !status.is_terminal() => self.send_cancel(at, seq),
            _ => {
                if !order.life.owed().is_zero() && self.session.state() == SessionState::Live {
                    self.ask_trades(at, order.new.instrument);
                }
                let check_at = at.now.after(self.settings.ack_timeout);
                self.ledger.orders.edit(seq, |order| order.check_at = check_at);
                Ok(())
            }
        }
    }

    fn cancel_strays(&mut self, at: At) -> Result<(), Fault> {
        for index in 0..self.reconcile.strays.len() {
            let stray = self.reconcile.strays[index];
            let Some(instrument) = self.settings.instruments.get(stray.seen.instrument.index())
            else {
                continue;
            };
            let again = stray.ask_at != MonoNs::ZERO;
            if at.now < stray.ask_at || again && at.now < self.quiet_until {
                continue;
            }
            let id = stray.seen.client_order_id;
            let subject = Subject::Stray(id);
            let _ = self.session.ask(at, RequestKind::Cancel, subject, |d, out, number| {
                d.cancel(out, number, instrument, &id, at.utc);
            });
            self.reconcile.strays[index].ask_at = at.now.after(self.settings.ack_timeout);
            let record = Record::Cancel {
                instrument: stray.seen.instrument,
                order: OrderRef::default(),
                client_order_id: id,
            };
            self.ledger.hold.record(at, record, Then::Nothing)?;
        }
        Ok(())
    }

    /// Whether the venue may hold an order of ours: of this process, or of an earlier one that traded and whose orders
    /// nobody has looked at yet. Such a one left its watermark, which goes to the journal before any order does.
    pub(super) fn may_have_open_orders(&self) -> bool {
        self.ledger.vault.sessions() > 0
            || !self.ledger.orders.unsettled().is_empty()
            || self.ledger.kept.iter().any(|kept| kept.last_trade_id.is_some())
    }

    fn advance_drain(&mut self, at: At) {
        match self.drain {
            Drain::Cancelling => {
                let nothing_left =
                    self.ledger.orders.unsettled().is_empty() && self.reconcile.strays.is_empty();
                if nothing_left && self.session.state() == SessionState::Live {
                    let until = at.now.after(VERIFY_TIMEOUT);
                    self.drain = match self.settings.limits.len() {
                        0 => Drain::Settled,
                        lists => Drain::Verifying(lists, until),
                    };
                    // What the last attempt asked says how it was then.
                    self.session.forget_lists();
                    self.list_open_orders(at);
                }
            }
            Drain::Verifying(_, until) if at.now >= until => self.drain = Drain::Cancelling,
            Drain::No | Drain::Verifying(..) | Drain::Settled => {}
        }
    }

    /// A list of open orders is here; ours that were on it are strays now.
    pub(super) fn verified(&mut self) {
        if let Drain::Verifying(lists, until) = self.drain {
            self.drain = match lists.saturating_sub(1) {
                0 if self.is_clean() => Drain::Settled,
                0 => Drain::Cancelling,
                left => Drain::Verifying(left, until),
            };
        }
    }

    fn is_clean(&self) -> bool {
        self.reconcile.strays.is_empty() && self.ledger.orders.unsettled().is_empty()
    }

    /// The venue did not list: it is asked again when the present attempt has timed out.
    pub(super) fn retry_verification(&mut self, at: At) {
        if matches!(self.drain, Drain::Verifying(..)) {
            self.drain = Drain::Verifying(usize::MAX, at.now.after(VERIFY_TIMEOUT));
        }
    }
}
