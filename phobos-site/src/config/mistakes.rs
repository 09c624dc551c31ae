//! All mistakes of the configuration at once: of each table, and of each file of a host or a drive.
//!
//! Whoever reads a table learns of its first mistake. Here the line of each is put aside, and the rest is read once more.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::path::Path;

use super::reading::{read, read_trusted, toml_files, wrong};
use super::{Config, ConfigError, Table, drop_ins, host_name};
use crate::pull::{self, Host};

/// How many mistakes of one table or file are told.
const MOST: usize = 20;

impl Config {
    /// All mistakes of the configuration at `path`, or of the default one, and how many files were looked at. A mistake that
    /// comes of another one is not told.
    pub fn mistakes(path: Option<&Path>) -> (Vec<ConfigError>, usize) {
        let (mut all, mut files) = (Vec::new(), 0_usize);
        let mut add = |found: Vec<ConfigError>| {
            for mistake in found {
                if all.iter().all(|known: &ConfigError| known.to_string() != mistake.to_string()) {
                    all.push(mistake);
                }
            }
        };
        let mut config = Self::default();
        match read(path) {
            Ok(Some((file, text))) => {
                files = 1;
                config.folder = super::folder_of(file);
                // What is no TOML at all is so once.
                let is_toml = toml::from_str::<toml::Table>(&text).is_ok();
                for table in if is_toml { &Table::ALL[..] } else { &[Table::Backup] } {
                    add(of_text(&text, &|text| Self::parse_tables(file, text, &[*table]).map(drop)));
                }
                if let Ok(read) = Self::parse_tables(file, &text, &[Table::Pull]) {
                    config.pull = read.pull;
                }
            }
            Ok(None) => {}
            Err(error) => add(vec![error]),
        }
        let hosts = toml_files(&config.folder.join(pull::FOLDER)).unwrap_or_else(|error| {
            add(vec![error]);
            Vec::new()
        });
        for file in hosts {
            files = files.saturating_add(1);
            add(match (host_name(&file), read_trusted(&file)) {
                (Err(error), _) | (_, Err(error)) => vec![error],
                (_, Ok(None)) => Vec::new(),
                (Ok(name), Ok(Some(text))) => {
                    let own = of_text(&text, &|text| match Host::parse(&name, text) {
                        Ok(_) => Ok(()),
                        Err(error) => Err(wrong(&file, text, &error)),
                    });
                    // Twice the same host is no mistake of the text alone.
                    if own.is_empty() { config.host(&name).err().into_iter().collect() } else { own }
                }
            });
        }
        let drives = toml_files(&config.folder.join(drop_ins::FOLDER)).unwrap_or_else(|error| {
            add(vec![error]);
            Vec::new()
        });
        for file in drives {
            files = files.saturating_add(1);
            match read_trusted(&file) {
                Ok(Some(text)) => add(of_text(&text, &|text| drop_ins::check(&file, text))),
                Ok(None) => {}
                Err(error) => add(vec![error]),
            }
        }
        // How the drives of all files fit together.
        if let (true, Err(error)) = (all.is_empty(), Self::load(path, &[Table::Backup, Table::External])) {
            all.push(error);
        }
        (all, files)
    }
}

