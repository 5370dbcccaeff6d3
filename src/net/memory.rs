//! Streams in memory, for the stepper: a network of ports inside the process.
//!
//! In: dials and listeners on the same [`MemoryNet`], joined by port (host and TLS do not matter). Out: streams
//! that behave like TCP on a perfect network. Always: each direction holds a bounded number of bytes, what is
//! written can be read at once, and with one thread everything happens in the order of the calls.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::{Acceptor, Dialer, Endpoint, NetError, Stream, Wants};
use crate::clock::MonoNs;

/// Bytes in flight in one direction.
const PIPE_BYTES_MAX: usize = 256 * 1024;
/// Connections that wait to be accepted on one port.
const BACKLOG: usize = 128;

/// A network of its own; clones are the same network.
#[derive(Clone, Default)]
pub struct MemoryNet {
    ports: Arc<Mutex<Vec<Port>>>,
}

/// One listening port.
struct Port {
    number: u16,
    backlog: VecDeque<MemoryStream>,
    pipes: Vec<Weak<Mutex<Pipe>>>,
}

/// Both directions of one connection; index 0 is what the dialing side wrote.
#[derive(Default)]
struct Pipe {
    ways: [Way; 2],
    /// Cut by [`MemoryNet::disconnect_all`]: both sides see a reset.
    reset: bool,
}

/// One direction.
#[derive(Default)]
struct Way {
    bytes: VecDeque<u8>,
    /// The writer is done: the reader sees the end after the bytes.
    ended: bool,
}

/// One side of a connection.
struct MemoryStream {
    pipe: Arc<Mutex<Pipe>>,
    /// Which of the ways is written to; the other one is read.
    side: usize,
}

/// A poisoned lock only means that another test thread panicked between two whole updates.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryNet {
    /// A network without listeners.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens on `port`. A listener already there is taken over, with its backlog.
    pub fn listener(&self, port: u16) -> Box<dyn Acceptor> {
        let mut ports = lock(&self.ports);
        if !ports.iter().any(|p| p.number == port) {
            ports.push(Port { number: port, backlog: VecDeque::new(), pipes: Vec::new() });
        }
        Box::new(MemoryAcceptor { net: self.clone(), port })
    }

    /// A dialer to this network's ports.
    pub fn dialer(&self) -> Box<dyn Dialer> {
        Box::new(MemoryDialer { net: self.clone() })
    }

    /// Cuts every connection to `port`, as when a router dies: both sides see a reset, bytes in flight are lost.
    pub fn disconnect_all(&self, port: u16) {
        let mut ports = lock(&self.ports);
        for port in ports.iter_mut().filter(|p| p.number == port) {
            for pipe in port.pipes.drain(..).filter_map(|pipe| pipe.upgrade()) {
                lock(&pipe).reset = true;
            }
        }
    }

    fn connect(&self, number: u16) -> io::Result<MemoryStream> {
        let mut ports = lock(&self.ports);
        let port = ports.iter_mut().find(|p| p.number == number);
        let port = port.ok_or(io::ErrorKind::ConnectionRefused)?;
        if port.backlog.len() >= BACKLOG {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let pipe = Arc::new(Mutex::new(Pipe::default()));
        port.pipes.retain(|pipe| pipe.strong_count() > 0);
        port.pipes.push(Arc::downgrade(&pipe));
        port.backlog.push_back(MemoryStream { pipe: Arc::clone(&pipe), side: 1 });
        Ok(MemoryStream { pipe, side: 0 })
    }
}

struct MemoryDialer {
    net: MemoryNet,
}

impl Dialer for MemoryDialer {
    fn dial(&mut self, endpoint: &Endpoint, _now: MonoNs) -> Result<Box<dyn Stream>, NetError> {
        match self.net.connect(endpoint.port) {
            Ok(stream) => Ok(Box::new(stream)),
            Err(e) => Err(NetError::Io("connecting in memory", e)),
        }
    }
}

struct MemoryAcceptor {
    net: MemoryNet,
    port: u16,
}

impl Acceptor for MemoryAcceptor {
    fn accept(&mut self) -> Result<Option<Box<dyn Stream>>, NetError> {
        let mut ports = lock(&self.net.ports);
        let port = ports.iter_mut().find(|p| p.number == self.port);
        let stream = port.and_then(|p| p.backlog.pop_front());
        Ok(stream.map(|s| Box::new(s) as Box<dyn Stream>))
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl Drop for MemoryAcceptor {
    fn drop(&mut self) {
        let mut ports = lock(&self.net.ports);
        let at = ports.iter().position(|p| p.number == self.port);
        let port = at.map(|at| ports.swap_remove(at));
        // Streams still in the backlog close their pipes, not the ports: the lock may be released first.
        drop(ports);
        drop(port);
    }
}

impl Read for MemoryStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut pipe = lock(&self.pipe);
        if pipe.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let way = &mut pipe.ways[1 - self.side];
        if way.bytes.is_empty() {
            return if way.ended { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        way.bytes.read(buf)
    }
}

impl Write for MemoryStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let mut pipe = lock(&self.pipe);
        if pipe.reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        let way = &mut pipe.ways[self.side];
        if way.ended {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        match PIPE_BYTES_MAX.saturating_sub(way.bytes.len()).min(buf.len()) {
            0 if !buf.is_empty() => Err(io::ErrorKind::WouldBlock.into()),
            n => {
                way.bytes.extend(&buf[..n]);
                Ok(n)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for MemoryStream {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn wants(&self) -> Wants {
        Wants::Read
    }

    /// Like a close: the peer reads what was written and then the end, and cannot write any more.
    fn shutdown(&mut self) {
        for way in &mut lock(&self.pipe).ways {
            way.ended = true;
        }
    }

    fn interrupter(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        None
    }
}

impl Drop for MemoryStream {
    fn drop(&mut self) {
        self.shutdown();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(net: &MemoryNet) -> (Box<dyn Stream>, Box<dyn Stream>) {
        let mut acceptor = net.listener(7);
        let endpoint = Endpoint { host: "anything".into(), port: 7, tls: true };
        let a = net.dialer().dial(&endpoint, MonoNs::ZERO).unwrap();
        let b = acceptor.accept().unwrap().unwrap();
        std::mem::forget(acceptor);
        (a, b)
    }

    #[test]
    fn bytes_go_both_ways_and_end() {
        let (mut a, mut b) = pair(&MemoryNet::new());
        let mut buf = [0; 8];
        assert_eq!(a.read(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        a.write_all(b"ping").unwrap();
        b.write_all(b"pong").unwrap();
        drop(a);
        assert_eq!(b.read(&mut buf).unwrap(), 4);
        assert_eq!(b.read(&mut buf).unwrap(), 0);
        assert_eq!(b.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_full_pipe_blocks() {
        let (mut a, mut b) = pair(&MemoryNet::new());
        assert_eq!(a.write(&vec![0; PIPE_BYTES_MAX + 1]).unwrap(), PIPE_BYTES_MAX);
        assert_eq!(a.write(b"x").unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(b.read(&mut [0; 10]).unwrap(), 10);
        assert_eq!(a.write(b"x").unwrap(), 1);
    }

    #[test]
    fn cut_connections_are_reset() {
        let net = MemoryNet::new();
        let (mut a, mut b) = pair(&net);
        a.write_all(b"lost").unwrap();
        net.disconnect_all(7);
        assert_eq!(a.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(b.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn nobody_listens() {
        let endpoint = Endpoint { host: "x".into(), port: 9, tls: false };
        assert!(MemoryNet::new().dialer().dial(&endpoint, MonoNs::ZERO).is_err());
    }
}
