//! A process that a drill started: its log, its signals, its end. In: what to run. Out: log lines and an exit code.
//! What always holds: nobody outlives its [`Child`] value, nor the drill, however that ends; and no wait here is longer
//! than it was asked to be.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, getppid, kill_process, pidfd_open, prlimit,
    set_parent_process_death_signal,
};

/// One read of a log.
const READ_BYTES: usize = 64 * 1024;
/// Nobody logs so much in a drill; what comes after it would not be seen, so that such a drill proves nothing.
const LOG_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long the rest of a dead process's log may take.
const LAST_LINES_LIMIT: Duration = Duration::from_millis(100);
/// Ignored signals stay ignored in a program that a shell becomes; nothing else can ignore one for a child.
const SHELL: &str = "/bin/sh";
/// See [`become_child`].
const DIES_WITH: &str = "--dies-with";
/// Writing past a file size limit is then an error, as a full disk's is, and not a signal that kills.
const IGNORE_FILE_SIZE_SIGNAL: &str = "trap '' XFSZ; exec \"$0\" \"$@\"";

/// A running process, killed and waited for when it is dropped.
pub(super) struct Child {
    process: std::process::Child,
    pidfd: OwnedFd,
    pipe: Option<ChildStderr>,
    log: String,
    file: File,
    exit_code: Option<i32>,
}

impl Child {
    /// Runs this very program with `args`; its log is copied to `log`. With `bounded_files` a write past its file size
    /// limit fails in place of killing it.
    pub(super) fn start(args: &[String], log: &Path, bounded_files: bool) -> io::Result<Self> {
        let program = std::env::current_exe()?;
        let mut command = if bounded_files {
            let mut shell = Command::new(SHELL);
            shell.arg("-c").arg(IGNORE_FILE_SIZE_SIGNAL).arg(program);
            shell
        } else {
            Command::new(program)
        };
        let file = File::options().create(true).append(true).open(log)?;
        let mut process = command
            .args(["drill", DIES_WITH, &std::process::id().to_string(), "--"])
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // The terminal's Ctrl+C is for the drill, which ends its children itself.
            .process_group(0)
            .spawn()?;
        let pipe = process.stderr.take();
        let pidfd = match pidfd_open(Pid::from_child(&process), PidfdFlags::empty()) {
            Ok(pidfd) => pidfd,
            Err(e) => {
                // Nobody would end it otherwise.
                process.kill()?;
                process.wait()?;
                return Err(e.into());
            }
        };
        Ok(Self { process, pidfd, pipe, log: String::new(), file, exit_code: None })
    }

    /// Everything logged so far.
    pub(super) fn log(&self) -> &str {
        &self.log
    }

    /// The first whole line after the byte `from` of the log that has every one of `words`.
    pub(super) fn line(&self, from: usize, words: &[&str]) -> Option<&str> {
        let new = self.log.get(from..)?;
        let whole = &new[..new.rfind('\n')?];
        whole.lines().find(|line| words.iter().all(|word| line.contains(word)))
    }

    /// The exit code, once it has ended; 128 + n for a signal.
    pub(super) fn exit_code(&self) -> Option<i32> {
        self.exit_code
    }

    /// Sends a signal; a process that has ended takes none.
    pub(super) fn signal(&self, signal: Signal) {
        if self.exit_code.is_none() {
            // It may have ended a moment ago: that is seen at the next pump.
            let _ = kill_process(Pid::from_child(&self.process), signal);
        }
    }

    /// No file of it may grow beyond `bytes` from now on.
    pub(super) fn bound_files(&self, bytes: u64) -> io::Result<()> {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        prlimit(Some(Pid::from_child(&self.process)), Resource::Fsize, limit)?;
        Ok(())
    }

    /// Waits up to `limit` for a log line or the end, and takes in what there is.
    pub(super) fn pump(&mut self, limit: Duration) -> io::Result<()> {
        if self.exit_code.is_some() {
            return Ok(());
        }
        let (ended, readable) = self.poll(limit)?;
        if readable {
            self.read()?;
        }
        if ended && let Some(status) = self.process.try_wait()? {
            let code = status.code().or(status.signal().map(|n| 128 + n));
            self.exit_code = code.or(Some(-1));
            while self.pipe.is_some() && self.poll(LAST_LINES_LIMIT)?.1 {
                self.read()?;
            }
        }
        Ok(())
    }

