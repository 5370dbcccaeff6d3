//! What the end of a life means: nothing, another life, a restart of several, or the end of the system.
//!
//! The part of the supervisor's core that judges exits. An actor's crash is charged to its group; a group that has
//! spent its budget is restarted as a whole and charged to the root; a root that has spent its own drains. A crash
//! loop too slow for the window is caught by the count of failures in a row. A first start that fails is not a
//! crash: it ends the system at once, unless what it needs may still come.

use std::time::Duration;

use crate::clock::MonoNs;

use super::actor::ActorId;
use super::child::Restart;
use super::events::Line;
use super::exit::{EXIT_BUDGET, EXIT_CONFIG, EXIT_OK, EXIT_UNAVAILABLE, ExitReason, StopReason};
use super::group::{AutoShutdown, Strategy};
use super::health::ActorState;
use super::protocol::Action;
use super::restart::Verdict;
use super::supervisor::{Child, Life, Supervisor};

impl Supervisor {
    pub(super) fn exited(
        &mut self,
        now: MonoNs,
        actor: ActorId,
        generation: u32,
        reason: ExitReason,
    ) {
        if !self.is_current(actor, generation) {
            return;
        }
        self.leave_ladder(actor);
        self.clear_stall(actor);
        let child = &mut self.children[actor.index()];
        let life = std::mem::replace(&mut child.life, Life::Stopped);
        child.last_exit = Some(reason.clone());
        match life {
            // It came back after it was given up, or while only the emergency routine is waited for: nothing takes
            // its place any more.
            Life::Wedged => child.life = Life::Ended,
            _ if self.is_on_last_rung() => self.end(actor),
            _ if self.drain.is_some() => {
                self.end(actor);
                self.call_emergency(now, actor);
                self.advance_drain(now);
            }
            Life::Stopping { .. } if reason == ExitReason::Done && !self.is_permanent(actor) => {
                // It was done before it heard that it should end.
                self.judge(now, actor, &reason, Duration::ZERO);
                self.advance_rounds(now);
            }
            Life::Stopping { .. } => self.left_round(now, actor),
            Life::Running { since } => self.judge(now, actor, &reason, now.since(since)),
            _ if self.children[actor.index()].ready_once => {
                self.judge(now, actor, &reason, Duration::ZERO);
            }
            _ => self.failed_first_start(now, actor, &reason),
        }
    }

    /// The actor ended by itself after it had been ready for `lived`.
    fn judge(&mut self, now: MonoNs, actor: ActorId, reason: &ExitReason, lived: Duration) {
        let restart = self.children[actor.index()].plan.restart;
        let normal = reason.is_normal();
        if reason.is_config() {
            self.misconfigured(now, actor);
        } else if restart == Restart::Temporary || (restart == Restart::Transient && normal) {
            self.end(actor);
            self.shut_down_if_significant(now, actor);
        } else {
            self.restart(now, actor, lived);
        }
    }

    fn is_permanent(&self, actor: ActorId) -> bool {
        self.children[actor.index()].plan.restart == Restart::Permanent
    }

    fn misconfigured(&mut self, now: MonoNs, actor: ActorId) {
        self.end(actor);
        let text = format!("the configuration of {} is wrong", self.name(actor));
        self.begin_drain(now, StopReason { text, code: EXIT_CONFIG });
    }

    /// It has never been ready: what was started before it is stopped again.
    fn failed_first_start(&mut self, now: MonoNs, actor: ActorId, reason: &ExitReason) {
        if reason.is_config() {
            self.misconfigured(now, actor);
            return;
        }
        let delay = self.children[actor.index()].backoff.next(Duration::ZERO, &mut self.random);
        let retry = reason.is_retry();
        if retry && now.after(delay) < self.begun.after(self.limits.start_deadline) {
            self.schedule(now, actor, delay, "first_start");
            return;
        }
        self.end(actor);
        let text = format!("{} could not start", self.name(actor));
        let code = if retry { EXIT_UNAVAILABLE } else { reason.give_up_code() };
        self.begin_drain(now, StopReason { text, code });
    }

