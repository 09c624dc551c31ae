//! `phobos-pull confined`: confines itself and becomes a program; phobos-pull starts rsync through it, and Borg.

use std::ffi::OsString;
use std::path::PathBuf;

use phobos_core::exec::{self, Invocation};
use phobos_core::sandbox::{self, Alias, Lookup, Sandbox};
use phobos_site::exit::{Exit, Stop};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The system user to become
    #[arg(long)]
    user: String,
    /// A user and a group to become instead, by number
    #[arg(long, value_name = "ID", requires = "passwd")]
    alias: Option<u32>,
    /// What to show in the place of /etc/passwd
    #[arg(long, value_name = "FILE", requires = "alias")]
    passwd: Option<PathBuf>,
    /// The working directory, and the only place to write in
    #[arg(long, value_name = "FOLDER")]
    folder: PathBuf,
    /// May be read besides the system's programs
    #[arg(long, value_name = "PATH")]
    read: Vec<PathBuf>,
    /// A TCP port that may be connected to
    #[arg(long, value_name = "PORT")]
    connect: Vec<u16>,
    /// Who is asked for the names of hosts: name servers, or services of this machine
    #[arg(long, value_name = "WHO")]
    lookup: Option<Lookup>,
    /// Where an ssh that shares its connection makes its socket
    #[arg(long, value_name = "FOLDER", requires = "alias")]
    control: Option<PathBuf>,
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
/// Why the program was not started. The exit code is none that rsync or ssh has.
pub(crate) fn run(args: Args) -> Result<(), anyhow::Error> {
    let Args { user, alias, passwd, folder, read, connect: ports, lookup, control, parent, reads_all, command } = args;
    let (program, rest) = command.split_first().ok_or_else(|| Stop::new(Exit::Usage, "no command was given"))?;
    let program = program.to_str().ok_or_else(|| Stop::new(Exit::Usage, "the command's name is not UTF-8"))?;
    let alias = alias.zip(passwd).map(|(id, passwd)| Alias { id, passwd });
    let lookup = lookup.unwrap_or(Lookup::None);
    Sandbox { user, alias, folder, read, ports, lookup, control, parent, reads_all }.enter()?;
    Err(exec::replace(&Invocation::new(program).args(rest)).into())
}

/// `phobos-pull sweep`: ends whatever a confined program has left behind.
#[derive(Debug, clap::Args)]
pub(crate) struct Sweep {
    /// Whose processes
    #[arg(value_name = "ID")]
    id: u32,
}

/// Ends all processes of one user.
///
/// # Errors
///
/// If this process cannot become that user.
pub(crate) fn sweep(args: &Sweep) -> Result<(), anyhow::Error> {
    Ok(sandbox::end_all(args.id)?)
}
