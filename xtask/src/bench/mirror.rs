//! The mirror's part: new segments beside rsync and cp, and runs with nothing to do beside the original.
//!
//! Every scene has a backup disk of its own, made once and kept in `target/bench`; they share the drive.

use super::{Cost, compare, compare_told, compare_wall, compared, heading, mark, median, shown, timed};
use crate::nas::{DISKS, Disk, NAMESPACE};
use crate::say;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use xshell::{Shell, cmd};

/// The original, word by word, a stub for its light, and what stands for its mkbackupns.
const ORIGINAL: [(&str, &str); 3] = [
    ("phobos-backup-monthly", include_str!("../../assets/phobos-backup-monthly")),
    ("blinkstick", include_str!("../../assets/blinkstick")),
    ("mkbackupns", include_str!("../../assets/mkbackupns")),
];

/// The words of a mirror.
const MIRROR: [&str; 2] = ["--", "bench"];

/// The most memory, in kB, that phobos-ext may have at any time.
const MEMORY: u64 = 24_000;

/// The same for what holds Borg's lock.
const HOLDERS_MEMORY: u64 = 35_000;

/// In `[external]`: the original does not read again what it has not written, which is measured by itself.
pub(super) const MIRROR_ALONE: &str = "verify-time = \"0s\"\n";

/// The drive's size in MiB.
const DRIVE: u64 = 5000;

/// Measures all scenes.
pub(super) fn measure(sh: &Shell, runs: usize) -> Result<()> {
    for (name, text) in ORIGINAL {
        let path = Path::new("/usr/local/bin").join(name);
        sh.write_file(&path, text)?;
        cmd!(sh, "chmod 755 {path}").quiet().run()?;
    }
    let mut memory = Memory::default();
    new_segments(sh, runs, &mut memory)?;
    many_segments(sh, runs, &mut memory)?;
    nothing_new(sh, runs, &mut memory)?;
    for (name, peak, limit) in
        [("phobos-ext", memory.own, MEMORY), ("what holds Borg's lock", memory.holder, HOLDERS_MEMORY)]
    {
        say(&format!(
            "{:34}{:>12}{peak:>9} kB{:>9}  ≤ {limit} kB {}",
            format!("memory of {name}"),
            "",
            "",
            mark(peak <= limit)
        ));
    }
    say(&format!("\nmedians of {runs} runs in turns"));
    Ok(())
}

/// The most that was seen, in kB.
#[derive(Debug, Default)]
struct Memory {
    own: u64,
    holder: u64,
}

impl Memory {
    fn see(&mut self, cost: &Cost) {
        self.own = self.own.max(cost.peak_kib);
        self.holder = self.holder.max(cost.holder_kib);
    }
}

/// 3 GB of segments that the drive does not have.
fn new_segments(sh: &Shell, runs: usize, memory: &mut Memory) -> Result<()> {
    let bytes = 3_000_000_000_u64;
    let settings = format!("[external]\nholding = false\n{MIRROR_ALONE}");
    let scene = Scene::furnish(sh, "segments", 5000, &settings, |sh| {
        cmd!(sh, "borg init --encryption=none /backup/borg").run()?;
        let create = format!("head -c {bytes} /dev/urandom | borg create --compression=none /backup/borg::all -");
        Ok(cmd!(sh, "sh -euc {create}").run()?)
    })?;
    let rsync = "borg with-lock /backup/borg rsync -a --delete /backup/borg/ /extbackup/borg/; sync -f /extbackup";
    let cp = "cp -a /backup/borg /extbackup/borg; sync -f /extbackup";
    let direct =
        "for file in /extbackup/borg/data/*/*; do dd if=$file of=/dev/null bs=4M iflag=direct status=none; done";
    for warm in [false, true] {
        let (mut rsyncs, mut cps, mut directs) = (vec![], vec![], vec![]);
        let (mut phoboses, mut engines, mut backs) = (vec![], vec![], vec![]);
        for round in 0..runs {
            say(&format!("3 GB of new segments, {}: round {} of {runs}", heat(warm), round + 1));
            rsyncs.push(scene.by_hand(rsync, warm)?);
            cps.push(scene.by_hand(cp, warm)?);
            scene.empty_drive()?;
            scene.prepare(warm)?;
            let mut cost = scene.phobos(&MIRROR)?;
            memory.see(&cost);
            let (engine, back) =
                lengths(&cost.said).context("phobos-ext did not say how long it copied and read back")?;
            cost.wall = cost.wall.saturating_sub(back);
            phoboses.push(cost);
            engines.push(Cost { wall: engine, ..Cost::default() });
            backs.push(Cost { wall: back, ..Cost::default() });
            // The same bytes, as the drive has them now.
            scene.mount_drive()?;
            sh.write_file("/proc/sys/vm/drop_caches", "3")?;
            directs.push(scene.inside(direct)?);
            scene.unmount_drive()?;
        }
        heading("rsync");
        compare(&format!("3 GB of segments, {}", heat(warm)), &rsyncs, &phoboses, 0.5);
        let cpu = |costs: &[Cost]| median(costs, |cost| cost.cpu).as_secs_f64();
        let ratio = cpu(&phoboses) / cpu(&rsyncs);
        say(&format!("{:67}  ≤ 0.4 {}", "    of the processor time", mark(ratio <= 0.4)));
        // cp takes no lock, mounts nothing, and looks at nothing again; the engine proves what it copies, and syncs as well.
        heading("cp");
        compare_wall("  the engine beside cp and syncfs", &cps, &engines, 0.9);
        say(&compared("    the whole program", median(&cps, |cost| cost.wall), median(&phoboses, |cost| cost.wall)).0);
        heading("dd direct");
        compare_wall("  reading back", &directs, &backs, 1.0 / 0.9);
    }
    Ok(())
}

