//! The feed reader over memory streams, against the server of the net floor.

use super::*;
use crate::clock::UtcNs;
use crate::net::memory::MemoryNet;
use crate::net::server::{ConnId, Server, ServerConfig, ServerEvent};
use crate::runtime::actor::Generation;
use crate::runtime::mailbox::{Inbox, Mailbox};
use crate::trading::domain::VenueId;
use crate::trading::domain::instrument::Name;
use crate::trading::venue::binance::{BinanceMarket, Flavor};

const PORT: u16 = 9;
const TICKER: &str = r#"{"stream":"abcd@bookTicker","data":{"u":5,"s":"ABCD","b":"1.00","B":"2.00","a":"1.01","A":"3.00"}}"#;

struct Rig {
    net: MemoryNet,
    reader: FeedReader,
    cx: Cx,
    server: Server,
    conns: Vec<ConnId>,
    closed: usize,
    book: Inbox<MarketUpdate>,
    view: View<FeedView>,
}

fn rig() -> Rig {
    let net = MemoryNet::new();
    let server = Server::new(net.listener(PORT), ServerConfig::default());
    let name = |text| Name::from(text).expect("a short name");
    let instrument = Instrument::new(InstrumentId(0), VenueId(0), name("v"), name("ABCD"), (8, 8));
    let instruments: Instruments = vec![instrument].into();
    let book = Mailbox::detached("feed->book", 256);
    let view = View::new();
    let url = WsUrl::parse("ws://venue:9").expect("a URL");
    let dialect = Box::new(BinanceMarket::new(Flavor::Spot, &instruments));
    let reader = FeedReader::new(
        FeedSettings::new(url, instruments, vec![InstrumentId(0)]),
        FeedPorts { book: book.outbox(), view: view.clone() },
        dialect,
        net.dialer(),
    );
    let cx = Cx::detached(MonoNs::from_millis(1), UtcNs::default());
    let (conns, closed, book) = (Vec::new(), 0, book.inbox());
    Rig { net, reader, cx, server, conns, closed, book, view }
}

