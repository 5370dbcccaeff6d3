//! Stage 2: market updates in, top of book out.
