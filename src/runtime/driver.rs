//! The thin shell around the supervisor's core: turns what is seen into events, and actions into deeds.
//!
//! The same driver serves real threads and the stepper; only where emergencies run and whether the kernel can be
//! asked about threads differs. It never blocks.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::clock::{MonoNs, UtcNs};

use super::actor::{ActorId, EdgeId};
use super::events::{EventLog, Line, SupervisorEvent};
use super::exit::{EXIT_BUDGET, ExitReason};
use super::health::{ActorState, Cell, HealthTable};
use super::host::HostControl;
use super::lookout::{Losses, NextLooks, edge_line};
use super::mailbox::Edge;
use super::protocol::{Action, Event};
use super::reaper::Reaper;
use super::report::{ActorOutcome, Outcome, PhaseOutcome};
use super::seat::{Reports, SeatControl};
use super::stall::{Quota, ThreadLook, Watch};
use super::supervisor::Supervisor;
use super::system::{EmergencyHook, Hooks};
use super::tally::{DistinctError, Tally};
use super::thread::spawn;
use super::wake::Waker;

/// A supervisor that was itself not running for longer than this accuses nobody.
const SUSPENDED_AFTER: Duration = Duration::from_millis(250);
/// One actor, as the driver reaches it.
pub(super) struct Reach {
    pub(super) control: Arc<SeatControl>,
    pub(super) waker: Waker,
    /// `None` in the stepper.
    pub(super) host: Option<Arc<HostControl>>,
    pub(super) shares_host: bool,
    pub(super) watch: Watch,
    /// The thread when it was warned of, and when that was.
    pub(super) look: (ThreadLook, MonoNs),
    pub(super) stall_lines: Quota,
    /// A thread that gets no core is not given up before this.
    pub(super) starved_fail: Duration,
}

/// The driver's state.
pub(super) struct Driver {
    pub(super) core: Supervisor,
    pub(super) health: HealthTable,
    pub(super) edges: Arc<[Arc<dyn Edge>]>,
    pub(super) reach: Vec<Reach>,
    pub(super) log: EventLog,
    pub(super) hooks: Hooks,
    pub(super) reports: Reports,
    pub(super) reaper: Option<Reaper>,
    pub(super) phase_names: Vec<&'static str>,
    pub(super) emergency_limit: Duration,
    pub(super) masks_every: Duration,
    pub(super) tally: Tally,
    /// Pills that found no room yet.
    pills: Vec<EdgeId>,
    pub(super) losses: Vec<Losses>,
    actions: Vec<Action>,
    last_tick: Option<MonoNs>,
    pub(super) next_looks: NextLooks,
    begun: MonoNs,
    drain_begun: Option<MonoNs>,
    exit: Option<i32>,
}

/// What a driver is made of.
pub(super) struct DriverParts {
    pub(super) core: Supervisor,
    pub(super) health: HealthTable,
    pub(super) edges: Arc<[Arc<dyn Edge>]>,
    pub(super) reach: Vec<Reach>,
    pub(super) log: EventLog,
    pub(super) hooks: Hooks,
    pub(super) reports: Reports,
    pub(super) reaper: Option<Reaper>,
    pub(super) phase_names: Vec<&'static str>,
    pub(super) emergency_limit: Duration,
    pub(super) masks_every: Duration,
    pub(super) tally: Tally,
    pub(super) begun: MonoNs,
}

impl Driver {
    pub(super) fn new(parts: DriverParts) -> Self {
        Self {
            losses: vec![Losses::default(); parts.edges.len()],
            next_looks: NextLooks::after(parts.begun, parts.masks_every),
            tally: parts.tally,
            core: parts.core,
            health: parts.health,
            edges: parts.edges,
            reach: parts.reach,
            log: parts.log,
            hooks: parts.hooks,
            reports: parts.reports,
            reaper: parts.reaper,
            phase_names: parts.phase_names,
            emergency_limit: parts.emergency_limit,
            masks_every: parts.masks_every,
            pills: Vec::new(),
            actions: Vec::new(),
            last_tick: None,
            begun: parts.begun,
            drain_begun: None,
            exit: None,
        }
    }

