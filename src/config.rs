//! The configuration as meant: read once at the edge, validated whole, then handed down as plain structs.
//!
//! What comes in: a TOML file (or none: the demo), environment variables and `--set`, see [`tree`]. What goes out:
//! [`Config`], or every error at once with its place. What always holds: no secret is in here, only the names of
//! the files that hold them; and nothing that risks money has a silent default in live mode.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::trading::domain::instrument::Name;
use crate::trading::domain::{Instrument, InstrumentId, VenueId};
use crate::trading::risk::limits::LimitsConfig;
use crate::trading::strategy;

use self::tree::{ConfigError, Origin, Reader, Section, Tree};

// The file as typed: a tree in which every value knows where it was written.
pub mod tree;

/// Hosts that trade real money: testnet mode refuses them.
const PRODUCTION_HOSTS: &[&str] =
    &["binance.com", "binance.us", "binance.info", "kraken.com", "gateio.ws", "mexc.com"];
/// Hosts below a production domain that are play money.
const TESTNET_LABELS: &[&str] = &["testnet", "demo"];
/// Most venues, instruments and strategies of one engine: their ids must fit, and nobody runs more on one host.
const VENUES_MAX: usize = 8;
const STRATEGIES_MAX: usize = 64;
const SYMBOLS_PER_VENUE_MAX: usize = 64;
/// Longest name of a venue or strategy: with its prefix it names a thread.
const NAME_BYTES_MAX: usize = 20;
/// Digits behind the point of Binance Spot's prices and quantities.
pub const SPOT_DECIMALS: (u8, u8) = (8, 8);
/// Longest engine name: it is part of every client order id.
const ENGINE_BYTES_MAX: usize = 6;

/// Whose money it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The embedded venue.
    Demo,
    /// The configured venue, which must be play money.
    Testnet,
    /// The configured venue, with real money.
    Live,
}

impl Mode {
    /// Parses the word used in the file and on the command line.
    ///
    /// # Errors
    /// When it is none of the modes.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "demo" => Ok(Self::Demo),
            "testnet" => Ok(Self::Testnet),
            "live" => Ok(Self::Live),
            "paper" => {
                Err("paper mode is not built yet; expected demo, testnet or live".to_owned())
            }
            _ => Err(format!("expected demo, testnet or live, found {text:?}")),
        }
    }

    /// The word used in the file, status and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Demo => "demo",
            Self::Testnet => "testnet",
            Self::Live => "live",
        }
    }
}

/// What happens to open orders at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnExit {
    /// They are cancelled, and the venue is asked whether they are.
    Cancel,
    /// They stay.
    Keep,
}

/// How signed requests are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// A shared secret.
    Hmac,
    /// A private key.
    Ed25519,
}

/// One `[venue.NAME]`.
#[derive(Clone, Debug)]
pub struct VenueConfig {
    /// Its name.
    pub name: String,
    /// Base of the REST API.
    pub rest_url: String,
    /// Base of the market streams.
    pub stream_url: String,
    /// The WebSocket API.
    pub ws_api_url: String,
    /// What is traded there.
    pub symbols: Vec<String>,
    /// How requests are signed.
    pub key_type: KeyType,
    /// The file that holds the API key.
    pub api_key_file: Option<PathBuf>,
    /// The file that holds the secret.
    pub api_secret_file: Option<PathBuf>,
    /// How long after its time stamp the venue may still accept a request.
    pub recv_window: Duration,
    /// A feed that is silent for so long is connected anew.
    pub stale_after: Duration,
    /// A further certificate authority to trust, as a PEM file (for test venues).
    pub extra_ca_file: Option<PathBuf>,
}

/// One `[strategy.NAME]`.
#[derive(Clone, Debug)]
pub struct StrategyConfig {
    /// Its name.
    pub name: String,
    /// Which strategy it is.
    pub kind: String,
    /// The venue it trades at.
    pub venue: String,
    /// What it trades.
    pub symbol: String,
    /// How often its timer fires.
    pub timer: Duration,
    /// Its own parameters; the strategy reads and checks them itself.
    pub parameters: toml::Table,
}

