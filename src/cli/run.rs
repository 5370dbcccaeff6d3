//! `pindrop run`: the main job, from the words of the command line to the exit code.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{Config, Mode, VenueConfig};
use crate::net::dial::{SystemAcceptor, SystemDialer};
use crate::net::http::UreqClient;
use crate::net::resolve::Resolver;
use crate::net::stream::Tls;
use crate::net::{Acceptor, NetError};
use crate::ops::report::FinalReport;
use crate::ops::sources::StatusSources;
use crate::runtime::child::SpecError;
use crate::runtime::fault::FaultSpec;
use crate::runtime::report::Outcome;
use crate::runtime::signal::Signals;
use crate::runtime::thread;
use crate::sim::settings::{MarketSettings, VenueSettings};
use crate::topology::keys::read_key;
use crate::topology::reload::{Reload, SetLevel};
use crate::topology::state::{StateDir, StateError};
use crate::topology::world::Make;
use crate::topology::{Engine, EngineError, Parts, VenueAccess, World, limits_of, missing_limits};
use crate::trading::limits::BODY_BYTES_MAX;
use crate::trading::venue::binance::Credentials;

use super::reload::on_hang_up;
use super::{ExitCode, RunArgs, load_tree, print_error, start_logger};

/// How long the last log lines may take; a reader that has stopped reading costs no more.
const FLUSH_LIMIT: Duration = Duration::from_millis(200);

/// Descriptors besides those of the actors: standard streams, signals, listeners, and clients of the status page.
const DESCRIPTORS: usize = 32;
/// An actor's waker and set of descriptors, and what it opens itself: a socket and its interrupter, or files; the
/// embedded venue holds the other ends.
const DESCRIPTORS_PER_ACTOR: usize = 5;
/// Feed reader, book builder, order sender, rest worker.
const ACTORS_PER_VENUE: usize = 4;
/// Journal, watch, status page, embedded venue.
const OTHER_ACTORS: usize = 4;

/// Why a run ended before it began.
struct Failure {
    code: ExitCode,
    why: String,
}

impl Failure {
    fn configuration(why: impl ToString) -> Self {
        Self { code: ExitCode::Configuration, why: why.to_string() }
    }

    fn system(why: impl ToString) -> Self {
        Self { code: ExitCode::SystemRefused, why: why.to_string() }
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        let code = match error {
            StateError::Held { .. } => ExitCode::Unavailable,
            StateError::Io { .. } => ExitCode::SystemRefused,
        };
        Self { code, why: error.to_string() }
    }
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        let code = match error {
            EngineError::Journal(_) => ExitCode::JournalCorrupt,
            EngineError::JournalIo(_) => ExitCode::JournalIo,
            EngineError::Spec(ref errors) if errors.iter().any(SpecError::is_of_system) => {
                ExitCode::SystemRefused
            }
            _ => ExitCode::Configuration,
        };
        Self { code, why: error.to_string() }
    }
}

/// Runs the engine; the exit code.
pub fn run(args: &RunArgs, signals: &Signals) -> u8 {
    let clock = Clock::System;
    // The process's time begins here.
    clock.now();
    match try_run(args, signals, &clock) {
        Ok(code) => code,
        Err(failure) => {
            for line in failure.why.lines() {
                print_error(&format!("pindrop: {line}"));
            }
            failure.code as u8
        }
    }
}

fn try_run(args: &RunArgs, signals: &Signals, clock: &Clock) -> Result<u8, Failure> {
    let tree = load_tree(&args.config).map_err(Failure::configuration)?;
    let mut config = Config::read(&tree, args.config.mode).map_err(Failure::configuration)?;
    if let Some(listen) = args.ops {
        config.ops.listen = listen.0;
    }
    let faults = args
        .fault
        .iter()
        .map(|text| {
            text.parse::<FaultSpec>()
                .map_err(|e| Failure::configuration(format!("--fault {text}: {e}")))
        })
        .collect::<Result<Vec<_>, _>>()?;
    check_limits(&config)?;
    check_descriptors(&config)?;
    let logger = start_logger(&args.log, config.log_level, clock);
    let state = match args.state.as_ref().or(config.state_dir.as_ref()) {
        Some(path) => StateDir::open(path)?,
        None => StateDir::temporary(clock.utc())?,
    };
    let (world, addresses, embedded) = world(&mut config, clock)?;
    let access = access(&config, embedded.as_ref())?;
    let parts = Parts {
        world,
        access,
        embedded,
        journal_dir: state.journal(),
        status_file: Some(state.path().join("status.json")),
        faults,
        wrap: None,
        boot: clock.utc(),
        started: clock.now(),
    };
    let mut engine = Engine::wire(&config, parts)?;
    let level = Box::new({
        let logger = logger.clone();
        move |level| logger.set_level(level)
    });
    let level = args.log.log_level.is_none().then_some(level as SetLevel);
    let reload = Reload::new(config.clone(), &tree, engine.live.clone(), level);
    engine.system.on_reload(on_hang_up(args.config.clone(), reload));
    announce(args, &config, &state, &addresses);
    let outcome = engine.system.run(Some(signals), args.duration);
    let code = report(args, &state, &engine.sources, &outcome);
    log::info!(target: "engine", "event=engine.exit code={code}");
    logger.flush_within(FLUSH_LIMIT);
    Ok(code)
}

