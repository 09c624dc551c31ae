//! The test programs, as cargo has built them.

use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use xshell::{Shell, cmd};

/// The folder of the rig's package.
const RIG: &str = "tests";

/// The tests of the rig's package that tell stories; each has a part of its own.
const STORIES: [&str; 3] = ["host", "booted", "e2e"];

/// All test programs of the workspace, and the rig's machine to play with.
pub(super) struct Built {
    programs: Vec<Program>,
    /// The program `rig`.
    pub(super) rig: PathBuf,
}

/// A test program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Program {
    /// The folder of its package, which its tests expect to be started in.
    pub(super) folder: PathBuf,
    /// What it tests: a library, a program, or the name of a test.
    pub(super) target: String,
    /// Where it is.
    pub(super) path: PathBuf,
}

impl Built {
    /// Builds them.
    pub(super) fn get(sh: &Shell) -> Result<Self> {
        let said = cmd!(
            sh,
            "cargo test --no-run --locked --workspace --lib --bins --tests --message-format=json-render-diagnostics"
        )
        .read()?;
        Self::parse(&said)
    }

    /// Reads what cargo says it has made, a message in JSON a line.
    fn parse(said: &str) -> Result<Self> {
        let mut built = Self { programs: Vec::new(), rig: PathBuf::new() };
        for line in said.lines() {
            let message: Value = serde_json::from_str(line).with_context(|| format!("cargo says {line}"))?;
            // A library that is no test has none.
            let Some(path) = message["executable"].as_str().map(PathBuf::from) else { continue };
            let target = message["target"]["name"].as_str().context("cargo names no target")?.to_owned();
            let manifest = message["manifest_path"].as_str().context("cargo names no manifest")?;
            let folder = Path::new(manifest).parent().context("a manifest without a folder")?.to_owned();
            if message["profile"]["test"] == true {
                built.programs.push(Program { folder, target, path });
            } else if target == "rig" {
                built.rig = path;
            }
        }
        built.rig.file_name().context("cargo has not built the program rig")?;
        Ok(built)
    }

    /// Those that are wanted.
    pub(super) fn programs(&self, is_wanted: impl Fn(&Program) -> bool) -> Vec<Program> {
        self.programs.iter().filter(|program| is_wanted(program)).cloned().collect()
    }

    /// The one that tells the stories called `name`.
    pub(super) fn stories(&self, name: &str) -> Vec<Program> {
        self.programs(|program| program.is_stories() && program.target == name)
    }
}

impl Program {
    /// Whether it tells stories, which take longer than other tests and need more.
    pub(super) fn is_stories(&self) -> bool {
        STORIES.contains(&self.target.as_str()) && self.folder.ends_with(RIG)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_what_it_has_built() {
        let message = |folder: &str, target: &str, is_test: bool, path: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","manifest_path":"/p/{folder}/Cargo.toml","target":{{"name":"{target}"}},"profile":{{"test":{is_test}}},"executable":{path}}}"#
            )
        };
        let said = [
            message("phobos-core", "phobos_core", false, "null"),
            message("phobos-core", "phobos_core", true, r#""/t/core""#),
            message("phobos-blink", "host", true, r#""/t/other-host""#),
            message("tests", "host", true, r#""/t/host""#),
            message("tests", "rig", true, r#""/t/rig-test""#),
            message("tests", "rig", false, r#""/t/rig""#),
            r#"{"reason":"build-finished","success":true}"#.to_owned(),
        ]
        .join("\n");
        let built = Built::parse(&said).unwrap();
        assert_eq!(built.rig, Path::new("/t/rig"));
        let [host] = &built.stories("host")[..] else { unreachable!("{:?}", built.programs) };
        assert_eq!(*host, Program { folder: "/p/tests".into(), target: "host".into(), path: "/t/host".into() });
        let quick: Vec<_> =
            built.programs(|program| !program.is_stories()).into_iter().map(|quick| quick.path).collect();
        assert_eq!(quick, ["/t/core", "/t/other-host", "/t/rig-test"].map(PathBuf::from));
        assert!(Built::parse("").is_err(), "without the rig");
    }
}
