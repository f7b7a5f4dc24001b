//! What is known of a mapping at both ends: the types in which its columns pass, and the names of what belongs to it.
//!
//! Invariant: a shape is the same for both ends of a driver, so that what one sends is what the other expects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use postgres::error::SqlState;
use twox_hash::XxHash3_64;

use super::catalog::{TargetTable, target_table};
use super::collation::refuse_joined_keys;
use super::connection::{Connection, Place, column};
use super::fault::words;
use super::sql;
use super::types::Type;
use crate::engine::Mapping;
use crate::engine::soundness::reads_itself;
use crate::error::MigrateError;

/// A mapping, looked up.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// Tells this mapping's temporary tables from others'.
    pub(super) tag: String,
    /// The root, with its schema, quoted.
    pub(super) root: String,
    /// The root key's columns, quoted.
    pub(super) root_key: Vec<String>,
    /// The root key's types at the source.
    pub(super) root_types: Vec<Type>,
    /// The types in which keys pass: those of the columns that carry them, else those of the root.
    pub(super) key_types: Vec<Type>,
    /// The table filled.
    pub(super) target: TargetTable,
    /// Whether a row's source key and its own key are the same columns.
    pub(super) same_key: bool,
}

/// The shapes of a driver's mappings.
#[derive(Debug)]
pub(super) struct Shapes {
    source: Arc<Place>,
    target: Arc<Place>,
    known: Mutex<HashMap<String, Arc<Shape>>>,
}

impl Shapes {
    /// None is known yet.
    pub(super) fn new(source: Arc<Place>, target: Arc<Place>) -> Self {
        Self { source, target, known: Mutex::default() }
    }

    /// A mapping's shape.
    pub(super) fn of(&self, mapping: &Mapping) -> Result<Arc<Shape>, MigrateError> {
        self.looked_up(mapping, &mut None)
    }

    /// The shapes of several; those not known are looked up on one pair of connections, as a new one knows no catalogue yet and
    /// takes longer to read it than to answer.
    pub(super) fn all(&self, mappings: &[Mapping]) -> Result<Vec<Arc<Shape>>, MigrateError> {
        let mut ends = None;
        mappings.iter().map(|mapping| self.looked_up(mapping, &mut ends)).collect()
    }

    /// Looked up the first time, on connections of its own, which are left to the caller for the next one.
    fn looked_up(
        &self,
        mapping: &Mapping,
        ends: &mut Option<(Connection, Connection)>,
    ) -> Result<Arc<Shape>, MigrateError> {
        let tag = tag(mapping);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shape) = known.get(&tag) {
            return Ok(Arc::clone(shape));
        }
        let (source, target) = match ends {
            Some(ends) => ends,
            None => ends.insert((self.source.open("plan")?, self.target.open("plan")?)),
        };
        let shape = Arc::new(look_up(source, target, mapping, &tag)?);
        known.insert(tag, Arc::clone(&shape));
        Ok(shape)
    }

    /// A connection to the target, for what is asked of its catalogue.
    pub(super) fn target(&self) -> Result<Connection, MigrateError> {
        self.target.open("plan")
    }

    /// Forgets all after something failed that a table altered meanwhile may be the reason of.
    pub(super) fn forget_after<T>(&self, done: &Result<T, MigrateError>) {
        if done.is_err() {
            self.forget();
        }
    }

    /// Forgets all, as somebody may have altered a table.
    pub(super) fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Shape {
    /// `::type` for each column of a key that comes in wire form and is compared with the root's.
    pub(super) fn root_casts(&self) -> Vec<String> {
        let both = self.key_types.iter().zip(&self.root_types);
        both.map(|(wire, root)| format!("::{}::{}", wire.wire(), root.name)).collect()
    }

    /// `::type` for each column of a key that is compared with the target's.
    pub(super) fn key_casts(&self) -> Vec<String> {
        self.key_types.iter().map(|kind| format!("::{}", kind.name)).collect()
    }

    /// Expressions for a root key at the source, in wire form.
    pub(super) fn root_key_on_wire(&self, expressions: &[String]) -> String {
        let both = expressions.iter().zip(&self.key_types);
        both.map(|(expression, kind)| format!("({expression})::{}", kind.wire()))
            .collect::<Vec<_>>()
            .join(", ")
    }

    /// SQL for a key, of any types that the wire's can be made of, as a bound.
    pub(super) fn bound(&self, expressions: &[String]) -> String {
        let both = expressions.iter().zip(&self.key_types);
        let texts: Vec<String> =
            both.map(|(expression, kind)| format!("({expression})::{}::text", kind.wire())).collect();
        format!("json_build_array({})::text", texts.join(", "))
    }

    /// The mapping's select with its restriction, under the names `c0, …` (`s0, …` in front for a key map).
    pub(super) fn select(
        &self,
        mapping: &Mapping,
        restrict: impl FnMut(&str) -> String,
    ) -> Result<String, MigrateError> {
        let select = sql::fill(&mapping.select, "keys", restrict)?;
        Ok(format!("(\n{select}\n) AS r({})", self.aliases(mapping)))
    }

    fn aliases(&self, mapping: &Mapping) -> String {
        let columns = sql::numbered("c", mapping.columns.len());
        if !mapping.needs_key_map() {
            return columns;
        }
        format!("{}, {columns}", sql::numbered("s", self.root_key.len()))
    }

    /// The select's columns in wire form.
    pub(super) fn columns_on_wire(&self, mapping: &Mapping) -> String {
        let types = self.target.columns.iter().enumerate();
        let columns = types.map(|(at, kind)| format!("(r.c{at})::{}", kind.wire()));
        let sources = self.key_types.iter().enumerate().filter(|_| mapping.needs_key_map());
        let sources = sources.map(|(at, kind)| format!("(r.s{at})::{}", kind.wire()));
        sources.chain(columns).collect::<Vec<_>>().join(", ")
    }

    /// Sees to it that the target's columns are still those of this shape, and that nobody's triggers have come to fire for
    /// the applier; the caller holds a lock on the table that keeps both as they are.
    pub(super) fn check_target(&self, target: &mut Connection) -> Result<(), MigrateError> {
        let now = target.text(&super::catalog::signature(&self.target.name))?;
        if now.as_deref() == Some(self.target.signature.as_str()) {
            return Ok(());
        }
        Err(MigrateError::Unreachable {
            message: format!(
                "{} was altered at the target meanwhile; it is looked at anew",
                self.target.name
            ),
            source: None,
        })
    }

    /// Where among the filled columns some are.
    pub(super) fn places(mapping: &Mapping, columns: &[String]) -> Vec<usize> {
        let place = |column: &String| mapping.columns.iter().position(|filled| filled == column);
        columns.iter().filter_map(place).collect()
    }
}

