//! What the market data requests do, on REST and on the WebSocket API. In: the exchange, parameters, the time. Out: the
//! JSON of the answer, or the refusal with the documented code.

use crate::clock::UtcNs;

use super::api::{symbol, symbols};
use super::calls::Call;
use super::candles::Interval;
use super::exchange::Exchange;
use super::info;
use super::json::Json;
use super::listing::{Aggregate, Listing};
use super::refusal::{Answer, Refusal};
use super::request::Params;
use super::tickers::{self, Form, Statistics};
use super::wire;

/// Symbols that one statistics request may name.
const SYMBOLS_MAX: usize = 100;

/// Permissions that a symbol may ask for, by the documentation's enums.
const PERMISSIONS: [&str; 4] = ["SPOT", "MARGIN", "LEVERAGED", "TRD_GRP_"];

/// Does a market data request.
///
/// # Errors
/// The venue's refusal.
pub(super) fn execute(
    exchange: &mut Exchange,
    call: Call,
    params: &Params,
    utc: UtcNs,
) -> Answer<String> {
    for listing in &mut exchange.listings {
        listing.advance(utc);
    }
    match call {
        Call::ExchangeInfo => exchange_info(exchange, params, utc),
        Call::Depth => {
            let listing = one(exchange, params)?;
            Ok(wire::depth(listing, params.limit(100, 5_000)?))
        }
        Call::Trades | Call::HistoricalTrades => trades(exchange, params),
        Call::AggTrades => aggregates(exchange, params),
        Call::Klines | Call::UiKlines => candles(exchange, params),
        Call::AveragePrice => average(exchange, params, utc),
        Call::DayTicker => day_ticker(exchange, params, utc),
        Call::TradingDayTicker | Call::RollingTicker => window_ticker(exchange, call, params, utc),
        Call::PriceTicker | Call::BookTicker => latest(exchange, call, params),
        // The venue trades no blocks, keeps no reference price and has no rules beyond the filters.
        Call::BlockTrades => {
            one(exchange, params)?;
            params.need("fromId")?;
            params.long("fromId")?;
            params.limit(500, 1_000)?;
            Ok("[]".to_owned())
        }
        Call::ExecutionRules => execution_rules(exchange, params),
        _ => {
            one(exchange, params)?;
            Err(Refusal::new(-2043, "This symbol doesn't have a reference price."))
        }
    }
}

/// The status that symbols must have, if any was asked for.
fn wanted_status(params: &Params) -> Answer<Option<&str>> {
    match params.get("symbolStatus") {
        None => Ok(None),
        Some(status @ ("TRADING" | "HALT" | "BREAK")) => Ok(Some(status)),
        Some(_) => Err(Refusal::new(-1122, "Invalid symbolStatus.")),
    }
}

fn has_status(listing: &Listing, wanted: Option<&str>) -> bool {
    wanted.is_none_or(|wanted| wanted == listing.status)
}

fn mismatch() -> Refusal {
    Refusal::new(-1220, "The symbol's status does not match the requested symbolStatus.")
}

/// The listing of the mandatory parameter `symbol`.
fn one<'a>(exchange: &'a Exchange, params: &Params) -> Answer<&'a Listing> {
    let listing = &exchange.listings[symbol(exchange, params)?];
    if has_status(listing, wanted_status(params)?) { Ok(listing) } else { Err(mismatch()) }
}

/// The listings of a request about one, several or all symbols; whether the answer is a list.
fn several(exchange: &Exchange, params: &Params) -> Answer<(Vec<usize>, bool)> {
    let chosen = symbols(exchange, params)?;
    let wanted = wanted_status(params)?;
    let list = params.get("symbol").is_none();
    let mut chosen = chosen.unwrap_or_else(|| (0..exchange.listings.len()).collect());
    chosen.retain(|at| has_status(&exchange.listings[*at], wanted));
    if !list && chosen.is_empty() {
        return Err(mismatch());
    }
    Ok((chosen, list))
}

