//! The supervisor's log: what it did and why, one line per event, with stable names.
//!
//! Every event goes to the log under the target `supervisor`, into a bounded ring for the ops page, and to the
//! system's `on_event` hook. A line reads `event=actor.exit actor=book-binance kind=panic ...`: names without blanks,
//! values quoted where they contain any, never a line break.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use log::Level;

use crate::clock::UtcNs;

/// Events kept for the ops page.
const KEPT: usize = 50;

/// One thing the supervisor did or saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SupervisorEvent {
    /// When.
    pub at: UtcNs,
    /// How grave.
    pub level: Level,
    /// Its stable name, such as `actor.exit`.
    pub name: &'static str,
    /// The whole line, beginning with `event=`.
    pub text: String,
}

/// A line in the making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) name: &'static str,
    pub(super) text: String,
}

impl Line {
    pub(super) fn info(name: &'static str) -> Self {
        Self::new(Level::Info, name)
    }

    pub(super) fn warn(name: &'static str) -> Self {
        Self::new(Level::Warn, name)
    }

    pub(super) fn error(name: &'static str) -> Self {
        Self::new(Level::Error, name)
    }

    fn new(level: Level, name: &'static str) -> Self {
        Self { level, name, text: format!("event={name}") }
    }

    /// Adds a pair.
    #[must_use]
    pub(super) fn kv(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        let value = value.to_string();
        // Writing to a string cannot fail.
        let _ = write!(self.text, " {key}=");
        push_value(&mut self.text, &value);
        self
    }
}

/// Appends `value`, quoted and escaped if a reader that splits at blanks would misread it.
fn push_value(text: &mut String, value: &str) {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '"' && c != '\\';
    if !value.is_empty() && value.chars().all(plain) {
        text.push_str(value);
        return;
    }
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            c if c.is_control() => {
                let _ = write!(text, "{}", c.escape_unicode());
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

/// The last events, oldest first; clones share them.
#[derive(Clone, Debug, Default)]
pub struct EventLog(Arc<Mutex<VecDeque<SupervisorEvent>>>);

impl EventLog {
    /// The last 50 events, oldest first.
    pub fn recent(&self) -> Vec<SupervisorEvent> {
        self.lock().iter().cloned().collect()
    }

    pub(super) fn push(&self, event: SupervisorEvent) {
        let mut kept = self.lock();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(event);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<SupervisorEvent>> {
        // Pushing leaves the ring whole even if a reader panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expect: &str) {
        assert_eq!(Line::info("e").kv("k", value).text, format!("event=e k={expect}"));
    }

    #[test]
    fn plain_values_stay_plain() {
        check("book-binance", "book-binance");
        check("a=b", "a=b");
    }

    #[test]
    fn blanks_quotes_and_breaks_are_escaped() {
        check("", "\"\"");
        check("a b", "\"a b\"");
        check("say \"x\"\\", "\"say \\\"x\\\"\\\\\"");
        check("a\nb", "\"a\\nb\"");
        check("bell\u{7}", "\"bell\\u{7}\"");
    }

    #[test]
    fn the_ring_keeps_the_newest() {
        let log = EventLog::default();
        for n in 0..60_i64 {
            log.push(SupervisorEvent {
                at: UtcNs::from_nanos(n),
                level: Level::Info,
                name: "e",
                text: String::new(),
            });
        }
        let recent = log.recent();
        assert_eq!((recent.len(), recent[0].at.as_nanos()), (50, 10));
    }
}
