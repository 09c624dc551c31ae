//! The list of all files that phobos installs, and where each goes: below `/usr/local` and `/etc` where an administrator has
//! built it, below `/usr` in a package.

use crate::{crates, list, programs, project};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Whose files they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// The administrator's own.
    Local,
    /// A package's.
    Package,
}

/// A file to install.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) source: PathBuf,
    /// Below the tree.
    pub(crate) target: PathBuf,
    pub(crate) mode: u32,
}

/// What holds keys of drives and headers of their containers, for root alone.
pub(crate) const PRIVATE: [&str; 2] = ["etc/phobos/keys", "etc/phobos/headers"];

/// What the programs write while they run: it goes with a purge. Units whose user has no name keep theirs in `private`.
pub(crate) const STATE: [&str; 6] = [
    "var/lib/phobos",
    "var/lib/phobos-mail",
    "var/lib/private/phobos-mail",
    "var/lib/phobos-status-hook",
    "var/lib/private/phobos-status-hook",
    "var/spool/phobos",
];

/// The script that has the original's units call phobos.
pub(crate) const MIGRATE: &str = "phobos-migrate";

/// Where units are.
const UNITS: [&str; 2] = ["etc/systemd/system", "usr/lib/systemd/system"];

impl Layout {
    /// The folder of the programs.
    pub(crate) fn bin(self) -> &'static str {
        self.choose("usr/local/bin", "usr/bin")
    }

    /// The folder of the units.
    pub(crate) fn units(self) -> &'static str {
        let [local, package] = UNITS;
        self.choose(local, package)
    }

    fn choose(self, local: &'static str, package: &'static str) -> &'static str {
        match self {
            Self::Local => local,
            Self::Package => package,
        }
    }

    /// Where a file of a `dist` folder goes, by its name's end.
    fn place(self, source: &Path) -> Option<PathBuf> {
        let folder = match source.extension()?.to_str()? {
            "service" | "timer" | "path" | "socket" | "target" => PathBuf::from(self.units()),
            "rules" => self.choose("etc/udev/rules.d", "usr/lib/udev/rules.d").into(),
            "toml" => "etc/phobos".into(),
            "conf" if source.parent()?.ends_with("sysusers.d") => {
                self.choose("etc/sysusers.d", "usr/lib/sysusers.d").into()
            }
            "conf" if source.parent()?.ends_with("tmpfiles.d") => {
                self.choose("etc/tmpfiles.d", "usr/lib/tmpfiles.d").into()
            }
            // A drop-in is for a unit of the administrator's own, who puts it there.
            "conf" => {
                Path::new(self.choose("usr/local/share/phobos", "usr/share/phobos")).join(source.parent()?.file_name()?)
            }
            _ => return None,
        };
        Some(folder.join(source.file_name()?))
    }

    /// Where a page, a completion or a schema goes, by its path below the folder that `cargo xtask man` writes.
    fn place_of_manual(self, below: &Path) -> Option<PathBuf> {
        let share = Path::new(self.choose("usr/local/share", "usr/share"));
        let name = below.file_name()?.to_str()?;
        let folder = below.parent()?;
        Some(if folder == Path::new("man") {
            share.join(format!("man/man{}", name.rsplit('.').next()?)).join(name)
        } else if folder == Path::new("schema") {
            share.join("phobos").join(name)
        } else if folder.ends_with("bash") {
            share.join("bash-completion/completions").join(name.strip_suffix(".bash")?)
        } else if folder.ends_with("zsh") {
            share.join(self.choose("zsh/site-functions", "zsh/vendor-completions")).join(name)
        } else if folder.ends_with("fish") {
            share.join("fish/vendor_completions.d").join(name)
        } else {
            return None;
        })
    }

    /// A unit's or a drop-in's text with the programs and samples where this layout has them.
    pub(crate) fn translated(self, target: &Path, text: Vec<u8>) -> Vec<u8> {
        let is_unit = self == Self::Package
            && target.extension().is_some_and(|end| end != "toml")
            && !target.starts_with(self.bin());
        match String::from_utf8(text) {
            Ok(text) if is_unit => text
                .replace("/usr/local/bin/phobos-", "/usr/bin/phobos-")
                .replace("/usr/local/share/phobos", "/usr/share/phobos")
                .into_bytes(),
            Ok(text) => text.into_bytes(),
            Err(no_text) => no_text.into_bytes(),
        }
    }
}

