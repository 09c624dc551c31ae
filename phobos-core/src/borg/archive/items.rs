//! Borg's listing of an archive.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use super::{Entry, time};

/// What is asked of each item, every value ended by a NUL, which no name has in it.
pub(super) const FORMAT: &str = "{type}{NUL}{size}{NUL}{isomtime}{NUL}{source}{NUL}{bpath}{NUL}";

/// How many values that are.
const VALUES: usize = 5;

/// How long one value may be, in bytes: a path.
const LONGEST: usize = 64 * 1024;

/// Borg's listing, cut into items.
#[derive(Debug, Default)]
pub(super) struct Items {
    rest: Vec<u8>,
    values: Vec<Vec<u8>>,
    is_broken: bool,
}

impl Items {
    pub(super) fn feed(&mut self, bytes: &[u8], see: &mut dyn FnMut(Entry)) {
        for byte in bytes {
            if *byte != 0 {
                if self.rest.len() < LONGEST {
                    self.rest.push(*byte);
                } else {
                    self.is_broken = true;
                }
                continue;
            }
            self.values.push(std::mem::take(&mut self.rest));
            if self.values.len() == VALUES {
                match self.entry() {
                    Some(entry) => see(entry),
                    None => self.is_broken = true,
                }
                self.values.clear();
            }
        }
    }

    fn entry(&mut self) -> Option<Entry> {
        let [kind, size, mtime, source, path] = self.values.as_mut_slice() else { return None };
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_owned);
        let [kind] = kind.as_slice() else { return None };
        // Some versions of Borg say `h` of another name of a file, and some what it is a name of.
        let kind = if *kind == b'-' && !source.is_empty() { 'h' } else { char::from(*kind) };
        Some(Entry {
            kind,
            size: text(size)?.parse().ok()?,
            mtime: text(mtime).and_then(|text| time(&text)),
            leads_to: (!source.is_empty()).then(|| PathBuf::from(OsString::from_vec(std::mem::take(source)))),
            path: PathBuf::from(OsString::from_vec(std::mem::take(path))),
        })
    }

    /// Whether all of it was understood, and nothing is left that is no whole item.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_broken && self.rest.is_empty() && self.values.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;

    fn items(pieces: &[&[u8]]) -> (Vec<Entry>, bool) {
        let (mut items, mut seen) = (Items::default(), Vec::new());
        for piece in pieces {
            items.feed(piece, &mut |item| seen.push(item));
        }
        (seen, items.is_whole())
    }

    #[test]
    fn a_listing_is_cut_wherever_its_pieces_end_and_names_may_have_anything_in_them() {
        let all = b"-\x0012\x002026-11-27T15:04:05.123456\0\0backup/a\nb\xff\0d\x000\x002026-11-27T15:04:05\0\0backup\0-\x000\0x\0a\0b\0";
        for cut in 0..all.len() {
            let (seen, is_whole) = items(&[&all[..cut], &all[cut..]]);
            assert!(is_whole && seen.len() == 3, "{cut}");
            assert_eq!((seen[0].path.as_os_str().as_bytes(), seen[0].size), (&b"backup/a\nb\xff"[..], 12));
            assert_eq!(seen.iter().map(|entry| entry.kind).collect::<String>(), "-dh");
            assert_eq!([&seen[0], &seen[2]].map(|entry| entry.leads_to.clone()), [None, Some("a".into())]);
            assert_eq!(seen[0].mtime.map(|time| time.timestamp_subsec_micros()), Some(123_456));
        }
        assert!(!items(&[b"-\x0012\0"]).1 && !items(&[b"-\0x\0t\0\0p\0"]).1);
    }
}
