//! The exchange: accounts, listings and their liquidity. In: orders, cancels and the market's flow. Out: answers, and
//! in [`Exchange::reports`] and [`Listing::prints`](super::listing::Listing::prints) what everybody is told, in the order in which it happened.
//!
//! Invariants: balances plus fees plus what the market's participants hold is constant; no order trades through its
//! limit; what an account has locked is what its open orders need.

use std::collections::VecDeque;

use crate::clock::UtcNs;

use super::account::Account;
use super::listing::{Liquidity, Listing, Print, lock_for};
use super::matching::{Budget, Owner, Step, Taker};
use super::order::{Fill, Kind, NewOrder, Order, Side, Status, Stp, Tif, notional};
use super::recording::Recorded;
use super::refusal::{Answer, Refusal};
use super::settings::VenueSettings;

/// Open orders per account and symbol (MAX_NUM_ORDERS).
pub const OPEN_ORDERS_MAX: usize = 200;

/// What happened to an account's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exec {
    /// It was accepted.
    New,
    /// It traded.
    Trade {
        /// The trade.
        trade_id: u64,
        /// At which price.
        price: i64,
        /// How much base.
        qty: i64,
        /// How much quote.
        quote: i128,
        /// The fee, in the received asset.
        fee: i128,
        /// Whether it rested.
        maker: bool,
    },
    /// It was cancelled.
    Canceled,
    /// It expired.
    Expired,
    /// Self-trade prevention ended it: how much, and the order that it met.
    Prevented {
        /// The quantity taken away.
        qty: i64,
        /// The other order.
        counter: u64,
    },
}

/// What an account is told.
#[derive(Clone, Debug)]
pub enum Report {
    /// About an order, as it stood right after.
    Execution {
        /// The order.
        order: Box<Order>,
        /// What happened.
        exec: Exec,
        /// The cancel's own client id.
        cancel_id: Option<String>,
        /// The number of this event.
        exec_id: u64,
        /// When.
        utc: UtcNs,
    },
    /// Balances of these assets, free and locked, as they stood right after.
    Position {
        /// Whose.
        account: usize,
        /// Asset, free, locked.
        balances: Vec<(usize, i128, i128)>,
        /// When.
        utc: UtcNs,
    },
}

/// The exchange.
#[derive(Debug)]
pub struct Exchange {
    /// What is traded.
    pub listings: Vec<Listing>,
    /// Asset names.
    pub assets: Vec<String>,
    /// Who trades.
    pub accounts: Vec<Account>,
    /// What accounts are to be told, oldest first; the venue drains it after every request and market event.
    pub reports: VecDeque<Report>,
    /// Fees taken, by asset.
    pub fees: Vec<i128>,
    /// What the market's participants gained, by asset.
    pub market_gain: Vec<i128>,
    maker_fee_ppm: i128,
    taker_fee_ppm: i128,
    next_order_id: u64,
    next_exec_id: u64,
    next_match_id: u64,
    next_taker: u64,
    ids: fastrand::Rng,
    steps: Vec<Step>,
}

impl Exchange {
    /// An exchange with empty books.
    pub fn new(settings: &VenueSettings, first_update_id: u64) -> Self {
        let mut assets: Vec<String> = Vec::new();
        let mut index = |asset: &String| {
            assets.iter().position(|a| a == asset).unwrap_or_else(|| {
                assets.push(asset.clone());
                assets.len() - 1
            })
        };
        let mut listings = Vec::new();
        for rules in &settings.symbols {
            let (base, quote) = (index(&rules.base), index(&rules.quote));
            listings.push(Listing::new(rules, base, quote, first_update_id));
        }
        for account in &settings.accounts {
            for (asset, _) in &account.balances {
                index(asset);
            }
        }
        let accounts = settings.accounts.iter().map(|account| {
            let free: Vec<i128> = assets
                .iter()
                .map(|asset| {
                    let of = account.balances.iter().filter(|(name, _)| name == asset);
                    of.map(|(_, units)| i128::from(*units)).sum()
                })
                .collect();
            Account::new(&account.name, &free)
        });
        let accounts: Vec<Account> = accounts.collect();
        let count = assets.len();
        Self {
            listings,
            assets,
            accounts,
            reports: VecDeque::new(),
            fees: vec![0; count],
            market_gain: vec![0; count],
            maker_fee_ppm: i128::from(settings.maker_fee_ppm),
            taker_fee_ppm: i128::from(settings.taker_fee_ppm),
            next_order_id: 1,
            next_exec_id: 1,
            next_match_id: 1,
            next_taker: 1,
            ids: fastrand::Rng::with_seed(settings.seed ^ 0x0069_6473),
            steps: Vec::new(),
        }
    }

