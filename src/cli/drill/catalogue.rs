//! Every drill by name, with the promise that it puts to the test. In: the actors of a configuration. Out: the drills.
//! What always holds: names are unique, and a family's name stands for all its drills.

use std::time::Duration;

use crate::config::tree::nearest;

use super::setup::Setup;

/// A drill.
pub(super) struct Drill {
    /// Its name: the family, then the actor where it is about one.
    pub(super) name: String,
    /// What must hold, in one sentence.
    pub(super) promise: &'static str,
    /// What is done.
    pub(super) play: Play,
    /// Whether a smoke test has it.
    pub(super) quick: bool,
    /// Whether only its name starts it.
    pub(super) hidden: bool,
}

/// What is done.
pub(super) enum Play {
    /// Nothing but SIGTERM.
    Steady,
    /// The actor panics once.
    Panic(String),
    /// The actor panics at every start.
    Storm(String),
    /// The actor never returns from a turn: the word of the fault.
    Wedge(&'static str, String),
    /// The actor is slow.
    Slow(String),
    /// Something outside breaks, and is mended.
    Outside(&'static Outside),
    /// SIGSTOP, then SIGCONT.
    Suspended,
    /// The journal cannot be written.
    DiskFull,
    /// SIGTERM in the middle of a burst.
    DrainUnderLoad,
    /// Two SIGTERM.
    SecondSignal,
    /// SIGKILL, then another start.
    Killed,
    /// The venue answers nothing any more, then SIGTERM.
    VenueFreezes,
    /// The venue is killed, then SIGTERM.
    VenueDies,
    /// The venue closes and opens again.
    VenueReturns,
    /// A promise that is broken on purpose.
    Canary,
}

/// How it is known that a fault outside struck.
pub(super) enum Felt {
    /// A line of the engine's log with all of these words.
    Line(&'static [&'static str]),
    /// The venue says so.
    Hits,
}

/// A fault outside.
pub(super) struct Outside {
    pub(super) name: &'static str,
    pub(super) promise: &'static str,
    /// What `/sim/faults` is asked for.
    pub(super) request: &'static str,
    /// Keys of every `[venue.NAME]` that are changed, so that the drill does not take minutes.
    pub(super) venue_keys: &'static [&'static str],
    pub(super) felt: Felt,
    /// It must be felt within this.
    pub(super) within: Duration,
    /// How long it goes on once it was felt.
    pub(super) lasts: Duration,
    /// How often it may strike at one venue meanwhile; `None` for as often as it likes.
    pub(super) hits_max: Option<u64>,
    pub(super) quick: bool,
}

/// A fault that strikes with the next message of its kind.
const NEXT: Duration = Duration::from_secs(20);
/// Most of what lasts, lasts so long.
const A_WHILE: Duration = Duration::from_secs(2);
/// A fault that is over when it has struck.
const AT_ONCE: Duration = Duration::ZERO;
/// Refused requests in [`A_WHILE`] that are not hammering: each request that was under way, and a few first tries.
const HAMMER_HITS: u64 = 20;

