//! A system on real threads.
//!
//! The calling thread becomes the supervisor and is never pinned. It parks on its reports and the signals, at most
//! until the next tick. What always holds: it returns an [`Outcome`], within the hard limit of the drain's beginning
//! or the wedge ladder's time, unless the reaper ends the process first.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::Receiver;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::{Clock, MonoNs};

use super::actor::ActorId;
use super::child::ChildSpec;
use super::drain::awaits_pill;
use super::driver::{Driver, DriverParts, Reach};
use super::events::Line;
use super::exit::{EXIT_BUDGET, EXIT_SYSTEM, StopReason};
use super::health::ActorState;
use super::host::{Host, HostControl, wake_set};
use super::panic::caught;
use super::placement::HostPlan;
use super::protocol::{ChildPlan, Event, Limits};
use super::reaper::Reaper;
use super::report::Outcome;
use super::seat::{Reports, Seat, SeatControl, SeatParts};
use super::signal::Signals;
use super::stall::{Quota, ThreadLook, Watch};
use super::supervisor::Supervisor;
use super::system::{System, index_u16};
use super::thread::spawn;

/// A pill that found no room is offered again after this; a consumer at work makes room much sooner than a tick.
const PILL_RETRY: Duration = Duration::from_millis(1);
/// What the hosts get to end after everything is decided.
const HALT_GRACE: Duration = Duration::from_millis(500);
/// How many times as long as `stall_fail` a thread may wait for a core: it does not hang, the machine is busy.
const STARVED_PATIENCE: u32 = 5;
/// Room in the report channel besides two reports per actor.
const SPARE_REPORTS: usize = 16;

/// Everything that run and stepper build the same way.
pub(super) struct Assembly {
    pub(super) seats: Vec<SeatParts>,
    pub(super) driver: Driver,
    pub(super) reports: Receiver<Event>,
}

impl System {
    /// Builds the seats and the driver; `hosts` has one control per planned host, or none in the stepper.
    pub(super) fn assemble(
        &mut self,
        hosts: &[Arc<HostControl>],
        begun: MonoNs,
        reaper: Option<Reaper>,
    ) -> Assembly {
        let (tx, rx) = crossbeam_channel::bounded(self.actors.len() * 2 + SPARE_REPORTS);
        let reports = Reports { tx, waker: self.stop.waker.clone() };
        let phase_of = |id: ActorId| self.spec(id).phase;
        let edge_plans = self.edge_plans();
        let (mut seats, mut reach, mut plans) = (Vec::new(), Vec::new(), Vec::new());
        for (i, actor) in self.actors.iter().enumerate() {
            let id = ActorId(index_u16(i));
            let spec = self.spec(id);
            let pills_due = self.wired.iter().zip(&edge_plans).filter(|(wired, plan)| {
                wired.in_band && plan.to == id && awaits_pill(plan, phase_of)
            });
            let control = Arc::new(SeatControl::default());
            seats.push(SeatParts {
                id,
                cell: Arc::clone(&actor.cell),
                control: Arc::clone(&control),
                start: Arc::clone(&spec.start),
                edges: Arc::clone(&self.edge_table),
                pills_due: u32::from(index_u16(pills_due.count())),
                reports: reports.clone(),
            });
            let host = self.plan.hosts.iter().position(|h| h.seats.contains(&id));
            reach.push(Reach {
                control,
                waker: actor.waker.clone(),
                host: host.and_then(|h| hosts.get(h)).cloned(),
                shares_host: host.is_some_and(|h| self.plan.hosts[h].seats.len() > 1),
                watch: Watch::new(spec.stall_warn, spec.stall_fail),
                look: (ThreadLook::default(), MonoNs::ZERO),
                stall_lines: Quota::default(),
                starved_fail: spec.stall_fail.saturating_mul(STARVED_PATIENCE),
            });
            plans.push(child_plan(&actor.name, spec));
        }
        let seed = self.settings.seed;
        let core = Supervisor::new(self.limits(), plans, edge_plans, &self.groups, seed);
        let driver = Driver::new(DriverParts {
            core,
            health: self.health(),
            edges: self.edges(),
            reach,
            log: self.log.clone(),
            hooks: std::mem::take(&mut self.hooks),
            reports,
            reaper,
            phase_names: self.settings.phase_names.clone(),
            emergency_limit: self.settings.emergency_limit,
            masks_every: self.settings.masks_every,
            tally: self.tally.clone(),
            begun,
        });
        Assembly { seats, driver, reports: rx }
    }

