//! Segments: the files of the journal. Records come in, numbered; files `{first number:020}.jnl` go out.
//!
//! A segment begins with a head that makes it readable alone: who wrote it, the instruments with their decimals,
//! the positions as they were when it began, and the checksum of the record before it. So recovery reads one file,
//! the last. A tail without any whole record in it was torn by a crash: it is cut and its bytes are reported. A bad
//! record with whole ones behind it is damage: an error that names file and offset, never cut.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::clock::UtcNs;
use crate::trading::domain::{Entry, Instrument, Instruments, Record};

use super::head::{CarriedPosition, Head, InstrumentRow};
use super::record::{Decoded, RECORD_BYTES_MAX, RecordError, Stored, decode, encode};

/// Larger files are not read, in bytes: the largest setting, and room for the batch that passes it.
pub const SEGMENT_BYTES_LIMIT: u64 = (1 << 30) + (1 << 20);

/// Why a journal cannot be read or written.
#[derive(Debug)]
pub enum JournalError {
    /// The system's refusal: no space, no permission, a broken disk.
    Io {
        /// What was being done.
        during: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The file is damaged, and not only torn at its end.
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where, in bytes from its beginning.
        offset: u64,
        /// How.
        why: String,
    },
}

impl std::fmt::Display for JournalError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io { during, path, error } => {
                write!(f, "journal: {during} {}: {error}", path.display())
            }
            Self::Corrupt { path, offset, why } => {
                write!(f, "journal corrupt: {} at byte {offset}: {why}", path.display())
            }
        }
    }
}

impl std::error::Error for JournalError {}

/// The segments in `dir`, oldest first, with the number of their first record. No folder means no segments.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(dir: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let io = |error| JournalError::Io { during: "list", path: dir.to_owned(), error };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(io(e)),
    };
    let mut segments = Vec::new();
    for entry in entries {
        let path = entry.map_err(io)?.path();
        if let Some(first) = first_number(&path) {
            segments.push((first, path));
        }
    }
    segments.sort();
    Ok(segments)
}

/// The number in a segment's file name; `None` for other files.
pub(super) fn first_number(path: &Path) -> Option<u64> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".jnl")?;
    if stem.len() != 20 || !stem.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    stem.parse().ok()
}

/// How a segment ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// With its last record.
    Clean,
    /// With bytes that a crash left: from this offset on nothing is whole.
    Torn(u64),
    /// It is damaged at this offset, in this way.
    Corrupt(u64, String),
}

/// A segment that was read.
#[derive(Debug)]
pub struct Scanned {
    /// The head; `None` when it was torn or is damaged.
    pub head: Option<Head>,
    /// Whole records.
    pub records: u64,
    /// The number that the next record would have; meaningful with a head.
    pub next_number: u64,
    /// The checksum of the last record, or what the head says of the one before.
    pub last_crc: u32,
    /// Bytes of the file.
    pub bytes: u64,
    /// How it ends.
    pub end: End,
}

