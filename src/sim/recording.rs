//! A recorded day as a market. In: a gzipped file of lines `<local ns> {json}` (depth@100ms, bookTicker, trade and one
//! REST snapshot). Out: its frames at their moments, a reconstructed book, and fills of our orders.
//!
//! The model: the recording does not know us, so it never changes. Our taking orders trade with the levels that the
//! recorded book shows at that moment, which stay as they are. Our resting orders are not in the book; one at price
//! `p` fills wholly when a recorded trade prints strictly beyond `p`, and at `p` itself only by what prints there
//! after the queue ahead of it, which is what the level showed when we joined it, has traded. Cancels ahead of us
//! are not believed, and a book that moves across `p` without a trade fills nothing. Orders of accounts do not trade
//! with each other; where one would meet a resting order of its own account, self-trade prevention does what its mode
//! says: our orders stand behind what their level shows.
//!
//! Invariant: before the recording's snapshot is reached the book is that snapshot, so that a client that buffers
//! the frames and asks for the book can align at any moment.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::clock::{MonoNs, UtcNs};

use super::json::parse_decimal;
use super::listing::Print;
use super::matching::{Budget, Diff, Owner, Step, Taker, Top, meets, wanted};
use super::order::{Side, Stp, notional};

/// Lines searched for the snapshot.
const SNAPSHOT_WITHIN_LINES: usize = 10_000;

/// Longest line read, in bytes: a 5,000-level snapshot has some 350 kB.
const LINE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// An order of an account beside the recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mine {
    account: usize,
    order: u64,
    side: Side,
    price: i64,
    left: i64,
    ahead: i64,
}

/// The reconstructed book and our orders beside it.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    bids: BTreeMap<i64, i64>,
    asks: BTreeMap<i64, i64>,
    update_id: u64,
    aligned: bool,
    /// Diffs that did not follow their predecessor: holes of the recording itself.
    pub gaps: u64,
    mine: Vec<Mine>,
    slow_sent: u64,
    slow_changes: Vec<(Side, i64)>,
}

#[derive(Deserialize)]
struct Snapshot<'a> {
    #[serde(rename = "lastUpdateId")]
    last_update_id: u64,
    #[serde(borrow)]
    bids: Vec<(&'a str, &'a str)>,
    #[serde(borrow)]
    asks: Vec<(&'a str, &'a str)>,
}

#[derive(Deserialize)]
struct DepthDiff<'a> {
    #[serde(rename = "U")]
    first: u64,
    #[serde(rename = "u")]
    last: u64,
    #[serde(borrow, rename = "b")]
    bids: Vec<(&'a str, &'a str)>,
    #[serde(borrow, rename = "a")]
    asks: Vec<(&'a str, &'a str)>,
}

#[derive(Deserialize)]
struct TradePrint<'a> {
    #[serde(rename = "t")]
    id: u64,
    #[serde(rename = "p")]
    price: &'a str,
    #[serde(rename = "q")]
    qty: &'a str,
    #[serde(rename = "m")]
    buyer_maker: bool,
    #[serde(rename = "T")]
    time: i64,
}

