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
    let mut at = Cursor { rest: frame };
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
    let mut at = Cursor { rest: body };
    at.expect(b"{\"lastUpdateId\":")?;
    let id = at.number()?;
    at.expect(b",\"bids\":[")?;
    at.levels(symbol, &mut levels.bids)?;
    at.expect(b",\"asks\":[")?;
    at.levels(symbol, &mut levels.asks)?;
    at.expect(b"}")?;
    at.ended().then_some(id)
}

// What is still to be read.
struct Cursor<'a> {
    rest: &'a [u8],
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
    fn touch(&mut self, price: &[u8; 6], qty: &[u8; 6], symbol: &Symbol) -> Option<Level> {
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
        let (price_scale, qty_scale) =
            (Scale::new(symbol.price_decimals), Scale::new(symbol.qty_decimals));
        let mut text = self.rest;
        while into.len() < LEVELS_PER_SIDE_MAX {
            let [b'[', b'"', rest @ ..] = text else { return None };
            let (price, rest) = decimal(rest, &price_scale)?;
            let [b',', b'"', rest @ ..] = rest else { return None };
            let (qty, rest) = decimal(rest, &qty_scale)?;
            into.push(Level { price: Price::from_units(price), qty: Qty::from_units(qty) });
            match rest {
                [b']', b',', rest @ ..] => text = rest,
                [b']', b']', rest @ ..] => {
                    self.rest = rest;
                    return Some(());
                }
                _ => return None,
            }
        }
        None
    }

    fn ended(&self) -> bool {
        self.rest.is_empty()
    }

    // The length is part of the type, so that a comparison is a load or two.
    #[inline]
    fn maybe<const N: usize>(&mut self, text: &[u8; N]) -> bool {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) if head == text => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    #[inline]
    fn expect<const N: usize>(&mut self, text: &[u8; N]) -> Option<()> {
        self.maybe(text).then_some(())
    }

    fn skip_number<const N: usize>(&mut self, key: &[u8; N]) -> Option<()> {
        if self.maybe(key) { self.number().map(|_| ()) } else { Some(()) }
    }

    fn skip_name<const N: usize>(&mut self, key: &[u8; N]) -> Option<()> {
        if self.maybe(key) { self.name().map(|_| ()) } else { Some(()) }
    }

    fn field<const N: usize>(&mut self, key: &[u8; N]) -> Option<u64> {
        self.expect(key)?;
        self.number()
    }

    fn flag<const N: usize>(&mut self, key: &[u8; N]) -> Option<bool> {
        self.expect(key)?;
        self.boolean()
    }

    fn boolean(&mut self) -> Option<bool> {
        let yes = self.maybe(b"true");
        (yes || self.maybe(b"false")).then_some(yes)
    }

    fn symbol<'s, const N: usize>(
        &mut self,
        key: &[u8; N],
        symbols: &'s Symbols,
    ) -> Option<&'s Symbol> {
        self.expect(key)?;
        symbols.find(self.name()?)
    }

    // The rest of a string and its closing quote. Plain ASCII only: escapes and the rest of Unicode are not
    // for here.
    fn name(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|b| matches!(b, b'"' | b'\\' | 0..b' ' | 0x7F..))?;
        let (text, rest) = self.rest.split_at(end);
        let [b'"', rest @ ..] = rest else { return None };
        self.rest = rest;
        Some(text)
    }

    // A decimal number and its closing quote.
    fn decimal(&mut self, decimals: u8) -> Option<i64> {
        let (units, rest) = decimal(self.rest, &Scale::new(decimals))?;
        self.rest = rest;
        Some(units)
    }

    // A JSON number that is a count: at most 18 digits, without leading zeros.
    fn number(&mut self) -> Option<u64> {
        let text = self.rest;
        let (mut value, mut count) = (0, 0);
        while count < DIGITS_MAX {
            let (part, more) = digits(window(&text[count..]));
            let more = more.min(DIGITS_MAX - count);
            if more < 8 {
                // The last digits, one by one: they may be cut off by the limit.
                for &digit in &text[count..count + more] {
                    value = value * 10 + u64::from(digit - b'0');
                }
                count += more;
                break;
            }
            value = value * 100_000_000 + part;
            count += 8;
        }
        let (number, rest) = text.split_at(count);
        self.rest = rest;
        let leading_zero = count > 1 && number.starts_with(b"0");
        let cut = rest.first().is_some_and(u8::is_ascii_digit);
        (count > 0 && !leading_zero && !cut).then_some(value)
    }
}