/// A repository of 20,000 segments, nothing new.
fn many_segments(sh: &Shell, runs: usize, memory: &mut Memory) -> Result<()> {
    let settings = format!("[external]\nholding = false\n{MIRROR_ALONE}");
    let scene = Scene::furnish(sh, "many", 2000, &settings, |sh| {
        cmd!(sh, "borg init --encryption=none /backup/borg").run()?;
        // A chunk is larger than a segment may be, so that each has one of its own.
        cmd!(sh, "borg config /backup/borg max_segment_size 4096").run()?;
        let create = "head -c 164000000 /dev/urandom | \
                      borg create --compression=none --chunker-params=fixed,8192 /backup/borg::all -";
        Ok(cmd!(sh, "sh -euc {create}").run()?)
    })?;
    scene.empty_drive()?;
    memory.see(&scene.phobos(&MIRROR)?);
    let mut costs = Vec::new();
    for _ in 0..runs {
        let cost = scene.phobos(&MIRROR)?;
        memory.see(&cost);
        costs.push(cost);
    }
    let wall = median(&costs, |cost| cost.wall);
    let name = "20,000 segments, nothing new, warm";
    say(&format!("{name:34}{:>12}{:>12}{:>9}  < 1 s {}", "", shown(wall), "", mark(wall < Duration::from_secs(1))));
    Ok(())
}

/// 500 segments and 20,000 small files: once to an empty drive, then nothing new.
fn nothing_new(sh: &Shell, runs: usize, memory: &mut Memory) -> Result<()> {
    let scene = Scene::furnish(sh, "files", 5000, &format!("[external]\n{MIRROR_ALONE}"), |sh| {
        for folder in 0..200 {
            let folder = format!("/backup/holding/luv/{folder:03}");
            sh.create_dir(&folder)?;
            for file in 0..100_usize {
                let bytes = 100 + (file * 37 % 100) * 40;
                fs::write(format!("{folder}/{file:02}.txt"), "phobos and deimos\n".repeat(bytes / 18 + 1))?;
            }
        }
        cmd!(sh, "borg init --encryption=none /backup/borg").run()?;
        // Two chunks fill a segment.
        cmd!(sh, "borg config /backup/borg max_segment_size 3000000").run()?;
        let create = "head -c 2000000000 /dev/urandom | \
                      borg create --compression=none --chunker-params=fixed,2000000 /backup/borg::all -";
        Ok(cmd!(sh, "sh -euc {create}").run()?)
    })?;
    let (mut script, mut phobos) = ([vec![], vec![]], [vec![], vec![]]);
    for round in 0..runs {
        say(&format!("500 segments and 20,000 files: round {} of {runs}", round + 1));
        // Taking turns at being first spreads a slow moment of the machine over both.
        for is_phobos in [round % 2 == 0, round % 2 != 0] {
            scene.empty_drive()?;
            for again in 0..2 {
                scene.prepare(false)?;
                if is_phobos {
                    let cost = scene.phobos(&MIRROR)?;
                    memory.see(&cost);
                    phobos[again].push(cost);
                } else {
                    script[again].push(timed(cmd!(
                        sh,
                        "nsenter --mount={NAMESPACE} /usr/local/bin/phobos-backup-monthly -- bench"
                    ))?);
                }
            }
            scene.mount_drive()?;
            let files = cmd!(sh, "nsenter --mount={NAMESPACE} find /extbackup -type f -printf .").quiet().read()?.len();
            scene.unmount_drive()?;
            ensure!(files > 20_400, "{files} files have been copied only");
        }
    }
    heading("script");
    // The script reads nothing back and proves nothing: reading all of it once more is the price of a promise.
    compare_told("500 segments and 20,000 files", &script[0], &phobos[0]);
    compare("  again, nothing new", &script[1], &phobos[1], 0.7);
    Ok(())
}

/// How long phobos-ext says that it copied, `syncfs` included, and that it read back what it had written.
fn lengths(said: &str) -> Option<(Duration, Duration)> {
    let (copied, back) = said.lines().find_map(|line| line.split_once(", and read back in "))?;
    let copied = copied.split_once("copied in ")?.1;
    Some((humantime::parse_duration(copied).ok()?, humantime::parse_duration(back).ok()?))
}

fn heat(warm: bool) -> &'static str {
    if warm { "warm" } else { "cold" }
}

