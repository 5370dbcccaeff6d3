//! What the driver looks at on its ticks: progress, masks, losses, and now and then every actor as a whole.
//!
//! The second half of the driver. It reads cells, edges and a few small files of the kernel, says what changed, and
//! turns a lack of progress into events for the core. It accuses the seat that is in its turn, never one that waits
//! for a neighbour, and nobody at all after the supervisor was itself suspended.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use log::Level;

use crate::clock::{MonoNs, UtcNs};

use super::actor::ActorId;
use super::driver::Driver;
use super::events::Line;
use super::health::{ActorState, Phase};
use super::mailbox::{Edge, EdgeCounts};
use super::placement::pin_thread;
use super::protocol::Event;
use super::stall::{ThreadLook, Verdict};
use super::thread::ThreadFacts;

/// Between two looks at the edges' losses.
const LOSSES_EVERY: Duration = Duration::from_secs(1);
/// Lines about the losses of an edge for one reason before they are summed up.
const LOSS_LINES: u32 = 10;
/// How often they are summed up then.
const LOSS_SUMMARY: Duration = Duration::from_secs(300);
/// Between two lines about every actor at debug level.
const PORTRAITS_EVERY: Duration = Duration::from_secs(10);

/// When the slower looks are due.
#[derive(Clone, Copy, Debug)]
pub(super) struct NextLooks {
    losses: MonoNs,
    masks: MonoNs,
    portraits: MonoNs,
}

impl NextLooks {
    pub(super) fn after(now: MonoNs, masks_every: Duration) -> Self {
        Self {
            losses: now.after(LOSSES_EVERY),
            masks: now.after(masks_every),
            portraits: now.after(PORTRAITS_EVERY),
        }
    }
}

/// Whether it is time, and when it will be again.
fn is_due(due: &mut MonoNs, now: MonoNs, every: Duration) -> bool {
    let is = now >= *due;
    if is {
        *due = now.after(every);
    }
    is
}

/// The reasons for which an edge loses messages, and their counts.
fn losses_of(counts: &EdgeCounts) -> [(&'static str, u64); 5] {
    [
        ("overflow", counts.dropped_overflow),
        ("closed", counts.dropped_closed),
        ("restart", counts.dropped_restart),
        ("resync", counts.dropped_resync),
        ("in_flight", counts.lost_in_flight),
    ]
}

/// What was said about one reason.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    count: u64,
    lines: u32,
    next: MonoNs,
}

/// What was said about an edge's losses, by reason.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses([Told; 5]);

/// The books of one edge in a line.
pub(super) fn edge_line(edge: &dyn Edge) -> Line {
    let counts = edge.counts();
    let mut line = Line::info("edge.dump")
        .kv("edge", &edge.spec().name)
        .kv("depth", counts.left)
        .kv("capacity", edge.capacity())
        .kv("high_water", counts.high_water)
        .kv("sent", counts.sent)
        .kv("handled", counts.handled)
        .kv("refused", counts.refused)
        .kv("conflated", counts.conflated);
    for (reason, lost) in losses_of(&counts) {
        line = line.kv(reason, lost);
    }
    line
}

impl Driver {
    /// Looks at everything whose time has come.
    pub(super) fn look_around(&mut self, now: MonoNs, utc: UtcNs) {
        for i in 0..self.reach.len() {
            self.watch(now, utc, i);
        }
        if is_due(&mut self.next_looks.losses, now, LOSSES_EVERY) {
            self.tell_losses(now, utc);
        }
        if is_due(&mut self.next_looks.masks, now, self.masks_every) {
            self.verify_masks(utc);
        }
        if is_due(&mut self.next_looks.portraits, now, PORTRAITS_EVERY)
            && log::log_enabled!(target: "supervisor", Level::Debug)
        {
            for i in 0..self.health.len() {
                let line = self.portrait(now, i, Line::info("actor.counts"));
                log::debug!(target: "supervisor", "{}", line.text);
            }
        }
    }

    /// Samples one actor's progress.
    fn watch(&mut self, now: MonoNs, utc: UtcNs, i: usize) {
        let cell = Arc::clone(&self.health[i]);
        if !matches!(cell.state(), ActorState::Running | ActorState::Draining) {
            return;
        }
        let reach = &mut self.reach[i];
        let (phase, deadline) = cell.phase();
        let declared = matches!(phase, Phase::Parked | Phase::Blocking);
        let excused = if declared { deadline } else { MonoNs::ZERO };
        if reach.shares_host && !declared && !is_in_turn(reach.host.as_deref(), i) {
            // The seat that is in its turn is accused, not those that wait for it.
            reach.watch.reset(now);
        }
        let Some(verdict) = reach.watch.sample(now, cell.beat(), excused) else { return };
        let (actor, generation) =
            (ActorId(u16::try_from(i).unwrap_or(u16::MAX)), cell.generation());
        match verdict {
            Verdict::Warn(age) => {
                cell.set_stall_age(age);
                self.tell_stall(now, utc, i, age);
                self.handle(now, utc, Event::Stalled { actor, generation });
            }
            Verdict::Clear(age) => {
                cell.set_stall_age(Duration::ZERO);
                let line = Line::info("stall.clear").kv("actor", cell.name());
                self.say(utc, line.kv("age_ms", age.as_millis()));
                self.handle(now, utc, Event::Recovered { actor, generation });
            }
            Verdict::Fail(age) => {
                cell.set_stall_age(age);
                let (look, since) = &reach.look;
                let (found, span) = (ThreadLook::at(cell.tid()), now.since(*since));
                if found.is_starved(look, span) && age < reach.starved_fail {
                    self.tell_stall(now, utc, i, age);
                    return;
                }
                let doing = found.since(look, span);
                let message = self.last_message(&cell);
                let how = format!("{doing} for {} ms; last message {message}", age.as_millis());
                self.handle(now, utc, Event::Wedged { actor, generation, how });
            }
        }
    }

