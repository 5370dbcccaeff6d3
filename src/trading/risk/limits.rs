//! The limits as a person types them, and as the gate compares them for one instrument.
//!
//! `[risk]` holds for the account, `[risk.SYMBOL]` narrows it for one symbol. Text stays text until an instrument
//! gives it a scale: decimals belong to instruments.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::trading::domain::decimal::DecimalError;
use crate::trading::domain::{Instrument, Notional, Qty};

/// Limits as typed; `None` is not "unlimited" but "not said".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Largest single order, in the base asset, decimal.
    pub order_qty_max: Option<String>,
    /// Largest single order, price times quantity, in the quote asset, decimal.
    pub order_notional_max: Option<String>,
    /// Largest position on either side, working orders included, in the base asset, decimal.
    pub position_max: Option<String>,
    /// Most open orders of the account.
    pub open_orders_max: Option<u32>,
    /// Most new orders of the account in any second.
    pub orders_per_s_max: Option<u32>,
    /// Farthest price from the middle, in hundredths of a percent.
    pub price_collar_bps: Option<u32>,
    /// Oldest touch that may be traded on, in milliseconds.
    pub book_age_max_ms: Option<u64>,
    /// Oldest decision that may be sent, counted from the update it answers, in milliseconds.
    pub decision_age_max_ms: Option<u64>,
}

/// What [`LimitsConfig::missing`] calls the limits: the configuration's keys.
macro_rules! each_limit {
    ($apply:ident) => {
        $apply!(
            order_qty_max,
            order_notional_max,
            position_max,
            open_orders_max,
            orders_per_s_max,
            price_collar_bps,
            book_age_max_ms,
            decision_age_max_ms
        )
    };
}

impl LimitsConfig {
    /// What an instrument falls back to outside live: small enough for a first run against play money.
    pub fn conservative() -> Self {
        Self {
            order_qty_max: Some("0.1".to_owned()),
            order_notional_max: Some("1000".to_owned()),
            position_max: Some("0.5".to_owned()),
            open_orders_max: Some(20),
            orders_per_s_max: Some(20),
            price_collar_bps: Some(200),
            book_age_max_ms: Some(3_000),
            decision_age_max_ms: Some(250),
        }
    }

    /// The keys that are not set; live refuses to start unless there are none.
    pub fn missing(&self) -> Vec<&'static str> {
        macro_rules! list {
            ($($key:ident),*) => {
                [$((stringify!($key), self.$key.is_none())),*]
            };
        }
        let keys = each_limit!(list);
        keys.iter().filter(|(_, unset)| *unset).map(|(key, _)| *key).collect()
    }

    /// These limits, and `other`'s where these say nothing: `symbol.or(&account).or(&conservative)`.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        macro_rules! fill {
            ($($key:ident),*) => {
                Self { $($key: self.$key.clone().or_else(|| other.$key.clone())),* }
            };
        }
        each_limit!(fill)
    }

    /// The limits in the units of `instrument`.
    ///
    /// # Errors
    /// Names the key that is not set or is no number of the instrument's scale.
    pub fn resolve(&self, instrument: &Instrument) -> Result<Limits, LimitError> {
        let qty = |key, text: &Option<String>| {
            let text = text.as_deref().ok_or(LimitError::unset(key))?;
            Qty::parse(text.as_bytes(), instrument.qty_decimals)
                .map_err(|e| LimitError::bad(key, e))
        };
        let set = |key, value: Option<u64>| value.ok_or(LimitError::unset(key));
        let notional = self.order_notional_max.as_deref();
        let notional = notional.ok_or(LimitError::unset("order_notional_max"))?;
        Ok(Limits {
            order_qty_max: qty("order_qty_max", &self.order_qty_max)?,
            order_notional_max: Notional::parse(
                notional.as_bytes(),
                instrument.notional_decimals(),
            )
            .map_err(|e| LimitError::bad("order_notional_max", e))?,
            position_max: qty("position_max", &self.position_max)?,
            open_orders_max: self.open_orders_max.ok_or(LimitError::unset("open_orders_max"))?,
            orders_per_s_max: self.orders_per_s_max.ok_or(LimitError::unset("orders_per_s_max"))?,
            price_collar_bps: self.price_collar_bps.ok_or(LimitError::unset("price_collar_bps"))?,
            book_age_max: Duration::from_millis(set("book_age_max_ms", self.book_age_max_ms)?),
            decision_age_max: Duration::from_millis(set(
                "decision_age_max_ms",
                self.decision_age_max_ms,
            )?),
        })
    }
}

/// The limits of one instrument, as the gate compares them; every bound is the last value allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest single order.
    pub order_qty_max: Qty,
    /// Largest price times quantity of a single order.
    pub order_notional_max: Notional,
    /// Largest position on either side, working orders included.
    pub position_max: Qty,
    /// Most open orders of the account.
    pub open_orders_max: u32,
    /// Most new orders of the account in any second.
    pub orders_per_s_max: u32,
    /// Farthest price from the middle, in hundredths of a percent.
    pub price_collar_bps: u32,
    /// Oldest touch that may be traded on.
    pub book_age_max: Duration,
    /// Oldest decision that may be sent.
    pub decision_age_max: Duration,
}

/// A limit that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitError {
    /// The configuration's key.
    pub key: &'static str,
    /// What is wrong; `None` when it is not set.
    pub why: Option<DecimalError>,
}

impl LimitError {
    fn unset(key: &'static str) -> Self {
        Self { key, why: None }
    }

    fn bad(key: &'static str, why: DecimalError) -> Self {
        Self { key, why: Some(why) }
    }
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            None => write!(f, "risk.{} is not set", self.key),
            Some(why) => write!(f, "risk.{}: {why}", self.key),
        }
    }
}

impl std::error::Error for LimitError {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trading::domain::instrument::Name;
    use crate::trading::domain::{InstrumentId, VenueId};

    fn instrument() -> Instrument {
        let name = Name::from("BTCUSDT").map_err(|e| e.to_string()).expect("short");
        Instrument::new(InstrumentId(0), VenueId(0), name, name, (8, 8))
    }

    #[test]
    fn missing_names_every_unset_key() {
        assert_eq!(LimitsConfig::default().missing().len(), 8);
        assert!(LimitsConfig::conservative().missing().is_empty());
        let one = LimitsConfig { position_max: None, ..LimitsConfig::conservative() };
        assert_eq!(one.missing(), ["position_max"]);
    }

    #[test]
    fn the_symbol_wins_over_the_account() {
        let symbol = LimitsConfig { open_orders_max: Some(2), ..LimitsConfig::default() };
        let both = symbol.or(&LimitsConfig::conservative());
        assert_eq!(both.open_orders_max, Some(2));
        assert_eq!(both.price_collar_bps, Some(200));
    }

    #[test]
    fn resolves_in_the_units_of_the_instrument() {
        let limits = LimitsConfig::conservative().resolve(&instrument()).expect("complete");
        assert_eq!(limits.order_qty_max, Qty::from_units(10_000_000));
        assert_eq!(limits.order_notional_max.units(), 1000 * 10_i128.pow(16));
        let unset = LimitsConfig::default().resolve(&instrument());
        assert_eq!(
            unset.map_err(|e| e.to_string()),
            Err("risk.order_notional_max is not set".into())
        );
    }
}
