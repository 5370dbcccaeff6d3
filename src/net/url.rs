//! Base URLs from the configuration, taken apart once, before anything connects.
//!
//! In: the text a person wrote. Out: where to connect, the `Host` header and the path in front of every target.
//! Always: an error names the input without its query, which could carry a secret; user names and fragments are
//! refused.

use super::{Endpoint, NetError};

/// The parts of a base URL.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Base {
    endpoint: Endpoint,
    host_header: String,
    prefix: String,
}

/// A `ws://` or `wss://` base URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WsUrl(Base);

/// An `http://` or `https://` base URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpUrl(Base);

macro_rules! base_url {
    ($name:ident, $plain:literal, $tls:literal) => {
        impl $name {
            #[doc = concat!("Takes a `", $plain, "://` or `", $tls, "://` URL apart.")]
            ///
            /// # Errors
            /// [`NetError::BadAddress`] with the input less its query.
            pub fn parse(text: &str) -> Result<Self, NetError> {
                parse(text, $plain, $tls).map(Self)
            }

            /// Where to connect to.
            pub fn endpoint(&self) -> &Endpoint {
                &self.0.endpoint
            }

            /// The value of the `Host` header: the port only where it is not the scheme's own.
            pub fn host_header(&self) -> &str {
                &self.0.host_header
            }

            /// The path and query to ask for: the base's path, then `target` (empty, or beginning with `/`
            /// or `?`).
            pub fn path(&self, target: &str) -> String {
                let path = format!("{}{target}", self.0.prefix);
                if path.starts_with('/') { path } else { format!("/{path}") }
            }
        }
    };
}

base_url!(WsUrl, "ws", "wss");
base_url!(HttpUrl, "http", "https");

fn parse(text: &str, plain: &str, secure: &str) -> Result<Base, NetError> {
    let bad = |why: &str| {
        let shown = text.split(['?', '#']).next().unwrap_or_default();
        // What stands before an @ may be a password.
        let shown = shown.rsplit('@').next().unwrap_or_default();
        NetError::BadAddress(format!("{shown} ({why})"))
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(bad(&format!("expected {plain}://host or {secure}://host")));
    };
    let tls = match scheme {
        s if s.eq_ignore_ascii_case(plain) => false,
        s if s.eq_ignore_ascii_case(secure) => true,
        _ => return Err(bad(&format!("the scheme must be {plain} or {secure}"))),
    };
    if rest.contains(['?', '#']) {
        return Err(bad("a base has no query and no fragment"));
    }
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if authority.contains('@') {
        return Err(bad("user names are not supported"));
    }
    let (host, port) = split_port(authority).ok_or_else(|| bad("bad host or port"))?;
    let default_port = if tls { 443 } else { 80 };
    let endpoint = Endpoint { host: host.to_string(), port: port.unwrap_or(default_port), tls };
    let clean = |b: u8| b.is_ascii_graphic();
    if host.is_empty() || !rest.bytes().all(clean) {
        return Err(bad("bad host or path"));
    }
    let shown = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    let host_header = match endpoint.port {
        p if p == default_port => shown,
        p => format!("{shown}:{p}"),
    };
    Ok(Base { endpoint, host_header, prefix: path.trim_end_matches('/').to_string() })
}

/// Splits `host`, `host:port`, `[v6]` and `[v6]:port`.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            (host, rest)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    match rest.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|p| *p != 0).map(|p| (host, Some(p))),
        None if rest.is_empty() => Some((host, None)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ws(text: &str, host: &str, port: u16, tls: bool, header: &str, path: &str) {
        let url = WsUrl::parse(text).unwrap();
        assert_eq!(url.endpoint(), &Endpoint { host: host.into(), port, tls });
        assert_eq!(url.host_header(), header);
        assert_eq!(url.path("/x?y=1"), path);
    }

    fn bad(text: &str, says: &str) {
        let error = HttpUrl::parse(text).unwrap_err().to_string();
        assert!(error.contains(says) && !error.contains("secret"), "{error}");
    }

    #[test]
    fn urls_that_are() {
        ws("ws://127.0.0.1:80", "127.0.0.1", 80, false, "127.0.0.1", "/x?y=1");
        ws("wss://a.example", "a.example", 443, true, "a.example", "/x?y=1");
        ws("WSS://a.example:9443/ws/", "a.example", 9443, true, "a.example:9443", "/ws/x?y=1");
        ws("ws://[::1]:8080/a", "::1", 8080, false, "[::1]:8080", "/a/x?y=1");
        assert_eq!(HttpUrl::parse("http://h").unwrap().path(""), "/");
    }

    #[test]
    fn urls_that_are_not() {
        bad("api.example", "expected http");
        bad("ws://api.example", "scheme");
        bad("http://", "host");
        bad("http://:80", "host");
        bad("http://h:0", "port");
        bad("http://h:65536", "port");
        bad("http://h:1:2", "port");
        bad("http://[zz]:1", "host");
        bad("http://user:secret@h", "user names");
        bad("http://h?key=secret", "no query");
        bad("http://h/a b", "path");
    }
}
