//! Names to addresses, on one helper thread, because the system's resolver cannot be interrupted.
//!
//! In: host names. Out: addresses, at once where they need no lookup or were looked up within 60 s, else later.
//! Always: the queue, the cache and the number of addresses are bounded; nobody waits for the helper, callers have
//! deadlines of their own; the helper ends when the last [`Resolver`] is dropped, or after the lookup it is in.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use super::NetError;
use crate::clock::MonoNs;

/// Lookups that wait for the helper.
const ASKS_MAX: usize = 32;
/// How long an answer is used again.
const CACHED: Duration = Duration::from_secs(60);
/// Names in the cache; the first by name makes room.
const CACHE_NAMES_MAX: usize = 64;
/// Addresses kept of one name.
const ADDRESSES_MAX: usize = 16;
/// How long the helper waits at a time.
const HELPER_WAIT: Duration = Duration::from_secs(1);

/// How to start the helper thread: its name and what it runs.
pub type Spawn<'a> = &'a dyn Fn(&'static str, Box<dyn FnOnce() + Send>) -> io::Result<()>;

/// How a name is looked up, on the helper thread.
pub type LookUp = Box<dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send>;

/// What a lookup gives.
type Answer = Result<Vec<IpAddr>, String>;

type Cache = Arc<Mutex<BTreeMap<String, (Vec<IpAddr>, MonoNs)>>>;

/// One question to the helper.
struct Ask {
    host: String,
    now: MonoNs,
    reply: Sender<Answer>,
}

/// Resolves names; clones share the helper and the cache.
#[derive(Clone, Debug)]
pub struct Resolver {
    asks: Sender<Ask>,
    cache: Cache,
}

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.host)
    }
}

/// A lookup under way, or done.
#[derive(Debug)]
pub enum Lookup {
    /// Addresses, IPv4 first.
    Ready(Vec<IpAddr>),
    /// Ask again with [`Lookup::poll`].
    Waiting {
        /// The name.
        host: String,
        /// Where the helper answers.
        reply: Reply,
    },
}

/// Where an answer will be.
#[derive(Debug)]
pub struct Reply(Receiver<Answer>);

impl Resolver {
    /// A resolver on the system's lookup, whose helper thread `spawn` starts.
    ///
    /// # Errors
    /// `spawn`'s.
    pub fn new(spawn: Spawn<'_>) -> io::Result<Self> {
        Self::with_lookup(spawn, Box::new(system_lookup))
    }

    /// A resolver on another lookup, for tests.
    ///
    /// # Errors
    /// `spawn`'s.
    pub fn with_lookup(spawn: Spawn<'_>, look_up: LookUp) -> io::Result<Self> {
        let (asks, questions) = bounded(ASKS_MAX);
        let cache = Cache::default();
        let shared = Arc::clone(&cache);
        spawn("resolve", Box::new(move || help(&questions, &look_up, &shared)))?;
        Ok(Self { asks, cache })
    }

    /// Begins to resolve `host`.
    ///
    /// # Errors
    /// [`NetError::Resolve`] when the helper is too far behind or gone.
    pub fn lookup(&self, host: &str, now: MonoNs) -> Result<Lookup, NetError> {
        if let Ok(address) = host.parse() {
            return Ok(Lookup::Ready(vec![address]));
        }
        if host.eq_ignore_ascii_case("localhost") {
            return Ok(Lookup::Ready(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]));
        }
        if let Some(addresses) = cached(&self.cache, host, now) {
            return Ok(Lookup::Ready(addresses));
        }
        let (reply, answer) = bounded(1);
        let ask = Ask { host: host.to_string(), now, reply };
        match self.asks.try_send(ask) {
            Ok(()) => Ok(Lookup::Waiting { host: host.to_string(), reply: Reply(answer) }),
            Err(_) => Err(NetError::Resolve(format!("{host}: too many lookups are waiting"))),
        }
    }
}

impl Lookup {
    /// The outcome, once there is one.
    pub fn poll(&mut self) -> Option<Result<Vec<IpAddr>, NetError>> {
        match self {
            Self::Ready(addresses) => Some(Ok(std::mem::take(addresses))),
            Self::Waiting { host, reply } => match reply.0.try_recv() {
                Ok(answer) => Some(said(host, answer)),
                Err(TryRecvError::Empty) => None,
                Err(TryRecvError::Disconnected) => Some(Err(helper_gone(host))),
            },
        }
    }

    /// The outcome, waited for on a thread that may block for `limit`.
    ///
    /// # Errors
    /// The lookup's, or [`NetError::Deadline`].
    pub fn wait(self, limit: Duration) -> Result<Vec<IpAddr>, NetError> {
        match self {
            Self::Ready(addresses) => Ok(addresses),
            Self::Waiting { host, reply } => match reply.0.recv_timeout(limit) {
                Ok(answer) => said(&host, answer),
                Err(RecvTimeoutError::Timeout) => Err(NetError::Deadline("resolving", limit)),
                Err(RecvTimeoutError::Disconnected) => Err(helper_gone(&host)),
            },
        }
    }
}

fn said(host: &str, answer: Answer) -> Result<Vec<IpAddr>, NetError> {
    answer.map_err(|why| NetError::Resolve(format!("{host}: {why}")))
}

fn helper_gone(host: &str) -> NetError {
    NetError::Resolve(format!("{host}: the resolver has ended"))
}

/// A poisoned lock only means that a thread panicked between two whole updates.
fn lock(cache: &Cache) -> MutexGuard<'_, BTreeMap<String, (Vec<IpAddr>, MonoNs)>> {
    cache.lock().unwrap_or_else(PoisonError::into_inner)
}

fn cached(cache: &Cache, host: &str, now: MonoNs) -> Option<Vec<IpAddr>> {
    let cache = lock(cache);
    cache.get(host).filter(|(_, at)| now.since(*at) < CACHED).map(|(found, _)| found.clone())
}

/// The helper's life.
fn help(questions: &Receiver<Ask>, look_up: &LookUp, cache: &Cache) {
    loop {
        match questions.recv_timeout(HELPER_WAIT) {
            Ok(ask) => answer(&ask, look_up, cache),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn answer(ask: &Ask, look_up: &LookUp, cache: &Cache) {
    let found = match cached(cache, &ask.host, ask.now) {
        Some(found) => Ok(found),
        None => look_up(&ask.host).map_err(|e| e.to_string()).and_then(|mut found| {
            // IPv4 first: a broken IPv6 route would otherwise use up the whole connect deadline.
            found.sort_by_key(IpAddr::is_ipv6);
            found.truncate(ADDRESSES_MAX);
            if found.is_empty() { Err("no addresses".to_string()) } else { Ok(found) }
        }),
    };
    if let Ok(found) = &found {
        let mut cache = lock(cache);
        if cache.len() >= CACHE_NAMES_MAX && !cache.contains_key(&ask.host) {
            cache.pop_first();
        }
        cache.insert(ask.host.clone(), (found.clone(), ask.now));
    }
    if ask.reply.try_send(found).is_err() {
        log::debug!("nobody waits for {} any more", ask.host);
    }
}

fn system_lookup(host: &str) -> io::Result<Vec<IpAddr>> {
    Ok((host, 0).to_socket_addrs()?.map(|a| a.ip()).collect())
}