/// Reads a segment and shows every whole record to `visit`, with its offset and the head.
///
/// # Errors
/// Only when the file cannot be read; damage is in [`Scanned::end`].
pub fn scan(
    path: &Path,
    visit: &mut dyn FnMut(u64, &Head, &Decoded),
) -> Result<Scanned, JournalError> {
    let io = |error| JournalError::Io { during: "read", path: path.to_owned(), error };
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    if size > SEGMENT_BYTES_LIMIT {
        return Ok(headless(size, End::Corrupt(0, "larger than any segment".to_owned())));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    // Not beyond the size just seen: the file may be one that is being written.
    file.take(size).read_to_end(&mut bytes).map_err(io)?;
    Ok(scan_bytes(&bytes, first_number(path), visit))
}

fn headless(bytes: u64, end: End) -> Scanned {
    Scanned { head: None, records: 0, next_number: 0, last_crc: 0, bytes, end }
}

fn scan_bytes(
    bytes: &[u8],
    named: Option<u64>,
    visit: &mut dyn FnMut(u64, &Head, &Decoded),
) -> Scanned {
    let (head, mut at) = match Head::decode(bytes) {
        Ok(found) => found,
        Err(RecordError::Short) => return headless(bytes.len() as u64, End::Torn(0)),
        // A crash may leave the length of a file without its bytes.
        Err(_) if bytes.iter().all(|b| *b == 0) => {
            return headless(bytes.len() as u64, End::Torn(0));
        }
        Err(e) => return headless(bytes.len() as u64, End::Corrupt(0, format!("head: {e}"))),
    };
    let first = head.first_number;
    let mut number = first;
    let mut last_crc = head.previous_crc;
    let mut end = End::Clean;
    if named.is_some_and(|named| named != first) {
        end = End::Corrupt(0, format!("the head says {first}, the file name does not"));
    }
    while at < bytes.len() && end == End::Clean {
        match decode(&bytes[at..]) {
            Ok(found) if found.number == number => {
                visit(at as u64, &head, &found);
                number += 1;
                last_crc = found.crc;
                at += found.bytes;
            }
            Ok(found) => {
                end = End::Corrupt(at as u64, format!("record {} follows {number}", found.number));
            }
            Err(why) => end = judge_tail(bytes, at, &why),
        }
    }
    Scanned {
        head: Some(head),
        records: number - first,
        next_number: number,
        last_crc,
        bytes: bytes.len() as u64,
        end,
    }
}

/// Whether the bad record at `at` is where a crash tore the file, or damage with whole records behind it.
fn judge_tail(bytes: &[u8], at: usize, why: &RecordError) -> End {
    let checked = matches!(why, RecordError::Unknown { .. } | RecordError::BadPayload(_));
    // Records begin at multiples of 8, whatever stands between.
    let mut later = (at + 8..bytes.len()).step_by(8);
    if checked || later.any(|offset| decode(&bytes[offset..]).is_ok()) {
        return End::Corrupt(at as u64, why.to_string());
    }
    End::Torn(at as u64)
}

/// What the journal knew at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segments in the folder.
    pub segments: usize,
    /// The number of the last record; 0 for an empty journal.
    pub last_number: u64,
    /// The last number among order and report records of the process that wrote last.
    pub last_seq: u64,
    /// Bytes behind the last whole record; cut when the journal is opened.
    pub torn_bytes: u64,
    /// The instruments with their newest positions.
    pub rows: Vec<InstrumentRow>,
}

impl Recovery {
    /// The newest position of `instrument`, if it ever had one under this name and scale.
    pub fn position_of(&self, instrument: &Instrument) -> Option<CarriedPosition> {
        let wanted = InstrumentRow::of(instrument);
        self.rows.iter().find(|row| row.names_same(&wanted))?.position
    }
}

/// The last segment as a journal goes on from it.
struct Tail {
    path: PathBuf,
    head: Head,
    last_crc: u32,
    /// Bytes up to the end of the last whole record.
    whole_bytes: u64,
    dropped_total: u64,
}

/// Reads what a journal knew at its end, without changing it.
///
/// # Errors
/// When it cannot be read, or its last segment is damaged.
pub fn recover(dir: &Path) -> Result<Recovery, JournalError> {
    let (recovery, _) = read_tail(dir)?;
    Ok(recovery)
}

