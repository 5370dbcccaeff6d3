//! The command line: one file per subcommand; each parses, calls, prints, and says the exit code.
//!
//! Without a subcommand the main job runs: `pindrop` is `pindrop run`.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::clock::Clock;
use crate::config::tree::Tree;
use crate::config::{
    Config, ConfigErrors, Mode, general_error, parse_duration, parse_level, parse_listen,
};
use crate::ops::logger::{LogSettings, Logger};
use crate::runtime::signal::Signals;
use crate::runtime::thread;
use crate::sim::limits::RateLimits;
use crate::sim::settings::{ConnectionLimits, HISTORY};

// The main job.
pub mod run;
// What SIGHUP does.
mod reload;
// The simulated venue alone.
pub mod venue;
mod venue_file;
// Is this configuration right, and what does it mean?
pub mod check;
// What happened?
pub mod journal;
// Does it keep its promises?
pub mod drill;

/// How the process ends before or beside the runtime, whose own codes are in [`crate::runtime::exit`] (design, section 5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// The command line is wrong.
    Usage = 2,
    /// The journal is corrupt.
    JournalCorrupt = 65,
    /// Not live in time, or another instance holds the state folder.
    Unavailable = 69,
    /// The system refused: threads, descriptors, ports, files.
    SystemRefused = 71,
    /// The journal cannot be read or written.
    JournalIo = 74,
    /// The configuration is wrong.
    Configuration = 78,
}

/// Prints a line on standard output, where answers go; logs go to standard error.
///
/// A reader that went away (`| head`) is not an error of ours.
pub(crate) fn print_line(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n"));
}

/// Prints a line on standard error, before the logger exists.
pub(crate) fn print_error(line: &str) {
    use std::io::Write;
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n"));
}

/// The trading engine that never hangs.
#[derive(Debug, Parser)]
#[command(name = "pindrop", version, about, long_about = LONG_ABOUT, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; the main job when absent.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The main job's own arguments.
    #[command(flatten)]
    pub run: RunArgs,
}

const LONG_ABOUT: &str = "The trading engine that never hangs: supervised, pinned threads; bounded mailboxes; a \
provable drain.\n\nWithout a subcommand the main job runs: the embedded venue, a market maker on it, and a status page. \
It needs no network, no key and no second process. Ctrl+C or SIGTERM drains; a second one exits at once.";

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Trade: the embedded venue without CONFIG, or as configured.
    Run(RunArgs),
    /// Serve the simulated venue alone, on loopback.
    Venue(VenueArgs),
    /// Validate a configuration and print what it means.
    Check(CheckArgs),
    /// Look into a journal.
    Journal(JournalArgs),
    /// Break an engine on purpose, against the simulated venue, and see which promises hold.
    Drill(drill::DrillArgs),
}

/// How logs look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line per event, key=value.
    #[default]
    Text,
    /// One JSON object per line, same keys.
    Json,
}

/// Logging, for every subcommand that logs.
#[derive(Clone, Debug, Args)]
pub struct LogArgs {
    /// How log lines look on standard error.
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// The least level that is logged: error, warn, info, debug, trace. Wins over the file's log.level; info by default.
    #[arg(long, value_parser = parse_level)]
    pub log_level: Option<log::LevelFilter>,
}

/// The configuration, for every subcommand that reads one.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file (TOML); the demo when absent.
    pub config: Option<PathBuf>,
    /// Whose money: demo, testnet or live. Wins over the file.
    #[arg(long, value_parser = Mode::parse)]
    pub mode: Option<Mode>,
    /// Override one key, such as venue.binance.rest_url=http://127.0.0.1:18080. Wins over file and environment.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

/// Arguments of `pindrop run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Drain after this time, with its unit: 500ms, 30s, 5m, 1h.
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Where the status page listens, such as 127.0.0.1:9100, or off.
    #[arg(long, value_name = "ADDR|off", value_parser = parse_ops)]
    pub ops: Option<OpsListen>,
    /// The state folder: lock, journal, reports. The demo's default is a fresh temporary one.
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
    /// Where the final report (JSON) goes besides the state folder; - is standard output.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Break an actor on purpose, never in live: panic|fail|spin|block:ACTOR[:after=1000|after=2s|every=1000],
    /// slow:ACTOR:us=500.
    #[arg(long, value_name = "SPEC")]
    pub fault: Vec<String>,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// The word after `--ops`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpsListen(pub Option<SocketAddr>);