    fn spec(&self, id: ActorId) -> &ChildSpec {
        self.actors[id.index()].spec.as_ref().expect("a built system has every child spec")
    }

    fn limits(&self) -> Limits {
        let s = &self.settings;
        Limits {
            root_intensity: s.root_intensity,
            consecutive_max: s.consecutive_max,
            start_timeout: s.start_timeout,
            start_deadline: s.start_deadline,
            hard_limit: s.hard_limit,
            stop_grace: s.stop_grace,
            wedge_grace: s.wedge_grace,
            emergency_limit: s.emergency_limit,
        }
    }

    /// Runs until a signal, the `duration`, a stop handle or a failure ends it. Call it on the main thread, with
    /// the signals that were registered in its first line; a wedged actor's thread still exists afterwards, so
    /// leave through `exit`, not by joining.
    pub fn run(mut self, signals: Option<&Signals>, duration: Option<Duration>) -> Outcome {
        let clock = Clock::System;
        let begun = clock.now();
        let reaper = Reaper::start(self.settings.reaper_exit);
        let refused = reaper.as_ref().err().map(|e| format!("no thread for the reaper: {e}"));
        let controls: Vec<Arc<HostControl>> =
            self.plan.hosts.iter().map(|_| Arc::default()).collect();
        let Assembly { seats, driver, reports } = self.assemble(&controls, begun, reaper.ok());
        let mut run = Run {
            driver,
            reports,
            stop: self.stop.clone(),
            clock,
            tick: self.settings.tick,
            ends: duration.map_or(MonoNs::NEVER, |d| begun.after(d)),
            signals,
        };
        let mut threads = Vec::new();
        let refused = match refused {
            Some(why) => Some(why),
            None => self.spawn_hosts(seats, &controls, &mut threads).err(),
        };
        self.tally.set_overprovisioned(self.plan.overprovisioned);
        let failure = run.supervise(self.announcement(), refused);
        self.halt(&controls, threads, &run.clock);
        let mut outcome = run.driver.outcome(run.clock.now());
        if let Some((code, why)) = failure {
            log::error!(target: "supervisor", "event=sup.exit code={code} reason={why:?}");
            (outcome.exit_code, outcome.reason) = (code, why);
        }
        outcome
    }

    /// The plan, and what is to be said against it.
    fn announcement(&self) -> Vec<Line> {
        let about =
            |line: Line| line.kv("plan", self.plan.line()).kv("cores", self.plan.usable_cores);
        let mut lines = vec![about(Line::info("sup.start").kv("actors", self.actors.len()))];
        if self.plan.overprovisioned {
            let hint = "more hot threads than cores: shared threading wakes fewer of them";
            lines.push(about(Line::warn("sup.overprovisioned")).kv("hint", hint));
        }
        lines
    }

    /// Makes the hosts' threads.
    fn spawn_hosts(
        &self,
        seats: Vec<SeatParts>,
        controls: &[Arc<HostControl>],
        threads: &mut Vec<JoinHandle<()>>,
    ) -> Result<(), String> {
        let mut seats: Vec<Option<SeatParts>> = seats.into_iter().map(Some).collect();
        for (plan, control) in self.plan.hosts.iter().zip(controls) {
            threads.push(
                self.spawn_host(plan, control, &mut seats)
                    .map_err(|e| format!("no thread for {}: {e}", plan.name))?,
            );
        }
        Ok(())
    }

