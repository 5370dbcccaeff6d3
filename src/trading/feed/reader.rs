//! The actor that owns one market-stream connection.
//!
//! In: frames. Out: market updates of its instruments, and a reset whenever their stream has a hole; a view.
//! What always holds: every update between two resets was on one connection, in the venue's order; a connection
//! that is lost, silent, old or incomprehensible is replaced, later each time; between turns nothing waits that
//! a turn would not find.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::MonoNs;
use crate::net::backoff::Backoff;
use crate::net::url::WsUrl;
use crate::net::websocket::{WsClient, WsConfig, WsEvent};
use crate::net::{Dialer, Wants};
use crate::runtime::actor::{Actor, Cx, Fault, Stop, Waits, Work};
use crate::runtime::mailbox::Outbox;
use crate::runtime::view::View;
use crate::trading::domain::{
    Instrument, InstrumentId, Instruments, MarketUpdate, ResetReason, Stamps,
};
use crate::trading::limits::{CONNECT_DEADLINE, FRAME_BYTES_MAX, TURN_MESSAGES_MAX, VIEW_PERIOD};
use crate::trading::telemetry::{FeedInstrumentView, FeedView, SessionState, Transport};
use crate::trading::venue::{FrameKind, MarketDialect};

/// Undecodable frames in a row after which the connection itself is not trusted.
const UNDECODABLE_MAX: u32 = 8;
/// How long the venue may take to answer our close frame.
const CLOSE_DEADLINE: Duration = Duration::from_millis(200);
/// How often a connection without a descriptor (the name is being resolved) is looked at.
const POLL_EVERY: Duration = Duration::from_millis(5);
/// "Going away": the code of a close that both sides expect.
const CLOSE_NORMAL: u16 = 1000;

/// What a feed reader reads, and its patience.
#[derive(Clone, Debug)]
pub struct FeedSettings {
    /// The stream URL, such as `wss://stream.binance.com:9443`.
    pub url: WsUrl,
    /// The engine's table of instruments.
    pub instruments: Instruments,
    /// Those that are read here.
    pub mine: Vec<InstrumentId>,
    /// Longest wait for a connection, handshakes included.
    pub connect_deadline: Duration,
    /// A connection without any message for this long is replaced; longer than a quiet pair's silence (10.5 s
    /// recorded).
    pub silent_after: Duration,
    /// A connection of this age is replaced, before the venue ends it (Binance after 24 h).
    pub reconnect_after: Duration,
    /// Spreads the retries of several readers.
    pub seed: u64,
}

impl FeedSettings {
    /// The usual patience.
    pub fn new(url: WsUrl, instruments: Instruments, mine: Vec<InstrumentId>) -> Self {
        Self {
            url,
            instruments,
            mine,
            connect_deadline: CONNECT_DEADLINE,
            silent_after: Duration::from_secs(30),
            reconnect_after: Duration::from_secs(23 * 3_600),
            seed: 0,
        }
    }
}

/// A feed reader's edges.
pub struct FeedPorts {
    /// To the book builder; overflow resyncs.
    pub book: Outbox<MarketUpdate>,
    /// What the ops page sees.
    pub view: View<FeedView>,
}

/// The connection.
enum Link {
    Down { retry_at: MonoNs },
    Connecting(Box<WsClient>),
    Live(Box<WsClient>),
    Closing { client: Box<WsClient>, until: MonoNs },
}

/// Frees the current connection from another thread. Replaced at every connect, so that an old one keeps
/// nothing open.
type Interrupt = Arc<Mutex<Option<Box<dyn Fn() + Send + Sync>>>>;

/// The feed reader.
pub struct FeedReader {
    settings: FeedSettings,
    sink: Sink,
    view: View<FeedView>,
    dialect: Box<dyn MarketDialect>,
    dialer: Box<dyn Dialer>,
    link: Link,
    interrupt: Interrupt,
    backoff: Backoff,
    last_error: String,
    opened: u64,
    opened_at: MonoNs,
    last_message: MonoNs,
    undecodable: u64,
    undecodable_in_a_row: u32,
    next_view: MonoNs,
    poll_at: MonoNs,
}

/// Where updates go, counted on the way.
struct Sink {
    book: Outbox<MarketUpdate>,
    seen: Vec<FeedInstrumentView>,
    /// The place in `seen` of each instrument of the engine's table.
    by_instrument: Vec<Option<usize>>,
}

impl Sink {
    fn new(settings: &FeedSettings, book: Outbox<MarketUpdate>) -> Self {
        let mut by_instrument = vec![None; settings.instruments.len()];
        let mut seen = Vec::with_capacity(settings.mine.len());
        for id in &settings.mine {
            if let Some(place) = by_instrument.get_mut(id.index()) {
                *place = Some(seen.len());
            }
            seen.push(FeedInstrumentView { instrument: *id, ..FeedInstrumentView::default() });
        }
        Self { book, seen, by_instrument }
    }

