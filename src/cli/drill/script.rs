//! The drills, played: one function each. In: a stage with its venues open. Out: the stage's facts, or why the drill
//! was not played to its end.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::catalogue::{Felt, Outside, Play};
use super::child::{Child, between, value_of};
use super::ending::{
    DRAIN_LIMIT, Ending, Orders, Restarts, judge_sent_once, open_orders, orders_total,
};
use super::stage::{Engine, Facts, Halt, Stage, UPDATES_PER_S, now, short};

/// When an actor panics: the book is live and orders are open long before.
const PANIC_AFTER: &str = "1500ms";
/// When an actor hangs.
const WEDGE_AFTER: &str = "2s";
/// A fault that was asked for strikes within this.
const FAULT_LIMIT: Duration = Duration::from_secs(15);
/// A crashed actor is replaced in under a second (design, section 1).
const RESTART_LIMIT: Duration = Duration::from_secs(1);
/// How long a silent actor is the suspect only, then interrupted, and the emergency routine: 1 s, 3 s, and what a
/// busy machine adds.
const LADDER_LIMIT: Duration = Duration::from_secs(8);
/// Five restarts with their back-off, then a drain.
const STORM_LIMIT: Duration = Duration::from_secs(15);
/// Restarts before the storm ends; fewer than usual, for the drill to be short.
const STORM_RESTARTS: u32 = 3;
/// The first market update is processed within 5 s of the start (design, section 1).
const LIVE_LIMIT: Duration = Duration::from_secs(5);
/// What a slow actor adds to each turn with work.
const SLOW_US: u32 = 20_000;
/// How long a slow actor is watched.
const SLOW_TIME: Duration = Duration::from_secs(3);
/// How long the process is stopped.
const SUSPENSION: Duration = Duration::from_secs(3);
/// The supervisor sees its own suspension with its next tick.
const TICK_LIMIT: Duration = Duration::from_secs(2);
/// What is written before the disk is full; report and status file must fit as well.
const DISK_BYTES_MIN: u64 = 48 * 1024;
/// A journal that cannot be written is tried again a few times, then the engine drains.
const DISK_LIMIT: Duration = Duration::from_secs(20);
/// Book changes per second in a burst.
const BURST_UPDATES_PER_S: u32 = 2_000;
/// Book changes per second of a market in which an order stays open for a while.
const CALM_UPDATES_PER_S: u32 = 5;
/// How long the burst goes on before SIGTERM.
const BURST_TIME: Duration = Duration::from_secs(1);
/// The handler itself ends the process: this is what a busy machine needs to tell us.
const SECOND_SIGNAL_LIMIT: Duration = Duration::from_secs(1);
/// How long it is waited for an order to be open at the moment of a kill; without one the drill goes on.
const OPEN_ORDER_LIMIT: Duration = Duration::from_secs(5);
/// How long a venue is gone.
const CLOSED: Duration = Duration::from_secs(1);
/// Losing a venue is noticed within this.
const LOSS_LIMIT: Duration = Duration::from_secs(10);
/// A journal of a few seconds is read at once.
const VERIFY_LIMIT: Duration = Duration::from_secs(10);
/// How long a started life runs before it is stopped.
const STEADY_TIME: Duration = Duration::from_secs(1);

/// Book changes per second that a drill needs: sudden ends in a calm market find orders open.
pub(super) fn updates_per_s(play: &Play) -> u32 {
    match play {
        Play::DrainUnderLoad | Play::Slow(_) => BURST_UPDATES_PER_S,
        Play::Wedge(..) | Play::SecondSignal | Play::Killed | Play::VenueFreezes | Play::Canary => {
            CALM_UPDATES_PER_S
        }
        _ => UPDATES_PER_S,
    }
}

/// Plays a drill.
pub(super) fn play(play: &Play, stage: &mut Stage<'_>) -> Result<(), Halt> {
    match play {
        Play::Steady => steady(stage, STEADY_TIME),
        Play::DrainUnderLoad => steady(stage, BURST_TIME),
        Play::Panic(actor) => panic(stage, actor),
        Play::Storm(actor) => storm(stage, actor),
        Play::Wedge(word, actor) => wedge(stage, word, actor),
        Play::Slow(actor) => slow(stage, actor),
        Play::Outside(outside) => break_outside(stage, outside),
        Play::Suspended => suspended(stage),
        Play::DiskFull => disk_full(stage),
        Play::SecondSignal => second_signal(stage),
        Play::Killed => killed(stage),
        Play::VenueFreezes => venue_freezes(stage),
        Play::VenueDies => venue_dies(stage),
        Play::VenueReturns => venue_returns(stage),
        Play::Canary => canary(stage),
    }
}

