//! Frames of the real venue -> domain: recordings are decoded whole and keep their chains, every documented example
//! is decoded, ignored or a clean error, and no truncation of any of them is taken for a message.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use flate2::read::GzDecoder;
use pindrop::clock::UtcNs;
use pindrop::trading::domain::instrument::Name;
use pindrop::trading::domain::{
    DepthKind, ExecType, Instrument, InstrumentId, MarketUpdate, Stamps, VenueId,
};
use pindrop::trading::venue::binance::{BinanceMarket, BinanceOrders, Credentials, Flavor};
use pindrop::trading::venue::{Answer, FrameKind, MarketDialect, OrderDialect, SessionMessage};
use serde_json::Value;

/// The place of `file` among the recordings; `None`, and a word about it, where there are none.
pub(crate) fn data(file: &str) -> Option<PathBuf> {
    let root = std::env::var_os("PINDROP_DATA").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"),
        PathBuf::from,
    );
    let path = root.join(file);
    if path.exists() {
        return Some(path);
    }
    eprintln!("skipped: {} is not there; PINDROP_DATA names the folder", path.display());
    None
}

fn text(file: &str) -> Option<String> {
    let bytes = std::fs::read(data(file)?).expect("readable");
    let mut text = String::new();
    if file.ends_with(".gz") {
        GzDecoder::new(bytes.as_slice()).read_to_string(&mut text).expect("gzipped text");
    } else {
        text = String::from_utf8(bytes).expect("text");
    }
    Some(text)
}

fn instrument(id: u16, symbol: &str) -> Instrument {
    let name = |text| Name::from(text).expect("short");
    Instrument::new(InstrumentId(id), VenueId(0), name("binance"), name(symbol), (8, 8))
}

/// What a recording held.
#[derive(Default)]
struct Seen {
    deltas: u64,
    tickers: u64,
    trades: u64,
    snapshots: u64,
    ignored: u64,
}

/// Decodes lines of `<local time><separator><JSON>`; the chains of update ids and of trade ids must hold.
fn decode_recording(flavor: Flavor, symbol: &str, lines: &str, seen: &mut Seen) {
    let all = [instrument(0, symbol)];
    let mut market = BinanceMarket::new(flavor, &all);
    let (mut last_id, mut last_trade) = (None, None);
    for line in lines.lines() {
        let Some(from) = line.find('{') else { continue };
        let frame = &line.as_bytes()[from..];
        let mut updates = Vec::new();
        if frame.starts_with(b"{\"lastUpdateId\"") {
            market
                .decode_snapshot(frame, all[0].id, Stamps::default(), &mut |u| updates.push(u))
                .expect(line);
        } else if market.decode(frame, Stamps::default(), &mut |u| updates.push(u)).expect(line)
            == FrameKind::Ignored
        {
            seen.ignored += 1;
        }
        for update in updates {
            match update {
                MarketUpdate::Depth(chunk) if chunk.first => {
                    if chunk.kind == DepthKind::Snapshot {
                        seen.snapshots += 1;
                        continue;
                    }
                    let chained = match chunk.prev_id {
                        Some(_) => chunk.prev_id,
                        None => Some(chunk.first_id - 1),
                    };
                    assert!(last_id.is_none() || last_id == chained, "{line}");
                    last_id = Some(chunk.last_id);
                    seen.deltas += 1;
                }
                MarketUpdate::Trade(trade) => {
                    assert!(last_trade.is_none_or(|id| id + 1 == trade.id), "{line}");
                    last_trade = Some(trade.id);
                    seen.trades += 1;
                }
                MarketUpdate::Ticker(ticker) => {
                    assert!(ticker.bid.price < ticker.ask.price, "{line}");
                    seen.tickers += 1;
                }
                _ => {}
            }
        }
    }
}

#[track_caller]
fn check_recording(flavor: Flavor, symbol: &str, files: &[&str], expect: (u64, u64, u64)) {
    let mut all = String::new();
    for file in files {
        let Some(lines) = text(file) else { return };
        all.push_str(&lines);
    }
    let mut seen = Seen::default();
    decode_recording(flavor, symbol, &all, &mut seen);
    assert_eq!((seen.deltas, seen.snapshots, seen.ignored), expect);
    assert!(seen.tickers > 0 && seen.trades > 0);
}

