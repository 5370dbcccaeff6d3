//! How Binance talks about markets. Comes in: stream frames and REST bodies. Goes out: market updates and rules, and
//! the targets to ask for them. Always: a message is given whole or not at all, and no frame makes it panic.

use std::time::Duration;

use crate::trading::domain::{
    DepthChunk, DepthKind, Instrument, InstrumentId, Instruments, MarketUpdate, Rules, Stamps,
    VenueId,
};
use crate::trading::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX};
use crate::trading::telemetry::Budget;
use crate::trading::venue::{DecodeError, FrameKind, MarketDialect};

use super::depth::Levels;
use super::event::Event;
use super::parse::{self, Frame};
use super::sign::percent_encode;
use super::symbols::Symbols;
use super::{rules, scan};

/// Which of Binance's markets is spoken to. Spot is traded; the futures are read, with the same code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavor {
    /// Spot.
    Spot,
    /// USD-margined futures.
    UsdM,
    /// Coin-margined futures.
    CoinM,
}

impl Flavor {
    fn rest_prefix(self) -> &'static str {
        match self {
            Self::Spot => "/api/v3",
            Self::UsdM => "/fapi/v1",
            Self::CoinM => "/dapi/v1",
        }
    }

    /// REQUEST_WEIGHT per minute and address, as exchangeInfo of each market says.
    fn weight_per_minute(self) -> u64 {
        match self {
            Self::Spot => 6_000,
            Self::UsdM | Self::CoinM => 2_400,
        }
    }

    // The deepest snapshot there is: a shallow one leaves the book wrong once the price moves out of it.
    fn snapshot_limit(self) -> u16 {
        match self {
            Self::Spot => 5_000,
            Self::UsdM | Self::CoinM => 1_000,
        }
    }
}

/// The market half of the dialect.
#[derive(Clone, Debug)]
pub struct BinanceMarket {
    flavor: Flavor,
    symbols: Symbols,
    levels: Levels,
}

impl BinanceMarket {
    /// A dialect that knows all of `instruments`.
    pub fn new(flavor: Flavor, instruments: &[Instrument]) -> Self {
        Self::with(flavor, Symbols::new(instruments.iter()))
    }

    /// A dialect that knows those of `instruments` that are traded at `venue`; for tables of several venues, which
    /// may use the same symbols.
    pub fn of_venue(flavor: Flavor, instruments: &Instruments, venue: VenueId) -> Self {
        Self::with(flavor, Symbols::new(instruments.iter().filter(|i| i.venue == venue)))
    }

    fn with(flavor: Flavor, symbols: Symbols) -> Self {
        Self { flavor, symbols, levels: Levels::default() }
    }

    // The fast reader alone; `None` leaves the frame to the careful one.
    fn scan(&mut self, frame: &[u8], stamps: Stamps) -> Option<Event> {
        self.levels.clear();
        let event = scan::event(frame, &self.symbols, stamps, &mut self.levels)?;
        let lacks_prev_id = matches!(event, Event::Depth(head) if head.prev_id.is_none());
        (self.flavor == Flavor::Spot || !lacks_prev_id).then_some(event)
    }

    // The careful reader alone.
    fn parse(&mut self, frame: &[u8], stamps: Stamps) -> Result<Frame, DecodeError> {
        self.levels.clear();
        let prev_id_required = self.flavor != Flavor::Spot;
        let context = parse::Context { symbols: &self.symbols, stamps, prev_id_required };
        parse::frame(frame, &context, &mut self.levels)
    }

    fn emit(&self, event: Event, stamps: Stamps, sink: &mut dyn FnMut(MarketUpdate)) {
        match event {
            Event::Depth(head) => self.levels.emit(head.chunk(stamps), sink),
            Event::Trade(trade) => sink(MarketUpdate::Trade(trade)),
            Event::Ticker(ticker) => sink(MarketUpdate::Ticker(ticker)),
        }
    }
}

impl MarketDialect for BinanceMarket {
    fn stream_target(&self, instruments: &[&Instrument]) -> String {
        let mut target = b"/stream?streams=".to_vec();
        for (n, instrument) in instruments.iter().enumerate() {
            for (m, stream) in ["@depth@100ms", "@trade", "@bookTicker"].into_iter().enumerate() {
                if n + m > 0 {
                    target.push(b'/');
                }
                percent_encode(instrument.symbol.to_lowercase().as_bytes(), &mut target);
                target.extend_from_slice(stream.as_bytes());
            }
        }
        ascii(target)
    }

