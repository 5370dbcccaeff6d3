//! Mailboxes: no wake-up is lost, the pill is last, and the books balance whoever comes in between.

use loom::thread;

use super::checks::{EDGE, Told, cx, is_woken, spec, until_asleep};
use super::mailbox::{Edge, Inbox, Mailbox, OnRestart, Outbox, Overflow, RefusedWhy};
use super::wake::Waker;

type Numbers = Mailbox<u64>;

fn numbers(capacity: usize, overflow: Overflow, on_restart: OnRestart) -> Numbers {
    Mailbox::new(EDGE, spec(capacity, overflow, on_restart), Waker::none())
}

fn take_all(inbox: &mut Inbox<u64>) -> Vec<u64> {
    let mut cx = cx();
    let mut taken = Vec::new();
    while let Some(n) = inbox.take(&mut cx) {
        taken.push(n);
    }
    taken
}

/// Offers every number; those that were taken in.
fn offer_all(out: &Outbox<u64>, numbers: &[u64]) -> Vec<u64> {
    numbers.iter().copied().filter(|n| out.offer(*n).is_ok()).collect()
}

fn assert_books(mailbox: &Numbers, handled: usize) {
    let counts = mailbox.counts();
    assert!(counts.conserved(), "{counts:?}");
    assert_eq!(counts.handled, handled as u64, "{counts:?}");
}

/// The consumer, who rests like a host, has taken everything or will be woken for the rest. `produce` gets the
/// producer's end and wakes.
fn assert_wakes(producers: usize, produce: fn(&Outbox<u64>, &Told)) {
    let waker = Waker::new().expect("a descriptor");
    let spec = spec(3, Overflow::Refuse, OnRestart::Keep);
    let mailbox = Numbers::new(EDGE, spec, waker.clone());
    let told = Told::default();
    let producer = |_| {
        let (out, told) = (mailbox.outbox(), told.clone());
        thread::spawn(move || produce(&out, &told))
    };
    let producers: Vec<_> = (0..producers).map(producer).collect();
    let (mut inbox, mut cx) = (mailbox.inbox(), cx());
    until_asleep(&waker, &told, || inbox.take(&mut cx).is_some());
    producers.into_iter().for_each(|p| p.join().expect("it does not panic"));
    let counts = mailbox.counts();
    assert!(counts.conserved(), "{counts:?}");
    assert!(counts.left == 0 || is_woken(&waker), "a wake-up was lost: {counts:?}");
}

fn offer(out: &Outbox<u64>, told: &Told) {
    out.offer(1).expect("there is room");
    told.count();
}

pub(super) fn no_wake_up_is_lost() {
    assert_wakes(1, |out, told| (0..2).for_each(|_| offer(out, told)));
}

pub(super) fn nor_with_two_producers() {
    assert_wakes(2, offer);
}

pub(super) fn quiet_offers() {
    assert_wakes(1, |out, told| {
        out.offer_quietly(1).expect("there is room");
        out.offer_quietly(2).expect("there is room");
        out.wake();
        told.count();
    });
}

/// As the driver does it: the producers have ended when the pill is sent; the consumer is at work.
pub(super) fn the_pill_is_last() {
    let mailbox = numbers(1, Overflow::Refuse, OnRestart::Keep);
    let mut inbox = mailbox.inbox();
    let consumer = thread::spawn(move || {
        let mut taken = take_all(&mut inbox);
        taken.extend(take_all(&mut inbox));
        (taken, inbox)
    });
    let out = mailbox.outbox();
    let accepted = offer_all(&out, &[1, 2]);
    assert!(mailbox.send_pill(), "a place is kept for the pill");
    assert_eq!(out.offer(3).expect_err("nothing follows a pill").why, RefusedWhy::Closed);
    let (mut taken, mut inbox) = consumer.join().expect("it does not panic");
    // The last turns after everything has come to rest.
    while !inbox.is_pilled() {
        let more = take_all(&mut inbox);
        assert!(!more.is_empty() || inbox.is_pilled(), "no pill, and no message before it");
        taken.extend(more);
    }
    assert_eq!(taken, accepted, "everything before the pill, in order");
    assert!(take_all(&mut inbox).is_empty(), "nothing after it");
    assert_books(&mailbox, taken.len());
}

