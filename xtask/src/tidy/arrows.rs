//! Who may know whom: arrows go downwards only, nothing goes in circles, and what is declared is used.

use super::files;
use crate::{crates, project};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The libraries, the lowest first: each may use those before it. Programs may use all of them, and no other program.
const LIBRARIES: [&str; 2] = ["phobos-core", "phobos-site"];

/// A module's path inside its crate, as `["borg", "lock"]`; the crate's root is empty.
type Module = Vec<String>;

/// Which of the project's packages a package needs, tests left out.
fn needs(package: &Path) -> Vec<String> {
    let text = fs::read_to_string(package.join("Cargo.toml")).unwrap();
    dependencies(&text, "[dependencies]").into_iter().filter(|name| name.starts_with("phobos-")).collect()
}

/// The names in one table of a Cargo.toml.
fn dependencies(text: &str, table: &str) -> Vec<String> {
    let rest = text.split_once(table).map_or("", |(_, rest)| rest);
    let lines = rest.lines().skip(1).take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| !name.is_empty() && !name.starts_with('#')).map(str::to_owned).collect()
}

fn name(package: &Path) -> String {
    package.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn packages_know_only_those_below_them() {
    for package in crates().unwrap() {
        let name = name(&package);
        let below = LIBRARIES.iter().take_while(|library| **library != name).copied().collect::<Vec<_>>();
        for needed in needs(&package) {
            assert!(below.contains(&needed.as_str()), "{name} must not depend on {needed}, which is not below it");
        }
    }
}

#[test]
fn phobos_core_knows_nothing_of_this_nas() {
    for path in files(&project().join("phobos-core/src"), &[".rs"]) {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let line = line.replace("phobos-core", "");
            for word in ["phobos-", "/etc/phobos", "/run/phobos", "/var/lib/phobos"] {
                assert!(!line.contains(word), "{}:{}: {word}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn every_dependency_is_used() {
    let mut packages = crates().unwrap();
    packages.extend(["xtask", "tests", "manual"].map(|folder| project().join(folder)));
    for package in packages {
        let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
        let code = |folders: &[&str]| -> String {
            let found = folders.iter().flat_map(|folder| files(&package.join(folder), &[".rs"]));
            found.map(|path| fs::read_to_string(path).unwrap()).collect()
        };
        // The package `tests` has its code beside its manifest, and the programs under other names.
        let mut all =
            code(&["src", "tests", "examples", "rig", "host", "e2e", "booted", "fake-blinkstick", "failing-drive"]);
        if name(&package) == "tests" {
            let programs = crates().unwrap().into_iter().map(|package| package.join("src/main.rs"));
            all.extend(programs.filter_map(|main| fs::read_to_string(main).ok()));
        }
        for table in ["[dependencies]", "[dev-dependencies]"] {
            for crate_name in dependencies(&manifest, table) {
                let word = crate_name.replace('-', "_");
                assert!(
                    all.contains(&format!("{word}::")) || all.contains(&format!("use {word}")),
                    "{}: {crate_name} is declared in {table} and not used",
                    package.display()
                );
            }
        }
    }
}

#[test]
fn no_modules_go_in_circles() {
    let mut circles = Vec::new();
    for package in crates().unwrap() {
        for (folder, arrows) in levels(&package) {
            let found = circle(&arrows);
            circles.extend(found.map(|circle| format!("{}/{folder}: {}", name(&package), circle.join(" → "))));
        }
    }
    assert!(circles.is_empty(), "modules import each other in circles: {circles:#?}");
}

/// The arrows between the modules of one folder, by folder. What a module and those within it import of each other is one
/// room's own business.
fn levels(package: &Path) -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    let sources = package.join("src");
    // Tests may look at everything.
    let code = files(&sources, &[".rs"]).into_iter().filter(|path| !path.ends_with("tests.rs"));
    let modules: Vec<(Module, PathBuf)> = code.map(|path| (module(&sources, &path), path)).collect();
    let known: BTreeSet<&Module> = modules.iter().map(|(module, _)| module).collect();
    let mut levels: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (from, path) in &modules {
        let text = fs::read_to_string(path).unwrap();
        for imported in imports(&text, from) {
            let Some(to) = (0..=imported.len()).rev().map(|end| imported[..end].to_vec()).find(|to| known.contains(to))
            else {
                continue;
            };
            let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
            if let (Some(a), Some(b)) = (from.get(shared), to.get(shared)) {
                let folder = [&["src".to_owned()], &from[..shared]].concat().join("/");
                levels.entry(folder).or_default().entry(a.clone()).or_default().insert(b.clone());
            }
        }
    }
    levels
}

fn module(sources: &Path, file: &Path) -> Module {
    let inner = file.strip_prefix(sources).unwrap().with_extension("");
    let mut parts: Module = inner.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if parts.last().is_some_and(|last| ["lib", "main", "mod"].contains(&last.as_str())) {
        parts.pop();
    }
    parts
}

/// The paths inside its own crate that a file imports or names, tests left out.
fn imports(text: &str, from: &Module) -> Vec<Module> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut found = Vec::new();
    for (start, up) in [("crate::", usize::MAX), ("super::super::", 2), ("super::", 1)] {
        for (at, _) in code.match_indices(start) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                continue;
            }
            let base = if up == usize::MAX { Vec::new() } else { from[..from.len().saturating_sub(up)].to_vec() };
            found.extend(tree(&code[at + start.len()..]).into_iter().map(|path| [base.clone(), path].concat()));
        }
    }
    found
}

