//! What any text comes to.

use proptest::prelude::{any, prop, proptest};

use super::*;

fn is_plain(word: &str) -> bool {
    let is_safe = |character: char| {
        !character.is_ascii() || character.is_ascii_lowercase() || character.is_ascii_digit()
    };
    !word.is_empty() && word.chars().all(is_safe) && !word.contains(char::is_whitespace)
}

/// What the contract says, word by word.
fn matches(name: &str, sku: &str, text: &str) -> bool {
    let there: Vec<String> = words(name).chain(words(sku)).collect();
    let mut wanted = words(text).peekable();
    wanted.peek().is_some() && wanted.all(|word| there.iter().any(|other| other.starts_with(&word)))
}

proptest! {
    #[test]
    fn a_word_says_nothing_to_the_database(text in any::<String>()) {
        assert!(words(&text).all(|word| is_plain(&word)));
    }

    #[test]
    fn folding_twice_is_folding_once(text in any::<String>()) {
        for word in words(&text) {
            assert_eq!(folded(&word), word);
        }
    }

    #[test]
    fn no_product_has_more_or_longer_words(name in prop::collection::vec(any::<char>(), 0..=200), sku in "[a-z0-9 ]{0,40}") {
        let stored = stored(&name.into_iter().collect::<String>(), &sku);
        let words: Vec<&str> = stored.split(' ').filter(|word| !word.is_empty()).collect();
        assert!(words.len() <= WORDS_MAX && words.iter().all(|word| word.len() <= WORD_MAX));
    }

    #[test]
    fn leaving_out_words_that_begin_others_changes_no_answer(
        name in "[ab ]{0,20}", sku in "[ab]{1,4}", text in "[ab ]{0,12}",
    ) {
        let stored = stored(&name, &sku);
        let found = Query::parse(&text).is_some_and(|query| {
            query.words.iter().all(|word| stored.split(' ').any(|other| other.starts_with(word)))
        });
        assert_eq!(found, matches(&name, &sku, &text));
    }
}

#[test]
fn a_query_of_no_word_of_too_long_a_word_or_of_too_many_finds_nothing() {
    let many: String = (0..=WORDS_MAX).map(|number| format!("{number:03} ")).collect();
    for text in ["", " ", "?!", "\u{0}", &"x".repeat(WORD_MAX + 1), &many] {
        assert_eq!(Query::parse(text), None);
    }
}

#[test]
fn each_database_gets_its_own_words() {
    let query = Query::parse("Hold\" OR *whi: whi").unwrap();
    assert_eq!(query.text(Backend::Sqlite), "\"hold\"* AND \"or\"* AND \"whi\"*");
    assert_eq!(query.text(Backend::Postgres), "'hold':* & 'or':* & 'whi':*");
}
