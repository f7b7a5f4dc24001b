//! The shop's trade on both databases: checkouts to their end, failures of the provider, cancellations, and the way out of
//! what needs a person.

use harness::http::Ask;
use harness::shop::{Books, Shop, Storage, order};
use hyper::Method;
use serde_json::{Value, json};

const ORDERS: &str = "/api/v1/orders";

/// Runs a test on both databases, each with a stocked shop of its own and one monolith.
fn on_both(test: impl Fn(&mut Shop)) {
    for storage in [Storage::Sqlite, Storage::Postgres] {
        let mut shop = Shop::stocked(storage, 100).unwrap();
        shop.start(&[]).unwrap();
        test(&mut shop);
    }
}

fn place(shop: &Shop, order: &Value) -> i64 {
    shop.post(0, ORDERS, order, 201).unwrap()["id"].as_i64().unwrap()
}

fn read(shop: &Shop, target: &str) -> Value {
    let answer = shop.ask(0, Ask::get(target)).unwrap();
    assert_eq!(answer.status, 200, "{target}: {}", answer.text());
    answer.json().unwrap()
}

fn status(shop: &Shop, id: i64) -> String {
    read(shop, &format!("{ORDERS}/{id}"))["status"].as_str().unwrap().to_owned()
}

fn settled_without_fault(shop: &Shop) -> Books {
    shop.wait_until_settled().unwrap();
    let books = Books::read(shop).unwrap();
    assert_eq!(books.faults(), Vec::<String>::new());
    books
}

#[test]
fn an_order_is_confirmed_paid_and_shipped_and_can_be_called_off() {
    on_both(|shop| {
        let card = place(shop, &order(1, 2, 3, "pm_ok"));
        let account = place(shop, &order(1, 3, 1, "account"));
        settled_without_fault(shop);
        assert_eq!(
            (status(shop, card), status(shop, account)),
            ("confirmed".to_owned(), "confirmed".to_owned())
        );
        assert_eq!(read(shop, &format!("{ORDERS}/{card}/payment"))["status"], "captured");
        assert_eq!(read(shop, &format!("{ORDERS}/{card}/shipment"))["status"], "scheduled");
        for id in [card, account] {
            shop.ask(0, Ask::new(Method::POST, format!("{ORDERS}/{id}/cancel"))).unwrap();
        }
        let books = settled_without_fault(shop);
        assert_eq!((books.count("cancelled"), books.orders()), (2, 2));
        let history = read(shop, &format!("{ORDERS}/{card}/history"));
        let steps: Vec<&Value> =
            history["items"].as_array().unwrap().iter().map(|step| &step["status"]).collect();
        assert_eq!(steps, ["pending", "confirmed", "cancelling", "cancelled"]);
    });
}

#[test]
fn an_order_that_cannot_be_fulfilled_is_rejected_and_owes_nothing() {
    on_both(|shop| {
        let declined = place(shop, &order(1, 2, 3, "pm_declined"));
        let too_many = place(shop, &order(1, 2, 101, "pm_ok"));
        let books = settled_without_fault(shop);
        assert_eq!(books.count("rejected"), 2);
        for (id, word) in [(declined, "declined"), (too_many, "product 2")] {
            let because =
                read(shop, &format!("{ORDERS}/{id}"))["rejected_because"].as_str().unwrap().to_owned();
            assert!(because.contains(word), "{because}");
        }
    });
}

#[test]
fn a_payment_that_happened_although_its_answer_was_lost_is_found_and_not_made_twice() {
    on_both(|shop| {
        shop.behave(&json!({ "charge_then_hang_rate": 0.5, "charge_then_fail_rate": 0.2, "seed": 7 }))
            .unwrap();
        for product in 2..8 {
            place(shop, &order(1, product, 1, "pm_ok"));
        }
        shop.behave(&json!({})).unwrap();
        let books = settled_without_fault(shop);
        assert_eq!((books.count("confirmed"), books.orders()), (6, 6));
    });
}

#[test]
fn a_cart_becomes_one_order_at_the_prices_of_the_moment() {
    on_both(|shop| {
        let cart = shop.post(0, "/api/v1/carts", &json!({}), 201).unwrap()["id"].as_str().unwrap().to_owned();
        let item = json!({ "product_id": 2, "quantity": 2 });
        shop.post(0, &format!("/api/v1/carts/{cart}/items"), &item, 200).unwrap();
        let checkout = format!("/api/v1/carts/{cart}/checkout");
        shop.post(0, &checkout, &json!({}), 409).unwrap();
        shop.post(0, &format!("/api/v1/carts/{cart}/assign"), &json!({ "user_id": 1 }), 200).unwrap();
        let product = read(shop, "/api/v1/products/2");
        let dearer = json!({ "sku": product["sku"], "name": product["name"], "price": { "minor": 1000, "currency": "GBP" } });
        let put = Ask::new(Method::PUT, "/api/v1/products/2").json(&dearer);
        assert_eq!(shop.ask(0, put).unwrap().status, 200);
        let seen = json!({ "expected_total": { "minor": 678, "currency": "GBP" } });
        shop.post(0, &checkout, &seen, 409).unwrap();
        let first = shop.post(0, &checkout, &json!({}), 201).unwrap();
        let again = shop.post(0, &checkout, &json!({}), 201).unwrap();
        assert_eq!((&first["total"]["minor"], &first["id"]), (&json!(2000), &again["id"]));
        settled_without_fault(shop);
        let cart = read(shop, &format!("/api/v1/carts/{cart}"));
        assert_eq!((&cart["status"], &cart["order_id"]), (&json!("checked_out"), &first["id"]));
    });
}

