//! `setup`: what the tests, the rig and the demo need on a Debian 12 or 13 that has nothing but a Rust toolchain.

use crate::{as_root, root_cmd, say};
use anyhow::{Context, Result, bail};
use std::path::Path;
use xshell::{Cmd, Shell, cmd};

/// Something that has to be here, and the Debian package that brings it.
struct Need {
    package: &'static str,
    /// A program of [`FOLDERS`], or the absolute path of a file.
    sign: &'static str,
    purpose: &'static str,
}

/// Where a sign without a slash is looked for; a user's own `PATH` is of no use to tests that run as root.
const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

const NEEDS: [Need; 45] = [
    need("gcc", "cc", "links the programs"),
    need("libc6-dev", "/usr/include/stdio.h", "links the programs"),
    need("borgbackup", "borg", "real repositories in tests, demo and bench"),
    need("rsync", "rsync", "the mirror"),
    need("cryptsetup-bin", "cryptsetup", "encrypted drives, where the kernel has dm-crypt"),
    need("e2fsprogs", "mkfs.ext4", "file systems on loop devices and the rig's disk"),
    need("btrfs-progs", "mkfs.btrfs", "drives with another file system"),
    need("xfsprogs", "mkfs.xfs", "drives with another file system"),
    need("xxhash", "xxhsum", "the checksums on a drive, checked without phobos"),
    need("dosfstools", "mkfs.vfat", "drives with a file system that is refused"),
    need("util-linux", "nsenter", "mount namespaces"),
    need("mount", "losetup", "loop devices"),
    need("fdisk", "sfdisk", "partition tables of disks that become drives"),
    need("iproute2", "ip", "network namespaces as hosts to pull from"),
    need("openssh-client", "ssh", "the rig's shell, pulls"),
    need("openssh-server", "sshd", "a host to pull from, on loopback"),
    need("dropbear-bin", "dropbear", "a host with another ssh server"),
    need("acl", "getfacl", "compares what was pulled with what the host has"),
    need("attr", "getfattr", "compares what was pulled with what the host has"),
    need("rsnapshot", "rsnapshot", "what the bench compares pulls with"),
    need("python3", "python3", "the rig's fake light inside the guest image"),
    need(
        "python3-jsonschema",
        "/usr/lib/python3/dist-packages/jsonschema/__init__.py",
        "the schema of the configuration, compared with what the programs take",
    ),
    need("python3-pip", "pip3", "the Python original of phobos-blink, which the rig compares it with"),
    need("chromium", "chromium", "looks at the page of phobos-status"),
    need("fonts-dejavu-core", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf", "the letters on that page"),
    need("curl", "curl", "the hooks that docs/monitoring shows"),
    need("jq", "jq", "the hooks that docs/monitoring shows"),
    need("apprise", "apprise", "the hooks that docs/monitoring shows"),
    need("mosquitto", "mosquitto", "a broker for the hook that tells Home Assistant"),
    need("mosquitto-clients", "mosquitto_pub", "the hook that tells Home Assistant"),
    need("prometheus", "promtool", "reads the metrics, the rules and the dashboard"),
    need("mmdebstrap", "mmdebstrap", "the rig's root file system"),
    need("gpgv", "gpgv", "checks the packages of the rig's root file system"),
    need("debian-archive-keyring", "/usr/share/keyrings/debian-archive-trixie-stable.gpg", "the keys of Debian 13"),
    need("ca-certificates", "/etc/ssl/certs/ca-certificates.crt", "package sources over https"),
    need("shellcheck", "shellcheck", "reads the stories, which are shell scripts"),
    need("procps", "sysctl", "what runs in tests"),
    need("man-db", "man", "shows the man pages"),
    need("groff-base", "groff", "formats the man pages"),
    need("dpkg-dev", "dpkg-shlibdeps", "which libraries the Debian package needs"),
    need("lintian", "lintian", "finds what is wrong in the Debian package"),
    need("mandoc", "mandoc", "finds what is wrong in the man pages"),
    need(
        "systemd-container",
        "systemd-nspawn",
        "the rig's Debian on this processor: stories that need systemd, and the bench of the mail",
    ),
    need("tar", "tar", "the rig's root file system"),
    need("zstd", "zstd", "the rig's root file system"),
];

/// Packages of which only the programs are needed, and the units that they bring.
const SERVICES: [(&str, &[&str]); 3] = [
    ("openssh-server", &["ssh.service", "ssh.socket"]),
    ("mosquitto", &["mosquitto.service"]),
    ("prometheus", &["prometheus.service"]),
];

const fn need(package: &'static str, sign: &'static str, purpose: &'static str) -> Need {
    Need { package, sign, purpose }
}

/// Installs what is missing; says what it does, and does nothing where everything is here.
///
/// # Errors
///
/// If something is missing and cannot be installed.
pub(crate) fn run(sh: &Shell) -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return lists(sh);
    }
    for Need { package, purpose, .. } in &missing {
        say(&format!("setup: missing {package} ({purpose})"));
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    install(sh, &packages).with_context(|| format!("cannot install {}; do it by hand", packages.join(" ")))?;
    let missing = self::missing();
    if !missing.is_empty() {
        let still: Vec<&str> = missing.iter().map(|need| need.sign).collect();
        bail!("installed the packages, but these are still not here: {}", still.join(", "));
    }
    say("setup: done");
    Ok(())
}

