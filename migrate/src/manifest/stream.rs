//! A manifest's mappings as the engine takes them.
//!
//! Invariant: the way there and the way back are two streams with names of their own, so their positions never mix.

use super::{Manifest, TableMap};
use crate::engine::{Mapping, Stream};
use crate::error::MigrateError;
use crate::flow::{End, Flow};

impl Manifest {
    /// The stream that fills `flow.to`. Refused if the manifest has no mapping in that direction.
    pub fn stream(&self, flow: Flow) -> Result<Stream, MigrateError> {
        let maps = self.maps(flow);
        if maps.is_empty() {
            return Err(MigrateError::refused(
                format!("the manifest of {} has no [[inverse]], so there is no way back", self.context),
                "add one [[inverse]] per table that the monolith gets back",
            ));
        }
        let name = match flow.to {
            End::Target => self.context.clone(),
            End::Source => format!("{}.back", self.context),
        };
        let forward = match flow.to {
            End::Target => &[],
            End::Source => self.mapping.as_slice(),
        };
        let mappings = |maps: &[TableMap]| maps.iter().map(TableMap::mapping).collect();
        Ok(Stream { name, mappings: mappings(maps), forward: mappings(forward) })
    }
}

impl TableMap {
    fn mapping(&self) -> Mapping {
        Mapping {
            table: self.table.clone(),
            key: self.key.clone(),
            columns: self.columns.clone(),
            carries: self.carries.clone(),
            select: self.select.clone(),
            root: self.from.clone(),
            root_key: self.from_key.clone(),
            joins: self.joins.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const THERE: Flow = Flow { from: End::Source, to: End::Target };
    const BACK: Flow = Flow { from: End::Target, to: End::Source };
    const ITEM: &str = "[[mapping]]\ntable = 'item'\nkey = ['id']\ncolumns = ['id', 'name']\n";

    fn parse(text: &str) -> Result<Manifest, String> {
        let text = format!("context = 'items'\n{text}");
        Manifest::parse(Path::new("extraction.toml"), &text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_manifest_for_dual_write_gives_streams_both_ways() {
        let text = include_str!("../../../extracted/users/extraction.toml");
        let manifest = Manifest::parse(Path::new("extraction.toml"), text).unwrap();
        let (there, back) = (manifest.stream(THERE).unwrap(), manifest.stream(BACK).unwrap());
        assert_eq!(
            (there.name.clone(), back.name),
            (manifest.context.clone(), format!("{}.back", manifest.context))
        );
        let (map, mapping) = (&manifest.mapping[0], &there.mappings[0]);
        assert_eq!(
            (&mapping.root, &mapping.root_key),
            (&manifest.source.root, &vec![manifest.source.key.clone()])
        );
        assert_eq!(mapping.carries, map.key[..1]);
    }

    #[test]
    fn a_mapping_that_says_all_needs_neither_end() {
        let text = format!(
            "{ITEM}from = 'old_item'\nfrom_key = ['a', 'b']\ncarries = []\n\
             select = 'SELECT a, b, id, name FROM old_item AS i WHERE {{keys i.a, coalesce(i.b, 0)}}'\n\
             [[mapping.join]]\ntable = 'owner'\ncolumns = ['id']\n\
             keys = 'SELECT a, b FROM old_item WHERE {{values owner_id}}'\n"
        );
        let manifest = parse(&text).unwrap();
        assert!(!manifest.has_versions());
        let stream = manifest.stream(THERE).unwrap();
        let mapping = &stream.mappings[0];
        assert!(mapping.needs_key_map());
        assert_eq!((mapping.root.as_str(), mapping.root_key.len()), ("old_item", 2));
        assert_eq!(mapping.joins[0].table, "owner");
        assert!(manifest.stream(BACK).unwrap_err().to_string().contains("[[inverse]]"));
    }

    #[test]
    fn faults_are_told_with_their_line() {
        let select = "select = 'SELECT 1 WHERE {keys i.id}'\n";
        let cases = [
            (format!("{ITEM}{select}"), "extraction.toml:2: [[mapping]] item needs from = "),
            (format!("{ITEM}{select}from = 'old'\n"), "extraction.toml:2: [[mapping]] item needs from_key"),
            (
                format!("{ITEM}{select}from = 'old'\nfrom_key = ['a', 'b']\n"),
                "extraction.toml:6: [[mapping]] item: {keys …} names 1 expressions",
            ),
            (
                format!(
                    "{ITEM}select = 'SELECT 1 WHERE {{keys a, b}}'\nfrom = 'old'\nfrom_key = ['a', 'b']\n"
                ),
                "extraction.toml:2: [[mapping]] item: the source key has 2 columns",
            ),
            (
                format!("{ITEM}{select}from = 'old'\nfrom_key = ['a']\ncarries = ['colour']\n"),
                "extraction.toml:9: [[mapping]] item: colour is not among its columns",
            ),
            (
                format!(
                    "[source]\nroot = 'old'\nkey = 'a'\n{ITEM}{select}[[mapping.join]]\ntable = 'owner'\ncolumns = ['x', 'y']\n"
                ),
                "extraction.toml:12: [[mapping]] item: join owner: its 2 columns cannot be the source key",
            ),
            (format!("[source]\nversion = 'v'\n{ITEM}{select}"), "extraction.toml:2: [source] needs root"),
        ];
        for (text, expected) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