/// An object for one symbol, an array for a list.
fn answer(
    exchange: &Exchange,
    params: &Params,
    mut write: impl FnMut(&mut Json, &Listing),
) -> Answer<String> {
    let (chosen, list) = several(exchange, params)?;
    let mut json = Json::of(params.unit());
    if list {
        json.arr(|j| chosen.iter().for_each(|at| write(j, &exchange.listings[*at])));
    } else {
        chosen.iter().for_each(|at| write(&mut json, &exchange.listings[*at]));
    }
    Ok(json.finish())
}

fn exchange_info(exchange: &Exchange, params: &Params, utc: UtcNs) -> Answer<String> {
    let chosen = symbols(exchange, params)?;
    let beyond = params.get("permissions").is_some() || params.get("symbolStatus").is_some();
    if chosen.is_some() && beyond {
        return Err(Refusal::combination());
    }
    let (permitted, wanted) = (permitted(params)?, wanted_status(params)?);
    let chosen = chosen.unwrap_or_else(|| (0..exchange.listings.len()).collect());
    let chosen = chosen.iter().map(|at| &exchange.listings[*at]);
    let listings: Vec<&Listing> =
        chosen.filter(|listing| permitted && has_status(listing, wanted)).collect();
    let with_sets = params.flag("showPermissionSets", true)?;
    Ok(info::exchange_info(exchange, &listings, with_sets, params, utc))
}

/// Whether spot symbols have one of the permissions that were asked for.
fn permitted(params: &Params) -> Answer<bool> {
    let Some(text) = params.get("permissions") else { return Ok(true) };
    let names: Vec<String> = if text.starts_with('[') {
        serde_json::from_str(text).map_err(|_| Refusal::invalid("permissions"))?
    } else {
        vec![text.to_owned()]
    };
    let known = |name: &String| PERMISSIONS.iter().any(|known| name.starts_with(known));
    if names.is_empty() || !names.iter().all(known) {
        return Err(Refusal::invalid("permissions"));
    }
    Ok(names.iter().any(|name| name == "SPOT"))
}

fn execution_rules(exchange: &Exchange, params: &Params) -> Answer<String> {
    let sent = ["symbol", "symbols", "symbolStatus"].into_iter();
    if sent.filter(|name| params.get(name).is_some()).count() > 1 {
        return Err(Refusal::combination());
    }
    several(exchange, params)?;
    Ok(r#"{"symbolRules":[]}"#.to_owned())
}

fn trades(exchange: &Exchange, params: &Params) -> Answer<String> {
    let tape = one(exchange, params)?.tape();
    let limit = params.limit(500, 1_000)?;
    let begin = match params.long("fromId")? {
        Some(from) => tape.partition_point(|print| print.id < from),
        None => tape.len().saturating_sub(limit),
    };
    let prints = tape.range(begin..).take(limit);
    Ok(params.unit().array(|j| prints.for_each(|print| wire::trade(j, print))))
}

fn aggregates(exchange: &Exchange, params: &Params) -> Answer<String> {
    let all = one(exchange, params)?.aggregates();
    let limit = params.limit(500, 1_000)?;
    let from = params.long("fromId")?;
    let span = params.span()?;
    if from.is_some() && span.is_sent() {
        return Err(Refusal::combination());
    }
    let at = |a: &Aggregate| a.last.time.as_micros();
    let stop = span.end.map_or(all.len(), |end| all.partition_point(|a| at(a) <= end));
    let begin = match (from, span.start) {
        (Some(from), _) => all.partition_point(|a| a.id < from),
        (None, Some(start)) => all.partition_point(|a| at(a) < start),
        (None, None) => stop.saturating_sub(limit),
    };
    let unit = params.unit();
    Ok(unit.array(|j| {
        for aggregate in all.range(begin.min(stop)..stop).take(limit) {
            j.obj(|j| wire::aggregate_fields(j, aggregate, unit.of(aggregate.last.time)));
        }
    }))
}

fn candles(exchange: &Exchange, params: &Params) -> Answer<String> {
    let listing = one(exchange, params)?;
    let interval = Interval::named(params.need("interval")?)
        .ok_or_else(|| Refusal::new(-1120, "Invalid interval."))?;
    let offset = offset_ms(params)?;
    let span = params.span()?;
    let up = |us: i64| us.div_euclid(1_000) + i64::from(us.rem_euclid(1_000) > 0);
    let range = (span.start.map(up), span.end.map(|us| us.div_euclid(1_000)));
    let found = listing.history().candles(interval, offset, range, params.limit(500, 1_000)?);
    Ok(params.unit().array(|j| {
        for candle in &found {
            tickers::candle_array(j, candle, interval.next(candle.open_ms, offset));
        }
    }))
}

/// How far the clocks of `timeZone` are ahead of UTC: hours, or hours and minutes, from -12:00 to +14:00.
fn offset_ms(params: &Params) -> Answer<i64> {
    let Some(text) = params.get("timeZone") else { return Ok(0) };
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, minutes) = rest.split_once(':').unwrap_or((rest, "00"));
    let number = |text: &str, length: std::ops::RangeInclusive<usize>| {
        let digits = text.bytes().all(|b| b.is_ascii_digit()) && length.contains(&text.len());
        digits.then(|| text.parse::<i64>().ok()).flatten()
    };
    let offset = number(hours, 1..=2)
        .zip(number(minutes, 2..=2).filter(|minutes| *minutes < 60))
        .map(|(hours, minutes)| sign * (hours * 60 + minutes))
        .filter(|offset| (-12 * 60..=14 * 60).contains(offset));
    offset.map(|minutes| minutes * 60_000).ok_or_else(|| Refusal::invalid("timeZone"))
}

