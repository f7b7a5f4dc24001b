//! What the target's catalogue says of a table that a mapping fills.
//!
//! Invariant: whatever the engine could not keep right is refused here, before a row is written.

use serde::Deserialize;

use super::connection::{Connection, column};
use super::fingerprint::tree;
use super::sql;
use super::types::Type;
use crate::engine::Mapping;
use crate::engine::driver::{ColumnShape, TableShape};
use crate::error::MigrateError;

/// A table that a mapping fills.
#[derive(Debug, Clone)]
pub(super) struct TargetTable {
    /// With its schema, quoted.
    pub(super) name: String,
    /// The mapping's columns.
    pub(super) columns: Vec<Type>,
    /// Every column of it.
    pub(super) attributes: Vec<Attribute>,
    /// Whether a unique index over exactly the key can decide an ON CONFLICT; one that is deferrable cannot.
    pub(super) arbiter: bool,
    /// Unique indexes and exclusion constraints beside the key's, those that only a partition has among them.
    pub(super) uniques: Vec<Unique>,
    /// Changes with the columns and their types, and with the triggers that fire for the applier.
    pub(super) signature: String,
    /// Whether the table is an ordinary one, whose indexes can be dropped and built again.
    pub(super) ordinary: bool,
}

/// A unique index, or an exclusion constraint's.
#[derive(Debug, Clone)]
pub(super) struct Unique {
    /// Its name.
    pub(super) name: String,
    /// What it stands on, with its schema, quoted: the table, or a partition if that alone has it.
    pub(super) relation: String,
    /// Which of the table's rows are kept there; nothing: all.
    pub(super) kept: Option<String>,
    /// Its columns and expressions.
    pub(super) parts: Vec<Part>,
    /// Whether it is an exclusion constraint's, whose values exclude others than their equals.
    pub(super) excludes: bool,
    /// Its condition.
    pub(super) condition: Option<String>,
    /// Whether it is checked at commit or at a statement's end; by a trigger, that is, which does not fire for the applier.
    pub(super) deferrable: bool,
    /// The columns that decide it.
    pub(super) attributes: Vec<String>,
}

/// A column or an expression of a unique index.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Part {
    /// As the catalogue prints it.
    text: String,
    /// By which operator two rows exclude each other, with its schema: `=` alone would be found by the `search_path`.
    pub(super) operator: String,
    /// The collation of an expression, or one that is not the column's.
    collation: Option<String>,
    /// Whether NULL is equal to NULL.
    nulls_equal: bool,
}

impl Part {
    /// SQL for its value in a row.
    pub(super) fn value(&self) -> String {
        format!("({})", self.text)
    }

    /// SQL that has an expression compared as the index does.
    pub(super) fn collated(&self, expression: &str) -> String {
        match &self.collation {
            Some(collation) => format!("{expression} COLLATE {collation}"),
            None => expression.to_owned(),
        }
    }
}

/// Whether rows with NULL in one of these parts exclude each other.
pub(super) fn nulls_are_equal(parts: &[Part]) -> bool {
    parts.iter().any(|part| part.nulls_equal)
}

/// SQL that groups rows which exclude each other, and a condition: a row excludes others at all.
pub(super) fn grouping(parts: &[Part]) -> (String, String) {
    let values: Vec<String> = parts.iter().map(Part::value).collect();
    let collated = parts.iter().zip(&values).map(|(part, value)| part.collated(value));
    let condition = match nulls_are_equal(parts) {
        true => "TRUE".to_owned(),
        false => format!("num_nulls({}) = 0", values.join(", ")),
    };
    (collated.collect::<Vec<_>>().join(", "), condition)
}

impl Unique {
    /// Whether it is over exactly the mapping's key.
    pub(super) fn is_key_of(&self, mapping: &Mapping) -> bool {
        let mut key: Vec<String> = mapping.key.iter().map(|column| sql::name(column)).collect();
        let mut parts: Vec<String> = self.parts.iter().map(|part| sql::name(&unquote(&part.text))).collect();
        key.sort_unstable();
        parts.sort_unstable();
        self.condition.is_none() && self.kept.is_none() && !self.excludes && key == parts
    }

    /// Whether the mapping fills all that decides it.
    pub(super) fn is_filled_by(&self, mapping: &Mapping) -> bool {
        self.attributes.iter().all(|column| mapping.columns.contains(column))
    }