    /// Whether the process has ended, and whether its log has something.
    fn poll(&self, limit: Duration) -> io::Result<(bool, bool)> {
        let timeout = Timespec::try_from(limit).map_err(io::Error::other)?;
        let mut fds = Vec::with_capacity(2);
        if let Some(pipe) = &self.pipe {
            fds.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
        }
        if self.exit_code.is_none() {
            fds.push(PollFd::new(&self.pidfd, PollFlags::IN));
        }
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let readable = self.pipe.is_some() && ready.next().unwrap_or(false);
        Ok((self.exit_code.is_none() && ready.next().unwrap_or(false), readable))
    }

    fn read(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        let mut bytes = vec![0; READ_BYTES];
        match pipe.read(&mut bytes) {
            Ok(0) => self.pipe = None,
            Ok(n) => {
                self.file.write_all(&bytes[..n])?;
                keep(&mut self.log, &bytes[..n], LOG_BYTES_MAX)?;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        Ok(())
    }
}

/// Adds to a log of at most `max` bytes.
fn keep(log: &mut String, bytes: &[u8], max: usize) -> io::Result<()> {
    if log.len() + bytes.len() > max {
        return Err(io::Error::other(format!("the log is larger than {max} bytes")));
    }
    log.push_str(&String::from_utf8_lossy(bytes));
    Ok(())
}

impl Drop for Child {
    fn drop(&mut self) {
        // One that has been waited for needs neither; a stopped one takes SIGKILL as well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs this very program with `args` in place of this process, killed when the drill with the process id `drill` is
/// gone: the kernel does that also for one that is stopped. Returns why that failed.
///
/// It is the process itself that must ask for it, and that outlives the call to `exec`.
pub(super) fn become_child(drill: i32, args: &[String]) -> io::Error {
    let asked = set_parent_process_death_signal(Some(Signal::KILL));
    // A drill that went before the question will not be told of any more.
    let orphaned = getppid().is_none_or(|parent| parent.as_raw_nonzero().get() != drill);
    match (asked, std::env::current_exe()) {
        (Err(e), _) => e.into(),
        (_, Err(e)) => e,
        _ if orphaned => io::Error::other("the drill is gone"),
        (Ok(()), Ok(program)) => Command::new(program).args(args).exec(),
    }
}

/// The value of `key=` in a log line, without quotes.
pub(super) fn value_of<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let at = line.find(&format!(" {key}=")).map(|i| i + key.len() + 2)?;
    let rest = &line[at..];
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split(' ').next(),
    }
}

/// The time between two log lines of one day and the next.
pub(super) fn between(earlier: &str, later: &str) -> Option<Duration> {
    const DAY: Duration = Duration::from_secs(24 * 3_600);
    let (earlier, later) = (time_of_day(earlier)?, time_of_day(later)?);
    let later = if later < earlier { later + DAY } else { later };
    later.checked_sub(earlier)
}

/// When a line was logged: `2026-01-01T10:20:30.123456Z ...`.
fn time_of_day(line: &str) -> Option<Duration> {
    let (_, clock) = line.split_once('Z')?.0.split_once('T')?;
    let mut parts = clock.split([':', '.']).map(|part| part.parse::<u64>().ok());
    let mut next = || parts.next().flatten();
    let seconds = (next()? * 60 + next()?) * 60 + next()?;
    Some(Duration::from_secs(seconds) + Duration::from_micros(next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_between(earlier: &str, later: &str, us: Option<u64>) {
        assert_eq!(between(earlier, later), us.map(Duration::from_micros));
    }

    #[test]
    fn times_of_log_lines() {
        let at = |clock: &str| format!("2026-11-22T{clock}Z INFO  x event=y");
        check_between(&at("08:00:00.000001"), &at("08:00:01.000003"), Some(1_000_002));
        check_between(&at("23:59:59.999999"), &at("00:00:00.000001"), Some(2));
        check_between("no line", &at("08:00:00.000001"), None);
    }

    #[test]
    fn a_log_is_whole_or_an_error() {
        let mut log = String::new();
        keep(&mut log, b"abc", 4).expect("room");
        assert!(keep(&mut log, b"de", 4).is_err(), "what is not seen must not pass for nothing");
        assert_eq!(log, "abc");
    }

    #[test]
    fn values_of_log_lines() {
        let line = "2026-11-22T08:00:00.000001Z INFO  x event=y msg=\"a b\" ms=5";
        assert_eq!(value_of(line, "msg"), Some("a b"));
        assert_eq!(value_of(line, "ms"), Some("5"));
        assert_eq!(value_of(line, "s"), None);
    }
}
