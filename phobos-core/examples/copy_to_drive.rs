//! Opens an encrypted drive with a key file, mounts it, copies a folder to it, and closes everything again; whatever happens, nothing
//! stays open: `cargo run -p phobos-core --example copy_to_drive -- UUID KEY-FILE FOLDER`, with the UUID of its LUKS container.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example tells its user what it does")]

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use phobos_core::Chain;
use phobos_core::exec::System;
use phobos_core::luks::{MapperName, Mapping, Unlock, Uuid};
use phobos_core::mount::{Access, Mount};
use phobos_core::rsync::{self, Mirror};
use phobos_core::signal::Signals;
use phobos_core::teardown;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uuid, key, folder] = arguments.as_slice() else {
        return Err("usage: copy_to_drive UUID KEY-FILE FOLDER".into());
    };
    let signals = Signals::catch()?;
    let system = System::new(&signals);

    let name = MapperName::try_from("example".to_owned())?;
    let unlock = Unlock::with_key_file(Path::new(key));
    let mapping = Mapping::obtain(&system, &Uuid::try_from(uuid.clone())?, &name, &unlock)?;
    let device = mapping.device();
    let target = tempfile::tempdir()?;
    // The mount keeps what it is on: one guard closes both, in the right order.
    let mount = Mount::new(&system, &device, target.path(), None, Access::Write, mapping)?;
    let copy = target.path().join("copy");
    std::fs::create_dir_all(&copy)?;
    let copied = rsync::mirror(&system, &Mirror::new(Path::new(folder), &copy), &mut |_| Ok(()));
    let stats = teardown::join(copied, mount.close())?;
    println!("copied {} files; the drive can be taken away", stats.files_transferred);
    Ok(())
}
