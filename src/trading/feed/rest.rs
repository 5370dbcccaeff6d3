//! The actor that asks a venue's REST API, one request at a time.
//!
//! In: requests for snapshots. Out: pieces of snapshots to the book builder; the rules of every instrument into
//! the table of instruments, fetched at the start. What always holds: every request has a deadline; at most one
//! is in flight; after a 429 or 418 nothing is asked before the venue allows it; a failed request is asked
//! again, later each time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::MonoNs;
use crate::net::backoff::Backoff;
use crate::net::{HttpClient, HttpRequest, HttpResponse, NetError};
use crate::runtime::actor::{Actor, Cx, Fault, Waits, Work};
use crate::runtime::mailbox::{Inbox, Outbox, RefusedWhy};
use crate::runtime::view::View;
use crate::trading::domain::{
    Instrument, InstrumentId, Instruments, MarketUpdate, SnapshotRequest, Stamps,
};
use crate::trading::limits::{REST_DEADLINE, TURN_MESSAGES_MAX};
use crate::trading::telemetry::RestView;
use crate::trading::venue::{DecodeError, MarketDialect};

/// What a call may take beyond its own deadline before the supervisor worries: resolving, giving up.
const BLOCKING_SLACK: Duration = Duration::from_secs(2);
/// How often a client that does not block is asked for its answer.
const POLL_EVERY: Duration = Duration::from_millis(1);
/// A 429 or 418 without `Retry-After`: the length of the venue's weight window.
const LIMITED_FOR: Duration = Duration::from_secs(60);
/// The longest ban that is believed: Binance's longest.
const LIMITED_MAX: Duration = Duration::from_secs(3 * 24 * 3_600);

/// What a rest worker asks, and where.
#[derive(Clone, Debug)]
pub struct RestSettings {
    /// The base, such as `https://api.binance.com`.
    pub base_url: String,
    /// The engine's table of instruments, whose rules are filled in.
    pub instruments: Instruments,
    /// Those that this venue trades.
    pub mine: Vec<InstrumentId>,
    /// The longest a call may take.
    pub deadline: Duration,
    /// Spreads the retries of several workers.
    pub seed: u64,
}

impl RestSettings {
    /// The usual deadline.
    pub fn new(base_url: String, instruments: Instruments, mine: Vec<InstrumentId>) -> Self {
        Self { base_url, instruments, mine, deadline: REST_DEADLINE, seed: 0 }
    }
}

/// A rest worker's edges.
pub struct RestPorts {
    /// From the book builder.
    pub requests: Inbox<SnapshotRequest>,
    /// To the book builder; what does not fit is kept and offered again.
    pub book: Outbox<MarketUpdate>,
    /// What the ops page sees.
    pub view: View<RestView>,
}

/// Something to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Job {
    /// The book of an instrument.
    Snapshot(InstrumentId),
    /// The rules of all instruments that have none, or of one of them.
    Rules(Option<InstrumentId>),
}

/// The rest worker.
pub struct RestWorker {
    settings: RestSettings,
    ports: RestPorts,
    dialect: Box<dyn MarketDialect>,
    client: Box<dyn HttpClient>,
    /// Instruments whose snapshot is wanted, each once.
    queue: VecDeque<InstrumentId>,
    in_flight: Option<Job>,
    /// Updates that did not fit into the book builder's mailbox yet; at most one snapshot.
    unsent: VecDeque<MarketUpdate>,
    backoff: Backoff,
    /// Nothing is asked before.
    not_before: MonoNs,
    /// Rules are not asked for before.
    rules_not_before: MonoNs,
    /// How often rules were refused for all at once: then they are asked for one by one, in turn.
    rules_refused: usize,
    /// When the client is asked for its answer next.
    poll_at: MonoNs,
}

