//! Settings from defaults, then a TOML file, then `BANYAN_…` environment variables, the later ones winning.
//!
//! Invariant: a setting that nothing reads is an error, wherever it stands; a secret is never printed.

use std::fmt;
use std::path::{Path, PathBuf};

use figment::providers::{Env, Format, Serialized, Toml};
use figment::value::{Dict, Value};
use figment::{Figment, Source};
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize};

use crate::table;

/// Prefix of every environment variable that sets something; `__` stands for the dot between two names.
pub const ENV_PREFIX: &str = "BANYAN_";
/// Variables under our prefix that are no settings: they steer tests and builds.
const NOT_SETTINGS: [&str; 2] = ["FAIL_POINT", "BIN_DIR"];

/// A text that must not be seen: tokens, passwords.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: only for the wire and for comparison.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Settings with the origin of each.
#[derive(Debug)]
pub struct Loaded<T> {
    /// The settings.
    pub settings: T,
    /// Every single setting, sorted by key.
    pub rows: Vec<SettingRow>,
    /// The file that was read, if any: paths in it are relative to its folder.
    pub file: Option<PathBuf>,
}

impl<T> Loaded<T> {
    /// A path as a file system call needs it: one that stands in the settings file is relative to that file's folder,
    /// one from anywhere else to the working directory.
    pub fn located(&self, key: &str, path: &Path) -> PathBuf {
        let Some(file) = &self.file else {
            return path.to_owned();
        };
        let origin = file.display().to_string();
        let is_from_file = self.rows.iter().any(|row| row.key == key && row.origin == origin);
        match file.parent() {
            Some(folder) if is_from_file && !path.as_os_str().is_empty() => folder.join(path),
            _ => path.to_owned(),
        }
    }
}

/// Deserialises a whole number from `MIN` to `MAX`, for `#[serde(deserialize_with = "…")]`: a value out of bounds is
/// then refused with the name of its setting and the place it came from.
pub fn within<'de, const MIN: u64, const MAX: u64, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let number = i64::deserialize(deserializer)?;
    u64::try_from(number)
        .ok()
        .filter(|number| (MIN..=MAX).contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| {
            de::Error::custom(format!("{number} is out of bounds: from {MIN} to {MAX} is allowed"))
        })
}

/// One setting as `config` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct SettingRow {
    /// Name with dots: `http.listen`.
    pub key: String,
    /// Value, masked where it is secret.
    pub value: String,
    /// `default`, the file, or the environment variable.
    pub origin: String,
}

/// Why settings could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file that was named is not there.
    #[error("there is no settings file {path}; create it, or leave --config away to use the defaults")]
    NoFile {
        /// The path.
        path: String,
    },
    /// One or more settings are wrong.
    #[error("{0}")]
    Invalid(String),
}

/// Loads `T` from its defaults, `file` (or `default_file` where that exists) and the environment.
pub fn load<T>(file: Option<&Path>, default_file: &str) -> Result<Loaded<T>, SettingsError>
where
    T: Default + Serialize + DeserializeOwned,
{
    let file = match file {
        Some(path) if path.is_file() => Some(path.to_owned()),
        Some(path) => return Err(SettingsError::NoFile { path: path.display().to_string() }),
        None => Some(PathBuf::from(default_file)).filter(|path| path.is_file()),
    };
    let mut figment = Figment::from(Serialized::defaults(T::default()));
    if let Some(path) = &file {
        figment = figment.merge(Toml::file_exact(path));
    }
    figment = figment.merge(Env::prefixed(ENV_PREFIX).ignore(&NOT_SETTINGS).split("__"));
    let settings = figment.extract().map_err(|errors| SettingsError::Invalid(explain(errors)))?;
    let rows = rows(&figment).map_err(|errors| SettingsError::Invalid(explain(*errors)))?;
    Ok(Loaded { settings, rows, file })
}

/// Prints the settings as a table or as JSON.
pub fn print(rows: &[SettingRow], json: bool) {
    if json {
        let text = serde_json::to_string_pretty(rows).unwrap_or_default();
        return table::print_line(&text);
    }
    let cells = rows.iter().map(|row| [row.key.clone(), row.value.clone(), row.origin.clone()]);
    table::print(["setting", "value", "from"], cells);
}

