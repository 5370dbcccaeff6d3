//! What happened, written down before it is acted on.
