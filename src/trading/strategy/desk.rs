//! What a strategy may do and see: its desk.
//!
//! Comes in: wishes of the strategy, execution reports. Goes out: order intents. What always holds: every order
//! placed is on the desk until a report says that it is done; nothing is placed once the drain has begun; nothing
//! is allocated after `new`.

use crate::clock::{MonoNs, UtcNs};
use crate::runtime::mailbox::{Outbox, RefusedWhy};
use crate::trading::domain::{
    CancelOrder, ExecType, ExecutionReport, Instrument, InstrumentId, Instruments, IntentBody,
    NewOrder, OrderIntent, OrderRef, OrderStatus, Qty, Side, SignedQty,
};

/// Most orders a strategy may have open; more is a strategy that has lost control.
pub const OWN_ORDERS_MAX: usize = 256;

/// Why a wish was not taken. Nothing was sent; try again with the next book.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Busy {
    /// The order sender has as many intents waiting as it may.
    Full,
    /// As many orders are open as a strategy may have.
    TooManyOrders,
    /// The engine drains.
    Draining,
}

/// Where a strategy learns what is held: the order sender's count, which outlives both.
pub type Positions = Box<dyn Fn(InstrumentId) -> SignedQty + Send>;

/// An order of the strategy that is not done.
#[derive(Clone, Copy, Debug)]
pub struct OwnOrder {
    /// Its name.
    pub order: OrderRef,
    /// As it was placed.
    pub new: NewOrder,
    /// Where it stands.
    pub status: OrderStatus,
    /// Traded so far.
    pub cum_qty: Qty,
    /// Whether its cancellation was asked for and not refused.
    pub cancelling: bool,
    /// When it was placed.
    pub placed: MonoNs,
    /// Whether any report about it has come.
    pub heard_of: bool,
}

impl OwnOrder {
    /// What has not traded yet.
    pub fn leaves(&self) -> Qty {
        self.new.qty.minus(self.cum_qty)
    }
}

/// What the desk keeps between two calls of the strategy.
pub(super) struct Drawer {
    pub(super) intents: Outbox<OrderIntent>,
    pub(super) instruments: Instruments,
    pub(super) positions: Positions,
    pub(super) orders: Vec<OwnOrder>,
    pub(super) strategy: u8,
    pub(super) generation: u16,
    pub(super) next_seq: u64,
    pub(super) draining: bool,
    /// Intents that were taken.
    pub(super) offered: u64,
    /// Intents that came back.
    pub(super) busy: u64,
}

impl Drawer {
    pub(super) fn new(
        strategy: u8,
        intents: Outbox<OrderIntent>,
        instruments: Instruments,
        positions: Positions,
    ) -> Self {
        Self {
            intents,
            instruments,
            positions,
            orders: Vec::with_capacity(OWN_ORDERS_MAX),
            strategy,
            generation: 0,
            next_seq: 1,
            draining: false,
            offered: 0,
            busy: 0,
        }
    }

    /// Brings the desk up to date with a report.
    pub(super) fn note(&mut self, report: &ExecutionReport) {
        let at = self.orders.iter().position(|own| own.order == report.order);
        // Also when a cancel was refused because the order is done: whatever it did was told before.
        if report.status.is_terminal() {
            if let Some(at) = at {
                self.orders.swap_remove(at);
            }
            return;
        }
        let Some(own) = at.and_then(|at| self.orders.get_mut(at)) else { return };
        own.status = report.status;
        own.cum_qty = own.cum_qty.max(report.cum_qty);
        own.heard_of = true;
        own.cancelling &= report.exec != ExecType::CancelRejected;
    }
}

/// The desk, as it is lent to a strategy for one call.
pub struct Desk<'a> {
    drawer: &'a mut Drawer,
    now: MonoNs,
    utc: UtcNs,
    recv: MonoNs,
}

impl<'a> Desk<'a> {
    /// `recv` is when the update that is being answered was read.
    pub(super) fn new(drawer: &'a mut Drawer, now: MonoNs, utc: UtcNs, recv: MonoNs) -> Self {
        Self { drawer, now, utc, recv }
    }

