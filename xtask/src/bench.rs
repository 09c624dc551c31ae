//! `bench`: phobos beside the original, in one run: the light with no stick and on an emulated one in the rig's machine; the
//! mail, in the rig's Debian; the history; then mirrors and pulls on one NAS in miniature, with loop-mounted ext4 and no LUKS.

pub(crate) mod delay;
mod history;
mod light;
mod mail;
mod pull;

use crate::nas::{self, DISKS, Disk, NAMESPACE};
use crate::{list, project, say};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use xshell::{Cmd, Shell, cmd};

/// The command line of `bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    nas: nas::Inside,
    /// How many times each mirror runs; the table shows medians
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Measure this alone
    #[arg(value_name = "PART")]
    part: Option<Part>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Setting a light
    Light,
    /// A mail, from a unit's failure to its server
    Mail,
    /// Reading the history
    History,
    /// The mirror to an off-site drive, the namespace, sizes
    Mirror,
    /// Pulls of hosts
    Pull,
}

/// The original, word by word, a stub for its light, and what stands for its mkbackupns.
const ORIGINAL: [(&str, &str); 3] = [
    ("phobos-backup-monthly", include_str!("../assets/phobos-backup-monthly")),
    ("blinkstick", include_str!("../assets/blinkstick")),
    ("mkbackupns", include_str!("../assets/mkbackupns")),
];

/// What is mirrored: bytes of a repository in Borg's own segments of 500 MB, and small files of about 2 kB.
const REPOSITORY_BYTES: u64 = 2_000_000_000;
const FOLDERS: u32 = 200;
const FILES_PER_FOLDER: u32 = 100;

/// How often a command is run in the namespace.
const EXEC_RUNS: usize = 200;

/// How often the namespace is asked for.
const NAMESPACE_RUNS: usize = 50;

/// Runs everything and prints the table.
///
/// # Errors
///
/// If something cannot be set up or fails; a missed target is no failure.
pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let is_wanted = |part| args.part.is_none_or(|wanted| wanted == part);
    if !args.nas.is_inside() {
        if is_wanted(Part::Light) {
            light::measure(sh)?;
        }
        if is_wanted(Part::Mail) {
            mail::measure(sh)?;
        }
        if is_wanted(Part::History) {
            history::measure(sh)?;
        }
    }
    let (mirror, pull) = (is_wanted(Part::Mirror), is_wanted(Part::Pull));
    if !(mirror || pull) {
        return Ok(());
    }
    let runs = args.runs.to_string();
    let disks = project().join("target/bench");
    let mut call = vec!["bench", "--runs", &runs];
    call.extend(args.part.map(Part::word));
    nas::run(sh, &args.nas, &call, "release", Some(&disks), |sh| {
        if mirror {
            measure(sh, args.runs)?;
        }
        if pull {
            pull::measure(sh, args.runs)?;
        }
        let load = fs::read_to_string("/proc/loadavg")?;
        let load = load.split_whitespace().next().unwrap_or_default();
        say(&format!("load average {load}: above 2, other work has been measured too"));
        Ok(())
    })
}

impl Part {
    fn word(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Mail => "mail",
            Self::History => "history",
            Self::Mirror => "mirror",
            Self::Pull => "pull",
        }
    }
}

fn measure(sh: &Shell, runs: usize) -> Result<()> {
    let bench = Bench::furnish(sh)?;
    cmd!(sh, "phobos-ns").quiet().run()?;

    let (mut script, mut phobos) = (Sample::default(), Sample::default());
    for round in 0..runs {
        say(&format!("round {} of {runs}", round + 1));
        // Taking turns at being first spreads a slow moment of the machine over both.
        if round % 2 == 0 {
            script.add(bench.mirror("phobos-backup-monthly")?);
            phobos.add(bench.mirror("phobos-ext")?);
        } else {
            phobos.add(bench.mirror("phobos-ext")?);
            script.add(bench.mirror("phobos-backup-monthly")?);
        }
    }
    say("the namespace");
    let (mut script_ns, mut phobos_ns) = (Vec::new(), Vec::new());
    for _ in 0..NAMESPACE_RUNS {
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

    heading();
    compare("mirror of 2 GB and 20,000 files", &script.cold, &phobos.cold, 1.02);
    compare("  again, nothing changed", &script.again, &phobos.again, 1.02);
    compare_wall("namespace is there", &script_ns, &phobos_ns, 0.5);
    compare_wall("`true` in it, beside nsenter's", &nsenter, &exec, 1.3);
    let runs_of_phobos = phobos.cold.iter().chain(&phobos.again);
    let peak = runs_of_phobos.map(|run| run.peak_kib).max().unwrap_or_default();
    say(&format!(
        "{:34}{:>12}{:>9} kB{:>9}  < 12 MB {}",
        "phobos-ext, own peak memory",
        "",
        peak,
        "",
        mark(peak < 12_000)
    ));
    for path in list(Path::new("/usr/local/bin"))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("phobos-") && !ORIGINAL.iter().any(|(original, _)| *original == name) {
            say(&format!("{:34}{:>12}{:>9} kB", format!("size of {name}"), "", fs::metadata(&path)?.len() / 1000));
        }
    }
    say(&format!(
        "\nmedians of {runs} runs in turns, caches dropped before each; {NAMESPACE_RUNS} of the namespace, {EXEC_RUNS} in it"
    ));
    Ok(())
}

