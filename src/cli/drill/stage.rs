//! Where a drill is played: venues in one process, the engine in another, and what can be seen of both. In: a
//! [`Setup`] and the folder. Out: waits that end, and [`Facts`]. What always holds: every wait has a limit and ends
//! on Ctrl+C, and both processes are gone when the stage is.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::clock::{Clock, MonoNs};
use crate::runtime::signal::Signals;

use super::child::{Child, value_of};
use super::http;
use super::setup::Setup;

/// How long one look at the logs waits; also the time that Ctrl+C takes.
const LOOK: Duration = Duration::from_millis(10);
/// The venues' process says where it listens within this; loading the program is most of it.
const VENUE_START_LIMIT: Duration = Duration::from_secs(10);
/// A loaded machine may take so long to start an engine; how long it may take is the promise of one drill only.
const START_LIMIT: Duration = Duration::from_secs(20);
/// A strategy that sends nothing for so long after it is live has nothing that a drill could break.
const FIRST_ORDER_LIMIT: Duration = Duration::from_secs(20);
/// Trading goes on within this, once nothing is broken any more; a strategy that took longer for its first order may
/// take four times as long as that.
const RECOVERY_LIMIT: Duration = Duration::from_secs(20);
/// Book changes per second of all symbols together, in most drills.
pub(super) const UPDATES_PER_S: u32 = 200;
/// How long the venues' state may take to be had.
const TRUTH_LIMIT: Duration = Duration::from_secs(10);

/// Why a drill ends before its end.
#[derive(Debug)]
pub(super) enum Halt {
    /// Somebody pressed Ctrl+C: the name of the signal.
    Interrupted(&'static str),
    /// A promise was broken.
    Broken(String),
    /// There was nothing to break.
    Skipped(String),
    /// It happened to prove less than it is there for; another play may prove it.
    Unproved(String),
    /// The drill itself could not be played.
    System(String),
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        Self::System(error.to_string())
    }
}

/// What happened.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// In words, in order.
    pub(super) told: Vec<String>,
    /// Times, by what they measure.
    pub(super) measured: Vec<(&'static str, Duration)>,
    /// Broken promises.
    pub(super) wrong: Vec<String>,
    /// The exit code.
    pub(super) exit_code: Option<i32>,
    /// Restarts of all actors.
    pub(super) restarts: usize,
    /// Open orders at the venues at the end; `None` when nobody could be asked.
    pub(super) orders_left: Option<usize>,
}

impl Facts {
    /// Something that happened.
    pub(super) fn tell(&mut self, what: impl Into<String>) {
        self.told.push(what.into());
    }

    /// Something that took `time`.
    pub(super) fn measure(&mut self, what: &'static str, time: Duration) {
        self.measured.push((what, time));
        self.told.push(format!("{what} {}", short(time)));
    }

    /// Notes a broken promise unless it was held.
    pub(super) fn promise(&mut self, held: bool, otherwise: impl FnOnce() -> String) {
        if !held {
            self.wrong.push(otherwise());
        }
    }
}

/// A time as people read it.
pub(super) fn short(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s >= 1.0 => format!("{s:.1} s"),
        s if s >= 0.01 => format!("{:.0} ms", s * 1e3),
        s => format!("{:.1} ms", s * 1e3),
    }
}

/// Engine and venues.
pub(super) struct Stage<'a> {
    /// What is played with.
    pub(super) setup: &'a Setup,
    signals: &'a Signals,
    dir: PathBuf,
    venue: Child,
    venue_lives: u32,
    /// Whether the venues' process is to end.
    venue_may_end: bool,
    engine: Option<Child>,
    engine_lives: u32,
    addresses: Vec<SocketAddr>,
    ops: Option<SocketAddr>,
    /// How long the strategies took for their first order.
    first_order: Duration,
    /// What happened.
    pub(super) facts: Facts,
}

/// How an engine is started.
#[derive(Default)]
pub(super) struct Engine {
    /// `--fault`.
    pub(super) fault: Option<String>,
    /// `--set`, beyond the setup's.
    pub(super) set: Vec<String>,
    /// Whether its files will be bounded.
    pub(super) bounded_files: bool,
}

impl<'a> Stage<'a> {
    /// Opens the venues.
    pub(super) fn open(
        setup: &'a Setup,
        signals: &'a Signals,
        dir: &Path,
        updates_per_s: u32,
    ) -> Result<Self, Halt> {
        setup.make_folder(dir)?;
        let symbols: usize = setup.venues.iter().map(|v| v.symbols.len()).sum();
        let each = updates_per_s / u32::try_from(symbols.max(1)).unwrap_or(u32::MAX);
        setup.write_venues(dir, each.max(1), None)?;
        let mut stage = Self {
            setup,
            signals,
            dir: dir.to_owned(),
            venue: Child::start(&Setup::venue_args(dir), &dir.join("venue.log"), false)?,
            venue_lives: 1,
            venue_may_end: false,
            engine: None,
            engine_lives: 0,
            addresses: Vec::new(),
            ops: None,
            first_order: Duration::ZERO,
            facts: Facts::default(),
        };
        stage.addresses = stage.venue_addresses()?;
        Ok(stage)
    }

