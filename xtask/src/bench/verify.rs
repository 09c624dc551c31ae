//! Reading a drive again, beside what the disk can do and beside Borg's own check of the same copy.

use super::mirror::{MIRROR_ALONE, Scene};
use super::{Cost, compare_wall, heading, mark, median};
use crate::say;
use anyhow::{Context, Result};
use std::time::Duration;
use xshell::{Shell, cmd};

/// The most processor time for a gigabyte, in seconds: a quarter of a core at 200 MB/s.
const PROCESSOR: f64 = 1.25;

/// How much longer it may take, opening and closing of the drive included.
const KEPT: f64 = 1.05;

/// Measures large segments, and one with many small objects.
pub(super) fn measure(sh: &Shell, runs: usize) -> Result<()> {
    let large = format!("[external]\nholding = false\n{MIRROR_ALONE}");
    let scene = Scene::furnish(sh, "segments", 5000, &large, |sh| {
        cmd!(sh, "borg init --encryption=none /backup/borg").run()?;
        let create = "head -c 3000000000 /dev/urandom | borg create --compression=none /backup/borg::all -";
        Ok(cmd!(sh, "sh -euc {create}").run()?)
    })?;
    let all = read(&scene, "3 GB of segments", runs)?;
    budget(&scene, all, runs)?;
    drop(scene);
    let scene = Scene::furnish(sh, "objects", 2000, &large, |sh| {
        cmd!(sh, "borg init --encryption=none /backup/borg").run()?;
        let create = "head -c 819200000 /dev/urandom | \
                      borg create --compression=none --chunker-params=fixed,8192 /backup/borg::all -";
        Ok(cmd!(sh, "sh -euc {create}").run()?)
    })?;
    read(&scene, "100,000 objects", runs)?;
    Ok(())
}

/// Reads the copy of a scene in turns with dd and Borg; how long the whole program took.
fn read(scene: &Scene<'_>, name: &str, runs: usize) -> Result<Duration> {
    let direct =
        "for file in /extbackup/borg/data/*/*; do dd if=$file of=/dev/null bs=4M iflag=direct status=none; done";
    let borg = "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK=yes \
                borg check --repository-only /extbackup/borg";
    scene.empty_drive()?;
    scene.phobos(&["--", "bench"])?;
    let (mut directs, mut borgs, mut phoboses) = (vec![], vec![], vec![]);
    let mut bytes = 0_u64;
    for round in 0..runs {
        say(&format!("{name}, read again: round {} of {runs}", round + 1));
        scene.prepare(false)?;
        let cost = scene.phobos(&["verify", "--all", "--json"])?;
        bytes = bytes_read(&cost.printed).context("phobos-ext did not say how much it read")?;
        phoboses.push(cost);
        for (script, costs) in [(direct, &mut directs), (borg, &mut borgs)] {
            scene.mount_drive()?;
            scene.prepare(false)?;
            costs.push(scene.inside(script)?);
            scene.unmount_drive()?;
        }
    }
    heading("dd direct");
    compare_wall(name, &directs, &phoboses, 1.0 / 0.9);
    heading("borg check");
    compare_wall("  beside Borg's own check", &borgs, &phoboses, 0.5);
    let cpu = median(&phoboses, |cost: &Cost| cost.cpu).as_secs_f64();
    let a_gigabyte = cpu / Duration::from_nanos(bytes).as_secs_f64();
    let said = format!("    processor time for a gigabyte: {a_gigabyte:.2} s");
    say(&format!("{said:67}  ≤ {PROCESSOR} {}", mark(a_gigabyte <= PROCESSOR)));
    Ok(median(&phoboses, |cost| cost.wall))
}

/// Reads the copy of a scene for half of the time that all of it takes.
fn budget(scene: &Scene<'_>, all: Duration, runs: usize) -> Result<()> {
    let time = Duration::from_millis(u64::try_from(all.as_millis() / 2)?);
    let words = format!("{}ms", time.as_millis());
    let mut costs = vec![];
    for round in 0..runs {
        say(&format!("for {words}: round {} of {runs}", round + 1));
        scene.prepare(false)?;
        let cost = scene.phobos(&["verify", "--time", &words, "--json"])?;
        // Each second one comes to the end of all, and has less to read than there is time.
        if cost.printed.contains("\"whole\": false") {
            costs.push(cost);
        }
    }
    let ratio = median(&costs, |cost| cost.wall).as_secs_f64() / time.as_secs_f64();
    let said = format!("    for {words}, opening and closing included: {ratio:.3} of that");
    say(&format!("{said:67}  ≤ {KEPT} {}", mark(ratio <= KEPT)));
    Ok(())
}

/// How many bytes were read.
fn bytes_read(printed: &str) -> Option<u64> {
    let rest = printed.split_once("\"bytes\":")?.1;
    rest.trim_start().split(|next: char| !next.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_much_was_read_is_told() {
        assert_eq!(bytes_read("{\n  \"files\": 3,\n  \"bytes\": 1234,\n"), Some(1234));
        assert_eq!(bytes_read("{}"), None);
    }
}