    /// Replaces a listing's liquidity by a recording.
    pub fn use_recording(&mut self, symbol: usize, recorded: Recorded) {
        self.listings[symbol].use_recording(recorded);
    }

    /// The fees in millionths: maker, taker.
    pub fn fees_ppm(&self) -> (i128, i128) {
        (self.maker_fee_ppm, self.taker_fee_ppm)
    }

    /// The numbers that the next order, event and arriving order get.
    pub fn sequences(&self) -> (u64, u64, u64) {
        (self.next_order_id, self.next_exec_id, self.next_taker)
    }

    /// The numbers that must not come again: order, event, prevented match, arriving order.
    pub(super) fn numbers(&self) -> [u64; 4] {
        [self.next_order_id, self.next_exec_id, self.next_match_id, self.next_taker]
    }

    /// Goes on with these numbers.
    pub(super) fn set_numbers(&mut self, next: [u64; 4]) {
        [self.next_order_id, self.next_exec_id, self.next_match_id, self.next_taker] = next;
    }

    /// An id as the venue makes them for clients that send none.
    pub fn make_client_id(&mut self) -> String {
        std::iter::repeat_with(|| self.ids.alphanumeric()).take(22).collect()
    }

    /// Checks an order against the filters and the account without placing it.
    ///
    /// # Errors
    /// The venue's refusal.
    pub fn check(&self, account: usize, new: &NewOrder) -> Answer<()> {
        let listing = &self.listings[new.symbol];
        listing.check_filters(new)?;
        let holder = &self.accounts[account];
        if let Some(id) = &new.client_id
            && holder.order_by_client_id(id).is_some_and(|o| o.status.is_open())
        {
            return Err(Refusal::order("Duplicate order sent."));
        }
        if holder.open_orders().filter(|o| o.asked.symbol == new.symbol).count() >= OPEN_ORDERS_MAX
        {
            return Err(Refusal::filter("MAX_NUM_ORDERS"));
        }
        let (asset, needs) = listing.funds(account, new);
        if needs > holder.holdings[asset].free {
            return Err(Refusal::order("Account has insufficient balance for requested action."));
        }
        if new.kind == Kind::LimitMaker && listing.would_take(new) {
            return Err(Refusal::order("Order would immediately match and take."));
        }
        if new.kind == Kind::Market && listing.top_of(new.side.opposite()).is_none() {
            return Err(Refusal::order(
                "Order book liquidity is less than symbol minimum quantity.",
            ));
        }
        Ok(())
    }

    /// Places an order: its id and the fills it made at once.
    ///
    /// # Errors
    /// The venue's refusal; nothing changed.
    pub fn place(&mut self, account: usize, new: NewOrder, utc: UtcNs) -> Answer<(u64, Vec<Fill>)> {
        self.check(account, &new)?;
        let client_id = match &new.client_id {
            Some(id) => id.clone(),
            None => self.make_client_id(),
        };
        let id = self.next_order_id;
        self.next_order_id += 1;
        let lock = if new.kind == Kind::Market { 0 } else { lock_for(&new, new.qty) };
        let order = Order {
            id,
            client_id,
            account,
            qty: new.qty,
            executed: 0,
            quote_executed: 0,
            prevented: 0,
            prevented_match: None,
            status: Status::New,
            time: utc,
            update_time: utc,
            expiry: None,
            locked: lock,
            asked: new,
        };
        let asset = self.listings[order.asked.symbol].paid_asset(order.asked.side);
        self.accounts[account].lock(asset, lock);
        self.accounts[account].insert(order);
        self.report(account, id, Exec::New, None, utc);
        let fills = self.match_new(account, id, utc);
        Ok((id, fills))
    }

