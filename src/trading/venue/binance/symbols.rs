//! Which instrument a symbol is. Comes in: the engine's instruments. Goes out: an id and the scales of its numbers.
//! Always: spelling counts, case included.

use arrayvec::ArrayString;

use crate::trading::domain::instrument::{NAME_BYTES_MAX, Name};
use crate::trading::domain::{Instrument, InstrumentId};

/// Digits behind the point of every number of Binance Spot (64-bit counts of `10^-8`); the scale of instruments
/// that are not ours but appear on the same account.
pub(super) const FOREIGN_DECIMALS: u8 = 8;

/// An instrument as the decoders need it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Symbol {
    name: Name,
    pub(super) id: InstrumentId,
    pub(super) price_decimals: u8,
    pub(super) qty_decimals: u8,
}

/// The instruments of one venue, sorted by symbol.
#[derive(Clone, Debug)]
pub(super) struct Symbols(Box<[Symbol]>);

impl Symbols {
    pub(super) fn new<'a>(instruments: impl Iterator<Item = &'a Instrument>) -> Self {
        let mut all: Vec<_> = instruments
            .map(|i| Symbol {
                name: i.symbol,
                id: i.id,
                price_decimals: i.price_decimals,
                qty_decimals: i.qty_decimals,
            })
            .collect();
        all.sort_by_key(|s| s.name);
        Self(all.into_boxed_slice())
    }

    /// The instrument with this symbol.
    pub(super) fn find(&self, symbol: &[u8]) -> Option<&Symbol> {
        let at = self.0.binary_search_by(|s| s.name.as_bytes().cmp(symbol)).ok()?;
        self.0.get(at)
    }

    /// The instrument with this id.
    pub(super) fn by_id(&self, id: InstrumentId) -> Option<&Symbol> {
        self.0.iter().find(|s| s.id == id)
    }

    /// Digits of price and quantity in `symbol`, which may be somebody else's.
    pub(super) fn decimals(&self, symbol: &str) -> (u8, u8) {
        match self.find(symbol.as_bytes()) {
            Some(s) => (s.price_decimals, s.qty_decimals),
            None => (FOREIGN_DECIMALS, FOREIGN_DECIMALS),
        }
    }
}

/// `text` as a name; `None` when it is longer than any name.
pub(super) fn name(text: &str) -> Option<Name> {
    ArrayString::<NAME_BYTES_MAX>::from(text).ok()
}
