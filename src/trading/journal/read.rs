//! The journal for people: files in; a verdict, or one line per record, out. Nothing is changed.
//!
//! Damage never stops the reading of the other segments: everything that is wrong is reported, each with its file
//! and offset.

use std::fmt::Display;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::clock::UtcNs;
use crate::trading::domain::{
    Commission, ExecutionReport, InstrumentId, Level, NewOrder, Notional, Record, TopOfBook, Trade,
};

use super::head::{Head, InstrumentRow};
use super::record::{Decoded, Stored};
use super::segment::{End, JournalError, Scanned, list, scan};

/// Digits behind the point of a commission: the domain's fixed scale.
const COMMISSION_DECIMALS: u8 = 8;

/// Something wrong in a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Which file.
    pub path: PathBuf,
    /// Where, in bytes from its beginning.
    pub offset: u64,
    /// What.
    pub why: String,
}

impl Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at byte {}: {}", self.path.display(), self.offset, self.why)
    }
}

/// What a journal is found to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Segments read.
    pub segments: u64,
    /// Whole records.
    pub records: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Number and time of day of the first record.
    pub first: Option<(u64, UtcNs)>,
    /// Number and time of day of the last record.
    pub last: Option<(u64, UtcNs)>,
    /// Bytes behind the last whole record: left by a crash, cut at the next start.
    pub torn_bytes: u64,
    /// Market records that the journal says were dropped.
    pub holes: u64,
    /// What is wrong.
    pub damages: Vec<Damage>,
}

impl VerifyReport {
    /// Whether nothing is wrong; a torn tail is not.
    pub fn is_ok(&self) -> bool {
        self.damages.is_empty()
    }
}

impl Display for VerifyReport {
    /// One line of `key=value`, then one line per damage.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let verdict = if self.is_ok() { "ok" } else { "corrupt" };
        write!(f, "verdict={verdict} segments={} records={}", self.segments, self.records)?;
        write!(f, " bytes={} torn_bytes={} holes={}", self.bytes, self.torn_bytes, self.holes)?;
        if let (Some((first, first_utc)), Some((last, last_utc))) = (self.first, self.last) {
            write!(f, " first={first} first_utc={first_utc} last={last} last_utc={last_utc}")?;
        }
        for damage in &self.damages {
            write!(f, "\ndamage: {damage}")?;
        }
        Ok(())
    }
}

/// Reads a whole journal, or one segment of it, and says what is wrong.
///
/// # Errors
/// When it cannot be read, or there is none.
pub fn verify(path: &Path) -> Result<VerifyReport, JournalError> {
    let mut report = VerifyReport::default();
    let mut chain: Option<(u64, u32)> = None;
    let segments = segments_of(path)?;
    for (index, segment) in segments.iter().enumerate() {
        let scanned = scan(segment, &mut |_, _, found| {
            let (at, hole) = match &found.stored {
                Stored::Entry(entry) => (entry.utc, 0),
                Stored::Hole { utc, dropped, .. } => (*utc, *dropped),
            };
            report.first.get_or_insert((found.number, at));
            report.last = Some((found.number, at));
            report.holes += hole;
        })?;
        report.segments += 1;
        report.records += scanned.records;
        report.bytes += scanned.bytes;
        let mut damage = |offset, why| {
            report.damages.push(Damage { path: segment.clone(), offset, why });
        };
        if let Some(why) = broken_chain(chain, scanned.head.as_ref()) {
            damage(0, why);
        }
        match &scanned.end {
            End::Clean => {}
            // Only the newest segment can be torn: the others were closed, or cut by a later start.
            End::Torn(at) if index + 1 < segments.len() => {
                damage(*at, "torn, though it is not the last segment".to_owned());
            }
            End::Torn(at) => report.torn_bytes += scanned.bytes - at,
            End::Corrupt(at, why) => damage(*at, why.clone()),
        }
        chain = next_link(&scanned);
    }
    Ok(report)
}

/// What the next segment must continue; `None` when this one cannot say.
fn next_link(scanned: &Scanned) -> Option<(u64, u32)> {
    let known = scanned.head.is_some() && scanned.end == End::Clean;
    known.then_some((scanned.next_number, scanned.last_crc))
}

fn broken_chain(chain: Option<(u64, u32)>, head: Option<&Head>) -> Option<String> {
    let (number, crc) = chain?;
    let head = head?;
    if head.first_number != number {
        return Some(format!("begins with record {}, {number} is missing", head.first_number));
    }
    (head.previous_crc != crc).then(|| "does not continue the segment before it".to_owned())
}

