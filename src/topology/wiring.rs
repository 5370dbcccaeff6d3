//! The children, one function per kind of actor, and what watches over them.

use std::path::Path;
use std::sync::Arc;

use crate::config::{ActorConfig, Config, Idle, OnExit, SPOT_DECIMALS, Sync};
use crate::net::url::WsUrl;
use crate::ops::server::{OpsServer, OpsSettings};
use crate::ops::sources::{EventLine, StatusSources, Watched};
use crate::ops::watch::{Watch, WatchSettings};
use crate::runtime::actor::{Actor, ActorId, Cx, Fault};
use crate::runtime::child::ChildSpec;
use crate::runtime::fault::FaultSpec;
use crate::runtime::group::{GroupId, GroupSpec};
use crate::runtime::health::Cell;
use crate::runtime::idle::IdleStrategy;
use crate::runtime::mailbox::{Latest, Mailbox};
use crate::runtime::setting::Setting;
use crate::runtime::system::SystemBuilder;
use crate::runtime::view::View;
use crate::sim::venue::Venue;
use crate::trading::book::builder::{BookBuilder, BookBuilderPorts, BookBuilderSettings};
use crate::trading::domain::instrument::Name;
use crate::trading::domain::{
    Entry, ExecutionReport, Instrument, InstrumentId, Instruments, TopOfBook, Trade, VenueId,
    Written,
};
use crate::trading::feed::reader::{FeedPorts, FeedReader, FeedSettings};
use crate::trading::feed::rest::{RestPorts, RestSettings, RestWorker};
use crate::trading::journal::segment::{JournalError, Recovery, recover};
use crate::trading::journal::writer::{
    JournalPorts, JournalSettings, JournalWriter, OrderRecords, SyncPolicy,
};

use crate::trading::order::sender::OrderSender;
use crate::trading::order::settings::{Durability, OrderPorts, OrderSettings, StrategyPort};
use crate::trading::order::vault::{Kept, Vault};
use crate::trading::risk::{Exposure, KillSwitch, Limits};
use crate::trading::strategy::Parameters;
use crate::trading::strategy::runner::{StrategyPorts, StrategyRunner, StrategySettings};
use crate::trading::telemetry::{JournalView, RestView};
use crate::trading::venue::binance::{BinanceMarket, BinanceOrders, BinanceRest, Flavor};

use super::edges::{
    StrategyWires, VenueActors, VenuePlace, VenueWires, market_records, name_actors,
};
use super::oversight::{cancel_on_fresh_connections, engine_state, idle_labels, rate_limits};
use super::reload::{LiveSettings, limits_of};
use super::{Engine, EngineError, Parts, drain_timeout, intensity};

pub(super) struct Wiring<'a> {
    config: &'a Config,
    parts: Parts,
    builder: SystemBuilder,
    instruments: Instruments,
    kill_switch: KillSwitch,
    journal: ActorId,
    market_records: Mailbox<Entry>,
    journal_view: View<JournalView>,
    venues: Vec<VenueWires>,
    /// By venue.
    venue_groups: Vec<GroupId>,
    strategies: Vec<StrategyWires>,
    strategy_group: GroupId,
    live: LiveSettings,
}

type Built = Result<Box<dyn Actor>, Fault>;

impl<'a> Wiring<'a> {
    /// Names every actor and wires every edge.
    pub(super) fn new(
        config: &'a Config,
        parts: Parts,
        mut builder: SystemBuilder,
    ) -> Result<Self, EngineError> {
        let instruments = instruments(config)?;
        // The embedded venue begins anew with every process: no position at it can be carried on.
        let carried = match parts.embedded {
            Some(_) => Recovery::default(),
            None => recover_if_there(&parts.journal_dir)?,
        };
        let (venues, strategies) = name_actors(config, &mut builder);
        let mut group = |name: &str| {
            builder.group(GroupSpec { intensity: intensity(config), ..GroupSpec::new(name) })
        };
        let strategy_group = group("strategies");
        let venue_groups =
            config.venues.iter().map(|v| group(&format!("venue-{}", v.name))).collect();
        let journal = builder.actor("journal", false);
        let books = venues.iter().map(|v| v.book).collect();
        let live = LiveSettings {
            instruments: Arc::clone(&instruments),
            limits: Vec::new(),
            strategies: Vec::new(),
        };
        let mut wiring = Self {
            live,
            market_records: market_records(books, journal, &mut builder),
            config,
            parts,
            builder,
            instruments,
            kill_switch: KillSwitch::default(),
            journal,
            journal_view: View::new(),
            venues: Vec::new(),
            venue_groups,
            strategies: Vec::new(),
            strategy_group,
        };
        for (index, actors) in venues.into_iter().enumerate() {
            wiring.venue_edges(index, actors, &strategies, &carried);
        }
        for (number, id) in strategies.into_iter().enumerate() {
            wiring.strategy_edges(number, id);
        }
        Ok(wiring)
    }

