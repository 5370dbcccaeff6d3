//! The life of one order: a pure state machine. Every pair of state and event is decided.
//!
//! Comes in: [`Event`]s, in whatever order the wire delivers them. Goes out: a [`Step`] that says what changed,
//! what to report and what to ask. What always holds: a finished order stays finished; `cum_qty` never falls and
//! counts every fill once; a refusal to believe is a query, never a guess.
//!
//! Columns are where the order stands, cells where it stands afterwards; `.` means that the event says nothing
//! new, `?` that a query follows, `!` that a cancel follows, `+` that the fill counts although the order was done.
//! "open" is `New`, or `PartiallyFilled` after a fill, or `PendingCancel` while a cancel is unanswered.
//!
//! | event | PendingNew | New | PartiallyFilled | PendingCancel | Unknown | Filled | Canceled | Rejected | Expired |
//! |---|---|---|---|---|---|---|---|---|---|
//! | Sent | same | . | . | . | . | . | . | . | . |
//! | AckNew | New | . | . | same, acknowledged | open | . | . | ! | . |
//! | Fill, some | PartiallyFilled | PartiallyFilled | same | same | open | + | + | + | + |
//! | Fill, last | Filled | Filled | Filled | Filled | Filled | + | + | + | + |
//! | Fill, known or not owed | . | . | . | . | . | . | . | . | . |
//! | CancelSent | PendingCancel | PendingCancel | PendingCancel | same | same | . | . | . | . |
//! | CancelAck | Canceled | Canceled | Canceled | Canceled | Canceled | . | . | . | . |
//! | CancelReject, unknown order | Unknown ? | Unknown ? | Unknown ? | Unknown ? | Unknown ? | . | . | . | . |
//! | CancelReject, other | same | same | same | PendingNew or open | same ? | . | . | . | . |
//! | Reject | Rejected | Unknown ? | Unknown ? | Rejected, or Unknown ? once acknowledged | Rejected, or same ? once acknowledged | . | . | . | . |
//! | Expire | Expired | Expired | Expired | Expired | Expired | . | . | . | . |
//! | Timeout | Unknown ? | . | . | Unknown ? | same ? | . | . | . | . |
//! | Query: open | New | . | . | same | open, ! if a cancel is unanswered | . | . | ! | . |
//! | Query: done | as the venue says | as it says | as it says | as it says | as it says | . | . | . | . |
//! | NotFound | Rejected | Canceled | Canceled | as acknowledged | as acknowledged | . | . | . | . |
//!
//! Cumulative quantities are remembered as the *venue's* ([`Lifecycle::owed`] is what it has beyond the fills we
//! counted): the missing fills are asked for with their prices and fees, not invented.

use crate::trading::domain::{ExecType, OrderStatus, Qty};

/// What can happen to an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Its bytes went to the socket.
    Sent,
    /// The venue accepted it.
    AckNew,
    /// It traded. The caller has removed fills whose trade id was seen before.
    Fill {
        /// By this fill.
        last: Qty,
        /// In total, where the message says it; a total we already have makes the fill known. A trade out of a
        /// query does not say it, and counts only if the order owes it: other messages told the total before.
        cum: Option<Qty>,
    },
    /// A cancel of it went to the socket.
    CancelSent,
    /// The venue cancelled it; the total traded by then.
    CancelAck(Qty),
    /// The venue did not cancel it.
    CancelReject {
        /// Because it knows no such open order.
        unknown: bool,
    },
    /// The venue refused it.
    Reject,
    /// It ended by the venue's rules; the total traded by then.
    Expire(Qty),
    /// An answer did not come in time, or the session it was to come on is gone.
    Timeout,
    /// A query shows it: the venue's status and total.
    Query(OrderStatus, Qty),
    /// A query proves that there is no such order. Only given when it can no longer arrive.
    NotFound,
}

/// What to ask the venue because of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ask {
    /// Nothing.
    #[default]
    Nothing,
    /// Where the order stands.
    Status,
    /// To cancel it: it lives although it should not.
    Cancel,
}

/// What an event changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// What to report; `None` when the event said nothing new.
    pub exec: Option<ExecType>,
    /// The quantity to count as traded now.
    pub filled: Qty,
    /// Whether that fill came after the order was done.
    pub late: bool,
    /// What to ask.
    pub ask: Ask,
}

impl Step {
    fn nothing() -> Self {
        Self::default()
    }

    fn report(exec: ExecType) -> Self {
        Self { exec: Some(exec), ..Self::default() }
    }

