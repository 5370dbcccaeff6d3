//! The rest worker against a scripted client.

use std::sync::{Arc, Mutex, PoisonError};

use super::*;
use crate::clock::UtcNs;
use crate::runtime::mailbox::Mailbox;
use crate::trading::domain::VenueId;
use crate::trading::domain::instrument::Name;
use crate::trading::venue::binance::{BinanceMarket, Flavor};

const SNAPSHOT: &str = r#"{"lastUpdateId":7,"bids":[["1.00000000","2.00000000"]],"asks":[]}"#;

#[derive(Default)]
struct Script {
    answers: VecDeque<Result<HttpResponse, NetError>>,
    asked: Vec<String>,
}

/// A client that gives prepared answers, in order; without one it never answers.
#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<Script>>);

impl Scripted {
    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, status: u16, headers: &[(&str, &str)], body: &str) {
        let headers = headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let answer = HttpResponse { status, headers, body: body.as_bytes().to_vec() };
        self.script().answers.push_back(Ok(answer));
    }
}

impl HttpClient for Scripted {
    fn begin(&mut self, request: HttpRequest, _timeout: Duration, _now: MonoNs) {
        assert_eq!((request.method, request.base_url.as_str()), ("GET", "http://venue"));
        self.script().asked.push(request.target);
    }

    fn poll(&mut self, _now: MonoNs) -> Option<Result<HttpResponse, NetError>> {
        self.script().answers.pop_front()
    }

    fn blocks(&self) -> bool {
        false
    }
}

struct Rig {
    worker: RestWorker,
    cx: Cx,
    client: Scripted,
    requests: Outbox<SnapshotRequest>,
    book: Inbox<MarketUpdate>,
    instruments: Instruments,
}

fn rig(symbols: &[&str], book_capacity: usize) -> Rig {
    let name = |text: &str| Name::from(text).expect("a short name");
    let instrument = |(n, symbol): (usize, &&str)| {
        let id = InstrumentId(n as u16);
        Instrument::new(id, VenueId(0), name("v"), name(symbol), (8, 8))
    };
    let table: Vec<_> = symbols.iter().enumerate().map(instrument).collect();
    let instruments: Instruments = table.into();
    let mine = instruments.iter().map(|i| i.id).collect();
    let (requests, book) =
        (Mailbox::detached("book->rest", 8), Mailbox::detached("rest->book", book_capacity));
    let client = Scripted::default();
    let worker = RestWorker::new(
        RestSettings::new("http://venue".to_owned(), Arc::clone(&instruments), mine),
        RestPorts { requests: requests.inbox(), book: book.outbox(), view: View::new() },
        Box::new(BinanceMarket::new(Flavor::Spot, &instruments)),
        Box::new(client.clone()),
    );
    let cx = Cx::detached(MonoNs::from_millis(1), UtcNs::default());
    Rig { worker, cx, client, requests: requests.outbox(), book: book.inbox(), instruments }
}

fn rules_of(symbols: &[&str]) -> String {
    let symbol = |symbol: &&str| {
        format!(
            r#"{{"symbol":"{symbol}","status":"TRADING","baseAsset":"A","quoteAsset":"B","filters":[
            {{"filterType":"PRICE_FILTER","minPrice":"0.01","maxPrice":"1000000.00","tickSize":"0.01"}},
            {{"filterType":"LOT_SIZE","minQty":"0.01","maxQty":"9000.00","stepSize":"0.01"}},
            {{"filterType":"NOTIONAL","minNotional":"5.00","applyMinToMarket":true,"maxNotional":"9000000.00",
            "applyMaxToMarket":false,"avgPriceMins":5}}]}}"#
        )
    };
    let symbols: Vec<_> = symbols.iter().map(symbol).collect();
    format!(r#"{{"timezone":"UTC","serverTime":1,"symbols":[{}]}}"#, symbols.join(","))
}

impl Rig {
    fn turns(&mut self, count: u32) {
        for _ in 0..count {
            self.worker.turn(&mut self.cx).expect("no fault");
        }
    }

    fn pass(&mut self, span: Duration) {
        self.cx.now = self.cx.now.after(span);
        self.turns(2);
    }

    fn want(&mut self, id: u16) {
        self.requests.offer(SnapshotRequest { instrument: InstrumentId(id) }).expect("room");
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.client.script().asked)
    }

    /// With the rules of all its instruments.
    fn ready(mut self) -> Self {
        let symbols: Vec<_> = self.instruments.iter().map(|i| i.symbol).collect();
        let names: Vec<_> = symbols.iter().map(|s| s.as_str()).collect();
        self.client.answer(200, &[], &rules_of(&names));
        self.turns(3);
        assert!(self.instruments.iter().all(|i| i.rules().is_some()));
        self.asked();
        self
    }
}

