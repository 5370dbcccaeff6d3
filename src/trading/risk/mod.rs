//! The gate between what a strategy wants and what is sent.

// The checks, in order; sole constructor of `Approved`.
pub mod gate;
