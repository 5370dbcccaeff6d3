//! The exchange: accounts, listings and their liquidity. In: orders, cancels and the market's flow. Out: answers, and
//! in [`Exchange::reports`] and [`Listing::prints`] what everybody is told, in the order in which it happened.
//!
//! Invariants: balances plus fees plus what the market's participants hold is constant; no order trades through its
//! limit; what an account has locked is what its open orders need.

use std::collections::VecDeque;

use crate::clock::UtcNs;

use super::account::Account;
use super::matching::{Book, Budget, Diff, Owner, Step, Taker, Top, meets};
use super::order::{Fill, Kind, NewOrder, Order, Side, Status, Stp, Tif, notional};
use super::recording::Recorded;
use super::refusal::{Answer, Refusal};
use super::settings::{SymbolSettings, VenueSettings};

/// Open orders per account and symbol (MAX_NUM_ORDERS).
pub const OPEN_ORDERS_MAX: usize = 200;

/// Largest order in whole base units (LOT_SIZE).
pub const QTY_MAX: i64 = 9_000 * 100_000_000;

/// Highest price in whole quote units (PRICE_FILTER).
pub const PRICE_MAX: i64 = 1_000_000 * 100_000_000;

/// Public trades remembered per symbol, the most that `trades` shows.
const TAPE_MAX: usize = 1_000;

/// Prints that wait for the venue between two publications; more is a mistake of the caller and the oldest go.
const PRINTS_MAX: usize = 65_536;

/// Trade ids that recordings leave to our own trades.
const OWN_TRADE_ID_FIRST: u64 = 9_000_000_000_000;

/// Where a listing's liquidity comes from.
#[derive(Debug)]
pub enum Liquidity {
    /// Our own book.
    Live(Book),
    /// A recording's book, beside which our orders rest.
    Recorded(Recorded),
}

/// A public trade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Print {
    /// The trade.
    pub id: u64,
    /// At which price.
    pub price: i64,
    /// How much.
    pub qty: i64,
    /// Whether the buyer rested.
    pub buyer_maker: bool,
    /// When.
    pub time: UtcNs,
    /// Which arriving order: trades of one order at one price make one aggregate trade.
    pub taker: u64,
}

