//! Comparing our orders and fills with the venue's, on every connection and after every suspension, before anything
//! is traded.
//!
//! Four rounds, each begun when the one before is answered completely:
//! 1. *Listing*: the open orders of every instrument, and the balances. Orders of ours that the table does not have
//!    (an earlier process's, say), or calls done, are strays.
//! 2. *Asking*: every order that we believe open and the venue did not list, until its fate is proved.
//! 3. *Trades*: those since the newest one counted; the missed ones are applied and reported.
//! 4. *Clearing*: strays, and orders that have to go, are cancelled one by one, until all are confirmed. One that
//!    the venue refuses to cancel again and again is not waited for, and shown as stuck; it is still asked to go.
//!
//! What always holds: account events flow throughout, and whatever both ways tell us counts once.

use crate::clock::MonoNs;
use crate::runtime::actor::Fault;
use crate::trading::domain::{InstrumentId, OrderStatus};
use crate::trading::limits::{CANCEL_REFUSALS_MAX, OPEN_ORDERS_MAX};
use crate::trading::telemetry::{OpenOrderView, SessionState};
use crate::trading::venue::{RequestKind, VenueOrder, VenueTrade};

use super::hold::At;
use super::ledger::Facts;
use super::lifecycle::Event;
use super::open_orders::Order;
use super::sender::OrderSender;
use super::session::Subject;

/// Trades in one answer when there may be more.
const TRADES_PAGE: usize = 1_000;

/// Which round is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Round {
    /// None: the session is live, or not there.
    #[default]
    None,
    /// Open orders and balances.
    Listing,
    /// Orders of unknown fate.
    Asking,
    /// Missed trades.
    Trades,
    /// Orders that have to go.
    Clearing,
}

/// An order of ours that the venue has open, and that the table does not have or calls done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stray {
    /// As it was seen first.
    pub(super) seen: OpenOrderView,
    /// When to ask for its cancellation (again).
    pub(super) ask_at: MonoNs,
    /// How often the venue refused to cancel it.
    pub(super) refusals: u32,
}

impl Stray {
    /// Whether the venue refuses to cancel it for good, as it seems.
    pub(super) fn is_stuck(&self) -> bool {
        self.refusals >= CANCEL_REFUSALS_MAX
    }
}

/// How far the comparison is.
#[derive(Debug)]
pub(super) struct Reconcile {
    pub(super) round: Round,
    /// Questions of this round not answered yet.
    outstanding: usize,
    pub(super) strays: Vec<Stray>,
    /// Counters of the orders that the venue lists as open.
    listed: Vec<u64>,
}

impl Reconcile {
    pub(super) fn new() -> Self {
        Self {
            round: Round::None,
            outstanding: 0,
            strays: Vec::with_capacity(OPEN_ORDERS_MAX),
            listed: Vec::with_capacity(OPEN_ORDERS_MAX),
        }
    }

    /// The connection is gone and with it every question. The strays stay to be shown until a list is to come.
    pub(super) fn reset(&mut self) {
        self.round = Round::None;
        self.outstanding = 0;
        self.listed.clear();
    }

    pub(super) fn add_stray(&mut self, seen: OpenOrderView) {
        let known =
            self.strays.iter().any(|stray| stray.seen.client_order_id == seen.client_order_id);
        // More than we can hold are found by the next list.
        if !known && self.strays.len() < OPEN_ORDERS_MAX {
            self.strays.push(Stray { seen, ask_at: MonoNs::ZERO, refusals: 0 });
        }
    }

    /// The venue does not cancel a stray.
    pub(super) fn kept(&mut self, id: &str) {
        let is_it = |stray: &&mut Stray| stray.seen.client_order_id.as_str() == id;
        if let Some(stray) = self.strays.iter_mut().find(is_it) {
            stray.refusals = stray.refusals.saturating_add(1);
        }
    }

    /// A stray is not open any more.
    pub(super) fn gone(&mut self, id: &str) {
        self.strays.retain(|stray| stray.seen.client_order_id.as_str() != id);
    }
}

