//! ACTOR sim_venue: one port that speaks REST, market streams, the WebSocket API and `/sim`.
//!
//! In: connections, requests, the time. Out: answers, stream events, account events. Invariants: an answer goes out
//! before the events that its request caused; a turn's work is bounded; the same seed and the same inputs at the same
//! moments give the same outputs.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock::{MonoNs, UtcNs};
use crate::net::Acceptor;
use crate::net::server::{ConnId, Interest, Server, ServerConfig};
use crate::runtime::actor::{Actor, Cx, Fault as ActorFault, Stop, Waits, Work};

use super::control::HISTORY_SHOWN;
use super::exchange::Exchange;
use super::faults::{FaultKind, Faults, Target};
use super::json::Json;
use super::limits::Usage;
use super::listing::{Liquidity, Listing};
use super::market::Synthetic;
use super::matching::Top;
use super::micros::in_micros;
use super::order::Side;
use super::outbound::{NOBODY, Outgoing, PERIODS};
use super::recording::{Playback, Played};
use super::request::Keys;
use super::saved::Saved;
use super::session::Session;
use super::settings::{ConnectionLimits, MarketSettings, VenueSettings};
use super::streams::{StreamKind, Streams};

/// Market actions or recorded frames done in one turn.
const MARKET_PER_TURN: usize = 256;

/// How long a market rests between its turns: what is due meanwhile happens at the end of it, in its order. Waking for
/// every change of a busy book costs more than the changes.
const MARKET_REST: Duration = Duration::from_millis(1);

/// Connections at once.
const CONNS_MAX: usize = 1_024;

/// The first update id of an empty book; ids of the real venue are as long.
const FIRST_UPDATE_ID: u64 = 1_000_000_001;

/// Counters shown in `/sim/state`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counters {
    pub(super) rest_requests: u64,
    pub(super) api_requests: u64,
    pub(super) stream_messages: u64,
    pub(super) frames_sent: u64,
    pub(super) refused: u64,
    pub(super) delayed_dropped: u64,
    /// Connections dropped because they did not read.
    pub(super) slow_dropped: u64,
    /// Connections closed because they lived too long.
    pub(super) aged_out: u64,
}

/// A book as it was when a fault came.
#[derive(Debug)]
pub(super) struct Snapshot {
    update_id: u64,
    sides: [Vec<(i64, i64)>; 2],
}

impl Snapshot {
    pub(super) fn of(listing: &Listing) -> Self {
        let side = |side| listing.levels(side).collect();
        Self { update_id: listing.update_id(), sides: [side(Side::Buy), side(Side::Sell)] }
    }

    /// As the answer to `depth`.
    pub(super) fn json(&self, limit: usize) -> String {
        Json::object(|j| {
            j.f_int("lastUpdateId", self.update_id);
            for (name, levels) in ["bids", "asks"].into_iter().zip(&self.sides) {
                j.key(name).arr(|j| {
                    for (price, qty) in levels.iter().take(limit) {
                        j.arr(|j| {
                            j.dec(*price).dec(*qty);
                        });
                    }
                });
            }
        })
    }
}

/// How a connection ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    pub(super) conn: ConnId,
    pub(super) transport: &'static str,
    pub(super) utc: UtcNs,
    pub(super) why: String,
}

/// What state there is per listing besides the exchange's.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Published {
    pub(super) top: Top,
}

/// The simulated venue.
pub struct Venue {
    pub(super) server: Server,
    pub(super) exchange: Exchange,
    pub(super) markets: Vec<Synthetic>,
    pub(super) playback: Option<Playback>,
    pub(super) keys: Keys,
    pub(super) streams: Streams,
    pub(super) sessions: BTreeMap<ConnId, Session>,
    pub(super) faults: Faults,
    /// Connections that a fault keeps silent, and which fault.
    pub(super) silenced: Vec<(ConnId, u64)>,
    /// Connections that get one byte at a time, and by which fault.
    pub(super) sliced: Vec<(ConnId, u64)>,
    /// Frames that a fault holds back until the next one.
    pub(super) held: BTreeMap<ConnId, (Target, Outgoing)>,
    /// Books as they were when a fault came.
    pub(super) stale: Option<Vec<Snapshot>>,
    /// The symbol that what is sent now is about.
    pub(super) about: Option<usize>,
    /// When each WebSocket connection was made.
    pub(super) opened_at: BTreeMap<ConnId, (MonoNs, UtcNs)>,
    /// The latest connections that ended by a limit, or were WebSockets: which, how it spoke, when and why.
    pub(super) ended: VecDeque<Ended>,
    /// When the latest WebSocket connections were made, and from where.
    pub(super) connects: VecDeque<(MonoNs, Option<IpAddr>)>,
    pub(super) connections: ConnectionLimits,
    pub(super) next_census: MonoNs,
    pub(super) name: String,
    pub(super) seeds: (u64, u64),
    pub(super) save: Option<PathBuf>,
    pub(super) usage: Usage,
    pub(super) counters: Counters,
    pub(super) latency: Duration,
    pub(super) delayed: BTreeMap<(MonoNs, u64), (ConnId, Outgoing)>,
    /// Until when each connection's earlier frames are delayed: frames never overtake each other.
    pub(super) busy_until: BTreeMap<ConnId, MonoNs>,
    pub(super) sent: u64,
    pub(super) next_flush: [MonoNs; 2],
    /// Until when the synthetic markets rest.
    market_at: MonoNs,
    pub(super) published: Vec<Published>,
    pub(super) opened: bool,
    seed: u64,
    /// The newest trade of each listing when the streams that tell by the clock last spoke.
    pub(super) told_trade: Vec<u64>,
    pub(super) now: MonoNs,
    /// The time that the venue believes in; a fault may make it wrong.
    pub(super) utc: UtcNs,
    pub(super) true_utc: UtcNs,
}

