//! Breaking an actor on purpose: `--fault KIND:ACTOR[:KEY=VALUE]`.
//!
//! | text | what it does |
//! |---|---|
//! | `panic:A` | panics once, in the first turn of the process |
//! | `panic:A:after=1000` | panics once, in the turn that takes the 1000th message, with that message in hand |
//! | `panic:A:after=2s` | panics once, two seconds after the actor's first turn |
//! | `panic:A:every=1000`, `every=2s` | the same, again and again; counts go on across generations |
//! | `panic:A:at=start`, `every=1`, `every=0` | panics in the first turn of *every* generation: exhausts the budget |
//! | `fail:A:...` | returns a fault instead of panicking; same moments |
//! | `spin:A:...` | never returns from a turn and burns its core; same moments |
//! | `block:A:...` | never returns from a turn and sleeps; same moments |
//! | `slow:A:us=500` | every turn with work takes 500 us longer |
//!
//! Messages are those taken from mailboxes; an actor without mailboxes counts its turns with work. Durations take
//! `ms`, `s`, `m`, `h`. `spin` and `block` are for real threads: the stepper would never return.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::MonoNs;

use super::actor::{Actor, Cx, Fault, Stop, Waits, Work};
use super::child::Start;

/// What breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Panic,
    Fail,
    Spin,
    Block,
    Slow(Duration),
}

/// When it breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trigger {
    /// In the first turn of every generation.
    EveryStart,
    /// At this many messages; again at every multiple if `repeat`.
    Messages { n: u64, repeat: bool },
    /// This long after the first turn; again after each such span if `repeat`.
    Time { span: Duration, repeat: bool },
}

/// A parsed fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultSpec {
    /// The name of the actor to break.
    pub actor: String,
    kind: Kind,
    trigger: Trigger,
}

impl FromStr for FaultSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let kind = parts.next().unwrap_or_default();
        let actor = parts.next().unwrap_or_default().to_owned();
        if actor.is_empty() {
            return Err(format!("fault {text:?} is not KIND:ACTOR[:KEY=VALUE]"));
        }
        let option = match parts.next() {
            None => None,
            Some(pair) => Some(
                pair.split_once('=')
                    .ok_or_else(|| format!("fault {text:?}: {pair:?} is not KEY=VALUE"))?,
            ),
        };
        let (kind, option) = parse_kind(text, kind, option)?;
        let trigger = parse_trigger(text, option)?;
        Ok(Self { actor, kind, trigger })
    }
}

type KeyValue<'a> = Option<(&'a str, &'a str)>;

fn parse_kind<'a>(
    text: &str,
    kind: &str,
    option: KeyValue<'a>,
) -> Result<(Kind, KeyValue<'a>), String> {
    let kind = match kind {
        "panic" => Kind::Panic,
        "fail" => Kind::Fail,
        "spin" => Kind::Spin,
        "block" => Kind::Block,
        "slow" => {
            let us = option.and_then(|(key, value)| (key == "us").then(|| value.parse().ok())?);
            let us = us.ok_or_else(|| format!("fault {text:?} needs us=MICROSECONDS"))?;
            return Ok((Kind::Slow(Duration::from_micros(us)), None));
        }
        other => {
            return Err(format!("fault {other:?} is none of panic, fail, spin, block, slow"));
        }
    };
    Ok((kind, option))
}

fn parse_trigger(text: &str, option: KeyValue<'_>) -> Result<Trigger, String> {
    let (key, value) = match option {
        None => return Ok(Trigger::Messages { n: 0, repeat: false }),
        Some(("at", "start") | ("every", "0" | "1")) => return Ok(Trigger::EveryStart),
        Some((key @ ("after" | "every"), value)) => (key, value),
        Some((key, _)) => {
            return Err(format!("fault {text:?}: {key:?} is none of after, every, at=start"));
        }
    };
    let repeat = key == "every";
    if let Ok(n) = value.parse() {
        return Ok(Trigger::Messages { n, repeat });
    }
    let span = parse_span(value)
        .ok_or_else(|| format!("fault {text:?}: {value:?} is neither a count nor a duration"))?;
    Ok(Trigger::Time { span, repeat })
}

/// `250ms`, `2s`, `1m`, `1h`.
fn parse_span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (n, unit) = text.split_at(digits);
    let n: u64 = n.parse().ok()?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    Some(Duration::from_millis(n.checked_mul(ms)?))
}

impl FaultSpec {
    /// The same factory, whose actors break as specified.
    pub(super) fn wrap(&self, start: &Start) -> Start {
        let (kind, trigger, start) = (self.kind, self.trigger, Arc::clone(start));
        let progress = Arc::new(Progress::default());
        Arc::new(move |cx| {
            let inner = start(cx)?;
            let progress = Arc::clone(&progress);
            Ok(Box::new(Broken { inner, kind, trigger, progress, first_turn: true, counted: 0 }))
        })
    }
}

/// What is counted over all generations.
#[derive(Debug, Default)]
struct Progress {
    messages: AtomicU64,
    busy_turns: AtomicU64,
    first_turn_ns: AtomicU64,
    /// Times it broke.
    fired: AtomicU64,
    begun: AtomicBool,
}