/// `[risk]` and `[risk.SYMBOL]`.
#[derive(Clone, Debug, Default)]
pub struct RiskConfig {
    /// For the account.
    pub account: LimitsConfig,
    /// Narrower ones per symbol.
    pub symbols: BTreeMap<String, LimitsConfig>,
}

/// How an actor's thread waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Never sleeps; for cores of its own.
    Spin,
    /// Spins, yields, then sleeps for at most a millisecond.
    Backoff,
    /// Sleeps until a socket or mailbox wakes it.
    Park,
}

/// One `[actor.NAME]`; what is absent keeps its default.
#[derive(Clone, Debug, Default)]
pub struct ActorConfig {
    /// The core to pin it to.
    pub core: Option<u32>,
    /// How it waits.
    pub idle: Option<Idle>,
    /// The capacity of its main mailbox, in messages.
    pub mailbox: Option<usize>,
    /// Its share of the drain.
    pub drain_timeout: Option<Duration>,
    /// No progress for so long is a wedge.
    pub stall_timeout: Option<Duration>,
}

/// `[supervisor]`.
#[derive(Clone, Debug)]
pub struct SupervisorConfig {
    /// Restarts of one actor tolerated within the period.
    pub restarts_max: u32,
    /// The period.
    pub period: Duration,
    /// The venue must be live within this time of the start, or the process exits with 69.
    pub live_within: Duration,
}

/// When the journal is forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Never: the kernel decides. Survives the process, not the machine.
    Never,
    /// At most this long after a write.
    Interval(Duration),
    /// After every batch, before an order goes out.
    EachBatch,
}

/// `[journal]`.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Whether an order waits until its record is written (true), or only handed to the writer (false).
    pub orders_wait: bool,
    /// When it is forced to the disk.
    pub sync: Sync,
    /// Largest segment, in bytes.
    pub segment_bytes_max: u64,
}

/// `[ops]`.
#[derive(Clone, Debug)]
pub struct OpsConfig {
    /// Where the status page listens; `None` for nowhere.
    pub listen: Option<SocketAddr>,
}

/// `[demo]`: the embedded venue.
#[derive(Clone, Debug)]
pub struct DemoConfig {
    /// The seed of its market.
    pub seed: u64,
    /// Book updates per second and symbol; 0 is a market that stands still.
    pub updates_per_s: u32,
    /// Where it listens.
    pub listen: SocketAddr,
    /// A recorded day to serve in place of the synthetic market.
    pub recording: Option<PathBuf>,
}

/// Everything.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whose money it is.
    pub mode: Mode,
    /// Whether hot actors share one thread.
    pub shared_threading: bool,
    /// What happens to open orders at the end.
    pub on_exit: OnExit,
    /// The engine's name in client order ids: 1 to 6 of a-z and 0-9.
    pub engine: String,
    /// The state folder; `None` for a fresh temporary one.
    pub state_dir: Option<PathBuf>,
    /// Venues, by name.
    pub venues: Vec<VenueConfig>,
    /// Strategies, by name.
    pub strategies: Vec<StrategyConfig>,
    /// Limits.
    pub risk: RiskConfig,
    /// What is special about actors, by name.
    pub actors: BTreeMap<String, ActorConfig>,
    /// Supervision.
    pub supervisor: SupervisorConfig,
    /// Journal.
    pub journal: JournalConfig,
    /// Status page.
    pub ops: OpsConfig,
    /// The embedded venue.
    pub demo: DemoConfig,
}

