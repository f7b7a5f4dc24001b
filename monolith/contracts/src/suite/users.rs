//! Facts about one side's users port.
//!
//! Invariant: each begins with an empty context that owns its data.

use super::{UsersFixture, address, all_users, call, call_with_key, done, person};
use crate::users::{Address, Ensured, UserDetails, UsersError};
use crate::{KeyReused, UserId};

/// What `create` returns is what `get` returns.
pub async fn a_created_user_can_be_read_back(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let created = done(users.create(&call(), person("Ann Lee", "ann@example.com")).await);
    assert_eq!(created.details, person("Ann Lee", "ann@example.com"));
    assert_eq!(created.created_at, created.updated_at);
    assert_eq!(users.get(&call(), created.id).await, Ok(created));
}

/// Reading, changing and removing what is not there says so, with the id.
pub async fn an_unknown_user_is_not_found(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let id = done(UserId::try_from(4711));
    assert_eq!(users.get(&call(), id).await, Err(UsersError::NotFound { id }));
    assert_eq!(users.delete(&call(), id, None).await, Err(UsersError::NotFound { id }));
    let updated = users.update(&call(), id, person("Ann Lee", "ann@example.com"), None).await;
    assert_eq!(updated, Err(UsersError::NotFound { id }));
    assert_eq!(all_users(users).await, []);
}

/// An e-mail address belongs to one user; a refused write leaves nothing behind.
pub async fn a_second_user_with_the_e_mail_address_is_refused(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let ann = done(users.create(&call(), person("Ann", "ann@example.com")).await);
    let bob = done(users.create(&call(), person("Bob", "bob@example.com")).await);
    let taken = || UsersError::EmailTaken { email: "ann@example.com".to_owned() };
    assert_eq!(users.create(&call(), person("Eve", "ann@example.com")).await, Err(taken()));
    assert_eq!(users.update(&call(), bob.id, person("Bob", "ann@example.com"), None).await, Err(taken()));
    assert_eq!(all_users(users).await, [ann, bob]);
}

/// An update replaces name, address, phone and addresses, and keeps the id and the beginning.
pub async fn an_update_replaces_everything_but_the_beginning(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let before = done(users.create(&call(), person("Ann Lee", "ann@example.com")).await);
    let bare = UserDetails {
        name: "Ann".to_owned(),
        email: "ann@example.com".to_owned(),
        phone: None,
        addresses: Vec::new(),
    };
    for details in [bare, person("Ann Marie Lee", "lee@example.com")] {
        let after = done(users.update(&call(), before.id, details.clone(), None).await);
        assert_eq!((after.id, after.created_at), (before.id, before.created_at));
        assert_eq!(after.details, details);
        assert_eq!(users.get(&call(), before.id).await, Ok(after));
    }
}

/// Who expects another version than the user has changes nothing; who expects the right one does.
pub async fn an_update_at_another_version_changes_nothing(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let first = done(users.create(&call(), person("Ann", "ann@example.com")).await);
    let details = || person("Lee", "lee@example.com");
    let second = done(users.update(&call(), first.id, details(), Some(first.version)).await);
    for other in [first.version, second.version + 1, 0] {
        let refused = users.update(&call(), first.id, person("Eve", "eve@example.com"), Some(other)).await;
        assert_eq!(refused, Err(UsersError::Changed { id: first.id }));
    }
    assert_eq!(all_users(users).await, [second]);
    let nobody = done(UserId::try_from(4711));
    let unknown = users.update(&call(), nobody, details(), Some(1)).await;
    assert_eq!(unknown, Err(UsersError::NotFound { id: nobody }));
}

/// The same of removals.
pub async fn a_delete_at_another_version_changes_nothing(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let user = done(users.create(&call(), person("Ann", "ann@example.com")).await);
    let refused = users.delete(&call(), user.id, Some(user.version + 1)).await;
    assert_eq!(refused, Err(UsersError::Changed { id: user.id }));
    assert_eq!(users.get(&call(), user.id).await, Ok(user.clone()));
    done(users.delete(&call(), user.id, Some(user.version)).await);
    let gone = users.delete(&call(), user.id, Some(user.version)).await;
    assert_eq!(gone, Err(UsersError::NotFound { id: user.id }));
}

/// A create that comes again under its key returns the user as it was stored, and adds nobody.
pub async fn creating_again_under_the_key_returns_the_same_user(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let create = async || users.create(&call_with_key("k", "Ann"), person("Ann", "ann@example.com")).await;
    let created = done(create().await);
    assert_eq!(create().await, Ok(created.clone()));
    let updated = done(users.update(&call(), created.id, person("Lee", "lee@example.com"), None).await);
    assert_eq!(create().await, Ok(created));
    assert_eq!(all_users(users).await, [updated]);
}

/// A key stands for one command; another one under it is refused.
pub async fn a_key_of_another_create_is_refused(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let ann = done(users.create(&call_with_key("k", "Ann"), person("Ann", "ann@example.com")).await);
    let refused = users.create(&call_with_key("k", "Bob"), person("Bob", "bob@example.com")).await;
    assert_eq!(refused, Err(KeyReused { key: "k".to_owned() }.into()));
    assert_eq!(all_users(users).await, [ann]);
}

