//! How actors run. Knows nothing of trading and imports only the clock; could leave as a crate.

pub mod actor;
pub mod health;
pub mod mailbox;
pub mod view;
pub mod wake;
