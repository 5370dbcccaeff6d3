//! The hot half of the market decoder: one pass over the three frames that make up nearly all traffic, written the
//! way the venue writes them (key order, no white space). Comes in: a frame. Goes out: the event, or `None` for
//! *anything* unusual, right or wrong; the careful reader in `parse` then has the word. Always: what is accepted
//! here is what `parse` would have made of it (a property test holds this), and nothing is allocated once the level
//! buffers have grown.

use memchr::memchr;

use crate::trading::domain::decimal::parse_scaled;
use crate::trading::domain::{BookTicker, Level, Price, Qty, Stamps, Trade};

use super::depth::{LEVELS_PER_SIDE_MAX, Levels};
use super::event::{DepthHead, Event, utc};
use super::symbols::{Symbol, Symbols};

/// Digits of the integers that are read here; a u64 holds all numbers of so many.
const DIGITS_MAX: usize = 18;

/// Powers of ten for scales up to eight digits.
const TENS: [i64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// Reads one frame of the market stream, combined or raw.
pub(super) fn event(
    frame: &[u8],
    symbols: &Symbols,
    stamps: Stamps,
    levels: &mut Levels,
) -> Option<Event> {
    let mut at = Cursor { bytes: frame, at: 0 };
    let wrapped = at.maybe(b"{\"stream\":\"");
    if wrapped {
        at.name()?;
        at.expect(b",\"data\":")?;
    }
    let event = if at.maybe(b"{\"e\":\"depthUpdate\",\"E\":") {
        at.depth(symbols, levels)
    } else if at.maybe(b"{\"e\":\"trade\",\"E\":") {
        at.trade(symbols, stamps)
    } else if at.maybe(b"{\"u\":") {
        at.ticker(symbols, stamps, false)
    } else if at.maybe(b"{\"e\":\"bookTicker\",\"u\":") {
        at.ticker(symbols, stamps, true)
    } else {
        None
    }?;
    if wrapped {
        at.expect(b"}")?;
    }
    at.ended().then_some(event)
}

/// Reads a REST depth snapshot of `symbol` as Spot writes it; gives its update id.
pub(super) fn snapshot(body: &[u8], symbol: &Symbol, levels: &mut Levels) -> Option<u64> {
    let mut at = Cursor { bytes: body, at: 0 };
    at.expect(b"{\"lastUpdateId\":")?;
    let id = at.number()?;
    at.expect(b",\"bids\":[")?;
    at.levels(symbol, &mut levels.bids)?;
    at.expect(b",\"asks\":[")?;
    at.levels(symbol, &mut levels.asks)?;
    at.expect(b"}")?;
    at.ended().then_some(id)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    // From `{"e":"depthUpdate","E":` to the closing brace.
    fn depth(&mut self, symbols: &Symbols, levels: &mut Levels) -> Option<Event> {
        let time = self.number()?;
        self.skip_number(b",\"T\":")?;
        let symbol = self.symbol(b",\"s\":\"", symbols)?;
        self.skip_name(b",\"ps\":\"")?;
        let first_id = self.field(b",\"U\":")?;
        let last_id = self.field(b",\"u\":")?;
        let prev_id = if self.maybe(b",\"pu\":") { Some(self.number()?) } else { None };
        self.expect(b",\"b\":[")?;
        self.levels(symbol, &mut levels.bids)?;
        self.expect(b",\"a\":[")?;
        self.levels(symbol, &mut levels.asks)?;
        self.expect(b"}")?;
        let venue_utc = utc(time);
        Some(Event::Depth(DepthHead {
            instrument: symbol.id,
            first_id,
            last_id,
            prev_id,
            venue_utc,
        }))
    }

    // From `{"e":"trade","E":` to the closing brace.
    fn trade(&mut self, symbols: &Symbols, stamps: Stamps) -> Option<Event> {
        let time = self.number()?;
        self.skip_number(b",\"T\":")?;
        let symbol = self.symbol(b",\"s\":\"", symbols)?;
        let id = self.field(b",\"t\":")?;
        self.expect(b",\"p\":\"")?;
        let price = Price::from_units(self.decimal(symbol.price_decimals)?);
        self.expect(b",\"q\":\"")?;
        let qty = Qty::from_units(self.decimal(symbol.qty_decimals)?);
        // Spot has its time of trade here; futures have it above and name the kind of trade here. One that has
        // both twice is not read here.
        if !self.maybe(b",\"X\":\"MARKET\"") {
            self.field(b",\"T\":")?;
        }
        let buyer_is_maker = self.flag(b",\"m\":")?;
        if self.maybe(b",\"M\":") {
            self.boolean()?;
        }
        self.expect(b"}")?;
        let stamps = Stamps { venue_utc: utc(time), ..stamps };
        Some(Event::Trade(Trade { instrument: symbol.id, id, price, qty, buyer_is_maker, stamps }))
    }

    // From `{"u":` (or `{"e":"bookTicker","u":`, when `named`) to the closing brace.
    fn ticker(&mut self, symbols: &Symbols, stamps: Stamps, named: bool) -> Option<Event> {
        let update_id = self.number()?;
        if !named {
            self.maybe(b",\"e\":\"bookTicker\"");
        }
        let symbol = self.symbol(b",\"s\":\"", symbols)?;
        self.skip_name(b",\"ps\":\"")?;
        let bid = self.touch(b",\"b\":\"", b",\"B\":\"", symbol)?;
        let ask = self.touch(b",\"a\":\"", b",\"A\":\"", symbol)?;
        let mut stamps = stamps;
        if self.maybe(b",\"T\":") {
            self.number()?;
            stamps.venue_utc = utc(self.field(b",\"E\":")?);
        }
        self.expect(b"}")?;
        let instrument = symbol.id;
        Some(Event::Ticker(BookTicker { instrument, update_id, bid, ask, stamps }))
    }

    // A price and a quantity behind their keys.
    fn touch(&mut self, price: &[u8], qty: &[u8], symbol: &Symbol) -> Option<Level> {
        self.expect(price)?;
        let price = Price::from_units(self.decimal(symbol.price_decimals)?);
        self.expect(qty)?;
        let qty = Qty::from_units(self.decimal(symbol.qty_decimals)?);
        Some(Level { price, qty })
    }

    // Levels up to the closing bracket; the opening one is behind us.
    fn levels(&mut self, symbol: &Symbol, into: &mut Vec<Level>) -> Option<()> {
        if self.maybe(b"]") {
            return Some(());
        }
        while into.len() < LEVELS_PER_SIDE_MAX {
            self.expect(b"[\"")?;
            let price = Price::from_units(self.decimal(symbol.price_decimals)?);
            self.expect(b",\"")?;
            let qty = Qty::from_units(self.decimal(symbol.qty_decimals)?);
            into.push(Level { price, qty });
            if self.maybe(b"],") {
                continue;
            }
            return self.expect(b"]]");
        }
        None
    }

    fn ended(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    #[inline]
    fn maybe(&mut self, text: &[u8]) -> bool {
        let is = self.rest().starts_with(text);
        self.at += if is { text.len() } else { 0 };
        is
    }

    #[inline]
    fn expect(&mut self, text: &[u8]) -> Option<()> {
        self.maybe(text).then_some(())
    }

    fn skip_number(&mut self, key: &[u8]) -> Option<()> {
        if self.maybe(key) { self.number().map(|_| ()) } else { Some(()) }
    }

    fn skip_name(&mut self, key: &[u8]) -> Option<()> {
        if self.maybe(key) { self.name().map(|_| ()) } else { Some(()) }
    }

    fn field(&mut self, key: &[u8]) -> Option<u64> {
        self.expect(key)?;
        self.number()
    }

    fn flag(&mut self, key: &[u8]) -> Option<bool> {
        self.expect(key)?;
        self.boolean()
    }

    fn boolean(&mut self) -> Option<bool> {
        let yes = self.maybe(b"true");
        (yes || self.maybe(b"false")).then_some(yes)
    }

    fn symbol<'s>(&mut self, key: &[u8], symbols: &'s Symbols) -> Option<&'s Symbol> {
        self.expect(key)?;
        symbols.find(self.name()?)
    }

    // The rest of a string and its closing quote. Plain ASCII only: escapes and the rest of Unicode are not
    // for here.
    fn name(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest();
        let text = rest.get(..memchr(b'"', rest)?)?;
        self.at += text.len() + 1;
        let plain = text.iter().all(|b| (b' '..=b'~').contains(b) && *b != b'\\');
        plain.then_some(text)
    }

    // A JSON number that is a count: digits without leading zeros.
    fn number(&mut self) -> Option<u64> {
        let start = self.at;
        let mut value = 0;
        loop {
            let (part, digits) = self.digits();
            // At most 18 digits are taken, see below, so that this cannot overflow.
            value = value * TENS[digits] as u64 + part;
            if self.at - start > DIGITS_MAX {
                return None;
            }
            if digits < 8 {
                break;
            }
            if self.at - start > DIGITS_MAX - 8 {
                return self.last_digits(start, value);
            }
        }
        self.checked(start, value)
    }

    // As `number`, near the most digits that fit.
    fn last_digits(&mut self, start: usize, mut value: u64) -> Option<u64> {
        while let Some(digit @ b'0'..=b'9') = self.bytes.get(self.at) {
            value = value * 10 + u64::from(digit - b'0');
            self.at += 1;
            if self.at - start > DIGITS_MAX {
                return None;
            }
        }
        self.checked(start, value)
    }

    fn checked(&self, start: usize, value: u64) -> Option<u64> {
        let text = self.bytes.get(start..self.at)?;
        let leading_zero = text.len() > 1 && text.first() == Some(&b'0');
        (!text.is_empty() && !leading_zero).then_some(value)
    }

    // A decimal number in units of 10^-decimals, and its closing quote.
    #[inline]
    fn decimal(&mut self, decimals: u8) -> Option<i64> {
        let start = self.at;
        if let Some(units) = self.short_decimal(decimals) {
            return Some(units);
        }
        self.at = start;
        let rest = self.rest();
        let text = rest.get(..memchr(b'"', rest)?)?;
        self.at += text.len() + 1;
        parse_scaled(text, decimals).ok()
    }

    // As `decimal`, for at most eight digits on either side of the point: nearly all there are.
    #[inline]
    fn short_decimal(&mut self, decimals: u8) -> Option<i64> {
        let scale = *TENS.get(usize::from(decimals))?;
        let (whole, before) = self.digits();
        let mut units = whole as i64 * scale;
        if before == 0 {
            return None;
        }
        if self.maybe(b".") {
            let (part, behind) = self.digits();
            let missing = usize::from(decimals).checked_sub(behind)?;
            if behind == 0 {
                return None;
            }
            units += part as i64 * TENS[missing];
        }
        self.expect(b"\"")?;
        Some(units)
    }

    // The value of the next digits, at most eight, and how many they are. Eight bytes at a time in one register:
    // find the first byte that is no digit, shift what is before it to the top, add up in pairs, fours and eights.
    #[inline]
    fn digits(&mut self) -> (u64, usize) {
        const ZEROS: u64 = 0x3030_3030_3030_3030;
        let values = self.window() ^ ZEROS;
        // A byte above 9 gets its top bit; a carry can only spoil bytes behind the first such byte.
        let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
        let count = (others.trailing_zeros() / 8) as usize;
        if count == 0 {
            return (0, 0);
        }
        self.at += count;
        let digits = values << (64 - 8 * count);
        let pairs = (digits.wrapping_mul(10).wrapping_add(digits >> 8)) & 0x00FF_00FF_00FF_00FF;
        let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_FFFF_0000_FFFF;
        let eight = fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xFFFF_FFFF;
        (eight, count)
    }

    // The next eight bytes, zeros beyond the end.
    #[inline]
    fn window(&self) -> u64 {
        let rest = self.rest();
        if let Some(eight) = rest.first_chunk::<8>() {
            return u64::from_le_bytes(*eight);
        }
        let mut eight = [0; 8];
        eight[..rest.len()].copy_from_slice(rest);
        u64::from_le_bytes(eight)
    }
}
