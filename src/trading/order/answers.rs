//! What the venue says, turned into events of orders.
//!
//! Comes in: decoded messages of the session. Goes out: events to the ledger, further questions to the venue. What
//! always holds: an error whose effect is not certain makes an order's fate unknown, never rejected.

use crate::clock::{MonoNs, UtcNs};
use crate::runtime::actor::{Fault, Work};
use crate::trading::domain::{ExecType, InstrumentId, OrderStatus, Reason};
use crate::trading::limits::TURN_MESSAGES_MAX;
use crate::trading::telemetry::{OpenOrderView, SessionState};
use crate::trading::venue::{
    Answer, Balance, RequestId, RequestKind, SessionMessage, VenueError, VenueOrder, VenueReport,
};

use super::hold::At;
use super::ledger::Facts;
use super::lifecycle::{Ask, Event};
use super::open_orders::Order;
use super::sender::OrderSender;
use super::session::{Asked, Heard, Subject};
use super::view::open_view;

/// How long after the venue's last moment to accept an order its absence is believed.
const ABSENCE_MARGIN: std::time::Duration = std::time::Duration::from_secs(1);

/// How long we send no orders after a rate limit that names no end.
const QUIET: std::time::Duration = std::time::Duration::from_secs(10);

/// Most assets whose balances are kept.
const BALANCES_MAX: usize = 1_024;

impl OrderSender {
    /// Takes what the venue said, and reconnects when it is time to.
    pub(super) fn hear(&mut self, at: At) -> Result<Work, Fault> {
        if let Err(error) = self.session.connect(at.now) {
            self.lose_session(at, &error)?;
        }
        for heard in 0..TURN_MESSAGES_MAX {
            match self.session.hear(at.now) {
                Ok(None) => return Ok(Work::when(heard > 0)),
                Ok(Some(Heard::Opened)) => self.on_opened(at),
                Ok(Some(Heard::Message(message))) => self.on_message(at, message)?,
                Err(error) => {
                    self.lose_session(at, &error)?;
                    return Ok(Work::Busy);
                }
            }
        }
        Ok(Work::Busy)
    }

    fn on_opened(&mut self, at: At) {
        self.session.enter(SessionState::LoggingOn, at.now);
        if self.session.dialect.needs_logon() {
            let _ = self.session.ask(at, RequestKind::Logon, Subject::Session, |d, out, seq| {
                d.logon(out, seq, at.utc);
            });
        } else {
            self.subscribe(at);
        }
    }

    /// Account events flow before anything is compared, so that nothing falls between the two.
    fn subscribe(&mut self, at: At) {
        let _ = self.session.ask(at, RequestKind::Subscribe, Subject::Session, |d, out, seq| {
            d.subscribe(out, seq, at.utc);
        });
    }

    fn on_message(&mut self, at: At, message: SessionMessage) -> Result<(), Fault> {
        match message {
            SessionMessage::Answer { id, result } => self.on_answer(at, id, result),
            SessionMessage::Report(report) => self.on_report(at, &report),
            SessionMessage::Balances(changed) => {
                self.take_balances(&changed);
                Ok(())
            }
            SessionMessage::StreamEnded => self.lose_session(at, &"the account stream ended"),
            SessionMessage::ServerShutdown => self.lose_session(at, &"the venue shuts down"),
            SessionMessage::Ignored => Ok(()),
        }
    }

    fn on_answer(
        &mut self,
        at: At,
        id: RequestId,
        result: Result<Answer, VenueError>,
    ) -> Result<(), Fault> {
        let Some(asked) = self.session.asked(id) else { return Ok(()) };
        match result {
            Ok(answer) => self.on_yes(at, asked, answer),
            Err(error) => {
                self.heed_rate_limit(at, &error);
                self.on_no(at, asked, id.kind, &error)
            }
        }
    }

    fn on_yes(&mut self, at: At, asked: Asked, answer: Answer) -> Result<(), Fault> {
        match (answer, asked.subject) {
            (Answer::LoggedOn, _) => self.subscribe(at),
            (Answer::Subscribed, _) => self.begin_reconcile(at),
            (Answer::Placed(found), Subject::Order(seq)) => {
                self.ledger.orders.name(seq, found.venue_order_id);
                self.ledger.hear_of(at, seq, found.cum_qty);
                return self.event(at, seq, Event::AckNew, Facts::default());
            }
            (Answer::Canceled(found), Subject::Order(seq)) => {
                return self.on_cancelled(at, seq, &found);
            }
            (Answer::Canceled(_), Subject::Stray(id)) => self.reconcile.gone(&id),
            (Answer::Order(found), Subject::Order(seq)) => {
                return self.on_found(at, seq, &found);
            }
            (Answer::OpenOrders(list), Subject::Instrument(instrument)) => {
                return self.on_open_orders(at, instrument, &list);
            }
            (Answer::Trades(list), Subject::Trades(instrument, first_time)) => {
                return self.on_trades(at, (asked.at, first_time), instrument, &list);
            }
            (Answer::Account(balances), _) => {
                self.balances.clear();
                self.take_balances(&balances);
                self.on_listed(at)?;
            }
            // An answer to another question than ours: the dialect pairs them, so there is none.
            _ => {}
        }
        Ok(())
    }

