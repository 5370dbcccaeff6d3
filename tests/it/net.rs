//! Streams, TLS, WebSocket and HTTP, over memory (virtual time, any slicing of bytes) and over loopback.

#![expect(clippy::unwrap_used, reason = "these are tests, their helpers too")]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use pindrop::clock::{Clock, MonoNs};
use pindrop::net::dial::{SystemAcceptor, SystemDialer};
use pindrop::net::http::{StreamHttp, UreqClient};
use pindrop::net::memory::MemoryNet;
use pindrop::net::resolve::{Lookup, Resolver};
use pindrop::net::server::{ConnId, Interest, Server, ServerConfig, ServerEvent};
use pindrop::net::stream::Tls;
use pindrop::net::url::WsUrl;
use pindrop::net::websocket::{WsClient, WsConfig, WsEvent};
use pindrop::net::{
    Acceptor, Dialer, Endpoint, HttpClient, HttpRequest, HttpResponse, NetError, Stream, Wants,
};
use proptest::prelude::*;

const PORT: u16 = 80;
/// Rounds after which something that should have happened will not happen.
const ROUNDS: usize = 200_000;

fn at_ms(ms: u64) -> MonoNs {
    MonoNs::from_millis(ms)
}

// ---- rigs ----

/// A stream that moves at most `slice` bytes per call and says "not now" every other time.
struct Sliced {
    below: Box<dyn Stream>,
    slice: usize,
    reads: bool,
    writes: bool,
}

/// Lets every other call through.
fn turn(ready: &mut bool) -> io::Result<()> {
    *ready = !*ready;
    if *ready { Ok(()) } else { Err(io::ErrorKind::Interrupted.into()) }
}

impl Read for Sliced {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        turn(&mut self.reads)?;
        let n = buf.len().min(self.slice);
        self.below.read(&mut buf[..n])
    }
}

impl Write for Sliced {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        turn(&mut self.writes)?;
        self.below.write(&buf[..buf.len().min(self.slice)])
    }
    fn flush(&mut self) -> io::Result<()> {
        self.below.flush()
    }
}

impl Stream for Sliced {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.below.fd()
    }
    fn wants(&self) -> Wants {
        self.below.wants()
    }
    fn shutdown(&mut self) {
        self.below.shutdown();
    }
    fn interrupter(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        self.below.interrupter()
    }
}

struct SlicingDialer {
    net: Box<dyn Dialer>,
    slice: usize,
}

impl Dialer for SlicingDialer {
    fn dial(&mut self, endpoint: &Endpoint, now: MonoNs) -> Result<Box<dyn Stream>, NetError> {
        let below = self.net.dial(endpoint, now)?;
        Ok(Box::new(Sliced { below, slice: self.slice, reads: false, writes: false }))
    }
}

fn server_config() -> ServerConfig {
    ServerConfig { ping_every: None, ..ServerConfig::default() }
}

fn quiet() -> WsConfig {
    WsConfig { ping_every: None, ..WsConfig::default() }
}

fn memory_server(config: ServerConfig) -> (MemoryNet, Server) {
    let net = MemoryNet::new();
    let server = Server::new(net.listener(PORT), config);
    (net, server)
}

fn raw(net: &MemoryNet) -> Box<dyn Stream> {
    let endpoint = Endpoint { host: "memory".into(), port: PORT, tls: false };
    net.dialer().dial(&endpoint, MonoNs::ZERO).unwrap()
}

/// Everything that can be read now.
fn read_now(stream: &mut dyn Stream) -> Vec<u8> {
    let mut got = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(n @ 1..) = stream.read(&mut chunk) {
        got.extend_from_slice(&chunk[..n]);
    }
    got
}

/// Accepts upgrades, echoes messages, answers requests with what was asked; gives the reason of a closed event.
fn echo(server: &mut Server, now: MonoNs) -> Option<String> {
    let mut closed = None;
    while let Some(event) = server.poll(now) {
        match event {
            ServerEvent::Request { conn, request } => {
                let said = format!("{} {} {}", request.method, request.path, request.query);
                let body = [said.as_bytes(), b" ", &request.body].concat();
                let headers = vec![("x-echo".to_string(), "yes".to_string())];
                assert!(server.respond(conn, HttpResponse { status: 200, headers, body }));
            }
            ServerEvent::Upgrade { conn, .. } => assert!(server.accept_ws(conn)),
            ServerEvent::Message { conn, text } => assert!(server.send_text(conn, &text)),
            ServerEvent::Binary { .. } | ServerEvent::Control { .. } => {}
            ServerEvent::Closed { why, .. } => closed = Some(why),
        }
    }
    server.flush();
    closed
}

fn open(dialer: &mut dyn Dialer, config: WsConfig) -> WsClient {
    let url = WsUrl::parse("ws://memory").unwrap();
    WsClient::open(dialer, &url, "/ws?x=1", config, MonoNs::ZERO).unwrap()
}

/// Steps both sides at one moment until the client has an event.
fn next_event(
    client: &mut WsClient,
    server: &mut Server,
    now: MonoNs,
) -> Result<WsEvent, NetError> {
    for _ in 0..ROUNDS {
        if let Some(event) = client.poll(now)? {
            return Ok(event);
        }
        echo(server, now);
    }
    panic!("no event");
}

/// An open client and the server's id for it.
fn opened(net: &MemoryNet, server: &mut Server, config: WsConfig) -> (WsClient, ConnId) {
    let mut client = open(&mut *net.dialer(), config);
    for _ in 0..10 {
        match server.poll(MonoNs::ZERO) {
            Some(ServerEvent::Upgrade { conn, request }) => {
                assert_eq!((request.path.as_str(), request.query.as_str()), ("/ws", "x=1"));
                assert!(server.accept_ws(conn));
                server.flush();
                assert_eq!(client.poll(MonoNs::ZERO).unwrap(), Some(WsEvent::Opened));
                return (client, conn);
            }
            Some(other) => panic!("{other:?}"),
            None => assert_eq!(client.poll(MonoNs::ZERO).unwrap(), None),
        }
    }
    panic!("no upgrade");
}

// ---- WebSocket over memory ----