    /// A condition on a row of the table: it has an entry in this index.
    pub(super) fn covers(&self) -> String {
        let both = [self.kept.as_deref(), self.condition.as_deref()].into_iter().flatten();
        let both: Vec<String> = both.map(|condition| format!("({condition})")).collect();
        if both.is_empty() { "TRUE".to_owned() } else { both.join(" AND ") }
    }

    /// The same on another server, as a condition that holds of no fewer rows, and whether of more: which rows belong to a hash
    /// partition is told by its table's number, which is somebody else's there.
    pub(super) fn covers_elsewhere(&self) -> (String, bool) {
        let hashed = self.kept.as_ref().is_some_and(|kept| kept.contains("satisfies_hash_partition("));
        let all = Self { kept: self.kept.clone().filter(|_| !hashed), ..self.clone() };
        (all.covers(), hashed)
    }
}

/// A column as the catalogue knows it.
#[derive(Debug, Clone)]
pub(super) struct Attribute {
    pub(super) name: String,
    pub(super) oid: u32,
    pub(super) generated: bool,
    always: bool,
    not_null: bool,
    /// A row without a value for it is refused.
    required: bool,
    /// Its type, with what limits its values.
    declared: String,
    collation: Option<String>,
    /// What its database computes where nobody gives a value. Never a sequence's next number, which no row has yet.
    pub(super) computed: Option<String>,
}

impl Attribute {
    /// SQL for an expression as it is once the column holds it.
    pub(super) fn stored(&self, expression: &str) -> String {
        self.compared(&format!("({expression})::{}", self.declared))
    }

    /// SQL for an expression that is compared as the column is.
    pub(super) fn compared(&self, expression: &str) -> String {
        let collation = self.collation.as_ref().map(|name| format!(" COLLATE {name}"));
        format!("{expression}{}", collation.unwrap_or_default())
    }
}

/// Reads it.
pub(super) fn target_table(
    connection: &mut Connection,
    mapping: &Mapping,
) -> Result<TargetTable, MigrateError> {
    let name = connection.qualified(&mapping.table)?;
    let regclass = table(&name);
    let kind = check_kind(connection, &name, &regclass)?;
    let attributes = attributes(connection, &regclass)?;
    let filled = filled(&name, mapping, &attributes)?;
    let oids: Vec<u32> = filled.iter().map(|attribute| attribute.oid).collect();
    let columns = Type::look_up(connection, &oids)?;
    refuse_always_triggers(connection, &name, &regclass)?;
    let mut uniques = uniques(connection, &name)?;
    check_key_index(&name, mapping, &uniques)?;
    let arbiter = uniques.iter().any(|unique| unique.is_key_of(mapping) && !unique.deferrable);
    // An index of another collation may hold keys equal that are none.
    uniques.retain(|unique| {
        !unique.is_key_of(mapping) || unique.parts.iter().any(|part| part.collation.is_some())
    });
    let signature = connection.text(&signature(&name))?.unwrap_or_default();
    Ok(TargetTable { name, signature, columns, attributes, arbiter, uniques, ordinary: kind == "r" })
}

/// A query for what changes with a table's columns and their types, and with the triggers that fire for the applier.
pub(super) fn signature(name: &str) -> String {
    format!(
        "SELECT md5(concat_ws('/', (SELECT string_agg(concat_ws(':', attname, atttypid, atttypmod, attgenerated, attidentity), \
             ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = {table} AND attnum > 0 AND NOT attisdropped), \
           (SELECT string_agg(t.oid::text, ',' ORDER BY t.oid) FROM {})))",
        always_triggers(&table(name)),
        table = table(name)
    )
}

fn table(name: &str) -> String {
    format!("{}::regclass", sql::value(name))
}

/// A table's columns.
pub(super) fn attributes(
    connection: &mut Connection,
    regclass: &str,
) -> Result<Vec<Attribute>, MigrateError> {
    let rows = connection.rows(&format!(
        "SELECT attname, atttypid, (attgenerated <> '')::int, (attidentity = 'a')::int, attnotnull::int, \
           (attnotnull AND attidentity = '' AND NOT atthasdef)::int, format_type(atttypid, atttypmod), \
           (SELECT format('%I.%I', n.nspname, c.collname) FROM pg_collation c JOIN pg_namespace n \
             ON n.oid = c.collnamespace WHERE c.oid = attcollation), \
           (SELECT e.text FROM pg_attrdef d CROSS JOIN pg_get_expr(d.adbin, d.adrelid) e(text) \
             WHERE d.adrelid = attrelid AND d.adnum = attnum AND e.text !~ '^nextval\\(') \
         FROM pg_attribute WHERE attrelid = {regclass} AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    ))?;
    let read = |row| Attribute {
        name: column(row, 0).to_owned(),
        oid: column(row, 1).parse().unwrap_or(0),
        generated: row.get(2) == Some("1"),
        always: row.get(3) == Some("1"),
        not_null: row.get(4) == Some("1"),
        required: row.get(5) == Some("1"),
        declared: column(row, 6).to_owned(),
        collation: row.get(7).map(str::to_owned),
        computed: row.get(8).map(str::to_owned),
    };
    Ok(rows.iter().map(read).collect())
}

fn filled<'a>(
    name: &str,
    mapping: &Mapping,
    attributes: &'a [Attribute],
) -> Result<Vec<&'a Attribute>, MigrateError> {
    mapping.key.iter().try_for_each(|column| check_key_column(name, column, attributes))?;
    check_left_out(name, mapping, attributes)?;
    mapping.columns.iter().map(|column| filled_column(name, mapping, column, attributes)).collect()
}

