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

#[derive(Debug)]
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
    pub(crate) fn get(&self, key: &Key, keys: &KeySet, now: u64) -> Option<Claims> {
        let entry = self.newer.get(key).or_else(|| self.older.get(key))?;
        (entry.generation == keys.generation && now < entry.until).then(|| entry.claims.clone())
    }

    pub(crate) fn insert(&mut self, key: Key, claims: &Claims, keys: &KeySet, now: u64, provider: &Provider) {
        let until = claims.0.dead_at.min(now.saturating_add(provider.settings.cache_s));
        let most = provider.settings.cache_tokens / 2;
        if until > now && most > 0 {
            if self.newer.len() >= most {
                self.older = std::mem::take(&mut self.newer);
            }
            self.newer.insert(key, Entry { claims: claims.clone(), generation: keys.generation, until });
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.newer.len() + self.older.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use platform::settings::Secret;

    use super::*;
    use crate::protect::claims::Checked;
    use crate::settings::JwtSettings;

    fn provider(cache_tokens: usize) -> Arc<Provider> {
        let secret = Secret::new("x".repeat(32));
        Provider::new(
            "main",
            &JwtSettings { secret, cache_tokens, ..JwtSettings::default() },
            &mut Vec::new(),
        )
    }

    fn claims(dead_at: u64) -> Claims {
        Claims(Arc::new(Checked { claims: serde_json::Map::new(), headers: Vec::new(), dead_at }))
    }

    #[test]
    fn no_more_tokens_are_remembered_than_allowed() {
        let (provider, keys, mut cache) = (provider(10), KeySet::default(), TokenCache::default());
        for number in 0_u32..1_000 {
            cache.insert(key(&provider, &number.to_be_bytes()), &claims(1_000), &keys, 0, &provider);
            let _ = cache.get(&key(&provider, &number.saturating_sub(4).to_be_bytes()), &keys, 0);
            assert!(cache.len() <= 10, "{}", cache.len());
        }
        assert!(cache.get(&key(&provider, &999_u32.to_be_bytes()), &keys, 0).is_some());
    }

    #[test]
    fn a_token_is_forgotten_when_it_dies_when_its_time_is_over_and_when_keys_change() {
        let (provider, keys, mut cache) = (provider(10), KeySet::default(), TokenCache::default());
        let (short, long) = (key(&provider, b"short"), key(&provider, b"long"));
        cache.insert(short, &claims(110), &keys, 100, &provider);
        cache.insert(long, &claims(1_000), &keys, 100, &provider);
        assert!(cache.get(&short, &keys, 109).is_some() && cache.get(&short, &keys, 110).is_none());
        assert!(cache.get(&long, &keys, 159).is_some() && cache.get(&long, &keys, 160).is_none());
        let other = KeySet { generation: 1, ..KeySet::default() };
        assert!(cache.get(&long, &other, 100).is_none());
    }

    #[test]
    fn a_token_of_one_issuer_is_not_one_of_another() {
        let (one, other) = (provider(10), provider(10));
        assert_ne!(key(&one, b"token"), key(&other, b"token"));
    }
}