#[test]
fn rules_are_fetched_at_the_start() {
    let mut rig = rig(&["AB", "CB"], 8);
    rig.client.answer(200, &[], &rules_of(&["AB", "CB"]));
    rig.turns(3);
    let rules = rig.instruments[1].rules().expect("known");
    assert_eq!((rules.tick.units(), rules.trading), (1_000_000, true));
    assert_eq!(rig.asked().len(), 1);
}

#[test]
fn missing_rules_are_asked_for_again_and_one_by_one() {
    let mut rig = rig(&["AB", "NO"], 8);
    rig.client.answer(400, &[], r#"{"code":-1121,"msg":"Invalid symbol."}"#);
    rig.turns(2);
    rig.client.answer(200, &[], &rules_of(&["AB"]));
    rig.pass(Duration::from_secs(1));
    assert!(rig.instruments[0].rules().is_some());
    rig.client.answer(400, &[], r#"{"code":-1121,"msg":"Invalid symbol."}"#);
    rig.pass(Duration::from_secs(30));
    assert!(rig.instruments[1].rules().is_none());
    let asked = rig.asked();
    assert!(asked[1].contains("AB") && !asked[1].contains("NO"), "{asked:?}");
    assert!(asked[2].contains("NO"), "{asked:?}");
}

#[test]
fn snapshots_are_fetched_once_for_many_requests() {
    let mut rig = rig(&["AB"], 8).ready();
    for _ in 0..3 {
        rig.want(0);
    }
    rig.turns(1);
    rig.want(0);
    rig.client.answer(200, &[], SNAPSHOT);
    rig.turns(3);
    assert_eq!(rig.asked().len(), 1);
    let Some(MarketUpdate::Depth(chunk)) = rig.book.take(&mut rig.cx) else { panic!("a snapshot") };
    assert_eq!((chunk.last_id, chunk.first, chunk.last), (7, true, true));
    assert_eq!(chunk.stamps.recv, rig.cx.now);
}

#[test]
fn what_does_not_fit_is_offered_again() {
    let mut rig = rig(&["AB"], 2).ready();
    let levels: Vec<_> = (1..=60).map(|n| format!(r#"["{n}.00","1.00"]"#)).collect();
    let body = format!(r#"{{"lastUpdateId":7,"bids":[{}],"asks":[]}}"#, levels.join(","));
    rig.want(0);
    rig.client.answer(200, &[], &body);
    let (mut pieces, mut whole) = (0, false);
    for _ in 0..20 {
        rig.turns(1);
        while let Some(MarketUpdate::Depth(chunk)) = rig.book.take(&mut rig.cx) {
            pieces += 1;
            whole = chunk.last;
        }
    }
    assert_eq!((pieces, whole), (5, true));
}

#[test]
fn a_failed_snapshot_is_asked_for_again() {
    for (status, body) in [(500, ""), (200, "{"), (403, "<html>")] {
        let mut rig = rig(&["AB"], 8).ready();
        rig.want(0);
        rig.client.answer(status, &[], body);
        rig.turns(2);
        rig.turns(1);
        assert_eq!(rig.asked().len(), 1, "{status}");
        assert!(rig.book.take(&mut rig.cx).is_none());
        rig.client.answer(200, &[], SNAPSHOT);
        rig.pass(Duration::from_secs(1));
        rig.turns(1);
        assert_eq!(rig.asked().len(), 1, "{status}");
        assert!(rig.book.take(&mut rig.cx).is_some());
    }
}

#[test]
fn a_rate_limit_is_respected() {
    for status in [429, 418] {
        let mut rig = rig(&["AB"], 8).ready();
        rig.want(0);
        rig.client.answer(status, &[("retry-after", "120")], "{}");
        rig.turns(2);
        assert_eq!(rig.asked().len(), 1);
        rig.pass(Duration::from_secs(119));
        assert_eq!(rig.asked().len(), 0);
        rig.client.answer(200, &[], SNAPSHOT);
        rig.pass(Duration::from_secs(1));
        rig.turns(1);
        assert!(rig.book.take(&mut rig.cx).is_some());
    }
}

#[test]
fn an_instrument_of_another_venue_is_not_asked_for() {
    let mut rig = rig(&["AB"], 8).ready();
    rig.want(5);
    rig.turns(3);
    assert!(rig.asked().is_empty());
}