fn find<'a>(name: &str, column: &str, attributes: &'a [Attribute]) -> Result<&'a Attribute, MigrateError> {
    attributes.iter().find(|attribute| attribute.name == column).ok_or_else(|| {
        MigrateError::refused(
            format!("{name} has no column {column}"),
            "add it, or take it out of the mapping",
        )
    })
}

/// A column of the key must have a value.
pub(super) fn check_key_column(
    name: &str,
    column: &str,
    attributes: &[Attribute],
) -> Result<(), MigrateError> {
    if find(name, column, attributes)?.not_null {
        return Ok(());
    }
    Err(MigrateError::refused(
        format!("{name}.{column} is part of the key and may be NULL, which is equal to nothing"),
        format!("ALTER TABLE {name} ALTER COLUMN {} SET NOT NULL", sql::name(column)),
    ))
}

/// A column that must have a value must be filled.
fn check_left_out(name: &str, mapping: &Mapping, attributes: &[Attribute]) -> Result<(), MigrateError> {
    let left_out =
        attributes.iter().find(|attribute| attribute.required && !mapping.columns.contains(&attribute.name));
    let Some(Attribute { name: column, .. }) = left_out else { return Ok(()) };
    Err(MigrateError::refused(
        format!("{name}.{column} is NOT NULL without a DEFAULT, and the mapping does not fill it"),
        format!(
            "add it to the mapping's columns and select, or ALTER TABLE {name} ALTER COLUMN {} SET DEFAULT …",
            sql::name(column)
        ),
    ))
}

/// A column that the mapping fills must be one that can be written.
pub(super) fn filled_column<'a>(
    name: &str,
    mapping: &Mapping,
    column: &String,
    attributes: &'a [Attribute],
) -> Result<&'a Attribute, MigrateError> {
    let attribute = find(name, column, attributes)?;
    if attribute.generated {
        return Err(MigrateError::refused(
            format!("{name}.{column} is generated, so its database computes it"),
            "take it out of the mapping",
        ));
    }
    if attribute.always && !mapping.key.contains(column) {
        return Err(MigrateError::refused(
            format!(
                "{name}.{column} is GENERATED ALWAYS AS IDENTITY and no part of the key: it cannot be changed"
            ),
            format!("ALTER TABLE {name} ALTER COLUMN {} SET GENERATED BY DEFAULT", sql::name(column)),
        ));
    }
    Ok(attribute)
}

/// Rows are found by a unique index over exactly the key.
pub(super) fn check_key_index(name: &str, mapping: &Mapping, uniques: &[Unique]) -> Result<(), MigrateError> {
    if uniques.iter().any(|unique| unique.is_key_of(mapping)) {
        return Ok(());
    }
    Err(MigrateError::refused(
        format!("{name} has no unique index over exactly its key ({})", mapping.key.join(", ")),
        "add a primary key or a unique constraint over these columns, or correct the mapping's key",
    ))
}

/// Only tables are filled.
pub(super) fn check_kind(
    connection: &mut Connection,
    name: &str,
    regclass: &str,
) -> Result<String, MigrateError> {
    let kind = connection.text(&format!("SELECT relkind FROM pg_class WHERE oid = {regclass}"))?;
    let heirs = connection.texts(&format!(
        "SELECT i.inhrelid::regclass::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhparent \
         WHERE c.oid = {regclass} AND c.relkind = 'r' ORDER BY 1"
    ))?;
    if !heirs.is_empty() {
        // Whoever reads it reads theirs, so a row that another mapping writes to an heir would count twice.
        return Err(MigrateError::refused(
            format!("{name} is inherited by {}, whose rows are read as its own", heirs.join(", ")),
            "fill a table that nothing inherits from, or one with partitions",
        ));
    }
    match kind.unwrap_or_default() {
        kind if kind == "r" || kind == "p" => Ok(kind),
        _ => Err(MigrateError::refused(
            format!("{name} is a view or a foreign table"),
            "name the table behind it in the mapping",
        )),
    }
}