    fn asking(mut self, ask: Ask) -> Self {
        self.ask = ask;
        self
    }
}

/// Where an order stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifecycle {
    status: OrderStatus,
    qty: Qty,
    cum_qty: Qty,
    venue_cum: Qty,
    acknowledged: bool,
    cancelling: bool,
}

impl Lifecycle {
    /// An order over `qty` that is about to be sent.
    pub fn new(qty: Qty) -> Self {
        Self {
            status: OrderStatus::PendingNew,
            qty,
            cum_qty: Qty::ZERO,
            venue_cum: Qty::ZERO,
            acknowledged: false,
            cancelling: false,
        }
    }

    /// An order as an earlier generation left it; an open one is of unknown fate.
    pub fn restored(qty: Qty, cum_qty: Qty, status: OrderStatus) -> Self {
        let status = if status.is_terminal() { status } else { OrderStatus::Unknown };
        Self { status, cum_qty, venue_cum: cum_qty, ..Self::new(qty) }
    }

    /// Where it stands.
    pub fn status(&self) -> OrderStatus {
        self.status
    }

    /// The ordered quantity.
    pub fn qty(&self) -> Qty {
        self.qty
    }

    /// Traded so far, as far as we counted it.
    pub fn cum_qty(&self) -> Qty {
        self.cum_qty
    }

    /// Whether the venue ever said that it has the order.
    pub fn acknowledged(&self) -> bool {
        self.acknowledged
    }

    /// Whether a cancel is unanswered.
    pub fn cancelling(&self) -> bool {
        self.cancelling
    }

    /// Traded according to the venue, and not yet counted.
    pub fn owed(&self) -> Qty {
        self.venue_cum.minus(self.cum_qty)
    }

    /// What may still change our position: all that is not traded of an open order, what is owed of a done one.
    pub fn working(&self) -> Qty {
        if self.status.is_terminal() { self.owed() } else { self.qty.minus(self.cum_qty) }
    }

    /// Whether the order is done and all its fills are counted.
    pub fn is_settled(&self) -> bool {
        self.status.is_terminal() && self.owed().is_zero()
    }

    /// Notes a total heard of in passing, without believing that the order stands as that message says.
    pub fn hear_of(&mut self, cum: Qty) {
        self.venue_cum = self.venue_cum.max(cum.min(self.qty));
    }

    /// Counts what is owed without knowing its trades; the last resort when the venue does not name them.
    pub fn count_unnamed(&mut self) -> Step {
        self.on(Event::Fill { last: self.owed(), cum: None })
    }

    /// Takes one event.
    pub fn on(&mut self, event: Event) -> Step {
        match event {
            Event::Sent => Step::nothing(),
            Event::AckNew => self.on_ack(),
            Event::Fill { last, cum } => self.on_fill(last, cum),
            Event::CancelSent => self.on_cancel_sent(),
            Event::CancelAck(cum) => self.end(OrderStatus::Canceled, cum),
            Event::CancelReject { unknown } => self.on_cancel_reject(unknown),
            Event::Reject => self.on_reject(),
            Event::Expire(cum) => self.end(OrderStatus::Expired, cum),
            Event::Timeout => self.on_timeout(),
            Event::Query(status, cum) => self.on_query(status, cum),
            Event::NotFound => self.on_not_found(),
        }
    }

    /// Where an order that the venue has stands while it is not done.
    fn open_status(&self) -> OrderStatus {
        if self.cancelling {
            OrderStatus::PendingCancel
        } else if self.cum_qty.is_zero() {
            OrderStatus::New
        } else {
            OrderStatus::PartiallyFilled
        }
    }

    fn on_ack(&mut self) -> Step {
        if self.status.is_terminal() {
            // Believed never to have arrived, and yet it lives.
            let lives = self.status == OrderStatus::Rejected;
            return Step::nothing().asking(if lives { Ask::Cancel } else { Ask::Nothing });
        }
        let new = !self.acknowledged || self.status == OrderStatus::Unknown;
        self.acknowledged = true;
        self.status = self.open_status();
        if new { Step::report(ExecType::New) } else { Step::nothing() }
    }