impl OrderSender {
    pub(super) fn begin_reconcile(&mut self, at: At) {
        self.ledger.vault.count_session();
        self.compare(at);
    }

    /// Begins the first round, whatever was under way.
    pub(super) fn compare(&mut self, at: At) {
        self.session.enter(SessionState::Reconciling, at.now);
        self.session.forget_lists();
        self.reconcile.reset();
        self.reconcile.strays.clear();
        self.reconcile.round = Round::Listing;
        self.reconcile.outstanding = self.settings.limits.len() + 1;
        self.list_open_orders(at);
        let _ = self.session.ask(at, RequestKind::Account, Subject::Session, |d, out, seq| {
            d.account(out, seq, at.utc);
        });
    }

    /// Asks for the open orders of every instrument of ours.
    pub(super) fn list_open_orders(&mut self, at: At) {
        for (id, _) in &self.settings.limits {
            let Some(instrument) = self.settings.instruments.get(id.index()) else { continue };
            let subject = Subject::Instrument(*id);
            let _ = self.session.ask(at, RequestKind::OpenOrders, subject, |d, out, seq| {
                d.open_orders(out, seq, instrument, at.utc);
            });
        }
    }

    pub(super) fn on_open_orders(
        &mut self,
        at: At,
        instrument: InstrumentId,
        list: &[VenueOrder],
    ) -> Result<(), Fault> {
        for found in list {
            let Some(own) = self.ledger.ids.parse(&found.client_order_id) else { continue };
            let id = &found.client_order_id;
            let seen = OpenOrderView {
                instrument,
                client_order_id: *id,
                status: found.status,
                side: found.side,
                price: found.price,
                qty: found.qty,
                cum_qty: found.cum_qty,
                sent: at.now,
            };
            let known = self.ledger.orders.find(own.seq).filter(|o| o.client_order_id == *id);
            match known.map(|order| order.seq) {
                Some(seq) => {
                    self.reconcile.listed.push(seq);
                    self.on_found(at, seq, found)?;
                    // Where only the list is old, the venue knows no such order when it is to be cancelled.
                    if self.ledger.orders.find(seq).is_some_and(|o| o.life.status().is_terminal()) {
                        self.reconcile.add_stray(seen);
                    }
                }
                None => self.reconcile.add_stray(seen),
            }
        }
        if self.reconcile.round == Round::Listing {
            return self.on_listed(at);
        }
        self.verified();
        Ok(())
    }

    /// One answer of the first round is here.
    pub(super) fn on_listed(&mut self, at: At) -> Result<(), Fault> {
        if self.reconcile.round != Round::Listing || !self.is_last_answer() {
            return Ok(());
        }
        self.reconcile.round = Round::Asking;
        // How long proof takes is the venue's business: each question is repeated, and a dead line is noticed.
        self.session.step_deadline = MonoNs::NEVER;
        let mut index = self.ledger.orders.unsettled().len();
        while let Some(seq) = self.previous_unsettled(&mut index) {
            let Some(order) = self.ledger.orders.find(seq) else { continue };
            let listed = self.reconcile.listed.contains(&seq);
            if order.was_sent() && !order.life.status().is_terminal() && !listed {
                let not_open = Event::CancelReject { unknown: true };
                self.event(at, seq, not_open, Facts::default())?;
            }
        }
        Ok(())
    }

    /// The next counter of the table's list from behind; safe when the order under it settles meanwhile.
    pub(super) fn previous_unsettled(&self, index: &mut usize) -> Option<u64> {
        *index = (*index).min(self.ledger.orders.unsettled().len()).checked_sub(1)?;
        self.ledger.orders.unsettled().get(*index).copied()
    }

    fn is_last_answer(&mut self) -> bool {
        self.reconcile.outstanding = self.reconcile.outstanding.saturating_sub(1);
        self.reconcile.outstanding == 0
    }

