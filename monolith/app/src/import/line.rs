//! One physical line of the file, parsed.
//!
//! Invariant: what leaves here as [`InvoiceLine`] keeps every rule of the contexts it goes to, so that storing it can
//! fail for no reason of its own.

use contracts::catalog::ProductDetails;
use contracts::{Money, Timestamp};
use csv_core::{ReadRecordResult, Reader};

use super::date::Dates;
use super::read::{LINE_MAX, Line};
use super::reject::{Reason, Reject};

/// What a single line may be worth at most. With it no sum over an invoice's lines leaves 64 bits.
const QUANTITY_MAX: u32 = 1_000_000;
const PENCE_MAX: i64 = 100_000_000;

const FIELDS: usize = 8;
const INVOICE_MAX: usize = 20;

/// One line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InvoiceLine {
    /// The invoice's number, with its `C` where it is a cancellation.
    pub(super) invoice: String,
    pub(super) customer: u64,
    pub(super) country: String,
    pub(super) placed_at: Timestamp,
    /// Named by the description, or by the code where there is none.
    pub(super) product: ProductDetails,
    pub(super) has_name: bool,
    /// Units sold, or taken back.
    pub(super) quantity: u32,
}

impl InvoiceLine {
    pub(super) fn is_cancellation(&self) -> bool {
        self.invoice.starts_with('C')
    }
}

/// Parses lines; keeps its buffers from line to line.
pub(super) struct Parser {
    csv: Reader,
    fields: Vec<u8>,
    ends: [usize; FIELDS + 1],
    dates: Dates,
}

impl Default for Parser {
    fn default() -> Self {
        let fields = vec![0; LINE_MAX + 1];
        Self { csv: Reader::new(), fields, ends: [0; FIELDS + 1], dates: Dates::default() }
    }
}

type Fault = (Reason, String);

fn fault<T>(reason: Reason) -> Result<T, Fault> {
    Err((reason, String::new()))
}

impl Parser {
    pub(super) fn parse(&mut self, number: u64, line: &Line<'_>) -> Result<InvoiceLine, Reject> {
        let (text, parsed) = match line {
            Line::Whole(text) => (text, self.parse_whole(text)),
            Line::TooLong(text, length) => {
                let detail = format!("{length} bytes, of which the first {} stand here", text.len());
                (text, Err((Reason::TooLong, detail)))
            }
        };
        parsed.map_err(|(reason, detail)| Reject { line: number, reason, detail, text: text.to_vec() })
    }

    fn parse_whole(&mut self, line: &[u8]) -> Result<InvoiceLine, Fault> {
        if let Err(error) = std::str::from_utf8(line) {
            return Err((Reason::NotUtf8, format!("at byte {}", error.valid_up_to() + 1)));
        }
        self.split(line)?;
        let [invoice, code, description, quantity, date, price, customer, country] =
            texts(&self.fields, &self.ends);
        let invoice = parse_invoice(invoice)?;
        let customer = parse_customer(customer)?;
        let price = parse_price(price)?;
        let quantity = parse_quantity(quantity, invoice.starts_with('C'))?;
        let product = parse_product(code, description, price)?;
        let has_name = !description.trim().is_empty();
        let placed_at = self.dates.parse(date).ok_or((Reason::BadDate, String::new()))?;
        let country = parse_country(country)?.to_owned();
        Ok(InvoiceLine {
            invoice: invoice.to_owned(),
            customer,
            country,
            placed_at,
            product,
            has_name,
            quantity,
        })
    }

    /// Splits the line into fields. The line end is given to the splitter, too: only an open quote swallows it.
    fn split(&mut self, line: &[u8]) -> Result<(), Fault> {
        self.csv.reset();
        let (mut read, mut written, mut count) = (0, 0, 0);
        for input in [line, b"\n"] {
            let (Some(output), Some(ends)) = (self.fields.get_mut(written..), self.ends.get_mut(count..))
            else {
                return fault(Reason::Broken);
            };
            let (result, bytes_read, bytes_written, ends_written) = self.csv.read_record(input, output, ends);
            (read, written, count) = (read + bytes_read, written + bytes_written, count + ends_written);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record if count == FIELDS && read > line.len() => return Ok(()),
                ReadRecordResult::Record | ReadRecordResult::OutputEndsFull => {
                    let found = if count > FIELDS { "more than".to_owned() } else { format!("{count} of") };
                    return Err((Reason::Broken, format!("{found} {FIELDS} fields")));
                }
                ReadRecordResult::OutputFull | ReadRecordResult::End => break,
            }
        }
        let detail = if line.is_empty() { "an empty line" } else { "a quote is not closed" };
        Err((Reason::Broken, detail.to_owned()))
    }
}

