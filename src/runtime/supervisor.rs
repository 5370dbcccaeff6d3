//! The supervisor's core: a pure state machine, after Erlang's `supervisor`, for threads that cannot be killed.
//!
//! Events and the time come in, actions go out; it reads no clock, starts no thread and sends nothing. What always
//! holds: at most one live generation per actor; nothing is started once a drain has begun; events of an earlier
//! generation change nothing and are counted; after a drain has begun and as long as ticks arrive, the exit is
//! decided within the hard limit.
//!
//! Here are the lives and their beginnings; what an end means is in `exits`, restarts of several actors together in
//! `rounds`, the drain in `drain`, threads that do not come back in `ladder`.

use std::time::Duration;

use crate::clock::MonoNs;

use super::actor::{ActorId, EdgeId};
use super::drain::{Drain, PhaseReport};
use super::events::Line;
use super::exit::{ExitReason, StopReason};
use super::group::GroupSpec;
use super::health::ActorState;
use super::ladder::Ladder;
use super::protocol::{Action, ChildPlan, EdgePlan, Event, Limits};
use super::restart::{Backoff, RestartWindow};
use super::rounds::Round;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// For the actors it depends on.
    Waiting,
    Starting {
        since: MonoNs,
    },
    Running {
        since: MonoNs,
    },
    /// Told to end, so that its group can begin anew.
    Stopping {
        since: MonoNs,
    },
    /// Ended, and waits for the rest of its round.
    Stopped,
    /// Waits for the restart that its end has scheduled. Whatever ends the wait otherwise puts another life in its
    /// place, so that no scheduled restart can outlive its reason.
    Backoff {
        until: MonoNs,
    },
    Ended,
    /// Its thread does not come back; nothing will start in its place.
    Wedged,
}

pub(super) struct Child {
    pub(super) plan: ChildPlan,
    pub(super) life: Life,
    pub(super) generation: u32,
    pub(super) backoff: Backoff,
    pub(super) ready_once: bool,
    /// Those that depend on it may start: it has been ready since it last began to wait for others itself.
    pub(super) up: bool,
    pub(super) stalled: bool,
    pub(super) last_exit: Option<ExitReason>,
}

impl Child {
    pub(super) fn is_live(&self) -> bool {
        matches!(self.life, Life::Starting { .. } | Life::Running { .. } | Life::Stopping { .. })
    }
}

/// A group and what its actors have been charged with.
pub(super) struct Group {
    pub(super) spec: GroupSpec,
    pub(super) window: RestartWindow,
}

/// The state machine.
pub(super) struct Supervisor {
    pub(super) limits: Limits,
    pub(super) children: Vec<Child>,
    pub(super) edges: Vec<EdgePlan>,
    pub(super) groups: Vec<Group>,
    /// Restarts of whole groups.
    pub(super) root: RestartWindow,
    /// At most one for each group.
    pub(super) rounds: Vec<Round>,
    pub(super) begun: MonoNs,
    pub(super) random: fastrand::Rng,
    pub(super) ladder: Option<Ladder>,
    pub(super) drain: Option<Drain>,
    fenced: bool,
    over: bool,
    stale_events: u64,
    pub(super) reason: Option<StopReason>,
    pub(super) out: Vec<Action>,
}

impl Supervisor {
    pub(super) fn new(
        limits: Limits,
        children: Vec<ChildPlan>,
        edges: Vec<EdgePlan>,
        groups: &[GroupSpec],
        seed: u64,
    ) -> Self {
        let child = |plan| Child {
            plan,
            life: Life::Waiting,
            generation: 0,
            backoff: Backoff::default(),
            ready_once: false,
            up: false,
            stalled: false,
            last_exit: None,
        };
        let group = |spec: &GroupSpec| Group {
            spec: spec.clone(),
            window: RestartWindow::new(spec.intensity),
        };
        Self {
            children: children.into_iter().map(child).collect(),
            edges,
            groups: groups.iter().map(group).collect(),
            root: RestartWindow::new(limits.root_intensity),
            rounds: Vec::new(),
            begun: MonoNs::ZERO,
            limits,
            random: fastrand::Rng::with_seed(seed),
            ladder: None,
            drain: None,
            fenced: false,
            over: false,
            stale_events: 0,
            reason: None,
            out: Vec::new(),
        }
    }

