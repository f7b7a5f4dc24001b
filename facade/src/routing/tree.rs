//! The patterns of one host as a tree of segments.
//!
//! Invariant: the first match that a search meets is the best one, since it tries a literal before a parameter before
//! the end before a tail, and goes back where one leads nowhere. It visits each node at most once.

use std::collections::BTreeMap;

use crate::routing::pattern::{Pattern, Segment};

/// Patterns by segments; what stands there are places in the table of routes, the better ones first.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    literals: BTreeMap<Box<str>, Self>,
    parameter: Option<Box<Self>>,
    /// Patterns that end here.
    ends: Vec<usize>,
    /// Patterns that match whatever comes from here on.
    tails: Vec<usize>,
}

impl Tree {
    /// Adds a pattern; the better of two that are the same comes first.
    pub(crate) fn insert(&mut self, pattern: &Pattern, place: usize) {
        let mut node = self;
        for segment in &pattern.segments {
            node = match segment {
                Segment::Literal(text) => node.literals.entry(text.clone()).or_default(),
                Segment::Parameter => node.parameter.get_or_insert_default(),
            };
        }
        if pattern.has_tail { node.tails.push(place) } else { node.ends.push(place) }
    }

    /// The best place whose pattern matches and that `is_for` the request. `rest` is a path in normal form without
    /// the slash at its beginning.
    pub(crate) fn find(&self, rest: &str, is_for: &impl Fn(usize) -> bool) -> Option<usize> {
        let first = |places: &[usize]| places.iter().copied().find(|place| is_for(*place));
        if rest.is_empty() {
            return first(&self.ends).or_else(|| first(&self.tails));
        }
        let (segment, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let literal = self.literals.get(segment);
        literal
            .and_then(|node| node.find(rest, is_for))
            .or_else(|| self.parameter.as_ref()?.find(rest, is_for))
            .or_else(|| first(&self.tails))
    }
}
