//! What a drive was told to write since the record began, and what a power cut leaves of it.

use std::io;

use crate::image::{Image, pieces};

/// The drive as it was, and what has come since.
#[derive(Debug)]
pub(crate) struct Record {
    began: Image,
    events: Vec<Event>,
}

/// What a drive is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// To write this.
    Write(u64, Vec<u8>),
    /// That all that was written before has to stay.
    Flush,
}

/// Numbers by lot, from a seed (splitmix64).
#[derive(Debug)]
struct Lot(u64);

impl Record {
    /// A record that begins with the drive as it is now.
    pub(crate) fn new(began: Image) -> Self {
        Self { began, events: Vec::new() }
    }

    /// Adds what came.
    pub(crate) fn add(&mut self, event: Event) {
        self.events.push(event);
    }

    /// The drive behind the `flush`th flush, with some of what was written until the next one if there is a `seed`; `None` if
    /// there were not so many.
    pub(crate) fn cut(&self, flush: usize, seed: Option<u64>) -> io::Result<Option<Image>> {
        let (mut image, mut left) = (self.began.clone(), flush);
        let mut events = self.events.iter();
        while left > 0 {
            match events.next() {
                None => return Ok(None),
                Some(Event::Flush) => left -= 1,
                Some(Event::Write(offset, bytes)) => image.write(*offset, bytes)?,
            }
        }
        let Some(seed) = seed else { return Ok(Some(image)) };
        let mut numbers = Lot(seed);
        // Few are lost, or many, or most.
        let lost = [10, 50, 90].into_iter().nth(numbers.below(3)).unwrap_or(50);
        for event in events {
            let Event::Write(offset, bytes) = event else { break };
            for (at, piece) in pieces(*offset, bytes) {
                if numbers.below(100) >= lost {
                    image.write(at, piece)?;
                }
            }
        }
        Ok(Some(image))
    }
}

impl Lot {
    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut number = self.0;
        number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((number ^ (number >> 31)) % end.max(1) as u64).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::BLOCK;

    #[test]
    fn a_cut_has_what_was_flushed_and_some_of_what_came_after() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, vec![0; 100 * BLOCK]).unwrap();
        let mut record = Record::new(Image::open(&path).unwrap());
        record.add(Event::Write(0, vec![1; 10]));
        record.add(Event::Flush);
        record.add(Event::Write(0, vec![2; 100 * BLOCK]));
        record.add(Event::Flush);
        record.add(Event::Write(0, vec![3; BLOCK]));
        let firsts = |flush, seed| -> Option<Vec<u8>> {
            let image = record.cut(flush, seed).unwrap()?;
            Some((0..100).map(|block| image.read(block * BLOCK as u64, 1).unwrap()[0]).collect())
        };
        assert_eq!(firsts(0, None).unwrap()[..2], [0, 0]);
        assert_eq!(firsts(1, None).unwrap()[..2], [1, 0]);
        assert_eq!(firsts(2, None).unwrap(), vec![2; 100]);
        assert_eq!(firsts(3, None), None);
        let mut kinds = std::collections::BTreeSet::new();
        for seed in 0..20 {
            let some = firsts(1, Some(seed)).unwrap();
            assert_eq!(firsts(1, Some(seed)).unwrap(), some, "a seed says all");
            let written: usize = some.iter().map(|byte| usize::from(*byte == 2)).sum();
            assert!((1..100).contains(&written) && some.iter().all(|byte| *byte < 3), "{some:?}");
            kinds.insert(written / 34);
        }
        assert_eq!(kinds.len(), 3, "few are lost, many, most");
    }
}