fn segments_of(path: &Path) -> Result<Vec<PathBuf>, JournalError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let segments: Vec<_> = list(path)?.into_iter().map(|(_, path)| path).collect();
    if segments.is_empty() {
        let error = io::Error::new(io::ErrorKind::NotFound, "no journal segments");
        return Err(JournalError::Io { during: "find", path: path.to_owned(), error });
    }
    Ok(segments)
}

/// Writes one line per record to `out`: `key=value` text, or JSON objects with the same keys. Numbers that carry
/// decimals are text in both. The number of lines is returned; a broken pipe ends the dump without an error.
///
/// # Errors
/// When the journal cannot be read, is damaged (after the last record before the damage), or `out` refuses.
pub fn dump(path: &Path, out: &mut dyn Write, json: bool) -> Result<u64, JournalError> {
    let mut lines = 0;
    let mut line = String::new();
    for segment in segments_of(path)? {
        let mut refused: Option<io::Error> = None;
        let scanned = scan(&segment, &mut |_, head, found| {
            if refused.is_some() {
                return;
            }
            line.clear();
            let mut fields = Fields { line: &mut line, json, rows: &head.rows };
            fields.record(found);
            match out.write_all(line.as_bytes()) {
                Ok(()) => lines += 1,
                Err(e) => refused = Some(e),
            }
        })?;
        match refused {
            Some(e) if e.kind() == io::ErrorKind::BrokenPipe => return Ok(lines),
            Some(error) => return Err(JournalError::Io { during: "dump", path: segment, error }),
            None => {}
        }
        if let End::Corrupt(offset, why) = scanned.end {
            return Err(JournalError::Corrupt { path: segment, offset, why });
        }
    }
    Ok(lines)
}

/// One line under construction.
struct Fields<'a> {
    line: &'a mut String,
    json: bool,
    rows: &'a [InstrumentRow],
}

