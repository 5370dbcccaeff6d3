//! The drain: phases in order, each with a deadline, all under the hard limit.
//!
//! [`Drain`] is the bookkeeping; the second half is the part of the supervisor's core that conducts it. What always
//! holds: a drain runs once, nothing is started in it, and a missed deadline ends in the next phase, never in a wait.

use std::time::Duration;

use crate::clock::MonoNs;

use super::actor::ActorId;
use super::events::Line;
use super::exit::{EXIT_LATE, EXIT_OK, ExitReason, StopReason};
use super::health::ActorState;
use super::protocol::{Action, EdgePlan};
use super::supervisor::{Child, Life, Supervisor, edge_id};

/// Kept free below the hard limit for the report, so that the supervisor's deadlines end before the reaper's.
const MARGIN: Duration = Duration::from_millis(300);

/// How one drain phase went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PhaseReport {
    pub(super) phase: u8,
    pub(super) took: Duration,
    pub(super) late: bool,
}

/// How hard the current phase's actors are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DrainStep {
    /// They drain.
    Graceful { until: MonoNs },
    /// They were told to stop where they stand.
    Stopping { until: MonoNs },
}

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) begun: MonoNs,
    pub(super) step: DrainStep,
    pub(super) reports: Vec<PhaseReport>,
    /// Until when to wait for the emergency routine, once the phases are over.
    pub(super) emergency: Option<MonoNs>,
    /// Another actor was found gone while the routine ran: it must run once more.
    pub(super) emergency_again: bool,
    /// Ascending, without duplicates.
    phases: Vec<u8>,
    current: usize,
    phase_begun: MonoNs,
    limit: MonoNs,
}

impl Drain {
    pub(super) fn new(now: MonoNs, hard_limit: Duration, mut phases: Vec<u8>) -> Self {
        phases.sort_unstable();
        phases.dedup();
        Self {
            begun: now,
            step: DrainStep::Graceful { until: now },
            reports: Vec::new(),
            emergency: None,
            emergency_again: false,
            phases,
            current: 0,
            phase_begun: now,
            limit: now.after(hard_limit.saturating_sub(MARGIN)),
        }
    }

    /// The phase being drained; `None` when all are over.
    pub(super) fn phase(&self) -> Option<u8> {
        self.phases.get(self.current).copied()
    }

    /// Whether the drain of `phase` has begun.
    pub(super) fn has_reached(&self, phase: u8) -> bool {
        self.phase().is_none_or(|current| current >= phase)
    }

    /// No deadline lies behind the hard limit.
    pub(super) fn clamp(&self, until: MonoNs) -> MonoNs {
        until.min(self.limit)
    }

    /// The current phase begins and may take `budget`.
    pub(super) fn enter(&mut self, now: MonoNs, budget: Duration) {
        self.phase_begun = now;
        self.step = DrainStep::Graceful { until: self.clamp(now.after(budget)) };
    }

    /// The current phase missed its deadline: `grace` remains.
    pub(super) fn stop(&mut self, now: MonoNs, grace: Duration) {
        self.step = DrainStep::Stopping { until: self.clamp(now.after(grace)) };
    }

    /// The current phase is over.
    pub(super) fn leave(&mut self, now: MonoNs) {
        if let Some(phase) = self.phase() {
            let late = matches!(self.step, DrainStep::Stopping { .. });
            self.reports.push(PhaseReport { phase, took: now.since(self.phase_begun), late });
            self.current += 1;
        }
    }

    /// Whether any phase missed its deadline.
    pub(super) fn is_late(&self) -> bool {
        self.reports.iter().any(|r| r.late)
    }

    /// When the next deadline passes.
    pub(super) fn due(&self) -> MonoNs {
        if self.phase().is_none() {
            return self.emergency.unwrap_or(MonoNs::NEVER);
        }
        match self.step {
            DrainStep::Graceful { until } | DrainStep::Stopping { until } => until,
        }
    }
}

impl Supervisor {
    pub(super) fn begin_drain(&mut self, now: MonoNs, reason: StopReason) {
        // Runs once; and on the ladder's last rung the exit is decided already.
        if self.drain.is_some() || self.is_on_last_rung() {
            return;
        }
        self.ladder = None;
        let line = Line::info("drain.begin")
            .kv("reason", &reason.text)
            .kv("hard_limit_ms", self.limits.hard_limit.as_millis());
        self.out.push(Action::ArmReaper { limit: self.limits.hard_limit, code: EXIT_LATE });
        self.out.push(Action::Say(line));
        self.reason = Some(reason);
        self.rounds.clear();
        let phases = self.children.iter().map(|c| c.plan.phase).collect();
        self.drain = Some(Drain::new(now, self.limits.hard_limit, phases));
        for actor in self.ids() {
            let life = self.children[actor.index()].life;
            if matches!(life, Life::Waiting | Life::Stopped | Life::Backoff { .. }) {
                self.end(actor);
            }
            if !self.is_live(actor) {
                self.call_emergency(now, actor);
            }
        }
        self.enter_phase(now);
        self.advance_drain(now);
    }

