//! `phobos-pull authorize HOST`: the line of `authorized_keys` that lets us read a host's sources, and nothing else.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context;
use chrono::{Days, Local};
use phobos_core::exec::System;
use phobos_core::{fs, ssh};
use phobos_site::config::Config;
use phobos_site::exit::{Exit, Stop};
use phobos_site::pull::{Host, HostName, Origin, RESTORE_DAYS, RESTORE_KEY};

use crate::{client, pull};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The host
    #[arg(value_name = "HOST")]
    host: HostName,
    /// Print the line that lets files be given back to the host, with a key of its own, for a day or two
    #[arg(long)]
    restore: bool,
    /// Let that replace files, too
    #[arg(long, requires = "restore")]
    overwrite: bool,
}

/// Removes the key that gives files back to `host`, which has done its work.
///
/// # Errors
///
/// If one of its halves cannot be removed.
pub(crate) fn remove_restore_key(config: &Config, host: &Host) -> Result<(), anyhow::Error> {
    let key = host.restore_key(&config.folder);
    // What is behind a dot may be part of the host's name.
    let public = key.with_file_name(format!("{RESTORE_KEY}{}.pub", host.name));
    for file in [public, key] {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", file.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Prints the line; makes the key if there is none yet.
///
/// # Errors
///
/// If the host is not configured or the key cannot be read or made.
pub(crate) fn run(config: &Config, args: &Args) -> Result<(), anyhow::Error> {
    let host = pull::find(config, &args.host)?;
    client::servers(&host)?;
    let system = System::default();
    if args.restore {
        return to_restore(&system, config, &host, args.overwrite);
    }
    need_key(&system, &host.identity(&config.folder))?;
    client::say(&format!("{}\n", line(&system, config, &host)?))?;
    let users = users(&host).join(" and ");
    log::info!(
        "on {}: put this line into .ssh/authorized_keys of {users}, in place of any other with this key",
        host.name
    );
    if let Some(folder) = deeper(&host) {
        log::info!(
            "the line lets this machine read everything below {}; for {} alone, add `root = \"{}\"` to the \
             configuration of {} and run this again",
            host.root.display(),
            folder.display(),
            folder.display(),
            host.name
        );
    }
    Ok(())
}

/// Prints the line that lets files be given back to `host`; makes its key if there is none.
fn to_restore(system: &System<'_>, config: &Config, host: &Host, replaces: bool) -> Result<(), anyhow::Error> {
    let identity = host.restore_key(&config.folder);
    need_key(system, &identity)?;
    renew(&identity)?;
    let until = Local::now().date_naive().checked_add_days(Days::new(RESTORE_DAYS.into()));
    let until = until.context("this machine's clock is wrong")?;
    let day = until.format("%Y%m%d").to_string();
    let key = ssh::public_key(system, &identity)?;
    let root = in_one_line(host)?;
    client::say(&format!("{}\n", ssh::write_line(root, &day, replaces, &key)))?;
    let (name, users) = (&host.name, users(host).join(" and "));
    if let Some(jump) = &host.jump {
        let servers = client::servers(host)?;
        let to = servers.iter().skip(1).map(|server| format!(",permitopen=\"{}:{}\"", server.address, server.port));
        let to = to.collect::<String>();
        log::info!(
            "on {}, which is on the way, its line is: restrict,expiry-time=\"{day}\",port-forwarding{to} {key}",
            jump.address
        );
    }
    log::info!(
        "on {name}: add this line to .ssh/authorized_keys of {users}, and take it out again afterwards; until {until} it lets this machine \
         write below {}; `phobos-pull restore {name} PATH --to {name}:/FOLDER` uses the key, and removes it here when that is done",
        root.display()
    );
    Ok(())
}

/// Says by the time of the key that it is good for two days from now on: after that `phobos-status doctor` takes it for one that
/// was left behind.
fn renew(identity: &Path) -> Result<(), anyhow::Error> {
    let renewed = File::open(identity).and_then(|file| file.set_modified(SystemTime::now()));
    renewed.with_context(|| format!("cannot set the time of {}", identity.display()))
}

/// The line for `host`.
///
/// # Errors
///
/// If the key cannot be read, or the host's root cannot be written in one line.
pub(crate) fn line(system: &System<'_>, config: &Config, host: &Host) -> Result<String, anyhow::Error> {
    Ok(ssh::read_only_line(in_one_line(host)?, &ssh::public_key(system, &host.identity(&config.folder))?))
}

/// The root that keys are restricted to.
fn in_one_line(host: &Host) -> Result<&Path, Stop> {
    if host.root.as_os_str().as_encoded_bytes().contains(&b'\n') {
        return Err(Stop::new(Exit::Config, "root: a name with a line end cannot be in authorized_keys"));
    }
    Ok(&host.root)
}

/// Makes the key if there is none.
fn need_key(system: &System<'_>, identity: &Path) -> Result<(), anyhow::Error> {
    if identity.exists() {
        return Ok(());
    }
    if let Some(folder) = identity.parent() {
        fs::make_private(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let machine = rustix::system::uname().nodename().to_string_lossy().into_owned();
    ssh::make_key(system, identity, &format!("phobos-pull@{machine}"))?;
    log::info!("made the key {}", identity.display());
    Ok(())
}

/// Whom we log in as, each once.
fn users(host: &Host) -> Vec<String> {
    let mut users: Vec<String> = Vec::new();
    for connection in host.connections() {
        if matches!(connection.origin, Origin::Ssh { .. }) {
            let user = host.user_at(connection.origin).map(|user| user.as_str().to_owned());
            users.extend(user.filter(|user| !users.contains(user)));
        }
    }
    users
}

/// The deepest folder that holds all sources, where it is below the root that the key is restricted to.
fn deeper(host: &Host) -> Option<PathBuf> {
    let mut sources = host.sources.iter().filter(|source| matches!(source.origin, Origin::Ssh { .. }));
    // What was written without a slash may be a file, which no key can be restricted to.
    let mut folder_of =
        || sources.next().map(|source| if source.content { Some(source.path.as_path()) } else { source.path.parent() });
    let mut common = folder_of()??.to_owned();
    while let Some(folder) = folder_of() {
        let folder = folder?;
        while !folder.starts_with(&common) {
            common.pop();
        }
    }
    (common != *host.root && common.starts_with(&*host.root)).then_some(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> Host {
        let text = format!("[[pull]]\nhost = 'luv'\n{text}");
        Config::parse(Path::new("phobos.toml"), &text).unwrap().pull.remove(0)
    }

    #[test]
    fn the_folder_that_holds_all_sources_is_found() {
        let cases = [
            ("source = ['luv:/home/']", Some("/home")),
            ("source = ['luv:/home/jon']", Some("/home")),
            ("source = ['luv:/home/jon/', 'luv:/home/eve/']", Some("/home")),
            ("source = ['luv:/srv/a/b/', 'luv:/srv/ab/']", Some("/srv")),
            ("source = ['luv:/home/', 'luv:/etc/']", None),
            ("source = ['luv:/home/']\nroot = '/home'", None),
            ("source = ['luv:/home/jon/']\nroot = '/home'", Some("/home/jon")),
            ("source = ['luv:/home/', 'rsync://luv/music/']", Some("/home")),
            ("source = ['luv:/']", None),
        ];
        for (text, want) in cases {
            assert_eq!(deeper(&host(text)).as_deref(), want.map(Path::new), "{text}");
        }
    }

    #[test]
    fn a_key_goes_with_its_public_half_and_no_other_hosts_does() {
        let folder = tempfile::tempdir().unwrap();
        let text = "[[pull]]\nhost = 'nas.lan'\nsource = ['nas.lan:/a']";
        let config = Config::parse(&folder.path().join("phobos.toml"), text).unwrap();
        let host = &config.pull[0];
        let keys = host.restore_key(&config.folder).parent().unwrap().to_owned();
        std::fs::create_dir_all(&keys).unwrap();
        let names = ["restore-nas", "restore-nas.pub", "restore-nas.lan", "restore-nas.lan.pub"];
        for name in names {
            std::fs::write(keys.join(name), "key").unwrap();
        }
        remove_restore_key(&config, host).unwrap();
        assert_eq!(names.map(|name| keys.join(name).exists()), [true, true, false, false]);
        remove_restore_key(&config, host).unwrap();
    }

    #[test]
    fn a_key_that_is_lent_once_more_is_as_good_as_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("restore-luv");
        std::fs::write(&key, "key").unwrap();
        let before = SystemTime::now() - std::time::Duration::from_secs(30 * 24 * 3600);
        File::open(&key).unwrap().set_modified(before).unwrap();
        renew(&key).unwrap();
        assert!(std::fs::metadata(&key).unwrap().modified().unwrap().elapsed().unwrap_or_default().as_secs() < 3600);
        assert!(renew(&folder.path().join("none")).is_err());
    }

    #[test]
    fn every_user_that_logs_in_is_named_once() {
        assert_eq!(users(&host("source = ['luv:/a/']")), ["root"]);
        let several = "source = ['jon@luv:/a/', 'luv:/b/', 'jon@luv:/c/']\nuser = 'eve'";
        assert_eq!(users(&host(several)), ["jon", "eve"]);
    }
}
