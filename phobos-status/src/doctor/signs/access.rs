//! What is seen of keys that let somebody in: this machine's own that were lent for a moment, and those of others.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use phobos_core::exec;
use phobos_core::fs::Dir;
use phobos_site::pull::{Host, HostName, IDENTITY, RESTORE_KEY};

use super::LONGEST;

/// What holds a key to a folder.
const RRSYNC: &str = "rrsync";

/// Where a user's keys are, below the home.
const AUTHORIZED: [&str; 2] = ["authorized_keys", "authorized_keys2"];

/// Shells of those whom ssh lets do nothing.
const NO_SHELLS: [&str; 2] = ["nologin", "false"];

/// A key that can write on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::doctor) struct Lent {
    pub(in crate::doctor) path: PathBuf,
    pub(in crate::doctor) host: String,
    /// How long ago its line was printed.
    pub(in crate::doctor) age: Duration,
}

/// The keys that give files back to a host, of hosts that are not configured any more, too.
pub(in crate::doctor) fn lent(config: &Path, hosts: &[Host]) -> Vec<Lent> {
    let own: BTreeSet<PathBuf> =
        hosts.iter().map(|host| host.identity(config)).chain([config.join(IDENTITY)]).collect();
    let folders: BTreeSet<&Path> = own.iter().filter_map(|key| key.parent()).collect();
    let mut lent = Vec::new();
    for folder in folders {
        let entries = Dir::open(folder).and_then(|folder| folder.entries()).unwrap_or_default();
        let names: BTreeSet<String> = entries.into_iter().filter_map(|entry| entry.name.into_string().ok()).collect();
        for name in &names {
            let (Some(host), path) = (name.strip_prefix(RESTORE_KEY), folder.join(name)) else { continue };
            // The public half opens nothing; of a host whose own name ends so, both are there.
            let is_public = path.extension().is_some_and(|end| end == "pub") && !names.contains(&format!("{name}.pub"));
            let is_host = HostName::try_from(host.to_owned()).is_ok();
            let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
            if is_host && !is_public && metadata.is_file() && !own.contains(&path) {
                let age = metadata.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
                lent.push(Lent { host: host.to_owned(), path, age });
            }
        }
    }
    lent
}

/// The files of keys of those whom `passwd` lets in, with their texts.
pub(in crate::doctor) fn authorized(passwd: &str) -> Vec<(PathBuf, String)> {
    let homes: BTreeSet<&Path> = passwd
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .filter_map(|fields| match fields[..] {
            [_, _, _, _, _, home, shell] if !NO_SHELLS.iter().any(|none| shell.ends_with(none)) => {
                Some(Path::new(home))
            }
            _ => None,
        })
        .filter(|home| home.is_absolute())
        .collect();
    let mut files = Vec::new();
    for home in homes {
        let Ok(folder) = Dir::open(home).and_then(|home| home.open_dir(Path::new(".ssh"))) else { continue };
        for name in AUTHORIZED {
            // The files are their users', who may put anything there.
            if let Ok(Some(text)) = folder.read(Path::new(name), LONGEST) {
                files.push((folder.path().join(name), String::from_utf8_lossy(&text).into_owned()));
            }
        }
    }
    files
}

/// Each rrsync that is called in those files, by the word that calls it: where it is, and its text.
pub(in crate::doctor) fn rrsyncs(authorized: &[(PathBuf, String)]) -> BTreeMap<String, (PathBuf, String)> {
    let called: BTreeSet<&str> =
        authorized.iter().flat_map(|(_, text)| text.lines()).filter_map(held).map(|(program, _)| program).collect();
    let read = |program: &str| {
        let path = exec::find(Path::new(program))?;
        // A link to it is followed, as whoever calls it does.
        let program_file = fs::canonicalize(&path).ok()?;
        let folder = Dir::open(program_file.parent()?).ok()?;
        let text = folder.read(Path::new(program_file.file_name()?), LONGEST).ok()??;
        Some((program.to_owned(), (path, String::from_utf8_lossy(&text).into_owned())))
    };
    called.into_iter().filter_map(read).collect()
}

