//! Files of the simulated venue. In: a TOML file of accounts, or of several venues. Out: settings, each venue with
//! the address it listens on. Secrets here are play money's; still none is ever part of an error.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::sim::json::parse_decimal;
use crate::sim::limits::RateLimits;
use crate::sim::settings::{
    AccountSettings, HISTORY, MarketSettings, Secret, SymbolSettings, VenueSettings,
};

/// Venues in one process.
const VENUES_MAX: usize = 16;

/// An account as a file describes it.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountEntry {
    name: String,
    api_key: String,
    /// The HMAC secret.
    secret: Option<String>,
    /// An Ed25519 public key: PEM text, or the file that has it.
    ed25519_public: Option<String>,
    /// An RSA public key: PEM text, or the file that has it.
    rsa_public: Option<String>,
    /// Plenty of everything when absent.
    balances: Option<std::collections::BTreeMap<String, String>>,
    /// The venue's when absent.
    fees: Option<Fees>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountsFile {
    account: Vec<AccountEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VenuesFile {
    /// Fair prices of all venues; the first venue's seed when absent.
    market_seed: Option<u64>,
    /// Accounts that every venue has which names none.
    #[serde(default)]
    account: Vec<AccountEntry>,
    venue: Vec<VenueEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VenueEntry {
    name: String,
    listen: SocketAddr,
    #[serde(default = "one")]
    seed: u64,
    symbols: Vec<String>,
    #[serde(default)]
    fees: Fees,
    #[serde(default)]
    latency_ms: u64,
    #[serde(default)]
    drift_bps: u32,
    #[serde(default = "fifty")]
    updates_per_s: u32,
    #[serde(default)]
    accounts: Vec<AccountEntry>,
    /// MAX_POSITION by symbol.
    #[serde(default)]
    max_position: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    limits: Limits,
    /// Orders that are not open, and fills, that each account remembers.
    #[serde(default = "history")]
    history: usize,
    save: Option<PathBuf>,
    restore: Option<PathBuf>,
}

/// Fees in basis points of the received asset.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fees {
    maker_bps: f64,
    taker_bps: f64,
}

impl Default for Fees {
    fn default() -> Self {
        Self { maker_bps: 10.0, taker_bps: 10.0 }
    }
}

impl Fees {
    /// Maker and taker in millionths.
    fn ppm(self) -> Result<(u32, u32), String> {
        let ppm = |bps: f64| {
            let legal = (0.0..=1_000.0).contains(&bps);
            legal
                .then(|| (bps * 100.0).round() as u32)
                .ok_or("fees: expected 0 to 1000 basis points")
        };
        Ok((ppm(self.maker_bps)?, ppm(self.taker_bps)?))
    }
}

/// What is allowed per window; the real venue's numbers where absent.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Limits {
    weight_per_minute: Option<u32>,
    orders_per_10s: Option<u32>,
    orders_per_day: Option<u32>,
}

fn history() -> usize {
    HISTORY
}

fn one() -> u64 {
    1
}

fn fifty() -> u32 {
    50
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    // The message alone: the whole error quotes the line, which may hold a secret.
    toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
        format!("{}:{line}: {}", path.display(), e.message())
    })
}

/// The accounts of `path` for a venue that trades `symbols`.
///
/// # Errors
/// A file that cannot be read, or is none of accounts.
pub(super) fn accounts(
    path: &Path,
    symbols: &[SymbolSettings],
) -> Result<Vec<AccountSettings>, String> {
    let file: AccountsFile = read(path)?;
    let made: Result<Vec<_>, String> = file.account.iter().map(|a| a.settings(symbols)).collect();
    unique(made.map_err(|why| format!("{}: {why}", path.display()))?)
}

fn unique(accounts: Vec<AccountSettings>) -> Result<Vec<AccountSettings>, String> {
    for (at, account) in accounts.iter().enumerate() {
        let same = |a: &AccountSettings| a.name == account.name || a.api_key == account.api_key;
        if accounts[..at].iter().any(same) {
            return Err(format!(
                "account {}: its name or its api_key is there twice",
                account.name
            ));
        }
    }
    if accounts.is_empty() {
        Err("account: expected at least one".to_owned())
    } else {
        Ok(accounts)
    }
}

impl AccountEntry {
    fn settings(&self, symbols: &[SymbolSettings]) -> Result<AccountSettings, String> {
        let name = &self.name;
        let pem = |key: &str, what: &str| {
            if key.contains("-----BEGIN") {
                return Ok(key.to_owned());
            }
            std::fs::read_to_string(key).map_err(|e| format!("account {name}: {what} {key}: {e}"))
        };
        let secret = match (&self.secret, &self.ed25519_public, &self.rsa_public) {
            (Some(secret), None, None) => Secret::Hmac(secret.clone()),
            (None, Some(key), None) => Secret::Ed25519Public(pem(key, "ed25519_public")?),
            (None, None, Some(key)) => Secret::RsaPublic(pem(key, "rsa_public")?),
            _ => {
                let one = "one of secret, ed25519_public and rsa_public";
                return Err(format!("account {name}: expected {one}"));
            }
        };
        let mut account = AccountSettings::rich(name, &self.api_key, secret, symbols);
        if let Some(balances) = &self.balances {
            account.balances = balances
                .iter()
                .map(|(asset, amount)| {
                    let units = parse_decimal(amount);
                    let units = units.ok_or_else(|| format!("account {name}: {asset} {amount}"))?;
                    Ok((asset.clone(), units))
                })
                .collect::<Result<_, String>>()?;
        }
        if let Some(fees) = self.fees {
            account.fees_ppm = Some(fees.ppm().map_err(|why| format!("account {name}: {why}"))?);
        }
        Ok(account)
    }
}