#[derive(Deserialize)]
struct Frame<'a> {
    stream: &'a str,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Recorded {
    fn from_snapshot(snapshot: &Snapshot<'_>) -> Option<Self> {
        let mut book = Self { update_id: snapshot.last_update_id, ..Self::default() };
        for (side, levels) in [(Side::Buy, &snapshot.bids), (Side::Sell, &snapshot.asks)] {
            for (price, qty) in levels {
                book.set(side, parse_decimal(price)?, parse_decimal(qty)?);
            }
        }
        book.slow_sent = book.update_id;
        book.slow_changes.clear();
        Some(book)
    }

    fn ladder(&self, side: Side) -> &BTreeMap<i64, i64> {
        match side {
            Side::Buy => &self.bids,
            Side::Sell => &self.asks,
        }
    }

    fn set(&mut self, side: Side, price: i64, qty: i64) {
        let ladder = match side {
            Side::Buy => &mut self.bids,
            Side::Sell => &mut self.asks,
        };
        if qty == 0 {
            ladder.remove(&price);
        } else {
            ladder.insert(price, qty);
        }
        self.slow_changes.push((side, price));
    }

    /// Applies a diff by the documented rules; `None` when its numbers are none.
    fn apply(&mut self, diff: &DepthDiff<'_>) -> Option<()> {
        if diff.last <= self.update_id {
            return Some(());
        }
        if diff.first > self.update_id + 1 {
            self.gaps += 1;
        }
        for (side, levels) in [(Side::Buy, &diff.bids), (Side::Sell, &diff.asks)] {
            for (price, qty) in levels {
                self.set(side, parse_decimal(price)?, parse_decimal(qty)?);
            }
        }
        self.aligned = true;
        self.update_id = diff.last;
        Some(())
    }

    /// The id of the newest change.
    pub fn update_id(&self) -> u64 {
        self.update_id
    }

    /// Levels of a side, best first.
    pub fn levels(&self, side: Side) -> Box<dyn Iterator<Item = (i64, i64)> + '_> {
        match side {
            Side::Buy => Box::new(self.bids.iter().rev().map(|(p, q)| (*p, *q))),
            Side::Sell => Box::new(self.asks.iter().map(|(p, q)| (*p, *q))),
        }
    }

    /// Best prices.
    pub fn top(&self) -> Top {
        Top { bid: self.levels(Side::Buy).next(), ask: self.levels(Side::Sell).next() }
    }

    /// What an arriving order would trade now.
    pub fn quote_for(&self, taker: &Taker) -> (i64, i128) {
        let mut steps = Vec::new();
        self.walk(taker, &mut steps);
        steps.iter().fold((0, 0), |(base, quote), step| match step {
            Step::Fill { price, qty, .. } => (base + qty, quote + notional(*price, *qty)),
            _ => (base, quote),
        })
    }

    /// Trades an arriving order against the shown levels, which stay; orders of its own account may not.
    pub fn take(&mut self, taker: &Taker, steps: &mut Vec<Step>) {
        let from = steps.len();
        self.walk(taker, steps);
        for step in &steps[from..] {
            let Step::Prevented { order, qty } = *step else { continue };
            for mine in self.mine.iter_mut().filter(|mine| mine.order == order) {
                mine.left -= match taker.stp {
                    Stp::ExpireMaker | Stp::ExpireBoth => mine.left,
                    Stp::Decrement | Stp::Transfer => qty,
                    Stp::ExpireTaker | Stp::None => 0,
                };
            }
        }
        self.mine.retain(|mine| mine.left > 0);
    }

    /// What an arriving order meets, best price first: shown levels, and orders that self-trade prevention keeps from it.
    fn walk(&self, taker: &Taker, steps: &mut Vec<Step>) {
        let maker_side = taker.side.opposite();
        let own = |mine: &&Mine| {
            taker.stp != Stp::None && taker.account == Some(mine.account) && mine.side == maker_side
        };
        let mut own: Vec<&Mine> = self.mine.iter().filter(own).collect();
        own.sort_by_key(|mine| match maker_side {
            Side::Buy => -mine.price,
            Side::Sell => mine.price,
        });
        let mut own = own.into_iter().peekable();
        let mut levels = self.levels(maker_side).peekable();
        // What is gone from the budget: what was traded and what was prevented.
        let (mut gone, mut spent) = (0_i64, 0_i128);
        loop {
            let ahead = match (own.peek(), levels.peek()) {
                (None, None) => return,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                // A taker would rather have the order than the level, so it is the better one.
                (Some(mine), Some((price, _))) => {
                    mine.price != *price && meets(taker.side, *price, mine.price)
                }
            };
            let prevented = if ahead { own.next() } else { None };
            let (price, there) = match prevented {
                Some(mine) => (mine.price, mine.left),
                None => match levels.next() {
                    Some(level) => level,
                    None => return,
                },
            };
            let beyond = taker.limit.is_some_and(|limit| !meets(taker.side, limit, price));
            let qty = wanted(taker.budget, price, gone, spent).min(there);
            if beyond || qty == 0 {
                return;
            }
            match prevented {
                Some(mine) => steps.push(Step::Prevented { order: mine.order, qty }),
                None => steps.push(Step::Fill { price, qty, maker: Owner::Market }),
            }
            if prevented.is_none() || taker.stp.decrements() {
                gone += qty;
                spent += notional(price, qty);
            }
            let expires = matches!(taker.stp, Stp::ExpireTaker | Stp::ExpireBoth);
            if (prevented.is_some() && expires) || taker.budget == Budget::Base(gone) {
                return;
            }
        }
    }

    /// An order of an account rests behind what the level shows now.
    pub fn rest(&mut self, account: usize, order: u64, side: Side, price: i64, left: i64) {
        let ahead = self.ladder(side).get(&price).copied().unwrap_or(0);
        self.mine.push(Mine { account, order, side, price, left, ahead });
    }

    /// An account's order has only `left` left, and keeps its place.
    pub fn amend(&mut self, order: u64, left: i64) {
        if let Some(mine) = self.mine.iter_mut().find(|mine| mine.order == order) {
            mine.left = left;
        }
    }

    /// An order of an account is gone.
    pub fn remove(&mut self, order: u64) {
        self.mine.retain(|mine| mine.order != order);
    }

    /// A recorded trade: which of our orders it fills.
    pub fn on_trade(&mut self, price: i64, qty: i64, buyer_maker: bool, steps: &mut Vec<Step>) {
        let hit = if buyer_maker { Side::Buy } else { Side::Sell };
        let mut volume = qty;
        for mine in self.mine.iter_mut().filter(|mine| mine.side == hit) {
            let beyond = if hit == Side::Buy { price < mine.price } else { price > mine.price };
            let fill = if beyond {
                mine.left
            } else if price == mine.price {
                let behind = (volume - mine.ahead).max(0);
                mine.ahead = (mine.ahead - volume).max(0);
                let fill = behind.min(mine.left);
                volume -= fill;
                fill
            } else {
                0
            };
            if fill > 0 {
                mine.left -= fill;
                let maker = Owner::Account { account: mine.account, order: mine.order };
                steps.push(Step::Fill { price: mine.price, qty: fill, maker });
            }
        }
        self.mine.retain(|mine| mine.left > 0);
    }

    /// Whether the next slow diff has something to tell.
    pub fn has_slow_changes(&self) -> bool {
        self.update_id != self.slow_sent
    }

    /// What changed since the last call: the 1000 ms stream, which recordings do not bring.
    pub fn take_slow_diff(&mut self) -> Option<Diff> {
        if self.update_id == self.slow_sent {
            return None;
        }
        let mut changes = std::mem::take(&mut self.slow_changes);
        changes.sort_unstable();
        changes.dedup();
        let mut diff = Diff { first: self.slow_sent + 1, last: self.update_id, ..Diff::default() };
        for (side, price) in changes {
            let qty = self.ladder(side).get(&price).copied().unwrap_or(0);
            match side {
                Side::Buy => diff.bids.push((price, qty)),
                Side::Sell => diff.asks.push((price, qty)),
            }
        }
        diff.bids.reverse();
        self.slow_sent = self.update_id;
        Some(diff)
    }
}