    fn decode(
        &mut self,
        frame: &[u8],
        stamps: Stamps,
        sink: &mut dyn FnMut(MarketUpdate),
    ) -> Result<FrameKind, DecodeError> {
        check_size(frame, FRAME_BYTES_MAX)?;
        if let Some(event) = self.scan(frame, stamps) {
            self.emit(event, stamps, sink);
            return Ok(FrameKind::Updates);
        }
        Ok(match self.parse(frame, stamps)? {
            Frame::Event(event) => {
                self.emit(event, stamps, sink);
                FrameKind::Updates
            }
            Frame::Ack => FrameKind::Ack,
            Frame::ServerShutdown => FrameKind::ServerShutdown,
            Frame::Ignored => FrameKind::Ignored,
        })
    }

    fn snapshot_target(&self, instrument: &Instrument) -> String {
        let mut target = format!("{}/depth?symbol=", self.flavor.rest_prefix()).into_bytes();
        percent_encode(instrument.symbol.as_bytes(), &mut target);
        target.extend_from_slice(format!("&limit={}", self.flavor.snapshot_limit()).as_bytes());
        ascii(target)
    }

    fn decode_snapshot(
        &mut self,
        body: &[u8],
        instrument: InstrumentId,
        stamps: Stamps,
        sink: &mut dyn FnMut(MarketUpdate),
    ) -> Result<(), DecodeError> {
        check_size(body, BODY_BYTES_MAX)?;
        let Some(symbol) = self.symbols.by_id(instrument) else {
            return Err(DecodeError::new("depth snapshot of an instrument not ours", body));
        };
        self.levels.clear();
        let (id, utc) = match scan::snapshot(body, symbol, &mut self.levels) {
            Some(id) => (id, None),
            None => {
                self.levels.clear();
                parse::snapshot(body, symbol, &mut self.levels)?
            }
        };
        let head = DepthChunk {
            instrument,
            kind: DepthKind::Snapshot,
            first_id: id,
            last_id: id,
            stamps: Stamps { venue_utc: utc.unwrap_or(stamps.venue_utc), ..stamps },
            ..DepthChunk::default()
        };
        self.levels.emit(head, sink);
        Ok(())
    }

    fn budget(&self, headers: &[(String, String)]) -> Option<Budget> {
        let header = headers.iter().find(|(name, _)| name == "x-mbx-used-weight-1m")?;
        let used = header.1.trim().parse().ok()?;
        Some(Budget {
            used,
            limit: self.flavor.weight_per_minute(),
            window: Duration::from_secs(60),
        })
    }

    fn rules_target(&self, instruments: &[&Instrument]) -> String {
        let mut target = format!("{}/exchangeInfo", self.flavor.rest_prefix()).into_bytes();
        // Futures have no such filter.
        if self.flavor == Flavor::Spot && !instruments.is_empty() {
            let symbols: Vec<_> = instruments.iter().map(|i| format!("\"{}\"", i.symbol)).collect();
            target.extend_from_slice(b"?symbols=");
            percent_encode(format!("[{}]", symbols.join(",")).as_bytes(), &mut target);
        }
        ascii(target)
    }

    fn decode_rules(&self, body: &[u8], instrument: &Instrument) -> Result<Rules, DecodeError> {
        check_size(body, BODY_BYTES_MAX)?;
        rules::decode(body, instrument)
    }
}

pub(super) fn check_size(bytes: &[u8], cap: usize) -> Result<(), DecodeError> {
    if bytes.len() <= cap {
        return Ok(());
    }
    Err(DecodeError::new(format!("{} bytes, more than {cap}", bytes.len()), bytes))
}