/// Triggers that fire even for the applier, on the table or on one of its partitions, which are written to through it.
fn always_triggers(regclass: &str) -> String {
    format!(
        "pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid \
         WHERE (t.tgrelid = {regclass} OR t.tgrelid IN (SELECT relid FROM pg_partition_tree({regclass}))) \
         AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R') \
         AND p.pronamespace <> coalesce(to_regnamespace('banyan')::oid, 0)"
    )
}

/// They would change what it writes.
pub(super) fn refuse_always_triggers(
    connection: &mut Connection,
    name: &str,
    regclass: &str,
) -> Result<(), MigrateError> {
    let found = connection.rows(&format!(
        "SELECT quote_ident(t.tgname), t.tgrelid::regclass FROM {} ORDER BY t.oid",
        always_triggers(regclass)
    ))?;
    let Some(first) = found.first() else { return Ok(()) };
    let names: Vec<&str> = found.iter().map(|row| column(row, 0)).collect();
    Err(MigrateError::refused(
        format!("the triggers {} of {name} fire for replicated rows, too", names.join(", ")),
        format!(
            "ALTER TABLE {} ENABLE TRIGGER {} (without ALWAYS or REPLICA); what it changed meanwhile `migrate verify` finds",
            column(first, 1),
            column(first, 0)
        ),
    ))
}

/// What decides the index `i`, part by part. What an older server does not know of an index, JSON does not either.
pub(super) const PARTS: &str = "(SELECT json_agg(json_build_object( \
    'text', pg_get_indexdef(i.indexrelid, at, false), \
    'operator', coalesce((SELECT format('OPERATOR(%I.%s)', n.nspname, o.oprname) FROM pg_operator o \
      JOIN pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid = coalesce( \
        (SELECT x.conexclop[at] FROM pg_constraint x WHERE x.conindid = i.indexrelid AND x.conexclop IS NOT NULL), \
        (SELECT m.amopopr FROM pg_opclass f JOIN pg_amop m ON m.amopfamily = f.opcfamily AND m.amopstrategy = 3 \
           AND m.amoppurpose = 's' AND m.amoplefttype = f.opcintype AND m.amoprighttype = f.opcintype \
         WHERE f.oid = i.indclass[at - 1]))), '='), \
    'collation', (SELECT format('%I.%I', n.nspname, l.collname) FROM pg_collation l \
      JOIN pg_namespace n ON n.oid = l.collnamespace WHERE l.oid = i.indcollation[at - 1] AND l.oid IS DISTINCT FROM \
        (SELECT a.attcollation FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = i.indkey[at - 1])), \
    'nulls_equal', coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)) ORDER BY at) \
    FROM generate_series(1, i.indnkeyatts) at)";

/// The columns that the index `i` uses.
pub(super) const USED: &str = "(SELECT json_agg(a.attname) FROM pg_attribute a WHERE a.attrelid = i.indrelid \
    AND a.attnum > 0 AND (a.attnum = ANY (i.indkey) OR EXISTS (SELECT FROM pg_depend d \
      WHERE d.objid = i.indexrelid AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum)))";

