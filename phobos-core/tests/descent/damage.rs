//! What can happen to a source: each kind is refused, by name, or harmless because Borg rebuilds it.

#![expect(clippy::semicolon_if_nothing_returned, reason = "a table of short closures")]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use phobos_core::exec::Invocation;

use crate::place::{Place, edit, file, refusals, run, state};

/// Changes a segment's content.
type Change = fn(&mut Vec<u8>);
/// Does something to a source.
type Happening = fn(&Scene);
/// Makes another text of a config's.
type Rewrite = fn(&str) -> String;

/// A source in which something is about to happen.
struct Scene {
    source: PathBuf,
    /// A segment with objects that the copy has too.
    old: u32,
    /// Another one.
    other: u32,
    /// A segment with objects that only the source has.
    new: u32,
    /// The one in which the last transaction ended.
    last: u32,
    /// Older states, and another repository.
    older: PathBuf,
    fork: PathBuf,
    stranger: PathBuf,
}

/// What happens to one segment's content.
const CONTENT: &[(&str, Change)] = &[
    ("cut to half", |bytes| bytes.truncate(bytes.len() / 2)),
    ("cut by a byte", |bytes| bytes.truncate(bytes.len() - 1)),
    ("cut by a thousand bytes", |bytes| bytes.truncate(bytes.len() - 1000)),
    ("cut to its magic", |bytes| bytes.truncate(8)),
    ("cut to nine bytes", |bytes| bytes.truncate(9)),
    ("emptied", Vec::clear),
    ("zeroed", |bytes| bytes.fill(0)),
    ("zeros in the middle", |bytes| fill(bytes, 2, 500)),
    ("zeros at its end", |bytes| {
        let from = bytes.len() - 4096;
        bytes[from..].fill(0);
    }),
    ("zeros at its beginning", |bytes| bytes[..4096].fill(0)),
    ("a bit of the magic", |bytes| bytes[3] ^= 1),
    ("the magic of Attic", |bytes| bytes[..8].copy_from_slice(b"ATTICSEG")),
    ("a bit of a CRC", |bytes| bytes[8] ^= 4),
    ("a bit of a size", |bytes| bytes[12] ^= 4),
    ("a high bit of a size", |bytes| bytes[15] ^= 0x80),
    ("another kind of entry", |bytes| bytes[16] = 1),
    ("an entry of Borg 2", |bytes| bytes[16] = 3),
    ("an unknown kind of entry", |bytes| bytes[16] = 9),
    ("a bit of a key", |bytes| bytes[20] ^= 1),
    ("a bit of data", |bytes| fill(bytes, 3, 1)),
    ("the last bit", |bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    }),
    ("a byte more", |bytes| bytes.push(0)),
    ("garbage behind it", |bytes| bytes.extend(noise(1000))),
    ("zeros behind it", |bytes| bytes.extend([0; 4096])),
    ("noise of the same size", |bytes| *bytes = noise(bytes.len())),
    ("twice the same", |bytes| bytes.extend(bytes.clone())),
    ("a byte lost", |bytes| {
        bytes.remove(100);
    }),
    ("a byte twice", |bytes| bytes.insert(100, bytes[100])),
];

