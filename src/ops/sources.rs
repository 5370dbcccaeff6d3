//! What the ops page and the final report look at: shared by all generations of the ops actor and whoever writes the
//! report. Reading is the only thing one can do with it.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use crate::clock::{MonoNs, UtcNs};
use crate::runtime::events::SupervisorEvent;
use crate::runtime::health::HealthTable;
use crate::runtime::mailbox::Edge;
use crate::runtime::tally::Tally;
use crate::runtime::view::View;
use crate::trading::domain::Instruments;
use crate::trading::telemetry::{BooksView, FeedView, JournalView, OrdersView, StrategyView};

/// A view with a memory: the newest state stays readable for every reader, also after its actor has ended.
pub struct Watched<T> {
    actor: String,
    view: View<T>,
    /// Held for the length of a read by cold readers only; publishing does not touch it.
    newest: Mutex<Option<Box<T>>>,
}

impl<T: Default> Watched<T> {
    /// Watches what the actor called `actor` publishes.
    pub fn new(actor: impl Into<String>, view: View<T>) -> Self {
        Self { actor: actor.into(), view, newest: Mutex::new(None) }
    }

    /// Whose view it is.
    pub fn actor(&self) -> &str {
        &self.actor
    }

    /// Shows the newest state to `look`; `None` before the first publication.
    pub fn read<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        // A reader that panicked has left a whole box: only this function replaces it.
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(state) = self.view.take()
            && let Some(old) = newest.replace(state)
        {
            self.view.recycle(old);
        }
        newest.as_deref().map(look)
    }
}

/// Where the engine as a whole stands, as the supervisor knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stage {
    /// Not every actor has started yet.
    #[default]
    Starting,
    /// Every actor has started.
    Running,
    /// A drain is under way.
    Draining,
    /// Every actor has ended.
    Stopped,
}

/// Whether orders may be sent, as far as somebody has ordered otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TradingGate {
    /// Nobody has.
    #[default]
    Open,
    /// Only cancels are sent.
    CancelOnly,
    /// The kill switch is on, or trading is fenced.
    Halted,
}

/// What the supervisor adds to the views.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EngineState {
    /// Where the engine stands.
    pub stage: Stage,
    /// Whether orders may be sent.
    pub trading: TradingGate,
    /// Why, in words; shown as they are.
    pub reasons: Vec<String>,
}

/// One event of the supervisor's log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventLine {
    /// When.
    pub utc: UtcNs,
    /// The stable name, such as `actor.exit`.
    pub event: String,
    /// The rest: `key=value` pairs or words.
    pub text: String,
}

impl From<SupervisorEvent> for EventLine {
    fn from(event: SupervisorEvent) -> Self {
        Self { utc: event.at, event: event.name.to_owned(), text: event.text }
    }
}

/// A budget that the venue sets, and how much of it is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RateLimit {
    /// Such as `binance request_weight`.
    pub name: String,
    /// Used in the running window.
    pub used: u64,
    /// Allowed per window.
    pub limit: u64,
    /// The window.
    pub window: Duration,
}

/// A question that is answered whenever the status is built; must be quick and must not block.
pub type Ask<T> = Box<dyn Fn() -> T + Send + Sync>;

/// Everything the status is made of.
pub struct StatusSources {
    /// The program's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// `demo`, `testnet`, `paper` or `live`.
    pub mode: String,
    /// When the engine began.
    pub started: MonoNs,
    /// Every actor, by id.
    pub health: HealthTable,
    /// What the supervisor counts.
    pub tally: Tally,
    /// The idle strategy of every actor, by id; known once the threads are planned.
    idle: OnceLock<Vec<String>>,
    /// The plan of threads in one line; known at the same time.
    plan: OnceLock<String>,
    /// Every mailbox.
    pub edges: Arc<[Arc<dyn Edge>]>,
    /// What is traded.
    pub instruments: Instruments,
    /// Feed readers.
    pub feeds: Vec<Watched<FeedView>>,
    /// Book builders.
    pub books: Vec<Watched<BooksView>>,
    /// Order senders.
    pub orders: Vec<Watched<OrdersView>>,
    /// Strategies.
    pub strategies: Vec<Watched<StrategyView>>,
    /// The journal writer, where there is one.
    pub journal: Option<Watched<JournalView>>,
    /// Where the engine stands.
    pub engine: Ask<EngineState>,
    /// The last events, oldest first.
    pub events: Ask<Vec<EventLine>>,
    /// The venues' budgets.
    pub rate_limits: Ask<Vec<RateLimit>>,
}

impl StatusSources {
    /// Sources of an engine without actors, to be filled in.
    pub fn new(mode: &str, started: MonoNs, health: HealthTable, instruments: Instruments) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            mode: mode.to_owned(),
            started,
            health,
            tally: Tally::default(),
            idle: OnceLock::new(),
            plan: OnceLock::new(),
            edges: Arc::new([]),
            instruments,
            feeds: Vec::new(),
            books: Vec::new(),
            orders: Vec::new(),
            strategies: Vec::new(),
            journal: None,
            engine: Box::new(EngineState::default),
            events: Box::new(Vec::new),
            rate_limits: Box::new(Vec::new),
        }
    }

    /// Tells the idle strategy of every actor, by id. The first telling counts.
    pub fn set_idle(&self, labels: Vec<String>) {
        let _ = self.idle.set(labels);
    }

    /// Tells the plan of threads. The first telling counts.
    pub fn set_plan(&self, line: String) {
        let _ = self.plan.set(line);
    }

    /// The plan of threads in one line; empty before it is known.
    pub fn plan(&self) -> &str {
        self.plan.get().map_or("", String::as_str)
    }

    /// The idle strategy of an actor; empty before it is known.
    pub fn idle_of(&self, index: usize) -> &str {
        self.idle.get().and_then(|labels| labels.get(index)).map_or("", String::as_str)
    }
}
