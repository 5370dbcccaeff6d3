//! What HTTP/1.1 bytes mean, for the server and the stepped client alike (RFC 9112). No I/O.
//!
//! In: bytes as they arrive, split anywhere. Out: heads and bodies. Always: caps are kept, no byte is consumed
//! twice, and a message whose length could be read in two ways is refused.

use super::NetError;

/// Headers of one message.
pub(super) const HEADERS_MAX: usize = 64;
/// A chunk-size line with its extensions.
const CHUNK_LINE_BYTES_MAX: usize = 128;
/// All trailer lines after a chunked body together.
const TRAILER_BYTES_MAX: usize = 8 * 1024;

/// A head's headers, names in lower case.
pub(super) type Headers = Vec<(String, String)>;

/// Copies parsed headers; values keep only what is UTF-8.
///
/// # Errors
/// A value that is not UTF-8.
pub(super) fn own_headers(parsed: &[httparse::Header<'_>]) -> Result<Headers, NetError> {
    let own = |h: &httparse::Header<'_>| {
        let value = std::str::from_utf8(h.value)
            .map_err(|_| NetError::Protocol(format!("header {} is not text", h.name)))?;
        Ok((h.name.to_ascii_lowercase(), value.trim().to_string()))
    };
    parsed.iter().map(own).collect()
}

/// Whether a comma-separated header value holds a token, in any case.
pub(super) fn has_token(value: &[u8], token: &str) -> bool {
    value.split(|b| *b == b',').any(|t| t.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}

/// Appends a header line to a head.
///
/// # Errors
/// A name or value that would break out of its line; the value is not shown, it may be a secret.
pub(super) fn push_header(head: &mut String, name: &str, value: &str) -> Result<(), NetError> {
    let name_ok = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if !name_ok || value.bytes().any(|b| b < b' ' || b == 0x7f) {
        return Err(NetError::Protocol(format!("header {name:?} cannot be sent")));
    }
    head.push_str(name);
    head.push_str(": ");
    head.push_str(value);
    head.push_str("\r\n");
    Ok(())
}

/// How a body's end is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// By chunks.
    Chunked,
    /// Nothing says: no body in a request, until the end of the stream in a response.
    Unsaid,
}

/// Reads the framing from the headers.
///
/// # Errors
/// Both or unequal lengths, unknown codings: read differently by two parties, such a message hides another.
pub(super) fn framing(headers: &Headers) -> Result<Framing, NetError> {
    let bad = |why: &str| NetError::Protocol(why.to_string());
    let mut length: Option<u64> = None;
    for (_, value) in headers.iter().filter(|(n, _)| n == "content-length") {
        let digits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
        let said =
            value.parse().ok().filter(|_| digits).ok_or_else(|| bad("bad content-length"))?;
        if length.is_some_and(|other| other != said) {
            return Err(bad("two content-lengths"));
        }
        length = Some(said);
    }
    let mut codings = headers.iter().filter(|(n, _)| n == "transfer-encoding");
    match (codings.next(), length) {
        (None, None) => Ok(Framing::Unsaid),
        (None, Some(n)) => Ok(Framing::Length(n)),
        (Some(_), Some(_)) => Err(bad("content-length and transfer-encoding")),
        (Some((_, v)), None) if v.eq_ignore_ascii_case("chunked") && codings.next().is_none() => {
            Ok(Framing::Chunked)
        }
        (Some(_), None) => Err(bad("unknown transfer-encoding")),
    }
}

/// Where in a body the reader is.
#[derive(Clone, Copy, Debug)]
enum At {
    /// So many bytes of a body of known length are missing.
    Length(usize),
    /// Until the stream ends.
    Eof,
    /// In a chunk-size line.
    Size,
    /// So many bytes of a chunk are missing.
    Chunk(usize),
    /// At the line end after a chunk.
    ChunkEnd,
    /// In the trailer; so many bytes of it have passed.
    Trailer(usize),
    Done,
}

/// Collects a body of any framing.
#[derive(Debug)]
pub(super) struct Body {
    at: At,
    bytes: Vec<u8>,
    bytes_max: usize,
    line: Vec<u8>,
}

impl Body {
    /// A body that is read as `framing` says and may have `bytes_max` bytes.
    ///
    /// # Errors
    /// [`NetError::TooLarge`] when its length is known to be above.
    pub(super) fn new(framing: Framing, bytes_max: usize) -> Result<Self, NetError> {
        let at = match framing {
            Framing::Length(0) => At::Done,
            Framing::Length(n) => match usize::try_from(n) {
                Ok(n) if n <= bytes_max => At::Length(n),
                _ => return Err(NetError::TooLarge("body", bytes_max)),
            },
            Framing::Chunked => At::Size,
            Framing::Unsaid => At::Eof,
        };
        Ok(Self { at, bytes: Vec::new(), bytes_max, line: Vec::new() })
    }

    /// No body.
    pub(super) fn none() -> Self {
        Self { at: At::Done, bytes: Vec::new(), bytes_max: 0, line: Vec::new() }
    }

