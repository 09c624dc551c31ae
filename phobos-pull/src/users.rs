//! The user that what a host sends belongs to, as the programs that handle it see it.

use anyhow::Context;
use phobos_core::exec::{Exec, Invocation};
use phobos_core::sandbox::{Alias, Lent};
use phobos_site::paths::Paths;
use std::path::Path;

use crate::allowed::USER;

/// Lends what the user `owner` finds in the place of the system's users, as the file `name`: it has a name there.
///
/// # Errors
///
/// If the system's users cannot be read, or the file cannot be made.
pub(crate) fn lend(owner: u32, paths: &Paths, name: &str) -> Result<Lent, anyhow::Error> {
    let users = Alias::users(owner, USER).context("cannot read the users of this machine")?;
    Ok(Lent::text(&users, owner, &paths.runtime.join("pull"), name)?)
}

/// Ends what a confined program has started and left behind: all processes of the user `owner`; `program` is this one. Root
/// is nobody's own user.
///
/// # Errors
///
/// If they cannot be ended.
pub(crate) fn sweep(exec: &dyn Exec, program: &Path, owner: u32) -> Result<(), anyhow::Error> {
    if owner == 0 {
        return Ok(());
    }
    let program = program.to_string_lossy().into_owned();
    let call = Invocation::new(&program).args(["sweep", &owner.to_string()]).shielded();
    exec.run(&call).with_context(|| format!("cannot end the processes of the user {owner}"))?;
    Ok(())
}
