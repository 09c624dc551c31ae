//! Where files are given back from: the holding spaces of this machine, an archive of its repository, or the holding spaces on an
//! off-site drive, which is opened for it, read-only, and closed again.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;
use phobos_core::exec::{Exec, ExecError, Status};
use phobos_core::fs::{Dir, shown_text};
use phobos_core::mount;
use phobos_site::config::{Backup, Config};
use phobos_site::exit::{Exit, Stop};
use phobos_site::lock::Word;
use phobos_site::pull::Host;
use phobos_site::sister;

/// The program that opens drives and closes them.
const OPENER: &str = "phobos-ext";

/// Where files are given back from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// The holding spaces of this machine.
    Holding,
    /// Those on this drive.
    Drive(Word),
    /// The archive of this name; without one all archives are meant, which can only be listed.
    Archive(Option<String>),
}

/// Takes apart what stands behind `--from`: a word that needs no second one leaves that to be a path.
///
/// # Errors
///
/// For a word that is none of these, or a drive without a name.
pub(super) fn parse(words: &[String]) -> Result<(Origin, Option<PathBuf>), Stop> {
    let usage = |text: String| Err(Stop::new(Exit::Usage, text));
    match words {
        [] => Ok((Origin::Holding, None)),
        [word, rest @ ..] if word == "holding" => Ok((Origin::Holding, rest.first().map(PathBuf::from))),
        [word, name] if word == "drive" => match Word::from_str(name) {
            Ok(name) => Ok((Origin::Drive(name), None)),
            Err(error) => usage(format!("--from drive {}: {error}", shown_text(name))),
        },
        [word] if word == "archive" => Ok((Origin::Archive(None), None)),
        [word, name] if word == "archive" && !name.is_empty() => Ok((Origin::Archive(Some(name.clone())), None)),
        [word] if word == "drive" => usage("--from drive: name the drive, as `phobos-ext drives` does".to_owned()),
        [word, ..] => usage(format!("--from {}: say holding, archive NAME or drive NAME", shown_text(word))),
    }
}

/// Holding spaces that files are given back from, while it lives.
#[derive(Debug)]
pub(super) struct Opened<'e> {
    exec: &'e dyn Exec,
    config: Option<&'e Path>,
    /// The drive that is to be closed.
    drive: Option<Word>,
    /// What nobody but root has put there: the holding spaces, or the drive.
    top: PathBuf,
    /// Where the holding spaces are below that; a drive may have anything there.
    inner: PathBuf,
    /// How a person calls what a host has in them.
    pub(super) shown: String,
    /// What it means where a host has none.
    missing: &'static str,
}

impl<'e> Opened<'e> {
    /// Opens the drive, if they are on one, in whose namespace this process is already; one that is open already stays so.
    ///
    /// # Errors
    ///
    /// When it cannot be opened; it is closed then, or phobos-ext has said why not.
    pub(super) fn open(
        exec: &'e dyn Exec,
        file: Option<&'e Path>,
        config: &Config,
        drive: Option<&Word>,
    ) -> Result<Self, anyhow::Error> {
        let backup = &config.backup;
        let mut opened = Self {
            exec,
            config: file,
            drive: None,
            top: backup.holding.to_path_buf(),
            inner: PathBuf::new(),
            shown: "holding space".to_owned(),
            missing: "it was never pulled",
        };
        let Some(name) = drive else { return Ok(opened) };
        let inner =
            backup.holding.strip_prefix(&backup.mount).context("the holding spaces are not on the backup disk")?;
        let before = mount::table()?;
        let said = opened.call("open", name)?;
        let folder = Path::new(said.trim_end_matches('\n'));
        (opened.top, opened.inner) = (folder.to_owned(), inner.to_owned());
        opened.shown = format!("holding space on the drive {name}");
        opened.missing = "it was not pulled before the last mirror, or `[external] holding` is off";
        // What a person has opened a person closes.
        opened.drive = mount::at(&before, folder).is_none().then(|| name.clone());
        Ok(opened)
    }

    /// Where the holding spaces are.
    pub(super) fn holding(&self) -> PathBuf {
        self.top.join(&self.inner)
    }