    /// Waits until every venue listens.
    fn venue_addresses(&mut self) -> Result<Vec<SocketAddr>, Halt> {
        let begin = now();
        loop {
            let names = self.setup.venues.iter().map(|v| format!(" name={}", v.name));
            let found: Vec<SocketAddr> = names
                .filter_map(|name| {
                    let log = self.venue.log();
                    let line = log.lines().find(|l| {
                        l.contains("event=venue.listening") && l.trim_end().ends_with(&name)
                    })?;
                    value_of(line, "addr")?.parse().ok()
                })
                .collect();
            if found.len() == self.setup.venues.len() {
                return Ok(found);
            }
            self.breathe()?;
            if now().since(begin) > VENUE_START_LIMIT {
                return Err(Halt::System("the simulated venue does not start".to_owned()));
            }
        }
    }

    /// Starts the engine; a second one goes on with what the first one left.
    pub(super) fn start_engine(&mut self, how: &Engine) -> Result<(), Halt> {
        let mut args = self.setup.engine_args(&self.addresses, &self.dir);
        for assignment in &how.set {
            args.extend(["--set".to_owned(), assignment.clone()]);
        }
        args.extend(how.fault.iter().flat_map(|f| ["--fault".to_owned(), f.clone()]));
        self.engine_lives += 1;
        let log = match self.engine_lives {
            1 => "engine.log".to_owned(),
            n => format!("engine-{n}.log"),
        };
        // The address of the life before is nobody's.
        self.ops = None;
        self.engine = Some(Child::start(&args, &self.dir.join(log), how.bounded_files)?);
        Ok(())
    }

    /// The engine's log.
    pub(super) fn log(&self) -> &str {
        self.engine.as_ref().map_or("", Child::log)
    }

    /// The engine's log line after `from` with all of `words`.
    pub(super) fn line(&self, from: usize, words: &[&str]) -> Option<String> {
        self.engine.as_ref()?.line(from, words).map(str::to_owned)
    }