/// A producer that nobody waited for.
pub(super) fn around_a_pill() {
    let mailbox = numbers(1, Overflow::Refuse, OnRestart::Keep);
    let out = mailbox.outbox();
    let producer = thread::spawn(move || offer_all(&out, &[1, 2]));
    assert!(mailbox.send_pill(), "a place is kept for the pill");
    let mut inbox = mailbox.inbox();
    let mut taken = take_all(&mut inbox);
    let accepted = producer.join().expect("it does not panic");
    assert!(mailbox.outbox().offer(3).is_err(), "nothing follows a pill");
    while mailbox.counts().left > 0 || !inbox.is_pilled() {
        taken.extend(take_all(&mut inbox));
    }
    assert_eq!(taken, accepted);
    assert_books(&mailbox, taken.len());
}

pub(super) fn around_a_close() {
    let mailbox = numbers(1, Overflow::DropNewest, OnRestart::Keep);
    let out = mailbox.outbox();
    let producer = thread::spawn(move || offer_all(&out, &[1, 2]).len());
    mailbox.close();
    let refused = 2 - producer.join().expect("it does not panic");
    let counts = mailbox.counts();
    assert!(counts.conserved(), "{counts:?}");
    assert_eq!((refused, counts.sent), (0, 2), "drops are no refusals");
    assert!(mailbox.outbox().offer(3).is_ok());
    assert_eq!(mailbox.counts().left, counts.left, "a closed mailbox takes nothing in");
}

/// A consumer of consecutive numbers, which has to be told before it sees one that does not follow the last.
#[derive(Default)]
struct Listener {
    next: Option<u64>,
    taken: usize,
    overruns: usize,
}

impl Listener {
    fn turn(&mut self, inbox: &mut Inbox<u64>) {
        if inbox.take_overrun() {
            self.overruns += 1;
            self.next = None;
        }
        if let Some(n) = inbox.take(&mut cx()) {
            assert!(self.next.is_none_or(|next| next == n), "an unseen hole: {:?}, {n}", self.next);
            self.next = Some(n + 1);
            self.taken += 1;
        }
    }
}

pub(super) fn overrun() {
    let mailbox = numbers(1, Overflow::Resync, OnRestart::Discard);
    let out = mailbox.outbox();
    let producer = thread::spawn(move || offer_all(&out, &[1, 2, 3, 4]));
    let mut inbox = mailbox.inbox();
    let mut listener = Listener { next: Some(1), ..Listener::default() };
    (0..3).for_each(|_| listener.turn(&mut inbox));
    producer.join().expect("it does not panic");
    (0..2).for_each(|_| listener.turn(&mut inbox));
    assert_books(&mailbox, listener.taken);
    let counts = mailbox.counts();
    assert_eq!(counts.left, 0);
    assert_eq!(counts.dropped() > 0, listener.overruns > 0, "a loss is seen: {counts:?}");
}

pub(super) fn pill_and_overrun() {
    let mailbox = numbers(1, Overflow::Resync, OnRestart::Discard);
    let mut inbox = mailbox.inbox();
    let consumer = thread::spawn(move || {
        let mut listener = Listener { next: Some(1), ..Listener::default() };
        (0..2).for_each(|_| listener.turn(&mut inbox));
        (inbox, listener)
    });
    let out = mailbox.outbox();
    offer_all(&out, &[1, 2]);
    assert!(mailbox.send_pill(), "a place is kept for the pill");
    let (mut inbox, mut listener) = consumer.join().expect("it does not panic");
    (0..3).for_each(|_| listener.turn(&mut inbox));
    assert!(inbox.is_pilled(), "the pill is lost");
    assert_books(&mailbox, listener.taken);
}

/// The supervisor empties the mailbox of a dead consumer while a producer goes on.
pub(super) fn discard() {
    let mailbox = numbers(2, Overflow::Refuse, OnRestart::Discard);
    offer_all(&mailbox.outbox(), &[1]);
    let out = mailbox.outbox();
    let producer = thread::spawn(move || offer_all(&out, &[2, 3]));
    mailbox.before_restart();
    let mut inbox = mailbox.inbox();
    let mut taken = take_all(&mut inbox);
    producer.join().expect("it does not panic");
    taken.extend(take_all(&mut inbox));
    assert!(!taken.contains(&1), "what waited before the restart is gone");
    assert_books(&mailbox, taken.len());
    assert_eq!(mailbox.counts().left, 0);
}