    fn spawn_host(
        &self,
        plan: &HostPlan,
        control: &Arc<HostControl>,
        seats: &mut [Option<SeatParts>],
    ) -> io::Result<JoinHandle<()>> {
        let own: Vec<SeatParts> =
            plan.seats.iter().filter_map(|id| seats[id.index()].take()).collect();
        let wakers: Vec<_> =
            plan.seats.iter().map(|id| self.actors[id.index()].waker.clone()).collect();
        let (control, waker) = (Arc::clone(control), self.stop.waker.clone());
        let (plan, strict) = (plan.clone(), self.settings.strict_pin);
        let set = wake_set(&wakers)?;
        let name = plan.name.clone();
        spawn(&name, move || {
            let seats = own.into_iter().map(Seat::new).collect();
            Host::new(&plan, seats, wakers, set, control, waker).run(plan.core, strict);
        })
    }

    /// Ends the hosts' threads as far as they let themselves be ended.
    fn halt(&self, controls: &[Arc<HostControl>], threads: Vec<JoinHandle<()>>, clock: &Clock) {
        controls.iter().for_each(|c| c.halt.store(true, Ordering::SeqCst));
        self.actors.iter().for_each(|a| a.waker.wake());
        let until = clock.now().after(HALT_GRACE);
        let came_back = |i: usize| controls[i].ended.load(Ordering::Acquire);
        let wedged = |i: usize| {
            let seats = &self.plan.hosts[i].seats;
            seats.iter().any(|id| self.actors[id.index()].cell.state() == ActorState::Wedged)
        };
        while clock.now() < until && (0..threads.len()).any(|i| !came_back(i) && !wedged(i)) {
            rest(&self.stop.waker, until.since(clock.now()).min(Duration::from_millis(10)));
        }
        for (i, thread) in threads.into_iter().enumerate() {
            // A thread that does not come back is left behind; it ends with the process.
            if came_back(i) && thread.join().is_err() {
                log::error!(target: "supervisor", "event=panic thread={}", self.plan.hosts[i].name);
            }
        }
    }
}

/// The supervisor's loop.
struct Run<'a> {
    driver: Driver,
    reports: Receiver<Event>,
    stop: super::system::StopHandle,
    clock: Clock,
    tick: Duration,
    ends: MonoNs,
    signals: Option<&'a Signals>,
}

