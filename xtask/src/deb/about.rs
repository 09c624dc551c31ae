//! What a package says of itself: control, changelog, licences.

use super::{compressed, gz, size};
use crate::metadata::{linked, metadata};
use crate::project;
use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use xshell::{Shell, cmd};

/// Who makes it, unless `DEBFULLNAME` and `DEBEMAIL` say so.
const MAINTAINER: (&str, &str) = ("phobos contributors", "phobos@example.org");

/// What it needs besides the libraries that its programs are linked with.
const DEPENDS: &str = "borgbackup (>= 1.2.4), cryptsetup-bin, dmsetup, e2fsprogs, fdisk, mount, rsync (>= 3.2.7), systemd (>= 252), \
util-linux (>= 2.38)";

/// What most will want.
const RECOMMENDS: &str =
    "borgmatic, default-mta | mail-transport-agent, openssh-client, systemd-cryptsetup | cryptsetup, udev";

/// What some will want.
const SUGGESTS: &str = "btrfs-progs, dropbear-initramfs, smartmontools, xfsprogs, xxhash";

/// What lintian is told to overlook, and why.
pub(super) const OVERRIDES: &str = "\
# It only asks what is there; what is stopped is stopped by deb-systemd-invoke. Instances of templates have no other list.
phobos: maintainer-script-calls-systemctl [prerm:*]
# A drive that is plugged in starts its own mirror: the device is what wants the unit.
phobos: systemd-service-file-refers-to-unusual-wantedby-target dev-disk-byx2duuid-%i.device *
";

/// The text of `DEBIAN/control`.
pub(super) fn control(sh: &Shell, tree: &Path, version: &str) -> Result<String> {
    let (name, mail) = maintainer(sh);
    let architecture = cmd!(sh, "dpkg --print-architecture").quiet().read()?;
    Ok(format!(
        "Package: phobos\n\
         Version: {version}\n\
         Architecture: {architecture}\n\
         Maintainer: {name} <{mail}>\n\
         Installed-Size: {}\n\
         Depends: {}, {DEPENDS}\n\
         Recommends: {RECOMMENDS}\n\
         Suggests: {SUGGESTS}\n\
         Section: admin\n\
         Priority: optional\n\
         Description: backups for a house, with drives that live elsewhere\n \
         phobos pulls the hosts of a house with rsync, lets Borg back them up at\n \
         night, and mirrors the Borg repository onto encrypted USB drives that live\n \
         elsewhere: plug one in, and a light turns yellow, then green once it may be\n \
         taken away; or red, and a mail says why. The backups are mounted in a mount\n \
         namespace of their own, where no other process sees them.\n \
         .\n \
         Nothing is enabled when the package is installed; phobos(7) says how to begin.\n",
        size(&tree.join("usr"))?,
        libraries(sh, tree)?,
    ))
}

/// The packages with the shared libraries that the programs are linked with.
fn libraries(sh: &Shell, tree: &Path) -> Result<String> {
    let scratch = sh.create_temp_dir()?;
    let folder = scratch.path().join("debian");
    sh.create_dir(&folder)?;
    sh.write_file(folder.join("control"), "Source: phobos\n\nPackage: phobos\nArchitecture: any\n")?;
    let _here = sh.push_dir(scratch.path());
    let programs = crate::programs()?.into_iter().map(|name| tree.join("usr/bin").join(name));
    let said = cmd!(sh, "dpkg-shlibdeps -O --ignore-missing-info").args(programs).quiet().ignore_stderr().read()?;
    let depends = said.lines().find_map(|line| line.strip_prefix("shlibs:Depends="));
    depends.map(str::to_owned).context("dpkg-shlibdeps names no library; it is in Debian's dpkg-dev")
}

fn maintainer(sh: &Shell) -> (String, String) {
    let or = |name: &str, usual: &str| sh.var(name).unwrap_or_else(|_| usual.to_owned());
    (or("DEBFULLNAME", MAINTAINER.0), or("DEBEMAIL", MAINTAINER.1))
}

/// What lies in `/usr/share/doc/phobos`.
pub(super) fn documents(sh: &Shell, version: &str, stamp: u64) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let (name, mail) = maintainer(sh);
    let stamp = stamp.to_string();
    let date = cmd!(sh, "date --utc --date=@{stamp} --rfc-email").env("LC_ALL", "C").quiet().read()?;
    let changelog = format!(
        "phobos ({version}) unstable; urgency=medium\n\n  * What changed is in CHANGELOG.md.gz.\n\n -- {name} <{mail}>  {date}\n"
    );
    let read = |file: &str| fs::read(project().join(file)).with_context(|| format!("cannot read {file}"));
    let mut documents = vec![("copyright".into(), copyright(sh)?.into_bytes())];
    for (name, text) in [
        ("changelog", changelog.into_bytes()),
        ("CHANGELOG.md", read("CHANGELOG.md")?),
        ("README.md", read("README.md")?),
        ("ARCHITECTURE.md", read("ARCHITECTURE.md")?),
        ("formats.md", read("docs/formats.md")?),
        ("threat-model.md", read("docs/threat-model.md")?),
        ("glossary.md", read("docs/glossary.md")?),
    ] {
        documents.push((gz(Path::new(name)), compressed(sh, &text)?));
    }
    Ok(documents)
}

/// Phobos's own licence, and those of the crates that are linked into its programs.
fn copyright(sh: &Shell) -> Result<String> {
    let metadata = metadata(sh)?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let linked = linked(&metadata)?;
    let crates: BTreeSet<String> = packages
        .iter()
        .filter(|package| !package["source"].is_null())
        .filter(|package| package["id"].as_str().is_some_and(|id| linked.contains(id)))
        .map(|package| {
            let text = |field: &str| package[field].as_str().unwrap_or("?").to_owned();
            format!(" {} {}: {}", text("name"), text("version"), text("license"))
        })
        .collect();
    let crates: Vec<String> = crates.into_iter().collect();
    Ok(format!(
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\
         Upstream-Name: phobos\n\
         Comment:\n The programs are linked with these crates, each under its own licence:\n{}\n\n\
         Files: *\n\
         Copyright: 2026 the phobos contributors\n\
         License: Expat or Apache-2.0\n\n\
         License: Expat\n{}\n\n\
         License: Apache-2.0\n On Debian systems, the full text of the Apache License 2.0 is in\n \
         /usr/share/common-licenses/Apache-2.0.\n",
        crates.join("\n"),
        mit()?,
    ))
}

/// The text of the MIT licence in `LICENSE`, as copyright wants it.
fn mit() -> Result<String> {
    let text = fs::read_to_string(project().join("LICENSE")).context("cannot read LICENSE")?;
    let from = text.find("Permission is hereby").context("LICENSE has no MIT licence")?;
    let text = text.get(from..).unwrap_or_default();
    let text = text.split("\n----").next().unwrap_or_default().trim_end();
    let lines = text.lines().map(|line| if line.is_empty() { " .".to_owned() } else { format!(" {line}") });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}
