//! Toy actors on real threads: a supervisor that fails itself, a consumer that is dead, a frame that comes slowly.
//!
//! Nothing sleeps; every wait has a deadline that only a failure reaches.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use pindrop::net::dial::SystemDialer;
use pindrop::net::resolve::Resolver;
use pindrop::net::stream::Tls;
use pindrop::net::url::WsUrl;
use pindrop::net::websocket::{WsClient, WsConfig, WsEvent};
use pindrop::net::{Dialer, Wants};
use pindrop::runtime::actor::{Actor, Cx, Fault, Waits, Work};
use pindrop::runtime::child::{ChildSpec, Restart};
use pindrop::runtime::mailbox::{EdgeSpec, OnRestart, Outbox, Overflow};
use pindrop::runtime::report::Outcome;
use pindrop::runtime::system::{System, SystemBuilder, SystemSettings, Threading};
use pindrop::runtime::thread;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::process::PATIENCE;

struct Idle;

impl Actor for Idle {
    fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
        Ok(Work::Idle)
    }
}

fn builder(settings: SystemSettings) -> SystemBuilder {
    SystemBuilder::new(Threading::Dedicated, settings)
}

/// Runs the system on a thread of its own; its outcome comes when it has ended.
fn run(system: System) -> Receiver<Outcome> {
    let (tx, rx) = bounded(1);
    let body = move || {
        let told = tx.try_send(system.run(None, None));
        assert!(told.is_ok(), "the test waits for it");
    };
    thread::spawn("sup", body).expect("a thread");
    rx
}

#[track_caller]
fn ended(outcome: &Receiver<Outcome>) -> Outcome {
    outcome.recv_timeout(PATIENCE).expect("it ends in time")
}

// ---- the supervisor fails

/// What the reaper was told to exit with.
static REAPED: AtomicI32 = AtomicI32::new(0);

fn note_exit(code: i32) {
    REAPED.store(code, Ordering::SeqCst);
}

/// A system whose supervisor panics when it has to tell of `event`. How it ended, and whether trading was stopped and
/// the emergency routine called.
#[track_caller]
fn panics_at(event: &'static str, settings: SystemSettings) -> (Outcome, bool, bool) {
    let mut builder = builder(settings);
    let id = builder.actor("idle", false);
    builder.child(id, ChildSpec::new(|_| Ok(Box::new(Idle))));
    builder.on_event(move |e| assert!(e.name != event, "no words for {event}"));
    let (fenced, saved) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (fence, save) = (Arc::clone(&fenced), Arc::clone(&saved));
    builder.on_fence(move |on, _| fence.store(on, Ordering::SeqCst));
    builder.on_emergency(move |_| save.store(true, Ordering::SeqCst));
    let stop = builder.stop_handle();
    let running = run(builder.build().expect("a valid system"));
    if event == "drain.begin" {
        stop.drain("test");
    }
    (ended(&running), fenced.load(Ordering::SeqCst), saved.load(Ordering::SeqCst))
}

#[track_caller]
fn panicked(event: &'static str) {
    let (outcome, fenced, saved) = panics_at(event, SystemSettings::default());
    assert_eq!(outcome.exit_code, 70, "{outcome:?}");
    let why = format!("the supervisor panicked: no words for {event} at ");
    assert!(outcome.reason.starts_with(&why), "{}", outcome.reason);
    assert!(outcome.reason.contains("toys.rs:"), "{}", outcome.reason);
    assert_eq!((fenced, saved), (true, true), "trading stops, open orders are cancelled");
}

#[test]
fn s22_a_panic_of_the_supervisor_before_anything_runs() {
    panicked("sup.start");
}

#[test]
fn s22_a_panic_of_the_supervisor_while_actors_run() {
    panicked("actor.ready");
}

#[test]
fn s22_a_panic_of_the_supervisor_in_the_drain() {
    panicked("drain.begin");
}

#[test]
fn s22_the_reaper_is_armed_after_a_panic_of_the_supervisor() {
    let hard_limit = Duration::from_secs(2);
    let settings =
        SystemSettings { hard_limit, reaper_exit: note_exit, ..SystemSettings::default() };
    let (outcome, ..) = panics_at("actor.ready", settings);
    assert_eq!(outcome.exit_code, 70);
    // As if the report could not be written: the outcome, and with it the reaper, is kept.
    let (_never, waits) = bounded::<()>(1);
    let tick = Duration::from_millis(20);
    let ticks = PATIENCE.as_millis() / tick.as_millis();
    let fired = (0..ticks).any(|_| {
        // Nothing is ever sent: this is a wait for the time to pass.
        let _ = waits.recv_timeout(tick);
        REAPED.load(Ordering::SeqCst) != 0
    });
    assert!(fired, "nobody would have ended the process");
    assert_eq!(REAPED.load(Ordering::SeqCst), 70);
    drop(outcome);
}

