//! The system's network: dialing out and listening.
//!
//! In: endpoints, a resolver, whom TLS trusts. Out: streams that are still being resolved and connected.
//! Always: nothing here blocks.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};

use socket2::{Domain, Protocol, Socket, Type};

use super::resolve::{Lookup, Resolver};
use super::stream::{SystemStream, Tls, TlsStream};
use super::{Acceptor, Dialer, Endpoint, NetError, Stream};
use crate::clock::MonoNs;

/// Connections the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 128;

/// Dials TCP and TLS.
pub struct SystemDialer {
    resolver: Resolver,
    tls: Tls,
    dials: usize,
}

impl SystemDialer {
    /// Dials names that `resolver` resolves, and peers that `tls` trusts.
    pub fn new(resolver: Resolver, tls: Tls) -> Self {
        Self { resolver, tls, dials: 0 }
    }
}

impl Dialer for SystemDialer {
    fn dial(&mut self, endpoint: &Endpoint, now: MonoNs) -> Result<Box<dyn Stream>, NetError> {
        let mut lookup = self.resolver.lookup(&endpoint.host, now)?;
        if let Lookup::Ready(addresses) = &mut lookup {
            // Another address each time, of the same family order: one dead address among several must not
            // use up the deadline of every attempt.
            let v4 = addresses.iter().take_while(|a| a.is_ipv4()).count();
            if v4 > 1 {
                addresses[..v4].rotate_left(self.dials % v4);
            }
            self.dials = self.dials.wrapping_add(1);
        }
        let tcp = SystemStream::connecting(lookup, endpoint.port);
        if endpoint.tls {
            return Ok(Box::new(TlsStream::new(tcp, &endpoint.host, &self.tls)?));
        }
        Ok(Box::new(tcp))
    }
}

/// Listens on a TCP port.
pub struct SystemAcceptor {
    listener: TcpListener,
}

impl SystemAcceptor {
    /// Listens on `address`; port 0 lets the system choose. A port that was just given up can be bound again.
    ///
    /// # Errors
    /// The system's refusal.
    pub fn bind(address: SocketAddr) -> Result<Self, NetError> {
        let bind = || {
            let socket =
                Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
            socket.set_reuse_address(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&address.into())?;
            socket.listen(BACKLOG)?;
            Ok(Self { listener: socket.into() })
        };
        bind().map_err(|e| NetError::Io("binding a port", e))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system's.
    pub fn local_addr(&self) -> Result<SocketAddr, NetError> {
        self.listener.local_addr().map_err(|e| NetError::Io("asking for the bound address", e))
    }
}

impl Acceptor for SystemAcceptor {
    fn accept(&mut self) -> Result<Option<Box<dyn Stream>>, NetError> {
        use std::io::ErrorKind::{ConnectionAborted, Interrupted, WouldBlock};
        match self.listener.accept().and_then(|(socket, _)| SystemStream::accepted(socket)) {
            Ok(stream) => Ok(Some(Box::new(stream))),
            // A peer that gave up before it was accepted is no concern of ours.
            Err(e) if matches!(e.kind(), WouldBlock | Interrupted | ConnectionAborted) => Ok(None),
            Err(e) => Err(NetError::Io("accepting a connection", e)),
        }
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.listener.as_fd())
    }
}
