//! One of two trees that are walked side by side: a thread asks its file system about many names at once, so that both disks are
//! at work, and stands in the folder that it asks about, which spares the system the way there.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::Scope;

use crate::fs::{Dir, FsError, Kind, Standpoint, Stat};

/// What a tree says of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) stat: Stat,
    /// The names of its attributes as the system lists them, where they were asked for and are few.
    pub(super) attributes: Option<Vec<u8>>,
}

/// What it says of several, in their order.
pub(super) type Told = Vec<Result<Option<Found>, FsError>>;

/// A folder, and names in it.
struct Asked {
    folder: Dir,
    names: Arc<[OsString]>,
    with_attributes: bool,
}

/// The thread.
#[derive(Debug)]
pub(super) struct Side {
    ask: Sender<Asked>,
    told: Receiver<Told>,
}

impl Side {
    /// Starts it; it ends with this.
    pub(super) fn new<'s>(scope: &'s Scope<'s, '_>) -> Self {
        let (ask, asked) = mpsc::channel::<Asked>();
        let (tell, told) = mpsc::channel();
        scope.spawn(move || {
            let standpoint = Standpoint::of_this_thread();
            for Asked { folder, names, with_attributes } in asked {
                let inside = Some(&standpoint).filter(|standpoint| with_attributes && standpoint.enter(&folder));
                let told = names.iter().map(|name| look(&folder, Path::new(name), inside));
                if tell.send(told.collect()).is_err() {
                    return;
                }
            }
        });
        Self { ask, told }
    }

    /// Asks about `names` in `folder`, and returns at once.
    pub(super) fn ask(&self, folder: &Dir, names: &Arc<[OsString]>, with_attributes: bool) -> Result<(), FsError> {
        let asked = Asked { folder: folder.try_clone()?, names: Arc::clone(names), with_attributes };
        if self.ask.send(asked).is_err() {
            log::error!("internal error: nobody looks at {}", folder.path().display());
        }
        Ok(())
    }

    /// What it says; nothing where the thread is gone, which the end of the scope tells.
    pub(super) fn told(&self) -> Told {
        self.told.recv().unwrap_or_default()
    }
}

fn look(folder: &Dir, name: &Path, inside: Option<&Standpoint>) -> Result<Option<Found>, FsError> {
    let Some(stat) = folder.stat(name)? else { return Ok(None) };
    let inside = inside.filter(|_| matches!(stat.kind, Kind::File | Kind::Dir | Kind::Link));
    Ok(Some(Found { stat, attributes: inside.and_then(|inside| inside.attributes(name)) }))
}
