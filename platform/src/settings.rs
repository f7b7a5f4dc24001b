//! Settings from defaults, then a TOML file, then `BANYAN_…` environment variables, the later ones winning.
//!
//! Invariant: a setting that nothing reads is an error, wherever it stands; a secret is never printed.

mod document;
mod file;
mod load;
mod mask;
mod words;

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::table;

pub use document::document;
pub use file::read;
pub use load::{load, load_sound};
pub use mask::shortened;

/// Prefix of every environment variable that sets something; `__` stands for the dot between two names.
pub const ENV_PREFIX: &str = "BANYAN_";
/// Variables under our prefix that are no settings: they steer tests and builds.
const NOT_SETTINGS: [&str; 2] = ["FAIL_POINT", "BIN_DIR"];
/// How a schema marks a text that must not be seen.
pub const SECRET_FORMAT: &str = "secret";
/// What a secret says it wants when it is given something else; masking knows it by these words.
const SECRET_WANTS: &str = "a secret text";
/// What stands between a refused number and the bounds.
const OUT_OF_BOUNDS: &str = " is out of bounds: from ";

/// A text that must not be seen: tokens, passwords.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
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

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_string(SecretText)
    }
}

struct SecretText;

impl Visitor<'_> for SecretText {
    type Value = Secret;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SECRET_WANTS)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        Ok(Secret::new(text))
    }
}

impl JsonSchema for Secret {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": SECRET_FORMAT })
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
    let number = deserializer.deserialize_i64(Bounded::<MIN, MAX>)?;
    T::try_from(number).map_err(|_| refusal::<MIN, MAX, _>(number))
}

struct Bounded<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Visitor<'_> for Bounded<MIN, MAX> {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from {MIN} to {MAX}")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        if (MIN..=MAX).contains(&number) { Ok(number) } else { Err(refusal::<MIN, MAX, E>(number)) }
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<u64, E> {
        u64::try_from(number)
            .map_err(|_| refusal::<MIN, MAX, E>(number))
            .and_then(|number| self.visit_u64(number))
    }
}

