//! The table of orders: those that work, and those that finished a while ago so that late reports find them.
//!
//! Comes in: orders as they are minted. Goes out: orders by counter, by the strategy's name, by the venue's key.
//! What always holds: at most [`OPEN_ORDERS_MAX`] unsettled orders; nothing is allocated after `new`; what may
//! still be bought and sold is the sum over the unsettled orders, kept as they change.
//!
//! An order's place is its counter modulo the number of places. Minting skips counters whose place is taken by
//! an unsettled order, so a place is only ever reused after its order is settled, and the finished ones stay until
//! as many newer orders were minted. Two side tables with linear probing find places by other keys.

use crate::clock::MonoNs;
use crate::trading::domain::{ClientOrderId, InstrumentId, NewOrder, OrderRef, Qty, Side};
use crate::trading::limits::{CANCEL_REFUSALS_MAX, OPEN_ORDERS_MAX};
use crate::trading::risk::gate::Approved;

use super::lifecycle::{Lifecycle, Step};

/// Places: as many finished orders are remembered as can be open.
pub const PLACES: usize = 2 * OPEN_ORDERS_MAX;

/// One order of ours.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    /// The strategy's name for it.
    pub order: OrderRef,
    /// The counter of its client order id.
    pub seq: u64,
    /// The sender's generation that minted it.
    pub generation: u32,
    /// Our key at the venue.
    pub client_order_id: ClientOrderId,
    /// The venue's key; 0 before it is known.
    pub venue_order_id: u64,
    /// The order as decided.
    pub new: NewOrder,
    /// The gate's verdict, until it is sent.
    pub approved: Option<Approved<NewOrder>>,
    /// Where it stands.
    pub life: Lifecycle,
    /// When the update that it answers was read.
    pub recv: MonoNs,
    /// When its bytes went to the socket; `NEVER` while the journal has not written it.
    pub sent: MonoNs,
    /// When to look after it if nothing was heard; `NEVER` for no need.
    pub check_at: MonoNs,
    /// Whether it has to go: cancelled, again and again until that is confirmed.
    pub doomed: bool,
    /// How often the venue refused to cancel it.
    pub cancel_refusals: u32,
    /// When the venue last told of more traded than we had counted.
    pub heard: MonoNs,
    /// Counted without the names of the trades, which may still be told.
    pub unnamed: Qty,
}

impl Order {
    /// Whether its bytes were handed to a socket.
    pub fn was_sent(&self) -> bool {
        self.sent != MonoNs::NEVER
    }

    /// Whether the venue refuses to cancel it for good, as it seems.
    pub fn is_stuck(&self) -> bool {
        self.cancel_refusals >= CANCEL_REFUSALS_MAX && !self.life.status().is_terminal()
    }
}

/// What may still be bought and sold of one instrument by orders that are not settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Working {
    /// By buy orders.
    pub buy: i64,
    /// By sell orders.
    pub sell: i64,
}

impl Working {
    /// As quantities.
    pub fn quantities(self) -> (Qty, Qty) {
        (Qty::from_units(self.buy), Qty::from_units(self.sell))
    }

    fn side(&mut self, side: Side) -> &mut i64 {
        if side == Side::Buy { &mut self.buy } else { &mut self.sell }
    }
}

/// The table.
#[derive(Debug)]
pub struct OpenOrders {
    places: Box<[Option<Order>]>,
    /// Counters of the unsettled orders, in no order.
    unsettled: Vec<u64>,
    working: Vec<Working>,
    by_ref: Index,
    by_venue: Index,
}

impl OpenOrders {
    /// An empty table for so many instruments of the engine.
    pub fn new(instruments: usize) -> Self {
        Self {
            places: vec![None; PLACES].into_boxed_slice(),
            unsettled: Vec::with_capacity(OPEN_ORDERS_MAX),
            working: vec![Working::default(); instruments],
            by_ref: Index::new(),
            by_venue: Index::new(),
        }
    }

    /// Whether one more order fits.
    pub fn has_room(&self) -> bool {
        self.unsettled.len() < OPEN_ORDERS_MAX
    }

    /// The first counter from `seq` on whose place is free. There is one while the table has room.
    pub fn free_seq(&self, seq: u64) -> u64 {
        let taken = |seq: &u64| self.places[place(*seq)].is_some_and(|o| !o.life.is_settled());
        (seq..seq + PLACES as u64).find(|seq| !taken(seq)).unwrap_or(seq)
    }

