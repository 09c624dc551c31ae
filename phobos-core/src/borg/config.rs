//! `config`: which repository it is, how its segments are laid out, and the key where the repository keeps it.
//!
//! Read as Python's configparser reads it, and as strictly: what Borg would refuse is refused here.

#![cfg_attr(
    not(test),
    deny(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::string_slice, clippy::as_conversions)
)]

use std::collections::HashMap;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rmpv::Value;

use super::RepositoryId;

/// The largest `config` that is read, in bytes; a real one has less than one thousand.
pub const MAX_CONFIG: u64 = 64 * 1024;

/// How many segments a folder may be said to hold.
const SEGMENTS_PER_DIR: std::ops::RangeInclusive<u64> = 1..=0xffff_ffff;

/// How deep a key may be nested; Borg's is a map of texts and numbers.
const MAX_DEPTH: usize = 16;

/// What a key in `config` is made of, as Borg 1.x writes it.
const KEY_PARTS: [&str; 6] = ["version", "salt", "iterations", "algorithm", "hash", "data"];

/// What a repository says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Which repository it is.
    pub id: RepositoryId,
    /// How many segments share a folder below `data`.
    pub segments_per_dir: u64,
    /// The key, where the repository keeps it.
    pub key: Key,
}

/// The key of a repository, as far as `config` has it. It is encrypted with the passphrase.
#[derive(Clone, PartialEq, Eq)]
pub enum Key {
    /// None: the repository is not encrypted, or its key is kept elsewhere.
    Absent,
    /// One of Borg's form.
    Present(String),
    /// Something that Borg cannot take for a key: all archives would be unreadable.
    Malformed,
}

/// A key outside its repository, as `borg key export` writes it without `--paper`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportedKey {
    /// Whose key it is.
    pub id: RepositoryId,
    /// The key itself.
    pub key: Key,
}

/// Why a `config` is not that of a repository that can be mirrored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// It is no text in UTF-8.
    #[error("its `config` is no text")]
    Text,
    /// A line is not of the form that Borg reads.
    #[error("its `config` cannot be understood: line {line}")]
    Line {
        /// Which one, counted from 1.
        line: usize,
    },
    /// The repository is one of Borg 2 or later.
    #[error("it is a repository of Borg 2 (version {version}), which is not supported; Borg 1.x is")]
    Borg2 {
        /// The version that it says it has.
        version: u64,
    },
    /// It says no version, or none that is known.
    #[error("its `config` is not that of a repository of Borg 1.x")]
    Version,
    /// Its id is missing or none.
    #[error("its `config` has no id")]
    Id,
    /// Its number of segments in a folder is missing or impossible.
    #[error("its `config` has no usable segments_per_dir")]
    SegmentsPerDir,
}

impl Config {
    /// Reads the content of a `config`.
    ///
    /// # Errors
    ///
    /// When Borg 1.x would not take it for a repository's.
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        let text = std::str::from_utf8(bytes).map_err(|_| ConfigError::Text)?;
        let values = section(text, "repository")?;
        let value = |name: &str| values.get(name).map(|value| value.trim());
        match value("version").map(str::parse) {
            Some(Ok(1_u64)) => {}
            Some(Ok(version @ 2..)) => return Err(ConfigError::Borg2 { version }),
            _ => return Err(ConfigError::Version),
        }
        let id = value("id").and_then(RepositoryId::parse).ok_or(ConfigError::Id)?;
        let segments_per_dir = value("segments_per_dir").and_then(|number| number.parse().ok());
        let segments_per_dir = segments_per_dir.filter(|number| SEGMENTS_PER_DIR.contains(number));
        let segments_per_dir = segments_per_dir.ok_or(ConfigError::SegmentsPerDir)?;
        let key = match value("key").unwrap_or_default() {
            "" => Key::Absent,
            text if is_key(text) => Key::Present(text.to_owned()),
            _ => Key::Malformed,
        };
        Ok(Self { id, segments_per_dir, key })
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::Present(_) => "Present(..)",
            Self::Malformed => "Malformed",
        })
    }
}

