//! A setting: a value that a person may change while the engine runs.
//!
//! In: new values, from a cold thread. Out: the newest one, to each generation at its start; and news, to the actor
//! that runs. What always holds: asking for news takes no lock and allocates nothing; a generation that took the news
//! and died keeps nothing from the next one, which starts with the newest value.

use std::sync::{Arc, PoisonError};

use crate::sync::Mutex;
use crate::sync::queue::ArrayQueue;

/// A value that may change; clones share it. One actor at a time asks for news.
#[derive(Debug)]
pub struct Setting<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    newest: Mutex<T>,
    news: ArrayQueue<T>,
}

impl<T> Clone for Setting<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone> Setting<T> {
    /// A setting that nobody has changed yet.
    pub fn new(value: T) -> Self {
        Self(Arc::new(Shared { newest: Mutex::new(value), news: ArrayQueue::new(1) }))
    }

    /// The newest value. Takes a lock: for starts, not for turns.
    pub fn newest(&self) -> T {
        // Every write is one assignment: a panic elsewhere leaves a whole value.
        self.0.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the value. News that nobody took are replaced.
    pub fn set(&self, value: T) {
        let mut newest = self.0.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = value.clone();
        drop(self.0.news.force_push(value));
    }

    /// The value, if it was changed since the last call; may also tell a new generation what it started with.
    pub fn news(&self) -> Option<T> {
        self.0.news.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_news_are_told_once_and_the_value_stays() {
        let setting = Setting::new(1);
        assert_eq!((setting.newest(), setting.news()), (1, None));
        let other = setting.clone();
        other.set(2);
        other.set(3);
        assert_eq!((setting.newest(), setting.news(), setting.news()), (3, Some(3), None));
        assert_eq!(setting.newest(), 3);
    }
}
