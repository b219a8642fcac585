//! Layers of settings. Each setting carries its source, so that error messages can name it.

use std::collections::BTreeMap;

use config::{Config, ConfigError, Source, Value, ValueKind};

use super::{DATABASE_URL, FILE_VARIABLE, PREFIX, Settings, SettingsError};

/// The source of settings that were not set.
pub(super) const BUILT_IN: &str = "the built-in settings";

/// Settings by their full names, each with its source.
#[derive(Clone)]
pub(super) struct Layer(BTreeMap<String, (Value, String)>);

impl Layer {
    pub(super) fn of(source: impl Source, from: &str) -> Result<Self, SettingsError> {
        let values = source.collect().map_err(|error| {
            // The text between the first and last line quotes the file, which may contain a secret.
            let text = error.to_string();
            let mut lines = text.lines().filter(|line| !line.is_empty());
            let (first, last) = (lines.next().unwrap_or_default(), lines.next_back().unwrap_or_default());
            SettingsError(format!("the settings in {from} cannot be read: {first}: {last}"))
        })?;
        let mut layer = Self(BTreeMap::new());
        for (name, value) in values {
            layer.flatten(name, value, from);
        }
        Ok(layer)
    }

    fn flatten(&mut self, name: String, value: Value, from: &str) {
        match value.kind {
            ValueKind::Table(table) => {
                for (key, value) in table {
                    self.flatten(format!("{name}.{key}"), value, from);
                }
            }
            _ => {
                self.0.insert(name, (value, from.to_owned()));
            }
        }
    }

    pub(super) fn of_environment(
        environment: &BTreeMap<String, String>,
        built_in: &Self,
    ) -> Result<Self, SettingsError> {
        let mut layer = Self(BTreeMap::new());
        // Prefixed variables come last and so win over DATABASE_URL.
        let common = [DATABASE_URL, "DATABASE_URL_FILE"].into_iter().filter_map(|name| environment.get_key_value(name));
        let ours = environment.iter().filter(|(name, _)| name.starts_with(PREFIX) && *name != FILE_VARIABLE);
        for (variable, text) in common.filter(|(_, text)| !text.is_empty()).chain(ours) {
            let named = variable.strip_suffix("_FILE").unwrap_or(variable);
            let key = match named {
                DATABASE_URL => "database.url".to_owned(),
                _ => named.trim_start_matches(PREFIX).to_ascii_lowercase().replace("__", "."),
            };
            let text = if named == variable { text.clone() } else { read_secret(variable, text)? };
            let value = match built_in.0.get(&key).map(|(value, _)| &value.kind) {
                Some(ValueKind::Array(_)) => {
                    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
                    Value::from(words.map(Value::from).collect::<Vec<_>>())
                }
                _ => Value::from(text),
            };
            layer.0.insert(key, (value, format!("the environment variable {variable}")));
        }
        Ok(layer)
    }

    /// Puts another layer over this one, which contains every known setting.
    pub(super) fn put_over(&mut self, layer: Self) -> Result<(), SettingsError> {
        for (name, setting) in layer.0 {
            let Some(present) = self.0.get_mut(&name) else {
                return Err(SettingsError(format!("unknown setting {name} in {}", setting.1)));
            };
            *present = setting;
        }
        Ok(())
    }

    pub(super) fn read(self) -> Result<Settings, SettingsError> {
        let wrong = |name: &str, what: &str| {
            // The error names an element of a list by its index: strip it.
            let name = name.split_once('[').map_or(name, |(list, _)| list);
            let from = self.0.get(name).map_or(BUILT_IN, |(_, from)| from);
            SettingsError(format!("the setting {name} from {from} is wrong: {what}"))
        };
        let mut settings = self.deserialize().map_err(|error| match error {
            ConfigError::Type { unexpected, expected, key, .. } => {
                wrong(&key.unwrap_or_default(), &format!("it must be {expected}, not {unexpected}"))
            }
            ConfigError::At { error, key, .. } => wrong(&key.unwrap_or_default(), &error.to_string()),
            error => SettingsError(error.to_string()),
        })?;
        settings.check().map_err(|(name, what)| wrong(name, &what))?;
        settings.public_url_is_set = self.0.get("public_url").is_some_and(|(_, from)| from != BUILT_IN);
        settings.public_url.truncate(settings.public_url.trim_end_matches('/').len());
        Ok(settings)
    }

    fn deserialize(&self) -> Result<Settings, ConfigError> {
        let mut config = Config::builder();
        for (name, (value, _)) in &self.0 {
            config = config.set_override(name, value.clone())?;
        }
        config.build()?.try_deserialize()
    }
}

fn read_secret(variable: &str, path: &str) -> Result<String, SettingsError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) => Err(SettingsError(format!("the file {path} that {variable} names cannot be read: {error}"))),
    }
}
