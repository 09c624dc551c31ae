//! Reading a drive again: in goes however short, and whatever is damaged.

use super::*;
use crate::checksums::{Draft, Known, LARGE};
use phobos_core::borg::segment::COMMIT_ENTRY;
use phobos_core::copy::{Content, Crc};
use phobos_site::ledger::{Go, Rounds};
use std::fs;
use std::time::Duration;
use tempfile::TempDir;

/// A drive without a repository, but with segments, a generation, and five files of a space.
struct Drive(TempDir);

impl Drive {
    fn new() -> Self {
        let drive = Self(tempfile::tempdir().unwrap());
        for segment in ["borg/data/0/2", "borg/data/0/10", "borg/data/1/11", ".phobos/generation/then/data/0/1"] {
            drive.write(segment, &[b"BORG_SEG".as_slice(), &COMMIT_ENTRY].concat());
        }
        for number in 0..5 {
            drive.write(&format!("holding/luv/{number}"), number.to_string().as_bytes());
        }
        drive.seal(&["0", "1", "2", "3", "4"]);
        DriveRecord::new("ab", "A").write(&drive.root()).unwrap();
        drive
    }

    fn root(&self) -> Dir {
        Dir::open(self.0.path()).unwrap()
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Lists these files of the space with what they have to be, and seals the list.
    fn seal(&self, names: &[&str]) {
        let root = self.root();
        let mut list = Draft::new(&root, List::Spaces).unwrap();
        for name in names {
            list.add(&Path::new("holding/luv").join(name), Checksum::of(name.as_bytes())).unwrap();
        }
        list.close().unwrap().put_in_place(&root).unwrap();
        let mut seal = Seal::default();
        seal.add_as_it_is(&root, &List::Spaces.path(), &mut |_| Ok(())).unwrap();
        seal.write(&root).unwrap();
    }

    /// Reads on from `from`, for so long.
    fn read(&self, from: Option<Position>, time: Option<Duration>) -> Reading {
        let until = time.map(|time| Instant::now() + time);
        Reader { root: &self.root(), inner: Path::new("borg"), until, from, known: &[], state: None }
            .read(&mut |_| Ok(()), &mut Notes::of_the_end(false))
            .unwrap()
    }

    /// What is damaged, but for the repository, which is none.
    fn damaged(&self, from: Option<Position>) -> Vec<String> {
        let damaged = self.read(from, None).damaged;
        damaged.iter().filter(|damaged| damaged.path != Path::new("borg")).map(|found| shown(&found.path)).collect()
    }
}

/// Everything that a position counts, in the order in which it is read.
fn order() -> Vec<Position> {
    let generation = Position::Generation(".phobos/generation/then/data/0/1".to_owned());
    let spaces = (0..5).map(|number| Position::Space(format!("holding/luv/{number}")));
    [2, 10, 11].map(Position::Segment).into_iter().chain([generation]).chain(spaces).collect()
}

#[test]
fn however_short_the_time_is_each_go_reads_on_and_the_last_one_ends() {
    let drive = Drive::new();
    let (mut from, mut seen) = (None, Vec::new());
    loop {
        let reading = drive.read(from.clone(), Some(Duration::ZERO));
        if reading.whole {
            assert_eq!(reading.position, None);
            break;
        }
        let position = reading.position.unwrap();
        seen.push(position.clone());
        from = Some(position);
        assert!(seen.len() < 20, "{seen:?}");
    }
    // The one that reads the last file has come to the end, and says so.
    assert_eq!(seen, order()[..8]);
    assert!(drive.read(None, None).whole);
}

/// A file that is large, between small ones; what was read of it in one go is not read in the next.
#[test]
fn a_large_file_is_read_in_parts_however_short_the_time_is() {
    let drive = Drive::new();
    let size = LARGE + 12_345;
    let content: Vec<u8> = (0..size).map(|at| u8::try_from(at % 251).unwrap()).collect();
    drive.write("holding/luv/2", &content);
    let (sum, crc) = (Checksum::of(&content), Crc::default().and(&content));
    let list = |crc| {
        let root = drive.root();
        let mut list = Draft::new(&root, List::Spaces).unwrap();
        for name in 0..5_usize {
            let small = Known::from(Checksum::of(name.to_string().as_bytes()));
            let known = if name == 2 { Content { sum, crc, size }.into() } else { small };
            list.add(&Path::new("holding/luv").join(name.to_string()), known).unwrap();
        }
        list.close().unwrap().put_in_place(&root).unwrap();
        let mut seal = Seal::default();
        seal.add_as_it_is(&root, &List::Spaces.path(), &mut |_| Ok(())).unwrap();
        seal.write(&root).unwrap();
    };
    list(crc);
    // From right before it to its end, in goes without any time.
    let goes = |from: Position| {
        let (mut from, mut read, mut damaged, mut bytes) = (from, Vec::new(), Vec::new(), 0);
        while from != order()[6] {
            let reading = drive.read(Some(from), Some(Duration::ZERO));
            let found = reading.damaged.into_iter().map(|found| shown(&found.path)).filter(|path| path != "borg");
            damaged.extend(found);
            bytes += reading.bytes;
            from = reading.position.unwrap();
            if let Position::Within(within) = &from {
                read.push((within.read, from.clone()));
            }
        }
        let own = fs::metadata(drive.0.path().join(List::Spaces.path())).unwrap().len();
        (damaged, bytes - own * (u64::try_from(read.len()).unwrap() + 1), read)
    };
    let (damaged, bytes, read) = goes(order().remove(5));
    assert_eq!((damaged.len(), bytes), (0, size), "each byte is read once");
    assert!(read.len() > 10 && read.iter().all(|(at, _)| at % 4096 == 0), "{read:?}");
    assert!(read.windows(2).all(|pair| pair[0].0 < pair[1].0), "{read:?}");
    let (middle, rest) = (read[read.len() / 2].1.clone(), size - read[read.len() / 2].0);
    // With time there is one go for all of it, and for what is left of it.
    for from in [order().remove(5), middle.clone()] {
        let reading = drive.read(Some(from), None);
        assert!(reading.whole && reading.damaged.len() == 1, "{:?}", reading.damaged);
    }
    let found = |from: &Position| {
        let (damaged, bytes, _) = goes(from.clone());
        (damaged == ["holding/luv/2"], bytes)
    };
    for (at, in_rest) in [(0, false), (size - 1, true)] {
        let mut rotten = content.clone();
        rotten[usize::try_from(at).unwrap()] ^= 1;
        drive.write("holding/luv/2", &rotten);
        assert_eq!(found(&order()[5]), (true, size), "the bit of byte {at}");
        assert_eq!(found(&middle), (in_rest, rest), "what was read before it rotted is read again in the next round");
    }
    // Another file by the same name is begun anew; one of another size is not read at all.
    drive.write("holding/luv/2", &content);
    list(Crc::default());
    assert_eq!(found(&middle), (true, size));
    list(crc);
    fs::File::options().write(true).open(drive.0.path().join("holding/luv/2")).unwrap().set_len(1 << 40).unwrap();
    assert_eq!(found(&order()[5]), (true, 0));
}

#[test]
fn what_was_read_until_a_signal_came_counts() {
    let drive = Drive::new();
    let root = drive.root();
    let mut files = 0;
    let mut handler = |event: CopyEvent<'_>| match event {
        CopyEvent::Progress(_) => {
            files += 1;
            if files == 4 { Err(Halt::Signal(15)) } else { Ok(()) }
        }
        _ => Ok(()),
    };
    let reader = Reader { root: &root, inner: Path::new("borg"), until: None, from: None, known: &[], state: None };
    let reading = reader.read(&mut handler, &mut Notes::of_the_end(false)).unwrap();
    // The list is read before.
    assert_eq!((reading.position.as_ref(), reading.halted.as_ref()), (Some(&order()[1]), Some(&Halt::Signal(15))));
    assert!(!reading.whole && matches!(reading.whole_go(), Err(CopyError::Interrupted(15))));
    // One that comes before anything is read leaves the round where it was, and ends none.
    for from in [None, Some(order().remove(3))] {
        let mut at_once = |event: CopyEvent<'_>| match event {
            CopyEvent::Progress(_) => Err(Halt::Signal(15)),
            _ => Ok(()),
        };
        let reader =
            Reader { root: &root, inner: Path::new("borg"), until: None, from: from.clone(), known: &[], state: None };
        let reading = reader.read(&mut at_once, &mut Notes::of_the_end(false)).unwrap();
        assert_eq!((reading.whole, reading.position), (false, from));
    }
}