    /// Goes on to the next round when the present one is done by itself.
    pub(super) fn advance_reconcile(&mut self, at: At) {
        let orders = &self.ledger.orders;
        match self.reconcile.round {
            Round::Asking if !orders.iter().any(|o| o.life.status() == OrderStatus::Unknown) => {
                self.reconcile.round = Round::Trades;
                self.reconcile.outstanding = self.settings.limits.len();
                self.session.enter(SessionState::Reconciling, at.now);
                for index in 0..self.settings.limits.len() {
                    self.ask_trades(at, self.settings.limits[index].0);
                }
                self.end_trades_round();
            }
            Round::Clearing => {
                let goes = |o: &Order| o.doomed && !o.life.status().is_terminal() && !o.is_stuck();
                let clear = self.reconcile.strays.iter().all(Stray::is_stuck);
                if clear && !orders.iter().any(goes) {
                    self.reconcile.round = Round::None;
                    self.session.enter(SessionState::Live, at.now);
                }
            }
            _ => {}
        }
    }

    fn end_trades_round(&mut self) {
        if self.reconcile.outstanding == 0 {
            self.reconcile.round = Round::Clearing;
            self.session.step_deadline = MonoNs::NEVER;
        }
    }

    /// Asks for the trades that may have been missed in an instrument.
    pub(super) fn ask_trades(&mut self, at: At, id: InstrumentId) {
        let Some(instrument) = self.settings.instruments.get(id.index()) else { return };
        let last = self.ledger.kept.get(id.index()).and_then(|kept| kept.last_trade_id);
        let from = last.map(|last| self.ledger.trades[id.index()].query_from(last));
        let subject = Subject::Trades(id, last.is_none());
        let _ = self.session.ask(at, RequestKind::Trades, subject, |d, out, seq| {
            d.trades(out, seq, instrument, from, at.utc);
        });
    }

    /// Trades of an instrument are here. The question says when it was asked, and whether none was known then: a fill
    /// that the account stream told meanwhile does not make history our position.
    pub(super) fn on_trades(
        &mut self,
        at: At,
        (asked, first_time): (MonoNs, bool),
        instrument: InstrumentId,
        list: &[VenueTrade],
    ) -> Result<(), Fault> {
        let index = instrument.index();
        let before = self.ledger.kept.get(index).and_then(|kept| kept.last_trade_id);
        for trade in list {
            let ours = self.ledger.orders.by_venue_id(instrument, trade.venue_order_id).is_some();
            // What was traded before this engine ever looked is not its position.
            if !first_time || ours {
                self.ledger.on_queried_trade(at, instrument, trade)?;
            }
        }
        // A trade that its order does not owe yet is not counted, and stays to be asked for.
        let counted = |id: &u64| first_time || self.ledger.trades[index].has(*id);
        let newest = list.iter().map(|trade| trade.trade_id).filter(counted).max().unwrap_or(0);
        self.ledger.trades_known_to(at, instrument, newest)?;
        if list.len() >= TRADES_PAGE && !first_time && Some(newest) > before {
            self.ask_trades(at, instrument);
            return Ok(());
        }
        self.count_owed(at, instrument, asked)?;
        if self.reconcile.round == Round::Trades {
            self.reconcile.outstanding = self.reconcile.outstanding.saturating_sub(1);
            self.end_trades_round();
        }
        Ok(())
    }

    /// Fills that the venue's totals contain and its trades do not name are counted at the order's price. A total
    /// heard after the trades were `asked` for is none of theirs.
    fn count_owed(&mut self, at: At, instrument: InstrumentId, asked: MonoNs) -> Result<(), Fault> {
        let unnamed = |o: &Order| o.new.instrument == instrument && o.heard <= asked;
        let mut index = self.ledger.orders.unsettled().len();
        while let Some(seq) = self.previous_unsettled(&mut index) {
            if self.ledger.orders.find(seq).is_some_and(unnamed) {
                self.ledger.count_unnamed(at, seq)?;
            }
        }
        Ok(())
    }
}
