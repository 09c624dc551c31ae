//! The verdict: what is to be done with a drive, by what both sides show, before anything on either is changed.

use phobos_core::copy::Plan;

use crate::gate::{self, Side};
use crate::progress::Monitor;
use crate::seen::Seen;
use crate::source::Source;

/// That a mirror may be made, and how.
pub(crate) struct Verdict {
    /// What of the repository is to be done.
    pub(crate) plan: Plan,
    /// Whether that is nothing.
    pub(crate) is_same: bool,
    /// What the drive has shown.
    pub(crate) seen: Seen,
}

/// Judges what was seen of the drive beside its source.
///
/// # Errors
///
/// If the copy is not one that the source has come from, unless exactly that was `accepted`.
pub(crate) fn judge<'m>(
    mut seen: Seen,
    source: &Source<'_>,
    accepted: Option<&str>,
    monitor: &dyn Fn() -> Monitor<'m>,
) -> Result<Verdict, anyhow::Error> {
    let look = std::mem::take(&mut seen.look);
    let mut plan = Plan::of(&source.survey, &look.survey);
    let is_same = !look.has_passing && source.survey == look.survey;
    // The largest that is in memory, twice with what is looked at again in the end.
    drop(look);
    if is_same {
        plan.steps = Vec::new();
    }
    let side = seen.copy.as_ref().zip(seen.state.take()).map(|(dir, state)| Side { state, dir });
    let mut findings = gate::judge(&source.side, side.as_ref(), &mut plan, &mut monitor().handler())?;
    drop(side);
    findings.append(&mut seen.apart.lost);
    gate::pass(&findings, accepted)?;
    Ok(Verdict { plan, is_same, seen })
}
