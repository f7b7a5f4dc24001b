//! The rule for texts that people write, shared by all contexts.
//!
//! Invariant: texts are shown and compared as they are, so what breaks the rule is refused, never repaired.

use crate::FieldError;

/// The rule as a pattern, for the description of the REST API: no control characters, no blank at either end.
#[cfg(feature = "schema")]
pub const PATTERN: &str = r"^[^\x00-\x20\x7f-\xa0]([^\x00-\x1f\x7f-\x9f]*[^\x00-\x20\x7f-\xa0])?$";

/// Adds a fault unless `text` has 1 to `max` characters, none of them a control character, and no blank at its ends.
pub(crate) fn check(faults: &mut Vec<FieldError>, field: &str, text: &str, max: usize) {
    if text.trim().is_empty() {
        faults.push(FieldError::new(field, "must not be empty"));
    } else if text.trim() != text {
        faults.push(FieldError::new(field, "must not begin or end with a blank"));
    } else if text.chars().count() > max {
        faults.push(FieldError::new(field, format!("must have at most {max} characters")));
    } else if text.chars().any(char::is_control) {
        faults.push(FieldError::new(field, "must not contain control characters"));
    }
}
