//! Requests of the WebSocket API as text. Comes in: method, id and parameters in the order of their names. Goes out:
//! one JSON frame, signed if there is a signer. Always: the buffers are reused, so that nothing is allocated once
//! they have grown.
//!
//! Rules: web-socket-api.md, "Request format" and "SIGNED request security": the payload is `name=value` joined by
//! `&`, sorted by name, values raw, without the signature.

use crate::trading::venue::{RequestId, RequestKind};

use super::sign::Signer;

/// What a request's id begins with; the number follows.
const LETTERS: [(RequestKind, u8); 9] = [
    (RequestKind::Logon, b'l'),
    (RequestKind::Subscribe, b'u'),
    (RequestKind::Place, b'p'),
    (RequestKind::Cancel, b'c'),
    (RequestKind::CancelAll, b'a'),
    (RequestKind::OpenOrders, b'o'),
    (RequestKind::OrderStatus, b's'),
    (RequestKind::Trades, b't'),
    (RequestKind::Account, b'b'),
];

/// The request that `text`, an id without its quotes, names; `None` when no request of ours has such an id.
pub(super) fn request_id(text: &[u8]) -> Option<RequestId> {
    let (letter, digits) = text.split_first()?;
    let (kind, _) = LETTERS.iter().find(|(_, l)| l == letter)?;
    let plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let seq = std::str::from_utf8(digits).ok()?.parse().ok()?;
    plain.then_some(RequestId { kind: *kind, seq })
}

/// One request being written.
pub(super) struct Request<'a> {
    out: &'a mut Vec<u8>,
    payload: &'a mut Vec<u8>,
    signer: Option<&'a Signer>,
    empty: bool,
}

impl<'a> Request<'a> {
    /// Begins a frame in `out`. With a signer the frame carries the API key, and `payload` collects what is signed.
    pub(super) fn begin(
        out: &'a mut Vec<u8>,
        payload: &'a mut Vec<u8>,
        (kind, seq): (RequestKind, u64),
        method: &str,
        signer: Option<&'a Signer>,
    ) -> Self {
        out.clear();
        payload.clear();
        let letter = LETTERS.iter().find(|(k, _)| *k == kind).map_or(b'?', |(_, l)| *l);
        out.extend_from_slice(b"{\"id\":\"");
        out.push(letter);
        out.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
        out.extend_from_slice(b"\",\"method\":\"");
        out.extend_from_slice(method.as_bytes());
        out.extend_from_slice(b"\",\"params\":{");
        let mut request = Self { out, payload, signer, empty: true };
        if let Some(signer) = signer {
            request.text("apiKey", signer.api_key());
        }
        request
    }

    /// A parameter that is a JSON string.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        self.out.push(b'"');
        for &byte in value.as_bytes() {
            match byte {
                b'"' | b'\\' => self.out.extend([b'\\', byte]),
                // No name or key of ours has control characters; whoever configures one gets the venue's refusal.
                0..b' ' => self.out.push(b'?'),
                _ => self.out.push(byte),
            }
        }
        self.out.push(b'"');
        self.payload.extend_from_slice(value.as_bytes());
    }

    /// A parameter that is a JSON number.
    pub(super) fn number(&mut self, name: &str, value: i64) {
        self.bare(name, itoa::Buffer::new().format(value));
    }

    /// A parameter that is `true` or `false`.
    pub(super) fn flag(&mut self, name: &str, value: bool) {
        self.bare(name, if value { "true" } else { "false" });
    }

    /// A decimal number of `units` times `10^-decimals`, as a JSON string without trailing zeros.
    pub(super) fn decimal(&mut self, name: &str, units: i64, decimals: u8) {
        self.name(name);
        self.out.push(b'"');
        let from = self.out.len();
        push_decimal(self.out, units, decimals);
        self.payload.extend_from_slice(&self.out[from..]);
        self.out.push(b'"');
    }

    /// Signs and closes the frame.
    pub(super) fn end(self) {
        if let Some(signer) = self.signer {
            self.out.extend_from_slice(b",\"signature\":\"");
            signer.sign(self.payload, self.out);
            self.out.push(b'"');
        }
        self.out.extend_from_slice(b"}}");
    }

    fn bare(&mut self, name: &str, value: &str) {
        self.name(name);
        self.out.extend_from_slice(value.as_bytes());
        self.payload.extend_from_slice(value.as_bytes());
    }

    fn name(&mut self, name: &str) {
        if !self.empty {
            self.out.push(b',');
            self.payload.push(b'&');
        }
        self.empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.payload.extend_from_slice(name.as_bytes());
        self.payload.push(b'=');
    }
}

/// Appends `units` times `10^-decimals` as decimal text without trailing zeros.
fn push_decimal(out: &mut Vec<u8>, units: i64, decimals: u8) {
    if units < 0 {
        out.push(b'-');
    }
    let mut rest = units.unsigned_abs();
    // One place per value that `decimals` can have.
    let mut digits = [b'0'; 256];
    let behind = &mut digits[..usize::from(decimals)];
    for digit in behind.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    out.extend_from_slice(itoa::Buffer::new().format(rest).as_bytes());
    let used = behind.iter().rposition(|d| *d != b'0').map_or(0, |last| last + 1);
    if used > 0 {
        out.push(b'.');
        out.extend_from_slice(&behind[..used]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(units: i64, decimals: u8, expect: &str) {
        let mut out = Vec::new();
        push_decimal(&mut out, units, decimals);
        assert_eq!(String::from_utf8_lossy(&out), expect);
    }

    #[test]
    fn decimals_are_exact_and_short() {
        check(5_200_000_000_000, 8, "52000");
        check(1, 8, "0.00000001");
        check(1_230_000_000, 8, "12.3");
        check(0, 8, "0");
        check(7, 0, "7");
        check(-150, 2, "-1.5");
        check(i64::MIN, 0, "-9223372036854775808");
        check(1, 255, &format!("0.{:0>255}", 1));
    }

    #[test]
    fn ids_carry_kind_and_number() {
        for (kind, letter) in LETTERS {
            let id = format!("{}{}", char::from(letter), u64::MAX);
            assert_eq!(request_id(id.as_bytes()), Some(RequestId { kind, seq: u64::MAX }));
        }
        for foreign in ["", "p", "p-1", "p+1", "x1", "p18446744073709551616", "1", "p1 "] {
            assert_eq!(request_id(foreign.as_bytes()), None, "{foreign}");
        }
    }
}
