//! Progress, not heartbeat: the absence of change of an actor's turn count, timed by the supervisor.
//!
//! [`Watch`] is pure. [`ThreadLook`] asks the kernel what a silent thread does: burn its core, or sleep, and in what.

use std::time::Duration;

use crate::clock::MonoNs;

use super::thread::proc_file;

/// What a sample says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No progress for this long; said at the limit, then at doubled ages.
    Warn(Duration),
    /// Progress again, after this long; said once.
    Clear(Duration),
    /// No progress for this long: wedged; said again each time as long passes, for it may be passed over while
    /// another actor is dealt with.
    Fail(Duration),
}

/// Watches one actor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    warn: Duration,
    fail: Duration,
    beat: u64,
    /// When the beat was last seen to change.
    changed: MonoNs,
    warned: bool,
    /// The age at which it is warned of (again).
    warns_at: Duration,
    /// The age at which it is called wedged (again).
    fails_at: Duration,
}

impl Watch {
    pub(super) fn new(warn: Duration, fail: Duration) -> Self {
        let (beat, changed, warned) = (0, MonoNs::ZERO, false);
        Self { warn, fail, beat, changed, warned, warns_at: warn, fails_at: fail }
    }

    /// Nobody is accused of what was before `now`.
    pub(super) fn reset(&mut self, now: MonoNs) {
        self.changed = now;
        self.warns_at = self.warn;
        self.fails_at = self.fail;
    }

    /// Forgets a life that ended.
    pub(super) fn forget(&mut self, now: MonoNs) {
        *self = Self { beat: self.beat, changed: now, ..Self::new(self.warn, self.fail) };
    }

    /// Judges a sample. `excused` is until when the actor said that it would be silent.
    pub(super) fn sample(&mut self, now: MonoNs, beat: u64, excused: MonoNs) -> Option<Verdict> {
        if beat != self.beat {
            let silent = now.since(self.changed);
            self.beat = beat;
            self.reset(now);
            return std::mem::take(&mut self.warned).then_some(Verdict::Clear(silent));
        }
        // A declared silence is no silence, also once it is over and the turn's beat is still to come.
        self.changed = self.changed.max(excused.min(now));
        let age = now.since(self.changed);
        if age >= self.fails_at {
            self.fails_at = age.saturating_add(self.fail);
            // Progress after this has to be told even where no warning was.
            self.warned = true;
            return Some(Verdict::Fail(age));
        }
        if age >= self.warns_at {
            self.warns_at = age.saturating_mul(2);
            self.warned = true;
            return Some(Verdict::Warn(age));
        }
        None
    }
}

/// Lines about the stalls of one actor: so many a minute, the others are counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quota {
    begun: MonoNs,
    said: u32,
    withheld: u64,
}

impl Quota {
    const LINES_MAX: u32 = 5;
    const PERIOD: Duration = Duration::from_secs(60);

    /// Whether a line may be said at `now`; then with how many were withheld before it.
    pub(super) fn admit(&mut self, now: MonoNs) -> Option<u64> {
        if self.said == 0 || now.since(self.begun) >= Self::PERIOD {
            let withheld = std::mem::take(&mut self.withheld);
            *self = Self { begun: now, said: 1, withheld: 0 };
            return Some(withheld);
        }
        if self.said < Self::LINES_MAX {
            self.said += 1;
            return Some(0);
        }
        self.withheld += 1;
        None
    }
}

/// What the kernel says of a thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ThreadLook {
    /// The scheduler's letter: `R` runs or wants to, `S` and `D` sleep.
    state: Option<char>,
    /// Nanoseconds on a core so far.
    cpu_ns: u64,
    /// The kernel function it sleeps in.
    wchan: String,
}

impl ThreadLook {
    /// Looks at a thread of this process; what cannot be read is left empty.
    pub(super) fn at(tid: i32) -> Self {
        let read = |file: &str| proc_file(tid, file);
        let stat = read("stat");
        // The name stands in parentheses and may contain anything; what follows the last one is the state.
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        let cpu_ns = read("schedstat").split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        Self { state, cpu_ns, wchan: read("wchan") }
    }

    /// Whether a thread that was looked at `span` earlier wants a core and gets next to nothing of one: the machine
    /// is busy, and the actor cannot be blamed.
    pub(super) fn is_starved(&self, earlier: &Self, span: Duration) -> bool {
        let cpu = Duration::from_nanos(self.cpu_ns.saturating_sub(earlier.cpu_ns));
        self.state == Some('R') && cpu * 10 < span
    }

