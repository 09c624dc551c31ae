//! The recovery sheet: what somebody needs to get everything back without this machine; a pure function of what is known, as text
//! and as a page to print.

mod guide;
mod page;

use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use phobos_core::exec::shell_word;
use phobos_core::fs::shown_text;
use phobos_core::human;
use phobos_core::luks::Uuid;

use crate::passphrase::Passphrase;

pub(crate) use guide::guide;
use page::{Block, Section, commands, text_of};

/// The name of the mapping on the machine that restores.
const MAPPING: &str = "extbackup";

/// What is known.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The machine's name.
    pub(crate) host: String,
    pub(crate) made: DateTime<Utc>,
    /// The id of the repository.
    pub(crate) repository: String,
    /// Where the repository is on a drive.
    pub(crate) inner: PathBuf,
    /// Where the holding spaces are on a drive.
    pub(crate) holding: Option<PathBuf>,
    /// Borg's key, as `borg key export --paper` has it.
    pub(crate) key: Option<String>,
    pub(crate) drives: Vec<DriveFacts>,
}

/// What is known of a drive.
#[derive(Debug, Clone)]
pub(crate) struct DriveFacts {
    pub(crate) name: String,
    /// How people recognise it.
    pub(crate) description: Option<String>,
    pub(crate) lock: Lock,
    /// When its last mirror was complete.
    pub(crate) mirrored: Option<DateTime<Utc>>,
}

/// How a drive is locked.
#[derive(Debug, Clone)]
pub(crate) enum Lock {
    /// Not at all; the file system is on this device.
    None { device: PathBuf },
    /// By LUKS.
    Luks {
        container: Uuid,
        /// The passphrase, where it was asked for and typed.
        passphrase: Option<Passphrase>,
        /// The header's backup on this machine, if there is one.
        header: Option<PathBuf>,
    },
}

/// What the sheet says.
fn sections(facts: &Facts) -> Vec<Section> {
    let always = [drives(facts), open(facts), restore(&facts.inner, facts.holding.as_deref()), close()];
    always.into_iter().chain(key(facts)).chain(header(facts)).chain([again(facts)]).collect()
}

/// The sheet as plain text.
pub(crate) fn text(facts: &Facts) -> String {
    page::text(&title(facts), &subtitle(facts), &sections(facts))
}

/// The sheet as a page that needs nothing but itself.
pub(crate) fn html(facts: &Facts) -> String {
    page::html(&title(facts), &subtitle(facts), &sections(facts))
}

fn title(facts: &Facts) -> String {
    format!("Recovery sheet for the backups of {}", facts.host)
}

fn subtitle(facts: &Facts) -> String {
    format!(
        "Made on {} by phobos. Keep it away from that machine and from the drives. Whoever has it and a drive may have \
         everything.",
        human::day(facts.made)
    )
}

fn drives(facts: &Facts) -> Section {
    let mut blocks = Vec::new();
    for drive in &facts.drives {
        let description = drive.description.as_deref().map(|text| format!(": {}", shown_text(text)));
        let mirrored = drive.mirrored.map(|time| format!("last complete mirror on {}", human::day(time)));
        let mirrored = mirrored.unwrap_or_else(|| "not mirrored to yet".to_owned());
        let lock = match &drive.lock {
            Lock::None { device } => format!("not encrypted, {}", device.display()),
            Lock::Luks { container, .. } => format!("LUKS container {}", container.as_str()),
        };
        blocks.push(Block::Text(format!("{}{}; {lock}; {mirrored}.", drive.name, description.unwrap_or_default())));
        if let Lock::Luks { passphrase, .. } = &drive.lock {
            let words = passphrase.as_ref().map(|words| words.words().to_owned());
            let words = words.unwrap_or_else(|| "is kept at ______________________________".to_owned());
            blocks.push(Block::Verbatim(vec![format!("passphrase of {}: {words}", drive.name)]));
        }
    }
    blocks.push(Block::Verbatim(vec![
        format!("repository: {}", facts.repository),
        "its passphrase, if it has one, is kept at ______________________________".to_owned(),
    ]));
    Section { heading: "The drives; each has all of it".to_owned(), blocks }
}

