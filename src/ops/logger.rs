//! The logger: records come in on any thread, lines go out to standard error; nobody ever waits for the reader.
//!
//! A line is formatted on the caller's thread into a reused buffer and offered to a bounded channel; when that is
//! full the line is dropped and counted, and a later line says how many: `event=log.dropped n=...`. One thread
//! writes. What always holds: one line per event, UTC with microseconds, control characters escaped, and no call
//! here blocks for longer than the caller allows.
//!
//! ```text
//! 2026-11-22T05:30:00.123456Z INFO  supervisor event=actor.exit actor=book-binance gen=4 kind=panic
//! ```
//!
//! Callers write `key=value` words into the message or use the key-value pairs of `log`; in JSON both become keys.

use std::fmt::Write as _;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use crossbeam_queue::ArrayQueue;
use log::kv::{Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::clock::{Clock, UtcNs};

/// Lines that may wait for the writer: some seconds of the busiest start-up.
const LINES_MAX: usize = 4_096;

/// Buffers kept for reuse, and their size in bytes when they are new.
const SPARE_LINES: usize = 64;
const LINE_BYTES: usize = 512;

/// A longer message or value is cut, in bytes: it is no line for people any more.
const TEXT_BYTES_MAX: usize = 4_096;

/// The writer looks up from an empty channel this often; it wakes at once for a line.
const WRITER_WAIT: Duration = Duration::from_secs(60);

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `time LEVEL target message key=value`.
    #[default]
    Text,
    /// One JSON object with the same keys.
    Json,
}

/// What is written and how.
#[derive(Clone, Copy, Debug)]
pub struct LogSettings {
    /// The least urgent level written. Other crates are written from warnings on, whatever this says.
    pub level: LevelFilter,
    /// How a line looks.
    pub format: LogFormat,
    /// Whether lines begin with the priority that systemd's journal understands, such as `<4>`. Text only.
    pub priority_prefix: bool,
    /// Lines that may wait for the writer.
    pub lines_max: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        let lines_max = LINES_MAX;
        Self {
            level: LevelFilter::Info,
            format: LogFormat::Text,
            priority_prefix: false,
            lines_max,
        }
    }
}

/// The logger; clones are one logger.
#[derive(Clone)]
pub struct Logger(Arc<Shared>);

struct Shared {
    settings: LogSettings,
    /// The least urgent level written now, as a number; the one of the settings until it is changed.
    level: AtomicUsize,
    clock: Clock,
    lines: Sender<String>,
    /// Hears that the writer has caught up.
    idle: Receiver<()>,
    tally: Arc<Tally>,
}

/// What the callers and the writer share.
struct Tally {
    /// Lines put into the channel.
    handed: AtomicU64,
    /// Lines written, or given up because the sink refused them.
    written: AtomicU64,
    /// Lines dropped since a line said so.
    dropped: AtomicU64,
    spare: ArrayQueue<String>,
}

impl Logger {
    /// A logger into `sink`. `spawn` runs the writer on a thread of its own, which ends with the last clone.
    pub fn start(
        settings: LogSettings,
        clock: Clock,
        sink: Box<dyn Write + Send>,
        spawn: impl FnOnce(Box<dyn FnOnce() + Send>),
    ) -> Self {
        let (lines, waiting) = bounded(settings.lines_max.max(1));
        let (caught_up, idle) = bounded(1);
        let tally = Arc::new(Tally {
            handed: AtomicU64::new(0),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            spare: ArrayQueue::new(SPARE_LINES),
        });
        let mut writer = Writer {
            settings,
            clock: clock.clone(),
            sink,
            waiting,
            caught_up,
            tally: Arc::clone(&tally),
        };
        spawn(Box::new(move || writer.run()));
        let level = AtomicUsize::new(settings.level as usize);
        Self(Arc::new(Shared { settings, level, clock, lines, idle, tally }))
    }

    /// Makes this the process's logger.
    ///
    /// # Errors
    /// When there is one already.
    pub fn install(&self) -> Result<(), log::SetLoggerError> {
        log::set_boxed_logger(Box::new(self.clone()))?;
        log::set_max_level(self.level());
        Ok(())
    }

