//! The files that remote unlock consists of on the machine: what each has to say, as pure functions of what it says now.
//!
//! In files that are others' too, phobos-unlock's lines stand between two marks, and no other line is touched.

use phobos_core::fs::shown_text;

/// Where dropbear's configuration for the initramfs is, since Debian 12.
pub(crate) const DROPBEAR: &str = "etc/dropbear/initramfs";

/// What is run instead of whatever a key asks for.
const FORCED: &str =
    "no-port-forwarding,no-agent-forwarding,no-X11-forwarding,no-pty,command=\"/bin/cryptroot-unlock\"";

const BEGIN: &str = "# phobos-unlock: begin, written by `phobos-unlock setup`";
const END: &str = "# phobos-unlock: end";

/// The kinds of keys that dropbear takes (dropbear(8), `authorized_keys`).
const KINDS: [&str; 5] =
    ["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521"];

/// How the machine is to wait.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The public keys that are let in.
    pub(crate) keys: Vec<PublicKey>,
    /// The port.
    pub(crate) port: u16,
    /// The network in the kernel's form (`ip=`), or `dhcp`.
    pub(crate) ip: String,
    /// The drivers of the machine's network cards.
    pub(crate) drivers: Vec<String>,
}

/// A public key, as one line without options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublicKey(String);

/// A file, from the machine's root, and what it is to say; `None` for one that is to be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) path: String,
    /// What it says now.
    pub(crate) before: Option<String>,
    pub(crate) text: Option<String>,
    /// Whether others may read it.
    pub(crate) mode: u32,
}

impl Change {
    /// The way back.
    pub(crate) fn undone(&self) -> Self {
        Self { before: self.text.clone(), text: self.before.clone(), ..self.clone() }
    }
}

impl PublicKey {
    /// Reads the text of a file with one public key.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let (Some(line), None) = (lines.next(), lines.next()) else {
            return Err("it is not one public key on one line, as `ssh-keygen` writes it into a file .pub".to_owned());
        };
        let mut words = line.split_whitespace();
        let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if !KINDS.contains(&kind) {
            return Err(format!(
                "{} is no kind of public key that dropbear takes; make one with `ssh-keygen -t ed25519`",
                shown_text(kind)
            ));
        }
        let is_base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
        if key.len() < 40 || !key.chars().all(is_base64) {
            return Err("the key in it is cut off".to_owned());
        }
        let comment: String = words.collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).collect();
        Ok(Self(format!("{kind} {key} {comment}").trim_end().to_owned()))
    }

    /// Its line, which lets it do one thing.
    pub(crate) fn line(&self) -> String {
        format!("{FORCED} {}", self.0)
    }
}

/// The settings of the network as the kernel takes them after `ip=` (Documentation/admin-guide/nfs/nfsroot.rst), or `dhcp`.
pub(crate) fn ip(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '_');
    if text.is_empty() || !text.chars().all(good) {
        return Err("it is `dhcp`, or CLIENT::GATEWAY:NETMASK:HOSTNAME:DEVICE:off, as the kernel takes it after `ip=`"
            .to_owned());
    }
    Ok(text.to_owned())
}

/// What the files are to say so that the machine waits as `wanted`; or, without, as they were before. `read` reads a file that is
/// there.
pub(crate) fn changes<E>(
    wanted: Option<&Wanted>,
    read: &dyn Fn(&str) -> Result<Option<String>, E>,
) -> Result<Vec<Change>, E> {
    let mut changes = Vec::new();
    let own = |text: String| wanted.map(|_| text);
    let block = |lines: Vec<String>| wanted.is_some().then(|| lines.join("\n"));
    let with = wanted.cloned().unwrap_or_default();
    let keys = block(with.keys.iter().map(PublicKey::line).collect());
    let options = block(vec![
        // dropbear(8): no passwords, no forwarding either way; a connection that does nothing ends.
        format!("DROPBEAR_OPTIONS=\"-s -j -k -I 300 -p {}\"", with.port),
    ]);
    for (path, block, mode) in [
        (format!("{DROPBEAR}/authorized_keys"), keys, 0o600),
        (format!("{DROPBEAR}/dropbear.conf"), options, 0o644),
        ("etc/initramfs-tools/modules".to_owned(), block(with.drivers.clone()), 0o644),
    ] {
        let before = read(&path)?;
        let text =
            with_block(before.as_deref().unwrap_or_default(), block.as_deref().filter(|block| !block.is_empty()));
        let text = if text.is_empty() && before.is_none() { None } else { Some(text) };
        if text != before {
            changes.push(Change { path, before, text, mode });
        }
    }
    let path = "etc/initramfs-tools/conf.d/phobos-unlock".to_owned();
    let text =
        own(format!("# Written by `phobos-unlock setup`: the network before the disks are open.\nIP={}\n", with.ip));
    let before = read(&path)?;
    if text != before {
        changes.push(Change { path, before, text, mode: 0o644 });
    }
    Ok(changes)
}