fn open(facts: &Facts) -> Section {
    let mut blocks = vec![
        text_of("Any computer with Linux will do, as root. On Debian and Ubuntu:"),
        commands(&["apt-get install cryptsetup borgbackup rsync"]),
        text_of("Plug a drive in. This shows which one it is and whether the computer sees it:"),
        commands(&["lsblk -o NAME,SIZE,MODEL,SERIAL,UUID"]),
    ];
    for drive in &facts.drives {
        match &drive.lock {
            Lock::Luks { container, .. } => {
                let mapped = format!("cryptsetup open /dev/disk/by-uuid/{} {MAPPING}", container.as_str());
                blocks.push(Block::Text(format!("Drive {}, which asks for its passphrase:", drive.name)));
                blocks.push(Block::Commands(vec![mapped, format!("mount -o ro /dev/mapper/{MAPPING} /mnt")]));
            }
            Lock::None { device } => {
                blocks.push(Block::Text(format!("Drive {}:", drive.name)));
                blocks.push(Block::Commands(vec![format!("mount -o ro {} /mnt", device.display())]));
            }
        }
    }
    Section { heading: "1. Open a drive".to_owned(), blocks }
}

/// How everything is restored from a drive that is open at `/mnt`, where the repository and the holding spaces are at these places.
fn restore(inner: &Path, holding: Option<&Path>) -> Section {
    let borg = mounted(inner);
    let mut blocks = vec![
        text_of(
            "Borg asks for the repository's passphrase, if it has one. NAME is an archive as the list has it; it is restored \
             into the folder in which the command is run, which needs the room.",
        ),
        Block::Commands(vec![
            format!("borg --bypass-lock list {borg}"),
            "mkdir -p /root/back".to_owned(),
            "cd /root/back".to_owned(),
            format!("borg --bypass-lock extract {borg}::NAME"),
        ]),
    ];
    if let Some(holding) = holding {
        blocks.push(text_of(
            "The files as they were collected last lie beside it, a folder for each computer; this puts those of HOST back with \
             their owners, permissions and links, which lie beside their content and which cp would lose:",
        ));
        blocks.push(Block::Commands(vec![format!(
            "rsync -aHAX --numeric-ids --fake-super -M--super {}/HOST/ /root/back/",
            mounted(holding)
        )]));
    }
    Section { heading: "2. Restore".to_owned(), blocks }
}

/// A place on the drive that is open at `/mnt`, for a shell.
fn mounted(inner: &Path) -> String {
    shell_word(&format!("/mnt/{}", inner.display()))
}

fn close() -> Section {
    let lines = commands(&["cd /", "umount /mnt", &format!("cryptsetup close {MAPPING}")]);
    Section { heading: "3. Close the drive, and unplug it".to_owned(), blocks: vec![lines] }
}

fn key(facts: &Facts) -> Option<Section> {
    let key = facts.key.as_ref()?;
    let lines = key.lines().map(str::trim_end).filter(|line| !line.is_empty());
    let lines = lines.skip_while(|line| !line.starts_with("BORG PAPER KEY")).map(str::to_owned).collect();
    let blocks = vec![
        text_of(
            "The repository has its key in itself. Where that is damaged, copy the folder to a disk with room, say COPY, and type \
             the lines below; they are of no use without the repository's passphrase.",
        ),
        commands(&["borg key import --paper COPY"]),
        Block::Verbatim(lines),
    ];
    Some(Section { heading: "If Borg says that the key is missing or damaged".to_owned(), blocks })
}

fn header(facts: &Facts) -> Option<Section> {
    let kept = facts.drives.iter().filter_map(|drive| match &drive.lock {
        Lock::Luks { header: Some(file), .. } => Some(format!("{}: {}", drive.name, file.display())),
        Lock::Luks { header: None, .. } => Some(format!("{}: none; see cryptsetup-luksHeaderBackup(8)", drive.name)),
        Lock::None { .. } => None,
    });
    let kept: Vec<_> = kept.collect();
    if kept.is_empty() {
        return None;
    }
    let blocks = vec![
        text_of(
            "A drive whose header is damaged opens with no passphrase, but with the header's backup, FILE: these lie on the \
             machine, and are of use only where a copy of them lies elsewhere too.",
        ),
        Block::Verbatim(kept),
        text_of("DEVICE is the drive's partition, as lsblk shows it (/dev/sdX1). Try the backup first:"),
        Block::Commands(vec![
            format!("cryptsetup open --header FILE DEVICE {MAPPING}"),
            format!("mount -o ro /dev/mapper/{MAPPING} /mnt"),
        ]),
        text_of("Then, with everything restored and the drive closed, put it back:"),
        commands(&["cryptsetup luksHeaderRestore DEVICE --header-backup-file FILE"]),
    ];
    Some(Section { heading: "If the drive does not open, though the passphrase is right".to_owned(), blocks })
}

