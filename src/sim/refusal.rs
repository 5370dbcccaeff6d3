//! Refusals with the venue's codes, words and HTTP status; after `errors.md` of the venue's documentation.

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status, also the `status` of WebSocket API answers.
    pub status: u16,
    /// The venue's code.
    pub code: i32,
    /// The venue's words.
    pub msg: String,
    /// JSON that comes with it: both halves of a cancel-replace.
    pub data: Option<String>,
    /// When a request may be tried again, in milliseconds since 1970.
    pub retry_after_ms: Option<i64>,
}

/// Shorthand for answers of this module's callers.
pub type Answer<T> = Result<T, Refusal>;

impl Refusal {
    /// A refusal with status 400.
    pub fn new(code: i32, msg: impl Into<String>) -> Self {
        Self { status: 400, code, msg: msg.into(), data: None, retry_after_ms: None }
    }

    /// A refusal with status 401: a key that is no key here.
    pub fn unauthorized(code: i32, msg: &str) -> Self {
        Self { status: 401, ..Self::new(code, msg) }
    }

    /// A limit of the venue: 429, or 418 for who went on.
    pub fn limited(status: u16, code: i32, msg: String, retry_after_ms: i64) -> Self {
        Self { status, retry_after_ms: Some(retry_after_ms), ..Self::new(code, msg) }
    }

    /// Optional parameters that do not go together.
    pub fn combination() -> Self {
        Self::new(-1128, "Combination of optional parameters invalid.")
    }

    /// A mandatory parameter is missing.
    pub fn missing(name: &str) -> Self {
        let msg =
            format!("Mandatory parameter '{name}' was not sent, was empty/null, or malformed.");
        Self::new(-1102, msg)
    }

    /// One of two parameters is missing.
    pub fn missing_either(a: &str, b: &str) -> Self {
        Self::new(-1102, format!("Param '{a}' or '{b}' must be sent, but both were empty/null!"))
    }

    /// A parameter that this order kind does not take.
    pub fn not_required(name: &str) -> Self {
        Self::new(-1106, format!("Parameter '{name}' sent when not required."))
    }

    /// A parameter's text is not in the legal range.
    pub fn illegal(name: &str, range: &str) -> Self {
        let msg =
            format!("Illegal characters found in parameter '{name}'; legal range is '{range}'.");
        Self::new(-1100, msg)
    }

    /// A parameter's value is none that there is.
    pub fn invalid(name: &str) -> Self {
        Self::new(-1130, format!("Data sent for parameter '{name}' is not valid."))
    }

    /// A filter of the symbol.
    pub fn filter(name: &str) -> Self {
        Self::new(-1013, format!("Filter failure: {name}"))
    }

    /// The matching engine's refusal of an order.
    pub fn order(msg: &str) -> Self {
        Self::new(-2010, msg)
    }

    /// The matching engine's refusal of a cancel.
    pub fn cancel(msg: &str) -> Self {
        Self::new(-2011, msg)
    }

    /// The matching engine's refusal of an amendment.
    pub fn amend(msg: &str) -> Self {
        Self::new(-2038, msg)
    }

    /// There is no such symbol.
    pub fn symbol() -> Self {
        Self::new(-1121, "Invalid symbol.")
    }
}
