//! Stage 1: bytes in, market updates out.
