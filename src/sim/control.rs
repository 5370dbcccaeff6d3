//! `/sim/state`: the truth that a test compares an engine with, as JSON.

use super::exchange::{Exchange, Liquidity};
use super::json::Json;
use super::wire;

/// Orders and fills shown per account when the request names no limit.
pub const HISTORY_SHOWN: usize = 10_000;

/// Writes accounts, symbols and sequence numbers into an open object; at most `limit` orders and fills per account.
pub fn exchange(j: &mut Json, exchange: &Exchange, limit: usize) {
    j.key("accounts").arr(|j| {
        for account in 0..exchange.accounts.len() {
            j.obj(|j| one_account(j, exchange, account, limit));
        }
    });
    j.key("symbols").arr(|j| {
        for listing in &exchange.listings {
            let top = listing.top();
            j.obj(|j| {
                j.f_text("symbol", &listing.rules.symbol)
                    .f_int("lastUpdateId", listing.update_id())
                    .f_dec("last_price", listing.last_price)
                    .f_int("next_trade_id", listing.next_trade_id());
                for (name, qty_name, level) in
                    [("bid", "bid_qty", top.bid), ("ask", "ask_qty", top.ask)]
                {
                    if let Some((price, qty)) = level {
                        j.f_dec(name, price).f_dec(qty_name, qty);
                    }
                }
                if let Liquidity::Recorded(recorded) = &listing.liquidity {
                    j.f_int("recording_gaps", recorded.gaps);
                }
            });
        }
    });
    j.key("totals").arr(|j| {
        for (at, asset) in exchange.assets.iter().enumerate() {
            j.obj(|j| {
                j.f_text("asset", asset)
                    .f_dec("fees", exchange.fees[at])
                    .f_dec("market_gain", exchange.market_gain[at]);
            });
        }
    });
    let (order, exec, _) = exchange.sequences();
    j.key("sequences").obj(|j| {
        j.f_int("next_order_id", order).f_int("next_execution_id", exec);
    });
}

fn one_account(j: &mut Json, exchange: &Exchange, at: usize, limit: usize) {
    let account = &exchange.accounts[at];
    j.f_text("name", &account.name);
    j.key("balances").arr(|j| {
        for (asset, held) in exchange.assets.iter().zip(&account.holdings) {
            j.obj(|j| {
                j.f_text("asset", asset)
                    .f_dec("free", held.free)
                    .f_dec("locked", held.locked)
                    .f_dec("total", held.free + held.locked)
                    .f_dec("initial", held.initial);
            });
        }
    });
    j.key("positions").arr(|j| {
        for listing in &exchange.listings {
            let held = account.holdings[listing.base];
            j.obj(|j| {
                j.f_text("symbol", &listing.rules.symbol)
                    .f_dec("qty", held.free + held.locked - held.initial);
            });
        }
    });
    j.key("open_orders").arr(|j| {
        for order in account.open_orders() {
            wire::order(j, &exchange.listings[order.asked.symbol], order);
        }
    });
    let (orders, fills) = (account.orders().count(), account.fills().len());
    j.f_int("orders_total", orders as u64 + account.forgotten_orders)
        .f_int("fills_total", fills as u64 + account.forgotten_fills);
    j.key("orders").arr(|j| {
        for order in account.orders().skip(orders.saturating_sub(limit)) {
            wire::order(j, &exchange.listings[order.asked.symbol], order);
        }
    });
    j.key("fills").arr(|j| {
        for fill in account.fills().iter().skip(fills.saturating_sub(limit)) {
            wire::my_trade(j, exchange, fill);
        }
    });
}
