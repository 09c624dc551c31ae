//! `phobos-ext confined`: confines itself and becomes a program; a drill starts Borg through it.

use std::ffi::OsString;
use std::path::PathBuf;

use phobos_core::exec::{self, Invocation};
use phobos_core::sandbox::{Lookup, Sandbox};
use phobos_site::exit::{Exit, Stop};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The system user to become
    #[arg(long)]
    user: String,
    /// The working directory, and the only place to write in
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// May be read besides the system's programs
    #[arg(long, value_name = "PATH")]
    read: Vec<PathBuf>,
    /// The process that started this one, which the program must not outlive
    #[arg(long, value_name = "PID")]
    parent: Option<u32>,
    /// May read what the user may not
    #[arg(long)]
    reads_all: bool,
    /// The program and its arguments
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Becomes the program; returns only if that fails.
///
/// # Errors
///
/// Why the program was not started.
pub(crate) fn run(args: &Args) -> Result<(), anyhow::Error> {
    let Args { user, folder, read, parent, reads_all, command } = args;
    let (program, rest) = command.split_first().ok_or_else(|| Stop::new(Exit::Usage, "no command was given"))?;
    let program = program.to_str().ok_or_else(|| Stop::new(Exit::Usage, "the command's name is not UTF-8"))?;
    let sandbox = Sandbox {
        user: user.clone(),
        alias: None,
        folder: folder.clone(),
        read: read.clone(),
        ports: Vec::new(),
        lookup: Lookup::None,
        control: None,
        parent: *parent,
        reads_all: *reads_all,
    };
    sandbox.enter()?;
    Err(exec::replace(&Invocation::new(program).args(rest)).into())
}
