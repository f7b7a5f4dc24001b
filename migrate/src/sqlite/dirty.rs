//! Which keys are to be looked at: staged in a temporary table that the other statements restrict themselves to.
//!
//! Invariant: staging only adds keys; [`Pair::unstage`] is the only way to lose one.

use rusqlite::types::Value;
use rusqlite::{OptionalExtension as _, ToSql, named_params};

use super::Pair;
use super::catalog::KeyKind;
use super::sql::{KeyRange, Keys, quote, table};
use super::values::Key;
use crate::error::MigrateError;
use crate::flow::{End, Flow};
use crate::manifest::Manifest;

/// What the owner knows of a key at one instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyState {
    /// The row's version; nothing if there is no row.
    pub version: Option<i64>,
    /// An image of it waits to be delivered.
    pub pending: bool,
}

impl Pair {
    /// Empties the stage.
    pub fn unstage(&self) -> Result<(), MigrateError> {
        Ok(self.conn.execute_batch("DELETE FROM temp.banyan_keys")?)
    }

    /// The keys staged, ascending.
    pub fn staged(&self) -> Result<Vec<Key>, MigrateError> {
        let mut statement = self.conn.prepare("SELECT key FROM temp.banyan_keys ORDER BY key")?;
        let keys = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(keys)
    }

    /// Stages these keys.
    pub fn stage(&self, keys: &[Key]) -> Result<(), MigrateError> {
        let mut statement = self.conn.prepare("INSERT OR IGNORE INTO temp.banyan_keys VALUES (?1)")?;
        for key in keys {
            statement.execute([key])?;
        }
        Ok(())
    }

    /// The last key of the next `rows` keys after one, or nothing if fewer are left.
    pub fn range_end(
        &self,
        manifest: &Manifest,
        end: End,
        after: Option<&Key>,
        rows: u32,
    ) -> Result<Option<Key>, MigrateError> {
        let tables = manifest.tables(end);
        let range = KeyRange { after: after.cloned(), up_to: None };
        let keys = Keys::Range(&range);
        let (key, root) = (quote(&tables.key), table(end, &tables.root));
        let skip = rows.saturating_sub(1);
        let sql = format!(
            "SELECT {key} FROM {root} WHERE {} ORDER BY {key} LIMIT 1 OFFSET {skip}",
            keys.condition(&key)
        );
        self.conn.query_row(&sql, keys.params().as_slice(), |row| row.get(0)).optional().map_err(self.at(end))
    }

    /// How many keys a range holds.
    pub fn range_count(&self, manifest: &Manifest, end: End, range: &KeyRange) -> Result<i64, MigrateError> {
        let tables = manifest.tables(end);
        let keys = Keys::Range(range);
        let condition = keys.condition(&quote(&tables.key));
        let sql = format!("SELECT count(*) FROM {} WHERE {condition}", table(end, &tables.root));
        self.conn.query_row(&sql, keys.params().as_slice(), |row| row.get(0)).map_err(self.at(end))
    }

    /// The greatest key of a root table.
    pub fn greatest_key(&self, manifest: &Manifest, end: End) -> Result<Option<Key>, MigrateError> {
        let tables = manifest.tables(end);
        let sql = format!("SELECT max({}) FROM {}", quote(&tables.key), table(end, &tables.root));
        let greatest: Value = self.conn.query_row(&sql, [], |row| row.get(0))?;
        Ok((greatest != Value::Null).then_some(greatest))
    }

