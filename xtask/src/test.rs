//! `test`: every check and test of the project, with a summary.
//!
//! All test programs are built by one call of cargo, with the features that the whole workspace asks for, and run from here: a call
//! for a package alone asks for fewer, and would have cargo build phobos-core and half of its dependencies once more.

mod built;
mod parts;

use crate::{as_root, project, root_cmd, setup};
use anyhow::{Result, anyhow, bail};
use built::{Built, Program};
use parts::Parts;
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use xshell::{Cmd, Shell, cmd};

/// How long the whole may take.
const LIMIT: Duration = Duration::from_secs(25 * 60);

/// How many cases a property is tried on in a long run.
const LONG_CASES: &str = "50000";

/// How often a long run makes command lines by lot for `blinkstick` and `phobos-blink`; each has a seed of its own and tells it.
const LONG_LOTS: u32 = 20;

/// How often a long run tries each fault of a mirror, at other moments each time.
const LONG_ROUNDS: u32 = 3;

/// The story with these faults.
const FAULTS: &str = "a_fault_at_any_moment_is_never_green_without_a_whole_copy";

/// How many stories are told at once on this machine: they wait for disks and for each other's programs half of the time.
const AT_ONCE: &str = "4";

/// The package whose tests wait longest, for servers that say nothing.
const WAITS: &str = "phobos-mail";

/// How many programs with stories run at once.
const STAGES_AT_ONCE: usize = 2;

/// The stories of the rig that take as long as all of its others, by what their names begin with.
const LONGEST: [&str; 2] = ["prepare::", "unlock::"];

/// How many test programs run at once: some of them wait for a limit that is a minute long.
const PROGRAMS_AT_ONCE: usize = 2;

/// The command line of `test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only what runs on this machine: format, lints, unit and command line tests, stories on real namespaces
    #[arg(long, conflicts_with = "rig")]
    host: bool,
    /// Only the scenarios on the rig's Debian: in containers, and on the machine in QEMU
    #[arg(long)]
    rig: bool,
    /// Also what is worth hours: every property on many more cases, every part of every flush of a mirror, every fault in it, and
    /// command lines by lot with many seeds, which are printed
    #[arg(long)]
    long: bool,
    /// How often a long run tries each fault of a mirror, at other moments each time
    #[arg(long, value_name = "N", requires = "long", default_value_t = LONG_ROUNDS)]
    rounds: u32,
    /// Only tests whose names contain one of these; format and lints are left out then
    filter: Vec<String>,
    /// Options for the test programs, as `-- --nocapture`
    #[arg(last = true)]
    options: Vec<String>,
}

/// Runs the parts that were asked for, all of them even where one fails.
///
/// # Errors
///
/// If one of them failed.
pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let mut parts = Parts::new();
    without_leftovers(sh);
    parts.run("setup", || setup::run(sh));
    let Some(built) = parts.run("build", || Built::get(sh)) else { return parts.summary() };
    // It takes minutes, and most of what is tested before it leaves a core idle.
    let ready = (!args.host).then(|| {
        let rig = built.rig.clone();
        thread::spawn(move || make_ready(&rig))
    });
    if !args.rig {
        // Lints leave a core idle at their end, and unit tests while they wait for a limit.
        let lints = args.filter.is_empty().then(|| check(sh, &mut parts)).flatten();
        quick(sh, args, &built, &mut parts);
        if let Some(lints) = lints {
            parts.run("rest of the lints", || lints.join().map_err(|_| anyhow!("it panicked"))?);
        }
        let tail = args.tail();
        parts.run("examples", || {
            Ok(cmd!(sh, "cargo test --locked --no-fail-fast --workspace --doc -- {tail...}").run()?)
        });
    }
    told(sh, args, &built, &mut parts);
    if let Some(ready) = ready {
        // Whoever needs it has waited for it.
        parts.run("the rig's machine", || ready.join().map_err(|_| anyhow!("it panicked"))?);
    }
    if args.long {
        again(sh, args, &built, &mut parts);
    }
    parts.summary()
}

/// Has cargo keep nothing that makes a second build quicker, where there will be none.
fn without_leftovers(sh: &Shell) {
    if sh.var_os("CI").is_some() {
        sh.set_var("CARGO_INCREMENTAL", "0");
    }
}

/// Makes the rig's machine ready with the program `rig`, silently unless that fails.
fn make_ready(rig: &Path) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project());
    quietly(root_cmd(&sh, &rig.to_string_lossy(), &["--ready"]))
}

/// Runs a command that says nothing unless it fails.
fn quietly(call: Cmd<'_>) -> Result<()> {
    let output = call.quiet().ignore_status().output()?;
    if !output.status.success() {
        bail!("{}", [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat());
    }
    Ok(())
}

/// Format and lints, where the toolchain has the components for them; the lints go on beside what comes next.
fn check(sh: &Shell, parts: &mut Parts) -> Option<JoinHandle<Result<()>>> {
    if has(sh, "fmt") {
        parts.run("format", || Ok(cmd!(sh, "cargo fmt --all --check").run()?));
    } else {
        parts.skip("format", "the toolchain has no rustfmt");
    }
    let lints = has(sh, "clippy").then(|| thread::spawn(lint));
    if lints.is_none() {
        parts.skip("lints", "the toolchain has no clippy");
    }
    parts.run("stories as shell scripts", || shell(sh));
    lints
}

fn lint() -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project());
    without_leftovers(&sh);
    quietly(cmd!(sh, "cargo clippy --locked --workspace --all-targets -- -D warnings"))
}

