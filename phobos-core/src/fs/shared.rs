//! Folders and files at paths that are the caller's own: made with the modes that they are to have, whatever the umask, and
//! never through a link in their own place.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use super::{Dir, Durability, FsError, Kind, Stat};

/// Makes `folder`, and those above it that are missing, so that everybody may look into them: a unit's `UMask=` is about
/// what it writes, not about what others share with it.
///
/// # Errors
///
/// When one of them cannot be made; those above it are there by then.
pub fn make_shared(folder: &Path) -> io::Result<()> {
    make_below(folder, 0o755).map(drop)
}

/// Makes `folder` for its owner alone, and those above it that are missing for everybody to look into. One that is there
/// keeps its permissions.
///
/// # Errors
///
/// When one of them cannot be made; those above it are there by then.
pub fn make_private(folder: &Path) -> io::Result<()> {
    make_below(folder, 0o700).map(drop)
}

/// Makes `folder` so that everybody can get through it and only its owner can list it, whatever mode an earlier run has left
/// it with.
///
/// # Errors
///
/// If it cannot be made, is no folder but a link or a file, or is somebody else's.
pub fn make_passage(folder: &Path) -> io::Result<()> {
    let (above, name) = place(folder)?;
    make_shared(above)?;
    let folder = Dir::open(above)?.make_dir(Path::new(name), 0o711)?;
    Ok(folder.set_mode(0o711)?)
}

/// Puts a file with these bytes and permissions at `path`, in one step; see [`Dir::replace`].
///
/// # Errors
///
/// When its folder is missing, or it cannot be written; what was there is still there.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> io::Result<()> {
    let (above, name) = place(path)?;
    Ok(Dir::open(above)?.replace(Path::new(name), bytes, mode, durability)?)
}

/// Writes `bytes` into the file `path`, which is there: a setting of the kernel's, as sysfs has them.
///
/// # Errors
///
/// When there is none, when a link or anything else is there, or when it is not taken.
pub fn set(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    match Stat::from(&rustix::fs::fstat(&file)?).kind {
        Kind::File => io::Write::write_all(&mut std::fs::File::from(file), bytes),
        found => Err(io::Error::other(format!("it is {}", found.name()))),
    }
}

fn make_below(folder: &Path, mode: u32) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let (above, name) = place(folder)?;
    make_below(above, 0o755)?;
    Ok(Dir::open(above)?.make_dir(Path::new(name), mode).map(drop)?)
}

/// The folder that `path` is in, and its name there.
fn place(path: &Path) -> io::Result<(&Path, &OsStr)> {
    let above = path.parent().map(|above| if above.as_os_str().is_empty() { Path::new(".") } else { above });
    above.zip(path.file_name()).ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "this is no name in a folder"))
}

impl From<FsError> for io::Error {
    fn from(error: FsError) -> Self {
        match error {
            // The caller says on what.
            FsError::Io { source, .. } => source,
            other => Self::other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

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

    #[test]
    fn nothing_is_made_or_written_through_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("victim"), "whole").unwrap();
        symlink(at("victim"), at("link")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        assert!(set(&at("link"), b"x").is_err());
        assert!(set(&at("missing"), b"x").is_err());
        assert!(make_private(&at("dangling")).is_err());
        assert!(make_passage(&at("dangling")).is_err());
        assert!(!at("nowhere").exists());
        // A link in the file's own place is replaced.
        replace(&at("link"), b"x", 0o640, Durability::Loose).unwrap();
        assert_eq!(fs::read_to_string(at("victim")).unwrap(), "whole");
        assert!(!fs::symlink_metadata(at("link")).unwrap().is_symlink());
        set(&at("link"), b"y").unwrap();
        assert_eq!(fs::read_to_string(at("link")).unwrap(), "y");
        make_private(&at("a/b")).unwrap();
        let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(["a", "a/b", "link"].map(mode), [0o755, 0o700, 0o640]);
    }

    #[test]
    fn a_fifo_is_not_a_setting() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert!(set(&fifo, b"x").is_err());
    }
}
