//! A machine to play with: `cargo run -p phobos-tests --bin rig`, then one command a line; with `--ready` it is only made
//! ready for the scenarios, and its root file system's path printed.

use std::io::{BufRead, Write};
use std::process::ExitCode;

use phobos_tests::Nas;

const HELP: &str = "plug DRIVE | pull DRIVE | slow KIB | cut | on [DRIVE...] | light | mail | ssh | quit; anything else is \
                    run in the machine";

fn main() -> ExitCode {
    let is_ready_wanted = std::env::args().nth(1).is_some_and(|word| word == "--ready");
    let ready = || phobos_tests::make_ready().map(|root| say(&root.display().to_string()));
    match if is_ready_wanted { ready() } else { play() } {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn play() -> anyhow::Result<()> {
    let mut nas = Nas::start()?;
    say(&format!("{}\n{HELP}", nas.shell()?));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        if line == "quit" {
            break;
        }
        match obey(&mut nas, &line) {
            Ok(said) => say(&said),
            Err(error) => say(&format!("{error:#}")),
        }
    }
    Ok(())
}

fn obey(nas: &mut Nas, line: &str) -> anyhow::Result<String> {
    let words: Vec<_> = line.split_whitespace().collect();
    match words.as_slice() {
        ["plug", drive] => nas.plug(&nas.drive(drive))?,
        ["pull", drive] => nas.pull(&nas.drive(drive))?,
        ["slow", kib] => nas.slow_backup_disk(kib.parse()?)?,
        ["cut"] => nas.cut_power()?,
        ["on", drives @ ..] => {
            let drives: Vec<_> = drives.iter().map(|drive| nas.drive(drive)).collect();
            nas.power_on(&drives.iter().collect::<Vec<_>>())?;
        }
        ["light"] => {
            return Ok(nas.light()?.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
        }
        ["mail"] => return Ok(nas.mail()?.into_iter().map(|mail| mail.text).collect()),
        ["ssh"] => return nas.shell(),
        _ => return nas.sh(line),
    }
    Ok("done".to_owned())
}

#[expect(clippy::print_stdout, reason = "the person in front of it wants to see this")]
fn say(text: &str) {
    println!("{text}");
    // A terminal that is gone needs no flush.
    drop(std::io::stdout().flush());
}