fn echoes(slice: usize, payload_bytes: usize) {
    let (net, mut server) =
        memory_server(ServerConfig { message_bytes_max: 2_000_000, ..server_config() });
    let config = WsConfig { write_buffer_bytes_max: 2_000_000, ..quiet() };
    let mut client = open(&mut SlicingDialer { net: net.dialer(), slice }, config);
    let now = MonoNs::ZERO;
    assert_eq!(next_event(&mut client, &mut server, now).unwrap(), WsEvent::Opened);
    let text = "ü".repeat(payload_bytes / 2) + &"x".repeat(payload_bytes % 2);
    for _ in 0..2 {
        client.send_text(text.as_bytes(), now).unwrap();
        let got = next_event(&mut client, &mut server, now).unwrap();
        assert!(matches!(&got, WsEvent::Text(t) if t.as_str() == text), "{payload_bytes}");
    }
    client.close(1000, now);
    let closed = WsEvent::Closed { code: 1000, reason: String::new() };
    assert_eq!(next_event(&mut client, &mut server, now).unwrap(), closed);
    assert!(client.poll(now).is_err(), "stays ended");
}

#[test]
fn echo_one_byte_at_a_time() {
    for payload_bytes in [0, 1, 125, 126, 300] {
        echoes(1, payload_bytes);
    }
}

#[test]
fn echo_in_odd_slices() {
    echoes(7, 65_535);
    echoes(1_021, 65_536);
}

#[test]
fn echo_of_big_messages() {
    echoes(usize::MAX, 1_000_000);
}

#[test]
fn a_message_above_the_clients_cap_ends_it() {
    let (net, mut server) = memory_server(server_config());
    let (mut client, conn) = opened(
        &net,
        &mut server,
        WsConfig { frame_bytes_max: 100, message_bytes_max: 100, ..quiet() },
    );
    server.send_text(conn, &"x".repeat(101));
    server.flush();
    assert!(matches!(client.poll(MonoNs::ZERO), Err(NetError::TooLarge(_, 100))));
}

#[test]
fn a_message_above_the_servers_cap_is_answered_with_1009() {
    let (net, mut server) =
        memory_server(ServerConfig { message_bytes_max: 100, ..server_config() });
    let (mut client, _) = opened(&net, &mut server, quiet());
    client.send_text(&[b'x'; 101], MonoNs::ZERO).unwrap();
    assert!(matches!(server.poll(MonoNs::ZERO), Some(ServerEvent::Closed { .. })));
    assert!(matches!(client.poll(MonoNs::ZERO), Ok(Some(WsEvent::Closed { code: 1009, .. }))));
}

#[test]
fn a_peer_that_does_not_read_ends_the_client_at_its_cap() {
    let (net, mut server) = memory_server(server_config());
    let config = WsConfig { write_buffer_bytes_max: 32 * 1024, ..quiet() };
    let (mut client, conn) = opened(&net, &mut server, config);
    server.half_open(conn, true);
    let payload = [b'x'; 1000];
    let failed = (0..1_000).find_map(|_| client.send_text(&payload, MonoNs::ZERO).err());
    assert!(matches!(failed, Some(NetError::TooLarge("write buffer", _))), "{failed:?}");
    assert!(client.poll(MonoNs::ZERO).is_err());
}

#[test]
fn a_client_that_does_not_read_is_dropped_at_the_servers_cap() {
    let (net, mut server) =
        memory_server(ServerConfig { write_buffer_bytes_max: 64 * 1024, ..server_config() });
    let (_client, conn) = opened(&net, &mut server, quiet());
    let (_other, other) = opened(&net, &mut server, quiet());
    let text = "x".repeat(1000);
    assert!((0..1_000).any(|_| {
        server.flush();
        !server.send_text(conn, &text)
    }));
    let event = server.poll(MonoNs::ZERO);
    assert!(
        matches!(&event, Some(ServerEvent::Closed { conn: c, why }) if *c == conn && why.contains("write buffer")),
        "{event:?}"
    );
    assert_eq!((server.connections(), server.buffered(conn)), (1, 0));
    assert!(server.send_text(other, "still here") && !server.send_text(conn, "gone"));
}

#[test]
fn connecting_has_one_deadline() {
    let net = MemoryNet::new();
    let _listener = net.listener(PORT);
    let mut client = open(&mut *net.dialer(), quiet());
    assert!(matches!(client.poll(at_ms(4_999)), Ok(None)));
    assert!(matches!(client.poll(at_ms(5_000)), Err(NetError::Deadline("connecting", _))));
}

#[test]
fn a_dead_peer_is_noticed_by_ping() {
    let (net, mut server) = memory_server(server_config());
    let (mut client, conn) = opened(&net, &mut server, WsConfig::default());
    assert_eq!(client.poll(at_ms(5_000)).unwrap(), None, "pings");
    assert_eq!(echo(&mut server, at_ms(5_001)), None);
    assert_eq!(client.poll(at_ms(5_002)).unwrap(), None, "has the pong");
    assert_eq!(client.last_received(), at_ms(5_002));
    server.half_open(conn, true);
    assert_eq!(client.poll(at_ms(10_002)).unwrap(), None, "pings again");
    echo(&mut server, at_ms(12_000));
    assert_eq!(client.poll(at_ms(15_001)).unwrap(), None);
    assert!(matches!(client.poll(at_ms(15_002)), Err(NetError::Deadline("answer to ping", _))));
}

#[test]
fn a_dead_client_is_noticed_by_the_server() {
    let config = ServerConfig { pong_deadline: Duration::from_secs(3), ..ServerConfig::default() };
    let (net, mut server) = memory_server(config);
    let (mut client, _) = opened(&net, &mut server, quiet());
    assert_eq!(echo(&mut server, at_ms(20_000)), None);
    assert_eq!(client.poll(at_ms(20_001)).unwrap(), None, "answers the ping");
    assert_eq!(echo(&mut server, at_ms(20_002)), None);
    assert_eq!(echo(&mut server, at_ms(40_002)), None, "pings again");
    assert_eq!(echo(&mut server, at_ms(43_001)), None);
    assert!(echo(&mut server, at_ms(43_002)).unwrap().contains("ping"));
}