impl Fields<'_> {
    fn record(&mut self, found: &Decoded) {
        self.line.push_str(if self.json { "{" } else { "" });
        self.number("number", found.number);
        match &found.stored {
            Stored::Entry(entry) => {
                self.text("utc", entry.utc);
                self.number("at_ns", entry.at.as_nanos());
                if entry.seq > 0 {
                    self.number("seq", entry.seq);
                }
                self.body(&entry.record);
            }
            Stored::Hole { at, utc, dropped, dropped_total } => {
                self.text("utc", utc);
                self.number("at_ns", at.as_nanos());
                self.text("kind", "hole");
                self.number("dropped", dropped);
                self.number("dropped_total", dropped_total);
            }
        }
        self.line.push_str(if self.json { "}\n" } else { "\n" });
    }

    fn body(&mut self, record: &Record) {
        match record {
            Record::Order { order, client_order_id, new } => {
                self.text("kind", "order");
                self.text("order", order);
                self.text("client_order_id", client_order_id);
                self.new_order(new);
            }
            Record::Cancel { instrument, order, client_order_id } => {
                self.text("kind", "cancel");
                self.instrument(*instrument);
                self.text("order", order);
                self.text("client_order_id", client_order_id);
            }
            Record::Report(report) => self.report(report),
            Record::Position { instrument, qty, cost, realized_pnl, fees, last_trade_id } => {
                self.text("kind", "position");
                self.instrument(*instrument);
                let (price, quantity) = self.decimals(*instrument);
                self.text("qty", qty.display(quantity));
                let decimals = price.saturating_add(quantity);
                self.text("cost", cost.display(decimals));
                self.text("realized_pnl", realized_pnl.display(decimals));
                self.text("fees", fees.display(decimals));
                self.number("last_trade_id", last_trade_id);
            }
            Record::Top(top) => self.top(top),
            Record::Trade(trade) => self.trade(trade),
            Record::Trading { enabled } => {
                self.text("kind", "trading");
                self.number("enabled", enabled);
            }
        }
    }

    fn new_order(&mut self, new: &NewOrder) {
        let (price, qty) = self.decimals(new.instrument);
        self.instrument(new.instrument);
        self.text("side", new.side.label());
        self.text("order_kind", snake(new.kind));
        self.text("tif", snake(new.tif));
        self.text("price", new.price.display(price));
        self.text("qty", new.qty.display(qty));
    }

    fn report(&mut self, report: &ExecutionReport) {
        let (price, qty) = self.decimals(report.instrument);
        self.text("kind", "report");
        self.instrument(report.instrument);
        self.text("order", report.order);
        self.text("client_order_id", report.client_order_id);
        self.number("venue_order_id", report.venue_order_id);
        self.text("exec", snake(report.exec));
        self.text("status", report.status.label());
        self.text("side", report.side.label());
        self.text("price", report.price.display(price));
        self.text("qty", report.qty.display(qty));
        self.text("cum_qty", report.cum_qty.display(qty));
        self.text("leaves_qty", report.leaves_qty.display(qty));
        self.text("last_qty", report.last_qty.display(qty));
        self.text("last_price", report.last_price.display(price));
        self.number("trade_id", report.trade_id);
        self.commission(&report.commission);
        if let Some(reason) = report.reason {
            self.text("reason", reason.label());
            self.number("venue_code", report.venue_code);
        }
        self.text("venue_utc", report.venue_utc);
        self.number("recv_ns", report.recv.as_nanos());
    }

    fn commission(&mut self, commission: &Commission) {
        let units = i128::from(commission.amount);
        let amount = Notional::from_units(units);
        self.text("commission", amount.display(COMMISSION_DECIMALS));
        self.text("commission_asset", commission.asset);
    }

    fn top(&mut self, top: &TopOfBook) {
        self.text("kind", "top");
        self.instrument(top.instrument);
        self.text("state", top.state.label());
        self.number("update_id", top.update_id);
        self.level(top.instrument, ("bid", "bid_qty"), top.bid);
        self.level(top.instrument, ("ask", "ask_qty"), top.ask);
        self.text("venue_utc", top.stamps.venue_utc);
        self.number("recv_ns", top.stamps.recv.as_nanos());
        self.number("booked_ns", top.booked.as_nanos());
    }

    fn level(
        &mut self,
        instrument: InstrumentId,
        keys: (&'static str, &'static str),
        level: Option<Level>,
    ) {
        let (price, qty) = self.decimals(instrument);
        if let Some(level) = level {
            self.text(keys.0, level.price.display(price));
            self.text(keys.1, level.qty.display(qty));
        }
    }

    fn trade(&mut self, trade: &Trade) {
        let (price, qty) = self.decimals(trade.instrument);
        self.text("kind", "trade");
        self.instrument(trade.instrument);
        self.number("trade_id", trade.id);
        self.text("price", trade.price.display(price));
        self.text("qty", trade.qty.display(qty));
        self.number("buyer_is_maker", trade.buyer_is_maker);
        self.text("venue_utc", trade.stamps.venue_utc);
        self.number("recv_ns", trade.stamps.recv.as_nanos());
    }

    /// The instrument as `venue:symbol`; as `#index` where the head does not name it.
    fn instrument(&mut self, id: InstrumentId) {
        match self.rows.get(id.index()) {
            Some(row) => self.text("instrument", format_args!("{}:{}", row.venue, row.symbol)),
            None => self.text("instrument", format_args!("#{}", id.0)),
        }
    }

    /// Decimals of price and quantity; none where the head does not name the instrument.
    fn decimals(&self, id: InstrumentId) -> (u8, u8) {
        // A printable scale, whatever a damaged head says: 10^38 is the largest that fits.
        let bound = |decimals: u8| decimals.min(18);
        self.rows
            .get(id.index())
            .map_or((0, 0), |row| (bound(row.price_decimals), bound(row.qty_decimals)))
    }

    fn key(&mut self, key: &'static str) {
        let first = self.line.is_empty() || self.line == "{";
        match (self.json, first) {
            (true, true) => {}
            (true, false) => self.line.push(','),
            (false, true) => {}
            (false, false) => self.line.push(' '),
        }
        if self.json {
            self.line.push('"');
            self.line.push_str(key);
            self.line.push_str("\":");
        } else {
            self.line.push_str(key);
            self.line.push('=');
        }
    }

    /// A number or truth value: the same in both forms.
    fn number(&mut self, key: &'static str, value: impl Display) {
        use std::fmt::Write as _;
        self.key(key);
        // Writing to a string does not fail.
        let _ = write!(self.line, "{value}");
    }

    /// A text: quoted in JSON, and in text where it would not read back as one word.
    fn text(&mut self, key: &'static str, value: impl Display) {
        self.key(key);
        let value = value.to_string();
        let plain = !value.is_empty()
            && value.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'=');
        if plain && !self.json {
            self.line.push_str(&value);
        } else {
            self.line.push_str(&serde_json::Value::from(value).to_string());
        }
    }
}

/// The name of a variant in the spelling of status and logs: `LimitMaker` as `limit_maker`.
fn snake(variant: impl std::fmt::Debug) -> String {
    let mut out = String::new();
    for c in format!("{variant:?}").chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