fn again(facts: &Facts) -> Section {
    let mut blocks = vec![text_of(
        "Set phobos up as its README says, with an empty file system for /backup. With the drive open (section 1), bring the \
         repository back:",
    )];
    let copied = |folder: &PathBuf| {
        let (from, to) = (mounted(folder), shell_word(&format!("/backup/{}", folder.display())));
        format!("phobos-ns exec -- rsync -aHX --mkpath --numeric-ids {from}/ {to}/")
    };
    blocks.push(Block::Commands(
        [Some(&facts.inner), facts.holding.as_ref()].into_iter().flatten().map(copied).collect(),
    ));
    blocks.push(text_of("Close the drive (section 3), give the new machine a key of its own, which asks for the passphrase, and adopt the drive:"));
    for drive in &facts.drives {
        let Lock::Luks { container, .. } = &drive.lock else { continue };
        let (name, device) = (&drive.name, format!("/dev/disk/by-uuid/{}", container.as_str()));
        blocks.push(Block::Commands(vec![
            "mkdir -p -m 700 /etc/phobos/keys".to_owned(),
            format!("(umask 077; head -c 64 /dev/urandom >/etc/phobos/keys/{name}.key)"),
            format!("cryptsetup luksAddKey --pbkdf pbkdf2 {device} /etc/phobos/keys/{name}.key"),
            format!("phobos-ext adopt {device} --name {name}"),
        ]));
    }
    Section { heading: "A new machine with phobos".to_owned(), blocks }
}

#[cfg(test)]
mod tests {
    use super::page::{INDENT, escaped};
    use super::*;

    fn facts() -> Facts {
        let drive = |name: &str, passphrase: Option<&str>| DriveFacts {
            name: name.to_owned(),
            description: Some("My <Pass>port, serial number WX1".to_owned()),
            lock: Lock::Luks {
                container: Uuid::try_from("11111111-2222-4333-8444-555555555555".to_owned()).unwrap(),
                passphrase: passphrase.map(Passphrase::typed),
                header: None,
            },
            mirrored: Some(DateTime::UNIX_EPOCH),
        };
        let plain = DriveFacts {
            name: "C".to_owned(),
            description: None,
            lock: Lock::None { device: "/dev/disk/by-label/c".into() },
            mirrored: None,
        };
        Facts {
            host: "nas".to_owned(),
            made: DateTime::UNIX_EPOCH,
            repository: "ab".repeat(32),
            inner: "borg".into(),
            holding: Some("holding".into()),
            key: Some(
                "To restore key use borg key import --paper /path\n\nBORG PAPER KEY v1\nid: 1 / a\n 1: 2\n".to_owned(),
            ),
            drives: vec![drive("A", Some("zoo zebra")), drive("B", None), plain],
        }
    }

    #[test]
    fn it_says_how_to_open_restore_and_close_and_what_is_secret_only_where_that_was_asked_for() {
        let text = text(&facts());
        for line in [
            "    | passphrase of A: zoo zebra",
            "    | passphrase of B: is kept at ______________________________",
            "        cryptsetup open /dev/disk/by-uuid/11111111-2222-4333-8444-555555555555 extbackup",
            "        mount -o ro /dev/mapper/extbackup /mnt",
            "        mount -o ro /dev/disk/by-label/c /mnt",
            "        borg --bypass-lock extract /mnt/borg::NAME",
            "        cryptsetup luksHeaderRestore DEVICE --header-backup-file FILE",
            "        cryptsetup luksAddKey --pbkdf pbkdf2 /dev/disk/by-uuid/11111111-2222-4333-8444-555555555555 /etc/phobos/keys/A.key",
            "        phobos-ext adopt /dev/disk/by-uuid/11111111-2222-4333-8444-555555555555 --name A",
            "    | BORG PAPER KEY v1",
            "    |  1: 2",
        ] {
            assert!(text.lines().any(|own| own == line), "no {line:?} in\n{text}");
        }
        assert!(!text.contains("/path"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 125), "{text}");
    }

    #[test]
    fn without_a_key_or_encryption_nothing_is_said_of_them() {
        let mut facts = facts();
        facts.drives.retain(|drive| drive.name == "C");
        facts.key = None;
        let text = text(&facts);
        assert!(!text.contains("luksHeaderRestore") && !text.contains("key import"), "{text}");
    }

    #[test]
    fn the_page_has_all_of_the_text_and_needs_nothing_else() {
        let (page, text) = (html(&facts()), text(&facts()));
        assert!(page.contains("My &lt;Pass&gt;port") && !page.contains("<Pass>"));
        for forbidden in ["http", "src=", "href=", "<script", "@import", "url("] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
        for line in text.lines().filter_map(|line| line.strip_prefix(INDENT)) {
            assert!(page.contains(&escaped(line)), "{line}");
        }
        assert_eq!(page.matches("<section>").count(), sections(&facts()).len());
    }
}