fn tag(mapping: &Mapping) -> String {
    let normal = serde_json::to_vec(mapping).unwrap_or_default();
    format!("{:016x}", XxHash3_64::oneshot(&normal))
}

fn look_up(
    source: &mut Connection,
    target: &mut Connection,
    mapping: &Mapping,
    tag: &str,
) -> Result<Shape, MigrateError> {
    let table = target_table(target, mapping)?;
    refuse_itself(source, target, mapping, &table.name)?;
    let root = source.qualified(&mapping.root)?;
    let root_types = root_key_types(source, &root, &mapping.root_key)?;
    needs_unique_key(source, &root, &mapping.root_key)?;
    refuse_joined_keys(source, target, mapping, &root, &table.name)?;
    let carried = Shape::places(mapping, &mapping.carries);
    if carried.len() != mapping.carries.len()
        || Shape::places(mapping, &mapping.key).len() != mapping.key.len()
    {
        return Err(MigrateError::Usage(format!(
            "the key and the carried columns of {} must be among its columns",
            mapping.table
        )));
    }
    let key_types: Vec<Type> = if mapping.needs_key_map() {
        root_types.clone()
    } else {
        carried.iter().filter_map(|at| table.columns.get(*at)).cloned().collect()
    };
    if key_types.len() != root_types.len() {
        return Err(MigrateError::Usage(format!(
            "{} carries {} columns of a source key of {}",
            mapping.table,
            key_types.len(),
            root_types.len()
        )));
    }
    let (mut key, mut carries) = (mapping.key.clone(), mapping.carries.clone());
    key.sort_unstable();
    carries.sort_unstable();
    let shape = Shape {
        tag: tag.to_owned(),
        root,
        root_key: mapping.root_key.iter().map(|column| sql::name(column)).collect(),
        root_types,
        key_types: key_types.iter().map(|kind| foreign_types_as_text(kind, mapping)).collect(),
        target: table,
        same_key: key == carries,
    };
    check_select(source, mapping, &shape)?;
    Ok(shape)
}

/// What no two databases have in common; a server that was copied as files has the system identifier of the other.
const SAME_DATABASE: &str = "SELECT pg_postmaster_start_time()::text || ' ' || oid FROM pg_database WHERE datname = current_database()";

/// Refuses a mapping that reads the table which it fills.
pub(super) fn refuse_itself(
    source: &mut Connection,
    target: &mut Connection,
    mapping: &Mapping,
    filled: &str,
) -> Result<(), MigrateError> {
    for table in std::iter::once(&mapping.root).chain(mapping.joins.iter().map(|join| &join.table)) {
        if source.qualified(table)? == filled {
            let database = |end: &mut Connection| end.text(SAME_DATABASE);
            if database(source)? == database(target)? {
                return Err(reads_itself(mapping));
            }
        }
    }
    Ok(())
}

