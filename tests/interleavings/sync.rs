//! The model's side of `crate::sync`: the checker's atomics, and models of crossbeam's queues, which it cannot see.
//!
//! The queue promises less than the real ones do: what was pushed may stay unseen by a thread that nothing has
//! ordered behind the push, a length may be out of date, and an empty answer orders nothing (crossbeam's has a
//! fence). So a protocol that holds over it does not lean on more than a queue says of itself.

pub(crate) use loom::sync::Mutex;

pub(crate) mod atomic {
    pub(crate) use loom::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence,
    };
}

pub(crate) mod channel {
    use std::sync::Arc;

    pub(crate) use crossbeam_channel::{TryRecvError, TrySendError};

    use super::ring::Ring;

    pub(crate) struct Sender<T>(Arc<Ring<T>>);
    pub(crate) struct Receiver<T>(Arc<Ring<T>>);

    pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let ring = Arc::new(Ring::new(capacity));
        (Sender(Arc::clone(&ring)), Receiver(ring))
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            Self(Arc::clone(&self.0))
        }
    }

    impl<T> Sender<T> {
        pub(crate) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
            self.0.push(value).map_err(TrySendError::Full)
        }

        pub(crate) fn len(&self) -> usize {
            self.0.len()
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
            self.0.pop().ok_or(TryRecvError::Empty)
        }

        pub(crate) fn len(&self) -> usize {
            self.0.len()
        }
    }
}

pub(crate) mod queue {
    use super::ring::Ring;

    #[derive(Debug)]
    pub(crate) struct ArrayQueue<T>(Ring<T>);

    impl<T> ArrayQueue<T> {
        pub(crate) fn new(capacity: usize) -> Self {
            Self(Ring::new(capacity))
        }

        pub(crate) fn push(&self, value: T) -> Result<(), T> {
            self.0.push(value)
        }

        pub(crate) fn force_push(&self, value: T) -> Option<T> {
            self.0.force_push(value)
        }

        pub(crate) fn pop(&self) -> Option<T> {
            self.0.pop()
        }

        pub(crate) fn is_empty(&self) -> bool {
            self.0.len() == 0
        }
    }
}

mod ring {
    use std::fmt;
    use std::sync::{Mutex, PoisonError};

    use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use loom::thread;

    /// Most pushes in one execution.
    const PUSHES_MAX: usize = 10;

    /// Every place is used once. The values stand behind a lock that the checker does not see; what it sees, and
    /// reorders, are the counts and the marks.
    pub(super) struct Ring<T> {
        capacity: usize,
        pushed: AtomicUsize,
        popped: AtomicUsize,
        places: Vec<Place<T>>,
    }

    struct Place<T> {
        filled: AtomicBool,
        value: Mutex<Option<T>>,
    }

    impl<T> fmt::Debug for Ring<T> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("Ring").finish_non_exhaustive()
        }
    }

    impl<T> Ring<T> {
        pub(super) fn new(capacity: usize) -> Self {
            let place = || Place { filled: AtomicBool::new(false), value: Mutex::new(None) };
            Self {
                capacity,
                pushed: AtomicUsize::new(0),
                popped: AtomicUsize::new(0),
                places: (0..PUSHES_MAX).map(|_| place()).collect(),
            }
        }

        pub(super) fn push(&self, value: T) -> Result<(), T> {
            self.push_below(self.capacity, value)
        }

        pub(super) fn force_push(&self, value: T) -> Option<T> {
            let pushed = self.push_below(usize::MAX, value).is_ok();
            assert!(pushed, "there is always room");
            // The one that is too many is the oldest, unless somebody else takes that first.
            loop {
                let at = now(&self.popped);
                if now(&self.pushed) - at <= self.capacity {
                    return None;
                }
                if self.claim(at) {
                    return self.take(at);
                }
            }
        }

        /// Claims a place if fewer than `limit` wait, then fills it.
        fn push_below(&self, limit: usize, value: T) -> Result<(), T> {
            let at = loop {
                let popped = now(&self.popped);
                let pushed = now(&self.pushed);
                if pushed - popped >= limit {
                    return Err(value);
                }
                let (seq_cst, relaxed) = (Ordering::SeqCst, Ordering::Relaxed);
                if self.pushed.compare_exchange(pushed, pushed + 1, seq_cst, relaxed).is_ok() {
                    break pushed;
                }
            };
            *self.places[at].value.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            self.places[at].filled.store(true, Ordering::Release);
            Ok(())
        }

        pub(super) fn pop(&self) -> Option<T> {
            loop {
                let at = self.popped.load(Ordering::Relaxed);
                if !self.places.get(at)?.filled.load(Ordering::Acquire) {
                    return None;
                }
                if self.claim(at) {
                    return self.take(at);
                }
            }
        }

        fn claim(&self, at: usize) -> bool {
            let (seq_cst, relaxed) = (Ordering::SeqCst, Ordering::Relaxed);
            self.popped.compare_exchange(at, at + 1, seq_cst, relaxed).is_ok()
        }

        /// Empties a place that was just claimed, as soon as it is filled.
        fn take(&self, at: usize) -> Option<T> {
            let place = &self.places[at];
            while !place.filled.load(Ordering::Acquire) {
                thread::yield_now();
            }
            place.value.lock().unwrap_or_else(PoisonError::into_inner).take()
        }

        /// What a thread sees that may be behind.
        pub(super) fn len(&self) -> usize {
            let pushed = self.pushed.load(Ordering::Acquire);
            pushed.saturating_sub(self.popped.load(Ordering::Acquire))
        }
    }

    /// The present value, for the one answer that the real queues give exactly: whether there is room. Orders nothing.
    fn now(count: &AtomicUsize) -> usize {
        count.fetch_add(0, Ordering::Relaxed)
    }
}