    /// Whether the body is complete.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.at, At::Done)
    }

    /// The stream has ended: whether that completes the body.
    pub(super) fn ends_at_eof(&self) -> bool {
        matches!(self.at, At::Eof | At::Done)
    }

    /// What was collected.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Takes what belongs to the body from `input`; gives how many bytes that were.
    ///
    /// # Errors
    /// Chunks that are none, or more than the cap.
    pub(super) fn feed(&mut self, input: &[u8]) -> Result<usize, NetError> {
        let mut used = 0;
        while used < input.len() && !self.is_done() {
            used += self.feed_part(&input[used..])?;
        }
        Ok(used)
    }

    fn feed_part(&mut self, input: &[u8]) -> Result<usize, NetError> {
        match self.at {
            At::Done => Ok(0),
            At::Length(left) => {
                let n = self.take(input, left)?;
                self.at = if n == left { At::Done } else { At::Length(left - n) };
                Ok(n)
            }
            At::Eof => self.take(input, usize::MAX),
            At::Chunk(left) => {
                let n = self.take(input, left)?;
                self.at = if n == left { At::ChunkEnd } else { At::Chunk(left - n) };
                Ok(n)
            }
            At::Size | At::ChunkEnd | At::Trailer(_) => self.feed_line(input),
        }
    }

    fn take(&mut self, input: &[u8], wanted: usize) -> Result<usize, NetError> {
        let n = input.len().min(wanted);
        if self.bytes.len() + n > self.bytes_max {
            return Err(NetError::TooLarge("body", self.bytes_max));
        }
        self.bytes.extend_from_slice(&input[..n]);
        Ok(n)
    }

    /// Collects one line of the chunked framing and acts when it is complete.
    fn feed_line(&mut self, input: &[u8]) -> Result<usize, NetError> {
        let end = input.iter().position(|b| *b == b'\n');
        let n = end.map_or(input.len(), |at| at + 1);
        let line_max =
            if let At::Trailer(_) = self.at { TRAILER_BYTES_MAX } else { CHUNK_LINE_BYTES_MAX };
        if self.line.len() + n > line_max {
            return Err(NetError::TooLarge("chunk line", line_max));
        }
        self.line.extend_from_slice(&input[..n]);
        if end.is_some() {
            self.end_line()?;
            self.line.clear();
        }
        Ok(n)
    }

    fn end_line(&mut self) -> Result<(), NetError> {
        let bad = || NetError::Protocol("bad chunk".to_string());
        let line = self.line.strip_suffix(b"\r\n").ok_or_else(bad)?;
        self.at = match self.at {
            At::ChunkEnd if line.is_empty() => At::Size,
            At::Size => match httparse::parse_chunk_size(&self.line) {
                Ok(httparse::Status::Complete((_, 0))) => At::Trailer(0),
                Ok(httparse::Status::Complete((_, size))) => match usize::try_from(size) {
                    Ok(size) if size <= self.bytes_max => At::Chunk(size),
                    _ => return Err(NetError::TooLarge("body", self.bytes_max)),
                },
                _ => return Err(bad()),
            },
            At::Trailer(_) if line.is_empty() => At::Done,
            At::Trailer(passed) if passed + line.len() <= TRAILER_BYTES_MAX => {
                At::Trailer(passed + line.len())
            }
            _ => return Err(bad()),
        };
        Ok(())
    }
}

/// The words after a status code; only people read them.
pub(super) fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        418 => "I'm a Teapot",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunked(wire: &[u8], cap: usize) -> Result<(Vec<u8>, usize), NetError> {
        let whole = {
            let mut body = Body::new(Framing::Chunked, cap)?;
            let used = body.feed(wire)?;
            assert!(body.is_done(), "not complete");
            (body.into_bytes(), used)
        };
        let mut body = Body::new(Framing::Chunked, cap)?;
        let used: usize = wire.iter().map(|b| body.feed(&[*b]).unwrap()).sum();
        assert_eq!((body.into_bytes(), used), whole, "byte by byte");
        Ok(whole)
    }

    #[test]
    fn chunks() {
        let wire = b"4\r\nwiki\r\n5;x=y\r\npedia\r\n0\r\nt: 1\r\n\r\nrest";
        assert_eq!(chunked(wire, 9).unwrap(), (b"wikipedia".to_vec(), wire.len() - 4));
        assert!(matches!(chunked(wire, 8), Err(NetError::TooLarge("body", 8))));
        assert!(matches!(chunked(b"zz\r\n", 9), Err(NetError::Protocol(_))));
        assert!(matches!(chunked(b"1\r\nabc\r\n", 9), Err(NetError::Protocol(_))));
        assert!(matches!(chunked(b"ffffffffffffffff\r\n", 9), Err(NetError::TooLarge(..))));
    }

    fn framed(headers: &[(&str, &str)]) -> Option<Framing> {
        let own = |(n, v): &(&str, &str)| ((*n).to_string(), (*v).to_string());
        framing(&headers.iter().map(own).collect()).ok()
    }

    #[test]
    fn lengths_that_could_be_read_in_two_ways_are_refused() {
        assert_eq!(framed(&[]), Some(Framing::Unsaid));
        assert_eq!(framed(&[("content-length", "3")]), Some(Framing::Length(3)));
        assert_eq!(
            framed(&[("content-length", "3"), ("content-length", "3")]),
            Some(Framing::Length(3))
        );
        assert_eq!(framed(&[("transfer-encoding", "Chunked")]), Some(Framing::Chunked));
        assert_eq!(framed(&[("content-length", "3"), ("content-length", "4")]), None);
        assert_eq!(framed(&[("content-length", "+3")]), None);
        assert_eq!(framed(&[("content-length", "3"), ("transfer-encoding", "chunked")]), None);
        assert_eq!(framed(&[("transfer-encoding", "gzip, chunked")]), None);
    }

    #[test]
    fn headers_cannot_break_out_of_their_line() {
        let mut head = String::new();
        assert!(push_header(&mut head, "X-A", "b\r\nEvil: 1").is_err());
        assert!(push_header(&mut head, "X A", "b").is_err());
        assert!(push_header(&mut head, "X-A", "b").is_ok());
        assert_eq!(head, "X-A: b\r\n");
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_no_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let mut body = Body::new(Framing::Chunked, 64).unwrap();
            proptest::prop_assert!(body.feed(&bytes).is_ok_and(|n| n <= bytes.len()) || !body.is_done());
        }
    }
}