    /// Takes an event; appends to `actions` what to do about it, in order.
    pub(super) fn step(&mut self, now: MonoNs, event: Event, actions: &mut Vec<Action>) {
        if self.over {
            return;
        }
        match event {
            Event::Begin => {
                self.begun = now;
                self.start_waiting(now);
            }
            Event::Ready { actor, generation } => self.ready(now, actor, generation),
            Event::Exited { actor, generation, reason } => {
                self.exited(now, actor, generation, reason);
            }
            Event::Tick => self.tick(now),
            Event::Drain(reason) => self.begin_drain(now, reason),
            Event::Suspended(gap) => self.suspended(gap),
            Event::Stalled { actor, generation } => self.stalled(actor, generation),
            Event::Recovered { actor, generation } => self.recovered(actor, generation),
            Event::Wedged { actor, generation, how } => self.wedged(now, actor, generation, how),
            Event::EmergencyDone => self.emergency_done(now),
        }
        actions.append(&mut self.out);
    }

    /// The next moment at which a tick has something to do; [`MonoNs::NEVER`] if there is none.
    pub(super) fn next_due(&self) -> MonoNs {
        let child = |c: &Child| match c.life {
            Life::Backoff { until } => until,
            _ if self.ladder.is_some() || self.drain.is_some() => MonoNs::NEVER,
            _ => self.patience(c),
        };
        let round = self.rounds.iter().map(|r| r.due(self)).min().unwrap_or(MonoNs::NEVER);
        let ladder = self.ladder.as_ref().map_or(MonoNs::NEVER, |l| l.until);
        if self.is_on_last_rung() {
            return ladder;
        }
        let drain = self.drain.as_ref().map_or(MonoNs::NEVER, Drain::due);
        self.children
            .iter()
            .map(child)
            .min()
            .unwrap_or(MonoNs::NEVER)
            .min(ladder)
            .min(drain)
            .min(round)
    }

    /// Until when the child may take to start, or to end.
    fn patience(&self, child: &Child) -> MonoNs {
        match child.life {
            Life::Starting { since } => since.after(self.limits.start_timeout),
            // A backstop: as long as it runs, its progress is watched, with every excuse that it may have.
            Life::Stopping { since } => {
                since.after(child.plan.drain_timeout.max(self.limits.start_timeout * 2))
            }
            _ => MonoNs::NEVER,
        }
    }

    /// Events of earlier generations that were ignored.
    pub(super) fn stale_events(&self) -> u64 {
        self.stale_events
    }

    /// Whether a drain has begun.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// Why the system stopped, or is stopping.
    pub(super) fn reason(&self) -> Option<&StopReason> {
        self.reason.as_ref()
    }

    /// The drain phases that are over.
    pub(super) fn phases(&self) -> &[PhaseReport] {
        self.drain.as_ref().map_or(&[], |d| &d.reports)
    }

    /// How the actor's last life ended, if one did.
    pub(super) fn last_exit(&self, actor: ActorId) -> Option<&ExitReason> {
        self.children[actor.index()].last_exit.as_ref()
    }

