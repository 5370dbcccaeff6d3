//! Position, cost and profit of one instrument, from its fills. Average cost; exact.
//!
//! Comes in: [`Fill`]s, each once. Goes out: what is held, what it cost, what was earned. What always holds, for
//! every middle `m` and in whole units: `realized + (qty * m - cost)` equals the quote received minus the quote
//! paid minus quote fees, plus `qty * m`; and `qty` is the change of the account's base asset. A division's
//! remainder moves between realized profit and cost, never out of the sum.

use crate::trading::domain::instrument::Name;
use crate::trading::domain::{Commission, Instrument, Notional, Price, Qty, Side, SignedQty};

/// Digits behind the point of a [`Commission`]'s amount.
const COMMISSION_DECIMALS: u8 = 8;

/// One trade of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Which way.
    pub side: Side,
    /// At which price.
    pub price: Price,
    /// How much.
    pub qty: Qty,
    /// The fee, in whatever asset.
    pub commission: Commission,
}

/// What is held of one instrument and what it has earned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Net quantity, fees paid in the base asset taken off.
    pub qty: SignedQty,
    /// What the open part cost, negative when short.
    pub cost: Notional,
    /// Profit of what was closed, fees in base and quote asset included.
    pub realized: Notional,
    /// Fees paid in the base asset (at the fill's price) and the quote asset.
    pub fees: Notional,
    /// Fees paid in other assets, in units of `10^-8` of them; not part of any profit here.
    pub other_fees: i64,
}

/// A position so large that its numbers do not fit; the sender ends rather than count wrongly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExposureOverflow;

impl Exposure {
    /// Counts a fill in.
    ///
    /// A base fee of an instrument with fewer than 8 quantity decimals is rounded up to a whole unit, which is the
    /// careful side: we never believe to hold more than we do.
    ///
    /// # Errors
    /// When a number no longer fits; the exposure is unchanged then.
    pub fn apply(&mut self, fill: &Fill, instrument: &Instrument) -> Result<(), ExposureOverflow> {
        self.applied(fill, instrument).map(|next| *self = next).ok_or(ExposureOverflow)
    }

    fn applied(&self, fill: &Fill, instrument: &Instrument) -> Option<Self> {
        let fee = Fee::of(fill, instrument)?;
        let traded = fill.qty.units().checked_mul(fill.side.sign())?;
        let mut next = *self;
        // What the account gains of the base asset is booked at the price; a base fee then costs that price too.
        next.trade(traded.checked_sub(fee.base)?, fill.price)?;
        next.realized = minus(next.realized, fee.notional)?;
        next.fees = Notional::from_units(next.fees.units().checked_add(fee.notional)?);
        next.other_fees = next.other_fees.checked_add(fee.other)?;
        Some(next)
    }

    /// Moves the position by `delta` units at `price`: closes what is against it, opens the rest.
    fn trade(&mut self, delta: i64, price: Price) -> Option<()> {
        let held = self.qty.units();
        let closes = if held.signum() * delta.signum() < 0 {
            // As much as is held the other way, with the sign of what is held.
            held.signum().checked_mul(delta.checked_abs()?.min(held.checked_abs()?))?
        } else {
            0
        };
        let price = i128::from(price.units());
        let mut cost = self.cost.units();
        if closes != 0 {
            let part = cost.checked_mul(i128::from(closes))?.checked_div(i128::from(held))?;
            let proceeds = price.checked_mul(i128::from(closes))?;
            let realized = self.realized.units().checked_add(proceeds.checked_sub(part)?)?;
            self.realized = Notional::from_units(realized);
            cost = cost.checked_sub(part)?;
        }
        let opens = delta.checked_add(closes)?;
        cost = cost.checked_add(price.checked_mul(i128::from(opens))?)?;
        self.cost = Notional::from_units(cost);
        self.qty = SignedQty::from_units(held.checked_add(delta)?);
        Some(())
    }

    /// Profit of the open part if it were closed at `mid`; zero when that does not fit.
    pub fn unrealized(&self, mid: Price) -> Notional {
        let worth = i128::from(mid.units()).checked_mul(i128::from(self.qty.units()));
        let profit = worth.and_then(|worth| worth.checked_sub(self.cost.units()));
        Notional::from_units(profit.unwrap_or(0))
    }

    /// What the open part cost per unit, rounded down; 0 when flat.
    pub fn avg_price(&self) -> Price {
        let avg = self.cost.units().checked_div(i128::from(self.qty.units())).unwrap_or(0);
        Price::from_units(i64::try_from(avg).unwrap_or(i64::MAX))
    }
}

/// A fee, by what it takes away.
struct Fee {
    /// Quantity units of the base asset.
    base: i64,
    /// Its worth in notional units, for base and quote fees.
    notional: i128,
    /// Units of `10^-8` of another asset.
    other: i64,
}

impl Fee {
    fn of(fill: &Fill, instrument: &Instrument) -> Option<Self> {
        let Commission { amount, asset } = fill.commission;
        let names = instrument.rules().map(|rules| (rules.base, rules.quote));
        let (base, quote) = names.unwrap_or((Name::new(), Name::new()));
        if amount == 0 {
            return Some(Self { base: 0, notional: 0, other: 0 });
        }
        if asset == base {
            let units = rescale(i128::from(amount), instrument.qty_decimals)?;
            let base = i64::try_from(units).ok()?;
            let notional = i128::from(fill.price.units()).checked_mul(units)?;
            return Some(Self { base, notional, other: 0 });
        }
        if asset == quote {
            let notional = rescale(i128::from(amount), instrument.notional_decimals())?;
            return Some(Self { base: 0, notional, other: 0 });
        }
        Some(Self { base: 0, notional: 0, other: amount })
    }
}

