//! What each request does. In: a call with its parameters and whose it is. Out: the JSON of the answer, or the
//! venue's refusal; what accounts are to be told lies in [`Exchange::reports`].

use crate::clock::UtcNs;

use super::calls::Call;
use super::exchange::Exchange;
use super::market_calls;
use super::private;
use super::refusal::{Answer, Refusal};
use super::request::Params;

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
        Call::Time => Ok(params.unit().object(|j| {
            j.f_time("serverTime", utc);
        })),
        Call::ExchangeInfo
        | Call::Depth
        | Call::Trades
        | Call::HistoricalTrades
        | Call::AggTrades
        | Call::BlockTrades
        | Call::Klines
        | Call::UiKlines
        | Call::AveragePrice
        | Call::DayTicker
        | Call::TradingDayTicker
        | Call::RollingTicker
        | Call::PriceTicker
        | Call::BookTicker
        | Call::ReferencePrice
        | Call::ReferencePriceSource
        | Call::ExecutionRules => market_calls::execute(exchange, call, params, utc),
        _ => {
            let account =
                account.ok_or_else(|| Refusal::unauthorized(-2014, "API-key format invalid."))?;
            private::execute(exchange, call, account, params, utc)
        }
    }
}

fn check_symbol_text(name: &str, text: &str) -> Answer<()> {
    // Names beyond ASCII are legal, and none is listed here.
    let legal = |c: char| {
        c.is_ascii_uppercase() || c.is_ascii_digit() || "-_.".contains(c) || !c.is_ascii()
    };
    if text.chars().count() > 20 || !text.chars().all(legal) {
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
pub(super) fn symbols(exchange: &Exchange, params: &Params) -> Answer<Option<Vec<usize>>> {
    match (params.get("symbol"), params.get("symbols")) {
        (Some(_), Some(_)) => Err(Refusal::combination()),
        (Some(_), None) => Ok(Some(vec![symbol(exchange, params)?])),
        (None, Some(list)) => {
            let range = r#"^\["[A-Z0-9-_.]{1,20}"(,"[A-Z0-9-_.]{1,20}"){0,}\]$"#;
            let names: Vec<String> = serde_json::from_str(list).unwrap_or_default();
            if names.is_empty() {
                return Err(Refusal::illegal("symbols", range));
            }
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