#[test]
fn s22_an_emergency_routine_that_panics_or_hangs_does_not_hold_the_end() {
    for hangs in [false, true] {
        let emergency_limit = Duration::from_millis(300);
        let mut builder = builder(SystemSettings { emergency_limit, ..SystemSettings::default() });
        let id = builder.actor("idle", false);
        builder.child(id, ChildSpec::new(|_| Ok(Box::new(Idle))));
        builder.on_event(|e| assert!(e.name != "actor.ready", "no words"));
        builder.on_fence(|_, _| panic!("no fence"));
        let (release, wait) = bounded::<()>(1);
        builder.on_emergency(move |_| {
            assert!(hangs, "no way out");
            let _ = wait.recv_timeout(PATIENCE);
        });
        let outcome = ended(&run(builder.build().expect("a valid system")));
        assert_eq!(outcome.exit_code, 70, "{outcome:?}");
        drop(release);
    }
}

// ---- a dead consumer

/// Offers a number in every turn and counts what became of it.
struct Eager {
    out: Outbox<u64>,
    next: u64,
    accepted: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    draining: bool,
}

impl Actor for Eager {
    fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
        if self.draining {
            return Ok(Work::Idle);
        }
        self.next += 1;
        let count = if self.out.offer(self.next).is_ok() { &self.accepted } else { &self.refused };
        count.fetch_add(1, Ordering::SeqCst);
        Ok(Work::Busy)
    }

    fn on_drain(&mut self, _cx: &mut Cx) -> Result<(), Fault> {
        self.draining = true;
        Ok(())
    }
}

/// Offers of which the producer has to be rid of before its drain is asked for.
const OFFERS: u64 = 10_000;

/// A producer in front of a consumer that `how` makes useless goes on and drains at once.
#[track_caller]
fn never_blocks(overflow: Overflow, consumer: ChildSpec, codes: &[i32]) {
    let mut builder = builder(SystemSettings::default());
    let (a, b) = (builder.actor("producer", false), builder.actor("consumer", false));
    let edge = EdgeSpec {
        name: "edge".to_owned(),
        from: vec![a],
        to: b,
        capacity: 16,
        overflow,
        on_restart: OnRestart::Keep,
    };
    let mailbox = builder.mailbox::<u64>(edge);
    let (accepted, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (yes, no) = (Arc::clone(&accepted), Arc::clone(&refused));
    builder.child(
        a,
        ChildSpec::new(move |_| {
            Ok(Box::new(Eager {
                out: mailbox.outbox(),
                next: 0,
                accepted: Arc::clone(&yes),
                refused: Arc::clone(&no),
                draining: false,
            }))
        }),
    );
    builder.child(b, ChildSpec { phase: 1, drain_timeout: Duration::from_millis(300), ..consumer });
    let stop = builder.stop_handle();
    let running = run(builder.build().expect("a valid system"));
    let offers = || accepted.load(Ordering::SeqCst) + refused.load(Ordering::SeqCst);
    let clock = pindrop::clock::Clock::System;
    let begun = clock.now();
    while offers() < OFFERS {
        assert!(clock.now().since(begun) < PATIENCE, "it blocks after {} offers", offers());
        std::thread::yield_now();
    }
    stop.drain("test");
    let outcome = ended(&running);
    println!("{overflow:?}: {:?}", outcome.edges[0].1);
    assert!(codes.contains(&outcome.exit_code), "{outcome:?}");
    assert_eq!(outcome.actors[0].exit, "drained", "{outcome:?}");
    assert!(outcome.edges[0].1.conserved(), "{outcome:?}");
    assert_eq!(outcome.edges[0].1.sent, offers());
}

/// Ends in its first turn, for good.
struct Mortal;

impl Actor for Mortal {
    fn turn(&mut self, _cx: &mut Cx) -> Result<Work, Fault> {
        Err(Fault::fatal("it was enough"))
    }
}

fn gone() -> ChildSpec {
    let spec = ChildSpec::new(|_| Ok(Box::new(Mortal)));
    ChildSpec { restart: Restart::Temporary, ..spec }
}

/// Lives and takes nothing.
fn deaf() -> ChildSpec {
    ChildSpec::new(|_| Ok(Box::new(Idle)))
}

#[test]
fn s33_a_producer_in_front_of_a_consumer_that_is_gone_goes_on() {
    never_blocks(Overflow::Refuse, gone(), &[0]);
    never_blocks(Overflow::DropNewest, gone(), &[0]);
}

#[test]
fn s33_a_producer_in_front_of_a_consumer_that_takes_nothing_goes_on() {
    // What is left in its mailbox keeps it from draining: that is late.
    never_blocks(Overflow::Refuse, deaf(), &[76]);
    never_blocks(Overflow::DropNewest, deaf(), &[76]);
}

// ---- a slow frame

const FRAME_BYTES: usize = 5 * 1024 * 1024;
const PIECES: usize = 64;
/// Between two pieces: the whole frame takes several times what a turn may.
const PAUSE: Duration = Duration::from_millis(25);
const STALL: Duration = Duration::from_millis(400);

/// Reads one message and tells its length.
struct Listener {
    client: WsClient,
    heard: Sender<usize>,
}

impl Actor for Listener {
    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        match self.client.poll(cx.now).map_err(|e| Fault::fatal(e.to_string()))? {
            Some(WsEvent::Text(text)) => {
                // The test takes one.
                let _ = self.heard.try_send(text.len());
                Ok(Work::Busy)
            }
            Some(_) => Ok(Work::Busy),
            None => Ok(Work::Idle),
        }
    }

    fn waits(&self, waits: &mut Waits) {
        match (self.client.fd(), self.client.wants()) {
            (Some(fd), Wants::Read) => waits.readable(fd),
            (Some(fd), Wants::ReadWrite) => waits.writable(fd),
            (None, _) | (_, Wants::Time) => {}
        }
    }
}