    fn update(&mut self, update: MarketUpdate, now: MonoNs) {
        let (id, ends) = match &update {
            MarketUpdate::Depth(chunk) => (chunk.instrument, chunk.last),
            MarketUpdate::Trade(trade) => (trade.instrument, true),
            MarketUpdate::Ticker(ticker) => (ticker.instrument, true),
            MarketUpdate::Reset { instrument, .. } => (*instrument, false),
        };
        if ends && let Some(Some(place)) = self.by_instrument.get(id.index()) {
            let seen = &mut self.seen[*place];
            seen.messages += 1;
            seen.last_update = now;
        }
        // A full mailbox resyncs by its declaration; a closed one belongs to a book builder that has ended.
        let _ = self.book.offer(update);
    }

    fn reset(&mut self, reason: ResetReason, at: MonoNs) {
        for n in 0..self.seen.len() {
            let instrument = self.seen[n].instrument;
            self.update(MarketUpdate::Reset { instrument, reason, at }, at);
        }
    }
}

impl FeedReader {
    /// A reader that is not connected.
    pub fn new(
        settings: FeedSettings,
        ports: FeedPorts,
        dialect: Box<dyn MarketDialect>,
        dialer: Box<dyn Dialer>,
    ) -> Self {
        Self {
            sink: Sink::new(&settings, ports.book),
            backoff: Backoff::new(settings.seed),
            settings,
            view: ports.view,
            dialect,
            dialer,
            link: Link::Down { retry_at: MonoNs::ZERO },
            interrupt: Arc::default(),
            last_error: String::new(),
            opened: 0,
            opened_at: MonoNs::ZERO,
            last_message: MonoNs::ZERO,
            undecodable: 0,
            undecodable_in_a_row: 0,
            next_view: MonoNs::ZERO,
            poll_at: MonoNs::ZERO,
        }
    }

    fn connect(&mut self, now: MonoNs) {
        let table = &self.settings.instruments;
        let mine = self.settings.mine.iter().filter_map(|id| table.get(id.index()));
        let target = self.dialect.stream_target(&mine.collect::<Vec<&Instrument>>());
        let config = WsConfig {
            connect_deadline: self.settings.connect_deadline,
            frame_bytes_max: FRAME_BYTES_MAX,
            message_bytes_max: FRAME_BYTES_MAX,
            ..WsConfig::default()
        };
        match WsClient::open(self.dialer.as_mut(), &self.settings.url, &target, config, now) {
            Ok(client) => {
                self.set_interrupt(client.interrupter());
                self.link = Link::Connecting(Box::new(client));
            }
            Err(error) => self.lost(&error.to_string(), now),
        }
    }

    fn set_interrupt(&self, interrupt: Option<Box<dyn Fn() + Send + Sync>>) {
        // One assignment: a panic cannot leave it half-written.
        *self.interrupt.lock().unwrap_or_else(PoisonError::into_inner) = interrupt;
    }

    /// The connection, or the attempt to make one, is gone.
    fn lost(&mut self, why: &str, now: MonoNs) {
        why.clone_into(&mut self.last_error);
        self.set_interrupt(None);
        self.link = Link::Down { retry_at: self.backoff.lost(now) };
        self.next_view = now;
        // Said after every failed attempt: a book builder that has overrun or restarted may have missed it.
        self.sink.reset(ResetReason::Disconnected, now);
    }

    fn on_open(&mut self, now: MonoNs) {
        let link = std::mem::replace(&mut self.link, Link::Down { retry_at: now });
        self.link = match link {
            Link::Connecting(client) => {
                // Some streams have a handle only once they are connected.
                self.set_interrupt(client.interrupter());
                Link::Live(client)
            }
            other => other,
        };
        self.backoff.connected(now);
        self.opened += 1;
        (self.opened_at, self.last_message) = (now, now);
        self.undecodable_in_a_row = 0;
        self.next_view = now;
        self.sink.reset(ResetReason::Connected, now);
    }

    fn on_frame(&mut self, frame: &[u8], now: MonoNs) {
        self.last_message = now;
        let stamps = Stamps { recv: now, ..Stamps::default() };
        let sink = &mut self.sink;
        match self.dialect.decode(frame, stamps, &mut |update| sink.update(update, now)) {
            Ok(kind) => {
                self.undecodable_in_a_row = 0;
                if kind == FrameKind::ServerShutdown {
                    self.lost("the venue announced its shutdown", now);
                }
            }
            Err(error) => self.on_undecodable(&error.to_string(), now),
        }
    }

    /// Nobody knows what was in that frame: the books are built anew.
    fn on_undecodable(&mut self, why: &str, now: MonoNs) {
        why.clone_into(&mut self.last_error);
        self.undecodable += 1;
        self.undecodable_in_a_row += 1;
        self.sink.reset(ResetReason::Undecodable, now);
        if self.undecodable_in_a_row >= UNDECODABLE_MAX {
            self.lost("too many undecodable frames in a row", now);
        }
    }

