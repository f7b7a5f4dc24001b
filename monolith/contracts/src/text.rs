//! The rule for texts that people write, shared by all contexts.
//!
//! Invariant: texts are shown and compared as they are, so what breaks the rule is refused, never repaired.

use crate::FieldError;

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
