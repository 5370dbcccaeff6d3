//! How Binance talks about markets. Comes in: stream frames and REST bodies. Goes out: market updates and rules, and
//! the targets to ask for them. Always: a message is given whole or not at all, and no frame makes it panic.

use crate::trading::domain::{
    DepthChunk, DepthKind, Instrument, InstrumentId, Instruments, MarketUpdate, Rules, Stamps,
    VenueId,
};
use crate::trading::limits::{BODY_BYTES_MAX, FRAME_BYTES_MAX};
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

    fn rules_target(&self, instruments: &[&Instrument]) -> String {
        let mut target = format!("{}/exchangeInfo", self.flavor.rest_prefix()).into_bytes();
        // Futures have no such filter.
        if self.flavor == Flavor::Spot && !instruments.is_empty() {
            let symbols: Vec<_> = instruments.iter().map(|i| format!("{:?}", i.symbol)).collect();
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
