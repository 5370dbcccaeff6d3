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
    let shared = Arc::new(Shared { args, reload: Mutex::new(reload), requests: AtomicU32::new(0) });
    move || {
        if shared.args.config.is_none() {
            log::info!(target: "engine", "event=reload.none why=\"there is no configuration file\"");
            return;
        }
        if shared.requests.fetch_add(1, Ordering::SeqCst) > 0 {
            // A thread is at it, and reads once more.
            return;
        }
        let reader = Arc::clone(&shared);
        if let Err(e) = thread::spawn("reload", move || reader.run()) {
            shared.requests.store(0, Ordering::SeqCst);
            log::error!(target: "engine", "event=reload.failed why=\"no thread: {e}\"");
        }
    }
}

struct Shared {
    args: ConfigArgs,
    reload: Mutex<Reload>,
    /// Requests since the reading thread began to read last.
    requests: AtomicU32,
}

impl Shared {
    /// Reads until nobody has asked again meanwhile.
    fn run(&self) {
        loop {
            let asked = self.requests.load(Ordering::SeqCst);
            self.read_once();
            let done = self.requests.compare_exchange(asked, 0, Ordering::SeqCst, Ordering::SeqCst);
            if done.is_ok() {
                return;
            }
        }
    }

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
