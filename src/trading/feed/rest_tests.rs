//! The rest worker against a scripted client.