fn broken(actor: &str, fault: &str) -> Engine {
    Engine { fault: Some(fault.replace("ACTOR", actor)), ..Engine::default() }
}

/// SIGTERM, and a drain to the end.
fn stop(stage: &mut Stage<'_>, restarts: Restarts<'_>) -> Result<(), Halt> {
    stage.signal(Signal::TERM);
    stage.ends(&Ending { restarts, ..Ending::CLEAN })
}

fn steady(stage: &mut Stage<'_>, time: Duration) -> Result<(), Halt> {
    stage.start_engine(&Engine::default())?;
    stage.until_trading()?;
    let live = stage.line(0, &["event=engine.live"]).unwrap_or_default();
    judge_start(&mut stage.facts, &live);
    stage.pass(time)?;
    stop(stage, Restarts::None)
}

/// Judges the first `engine.live`; a line that does not say when proves nothing.
fn judge_start(facts: &mut Facts, live: &str) {
    match uptime(live) {
        Some(took) => {
            facts.measure("live after", took);
            facts.promise(took <= LIVE_LIMIT, || format!("live after {took:?} only"));
        }
        None => facts.promise(false, || format!("no uptime_ms in {live:?}")),
    }
}

/// `uptime_ms=` of a log line.
fn uptime(line: &str) -> Option<Duration> {
    value_of(line, "uptime_ms")?.parse().ok().map(Duration::from_millis)
}

fn panic(stage: &mut Stage<'_>, actor: &str) -> Result<(), Halt> {
    stage.start_engine(&broken(actor, &format!("panic:ACTOR:after={PANIC_AFTER}")))?;
    stage.until_trading()?;
    let named = format!(" actor={actor} ");
    let down = stage.until_line(FAULT_LIMIT, 0, &["event=actor.exit", &named, "kind=panic"])?;
    let up = stage.until_line(FAULT_LIMIT, 0, &["event=actor.ready", &named, "gen=2"])?;
    let took = between(&down, &up).unwrap_or(Duration::MAX);
    stage.facts.measure("replaced after", took);
    stage.facts.promise(took <= RESTART_LIMIT, || format!("{actor} was down for {took:?}"));
    let took = stage.until_trading_again()?;
    stage.facts.measure("trading again after", took);
    stop(stage, Restarts::Once(actor))
}

fn storm(stage: &mut Stage<'_>, actor: &str) -> Result<(), Halt> {
    let restarts = STORM_RESTARTS.min(stage.setup.restarts_max());
    let mut how = broken(actor, "panic:ACTOR:every=1");
    how.set.push(format!("supervisor.restarts_max={restarts}"));
    stage.start_engine(&how)?;
    stage.ends(&Ending {
        codes: &[70],
        within: STORM_LIMIT,
        restarts: Restarts::Only(actor),
        orders: Orders::None,
        called: "gave up after",
    })
}

fn wedge(stage: &mut Stage<'_>, word: &str, actor: &str) -> Result<(), Halt> {
    let limit = stage.setup.stall_limit(actor);
    stage.start_engine(&broken(actor, &format!("{word}:ACTOR:after={WEDGE_AFTER}")))?;
    stage.until_trading()?;
    let named = format!(" actor={actor} ");
    let warned = stage.until_line(FAULT_LIMIT + limit, 0, &["event=stall.warn", &named])?;
    let open = open_orders(&stage.truth()?).len();
    let (code, _) = stage.until_end(limit + LADDER_LIMIT)?;
    let silent = value_of(&warned, "age_ms").and_then(|ms| ms.parse().ok());
    let silent = Duration::from_millis(silent.unwrap_or(0));
    stage.facts.measure("named after", silent);
    if let Some(how) = value_of(&warned, "thread") {
        stage.facts.tell(format!("as {how}"));
    }
    let exit = stage.line(0, &["event=wedge.exit", &named]);
    stage.facts.promise(exit.is_some(), || format!("no wedge.exit names {actor}"));
    if let Some(took) = exit.as_deref().and_then(|exit| between(&warned, exit)) {
        stage.facts.measure("exit after", took + silent);
    }
    stage.facts.tell(format!("{open} open then"));
    judge_emergency(stage);
    stage.judge(
        &Ending {
            codes: &[75],
            within: Duration::ZERO,
            restarts: Restarts::None,
            orders: Orders::None,
            called: "exit after",
        },
        code,
    )?;
    needs_orders(open)
}

