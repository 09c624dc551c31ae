//! Remote unlock from beginning to end: a machine whose root is encrypted, set up by phobos-unlock, waits before it boots and is
//! unlocked from another machine.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use phobos_core::exec::{Exec, ExecError, Invocation, Status, System};
use phobos_tests::{Story, Waiting, booted, minutes};

/// The number of the LUKS container that has the machine's root.
const UUID: &str = "dddddddd-1111-4222-8333-0123456789ab";

/// What opens it.
const PASSPHRASE: &str = "right words";

/// What the machine is before it waits, but for its tables: our key, and some of its units.
const SET_UP: &str = "\
ssh-keygen -q -t ed25519 -N '' -C owner@laptop -f /root/unlock
systemctl enable --quiet phobos-mail-flush.timer phobos-ext-drives.timer
echo virtio_net >>/etc/initramfs-tools/modules
";

/// Sets it up, killed whenever it is about to make one of these calls of the system, until it comes to its end; and once more, killed when
/// the new initramfs has its name and the disk may not have it yet. What the machine boots from was there before, byte by byte, but for that
/// last time.
const KILLED: &str = "\
initrd=$(echo /boot/initrd.img-*); boots() { sha256sum $initrd; }; before=$(boots)
tar -C /etc -cf /root/etc.tar dropbear initramfs-tools
setup() { strace -qq -o /root/calls \"$@\" phobos-unlock setup --key /root/unlock.pub --port 2222 >/root/said 2>&1; }
for call in $CALLS; do
    at=1; rm -r /etc/dropbear /etc/initramfs-tools; tar -C /etc -xf /root/etc.tar
    until code=0; setup -e trace=$call -e inject=$call:signal=KILL:when=$at || code=$?; test $code = 0; do
        test $code = 137; test \"$(boots)\" = \"$before\" || ! test $call = renameat; before=$(boots); at=$((at + 1))
        rm -r /etc/dropbear /etc/initramfs-tools; tar -C /etc -xf /root/etc.tar
    done
    test $at = 6 || ! test $call = renameat; test \"$(boots)\" != \"$before\"; before=$(boots)
done
last=$(setup -e trace=fsync && grep -c ^fsync /root/calls); cat /root/said; before=$(boots); code=0
setup -e trace=renameat,fsync -e inject=fsync:signal=KILL:when=$last || code=$?
test $code = 137; tail -n 3 /root/calls | grep -q '^renameat.*unproved.* = 0$'; test \"$(boots)\" != \"$before\"
";

/// What makes a new initramfs when a kernel is installed: the scripts that its package runs (deb-linux-image's postinst).
const KERNEL_UPDATE: &str = "\
set -eu; version=$(uname -r); before=$(stat -c %Y /boot/initrd.img-$version)
run-parts --arg=$version --arg=/boot/vmlinuz-$version /etc/kernel/postinst.d >&2
test $(stat -c %Y /boot/initrd.img-$version) -gt $before
phobos-unlock check >&2
cat /boot/initrd.img-$version
";

/// phobos-unlock on the owner's machine.
struct Laptop {
    folder: tempfile::TempDir,
    /// What the machine's initramfs shows itself by.
    fingerprint: String,
    /// The running system's host key.
    booted_key: String,
}

impl Laptop {
    fn place(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Calls it, with `typed` on its standard input; its exit code, and what it said.
    fn unlock(&self, args: &[&str], typed: &str) -> Result<(i32, String)> {
        let call = Invocation::new(env!("CARGO_BIN_EXE_e2e-phobos-unlock"))
            .arg("--config")
            .arg(self.place("unlock.toml"))
            .args(args)
            .stdin(format!("{typed}\n").into_bytes())
            .limit(minutes(8));
        match System::default().run(&call) {
            Ok(finished) => Ok((0, finished.text())),
            Err(ExecError::Failed { status: Status::Code(code), stderr, .. }) => Ok((code, stderr)),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives it `typed`; it must end with `code` and say `why`.
    fn expect(&self, code: i32, why: &str, args: &[&str], typed: &str) -> Result<()> {
        let (ended, said) = self.unlock(&[&["nas"], args].concat(), typed)?;
        ensure!(ended == code && said.contains(why), "{ended} instead of {code} with {why:?}: {said}");
        Ok(())
    }

    /// Where the machine is, by these ports.
    fn configure(&self, (port, booted): (u16, u16)) -> Result<()> {
        let identity = self.place("unlock.key");
        let text = format!(
            "[unlock.nas]\nhost = '127.0.0.1'\nport = {port}\nbooted-port = {booted}\nidentity = '{}'\nwait = '5m'\nboot = '6m'\n",
            identity.display()
        );
        Ok(fs::write(self.place("unlock.toml"), text)?)
    }

    /// Pins the running system's key, which is known from the machine itself; `key` may be another one.
    fn pin_booted(&self, machine: &Waiting, key: &str) -> Result<()> {
        Ok(fs::write(self.place("unlock/nas.booted"), known_host(machine.ports()?.1, key))?)
    }

    /// Waits until the waiting system answers, and pins the keys of both.
    fn trust(&self, machine: &Waiting) -> Result<()> {
        self.configure(machine.ports()?)?;
        if self.place("unlock/nas.before-boot").exists() {
            fs::remove_file(self.place("unlock/nas.before-boot"))?;
        }
        let began = Instant::now();
        let args = ["trust", "nas", "--stage", "before-boot", "--fingerprint", &self.fingerprint];
        loop {
            match self.unlock(&args, "")? {
                (0, _) => return self.pin_booted(machine, &self.booted_key),
                (66, _) if began.elapsed() < minutes(5) => std::thread::sleep(phobos_tests::seconds(1)),
                (code, said) => bail!("it ended with {code}: {said}"),
            }
        }
    }
}

#[test]
fn a_machine_whose_root_is_encrypted_waits_and_is_unlocked_again_and_again() -> Story {
    booted(|nas| {
        nas.install("cryptsetup-initramfs", "")?;
        nas.install("dropbear-initramfs", "")?;
        // Each is one more initramfs that is made: all of them where time is no matter.
        let calls = if phobos_tests::is_long() { "renameat fsync clone3" } else { "renameat" };
        let said = nas.sh(&format!("set -eu\nCALLS='{calls}'\n{}{SET_UP}{KILLED}", Waiting::tables(UUID)))?;
        let fingerprint = said.split_whitespace().find(|word| word.starts_with("SHA256:")).context("no fingerprint")?;
        let laptop = Laptop {
            folder: tempfile::tempdir()?,
            fingerprint: fingerprint.to_owned(),
            booted_key: nas.sh("cat /etc/ssh/ssh_host_ed25519_key.pub")?,
        };
        fs::copy(nas.written("root/unlock"), laptop.place("unlock.key"))?;
        nas.sh("rm /root/unlock; sync")?;
        let mut machine = Waiting::made_of(nas, UUID, PASSPHRASE)?;
        let version = nas.sh("ls /boot | sed -n 's/^initrd.img-//p'")?;
        machine.boots_from(&nas.written(&format!("boot/initrd.img-{}", version.trim())))?;
        let unlocked = unlocked(&laptop, &mut machine);
        unlocked.with_context(|| format!("the console says:\n{}", machine.console()))
    })
}

fn unlocked(laptop: &Laptop, machine: &mut Waiting) -> Result<()> {
    // Nothing is given to anybody who is not known.
    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    laptop.configure((free, free))?;
    laptop.expect(65, "no key of nas is pinned", &["--wait", "1s"], PASSPHRASE)?;
    machine.switch_on()?;
    laptop.trust(machine)?;

    let stranger = laptop.place("stranger");
    System::default()
        .run(&Invocation::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&stranger))?;
    let another_key = fs::read_to_string(laptop.place("stranger.pub"))?;
    another_in_its_place(laptop, machine, &another_key)?;
    laptop.expect(77, "does not let this key in", &["--identity", &stranger.to_string_lossy()], PASSPHRASE)?;
    nothing_but_unlock(laptop, machine)?;
    // A connection that dies in the middle of the passphrase.
    let key = laptop.place("unlock.key");
    let half = format!("(printf 'right '; exec sleep 60) | {}", ssh(&key, machine.ports()?.0, &[], &[]));
    let cut = System::default().run(&Invocation::new("timeout").args(["-s", "KILL", "5", "sh", "-c", &half]));
    ensure!(matches!(&cut, Err(ExecError::Failed { .. })), "{cut:?}");
    for _ in 0..3 {
        laptop.expect(65, "the passphrase is wrong", &[], "wrong words")?;
    }
    // The right one; and a system behind it that is not the one that was meant.
    laptop.pin_booted(machine, &another_key)?;
    laptop.expect(65, "shows no key that is pinned for the running system", &[], PASSPHRASE)?;
    laptop.pin_booted(machine, &laptop.booted_key)?;
    laptop.expect(0, "", &[], PASSPHRASE)?;
    is_up(machine)?;

    let tried = shell(machine, "phobos-unlock check --test-passphrase")?;
    let said = System::default().run(&tried.clone().stdin(format!("{PASSPHRASE}\n").into_bytes()))?.text();
    ensure!(said.contains("can be unlocked from afar, and the passphrase opens it"), "{said}");
    match System::default().run(&tried.stdin(b"wrong words\n".to_vec())) {
        Err(ExecError::Failed { status: Status::Code(1), stderr, .. }) if stderr.contains("1 thing is wrong") => {}
        other => bail!("{other:?}"),
    }

    // Twice from the same initramfs, where time is no matter.
    if phobos_tests::is_long() {
        machine.switch_on()?;
        laptop.trust(machine)?;
        laptop.expect(0, "", &[], PASSPHRASE)?;
        is_up(machine)?;
    }

    let initrd = laptop.place("initrd");
    let renewed = shell(machine, KERNEL_UPDATE)?;
    fs::write(&initrd, System::default().run(&renewed)?.stdout)?;
    machine.boots_from(&initrd)?;
    machine.switch_off()?;
    laptop.expect(66, "is not there", &["--wait", "1s"], PASSPHRASE)?;
    machine.switch_on()?;
    laptop.trust(machine)?;
    laptop.expect(0, "", &[], PASSPHRASE)?;
    is_up(machine)
}

/// A machine with another host key than the one that is pinned is given nothing.
fn another_in_its_place(laptop: &Laptop, machine: &Waiting, another_key: &str) -> Result<()> {
    let pinned = laptop.place("unlock/nas.before-boot");
    let right = fs::read_to_string(&pinned)?;
    fs::write(&pinned, known_host(machine.ports()?.0, another_key))?;
    laptop.expect(65, "shows no key that is pinned for the system that waits", &[], PASSPHRASE)?;
    Ok(fs::write(&pinned, right)?)
}

/// The key that unlocks does nothing else, whatever it is asked for: no command, no terminal, no way to anywhere.
fn nothing_but_unlock(laptop: &Laptop, machine: &Waiting) -> Result<()> {
    let (key, port) = (laptop.place("unlock.key"), machine.ports()?.0);
    let (none, command) = (&[][..], &["cat /etc/passwd; echo in"][..]);
    for (options, command, told) in [
        (none, command, "cryptsetup"),
        (none, none, "cryptsetup"),
        (&["-tt"], none, "PTY allocation request failed"),
        (&["-s"], &["sftp"], ""),
        (&["-W", "127.0.0.1:2222"], none, "administratively prohibited"),
        (&["-N", "-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22"], none, "remote port forwarding failed"),
    ] {
        match System::default().run(&ssh(&key, port, options, command)) {
            Err(ExecError::Failed { stderr, .. }) => {
                ensure!(stderr.contains(told) && !stderr.contains("root:"), "{options:?} {command:?}: {stderr}");
            }
            other => bail!("{options:?} {command:?}: {other:?}"),
        }
    }
    Ok(())
}

/// The machine runs from its encrypted root, and what it is there for does.
fn is_up(machine: &Waiting) -> Result<()> {
    let up = shell(
        machine,
        "set -e; findmnt -no SOURCE /; systemctl is-active phobos-mail-flush.timer phobos-ext-drives.timer; phobos-ns; \
         phobos-ns exec -- ls /backup; ! findmnt /backup >/dev/null; systemctl is-system-running --wait",
    )?;
    let said = System::default().run(&up)?.text();
    let lines: Vec<_> = said.lines().collect();
    ensure!(lines.first() == Some(&"/dev/mapper/vault") && lines.last() == Some(&"running"), "{said}");
    ensure!(lines.contains(&"borg") && lines.contains(&"holding"), "{said}");
    Ok(())
}

/// The line of a known-hosts file for a port of the machine's that shows this public key.
fn known_host(port: u16, key: &str) -> String {
    let words: Vec<_> = key.split_whitespace().take(2).collect();
    format!("[127.0.0.1]:{port} {}\n", words.join(" "))
}

/// A command of root's on the running machine.
fn shell(machine: &Waiting, script: &str) -> Result<Invocation> {
    Ok(ssh(&machine.ssh_key(), machine.ports()?.1, &[], &[script]))
}

/// ssh with these options to a port of the machine's, whatever its key is.
fn ssh(key: &Path, port: u16, options: &[&str], command: &[&str]) -> Invocation {
    let trusting = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes"];
    Invocation::new("ssh")
        .args(["-F", "none"])
        .args(trusting.iter().flat_map(|option| ["-o", option]))
        .arg("-i")
        .arg(key)
        .args(["-p", &port.to_string()])
        .args(options)
        .arg("root@127.0.0.1")
        .args(command)
        .limit(minutes(5))
}
