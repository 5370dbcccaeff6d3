//! The reaper: a thread that depends on nobody and ends the process when a hard limit passes.
//!
//! It is made before any actor and parks until it is armed. It owns nothing and takes no lock, so that it works when
//! the supervisor itself hangs: it listens to the supervisor's heart, and ends the process when that has stood still
//! for 15 s. Dropping the [`Reaper`] disarms it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::clock::{Clock, MonoNs};

use super::exit::EXIT_LATE;
use super::thread::spawn;

/// How often it listens.
const LISTEN_EVERY: Duration = Duration::from_secs(1);
/// A supervisor, which ticks every 50 ms and never waits for anybody, that has not ticked for so long hangs. Longer than
/// the whole wedge ladder.
const SILENCE_MAX: Duration = Duration::from_secs(15);

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
    /// Ticks of the supervisor.
    heart: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Reaper {
    /// Makes the thread; `exit` is called with the code when an armed limit passes.
    ///
    /// # Errors
    /// The system has no thread left.
    pub fn start(exit: fn(i32)) -> io::Result<Self> {
        let (tx, rx) = bounded(8);
        let heart = Arc::new(AtomicU64::new(0));
        let ear = Ear { heart: Arc::clone(&heart), heard: 0, silent: Duration::ZERO };
        let thread = spawn("reaper", move || wait(&rx, ear, exit))?;
        Ok(Self { tx: Some(tx), heart, thread: Some(thread) })
    }

    /// The supervisor is alive.
    pub(super) fn beat(&self) {
        self.heart.fetch_add(1, Ordering::Relaxed);
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

/// What the reaper hears of the supervisor.
struct Ear {
    heart: Arc<AtomicU64>,
    heard: u64,
    silent: Duration,
}

impl Ear {
    /// Whether the heart has stood still for too long. Only time in which the reaper itself ran counts, so that a
    /// suspended process accuses nobody; and nothing counts before the first beat.
    fn is_silent(&mut self) -> bool {
        let beats = self.heart.load(Ordering::Relaxed);
        if beats == self.heard && beats > 0 {
            self.silent += LISTEN_EVERY;
        } else {
            (self.heard, self.silent) = (beats, Duration::ZERO);
        }
        self.silent >= SILENCE_MAX
    }
}

fn wait(rx: &Receiver<Sentence>, mut ear: Ear, exit: fn(i32)) {
    let mut armed: Option<(MonoNs, i32)> = None;
    let clock = Clock::System;
    loop {
        let left = armed.map_or(LISTEN_EVERY, |(at, _)| at.since(clock.now()));
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
                } else if ear.is_silent() {
                    exit(EXIT_LATE);
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
    fn a_heart_that_stands_still_is_heard_after_its_limit() {
        let heart = Arc::new(AtomicU64::new(0));
        let mut ear = Ear { heart: Arc::clone(&heart), heard: 0, silent: Duration::ZERO };
        // Before the first beat there is nothing to hear.
        assert!((0..100).all(|_| !ear.is_silent()));
        heart.store(1, Ordering::Relaxed);
        let patience = SILENCE_MAX.as_secs();
        assert!((0..patience).all(|_| !ear.is_silent()));
        heart.store(2, Ordering::Relaxed);
        assert!((0..patience).all(|_| !ear.is_silent()));
        assert!(ear.is_silent());
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