#[test]
fn closing_does_not_wait_for_ever() {
    let (net, mut server) = memory_server(server_config());
    let (mut client, conn) = opened(&net, &mut server, quiet());
    server.half_open(conn, true);
    client.close(1000, at_ms(10));
    assert!(!client.is_open() && client.send_text(b"late", at_ms(10)).is_err());
    assert_eq!(client.poll(at_ms(1_009)).unwrap(), None);
    assert!(matches!(client.poll(at_ms(1_010)), Ok(Some(WsEvent::Closed { code: 1006, .. }))));
}

#[test]
fn the_server_closes_with_a_code_and_a_reason() {
    let (net, mut server) = memory_server(server_config());
    let (mut client, conn) = opened(&net, &mut server, quiet());
    server.close(conn, 1008, "no key");
    let closed = WsEvent::Closed { code: 1008, reason: "no key".to_string() };
    assert_eq!(next_event(&mut client, &mut server, MonoNs::ZERO).unwrap(), closed);
    assert!(echo(&mut server, MonoNs::ZERO).is_some());
    assert_eq!(server.connections(), 0);
}

#[test]
fn a_cut_connection_is_an_error_and_its_id_is_not_used_again() {
    let (net, mut server) = memory_server(server_config());
    let (mut client, first) = opened(&net, &mut server, quiet());
    net.disconnect_all(PORT);
    assert!(matches!(client.poll(MonoNs::ZERO), Err(NetError::Closed(_))));
    assert!(echo(&mut server, MonoNs::ZERO).is_some());
    let (_again, second) = opened(&net, &mut server, quiet());
    assert!(second > first);
}

#[test]
fn a_dropped_connection_ends_without_a_close_frame() {
    let (net, mut server) = memory_server(server_config());
    let (mut client, conn) = opened(&net, &mut server, quiet());
    server.drop_conn(conn);
    assert!(matches!(client.poll(MonoNs::ZERO), Err(NetError::Closed(_))));
    assert_eq!(server.connections(), 0);
}

#[test]
fn what_the_peer_said_comes_before_the_error_of_writing_to_it() {
    let (net, mut server) = memory_server(server_config());
    let (mut client, conn) = opened(&net, &mut server, quiet());
    server.send_text(conn, "last words");
    server.flush();
    server.drop_conn(conn);
    assert!(matches!(client.poll(MonoNs::ZERO), Ok(Some(WsEvent::Text(_)))));
    assert!(matches!(client.send_text(b"late", MonoNs::ZERO), Err(NetError::Closed(_))));
}

#[test]
fn a_refused_upgrade_says_its_status() {
    let (net, mut server) = memory_server(server_config());
    let mut client = open(&mut *net.dialer(), quiet());
    client.poll(MonoNs::ZERO).unwrap();
    let Some(ServerEvent::Upgrade { conn, .. }) = server.poll(MonoNs::ZERO) else {
        panic!("no upgrade")
    };
    server.respond(conn, HttpResponse { status: 429, headers: vec![], body: vec![] });
    server.flush();
    let error = client.poll(MonoNs::ZERO).unwrap_err().to_string();
    assert!(error.contains("429"), "{error}");
}

#[test]
fn twenty_thousand_small_messages_arrive_in_order() {
    let (net, mut server) = memory_server(server_config());
    let (mut client, conn) = opened(&net, &mut server, quiet());
    let (mut sent, mut got) = (0, 0);
    while got < 20_000 {
        for _ in 0..100.min(20_000 - sent) {
            assert!(server.send_text(conn, &format!("{{\"u\":{sent}}}")));
            sent += 1;
        }
        server.flush();
        while let Some(event) = client.poll(MonoNs::ZERO).unwrap() {
            let WsEvent::Text(text) = event else { panic!("{event:?}") };
            assert_eq!(text.as_str(), format!("{{\"u\":{got}}}"));
            got += 1;
        }
    }
}

#[test]
fn a_hundred_connections_are_held() {
    let (net, mut server) = memory_server(ServerConfig { conns_max: 100, ..server_config() });
    let mut all: Vec<_> = (0..100).map(|_| opened(&net, &mut server, quiet())).collect();
    let mut refused = raw(&net);
    echo(&mut server, MonoNs::ZERO);
    assert_eq!(refused.read(&mut [0; 1]).unwrap(), 0);
    for (_, conn) in &all {
        assert!(server.send_text(*conn, "all"));
    }
    server.flush();
    for (client, _) in &mut all {
        assert!(matches!(client.poll(MonoNs::ZERO), Ok(Some(WsEvent::Text(_)))));
    }
}

// ---- frames by hand ----

fn frame(head: u8, payload: &[u8], masked: bool) -> Vec<u8> {
    let mut bytes =
        vec![head, u8::try_from(payload.len()).unwrap() | if masked { 0x80 } else { 0 }];
    if masked {
        bytes.extend_from_slice(&[1, 2, 3, 4]);
    }
    let mask = [1, 2, 3, 4];
    bytes
        .extend(payload.iter().enumerate().map(|(i, b)| if masked { b ^ mask[i % 4] } else { *b }));
    bytes
}

const UPGRADE: &[u8] = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\n\
    Upgrade: WebSocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// What the server sends back for `frames` after an upgrade.
fn answered(frames: &[u8]) -> Vec<u8> {
    let (net, mut server) = memory_server(server_config());
    let mut stream = raw(&net);
    stream.write_all(UPGRADE).unwrap();
    echo(&mut server, MonoNs::ZERO);
    echo(&mut server, MonoNs::ZERO);
    let head = String::from_utf8(read_now(&mut *stream)).unwrap();
    // The accept value of RFC 6455's own example.
    assert!(
        head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        "{head}"
    );
    stream.write_all(frames).unwrap();
    for _ in 0..4 {
        echo(&mut server, MonoNs::ZERO);
    }
    read_now(&mut *stream)
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    assert_eq!(answered(&frame(0x89, b"beat", true)), frame(0x8a, b"beat", false));
}

#[test]
fn fragments_with_a_ping_between_them() {
    let sent =
        [frame(0x01, b"he", true), frame(0x89, b"p", true), frame(0x80, b"llo", true)].concat();
    assert_eq!(answered(&sent), [frame(0x8a, b"p", false), frame(0x81, b"hello", false)].concat());
}

