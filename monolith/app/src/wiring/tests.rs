//! What holds for all contexts together: whose tables are whose, and who hears whom.

use std::collections::BTreeSet;

use db::Backend;
use db::schema::{self, SchemaSource, Table};

use db::testing::scratch;

use super::*;
use crate::metrics::PortMetrics;

/// Whose a table is: the context whose name it begins with, in PostgreSQL in the schema of that name.
fn owner(backend: Backend, table: &Table) -> Option<&'static SchemaSource> {
    let is_owner = |source: &&SchemaSource| {
        let in_schema = backend == Backend::Sqlite || table.schema == source.schema();
        in_schema && source.tables.contains(&table.name.as_str())
    };
    SCHEMAS.iter().find(is_owner)
}

/// What the schema of every table and foreign key breaks, in words.
fn faults(backend: Backend, facts: &schema::Facts) -> Vec<String> {
    let mut faults = Vec::new();
    for table in &facts.tables {
        match owner(backend, table) {
            Some(source) if table.name.starts_with(&format!("{}_", source.schema())) => {}
            Some(source) => faults.push(format!("{} of {} has another prefix", table.name, source.context)),
            None if table.name == "banyan_schema" => {}
            None => faults.push(format!("{} belongs to no context", table.name)),
        }
    }
    for key in &facts.foreign_keys {
        let ends = [&key.from, &key.to].map(|table| owner(backend, table).map(|source| source.context));
        if ends[0] != ends[1] {
            faults.push(format!("a foreign key goes from {} to {}", key.from.name, key.to.name));
        }
    }
    faults
}

#[test]
fn tables_belong_to_one_context_and_no_foreign_key_crosses() {
    for backend in [Backend::Sqlite, Backend::Postgres] {
        let db = scratch(backend, &SCHEMAS);
        let mut facts = schema::facts(&db).unwrap();
        assert!(facts.tables.len() > 20 && facts.foreign_keys.len() > 4, "{facts:?}");
        assert_eq!(faults(backend, &facts), Vec::<String>::new(), "{backend:?}");

        let find = |name: &str| facts.tables.iter().find(|table| table.name == name).unwrap().clone();
        let crossing = schema::ForeignKey { from: find("orders_orders"), to: find("users_users") };
        facts.foreign_keys.push(crossing);
        facts.tables.push(Table { name: "helpers".to_owned(), ..find("users_users") });
        assert_eq!(faults(backend, &facts).len(), 2, "{backend:?}");
    }
}

#[test]
fn every_schema_lists_its_own_tables() {
    for source in &SCHEMAS {
        assert_eq!(schema::tables_of(source).unwrap(), source.tables, "{}", source.context);
    }
}

#[tokio::test]
async fn whoever_subscribes_has_an_ear_and_every_ear_is_subscribed() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.database.path = folder.path().join("monolith.db");
    let db = open_database(&settings).unwrap();
    let metrics = PortMetrics::new(&platform::metrics::Metrics::new());
    // `serving` checks it at every start.
    let contexts = serving(&settings, &db, None, &metrics).unwrap();
    let consumers: BTreeSet<&str> = contexts.outbox.consumers().into_iter().collect();
    assert_eq!(consumers, BTreeSet::from(["cart", "inventory", "orders", "payments", "shipping"]));
    let one_less = Outbox::new(&SUBSCRIPTIONS[1..]);
    assert!(contexts.bus.check(&one_less).is_err());
}
