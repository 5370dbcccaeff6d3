//! Waking a parked thread: an eventfd that is written only while its owner really sleeps.
//!
//! The owner announces its sleep, looks at its mailboxes once more, then polls the descriptor together with its
//! sockets. A sender that finds the owner awake pays one load. The two sequentially consistent fences make it
//! impossible that both the sender misses the announcement and the owner misses the message (Dekker's argument).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};

use crate::sync::atomic::{AtomicBool, Ordering, fence};

/// A handle that wakes one parked thread; clones wake the same thread.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    asleep: AtomicBool,
    /// `None` for owners that never sleep: the stepper, tests.
    fd: Option<OwnedFd>,
}

impl Waker {
    /// A waker with its own eventfd.
    ///
    /// # Errors
    /// The system's refusal, usually too many open descriptors.
    pub fn new() -> std::io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self(Arc::new(Inner { asleep: AtomicBool::new(false), fd: Some(fd) })))
    }

    /// A waker for an owner that never sleeps.
    pub fn none() -> Self {
        Self(Arc::new(Inner { asleep: AtomicBool::new(false), fd: None }))
    }

    /// Wakes the owner if it sleeps; called after the message is in the mailbox.
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.0.asleep.load(Ordering::Relaxed)
            && self.0.asleep.swap(false, Ordering::SeqCst)
            && let Some(fd) = &self.0.fd
        {
            // The counter can only be full if the owner has been woken 2^64 times: it is awake already.
            let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
        }
    }

    /// Announces that the owner is about to sleep; it must look at its mailboxes after this call.
    pub(super) fn announce_sleep(&self) {
        // Swaps here and below, not stores: on the usual processors they are the same instruction, and with them
        // the order in which owner and sender change the flag is one that the interleavings test can follow.
        self.0.asleep.swap(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The owner is awake again: senders need not wake it.
    pub(super) fn awake(&self) {
        self.0.asleep.swap(false, Ordering::SeqCst);
    }

    /// Swallows the wake-ups that made the descriptor readable. A sender may write after the owner found another
    /// reason to wake; the next poll then returns at once, and is followed by this.
    pub(super) fn drain(&self) {
        if let Some(fd) = &self.0.fd {
            // Would-block means that the wake-up was swallowed before.
            let _ = rustix::io::read(fd, &mut [0_u8; 8]);
        }
    }

    /// The descriptor to poll; `None` for an owner that never sleeps.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.fd.as_ref().map(AsFd::as_fd)
    }
}
