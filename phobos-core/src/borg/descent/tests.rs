//! Descent, on made-up states.

use std::collections::BTreeMap;
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::borg::RepositoryId;
use crate::borg::config::Config;
use crate::borg::hints::Hints;
use crate::borg::index::{Index, Named};
use crate::borg::state::Segment;

/// A repository with these segments of data, each followed by the commit of its transaction.
fn state(data: &[u32]) -> State {
    let config = Config {
        id: RepositoryId::parse(&"0".repeat(64)).unwrap(),
        segments_per_dir: 1000,
        key: Key::Present("key".to_owned()),
    };
    let segment = |number: u32, size| (number, Segment { size, mtime: (i64::from(number), 0) });
    let segments: BTreeMap<_, _> = data
        .iter()
        .flat_map(|number| [segment(*number, 1000 + u64::from(*number)), segment(number + 1, EMPTY_SEGMENT)])
        .collect();
    let last = segments.keys().last().copied();
    let named = Named { objects: 3, highest: 800 };
    let index = Index { objects: 0, segments: data.iter().map(|number| (*number, named)).collect() };
    let hints =
        Hints { segments: segments.keys().map(|number| (*number, u64::from(data.contains(number)) * 3)).collect() };
    State { config, segments, noted: last, committed: last, hints: Some(hints), index: Some(index) }
}

/// What is in the segments: whether those that were touched are the same, and whose are sound.
struct Made {
    same: bool,
    sound: &'static [Whose],
    asked: Vec<u32>,
}

impl Contents for Made {
    type Error = Infallible;

    fn is_same(&mut self, segment: u32) -> Result<bool, Infallible> {
        self.asked.push(segment);
        Ok(self.same)
    }

    fn prove(&mut self, whose: Whose, _: u32) -> Result<Option<Summary>, Infallible> {
        let all = Summary { bytes: 1000, puts: 9, deletes: 0, last_put: Some(900), ending: Ending::Committed };
        Ok(self.sound.contains(&whose).then_some(all))
    }
}

const BOTH: &[Whose] = &[Whose::Source, Whose::Copy];

fn judged(source: &State, copy: &State) -> Vec<Finding> {
    judged_with(source, copy, BOTH)
}

fn judged_with(source: &State, copy: &State, sound: &'static [Whose]) -> Vec<Finding> {
    judge(source, Some(copy), &mut Made { same: false, sound, asked: Vec::new() }).unwrap()
}

fn some(numbers: &[u32]) -> Segments {
    Segments(numbers.to_vec())
}

#[test]
fn what_goes_on_descends() {
    let copy = state(&[0, 2, 4]);
    assert_eq!(judged(&copy, &copy), []);
    assert_eq!(judged(&state(&[0, 2, 4, 6]), &copy), []);
    // Compacted: 2 is gone, what lived in it is in 6.
    let mut compacted = state(&[0, 4, 6]);
    assert_eq!(judged(&compacted, &copy), []);
    compacted.index = None;
    assert_eq!(judged(&compacted, &copy), []);
    assert_eq!(judge(&copy, None, &mut Made { same: false, sound: BOTH, asked: Vec::new() }).unwrap(), []);
}

#[test]
fn a_segment_that_was_only_touched_is_the_same() {
    let (copy, mut source) = (state(&[0, 2]), state(&[0, 2]));
    source.segments.get_mut(&0).unwrap().mtime = (99, 9);
    let mut contents = Made { same: true, sound: BOTH, asked: Vec::new() };
    assert_eq!(judge(&source, Some(&copy), &mut contents).unwrap(), []);
    assert_eq!(contents.asked, [0]);
    // A file system that keeps whole seconds only has not touched it.
    source.segments.get_mut(&0).unwrap().mtime = (0, 99);
    assert_eq!(judged(&source, &copy), []);
    source.segments.get_mut(&0).unwrap().mtime = (99, 9);
    assert_eq!(judged(&source, &copy), [Finding::Changed { segments: some(&[0]) }]);
}

