//! The ops actor: requests in over loopback HTTP, pages and JSON out; and `status.json` each second.
//!
//! What always holds: only `GET` is answered with content; nothing a request says changes the engine; a request whose
//! `Host` is not this listener's is refused, because a browser can be led to a loopback address by name (DNS
//! rebinding). However many ask, the status is built at most ten times per second.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::MonoNs;
use crate::net::server::{ConnId, Interest, Server, ServerConfig, ServerEvent, ServerRequest};
use crate::net::{Acceptor, HttpResponse};
use crate::runtime::actor::{Actor, Cx, Fault, Stop, Waits, Work};

use super::health::Health;
use super::metrics;
use super::page;
use super::report::replace_file;
use super::sources::StatusSources;
use super::status::{Status, StatusBuilder};

/// How long one status is good for, and how often hearts are looked at.
const BUILD_PERIOD: Duration = Duration::from_millis(100);

/// How often `status.json` is written.
const FILE_PERIOD: Duration = Duration::from_secs(1);

/// A disk that needs longer for `status.json` is judged as stalled.
const FILE_LIMIT: Duration = Duration::from_secs(5);

/// Events of the server handled in one turn.
const EVENTS_PER_TURN_MAX: usize = 32;

/// Where and to whom the ops page is shown.
#[derive(Clone, Debug, Default)]
pub struct OpsSettings {
    /// Names and addresses allowed in `Host` besides the loopback ones: the listen address, a name in front of it.
    pub hosts: Vec<String>,
    /// Where to write `status.json`; `None` for nowhere.
    pub status_file: Option<PathBuf>,
}

/// What is answered for a while.
struct Built {
    at: MonoNs,
    status: Status,
    health: Health,
}

/// The actor.
pub struct OpsServer {
    settings: OpsSettings,
    builder: StatusBuilder,
    server: Server,
    policy: String,
    built: Option<Built>,
    sample_at: MonoNs,
    write_at: MonoNs,
    /// Whether the last write of `status.json` failed: said once, not every second.
    file_failed: bool,
}

impl OpsServer {
    /// An ops actor that answers what `acceptor` accepts.
    pub fn new(
        settings: OpsSettings,
        sources: Arc<StatusSources>,
        acceptor: Box<dyn Acceptor>,
    ) -> Self {
        Self {
            settings,
            builder: StatusBuilder::new(sources),
            server: Server::new(acceptor, server_config()),
            policy: page::content_security_policy(),
            built: None,
            sample_at: MonoNs::ZERO,
            write_at: MonoNs::ZERO,
            file_failed: false,
        }
    }

    fn built(&mut self, now: MonoNs) -> &Built {
        let fresh = |built: &Built| now.since(built.at) < BUILD_PERIOD;
        let kept = self.built.take().filter(fresh);
        self.built.insert(kept.unwrap_or_else(|| {
            let (status, health) = self.builder.build(now);
            Built { at: now, status, health }
        }))
    }

    fn on_event(&mut self, event: ServerEvent, now: MonoNs) {
        match event {
            ServerEvent::Request { conn, request } => {
                let response = self.answer(&request, now);
                self.server.respond(conn, response);
            }
            ServerEvent::Upgrade { conn, .. } => self.refuse_upgrade(conn),
            ServerEvent::Message { conn, .. }
            | ServerEvent::Binary { conn }
            | ServerEvent::Control { conn } => {
                // No upgrade is accepted, so nobody can speak.
                self.server.drop_conn(conn);
            }
            ServerEvent::Closed { .. } => {}
        }
    }

    fn refuse_upgrade(&mut self, conn: ConnId) {
        self.server.respond(conn, error(404, "there is no WebSocket here"));
    }

    fn answer(&mut self, request: &ServerRequest, now: MonoNs) -> HttpResponse {
        if let Err(why) = check_host(request, &self.settings.hosts) {
            return error(403, why);
        }
        if request.method != "GET" {
            let mut response = error(405, "only GET is answered");
            response.headers.push(("allow".to_owned(), "GET".to_owned()));
            return response;
        }
        match request.path.as_str() {
            "/" => self.dashboard(),
            "/health" => {
                let health = &self.built(now).health;
                json(health.http_status(), health)
            }
            "/status" => json(200, &self.built(now).status),
            "/metrics" => {
                let built = self.built(now);
                let text = metrics::render(&built.status, &built.health);
                response(200, metrics::CONTENT_TYPE, text.into_bytes())
            }
            "/favicon.ico" | "/favicon" => response(204, "image/x-icon", Vec::new()),
            _ => error(404, "unknown path; there are / /health /status /metrics"),
        }
    }

    fn dashboard(&self) -> HttpResponse {
        let mut response = response(200, "text/html; charset=utf-8", page::HTML.into());
        response.headers.push(("content-security-policy".to_owned(), self.policy.clone()));
        response
    }

