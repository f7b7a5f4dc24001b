//! One step of a schema, as its folder holds it.
//!
//! Invariant: a step has a way up and a way down for each database, and its number and name are those of its folder.

use crate::Backend;

/// One change of a context's schema: a folder `migrations/0001_name` with `up.sqlite.sql`, `down.sqlite.sql`,
/// `up.postgres.sql` and `down.postgres.sql`. Made by [`migration!`](crate::migration).
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Position among the context's steps, from 1 without gaps.
    pub version: i32,
    /// What the step does, as its folder says.
    pub name: &'static str,
    /// For a SQLite file.
    pub sqlite: Script,
    /// For a PostgreSQL server: runs with the context's schema as the only one on the search path.
    pub postgres: Script,
}

/// Both ways of one step in one dialect.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// Applies the step.
    pub up: &'static str,
    /// Takes it back.
    pub down: &'static str,
}

impl Migration {
    /// The step in the folder `0001_name`. Meant for constants: a folder of another form does not compile.
    pub const fn of_folder(folder: &'static str, sqlite: Script, postgres: Script) -> Self {
        let [thousands, hundreds, tens, ones, b'_', ..] = folder.as_bytes() else {
            panic!("the folder of a migration is called like 0001_name");
        };
        let version = digit(*thousands) * 1000 + digit(*hundreds) * 100 + digit(*tens) * 10 + digit(*ones);
        Self { version, name: folder.split_at(5).1, sqlite, postgres }
    }

    /// The script for this database.
    pub fn script(&self, backend: Backend) -> Script {
        match backend {
            Backend::Sqlite => self.sqlite,
            Backend::Postgres => self.postgres,
        }
    }
}

const fn digit(byte: u8) -> i32 {
    assert!(byte.is_ascii_digit(), "the folder of a migration is called like 0001_name");
    (byte - b'0') as i32
}

/// The step in a folder of the crate's `migrations/`: `migration!("0001_products")`.
#[macro_export]
macro_rules! migration {
    ($folder:literal) => {
        $crate::schema::Migration::of_folder(
            $folder,
            $crate::schema::Script {
                up: include_str!(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/migrations/",
                    $folder,
                    "/up.sqlite.sql"
                )),
                down: include_str!(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/migrations/",
                    $folder,
                    "/down.sqlite.sql"
                )),
            },
            $crate::schema::Script {
                up: include_str!(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/migrations/",
                    $folder,
                    "/up.postgres.sql"
                )),
                down: include_str!(concat!(
                    env!("CARGO_MANIFEST_DIR"),
                    "/migrations/",
                    $folder,
                    "/down.postgres.sql"
                )),
            },
        )
    };
}