impl VenueEntry {
    fn settings(&self, file: &VenuesFile) -> Result<VenueSettings, String> {
        let symbols = self.symbols.iter().map(String::as_str);
        let mut settings = VenueSettings::synthetic(symbols, self.seed)?;
        let entries = if self.accounts.is_empty() { &file.account } else { &self.accounts };
        if !entries.is_empty() {
            let made = entries.iter().map(|a| a.settings(&settings.symbols));
            settings.accounts = unique(made.collect::<Result<_, String>>()?)?;
        }
        if let MarketSettings::Synthetic { updates_per_s, .. } = &mut settings.market {
            *updates_per_s = self.updates_per_s;
        }
        (settings.maker_fee_ppm, settings.taker_fee_ppm) = self.fees.ppm()?;
        for (symbol, most) in &self.max_position {
            let known = settings.symbols.iter_mut().find(|s| s.symbol == *symbol);
            let known = known.ok_or_else(|| format!("max_position: {symbol} is not traded"))?;
            let most = parse_decimal(most).filter(|most| *most > 0);
            known.max_position = Some(most.ok_or_else(|| format!("max_position: {symbol}"))?);
        }
        settings.name.clone_from(&self.name);
        settings.market_seed =
            file.market_seed.or_else(|| Some(file.venue.first()?.seed)).unwrap_or(self.seed);
        settings.drift_bps = self.drift_bps;
        settings.latency = Duration::from_millis(self.latency_ms);
        let usual = settings.limits;
        settings.limits = RateLimits {
            weight_per_minute: self.limits.weight_per_minute.unwrap_or(usual.weight_per_minute),
            orders_per_10s: self.limits.orders_per_10s.unwrap_or(usual.orders_per_10s),
            orders_per_day: self.limits.orders_per_day.unwrap_or(usual.orders_per_day),
        };
        settings.history = self.history;
        settings.save.clone_from(&self.save);
        settings.restore.clone_from(&self.restore);
        Ok(settings)
    }
}

/// The venues of `path`, each with the address it listens on.
///
/// # Errors
/// A file that cannot be read, or describes no venues.
pub(super) fn venues(path: &Path) -> Result<Vec<(SocketAddr, VenueSettings)>, String> {
    let file: VenuesFile = read(path)?;
    if file.venue.is_empty() || file.venue.len() > VENUES_MAX {
        return Err(format!("{}: expected 1 to {VENUES_MAX} venues", path.display()));
    }
    let mut made = Vec::new();
    for (at, venue) in file.venue.iter().enumerate() {
        let named = |why: &str| format!("{}: venue {}: {why}", path.display(), venue.name);
        if file.venue[..at].iter().any(|v| v.name == venue.name) {
            return Err(named("its name is there twice"));
        }
        made.push((venue.listen, venue.settings(&file).map_err(|why| named(&why))?));
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("venues.toml");
        std::fs::write(&path, text).expect("room");
        (dir, path)
    }

    const TWO: &str = r#"
        market_seed = 7
        [[account]]
        name = "main"
        api_key = "k"
        secret = "hidden-word"
        balances = { BTC = "1.5", USDT = "1000" }
        fees = { maker_bps = 0, taker_bps = 2.5 }
        [[venue]]
        name = "east"
        listen = "127.0.0.1:0"
        symbols = ["BTCUSDT"]
        latency_ms = 3
        drift_bps = 8
        fees = { maker_bps = 1.5, taker_bps = 4 }
        max_position = { BTCUSDT = "10" }
        limits = { orders_per_10s = 20000 }
        history = 500
        [[venue]]
        name = "west"
        listen = "127.0.0.1:0"
        seed = 2
        symbols = ["BTCUSDT", "ETHUSDT"]
    "#;

    #[test]
    fn two_venues_share_a_market_seed() {
        let (_dir, path) = file(TWO);
        let made = venues(&path).expect("two venues");
        let (east, west) = (&made[0].1, &made[1].1);
        assert_eq!((east.market_seed, west.market_seed, west.seed), (7, 7, 2));
        assert_eq!((east.maker_fee_ppm, east.taker_fee_ppm, east.drift_bps), (150, 400, 8));
        assert_eq!(east.latency, Duration::from_millis(3));
        assert_eq!((east.accounts[0].fees_ppm, west.maker_fee_ppm), (Some((0, 250)), 1_000));
        assert_eq!(east.symbols[0].max_position, Some(1_000_000_000));
        assert_eq!((east.limits.orders_per_10s, east.history), (20_000, 500));
        assert_eq!((west.limits, west.history), (RateLimits::default(), HISTORY));
        let usdt = west.accounts[0].balances.iter().find(|(asset, _)| asset == "USDT");
        assert_eq!(usdt.map(|(_, units)| *units), Some(100_000_000_000));
    }

    #[track_caller]
    fn refused(text: &str, why: &str) {
        let (_dir, path) = file(text);
        let error = venues(&path).expect_err("refused");
        assert!(error.contains(why) && !error.contains("hidden-word"), "{error}");
    }

    #[test]
    fn mistakes_are_named() {
        refused(&TWO.replace("latency_ms", "latency"), "latency_ms");
        refused(&TWO.replace("west", "east"), "twice");
        refused(&TWO.replace("\"k\"", "5"), "string");
        refused(&TWO.replace("ETHUSDT", "ETHNONE"), "ETHNONE");
        refused(&TWO.replace("1.5\"", "x\""), "BTC x");
        refused(&TWO.replace("taker_bps = 2.5", "taker_bps = 1001"), "basis points");
        refused(&TWO.replace("BTCUSDT = \"10\"", "BNBUSDT = \"10\""), "BNBUSDT");
        refused("", "venue");
    }
}
