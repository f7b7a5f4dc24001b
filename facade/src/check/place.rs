//! Where each setting stands in a file.
//!
//! Invariant: a place is sought by the name that a fault begins with; of a name that is not there, the closest table
//! that is.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::check::secret;

/// Bytes of the file.
pub(super) type Span = Range<usize>;

/// One part of a setting's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// The places of a file.
pub(super) struct Places<'t> {
    root: DeTable<'t>,
    broken: Vec<(String, Span)>,
    /// Every value that is no table and no list, by name.
    pub(super) leaves: Vec<(Vec<Step>, Span)>,
}

impl<'t> Places<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let root = root.into_inner();
        let end = text.len();
        let place = |error: &toml::de::Error| error.span().unwrap_or(end..end);
        let told = |error: &toml::de::Error| (error.message().to_owned(), place(error));
        let mut broken: Vec<_> = errors.iter().map(told).collect();
        // Numbers are read only here, and the parser's words are of its own types.
        if broken.is_empty() {
            let number = "the number is out of bounds; no whole number is above 9223372036854775807";
            let error = toml::from_str::<toml::Table>(text).err();
            broken.extend(error.as_ref().map(|error| (number.to_owned(), place(error))));
        }
        let mut leaves = Vec::new();
        for (name, value) in &root {
            collect(&mut vec![Step::Key(name.get_ref().to_string())], value, &mut leaves);
        }
        leaves.sort_by_key(|(_, span)| span.start);
        Self { root, broken, leaves }
    }

    /// What is no TOML, and where.
    pub(super) fn broken(&self) -> &[(String, Span)] {
        &self.broken
    }

    /// The place of the setting that a fault begins with: ``setting `a.b` ``, ``unknown setting `a.b` ``,
    /// ``context `a` ``, or ``route 3 `/a`, `prefix` ``.
    pub(super) fn named_by(&self, fault: &str) -> Option<Span> {
        let mut quoted = fault.split('`').skip(1).step_by(2);
        if let Some(rest) = fault.strip_prefix("route ") {
            let number: usize = rest.split(' ').next()?.parse().ok()?;
            let mut steps = vec![Step::Key("routes".to_owned()), Step::Index(number.checked_sub(1)?)];
            let has_field = rest.split('`').nth(2).is_some_and(|between| between == ", ");
            steps.extend(quoted.nth(1).filter(|_| has_field).map(|field| Step::Key(field.to_owned())));
            return self.find(&steps);
        }
        let name = quoted.next()?;
        match fault.split('`').next()? {
            "setting " | "unknown setting " => self.find(&steps(name)),
            "context " => self.find(&[Step::Key("contexts".to_owned()), Step::Key(name.to_owned())]),
            _ => None,
        }
    }

    /// The value, where it is a leaf, else the key; of a name that is not there, as much of it as is.
    fn find(&self, path: &[Step]) -> Option<Span> {
        let Some((Step::Key(first), rest)) = path.split_first() else { return None };
        let (key, mut value) = member(&self.root, first)?;
        let mut place = key;
        for step in rest {
            let next = match (value.get_ref(), step) {
                (DeValue::Table(table), Step::Key(name)) => member(table, name),
                (DeValue::Array(items), Step::Index(index)) => {
                    items.get(*index).map(|item| (item.span(), item))
                }
                _ => None,
            };
            let Some((key, found)) = next else { return Some(place) };
            (place, value) = (key, found);
        }
        // Of an unknown name, the name is wrong and not the value.
        let is_leaf = !matches!(value.get_ref(), DeValue::Table(_) | DeValue::Array(_));
        Some(if is_leaf && secret::is_known(path) { value.span() } else { place })
    }
}

fn member<'v, 't>(table: &'v DeTable<'t>, name: &str) -> Option<(Span, &'v Spanned<DeValue<'t>>)> {
    let found = table.iter().find(|(key, _)| key.get_ref() == name);
    found.map(|(key, value)| (key.span(), value))
}

fn collect(path: &mut Vec<Step>, value: &Spanned<DeValue<'_>>, leaves: &mut Vec<(Vec<Step>, Span)>) {
    let mut enter = |step: Step, value: &Spanned<DeValue<'_>>| {
        path.push(step);
        collect(path, value, leaves);
        path.pop();
    };
    match value.get_ref() {
        DeValue::Table(table) => {
            table.iter().for_each(|(name, value)| enter(Step::Key(name.get_ref().to_string()), value));
        }
        DeValue::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| enter(Step::Index(index), value));
        }
        _ => leaves.push((path.clone(), value.span())),
    }
}

/// Reads `contexts.users.pins[0].side` or `routes.0.prefix`.
fn steps(name: &str) -> Vec<Step> {
    let parts = name.split(['.', '[']).map(|part| part.trim_end_matches(']')).filter(|part| !part.is_empty());
    parts.map(|part| part.parse().map_or_else(|_| Step::Key(part.to_owned()), Step::Index)).collect()
}
