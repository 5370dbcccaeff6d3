//! The one place that makes threads, and what the kernel counts of them.
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

/// A file of the kernel about a thread of this process; empty when it cannot be read.
pub(super) fn proc_file(tid: i32, file: &str) -> String {
    std::fs::read_to_string(format!("/proc/self/task/{tid}/{file}")).unwrap_or_default()
}

/// What the kernel counts of a thread; zeros and an empty text for one that is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadFacts {
    /// Time on a core, in milliseconds.
    pub cpu_ms: u64,
    /// How often it gave its core away: it waited for something.
    pub switches_voluntary: u64,
    /// How often the core was taken from it: somebody else wanted it.
    pub switches_involuntary: u64,
    /// The cores it may run on, such as `0-3,8`.
    pub cpus_allowed: String,
}

impl ThreadFacts {
    /// Asks the kernel; two small files are read.
    pub fn of(tid: i32) -> Self {
        let status = proc_file(tid, "status");
        let field = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).unwrap_or_default();
            line.trim_start_matches(':').trim().to_owned()
        };
        let number = |text: &str| text.parse().unwrap_or(0);
        let cpu_ns: u64 = number(proc_file(tid, "schedstat").split(' ').next().unwrap_or(""));
        Self {
            cpu_ms: cpu_ns / 1_000_000,
            switches_voluntary: number(&field("voluntary_ctxt_switches")),
            switches_involuntary: number(&field("nonvoluntary_ctxt_switches")),
            cpus_allowed: field("Cpus_allowed_list"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_of_this_thread_and_not_of_a_gone_one() {
        let own = ThreadFacts::of(rustix::thread::gettid().as_raw_nonzero().get());
        assert!(!own.cpus_allowed.is_empty());
        assert_eq!(ThreadFacts::of(0), ThreadFacts::default());
    }
}
