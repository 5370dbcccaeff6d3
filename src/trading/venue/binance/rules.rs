//! exchangeInfo -> what the venue demands of an order. Comes in: a REST body. Goes out: the rules of one instrument.
//! Always: unknown filters and fields pass; a filter that orders depend on is there and exact, or it is an error.
//!
//! Filters: filters.md. `LOT_SIZE` and `PRICE_FILTER` are demanded; a symbol with neither `NOTIONAL` nor
//! `MIN_NOTIONAL` has no smallest value.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::trading::domain::decimal::{DecimalError, parse_scaled};
use crate::trading::domain::instrument::Name;
use crate::trading::domain::{Instrument, Notional, Price, Qty, Rules};
use crate::trading::venue::DecodeError;

use super::parse::{Text, typed};
use super::symbols::name;

#[derive(Deserialize)]
struct ExchangeInfo<'a> {
    // Raw, because the full list has thousands and we want one.
    #[serde(borrow)]
    symbols: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    symbol: Text<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listing<'a> {
    // Coin-margined futures call it contractStatus.
    #[serde(borrow, alias = "contractStatus")]
    status: Text<'a>,
    #[serde(borrow)]
    base_asset: Text<'a>,
    #[serde(borrow)]
    quote_asset: Text<'a>,
    #[serde(borrow)]
    filters: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FilterType<'a> {
    #[serde(borrow)]
    filter_type: Text<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PriceFilter<'a> {
    #[serde(borrow)]
    min_price: Text<'a>,
    #[serde(borrow)]
    max_price: Text<'a>,
    #[serde(borrow)]
    tick_size: Text<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LotSize<'a> {
    #[serde(borrow)]
    min_qty: Text<'a>,
    #[serde(borrow)]
    max_qty: Text<'a>,
    #[serde(borrow)]
    step_size: Text<'a>,
}

#[derive(Deserialize)]
struct MinNotional<'a> {
    // Futures call it notional.
    #[serde(borrow, rename = "minNotional", alias = "notional")]
    min: Text<'a>,
}

/// The rules of `instrument` in an answer to exchangeInfo.
pub(super) fn decode(body: &[u8], instrument: &Instrument) -> Result<Rules, DecodeError> {
    let info: ExchangeInfo<'_> = typed(body, "exchangeInfo")?;
    for raw in info.symbols {
        let listing = raw.get().as_bytes();
        let named: Named<'_> = typed(listing, "exchangeInfo symbol")?;
        if *named.symbol == *instrument.symbol {
            return rules(listing, instrument);
        }
    }
    let what = format!("exchangeInfo does not list {}", instrument.symbol);
    Err(DecodeError::new(what, body))
}

fn rules(bytes: &[u8], instrument: &Instrument) -> Result<Rules, DecodeError> {
    let wrong = |what: String| DecodeError::new(format!("{}: {what}", instrument.symbol), bytes);
    let listing: Listing<'_> = typed(bytes, "exchangeInfo symbol")?;
    let (mut price, mut lot) = (None, None);
    let mut notional_min = Notional::ZERO;
    for raw in &listing.filters {
        let filter = raw.get().as_bytes();
        match &*typed::<FilterType<'_>>(filter, "filter")?.filter_type {
            "PRICE_FILTER" => price = Some(typed::<PriceFilter<'_>>(filter, "PRICE_FILTER")?),
            "LOT_SIZE" => lot = Some(typed::<LotSize<'_>>(filter, "LOT_SIZE")?),
            // Both may be there; an order must pass both.
            "NOTIONAL" | "MIN_NOTIONAL" => {
                let text = typed::<MinNotional<'_>>(filter, "NOTIONAL")?.min;
                let min = Notional::parse(text.as_bytes(), instrument.notional_decimals())
                    .map_err(|e| wrong(format!("minNotional {:?}: {e}", &*text)))?;
                notional_min = notional_min.max(min);
            }
            _ => {}
        }
    }
    let price = price.ok_or_else(|| wrong("no PRICE_FILTER".into()))?;
    let lot = lot.ok_or_else(|| wrong("no LOT_SIZE".into()))?;
    let number = |what: &str, text: &str, decimals| {
        parse_scaled(text.as_bytes(), decimals).map_err(|e| wrong(format!("{what} {text:?}: {e}")))
    };
    // A maximum that is too large to be expressed cannot be passed either.
    let most = |what: &str, text: &str, decimals| match parse_scaled(text.as_bytes(), decimals) {
        Err(DecimalError::TooLarge) => Ok(i64::MAX),
        _ => number(what, text, decimals),
    };
    let asset = |text: &str| -> Result<Name, DecodeError> {
        name(text).ok_or_else(|| wrong(format!("asset name {text:?} is too long")))
    };
    let (p, q) = (instrument.price_decimals, instrument.qty_decimals);
    Ok(Rules {
        base: asset(&listing.base_asset)?,
        quote: asset(&listing.quote_asset)?,
        tick: Price::from_units(number("tickSize", &price.tick_size, p)?),
        price_min: Price::from_units(number("minPrice", &price.min_price, p)?),
        price_max: Price::from_units(most("maxPrice", &price.max_price, p)?),
        lot: Qty::from_units(number("stepSize", &lot.step_size, q)?),
        qty_min: Qty::from_units(number("minQty", &lot.min_qty, q)?),
        qty_max: Qty::from_units(most("maxQty", &lot.max_qty, q)?),
        notional_min,
        trading: &*listing.status == "TRADING",
    })
}