    /// The monotonic time of this turn.
    pub fn now(&self) -> MonoNs {
        self.now
    }

    /// The time of day of this turn.
    pub fn utc(&self) -> UtcNs {
        self.utc
    }

    /// An instrument, with the venue's rules once they are known.
    pub fn instrument(&self, id: InstrumentId) -> Option<&Instrument> {
        self.drawer.instruments.get(id.index())
    }

    /// What the engine holds of an instrument: the change of the account since the engine began to count.
    pub fn position(&self, id: InstrumentId) -> SignedQty {
        (self.drawer.positions)(id)
    }

    /// Our orders in an instrument that are not done, in no order.
    pub fn orders(&self, id: InstrumentId) -> impl Iterator<Item = &OwnOrder> {
        self.drawer.orders.iter().filter(move |own| own.new.instrument == id)
    }

    /// One order of ours; `None` once it is done.
    pub fn order(&self, order: OrderRef) -> Option<&OwnOrder> {
        self.drawer.orders.iter().find(|own| own.order == order)
    }

    /// What our open orders on one side may still trade.
    pub fn working(&self, id: InstrumentId, side: Side) -> Qty {
        let units = self.orders(id).filter(|own| own.new.side == side);
        Qty::from_units(units.fold(0, |sum, own| sum + own.leaves().units()))
    }

    /// Asks for an order. What becomes of it comes as reports under the name returned.
    ///
    /// # Errors
    /// [`Busy`]; nothing was sent.
    pub fn place(&mut self, new: NewOrder) -> Result<OrderRef, Busy> {
        if self.drawer.draining {
            return Err(Busy::Draining);
        }
        if self.drawer.orders.len() == OWN_ORDERS_MAX {
            return Err(Busy::TooManyOrders);
        }
        let order = self.offer(IntentBody::Place(new))?;
        self.drawer.orders.push(OwnOrder {
            order,
            new,
            status: OrderStatus::PendingNew,
            cum_qty: Qty::ZERO,
            cancelling: false,
            placed: self.now,
            heard_of: false,
        });
        Ok(order)
    }

    /// Asks for the cancellation of an order of ours; asking twice, or for one that is done, does nothing.
    ///
    /// # Errors
    /// [`Busy`]; nothing was sent.
    pub fn cancel(&mut self, order: OrderRef) -> Result<(), Busy> {
        let at = self.drawer.orders.iter().position(|own| own.order == order && !own.cancelling);
        let Some(at) = at else { return Ok(()) };
        let instrument = self.drawer.orders[at].new.instrument;
        self.offer(IntentBody::Cancel(CancelOrder { instrument, order }))?;
        self.drawer.orders[at].cancelling = true;
        Ok(())
    }

    /// Asks for the cancellation of all our orders in an instrument.
    ///
    /// # Errors
    /// [`Busy`]; nothing was sent.
    pub fn cancel_all(&mut self, id: InstrumentId) -> Result<(), Busy> {
        self.offer(IntentBody::CancelAll(id))?;
        let ours = self.drawer.orders.iter_mut().filter(|own| own.new.instrument == id);
        ours.for_each(|own| own.cancelling = true);
        Ok(())
    }

    fn offer(&mut self, body: IntentBody) -> Result<OrderRef, Busy> {
        let drawer = &mut *self.drawer;
        let order = OrderRef::new(drawer.strategy, drawer.generation, drawer.next_seq);
        let intent = OrderIntent { order, body, recv: self.recv, decided: self.now };
        match drawer.intents.offer(intent) {
            Ok(()) => {
                drawer.next_seq += 1;
                drawer.offered += 1;
                Ok(order)
            }
            Err(refused) => {
                drawer.busy += 1;
                Err(match refused.why {
                    RefusedWhy::Full => Busy::Full,
                    RefusedWhy::Closed => Busy::Draining,
                })
            }
        }
    }
}
