//! The supervisor's core: a pure state machine, after Erlang's `supervisor`, for threads that cannot be killed.
//!
//! Events and the time come in, actions go out; it reads no clock, starts no thread and sends nothing. What always
//! holds: at most one live generation per actor; nothing is started once a drain has begun; events of an earlier
//! generation change nothing and are counted; after a drain has begun and as long as ticks arrive, the exit is
//! decided within the hard limit.
//!
//! The strategy is one-for-one: a crash concerns the crashed actor only; its neighbours learn of it in-band.

use std::time::Duration;

use crate::clock::MonoNs;

use super::actor::{ActorId, EdgeId, Fault};
use super::child::Restart;
use super::drain::{Drain, DrainStep, PhaseReport};
use super::events::Line;
use super::health::ActorState;
use super::restart::{Backoff, Intensity, RestartWindow, Verdict};

/// Drained and verified.
pub const EXIT_OK: i32 = 0;
/// The restart budget is exhausted.
pub const EXIT_BUDGET: i32 = 70;
/// The system refused something: a thread, a descriptor.
pub const EXIT_SYSTEM: i32 = 71;
/// An actor wedged.
pub const EXIT_WEDGED: i32 = 75;
/// A drain deadline was missed, or an actor that must drain in full did not.
pub const EXIT_LATE: i32 = 76;
/// The configuration is wrong.
pub const EXIT_CONFIG: i32 = 78;

/// How one life of an actor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// Everything before the pill was handled.
    Drained,
    /// Stopped where it stood, because its drain deadline had passed.
    Deadline,
    /// It returned a fault.
    Fault(Fault),
    /// It panicked: the message, and the file and line.
    Panic {
        /// The panic's message.
        message: String,
        /// `file:line` of the panic.
        at: String,
    },
    /// Its factory or its start returned a fault.
    StartFailed(Fault),
}

impl ExitReason {
    /// The word used in status and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Deadline => "deadline",
            Self::Fault(_) => "fault",
            Self::Panic { .. } => "panic",
            Self::StartFailed(_) => "start_failed",
        }
    }

    /// Whether the actor ended as it was asked to.
    pub fn is_normal(&self) -> bool {
        matches!(self, Self::Drained | Self::Deadline)
    }

    fn is_config(&self) -> bool {
        matches!(self, Self::Fault(Fault::Config(_)) | Self::StartFailed(Fault::Config(_)))
    }
}

/// Why the system stops, and the exit code that this alone would give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopReason {
    /// In words, for the log and the report.
    pub text: String,
    /// The code unless something worse happens.
    pub code: i32,
}

impl StopReason {
    /// Stopping because somebody asked for it.
    pub fn asked(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: EXIT_OK }
    }
}

/// What the core knows of one child.
#[derive(Clone, Debug)]
pub(super) struct ChildPlan {
    pub(super) name: String,
    pub(super) restart: Restart,
    pub(super) depends_on: Vec<ActorId>,
    pub(super) phase: u8,
    pub(super) drain_timeout: Duration,
    pub(super) essential: bool,
    pub(super) must_drain: bool,
}

/// What the core knows of one edge.
#[derive(Clone, Debug)]
pub(super) struct EdgePlan {
    pub(super) from: Vec<ActorId>,
    pub(super) to: ActorId,
}

/// Every limit of supervision.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) intensity: Intensity,
    pub(super) consecutive_max: u32,
    pub(super) start_timeout: Duration,
    pub(super) hard_limit: Duration,
    pub(super) stop_grace: Duration,
    pub(super) wedge_grace: Duration,
    pub(super) emergency_limit: Duration,
}

/// What happened.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Start the children.
    Begin,
    /// An actor takes turns.
    Ready { actor: ActorId, generation: u32 },
    /// A life ended; nothing of it is left on its thread.
    Exited { actor: ActorId, generation: u32, reason: ExitReason },
    /// Time passed.
    Tick,
    /// Somebody wants the system to stop.
    Drain(StopReason),
    /// An actor makes no progress.
    Stalled { actor: ActorId, generation: u32 },
    /// It does again.
    Recovered { actor: ActorId, generation: u32 },
    /// It makes no progress for so long that it must be assumed never to come back; how it looks.
    Wedged { actor: ActorId, generation: u32, how: String },
    /// The emergency routine returned.
    EmergencyDone,
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Start {
        actor: ActorId,
        generation: u32,
    },
    BeginDrain(ActorId),
    SendPill(EdgeId),
    /// The consumer is gone for good.
    Close(EdgeId),
    /// The drain deadline of this actor passed: stop it where it stands.
    StopNow(ActorId),
    Interrupt(ActorId),
    Fence(String),
    Unfence,
    /// Run the emergency routine on a helper thread.
    Emergency,
    /// End the process with `code` after `limit`, whatever becomes of the supervisor.
    ArmReaper {
        limit: Duration,
        code: i32,
    },
    /// Publish where the child stands.
    Mark(ActorId, ActorState),
    Say(Line),
    /// The end: the exit code.
    Exit(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Waiting,
    Starting {
        since: MonoNs,
    },
    Running {
        since: MonoNs,
    },
    Backoff {
        until: MonoNs,
    },
    Ended,
    /// Its thread does not come back; nothing will start in its place.
    Wedged,
}