/// The paths of a use tree such as `a::{b, c::{d, e}}`, up to where it ends.
fn tree(text: &str) -> Vec<Module> {
    let word: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let rest = &text[word.len()..];
    if let Some(group) = rest.strip_prefix("::{").or_else(|| text.strip_prefix('{').filter(|_| word.is_empty())) {
        let head = if word.is_empty() { Vec::new() } else { vec![word] };
        return parts(group)
            .iter()
            .flat_map(|part| tree(part.trim()))
            .map(|path| [head.clone(), path].concat())
            .collect();
    }
    match rest.strip_prefix("::") {
        Some(below) if !word.is_empty() => {
            tree(below).into_iter().map(|path| [vec![word.clone()], path].concat()).collect()
        }
        _ => vec![if word.is_empty() { Vec::new() } else { vec![word] }],
    }
}

/// The parts of a group, from behind its brace up to the one that closes it.
fn parts(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                found.push(&group[start..at]);
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                found.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.into_iter().filter(|part| !part.trim().is_empty()).collect()
}

/// One circle among the arrows, if there is any.
fn circle(arrows: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn walk(
        arrows: &BTreeMap<String, BTreeSet<String>>,
        at: &str,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = way.iter().position(|step| step == at) {
            return Some([&way[start..], &[at.to_owned()]].concat());
        }
        if !done.insert(at.to_owned()) {
            return None;
        }
        way.push(at.to_owned());
        let found = arrows.get(at).into_iter().flatten().find_map(|next| walk(arrows, next, way, done));
        way.pop();
        found
    }
    let mut done = BTreeSet::new();
    arrows.keys().find_map(|start| walk(arrows, start, &mut Vec::new(), &mut done))
}

#[test]
fn the_reader_of_imports_reads_trees() {
    let text = "use crate::{a, b::{self, c}};\nuse super::d::E;\nlet x = crate::f::g(1);\n// crate::no";
    let found: Vec<String> =
        imports(text, &vec!["m".to_owned(), "n".to_owned()]).iter().map(|path| path.join("::")).collect();
    assert_eq!(found, ["a", "b::self", "b::c", "f::g", "m::d::E"]);
    let arrows = |pairs: &[(&str, &str)]| {
        let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (from, to) in pairs {
            arrows.entry((*from).to_owned()).or_default().insert((*to).to_owned());
        }
        arrows
    };
    assert_eq!(circle(&arrows(&[("a", "b"), ("b", "c"), ("a", "c")])), None);
    assert_eq!(circle(&arrows(&[("a", "b"), ("b", "c"), ("c", "b")])).unwrap(), ["b", "c", "b"]);
}
