//! What stops all new orders at once, from any thread.
//!
//! Two independent stops: the *switch*, which stays tripped until a person resets it, and *fences*, which the
//! supervisor puts up while an actor does not answer and takes down again. Cancels pass both. Reading the state
//! costs two loads; only tripping and looking at the reason take a lock, on cold threads.

use std::sync::{Arc, PoisonError};

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The switch; clones share one.
#[derive(Clone, Debug, Default)]
pub struct KillSwitch(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    tripped: AtomicBool,
    fences: AtomicU32,
    reason: Mutex<Option<String>>,
}

/// Whether new orders may be sent, as far as the switch and the fences are concerned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TradingState {
    /// Whether the switch is tripped.
    pub tripped: bool,
    /// Fences that are up.
    pub fences: u32,
}

impl TradingState {
    /// Whether new orders may be sent.
    pub fn enabled(self) -> bool {
        !self.tripped && self.fences == 0
    }
}

impl KillSwitch {
    /// A switch that is not tripped, without fences.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trips the switch. Only the first reason is kept; true when this call tripped it.
    pub fn trip(&self, reason: &str) -> bool {
        let mut kept = self.0.reason.lock().unwrap_or_else(PoisonError::into_inner);
        let first = !self.0.tripped.swap(true, Ordering::SeqCst);
        if first {
            *kept = Some(reason.to_owned());
        }
        first
    }

    /// Releases the switch; a person decides that, never the engine. True when it was tripped.
    pub fn reset(&self) -> bool {
        let mut kept = self.0.reason.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = None;
        self.0.tripped.swap(false, Ordering::SeqCst)
    }

    /// Puts up one fence.
    pub fn fence(&self) {
        self.0.fences.fetch_add(1, Ordering::SeqCst);
    }

    /// Takes down one fence; without one up it does nothing.
    pub fn unfence(&self) {
        // An error means that no fence was up, which leaves nothing to take down.
        let _ = self
            .0
            .fences
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |fences| fences.checked_sub(1));
    }

    /// The state of both.
    pub fn state(&self) -> TradingState {
        TradingState {
            tripped: self.0.tripped.load(Ordering::Acquire),
            fences: self.0.fences.load(Ordering::Acquire),
        }
    }

    /// Why the switch was tripped, if it is.
    pub fn reason(&self) -> Option<String> {
        self.0.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_reason_stays_until_reset() {
        let switch = KillSwitch::new();
        assert!(switch.state().enabled());
        assert!(switch.trip("operator"));
        assert!(!switch.clone().trip("loss"));
        assert_eq!(switch.reason().as_deref(), Some("operator"));
        assert!(!switch.state().enabled());
        assert!(switch.reset());
        assert!(switch.state().enabled() && switch.reason().is_none());
    }

    #[test]
    fn fences_are_counted_and_independent_of_the_switch() {
        let switch = KillSwitch::new();
        switch.fence();
        switch.fence();
        switch.unfence();
        assert!(!switch.state().enabled());
        assert!(!switch.reset());
        assert!(!switch.state().enabled());
        switch.unfence();
        switch.unfence();
        assert_eq!(switch.state(), TradingState { tripped: false, fences: 0 });
    }
}
