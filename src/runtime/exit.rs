//! How lives and systems end: reasons and exit codes.

use super::actor::Fault;

/// Drained and verified.
pub const EXIT_OK: i32 = 0;
/// Not up, or not live, in time.
pub const EXIT_UNAVAILABLE: i32 = 69;
/// The restart budget is exhausted.
pub const EXIT_BUDGET: i32 = 70;
/// The system refused something: a thread, a descriptor.
pub const EXIT_SYSTEM: i32 = 71;
/// Input or output failed, and restarts did not help.
pub const EXIT_IO: i32 = 74;
/// An actor wedged.
pub const EXIT_WEDGED: i32 = 75;
/// A drain deadline was missed, or an actor that must drain in full did not.
pub const EXIT_LATE: i32 = 76;
/// The configuration is wrong.
pub const EXIT_CONFIG: i32 = 78;

/// How one life of an actor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// Everything before the pill was handled.
    Drained,
    /// Stopped where it stood, because its drain deadline had passed.
    Deadline,
    /// It said that its work is done.
    Done,
    /// Ended between two turns, because its group is restarted.
    Restarting,
    /// It returned a fault.
    Fault(Fault),
    /// It panicked: the message, and the file and line.
    Panic {
        /// The panic's message.
        message: String,
        /// `file:line` of the panic.
        at: String,
    },
    /// Its factory or its start returned a fault.
    StartFailed(Fault),
}

impl ExitReason {
    /// The word used in status and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Drained => "drained",
            Self::Deadline => "deadline",
            Self::Done => "done",
            Self::Restarting => "restarting",
            Self::Fault(_) => "fault",
            Self::Panic { .. } => "panic",
            Self::StartFailed(_) => "start_failed",
        }
    }

    /// Whether the actor ended as it was asked to.
    pub fn is_normal(&self) -> bool {
        matches!(self, Self::Drained | Self::Deadline | Self::Done | Self::Restarting)
    }

    /// Whether nothing was left undone.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self, Self::Drained | Self::Done)
    }

    /// The exit code of a system that gives up because of this.
    pub(super) fn give_up_code(&self) -> i32 {
        match self {
            Self::Fault(Fault::Io(_)) | Self::StartFailed(Fault::Io(_)) => EXIT_IO,
            _ => EXIT_BUDGET,
        }
    }

    pub(super) fn is_retry(&self) -> bool {
        matches!(self, Self::StartFailed(Fault::Retry(_)))
    }

    pub(super) fn is_config(&self) -> bool {
        matches!(self, Self::Fault(Fault::Config(_)) | Self::StartFailed(Fault::Config(_)))
    }
}

/// Why the system stops, and the exit code that this alone would give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopReason {
    /// In words, for the log and the report.
    pub text: String,
    /// The code unless something worse happens.
    pub code: i32,
}

impl StopReason {
    /// Stopping because somebody asked for it.
    pub fn asked(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: EXIT_OK }
    }
}