impl RestWorker {
    /// A worker with nothing asked yet.
    pub fn new(
        settings: RestSettings,
        ports: RestPorts,
        dialect: Box<dyn MarketDialect>,
        client: Box<dyn HttpClient>,
    ) -> Self {
        Self {
            queue: VecDeque::with_capacity(settings.mine.len()),
            backoff: Backoff::new(settings.seed),
            settings,
            ports,
            dialect,
            client,
            in_flight: None,
            unsent: VecDeque::new(),
            not_before: MonoNs::ZERO,
            rules_not_before: MonoNs::ZERO,
            rules_refused: 0,
            poll_at: MonoNs::ZERO,
        }
    }

    fn take_requests(&mut self, cx: &mut Cx) -> Work {
        let mut work = Work::Idle;
        for _ in 0..TURN_MESSAGES_MAX {
            let Some(request) = self.ports.requests.take(cx) else { break };
            work = Work::Busy;
            let known = self.settings.mine.contains(&request.instrument);
            let asked = self.in_flight == Some(Job::Snapshot(request.instrument));
            // The queue holds each instrument at most once, so it is never longer than they are many.
            if known && !asked && !self.queue.contains(&request.instrument) {
                self.queue.push_back(request.instrument);
            }
        }
        work
    }

    /// Offers what is decoded; whether anything moved.
    fn send(&mut self) -> Work {
        let mut work = Work::Idle;
        while let Some(update) = self.unsent.pop_front() {
            match self.ports.book.offer(update) {
                Ok(()) => work = Work::Busy,
                Err(refused) if refused.why == RefusedWhy::Full => {
                    self.unsent.push_front(refused.message);
                    break;
                }
                // The book builder has ended: nobody wants the rest.
                Err(_) => self.unsent.clear(),
            }
        }
        work
    }

    /// What to ask next, and takes it off the queue.
    fn next_job(&mut self, now: MonoNs) -> Option<Job> {
        if now < self.not_before {
            return None;
        }
        let missing = || self.without_rules().map(|i| i.id);
        if now >= self.rules_not_before && missing().next().is_some() {
            // Asked for all at once, one unknown symbol makes the venue refuse all.
            let one = self.rules_refused.checked_sub(1);
            return Some(Job::Rules(one.and_then(|n| missing().cycle().nth(n % 64))));
        }
        self.queue.pop_front().map(Job::Snapshot)
    }

    fn without_rules(&self) -> impl Iterator<Item = &Instrument> + Clone {
        let table = &self.settings.instruments;
        let mine = self.settings.mine.iter().filter_map(|id| table.get(id.index()));
        mine.filter(|instrument| instrument.rules().is_none())
    }

    fn begin(&mut self, job: Job, cx: &mut Cx) {
        let table = &self.settings.instruments;
        let target = match job {
            Job::Snapshot(id) => table.get(id.index()).map(|i| self.dialect.snapshot_target(i)),
            Job::Rules(one) => {
                let wanted = |i: &&Instrument| one.is_none_or(|id| i.id == id);
                let which: Vec<_> = self.without_rules().filter(wanted).collect();
                Some(self.dialect.rules_target(&which))
            }
        };
        let Some(target) = target else { return };
        let request = HttpRequest {
            method: "GET",
            base_url: self.settings.base_url.clone(),
            target,
            headers: Vec::new(),
            body: Vec::new(),
        };
        self.in_flight = Some(job);
        self.poll_at = cx.now.after(POLL_EVERY);
        let (client, deadline, now) = (&mut self.client, self.settings.deadline, cx.now);
        if client.blocks() {
            let limit = deadline.saturating_add(BLOCKING_SLACK);
            cx.blocking("rest call", limit, || client.begin(request, deadline, now));
        } else {
            client.begin(request, deadline, now);
        }
    }

