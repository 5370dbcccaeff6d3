//! HTTP clients: one that blocks and one that never does.
//!
//! In: requests with a timeout. Out: status, headers and body, whatever the status is. Always: redirects are not
//! followed (a redirected order is a wrong order), no proxy is taken from the environment, head and body have
//! caps, every call ends by its timeout, and errors never show a query or a header's value.

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver as UreqResolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use super::http1::{self, Body, Headers};
use super::resolve::Resolver;
use super::stream::Tls;
use super::url::HttpUrl;
use super::wire::{Wire, is_no_data, net_error};
use super::{Dialer, HttpClient, HttpRequest, HttpResponse, NetError, Wants};
use crate::clock::MonoNs;

/// All headers of an answer together.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A request with its body, as it waits to be written.
const REQUEST_BYTES_MAX: usize = 1024 * 1024;
/// Read at a time.
const READ_BYTES: usize = 16 * 1024;
/// Reads of one poll: more than any answer of ours has, and an end for a peer that sends faster than we read.
const READS_PER_POLL: usize = 1_024;
/// Who we say we are.
const USER_AGENT: &str = concat!("pindrop/", env!("CARGO_PKG_VERSION"));
/// Part of a call's timeout that name, connection and TLS may take together.
const CONNECT_SHARE: u32 = 2;
/// ureq's own limit of addresses per name.
const UREQ_ADDRESSES_MAX: usize = 16;

/// The blocking client, on ureq, for threads that may wait. Keeps its connections.
pub struct UreqClient {
    agent: ureq::Agent,
    body_bytes_max: usize,
    now_ns: Arc<AtomicU64>,
    outcome: Option<Result<HttpResponse, NetError>>,
}

impl UreqClient {
    /// A client with connections of its own. Where `tls` trusts extra certificates, this client trusts only those.
    ///
    /// # Errors
    /// Extra certificates that ureq cannot read.
    pub fn new(tls: &Tls, resolver: Resolver, body_bytes_max: usize) -> Result<Self, NetError> {
        let now_ns = Arc::new(AtomicU64::new(0));
        let roots = match tls.extra_ca_pem() {
            Some(pem) => RootCerts::new_with_certs(&ureq_certificates(pem)?),
            None => RootCerts::WebPki,
        };
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(tls.provider())
            .root_certs(roots)
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_response_header_size(HEAD_BYTES_MAX)
            .max_idle_connections_per_host(2)
            .max_idle_age(Duration::from_secs(10))
            .user_agent(USER_AGENT)
            .build();
        let names = Names { resolver, now_ns: Arc::clone(&now_ns) };
        let agent = ureq::Agent::with_parts(config, DefaultConnector::new(), names);
        Ok(Self { agent, body_bytes_max, now_ns, outcome: None })
    }

    /// A handle that ends a call under way, from another thread. The client is of no use afterwards.
    pub fn interrupter(&self) -> Box<dyn Fn() + Send + Sync> {
        let agent = self.agent.clone();
        Box::new(move || agent.clone().shutdown())
    }

    fn call(&self, request: HttpRequest, timeout: Duration) -> Result<HttpResponse, NetError> {
        let url = HttpUrl::parse(&request.base_url)?;
        let scheme = if url.endpoint().tls { "https" } else { "http" };
        let uri = format!("{scheme}://{}{}", url.host_header(), url.path(&request.target));
        let mut head = ureq::http::Request::builder().method(request.method).uri(uri);
        for (name, value) in &request.headers {
            head = head.header(name, value);
        }
        // http's errors do not show what they refuse.
        let bad = |e: ureq::http::Error| NetError::Protocol(format!("request cannot be sent: {e}"));
        let sent = if request.body.is_empty() {
            self.run(head.body(()).map_err(bad)?, timeout)
        } else {
            self.run(head.body(request.body).map_err(bad)?, timeout)
        };
        sent.map_err(|e| ureq_error(e, timeout, self.body_bytes_max))
    }

    fn run<B: ureq::AsSendBody>(
        &self,
        request: ureq::http::Request<B>,
        timeout: Duration,
    ) -> Result<HttpResponse, ureq::Error> {
        let request = self
            .agent
            .configure_request(request)
            .timeout_global(Some(timeout))
            .timeout_connect(Some(timeout / CONNECT_SHARE))
            .build();
        let mut response = self.agent.run(request)?;
        let text = |v: &ureq::http::HeaderValue| String::from_utf8_lossy(v.as_bytes()).into_owned();
        let headers = response.headers().iter().map(|(n, v)| (n.as_str().to_string(), text(v)));
        let headers = headers.collect();
        let limit = u64::try_from(self.body_bytes_max).unwrap_or(u64::MAX);
        let body = response.body_mut().with_config().limit(limit).read_to_vec()?;
        Ok(HttpResponse { status: response.status().as_u16(), headers, body })
    }
}

