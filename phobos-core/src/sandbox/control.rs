//! The place of one socket and one log, for a confined ssh that shares its connection with those after it.
//!
//! ssh needs local sockets for that, and those lead past Landlock: whoever may open one can talk to every service of the
//! machine. So what is in `/run`, where such services listen, is hidden from a program that gets this place.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{AccessFs, BitFlags, make_bitflags};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rustix::fs::{Mode, OFlags};

use super::READABLE;
use crate::fs::{Dir, Durability, make_passage, make_private, make_shared, replace};

/// Where services of the machine have their sockets.
const SERVICES: &str = "/run";

/// The name of the log in the place.
const LOG: &str = "log";

/// How large the place is, and how many names it has room for: it is in memory, and a hostile program may fill it.
const SIZE: &str = "size=64k,nr_inodes=16";

/// The same where a program keeps notes.
const ROOMY: &str = "size=8m,nr_inodes=256";

/// How much of the log is read at once.
const MOST: u64 = 16 * 1024;

/// A small file system in memory, which one user can write to and nobody else.
#[derive(Debug)]
pub struct Control {
    folder: Option<PathBuf>,
}

impl Control {
    /// Mounts one at `folder` for the user with the number `owner`, in this process's mount namespace; one that was left by
    /// a process that was killed is replaced.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made, or the system does not mount it; nothing is mounted then.
    pub fn new(folder: &Path, owner: u32) -> io::Result<Self> {
        Self::with_room(folder, owner, SIZE)
    }

    /// The same with room for a program's own notes, such as those that Borg makes of each repository that it reads.
    ///
    /// # Errors
    ///
    /// As for [`Control::new`].
    pub fn for_notes(folder: &Path, owner: u32) -> io::Result<Self> {
        Self::with_room(folder, owner, ROOMY)
    }

    fn with_room(folder: &Path, owner: u32, room: &str) -> io::Result<Self> {
        folder.parent().map_or(Ok(()), make_passage)?;
        let mut control = Self { folder: Some(folder.to_owned()) };
        control.clear()?;
        make_private(folder)?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let options = format!("mode=700,uid={owner},gid={owner},{room}");
        mount(Some("phobos"), folder, Some("tmpfs"), flags, Some(options.as_str()))?;
        control.folder = Some(folder.to_owned());
        Ok(control)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        self.folder.as_deref().unwrap_or(Path::new(""))
    }

    /// Where the log is.
    pub fn log(&self) -> PathBuf {
        self.folder().join(LOG)
    }

    /// What has come into the log since its byte `heard`, and where that ends; it is a stranger's, and cut.
    pub fn read(&self, heard: u64) -> (String, u64) {
        let read = || -> io::Result<Vec<u8>> {
            let folder = Dir::open(self.folder()).map_err(io::Error::other)?;
            let mut file: File = folder.open_file(Path::new(LOG)).map_err(io::Error::other)?;
            file.seek(SeekFrom::Start(heard))?;
            let mut bytes = Vec::new();
            file.take(MOST).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        // Nothing was logged, or nothing that can be read: what else was said has to do.
        let bytes = read().unwrap_or_default();
        let end = heard.saturating_add(u64::try_from(bytes.len()).unwrap_or_default());
        (String::from_utf8_lossy(&bytes).into_owned(), end)
    }

    /// Takes away one that a process that was killed has left at `folder`.
    ///
    /// # Errors
    ///
    /// When it cannot be unmounted or removed.
    pub fn remove(folder: &Path) -> io::Result<()> {
        Self { folder: Some(folder.to_owned()) }.close()
    }

    /// Takes it away.
    ///
    /// # Errors
    ///
    /// When it cannot be unmounted or removed.
    pub fn close(mut self) -> io::Result<()> {
        let result = self.clear();
        self.folder = None;
        result
    }

    fn clear(&self) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        loop {
            // Whoever is still in it keeps it for itself.
            match umount2(folder, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) => {}
                Err(Errno::EINVAL | Errno::ENOENT) => break,
                Err(error) => return Err(error.into()),
            }
        }
        match fs::remove_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            log::error!("cannot take {} away: {error}", self.folder().display());
        }
    }
}

/// What a program may do in the place: make a socket, give it its name, and keep a log.
pub(super) fn rights() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | MakeReg | MakeSock | RemoveFile})
}

/// Hides [`SERVICES`] behind an empty folder in this process's own mount namespace, but for `shown` and what finds names.
pub(super) fn hide_services(shown: &[&Path]) -> io::Result<()> {
    let names = READABLE.iter().map(Path::new);
    let wanted = names.chain(shown.iter().copied()).filter(|path| path.starts_with(SERVICES));
    let mut kept: Vec<(PathBuf, OwnedFd, bool)> = Vec::new();
    for path in wanted {
        match rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(opened) => kept.push((path.to_owned(), opened, path.is_dir())),
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("phobos"), SERVICES, Some("tmpfs"), flags, Some("mode=755,size=64k,nr_inodes=256"))?;
    for (path, opened, is_folder) in kept {
        // Whatever the umask: the program is to get through, as another user.
        if is_folder {
            make_shared(&path)?;
        } else {
            path.parent().map_or(Ok(()), make_shared)?;
            replace(&path, b"", 0o644, Durability::Loose)?;
        }
        let source = PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()));
        mount(Some(&source), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    }
    Ok(())
}
