//! All settings with their sources, and all faults at once, for `crm-api config`.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};

use config::{File, FileFormat, Value, ValueKind};
use serde::{Serialize, Serializer};
use serde_json::json;
use url::Url;

use super::layers::Layer;
use super::{BUILT_IN, FILE_VARIABLE, Settings, SettingsError, Warning};

/// The settings that are not shown.
const SECRETS: [&str; 3] = ["mail.password", "telemetry.otlp_headers", "webhooks.encryption_key"];
/// Shown in part.
const DATABASE: &str = "database.url";
/// What is shown instead of a secret.
const MASK: &str = "(secret)";

/// Where a setting has its value from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It was not set.
    BuiltIn,
    /// A file.
    File(String),
    /// A variable of the environment.
    Variable(String),
    /// A file that a variable names.
    SecretFile {
        /// The variable.
        variable: String,
        /// The file.
        path: String,
    },
}

impl Display for Source {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("the built-in settings"),
            Self::File(path) => f.write_str(path),
            Self::Variable(variable) | Self::SecretFile { variable, .. } => {
                write!(f, "the environment variable {variable}")
            }
        }
    }
}

impl Source {
    /// The source in one word or name, as lists show it.
    #[must_use]
    pub fn short(&self) -> String {
        match self {
            Self::BuiltIn => "default".to_owned(),
            Self::File(name) | Self::Variable(name) => name.clone(),
            Self::SecretFile { variable, path } => format!("{variable} ({path})"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let shown = match self {
            Self::BuiltIn => json!({ "kind": "default" }),
            Self::File(path) => json!({ "kind": "file", "path": path }),
            Self::Variable(variable) => json!({ "kind": "environment", "variable": variable }),
            Self::SecretFile { variable, path } => {
                json!({ "kind": "secret_file", "variable": variable, "path": path })
            }
        };
        shown.serialize(serializer)
    }
}

/// A setting as operators see it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Entry {
    /// Its full name, such as `api.listen`.
    pub name: String,
    /// Its value. Secrets are masked.
    pub value: serde_json::Value,
    /// Where the value comes from.
    pub source: Source,
}

/// Something that prevents the start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The setting, if the fault is that of one.
    #[serde(rename = "setting")]
    pub name: Option<String>,
    /// One sentence, with the setting and its source.
    pub message: String,
}

impl Fault {
    pub(super) fn general(message: String) -> Self {
        Self { name: None, message }
    }
}

/// All settings, and everything that is wrong with them.
#[derive(Debug)]
pub struct Report {
    /// The settings in the order of their names.
    pub entries: Vec<Entry>,
    /// What prevents the start, in the order of the settings. If there is nothing, the settings can be used.
    pub faults: Vec<Fault>,
    /// What does not prevent the start, but is probably not wanted.
    pub warnings: Vec<Warning>,
    settings: Option<Settings>,
}

impl Report {
    /// Reads the settings as [`Settings::load`] does, to the end.
    #[must_use]
    pub fn load(file: Option<&Path>) -> Self {
        // Variables that are not Unicode are ignored.
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::from_layers(file, environment)
    }

    /// Reads the settings as [`Report::load`] does, but from the given environment.
    #[must_use]
    pub fn from_layers(file: Option<&Path>, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        let mut faults = Vec::new();
        let mut or_nothing = |layer: Result<Layer, Fault>| {
            layer.unwrap_or_else(|fault| {
                faults.push(fault);
                Layer::default()
            })
        };
        let built_in = or_nothing(Layer::of(File::from_str(BUILT_IN, FileFormat::Toml), &Source::BuiltIn));
        let file = file.map(Path::to_owned).or_else(|| environment.get(FILE_VARIABLE).map(PathBuf::from));
        let file = file.map(|path| or_nothing(read_file(&path))).unwrap_or_default();
        let is_whole = faults.is_empty();
        let mut layer = built_in.clone();
        layer.put_over(file, &mut faults);
        let environment = Layer::of_environment(&environment, &built_in, &mut faults);
        layer.put_over(environment, &mut faults);
        let settings = layer.read(&built_in, &mut faults);
        if is_whole {
            for (name, what) in settings.iter().flat_map(Settings::check) {
                if faults.iter().all(|fault| fault.name.as_deref() != Some(name)) {
                    faults.push(layer.fault(name, &what));
                }
            }
        }
        faults.sort_by(|a, b| a.name.cmp(&b.name));
        let warnings = settings.as_ref().map(Settings::warnings).unwrap_or_default();
        let entries = layer.0.iter().map(|(name, (value, source))| {
            let kind = built_in.0.get(name).map(|(value, _)| &value.kind);
            Entry { name: name.clone(), value: shown(name, value, kind), source: source.clone() }
        });
        Self { entries: entries.collect(), faults, warnings, settings }
    }

    /// The settings, if they have no faults.
    ///
    /// # Errors
    /// [`SettingsError`] with every fault, one in a line.
    pub fn into_settings(self) -> Result<Settings, SettingsError> {
        match self.settings {
            Some(settings) if self.faults.is_empty() => Ok(settings),
            _ => {
                let faults: Vec<String> = self.faults.into_iter().map(|fault| fault.message).collect();
                Err(SettingsError(faults.join("\n")))
            }
        }
    }

    /// The settings also if they have faults, unless these leave none: for checks of other things.
    #[must_use]
    pub fn settings(&self) -> Option<&Settings> {
        self.settings.as_ref()
    }
}

fn read_file(path: &Path) -> Result<Layer, Fault> {
    let from = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Fault::general(format!("the settings file {from} cannot be read: {error}")))?;
    Layer::of(File::from_str(&text, FileFormat::Toml), &Source::File(from))
}

/// A value as operators see it. Variables are texts, and are shown in the type of the built-in value.
fn shown(name: &str, value: &Value, kind: Option<&ValueKind>) -> serde_json::Value {
    let text = || value.clone().into_string().unwrap_or_default();
    if SECRETS.contains(&name) {
        return json!(if text().is_empty() { "" } else { MASK });
    }
    if name == DATABASE {
        return json!(without_password(&text()));
    }
    let typed = match kind {
        Some(ValueKind::Boolean(_)) => value.clone().into_bool().map(|value| json!(value)),
        Some(ValueKind::I64(_)) => value.clone().into_int().map(|value| json!(value)),
        Some(ValueKind::Float(_)) => value.clone().into_float().map(|value| json!(value)),
        Some(ValueKind::Array(_)) => value.clone().into_array().map(|values| {
            values.into_iter().map(|value| value.into_string().unwrap_or_default()).collect::<Vec<_>>().into()
        }),
        _ => value.clone().into_string().map(|value| json!(value)),
    };
    typed.unwrap_or_else(|_| json!(text()))
}

/// The URL of the database without its password, which can also be a parameter.
fn without_password(url: &str) -> String {
    if url.is_empty() {
        return String::new();
    }
    let Ok(mut shown) = Url::parse(url) else { return MASK.to_owned() };
    if shown.password().is_some() && shown.set_password(Some("***")).is_err() {
        return MASK.to_owned();
    }
    let parameters: Vec<(String, String)> = shown.query_pairs().into_owned().collect();
    if parameters.iter().any(|(name, _)| name.contains("password")) {
        let others = parameters.iter().filter(|(name, _)| !name.contains("password"));
        shown.query_pairs_mut().clear().extend_pairs(others);
    }
    shown.to_string()
}