/// A backup disk and a drive, with the namespace.
pub(super) struct Scene<'a> {
    sh: &'a Shell,
    drive: Disk,
    _backup: Disk,
}

impl<'a> Scene<'a> {
    pub(super) fn furnish(
        sh: &'a Shell,
        name: &str,
        size: u64,
        more: &str,
        fill: impl FnOnce(&Shell) -> Result<()>,
    ) -> Result<Self> {
        let at = |name: &str| Path::new(DISKS).join(name);
        // Complete only if the mark beside it says so: it takes a while, and is kept for the next time.
        let (image, mark) = (at(name), at(&format!("{name}.complete")));
        let is_new = !mark.exists();
        if is_new {
            sh.remove_path(&image)?;
            let size = format!("--size={size}M");
            cmd!(sh, "truncate {size} {image}").quiet().run()?;
        }
        let drive = at("drive");
        if fs::metadata(&drive).map_or(0, |found| found.len()) != DRIVE << 20 {
            // Written in full, so that no run pays for the allocation of the file's blocks.
            let count = format!("count={DRIVE}");
            cmd!(sh, "dd if=/dev/zero of={drive} bs=1M {count} status=none").run()?;
        }
        let backup = Disk::attach(sh, &image, &["--direct-io=on"])?;
        let drive = Disk::attach(sh, &drive, &["--direct-io=on"])?;
        let (source, target) = (&backup.device, &drive.device);
        let fstab = format!("{source} /backup ext4 noauto 0 0\n{target} /extbackup ext4 noauto 0 0\n");
        sh.write_file("/etc/fstab", fstab)?;
        let configuration =
            format!("[led]\ndevice = \"none\"\n{more}[[external.drive]]\nname = \"A\"\ndevice = \"{target}\"\n");
        sh.write_file("/etc/phobos/phobos.toml", configuration)?;
        if is_new {
            say(&format!("making the repository of the scene `{name}`, kept in target/bench for the next time"));
            cmd!(sh, "mkfs.ext4 -q {source}").run()?;
            cmd!(sh, "mount /backup").run()?;
            fill(sh)?;
            cmd!(sh, "umount /backup").run()?;
            sh.write_file(&mark, "")?;
        }
        if Path::new(NAMESPACE).exists() {
            cmd!(sh, "phobos-ns remove").quiet().run()?;
        }
        cmd!(sh, "phobos-ns").quiet().run()?;
        Ok(Self { sh, drive, _backup: backup })
    }

    /// An empty file system on the drive.
    pub(super) fn empty_drive(&self) -> Result<()> {
        let Self { sh, drive: Disk { device, .. }, .. } = self;
        let whole = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        Ok(cmd!(sh, "mkfs.ext4 -q -F -L extbackup -E {whole} {device}").quiet().run()?)
    }

    pub(super) fn mount_drive(&self) -> Result<()> {
        let sh = self.sh;
        Ok(cmd!(sh, "nsenter --mount={NAMESPACE} mount /extbackup").quiet().run()?)
    }

    pub(super) fn unmount_drive(&self) -> Result<()> {
        let sh = self.sh;
        Ok(cmd!(sh, "nsenter --mount={NAMESPACE} umount /extbackup").quiet().run()?)
    }

    /// Nothing of the backups is in the page cache, or all of the repository is.
    pub(super) fn prepare(&self, warm: bool) -> Result<()> {
        let sh = self.sh;
        cmd!(sh, "sync").quiet().run()?;
        sh.write_file("/proc/sys/vm/drop_caches", "3")?;
        if warm {
            self.inside("cat /backup/borg/data/*/* >/dev/null")?;
        }
        Ok(())
    }

    /// A script in the namespace.
    pub(super) fn inside(&self, script: &str) -> Result<Cost> {
        let sh = self.sh;
        timed(cmd!(sh, "nsenter --mount={NAMESPACE} sh -euc {script}"))
    }

    /// A copy to an empty drive that is mounted already.
    fn by_hand(&self, script: &str, warm: bool) -> Result<Cost> {
        self.empty_drive()?;
        self.mount_drive()?;
        self.prepare(warm)?;
        let began = Instant::now();
        let cost = self.inside(script)?;
        self.unmount_drive()?;
        say(&format!("  {:44} {:>10}", script.split(' ').next().unwrap_or_default(), shown(began.elapsed())));
        Ok(cost)
    }

    /// The whole program, drive included.
    pub(super) fn phobos(&self, words: &[&str]) -> Result<Cost> {
        let sh = self.sh;
        let cost = timed(cmd!(sh, "nsenter --mount={NAMESPACE} phobos-ext {words...}"))?;
        say(&format!("  {:44} {:>10}", "phobos-ext", shown(cost.wall)));
        Ok(cost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_of_copying_and_reading_back_are_read_from_what_was_said() {
        let said = "info: x\ninfo: the new files were copied in 2s 140ms, and read back in 1s 200ms\n";
        assert_eq!(lengths(said), Some((Duration::from_millis(2140), Duration::from_millis(1200))));
        assert_eq!(lengths("nothing"), None);
    }
}
