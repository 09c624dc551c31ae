//! The version of a format that another program may read: written as a number, and refused where it is another one.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The version `N` of a format; what has none is taken for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchemaVersion<const N: u32>;

impl<const N: u32> Serialize for SchemaVersion<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(N)
    }
}

impl<'de, const N: u32> Deserialize<'de> for SchemaVersion<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            version if version == N => Ok(Self),
            other => Err(D::Error::custom(format!("its schema_version is {other}, and only {N} is known"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Record {
        #[serde(default)]
        schema_version: SchemaVersion<2>,
        name: String,
    }

    #[test]
    fn another_version_is_not_read() {
        let record = Record { schema_version: SchemaVersion, name: "x".to_owned() };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(text, r#"{"schema_version":2,"name":"x"}"#);
        for text in [&text, r#"{"name":"x"}"#] {
            assert_eq!(serde_json::from_str::<Record>(text).unwrap(), record);
        }
        let error = serde_json::from_str::<Record>(r#"{"schema_version":3,"name":"x"}"#).unwrap_err();
        assert!(error.to_string().starts_with("its schema_version is 3, and only 2 is known"), "{error}");
    }
}
