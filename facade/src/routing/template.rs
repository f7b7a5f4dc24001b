//! From a path to the sticky key in it.
//!
//! Invariant: a template finds its key in a path in normal form only, so every spelling has the same key.

/// A path with `{key}` in one segment; other segments in braces match anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    segments: Vec<Segment>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Literal(String),
    Any,
    Key,
}

impl Template {
    /// Reads `/api/v1/users/{key}`; the error says what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(format!("path template `{text}` must begin with `/`"));
        };
        let segments: Vec<Segment> = rest.split('/').map(segment).collect();
        match segments.iter().filter(|segment| **segment == Segment::Key).count() {
            1 => Ok(Self { segments }),
            _ => Err(format!("path template `{text}` must hold `{{key}}` once")),
        }
    }

    /// The key's segment of a path in normal form, if the path begins like the template.
    pub(crate) fn key<'p>(&self, path: &'p str) -> Option<&'p str> {
        let mut found = None;
        let mut parts = path.strip_prefix('/')?.split('/');
        for segment in &self.segments {
            let part = parts.next()?;
            match segment {
                Segment::Literal(literal) if literal != part => return None,
                Segment::Literal(_) | Segment::Any => {}
                Segment::Key => found = Some(part).filter(|part| !part.is_empty()),
            }
        }
        found
    }
}

fn segment(text: &str) -> Segment {
    match text {
        "{key}" => Segment::Key,
        _ if text.starts_with('{') && text.ends_with('}') => Segment::Any,
        _ => Segment::Literal(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_finds_its_key_and_nothing_else() {
        let template = Template::parse("/api/{version}/users/{key}").unwrap();
        assert_eq!(template.key("/api/v1/users/42"), Some("42"));
        assert_eq!(template.key("/api/v1/users/42/orders"), Some("42"));
        assert_eq!(template.key("/api/v1/users"), None);
        assert_eq!(template.key("/api/v1/users/"), None);
        assert_eq!(template.key("/api/v1/orders/42"), None);
        assert!(Template::parse("/users").is_err() && Template::parse("users/{key}").is_err());
    }
}
