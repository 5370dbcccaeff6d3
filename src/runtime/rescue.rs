//! The last resort of a supervisor that has failed itself: nobody is left to drain, so what is open outside is closed
//! by the emergency routine.
//!
//! In: the driver as the panic left it, of which only the hooks and the reaper are used. What always holds: it returns
//! within the emergency limit, and the process ends within the hard limit whatever happens after it.

use crossbeam_channel::Receiver;

use crate::clock::Clock;

use super::driver::Driver;
use super::panic::caught;
use super::protocol::Event;

impl Driver {
    /// Stops trading and runs the emergency routine on its thread; the reaper ends the process with `code` if the
    /// rest takes too long.
    pub(super) fn rescue(
        &mut self,
        reports: &Receiver<Event>,
        clock: &Clock,
        code: i32,
        why: &str,
    ) {
        log::error!(target: "supervisor", "event=sup.failed code={code} why={why:?}");
        if let Some(reaper) = &self.reaper {
            reaper.arm(self.core.limits.hard_limit, code);
        }
        // A hook may be what has failed; the emergency routine is called anyway.
        if let Some(fence) = &mut self.hooks.fence
            && let Err(note) = caught(|| fence(true, why))
        {
            log::error!(target: "supervisor", "event=panic hook=fence msg={:?}", note.message);
        }
        if self.hooks.emergency.is_none() {
            return;
        }
        let until = clock.now().after(self.emergency_limit);
        self.run_emergency();
        // Reports of actors mean nothing any more.
        while let Ok(event) = reports.recv_timeout(until.since(clock.now())) {
            if matches!(event, Event::EmergencyDone) {
                return;
            }
        }
    }
}