/// What one run took.
#[derive(Debug)]
struct Cost {
    wall: Duration,
    /// Processor time, children included.
    cpu: Duration,
    /// The most memory that the program itself had, children not counted.
    peak_kib: u64,
}

/// Two lines of the table: wall time, which has a target, and processor time, which other work on the machine blurs less.
fn compare(name: &str, script: &[Cost], phobos: &[Cost], target: f64) {
    compare_wall(name, script, phobos, target);
    let cpu = |cost: &Cost| cost.cpu;
    say(&compared("    processor time", median(script, cpu), median(phobos, cpu)).0);
}

/// The table's first line.
fn heading() {
    say("");
    say(&format!("{:34}{:>12}{:>12}{:>9}  target", "", "script", "phobos", "ratio"));
}

fn compare_wall(name: &str, script: &[Cost], phobos: &[Cost], target: f64) {
    let wall = |cost: &Cost| cost.wall;
    let (line, ratio) = compared(name, median(script, wall), median(phobos, wall));
    say(&format!("{line}  ≤ {target} {}", mark(ratio <= target)));
}

fn compared(name: &str, script: Duration, phobos: Duration) -> (String, f64) {
    let ratio = phobos.as_secs_f64() / script.as_secs_f64();
    let (script, phobos) = (shown(script), shown(phobos));
    (format!("{name:34}{script:>12}{phobos:>12}{ratio:>9.3}"), ratio)
}

fn mark(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

fn shown(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{:.1} ms", time.as_secs_f64() * 1000.0)
    } else {
        format!("{:.2} s", time.as_secs_f64())
    }
}

/// The middle one, or the upper of the two; zero of none.
fn median(costs: &[Cost], part: impl Fn(&Cost) -> Duration) -> Duration {
    let mut times: Vec<_> = costs.iter().map(part).collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

/// The runs of one program.
#[derive(Default)]
struct Sample {
    cold: Vec<Cost>,
    again: Vec<Cost>,
}

impl Sample {
    fn add(&mut self, [cold, again]: [Cost; 2]) {
        self.cold.push(cold);
        self.again.push(again);
    }
}

/// The NAS, ready for runs.
struct Bench<'a> {
    sh: &'a Shell,
    drive: Disk,
    _backup: Disk,
}

impl<'a> Bench<'a> {
    fn furnish(sh: &'a Shell) -> Result<Self> {
        for (name, text) in ORIGINAL {
            let path = Path::new("/usr/local/bin").join(name);
            sh.write_file(&path, text)?;
            cmd!(sh, "chmod 755 {path}").quiet().run()?;
        }
        let at = |name: &str| Path::new(DISKS).join(name);
        // Complete only if the mark beside it says so: it takes a while, and is kept for the next time.
        let (image, mark) = (at("backup"), at("backup.complete"));
        let is_new = !mark.exists();
        if is_new {
            sh.remove_path(&image)?;
            cmd!(sh, "truncate --size=5G {image}").quiet().run()?;
        }
        let drive = at("drive");
        if !drive.exists() {
            // Written in full, so that no run pays for the allocation of the file's blocks.
            cmd!(sh, "dd if=/dev/zero of={drive} bs=1M count=3072 status=none").run()?;
        }
        let backup = Disk::attach(sh, &image, &["--direct-io=on"])?;
        let drive = Disk::attach(sh, &drive, &["--direct-io=on"])?;
        let (source, target) = (&backup.device, &drive.device);
        let fstab = format!("{source} /backup ext4 noauto 0 0\n{target} /extbackup ext4 noauto 0 0\n");
        sh.write_file("/etc/fstab", fstab)?;
        let configuration =
            format!("[led]\ndevice = \"none\"\n[[external.drive]]\nname = \"A\"\ndevice = \"{target}\"\n");
        sh.write_file("/etc/phobos/phobos.toml", configuration)?;
        if is_new {
            say("making 2 GB of repository and 20,000 files, kept in target/bench for the next time");
            cmd!(sh, "mkfs.ext4 -q {source}").run()?;
            cmd!(sh, "mount /backup").run()?;
            fill(sh)?;
            cmd!(sh, "umount /backup").run()?;
            sh.write_file(&mark, "")?;
        }
        Ok(Self { sh, drive, _backup: backup })
    }