    /// Puts an order in its place, forgetting the finished one that had it. False when there is no room.
    pub fn insert(&mut self, order: Order) -> bool {
        let at = place(order.seq);
        if self.places[at].is_some_and(|old| !old.life.is_settled()) || !self.has_room() {
            return false;
        }
        if let Some(old) = self.places[at].take() {
            self.by_ref.remove(old.order.0, old.seq);
            self.by_venue.remove(venue_key(old.new.instrument, old.venue_order_id), old.seq);
        }
        self.by_ref.insert(order.order.0, order.seq);
        if order.venue_order_id != 0 {
            let key = venue_key(order.new.instrument, order.venue_order_id);
            self.by_venue.insert(key, order.seq);
        }
        if !order.life.is_settled() {
            self.unsettled.push(order.seq);
            self.add_working(&order.new, order.life.working().units());
        }
        self.places[at] = Some(order);
        true
    }

    /// The order with this counter.
    pub fn find(&self, seq: u64) -> Option<&Order> {
        self.places[place(seq)].as_ref().filter(|o| o.seq == seq)
    }

    /// The order that a strategy calls so.
    pub fn by_ref(&self, order: OrderRef) -> Option<&Order> {
        self.find(self.by_ref.find(order.0)?).filter(|o| o.order == order)
    }

    /// The order that the venue calls so.
    pub fn by_venue_id(&self, instrument: InstrumentId, id: u64) -> Option<&Order> {
        let it = self.find(self.by_venue.find(venue_key(instrument, id))?)?;
        (it.venue_order_id == id && it.new.instrument == instrument).then_some(it)
    }

    /// Changes an order's moments and marks. Not its life: see [`OpenOrders::step`].
    pub fn edit(&mut self, seq: u64, change: impl FnOnce(&mut Order)) {
        if let Some(order) = self.places[place(seq)].as_mut().filter(|o| o.seq == seq) {
            change(order);
        }
    }

    /// Remembers the venue's key of an order.
    pub fn name(&mut self, seq: u64, venue_order_id: u64) {
        let Some(order) = self.places[place(seq)].as_mut().filter(|o| o.seq == seq) else { return };
        if order.venue_order_id == 0 && venue_order_id != 0 {
            order.venue_order_id = venue_order_id;
            self.by_venue.insert(venue_key(order.new.instrument, venue_order_id), seq);
        }
    }

    /// Moves an order's life and keeps the sums.
    pub fn step(&mut self, seq: u64, event: impl FnOnce(&mut Lifecycle) -> Step) -> Option<Step> {
        let order = self.places[place(seq)].as_mut().filter(|o| o.seq == seq)?;
        let before = if order.life.is_settled() { 0 } else { order.life.working().units() };
        let was_settled = order.life.is_settled();
        let step = event(&mut order.life);
        let settled = order.life.is_settled();
        let after = if settled { 0 } else { order.life.working().units() };
        let new = order.new;
        self.add_working(&new, after.saturating_sub(before));
        match (was_settled, settled) {
            (false, true) => self.unsettled.retain(|s| *s != seq),
            // A done order can owe a fill after all, for which the room was there when it was open.
            (true, false) => self.unsettled.push(seq),
            _ => {}
        }
        Some(step)
    }

    fn add_working(&mut self, new: &NewOrder, units: i64) {
        if let Some(working) = self.working.get_mut(new.instrument.index()) {
            let sum = working.side(new.side);
            *sum = sum.saturating_add(units);
        }
    }

    /// What may still be bought and sold of an instrument.
    pub fn working(&self, instrument: InstrumentId) -> Working {
        self.working.get(instrument.index()).copied().unwrap_or_default()
    }

    /// Counters of the unsettled orders: open, of unknown fate, or done and owing fills.
    pub fn unsettled(&self) -> &[u64] {
        &self.unsettled
    }

    /// The unsettled orders.
    pub fn iter(&self) -> impl Iterator<Item = &Order> {
        self.unsettled.iter().filter_map(|seq| self.find(*seq))
    }
}

fn place(seq: u64) -> usize {
    (seq % PLACES as u64) as usize
}

/// One key out of an instrument and the venue's order id, which is unique per instrument only.
fn venue_key(instrument: InstrumentId, id: u64) -> u64 {
    (u64::from(instrument.0) << 48) ^ id
}

/// Entries of a side table: twice the places keep probing short.
const INDEX_ENTRIES: usize = 2 * PLACES;

/// Key to counter, open addressing with linear probing; a key that two orders share finds the newer one.
#[derive(Debug)]
struct Index {
    entries: Box<[Option<(u64, u64)>]>,
}

impl Index {
    fn new() -> Self {
        Self { entries: vec![None; INDEX_ENTRIES].into_boxed_slice() }
    }

