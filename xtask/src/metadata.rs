//! What cargo knows of the crates that phobos's programs are made of.

use crate::programs;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use xshell::{Shell, cmd};

/// What `cargo metadata` says, without the network.
///
/// # Errors
///
/// If cargo has not all crates here that the programs need.
pub(crate) fn metadata(sh: &Shell) -> Result<Value> {
    let rustc = cmd!(sh, "rustc -vV").quiet().read()?;
    let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    // Crates for other systems need not be here.
    let call = cmd!(sh, "cargo metadata --format-version 1 --locked --offline --filter-platform {host}");
    serde_json::from_str(&call.quiet().read()?).context("cargo metadata is no JSON")
}

/// The ids of the packages that the programs need to run, and those that these need.
///
/// # Errors
///
/// If cargo's graph is not as it should be.
pub(crate) fn linked(metadata: &Value) -> Result<BTreeSet<String>> {
    let nodes = metadata["resolve"]["nodes"].as_array().context("cargo metadata has no graph")?;
    let programs = programs()?;
    let is_program = |id: &str| programs.iter().any(|name| id.contains(&format!("/{name}#")));
    let ids = nodes.iter().filter_map(|node| node["id"].as_str());
    let mut found: BTreeSet<String> = BTreeSet::new();
    let mut waiting: Vec<String> = ids.filter(|id| is_program(id)).map(str::to_owned).collect();
    while let Some(id) = waiting.pop() {
        if !found.insert(id.clone()) {
            continue;
        }
        let node = nodes.iter().find(|node| node["id"] == id.as_str()).context("cargo's graph has a hole")?;
        for dependency in node["deps"].as_array().into_iter().flatten() {
            let kinds = dependency["dep_kinds"].as_array().into_iter().flatten();
            if kinds.clone().any(|kind| kind["kind"].is_null()) {
                waiting.extend(dependency["pkg"].as_str().map(str::to_owned));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// Licences that let the programs be given to anybody under phobos's own.
    const LICENCES: [&str; 9] =
        ["MIT", "Apache-2.0", "ISC", "BSD-2-Clause", "BSD-3-Clause", "Unicode-3.0", "0BSD", "Zlib", "BSL-1.0"];

    /// Crates of which two versions are built, because crates of others ask for them.
    const TWICE: [&str; 5] = ["base64", "signal-hook", "syn", "toml_datetime", "winnow"];

    /// Whether what an expression of SPDX asks for is among [`LICENCES`]: of `OR` one side, of `AND` both.
    fn is_free(expression: &str) -> bool {
        let plain = expression.replace('/', " OR ").replace(['(', ')'], "");
        plain.split(" AND ").all(|part| part.split(" OR ").any(|one| LICENCES.contains(&one.trim())))
    }

    #[test]
    fn an_expression_is_free_if_one_of_each_choice_is() {
        for free in ["MIT", "MIT/Apache-2.0", "(MIT OR Apache-2.0) AND Unicode-3.0", "Unlicense OR MIT"] {
            assert!(is_free(free), "{free}");
        }
        for other in ["GPL-3.0", "MIT AND GPL-2.0-only", ""] {
            assert!(!is_free(other), "{other}");
        }
    }

    #[test]
    fn what_is_linked_is_free_from_the_registry_and_there_once() {
        let metadata = metadata(&Shell::new().unwrap()).unwrap();
        let linked = linked(&metadata).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
        for package in packages.iter().filter(|package| linked.contains(package["id"].as_str().unwrap())) {
            let name = package["name"].as_str().unwrap();
            let licence = package["license"].as_str().unwrap_or_default();
            assert!(is_free(licence), "{name} has the licence {licence:?}");
            // Our own have none.
            let source = package["source"].as_str().unwrap_or("registry+");
            assert!(source.starts_with("registry+"), "{name} comes from {source}");
            *versions.entry(name).or_default() += 1;
        }
        assert!(versions.len() > 80, "{versions:?}");
        let twice: Vec<&str> = versions.iter().filter(|(_, count)| **count > 1).map(|(name, _)| *name).collect();
        assert_eq!(twice, TWICE, "crates that are linked in several versions");
    }
}
