//! Rounds: several actors of a group that end together and begin anew together.
//!
//! The part of the supervisor's core behind rest-for-one, one-for-all and the restart of a whole group. What always
//! holds: nobody of a round starts before all of it has ended; it ends in the reverse of the order in which it
//! starts; an actor that is to live no more, a temporary one, only ends. An actor that crashes while it is told to
//! end has ended; one that crashes while the round starts anew begins another, and is charged for it, as in Erlang.

use std::time::Duration;

use crate::clock::MonoNs;

use super::actor::ActorId;
use super::child::Restart;
use super::events::Line;
use super::group::GroupId;
use super::health::ActorState;
use super::protocol::Action;
use super::supervisor::{Life, Supervisor};

/// A restart of several actors under way: from the crash until all of them have ended and the delay is over.
#[derive(Debug)]
pub(super) struct Round {
    group: GroupId,
    /// Ascending, without duplicates.
    members: Vec<ActorId>,
    until: MonoNs,
}

impl Round {
    /// Whether the actor ends and begins with this round.
    pub(super) fn has(&self, actor: ActorId) -> bool {
        self.members.contains(&actor)
    }

    /// The actor has ended for good.
    pub(super) fn leave(&mut self, actor: ActorId) {
        self.members.retain(|id| *id != actor);
    }

    /// When there is something to do although nobody reports.
    pub(super) fn due(&self, core: &Supervisor) -> MonoNs {
        if core.has_live(&self.members) { MonoNs::NEVER } else { self.until }
    }
}

impl Supervisor {
    /// The actors of a group that may live again.
    pub(super) fn members(&self, group: GroupId) -> Vec<ActorId> {
        self.ids()
            .filter(|id| {
                let child = &self.children[id.index()];
                child.plan.group == group && !matches!(child.life, Life::Ended | Life::Wedged)
            })
            .collect()
    }

    /// `actor` and those of its group that depend on it, directly or through others.
    pub(super) fn dependents(&self, actor: ActorId) -> Vec<ActorId> {
        let mut found = vec![actor];
        let candidates = self.members(self.children[actor.index()].plan.group);
        loop {
            let next = candidates.iter().find(|id| {
                let needs = &self.children[id.index()].plan.depends_on;
                !found.contains(id) && needs.iter().any(|d| found.contains(d))
            });
            let Some(next) = next else { break };
            found.push(*next);
        }
        found.sort_unstable();
        found
    }

    fn has_live(&self, members: &[ActorId]) -> bool {
        members.iter().any(|id| self.is_live(*id))
    }

    /// `actor` has crashed; all `members` shall end, rest for `delay`, and begin anew.
    pub(super) fn begin_round(
        &mut self,
        now: MonoNs,
        actor: ActorId,
        members: &[ActorId],
        delay: Duration,
        budget: &str,
    ) {
        let group = self.children[actor.index()].plan.group;
        let line = Line::warn("restart.group")
            .kv("actor", self.name(actor))
            .kv("group", &self.groups[group.index()].spec.name)
            .kv("actors", members.len())
            .kv("delay_ms", delay.as_millis())
            .kv("attempt", self.children[actor.index()].backoff.attempts())
            .kv("budget", budget);
        self.out.push(Action::Say(line));
        let mut round = Round { group, members: members.to_vec(), until: now.after(delay) };
        if let Some(at) = self.rounds.iter().position(|r| r.group == group) {
            // Another actor of the group failed first: one round for all of them.
            let earlier = self.rounds.swap_remove(at);
            round.members.extend(earlier.members);
            round.members.sort_unstable();
            round.members.dedup();
            round.until = round.until.max(earlier.until);
        }
        for id in &round.members {
            let child = &mut self.children[id.index()];
            if !child.is_live() {
                // Whatever start it waited for, the round's comes instead.
                child.life = Life::Stopped;
                self.out.push(Action::Mark(*id, ActorState::Backoff));
            }
        }
        self.rounds.push(round);
        self.advance_rounds(now);
    }

    /// An actor that was told to end has ended.
    pub(super) fn left_round(&mut self, now: MonoNs, actor: ActorId) {
        let child = &self.children[actor.index()];
        // One that was never ready is still to be started for the first time.
        if child.plan.restart == Restart::Temporary && child.ready_once {
            self.end(actor);
        } else {
            self.out.push(Action::Mark(actor, ActorState::Backoff));
        }
        self.advance_rounds(now);
    }

    /// Goes on with every round as far as nothing is left to wait for.
    pub(super) fn advance_rounds(&mut self, now: MonoNs) {
        if self.is_on_last_rung() {
            return;
        }
        let (over, going): (Vec<Round>, Vec<Round>) = std::mem::take(&mut self.rounds)
            .into_iter()
            .partition(|r| now >= r.until && !self.has_live(&r.members));
        for round in &going {
            self.stop_next(now, round);
        }
        self.rounds = going;
        for round in over {
            for id in &round.members {
                let child = &mut self.children[id.index()];
                child.life = Life::Waiting;
                child.up = false;
            }
        }
        self.start_waiting(now);
    }

    /// Tells those of the round to end on whom nobody else of it depends any more.
    fn stop_next(&mut self, now: MonoNs, round: &Round) {
        for id in &round.members {
            let child = &self.children[id.index()];
            let live = matches!(child.life, Life::Starting { .. } | Life::Running { .. });
            let needed = round.members.iter().any(|other| {
                self.is_live(*other) && self.children[other.index()].plan.depends_on.contains(id)
            });
            if live && !needed {
                let generation = child.generation;
                let child = &mut self.children[id.index()];
                if let Life::Running { since } = child.life {
                    child.backoff.credit(now.since(since));
                }
                child.life = Life::Stopping { since: now };
                self.out.push(Action::Terminate { actor: *id, generation });
            }
        }
    }
}