#[test]
fn an_unmasked_frame_fails_the_connection() {
    assert_eq!(answered(&frame(0x81, b"hi", false)), frame(0x88, &1002u16.to_be_bytes(), false));
}

#[test]
fn text_that_is_none_fails_the_connection() {
    let answer = answered(&frame(0x81, &[0xff, 0xfe], true));
    assert_eq!(answer, frame(0x88, &1007u16.to_be_bytes(), false));
}

#[test]
fn a_close_is_answered_with_its_code() {
    let close = frame(0x88, &1000u16.to_be_bytes(), true);
    assert_eq!(answered(&close), frame(0x88, &1000u16.to_be_bytes(), false));
}

#[test]
fn fragments_without_end_fail_the_connection() {
    let mut sent = frame(0x01, b"", true);
    for _ in 0..40_000 {
        sent.extend(frame(0x00, b"", true));
    }
    let (net, mut server) =
        memory_server(ServerConfig { message_bytes_max: 1000, ..server_config() });
    let mut stream = raw(&net);
    stream.write_all(UPGRADE).unwrap();
    echo(&mut server, MonoNs::ZERO);
    stream.write_all(&sent).unwrap();
    assert!(echo(&mut server, MonoNs::ZERO).unwrap().contains("fragments"));
}

#[test]
fn a_message_that_is_never_whole_ends_the_connection() {
    let limit = Duration::from_secs(3);
    let (net, mut server) =
        memory_server(ServerConfig { message_deadline: limit, ..server_config() });
    let mut stream = raw(&net);
    stream.write_all(UPGRADE).unwrap();
    echo(&mut server, MonoNs::ZERO);
    stream.write_all(&frame(0x01, b"", true)).unwrap();
    for second in 0..3 {
        // Neither more of nothing nor what comes between makes it whole.
        stream.write_all(&frame(0x00, b"", true)).unwrap();
        stream.write_all(&frame(0x89, b"ping", true)).unwrap();
        assert_eq!(echo(&mut server, MonoNs::ZERO.after(Duration::from_secs(second))), None);
    }
    assert!(echo(&mut server, MonoNs::ZERO.after(limit)).unwrap().contains("end of a message"));
}

#[test]
fn frames_in_halves_are_no_message_without_end() {
    let (net, mut server) =
        memory_server(ServerConfig { message_deadline: Duration::from_secs(3), ..server_config() });
    let mut stream = raw(&net);
    stream.write_all(UPGRADE).unwrap();
    echo(&mut server, MonoNs::ZERO);
    let sent: Vec<u8> = [
        frame(0x89, b"", true),
        frame(0x81, b"one", true),
        frame(0x8a, b"pong", true),
        frame(0x01, b"t", true),
        frame(0x89, b"between", true),
        frame(0x80, b"wo", true),
        frame(0x82, b"binary", true),
    ]
    .concat();
    // Cut anywhere, over and over: something is always whole soon.
    for (second, part) in (0..).zip(sent.repeat(9).chunks(23)) {
        stream.write_all(part).unwrap();
        assert_eq!(echo(&mut server, MonoNs::ZERO.after(Duration::from_secs(second))), None);
    }
    assert_eq!(echo(&mut server, MonoNs::ZERO.after(Duration::from_secs(90))), None);
}

// ---- HTTP by hand ----

/// What the server answers to `sent`, given in slices of `slice` bytes; and whether it then closed.
fn http_answer(sent: &[u8], slice: usize) -> (String, bool) {
    let (net, mut server) = memory_server(ServerConfig { body_bytes_max: 100, ..server_config() });
    let mut stream = raw(&net);
    let mut got = Vec::new();
    for part in sent.chunks(slice) {
        if stream.write_all(part).is_err() {
            break;
        }
        echo(&mut server, MonoNs::ZERO);
        got.extend(read_now(&mut *stream));
    }
    for ms in [0, 400, 600, 700] {
        echo(&mut server, at_ms(ms));
        got.extend(read_now(&mut *stream));
    }
    (String::from_utf8(got).unwrap(), server.connections() == 0)
}

fn http(sent: &str, says: &[&str], closes: bool) {
    for slice in [1, 3, 10_000] {
        let (answer, closed) = http_answer(sent.as_bytes(), slice);
        let mut rest = answer.as_str();
        for part in says {
            let at = rest.find(part).unwrap_or_else(|| panic!("{part:?} in {rest:?} by {slice}"));
            rest = &rest[at + part.len()..];
        }
        assert_eq!(closed, closes, "{answer}");
    }
}

#[test]
fn http_keeps_alive_and_answers_one_by_one() {
    let three = "GET /a?q=1 HTTP/1.1\r\n\r\nPOST /b HTTP/1.1\r\nContent-Length: 2\r\n\r\nhiGET /c HTTP/1.1\r\n\r\n";
    http(
        three,
        &["200 OK", "x-echo: yes", "GET /a q=1", "200 OK", "POST /b  hi", "200 OK", "GET /c"],
        false,
    );
}

#[test]
fn http_reads_chunks() {
    let sent = "PUT /p HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\nGET /n HTTP/1.1\r\n\r\n";
    http(sent, &["PUT /p  abcd", "GET /n"], false);
}

#[test]
fn http_closes_when_asked() {
    http(
        "GET /a HTTP/1.1\r\nConnection: close\r\n\r\n",
        &["200 OK", "connection: close", "GET /a"],
        true,
    );
    http("GET /a HTTP/1.0\r\n\r\n", &["200 OK", "GET /a"], true);
}

#[test]
fn http_head_has_a_length_and_no_body() {
    let (answer, _) = http_answer(b"HEAD /a HTTP/1.1\r\n\r\n", 100);
    assert!(answer.contains("content-length: 9\r\n") && answer.ends_with("\r\n\r\n"), "{answer}");
}

#[test]
fn http_continues_when_expected() {
    let sent = "POST /a HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    http(sent, &["100 Continue"], false);
}

#[test]
fn http_refuses_what_it_cannot_read() {
    http("NONSENSE\r\n\r\n", &["400 "], true);
    http("\u{1}\u{2}\u{3}\r\n", &["400 "], true);
    http("GET no-slash HTTP/1.1\r\n\r\n", &["400 "], true);
    http("GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", &["400 "], true);
    http(
        "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        &["400 "],
        true,
    );
    http("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", &["400 "], true);
}

