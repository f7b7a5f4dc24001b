//! Tokens that one worker has checked lately: a signature costs more than the whole proxying.
//!
//! Invariant: what is found here was checked with the issuer's present keys, and is not dead.

use std::collections::HashMap;

use ring::digest::{SHA256, digest};

use crate::protect::claims::Claims;
use crate::protect::jwks::KeySet;
use crate::protect::jwt::Provider;

/// Tokens stand here as digests: no worker's memory holds what could be used to log in.
type Key = (u64, [u8; 32]);

/// Two halves: when the newer one is full, the older one is dropped, so nothing need be counted per token.
#[derive(Debug, Default)]
pub(crate) struct TokenCache {
    newer: HashMap<Key, Entry>,
    older: HashMap<Key, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    claims: Claims,
    generation: u64,
    until: u64,
}

pub(crate) fn key(provider: &Provider, token: &[u8]) -> Key {
    let mut bytes = [0; 32];
    // Both are 32 bytes long.
    bytes.iter_mut().zip(digest(&SHA256, token).as_ref()).for_each(|(to, from)| *to = *from);
    (provider.serial, bytes)
}

impl TokenCache {
    pub(crate) fn get(&mut self, key: &Key, keys: &KeySet, now: u64) -> Option<Claims> {
        let is_good = |entry: &&Entry| entry.generation == keys.generation && now < entry.until;
        if let Some(entry) = self.newer.get(key).filter(is_good) {
            return Some(entry.claims.clone());
        }
        let entry = self.older.get(key).filter(is_good)?.clone();
        let claims = entry.claims.clone();
        let most = self.older.len();
        self.put(*key, entry, most);
        Some(claims)
    }

    pub(crate) fn insert(&mut self, key: Key, claims: &Claims, keys: &KeySet, now: u64, provider: &Provider) {
        let until = claims.0.dead_at.min(now.saturating_add(provider.settings.cache_s));
        let most = provider.settings.cache_tokens / 2;
        if until > now && most > 0 {
            self.put(key, Entry { claims: claims.clone(), generation: keys.generation, until }, most);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.newer.len() + self.older.len()
    }

    fn put(&mut self, key: Key, entry: Entry, most: usize) {
        if self.newer.len() >= most {
            self.older = std::mem::take(&mut self.newer);
        }
        self.newer.insert(key, entry);
    }
}
