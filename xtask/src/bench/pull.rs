//! Pulls: phobos-pull beside a loop of the same rsync commands and beside rsnapshot, from twenty hosts that are far away.
//!
//! The hosts are the folders of one ssh server on loopback; the port that leads to it holds every byte up.

use super::{Cost, compare, compared, mark, median, shown, timed};
use crate::nas::{DISKS, Disk, NAMESPACE};
use crate::say;
use anyhow::{Context, Result, ensure};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use xshell::{Cmd, Shell, cmd};

/// The hosts, and what each has.
const HOSTS: u32 = 20;
const FOLDERS: u32 = 10;
const FILES_PER_FOLDER: u32 = 100;

/// The ssh server's address and port, the port where it seems far away, and the delay each way, in milliseconds.
const ADDRESS: &str = "127.0.0.1";
const SERVER: u16 = 22_022;
const PORT: u16 = 22_023;
const DELAY: &str = "20";

/// The rsync daemon's port: for what phobos-pull itself costs there is no ssh and no delay.
const DAEMON: u16 = 22_873;

/// How many hosts are configured when the memory is measured.
const MANY: u32 = 500;

/// Where the program is that holds bytes up, and where what ssh needs is kept.
const DELAYED: &str = "/usr/local/lib/phobos-bench-delay";
const HOST_KEY: &str = "/etc/phobos/host";
const KEY: &str = "/etc/phobos/keys/pull";
const KNOWN_HOSTS: &str = "/etc/phobos/known_hosts";

/// What phobos-pull tells rsync.
const RSYNC: &str = "rsync --archive --no-devices --relative --sparse --numeric-ids --hard-links --acls --xattrs \
                     --partial-dir=.phobos-partial --timeout=600 --delete-after --max-delete=0 --outbuf=Line \
                     --no-human-readable --info=progress2,stats2,nonreg0 '--out-format=%i %n%L' --fake-super";

/// Measures and prints the table.
///
/// # Errors
///
/// If something cannot be set up or fails; a missed target is no failure.
pub(super) fn measure(sh: &Shell, runs: usize) -> Result<()> {
    let _disk = furnish(sh)?;
    serve(sh)?;
    configure(sh, (1..=HOSTS).map(|number| (number, far(number))))?;
    let the_loop = write_loop(sh, "far", |number| format!("--rsh={} root@{ADDRESS}:{}", quoted(&ssh()), tree(number)))?;
    let rsnapshot = rsnapshot(sh)?;
    say("pulling everything for the first time");
    for call in [pull_all(sh), inside(sh, &the_loop), inside(sh, &rsnapshot)] {
        timed(call)?;
    }

    let mut costs: [[Vec<Cost>; 3]; 2] = Default::default();
    for round in 0..runs {
        say(&format!("pulls: round {} of {runs}", round + 1));
        for (changed, costs) in [false, true].into_iter().zip(&mut costs) {
            if changed {
                change(round)?;
            }
            let [of_loop, of_phobos, of_rsnapshot] = costs;
            let mut loop_and_phobos = [(&mut *of_loop, inside(sh, &the_loop)), (&mut *of_phobos, pull_all(sh))];
            if round % 2 == 1 {
                loop_and_phobos.reverse();
            }
            for (costs, call) in loop_and_phobos {
                costs.push(timed(call)?);
            }
            of_rsnapshot.push(timed(inside(sh, &rsnapshot))?);
        }
    }
    check(sh)?;
    let overhead = overhead(sh, runs)?;
    let peak = memory(sh)?;

    say("");
    say(&format!("{:34}{:>12}{:>12}{:>9}  target", "", "loop", "phobos", "ratio"));
    let names = ["pull of 20 hosts, nothing changed", "  1 % changed"];
    for (name, [of_loop, of_phobos, of_rsnapshot]) in names.into_iter().zip(&costs) {
        compare(name, of_loop, of_phobos, 0.25);
        let rsnapshot = median(of_rsnapshot, |cost| cost.wall);
        say(&format!("{:34}{:>12}", "    rsnapshot", shown(rsnapshot)));
    }
    let wall = |costs: &[Cost]| median(costs, |cost| cost.wall);
    say(&compared("20 near hosts, one by one", wall(&overhead.of_loop), wall(&overhead.of_phobos)).0);
    let cpu = |costs: &[Cost]| median(costs, |cost| cost.cpu);
    say(&compared("    processor time", cpu(&overhead.of_loop), cpu(&overhead.of_phobos)).0);
    let each = overhead.each();
    let met = mark(each <= Duration::from_millis(5));
    say(&format!("{:34}{:>12}{:>12}{:>9}  ≤ 5 ms {met}", "phobos-pull itself, each host", "", shown(each), ""));
    let met = mark(peak < 12_000);
    say(&format!("{:34}{:>12}{peak:>9} kB{:>9}  < 12 MB {met}", "phobos-pull, own peak, 500 hosts", "", ""));
    say(&format!(
        "\nmedians of {runs} runs in turns; as many at once as phobos-pull does by itself, against one after the other; {DELAY} ms \
         of delay each way"
    ));
    Ok(())
}

