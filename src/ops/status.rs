//! The status: sources come in, one object goes out, with exactly the fields that the interface promises.
//!
//! Prices, quantities and amounts are decimal text; durations carry their unit in their name. Where nothing is known
//! a field is `null` or empty, never a made-up zero.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::clock::MonoNs;
use crate::runtime::actor::ActorId;

use super::health::{Beats, Health};
use super::rows;
use super::sources::StatusSources;
use super::supervision::{self, SupervisorStatus};
use super::verdict;

/// The answer of `/status`, and the content of `status.json`.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// `demo`, `testnet`, `paper` or `live`.
    pub mode: String,
    /// `starting`, `reconciling`, `live`, `degraded`, `cancel_only`, `halted`, `draining` or `stopped`.
    pub state: &'static str,
    /// Why it is not `live`.
    pub reasons: Vec<String>,
    /// Since the engine began.
    pub uptime_ms: u64,
    /// The supervisor itself.
    pub supervisor: SupervisorStatus,
    /// Every actor.
    pub actors: Vec<ActorStatus>,
    /// Every instrument of every feed.
    pub feeds: Vec<FeedStatus>,
    /// Every book.
    pub books: Vec<BookStatus>,
    /// Totals of orders.
    pub orders: OrdersStatus,
    /// Orders that are not done.
    pub open_orders: Vec<OpenOrderStatus>,
    /// What was bought and sold.
    pub positions: Vec<PositionStatus>,
    /// Balances by asset.
    pub cash: BTreeMap<String, CashStatus>,
    /// By quote asset: its balance plus the positions priced in it, at the middle of their books.
    pub equity: BTreeMap<String, String>,
    /// The venues' budgets.
    pub rate_limits: Vec<RateLimitStatus>,
    /// Latencies by name, in microseconds.
    pub latency_us: BTreeMap<String, LatencyStatus>,
    /// Every strategy.
    pub strategies: Vec<StrategyStatus>,
    /// The journal writer; `null` before its first word.
    pub journal: Option<JournalStatus>,
    /// The last events, oldest first.
    pub events: Vec<EventStatus>,
}

/// One actor.
#[derive(Clone, Debug, Serialize)]
pub struct ActorStatus {
    /// Its name.
    pub id: String,
    /// The kernel's id of its thread.
    pub tid: i32,
    /// The core it is pinned to.
    pub core: Option<u32>,
    /// Whether it is pinned.
    pub pinned: bool,
    /// How it waits.
    pub idle: String,
    /// Where it stands in its life cycle.
    pub state: &'static str,
    /// Which life it lives.
    pub generation: u32,
    /// How often it was restarted.
    pub restarts: u32,
    /// Failures in a row as of the last one.
    pub consecutive: u32,
    /// How its previous life ended.
    pub last_exit: Option<String>,
    /// Since this life became ready; 0 while none is.
    pub uptime_ms: u64,
    /// Since its last turn, as far as the ops actor looked.
    pub beat_age_ms: u64,
    /// Turns taken.
    pub turns: u64,
    /// Turns with work.
    pub busy_turns: u64,
    /// The longest turn.
    pub turn_max_us: u64,
    /// Measured turns that took longer than 100 ms.
    pub long_turns: u64,
    /// Messages taken from mailboxes.
    pub messages_in: u64,
    /// Messages offered to the mailboxes that it alone feeds.
    pub messages_out: u64,
    /// Messages that were in hand when a life panicked.
    pub in_flight_lost: u64,
    /// Whether it makes no progress.
    pub stalled: bool,
    /// How often the supervisor found it without progress.
    pub stalls: u32,
    /// For how long now, as last reported.
    pub stall_age_ms: u64,
    /// How often its interrupt handles were used.
    pub interrupted: u32,
    /// The cores its thread may run on, as the kernel says.
    pub cpus_allowed: String,
    /// Its thread's time on a core.
    pub cpu_ms: u64,
    /// How often its thread waited for something.
    pub switches_voluntary: u64,
    /// How often the core was taken from its thread.
    pub switches_involuntary: u64,
    /// The mailboxes it takes from.
    pub mailboxes: Vec<MailboxStatus>,
}