    /// The exit code, once it is decided.
    pub(super) fn exit(&self) -> Option<i32> {
        self.exit
    }

    /// Takes an event and does what the core decides.
    pub(super) fn handle(&mut self, now: MonoNs, utc: UtcNs, event: Event) {
        match &event {
            Event::Exited { actor, generation, reason } => {
                self.reach[actor.index()].watch.forget(now);
                self.health[actor.index()].set_stall_age(Duration::ZERO);
                self.health[actor.index()].set_ready_since(None);
                self.tell_exit(utc, *actor, *generation, reason);
            }
            Event::Ready { actor, .. } => {
                self.reach[actor.index()].watch.forget(now);
                self.health[actor.index()].set_ready_since(Some(now));
            }
            _ => {}
        }
        let mut actions = std::mem::take(&mut self.actions);
        self.core.step(now, event, &mut actions);
        self.tally.set_stale_events(self.core.stale_events());
        if self.core.is_draining() && self.drain_begun.is_none() {
            self.drain_begun = Some(now);
        }
        for action in actions.drain(..) {
            self.act(utc, action);
        }
        self.actions = actions;
    }

    /// Looks at everything once.
    pub(super) fn tick(&mut self, now: MonoNs, utc: UtcNs) {
        if let Some(reaper) = &self.reaper {
            reaper.beat();
        }
        let gap = self.last_tick.replace(now).map_or(Duration::ZERO, |last| now.since(last));
        if gap > SUSPENDED_AFTER {
            self.tally.count_suspended();
            self.say(utc, Line::warn("sup.suspended").kv("gap_ms", gap.as_millis()));
            self.reach.iter_mut().for_each(|r| r.watch.reset(now));
            self.handle(now, utc, Event::Suspended(gap));
        }
        self.look_around(now, utc);
        for edge in std::mem::take(&mut self.pills) {
            self.send_pill(edge);
        }
        self.handle(now, utc, Event::Tick);
    }

    /// Logs an event and shows it to whoever looks.
    pub(super) fn say(&mut self, utc: UtcNs, line: Line) {
        log::log!(target: "supervisor", line.level, "{}", line.text);
        let Line { level, name, text } = line;
        let event = SupervisorEvent { at: utc, level, name, text };
        if let Some(hook) = &mut self.hooks.event {
            hook(&event);
        }
        self.log.push(event);
    }

    /// Everything there is to say of every actor and every mailbox, on request.
    pub(super) fn dump(&mut self, now: MonoNs, utc: UtcNs) {
        for i in 0..self.health.len() {
            let line = self.portrait(now, i, Line::info("actor.dump"));
            self.say(utc, line);
        }
        for edge in Arc::clone(&self.edges).iter() {
            self.say(utc, edge_line(edge.as_ref()));
        }
        let line = Line::info("sup.dump")
            .kv("suspended", self.tally.suspended())
            .kv("stale_events", self.tally.stale_events())
            .kv("pins_lost", self.tally.pins_lost())
            .kv("overprovisioned", self.tally.overprovisioned())
            .kv("errors", self.tally.errors().len());
        self.say(utc, line);
        if let Some(hook) = &mut self.hooks.dump {
            hook();
        }
    }

    fn act(&mut self, utc: UtcNs, action: Action) {
        match action {
            Action::Start { actor, generation } => self.start(utc, actor, generation),
            Action::Terminate { actor, generation } => {
                self.command(actor, |control| control.terminate(generation));
            }
            Action::BeginDrain(actor) => self.command(actor, SeatControl::drain),
            Action::StopNow(actor) => {
                let line = Line::error("drain.late")
                    .kv("actor", self.health[actor.index()].name())
                    .kv("left", self.left(actor))
                    .kv("action", "stop");
                self.say(utc, line);
                self.command(actor, SeatControl::stop_now);
            }
            Action::SendPill(edge) => self.send_pill(edge),
            Action::Close(edge) => self.close(utc, edge),
            Action::Interrupt(actor) => {
                self.health[actor.index()].interrupt();
            }
            Action::Fence(why) => {
                self.say(utc, Line::warn("fence").kv("why", &why));
                if let Some(hook) = &mut self.hooks.fence {
                    hook(true, &why);
                }
            }
            Action::Unfence => {
                self.say(utc, Line::info("unfence"));
                if let Some(hook) = &mut self.hooks.fence {
                    hook(false, "");
                }
            }
            Action::Emergency => self.run_emergency(),
            Action::ArmReaper { limit, code } => {
                if let Some(reaper) = &self.reaper {
                    reaper.arm(limit, code);
                }
            }
            Action::Mark(actor, state) => self.health[actor.index()].set_state(state),
            Action::Failures(actor, count) => self.health[actor.index()].set_consecutive(count),
            Action::Say(line) => self.say(utc, line),
            Action::Exit(code) => self.exit = Some(code),
        }
    }