/// What phobos-pull costs beyond rsync: hosts that answer at once, one after the other.
struct Overhead {
    of_loop: Vec<Cost>,
    of_phobos: Vec<Cost>,
}

impl Overhead {
    fn each(&self) -> Duration {
        let wall = |cost: &Cost| cost.wall;
        median(&self.of_phobos, wall).saturating_sub(median(&self.of_loop, wall)) / HOSTS
    }
}

fn overhead(sh: &Shell, runs: usize) -> Result<Overhead> {
    say("pulls of hosts that are near");
    configure(sh, (1..=HOSTS).map(|number| (number, near(number))))?;
    let the_loop = write_loop(sh, "near", folder)?;
    let one_by_one = || cmd!(sh, "phobos-pull --all --jobs 1");
    for call in [inside(sh, &the_loop), one_by_one()] {
        timed(call)?;
    }
    let mut overhead = Overhead { of_loop: Vec::new(), of_phobos: Vec::new() };
    for _ in 0..runs * 2 {
        overhead.of_loop.push(timed(inside(sh, &the_loop))?);
        overhead.of_phobos.push(timed(one_by_one())?);
    }
    Ok(overhead)
}

/// The most memory that phobos-pull itself has while it pulls many hosts, in kB.
fn memory(sh: &Shell) -> Result<u64> {
    say(&format!("pulls of {MANY} hosts"));
    configure(sh, (1..=MANY).map(|number| (number, near(number % HOSTS + 1))))?;
    Ok(timed(pull_all(sh))?.peak_kib)
}

fn tree(number: u32) -> String {
    format!("/srv/{number}/")
}

/// The settings of a host that is far away.
fn far(number: u32) -> String {
    let tree = tree(number);
    format!("source = ['root@{ADDRESS}:{tree}']\nport = {PORT}\n")
}

/// The settings of a host that answers at once.
fn near(number: u32) -> String {
    format!("source = ['{}']\n", folder(number))
}

/// One folder of a host that answers at once.
fn folder(number: u32) -> String {
    format!("rsync://{ADDRESS}:{DAEMON}/{number}/00/")
}

/// ssh as phobos-pull calls it.
fn ssh() -> String {
    format!(
        "ssh -F none -T -o BatchMode=yes -o StrictHostKeyChecking=yes -o UserKnownHostsFile={KNOWN_HOSTS} \
         -o GlobalKnownHostsFile=/dev/null -o UpdateHostKeys=no -o IdentityFile={KEY} -o IdentitiesOnly=yes -p {PORT}"
    )
}

fn quoted(text: &str) -> String {
    format!("'{text}'")
}

fn pull_all(sh: &Shell) -> Cmd<'_> {
    cmd!(sh, "phobos-pull --all")
}