    /// The venue cancelled an order. Where it says that more traded than we know, its fills are on their way: the
    /// order is done when they are here, or when nothing more came in time.
    fn on_cancelled(&mut self, at: At, seq: u64, found: &VenueOrder) -> Result<(), Fault> {
        let known = self.ledger.orders.find(seq).map(|o| o.life.cum_qty()).unwrap_or_default();
        if found.cum_qty > known {
            self.ledger.hear_of(at, seq, found.cum_qty);
            return Ok(());
        }
        self.event(at, seq, Event::CancelAck(found.cum_qty), Facts::default())
    }

    /// A query or a list shows an order.
    pub(super) fn on_found(&mut self, at: At, seq: u64, found: &VenueOrder) -> Result<(), Fault> {
        self.ledger.orders.name(seq, found.venue_order_id);
        self.event(at, seq, Event::Query(found.status, found.cum_qty), Facts::default())?;
        // One that has to go, and that nobody has asked to go yet, is asked at once.
        let goes = |o: &&Order| {
            let life = &o.life;
            let open = !life.status().is_terminal() && life.status() != OrderStatus::Unknown;
            o.doomed && open && !life.cancelling()
        };
        if self.ledger.orders.find(seq).filter(goes).is_some() {
            return self.send_cancel(at, seq);
        }
        Ok(())
    }

    fn on_no(
        &mut self,
        at: At,
        asked: Asked,
        kind: RequestKind,
        error: &VenueError,
    ) -> Result<(), Fault> {
        let unknown = self.session.dialect.is_unknown_order(error);
        let facts = Facts::venue(error.code);
        match (kind, asked.subject) {
            (RequestKind::Place, Subject::Order(seq)) => {
                let event = if is_uncertain(error) { Event::Timeout } else { Event::Reject };
                self.event(at, seq, event, facts)
            }
            (RequestKind::Cancel, Subject::Order(seq)) => {
                if is_uncertain(error) {
                    return self.event(at, seq, Event::Timeout, facts);
                }
                let refused = u32::from(!unknown && !is_rate_limit(error));
                self.ledger.orders.edit(seq, |order| order.cancel_refusals += refused);
                self.event(at, seq, Event::CancelReject { unknown }, facts)
            }
            (RequestKind::Cancel, Subject::Stray(id)) if unknown => {
                self.reconcile.gone(&id);
                Ok(())
            }
            (RequestKind::Cancel, Subject::Stray(id)) => {
                if !is_uncertain(error) && !is_rate_limit(error) {
                    self.reconcile.kept(&id);
                }
                Ok(())
            }
            (RequestKind::OrderStatus, Subject::Order(seq)) if unknown => {
                self.on_absent(at, seq, asked.at)
            }
            // Asked again when it is due.
            (RequestKind::Cancel | RequestKind::OrderStatus, _) => Ok(()),
            _ if self.session.state() == SessionState::Live => {
                self.retry_verification(at);
                Ok(())
            }
            _ => {
                let why = format!("{:?} refused: {} {}", kind, error.code, error.message);
                self.lose_session(at, &why)
            }
        }
    }

    /// The venue does not know an order. That is believed only when it could not arrive any more when we asked.
    fn on_absent(&mut self, at: At, seq: u64, asked: MonoNs) -> Result<(), Fault> {
        let Some(order) = self.ledger.orders.find(seq) else { return Ok(()) };
        let window = self.session.dialect.recv_window() + ABSENCE_MARGIN;
        if asked < order.sent.after(window) {
            return Ok(());
        }
        let facts = Facts { reason: Some(Reason::NeverArrived), ..Facts::default() };
        self.event(at, seq, Event::NotFound, facts)
    }

    fn heed_rate_limit(&mut self, at: At, error: &VenueError) {
        if !is_rate_limit(error) {
            return;
        }
        let until = match error.retry_after {
            Some(utc) => at.now.after(until(at.utc, utc)),
            None => at.now.after(QUIET),
        };
        self.quiet_until = self.quiet_until.max(until);
        self.ledger.vault.keep_quiet_until(self.quiet_until);
    }

