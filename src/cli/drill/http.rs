//! One HTTP exchange on loopback, with a deadline. In: an address on this machine and a request. Out: the JSON that
//! came back. What always holds: nothing but loopback is ever dialled.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

use crate::clock::Clock;

/// Loopback answers at once, or the process does not answer.
const CONNECT_LIMIT: Duration = Duration::from_millis(500);
/// A whole exchange; the state of a busy venue has some megabytes.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(3);
/// Largest answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Asks `address` for `target`.
pub(super) fn get(address: SocketAddr, target: &str) -> io::Result<Value> {
    exchange(address, "GET", target, "")
}

/// Posts `body` to `target`.
pub(super) fn post(address: SocketAddr, target: &str, body: &str) -> io::Result<Value> {
    exchange(address, "POST", target, body)
}

/// Deletes `target`.
pub(super) fn delete(address: SocketAddr, target: &str) -> io::Result<Value> {
    exchange(address, "DELETE", target, "")
}

fn exchange(address: SocketAddr, method: &str, target: &str, body: &str) -> io::Result<Value> {
    if !address.ip().is_loopback() {
        return Err(io::Error::new(ErrorKind::InvalidInput, format!("{address}: not loopback")));
    }
    let begin = Clock::System.now();
    let mut stream = TcpStream::connect_timeout(&address, CONNECT_LIMIT)?;
    stream.set_read_timeout(Some(EXCHANGE_LIMIT))?;
    stream.set_write_timeout(Some(EXCHANGE_LIMIT))?;
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => answer.extend_from_slice(&chunk[..n]),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if answer.len() > ANSWER_BYTES_MAX || Clock::System.now().since(begin) > EXCHANGE_LIMIT {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    parse(&answer)
}

/// The body of an answer with a status of success.
fn parse(answer: &[u8]) -> io::Result<Value> {
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").ok_or(ErrorKind::UnexpectedEof)?;
    let (head, body) = (String::from_utf8_lossy(&answer[..end]), &answer[end + 4..]);
    let status = head.split(' ').nth(1).unwrap_or_default();
    if !status.starts_with('2') {
        let why = format!("status {status}: {}", String::from_utf8_lossy(body));
        return Err(io::Error::other(why));
    }
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_success_is_an_answer() {
        let answer = parse(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n{\"a\":1}").expect("an answer");
        assert_eq!(answer["a"], 1);
        let error = parse(b"HTTP/1.1 400 Bad\r\n\r\nno such kind").expect_err("an error");
        assert!(error.to_string().contains("no such kind"), "{error}");
        assert!(parse(b"HTTP/1.1 200 OK\r\n").is_err());
    }

    #[test]
    fn nothing_but_loopback_is_dialled() {
        let error = get(SocketAddr::from(([192, 0, 2, 1], 80)), "/").expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
}
