//! One account: balances, orders, fills. In: locks, fills and ends of its orders. Out: what it holds and what it did.
//!
//! Invariants: free and locked are never negative; locked is the sum of what the open orders bind; history is
//! bounded, open orders are never forgotten.

use std::collections::{BTreeMap, VecDeque};

use crate::clock::UtcNs;

use super::limits::OrderCounts;
use super::order::{Fill, Order, PreventedMatch};

/// Prevented matches remembered per account.
pub const PREVENTED_MAX: usize = 10_000;

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
    /// Open orders and open stop orders, by the index of the symbol.
    open_counts: BTreeMap<usize, (usize, usize)>,
    /// The newest order of each client id.
    by_client_id: BTreeMap<String, u64>,
    fills: VecDeque<Fill>,
    prevented: VecDeque<PreventedMatch>,
    /// Orders, and fills, remembered.
    history: usize,
    /// Unfilled orders in the limits' windows.
    pub counts: OrderCounts,
    /// Fees in millionths of the received asset: maker, taker.
    pub fees_ppm: (i128, i128),
    /// When a balance last changed.
    pub update_time: UtcNs,
    /// Closed orders that were forgotten.
    pub forgotten_orders: u64,
    /// Fills that were forgotten.
    pub forgotten_fills: u64,
}

impl Account {
    /// An account with these free amounts, by the index of the asset, and fees in millionths: maker, taker. It
    /// remembers at most `history` orders that are not open, and as many fills.
    pub fn new(name: &str, free: &[i128], fees_ppm: (i128, i128), history: usize) -> Self {
        let holdings = free.iter().map(|f| Holding { free: *f, locked: 0, initial: *f }).collect();
        Self { name: name.to_owned(), holdings, fees_ppm, history, ..Self::default() }
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

    /// How many open orders of a symbol there are, and how many of them are stop orders.
    pub fn open_count(&self, symbol: usize) -> (usize, usize) {
        self.open_counts.get(&symbol).copied().unwrap_or_default()
    }

    /// Prevented matches, oldest first.
    pub fn prevented(&self) -> &VecDeque<PreventedMatch> {
        &self.prevented
    }

    /// Remembers a prevented match.
    pub fn push_prevented(&mut self, prevented: PreventedMatch) {
        if self.prevented.len() >= PREVENTED_MAX {
            self.prevented.pop_front();
        }
        self.prevented.push_back(prevented);
    }

    /// All remembered fills, oldest first.
    pub fn fills(&self) -> &VecDeque<Fill> {
        &self.fills
    }

    /// Takes a new order in, and forgets old closed ones.
    pub fn insert(&mut self, order: Order) {
        while self.orders.len() - self.open.len() >= self.history.max(1) {
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
            let counts = self.open_counts.entry(order.asked.symbol).or_default();
            counts.0 += 1;
            counts.1 += usize::from(order.asked.kind.is_stop());
        }
        self.orders.insert(order.id, order);
    }

    /// Gives an order another client id.
    pub fn rename(&mut self, id: u64, client_id: &str) {
        let Some(order) = self.orders.get_mut(&id) else { return };
        if self.by_client_id.get(&order.client_id) == Some(&id) {
            self.by_client_id.remove(&order.client_id);
        }
        client_id.clone_into(&mut order.client_id);
        self.by_client_id.insert(client_id.to_owned(), id);
    }

    /// Changes an order; it leaves the open ones when it ended. The changed order.
    pub fn change(&mut self, id: u64, change: impl FnOnce(&mut Order)) -> Option<&Order> {
        let order = self.orders.get_mut(&id)?;
        change(order);
        if !order.status.is_open() && self.open.remove(&id).is_some() {
            let counts = self.open_counts.entry(order.asked.symbol).or_default();
            counts.0 = counts.0.saturating_sub(1);
            counts.1 = counts.1.saturating_sub(usize::from(order.asked.kind.is_stop()));
        }
        Some(order)
    }

    /// Makes an order lock what it needs now; the asset that it pays with is `asset`.
    pub fn relock(&mut self, id: u64, asset: usize) {
        let Some(order) = self.orders.get_mut(&id) else { return };
        let needs = if order.status.is_open() { order.needs() } else { 0 };
        let more = needs - order.locked;
        order.locked = needs;
        self.lock(asset, more);
    }

    /// Moves an amount from free to locked (negative: back).
    pub fn lock(&mut self, asset: usize, amount: i128) {
        self.holdings[asset].free -= amount;
        self.holdings[asset].locked += amount;
    }

    /// Remembers a fill.
    pub fn push_fill(&mut self, fill: Fill) {
        if self.fills.len() >= self.history.max(1) {
            self.fills.pop_front();
            self.forgotten_fills += 1;
        }
        if self.fills.len() == self.fills.capacity() {
            // By doubling it would end with room for more than it may ever hold, and touch all of it.
            let left = self.history.max(1).saturating_sub(self.fills.len());
            self.fills.reserve_exact(self.fills.len().max(64).min(left));
        }
        self.fills.push_back(fill);
    }
}