/// A frame of the recording whose moment has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Played {
    /// A depth diff, as recorded.
    Depth(String),
    /// A best bid and ask, as recorded.
    Touch(String),
    /// A trade, as recorded and as a print.
    Trade(String, Print),
}

/// Reads a recording at its own pace.
pub struct Playback {
    lines: BufReader<MultiGzDecoder<File>>,
    next: Option<(u64, String)>,
    first_ns: Option<u64>,
    started: Option<MonoNs>,
    speed: f64,
    /// Whether it waits for the first subscription.
    hold: bool,
    /// Lines that were not understood.
    pub bad_lines: u64,
    /// Frames played.
    pub played: u64,
}

impl std::fmt::Debug for Playback {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Playback").field("played", &self.played).finish_non_exhaustive()
    }
}

fn open(path: &Path) -> Result<BufReader<MultiGzDecoder<File>>, String> {
    let file = File::open(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(BufReader::new(MultiGzDecoder::new(file)))
}

fn read_line(lines: &mut BufReader<MultiGzDecoder<File>>) -> Result<Option<(u64, String)>, String> {
    let mut line = String::new();
    loop {
        line.clear();
        let limit = LINE_BYTES_MAX as u64;
        let mut limited = std::io::Read::take(&mut *lines, limit);
        if limited.read_line(&mut line).map_err(|e| format!("recording: {e}"))? == 0 {
            return Ok(None);
        }
        if let Some((ns, json)) = line.trim_end().split_once(' ')
            && let Ok(ns) = ns.parse()
        {
            return Ok(Some((ns, json.to_owned())));
        }
    }
}

/// The symbol of a recording, from its first stream frames.
///
/// # Errors
/// When the file cannot be read or has no frames.
pub fn symbol_of(path: &Path) -> Result<String, String> {
    let mut lines = open(path)?;
    for _ in 0..SNAPSHOT_WITHIN_LINES {
        let Some((_, json)) = read_line(&mut lines)? else { break };
        if let Ok(frame) = serde_json::from_str::<Frame<'_>>(&json)
            && let Some((symbol, _)) = frame.stream.split_once('@')
        {
            return Ok(symbol.to_uppercase());
        }
    }
    Err(format!("{}: no stream frame in it", path.display()))
}

impl Playback {
    /// Opens a recording and finds its snapshot.
    ///
    /// # Errors
    /// When the file cannot be read, or has no snapshot near its beginning.
    pub fn open(path: &Path, speed: f64, hold: bool) -> Result<(Self, Recorded), String> {
        if !(speed.is_finite() && speed > 0.0) {
            return Err(format!("speed: expected a number above 0, found {speed}"));
        }
        let mut lines = open(path)?;
        let mut recorded = None;
        for _ in 0..SNAPSHOT_WITHIN_LINES {
            let Some((_, json)) = read_line(&mut lines)? else { break };
            if let Ok(snapshot) = serde_json::from_str::<Snapshot<'_>>(&json) {
                recorded = Recorded::from_snapshot(&snapshot);
                break;
            }
        }
        let missing = || format!("{}: no REST snapshot near its beginning", path.display());
        let recorded = recorded.ok_or_else(missing)?;
        let mut lines = open(path)?;
        let next = read_line(&mut lines)?;
        let first_ns = next.as_ref().map(|(ns, _)| *ns);
        let started = None;
        let (bad_lines, played) = (0, 0);
        Ok((Self { lines, next, first_ns, started, speed, hold, bad_lines, played }, recorded))
    }

    /// The first subscription came: a held recording starts.
    pub fn release(&mut self) {
        self.hold = false;
    }

    /// When the next frame is due; `None` at the end or while held.
    pub fn due(&self) -> Option<MonoNs> {
        let (ns, _) = self.next.as_ref()?;
        let first = self.first_ns?;
        match self.started {
            Some(started) => {
                let offset = ns.saturating_sub(first) as f64 / self.speed;
                Some(started.after(Duration::from_nanos(offset as u64)))
            }
            None if self.hold => None,
            None => Some(MonoNs::ZERO),
        }
    }

    /// Whether everything was played.
    pub fn is_over(&self) -> bool {
        self.next.is_none()
    }

    /// The next frame, if its moment has come; the book has it already.
    pub fn poll(&mut self, recorded: &mut Recorded, now: MonoNs) -> Option<Played> {
        while self.due().is_some_and(|due| due <= now) {
            self.started.get_or_insert(now);
            let (_, json) = self.next.take()?;
            match read_line(&mut self.lines) {
                Ok(next) => self.next = next,
                // A truncated file ends here; the last state goes on being served.
                Err(_) => self.bad_lines += 1,
            }
            match play(&json, recorded) {
                Some(Some(played)) => {
                    self.played += 1;
                    return Some(played);
                }
                Some(None) => {}
                None => self.bad_lines += 1,
            }
        }
        None
    }
}