const OUTSIDE: &[Outside] = &[
    Outside {
        name: "disconnect-stream",
        promise: "Losing the market stream is not a crash: it is connected anew, the book is built anew, trading goes on.",
        request: r#"{"kind":"disconnect","target":"stream"}"#,
        venue_keys: &[],
        felt: Felt::Line(&["event=feed.down"]),
        within: NEXT,
        lasts: AT_ONCE,
        hits_max: None,
        quick: true,
    },
    Outside {
        name: "disconnect-session",
        promise: "Losing the order session is not a crash: it is connected anew, orders are reconciled, trading goes on.",
        request: r#"{"kind":"disconnect","target":"ws_api"}"#,
        venue_keys: &[],
        felt: Felt::Line(&["event=session.down"]),
        within: NEXT,
        lasts: AT_ONCE,
        hits_max: None,
        quick: false,
    },
    Outside {
        name: "half-open-stream",
        promise: "A market stream that is connected and silent is found by its silence (2 s here) and connected anew.",
        request: r#"{"kind":"half_open","target":"stream"}"#,
        venue_keys: &["stale_after_ms=2000"],
        felt: Felt::Line(&["event=feed.down"]),
        within: NEXT,
        lasts: AT_ONCE,
        hits_max: None,
        quick: false,
    },
    Outside {
        name: "half-open-session",
        promise: "An order session that is connected and silent is found by its missing answers and connected anew.",
        request: r#"{"kind":"half_open","target":"ws_api"}"#,
        venue_keys: &[],
        felt: Felt::Line(&["event=session.down"]),
        within: Duration::from_secs(40),
        lasts: AT_ONCE,
        hits_max: None,
        quick: false,
    },
    Outside {
        name: "server-shutdown",
        promise: "A venue that announces its shutdown costs a reconnect, nothing else.",
        request: r#"{"kind":"server_shutdown","latency_ms":500}"#,
        venue_keys: &[],
        felt: Felt::Hits,
        within: NEXT,
        lasts: A_WHILE,
        hits_max: None,
        quick: false,
    },
    Outside {
        name: "gap",
        promise: "A missing update is seen: the book is built anew, trading goes on.",
        request: r#"{"kind":"gap","target":"stream","count":1}"#,
        venue_keys: &[],
        felt: Felt::Line(&["event=book.syncing"]),
        within: NEXT,
        lasts: AT_ONCE,
        hits_max: None,
        quick: false,
    },
    Outside {
        name: "corrupt-stream",
        promise: "Frames that make no sense are survived: nobody is restarted, trading goes on.",
        request: r#"{"kind":"corrupt","target":"stream","count":3}"#,
        venue_keys: &[],
        felt: Felt::Hits,
        within: NEXT,
        lasts: A_WHILE,
        hits_max: None,
        quick: false,
    },
    Outside {
        name: "lost-ack",
        promise: "An order without an answer is unknown, not gone: the venue is asked, and nothing is sent twice.",
        request: r#"{"kind":"lost_ack","target":"ws_api","count":1}"#,
        venue_keys: &[],
        felt: Felt::Hits,
        within: NEXT,
        lasts: AT_ONCE,
        hits_max: None,
        quick: false,
    },
    Outside {
        name: "unknown-outcome",
        promise: "Status 503 after the order took effect is no refusal: the order is found and accounted for.",
        request: r#"{"kind":"status","target":"ws_api","status":503,"when":"after","count":1}"#,
        venue_keys: &[],
        felt: Felt::Hits,
        within: NEXT,
        lasts: AT_ONCE,
        hits_max: None,
        quick: false,
    },
    Outside {
        name: "duplicate-fill",
        promise: "A fill that is told twice counts once: engine and venue agree on the position.",
        request: r#"{"kind":"duplicate_fill","count":2}"#,
        venue_keys: &[],
        felt: Felt::Hits,
        within: NEXT,
        lasts: AT_ONCE,
        hits_max: None,
        quick: false,
    },
    Outside {
        name: "late-fill",
        promise: "A fill that is told late counts when it comes: engine and venue agree on the position.",
        request: r#"{"kind":"late_fill","count":2,"latency_ms":1000}"#,
        venue_keys: &[],
        felt: Felt::Hits,
        within: NEXT,
        lasts: A_WHILE,
        hits_max: None,
        quick: false,
    },
    Outside {
        name: "clock-back",
        promise: "While the venue's clock is 5 s behind orders are refused, none is lost or doubled; then trading goes on.",
        request: r#"{"kind":"clock_skew_ms","skew_ms":-5000}"#,
        venue_keys: &[],
        felt: Felt::Hits,
        within: NEXT,
        lasts: A_WHILE,
        hits_max: None,
        quick: false,
    },
    Outside {
        name: "clock-ahead",
        promise: "While the venue's clock is 5 s ahead orders are refused, none is lost or doubled; then trading goes on.",
        request: r#"{"kind":"clock_skew_ms","skew_ms":5000}"#,
        venue_keys: &[],
        felt: Felt::Hits,
        within: NEXT,
        lasts: A_WHILE,
        hits_max: None,
        quick: false,
    },
    Outside {
        name: "rate-limited",
        promise: "Status 429 is waited out: nobody hammers, nobody is restarted, trading goes on afterwards.",
        request: r#"{"kind":"status","status":429,"probability":1.0}"#,
        venue_keys: &[],
        felt: Felt::Hits,
        within: NEXT,
        lasts: A_WHILE,
        hits_max: Some(HAMMER_HITS),
        quick: false,
    },
    Outside {
        name: "banned",
        promise: "Status 418 is waited out: nobody hammers, nobody is restarted, trading goes on afterwards.",
        request: r#"{"kind":"status","status":418,"probability":1.0}"#,
        venue_keys: &[],
        felt: Felt::Hits,
        within: NEXT,
        lasts: A_WHILE,
        hits_max: Some(HAMMER_HITS),
        quick: false,
    },
];