/// The text with `block` between the marks, in the place where it was, or at the end.
fn with_block(text: &str, block: Option<&str>) -> String {
    let mut lines: Vec<&str> = Vec::new();
    let (mut inside, mut place) = (false, None);
    for line in text.lines() {
        match line {
            BEGIN => (inside, place) = (true, place.or(Some(lines.len()))),
            END if inside => inside = false,
            _ if inside => {}
            line => lines.push(line),
        }
    }
    if let Some(block) = block {
        let place = place.unwrap_or(lines.len());
        let block: Vec<&str> = [BEGIN].into_iter().chain(block.lines()).chain([END]).collect();
        lines.splice(place..place, block);
    }
    lines.iter().flat_map(|line| [*line, "\n"]).collect()
}

/// The lines of an `authorized_keys` that let somebody do more than unlock, such as those that others have written.
pub(crate) fn that_can_do_more(text: &str) -> Vec<String> {
    let keys = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let more = keys.filter(|line| {
        let options =
            line.split_once("ssh-").or_else(|| line.split_once("ecdsa-")).map_or(*line, |(options, _)| options);
        let forced =
            options.contains("command=\"/bin/cryptroot-unlock\"") || options.contains("command=\"cryptroot-unlock\"");
        !forced || !(options.contains("no-port-forwarding") || options.contains("restrict"))
    });
    more.map(shown_text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGq4MqT0mYqXo4mHkq1y9c4m5b3b1c2d3e4f5g6h7i8j owner@laptop";

    fn wanted() -> Wanted {
        Wanted {
            keys: vec![PublicKey::parse(KEY).unwrap()],
            port: 2222,
            ip: "dhcp".into(),
            drivers: vec!["virtio_net".into()],
        }
    }

    fn apply(files: &mut BTreeMap<String, String>, wanted: Option<&Wanted>) -> usize {
        let read = |path: &str| Ok::<_, Infallible>(files.get(path).cloned());
        let changes = changes(wanted, &read).unwrap();
        for change in &changes {
            match &change.text {
                Some(text) => files.insert(change.path.clone(), text.clone()),
                None => files.remove(&change.path),
            };
        }
        changes.len()
    }

    #[test]
    fn a_second_time_changes_nothing_and_the_way_back_leaves_what_was() {
        let own = "# mine\nssh-rsa AAAAB3 other@pc\n";
        let before = BTreeMap::from([
            (format!("{DROPBEAR}/authorized_keys"), own.to_owned()),
            (format!("{DROPBEAR}/dropbear.conf"), "#DROPBEAR_OPTIONS=\"\"\nIFDOWN=none\n".to_owned()),
            ("etc/initramfs-tools/modules".to_owned(), "# List of modules\n".to_owned()),
        ]);
        let mut files = before.clone();
        assert_eq!(apply(&mut files, Some(&wanted())), 4);
        let keys = &files[&format!("{DROPBEAR}/authorized_keys")];
        assert!(keys.starts_with(own) && keys.contains(&format!("{FORCED} {KEY}\n")), "{keys}");
        assert_eq!(that_can_do_more(keys), ["ssh-rsa AAAAB3 other@pc"]);
        assert_eq!(apply(&mut files, Some(&wanted())), 0);
        let other = Wanted { port: 22, ip: "10.0.0.2::10.0.0.1:255.255.255.0:nas:eth0:off".into(), ..wanted() };
        assert_eq!(apply(&mut files, Some(&other)), 2);
        assert_eq!(apply(&mut files, None), 4);
        assert_eq!(files, before);
        assert_eq!(apply(&mut files, None), 0);
        let mut none = BTreeMap::new();
        assert_eq!(apply(&mut none, None), 0);
    }

    #[test]
    fn what_is_undone_says_what_it_said() {
        let read = |path: &str| Ok::<_, Infallible>((path.ends_with("modules")).then(|| "# mine\n".to_owned()));
        for change in changes(Some(&wanted()), &read).unwrap() {
            assert_eq!(change.undone().text, read(&change.path).unwrap(), "{}", change.path);
            assert_eq!(change.undone().undone(), change);
        }
    }

    #[test]
    fn only_a_public_key_is_one() {
        for (text, why) in [
            ("", "not one public key"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n", "not one public key"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----", "no kind of public key"),
            ("sk-ssh-ed25519@openssh.com AAAA x", "no kind of public key"),
            ("command=\"sh\" ssh-ed25519 AAAA", "no kind of public key"),
            ("ssh-ed25519 AAAA", "cut off"),
        ] {
            let error = PublicKey::parse(text).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
        assert_eq!(PublicKey::parse(&format!("# x\n{KEY}\n")).unwrap().0, KEY);
        for text in ["", "dhcp; rm -rf /", "$(x)", "a\nb"] {
            assert!(ip(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_can_do_more_is_named() {
        let forced = PublicKey::parse(KEY).unwrap().line();
        let restrict = format!("restrict,command=\"cryptroot-unlock\" {KEY}");
        assert_eq!(that_can_do_more(&format!("{forced}\n{restrict}\n# note\n")), Vec::<String>::new());
        let shell = format!("command=\"/bin/sh -c cryptroot-unlock\",no-port-forwarding {KEY}");
        let forwards = format!("command=\"/bin/cryptroot-unlock\" {KEY}");
        assert_eq!(that_can_do_more(&format!("{shell}\n{forwards}\n")).len(), 2);
    }
}
