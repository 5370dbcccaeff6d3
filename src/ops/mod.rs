//! A page to look at it: status, metrics, dashboard, log. Control plane: never on the hot path.
//!
//! What comes in: health cells, mailbox books and views, which the actors fill on their own account; HTTP requests;
//! log records. What goes out: JSON, text, HTML, lines. What always holds: nothing here can change the engine's
//! state, and nothing here makes an actor wait.

// What is looked at: cells, edges, views, and what the runtime adds.
pub mod sources;
// Progress: whose heart beats, and whether we looked in time.
pub mod health;
// What is wrong, and how bad it is.
mod verdict;
// Views -> text and numbers.
mod rows;
// The supervisor itself.
mod supervision;
// The one object behind page, metrics and `status.json`.
pub mod status;
// The status as Prometheus text.
pub mod metrics;
// The dashboard.
pub mod page;
// The actor that serves all of it.
pub mod server;
// What is said at the end.
pub mod report;
// Log lines, without ever waiting for whoever reads them.
pub mod logger;
// Changes of state, told to the log.
pub mod watch;
