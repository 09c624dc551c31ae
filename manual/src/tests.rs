//! The manual is whole, tidy, and true.

use super::*;
use std::collections::BTreeSet;
use std::process::Command as Process;

const DATE: &str = "2026-01-01";

fn written() -> Vec<Page> {
    pages(DATE).unwrap()
}

/// What a linter says of all pages, which are files of `folder`.
#[expect(clippy::disallowed_methods, reason = "a test's own call")]
fn said(folder: &Path, program: &str, args: &[&str]) -> String {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 35, "{files:?}");
    let output = Process::new(program)
        .args(args)
        .args(files)
        .env("LC_ALL", "C.UTF-8")
        .env("MAN_KEEP_STDERR", "1")
        .env("MANROFFOPT", "-ww")
        .output()
        .unwrap_or_else(|_| panic!("{program} is not here; `cargo xtask setup` installs it"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    // mandoc's complaints are its output, groff's and man's are on standard error.
    let said = if args.contains(&"lint") { text(&output.stdout) } else { String::new() } + &text(&output.stderr);
    assert!(output.status.success() || !said.is_empty(), "{program}: {}", output.status);
    said
}

#[test]
fn no_formatter_has_anything_to_say_about_a_page() {
    let folder = tempfile::tempdir().unwrap();
    for page in written() {
        fs::write(folder.path().join(page.file), page.text).unwrap();
    }
    assert_eq!(said(folder.path(), "mandoc", &["-T", "lint", "-W", "warning"]), "");
    assert_eq!(said(folder.path(), "groff", &["-ww", "-K", "utf8", "-T", "utf8", "-man", "-z"]), "");
    assert_eq!(said(folder.path(), "man", &["--local-file", "--pager=cat"]), "");
}

#[test]
fn every_option_stands_on_its_page_and_no_other() {
    let pages = written();
    let mut seen = 0;
    for program in programs() {
        for command in program::commands(&program) {
            let file = format!("{}.8", program::name(command));
            let page = pages.iter().find(|page| page.file == file).unwrap();
            let (_, options) = page.text.split_once(".SH OPTIONS").unwrap_or((&page.text, ""));
            let options = options.split(".SH COMMANDS").next().unwrap().split(".SH DIFFERENCES").next().unwrap();
            let options = options.split(".SH \"DIFFERENCES").next().unwrap().split(".SH \"EXIT").next().unwrap();
            let listed: BTreeSet<String> = options
                .lines()
                .filter(|line| line.starts_with("\\fB\\-"))
                .flat_map(|line| line.split("\\fB").skip(1))
                .map(|word| word.split("\\fR").next().unwrap().replace("\\-", "-"))
                .collect();
            let mut declared = BTreeSet::new();
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                declared.extend(arg.get_long().map(|long| format!("--{long}")));
                declared.extend(arg.get_short().map(|short| format!("-{short}")));
                // The value that stands alone is named in the synopsis and among the options.
                for value in arg.get_value_names().into_iter().flatten().filter(|_| arg.is_positional()) {
                    assert!(options.contains(&roff::code(value)), "{file}: {value}");
                }
            }
            assert_eq!(listed, declared, "{file}");
            seen += declared.len();
        }
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn every_help_fits_eighty_columns() {
    for program in programs() {
        for command in program::commands(&program) {
            for line in command.clone().render_long_help().to_string().lines() {
                assert!(line.chars().count() <= 80, "{}: {line}", program::name(command));
            }
        }
    }
}

#[test]
fn every_page_is_written_by_hand_too_and_none_is_left_over() {
    let hand = Hand::read().unwrap();
    let pages: BTreeSet<String> =
        written().into_iter().map(|page| page.file.rsplit_once('.').unwrap().0.to_owned()).collect();
    let names: BTreeSet<String> = hand.names().map(str::to_owned).collect();
    assert_eq!(names, pages, "pages/ and the programs' commands differ");
    for name in hand.names() {
        for title in ["DESCRIPTION", "EXAMPLES"] {
            assert!(hand.section(name, title).is_some_and(|text| !text.trim().is_empty()), "{name} has no {title}");
        }
    }
}

/// The words of a line, as a shell splits them: blanks, and quotes around what has some.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quoted) = (vec![String::new()], false);
    for c in line.chars() {
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().unwrap().push(c),
        }
    }
    words
}

/// The commands on a page: the lines that are indented in its examples and first steps.
fn examples(hand: &Hand) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for name in hand.names().filter(|name| *name != "phobos.toml") {
        for (title, text) in hand.of(name) {
            if title == "EXAMPLES" || title == "FIRST STEPS" {
                let indented = text.lines().filter_map(|line| line.strip_prefix("    "));
                lines.extend(indented.map(|line| (name.to_owned(), line.to_owned())));
            }
        }
    }
    lines
}

