//! The namespace's part: asking for it, and a command in it, beside the original's and nsenter's.

use super::{compare_wall, heading, timed};
use crate::nas::NAMESPACE;
use crate::{list, say};
use anyhow::Result;
use std::fs;
use std::path::Path;
use xshell::{Shell, cmd};

/// How often a command is run in the namespace.
const EXEC_RUNS: usize = 200;

/// How often the namespace is asked for.
const ASKED: usize = 50;

/// Measures in the NAS that the mirrors have left: with its namespace, and the original beside phobos.
pub(super) fn measure(sh: &Shell) -> Result<()> {
    say("the namespace");
    let (mut script_ns, mut phobos_ns) = (Vec::new(), Vec::new());
    for _ in 0..ASKED {
        script_ns.push(timed(cmd!(sh, "mkbackupns"))?);
        phobos_ns.push(timed(cmd!(sh, "phobos-ns"))?);
    }
    say("a command in it");
    let (mut nsenter, mut exec) = (Vec::new(), Vec::new());
    for round in 0..EXEC_RUNS {
        if round % 2 == 0 {
            nsenter.push(timed(cmd!(sh, "nsenter --mount={NAMESPACE} true"))?);
            exec.push(timed(cmd!(sh, "phobos-ns exec -- true"))?);
        } else {
            exec.push(timed(cmd!(sh, "phobos-ns exec -- true"))?);
            nsenter.push(timed(cmd!(sh, "nsenter --mount={NAMESPACE} true"))?);
        }
    }
    heading("script");
    compare_wall("namespace is there", &script_ns, &phobos_ns, 0.5);
    compare_wall("`true` in it, beside nsenter's", &nsenter, &exec, 1.3);
    for path in list(Path::new("/usr/local/bin"))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("phobos-") && name != "phobos-backup-monthly" {
            say(&format!("{:34}{:>12}{:>9} kB", format!("size of {name}"), "", fs::metadata(&path)?.len() / 1000));
        }
    }
    say(&format!("\nmedians of {ASKED} of the namespace, and of {EXEC_RUNS} in it, in turns"));
    Ok(())
}
