//! The stepper: the same actors and the same supervisor on one thread under a virtual clock.
//!
//! In: a seed, which decides the order of turns in every step, and time, which moves only here. Out: the same run for
//! the same seed. While every actor is idle, time jumps to the next moment at which something can happen.
//! Blocking sections really block, and a turn that never ends never ends: that is for real threads.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;

use crate::clock::{MonoNs, VirtualClock};

use super::actor::{ActorId, Waits, Work};
use super::driver::Driver;
use super::events::EventLog;
use super::exit::StopReason;
use super::health::HealthTable;
use super::mailbox::Edge;
use super::protocol::Event;
use super::report::Outcome;
use super::run::Assembly;
use super::seat::Seat;
use super::system::{StopHandle, System};

/// How fast virtual time passes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// What a step with work costs.
    pub busy: Duration,
    /// The longest jump over idle time: memory streams show their bytes to nobody but a turn.
    pub jump_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { busy: Duration::from_micros(1), jump_max: Duration::from_millis(10) }
    }
}

/// A system that is stepped.
pub struct Stepper {
    seats: Vec<Seat>,
    /// Until when a seat gets no turns.
    frozen: Vec<MonoNs>,
    order: Vec<usize>,
    driver: Driver,
    reports: Receiver<Event>,
    stop: StopHandle,
    clock: VirtualClock,
    random: fastrand::Rng,
    tick: Duration,
    next_tick: MonoNs,
    pace: Pace,
    waits: Waits,
}

impl std::fmt::Debug for Stepper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stepper").field("now", &self.clock.now()).finish_non_exhaustive()
    }
}

impl System {
    /// The same system on one thread, under `clock`; `seed` decides the order of turns.
    pub fn stepper(mut self, seed: u64, clock: VirtualClock) -> Stepper {
        let now = clock.now();
        let Assembly { seats, mut driver, reports } = self.assemble(&[], now, None);
        driver.handle(now, clock.utc(), Event::Begin);
        let seats: Vec<Seat> = seats.into_iter().map(Seat::new).collect();
        Stepper {
            frozen: vec![MonoNs::ZERO; seats.len()],
            order: (0..seats.len()).collect(),
            seats,
            driver,
            reports,
            stop: self.stop,
            clock,
            random: fastrand::Rng::with_seed(seed),
            tick: self.settings.tick,
            next_tick: now.after(self.settings.tick),
            pace: Pace::default(),
            waits: Waits::default(),
        }
    }
}

impl Stepper {
    /// Changes how fast virtual time passes.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// The virtual time.
    pub fn now(&self) -> MonoNs {
        self.clock.now()
    }

    /// The clock that the stepper moves.
    pub fn clock(&self) -> &VirtualClock {
        &self.clock
    }

    /// The health cells, by actor id.
    pub fn health(&self) -> HealthTable {
        Arc::clone(&self.driver.health)
    }

    /// The edges, by edge id.
    pub fn edges(&self) -> Arc<[Arc<dyn Edge>]> {
        Arc::clone(&self.driver.edges)
    }

    /// The supervisor's last events.
    pub fn events(&self) -> EventLog {
        self.driver.log.clone()
    }

    /// A handle that asks the system to drain.
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// The exit code, once the system has ended.
    pub fn exit_code(&self) -> Option<i32> {
        self.driver.exit()
    }

    /// Gives the actor no turns for `span`, as if its thread were not scheduled.
    pub fn freeze(&mut self, actor: ActorId, span: Duration) {
        if let Some(frozen) = self.frozen.get_mut(actor.index()) {
            *frozen = self.clock.now().after(span);
        }
    }

    /// One step: the supervisor's business, one turn of every actor in an order that the seed decides, and then
    /// time moves. Idle when nothing had work.
    pub fn step(&mut self) -> Work {
        self.supervise();
        let (now, utc) = (self.clock.now(), self.clock.utc());
        let mut all = Work::Idle;
        self.random.shuffle(&mut self.order);
        for i in &self.order {
            if self.frozen[*i] <= now {
                all = all.or(self.seats[*i].turn(now, utc));
            }
        }
        self.supervise();
        self.pass_time(all);
        all
    }

    /// Steps until `span` has passed or the system has ended.
    pub fn run_for(&mut self, span: Duration) {
        let end = self.clock.now().after(span);
        while self.clock.now() < end && self.exit_code().is_none() {
            self.step();
        }
    }

    /// Steps until `done` says so, for `limit` at most; whether it did.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        let end = self.clock.now().after(limit);
        while self.clock.now() < end && self.exit_code().is_none() {
            if done(self) {
                return true;
            }
            self.step();
        }
        done(self)
    }

    /// Drains, as on SIGTERM, and gives the outcome.
    pub fn drain(mut self, why: &str) -> Outcome {
        self.handle(Event::Drain(StopReason::asked(why)));
        self.finish()
    }

    /// Steps to the end of a system that is ending, and gives the outcome.
    pub fn finish(mut self) -> Outcome {
        while self.exit_code().is_none() {
            if !self.driver.core.is_draining() {
                self.handle(Event::Drain(StopReason::asked("finished")));
            }
            self.step();
        }
        self.driver.outcome(self.clock.now())
    }

    fn handle(&mut self, event: Event) {
        self.driver.handle(self.clock.now(), self.clock.utc(), event);
    }

    /// Delivers reports and requests, and ticks when it is time.
    fn supervise(&mut self) {
        while let Ok(event) = self.reports.try_recv() {
            self.handle(event);
        }
        if let Some(reason) = self.stop.reasons.pop() {
            self.handle(Event::Drain(reason));
        }
        let now = self.clock.now();
        if now >= self.next_tick.min(self.driver.core.next_due()) {
            self.driver.tick(now, self.clock.utc());
            self.next_tick = now.after(self.tick);
        }
    }

    fn pass_time(&mut self, work: Work) {
        let now = self.clock.now();
        if work == Work::Busy || !self.reports.is_empty() {
            self.clock.advance(self.pace.busy);
            return;
        }
        self.waits.clear();
        for (seat, frozen) in self.seats.iter_mut().zip(&self.frozen) {
            if seat.is_taken() && *frozen <= now {
                seat.waits(&mut self.waits);
            } else if *frozen > now {
                self.waits.until(*frozen);
            }
        }
        if self.waits.ready {
            self.clock.advance(self.pace.busy);
            return;
        }
        let until = self.waits.until.unwrap_or(MonoNs::NEVER);
        let until = until.min(self.next_tick).min(self.driver.core.next_due());
        let until = until.min(now.after(self.pace.jump_max));
        // A moment that has passed already must not stop time.
        self.clock.advance(until.since(now).max(self.pace.busy));
    }
}