/// Percent-encoded bytes as text.
pub(super) fn ascii(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("percent-encoded text is ASCII")
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::io::BufRead as _;

    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;
    use crate::clock::{MonoNs, UtcNs};
    use crate::trading::domain::instrument::Name;
    use crate::trading::domain::market::LEVELS_PER_CHUNK;
    use crate::trading::domain::{Level, Price, Qty, Trade};

    fn instrument(id: u16, symbol: &str, decimals: u8) -> Instrument {
        let name = |text| Name::from(text).expect("short");
        let decimals = (decimals, decimals);
        Instrument::new(InstrumentId(id), VenueId(0), name("binance"), name(symbol), decimals)
    }

    fn market(flavor: Flavor) -> BinanceMarket {
        let all = [
            instrument(0, "BTCUSDT", 8),
            instrument(1, "ETHUSD_PERP", 3),
            instrument(2, "ODD", 12),
        ];
        BinanceMarket::new(flavor, &all)
    }

    fn stamps() -> Stamps {
        Stamps { recv: MonoNs::from_millis(7), venue_utc: UtcNs::default() }
    }

    // Whatever the fast reader takes, the careful one takes, and makes the same of it. True when it was taken.
    #[track_caller]
    fn agree(market: &mut BinanceMarket, frame: &[u8]) -> bool {
        let Some(event) = market.scan(frame, stamps()) else { return false };
        let levels = (market.levels.bids.clone(), market.levels.asks.clone());
        let text = String::from_utf8_lossy(frame);
        assert_eq!(market.parse(frame, stamps()), Ok(Frame::Event(event)), "{text}");
        if matches!(event, Event::Depth(_)) {
            assert_eq!(
                (&market.levels.bids, &market.levels.asks),
                (&levels.0, &levels.1),
                "{text}"
            );
        }
        true
    }

    const DEPTH: &str = r#"{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":5,"u":9,"b":[["61737.63000000","0.00000000"],["1","2.5"]],"a":[["61837.64000000","1.54698000"]]}"#;
    const TRADE: &str = r#"{"e":"trade","E":1723161255343,"s":"BTCUSDT","t":3735683259,"p":"61837.63000000","q":"0.02000000","T":1723161255342,"m":true,"M":true}"#;
    const TICKER: &str = r#"{"u":50093239212,"s":"BTCUSDT","b":"61837.63000000","B":"3.78826000","a":"61837.64000000","A":"1.54698000"}"#;
    const FUTURES_DEPTH: &str = r#"{"e":"depthUpdate","E":1723161257460,"T":1723161257451,"s":"ETHUSD_PERP","ps":"ETHUSD","U":11,"u":12,"pu":10,"b":[["2681.28","0"]],"a":[]}"#;
    const FUTURES_TRADE: &str = r#"{"e":"trade","E":1723161258769,"T":1723161258762,"s":"ETHUSD_PERP","t":805376266,"p":"2682.18","q":"1","X":"MARKET","m":false}"#;
    const COIN_TICKER: &str = r#"{"u":1007198631825,"e":"bookTicker","s":"ETHUSD_PERP","ps":"ETHUSD","b":"2682.17","B":"159","a":"2682.18","A":"3794","T":1723161257450,"E":1723161257457}"#;
    const USD_TICKER: &str = r#"{"e":"bookTicker","u":5123107839020,"s":"BTCUSDT","b":"61800.20","B":"2.507","a":"61800.30","A":"2.510","T":1723161256313,"E":1723161256313}"#;
    const ALL: [&str; 7] =
        [DEPTH, TRADE, TICKER, FUTURES_DEPTH, FUTURES_TRADE, COIN_TICKER, USD_TICKER];

    fn wrapped(payload: &str) -> String {
        format!(r#"{{"stream":"btcusdt@depth@100ms","data":{payload}}}"#)
    }

    #[test]
    fn the_usual_frames_take_the_fast_way() {
        let mut spot = market(Flavor::Spot);
        for payload in ALL {
            assert!(agree(&mut spot, payload.as_bytes()), "{payload}");
            assert!(agree(&mut spot, wrapped(payload).as_bytes()), "{payload}");
        }
    }

    // Every frame of a recording takes the fast way, and both readers agree on it.
    #[track_caller]
    fn check_recording(flavor: Flavor, symbol: &str, file: &str) {
        let root = std::env::var("PINDROP_DATA")
            .unwrap_or_else(|_| format!("{}/../shared/data", env!("CARGO_MANIFEST_DIR")));
        let Ok(recording) = std::fs::File::open(format!("{root}/{file}")) else {
            return assert!(!std::path::Path::new(&root).exists(), "{file} is missing");
        };
        let mut market = BinanceMarket::new(flavor, &[instrument(0, symbol, 8)]);
        let lines = std::io::BufReader::new(flate2::read::GzDecoder::new(recording)).lines();
        let mut frames = 0;
        for line in lines.map(|line| line.expect("gzipped text")) {
            let frame = &line[line.find('{').expect("a frame")..];
            if frame.starts_with("{\"stream\"") {
                assert!(agree(&mut market, frame.as_bytes()), "{frame}");
                frames += 1;
            }
        }
        assert!(frames > 30_000, "{frames}");
    }

    #[test]
    fn recordings_take_the_fast_way() {
        check_recording(Flavor::Spot, "BTCUSDT", "binance-spot/btcusdt_20240808.gz");
        check_recording(Flavor::UsdM, "BTCUSDT", "binance-usdm/btcusdt_20240808.gz");
        check_recording(Flavor::CoinM, "ETHUSD_PERP", "binance-cm/ethusd_perp_20240808.gz");
    }

    // Decodes `frame` and gives its kind and updates.
    fn decode(flavor: Flavor, frame: &str) -> Result<(FrameKind, Vec<MarketUpdate>), DecodeError> {
        let mut updates = Vec::new();
        let kind = market(flavor).decode(frame.as_bytes(), stamps(), &mut |u| updates.push(u))?;
        Ok((kind, updates))
    }

    #[track_caller]
    fn check_kind(frame: &str, expect: FrameKind) {
        let (kind, updates) = decode(Flavor::Spot, frame).expect(frame);
        assert_eq!(kind, expect, "{frame}");
        assert_eq!(updates.is_empty(), expect != FrameKind::Updates, "{frame}");
    }

    #[track_caller]
    fn check_error(flavor: Flavor, frame: &str, words: &str) {
        let error = decode(flavor, frame).expect_err(frame);
        assert!(error.to_string().contains(words), "{error}");
    }

    #[test]
    fn kinds() {
        check_kind(TRADE, FrameKind::Updates);
        check_kind(r#"{"result":null,"id":1}"#, FrameKind::Ack);
        check_kind(r#"{"id":"x","result":["btcusdt@trade"]}"#, FrameKind::Ack);
        check_kind(r#"{"e":"serverShutdown","E":1770123456789}"#, FrameKind::ServerShutdown);
        let shutdown = r#"{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}"#;
        check_kind(shutdown, FrameKind::ServerShutdown);
        check_kind(r#"{"e":"kline","E":1,"s":"BTCUSDT","k":{}}"#, FrameKind::Ignored);
        check_kind(&TRADE.replace("BTCUSDT", "btcusdt"), FrameKind::Ignored);
        check_kind(&DEPTH.replace("BTCUSDT", "DOGEUSDT"), FrameKind::Ignored);
        check_kind(r#"[{"e":"24hrMiniTicker"}]"#, FrameKind::Ignored);
        check_kind(
            r#"{"stream":"!miniTicker@arr","data":[{"e":"24hrMiniTicker"}]}"#,
            FrameKind::Ignored,
        );
        check_kind("{}", FrameKind::Ignored);
    }

    #[test]
    fn errors() {
        check_error(Flavor::Spot, "", "market frame");
        check_error(Flavor::Spot, "hello", "market frame");
        let refusal = r#"{"error":{"code":2,"msg":"Invalid request"},"id":1}"#;
        check_error(Flavor::Spot, refusal, "refused");
        check_error(Flavor::Spot, r#"{"code":3,"msg":"Invalid JSON"}"#, "refused");
        check_error(Flavor::Spot, &DEPTH.replace("\"u\":9,", ""), "missing field `u`");
        check_error(Flavor::Spot, &TRADE.replace("61837.63000000", "-1"), "price");
        check_error(Flavor::Spot, &TRADE.replace("0.02000000", "0.020000001"), "more decimals");
        check_error(Flavor::Spot, &format!("{TRADE}x"), "trailing");
        check_error(Flavor::UsdM, DEPTH, "without `pu`");
        let many = format!("{}[\"1\",\"1\"]", "[\"1\",\"1\"],".repeat(10_000));
        check_error(Flavor::Spot, &DEPTH.replace(r#"["1","2.5"]"#, &many), "more than 10000");
    }

    #[test]
    fn any_key_order_and_white_space_will_do() {
        let odd = r#" { "data" : { "a":[["3","4"]], "b" : [ ["1" , "2"] ], "u":9,"U":5, "x":{"y":[1]},
            "s":"BTCUSDT","E":1723161255208000,"e":"depth\u0055pdate" }, "stream" : "x" } "#;
        let (_, updates) = decode(Flavor::Spot, odd).expect("valid");
        let [MarketUpdate::Depth(chunk)] = updates.as_slice() else { panic!("{updates:?}") };
        let level = |price: i64, qty: i64| Level {
            price: Price::from_units(price * 100_000_000),
            qty: Qty::from_units(qty * 100_000_000),
        };
        assert_eq!((chunk.bids(), chunk.asks()), (&[level(1, 2)][..], &[level(3, 4)][..]));
        assert_eq!((chunk.first_id, chunk.last_id, chunk.prev_id), (5, 9, None));
        // Microseconds are recognised.
        assert_eq!(chunk.stamps.venue_utc, UtcNs::from_millis(1_723_161_255_208));
        assert_eq!(chunk.stamps.recv, stamps().recv);
    }

    #[test]
    fn trades_and_tickers_keep_every_field() {
        let (_, updates) = decode(Flavor::CoinM, FUTURES_TRADE).expect("valid");
        let [MarketUpdate::Trade(trade)] = updates.as_slice() else { panic!("{updates:?}") };
        let expect = Trade {
            instrument: InstrumentId(1),
            id: 805_376_266,
            price: Price::from_units(2_682_180),
            qty: Qty::from_units(1_000),
            buyer_is_maker: false,
            stamps: Stamps { venue_utc: UtcNs::from_millis(1_723_161_258_769), ..stamps() },
        };
        assert_eq!(*trade, expect);
        let (_, updates) = decode(Flavor::Spot, TICKER).expect("valid");
        let [MarketUpdate::Ticker(t)] = updates.as_slice() else { panic!("{updates:?}") };
        assert_eq!(
            (t.update_id, t.bid.qty.units(), t.ask.price.units()),
            (50_093_239_212, 378_826_000, 6_183_764_000_000)
        );
        assert_eq!(t.stamps, stamps());
        // Entries of the insurance fund are no trades in the book.
        let fund = FUTURES_TRADE.replace("MARKET", "INSURANCE_FUND");
        assert_eq!(decode(Flavor::CoinM, &fund).expect("valid").0, FrameKind::Ignored);
    }

    // A delta of so many levels gives chunks that are whole together.
    #[track_caller]
    fn check_chunks(bids: usize, asks: usize) {
        let side = |n: usize| {
            let mut text = String::new();
            for i in 0..n {
                write!(text, "{}[\"{i}\",\"1\"]", if i > 0 { "," } else { "" }).expect("string");
            }
            text
        };
        let body =
            format!(r#"{{"lastUpdateId":3,"bids":[{}],"asks":[{}]}}"#, side(bids), side(asks));
        let mut chunks = Vec::new();
        market(Flavor::Spot)
            .decode_snapshot(body.as_bytes(), InstrumentId(0), stamps(), &mut |u| {
                let MarketUpdate::Depth(chunk) = u else { panic!("no depth") };
                chunks.push(chunk);
            })
            .expect("valid");
        assert_eq!(chunks.len(), (bids + asks).div_ceil(LEVELS_PER_CHUNK).max(1));
        for (n, chunk) in chunks.iter().enumerate() {
            assert_eq!((chunk.first, chunk.last), (n == 0, n + 1 == chunks.len()));
            assert_eq!((chunk.kind, chunk.first_id, chunk.last_id), (DepthKind::Snapshot, 3, 3));
        }
        let prices =
            |all: Vec<Level>| all.iter().map(|l| l.price.units() / 100_000_000).collect::<Vec<_>>();
        let all_bids = chunks.iter().flat_map(|c| c.bids().to_vec()).collect();
        let all_asks = chunks.iter().flat_map(|c| c.asks().to_vec()).collect();
        assert_eq!(prices(all_bids), (0..bids as i64).collect::<Vec<_>>());
        assert_eq!(prices(all_asks), (0..asks as i64).collect::<Vec<_>>());
    }

    #[test]
    fn chunks() {
        for (bids, asks) in
            [(0, 0), (1, 0), (0, 1), (14, 0), (0, 14), (7, 7), (13, 2), (14, 14), (5_000, 5_000)]
        {
            check_chunks(bids, asks);
        }
    }

    #[test]
    fn targets() {
        let (spot, coin) = (market(Flavor::Spot), market(Flavor::CoinM));
        let (btc, perp) = (instrument(0, "BTCUSDT", 8), instrument(1, "ETHUSD_PERP", 8));
        let wide = instrument(2, "１USDT", 8);
        assert_eq!(
            spot.stream_target(&[&btc, &perp]),
            "/stream?streams=btcusdt@depth@100ms/btcusdt@trade/btcusdt@bookTicker\
             /ethusd_perp@depth@100ms/ethusd_perp@trade/ethusd_perp@bookTicker"
        );
        assert_eq!(spot.snapshot_target(&wide), "/api/v3/depth?symbol=%EF%BC%91USDT&limit=5000");
        assert_eq!(coin.snapshot_target(&perp), "/dapi/v1/depth?symbol=ETHUSD_PERP&limit=1000");
        assert_eq!(
            spot.rules_target(&[&btc, &perp]),
            "/api/v3/exchangeInfo?symbols=%5B%22BTCUSDT%22%2C%22ETHUSD_PERP%22%5D"
        );
    }

    fn number() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "[0-9]{1,7}\\.[0-9]{1,8}",
            2 => "[0-9]{1,10}",
            1 => "[0-9]{0,22}\\.?[0-9]{0,14}",
        ]
    }

    fn id() -> impl Strategy<Value = String> {
        prop_oneof![4 => "[1-9][0-9]{0,12}", 1 => "[0-9]{0,21}"]
    }

    fn side() -> impl Strategy<Value = String> {
        proptest::collection::vec((number(), number()), 0..4).prop_map(|levels| {
            let levels: Vec<_> = levels.iter().map(|(p, q)| format!("[\"{p}\",\"{q}\"]")).collect();
            levels.join(",")
        })
    }

    fn symbol() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["BTCUSDT", "ETHUSD_PERP", "ODD", "BTCUSD", "btcusdt", ""])
    }

    // Frames in the venue's form with any numbers in them, right and wrong.
    fn generated() -> impl Strategy<Value = String> {
        let depth = (symbol(), id(), id(), id(), side(), side()).prop_map(|(s, e, first, last, b, a)| {
            format!(r#"{{"e":"depthUpdate","E":{e},"s":"{s}","U":{first},"u":{last},"b":[{b}],"a":[{a}]}}"#)
        });
        let trade = (symbol(), id(), id(), number(), number()).prop_map(|(s, e, t, p, q)| {
            format!(r#"{{"e":"trade","E":{e},"s":"{s}","t":{t},"p":"{p}","q":"{q}","T":{e},"m":false,"M":true}}"#)
        });
        let ticker = (symbol(), id(), number(), number()).prop_map(|(s, u, p, q)| {
            format!(r#"{{"u":{u},"s":"{s}","b":"{p}","B":"{q}","a":"{q}","A":"{p}"}}"#)
        });
        (prop_oneof![depth, trade, ticker], any::<bool>())
            .prop_map(|(payload, wrap)| if wrap { wrapped(&payload) } else { payload })
    }

    // A damaged frame: bytes replaced, removed, doubled or inserted.
    fn mutated() -> impl Strategy<Value = Vec<u8>> {
        let change = (
            any::<Index>(),
            0..4_u8,
            any::<u8>(),
            prop::sample::select(b"0\"\\{}[],.:9 eEuUbB".to_vec()),
        );
        let base =
            prop_oneof![prop::sample::select(ALL.to_vec()).prop_map(str::to_owned), generated()];
        (base, proptest::collection::vec(change, 1..4)).prop_map(|(base, changes)| {
            let mut bytes = base.into_bytes();
            for (at, how, any, likely) in changes {
                if bytes.is_empty() {
                    break;
                }
                let at = at.index(bytes.len());
                match how {
                    0 => bytes[at] = likely,
                    1 => bytes[at] = any,
                    2 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, likely),
                }
            }
            bytes
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn both_readers_agree_on_generated_frames(frame in generated()) {
            let mut market = market(Flavor::Spot);
            let taken = agree(&mut market, frame.as_bytes());
            // And the fast one takes nearly everything that is valid: all but numbers of 19 digits.
            let valid = matches!(market.parse(frame.as_bytes(), stamps()), Ok(Frame::Event(_)));
            let long = frame.split(|c: char| !c.is_ascii_digit()).any(|n| n.len() > 18);
            prop_assert!(taken || !valid || long, "{}", frame);
        }

        #[test]
        fn both_readers_agree_on_damaged_frames(frame in mutated()) {
            agree(&mut market(Flavor::Spot), &frame);
            agree(&mut market(Flavor::CoinM), &frame);
        }

        #[test]
        fn garbage_is_an_error_or_ignored(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut market = market(Flavor::Spot);
            let mut updates = 0;
            let outcome = market.decode(&frame, stamps(), &mut |_| updates += 1);
            prop_assert!(outcome.is_err() || updates == 0);
        }
    }
}
