//! Stage 3: top of book and execution reports in, order intents out.