impl Run<'_> {
    /// Until the exit is decided, unless the system `refused` a thread; the exit code and why when it was not the
    /// core that decided. A panic in here is the one that nobody above would catch.
    fn supervise(
        &mut self,
        announcement: Vec<Line>,
        refused: Option<String>,
    ) -> Option<(i32, String)> {
        let ended = caught(|| {
            let utc = self.clock.utc();
            announcement.into_iter().for_each(|line| self.driver.say(utc, line));
            if refused.is_some() { Ok(()) } else { self.turns() }
        });
        let (code, why) = match ended {
            Ok(Ok(())) => return refused.map(|why| (EXIT_SYSTEM, why)),
            Ok(Err(e)) => (EXIT_SYSTEM, format!("the supervisor cannot wait: {e}")),
            Err(note) => {
                let why = format!("the supervisor panicked: {} at {}", note.message, note.at);
                (EXIT_BUDGET, why)
            }
        };
        self.driver.rescue(&self.reports, &self.clock, code, &why);
        Some((code, why))
    }

    fn turns(&mut self) -> io::Result<()> {
        let now = self.clock.now();
        self.driver.handle(now, self.clock.utc(), Event::Begin);
        let mut next_tick = now.after(self.tick);
        while self.driver.exit().is_none() {
            let now = self.clock.now();
            self.take_requests(now);
            while let Ok(event) = self.reports.try_recv() {
                self.driver.handle(now, self.clock.utc(), event);
            }
            let due = next_tick.min(self.driver.core.next_due());
            if now >= due {
                self.driver.tick(now, self.clock.utc());
                next_tick = now.after(self.tick);
            }
            if self.driver.has_waiting_pills() {
                next_tick = next_tick.min(now.after(PILL_RETRY));
            }
            if self.driver.exit().is_none() {
                self.park(next_tick)?;
            }
        }
        Ok(())
    }

    /// What comes from outside: signals, stop handles, the end of the duration.
    fn take_requests(&mut self, now: MonoNs) {
        let utc = self.clock.utc();
        if let Some(signals) = self.signals {
            signals.swallow();
            if signals.take_hang_up() {
                let draining = self.driver.core.is_draining();
                let asked =
                    self.driver.hooks.reload.as_mut().filter(|_| !draining).map(|hook| hook());
                let action = if asked.is_some() { "reload" } else { "ignored" };
                self.driver
                    .say(utc, Line::info("signal").kv("name", "SIGHUP").kv("action", action));
            }
            if signals.take_dump() {
                self.driver.dump(now, utc);
            }
        }
        if self.driver.core.is_draining() {
            // A drain runs once; asking again must not keep the supervisor awake.
            while self.stop.reasons.pop().is_some() {}
            return;
        }
        let asked = self.signals.and_then(Signals::stop).map(StopReason::asked);
        let asked = asked.or_else(|| self.stop.reasons.pop());
        let over = (now >= self.ends).then(|| StopReason::asked("duration"));
        if let Some(reason) = asked.or(over) {
            self.driver.handle(now, utc, Event::Drain(reason));
        }
    }

    /// Sleeps until a report, a signal, a request or the next deadline.
    fn park(&self, next_tick: MonoNs) -> io::Result<()> {
        let until = next_tick.min(self.driver.core.next_due()).min(self.ends_if_running());
        self.stop.waker.announce_sleep();
        let now = self.clock.now();
        if !self.reports.is_empty() || !self.stop.reasons.is_empty() || until <= now {
            self.stop.waker.awake();
            return Ok(());
        }
        let Some(waker) = self.stop.waker.fd() else { return Ok(()) };
        let span = Timespec::try_from(until.since(now)).unwrap_or_default();
        let mut fds = vec![PollFd::from_borrowed_fd(waker, PollFlags::IN)];
        fds.extend(self.signals.map(|s| PollFd::from_borrowed_fd(s.fd(), PollFlags::IN)));
        let result = poll(&mut fds, Some(&span));
        let woken = fds[0].revents().contains(PollFlags::IN);
        self.stop.waker.awake();
        if woken {
            self.stop.waker.drain();
        }
        match result {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn ends_if_running(&self) -> MonoNs {
        // Once the end is decided, the duration's must not keep the supervisor awake.
        let ending = self.driver.core.is_draining() || self.driver.core.is_on_last_rung();
        if ending { MonoNs::NEVER } else { self.ends }
    }
}

/// Sleeps until `waker` is woken, for `span` at most.
fn rest(waker: &super::wake::Waker, span: Duration) {
    waker.announce_sleep();
    if let Some(fd) = waker.fd() {
        let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        let span = Timespec::try_from(span).unwrap_or_default();
        // Whether it was an event or the time does not matter: the caller looks again.
        let _ = poll(&mut fds, Some(&span));
    }
    waker.awake();
    waker.drain();
}

fn child_plan(name: &str, spec: &ChildSpec) -> ChildPlan {
    ChildPlan {
        name: name.to_owned(),
        restart: spec.restart,
        group: spec.group,
        significant: spec.significant,
        depends_on: spec.depends_on.clone(),
        phase: spec.phase,
        drain_timeout: spec.drain_timeout,
        essential: spec.essential,
        must_drain: spec.must_drain,
        emergency: spec.emergency,
    }
}
