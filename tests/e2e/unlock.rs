//! Remote unlock from beginning to end: set up by phobos-unlock, waited for before the boot, unlocked from another machine.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use phobos_core::exec::{Exec, ExecError, Invocation, Status, System};
use phobos_tests::{Story, Waiting, booted, minutes};

/// What the machine is before it waits: Debian's packages, an encrypted disk that is needed for the boot, and our key.
const SET_UP: &str = "\
set -eu
ssh-keygen -q -t ed25519 -N '' -C owner@laptop -f /root/unlock
disk=/dev/disk/by-uuid/aaaaaaaa-1111-4222-8333-0123456789ab
printf 'right words' | cryptsetup luksFormat --batch-mode --type luks2 --uuid ${disk##*/} --pbkdf pbkdf2 --pbkdf-force-iterations 1000 $disk -
echo \"vault UUID=${disk##*/} none luks,initramfs\" >>/etc/crypttab
echo virtio_net >>/etc/initramfs-tools/modules
phobos-unlock setup --key /root/unlock.pub --port 2222
";

/// phobos-unlock on the owner's machine.
struct Laptop {
    folder: tempfile::TempDir,
}

impl Laptop {
    /// Calls it, with `typed` on its standard input; its exit code, and what it said.
    fn unlock(&self, args: &[&str], typed: &str) -> Result<(i32, String)> {
        let call = Invocation::new(env!("CARGO_BIN_EXE_e2e-phobos-unlock"))
            .arg("--config")
            .arg(self.folder.path().join("unlock.toml"))
            .args(args)
            .stdin(format!("{typed}\n").into_bytes())
            .limit(minutes(8));
        match System::default().run(&call) {
            Ok(finished) => Ok((0, finished.text())),
            Err(ExecError::Failed { status: Status::Code(code), stderr, .. }) => Ok((code, stderr)),
            Err(error) => Err(error.into()),
        }
    }

    /// Where the machine is now.
    fn configure(&self, machine: &Waiting) -> Result<()> {
        let (port, booted) = machine.ports()?;
        let identity = self.folder.path().join("unlock.key");
        fs::write(
            self.folder.path().join("unlock.toml"),
            format!(
                "[unlock.nas]\nhost = '127.0.0.1'\nport = {port}\nbooted-port = {booted}\nidentity = '{}'\nwait = '5m'\nboot = '6m'\n",
                identity.display()
            ),
        )?;
        Ok(())
    }

    /// Pins the running system's key, which is known from the machine itself.
    fn pin_booted(&self, machine: &Waiting, key: &str) -> Result<()> {
        let words: Vec<_> = key.split_whitespace().take(2).collect();
        let line = format!("[127.0.0.1]:{} {}\n", machine.ports()?.1, words.join(" "));
        Ok(fs::write(self.folder.path().join("unlock/nas.booted"), line)?)
    }

    /// Waits until the waiting system answers, and pins its key.
    fn trust(&self, fingerprint: &str) -> Result<()> {
        let began = Instant::now();
        loop {
            match self.unlock(&["trust", "nas", "--stage", "before-boot", "--fingerprint", fingerprint], "")? {
                (0, _) => return Ok(()),
                (66, _) if began.elapsed() < minutes(5) => std::thread::sleep(phobos_tests::seconds(1)),
                (code, said) => bail!("it ended with {code}: {said}"),
            }
        }
    }
}

#[test]
fn a_machine_waits_before_it_boots_and_is_unlocked_twice() -> Story {
    booted(|nas| {
        nas.install("cryptsetup-initramfs", "")?;
        nas.install("dropbear-initramfs", "")?;
        let said = nas.sh(SET_UP)?;
        let fingerprint = said.split_whitespace().find(|word| word.starts_with("SHA256:")).context("no fingerprint")?;
        let version = nas.sh("ls /boot | sed -n 's/^initrd.img-//p'")?;
        let initrd = nas.written(&format!("boot/initrd.img-{}", version.trim()));
        nas.sh("sync")?;

        let laptop = Laptop { folder: tempfile::tempdir()? };
        let key = laptop.folder.path().join("unlock.key");
        fs::copy(nas.written("root/unlock"), &key)?;
        let booted_key = nas.sh("cat /etc/ssh/ssh_host_ed25519_key.pub")?;
        let mut machine = Waiting::start(&initrd, &nas.disk("A"))?;
        let unlocked = unlocked(&laptop, &mut machine, fingerprint, &booted_key, &key);
        unlocked.with_context(|| format!("the console says:\n{}", machine.console()))
    })
}

/// ssh to a port of the machine's, whatever its key is.
fn ssh(key: &Path, port: u16, command: &str) -> Invocation {
    let options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "BatchMode=yes"];
    Invocation::new("ssh")
        .args(["-F", "none", "-T"])
        .args(options.iter().flat_map(|option| ["-o", option]))
        .arg("-i")
        .arg(key)
        .args(["-p", &port.to_string(), "root@127.0.0.1", command])
        .limit(minutes(5))
}

fn unlocked(laptop: &Laptop, machine: &mut Waiting, fingerprint: &str, booted_key: &str, key: &Path) -> Result<()> {
    laptop.configure(machine)?;
    laptop.trust(fingerprint)?;
    laptop.pin_booted(machine, booted_key)?;
    let (code, said) = laptop.unlock(&["nas"], "wrong words")?;
    ensure!(code == 65 && said.contains("the passphrase is wrong"), "{code}: {said}");
    // The key does nothing else, whatever it is asked for.
    let shell = ssh(key, machine.ports()?.0, "cat /etc/passwd; echo in");
    match System::default().run(&shell) {
        Err(ExecError::Failed { stderr, .. }) => ensure!(!stderr.contains("root:"), "{stderr}"),
        other => bail!("a command was run: {other:?}"),
    }
    for round in ["first", "second"] {
        let (code, said) = laptop.unlock(&["nas"], "right words")?;
        ensure!(code == 0, "{round}: {code}: {said}");
        let words = "ls -l /dev/mapper/vault; systemctl is-system-running --wait";
        let open = ssh(&machine.ssh_key(), machine.ports()?.1, words);
        let open = System::default().run(&open).with_context(|| format!("{round}: {said}"))?;
        ensure!(open.text().ends_with("running"), "{}", open.text());
        if round == "first" {
            machine.switch_on()?;
            laptop.configure(machine)?;
            fs::remove_file(laptop.folder.path().join("unlock/nas.before-boot"))?;
            laptop.trust(fingerprint)?;
            laptop.pin_booted(machine, booted_key)?;
        }
    }
    Ok(())
}
