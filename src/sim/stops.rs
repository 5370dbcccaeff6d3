//! Orders of one symbol that wait for their stop price. In: orders, last prices. Out: which orders a price triggers.
//!
//! Invariant: an order leaves when it is triggered or removed, so none is triggered twice.

use std::collections::BTreeMap;

use super::order::Order;

/// The waiting orders, by stop price and id: those that a price at or above triggers, those that one at or below does.
#[derive(Clone, Debug, Default)]
pub struct Stops {
    above: BTreeMap<(i64, u64), usize>,
    below: BTreeMap<(i64, u64), usize>,
}

impl Stops {
    /// Lets an order wait.
    pub fn insert(&mut self, order: &Order) {
        let key = (order.asked.stop_price, order.id);
        self.side(order).insert(key, order.account);
    }

    /// Lets an order wait no longer.
    pub fn remove(&mut self, order: &Order) {
        let key = (order.asked.stop_price, order.id);
        self.side(order).remove(&key);
    }

    fn side(&mut self, order: &Order) -> &mut BTreeMap<(i64, u64), usize> {
        if order.asked.kind.triggers_above(order.asked.side) {
            &mut self.above
        } else {
            &mut self.below
        }
    }

    /// Takes out an order that a trade at `price` triggers, nearest stop price first: its account and id.
    pub fn trigger(&mut self, price: i64) -> Option<(usize, u64)> {
        if let Some(first) = self.above.first_entry().filter(|e| e.key().0 <= price) {
            let id = first.key().1;
            return Some((first.remove(), id));
        }
        let last = self.below.last_entry().filter(|e| e.key().0 >= price)?;
        let id = last.key().1;
        Some((last.remove(), id))
    }
}