/// That orders are cancelled is proved where there were some.
fn needs_orders(open: usize) -> Result<(), Halt> {
    match open {
        0 => {
            Err(Halt::Unproved("no order was open: that orders are cancelled is not proved".into()))
        }
        _ => Ok(()),
    }
}

/// Orders were cancelled on a fresh connection at every venue.
fn judge_emergency(stage: &mut Stage<'_>) {
    let lines: Vec<String> =
        stage.log().lines().filter(|l| l.contains("event=emergency.")).map(str::to_owned).collect();
    let confirmed = |line: &String| {
        line.contains("event=emergency.cancelled") && line.contains(" unconfirmed=0 ")
    };
    let done = lines.iter().filter(|line| confirmed(line)).count();
    let venues = stage.setup.venues.len();
    stage.facts.promise(done == venues, || {
        let said = lines.last().map_or("nothing of it is in the log", String::as_str);
        format!("the emergency cancel was confirmed at {done} of {venues} venues: {said}")
    });
    if done == venues {
        stage.facts.tell("cancelled on a fresh connection");
    }
}

fn slow(stage: &mut Stage<'_>, actor: &str) -> Result<(), Halt> {
    stage.start_engine(&broken(actor, &format!("slow:ACTOR:us={SLOW_US}")))?;
    stage.until_live()?;
    stage.pass(SLOW_TIME)?;
    stop(stage, Restarts::None)?;
    let report = stage.report();
    for what in ["conflated", "dropped", "refused"] {
        let edges = report["messages"].as_object().into_iter().flatten();
        let n: u64 = edges.filter_map(|(_, counts)| counts[what].as_u64()).sum();
        stage.facts.tell(format!("{n} {what}"));
    }
    Ok(())
}

fn break_outside(stage: &mut Stage<'_>, outside: &Outside) -> Result<(), Halt> {
    let keys = |key: &&str| {
        let venues = stage.setup.venues.iter();
        venues.map(|v| format!("venue.{}.{key}", v.name)).collect::<Vec<_>>()
    };
    let set = outside.venue_keys.iter().flat_map(keys).collect();
    stage.start_engine(&Engine { set, ..Engine::default() })?;
    stage.until_trading()?;
    let from = stage.log().len();
    stage.break_venues(outside.request)?;
    match outside.felt {
        Felt::Line(words) => {
            let begin = now();
            stage.until(&words.join(" "), outside.within, |s| s.line(from, words))?;
            stage.facts.measure("noticed after", now().since(begin));
        }
        Felt::Hits => until_hit(stage, outside)?,
    }
    let before = stage.hits()?;
    stage.pass(outside.lasts)?;
    if let Some(max) = outside.hits_max {
        let hits = stage.hits()?.saturating_sub(before);
        stage.facts.tell(format!("{hits} times more"));
        let venues = stage.addresses().len() as u64;
        stage.facts.promise(hits <= max * venues, || {
            let lasts = short(outside.lasts);
            format!("{hits} requests within {lasts} to venues that refuse every one")
        });
    }
    stage.mend_venues()?;
    let took = stage.until_trading_again()?;
    stage.facts.measure("trading again after", took);
    stop(stage, Restarts::None)?;
    let (truth, report) = (stage.truth()?, stage.report());
    judge_sent_once(&mut stage.facts, &truth, &report);
    Ok(())
}

/// Waits until the venue says that the fault struck.
fn until_hit(stage: &mut Stage<'_>, outside: &Outside) -> Result<(), Halt> {
    let begin = now();
    while now().since(begin) < outside.within {
        let hits = stage.hits()?;
        if hits > 0 {
            stage.facts.tell(format!("struck {hits} times"));
            return Ok(());
        }
        stage.pass(Duration::from_millis(50))?;
        // An engine that is gone feels nothing.
        stage.until("the fault", Duration::ZERO, |_| Some(()))?;
    }
    let limit = short(outside.within);
    Err(Halt::Skipped(format!("the fault found nothing to strike within {limit}")))
}

