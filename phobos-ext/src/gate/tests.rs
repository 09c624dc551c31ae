//! Kinds of damage and honest changes, on folders.

use std::fs;
use std::time::{Duration, SystemTime};

use super::*;
use phobos_core::progress::{CopyEvent, Halt};

#[expect(clippy::unnecessary_wraps, reason = "it is a handler")]
fn on(_: CopyEvent<'_>) -> Result<(), Halt> {
    Ok(())
}

/// What the refusal says, and what was done.
type Damage<'d> = (&'d str, &'d dyn Fn(&Two));

const ID: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Version 2, and the segments 4 and 5 with one object each.
const HINTS: &[u8] = b"\x82\xa7version\x02\xa8segments\x82\x04\x01\x05\x01";

/// A source and a copy of it, with five transactions.
struct Two {
    folder: tempfile::TempDir,
}

fn entry(tag: u8, rest: &[u8]) -> Vec<u8> {
    let size = u32::try_from(9 + rest.len()).unwrap();
    let mut checked = size.to_le_bytes().to_vec();
    checked.push(tag);
    checked.extend_from_slice(rest);
    let mut bytes = crc32fast::hash(&checked).to_le_bytes().to_vec();
    bytes.extend(checked);
    bytes
}

fn segment(content: u8, size: usize, committed: bool) -> Vec<u8> {
    let mut bytes = b"BORG_SEG".to_vec();
    bytes.extend(entry(0, &vec![content; 32 + size]));
    if committed {
        bytes.extend(entry(2, &[]));
    }
    bytes
}

fn two() -> Two {
    let folder = tempfile::tempdir().unwrap();
    let two = Two { folder };
    fs::create_dir_all(two.path("source/data/0")).unwrap();
    for number in 1..=5 {
        two.write(&format!("data/0/{number}"), &segment(number, 1000, true));
    }
    two.write("config", format!("[repository]\nversion = 1\nsegments_per_dir = 1000\nid = {ID}\n").as_bytes());
    two.write("hints.5", HINTS);
    two.write("index.5", b"");
    two.copied();
    two
}

impl Two {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path("source").join(name), bytes).unwrap();
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let file = fs::File::options().write(true).open(self.path("source").join(name)).unwrap();
        file.set_modified(then).unwrap();
    }

    fn touch(&self, name: &str) {
        fs::File::options()
            .write(true)
            .open(self.path("source").join(name))
            .unwrap()
            .set_modified(SystemTime::now())
            .unwrap();
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path("source").join(name)).unwrap();
    }

    fn source(&self, name: &str) -> PathBuf {
        self.path("source").join(name)
    }

    /// Makes the copy what the source is.
    fn copied(&self) {
        if self.path("copy").exists() {
            fs::remove_dir_all(self.path("copy")).unwrap();
        }
        let call = phobos_core::exec::Invocation::new("cp").arg("-a").arg(self.path("source")).arg(self.path("copy"));
        phobos_core::exec::Exec::run(&phobos_core::exec::System::default(), &call).unwrap();
    }

    /// What the gate says: nothing, what has to be accepted, or a refusal.
    fn judged(&self) -> Result<(), String> {
        let told = |error: anyhow::Error| format!("{error:#}");
        let (source_dir, copy_dir) = (Dir::open(&self.path("source")).unwrap(), Dir::open(&self.path("copy")).unwrap());
        let (source, copy) =
            (look(&source_dir, NAMES, &mut on).map_err(told)?, look(&copy_dir, NAMES, &mut on).unwrap());
        is_borgs(&source.survey, 1000).map_err(|error| error.to_string())?;
        let (from, to) = (read(&source_dir).map_err(told)?, read(&copy_dir).unwrap());
        let mut plan = Plan::of(&settled(source.survey, &from.state), &copy.survey);
        let findings = judge(&from, Some(&to), &mut plan, &mut on).map_err(told)?;
        pass(&findings, None).map_err(|error| error.to_string())
    }
}

fn refused_with(two: &Two, why: &str) {
    let said = two.judged().expect_err(why);
    assert!(said.contains(why), "{said}");
}

