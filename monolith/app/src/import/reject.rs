//! Lines that were not imported, with the reason, and the file they go to.
//!
//! Invariant: a rejected line is written with its own bytes, also where these are not UTF-8, so nothing is lost.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use super::ImportError;

/// Why a line was not imported. Of several reasons the first one counts, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Longer than any invoice line can be.
    TooLong,
    /// Bytes that are no text.
    NotUtf8,
    /// Not eight fields, or a quote that is not closed.
    Broken,
    /// No invoice number.
    BadInvoice,
    /// Nobody to put the order to.
    NoCustomer,
    /// Not a customer's number.
    BadCustomer,
    /// No amount in whole pence.
    BadPrice,
    /// Given away, or a correction of the books.
    PriceNotAboveZero,
    /// Not a whole number, or more than a million.
    BadQuantity,
    /// A sale must sell something.
    QuantityNotPositive,
    /// A cancellation must take something back.
    QuantityNotNegative,
    /// Postage, bank charges, discounts: no product has such a code.
    NotAProduct,
    /// A code or description that no product can have.
    BadProduct,
    /// Not a date with a time.
    BadDate,
    /// A country that no address can have.
    BadCountry,
    /// An invoice has one customer.
    CustomerChanges,
    /// More lines than an invoice may have.
    InvoiceTooLong,
    /// The invoice was imported before with other lines.
    InvoiceDiffers,
}

impl Reason {
    /// The reason in words, as the rejects file and the summary show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "line too long",
            Self::NotUtf8 => "not UTF-8",
            Self::Broken => "broken line",
            Self::BadInvoice => "bad invoice number",
            Self::NoCustomer => "no customer",
            Self::BadCustomer => "bad customer",
            Self::BadPrice => "bad price",
            Self::PriceNotAboveZero => "price not above zero",
            Self::BadQuantity => "bad quantity",
            Self::QuantityNotPositive => "quantity not positive",
            Self::QuantityNotNegative => "quantity not negative",
            Self::NotAProduct => "charge, not a product",
            Self::BadProduct => "bad product",
            Self::BadDate => "bad date",
            Self::BadCountry => "bad country",
            Self::CustomerChanges => "customer changes within the invoice",
            Self::InvoiceTooLong => "invoice too long",
            Self::InvoiceDiffers => "invoice is there already with other lines",
        }
    }
}

/// One line that was not imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reject {
    pub(super) line: u64,
    pub(super) reason: Reason,
    /// What the reason leaves open, where it does.
    pub(super) detail: String,
    pub(super) text: Vec<u8>,
}

/// The rejects file: `line,reason,detail,text`.
pub(super) struct RejectsFile {
    path: String,
    file: BufWriter<File>,
}

impl RejectsFile {
    /// Creates the file, replacing that of an earlier import.
    pub(super) fn create(path: &Path, input: &str) -> Result<Self, ImportError> {
        let shown = path.display().to_string();
        if let (Ok(one), Ok(other)) = (fs::canonicalize(path), fs::canonicalize(input))
            && one == other
        {
            return Err(ImportError::RejectsOverInput { path: input.to_owned() });
        }
        let cannot = |source| ImportError::Rejects { path: shown.clone(), source };
        let mut file = BufWriter::new(File::create(path).map_err(cannot)?);
        file.write_all(b"line,reason,detail,text\n").map_err(cannot)?;
        Ok(Self { path: shown, file })
    }

    pub(super) fn path(&self) -> String {
        self.path.clone()
    }

    pub(super) fn add(&mut self, rejects: &[Reject]) -> Result<(), ImportError> {
        let written = rejects.iter().try_for_each(|reject| self.write(reject));
        written.map_err(|source| ImportError::Rejects { path: self.path.clone(), source })
    }

    pub(super) fn finish(mut self) -> Result<(), ImportError> {
        self.file.flush().map_err(|source| ImportError::Rejects { path: self.path, source })
    }

    fn write(&mut self, reject: &Reject) -> io::Result<()> {
        write!(self.file, "{},", reject.line)?;
        self.field(reject.reason.as_str().as_bytes())?;
        self.file.write_all(b",")?;
        self.field(reject.detail.as_bytes())?;
        self.file.write_all(b",")?;
        self.field(&reject.text)?;
        self.file.write_all(b"\n")
    }

    /// A field in quotes where it needs them (RFC 4180, section 2), whatever its bytes are.
    fn field(&mut self, text: &[u8]) -> io::Result<()> {
        if !text.iter().any(|byte| b",\"\r\n".contains(byte)) {
            return self.file.write_all(text);
        }
        for (index, piece) in text.split(|byte| *byte == b'"').enumerate() {
            self.file.write_all(if index == 0 { b"\"" } else { b"\"\"" })?;
            self.file.write_all(piece)?;
        }
        self.file.write_all(b"\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejected_lines_keep_their_bytes() {
        let folder = std::env::temp_dir().join(format!("rejects-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("out.csv");
        let mut file = RejectsFile::create(&path, "standard input").unwrap();
        let reject = |line, detail: &str, text: &[u8]| Reject {
            line,
            reason: Reason::NotAProduct,
            detail: detail.to_owned(),
            text: text.to_vec(),
        };
        file.add(&[reject(2, "", b"a,\"b\xff\"\",c"), reject(3, "x", b""), reject(4, "", &[b'y'; 3000])])
            .unwrap();
        file.finish().unwrap();
        let written = fs::read(&path).unwrap();
        fs::remove_dir_all(folder).unwrap();
        let expected: Vec<u8> = [
            &b"line,reason,detail,text\n"[..],
            b"2,\"charge, not a product\",,\"a,\"\"b\xff\"\"\"\",c\"\n",
            b"3,\"charge, not a product\",x,\n",
            b"4,\"charge, not a product\",,",
            &[b'y'; 3000],
            b"\n",
        ]
        .concat();
        assert_eq!(String::from_utf8_lossy(&written), String::from_utf8_lossy(&expected));
        assert_eq!(written, expected);
    }
}
