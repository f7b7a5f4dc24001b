//! The whole import against the real contexts, on a database of its own.

use std::fs;

use contracts::CallContext;
use contracts::catalog::ProductFilter;
use contracts::orders::{OrderKind, OrderStatus};
use tempfile::TempDir;

use super::*;
use crate::settings::Settings;
use crate::wiring;

struct Silent;

impl Progress for Silent {
    fn advance(&self, _: u64, _: u64) {}
}

/// A folder with a database and the files of one test.
struct Shop {
    folder: TempDir,
    ports: Ports,
}

impl Shop {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.database.path = folder.path().join("monolith.db");
        let db = wiring::open_database(&settings).unwrap();
        Self { ports: wiring::loading(&db, None), folder }
    }

    fn rejects(&self) -> PathBuf {
        self.folder.path().join("rejects.csv")
    }

    async fn import(&self, lines: &[&str]) -> Summary {
        let path = self.folder.path().join("file.csv");
        fs::write(&path, format!("{HEADER}\n{}", lines.join("\n"))).unwrap();
        self.import_file(&path).await.unwrap()
    }

    async fn import_file(&self, path: &Path) -> Result<Summary, ImportError> {
        let source = Source::open(Input::from(path))?;
        import(source, self.ports.clone(), 100, &self.rejects(), &Silent).await
    }
}

fn ctx() -> CallContext {
    CallContext::new("test", std::time::Duration::from_secs(5))
}

const SALE: &str = "536365,85123A,WHITE HANGING HEART,6,12/1/10 8:26,2.55,17850,United Kingdom";
const SALE_2: &str = "536365,71053,,8,12/1/10 8:27,3.39,17850,United Kingdom";
const CREDIT: &str = "C536379,71053,WHITE METAL LANTERN,-1,12/1/10 9:41,3.39,14527,EIRE";

#[tokio::test]
async fn lines_become_users_products_orders_and_cancellations() {
    let shop = Shop::new();
    let summary = shop.import(&[SALE, SALE_2, CREDIT]).await;
    assert_eq!((summary.lines, summary.imported, summary.rejected), (3, 3, 0));
    assert_eq!((summary.users_added, summary.products_added), (2, 2));
    assert_eq!((summary.orders_added, summary.cancellations_added), (1, 1));

    let users = shop.ports.users.list(&ctx(), None, 10).await.unwrap().items;
    assert_eq!(users[0].details.name, "Customer 17850");
    assert_eq!(users[0].details.email, "customer-17850@online-retail.example");
    assert_eq!(users[1].details.addresses[0].country, "EIRE");
    let products = shop.ports.catalog.list(&ctx(), ProductFilter::default(), None, 10).await.unwrap().items;
    let named: Vec<_> = products.iter().map(|p| (p.details.sku.as_str(), p.details.name.as_str())).collect();
    assert_eq!(named, [("85123A", "WHITE HANGING HEART"), ("71053", "WHITE METAL LANTERN")]);

    let sale = shop.ports.orders.list(&ctx(), users[0].id, None, 10).await.unwrap().items.remove(0);
    assert_eq!(
        (sale.reference.as_deref(), sale.kind, sale.status),
        (Some("536365"), OrderKind::Sale, OrderStatus::Confirmed)
    );
    assert_eq!((sale.lines.len(), sale.total.minor), (2, 6 * 255 + 8 * 339));
    assert_eq!(sale.placed_at.to_string(), "2010-12-01T08:26:00.000Z");
    let credit = shop.ports.orders.list(&ctx(), users[1].id, None, 10).await.unwrap().items.remove(0);
    assert_eq!((credit.kind, credit.lines[0].quantity), (OrderKind::Cancellation, 1));
}