#[test]
fn each_kind_of_difference_is_called_by_its_name() {
    let copy = state(&[0, 2, 4, 6]);
    let resized = |numbers: &[u32], data: &[u32]| {
        let mut source = state(data);
        for number in numbers {
            source.segments.get_mut(number).unwrap().size += 7;
        }
        source
    };
    let cases: [(&'static [Whose], State, Vec<Finding>); 9] = [
        (BOTH, resized(&[2], &[0, 2, 4, 6]), vec![Finding::Changed { segments: some(&[2]) }]),
        (&[Whose::Copy], resized(&[2], &[0, 2, 4, 6]), vec![Finding::Damaged { segments: some(&[2]) }]),
        (&[Whose::Source], resized(&[2], &[0, 2, 4, 6]), vec![Finding::CopyDamaged { segments: some(&[2]) }]),
        (BOTH, resized(&[4, 6], &[0, 2, 4, 6, 8]), vec![Finding::Fork { from: 4, segments: some(&[4, 6]) }]),
        (BOTH, resized(&[6], &[0, 2, 4, 6, 8]), vec![Finding::Fork { from: 6, segments: some(&[6]) }]),
        (BOTH, resized(&[0, 2, 4], &[0, 2, 4, 6]), vec![Finding::Stranger { segments: some(&[0, 2, 4]) }]),
        (&[Whose::Copy], resized(&[0, 2, 4], &[0, 2, 4, 6]), vec![Finding::Overwritten { segments: some(&[0, 2, 4]) }]),
        (&[], resized(&[2, 4, 6], &[0, 2, 4, 6, 8]), vec![Finding::Overwritten { segments: some(&[2, 4, 6]) }]),
        (
            BOTH,
            state(&[0, 2, 4]),
            vec![Finding::Older { source_last: 5, copy_last: 7 }, Finding::Lost { segments: some(&[6, 7]) }],
        ),
    ];
    for (sound, source, want) in cases {
        assert_eq!(judged_with(&source, &copy, sound), want);
    }
    let mut source = state(&[0, 2, 4, 6]);
    source.segments.remove(&2);
    assert_eq!(
        judged(&source, &copy),
        [Finding::Missing { segments: some(&[2]) }, Finding::Lost { segments: some(&[2]) },]
    );
    let mut source = state(&[0, 4, 6, 8]);
    (source.hints, source.index) = (None, None);
    assert_eq!(
        judged(&source, &copy),
        [Finding::Untold { segments: some(&[8]) }, Finding::Unproven { segments: some(&[2, 3]) }]
    );
    let mut source = state(&[0, 2, 4, 6, 8]);
    source.segments.get_mut(&8).unwrap().size = 500;
    assert_eq!(judged(&source, &copy), [Finding::CutOff { segments: some(&[8]) }]);
    let mut source = state(&[0, 2, 4, 6, 8]);
    source.committed = Some(7);
    assert_eq!(judged(&source, &copy), [Finding::LostTransaction { transaction: 9 }]);
    let mut source = state(&[0, 2, 4, 6, 8]);
    source.noted = Some(7);
    source.segments.remove(&2);
    assert!(judged(&source, &copy).contains(&Finding::Unfinished { segments: some(&[2]) }));
    let mut source = state(&[]);
    source.committed = None;
    assert_eq!(judged(&source, &copy), [Finding::NoTransaction]);
}

/// Checksums prove what is in a segment, not that it went on, nor that there was another one.
#[test]
fn new_segments_need_hints_or_an_index() {
    let copy = state(&[0, 2, 4]);
    let mut source = state(&[0, 2, 4, 6, 8]);
    (source.hints, source.index) = (None, None);
    assert_eq!(judged(&source, &copy), [Finding::Untold { segments: some(&[6, 8]) }]);
    source.segments.remove(&6);
    assert_eq!(judged(&source, &copy), [Finding::Untold { segments: some(&[6, 8]) }]);
    source.segments.remove(&8);
    assert_eq!(judged(&source, &copy), [Finding::Untold { segments: some(&[6, 8]) }]);
    // The copy has all of it: there is nothing new to be proved.
    let mut same = copy.clone();
    (same.hints, same.index) = (None, None);
    assert_eq!(judged(&same, &copy), []);
    let first = judge(&same, None, &mut Made { same: false, sound: BOTH, asked: Vec::new() }).unwrap();
    assert_eq!(first, [Finding::Untold { segments: some(&[0, 2, 4]) }]);

    // Borg was killed behind its commit: its notes are older, and no number may be missing since.
    let mut source = state(&[0, 2, 4, 6, 8]);
    source.noted = Some(5);
    (source.hints, source.index) = (copy.hints.clone(), copy.index.clone());
    assert_eq!(judged(&source, &copy), []);
    source.segments.remove(&6);
    assert_eq!(judged(&source, &copy), [Finding::Unfinished { segments: some(&[6]) }]);

    let source = state(&[0, 2, 4, 6]);
    let proved = |puts| Summary { bytes: 1000, puts, deletes: 0, last_put: Some(900), ending: Ending::Open };
    for (without_hints, without_index) in [(false, false), (true, false), (false, true)] {
        let mut source = source.clone();
        source.hints = source.hints.filter(|_| !without_hints);
        source.index = source.index.filter(|_| !without_index);
        assert_eq!(judge_segment(&source, 6, &proved(3)), None);
        assert_eq!(judge_segment(&source, 6, &proved(2)), Some(Finding::Misplaced { segment: 6 }));
    }
}

#[test]
fn id_and_key_are_compared() {
    let copy = state(&[0, 2]);
    let mut source = copy.clone();
    source.config.key = Key::Present("another passphrase".to_owned());
    assert_eq!(judged(&source, &copy), []);
    source.config.key = Key::Absent;
    assert_eq!(judged(&source, &copy), [Finding::KeyLost]);
    source.config.key = Key::Malformed;
    assert_eq!(judged(&source, &copy), [Finding::KeyDamaged]);
    source.config.id = RepositoryId::parse(&"1".repeat(64)).unwrap();
    assert!(matches!(judged(&source, &copy)[..], [Finding::AnotherRepository { .. }]));
}

#[test]
fn what_was_never_committed_may_change() {
    let mut copy = state(&[0, 2]);
    copy.segments.insert(4, Segment { size: 999, mtime: (0, 0) });
    assert_eq!(judged(&state(&[0, 2]), &copy), []);
    assert_eq!(judged(&state(&[0, 2, 4]), &copy), []);
    // Borg was killed behind its commit, before it had noted it: these do not change any more.
    copy.segments.insert(5, Segment { size: EMPTY_SEGMENT, mtime: (5, 0) });
    copy.committed = Some(5);
    assert_eq!(judged(&state(&[0, 2, 4]), &copy), [Finding::Fork { from: 4, segments: some(&[4]) }]);
}

#[test]
fn numbers_are_counted_not_listed() {
    assert_eq!(some(&[1, 2, 3, 4, 5, 6, 7]).to_string(), "1, 2, 3, 4, 5 and 2 more");
    assert_eq!(some(&[1]).to_string(), "1");
}

/// One thing that can happen to a repository.
#[derive(Debug, Clone)]
enum Step {
    Create,
    Compact(usize),
}

proptest! {
    /// Whatever Borg does, each later state descends from each earlier one, and none the other way.
    #[test]
    fn every_honest_history_descends(steps in prop::collection::vec(
        prop_oneof![Just(Step::Create), (0..9_usize).prop_map(Step::Compact)], 1..20,
    )) {
        let mut data = vec![0];
        let mut states = vec![state(&data)];
        for step in steps {
            if let Step::Compact(which) = step {
                data.remove(which % data.len());
            }
            let last = states.last().and_then(State::last).unwrap();
            data.push(last + 1);
            states.push(state(&data));
        }
        for (later, source) in states.iter().enumerate() {
            for (earlier, copy) in states.iter().enumerate() {
                prop_assert_eq!(judged(source, copy).is_empty(), earlier <= later, "{} {}", earlier, later);
            }
        }
    }
}
