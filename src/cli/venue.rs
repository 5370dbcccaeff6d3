//! `pindrop venue`: the simulated venue alone, as one supervised actor.

use std::net::SocketAddr;
use std::time::Duration;

use crate::clock::Clock;
use crate::net::Acceptor;
use crate::net::dial::SystemAcceptor;
use crate::runtime::actor::{Actor, Cx, Fault};
use crate::runtime::child::{ChildSpec, SpecError};
use crate::runtime::signal::Signals;
use crate::runtime::system::{SystemBuilder, SystemSettings, Threading};
use crate::sim::limits::RateLimits;
use crate::sim::settings::{ConnectionLimits, MarketSettings, Secret, VenueSettings};
use crate::sim::venue::Venue;

use super::{ExitCode, VenueArgs, print_error, start_logger, venue_file};

/// How long the last log lines may take.
const FLUSH_LIMIT: Duration = Duration::from_millis(200);

/// Runs the venue; the exit code.
pub fn run(args: &VenueArgs, signals: &Signals) -> u8 {
    let clock = Clock::System;
    clock.now();
    match try_run(args, signals, &clock) {
        Ok(code) => code,
        Err((code, why)) => {
            print_error(&format!("pindrop venue: {why}"));
            code as u8
        }
    }
}

fn try_run(args: &VenueArgs, signals: &Signals, clock: &Clock) -> Result<u8, (ExitCode, String)> {
    let system = |e: &dyn std::fmt::Display| (ExitCode::SystemRefused, e.to_string());
    let venues = venues(args).map_err(|why| (ExitCode::Configuration, why))?;
    let logger = start_logger(&args.log, None, clock);
    let mut builder = SystemBuilder::new(Threading::Dedicated, SystemSettings::default());
    let mut listening = Vec::new();
    for (listen, settings) in venues {
        let first = SystemAcceptor::bind(listen).map_err(|e| system(&format!("{listen}: {e}")))?;
        let address = first.local_addr().map_err(|e| system(&e))?;
        listening.push((settings.name.clone(), address));
        let actor = match settings.name.as_str() {
            "venue" => "venue".to_owned(),
            name => format!("venue-{name}"),
        };
        let id = builder.actor(&actor, true);
        builder.child(id, ChildSpec::new(start(settings, first, address)));
    }
    let ready = builder.build().map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let refused = errors.iter().any(SpecError::is_of_system);
        let code = if refused { ExitCode::SystemRefused } else { ExitCode::Configuration };
        (code, lines.join("; "))
    })?;
    for (name, address) in listening {
        log::info!(
            target: "venue",
            "event=venue.listening addr={address} state=http://{address}/sim/state name={name}"
        );
    }
    let outcome = ready.run(Some(signals), args.duration);
    logger.flush_within(FLUSH_LIMIT);
    Ok(u8::try_from(outcome.exit_code).unwrap_or(u8::MAX))
}

/// How a venue's actor comes to life: first on the listener that is there, after a crash on a new one.
fn start(
    settings: VenueSettings,
    first: SystemAcceptor,
    address: SocketAddr,
) -> impl Fn(&mut Cx) -> Result<Box<dyn Actor>, Fault> + Send + Sync {
    let first = std::sync::Mutex::new(Some(first));
    move |_| {
        let kept = first.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let acceptor = kept.map_or_else(|| SystemAcceptor::bind(address), Ok);
        let acceptor: Box<dyn Acceptor> =
            Box::new(acceptor.map_err(|e| Fault::fatal(e.to_string()))?);
        let venue = Venue::new(&settings, acceptor).map_err(|e| Fault::Config(e.into()))?;
        Ok(Box::new(venue) as Box<dyn Actor>)
    }
}

fn venues(args: &VenueArgs) -> Result<Vec<(SocketAddr, VenueSettings)>, String> {
    match &args.config {
        Some(path) => venue_file::venues(path),
        None => Ok(vec![(args.listen, settings(args)?)]),
    }
}

fn settings(args: &VenueArgs) -> Result<VenueSettings, String> {
    let secret = match &args.ed25519_public {
        None => Secret::Hmac(args.secret.clone()),
        Some(path) => {
            let pem = std::fs::read_to_string(path)
                .map_err(|e| format!("--ed25519-public {}: {e}", path.display()))?;
            Secret::Ed25519Public(pem)
        }
    };
    let mut settings = match &args.recording {
        Some(path) => VenueSettings::recording(path, f64::from(args.speed), true, args.seed),
        None => VenueSettings::synthetic(args.symbols.iter().map(String::as_str), args.seed),
    }?;
    if let MarketSettings::Synthetic { updates_per_s, .. } = &mut settings.market {
        *updates_per_s = args.updates_per_s;
    }
    settings.latency = Duration::from_millis(args.latency_ms);
    settings.drift_bps = args.drift_bps;
    settings.connections = ConnectionLimits {
        life: args.connection_life,
        connects_max: args.connections_max,
        unread_bytes_max: args.unread_bytes_max,
        ping_every: args.ping_every,
        pong_deadline: args.pong_within,
    };
    settings.limits = RateLimits {
        weight_per_minute: args.weight_per_minute,
        orders_per_10s: args.orders_per_10s,
        orders_per_day: args.orders_per_day,
    };
    settings.history = args.history;
    settings.save.clone_from(&args.save);
    settings.restore.clone_from(&args.restore);
    match &args.accounts {
        Some(path) => {
            settings.accounts = venue_file::accounts(path, &settings.symbols)?;
            Ok(settings)
        }
        None => Ok(settings.with_key(&args.key, secret)),
    }
}