fn suspended(stage: &mut Stage<'_>) -> Result<(), Halt> {
    stage.start_engine(&Engine::default())?;
    stage.until_trading()?;
    let from = stage.log().len();
    stage.signal(Signal::STOP);
    stage.pass(SUSPENSION)?;
    stage.signal(Signal::CONT);
    let line = stage.until_line(TICK_LIMIT, from, &["event=sup.suspended"])?;
    let gap = value_of(&line, "gap_ms").unwrap_or("?").to_owned();
    stage.facts.tell(format!("found itself suspended for {gap} ms"));
    let took = stage.until_trading_again()?;
    stage.facts.measure("trading again after", took);
    let accused = ["event=stall.warn", "event=wedge."].iter().find_map(|w| stage.line(from, &[w]));
    stage.facts.promise(accused.is_none(), || {
        format!("somebody was accused: {}", accused.unwrap_or_default())
    });
    stop(stage, Restarts::None)
}

fn disk_full(stage: &mut Stage<'_>) -> Result<(), Halt> {
    stage.start_engine(&Engine { bounded_files: true, ..Engine::default() })?;
    stage.until_trading()?;
    let written = largest_file(&stage.dir().join("state/journal"));
    let from = stage.log().len();
    stage.bound_files(written.max(DISK_BYTES_MIN))?;
    let down = ["event=actor.exit", " actor=journal "];
    let failed = stage.until_line(DISK_LIMIT, from, &down)?;
    let before = orders_total(&stage.truth()?);
    let (code, _) = stage.until_end(DISK_LIMIT)?;
    let end = stage.line(from, &["event=sup.exit"]);
    if let Some(took) = end.as_deref().and_then(|end| between(&failed, end)) {
        stage.facts.measure("exit after", took);
    }
    let more = orders_total(&stage.truth()?).saturating_sub(before);
    stage.facts.tell(format!("{more} orders sent without a journal"));
    let may = !stage.setup.orders_wait_for_the_journal();
    stage.facts.promise(more == 0 || may, || format!("{more} orders were sent without a journal"));
    stage.judge(
        &Ending {
            codes: &[74],
            within: Duration::ZERO,
            restarts: Restarts::Only("journal"),
            orders: Orders::None,
            called: "exit after",
        },
        code,
    )
}

/// The size of the largest file in a folder; 0 where there is none.
fn largest_file(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|e| e.metadata().ok()).map(|m| m.len()).max().unwrap_or(0)
}

fn second_signal(stage: &mut Stage<'_>) -> Result<(), Halt> {
    stage.start_engine(&Engine::default())?;
    stage.until_trading()?;
    until_open_order(stage)?;
    // A venue that answers nothing keeps the drain waiting.
    stage.signal_venue(Signal::STOP);
    stage.signal(Signal::TERM);
    stage.until_line(FAULT_LIMIT, 0, &["event=drain.begin"])?;
    stage.signal(Signal::TERM);
    let ended = stage.until_end(DRAIN_LIMIT);
    stage.signal_venue(Signal::CONT);
    let (code, took) = ended?;
    stage.facts.measure("exit after", took);
    stage.facts.promise(code == 143, || format!("exit code {code} after the second signal"));
    stage.facts.promise(took <= SECOND_SIGNAL_LIMIT, || format!("the second signal took {took:?}"));
    // The cancels of its drain often reach the venue once that goes on: then nothing is left.
    next_start(stage).map(drop)
}

/// A further start on the same folder makes whole what a sudden end left; how many orders that were.
fn next_start(stage: &mut Stage<'_>) -> Result<usize, Halt> {
    let left = open_orders(&stage.truth()?).len();
    stage.facts.tell(format!("{left} orders left"));
    stage.start_engine(&Engine::default())?;
    stage.until_live()?;
    stage.pass(STEADY_TIME)?;
    let sudden = stage.facts.exit_code;
    stop(stage, Restarts::None)?;
    // The drill is about the first end; the second one was judged.
    stage.facts.exit_code = sudden;
    stage.facts.tell("the next start left none");
    Ok(left)
}