/// Live mode refuses to start with any limit unset; elsewhere the defaults in force are printed at start.
fn check_limits(config: &Config) -> Result<(), Failure> {
    let missing = missing_limits(config);
    if missing.is_empty() { Ok(()) } else { Err(Failure::configuration(missing.join("\n"))) }
}

/// An engine that runs out of descriptors at its first reconnect is refused before it trades.
fn check_descriptors(config: &Config) -> Result<(), Failure> {
    let actors = config.venues.len() * ACTORS_PER_VENUE + config.strategies.len() + OTHER_ACTORS;
    let needed = u64::try_from(DESCRIPTORS + actors * DESCRIPTORS_PER_ACTOR).unwrap_or(u64::MAX);
    match rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        Some(allowed) if allowed < needed => Err(Failure::system(format!(
            "descriptors: {allowed} are allowed (ulimit -n), this engine needs {needed}"
        ))),
        _ => Ok(()),
    }
}

/// Where the listeners are, for the log.
struct Addresses {
    venue: Option<SocketAddr>,
    ops: Option<SocketAddr>,
}

/// The machine as the engine's world. Binds the listeners at once, so that a taken port is an error before anything
/// starts and the chosen ports are known.
fn world(
    config: &mut Config,
    clock: &Clock,
) -> Result<(World, Addresses, Option<VenueSettings>), Failure> {
    let resolver = Resolver::new(&|name, body| thread::spawn(name, body).map(drop))
        .map_err(|e| Failure::system(format!("no thread for the resolver: {e}")))?;
    let tls = tls(config)?;
    let mut addresses = Addresses { venue: None, ops: None };
    let (mut venue, mut ops, mut embedded) = (None, None, None);
    if config.mode == Mode::Demo {
        let (make, address) = listener("demo.listen", config.demo.listen)?;
        (venue, addresses.venue) = (Some(make), Some(address));
        for v in &mut config.venues {
            v.rest_url = format!("http://{address}");
            v.stream_url = format!("ws://{address}");
            v.ws_api_url = format!("ws://{address}/ws-api/v3");
        }
        embedded = Some(embedded_settings(config)?);
    }
    if let Some(listen) = config.ops.listen {
        let (make, address) = listener("ops.listen", listen)?;
        (ops, addresses.ops) = (Some(make), Some(address));
    }
    let (dial_tls, dial_resolver) = (tls.clone(), resolver.clone());
    let world = World {
        clock: clock.clone(),
        dialer: Arc::new(move || {
            Ok(Box::new(SystemDialer::new(dial_resolver.clone(), dial_tls.clone())))
        }),
        http: Arc::new(move || {
            Ok(Box::new(UreqClient::new(&tls, resolver.clone(), BODY_BYTES_MAX)?))
        }),
        venue,
        ops,
    };
    Ok((world, addresses, embedded))
}

fn tls(config: &Config) -> Result<Tls, Failure> {
    let mut extra = Vec::new();
    for path in config.venues.iter().filter_map(|v| v.extra_ca_file.as_ref()) {
        let pem = std::fs::read(path)
            .map_err(|e| Failure::configuration(format!("{}: {e}", path.display())))?;
        extra.extend_from_slice(&pem);
    }
    Tls::new((!extra.is_empty()).then_some(extra.as_slice())).map_err(Failure::configuration)
}

/// Binds `address`. The first generation of the actor gets the bound listener; a later one binds the same port again.
fn listener(key: &str, address: SocketAddr) -> Result<(Make<dyn Acceptor>, SocketAddr), Failure> {
    let failed = |e: NetError| Failure::system(format!("{key} {address}: {e}"));
    let first = SystemAcceptor::bind(address).map_err(failed)?;
    let bound = first.local_addr().map_err(failed)?;
    let first = Mutex::new(Some(first));
    let make: Make<dyn Acceptor> = Arc::new(move || {
        let kept = first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let acceptor = kept.map_or_else(|| SystemAcceptor::bind(bound), Ok)?;
        Ok(Box::new(acceptor))
    });
    Ok((make, bound))
}