/// A table's unique indexes and exclusion constraints, each once: a partition's is its own only where no table above has it.
/// Those that loading has dropped for a while are among them.
pub(super) fn uniques(connection: &mut Connection, name: &str) -> Result<Vec<Unique>, MigrateError> {
    let mut rows = connection.rows(&format!(
        "WITH RECURSIVE {} SELECT quote_ident(c.relname), {PARTS}, \
           pg_get_expr(i.indpred, i.indrelid), (NOT i.indimmediate)::int, {USED}, \
           format('%I.%I', n.nspname, r.relname), \
           CASE WHEN r.oid <> {table}::regclass THEN pg_get_partition_constraintdef(r.oid) END, i.indisexclusion::int \
         FROM tree JOIN pg_index i ON i.indrelid = tree.oid JOIN pg_class c ON c.oid = i.indexrelid \
         JOIN pg_class r ON r.oid = i.indrelid JOIN pg_namespace n ON n.oid = r.relnamespace \
         WHERE (i.indisunique OR i.indisexclusion) AND i.indisvalid \
           AND NOT EXISTS (SELECT FROM pg_partition_ancestors(i.indexrelid) a JOIN pg_index p ON p.indexrelid = a.relid \
             WHERE p.indexrelid <> i.indexrelid AND p.indisvalid AND p.indrelid IN (SELECT oid FROM tree))",
        tree(&[name.to_owned()]),
        table = sql::value(name)
    ))?;
    if connection.holds("to_regclass('banyan.dropped') IS NOT NULL")? {
        rows.extend(connection.rows(&format!(
            "SELECT d.name, d.parts, d.condition, d.is_deferrable::int, d.attributes, d.relation, NULL, 0 \
             FROM banyan.dropped d WHERE d.relation = {} AND d.parts IS NOT NULL \
               AND to_regclass(split_part(d.relation, '.', 1) || '.' || d.name) IS NULL",
            sql::value(name)
        ))?);
    }
    let read = |row| Unique {
        name: column(row, 0).to_owned(),
        parts: serde_json::from_str(column(row, 1)).unwrap_or_default(),
        condition: row.get(2).map(str::to_owned),
        deferrable: row.get(3) == Some("1"),
        attributes: serde_json::from_str(column(row, 4)).unwrap_or_default(),
        relation: column(row, 5).to_owned(),
        kept: row.get(6).map(str::to_owned),
        excludes: row.get(7) == Some("1"),
    };
    Ok(rows.iter().map(read).collect())
}

/// A name as the catalogue prints it, without its quotes.
fn unquote(part: &str) -> String {
    match part.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        Some(inside) => inside.replace("\"\"", "\""),
        None => part.to_owned(),
    }
}

/// Every table of the application, those that others refer to first.
pub(super) fn describe(connection: &mut Connection) -> Result<Vec<TableShape>, MigrateError> {
    let rows = connection.rows(
        "WITH RECURSIVE own AS (SELECT c.oid, CASE WHEN pg_table_is_visible(c.oid) THEN quote_ident(c.relname) \
             ELSE format('%I.%I', n.nspname, c.relname) END AS name FROM pg_class c \
             JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition \
             AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'banyan') AND n.nspname NOT LIKE 'pg\\_%'), \
         depth AS (SELECT oid, 0 AS depth FROM own UNION \
           SELECT coalesce(pg_partition_root(f.conrelid), f.conrelid), d.depth + 1 FROM depth d \
           JOIN pg_constraint f ON f.confrelid = d.oid WHERE f.contype = 'f' AND d.depth < 40 \
             AND f.confrelid NOT IN (f.conrelid, coalesce(pg_partition_root(f.conrelid), 0))) \
         SELECT o.name, a.attname, format_type(a.atttypid, a.atttypmod), (a.attgenerated <> '')::int, \
           array_position((SELECT (i.indkey::int2[])[0:i.indnkeyatts - 1]::int[] FROM pg_index i WHERE i.indrelid = o.oid AND i.indisunique \
             AND i.indpred IS NULL AND i.indexprs IS NULL AND NOT EXISTS (SELECT FROM pg_attribute n \
               WHERE n.attrelid = o.oid AND n.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) AND NOT n.attnotnull) \
             ORDER BY i.indisprimary DESC, i.indnkeyatts, i.indexrelid LIMIT 1), a.attnum::int) \
         FROM own o JOIN pg_attribute a ON a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped \
         ORDER BY (SELECT max(d.depth) FROM depth d WHERE d.oid = o.oid), o.name, a.attnum",
    )?;
    let mut tables: Vec<(TableShape, Vec<(usize, String)>)> = Vec::new();
    for row in &rows {
        let name = column(row, 0);
        if tables.last().is_none_or(|(table, _)| table.name != name) {
            let table = TableShape { name: name.to_owned(), columns: Vec::new(), key: Vec::new() };
            tables.push((table, Vec::new()));
        }
        let Some((table, key)) = tables.last_mut() else { continue };
        let named = column(row, 1).to_owned();
        if let Some(place) = row.get(4).and_then(|place| place.parse().ok()) {
            key.push((place, named.clone()));
        }
        let (declared, generated) = (column(row, 2).to_owned(), row.get(3) == Some("1"));
        table.columns.push(ColumnShape { name: named, declared, generated });
    }
    let finish = |(mut table, mut key): (TableShape, Vec<(usize, String)>)| {
        key.sort_unstable();
        table.key = key.into_iter().map(|(_, name)| name).collect();
        table
    };
    Ok(tables.into_iter().map(finish).collect())
}
