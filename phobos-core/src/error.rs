//! Errors as a program reports them: all sources on one line, and a class that stands for an exit code.

use std::error::Error;
use std::fmt;

/// An error and all its sources, joined by colons, on one line.
#[derive(Debug)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

/// The class of an error; a program gives each class an exit code of its own.
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
    /// The configuration, or something that has to be installed, is missing or wrong.
    Config,
    /// This signal ended the work.
    Signal(i32),
    /// The class of the error's source, or [`Class::Failed`].
    Source,
}

/// An error that knows its class.
///
/// Implementations match all variants: a new one does not compile until somebody has decided.
pub trait Classified: Error {
    /// The class.
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
