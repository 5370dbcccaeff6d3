//! What decoding a depth update costs, against two ways of doing it with serde_json in the same run: borrowed structs,
//! and a tree of values. Comes in: `--test` for a tiny run that only proves that it works. Goes out: nanoseconds per
//! frame, the ratio to borrowed structs, and a hash of what was decoded, the same for all three and in every run.
#![allow(clippy::print_stdout, reason = "a bench reports on standard output")]

use std::hint::black_box;
use std::time::Duration;

use pindrop::clock::{Clock, MonoNs};
use pindrop::trading::domain::instrument::Name;
use pindrop::trading::domain::{
    Instrument, InstrumentId, Level, MarketUpdate, Price, Qty, Stamps, VenueId,
};
use pindrop::trading::venue::MarketDialect;
use pindrop::trading::venue::binance::{BinanceMarket, Flavor};
use serde::Deserialize;

const SEED: u64 = 20_240_808;
const FRAMES: usize = 64;

#[derive(Deserialize)]
struct Combined<'a> {
    #[serde(borrow)]
    data: Update<'a>,
}

#[derive(Deserialize)]
struct Update<'a> {
    #[serde(rename = "U")]
    first_id: u64,
    u: u64,
    #[serde(borrow)]
    b: Vec<[&'a str; 2]>,
    #[serde(borrow)]
    a: Vec<[&'a str; 2]>,
}

// What was decoded, reduced to one number.
#[derive(Default)]
struct Sum(u64);

impl Sum {
    fn add(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x0000_0100_0000_01B3);
    }

    fn level(&mut self, level: &Level) {
        self.add(level.price.units() as u64);
        self.add(level.qty.units() as u64);
    }

    fn text(&mut self, price: &str, qty: &str) {
        let price = Price::parse(price.as_bytes(), 8).expect("we wrote it");
        let qty = Qty::parse(qty.as_bytes(), 8).expect("we wrote it");
        self.level(&Level { price, qty });
    }
}

fn frames(levels: usize) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(SEED);
    let mut id = 50_093_239_189_u64;
    let side = |n: usize, random: &mut fastrand::Rng| {
        let level = |_| {
            let (price, qty) = (random.u64(5_500_000..6_500_000), random.u64(0..800_000_000));
            let (qty, part) = (qty / 100_000_000, qty / 1_000 % 100_000);
            format!("[\"{}.{:02}000000\",\"{qty}.{part:05}000\"]", price / 100, price % 100)
        };
        (0..n).map(level).collect::<Vec<_>>().join(",")
    };
    let mut frame = |_| {
        let (b, a) = (side(levels / 2, &mut random), side(levels - levels / 2, &mut random));
        let (first, last) = (id, id + 13);
        id += 14;
        format!(
            "{{\"stream\":\"btcusdt@depth@100ms\",\"data\":{{\"e\":\"depthUpdate\",\"E\":1723161255208,\
             \"s\":\"BTCUSDT\",\"U\":{first},\"u\":{last},\"b\":[{b}],\"a\":[{a}]}}}}"
        )
        .into_bytes()
    };
    (0..FRAMES).map(&mut frame).collect()
}

// The median time of one frame over several rounds, and the hash of all frames.
fn measure(
    frames: &[Vec<u8>],
    rounds: usize,
    mut decode: impl FnMut(&[u8], &mut Sum),
) -> (f64, u64) {
    let clock = Clock::System;
    let mut spans: Vec<Duration> = Vec::with_capacity(rounds);
    let mut hash = 0;
    for _ in 0..rounds {
        let mut sum = Sum::default();
        let begin: MonoNs = clock.now();
        for frame in frames {
            decode(black_box(frame), &mut sum);
        }
        spans.push(clock.now().since(begin));
        hash = black_box(sum.0);
    }
    spans.sort();
    (spans[rounds / 2].as_nanos() as f64 / frames.len() as f64, hash)
}

fn run(levels: usize, rounds: usize) {
    let frames = frames(levels);
    let name = |text| Name::from(text).expect("short");
    let instrument =
        Instrument::new(InstrumentId(0), VenueId(0), name("binance"), name("BTCUSDT"), (8, 8));
    let mut market = BinanceMarket::new(Flavor::Spot, &[instrument]);
    let ours = measure(&frames, rounds, |frame, sum| {
        let mut levels = |update| {
            if let MarketUpdate::Depth(chunk) = update {
                if chunk.first {
                    sum.add(chunk.first_id);
                    sum.add(chunk.last_id);
                }
                // Bids come before asks, in chunks as in the frame.
                chunk.levels[..usize::from(chunk.len)].iter().for_each(|level| sum.level(level));
            }
        };
        market.decode(frame, Stamps::default(), &mut levels).expect("we wrote it");
    });
    let borrowed = measure(&frames, rounds, |frame, sum| {
        let m: Combined<'_> = serde_json::from_slice(frame).expect("we wrote it");
        sum.add(m.data.first_id);
        sum.add(m.data.u);
        m.data.b.iter().chain(&m.data.a).for_each(|[price, qty]| sum.text(price, qty));
    });
    let tree = measure(&frames, rounds, |frame, sum| {
        let m: serde_json::Value = serde_json::from_slice(frame).expect("we wrote it");
        let data = &m["data"];
        sum.add(data["U"].as_u64().expect("we wrote it"));
        sum.add(data["u"].as_u64().expect("we wrote it"));
        for side in ["b", "a"] {
            for level in data[side].as_array().expect("we wrote it") {
                let text = |n: usize| level[n].as_str().expect("we wrote it");
                sum.text(text(0), text(1));
            }
        }
    });
    assert!(ours.1 == borrowed.1 && ours.1 == tree.1, "the three decoded different things");
    let bytes: usize = frames.iter().map(Vec::len).sum::<usize>() / frames.len();
    println!("depth update of {levels} levels, {bytes} bytes, hash {:016x}", ours.1);
    for (who, ns) in
        [("scanner", ours.0), ("serde_json borrowed", borrowed.0), ("serde_json::Value", tree.0)]
    {
        println!("  {who:<20} {ns:>10.0} ns/frame {:>7.2} x borrowed", ns / borrowed.0);
    }
}

fn main() {
    let rounds = if std::env::args().any(|a| a == "--test") { 3 } else { 400 };
    for levels in [20, 500] {
        run(levels, rounds);
    }
}