    /// Gives every actor its child spec.
    pub(super) fn wire(&mut self) -> Result<(), EngineError> {
        self.journal_child();
        for index in 0..self.venues.len() {
            self.orders_child(index)?;
            self.book_child(index);
            self.rest_child(index);
            self.feed_child(index)?;
        }
        for index in 0..self.strategies.len() {
            self.strategy_child(index)?;
        }
        self.embedded_venue_child();
        Ok(())
    }

    fn venue_edges(
        &mut self,
        index: usize,
        actors: VenueActors,
        strategies: &[ActorId],
        carried: &Recovery,
    ) {
        let config = self.config;
        let here = &config.venues[index].name;
        let traders = config.strategies.iter().zip(strategies);
        let place = VenuePlace {
            config,
            index,
            access: self.parts.access[index].clone(),
            mine: self
                .instruments
                .iter()
                .filter(|i| i.venue == venue_id(index))
                .map(|i| i.id)
                .collect(),
            instruments: self.instruments.len(),
            traders: traders.filter(|(s, _)| s.venue == *here).map(|(_, id)| *id).collect(),
            journal: self.journal,
        };
        let wires = VenueWires::new(place, actors, &mut self.builder);
        for id in &wires.mine {
            carry(carried, &self.instruments[id.index()], &wires.vault);
        }
        self.venues.push(wires);
    }

    fn strategy_edges(&mut self, number: usize, id: ActorId) {
        let strategy = &self.config.strategies[number];
        // Validated: the configuration names a venue that is there.
        let venue = self.config.venues.iter().position(|v| v.name == strategy.venue).unwrap_or(0);
        let number = u8::try_from(number).unwrap_or(u8::MAX);
        let at = (venue, &self.venues[venue]);
        let wires = StrategyWires::new(
            strategy,
            (number, id),
            at,
            self.instruments.len(),
            &mut self.builder,
        );
        self.strategies.push(wires);
    }

    /// The child spec of an actor: defaults, what the phase allows, and what the configuration says of it.
    fn child(
        &mut self,
        id: ActorId,
        phase: u8,
        depends_on: Vec<ActorId>,
        start: impl Fn(&mut Cx) -> Built + Send + std::marker::Sync + 'static,
    ) -> ChildSpec {
        let health = self.builder.health();
        let tuned = self.config.actors.get(health[id.index()].name()).cloned().unwrap_or_default();
        let mut spec = ChildSpec::new(start);
        spec.phase = phase;
        spec.depends_on = depends_on;
        spec.drain_timeout = tuned.drain_timeout.unwrap_or(drain_timeout(phase));
        tune(&mut spec, &tuned);
        spec
    }

    fn journal_child(&mut self) {
        let orders: Vec<(Mailbox<Entry>, Written)> =
            self.venues.iter().map(|v| (v.records.clone(), v.written.clone())).collect();
        let (market, view) = (self.market_records.clone(), self.journal_view.clone());
        let (instruments, clock) = (Arc::clone(&self.instruments), self.parts.world.clock.clone());
        let settings = JournalSettings {
            dir: self.parts.journal_dir.clone(),
            segment_bytes_max: self.config.journal.segment_bytes_max,
            sync: match self.config.journal.sync {
                Sync::Never => SyncPolicy::None,
                Sync::Interval(span) => SyncPolicy::Interval(span),
                Sync::EachBatch => SyncPolicy::EachBatch,
            },
            boot: self.parts.boot,
        };
        let mut spec = self.child(self.journal, 4, Vec::new(), move |_| {
            let orders = orders
                .iter()
                .map(|(mailbox, written)| OrderRecords {
                    inbox: mailbox.inbox(),
                    written: written.clone(),
                })
                .collect();
            let ports = JournalPorts {
                orders,
                market: market.clone(),
                instruments: Arc::clone(&instruments),
                view: view.clone(),
                clock: clock.clone(),
            };
            Ok(Box::new(JournalWriter::new(settings.clone(), ports)))
        });
        spec.essential = true;
        spec.must_drain = true;
        self.builder.child(self.journal, spec);
    }

