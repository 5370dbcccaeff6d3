//! The one connection to the venue: its states, and which request asked what.
//!
//! Comes in: requests, encoded by the dialect; frames. Goes out: decoded messages, each answer with what was asked.
//! What always holds: one connection at a time; every request has a number of its own on it; an answer whose
//! question is not remembered is passed over. Knows nothing of orders.

use std::time::Duration;

use crate::clock::MonoNs;
use crate::net::backoff::Backoff;
use crate::net::url::WsUrl;
use crate::net::websocket::{WsClient, WsConfig, WsEvent};
use crate::net::{Dialer, NetError, Wants};
use crate::runtime::actor::Waits;
use crate::trading::domain::{ClientOrderId, InstrumentId};
use crate::trading::limits::{CONNECT_DEADLINE, FRAME_BYTES_MAX};
use crate::trading::telemetry::SessionState;
use crate::trading::venue::{OrderDialect, RequestId, RequestKind, SessionMessage};

use super::hold::At;

/// Requests remembered until they are answered: cancelling a full table, twice.
const ASKED_MAX: usize = 4_096;

/// How long logging on and each round of questions may take.
const STEP_DEADLINE: Duration = Duration::from_secs(5);

/// How long nothing may arrive before we ping, and how long the answer may take: a dead session is noticed within
/// twice that, and Binance's limit of 5 messages per second is far.
const PING_EVERY: Duration = Duration::from_secs(5);

/// Largest request, in bytes: an order with a base64 signature has some 600.
const REQUEST_BYTES: usize = 4 * 1024;

/// What a request was about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The session itself.
    Session,
    /// The order with this counter.
    Order(u64),
    /// An order that the table does not have.
    Stray(ClientOrderId),
    /// The open orders of an instrument.
    Instrument(InstrumentId),
    /// The trades of an instrument; whether none was known when they were asked for.
    Trades(InstrumentId, bool),
}

/// A request that was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    seq: u64,
    kind: RequestKind,
    /// What it was about.
    pub(super) subject: Subject,
    /// When it was sent.
    pub(super) at: MonoNs,
}

/// One message out of the connection.
#[expect(
    clippy::large_enum_variant,
    reason = "passed by value once per frame; a box would be allocated"
)]
pub(super) enum Heard {
    /// The upgrade is done.
    Opened,
    /// A decoded message.
    Message(SessionMessage),
}

/// The connection.
pub(super) struct Session {
    pub(super) dialect: Box<dyn OrderDialect>,
    dialer: Box<dyn Dialer>,
    url: WsUrl,
    target: String,
    socket: Option<WsClient>,
    state: SessionState,
    backoff: Backoff,
    retry_at: MonoNs,
    /// Until when the present step of logging on or comparing must be done.
    pub(super) step_deadline: MonoNs,
    next_seq: u64,
    asked: Box<[Option<Asked>]>,
    out: Vec<u8>,
    /// Why the connection was lost last.
    pub(super) last_error: String,
    /// The failure of a send, until the turn comes to it.
    broken: Option<NetError>,
}

impl Session {
    pub(super) fn new(
        dialect: Box<dyn OrderDialect>,
        dialer: Box<dyn Dialer>,
        url: WsUrl,
        seed: u64,
    ) -> Self {
        Self {
            target: dialect.session_target(),
            dialect,
            dialer,
            url,
            socket: None,
            state: SessionState::Down,
            backoff: Backoff::new(seed),
            retry_at: MonoNs::ZERO,
            step_deadline: MonoNs::NEVER,
            next_seq: 1,
            asked: vec![None; ASKED_MAX].into_boxed_slice(),
            out: Vec::with_capacity(REQUEST_BYTES),
            last_error: String::new(),
            broken: None,
        }
    }

    pub(super) fn state(&self) -> SessionState {
        self.state
    }

    /// Whether requests about orders may be sent.
    pub(super) fn can_ask(&self) -> bool {
        matches!(self.state, SessionState::Reconciling | SessionState::Live)
            && self.broken.is_none()
    }

    /// Enters the next step, which has its own deadline.
    pub(super) fn enter(&mut self, state: SessionState, now: MonoNs) {
        self.state = state;
        let limit =
            if state == SessionState::Live { MonoNs::NEVER } else { now.after(STEP_DEADLINE) };
        self.step_deadline = limit;
        if state == SessionState::Live {
            self.backoff.connected(now);
        }
    }

    /// Does not connect before `then`.
    pub(super) fn rest_until(&mut self, then: MonoNs) {
        self.retry_at = self.retry_at.max(then);
    }

    /// Connects when it is time to.
    pub(super) fn connect(&mut self, now: MonoNs) -> Result<(), NetError> {
        if self.state != SessionState::Down || now < self.retry_at {
            return Ok(());
        }
        let config = WsConfig {
            connect_deadline: CONNECT_DEADLINE,
            frame_bytes_max: FRAME_BYTES_MAX,
            message_bytes_max: FRAME_BYTES_MAX,
            ping_every: Some(PING_EVERY),
            pong_deadline: PING_EVERY,
            ..WsConfig::default()
        };
        self.state = SessionState::Connecting;
        self.next_seq = 1;
        self.asked.fill(None);
        let opened = WsClient::open(self.dialer.as_mut(), &self.url, &self.target, config, now)?;
        self.socket = Some(opened);
        Ok(())
    }