/// The last segment with a head. Later ones whose head was torn hold nothing; they come along by name.
fn read_tail(dir: &Path) -> Result<(Recovery, Option<Tail>), JournalError> {
    let segments = list(dir)?;
    let mut recovery = Recovery { segments: segments.len(), ..Recovery::default() };
    for (_, path) in segments.iter().rev() {
        let mut rows: Option<Vec<InstrumentRow>> = None;
        let (mut last_seq, mut dropped_total) = (0, None);
        let scanned = scan(path, &mut |_, head, found| {
            let rows = rows.get_or_insert_with(|| head.rows.clone());
            match &found.stored {
                Stored::Entry(entry) => {
                    last_seq = last_seq.max(entry.seq);
                    carry(rows, entry);
                }
                Stored::Hole { dropped_total: total, .. } => dropped_total = Some(*total),
            }
        })?;
        let whole_bytes = match scanned.end {
            End::Corrupt(offset, why) => {
                return Err(JournalError::Corrupt { path: path.clone(), offset, why });
            }
            End::Torn(at) => at,
            End::Clean => scanned.bytes,
        };
        recovery.torn_bytes += scanned.bytes - whole_bytes;
        if let Some(head) = scanned.head {
            recovery.rows = rows.unwrap_or_else(|| head.rows.clone());
            recovery.last_number = scanned.next_number - 1;
            recovery.last_seq = last_seq;
            let tail = Tail {
                path: path.clone(),
                last_crc: scanned.last_crc,
                whole_bytes,
                dropped_total: dropped_total.unwrap_or(head.dropped_total),
                head,
            };
            return Ok((recovery, Some(tail)));
        }
    }
    Ok((recovery, None))
}

/// Keeps the rows' positions as new as the records.
fn carry(rows: &mut [InstrumentRow], entry: &Entry) {
    if let Record::Position { instrument, qty, cost, realized_pnl, fees, last_trade_id } =
        entry.record
        && let Some(row) = rows.get_mut(instrument.index())
    {
        row.position = Some(CarriedPosition { qty, cost, realized_pnl, fees, last_trade_id });
    }
}

/// The open end of a journal: records are staged, then written together.
#[derive(Debug)]
pub struct Segments {
    dir: PathBuf,
    segment_bytes_max: u64,
    path: PathBuf,
    file: File,
    /// Bytes of the open segment.
    bytes: u64,
    /// As the next segment would begin; `first_number` is that of the next record.
    next: Head,
    staged: Vec<u8>,
    opened: u64,
}

impl Segments {
    /// Opens the journal in `dir` for appending and cuts a torn tail. A process begins a segment of its own; a
    /// restart within the process, known by `boot`, goes on with the last one.
    ///
    /// # Errors
    /// When the folder cannot be read or written, or the last segment is damaged.
    pub fn open(
        dir: &Path,
        segment_bytes_max: u64,
        boot: UtcNs,
        instruments: &Instruments,
    ) -> Result<(Self, Recovery), JournalError> {
        let io = |error| JournalError::Io { during: "create", path: dir.to_owned(), error };
        fs::create_dir_all(dir).map_err(io)?;
        let (recovery, tail) = read_tail(dir)?;
        remove_headless(dir, tail.as_ref())?;
        let mut next = Head {
            previous_crc: tail.as_ref().map_or(0, |t| t.last_crc),
            first_number: recovery.last_number + 1,
            boot,
            dropped_total: 0,
            rows: rows_for(instruments, &recovery.rows),
        };
        if let Some(tail) = &tail {
            cut(&tail.path, tail.whole_bytes)?;
        }
        let goes_on = tail.filter(|t| {
            t.head.boot == boot
                && t.head.rows.len() == next.rows.len()
                && t.head.rows.iter().zip(&next.rows).all(|(a, b)| a.names_same(b))
        });
        let (path, file, bytes) = match goes_on {
            Some(tail) => {
                next.dropped_total = tail.dropped_total;
                let file = append_to(&tail.path)?;
                (tail.path, file, tail.whole_bytes)
            }
            None => begin(dir, &next)?,
        };
        let staged = Vec::with_capacity(RECORD_BYTES_MAX * 256);
        let dir = dir.to_owned();
        let journal = Self { dir, segment_bytes_max, path, file, bytes, next, staged, opened: 1 };
        Ok((journal, recovery))
    }

    /// Puts a record behind those staged.
    pub fn stage(&mut self, stored: &Stored) {
        self.next.previous_crc = encode(&mut self.staged, self.next.first_number, stored);
        self.next.first_number += 1;
        match stored {
            Stored::Entry(entry) => carry(&mut self.next.rows, entry),
            Stored::Hole { dropped_total, .. } => self.next.dropped_total = *dropped_total,
        }
    }