/// A refused create keeps no key, so the same one may be tried again.
pub async fn a_refused_create_leaves_its_key_free(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let ann = done(users.create(&call(), person("Ann", "ann@example.com")).await);
    let create = async || users.create(&call_with_key("k", "Bob"), person("Bob", "ann@example.com")).await;
    assert_eq!(create().await, Err(UsersError::EmailTaken { email: "ann@example.com".to_owned() }));
    done(users.delete(&call(), ann.id, None).await);
    let bob = done(create().await);
    assert_eq!(all_users(users).await, [bob]);
}

/// A removed user is not found, also not by a second removal.
pub async fn a_deleted_user_is_gone(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let user = done(users.create(&call(), person("Ann", "ann@example.com")).await);
    let version = done(users.delete(&call(), user.id, None).await);
    assert!(version > user.version, "the removal took version {version} after {}", user.version);
    let gone = UsersError::NotFound { id: user.id };
    assert_eq!(users.get(&call(), user.id).await, Err(gone.clone()));
    assert_eq!(users.delete(&call(), user.id, None).await, Err(gone));
    assert_eq!(all_users(users).await, []);
}

/// The highest id does not come back after its user was removed.
pub async fn an_id_is_never_given_out_again(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let mut last = done(users.create(&call(), person("Ann", "ann@example.com")).await).id;
    for _ in 0..3 {
        done(users.delete(&call(), last, None).await);
        let next = done(users.create(&call(), person("Ann", "ann@example.com")).await).id;
        assert!(next > last, "{next} came after {last}");
        last = next;
    }
}

/// A removal frees the e-mail address.
pub async fn an_e_mail_address_of_a_deleted_user_is_free(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let ann = done(users.create(&call(), person("Ann", "ann@example.com")).await);
    done(users.delete(&call(), ann.id, None).await);
    let bob = done(users.create(&call(), person("Bob", "ann@example.com")).await);
    assert_eq!(all_users(users).await, [bob]);
}

/// Every write to any user takes a version above all before it.
pub async fn versions_grow_with_every_write(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let ann = done(users.create(&call(), person("Ann", "ann@example.com")).await);
    let bob = done(users.create(&call(), person("Bob", "bob@example.com")).await);
    let lee = done(users.update(&call(), ann.id, person("Lee", "lee@example.com"), None).await);
    let removed = done(users.delete(&call(), bob.id, None).await);
    let eve = done(users.create(&call(), person("Eve", "eve@example.com")).await);
    let versions = [ann.version, bob.version, lee.version, removed, eve.version];
    assert!(versions.is_sorted_by(|earlier, later| earlier < later), "{versions:?}");
}

/// Pages join to all users, ascending, none twice, also around a gap.
pub async fn listing_walks_all_users_in_order_of_id(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let mut expected = Vec::new();
    for number in 0..22 {
        let details = person(&format!("User {number}"), &format!("user{number}@example.com"));
        expected.push(done(users.create(&call(), details).await));
    }
    assert_eq!(all_users(users).await, expected);
    let gone = expected.remove(6);
    done(users.delete(&call(), gone.id, None).await);
    assert_eq!(all_users(users).await, expected);
}

/// Users with a known address are found, the others added; the answer keeps the order, repeats included.
pub async fn ensuring_finds_or_adds_in_the_order_given(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let ann = done(users.create(&call(), person("Ann", "ann@example.com")).await);
    let batch = vec![
        person("Bob", "bob@example.com"),
        person("Somebody Else", "ann@example.com"),
        person("Bob", "bob@example.com"),
    ];
    let ensured = done(users.ensure(&call(), batch).await);
    let [bob, found, repeated] = ensured.as_slice() else { panic!("3 ids expected, got {ensured:?}") };
    assert_eq!(*found, Ensured { id: ann.id, added: false });
    assert_eq!((bob.added, *repeated), (true, Ensured { id: bob.id, added: false }));
    let stored = all_users(users).await;
    assert_eq!(stored.iter().map(|user| user.details.name.as_str()).collect::<Vec<_>>(), ["Ann", "Bob"]);
    assert_eq!(stored.first(), Some(&ann));
}

/// A second call with the same batch changes nothing.
pub async fn ensuring_twice_adds_once(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let batch: Vec<UserDetails> =
        (0..30).map(|number| person(&format!("U{number}"), &format!("u{number}@example.com"))).collect();
    let first = done(users.ensure(&call(), batch.clone()).await);
    assert!(first.iter().all(|ensured| ensured.added));
    let stored = all_users(users).await;
    let second = done(users.ensure(&call(), batch).await);
    assert!(second.iter().all(|ensured| !ensured.added));
    assert!(first.iter().zip(&second).all(|(first, second)| first.id == second.id));
    assert_eq!(all_users(users).await, stored);
}

/// Names of every form, missing parts and the order of addresses survive being stored.
pub async fn texts_come_back_as_they_were(fixture: &dyn UsersFixture) {
    let users = fixture.users();
    let names = [
        "Plato",
        "Ann Lee",
        "Juan Carlos de Borbón",
        "محمد بن سلمان",
        "שרה",
        "李 小龍",
        "A  B",
        "O'Neil \"X\" \\",
    ];
    let sparse =
        Address { street: None, city: Some("Łódź".to_owned()), postcode: None, ..address("work \"2\"") };
    for (number, name) in names.into_iter().enumerate() {
        let mut details = person(name, &format!("{number}@example.com"));
        details.phone = None;
        details.addresses = vec![sparse.clone(), address("home"), sparse.clone()];
        let created = done(users.create(&call(), details.clone()).await);
        assert_eq!(done(users.get(&call(), created.id).await).details, details);
    }
}