    fn on_fill(&mut self, last: Qty, cum: Option<Qty>) -> Step {
        // A done order may still owe fills: only what it did not owe is late.
        let late = self.is_settled();
        if let Some(cum) = cum {
            self.hear_of(cum);
            if cum <= self.cum_qty {
                return Step::nothing();
            }
        } else if self.owed() < last {
            return Step::nothing();
        }
        let Some(total) = self.cum_qty.checked_add(last) else { return Step::nothing() };
        self.cum_qty = total;
        self.venue_cum = self.venue_cum.max(total);
        if !self.status.is_terminal() {
            self.acknowledged = true;
            let done = total >= self.qty;
            self.cancelling &= !done;
            self.status = if done { OrderStatus::Filled } else { self.open_status() };
        }
        Step { filled: last, late, ..Step::report(ExecType::Trade) }
    }

    fn on_cancel_sent(&mut self) -> Step {
        if self.status.is_terminal() {
            return Step::nothing();
        }
        let again = self.cancelling;
        self.cancelling = true;
        if self.status != OrderStatus::Unknown {
            self.status = OrderStatus::PendingCancel;
        }
        if again { Step::nothing() } else { Step::report(ExecType::PendingCancel) }
    }

    fn on_cancel_reject(&mut self, unknown: bool) -> Step {
        if self.status.is_terminal() {
            return Step::nothing();
        }
        self.cancelling = false;
        if unknown {
            return self.doubt();
        }
        let step = Step::report(ExecType::CancelRejected);
        if self.status == OrderStatus::Unknown {
            return step.asking(Ask::Status);
        }
        if self.status == OrderStatus::PendingCancel {
            let open = self.open_status();
            self.status = if self.acknowledged { open } else { OrderStatus::PendingNew };
        }
        step
    }

    fn on_reject(&mut self) -> Step {
        if self.status.is_terminal() {
            return Step::nothing();
        }
        if self.acknowledged || !self.venue_cum.is_zero() {
            // The venue refuses what it had accepted: ask.
            return self.doubt();
        }
        self.end_at(OrderStatus::Rejected, ExecType::Rejected)
    }

    fn on_timeout(&mut self) -> Step {
        match self.status {
            OrderStatus::PendingNew | OrderStatus::PendingCancel | OrderStatus::Unknown => {
                self.doubt()
            }
            _ => Step::nothing(),
        }
    }

    fn on_query(&mut self, status: OrderStatus, cum: Qty) -> Step {
        self.hear_of(cum);
        match status {
            OrderStatus::Filled => self.end_at(OrderStatus::Filled, ExecType::Trade),
            OrderStatus::Canceled => self.end_at(OrderStatus::Canceled, ExecType::Canceled),
            OrderStatus::Rejected => self.end_at(OrderStatus::Rejected, ExecType::Rejected),
            OrderStatus::Expired => self.end_at(OrderStatus::Expired, ExecType::Expired),
            OrderStatus::Unknown => Step::nothing(),
            _ => {
                let doubted = self.status == OrderStatus::Unknown;
                let step = self.on_ack();
                let again = doubted && self.cancelling;
                if again { step.asking(Ask::Cancel) } else { step }
            }
        }
    }

    fn on_not_found(&mut self) -> Step {
        if self.acknowledged || !self.cum_qty.is_zero() {
            self.end_at(OrderStatus::Canceled, ExecType::Canceled)
        } else {
            self.end_at(OrderStatus::Rejected, ExecType::Rejected)
        }
    }

    fn end(&mut self, status: OrderStatus, cum: Qty) -> Step {
        self.hear_of(cum);
        let exec = match status {
            OrderStatus::Canceled => ExecType::Canceled,
            _ => ExecType::Expired,
        };
        self.end_at(status, exec)
    }

    fn end_at(&mut self, status: OrderStatus, exec: ExecType) -> Step {
        if self.status.is_terminal() {
            return Step::nothing();
        }
        self.status = status;
        self.cancelling = false;
        // A fill is reported with its own price and fee; that the order is filled says nothing more until then.
        if exec == ExecType::Trade { Step::nothing() } else { Step::report(exec) }
    }