#[test]
fn spot_recording() {
    check_recording(Flavor::Spot, "BTCUSDT", &["binance-spot/btcusdt_20240808.gz"], (3_451, 1, 0));
}

#[test]
fn usd_futures_recording() {
    check_recording(Flavor::UsdM, "BTCUSDT", &["binance-usdm/btcusdt_20240808.gz"], (6_551, 1, 0));
}

#[test]
fn coin_futures_recordings() {
    let files = ["binance-cm/ethusd_perp_20240808.gz", "binance-cm/ethusd_perp_20240809.gz"];
    check_recording(Flavor::CoinM, "ETHUSD_PERP", &files, (39_155, 1, 0));
}

#[test]
fn combined_stream_of_four_symbols_and_a_foreign_log() {
    let Some(log) = text("binance-spot/cf_BINANCE.ws.log.gz") else { return };
    let mut seen = Seen::default();
    for symbol in ["NKNUSDT", "BLZETH", "LRCBTC", "RUNEEUR"] {
        let frames: Vec<_> = log.lines().filter(|l| l.contains("\"stream\"")).collect();
        let mut one = Seen::default();
        decode_recording(Flavor::Spot, symbol, &frames.join("\n"), &mut one);
        seen.deltas += one.deltas;
        let file = format!("binance-spot/cf_BINANCE_snapshot_{symbol}.json");
        let body = text(&file).expect("beside the log");
        let start = body.find("{\"lastUpdateId\"").expect("a snapshot");
        decode_recording(Flavor::Spot, symbol, body[start..].trim(), &mut seen);
    }
    assert_eq!((seen.deltas, seen.snapshots), (177, 4));
}

#[test]
fn snapshot_with_white_space_and_slow_deltas() {
    let Some(body) = text("binance-spot/ethbtc_20201101T09_snapshot.json") else { return };
    let mut seen = Seen::default();
    decode_recording(Flavor::Spot, "ETHBTC", body.trim(), &mut seen);
    let deltas = text("binance-spot/ethbtc_20201101T09_update.jsonl.gz").expect("beside it");
    decode_recording(Flavor::Spot, "ETHBTC", &deltas, &mut seen);
    assert_eq!((seen.deltas, seen.snapshots), (3_600, 1));
}

#[test]
fn exchange_info_of_every_symbol() {
    let Some(body) = text("binance-spot/cf_BINANCE.exchangeInfo.json.gz") else { return };
    let all: Value = serde_json::from_str(&body).expect("valid JSON");
    let symbols = all["symbols"].as_array().expect("a list");
    let market = BinanceMarket::new(Flavor::Spot, &[]);
    let mut trading = 0;
    for group in symbols.chunks(40) {
        // The same answer in parts: a whole one for each of 1,695 symbols takes long.
        let part = serde_json::json!({ "timezone": "UTC", "symbols": group }).to_string();
        for symbol in group {
            let name = symbol["symbol"].as_str().expect("a name");
            let rules = market.decode_rules(part.as_bytes(), &instrument(0, name)).expect(name);
            assert!(rules.tick.units() > 0 && rules.lot.units() > 0, "{name}");
            assert!(rules.qty_min <= rules.qty_max && rules.price_min <= rules.price_max, "{name}");
            assert!(rules.notional_min.units() > 0, "{name}");
            trading += u32::from(rules.trading);
        }
    }
    assert_eq!((symbols.len(), trading), (1_695, 1_262));
    let rules = market.decode_rules(body.as_bytes(), &instrument(0, "ETHBTC")).expect("listed");
    assert_eq!((&*rules.base, &*rules.quote), ("ETH", "BTC"));
    assert_eq!((rules.tick.units(), rules.lot.units()), (100, 10_000));
    assert_eq!(rules.notional_min.units(), 1_000_000_000_000);
    assert!(market.decode_rules(body.as_bytes(), &instrument(0, "NOSUCH")).is_err());
    let coarse = {
        let name = |text| Name::from(text).expect("short");
        Instrument::new(InstrumentId(0), VenueId(0), name("b"), name("ETHBTC"), (2, 8))
    };
    let error = market.decode_rules(body.as_bytes(), &coarse).expect_err("too few decimals");
    assert!(error.what.contains("more decimals"), "{error}");
}