/// Everything that is wrong, one line each.
#[derive(Debug)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Reads the settings out of the tree. `mode` is the command line's word, which wins.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn read(tree: &Tree, mode: Option<Mode>) -> Result<Self, ConfigErrors> {
        let (mut r, root) = tree.reader();
        let typed = r.parsed(&root, "mode", Mode::parse);
        let mode = mode.or(typed).unwrap_or(Mode::Demo);
        let mut config = Self {
            mode,
            shared_threading: r.parsed(&root, "threading", parse_threading).unwrap_or(false),
            on_exit: r.parsed(&root, "on_exit", parse_on_exit).unwrap_or(OnExit::Cancel),
            engine: r.parsed(&root, "engine", parse_engine).unwrap_or_else(|| "pin".to_owned()),
            state_dir: None,
            venues: read_venues(&mut r, &root, mode),
            strategies: Vec::new(),
            risk: RiskConfig::default(),
            actors: read_actors(&mut r, &root),
            supervisor: read_supervisor(&mut r, &root),
            journal: read_journal(&mut r, &root),
            ops: read_ops(&mut r, &root, mode),
            demo: read_demo(&mut r, &root),
        };
        if mode == Mode::Demo && config.venues.is_empty() {
            config.venues.push(VenueConfig::at_embedded("binance", &["BTCUSDT"]));
        }
        let state = r.section(&root, "state");
        config.state_dir = r.text(&state, "dir").map(PathBuf::from);
        config.risk = read_risk(&mut r, &root, &config.venues);
        config.strategies = read_strategies(&mut r, &root, &config.venues);
        if mode == Mode::Demo && config.strategies.is_empty() {
            config.strategies.push(demo_strategy(&config.venues[0]));
        }
        if mode != Mode::Demo {
            for (missing, table) in
                [(config.venues.is_empty(), "venue"), (config.strategies.is_empty(), "strategy")]
            {
                if missing {
                    r.error(
                        &root,
                        "",
                        format!("mode {} needs a [{table}.NAME] table", mode.label()),
                    );
                }
            }
        }
        r.finish(&root).map_err(ConfigErrors)?;
        Ok(config)
    }
}

/// What the demo trades when nothing is configured.
fn demo_strategy(venue: &VenueConfig) -> StrategyConfig {
    StrategyConfig {
        name: "quotes".to_owned(),
        kind: "market_maker".to_owned(),
        venue: venue.name.clone(),
        symbol: venue.symbols.first().cloned().unwrap_or_default(),
        timer: Duration::from_millis(100),
        parameters: toml::Table::new(),
    }
}

impl VenueConfig {
    fn at_embedded(name: &str, symbols: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            // The demo fills these in when the embedded venue has its port.
            rest_url: String::new(),
            stream_url: String::new(),
            ws_api_url: String::new(),
            symbols: symbols.iter().map(|s| (*s).to_owned()).collect(),
            key_type: KeyType::Hmac,
            api_key_file: None,
            api_secret_file: None,
            recv_window: RECV_WINDOW_DEFAULT,
            stale_after: STALE_AFTER_DEFAULT,
            extra_ca_file: None,
        }
    }
}

/// Binance's default is 5 s; an order that is frozen inside a stopped process for longer than this must not
/// come to life.
const RECV_WINDOW_DEFAULT: Duration = Duration::from_secs(2);
/// A quiet pair was seen silent for 10.5 s, and the venue pings every 20 s.
const STALE_AFTER_DEFAULT: Duration = Duration::from_secs(30);

fn parse_threading(text: &str) -> Result<bool, String> {
    match text {
        "dedicated" => Ok(false),
        "shared" => Ok(true),
        _ => Err(format!("expected dedicated or shared, found {text:?}")),
    }
}

fn parse_on_exit(text: &str) -> Result<OnExit, String> {
    match text {
        "cancel" => Ok(OnExit::Cancel),
        "keep" => Ok(OnExit::Keep),
        "flatten" => Err("flatten is not built yet; expected cancel or keep".to_owned()),
        _ => Err(format!("expected cancel or keep, found {text:?}")),
    }
}

