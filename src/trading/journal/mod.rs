//! What happened, written down before it is acted on.
//!
//! Entries come in through two mailboxes (order and report records; market records) and go out as append-only
//! segments of checksummed records. What always holds: a record's bytes depend on the entry alone, so that one
//! seed gives one journal; a file that was cut at any byte opens again with every whole record before the cut.

// Numbers and texts <-> bytes.
mod bytes;
// One entry <-> its bytes.
pub mod record;
// What a file says before its first record.
pub mod head;
// Files of records: rotation, recovery.
pub mod segment;
// The actor: batches in, one write out, the watermark moved.
pub mod writer;
// For people: verify and dump.
pub mod read;

pub use head::{CarriedPosition, InstrumentRow};
pub use read::{VerifyReport, dump, verify};
pub use segment::{JournalError, Recovery, recover};
pub use writer::{JournalPorts, JournalSettings, JournalWriter, OrderRecords, SyncPolicy};
