//! The actor that tells the log what changed: feeds, books, sessions, the engine as a whole.
//!
//! In: the same views as the status page. Out: one log line per change of state, never per message, and one demand to
//! drain when the engine is not live in time. What always holds: hot actors do not log, so this one looks at them from
//! outside, a few times per second, and a change that undid itself in between is not told.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::MonoNs;
use crate::runtime::actor::{Actor, Cx, Fault, Stop, Waits, Work};
use crate::runtime::system::StopHandle;
use crate::trading::domain::{BookState, Instrument};
use crate::trading::telemetry::{BookView, SessionState};

use super::sources::{Stage, StatusSources};

/// How often it looks: a human sees no difference, and an idle engine stays idle.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// The exit code when the venue is not live in time (design, section 5).
const NOT_LIVE_IN_TIME: i32 = 69;

/// What the watch is told.
#[derive(Clone, Copy, Debug)]
pub struct WatchSettings {
    /// The engine must be live within this time of its start, or it drains and exits with 69.
    pub live_within: Duration,
}

/// The actor.
pub struct Watch {
    settings: WatchSettings,
    sources: Arc<StatusSources>,
    stop: StopHandle,
    /// The states told last, `None` before the first.
    feeds: Vec<Option<SessionState>>,
    sessions: Vec<Option<SessionState>>,
    /// Suspensions told of each order sender.
    suspensions: Vec<u64>,
    books: Vec<Option<BookState>>,
    live: bool,
    was_live: bool,
    ordered: bool,
    overdue: bool,
    look_at: MonoNs,
}

impl Watch {
    /// A watch that has seen nothing yet.
    pub fn new(settings: WatchSettings, sources: Arc<StatusSources>, stop: StopHandle) -> Self {
        Self {
            settings,
            feeds: vec![None; sources.feeds.len()],
            sessions: vec![None; sources.orders.len()],
            suspensions: vec![0; sources.orders.len()],
            books: vec![None; sources.instruments.len()],
            sources,
            stop,
            live: false,
            was_live: false,
            ordered: false,
            overdue: false,
            look_at: MonoNs::ZERO,
        }
    }

    fn look(&mut self, now: MonoNs) {
        // A drain takes everything down on purpose: the supervisor tells of it.
        if matches!((self.sources.engine)().stage, Stage::Draining | Stage::Stopped) {
            return;
        }
        for (watched, seen) in self.sources.feeds.iter().zip(&mut self.feeds) {
            let Some((state, why)) = watched.read(|v| (v.state, v.last_error.clone())) else {
                continue;
            };
            if let Some(before) = changed(seen, state) {
                tell("feed", watched.actor(), before, state, &why);
            }
        }
        self.look_at_suspensions();
        for (watched, seen) in self.sources.orders.iter().zip(&mut self.sessions) {
            let Some((state, why)) = watched.read(|v| (v.state, v.last_error.clone())) else {
                continue;
            };
            if let Some(before) = changed(seen, state) {
                tell("session", watched.actor(), before, state, &why);
            }
        }
        self.look_at_books();
        self.look_at_orders();
        self.look_at_engine(now);
    }

    /// A comparison with the venue may be over before anybody looks, and is told all the same.
    fn look_at_suspensions(&mut self) {
        let told = self.suspensions.iter_mut().zip(&mut self.sessions);
        for (watched, (told, session)) in self.sources.orders.iter().zip(told) {
            let seen = watched.read(|v| (v.suspended, v.suspended_for.as_millis()));
            let Some((total, gap_ms)) = seen.filter(|(total, _)| total > told) else { continue };
            *told = total;
            // What follows is a session that comes up once more.
            *session = Some(SessionState::Reconciling);
            let actor = watched.actor();
            log::warn!(
                target: "engine",
                "event=order.suspended actor={actor} gap_ms={gap_ms} total={total} action=reconcile"
            );
        }
    }