#[test]
fn rules_know_both_notional_filters_and_demand_the_others() {
    let market = BinanceMarket::new(Flavor::Spot, &[]);
    let decode = |status: &str, filters: &str| {
        let body = format!(
            r#"{{"symbols":[{{"symbol":"X","status":"{status}","baseAsset":"A","quoteAsset":"B","filters":[{filters}]}}]}}"#
        );
        market.decode_rules(body.as_bytes(), &instrument(0, "X"))
    };
    let price = r#"{"filterType":"PRICE_FILTER","minPrice":"0","maxPrice":"999999999999","tickSize":"0.01"}"#;
    let lot = r#"{"filterType":"LOT_SIZE","minQty":"0.1","maxQty":"9","stepSize":"0.1","limit":7}"#;
    let min = r#"{"filterType":"MIN_NOTIONAL","minNotional":"5","applyToMarket":true}"#;
    let notional = r#"{"filterType":"NOTIONAL","minNotional":"10.0","maxNotional":"100"}"#;
    let odd = r#"{"filterType":"NEW_ONE","minQty":17}"#;
    let rules = decode("TRADING", &[odd, price, lot, min, notional].join(",")).expect("valid");
    assert_eq!(rules.notional_min.units(), 100_000_000_000_000_000);
    assert_eq!((rules.price_max.units(), rules.trading), (i64::MAX, true));
    let rules = decode("BREAK", &[price, lot].join(",")).expect("valid");
    assert!(rules.notional_min.is_zero() && !rules.trading);
    assert!(decode("TRADING", price).is_err_and(|e| e.what.contains("no LOT_SIZE")));
    assert!(decode("TRADING", lot).is_err_and(|e| e.what.contains("no PRICE_FILTER")));
    let bad = lot.replace("0.1", "x");
    assert!(decode("TRADING", &[price, &bad].join(",")).is_err());
}

/// Every example: where it is from, and its text.
fn examples() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for file in ["spot_docs_examples.jsonl", "go_binance_tests.jsonl"] {
        let Some(lines) = text(&format!("binance-examples/{file}")) else { return all };
        for line in lines.lines() {
            let row: Value = serde_json::from_str(line).expect(line);
            let section = row["section"].as_str().unwrap_or_default();
            all.push((format!("{file}:{} {section}", row["line"]), row["json"].clone()));
        }
    }
    for folder in ["http_json", "user_data_json"] {
        let folder = data(&format!("binance-examples/nautilus/spot/{folder}")).expect("there");
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("readable").path();
            let body = std::fs::read(&path).expect("readable");
            let json = serde_json::from_slice(&body).expect("valid JSON");
            all.push((path.display().to_string(), json));
        }
    }
    all
}

fn orders() -> BinanceOrders {
    let credentials = Credentials::hmac("key", "secret");
    BinanceOrders::new(&credentials, &[instrument(0, "BTCUSDT")], Duration::from_secs(5))
        .expect("valid")
}

fn market() -> BinanceMarket {
    let symbols = ["BNBBTC", "BNBUSDT", "BTCUSDT", "ETHBTC", "LTCBTC"];
    let all: Vec<_> = (0..).zip(symbols).map(|(id, symbol)| instrument(id, symbol)).collect();
    BinanceMarket::new(Flavor::Spot, &all)
}

/// The id that makes an answer in the documentation an answer to a request of ours.
fn our_id(section: &str) -> Option<&'static str> {
    let ids = [
        ("Log in with API key", "l1"),
        ("Subscribe to User Data Stream", "u1"),
        ("Place new order (TRADE)", "p1"),
        ("Cancel order (TRADE)", "c1"),
        ("Cancel open orders", "a1"),
        ("Query order (USER_DATA)", "s1"),
        ("Current open orders", "o1"),
        ("Account trade history", "t1"),
        ("Account information", "b1"),
    ];
    ids.iter().find(|(words, _)| section.contains(words)).map(|(_, id)| *id)
}