/// A script, where the backups are.
fn inside<'a>(sh: &'a Shell, script: &Path) -> Cmd<'a> {
    cmd!(sh, "nsenter --mount={NAMESPACE} sh -eu {script}")
}

/// The hosts' configuration, and no other.
fn configure(sh: &Shell, hosts: impl Iterator<Item = (u32, String)>) -> Result<()> {
    sh.remove_path("/etc/phobos/pull.d")?;
    sh.create_dir("/etc/phobos/pull.d")?;
    for (number, text) in hosts {
        sh.write_file(format!("/etc/phobos/pull.d/host{number:03}.toml"), text)?;
    }
    Ok(())
}

/// A loop of the same rsync commands, as anybody would write it.
fn write_loop(sh: &Shell, name: &str, source: impl Fn(u32) -> String) -> Result<std::path::PathBuf> {
    let path = Path::new("/usr/local/lib").join(format!("phobos-bench-{name}"));
    let mut script = String::new();
    for number in 1..=HOSTS {
        let folder = format!("/backup/{name}/{number}");
        cmd!(sh, "nsenter --mount={NAMESPACE} mkdir -p {folder}").quiet().run()?;
        writeln!(script, "{RSYNC} {} {folder}/", source(number))?;
    }
    sh.write_file(&path, script)?;
    Ok(path)
}

/// rsnapshot with the same hosts, keeping two snapshots.
fn rsnapshot(sh: &Shell) -> Result<std::path::PathBuf> {
    let ssh = ssh();
    let args = ssh.split_once(' ').map(|(_, args)| args).unwrap_or_default();
    let lines = (1..=HOSTS).map(|number| format!("backup\troot@{ADDRESS}:{}\t{number}/", tree(number)));
    let mut text = format!(
        "config_version\t1.2\nsnapshot_root\t/backup/rsnapshot/\ncmd_cp\t/bin/cp\ncmd_rm\t/bin/rm\n\
         cmd_rsync\t/usr/bin/rsync\ncmd_ssh\t/usr/bin/ssh\nssh_args\t{args}\nretain\talpha\t2\nverbose\t1\nloglevel\t1\n\
         logfile\t/run/rsnapshot.log\nlockfile\t/run/rsnapshot.pid\nlink_dest\t1\nrsync_short_args\t-aHAX\n\
         rsync_long_args\t--delete-after --numeric-ids --relative --no-devices\n"
    );
    lines.for_each(|line| text = format!("{text}{line}\n"));
    sh.write_file("/etc/rsnapshot.conf", text)?;
    let path = Path::new("/usr/local/lib/phobos-bench-rsnapshot");
    sh.write_file(path, "rsnapshot alpha\n")?;
    Ok(path.to_owned())
}

/// Changes the contents of one file in a hundred of each host.
fn change(round: usize) -> Result<()> {
    for number in 1..=HOSTS {
        for folder in 0..FOLDERS {
            let path = format!("/srv/{number}/{folder:02}/{:02}.txt", round % FILES_PER_FOLDER as usize);
            let text = fs::read_to_string(&path)?;
            fs::write(&path, format!("round {round}\n{text}")).with_context(|| format!("cannot change {path}"))?;
        }
    }
    Ok(())
}

/// All three have all there is.
fn check(sh: &Shell) -> Result<()> {
    for number in [1, HOSTS] {
        let tree = tree(number);
        let copies =
            [format!("far/{number}"), format!("holding/host{number:03}"), format!("rsnapshot/alpha.0/{number}")];
        for copy in copies {
            let copy = format!("/backup/{copy}{tree}");
            let same = cmd!(sh, "nsenter --mount={NAMESPACE} diff -r {tree} {copy}").quiet().run();
            ensure!(same.is_ok(), "{copy} is not what the host has");
        }
    }
    Ok(())
}

