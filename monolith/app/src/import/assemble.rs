//! Puts lines together: lines to invoices, invoices and rejected lines to batches.
//!
//! Invariant: every line pushed is in exactly one batch, as part of an invoice or as a reject, and what is held here
//! has a bound: one invoice of at most [`INVOICE_LINES_MAX`] lines and one batch.

use std::mem;

use contracts::Timestamp;
use contracts::catalog::ProductDetails;

use super::line::{InvoiceLine, Parser};
use super::read::Line;
use super::reject::{Reason, Reject};

/// Lines from which on a batch is handed over.
const BATCH_LINES: usize = 2_000;
/// Bytes of rejected lines from which on it is, too.
const BATCH_BYTES: usize = 1024 * 1024;
/// Most lines of one invoice; the sample's longest has 542.
pub(super) const INVOICE_LINES_MAX: usize = 10_000;

/// The lines of one invoice that stand together in the file.
#[derive(Debug)]
pub(super) struct Invoice {
    pub(super) reference: String,
    pub(super) is_cancellation: bool,
    pub(super) customer: u64,
    pub(super) country: String,
    /// The date of its first line.
    pub(super) placed_at: Timestamp,
    pub(super) lines: Vec<ItemLine>,
}

/// A line of an invoice, with its own text in case it must be rejected after all.
#[derive(Debug)]
pub(super) struct ItemLine {
    pub(super) number: u64,
    pub(super) text: Box<[u8]>,
    pub(super) product: ProductDetails,
    pub(super) has_name: bool,
    pub(super) quantity: u32,
}

/// What is stored together.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) invoices: Vec<Invoice>,
    pub(super) rejects: Vec<Reject>,
    lines: usize,
    bytes: usize,
}

impl Batch {
    /// The first line in it.
    pub(super) fn first_line(&self) -> u64 {
        let invoice = self.invoices.first().and_then(|invoice| invoice.lines.first()).map(|line| line.number);
        let reject = self.rejects.first().map(|reject| reject.line);
        invoice.into_iter().chain(reject).min().unwrap_or(0)
    }

    fn reject(&mut self, reject: Reject) {
        self.lines += 1;
        self.bytes += reject.text.len();
        self.rejects.push(reject);
    }

    fn close(&mut self, invoice: Option<Invoice>) {
        if let Some(invoice) = invoice {
            self.lines += invoice.lines.len();
            self.invoices.push(invoice);
        }
    }

    fn is_full(&self) -> bool {
        self.lines >= BATCH_LINES || self.bytes >= BATCH_BYTES
    }
}

#[derive(Default)]
pub(super) struct Assembler {
    parser: Parser,
    open: Option<Invoice>,
    batch: Batch,
}

impl Assembler {
    /// Takes the next line; returns a batch when one is full.
    pub(super) fn push(&mut self, number: u64, line: Line<'_>) -> Option<Batch> {
        let (Line::Whole(text) | Line::TooLong(text, _)) = line;
        match self.parser.parse(number, &line) {
            Err(reject) => self.batch.reject(reject),
            Ok(parsed) => self.take(number, text, parsed),
        }
        self.batch.is_full().then(|| mem::take(&mut self.batch))
    }

    /// The last batch, if anything is left.
    pub(super) fn finish(mut self) -> Option<Batch> {
        self.batch.close(self.open.take());
        (self.batch.lines > 0).then_some(self.batch)
    }

    fn take(&mut self, number: u64, text: &[u8], parsed: InvoiceLine) {
        let is_cancellation = parsed.is_cancellation();
        let InvoiceLine { invoice, customer, country, placed_at, product, has_name, quantity } = parsed;
        let mut open = match self.open.take() {
            Some(open) if open.reference == invoice => open,
            before => {
                self.batch.close(before);
                Invoice {
                    reference: invoice,
                    is_cancellation,
                    customer,
                    country,
                    placed_at,
                    lines: Vec::new(),
                }
            }
        };
        let reject = |reason, detail| Reject { line: number, reason, detail, text: text.to_vec() };
        if open.customer != customer {
            self.batch.reject(reject(Reason::CustomerChanges, format!("it began with {}", open.customer)));
        } else if open.lines.len() == INVOICE_LINES_MAX {
            let detail = format!("its first {INVOICE_LINES_MAX} lines are imported");
            self.batch.reject(reject(Reason::InvoiceTooLong, detail));
        } else {
            open.lines.push(ItemLine { number, text: text.into(), product, has_name, quantity });
        }
        self.open = Some(open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(invoice: &str, customer: &str) -> String {
        format!("{invoice},82567,X,2,12/1/10 9:41,2.1,{customer},UK")
    }

    /// Pushes all lines, returns the batches and checks that no line is lost.
    fn assemble(lines: &[String]) -> Vec<Batch> {
        let mut assembler = Assembler::default();
        let mut batches = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            batches.extend(assembler.push(index as u64 + 1, Line::Whole(line.as_bytes())));
        }
        batches.extend(assembler.finish());
        let mut numbers: Vec<u64> = batches
            .iter()
            .flat_map(|batch| {
                let taken = batch.invoices.iter().flat_map(|invoice| &invoice.lines).map(|line| line.number);
                taken.chain(batch.rejects.iter().map(|reject| reject.line))
            })
            .collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=lines.len() as u64).collect::<Vec<_>>());
        batches
    }

    #[test]
    fn lines_that_stand_together_are_one_invoice() {
        let lines = [line("1", "5"), "bad".to_owned(), line("1", "5"), line("2", "5"), line("1", "5")];
        let batches = assemble(&lines);
        let invoices: Vec<_> =
            batches[0].invoices.iter().map(|i| (i.reference.as_str(), i.lines.len())).collect();
        assert_eq!(invoices, [("1", 2), ("2", 1), ("1", 1)]);
        assert_eq!(batches[0].first_line(), 1);
    }

    #[test]
    fn an_invoice_keeps_its_first_customer() {
        let batches = assemble(&[line("1", "5"), line("1", "6"), line("1", "5")]);
        assert_eq!(batches[0].invoices[0].lines.len(), 2);
        assert_eq!(batches[0].rejects[0].reason, Reason::CustomerChanges);
    }

    #[test]
    fn batches_end_between_invoices_and_stay_small() {
        let lines: Vec<String> = (0..9_000).map(|index| line(&(index / 7 + 1).to_string(), "5")).collect();
        let batches = assemble(&lines);
        assert!(batches.len() > 3);
        for batch in &batches {
            assert!(batch.lines < BATCH_LINES + 7);
            assert!(
                batch.invoices.iter().all(|invoice| invoice.lines.len() == 7 || invoice.reference == "1286")
            );
        }
    }

    #[test]
    fn an_endless_invoice_ends_at_its_limit() {
        let lines = vec![line("1", "5"); INVOICE_LINES_MAX + 5_000];
        let batches = assemble(&lines);
        assert_eq!(batches.iter().flat_map(|batch| &batch.invoices).count(), 1);
        let rejects: Vec<_> = batches.iter().flat_map(|batch| &batch.rejects).collect();
        assert_eq!(rejects.len(), 5_000);
        assert!(rejects.iter().all(|reject| reject.reason == Reason::InvoiceTooLong));
    }

    #[test]
    fn endless_rejects_are_handed_over_too() {
        assert!(assemble(&vec!["bad".to_owned(); 10_000]).len() > 3);
        assert!(assemble(&vec!["y".repeat(60_000); 100]).len() > 3);
    }
}
