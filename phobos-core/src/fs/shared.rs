//! Folders that everybody may look into, whatever the umask of who makes them.

use std::fs::{self, DirBuilder, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

/// Makes `folder`, and those above it that are missing, so that everybody may look into them: a unit's `UMask=` is about
/// what it writes, not about what others share with it.
///
/// # Errors
///
/// When one of them cannot be made; those above it are there by then.
pub fn make_shared(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_shared(above)?;
    }
    match DirBuilder::new().mode(0o755).create(folder) {
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(0o755)),
        // Another process was first.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::{Exec, Invocation, System};

    /// Runs in a process of its own, because the umask is the whole process's.
    #[test]
    fn a_shared_folder_is_everybodys_from_its_top_whatever_the_umask() {
        const FOLDER: &str = "PHOBOS_TEST_FOLDER";
        if let Some(folder) = std::env::var_os(FOLDER) {
            return make_shared(Path::new(&folder)).unwrap();
        }
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("phobos/led");
        let me = std::env::current_exe().unwrap();
        let name = "fs::shared::tests::a_shared_folder_is_everybodys_from_its_top_whatever_the_umask";
        let call = Invocation::new("sh").args(["-c", "umask 077; exec \"$0\" --exact \"$1\""]).arg(me).arg(name);
        System::default().run(&call.env(FOLDER, &folder)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!([folder.parent().unwrap(), &folder].map(mode), [0o755; 2]);
        make_shared(&folder).unwrap();
        fs::write(top.path().join("file"), "").unwrap();
        assert!(make_shared(&top.path().join("file/led")).is_err());
    }
}
