//! What a venue keeps from one life to the next: balances, orders, fills and the numbers that must not come again. In:
//! an exchange. Out: a versioned file, written whole or not at all, and an exchange that goes on where it was.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::exchange::Exchange;
use super::listing::Liquidity;
use super::matching::{Book, Owner};
use super::order::{Fill, Order};

/// Files of another version are refused.
const VERSION: u32 = 1;

/// One account.
#[derive(Debug, Serialize, Deserialize)]
struct SavedAccount {
    name: String,
    /// Asset, free, locked, free at the very start.
    holdings: Vec<(String, i128, i128, i128)>,
    orders: Vec<Order>,
    fills: Vec<Fill>,
}

/// One symbol.
#[derive(Debug, Serialize, Deserialize)]
struct SavedListing {
    symbol: String,
    last_price: i64,
    update_id: u64,
    next_trade_id: u64,
}

/// A venue between two lives.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    version: u32,
    accounts: Vec<SavedAccount>,
    symbols: Vec<SavedListing>,
    /// Asset, fees taken, what the market gained.
    totals: Vec<(String, i128, i128)>,
    /// The next order, event, prevented match and arriving order.
    next: [u64; 4],
}

impl Saved {
    pub(super) fn of(exchange: &Exchange) -> Self {
        let accounts = exchange.accounts.iter().map(|account| SavedAccount {
            name: account.name.clone(),
            holdings: exchange
                .assets
                .iter()
                .zip(&account.holdings)
                .map(|(asset, h)| (asset.clone(), h.free, h.locked, h.initial))
                .collect(),
            orders: account.orders().cloned().collect(),
            fills: account.fills().iter().cloned().collect(),
        });
        let symbols = exchange.listings.iter().map(|listing| SavedListing {
            symbol: listing.rules.symbol.clone(),
            last_price: listing.last_price,
            update_id: listing.update_id(),
            next_trade_id: listing.next_trade_id(),
        });
        let totals = exchange.assets.iter().enumerate();
        let totals =
            totals.map(|(at, name)| (name.clone(), exchange.fees[at], exchange.market_gain[at]));
        Self {
            version: VERSION,
            accounts: accounts.collect(),
            symbols: symbols.collect(),
            totals: totals.collect(),
            next: exchange.numbers(),
        }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read, or is none of ours, or of another version.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let named = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        let bytes = std::fs::read(path).map_err(|e| named(&e))?;
        let saved: Self = serde_json::from_slice(&bytes).map_err(|e| named(&e))?;
        if saved.version != VERSION {
            return Err(named(&format!("version {}, expected {VERSION}", saved.version)));
        }
        Ok(saved)
    }

    /// Writes a file: beside it first, so that it is there whole or as it was before.
    ///
    /// # Errors
    /// What the system refused.
    pub(super) fn write(&self, path: &Path) -> Result<(), String> {
        let beside = path.with_extension("part");
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&beside)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.sync_all()?;
            std::fs::rename(&beside, path)
        };
        write().map_err(|e| format!("{}: {e}", path.display()))
    }

    /// Puts everything into a fresh exchange.
    ///
    /// # Errors
    /// A symbol, an account or an asset that the exchange does not have.
    pub(super) fn restore(self, exchange: &mut Exchange) -> Result<(), String> {
        let names = exchange.listings.iter().map(|l| l.rules.symbol.as_str());
        if !names.eq(self.symbols.iter().map(|s| s.symbol.as_str())) {
            let saved: Vec<&str> = self.symbols.iter().map(|s| s.symbol.as_str()).collect();
            return Err(format!("it was saved with the symbols {}", saved.join(",")));
        }
        for (listing, saved) in exchange.listings.iter_mut().zip(&self.symbols) {
            (listing.last_price, listing.rules.mid) = (saved.last_price, saved.last_price);
            listing.set_next_trade_id(saved.next_trade_id);
            if matches!(listing.liquidity, Liquidity::Live(_)) {
                listing.liquidity = Liquidity::Live(Book::new(saved.update_id + 1));
            }
        }
        for (name, fees, gain) in &self.totals {
            let at = asset(exchange, name)?;
            (exchange.fees[at], exchange.market_gain[at]) = (*fees, *gain);
        }
        exchange.set_numbers(self.next);
        self.accounts.into_iter().try_for_each(|account| restore_account(exchange, account))
    }
}

fn asset(exchange: &Exchange, name: &str) -> Result<usize, String> {
    let at = exchange.assets.iter().position(|a| a == name);
    at.ok_or_else(|| format!("asset {name}: nothing here has it"))
}

fn restore_account(exchange: &mut Exchange, saved: SavedAccount) -> Result<(), String> {
    let at = exchange.accounts.iter().position(|a| a.name == saved.name);
    let at = at.ok_or_else(|| format!("account {}: there is none here", saved.name))?;
    for (name, free, locked, initial) in &saved.holdings {
        let holding = asset(exchange, name)?;
        let holding = &mut exchange.accounts[at].holdings[holding];
        (holding.free, holding.locked, holding.initial) = (*free, *locked, *initial);
    }
    for mut order in saved.orders {
        if order.asked.symbol >= exchange.listings.len() {
            return Err(format!("order {}: of no symbol", order.id));
        }
        order.account = at;
        if order.is_waiting() {
            exchange.await_stop(&order);
        } else if order.status.is_open() {
            rest(exchange, &order);
        }
        exchange.accounts[at].insert(order);
    }
    for fill in saved.fills {
        exchange.accounts[at].push_fill(fill);
    }
    Ok(())
}

fn rest(exchange: &mut Exchange, order: &Order) {
    let (side, price, left) = (order.asked.side, order.asked.price, order.remaining());
    let owner = Owner::Account { account: order.account, order: order.id };
    match &mut exchange.listings[order.asked.symbol].liquidity {
        Liquidity::Live(book) => book.rest_iceberg(owner, side, price, left, order.shown()),
        Liquidity::Recorded(recorded) => recorded.rest(order.account, order.id, side, price, left),
    }
}
