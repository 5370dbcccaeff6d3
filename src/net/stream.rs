//! TCP and TLS streams: non-blocking from the first byte, their states hidden behind reads and writes.
//!
//! In: a name being looked up and a port, or an accepted socket. Out: a [`Stream`]. Always: `WouldBlock` until the
//! stream is usable, addresses are tried one after the other, TLS peers are verified against the compiled-in roots
//! (plus those given for tests), and a peer that vanishes is noticed by the kernel within seconds of a write.
//!
//! ```text
//! Resolving -> Connecting (next address on failure) -> Connected;   any -> Failed
//! ```

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::resolve::Lookup;
use super::wire::is_no_data;
use super::{NetError, Stream, Wants};

/// How long written bytes may stay unacknowledged before the kernel gives the connection up.
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(5);
/// When an idle connection is probed first.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);
/// How often it is probed then.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
/// Plain bytes that rustls may hold before they are encrypted and sent.
const TLS_BUFFER_BYTES: usize = 64 * 1024;

/// A TCP stream in any of its states.
pub(super) struct SystemStream {
    state: State,
    port: u16,
}

enum State {
    Resolving(Lookup),
    Connecting { socket: TcpStream, left: Vec<IpAddr> },
    Connected(TcpStream),
    Failed,
}

impl SystemStream {
    /// Connects to what `lookup` finds.
    pub(super) fn connecting(lookup: Lookup, port: u16) -> Self {
        let mut stream = Self { state: State::Resolving(lookup), port };
        // Address literals begin to connect at once. An error comes back with the first read.
        if let State::Resolving(Lookup::Ready(addresses)) = &mut stream.state {
            let addresses = std::mem::take(addresses);
            match connect_next(addresses.clone(), port) {
                Ok(state) => stream.state = state,
                Err(_) => stream.state = State::Resolving(Lookup::Ready(addresses)),
            }
        }
        stream
    }

    /// A socket that was accepted.
    pub(super) fn accepted(socket: TcpStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        configure(SockRef::from(&socket))?;
        Ok(Self { state: State::Connected(socket), port: 0 })
    }

    /// The connected socket; `WouldBlock` while there is none yet.
    fn socket(&mut self) -> io::Result<&mut TcpStream> {
        if !matches!(self.state, State::Connected(_)) {
            self.state = match std::mem::replace(&mut self.state, State::Failed) {
                State::Resolving(mut lookup) => match lookup.poll() {
                    None => State::Resolving(lookup),
                    Some(Ok(addresses)) => connect_next(addresses, self.port)?,
                    Some(Err(e)) => return Err(io::Error::other(e)),
                },
                State::Connecting { socket, left } => check_connect(socket, left, self.port)?,
                other => other,
            };
        }
        match &mut self.state {
            State::Connected(socket) => Ok(socket),
            State::Failed => Err(io::ErrorKind::NotConnected.into()),
            State::Resolving(_) | State::Connecting { .. } => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

fn configure(socket: SockRef<'_>) -> io::Result<()> {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// Begins to connect to the first address that lets us begin.
fn connect_next(mut addresses: Vec<IpAddr>, port: u16) -> io::Result<State> {
    let mut error = io::Error::from(io::ErrorKind::AddrNotAvailable);
    while !addresses.is_empty() {
        match begin_connect(SocketAddr::new(addresses.remove(0), port)) {
            Ok(socket) => return Ok(State::Connecting { socket, left: addresses }),
            Err(e) => error = e,
        }
    }
    Err(error)
}

fn begin_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    configure(SockRef::from(&socket))?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(e) => return Err(e),
    }
    Ok(socket.into())
}

/// Whether the connect has succeeded, goes on, or must be tried with the next address.
fn check_connect(socket: TcpStream, left: Vec<IpAddr>, port: u16) -> io::Result<State> {
    if let Some(e) = socket.take_error()? {
        return match connect_next(left, port) {
            Ok(state) => Ok(state),
            // The first failure says more than "no address left".
            Err(_) => Err(e),
        };
    }
    match socket.peer_addr() {
        Ok(_) => Ok(State::Connected(socket)),
        Err(e) if e.kind() == io::ErrorKind::NotConnected => Ok(State::Connecting { socket, left }),
        Err(e) => Err(e),
    }
}

impl Read for SystemStream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.socket()?.read(buf)
    }
}

impl Write for SystemStream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.socket()?.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for SystemStream {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.state {
            State::Connecting { socket, .. } | State::Connected(socket) => Some(socket.as_fd()),
            State::Resolving(_) | State::Failed => None,
        }
    }

    fn wants(&self) -> Wants {
        match &self.state {
            State::Connecting { .. } => Wants::ReadWrite,
            State::Connected(_) => Wants::Read,
            State::Resolving(_) | State::Failed => Wants::Time,
        }
    }

    fn shutdown(&mut self) {
        if let State::Connected(socket) = &self.state {
            shut(socket);
        }
        self.state = State::Failed;
    }

    fn interrupter(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        let (State::Connecting { socket, .. } | State::Connected(socket)) = &self.state else {
            return None;
        };
        match socket.try_clone() {
            Ok(socket) => Some(Box::new(move || shut(&socket))),
            Err(e) => {
                log::warn!("stream without an interrupter: {e}");
                None
            }
        }
    }

    fn peer(&self) -> Option<IpAddr> {
        let State::Connected(socket) = &self.state else { return None };
        socket.peer_addr().ok().map(|address| address.ip())
    }
}