// How decimals become units of 10^-decimals.
struct Scale {
    decimals: u8,
    // 10^decimals; `None` when that is too much for the short way.
    one: Option<i64>,
}

impl Scale {
    fn new(decimals: u8) -> Self {
        Self { decimals, one: TENS.get(usize::from(decimals)).copied() }
    }
}

// A decimal number in units, and what follows its closing quote.
#[inline(always)]
fn decimal<'a>(text: &'a [u8], scale: &Scale) -> Option<(i64, &'a [u8])> {
    match short_decimal(text, scale) {
        Some(found) => Some(found),
        None => long_decimal(text, scale),
    }
}

// Any number; the way for those that the short one leaves.
#[cold]
fn long_decimal<'a>(text: &'a [u8], scale: &Scale) -> Option<(i64, &'a [u8])> {
    let (number, rest) = text.split_at(memchr(b'"', text)?);
    let units = parse_scaled(number, scale.decimals).ok()?;
    Some((units, rest.get(1..)?))
}

// A number with at most seven digits before and eight behind the point, and the quote: nearly all there are. What it
// looks at lies within 18 bytes, so that there is one check of bounds; the last number of a frame may lack them.
#[inline(always)]
fn short_decimal<'a>(text: &'a [u8], scale: &Scale) -> Option<(i64, &'a [u8])> {
    let one = scale.one?;
    let head = text.first_chunk::<18>()?;
    let (whole, before) = digits(window(head));
    if before == 0 || before > 7 {
        return None;
    }
    let units = whole as i64 * one;
    if head[before] == b'"' {
        return Some((units, &text[before + 1..]));
    }
    if head[before] != b'.' {
        return None;
    }
    let part = window(&head[before + 1..before + 9]) ^ ZEROS;
    let strangers = strangers(part);
    // Spot always has eight digits here. With a branch of its own their number is predicted, and the processor need
    // not count them before it begins the next number; this alone is a fifth of the time of a frame.
    if strangers == 0 {
        if scale.decimals != 8 || head[before + 9] != b'"' {
            return None;
        }
        return Some((units + sum(part) as i64, &text[before + 10..]));
    }
    let behind = (strangers.trailing_zeros() / 8) as usize;
    let missing = usize::from(scale.decimals).checked_sub(behind)?;
    if behind == 0 || head[before + 1 + behind] != b'"' {
        return None;
    }
    let part = sum(part << (64 - 8 * behind)) as i64;
    // Below 10^7 * 10^8 + 10^8, which is far from overflow.
    Some((units + part * TENS[missing], &text[before + behind + 2..]))
}

// What turns digits into their values.
const ZEROS: u64 = 0x3030_3030_3030_3030;

// Has the top bit of the first byte above 9 set, and none before it; a carry can only spoil bytes behind that one.
#[inline(always)]
fn strangers(values: u64) -> u64 {
    (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080
}

// The number that eight digits make, the first one in the lowest byte: added up in pairs, fours and eights.
#[inline(always)]
fn sum(digits: u64) -> u64 {
    let pairs = (digits.wrapping_mul(10).wrapping_add(digits >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = pairs.wrapping_mul(100).wrapping_add(pairs >> 16) & 0x0000_FFFF_0000_FFFF;
    fours.wrapping_mul(10_000).wrapping_add(fours >> 32) & 0xFFFF_FFFF
}

// The value of the digits that `window` begins with, and how many they are; the digits are shifted to the end of the
// register, with zeros before them.
#[inline(always)]
fn digits(window: u64) -> (u64, usize) {
    let values = window ^ ZEROS;
    let count = strangers(values).trailing_zeros() / 8;
    // Two steps, because a shift by all 64 bits is none.
    let half = (8 - count) * 4;
    (sum((values << half) << half), count as usize)
}

// The first eight bytes, zeros beyond the end.
#[inline(always)]
fn window(text: &[u8]) -> u64 {
    if let Some(eight) = text.first_chunk::<8>() {
        return u64::from_le_bytes(*eight);
    }
    let mut eight = [0; 8];
    eight[..text.len()].copy_from_slice(text);
    u64::from_le_bytes(eight)
}
