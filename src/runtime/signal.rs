//! Signals, from the first line of `main` on.
//!
//! The first SIGTERM, SIGINT or SIGQUIT asks for a drain; the second ends the process at once, from inside the
//! handler, even if every thread spins. SIGHUP asks for a reload, SIGUSR1 and SIGUSR2 ask for a dump. Must be
//! registered before any thread is made: the registration itself races with other threads.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::{flag, low_level};

/// The process's registered signals.
#[derive(Debug)]
pub struct Signals {
    /// The number of the signal that asked for a drain; 0 for none.
    stop: Arc<AtomicUsize>,
    hang_up: Arc<AtomicBool>,
    dump: Arc<AtomicBool>,
    /// Readable after any signal.
    pipe: UnixStream,
}

impl Signals {
    /// Registers all handlers.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn register() -> io::Result<Self> {
        let stop = Arc::new(AtomicUsize::new(0));
        let armed = Arc::new(AtomicBool::new(false));
        let (pipe, write) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        for (signal, number) in [(SIGTERM, 15), (SIGINT, 2), (SIGQUIT, 3)] {
            // The order is the point: the first signal passes this line unarmed and arms it in the next one.
            flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&armed))?;
            flag::register(signal, Arc::clone(&armed))?;
            flag::register_usize(signal, Arc::clone(&stop), number)?;
            low_level::pipe::register(signal, write.try_clone()?)?;
        }
        let (hang_up, dump) = (Arc::default(), Arc::default());
        for (signal, flag) in [(SIGHUP, &hang_up), (SIGUSR1, &dump), (SIGUSR2, &dump)] {
            flag::register(signal, Arc::clone(flag))?;
            low_level::pipe::register(signal, write.try_clone()?)?;
        }
        Ok(Self { stop, hang_up, dump, pipe })
    }

    /// The name of the signal that asked for a drain, if one did.
    pub fn stop(&self) -> Option<&'static str> {
        match self.stop.load(Ordering::SeqCst) {
            0 => None,
            2 => Some("SIGINT"),
            3 => Some("SIGQUIT"),
            _ => Some("SIGTERM"),
        }
    }

    /// Whether SIGHUP came since the last call.
    pub fn take_hang_up(&self) -> bool {
        self.hang_up.swap(false, Ordering::SeqCst)
    }

    /// Whether SIGUSR1 or SIGUSR2 came since the last call.
    pub fn take_dump(&self) -> bool {
        self.dump.swap(false, Ordering::SeqCst)
    }

    /// What to poll for signals.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }

    /// Swallows what made the descriptor readable; the flags are looked at afterwards.
    pub(super) fn swallow(&self) {
        let mut bytes = [0; 64];
        // Would-block means that nothing is left.
        while (&self.pipe).read(&mut bytes).is_ok_and(|n| n == bytes.len()) {}
    }
}