fn parse_ops(text: &str) -> Result<OpsListen, String> {
    if text == "off" { Ok(OpsListen(None)) } else { parse_listen(text).map(|a| OpsListen(Some(a))) }
}

/// Arguments of `pindrop venue`.
#[derive(Clone, Debug, Args)]
pub struct VenueArgs {
    /// Where it listens; port 0 takes a free one, which is logged.
    #[arg(long, default_value = "127.0.0.1:18080", value_parser = parse_listen)]
    pub listen: SocketAddr,
    /// The API key of its account.
    #[arg(long, default_value = "demo-key")]
    pub key: String,
    /// The HMAC secret of its account.
    #[arg(long, default_value = "demo-secret")]
    pub secret: String,
    /// A PEM file with an Ed25519 public key, in place of the secret.
    #[arg(long, value_name = "FILE")]
    pub ed25519_public: Option<PathBuf>,
    /// A TOML file with its accounts, in place of key and secret: `[[account]]` name, api_key, secret or ed25519_public or rsa_public, balances, fees.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["key", "secret", "ed25519_public"])]
    pub accounts: Option<PathBuf>,
    /// A TOML file with several venues: `[[venue]]` name, listen, seed, symbols, fees, latency_ms, drift_bps, accounts, limits, max_position.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["listen", "key", "secret", "ed25519_public", "accounts", "seed", "symbols", "updates_per_s", "recording", "speed", "latency_ms", "drift_bps", "weight_per_minute", "orders_per_10s", "orders_per_day", "history", "save", "restore"])]
    pub config: Option<PathBuf>,
    /// Added before every answer and every frame.
    #[arg(long, default_value_t = 0)]
    pub latency_ms: u64,
    /// How far its prices wander from the fair ones of its seed, in basis points (standard deviation).
    #[arg(long, default_value_t = 0)]
    pub drift_bps: u32,
    /// WebSocket connections that may be made within five minutes; the real venue allows 300 for each address.
    #[arg(long, default_value_t = 10_000)]
    pub connections_max: usize,
    /// Request weight that all clients may use per minute; exchangeInfo tells it.
    #[arg(long, default_value_t = RateLimits::default().weight_per_minute)]
    pub weight_per_minute: u32,
    /// Orders that an account may place within ten seconds; exchangeInfo tells it.
    #[arg(long, default_value_t = RateLimits::default().orders_per_10s)]
    pub orders_per_10s: u32,
    /// Orders that an account may place within a day; exchangeInfo tells it.
    #[arg(long, default_value_t = RateLimits::default().orders_per_day)]
    pub orders_per_day: u32,
    /// Orders that are not open, and fills, that each account remembers; the oldest go.
    #[arg(long, default_value_t = HISTORY)]
    pub history: usize,
    /// How long a WebSocket connection lives.
    #[arg(long, default_value = "24h", value_parser = parse_duration)]
    pub connection_life: Duration,
    /// Bytes that may wait for a WebSocket client that does not read; beyond, it is dropped. It is also dropped when its
    /// system has taken nothing for 5 s.
    #[arg(long, default_value_t = ConnectionLimits::default().unread_bytes_max)]
    pub unread_bytes_max: usize,
    /// How often a WebSocket client is pinged.
    #[arg(long, default_value = "20s", value_parser = parse_duration)]
    pub ping_every: Duration,
    /// How long a WebSocket client has for its pong.
    #[arg(long, default_value = "1m", value_parser = parse_duration)]
    pub pong_within: Duration,
    /// Write accounts, orders and trades to this file at the end.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Begin with the accounts, orders and trades of this file.
    #[arg(long, value_name = "FILE")]
    pub restore: Option<PathBuf>,
    /// The seed of the synthetic market.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// What is traded, separated by commas.
    #[arg(long, default_value = "BTCUSDT,ETHUSDT", value_delimiter = ',')]
    pub symbols: Vec<String>,
    /// Book updates per second and symbol of the synthetic market; 0 stands still.
    #[arg(long, default_value_t = 50)]
    pub updates_per_s: u32,
    /// Serve this recorded day in place of a synthetic market.
    #[arg(long, value_name = "FILE")]
    pub recording: Option<PathBuf>,
    /// Play the recording this many times as fast.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub speed: u32,
    /// End by itself after this time.
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Arguments of `pindrop check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `pindrop journal`.
#[derive(Clone, Debug, Args)]
pub struct JournalArgs {
    /// What to do with it.
    #[command(subcommand)]
    pub command: JournalCommand,
}

/// What to do with a journal.
#[derive(Clone, Debug, Subcommand)]
pub enum JournalCommand {
    /// Check every record; exit 65 when one is corrupt.
    Verify {
        /// The journal folder, a segment, or a state folder.
        path: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print every record, one line each.
    Dump {
        /// The journal folder, a segment, or a state folder.
        path: PathBuf,
        /// Print JSON lines.
        #[arg(long)]
        json: bool,
    },
}

/// Whether a command line that begins with `word` only looks at files.
pub fn only_looks(word: Option<&OsStr>) -> bool {
    word.is_some_and(|w| w == "journal" || w == "check" || w == "help")
}

/// Does what a command line that only looks says; the exit code.
pub fn look(cli: &Cli) -> u8 {
    match &cli.command {
        Some(Command::Check(args)) => check::run(args),
        Some(Command::Journal(args)) => journal::run(args),
        // Help has printed and ended; these are not begun with a word that only looks.
        None | Some(Command::Run(_) | Command::Venue(_) | Command::Drill(_)) => {
            ExitCode::Usage as u8
        }
    }
}

/// Does what the command line says; the exit code.
pub fn run(cli: &Cli, signals: &Signals) -> u8 {
    match &cli.command {
        None => run::run(&cli.run, signals),
        Some(Command::Run(args)) => run::run(args, signals),
        Some(Command::Venue(args)) => venue::run(args, signals),
        Some(Command::Drill(args)) => drill::run(args, signals),
        Some(Command::Check(_) | Command::Journal(_)) => look(cli),
    }
}

/// The system refused something before any work began.
pub fn refused(what: &str, why: &dyn std::fmt::Display) -> std::process::ExitCode {
    print_error(&format!("pindrop: {what}: {why}"));
    std::process::ExitCode::from(ExitCode::SystemRefused as u8)
}

/// The configuration that the arguments describe.
pub(crate) fn load_config(args: &ConfigArgs) -> Result<Config, ConfigErrors> {
    Config::read(&load_tree(args)?, args.mode)
}

/// The configuration as typed: in the file, the environment and the arguments.
pub(crate) fn load_tree(args: &ConfigArgs) -> Result<Tree, ConfigErrors> {
    let text = args.config.as_deref().map(read_text).transpose()?;
    parse_tree(args, text.as_deref())
}

/// The text of a configuration file.
pub(crate) fn read_text(path: &Path) -> Result<String, ConfigErrors> {
    std::fs::read_to_string(path).map_err(|e| general_error(format!("{}: {e}", path.display())))
}

/// The configuration as typed, with a file that was read already: errors name `args.config`, nothing reads it.
pub(crate) fn parse_tree(args: &ConfigArgs, text: Option<&str>) -> Result<Tree, ConfigErrors> {
    let mut tree = Tree::default();
    if let (Some(path), Some(text)) = (&args.config, text) {
        let name = path.display().to_string();
        tree = Tree::parse(&name, text).map_err(|e| ConfigErrors(vec![e]))?;
    }
    let mut errors = Vec::new();
    for (name, value) in std::env::vars_os() {
        // Names and values that are not text cannot be ours.
        if let (Some(name), Some(value)) = (name.to_str(), value.to_str()) {
            errors.extend(tree.set_from_environment(name, value).err());
        }
    }
    for assignment in &args.set {
        errors.extend(tree.set(assignment).err());
    }
    if errors.is_empty() { Ok(tree) } else { Err(ConfigErrors(errors)) }
}

/// Starts the logger on standard error and makes it the process's.
pub(crate) fn start_logger(
    args: &LogArgs,
    configured: Option<log::LevelFilter>,
    clock: &Clock,
) -> Logger {
    let settings = LogSettings {
        level: args.log_level.or(configured).unwrap_or(log::LevelFilter::Info),
        format: match args.log_format {
            LogFormat::Text => crate::ops::logger::LogFormat::Text,
            LogFormat::Json => crate::ops::logger::LogFormat::Json,
        },
        ..LogSettings::default()
    };
    let spawn = |body: Box<dyn FnOnce() + Send>| {
        if let Err(e) = thread::spawn("logger", body) {
            print_error(&format!("pindrop: no thread for the log: {e}"));
        }
    };
    let logger = Logger::start(settings, clock.clone(), Box::new(std::io::stderr()), spawn);
    if let Err(e) = logger.install() {
        print_error(&format!("pindrop: {e}"));
    }
    logger
}