/// Makes the disk, the hosts' trees, the user and the keys.
fn furnish(sh: &Shell) -> Result<Disk> {
    say("making 20 hosts with 1,000 files each");
    let image = Path::new(DISKS).join("pulls");
    sh.remove_path(&image)?;
    cmd!(sh, "truncate --size=3G {image}").quiet().run()?;
    let disk = Disk::attach(sh, &image, &["--direct-io=on"])?;
    let device = &disk.device;
    cmd!(sh, "mkfs.ext4 -q -N 400000 {device}").run()?;
    // What is measured before may have left a namespace with another disk in it.
    cmd!(sh, "phobos-ns remove").quiet().ignore_stderr().run()?;
    sh.write_file("/etc/fstab", format!("{device} /backup ext4 noauto 0 0\n"))?;
    sh.write_file("/etc/phobos/phobos.toml", "[led]\ndevice = \"none\"\n")?;
    sh.create_dir("/srv")?;
    cmd!(sh, "mount -t tmpfs -o mode=755 phobos-hosts /srv").quiet().run()?;
    for number in 1..=HOSTS {
        for folder in 0..FOLDERS {
            let folder = format!("/srv/{number}/{folder:02}");
            sh.create_dir(&folder)?;
            for file in 0..FILES_PER_FOLDER {
                let lines = 10 + (file * 37 % FILES_PER_FOLDER) as usize * 2;
                fs::write(format!("{folder}/{file:02}.txt"), format!("host {number}\n").repeat(lines))?;
            }
        }
    }
    cmd!(sh, "useradd --system --home-dir /nonexistent --shell /usr/sbin/nologin phobos-pull").quiet().run()?;
    sh.create_dir("/usr/local/lib")?;
    sh.create_dir("/etc/phobos/keys")?;
    for key in [KEY, HOST_KEY] {
        cmd!(sh, "ssh-keygen -q -t ed25519 -N '' -C '' -f {key}").quiet().run()?;
    }
    let host_key = sh.read_file(format!("{HOST_KEY}.pub"))?;
    sh.write_file(KNOWN_HOSTS, format!("[{ADDRESS}]:{PORT} {host_key}"))?;
    cmd!(sh, "phobos-ns").quiet().run()?;
    cmd!(sh, "nsenter --mount={NAMESPACE} mkdir -p /backup/holding /backup/rsnapshot").quiet().run()?;
    Ok(disk)
}

/// Starts the ssh server of all hosts and their rsync daemon; this is PID 1, with which they end.
fn serve(sh: &Shell) -> Result<()> {
    let settings = format!(
        "Port {SERVER}\nListenAddress {ADDRESS}\nHostKey {HOST_KEY}\nAuthorizedKeysFile {KEY}.pub\nStrictModes no\nUsePAM no\n\
             PidFile none\nMaxStartups 100\nPermitRootLogin prohibit-password\n"
    );
    sh.write_file("/etc/phobos/sshd", settings)?;
    sh.create_dir("/run/sshd")?;
    cmd!(sh, "/usr/sbin/sshd -f /etc/phobos/sshd -E /run/sshd.log").quiet().run()?;
    // This program, which is not seen from here by its own path.
    fs::copy("/proc/self/exe", DELAYED).context("cannot copy this program")?;
    let delay = format!("{DELAYED} delay {DELAY} {PORT} {SERVER} &");
    cmd!(sh, "sh -c {delay}").quiet().run()?;
    let modules = (1..=HOSTS).map(|number| format!("[{number}]\npath = /srv/{number}\nread only = yes\n"));
    let modules = modules.collect::<Vec<_>>().concat();
    let settings = format!("use chroot = no\nuid = root\ngid = root\naddress = {ADDRESS}\nport = {DAEMON}\n{modules}");
    sh.write_file("/etc/phobos/rsyncd", settings)?;
    cmd!(sh, "rsync --daemon --config=/etc/phobos/rsyncd").quiet().run()?;
    let began = Instant::now();
    for port in [DAEMON, PORT] {
        while std::net::TcpStream::connect((ADDRESS, port)).is_err() {
            ensure!(began.elapsed() < Duration::from_secs(20), "nobody comes up on port {port}");
            std::thread::yield_now();
        }
    }
    Ok(())
}