/// The mistakes that `check` finds in a text, one after the other.
fn of_text(text: &str, check: &dyn Fn(&str) -> Result<(), ConfigError>) -> Vec<ConfigError> {
    let mut lines: Vec<&str> = text.lines().collect();
    let mut found: Vec<ConfigError> = Vec::new();
    let mut last = 0;
    while found.len() < MOST {
        let Err(mistake) = check(&lines.join("\n")) else { break };
        let ConfigError::Wrong { line, message, .. } = &mistake else {
            found.push(mistake);
            break;
        };
        // Mistakes are found from above; one that is not further down comes of what was put aside.
        if last >= *line || last > 0 && message.contains("missing field") {
            break;
        }
        last = *line;
        let at = line.saturating_sub(1);
        found.push(mistake);
        let Some(line) = lines.get_mut(at) else { break };
        *line = "";
        // A value of several lines cannot be put aside so.
        if toml::from_str::<toml::Table>(&lines.join("\n")).is_err() {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn told(files: &[(&str, &str)]) -> (Vec<String>, usize) {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let (mistakes, files) = Config::mistakes(Some(&folder.path().join("phobos.toml")));
        let short = |mistake: &ConfigError| {
            let text = mistake.to_string().replace(&format!("{}/", folder.path().display()), "");
            text.chars().take(44).collect::<String>()
        };
        (mistakes.iter().map(short).collect(), files)
    }

    #[test]
    fn all_of_them_are_told_at_once() {
        let main = "[backup]\nmount = 1\nrepo = 'x'\n[locks]\nwait = 'long'\n[mail]\nport = 3\n[[pull]]\nhost = 'luv'\nsource = ['/a/']\n";
        let files = [
            ("phobos.toml", main),
            ("pull.d/chew.toml", "source = ['/b/']\nsauce = 1\nstale-after = 'x'\n"),
            ("pull.d/luv.toml", "source = ['/c/']\n"),
            ("pull.d/-x.toml", "source = ['/c/']\n"),
            ("drives.d/A.toml", "[[external.drive]]\nname = 'A'\nuuid = 'no'\nkey-file = '/k'\n"),
        ];
        let (mistakes, count) = told(&files);
        let starts = [
            "phobos.toml:2: mount: ",
            "phobos.toml:3: repo: ",
            "phobos.toml:5: wait: ",
            "phobos.toml:7: port: ",
            "pull.d/-x.toml:1: ",
            "pull.d/chew.toml:2: sauce: ",
            "pull.d/chew.toml:3: stale-after: ",
            "pull.d/luv.toml:1: host: luv is in the file",
            "drives.d/A.toml:3: uuid: ",
        ];
        assert_eq!(mistakes.len(), starts.len(), "{mistakes:#?}");
        for start in starts {
            assert!(mistakes.iter().any(|mistake| mistake.starts_with(start)), "{start} in {mistakes:#?}");
        }
        assert_eq!(count, 5);
    }

    #[test]
    fn one_mistake_is_told_once_and_where_there_is_none_nothing() {
        assert_eq!(told(&[("phobos.toml", "[backup]\nreserve = '5%'\n")]), (vec![], 1));
        for (text, start) in [
            ("[backup\n", "phobos.toml:1: "),
            ("[[pull]]\nsource = ['/a/']\n", "phobos.toml:1: "),
            ("[[pull]]\nhost = 'luv'\nsource = [\n 3,\n]\n", "phobos.toml:4: "),
        ] {
            let (mistakes, _) = told(&[("phobos.toml", text)]);
            assert!(matches!(mistakes.as_slice(), [one] if one.starts_with(start)), "{text}: {mistakes:?}");
        }
        let (mistakes, files) = told(&[]);
        assert!(mistakes[0].starts_with("cannot read phobos.toml") && files == 0, "{mistakes:?}");
        let drives = "[[external.drive]]\nname = 'A'\ndevice = '/dev/a'\n";
        let (mistakes, _) = told(&[("phobos.toml", drives), ("drives.d/A.toml", drives)]);
        assert!(mistakes[0].contains("two drives are name"), "{mistakes:?}");
    }

    #[test]
    fn fuzz_mistakes() {
        let seeds: [&[u8]; 2] = [
            b"[backup]\nmount = 1\nrepo = 'x'\n[locks]\nwait = 'long'\n",
            b"[[pull]]\nhost = 'luv'\nsource = [\n3,\n]\n",
        ];
        phobos_fuzz::target("mistakes", &seeds, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let check =
                |text: &str| Config::parse_tables(Path::new("x"), text, &[Table::Backup, Table::Pull]).map(drop);
            std::hint::black_box(of_text(&text, &check).len());
        });
    }
}