/// One mailbox.
#[derive(Clone, Debug, Serialize)]
pub struct MailboxStatus {
    /// Its name.
    pub edge: String,
    /// Messages waiting.
    pub depth: u64,
    /// Most that may wait.
    pub capacity: usize,
    /// Most that ever waited.
    pub high_water: u64,
    /// Offers that came back.
    pub refused: u64,
    /// Messages dropped, for whatever reason.
    pub dropped: u64,
    /// The same by reason; only reasons that occurred.
    pub dropped_by: BTreeMap<&'static str, u64>,
    /// Values replaced by newer ones.
    pub conflated: u64,
    /// Offers made.
    pub sent: u64,
    /// Messages handled.
    pub handled: u64,
    /// In hand when the consumer panicked.
    pub lost_in_flight: u64,
}

/// One instrument of one feed.
#[derive(Clone, Debug, Serialize)]
pub struct FeedStatus {
    /// The venue's name.
    pub venue: String,
    /// The venue's spelling of the instrument.
    pub symbol: String,
    /// `websocket` or `rest`.
    pub transport: &'static str,
    /// Where the connection stands.
    pub state: &'static str,
    /// Since the last update; `null` before the first.
    pub last_update_age_ms: Option<u64>,
    /// Updates read.
    pub messages: u64,
    /// Holes found in them.
    pub gaps: u64,
    /// Snapshots aligned after the first.
    pub resyncs: u64,
    /// Connections opened after the first.
    pub reconnects: u64,
    /// Why the connection was lost last.
    pub last_error: String,
}

/// One book.
#[derive(Clone, Debug, Serialize)]
pub struct BookStatus {
    /// The venue's name.
    pub venue: String,
    /// The venue's spelling of the instrument.
    pub symbol: String,
    /// `syncing`, `live`, `gap` or `stale`.
    pub state: &'static str,
    /// The last update id applied.
    pub update_id: u64,
    /// Best bid.
    pub bid: Option<String>,
    /// Its quantity.
    pub bid_qty: Option<String>,
    /// Best ask.
    pub ask: Option<String>,
    /// Its quantity.
    pub ask_qty: Option<String>,
    /// Levels of both sides.
    pub levels: u32,
}

/// Totals of orders.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OrdersStatus {
    /// Not done.
    pub open: u64,
    /// Whose fate is being queried.
    pub unknown: u64,
    /// Sent.
    pub sent: u64,
    /// Accepted by the venue.
    pub acknowledged: u64,
    /// Completely filled.
    pub filled: u64,
    /// Cancelled at the venue.
    pub cancelled: u64,
    /// Rejected by the venue.
    pub rejected: u64,
    /// Refused by the gate, by reason; only reasons that occurred.
    pub refused: BTreeMap<&'static str, u64>,
    /// Fills, partial ones counted each.
    pub fills: u64,
    /// Ended by the venue's own rules.
    pub expired: u64,
    /// Reports that said nothing new.
    pub duplicates: u64,
    /// Cancelled before they were sent.
    pub withdrawn: u64,
    /// Times that an order sender did not run for long and compared with its venue before it went on.
    pub suspended: u64,
    /// Open orders that the venue refuses to cancel again and again.
    pub stuck: u64,
}

/// One open order.
#[derive(Clone, Debug, Serialize)]
pub struct OpenOrderStatus {
    /// Our key.
    pub client_order_id: String,
    /// The venue's name.
    pub venue: String,
    /// The venue's spelling of the instrument.
    pub symbol: String,
    /// Where it stands.
    pub status: &'static str,
    /// `buy` or `sell`.
    pub side: &'static str,
    /// The limit.
    pub price: String,
    /// The ordered quantity.
    pub qty: String,
    /// Traded so far.
    pub cum_qty: String,
    /// Since it was sent.
    pub age_ms: u64,
}

/// One position.
#[derive(Clone, Debug, Serialize)]
pub struct PositionStatus {
    /// The venue's name.
    pub venue: String,
    /// The venue's spelling of the instrument.
    pub symbol: String,
    /// Net quantity.
    pub qty: String,
    /// What the open part cost on average.
    pub avg_price: String,
    /// Profit of what was closed, fees included.
    pub realized_pnl: String,
    /// Profit of the open part.
    pub unrealized_pnl: String,
    /// Fees paid.
    pub fees: String,
}

/// The balance of one asset.
#[derive(Clone, Debug, Serialize)]
pub struct CashStatus {
    /// Usable now.
    pub free: String,
    /// Bound by open orders.
    pub locked: String,
}

