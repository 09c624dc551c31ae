//! The values of a host's settings: names, users, options, patterns, limits; checked while they are read.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::lock::Word;

/// Up to how many files a holding space is small: then only the loss of all of them is too much.
const SMALL: u64 = 100;

/// What ssh is told by phobos itself, so that nobody can tell it otherwise (in lower case, for comparison).
const OWN_SSH_OPTIONS: [&str; 14] = [
    "batchmode",
    "clearallforwardings",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "forwardagent",
    "globalknownhostsfile",
    "identitiesonly",
    "identityfile",
    "loglevel",
    "permitlocalcommand",
    "stricthostkeychecking",
    "updatehostkeys",
    "userknownhostsfile",
];

/// A host's name: what can be the name of a lock and of a folder, 1 to 64 bytes of `[A-Za-z0-9._-]`, the first a letter
/// or digit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
pub struct HostName(String);

/// The text is no [`HostName`].
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no name for a host: use letters, digits, ., - and _, a letter or digit first")]
pub struct BadHostName(String);

/// A user's name: 1 to 32 bytes of `[A-Za-z0-9._-]`, the first no `-` and no dot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,31}$"))]
pub struct User(pub(super) String);

/// The text is no [`User`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no user's name")]
pub struct BadUser(String);

/// An option of ssh(1) as `Key=Value`, and none that phobos sets itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("pattern" = "^[A-Za-z0-9]+="))]
pub struct SshOption(String);

/// The text is no [`SshOption`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadSshOption {
    /// It has not the form of one.
    #[error("{0:?} is no option of ssh such as ConnectTimeout=5")]
    Form(String),
    /// It leads through another host.
    #[error(
        "{0} would start an ssh without the key and the known hosts of phobos; name the host in between with \
         jump = \"root@gate\""
    )]
    Proxy(String),
    /// phobos sets it.
    #[error("{0} is set by phobos-pull itself and cannot be changed")]
    Own(String),
}

/// A pattern on one line.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(extend("minLength" = 1))]
pub struct Pattern(String);

/// The text is no [`Pattern`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no pattern")]
pub struct BadPattern(String);

/// How much one pull may delete of what a source has in the holding space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxDelete {
    /// Of more than 100 files this share in percent, of fewer any but the last.
    Percent(u8),
    /// So many files, but never the last.
    Files(u64),
}

/// An end of rsync that leaves most files copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "i64", into = "i64")]
#[schemars(extend("enum" = [23, 24]))]
pub enum Tolerated {
    /// Exit code 23: some files could not be copied. Nothing is deleted then.
    Partial,
    /// Exit code 24: some files vanished while they were read.
    Vanished,
}

/// The number is no exit code that can be [`Tolerated`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadTolerated {
    /// It is a success.
    #[error("0 is a success in any case")]
    Zero,
    /// It is a failure.
    #[error("{0} cannot count as a success; only 23 (partial) and 24 (vanished) can")]
    Failure(i64),
}

impl HostName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&HostName> for Word {
    /// A host's name is a word by its own rules.
    fn from(name: &HostName) -> Self {
        Self(name.0.clone())
    }
}

impl TryFrom<String> for HostName {
    type Error = BadHostName;

    fn try_from(text: String) -> Result<Self, BadHostName> {
        if text.parse::<Word>().is_ok() { Ok(Self(text)) } else { Err(BadHostName(text)) }
    }
}

impl std::str::FromStr for HostName {
    type Err = BadHostName;

    fn from_str(text: &str) -> Result<Self, BadHostName> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl MaxDelete {
    /// How many of `files` may be deleted at once.
    pub fn of(self, files: u64) -> u64 {
        let any_but_the_last = files.saturating_sub(1);
        match self {
            Self::Percent(_) if files <= SMALL => any_but_the_last,
            Self::Percent(percent) => {
                let share = u128::from(files).saturating_mul(u128::from(percent)).checked_div(100).unwrap_or_default();
                u64::try_from(share).unwrap_or(u64::MAX).min(any_but_the_last)
            }
            Self::Files(most) => most.min(any_but_the_last),
        }
    }
}

impl Tolerated {
    /// rsync's exit code.
    pub fn code(self) -> i32 {
        match self {
            Self::Partial => 23,
            Self::Vanished => 24,
        }
    }
}

impl User {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for User {
    type Error = BadUser;

    fn try_from(text: String) -> Result<Self, BadUser> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if (1..=32).contains(&text.len()) && !text.starts_with(['-', '.']) && text.chars().all(good) {
            Ok(Self(text))
        } else {
            Err(BadUser(text))
        }
    }
}

impl SshOption {
    /// The option as `Key=Value`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for SshOption {
    type Error = BadSshOption;

    fn try_from(text: String) -> Result<Self, BadSshOption> {
        let key = text.split_once('=').map(|(key, _)| key).filter(|key| {
            !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric()) && !text.contains(char::is_control)
        });
        let Some(key) = key else {
            return Err(BadSshOption::Form(text));
        };
        if ["proxyjump", "proxycommand"].iter().any(|proxy| key.eq_ignore_ascii_case(proxy)) {
            return Err(BadSshOption::Proxy(key.to_owned()));
        }
        if OWN_SSH_OPTIONS.contains(&key.to_ascii_lowercase().as_str()) {
            return Err(BadSshOption::Own(key.to_owned()));
        }
        Ok(Self(text))
    }
}

impl Pattern {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Pattern {
    type Error = BadPattern;

    fn try_from(text: String) -> Result<Self, BadPattern> {
        if text.is_empty() || text.contains(char::is_control) { Err(BadPattern(text)) } else { Ok(Self(text)) }
    }
}

impl From<Tolerated> for i64 {
    fn from(end: Tolerated) -> Self {
        match end {
            Tolerated::Partial => 23,
            Tolerated::Vanished => 24,
        }
    }
}

impl TryFrom<i64> for Tolerated {
    type Error = BadTolerated;

    fn try_from(code: i64) -> Result<Self, BadTolerated> {
        match code {
            23 => Ok(Self::Partial),
            24 => Ok(Self::Vanished),
            0 => Err(BadTolerated::Zero),
            _ => Err(BadTolerated::Failure(code)),
        }
    }
}

impl Serialize for MaxDelete {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Percent(percent) => serializer.serialize_str(&format!("{percent}%")),
            Self::Files(files) => serializer.serialize_u64(*files),
        }
    }
}

impl JsonSchema for MaxDelete {
    fn schema_name() -> Cow<'static, str> {
        "MaxDelete".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": "^[0-9]{1,3}%$" }] })
    }
}

impl<'de> Deserialize<'de> for MaxDelete {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        struct Limit;
        impl Visitor<'_> for Limit {
            type Value = MaxDelete;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of files, or a share such as \"50%\"")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<MaxDelete, E> {
                u64::try_from(number).map(MaxDelete::Files).map_err(|_| E::custom(format!("{number} is below 0")))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<MaxDelete, E> {
                let percent = text.strip_suffix('%').and_then(|digits| digits.parse().ok());
                let percent = percent.filter(|percent| *percent <= 100);
                percent
                    .map(MaxDelete::Percent)
                    .ok_or_else(|| E::custom(format!("{text:?} is no share such as \"50%\"")))
            }
        }
        value.deserialize_any(Limit)
    }
}
