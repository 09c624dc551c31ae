//! Values of several settings, checked while they are read: paths, lengths of time, sizes.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::fmt;
use std::ops::Deref;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The largest share that can be kept back: with more, nothing could be pulled at all.
const MOST_PERCENT: u8 = 90;

/// An absolute path without `..` and `.` parts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "PathBuf")]
#[schemars(extend("pattern" = "^/"))]
pub struct AbsolutePath(PathBuf);

/// A length of time, written as in `12h` or `1h 30m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^(0|( *[0-9]+(\\.[0-9]+)? *[a-zA-Zµ]+ *)+)$"))]
pub struct Span(pub Duration);

/// How much of a file system nothing may take: a share such as `5%`, a size such as `20GiB`, or the smaller: `5% up to 20GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^([0-9]+%( up to [0-9]+([KkMmGgTt]?([Ii]?[Bb])?))?|[0-9]+([KkMmGgTt]?([Ii]?[Bb])?))$"))]
pub struct Reserve {
    percent: u8,
    most: u64,
}

/// A size as rsync takes it: a number of bytes, or one with K, M, G or T, `iB` or `B` behind it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^[0-9]+([KkMmGgTt]?([Ii]?[Bb])?)$"))]
pub struct Size(String);

/// The path is no [`AbsolutePath`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPath {
    /// It is relative.
    #[error("{} is not an absolute path", .0.display())]
    Relative(PathBuf),
    /// It leads upwards.
    #[error("{} must not have .. in it", .0.display())]
    Parent(PathBuf),
}

/// The text is no [`Span`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{text:?} is no length of time such as 12h: {why}")]
pub struct BadSpan {
    text: String,
    why: humantime::DurationError,
}

/// The text is no [`Size`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no size such as 4GiB")]
pub struct BadSize(String);

/// The text is no [`Reserve`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no reserve such as \"5%\", \"20GiB\" or \"5% up to 20GiB\"")]
pub struct BadReserve(String);

impl AbsolutePath {
    /// A path of our own, known to be absolute.
    pub(crate) fn fixed(path: &str) -> Self {
        Self(path.into())
    }

    /// Where it really is, links on the way followed; the same if nothing is there.
    pub(crate) fn real(&self) -> Self {
        std::fs::canonicalize(&self.0).map_or_else(|_| self.clone(), Self)
    }

    /// This path, which is below `from`, below `to` instead.
    pub(crate) fn moved(&self, from: &Self, to: &Self) -> Self {
        self.0.strip_prefix(&from.0).map_or_else(|_| self.clone(), |rest| Self(to.0.join(rest)))
    }
}

impl TryFrom<PathBuf> for AbsolutePath {
    type Error = BadPath;

    fn try_from(path: PathBuf) -> Result<Self, BadPath> {
        if !path.is_absolute() {
            return Err(BadPath::Relative(path));
        }
        if path.components().any(|part| part == Component::ParentDir)
            || path.as_os_str().as_encoded_bytes().contains(&0)
        {
            return Err(BadPath::Parent(path));
        }
        // Joining the parts anew drops `.` and doubled slashes, so that equal paths are equal text.
        Ok(Self(path.components().collect()))
    }
}

impl Deref for AbsolutePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for AbsolutePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl TryFrom<String> for Span {
    type Error = BadSpan;

    fn try_from(text: String) -> Result<Self, BadSpan> {
        match humantime::parse_duration(&text) {
            Ok(duration) => Ok(Self(duration)),
            Err(why) => Err(BadSpan { text, why }),
        }
    }
}

impl fmt::Display for Span {
    /// In the largest unit of which it is a whole number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.as_secs();
        let units = [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];
        let is_whole = |length: u64| secs > 0 && self.0.subsec_nanos() == 0 && secs.checked_rem(length) == Some(0);
        match units.into_iter().find(|(_, length)| is_whole(*length)) {
            Some((unit, length)) => write!(f, "{}{unit}", secs.checked_div(length).unwrap_or_default()),
            None => humantime::format_duration(self.0).fmt(f),
        }
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

impl TryFrom<String> for Size {
    type Error = BadSize;

    fn try_from(text: String) -> Result<Self, BadSize> {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let unit = text.get(digits..).unwrap_or_default().to_ascii_lowercase();
        let known = ["", "b", "k", "kb", "kib", "m", "mb", "mib", "g", "gb", "gib", "t", "tb", "tib"];
        if digits > 0 && known.contains(&unit.as_str()) && text.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) {
            Ok(Self(text))
        } else {
            Err(BadSize(text))
        }
    }
}

