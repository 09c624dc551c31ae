//! The project's chores, one module each: `cargo xtask CHORE`.

mod bench;
mod deb;
mod demo;
mod files;
mod fuzz;
mod install;
mod man;
mod metadata;
mod migrate;
mod mutants;
mod nas;
mod setup;
mod test;
#[cfg(test)]
mod tidy;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use xshell::{Cmd, Shell, cmd};

/// The project's chores.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// Install what the tests, the rig and the demo need and is not here yet
    Setup,
    /// Run every check and test: format, lints, unit, command line, host, rig
    Test(test::Args),
    /// Feed the parsers with damaged input, for as long as one likes
    Fuzz(fuzz::Args),
    /// Change the lines that a green light hangs on, and find out which change no test notices
    Mutants(mutants::Args),
    /// Show the main job on a NAS in miniature, from plug to green
    Demo(demo::Args),
    /// Measure phobos beside the original's scripts, and print a table with the targets
    Bench(bench::Args),
    /// Hold up the bytes of a connection, as a distant host's (bench uses it)
    #[command(hide = true)]
    Delay(bench::delay::Args),
    /// Write the man pages, completions and schemas into target/manual
    Man(man::Args),
    /// Write the sample configuration anew, from the types of the settings
    Sample,
    /// Make a Debian package of all that `install` installs
    Deb(deb::Args),
    /// Have units that call the original's scripts call phobos: shown first, written with `--apply`
    Migrate(migrate::Args),
    /// Build the programs and install them with units, udev rules, man pages and a sample configuration
    Install(install::Args),
    /// Remove what `install` installed and nobody changed since
    Uninstall(install::Away),
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(project());
    match cli.chore {
        Chore::Setup => setup::run(&sh),
        Chore::Test(args) => test::run(&sh, &args),
        Chore::Fuzz(args) => fuzz::run(&sh, &args),
        Chore::Mutants(args) => mutants::run(&sh, &args),
        Chore::Demo(args) => demo::run(&sh, &args),
        Chore::Bench(args) => bench::run(&sh, &args),
        Chore::Delay(args) => bench::delay::run(&args),
        Chore::Man(args) => man::run(&sh, &args),
        Chore::Sample => man::sample(&sh),
        Chore::Deb(args) => deb::run(&sh, &args),
        Chore::Migrate(args) => migrate::run(&sh, &args),
        Chore::Install(args) => install::run(&sh, &args),
        Chore::Uninstall(args) => install::uninstall(&sh, &args),
    }
}

/// The folder of the workspace.
fn project() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// The programs that phobos consists of: every package `phobos-*` with a `main.rs`.
fn programs() -> Result<Vec<String>> {
    let mut programs = Vec::new();
    for crate_dir in crates()? {
        if crate_dir.join("src/main.rs").exists() {
            programs.extend(crate_dir.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    Ok(programs)
}

/// The folders of the packages `phobos-*`, in order of their names.
fn crates() -> Result<Vec<PathBuf>> {
    let mut crates = list(project())?;
    crates.retain(|path| {
        path.join("Cargo.toml").exists()
            && path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("phobos-"))
    });
    Ok(crates)
}

/// What a folder holds, sorted; nothing if there is no such folder.
fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths: Vec<_> = entries.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    Ok(paths)
}

/// Builds the programs with a cargo profile and returns the folder they lie in.
fn build(sh: &Shell, profile: &str) -> Result<PathBuf> {
    build_packages(sh, profile, &programs()?)
}

/// Builds the programs of these packages with a cargo profile and returns the folder they lie in.
fn build_packages(sh: &Shell, profile: &str, packages: &[String]) -> Result<PathBuf> {
    let packages = packages.iter().flat_map(|name| ["--package", name]);
    cmd!(sh, "cargo build --locked --bins --profile {profile} {packages...}").run()?;
    Ok(target()?.join(if profile == "dev" { "debug" } else { profile }))
}

/// Cargo's target directory, however cargo was told to use another one: where this program lies tells it.
fn target() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    Ok(here.ancestors().nth(2).context("xtask was not started by cargo")?.to_owned())
}

/// Whether this process is root.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// What to put before a command line so that it runs as root: nothing, or sudo.
fn as_root() -> &'static [&'static str] {
    if is_root() { &[] } else { &["sudo", "--preserve-env"] }
}

/// The call of a program as root.
fn root_cmd<'a>(sh: &'a Shell, program: &str, args: &[&str]) -> Cmd<'a> {
    let line: Vec<&str> = [as_root(), &[program], args].concat();
    let (program, args) = line.split_first().unwrap_or((&program, &[]));
    cmd!(sh, "{program} {args...}")
}

/// The call of a program as root, in mount and process namespaces of its own: what it mounts and starts ends with it.
fn private_cmd<'a>(sh: &'a Shell, line: &[&str]) -> Cmd<'a> {
    let own = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private", "--"];
    root_cmd(sh, "unshare", &[&own, line].concat())
}

/// Runs this program once more, as root.
fn again_as_root(sh: &Shell, args: &[&str]) -> Result<()> {
    let me = std::env::current_exe()?;
    Ok(root_cmd(sh, &me.to_string_lossy(), args).run()?)
}

/// Prints one line of a result.
#[expect(clippy::print_stdout, reason = "a chore tells its user what it does")]
fn say(line: &str) {
    println!("{line}");
}

/// Prints one line about something that went wrong.
#[expect(clippy::print_stderr, reason = "a chore tells its user what went wrong")]
fn complain(line: &str) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_program_is_found() {
        let programs = programs().unwrap();
        for name in
            ["phobos-blink", "phobos-ext", "phobos-mail", "phobos-ns", "phobos-pull", "phobos-status", "phobos-unlock"]
        {
            assert!(programs.iter().any(|program| program == name), "{name} in {programs:?}");
        }
        assert!(!programs.contains(&"phobos-core".to_owned()));
    }
}
