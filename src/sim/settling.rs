//! What matching did, on the accounts. In: trades, prevented trades, ends of orders. Out: balances, fills, fees and the
//! reports that tell of them.

use crate::clock::UtcNs;

use super::exchange::{Exchange, Exec, Report};
use super::listing::{Liquidity, Print};
use super::matching::{Owner, Taker};
use super::order::{Fill, Order, PreventedMatch, Side, Status, Stp, notional};

impl Exchange {
    /// Keeps an arriving order from trading `overlap` with the resting order `maker` of the same account.
    pub(super) fn prevent(
        &mut self,
        taker: &Taker,
        taker_id: u64,
        maker: u64,
        overlap: i64,
        utc: UtcNs,
    ) {
        let Some(account) = taker.account else { return };
        let holder = &self.accounts[account];
        let (Some(resting), Some(arriving)) = (holder.order(maker), holder.order(taker_id)) else {
            return;
        };
        let (symbol, price) = (resting.asked.symbol, resting.asked.price);
        let mode = taker.stp.effective(resting.asked.stp);
        let lost = |order: &Order, by_mode: bool| match taker.stp {
            Stp::Decrement | Stp::Transfer => Some(overlap),
            _ if by_mode => Some(order.remaining()),
            _ => None,
        };
        let maker_qty = lost(resting, matches!(taker.stp, Stp::ExpireMaker | Stp::ExpireBoth));
        let taker_qty = lost(arriving, matches!(taker.stp, Stp::ExpireTaker | Stp::ExpireBoth));
        let id = self.next_match_id;
        self.next_match_id += 1;
        self.accounts[account].push_prevented(PreventedMatch {
            id,
            symbol,
            taker: taker_id,
            maker,
            mode,
            price,
            taker_qty,
            maker_qty,
            time: utc,
        });
        let exec =
            |qty, counter| Exec::Prevented { qty, counter, match_qty: overlap, match_price: price };
        if let Some(qty) = maker_qty {
            self.lose(account, maker, qty, id, utc);
            self.report(account, maker, exec(qty, taker_id), None, utc);
        }
        if let Some(qty) = taker_qty {
            self.lose(account, taker_id, qty, id, utc);
            self.report(account, taker_id, exec(qty, maker), None, utc);
        }
    }

    /// Takes `qty` off an order by self-trade prevention; it ends when nothing is left or its mode says so.
    fn lose(&mut self, account: usize, id: u64, qty: i64, match_id: u64, utc: UtcNs) {
        let Some(order) = self.accounts[account].order(id) else { return };
        let asset = self.listings[order.asked.symbol].paid_asset(order.asked.side);
        self.accounts[account].change(id, |order| {
            order.prevented += qty;
            order.prevented_match = Some(match_id);
            order.update_time = utc;
            if order.remaining() == 0 && order.status.is_open() {
                order.status = Status::ExpiredInMatch;
            }
        });
        self.accounts[account].relock(id, asset);
    }

    /// Settles one trade for both sides; the arriving account's fill, if it was one.
    #[expect(clippy::too_many_arguments, reason = "a trade has that many parts, and one caller")]
    pub(super) fn settle(
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
        if matches!(self.listings[symbol].liquidity, Liquidity::Live(_)) {
            self.trigger(symbol, price);
        }
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
        let holder = &mut self.accounts[account];
        let ppm = if fill.maker { holder.fees_ppm.0 } else { holder.fees_ppm.1 };
        fill.fee = got * ppm / 1_000_000;
        fill.order_id = id;
        if holder.order(id).is_some_and(|o| o.executed == 0) {
            holder.counts.first_fill(fill.maker, fill.time);
        }
        holder.change(id, |order| {
            order.executed += fill.qty;
            order.quote_executed += fill.quote;
            order.update_time = fill.time;
            let done = order.remaining() == 0;
            order.status = if done { Status::Filled } else { Status::PartiallyFilled };
        });
        holder.relock(id, paid_asset);
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
    pub(super) fn end(
        &mut self,
        account: usize,
        id: u64,
        status: Status,
        expiry: Option<&'static str>,
        utc: UtcNs,
    ) {
        let changed = self.accounts[account].change(id, |order| {
            order.status = status;
            order.update_time = utc;
            order.expiry = expiry;
        });
        let paid_with = changed.map(|o| (o.asked.symbol, o.asked.side));
        if let Some((symbol, side)) = paid_with {
            let asset = self.listings[symbol].paid_asset(side);
            self.accounts[account].relock(id, asset);
        }
    }

    pub(super) fn report(
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

    pub(super) fn report_positions(&mut self, symbol: usize, touched: &mut Vec<usize>, utc: UtcNs) {
        touched.sort_unstable();
        touched.dedup();
        let listing = &self.listings[symbol];
        for account in touched.iter().copied() {
            self.accounts[account].update_time = utc;
            let of = |asset: usize| {
                let holding = self.accounts[account].holdings[asset];
                (asset, holding.free, holding.locked)
            };
            let balances = vec![of(listing.base), of(listing.quote)];
            self.reports.push_back(Report::Position { account, balances, utc });
        }
    }
}
