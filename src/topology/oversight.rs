//! What the engine as a whole looks like, and the last resort when a part of it hangs.

use std::time::Duration;

use crate::clock::Clock;
use crate::net::HttpRequest;
use crate::ops::sources::{EngineState, RateLimit, Stage, TradingGate, Watched};
use crate::runtime::health::{ActorState, HealthTable};
use crate::runtime::placement::Plan;
use crate::trading::order::emergency::cancel_everything;
use crate::trading::risk::KillSwitch;
use crate::trading::telemetry::RestView;
use crate::trading::venue::binance::BinanceRest;

use super::World;

/// Where the engine stands, out of its actors' cells and the kill switch.
pub(super) fn engine_state(health: &HealthTable, switch: &KillSwitch) -> EngineState {
    let states: Vec<ActorState> = health.iter().map(|c| c.state()).collect();
    let stage = if states.iter().all(|s| *s == ActorState::Exited) {
        Stage::Stopped
    } else if states.iter().any(|s| matches!(s, ActorState::Draining | ActorState::Exited)) {
        Stage::Draining
    } else if health
        .iter()
        .any(|c| c.generation() == 0 || (c.generation() == 1 && c.state() == ActorState::Starting))
    {
        Stage::Starting
    } else {
        Stage::Running
    };
    let trading = switch.state();
    let mut reasons: Vec<String> = switch.reason().into_iter().collect();
    if trading.fences > 0 {
        reasons.push("an actor makes no progress: trading is fenced".to_owned());
    }
    let gate = if trading.enabled() { TradingGate::Open } else { TradingGate::Halted };
    EngineState { stage, trading: gate, reasons }
}

pub(super) fn idle_labels(plan: &Plan, actors: usize) -> Vec<String> {
    let mut labels = vec![String::new(); actors];
    for host in &plan.hosts {
        for seat in &host.seats {
            if let Some(label) = labels.get_mut(seat.index()) {
                host.idle.label().clone_into(label);
            }
        }
    }
    labels
}

/// The venues' budgets, as their last REST answers showed them.
pub(super) fn rate_limits(budgets: &[(String, Watched<RestView>)]) -> Vec<RateLimit> {
    let row = |(name, watched): &(String, Watched<RestView>)| {
        let budget = watched.read(|view| view.budget)??;
        let (used, limit, window) = (budget.used, budget.limit, budget.window);
        Some(RateLimit { name: name.clone(), used, limit, window })
    };
    budgets.iter().filter_map(row).collect()
}

/// Cancels everything without the order senders, which may be what hangs: over REST, on connections of its own.
pub(super) fn cancel_on_fresh_connections(
    world: &World,
    venues: &[(BinanceRest, String, Vec<String>)],
    limit: Duration,
) {
    let begun = world.clock.now();
    for (done, (rest, base_url, symbols)) in venues.iter().enumerate() {
        let mut client = match (world.http)() {
            Ok(client) => client,
            Err(e) => {
                log::error!(target: "engine", "event=emergency.failed url={base_url} why=\"{e}\"");
                continue;
            }
        };
        let mut request = |number: usize| {
            let call = rest.cancel_all(symbols.get(number)?, world.clock.utc());
            let base_url = base_url.clone();
            let (method, target, headers) = (call.method, call.target, call.headers);
            Some(HttpRequest { method, base_url, target, headers, body: Vec::new() })
        };
        // A venue that hangs must not use up the time of those behind it.
        let behind = u32::try_from(venues.len() - done).unwrap_or(u32::MAX);
        let left = limit.saturating_sub(world.clock.now().since(begun)) / behind;
        // The system's client blocks in the call itself; there is nothing to wait for in between. A virtual clock
        // moves only here: this call is all that happens.
        let mut idle = || match &world.clock {
            Clock::System => std::thread::yield_now(),
            Clock::Virtual(clock) => clock.advance(Duration::from_millis(1)),
        };
        let done = cancel_everything(
            client.as_mut(),
            &world.clock,
            left,
            &mut request,
            &nothing_open,
            &mut idle,
        );
        log::warn!(
            target: "engine",
            "event=emergency.cancelled url={base_url} confirmed={} unconfirmed={} last_error={:?}",
            done.confirmed, done.unconfirmed, done.last_error
        );
    }
}

/// Binance answers a cancel of nothing with -2011.
fn nothing_open(status: u16, body: &[u8]) -> bool {
    status == 400
        && serde_json::from_slice::<serde_json::Value>(body).is_ok_and(|v| v["code"] == -2011)
}
