//! Mailboxes by checklist: capacity, each policy, overrun, conflation, stale refusal, pill, close, two threads; and
//! the conservation law under random histories.

use std::collections::BTreeMap;
use std::time::Duration;

use pindrop::clock::{MonoNs, UtcNs};
use pindrop::runtime::actor::{ActorId, Cx, EdgeId};
use pindrop::runtime::mailbox::{
    Edge, EdgeSpec, Inbox, Latest, Mailbox, OnRestart, Overflow, RefusedWhy,
};
use pindrop::runtime::thread;
use pindrop::runtime::wake::Waker;
use proptest::prelude::*;

fn spec(capacity: usize, overflow: Overflow, on_restart: OnRestart) -> EdgeSpec {
    EdgeSpec {
        name: "test".to_owned(),
        from: Vec::new(),
        to: ActorId(0),
        capacity,
        overflow,
        on_restart,
    }
}

fn mailbox(capacity: usize, overflow: Overflow, on_restart: OnRestart) -> Mailbox<u64> {
    Mailbox::new(EdgeId(0), spec(capacity, overflow, on_restart), Waker::none())
}

fn cx() -> Cx {
    Cx::detached(MonoNs::ZERO, UtcNs::default())
}

/// Offers 1, 2, ... `count`; the numbers that came back, and why.
fn offer(mailbox: &Mailbox<u64>, count: u64) -> Vec<(u64, RefusedWhy)> {
    let out = mailbox.outbox();
    (1..=count).filter_map(|n| out.offer(n).err().map(|r| (r.message, r.why))).collect()
}

fn take_all(inbox: &mut Inbox<u64>, cx: &mut Cx) -> Vec<u64> {
    std::iter::from_fn(|| inbox.take(cx)).collect()
}

#[track_caller]
fn assert_conserved(edge: &dyn Edge) {
    assert!(edge.counts().conserved(), "{:?}", edge.counts());
}

#[test]
fn order_is_kept_and_capacity_is_exact() {
    let mailbox = mailbox(3, Overflow::Refuse, OnRestart::Keep);
    assert_eq!(offer(&mailbox, 4), [(4, RefusedWhy::Full)]);
    assert!(!mailbox.outbox().has_room());
    assert_eq!(take_all(&mut mailbox.inbox(), &mut cx()), [1, 2, 3]);
    assert!(mailbox.outbox().has_room());
    assert_conserved(&mailbox);
}

#[test]
fn drop_newest_counts_what_it_drops() {
    let mailbox = mailbox(2, Overflow::DropNewest, OnRestart::Keep);
    assert_eq!(offer(&mailbox, 5), []);
    assert_eq!(mailbox.counts().dropped_overflow, 3);
    assert_eq!(take_all(&mut mailbox.inbox(), &mut cx()), [1, 2]);
    assert_conserved(&mailbox);
}

#[test]
fn an_overrun_drops_everything_until_the_consumer_knows() {
    let mailbox = mailbox(2, Overflow::Resync, OnRestart::Discard);
    let mut inbox = mailbox.inbox();
    assert!(!inbox.take_overrun());
    assert_eq!(offer(&mailbox, 5), []);
    assert!(inbox.take_overrun());
    assert!(!inbox.take_overrun());
    assert_eq!(inbox.take(&mut cx()), None);
    let counts = mailbox.counts();
    assert_eq!((counts.dropped_overflow, counts.dropped_resync), (1, 4));
    assert_eq!(offer(&mailbox, 1), []);
    assert_eq!(take_all(&mut inbox, &mut cx()), [1]);
    assert_conserved(&mailbox);
}

#[test]
fn a_restart_keeps_discards_or_refuses() {
    let keep = mailbox(8, Overflow::Refuse, OnRestart::Keep);
    let discard = mailbox(8, Overflow::Refuse, OnRestart::Discard);
    let refuse = mailbox(8, Overflow::Refuse, OnRestart::Refuse);
    for mailbox in [&keep, &discard, &refuse] {
        offer(mailbox, 3);
        mailbox.before_restart();
        mailbox.outbox().offer(9).expect("there is room");
    }
    assert_eq!(take_all(&mut keep.inbox(), &mut cx()), [1, 2, 3, 9]);
    assert_eq!(take_all(&mut discard.inbox(), &mut cx()), [9]);
    assert_eq!(discard.counts().dropped_restart, 3);
    let mut inbox = refuse.inbox();
    let stale: Vec<u64> = std::iter::from_fn(|| inbox.take_stale()).collect();
    assert_eq!(stale, [1, 2, 3]);
    assert_eq!(take_all(&mut inbox, &mut cx()), [9]);
    assert_eq!(refuse.counts().refused, 3);
    for mailbox in [&keep, &discard, &refuse] {
        assert_conserved(mailbox);
    }
}

