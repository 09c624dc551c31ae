//! What is sound, and what is refused, byte by byte.

use proptest::prelude::*;

use super::*;

/// An entry as Borg writes it.
fn entry(tag: u8, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len()).unwrap() + HEAD;
    let mut rest = size.to_le_bytes().to_vec();
    rest.push(tag);
    rest.extend(body);
    [crc32fast::hash(&rest).to_le_bytes().to_vec(), rest].concat()
}

fn segment(entries: &[Vec<u8>]) -> Vec<u8> {
    [MAGIC.to_vec(), entries.concat()].concat()
}

fn check(bytes: &[u8]) -> Result<Summary, SegmentError> {
    let mut checker = Checker::new();
    checker.feed(bytes)?;
    checker.finish()
}

fn put(data: &[u8]) -> Vec<u8> {
    entry(PUT, &[&[7; 32], data].concat())
}

#[test]
fn a_sound_segment_is_summed_up() {
    let bytes = segment(&[put(b"some data"), entry(DELETE, &[7; 32]), put(b""), entry(COMMIT, b"")]);
    let summary = check(&bytes).unwrap();
    let want = Summary {
        bytes: bytes.len() as u64,
        puts: 2,
        deletes: 1,
        last_put: Some(8 + 50 + 41),
        ending: Ending::Committed,
    };
    assert_eq!(summary, want);
}

#[test]
fn how_a_segment_ends_is_told() {
    let commit = || entry(COMMIT, b"");
    let cases = [
        (vec![], Ending::Open),
        (vec![put(b"x")], Ending::Open),
        (vec![commit()], Ending::Committed),
        (vec![put(b"x"), commit(), put(b"y")], Ending::CommitInside),
        (vec![commit(), commit()], Ending::CommitInside),
    ];
    for (entries, want) in cases {
        assert_eq!(check(&segment(&entries)).unwrap().ending, want, "{entries:?}");
    }
}

#[test]
fn what_is_wrong_is_named_with_its_place() {
    let after = |entry: Vec<u8>| segment(&[put(b"first"), entry]);
    let head = |size: u32, tag: u8| [&[0; 4][..], &size.to_le_bytes(), &[tag]].concat();
    let cases = [
        (b"".to_vec(), "the file ends inside the entry at byte 0"),
        (b"BORG".to_vec(), "the file ends inside the entry at byte 0"),
        (b"BORG_IDX".to_vec(), "no magic of Borg at byte 0"),
        (b"ATTICSEG".to_vec(), "the magic of Attic, Borg's ancestor, which needs `borg upgrade`, at byte 0"),
        (after(entry(3, &[0; 60])), "an entry of Borg 2 (PUT2), which is not supported, at byte 54"),
        (after(entry(4, b"")), "an entry of unknown kind 4 at byte 54"),
        (after(head(0, 0)), "an entry with the impossible size 0 at byte 54"),
        (after(head(40, PUT)), "an entry with the impossible size 40 at byte 54"),
        (after(head(MAX_ENTRY + 1, PUT)), "an entry with the impossible size 20971521 at byte 54"),
        (after(head(u32::MAX, 255)), "an entry with the impossible size 4294967295 at byte 54"),
        (after(head(42, DELETE)), "an entry with the impossible size 42 at byte 54"),
        (after(head(10, COMMIT)), "an entry with the impossible size 10 at byte 54"),
        (after(head(9, COMMIT)), "a wrong checksum of the entry at byte 54"),
        (after(vec![0; 4096]), "an entry with the impossible size 0 at byte 54"),
        (after(put(b"cut off")[..47].to_vec()), "the file ends inside the entry at byte 54"),
    ];
    for (bytes, want) in cases {
        assert_eq!(check(&bytes).unwrap_err().to_string(), want);
    }
}

#[test]
fn every_bit_and_every_length_counts() {
    let bytes = segment(&[put(b"some data"), entry(DELETE, &[7; 32]), entry(COMMIT, b"")]);
    for bit in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(check(&bytes).is_err(), "bit {bit}");
    }
    let whole = check(&bytes).unwrap();
    for length in 0..bytes.len() {
        assert_ne!(check(&bytes[..length]), Ok(whole), "{length} bytes");
    }
}

#[test]
fn an_error_stays() {
    let mut checker = Checker::new();
    let error = checker.feed(b"garbage!").unwrap_err();
    assert_eq!(checker.feed(b"BORG_SEG"), Err(error));
    assert_eq!(checker.finish(), Err(error));
}

proptest! {
    #[test]
    fn chunks_make_no_difference(
        entries in prop::collection::vec((0..3_u8, prop::collection::vec(any::<u8>(), 0..200)), 0..8),
        garbage in prop::collection::vec(any::<u8>(), 0..30),
        chunk in 1..64_usize,
    ) {
        let entries: Vec<_> = entries
            .iter()
            .map(|(tag, data)| match *tag {
                PUT => put(data),
                DELETE => entry(DELETE, &[9; 32]),
                _ => entry(COMMIT, b""),
            })
            .chain([garbage])
            .collect();
        let bytes = segment(&entries);
        let mut checker = Checker::new();
        let fed = bytes.chunks(chunk).try_for_each(|chunk| checker.feed(chunk));
        prop_assert_eq!(fed.and_then(|()| checker.finish()), check(&bytes));
    }

    #[test]
    fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(check(&bytes).is_err());
    }
}

#[test]
fn fuzz_segment() {
    phobos_fuzz::target(
        "segment",
        &[
            include_bytes!("../../../fixtures/borg/1.2.4-repokey/data/0/10"),
            include_bytes!("../../../fixtures/borg/1.2.4-repokey/data/0/21"),
        ],
        |input| {
            let mut whole = Checker::new();
            let whole = whole.feed(input).and_then(|()| whole.finish());
            // How it is cut into chunks changes nothing.
            let mut parts = Checker::new();
            let parts = input.chunks(7).try_for_each(|part| parts.feed(part)).and_then(|()| parts.finish());
            assert_eq!(whole, parts);
        },
    );
}