/// Every error in one line, each with the key and the place it came from.
fn explain(errors: figment::Error) -> String {
    let lines: Vec<String> = errors
        .into_iter()
        .map(|error| {
            let key = error.path.join(".");
            let origin = error.metadata.as_ref().map(|metadata| origin(metadata, &key));
            let what = match &error.kind {
                figment::error::Kind::UnknownField(field, known) => {
                    let prefix = if key.is_empty() { String::new() } else { format!("{key}.") };
                    let field = field.strip_prefix(&prefix).unwrap_or(field);
                    let full = if key == *field || key.ends_with(&format!(".{field}")) {
                        key.clone()
                    } else {
                        format!("{prefix}{field}")
                    };
                    format!("unknown setting `{full}`; known here: {}", known.join(", "))
                }
                kind if key.is_empty() => kind.to_string(),
                kind => format!("setting `{key}`: {kind}"),
            };
            match origin {
                Some(origin) => format!("{what} (from {origin})"),
                None => what,
            }
        })
        .collect();
    lines.join("; ").replace('\n', " ")
}

fn origin(metadata: &figment::Metadata, key: &str) -> String {
    match &metadata.source {
        Some(Source::File(path)) => path.display().to_string(),
        _ if metadata.name.contains("environment") => {
            format!("{ENV_PREFIX}{}", key.to_uppercase().replace('.', "__"))
        }
        _ => "default".to_owned(),
    }
}

fn rows(figment: &Figment) -> Result<Vec<SettingRow>, Box<figment::Error>> {
    let all: Dict = figment.extract()?;
    let mut rows = Vec::new();
    flatten(figment, "", &Value::from(all), &mut rows);
    Ok(rows)
}

fn flatten(figment: &Figment, key: &str, value: &Value, rows: &mut Vec<SettingRow>) {
    if let Value::Dict(_, entries) = value {
        for (name, value) in entries {
            let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            flatten(figment, &key, value, rows);
        }
        return;
    }
    let origin = figment.find_metadata(key).map_or_else(|| "default".to_owned(), |found| origin(found, key));
    rows.push(SettingRow { key: key.to_owned(), value: shown(key, value), origin });
}

/// A setting whose last word says that it is secret is masked; an empty one is shown as empty.
fn shown(key: &str, value: &Value) -> String {
    let text = match value {
        Value::String(_, text) => text.clone(),
        Value::Empty(..) => return "-".to_owned(),
        other => serde_json::to_string(other).unwrap_or_default(),
    };
    let name = key.rsplit('.').next().unwrap_or(key);
    let secret = ["token", "secret", "password"].iter().any(|word| name.ends_with(word));
    if secret && !text.is_empty() { "********".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        listen: String,
        replication: Replication,
    }

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Replication {
        token: Secret,
        #[serde(deserialize_with = "within::<0, 60_000, _, _>")]
        deadline_ms: u64,
    }

    fn load_text(text: &str) -> Result<Loaded<Sample>, SettingsError> {
        let folder = std::env::temp_dir().join(format!("settings-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("sample.toml");
        std::fs::write(&file, text).unwrap();
        let loaded = load(Some(&file), "sample.toml");
        std::fs::remove_dir_all(folder).unwrap();
        loaded
    }

    #[test]
    fn an_unknown_setting_is_named_with_its_file() {
        let error = load_text("[replication]\ndeadlin_ms = 3").unwrap_err().to_string();
        assert!(error.contains("`replication.deadlin_ms`"), "{error}");
        assert!(error.contains("deadline_ms") && error.contains("sample.toml"), "{error}");
    }

    #[test]
    fn a_wrong_type_is_named_with_its_key() {
        let error = load_text("[replication]\ndeadline_ms = \"soon\"").unwrap_err().to_string();
        assert!(error.contains("`replication.deadline_ms`"), "{error}");
    }

    #[test]
    fn a_number_out_of_bounds_is_refused_with_its_key_and_the_bounds() {
        for number in ["-1", "60001"] {
            let error = load_text(&format!("[replication]\ndeadline_ms = {number}")).unwrap_err().to_string();
            assert!(error.contains("`replication.deadline_ms`") && error.contains("60000"), "{error}");
        }
    }

    #[test]
    fn secrets_are_masked_and_origins_are_told() {
        let loaded = load_text("[replication]\ntoken = \"hunter2\"").unwrap();
        let token = loaded.rows.iter().find(|row| row.key == "replication.token").unwrap();
        assert_eq!(token.value, "********");
        assert!(token.origin.ends_with("sample.toml"), "{}", token.origin);
        assert!(!format!("{:?}", loaded.settings).contains("hunter2"));
        let listen = loaded.rows.iter().find(|row| row.key == "listen").unwrap();
        assert_eq!(listen.origin, "default");
    }
}