#[test]
fn damage_to_the_source_does_not_pass() {
    let cut = |size: usize| segment(3, 1000, true)[..size].to_vec();
    let flipped = |place: usize| {
        let mut bytes = segment(3, 1000, true);
        bytes[place] ^= 1;
        bytes
    };
    let garbage = [segment(3, 1000, true), vec![7; 500]].concat();
    let contents = [cut(9), cut(500), cut(0), flipped(3), flipped(9), flipped(600), vec![0; 1067], garbage];
    let elsewhere = [segment(9, 1000, true), segment(4, 1000, true)];
    let said = contents.into_iter().map(|content| (content, "differ from the copy's and are damaged: 3;"));
    for (content, why) in said.chain(elsewhere.map(|content| (content, "put there from elsewhere"))) {
        let two = two();
        two.write("data/0/3", &content);
        if content.len() == segment(3, 1000, true).len() {
            two.touch("data/0/3");
        }
        refused_with(&two, why);
    }
}

#[test]
fn the_last_segment_is_guarded_like_the_others() {
    for content in [segment(5, 1000, false), segment(5, 1000, true)[..1050].to_vec(), vec![0; 20]] {
        let two = two();
        two.write("data/0/5", &content);
        refused_with(&two, "segment 5, in which its last transaction ended, is missing or does not end with a commit");
    }
    let two = two();
    two.remove("data/0/5");
    two.remove("hints.5");
    two.remove("index.5");
    refused_with(&two, "the source is older than the copy: its last transaction is 4, the copy's is 5");
}

#[test]
fn what_borg_never_makes_is_damage() {
    let kinds: [Damage<'_>; 7] = [
        ("data/0/3 in it is a symbolic link", &|two| {
            two.remove("data/0/3");
            std::os::unix::fs::symlink("/etc/passwd", two.source("data/0/3")).unwrap();
        }),
        ("data in it is a symbolic link", &|two| {
            fs::rename(two.source("data"), two.path("elsewhere")).unwrap();
            std::os::unix::fs::symlink(two.path("elsewhere"), two.source("data")).unwrap();
        }),
        ("data/1/3 is no segment", &|two| {
            fs::create_dir(two.source("data/1")).unwrap();
            fs::copy(two.source("data/0/3"), two.source("data/1/3")).unwrap();
        }),
        ("segment 999, in which its last transaction ended, is missing", &|two| {
            fs::rename(two.source("hints.5"), two.source("hints.999")).unwrap();
        }),
        ("the source has no complete transaction", &|two| fs::remove_dir_all(two.source("data/0")).unwrap()),
        ("data/0/3.enc is no segment", &|two| fs::write(two.source("data/0/3.enc"), "x").unwrap()),
        ("is no segment of Borg, and so are 4 more; Borg never makes such files: they were renamed", &|two| {
            for number in 1..=5 {
                fs::rename(two.source(&format!("data/0/{number}")), two.source(&format!("data/0/{number}.enc")))
                    .unwrap();
            }
        }),
    ];
    for (why, damage) in kinds {
        let two = two();
        damage(&two);
        refused_with(&two, why);
    }
}

#[test]
fn a_history_that_went_another_way_is_no_later_one() {
    let two = two();
    for number in 4..=9 {
        two.write(&format!("data/0/{number}"), &segment(number + 100, 2000, true));
    }
    refused_with(&two, "the source and the copy went different ways from segment 4 on (4, 5)");
    let said = two.judged().unwrap_err();
    let plan = said.rsplit(' ').next().unwrap().to_owned();
    assert!(said.contains(&format!("--accept {plan}")) && plan.len() == 8, "{said}");
    two.write("data/0/9", &segment(1, 1, true));
    assert_eq!(said, two.judged().unwrap_err(), "the same difference has the same name");
    two.write("data/0/4", &segment(1, 3, true));
    assert!(!two.judged().unwrap_err().contains(&plan), "another one has another");
}

#[test]
fn lost_segments_need_a_later_transaction() {
    let two = two();
    two.remove("data/0/2");
    refused_with(&two, "segments of the copy are gone from the source without any transaction since: 2;");
    two.write("data/0/6", &segment(6, 1000, true));
    fs::rename(two.source("hints.5"), two.source("hints.6")).unwrap();
    two.judged().unwrap();
    two.remove("hints.6");
    refused_with(&two, "the source has lost both its hints and its index");
    refused_with(&two, "no sound hints or index to tell whether they were compacted: 2;");
}