    /// Mirrors to an empty drive, and once more.
    fn mirror(&self, program: &str) -> Result<[Cost; 2]> {
        let Self { sh, drive: Disk { device, .. }, .. } = self;
        let whole = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
        cmd!(sh, "mkfs.ext4 -q -F -L extbackup -E {whole} {device}").quiet().run()?;
        let program = format!("/usr/local/bin/{program}");
        let run = || {
            cmd!(sh, "sync").quiet().run()?;
            sh.write_file("/proc/sys/vm/drop_caches", "3")?;
            timed(cmd!(sh, "nsenter --mount={NAMESPACE} {program} -- bench"))
        };
        let runs = [run()?, run()?];
        cmd!(sh, "mount -o ro /extbackup").quiet().run()?;
        let files = cmd!(sh, "find /extbackup -type f -printf .").quiet().read()?.len();
        cmd!(sh, "umount /extbackup").quiet().run()?;
        ensure!(files > 20_000, "{program} has copied {files} files only");
        let [cold, again] = &runs;
        say(&format!("  {program:44} {:>10} {:>10}", shown(cold.wall), shown(again.wall)));
        Ok(runs)
    }
}

/// Fills the mounted backup disk.
fn fill(sh: &Shell) -> Result<()> {
    for folder in 0..FOLDERS {
        let folder = format!("/backup/holding/luv/{folder:03}");
        sh.create_dir(&folder)?;
        for file in 0..FILES_PER_FOLDER {
            let bytes = 100 + (file * 37 % FILES_PER_FOLDER) as usize * 40;
            fs::write(format!("{folder}/{file:02}.txt"), "phobos and deimos\n".repeat(bytes / 18 + 1))?;
        }
    }
    cmd!(sh, "borg init --encryption=none /backup/borg").run()?;
    let create =
        format!("head -c {REPOSITORY_BYTES} /dev/urandom | borg create --compression=none /backup/borg::all -");
    Ok(cmd!(sh, "sh -euc {create}").run()?)
}

/// Runs a program to its end and returns what it took.
fn timed(call: Cmd) -> Result<Cost> {
    let line = call.to_string();
    let mut command = Command::from(call);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let (start, cpu) = (Instant::now(), cpu_of_children()?);
    let child = command.spawn().with_context(|| format!("cannot run {line}"))?;
    let (pid, done) = (child.id(), AtomicBool::new(false));
    let (wall, output, peak_kib) = thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut peak = 0;
            while !done.load(Ordering::Acquire) {
                peak = peak_kib(pid).unwrap_or(0).max(peak);
                // Often at first, for a program that lives for a few milliseconds.
                let pause = (start.elapsed() / 50).clamp(Duration::from_micros(20), Duration::from_millis(10));
                thread::sleep(pause);
            }
            peak
        });
        let output = child.wait_with_output();
        let wall = start.elapsed();
        done.store(true, Ordering::Release);
        (wall, output, watch.join().unwrap_or_default())
    });
    let output = output?;
    ensure!(
        output.status.success(),
        "{line} ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(Cost { wall, cpu: cpu_of_children()?.saturating_sub(cpu), peak_kib })
}

/// The processor time of all descendants that have ended.
fn cpu_of_children() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    parse_cpu(&stat).context("cannot make sense of /proc/self/stat")
}

/// Fields 16 and 17 of `proc_pid_stat(5)`, in ticks of 10 ms; the second may hold blanks, in parentheses.
fn parse_cpu(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(13);
    let ticks: u64 = fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// The most memory that a process ever had, children not counted.
fn peak_kib(pid: u32) -> Option<u64> {
    parse_peak(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parse_peak(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_is_the_middle_one() {
        let cost = |secs| Cost { wall: Duration::from_secs(secs), cpu: Duration::ZERO, peak_kib: 0 };
        assert_eq!(median(&[cost(9), cost(1), cost(5)], |cost| cost.wall), Duration::from_secs(5));
        assert_eq!(median(&[], |cost| cost.wall), Duration::ZERO);
    }

    #[test]
    fn processor_time_of_children_is_read_from_stat() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 100 200 30 12 20 0 1 0 500 1000 100";
        assert_eq!(parse_cpu(stat), Some(Duration::from_millis(420)));
        assert_eq!(parse_cpu("7 (a"), None);
    }

    #[test]
    fn times_are_shown_in_a_readable_unit() {
        assert_eq!(shown(Duration::from_micros(6789)), "6.8 ms");
        assert_eq!(shown(Duration::from_millis(12_345)), "12.35 s");
    }

    #[test]
    fn peak_memory_is_read_from_status() {
        assert_eq!(parse_peak("Name:\tx\nVmPeak:\t  9000 kB\nVmHWM:\t    5120 kB\n"), Some(5120));
        assert_eq!(parse_peak("Name:\tkthreadd\n"), None);
    }
}