/// The fields of a line that was split. It was checked to be UTF-8, and fields are cut at ASCII characters.
fn texts<'a>(bytes: &'a [u8], ends: &[usize; FIELDS + 1]) -> [&'a str; FIELDS] {
    let mut start = 0;
    let mut ends = ends.iter();
    std::array::from_fn(|_| {
        let end = ends.next().copied().unwrap_or(start);
        let text = bytes.get(start..end).and_then(|text| std::str::from_utf8(text).ok()).unwrap_or_default();
        start = end;
        text
    })
}

fn parse_invoice(text: &str) -> Result<&str, Fault> {
    let digits = text.strip_prefix('C').unwrap_or(text);
    let is_number = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_number && text.len() <= INVOICE_MAX { Ok(text) } else { fault(Reason::BadInvoice) }
}

fn parse_customer(text: &str) -> Result<u64, Fault> {
    if text.is_empty() {
        return fault(Reason::NoCustomer);
    }
    let number = text.parse::<u64>().ok().filter(|number| number.to_string() == text);
    number.filter(|number| *number > 0).ok_or((Reason::BadCustomer, String::new()))
}

fn parse_price(text: &str) -> Result<Money, Fault> {
    let (sign, amount) = match text.strip_prefix('-') {
        Some(amount) => (-1, amount),
        None => (1, text),
    };
    let (pounds, decimals) = amount.split_once('.').unwrap_or((amount, "0"));
    let is_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(pounds) || !is_digits(decimals) {
        return fault(Reason::BadPrice);
    }
    let zeros = decimals.trim_end_matches('0');
    if zeros.len() > 2 {
        return Err((Reason::BadPrice, "not in whole pence".to_owned()));
    }
    let pence = format!("{pounds}{zeros:0<2}").parse::<i64>().ok().filter(|pence| *pence <= PENCE_MAX);
    let too_much = || (Reason::BadPrice, format!("more than {} pounds", PENCE_MAX / 100));
    let pence = sign * pence.ok_or_else(too_much)?;
    if pence < 1 { fault(Reason::PriceNotAboveZero) } else { Ok(Money::gbp(pence)) }
}

fn parse_quantity(text: &str, is_cancellation: bool) -> Result<u32, Fault> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return fault(Reason::BadQuantity);
    }
    let is_negative = digits.len() < text.len();
    let units = digits.parse::<u32>().ok().filter(|units| *units <= QUANTITY_MAX);
    let units = units.ok_or_else(|| (Reason::BadQuantity, format!("more than {QUANTITY_MAX}")))?;
    match (units > 0 && is_negative == is_cancellation, is_cancellation) {
        (true, _) => Ok(units),
        (false, false) => fault(Reason::QuantityNotPositive),
        (false, true) => fault(Reason::QuantityNotNegative),
    }
}

fn parse_product(code: &str, description: &str, price: Money) -> Result<ProductDetails, Fault> {
    if !(code.len() >= 5 && code.bytes().take(5).all(|byte| byte.is_ascii_digit())) {
        return fault(Reason::NotAProduct);
    }
    let description = description.trim();
    let name = if description.is_empty() { code } else { description };
    ProductDetails::parse(code.to_owned(), name.to_owned(), price, None).map_err(|faults| {
        let words = faults.iter().map(|fault| match fault.field.as_str() {
            "sku" => format!("the stock code {}", fault.message),
            "name" => format!("the description {}", fault.message),
            _ => fault.to_string(),
        });
        (Reason::BadProduct, words.collect::<Vec<_>>().join("; "))
    })
}

/// The rules that an address has for its country.
fn parse_country(text: &str) -> Result<&str, Fault> {
    let is_text = !text.is_empty() && text.trim() == text && !text.chars().any(char::is_control);
    if is_text && text.chars().count() <= 200 { Ok(text) } else { fault(Reason::BadCountry) }
}

#[cfg(test)]
mod tests;