/// As one that is killed leaves it: what the ledger was told meanwhile is as much as was told at the end, and in no more visits.
#[test]
fn what_is_told_now_and_then_is_the_whole_in_the_end() {
    let drive = Drive::new();
    drive.write("borg/data/0/10", b"BORG_SEG");
    drive.write("holding/luv/1", b"7");
    let (root, told) = (drive.root(), std::cell::RefCell::new(Rounds::default()));
    let positions = std::cell::RefCell::new(Vec::new());
    let write = |go: Go| {
        told.borrow_mut().note(go);
        positions.borrow_mut().extend(told.borrow().position().cloned());
    };
    let mut notes = Notes::begin(true, &write).every(Duration::ZERO);
    let reader = Reader { root: &root, inner: Path::new("borg"), until: None, from: None, known: &[], state: None };
    let reading = reader.read(&mut |_| Ok(()), &mut notes).unwrap();
    assert_eq!(*positions.borrow(), order());
    write(notes.end(&reading));
    let told = told.into_inner();
    let mut at_once = Rounds::default();
    at_once.note(Notes::of_the_end(true).end(&reading));
    let (one, other) = (told.whole.unwrap(), at_once.whole.unwrap());
    assert_eq!((one.bytes, one.visits, told.current), (other.bytes, other.visits, None));
    let damage = |rounds: Option<phobos_site::ledger::Damage>| rounds.map(|damage| (damage.files, damage.unmended));
    assert_eq!(damage(told.damage), damage(at_once.damage));
}