impl std::fmt::Debug for Venue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Venue").field("counters", &self.counters).finish_non_exhaustive()
    }
}

impl Venue {
    /// A venue that serves what `acceptor` accepts.
    ///
    /// # Errors
    /// Settings that make no venue: no symbol, a broken key, a recording that cannot be read.
    pub fn new(settings: &VenueSettings, acceptor: Box<dyn Acceptor>) -> Result<Self, String> {
        if settings.symbols.is_empty() {
            return Err("a venue needs at least one symbol".to_owned());
        }
        let mut exchange = Exchange::new(settings, FIRST_UPDATE_ID);
        if let Some(path) = &settings.restore {
            let named = |why| format!("{}: {why}", path.display());
            Saved::read(path)?.restore(&mut exchange).map_err(named)?;
        }
        let (markets, playback) = liquidity(settings, &mut exchange)?;
        let symbols = settings.symbols.iter().map(|s| s.symbol.as_str());
        let names = symbols.clone().map(str::to_owned).collect();
        Ok(Self {
            server: Server::new(acceptor, server_config(&settings.connections)),
            markets,
            playback,
            keys: Keys::new(&settings.accounts)?,
            streams: Streams::new(symbols),
            sessions: BTreeMap::new(),
            faults: Faults::new(settings.seed, names),
            silenced: Vec::new(),
            sliced: Vec::new(),
            held: BTreeMap::new(),
            stale: None,
            about: None,
            opened_at: BTreeMap::new(),
            ended: VecDeque::new(),
            connects: VecDeque::new(),
            connections: settings.connections.clone(),
            next_census: MonoNs::ZERO,
            name: settings.name.clone(),
            seeds: (settings.seed, settings.market_seed),
            save: settings.save.clone(),
            usage: Usage::default(),
            counters: Counters::default(),
            latency: settings.latency,
            delayed: BTreeMap::new(),
            busy_until: BTreeMap::new(),
            sent: 0,
            next_flush: [MonoNs::ZERO; 2],
            market_at: MonoNs::ZERO,
            published: vec![Published::default(); settings.symbols.len()],
            opened: false,
            seed: settings.seed,
            told_trade: Vec::new(),
            now: MonoNs::ZERO,
            utc: UtcNs::default(),
            true_utc: UtcNs::default(),
            exchange,
        })
    }

    /// The truth, for tests in the same process: as `GET /sim/state`.
    pub fn state(&self) -> String {
        self.state_json(HISTORY_SHOWN)
    }

    /// The exchange behind the port, for tests in the same process.
    pub fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    fn open_market(&mut self) {
        if self.opened {
            return;
        }
        self.opened = true;
        for listing in &mut self.exchange.listings {
            listing.invent_past(self.seed, self.utc);
        }
        for market in &mut self.markets {
            market.open(&mut self.exchange, self.now);
        }
        for listing in &mut self.exchange.listings {
            // Nobody has seen the book being filled: the diff streams begin after it.
            listing.take_diff(0);
            listing.take_diff(1);
        }
        for (published, listing) in self.published.iter_mut().zip(&self.exchange.listings) {
            published.top = listing.top();
        }
        self.next_flush = PERIODS.map(|period| self.now.after(period));
    }

    fn run_market(&mut self) -> bool {
        let mut did = false;
        let rested = self.now >= self.market_at;
        if rested {
            self.market_at = self.now.after(MARKET_REST);
        }
        for at in (0..self.markets.len()).filter(|_| rested) {
            let halted = !self.faults.is_empty() && self.faults.halt(at).is_some();
            if halted {
                self.markets[at].rest(self.now);
                continue;
            }
            for done in 1..=MARKET_PER_TURN {
                if done == MARKET_PER_TURN {
                    // There is more: it waits for the others' turn only.
                    self.market_at = self.now;
                }
                if !self.markets[at].step(&mut self.exchange, self.now, self.utc) {
                    break;
                }
                did = true;
                self.publish_listing(at);
                self.publish_reports();
            }
        }
        for _ in 0..MARKET_PER_TURN {
            if !self.play_frame() {
                break;
            }
            did = true;
        }
        did
    }