/// Serves one client: the upgrade, and one text frame in many pieces.
fn serve_slowly(listener: &TcpListener) {
    let (stream, _) = listener.accept().expect("a client");
    stream.set_write_timeout(Some(PATIENCE)).expect("set");
    let socket = tungstenite::accept(stream).expect("an upgrade");
    let mut stream: &TcpStream = socket.get_ref();
    // Final frame, text; a length of eight bytes.
    let mut head = vec![0x81, 127];
    head.extend((FRAME_BYTES as u64).to_be_bytes());
    stream.write_all(&head).expect("the client reads");
    let piece = vec![b'x'; FRAME_BYTES / PIECES];
    for _ in 0..PIECES {
        let mut fds = [PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN)];
        // The client says nothing: this is a wait for the time to pass.
        let _ = poll(&mut fds, Some(&Timespec::try_from(PAUSE).expect("short")));
        stream.write_all(&piece).expect("the client reads");
    }
}

#[test]
fn s42_a_slow_frame_of_5_mb_is_not_a_wedge() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("ws://{}", listener.local_addr().expect("bound"));
    let url = WsUrl::parse(&url).expect("a URL");
    let server = thread::spawn("server", move || serve_slowly(&listener)).expect("a thread");
    let resolver = Resolver::new(&|name, body| thread::spawn(name, body).map(drop));
    let resolver = resolver.expect("a resolver");
    let tls = Tls::new(None).expect("trust roots");
    let (heard, hears) = bounded(1);
    let mut builder = builder(SystemSettings::default());
    let id = builder.actor("listener", false);
    let start = move |cx: &mut Cx| -> Result<Box<dyn Actor>, Fault> {
        let mut dialer = SystemDialer::new(resolver.clone(), tls.clone());
        let config = WsConfig {
            frame_bytes_max: 2 * FRAME_BYTES,
            message_bytes_max: 2 * FRAME_BYTES,
            ping_every: None,
            ..WsConfig::default()
        };
        let dialer: &mut dyn Dialer = &mut dialer;
        let client = WsClient::open(dialer, &url, "/", config, cx.now);
        let client = client.map_err(|e| Fault::fatal(e.to_string()))?;
        Ok(Box::new(Listener { client, heard: heard.clone() }))
    };
    let stalls = ChildSpec { stall_warn: STALL / 2, stall_fail: STALL, ..ChildSpec::new(start) };
    builder.child(id, stalls);
    let events = builder.events();
    let stop = builder.stop_handle();
    let running = run(builder.build().expect("a valid system"));
    assert_eq!(hears.recv_timeout(PATIENCE), Ok(FRAME_BYTES));
    stop.drain("test");
    let outcome = ended(&running);
    assert_eq!((outcome.exit_code, outcome.actors[0].restarts), (0, 0), "{outcome:?}");
    assert!(outcome.uptime > 3 * STALL, "the frame came at once: {:?}", outcome.uptime);
    let said: Vec<&str> = events.recent().iter().map(|e| e.name).collect();
    assert!(
        !said.iter().any(|name| name.starts_with("stall") || name.starts_with("wedge")),
        "{said:?}"
    );
    server.join().expect("it was served");
}
