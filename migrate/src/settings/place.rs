//! Where a database is: a file or a URL.
//!
//! Invariant: no text made of a place holds a password; only [`Engine`] does, on its way to the driver.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use crate::error::MigrateError;

/// Where a database is.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Place(String);

/// What is there.
#[derive(Clone, PartialEq, Eq)]
pub enum Engine {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database, by its URL.
    Postgres(String),
}

impl Place {
    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is there, or why nothing can be.
    pub fn engine(&self) -> Result<Engine, MigrateError> {
        let text = &self.0;
        if let Some(file) = text.strip_prefix("sqlite:") {
            return Ok(Engine::Sqlite(PathBuf::from(file.strip_prefix("//").unwrap_or(file))));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Engine::Sqlite(PathBuf::from(text)));
        };
        if !matches!(scheme, "postgres" | "postgresql") {
            return Err(MigrateError::Usage(format!(
                "{self}: `{scheme}` is no database that can be copied; give a SQLite file or postgres://user@host/name"
            )));
        }
        if rest.split_once('?').is_some_and(|(_, query)| query.contains("password=")) {
            return Err(MigrateError::Usage(format!(
                "{self}: write the password before the @, where it is never printed: postgres://user:password@host/name"
            )));
        }
        Ok(Engine::Postgres(text.clone()))
    }

    /// Makes a relative file relative to a folder.
    pub(super) fn anchor(&mut self, folder: &Path) {
        if let Ok(Engine::Sqlite(file)) = self.engine()
            && !self.is_empty()
        {
            self.0 = folder.join(file).display().to_string();
        }
    }
}

impl From<PathBuf> for Place {
    fn from(file: PathBuf) -> Self {
        Self(file.display().to_string())
    }
}

impl From<&str> for Place {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str(&self.0) };
        let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
        match rest.rsplit_once('@') {
            Some((user, host)) => {
                write!(f, "{scheme}://{}@{host}", user.split_once(':').map_or(user, |(user, _)| user))
            }
            None => write!(f, "{scheme}://{rest}"),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({self})")
    }
}

impl JsonSchema for Place {
    fn schema_name() -> Cow<'static, str> {
        "Place".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_file_or_a_url() {
        let file = |text: &str| match Place::from(text).engine().unwrap() {
            Engine::Sqlite(file) => file.display().to_string(),
            Engine::Postgres(url) => url,
        };
        assert_eq!(
            ["a.db", "sqlite:a.db", "sqlite:///var/a.db", "postgres://u:p@h/n"].map(file),
            ["a.db", "a.db", "/var/a.db", "postgres://u:p@h/n"]
        );
        assert_eq!(Place::from("mysql://u:secret@h/n").engine().err().unwrap().exit_code(), 2);
    }

    #[test]
    fn no_text_shows_a_password() {
        for text in [
            "postgres://u:se@cret@h:5/n?x=secret",
            "mysql://u:secret@h/n",
            "postgres://u@h/n?password=secret",
        ] {
            let place = Place::from(text);
            let error = place.engine().err().map(|error| error.to_string()).unwrap_or_default();
            let all = format!("{place} {place:?} {error}");
            assert!(!all.contains("cret"), "{all}");
        }
        assert_eq!(Place::from("postgres://u:p@h:5/n").to_string(), "postgres://u@h:5/n");
    }
}
