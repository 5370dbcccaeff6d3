//! Conflated edges: the newest value per key, for consumers to whom only the newest matters.
//!
//! What comes in: values under keys, from any number of producers; putting never blocks and never fails. What goes
//! out: each key's newest value, once. A replaced value is counted as conflated; the books hold as for a mailbox.

use std::sync::Arc;

use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::queue::ArrayQueue;

use super::actor::{ActorId, Cx, EdgeId};
use super::mailbox::{
    CLOSED, Counters, Edge, EdgeCounts, EdgeSpec, OPEN, OnRestart, Overflow, PILLED,
};
use super::wake::Waker;

/// The newest value of each of a fixed number of keys; older ones are replaced and counted.
pub struct Latest<V>(Arc<LatestShared<V>>);

struct LatestShared<V> {
    id: EdgeId,
    spec: EdgeSpec,
    slots: Vec<ArrayQueue<V>>,
    /// Bit `key % 64` is set after a value was put under `key`.
    ready: AtomicU64,
    counters: Counters,
    waker: Waker,
    gate: AtomicU64,
}

impl<V> Clone for Latest<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: Send> Latest<V> {
    /// An edge with one slot for each of `spec.capacity` keys.
    ///
    /// # Panics
    /// When the capacity is zero; specs are validated before.
    pub fn new(id: EdgeId, spec: EdgeSpec, waker: Waker) -> Self {
        assert!(spec.capacity > 0, "edge {} has no capacity", spec.name);
        let slots = (0..spec.capacity).map(|_| ArrayQueue::new(1)).collect();
        Self(Arc::new(LatestShared {
            id,
            spec,
            slots,
            ready: AtomicU64::new(0),
            counters: Counters::default(),
            waker,
            gate: AtomicU64::new(OPEN),
        }))
    }

    /// A conflated edge outside any system, for tests of a single actor.
    pub fn detached(name: &str, keys: usize) -> Self {
        let spec = EdgeSpec {
            name: name.to_owned(),
            from: Vec::new(),
            to: ActorId(0),
            capacity: keys,
            overflow: Overflow::DropNewest,
            on_restart: OnRestart::Discard,
        };
        Self::new(EdgeId(0), spec, Waker::none())
    }

    /// A producer's end.
    pub fn outbox(&self) -> LatestOutbox<V> {
        LatestOutbox(Arc::clone(&self.0))
    }

    /// The consumer's end.
    pub fn inbox(&self) -> LatestInbox<V> {
        // An earlier inbox may have taken notice of values that it did not take: look at every key once.
        LatestInbox { shared: Arc::clone(&self.0), pending: u64::MAX }
    }
}

impl<V: Send> Edge for Latest<V> {
    fn spec(&self) -> &EdgeSpec {
        &self.0.spec
    }

    fn id(&self) -> EdgeId {
        self.0.id
    }

    fn send_pill(&self) -> bool {
        // Nothing waits for its turn here: the gate alone is the pill, and the inbox notices it.
        let _ = self.0.gate.compare_exchange(OPEN, PILLED, Ordering::SeqCst, Ordering::SeqCst);
        self.0.waker.wake();
        true
    }

    fn close(&self) {
        self.0.gate.store(CLOSED, Ordering::SeqCst);
    }

    fn before_restart(&self) {
        if self.0.spec.on_restart == OnRestart::Keep {
            return;
        }
        let dropped = self.0.slots.iter().filter(|slot| slot.pop().is_some()).count();
        Counters::add(&self.0.counters.dropped_restart, dropped as u64);
    }

    fn lose_in_flight(&self) {
        Counters::add(&self.0.counters.lost_in_flight, 1);
    }

    fn counts(&self) -> EdgeCounts {
        let left = self.0.slots.iter().filter(|slot| !slot.is_empty()).count();
        self.0.counters.snapshot(left as u64)
    }
}

/// A producer's end of a conflated edge.
pub struct LatestOutbox<V>(Arc<LatestShared<V>>);

impl<V> Clone for LatestOutbox<V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<V: Send> LatestOutbox<V> {
    /// Puts the newest value of `key`; the value it replaces is counted as conflated.
    ///
    /// # Panics
    /// When `key` is not below the declared capacity.
    pub fn put(&self, key: usize, value: V) {
        let shared = &*self.0;
        Counters::add(&shared.counters.sent, 1);
        if shared.gate.load(Ordering::Relaxed) != OPEN {
            Counters::add(&shared.counters.dropped_closed, 1);
            return;
        }
        if shared.slots[key].force_push(value).is_some() {
            Counters::add(&shared.counters.conflated, 1);
        }
        shared.ready.fetch_or(1 << (key % 64), Ordering::Release);
        shared.waker.wake();
    }
}

/// The consumer's end of a conflated edge.
pub struct LatestInbox<V> {
    shared: Arc<LatestShared<V>>,
    pending: u64,
}

impl<V: Send> LatestInbox<V> {
    /// The newest value of some key that has one, and the key.
    pub fn take(&mut self, cx: &mut Cx) -> Option<(usize, V)> {
        let shared = &*self.shared;
        if self.pending == 0 {
            if shared.ready.load(Ordering::Relaxed) == 0 {
                return None;
            }
            self.pending = shared.ready.swap(0, Ordering::Acquire);
        }
        while self.pending != 0 {
            let bit = self.pending.trailing_zeros() as usize;
            for key in (bit..shared.slots.len()).step_by(64) {
                if let Some(value) = shared.slots[key].pop() {
                    let seq = shared.counters.taken.load(Ordering::Relaxed) + 1;
                    shared.counters.taken.store(seq, Ordering::Relaxed);
                    cx.begin_message(shared.id, seq);
                    return Some((key, value));
                }
            }
            self.pending &= self.pending - 1;
        }
        None
    }

    /// Whether the producers are done: nothing will be put any more.
    pub fn is_pilled(&self) -> bool {
        self.shared.gate.load(Ordering::SeqCst) != OPEN
    }
}
