//! Users as the load writes them: no two writes alike, and every shape that a schema may stumble over.

use serde_json::{Value, json};

use super::random::Random;

/// Names of one word, of many, written from right to left, with two blanks in the middle, beyond the basic plane.
const NAMES: [&str; 9] = [
    "Ann",
    "Bo Ek",
    "Maria del Carmen Ruiz y Picasso",
    "محمد",
    "نور الدين الحسن",
    "יעל כהן",
    "Two  Blanks",
    "李 小龙",
    "🦀 Ferris",
];

/// The details of a user who was never written before: `mark` is in the name.
pub(super) fn details(random: &mut Random, mark: &str, email: &str) -> Value {
    let name = random.pick(&NAMES).copied().unwrap_or("Ann");
    // A mark without a blank keeps names of one word possible.
    let name = if name.contains(' ') { format!("{name} {mark}") } else { format!("{name}-{mark}") };
    let phone = (random.below(3) > 0).then(|| format!("+46 70 {:07}", random.below(10_000_000)));
    let addresses: Vec<Value> = (0..random.below(4)).map(|index| address(random, index)).collect();
    json!({ "name": name, "email": email, "phone": phone, "addresses": addresses })
}

fn address(random: &mut Random, index: usize) -> Value {
    let label = ["home", "work", "billing", "summer house"].get(index).copied().unwrap_or("other");
    let street = (random.below(4) > 0).then(|| format!("Storgatan {}", random.below(200)));
    let city = (random.below(4) > 0).then_some("Umeå");
    let postcode = (random.below(4) > 0).then(|| format!("{:05}", random.below(100_000)));
    json!({ "label": label, "street": street, "city": city, "postcode": postcode, "country": "Sweden" })
}
