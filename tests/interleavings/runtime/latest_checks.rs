//! Conflated edges: whatever comes in between, the newest value of a key arrives, and nothing is unaccounted for.

use loom::thread;

use super::checks::{EDGE, Told, cx, is_woken, spec, until_asleep};
use super::latest::{Latest, LatestInbox};
use super::mailbox::{Edge, OnRestart, Overflow};
use super::wake::Waker;

fn slots(keys: usize, on_restart: OnRestart, waker: Waker) -> Latest<u64> {
    Latest::new(EDGE, spec(keys, Overflow::DropNewest, on_restart), waker)
}

fn take_all(inbox: &mut LatestInbox<u64>) -> Vec<(usize, u64)> {
    let mut cx = cx();
    std::iter::from_fn(|| inbox.take(&mut cx)).collect()
}

fn assert_books(latest: &Latest<u64>) {
    let counts = latest.counts();
    assert!(counts.conserved(), "{counts:?}");
}

pub(super) fn newest() {
    let waker = Waker::new().expect("a descriptor");
    let latest = slots(2, OnRestart::Discard, waker.clone());
    let told = Told::default();
    let (out, count) = (latest.outbox(), told.clone());
    let producer = thread::spawn(move || {
        for (key, value) in [(0, 1), (1, 7), (0, 2)] {
            out.put(key, value);
            count.count();
        }
    });
    let (mut inbox, mut cx) = (latest.inbox(), cx());
    let mut taken = Vec::new();
    until_asleep(&waker, &told, || {
        let value = inbox.take(&mut cx);
        taken.extend(value);
        value.is_some()
    });
    producer.join().expect("it does not panic");
    let left = latest.counts().left;
    assert!(left == 0 || is_woken(&waker), "a wake-up was lost");
    taken.extend(take_all(&mut inbox));
    let of = |key| -> Vec<u64> { taken.iter().filter(|t| t.0 == key).map(|t| t.1).collect() };
    assert!(of(0) == [1, 2] || of(0) == [2], "the newest is last: {taken:?}");
    assert_eq!(of(1), [7], "{taken:?}");
    assert_eq!(latest.counts().left, 0);
    assert_books(&latest);
}

/// The consumer dies with noticed but untaken values; the next one looks at every key once.
pub(super) fn nor_by_a_restart() {
    assert_restart(OnRestart::Keep);
}

/// As above; what the supervisor drops is counted.
pub(super) fn discarded_by_a_restart() {
    assert_restart(OnRestart::Discard);
}

fn assert_restart(on_restart: OnRestart) {
    let latest = slots(2, on_restart, Waker::none());
    latest.outbox().put(1, 1);
    let out = latest.outbox();
    let producer = thread::spawn(move || {
        out.put(0, 1);
        out.put(1, 2);
    });
    let first = latest.inbox().take(&mut cx());
    latest.before_restart();
    let mut second = latest.inbox();
    let mut taken: Vec<_> = first.into_iter().chain(take_all(&mut second)).collect();
    producer.join().expect("it does not panic");
    taken.extend(take_all(&mut second));
    let counts = latest.counts();
    assert_eq!(counts.left, 0, "{taken:?}");
    let both = taken.contains(&(0, 1)) && taken.contains(&(1, 2));
    assert!(both || counts.dropped_restart > 0, "{taken:?}, {counts:?}");
    assert_books(&latest);
}

pub(super) fn two_producers() {
    let latest = slots(1, OnRestart::Discard, Waker::none());
    let producers = [1, 2].map(|n| {
        let out = latest.outbox();
        thread::spawn(move || out.put(0, n))
    });
    let mut inbox = latest.inbox();
    let mut taken = take_all(&mut inbox);
    producers.into_iter().for_each(|p| p.join().expect("it does not panic"));
    taken.extend(take_all(&mut inbox));
    assert!(!taken.is_empty(), "one of the two arrives");
    assert_eq!(latest.counts().left, 0);
    assert_books(&latest);
}