    /// Bytes staged and not written.
    pub fn staged_bytes(&self) -> usize {
        self.staged.len()
    }

    /// Writes what is staged, in one piece.
    ///
    /// # Errors
    /// The system's refusal; the segment must then be opened anew, since part of it may be written.
    pub fn write(&mut self) -> Result<(), JournalError> {
        self.file.write_all(&self.staged).map_err(|e| self.io("write", e))?;
        self.bytes += self.staged.len() as u64;
        self.staged.clear();
        Ok(())
    }

    /// Makes what is written durable.
    ///
    /// # Errors
    /// The system's refusal; what was written since the last success may be lost.
    pub fn sync(&mut self) -> Result<(), JournalError> {
        self.file.sync_data().map_err(|e| self.io("fdatasync", e))
    }

    /// Whether the open segment has reached its cap and nothing is staged: time to [`Segments::rotate`]. A segment
    /// passes its cap by at most one batch.
    pub fn is_full(&self) -> bool {
        self.bytes >= self.segment_bytes_max && self.staged.is_empty()
    }

    /// Closes the open segment, durably, and begins the next.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn rotate(&mut self) -> Result<(), JournalError> {
        self.sync()?;
        (self.path, self.file, self.bytes) = begin(&self.dir, &self.next)?;
        self.opened += 1;
        Ok(())
    }

    /// Segments opened so far.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Market records this process has dropped, as far as holes say so.
    pub fn dropped_total(&self) -> u64 {
        self.next.dropped_total
    }

    fn io(&self, during: &'static str, error: io::Error) -> JournalError {
        JournalError::Io { during, path: self.path.clone(), error }
    }
}

/// The rows of a new segment: the instruments in order, then what else has a position.
fn rows_for(instruments: &Instruments, known: &[InstrumentRow]) -> Vec<InstrumentRow> {
    let mut rows: Vec<_> = instruments.iter().map(InstrumentRow::of).collect();
    for old in known.iter().filter(|row| row.position.is_some()) {
        match rows.iter_mut().find(|row| row.names_same(old)) {
            Some(row) => row.position = old.position,
            None => rows.push(*old),
        }
    }
    rows
}

/// Removes segments behind `tail`: their heads were torn, they hold nothing.
fn remove_headless(dir: &Path, tail: Option<&Tail>) -> Result<(), JournalError> {
    for (_, path) in list(dir)?.into_iter().rev() {
        if tail.is_some_and(|t| t.path == path) {
            break;
        }
        fs::remove_file(&path).map_err(|error| JournalError::Io {
            during: "remove",
            path: path.clone(),
            error,
        })?;
    }
    Ok(())
}

/// Cuts a file to its whole records.
fn cut(path: &Path, whole_bytes: u64) -> Result<(), JournalError> {
    let io = |error| JournalError::Io { during: "cut", path: path.to_owned(), error };
    let file = OpenOptions::new().write(true).open(path).map_err(io)?;
    if file.metadata().map_err(io)?.len() == whole_bytes {
        return Ok(());
    }
    file.set_len(whole_bytes).map_err(io)?;
    file.sync_all().map_err(io)
}

fn append_to(path: &Path) -> Result<File, JournalError> {
    let io = |error| JournalError::Io { during: "open", path: path.to_owned(), error };
    OpenOptions::new().append(true).open(path).map_err(io)
}

/// Creates a segment with its head, durably: file first, then the folder that names it.
fn begin(dir: &Path, head: &Head) -> Result<(PathBuf, File, u64), JournalError> {
    let path = dir.join(format!("{:020}.jnl", head.first_number));
    let bytes = head.encode();
    let create = || -> io::Result<File> {
        // Truncates a segment without records that an earlier start left under the same name.
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&path)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        File::open(dir)?.sync_all()?;
        Ok(file)
    };
    let file = create().map_err(|error| JournalError::Io {
        during: "begin",
        path: path.clone(),
        error,
    })?;
    Ok((path, file, bytes.len() as u64))
}