    fn start(&mut self, utc: UtcNs, actor: ActorId, generation: u32) {
        if generation > 1 {
            self.health[actor.index()].count_restart();
            let before = self.left(actor);
            let edges = Arc::clone(&self.edges);
            edges.iter().filter(|e| e.spec().to == actor).for_each(|e| e.before_restart());
            let dropped = before.saturating_sub(self.left(actor));
            if dropped > 0 {
                let name = self.health[actor.index()].name();
                let line = Line::info("restart.flush").kv("actor", name).kv("dropped", dropped);
                self.say(utc, line);
            }
        }
        self.command(actor, |control| control.start(generation));
    }

    fn command(&self, actor: ActorId, give: impl FnOnce(&SeatControl)) {
        let reach = &self.reach[actor.index()];
        give(&reach.control);
        reach.waker.wake();
    }

    /// Whether a pill waits for room in its mailbox.
    pub(super) fn has_waiting_pills(&self) -> bool {
        !self.pills.is_empty()
    }

    fn send_pill(&mut self, id: EdgeId) {
        if let Some(edge) = self.edges.get(id.index())
            && !edge.send_pill()
        {
            self.pills.push(id);
        }
    }

    /// The consumer is gone for good: what still waits is named, what still comes is counted.
    fn close(&mut self, utc: UtcNs, id: EdgeId) {
        self.pills.retain(|waiting| *waiting != id);
        let Some(edge) = self.edges.get(id.index()).cloned() else { return };
        edge.close();
        let left = edge.counts().left;
        if left > 0 {
            let line = Line::warn("dead_letter")
                .kv("edge", &edge.spec().name)
                .kv("why", "consumer_gone")
                .kv("left", left);
            self.say(utc, line);
        }
    }

    pub(super) fn run_emergency(&mut self) {
        let limit = self.emergency_limit;
        let Some(hook) = self.hooks.emergency.clone() else {
            self.reports.tell(Event::EmergencyDone);
            return;
        };
        if self.reaper.is_none() {
            // Stepped: everything happens on one thread.
            call(&hook, limit);
            self.reports.tell(Event::EmergencyDone);
            return;
        }
        let reports = self.reports.clone();
        let spawned = spawn("emergency", move || {
            if let Err(note) = super::panic::caught(|| call(&hook, limit)) {
                log::error!(target: "supervisor", "event=panic thread=emergency msg={:?}", note.message);
            }
            reports.tell(Event::EmergencyDone);
        });
        if let Err(e) = spawned {
            log::error!(target: "supervisor", "event=emergency.failed why={e:?}");
            self.reports.tell(Event::EmergencyDone);
        }
    }

    /// Messages waiting for the actor.
    pub(super) fn left(&self, actor: ActorId) -> u64 {
        self.edges.iter().filter(|e| e.spec().to == actor).map(|e| e.counts().left).sum()
    }

    /// The breadcrumb: `edge#number` of the message taken last.
    pub(super) fn last_message(&self, cell: &Cell) -> String {
        let Some((edge, seq)) = cell.last_message() else { return "none".to_owned() };
        let name = self.edges.get(edge.index()).map_or("?", |e| e.spec().name.as_str());
        format!("{name}#{seq}")
    }