/// What a line of `authorized_keys` calls as rrsync, and the folder that the key is held to; `None` for any other line.
pub(in crate::doctor) fn held(line: &str) -> Option<(&str, &str)> {
    let mut words = line.split_whitespace().filter(|_| !line.trim_start().starts_with('#'));
    let program = words.find_map(|word| {
        let word = word.rsplit('"').next().unwrap_or(word);
        Path::new(word).file_name().is_some_and(|name| name == RRSYNC).then_some(word)
    })?;
    let folder = words.find(|word| !word.starts_with('-'))?;
    Some((program, folder.split('"').next().unwrap_or(folder).trim_matches('\'')))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::time::SystemTime;

    use phobos_site::config::Config;

    use super::*;

    #[test]
    fn keys_that_were_lent_are_found_whoever_they_were_for() {
        let folder = tempfile::tempdir().unwrap();
        let text = format!(
            "[[pull]]\nhost = 'luv'\nsource = ['luv:/a']\n[[pull]]\nhost = 'x'\nsource = ['x:/a']\nidentity = '{}/x/restore-x'",
            folder.path().display()
        );
        let config = Config::parse(&folder.path().join("phobos.toml"), &text).unwrap();
        assert_eq!(lent(folder.path(), &config.pull), [], "no key has been made");
        for name in [
            "keys/pull",
            "keys/restore-luv",
            "keys/restore-luv.pub",
            "keys/restore-gone.pub",
            "keys/restore-old~",
            "keys/restore-a.pub",
            "keys/restore-a.pub.pub",
            "x/restore-x",
        ] {
            fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
            fs::write(folder.path().join(name), "key").unwrap();
        }
        symlink("pull", folder.path().join("keys/restore-link")).unwrap();
        let luv = folder.path().join("keys/restore-luv");
        fs::File::open(&luv).unwrap().set_modified(SystemTime::now() - Duration::from_secs(3 * 24 * 3600)).unwrap();
        let found = lent(folder.path(), &config.pull);
        let told: Vec<_> = found.iter().map(|lent| (lent.host.as_str(), lent.age.as_secs() / (24 * 3600))).collect();
        // What reads is no such key, whatever its name is; and a public half opens nothing.
        assert_eq!(told, [("a.pub", 0), ("luv", 3)]);
    }

    #[test]
    fn files_of_keys_are_read_of_those_who_may_log_in_and_with_them_what_they_call() {
        let folder = tempfile::tempdir().unwrap();
        let home = |name: &str| folder.path().join(name);
        let passwd = format!(
            "root:x:0:0:root:{0}/root:/bin/bash\neve:x:1000:1000:,,,:{0}/eve:/bin/sh\nsys:x:9:9:x:{0}/sys:/usr/sbin/nologin\n\
             mail:x:8:8:x:{0}/root:/bin/sh\nbad\n:::::relative:/bin/sh\n",
            folder.path().display()
        );
        let script = home("bin/rrsync");
        for name in ["root/.ssh", "sys/.ssh", "eve", "bin"] {
            fs::create_dir_all(home(name)).unwrap();
        }
        fs::write(&script, "#!/usr/bin/env perl\n").unwrap();
        let line = format!("restrict,command=\"{} -ro /home\" ssh-ed25519 AAAA\n", script.display());
        for name in ["root/.ssh/authorized_keys", "sys/.ssh/authorized_keys"] {
            fs::write(home(name), &line).unwrap();
        }
        // Nobody has root read another's file.
        symlink(home("root/.ssh"), home("eve/.ssh")).unwrap();
        let found = authorized(&passwd);
        assert_eq!(found, [(home("root/.ssh/authorized_keys"), line)]);
        let called = script.display().to_string();
        assert_eq!(rrsyncs(&found), [(called, (script.clone(), "#!/usr/bin/env perl\n".to_owned()))].into());
        fs::remove_file(&script).unwrap();
        assert!(rrsyncs(&found).is_empty());
    }

    #[test]
    fn lines_that_rrsync_holds_to_a_folder_are_told_from_others() {
        let cases = [
            (r#"restrict,command="rrsync -ro /home" ssh-ed25519 AAAA pull@nas"#, Some(("rrsync", "/home"))),
            (
                r#"  command="/usr/bin/rrsync -wo -no-del '/srv'",restrict ssh-rsa AAAA"#,
                Some(("/usr/bin/rrsync", "/srv")),
            ),
            (r#"command="nice rrsync /" ssh-rsa AAAA"#, Some(("rrsync", "/"))),
            (r#"# command="rrsync -ro /home" ssh-ed25519 AAAA"#, None),
            ("ssh-ed25519 AAAA rrsync", None),
            ("ssh-ed25519 AAAA jon@rrsync x", None),
            (r#"command="rrsync -ro"#, None),
            ("", None),
        ];
        for (line, want) in cases {
            assert_eq!(held(line), want, "{line}");
        }
    }

    #[test]
    fn fuzz_authorized_keys() {
        let seed = br#"restrict,command="rrsync -ro '/home/x y'" ssh-ed25519 AAAA pull@nas"#;
        phobos_fuzz::target("authorized keys", &[seed], |bytes| {
            let text = String::from_utf8_lossy(bytes);
            std::hint::black_box(text.lines().filter_map(held).count());
        });
    }
}