    /// Changes the least urgent level written, here and where the process asks.
    pub fn set_level(&self, level: LevelFilter) {
        self.0.level.store(level as usize, Ordering::Relaxed);
        log::set_max_level(level);
    }

    fn level(&self) -> LevelFilter {
        let number = self.0.level.load(Ordering::Relaxed);
        LevelFilter::iter().nth(number).unwrap_or(self.0.settings.level)
    }

    /// Waits until every line handed over so far is written, for at most `limit`; whether it was done in time. A sink
    /// that nobody reads costs `limit` and no more.
    pub fn flush_within(&self, limit: Duration) -> bool {
        let Shared { idle, tally, .. } = &*self.0;
        let wanted = tally.handed.load(Ordering::Acquire);
        let deadline = crossbeam_channel::after(limit);
        while tally.written.load(Ordering::Acquire) < wanted {
            crossbeam_channel::select! {
                recv(idle) -> heard => if heard.is_err() {
                    return false;
                },
                recv(deadline) -> _ => return tally.written.load(Ordering::Acquire) >= wanted,
            }
        }
        true
    }

    /// Lines dropped that no line has told of yet.
    pub fn dropped(&self) -> u64 {
        self.0.tally.dropped.load(Ordering::Relaxed)
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let level = self.level();
        let limit =
            if is_foreign(metadata.target()) { level.min(LevelFilter::Warn) } else { level };
        metadata.level() <= limit
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let Shared { settings, clock, lines, tally, .. } = &*self.0;
        let mut line = tally.spare.pop().unwrap_or_else(|| String::with_capacity(LINE_BYTES));
        line.clear();
        format_record(&mut line, settings, clock.utc(), record);
        // Counted before the writer can see it, so that a flush waits for it.
        tally.handed.fetch_add(1, Ordering::AcqRel);
        if let Err(TrySendError::Full(line) | TrySendError::Disconnected(line)) =
            lines.try_send(line)
        {
            tally.written.fetch_add(1, Ordering::AcqRel);
            tally.dropped.fetch_add(1, Ordering::Relaxed);
            // A full pool frees the buffer.
            let _ = tally.spare.push(line);
        }
    }

    /// Does nothing: waiting needs a deadline. See [`Logger::flush_within`].
    fn flush(&self) {}
}

/// Whether standard error is a stream into systemd's journal, which then reads priorities: the variable
/// `JOURNAL_STREAM` names its device and inode. A copy of the variable in another session does not count.
pub fn stderr_is_journal() -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = rustix::fs::fstat(std::io::stderr()) else { return false };
    named == format!("{}:{}", stat.st_dev, stat.st_ino)
}

/// Whether the target is another crate's module path, whose words may quote requests.
fn is_foreign(target: &str) -> bool {
    let root = target.split("::").next().unwrap_or(target);
    ["tungstenite", "ureq", "ureq_proto", "rustls", "webpki", "signal_hook"].contains(&root)
}

struct Writer {
    settings: LogSettings,
    clock: Clock,
    sink: Box<dyn Write + Send>,
    waiting: Receiver<String>,
    caught_up: Sender<()>,
    tally: Arc<Tally>,
}

