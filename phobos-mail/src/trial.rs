//! The test of the mail as a failure would send it: by an instance of the failures' own unit, with another command.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use phobos_core::error::Chain;
use phobos_core::exec::{Exec, ExecError, Invocation};
use phobos_core::fs::{Dir, Durability};

use crate::owned::Owned;
use crate::text;

/// The instance that is started; no unit that fails has this name.
const UNIT: &str = "status-email-user@phobos-mail-test.service";

/// Where systemd reads what is true until the next start of the machine.
const TRANSIENT: &str = "/run/systemd/system";

/// How long systemd may take to answer, and how long the unit may take, whose own limit is 90 s.
const ASKED: Duration = Duration::from_secs(10);
const STARTED: Duration = Duration::from_secs(110);

/// How much of what the unit wrote is read, in bytes.
const OUTPUT: u64 = 64 * 1024;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trial {
    /// The unit sent the test, and said this.
    Sent(String),
    /// The unit could not send it, and said this.
    Failed(String),
    /// There was nobody to try it with, for this reason.
    Untried(String),
}

/// The drop-in that gives the unit another command, and what the unit writes; both are gone with it.
struct DropIn<'a> {
    exec: &'a dyn Exec,
    above: Owned,
    name: PathBuf,
}

/// Sends a test by the failures' unit: as its user, in its confinement, with its credentials.
///
/// # Errors
///
/// When the unit cannot be given another command.
pub(crate) fn run(exec: &dyn Exec, config: Option<&Path>, to: Option<&str>) -> Result<Trial> {
    let asked = systemctl(exec, &["show", "--property=LoadState", "--value", UNIT], ASKED);
    match asked {
        Ok(state) if state.trim() == "loaded" => {}
        Ok(_) => return Ok(Trial::Untried("status-email-user@.service is not installed".to_owned())),
        Err(error) => return Ok(Trial::Untried(format!("systemd cannot be asked: {}", last_words(&error)))),
    }
    let transient = std::env::var_os("PHOBOS_MAIL_TRANSIENT").map_or_else(|| TRANSIENT.into(), PathBuf::from);
    let above = Owned::make(&transient)?;
    let drop_in = DropIn { exec, above, name: format!("{UNIT}.d").into() };
    let folder = drop_in.above.folder(&drop_in.name)?;
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    let content = content(&program, config, to, folder.path());
    folder
        .act(|dir| dir.replace(Path::new("phobos-mail-test.conf"), content.as_bytes(), 0o644, Durability::Loose))??;
    systemctl(exec, &["daemon-reload"], STARTED).context("cannot have systemd read the test's unit")?;
    let started = systemctl(exec, &["start", UNIT], STARTED);
    let [out, err] = ["out", "err"].map(|name| read(&folder, name));
    Ok(match started {
        Ok(_) => Trial::Sent(out.trim().to_owned()),
        // The unit could not, and its last step could: as with a failure.
        Err(_) if !out.trim().is_empty() => Trial::Sent(out.trim().to_owned()),
        Err(error) => {
            let said = err.lines().last().map(|line| line.trim_start_matches("error: ").to_owned());
            Trial::Failed(said.unwrap_or_else(|| last_words(&error)))
        }
    })
}

/// The drop-in's text.
fn content(program: &Path, config: Option<&Path>, to: Option<&str>, folder: &Path) -> String {
    let mut command = vec![quoted(&program.to_string_lossy())];
    if let Some(config) = config {
        command.extend(["--config".to_owned(), quoted(&config.to_string_lossy())]);
    }
    command.push("test".to_owned());
    let to = to.map(|to| format!(" {}", quoted(to))).unwrap_or_default();
    let [command, folder] = [command.join(" "), folder.to_string_lossy().replace('%', "%%")];
    format!(
        "# Made by `phobos-mail test`, which removes it.\n[Unit]\nOnFailure=\nOnSuccess=\n\n[Service]\nExecStartPre=\nExecStart=\nExecStartPost=\nExecStopPost=\n\
         ExecStart={command} --here{to}\nExecStopPost=+{command} --given-on{to}\nStandardOutput=append:{folder}/out\nStandardError=append:{folder}/err\n"
    )
}

/// A word as systemd reads it in a command line (systemd.service(5)).
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', r"\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    format!("\"{escaped}\"")
}

fn read(folder: &Owned, name: &str) -> String {
    let read = folder.act(|dir| dir.read(Path::new(name), OUTPUT));
    let bytes = read.ok().and_then(Result::ok).flatten().unwrap_or_default();
    String::from_utf8_lossy(&bytes).lines().map(|line| text::line(line, 1000) + "\n").collect()
}

fn systemctl(exec: &dyn Exec, args: &[&str], limit: Duration) -> Result<String, ExecError> {
    let call = Invocation::new("systemctl").args(args).limit(limit);
    exec.run(&call).map(|finished| String::from_utf8_lossy(&finished.stdout).into_owned())
}

/// Why a program failed, in its own words where it has any.
fn last_words(error: &ExecError) -> String {
    let why = match error {
        ExecError::Failed { stderr, .. } if !stderr.is_empty() => stderr.clone(),
        other => Chain(other).to_string(),
    };
    text::line(why.lines().last().unwrap_or_default(), 500)
}

impl Drop for DropIn<'_> {
    fn drop(&mut self) {
        let remove = || -> Result<()> {
            let folder = self.above.folder(&self.name)?;
            for entry in folder.act(Dir::entries)?? {
                folder.act(|dir| dir.remove(Path::new(&entry.name)))??;
            }
            self.above.act(|dir| dir.remove_dir(&self.name))??;
            systemctl(self.exec, &["daemon-reload"], STARTED)?;
            Ok(())
        };
        if let Err(error) = remove() {
            log::warn!("cannot remove the test's unit: {error:#}");
        }
        if let Err(error) = systemctl(self.exec, &["reset-failed", UNIT], ASKED) {
            log::debug!("{}", last_words(&error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phobos_core::exec::fake::Script;

    #[test]
    fn no_word_is_read_as_anything_else_by_systemd() {
        let config = Path::new("/etc/100%/$x \"y\".toml");
        let content =
            content(Path::new("/usr/local/bin/phobos-mail"), Some(config), Some("a%b@c"), Path::new("/run/x"));
        let line = content.lines().find(|line| line.starts_with("ExecStart=\"")).unwrap();
        assert_eq!(
            line,
            r#"ExecStart="/usr/local/bin/phobos-mail" --config "/etc/100%%/$$x \"y\".toml" test --here "a%%b@c""#
        );
    }

    #[test]
    fn without_systemd_or_the_unit_nothing_is_started() {
        let script = Script::new().says("not-found\n").fails(1, "System has not been booted with systemd\n");
        assert!(matches!(run(&script, None, None).unwrap(), Trial::Untried(why) if why.contains("not installed")));
        assert!(matches!(run(&script, None, None).unwrap(), Trial::Untried(why) if why.contains("not been booted")));
        assert_eq!(script.calls().len(), 2);
    }
}
