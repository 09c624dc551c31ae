//! Errors as a program ends with them: all sources on one line, and what kind of end it is.

use std::error::Error;
use std::fmt;

/// An error and all its sources, joined by colons, on one line.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

/// What kind of end an error stands for; a program gives each kind an exit code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Something did not work.
    Failed,
    /// A source or a drive is not what it should be, and nothing was done to it.
    Refused,
    /// What was asked for is not there.
    Absent,
    /// Somebody else holds what is needed; later it may work.
    Busy,
    /// This user may not do it.
    NotPermitted,
    /// Something on this machine has to be set up or put right first.
    Config,
    /// This signal ended the work.
    Signal(i32),
    /// The kind that the error's source is of, or [`Class::Failed`].
    Source,
}

/// An error that knows what kind of end it stands for.
///
/// Implementations match all variants: a new one does not compile until somebody has decided.
pub trait Classified: Error {
    /// The kind of end.
    fn class(&self) -> Class;
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut next = self.0.source();
        while let Some(source) = next {
            write!(f, ": {source}")?;
            next = source.source();
        }
        Ok(())
    }
}