/// The embedded venue trades what the configuration's venues name.
fn embedded_settings(config: &Config) -> Result<VenueSettings, Failure> {
    let seed = config.demo.seed;
    let symbols = config.venues.iter().flat_map(|v| &v.symbols).map(String::as_str);
    let mut settings = match &config.demo.recording {
        Some(path) => VenueSettings::recording(path, 1.0, true, seed),
        None => VenueSettings::synthetic(symbols, seed),
    }
    .map_err(Failure::configuration)?;
    if let MarketSettings::Synthetic { updates_per_s, .. } = &mut settings.market {
        *updates_per_s = config.demo.updates_per_s;
    }
    Ok(settings)
}

fn access(config: &Config, embedded: Option<&VenueSettings>) -> Result<Vec<VenueAccess>, Failure> {
    let demo = embedded.and_then(VenueSettings::credentials);
    config
        .venues
        .iter()
        .map(|venue| {
            let credentials = match demo {
                Some((key, secret)) => Credentials::hmac(key, secret.unwrap_or_default()),
                None => credentials(venue)?,
            };
            Ok(VenueAccess {
                rest_url: venue.rest_url.clone(),
                stream_url: venue.stream_url.clone(),
                ws_api_url: venue.ws_api_url.clone(),
                credentials: Arc::new(credentials),
            })
        })
        .collect()
}

/// The keys of a venue, out of their files.
pub(super) fn credentials_of(venue: &VenueConfig) -> Result<Credentials, String> {
    let read = |path: Option<&Path>, key: &str| {
        let path = path.ok_or_else(|| format!("venue.{}.{key}: missing", venue.name))?;
        read_key(path).map_err(|e| format!("venue.{}.{key}: {e}", venue.name))
    };
    let key = read(venue.api_key_file.as_deref(), "api_key_file")?;
    let secret = read(venue.api_secret_file.as_deref(), "api_secret_file")?;
    Ok(match venue.key_type {
        crate::config::KeyType::Hmac => Credentials::hmac(&key, &secret),
        crate::config::KeyType::Ed25519 => Credentials::ed25519(&key, &secret),
    })
}

fn credentials(venue: &VenueConfig) -> Result<Credentials, Failure> {
    credentials_of(venue).map_err(Failure::configuration)
}

/// What an operator wants to see first (operations, 2.3).
fn announce(args: &RunArgs, config: &Config, state: &StateDir, addresses: &Addresses) {
    let file = args.config.config.as_deref().unwrap_or(Path::new("none"));
    let (version, pid, mode) = (env!("CARGO_PKG_VERSION"), std::process::id(), config.mode.label());
    let threading = if config.shared_threading { "shared" } else { "dedicated" };
    log::info!(
        target: "engine",
        "event=engine.start version={version} pid={pid} mode={mode} threading={threading} state={:?} config={:?}",
        state.path(),
        file
    );
    for symbol in config.venues.iter().flat_map(|v| &v.symbols) {
        let limits = serde_json::to_value(limits_of(config, symbol)).unwrap_or_default();
        let pairs: Vec<String> = limits
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}={}", value.to_string().trim_matches('"')))
            .collect();
        log::info!(target: "engine", "event=risk.limits symbol={symbol} {}", pairs.join(" "));
    }
    if let Some(address) = addresses.venue {
        log::info!(target: "engine", "event=venue.listening addr={address}");
    }
    if let Some(address) = addresses.ops {
        log::info!(target: "engine", "event=ops.listening addr={address} page=http://{address}/");
    }
}

/// Writes the final report; the exit code. A report that cannot be written is an error of its own only when nothing
/// worse has happened.
fn report(args: &RunArgs, state: &StateDir, sources: &StatusSources, outcome: &Outcome) -> u8 {
    let mut code = u8::try_from(outcome.exit_code).unwrap_or(u8::MAX);
    let report = FinalReport::new(sources, outcome);
    let mut paths = vec![state.path().join("report.json")];
    paths.extend(args.report.clone());
    for path in paths {
        if let Err(e) = report.write(&path, &mut std::io::stdout()) {
            log::error!(target: "engine", "event=report.failed path={path:?} why=\"{e}\"");
            if code == 0 {
                code = ExitCode::JournalIo as u8;
            }
        }
    }
    code
}