    fn feed_child(&mut self, index: usize) -> Result<(), EngineError> {
        let v = &self.venues[index];
        let url = parse_url(&v.access.stream_url, &v.config.name, "stream_url")?;
        let mut settings = FeedSettings::new(url, Arc::clone(&self.instruments), v.mine.clone());
        settings.silent_after = v.config.stale_after;
        settings.seed = self.config.demo.seed;
        let (updates, instruments, dial) =
            (v.updates.clone(), Arc::clone(&self.instruments), self.parts.world.dialer.clone());
        let venue = venue_id(index);
        let (id, book) = (v.actors.feed, v.actors.book);
        let view = v.feed_view.clone();
        let mut spec = self.child(id, 2, vec![book], move |_| {
            let ports = FeedPorts { book: updates.outbox(), view: view.clone() };
            let dialect = BinanceMarket::of_venue(Flavor::Spot, &instruments, venue);
            let dialer = dial().map_err(|e| Fault::fatal(e.to_string()))?;
            Ok(Box::new(FeedReader::new(settings.clone(), ports, Box::new(dialect), dialer)))
        });
        spec.essential = true;
        spec.group = self.venue_groups[index];
        self.builder.child(id, spec);
        Ok(())
    }

    fn rest_child(&mut self, index: usize) {
        let v = &self.venues[index];
        let mut settings = RestSettings::new(
            v.access.rest_url.clone(),
            Arc::clone(&self.instruments),
            v.mine.clone(),
        );
        settings.seed = self.config.demo.seed;
        let (requests, snapshots) = (v.requests.clone(), v.snapshots.clone());
        let view = v.rest_view.clone();
        let (instruments, http) = (Arc::clone(&self.instruments), self.parts.world.http.clone());
        let venue = venue_id(index);
        let (id, book) = (v.actors.rest, v.actors.book);
        let mut spec = self.child(id, 2, vec![book], move |_| {
            let ports = RestPorts {
                requests: requests.inbox(),
                book: snapshots.outbox(),
                view: view.clone(),
            };
            let dialect = BinanceMarket::of_venue(Flavor::Spot, &instruments, venue);
            let client = http().map_err(|e| Fault::fatal(e.to_string()))?;
            Ok(Box::new(RestWorker::new(settings.clone(), ports, Box::new(dialect), client)))
        });
        spec.group = self.venue_groups[index];
        self.builder.child(id, spec);
    }

    fn book_child(&mut self, index: usize) {
        let v = &self.venues[index];
        let mut settings = BookBuilderSettings::new(Arc::clone(&self.instruments), v.mine.clone());
        settings.stale_after = v.config.stale_after;
        let (updates, snapshots, requests) =
            (v.updates.clone(), v.snapshots.clone(), v.requests.clone());
        let readers: Vec<&StrategyWires> =
            self.strategies.iter().filter(|s| s.venue == index).collect();
        let mut tops: Vec<Latest<TopOfBook>> = readers.iter().map(|s| s.tops.clone()).collect();
        tops.push(v.tops.clone());
        let trades: Vec<Mailbox<Trade>> = readers.iter().map(|s| s.trades.clone()).collect();
        let depends_on = readers.iter().map(|s| s.id).chain([v.actors.orders]).collect();
        let (market_records, id) = (self.market_records.clone(), v.actors.book);
        let view = v.book_view.clone();
        let mut spec = self.child(id, 3, depends_on, move |_| {
            let ports = BookBuilderPorts {
                feed: updates.inbox(),
                snapshots: snapshots.inbox(),
                requests: requests.outbox(),
                tops: tops.iter().map(Latest::outbox).collect(),
                trades: trades.iter().map(Mailbox::outbox).collect(),
                journal: Some(market_records.outbox()),
                view: view.clone(),
            };
            Ok(Box::new(BookBuilder::new(settings.clone(), ports)))
        });
        spec.essential = true;
        spec.group = self.venue_groups[index];
        self.builder.child(id, spec);
    }