    fn doubt(&mut self) -> Step {
        let again = self.status == OrderStatus::Unknown;
        self.status = OrderStatus::Unknown;
        let step = if again { Step::nothing() } else { Step::report(ExecType::Unknown) };
        step.asking(Ask::Status)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QTY: Qty = Qty::from_units(10);

    fn qty(units: i64) -> Qty {
        Qty::from_units(units)
    }

    /// An order brought to `status` by a plausible history.
    fn at(status: OrderStatus) -> Lifecycle {
        use OrderStatus as S;
        let some = Event::Fill { last: qty(2), cum: Some(qty(2)) };
        let rest = Event::Fill { last: qty(10), cum: Some(qty(10)) };
        let history: &[Event] = match status {
            S::PendingNew => &[Event::Sent],
            S::New => &[Event::AckNew],
            S::PartiallyFilled => &[Event::AckNew, some],
            S::PendingCancel => &[Event::AckNew, Event::CancelSent],
            S::Unknown => &[Event::Sent, Event::Timeout],
            S::Filled => &[Event::AckNew, rest],
            S::Canceled => &[Event::AckNew, Event::CancelAck(Qty::ZERO)],
            S::Rejected => &[Event::Reject],
            S::Expired => &[Event::AckNew, Event::Expire(Qty::ZERO)],
        };
        let mut life = Lifecycle::new(QTY);
        for event in history {
            life.on(*event);
        }
        assert_eq!(life.status(), status);
        life
    }

    /// The state's name in the tables below.
    fn letter(status: OrderStatus) -> &'static str {
        use OrderStatus as S;
        match status {
            S::PendingNew => "P",
            S::New => "N",
            S::PartiallyFilled => "F",
            S::PendingCancel => "C",
            S::Unknown => "U",
            S::Filled => "filled",
            S::Canceled => "canceled",
            S::Rejected => "rejected",
            S::Expired => "expired",
        }
    }

    const ALL: [OrderStatus; 9] = [
        OrderStatus::PendingNew,
        OrderStatus::New,
        OrderStatus::PartiallyFilled,
        OrderStatus::PendingCancel,
        OrderStatus::Unknown,
        OrderStatus::Filled,
        OrderStatus::Canceled,
        OrderStatus::Rejected,
        OrderStatus::Expired,
    ];

    /// One row of the module's table. A cell is the status afterwards, `.` in front when nothing is reported,
    /// `?` or `!` behind for what is asked.
    #[track_caller]
    fn check(event: Event, cells: [&str; 9]) {
        for (status, cell) in ALL.into_iter().zip(cells) {
            let mut life = at(status);
            let step = life.on(event);
            let quiet = if step.exec.is_none() { "." } else { "" };
            let ask = match step.ask {
                Ask::Nothing => "",
                Ask::Status => "?",
                Ask::Cancel => "!",
            };
            let found = format!("{quiet}{}{ask}", letter(life.status()));
            assert_eq!(found, cell, "{event:?} at {status:?}");
            assert!(!status.is_terminal() || life.status() == status, "a done order moved");
        }
    }

    /// The four cells of done orders that an event says nothing new to.
    macro_rules! row {
        ($event:expr, $($cell:expr),*) => {
            check($event, [$($cell),*, ".filled", ".canceled", ".rejected", ".expired"])
        };
    }

    #[test]
    fn every_pair_is_decided() {
        let cum = |units| Some(qty(units));
        row!(Event::Sent, ".P", ".N", ".F", ".C", ".U");
        check(
            Event::AckNew,
            ["N", ".N", ".F", ".C", "N", ".filled", ".canceled", ".rejected!", ".expired"],
        );
        check(
            Event::Fill { last: qty(3), cum: cum(5) },
            ["F", "F", "F", "C", "F", ".filled", "canceled", "rejected", "expired"],
        );
        check(
            Event::Fill { last: qty(10), cum: cum(10) },
            [
                "filled", "filled", "filled", "filled", "filled", ".filled", "canceled",
                "rejected", "expired",
            ],
        );
        row!(Event::Fill { last: qty(3), cum: cum(0) }, ".P", ".N", ".F", ".C", ".U");
        row!(Event::Fill { last: qty(3), cum: None }, ".P", ".N", ".F", ".C", ".U");
        row!(Event::CancelSent, "C", "C", "C", ".C", "U");
        row!(Event::CancelAck(qty(0)), "canceled", "canceled", "canceled", "canceled", "canceled");
        row!(Event::CancelReject { unknown: true }, "U?", "U?", "U?", "U?", ".U?");
        row!(Event::CancelReject { unknown: false }, "P", "N", "F", "N", "U?");
        row!(Event::Reject, "rejected", "U?", "U?", "U?", "rejected");
        row!(Event::Expire(qty(0)), "expired", "expired", "expired", "expired", "expired");
        row!(Event::Timeout, "U?", ".N", ".F", "U?", ".U?");
        check(
            Event::Query(OrderStatus::New, qty(0)),
            ["N", ".N", ".F", ".C", "N", ".filled", ".canceled", ".rejected!", ".expired"],
        );
        row!(Event::Query(OrderStatus::Unknown, qty(0)), ".P", ".N", ".F", ".C", ".U");
        row!(
            Event::Query(OrderStatus::Canceled, qty(0)),
            "canceled",
            "canceled",
            "canceled",
            "canceled",
            "canceled"
        );
        row!(
            Event::Query(OrderStatus::Filled, qty(10)),
            ".filled",
            ".filled",
            ".filled",
            ".filled",
            ".filled"
        );
        row!(
            Event::Query(OrderStatus::Expired, qty(0)),
            "expired",
            "expired",
            "expired",
            "expired",
            "expired"
        );
        row!(
            Event::Query(OrderStatus::Rejected, qty(0)),
            "rejected",
            "rejected",
            "rejected",
            "rejected",
            "rejected"
        );
        row!(Event::NotFound, "rejected", "canceled", "canceled", "canceled", "rejected");
    }