    /// A significant actor has ended by itself, for good.
    fn shut_down_if_significant(&mut self, now: MonoNs, actor: ActorId) {
        let plan = &self.children[actor.index()].plan;
        let group = plan.group;
        let left = |c: &Child| c.plan.group == group && c.plan.significant && c.life != Life::Ended;
        let over = match self.groups[group.index()].spec.auto_shutdown {
            AutoShutdown::Never => false,
            AutoShutdown::AnySignificant => true,
            AutoShutdown::AllSignificant => !self.children.iter().any(left),
        };
        if plan.significant && over {
            let text = format!("{} ended", self.name(actor));
            // What went wrong with any of them went wrong with all.
            let bad = |c: &Child| {
                let exit = c.last_exit.as_ref().filter(|exit| !exit.is_normal());
                exit.filter(|_| c.plan.group == group && c.plan.significant)
                    .map(ExitReason::give_up_code)
            };
            let code = self.children.iter().find_map(bad).unwrap_or(EXIT_OK);
            self.begin_drain(now, StopReason { text, code });
        }
    }

    /// The actor shall live again, with those that its group's strategy names, if the budget allows.
    fn restart(&mut self, now: MonoNs, actor: ActorId, lived: Duration) {
        let child = &mut self.children[actor.index()];
        let delay = child.backoff.next(lived, &mut self.random);
        let (attempt, id) = (child.backoff.attempts(), child.plan.group);
        self.out.push(Action::Failures(actor, attempt));
        let group = &mut self.groups[id.index()];
        let verdict = group.window.record(now);
        if verdict == Verdict::Escalate || attempt >= self.limits.consecutive_max {
            self.escalate(now, actor, delay);
            return;
        }
        let budget = format!("{}/{}", group.window.count(), group.spec.intensity.count_max);
        let strategy = group.spec.strategy;
        if self.rounds.iter().any(|r| r.has(actor)) {
            // It crashed before it heard that its group begins anew: it begins with the others.
            self.begin_round(now, actor, &[actor], delay, &budget);
            return;
        }
        let members = match strategy {
            Strategy::OneForOne => {
                self.schedule(now, actor, delay, &budget);
                return;
            }
            Strategy::RestForOne => self.dependents(actor),
            Strategy::OneForAll => self.members(id),
        };
        self.begin_round(now, actor, &members, delay, &budget);
    }

    /// The group has spent its budget, or the actor fails again and again: the level above decides.
    fn escalate(&mut self, now: MonoNs, actor: ActorId, delay: Duration) {
        let id = self.children[actor.index()].plan.group;
        let verdict = self.root.record(now);
        let group = &mut self.groups[id.index()];
        let action = if verdict == Verdict::Escalate { "drain" } else { "restart_group" };
        let line = Line::error("escalate")
            .kv("actor", &self.children[actor.index()].plan.name)
            .kv("group", &group.spec.name)
            .kv("crashes", group.window.count())
            .kv("window_s", group.window.intensity().period.as_secs())
            .kv("consecutive", self.children[actor.index()].backoff.attempts())
            .kv("action", action);
        group.window.clear();
        let name = group.spec.name.clone();
        self.out.push(Action::Say(line));
        if verdict == Verdict::Escalate {
            self.end(actor);
            let text = format!("restart budget of {} exhausted", self.name(actor));
            let last = self.last_exit(actor);
            let code = last.map_or(EXIT_BUDGET, ExitReason::give_up_code);
            self.begin_drain(now, StopReason { text, code });
            return;
        }
        let budget = format!("{}/{}", self.root.count(), self.root.intensity().count_max);
        let members = self.members(id);
        self.begin_round(now, actor, &members, delay, &format!("{budget} of {name}"));
    }

    /// One actor's restart, after `delay`.
    fn schedule(&mut self, now: MonoNs, actor: ActorId, delay: Duration, budget: &str) {
        let child = &mut self.children[actor.index()];
        child.life = Life::Backoff { until: now.after(delay) };
        let line = Line::warn("restart.scheduled")
            .kv("actor", &child.plan.name)
            .kv("gen", child.generation + 1)
            .kv("delay_ms", delay.as_millis())
            .kv("attempt", child.backoff.attempts())
            .kv("budget", budget);
        self.out.push(Action::Mark(actor, ActorState::Backoff));
        self.out.push(Action::Say(line));
        if delay.is_zero() {
            self.start(now, actor);
        }
    }
}

#[cfg(test)]
#[path = "exits_tests.rs"]
mod tests;