    fn match_new(&mut self, account: usize, id: u64, utc: UtcNs) -> Vec<Fill> {
        let Some(order) = self.accounts[account].order(id).cloned() else { return Vec::new() };
        let asked = &order.asked;
        let symbol = asked.symbol;
        let taker = self.listings[symbol].taker(account, asked);
        let mut touched = vec![account];
        let mut fills = Vec::new();
        let mut reason = match (asked.kind, asked.tif) {
            (Kind::Market, _) => Some("INSUFFICIENT_LIQUIDITY"),
            (_, Tif::Ioc) => Some("UNFILLED_IOC_QUANTITY_EXPIRED"),
            (_, Tif::Fok) => Some("UNFILLED_FOK_ORDER_EXPIRED"),
            (_, Tif::Gtc) => None,
        };
        let all_or_nothing = asked.tif == Tif::Fok && asked.kind == Kind::Limit;
        if !all_or_nothing || self.listings[symbol].quote_for(&taker).0 >= asked.qty {
            if asked.kind == Kind::Market && asked.quote_qty > 0 {
                // The base quantity of an order by quote amount is what it comes to.
                let qty = self.listings[symbol].quote_for(&taker).0;
                self.accounts[account].change(id, |o| o.qty = qty);
            }
            let prevented = self.run(symbol, &taker, Some(id), utc, &mut touched, &mut fills);
            if prevented {
                reason = None;
            }
        }
        self.finish_new(account, id, reason, utc);
        self.report_positions(symbol, &mut touched, utc);
        fills
    }

    /// What an arriving order did not trade rests or expires.
    fn finish_new(&mut self, account: usize, id: u64, reason: Option<&'static str>, utc: UtcNs) {
        let Some(order) = self.accounts[account].order(id).cloned() else { return };
        if !order.status.is_open() {
            return;
        }
        if let Some(reason) = reason {
            self.end(account, id, Status::Expired, utc, |o| o.expiry = Some(reason));
            self.report(account, id, Exec::Expired, None, utc);
            return;
        }
        let (side, price) = (order.asked.side, order.asked.price);
        let owner = Owner::Account { account, order: id };
        match &mut self.listings[order.asked.symbol].liquidity {
            Liquidity::Live(book) => book.rest(owner, side, price, order.remaining()),
            Liquidity::Recorded(recorded) => {
                recorded.rest(account, id, side, price, order.remaining());
            }
        }
    }

    /// Matches `taker` and settles every step; whether self-trade prevention ended the arriving order.
    fn run(
        &mut self,
        symbol: usize,
        taker: &Taker,
        order: Option<u64>,
        utc: UtcNs,
        touched: &mut Vec<usize>,
        fills: &mut Vec<Fill>,
    ) -> bool {
        let mut steps = std::mem::take(&mut self.steps);
        steps.clear();
        match &mut self.listings[symbol].liquidity {
            Liquidity::Live(book) => {
                book.take(taker, &mut steps);
            }
            Liquidity::Recorded(recorded) => recorded.take(taker, &mut steps),
        }
        self.next_taker += 1;
        let mut prevented = false;
        for step in &steps {
            match *step {
                Step::Fill { price, qty, maker } => {
                    let takes = order.zip(taker.account);
                    let fill = self.settle(symbol, price, qty, taker.side, takes, maker, utc);
                    fills.extend(fill);
                    if let Owner::Account { account, .. } = maker {
                        touched.push(account);
                    }
                }
                Step::MakerExpired { order: maker, qty } => {
                    self.prevent(taker.account, maker, qty, order.unwrap_or(0), utc);
                }
                Step::TakerExpired { order: maker } => {
                    prevented = true;
                    let left = order
                        .and_then(|id| self.accounts[taker.account?].order(id))
                        .map_or(0, Order::remaining);
                    self.prevent(taker.account, order.unwrap_or(0), left, maker, utc);
                }
            }
        }
        self.steps = steps;
        prevented
    }

