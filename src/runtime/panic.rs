//! Panics: noted where an actor's code runs, logged elsewhere.
//!
//! `caught` runs an actor's code and gives its panic back as a `PanicNote` with the file and line, which only the
//! hook can see. The hook prints nothing for those: the seat reports them with the actor's name, generation and
//! message in hand. A panic anywhere else, and one that follows another before it was caught (which ends the
//! process), is logged at once and handed to the hook that was there before.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

/// Longer panic messages are cut.
const MESSAGE_MAX: usize = 512;

/// What is known of a panic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PanicNote {
    pub(super) message: String,
    /// `file:line`.
    pub(super) at: String,
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
    static NOTE: RefCell<Option<PanicNote>> = const { RefCell::new(None) };
}

/// Sets the process's panic hook, once; later calls do nothing.
pub fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !note(info) {
                previous(info);
            }
        }));
    });
}

/// Notes the panic for [`caught`]; false when nobody will catch it there.
fn note(info: &PanicHookInfo<'_>) -> bool {
    let message = message_of(info.payload());
    let at = info.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
    if CATCHING.get() {
        let noted = NOTE.with(|slot| {
            let Ok(mut slot) = slot.try_borrow_mut() else { return false };
            let first = slot.is_none();
            if first {
                *slot = Some(PanicNote { message: message.clone(), at: at.clone() });
            }
            first
        });
        if noted {
            return true;
        }
    }
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    log::error!(target: "supervisor", "event=panic thread={thread:?} at={at:?} msg={message:?}");
    false
}

fn message_of(payload: &dyn Any) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a message");
    let mut end = text.len().min(MESSAGE_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

/// Runs `body` and gives its panic back. What `body` was changing must not be used afterwards.
pub(super) fn caught<T>(body: impl FnOnce() -> T) -> Result<T, PanicNote> {
    let outer = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(body));
    CATCHING.set(outer);
    result.map_err(|payload| {
        let noted = NOTE.with(|slot| slot.take());
        let message = message_of(&*payload);
        // A payload may panic in its own drop; it is leaked rather than asked.
        std::mem::forget(payload);
        noted.unwrap_or(PanicNote { message, at: "unknown".to_owned() })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_comes_back_with_its_place() {
        install_hook();
        let note = caught(|| panic!("seven {}", 7)).expect_err("it panicked");
        assert_eq!(note.message, "seven 7");
        assert!(note.at.contains("panic.rs:"), "{}", note.at);
        assert_eq!(caught(|| 3), Ok(3));
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let note = caught(|| panic!("{}", "ä".repeat(1_000))).expect_err("it panicked");
        assert!(note.message.len() <= MESSAGE_MAX);
    }
}