/// Each cause in its own words: what was overwritten by somebody else is no fork, and a drive that rots is no bad source.
#[test]
fn who_has_changed_the_segments_is_told() {
    let scrambled = |number: u8| {
        let mut bytes = segment(number, 1000, true);
        bytes.iter_mut().skip(20).for_each(|byte| *byte ^= 0x5a);
        bytes
    };
    let two = two();
    for number in 1..=4 {
        two.write(&format!("data/0/{number}"), &scrambled(number));
        two.touch(&format!("data/0/{number}"));
    }
    refused_with(&two, "most segments differ from the copy's and are none of Borg's any more (1, 2, 3, 4)");
    assert!(!two.judged().unwrap_err().contains("--accept"), "what is damaged is not copied, whoever accepts it");

    let two = self::two();
    fs::write(two.path("copy/data/0/2"), scrambled(2)).unwrap();
    refused_with(&two, "segments of the copy are damaged: 2; the source's differ and are sound");
    assert!(two.judged().unwrap_err().contains("--accept"), "the drive may be made whole");

    let two = self::two();
    for number in 1..=6 {
        two.write(&format!("data/0/{number}"), &segment(number + 50, 700, true));
    }
    refused_with(&two, "it is another repository under the same id");
}

#[test]
fn hints_and_index_are_believed_only_when_they_are_whole() {
    for (name, bytes) in [("hints.5", &b""[..]), ("hints.5", &HINTS[..12]), ("hints.5", b"garbage"), ("index.5", b"x")]
    {
        let two = two();
        two.write(name, bytes);
        two.judged().expect("Borg makes them anew");
    }
    let two = two();
    two.write("data/0/8", &segment(8, 1000, true));
    two.remove("hints.5");
    two.write("hints.8", b"\x82\xa7version\x02\xa8segments\x82\x06\x01\x07\x01");
    two.remove("index.5");
    refused_with(&two, "segments that it needs are missing: 6, 7");
    two.write("data/0/6", &segment(6, 1000, false));
    two.write("data/0/7", b"BORG_SEG");
    refused_with(&two, "cut off before the objects that the index finds in them: 7");
    two.write("data/0/7", &segment(7, 1000, false));
    two.judged().unwrap();
}

#[test]
fn honest_changes_pass() {
    let two = two();
    two.judged().unwrap();
    two.touch("data/0/3");
    two.judged().expect("only touched");
    two.write("data/0/6", &segment(6, 5000, false));
    two.judged().expect("a killed Borg's segment");
    two.write("data/0/7", &segment(7, 5000, true));
    two.judged().expect("a later transaction of two segments");
    two.remove("index.5");
    two.judged().expect("Borg makes it anew");
    fs::rename(two.source("hints.5"), two.source("hints.7")).unwrap();
    two.write(
        "config",
        format!("[repository]\nversion = 1\nsegments_per_dir = 1000\nid = {ID}\nappend_only = 1\n").as_bytes(),
    );
    two.judged().expect("borg config");
    fs::create_dir(two.source("lock.exclusive")).unwrap();
    fs::write(two.source("lock.roster"), "{}").unwrap();
    two.judged().expect("a lock");
    // What a killed Borg has left on the drive is no transaction either.
    fs::write(two.path("copy/data/0/6"), segment(8, 100, false)).unwrap();
    two.judged().expect("other leftovers than before");
}

#[test]
fn a_key_is_kept() {
    let key_of = |config: &str| config.split_once("key = ").unwrap().1.split_whitespace().collect::<String>();
    let key = key_of(include_str!("../../../phobos-core/fixtures/borg/1.2.4-repokey/config"));
    let other = key_of(include_str!("../../../phobos-core/fixtures/borg/1.4.5-repokey/config"));
    let config = |key: &str| format!("[repository]\nversion = 1\nsegments_per_dir = 1000\nid = {ID}\nkey = {key}\n");
    let two = two();
    two.write("config", config(&key.replacen("hqlh", "hqlh\n\t", 1)).as_bytes());
    two.copied();
    two.judged().unwrap();
    two.write("config", config("").as_bytes());
    refused_with(&two, "the key is gone from the source's `config`");
    for garbled in [&key[..20], "!!!!", &key.replacen("hq", "iq", 1), &format!("{key}AAAA")] {
        two.write("config", config(garbled).as_bytes());
        refused_with(&two, "the key in the source's `config` is damaged");
    }
    two.write("config", config(&other).as_bytes());
    two.judged().expect("borg key change-passphrase");
}

