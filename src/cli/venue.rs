//! `pindrop venue`: the simulated venue alone, as one supervised actor.

use std::time::Duration;

use crate::clock::Clock;
use crate::net::Acceptor;
use crate::net::dial::SystemAcceptor;
use crate::runtime::actor::Fault;
use crate::runtime::child::ChildSpec;
use crate::runtime::signal::Signals;
use crate::runtime::system::{SystemBuilder, SystemSettings, Threading};
use crate::sim::settings::{MarketSettings, Secret, VenueSettings};
use crate::sim::venue::Venue;

use super::{ExitCode, VenueArgs, print_error, start_logger};

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
    let settings = settings(args).map_err(|why| (ExitCode::Configuration, why))?;
    let logger = start_logger(&args.log, clock);
    let first = SystemAcceptor::bind(args.listen)
        .map_err(|e| system(&format!("--listen {}: {e}", args.listen)))?;
    let address = first.local_addr().map_err(|e| system(&e))?;
    let first = std::sync::Mutex::new(Some(first));
    let mut builder = SystemBuilder::new(Threading::Dedicated, SystemSettings::default());
    let id = builder.actor("venue", true);
    let start = move |_: &mut _| {
        let kept = first.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let acceptor = kept.map_or_else(|| SystemAcceptor::bind(address), Ok);
        let acceptor: Box<dyn Acceptor> =
            Box::new(acceptor.map_err(|e| Fault::fatal(e.to_string()))?);
        let venue = Venue::new(&settings, acceptor).map_err(|e| Fault::Config(e.into()))?;
        Ok(Box::new(venue) as Box<dyn crate::runtime::actor::Actor>)
    };
    builder.child(id, ChildSpec::new(start));
    let ready = builder.build().map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        (ExitCode::Configuration, lines.join("; "))
    })?;
    log::info!(target: "venue", "event=venue.listening addr={address} state=http://{address}/sim/state");
    let outcome = ready.run(Some(signals), args.duration);
    logger.flush_within(FLUSH_LIMIT);
    Ok(u8::try_from(outcome.exit_code).unwrap_or(u8::MAX))
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
    Ok(settings.with_key(&args.key, secret))
}
