//! The feed reader over memory streams.