/// The drill that breaks nothing: where it is skipped, the others say little.
pub(super) const STEADY: &str = "steady";

const PANIC: &str = "A crashed actor is replaced by a fresh one in under a second; the others feel it only as a message.";
const STORM: &str = "Too many crashes end in an orderly shutdown: exit 70, no order is left.";
const WEDGE: &str =
    "An actor that never comes back is named; orders are cancelled on a fresh connection; exit 75.";
const SLOW: &str =
    "A slow consumer costs counted messages or a resync; never a restart, a hang or a lost report.";

/// All drills of a configuration, in the order in which they are run.
pub(super) fn all(setup: &Setup) -> Vec<Drill> {
    let drill = |name: &str, promise, play| Drill {
        name: name.to_owned(),
        promise,
        play,
        quick: false,
        hidden: false,
    };
    let of = |family: &str, actor: &str| format!("{family}-{actor}");
    let mut drills = vec![Drill {
        quick: true,
        ..drill(
            STEADY,
            "Live within 5 s; SIGTERM drains within 8 s, exit 0, every order cancelled and verified.",
            Play::Steady,
        )
    }];
    drills.extend(setup.actors().into_iter().map(|actor| Drill {
        quick: actor.starts_with("book-"),
        ..drill(&of("panic", &actor), PANIC, Play::Panic(actor))
    }));
    if let Some(actor) = setup.strategies().into_iter().next() {
        drills.push(drill(&of("storm", &actor), STORM, Play::Storm(actor)));
    }
    for word in ["spin", "block"] {
        drills.extend(setup.essential_actors().into_iter().map(|actor| Drill {
            quick: word == "block" && actor.starts_with("orders-"),
            ..drill(&of(word, &actor), WEDGE, Play::Wedge(word, actor))
        }));
    }
    let slow = |actor: &String| !actor.starts_with("feed-") && *actor != "journal";
    let consumers = setup.essential_actors().into_iter().filter(slow);
    drills.extend(consumers.map(|actor| drill(&of("slow", &actor), SLOW, Play::Slow(actor))));
    drills.extend(OUTSIDE.iter().map(|outside| Drill {
        quick: outside.quick,
        ..drill(outside.name, outside.promise, Play::Outside(outside))
    }));
    drills.extend(of_the_process());
    drills
}

