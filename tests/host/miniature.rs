//! A NAS in miniature: a shell script that runs as PID 1 of its own mount and PID namespaces.
//!
//! `/run`, `/dev/shm`, `/var/lib/phobos`, fstab and the network are its own, so that a story can do as it likes beside others,
//! and ends without a trace. What all share are `/tmp` and the loop devices.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use phobos_core::exec::{self, Exec, Invocation, System};

/// What a story has at hand; `tell` comes before each story.
const SHELL: &str = include_str!("miniature.sh");

/// How long a story may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Runs a story, and fails with all it said if one of its expectations does not hold.
pub(crate) fn tell(story: &str) {
    tell_with(&[], story);
}

/// The same with `more` programs at hand.
pub(crate) fn tell_with(more: &[(&str, &Path)], story: &str) {
    assert!(nix::unistd::geteuid().is_root(), "this test makes mount namespaces and loop devices: run it as root");
    if let Err(missing) = exec::require(&["borg", "rsync", "losetup", "mkfs.ext4", "unshare", "setpriv"]) {
        panic!("{missing}, for instance with `cargo xtask setup`");
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, program) in [
        ("phobos-blink", env!("CARGO_BIN_EXE_e2e-phobos-blink")),
        ("phobos-ns", env!("CARGO_BIN_EXE_e2e-phobos-ns")),
        ("phobos-ext", env!("CARGO_BIN_EXE_e2e-phobos-ext")),
        ("phobos-pull", env!("CARGO_BIN_EXE_e2e-phobos-pull")),
        ("a-client-that-lies", env!("CARGO_BIN_EXE_a-client-that-lies")),
    ] {
        symlink(program, folder.path().join(name)).unwrap();
    }
    for (name, program) in more {
        symlink(program, folder.path().join(name)).unwrap();
    }
    let call = Invocation::new("unshare")
        .args(["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"])
        // Who started the tests is no part of a story: neither the signals they ignore, as nohup does, nor their variables.
        .args(["env", "--default-signal", "bash", "-c", &format!("{SHELL}\n{story}\n")])
        .only_env(&["PATH", "HOME"])
        .env("STORY", folder.path())
        .limit(LIMIT);
    match System::default().run(&call.stdin(Vec::new())) {
        Ok(_) => {}
        Err(error) => {
            let said = std::fs::read_to_string(folder.path().join("said")).unwrap_or_default();
            let end = error.to_string();
            let end = end.rsplit("failed with").next().unwrap_or_default();
            panic!("the story ended badly ({}):\n{said}", end.trim());
        }
    }
}