fn refusal<const MIN: u64, const MAX: u64, E: de::Error>(number: impl fmt::Display) -> E {
    E::custom(format!("{number}{OUT_OF_BOUNDS}{MIN} to {MAX} is allowed"))
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
    /// What was named cannot be read as settings.
    #[error("cannot read the settings file {path}: {reason}")]
    Unreadable {
        /// The path.
        path: String,
        /// Why, and what to do.
        reason: String,
    },
    /// One or more settings are wrong: what, where, and what is allowed, each in one line.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
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
    #[serde(deny_unknown_fields, default)]
    struct Replication {
        token: Secret,
        pin: Option<Secret>,
        url: Secret,
        peers: Vec<String>,
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
    fn every_fault_of_file_and_environment_is_named_in_one_run() {
        let text = "lisen = \"a\"\nother = 1\n[replication]\ndeadline_ms = 60001\ntoken = 77665\n[replicaton]\na = 1";
        if std::env::var_os("BANYAN_LISTEN__PORT").is_none() {
            // The environment belongs to the whole process, so the test runs once more in one of its own.
            let output = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "settings::tests::every_fault_of_file_and_environment_is_named_in_one_run"])
                .env("BANYAN_LISTEN__PORT", "1")
                .env("BANYAN_REPLICATION__DEADLIN_MS", "5")
                .env("BANYAN_REPLICATION__DEADLINE_MS", "soon")
                .output()
                .unwrap();
            let told = String::from_utf8_lossy(&output.stdout);
            return assert!(output.status.success() && told.contains("1 passed"), "{told}");
        }
        let error = load_text(text).unwrap_err().to_string();
        for fault in [
            "unknown setting `lisen`; did you mean `listen`; known here: listen, replication (from ",
            "unknown setting `other`; known here: listen, replication (from ",
            "unknown setting `replicaton`; did you mean `replication`; known here: listen, replication (from ",
            "setting `replication.deadline_ms`: 60001 is out of bounds: from 0 to 60000 is allowed (from ",
            "expected a whole number from 0 to 60000 (from BANYAN_REPLICATION__DEADLINE_MS)",
            "setting `replication.token`: invalid; expected a secret text (from ",
            "unknown setting `replication.deadlin_ms`; did you mean `deadline_ms`; known here: token, pin, url, peers, deadline_ms (from BANYAN_REPLICATION__DEADLIN_MS)",
            "setting `listen`: found a table, expected a text (from BANYAN_LISTEN)",
        ] {
            assert!(error.contains(fault), "{fault} is not in: {error}");
        }
        assert_eq!(error.split("; unknown setting").count() + error.split("; setting").count(), 9, "{error}");
        assert!(!error.contains("77665"), "{error}");
    }

    #[test]
    fn faults_are_told_in_words_of_the_file() {
        for (text, told) in [
            ("deadline_ms = 2026-01-01", "found the text `2026-01-01`, expected a whole number from 0"),
            ("peers = 1", "found 1, expected a list"),
            ("peers = [true]", "found true, expected a text"),
        ] {
            let error = load_text(&format!("[replication]\n{text}")).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        let many: String = (0..300).map(|number| format!("unknown{number} = 1\n")).collect();
        let error = load_text(&many).unwrap_err().to_string();
        assert!(error.ends_with("there are more faults; mend these first"), "{error}");
        let error = load_text(&format!("[replication]\npeers = '{}'", "x".repeat(9_000))).unwrap_err();
        assert!(error.to_string().len() < 1_000, "{error}");
    }

    #[test]
    fn what_cannot_be_read_as_settings_is_named_alone() {
        let folder = std::env::temp_dir().join(format!("settings-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = |name: &str, bytes: &[u8]| {
            std::fs::write(folder.join(name), bytes).unwrap();
            folder.join(name)
        };
        let looping = folder.join("looping");
        std::os::unix::fs::symlink(&looping, &looping).unwrap();
        for (path, told) in [
            (folder.clone(), "it is a folder"),
            (looping, "symbolic link"),
            ("/dev/null".into(), "no regular file"),
            (file("latin", b"a = 'caf\xe9'"), "save it as UTF-8"),
            (file("large", &vec![b'#'; 1024 * 1024 + 1]), "larger than 1 MiB"),
        ] {
            let error = load::<Sample>(Some(&path), "sample.toml").unwrap_err().to_string();
            assert!(error.contains(told) && error.contains(&*path.to_string_lossy()), "{error}");
            assert!(!error.contains("; setting"), "{error}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_file_that_is_no_toml_does_not_hide_where() {
        let error = load_text("[replication\n").unwrap_err().to_string();
        assert!(error.contains("sample.toml") && error.contains("line 1"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_toml_does_not_show_its_secrets() {
        let error = load_text("[replication]\ntoken = \"hunter2").unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_secret_of_the_wrong_type_is_not_quoted() {
        let error = load_text("[replication]\npin = 77665").unwrap_err().to_string();
        assert!(error.contains("`replication.pin`") && !error.contains("77665"), "{error}");
    }

    fn value(loaded: &Loaded<Sample>, key: &str) -> String {
        loaded.rows.iter().find(|row| row.key == key).unwrap().value.clone()
    }

    #[test]
    fn a_secret_is_masked_whatever_its_name_is() {
        let loaded = load_text("[replication]\npin = \"4711\"\nurl = \"host=a password=hunter2\"").unwrap();
        assert_eq!(value(&loaded, "replication.pin"), "********");
        assert_eq!(value(&loaded, "replication.url"), "********");
        assert_eq!(value(&loaded, "replication.token"), "");
    }

    #[test]
    fn the_password_of_a_url_is_masked_wherever_it_stands() {
        let text = "listen = \"http://a:hunter2@h\"\n[replication]\nurl = \"postgres://shop:hunter2@db:5432/shop\"\n\
                    peers = [\"http://b:hunter2@h\", \"http://c\"]";
        let loaded = load_text(text).unwrap();
        assert_eq!(value(&loaded, "replication.url"), "postgres://shop:***@db:5432/shop");
        assert_eq!(value(&loaded, "listen"), "http://a:***@h");
        assert_eq!(value(&loaded, "replication.peers"), "[\"http://b:***@h\",\"http://c\"]");
        assert_eq!(loaded.settings.replication.url.expose(), "postgres://shop:hunter2@db:5432/shop");
    }

    #[test]
    fn secrets_are_masked_and_origins_are_told() {
        let loaded = load_text("[replication]\ntoken = \"hunter2\"").unwrap();
        let token = loaded.rows.iter().find(|row| row.key == "replication.token").unwrap();
        assert_eq!(token.value, "********");
        assert!(token.origin.ends_with("sample.toml"), "{}", token.origin);
        assert!(!format!("{:?}", loaded.settings).contains("hunter2"));
        assert!(!serde_json::to_string(&loaded.rows).unwrap().contains("hunter2"));
        let listen = loaded.rows.iter().find(|row| row.key == "listen").unwrap();
        assert_eq!(listen.origin, "default");
    }
}
