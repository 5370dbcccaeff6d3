//! Scaled integers: prices and quantities as counts of the smallest unit that the venue can express.
//!
//! A unit is `10^-decimals` of the quote (prices) or base asset (quantities); `decimals` belongs to the
//! instrument (8 for Binance Spot, whose own numbers are 64-bit counts of 1e-8). Text goes in and comes out
//! exactly; nothing is ever rounded silently.

use std::fmt;

/// A price in units of `10^-price_decimals`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Price(i64);

/// A quantity in units of `10^-qty_decimals`; never negative where it comes from a parser or a constructor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Qty(i64);

/// A quantity with a sign: positive is long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SignedQty(i64);

/// Price times quantity, in units of `10^-(price_decimals + qty_decimals)` of the quote asset; may be negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Notional(i128);

macro_rules! units {
    ($name:ident, $int:ty) => {
        impl $name {
            /// Zero.
            pub const ZERO: Self = Self(0);

            /// From a count of units.
            pub const fn from_units(units: $int) -> Self {
                Self(units)
            }

            /// The count of units.
            pub const fn units(self) -> $int {
                self.0
            }

            /// Whether it is zero.
            pub const fn is_zero(self) -> bool {
                self.0 == 0
            }
        }
    };
}
units!(Price, i64);
units!(Qty, i64);
units!(SignedQty, i64);
units!(Notional, i128);

impl Price {
    /// Parses decimal text, exactly.
    ///
    /// # Errors
    /// When it is no decimal number, is negative, or needs more digits than the scale has.
    pub fn parse(text: &[u8], decimals: u8) -> Result<Self, DecimalError> {
        parse_scaled(text, decimals).map(Self)
    }

    /// The price as decimal text with exactly `decimals` digits.
    pub fn display(self, decimals: u8) -> Scaled {
        Scaled { units: i128::from(self.0), decimals }
    }

    /// This price times `qty`.
    pub fn times(self, qty: Qty) -> Notional {
        Notional(i128::from(self.0) * i128::from(qty.0))
    }
}

impl Qty {
    /// Parses decimal text, exactly.
    ///
    /// # Errors
    /// When it is no decimal number, is negative, or needs more digits than the scale has.
    pub fn parse(text: &[u8], decimals: u8) -> Result<Self, DecimalError> {
        parse_scaled(text, decimals).map(Self)
    }

    /// The quantity as decimal text with exactly `decimals` digits.
    pub fn display(self, decimals: u8) -> Scaled {
        Scaled { units: i128::from(self.0), decimals }
    }

    /// The sum; `None` when it overflows.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// The difference, not below zero.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0).max(0))
    }
}

impl SignedQty {
    /// The quantity as decimal text with exactly `decimals` digits.
    pub fn display(self, decimals: u8) -> Scaled {
        Scaled { units: i128::from(self.0), decimals }
    }

    /// The size without the sign.
    pub fn magnitude(self) -> Qty {
        Qty(self.0.saturating_abs())
    }
}

impl Notional {
    /// The amount as decimal text; `decimals` is the sum of the price's and the quantity's.
    pub fn display(self, decimals: u8) -> Scaled {
        Scaled { units: self.0, decimals }
    }

    /// Parses decimal text, exactly; `decimals` is the sum of the price's and the quantity's.
    ///
    /// # Errors
    /// As [`Price::parse`].
    pub fn parse(text: &[u8], decimals: u8) -> Result<Self, DecimalError> {
        parse_wide(text, decimals).map(Self)
    }
}

/// A scaled integer that prints as a decimal number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scaled {
    units: i128,
    decimals: u8,
}

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Beyond 38 digits the scale cannot be expressed; nothing that was parsed has so many.
        let scale = 10_u128.saturating_pow(u32::from(self.decimals));
        let magnitude = self.units.unsigned_abs();
        let sign = if self.units < 0 { "-" } else { "" };
        let (whole, part) = (magnitude / scale, magnitude % scale);
        if self.decimals == 0 {
            return write!(f, "{sign}{whole}");
        }
        write!(f, "{sign}{whole}.{part:0width$}", width = usize::from(self.decimals))
    }
}

/// Why a text is not a number of the wanted scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalError {
    /// Nothing, or no digit.
    Empty,
    /// A byte that is no digit and not the one point.
    BadByte(u8),
    /// More digits behind the point than the scale has, and not all zero.
    TooPrecise,
    /// Larger than the integer holds.
    TooLarge,
}

impl fmt::Display for DecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "expected a decimal number, found nothing"),
            Self::BadByte(b) => {
                write!(f, "expected a decimal number, found byte {:?}", char::from(*b))
            }
            Self::TooPrecise => write!(f, "more decimals than the instrument has"),
            Self::TooLarge => write!(f, "number too large"),
        }
    }
}

impl std::error::Error for DecimalError {}