/// The target need not know a type that only the source's key has.
fn foreign_types_as_text(kind: &Type, mapping: &Mapping) -> Type {
    if !mapping.needs_key_map() { kind.clone() } else { kind.on_wire() }
}

/// The types of a source key's columns; refused if one may be NULL.
pub(super) fn root_key_types(
    source: &mut Connection,
    root: &str,
    key: &[String],
) -> Result<Vec<Type>, MigrateError> {
    let rows = source.rows(&format!(
        "SELECT attname, atttypid, attnotnull::int FROM pg_attribute \
         WHERE attrelid = {}::regclass AND attnum > 0 AND NOT attisdropped",
        sql::value(root)
    ))?;
    let mut oids = Vec::new();
    for wanted in key {
        let Some(row) = rows.iter().find(|row| row.get(0) == Some(wanted)) else {
            return Err(MigrateError::refused(
                format!("{root} has no column {wanted}"),
                "correct the mapping's from_key, or bring the column back",
            ));
        };
        if row.get(2) != Some("1") {
            return Err(MigrateError::refused(
                format!(
                    "{root}.{wanted} is part of the source key and may be NULL, which is equal to nothing"
                ),
                format!(
                    "ALTER TABLE {root} ALTER COLUMN {} SET NOT NULL, or name another key",
                    sql::name(wanted)
                ),
            ));
        }
        oids.push(column(row, 1).parse().unwrap_or(0));
    }
    Type::look_up(source, &oids)
}

fn needs_unique_key(source: &mut Connection, root: &str, key: &[String]) -> Result<(), MigrateError> {
    let names: Vec<String> = key.iter().map(|column| sql::value(column)).collect();
    let unique = source.holds(&format!(
        "EXISTS (SELECT FROM pg_index i WHERE i.indrelid = {}::regclass AND i.indisunique AND i.indisvalid \
           AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (SELECT FROM pg_attribute a \
             WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) \
             AND a.attname <> ALL (ARRAY[{}]::name[])))",
        sql::value(root),
        names.join(", ")
    ))?;
    if unique {
        return Ok(());
    }
    let columns: Vec<String> = key.iter().map(|column| sql::name(column)).collect();
    Err(MigrateError::refused(
        format!("the source key ({}) of {root} is not unique: no index says so", key.join(", ")),
        format!(
            "CREATE UNIQUE INDEX CONCURRENTLY … ON {root} ({}), or name another from_key",
            columns.join(", ")
        ),
    ))
}

/// Compares what the select yields with what the target's columns hold.
fn check_select(source: &mut Connection, mapping: &Mapping, shape: &Shape) -> Result<(), MigrateError> {
    let made = select_columns(source, mapping)?;
    let pairs = made.iter().zip(&shape.target.columns).zip(&mapping.columns);
    for ((from, to), name) in pairs {
        from.kind.check_cast(to, &format!("{}.{name}", mapping.table))?;
    }
    Ok(())
}

/// A column that a select yields.
pub(super) struct Yielded {
    /// Its type.
    pub(super) kind: Type,
    /// The table and the place in it that it comes from, if it is one's column as it is.
    pub(super) origin: Option<(u32, i16)>,
}

/// What the mapping's select yields for its columns.
pub(super) fn select_columns(
    source: &mut Connection,
    mapping: &Mapping,
) -> Result<Vec<Yielded>, MigrateError> {
    let select = sql::fill(&mapping.select, "keys", |_| "TRUE".to_owned())?;
    let prepared = source.client.prepare(&select);
    let prepared = prepared.map_err(|error| match error.as_db_error() {
        // Syntax, unknown names, types that do not fit: the text is what is wrong.
        Some(told)
            if told.code().code().starts_with("42") && *told.code() != SqlState::INSUFFICIENT_PRIVILEGE =>
        {
            MigrateError::Usage(format!(
                "the select for {} does not run at {}: {}; correct it in the manifest",
                mapping.table,
                source.place.shown,
                words(told)
            ))
        }
        _ => source.fault(error),
    })?;
    let oids: Vec<u32> = prepared.columns().iter().map(|column| column.type_().oid()).collect();
    let skipped = if mapping.needs_key_map() { mapping.root_key.len() } else { 0 };
    if oids.len() != skipped + mapping.columns.len() {
        return Err(MigrateError::Usage(format!(
            "the select for {} yields {} columns instead of {}",
            mapping.table,
            oids.len(),
            skipped + mapping.columns.len()
        )));
    }
    let origins = prepared.columns().iter().map(|column| column.table_oid().zip(column.column_id()));
    let yielded = Type::look_up(source, &oids)?.into_iter().zip(origins);
    Ok(yielded.skip(skipped).map(|(kind, origin)| Yielded { kind, origin }).collect())
}
