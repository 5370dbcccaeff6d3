//! The checks of a whole declaration. Each appends every mistake it finds; none stops at the first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::actor::ActorId;
use super::child::{CORE_ID_LIMIT, Restart, SpecError};
use super::group::{AutoShutdown, GroupSpec};
use super::idle::IdleStrategy;
use super::placement::{HostPlan, Machine};
use super::system::{Declared, SystemSettings, Threading, Wired, index_u16};

/// The host that [`Threading::Shared`] puts hot actors on.
const HOT_HOST: &str = "hot";

/// Names are unique, every actor has its spec, dependencies exist and have an order.
pub(super) fn actors(actors: &[Declared], errors: &mut Vec<SpecError>) {
    let mut names = BTreeSet::new();
    for actor in actors {
        let printable = |c: char| !c.is_whitespace() && !c.is_control();
        if actor.name.is_empty() || !actor.name.chars().all(printable) {
            errors.push(SpecError::BadName(actor.name.clone()));
        }
        if !names.insert(actor.name.as_str()) {
            errors.push(SpecError::DuplicateActor(actor.name.clone()));
        }
        let Some(spec) = &actor.spec else {
            errors.push(SpecError::NoChild(actor.name.clone()));
            continue;
        };
        if spec.depends_on.iter().any(|d| d.index() >= actors.len()) {
            errors.push(SpecError::UnknownDependency(actor.name.clone()));
        }
    }
    cycle(actors, errors);
}

/// Groups are told apart, exist, and have significant actors only where their end means something.
pub(super) fn groups(groups: &[GroupSpec], actors: &[Declared], errors: &mut Vec<SpecError>) {
    let mut names = BTreeSet::new();
    for group in groups {
        if !names.insert(group.name.as_str()) {
            errors.push(SpecError::DuplicateGroup(group.name.clone()));
        }
        if group.intensity.period.is_zero() {
            errors.push(SpecError::ZeroPeriod(group.name.clone()));
        }
    }
    for actor in actors {
        let Some(spec) = &actor.spec else { continue };
        let Some(group) = groups.get(spec.group.index()) else {
            errors.push(SpecError::UnknownGroup(actor.name.clone()));
            continue;
        };
        let ends = spec.restart != Restart::Permanent && group.auto_shutdown != AutoShutdown::Never;
        if spec.significant && !ends {
            errors.push(SpecError::Significant(actor.name.clone()));
        }
    }
}

/// Takes away actors whose dependencies are gone until none is left, or only a cycle.
fn cycle(actors: &[Declared], errors: &mut Vec<SpecError>) {
    let mut left: BTreeSet<usize> = (0..actors.len()).collect();
    loop {
        let waits = |i: &usize| {
            let spec = actors[*i].spec.as_ref();
            spec.is_some_and(|s| s.depends_on.iter().any(|d| left.contains(&d.index())))
        };
        let waiting: BTreeSet<usize> = left.iter().copied().filter(|i| waits(i)).collect();
        if waiting.is_empty() {
            return;
        }
        if waiting.len() == left.len() {
            let names = waiting.into_iter().map(|i| actors[i].name.clone()).collect();
            errors.push(SpecError::Cycle(names));
            return;
        }
        left = waiting;
    }
}

/// Edge names are unique; the rest was checked when they were wired.
pub(super) fn edges(edges: &[Wired], errors: &mut Vec<SpecError>) {
    let mut names = BTreeSet::new();
    for wired in edges {
        let name = &wired.edge.spec().name;
        if !names.insert(name.clone()) {
            errors.push(SpecError::DuplicateEdge(name.clone()));
        }
    }
}

/// No limit of the system is zero where zero means for ever, or never.
pub(super) fn limits(settings: &SystemSettings, errors: &mut Vec<SpecError>) {
    if settings.root_intensity.period.is_zero() {
        errors.push(SpecError::ZeroPeriod("root".to_owned()));
    }
    if settings.consecutive_max == 0 {
        errors.push(SpecError::ZeroLimit("consecutive_max"));
    }
    if settings.tick.is_zero() {
        errors.push(SpecError::ZeroLimit("tick"));
    }
}

/// Deadlines are set, ordered, and together below the hard limit.
pub(super) fn deadlines(
    actors: &[Declared],
    settings: &SystemSettings,
    errors: &mut Vec<SpecError>,
) {
    let mut phases: BTreeMap<u8, Duration> = BTreeMap::new();
    for actor in actors {
        let Some(spec) = &actor.spec else { continue };
        if spec.drain_timeout.is_zero()
            || spec.stall_warn.is_zero()
            || spec.stall_fail <= spec.stall_warn
        {
            errors.push(SpecError::Deadline(actor.name.clone()));
        }
        let phase = phases.entry(spec.phase).or_default();
        *phase = (*phase).max(spec.drain_timeout);
    }
    let (total, limit) = (phases.values().sum::<Duration>(), settings.hard_limit);
    if total > limit {
        errors.push(SpecError::DrainTooLong { phases: total, limit });
    }
}

/// Groups the actors by host; cores exist, and no two hosts spin on one.
pub(super) fn hosts(
    actors: &[Declared],
    threading: Threading,
    machine: &Machine,
    errors: &mut Vec<SpecError>,
) -> Vec<HostPlan> {
    let mut hosts: Vec<HostPlan> = Vec::new();
    for (i, actor) in actors.iter().enumerate() {
        let Some(spec) = &actor.spec else { continue };
        let merged = threading == Threading::Shared && actor.hot;
        let shared = if merged { Some(HOT_HOST) } else { spec.thread.host.as_deref() };
        check_core(actor, spec.thread.core, machine, errors);
        let id = ActorId(index_u16(i));
        let known = hosts.iter_mut().find(|h| h.shared && Some(h.name.as_str()) == shared);
        let Some(host) = known else {
            hosts.push(HostPlan {
                name: shared.unwrap_or(&actor.name).to_owned(),
                seats: vec![id],
                core: spec.thread.core,
                idle: spec.thread.idle,
                hot: actor.hot,
                shared: shared.is_some(),
            });
            continue;
        };
        host.seats.push(id);
        host.hot |= actor.hot;
        host.idle = host.idle.least_restful(spec.thread.idle);
        let differs = host.core.is_some() && spec.thread.core.is_some_and(|c| Some(c) != host.core);
        // Where sharing was asked for as a whole, the first actor's core is the host's.
        if differs && !merged {
            errors.push(SpecError::CoresOfHost(host.name.clone()));
        }
        host.core = host.core.or(spec.thread.core);
    }
    spinners(&hosts, errors);
    hosts
}

fn check_core(actor: &Declared, core: Option<u32>, machine: &Machine, errors: &mut Vec<SpecError>) {
    let Some(core) = core else { return };
    let why = if core >= CORE_ID_LIMIT {
        "is beyond the kernel's CPU mask (0 to 1023)"
    } else if !machine.is_online(core) {
        "is not online"
    } else {
        return;
    };
    errors.push(SpecError::Core { actor: actor.name.clone(), core, why });
}

fn spinners(hosts: &[HostPlan], errors: &mut Vec<SpecError>) {
    let spinning = |h: &&HostPlan| h.idle == IdleStrategy::Spin && h.core.is_some();
    for (i, a) in hosts.iter().enumerate().filter(|(_, h)| spinning(h)) {
        for b in hosts[i + 1..].iter().filter(spinning).filter(|b| b.core == a.core) {
            let core = a.core.unwrap_or_default();
            errors.push(SpecError::TwoSpinners { core, hosts: [a.name.clone(), b.name.clone()] });
        }
    }
}
