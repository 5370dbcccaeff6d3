//! The only place that reads time.
//!
//! Two kinds of time that are never mixed: [`MonoNs`] orders events inside this process and measures
//! durations; [`UtcNs`] is what venues and people call the time. Everything else in the crate receives
//! `now` as an argument, so that a test decides what time it is.

use std::fmt;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Nanoseconds per second.
const NS_PER_S: i64 = 1_000_000_000;

/// Monotonic time: nanoseconds since this process (or this virtual world) began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MonoNs(u64);

impl MonoNs {
    /// The beginning of the process.
    pub const ZERO: Self = Self(0);
    /// A moment that never comes; a deadline that is not set.
    pub const NEVER: Self = Self(u64::MAX);

    /// The moment `ns` nanoseconds after the beginning.
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// The moment `ms` milliseconds after the beginning.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the beginning.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero when it lies in the future.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The moment `span` later; [`MonoNs::NEVER`] when that cannot be expressed.
    pub fn after(self, span: Duration) -> Self {
        let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ns))
    }
}

/// Coordinated universal time: nanoseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UtcNs(i64);

impl UtcNs {
    /// The moment `ns` nanoseconds after the epoch.
    pub const fn from_nanos(ns: i64) -> Self {
        Self(ns)
    }

    /// The moment `ms` milliseconds after the epoch.
    pub const fn from_millis(ms: i64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole milliseconds since the epoch, as venues stamp their messages.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Whole microseconds since the epoch.
    pub const fn as_micros(self) -> i64 {
        self.0.div_euclid(1_000)
    }
}

impl fmt::Display for UtcNs {
    /// RFC 3339 with microseconds and `Z`, as every log line carries it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, ns) = (self.0.div_euclid(NS_PER_S), self.0.rem_euclid(NS_PER_S));
        let Ok(ns) = i32::try_from(ns) else { return Err(fmt::Error) };
        match jiff::Timestamp::new(s, ns) {
            Ok(t) => write!(f, "{t:.6}"),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

/// Where time comes from: the machine, or a test.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clocks.
    System,
    /// A clock that stands still until it is advanced.
    Virtual(VirtualClock),
}

impl Clock {
    /// The monotonic time.
    pub fn now(&self) -> MonoNs {
        match self {
            Self::System => system_now(),
            Self::Virtual(clock) => clock.now(),
        }
    }

    /// The time of day.
    pub fn utc(&self) -> UtcNs {
        match self {
            Self::System => system_utc(),
            Self::Virtual(clock) => clock.utc(),
        }
    }
}

/// A clock that only [`VirtualClock::advance`] moves; clones share one time.
#[derive(Clone, Debug)]
pub struct VirtualClock {
    mono: Arc<AtomicU64>,
    utc_at_zero: UtcNs,
}

impl VirtualClock {
    /// A clock at monotonic zero, whose time of day is then `utc`.
    pub fn new(utc: UtcNs) -> Self {
        Self { mono: Arc::new(AtomicU64::new(0)), utc_at_zero: utc }
    }

    /// The monotonic time.
    pub fn now(&self) -> MonoNs {
        MonoNs(self.mono.load(Ordering::Relaxed))
    }

    /// The time of day.
    pub fn utc(&self) -> UtcNs {
        let ns = i64::try_from(self.mono.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
        UtcNs(self.utc_at_zero.0.saturating_add(ns))
    }

    /// Moves the time forward by `span`.
    pub fn advance(&self, span: Duration) {
        let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        self.mono.fetch_add(ns, Ordering::Relaxed);
    }
}

fn system_now() -> MonoNs {
    static BEGIN: OnceLock<std::time::Instant> = OnceLock::new();
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the monotonic clock")]
    let now = std::time::Instant::now();
    let begin = *BEGIN.get_or_init(|| now);
    MonoNs(u64::try_from(now.duration_since(begin).as_nanos()).unwrap_or(u64::MAX))
}

fn system_utc() -> UtcNs {
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the wall clock")]
    let now = std::time::SystemTime::now();
    match now.duration_since(std::time::UNIX_EPOCH) {
        Ok(span) => UtcNs(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)),
        // A host whose clock stands before 1970: times are negative, not an error.
        Err(before) => UtcNs(-i64::try_from(before.duration().as_nanos()).unwrap_or(i64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn virtual_clones_share_one_time() {
        let clock = VirtualClock::new(UtcNs::from_millis(1_000));
        let other = clock.clone();
        clock.advance(Duration::from_millis(5));
        assert_eq!(other.now(), MonoNs::from_millis(5));
        assert_eq!(other.utc(), UtcNs::from_millis(1_005));
    }

    #[test]
    fn utc_prints_microseconds() {
        assert_eq!(UtcNs::from_nanos(1_000_001_999).to_string(), "1970-01-01T00:00:01.000001Z");
    }

    #[test]
    fn since_the_future_is_zero() {
        assert_eq!(MonoNs::ZERO.since(MonoNs::from_millis(1)), Duration::ZERO);
    }

    #[test]
    fn system_time_does_not_go_back() {
        let a = Clock::System.now();
        assert!(Clock::System.now() >= a);
    }
}
