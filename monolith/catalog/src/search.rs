//! The words by which products are found, the same for both databases.
//!
//! Invariant: a folded word holds no blank and no ASCII character but lower-case letters and digits, so neither database
//! splits it, and no query can say more than words.

use std::collections::BTreeSet;

use db::Backend;

/// Most words of a product: each of the 240 characters of name and unit that begins a word ends one before it.
const WORDS_MAX: usize = 120;
/// No folded word of a product is longer, in bytes: a character becomes at most three of two bytes each.
const WORD_MAX: usize = 1_200;

/// What the database holds of a product's words: folded, each once, parted by blanks.
pub(crate) fn stored(name: &str, sku: &str) -> String {
    let words: BTreeSet<String> = words(name).chain(words(sku)).collect();
    words.into_iter().collect::<Vec<_>>().join(" ")
}

/// What a client looks for, where a product can have it at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    /// None of them begins another one.
    words: Vec<String>,
}

impl Query {
    /// The words of a text. Nothing where no product can match: without a word, with one that is longer than any, or with
    /// more words than a product has.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let sorted: BTreeSet<String> = words(text).collect();
        let mut kept: Vec<String> = Vec::new();
        // A word follows directly after those that begin it, and says all that they say.
        for word in sorted {
            match kept.last_mut() {
                Some(last) if word.starts_with(last.as_str()) => *last = word,
                _ => kept.push(word),
            }
        }
        // Two words of which none begins the other cannot begin the same word of a product.
        let is_possible =
            (1..=WORDS_MAX).contains(&kept.len()) && kept.iter().all(|word| word.len() <= WORD_MAX);
        is_possible.then_some(Self { words: kept })
    }

    /// The query in the language of the database's own search.
    pub(crate) fn text(&self, backend: Backend) -> String {
        let (terms, and): (Vec<String>, _) = match backend {
            Backend::Sqlite => (self.words.iter().map(|word| format!("\"{word}\"*")).collect(), " AND "),
            Backend::Postgres => (self.words.iter().map(|word| format!("'{word}':*")).collect(), " & "),
        };
        terms.join(and)
    }
}

fn words(text: &str) -> impl Iterator<Item = String> {
    let words = text.split(|character: char| !character.is_alphanumeric());
    words.filter(|word| !word.is_empty()).map(folded)
}

/// Upper case first: some letters have two lower cases (`σ` and `ς`), or are two letters in upper case (`ß`).
fn folded(word: &str) -> String {
    word.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests;