    fn prevent(&mut self, account: Option<usize>, id: u64, qty: i64, counter: u64, utc: UtcNs) {
        let Some(account) = account else { return };
        let match_id = self.next_match_id;
        self.next_match_id += 1;
        self.end(account, id, Status::ExpiredInMatch, utc, |o| {
            o.prevented += qty;
            o.prevented_match = Some(match_id);
        });
        self.report(account, id, Exec::Prevented { qty, counter }, None, utc);
    }

    /// Settles one trade for both sides; the arriving account's fill, if it was one.
    #[expect(clippy::too_many_arguments, reason = "a trade has that many parts, and one caller")]
    fn settle(
        &mut self,
        symbol: usize,
        price: i64,
        qty: i64,
        taker_side: Side,
        taker: Option<(u64, usize)>,
        maker: Owner,
        utc: UtcNs,
    ) -> Option<Fill> {
        let maker_side = taker_side.opposite();
        let maker_account = match maker {
            Owner::Market => None,
            Owner::Account { account, order } => Some((order, account)),
        };
        let print = Print {
            id: 0,
            price,
            qty,
            buyer_maker: maker_side == Side::Buy,
            time: utc,
            taker: self.next_taker,
        };
        let trade_id = self.listings[symbol].print_own(print);
        let made = Fill {
            trade_id,
            order_id: 0,
            symbol,
            side: maker_side,
            price,
            qty,
            quote: notional(price, qty),
            fee: 0,
            maker: true,
            time: utc,
        };
        let taken = Fill { side: taker_side, maker: false, ..made.clone() };
        let fill = self.settle_side(taker, taken);
        self.settle_side(maker_account, made);
        fill
    }

    /// Settles one side of a trade: an account's, or the market's.
    fn settle_side(&mut self, of: Option<(u64, usize)>, mut fill: Fill) -> Option<Fill> {
        let listing = &self.listings[fill.symbol];
        let (paid_asset, got_asset) =
            (listing.paid_asset(fill.side), listing.paid_asset(fill.side.opposite()));
        let (paid, got) = match fill.side {
            Side::Buy => (fill.quote, i128::from(fill.qty)),
            Side::Sell => (i128::from(fill.qty), fill.quote),
        };
        let Some((id, account)) = of else {
            self.market_gain[paid_asset] -= paid;
            self.market_gain[got_asset] += got;
            return None;
        };
        let ppm = if fill.maker { self.maker_fee_ppm } else { self.taker_fee_ppm };
        fill.fee = got * ppm / 1_000_000;
        fill.order_id = id;
        let holder = &mut self.accounts[account];
        let mut unlock = 0;
        holder.change(id, |order| {
            order.executed += fill.qty;
            order.quote_executed += fill.quote;
            order.update_time = fill.time;
            let done = order.executed >= order.qty;
            order.status = if done { Status::Filled } else { Status::PartiallyFilled };
            if order.asked.kind != Kind::Market {
                let lock = lock_for(&order.asked, order.remaining());
                unlock = order.locked - lock;
                order.locked = lock;
            }
        });
        holder.lock(paid_asset, -unlock);
        holder.holdings[paid_asset].free -= paid;
        holder.holdings[got_asset].free += got - fill.fee;
        self.fees[got_asset] += fill.fee;
        let exec = Exec::Trade {
            trade_id: fill.trade_id,
            price: fill.price,
            qty: fill.qty,
            quote: fill.quote,
            fee: fill.fee,
            maker: fill.maker,
        };
        holder.push_fill(fill.clone());
        self.report(account, id, exec, None, fill.time);
        Some(fill)
    }

    /// Ends an order that is not on the book any more and gives back what it had locked.
    fn end(
        &mut self,
        account: usize,
        id: u64,
        status: Status,
        utc: UtcNs,
        change: impl FnOnce(&mut Order),
    ) {
        let mut back = None;
        self.accounts[account].change(id, |order| {
            change(order);
            order.status = status;
            order.update_time = utc;
            back = Some((order.asked.symbol, order.asked.side, order.locked));
            order.locked = 0;
        });
        if let Some((symbol, side, locked)) = back {
            let asset = self.listings[symbol].paid_asset(side);
            self.accounts[account].lock(asset, -locked);
        }
    }