    fn home(key: u64) -> usize {
        // Fibonacci hashing spreads the counters that keys are.
        (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % INDEX_ENTRIES
    }

    /// The entry of `key`, or the free one where it belongs.
    fn probe(&self, key: u64) -> Option<usize> {
        let home = Self::home(key);
        (0..INDEX_ENTRIES)
            .map(|step| (home + step) % INDEX_ENTRIES)
            .find(|at| self.entries[*at].is_none_or(|(k, _)| k == key))
    }

    fn find(&self, key: u64) -> Option<u64> {
        self.entries[self.probe(key)?].map(|(_, seq)| seq)
    }

    fn insert(&mut self, key: u64, seq: u64) {
        if let Some(at) = self.probe(key) {
            self.entries[at] = Some((key, seq));
        }
    }

    /// Removes `key` if it still means `seq`, and closes the gap so that probing never meets a hole too early.
    fn remove(&mut self, key: u64, seq: u64) {
        let Some(hole) = self.probe(key) else { return };
        if self.entries[hole] == Some((key, seq)) {
            self.entries[hole] = None;
            self.close_gap(hole);
        }
    }

    fn close_gap(&mut self, mut hole: usize) {
        let mut at = (hole + 1) % INDEX_ENTRIES;
        while let Some(entry) = self.entries[at] {
            let distance = |to: usize| (to + INDEX_ENTRIES - Self::home(entry.0)) % INDEX_ENTRIES;
            if distance(hole) < distance(at) {
                self.entries[hole] = Some(entry);
                self.entries[at] = None;
                hole = at;
            }
            at = (at + 1) % INDEX_ENTRIES;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::lifecycle::Event;
    use super::*;
    use crate::trading::domain::{OrderKind, Price, TimeInForce};

    fn order(seq: u64, side: Side) -> Order {
        let qty = Qty::from_units(10);
        Order {
            order: OrderRef::new(0, 1, seq),
            seq,
            generation: 1,
            client_order_id: ClientOrderId::new(),
            venue_order_id: 0,
            new: NewOrder {
                instrument: InstrumentId(0),
                side,
                kind: OrderKind::Limit,
                tif: TimeInForce::Gtc,
                price: Price::from_units(5),
                qty,
            },
            approved: None,
            life: Lifecycle::new(qty),
            recv: MonoNs::ZERO,
            sent: MonoNs::NEVER,
            check_at: MonoNs::NEVER,
            doomed: false,
            cancel_refusals: 0,
            heard: MonoNs::ZERO,
            unnamed: Qty::ZERO,
        }
    }

    #[test]
    fn sums_follow_the_lives() {
        let mut table = OpenOrders::new(1);
        assert!(table.insert(order(1, Side::Buy)) && table.insert(order(2, Side::Sell)));
        assert_eq!(table.working(InstrumentId(0)), Working { buy: 10, sell: 10 });
        let fill = Event::Fill { last: Qty::from_units(4), cum: Some(Qty::from_units(4)) };
        table.step(1, |life| life.on(fill));
        assert_eq!(table.working(InstrumentId(0)).buy, 6);
        table.step(1, |life| life.on(Event::CancelAck(Qty::from_units(5))));
        assert_eq!(table.working(InstrumentId(0)).buy, 1, "a done order owes one");
        table.step(1, |life| life.on(Event::Fill { last: Qty::from_units(1), cum: None }));
        assert_eq!((table.working(InstrumentId(0)).buy, table.unsettled()), (0, &[2_u64][..]));
    }

    #[test]
    fn a_place_is_reused_only_after_its_order_is_settled() {
        let mut table = OpenOrders::new(1);
        table.insert(order(1, Side::Buy));
        let rival = 1 + PLACES as u64;
        assert_eq!(table.free_seq(rival), rival + 1);
        assert!(!table.insert(order(rival, Side::Buy)));
        table.name(1, 77);
        table.step(1, |life| life.on(Event::Reject));
        assert!(table.by_venue_id(InstrumentId(0), 77).is_some(), "late reports find it");
        assert!(table.insert(order(rival, Side::Buy)));
        assert!(table.by_venue_id(InstrumentId(0), 77).is_none());
        assert!(table.by_ref(OrderRef::new(0, 1, 1)).is_none());
        assert_eq!(table.by_ref(OrderRef::new(0, 1, rival)).map(|o| o.seq), Some(rival));
    }

    #[test]
    fn a_full_table_says_so() {
        let mut table = OpenOrders::new(1);
        for seq in 1..=OPEN_ORDERS_MAX as u64 {
            assert!(table.insert(order(seq, Side::Buy)));
        }
        assert!(!table.has_room() && !table.insert(order(5_000, Side::Buy)));
    }

    proptest! {
        #[test]
        fn the_index_is_a_map(ops in prop::collection::vec((0_u64..40, any::<bool>()), 0..400)) {
            // Keys that collide on purpose: many share a home.
            let key = |k: u64| (k / 8) << 60 | k;
            let (mut index, mut map) = (Index::new(), BTreeMap::new());
            for (seq, (k, insert)) in ops.into_iter().enumerate() {
                let seq = seq as u64;
                if insert {
                    index.insert(key(k), seq);
                    map.insert(key(k), seq);
                } else if let Some(old) = map.remove(&key(k)) {
                    index.remove(key(k), old);
                }
            }
            for k in 0..40 {
                prop_assert_eq!(index.find(key(k)), map.get(&key(k)).copied());
            }
        }
    }
}
