//! phobos-core as others use it: its examples, and a tool of somebody else's, outside the workspace, which is built as theirs would be.

use std::fs;
use std::path::Path;
use std::time::Duration;

use phobos_core::exec::{Exec, Invocation, System};

use crate::miniature::{tell, tell_with};

/// How long its building may take: the library's dependencies are built for it anew.
const LIMIT: Duration = Duration::from_secs(600);

#[test]
fn the_examples_do_what_they_say() {
    tell("outside/the_examples_do_what_they_say");
}

#[test]
fn a_tool_outside_the_workspace_locks_mounts_copies_and_closes() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let built = Path::new(env!("CARGO_BIN_EXE_e2e-phobos-ns")).parent().unwrap().parent().unwrap().join("outside");
    fs::create_dir_all(built.join("src")).unwrap();
    let manifest = fs::read_to_string(project.join("tests/outside/Cargo.toml")).unwrap();
    let library = project.join("phobos-core").display().to_string();
    assert!(manifest.contains("../../phobos-core"));
    fs::write(built.join("Cargo.toml"), manifest.replace("../../phobos-core", &library)).unwrap();
    fs::copy(project.join("tests/outside/src/main.rs"), built.join("src/main.rs")).unwrap();
    // The same versions of everything as in the workspace: they are on this machine already.
    fs::copy(project.join("Cargo.lock"), built.join("Cargo.lock")).unwrap();
    let call = Invocation::new(env!("CARGO")).args(["build", "--quiet", "--manifest-path"]);
    let call = call
        .arg(built.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(built.join("target"))
        .limit(LIMIT)
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    System::default().run(&call).unwrap();
    tell_with(
        &[("outside", &built.join("target/debug/outside"))],
        "outside/a_tool_outside_the_workspace_locks_mounts_copies_and_closes",
    );
}