/// Parses a non-negative decimal number into units of `10^-decimals`, exactly.
///
/// # Errors
/// See [`DecimalError`].
pub fn parse_scaled(text: &[u8], decimals: u8) -> Result<i64, DecimalError> {
    let mut units: i64 = 0;
    let mut digits = 0_usize;
    // Digits seen behind the point; `None` before it.
    let mut behind: Option<u8> = None;
    for &byte in text {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'.' if behind.is_none() => {
                behind = Some(0);
                continue;
            }
            other => return Err(DecimalError::BadByte(other)),
        };
        digits += 1;
        if let Some(n) = &mut behind {
            if *n == decimals {
                if digit != 0 {
                    return Err(DecimalError::TooPrecise);
                }
                continue;
            }
            *n += 1;
        }
        units = units
            .checked_mul(10)
            .and_then(|u| u.checked_add(i64::from(digit)))
            .ok_or(DecimalError::TooLarge)?;
    }
    if digits == 0 {
        return Err(DecimalError::Empty);
    }
    let missing = decimals - behind.unwrap_or(0);
    let scale = 10_i64.checked_pow(u32::from(missing)).ok_or(DecimalError::TooLarge)?;
    units.checked_mul(scale).ok_or(DecimalError::TooLarge)
}

fn parse_wide(text: &[u8], decimals: u8) -> Result<i128, DecimalError> {
    let point = text.iter().position(|b| *b == b'.').unwrap_or(text.len());
    let (whole, part) = (&text[..point], text.get(point + 1..).unwrap_or(&[]));
    if whole.is_empty() && part.is_empty() {
        return Err(DecimalError::Empty);
    }
    let mut units: i128 = 0;
    let significant = part.len() - part.iter().rev().take_while(|b| **b == b'0').count();
    if significant > usize::from(decimals) {
        return Err(DecimalError::TooPrecise);
    }
    let padding = std::iter::repeat_n(&b'0', usize::from(decimals) - significant);
    for &byte in whole.iter().chain(&part[..significant]).chain(padding) {
        if !byte.is_ascii_digit() {
            return Err(DecimalError::BadByte(byte));
        }
        units = units
            .checked_mul(10)
            .and_then(|u| u.checked_add(i128::from(byte - b'0')))
            .ok_or(DecimalError::TooLarge)?;
    }
    Ok(units)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, decimals: u8, expect: Result<i64, DecimalError>) {
        assert_eq!(parse_scaled(text.as_bytes(), decimals), expect, "{text}");
        let wide = parse_wide(text.as_bytes(), decimals);
        if let Ok(units) = expect {
            assert_eq!(wide, Ok(i128::from(units)), "{text}");
        }
    }

    #[test]
    fn numbers() {
        check("61837.63000000", 8, Ok(6_183_763_000_000));
        check("0.00000000", 8, Ok(0));
        check("1", 2, Ok(100));
        check(".5", 1, Ok(5));
        check("5.", 1, Ok(50));
        check("1.2300", 2, Ok(123));
    }

    #[test]
    fn refusals() {
        check("", 8, Err(DecimalError::Empty));
        check(".", 8, Err(DecimalError::Empty));
        check("-1", 8, Err(DecimalError::BadByte(b'-')));
        check("1.2.3", 8, Err(DecimalError::BadByte(b'.')));
        check("1.234", 2, Err(DecimalError::TooPrecise));
        check("92233720369", 8, Err(DecimalError::TooLarge));
    }

    #[test]
    fn prints_what_it_parsed() {
        for text in ["0.00000001", "61837.63000000", "0.00000000"] {
            let price = Price::parse(text.as_bytes(), 8).expect("valid");
            assert_eq!(price.display(8).to_string(), text);
        }
        assert_eq!(SignedQty::from_units(-5).display(2).to_string(), "-0.05");
    }

    #[test]
    fn absurd_scales_print_something() {
        assert_eq!(Price::from_units(1).display(0).to_string(), "1");
        assert!(Price::from_units(1).display(255).to_string().starts_with("0."));
    }

    proptest! {
        #[test]
        fn units_survive_text(units in 0..=i64::MAX, decimals in 0..=18_u8) {
            let text = Price::from_units(units).display(decimals).to_string();
            prop_assert_eq!(parse_scaled(text.as_bytes(), decimals), Ok(units));
            prop_assert_eq!(parse_wide(text.as_bytes(), decimals), Ok(i128::from(units)));
        }

        #[test]
        fn wide_units_survive_text(units in 0..=i128::MAX, decimals in 0..=36_u8) {
            let text = Notional::from_units(units).display(decimals).to_string();
            prop_assert_eq!(Notional::parse(text.as_bytes(), decimals), Ok(Notional::from_units(units)));
        }

        // Both parsers against the obvious third: digits without the point, padded.
        #[test]
        fn parsers_agree(text in "[0-9]{0,14}\\.?[0-9]{0,10}|[0-9.x-]{0,8}", decimals in 0..=10_u8) {
            let (narrow, wide) =
                (parse_scaled(text.as_bytes(), decimals), parse_wide(text.as_bytes(), decimals));
            match narrow {
                Ok(units) => prop_assert_eq!(wide, Ok(i128::from(units)), "{}", text),
                Err(DecimalError::TooLarge) => {}
                // Which of several faults is named first may differ.
                Err(_) => prop_assert!(wide.is_err(), "{}", text),
            }
            let (whole, part) = text.split_once('.').unwrap_or((&text, ""));
            let part = part.trim_end_matches('0');
            if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') && part.len() <= usize::from(decimals)
                && !part.contains('.') && text.bytes().any(|b| b.is_ascii_digit())
            {
                let digits = format!("{whole}{part:0<width$}", width = usize::from(decimals));
                prop_assert_eq!(wide.ok(), format!("0{digits}").parse::<i128>().ok(), "{}", text);
            }
        }
    }
}