    fn play_frame(&mut self) -> bool {
        let Some(playback) = &mut self.playback else { return false };
        if self.streams.any_subscription() {
            playback.release();
        }
        let Liquidity::Recorded(recorded) = &mut self.exchange.listings[0].liquidity else {
            return false;
        };
        let Some(played) = playback.poll(recorded, self.now) else { return false };
        match played {
            Played::Depth(text) => {
                if self.faults.is_empty()
                    || !self.faults.hit(FaultKind::Gap, Target::Stream, Some(0), NOBODY)
                {
                    self.publish((0, StreamKind::Depth(0)), |micros| recorded_in(&text, micros));
                }
            }
            Played::Touch(text) => self.publish((0, StreamKind::BookTicker), |_| text.clone()),
            Played::Trade(text, print) => {
                self.publish((0, StreamKind::Trade), |micros| recorded_in(&text, micros));
                self.exchange.recorded_trade(0, print, self.utc);
                self.publish_aggregates(0, print.id);
                self.publish_reports();
            }
        }
        true
    }
}

/// A recorded event with its moments in the unit that was asked for; it was recorded in milliseconds.
fn recorded_in(text: &str, micros: bool) -> String {
    if micros { in_micros(text) } else { text.to_owned() }
}

/// Where the liquidity of every listing comes from.
fn liquidity(
    settings: &VenueSettings,
    exchange: &mut Exchange,
) -> Result<(Vec<Synthetic>, Option<Playback>), String> {
    match &settings.market {
        MarketSettings::Synthetic { updates_per_s, volatility_centibps } => {
            let each = settings.symbols.iter().zip(&exchange.listings).enumerate();
            let markets = each.map(|(at, (symbol, listing))| {
                let (rate, volatility) = (*updates_per_s, *volatility_centibps);
                Synthetic::new(at, listing.rules.mid, settings.seed, rate, volatility).around(
                    settings.market_seed,
                    &symbol.symbol,
                    settings.drift_bps,
                )
            });
            Ok((markets.collect(), None))
        }
        MarketSettings::Recording { path, speed, hold } => {
            let (playback, recorded) = Playback::open(path, *speed, *hold)?;
            exchange.use_recording(0, recorded);
            Ok((Vec::new(), Some(playback)))
        }
    }
}

fn server_config(limits: &ConnectionLimits) -> ServerConfig {
    ServerConfig {
        conns_max: CONNS_MAX,
        // A query of the whole history is large, and so is a 5,000-level book.
        write_buffer_bytes_max: 32 * 1024 * 1024,
        ping_every: Some(limits.ping_every),
        pong_deadline: limits.pong_deadline,
        ..ServerConfig::default()
    }
}

impl Actor for Venue {
    fn turn(&mut self, cx: &mut Cx) -> Result<Work, ActorFault> {
        (self.now, self.true_utc) = (cx.now, cx.utc);
        self.set_clock();
        self.open_market();
        if self.faults.expire(self.now, self.true_utc) {
            self.end_faults();
        }
        self.end_old();
        let mut did = self.serve();
        did |= self.run_market();
        did |= self.flush_diffs();
        did |= self.send_delayed();
        self.server.flush();
        Ok(Work::when(did))
    }

    fn on_stop(&mut self, _cx: &mut Cx, _stop: Stop) {
        let Some(path) = &self.save else { return };
        match Saved::of(&self.exchange).write(path) {
            Ok(()) => log::info!("event=venue.saved file={}", path.display()),
            Err(why) => log::error!("event=venue.not_saved why={why:?}"),
        }
    }

    fn waits(&self, waits: &mut Waits) {
        self.server.waits(&mut |fd, interest| match interest {
            Interest::Read => waits.readable(fd),
            Interest::Write => waits.room(fd),
            Interest::Both => waits.writable(fd),
        });
        let market = self.markets.iter().map(|market| market.due().max(self.market_at));
        let frame = self.playback.iter().filter_map(Playback::due);
        let delayed = self.delayed.keys().next().map(|(due, _)| *due);
        let flushes = (0..PERIODS.len()).filter(|speed| self.flush_pending(*speed));
        let flushes = flushes.map(|speed| self.next_flush[speed]);
        let all = market.chain(frame).chain(delayed).chain(flushes).chain(self.faults.next_end());
        if self.server.connections() > 0 {
            // Pings and deadlines of connections.
            waits.until(self.now.after(Duration::from_secs(1)));
        }
        if let Some(first) = all.filter(|due| *due != MonoNs::NEVER).min() {
            waits.until(first);
        }
    }
}
