//! What each request does. In: a call with its parameters and whose it is. Out: the JSON of the answer, or the
//! venue's refusal; what accounts are to be told lies in [`Exchange::reports`].

use crate::clock::UtcNs;

use super::calls::Call;
use super::exchange::Exchange;
use super::json::Json;
use super::listing::Listing;
use super::private;
use super::refusal::{Answer, Refusal};
use super::request::Params;
use super::wire;

/// Does a call that needs no connection. `account` is whose it is, for those that need one.
///
/// # Errors
/// The venue's refusal.
pub fn execute(
    exchange: &mut Exchange,
    call: Call,
    account: Option<usize>,
    params: &Params,
    utc: UtcNs,
) -> Answer<String> {
    match call {
        Call::Ping => Ok("{}".to_owned()),
        Call::Time => Ok(Json::object(|j| {
            j.f_int("serverTime", utc.as_millis());
        })),
        Call::ExchangeInfo => exchange_info(exchange, params, utc),
        Call::Depth => {
            let symbol = symbol(exchange, params)?;
            Ok(wire::depth(&exchange.listings[symbol], params.limit(100, 5_000)?))
        }
        Call::Trades | Call::HistoricalTrades | Call::AggTrades => trades(exchange, call, params),
        Call::PriceTicker | Call::BookTicker => ticker(exchange, call, params),
        _ => {
            let account =
                account.ok_or_else(|| Refusal::unauthorized(-2014, "API-key format invalid."))?;
            private::execute(exchange, call, account, params, utc)
        }
    }
}

fn check_symbol_text(name: &str, text: &str) -> Answer<()> {
    let legal = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b"-_.".contains(&b);
    if text.len() > 20 || !text.bytes().all(legal) {
        return Err(Refusal::illegal(name, "^[A-Z0-9-_.]{1,20}$"));
    }
    Ok(())
}

fn find_symbol(exchange: &Exchange, text: &str) -> Answer<usize> {
    let found = exchange.listings.iter().position(|l| l.rules.symbol == text);
    found.ok_or_else(Refusal::symbol)
}

pub(super) fn symbol(exchange: &Exchange, params: &Params) -> Answer<usize> {
    let text = params.need("symbol")?;
    check_symbol_text("symbol", text)?;
    find_symbol(exchange, text)
}

/// The listings that `symbol` or `symbols` name; `None` when neither was sent.
fn symbols(exchange: &Exchange, params: &Params) -> Answer<Option<Vec<usize>>> {
    match (params.get("symbol"), params.get("symbols")) {
        (Some(_), Some(_)) => Err(Refusal::combination()),
        (Some(_), None) => Ok(Some(vec![symbol(exchange, params)?])),
        (None, Some(list)) => {
            let names: Vec<String> = serde_json::from_str(list).map_err(|_| {
                Refusal::illegal(
                    "symbols",
                    r#"^\["[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}\]$"#,
                )
            })?;
            let mut found = Vec::new();
            for name in &names {
                check_symbol_text("symbols", name)?;
                let at = find_symbol(exchange, name)?;
                if found.contains(&at) {
                    return Err(Refusal::new(
                        -1151,
                        "Symbol is present multiple times in the list.",
                    ));
                }
                found.push(at);
            }
            Ok(Some(found))
        }
        (None, None) => Ok(None),
    }
}

fn exchange_info(exchange: &Exchange, params: &Params, utc: UtcNs) -> Answer<String> {
    let chosen = symbols(exchange, params)?;
    let all = 0..exchange.listings.len();
    let chosen = chosen.unwrap_or_else(|| all.collect());
    let permissions = params.get("permissions").is_none_or(|p| p.contains("SPOT"));
    let trading = params.get("symbolStatus").is_none_or(|s| s == "TRADING");
    let listings: Vec<&Listing> = chosen
        .iter()
        .filter(|_| permissions && trading)
        .map(|at| &exchange.listings[*at])
        .collect();
    Ok(wire::exchange_info(
        &exchange.limits,
        &listings,
        params.flag("showPermissionSets", true)?,
        utc,
    ))
}

fn trades(exchange: &Exchange, call: Call, params: &Params) -> Answer<String> {
    let listing = &exchange.listings[symbol(exchange, params)?];
    let limit = params.limit(500, 1_000)?;
    let from = params.long("fromId")?;
    if call == Call::AggTrades {
        let all = wire::aggregate(listing.tape().iter().copied());
        let kept: Vec<&wire::Aggregate> =
            all.iter().filter(|a| from.is_none_or(|from| a.id >= from)).collect();
        let skip = if from.is_some() { 0 } else { kept.len().saturating_sub(limit) };
        return Ok(Json::array(|j| {
            for aggregate in kept.iter().skip(skip).take(limit) {
                j.obj(|j| wire::aggregate_fields(j, aggregate, aggregate.last.time.as_millis()));
            }
        }));
    }
    let kept = || listing.tape().iter().filter(|p| from.is_none_or(|from| p.id >= from));
    let skip = if from.is_some() { 0 } else { kept().count().saturating_sub(limit) };
    Ok(Json::array(|j| {
        for print in kept().skip(skip).take(limit) {
            wire::trade(j, print);
        }
    }))
}

fn ticker(exchange: &Exchange, call: Call, params: &Params) -> Answer<String> {
    let write = |j: &mut Json, at: usize| {
        let listing = &exchange.listings[at];
        if call == Call::BookTicker {
            wire::touch(j, listing);
        } else {
            j.obj(|j| {
                j.f_text("symbol", &listing.rules.symbol).f_dec("price", listing.last_price);
            });
        }
    };
    if params.get("symbol").is_some() && params.get("symbols").is_none() {
        let mut json = Json::new();
        write(&mut json, symbol(exchange, params)?);
        return Ok(json.finish());
    }
    let chosen = symbols(exchange, params)?;
    let chosen = chosen.unwrap_or_else(|| (0..exchange.listings.len()).collect());
    Ok(Json::array(|j| chosen.iter().for_each(|at| write(j, *at))))
}
