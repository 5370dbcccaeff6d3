//! A system: actors, edges and their supervision, declared once and then run on threads or stepped.
//!
//! [`SystemBuilder`] takes names first, so that edges can be wired, then edges, then child specs; [`SystemBuilder::build`]
//! finds every mistake at once. The [`System`] that comes out is run by `System::run` on real threads, or turned
//! into a `Stepper`.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;

use super::actor::{Actor, ActorId, EdgeId};
use super::child::{ChildSpec, SpecError};
use super::events::{EventLog, SupervisorEvent};
use super::exit::StopReason;
use super::fault::FaultSpec;
use super::group::{GroupId, GroupSpec};
use super::health::{Cell, HealthTable};
use super::mailbox::{Edge, EdgeSpec, Latest, Mailbox};
use super::placement::{Machine, Plan, plan_hosts};
use super::protocol::EdgePlan;
use super::restart::Intensity;
use super::tally::Tally;
use super::validate;
use super::wake::Waker;

/// Which actors share a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Threading {
    /// One thread per actor, unless a child spec names a shared host.
    Dedicated,
    /// All hot actors take their turns on one thread, one after the other.
    Shared,
}

/// Every limit of a system.
#[derive(Clone, Debug)]
pub struct SystemSettings {
    /// Seeds the jitter of restart delays.
    pub seed: u64,
    /// Restarts tolerated of the actors of the main group together; one more and the group is restarted.
    pub intensity: Intensity,
    /// Restarts of whole groups tolerated; one more and the system drains and exits with 70.
    pub root_intensity: Intensity,
    /// The crash of one actor in a row, each within a minute of its start, that escalates as well; above zero. It
    /// catches crash loops too slow for the window.
    pub consecutive_max: u32,
    /// An actor that does not finish starting within this is wedged.
    pub start_timeout: Duration,
    /// How long a first start may be tried again when what it needs is not there; then the exit code is 69.
    pub start_deadline: Duration,
    /// A drain never takes longer: the reaper ends the process with 76.
    pub hard_limit: Duration,
    /// What an actor gets after it missed its drain deadline and was told to stop.
    pub stop_grace: Duration,
    /// What a wedged actor gets after its interrupt handles were used.
    pub wedge_grace: Duration,
    /// What the emergency routine gets.
    pub emergency_limit: Duration,
    /// How often the supervisor looks at its children.
    pub tick: Duration,
    /// How often it looks where pinned threads may run: a change of the machine's cpusets moves them silently.
    pub masks_every: Duration,
    /// Pin hot actors that name no core, if the machine has cores enough.
    pub pin: bool,
    /// A core that cannot be had is a configuration error rather than a warning.
    pub strict_pin: bool,
    /// The names of the drain phases, from phase 0; others are called `phase-N`.
    pub phase_names: Vec<&'static str>,
    /// What the reaper calls at the hard limit; tests replace it.
    pub reaper_exit: fn(i32),
}

impl Default for SystemSettings {
    fn default() -> Self {
        Self {
            seed: 0,
            intensity: Intensity::default(),
            root_intensity: Intensity { count_max: 1, period: Duration::from_secs(300) },
            consecutive_max: 8,
            start_timeout: Duration::from_secs(5),
            start_deadline: Duration::from_secs(30),
            hard_limit: Duration::from_secs(8),
            stop_grace: Duration::from_millis(200),
            wedge_grace: Duration::from_secs(1),
            emergency_limit: Duration::from_secs(3),
            tick: Duration::from_millis(50),
            masks_every: Duration::from_secs(10),
            pin: false,
            strict_pin: false,
            phase_names: Vec::new(),
            reaper_exit: super::reaper::exit_now,
        }
    }
}