    fn orders_child(&mut self, index: usize) -> Result<(), EngineError> {
        let settings = self.order_settings(index)?;
        let limits = Setting::new(settings.limits.clone());
        self.live.limits.push(limits.clone());
        let v = &self.venues[index];
        let health = self.builder.health();
        let cell = |id: ActorId| Arc::clone(&health[id.index()]);
        let strategies: Vec<(Mailbox<ExecutionReport>, Arc<Cell>)> =
            self.strategies.iter().map(|s| (s.reports.clone(), cell(s.id))).collect();
        let (intents, tops, records) = (v.intents.clone(), v.tops.clone(), v.records.clone());
        let (written, vault, kill_switch) =
            (v.written.clone(), v.vault.clone(), self.kill_switch.clone());
        let (journal, journal_cell) = (self.journal, cell(self.journal));
        let book_cell = cell(v.actors.book);
        let (credentials, recv_window) = (Arc::clone(&v.access.credentials), v.config.recv_window);
        let (instruments, dial) = (Arc::clone(&self.instruments), self.parts.world.dialer.clone());
        let (venue, id) = (venue_id(index), v.actors.orders);
        let view = v.order_view.clone();
        let mut spec = self.child(id, 1, vec![journal], move |_| {
            let ports = OrderPorts {
                intents: intents.inbox(),
                tops: tops.inbox(),
                strategies: strategies
                    .iter()
                    .map(|(reports, cell)| StrategyPort {
                        reports: reports.outbox(),
                        cell: Some(Arc::clone(cell)),
                    })
                    .collect(),
                journal: records.outbox(),
                journal_cell: Some(Arc::clone(&journal_cell)),
                book_cell: Some(Arc::clone(&book_cell)),
                written: written.clone(),
                limits: limits.clone(),
                kill_switch: kill_switch.clone(),
                view: view.clone(),
                vault: vault.clone(),
            };
            let dialect = BinanceOrders::of_venue(&credentials, &instruments, venue, recv_window)
                .map_err(|e| Fault::Config(e.to_string().into()))?;
            let dialer = dial().map_err(|e| Fault::fatal(e.to_string()))?;
            let settings = OrderSettings { limits: limits.newest(), ..settings.clone() };
            Ok(Box::new(OrderSender::new(settings, ports, Box::new(dialect), dialer)?))
        });
        spec.essential = true;
        spec.must_drain = true;
        // Orders that nobody is left to cancel; not those that are meant to stay.
        spec.emergency = self.config.on_exit == OnExit::Cancel;
        spec.group = self.venue_groups[index];
        self.builder.child(id, spec);
        Ok(())
    }

    fn order_settings(&self, index: usize) -> Result<OrderSettings, EngineError> {
        let v = &self.venues[index];
        let limits = v
            .mine
            .iter()
            .map(|id| Ok((*id, self.limits(*id)?)))
            .collect::<Result<_, EngineError>>()?;
        Ok(OrderSettings {
            engine: self.config.engine.clone(),
            boot: self.parts.boot,
            url: parse_url(&v.access.ws_api_url, &v.config.name, "ws_api_url")?,
            instruments: Arc::clone(&self.instruments),
            limits,
            durability: if self.config.journal.orders_wait {
                Durability::Written
            } else {
                Durability::HandedOver
            },
            on_exit: match self.config.on_exit {
                OnExit::Cancel => crate::trading::order::settings::OnExit::Cancel,
                OnExit::Keep => crate::trading::order::settings::OnExit::Keep,
            },
            ack_timeout: OrderSettings::ACK_TIMEOUT,
            seed: self.config.demo.seed,
        })
    }

    /// The limits of an instrument: its own, then the account's, then, outside live, conservative ones.
    fn limits(&self, id: InstrumentId) -> Result<Limits, EngineError> {
        let instrument = &self.instruments[id.index()];
        let limits = limits_of(self.config, instrument.symbol.as_str());
        limits
            .resolve(instrument)
            .map_err(|e| EngineError::Setting(format!("{}: {e}", instrument.symbol)))
    }