    fn tell_exit(&mut self, utc: UtcNs, actor: ActorId, generation: u32, reason: &ExitReason) {
        let cell = Arc::clone(&self.health[actor.index()]);
        let (message, at) = match reason {
            ExitReason::Panic { message, at } => (message.clone(), at.as_str()),
            ExitReason::Fault(fault) | ExitReason::StartFailed(fault) => (fault.to_string(), ""),
            ExitReason::Drained
            | ExitReason::Deadline
            | ExitReason::Done
            | ExitReason::Restarting => (String::new(), ""),
        };
        let mut line =
            if reason.is_normal() { Line::info("actor.exit") } else { Line::error("actor.exit") };
        line = line.kv("actor", cell.name()).kv("gen", generation).kv("kind", reason.kind());
        if !message.is_empty() {
            line = line.kv("msg", &message);
        }
        if !at.is_empty() {
            line = line.kv("at", at);
        }
        line = line.kv("last_msg", self.last_message(&cell)).kv("left", self.left(actor));
        cell.set_last_exit(describe(reason));
        if !reason.is_normal() {
            let at = if at.is_empty() { message.clone() } else { at.to_owned() };
            let (actor, kind) = (cell.name().to_owned(), reason.kind());
            let error = DistinctError { actor, kind, at, message, first: utc, last: utc, count: 1 };
            line = line.kv("seen", self.tally.note(error));
        }
        self.say(utc, line);
    }

    /// The end, as it was.
    pub(super) fn outcome(&mut self, now: MonoNs) -> Outcome {
        // Every test that ends a runtime checks the law of the mailboxes. A thread that was left behind may be in
        // the middle of an offer.
        if cfg!(debug_assertions)
            && !self.health.iter().any(|cell| cell.state() == ActorState::Wedged)
        {
            for edge in self.edges.iter() {
                let (counts, name) = (edge.counts(), &edge.spec().name);
                assert!(counts.conserved(), "{name}: messages unaccounted for: {counts:?}");
            }
        }
        let phase = |r: &super::drain::PhaseReport| PhaseOutcome {
            name: self
                .phase_names
                .get(usize::from(r.phase))
                .map_or_else(|| format!("phase-{}", r.phase), |n| (*n).to_owned()),
            took: r.took,
            late: r.late,
        };
        let actor = |(i, cell): (usize, &Arc<Cell>)| {
            let exit = self.core.last_exit(ActorId(u16::try_from(i).unwrap_or(u16::MAX)));
            ActorOutcome {
                name: cell.name().to_owned(),
                generation: cell.generation(),
                restarts: cell.restarts(),
                exit: exit.map_or("none", ExitReason::kind),
                detail: exit.map(describe).unwrap_or_default(),
            }
        };
        Outcome {
            exit_code: self.exit.unwrap_or(EXIT_BUDGET),
            reason: self.core.reason().map(|r| r.text.clone()).unwrap_or_default(),
            uptime: now.since(self.begun),
            drain: self.drain_begun.map_or(Duration::ZERO, |begun| now.since(begun)),
            phases: self.core.phases().iter().map(phase).collect(),
            actors: self.health.iter().enumerate().map(actor).collect(),
            edges: self.edges.iter().map(|e| (e.spec().name.clone(), e.counts())).collect(),
            stale_events: self.core.stale_events(),
            reaper: self.reaper.take(),
        }
    }
}

/// Runs the emergency routine; a second call waits for the first on its helper thread.
fn call(hook: &EmergencyHook, limit: Duration) {
    // A routine that panicked is called again all the same: it is the last resort.
    let mut routine = hook.lock().unwrap_or_else(PoisonError::into_inner);
    routine(limit);
}

/// An exit in words, for status.
fn describe(reason: &ExitReason) -> String {
    match reason {
        ExitReason::Panic { message, at } => format!("panic: {message} at {at}"),
        ExitReason::Fault(fault) => format!("fault: {fault}"),
        ExitReason::StartFailed(fault) => format!("start failed: {fault}"),
        ExitReason::Drained => "drained".to_owned(),
        ExitReason::Deadline => "stopped at its drain deadline".to_owned(),
        ExitReason::Done => "done".to_owned(),
        ExitReason::Restarting => "ended with its group".to_owned(),
    }
}