impl ExportedKey {
    /// Reads what was exported; `None` for anything else.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let (first, rest) = text.split_once('\n')?;
        let id = RepositoryId::parse(first.strip_prefix("BORG_KEY ")?.trim())?;
        is_key(rest).then(|| Self { id, key: Key::Present(rest.to_owned()) })
    }
}

impl Key {
    /// Whether both are the same key, however their lines are broken.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present(one), Self::Present(other)) => {
                one.split_whitespace().flat_map(str::bytes).eq(other.split_whitespace().flat_map(str::bytes))
            }
            _ => false,
        }
    }
}

/// Whether `text` is base64 of the map that Borg keeps an encrypted key in.
fn is_key(text: &str) -> bool {
    let text: String = text.split_whitespace().collect();
    let Ok(bytes) = BASE64_STANDARD.decode(text) else { return false };
    let mut rest = &bytes[..];
    let Ok(value) = rmpv::decode::read_value_with_max_depth(&mut rest, MAX_DEPTH) else { return false };
    let Some(map) = value.as_map() else { return false };
    let get = |name: &str| map.iter().find(|(key, _)| key.as_str() == Some(name)).map(|(_, value)| value);
    let length = |name: &str| match get(name) {
        Some(Value::String(text)) => text.as_bytes().len(),
        Some(Value::Binary(bytes)) => bytes.len(),
        _ => 0,
    };
    let whole = rest.is_empty() && KEY_PARTS.iter().all(|name| get(name).is_some());
    let numbers = get("version").and_then(Value::as_u64) == Some(1) && get("iterations").is_some_and(Value::is_u64);
    let algorithm = get("algorithm").and_then(Value::as_str) == Some("sha256");
    whole && numbers && algorithm && length("salt") == 32 && length("hash") == 32 && length("data") > 64
}