fn parse_engine(text: &str) -> Result<String, String> {
    let ok = (1..=ENGINE_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if ok {
        Ok(text.to_owned())
    } else {
        Err(format!("expected 1 to {ENGINE_BYTES_MAX} of a-z and 0-9, found {text:?}"))
    }
}

fn parse_key_type(text: &str) -> Result<KeyType, String> {
    match text {
        "hmac" => Ok(KeyType::Hmac),
        "ed25519" => Ok(KeyType::Ed25519),
        _ => Err(format!("expected hmac or ed25519, found {text:?}")),
    }
}

fn parse_idle(text: &str) -> Result<Idle, String> {
    match text {
        "spin" => Ok(Idle::Spin),
        "backoff" => Ok(Idle::Backoff),
        "park" => Ok(Idle::Park),
        _ => Err(format!("expected spin, backoff or park, found {text:?}")),
    }
}

/// Parses a socket address such as `127.0.0.1:9100`.
///
/// # Errors
/// When it is none.
pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("expected an address like 127.0.0.1:9100, found {text:?}"))
}

/// Parses a duration with its unit: `500ms`, `30s`, `5m`, `1h`.
///
/// # Errors
/// When the unit is missing or unknown, or the number is none.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let expected =
        || format!("expected a number with a unit (ms, s, m, h), such as 30s; found {text:?}");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let ms_per_unit = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(expected()),
    };
    number.checked_mul(ms_per_unit).map(Duration::from_millis).ok_or_else(expected)
}