    #[test]
    fn a_cancel_before_the_ack_is_remembered() {
        let mut life = at(OrderStatus::PendingNew);
        life.on(Event::CancelSent);
        assert_eq!(life.on(Event::AckNew).exec, Some(ExecType::New));
        assert_eq!(life.status(), OrderStatus::PendingCancel);
        life.on(Event::CancelReject { unknown: false });
        assert_eq!(life.status(), OrderStatus::New);
    }

    #[test]
    fn a_rejected_place_ends_a_cancel_under_way() {
        let mut life = at(OrderStatus::PendingNew);
        life.on(Event::CancelSent);
        assert_eq!(life.on(Event::Reject).exec, Some(ExecType::Rejected));
    }

    #[test]
    fn a_doubted_cancel_is_repeated_once_the_order_is_found_open() {
        let mut life = at(OrderStatus::PendingCancel);
        life.on(Event::Timeout);
        let step = life.on(Event::Query(OrderStatus::New, Qty::ZERO));
        assert_eq!((life.status(), step.ask), (OrderStatus::PendingCancel, Ask::Cancel));
    }

    #[test]
    fn fills_owed_by_a_done_order_are_not_late() {
        let mut life = at(OrderStatus::New);
        life.on(Event::CancelAck(qty(4)));
        assert_eq!((life.owed(), life.working(), life.is_settled()), (qty(4), qty(4), false));
        let step = life.on(Event::Fill { last: qty(4), cum: Some(qty(4)) });
        assert_eq!((step.filled, step.late), (qty(4), false));
        assert!(life.is_settled());
        assert!(life.on(Event::Fill { last: qty(1), cum: Some(qty(5)) }).late);
    }

    #[test]
    fn a_fill_counted_without_its_name_is_not_counted_again_with_it() {
        let mut life = at(OrderStatus::New);
        life.hear_of(qty(4));
        assert_eq!(life.count_unnamed().filled, qty(4));
        assert_eq!(life.on(Event::Fill { last: qty(4), cum: None }).filled, Qty::ZERO);
        life.hear_of(qty(5));
        assert_eq!(life.on(Event::Fill { last: qty(1), cum: None }).filled, qty(1));
        assert_eq!(life.cum_qty(), qty(5));
    }

    fn event() -> impl Strategy<Value = Event> {
        let q = || (0_i64..=10).prop_map(Qty::from_units);
        prop_oneof![
            Just(Event::Sent),
            Just(Event::AckNew),
            (1_i64..4).prop_map(|last| Event::Fill { last: qty(last), cum: None }),
            (1_i64..4, q()).prop_map(|(last, cum)| Event::Fill { last: qty(last), cum: Some(cum) }),
            Just(Event::CancelSent),
            q().prop_map(Event::CancelAck),
            any::<bool>().prop_map(|unknown| Event::CancelReject { unknown }),
            Just(Event::Reject),
            q().prop_map(Event::Expire),
            Just(Event::Timeout),
            (prop::sample::select(&ALL[..]), q()).prop_map(|(s, c)| Event::Query(s, c)),
            Just(Event::NotFound),
        ]
    }

    proptest! {
        #[test]
        fn any_order_of_events_keeps_the_laws(events in prop::collection::vec(event(), 0..40)) {
            let mut life = Lifecycle::new(QTY);
            let (mut counted, mut done) = (0, None);
            for event in events {
                let step = life.on(event);
                counted += step.filled.units();
                prop_assert_eq!(life.cum_qty().units(), counted);
                prop_assert!(done.is_none_or(|s| s == life.status()), "a done order moved");
                if life.status().is_terminal() {
                    done = Some(life.status());
                    prop_assert!(!life.cancelling());
                }
                prop_assert!(step.filled.is_zero() || step.exec == Some(ExecType::Trade));
            }
        }
    }
}
