//! Facts about the catalog port.
//!
//! Invariant: each begins with an empty catalog.

use super::{call, call_with_key, done, mug};
use crate::catalog::{
    Catalog, CatalogError, Category, CategoryDetails, Product, ProductDetails, ProductFilter,
};
use crate::{CategoryId, Money, ProductId};

/// An empty catalog.
pub trait CatalogFixture: Send + Sync {
    /// Its port.
    fn catalog(&self) -> &dyn Catalog;
}

/// One asynchronous test per fact of the catalog port, each with the fixture that the given async function makes.
#[macro_export]
macro_rules! catalog_suite {
    ($fixture:path) => {
        $crate::suite_tests!(catalog of $fixture:
            a_category_can_be_read_back_and_replaced,
            a_category_in_use_cannot_be_deleted,
            a_category_is_never_a_part_of_itself,
            a_created_product_can_be_read_back,
            a_deleted_product_is_gone_and_its_id_stays_unused,
            a_key_repeats_its_command_and_no_other,
            a_name_of_a_category_is_given_once,
            a_taken_sku_is_refused_by_create_and_update,
            an_unknown_category_is_refused,
            an_update_replaces_all_details,
            another_price_is_kept_in_the_history,
            categories_come_in_pages,
            ensuring_twice_adds_once,
            filters_narrow_the_list_together,
            many_products_come_once_each_in_order_of_id,
            pages_join_to_all_products,
            products_are_found_by_their_words,
            what_was_changed_since_is_left_as_it_is,
        );
    };
}

async fn product(catalog: &dyn Catalog, details: ProductDetails) -> Product {
    done(catalog.create(&call(), details).await)
}

async fn category(catalog: &dyn Catalog, name: &str, parent_id: Option<CategoryId>) -> Category {
    done(catalog.create_category(&call(), kind(name, parent_id)).await)
}

fn kind(name: &str, parent_id: Option<CategoryId>) -> CategoryDetails {
    CategoryDetails { name: name.to_owned(), parent_id }
}

fn named(sku: &str, name: &str) -> ProductDetails {
    ProductDetails { name: name.to_owned(), ..mug(sku) }
}

fn text(text: &str) -> ProductFilter {
    ProductFilter { text: Some(text.to_owned()), category_id: None }
}

/// The units of all products that pass, page by page.
async fn found(catalog: &dyn Catalog, filter: ProductFilter) -> Vec<String> {
    let mut skus = Vec::new();
    let mut last = None;
    loop {
        let page = done(catalog.list(&call(), filter.clone(), last, 2).await);
        assert!(page.items.len() <= 2, "a page of {} where 2 were asked for", page.items.len());
        assert!(page.items.iter().all(|product| Some(product.id) > last));
        last = page.items.last().map(|product| product.id);
        skus.extend(page.items.into_iter().map(|product| product.details.sku));
        if !page.more {
            return skus;
        }
    }
}

/// What `create` returns is what `get` returns.
pub async fn a_created_product_can_be_read_back(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let parent = category(catalog, "Kitchen", None).await;
    for category_id in [None, Some(parent.id)] {
        let details = ProductDetails { category_id, ..mug(&format!("{category_id:?}")) };
        let created = product(catalog, details.clone()).await;
        assert_eq!((&created.details, created.version), (&details, 1));
        assert_eq!(created.created_at, created.updated_at);
        assert_eq!(catalog.get(&call(), created.id).await, Ok(created));
    }
}

/// A unit names one product; a refused write leaves nothing behind.
pub async fn a_taken_sku_is_refused_by_create_and_update(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let (first, second) = (product(catalog, mug("A1")).await, product(catalog, mug("B2")).await);
    let taken = Err(CatalogError::SkuTaken { sku: "A1".to_owned() });
    assert_eq!(catalog.create(&call(), mug("A1")).await, taken);
    assert_eq!(catalog.update(&call(), second.id, mug("A1"), None).await, taken);
    assert_eq!(catalog.get_many(&call(), vec![first.id, second.id]).await, Ok(vec![first, second]));
}