/// What a line is: `None` for nonsense, `Some(None)` for lines that are not frames.
fn play(json: &str, recorded: &mut Recorded) -> Option<Option<Played>> {
    let Ok(frame) = serde_json::from_str::<Frame<'_>>(json) else {
        // The snapshot itself.
        return serde_json::from_str::<Snapshot<'_>>(json).ok().map(|_| None);
    };
    let (_, stream) = frame.stream.split_once('@')?;
    let data = frame.data.get();
    match stream {
        "depth@100ms" => {
            recorded.apply(&serde_json::from_str(data).ok()?)?;
            Some(Some(Played::Depth(data.to_owned())))
        }
        "bookTicker" => Some(Some(Played::Touch(data.to_owned()))),
        "trade" => {
            let trade: TradePrint<'_> = serde_json::from_str(data).ok()?;
            let print = Print {
                id: trade.id,
                price: parse_decimal(trade.price)?,
                qty: parse_decimal(trade.qty)?,
                buyer_maker: trade.buyer_maker,
                time: UtcNs::from_millis(trade.time),
                taker: 0,
            };
            Some(Some(Played::Trade(data.to_owned(), print)))
        }
        _ => Some(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> Recorded {
        let snapshot = Snapshot {
            last_update_id: 10,
            bids: vec![("99", "5"), ("98", "7")],
            asks: vec![("101", "5")],
        };
        Recorded::from_snapshot(&snapshot).expect("numbers")
    }

    const ONE: i64 = 100_000_000;

    #[track_caller]
    fn check(prints: &[(i64, i64)], left: Option<i64>) {
        let mut book = recorded();
        book.rest(0, 1, Side::Buy, 99 * ONE, 2 * ONE);
        let mut steps = Vec::new();
        for (price, qty) in prints {
            book.on_trade(price * ONE, qty * ONE, true, &mut steps);
        }
        assert_eq!(book.mine.first().map(|m| m.left), left.map(|l| l * ONE), "{prints:?}");
    }

    #[test]
    fn resting_orders_wait_for_the_queue_ahead() {
        check(&[(99, 5)], Some(2));
        check(&[(99, 6)], Some(1));
        check(&[(99, 4), (99, 3)], None);
        check(&[(98, 1)], None);
        check(&[(100, 50)], Some(2));
    }

    #[test]
    fn takers_leave_the_recorded_book_alone() {
        let book = recorded();
        let taker = Taker {
            account: Some(0),
            side: Side::Sell,
            limit: Some(98 * ONE),
            budget: Budget::Base(6 * ONE),
            stp: Stp::None,
        };
        assert_eq!(book.quote_for(&taker), (6 * ONE, i128::from((5 * 99 + 98) * ONE)));
        assert_eq!(book.top().bid, Some((99 * ONE, 5 * ONE)));
    }

    /// An account has 3 at the best shown price and sells 9 into it.
    #[track_caller]
    fn prevents(stp: Stp, expect: &[Step], left: Option<i64>) {
        let mut book = recorded();
        book.rest(0, 1, Side::Buy, 99 * ONE, 3 * ONE);
        book.rest(1, 2, Side::Buy, 100 * ONE, 3 * ONE);
        let (limit, budget) = (Some(98 * ONE), Budget::Base(9 * ONE));
        let taker = Taker { account: Some(0), side: Side::Sell, limit, budget, stp };
        let mut steps = Vec::new();
        book.take(&taker, &mut steps);
        assert_eq!(steps, expect, "{stp:?}");
        let mine = book.mine.iter().find(|mine| mine.order == 1);
        assert_eq!(mine.map(|mine| mine.left), left.map(|left| left * ONE), "{stp:?}");
    }

    #[test]
    fn orders_of_one_account_do_not_meet() {
        let fill =
            |price, qty| Step::Fill { price: price * ONE, qty: qty * ONE, maker: Owner::Market };
        let prevented = Step::Prevented { order: 1, qty: 3 * ONE };
        prevents(Stp::None, &[fill(99, 5), fill(98, 4)], Some(3));
        prevents(Stp::ExpireMaker, &[fill(99, 5), prevented, fill(98, 4)], None);
        prevents(Stp::ExpireTaker, &[fill(99, 5), prevented], Some(3));
        prevents(Stp::ExpireBoth, &[fill(99, 5), prevented], None);
        prevents(Stp::Decrement, &[fill(99, 5), prevented, fill(98, 1)], None);
    }
}
