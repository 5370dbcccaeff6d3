//! The verdict: cells, sessions and books come in; one word, the reasons and the health go out.
//!
//! Nothing is bad without a reason in words. The worst finding names the state; what ends in a drain is no finding.

use crate::clock::MonoNs;
use crate::runtime::health::{ActorState, Cell};
use crate::trading::domain::BookState;
use crate::trading::telemetry::{OrdersView, SessionState};

use super::health::{Beats, Health};
use super::rows::names;
use super::sources::{EngineState, Stage, StatusSources, TradingGate};

/// How bad a finding is; the worst names the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Severity {
    Live,
    Starting,
    Degraded,
    Reconciling,
    CancelOnly,
    Halted,
}

impl Severity {
    fn label(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Starting => "starting",
            Self::Degraded => "degraded",
            Self::Reconciling => "reconciling",
            Self::CancelOnly => "cancel_only",
            Self::Halted => "halted",
        }
    }
}

/// What is not as it should be.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) worst: Severity,
    pub(super) reasons: Vec<String>,
}

impl Findings {
    fn add(&mut self, severity: Severity, reason: String) {
        self.worst = self.worst.max(severity);
        self.reasons.push(reason);
    }
}

/// The word for the state of the whole engine.
pub(super) fn state_word(stage: Stage, worst: Severity) -> &'static str {
    match stage {
        Stage::Stopped => "stopped",
        Stage::Draining => "draining",
        Stage::Starting if worst < Severity::CancelOnly => "starting",
        Stage::Starting | Stage::Running => worst.label(),
    }
}

/// Everything that is not as it should be.
pub(super) fn find(
    sources: &StatusSources,
    engine: &EngineState,
    beats: &Beats,
    now: MonoNs,
) -> Findings {
    let mut findings = Findings { worst: Severity::Live, reasons: engine.reasons.clone() };
    match engine.trading {
        TradingGate::Open => {}
        TradingGate::CancelOnly => {
            findings.add(Severity::CancelOnly, "trading: only cancels are sent".to_owned());
        }
        TradingGate::Halted => findings.add(Severity::Halted, "trading: halted".to_owned()),
    }
    if engine.stage == Stage::Starting {
        findings.add(Severity::Starting, "engine: starting".to_owned());
    }
    for (index, cell) in sources.health.iter().enumerate() {
        find_actor(&mut findings, engine.stage, cell, beats.stalled(index));
    }
    // Sessions and books go down one after the other in a drain: that is no finding.
    if matches!(engine.stage, Stage::Starting | Stage::Running) {
        find_sessions(&mut findings, sources);
        find_books(&mut findings, sources);
    }
    findings.reasons.extend(beats.own_lateness(now));
    findings
}

fn find_actor(findings: &mut Findings, stage: Stage, cell: &Cell, stalled: bool) {
    let name = cell.name();
    if stalled {
        findings.add(Severity::Degraded, format!("{name}: makes no progress"));
    }
    let ending = matches!(stage, Stage::Draining | Stage::Stopped);
    let why = cell.last_exit().unwrap_or_else(|| "no reason known".to_owned());
    match cell.state() {
        ActorState::Running | ActorState::Draining => {}
        ActorState::Declared | ActorState::Starting if cell.generation() <= 1 => {
            findings.add(Severity::Starting, format!("{name}: {}", cell.state().label()));
        }
        ActorState::Exited if ending => {}
        state => findings.add(Severity::Degraded, format!("{name}: {} ({why})", state.label())),
    }
}

fn find_sessions(findings: &mut Findings, sources: &StatusSources) {
    for feed in &sources.feeds {
        let seen = feed.read(|view| (view.state, view.reconnects, view.last_error.clone()));
        find_session(findings, feed.actor(), "feed", seen);
    }
    for orders in &sources.orders {
        let seen = orders.read(|view| (view.state, view.reconnects, view.last_error.clone()));
        find_session(findings, orders.actor(), "order session", seen);
        let stuck = orders.read(|view| view.stuck).unwrap_or_default();
        if stuck > 0 {
            let reason =
                format!("{}: open orders that the venue does not cancel: {stuck}", orders.actor());
            findings.add(Severity::Degraded, reason);
        }
        // A session that is not live has said why already.
        let held = |view: &OrdersView| !view.trading && view.state == SessionState::Live;
        if orders.read(held) == Some(true) {
            let reason = format!(
                "{}: no new orders: the kill switch is on, trading is fenced, or the journal does not follow",
                orders.actor()
            );
            findings.add(Severity::Halted, reason);
        }
    }
}

fn find_session(
    findings: &mut Findings,
    actor: &str,
    what: &str,
    seen: Option<(SessionState, u64, String)>,
) {
    let Some((state, reconnects, error)) = seen else {
        return findings.add(Severity::Starting, format!("{actor}: {what} not begun"));
    };
    let severity = match state {
        SessionState::Live => return,
        SessionState::Reconciling => Severity::Reconciling,
        // The first connection: nothing was lost yet.
        _ if reconnects == 0 && error.is_empty() => Severity::Starting,
        _ => Severity::Degraded,
    };
    let why = if error.is_empty() { String::new() } else { format!(" ({error})") };
    findings.add(severity, format!("{actor}: {what} {}{why}", state.label()));
}

fn find_books(findings: &mut Findings, sources: &StatusSources) {
    for builder in &sources.books {
        let books = builder.read(|view| view.books.clone()).unwrap_or_default();
        for book in books {
            let severity = match book.state {
                BookState::Live => continue,
                BookState::Syncing if book.applied == 0 && book.gaps == 0 => Severity::Starting,
                BookState::Syncing | BookState::Gap | BookState::Stale => Severity::Degraded,
            };
            let (venue, symbol) = names(sources, book.instrument);
            findings.add(severity, format!("book {venue}:{symbol}: {}", book.state.label()));
        }
    }
}

/// The answer of `/health`.
pub(super) fn health(
    sources: &StatusSources,
    stage: Stage,
    findings: &Findings,
    beats: &Beats,
) -> Health {
    let cells = sources.health.iter().enumerate();
    let stalled: Vec<_> = cells
        .filter(|(index, _)| beats.stalled(*index))
        .map(|(_, cell)| cell.name().to_owned())
        .collect();
    let degraded = findings.worst > Severity::Live || stage != Stage::Running;
    let status = match (stalled.is_empty(), findings.worst) {
        (false, _) => "stalled",
        (true, Severity::Halted) => "halted",
        (true, _) if degraded => "degraded",
        (true, _) => "ok",
    };
    Health { status, reasons: findings.reasons.clone(), stalled }
}