/// From a commission's decimals to `decimals`, rounded up (towards paying more) where digits are lost.
fn rescale(amount: i128, decimals: u8) -> Option<i128> {
    if decimals >= COMMISSION_DECIMALS {
        let scale = 10_i128.checked_pow(u32::from(decimals - COMMISSION_DECIMALS))?;
        return amount.checked_mul(scale);
    }
    let scale = 10_i128.checked_pow(u32::from(COMMISSION_DECIMALS - decimals))?;
    let whole = amount.div_euclid(scale);
    Some(if amount.rem_euclid(scale) == 0 { whole } else { whole + 1 })
}

fn minus(from: Notional, amount: i128) -> Option<Notional> {
    from.units().checked_sub(amount).map(Notional::from_units)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trading::domain::{InstrumentId, Rules, VenueId};

    fn name(text: &str) -> Name {
        Name::from(text).expect("short")
    }

    fn instrument(qty_decimals: u8) -> Instrument {
        let symbol = name("BTCUSDT");
        let it = Instrument::new(InstrumentId(0), VenueId(0), name("b"), symbol, (8, qty_decimals));
        it.set_rules(Rules {
            base: name("BTC"),
            quote: name("USDT"),
            tick: Price::ZERO,
            price_min: Price::ZERO,
            price_max: Price::ZERO,
            lot: Qty::ZERO,
            qty_min: Qty::ZERO,
            qty_max: Qty::ZERO,
            notional_min: Notional::ZERO,
            trading: true,
        });
        it
    }

    fn fill(side: Side, price: i64, qty: i64, fee: i64, asset: &str) -> Fill {
        let commission = Commission { amount: fee, asset: name(asset) };
        Fill { side, price: Price::from_units(price), qty: Qty::from_units(qty), commission }
    }

    #[track_caller]
    fn check(fills: &[Fill], qty: i64, cost: i128, realized: i128, fees: i128) {
        let mut it = Exposure::default();
        for fill in fills {
            it.apply(fill, &instrument(8)).expect("fits");
        }
        assert_eq!(it.qty.units(), qty, "qty");
        assert_eq!(it.cost.units(), cost, "cost");
        assert_eq!(it.realized.units(), realized, "realized");
        assert_eq!(it.fees.units(), fees, "fees");
    }

    #[test]
    fn a_base_fee_is_taken_off_what_is_held() {
        check(&[fill(Side::Buy, 100, 1_000, 1, "BTC")], 999, 99_900, -100, 100);
    }

    #[test]
    fn a_quote_fee_only_costs() {
        check(&[fill(Side::Sell, 100, 10, 5, "USDT")], -10, -1_000, -500_000_000, 500_000_000);
    }

    #[test]
    fn another_fee_is_counted_apart() {
        check(&[fill(Side::Buy, 100, 10, 7, "BNB")], 10, 1_000, 0, 0);
    }

    #[test]
    fn closing_half_realizes_half() {
        let buy = fill(Side::Buy, 100, 10, 0, "");
        check(&[buy, fill(Side::Sell, 130, 5, 0, "")], 5, 500, 150, 0);
    }

    #[test]
    fn flipping_opens_at_the_new_price() {
        let buy = fill(Side::Buy, 100, 10, 0, "");
        check(&[buy, fill(Side::Sell, 90, 30, 0, "")], -20, -1_800, -100, 0);
    }

    #[test]
    fn a_coarse_quantity_rounds_the_fee_up() {
        let mut it = Exposure::default();
        it.apply(&fill(Side::Buy, 100, 1_000, 1, "BTC"), &instrument(3)).expect("fits");
        assert_eq!(it.qty.units(), 999);
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut it = Exposure { qty: SignedQty::from_units(i64::MAX), ..Exposure::default() };
        let before = it;
        assert_eq!(it.apply(&fill(Side::Buy, 1, 1, 0, ""), &instrument(8)), Err(ExposureOverflow));
        assert_eq!(it, before);
    }

    proptest! {
        #[test]
        fn money_and_quantity_are_conserved(
            steps in prop::collection::vec((any::<bool>(), 1_i64..1_000_000, 1_i64..1_000_000, 0_i64..50, 0..3_usize), 1..60),
            mid in 1_i64..1_000_000,
        ) {
            let it = instrument(8);
            let (mut exposure, mut base, mut cash) = (Exposure::default(), 0_i128, 0_i128);
            for (buy, price, qty, fee, asset) in steps {
                let side = if buy { Side::Buy } else { Side::Sell };
                let asset = ["BTC", "USDT", "BNB"][asset];
                exposure.apply(&fill(side, price, qty, fee, asset), &it).expect("fits");
                let sign = i128::from(side.sign());
                base += sign * i128::from(qty) - if asset == "BTC" { i128::from(fee) } else { 0 };
                cash -= sign * i128::from(price) * i128::from(qty);
                cash -= if asset == "USDT" { i128::from(fee) * 100_000_000 } else { 0 };
            }
            prop_assert_eq!(i128::from(exposure.qty.units()), base);
            let unrealized = exposure.unrealized(Price::from_units(mid)).units();
            prop_assert_eq!(exposure.realized.units() + unrealized, cash + base * i128::from(mid));
            prop_assert!(exposure.qty.units() != 0 || exposure.cost.units() == 0);
        }
    }
}