fn average(exchange: &Exchange, params: &Params, utc: UtcNs) -> Answer<String> {
    let (price, last) = tickers::average(one(exchange, params)?, utc);
    Ok(params.unit().object(|j| {
        j.f_int("mins", tickers::AVERAGE_MINS).f_dec("price", price).f_time("closeTime", last);
    }))
}

fn form(params: &Params, full: Form) -> Answer<Form> {
    match params.get("type") {
        None | Some("FULL") => Ok(full),
        Some("MINI") => Ok(Form::Mini),
        Some(_) => Err(Refusal::new(-1139, "Invalid ticker type.")),
    }
}

fn day_ticker(exchange: &Exchange, params: &Params, utc: UtcNs) -> Answer<String> {
    let form = form(params, Form::FullWithBook)?;
    answer(exchange, params, |j, listing| Statistics::day(listing, utc).write(j, listing, form))
}

fn window_ticker(exchange: &Exchange, call: Call, params: &Params, utc: UtcNs) -> Answer<String> {
    if params.get("symbol").is_none() && params.get("symbols").is_none() {
        return Err(Refusal::missing_either("symbol", "symbols"));
    }
    if symbols(exchange, params)?.is_some_and(|chosen| chosen.len() > SYMBOLS_MAX) {
        let msg = format!(
            "Too many values sent for parameter 'symbols', maximum allowed up to {SYMBOLS_MAX}."
        );
        return Err(Refusal::new(-1101, msg));
    }
    let form = form(params, Form::Full)?;
    let (offset, window) = (offset_ms(params)?, window_ms(params)?);
    answer(exchange, params, |j, listing| {
        let statistics = if call == Call::TradingDayTicker {
            Statistics::trading_day(listing, offset, utc)
        } else {
            Statistics::rolling(listing, window, utc)
        };
        statistics.write(j, listing, form);
    })
}

/// `windowSize`: 1m to 59m, 1h to 23h, 1d to 7d; a day when it was not sent.
fn window_ms(params: &Params) -> Answer<i64> {
    const MINUTE_MS: i64 = 60_000;
    let text = params.get("windowSize").unwrap_or("1d");
    let units = [("m", 59, MINUTE_MS), ("h", 23, 60 * MINUTE_MS), ("d", 7, 1_440 * MINUTE_MS)];
    let window = units.into_iter().find_map(|(unit, most, ms)| {
        let digits = text.strip_suffix(unit)?;
        let plain = digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0');
        let count: i64 = plain.then(|| digits.parse().ok()).flatten()?;
        (1..=most).contains(&count).then_some(count * ms)
    });
    window.ok_or_else(|| Refusal::invalid("windowSize"))
}

