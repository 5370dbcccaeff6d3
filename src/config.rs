//! The configuration.
pub mod tree;