    /// Sends the engine a signal.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(engine) = &self.engine {
            engine.signal(signal);
        }
    }

    /// Sends the venues a signal.
    pub(super) fn signal_venue(&mut self, signal: Signal) {
        self.venue_may_end = signal == Signal::KILL || signal == Signal::TERM;
        self.venue.signal(signal);
    }

    /// No file of the engine may grow beyond `bytes`.
    pub(super) fn bound_files(&self, bytes: u64) -> Result<(), Halt> {
        self.engine.as_ref().map_or(Ok(()), |engine| Ok(engine.bound_files(bytes)?))
    }

    /// Where the venues listen, one address each.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The folder of the drill.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Takes in what was logged, for some milliseconds.
    fn breathe(&mut self) -> Result<(), Halt> {
        if let Some(signal) = self.signals.stop() {
            return Err(Halt::Interrupted(signal));
        }
        self.venue.pump(Duration::ZERO)?;
        match &mut self.engine {
            Some(engine) if engine.exit_code().is_none() => engine.pump(LOOK)?,
            _ => self.venue.pump(LOOK)?,
        }
        match self.venue.exit_code() {
            Some(code) if !self.venue_may_end => {
                let last = self.venue.log().lines().last().unwrap_or("it says nothing");
                Err(Halt::System(format!("the simulated venue ended with {code}: {last}")))
            }
            _ => Ok(()),
        }
    }

    /// Looks again and again until `look` finds something.
    fn look_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        may_end: bool,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, Halt> {
        let begin = now();
        loop {
            let ended = self.exit_code();
            if let Some(found) = look(self) {
                return Ok(found);
            }
            if let Some(code) = ended.filter(|_| !may_end) {
                let last = self.log().lines().last().unwrap_or("it says nothing").to_owned();
                self.facts.exit_code = Some(code);
                return Err(Halt::Broken(format!("{what}: the engine ended with {code}: {last}")));
            }
            if now().since(begin) > limit {
                return Err(Halt::Broken(format!("{what}: not within {}", short(limit))));
            }
            self.breathe()?;
        }
    }

    /// Waits for what the running engine does.
    pub(super) fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        look: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<T, Halt> {
        self.look_until(what, limit, false, look)
    }

    /// Waits for a log line after `from` with all of `words`.
    pub(super) fn until_line(
        &mut self,
        limit: Duration,
        from: usize,
        words: &[&str],
    ) -> Result<String, Halt> {
        let what = words.join(" ").trim().to_owned();
        self.look_until(&what, limit, true, |stage| stage.line(from, words))
    }

    /// Lets `time` pass.
    pub(super) fn pass(&mut self, time: Duration) -> Result<(), Halt> {
        let begin = now();
        while now().since(begin) < time {
            self.breathe()?;
        }
        Ok(())
    }

    /// The engine's exit code, once it has ended.
    fn exit_code(&self) -> Option<i32> {
        self.engine.as_ref().and_then(Child::exit_code)
    }

    /// Waits for the end; the exit code and the time that it took.
    pub(super) fn until_end(&mut self, limit: Duration) -> Result<(i32, Duration), Halt> {
        let begin = now();
        let code = self.look_until("the end of the engine", limit, true, |s| s.exit_code())?;
        self.facts.exit_code = Some(code);
        Ok((code, now().since(begin)))
    }

    /// What the engine shows.
    pub(super) fn status(&mut self) -> Option<Value> {
        if self.ops.is_none() {
            let line = self.line(0, &["event=ops.listening"])?;
            self.ops = value_of(&line, "addr").and_then(|a| a.parse().ok());
        }
        http::get(self.ops?, "/status").ok()
    }

    /// Waits until the engine is live and the strategies have sent an order.
    pub(super) fn until_trading(&mut self) -> Result<(), Halt> {
        self.until_live()?;
        let begin = now();
        let sent = self.until("the first order", FIRST_ORDER_LIMIT, |stage| {
            stage.status().and_then(|s| sent_of(&s)).filter(|n| *n > 0)
        });
        self.first_order = now().since(begin);
        match sent {
            Err(Halt::Broken(_)) if self.exit_code().is_none() => {
                let limit = short(FIRST_ORDER_LIMIT);
                Err(Halt::Skipped(format!("the strategies sent no order within {limit}")))
            }
            other => other.map(drop),
        }
    }

    /// Waits until the engine is live.
    pub(super) fn until_live(&mut self) -> Result<(), Halt> {
        let words = ["event=engine.live"];
        self.until("live", START_LIMIT, |stage| stage.line(0, &words)).map(drop)
    }

    /// Waits until the engine is live and sends orders beyond those sent when this begins; how long that took.
    pub(super) fn until_trading_again(&mut self) -> Result<Duration, Halt> {
        let begin = now();
        let limit = RECOVERY_LIMIT.max(self.first_order.saturating_mul(4));
        let mut before = None;
        self.until("trading again", limit, |stage| {
            let status = stage.status()?;
            let sent = sent_of(&status)?;
            let more = sent > *before.get_or_insert(sent);
            (more && status["state"] == "live").then_some(())
        })?;
        Ok(now().since(begin))
    }

    /// Breaks the outside of every venue.
    pub(super) fn break_venues(&mut self, request: &str) -> Result<(), Halt> {
        for at in &self.addresses {
            http::post(*at, "/sim/faults", request)
                .map_err(|e| Halt::System(format!("/sim/faults {request}: {e}")))?;
        }
        Ok(())
    }

    /// Ends every fault outside.
    pub(super) fn mend_venues(&mut self) -> Result<(), Halt> {
        for at in &self.addresses {
            http::delete(*at, "/sim/faults")
                .map_err(|e| Halt::System(format!("/sim/faults: {e}")))?;
        }
        Ok(())
    }

    /// How often faults struck, at all venues.
    pub(super) fn hits(&mut self) -> Result<u64, Halt> {
        let states = self.truth()?;
        let faults = states.iter().flat_map(|s| {
            ["active", "over"].into_iter().filter_map(|k| s["faults"][k].as_array()).flatten()
        });
        Ok(faults.filter_map(|f| f["hits"].as_u64()).sum())
    }

    /// The state of every venue, which is the truth.
    pub(super) fn truth(&mut self) -> Result<Vec<Value>, Halt> {
        let addresses = self.addresses.clone();
        let begin = now();
        let mut last = String::new();
        while now().since(begin) < TRUTH_LIMIT {
            let states: io::Result<Vec<Value>> =
                addresses.iter().map(|at| http::get(*at, "/sim/state")).collect();
            match states {
                Ok(states) => return Ok(states),
                Err(e) => last = e.to_string(),
            }
            self.breathe()?;
        }
        Err(Halt::System(format!("the simulated venue does not answer: {last}")))
    }

    /// Ends the venues in an orderly way and starts them again, on the same ports with the same accounts.
    pub(super) fn restart_venues(&mut self, closed: Duration) -> Result<(), Halt> {
        self.signal_venue(Signal::TERM);
        let begin = now();
        while self.venue.exit_code().is_none() {
            self.breathe()?;
            if now().since(begin) > VENUE_START_LIMIT {
                return Err(Halt::System("the simulated venue does not end".to_owned()));
            }
        }
        self.pass(closed)?;
        let addresses = self.addresses.clone();
        self.setup.write_venues(&self.dir, UPDATES_PER_S, Some(&addresses))?;
        self.venue_lives += 1;
        let log = self.dir.join(format!("venue-{}.log", self.venue_lives));
        self.venue = Child::start(&Setup::venue_args(&self.dir), &log, false)?;
        self.venue_may_end = false;
        self.venue_addresses().map(drop)
    }

    /// The engine's final report; null when there is none.
    pub(super) fn report(&self) -> Value {
        let text = std::fs::read_to_string(self.dir.join("state/report.json"));
        text.ok().and_then(|t| serde_json::from_str(&t).ok()).unwrap_or(Value::Null)
    }
}

/// Orders sent so far.
fn sent_of(status: &Value) -> Option<u64> {
    status["orders"]["sent"].as_u64()
}

/// The present.
pub(super) fn now() -> MonoNs {
    Clock::System.now()
}