    /// Gives the connection up and plans the next one, not before the venue wants to hear of us again.
    pub(super) fn lose(&mut self, why: &dyn std::fmt::Display, now: MonoNs, not_before: MonoNs) {
        self.doubt(why);
        if let Some(mut socket) = self.socket.take() {
            socket.shutdown();
        }
        self.broken = None;
        self.state = SessionState::Down;
        self.step_deadline = MonoNs::NEVER;
        self.retry_at = self.backoff.lost(now).max(not_before);
    }

    /// The next message, if there is one.
    ///
    /// # Errors
    /// Why the connection has to be given up.
    pub(super) fn hear(&mut self, now: MonoNs) -> Result<Option<Heard>, String> {
        if let Some(error) = self.broken.take() {
            return Err(error.to_string());
        }
        if now >= self.step_deadline {
            return Err(format!("{}: no answer in {STEP_DEADLINE:?}", self.state.label()));
        }
        let Some(socket) = self.socket.as_mut() else { return Ok(None) };
        match socket.poll(now).map_err(|e| e.to_string())? {
            None => Ok(None),
            Some(WsEvent::Opened) => Ok(Some(Heard::Opened)),
            Some(WsEvent::Text(text)) => {
                let message = self.dialect.decode(text.as_bytes()).map_err(|e| e.to_string())?;
                Ok(Some(Heard::Message(message)))
            }
            Some(WsEvent::Binary(bytes)) => Err(format!("a binary message of {bytes} bytes")),
            Some(WsEvent::Closed { code, reason }) => {
                Err(format!("closed by peer: {code} {reason}"))
            }
        }
    }

    /// Sends one request; false when the connection does not take it.
    pub(super) fn ask(
        &mut self,
        at: At,
        kind: RequestKind,
        subject: Subject,
        encode: impl FnOnce(&mut dyn OrderDialect, &mut Vec<u8>, u64),
    ) -> bool {
        let Some(socket) = self.socket.as_mut().filter(|_| self.broken.is_none()) else {
            return false;
        };
        let seq = self.next_seq;
        encode(self.dialect.as_mut(), &mut self.out, seq);
        if let Err(error) = socket.send_text(&self.out, at.now) {
            self.broken = Some(error);
            return false;
        }
        self.next_seq += 1;
        self.asked[place(seq)] = Some(Asked { seq, kind, subject, at: at.now });
        true
    }

    /// What was asked with the number that an answer carries; each question is answered once.
    pub(super) fn asked(&mut self, id: RequestId) -> Option<Asked> {
        let place = &mut self.asked[place(id.seq)];
        if place.is_some_and(|asked| asked.seq == id.seq && asked.kind == id.kind) {
            place.take()
        } else {
            None
        }
    }

    /// Whether requests wait to be written that the connection has not taken yet.
    pub(super) fn holds_unsent(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| socket.buffered() > 0)
    }

    /// Notes why the connection is not in use now, although it is not lost.
    pub(super) fn doubt(&mut self, why: &dyn std::fmt::Display) {
        self.last_error.clear();
        // Writing into a string cannot fail.
        let _ = std::fmt::Write::write_fmt(&mut self.last_error, format_args!("{why}"));
    }

    /// Passes over what is still to be answered of lists, trades and balances: an answer to an old question must not
    /// count for a new one. What was asked about single orders stays.
    pub(super) fn forget_lists(&mut self) {
        let is_list =
            |asked: &Asked| !matches!(asked.subject, Subject::Order(_) | Subject::Stray(_));
        for place in self.asked.iter_mut().filter(|place| place.as_ref().is_some_and(is_list)) {
            *place = None;
        }
    }

    /// What ends an idle wait.
    pub(super) fn waits(&self, waits: &mut Waits, now: MonoNs) {
        if self.broken.is_some() {
            waits.ready();
        }
        let Some(socket) = &self.socket else {
            if self.state == SessionState::Down {
                waits.until(self.retry_at);
            }
            return;
        };
        waits.until(self.step_deadline);
        match (socket.fd(), socket.wants()) {
            (Some(fd), Wants::Read) => waits.readable(fd),
            (Some(fd), Wants::ReadWrite) => waits.writable(fd),
            // Names are resolved on another thread: look again in a millisecond.
            _ => waits.until(now.after(Duration::from_millis(1))),
        }
    }

    /// Ends the connection for good.
    pub(super) fn close(&mut self, now: MonoNs) {
        if let Some(mut socket) = self.socket.take() {
            socket.close(1000, now);
            // The close frame is offered to the socket; whether it left does not matter any more.
            let _ = socket.flush();
            socket.shutdown();
        }
        self.state = SessionState::Down;
        self.retry_at = MonoNs::NEVER;
    }
}

fn place(seq: u64) -> usize {
    (seq % ASKED_MAX as u64) as usize
}