/// Drills of the whole process.
fn of_the_process() -> Vec<Drill> {
    let drill = |name: &str, quick, promise, play| Drill {
        name: name.to_owned(),
        promise,
        play,
        quick,
        hidden: false,
    };
    vec![
        drill(
            "suspended",
            true,
            "A process stopped for 3 s accuses nobody when it goes on: no restart, sup.suspended is logged, trading goes on.",
            Play::Suspended,
        ),
        drill(
            "disk-full",
            false,
            "Without a journal nothing is traded: every order is cancelled, exit 74.",
            Play::DiskFull,
        ),
        drill(
            "drain-under-load",
            false,
            "SIGTERM in a burst of 2,000 updates/s drains within 8 s: exit 0, every order cancelled and verified.",
            Play::DrainUnderLoad,
        ),
        drill(
            "second-signal",
            true,
            "A second SIGTERM exits at once with 143; the next start cancels what was left and agrees with the venue.",
            Play::SecondSignal,
        ),
        drill(
            "killed",
            false,
            "SIGKILL leaves a journal that verifies; the next start cancels what was left and agrees with the venue on the position.",
            Play::Killed,
        ),
        drill(
            "venue-freezes",
            false,
            "A venue that answers nothing holds nobody: exit 76 within 8 s, orders that may be open are listed.",
            Play::VenueFreezes,
        ),
        drill(
            "venue-dies",
            false,
            "A venue that is gone is no crash: nobody is restarted; SIGTERM then ends with 76 within 8 s.",
            Play::VenueDies,
        ),
        drill(
            "venue-returns",
            false,
            "A venue that closes and opens again is found again: trading goes on, engine and venue agree.",
            Play::VenueReturns,
        ),
        Drill {
            hidden: true,
            ..drill(
                "canary",
                false,
                "Proof that a drill can fail: SIGKILL is taken for an orderly end, and must be found broken.",
                Play::Canary,
            )
        },
    ]
}

/// The drills that `names` mean: a drill's own name or its family's.
///
/// # Errors
/// The first name that means none, with the one that was probably meant.
pub(super) fn choose(
    drills: Vec<Drill>,
    names: &[String],
    quick: bool,
) -> Result<Vec<Drill>, String> {
    if names.is_empty() {
        return Ok(drills.into_iter().filter(|d| !d.hidden && (d.quick || !quick)).collect());
    }
    let means = |name: &str, drill: &Drill| {
        let rest = drill.name.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || (rest.starts_with('-') && !drill.hidden))
    };
    for name in names {
        if !drills.iter().any(|d| means(name, d)) {
            let known: Vec<String> = drills.iter().map(|d| d.name.clone()).collect();
            let hint = match nearest(name, &known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`pindrop drill --list` has them all".to_owned(),
            };
            return Err(format!("no drill is called {name:?}; {hint}"));
        }
    }
    Ok(drills.into_iter().filter(|d| names.iter().any(|name| means(name, d))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drills() -> Vec<Drill> {
        all(&Setup::new(None, Vec::new()).expect("the demo"))
    }

    fn names(words: &[&str], quick: bool) -> Result<Vec<String>, String> {
        let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
        choose(drills(), &words, quick).map(|d| d.into_iter().map(|d| d.name).collect())
    }

    #[test]
    fn names_are_unique_and_the_canary_is_asked_for() {
        let mut all = names(&[], false).expect("all");
        assert!(!all.contains(&"canary".to_owned()));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(names(&["canary"], false).expect("it is there"), ["canary"]);
    }

    #[test]
    fn a_family_stands_for_its_drills() {
        let spins = names(&["spin"], false).expect("spins");
        assert_eq!(spins.len(), 5);
        assert!(spins.iter().all(|n| n.starts_with("spin-")), "{spins:?}");
        let two = names(&["lost-ack", "steady"], false).expect("two");
        assert_eq!(two, ["steady", "lost-ack"]);
    }

    #[test]
    fn a_wrong_name_is_told_the_right_one() {
        let error = names(&["panic-jornal"], false).expect_err("unknown");
        assert!(error.contains("did you mean `panic-journal`?"), "{error}");
        let error = names(&["volcano-erupts"], false).expect_err("unknown");
        assert!(error.contains("--list"), "{error}");
    }

    #[test]
    fn a_smoke_test_is_a_few() {
        assert!((3..9).contains(&names(&[], true).expect("a few").len()));
    }
}
