//! A stream with an outgoing buffer of its own, for the protocols on top of it.
//!
//! In: whole frames and messages. Out: bytes on the stream, as fast as it takes them. Always: what was accepted
//! is sent in order and without gaps, the buffer never passes its cap, `Interrupted` means "no data now", and
//! the number of buffered bytes is known exactly (tungstenite hides its own buffer; over this one it is always
//! empty, because a write here never blocks).

use std::io::{self, Read, Write};

use super::stream::USER_TIMEOUT;
use super::{NetError, Stream, UNACKNOWLEDGED, Wants};

/// What an emptied buffer keeps: a peer that stood still once must not cost its backlog's memory for ever.
const KEPT_BYTES: usize = 256 * 1024;

/// See the module.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    out: Vec<u8>,
    sent: usize,
    out_bytes_max: usize,
    arrived_bytes: usize,
    read_budget_bytes: usize,
    /// One byte is written per pass.
    sliced: bool,
    /// Why nothing can be written any more; told once nothing is left to read.
    write_error: Option<io::Error>,
}

impl Wire {
    /// Buffers at most `out_bytes_max` bytes that wait for `stream`.
    pub(super) fn new(stream: Box<dyn Stream>, out_bytes_max: usize) -> Self {
        Self {
            stream,
            out: Vec::new(),
            sent: 0,
            out_bytes_max,
            arrived_bytes: 0,
            read_budget_bytes: usize::MAX,
            sliced: false,
            write_error: None,
        }
    }

    /// The stream below.
    pub(super) fn stream(&self) -> &dyn Stream {
        &*self.stream
    }

    /// Ends the stream below at once.
    pub(super) fn shutdown(&mut self) {
        self.stream.shutdown();
    }

    /// Bytes that wait to be written.
    pub(super) fn buffered(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Writes one byte per pass from now on, or all at once again.
    pub(super) fn slice(&mut self, on: bool) {
        self.sliced = on;
    }

    /// What to poll the descriptor for.
    pub(super) fn wants(&self) -> Wants {
        match self.stream.wants() {
            Wants::Read if self.buffered() > 0 => Wants::ReadWrite,
            wants => wants,
        }
    }

    /// How many bytes arrived since the last call.
    pub(super) fn take_arrived(&mut self) -> usize {
        std::mem::take(&mut self.arrived_bytes)
    }

    /// Lets at most so many bytes be read before the next call; more is `QuotaExceeded`. Ends a peer that keeps
    /// a codec busy without ever completing a message.
    pub(super) fn grant_reads(&mut self, bytes: usize) {
        self.read_budget_bytes = bytes;
    }

    /// Forgets what was, or can no longer be, written.
    fn drop_output(&mut self) {
        self.out.clear();
        self.out.shrink_to(KEPT_BYTES);
        self.sent = 0;
    }

    /// Buffers all of `bytes`.
    ///
    /// # Errors
    /// [`NetError::TooLarge`] when they do not fit below the cap; nothing was buffered then.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), NetError> {
        if self.buffered() + bytes.len() > self.out_bytes_max {
            return Err(NetError::TooLarge("write buffer", self.out_bytes_max));
        }
        if self.sent > 0 && self.out.len() + bytes.len() > self.out.capacity() {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Writes what waits, as far as the stream takes it.
    ///
    /// # Errors
    /// The stream's, but never `WouldBlock`.
    pub(super) fn pump(&mut self) -> io::Result<()> {
        while self.sent < self.out.len() {
            let end = if self.sliced { self.sent + 1 } else { self.out.len() };
            match self.stream.write(&self.out[self.sent..end]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.sent += n,
                Err(e) if is_no_data(&e) => return Ok(()),
                Err(e) => return Err(e),
            }
            if self.sliced && self.sent < self.out.len() {
                return Ok(());
            }
        }
        self.drop_output();
        match self.stream.flush() {
            Err(e) if !is_no_data(&e) => Err(e),
            _ => Ok(()),
        }
    }
}

impl Read for Wire {
    /// Writes what waits, then reads. A peer that stopped reading may have said why: what it sent comes before
    /// the error of writing to it.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.buffered() > 0
            && let Err(e) = self.pump()
        {
            self.drop_output();
            self.write_error = Some(e);
        }
        if self.read_budget_bytes == 0 {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        let room = buf.len().min(self.read_budget_bytes);
        match self.stream.read(&mut buf[..room]) {
            Ok(n) => {
                self.arrived_bytes += n;
                self.read_budget_bytes -= n;
                Ok(n)
            }
            Err(e) => match self.write_error.take() {
                Some(first) => Err(first),
                None if is_no_data(&e) => Err(io::ErrorKind::WouldBlock.into()),
                None => Err(e),
            },
        }
    }
}

impl Write for Wire {
    /// Takes everything or nothing; `StorageFull` when the cap is passed.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.append(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(too_large) => Err(io::Error::new(io::ErrorKind::StorageFull, too_large)),
        }
    }

    /// Writes what the stream takes now; the rest stays buffered and is no error.
    fn flush(&mut self) -> io::Result<()> {
        self.pump()
    }
}

/// Whether an error only says "not now".
pub(super) fn is_no_data(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The error behind an I/O error: ours or TLS' where one is wrapped, and the peer's end as what it is.
pub(super) fn net_error(during: &'static str, e: io::Error) -> NetError {
    let e = match e.downcast::<NetError>() {
        Ok(ours) => return ours,
        Err(e) => e,
    };
    if let Some(tls) = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        return NetError::Tls(tls.to_string());
    }
    match e.kind() {
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe => NetError::Closed(format!("{during}: {e}")),
        // Sockets here have no other deadline of the system's.
        io::ErrorKind::TimedOut => NetError::Deadline(UNACKNOWLEDGED, USER_TIMEOUT),
        _ => NetError::Io(during, e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::MonoNs;
    use crate::net::Endpoint;
    use crate::net::memory::MemoryNet;

    #[test]
    fn a_backlog_gives_its_memory_back() {
        let net = MemoryNet::new();
        let mut listener = net.listener(1);
        let endpoint = Endpoint { host: "memory".into(), port: 1, tls: false };
        let stream = net.dialer().dial(&endpoint, MonoNs::ZERO).expect("a listener");
        let mut peer = listener.accept().expect("no error").expect("one waits");
        let mut wire = Wire::new(stream, 4 * 1024 * 1024);
        wire.append(&vec![b'x'; 2 * 1024 * 1024]).expect("room");
        let mut chunk = vec![0; 64 * 1024];
        while wire.buffered() > 0 {
            wire.pump().expect("open");
            while peer.read(&mut chunk).is_ok_and(|n| n > 0) {}
        }
        assert!(wire.out.capacity() <= KEPT_BYTES);
    }
}