    /// Writes `status.json` when it is due; whether it was.
    fn write_file(&mut self, cx: &mut Cx) -> bool {
        if cx.now < self.write_at {
            return false;
        }
        let Some(path) = self.settings.status_file.clone() else { return false };
        self.write_at = cx.now.after(FILE_PERIOD);
        let text = to_json(&self.built(cx.now).status);
        let done = cx.blocking("status.json", FILE_LIMIT, || replace_file(&path, &text));
        match done {
            Ok(()) => self.file_failed = false,
            Err(e) if !self.file_failed => {
                self.file_failed = true;
                log::warn!(target: "ops", "event=status.write_failed path={path:?} msg={:?}", e.to_string());
            }
            Err(_) => {}
        }
        true
    }
}

impl Actor for OpsServer {
    fn turn(&mut self, cx: &mut Cx) -> Result<Work, Fault> {
        if cx.now >= self.sample_at {
            self.sample_at = cx.now.after(BUILD_PERIOD);
            self.builder.sample(cx.now);
        }
        let wrote = self.write_file(cx);
        let mut answered = false;
        for _ in 0..EVENTS_PER_TURN_MAX {
            let Some(event) = self.server.poll(cx.now) else { break };
            self.on_event(event, cx.now);
            answered = true;
        }
        self.server.flush();
        Ok(Work::when(wrote || answered))
    }

    fn waits(&self, waits: &mut Waits) {
        self.server.waits(&mut |fd, interest| match interest {
            Interest::Read => waits.readable(fd),
            Interest::Write => waits.room(fd),
            Interest::Both => waits.writable(fd),
        });
        waits.until(self.sample_at);
        if self.settings.status_file.is_some() {
            waits.until(self.write_at);
        }
    }

    fn on_stop(&mut self, cx: &mut Cx, _stop: Stop) {
        self.write_at = MonoNs::ZERO;
        self.built = None;
        self.write_file(cx);
    }
}

/// A page for few people: small requests, few connections.
fn server_config() -> ServerConfig {
    ServerConfig {
        conns_max: 64,
        head_bytes_max: 8 * 1024,
        body_bytes_max: 1024,
        message_bytes_max: 1024,
        head_deadline: Duration::from_secs(2),
        idle_deadline: Duration::from_secs(30),
        ..ServerConfig::default()
    }
}

/// Whether the request was meant for this listener. Browsers name the origin of a page that asks in `Origin`; where it
/// is there it must be ours too.
fn check_host(request: &ServerRequest, hosts: &[String]) -> Result<(), &'static str> {
    let host = request.header("host").ok_or("a Host header is needed")?;
    if !is_allowed(host, hosts) {
        return Err("this Host is not served here");
    }
    match request.header("origin") {
        None => Ok(()),
        Some(origin) => {
            let authority = origin.split_once("://").map_or(origin, |(_, rest)| rest);
            is_allowed(authority, hosts).then_some(()).ok_or("this Origin is not served here")
        }
    }
}

/// Whether `authority`, a host with or without a port, is a loopback one or among `hosts`.
fn is_allowed(authority: &str, hosts: &[String]) -> bool {
    let host = host_of(authority);
    let loopback = host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    loopback
        || host.eq_ignore_ascii_case("localhost")
        || hosts.iter().any(|allowed| host_of(allowed).eq_ignore_ascii_case(host))
}

/// The host of `host`, `host:port`, `[v6]`, `[v6]:port` or a bare v6 address.
fn host_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(rest, |(host, _)| host);
    }
    match authority.split_once(':') {
        // Two colons: a bare v6 address.
        Some((_, rest)) if rest.contains(':') => authority,
        Some((host, _)) => host,
        None => authority,
    }
}

fn json(status: u16, value: &impl serde::Serialize) -> HttpResponse {
    response(status, "application/json", to_json(value))
}

fn to_json(value: &impl serde::Serialize) -> Vec<u8> {
    let mut text = serde_json::to_vec(value).expect("the status is plain data with text keys");
    text.push(b'\n');
    text
}

fn error(status: u16, why: &str) -> HttpResponse {
    json(status, &serde_json::json!({ "error": why }))
}

fn response(status: u16, content_type: &str, body: Vec<u8>) -> HttpResponse {
    let headers = [
        ("content-type", content_type),
        ("cache-control", "no-store"),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    HttpResponse { status, headers, body }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(authority: &str, hosts: &[&str], expect: bool) {
        let hosts: Vec<_> = hosts.iter().map(|h| (*h).to_owned()).collect();
        assert_eq!(is_allowed(authority, &hosts), expect, "{authority}");
    }

    #[test]
    fn loopback_names_are_allowed() {
        for authority in
            ["localhost", "LOCALHOST:9100", "127.0.0.1:1", "127.9.9.9", "[::1]:80", "::1"]
        {
            check(authority, &[], true);
        }
    }

    #[test]
    fn other_names_are_not() {
        for authority in
            ["", "evil.example", "127.0.0.1.evil.example", "localhost.evil:80", "10.0.0.1", "[::2]"]
        {
            check(authority, &[], false);
        }
    }

    #[test]
    fn the_listen_address_is_allowed() {
        check("10.0.0.5:9100", &["10.0.0.5:9100"], true);
        check("10.0.0.6:9100", &["10.0.0.5:9100"], false);
        check("engine.lan", &["engine.lan"], true);
    }
}