/// What else happens, and what the refusal has to say; nothing where Borg rebuilds what is damaged.
const OTHERS: &[(&str, &str, Happening)] = &[
    ("an old segment deleted", "missing", |s| fs::remove_file(file(&s.source, s.old)).unwrap()),
    ("a new segment deleted", "missing", |s| fs::remove_file(file(&s.source, s.new)).unwrap()),
    ("an old segment as a link", "symbolic link", |s| link(&s.source, s.old)),
    ("a new segment as a link", "symbolic link", |s| link(&s.source, s.new)),
    ("an old segment as another's hard link", "differ", |s| hard_link(s, s.old)),
    ("a new segment as another's hard link", "damaged", |s| hard_link(s, s.new)),
    ("a segment as a folder", "a folder", |s| {
        fs::remove_file(file(&s.source, s.old)).unwrap();
        fs::create_dir(file(&s.source, s.old)).unwrap();
    }),
    ("a segment as a FIFO", "FIFO", |s| {
        fs::remove_file(file(&s.source, s.new)).unwrap();
        run(&Invocation::new("mkfifo").arg(file(&s.source, s.new)));
    }),
    ("old segments swapped", "differ", |s| swap(s, s.old, s.other)),
    ("an old and a new segment swapped", "differ", |s| swap(s, s.old, s.new)),
    ("a segment sparse", "differ", |s| {
        let size = fs::metadata(file(&s.source, s.old)).unwrap().len();
        fs::File::create(file(&s.source, s.old)).unwrap().set_len(size).unwrap();
    }),
    ("a segment cut, its time kept", "differ", |s| {
        let time = fs::metadata(file(&s.source, s.old)).unwrap().modified().unwrap();
        edit(&file(&s.source, s.old), |bytes| bytes.truncate(bytes.len() / 2));
        date(&file(&s.source, s.old), time);
    }),
    ("a segment changed, with an old date", "differ", |s| {
        edit(&file(&s.source, s.old), |bytes| bytes[50] ^= 1);
        date(&file(&s.source, s.old), SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    }),
    ("a segment in the wrong folder", "missing", |s| {
        fs::create_dir(s.source.join("data/1")).unwrap();
        fs::rename(file(&s.source, s.old), s.source.join(format!("data/1/{}", s.old))).unwrap();
    }),
    ("a segment renamed", "missing", |s| {
        fs::rename(file(&s.source, s.old), s.source.join(format!("data/0/{}.locked", s.old))).unwrap();
    }),
    ("a segment with a zero in front", "missing", |s| {
        fs::rename(file(&s.source, s.old), s.source.join(format!("data/0/0{}", s.old))).unwrap();
    }),
    ("all segments cut in half", "differ", |s| each(s, |path| edit(path, |bytes| bytes.truncate(bytes.len() / 2)))),
    ("all segments encrypted", "overwritten or encrypted", |s| {
        each(s, |path| edit(path, |bytes| *bytes = noise(bytes.len())))
    }),
    ("all segments encrypted and renamed", "no complete transaction", |s| {
        each(s, |path| fs::rename(path, path.with_extension("enc")).unwrap());
    }),
    ("all segments emptied", "no complete transaction", |s| each(s, |path| drop(fs::File::create(path).unwrap()))),
    ("all segments zeroed", "no complete transaction", |s| each(s, |path| edit(path, |bytes| bytes.fill(0)))),
    ("all segments replaced by their magic", "no complete transaction", |s| {
        each(s, |path| fs::write(path, "BORG_SEG").unwrap())
    }),
    ("every second segment lost", "missing", |s| {
        let files: Vec<_> = state(&s.source).segments.into_keys().collect();
        files.iter().step_by(2).for_each(|segment| fs::remove_file(file(&s.source, *segment)).unwrap());
    }),
    ("the folder of segments lost", "no complete transaction", |s| {
        fs::remove_dir_all(s.source.join("data/0")).unwrap()
    }),
    ("data lost", "data", |s| fs::remove_dir_all(s.source.join("data")).unwrap()),
    ("data emptied", "no complete transaction", |s| {
        fs::remove_dir_all(s.source.join("data")).unwrap();
        fs::create_dir(s.source.join("data")).unwrap();
    }),
    ("data as a link", "data is a symbolic link", |s| elsewhere(&s.source.join("data"))),
    ("the folder of segments as a link", "data/0 is a symbolic link", |s| elsewhere(&s.source.join("data/0"))),
    ("data as a file", "data", |s| {
        fs::remove_dir_all(s.source.join("data")).unwrap();
        fs::write(s.source.join("data"), "").unwrap();
    }),
    ("the last commit lost", "its last transaction ended", |s| fs::remove_file(file(&s.source, s.last)).unwrap()),
    ("the last commit cut", "its last transaction ended", |s| {
        edit(&file(&s.source, s.last), |bytes| bytes.truncate(9))
    }),
    ("a bit of the last commit", "its last transaction ended", |s| {
        edit(&file(&s.source, s.last), |bytes| bytes[10] ^= 1)
    }),
    ("the magic of the last commit", "no magic of Borg", |s| edit(&file(&s.source, s.last), |bytes| bytes[0] ^= 1)),
    ("hints of a later transaction", "its last transaction ended", |s| note(s, "hints", s.last, s.last + 7)),
    ("an index of a later transaction", "its last transaction ended", |s| note(s, "index", s.last, s.last + 7)),
    ("hints of a transaction that cannot be", "its last transaction ended", |s| note(s, "hints", s.last, u32::MAX)),
    ("a new segment cut between entries", "cut off before the objects", |s| cut_between(&file(&s.source, s.new))),
    ("a new segment cut between entries, the hints lost", "cut off before the objects", |s| {
        fs::remove_file(s.source.join(format!("hints.{}", s.last))).unwrap();
        cut_between(&file(&s.source, s.new));
    }),
    ("a new segment cut between entries, the index lost", "does not hold what", |s| {
        fs::remove_file(s.source.join(format!("index.{}", s.last))).unwrap();
        cut_between(&file(&s.source, s.new));
    }),
    ("a new segment lost, the index too", "missing", |s| {
        fs::remove_file(s.source.join(format!("index.{}", s.last))).unwrap();
        fs::remove_file(file(&s.source, s.new)).unwrap();
    }),
    ("hints and index lost, and a new segment", "lost both its hints and its index", |s| {
        notes(s, |path| fs::remove_file(path).unwrap());
        fs::remove_file(file(&s.source, s.new)).unwrap();
    }),
    ("hints and index lost, and a new segment cut between entries", "lost both its hints and its index", |s| {
        notes(s, |path| fs::remove_file(path).unwrap());
        cut_between(&file(&s.source, s.new));
    }),
    ("hints and index damaged, and a new segment cut between entries", "lost both its hints and its index", |s| {
        notes(s, |path| edit(path, |bytes| fill(bytes, 2, 40)));
        cut_between(&file(&s.source, s.new));
    }),
    ("most segments encrypted, the last transaction not", "overwritten or encrypted", |s| {
        let last = s.last;
        each(s, |path| {
            if *path != file(&s.source, last) {
                edit(path, |bytes| *bytes = noise(bytes.len()));
            }
        });
    }),
    ("most segments encrypted but for their beginnings", "overwritten or encrypted", |s| {
        let last = s.last;
        each(s, |path| {
            if *path != file(&s.source, last) {
                edit(path, |bytes| bytes.iter_mut().skip(64).for_each(|byte| *byte ^= 0x55));
            }
        });
    }),
    ("hints and index lost, and a segment", "no sound hints or index", |s| {
        notes(s, |path| fs::remove_file(path).unwrap());
        fs::remove_file(file(&s.source, s.old)).unwrap();
    }),
    ("hints and index damaged, and a segment lost", "no sound hints or index", |s| {
        notes(s, |path| edit(path, |bytes| fill(bytes, 2, 40)));
        fs::remove_file(file(&s.source, s.old)).unwrap();
    }),
    ("the config lost", "no file `config`", |s| fs::remove_file(s.source.join("config")).unwrap()),
    ("the config emptied", "not that of a repository", |s| fs::write(s.source.join("config"), "").unwrap()),
    ("the config zeroed", "cannot be understood", |s| edit(&s.source.join("config"), |bytes| bytes.fill(0))),
    ("the config overwritten", "no text", |s| fs::write(s.source.join("config"), [0xff; 300]).unwrap()),
    ("the config as a link", "symbolic link", |s| elsewhere(&s.source.join("config"))),
    ("a giant config", "more than", |s| fs::File::create(s.source.join("config")).unwrap().set_len(1 << 40).unwrap()),
    ("another id", "another repository", |s| config(s, &|text| text.replace("\nid = ", "\nid = ff"), true)),
    ("half an id", "no id", |s| config(s, &|text| text.replace("\nid = ", "\nid = ff"), false)),
    ("no version", "not that of a repository", |s| config(s, &|text| text.replace("version = 1", ""), false)),
    ("Borg 2", "Borg 2", |s| config(s, &|text| text.replace("version = 1", "version = 2"), false)),
    ("no segments in a folder", "segments_per_dir", |s| config(s, &|text| text.replace("= 1000", "= 0"), false)),
    ("other folders for segments", "no complete transaction", |s| {
        config(s, &|text| text.replace("= 1000", "= 3"), false)
    }),
    ("a byte order mark", "cannot be understood", |s| config(s, &|text| format!("\u{feff}{text}"), false)),
    ("another repository", "another repository", |s| replace(s, &s.stranger)),
    ("another repository under the same id", "another repository under the same id", |s| {
        let config = fs::read(s.source.join("config")).unwrap();
        replace(s, &s.stranger);
        fs::write(s.source.join("config"), config).unwrap();
    }),
    ("an older state", "older", |s| replace(s, &s.older)),
    ("an older state, used on", "went different ways", |s| replace(s, &s.fork)),
    ("older segments among newer ones", "missing", |s| {
        fs::remove_dir_all(s.source.join("data")).unwrap();
        run(&Invocation::new("cp").arg("-a").arg(s.older.join("data")).arg(s.source.join("data")));
    }),
    // What Borg rebuilds, drops or does not look at.
    ("the hints lost", "", |s| fs::remove_file(s.source.join(format!("hints.{}", s.last))).unwrap()),
    ("the index lost", "", |s| fs::remove_file(s.source.join(format!("index.{}", s.last))).unwrap()),
    ("the integrity file lost", "", |s| fs::remove_file(s.source.join(format!("integrity.{}", s.last))).unwrap()),
    ("the integrity file damaged", "", |s| fs::write(s.source.join(format!("integrity.{}", s.last)), "x").unwrap()),
    ("hints damaged", "", |s| edit(&s.source.join(format!("hints.{}", s.last)), |bytes| fill(bytes, 2, 9))),
    ("hints emptied", "", |s| fs::write(s.source.join(format!("hints.{}", s.last)), "").unwrap()),
    ("an index damaged", "", |s| edit(&s.source.join(format!("index.{}", s.last)), |bytes| fill(bytes, 2, 9))),
    ("an index cut", "", |s| edit(&s.source.join(format!("index.{}", s.last)), |bytes| bytes.truncate(999))),
    ("an index with a forged header", "", |s| {
        edit(&s.source.join(format!("index.{}", s.last)), |bytes| bytes[12..16].fill(0x7f))
    }),
    ("an index zeroed", "", |s| edit(&s.source.join(format!("index.{}", s.last)), |bytes| bytes.fill(0))),
    ("garbage behind the last commit", "", |s| fs::write(file(&s.source, s.last + 1), noise(5000)).unwrap()),
    ("half-written notes", "", |s| fs::write(s.source.join("index.99.tmp"), noise(500)).unwrap()),
    ("a segment touched", "", |s| date(&file(&s.source, s.old), SystemTime::now())),
];

/// What happens to the key of a repository that keeps it.
const KEYS: &[(&str, &str, Rewrite)] = &[
    ("the key lost", "the key is gone", |text| text[..text.find("key = ").unwrap()].to_owned()),
    ("the key emptied", "the key is gone", |text| format!("{}key =\n", &text[..text.find("key = ").unwrap()])),
    ("the key cut", "is damaged", |text| text[..text.len() - 100].to_owned()),
    ("the key garbled", "is damaged", |text| text.replacen("hqlh", "####", 1)),
    ("another thing as the key", "is damaged", |text| {
        format!("{}key = aGVsbG8=\n", &text[..text.find("key = ").unwrap()])
    }),
    ("the key reversed", "is damaged", |text| {
        let (before, key) = text.split_at(text.find("key = ").unwrap() + 6);
        format!("{before}{}\n", key.split_whitespace().flat_map(|line| line.chars().rev()).collect::<String>())
    }),
];

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ length as u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// Inverts `count` bytes at the `part`th part of a file.
fn fill(bytes: &mut [u8], part: usize, count: usize) {
    let from = bytes.len() / part;
    bytes.iter_mut().skip(from).take(count).for_each(|byte| *byte = !*byte);
}

fn date(path: &Path, time: SystemTime) {
    fs::File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
}

fn link(source: &Path, segment: u32) {
    let path = file(source, segment);
    elsewhere(&path);
}

/// Moves something away and leaves a link in its place.
fn elsewhere(path: &Path) {
    let target = path.with_extension("elsewhere");
    fs::rename(path, &target).unwrap();
    symlink(target, path).unwrap();
}

fn hard_link(scene: &Scene, segment: u32) {
    fs::remove_file(file(&scene.source, segment)).unwrap();
    fs::hard_link(file(&scene.source, scene.other), file(&scene.source, segment)).unwrap();
}

fn swap(scene: &Scene, one: u32, other: u32) {
    let [one, other, between] = [file(&scene.source, one), file(&scene.source, other), scene.source.join("between")];
    for (from, to) in [(&one, &between), (&other, &one), (&between, &other)] {
        fs::rename(from, to).unwrap();
    }
}

fn each(scene: &Scene, change: impl Fn(&Path)) {
    state(&scene.source).segments.keys().for_each(|segment| change(&file(&scene.source, *segment)));
}

/// Cuts a segment behind its first entry: all that is left in it is sound.
fn cut_between(path: &Path) {
    edit(path, |bytes| {
        let size = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
        assert!(8 + size < bytes.len(), "it has one entry alone");
        bytes.truncate(8 + size);
    });
}

fn note(scene: &Scene, kind: &str, from: u32, to: u32) {
    let name = |number: u32| scene.source.join(format!("{kind}.{number}"));
    fs::rename(name(from), name(to)).unwrap();
}

fn notes(scene: &Scene, change: impl Fn(&Path)) {
    for kind in ["hints", "index"] {
        change(&scene.source.join(format!("{kind}.{}", scene.last)));
    }
}

/// Rewrites the config; where the id grew by two digits, two others go.
fn config(scene: &Scene, change: &dyn Fn(&str) -> String, cut_id: bool) {
    let path = scene.source.join("config");
    let text = change(&fs::read_to_string(&path).unwrap());
    let shorter =
        |line: &str| if cut_id && line.starts_with("id = ") { line[..69].to_owned() } else { line.to_owned() };
    let lines: Vec<_> = text.lines().map(shorter).collect();
    fs::write(&path, lines.join("\n") + "\n").unwrap();
}

fn replace(scene: &Scene, by: &Path) {
    fs::remove_dir_all(&scene.source).unwrap();
    run(&Invocation::new("cp").arg("-a").arg(by).arg(&scene.source));
}

/// Tries all kinds of damage on a repository of one kind.
fn try_all(encryption: &'static str) {
    let place = Place::new(encryption);
    for number in 1..=4 {
        place.create("source", &format!("a{number}"), 20_000);
    }
    place.copy("source", "older");
    place.create("source", "a5", 30_000);
    place.create("source", "a6", 30_000);
    place.copy("source", "copy");
    place.create("source", "a7", 40_000);
    place.borg("delete source::a5");
    place.borg("compact --threshold 10 source");
    place.create("source", "a8", 50_000);
    place.copy("older", "fork");
    // As on a machine that has never seen the newer state: Borg would refuse.
    place.sh("rm -rf home");
    for number in 0..4 {
        place.create("fork", &format!("f{number}"), 25_000);
    }
    place.borg("init --encryption=ENCRYPTION stranger");
    for number in 0..7 {
        place.create("stranger", &format!("s{number}"), 21_000);
    }
    let (source, copy) = (place.path("source"), place.path("copy"));
    assert_eq!(refusals(&source, &copy), Vec::<String>::new());

    let [now, before] = [&source, &copy].map(|path| state(path));
    let large = |segment: &u32| now.segments[segment].size > 15_000;
    let live: Vec<u32> = now.index.as_ref().unwrap().segments.keys().copied().filter(large).collect();
    let (old, new): (Vec<u32>, Vec<u32>) = live.iter().partition(|segment| before.segments.contains_key(segment));
    let scene = |source: PathBuf| Scene {
        source,
        old: old[1],
        other: old[2],
        new: *new.first().unwrap(),
        last: now.last().unwrap(),
        older: place.path("older"),
        fork: place.path("fork"),
        stranger: place.path("stranger"),
    };
    let mut wrong = Vec::new();
    let mut judged = 0;
    let mut attempt = |name: &str, want: &str, happen: &dyn Fn(&Scene)| {
        place.copy("source", "damaged");
        let scene = scene(place.path("damaged"));
        happen(&scene);
        let found = refusals(&scene.source, &copy);
        let good = if want.is_empty() { found.is_empty() } else { found.iter().any(|reason| reason.contains(want)) };
        if !good {
            wrong.push(format!("{name}: wanted {want:?}, found {found:?}"));
        }
        judged += 1;
        run(&Invocation::new("rm").args(["-rf", "--"]).arg(&scene.source));
    };
    for (name, change) in CONTENT {
        attempt(&format!("old segment: {name}"), "differ", &|scene| edit(&file(&scene.source, scene.old), change));
        attempt(&format!("new segment: {name}"), "segment", &|scene| edit(&file(&scene.source, scene.new), change));
    }
    for (name, want, happen) in OTHERS {
        attempt(name, want, happen);
    }
    if encryption != "none" {
        for (name, want, change) in KEYS {
            attempt(name, want, &|scene| config(scene, &|text| change(text), false));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(judged >= 80, "{judged}");
    assert_eq!(refusals(&source, &copy), Vec::<String>::new(), "the source itself was left alone");
}

#[test]
fn no_damage_to_a_plain_repository_passes() {
    try_all("none");
}

#[test]
fn no_damage_to_an_encrypted_repository_passes() {
    try_all("repokey");
}

#[test]
fn no_damage_to_an_authenticated_repository_passes() {
    try_all("authenticated");
}
