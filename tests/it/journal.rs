//! The journal: every record comes back as it was written, from files cut or damaged anywhere.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use pindrop::clock::{Clock, MonoNs, UtcNs, VirtualClock};
use pindrop::runtime::actor::{Actor, ActorId, Cx, EdgeId, Stop, Work};
use pindrop::runtime::mailbox::{EdgeSpec, Mailbox, OnRestart, Overflow};
use pindrop::runtime::view::View;
use pindrop::runtime::wake::Waker;
use pindrop::trading::domain::instrument::Name;
use pindrop::trading::domain::{
    BookState, ClientOrderId, Commission, Entry, ExecType, ExecutionReport, Instrument,
    InstrumentId, Instruments, Level, NewOrder, Notional, OrderKind, OrderRef, OrderStatus, Price,
    Qty, Reason, Record, Side, SignedQty, Stamps, TimeInForce, TopOfBook, Trade, VenueId, Written,
};
use pindrop::trading::journal::record::{RecordError, Stored, decode, encode};
use pindrop::trading::journal::{
    JournalError, JournalPorts, JournalSettings, JournalWriter, OrderRecords, SyncPolicy, dump,
    recover, verify,
};
use pindrop::trading::telemetry::JournalView;

/// Bytes of the order records written here: head 48, payload 35, padding.
const ORDER_BYTES: usize = 88;

const BOOT: UtcNs = UtcNs::from_millis(1_795_000_000_000);

fn name(text: &str) -> Name {
    Name::from(text).expect("short")
}

fn instruments() -> Instruments {
    let of = |id: u16, symbol| {
        Instrument::new(InstrumentId(id), VenueId(0), name("binance"), name(symbol), (2, 8))
    };
    Arc::new([of(0, "BTCUSDT"), of(1, "ETHUSDT")])
}

/// Entries of every kind and every enum value.
fn any_entry() -> impl Strategy<Value = Entry> {
    let head = (any::<u64>(), any::<u64>(), any::<i64>());
    (head, any_record()).prop_map(|((seq, at, utc), record)| Entry {
        seq,
        at: MonoNs::from_nanos(at),
        utc: UtcNs::from_nanos(utc),
        record,
    })
}

fn any_side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Buy), Just(Side::Sell)]
}

fn any_id() -> impl Strategy<Value = ClientOrderId> {
    "[a-z0-9é-]{0,18}".prop_map(|s| ClientOrderId::from(&s).expect("at most 36 bytes"))
}

fn any_level() -> impl Strategy<Value = Level> {
    (any::<i64>(), any::<i64>())
        .prop_map(|(p, q)| Level { price: Price::from_units(p), qty: Qty::from_units(q) })
}

fn any_stamps() -> impl Strategy<Value = Stamps> {
    (any::<u64>(), any::<i64>()).prop_map(|(recv, utc)| Stamps {
        recv: MonoNs::from_nanos(recv),
        venue_utc: UtcNs::from_nanos(utc),
    })
}

fn any_new() -> impl Strategy<Value = NewOrder> {
    let kind =
        prop_oneof![Just(OrderKind::Limit), Just(OrderKind::LimitMaker), Just(OrderKind::Market)];
    let tif = prop_oneof![Just(TimeInForce::Gtc), Just(TimeInForce::Ioc), Just(TimeInForce::Fok)];
    (any::<u16>(), any_side(), kind, tif, any_level()).prop_map(|(id, side, kind, tif, at)| {
        NewOrder { instrument: InstrumentId(id), side, kind, tif, price: at.price, qty: at.qty }
    })
}

fn any_exec() -> impl Strategy<Value = ExecType> {
    prop::sample::select(vec![
        ExecType::PendingNew,
        ExecType::New,
        ExecType::Trade,
        ExecType::PendingCancel,
        ExecType::Canceled,
        ExecType::Rejected,
        ExecType::Expired,
        ExecType::CancelRejected,
        ExecType::Refused,
        ExecType::Unknown,
    ])
}

fn any_status() -> impl Strategy<Value = OrderStatus> {
    prop::sample::select(vec![
        OrderStatus::PendingNew,
        OrderStatus::New,
        OrderStatus::PartiallyFilled,
        OrderStatus::Filled,
        OrderStatus::PendingCancel,
        OrderStatus::Canceled,
        OrderStatus::Rejected,
        OrderStatus::Expired,
        OrderStatus::Unknown,
    ])
}

