//! The progress of one drain: phases in order, each with a deadline, all under the hard limit.
//!
//! Pure bookkeeping for the supervisor's core, which says when a phase's actors are gone.

use std::time::Duration;

use crate::clock::MonoNs;

/// Kept free below the hard limit for the report, so that the supervisor's deadlines end before the reaper's.
const MARGIN: Duration = Duration::from_millis(300);

/// How one drain phase went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PhaseReport {
    pub(super) phase: u8,
    pub(super) took: Duration,
    pub(super) late: bool,
}

/// How hard the current phase's actors are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DrainStep {
    /// They drain.
    Graceful { until: MonoNs },
    /// They were told to stop where they stand.
    Stopping { until: MonoNs },
}

/// A drain under way.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) begun: MonoNs,
    pub(super) step: DrainStep,
    pub(super) reports: Vec<PhaseReport>,
    /// Until when to wait for the emergency routine, once the phases are over.
    pub(super) emergency: Option<MonoNs>,
    /// Ascending, without duplicates.
    phases: Vec<u8>,
    current: usize,
    phase_begun: MonoNs,
    limit: MonoNs,
}

impl Drain {
    pub(super) fn new(now: MonoNs, hard_limit: Duration, mut phases: Vec<u8>) -> Self {
        phases.sort_unstable();
        phases.dedup();
        Self {
            begun: now,
            step: DrainStep::Graceful { until: now },
            reports: Vec::new(),
            emergency: None,
            phases,
            current: 0,
            phase_begun: now,
            limit: now.after(hard_limit.saturating_sub(MARGIN)),
        }
    }

    /// The phase being drained; `None` when all are over.
    pub(super) fn phase(&self) -> Option<u8> {
        self.phases.get(self.current).copied()
    }

    /// Whether the drain of `phase` has begun.
    pub(super) fn has_reached(&self, phase: u8) -> bool {
        self.phase().is_none_or(|current| current >= phase)
    }

    /// No deadline lies behind the hard limit.
    pub(super) fn clamp(&self, until: MonoNs) -> MonoNs {
        until.min(self.limit)
    }

    /// The current phase begins and may take `budget`.
    pub(super) fn enter(&mut self, now: MonoNs, budget: Duration) {
        self.phase_begun = now;
        self.step = DrainStep::Graceful { until: self.clamp(now.after(budget)) };
    }

    /// The current phase missed its deadline: `grace` remains.
    pub(super) fn stop(&mut self, now: MonoNs, grace: Duration) {
        self.step = DrainStep::Stopping { until: self.clamp(now.after(grace)) };
    }

    /// The current phase is over.
    pub(super) fn leave(&mut self, now: MonoNs) {
        if let Some(phase) = self.phase() {
            let late = matches!(self.step, DrainStep::Stopping { .. });
            self.reports.push(PhaseReport { phase, took: now.since(self.phase_begun), late });
            self.current += 1;
        }
    }

    /// Whether any phase missed its deadline.
    pub(super) fn is_late(&self) -> bool {
        self.reports.iter().any(|r| r.late)
    }

    /// When the next deadline passes.
    pub(super) fn due(&self) -> MonoNs {
        if self.phase().is_none() {
            return self.emergency.unwrap_or(MonoNs::NEVER);
        }
        match self.step {
            DrainStep::Graceful { until } | DrainStep::Stopping { until } => until,
        }
    }
}