/// One budget.
#[derive(Clone, Debug, Serialize)]
pub struct RateLimitStatus {
    /// Its name.
    pub name: String,
    /// Used in the running window.
    pub used: u64,
    /// Allowed per window.
    pub limit: u64,
    /// The window.
    pub window_ms: u64,
}

/// One latency, in microseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct LatencyStatus {
    /// How often it was measured.
    pub count: u64,
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// The largest.
    pub max: f64,
}

/// One strategy.
#[derive(Clone, Debug, Serialize)]
pub struct StrategyStatus {
    /// The actor's name.
    pub id: String,
    /// Book updates seen.
    pub books: u64,
    /// Trades seen.
    pub trades: u64,
    /// Execution reports seen.
    pub reports: u64,
    /// Intents offered.
    pub intents: u64,
    /// Intents that came back because the order sender was busy.
    pub busy: u64,
    /// What it thinks.
    pub note: String,
}

/// The journal writer.
#[derive(Clone, Debug, Serialize)]
pub struct JournalStatus {
    /// Records written.
    pub records: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Market records dropped.
    pub holes: u64,
    /// Segments opened.
    pub segments: u64,
    /// The last number of an order or report record written.
    pub last_seq: u64,
    /// The longest write.
    pub write_max_us: u64,
}

/// One event.
#[derive(Clone, Debug, Serialize)]
pub struct EventStatus {
    /// When, as text.
    pub utc: String,
    /// Its stable name.
    pub event: String,
    /// The rest.
    pub text: String,
}

/// Builds status after status; remembers when it saw each heart beat.
pub struct StatusBuilder {
    sources: Arc<StatusSources>,
    beats: Beats,
}

impl StatusBuilder {
    /// A builder over `sources`.
    pub fn new(sources: Arc<StatusSources>) -> Self {
        Self { sources, beats: Beats::default() }
    }

    /// Looks at the actors' hearts; call it a few times per second, whether anybody asks or not.
    pub fn sample(&mut self, now: MonoNs) {
        self.beats.sample(&self.sources.health, now);
    }

    /// The status and the health at `now`.
    pub fn build(&mut self, now: MonoNs) -> (Status, Health) {
        self.sample(now);
        let sources = &*self.sources;
        let engine = (sources.engine)();
        let findings = verdict::find(sources, &engine, &self.beats, now);
        let health = verdict::health(sources, engine.stage, &findings, &self.beats);
        let mut status = Status {
            version: sources.version.clone(),
            pid: sources.pid,
            mode: sources.mode.clone(),
            state: verdict::state_word(engine.stage, findings.worst),
            reasons: findings.reasons,
            uptime_ms: ms(now.since(sources.started)),
            supervisor: supervision::supervisor(sources),
            actors: self.actors(now),
            feeds: rows::feeds(sources, now),
            books: rows::books(sources),
            orders: OrdersStatus::default(),
            open_orders: Vec::new(),
            positions: Vec::new(),
            cash: BTreeMap::new(),
            equity: BTreeMap::new(),
            rate_limits: rows::rate_limits(sources),
            latency_us: BTreeMap::new(),
            strategies: rows::strategies(sources),
            journal: rows::journal(sources),
            events: rows::events(sources),
        };
        rows::fill_orders(&mut status, sources, now);
        status.equity = rows::equity(sources);
        (status, health)
    }

    fn actors(&self, now: MonoNs) -> Vec<ActorStatus> {
        let sources = &*self.sources;
        let mut actors: Vec<_> = sources
            .health
            .iter()
            .enumerate()
            .map(|(index, cell)| {
                let idle = sources.idle_of(index).to_owned();
                let (age, stalled) = (ms(self.beats.age(index)), self.beats.stalled(index));
                rows::actor(cell, now, idle, age, stalled)
            })
            .collect();
        for edge in &*sources.edges {
            let ActorId(to) = edge.spec().to;
            let mailbox = rows::mailbox(&**edge);
            if let [ActorId(from)] = edge.spec().from[..]
                && let Some(actor) = actors.get_mut(usize::from(from))
            {
                actor.messages_out += mailbox.sent;
            }
            if let Some(actor) = actors.get_mut(usize::from(to)) {
                actor.messages_in += mailbox.handled + mailbox.lost_in_flight;
                actor.in_flight_lost += mailbox.lost_in_flight;
                actor.mailboxes.push(mailbox);
            }
        }
        actors
    }
}

/// Whole milliseconds.
pub(super) fn ms(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
