//! Placeholder until the part it measures exists.
fn main() {}
