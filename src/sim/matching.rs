//! The price-time priority book of one symbol. In: orders, cancels, the synthetic market's quantities per level. Out:
//! the steps of every match, and level changes for the diff streams.
//!
//! Invariants: bids and asks never cross; a level's quantity is the sum of what its orders show; every change of a level
//! has its own update id; orders of one level trade in the order in which they came, the next part of an iceberg as one
//! that came when it was shown.

use std::collections::{BTreeMap, VecDeque};

use super::order::{Side, Stp, notional};

/// Level changes remembered per stream speed before they are compacted: 1 s at 20,000 changes per second.
const CHANGES_MAX: usize = 32_768;

/// Whose order rests in a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The synthetic market, which has one order per level.
    Market,
    /// An account's order.
    Account {
        /// The index of the account.
        account: usize,
        /// The order's id.
        order: u64,
    },
}

#[derive(Clone, Copy, Debug)]
struct Resting {
    owner: Owner,
    /// What others see of it.
    qty: i64,
    /// What they do not see, of an iceberg.
    hidden: i64,
    /// How much of an iceberg is seen at once.
    part: i64,
}

#[derive(Clone, Debug, Default)]
struct Level {
    qty: i64,
    orders: VecDeque<Resting>,
}

/// How much an arriving order may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// A base quantity.
    Base(i64),
    /// A quote amount, taken in whole lots.
    Quote {
        /// The amount.
        amount: i128,
        /// The lot.
        lot: i64,
    },
}

/// An arriving order, as far as matching is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Taker {
    /// Whose; `None` for the synthetic market.
    pub account: Option<usize>,
    /// Which way.
    pub side: Side,
    /// The worst price; `None` for market orders.
    pub limit: Option<i64>,
    /// How much.
    pub budget: Budget,
    /// What happens when it meets its own account.
    pub stp: Stp,
}

impl Taker {
    /// The order of the taker's own account that `owner` is, if self-trade prevention forbids to trade with it.
    fn own(&self, owner: Owner) -> Option<u64> {
        match owner {
            Owner::Account { account, order }
                if self.account == Some(account) && self.stp != Stp::None =>
            {
                Some(order)
            }
            _ => None,
        }
    }
}

/// One thing that happened while an order was matched, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A trade.
    Fill {
        /// The resting order's price.
        price: i64,
        /// How much.
        qty: i64,
        /// Who rested.
        maker: Owner,
    },
    /// Self-trade prevention by the taker's mode, in place of a trade with an order of its own account.
    Prevented {
        /// The resting order.
        order: u64,
        /// How much they would have traded.
        qty: i64,
    },
}

/// What changed in a diff stream's period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// First update id.
    pub first: u64,
    /// Last update id.
    pub last: u64,
    /// Changed bids, best first: price and new quantity, 0 for gone.
    pub bids: Vec<(i64, i64)>,
    /// Changed asks, best first.
    pub asks: Vec<(i64, i64)>,
}

#[derive(Clone, Debug, Default)]
struct Pending {
    sent: u64,
    changes: Vec<(Side, i64)>,
}

/// Best prices and their quantities; `None` for an empty side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Top {
    /// Best bid and its quantity.
    pub bid: Option<(i64, i64)>,
    /// Best ask and its quantity.
    pub ask: Option<(i64, i64)>,
}

/// The book.
#[derive(Clone, Debug)]
pub struct Book {
    bids: BTreeMap<i64, Level>,
    asks: BTreeMap<i64, Level>,
    update_id: u64,
    pending: [Pending; 2],
}

impl Book {
    /// An empty book whose first change gets the id `first_update_id`.
    pub fn new(first_update_id: u64) -> Self {
        let sent = first_update_id - 1;
        let pending = || Pending { sent, changes: Vec::new() };
        Self {
            bids: BTreeMap::new(),
            asks: BTreeMap::new(),
            update_id: sent,
            pending: [pending(), pending()],
        }
    }

    /// The id of the newest change.
    pub fn update_id(&self) -> u64 {
        self.update_id
    }

    fn side(&self, side: Side) -> &BTreeMap<i64, Level> {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }

