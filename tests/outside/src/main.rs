//! `outside REPOSITORY SOURCE DEVICE TARGET`: with Borg's lock held, mounts a drive, copies, and closes everything again.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use phobos_core::borg::Repository;
use phobos_core::lock::Patience;
use phobos_core::mount::{Access, Mount};
use phobos_core::{Chain, Exec, Invocation, Signals, System, teardown};

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
    let [repository, source, device, target] = arguments.as_slice() else {
        return Err("usage: outside REPOSITORY SOURCE DEVICE TARGET".into());
    };
    let signals = Signals::catch()?;
    let system = System::new(&signals);

    let repository = Repository::open(Path::new(repository))?;
    let mut patience = Patience::until(Instant::now() + Duration::from_secs(60))
        .on_wait(|whom| eprintln!("waiting for {whom}"))
        .interrupted_by(|| signals.caught());
    let lock = repository.lock(&system, &mut patience)?;
    let mount = Mount::new(&system, Path::new(device), Path::new(target), None, Access::Write, ())?;
    let copy = Invocation::new("rsync").arg("-a").arg(format!("{source}/")).arg(target).bound();
    let copied = system.run(&copy).map(drop);
    // The drive first, then the lock; no error hides another.
    let closed = teardown::join(copied, mount.close());
    teardown::join(closed, lock.close())?;
    println!("{} was copied while nobody wrote to it", repository.path().display());
    Ok(())
}
