//! Two databases and a stream between them.

use pg_harness::{Database, shared_database};

use crate::drivers::postgres::connection::{Address, End};
use crate::drivers::postgres::peer::Peer;
use crate::drivers::postgres::source::PgSource;
use crate::engine::{Mapping, Stream};

pub(super) struct World {
    pub(super) source: Database,
    pub(super) target: Database,
}

impl World {
    pub(super) fn new(source: &str, target: &str) -> Self {
        let world = Self { source: shared_database().unwrap(), target: shared_database().unwrap() };
        world.source.run(source).unwrap();
        world.target.run(target).unwrap();
        world
    }

    pub(super) fn open_source(&self) -> PgSource {
        let address = Address::new(self.source.url(), End::Source).unwrap();
        let peer = Peer::new(Address::new(self.target.url(), End::Target).unwrap());
        PgSource::connect(&address, peer).unwrap()
    }
}

/// A mapping of some columns to the same ones; the first is the key.
pub(super) fn same(table: &str, columns: &[&str]) -> Mapping {
    let columns: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
    let key = vec![columns[0].clone()];
    Mapping {
        table: table.to_owned(),
        key: key.clone(),
        carries: key.clone(),
        select: format!("SELECT {} FROM {table} WHERE {{keys {}}}", columns.join(", "), key[0]),
        columns,
        root: table.to_owned(),
        root_key: key,
        joins: Vec::new(),
    }
}

pub(super) fn stream(mappings: Vec<Mapping>) -> Stream {
    Stream { name: "items".to_owned(), mappings }
}
