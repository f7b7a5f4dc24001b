//! The writing half: puts a batch into the three contexts, through their ports.
//!
//! Invariant: users and products are there before the orders that name them, and each of the three calls is
//! idempotent, so a batch that was stored in part is completed by importing it again.

use std::collections::HashMap;
use std::time::Duration;

use contracts::catalog::{CatalogError, ProductDetails};
use contracts::inventory::InventoryError;
use contracts::orders::{ImportOrder, Imported, OrderKind, OrderLine, OrdersError};
use contracts::users::{Address, UserDetails, UsersError};
use contracts::{CallContext, FieldError, Money, ProductId, UserId};

use super::Ports;
use super::assemble::{Batch, Invoice, ItemLine};
use super::reject::{Reason, Reject};
use super::seen::Seen;

/// How long one batch may take: far longer than it should, since nobody waits in front of it.
const BUDGET: Duration = Duration::from_secs(60);
/// Customers and products remembered; those forgotten are looked up again.
const REMEMBERED: usize = 20_000;

/// Why a batch was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The users belong to the service now.
    #[error(
        "users are not written here now, the service owns them; bring them home with `migrate switch users --to \
         monolith`"
    )]
    UsersElsewhere,
    /// The users context failed.
    #[error("users were not stored")]
    Users(#[source] UsersError),
    /// The catalog context failed.
    #[error("products were not stored")]
    Catalog(#[from] CatalogError),
    /// The inventory context failed.
    #[error("the opening stock was not stored")]
    Inventory(#[from] InventoryError),
    /// The orders context failed.
    #[error("orders were not stored")]
    Orders(#[from] OrdersError),
    /// A line passed our rules and broke one of a context.
    #[error("line {line} breaks a rule that the import does not know: {fault}")]
    Rule {
        /// The line.
        line: u64,
        /// Which rule.
        fault: FieldError,
    },
    /// A context did not answer for everything that it was asked.
    #[error("{context} answered for other things than it was asked")]
    Answer {
        /// The context.
        context: &'static str,
    },
}

impl From<UsersError> for StoreError {
    fn from(error: UsersError) -> Self {
        match error {
            UsersError::NotOwner => Self::UsersElsewhere,
            error => Self::Users(error),
        }
    }
}

/// What became of a batch.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) imported: u64,
    pub(super) unchanged: u64,
    pub(super) rejects: Vec<Reject>,
    pub(super) users: u64,
    pub(super) products: u64,
    pub(super) orders: u64,
    pub(super) cancellations: u64,
}

/// A product as this import knows it.
#[derive(Debug, Clone, Copy)]
struct Known {
    id: ProductId,
    /// Whether this import added it under its code, for want of a description.
    wants_name: bool,
    price: Money,
}

pub(super) struct Writer {
    ports: Ports,
    opening_stock: u32,
    users: Seen<u64, UserId>,
    products: Seen<String, Known>,
}

impl Writer {
    pub(super) fn new(ports: Ports, opening_stock: u32) -> Self {
        Self { ports, opening_stock, users: Seen::new(REMEMBERED), products: Seen::new(REMEMBERED) }
    }

    pub(super) async fn store(&mut self, batch: Batch) -> Result<Stored, StoreError> {
        let Batch { invoices, rejects, .. } = batch;
        let ctx = CallContext::new("import", BUDGET);
        let mut stored = Stored { rejects, ..Stored::default() };
        let users = self.ensure_users(&ctx, &invoices, &mut stored).await?;
        let products = self.ensure_products(&ctx, &invoices, &mut stored).await?;
        let orders: Vec<ImportOrder> =
            invoices.iter().map(|invoice| order(invoice, &users, &products)).collect::<Result<_, _>>()?;
        if !orders.is_empty() {
            let outcomes = self.ports.orders.import(&ctx, orders).await?;
            if outcomes.len() != invoices.len() {
                return Err(StoreError::Answer { context: contracts::orders::CONTEXT });
            }
            for (invoice, outcome) in invoices.into_iter().zip(outcomes) {
                stored.count(invoice, outcome);
            }
        }
        stored.rejects.sort_by_key(|reject| reject.line);
        Ok(stored)
    }

    async fn ensure_users(
        &mut self,
        ctx: &CallContext,
        invoices: &[Invoice],
        stored: &mut Stored,
    ) -> Result<HashMap<u64, UserId>, StoreError> {
        let mut known = HashMap::new();
        let (mut numbers, mut missing) = (Vec::new(), Vec::new());
        for invoice in invoices {
            if known.contains_key(&invoice.customer) || numbers.contains(&invoice.customer) {
                continue;
            }
            if let Some(id) = self.users.get(&invoice.customer) {
                known.insert(invoice.customer, id);
                continue;
            }
            numbers.push(invoice.customer);
            missing.push(user(invoice)?);
        }
        if missing.is_empty() {
            return Ok(known);
        }
        let ensured = self.ports.users.ensure(ctx, missing).await?;
        if ensured.len() != numbers.len() {
            return Err(StoreError::Answer { context: contracts::users::CONTEXT });
        }
        for (number, ensured) in numbers.into_iter().zip(ensured) {
            stored.users += u64::from(ensured.added);
            self.users.put(number, ensured.id);
            known.insert(number, ensured.id);
        }
        Ok(known)
    }

    async fn ensure_products(
        &mut self,
        ctx: &CallContext,
        invoices: &[Invoice],
        stored: &mut Stored,
    ) -> Result<HashMap<String, ProductId>, StoreError> {
        let mut known = HashMap::new();
        let mut missing = Vec::new();
        for (sku, draft) in drafts(invoices) {
            match self.products.get(&draft.details.sku) {
                Some(product) => {
                    if product.wants_name && draft.has_name {
                        self.name(ctx, product, draft.details).await?;
                    }
                    known.insert(sku.to_owned(), product.id);
                }
                None => missing.push(draft),
            }
        }
        if missing.is_empty() {
            return Ok(known);
        }
        // In the order of the file, so that the same file gives the same ids.
        missing.sort_by_key(|draft| draft.position);
        let batch = missing.iter().map(|draft| draft.details.clone()).collect();
        let ensured = self.ports.catalog.ensure(ctx, batch).await?;
        if ensured.len() != missing.len() {
            return Err(StoreError::Answer { context: contracts::catalog::CONTEXT });
        }
        if self.opening_stock > 0 {
            // All of them, not only the new ones: an import that was killed here is completed by the next one.
            let products = ensured.iter().map(|product| product.id).collect();
            self.ports.inventory.ensure_stock(ctx, products, self.opening_stock).await?;
        }
        for (draft, ensured) in missing.into_iter().zip(ensured) {
            stored.products += u64::from(ensured.added);
            let wants_name = ensured.added && !draft.has_name;
            let product = Known { id: ensured.id, wants_name, price: draft.details.price };
            self.products.put(draft.details.sku.clone(), product);
            known.insert(draft.details.sku, ensured.id);
        }
        Ok(known)
    }

    /// Gives a product the first description that turned up for it.
    async fn name(
        &mut self,
        ctx: &CallContext,
        product: Known,
        found: ProductDetails,
    ) -> Result<(), StoreError> {
        let details = ProductDetails { price: product.price, ..found };
        let sku = details.sku.clone();
        self.ports.catalog.update(ctx, product.id, details, None).await?;
        self.products.put(sku, Known { wants_name: false, ..product });
        Ok(())
    }
}

/// A product as the lines of one batch describe it: the first price, the first description.
struct Draft {
    details: ProductDetails,
    has_name: bool,
    position: usize,
}

fn drafts(invoices: &[Invoice]) -> HashMap<&str, Draft> {
    let mut drafts: HashMap<&str, Draft> = HashMap::new();
    let lines = invoices.iter().flat_map(|invoice| &invoice.lines);
    for (position, ItemLine { product, has_name, .. }) in lines.enumerate() {
        match drafts.get_mut(product.sku.as_str()) {
            None => {
                let draft = Draft { details: product.clone(), has_name: *has_name, position };
                drafts.insert(&product.sku, draft);
            }
            Some(draft) if !draft.has_name && *has_name => {
                draft.details.name.clone_from(&product.name);
                draft.has_name = true;
            }
            Some(_) => {}
        }
    }
    drafts
}

fn user(invoice: &Invoice) -> Result<UserDetails, StoreError> {
    let number = invoice.customer;
    let address = Address {
        label: "billing".to_owned(),
        street: None,
        city: None,
        postcode: None,
        country: invoice.country.clone(),
    };
    let email = format!("customer-{number}@online-retail.example");
    UserDetails::parse(format!("Customer {number}"), email, None, vec![address]).map_err(|faults| {
        let line = invoice.lines.first().map_or(0, |line| line.number);
        let fault = faults.into_iter().next().unwrap_or_else(|| FieldError::new("user", "is not accepted"));
        StoreError::Rule { line, fault }
    })
}

fn order(
    invoice: &Invoice,
    users: &HashMap<u64, UserId>,
    products: &HashMap<String, ProductId>,
) -> Result<ImportOrder, StoreError> {
    let lines = invoice.lines.iter().map(|line| {
        let product_id = *products.get(&line.product.sku)?;
        Some(OrderLine { product_id, quantity: line.quantity, unit_price: line.product.price })
    });
    Ok(ImportOrder {
        reference: invoice.reference.clone(),
        user_id: *users
            .get(&invoice.customer)
            .ok_or(StoreError::Answer { context: contracts::users::CONTEXT })?,
        kind: if invoice.is_cancellation { OrderKind::Cancellation } else { OrderKind::Sale },
        lines: lines
            .collect::<Option<_>>()
            .ok_or(StoreError::Answer { context: contracts::catalog::CONTEXT })?,
        placed_at: invoice.placed_at,
    })
}

impl Stored {
    fn count(&mut self, invoice: Invoice, outcome: Imported) {
        let lines = u64::try_from(invoice.lines.len()).unwrap_or(u64::MAX);
        match outcome {
            Imported::Added => {
                self.imported += lines;
                if invoice.is_cancellation {
                    self.cancellations += 1;
                } else {
                    self.orders += 1;
                }
            }
            Imported::Unchanged => self.unchanged += lines,
            Imported::Conflicting => self.rejects.extend(invoice.lines.into_iter().map(|line| Reject {
                line: line.number,
                reason: Reason::InvoiceDiffers,
                detail: format!("invoice {}", invoice.reference),
                text: line.text.into_vec(),
            })),
        }
    }
}
