//! Runs a command where a file system is mounted that nobody else sees, in the mount namespace that a file keeps; both are made first if
//! need be: `cargo run -p phobos-core --example run_in_namespace -- /run/example/ns /backup ls -l /backup`.
//!
//! What is mounted at `/backup` is in `/etc/fstab`, as for mount(8).
#![expect(clippy::print_stderr, reason = "an example tells its user what it does")]

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use phobos_core::Chain;
use phobos_core::exec::{Exec, Invocation, System};
use phobos_core::lock::{Locks, Mode, Name, Patience};
use phobos_core::namespace::{self, Entered, Plan};
use phobos_core::signal::Signals;

/// The only lock that there is here: two who make the namespace at once would make two.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Making;

impl fmt::Display for Making {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("making")
    }
}

impl FromStr for Making {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "making" { Ok(Self) } else { Err("there is no such lock") }
    }
}

impl Name for Making {
    const FOLDERS: &'static [&'static str] = &[];
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("{}", Chain(error.as_ref()));
        ExitCode::FAILURE
    })
}

fn run() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, target, program, rest @ ..] = arguments.as_slice() else {
        return Err("usage: run_in_namespace FILE MOUNT-POINT COMMAND [ARGUMENT…]".into());
    };
    let (file, target) = (Path::new(file), Path::new(target));
    let signals = Signals::catch()?;
    let system = System::new(&signals);

    let locks = Locks::<Making>::new(Path::new("/run/example/lock"));
    let mut patience = Patience::until(Instant::now() + Duration::from_secs(60)).interrupted_by(|| signals.caught());
    let plan = Plan { file, target, fstab: Path::new("/etc/fstab") };
    let turn = || locks.take(&Making, Mode::Exclusive, "example", None, &mut patience);
    if namespace::enter(&system, plan, turn)? == Entered::Made {
        eprintln!("made the namespace {}", file.display());
    }
    // It is as if the command had been called directly: its terminal, its signals, its exit code.
    let status = system.attach(&Invocation::new(program).args(rest))?;
    Ok(ExitCode::from(status.shell_code()))
}
