//! A recorded day of a real venue, served by the venue process and traded by the engine process over real sockets.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;

use flate2::read::GzDecoder;
use pindrop::trading::domain::Price;
use rustix::process::Signal;
use serde_json::Value;

use super::decode::data;
use super::engine::{Setup, Venue, assert_agreed};

/// How much faster than it happened: the recording's 346 s in some 12 s, at some 3,500 frames per second.
const SPEED: &str = "30";

/// A book as anybody would write it down: no ladder, no window, no code of ours but the decimal parser.
#[derive(Default)]
struct Naive {
    bids: BTreeMap<i64, i64>,
    asks: BTreeMap<i64, i64>,
    update_id: u64,
}

impl Naive {
    fn levels(side: &mut BTreeMap<i64, i64>, levels: &Value) {
        let units = |v: &Value| {
            Price::parse(v.as_str().expect("text").as_bytes(), 8).expect("a decimal").units()
        };
        for level in levels.as_array().expect("levels") {
            let (price, qty) = (units(&level[0]), units(&level[1]));
            if qty == 0 {
                side.remove(&price);
            } else {
                side.insert(price, qty);
            }
        }
    }

    /// The book at the end of a recording.
    fn of(path: &Path) -> Self {
        let file = std::fs::File::open(path).expect("readable");
        let mut book = Self::default();
        let mut early = Vec::new();
        for line in BufReader::new(GzDecoder::new(file)).lines() {
            let line = line.expect("text");
            let (_, json) = line.split_once(' ').expect("a time and a message");
            let message: Value = serde_json::from_str(json).expect("JSON");
            if let Some(id) = message["lastUpdateId"].as_u64() {
                book.update_id = id;
                Self::levels(&mut book.bids, &message["bids"]);
                Self::levels(&mut book.asks, &message["asks"]);
                std::mem::take(&mut early).iter().for_each(|delta| book.apply(delta));
            } else if message["data"]["e"] == "depthUpdate" {
                let delta = message["data"].clone();
                if book.update_id == 0 { early.push(delta) } else { book.apply(&delta) }
            }
        }
        book
    }

    fn apply(&mut self, delta: &Value) {
        let last = delta["u"].as_u64().expect("an id");
        if last > self.update_id {
            self.update_id = last;
            Self::levels(&mut self.bids, &delta["b"]);
            Self::levels(&mut self.asks, &delta["a"]);
        }
    }

    fn checksum(&self) -> u32 {
        let levels = self.bids.iter().rev().chain(&self.asks);
        let bytes: Vec<u8> =
            levels.flat_map(|(p, q)| [p.to_le_bytes(), q.to_le_bytes()].concat()).collect();
        crc32c::crc32c(&bytes)
    }
}

#[test]
fn a_recorded_day_is_traded_without_a_gap() {
    let Some(path) = data("binance-spot/btcusdt_20240808.gz") else { return };
    let expected = Naive::of(&path);
    let file = path.display().to_string();
    let venue = Venue::start(&["--recording", &file, "--speed", SPEED]);
    let setup = Setup::new(venue.addr);
    let mut engine = setup.start(&["--ops", "127.0.0.1:0"]);
    let ops: SocketAddr =
        engine.wait_value("event=ops.listening", "addr").parse().expect("an address");
    engine.wait_json(ops, "/status", "the end of the recording", |s| {
        s["books"][0]["update_id"] == expected.update_id
    });
    engine.signal(Signal::TERM);
    assert_eq!(engine.wait_exit().0, 0, "{}", engine.log());
    let report = setup.report();
    let book = &report["books"][0];
    assert_eq!((&book["gaps"], &book["resyncs"]), (&Value::from(0), &Value::from(0)), "{book}");
    assert_eq!(book["update_id"], expected.update_id);
    assert_eq!(book["checksum"], expected.checksum(), "{book}");
    let orders = &report["orders"];
    for what in ["sent", "filled", "cancelled"] {
        assert!(orders[what].as_u64() > Some(0), "none {what}: {orders}");
    }
    println!("{} deltas applied, orders {orders}", book["applied"]);
    assert_agreed(&venue, &setup);
}
