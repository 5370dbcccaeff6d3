//! A symbol and its market: liquidity, the public tape. In: matching results. Out: what everybody may see.

use std::collections::VecDeque;

use crate::clock::UtcNs;

use super::candles::History;
use super::matching::{Book, Diff, Taker, Top};
use super::order::Side;
use super::past;
use super::recording::Recorded;
use super::settings::SymbolSettings;

/// Largest order in whole base units (LOT_SIZE).
pub const QTY_MAX: i64 = 9_000 * 100_000_000;

/// Highest price in whole quote units (PRICE_FILTER).
pub const PRICE_MAX: i64 = 1_000_000 * 100_000_000;

/// Public trades, and aggregate trades, remembered per symbol.
const TAPE_MAX: usize = 10_000;

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

/// Trades of one arriving order at one price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Aggregate {
    /// The aggregate's own id.
    pub id: u64,
    /// First trade.
    pub first: u64,
    /// Last trade, with the price, side and time of all.
    pub last: Print,
    /// Quantity of all.
    pub qty: i64,
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
    aggregates: VecDeque<Aggregate>,
    next_aggregate_id: u64,
    history: History,
    next_trade_id: u64,
    /// The last price anybody traded at; the starting mid before.
    pub last_price: i64,
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
            aggregates: VecDeque::new(),
            next_aggregate_id: 1,
            history: History::default(),
            next_trade_id: 1,
            last_price: rules.mid,
        }
    }

    /// Replaces the book by a recording's.
    pub fn use_recording(&mut self, recorded: Recorded) {
        self.next_trade_id = OWN_TRADE_ID_FIRST;
        if let Top { bid: Some((bid, _)), ask: Some((ask, _)) } = recorded.top() {
            self.last_price = bid.midpoint(ask);
        }
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

    /// The newest aggregate trades, oldest first.
    pub fn aggregates(&self) -> &VecDeque<Aggregate> {
        &self.aggregates
    }

    /// The candles, up to the time that was last told.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Time passes.
    pub fn advance(&mut self, utc: UtcNs) {
        self.history.advance(utc.as_millis());
    }

    /// Invents a past before the first trade; a recording gets none, it is served as it was.
    pub fn invent_past(&mut self, seed: u64, utc: UtcNs) {
        if self.tape.is_empty() && matches!(self.liquidity, Liquidity::Live(_)) {
            let (rules, price) = (&self.rules, self.last_price);
            for print in past::invent(rules, price, seed, utc, &mut self.history) {
                self.next_trade_id = print.id + 1;
                self.tape_trade(print);
            }
        }
    }

    /// The id that the next trade of ours gets.
    pub fn next_trade_id(&self) -> u64 {
        self.next_trade_id
    }

    pub(super) fn quote_for(&self, taker: &Taker) -> (i64, i128) {
        match &self.liquidity {
            Liquidity::Live(book) => book.quote_for(taker),
            Liquidity::Recorded(recorded) => recorded.quote_for(taker),
        }
    }

    /// Prints a trade of our own matching; its id. In recordings it stays off the public tape.
    pub(super) fn print_own(&mut self, print: Print) -> u64 {
        let id = self.next_trade_id;
        self.next_trade_id += 1;
        if matches!(self.liquidity, Liquidity::Live(_)) {
            let print = Print { id, ..print };
            self.remember(print, print.time);
            if self.prints.len() >= PRINTS_MAX {
                self.prints.pop_front();
            }
            self.prints.push_back(print);
        }
        id
    }

    /// A public trade, at a moment of the venue's clock.
    pub(super) fn remember(&mut self, print: Print, utc: UtcNs) {
        self.last_price = print.price;
        self.history.add(&print, utc.as_millis());
        self.tape_trade(print);
    }

    fn tape_trade(&mut self, print: Print) {
        if self.tape.len() >= TAPE_MAX {
            self.tape.pop_front();
        }
        self.tape.push_back(print);
        let same = |a: &Aggregate| {
            print.taker > 0 && a.last.taker == print.taker && a.last.price == print.price
        };
        match self.aggregates.back_mut() {
            Some(aggregate) if same(aggregate) => {
                aggregate.qty += print.qty;
                aggregate.last = print;
            }
            _ => {
                if self.aggregates.len() >= TAPE_MAX {
                    self.aggregates.pop_front();
                }
                let (id, first, qty) = (self.next_aggregate_id, print.id, print.qty);
                self.next_aggregate_id += 1;
                self.aggregates.push_back(Aggregate { id, first, last: print, qty });
            }
        }
    }
}