    /// Begins the drain of the current phase's actors.
    fn enter_phase(&mut self, now: MonoNs) {
        let Some(phase) = self.drain.as_ref().and_then(Drain::phase) else { return };
        let members: Vec<ActorId> = self
            .ids()
            .filter(|id| self.is_live(*id) && self.children[id.index()].plan.phase == phase)
            .collect();
        let timeout = |id: &ActorId| self.children[id.index()].plan.drain_timeout;
        let budget = members.iter().map(timeout).max().unwrap_or_default();
        if let Some(drain) = &mut self.drain {
            drain.enter(now, budget);
        }
        let line = Line::info("drain.phase").kv("phase", phase).kv("actors", members.len());
        self.out.push(Action::Say(line));
        for actor in members {
            self.out.push(Action::Mark(actor, ActorState::Draining));
            self.out.push(Action::BeginDrain(actor));
            for (i, edge) in self.edges.iter().enumerate() {
                if edge.to == actor && awaits_pill(edge, |id| self.children[id.index()].plan.phase)
                {
                    self.out.push(Action::SendPill(edge_id(i)));
                }
            }
        }
    }

    /// Goes on to the next phase, and the end, as far as nothing is left to wait for.
    pub(super) fn advance_drain(&mut self, now: MonoNs) {
        while let Some(drain) = &mut self.drain {
            let Some(phase) = drain.phase() else { break };
            if self.children.iter().any(|c| c.plan.phase == phase && c.is_live()) {
                return;
            }
            drain.leave(now);
            self.enter_phase(now);
        }
        let Some(drain) = &self.drain else { return };
        if drain.emergency.is_some_and(|until| now < until) {
            return;
        }
        let late = drain.is_late() || self.children.iter().any(is_unclean);
        let line = Line::info("drain.end")
            .kv("ms", now.since(drain.begun).as_millis())
            .kv("late", drain.is_late());
        self.out.push(Action::Say(line));
        let asked = self.reason.as_ref().map_or(EXIT_OK, |r| r.code);
        self.exit(if asked == EXIT_OK && late { EXIT_LATE } else { asked });
    }

    pub(super) fn tick_drain(&mut self, now: MonoNs) {
        let Some(drain) = &mut self.drain else { return };
        let live: Vec<usize> = (0..self.children.len())
            .filter(|i| {
                Some(self.children[*i].plan.phase) == drain.phase() && self.children[*i].is_live()
            })
            .collect();
        match drain.step {
            DrainStep::Graceful { until } if now >= until && !live.is_empty() => {
                drain.stop(now, self.limits.stop_grace);
                for i in live {
                    let actor = ActorId(u16::try_from(i).unwrap_or(u16::MAX));
                    self.out.push(Action::StopNow(actor));
                    self.out.push(Action::Interrupt(actor));
                }
            }
            DrainStep::Stopping { until } if now >= until => {
                for i in live {
                    self.give_up_on(now, ActorId(u16::try_from(i).unwrap_or(u16::MAX)));
                }
            }
            _ => {}
        }
        self.advance_drain(now);
    }

    /// The actor did not stop even when told to where it stands: the drain goes on without it.
    fn give_up_on(&mut self, now: MonoNs, actor: ActorId) {
        self.children[actor.index()].life = Life::Wedged;
        self.out.push(Action::Mark(actor, ActorState::Wedged));
        self.close_inboxes(actor);
        let line = Line::error("drain.late").kv("actor", self.name(actor)).kv("action", "abandon");
        self.out.push(Action::Say(line));
        self.call_emergency(now, actor);
    }

    /// What an actor that is gone left open outside is closed by the emergency routine.
    pub(super) fn call_emergency(&mut self, now: MonoNs, actor: ActorId) {
        let child = &self.children[actor.index()];
        let left_open = child.plan.emergency
            && child.ready_once
            && !child.last_exit.as_ref().is_some_and(ExitReason::is_complete);
        let Some(drain) = &mut self.drain else { return };
        if left_open && drain.emergency.is_some() {
            drain.emergency_again = true;
        } else if left_open {
            drain.emergency = Some(drain.clamp(now.after(self.limits.emergency_limit)));
            self.out.push(Action::Emergency);
        }
    }
}

/// Whether the edge's consumer waits for a pill: only if every producer drains in an earlier phase. Where two
/// actors feed each other there is no last message; the later one's offers are refused once the earlier is gone.
pub(super) fn awaits_pill(edge: &EdgePlan, phase_of: impl Fn(ActorId) -> u8) -> bool {
    edge.from.iter().all(|from| phase_of(*from) < phase_of(edge.to))
}

fn is_unclean(child: &Child) -> bool {
    let complete = child.last_exit.as_ref().is_some_and(ExitReason::is_complete);
    child.plan.must_drain && child.ready_once && !complete
}