    /// Reads what the connection has; at most so many events that control is never far away.
    fn read(&mut self, now: MonoNs) -> Work {
        let mut work = Work::Idle;
        for _ in 0..TURN_MESSAGES_MAX {
            let (Link::Connecting(client) | Link::Live(client)) = &mut self.link else { break };
            match client.poll(now) {
                Ok(None) => break,
                Ok(Some(WsEvent::Opened)) => self.on_open(now),
                Ok(Some(WsEvent::Text(text))) => self.on_frame(text.as_bytes(), now),
                Ok(Some(WsEvent::Binary(_))) => self.on_undecodable("binary message", now),
                Ok(Some(WsEvent::Closed { code, reason })) => {
                    self.lost(&format!("closed by peer: {code} {reason}"), now);
                }
                Err(error) => self.lost(&error.to_string(), now),
            }
            work = Work::Busy;
        }
        work
    }

    /// Replaces a connection that is silent or old.
    fn check_age(&mut self, now: MonoNs) {
        if !matches!(self.link, Link::Live(_)) {
            return;
        }
        if now.since(self.last_message) >= self.settings.silent_after {
            self.lost("no message for too long", now);
        } else if now.since(self.opened_at) >= self.settings.reconnect_after {
            self.lost("replaced before the venue ends it", now);
        }
    }

    fn close(&mut self, now: MonoNs) -> Work {
        let Link::Closing { client, until } = &mut self.link else { return Work::Idle };
        let mut over = false;
        // What still comes is not wanted any more.
        for _ in 0..TURN_MESSAGES_MAX {
            match client.poll(now) {
                Ok(Some(WsEvent::Closed { .. })) | Err(_) => over = true,
                Ok(Some(_)) => continue,
                Ok(None) => {}
            }
            break;
        }
        if over || now >= *until {
            client.shutdown();
            self.set_interrupt(None);
            self.link = Link::Down { retry_at: MonoNs::NEVER };
            return Work::Busy;
        }
        Work::Idle
    }

    fn state(&self) -> SessionState {
        match self.link {
            Link::Down { .. } | Link::Closing { .. } => SessionState::Down,
            Link::Connecting(_) => SessionState::Connecting,
            Link::Live(_) => SessionState::Live,
        }
    }

    fn show(&self) {
        self.view.publish(|view| {
            view.transport = Transport::WebSocket;
            view.state = self.state();
            view.last_error.clone_from(&self.last_error);
            view.reconnects = self.opened.saturating_sub(1);
            view.undecodable = self.undecodable;
            view.instruments.clone_from(&self.sink.seen);
        });
    }
}

impl Actor for FeedReader {
    fn on_start(&mut self, cx: &mut Cx) -> Result<(), Fault> {
        let interrupt = Arc::clone(&self.interrupt);
        cx.on_interrupt(Box::new(move || {
            if let Some(interrupt) = &*interrupt.lock().unwrap_or_else(PoisonError::into_inner) {
                interrupt();
            }
        }));
        if cx.generation.0 > 1 {
            // The connection died with the generation before, which could not say so.
            self.sink.reset(ResetReason::Disconnected, cx.now);
        }
        Ok(())
    }

    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        let now = cx.now;
        self.poll_at = now.after(POLL_EVERY);
        let work = match &self.link {
            Link::Down { retry_at } if now >= *retry_at && !cx.draining() => {
                self.connect(now);
                Work::Busy
            }
            Link::Down { .. } => Work::Idle,
            Link::Connecting(_) | Link::Live(_) => self.read(now),
            Link::Closing { .. } => self.close(now),
        };
        self.check_age(now);
        if now >= self.next_view {
            self.next_view = now.after(VIEW_PERIOD);
            self.show();
        }
        Ok(work)
    }

    fn on_drain(&mut self, cx: &mut Cx) -> Result<(), Fault> {
        let link = std::mem::replace(&mut self.link, Link::Down { retry_at: MonoNs::NEVER });
        if let Link::Connecting(mut client) = link {
            client.shutdown();
            self.set_interrupt(None);
        } else if let Link::Live(mut client) = link {
            client.close(CLOSE_NORMAL, cx.now);
            self.link = Link::Closing { client, until: cx.now.after(CLOSE_DEADLINE) };
            self.sink.reset(ResetReason::Disconnected, cx.now);
        }
        Ok(())
    }

    fn drained(&self) -> bool {
        matches!(self.link, Link::Down { .. })
    }

    fn waits(&self, waits: &mut Waits) {
        waits.until(self.next_view);
        match &self.link {
            Link::Down { retry_at } => waits.until(*retry_at),
            Link::Connecting(client) | Link::Live(client) | Link::Closing { client, .. } => {
                match (client.fd(), client.wants()) {
                    (Some(fd), Wants::Read) => waits.readable(fd),
                    (Some(fd), Wants::ReadWrite) => waits.writable(fd),
                    (None, _) | (_, Wants::Time) => waits.until(self.poll_at),
                }
            }
        }
    }

    fn on_stop(&mut self, _cx: &mut Cx, _stop: Stop) {
        self.show();
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