    /// Whether the followed end's root holds a key in the range.
    pub fn holds_any(&self, manifest: &Manifest, end: End, range: &KeyRange) -> Result<bool, MigrateError> {
        let tables = manifest.tables(end);
        let keys = Keys::Range(range);
        let condition = keys.condition(&quote(&tables.key));
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {} WHERE {condition})", table(end, &tables.root));
        Ok(self.conn.query_row(&sql, keys.params().as_slice(), |row| row.get(0))?)
    }

    /// Stages the range's keys whose row at the owner is newer than at the other end.
    pub(crate) fn stage_newer(
        &self,
        manifest: &Manifest,
        flow: Flow,
        range: &KeyRange,
    ) -> Result<(), MigrateError> {
        let names = Roots::new(manifest, flow);
        let keys = Keys::Range(range);
        let condition = keys.condition(&names.owner_key);
        let Roots { owner, other, owner_key, other_key, owner_version, other_version } = &names;
        let sql = format!(
            "INSERT OR IGNORE INTO temp.banyan_keys SELECT {owner_key} FROM {owner} AS o \
             LEFT JOIN {other} AS d ON {other_key} = {owner_key} \
             WHERE {condition} AND ({other_version} IS NULL OR {owner_version} > {other_version})"
        );
        self.conn.execute(&sql, keys.params().as_slice())?;
        Ok(())
    }

    /// Stages every key of the range at either end, whatever the versions.
    pub(crate) fn stage_all(
        &self,
        manifest: &Manifest,
        flow: Flow,
        range: &KeyRange,
    ) -> Result<(), MigrateError> {
        let keys = Keys::Range(range);
        for (end, map) in manifest.maps(flow).iter().map(|map| (flow.to, map)) {
            let key = quote(map.root_key());
            let (table, condition) = (table(end, &map.table), keys.condition(&key));
            let sql = format!(
                "INSERT OR IGNORE INTO temp.banyan_keys SELECT {key} FROM {table} WHERE {condition} AND {key} IS NOT NULL"
            );
            self.conn.execute(&sql, keys.params().as_slice())?;
        }
        let tables = manifest.tables(flow.from);
        let (key, root) = (quote(&tables.key), table(flow.from, &tables.root));
        let sql = format!(
            "INSERT OR IGNORE INTO temp.banyan_keys SELECT {key} FROM {root} WHERE {}",
            keys.condition(&key)
        );
        self.conn.execute(&sql, keys.params().as_slice())?;
        Ok(())
    }

    /// Stages the keys whose images after `version` still wait at the owner, unless the other end has them already.
    pub(crate) fn stage_pending(
        &self,
        manifest: &Manifest,
        flow: Flow,
        kind: KeyKind,
        version: i64,
    ) -> Result<usize, MigrateError> {
        let Roots { owner, other, owner_key, other_key, owner_version, other_version } =
            &Roots::new(manifest, flow);
        let (log, key) = (table(flow.from, "banyan_intents"), kind.key_of("i.id"));
        let sql = format!(
            "INSERT OR IGNORE INTO temp.banyan_keys SELECT DISTINCT {key} FROM {log} AS i \
             LEFT JOIN {owner} AS o ON {owner_key} = {key} LEFT JOIN {other} AS d ON {other_key} = {key} \
             WHERE i.context = :context AND i.version > :version \
             AND ({owner_key} IS NULL OR {other_version} IS NULL OR {owner_version} > {other_version})"
        );
        let params = named_params! { ":context": manifest.context, ":version": version };
        Ok(self.conn.execute(&sql, params)?)
    }

    /// Stages every key that the other end holds although the owner has a newer row or has removed it.
    pub(crate) fn stage_behind(
        &self,
        manifest: &Manifest,
        flow: Flow,
        kind: KeyKind,
    ) -> Result<(), MigrateError> {
        let Roots { owner, other, owner_key, other_key, owner_version, other_version } =
            &Roots::new(manifest, flow);
        let (removed, gone) = (table(flow.from, "banyan_tombstones"), kind.key_of("t.id"));
        self.conn.execute_batch(&format!(
            "INSERT OR IGNORE INTO temp.banyan_keys SELECT {other_key} FROM {other} AS d \
             JOIN {owner} AS o ON {owner_key} = {other_key} WHERE {owner_version} > {other_version}"
        ))?;
        let sql = format!(
            "INSERT OR IGNORE INTO temp.banyan_keys SELECT {other_key} FROM {removed} AS t \
             JOIN {other} AS d ON {other_key} = {gone} \
             WHERE t.context = :context AND t.version > {other_version}"
        );
        self.conn.execute(&sql, named_params! { ":context": manifest.context })?;
        Ok(())
    }

    /// Stages up to `limit` keys, in order of their ids' text after `after`, that the owner removed and the other
    /// end does not know to be removed. Returns the last id looked at, or nothing when there are no more.
    pub(crate) fn stage_removed(
        &self,
        manifest: &Manifest,
        flow: Flow,
        kind: KeyKind,
        after: &str,
        limit: u32,
    ) -> Result<Option<String>, MigrateError> {
        let (ours, theirs) = (table(flow.from, "banyan_tombstones"), table(flow.to, "banyan_tombstones"));
        let batch = format!(
            "SELECT t.id FROM {ours} AS t LEFT JOIN {theirs} AS x ON x.context = t.context AND x.id = t.id \
             WHERE t.context = :context AND t.id > :after AND (x.version IS NULL OR x.version < t.version) \
             ORDER BY t.id LIMIT {limit}"
        );
        let params = named_params! { ":context": manifest.context, ":after": after };
        let last =
            self.conn.query_row(&format!("SELECT max(id) FROM ({batch})"), params, |row| row.get(0))?;
        let key = kind.key_of("id");
        let sql = format!("INSERT OR IGNORE INTO temp.banyan_keys SELECT {key} FROM ({batch})");
        self.conn.execute(&sql, params)?;
        Ok(last)
    }

    /// Stages the keys that one end changed or removed after a position.
    pub fn stage_changed_since(
        &self,
        manifest: &Manifest,
        end: End,
        kind: KeyKind,
        position: i64,
    ) -> Result<(), MigrateError> {
        let tables = manifest.tables(end);
        let (key, version, root) = (quote(&tables.key), quote(&tables.version), table(end, &tables.root));
        self.conn.execute(
            &format!("INSERT OR IGNORE INTO temp.banyan_keys SELECT {key} FROM {root} WHERE {version} > ?1"),
            [position],
        )?;
        let (removed, key) = (table(end, "banyan_tombstones"), kind.key_of("id"));
        self.conn.execute(
            &format!("INSERT OR IGNORE INTO temp.banyan_keys SELECT {key} FROM {removed} WHERE context = ?1 AND version > ?2"),
            [&manifest.context as &dyn ToSql, &position],
        )?;
        Ok(())
    }

    /// What the owner knows now of each staged key, in the stage's order.
    pub fn staged_states(&self, manifest: &Manifest, owner: End) -> Result<Vec<KeyState>, MigrateError> {
        let tables = manifest.tables(owner);
        let (key, version, root) = (quote(&tables.key), quote(&tables.version), table(owner, &tables.root));
        let log = table(owner, "banyan_intents");
        let mut statement = self.conn.prepare(&format!(
            "WITH pending AS MATERIALIZED (SELECT DISTINCT id FROM {log} WHERE context = ?1) \
             SELECT r.{version}, p.id IS NOT NULL FROM temp.banyan_keys AS k \
             LEFT JOIN {root} AS r ON r.{key} = k.key LEFT JOIN pending AS p ON p.id = CAST(k.key AS TEXT) \
             ORDER BY k.key"
        ))?;
        let states = statement
            .query_map([&manifest.context], |row| {
                Ok(KeyState { version: row.get(0)?, pending: row.get(1)? })
            })?
            .collect::<Result<_, _>>()?;
        Ok(states)
    }
}

/// The two root tables of a flow, as the staging statements name them.
struct Roots {
    owner: String,
    other: String,
    owner_key: String,
    other_key: String,
    owner_version: String,
    other_version: String,
}

impl Roots {
    fn new(manifest: &Manifest, flow: Flow) -> Self {
        let (from, to) = (manifest.tables(flow.from), manifest.tables(flow.to));
        Self {
            owner: table(flow.from, &from.root),
            other: table(flow.to, &to.root),
            owner_key: format!("o.{}", quote(&from.key)),
            other_key: format!("d.{}", quote(&to.key)),
            owner_version: format!("o.{}", quote(&from.version)),
            other_version: format!("d.{}", quote(&to.version)),
        }
    }
}