fn any_report() -> impl Strategy<Value = ExecutionReport> {
    let reason = prop::option::of(prop::sample::select(Reason::ALL.to_vec()));
    let ids = (any::<u16>(), any::<u64>(), any_id(), any::<u64>(), any::<u64>());
    let what = (any_exec(), any_status(), any_side(), reason, any::<i32>());
    let amounts = (any_level(), any_level(), any_level(), any::<i64>(), "[A-Z]{0,24}");
    (ids, what, amounts, any_stamps()).prop_map(|(ids, what, amounts, stamps)| ExecutionReport {
        instrument: InstrumentId(ids.0),
        order: OrderRef(ids.1),
        client_order_id: ids.2,
        venue_order_id: ids.3,
        trade_id: ids.4,
        exec: what.0,
        status: what.1,
        side: what.2,
        reason: what.3,
        venue_code: what.4,
        price: amounts.0.price,
        qty: amounts.0.qty,
        last_price: amounts.1.price,
        last_qty: amounts.1.qty,
        cum_qty: amounts.2.qty,
        leaves_qty: Qty::from_units(amounts.2.price.units()),
        commission: Commission { amount: amounts.3, asset: name(&amounts.4) },
        venue_utc: stamps.venue_utc,
        recv: stamps.recv,
    })
}

fn any_top() -> impl Strategy<Value = TopOfBook> {
    let state = prop::sample::select(vec![
        BookState::Syncing,
        BookState::Live,
        BookState::Gap,
        BookState::Stale,
    ]);
    let sides = (prop::option::of(any_level()), prop::option::of(any_level()));
    let moments = (any_stamps(), any::<u64>());
    (any::<u16>(), any::<u64>(), state, sides, moments).prop_map(
        |(id, update_id, state, (bid, ask), (stamps, booked))| TopOfBook {
            instrument: InstrumentId(id),
            state,
            update_id,
            bid,
            ask,
            stamps,
            booked: MonoNs::from_nanos(booked),
        },
    )
}

fn any_record() -> impl Strategy<Value = Record> {
    let order = (any::<u64>(), any_id(), any_new()).prop_map(|(order, client_order_id, new)| {
        Record::Order { order: OrderRef(order), client_order_id, new }
    });
    let cancel = (any::<u16>(), any::<u64>(), any_id()).prop_map(|(id, order, client_order_id)| {
        Record::Cancel { instrument: InstrumentId(id), order: OrderRef(order), client_order_id }
    });
    let amounts = (any::<i64>(), any::<i128>(), any::<i128>(), any::<i128>());
    let position =
        (any::<u16>(), amounts, any::<u64>()).prop_map(|(id, amounts, last_trade_id)| {
            Record::Position {
                instrument: InstrumentId(id),
                qty: SignedQty::from_units(amounts.0),
                cost: Notional::from_units(amounts.1),
                realized_pnl: Notional::from_units(amounts.2),
                fees: Notional::from_units(amounts.3),
                last_trade_id,
            }
        });
    let trade = (any::<u16>(), any::<u64>(), any_level(), any::<bool>(), any_stamps()).prop_map(
        |(id, trade, at, buyer_is_maker, stamps)| {
            Record::Trade(Trade {
                instrument: InstrumentId(id),
                id: trade,
                price: at.price,
                qty: at.qty,
                buyer_is_maker,
                stamps,
            })
        },
    );
    prop_oneof![
        order,
        cancel,
        any_report().prop_map(Record::Report),
        position,
        any_top().prop_map(Record::Top),
        trade,
        any::<bool>().prop_map(|enabled| Record::Trading { enabled }),
    ]
}

proptest! {
    #[test]
    fn every_record_comes_back(number in any::<u64>(), entry in any_entry()) {
        let mut bytes = Vec::new();
        let crc = encode(&mut bytes, number, &Stored::Entry(entry));
        prop_assert_eq!(bytes.len() % 8, 0);
        let found = decode(&bytes).expect("just encoded");
        prop_assert_eq!((found.number, found.crc, found.bytes), (number, crc, bytes.len()));
        prop_assert_eq!(found.stored, Stored::Entry(entry));
    }

    #[test]
    fn a_flipped_bit_is_noticed(entry in any_entry(), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
        let mut bytes = Vec::new();
        encode(&mut bytes, 1, &Stored::Entry(entry));
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(decode(&bytes).is_err());
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode(&bytes);
    }

    /// Payloads with a fitting checksum, so that the decoder behind it is reached.
    #[test]
    fn arbitrary_payloads_do_not_panic(kind in 0_u16..12, payload in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = vec![0; 48];
        bytes[40..42].copy_from_slice(&kind.to_le_bytes());
        bytes[42..44].copy_from_slice(&1_u16.to_le_bytes());
        bytes.extend_from_slice(&payload);
        let len = u32::try_from(bytes.len()).expect("small");
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes[..4].copy_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        prop_assert!(!matches!(decode(&bytes), Err(RecordError::BadChecksum | RecordError::Short)));
    }
}

