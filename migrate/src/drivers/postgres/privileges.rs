//! What the two roles must be allowed, asked before anything is done, so that all that is missing is told at once.
//!
//! Invariant: every refusal holds the statements that mend it.

use super::capture::log_name;
use super::connection::Connection;
use super::fingerprint::tree;
use super::sql;
use crate::engine::Stream;
use crate::error::MigrateError;

/// Refused unless the source permits what capture needs.
pub(super) fn check_source(connection: &mut Connection, stream: &Stream) -> Result<(), MigrateError> {
    let missing = missing_at_source(connection, stream)?;
    refuse(connection, &missing)
}

/// Refused unless the target permits what the applier needs.
pub(super) fn check_target(connection: &mut Connection, stream: &Stream) -> Result<(), MigrateError> {
    let missing = missing_at_target(connection, stream)?;
    refuse(connection, &missing)
}

/// Triggers can be set to fire always only by a table's owner.
pub(super) fn missing_at_source(
    connection: &mut Connection,
    stream: &Stream,
) -> Result<Vec<String>, MigrateError> {
    let (mut tables, mut names) = (Vec::new(), Vec::new());
    for (table, _) in stream.captured() {
        let name = connection.qualified(&table)?;
        names.push(sql::value(&name));
        tables.push(name);
    }
    connection.texts(&format!(
        "WITH RECURSIVE {} \
         SELECT format('GRANT SELECT ON %s TO %I', u.name, current_user) FROM unnest(ARRAY[{}]::text[]) u(name) \
           WHERE NOT has_table_privilege(u.name, 'SELECT') \
         UNION ALL {OWNERSHIP} UNION ALL {SCHEMA_AND_TEMP}",
        tree(&tables),
        names.join(", ")
    ))
}

/// What reading needs once capture stands: a log is read and pruned, a heartbeat written, keys staged in temporary tables.
pub(super) fn check_reader(connection: &mut Connection, stream: &Stream) -> Result<(), MigrateError> {
    let (mut tables, mut logs) = (Vec::new(), Vec::new());
    for (table, _) in stream.captured() {
        tables.push(sql::value(&connection.qualified(&table)?));
        logs.push(sql::value(log_name(&stream.name, &table).trim_start_matches("banyan.")));
    }
    // By way of the catalogue, since a role that may not use the schema may not look its tables up either.
    let missing = connection.texts(&format!(
        "SELECT format('GRANT SELECT ON %s TO %I', u.name, current_user) FROM unnest(ARRAY[{}]::text[]) u(name) \
           WHERE NOT has_table_privilege(u.name, 'SELECT') \
         UNION ALL SELECT format('GRANT USAGE ON SCHEMA banyan TO %I', current_user) FROM pg_namespace \
           WHERE nspname = 'banyan' AND NOT has_schema_privilege(oid, 'USAGE') \
         UNION ALL SELECT format('GRANT SELECT, DELETE ON banyan.%I TO %I', c.relname, current_user) \
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'banyan' \
           WHERE c.relname = ANY (ARRAY[{}]::name[]) \
           AND NOT (has_table_privilege(c.oid, 'SELECT') AND has_table_privilege(c.oid, 'DELETE')) \
         UNION ALL SELECT format('GRANT SELECT, INSERT, UPDATE ON banyan.heartbeat TO %I', current_user) \
           FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'banyan' \
           WHERE c.relname = 'heartbeat' AND NOT (has_table_privilege(c.oid, 'SELECT') \
           AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')) \
         UNION ALL SELECT format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), current_user) \
           WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')",
        tables.join(", "),
        logs.join(", ")
    ))?;
    refuse(connection, &missing)
}

/// Refused unless the target permits what loading needs.
pub(super) fn check_loader(connection: &mut Connection, tables: &[&str]) -> Result<(), MigrateError> {
    let missing = missing_for_loading(connection, tables)?;
    refuse(connection, &missing)
}

/// Loading drops indexes and builds them again: the first is an owner's right, the second takes room in the schema.
pub(super) fn missing_for_loading(
    connection: &mut Connection,
    tables: &[&str],
) -> Result<Vec<String>, MigrateError> {
    let tables: Vec<String> = tables.iter().map(|table| (*table).to_owned()).collect();
    connection.texts(&format!(
        "WITH RECURSIVE {} {OWNERSHIP} \
         UNION ALL SELECT DISTINCT format('GRANT CREATE ON SCHEMA %I TO %I', n.nspname, current_user) \
           FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace \
           WHERE NOT has_schema_privilege(n.oid, 'CREATE')",
        tree(&tables)
    ))
}

/// Rows are written with triggers and foreign-key actions off.
pub(super) fn missing_at_target(
    connection: &mut Connection,
    stream: &Stream,
) -> Result<Vec<String>, MigrateError> {
    let mut tables = Vec::new();
    for mapping in &stream.mappings {
        tables.push(sql::value(&connection.qualified(&mapping.table)?));
    }
    let mut missing = connection.texts(&format!(
        "SELECT format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %I', u.name, current_user) \
           FROM unnest(ARRAY[{}]::text[]) u(name) WHERE NOT (has_table_privilege(u.name, 'SELECT') \
           AND has_table_privilege(u.name, 'INSERT') AND has_table_privilege(u.name, 'UPDATE') \
           AND has_table_privilege(u.name, 'DELETE')) \
         UNION ALL {SCHEMA_AND_TEMP}",
        tables.join(", ")
    ))?;
    if connection.try_run("BEGIN; SET LOCAL session_replication_role = replica").is_err() {
        missing.extend(connection.text(
            "ROLLBACK; SELECT format(CASE WHEN current_setting('server_version_num')::int >= 150000 \
             THEN 'GRANT SET ON PARAMETER session_replication_role TO %I' \
             ELSE 'ALTER ROLE %I SUPERUSER' END, current_user)",
        )?);
    }
    connection.run("ROLLBACK")?;
    Ok(missing)
}

/// For the tables of a CTE `tree`. Who owns one as a superuser gives the table away, not the right to be one.
const OWNERSHIP: &str = "SELECT DISTINCT CASE WHEN o.rolsuper \
       THEN format('ALTER TABLE %I.%I OWNER TO %I', n.nspname, c.relname, current_user) \
       ELSE format('GRANT %I TO %I', o.rolname, current_user) END \
     FROM tree JOIN pg_class c ON c.oid = tree.oid JOIN pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_roles o ON o.oid = c.relowner WHERE NOT pg_has_role(c.relowner, 'USAGE')";

const SCHEMA_AND_TEMP: &str = "SELECT format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user) \
       WHERE to_regnamespace('banyan') IS NULL AND NOT has_database_privilege(current_database(), 'CREATE') \
     UNION ALL SELECT format('GRANT USAGE, CREATE ON SCHEMA banyan TO %I', current_user) \
       FROM pg_namespace WHERE nspname = 'banyan' AND NOT has_schema_privilege(oid, 'CREATE') \
     UNION ALL SELECT format('GRANT TEMPORARY ON DATABASE %I TO %I', current_database(), current_user) \
       WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')";

fn refuse(connection: &Connection, missing: &[String]) -> Result<(), MigrateError> {
    if missing.is_empty() {
        return Ok(());
    }
    let mut missing = missing.to_vec();
    missing.dedup();
    Err(MigrateError::refused(
        format!("{} does not permit its role everything that is needed", connection.place.shown),
        format!("run there: {}", missing.join("; ")),
    ))
}
