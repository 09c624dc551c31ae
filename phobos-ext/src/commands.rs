//! What phobos-ext can be told to do: a module for each word, with the sequence of its steps.

pub(crate) mod adopt;
pub(crate) mod close;
pub(crate) mod drives;
pub(crate) mod hold;
pub(crate) mod mirror;
pub(crate) mod open;
