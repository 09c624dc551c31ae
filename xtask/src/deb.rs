//! `deb`: a Debian package of all that `install` installs, at a package's places, made by `dpkg-deb` from a tree.
//!
//! Two packages of the same state of the project are the same, bit for bit: times are those of `SOURCE_DATE_EPOCH` or of the last
//! commit, owners are root, and the programs are built with neither folder of this machine in them.

mod about;

use crate::files::{self, Layout, STATE};
use crate::{build_packages, list, man, programs, project, say, target};
use anyhow::{Context, Result, ensure};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{self, Path, PathBuf};
use xshell::{Shell, cmd};

/// The scripts that dpkg runs, with `@…@` for what the list of files says.
const SCRIPTS: [(&str, &str); 3] = [
    ("postinst", include_str!("../assets/deb/postinst")),
    ("prerm", include_str!("../assets/deb/prerm")),
    ("postrm", include_str!("../assets/deb/postrm")),
];

/// What an administrator may change.
const CONFFILE: &str = "/etc/phobos/phobos.toml";

/// The command line of `deb`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The cargo profile to build with
    #[arg(long, default_value = "release")]
    profile: String,
    /// Pack the programs of this folder, phobos-manual among them, and build none
    #[arg(long, value_name = "FOLDER")]
    programs: Option<PathBuf>,
    /// The package's version
    #[arg(long = "package-version", value_name = "VERSION", default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// How it is compressed: xz, zstd, gzip or none
    #[arg(long, value_name = "KIND", default_value = "xz")]
    compression: String,
    /// How hard it is compressed, from 0 or 1 to 9; what dpkg-deb takes unless it is said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=9))]
    level: Option<u8>,
    /// The folder that gets the package; target/deb unless it is said
    #[arg(long, value_name = "FOLDER")]
    output: Option<PathBuf>,
}

/// Makes the package.
///
/// # Errors
///
/// If something cannot be built, or a tool of Debian's is missing or refuses.
pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let output = path::absolute(args.output.clone().map_or_else(|| target().map(|target| target.join("deb")), Ok)?)?;
    let built = match &args.programs {
        Some(folder) => path::absolute(folder)?,
        None => build(sh, &args.profile)?,
    };
    let manual = man::from(sh, &built)?.with_context(|| format!("no phobos-manual in {}", built.display()))?;
    sh.create_dir(&output)?;
    let tree = output.join("tree");
    if tree.exists() {
        sh.remove_path(&tree)?;
    }
    let stamp = man::stamp(sh)?;
    stage(sh, &tree, &built, &manual, &args.version, stamp)?;
    let architecture = cmd!(sh, "dpkg --print-architecture").quiet().read()?;
    let package = output.join(format!("phobos_{}_{architecture}.deb", args.version));
    let _stamp = sh.push_env("SOURCE_DATE_EPOCH", stamp.to_string());
    // More than one thread may cut the same data into other blocks.
    let compression = &args.compression;
    let level = args.level.map(|level| format!("-z{level}"));
    cmd!(sh, "dpkg-deb --root-owner-group -Z{compression} {level...} --threads-max=1 --build {tree} {package}")
        .quiet()
        .ignore_stdout()
        .run()?;
    sh.remove_path(&tree)?;
    say(&format!("made {}", package.display()));
    Ok(())
}

/// Builds the programs without a folder of this machine in them, in a target folder of their own.
fn build(sh: &Shell, profile: &str) -> Result<PathBuf> {
    let home = sh.var("CARGO_HOME").or_else(|_| sh.var("HOME").map(|home| format!("{home}/.cargo")))?;
    let remap = |from: &str, to: &str| format!("--remap-path-prefix={from}={to}");
    let flags = [remap(&project().to_string_lossy(), "/usr/src/phobos"), remap(&home, "/usr/src/cargo")];
    let folder = target()?.join("deb/build");
    let _flags = sh.push_env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    let _folder = sh.push_env("CARGO_TARGET_DIR", &folder);
    let mut packages = programs()?;
    packages.push("phobos-manual".to_owned());
    build_packages(sh, profile, &packages)?;
    Ok(folder.join(if profile == "dev" { "debug" } else { profile }))
}