    fn strategy_child(&mut self, index: usize) -> Result<(), EngineError> {
        let s = &self.strategies[index];
        let config = s.config.clone();
        let venue = &self.venues[s.venue];
        let found = venue
            .mine
            .iter()
            .find(|id| self.instruments[id.index()].symbol.as_str() == config.symbol);
        let mine = *found.ok_or_else(|| {
            EngineError::Setting(format!("strategy.{}: no such symbol", config.name))
        })?;
        let wrong = |e| EngineError::Setting(format!("strategy.{}: {e}", config.name));
        let instrument = &self.instruments[mine.index()];
        let parameters = Parameters::read(&config.kind, config.parameters.clone(), instrument);
        let parameters = Setting::new(parameters.map_err(wrong)?);
        self.live.strategies.push((mine, parameters.clone()));
        let settings = StrategySettings {
            number: s.number,
            instruments: Arc::clone(&self.instruments),
            timer: config.timer,
        };
        let (tops, trades, reports, intents) =
            (s.tops.clone(), s.trades.clone(), s.reports.clone(), venue.intents.clone());
        let (vault, view, id, orders) =
            (venue.vault.clone(), s.view.clone(), s.id, venue.actors.orders);
        let orders_cell = Arc::clone(&self.builder.health()[orders.index()]);
        let mut spec = self.child(id, 0, vec![orders], move |_| {
            let vault = vault.clone();
            let ports = StrategyPorts {
                tops: tops.inbox(),
                trades: trades.inbox(),
                reports: reports.inbox(),
                intents: intents.outbox(),
                positions: Box::new(move |instrument| vault.kept(instrument).exposure.qty),
                orders_cell: Some(Arc::clone(&orders_cell)),
                parameters: Some(parameters.clone()),
                view: view.clone(),
            };
            let strategy = parameters.newest().build(&settings.instruments[mine.index()]);
            Ok(Box::new(StrategyRunner::new(settings.clone(), ports, strategy)))
        });
        spec.essential = true;
        spec.group = self.strategy_group;
        self.builder.child(id, spec);
        Ok(())
    }

    fn embedded_venue_child(&mut self) {
        let (Some(settings), Some(accept)) =
            (self.parts.embedded.clone(), self.parts.world.venue.clone())
        else {
            return;
        };
        let id = self.builder.actor("venue", false);
        let mut spec = self.child(id, LAST_PHASE, Vec::new(), move |_| {
            let acceptor = accept().map_err(|e| Fault::fatal(e.to_string()))?;
            let venue = Venue::new(&settings, acceptor).map_err(|e| Fault::Config(e.into()))?;
            Ok(Box::new(venue))
        });
        // A restart of those around it must not wipe the venue.
        spec.group = self.builder.group(GroupSpec::new("embedded"));
        self.builder.child(id, spec);
    }

    /// Adds those that only look, and closes the wiring.
    pub(super) fn finish(mut self, faults: &[FaultSpec]) -> Result<Engine, EngineError> {
        self.hooks();
        let watch = self.builder.actor("watch", false);
        let ops = self.parts.world.ops.is_some().then(|| self.builder.actor("ops", false));
        let sources = Arc::new(self.sources());
        let settings = WatchSettings { live_within: self.config.supervisor.live_within };
        let (seen, stop) = (Arc::clone(&sources), self.builder.stop_handle());
        let spec = self.child(watch, LAST_PHASE, Vec::new(), move |_| {
            Ok(Box::new(Watch::new(settings, Arc::clone(&seen), stop.clone())))
        });
        self.builder.child(watch, spec);
        if let Some(id) = ops {
            self.ops_child(id, &sources);
        }
        if let Some(wrap) = &self.parts.wrap {
            self.builder.wrap_all(wrap);
        }
        for fault in faults {
            self.builder.inject(fault).map_err(EngineError::Fault)?;
        }
        let system = self.builder.build().map_err(EngineError::Spec)?;
        sources.set_idle(idle_labels(system.plan(), sources.health.len()));
        sources.set_plan(system.plan().line());
        Ok(Engine { system, sources, kill_switch: self.kill_switch, live: self.live })
    }

    fn ops_child(&mut self, id: ActorId, sources: &Arc<StatusSources>) {
        let Some(accept) = self.parts.world.ops.clone() else { return };
        let hosts = self.config.ops.listen.map(|a| a.ip().to_string()).into_iter().collect();
        let settings = OpsSettings { hosts, status_file: self.parts.status_file.clone() };
        let sources = Arc::clone(sources);
        let spec = self.child(id, LAST_PHASE, Vec::new(), move |_| {
            let acceptor = accept().map_err(|e| Fault::fatal(e.to_string()))?;
            Ok(Box::new(OpsServer::new(settings.clone(), Arc::clone(&sources), acceptor)))
        });
        self.builder.child(id, spec);
    }

    /// What the supervisor does to trading: fences it while an actor stalls, cancels everything when one is wedged.
    fn hooks(&mut self) {
        let switch = self.kill_switch.clone();
        self.builder.on_fence(move |on, _| if on { switch.fence() } else { switch.unfence() });
        let mut venues = Vec::new();
        for v in &self.venues {
            match BinanceRest::new(&v.access.credentials, &self.instruments, v.config.recv_window) {
                Ok(rest) => {
                    venues.push((rest, v.access.rest_url.clone(), v.config.symbols.clone()))
                }
                // The order sender says the same, as a configuration error, before it sends anything.
                Err(e) => {
                    log::error!(target: "engine", "event=emergency.unavailable venue={} why=\"{e}\"", v.config.name)
                }
            }
        }
        let world = self.parts.world.clone();
        self.builder.on_emergency(move |limit| cancel_on_fresh_connections(&world, &venues, limit));
    }