    /// In words, for a thread that was looked at `span` earlier as well; zero if it was not.
    pub(super) fn since(&self, earlier: &Self, span: Duration) -> String {
        match self.state {
            Some('R') if span.is_zero() => "running".to_owned(),
            Some('R') if self.is_starved(earlier, span) => "starved".to_owned(),
            Some('R') => "looping".to_owned(),
            Some(_) if self.wchan.is_empty() || self.wchan == "0" => "blocked".to_owned(),
            Some(_) => format!("blocked in {}", self.wchan),
            None => "unknown".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Samples at times in ms, each with a beat, and compares the verdicts: `.` none, `w`, `c`, `f`.
    #[track_caller]
    fn check(samples: &[(u64, u64)], excused_ms: u64, expect: &str) {
        let mut watch = Watch::new(500 * MS, 2_000 * MS);
        let excused = MonoNs::from_millis(excused_ms);
        let verdict = |(ms, beat): &(u64, u64)| match watch.sample(
            MonoNs::from_millis(*ms),
            *beat,
            excused,
        ) {
            None => '.',
            Some(Verdict::Warn(_)) => 'w',
            Some(Verdict::Clear(_)) => 'c',
            Some(Verdict::Fail(_)) => 'f',
        };
        assert_eq!(samples.iter().map(verdict).collect::<String>(), expect);
    }

    #[test]
    fn progress_is_fine_however_slow_the_sampling() {
        check(&[(0, 1), (400, 2), (5_000, 3)], 0, "...");
    }

    #[test]
    fn s35_silence_is_warned_of_at_doubled_ages_then_fails() {
        check(&[(0, 1), (499, 1), (500, 1), (600, 1), (2_000, 1), (3_000, 1)], 0, "..w.fw");
        check(&[(0, 1), (500, 1), (999, 1), (1_000, 1), (1_999, 1), (2_000, 1)], 0, ".w.w.f");
    }

    #[test]
    fn s36_a_flapping_actor_is_named_five_times_a_minute() {
        let mut quota = Quota::default();
        let said = |quota: &mut Quota, s: u64| quota.admit(MonoNs::from_millis(s * 1_000));
        let first: Vec<_> = (0..9).map(|s| said(&mut quota, s)).collect();
        assert_eq!(first, [[Some(0); 5].as_slice(), &[None; 4]].concat());
        assert_eq!((said(&mut quota, 59), said(&mut quota, 60)), (None, Some(5)));
        assert_eq!(said(&mut quota, 61), Some(0));
    }

    #[test]
    fn a_failure_nobody_heeded_is_said_again() {
        check(&[(0, 1), (500, 1), (2_000, 1), (3_999, 1), (4_000, 1), (4_050, 1)], 0, ".wfwf.");
    }

    #[test]
    fn progress_clears_a_failure_that_was_never_warned_of() {
        check(&[(0, 1), (2_000, 1), (2_050, 2)], 0, ".fc");
    }

    #[test]
    fn a_blocking_section_that_just_ended_accuses_nobody() {
        let mut watch = Watch::new(500 * MS, 2_000 * MS);
        let at = MonoNs::from_millis;
        assert_eq!(watch.sample(at(0), 1, MonoNs::ZERO), None);
        for ms in (50..=3_000).step_by(50) {
            assert_eq!(watch.sample(at(ms), 1, at(5_000)), None);
        }
        // The section has ended and the turn has not: nothing is declared, and the beat is still the old one.
        assert_eq!(watch.sample(at(3_050), 1, MonoNs::ZERO), None);
    }

    #[test]
    fn progress_clears_the_warning() {
        check(&[(0, 1), (500, 1), (600, 2), (1_100, 2)], 0, ".wcw");
    }

    #[test]
    fn s35_a_declared_silence_is_excused_until_its_deadline() {
        check(&[(0, 1), (5_000, 1), (5_499, 1), (5_500, 1)], 5_000, "...w");
    }

    #[test]
    fn s37_looping_starved_and_blocked_are_told_apart() {
        let look = |state, cpu_ms: u64, wchan: &str| ThreadLook {
            state: Some(state),
            cpu_ns: cpu_ms * 1_000_000,
            wchan: wchan.to_owned(),
        };
        let before = look('R', 1_000, "");
        let check = |now: ThreadLook, expect| assert_eq!(now.since(&before, 1_000 * MS), expect);
        check(look('R', 2_000, ""), "looping");
        check(look('R', 1_100, ""), "looping");
        check(look('R', 1_099, ""), "starved");
        check(look('S', 1_000, "futex_do_wait"), "blocked in futex_do_wait");
        check(look('D', 1_000, "0"), "blocked");
        assert_eq!(before.since(&ThreadLook::default(), Duration::ZERO), "running");
    }

    #[test]
    fn a_thread_of_this_process_can_be_looked_at() {
        let look = ThreadLook::at(rustix::thread::gettid().as_raw_nonzero().get());
        assert_eq!(look.state, Some('R'));
    }
}
