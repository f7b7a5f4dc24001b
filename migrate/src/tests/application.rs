//! An application that writes to one database and delivers its images to the other.
//!
//! Invariant: every write follows the contract: counter, row, intent and tombstone in one transaction.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};

/// What became of an image.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Nothing,
    Done,
    Conflict,
}

/// The application's connections.
pub(super) struct Application {
    pub(super) source: Connection,
    pub(super) target: Connection,
}

impl Application {
    /// A second process of the application on the same files.
    pub(super) fn beside(folder: &Path) -> Self {
        let open = |name: &str| {
            let conn = Connection::open(folder.join(name)).unwrap();
            conn.execute_batch("PRAGMA synchronous = off").unwrap();
            conn
        };
        Self { source: open("monolith.db"), target: open("users-service.db") }
    }

    pub(super) fn count(&self, conn: &Connection, table: &str) -> i64 {
        conn.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
    }

    /// The next version, and whether an intent is wanted.
    fn begin_change(conn: &Connection) -> (i64, bool) {
        conn.execute_batch("SAVEPOINT change").unwrap();
        let sql = "UPDATE banyan_contexts SET version = version + 1 WHERE context = 'users' AND fence = 'open' \
                   RETURNING version, dual_write";
        conn.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).expect("the fence is open")
    }

    fn end_change(conn: &Connection, (version, dual_write): (i64, bool), id: i64, state: Option<&Value>) {
        if dual_write {
            let state = state.map(Value::to_string);
            conn.execute(
                "INSERT INTO banyan_intents VALUES ('users', ?1, ?2, ?3, 0)",
                params![version, id.to_string(), state],
            )
            .unwrap();
        }
        if state.is_none() {
            conn.execute(
                "INSERT OR REPLACE INTO banyan_tombstones VALUES ('users', ?1, ?2)",
                params![id.to_string(), version],
            )
            .unwrap();
        }
        conn.execute_batch("RELEASE change").unwrap();
    }

    fn state(&self, id: i64) -> Value {
        let sql = "SELECT json_object('id', id, 'name', name, 'email', email, 'phone', phone, 'addresses', \
                   json(addresses), 'created_at', created_at, 'updated_at', updated_at, 'version', version) \
                   FROM users_users WHERE id = ?1";
        let text: String = self.source.query_row(sql, [id], |row| row.get(0)).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub(super) fn create(&self, name: &str, email: &str) -> i64 {
        let change = Self::begin_change(&self.source);
        let addresses = match change.0 % 3 {
            0 => json!([]),
            1 => {
                json!([{"label": "home", "street": null, "city": "Łódź", "postcode": "90-001", "country": "Poland"}])
            }
            _ => json!([
                {"label": "home", "street": "1 High St", "city": null, "postcode": null, "country": "UK"},
                {"label": "work \"9\"", "street": null, "city": null, "postcode": null, "country": "مصر"}
            ]),
        };
        let phone = (change.0 % 2 == 0).then(|| format!("+44 {}", change.0));
        self.source
            .execute(
                "INSERT INTO users_users (name, email, phone, addresses, created_at, updated_at, version) \
                 VALUES (?1, ?2, ?3, ?4, '2010-12-01T08:26:00.123Z', '1969-12-31T23:59:59.999Z', ?5)",
                params![name, email, phone, in_contract_order(&addresses), change.0],
            )
            .unwrap();
        let id = self.source.last_insert_rowid();
        Self::end_change(&self.source, change, id, Some(&self.state(id)));
        id
    }

    pub(super) fn set_email(&self, id: i64, email: &str) {
        let change = Self::begin_change(&self.source);
        let sql = "UPDATE users_users SET email = ?2, version = ?3 WHERE id = ?1";
        assert_eq!(self.source.execute(sql, params![id, email, change.0]).unwrap(), 1);
        Self::end_change(&self.source, change, id, Some(&self.state(id)));
    }

    pub(super) fn delete(&self, id: i64) {
        let change = Self::begin_change(&self.source);
        assert_eq!(self.source.execute("DELETE FROM users_users WHERE id = ?1", [id]).unwrap(), 1);
        Self::end_change(&self.source, change, id, None);
    }

    /// A write at the service, once it owns the context.
    pub(super) fn rename_at_service(&self, id: i64, given_name: &str) {
        let change = Self::begin_change(&self.target);
        let sql = "UPDATE person SET given_name = ?2, row_version = ?3 WHERE person_id = ?1";
        assert_eq!(self.target.execute(sql, params![id, given_name, change.0]).unwrap(), 1);
        Self::end_change(&self.target, change, id, Some(&json!({"given_name": given_name})));
    }

    /// Delivers the service's oldest such write to the monolith.
    pub(super) fn deliver_back(&self) {
        let sql = "SELECT version, id, state ->> '$.given_name' FROM banyan_intents ORDER BY version LIMIT 1";
        let (version, id, given): (i64, i64, String) = self
            .target
            .query_row(sql, [], |row| {
                Ok((row.get(0)?, row.get::<_, String>(1)?.parse().unwrap(), row.get(2)?))
            })
            .unwrap();
        let sql =
            "UPDATE users_users SET name = ?2 || substr(name, instr(name, ' ')), version = ?3 WHERE id = ?1";
        self.source.execute(sql, params![id, given, version]).unwrap();
        self.source.execute("UPDATE banyan_contexts SET version = max(version, ?1)", [version]).unwrap();
        self.target.execute("DELETE FROM banyan_intents WHERE version = ?1", [version]).unwrap();
    }

    /// Delivers the monolith's oldest image to the service, by the rules of the contract.
    pub(super) fn deliver(&self) -> Delivery {
        let sql = "SELECT version, id, state FROM banyan_intents ORDER BY version LIMIT 1";
        let image = self.source.query_row(sql, [], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?))
        });
        let Some((version, id, state)) = image.optional().unwrap() else { return Delivery::Nothing };
        self.target.execute_batch("BEGIN IMMEDIATE").unwrap();
        let delivery = self.apply(version, &id, state.as_deref());
        self.target.execute_batch("COMMIT").unwrap();
        if delivery == Delivery::Done {
            self.source.execute("DELETE FROM banyan_intents WHERE version = ?1", [version]).unwrap();
        }
        delivery
    }

    pub(super) fn deliver_all(&self) {
        while self.deliver() == Delivery::Done {}
        assert_eq!(self.count(&self.source, "banyan_intents"), 0, "delivery is stuck");
    }

    fn apply(&self, version: i64, id: &str, state: Option<&str>) -> Delivery {
        let target = &self.target;
        let of =
            |sql: &str| -> Option<i64> { target.query_row(sql, [id], |row| row.get(0)).optional().unwrap() };
        let row = of("SELECT row_version FROM person WHERE person_id = CAST(?1 AS INTEGER)");
        let buried = of("SELECT version FROM banyan_tombstones WHERE id = ?1");
        if row.max(buried) >= Some(version) {
            return Delivery::Done;
        }
        let number: i64 = id.parse().unwrap();
        let state: Option<Value> = state.map(|text| serde_json::from_str(text).unwrap());
        if let Some(state) = &state {
            let rival: Option<i64> = target
                .query_row(
                    "SELECT row_version FROM contact JOIN person USING (person_id) \
                     WHERE kind = 'email' AND value = ?1 AND person_id <> ?2",
                    params![state["email"].as_str(), number],
                    |row| row.get(0),
                )
                .optional()
                .unwrap();
            match rival {
                Some(rival) if rival > version => return Delivery::Done,
                Some(_) => return Delivery::Conflict,
                None => {}
            }
        }
        for table in ["person", "contact", "address"] {
            target.execute(&format!("DELETE FROM {table} WHERE person_id = ?1"), [number]).unwrap();
        }
        target.execute("DELETE FROM banyan_tombstones WHERE id = ?1", [id]).unwrap();
        match &state {
            Some(state) => self.put(number, version, state),
            None => {
                target
                    .execute("INSERT INTO banyan_tombstones VALUES ('users', ?1, ?2)", params![id, version])
                    .unwrap();
            }
        }
        target.execute("UPDATE banyan_contexts SET version = max(version, ?1)", [version]).unwrap();
        Delivery::Done
    }

    fn put(&self, id: i64, version: i64, state: &Value) {
        let name = state["name"].as_str().unwrap();
        let (given, family) = name.split_once(' ').map_or((name, None), |(given, rest)| (given, Some(rest)));
        self.target
            .execute(
                "INSERT INTO person VALUES (?1, ?2, ?3, 1291191960123, -1, ?4)",
                params![id, given, family, version],
            )
            .unwrap();
        for kind in ["email", "phone"] {
            if let Some(value) = state[kind].as_str() {
                self.target
                    .execute("INSERT INTO contact VALUES (?1, ?2, ?3)", params![id, kind, value])
                    .unwrap();
            }
        }
        for (position, address) in state["addresses"].as_array().unwrap().iter().enumerate() {
            let part = |name: &str| address[name].as_str().map(str::to_owned);
            self.target
                .execute(
                    "INSERT INTO address VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                    params![
                        id,
                        i64::try_from(position).unwrap(),
                        part("label"),
                        part("street"),
                        part("city"),
                        part("postcode"),
                        part("country")
                    ],
                )
                .unwrap();
        }
    }
}

/// `serde_json` sorts the names of an object; the contract has an order of its own.
fn in_contract_order(addresses: &Value) -> String {
    let one = |address: &Value| {
        let parts = ["label", "street", "city", "postcode", "country"];
        let parts = parts.map(|name| format!("\"{name}\":{}", address[name]));
        format!("{{{}}}", parts.join(","))
    };
    let all: Vec<String> = addresses.as_array().unwrap().iter().map(one).collect();
    format!("[{}]", all.join(","))
}