fn latest(exchange: &Exchange, call: Call, params: &Params) -> Answer<String> {
    answer(exchange, params, |j, listing| {
        if call == Call::BookTicker {
            wire::touch(j, listing);
        } else {
            j.obj(|j| {
                j.f_text("symbol", &listing.rules.symbol).f_dec("price", listing.last_price);
            });
        }
    })
}

/// What a market data request weighs.
pub(super) fn weight(call: Call, params: &Params) -> u32 {
    let listed = params.get("symbols").map(|list| 1 + list.matches(',').count());
    let named = match (params.get("symbol"), listed) {
        (Some(_), _) => Some(1),
        (None, listed) => listed,
    };
    let per_symbol = |each: usize, most: usize| {
        let all = named.map_or(most, |count| (each * count).min(most));
        u32::try_from(all).unwrap_or(u32::MAX)
    };
    match call {
        Call::ExchangeInfo => 20,
        Call::Depth => match params.get("limit").and_then(|l| l.parse::<u64>().ok()) {
            None | Some(0..=100) => 5,
            Some(101..=500) => 25,
            Some(501..=1_000) => 50,
            Some(_) => 250,
        },
        Call::Trades | Call::HistoricalTrades | Call::BlockTrades => 25,
        Call::AggTrades => 4,
        Call::DayTicker => match named {
            Some(0..=20) => 2,
            Some(21..=100) => 40,
            _ => 80,
        },
        Call::TradingDayTicker | Call::RollingTicker => per_symbol(4, 200),
        Call::ExecutionRules => per_symbol(2, 40),
        Call::PriceTicker | Call::BookTicker => 2 + 2 * u32::from(params.get("symbol").is_none()),
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn zone(text: &str, expect: Option<i64>) {
        let params = Params::from_form(&format!("timeZone={text}"), "").expect("no duplicates");
        assert_eq!(offset_ms(&params).ok().map(|ms| ms / 60_000), expect, "{text}");
    }

    #[test]
    fn time_zones() {
        zone("0", Some(0));
        zone("8", Some(480));
        zone("-1:00", Some(-60));
        zone("05:45", Some(345));
        zone("-12:00", Some(-720));
        zone("14:00", Some(840));
        zone("14:01", None);
        zone("-12:01", None);
        zone("x", None);
        zone("1:5", None);
        zone("999999999999999999999", None);
    }

    #[track_caller]
    fn window(text: &str, expect: Option<i64>) {
        let params = Params::from_form(&format!("windowSize={text}"), "").expect("no duplicates");
        assert_eq!(window_ms(&params).ok().map(|ms| ms / 60_000), expect, "{text}");
    }

    #[test]
    fn windows() {
        window("", Some(1_440));
        window("59m", Some(59));
        window("60m", None);
        window("23h", Some(1_380));
        window("7d", Some(10_080));
        window("8d", None);
        window("0m", None);
        window("1d2h", None);
        window("m", None);
    }

    #[track_caller]
    fn weighs(call: Call, query: &str, expect: u32) {
        let params = Params::from_form(query, "").expect("no duplicates");
        assert_eq!(weight(call, &params), expect, "{call:?} {query}");
    }

    #[test]
    fn weights_of_the_documentation() {
        weighs(Call::Depth, "", 5);
        weighs(Call::Depth, "limit=100", 5);
        weighs(Call::Depth, "limit=101", 25);
        weighs(Call::Depth, "limit=501", 50);
        weighs(Call::Depth, "limit=99999", 250);
        weighs(Call::DayTicker, "symbol=A", 2);
        weighs(Call::DayTicker, "", 80);
        weighs(Call::DayTicker, "symbols=[A,B]", 2);
        weighs(Call::DayTicker, &format!("symbols={}", "A,".repeat(20)), 40);
        weighs(Call::RollingTicker, "symbols=[A,B]", 8);
        weighs(Call::RollingTicker, &format!("symbols={}", "A,".repeat(60)), 200);
        weighs(Call::PriceTicker, "symbol=A", 2);
        weighs(Call::BookTicker, "", 4);
        weighs(Call::Klines, "symbol=A", 2);
    }
}
