//! What SIGHUP does: the configuration is read once more on a thread of its own, and the log says what became of it.
//!
//! What always holds: the supervisor only counts the request; one thread at a time reads, so that a file system that
//! hangs costs a thread and nothing else; a request that comes while it reads is not forgotten.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::runtime::thread;
use crate::topology::reload::{Change, Effect, Reload};

use super::{ConfigArgs, load_tree};

/// What to do on SIGHUP. Without a configuration file there is nothing to read again.
pub(super) fn on_hang_up(args: ConfigArgs, reload: Reload) -> impl FnMut() + Send + 'static {
    let requests = Requests::default();
    let shared = Arc::new(Shared { args, reload: Mutex::new(reload), requests });
    move || {
        if shared.args.config.is_none() {
            log::info!(target: "engine", "event=reload.none why=\"there is no configuration file\"");
            return;
        }
        if !shared.requests.add() {
            log::info!(target: "engine", "event=reload.busy why=\"a thread is at it and reads once more\"");
            return;
        }
        let reader = Arc::clone(&shared);
        let read = move || reader.requests.serve(|| reader.read_once());
        if let Err(e) = thread::spawn("reload", read) {
            shared.requests.forget();
            log::error!(target: "engine", "event=reload.failed why=\"no thread: {e}\"");
        }
    }
}

struct Shared {
    args: ConfigArgs,
    reload: Mutex<Reload>,
    requests: Requests,
}

/// Requests since the reading thread began to read last; 0 while no thread reads.
#[derive(Default)]
struct Requests(AtomicU32);

impl Requests {
    /// One more; whether a thread is to be made for it.
    fn add(&self) -> bool {
        self.0.fetch_add(1, Ordering::SeqCst) == 0
    }

    /// No thread reads.
    fn forget(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    /// Reads until nobody has asked again meanwhile. A panic ends this reading, and not those that come after it.
    fn serve(&self, mut read: impl FnMut()) {
        let panicked = Panicked(self);
        loop {
            let asked = self.0.load(Ordering::SeqCst);
            read();
            let done = self.0.compare_exchange(asked, 0, Ordering::SeqCst, Ordering::SeqCst);
            if done.is_ok() {
                break;
            }
        }
        std::mem::forget(panicked);
    }
}

/// Dropped by a panic only.
struct Panicked<'a>(&'a Requests);

impl Drop for Panicked<'_> {
    fn drop(&mut self) {
        self.0.forget();
        log::error!(target: "engine", "event=reload.failed why=\"the reading panicked\"");
    }
}

impl Shared {
    fn read_once(&self) {
        let mut reload = self.reload.lock().unwrap_or_else(PoisonError::into_inner);
        let read = load_tree(&self.args)
            .map_err(|e| e.0.iter().map(ToString::to_string).collect::<Vec<_>>());
        match read.and_then(|tree| reload.apply(&tree, self.args.mode)) {
            Ok(changes) => tell(self.args.config.as_deref(), &changes),
            Err(errors) => {
                for why in &errors {
                    log::error!(target: "engine", "event=reload.error why={why:?}");
                }
                log::error!(target: "engine", "event=reload.refused errors={}", errors.len());
            }
        }
    }
}

fn tell(file: Option<&Path>, changes: &[Change]) {
    let count = |effect: Effect| changes.iter().filter(|c| c.effect == effect).count();
    for Change { key, from, to, effect } in changes {
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "default".to_owned());
        let (from, to, effect) = (shown(from), shown(to), effect.label());
        log::info!(target: "engine", "event=reload.{effect} key={key} from={from:?} to={to:?}");
    }
    let (applied, restart) = (count(Effect::Applied), count(Effect::NeedsRestart));
    let overridden = count(Effect::Overridden);
    log::info!(
        target: "engine",
        "event=reload.done applied={applied} needs_restart={restart} overridden={overridden} config={:?}",
        file.unwrap_or(Path::new("none"))
    );
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_request_while_one_is_read_is_read_as_well() {
        let requests = Requests::default();
        assert!(requests.add());
        let mut times = 0;
        requests.serve(|| {
            times += 1;
            assert!(times > 1 || !requests.add(), "a thread is at it");
        });
        assert_eq!(times, 2);
        assert!(requests.add(), "the thread has ended");
    }

    #[test]
    fn a_panic_does_not_end_reloading() {
        let requests = Requests::default();
        assert!(requests.add());
        let ended = catch_unwind(AssertUnwindSafe(|| requests.serve(|| panic!("on purpose"))));
        assert!(ended.is_err());
        assert!(requests.add(), "the next request makes a thread");
    }
}
