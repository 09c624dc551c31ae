//! Mirrors a folder with a Borg repository in it to another folder, while Borg's lock is held:
//! `cargo run -p phobos-core --example locked_mirror -- /backup /backup/borg /mnt/copy`.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example tells its user what it does")]

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use phobos_core::borg::Repository;
use phobos_core::exec::System;
use phobos_core::lock::Patience;
use phobos_core::progress::{CopyEvent, Halt};
use phobos_core::rsync::{self, Extras, Mirror};
use phobos_core::signal::Signals;
use phobos_core::teardown;

/// Says what goes wrong, and lets the copy go on.
#[expect(clippy::unnecessary_wraps, reason = "a handler could end the copy")]
fn tell(event: CopyEvent<'_>) -> Result<(), Halt> {
    if let CopyEvent::Warning(line) = event {
        eprintln!("{line}");
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, repository, target] = arguments.as_slice() else {
        return Err("usage: locked_mirror SOURCE REPOSITORY TARGET".into());
    };
    let signals = Signals::catch()?;
    let system = System::new(&signals);

    let repository = Repository::open(Path::new(repository))?;
    let mut patience = Patience::until(Instant::now() + Duration::from_secs(60))
        .on_wait(|whom| eprintln!("waiting for {whom}"))
        .interrupted_by(|| signals.caught());
    let lock = repository.lock(&system, &mut patience)?;
    let mirror = Mirror::new(Path::new(source), Path::new(target)).max_alloc("1GiB").extras(Extras::All);
    let stats = teardown::join(rsync::mirror(&system, &mirror, &mut tell), lock.close())?;
    println!("copied {} files", stats.files_transferred);
    Ok(())
}