#[test]
fn much_less_than_the_copy_has_to_be_accepted() {
    let two = two();
    two.write("data/0/1", &segment(1, 2_000_000, true));
    two.copied();
    two.remove("data/0/1");
    two.write("data/0/6", &segment(6, 10, true));
    fs::rename(two.source("hints.5"), two.source("hints.6")).unwrap();
    refused_with(&two, "the repository has 4.30 kB where the copy on the drive has 2.00 MB");
}

/// Borg, asked for its lock, fails over a link that leads nowhere, so names are looked at before.
#[test]
fn the_shape_of_a_repository_is_told_by_names_alone() {
    let two = two();
    let said = || shape(&Dir::open(&two.path("source")).unwrap()).map_err(|error| error.to_string());
    assert_eq!(said(), Ok(10), "all names are counted");
    // As a Borg at work has it.
    two.write("index.tmp", b"");
    fs::create_dir(two.path("source/lock.exclusive")).unwrap();
    std::os::unix::fs::symlink("nowhere", two.path("source/lock.exclusive/host")).unwrap();
    assert_eq!(said(), Ok(12));
    for link in ["x", "data/1", "data/0/6"] {
        std::os::unix::fs::symlink("nowhere", two.path("source").join(link)).unwrap();
        let damaged = format!("the repository is damaged: {link} in it is a symbolic link, which Borg never makes");
        assert_eq!(said(), Err(damaged));
        fs::remove_file(two.path("source").join(link)).unwrap();
    }
    fs::rename(two.path("source/data"), two.path("source/x")).unwrap();
    assert_eq!(said(), Err("the repository is damaged: it has no folder `data`".to_owned()));
    fs::write(two.path("source/data"), "").unwrap();
    assert!(said().unwrap_err().ends_with("data is a regular file, not a folder"));
}

#[test]
fn a_repository_that_has_shrunk_is_one_that_was_large() {
    for (before, now, is_told) in [
        (10, 0, false),
        (1_048_576, 0, false),
        (1_048_577, 524_287, true),
        (1_048_577, 524_288, false),
        (1_048_577, 1_000_000, false),
    ] {
        assert_eq!(has_shrunk(before, now), is_told, "{before} {now}");
    }
}

#[test]
fn what_passes_is_no_part_of_a_repository() {
    let two = two();
    let source = Dir::open(&two.path("source")).unwrap();
    let seen = || look(&source, NAMES, &mut on).unwrap();
    let plain = seen();
    assert!(!plain.has_passing && plain.has_files() && plain.id.as_deref() == Some(ID));
    for name in ["lock.roster", "index.6.tmp", "lock.exclusive.host@1"] {
        two.write(name, b"");
        let look = seen();
        assert!(look.has_passing && look.survey == plain.survey, "{name}");
        fs::remove_file(two.path("source").join(name)).unwrap();
    }
    // Nothing is read through a link.
    fs::rename(two.path("source/config"), two.path("config")).unwrap();
    std::os::unix::fs::symlink("../config", two.path("source/config")).unwrap();
    assert_eq!(seen().id, None);
    let empty = two.path("empty");
    fs::create_dir_all(empty.join("data")).unwrap();
    assert!(!look(&Dir::open(&empty).unwrap(), NAMES, &mut on).unwrap().has_files());
}

#[test]
fn what_no_transaction_has_completed_is_left_out() {
    let two = two();
    let source = Dir::open(&two.path("source")).unwrap();
    two.write("data/0/6", &segment(6, 10, false));
    let side = read(&source).unwrap();
    assert_eq!(side.state.committed, Some(5));
    let all = look(&source, NAMES, &mut on).unwrap().survey;
    let settled = settled(all.clone(), &side.state);
    let gone: Vec<_> = all.items.keys().filter(|path| !settled.items.contains_key(*path)).collect();
    assert_eq!(gone, [Path::new("data/0/6")]);
    assert_eq!(settled.items.len() + 1, all.items.len());
}

#[test]
fn a_segment_is_known_by_its_place_and_a_difference_by_its_hash() {
    assert_eq!(segment_of(Path::new("data/12/12345")), Some((12, 12345)));
    for other in ["data/12/12345/x", "date/12/12345", "data/12", "data/x/1", "data/0/1.tmp", "config"] {
        assert_eq!(segment_of(Path::new(other)), None, "{other}");
    }
    // FNV-1a's own beginning, its halves folded.
    assert_eq!(hash(""), "4fd0bfc1");
    assert_eq!(hash("a"), "296230c0");
}
