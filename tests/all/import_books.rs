//! The import's books, kept a second time by code that shares nothing with the importer.
//!
//! Invariant: what the file says and what the database holds are compared as bags of facts, so a line that was lost,
//! doubled or altered shows, whatever the importer's summary says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use harness::databases;
use serde_json::Value;

use crate::support::{Lone, sample_data};

/// Facts, each with how often it holds.
type Bag = BTreeMap<String, usize>;

fn sample_text() -> String {
    let mut text = String::new();
    GzDecoder::new(fs::File::open(sample_data()).unwrap()).read_to_string(&mut text).unwrap();
    text
}

/// Splits one line at its commas, but not inside quotes; two quotes inside stand for one.
fn fields(line: &str) -> Vec<String> {
    let (mut found, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut chars = line.chars().peekable();
    while let Some(next) = chars.next() {
        match next {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => found.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    found.push(field);
    found
}

/// Pence of a price such as `2.55` or `10`.
fn pence(text: &str) -> i64 {
    (text.parse::<f64>().unwrap() * 100.0).round() as i64
}

/// Why a line cannot become part of an order, judged by the rules as written down, not as coded.
fn is_acceptable(line: &str) -> bool {
    let fields = fields(line);
    let [invoice, code, _, quantity, _, price, customer, _] = fields.as_slice() else { return false };
    let quantity: i64 = quantity.parse().unwrap();
    let sells = if invoice.starts_with('C') { quantity < 0 } else { quantity > 0 };
    let is_product = code.len() >= 5 && code.chars().take(5).all(|char| char.is_ascii_digit());
    !customer.is_empty() && pence(price) > 0 && sells && is_product
}

/// Every line as a fact: invoice, code, units, pence, customer, instant. An order has one instant, that of its first
/// line: one invoice of the sample goes on into the next minute.
fn facts(lines: &[&str]) -> Vec<String> {
    let mut instants: BTreeMap<String, String> = BTreeMap::new();
    let fact = |line: &&str| {
        let fields = fields(line);
        let [invoice, code, _, quantity, date, price, customer, _] = fields.as_slice() else {
            panic!("not eight fields: {line}");
        };
        let units = quantity.parse::<i64>().unwrap().abs();
        let at = instants.entry(invoice.clone()).or_insert_with(|| instant(date));
        format!("{invoice} {code} {units} {} {customer} {at}", pence(price))
    };
    lines.iter().map(fact).collect()
}

/// `12/1/10 8:26` in London in December is UTC.
fn instant(date: &str) -> String {
    let (day, time) = date.split_once(' ').unwrap();
    let day: Vec<u32> = day.split('/').map(|part| part.parse().unwrap()).collect();
    let (hour, minute) = time.split_once(':').unwrap();
    assert_eq!(day[0], 12, "this test knows winter time only");
    format!("20{:02}-12-{:02}T{:0>2}:{minute}:00.000Z", day[2], day[1], hour)
}

fn bag(facts: impl IntoIterator<Item = String>) -> Bag {
    let mut bag = Bag::new();
    for fact in facts {
        *bag.entry(fact).or_default() += 1;
    }
    bag
}

/// Facts that hold more often in one bag than in the other.
fn only_in(one: &Bag, other: &Bag) -> Vec<String> {
    let missing = one.iter().filter(|(fact, count)| other.get(*fact).unwrap_or(&0) < *count);
    missing.map(|(fact, count)| format!("{fact} × {count}")).collect()
}

/// All imported order lines of the database as facts.
fn stored_facts(database: &Path) -> Bag {
    let connection = databases::open(database).unwrap();
    let sql = "SELECT o.reference, p.sku, l.quantity, l.unit_price_minor, u.email, o.placed_at_ms
               FROM orders_orders o JOIN orders_lines l ON l.order_id = o.id
               JOIN catalog_products p ON p.id = l.product_id JOIN users_users u ON u.id = o.user_id";
    let mut query = connection.prepare(sql).unwrap();
    let rows = query.query_map([], |row| {
        let email: String = row.get(4)?;
        let customer: String = email.chars().filter(char::is_ascii_digit).collect();
        let at = format!("{:.3}", jiff::Timestamp::from_millisecond(row.get(5)?).unwrap());
        let (reference, sku): (String, String) = (row.get(0)?, row.get(1)?);
        Ok(format!("{reference} {sku} {} {} {customer} {at}", row.get::<_, i64>(2)?, row.get::<_, i64>(3)?))
    });
    bag(rows.unwrap().map(Result::unwrap))
}

/// The rejects file: line number, reason and the original text.
fn rejects(path: &Path) -> Vec<(usize, String, String)> {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("line,reason,detail,text"));
    lines
        .map(|line| {
            let fields = fields(line);
            (fields[0].parse().unwrap(), fields[1].clone(), fields[3].clone())
        })
        .collect()
}

fn import(lone: &Lone, file: &Path) -> Value {
    let rejects = lone.folder.path().join("rejects.csv");
    let args = [
        "import",
        "online-retail",
        &file.to_string_lossy(),
        "--rejects",
        &rejects.to_string_lossy(),
        "--json",
    ];
    lone.run(&args).ok().unwrap().json().unwrap()
}

/// Everything in the database but bookkeeping, as text.
fn dump(database: &Path) -> Vec<String> {
    let connection = databases::open(database).unwrap();
    let tables = ["users_users", "catalog_products", "orders_orders", "orders_lines", "banyan_intents"];
    let mut rows = Vec::new();
    for table in tables {
        let mut query = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = query.column_count();
        let found = query.query_map([], |row| {
            let values: Result<Vec<_>, _> =
                (0..columns).map(|index| row.get_ref(index).map(|value| format!("{value:?}"))).collect();
            Ok(format!("{table} {}", values?.join(" ")))
        });
        rows.extend(found.unwrap().map(Result::unwrap));
    }
    rows
}

#[test]
fn every_line_of_the_file_is_in_the_database_or_in_the_rejects_file() {
    let lone = Lone::prepare();
    let summary = import(&lone, &sample_data());
    let text = sample_text();
    let lines: Vec<&str> = text.lines().collect();
    let rejects = rejects(&lone.folder.path().join("rejects.csv"));
    for (number, reason, original) in &rejects {
        assert_eq!(lines.get(number - 1), Some(&original.as_str()), "line {number} ({reason})");
        assert!(!reason.is_empty());
    }
    let rejected: BTreeSet<usize> = rejects.iter().map(|(number, _, _)| *number).collect();
    let refusable: BTreeSet<usize> =
        (2..=lines.len()).filter(|number| !is_acceptable(lines[number - 1])).collect();
    assert_eq!(rejected, refusable);

    let accepted: Vec<&str> = (2..=lines.len())
        .filter(|number| !rejected.contains(number))
        .map(|number| lines[number - 1])
        .collect();
    let (stored, due) = (stored_facts(&lone.database()), bag(facts(&accepted)));
    assert_eq!(only_in(&stored, &due), Vec::<String>::new(), "stored, but not in the file");
    assert_eq!(only_in(&due, &stored), Vec::<String>::new(), "in the file, but not stored");
    let distinct =
        |index: usize| accepted.iter().map(|line| fields(line)[index].clone()).collect::<BTreeSet<_>>();
    let cancellations = distinct(0).iter().filter(|invoice| invoice.starts_with('C')).count();
    for (name, due) in [
        ("lines", lines.len() - 1),
        ("imported", accepted.len()),
        ("rejected", rejects.len()),
        ("unchanged", 0),
        ("users_added", distinct(6).len()),
        ("products_added", distinct(1).len()),
        ("cancellations_added", cancellations),
        ("orders_added", distinct(0).len() - cancellations),
    ] {
        assert_eq!(summary[name], due, "{name} of {summary}");
    }
}

#[test]
fn importing_twice_changes_nothing() {
    let lone = Lone::prepare();
    let first = import(&lone, &sample_data());
    let before = dump(&lone.database());
    let second = import(&lone, &sample_data());
    assert_eq!(dump(&lone.database()), before);
    assert_eq!((&second["imported"], &second["unchanged"]), (&Value::from(0), &first["imported"]));
    assert_eq!(second["rejected"], first["rejected"]);
}

#[test]
fn plain_gzipped_and_piped_input_give_the_same() {
    let (gzipped, plain) = (Lone::prepare(), Lone::prepare());
    import(&gzipped, &sample_data());
    let file = plain.folder.path().join("plain.csv");
    fs::write(&file, sample_text()).unwrap();
    import(&plain, &file);
    assert_eq!(stored_facts(&plain.database()), stored_facts(&gzipped.database()));
}

#[test]
fn a_file_with_another_header_is_refused_and_leaves_everything_as_it_was() {
    let lone = Lone::prepare();
    import(&lone, &sample_data());
    let before = dump(&lone.database());
    let file = lone.folder.path().join("other.csv");
    fs::write(&file, "Invoice,StockCode\n536365,85123A\n").unwrap();
    let refused = lone.run(&["import", "online-retail", &file.to_string_lossy()]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.stderr.contains("other.csv") && refused.stderr.contains("Invoice,StockCode"),
        "{refused:?}"
    );
    assert_eq!(dump(&lone.database()), before);
    let refused = lone.run(&["import", "online-retail", "nowhere.csv"]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("nowhere.csv"), "{refused:?}");
}