/// Lays the package out below `tree`.
fn stage(sh: &Shell, tree: &Path, built: &Path, manual: &Path, version: &str, stamp: u64) -> Result<()> {
    let items = files::items(Layout::Package, built, Some(manual))?;
    for item in &items {
        let text = files::content(Layout::Package, item)?;
        let is_page = item.target.starts_with("usr/share/man");
        let (target, text) =
            if is_page { (gz(&item.target), compressed(sh, &text)?) } else { (item.target.clone(), text) };
        put(tree, &target, &text, item.mode)?;
    }
    let programs = programs()?.into_iter().map(|name| Path::new(Layout::Package.bin()).join(name));
    for program in programs {
        let program = tree.join(program);
        // The profiles of tests keep symbols.
        cmd!(sh, "strip --remove-section=.comment --remove-section=.note {program}").quiet().run()?;
    }
    for (name, text) in about::documents(sh, version, stamp)? {
        put(tree, &Path::new("usr/share/doc/phobos").join(name), &text, 0o644)?;
    }
    put(tree, Path::new("usr/share/lintian/overrides/phobos"), about::OVERRIDES.as_bytes(), 0o644)?;
    let units = Units::of(&items)?;
    for (name, text) in SCRIPTS {
        put(tree, &Path::new("DEBIAN").join(name), units.fill(text, &items)?.as_bytes(), 0o755)?;
    }
    put(tree, Path::new("DEBIAN/conffiles"), format!("{CONFFILE}\n").as_bytes(), 0o644)?;
    put(tree, Path::new("DEBIAN/md5sums"), sums(sh, tree)?.as_bytes(), 0o644)?;
    put(tree, Path::new("DEBIAN/control"), about::control(sh, tree, version)?.as_bytes(), 0o644)
}

/// The units that somebody can enable.
#[derive(Debug, Default, PartialEq, Eq)]
struct Units {
    plain: Vec<String>,
    templates: Vec<String>,
}

impl Units {
    fn of(items: &[files::Item]) -> Result<Self> {
        let mut units = Self::default();
        for item in items.iter().filter(|item| item.target.starts_with(Layout::Package.units())) {
            let name = item.target.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = String::from_utf8(files::content(Layout::Package, item)?)?;
            match (text.contains("\n[Install]\n"), name.contains("@.")) {
                (true, true) => units.templates.push(name),
                (true, false) => units.plain.push(name),
                (false, _) => {}
            }
        }
        Ok(units)
    }

    /// A script of dpkg's with the names in their places.
    fn fill(&self, script: &str, items: &[files::Item]) -> Result<String> {
        let below = |folder: &str| -> Vec<String> {
            let found = items.iter().filter(|item| item.target.parent() == Some(Path::new(folder)));
            found.filter_map(|item| item.target.file_name()?.to_str().map(str::to_owned)).collect()
        };
        let lists = [
            ("@UNITS@", self.plain.clone()),
            ("@TEMPLATES@", self.templates.clone()),
            ("@SYSUSERS@", below("usr/lib/sysusers.d")),
            ("@TMPFILES@", below("usr/lib/tmpfiles.d")),
            ("@STATE@", STATE.iter().map(|folder| format!("/{folder}")).collect()),
        ];
        let mut script = script.to_owned();
        for (place, names) in lists {
            ensure!(!names.is_empty(), "nothing stands for {place}");
            script = script.replace(place, &names.join(" "));
        }
        Ok(script)
    }
}

/// Writes a file below `tree`, and makes the folders above it, with these permissions whatever the umask.
fn put(tree: &Path, target: &Path, text: &[u8], mode: u32) -> Result<()> {
    let write = || -> std::io::Result<()> {
        let mut folder = tree.to_owned();
        for part in [Path::new("")].into_iter().chain(target.parent().into_iter().flat_map(Path::iter).map(Path::new)) {
            folder.push(part);
            if !folder.is_dir() {
                fs::create_dir_all(&folder)?;
                fs::set_permissions(&folder, Permissions::from_mode(0o755))?;
            }
        }
        let path = tree.join(target);
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(mode))
    };
    write().with_context(|| format!("cannot write {}", tree.join(target).display()))
}

fn gz(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    name.into()
}

/// As `gzip` makes it of the text, without a time or a name.
fn compressed(sh: &Shell, text: &[u8]) -> Result<Vec<u8>> {
    Ok(cmd!(sh, "gzip -9n").stdin(text).quiet().output()?.stdout)
}

/// What `debsums` checks: all files but the configuration.
fn sums(sh: &Shell, tree: &Path) -> Result<String> {
    let _here = sh.push_dir(tree);
    let files = cmd!(sh, "find usr -type f -printf %p\n").quiet().read()?;
    let mut files: Vec<&str> = files.lines().collect();
    files.sort_unstable();
    Ok(cmd!(sh, "md5sum").args(files).quiet().read()? + "\n")
}

/// The size of all files in KiB, as control has it.
fn size(tree: &Path) -> Result<u64> {
    let mut total: u64 = 0;
    for path in list(tree)? {
        total =
            total.saturating_add(if path.is_dir() { size(&path)? } else { fs::metadata(&path)?.len().div_ceil(1024) });
    }
    Ok(total.saturating_add(1))
}

#[cfg(test)]
mod tests;
