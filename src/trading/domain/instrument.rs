//! What is traded, and the rules that the venue sets for it.

use std::sync::{Arc, OnceLock};

use arrayvec::ArrayString;

use super::decimal::{Notional, Price, Qty};

/// Most bytes of a symbol or an asset name.
pub const NAME_BYTES_MAX: usize = 24;

/// A short name: a symbol or an asset.
pub type Name = ArrayString<NAME_BYTES_MAX>;

/// A venue's number: its index among the configured venues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VenueId(pub u8);

/// An instrument's number: its index in the engine's table of instruments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstrumentId(pub u16);

impl InstrumentId {
    /// The index into tables of instruments.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One tradable thing at one venue, as the configuration names it.
#[derive(Clone, Debug)]
pub struct Instrument {
    /// Our identity.
    pub id: InstrumentId,
    /// Where it is traded.
    pub venue: VenueId,
    /// The venue's name in the configuration, such as `binance`.
    pub venue_name: Name,
    /// The venue's spelling, such as `BTCUSDT`.
    pub symbol: Name,
    /// Digits behind the point of a price unit.
    pub price_decimals: u8,
    /// Digits behind the point of a quantity unit.
    pub qty_decimals: u8,
    rules: OnceLock<Rules>,
}

/// What the venue demands of an order in this instrument; from its instrument list (exchangeInfo).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The asset that is bought and sold.
    pub base: Name,
    /// The asset that it is paid with.
    pub quote: Name,
    /// Smallest price step; 0 means that the venue sets none.
    pub tick: Price,
    /// Lowest price allowed; 0 means none set.
    pub price_min: Price,
    /// Highest price allowed; 0 means none set.
    pub price_max: Price,
    /// Smallest quantity step.
    pub lot: Qty,
    /// Smallest order.
    pub qty_min: Qty,
    /// Largest order.
    pub qty_max: Qty,
    /// Smallest price times quantity.
    pub notional_min: Notional,
    /// Whether the venue accepts orders in it now.
    pub trading: bool,
}

impl Rules {
    /// The highest valid price not above `price`.
    #[must_use]
    pub fn floor_price(&self, price: Price) -> Price {
        let tick = self.tick.units().max(1);
        Price::from_units(price.units().div_euclid(tick) * tick)
    }

    /// The lowest valid price not below `price`.
    #[must_use]
    pub fn ceil_price(&self, price: Price) -> Price {
        let tick = self.tick.units().max(1);
        let floor = price.units().div_euclid(tick) * tick;
        let above = floor.saturating_add(tick);
        Price::from_units(if floor == price.units() { floor } else { above })
    }

    /// The largest valid quantity not above `qty`.
    #[must_use]
    pub fn floor_qty(&self, qty: Qty) -> Qty {
        let lot = self.lot.units().max(1);
        Qty::from_units(qty.units().div_euclid(lot) * lot)
    }
}

impl Instrument {
    /// An instrument whose rules are not known yet.
    pub fn new(
        id: InstrumentId,
        venue: VenueId,
        venue_name: Name,
        symbol: Name,
        decimals: (u8, u8),
    ) -> Self {
        Self {
            id,
            venue,
            venue_name,
            symbol,
            price_decimals: decimals.0,
            qty_decimals: decimals.1,
            rules: OnceLock::new(),
        }
    }

    /// The venue's rules, once the rest worker has fetched them. Nothing is traded before.
    pub fn rules(&self) -> Option<&Rules> {
        self.rules.get()
    }

    /// Sets the rules; the first ones stay for the life of the process. False when they were set before.
    pub fn set_rules(&self, rules: Rules) -> bool {
        self.rules.set(rules).is_ok()
    }

    /// Digits behind the point of a notional unit.
    pub fn notional_decimals(&self) -> u8 {
        self.price_decimals.saturating_add(self.qty_decimals)
    }
}

/// The engine's table of instruments, indexed by [`InstrumentId`].
pub type Instruments = Arc<[Instrument]>;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(step: i64) -> Rules {
        Rules {
            base: Name::default(),
            quote: Name::default(),
            tick: Price::from_units(step),
            price_min: Price::ZERO,
            price_max: Price::ZERO,
            lot: Qty::from_units(step),
            qty_min: Qty::ZERO,
            qty_max: Qty::ZERO,
            notional_min: Notional::ZERO,
            trading: true,
        }
    }

    proptest! {
        #[test]
        fn rounding_stays_on_the_grid(step in 0..1_000_000_i64, units in 0..=i64::MAX / 2) {
            let (rules, price) = (rules(step), Price::from_units(units));
            let (floor, ceil) = (rules.floor_price(price), rules.ceil_price(price));
            let step = step.max(1);
            prop_assert!(floor <= price && price <= ceil);
            prop_assert!(price.units() - floor.units() < step && ceil.units() - price.units() < step);
            prop_assert_eq!((floor.units() % step, ceil.units() % step), (0, 0));
            prop_assert_eq!(rules.floor_qty(Qty::from_units(units)).units(), floor.units());
        }
    }
}