fn check_name(r: &mut Reader, section: &Section<'_>, name: &str) {
    let ok = (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !ok {
        r.error(
            section,
            "",
            format!("expected a name of 1 to {NAME_BYTES_MAX} of a-z, 0-9 and _, found {name:?}"),
        );
    }
}

fn read_venues(r: &mut Reader, root: &Section<'_>, mode: Mode) -> Vec<VenueConfig> {
    let all = r.section(root, "venue");
    let mut venues = Vec::new();
    for (name, section) in r.sections(&all) {
        check_name(r, &section, &name);
        venues.push(read_venue(r, &section, name, mode));
    }
    if venues.len() > VENUES_MAX {
        r.error(&all, "", format!("at most {VENUES_MAX} venues"));
    }
    venues
}

fn read_venue(r: &mut Reader, s: &Section<'_>, name: String, mode: Mode) -> VenueConfig {
    let dialect = r.text(s, "dialect");
    if dialect.as_deref().is_some_and(|d| d != "binance") {
        r.error(s, "dialect", format!("expected binance, found {:?}", dialect.unwrap_or_default()));
    }
    let mut venue = VenueConfig::at_embedded(&name, &[]);
    for (key, schemes, slot) in [
        ("rest_url", ["http://", "https://"], &mut venue.rest_url),
        ("stream_url", ["ws://", "wss://"], &mut venue.stream_url),
        ("ws_api_url", ["ws://", "wss://"], &mut venue.ws_api_url),
    ] {
        match r.parsed(s, key, |url| check_url(url, schemes, mode)) {
            Some(url) => *slot = url,
            None if mode != Mode::Demo => r.error(s, key, "missing, or not usable"),
            None => {}
        }
    }
    venue.symbols = r.texts(s, "symbols").unwrap_or_default();
    check_symbols(r, s, &venue.symbols);
    venue.key_type = r.parsed(s, "key_type", parse_key_type).unwrap_or(KeyType::Ed25519);
    venue.api_key_file = r.text(s, "api_key_file").map(PathBuf::from);
    venue.api_secret_file = r.text(s, "api_secret_file").map(PathBuf::from);
    venue.extra_ca_file = r.text(s, "extra_ca_file").map(PathBuf::from);
    if mode != Mode::Demo {
        for (key, missing) in [
            ("api_key_file", venue.api_key_file.is_none()),
            ("api_secret_file", venue.api_secret_file.is_none()),
        ] {
            if missing {
                r.error(s, key, "missing: a file with mode 0400 or 0600 that holds it");
            }
        }
    }
    let ms = |v: Option<u64>, default: Duration| v.map_or(default, Duration::from_millis);
    venue.recv_window = ms(r.integer(s, "recv_window_ms", 1..=60_000), RECV_WINDOW_DEFAULT);
    venue.stale_after = ms(r.integer(s, "stale_after_ms", 1_000..=600_000), STALE_AFTER_DEFAULT);
    venue
}

fn check_symbols(r: &mut Reader, s: &Section<'_>, symbols: &[String]) {
    if symbols.is_empty() {
        r.error(s, "symbols", "expected at least one symbol, such as [\"BTCUSDT\"]");
    }
    if symbols.len() > SYMBOLS_PER_VENUE_MAX {
        r.error(s, "symbols", format!("at most {SYMBOLS_PER_VENUE_MAX} symbols"));
    }
    for (i, symbol) in symbols.iter().enumerate() {
        let ok = (1..=20).contains(&symbol.len())
            && symbol.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        if !ok {
            r.error(
                s,
                "symbols",
                format!("expected a symbol of 1 to 20 of A-Z and 0-9, found {symbol:?}"),
            );
        }
        if symbols[..i].contains(symbol) {
            r.error(s, "symbols", format!("{symbol} is there twice"));
        }
    }
}

/// A URL with one of the schemes; in testnet mode it must not lead to real money.
fn check_url(url: &str, schemes: [&str; 2], mode: Mode) -> Result<String, String> {
    let Some(rest) = schemes.iter().find_map(|scheme| url.strip_prefix(scheme)) else {
        return Err(format!("expected a URL that begins with {} or {}", schemes[0], schemes[1]));
    };
    let host = rest.split(['/', ':', '?']).next().unwrap_or_default();
    if host.is_empty() {
        return Err("expected a host in the URL".to_owned());
    }
    let real = PRODUCTION_HOSTS.iter().any(|p| host == *p || host.ends_with(&format!(".{p}")));
    let play = host.split('.').any(|label| TESTNET_LABELS.iter().any(|t| label.starts_with(t)));
    if mode == Mode::Testnet && real && !play {
        return Err(format!("{host} trades real money; mode testnet refuses it"));
    }
    Ok(url.trim_end_matches('/').to_owned())
}

fn read_strategies(
    r: &mut Reader,
    root: &Section<'_>,
    venues: &[VenueConfig],
) -> Vec<StrategyConfig> {
    let all = r.section(root, "strategy");
    let mut strategies = Vec::new();
    for (name, s) in r.sections(&all) {
        check_name(r, &s, &name);
        let Some(kind) = r.text(&s, "kind") else {
            r.error(&s, "kind", "missing: which strategy is it? (market_maker)");
            continue;
        };
        let default = venues.first();
        let venue =
            r.text(&s, "venue").or_else(|| default.map(|v| v.name.clone())).unwrap_or_default();
        let found = venues.iter().find(|v| v.name == venue);
        let first = found.and_then(|v| v.symbols.first()).cloned();
        let symbol = r.text(&s, "symbol").or(first).unwrap_or_default();
        match found {
            None if !venues.is_empty() => {
                r.error(&s, "venue", format!("there is no [venue.{venue}]"))
            }
            Some(v) if !v.symbols.contains(&symbol) => {
                r.error(
                    &s,
                    "symbol",
                    format!("{symbol:?} is not among the symbols of [venue.{venue}]"),
                );
            }
            _ => {}
        }
        let timer = Duration::from_millis(r.integer(&s, "timer_ms", 1..=60_000).unwrap_or(100));
        let parameters = r.others(&s);
        if let Err(why) = check_strategy(&kind, &symbol, &parameters) {
            r.error(&s, "", why);
        }
        strategies.push(StrategyConfig { name, kind, venue, symbol, timer, parameters });
    }
    if strategies.len() > STRATEGIES_MAX {
        r.error(&all, "", format!("at most {STRATEGIES_MAX} strategies"));
    }
    strategies
}

/// Builds the strategy once for nothing, so that wrong parameters are found with all other errors.
fn check_strategy(kind: &str, symbol: &str, parameters: &toml::Table) -> Result<(), String> {
    let name = Name::from(symbol).unwrap_or_default();
    let instrument = Instrument::new(InstrumentId(0), VenueId(0), name, name, SPOT_DECIMALS);
    strategy::build(kind, parameters.clone(), &instrument).map(drop).map_err(|e| e.to_string())
}

fn read_risk(r: &mut Reader, root: &Section<'_>, venues: &[VenueConfig]) -> RiskConfig {
    let s = r.section(root, "risk");
    let account = read_limits(r, &s);
    let mut symbols = BTreeMap::new();
    for symbol in r.table_names(&s) {
        let narrower = r.section(&s, &symbol);
        if !venues.iter().any(|v| v.symbols.contains(&symbol)) {
            r.error(&narrower, "", format!("no venue trades {symbol}"));
        }
        symbols.insert(symbol, read_limits(r, &narrower));
    }
    RiskConfig { account, symbols }
}

fn read_limits(r: &mut Reader, s: &Section<'_>) -> LimitsConfig {
    let small = |v: Option<u64>| v.and_then(|n| u32::try_from(n).ok());
    LimitsConfig {
        order_qty_max: r.decimal(s, "order_qty_max"),
        order_notional_max: r.decimal(s, "order_notional_max"),
        position_max: r.decimal(s, "position_max"),
        open_orders_max: small(r.integer(s, "open_orders_max", 1..=1_000)),
        orders_per_s_max: small(r.integer(s, "orders_per_s_max", 1..=10_000)),
        price_collar_bps: small(r.integer(s, "price_collar_bps", 1..=10_000)),
        book_age_max_ms: r.integer(s, "book_age_max_ms", 1..=600_000),
        decision_age_max_ms: r.integer(s, "decision_age_max_ms", 1..=60_000),
    }
}

fn read_actors(r: &mut Reader, root: &Section<'_>) -> BTreeMap<String, ActorConfig> {
    let all = r.section(root, "actor");
    let mut actors = BTreeMap::new();
    for (name, s) in r.sections(&all) {
        let ms = |v: Option<u64>| v.map(Duration::from_millis);
        let actor = ActorConfig {
            // 1,024 is where the kernel's fixed CPU set ends; setting a higher one aborts the process.
            core: r.integer(&s, "core", 0..=1_023).and_then(|c| u32::try_from(c).ok()),
            idle: r.parsed(&s, "idle", parse_idle),
            mailbox: r.integer(&s, "mailbox", 1..=1_048_576).and_then(|n| usize::try_from(n).ok()),
            drain_timeout: ms(r.integer(&s, "drain_timeout_ms", 1..=8_000)),
            stall_timeout: ms(r.integer(&s, "stall_timeout_ms", 100..=60_000)),
        };
        actors.insert(name, actor);
    }
    actors
}

fn read_supervisor(r: &mut Reader, root: &Section<'_>) -> SupervisorConfig {
    let s = r.section(root, "supervisor");
    let ms = |v: Option<u64>, default: u64| Duration::from_millis(v.unwrap_or(default));
    SupervisorConfig {
        restarts_max: r
            .integer(&s, "restarts_max", 0..=1_000)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(5),
        period: ms(r.integer(&s, "period_ms", 1..=86_400_000), 60_000),
        live_within: ms(r.integer(&s, "live_within_ms", 100..=600_000), 30_000),
    }
}

fn read_journal(r: &mut Reader, root: &Section<'_>) -> JournalConfig {
    let s = r.section(root, "journal");
    let orders_wait = r.parsed(&s, "orders", |text| match text {
        "written" => Ok(true),
        "handed_over" => Ok(false),
        _ => Err(format!("expected written or handed_over, found {text:?}")),
    });
    let word = r.parsed(&s, "sync", |text| match text {
        "never" | "interval" | "each_batch" => Ok(text.to_owned()),
        _ => Err(format!("expected never, interval or each_batch, found {text:?}")),
    });
    let interval =
        Duration::from_millis(r.integer(&s, "sync_interval_ms", 1..=60_000).unwrap_or(100));
    let sync = match word.as_deref() {
        Some("never") => Sync::Never,
        Some("each_batch") => Sync::EachBatch,
        _ => Sync::Interval(interval),
    };
    let segment_bytes_max =
        r.integer(&s, "segment_bytes_max", 65_536..=1_073_741_824).unwrap_or(64 * 1024 * 1024);
    JournalConfig { orders_wait: orders_wait.unwrap_or(true), sync, segment_bytes_max }
}

fn read_ops(r: &mut Reader, root: &Section<'_>, mode: Mode) -> OpsConfig {
    let s = r.section(root, "ops");
    let default = (mode == Mode::Demo).then(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let listen = r.parsed(&s, "listen", |text| match text {
        "off" => Ok(None),
        _ => parse_listen(text).map(Some),
    });
    OpsConfig { listen: listen.unwrap_or(default) }
}

fn read_demo(r: &mut Reader, root: &Section<'_>) -> DemoConfig {
    let s = r.section(root, "demo");
    DemoConfig {
        seed: r.integer(&s, "seed", 0..=u64::MAX).unwrap_or(1),
        updates_per_s: r
            .integer(&s, "updates_per_s", 0..=20_000)
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(50),
        listen: r
            .parsed(&s, "listen", parse_listen)
            .unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 0))),
        recording: r.text(&s, "recording").map(PathBuf::from),
    }
}

