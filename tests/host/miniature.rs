//! A NAS in miniature: a shell script that `story` runs as PID 1 of its own mount and PID namespaces.
//!
//! `/run`, `/dev/shm`, `/var/lib/phobos`, fstab and the network are its own, so that a story can do as it likes beside others,
//! and ends without a trace. What all share are `/tmp` and the loop devices.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use phobos_core::exec::{Exec, Invocation, System};

/// How long a story may take.
const LIMIT: Duration = Duration::from_secs(600);

/// How long one may take that does all it can, as `PHOBOS_LONG` asks for.
const LONG_LIMIT: Duration = Duration::from_secs(2 * 60 * 60);

/// Tells the story `MODULE/NAME`, and fails with all it said if one of its expectations does not hold.
pub(crate) fn tell(story: &str) {
    tell_with(&[], story);
}

/// The same with `more` programs at hand.
pub(crate) fn tell_with(more: &[(&str, &Path)], story: &str) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("host");
    let folder = tempfile::tempdir().unwrap();
    for (name, program) in more {
        symlink(program, folder.path().join(name)).unwrap();
    }
    let script = here.join("stories").join(story).with_extension("sh");
    // What takes packages of Debian's that are on no machine is fetched for those who want it.
    let wants_older = std::fs::read_to_string(&script).unwrap().contains("$OLDER");
    let older = if wants_older { phobos_tests::older_rsyncs().unwrap() } else { PathBuf::new() };
    let programs = Path::new(env!("CARGO_BIN_EXE_e2e-phobos-ns")).parent().unwrap();
    let call = Invocation::new("bash")
        .arg(here.join("story"))
        .arg(script)
        .env("OLDER", older)
        .env("STORY", folder.path())
        .env("PROGRAMS", programs)
        .limit(if phobos_tests::is_long() { LONG_LIMIT } else { LIMIT });
    if let Err(error) = System::default().run(&call.stdin(Vec::new())) {
        let said = std::fs::read_to_string(folder.path().join("said")).unwrap_or_default();
        panic!("the story ended badly ({error}):\n{said}");
    }
}
