//! What the configuration may be, for editors and for who writes about it: JSON Schema, made of the types that read it.

use schemars::generate::SchemaSettings;
use schemars::transform::{Transform, transform_subschemas};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use super::Config;
use crate::pull;

impl Config {
    /// The schema of `phobos.toml`; its settings are in the order in which people think of them.
    pub fn schema() -> Schema {
        of::<Self>("phobos.toml", "The configuration of phobos, see phobos.toml(5).")
    }

    /// The schema of the files in `pull.d`.
    pub fn host_schema() -> Schema {
        of::<pull::RawHost>("pull.d/HOST.toml", "A host that phobos-pull pulls, see phobos.toml(5).")
    }
}

fn of<T: JsonSchema>(title: &str, description: &str) -> Schema {
    // Editors know the seventh draft best.
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.with_transform(ForToml).into_generator().into_root_schema_for::<T>();
    schema.insert("title".to_owned(), title.into());
    schema.insert("description".to_owned(), description.into());
    schema
}

/// What TOML and people have otherwise: there is no null, and what may be left out is left out; a paragraph is one line.
#[derive(Debug, Clone)]
struct ForToml;

impl Transform for ForToml {
    fn transform(&mut self, schema: &mut Schema) {
        let is_null =
            |value: &Value| value == "null" || value.is_null() || value.get("type").is_some_and(|kind| kind == "null");
        if let Some(Value::String(words)) = schema.get_mut("description") {
            *words = words.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        if let Some(Value::Array(kinds)) = schema.get_mut("type") {
            kinds.retain(|kind| !is_null(kind));
            if let [kind] = kinds.as_slice() {
                let kind = kind.clone();
                schema.insert("type".to_owned(), kind);
            }
        }
        if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
            choices.retain(|choice| !is_null(choice));
            if let [Value::Object(choice)] = choices.as_slice() {
                let choice = choice.clone();
                schema.remove("anyOf");
                for (key, value) in choice {
                    schema.ensure_object().entry(key).or_insert(value);
                }
            }
        }
        if schema.get("default").is_some_and(Value::is_null) {
            schema.remove("default");
        }
        transform_subschemas(self, schema);
    }
}
