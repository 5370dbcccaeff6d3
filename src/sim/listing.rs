//! A symbol and its market: filters, liquidity, the public tape. In: matching results. Out: what everybody may see, and
//! the filters' refusals.

use std::collections::VecDeque;

use crate::clock::UtcNs;

use super::matching::{Book, Budget, Diff, Taker, Top, meets};
use super::order::{Kind, NewOrder, Side, notional};
use super::recording::Recorded;
use super::refusal::{Answer, Refusal};
use super::settings::SymbolSettings;

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
    /// `TRADING`, or why it does not trade.
    pub status: &'static str,
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

/// What an order binds for `qty`: quote for buys, base for sells.
pub(super) fn lock_for(asked: &NewOrder, qty: i64) -> i128 {
    match asked.side {
        Side::Buy => notional(asked.price, qty),
        Side::Sell => i128::from(qty),
    }
}

impl Listing {
    /// A listing with an empty book whose first change gets the id `first_update_id`.
    pub fn new(rules: &SymbolSettings, base: usize, quote: usize, first_update_id: u64) -> Self {
        Self {
            rules: rules.clone(),
            status: "TRADING",
            base,
            quote,
            liquidity: Liquidity::Live(Book::new(first_update_id)),
            prints: VecDeque::new(),
            tape: VecDeque::new(),
            next_trade_id: 1,
            last_price: rules.mid,
        }
    }

    /// Replaces the book by a recording's.
    pub fn use_recording(&mut self, recorded: Recorded) {
        self.next_trade_id = OWN_TRADE_ID_FIRST;
        self.liquidity = Liquidity::Recorded(recorded);
    }

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

    pub(super) fn top_of(&self, side: Side) -> Option<(i64, i64)> {
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

    /// Goes on with the trade ids of an earlier life.
    pub(super) fn set_next_trade_id(&mut self, id: u64) {
        self.next_trade_id = id;
    }

    pub(super) fn quote_for(&self, taker: &Taker) -> (i64, i128) {
        match &self.liquidity {
            Liquidity::Live(book) => book.quote_for(taker),
            Liquidity::Recorded(recorded) => recorded.quote_for(taker),
        }
    }

    pub(super) fn taker(&self, account: usize, asked: &NewOrder) -> Taker {
        let budget = if asked.quote_qty > 0 {
            Budget::Quote { amount: i128::from(asked.quote_qty), lot: self.rules.lot }
        } else {
            Budget::Base(asked.qty)
        };
        let limit = (asked.kind != Kind::Market).then_some(asked.price);
        Taker { account: Some(account), side: asked.side, limit, budget, stp: asked.stp }
    }

    pub(super) fn would_take(&self, new: &NewOrder) -> bool {
        self.top_of(new.side.opposite()).is_some_and(|(p, _)| meets(new.side, new.price, p))
    }

    /// The asset that an order needs, and how much of it.
    pub(super) fn funds(&self, account: usize, new: &NewOrder) -> (usize, i128) {
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

    pub(super) fn check_filters(&self, new: &NewOrder) -> Answer<()> {
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
    pub(super) fn print_own(&mut self, print: Print) -> u64 {
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

    pub(super) fn remember(&mut self, print: Print) {
        self.last_price = print.price;
        if self.tape.len() >= TAPE_MAX {
            self.tape.pop_front();
        }
        self.tape.push_back(print);
    }
}