/// One life after the other of a journal writer, with the mailboxes and the watermark that outlive it.
struct Bench {
    dir: PathBuf,
    orders: Mailbox<Entry>,
    market: Mailbox<Entry>,
    written: Written,
    view: View<JournalView>,
    clock: VirtualClock,
    boot: UtcNs,
    segment_bytes_max: u64,
    sync: SyncPolicy,
}

impl Bench {
    fn new(dir: &Path) -> Self {
        let market = EdgeSpec {
            name: "any->journal".to_owned(),
            from: Vec::new(),
            to: ActorId(0),
            capacity: 4,
            overflow: Overflow::DropNewest,
            on_restart: OnRestart::Keep,
        };
        Self {
            dir: dir.to_owned(),
            orders: Mailbox::detached("orders->journal", 10_000),
            market: Mailbox::new(EdgeId(1), market, Waker::none()),
            written: Written::default(),
            view: View::new(),
            clock: VirtualClock::new(BOOT),
            boot: BOOT,
            segment_bytes_max: 64 << 20,
            sync: SyncPolicy::default(),
        }
    }

    fn cx(&self) -> Cx {
        Cx::detached(self.clock.now(), self.clock.utc())
    }

    fn writer(&self) -> JournalWriter {
        let settings = JournalSettings {
            segment_bytes_max: self.segment_bytes_max,
            sync: self.sync,
            ..JournalSettings::new(self.dir.clone(), self.boot)
        };
        let ports = JournalPorts {
            orders: vec![OrderRecords {
                inbox: self.orders.inbox(),
                written: self.written.clone(),
            }],
            market: self.market.clone(),
            instruments: instruments(),
            view: self.view.clone(),
            clock: Clock::Virtual(self.clock.clone()),
        };
        JournalWriter::new(settings, ports)
    }

    fn start(&self) -> JournalWriter {
        let mut writer = self.writer();
        writer.on_start(&mut self.cx()).expect("the folder can be written");
        writer
    }

    /// Hands over an order record; its number.
    fn order(&self) -> u64 {
        let seq = self.written.next();
        let id = ClientOrderId::from(&format!("pin-{seq}")).expect("short");
        self.hand(
            seq,
            Record::Order { order: OrderRef(seq), client_order_id: id, new: new_order() },
        );
        seq
    }

    fn position(&self, instrument: u16, qty: i64) {
        let record = Record::Position {
            instrument: InstrumentId(instrument),
            qty: SignedQty::from_units(qty),
            cost: Notional::from_units(-7),
            realized_pnl: Notional::from_units(12),
            fees: Notional::from_units(3),
            last_trade_id: 99,
        };
        self.hand(self.written.next(), record);
    }

    fn hand(&self, seq: u64, record: Record) {
        let entry = Entry { seq, at: self.clock.now(), utc: self.clock.utc(), record };
        self.orders.outbox().offer(entry).expect("room");
    }

    fn market(&self) {
        let record = Record::Trade(Trade::default());
        let entry = Entry { seq: 0, at: self.clock.now(), utc: self.clock.utc(), record };
        self.market.outbox().offer(entry).expect("dropped, not refused");
    }

    /// Turns until the first idle one.
    fn run(&self, writer: &mut JournalWriter) {
        while writer.turn(&mut self.cx()).expect("the disk takes it") == Work::Busy {
            self.clock.advance(Duration::from_micros(10));
        }
    }

    fn stop(&self, mut writer: JournalWriter) {
        self.run(&mut writer);
        writer.on_stop(&mut self.cx(), Stop::Drained);
    }

    fn segments(&self) -> Vec<PathBuf> {
        let mut paths: Vec<_> = std::fs::read_dir(&self.dir)
            .expect("there")
            .map(|entry| entry.expect("readable").path())
            .collect();
        paths.sort();
        paths
    }