#[test]
fn examples_that_concern_orders_decode() {
    let (mut answers, mut refusals, mut reports, mut balances) = (0, 0, 0, 0);
    for (from, mut json) in examples() {
        if json["status"].is_number() && (json["error"].is_object() || our_id(&from).is_some()) {
            json["id"] = our_id(&from).unwrap_or("p1").into();
        }
        // ACK has no status, and we never ask for it; a cancelled list is no order of ours.
        let result = &json["result"];
        let foreign = result["transactTime"].is_number() && result["status"].is_null()
            || result["listStatusType"].is_string();
        match orders().decode(json.to_string().as_bytes()) {
            Ok(SessionMessage::Answer { result: Ok(answer), .. }) => {
                assert_ne!(answer, Answer::Trades(Vec::new()), "{from}");
                answers += 1;
            }
            Ok(SessionMessage::Answer { result: Err(_), .. }) => refusals += 1,
            Ok(SessionMessage::Report(report)) => {
                assert_eq!(report.trade_id.is_some(), report.exec == ExecType::Trade, "{from}");
                reports += 1;
            }
            Ok(SessionMessage::Balances(all)) => balances += all.len(),
            Ok(_) => {}
            // What is left is bodies of REST, and the answers above.
            Err(e) => assert!(foreign || json["id"].is_null(), "{from}: {e}"),
        }
    }
    if data("binance-examples/spot_docs_examples.jsonl").is_some() {
        assert!(answers >= 11 && refusals >= 8 && reports >= 9 && balances >= 3);
    }
}

#[test]
fn examples_that_concern_markets_decode() {
    let mut updates = 0;
    for (from, json) in examples() {
        let frame = json.to_string();
        let outcome = market().decode(frame.as_bytes(), Stamps::default(), &mut |_| updates += 1);
        let payload = if json["data"].is_object() { &json["data"] } else { &json };
        let ours = matches!(payload["e"].as_str(), Some("depthUpdate" | "trade"));
        match outcome {
            Ok(FrameKind::Ignored) if ours => {
                assert!(market_lacks(payload), "{from}: {frame}");
            }
            Ok(_) => {}
            // Levels of 2018 had a third, empty element.
            Err(e) => assert!(!ours || frame.contains(",[]]"), "{from}: {e}"),
        }
    }
    if data("binance-examples/spot_docs_examples.jsonl").is_some() {
        assert!(updates >= 4);
    }
}

fn market_lacks(payload: &Value) -> bool {
    let ours = ["BNBBTC", "BNBUSDT", "BTCUSDT", "ETHBTC", "LTCBTC"];
    !ours.contains(&payload["s"].as_str().unwrap_or_default())
}

#[test]
fn no_truncation_is_a_message() {
    let (mut market, mut orders) = (market(), orders());
    for (from, json) in examples() {
        // Longer ones are lists of the same again.
        let frame = json.to_string();
        let frame = frame.as_bytes();
        for end in 0..frame.len().min(3_000) {
            let cut = &frame[..end];
            let mut updates = 0;
            let outcome = market.decode(cut, Stamps::default(), &mut |_| updates += 1);
            assert!(outcome.is_err() && updates == 0, "{from} cut at {end}: {outcome:?}");
            let outcome = orders.decode(cut);
            assert!(outcome.is_err(), "{from} cut at {end}: {outcome:?}");
            let id = InstrumentId(0);
            assert!(market.decode_snapshot(cut, id, Stamps::default(), &mut |_| {}).is_err());
        }
    }
}

#[test]
fn numbers_of_the_documentation_survive() {
    let frame = r#"{"subscriptionId":0,"event":{"e":"executionReport","E":1499405658658,"s":"BTCUSDT",
        "c":"mUvoqJxFIILMdfAW5iGSOW","S":"BUY","q":"1.00000000","p":"0.10264410","C":"","x":"NEW","X":"NEW",
        "r":"NONE","i":4293153,"l":"0.00000000","z":"0.00000000","L":"0.00000000","n":"0","N":null,
        "T":1499405658657,"t":-1}}"#;
    let Ok(SessionMessage::Report(report)) = orders().decode(frame.as_bytes()) else {
        panic!("no report")
    };
    assert_eq!((report.price.units(), report.qty.units()), (10_264_410, 100_000_000));
    assert_eq!(report.venue_utc, UtcNs::from_millis(1_499_405_658_657));
}