impl HttpClient for UreqClient {
    fn begin(&mut self, request: HttpRequest, timeout: Duration, now: MonoNs) {
        self.now_ns.store(now.as_nanos(), Ordering::Relaxed);
        self.outcome = Some(self.call(request, timeout));
    }

    fn poll(&mut self, _now: MonoNs) -> Option<Result<HttpResponse, NetError>> {
        self.outcome.take()
    }

    fn blocks(&self) -> bool {
        true
    }
}

/// Our resolver under ureq, whose own would start a thread per lookup.
struct Names {
    resolver: Resolver,
    now_ns: Arc<AtomicU64>,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Names")
    }
}

impl UreqResolver for Names {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        _config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let host = uri.host().ok_or(ureq::Error::HostNotFound)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let default_port = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(default_port);
        let now = MonoNs::from_nanos(self.now_ns.load(Ordering::Relaxed));
        let wrap = |e: NetError| ureq::Error::Io(std::io::Error::other(e));
        let lookup = self.resolver.lookup(host, now).map_err(wrap)?;
        let addresses = lookup.wait(*timeout.after).map_err(wrap)?;
        let mut found = self.empty();
        for address in addresses.into_iter().take(UREQ_ADDRESSES_MAX) {
            found.push((address, port).into());
        }
        Ok(found)
    }
}

fn ureq_certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, NetError> {
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| NetError::Tls(e.to_string()))? {
            certificates.push(certificate);
        }
    }
    Ok(certificates)
}

/// ureq's error in our words; those that would show the address with its query do not.
fn ureq_error(e: ureq::Error, timeout: Duration, body_bytes_max: usize) -> NetError {
    match e {
        ureq::Error::Timeout(_) => NetError::Deadline("http call", timeout),
        ureq::Error::Io(e) => net_error("http call", e),
        ureq::Error::Rustls(e) => NetError::Tls(e.to_string()),
        ureq::Error::Tls(why) => NetError::Tls(why.to_string()),
        ureq::Error::HostNotFound => NetError::Resolve("the http server's name".to_string()),
        ureq::Error::BodyExceedsLimit(_) => NetError::TooLarge("body", body_bytes_max),
        ureq::Error::LargeResponseHeader(_, cap) => NetError::TooLarge("head", cap),
        ureq::Error::ConnectionFailed => NetError::Closed("http connection failed".to_string()),
        ureq::Error::BadUri(_) => NetError::BadAddress("http target".to_string()),
        other => NetError::Protocol(other.to_string()),
    }
}

/// The stepped client: one call at a time over a stream from a dialer, never blocking, each on a connection of
/// its own. For the stepper, and for cancelling when nothing may wait.
pub struct StreamHttp {
    dialer: Box<dyn Dialer>,
    body_bytes_max: usize,
    call: Option<Call>,
    outcome: Option<Result<HttpResponse, NetError>>,
}

/// A call under way.
struct Call {
    wire: Wire,
    input: Vec<u8>,
    answer: Option<Answer>,
    is_head: bool,
    began: MonoNs,
    timeout: Duration,
}

/// An answer whose head is complete.
struct Answer {
    status: u16,
    headers: Headers,
    body: Body,
}

impl StreamHttp {
    /// A client on `dialer`'s streams; answers may have bodies of `body_bytes_max` bytes.
    pub fn new(dialer: Box<dyn Dialer>, body_bytes_max: usize) -> Self {
        Self { dialer, body_bytes_max, call: None, outcome: None }
    }

    /// The descriptor to poll while a call is under way, once there is one.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.call.as_ref()?.wire.stream().fd()
    }

    /// What to poll it for.
    pub fn wants(&self) -> Wants {
        self.call.as_ref().map_or(Wants::Time, |call| call.wire.wants())
    }

    fn dial(
        &mut self,
        request: &HttpRequest,
        timeout: Duration,
        now: MonoNs,
    ) -> Result<Call, NetError> {
        let url = HttpUrl::parse(&request.base_url)?;
        let bytes = request_bytes(&url, request)?;
        let mut wire = Wire::new(self.dialer.dial(url.endpoint(), now)?, REQUEST_BYTES_MAX);
        wire.append(&bytes)?;
        let is_head = request.method == "HEAD";
        Ok(Call { wire, input: Vec::new(), answer: None, is_head, began: now, timeout })
    }
}

impl HttpClient for StreamHttp {
    fn begin(&mut self, request: HttpRequest, timeout: Duration, now: MonoNs) {
        self.outcome = None;
        self.call = match self.dial(&request, timeout, now) {
            Ok(call) => Some(call),
            Err(e) => {
                self.outcome = Some(Err(e));
                None
            }
        };
    }

