//! One account: balances, orders, fills. In: locks, fills and ends of its orders. Out: what it holds and what it did.
//!
//! Invariants: free and locked are never negative; locked is the sum of what the open orders bind; history is
//! bounded, open orders are never forgotten.

use std::collections::{BTreeMap, VecDeque};

use super::order::{Fill, Order};

/// Orders remembered per account; the oldest closed ones are forgotten beyond.
pub const ORDERS_MAX: usize = 200_000;

/// Fills remembered per account.
pub const FILLS_MAX: usize = 200_000;

/// What an account holds of one asset, in units of `10^-8`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holding {
    /// Usable now.
    pub free: i128,
    /// Bound by open orders.
    pub locked: i128,
    /// Free at the start.
    pub initial: i128,
}

/// An account.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Its name in `/sim/state`.
    pub name: String,
    /// What it holds, by the index of the asset.
    pub holdings: Vec<Holding>,
    orders: BTreeMap<u64, Order>,
    open: BTreeMap<u64, ()>,
    /// The newest order of each client id.
    by_client_id: BTreeMap<String, u64>,
    fills: VecDeque<Fill>,
    /// Closed orders that were forgotten.
    pub forgotten_orders: u64,
    /// Fills that were forgotten.
    pub forgotten_fills: u64,
}

impl Account {
    /// An account with these free amounts, by the index of the asset.
    pub fn new(name: &str, free: &[i128]) -> Self {
        let holdings = free.iter().map(|f| Holding { free: *f, locked: 0, initial: *f }).collect();
        Self { name: name.to_owned(), holdings, ..Self::default() }
    }

    /// An order, open or remembered.
    pub fn order(&self, id: u64) -> Option<&Order> {
        self.orders.get(&id)
    }

    /// The newest order with this client id.
    pub fn order_by_client_id(&self, client_id: &str) -> Option<&Order> {
        self.by_client_id.get(client_id).and_then(|id| self.orders.get(id))
    }

    /// All remembered orders, oldest first.
    pub fn orders(&self) -> impl DoubleEndedIterator<Item = &Order> {
        self.orders.values()
    }

    /// Orders with ids from `from` on, oldest first.
    pub fn orders_from(&self, from: u64) -> impl Iterator<Item = &Order> {
        self.orders.range(from..).map(|(_, order)| order)
    }

    /// Open orders, oldest first.
    pub fn open_orders(&self) -> impl Iterator<Item = &Order> {
        self.open.keys().filter_map(|id| self.orders.get(id))
    }

    /// All remembered fills, oldest first.
    pub fn fills(&self) -> &VecDeque<Fill> {
        &self.fills
    }

    /// Takes a new order in, and forgets old closed ones.
    pub fn insert(&mut self, order: Order) {
        while self.orders.len() >= ORDERS_MAX {
            let Some(oldest) = self.orders.keys().find(|id| !self.open.contains_key(id)).copied()
            else {
                break;
            };
            if let Some(gone) = self.orders.remove(&oldest)
                && self.by_client_id.get(&gone.client_id) == Some(&oldest)
            {
                self.by_client_id.remove(&gone.client_id);
            }
            self.forgotten_orders += 1;
        }
        self.by_client_id.insert(order.client_id.clone(), order.id);
        if order.status.is_open() {
            self.open.insert(order.id, ());
        }
        self.orders.insert(order.id, order);
    }

    /// Changes an order; it leaves the open ones when it ended. The changed order.
    pub fn change(&mut self, id: u64, change: impl FnOnce(&mut Order)) -> Option<&Order> {
        let order = self.orders.get_mut(&id)?;
        change(order);
        if !order.status.is_open() {
            self.open.remove(&id);
        }
        Some(order)
    }

    /// Moves an amount from free to locked (negative: back).
    pub fn lock(&mut self, asset: usize, amount: i128) {
        self.holdings[asset].free -= amount;
        self.holdings[asset].locked += amount;
    }

    /// Remembers a fill.
    pub fn push_fill(&mut self, fill: Fill) {
        if self.fills.len() >= FILLS_MAX {
            self.fills.pop_front();
            self.forgotten_fills += 1;
        }
        self.fills.push_back(fill);
    }
}