    fn sources(&self) -> StatusSources {
        let health = self.builder.health();
        let name = |id: ActorId| health[id.index()].name().to_owned();
        let mut sources = StatusSources::new(
            self.config.mode.label(),
            self.parts.started,
            Arc::clone(&health),
            Arc::clone(&self.instruments),
        );
        sources.edges = self.builder.edges();
        sources.tally = self.builder.tally();
        for v in &self.venues {
            sources.feeds.push(Watched::new(name(v.actors.feed), v.feed_view.clone()));
            sources.books.push(Watched::new(name(v.actors.book), v.book_view.clone()));
            sources.orders.push(Watched::new(name(v.actors.orders), v.order_view.clone()));
        }
        for s in &self.strategies {
            sources.strategies.push(Watched::new(name(s.id), s.view.clone()));
        }
        sources.journal = Some(Watched::new("journal", self.journal_view.clone()));
        let budgets: Vec<(String, Watched<RestView>)> = self
            .venues
            .iter()
            .map(|v| {
                let name = format!("{} request_weight", v.config.name);
                (name, Watched::new("rest", v.rest_view.clone()))
            })
            .collect();
        sources.rate_limits = Box::new(move || rate_limits(&budgets));
        let (switch, cells) = (self.kill_switch.clone(), health);
        sources.engine = Box::new(move || engine_state(&cells, &switch));
        let events = self.builder.events();
        sources.events =
            Box::new(move || events.recent().into_iter().map(EventLine::from).collect());
        sources
    }
}

/// The drain phase of those that only look, and of the embedded venue.
const LAST_PHASE: u8 = 5;

/// The position that an earlier process left in the journal goes on.
fn carry(carried: &Recovery, instrument: &Instrument, vault: &Vault) {
    let Some(carried) = carried.position_of(instrument) else { return };
    let exposure = Exposure {
        qty: carried.qty,
        cost: carried.cost,
        realized: carried.realized_pnl,
        fees: carried.fees,
        other_fees: 0,
    };
    vault.keep(instrument.id, &Kept { exposure, last_trade_id: Some(carried.last_trade_id) });
}

/// What the journal of an earlier process knew; nothing where there is none yet.
fn recover_if_there(dir: &Path) -> Result<Recovery, EngineError> {
    if !dir.exists() {
        return Ok(Recovery::default());
    }
    recover(dir).map_err(|e| match e {
        JournalError::Io { .. } => EngineError::JournalIo(e.to_string()),
        JournalError::Corrupt { .. } => EngineError::Journal(e.to_string()),
    })
}

fn venue_id(index: usize) -> VenueId {
    VenueId(u8::try_from(index).unwrap_or(u8::MAX))
}

fn instruments(config: &Config) -> Result<Instruments, EngineError> {
    let name = |text: &str| {
        Name::from(text).map_err(|_| {
            EngineError::Setting(format!("{text}: longer than {} bytes", Name::new().capacity()))
        })
    };
    let mut table = Vec::new();
    for (index, venue) in config.venues.iter().enumerate() {
        for symbol in &venue.symbols {
            let id = InstrumentId(u16::try_from(table.len()).unwrap_or(u16::MAX));
            table.push(Instrument::new(
                id,
                venue_id(index),
                name(&venue.name)?,
                name(symbol)?,
                SPOT_DECIMALS,
            ));
        }
    }
    Ok(table.into())
}

fn parse_url(text: &str, venue: &str, key: &str) -> Result<WsUrl, EngineError> {
    WsUrl::parse(text).map_err(|e| EngineError::Setting(format!("venue.{venue}.{key}: {e}")))
}

fn tune(spec: &mut ChildSpec, tuned: &ActorConfig) {
    spec.thread.core = tuned.core;
    if let Some(idle) = tuned.idle {
        spec.thread.idle = match idle {
            Idle::Spin => IdleStrategy::Spin,
            Idle::Backoff => IdleStrategy::BACKOFF,
            Idle::Park => IdleStrategy::PARK,
        };
    }
    if let Some(limit) = tuned.stall_timeout {
        spec.stall_fail = limit;
        spec.stall_warn = spec.stall_warn.min(limit / 2);
    }
}
