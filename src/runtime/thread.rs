//! The one place that makes threads.
//!
//! Every thread has a name and an owner, and is made from the supervisor's thread, which is never pinned: a new
//! thread inherits the affinity of the one that makes it.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread called `name`; the kernel shows the first 15 bytes of it.
///
/// # Errors
/// The system's refusal: no thread or memory left, or a zero byte in the name.
pub fn spawn<T: Send + 'static>(
    name: &str,
    body: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that makes threads")]
    Builder::new().name(name.to_owned()).spawn(body)
}
