//! Stage 4: intents in, order bytes out; reports back.
