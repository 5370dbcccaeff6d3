//! The wedge ladder: what is done about a thread that does not come back and cannot be killed.
//!
//! Fence trading, interrupt its sockets and wait; run the emergency routine; end the process with 75. The part of
//! the supervisor's core that climbs it; an actor that comes back before the last rung ends the climb.

use std::time::Duration;

use crate::clock::MonoNs;

use super::actor::ActorId;
use super::events::Line;
use super::exit::{EXIT_WEDGED, StopReason};
use super::health::ActorState;
use super::protocol::Action;
use super::supervisor::{Life, Supervisor};

/// The wedge ladder's current rung.
#[derive(Clone, Debug)]
pub(super) struct Ladder {
    pub(super) actor: ActorId,
    how: String,
    pub(super) until: MonoNs,
    /// The last rung: the emergency routine runs, then the exit.
    pub(super) final_rung: bool,
}

impl Supervisor {
    pub(super) fn wedged(&mut self, now: MonoNs, actor: ActorId, generation: u32, how: String) {
        // One ladder at a time, and a drain has its own deadlines.
        if !self.is_current(actor, generation) || self.ladder.is_some() || self.drain.is_some() {
            return;
        }
        let grace = self.limits.wedge_grace;
        let line = Line::error("wedge.interrupt")
            .kv("actor", self.name(actor))
            .kv("how", &how)
            .kv("grace_ms", grace.as_millis());
        self.out.push(Action::Say(line));
        self.out.push(Action::Interrupt(actor));
        self.fence(actor, "is wedged");
        self.ladder = Some(Ladder { actor, how, until: now.after(grace), final_rung: false });
    }

    /// The exit is decided; only the emergency routine is waited for.
    pub(super) fn is_on_last_rung(&self) -> bool {
        self.ladder.as_ref().is_some_and(|l| l.final_rung)
    }

    /// The actor came back before the last rung.
    pub(super) fn leave_ladder(&mut self, actor: ActorId) {
        if self.ladder.as_ref().is_some_and(|l| l.actor == actor && !l.final_rung) {
            self.ladder = None;
            self.unfence_if_clear();
        }
    }

    /// The rung's time is up.
    pub(super) fn climb(&mut self, now: MonoNs) {
        let Some(ladder) = &mut self.ladder else { return };
        let actor = ladder.actor;
        if ladder.final_rung {
            self.exit_wedged();
            return;
        }
        let limit = self.limits.emergency_limit;
        ladder.final_rung = true;
        ladder.until = now.after(limit);
        self.children[actor.index()].life = Life::Wedged;
        self.out.push(Action::Mark(actor, ActorState::Wedged));
        // The helper gets its time, the supervisor a second more. Armed first: nothing after it can keep it from firing.
        let reaper = limit.saturating_add(Duration::from_secs(1));
        self.out.push(Action::ArmReaper { limit: reaper, code: EXIT_WEDGED });
        let line = Line::error("wedge.fence")
            .kv("actor", self.name(actor))
            .kv("emergency_ms", limit.as_millis());
        self.out.push(Action::Say(line));
        self.out.push(Action::Emergency);
    }

    fn exit_wedged(&mut self) {
        let Some(ladder) = self.ladder.take() else { return };
        let text = format!("{} is wedged: {}", self.name(ladder.actor), ladder.how);
        let line =
            Line::error("wedge.exit").kv("actor", self.name(ladder.actor)).kv("how", &ladder.how);
        self.out.push(Action::Say(line));
        self.reason = Some(StopReason { text, code: EXIT_WEDGED });
        self.exit(EXIT_WEDGED);
    }

    pub(super) fn emergency_done(&mut self, now: MonoNs) {
        if self.is_on_last_rung() {
            self.exit_wedged();
        } else if let Some(drain) = &mut self.drain {
            drain.emergency = None;
            if std::mem::take(&mut drain.emergency_again) {
                drain.emergency = Some(drain.clamp(now.after(self.limits.emergency_limit)));
                self.out.push(Action::Emergency);
            }
            self.advance_drain(now);
        }
    }
}