#[test]
fn every_example_is_taken_by_the_program_that_it_calls() {
    let units = units();
    let examples = examples(&Hand::read().unwrap());
    assert!(examples.len() > 60, "{examples:?}");
    for (page, line) in examples {
        for call in line.split(" | ") {
            let words = words(call);
            let own = programs().into_iter().find(|program| program.get_name() == words[0]);
            match (own, words[0].as_str()) {
                (Some(program), _) => {
                    let taken = program.try_get_matches_from(&words);
                    assert!(taken.is_ok(), "{page}: {line}: {}", taken.unwrap_err());
                }
                (None, "systemctl") => {
                    for unit in words.iter().filter(|word| word.contains('.')) {
                        let template = unit
                            .split_once('@')
                            .map(|(name, rest)| format!("{name}@.{}", rest.rsplit('.').next().unwrap_or_default()));
                        assert!(units.contains(&template.unwrap_or_else(|| unit.clone())), "{page}: no unit {unit}");
                    }
                }
                (None, "nsenter" | "echo") => {}
                (None, other) => panic!("{page}: nobody checks what {other} does: {line}"),
            }
        }
    }
}

/// The units that are installed.
fn units() -> BTreeSet<String> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut units = BTreeSet::new();
    for package in fs::read_dir(project).unwrap() {
        for file in fs::read_dir(package.unwrap().path().join("dist")).into_iter().flatten() {
            units.insert(file.unwrap().file_name().to_string_lossy().into_owned());
        }
    }
    assert!(units.contains("phobos-pull@.timer"));
    units
}

#[test]
fn the_example_of_a_configuration_is_one() {
    let hand = Hand::read().unwrap();
    let text = hand.section("phobos.toml", "EXAMPLES").unwrap();
    let lines: String =
        text.lines().map(|line| line.strip_prefix("    ").unwrap_or_default().to_owned() + "\n").collect();
    phobos_site::config::Config::parse(Path::new("/example.toml"), &lines).unwrap();
}

#[test]
fn every_setting_stands_on_the_page_of_the_configuration() {
    let page = written().into_iter().find(|page| page.file == "phobos.toml.5").unwrap().text.replace("\\-", "-");
    // What each table knows is what it names when it is asked for something else.
    for (table, unknown) in [
        ("backup", "[backup]\nunknown = 1\n"),
        ("locks", "[locks]\nunknown = 1\n"),
        ("external", "[external]\nunknown = 1\n"),
        ("external.drive", "[[external.drive]]\nunknown = 1\n"),
        ("mail", "[mail]\nunknown = 1\n"),
        ("pull", "[[pull]]\nunknown = 1\n"),
        ("hook", "[[hook]]\nunknown = 1\n"),
    ] {
        // The light reads its own table, and names nothing; the sample is tested to show its defaults.
        let error = phobos_site::config::Config::parse(Path::new("/x.toml"), unknown).unwrap_err().to_string();
        let known: Vec<&str> = error.split('`').skip(3).step_by(2).collect();
        assert!(!known.is_empty(), "{table}: {error}");
        for setting in known {
            let shown = [format!("{setting} = "), format!("[[{table}.{setting}]]")];
            assert!(shown.iter().any(|shown| page.contains(shown)), "[{table}] {setting} is not on the page");
        }
    }
}

/// Nobody but its own `--help` knows what the script takes.
#[test]
fn the_script_says_of_itself_what_its_page_says() {
    let script = include_str!("../../xtask/assets/phobos-migrate");
    let help = script.split("END").nth(1).unwrap();
    let migrate = program::migrate();
    let words: BTreeSet<&str> = help.split(|c: char| !c.is_ascii_alphabetic() && c != '-').collect();
    let said: BTreeSet<&str> = words.into_iter().filter_map(|word| word.strip_prefix("--")).collect();
    let mut declared: BTreeSet<&str> = migrate.get_arguments().filter_map(clap::Arg::get_long).collect();
    declared.insert("help");
    assert_eq!(said, declared);
    for arg in migrate.get_arguments().filter(|arg| !arg.is_positional()) {
        assert!(help.contains(&arg.get_help().unwrap().to_string()), "{arg}");
    }
}

#[test]
fn completions_name_every_command() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), DATE).unwrap();
    for (file, word) in [("bash/phobos-ext.bash", "recovery-sheet"), ("zsh/_phobos-ext", "recovery-sheet")] {
        assert!(fs::read_to_string(folder.path().join("completions").join(file)).unwrap().contains(word), "{file}");
    }
    let bash = folder.path().join("completions/bash/phobos-blink.bash");
    assert!(fs::read_to_string(bash).unwrap().contains("--respect-index"));
    assert!(folder.path().join("completions/fish/phobos-ns.fish").exists());
    assert_eq!(fs::read_dir(folder.path().join("man")).unwrap().count(), written().len());
}
