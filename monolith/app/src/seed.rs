//! Generated users, the same for the same seed on every machine.
//!
//! Invariant: user `i` of seed `S` depends on `S` and `i` alone, and has the e-mail address `user-S-i@seed.example`;
//! so a larger number only adds users, and seeding twice changes nothing.

mod words;

use std::time::Duration;

use contracts::users::{Address, UserDetails, Users, UsersError};
use contracts::{CallContext, FieldError};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use words::Script;

/// Users stored together.
const BATCH: usize = 2_000;
/// How long one batch may take.
const BUDGET: Duration = Duration::from_secs(60);

/// Why users were not seeded.
#[derive(Debug, thiserror::Error)]
pub enum SeedError {
    /// The users belong to the service now.
    #[error(
        "users are not written here now, the service owns them; bring them home with `migrate switch users --to \
         monolith`"
    )]
    UsersElsewhere,
    /// The users context failed.
    #[error("users were not stored; run it again to go on")]
    Users(#[source] UsersError),
    /// A generated user breaks a rule of the users context.
    #[error("generated user {index} is not accepted: {fault}")]
    Rule {
        /// Which user.
        index: u64,
        /// Which rule.
        fault: FieldError,
    },
}

/// The first `count` users of `seed`.
pub fn generate(seed: u64, count: u64) -> impl Iterator<Item = UserDetails> {
    (0..count).map(move |index| user(seed, index))
}

/// Adds the first `count` users of `seed` that are not there yet, and returns how many were added. `progress` is
/// told how many are done.
pub async fn seed(
    users: &dyn Users,
    seed: u64,
    count: u64,
    progress: impl Fn(u64),
) -> Result<u64, SeedError> {
    let mut generated = (0..).zip(generate(seed, count));
    let (mut added, mut done) = (0, 0);
    loop {
        let batch: Vec<UserDetails> = generated.by_ref().take(BATCH).map(check).collect::<Result<_, _>>()?;
        if batch.is_empty() {
            return Ok(added);
        }
        done += u64::try_from(batch.len()).unwrap_or(0);
        let ensured =
            users.ensure(&CallContext::new("seed", BUDGET), batch).await.map_err(|error| match error {
                UsersError::NotOwner => SeedError::UsersElsewhere,
                error => SeedError::Users(error),
            })?;
        added += u64::try_from(ensured.iter().filter(|user| user.added).count()).unwrap_or(0);
        progress(done);
    }
}

fn check((index, user): (u64, UserDetails)) -> Result<UserDetails, SeedError> {
    UserDetails::parse(user.name, user.email, user.phone, user.addresses).map_err(|faults| {
        let fault = faults.into_iter().next().unwrap_or_else(|| FieldError::new("user", "is not accepted"));
        SeedError::Rule { index, fault }
    })
}

fn user(seed: u64, index: u64) -> UserDetails {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(index);
    let draw = &mut Draw(random);
    let script = draw.pick(&words::SCRIPTS, &words::LATIN);
    UserDetails {
        name: name(draw, script),
        email: format!("user-{seed}-{index}@seed.example"),
        phone: draw.chance(70).then(|| phone(draw)),
        addresses: addresses(draw, script),
    }
}

/// One word, two, or many; now and then with words of another script among them.
fn name(draw: &mut Draw, script: &Script) -> String {
    let given = draw.text(script.given);
    let family = draw.text(script.family);
    match draw.below(100) {
        0..15 => given.to_owned(),
        15..70 => format!("{given} {family}"),
        70..80 => format!("{given} {} {family}", draw.text(script.given)),
        80..88 => format!("{given} {} {} {family}", draw.text(script.given), draw.text(script.family)),
        88..93 => format!("{given} {}-{family}", draw.text(script.family)),
        // Two blanks in a row and a blank that is not U+0020 must survive every mapping of names.
        93..95 => format!("{given}  {family}"),
        95..97 => format!("{given}\u{a0}{family}"),
        _ => {
            let other = draw.pick(&words::SCRIPTS, &words::LATIN);
            format!("{given} {} {family}", draw.text(other.family))
        }
    }
}