fn killed(stage: &mut Stage<'_>) -> Result<(), Halt> {
    stage.start_engine(&Engine::default())?;
    stage.until_trading()?;
    until_open_order(stage)?;
    stage.signal(Signal::KILL);
    let (code, _) = stage.until_end(DRAIN_LIMIT)?;
    stage.facts.promise(code == 137, || format!("exit code {code} after SIGKILL"));
    verify_journal(stage)?;
    let left = next_start(stage)?;
    needs_orders(left)
}

/// Waits until an order is open at the venue, if one is soon; how many are.
fn until_open_order(stage: &mut Stage<'_>) -> Result<usize, Halt> {
    let begin = now();
    loop {
        let open = open_orders(&stage.truth()?).len();
        if open > 0 || now().since(begin) > OPEN_ORDER_LIMIT {
            return Ok(open);
        }
        stage.pass(Duration::from_millis(10))?;
    }
}

fn verify_journal(stage: &mut Stage<'_>) -> Result<(), Halt> {
    let journal = stage.dir().join("state").display().to_string();
    let args = ["journal".to_owned(), "verify".to_owned(), journal];
    let mut child = Child::start(&args, &stage.dir().join("verify.log"), false)?;
    let begin = now();
    while child.exit_code().is_none() && now().since(begin) < VERIFY_LIMIT {
        child.pump(Duration::from_millis(10))?;
        stage.pass(Duration::ZERO)?;
    }
    let code = child.exit_code();
    stage.facts.promise(code == Some(0), || format!("journal verify ended with {code:?}"));
    stage.facts.tell("journal verified");
    Ok(())
}

fn venue_freezes(stage: &mut Stage<'_>) -> Result<(), Halt> {
    stage.start_engine(&Engine::default())?;
    stage.until_trading()?;
    until_open_order(stage)?;
    stage.signal_venue(Signal::STOP);
    stage.signal(Signal::TERM);
    let ended = stage.until_end(DRAIN_LIMIT + SECOND_SIGNAL_LIMIT);
    stage.signal_venue(Signal::CONT);
    let (code, took) = ended?;
    stage.facts.measure("exit after", took);
    stage.judge(&gone(Orders::Listed), code)
}

/// The end without a venue.
fn gone(orders: Orders) -> Ending<'static> {
    Ending {
        codes: &[76],
        within: DRAIN_LIMIT,
        restarts: Restarts::None,
        orders,
        called: "exit after",
    }
}

fn venue_dies(stage: &mut Stage<'_>) -> Result<(), Halt> {
    stage.start_engine(&Engine::default())?;
    stage.until_trading()?;
    let from = stage.log().len();
    stage.signal_venue(Signal::KILL);
    for lost in ["event=feed.down", "event=session.down"] {
        stage.until(lost, LOSS_LIMIT, |s| s.line(from, &[lost]))?;
    }
    stage.pass(CLOSED)?;
    stage.until("still there", Duration::ZERO, |_| Some(()))?;
    stage.signal(Signal::TERM);
    stage.ends(&gone(Orders::Unknown))
}

fn venue_returns(stage: &mut Stage<'_>) -> Result<(), Halt> {
    stage.start_engine(&Engine::default())?;
    stage.until_trading()?;
    stage.restart_venues(CLOSED)?;
    let took = stage.until_trading_again()?;
    stage.facts.measure("trading again after", took);
    stop(stage, Restarts::None)
}

fn canary(stage: &mut Stage<'_>) -> Result<(), Halt> {
    stage.start_engine(&Engine::default())?;
    stage.until_trading()?;
    until_open_order(stage)?;
    stage.signal(Signal::KILL);
    stage.ends(&Ending::CLEAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_start(line: &str, wrong: usize) {
        let mut facts = Facts::default();
        judge_start(&mut facts, line);
        assert_eq!(facts.wrong.len(), wrong, "{:?}", facts.wrong);
    }

    #[test]
    fn a_start_is_judged_by_what_the_engine_says() {
        check_start("INFO engine event=engine.live uptime_ms=143", 0);
        check_start("INFO engine event=engine.live uptime_ms=5001", 1);
        check_start("INFO engine event=engine.live", 1);
        check_start("", 1);
    }
}