/// An update keeps the id and the beginning, and takes the next version.
pub async fn an_update_replaces_all_details(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let kitchen = category(catalog, "Kitchen", None).await;
    let before = product(catalog, ProductDetails { category_id: Some(kitchen.id), ..mug("A1") }).await;
    let details = ProductDetails { price: Money::gbp(1), ..named("A2", "Cup") };
    let after = done(catalog.update(&call(), before.id, details.clone(), None).await);
    assert_eq!((after.id, after.created_at, &after.details), (before.id, before.created_at, &details));
    assert!(after.version > before.version);
    assert_eq!(catalog.get(&call(), before.id).await, Ok(after));
}

/// A removed product is not found by anything, and its id does not come back.
pub async fn a_deleted_product_is_gone_and_its_id_stays_unused(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let Product { id, .. } = product(catalog, mug("A1")).await;
    done(catalog.delete(&call(), id, None).await);
    let gone = CatalogError::NotFound { id };
    assert_eq!(catalog.get(&call(), id).await, Err(gone.clone()));
    assert_eq!(catalog.delete(&call(), id, None).await, Err(gone.clone()));
    assert_eq!(catalog.update(&call(), id, mug("A1"), None).await, Err(gone.clone()));
    assert_eq!(catalog.prices(&call(), id, None, 5).await, Err(gone));
    assert_eq!(found(catalog, text("mug")).await, [""; 0]);
    assert!(product(catalog, mug("A1")).await.id > id);
}

/// Ids that are not there are left out, repeats come once.
pub async fn many_products_come_once_each_in_order_of_id(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let (first, second) = (product(catalog, mug("A")).await, product(catalog, mug("B")).await);
    let missing = done(ProductId::try_from(4711));
    let asked = vec![second.id, missing, first.id, second.id];
    assert_eq!(catalog.get_many(&call(), asked).await, Ok(vec![first, second]));
    assert_eq!(catalog.get_many(&call(), Vec::new()).await, Ok(Vec::new()));
}

/// A second call with the same batch changes nothing; the answer keeps the order, repeats included.
pub async fn ensuring_twice_adds_once(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let there = product(catalog, mug("B")).await;
    let batch = vec![mug("A"), named("B", "Another"), mug("C"), mug("A")];
    let first = done(catalog.ensure(&call(), batch.clone()).await);
    assert_eq!(first.iter().map(|ensured| ensured.added).collect::<Vec<_>>(), [true, false, true, false]);
    assert_eq!(first.get(1).map(|ensured| ensured.id), Some(there.id));
    assert_eq!(first.first().map(|ensured| ensured.id), first.get(3).map(|ensured| ensured.id));
    let second = done(catalog.ensure(&call(), batch).await);
    assert!(second.iter().all(|ensured| !ensured.added));
    assert!(first.iter().zip(&second).all(|(first, second)| first.id == second.id));
    assert_eq!(found(catalog, text("mug")).await, ["B", "A", "C"]);
    let prices = done(catalog.prices(&call(), there.id, None, 5).await);
    assert_eq!(prices.items.len(), 1);
}

/// Pages join to all products, ascending, none twice.
pub async fn pages_join_to_all_products(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let skus: Vec<String> = (0..7).map(|number| format!("M{number}")).collect();
    done(catalog.ensure(&call(), skus.iter().map(|sku| mug(sku)).collect()).await);
    assert_eq!(found(catalog, ProductFilter::default()).await, skus);
    assert_eq!(found(catalog, text("mug")).await, skus);
}

/// Both conditions must hold; a category does not stand for those in it.
pub async fn filters_narrow_the_list_together(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let kitchen = category(catalog, "Kitchen", None).await.id;
    let cups = category(catalog, "Cups", Some(kitchen)).await.id;
    for (sku, name, category_id) in [
        ("A", "Red mug", Some(kitchen)),
        ("B", "Red cup", Some(cups)),
        ("C", "Blue cup", Some(cups)),
        ("D", "Red", None),
    ] {
        product(catalog, ProductDetails { category_id, ..named(sku, name) }).await;
    }
    for (words, category_id, expected) in [
        (None, Some(kitchen), vec!["A"]),
        (None, Some(cups), vec!["B", "C"]),
        (Some("red"), None, vec!["A", "B", "D"]),
        (Some("red"), Some(cups), vec!["B"]),
        (Some("blue"), Some(kitchen), vec![]),
    ] {
        let filter = ProductFilter { text: words.map(str::to_owned), category_id };
        assert_eq!(found(catalog, filter.clone()).await, expected, "{filter:?}");
    }
}