#[tokio::test]
async fn a_description_that_turns_up_later_names_the_product() {
    let shop = Shop::new();
    let mut lines = vec![SALE_2.to_owned()];
    lines.extend((0..5_000).map(|i| format!("{},22222,FILLER,1,12/1/10 8:26,1,1,UK", 600_000 + i)));
    lines.push(CREDIT.to_owned());
    let summary = shop.import(&lines.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!((summary.imported, summary.products_added), (5_002, 2));
    let product =
        shop.ports.catalog.list(&ctx(), ProductFilter::default(), None, 1).await.unwrap().items.remove(0);
    assert_eq!((product.details.name.as_str(), product.details.price.minor), ("WHITE METAL LANTERN", 339));
}

#[tokio::test]
async fn an_invoice_that_comes_again_with_other_lines_is_rejected_and_left_as_it_was() {
    let shop = Shop::new();
    let summary = shop.import(&[SALE, CREDIT, SALE, SALE_2, CREDIT]).await;
    assert_eq!((summary.imported, summary.unchanged, summary.rejected), (2, 1, 2));
    let rejects = fs::read_to_string(shop.rejects()).unwrap();
    let expected = format!(
        "line,reason,detail,text\n4,invoice is there already with other lines,invoice 536365,\"{SALE}\"\n\
          5,invoice is there already with other lines,invoice 536365,\"{SALE_2}\"\n"
    );
    assert_eq!(rejects, expected);
}

#[tokio::test]
async fn the_sample_file_is_booked_to_the_line_and_the_second_import_changes_nothing() {
    let shop = Shop::new();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/online-retail.csv.gz");
    let first = shop.import_file(&file).await.unwrap();
    assert_eq!(first.lines, 14_595);
    assert_eq!(first.unchanged, 0);
    let by_reason: u64 = first.rejected_by_reason.values().sum();
    assert_eq!((first.imported + first.rejected, by_reason), (first.lines, first.rejected));
    let rejects = fs::read(shop.rejects()).unwrap();
    assert_eq!(rejects.split(|byte| *byte == b'\n').count() as u64 - 2, first.rejected);
    assert!(rejects.ends_with(b"14596,broken line,1 of 8 fields,537\n"));

    let second = shop.import_file(&file).await.unwrap();
    assert_eq!((second.imported, second.unchanged, second.rejected), (0, first.imported, first.rejected));
    assert_eq!((second.users_added, second.products_added, second.orders_added), (0, 0, 0));
    assert_eq!(fs::read(shop.rejects()).unwrap(), rejects);
}

#[tokio::test]
async fn another_kind_of_file_is_refused_and_leaves_everything_as_it_was() {
    let shop = Shop::new();
    let path = shop.folder.path().join("other.csv");
    fs::write(&path, "id,name\n1,Ann\n").unwrap();
    let error = shop.import_file(&path).await.unwrap_err().to_string();
    assert!(error.contains("`id,name`") && error.contains("nothing was imported"), "{error}");
    assert!(!shop.rejects().exists());
    assert!(shop.ports.users.list(&ctx(), None, 1).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_gzip_file_that_breaks_off_says_up_to_where_it_was_imported() {
    let shop = Shop::new();
    let whole = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("data/online-retail.csv.gz")).unwrap();
    let path = shop.folder.path().join("broken.csv.gz");
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = shop.import_file(&path).await.unwrap_err();
    assert!(matches!(error, ImportError::Unreadable { line, .. } if line > 1_000), "{error}");
}

#[tokio::test]
async fn the_input_is_never_overwritten_by_its_rejects() {
    let shop = Shop::new();
    fs::write(shop.rejects(), HEADER).unwrap();
    let error = shop.import_file(&shop.rejects()).await.unwrap_err();
    assert!(matches!(error, ImportError::RejectsOverInput { .. }), "{error}");
    assert_eq!(fs::read_to_string(shop.rejects()).unwrap(), HEADER);
}

#[test]
fn rejects_go_beside_the_file() {
    assert_eq!(default_rejects(&Input::from(Path::new("a/b.csv"))), Path::new("a/b.csv.rejects.csv"));
    assert_eq!(default_rejects(&Input::Stdin), Path::new("online-retail.rejects.csv"));
}
