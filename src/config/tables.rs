//! The tables of the configuration, one function each: keys in, settings out, every error noted.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::tree::{Reader, Section};
use super::{
    ActorConfig, DemoConfig, JournalConfig, KeyType, Mode, OpsConfig, RiskConfig, SPOT_DECIMALS,
    StrategyConfig, SupervisorConfig, Sync, VenueConfig, parse_idle, parse_key_type, parse_level,
    parse_listen,
};
use crate::trading::domain::instrument::Name;
use crate::trading::domain::{Instrument, InstrumentId, VenueId};
use crate::trading::risk::limits::LimitsConfig;
use crate::trading::strategy;

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
/// Binance's default is 5 s; an order that is frozen inside a stopped process for longer than this must not
/// come to life.
pub(super) const RECV_WINDOW_DEFAULT: Duration = Duration::from_secs(2);
/// A quiet pair was seen silent for 10.5 s, and the venue pings every 20 s.
pub(super) const STALE_AFTER_DEFAULT: Duration = Duration::from_secs(30);

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

pub(super) fn read_venues(r: &mut Reader, root: &Section<'_>, mode: Mode) -> Vec<VenueConfig> {
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
    // No longer than the default, which is the gap that the order sender does not notice: what froze in hand after its
    // time stamp was read is the venue's to refuse.
    let longest = u64::try_from(RECV_WINDOW_DEFAULT.as_millis()).unwrap_or(u64::MAX);
    venue.recv_window = ms(r.integer(s, "recv_window_ms", 1..=longest), RECV_WINDOW_DEFAULT);
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
pub(super) fn check_url(url: &str, schemes: [&str; 2], mode: Mode) -> Result<String, String> {
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

pub(super) fn read_strategies(
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

/// Reads the parameters once for nothing, so that wrong parameters are found with all other errors.
fn check_strategy(kind: &str, symbol: &str, parameters: &toml::Table) -> Result<(), String> {
    let name = Name::from(symbol).unwrap_or_default();
    let instrument = Instrument::new(InstrumentId(0), VenueId(0), name, name, SPOT_DECIMALS);
    strategy::Parameters::read(kind, parameters.clone(), &instrument)
        .map(drop)
        .map_err(|e| e.to_string())
}

pub(super) fn read_risk(r: &mut Reader, root: &Section<'_>, venues: &[VenueConfig]) -> RiskConfig {
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

pub(super) fn read_actors(r: &mut Reader, root: &Section<'_>) -> BTreeMap<String, ActorConfig> {
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

pub(super) fn read_supervisor(r: &mut Reader, root: &Section<'_>) -> SupervisorConfig {
    let s = r.section(root, "supervisor");
    let ms = |v: Option<u64>, default: u64| Duration::from_millis(v.unwrap_or(default));
    let mut count = |key, default| {
        r.integer(&s, key, 0..=1_000).and_then(|n| u32::try_from(n).ok()).unwrap_or(default)
    };
    SupervisorConfig {
        restarts_max: count("restarts_max", 5),
        group_restarts_max: count("group_restarts_max", 1),
        period: ms(r.integer(&s, "period_ms", 1..=86_400_000), 60_000),
        group_period: ms(r.integer(&s, "group_period_ms", 1..=86_400_000), 300_000),
        live_within: ms(r.integer(&s, "live_within_ms", 100..=600_000), 30_000),
        strict_pin: r.boolean(&s, "strict_pin").unwrap_or(false),
    }
}

pub(super) fn read_journal(r: &mut Reader, root: &Section<'_>) -> JournalConfig {
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

pub(super) fn read_ops(r: &mut Reader, root: &Section<'_>, mode: Mode) -> OpsConfig {
    let s = r.section(root, "ops");
    let default = (mode == Mode::Demo).then(|| SocketAddr::from(([127, 0, 0, 1], 0)));
    let listen = r.parsed(&s, "listen", |text| match text {
        "off" => Ok(None),
        _ => parse_listen(text).map(Some),
    });
    OpsConfig { listen: listen.unwrap_or(default) }
}

pub(super) fn read_log_level(r: &mut Reader, root: &Section<'_>) -> Option<log::LevelFilter> {
    let s = r.section(root, "log");
    r.parsed(&s, "level", parse_level)
}

pub(super) fn read_demo(r: &mut Reader, root: &Section<'_>) -> DemoConfig {
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