#[test]
fn http_refuses_what_is_too_large() {
    http("PUT / HTTP/1.1\r\nContent-Length: 101\r\n\r\n", &["413 "], true);
    http("PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n", &["413 "], true);
    let header = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(17_000));
    http(&header, &["431 "], true);
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(65));
    http(&many, &["431 "], true);
}

#[test]
fn http_refuses_upgrades_that_are_none() {
    let upgrade = String::from_utf8(UPGRADE.to_vec()).unwrap();
    http(
        &upgrade.replace("Version: 13", "Version: 8"),
        &["426 ", "sec-websocket-version: 13"],
        true,
    );
    http(&upgrade.replace("dGhlIHNhbXBsZSBub25jZQ==", "short"), &["400 "], true);
    http(&upgrade.replace("keep-alive, Upgrade", "keep-alive"), &["400 "], true);
    http(&upgrade.replace("GET", "POST"), &["400 "], true);
}

#[test]
fn http_deadlines() {
    let (net, mut server) = memory_server(server_config());
    let (mut slow, mut idle) = (raw(&net), raw(&net));
    slow.write_all(b"GET / HT").unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    echo(&mut server, at_ms(0));
    assert!(!read_now(&mut *idle).is_empty());
    echo(&mut server, at_ms(5_000));
    assert!(read_now(&mut *slow).starts_with(b"HTTP/1.1 408 "));
    echo(&mut server, at_ms(5_600));
    assert_eq!(server.connections(), 1);
    // The next request's own deadline begins with its first byte.
    idle.write_all(b"G").unwrap();
    echo(&mut server, at_ms(50_000));
    echo(&mut server, at_ms(54_999));
    assert!(read_now(&mut *idle).is_empty());
    idle.write_all(b"ET / HTTP/1.1\r\n\r\n").unwrap();
    echo(&mut server, at_ms(54_999));
    assert!(!read_now(&mut *idle).is_empty());
    assert!(echo(&mut server, at_ms(115_000)).unwrap().contains("idle"));
}

