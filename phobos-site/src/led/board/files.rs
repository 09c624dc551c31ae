//! A post as a file: written as a whole, and understood or told why not.

use std::io;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use phobos_core::error::Chain;
use phobos_core::fs::{Dir, Durability, FsError, make_shared};
use phobos_core::process::Process;
use serde::{Deserialize, Serialize};

use super::super::State;
use super::{LedError, is_job_name};

/// The version of the files; another one is not understood.
pub(super) const VERSION: u32 = 1;

/// How large a file of a post may be, in bytes.
const POST_LIMIT: u64 = 64 * 1024;

/// A post as it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Post {
    pub(super) version: u32,
    pub(super) state: State,
    pub(super) text: String,
    /// In milliseconds since 1970.
    #[serde(with = "chrono::serde::ts_milliseconds")]
    pub(super) since: DateTime<Utc>,
    pub(super) boot: String,
    pub(super) process: Option<Process>,
}

/// A job's name and its post, or the reason why that cannot be understood.
pub(super) type NamedPost = (String, Result<Post, String>);

/// What stands in for a file that cannot be understood.
pub(super) fn broken(reason: &str) -> Post {
    Post {
        version: VERSION,
        state: State::Failed,
        text: format!("its file cannot be understood: {reason}"),
        since: DateTime::UNIX_EPOCH,
        boot: String::new(),
        process: None,
    }
}

/// The posts in `folder`, each understood or with the reason why not; a folder that is not there holds none.
pub(super) fn read_folder(folder: &Path) -> Result<Vec<NamedPost>, LedError> {
    let folder = match Dir::open(folder) {
        Ok(folder) => folder,
        Err(FsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut posts = Vec::new();
    for entry in folder.entries()? {
        let name = entry.name.to_str().and_then(|name| name.strip_suffix(".json"));
        // Everything else is a lock or a file that is still being written.
        let Some(name) = name.filter(|name| is_job_name(name)) else { continue };
        match folder.read(Path::new(&entry.name), POST_LIMIT) {
            Ok(Some(bytes)) => posts.push((name.to_owned(), understand(&bytes))),
            Ok(None) => {}
            // It has gone since it was seen.
            Err(FsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => posts.push((name.to_owned(), Err(Chain(&error).to_string()))),
        }
    }
    Ok(posts)
}

pub(super) fn understand(bytes: &[u8]) -> Result<Post, String> {
    #[derive(Deserialize)]
    struct Head {
        version: u32,
    }
    // The version first: what follows may have changed with it.
    let Head { version } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if version != VERSION {
        return Err(format!("it is of version {version}"));
    }
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

/// Replaces the post of `job` in `folder` as a whole.
pub(super) fn write(folder: &Dir, job: &str, post: &Post, durability: Durability) -> Result<(), LedError> {
    let name = file(job);
    let failed = |source| LedError::Io { action: "write", path: folder.path().join(&name), source };
    let text = serde_json::to_vec(post).map_err(io::Error::from).map_err(failed)?;
    Ok(folder.replace(&name, &text, 0o644, durability)?)
}

pub(super) fn make_folder(folder: &Path) -> Result<Dir, LedError> {
    make_shared(folder).map_err(|source| LedError::Io { action: "make", path: folder.to_owned(), source })?;
    Ok(Dir::open(folder)?)
}

pub(super) fn remove(folder: &Dir, job: &str) -> Result<(), LedError> {
    match folder.remove(&file(job)) {
        Err(FsError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => Ok(result?),
    }
}

fn file(job: &str) -> PathBuf {
    format!("{job}.json").into()
}