    fn side_mut(&mut self, side: Side) -> &mut BTreeMap<i64, Level> {
        match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        }
    }

    /// The best price of a side and its quantity.
    pub fn best(&self, side: Side) -> Option<(i64, i64)> {
        let entry = match side {
            Side::Buy => self.bids.last_key_value(),
            Side::Sell => self.asks.first_key_value(),
        };
        entry.map(|(price, level)| (*price, level.qty))
    }

    /// Both best prices.
    pub fn top(&self) -> Top {
        Top { bid: self.best(Side::Buy), ask: self.best(Side::Sell) }
    }

    /// The levels of a side, best first: price and quantity.
    pub fn levels(&self, side: Side) -> Box<dyn Iterator<Item = (i64, i64)> + '_> {
        let each = |(price, level): (&i64, &Level)| (*price, level.qty);
        match side {
            Side::Buy => Box::new(self.bids.iter().rev().map(each)),
            Side::Sell => Box::new(self.asks.iter().map(each)),
        }
    }

    /// How many levels a side has.
    pub fn depth(&self, side: Side) -> usize {
        self.side(side).len()
    }

    /// The farthest price of a side at which only the synthetic market rests.
    pub fn farthest_market(&self, side: Side) -> Option<i64> {
        let only_market =
            |(_, level): &(&i64, &Level)| level.orders.iter().all(|r| r.owner == Owner::Market);
        match side {
            Side::Buy => self.bids.iter().find(only_market).map(|(p, _)| *p),
            Side::Sell => self.asks.iter().rev().find(only_market).map(|(p, _)| *p),
        }
    }

    /// What the synthetic market has at a price.
    pub fn market_qty(&self, side: Side, price: i64) -> i64 {
        self.side(side).get(&price).map_or(0, |level| {
            level.orders.iter().find(|r| r.owner == Owner::Market).map_or(0, |r| r.qty)
        })
    }

    fn changed(&mut self, side: Side, price: i64) {
        self.update_id += 1;
        for pending in &mut self.pending {
            if pending.changes.len() >= CHANGES_MAX {
                pending.changes.sort_unstable();
                pending.changes.dedup();
            }
            pending.changes.push((side, price));
        }
    }

    /// Puts an order at the end of its level's queue. The caller has matched it before.
    pub fn rest(&mut self, owner: Owner, side: Side, price: i64, qty: i64) {
        self.rest_iceberg(owner, side, price, qty, qty);
    }

    /// [`Book::rest`] of an order that shows `part` of its quantity at once.
    pub fn rest_iceberg(&mut self, owner: Owner, side: Side, price: i64, qty: i64, part: i64) {
        let level = self.side_mut(side).entry(price).or_default();
        let shown = part.min(qty);
        level.orders.push_back(Resting { owner, qty: shown, hidden: qty - shown, part });
        level.qty += shown;
        self.changed(side, price);
    }

    /// Leaves `left` of an account's order, which keeps its place; what it hides goes first.
    pub fn amend(&mut self, order: u64, side: Side, price: i64, left: i64) {
        let of =
            |r: &&mut Resting| matches!(r.owner, Owner::Account { order: o, .. } if o == order);
        let Some(level) = self.side_mut(side).get_mut(&price) else { return };
        let Some(resting) = level.orders.iter_mut().find(of) else { return };
        let less = (resting.qty - left).max(0);
        resting.qty -= less;
        resting.hidden = left - resting.qty;
        level.qty -= less;
        if less > 0 {
            self.changed(side, price);
        }
    }

    /// Takes an account's order off the book; what it had left.
    pub fn remove(&mut self, order: u64, side: Side, price: i64) -> Option<i64> {
        let of = |r: &Resting| matches!(r.owner, Owner::Account { order: o, .. } if o == order);
        let levels = self.side_mut(side);
        let level = levels.get_mut(&price)?;
        let at = level.orders.iter().position(of)?;
        let gone = level.orders.remove(at)?;
        level.qty -= gone.qty;
        if level.orders.is_empty() {
            levels.remove(&price);
        }
        self.changed(side, price);
        Some(gone.qty)
    }

    /// Sets the synthetic market's quantity at a price. Less keeps its place in the queue, more goes to the end.
    /// False when nothing changed, also because the price would cross the other side.
    pub fn set_market(&mut self, side: Side, price: i64, qty: i64) -> bool {
        let crosses =
            qty > 0 && self.best(side.opposite()).is_some_and(|(p, _)| meets(side, price, p));
        if crosses {
            return false;
        }
        let levels = self.side_mut(side);
        if qty == 0 && !levels.contains_key(&price) {
            return false;
        }
        let level = levels.entry(price).or_default();
        let at = level.orders.iter().position(|r| r.owner == Owner::Market);
        let before = at.and_then(|at| level.orders.get(at)).map_or(0, |r| r.qty);
        if before == qty {
            return false;
        }
        match at.and_then(|at| level.orders.get_mut(at)) {
            Some(resting) if qty > 0 && qty < before => resting.qty = qty,
            _ => {
                if let Some(at) = at {
                    level.orders.remove(at);
                }
                if qty > 0 {
                    let owner = Owner::Market;
                    level.orders.push_back(Resting { owner, qty, hidden: 0, part: qty });
                }
            }
        }
        level.qty += qty - before;
        if level.orders.is_empty() {
            levels.remove(&price);
        }
        self.changed(side, price);
        true
    }

    /// Matches an arriving order; appends what happened to `steps` and gives back what was traded: base and quote.
    pub fn take(&mut self, taker: &Taker, steps: &mut Vec<Step>) -> (i64, i128) {
        let maker_side = taker.side.opposite();
        let (mut base, mut quote) = (0_i64, 0_i128);
        // What is gone from the budget: what was traded and what was prevented.
        let (mut gone, mut spent) = (0_i64, 0_i128);
        'levels: while let Some((price, _)) = self.best(maker_side) {
            if taker.limit.is_some_and(|limit| !meets(taker.side, limit, price)) {
                break;
            }
            let mut touched = false;
            while let Some(front) = self.front(maker_side, price) {
                let want = wanted(taker.budget, price, gone, spent);
                if want == 0 {
                    self.settle_level(maker_side, price, touched);
                    break 'levels;
                }
                let qty = want.min(front.qty);
                if let Some(order) = taker.own(front.owner) {
                    steps.push(Step::Prevented { order, qty });
                    touched |= self.prevent_front(taker.stp, maker_side, price, qty);
                    if matches!(taker.stp, Stp::ExpireTaker | Stp::ExpireBoth) {
                        self.settle_level(maker_side, price, touched);
                        break 'levels;
                    }
                    if taker.stp.decrements() {
                        gone += qty;
                        spent += notional(price, qty);
                    }
                    continue;
                }
                self.reduce_front(maker_side, price, qty);
                touched = true;
                base += qty;
                quote += notional(price, qty);
                gone += qty;
                spent += notional(price, qty);
                steps.push(Step::Fill { price, qty, maker: front.owner });
            }
            self.settle_level(maker_side, price, touched);
        }
        (base, quote)
    }

    fn front(&self, side: Side, price: i64) -> Option<Resting> {
        self.side(side).get(&price).and_then(|level| level.orders.front().copied())
    }

    /// What self-trade prevention takes off the first order of a level; whether that was anything.
    fn prevent_front(&mut self, stp: Stp, side: Side, price: i64, qty: i64) -> bool {
        let Some(level) = self.side_mut(side).get_mut(&price) else { return false };
        match stp {
            Stp::ExpireMaker | Stp::ExpireBoth => {
                level.qty -= level.orders.pop_front().map_or(0, |front| front.qty);
            }
            Stp::Decrement | Stp::Transfer => self.reduce_front(side, price, qty),
            Stp::ExpireTaker | Stp::None => return false,
        }
        true
    }

    fn reduce_front(&mut self, side: Side, price: i64, qty: i64) {
        let Some(level) = self.side_mut(side).get_mut(&price) else { return };
        level.qty -= qty;
        let Some(front) = level.orders.front_mut() else { return };
        front.qty -= qty;
        if front.qty > 0 {
            return;
        }
        let Some(gone) = level.orders.pop_front() else { return };
        if gone.hidden > 0 {
            // The next part of an iceberg goes to the end of the queue.
            let shown = gone.part.min(gone.hidden);
            level.orders.push_back(Resting { qty: shown, hidden: gone.hidden - shown, ..gone });
            level.qty += shown;
        }
    }

    fn settle_level(&mut self, side: Side, price: i64, touched: bool) {
        if self.side(side).get(&price).is_some_and(|level| level.orders.is_empty()) {
            self.side_mut(side).remove(&price);
        }
        if touched {
            self.changed(side, price);
        }
    }

    /// What an arriving order would trade now, base and quote, without its own account's orders.
    pub fn quote_for(&self, taker: &Taker) -> (i64, i128) {
        let (mut base, mut quote) = (0_i64, 0_i128);
        let (mut gone, mut spent) = (0_i64, 0_i128);
        let levels: Box<dyn Iterator<Item = (&i64, &Level)>> = match taker.side {
            Side::Buy => Box::new(self.asks.iter()),
            Side::Sell => Box::new(self.bids.iter().rev()),
        };
        for (price, level) in levels {
            if taker.limit.is_some_and(|limit| !meets(taker.side, limit, *price)) {
                break;
            }
            let shown = level.orders.iter().map(|r| (r.owner, r.qty));
            // What is hidden comes part by part, in turns: it matters whose is met first.
            let mut queue: VecDeque<Resting> =
                level.orders.iter().filter(|r| r.hidden > 0).copied().collect();
            let parts = std::iter::from_fn(|| {
                let mut next = queue.pop_front()?;
                let part = next.part.min(next.hidden);
                next.hidden -= part;
                if next.hidden > 0 {
                    queue.push_back(next);
                }
                Some((next.owner, part))
            });
            for (owner, there) in shown.chain(parts) {
                let qty = wanted(taker.budget, *price, gone, spent).min(there);
                if qty == 0 {
                    return (base, quote);
                }
                let own = taker.own(owner).is_some();
                match (own, taker.stp) {
                    (true, Stp::ExpireMaker) => continue,
                    (true, Stp::ExpireTaker | Stp::ExpireBoth) => return (base, quote),
                    (true, _) => {}
                    (false, _) => {
                        base += qty;
                        quote += notional(*price, qty);
                    }
                }
                gone += qty;
                spent += notional(*price, qty);
            }
        }
        (base, quote)
    }

    /// Whether a diff of `speed` has something to tell.
    pub fn has_changes(&self, speed: usize) -> bool {
        !self.pending[speed].changes.is_empty()
    }

    /// What changed since the last call of the same `speed` (0: 100 ms, 1: 1000 ms); `None` when nothing did.
    pub fn take_diff(&mut self, speed: usize) -> Option<Diff> {
        let mut changes = std::mem::take(&mut self.pending[speed].changes);
        if changes.is_empty() {
            return None;
        }
        changes.sort_unstable();
        changes.dedup();
        let mut diff =
            Diff { first: self.pending[speed].sent + 1, last: self.update_id, ..Diff::default() };
        for (side, price) in &changes {
            let qty = self.side(*side).get(price).map_or(0, |level| level.qty);
            match side {
                Side::Buy => diff.bids.push((*price, qty)),
                Side::Sell => diff.asks.push((*price, qty)),
            }
        }
        diff.bids.reverse();
        changes.clear();
        self.pending[speed] = Pending { sent: self.update_id, changes };
        Some(diff)
    }
}

