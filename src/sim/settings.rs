//! What the venue is made of: symbols, accounts, market and fees. Comes from the command line or a preset, goes to
//! [`crate::sim::venue::Venue`]. Secrets never show in `Debug`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::limits::RateLimits;
use super::recording::symbol_of;

/// Units per whole: every price, quantity and balance of the venue is a count of `10^-8`.
pub const ONE: i64 = 100_000_000;

/// Orders and fills that an account remembers unless told otherwise: about 16 MB when both are full, and at the real
/// venue's limits half an hour of orders without a pause.
pub const HISTORY: usize = 20_000;

/// Everything that a venue needs to know before it starts.
#[derive(Clone, Debug)]
pub struct VenueSettings {
    /// What is traded, in the order of exchangeInfo.
    pub symbols: Vec<SymbolSettings>,
    /// Decides every random choice: same seed and same inputs give the same outputs.
    pub seed: u64,
    /// Who may trade.
    pub accounts: Vec<AccountSettings>,
    /// Where liquidity comes from.
    pub market: MarketSettings,
    /// Fee of the resting side, in millionths of the received asset.
    pub maker_fee_ppm: u32,
    /// Fee of the taking side, in millionths of the received asset.
    pub taker_fee_ppm: u32,
    /// Added before every answer and every frame.
    pub latency: Duration,
    /// Request weight and order counts, as told in exchangeInfo and enforced.
    pub limits: RateLimits,
    /// How many orders, and how many fills, each account remembers; beyond, the oldest orders that are not open go,
    /// and the oldest fills. It bounds what the venue needs of memory.
    pub history: usize,
    /// Shown in `/sim/state`.
    pub name: String,
    /// Decides the fair prices: venues of the same market seed trade around the same ones.
    pub market_seed: u64,
    /// How far this venue's prices wander from the fair ones, as a standard deviation, in basis points.
    pub drift_bps: u32,
    /// What connections may do.
    pub connections: ConnectionLimits,
    /// Where the accounts are saved when the venue stops.
    pub save: Option<PathBuf>,
    /// Where the accounts come from.
    pub restore: Option<PathBuf>,
}

/// What WebSocket connections may do; the venue's documentation, "General WSS information".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// How long one lives.
    pub life: Duration,
    /// How many one address may make in five minutes. The venue allows 300; on loopback all clients have the
    /// same, so the default is more.
    pub connects_max: usize,
    /// Bytes that may wait for a client before it is dropped as one that does not read.
    pub unread_bytes_max: usize,
    /// How often a client is pinged.
    pub ping_every: Duration,
    /// How long a client has for its pong.
    pub pong_deadline: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            life: Duration::from_secs(24 * 3_600),
            connects_max: 10_000,
            unread_bytes_max: 4 * 1024 * 1024,
            ping_every: Duration::from_secs(20),
            pong_deadline: Duration::from_secs(60),
        }
    }
}

/// One symbol and its filters; numbers in units of `10^-8`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymbolSettings {
    /// Such as `BTCUSDT`.
    pub symbol: String,
    /// The asset that is bought and sold.
    pub base: String,
    /// The asset that it is paid with.
    pub quote: String,
    /// Smallest price step (PRICE_FILTER).
    pub tick: i64,
    /// Smallest quantity step and smallest order (LOT_SIZE).
    pub lot: i64,
    /// Smallest price times quantity (NOTIONAL).
    pub min_notional: i64,
    /// Where the synthetic market begins.
    pub mid: i64,
    /// The most that an account may hold of the base asset, with what its open orders buy (MAX_POSITION); no such
    /// filter for `None`.
    pub max_position: Option<i64>,
}

/// One account.
#[derive(Clone, Debug)]
pub struct AccountSettings {
    /// Shown in `/sim/state`.
    pub name: String,
    /// The value of `X-MBX-APIKEY` and `apiKey`.
    pub api_key: String,
    /// How its requests are signed.
    pub secret: Secret,
    /// Asset and free amount at the start, in units of `10^-8`.
    pub balances: Vec<(String, i64)>,
    /// Its own fees in millionths of the received asset, maker and taker; the venue's for `None`.
    pub fees_ppm: Option<(u32, u32)>,
}

/// The venue's half of a key pair.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The shared secret of HMAC-SHA256.
    Hmac(String),
    /// The public key as PEM (SubjectPublicKeyInfo) or bare base64 of it.
    Ed25519Public(String),
    /// The public key as PEM (SubjectPublicKeyInfo).
    RsaPublic(String),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hmac(_) => f.write_str("Hmac(hidden)"),
            Self::Ed25519Public(_) => f.write_str("Ed25519Public"),
            Self::RsaPublic(_) => f.write_str("RsaPublic"),
        }
    }
}

/// Where liquidity comes from.
#[derive(Clone, Debug)]
pub enum MarketSettings {
    /// Seeded order flow on the same book as the accounts' orders.
    Synthetic {
        /// Book changes per second and symbol, on average; 0 stands still.
        updates_per_s: u32,
        /// Standard deviation of the mid price over one second, in hundredths of a basis point.
        volatility_centibps: u32,
    },
    /// A recorded day (lines of `<local ns> {json}`, gzipped) of the first symbol.
    Recording {
        /// The file.
        path: PathBuf,
        /// How much faster than it happened; 1.0 is the original timing.
        speed: f64,
        /// Whether the recording waits for the first market stream subscription, so that the client misses nothing.
        hold: bool,
    },
}