/// Called when trading must stop (`true`, and why) and when it may go on (`false`).
pub type FenceHook = Box<dyn FnMut(bool, &str) + Send>;
/// Called on a helper thread when an actor is wedged, or gone with something left open: cancel what is open within the
/// limit. In one drain it may be called again, for what another actor left open later.
pub type EmergencyHook = Arc<Mutex<dyn FnMut(Duration) + Send>>;
/// Called with every supervisor event.
pub type EventHook = Box<dyn FnMut(&SupervisorEvent) + Send>;
/// Called when the configuration shall be read again, on SIGHUP; hands that to a thread of its own.
pub type ReloadHook = Box<dyn FnMut() + Send>;
/// Called when a dump of the state was asked for with SIGUSR1.
pub type DumpHook = Box<dyn FnMut() + Send>;

#[derive(Default)]
pub(super) struct Hooks {
    pub(super) fence: Option<FenceHook>,
    pub(super) emergency: Option<EmergencyHook>,
    pub(super) event: Option<EventHook>,
    pub(super) dump: Option<DumpHook>,
    pub(super) reload: Option<ReloadHook>,
}

/// Puts something around an actor; it is told the actor's name.
pub type Wrap = Arc<dyn Fn(&str, Box<dyn Actor>) -> Box<dyn Actor> + Send + Sync>;

/// Asks a running system to drain, from any thread; clones ask the same system.
#[derive(Clone, Debug)]
pub struct StopHandle {
    pub(super) reasons: Arc<ArrayQueue<StopReason>>,
    pub(super) waker: Waker,
}

impl StopHandle {
    /// Begins an orderly drain that ends with exit code 0 if it is clean. Later calls change nothing.
    pub fn drain(&self, why: impl Into<String>) {
        self.drain_with(why, 0);
    }

    /// Begins an orderly drain that ends with `code`.
    pub fn drain_with(&self, why: impl Into<String>, code: i32) {
        // A full slot means that a reason is waiting already; the first one counts.
        let _ = self.reasons.push(StopReason { text: why.into(), code });
        self.waker.wake();
    }
}

/// One actor as declared.
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) hot: bool,
    pub(super) waker: Waker,
    pub(super) cell: Arc<Cell>,
    pub(super) spec: Option<ChildSpec>,
}

/// An edge as wired.
pub(super) struct Wired {
    pub(super) edge: Arc<dyn Edge>,
    /// Whether its pill is a message that the consumer takes.
    pub(super) in_band: bool,
}

/// Declares a system.
pub struct SystemBuilder {
    threading: Threading,
    settings: SystemSettings,
    actors: Vec<Declared>,
    edges: Vec<Wired>,
    groups: Vec<GroupSpec>,
    errors: Vec<SpecError>,
    hooks: Hooks,
    log: EventLog,
    tally: Tally,
    stop: StopHandle,
}

impl SystemBuilder {
    /// A system without actors.
    pub fn new(threading: Threading, settings: SystemSettings) -> Self {
        super::panic::install_hook();
        let mut errors = Vec::new();
        let stop = StopHandle {
            reasons: Arc::new(ArrayQueue::new(1)),
            waker: waker("the supervisor", &mut errors),
        };
        let main = GroupSpec { intensity: settings.intensity, ..GroupSpec::new("main") };
        Self {
            threading,
            settings,
            actors: Vec::new(),
            edges: Vec::new(),
            groups: vec![main],
            errors,
            hooks: Hooks::default(),
            log: EventLog::default(),
            tally: Tally::default(),
            stop,
        }
    }

    /// Names an actor, so that edges can be wired to it. Hot actors are those that [`Threading::Shared`] puts on one
    /// thread, and for which the placement plan wants cores.
    pub fn actor(&mut self, name: &str, hot: bool) -> ActorId {
        let id = ActorId(index_u16(self.actors.len()));
        let waker = waker(name, &mut self.errors);
        let cell = Arc::new(Cell::new(name));
        self.actors.push(Declared { name: name.to_owned(), hot, waker, cell, spec: None });
        id
    }

    /// Declares a group besides [`GroupId::MAIN`], which is one-for-one.
    pub fn group(&mut self, spec: GroupSpec) -> GroupId {
        let id = GroupId(index_u16(self.groups.len()));
        self.groups.push(spec);
        id
    }

