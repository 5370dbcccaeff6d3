//! What surrounds the engine: the machine's clocks and sockets, or a virtual world in which everything is memory.
//!
//! The wiring asks the world for what it needs and does not know which one it got: the same topology runs in
//! production and is stepped in a test.

use std::sync::Arc;

use crate::clock::Clock;
use crate::net::{Acceptor, Dialer, HttpClient, NetError};

/// Makes a part for one generation of an actor.
pub type Make<T> = Arc<dyn Fn() -> Result<Box<T>, NetError> + Send + Sync>;

/// What surrounds the engine.
#[derive(Clone)]
pub struct World {
    /// Time.
    pub clock: Clock,
    /// Connections to venues.
    pub dialer: Make<dyn Dialer>,
    /// Calls to venues.
    pub http: Make<dyn HttpClient>,
    /// Where the embedded venue accepts, if it is wanted.
    pub venue: Option<Make<dyn Acceptor>>,
    /// Where the status page accepts, if it is wanted.
    pub ops: Option<Make<dyn Acceptor>>,
}