/// Every file there is to install, with the programs of the folder `built` and what `cargo xtask man` has written into `manual`.
///
/// # Errors
///
/// If a folder cannot be listed, or a file has no place.
pub(crate) fn items(layout: Layout, built: &Path, manual: Option<&Path>) -> Result<Vec<Item>> {
    let program =
        |name: String| Item { source: built.join(&name), target: Path::new(layout.bin()).join(name), mode: 0o755 };
    let mut items: Vec<Item> = programs()?.into_iter().map(program).collect();
    for source in dist()? {
        let target = layout.place(&source);
        items.push(plain(source, target)?);
    }
    let target = Path::new(layout.bin()).join(MIGRATE);
    items.push(Item { source: project().join("xtask/assets").join(MIGRATE), target, mode: 0o755 });
    for source in manual.map(files).transpose()?.unwrap_or_default() {
        let below = manual.and_then(|manual| source.strip_prefix(manual).ok());
        let target = below.and_then(|below| layout.place_of_manual(below));
        items.push(plain(source, target)?);
    }
    Ok(items)
}

/// A file for all to read.
fn plain(source: PathBuf, target: Option<PathBuf>) -> Result<Item> {
    let target = target.with_context(|| format!("{} has no place to be installed", source.display()))?;
    Ok(Item { source, target, mode: 0o644 })
}

/// Every file in the packages' `dist` folders, and in folders in there.
pub(crate) fn dist() -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for folder in crates()? {
        found.extend(files(&folder.join("dist"))?);
    }
    Ok(found)
}

/// Every file in a folder, and in folders in there.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for path in list(folder)? {
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    Ok(found)
}

/// What an item's file holds, as it is to be installed.
///
/// # Errors
///
/// If it cannot be read.
pub(crate) fn content(layout: Layout, item: &Item) -> Result<Vec<u8>> {
    let text = fs::read(&item.source).with_context(|| format!("cannot read {}", item.source.display()))?;
    Ok(layout.translated(&item.target, text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_in_dist_has_a_place_of_its_own_in_both_layouts() {
        for layout in [Layout::Local, Layout::Package] {
            let items = items(layout, Path::new("/built"), None).unwrap();
            let targets: BTreeSet<&Path> = items.iter().map(|item| item.target.as_path()).collect();
            assert_eq!(targets.len(), items.len());
            assert!(items.len() > 40, "{items:?}");
        }
    }

    #[test]
    fn a_package_keeps_to_its_own_places() {
        for item in items(Layout::Package, Path::new("/built"), None).unwrap() {
            let target = item.target;
            let is_configuration = target == Path::new("etc/phobos/phobos.toml");
            assert!(target.starts_with("usr") || is_configuration, "{}", target.display());
            assert!(!target.starts_with("usr/local"), "{}", target.display());
            if item.mode == 0o644 && !is_configuration {
                let text = content(Layout::Package, &Item { source: item.source, target, mode: 0 }).unwrap();
                assert!(!String::from_utf8(text).unwrap().contains("/usr/local/"));
            }
        }
    }

    #[test]
    fn the_private_folders_are_made_at_boot_too() {
        let text = fs::read_to_string(project().join("phobos-ext/dist/tmpfiles.d/phobos.conf")).unwrap();
        let made: Vec<String> = text.lines().filter(|line| line.starts_with("d ")).map(str::to_owned).collect();
        assert_eq!(made, PRIVATE.map(|folder| format!("d /{folder} 0700 root root -")));
    }

    #[test]
    fn pages_and_completions_lie_where_their_readers_look() {
        let places = [
            ("man/phobos-ext.8", "usr/local/share/man/man8/phobos-ext.8", "usr/share/man/man8/phobos-ext.8"),
            ("man/phobos.toml.5", "usr/local/share/man/man5/phobos.toml.5", "usr/share/man/man5/phobos.toml.5"),
            (
                "schema/phobos.schema.json",
                "usr/local/share/phobos/phobos.schema.json",
                "usr/share/phobos/phobos.schema.json",
            ),
            (
                "completions/bash/phobos-ns.bash",
                "usr/local/share/bash-completion/completions/phobos-ns",
                "usr/share/bash-completion/completions/phobos-ns",
            ),
            (
                "completions/zsh/_phobos-ns",
                "usr/local/share/zsh/site-functions/_phobos-ns",
                "usr/share/zsh/vendor-completions/_phobos-ns",
            ),
            (
                "completions/fish/phobos-ns.fish",
                "usr/local/share/fish/vendor_completions.d/phobos-ns.fish",
                "usr/share/fish/vendor_completions.d/phobos-ns.fish",
            ),
        ];
        for (below, local, package) in places {
            assert_eq!(Layout::Local.place_of_manual(Path::new(below)).unwrap(), Path::new(local));
            assert_eq!(Layout::Package.place_of_manual(Path::new(below)).unwrap(), Path::new(package));
        }
        assert!(Layout::Local.place_of_manual(Path::new("other/x")).is_none());
    }
}
