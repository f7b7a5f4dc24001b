//! What an instance says it serves, told from two sides: by the watching thread after a change, and by whoever knows
//! that writes have come to rest.
//!
//! Invariants: a token, once said, is followed by no older one; of two words on one token that were formed side by side,
//! the one that was said from outside stays, since only that side learns when writes are at rest.

use crate::instances::Ack;

/// The last word, and how often one was said from outside.
#[derive(Debug, Default)]
pub(super) struct Word {
    acks: Vec<Ack>,
    sequence: u64,
    /// Whether older tokens may follow.
    is_open: bool,
}

impl Word {
    pub(super) fn acks(&self) -> &[Ack] {
        &self.acks
    }

    /// Where the words from outside stand; taken before an answer is formed, and handed back with it.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Takes a word from outside.
    pub(super) fn say(&mut self, acks: Vec<Ack>) {
        self.sequence += 1;
        let newer = |said: &Ack, known: &Ack| said.token >= known.token;
        self.merge(acks, newer);
    }

    /// Takes an answer that was formed from when the words from outside stood at `began`.
    pub(super) fn answer(&mut self, acks: Vec<Ack>, began: u64) {
        if self.is_open {
            self.is_open = false;
            self.acks = acks;
            return;
        }
        let is_overtaken = self.sequence != began;
        self.merge(
            acks,
            |said, known| {
                if is_overtaken { said.token > known.token } else { said.token >= known.token }
            },
        );
    }

    /// From now on the next answer counts whatever its tokens are.
    pub(super) fn forget_tokens(&mut self) {
        self.is_open = true;
    }

    fn merge(&mut self, acks: Vec<Ack>, is_newer: impl Fn(&Ack, &Ack) -> bool) {
        let known = std::mem::take(&mut self.acks);
        let keep = |said: Ack| match known.iter().find(|known| known.context == said.context) {
            Some(known) if !is_newer(&said, known) => known.clone(),
            _ => said,
        };
        self.acks = acks.into_iter().map(keep).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ack(token: i64, held: bool) -> Vec<Ack> {
        vec![Ack { context: "users".to_owned(), token, held }]
    }

    #[test]
    fn an_answer_overtaken_by_a_word_on_the_same_token_is_dropped() {
        let mut word = Word::default();
        let began = word.sequence();
        word.say(ack(8, true));
        word.answer(ack(8, false), began);
        assert_eq!(word.acks(), ack(8, true));
        word.answer(ack(8, false), word.sequence());
        assert_eq!(word.acks(), ack(8, false), "nothing overtook this one");
    }

    #[test]
    fn an_answer_on_a_newer_token_counts_although_a_word_overtook_it() {
        let mut word = Word::default();
        let began = word.sequence();
        word.say(ack(8, true));
        word.answer(ack(9, false), began);
        assert_eq!(word.acks(), ack(9, false));
    }

    #[test]
    fn a_late_word_on_an_old_token_is_dropped() {
        let mut word = Word::default();
        word.answer(ack(9, false), 0);
        word.say(ack(8, true));
        assert_eq!(word.acks(), ack(9, false));
    }

    #[test]
    fn a_store_that_was_set_back_is_acknowledged_with_its_older_tokens() {
        let mut word = Word::default();
        word.answer(ack(9, false), 0);
        word.forget_tokens();
        word.answer(ack(2, false), 0);
        assert_eq!(word.acks(), ack(2, false));
    }
}
