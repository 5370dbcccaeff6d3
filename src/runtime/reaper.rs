//! The reaper: a thread that depends on nobody and ends the process when a hard limit passes.
//!
//! It is made before any actor and parks until it is armed. It owns nothing and takes no lock, so that it works when
//! the supervisor itself hangs. Dropping the [`Reaper`] disarms it.

use std::io;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::thread::spawn;

/// How often an unarmed reaper wakes to no purpose; waits have deadlines, this one included.
const UNARMED: Duration = Duration::from_secs(3_600);

/// Ends the process at once, without running anything else in it.
pub fn exit_now(code: i32) {
    signal_hook::low_level::exit(code);
}

#[derive(Clone, Copy, Debug)]
struct Sentence {
    limit: Duration,
    code: i32,
}

/// Owns the reaper's thread.
#[derive(Debug)]
pub struct Reaper {
    tx: Option<Sender<Sentence>>,
    thread: Option<JoinHandle<()>>,
}

impl Reaper {
    /// Makes the thread; `exit` is called with the code when an armed limit passes.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(exit: fn(i32)) -> io::Result<Self> {
        let (tx, rx) = bounded(8);
        let thread = spawn("reaper", move || wait(&rx, exit))?;
        Ok(Self { tx: Some(tx), thread: Some(thread) })
    }

    /// Ends the process with `code` after `limit`, unless an earlier end was armed already.
    pub(super) fn arm(&self, limit: Duration, code: i32) {
        if let Some(tx) = &self.tx {
            // Full means that it was armed eight times within its reaction time: it is armed.
            let _ = tx.try_send(Sentence { limit, code });
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        drop(self.tx.take());
        if let Some(thread) = self.thread.take() {
            // It parks on the channel that was just closed, so that this returns at once; a reaper that reaps
            // does not return at all.
            if thread.join().is_err() {
                log::error!(target: "supervisor", "event=panic thread=reaper");
            }
        }
    }
}

fn wait(rx: &Receiver<Sentence>, exit: fn(i32)) {
    let mut armed: Option<(crate::clock::MonoNs, i32)> = None;
    let clock = crate::clock::Clock::System;
    loop {
        let left = armed.map_or(UNARMED, |(at, _)| at.since(clock.now()));
        match rx.recv_timeout(left) {
            Ok(sentence) => {
                let at = clock.now().after(sentence.limit);
                if armed.is_none_or(|(earlier, _)| at < earlier) {
                    armed = Some((at, sentence.code));
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                if let Some((_, code)) = armed.take() {
                    exit(code);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI32, Ordering};

    use super::*;

    #[test]
    fn the_earliest_limit_counts() {
        static CODE: AtomicI32 = AtomicI32::new(0);
        fn note(code: i32) {
            CODE.store(code, Ordering::SeqCst);
        }
        let reaper = Reaper::start(note).expect("a thread");
        reaper.arm(Duration::from_secs(3_600), 1);
        reaper.arm(Duration::from_millis(1), 76);
        while CODE.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
        assert_eq!(CODE.load(Ordering::SeqCst), 76);
    }

    #[test]
    fn dropping_disarms() {
        fn never(code: i32) {
            panic!("reaped with {code}");
        }
        let reaper = Reaper::start(never).expect("a thread");
        reaper.arm(Duration::from_secs(3_600), 76);
        drop(reaper);
    }
}
