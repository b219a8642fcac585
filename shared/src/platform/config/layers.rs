//! Layers of settings. Each setting carries its source, so that error messages can name it.

use std::collections::BTreeMap;

use config::{Config, ConfigError, Value, ValueKind};

use super::report::{Fault, Source};
use super::{DATABASE_URL, FILE_VARIABLE, PREFIX, Settings};

/// Settings by their full names, each with its source.
#[derive(Clone, Default)]
pub(super) struct Layer(pub(super) BTreeMap<String, (Value, Source)>);

impl Layer {
    pub(super) fn of(source: impl config::Source, from: &Source) -> Result<Self, Fault> {
        let values = source.collect().map_err(|error| {
            // The text between the first and last line quotes the file, which may contain a secret.
            let text = error.to_string();
            let mut lines = text.lines().filter(|line| !line.is_empty());
            let (first, last) = (lines.next().unwrap_or_default(), lines.next_back().unwrap_or_default());
            Fault::general(format!("the settings in {from} cannot be read: {first}: {last}"))
        })?;
        let mut layer = Self::default();
        for (name, value) in values {
            layer.flatten(name, value, from);
        }
        Ok(layer)
    }

    fn flatten(&mut self, name: String, value: Value, from: &Source) {
        match value.kind {
            ValueKind::Table(table) => {
                for (key, value) in table {
                    self.flatten(format!("{name}.{key}"), value, from);
                }
            }
            _ => {
                self.0.insert(name, (value, from.clone()));
            }
        }
    }

    /// The settings that variables set. Those whose files cannot be read are faults.
    pub(super) fn of_environment(
        environment: &BTreeMap<String, String>,
        built_in: &Self,
        faults: &mut Vec<Fault>,
    ) -> Self {
        let mut layer = Self::default();
        // Prefixed variables come last and so win over DATABASE_URL.
        let common = [DATABASE_URL, "DATABASE_URL_FILE"].into_iter().filter_map(|name| environment.get_key_value(name));
        let ours = environment.iter().filter(|(name, _)| name.starts_with(PREFIX) && *name != FILE_VARIABLE);
        for (variable, text) in common.filter(|(_, text)| !text.is_empty()).chain(ours) {
            let named = variable.strip_suffix("_FILE").unwrap_or(variable);
            let key = match named {
                DATABASE_URL => "database.url".to_owned(),
                _ => named.trim_start_matches(PREFIX).to_ascii_lowercase().replace("__", "."),
            };
            let (text, from) = if named == variable {
                (text.clone(), Source::Variable(variable.clone()))
            } else {
                match std::fs::read_to_string(text) {
                    Ok(secret) => {
                        let (variable, path) = (variable.clone(), text.clone());
                        (secret.trim().to_owned(), Source::SecretFile { variable, path })
                    }
                    Err(error) => {
                        let what = format!("the file {text} that {variable} names cannot be read: {error}");
                        faults.push(Fault { name: Some(key), message: what });
                        continue;
                    }
                }
            };
            let value = match built_in.0.get(&key).map(|(value, _)| &value.kind) {
                Some(ValueKind::Array(_)) => {
                    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
                    Value::from(words.map(Value::from).collect::<Vec<_>>())
                }
                _ => Value::from(text),
            };
            layer.0.insert(key, (value, from));
        }
        layer
    }

    /// Puts another layer over this one, which contains every known setting.
    pub(super) fn put_over(&mut self, layer: Self, faults: &mut Vec<Fault>) {
        for (name, setting) in layer.0 {
            match self.0.get_mut(&name) {
                Some(present) => *present = setting,
                None => {
                    faults.push(Fault { message: format!("unknown setting {name} in {}", setting.1), name: Some(name) })
                }
            }
        }
    }

    /// Reads all settings. One that has the wrong type is a fault and gets its built-in value, so that
    /// the others are checked as well.
    pub(super) fn read(&self, built_in: &Self, faults: &mut Vec<Fault>) -> Option<Settings> {
        let mut layer = self.clone();
        let mut settings = loop {
            let (name, what) = match layer.deserialize() {
                Ok(settings) => break settings,
                Err(error) => named(error),
            };
            // The error names an element of a list by its index: strip it.
            let name = name.split_once('[').map_or(name.as_str(), |(list, _)| list);
            faults.push(self.fault(name, &what));
            match (built_in.0.get(name), layer.0.get(name)) {
                (Some(value), Some((_, from))) if *from != Source::BuiltIn => {
                    layer.0.insert(name.to_owned(), value.clone());
                }
                _ => return None,
            }
        };
        settings.public_url_is_set = self.0.get("public_url").is_some_and(|(_, from)| *from != Source::BuiltIn);
        settings.public_url.truncate(settings.public_url.trim_end_matches('/').len());
        Some(settings)
    }

    /// A fault of a setting, with the setting's source.
    pub(super) fn fault(&self, name: &str, what: &str) -> Fault {
        let Some((_, from)) = self.0.get(name) else { return Fault::general(what.to_owned()) };
        let message = format!("the setting {name} from {from} is wrong: {what}");
        Fault { name: Some(name.to_owned()), message }
    }

    fn deserialize(&self) -> Result<Settings, ConfigError> {
        let mut config = Config::builder();
        for (name, (value, _)) in &self.0 {
            config = config.set_override(name, value.clone())?;
        }
        config.build()?.try_deserialize()
    }
}

/// The setting that an error is about, and what is wrong with it.
fn named(error: ConfigError) -> (String, String) {
    match error {
        ConfigError::Type { unexpected, expected, key, .. } => {
            (key.unwrap_or_default(), format!("it must be {expected}, not {unexpected}"))
        }
        ConfigError::At { error, key, .. } => (key.unwrap_or_default(), error.to_string()),
        error => (String::new(), error.to_string()),
    }
}
