//! What a symbol's filters and its market say to an order. In: an order as asked. Out: what it would need and trade,
//! or the filter that refuses it; after `filters.md` of the venue's documentation.

use super::listing::{Listing, PRICE_MAX, QTY_MAX};
use super::matching::{Budget, Taker, meets};
use super::order::{Kind, NewOrder, Side, notional};
use super::refusal::{Answer, Refusal};

/// Largest quantity of orders at market prices (MARKET_LOT_SIZE).
pub const MARKET_QTY_MAX: i64 = QTY_MAX / 10;

/// Largest price times quantity (NOTIONAL).
pub const NOTIONAL_MAX: i64 = 900_000_000 * 100_000_000;

/// How far above the last price an order may be: as many times (PERCENT_PRICE_BY_SIDE).
pub const PRICE_UP: i64 = 5;

/// How far below the last price an order may be: this part of it (PERCENT_PRICE_BY_SIDE).
pub const PRICE_DOWN: i64 = 5;

/// Open orders per account and symbol (MAX_NUM_ORDERS).
pub const OPEN_ORDERS_MAX: usize = 200;

/// Parts that an iceberg may have (ICEBERG_PARTS).
pub const ICEBERG_PARTS_MAX: i64 = 100;

/// Times that one order may be amended (MAX_NUM_ORDER_AMENDS).
pub const AMENDS_MAX: usize = 10;

/// Open stop orders per account and symbol (MAX_NUM_ALGO_ORDERS).
pub const OPEN_STOPS_MAX: usize = 5;

fn on_grid(value: i64, step: i64, max: i64) -> bool {
    value >= step && value <= max && value % step == 0
}

impl Listing {
    pub(super) fn taker(&self, account: usize, asked: &NewOrder) -> Taker {
        let budget = if asked.quote_qty > 0 {
            Budget::Quote { amount: i128::from(asked.quote_qty), lot: self.rules.lot }
        } else {
            Budget::Base(asked.qty)
        };
        let limit = asked.kind.has_limit().then_some(asked.price);
        Taker { account: Some(account), side: asked.side, limit, budget, stp: asked.stp }
    }

    pub(super) fn would_take(&self, new: &NewOrder) -> bool {
        self.top_of(new.side.opposite()).is_some_and(|(p, _)| meets(new.side, new.price, p))
    }

    /// Whether the stop price has been reached already.
    pub(super) fn would_trigger(&self, new: &NewOrder) -> bool {
        if new.kind.triggers_above(new.side) {
            new.stop_price <= self.last_price
        } else {
            new.stop_price >= self.last_price
        }
    }

    /// The asset that an order needs, and how much of it.
    pub(super) fn funds(&self, account: usize, new: &NewOrder) -> (usize, i128) {
        let needs = if new.kind == Kind::Market {
            self.funds_at_market(account, new)
        } else {
            new.lock(new.qty)
        };
        (self.paid_asset(new.side), needs)
    }

    /// What an order at market prices pays now.
    pub(super) fn funds_at_market(&self, account: usize, new: &NewOrder) -> i128 {
        match new.side {
            Side::Buy if new.quote_qty > 0 => i128::from(new.quote_qty),
            Side::Buy => self.quote_for(&self.taker(account, new)).1,
            Side::Sell if new.quote_qty > 0 => {
                i128::from(self.quote_for(&self.taker(account, new)).0)
            }
            Side::Sell => i128::from(new.qty),
        }
    }

    fn check_price(&self, price: i64) -> Answer<()> {
        if on_grid(price, self.rules.tick, PRICE_MAX) {
            return Ok(());
        }
        Err(Refusal::filter("PRICE_FILTER"))
    }

    pub(super) fn check_filters(&self, new: &NewOrder) -> Answer<()> {
        if new.kind.has_limit() {
            self.check_price(new.price)?;
        }
        if new.kind.is_stop() {
            self.check_price(new.stop_price)?;
        }
        if new.kind.has_limit() {
            let (price, last) = (i128::from(new.price), i128::from(self.last_price));
            let (up, down) = (i128::from(PRICE_UP), i128::from(PRICE_DOWN));
            if price > last * up || price * down < last {
                return Err(Refusal::filter("PERCENT_PRICE_BY_SIDE"));
            }
        }
        self.check_amounts(new)
    }

    /// The filters that a smaller quantity could come to fail.
    pub(super) fn check_amounts(&self, new: &NewOrder) -> Answer<()> {
        let rules = &self.rules;
        let by_qty = new.quote_qty == 0;
        if by_qty && !on_grid(new.qty, rules.lot, QTY_MAX) {
            return Err(Refusal::filter("LOT_SIZE"));
        }
        if new.iceberg_qty > 0 {
            if !on_grid(new.iceberg_qty, rules.lot, QTY_MAX) {
                return Err(Refusal::filter("LOT_SIZE"));
            }
            if new.qty > new.iceberg_qty.saturating_mul(ICEBERG_PARTS_MAX) {
                return Err(Refusal::filter("ICEBERG_PARTS"));
            }
        }
        if by_qty && !new.kind.has_limit() && new.qty > MARKET_QTY_MAX {
            return Err(Refusal::filter("MARKET_LOT_SIZE"));
        }
        let value = match (new.kind.has_limit(), by_qty) {
            (true, _) => notional(new.price, new.qty),
            (false, true) => notional(self.last_price, new.qty),
            (false, false) => i128::from(new.quote_qty),
        };
        let too_much = new.kind.has_limit() && value > i128::from(NOTIONAL_MAX);
        if value < i128::from(rules.min_notional) || too_much {
            return Err(Refusal::filter("NOTIONAL"));
        }
        Ok(())
    }
}
