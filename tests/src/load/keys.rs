//! One key of a worker: what the last acknowledged write left there, and what a read of it proves.

use anyhow::{Context, Result};
use serde_json::Value;

/// What a read showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The last acknowledged write, or one whose fate is unknown.
    Fresh,
    /// An earlier state.
    Stale,
    /// What was never written.
    Wrong,
}

/// A user, and all that was written to it. A state of nothing is a user who does not exist.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) id: i64,
    now: Option<Value>,
    past: Vec<Option<Value>>,
    doubts: Vec<Option<Value>>,
}

impl Key {
    /// A user who was there before the load.
    pub(super) fn adopted(user: Value) -> Result<Self> {
        let id = user.get("id").and_then(Value::as_i64).context("a user without an id")?;
        Ok(Self { id, now: Some(user), past: Vec::new(), doubts: Vec::new() })
    }

    /// A user whom the load created: before, there was none.
    pub(super) fn created(user: Value) -> Result<Self> {
        let mut key = Self::adopted(user)?;
        key.past.push(None);
        Ok(key)
    }

    /// A write was acknowledged.
    pub(super) fn acknowledge(&mut self, state: Option<Value>) {
        self.past.push(std::mem::replace(&mut self.now, state));
    }

    /// A write got no answer: from now on its state is as good as the one before.
    pub(super) fn doubt(&mut self, details: Option<Value>) {
        self.doubts.push(details);
    }

    /// The e-mail address that the last acknowledged write left.
    pub(super) fn email(&self) -> Option<&str> {
        self.now.as_ref()?.get("email")?.as_str()
    }

    pub(super) fn exists(&self) -> bool {
        self.now.is_some()
    }

    pub(super) fn judge(&self, shown: Option<&Value>) -> Verdict {
        if self.now.as_ref() == shown || self.doubts.iter().any(|doubt| is_result_of(shown, doubt.as_ref())) {
            return Verdict::Fresh;
        }
        if self.past.iter().any(|past| past.as_ref() == shown) { Verdict::Stale } else { Verdict::Wrong }
    }

    pub(super) fn into_parts(self) -> (i64, Option<Value>, Vec<Option<Value>>) {
        (self.id, self.now, self.doubts)
    }
}

/// Whether a write of these details, or a removal, leaves what is shown. Times are the server's and are left out.
pub(super) fn is_result_of(shown: Option<&Value>, wanted: Option<&Value>) -> bool {
    match (shown, wanted) {
        (None, None) => true,
        (Some(shown), Some(wanted)) => {
            ["name", "email", "phone", "addresses"].iter().all(|field| shown.get(field) == wanted.get(field))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn user(name: &str) -> Value {
        json!({ "id": 7, "name": name, "email": "a@b.c", "phone": null, "addresses": [] })
    }

    #[test]
    fn a_read_is_fresh_stale_or_wrong() {
        let mut key = Key::created(user("one")).unwrap();
        key.acknowledge(Some(user("two")));
        assert_eq!(key.judge(Some(&user("two"))), Verdict::Fresh);
        assert_eq!(key.judge(Some(&user("one"))), Verdict::Stale);
        assert_eq!(key.judge(None), Verdict::Stale, "a created user whom the other side has not got yet");
        assert_eq!(key.judge(Some(&user("three"))), Verdict::Wrong);
        key.acknowledge(None);
        assert_eq!(key.judge(None), Verdict::Fresh);
        assert_eq!(key.judge(Some(&user("two"))), Verdict::Stale);
    }

    #[test]
    fn an_adopted_user_was_always_there() {
        assert_eq!(Key::adopted(user("one")).unwrap().judge(None), Verdict::Wrong);
    }

    #[test]
    fn a_write_without_answer_leaves_both_states_possible() {
        let mut key = Key::adopted(user("one")).unwrap();
        key.doubt(Some(user("two")));
        assert_eq!(key.judge(Some(&user("one"))), Verdict::Fresh);
        assert_eq!(key.judge(Some(&user("two"))), Verdict::Fresh);
        assert_eq!(key.judge(Some(&user("three"))), Verdict::Wrong);
    }
}