fn shut(socket: &TcpStream) {
    match socket.shutdown(Shutdown::Both) {
        Ok(()) => {}
        // The peer was faster.
        Err(e) if e.kind() == io::ErrorKind::NotConnected => {}
        Err(e) => log::debug!("shutting a socket down: {e}"),
    }
}

/// Whom TLS trusts: one shared configuration for all streams.
#[derive(Clone, Debug)]
pub struct Tls {
    config: Arc<ClientConfig>,
    extra_ca_pem: Option<Arc<[u8]>>,
}

impl Tls {
    /// Trusts the compiled-in web roots and, for tests and venues of one's own, the certificates in `extra_ca_pem`.
    ///
    /// # Errors
    /// [`NetError::Tls`] when the PEM holds no certificate.
    pub fn new(extra_ca_pem: Option<&[u8]>) -> Result<Self, NetError> {
        let mut roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        for cert in extra_ca_pem.map(certificates).transpose()?.unwrap_or_default() {
            roots.add(cert).map_err(|e| NetError::Tls(format!("extra CA: {e}")))?;
        }
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|e| NetError::Tls(e.to_string()))?
                .with_root_certificates(roots)
                .with_no_client_auth();
        Ok(Self { config: Arc::new(config), extra_ca_pem: extra_ca_pem.map(Into::into) })
    }

    /// The provider of all cryptography here, shared with the blocking HTTP client.
    pub(super) fn provider(&self) -> Arc<rustls::crypto::CryptoProvider> {
        Arc::clone(self.config.crypto_provider())
    }

    /// The extra certificates, as given.
    pub(super) fn extra_ca_pem(&self) -> Option<&[u8]> {
        self.extra_ca_pem.as_deref()
    }
}

/// The certificates in a PEM text.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, NetError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(NetError::Tls("extra CA: no certificate in it".to_string())),
        Err(e) => Err(NetError::Tls(format!("extra CA: {e}"))),
    }
}

/// TLS over another stream.
pub(super) struct TlsStream<S> {
    below: S,
    session: ClientConnection,
}

impl<S: Stream> TlsStream<S> {
    /// Speaks TLS to `host`, whose certificate must be for that name.
    ///
    /// # Errors
    /// A host that cannot be named in a certificate.
    pub(super) fn new(below: S, host: &str, tls: &Tls) -> Result<Self, NetError> {
        let name = ServerName::try_from(host.to_string())
            .map_err(|_| NetError::BadAddress(format!("{host} (no name for tls)")))?;
        let mut session = ClientConnection::new(Arc::clone(&tls.config), name)
            .map_err(|e| NetError::Tls(e.to_string()))?;
        session.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        Ok(Self { below, session })
    }

    /// Sends records that wait; "not now" is no error, `session.wants_write` says it.
    fn send_records(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.below) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(e) if is_no_data(&e) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Reads and decrypts records once. The peer must be told of a failure before the error goes up.
    fn receive_records(&mut self) -> io::Result<()> {
        self.session.read_tls(&mut self.below)?;
        if let Err(e) = self.session.process_new_packets() {
            if let Err(unsent) = self.send_records() {
                log::debug!("tls alert not sent: {unsent}");
            }
            return Err(io::Error::other(e));
        }
        // Handshake messages of ours may have come of it.
        self.send_records()
    }
}

impl<S: Stream> Read for TlsStream<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.send_records()?;
        loop {
            match self.session.reader().read(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.receive_records()?,
                read => return read,
            }
        }
    }
}

impl<S: Stream> Write for TlsStream<S> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let taken = self.session.writer().write(buf)?;
        self.send_records()?;
        if taken == 0 && !buf.is_empty() {
            // The buffer was full; there may be room now, but the next call is early enough.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_records()?;
        if self.session.wants_write() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }
}

impl<S: Stream> Stream for TlsStream<S> {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.below.fd()
    }

    fn wants(&self) -> Wants {
        match self.below.wants() {
            Wants::Read if self.session.wants_write() => Wants::ReadWrite,
            wants => wants,
        }
    }

    fn shutdown(&mut self) {
        self.session.send_close_notify();
        if let Err(e) = self.send_records() {
            log::debug!("tls end not sent: {e}");
        }
        self.below.shutdown();
    }

    fn interrupter(&self) -> Option<Box<dyn Fn() + Send + Sync>> {
        self.below.interrupter()
    }
}
