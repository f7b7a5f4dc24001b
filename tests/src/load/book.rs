//! The book of acknowledged writes: what must be found on the owner when the load is over.

use std::collections::BTreeMap;

use serde_json::Value;

use super::keys::is_result_of;
use crate::databases::Stored;

/// What one key must be at the end.
#[derive(Debug, Clone)]
pub struct KeyEntry {
    /// The user's id.
    pub id: i64,
    /// The last acknowledged state; nothing if that was a removal.
    pub state: Option<Value>,
    /// Writes without an answer: the details they would have left.
    pub doubts: Vec<Option<Value>>,
}

/// Every acknowledged write of a load.
#[derive(Debug, Clone, Default)]
pub struct Book {
    /// Users, by key.
    pub users: Vec<KeyEntry>,
    /// Orders that were placed, as answered.
    pub orders: Vec<Value>,
    /// Writes that were acknowledged, later overwritten ones among them.
    pub acknowledged: u64,
}

impl Book {
    /// Compares the book with all users of one side. Each difference is told in a line; none means that every
    /// acknowledged write is there.
    pub fn check_users(&self, users: &BTreeMap<i64, Stored>) -> Vec<String> {
        let differs = |entry: &&KeyEntry| {
            let found = users.get(&entry.id).map(|user| &user.public);
            found != entry.state.as_ref()
                && !entry.doubts.iter().any(|doubt| is_result_of(found, doubt.as_ref()))
        };
        let tell = |state: Option<&Value>| state.map_or("nothing".to_owned(), Value::to_string);
        self.users
            .iter()
            .filter(differs)
            .map(|entry| {
                let (found, due) =
                    (tell(users.get(&entry.id).map(|user| &user.public)), tell(entry.state.as_ref()));
                format!("user {}: found {found}, acknowledged was {due}", entry.id)
            })
            .collect()
    }

    /// Compares the book with all orders, by id with their total in minor units.
    pub fn check_orders(&self, orders: &BTreeMap<i64, i64>) -> Vec<String> {
        let part = |order: &Value, pointer: &str| order.pointer(pointer).and_then(Value::as_i64);
        self.orders
            .iter()
            .filter(|order| {
                let found = part(order, "/id").and_then(|id| orders.get(&id).copied());
                found.is_none() || found != part(order, "/total/minor")
            })
            .map(|order| format!("the acknowledged order is missing or differs: {order}"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_missing_acknowledged_write_is_told() {
        let user = json!({ "id": 7, "name": "Ann" });
        let stored = |user: &Value| Stored { public: user.clone(), version: 1 };
        let entry = |id, state: Option<&Value>| KeyEntry { id, state: state.cloned(), doubts: Vec::new() };
        let book = Book { users: vec![entry(7, Some(&user)), entry(8, None)], ..Book::default() };
        assert_eq!(book.check_users(&BTreeMap::from([(7, stored(&user))])), Vec::<String>::new());
        assert_eq!(
            book.check_users(&BTreeMap::from([(8, stored(&user))])).len(),
            2,
            "7 is lost and 8 came back"
        );
    }

    #[test]
    fn an_order_counts_only_with_its_total() {
        let book = Book { orders: vec![json!({ "id": 1, "total": { "minor": 255 } })], ..Book::default() };
        assert!(book.check_orders(&BTreeMap::from([(1, 255)])).is_empty());
        assert_eq!(book.check_orders(&BTreeMap::from([(1, 256)])).len(), 1);
        assert_eq!(book.check_orders(&BTreeMap::new()).len(), 1);
    }
}
