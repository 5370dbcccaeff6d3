//! The builder as an actor.