fn phone(draw: &mut Draw) -> String {
    let number = draw.below(10_000_000_000);
    match draw.below(3) {
        0 => format!("+44 20 {:04} {:04}", number / 10_000 % 10_000, number % 10_000),
        1 => format!("+972-{}-{:07}", 2 + number % 8, number / 10 % 10_000_000),
        _ => format!("0{number:010}"),
    }
}

fn addresses(draw: &mut Draw, script: &Script) -> Vec<Address> {
    // Most users have one; none and several are there, too.
    let count = match draw.below(10) {
        0..2 => 0,
        2..6 => 1,
        6..8 => 2,
        8 => 3,
        _ => 4,
    };
    words::LABELS.iter().cycle().take(count).map(|label| address(draw, script, label)).collect()
}

fn address(draw: &mut Draw, script: &Script, label: &str) -> Address {
    let known = draw.chance(85);
    let street = known.then(|| format!("{} {}", 1 + draw.below(250), draw.text(script.streets)));
    let city = draw.chance(90).then(|| draw.text(script.cities).to_owned());
    let postcode = draw.chance(75).then(|| format!("{:05}", draw.below(100_000)));
    Address {
        label: label.to_owned(),
        street,
        city,
        postcode,
        country: draw.text(script.countries).to_owned(),
    }
}

/// Draws from a user's own stream of random numbers.
struct Draw(ChaCha8Rng);

impl Draw {
    /// A number below `limit`. The slight preference for small ones is of no matter here.
    fn below(&mut self, limit: u64) -> u64 {
        self.0.next_u64() % limit.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<'a, T>(&mut self, choices: &'a [T], otherwise: &'a T) -> &'a T {
        let index = self.below(u64::try_from(choices.len()).unwrap_or(1));
        usize::try_from(index).ok().and_then(|index| choices.get(index)).unwrap_or(otherwise)
    }

    fn text(&mut self, words: &'static [&'static str]) -> &'static str {
        let word: &&str = self.pick(words, &"Unnamed");
        word
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_users() {
        let users: Vec<_> = generate(7, 500).collect();
        assert_eq!(users, generate(7, 500).collect::<Vec<_>>());
        assert_eq!(users[..100], generate(7, 100).collect::<Vec<_>>()[..]);
        assert_ne!(users[0].name, generate(8, 500).nth(1).unwrap().name);
    }

    #[test]
    fn every_generated_user_is_accepted_as_it_is() {
        for (index, user) in generate(42, 20_000).enumerate() {
            assert_eq!(check((index as u64, user.clone())).unwrap(), user);
        }
    }

    #[test]
    fn what_makes_users_difficult_is_there() {
        let users: Vec<_> = generate(1, 5_000).collect();
        let count = |rule: fn(&UserDetails) -> bool| users.iter().filter(|user| rule(user)).count();
        assert!(count(|user| !user.name.contains(' ')) > 300, "one word");
        assert!(count(|user| user.name.split(' ').count() > 2) > 300, "many words");
        assert!(count(|user| user.name.contains("  ")) > 10, "two blanks");
        assert!(count(|user| user.name.contains(|c| ('\u{590}'..'\u{5ff}').contains(&c))) > 300, "Hebrew");
        assert!(count(|user| user.name.contains(|c| ('\u{600}'..'\u{6ff}').contains(&c))) > 300, "Arabic");
        assert!(count(|user| user.phone.is_none()) > 1_000, "no phone");
        for addresses in 0..=4 {
            assert!(
                users.iter().filter(|user| user.addresses.len() == addresses).count() > 100,
                "{addresses}"
            );
        }
        let emails: HashSet<_> = users.iter().map(|user| &user.email).collect();
        assert_eq!(emails.len(), users.len());
        assert_eq!(users[3].email, "user-1-3@seed.example");
    }
}