/// One error about the configuration as a whole.
pub fn general_error(why: impl Into<String>) -> ConfigErrors {
    ConfigErrors(vec![ConfigError { origin: Origin::Implied, key: String::new(), why: why.into() }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        let tree = Tree::parse("t.toml", text).expect("valid TOML");
        Config::read(&tree, None).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_is_the_demo() {
        let config = read("").expect("valid");
        assert_eq!(config.mode, Mode::Demo);
        assert_eq!(config.venues[0].symbols, ["BTCUSDT"]);
        assert_eq!(config.strategies[0].kind, "market_maker");
        assert_eq!(config.ops.listen, Some(SocketAddr::from(([127, 0, 0, 1], 0))));
    }

    #[test]
    fn testnet_refuses_real_money() {
        let text = "mode = \"testnet\"\n[venue.b]\nrest_url = \"https://api.binance.com\"\n";
        let errors = read(text).expect_err("real money");
        assert!(
            errors.contains("t.toml:3: venue.b.rest_url: api.binance.com trades real money"),
            "{errors}"
        );
    }

    #[test]
    fn testnet_accepts_play_money() {
        for url in
            ["https://testnet.binance.vision", "http://127.0.0.1:1", "https://demo-api.binance.com"]
        {
            assert!(check_url(url, ["http://", "https://"], Mode::Testnet).is_ok(), "{url}");
        }
    }

    #[test]
    fn a_strategy_at_no_venue_is_named() {
        let text = "[venue.b]\nsymbols = [\"BTCUSDT\"]\n[strategy.q]\nkind = \"market_maker\"\nvenue = \"c\"\n";
        assert_eq!(
            read(text).expect_err("no venue c"),
            "t.toml:5: strategy.q.venue: there is no [venue.c]"
        );
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("1h"), Ok(Duration::from_secs(3_600)));
        assert!(parse_duration("30").is_err());
        assert!(parse_duration("s").is_err());
        assert!(parse_duration("5d").is_err());
    }
}