/// A symbol and its market.
#[derive(Debug)]
pub struct Listing {
    /// The symbol and its filters.
    pub rules: SymbolSettings,
    /// The index of the base asset.
    pub base: usize,
    /// The index of the quote asset.
    pub quote: usize,
    /// Where liquidity comes from.
    pub liquidity: Liquidity,
    /// Trades not published yet.
    pub prints: VecDeque<Print>,
    tape: VecDeque<Print>,
    next_trade_id: u64,
    /// The last price anybody traded at; the starting mid before.
    pub last_price: i64,
}

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
            listings.push(Listing {
                rules: rules.clone(),
                base,
                quote,
                liquidity: Liquidity::Live(Book::new(first_update_id)),
                prints: VecDeque::new(),
                tape: VecDeque::new(),
                next_trade_id: 1,
                last_price: rules.mid,
            });
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
        let listing = &mut self.listings[symbol];
        listing.next_trade_id = OWN_TRADE_ID_FIRST;
        listing.liquidity = Liquidity::Recorded(recorded);
    }

    /// The fees in millionths: maker, taker.
    pub fn fees_ppm(&self) -> (i128, i128) {
        (self.maker_fee_ppm, self.taker_fee_ppm)
    }

    /// The numbers that the next order, event and arriving order get.
    pub fn sequences(&self) -> (u64, u64, u64) {
        (self.next_order_id, self.next_exec_id, self.next_taker)
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

/// What an order binds for `qty`: quote for buys, base for sells.
fn lock_for(asked: &NewOrder, qty: i64) -> i128 {
    match asked.side {
        Side::Buy => notional(asked.price, qty),
        Side::Sell => i128::from(qty),
    }
}

impl Listing {
    /// The asset that an order of `side` pays with.
    pub fn paid_asset(&self, side: Side) -> usize {
        match side {
            Side::Buy => self.quote,
            Side::Sell => self.base,
        }
    }

    /// Best prices.
    pub fn top(&self) -> Top {
        match &self.liquidity {
            Liquidity::Live(book) => book.top(),
            Liquidity::Recorded(recorded) => recorded.top(),
        }
    }

    fn top_of(&self, side: Side) -> Option<(i64, i64)> {
        match side {
            Side::Buy => self.top().bid,
            Side::Sell => self.top().ask,
        }
    }

    /// The id of the newest change of the book.
    pub fn update_id(&self) -> u64 {
        match &self.liquidity {
            Liquidity::Live(book) => book.update_id(),
            Liquidity::Recorded(recorded) => recorded.update_id(),
        }
    }

    /// Levels of a side, best first.
    pub fn levels(&self, side: Side) -> Box<dyn Iterator<Item = (i64, i64)> + '_> {
        match &self.liquidity {
            Liquidity::Live(book) => book.levels(side),
            Liquidity::Recorded(recorded) => recorded.levels(side),
        }
    }

    /// What changed since the last call of the same speed; recordings bring their own 100 ms
    /// diffs.
    pub fn take_diff(&mut self, speed: usize) -> Option<Diff> {
        match &mut self.liquidity {
            Liquidity::Live(book) => book.take_diff(speed),
            Liquidity::Recorded(recorded) if speed == 1 => recorded.take_slow_diff(),
            Liquidity::Recorded(_) => None,
        }
    }

    /// Whether a diff of `speed` has something to tell.
    pub fn has_changes(&self, speed: usize) -> bool {
        match &self.liquidity {
            Liquidity::Live(book) => book.has_changes(speed),
            Liquidity::Recorded(recorded) => speed == 1 && recorded.has_slow_changes(),
        }
    }

    /// The newest public trades, oldest first.
    pub fn tape(&self) -> &VecDeque<Print> {
        &self.tape
    }

    /// The id that the next trade of ours gets.
    pub fn next_trade_id(&self) -> u64 {
        self.next_trade_id
    }

    fn quote_for(&self, taker: &Taker) -> (i64, i128) {
        match &self.liquidity {
            Liquidity::Live(book) => book.quote_for(taker),
            Liquidity::Recorded(recorded) => recorded.quote_for(taker),
        }
    }

    fn taker(&self, account: usize, asked: &NewOrder) -> Taker {
        let budget = if asked.quote_qty > 0 {
            Budget::Quote { amount: i128::from(asked.quote_qty), lot: self.rules.lot }
        } else {
            Budget::Base(asked.qty)
        };
        let limit = (asked.kind != Kind::Market).then_some(asked.price);
        Taker { account: Some(account), side: asked.side, limit, budget, stp: asked.stp }
    }

    fn would_take(&self, new: &NewOrder) -> bool {
        self.top_of(new.side.opposite()).is_some_and(|(p, _)| meets(new.side, new.price, p))
    }

    /// The asset that an order needs, and how much of it.
    fn funds(&self, account: usize, new: &NewOrder) -> (usize, i128) {
        let asset = self.paid_asset(new.side);
        let needs = match (new.kind, new.side) {
            (Kind::Market, Side::Buy) if new.quote_qty > 0 => i128::from(new.quote_qty),
            (Kind::Market, Side::Buy) => self.quote_for(&self.taker(account, new)).1,
            (Kind::Market, Side::Sell) if new.quote_qty > 0 => {
                i128::from(self.quote_for(&self.taker(account, new)).0)
            }
            (Kind::Market, Side::Sell) => i128::from(new.qty),
            _ => lock_for(new, new.qty),
        };
        (asset, needs)
    }

    fn check_filters(&self, new: &NewOrder) -> Answer<()> {
        let rules = &self.rules;
        let limit = new.kind != Kind::Market;
        if limit && (new.price > PRICE_MAX || new.price < rules.tick || new.price % rules.tick != 0)
        {
            return Err(Refusal::filter("PRICE_FILTER"));
        }
        let by_qty = new.quote_qty == 0;
        if by_qty && (new.qty < rules.lot || new.qty > QTY_MAX || new.qty % rules.lot != 0) {
            return Err(Refusal::filter("LOT_SIZE"));
        }
        let value = match (limit, by_qty) {
            (true, _) => notional(new.price, new.qty),
            (false, true) => notional(self.last_price, new.qty),
            (false, false) => i128::from(new.quote_qty),
        };
        if value < i128::from(rules.min_notional) {
            return Err(Refusal::filter("NOTIONAL"));
        }
        Ok(())
    }

    /// Prints a trade of our own matching; its id. In recordings it stays off the public tape.
    fn print_own(&mut self, print: Print) -> u64 {
        let id = self.next_trade_id;
        self.next_trade_id += 1;
        if matches!(self.liquidity, Liquidity::Live(_)) {
            let print = Print { id, ..print };
            self.remember(print);
            if self.prints.len() >= PRINTS_MAX {
                self.prints.pop_front();
            }
            self.prints.push_back(print);
        }
        id
    }

    fn remember(&mut self, print: Print) {
        self.last_price = print.price;
        if self.tape.len() >= TAPE_MAX {
            self.tape.pop_front();
        }
        self.tape.push_back(print);
    }
}