/// Each word of the query begins a word of name or sku, whatever the script, the case and the signs around it. A query
/// without a word finds nothing.
pub async fn products_are_found_by_their_words(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    for (sku, name) in [
        ("A1-x9", "White hanging HEART t-light holder"),
        ("B2", "Jam-making set/printed (1.5 l)"),
        ("C3", "Crème brûlée ÉCLAIR"),
        ("D4", "Große Straße"),
        ("E5", "Красная кружка"),
        ("F6", "كوب أحمر"),
        ("G7", "赤い マグ"),
        ("H8", "ΟΔΟΣ ΟΔΟΣΑ"),
        ("I9", "2e5 -5 +3 mail@example.com http://example.com/a?b=c o'clock NOT"),
        ("J_10", "??? !"),
    ] {
        product(catalog, named(sku, name)).await;
    }
    let long = "x".repeat(10_000);
    let many: String = (0..2_500).map(|number| format!("{number:03} ")).collect();
    for (query, expected) in [
        ("heart", vec!["A1-x9"]),
        ("HOLD whi", vec!["A1-x9"]),
        ("eart", vec![]),
        ("heart mug", vec![]),
        ("heart heart he h", vec!["A1-x9"]),
        ("a1", vec!["A1-x9"]),
        ("a1-X9", vec!["A1-x9"]),
        ("t-light", vec!["A1-x9"]),
        ("making", vec!["B2"]),
        ("print 5", vec!["B2"]),
        ("1.5", vec!["B2"]),
        ("crème", vec!["C3"]),
        ("creme", vec![]),
        ("éc", vec!["C3"]),
        ("cre\u{300}me", vec![]),
        ("GROSSE", vec!["D4"]),
        ("straß", vec!["D4"]),
        ("КРАС круж", vec!["E5"]),
        ("أح", vec!["F6"]),
        ("マ", vec!["G7"]),
        ("οδος", vec!["H8"]),
        ("ΟΔΟΣΑ", vec!["H8"]),
        ("2E", vec!["I9"]),
        ("-5", vec!["B2", "I9"]),
        ("example.com", vec!["I9"]),
        ("o'clock", vec!["I9"]),
        ("NOT", vec!["I9"]),
        ("j_10", vec!["J_10"]),
        ("a b c d e f g h i j k l m n o p q r s t u v w x y z", vec![]),
        ("", vec![]),
        (" ", vec![]),
        ("?", vec![]),
        ("* \" ' : ( ) & | ! <-> \\ - ^ + { } ; -- \u{0} % _", vec![]),
        ("heart OR mug", vec![]),
        ("heart AND holder", vec![]),
        ("NEAR(heart holder)", vec![]),
        ("words:heart", vec![]),
        ("heart:*", vec!["A1-x9"]),
        ("\"heart\"", vec!["A1-x9"]),
        ("heart*", vec!["A1-x9"]),
        ("^heart", vec!["A1-x9"]),
        ("'heart", vec!["A1-x9"]),
        ("!heart", vec!["A1-x9"]),
        ("heart' | 'a", vec!["A1-x9"]),
        ("heart'); DROP TABLE catalog_products; --", vec![]),
        (long.as_str(), vec![]),
        (many.as_str(), vec![]),
        ("nothing", vec![]),
    ] {
        let start: String = query.chars().take(60).collect();
        assert_eq!(found(catalog, text(query)).await, expected, "{start:?}");
    }
    let Some(heart) = done(catalog.list(&call(), text("heart"), None, 1).await).items.pop() else {
        panic!("no heart")
    };
    done(catalog.update(&call(), heart.id, named("A1", "Round mirror"), None).await);
    assert_eq!(found(catalog, text("heart")).await, [""; 0]);
    assert_eq!(found(catalog, text("mirror round a1")).await, ["A1"]);
}

/// The first price begins the history, another one is added to it, the same one is not.
pub async fn another_price_is_kept_in_the_history(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let mut expected = Vec::new();
    let created = product(catalog, mug("A1")).await;
    expected.push((created.details.price, created.version));
    let dollars = Money { currency: done("USD".to_owned().try_into()), ..Money::gbp(300) };
    for price in [Money::gbp(255), Money::gbp(300), Money::gbp(300), dollars, Money::gbp(255)] {
        let details = ProductDetails { price, ..mug("A1") };
        let updated = done(catalog.update(&call(), created.id, details, None).await);
        if expected.last().is_some_and(|(last, _)| *last != price) {
            expected.push((price, updated.version));
        }
    }
    let mut history = Vec::new();
    loop {
        let after = history.last().map(|(_, version)| *version);
        let page = done(catalog.prices(&call(), created.id, after, 3).await);
        history.extend(page.items.iter().map(|change| (change.price, change.version)));
        if !page.more {
            break;
        }
    }
    assert_eq!((history.len(), &history), (4, &expected));
    assert!(history.is_sorted_by(|(_, earlier), (_, later)| earlier < later));
}

