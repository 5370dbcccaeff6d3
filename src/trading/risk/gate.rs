//! The risk gate: an order intent goes in, [`Approved`] or a named refusal comes out.

/// An order that the gate has let through. There is one constructor, private to this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Approved<T>(T);

impl<T> Approved<T> {
    /// What was approved.
    pub fn get(&self) -> &T {
        &self.0
    }

    /// Only for tests of encoders, which need something approved to encode.
    #[cfg(test)]
    pub(crate) fn for_encoder_test(value: T) -> Self {
        Self(value)
    }
}