    /// The repository of a drive that has no holding spaces at all, because only it was mirrored.
    ///
    /// # Errors
    ///
    /// When what is there cannot be looked at.
    pub(super) fn repository_alone(&self, backup: &Backup) -> Result<Option<PathBuf>, anyhow::Error> {
        if self.inner.as_os_str().is_empty() {
            return Ok(None);
        }
        let inner =
            backup.repository.strip_prefix(&backup.mount).context("the repository is not on the backup disk")?;
        let top = Dir::open(&self.top)?;
        // Through no link either.
        let is_alone = top.stat(&self.inner)?.is_none() && top.open_dir(inner).is_ok();
        Ok(is_alone.then(|| self.top.join(inner)))
    }

    /// The holding space of `host`.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub(super) fn space(&self, host: &Host) -> Result<Dir, anyhow::Error> {
        let name = Path::new(host.name.as_str());
        let absent = || Stop::new(Exit::Absent, format!("{} has no {}: {}", host.name, self.shown, self.missing));
        if self.top.symlink_metadata().is_err() {
            return Err(absent().into());
        }
        let mut above = Dir::open(&self.top).with_context(|| format!("cannot open {}", self.top.display()))?;
        if !self.inner.as_os_str().is_empty() {
            // Through no link: what a drive leads to is this machine's.
            if above.stat(&self.inner)?.is_none() {
                return Err(absent().into());
            }
            above = above.open_dir(&self.inner)?;
        }
        if above.stat(name)?.is_none() {
            return Err(absent().into());
        }
        Ok(above.open_dir(name)?)
    }

    /// Closes what was opened.
    ///
    /// # Errors
    ///
    /// When the drive is still open.
    pub(super) fn close(mut self) -> Result<(), anyhow::Error> {
        self.end()
    }

    fn end(&mut self) -> Result<(), anyhow::Error> {
        match self.drive.take() {
            Some(name) => self.call("close", &name).map(drop),
            None => Ok(()),
        }
    }

    /// Has phobos-ext open or close the drive; returns what it prints.
    fn call(&self, command: &str, name: &Word) -> Result<String, anyhow::Error> {
        let call = sister::call(OPENER, self.config);
        // Closing is not given up because somebody wants this process to end.
        match self.exec.run(&call.args([command, "--", name.as_str()]).shielded()) {
            Ok(finished) => Ok(finished.text()),
            Err(ExecError::Failed { status: Status::Code(code), stderr, .. }) => {
                let line = stderr.lines().rev().find_map(|line| line.strip_prefix("error: "));
                Err(Stop::new(exit(code), shown_text(line.unwrap_or_else(|| stderr.trim_end()))).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Opened<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            log::error!("{error:#}");
        }
    }
}

/// What the other program's exit code means here.
fn exit(code: i32) -> Exit {
    let all = [Exit::Refused, Exit::Absent, Exit::Busy, Exit::NotPermitted, Exit::Config];
    all.into_iter().find(|exit| i32::from(exit.code()) == code).unwrap_or(Exit::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Result<(Origin, Option<PathBuf>), Stop> {
        parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_drive_has_a_name_and_a_path_may_stand_behind_what_needs_none() {
        assert_eq!(words(&[]).unwrap(), (Origin::Holding, None));
        assert_eq!(words(&["holding", "/home"]).unwrap(), (Origin::Holding, Some("/home".into())));
        assert_eq!(words(&["drive", "A"]).unwrap(), (Origin::Drive("A".parse().unwrap()), None));
        assert_eq!(words(&["archive"]).unwrap(), (Origin::Archive(None), None));
        assert_eq!(words(&["archive", "nas-1"]).unwrap(), (Origin::Archive(Some("nas-1".to_owned())), None));
        for (wrong, said) in [
            (&["drive"][..], "--from drive: name the drive"),
            (&["drive", "/home"], "--from drive /home: "),
            (&["tape"], "--from tape: say holding"),
            (&["A", "/home"], "--from A: say holding"),
        ] {
            let error = words(wrong).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