struct Child {
    plan: ChildPlan,
    life: Life,
    generation: u32,
    window: RestartWindow,
    backoff: Backoff,
    ready_once: bool,
    stalled: bool,
    last_exit: Option<ExitReason>,
}

impl Child {
    fn is_live(&self) -> bool {
        matches!(self.life, Life::Starting { .. } | Life::Running { .. })
    }
}

/// The wedge ladder's current rung.
#[derive(Clone, Debug)]
struct Ladder {
    actor: ActorId,
    how: String,
    until: MonoNs,
    /// The last rung: the emergency routine runs, then the exit.
    final_rung: bool,
}

/// The state machine.
pub(super) struct Supervisor {
    limits: Limits,
    children: Vec<Child>,
    edges: Vec<EdgePlan>,
    random: fastrand::Rng,
    ladder: Option<Ladder>,
    drain: Option<Drain>,
    fenced: bool,
    over: bool,
    stale_events: u64,
    reason: Option<StopReason>,
    out: Vec<Action>,
}

impl Supervisor {
    pub(super) fn new(
        limits: Limits,
        children: Vec<ChildPlan>,
        edges: Vec<EdgePlan>,
        seed: u64,
    ) -> Self {
        let child = |plan| Child {
            plan,
            life: Life::Waiting,
            generation: 0,
            window: RestartWindow::new(limits.intensity),
            backoff: Backoff::default(),
            ready_once: false,
            stalled: false,
            last_exit: None,
        };
        Self {
            limits,
            children: children.into_iter().map(child).collect(),
            edges,
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
            Event::Begin => self.start_waiting(now),
            Event::Ready { actor, generation } => self.ready(now, actor, generation),
            Event::Exited { actor, generation, reason } => {
                self.exited(now, actor, generation, reason);
            }
            Event::Tick => self.tick(now),
            Event::Drain(reason) => self.begin_drain(now, reason),
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
            Life::Starting { since } if self.ladder.is_none() && self.drain.is_none() => {
                since.after(self.limits.start_timeout)
            }
            _ => MonoNs::NEVER,
        };
        let ladder = self.ladder.as_ref().map_or(MonoNs::NEVER, |l| l.until);
        let drain = self.drain.as_ref().map_or(MonoNs::NEVER, Drain::due);
        self.children.iter().map(child).min().unwrap_or(MonoNs::NEVER).min(ladder).min(drain)
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

    fn name(&self, actor: ActorId) -> &str {
        &self.children[actor.index()].plan.name
    }

    fn ids(&self) -> impl Iterator<Item = ActorId> + use<> {
        (0..self.children.len()).map(|i| ActorId(u16::try_from(i).unwrap_or(u16::MAX)))
    }

    fn is_live(&self, actor: ActorId) -> bool {
        self.children[actor.index()].is_live()
    }

    /// Whether the event speaks of the actor's present life; counts it otherwise.
    fn is_current(&mut self, actor: ActorId, generation: u32) -> bool {
        let current = self
            .children
            .get(actor.index())
            .is_some_and(|c| c.generation == generation && (c.is_live() || c.life == Life::Wedged));
        self.stale_events += u64::from(!current);
        current
    }

    /// Starts every child that waits and whose dependencies have all been ready.
    fn start_waiting(&mut self, now: MonoNs) {
        if self.drain.is_some() {
            return;
        }
        for id in self.ids() {
            let child = &self.children[id.index()];
            let satisfied = |d: &ActorId| self.children[d.index()].ready_once;
            if child.life == Life::Waiting && child.plan.depends_on.iter().all(satisfied) {
                self.start(now, id);
            }
        }
    }

    fn start(&mut self, now: MonoNs, actor: ActorId) {
        let child = &mut self.children[actor.index()];
        child.generation += 1;
        child.life = Life::Starting { since: now };
        let generation = child.generation;
        self.out.push(Action::Mark(actor, ActorState::Starting));
        self.out.push(Action::Start { actor, generation });
    }

    fn ready(&mut self, now: MonoNs, actor: ActorId, generation: u32) {
        if !self.is_current(actor, generation) {
            return;
        }
        let child = &mut self.children[actor.index()];
        let Life::Starting { since } = child.life else { return };
        child.life = Life::Running { since: now };
        child.ready_once = true;
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

    fn exited(&mut self, now: MonoNs, actor: ActorId, generation: u32, reason: ExitReason) {
        if !self.is_current(actor, generation) {
            return;
        }
        self.leave_ladder(actor);
        self.clear_stall(actor);
        let child = &mut self.children[actor.index()];
        let lived = match child.life {
            Life::Running { since } => now.since(since),
            Life::Wedged => {
                // It came back after it was given up: nothing takes its place any more.
                child.last_exit = Some(reason);
                child.life = Life::Ended;
                return;
            }
            _ => Duration::ZERO,
        };
        let (restart, essential) = (child.plan.restart, child.plan.essential);
        let (normal, config) = (reason.is_normal(), reason.is_config());
        child.last_exit = Some(reason);
        if self.drain.is_some() {
            self.end(actor);
            self.advance_drain(now);
        } else if config {
            self.end(actor);
            let text = format!("the configuration of {} is wrong", self.name(actor));
            self.begin_drain(now, StopReason { text, code: EXIT_CONFIG });
        } else if restart == Restart::Temporary || (restart == Restart::Transient && normal) {
            self.end(actor);
            if essential {
                let text = format!("{} ended", self.name(actor));
                let code = if normal { EXIT_OK } else { EXIT_BUDGET };
                self.begin_drain(now, StopReason { text, code });
            }
        } else {
            self.schedule_restart(now, actor, lived);
        }
    }

    fn schedule_restart(&mut self, now: MonoNs, actor: ActorId, lived: Duration) {
        let child = &mut self.children[actor.index()];
        let verdict = child.window.record(now);
        let delay = child.backoff.next(lived, &mut self.random);
        let attempt = child.backoff.attempts();
        let spent = child.window.count();
        if verdict == Verdict::GiveUp || attempt > self.limits.consecutive_max {
            let line = Line::error("escalate")
                .kv("actor", &child.plan.name)
                .kv("restarts", spent - 1)
                .kv("window_s", self.limits.intensity.period.as_secs())
                .kv("consecutive", attempt - 1)
                .kv("action", "drain");
            self.out.push(Action::Say(line));
            self.end(actor);
            let text = format!("restart budget of {} exhausted", self.name(actor));
            self.begin_drain(now, StopReason { text, code: EXIT_BUDGET });
            return;
        }
        let line = Line::warn("restart.scheduled")
            .kv("actor", &child.plan.name)
            .kv("gen", child.generation + 1)
            .kv("delay_ms", delay.as_millis())
            .kv("attempt", attempt)
            .kv("budget", format_args!("{spent}/{}", self.limits.intensity.count_max));
        child.life = Life::Backoff { until: now.after(delay) };
        self.out.push(Action::Mark(actor, ActorState::Backoff));
        self.out.push(Action::Say(line));
        if delay.is_zero() {
            self.start(now, actor);
        }
    }

    /// The actor will not live again: nobody takes from its mailboxes any more.
    fn end(&mut self, actor: ActorId) {
        self.children[actor.index()].life = Life::Ended;
        self.out.push(Action::Mark(actor, ActorState::Exited));
        self.close_inboxes(actor);
    }

    fn close_inboxes(&mut self, actor: ActorId) {
        for (i, _) in self.edges.iter().enumerate().filter(|(_, e)| e.to == actor) {
            self.out.push(Action::Close(edge_id(i)));
        }
    }

    fn tick(&mut self, now: MonoNs) {
        if self.ladder.as_ref().is_some_and(|l| now >= l.until) {
            self.climb(now);
        }
        if self.over {
            return;
        }
        if self.drain.is_some() {
            self.tick_drain(now);
            return;
        }
        for actor in self.ids() {
            match self.children[actor.index()].life {
                Life::Backoff { until } if now >= until => self.start(now, actor),
                Life::Starting { since } if now >= since.after(self.limits.start_timeout) => {
                    let generation = self.children[actor.index()].generation;
                    self.wedged(now, actor, generation, "does not finish starting".to_owned());
                }
                _ => {}
            }
        }
    }

    fn stalled(&mut self, actor: ActorId, generation: u32) {
        if !self.is_current(actor, generation) {
            return;
        }
        let child = &mut self.children[actor.index()];
        child.stalled = true;
        // A drain has its own deadlines, and its cancels must not be fenced.
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

    fn clear_stall(&mut self, actor: ActorId) {
        self.children[actor.index()].stalled = false;
        self.unfence_if_clear();
    }

    fn fence(&mut self, actor: ActorId, why: &str) {
        if !self.fenced {
            self.fenced = true;
            self.out.push(Action::Fence(format!("{} {why}", self.name(actor))));
        }
    }

    fn unfence_if_clear(&mut self) {
        let stalled = self.children.iter().any(|c| c.stalled && c.plan.essential);
        if self.fenced && !stalled && self.ladder.is_none() {
            self.fenced = false;
            self.out.push(Action::Unfence);
        }
    }

    fn wedged(&mut self, now: MonoNs, actor: ActorId, generation: u32, how: String) {
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

    /// The actor came back before the last rung.
    fn leave_ladder(&mut self, actor: ActorId) {
        if self.ladder.as_ref().is_some_and(|l| l.actor == actor && !l.final_rung) {
            self.ladder = None;
            self.unfence_if_clear();
        }
    }

    /// The rung's time is up.
    fn climb(&mut self, now: MonoNs) {
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
        let line = Line::error("wedge.fence")
            .kv("actor", self.name(actor))
            .kv("emergency_ms", limit.as_millis());
        self.out.push(Action::Say(line));
        // The helper gets its time, the supervisor a second more.
        let reaper = limit.saturating_add(Duration::from_secs(1));
        self.out.push(Action::ArmReaper { limit: reaper, code: EXIT_WEDGED });
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

    fn emergency_done(&mut self, now: MonoNs) {
        if self.ladder.as_ref().is_some_and(|l| l.final_rung) {
            self.exit_wedged();
        } else if let Some(drain) = &mut self.drain {
            drain.emergency = None;
            self.advance_drain(now);
        }
    }

    fn begin_drain(&mut self, now: MonoNs, reason: StopReason) {
        // Runs once; and on the ladder's last rung the exit is decided already.
        if self.drain.is_some() || self.ladder.as_ref().is_some_and(|l| l.final_rung) {
            return;
        }
        self.ladder = None;
        let line = Line::info("drain.begin")
            .kv("reason", &reason.text)
            .kv("hard_limit_ms", self.limits.hard_limit.as_millis());
        self.out.push(Action::ArmReaper { limit: self.limits.hard_limit, code: EXIT_LATE });
        self.out.push(Action::Say(line));
        self.reason = Some(reason);
        let phases = self.children.iter().map(|c| c.plan.phase).collect();
        self.drain = Some(Drain::new(now, self.limits.hard_limit, phases));
        for actor in self.ids() {
            if matches!(self.children[actor.index()].life, Life::Waiting | Life::Backoff { .. }) {
                self.end(actor);
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
    fn advance_drain(&mut self, now: MonoNs) {
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
        let late = drain.is_late() || self.children.iter().any(|c| is_unclean(c));
        let line = Line::info("drain.end")
            .kv("ms", now.since(drain.begun).as_millis())
            .kv("late", drain.is_late());
        self.out.push(Action::Say(line));
        let asked = self.reason.as_ref().map_or(EXIT_OK, |r| r.code);
        self.exit(if asked == EXIT_OK && late { EXIT_LATE } else { asked });
    }

    fn tick_drain(&mut self, now: MonoNs) {
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
        let must_drain = self.children[actor.index()].plan.must_drain;
        let Some(drain) = &mut self.drain else { return };
        if must_drain && drain.emergency.is_none() {
            drain.emergency = Some(drain.clamp(now.after(self.limits.emergency_limit)));
            self.out.push(Action::Emergency);
        }
    }

    fn exit(&mut self, code: i32) {
        let reason = self.reason.as_ref().map_or("", |r| r.text.as_str());
        let line = Line::info("sup.exit").kv("code", code).kv("reason", reason);
        self.over = true;
        self.out.push(Action::Say(line));
        self.out.push(Action::Exit(code));
    }
}

/// Whether the edge's consumer waits for a pill: only if every producer drains in an earlier phase. Where two
/// actors feed each other there is no last message; the later one's offers are refused once the earlier is gone.
pub(super) fn awaits_pill(edge: &EdgePlan, phase_of: impl Fn(ActorId) -> u8) -> bool {
    edge.from.iter().all(|from| phase_of(*from) < phase_of(edge.to))
}

fn is_unclean(child: &Child) -> bool {
    child.plan.must_drain && child.ready_once && child.last_exit != Some(ExitReason::Drained)
}

fn edge_id(index: usize) -> EdgeId {
    EdgeId(u16::try_from(index).unwrap_or(u16::MAX))
}

#[cfg(test)]
#[path = "supervisor_tests.rs"]
mod tests;
