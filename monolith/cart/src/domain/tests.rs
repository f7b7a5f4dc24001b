//! What any sequence of puts and merges keeps true.

use proptest::prelude::{Strategy, any, prop, proptest};

use super::*;

fn item(product: i64, quantity: u32) -> CartItem {
    let product_id = ProductId::try_from(product).unwrap();
    CartItem { product_id, quantity, unit_price: Money::gbp(255) }
}

/// Few products and quantities near the limits, so that carts fill up.
fn items(most: usize) -> impl Strategy<Value = Vec<CartItem>> {
    let quantity = proptest::prop_oneof![1..4_u32, QUANTITY_MAX - 2..=QUANTITY_MAX];
    let numbers = prop::collection::btree_map(1..150_i64, quantity, 0..=most);
    numbers.prop_map(|numbers| numbers.into_iter().map(|(id, quantity)| item(id, quantity)).collect())
}

fn stored(into: &[CartItem], changed: Vec<CartItem>) -> Vec<CartItem> {
    let mut all: std::collections::BTreeMap<_, _> =
        into.iter().map(|item| (item.product_id, item.clone())).collect();
    all.extend(changed.into_iter().map(|item| (item.product_id, item)));
    all.into_values().collect()
}

fn is_within_limits(items: &[CartItem]) -> bool {
    items.len() <= ITEMS_MAX && items.iter().all(|item| (1..=QUANTITY_MAX).contains(&item.quantity))
}

fn total(items: &[CartItem]) -> u64 {
    items.iter().map(|item| u64::from(item.quantity)).sum()
}

proptest! {
    #[test]
    fn a_merge_loses_nothing_or_is_refused(into in items(ITEMS_MAX), from in items(ITEMS_MAX)) {
        match merged(&into, &from) {
            Ok(changed) => {
                let all = stored(&into, changed);
                assert!(is_within_limits(&all));
                assert_eq!(total(&all), total(&into) + total(&from));
            }
            Err(error) => {
                assert_eq!(error, CartError::TooFull);
                let both: std::collections::BTreeSet<_> =
                    into.iter().chain(&from).map(|item| item.product_id).collect();
                let overflows = |item: &CartItem| {
                    units(&into, item.product_id).unwrap_or(0) + item.quantity > QUANTITY_MAX
                };
                assert!(both.len() > ITEMS_MAX || from.iter().any(overflows));
            }
        }
    }

    #[test]
    fn no_put_breaks_the_limits(
        there in items(ITEMS_MAX), product in 1..150_i64, quantity in 1..=QUANTITY_MAX, is_set in any::<bool>(),
    ) {
        let item = item(product, quantity);
        let put = if is_set { set(&there, &item) } else { added(&there, &item) };
        if let Ok(put) = put {
            assert!(is_within_limits(&stored(&there, vec![put])));
        }
    }

    #[test]
    fn rows_hold_items_without_loss(items in items(10)) {
        for item in items {
            assert_eq!(super::item(item_row(&item)).unwrap(), item);
        }
    }
}

#[test]
fn a_row_of_another_form_is_reported() {
    let row = fresh(&CartId::from_random(7), None, Timestamp::from_millis(0));
    assert!(matches!(
        cart(CartRow { status: "lost".to_owned(), ..row.clone() }, vec![]),
        Err(RowError::Status)
    ));
    assert!(matches!(cart(CartRow { id: "7".to_owned(), ..row.clone() }, vec![]), Err(RowError::CartId(_))));
    assert!(matches!(cart(CartRow { user_id: Some(0), ..row }, vec![]), Err(RowError::Id(_))));
    let row = ItemRow { quantity: -1, ..item_row(&item(1, 1)) };
    assert!(matches!(super::item(row), Err(RowError::Quantity)));
}