/// The keys and values of one section, by configparser's rules: names in any case, `=` or `:`, comments on lines of their
/// own, values that go on in lines that are indented further, nothing twice.
fn section(text: &str, name: &str) -> Result<HashMap<String, String>, ConfigError> {
    let mut values: HashMap<String, String> = HashMap::new();
    let (mut seen, mut inside) = (false, false);
    let mut last: Option<(String, usize)> = None;
    for (index, line) in text.lines().enumerate() {
        let wrong = ConfigError::Line { line: index.saturating_add(1) };
        let content = line.trim();
        if content.is_empty() || content.starts_with(['#', ';']) {
            continue;
        }
        let indent = line.len().saturating_sub(line.trim_start().len());
        if let Some((key, _)) = last.as_ref().filter(|(_, before)| indent > *before) {
            if let Some(value) = values.get_mut(key) {
                value.push('\n');
                value.push_str(content);
            }
            continue;
        }
        if let Some(header) = content.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name) {
            inside = header == name;
            if inside && seen {
                return Err(wrong);
            }
            seen |= inside;
            last = None;
            continue;
        }
        let (key, value) = content.split_once(['=', ':']).ok_or_else(|| wrong.clone())?;
        let key = key.trim().to_lowercase();
        if key.is_empty() || (!inside && !seen && last.is_none() && index == 0) {
            return Err(wrong);
        }
        if inside {
            if values.insert(key.clone(), value.trim().to_owned()).is_some() {
                return Err(wrong);
            }
            last = Some((key, indent));
        } else {
            last = Some((String::new(), indent));
        }
    }
    if seen { Ok(values) } else { Err(ConfigError::Version) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: &str = include_str!("../../fixtures/borg/1.2.4-none/config");
    const REPOKEY: &str = include_str!("../../fixtures/borg/1.2.4-repokey/config");
    const REPOKEY_14: &str = include_str!("../../fixtures/borg/1.4.5-repokey/config");

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text.as_bytes())
    }

    #[test]
    fn configs_of_real_borg_are_read() {
        let plain = parse(PLAIN).unwrap();
        assert_eq!((plain.segments_per_dir, &plain.key), (1000, &Key::Absent));
        for text in [REPOKEY, REPOKEY_14] {
            let config = parse(text).unwrap();
            assert!(matches!(&config.key, Key::Present(_)));
            assert!(!format!("{config:?}").contains("hqlhbGd"), "a key is not shown");
            assert_eq!(parse(&text.replace('\n', "\r\n")).unwrap().id, config.id);
        }
    }

    #[test]
    fn the_form_is_configparsers() {
        let id = "0123456789abcdef".repeat(4);
        let cases = [
            (format!("# by hand\n[repository]\nVersion: 1\nID={id}\n segments_per_dir = 7\n"), false),
            (format!("[repository]\nversion = 1\nid = {id}\nsegments_per_dir = 7\n"), true),
            (format!("  [repository]\n  version=1\n\n  id:{id}\n  segments_per_dir : 7 \n[x]\nversion=2\n"), true),
            (format!("\u{feff}[repository]\nversion = 1\nid = {id}\nsegments_per_dir = 7\n"), false),
            (format!("[repository]\nversion = 1\nversion = 1\nid = {id}\nsegments_per_dir = 7\n"), false),
            (format!("[repository]\nversion = 1\nid = {id}\nsegments_per_dir = 0\n"), false),
            (format!("[repository]\nversion = 1\nid = {id}\nsegments_per_dir = -1\n"), false),
            (format!("[repository]\nversion = 1\nid = {id}\nsegments_per_dir = 99999999999999999999\n"), false),
            (format!("[repository]\nversion = 1\nid = {id}\nsegments_per_dir\n"), false),
            (format!("[Repository]\nversion = 1\nid = {id}\nsegments_per_dir = 7\n"), false),
            (String::new(), false),
        ];
        for (text, good) in cases {
            assert_eq!(parse(&text).is_ok(), good, "{text:?}");
        }
    }

    #[test]
    fn borg_2_is_refused_by_name() {
        for version in ["2", "3", "4"] {
            let error = parse(&PLAIN.replace("version = 1", &format!("version = {version}"))).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("it is a repository of Borg 2 (version {version}), which is not supported; Borg 1.x is")
            );
        }
    }

    #[test]
    fn a_damaged_key_is_noticed() {
        let key = |text: &str| parse(text).unwrap().key;
        let begin = REPOKEY.find("key = ").unwrap() + 6;
        assert_eq!(key(&REPOKEY[..begin]), Key::Absent);
        for end in [begin + 1, begin + 8, begin + 76, REPOKEY.trim_end().len() - 8] {
            assert_eq!(key(&REPOKEY[..end]), Key::Malformed, "cut at {end}");
        }
        for (from, to) in [("hqlh", "AAAA"), ("hqlh", "h#lh"), ("bGdvcml0aG2m", "bGdvcml0aG2n")] {
            assert!(REPOKEY.contains(from));
            assert_eq!(key(&REPOKEY.replacen(from, to, 1)), Key::Malformed, "{to}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC*", lines in prop::collection::vec("[ \t]{0,2}[\\[\\]a-z=:;#]{0,12}", 0..12)) {
            drop(parse(&text));
            drop(parse(&format!("[repository]\n{}", lines.join("\n"))));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(Config::parse(&bytes));
        }
    }

    #[test]
    fn fuzz_borg_config() {
        phobos_fuzz::target(
            "borg_config",
            &[
                include_bytes!("../../fixtures/borg/1.2.4-repokey/config"),
                include_bytes!("../../fixtures/borg/1.4.5-none/config"),
            ],
            |input| {
                drop(Config::parse(input));
            },
        );
    }
}