#[test]
fn a_key_makes_a_command_happen_once() {
    on_both(|shop| {
        let keyed = |body: &Value| {
            Ask::new(Method::POST, ORDERS).json(body).header("idempotency-key", "order-of-ann")
        };
        let answers: Vec<_> = (0..3).map(|_| shop.ask(0, keyed(&order(1, 2, 3, "pm_ok"))).unwrap()).collect();
        assert!(answers.iter().all(|answer| answer.status == 201 && answer.body == answers[0].body));
        assert!(answers.iter().all(|answer| answer.header("location") == answers[0].header("location")));
        let other = shop.ask(0, keyed(&order(1, 2, 4, "pm_ok"))).unwrap();
        assert_eq!(
            (other.status, &other.json().unwrap()["errors"][0]["field"]),
            (422, &json!("Idempotency-Key"))
        );
        assert_eq!(settled_without_fault(shop).orders(), 1);
    });
}

#[test]
fn an_etag_keeps_a_change_from_overwriting_another_one() {
    on_both(|shop| {
        for target in ["/api/v1/users/1", "/api/v1/products/2"] {
            let seen = shop.ask(0, Ask::get(target)).unwrap();
            let tag = seen.header("etag").unwrap().to_owned();
            let known = shop.ask(0, Ask::get(target).header("if-none-match", &tag)).unwrap();
            assert_eq!((known.status, known.body.len()), (304, 0), "{target}");
            let mut document = seen.json().unwrap();
            for field in ["id", "created_at", "updated_at"] {
                document.as_object_mut().unwrap().remove(field);
            }
            let put = |tag: &str| Ask::new(Method::PUT, target).json(&document).header("if-match", tag);
            assert_eq!(shop.ask(0, put(&tag)).unwrap().status, 200, "{target}");
            let late = shop.ask(0, put(&tag)).unwrap();
            assert_eq!(
                (late.status, &late.json().unwrap()["errors"][0]["field"]),
                (412, &json!("If-Match")),
                "{target}"
            );
            let gone = Ask::new(Method::DELETE, target).header("if-match", &tag);
            assert_eq!(shop.ask(0, gone).unwrap().status, 412, "{target}");
            assert_eq!(shop.ask(0, put("*")).unwrap().status, 200, "{target}");
        }
    });
}

#[test]
fn a_refund_that_fails_for_good_is_told_and_a_dead_letter_can_be_delivered_again() {
    on_both(|shop| {
        let id = place(shop, &order(1, 2, 3, "pm_ok"));
        settled_without_fault(shop);
        shop.stop(0).unwrap();
        shop.start_again(0, &[("BANYAN_BACKGROUND__EVENT_ATTEMPTS", "1")]).unwrap();
        shop.kill_provider().unwrap();
        shop.ask(0, Ask::new(Method::POST, format!("{ORDERS}/{id}/cancel"))).unwrap();
        shop.wait_until_settled().unwrap();
        assert_eq!(status(shop, id), "cancelling");
        let dead = shop.run(&["events", "list", "--dead", "--json"]).unwrap().ok().unwrap().json().unwrap();
        let event = &dead.as_array().unwrap()[0];
        assert_eq!((event["consumer"].as_str(), dead.as_array().unwrap().len()), (Some("payments"), 1));
        let number = event["id"].as_i64().unwrap().to_string();
        let shown = shop.run(&["events", "show", &number]).unwrap().ok().unwrap().stdout;
        assert!(shown.contains("orders.OrderCancelled") && shown.contains("dead since"), "{shown}");
        shop.start_provider().unwrap();
        // With its one attempt it could be given up again, while the provider that failed is left alone for a moment.
        shop.stop(0).unwrap();
        shop.start_again(0, &[]).unwrap();
        shop.run(&["events", "retry", &number]).unwrap().ok().unwrap();
        let books = settled_without_fault(shop);
        assert_eq!(books.count("cancelled"), 1);
        assert!(!shop.run(&["events", "retry", &number]).unwrap().stderr.is_empty());
    });
}