/// Fetches apt's package lists where there are none: the rig finds in them where to get its Debian from.
fn lists(sh: &Shell) -> Result<()> {
    if cmd!(sh, "apt-get indextargets 'Origin: Debian'").quiet().read()?.is_empty() {
        say("setup: apt has no package lists");
        root_cmd(sh, "apt-get", &["update"]).run()?;
    } else {
        say("setup: everything is here");
    }
    Ok(())
}

fn missing() -> Vec<&'static Need> {
    NEEDS.iter().filter(|need| !is_here(need.sign)).collect()
}

fn is_here(sign: &str) -> bool {
    // `join` with an absolute path is that path.
    FOLDERS.iter().any(|folder| Path::new(folder).join(sign).exists())
}

fn install(sh: &Shell, packages: &[&str]) -> Result<()> {
    if !is_here("apt-get") {
        bail!("this is no Debian");
    }
    if !as_root().is_empty() && !is_here("sudo") {
        bail!("neither root nor sudo");
    }
    root_cmd(sh, "apt-get", &["update"]).run()?;
    let services = SERVICES.iter().filter(|(package, _)| packages.contains(package));
    let units: Vec<&str> = services.flat_map(|(_, units)| *units).copied().collect();
    let _asleep = (!units.is_empty()).then(|| NoServices::start(sh)).transpose()?;
    apt_install(sh, packages).run()?;
    if !units.is_empty() && is_here("systemctl") {
        // What ran or started at boot before setup is all that does after it.
        root_cmd(sh, "systemctl", &[&["disable"], units.as_slice()].concat()).ignore_status().run()?;
    }
    Ok(())
}

fn apt_install<'a>(sh: &'a Shell, packages: &[&str]) -> Cmd<'a> {
    let fixed = [
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "install",
        "--yes",
        "--no-install-recommends",
        "-o=Dpkg::Use-Pty=0",
    ];
    root_cmd(sh, "env", &[&fixed, packages].concat())
}

/// While it lives, packages that are being installed start no services.
struct NoServices<'a> {
    sh: &'a Shell,
    ours: bool,
}

impl<'a> NoServices<'a> {
    const POLICY: &'static str = "/usr/sbin/policy-rc.d";

    fn start(sh: &'a Shell) -> Result<Self> {
        let ours = !Path::new(Self::POLICY).exists();
        if ours {
            root_cmd(sh, "tee", &[Self::POLICY]).stdin("#!/bin/sh\nexit 101\n").ignore_stdout().run()?;
            root_cmd(sh, "chmod", &["755", Self::POLICY]).run()?;
        }
        Ok(Self { sh, ours })
    }
}

impl Drop for NoServices<'_> {
    fn drop(&mut self) {
        if self.ours {
            if let Err(error) = root_cmd(self.sh, "rm", &[Self::POLICY]).run() {
                crate::complain(&format!("cannot remove {}: {error}", Self::POLICY));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_is_a_program_or_a_file() {
        assert!(is_here("sh"));
        assert!(is_here("/proc/self/status"));
        assert!(!is_here("no-such-program"));
        assert!(!is_here("/no/such/file"));
    }

    #[test]
    fn no_package_is_named_twice() {
        let mut packages: Vec<&str> = NEEDS.iter().map(|need| need.package).collect();
        packages.sort_unstable();
        packages.dedup();
        assert_eq!(packages.len(), NEEDS.len());
        assert!(SERVICES.iter().all(|(package, _)| packages.contains(package)));
    }
}