    fn poll(&mut self, now: MonoNs) -> Option<Result<HttpResponse, NetError>> {
        if let Some(call) = &mut self.call {
            let outcome = call.step(self.body_bytes_max).transpose().or_else(|| {
                let late = now.since(call.began) >= call.timeout;
                late.then_some(Err(NetError::Deadline("http call", call.timeout)))
            });
            if outcome.is_some() {
                call.wire.shutdown();
                self.call = None;
                return outcome;
            }
        }
        self.outcome.take()
    }

    fn blocks(&self) -> bool {
        false
    }
}

impl Call {
    /// Writes and reads on; the answer, once it is complete.
    fn step(&mut self, body_bytes_max: usize) -> Result<Option<HttpResponse>, NetError> {
        let mut chunk = [0; READ_BYTES];
        for _ in 0..READS_PER_POLL {
            match self.wire.read(&mut chunk) {
                Ok(0) => return self.end().map(Some),
                Ok(n) => self.input.extend_from_slice(&chunk[..n]),
                Err(e) if is_no_data(&e) => return Ok(None),
                Err(e) => return Err(net_error("http call", e)),
            }
            if let Some(response) = self.digest(body_bytes_max)? {
                return Ok(Some(response));
            }
        }
        Ok(None)
    }

    fn digest(&mut self, body_bytes_max: usize) -> Result<Option<HttpResponse>, NetError> {
        while self.answer.is_none() {
            let Some((head_bytes, status, headers)) = parse_answer(&self.input)? else {
                if self.input.len() > HEAD_BYTES_MAX {
                    return Err(NetError::TooLarge("head", HEAD_BYTES_MAX));
                }
                return Ok(None);
            };
            self.input.drain(..head_bytes);
            match status {
                101 => return Err(NetError::Protocol("upgraded without being asked".to_string())),
                // Word that the answer is on its way.
                100..=199 => continue,
                _ => {}
            }
            let body = if self.is_head || matches!(status, 204 | 304) {
                Body::none()
            } else {
                Body::new(http1::framing(&headers)?, body_bytes_max)?
            };
            self.answer = Some(Answer { status, headers, body });
        }
        let Some(answer) = &mut self.answer else { return Ok(None) };
        let used = answer.body.feed(&self.input)?;
        self.input.drain(..used);
        if !answer.body.is_done() {
            return Ok(None);
        }
        Ok(self.answer.take().map(Answer::into_response))
    }

    /// The stream has ended: complete for a body of no known length, else cut short.
    fn end(&mut self) -> Result<HttpResponse, NetError> {
        match self.answer.take() {
            Some(answer) if answer.body.ends_at_eof() => Ok(answer.into_response()),
            Some(_) => Err(NetError::Closed("in the middle of a body".to_string())),
            None => Err(NetError::Closed("before an answer".to_string())),
        }
    }
}

impl Answer {
    fn into_response(self) -> HttpResponse {
        HttpResponse { status: self.status, headers: self.headers, body: self.body.into_bytes() }
    }
}

fn request_bytes(url: &HttpUrl, request: &HttpRequest) -> Result<Vec<u8>, NetError> {
    let path = url.path(&request.target);
    if !path.bytes().all(|b| b.is_ascii_graphic()) {
        let shown = path.split('?').next().unwrap_or_default();
        return Err(NetError::BadAddress(format!("{shown:?} (bad path or query)")));
    }
    let method = request.method;
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    http1::push_header(&mut head, "Host", url.host_header())?;
    http1::push_header(&mut head, "User-Agent", USER_AGENT)?;
    http1::push_header(&mut head, "Accept", "*/*")?;
    http1::push_header(&mut head, "Connection", "close")?;
    for (name, value) in &request.headers {
        http1::push_header(&mut head, name, value)?;
    }
    if !request.body.is_empty() || matches!(method, "POST" | "PUT" | "PATCH") {
        http1::push_header(&mut head, "Content-Length", &request.body.len().to_string())?;
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&request.body);
    Ok(bytes)
}

/// The head at the front of `input`, if complete: its length, status and headers.
fn parse_answer(input: &[u8]) -> Result<Option<(usize, u16, Headers)>, NetError> {
    let mut headers = [httparse::EMPTY_HEADER; http1::HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut headers);
    match parsed.parse(input) {
        Ok(httparse::Status::Complete(n)) => {
            let headers = http1::own_headers(parsed.headers)?;
            Ok(Some((n, parsed.code.unwrap_or_default(), headers)))
        }
        Ok(httparse::Status::Partial) => Ok(None),
        Err(e) => Err(NetError::Protocol(format!("http answer: {e}"))),
    }
}
