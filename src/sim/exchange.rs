//! The exchange: accounts, listings and their liquidity. In: orders, cancels and the market's flow. Out: answers, and
//! in [`Exchange::reports`] and [`Listing::prints`](super::listing::Listing::prints) what everybody is told, in the order in which it happened.
//!
//! Invariants: balances plus fees plus what the market's participants hold is constant; no order trades through its
//! limit; what an account has locked is what its open orders need.

use std::collections::VecDeque;

use crate::clock::UtcNs;

use super::account::Account;
use super::filters::{OPEN_ORDERS_MAX, OPEN_STOPS_MAX};
use super::limits::RateLimits;
use super::listing::{Liquidity, Listing, Print};
use super::matching::{Budget, Owner, Step, Taker};
use super::order::{Fill, Kind, NewOrder, Order, Side, Status, Stp, Tif};
use super::recording::Recorded;
use super::refusal::{Answer, Refusal};
use super::settings::VenueSettings;
use super::stops::Stops;

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
    /// Its quantity was reduced; the client id that comes with it is the one before.
    Replaced,
    /// It expired.
    Expired,
    /// Self-trade prevention took something off it: how much, and the order that it met.
    Prevented {
        /// The quantity taken away.
        qty: i64,
        /// The other order.
        counter: u64,
        /// How much they would have traded.
        match_qty: i64,
        /// At which price.
        match_price: i64,
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
    /// What is allowed per window.
    pub limits: RateLimits,
    /// WebSocket connections that one address may make in five minutes.
    pub connects_max: u32,
    stops: Vec<Stops>,
    /// Waiting orders whose stop price was reached: account and id.
    triggered: VecDeque<(usize, u64)>,
    next_order_id: u64,
    pub(super) next_exec_id: u64,
    pub(super) next_match_id: u64,
    pub(super) next_taker: u64,
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
        let fees_ppm = (i128::from(settings.maker_fee_ppm), i128::from(settings.taker_fee_ppm));
        let ppm = |(maker, taker): (u32, u32)| (i128::from(maker), i128::from(taker));
        let accounts = settings.accounts.iter().map(|account| {
            let free: Vec<i128> = assets
                .iter()
                .map(|asset| {
                    let of = account.balances.iter().filter(|(name, _)| name == asset);
                    of.map(|(_, units)| i128::from(*units)).sum()
                })
                .collect();
            let fees_ppm = account.fees_ppm.map_or(fees_ppm, ppm);
            Account::new(&account.name, &free, fees_ppm, settings.history)
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
            limits: settings.limits,
            connects_max: u32::try_from(settings.connections.connects_max).unwrap_or(u32::MAX),
            stops: vec![Stops::default(); settings.symbols.len()],
            triggered: VecDeque::new(),
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

    /// Checks an order against the filters, without the account's balance and what is on the book.
    ///
    /// # Errors
    /// `-1013`.
    pub fn check_filters(&self, account: usize, new: &NewOrder) -> Answer<()> {
        self.listings[new.symbol].check_filters(new)?;
        let (orders, stops) = self.accounts[account].open_count(new.symbol);
        if orders >= OPEN_ORDERS_MAX {
            return Err(Refusal::filter("MAX_NUM_ORDERS"));
        }
        if new.kind.is_stop() && stops >= OPEN_STOPS_MAX {
            return Err(Refusal::filter("MAX_NUM_ALGO_ORDERS"));
        }
        let listing = &self.listings[new.symbol];
        if let (Some(most), Side::Buy) = (listing.rules.max_position, new.side) {
            let holder = &self.accounts[account];
            let held = holder.holdings[listing.base];
            let buys = holder.open_orders().filter(|o| o.asked.symbol == new.symbol);
            let buys = buys.filter(|o| o.asked.side == Side::Buy);
            let bought: i128 = buys.map(|o| i128::from(o.remaining())).sum();
            let more = match new.quote_qty {
                0 => new.qty,
                _ => listing.quote_for(&listing.taker(account, new)).0,
            };
            if held.free + held.locked + bought + i128::from(more) > i128::from(most) {
                return Err(Refusal::filter("MAX_POSITION"));
            }
        }
        Ok(())
    }

    /// Checks an order against filters, account and book without placing it.
    ///
    /// # Errors
    /// The venue's refusal.
    pub fn check(&self, account: usize, new: &NewOrder) -> Answer<()> {
        self.check_filters(account, new)?;
        let listing = &self.listings[new.symbol];
        let holder = &self.accounts[account];
        if let Some(id) = &new.client_id
            && holder.order_by_client_id(id).is_some_and(|o| o.status.is_open())
        {
            return Err(Refusal::order("Duplicate order sent."));
        }
        if new.kind.is_stop() && listing.would_trigger(new) {
            return Err(Refusal::order("Order would trigger immediately."));
        }
        if new.iceberg_qty > new.qty {
            return Err(Refusal::order("IcebergQty exceeds QTY."));
        }
        let (asset, needs) = listing.funds(account, new);
        if needs > holder.holdings[asset].free {
            return Err(Refusal::order("Account has insufficient balance for requested action."));
        }
        if new.kind == Kind::LimitMaker && listing.would_take(new) {
            return Err(Refusal::order("Order would immediately match and take."));
        }
        if new.quote_qty > 0 && listing.top_of(new.side.opposite()).is_none() {
            return Err(Refusal::order(
                "Order book liquidity is less than symbol minimum quantity.",
            ));
        }
        Ok(())
    }

    /// Puts a stop order of an earlier life back to where it waits for its price.
    pub(super) fn await_stop(&mut self, order: &Order) {
        self.stops[order.asked.symbol].insert(order);
    }

    /// Places an order: its id and the fills it made at once.
    ///
    /// # Errors
    /// The venue's refusal; nothing changed.
    pub fn place(
        &mut self,
        account: usize,
        mut new: NewOrder,
        utc: UtcNs,
    ) -> Answer<(u64, Vec<Fill>)> {
        self.check(account, &new)?;
        let client_id = match new.client_id.take() {
            Some(id) => id,
            None => self.make_client_id(),
        };
        let id = self.next_order_id;
        self.next_order_id += 1;
        let (symbol, side, waits) = (new.symbol, new.side, new.kind.is_stop());
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
            working_time: (!waits).then_some(utc),
            update_time: utc,
            expiry: None,
            locked: 0,
            amends: Vec::new(),
            asked: new,
        };
        if waits {
            self.stops[symbol].insert(&order);
        }
        let asset = self.listings[symbol].paid_asset(side);
        self.accounts[account].insert(order);
        self.accounts[account].relock(id, asset);
        self.report(account, id, Exec::New, None, utc);
        if waits {
            self.report_positions(symbol, &mut vec![account], utc);
            return Ok((id, Vec::new()));
        }
        let fills = self.match_new(account, id, utc);
        self.activate_triggered(utc);
        Ok((id, fills))
    }

    fn match_new(&mut self, account: usize, id: u64, utc: UtcNs) -> Vec<Fill> {
        let Some(order) = self.accounts[account].order(id).cloned() else { return Vec::new() };
        let asked = &order.asked;
        let symbol = asked.symbol;
        let taker = self.listings[symbol].taker(account, asked);
        let mut touched = vec![account];
        let mut fills = Vec::new();
        let reason = match (asked.kind.has_limit(), asked.tif) {
            (false, _) => Some("INSUFFICIENT_LIQUIDITY"),
            (true, Tif::Ioc) => Some("UNFILLED_IOC_QUANTITY_EXPIRED"),
            (true, Tif::Fok) => Some("UNFILLED_FOK_ORDER_EXPIRED"),
            (true, Tif::Gtc) => None,
        };
        let all_or_nothing = asked.tif == Tif::Fok && asked.kind.has_limit();
        if !all_or_nothing || self.listings[symbol].quote_for(&taker).0 >= asked.qty {
            if asked.kind == Kind::Market && asked.quote_qty > 0 {
                // The base quantity of an order by quote amount is what it comes to, with what self-trade
                // prevention may take off it on the way.
                let stp = if taker.stp == Stp::ExpireMaker { taker.stp } else { Stp::None };
                let qty = self.listings[symbol].quote_for(&Taker { stp, ..taker }).0;
                self.accounts[account].change(id, |o| o.qty = qty);
            }
            self.run(symbol, &taker, Some(id), utc, &mut touched, &mut fills);
        }
        self.finish_new(account, id, reason, utc);
        self.report_positions(symbol, &mut touched, utc);
        fills
    }

    /// Notes which waiting orders a trade at `price` triggers.
    pub(super) fn trigger(&mut self, symbol: usize, price: i64) {
        while let Some(order) = self.stops[symbol].trigger(price) {
            self.triggered.push_back(order);
        }
    }

    /// Lets the triggered orders work, in the order in which they were triggered; their trades may trigger more.
    fn activate_triggered(&mut self, utc: UtcNs) {
        while let Some((account, id)) = self.triggered.pop_front() {
            self.activate(account, id, utc);
        }
    }

    fn activate(&mut self, account: usize, id: u64, utc: UtcNs) {
        if !self.accounts[account].order(id).is_some_and(Order::is_waiting) {
            return;
        }
        self.accounts[account].change(id, |order| {
            order.working_time = Some(utc);
            order.update_time = utc;
        });
        let Some(order) = self.accounts[account].order(id).cloned() else { return };
        let symbol = order.asked.symbol;
        let listing = &self.listings[symbol];
        if !order.asked.kind.has_limit() {
            let asset = listing.paid_asset(order.asked.side);
            let needs = listing.funds_at_market(account, &order.asked);
            self.accounts[account].relock(id, asset);
            if needs > self.accounts[account].holdings[asset].free {
                self.end(account, id, Status::Expired, Some("REJECTED"), utc);
                self.report(account, id, Exec::Expired, None, utc);
                self.report_positions(symbol, &mut vec![account], utc);
                return;
            }
        }
        self.report(account, id, Exec::New, None, utc);
        self.match_new(account, id, utc);
    }

    /// What an arriving order did not trade rests or expires.
    fn finish_new(&mut self, account: usize, id: u64, reason: Option<&'static str>, utc: UtcNs) {
        let Some(order) = self.accounts[account].order(id).cloned() else { return };
        if !order.status.is_open() {
            return;
        }
        if let Some(reason) = reason {
            self.end(account, id, Status::Expired, Some(reason), utc);
            self.report(account, id, Exec::Expired, None, utc);
            return;
        }
        let (side, price) = (order.asked.side, order.asked.price);
        let owner = Owner::Account { account, order: id };
        match &mut self.listings[order.asked.symbol].liquidity {
            Liquidity::Live(book) => {
                book.rest_iceberg(owner, side, price, order.remaining(), order.shown());
            }
            Liquidity::Recorded(recorded) => {
                recorded.rest(account, id, side, price, order.remaining());
            }
        }
    }

    /// Matches `taker` and settles every step.
    fn run(
        &mut self,
        symbol: usize,
        taker: &Taker,
        order: Option<u64>,
        utc: UtcNs,
        touched: &mut Vec<usize>,
        fills: &mut Vec<Fill>,
    ) {
        let mut steps = std::mem::take(&mut self.steps);
        steps.clear();
        match &mut self.listings[symbol].liquidity {
            Liquidity::Live(book) => {
                book.take(taker, &mut steps);
            }
            Liquidity::Recorded(recorded) => recorded.take(taker, &mut steps),
        }
        self.next_taker += 1;
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
                Step::Prevented { order: maker, qty } => {
                    self.prevent(taker, order.unwrap_or(0), maker, qty, utc);
                }
            }
        }
        self.steps = steps;
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
        let symbol = order.asked.symbol;
        self.take_off(&order);
        let cancel_id = match cancel_id {
            Some(id) => id,
            None => self.make_client_id(),
        };
        self.end(account, id, Status::Canceled, None, utc);
        self.report(account, id, Exec::Canceled, Some(cancel_id.clone()), utc);
        self.report_positions(symbol, &mut vec![account], utc);
        let order = self.accounts[account].order(id).cloned().unwrap_or(order);
        Ok((order, cancel_id))
    }

    /// Takes an order off the book, or from where it waits for its price.
    pub(super) fn take_off(&mut self, order: &Order) {
        let (symbol, side, price) = (order.asked.symbol, order.asked.side, order.asked.price);
        self.stops[symbol].remove(order);
        match &mut self.listings[symbol].liquidity {
            Liquidity::Live(book) => {
                book.remove(order.id, side, price);
            }
            Liquidity::Recorded(recorded) => recorded.remove(order.id),
        }
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
        self.activate_triggered(utc);
    }

    /// A recording printed a trade: our resting orders fill by the rules of [`Recorded`].
    pub fn recorded_trade(&mut self, symbol: usize, print: Print, utc: UtcNs) {
        let mut steps = Vec::new();
        if let Liquidity::Recorded(recorded) = &mut self.listings[symbol].liquidity {
            recorded.on_trade(print.price, print.qty, print.buyer_maker, &mut steps);
        }
        self.listings[symbol].remember(print, utc);
        self.trigger(symbol, print.price);
        self.settle_makers(symbol, &steps, utc);
        self.activate_triggered(utc);
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
}
