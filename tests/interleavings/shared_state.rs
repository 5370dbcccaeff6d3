//! What is shared without a mailbox: views, settings, the journal's watermark, the kill switch.

use std::sync::Arc;

use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use crate::Check;
use crate::kill_switch::KillSwitch;
use crate::runtime::setting::Setting;
use crate::runtime::view::View;
use crate::written::Written;

/// All checks of shared state.
pub(crate) const ALL: &[Check] = &[
    ("view: states are whole and never older", 3, whole_views),
    ("view: two readers", 2, two_readers),
    ("setting: news are never older than the start", 3, settings),
    ("setting: two persons", 2, two_persons),
    ("written: what is marked is written", 3, watermark),
    ("kill switch: the first reason stays", 3, first_reason),
    ("kill switch: a fence holds until it is taken down", 3, fences),
];

/// Two halves that belong together. Relaxed: only the view orders them.
#[derive(Default)]
struct State(AtomicU64, AtomicU64);

impl State {
    fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
        self.1.store(n, Ordering::Relaxed);
    }

    fn whole(&self) -> u64 {
        let (a, b) = (self.0.load(Ordering::Relaxed), self.1.load(Ordering::Relaxed));
        assert_eq!(a, b, "a half");
        a
    }
}

fn publish_two(view: &View<State>) -> thread::JoinHandle<()> {
    let view = view.clone();
    thread::spawn(move || (1..=2).for_each(|n| view.publish(|state| state.set(n))))
}

/// Takes the newest, which is newer than `last`, and gives the box back.
fn look(view: &View<State>, last: u64) -> u64 {
    let Some(state) = view.take() else { return last };
    let n = state.whole();
    assert!(n > last, "{n} after {last}");
    view.recycle(state);
    n
}

fn whole_views() {
    let view = View::new();
    let publisher = publish_two(&view);
    let last = look(&view, look(&view, 0));
    publisher.join().expect("it does not panic");
    assert_eq!(look(&view, last), 2, "the newest arrives");
}

fn two_readers() {
    let view = View::new();
    let publisher = publish_two(&view);
    let other = view.clone();
    let reader = thread::spawn(move || look(&other, 0));
    let last = look(&view, 0);
    publisher.join().expect("it does not panic");
    let other = reader.join().expect("it does not panic");
    assert!(last == 2 || other == 2 || look(&view, last.min(1)) == 2, "the newest arrives");
}

/// A generation starts with the newest value and then asks for news, while a person makes two changes.
fn settings() {
    let setting = Setting::new(0);
    let person = setting.clone();
    let person = thread::spawn(move || (1..=2).for_each(|n| person.set(n)));
    let mut value = setting.newest();
    for _ in 0..2 {
        if let Some(news) = setting.news() {
            assert!(news >= value, "{news} after {value}");
            value = news;
        }
    }
    person.join().expect("it does not panic");
    assert_eq!(setting.news().unwrap_or(value), 2, "the newest arrives");
}

/// Whichever comes last, the actor ends with what the next generation would start with.
fn two_persons() {
    let setting = Setting::new(0);
    let persons = [1, 2].map(|n| {
        let person = setting.clone();
        thread::spawn(move || person.set(n))
    });
    let start = setting.newest();
    let first = setting.news().unwrap_or(start);
    persons.into_iter().for_each(|p| p.join().expect("it does not panic"));
    assert_eq!(setting.news().unwrap_or(first), setting.newest());
}

fn watermark() {
    let written = Written::default();
    let disk = Arc::new(AtomicU64::new(0));
    let (mark, file) = (written.clone(), Arc::clone(&disk));
    let writer = thread::spawn(move || {
        for n in 1..=2 {
            file.store(n, Ordering::Relaxed);
            mark.advance(n);
        }
    });
    assert_eq!((written.next(), written.next()), (1, 2));
    let mut last = 0;
    for _ in 0..2 {
        let mark = written.up_to();
        assert!(mark >= last, "the watermark went back");
        assert!(disk.load(Ordering::Relaxed) >= mark, "marked, but not written");
        last = mark;
    }
    writer.join().expect("it does not panic");
    assert_eq!(written.up_to(), 2);
}

fn first_reason() {
    let switch = KillSwitch::new();
    let other = switch.clone();
    let loss = thread::spawn(move || other.trip("loss"));
    let (sender, done) = (switch.clone(), Arc::new(AtomicU64::new(0)));
    let seen = Arc::clone(&done);
    let looker = thread::spawn(move || {
        let tripped_before = seen.load(Ordering::Acquire) == 1;
        assert!(!tripped_before || !sender.state().enabled(), "tripped, yet orders are sent");
    });
    let mine = switch.trip("operator");
    done.store(1, Ordering::Release);
    let theirs = loss.join().expect("it does not panic");
    looker.join().expect("it does not panic");
    assert!(mine != theirs, "one of the two tripped it");
    assert_eq!(switch.reason().as_deref(), Some(if mine { "operator" } else { "loss" }));
}

fn fences() {
    let switch = KillSwitch::new();
    switch.fence();
    let other = switch.clone();
    let wedge = thread::spawn(move || {
        other.fence();
        assert!(!other.state().enabled(), "a fence is up");
        other.unfence();
    });
    switch.unfence();
    wedge.join().expect("it does not panic");
    assert!(switch.state().enabled());
    switch.unfence();
    switch.fence();
    assert_eq!(switch.state().fences, 1);
}
