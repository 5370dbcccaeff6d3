//! A venue to trade against, locally, in the real dialect.