    /// All files' bytes, one after the other.
    fn bytes(&self) -> Vec<u8> {
        self.segments().iter().flat_map(|path| std::fs::read(path).expect("readable")).collect()
    }
}

fn new_order() -> NewOrder {
    NewOrder {
        instrument: InstrumentId(0),
        side: Side::Buy,
        kind: OrderKind::LimitMaker,
        tif: TimeInForce::Gtc,
        price: Price::from_units(6_183_763),
        qty: Qty::from_units(1_000_000),
    }
}

fn temp() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn the_watermark_follows_the_write() {
    let dir = temp();
    let bench = Bench::new(dir.path());
    let mut writer = bench.start();
    let seq = bench.order();
    assert_eq!(bench.written.up_to(), 0);
    bench.run(&mut writer);
    assert_eq!(bench.written.up_to(), seq);
    // A market record moves nothing.
    bench.market();
    bench.run(&mut writer);
    assert_eq!(bench.written.up_to(), seq);
    let report = verify(dir.path()).expect("readable");
    assert!(report.is_ok());
    assert_eq!((report.records, report.segments, report.torn_bytes), (2, 1, 0));
}

#[test]
fn it_drains_durably() {
    let dir = temp();
    let bench = Bench::new(dir.path());
    let mut writer = bench.start();
    bench.order();
    bench.clock.advance(Duration::from_millis(1));
    assert_eq!(writer.turn(&mut bench.cx()), Ok(Work::Busy));
    // Written and not synchronized: not drained yet.
    assert!(!writer.drained());
    bench.clock.advance(Duration::from_millis(100));
    assert_eq!(writer.turn(&mut bench.cx()), Ok(Work::Busy));
    assert!(writer.drained());
    assert_eq!(writer.turn(&mut bench.cx()), Ok(Work::Idle));
}

#[test]
fn dropped_market_records_leave_a_hole() {
    let dir = temp();
    let bench = Bench::new(dir.path());
    let mut writer = bench.start();
    (0..7).for_each(|_| bench.market());
    bench.run(&mut writer);
    (0..5).for_each(|_| bench.market());
    // The second hole is noted by the next generation.
    drop(writer);
    bench.stop(bench.start());
    let text = dumped(dir.path(), false);
    let holes: Vec<_> = text.lines().filter(|line| line.contains("kind=hole")).collect();
    assert_eq!(holes.len(), 2, "{text}");
    assert!(holes[0].ends_with("dropped=3 dropped_total=3"), "{text}");
    assert!(holes[1].ends_with("dropped=1 dropped_total=4"), "{text}");
    assert_eq!(verify(dir.path()).expect("readable").holes, 4);
}

#[test]
fn segments_rotate_and_carry_positions() {
    let dir = temp();
    let mut bench = Bench::new(dir.path());
    bench.segment_bytes_max = 1_000;
    let mut writer = bench.start();
    bench.position(1, -5);
    for _ in 0..100 {
        bench.order();
        bench.run(&mut writer);
    }
    bench.stop(writer);
    assert!(bench.segments().len() > 5);
    let report = verify(dir.path()).expect("readable");
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.records, 101);
    // The position was written in the first segment only; the last one still knows it.
    let recovery = recover(dir.path()).expect("readable");
    assert_eq!((recovery.last_number, recovery.last_seq), (101, 101));
    let position = recovery.position_of(&instruments()[1]).expect("carried");
    assert_eq!((position.qty.units(), position.last_trade_id), (-5, 99));
    assert_eq!(recovery.position_of(&instruments()[0]), None);
}

#[test]
fn the_next_process_goes_on_in_a_segment_of_its_own() {
    let dir = temp();
    let mut bench = Bench::new(dir.path());
    let writer = bench.start();
    bench.order();
    bench.position(0, 42);
    bench.stop(writer);
    // Two starts without a record leave one empty segment, not two.
    for later_ms in 1..3 {
        bench.boot = UtcNs::from_millis(BOOT.as_millis() + later_ms);
        bench.written = Written::default();
        bench.stop(bench.start());
        assert_eq!(bench.segments().len(), 2);
    }
    let writer = bench.start();
    bench.position(1, 1);
    bench.stop(writer);
    let recovery = recover(dir.path()).expect("readable");
    assert_eq!((recovery.last_number, recovery.last_seq), (3, 1));
    let quantities = instruments()
        .iter()
        .map(|i| recovery.position_of(i).map(|p| p.qty.units()))
        .collect::<Vec<_>>();
    assert_eq!(quantities, [Some(42), Some(1)]);
    assert!(verify(dir.path()).expect("readable").is_ok());
}