impl Writer {
    fn run(&mut self) {
        loop {
            match self.waiting.recv_timeout(WRITER_WAIT) {
                Ok(line) => self.write(line),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.waiting.is_empty() {
                self.tell_dropped();
                // A full channel means that the last word was not heard yet: it will do.
                let _ = self.caught_up.try_send(());
            }
        }
    }

    fn write(&mut self, line: String) {
        // There is nowhere to complain to when standard error is gone.
        let _ = self.sink.write_all(line.as_bytes());
        self.tally.written.fetch_add(1, Ordering::AcqRel);
        let _ = self.tally.spare.push(line);
    }

    fn tell_dropped(&mut self) {
        let n = self.tally.dropped.swap(0, Ordering::Relaxed);
        if n == 0 {
            return;
        }
        let mut line = String::new();
        let args = format!("event=log.dropped n={n}");
        begin_line(&mut line, &self.settings, self.clock.utc(), Level::Warn, "log");
        add_message(&mut line, self.settings.format, &args);
        end_line(&mut line, self.settings.format);
        let _ = self.sink.write_all(line.as_bytes());
    }
}

fn format_record(line: &mut String, settings: &LogSettings, utc: UtcNs, record: &Record<'_>) {
    begin_line(line, settings, utc, record.level(), short_target(record.target()));
    match record.args().as_str() {
        Some(message) => add_message(line, settings.format, message),
        None => add_message(line, settings.format, &record.args().to_string()),
    }
    let mut pairs = Pairs { line, format: settings.format };
    // The visitor below never fails.
    let _ = record.key_values().visit(&mut pairs);
    end_line(line, settings.format);
}

/// The last word of a module path of ours: `supervisor` for `pindrop::runtime::supervisor`.
fn short_target(target: &str) -> &str {
    target.rsplit("::").next().unwrap_or(target)
}

fn begin_line(line: &mut String, settings: &LogSettings, utc: UtcNs, level: Level, target: &str) {
    // Writing to a string does not fail, here and below.
    let _ = match settings.format {
        LogFormat::Text => {
            let prefix = if settings.priority_prefix { priority(level) } else { "" };
            write!(line, "{prefix}{utc} {level:<5} {target}")
        }
        LogFormat::Json => write!(line, "{{\"time\":\"{utc}\",\"level\":\"{level}\",\"target\":")
            .and_then(|()| write!(line, "{}", json_text(target))),
    };
}

fn end_line(line: &mut String, format: LogFormat) {
    line.push_str(if format == LogFormat::Json { "}\n" } else { "\n" });
}

/// The syslog priority of a level, as systemd's journal reads it.
fn priority(level: Level) -> &'static str {
    match level {
        Level::Error => "<3>",
        Level::Warn => "<4>",
        Level::Info => "<6>",
        Level::Debug | Level::Trace => "<7>",
    }
}

fn add_message(line: &mut String, format: LogFormat, message: &str) {
    let message = cut(message);
    if message.is_empty() {
        return;
    }
    match format {
        LogFormat::Text => {
            line.push(' ');
            escape_controls(line, message);
        }
        LogFormat::Json => match words(message) {
            Some(pairs) => {
                for (key, value) in pairs {
                    let _ = write!(line, ",{}:{}", json_text(key), json_text(&value));
                }
            }
            None => {
                let _ = write!(line, ",\"msg\":{}", json_text(message));
            }
        },
    }
}

/// The pairs of a message that consists of nothing but `key=value` words; values may be quoted.
fn words(message: &str) -> Option<Vec<(&str, String)>> {
    let mut pairs = Vec::new();
    let mut rest = message.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=')?;
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        {
            return None;
        }
        let (value, after) = take_value(after)?;
        pairs.push((key, value));
        rest = after.trim_start();
    }
    (!pairs.is_empty()).then_some(pairs)
}

/// A word, or a text between quotes with backslash escapes, and what follows it.
fn take_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(char::is_whitespace).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                other => value.push(other),
            },
            c => value.push(c),
        }
    }
    None
}

struct Pairs<'a> {
    line: &'a mut String,
    format: LogFormat,
}

impl<'kvs> VisitSource<'kvs> for Pairs<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        let text = value.to_string();
        let text = cut(&text);
        let _ = match self.format {
            LogFormat::Json => {
                write!(self.line, ",{}:{}", json_text(key.as_str()), json_text(text))
            }
            LogFormat::Text => {
                let _ = write!(self.line, " {key}=");
                add_value(self.line, text);
                Ok(())
            }
        };
        Ok(())
    }
}

/// A value as one word, quoted where it would not read back as one.
fn add_value(line: &mut String, value: &str) {
    let plain = !value.is_empty()
        && !value.contains(|c: char| c.is_whitespace() || c.is_control() || "\"=\\".contains(c));
    if plain {
        return escape_controls(line, value);
    }
    line.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            c => escape_controls(line, c.encode_utf8(&mut [0; 4])),
        }
    }
    line.push('"');
}

/// Control characters and those that turn the reading direction are made visible: a line is a line.
fn escape_controls(line: &mut String, text: &str) {
    for c in text.chars() {
        let turns = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            c if c.is_control() || turns => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
    }
}

fn json_text(text: &str) -> serde_json::Value {
    serde_json::Value::from(text)
}

/// At most [`TEXT_BYTES_MAX`] bytes of `text`, whole characters.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(TEXT_BYTES_MAX)]
}