#[test]
fn each_kind_of_file_is_found_damaged_wherever_reading_began() {
    let drive = Drive::new();
    assert_eq!(drive.damaged(None), [""; 0]);
    drive.write("borg/data/0/10", b"BORG_SEG");
    fs::remove_file(drive.0.path().join("borg/data/1/11")).unwrap();
    drive.write(".phobos/generation/then/data/0/1", b"BORG_SEX");
    drive.write("holding/luv/1", b"7");
    fs::remove_file(drive.0.path().join("holding/luv/3")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", drive.0.path().join("holding/luv/3")).unwrap();
    let all = [".phobos/generation/then/data/0/1", "holding/luv/1", "holding/luv/3"];
    // A segment without an entry is as Borg begins one; which have to be there, hints and index say.
    assert_eq!(drive.damaged(None), all);
    assert_eq!(drive.damaged(Some(Position::Segment(11))), all);
    assert_eq!(drive.damaged(Some(order().remove(3))), all[1..]);
    assert_eq!(drive.damaged(Some(Position::Space("holding/luv/2".to_owned()))), all[2..]);
    assert_eq!(drive.damaged(Some(Position::Space("gone since".to_owned()))), all[1..]);
}

#[test]
fn what_the_seal_does_not_vouch_for_accuses_nobody() {
    let drive = Drive::new();
    drive.write("holding/luv/1", b"7");
    let list = drive.0.path().join(List::Spaces.path());
    fs::write(&list, fs::read_to_string(&list).unwrap().replace("luv/0", "luv/9")).unwrap();
    assert_eq!(drive.damaged(None), [".phobos/checksums/spaces"]);
    fs::remove_file(drive.0.path().join(".phobos/seal.json")).unwrap();
    assert_eq!(drive.damaged(None), [""; 0]);
    drive.write(".phobos/seal.json", b"{}");
    assert_eq!(drive.damaged(None), [".phobos/seal.json"]);
}

#[test]
fn many_are_counted_and_few_are_named() {
    let drive = Drive::new();
    let names: Vec<String> = (0..NAMED + 7).map(|number| format!("gone {number}")).collect();
    drive.seal(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let reading = drive.read(Some(order().remove(3)), None);
    // With the repository that is none.
    assert_eq!((reading.damaged.len(), reading.more), (NAMED, 8));
    assert!(!reading.is_sound() && reading.count() == u64::try_from(NAMED + 8).unwrap());
}

/// A copy of a repository that real Borg has made.
fn repository(drive: &Drive) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../phobos-core/fixtures/borg/1.4.5-none");
    fs::remove_dir_all(drive.0.path().join("borg")).unwrap();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(from.join(&folder)).unwrap().map(Result::unwrap) {
            let path = folder.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                folders.push(path);
            } else {
                let name = Path::new("borg").join(path).display().to_string();
                drive.write(&name, &fs::read(entry.path()).unwrap());
            }
        }
    }
}

#[test]
fn a_segment_that_is_damaged_cut_off_or_missing_is_blamed_and_the_repository_is_not() {
    let drive = Drive::new();
    repository(&drive);
    let damaged = || drive.read(None, None).damaged.into_iter().map(|it| (shown(&it.path), it.why)).collect::<Vec<_>>();
    assert_eq!(damaged(), []);
    let mut segments: Vec<u64> = numbers(&drive.root(), Path::new("borg/data/0")).unwrap().into_iter().collect();
    segments.sort_unstable();
    let last = *segments.last().unwrap();
    for segment in segments {
        let inside = format!("borg/data/0/{segment}");
        let path = drive.0.path().join(&inside);
        let sound = fs::read(&path).unwrap();
        for at in (0..sound.len()).step_by(sound.len() / 20 + 1).chain(sound.len().saturating_sub(20)..sound.len()) {
            let mut bytes = sound.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(&path, &bytes).unwrap();
            let found = damaged();
            assert!(found.len() == 1 && found[0].0 == inside, "a bit of byte {at} of {segment}: {found:?}");
        }
        fs::write(&path, b"BORG_SEG").unwrap();
        let found = damaged();
        assert!(found.iter().all(|(path, _)| *path == inside), "{segment} cut off: {found:?}");
        let is_needed = !found.is_empty();
        fs::remove_file(&path).unwrap();
        let found = damaged();
        assert!(found.iter().all(|(path, why)| *path == inside && why == "it is missing"), "{segment} gone: {found:?}");
        assert_eq!(found.is_empty(), !is_needed, "{segment}");
        assert!(is_needed || segment != last);
        fs::write(&path, sound).unwrap();
    }
    assert_eq!(damaged(), []);
}