/// The stories on a NAS in miniature, what they have at hand, and the scripts in the documentation.
fn shell(sh: &Shell) -> Result<()> {
    let scripts = cmd!(
        sh,
        "git ls-files --cached --others --exclude-standard tests/host/story tests/host/*.sh docs/*.sh xtask/assets/phobos-migrate"
    )
    .read()?;
    Ok(cmd!(sh, "shellcheck").args(scripts.lines()).run()?)
}

fn has(sh: &Shell, component: &str) -> bool {
    let version = cmd!(sh, "cargo {component} --version").quiet().ignore_stdout().ignore_stderr();
    version.run().is_ok()
}

/// What is no story.
fn quick(sh: &Shell, args: &Args, built: &Built, parts: &mut Parts) {
    let cases = if args.long { LONG_CASES } else { "256" };
    let tail = &args.tail();
    let mut quick = built.programs(|program| !program.is_stories());
    // Those that wait longest come first, so that the others have something to run beside.
    quick.sort_by_key(|program| !program.folder.ends_with(WAITS));
    let calls = quick.iter().map(|program| {
        let call = call(sh, program, tail).env("PROPTEST_CASES", cases);
        (program.target.as_str(), call)
    });
    parts.tests("unit and command line", calls.collect(), PROGRAMS_AT_ONCE);
}

/// The stories: on this machine and in containers, at the processor's own speed, several at once, for some wait for a time to pass;
/// and on the rig's two machines, which are busy with one story each and begin where one of the others has come to its end.
fn told(sh: &Shell, args: &Args, built: &Built, parts: &mut Parts) {
    let long = args.long.then_some("1");
    let mut calls = Vec::new();
    for (name, is_wanted) in [("host", !args.rig), ("booted", !args.host)] {
        for program in built.stories(name).into_iter().filter(|_| is_wanted) {
            let call = call(sh, &program, &args.tail()).env("RUST_TEST_THREADS", AT_ONCE);
            calls.push((name, call.envs(long.map(|long| ("PHOBOS_LONG", long)))));
        }
    }
    for program in built.stories("e2e").into_iter().filter(|_| !args.host) {
        // Half of the time each; where names are asked for, one program finds them all.
        let others = LONGEST.map(|name| ["--skip", name]).concat();
        let halves = [LONGEST.to_vec(), others];
        let (shares, threads) = if args.filter.is_empty() { (&halves[..], "1") } else { (&[Vec::new()][..], "2") };
        for share in shares {
            let names = [share.as_slice(), &args.tail()].concat();
            let call = call(sh, &program, &names).env("RUST_TEST_THREADS", threads);
            calls.push(("rig", call.envs(long.map(|long| ("PHOBOS_LONG", long)))));
        }
    }
    parts.tests("stories, as root", calls, STAGES_AT_ONCE);
}

/// What a long run tells again, at other moments or with other seeds each time.
fn again(sh: &Shell, args: &Args, built: &Built, parts: &mut Parts) {
    for (program, round) in
        built.stories("host").iter().flat_map(|program| (1..args.rounds).map(move |round| (program, round)))
    {
        let call = call(sh, program, &[FAULTS]).env("PHOBOS_LONG", "1").env_remove("PHOBOS_SEED");
        parts.tests(&format!("faults, {} of {}", round + 1, args.rounds), vec![("host", call)], 1);
    }
    for (program, lot) in built.stories("e2e").iter().flat_map(|program| (1..=LONG_LOTS).map(move |lot| (program, lot)))
    {
        let call = call(sh, program, &["blinkstick_and_phobos_blink_do_the_same"]).env_remove("PHOBOS_SEED");
        parts.tests(&format!("lot {lot} of {LONG_LOTS}"), vec![("rig", call)], 1);
    }
}

/// The call of a test program as root, which tells how long each test took: it keeps that for nightly toolchains otherwise.
fn call<'a>(sh: &'a Shell, program: &Program, tail: &[&str]) -> Cmd<'a> {
    let (folder, path) = (program.folder.to_string_lossy(), program.path.to_string_lossy());
    let line = ["--chdir", &folder, "RUSTC_BOOTSTRAP=1", &path, "-Zunstable-options", "--report-time"];
    root_cmd(sh, "env", &[&line, tail].concat())
}

/// The configuration that makes cargo run what it has built as root.
pub(crate) fn runner() -> String {
    // Cargo takes an empty runner for a program without a name.
    let line = if as_root().is_empty() { &["env"] } else { as_root() };
    format!("target.'cfg(unix)'.runner = {line:?}")
}

impl Args {
    /// What the test programs get.
    fn tail(&self) -> Vec<&str> {
        self.filter.iter().chain(&self.options).map(String::as_str).collect()
    }
}
