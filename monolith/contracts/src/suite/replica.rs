//! Facts about an owner and the side that takes its images.
//!
//! Invariant: images travel as a relay carries them: in order, any stretch of them possibly again.

use super::{ReplicaFixture, all_users, call, done, person};
use crate::replication::{Applied, Image};
use crate::users::{Users, UsersError};

/// One change of the owner in a script: which user, and what becomes of it.
#[derive(Debug, Clone, Copy)]
pub enum Step {
    /// Adds a user with the e-mail address of this number.
    Create(u8),
    /// Gives the user at this place of the list the address of this number.
    Update(u8, u8),
    /// Removes the user at this place of the list.
    Delete(u8),
}

/// How a stretch of images travels.
#[derive(Debug, Clone, Copy)]
pub struct Delivery {
    /// How many images go before the relay is interrupted.
    pub forth: u8,
    /// How many of those it has sent go again after its restart.
    pub back: u8,
}

/// Creates, updates, removals and bulk additions all reach the other side, which then is equal.
pub async fn every_change_of_the_owner_arrives(fixture: &dyn ReplicaFixture) {
    let owner = fixture.owner();
    let ann = done(owner.create(&call(), person("Ann Lee", "ann@example.com")).await);
    let bob = done(owner.create(&call(), person("Bob", "bob@example.com")).await);
    done(owner.update(&call(), ann.id, person("Plato", "plato@example.com"), None).await);
    done(owner.delete(&call(), bob.id, None).await);
    done(
        owner.ensure(&call(), vec![person("Eve", "eve@example.com"), person("X", "plato@example.com")]).await,
    );
    let images = deliver_all(fixture).await;
    assert_eq!(images.len(), 5);
    assert_eq!(done(fixture.log().backlog().await).pending, 0);
    assert_equal(fixture).await;
}

/// Two addresses that change places through a third: no order of newest states could resolve this.
pub async fn a_swap_of_e_mail_addresses_arrives(fixture: &dyn ReplicaFixture) {
    let owner = fixture.owner();
    let ann = done(owner.create(&call(), person("Ann", "a@example.com")).await);
    let bob = done(owner.create(&call(), person("Bob", "b@example.com")).await);
    deliver_all(fixture).await;
    done(owner.update(&call(), ann.id, person("Ann", "c@example.com"), None).await);
    done(owner.update(&call(), bob.id, person("Bob", "a@example.com"), None).await);
    done(owner.update(&call(), ann.id, person("Ann", "b@example.com"), None).await);
    deliver_all(fixture).await;
    assert_equal(fixture).await;
}

/// A relay that lost its memory begins again from the first image and does no harm.
pub async fn delivering_everything_twice_changes_nothing(fixture: &dyn ReplicaFixture) {
    let owner = fixture.owner();
    let ann = done(owner.create(&call(), person("Ann", "a@example.com")).await);
    done(owner.update(&call(), ann.id, person("Ann", "b@example.com"), None).await);
    let bob = done(owner.create(&call(), person("Bob", "a@example.com")).await);
    done(owner.delete(&call(), bob.id, None).await);
    let images = deliver_all(fixture).await;
    for image in images {
        assert_eq!(fixture.sink().apply(image).await, Ok(Applied::Stale));
    }
    assert_equal(fixture).await;
}

/// Runs any script on the owner, delivers its images with any interruptions, and finds both sides equal.
pub async fn run_script(fixture: &dyn ReplicaFixture, steps: &[Step], deliveries: &[Delivery]) {
    for step in steps {
        take(fixture.owner(), *step).await;
    }
    let images = done(fixture.log().pending(u32::MAX).await);
    assert!(images.is_sorted_by(|earlier, later| earlier.version < later.version));
    let mut sent: usize = 0;
    for delivery in deliveries {
        let end = images.len().min(sent + usize::from(delivery.forth));
        apply(fixture, images.get(sent..end).unwrap_or_default()).await;
        sent = end.saturating_sub(usize::from(delivery.back));
    }
    apply(fixture, images.get(sent..).unwrap_or_default()).await;
    assert_equal(fixture).await;
}

/// Refusals are part of the game: addresses collide, and lists are empty.
async fn take(owner: &dyn Users, step: Step) {
    let users = all_users(owner).await;
    let at = |place: u8| users.get(usize::from(place) % users.len().max(1)).map(|user| user.id);
    let details = |number: u8| person(&format!("User {number}"), &format!("{number}@example.com"));
    let refused = match step {
        Step::Create(number) => owner.create(&call(), details(number)).await.err(),
        Step::Update(place, number) => match at(place) {
            Some(id) => owner.update(&call(), id, details(number), None).await.err(),
            None => None,
        },
        Step::Delete(place) => match at(place) {
            Some(id) => owner.delete(&call(), id, None).await.err(),
            None => None,
        },
    };
    assert!(matches!(refused, None | Some(UsersError::EmailTaken { .. })), "{refused:?}");
}

async fn deliver_all(fixture: &dyn ReplicaFixture) -> Vec<Image> {
    let images = done(fixture.log().pending(u32::MAX).await);
    apply(fixture, &images).await;
    if let Some(last) = images.last() {
        done(fixture.log().delivered(last.version).await);
    }
    images
}

async fn apply(fixture: &dyn ReplicaFixture, images: &[Image]) {
    for image in images {
        done(fixture.sink().apply(image.clone()).await);
    }
}

async fn assert_equal(fixture: &dyn ReplicaFixture) {
    assert_eq!(all_users(fixture.replica()).await, all_users(fixture.owner()).await);
}