#[test]
fn the_pill_follows_a_full_backlog_and_closes_the_mailbox() {
    let mailbox = mailbox(2, Overflow::DropNewest, OnRestart::Keep);
    offer(&mailbox, 2);
    assert!(mailbox.send_pill(), "the last place is the pill's");
    assert_eq!(offer(&mailbox, 1), [(1, RefusedWhy::Closed)]);
    assert_eq!(mailbox.counts().left, 2);
    let (mut inbox, mut cx) = (mailbox.inbox(), cx());
    assert_eq!(take_all(&mut inbox, &mut cx), [1, 2]);
    assert_eq!((inbox.is_pilled(), cx.pills()), (true, 1));
    assert_conserved(&mailbox);
}

#[test]
fn a_pill_survives_the_discarding_of_what_is_before_it() {
    let mailbox = mailbox(2, Overflow::Resync, OnRestart::Discard);
    offer(&mailbox, 2);
    assert!(mailbox.send_pill());
    mailbox.before_restart();
    let (mut inbox, mut cx) = (mailbox.inbox(), cx());
    assert_eq!(inbox.take(&mut cx), None);
    assert!(inbox.is_pilled());
    assert_conserved(&mailbox);
}

#[test]
fn offers_to_a_closed_mailbox_are_dropped_and_counted() {
    let mailbox = mailbox(2, Overflow::Refuse, OnRestart::Keep);
    mailbox.close();
    assert_eq!(offer(&mailbox, 3), []);
    assert_eq!(mailbox.counts().dropped_closed, 3);
    assert_conserved(&mailbox);
}

#[test]
fn the_message_in_hand_is_known_until_the_next() {
    let mailbox = mailbox(4, Overflow::Refuse, OnRestart::Keep);
    offer(&mailbox, 2);
    let (mut inbox, mut cx) = (mailbox.inbox(), cx());
    inbox.take(&mut cx);
    assert_eq!(cx.in_hand().map(|h| h.seq), Some(1));
    inbox.take(&mut cx);
    assert_eq!(cx.cell().last_message(), Some((EdgeId(0), 2)));
    mailbox.lose_in_flight();
    assert_eq!((mailbox.counts().handled, mailbox.counts().lost_in_flight), (1, 1));
    assert_conserved(&mailbox);
}

#[test]
fn s29_latest_keeps_the_newest_of_each_key() {
    let latest = Latest::<u64>::detached("test", 130);
    let (out, mut inbox, mut cx) = (latest.outbox(), latest.inbox(), cx());
    for (key, value) in [(0, 1), (64, 2), (129, 3), (0, 4), (64, 5)] {
        out.put(key, value);
    }
    let seen: BTreeMap<usize, u64> = std::iter::from_fn(|| inbox.take(&mut cx)).collect();
    assert_eq!(seen, BTreeMap::from([(0, 4), (64, 5), (129, 3)]));
    assert_eq!(latest.counts().conflated, 2);
    assert_conserved(&latest);
}

#[test]
fn a_pilled_latest_still_gives_what_it_has() {
    let latest = Latest::<u64>::detached("test", 1);
    let (out, mut inbox) = (latest.outbox(), latest.inbox());
    out.put(0, 1);
    assert!(latest.send_pill());
    out.put(0, 2);
    assert!(inbox.is_pilled());
    assert_eq!(inbox.take(&mut cx()), Some((0, 1)));
    assert_eq!(latest.counts().dropped_closed, 1);
    assert_conserved(&latest);
}

#[test]
fn a_restart_discards_the_values_of_a_latest() {
    let latest = Latest::<u64>::new(
        EdgeId(0),
        spec(4, Overflow::DropNewest, OnRestart::Discard),
        Waker::none(),
    );
    latest.outbox().put(1, 1);
    latest.before_restart();
    assert_eq!(latest.inbox().take(&mut cx()), None);
    assert_eq!(latest.counts().dropped_restart, 1);
    assert_conserved(&latest);
}