impl SymbolSettings {
    /// The symbol with usual filters; `None` when its quote asset is not known.
    pub fn named(symbol: &str) -> Option<Self> {
        let quote = ["USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB", "EUR"]
            .into_iter()
            .find(|q| symbol.len() > q.len() && symbol.ends_with(q))?;
        let base = &symbol[..symbol.len() - quote.len()];
        // Tick, lot, smallest notional and mid; tick times lot never needs more than eight decimals.
        let (tick, lot, min_notional, mid) = match (base, quote) {
            ("BTC", "USDT" | "USDC" | "FDUSD") => (1_000_000, 1_000, 5 * ONE, 60_000 * ONE),
            ("ETH", "USDT" | "USDC" | "FDUSD") => (1_000_000, 10_000, 5 * ONE, 3_000 * ONE),
            ("ETH", "BTC") => (1_000, 100_000, 10_000, 5_000_000),
            (_, "BTC" | "ETH" | "BNB") => (1_000, 100_000, 10_000, 1_000_000),
            _ => (1_000_000, 100_000, 5 * ONE, 100 * ONE),
        };
        let (base, quote) = (base.to_owned(), quote.to_owned());
        let symbol = symbol.to_owned();
        Some(Self { symbol, base, quote, tick, lot, min_notional, mid, max_position: None })
    }
}

impl AccountSettings {
    /// An account with plenty of every asset of `symbols`.
    pub fn rich(name: &str, api_key: &str, secret: Secret, symbols: &[SymbolSettings]) -> Self {
        let mut balances: Vec<(String, i64)> = Vec::new();
        for symbol in symbols {
            for (asset, amount) in [(&symbol.base, 100 * ONE), (&symbol.quote, 10_000_000 * ONE)] {
                if !balances.iter().any(|(known, _)| known == asset) {
                    balances.push((asset.clone(), amount));
                }
            }
        }
        let (name, api_key) = (name.to_owned(), api_key.to_owned());
        Self { name, api_key, secret, balances, fees_ppm: None }
    }
}

impl VenueSettings {
    /// The embedded venue: BTCUSDT around 60,000 with a lively market, one account whose HMAC key comes from `seed`.
    pub fn demo(seed: u64) -> Self {
        let symbols = SymbolSettings::named("BTCUSDT").into_iter().collect();
        Self::of(symbols, seed)
    }

    /// [`VenueSettings::demo`] with these symbols.
    ///
    /// # Errors
    /// A symbol whose quote asset is not known, or none at all.
    pub fn synthetic<'a>(
        symbols: impl IntoIterator<Item = &'a str>,
        seed: u64,
    ) -> Result<Self, String> {
        let unknown = |symbol: &str| format!("symbol {symbol}: its quote asset is not known");
        let named = |symbol: &str| SymbolSettings::named(symbol).ok_or_else(|| unknown(symbol));
        let symbols: Vec<SymbolSettings> =
            symbols.into_iter().map(named).collect::<Result<_, String>>()?;
        if symbols.is_empty() {
            return Err("expected at least one symbol".to_owned());
        }
        Ok(Self::of(symbols, seed))
    }

    /// A recorded day of one symbol, `speed` times as fast as it happened. With `hold` it waits for the first market
    /// stream subscription.
    ///
    /// # Errors
    /// A file that cannot be read or is no recording.
    pub fn recording(path: &Path, speed: f64, hold: bool, seed: u64) -> Result<Self, String> {
        let symbol = symbol_of(path)?;
        let market = MarketSettings::Recording { path: path.to_owned(), speed, hold };
        Ok(Self { market, ..Self::synthetic([symbol.as_str()], seed)? })
    }

    /// The same venue with one account of this key, rich in every asset, in place of all others.
    #[must_use]
    pub fn with_key(mut self, api_key: &str, secret: Secret) -> Self {
        self.accounts = vec![AccountSettings::rich("main", api_key, secret, &self.symbols)];
        self
    }

    fn of(symbols: Vec<SymbolSettings>, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed ^ 0x6b65_7973);
        let mut word =
            || std::iter::repeat_with(|| rng.alphanumeric()).take(64).collect::<String>();
        let (api_key, secret) = (word(), word());
        let account = AccountSettings::rich("demo", &api_key, Secret::Hmac(secret), &symbols);
        Self {
            symbols,
            seed,
            accounts: vec![account],
            market: MarketSettings::Synthetic { updates_per_s: 50, volatility_centibps: 150 },
            maker_fee_ppm: 1_000,
            taker_fee_ppm: 1_000,
            latency: Duration::ZERO,
            limits: RateLimits::default(),
            history: HISTORY,
            name: "venue".to_owned(),
            market_seed: seed,
            drift_bps: 0,
            connections: ConnectionLimits::default(),
            save: None,
            restore: None,
        }
    }

    /// [`VenueSettings::demo`] with a market of about one update per second, for tests of idle engines.
    pub fn quiet(seed: u64) -> Self {
        let market = MarketSettings::Synthetic { updates_per_s: 1, volatility_centibps: 5 };
        Self { market, ..Self::demo(seed) }
    }

    /// The first account's API key and, for HMAC, its secret: what the embedded engine signs with.
    pub fn credentials(&self) -> Option<(&str, Option<&str>)> {
        let account = self.accounts.first()?;
        let secret = match &account.secret {
            Secret::Hmac(secret) => Some(secret.as_str()),
            Secret::Ed25519Public(_) | Secret::RsaPublic(_) => None,
        };
        Some((&account.api_key, secret))
    }
}
