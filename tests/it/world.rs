//! A world of memory around the whole engine: virtual clock, in-memory streams, the embedded venue.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pindrop::clock::{Clock, UtcNs, VirtualClock};
use pindrop::config::tree::Tree;
use pindrop::config::{Config, Mode};
use pindrop::net::http::StreamHttp;
use pindrop::net::memory::MemoryNet;
use pindrop::net::{HttpClient, HttpRequest};
use pindrop::ops::sources::StatusSources;
use pindrop::runtime::stepper::Stepper;
use pindrop::runtime::system::Wrap;
use pindrop::sim::settings::{MarketSettings, VenueSettings};
use pindrop::topology::{Engine, Parts, VenueAccess, World};
use pindrop::trading::risk::KillSwitch;
use pindrop::trading::telemetry::OrdersView;
use pindrop::trading::venue::binance::Credentials;
use serde_json::Value;

/// The venue's port in the world of memory.
pub(crate) const PORT: u16 = 1;
/// Where virtual time begins: 2024-08-09T00:00:00Z.
const BEGIN: UtcNs = UtcNs::from_millis(1_723_161_600_000);

/// The engine and its world.
pub(crate) struct Simulation {
    /// Steps both.
    pub(crate) stepper: Stepper,
    /// What joins them.
    pub(crate) net: MemoryNet,
    /// Stops all new orders.
    pub(crate) kill_switch: KillSwitch,
    sources: Arc<StatusSources>,
}

/// Wires the demo into memory; the journal goes to `dir`.
pub(crate) fn simulate(
    seed: u64,
    dir: &Path,
    faults: &[&str],
    settings: &[&str],
    wrap: Option<Wrap>,
) -> Simulation {
    let clock = VirtualClock::new(BEGIN);
    let net = MemoryNet::new();
    let mut tree = Tree::default();
    for setting in settings {
        tree.set(setting).expect("a setting");
    }
    let mut config = Config::read(&tree, Some(Mode::Demo)).expect("the demo");
    config.demo.seed = seed;
    let mut embedded = VenueSettings::demo(seed);
    if let MarketSettings::Synthetic { updates_per_s, .. } = &mut embedded.market {
        *updates_per_s = config.demo.updates_per_s;
    }
    let (key, secret) = embedded.credentials().expect("an account");
    let access = VenueAccess {
        rest_url: format!("http://venue:{PORT}"),
        stream_url: format!("ws://venue:{PORT}"),
        ws_api_url: format!("ws://venue:{PORT}/ws-api/v3"),
        credentials: Arc::new(Credentials::hmac(key, secret.expect("an HMAC account"))),
    };
    let (dial, call, listen) = (net.clone(), net.clone(), net.clone());
    let world = World {
        clock: Clock::Virtual(clock.clone()),
        dialer: Arc::new(move || Ok(dial.dialer())),
        http: Arc::new(move || Ok(Box::new(StreamHttp::new(call.dialer(), 1 << 20)))),
        venue: Some(Arc::new(move || Ok(listen.listener(PORT)))),
        ops: None,
    };
    let parts = Parts {
        world,
        access: vec![access],
        embedded: Some(embedded),
        journal_dir: dir.to_path_buf(),
        status_file: None,
        faults: faults.iter().map(|f| f.parse().expect("a fault")).collect(),
        wrap,
        boot: BEGIN,
        started: clock.now(),
    };
    let engine = Engine::wire(&config, parts).expect("an engine");
    Simulation {
        stepper: engine.system.stepper(seed, clock),
        net,
        kill_switch: engine.kill_switch,
        sources: engine.sources,
    }
}

impl Simulation {
    /// Orders sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sources.orders.iter().filter_map(|o| o.read(|v| v.totals.sent)).sum()
    }

    /// What the first order sender shows of itself.
    pub(crate) fn look_at_orders<R>(&self, look: impl FnOnce(&OrdersView) -> R) -> R {
        self.sources.orders[0].read(look).expect("published")
    }

    /// The engine's position in its first instrument, as decimal text.
    pub(crate) fn position(&self) -> Option<String> {
        let qty = self.sources.orders.first()?.read(|v| v.positions.first().map(|p| p.qty))??;
        Some(qty.display(8).to_string())
    }

    /// What the venue says, asked over the world's own network.
    pub(crate) fn venue_state(&mut self) -> Value {
        let mut client = StreamHttp::new(self.net.dialer(), 16 << 20);
        let request = HttpRequest {
            method: "GET",
            base_url: format!("http://venue:{PORT}"),
            target: "/sim/state".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        client.begin(request, Duration::from_secs(5), self.stepper.now());
        for _ in 0..10_000 {
            self.stepper.step();
            if let Some(answer) = client.poll(self.stepper.now()) {
                return serde_json::from_slice(&answer.expect("the venue answers").body)
                    .expect("JSON");
            }
        }
        panic!("the venue did not answer");
    }
}