/// Whoever looked at another version changes nothing; the right version passes.
pub async fn what_was_changed_since_is_left_as_it_is(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let seen = product(catalog, mug("A1")).await;
    let now = done(catalog.update(&call(), seen.id, named("A1", "Cup"), Some(seen.version)).await);
    let changed = CatalogError::Changed { id: seen.id };
    let (old, new) = (Some(seen.version), Some(now.version));
    assert_eq!(catalog.update(&call(), seen.id, mug("A1"), old).await, Err(changed.clone()));
    assert_eq!(catalog.delete(&call(), seen.id, old).await, Err(changed));
    assert_eq!(catalog.get(&call(), seen.id).await, Ok(now));
    done(catalog.delete(&call(), seen.id, new).await);

    let seen = category(catalog, "Kitchen", None).await;
    let now = done(catalog.update_category(&call(), seen.id, kind("Table", None), Some(seen.version)).await);
    let changed = CatalogError::CategoryChanged { id: seen.id };
    let (old, new) = (Some(seen.version), Some(now.version));
    assert_eq!(
        catalog.update_category(&call(), seen.id, kind("Bath", None), old).await,
        Err(changed.clone())
    );
    assert_eq!(catalog.delete_category(&call(), seen.id, old).await, Err(changed));
    assert_eq!(catalog.category(&call(), seen.id).await, Ok(now));
    done(catalog.delete_category(&call(), seen.id, new).await);
}

/// Categories are created, read, replaced and removed.
pub async fn a_category_can_be_read_back_and_replaced(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let (kitchen, bath) = (category(catalog, "Kitchen", None).await, category(catalog, "Bath", None).await);
    let cups = category(catalog, "Cups", Some(kitchen.id)).await;
    assert_eq!((&cups.details, cups.version), (&kind("Cups", Some(kitchen.id)), 1));
    assert_eq!(catalog.category(&call(), cups.id).await, Ok(cups.clone()));
    let moved = done(catalog.update_category(&call(), cups.id, kind("Mugs", Some(bath.id)), None).await);
    assert_eq!((moved.id, &moved.details), (cups.id, &kind("Mugs", Some(bath.id))));
    assert!(moved.version > cups.version);
    assert_eq!(catalog.category(&call(), cups.id).await, Ok(moved));
    done(catalog.delete_category(&call(), cups.id, None).await);
    let gone = CatalogError::NoSuchCategory { id: cups.id };
    assert_eq!(catalog.category(&call(), cups.id).await, Err(gone.clone()));
    assert_eq!(catalog.update_category(&call(), cups.id, kind("Mugs", None), None).await, Err(gone.clone()));
    assert_eq!(catalog.delete_category(&call(), cups.id, None).await, Err(gone));
    assert!(category(catalog, "Cups", None).await.id > cups.id);
}

/// A name belongs to one category.
pub async fn a_name_of_a_category_is_given_once(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    category(catalog, "Kitchen", None).await;
    let bath = category(catalog, "Bath", None).await;
    let taken = Err(CatalogError::NameTaken { name: "Kitchen".to_owned() });
    assert_eq!(catalog.create_category(&call(), kind("Kitchen", None)).await, taken);
    assert_eq!(catalog.update_category(&call(), bath.id, kind("Kitchen", None), None).await, taken);
    assert_eq!(catalog.category(&call(), bath.id).await, Ok(bath));
}

/// Neither its own parent nor below one of its parts.
pub async fn a_category_is_never_a_part_of_itself(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let top = category(catalog, "Top", None).await;
    let middle = category(catalog, "Middle", Some(top.id)).await;
    let bottom = category(catalog, "Bottom", Some(middle.id)).await;
    for parent in [top.id, middle.id, bottom.id] {
        let refused = catalog.update_category(&call(), top.id, kind("Top", Some(parent)), None).await;
        assert_eq!(refused, Err(CatalogError::CategoryCycle { id: top.id }));
    }
    assert_eq!(catalog.category(&call(), top.id).await, Ok(top.clone()));
    let moved = catalog.update_category(&call(), bottom.id, kind("Bottom", Some(top.id)), None).await;
    assert_eq!(done(moved).details.parent_id, Some(top.id));
}