#[test]
fn answers_to_nobody_are_told_apart() {
    let (net, mut server) = memory_server(server_config());
    let (_client, ws) = opened(&net, &mut server, quiet());
    let response = HttpResponse { status: 200, headers: vec![], body: vec![] };
    assert!(!server.respond(ws, response.clone()) && !server.accept_ws(ws));
    assert!(!server.respond(ConnId(99), response) && !server.send_text(ConnId(99), "x"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn garbage_never_panics_the_server(bytes in proptest::collection::vec(any::<u8>(), 0..400), slice in 1usize..50) {
        for prefix in [&b""[..], b"GET / HTTP/1.1\r\n", b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", UPGRADE] {
            let (net, mut server) = memory_server(server_config());
            let mut stream = raw(&net);
            for part in [prefix, &bytes].concat().chunks(slice) {
                if stream.write_all(part).is_err() {
                    break;
                }
                echo(&mut server, MonoNs::ZERO);
            }
            echo(&mut server, at_ms(100_000));
        }
    }

    #[test]
    fn garbage_never_panics_the_clients(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        for prefix in [&b""[..], b"HTTP/1.1 101 x\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"] {
            let net = MemoryNet::new();
            let mut listener = net.listener(PORT);
            let mut ws = open(&mut *net.dialer(), quiet());
            let mut http = StreamHttp::new(net.dialer(), 1000);
            http.begin(get("http://memory"), Duration::from_secs(1), MonoNs::ZERO);
            for _ in 0..2 {
                let mut stream = listener.accept().unwrap().unwrap();
                stream.write_all(prefix).unwrap();
                stream.write_all(&bytes).unwrap();
            }
            prop_assert!(ws.poll(MonoNs::ZERO).is_err());
            prop_assert!(http.poll(MonoNs::ZERO).is_some());
        }
    }

    #[test]
    fn garbage_frames_never_panic_the_client(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let net = MemoryNet::new();
        let mut listener = net.listener(PORT);
        let mut ws = open(&mut *net.dialer(), quiet());
        ws.poll(MonoNs::ZERO).unwrap();
        let mut stream = listener.accept().unwrap().unwrap();
        let request = String::from_utf8(read_now(&mut *stream)).unwrap();
        let key = request.split("Sec-WebSocket-Key: ").nth(1).unwrap().split("\r\n").next().unwrap();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let head = format!("HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&bytes).unwrap();
        prop_assert_eq!(ws.poll(MonoNs::ZERO).unwrap(), Some(WsEvent::Opened));
        drop(stream);
        while let Ok(event) = ws.poll(MonoNs::ZERO) {
            prop_assert!(event.is_some(), "the stream has ended");
        }
    }
}

// ---- HTTP clients ----

fn get(base_url: &str) -> HttpRequest {
    HttpRequest {
        method: "GET",
        base_url: base_url.to_string(),
        target: "/api/v3/time?signature=secret".to_string(),
        headers: vec![("X-Key".to_string(), "secret".to_string())],
        body: vec![],
    }
}

#[test]
fn the_stepped_client_calls_the_server() {
    let (net, mut server) = memory_server(server_config());
    for slice in [1, 10, 100_000] {
        let dialer = SlicingDialer { net: net.dialer(), slice };
        let mut http = StreamHttp::new(Box::new(dialer), 1000);
        let request =
            HttpRequest { method: "POST", body: b"sent".to_vec(), ..get("http://memory/base/") };
        http.begin(request, Duration::from_secs(1), MonoNs::ZERO);
        let response = (0..ROUNDS).find_map(|_| {
            echo(&mut server, MonoNs::ZERO);
            http.poll(MonoNs::ZERO)
        });
        let response = response.unwrap().unwrap();
        assert_eq!((response.status, response.header("x-echo")), (200, Some("yes")));
        assert_eq!(response.body, b"POST /base/api/v3/time signature=secret sent");
    }
}

/// The stepped client's outcome when the peer answers `bytes` and closes.
fn stepped(method: &'static str, bytes: &[u8]) -> Result<HttpResponse, NetError> {
    let net = MemoryNet::new();
    let mut listener = net.listener(PORT);
    let mut http = StreamHttp::new(net.dialer(), 10);
    http.begin(
        HttpRequest { method, ..get("http://memory") },
        Duration::from_secs(1),
        MonoNs::ZERO,
    );
    let mut stream = listener.accept().unwrap().unwrap();
    stream.write_all(bytes).unwrap();
    drop(stream);
    http.poll(MonoNs::ZERO).unwrap()
}

#[test]
fn the_stepped_client_reads_every_framing() {
    let body = |bytes: &[u8]| stepped("GET", bytes).unwrap().body;
    assert_eq!(body(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokmore"), b"ok");
    assert_eq!(body(b"HTTP/1.1 200 OK\r\n\r\nuntil end"), b"until end");
    assert_eq!(body(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n"), b"");
    assert_eq!(
        body(b"HTTP/1.1 418 T\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        b"ok"
    );
    assert!(stepped("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").is_ok());
}

#[test]
fn the_stepped_client_refuses_the_rest() {
    let error = |bytes: &[u8]| stepped("GET", bytes).unwrap_err();
    assert!(matches!(
        error(b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n"),
        NetError::TooLarge("body", 10)
    ));
    assert!(matches!(
        error(b"HTTP/1.1 200 OK\r\n\r\nmore than ten"),
        NetError::TooLarge("body", 10)
    ));
    assert!(matches!(error(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx"), NetError::Closed(_)));
    assert!(matches!(error(b"HTTP/1.1 200"), NetError::Closed(_)));
    assert!(matches!(error(b"SSH-2.0-x\r\n"), NetError::Protocol(_)));
}

#[test]
fn the_stepped_client_keeps_its_deadline() {
    let net = MemoryNet::new();
    let _listener = net.listener(PORT);
    let mut http = StreamHttp::new(net.dialer(), 10);
    http.begin(get("http://memory"), Duration::from_millis(300), at_ms(1_000));
    assert!(http.poll(at_ms(1_299)).is_none());
    let error = http.poll(at_ms(1_300)).unwrap().unwrap_err();
    assert!(matches!(error, NetError::Deadline(..)));
    assert!(http.poll(at_ms(1_301)).is_none(), "told once");
}

/// A peer that promises an answer as fast as anybody reads.
struct Promising;

impl Read for Promising {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let word = b"HTTP/1.1 100 Continue\r\n\r\n";
        let whole = buf.len() / word.len() * word.len();
        buf[..whole].chunks_exact_mut(word.len()).for_each(|c| c.copy_from_slice(word));
        Ok(whole)
    }
}

impl Write for Promising {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Promising {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
    fn wants(&self) -> Wants {
        Wants::Read
    }
    fn shutdown(&mut self) {}
    fn interrupter(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        None
    }
}

impl Dialer for Promising {
    fn dial(&mut self, _: &Endpoint, _: MonoNs) -> Result<Box<dyn Stream>, NetError> {
        Ok(Box::new(Self))
    }
}

#[test]
fn a_peer_that_never_stops_sending_does_not_hold_the_caller() {
    let mut http = StreamHttp::new(Box::new(Promising), 1000);
    http.begin(get("http://memory"), Duration::from_millis(300), MonoNs::ZERO);
    assert!(http.poll(at_ms(299)).is_none());
    assert!(matches!(http.poll(at_ms(300)), Some(Err(NetError::Deadline(..)))));
}

/// A listener on a system without descriptors.
struct Exhausted(TcpListener, bool);

impl Acceptor for Exhausted {
    fn accept(&mut self) -> Result<Option<Box<dyn Stream>>, NetError> {
        if self.1 {
            return Ok(None);
        }
        self.1 = true;
        Err(NetError::Io("accepting", io::Error::from_raw_os_error(24)))
    }
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        Some(self.0.as_fd())
    }
}

#[test]
fn a_listener_that_cannot_accept_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut server = Server::new(Box::new(Exhausted(listener, false)), server_config());
    let waits = |server: &Server| {
        let mut n = 0;
        server.waits(&mut |_, _| n += 1);
        n
    };
    assert_eq!(waits(&server), 1);
    assert_eq!(server.poll(at_ms(1)), None);
    assert_eq!(waits(&server), 0, "what waits there would wake the caller for ever");
    assert_eq!(server.poll(at_ms(2)), None);
    assert_eq!(waits(&server), 1);
}

// ---- loopback ----

/// Runs a helper on a detached thread; what it waits for ends with the test.
#[expect(clippy::disallowed_methods, reason = "tests have no runtime to own their threads")]
fn spawn(_name: &'static str, run: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    thread::Builder::new().spawn(run).map(drop)
}

fn resolver() -> Resolver {
    Resolver::new(&spawn).unwrap()
}

fn loopback() -> (SocketAddr, SystemAcceptor) {
    let acceptor = SystemAcceptor::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (acceptor.local_addr().unwrap(), acceptor)
}

/// Waits until one of the descriptors is ready, for at most 100 ms.
fn wait_for(server: Option<&Server>, client: Option<(BorrowedFd<'_>, Wants)>) {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    fn flags(writable: bool) -> PollFlags {
        if writable { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
    }
    let mut waits: Vec<(BorrowedFd<'_>, PollFlags)> = Vec::new();
    waits.extend(client.map(|(fd, wants)| (fd, flags(wants == Wants::ReadWrite))));
    let mut fds: Vec<PollFd<'_>> =
        waits.iter().map(|(fd, f)| PollFd::from_borrowed_fd(*fd, *f)).collect();
    // Descriptors of the server are copied: its callback lends them only for the call.
    let mut owned = Vec::new();
    if let Some(server) = server {
        server.waits(&mut |fd, interest| {
            let writable = interest != Interest::Read;
            owned.push((fd.try_clone_to_owned().unwrap(), flags(writable)))
        });
    }
    fds.extend(owned.iter().map(|(fd, f)| PollFd::new(fd, *f)));
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 100_000_000 })).unwrap();
}

fn live_event(client: &mut WsClient, server: &mut Server) -> Result<WsEvent, NetError> {
    for _ in 0..ROUNDS {
        let now = Clock::System.now();
        echo(server, now);
        if let Some(event) = client.poll(now)? {
            return Ok(event);
        }
        wait_for(Some(server), client.fd().map(|fd| (fd, client.wants())));
    }
    panic!("no event");
}

#[test]
fn loopback_echo_by_name_and_interrupt() {
    let (address, acceptor) = loopback();
    let mut server = Server::new(Box::new(acceptor), server_config());
    let mut dialer = SystemDialer::new(resolver(), Tls::new(None).unwrap());
    let url = WsUrl::parse(&format!("ws://localhost:{}", address.port())).unwrap();
    let mut client =
        WsClient::open(&mut dialer, &url, "/ws", quiet(), Clock::System.now()).unwrap();
    assert_eq!(live_event(&mut client, &mut server).unwrap(), WsEvent::Opened);
    assert!(server.peer(ConnId(1)).is_some_and(|address| address.is_loopback()));
    let text = "x".repeat(200_000);
    client.send_text(text.as_bytes(), Clock::System.now()).unwrap();
    assert!(
        matches!(live_event(&mut client, &mut server).unwrap(), WsEvent::Text(t) if t.as_str() == text)
    );
    let interrupt = client.interrupter().unwrap();
    thread::scope(|scope| {
        scope.spawn(interrupt);
        // Readable without a word from the server: the interrupt did it.
        let ended = (0..100).find_map(|_| {
            wait_for(None, client.fd().map(|fd| (fd, Wants::Read)));
            client.poll(Clock::System.now()).err()
        });
        assert!(matches!(ended, Some(NetError::Closed(_))), "{ended:?}");
    });
}

#[test]
fn a_port_that_nobody_listens_on_refuses() {
    let (address, acceptor) = loopback();
    drop(acceptor);
    let mut dialer = SystemDialer::new(resolver(), Tls::new(None).unwrap());
    let url = WsUrl::parse(&format!("ws://{address}")).unwrap();
    let mut client = WsClient::open(&mut dialer, &url, "/", quiet(), MonoNs::ZERO).unwrap();
    let error = (0..ROUNDS).find_map(|_| {
        wait_for(None, client.fd().map(|fd| (fd, client.wants())));
        client.poll(MonoNs::ZERO).err()
    });
    let refused = |e: &NetError| matches!(e, NetError::Io(_, e) if e.kind() == io::ErrorKind::ConnectionRefused);
    assert!(error.as_ref().is_some_and(refused), "{error:?}");
}

#[test]
fn a_port_can_be_bound_again_at_once() {
    let (address, acceptor) = loopback();
    let mut server = Server::new(Box::new(acceptor), server_config());
    let mut client =
        StreamHttp::new(Box::new(SystemDialer::new(resolver(), Tls::new(None).unwrap())), 1000);
    client.begin(get(&format!("http://{address}")), Duration::from_secs(10), Clock::System.now());
    let response = (0..ROUNDS).find_map(|_| {
        let now = Clock::System.now();
        echo(&mut server, now);
        let outcome = client.poll(now);
        if outcome.is_none() {
            wait_for(Some(&server), client.fd().map(|fd| (fd, client.wants())));
        }
        outcome
    });
    assert_eq!(response.unwrap().unwrap().status, 200);
    drop(server);
    assert!(SystemAcceptor::bind(address).is_ok());
}

/// Serves `calls` requests on loopback while `run` blocks with the address.
fn with_server<T: Send>(run: impl FnOnce(SocketAddr) -> T + Send) -> T {
    let (address, acceptor) = loopback();
    let mut server =
        Server::new(Box::new(acceptor), ServerConfig { body_bytes_max: 100, ..server_config() });
    thread::scope(|scope| {
        let running = scope.spawn(move || run(address));
        while !running.is_finished() {
            echo(&mut server, Clock::System.now());
            wait_for(Some(&server), None);
        }
        running.join().unwrap()
    })
}

#[test]
fn the_blocking_client_calls_the_server() {
    with_server(|address| {
        let mut http = UreqClient::new(&Tls::new(None).unwrap(), resolver(), 100).unwrap();
        assert!(http.blocks());
        let base = format!("http://localhost:{}", address.port());
        let mut call = |method, body: &[u8]| {
            let request = HttpRequest { method, body: body.to_vec(), ..get(&base) };
            http.begin(request, Duration::from_secs(10), Clock::System.now());
            http.poll(MonoNs::ZERO).unwrap()
        };
        assert_eq!(call("GET", b"").unwrap().body, b"GET /api/v3/time signature=secret ");
        let post = call("POST", b"sent").unwrap();
        assert_eq!((post.status, post.header("x-echo")), (200, Some("yes")));
        assert_eq!(post.body, b"POST /api/v3/time signature=secret sent");
        assert_eq!(call("DELETE", b"").unwrap().status, 200);
        assert_eq!(call("POST", &[b'x'; 101]).unwrap().status, 413);
        assert!(matches!(call("POST", &[b'x'; 100]), Err(NetError::TooLarge("body", 100))));
    });
}

#[test]
fn the_blocking_client_keeps_its_timeout_and_hides_secrets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let mut http = UreqClient::new(&Tls::new(None).unwrap(), resolver(), 100).unwrap();
    http.begin(get(&base), Duration::from_millis(50), MonoNs::ZERO);
    let error = http.poll(MonoNs::ZERO).unwrap().unwrap_err();
    assert!(matches!(error, NetError::Deadline(..)), "{error:?}");
    assert!(!format!("{error:?} {error} {:?}", get(&base)).contains("secret"));
}

#[test]
fn the_blocking_client_is_interrupted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let mut http = UreqClient::new(&Tls::new(None).unwrap(), resolver(), 100).unwrap();
    let interrupt = http.interrupter();
    thread::scope(|scope| {
        scope.spawn(move || {
            // The request has arrived: the client waits for an answer.
            let (mut socket, _) = listener.accept().unwrap();
            socket.read_exact(&mut [0; 16]).unwrap();
            interrupt();
        });
        http.begin(get(&base), Duration::from_secs(60), MonoNs::ZERO);
        assert!(!matches!(
            http.poll(MonoNs::ZERO),
            Some(Err(NetError::Deadline(..)) | Ok(_)) | None
        ));
    });
}

// ---- TLS ----

/// A certificate authority of the test's own: its PEM, and a server configuration for `name`.
fn authority(name: &str) -> (String, Arc<rustls::ServerConfig>) {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = rcgen::Issuer::new(params, ca_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec![name.to_string()])
        .unwrap()
        .signed_by(&key, &issuer)
        .unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(
        rustls::crypto::ring::default_provider(),
    ))
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(vec![leaf.der().clone()], key)
    .unwrap();
    (ca.pem(), Arc::new(config))
}

/// Answers one HTTPS request, or gives up when the client does.
fn serve_tls(listener: &TcpListener, config: &Arc<rustls::ServerConfig>) -> io::Result<()> {
    let (socket, _) = listener.accept()?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let session = rustls::ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut tls = rustls::StreamOwned::new(session, socket);
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tls.read_exact(&mut byte)?;
        request.push(byte[0]);
    }
    tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
    tls.flush()
}

fn https(client: &mut dyn HttpClient, base: &str) -> Result<HttpResponse, NetError> {
    client.begin(get(base), Duration::from_secs(10), Clock::System.now());
    loop {
        // The stepped client has no descriptor to show through the trait; its own deadline ends the loop.
        if let Some(outcome) = client.poll(Clock::System.now()) {
            return outcome;
        }
        thread::yield_now();
    }
}

/// Both clients' outcomes against a server with a certificate for `name`, when they trust it or do not.
fn tls_outcomes(name: &str, trusted: bool) -> [Result<HttpResponse, NetError>; 2] {
    let (ca, config) = authority(name);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let tls = Tls::new(trusted.then_some(ca.as_bytes())).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2 {
                // Refused handshakes are errors here as well; the clients' outcomes are what counts.
                let _outcome = serve_tls(&listener, &config);
            }
        });
        let mut stepped =
            StreamHttp::new(Box::new(SystemDialer::new(resolver(), tls.clone())), 100);
        let mut blocking = UreqClient::new(&tls, resolver(), 100).unwrap();
        [https(&mut stepped, &base), https(&mut blocking, &base)]
    })
}

#[test]
fn tls_to_the_right_name() {
    for outcome in tls_outcomes("localhost", true) {
        assert_eq!(outcome.unwrap().body, b"ok");
    }
}

#[test]
fn tls_to_another_name_is_refused() {
    for outcome in tls_outcomes("other.test", true) {
        assert!(matches!(outcome, Err(NetError::Tls(_))), "{outcome:?}");
    }
}

#[test]
fn tls_from_an_unknown_authority_is_refused() {
    for outcome in tls_outcomes("localhost", false) {
        assert!(matches!(outcome, Err(NetError::Tls(_))), "{outcome:?}");
    }
}

#[test]
fn a_ca_file_without_certificates_is_refused() {
    assert!(matches!(Tls::new(Some(b"nothing")), Err(NetError::Tls(_))));
}

// ---- names ----

#[test]
fn a_lookup_that_does_not_answer_is_a_deadline() {
    let (end, ended) = crossbeam_channel::bounded::<()>(0);
    let look_up = move |_: &str| {
        let _disconnected = ended.recv_timeout(Duration::from_secs(60));
        Err(io::ErrorKind::TimedOut.into())
    };
    let resolver = Resolver::with_lookup(&spawn, Box::new(look_up)).unwrap();
    let lookup = resolver.lookup("slow.test", MonoNs::ZERO).unwrap();
    assert!(matches!(
        lookup.wait(Duration::from_millis(1)),
        Err(NetError::Deadline("resolving", _))
    ));
    // The stepped way: the name's time is part of the connection's.
    let mut dialer = SystemDialer::new(resolver.clone(), Tls::new(None).unwrap());
    let url = WsUrl::parse("ws://slow.test").unwrap();
    let mut client = WsClient::open(&mut dialer, &url, "/", quiet(), MonoNs::ZERO).unwrap();
    assert_eq!(
        (client.poll(at_ms(10)).unwrap(), client.wants(), client.fd().is_none()),
        (None, Wants::Time, true)
    );
    assert!(matches!(client.poll(at_ms(5_000)), Err(NetError::Deadline("connecting", _))));
    // And the queue behind it has an end.
    let refused = (0..100).find_map(|i| resolver.lookup(&format!("{i}.test"), MonoNs::ZERO).err());
    assert!(matches!(refused, Some(NetError::Resolve(_))));
    drop(end);
}

#[test]
fn answers_are_cached_for_a_minute_and_sorted() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let look_up = move |host: &str| {
        count.fetch_add(1, Ordering::SeqCst);
        if host == "no.test" {
            Ok(vec![])
        } else {
            Ok(vec!["::2".parse().unwrap(), "1.2.3.4".parse().unwrap()])
        }
    };
    let resolver = Resolver::with_lookup(&spawn, Box::new(look_up)).unwrap();
    let limit = Duration::from_secs(10);
    let look = |host: &str, ms| resolver.lookup(host, at_ms(ms)).unwrap();
    let found = look("a.test", 0).wait(limit).unwrap();
    assert_eq!(found, ["1.2.3.4".parse::<std::net::IpAddr>().unwrap(), "::2".parse().unwrap()]);
    assert!(matches!(look("a.test", 59_999), Lookup::Ready(_)));
    assert!(matches!(look("a.test", 60_000), Lookup::Waiting { .. }));
    assert!(matches!(look("10.0.0.1", 0), Lookup::Ready(_)));
    assert!(matches!(look("LocalHost", 0), Lookup::Ready(_)));
    assert!(matches!(look("no.test", 0).wait(limit), Err(NetError::Resolve(_))));
    assert!(asked.load(Ordering::SeqCst) >= 2);
}

#[test]
fn the_helper_ends_with_the_last_resolver() {
    let (told, ended) = crossbeam_channel::bounded::<()>(0);
    let spawn_telling = |name: &'static str, run: Box<dyn FnOnce() + Send>| {
        let told = told.clone();
        spawn(
            name,
            Box::new(move || {
                run();
                drop(told);
            }),
        )
    };
    let resolver = Resolver::new(&spawn_telling).unwrap();
    drop((resolver, told));
    let outcome = ended.recv_timeout(Duration::from_secs(10));
    assert_eq!(outcome, Err(crossbeam_channel::RecvTimeoutError::Disconnected));
}