impl Size {
    /// A size that is known to be one.
    pub(crate) fn fixed(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The size as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The size in bytes, as rsync reckons it: `K` and `KiB` are 1024 of them, `KB` is 1000 (rsync(1), `--max-size`).
    pub fn bytes(&self) -> u64 {
        let digits = self.0.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = self.0.split_at_checked(digits).unwrap_or_default();
        let unit = unit.to_ascii_lowercase();
        let base: u64 = if unit.len() == 2 { 1000 } else { 1024 };
        let power = ["k", "m", "g", "t"].iter().position(|letter| unit.starts_with(letter));
        let power = power.and_then(|index| u32::try_from(index).ok()).map_or(0, |index| index.saturating_add(1));
        number.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(base.saturating_pow(power))
    }
}

impl Reserve {
    /// What is kept where nothing is configured: a twentieth, but no more than any host can miss.
    pub(crate) const USUAL: Self = Self { percent: 5, most: 20 << 30 };

    /// How much it is of `total`.
    pub fn of(self, total: u64) -> u64 {
        let share = u128::from(total).saturating_mul(u128::from(self.percent)).checked_div(100).unwrap_or_default();
        u64::try_from(share).unwrap_or(u64::MAX).min(self.most)
    }
}

impl From<Reserve> for String {
    fn from(reserve: Reserve) -> Self {
        let units = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10), ("", 0)];
        let whole = |shift: u32| (reserve.most >> shift) << shift == reserve.most;
        let unit = units.into_iter().find(|(_, shift)| whole(*shift));
        let most = unit.map(|(unit, shift)| format!("{}{unit}", reserve.most >> shift)).unwrap_or_default();
        match reserve {
            Reserve { percent: 100, .. } => most,
            Reserve { percent, most: u64::MAX } => format!("{percent}%"),
            Reserve { percent, .. } => format!("{percent}% up to {most}"),
        }
    }
}

impl TryFrom<String> for Reserve {
    type Error = BadReserve;

    fn try_from(text: String) -> Result<Self, BadReserve> {
        let wrong = || BadReserve(text.clone());
        let share = |text: &str| {
            let percent = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
            percent.filter(|percent| *percent <= MOST_PERCENT).ok_or_else(wrong)
        };
        let size = |text: &str| Size::try_from(text.to_owned()).map(|size| size.bytes()).map_err(|_| wrong());
        Ok(match text.split_once(" up to ") {
            Some((percent, most)) => Self { percent: share(percent)?, most: size(most)? },
            None if text.ends_with('%') => Self { percent: share(&text)?, most: u64::MAX },
            None => Self { percent: 100, most: size(&text)? },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_what_rsync_takes_them_for() {
        let bytes = |text: &str| Size::try_from(text.to_owned()).unwrap().bytes();
        let sizes = ["7", "7B", "1K", "1kb", "2KiB", "3m", "4GB", "20GiB", "1T", "99999999999999999999"];
        let expected = [7, 7, 1024, 1000, 2048, 3 << 20, 4_000_000_000, 20 << 30, 1 << 40, u64::MAX];
        assert_eq!(sizes.map(bytes), expected);
    }

    #[test]
    fn a_value_is_written_as_it_is_read() {
        let span = |text: &str| Span::try_from(text.to_owned()).map(String::from).unwrap();
        for text in ["35d", "12h", "10m", "90s", "0s", "1s 500ms", "25h"] {
            assert_eq!(span(text), text);
        }
        assert_eq!((span("1h 30m"), span("48h"), span("2weeks")), ("90m".into(), "2d".into(), "14d".into()));
        for text in ["5%", "0%", "20GiB", "1TiB", "1025", "5% up to 20GiB", "7% up to 1500MiB"] {
            assert_eq!(String::from(Reserve::try_from(text.to_owned()).unwrap()), text);
        }
    }

    #[test]
    fn a_reserve_is_a_share_or_a_size() {
        let of = |text: &str, total| Reserve::try_from(text.to_owned()).map(|reserve| reserve.of(total));
        assert_eq!(of("5%", 1000), Ok(50));
        assert_eq!(of("0%", u64::MAX), Ok(0));
        assert_eq!(of("20GiB", 2_000_000_000_000), Ok(20 << 30));
        assert_eq!(of("1T", 1000), Ok(1000), "no more than there is");
        assert_eq!(Reserve::try_from("5% up to 20GiB".to_owned()), Ok(Reserve::USUAL));
        assert_eq!((Reserve::USUAL.of(1000), Reserve::USUAL.of(u64::MAX)), (50, 20 << 30));
        for wrong in ["", "0", "91%", "-1%", "x%", "5 %", "20 GiB", "lots", "1GiB up to 5%", "5% up to 5%"] {
            assert!(of(wrong, 1000).is_err(), "{wrong}");
        }
    }
}