#[test]
fn a_restart_goes_on_in_the_same_segment() {
    let dir = temp();
    let bench = Bench::new(dir.path());
    let mut writer = bench.start();
    bench.order();
    bench.run(&mut writer);
    // The first generation dies with a record queued; the second writes it.
    drop(writer);
    let queued = bench.order();
    bench.stop(bench.start());
    assert_eq!(bench.segments().len(), 1);
    assert_eq!(bench.written.up_to(), queued);
    assert_eq!(verify(dir.path()).expect("readable").records, 2);
}

#[test]
fn the_same_entries_give_the_same_bytes() {
    let write = |positions: i64| {
        let dir = temp();
        let mut bench = Bench::new(dir.path());
        bench.segment_bytes_max = 1_000;
        let mut writer = bench.start();
        for qty in 0..positions {
            bench.order();
            bench.position(0, qty);
            bench.market();
            bench.clock.advance(Duration::from_millis(7));
            if qty == 10 {
                writer = bench.start();
            }
            bench.run(&mut writer);
        }
        bench.stop(writer);
        bench.bytes()
    };
    assert_eq!(write(30), write(30));
    assert_ne!(write(30), write(31));
}

/// A journal of `records` orders in one segment; its path and bytes.
fn one_segment(dir: &Path, records: usize) -> (PathBuf, Vec<u8>) {
    let bench = Bench::new(dir);
    let writer = bench.start();
    for _ in 0..records {
        bench.order();
    }
    bench.stop(writer);
    let path = bench.segments().remove(0);
    let bytes = std::fs::read(&path).expect("readable");
    (path, bytes)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut() {
    let dir = temp();
    let (path, bytes) = one_segment(dir.path(), 3);
    let head_bytes = bytes.len() - 3 * ORDER_BYTES;
    for cut in 0..=bytes.len() {
        std::fs::write(&path, &bytes[..cut]).expect("writable");
        let whole = cut.checked_sub(head_bytes).map(|rest| rest / ORDER_BYTES);
        let kept = whole.map_or(0, |n| head_bytes + n * ORDER_BYTES);
        let recovery = recover(dir.path()).expect("torn, not corrupt");
        assert_eq!(recovery.last_number, whole.unwrap_or(0) as u64, "cut at {cut}");
        assert_eq!(recovery.torn_bytes, (cut - kept) as u64, "cut at {cut}");
        let report = verify(dir.path()).expect("readable");
        assert!(report.is_ok(), "cut at {cut}: {report}");
        assert_eq!(
            (report.records, report.torn_bytes),
            (whole.unwrap_or(0) as u64, (cut - kept) as u64)
        );
        // Sampled, because it synchronizes: the next process writes on behind what is left.
        if cut % 29 == 0 {
            let mut bench = Bench::new(dir.path());
            bench.boot = UtcNs::from_millis(1);
            let writer = bench.start();
            bench.order();
            bench.stop(writer);
            let report = verify(dir.path()).expect("readable");
            assert!(report.is_ok(), "cut at {cut}: {report}");
            assert_eq!((report.records, report.torn_bytes), (whole.unwrap_or(0) as u64 + 1, 0));
            bench.segments().iter().for_each(|path| std::fs::remove_file(path).expect("writable"));
        }
    }
}

#[test]
fn zeros_behind_the_last_record_are_a_torn_tail() {
    let dir = temp();
    let (path, mut bytes) = one_segment(dir.path(), 2);
    let whole = bytes.len();
    bytes.resize(whole + 4_096, 0);
    std::fs::write(&path, &bytes).expect("writable");
    let recovery = recover(dir.path()).expect("torn, not corrupt");
    assert_eq!((recovery.last_number, recovery.torn_bytes), (2, 4_096));
}

#[test]
fn damage_inside_is_an_error_that_names_the_place() {
    let dir = temp();
    let (path, bytes) = one_segment(dir.path(), 3);
    let second = bytes.len() - 2 * ORDER_BYTES;
    for at in second..second + ORDER_BYTES {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        std::fs::write(&path, &damaged).expect("writable");
        match recover(dir.path()) {
            Err(JournalError::Corrupt { path: named, offset, .. }) => {
                assert_eq!((named, offset), (path.clone(), second as u64));
            }
            other => panic!("byte {at}: {other:?}"),
        }
        let report = verify(dir.path()).expect("readable");
        assert_eq!((report.damages.len(), report.records), (1, 1));
        let mut out = Vec::new();
        assert!(dump(dir.path(), &mut out, false).is_err());
        assert_eq!(out.iter().filter(|b| **b == b'\n').count(), 1);
    }
    // A writer does not start on it.
    let bench = Bench::new(dir.path());
    let fault = bench.writer().on_start(&mut bench.cx()).expect_err("damaged");
    assert!(fault.to_string().contains("corrupt"), "{fault}");
}

#[test]
fn a_missing_segment_is_noticed() {
    let dir = temp();
    let mut bench = Bench::new(dir.path());
    bench.segment_bytes_max = 500;
    let mut writer = bench.start();
    for _ in 0..20 {
        bench.order();
        bench.run(&mut writer);
    }
    bench.stop(writer);
    std::fs::remove_file(&bench.segments()[1]).expect("writable");
    let report = verify(dir.path()).expect("readable");
    assert_eq!(report.damages.len(), 1);
    assert!(report.to_string().contains("is missing"), "{report}");
}

#[test]
fn a_write_error_is_a_fault_and_the_next_generation_goes_on() {
    let dir = temp();
    let mut bench = Bench::new(&dir.path().join("journal"));
    bench.segment_bytes_max = 1;
    let mut writer = bench.start();
    let first = bench.order();
    bench.run(&mut writer);
    // The next segment finds no folder.
    std::fs::remove_dir_all(&bench.dir).expect("writable");
    let second = bench.order();
    let fault = writer.turn(&mut bench.cx()).expect_err("nowhere to write");
    assert!(fault.to_string().starts_with("journal: "), "{fault}");
    assert_eq!(bench.written.up_to(), first);
    // Nothing was taken from the mailbox before the disk refused.
    bench.stop(bench.start());
    assert_eq!(bench.written.up_to(), second);
    assert_eq!(verify(&bench.dir).expect("readable").records, 1);
}

#[test]
fn a_folder_that_cannot_be_written_is_a_fault() {
    let dir = temp();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").expect("writable");
    let bench = Bench::new(&file);
    let fault = bench.writer().on_start(&mut bench.cx()).expect_err("no folder");
    assert!(fault.to_string().starts_with("journal: create"), "{fault}");
}

fn dumped(dir: &Path, json: bool) -> String {
    let mut out = Vec::new();
    dump(dir, &mut out, json).expect("readable");
    String::from_utf8(out).expect("text")
}

#[test]
fn dump_speaks_in_decimals() {
    let dir = temp();
    let bench = Bench::new(dir.path());
    let writer = bench.start();
    bench.order();
    bench.position(1, -150_000_000);
    bench.hand(0, Record::Trading { enabled: false });
    bench.stop(writer);
    let utc = "2026-11-18T10:26:40.000000Z";
    let expect = format!(
        "number=1 utc={utc} at_ns=0 seq=1 kind=order order=0.0.1 client_order_id=pin-1 \
         instrument=binance:BTCUSDT side=buy order_kind=limit_maker tif=gtc price=61837.63 qty=0.01000000\n\
         number=2 utc={utc} at_ns=0 seq=2 kind=position instrument=binance:ETHUSDT qty=-1.50000000 \
         cost=-0.0000000007 realized_pnl=0.0000000012 fees=0.0000000003 last_trade_id=99\n\
         number=3 utc={utc} at_ns=0 kind=trading enabled=false\n"
    );
    let text = dumped(dir.path(), false).replace(&BOOT.to_string(), utc);
    assert_eq!(text, expect);
    let json = dumped(dir.path(), true);
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["price"], "61837.63");
    assert_eq!(lines[1]["number"], 2);
    assert_eq!(lines[2]["enabled"], false);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_dumped_line_is_json(entries in prop::collection::vec(any_entry(), 1..20)) {
        let dir = temp();
        let bench = Bench::new(dir.path());
        let writer = bench.start();
        for entry in &entries {
            bench.orders.outbox().offer(*entry).expect("room");
        }
        bench.stop(writer);
        let json = dumped(dir.path(), true);
        prop_assert_eq!(json.lines().count(), entries.len());
        for line in json.lines() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{}", line);
        }
        prop_assert_eq!(dumped(dir.path(), false).lines().count(), entries.len());
    }
}