    /// Moves an order and asks what the event makes us ask.
    pub(super) fn event(
        &mut self,
        at: At,
        seq: u64,
        event: Event,
        facts: Facts,
    ) -> Result<(), Fault> {
        let ask = self.ledger.step(at, seq, event, facts)?;
        self.act(at, seq, ask)
    }

    pub(super) fn act(&mut self, at: At, seq: u64, ask: Ask) -> Result<(), Fault> {
        match ask {
            Ask::Nothing => Ok(()),
            Ask::Status => {
                self.ask_status(at, seq);
                Ok(())
            }
            Ask::Cancel => self.cancel_alive(at, seq),
        }
    }

    /// Asks for the cancellation of an order that lives although it should not. One that the table calls done is asked
    /// to go until it is gone like one that the table does not have: its own life says nothing any more.
    fn cancel_alive(&mut self, at: At, seq: u64) -> Result<(), Fault> {
        let done = |o: &&Order| o.life.status().is_terminal();
        let Some(order) = self.ledger.orders.find(seq).filter(done) else {
            return self.send_cancel(at, seq);
        };
        self.reconcile.add_stray(OpenOrderView { status: OrderStatus::New, ..open_view(order) });
        Ok(())
    }

    fn on_report(&mut self, at: At, report: &VenueReport) -> Result<(), Fault> {
        let Some(instrument) = self.instrument_of(&report.symbol) else { return Ok(()) };
        let id = &report.client_order_id;
        let own = self.ledger.ids.of_this_boot(id);
        let by_id = own.and_then(|own| self.ledger.orders.find(own.seq));
        let by_id = by_id.filter(|order| order.client_order_id == *id);
        let known =
            by_id.or_else(|| self.ledger.orders.by_venue_id(instrument, report.venue_order_id));
        let seq = known.map(|order| order.seq);
        if let Some(seq) = seq {
            self.ledger.orders.name(seq, report.venue_order_id);
        }
        if report.status.is_terminal() {
            self.reconcile.gone(id);
        }
        if report.exec == ExecType::Trade {
            let ask = self.ledger.on_fill_report(at, instrument, seq, report)?;
            return seq.map_or(Ok(()), |seq| self.act(at, seq, ask));
        }
        let event = match report.exec {
            ExecType::New => Event::AckNew,
            ExecType::Canceled => Event::CancelAck(report.cum_qty),
            ExecType::Rejected => Event::Reject,
            ExecType::Expired => Event::Expire(report.cum_qty),
            _ => return Ok(()),
        };
        match seq {
            Some(seq) => self.event(at, seq, event, Facts::of(report)),
            None => {
                if report.exec == ExecType::New && self.ledger.ids.parse(id).is_some() {
                    self.reconcile.add_stray(OpenOrderView {
                        instrument,
                        client_order_id: *id,
                        status: report.status,
                        side: report.side,
                        price: report.price,
                        qty: report.qty,
                        cum_qty: report.cum_qty,
                        sent: at.now,
                    });
                }
                Ok(())
            }
        }
    }

    /// The instrument of ours that the venue spells so.
    pub(super) fn instrument_of(&self, symbol: &str) -> Option<InstrumentId> {
        let ours = self.settings.limits.iter().map(|(id, _)| *id);
        let spells = |id: &InstrumentId| {
            self.ledger.instrument(*id).is_some_and(|it| it.symbol.as_str() == symbol)
        };
        ours.into_iter().find(spells)
    }

    fn take_balances(&mut self, changed: &[Balance]) {
        for balance in changed {
            let known = self.balances.iter().position(|b| b.asset == balance.asset);
            match known {
                Some(at) => self.balances[at] = *balance,
                None if self.balances.len() < BALANCES_MAX => self.balances.push(*balance),
                None => {}
            }
        }
    }
}

/// Whether the request may have had its effect although it was refused: the venue's own failures and timeouts.
fn is_uncertain(error: &VenueError) -> bool {
    const UNEXPECTED_RESPONSE: i32 = -1006;
    const TIMEOUT: i32 = -1007;
    error.status >= 500 || matches!(error.code, UNEXPECTED_RESPONSE | TIMEOUT)
}

/// Whether the request was refused because there were too many, whatever it said.
fn is_rate_limit(error: &VenueError) -> bool {
    const TOO_MANY_REQUESTS: i32 = -1003;
    const TOO_MANY_ORDERS: i32 = -1015;
    matches!(error.status, 418 | 429) || matches!(error.code, TOO_MANY_REQUESTS | TOO_MANY_ORDERS)
}

/// From `now` until `then`, both the time of day; zero when it is past.
fn until(now: UtcNs, then: UtcNs) -> std::time::Duration {
    let ns = then.as_nanos().saturating_sub(now.as_nanos());
    std::time::Duration::from_nanos(u64::try_from(ns).unwrap_or(0))
}