    /// Cancels an open order.
    ///
    /// # Errors
    /// `-2011` when it is not open.
    pub fn cancel(
        &mut self,
        account: usize,
        id: u64,
        cancel_id: Option<String>,
        utc: UtcNs,
    ) -> Answer<(Order, String)> {
        let order = self.accounts[account]
            .order(id)
            .filter(|o| o.status.is_open())
            .cloned()
            .ok_or_else(|| Refusal::cancel("Unknown order sent."))?;
        let (symbol, side, price) = (order.asked.symbol, order.asked.side, order.asked.price);
        match &mut self.listings[symbol].liquidity {
            Liquidity::Live(book) => {
                book.remove(id, side, price);
            }
            Liquidity::Recorded(recorded) => recorded.remove(id),
        }
        let cancel_id = match cancel_id {
            Some(id) => id,
            None => self.make_client_id(),
        };
        self.end(account, id, Status::Canceled, utc, |_| ());
        self.report(account, id, Exec::Canceled, Some(cancel_id.clone()), utc);
        self.report_positions(symbol, &mut vec![account], utc);
        let order = self.accounts[account].order(id).cloned().unwrap_or(order);
        Ok((order, cancel_id))
    }

    /// The synthetic market takes liquidity; gives back what it traded.
    pub fn market_takes(&mut self, symbol: usize, side: Side, limit: i64, qty: i64, utc: UtcNs) {
        let taker = Taker {
            account: None,
            side,
            limit: Some(limit),
            budget: Budget::Base(qty),
            stp: Stp::None,
        };
        let mut touched = Vec::new();
        self.run(symbol, &taker, None, utc, &mut touched, &mut Vec::new());
        self.report_positions(symbol, &mut touched, utc);
    }

    /// A recording printed a trade: our resting orders fill by the rules of [`Recorded`].
    pub fn recorded_trade(&mut self, symbol: usize, print: Print, utc: UtcNs) {
        let mut steps = Vec::new();
        if let Liquidity::Recorded(recorded) = &mut self.listings[symbol].liquidity {
            recorded.on_trade(print.price, print.qty, print.buyer_maker, &mut steps);
        }
        self.listings[symbol].remember(print);
        self.settle_makers(symbol, &steps, utc);
    }

    fn settle_makers(&mut self, symbol: usize, steps: &[Step], utc: UtcNs) {
        let mut touched = Vec::new();
        for step in steps {
            let Step::Fill { price, qty, maker } = *step else { continue };
            let Owner::Account { account, order } = maker else { continue };
            let side = self.accounts[account].order(order).map(|o| o.asked.side);
            if let Some(side) = side {
                self.next_taker += 1;
                self.settle(symbol, price, qty, side.opposite(), None, maker, utc);
                touched.push(account);
            }
        }
        self.report_positions(symbol, &mut touched, utc);
    }

    fn report(
        &mut self,
        account: usize,
        id: u64,
        exec: Exec,
        cancel_id: Option<String>,
        utc: UtcNs,
    ) {
        let Some(order) = self.accounts[account].order(id) else { return };
        let exec_id = self.next_exec_id;
        self.next_exec_id += 1;
        let order = Box::new(order.clone());
        self.reports.push_back(Report::Execution { order, exec, cancel_id, exec_id, utc });
    }

    fn report_positions(&mut self, symbol: usize, touched: &mut Vec<usize>, utc: UtcNs) {
        touched.sort_unstable();
        touched.dedup();
        let listing = &self.listings[symbol];
        for account in touched.iter().copied() {
            let of = |asset: usize| {
                let holding = self.accounts[account].holdings[asset];
                (asset, holding.free, holding.locked)
            };
            let balances = vec![of(listing.base), of(listing.quote)];
            self.reports.push_back(Report::Position { account, balances, utc });
        }
    }
}