impl Rig {
    /// Lets both sides do what they can do without time passing.
    fn settle(&mut self) {
        for _ in 0..8 {
            self.reader.turn(&mut self.cx).expect("no fault");
            while let Some(event) = self.server.poll(self.cx.now) {
                match event {
                    ServerEvent::Upgrade { conn, request } => {
                        let streams = "streams=abcd@depth@100ms/abcd@trade/abcd@bookTicker";
                        assert_eq!(
                            (request.path.as_str(), request.query.as_str()),
                            ("/stream", streams)
                        );
                        assert!(self.server.accept_ws(conn));
                        self.conns.push(conn);
                    }
                    ServerEvent::Closed { .. } => self.closed += 1,
                    ServerEvent::Control { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn pass(&mut self, span: Duration) {
        self.cx.now = self.cx.now.after(span);
        self.settle();
    }

    fn say(&mut self, text: &str) {
        let conn = *self.conns.last().expect("connected");
        assert!(self.server.send_text(conn, text));
        self.settle();
    }

    fn resets(&mut self) -> Vec<ResetReason> {
        let mut resets = Vec::new();
        while let Some(update) = self.book.take(&mut self.cx) {
            if let MarketUpdate::Reset { reason, instrument, .. } = update {
                assert_eq!(instrument, InstrumentId(0));
                resets.push(reason);
            }
        }
        resets
    }

    fn live(&mut self) {
        self.settle();
        assert_eq!(self.resets(), [ResetReason::Connected]);
    }

    fn shown(&mut self) -> FeedView {
        self.reader.on_stop(&mut self.cx, Stop::Drained);
        *self.view.take().expect("published")
    }
}

#[test]
fn a_frame_becomes_an_update() {
    let mut rig = rig();
    rig.live();
    rig.say(TICKER);
    let Some(MarketUpdate::Ticker(ticker)) = rig.book.take(&mut rig.cx) else { panic!("a touch") };
    assert_eq!((ticker.update_id, ticker.stamps.recv), (5, rig.cx.now));
    let view = rig.shown();
    assert_eq!((view.state, view.reconnects), (SessionState::Live, 0));
    assert_eq!((view.instruments[0].messages, view.instruments[0].last_update), (1, rig.cx.now));
}

#[test]
fn a_lost_connection_is_made_again() {
    let mut rig = rig();
    rig.live();
    rig.net.disconnect_all(PORT);
    rig.settle();
    assert_eq!(rig.resets(), [ResetReason::Disconnected]);
    assert_eq!(rig.shown().state, SessionState::Down);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.resets(), [ResetReason::Connected]);
    let view = rig.shown();
    assert_eq!((view.state, view.reconnects), (SessionState::Live, 1));
    assert!(!view.last_error.is_empty());
}

#[test]
fn a_new_generation_says_that_the_connection_is_gone() {
    let mut rig = rig();
    rig.cx.generation = Generation(2);
    rig.reader.on_start(&mut rig.cx).expect("starts");
    assert_eq!(rig.resets(), [ResetReason::Disconnected]);
}

#[test]
fn a_close_by_the_venue_is_a_lost_connection() {
    let mut rig = rig();
    rig.live();
    rig.server.close(rig.conns[0], 1001, "bye");
    rig.settle();
    assert_eq!(rig.resets(), [ResetReason::Disconnected]);
    assert!(rig.shown().last_error.contains("1001"));
}

#[test]
fn an_undecodable_frame_resets_and_many_reconnect() {
    let mut rig = rig();
    rig.live();
    rig.say("not json at all");
    assert_eq!(rig.resets(), [ResetReason::Undecodable]);
    for _ in 1..UNDECODABLE_MAX {
        rig.say("{");
    }
    assert_eq!(rig.resets().last(), Some(&ResetReason::Disconnected));
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.resets(), [ResetReason::Connected]);
    assert_eq!(rig.shown().undecodable, u64::from(UNDECODABLE_MAX));
}

#[test]
fn acks_are_no_noise() {
    let mut rig = rig();
    rig.live();
    rig.say(r#"{"result":null,"id":1}"#);
    assert!(rig.resets().is_empty());
}

#[test]
fn a_silent_connection_is_replaced() {
    let mut rig = rig();
    rig.live();
    // Pings are answered all the while: the connection lives, only nothing is said.
    for _ in 0..60 {
        rig.pass(Duration::from_millis(500));
    }
    assert_eq!(rig.resets().first(), Some(&ResetReason::Disconnected));
    assert!(rig.shown().last_error.contains("no message"));
}

#[test]
fn an_old_connection_is_replaced() {
    let mut rig = rig();
    rig.reader.settings.reconnect_after = Duration::from_secs(10);
    rig.live();
    for _ in 0..12 {
        rig.pass(Duration::from_secs(1));
        if rig.reader.state() == SessionState::Live {
            rig.say(TICKER);
        }
    }
    assert_eq!(rig.resets(), [ResetReason::Disconnected, ResetReason::Connected]);
    assert_eq!((rig.conns.len(), rig.closed), (2, 1));
}

#[test]
fn an_announced_shutdown_is_forestalled() {
    let mut rig = rig();
    rig.live();
    rig.say(r#"{"e":"serverShutdown","E":1770123456789}"#);
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.resets(), [ResetReason::Disconnected, ResetReason::Connected]);
}

#[test]
fn a_refused_connection_is_tried_later_each_time() {
    let mut rig = rig();
    rig.server = Server::new(MemoryNet::new().listener(1), ServerConfig::default());
    for _ in 0..100 {
        rig.pass(Duration::from_millis(100));
    }
    let attempts = rig.resets().len();
    assert!((2..20).contains(&attempts), "{attempts}");
}

#[test]
fn the_drain_closes_the_connection() {
    let mut rig = rig();
    rig.live();
    rig.reader.on_drain(&mut rig.cx).expect("no fault");
    assert!(!rig.reader.drained());
    rig.settle();
    assert!(rig.reader.drained());
    assert_eq!((rig.closed, rig.resets()), (1, vec![ResetReason::Disconnected]));
}

#[test]
fn the_drain_does_not_wait_for_a_dead_venue() {
    let mut rig = rig();
    rig.live();
    rig.server.half_open(rig.conns[0], true);
    rig.reader.on_drain(&mut rig.cx).expect("no fault");
    rig.settle();
    assert!(!rig.reader.drained());
    rig.pass(CLOSE_DEADLINE);
    assert!(rig.reader.drained());
}
