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

use crate::trading::risk::limits::LimitsConfig;

use self::tables::{
    RECV_WINDOW_DEFAULT, STALE_AFTER_DEFAULT, read_actors, read_demo, read_journal, read_log_level,
    read_ops, read_risk, read_strategies, read_supervisor, read_venues,
};
use self::tree::{ConfigError, Origin, Tree};

// The tables, one function each.
mod tables;
// The file as typed: a tree in which every value knows where it was written.
pub mod tree;

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
    /// Restarts of the actors of one group tolerated within the period; one more restarts the group.
    pub restarts_max: u32,
    /// The period.
    pub period: Duration,
    /// Restarts of whole groups tolerated within their period; one more drains and exits with 70.
    pub group_restarts_max: u32,
    /// Their period.
    pub group_period: Duration,
    /// The venue must be live within this time of the start, or the process exits with 69.
    pub live_within: Duration,
    /// Whether a core that the kernel refuses ends the process with 78 rather than being a warning.
    pub strict_pin: bool,
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
    /// The least level that is logged, where the command line does not say it.
    pub log_level: Option<log::LevelFilter>,
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
            log_level: read_log_level(&mut r, &root),
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

/// Parses a log level.
///
/// # Errors
/// When it is none.
pub fn parse_level(text: &str) -> Result<log::LevelFilter, String> {
    text.parse().map_err(|_| format!("expected error, warn, info, debug or trace, found {text:?}"))
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

/// One error about the configuration as a whole.
pub fn general_error(why: impl Into<String>) -> ConfigErrors {
    ConfigErrors(vec![ConfigError { origin: Origin::Implied, key: String::new(), why: why.into() }])
}

#[cfg(test)]
mod tests {
    use super::tables::check_url;
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
    fn a_request_is_not_accepted_longer_than_a_gap_goes_unnoticed() {
        assert_eq!(RECV_WINDOW_DEFAULT, crate::trading::limits::FENCE_GAP);
        let with = |ms| read(&format!("mode = \"testnet\"\n[venue.b]\nrecv_window_ms = {ms}\n"));
        for (ms, fits) in [(0, false), (1, true), (2_000, true), (2_001, false)] {
            let errors = with(ms).expect_err("the rest of the venue is missing");
            assert_eq!(!errors.contains("recv_window_ms"), fits, "{ms}: {errors}");
        }
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
