//! Work and clean-up: both may fail, and neither error may be lost.

use std::error::Error;
use std::fmt;

use crate::error::Chain;

type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// Something that must be closed, and whose closing can fail.
pub trait Close {
    /// Closes it.
    ///
    /// # Errors
    ///
    /// When it stays open, or when that cannot be proven.
    fn close(self) -> Result<(), TeardownError>;
}

/// What went wrong in some work, in the clean-up after it, or in both.
#[derive(Debug)]
pub struct TeardownError {
    first: BoxError,
    then: Option<BoxError>,
}

/// Joins the outcome of some work with that of its clean-up.
///
/// # Errors
///
/// The work's error, the clean-up's, or both in that order.
pub fn join<T, E, F>(work: Result<T, E>, clean_up: Result<(), F>) -> Result<T, TeardownError>
where
    E: Into<BoxError>,
    F: Into<BoxError>,
{
    match (work, clean_up) {
        (Ok(value), Ok(())) => Ok(value),
        (Err(first), Ok(())) => Err(TeardownError { first: first.into(), then: None }),
        (Ok(_), Err(first)) => Err(TeardownError { first: first.into(), then: None }),
        (Err(first), Err(then)) => Err(TeardownError { first: first.into(), then: Some(then.into()) }),
    }
}

impl TeardownError {
    /// One error alone.
    pub fn of(error: impl Into<BoxError>) -> Self {
        Self { first: error.into(), then: None }
    }
}

/// Nothing below needs closing.
impl Close for () {
    fn close(self) -> Result<(), TeardownError> {
        Ok(())
    }
}

impl<C: Close> Close for Option<C> {
    fn close(self) -> Result<(), TeardownError> {
        self.map_or(Ok(()), Close::close)
    }
}

impl fmt::Display for TeardownError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.then {
            None => self.first.fmt(f),
            Some(then) => {
                write!(f, "{}; then: {}", Chain(self.first.as_ref()), Chain(then.as_ref()))
            }
        }
    }
}

impl Error for TeardownError {
    /// The first error's source, or the first error itself where the message has told both whole chains.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.then {
            None => self.first.source(),
            Some(_) => None,
        }
    }
}

impl TeardownError {
    /// The error that came first: the one that an exit code should be about.
    pub fn first(&self) -> &(dyn Error + Send + Sync + 'static) {
        self.first.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(work: Result<(), &str>, clean_up: Result<(), &str>) -> String {
        join(work, clean_up).map_or_else(|error| Chain(&error).to_string(), |()| "done".to_owned())
    }

    #[test]
    fn no_error_is_lost() {
        assert_eq!(said(Ok(()), Ok(())), "done");
        assert_eq!(said(Err("cannot copy"), Ok(())), "cannot copy");
        assert_eq!(said(Ok(()), Err("cannot close")), "cannot close");
        assert_eq!(said(Err("cannot copy"), Err("cannot close")), "cannot copy; then: cannot close");
    }
}
