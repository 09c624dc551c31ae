//! How far a run goes.

/// How far a run goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// It copies, and deletes what may be deleted.
    Usual,
    /// It deletes all that the hosts no longer have, this once.
    AllowDelete,
    /// It says what it would do.
    DryRun,
}