/// Products and categories in it keep a category from being removed.
pub async fn a_category_in_use_cannot_be_deleted(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let (top, part) = (category(catalog, "Top", None).await, category(catalog, "Part", None).await);
    done(catalog.update_category(&call(), part.id, kind("Part", Some(top.id)), None).await);
    let mug = product(catalog, ProductDetails { category_id: Some(part.id), ..mug("A1") }).await;
    for id in [top.id, part.id] {
        let refused = catalog.delete_category(&call(), id, None).await;
        assert_eq!(refused, Err(CatalogError::CategoryInUse { id }));
    }
    done(catalog.delete(&call(), mug.id, None).await);
    done(catalog.delete_category(&call(), part.id, None).await);
    done(catalog.delete_category(&call(), top.id, None).await);
}

/// A category must be there before products or other categories are in it.
pub async fn an_unknown_category_is_refused(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let id = done(CategoryId::try_from(4711));
    let (there, top) = (product(catalog, mug("A1")).await, category(catalog, "Top", None).await);
    let unknown = CatalogError::NoSuchCategory { id };
    let details = |sku| ProductDetails { category_id: Some(id), ..mug(sku) };
    assert_eq!(catalog.create(&call(), details("B2")).await, Err(unknown.clone()));
    assert_eq!(catalog.update(&call(), there.id, details("A1"), None).await, Err(unknown.clone()));
    assert_eq!(catalog.ensure(&call(), vec![mug("C3"), details("D4")]).await, Err(unknown.clone()));
    assert_eq!(catalog.create_category(&call(), kind("New", Some(id))).await, Err(unknown.clone()));
    // The number that the new one would get is no category either.
    let own = done(CategoryId::try_from(top.id.get() + 1));
    let itself = catalog.create_category(&call(), kind("New", Some(own))).await;
    assert_eq!(itself, Err(CatalogError::NoSuchCategory { id: own }));
    assert_eq!(catalog.update_category(&call(), top.id, kind("Top", Some(id)), None).await, Err(unknown));
    assert_eq!(found(catalog, ProductFilter { category_id: Some(id), text: None }).await, [""; 0]);
    assert_eq!(found(catalog, ProductFilter::default()).await, ["A1"]);
    assert_eq!(catalog.category(&call(), top.id).await, Ok(top));
}

/// Pages join to all categories, ascending.
pub async fn categories_come_in_pages(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let mut expected = Vec::new();
    for number in 0..5 {
        expected.push(category(catalog, &format!("C{number}"), None).await);
    }
    let first = done(catalog.categories(&call(), None, 3).await);
    let last = first.items.last().map(|category| category.id);
    let rest = done(catalog.categories(&call(), last, 3).await);
    assert_eq!((first.more, rest.more), (true, false));
    assert_eq!([first.items, rest.items].concat(), expected);
}

/// The same key again gives the same answer and does nothing more; with another command it is refused.
pub async fn a_key_repeats_its_command_and_no_other(fixture: &dyn CatalogFixture) {
    let catalog = fixture.catalog();
    let (a, other) = (call_with_key("a", "one"), call_with_key("a", "two"));
    let created = done(catalog.create(&a, mug("A1")).await);
    done(catalog.update(&call(), created.id, named("A1", "Cup"), None).await);
    assert_eq!(catalog.create(&a, mug("A1")).await, Ok(created));
    let b = call_with_key("b", "one");
    let kitchen = done(catalog.create_category(&b, kind("Kitchen", None)).await);
    assert_eq!(catalog.create_category(&b, kind("Kitchen", None)).await, Ok(kitchen));
    let reused = catalog.create(&other, mug("B2")).await;
    assert!(matches!(reused, Err(CatalogError::KeyReused(_))), "{reused:?}");
    // A command of another kind is another command, too.
    let reused = catalog.create_category(&a, kind("Bath", None)).await;
    assert!(matches!(reused, Err(CatalogError::KeyReused(_))), "{reused:?}");
    assert_eq!(found(catalog, ProductFilter::default()).await, ["A1"]);
}