/// An actor that breaks.
struct Broken {
    inner: Box<dyn Actor>,
    kind: Kind,
    trigger: Trigger,
    progress: Arc<Progress>,
    first_turn: bool,
    /// Messages of this generation that were counted.
    counted: u64,
}

impl Broken {
    /// Counts the turn that just ended and says whether to break now.
    fn is_due(&mut self, cx: &Cx, work: Work) -> bool {
        let progress = &self.progress;
        if !progress.begun.swap(true, Ordering::Relaxed) {
            progress.first_turn_ns.store(cx.now.as_nanos(), Ordering::Relaxed);
        }
        let first_turn = std::mem::replace(&mut self.first_turn, false);
        let new = cx.messages() - std::mem::replace(&mut self.counted, cx.messages());
        let messages = progress.messages.fetch_add(new, Ordering::Relaxed) + new;
        let busy = u64::from(work == Work::Busy);
        let turns = progress.busy_turns.fetch_add(busy, Ordering::Relaxed) + busy;
        let count = if messages > 0 { messages } else { turns };
        let fired = progress.fired.load(Ordering::Relaxed);
        let due = match self.trigger {
            Trigger::EveryStart => first_turn,
            Trigger::Messages { n, repeat: false } => fired == 0 && count >= n,
            Trigger::Messages { n, repeat: true } => count >= n.saturating_mul(fired + 1),
            Trigger::Time { span, repeat } => {
                let begun = MonoNs::from_nanos(progress.first_turn_ns.load(Ordering::Relaxed));
                let nth = u32::try_from(fired + 1).unwrap_or(u32::MAX);
                (repeat || fired == 0) && cx.now.since(begun) >= span.saturating_mul(nth)
            }
        };
        progress.fired.fetch_add(u64::from(due), Ordering::Relaxed);
        due
    }
}

impl Actor for Broken {
    fn on_start(&mut self, cx: &mut Cx) -> Result<(), Fault> {
        self.inner.on_start(cx)
    }

    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        let work = self.inner.turn(cx)?;
        if let Kind::Slow(span) = self.kind {
            if work == Work::Busy {
                // Being slow is the purpose.
                std::thread::park_timeout(span);
            }
            return Ok(work);
        }
        if !self.is_due(cx, work) {
            return Ok(work);
        }
        match self.kind {
            Kind::Panic => panic!("injected fault"),
            Kind::Fail => Err(Fault::fatal("injected fault")),
            Kind::Spin => loop {
                std::hint::spin_loop();
            },
            Kind::Block => loop {
                // Never ending is the purpose.
                std::thread::park();
            },
            Kind::Slow(_) => Ok(work),
        }
    }

    fn on_drain(&mut self, cx: &mut Cx) -> Result<(), Fault> {
        self.inner.on_drain(cx)
    }

    fn drained(&self) -> bool {
        self.inner.drained()
    }

    fn waits(&self, waits: &mut Waits) {
        self.inner.waits(waits);
        if let Trigger::Time { span, repeat } = self.trigger {
            let fired = self.progress.fired.load(Ordering::Relaxed);
            if repeat || fired == 0 {
                let begun = MonoNs::from_nanos(self.progress.first_turn_ns.load(Ordering::Relaxed));
                let nth = u32::try_from(fired + 1).unwrap_or(u32::MAX);
                waits.until(begun.after(span.saturating_mul(nth)));
            }
        }
    }

    fn on_stop(&mut self, cx: &mut Cx, stop: Stop) {
        self.inner.on_stop(cx, stop);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, kind: Kind, trigger: Trigger) {
        let expect = FaultSpec { actor: "a-1".to_owned(), kind, trigger };
        assert_eq!(text.parse::<FaultSpec>(), Ok(expect));
    }

    #[track_caller]
    fn check_error(text: &str, part: &str) {
        let error = text.parse::<FaultSpec>().expect_err("it is no fault");
        assert!(error.contains(part), "{error}");
    }

    #[test]
    fn kinds_and_moments_are_parsed() {
        let count = |n, repeat| Trigger::Messages { n, repeat };
        let time = |ms, repeat| Trigger::Time { span: Duration::from_millis(ms), repeat };
        check("panic:a-1", Kind::Panic, count(0, false));
        check("panic:a-1:after=1000", Kind::Panic, count(1_000, false));
        check("fail:a-1:after=2s", Kind::Fail, time(2_000, false));
        check("spin:a-1:every=250ms", Kind::Spin, time(250, true));
        check("block:a-1:every=10", Kind::Block, count(10, true));
        check("panic:a-1:every=1", Kind::Panic, Trigger::EveryStart);
        check("panic:a-1:every=0", Kind::Panic, Trigger::EveryStart);
        check("panic:a-1:at=start", Kind::Panic, Trigger::EveryStart);
        check("slow:a-1:us=500", Kind::Slow(Duration::from_micros(500)), count(0, false));
    }

    #[test]
    fn mistakes_are_named() {
        check_error("panic", "KIND:ACTOR");
        check_error("burn:a", "none of panic");
        check_error("slow:a", "us=");
        check_error("panic:a:after", "KEY=VALUE");
        check_error("panic:a:when=3", "none of after");
        check_error("panic:a:after=3parsecs", "neither");
        check_error("panic:a:after=99999999999999999999h", "neither");
    }
}