    fn look_at_books(&mut self) {
        let (sources, all) = (&self.sources, &mut self.books);
        let mut look = |book: &BookView| {
            let index = book.instrument.index();
            let (Some(seen), Some(instrument)) =
                (all.get_mut(index), sources.instruments.get(index))
            else {
                return;
            };
            if let Some(before) = changed(seen, book.state) {
                tell_book(instrument, before, book);
            }
        };
        for watched in &sources.books {
            watched.read(|view| view.books.iter().for_each(&mut look));
        }
    }

    fn look_at_orders(&mut self) {
        if self.ordered {
            return;
        }
        let sent = self.sources.orders.iter().filter_map(|o| o.read(|v| v.totals.sent));
        if sent.sum::<u64>() > 0 {
            self.ordered = true;
            log::info!(target: "engine", "event=order.first");
        }
    }

    fn look_at_engine(&mut self, now: MonoNs) {
        let up =
            |seen: &[Option<SessionState>]| seen.iter().all(|s| *s == Some(SessionState::Live));
        let books = self.books.iter().all(|s| *s == Some(BookState::Live));
        let live = books && up(&self.feeds) && up(&self.sessions);
        let age = now.since(self.sources.started);
        if live != self.live {
            self.live = live;
            self.was_live |= live;
            if live {
                log::info!(target: "engine", "event=engine.live uptime_ms={}", age.as_millis());
            } else {
                log::warn!(target: "engine", "event=engine.degraded uptime_ms={}", age.as_millis());
            }
        }
        if !self.was_live && !self.overdue && age > self.settings.live_within {
            self.overdue = true;
            let limit = self.settings.live_within;
            log::error!(target: "engine", "event=engine.not_live limit_ms={}", limit.as_millis());
            self.stop.drain_with(format!("not live within {limit:?}"), NOT_LIVE_IN_TIME);
        }
    }
}

/// Notes the state; what it was before, if it differs.
fn changed<T: Copy + PartialEq>(seen: &mut Option<T>, state: T) -> Option<Option<T>> {
    let before = seen.replace(state);
    (before != Some(state)).then_some(before)
}

/// Up and losing it are told; the steps in between are only for those who look closer.
fn tell(what: &str, actor: &str, before: Option<SessionState>, state: SessionState, why: &str) {
    let word = state.label();
    if state == SessionState::Live {
        log::info!(target: "engine", "event={what}.up actor={actor}");
    } else if before == Some(SessionState::Live) {
        log::warn!(target: "engine", "event={what}.down actor={actor} state={word} why={why:?}");
    } else if !why.is_empty() && state == SessionState::Down {
        log::info!(target: "engine", "event={what}.retry actor={actor} why={why:?}");
    } else {
        log::debug!(target: "engine", "event={what}.{word} actor={actor}");
    }
}

fn tell_book(instrument: &Instrument, before: Option<BookState>, book: &BookView) {
    let (venue, symbol, state) = (&instrument.venue_name, &instrument.symbol, book.state.label());
    let (id, gaps) = (book.update_id, book.gaps);
    let level = match (before, book.state) {
        (_, BookState::Live) => log::Level::Info,
        (Some(BookState::Live), _) => log::Level::Warn,
        _ => log::Level::Debug,
    };
    log::log!(
        target: "engine",
        level,
        "event=book.{state} venue={venue} symbol={symbol} update_id={id} gaps={gaps}"
    );
}

impl Actor for Watch {
    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        if cx.now < self.look_at {
            return Ok(Work::Idle);
        }
        self.look_at = cx.now.after(LOOK_EVERY);
        self.look(cx.now);
        // Looking is not work that others wait for: the thread may rest again.
        Ok(Work::Idle)
    }

    fn waits(&self, waits: &mut Waits) {
        waits.until(self.look_at);
    }

    fn on_stop(&mut self, cx: &mut Cx, _stop: Stop) {
        self.look(cx.now);
    }
}
