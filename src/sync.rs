//! What our lock-free pieces are built of, under one name.
//!
//! In the product these are std's atomics and lock and crossbeam's queues, and nothing else. The test
//! `interleavings` compiles the same source files once more, with a module of the same name whose atomics belong to
//! a model checker: what it checks is the product's text, not a copy. What always holds: an atomic by which two
//! threads agree on something comes from here; a mere count may come from std.

pub(crate) use std::sync::Mutex;

/// Atomics and fences.
pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence,
    };
}

/// Bounded channels.
pub(crate) mod channel {
    pub(crate) use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
}

/// Queues of fixed capacity.
pub(crate) mod queue {
    pub(crate) use crossbeam_queue::ArrayQueue;
}