    /// Wires a mailbox; its producers and its consumer have been named before.
    pub fn mailbox<M: Send + 'static>(&mut self, mut spec: EdgeSpec) -> Mailbox<M> {
        let (id, waker) = self.wire(&mut spec);
        let mailbox = Mailbox::new(id, spec, waker);
        self.edges.push(Wired { edge: Arc::new(mailbox.clone()), in_band: true });
        mailbox
    }

    /// Wires a conflated edge with one slot for each of `spec.capacity` keys.
    pub fn latest<V: Send + 'static>(&mut self, mut spec: EdgeSpec) -> Latest<V> {
        let (id, waker) = self.wire(&mut spec);
        let latest = Latest::new(id, spec, waker);
        self.edges.push(Wired { edge: Arc::new(latest.clone()), in_band: false });
        latest
    }

    /// Checks what `Mailbox::new` insists on; a bad spec becomes an error of the build instead of a panic.
    fn wire(&mut self, spec: &mut EdgeSpec) -> (EdgeId, Waker) {
        if spec.capacity == 0 {
            self.errors.push(SpecError::ZeroCapacity(spec.name.clone()));
            spec.capacity = 1;
        }
        let known = |id: &ActorId| id.index() < self.actors.len();
        if !known(&spec.to) || !spec.from.iter().all(known) {
            self.errors.push(SpecError::EdgeEnd(spec.name.clone()));
        }
        let waker = self.actors.get(spec.to.index()).map_or_else(Waker::none, |a| a.waker.clone());
        (EdgeId(index_u16(self.edges.len())), waker)
    }

    /// Gives a named actor its child spec.
    pub fn child(&mut self, id: ActorId, spec: ChildSpec) {
        let Some(actor) = self.actors.get_mut(id.index()) else {
            self.errors.push(SpecError::NoChild(format!("#{}", id.0)));
            return;
        };
        if actor.spec.replace(spec).is_some() {
            self.errors.push(SpecError::TwoChildren(actor.name.clone()));
        }
    }

    /// Breaks an actor on purpose; call it after the actor's child spec was given.
    ///
    /// # Errors
    /// The names there are, when the spec names none of them.
    pub fn inject(&mut self, fault: &FaultSpec) -> Result<(), String> {
        let found = self.actors.iter_mut().find(|a| a.name == fault.actor);
        if let Some(spec) = found.and_then(|a| a.spec.as_mut()) {
            spec.start = fault.wrap(&spec.start);
            return Ok(());
        }
        let names: Vec<&str> = self.actors.iter().map(|a| a.name.as_str()).collect();
        Err(format!("no actor is called {}; there are: {}", fault.actor, names.join(", ")))
    }

    /// Puts something around every generation of every actor declared so far, such as a test's probe.
    pub fn wrap_all(&mut self, wrap: &Wrap) {
        for actor in &mut self.actors {
            let Some(spec) = &mut actor.spec else { continue };
            let (start, wrap, name) =
                (Arc::clone(&spec.start), Arc::clone(wrap), actor.name.clone());
            spec.start = Arc::new(move |cx| Ok(wrap(&name, start(cx)?)));
        }
    }

    /// The health cells of the actors named so far, for those that look at others.
    pub fn health(&self) -> HealthTable {
        self.actors.iter().map(|a| Arc::clone(&a.cell)).collect()
    }

    /// The edges wired so far.
    pub fn edges(&self) -> Arc<[Arc<dyn Edge>]> {
        self.edges.iter().map(|w| Arc::clone(&w.edge)).collect()
    }

    /// The supervisor's last events, as they will be.
    pub fn events(&self) -> EventLog {
        self.log.clone()
    }

    /// The supervisor's counts, as they will be.
    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// A handle that asks the system to drain.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Sets what stops and resumes trading; must not block.
    pub fn on_fence(&mut self, hook: impl FnMut(bool, &str) + Send + 'static) {
        self.hooks.fence = Some(Box::new(hook));
    }

    /// Sets the emergency routine; it gets the time it has.
    pub fn on_emergency(&mut self, hook: impl FnMut(Duration) + Send + 'static) {
        self.hooks.emergency = Some(Arc::new(Mutex::new(hook)));
    }

    /// Sets who else sees the supervisor's events; must not block.
    pub fn on_event(&mut self, hook: impl FnMut(&SupervisorEvent) + Send + 'static) {
        self.hooks.event = Some(Box::new(hook));
    }

    /// Sets what SIGUSR1 does besides a log line per actor; must not block.
    pub fn on_dump(&mut self, hook: impl FnMut() + Send + 'static) {
        self.hooks.dump = Some(Box::new(hook));
    }

    /// Checks the whole declaration.
    ///
    /// # Errors
    /// Every mistake found.
    pub fn build(mut self) -> Result<System, Vec<SpecError>> {
        let machine = Machine::read();
        let mut errors = std::mem::take(&mut self.errors);
        validate::actors(&self.actors, &mut errors);
        validate::groups(&self.groups, &self.actors, &mut errors);
        validate::edges(&self.edges, &mut errors);
        validate::deadlines(&self.actors, &self.settings, &mut errors);
        validate::limits(&self.settings, &mut errors);
        let hosts = validate::hosts(&self.actors, self.threading, &machine, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let plan = plan_hosts(hosts, &machine, self.settings.pin);
        Ok(System {
            settings: self.settings,
            health: self.actors.iter().map(|a| Arc::clone(&a.cell)).collect(),
            edge_table: self.edges.iter().map(|w| Arc::clone(&w.edge)).collect(),
            actors: self.actors,
            wired: self.edges,
            groups: self.groups,
            plan,
            hooks: self.hooks,
            log: self.log,
            tally: self.tally,
            stop: self.stop,
        })
    }
}

