//! The built binary as a process: a user's view through its log, its ports and its exit code.
//!
//! Nothing here sleeps: every wait is a poll(2) on the process's log or on its pidfd, with a deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use pindrop::clock::{Clock, MonoNs};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use serde_json::Value;

/// No process of ours needs longer for anything; a test that waits so long has found a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A running `pindrop`; killed when the test ends before it does.
pub(crate) struct Process {
    child: Child,
    pidfd: OwnedFd,
    stderr: Option<ChildStderr>,
    log: String,
    seen: usize,
}

fn now() -> MonoNs {
    Clock::System.now()
}

impl Process {
    /// Starts `pindrop` with `args`.
    pub(crate) fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pindrop"));
        command.args(args);
        Self::spawn(command)
    }

    /// Starts `pindrop` with `args` after the shell has run `first`, such as `ulimit -n 20`.
    pub(crate) fn start_after(first: &str, args: &[&str]) -> Self {
        let mut command = Command::new("sh");
        let script = format!("{first} && exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_pindrop")]).args(args);
        Self::spawn(command)
    }

    /// Starts `command`, whose standard error is read here.
    pub(crate) fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("a child has a pidfd");
        let stderr = child.stderr.take();
        Self { child, pidfd, stderr, log: String::new(), seen: 0 }
    }

    /// Runs `pindrop` to its end; the exit code and the JSON on its standard output.
    pub(crate) fn answer(args: &[&str]) -> (i32, Value) {
        let output = Command::new(env!("CARGO_BIN_EXE_pindrop")).args(args).output();
        let output = output.expect("the binary starts");
        let json = serde_json::from_slice(&output.stdout).expect("JSON on standard output");
        (output.status.code().unwrap_or(-1), json)
    }

    /// The process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything logged so far.
    pub(crate) fn log(&self) -> &str {
        &self.log
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// Stops reading the log; the pipe fills from now on.
    pub(crate) fn stop_reading(&mut self) -> ChildStderr {
        self.stderr.take().expect("it was read until now")
    }

    /// Reads the log again.
    pub(crate) fn read_again(&mut self, stderr: ChildStderr) {
        self.stderr = Some(stderr);
    }

    /// Waits up to `limit` for log output or the end; reads what there is.
    fn pump(&mut self, limit: Duration) {
        let timeout = Timespec::try_from(limit).expect("short");
        let readable = {
            let mut fds = vec![PollFd::new(&self.pidfd, PollFlags::IN)];
            if let Some(pipe) = &self.stderr {
                fds.push(PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::IN));
            }
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => panic!("poll: {e}"),
            }
            fds.get(1).is_some_and(|fd| !fd.revents().is_empty())
        };
        if !readable {
            return;
        }
        let mut bytes = [0; 65_536];
        let pipe = self.stderr.as_mut().expect("it was polled");
        match pipe.read(&mut bytes) {
            Ok(0) => self.stderr = None,
            Ok(n) => self.log.push_str(&String::from_utf8_lossy(&bytes[..n])),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => panic!("reading the log: {e}"),
        }
    }

    /// Lets `span` pass, reading what is logged meanwhile.
    pub(crate) fn idle(&mut self, span: Duration) {
        let begin = now();
        loop {
            let waited = now().since(begin);
            if waited >= span {
                return;
            }
            self.pump(span - waited);
        }
    }

    /// The next whole log line that holds `needle`; lines before it are passed over.
    pub(crate) fn wait_line(&mut self, needle: &str) -> String {
        let begin = now();
        loop {
            while let Some(end) = self.log[self.seen..].find('\n') {
                let line = self.log[self.seen..self.seen + end].to_owned();
                self.seen += end + 1;
                if line.contains(needle) {
                    return line;
                }
            }
            let waited = now().since(begin);
            assert!(waited < PATIENCE, "no {needle:?} within {PATIENCE:?}; log:\n{}", self.log);
            assert!(self.stderr.is_some(), "ended without {needle:?}; log:\n{}", self.log);
            self.pump(PATIENCE.saturating_sub(waited));
        }
    }

    /// The value of `key=` in the next line that holds `needle`.
    pub(crate) fn wait_value(&mut self, needle: &str, key: &str) -> String {
        let line = self.wait_line(needle);
        value_of(&line, key).unwrap_or_else(|| panic!("no {key}= in {line:?}"))
    }

    /// Waits for the end; the exit code (128+n for a signal) and how long it took.
    pub(crate) fn wait_exit(&mut self) -> (i32, Duration) {
        use std::os::unix::process::ExitStatusExt;
        let begin = now();
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                while self.stderr.is_some() {
                    self.pump(Duration::from_millis(100));
                }
                let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
                return (code, now().since(begin));
            }
            let waited = now().since(begin);
            assert!(waited < PATIENCE, "still there after {PATIENCE:?}; log:\n{}", self.log);
            self.pump(PATIENCE.saturating_sub(waited));
        }
    }

    /// Asks `addr` for `target` until `accept` likes the JSON answer.
    pub(crate) fn wait_json(
        &mut self,
        addr: SocketAddr,
        target: &str,
        what: &str,
        accept: impl Fn(&Value) -> bool,
    ) -> Value {
        let begin = now();
        loop {
            let answer = http(addr, "GET", target, "")
                .ok()
                .and_then(|(_, body)| serde_json::from_str(&body).ok());
            if let Some(value) = answer.as_ref().filter(|v| accept(v)) {
                return value.clone();
            }
            let last = answer.unwrap_or(Value::Null);
            assert!(
                now().since(begin) < PATIENCE,
                "{what}: not within {PATIENCE:?}; last answer {last:#}\nlog:\n{}",
                self.log
            );
            self.pump(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already reaped is what a test that went well leaves.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of `key=` in a log line, without quotes.
pub(crate) fn value_of(line: &str, key: &str) -> Option<String> {
    let at = line.find(&format!(" {key}=")).map(|i| i + key.len() + 2)?;
    let rest = &line[at..];
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next().map(str::to_owned),
        None => rest.split(' ').next().map(str::to_owned),
    }
}

/// One HTTP request; the status and the body.
pub(crate) fn http(
    addr: SocketAddr,
    method: &str,
    target: &str,
    body: &str,
) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    write!(
        stream,
        "{method} {target} HTTP/1.1\r\nHost: {addr}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").ok_or(ErrorKind::InvalidData)?;
    let status =
        head.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or(ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}
