//! Orders of one symbol that wait for their stop price. In: orders, last prices. Out: which orders a price triggers.
//!
//! Invariant: an order leaves when it is triggered or removed, so none is triggered twice.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::order::Order;

/// The waiting orders, by stop price and id: those that a price at or above triggers, those that one at or below does.
/// Of those with the same stop price the earliest goes first, on either side.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    above: BTreeMap<(i64, u64), usize>,
    below: BTreeMap<(i64, Reverse<u64>), usize>,
}

impl Stops {
    /// Lets an order wait.
    pub fn insert(&mut self, order: &Order) {
        let (stop, id) = (order.asked.stop_price, order.id);
        if order.asked.kind.triggers_above(order.asked.side) {
            self.above.insert((stop, id), order.account);
        } else {
            self.below.insert((stop, Reverse(id)), order.account);
        }
    }

    /// Lets an order wait no longer.
    pub fn remove(&mut self, order: &Order) {
        let (stop, id) = (order.asked.stop_price, order.id);
        if order.asked.kind.triggers_above(order.asked.side) {
            self.above.remove(&(stop, id));
        } else {
            self.below.remove(&(stop, Reverse(id)));
        }
    }

    /// Takes out an order that a trade at `price` triggers, nearest stop price first: its account and id.
    pub fn trigger(&mut self, price: i64) -> Option<(usize, u64)> {
        if let Some(first) = self.above.first_entry().filter(|e| e.key().0 <= price) {
            let id = first.key().1;
            return Some((first.remove(), id));
        }
        let last = self.below.last_entry().filter(|e| e.key().0 >= price)?;
        let Reverse(id) = last.key().1;
        Some((last.remove(), id))
    }
}