    pub(super) fn name(&self, actor: ActorId) -> &str {
        &self.children[actor.index()].plan.name
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ActorId> + use<> {
        (0..self.children.len()).map(|i| ActorId(u16::try_from(i).unwrap_or(u16::MAX)))
    }

    pub(super) fn is_live(&self, actor: ActorId) -> bool {
        self.children[actor.index()].is_live()
    }

    /// Whether the event speaks of the actor's present life; counts it otherwise.
    pub(super) fn is_current(&mut self, actor: ActorId, generation: u32) -> bool {
        let current = self
            .children
            .get(actor.index())
            .is_some_and(|c| c.generation == generation && (c.is_live() || c.life == Life::Wedged));
        self.stale_events += u64::from(!current);
        current
    }

    /// Starts every child that waits and whose dependencies are all up.
    pub(super) fn start_waiting(&mut self, now: MonoNs) {
        if self.drain.is_some() || self.is_on_last_rung() {
            return;
        }
        for id in self.ids() {
            let child = &self.children[id.index()];
            let satisfied = |d: &ActorId| {
                let needed = &self.children[d.index()];
                // One that has ended for good must not be waited for.
                needed.up || needed.life == Life::Ended
            };
            if child.life == Life::Waiting && child.plan.depends_on.iter().all(satisfied) {
                self.start(now, id);
            }
        }
    }

    pub(super) fn start(&mut self, now: MonoNs, actor: ActorId) {
        let child = &mut self.children[actor.index()];
        child.generation += 1;
        child.life = Life::Starting { since: now };
        child.last_exit = None;
        let generation = child.generation;
        self.out.push(Action::Mark(actor, ActorState::Starting));
        self.out.push(Action::Start { actor, generation });
    }

    fn ready(&mut self, now: MonoNs, actor: ActorId, generation: u32) {
        if !self.is_current(actor, generation) {
            return;
        }
        let child = &mut self.children[actor.index()];
        let Life::Starting { since } = child.life else {
            return;
        };
        child.life = Life::Running { since: now };
        if !child.ready_once {
            // What its first start took is nobody's crash.
            child.backoff = Backoff::default();
        }
        child.ready_once = true;
        child.up = true;
        let line = Line::info("actor.ready")
            .kv("actor", &child.plan.name)
            .kv("gen", generation)
            .kv("init_us", now.since(since).as_micros());
        let draining = self.drain.as_ref().is_some_and(|d| d.has_reached(child.plan.phase));
        let state = if draining { ActorState::Draining } else { ActorState::Running };
        self.out.push(Action::Mark(actor, state));
        self.out.push(Action::Say(line));
        self.leave_ladder(actor);
        self.start_waiting(now);
    }

    /// The actor will not live again: nobody takes from its mailboxes any more.
    pub(super) fn end(&mut self, actor: ActorId) {
        self.children[actor.index()].life = Life::Ended;
        for round in &mut self.rounds {
            round.leave(actor);
        }
        self.out.push(Action::Mark(actor, ActorState::Exited));
        self.close_inboxes(actor);
    }

    pub(super) fn close_inboxes(&mut self, actor: ActorId) {
        for (i, _) in self.edges.iter().enumerate().filter(|(_, e)| e.to == actor) {
            self.out.push(Action::Close(edge_id(i)));
        }
    }

    fn tick(&mut self, now: MonoNs) {
        if self.ladder.as_ref().is_some_and(|l| now >= l.until) {
            self.climb(now);
        }
        if self.over || self.is_on_last_rung() {
            return;
        }
        if self.drain.is_some() {
            self.tick_drain(now);
            return;
        }
        for actor in self.ids() {
            let child = &self.children[actor.index()];
            match child.life {
                Life::Backoff { until } if now >= until => self.start(now, actor),
                _ if now >= self.patience(child) => {
                    let starting = matches!(child.life, Life::Starting { .. });
                    let how = if starting { "does not finish starting" } else { "does not end" };
                    self.wedged(now, actor, child.generation, how.to_owned());
                }
                _ => {}
            }
        }
        self.advance_rounds(now);
    }

    /// The supervisor was itself not running for `gap`, and neither were its children: what they may take to start
    /// and to end begins that much later. A drain has its hard limit all the same.
    fn suspended(&mut self, gap: Duration) {
        self.begun = self.begun.after(gap);
        for child in &mut self.children {
            if let Life::Starting { since } | Life::Stopping { since } = &mut child.life {
                *since = since.after(gap);
            }
        }
        if let Some(ladder) = self.ladder.as_mut().filter(|l| !l.final_rung) {
            ladder.until = ladder.until.after(gap);
        }
    }

    fn stalled(&mut self, actor: ActorId, generation: u32) {
        if !self.is_current(actor, generation) {
            return;
        }
        let child = &mut self.children[actor.index()];
        child.stalled = true;
        // A drain has its own deadlines and sends nothing new.
        if child.plan.essential && self.drain.is_none() {
            self.fence(actor, "makes no progress");
        }
    }

    fn recovered(&mut self, actor: ActorId, generation: u32) {
        if self.is_current(actor, generation) {
            self.leave_ladder(actor);
            self.clear_stall(actor);
        }
    }

    pub(super) fn clear_stall(&mut self, actor: ActorId) {
        self.children[actor.index()].stalled = false;
        self.unfence_if_clear();
    }

    pub(super) fn fence(&mut self, actor: ActorId, why: &str) {
        if !self.fenced {
            self.fenced = true;
            self.out.push(Action::Fence(format!("{} {why}", self.name(actor))));
        }
    }

    pub(super) fn unfence_if_clear(&mut self) {
        let stalled = self.children.iter().any(|c| c.stalled && c.plan.essential);
        if self.fenced && !stalled && self.ladder.is_none() {
            self.fenced = false;
            self.out.push(Action::Unfence);
        }
    }

    pub(super) fn exit(&mut self, code: i32) {
        let reason = self.reason.as_ref().map_or("", |r| r.text.as_str());
        let line = Line::info("sup.exit").kv("code", code).kv("reason", reason);
        self.over = true;
        self.out.push(Action::Say(line));
        self.out.push(Action::Exit(code));
    }
}

pub(super) fn edge_id(index: usize) -> EdgeId {
    EdgeId(u16::try_from(index).unwrap_or(u16::MAX))
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
pub(super) mod tests;