#[test]
fn the_next_generation_finds_what_the_dead_one_did_not_take() {
    let latest = Latest::<u64>::detached("test", 3);
    let (out, mut dead) = (latest.outbox(), latest.inbox());
    // Once round, so that the inbox has looked at every key.
    assert_eq!(dead.take(&mut cx()), None);
    (0..3).for_each(|key| out.put(key, key as u64));
    assert_eq!(dead.take(&mut cx()), Some((0, 0)));
    drop(dead);
    let (mut next, mut cx) = (latest.inbox(), cx());
    let seen: Vec<usize> = std::iter::from_fn(|| next.take(&mut cx)).map(|(key, _)| key).collect();
    assert_eq!(seen, [1, 2]);
}

#[test]
fn two_producers_and_a_consumer_lose_nothing() {
    const EACH: u64 = 20_000;
    let mailbox = mailbox(64, Overflow::Refuse, OnRestart::Keep);
    let producer = |base: u64| {
        let out = mailbox.outbox();
        thread::spawn("producer", move || {
            let mut refused = 0_u64;
            for n in 0..EACH {
                while out.offer(base + n).is_err() {
                    refused += 1;
                    std::thread::yield_now();
                }
            }
            refused
        })
        .expect("a thread")
    };
    let producers = [producer(0), producer(1 << 32)];
    let (mut inbox, mut cx) = (mailbox.inbox(), cx());
    let mut next = [0, 1 << 32];
    let mut taken = 0;
    while taken < 2 * EACH {
        let Some(n) = inbox.take(&mut cx) else {
            std::thread::park_timeout(Duration::from_micros(10));
            continue;
        };
        let from = usize::from(n >= 1 << 32);
        assert_eq!(n, next[from], "each producer's order is kept");
        next[from] += 1;
        taken += 1;
    }
    let refused: u64 = producers.map(|p| p.join().expect("it does not panic")).iter().sum();
    let counts = mailbox.counts();
    assert_eq!((counts.sent, counts.refused), (2 * EACH + refused, refused));
    assert_conserved(&mailbox);
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Offer,
    Take,
    TakeStale,
    TakeOverrun,
    Restart,
    Lose,
    Pill,
    Close,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => Just(Op::Offer),
        8 => Just(Op::Take),
        2 => Just(Op::TakeStale),
        2 => Just(Op::TakeOverrun),
        1 => Just(Op::Restart),
        1 => Just(Op::Lose),
        1 => Just(Op::Pill),
        1 => Just(Op::Close),
    ]
}

proptest! {
    #[test]
    fn no_history_loses_a_message_unaccounted(
        capacity in 1_usize..6,
        overflow in prop_oneof![
            Just(Overflow::Refuse), Just(Overflow::DropNewest), Just(Overflow::Resync)
        ],
        on_restart in prop_oneof![
            Just(OnRestart::Keep), Just(OnRestart::Discard), Just(OnRestart::Refuse)
        ],
        history in proptest::collection::vec(op(), 0..200),
    ) {
        let mailbox = mailbox(capacity, overflow, on_restart);
        let (out, mut inbox, mut cx) = (mailbox.outbox(), mailbox.inbox(), cx());
        let (mut n, mut in_hand, mut pilled) = (0, false, false);
        for op in history {
            match op {
                Op::Offer => {
                    n += 1;
                    // Refusals are part of the books.
                    let _ = out.offer(n);
                }
                Op::Take => in_hand = inbox.take(&mut cx).is_some(),
                Op::TakeStale => {
                    inbox.take_stale();
                }
                Op::TakeOverrun => {
                    inbox.take_overrun();
                }
                Op::Restart => mailbox.before_restart(),
                Op::Lose => {
                    if std::mem::take(&mut in_hand) {
                        mailbox.lose_in_flight();
                    }
                }
                Op::Pill => {
                    if !std::mem::replace(&mut pilled, true) {
                        prop_assert!(mailbox.send_pill());
                    }
                }
                Op::Close => mailbox.close(),
            }
            let counts = mailbox.counts();
            prop_assert!(counts.conserved(), "{op:?}: {counts:?}");
            prop_assert!(mailbox.outbox().depth() <= capacity + 1);
        }
    }
}
