//! The settings of the configuration, table by table, as its schema tells of them: it is made of the types that read them.

use anyhow::{Context, Result, ensure};
use phobos_site::config::Config;
use serde_json::{Map, Value};

/// A table of the configuration.
#[derive(Debug)]
pub(crate) struct Table {
    /// Its heading, as `[backup]` or `[[pull]]`.
    pub(crate) heading: String,
    /// What it is for.
    pub(crate) about: String,
    /// What can be set in it.
    pub(crate) settings: Vec<Setting>,
}

/// A setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its name.
    pub(crate) key: String,
    /// What it is for.
    pub(crate) about: String,
    /// Its default, or an example for what has none, as TOML writes it.
    pub(crate) value: String,
    /// Whether that is an example.
    pub(crate) is_example: bool,
}

impl Table {
    /// Whether there may be several of it.
    pub(crate) fn is_of_several(&self) -> bool {
        self.heading.starts_with("[[")
    }
}

impl Setting {
    /// The line that sets it.
    pub(crate) fn line(&self) -> String {
        format!("{} = {}", self.key, self.value)
    }
}

/// All tables, in the order in which they stand in the configuration.
///
/// # Errors
///
/// If a setting has neither a default nor an example, or says nothing of what it is for.
pub(crate) fn tables() -> Result<Vec<Table>> {
    let schema = Config::schema();
    let mut tables = Vec::new();
    for (name, table) in properties(schema.as_value()) {
        add(name, table, &mut tables).with_context(|| format!("[{name}]"))?;
    }
    Ok(tables)
}

/// Adds the table of this name, and those in it.
fn add(name: &str, schema: &Value, tables: &mut Vec<Table>) -> Result<()> {
    let several = schema.get("items");
    let heading = if several.is_some() { format!("[[{name}]]") } else { format!("[{name}]") };
    let mut table = Table { heading, about: about(schema)?, settings: Vec::new() };
    let mut inner = Vec::new();
    for (key, schema) in properties(several.unwrap_or(schema)) {
        if schema.get("items").is_some_and(|items| items.get("properties").is_some()) {
            add(&format!("{name}.{key}"), schema, &mut inner).with_context(|| key.clone())?;
        } else {
            table.settings.push(setting(key, schema).with_context(|| key.clone())?);
        }
    }
    ensure!(!table.settings.is_empty(), "it has no settings");
    tables.push(table);
    tables.append(&mut inner);
    Ok(())
}

fn setting(key: &str, schema: &Value) -> Result<Setting> {
    let example = schema.get("examples").and_then(|examples| examples.get(0));
    let value = example.or_else(|| schema.get("default")).context("it has neither a default nor an example")?;
    let value = toml::Value::try_from(value)?.to_string();
    Ok(Setting { key: key.to_owned(), about: about(schema)?, value, is_example: example.is_some() })
}

/// What it is for.
fn about(schema: &Value) -> Result<String> {
    Ok(schema.get("description").and_then(Value::as_str).context("nobody says what it is for")?.to_owned())
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

#[cfg(test)]
mod tests;