    /// Says what a silent actor's thread does: compared with the last look if this is not the first.
    fn tell_stall(&mut self, now: MonoNs, utc: UtcNs, i: usize, age: Duration) {
        let cell = Arc::clone(&self.health[i]);
        let look = ThreadLook::at(cell.tid());
        let reach = &mut self.reach[i];
        let span = now.since(reach.look.1);
        // An older look is of an older stall.
        let doing = if span <= age {
            look.since(&reach.look.0, span)
        } else {
            look.since(&ThreadLook::default(), Duration::ZERO)
        };
        reach.look = (look, now);
        let Some(withheld) = reach.stall_lines.admit(now) else { return };
        let (phase, _) = cell.phase();
        let mut line = Line::warn("stall.warn")
            .kv("actor", cell.name())
            .kv("age_ms", age.as_millis())
            .kv("last_msg", self.last_message(&cell));
        if phase == Phase::Blocking {
            line = line.kv("op", cell.op());
        }
        line = line.kv("thread", doing);
        if withheld > 0 {
            line = line.kv("withheld", withheld);
        }
        self.say(utc, line);
    }

    /// Names edges that lost messages since the last look, and why.
    fn tell_losses(&mut self, now: MonoNs, utc: UtcNs) {
        for i in 0..self.edges.len() {
            for (reason, (why, lost)) in losses_of(&self.edges[i].counts()).into_iter().enumerate()
            {
                let told = &mut self.losses[i].0[reason];
                if lost <= told.count || (told.lines >= LOSS_LINES && now < told.next) {
                    continue;
                }
                let line = Line::warn("dead_letter")
                    .kv("edge", &self.edges[i].spec().name)
                    .kv("why", why)
                    .kv("new", lost - told.count)
                    .kv("total", lost);
                *told = Told { count: lost, lines: told.lines + 1, next: now.after(LOSS_SUMMARY) };
                self.say(utc, line);
            }
        }
    }

    /// Pins threads again that somebody has moved.
    fn verify_masks(&mut self, utc: UtcNs) {
        for cell in Arc::clone(&self.health).iter() {
            let Some(core) = cell.core() else { continue };
            let allowed = ThreadFacts::of(cell.tid()).cpus_allowed;
            if allowed.is_empty() || allowed == core.to_string() {
                continue;
            }
            self.tally.count_lost_pin();
            let mut line = Line::warn("pin.lost")
                .kv("actor", cell.name())
                .kv("core", core)
                .kv("found", allowed);
            line = match pin_thread(cell.tid(), core) {
                Ok(()) => line.kv("action", "pinned_again"),
                Err(why) => {
                    cell.set_thread(cell.tid(), None);
                    line.kv("action", "left").kv("reason", why)
                }
            };
            self.say(utc, line);
        }
    }

    /// One actor's every counter, appended to `line`.
    pub(super) fn portrait(&self, now: MonoNs, i: usize, line: Line) -> Line {
        let cell = &self.health[i];
        let id = ActorId(u16::try_from(i).unwrap_or(u16::MAX));
        let (mut taken, mut lost) = (0, 0);
        for edge in self.edges.iter().filter(|e| e.spec().to == id) {
            let counts = edge.counts();
            taken += counts.handled + counts.lost_in_flight;
            lost += counts.lost_in_flight;
        }
        let alone = |e: &&Arc<dyn Edge>| e.spec().from == [id];
        let sent: u64 = self.edges.iter().filter(alone).map(|e| e.counts().sent).sum();
        let facts = ThreadFacts::of(cell.tid());
        let up = cell.ready_since().map_or(Duration::ZERO, |since| now.since(since));
        let doing = ThreadLook::at(cell.tid()).since(&ThreadLook::default(), Duration::ZERO);
        line.kv("actor", cell.name())
            .kv("state", cell.state().label())
            .kv("gen", cell.generation())
            .kv("restarts", cell.restarts())
            .kv("consecutive", cell.consecutive())
            .kv("last_exit", cell.last_exit().unwrap_or_default())
            .kv("uptime_ms", up.as_millis())
            .kv("turns", cell.beat())
            .kv("busy_turns", cell.busy_turns())
            .kv("turn_max_us", cell.turn_max_ns() / 1_000)
            .kv("long_turns", cell.long_turns())
            .kv("msgs_in", taken)
            .kv("msgs_out", sent)
            .kv("in_flight_lost", lost)
            .kv("last_msg", self.last_message(cell))
            .kv("left", self.left(id))
            .kv("stalls", cell.stalls())
            .kv("stall_age_ms", cell.stall_age().as_millis())
            .kv("interrupted", cell.interrupted())
            .kv("tid", cell.tid())
            .kv("pinned", cell.core().is_some())
            .kv("cpus", facts.cpus_allowed)
            .kv("cpu_ms", facts.cpu_ms)
            .kv("switches_voluntary", facts.switches_voluntary)
            .kv("switches_involuntary", facts.switches_involuntary)
            .kv("thread", doing)
    }
}

fn is_in_turn(host: Option<&super::host::HostControl>, i: usize) -> bool {
    let own = u32::try_from(i).unwrap_or(u32::MAX).saturating_add(1);
    host.is_none_or(|h| h.in_turn.load(Ordering::Relaxed) == own)
}