    fn on_outcome(&mut self, job: Job, outcome: Result<HttpResponse, NetError>, cx: &Cx) {
        if let Ok(answer) = &outcome
            && let Some(budget) = self.dialect.budget(&answer.headers)
        {
            self.ports.view.publish(|view| view.budget = Some(budget));
        }
        let problem = match outcome {
            Ok(answer) if answer.status == 200 => self.on_answer(job, &answer.body, cx.now),
            Ok(answer) if matches!(answer.status, 429 | 418) => {
                let pause = retry_after(&answer);
                self.not_before = cx.now.after(pause);
                Err(format!("status {}: nothing is asked for {pause:?}", answer.status))
            }
            Ok(answer) => {
                if matches!(job, Job::Rules(_)) && (400..500).contains(&answer.status) {
                    self.rules_refused += 1;
                }
                let excerpt = DecodeError::new(format!("status {}", answer.status), &answer.body);
                Err(excerpt.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        match problem {
            Ok(()) => self.backoff = Backoff::new(self.settings.seed),
            Err(why) => self.on_failure(job, &why, cx.now),
        }
    }

    fn on_failure(&mut self, job: Job, why: &str, now: MonoNs) {
        let retry_at = self.backoff.lost(now);
        match job {
            Job::Snapshot(id) => {
                self.not_before = self.not_before.max(retry_at);
                self.queue.push_back(id);
                log::warn!(
                    "rest.failed what=snapshot instrument={} error={why:?}",
                    self.symbol(id)
                );
            }
            Job::Rules(_) => {
                // Snapshots go on meanwhile.
                self.rules_not_before = retry_at;
                log::warn!("rest.failed what=rules error={why:?}");
            }
        }
    }

    fn symbol(&self, id: InstrumentId) -> &str {
        self.settings.instruments.get(id.index()).map_or("?", |i| i.symbol.as_str())
    }

    fn on_answer(&mut self, job: Job, body: &[u8], now: MonoNs) -> Result<(), String> {
        match job {
            Job::Snapshot(id) => {
                let stamps = Stamps { recv: now, ..Stamps::default() };
                let unsent = &mut self.unsent;
                let mut keep = |update| unsent.push_back(update);
                let decoded = self.dialect.decode_snapshot(body, id, stamps, &mut keep);
                decoded.map_err(|e| {
                    // Half a snapshot is none.
                    self.unsent.clear();
                    e.to_string()
                })
            }
            Job::Rules(one) => self.learn_rules(one, body),
        }
    }

    /// Sets the rules that the answer has; an error if any of those asked for is missing.
    fn learn_rules(&self, one: Option<InstrumentId>, body: &[u8]) -> Result<(), String> {
        let mut problem = Ok(());
        for instrument in self.without_rules().filter(|i| one.is_none_or(|id| i.id == id)) {
            match self.dialect.decode_rules(body, instrument) {
                Ok(rules) => {
                    instrument.set_rules(rules);
                }
                Err(e) => problem = Err(e.to_string()),
            }
        }
        problem
    }
}

/// How long the venue wants to be left alone.
fn retry_after(answer: &HttpResponse) -> Duration {
    let seconds = answer.header("retry-after").and_then(|text| text.trim().parse().ok());
    seconds.map_or(LIMITED_FOR, Duration::from_secs).min(LIMITED_MAX)
}

impl Actor for RestWorker {
    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        // Also while a full mailbox is waited for: a moment that has passed would be waited for without rest.
        self.poll_at = cx.now.after(POLL_EVERY);
        let mut work = self.take_requests(cx).or(self.send());
        if let Some(job) = self.in_flight {
            if let Some(outcome) = self.client.poll(cx.now) {
                self.in_flight = None;
                self.on_outcome(job, outcome, cx);
                work = Work::Busy;
            }
        } else if self.unsent.is_empty()
            && !cx.draining()
            && let Some(job) = self.next_job(cx.now)
        {
            self.begin(job, cx);
            work = Work::Busy;
        }
        Ok(work)
    }

    fn waits(&self, waits: &mut Waits) {
        if self.in_flight.is_some() || !self.unsent.is_empty() {
            waits.until(self.poll_at);
            return;
        }
        if self.without_rules().next().is_some() {
            waits.until(self.rules_not_before.max(self.not_before));
        }
        if !self.queue.is_empty() {
            waits.until(self.not_before);
        }
    }
}

#[cfg(test)]
#[path = "rest_tests.rs"]
mod tests;