/// Whether an order of `side` with `limit` trades with a resting price.
pub fn meets(side: Side, limit: i64, resting: i64) -> bool {
    match side {
        Side::Buy => limit >= resting,
        Side::Sell => limit <= resting,
    }
}

/// How much base an order with `budget` still takes at `price`.
pub fn wanted(budget: Budget, price: i64, base: i64, quote: i128) -> i64 {
    match budget {
        Budget::Base(qty) => qty - base,
        Budget::Quote { amount, lot } => {
            let left = (amount - quote).max(0);
            let qty = left * 100_000_000 / i128::from(price.max(1));
            let qty = i64::try_from(qty).unwrap_or(i64::MAX);
            qty - qty % lot.max(1)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn book() -> Book {
        let mut book = Book::new(1);
        for (side, price, qty) in
            [(Side::Buy, 99, 5), (Side::Buy, 98, 7), (Side::Sell, 101, 5), (Side::Sell, 102, 7)]
        {
            book.set_market(side, price, qty);
        }
        book
    }

    fn ours(order: u64) -> Owner {
        Owner::Account { account: 0, order }
    }

    fn taker(side: Side, limit: Option<i64>, qty: i64, account: Option<usize>, stp: Stp) -> Taker {
        Taker { account, side, limit, budget: Budget::Base(qty), stp }
    }

    #[test]
    fn earlier_orders_of_a_level_trade_first() {
        let mut book = book();
        book.rest(ours(1), Side::Sell, 101, 2);
        let mut steps = Vec::new();
        book.take(&taker(Side::Buy, Some(101), 6, None, Stp::None), &mut steps);
        assert_eq!(
            steps,
            [
                Step::Fill { price: 101, qty: 5, maker: Owner::Market },
                Step::Fill { price: 101, qty: 1, maker: ours(1) },
            ]
        );
        assert_eq!(book.best(Side::Sell), Some((101, 1)));
    }

    #[test]
    fn a_larger_market_quantity_goes_behind_ours() {
        let mut book = book();
        book.rest(ours(1), Side::Buy, 99, 2);
        book.set_market(Side::Buy, 99, 6);
        let mut steps = Vec::new();
        book.take(&taker(Side::Sell, None, 3, None, Stp::None), &mut steps);
        assert_eq!(steps[0], Step::Fill { price: 99, qty: 2, maker: ours(1) });
    }

    #[track_caller]
    fn self_trade(stp: Stp, expect: &[Step], left: Option<(i64, i64)>) {
        let mut book = Book::new(1);
        book.rest(ours(1), Side::Sell, 101, 2);
        book.rest(Owner::Market, Side::Sell, 101, 2);
        let mut steps = Vec::new();
        book.take(&taker(Side::Buy, Some(101), 3, Some(0), stp), &mut steps);
        assert_eq!(steps, expect, "{stp:?}");
        assert_eq!(book.best(Side::Sell), left, "{stp:?}");
    }

    #[test]
    fn self_trade_prevention() {
        let prevented = Step::Prevented { order: 1, qty: 2 };
        let market = |qty| Step::Fill { price: 101, qty, maker: Owner::Market };
        self_trade(Stp::ExpireMaker, &[prevented, market(2)], None);
        self_trade(Stp::ExpireTaker, &[prevented], Some((101, 4)));
        self_trade(Stp::ExpireBoth, &[prevented], Some((101, 2)));
        self_trade(Stp::Decrement, &[prevented, market(1)], Some((101, 1)));
        let own = Step::Fill { price: 101, qty: 2, maker: ours(1) };
        self_trade(Stp::None, &[own, market(1)], Some((101, 1)));
    }

    #[test]
    fn market_quantities_never_cross() {
        let mut book = book();
        assert!(!book.set_market(Side::Buy, 101, 1));
        assert!(book.set_market(Side::Buy, 100, 1));
    }

    #[test]
    fn diffs_follow_each_other_and_name_removals() {
        let mut book = book();
        let first = book.take_diff(0).expect("changes");
        assert_eq!((first.first, first.last), (1, 4));
        book.set_market(Side::Buy, 99, 0);
        let second = book.take_diff(0).expect("a change");
        assert_eq!((second.first, second.last), (5, 5));
        assert_eq!(second.bids, [(99, 0)]);
        assert_eq!(book.take_diff(0), None);
        let slow = book.take_diff(1).expect("all changes");
        assert_eq!((slow.first, slow.last, slow.bids.len()), (1, 5, 2));
    }

    #[test]
    fn amounts_are_rounded_down() {
        assert_eq!(notional(3, 50_000_000), 1);
        assert_eq!(notional(199_999_999, 1), 1);
        assert_eq!(wanted(Budget::Quote { amount: 299, lot: 10 }, 1_000_000_000, 0, 0), 20);
    }

    const STPS: [Stp; 5] =
        [Stp::None, Stp::ExpireTaker, Stp::ExpireMaker, Stp::ExpireBoth, Stp::Decrement];

    proptest! {
        #[test]
        fn what_would_trade_is_what_trades(
            resting in prop::collection::vec((0..3_usize, 101..104_i64, 1..12_i64, 1..5_i64), 1..12),
            account in 0..2_usize,
            stp in prop::sample::select(&STPS[..]),
            want in 1..60_i64,
            by_amount in any::<bool>(),
        ) {
            let mut book = Book::new(1);
            for (order, (whose, price, qty, part)) in (1..).zip(resting) {
                let price = price * 100_000_000;
                if whose == 2 {
                    book.set_market(Side::Sell, price, qty);
                } else {
                    let owner = Owner::Account { account: whose, order };
                    book.rest_iceberg(owner, Side::Sell, price, qty, part);
                }
            }
            let taker = taker(Side::Buy, None, want, Some(account), stp);
            let budget = Budget::Quote { amount: i128::from(want) * 101, lot: 2 };
            let taker = if by_amount { Taker { budget, ..taker } } else { taker };
            prop_assert_eq!(book.quote_for(&taker), book.take(&taker, &mut Vec::new()));
        }
    }
}