/// A checked declaration, ready to run.
pub struct System {
    pub(super) settings: SystemSettings,
    pub(super) actors: Vec<Declared>,
    pub(super) wired: Vec<Wired>,
    pub(super) groups: Vec<GroupSpec>,
    pub(super) plan: Plan,
    pub(super) hooks: Hooks,
    pub(super) log: EventLog,
    pub(super) tally: Tally,
    pub(super) stop: StopHandle,
    pub(super) health: HealthTable,
    pub(super) edge_table: Arc<[Arc<dyn Edge>]>,
}

impl std::fmt::Debug for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("System").field("plan", &self.plan).finish_non_exhaustive()
    }
}

impl System {
    /// Sets what SIGHUP does; must not block, not even on a file.
    pub fn on_reload(&mut self, hook: impl FnMut() + Send + 'static) {
        self.hooks.reload = Some(Box::new(hook));
    }

    /// The health cells of all actors, by actor id.
    pub fn health(&self) -> HealthTable {
        Arc::clone(&self.health)
    }

    /// All edges, by edge id.
    pub fn edges(&self) -> Arc<[Arc<dyn Edge>]> {
        Arc::clone(&self.edge_table)
    }

    /// The supervisor's last events.
    pub fn events(&self) -> EventLog {
        self.log.clone()
    }

    /// A handle that asks the system to drain.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Which threads there will be, on which cores, and how they rest.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub(super) fn edge_plans(&self) -> Vec<EdgePlan> {
        let plan = |w: &Wired| EdgePlan { from: w.edge.spec().from.clone(), to: w.edge.spec().to };
        self.wired.iter().map(plan).collect()
    }
}

fn waker(whose: &str, errors: &mut Vec<SpecError>) -> Waker {
    Waker::new().unwrap_or_else(|e| {
        errors.push(SpecError::System(format!("no event descriptor for {whose}: {e}")));
        Waker::none()
    })
}

pub(super) fn index_u16(index: usize) -> u16 {
    u16::try_from(index).expect("a system has fewer than 65536 actors and edges")
}
