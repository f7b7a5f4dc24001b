//! Reading the input: a plain or gzipped file, or standard input, one physical line after the other.
//!
//! Invariant: at most [`LINE_MAX`] bytes of a line are ever held, however long it is.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use super::ImportError;

/// The only first line that is taken.
pub const HEADER: &str = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country";

/// Longest line in bytes; a longer one is no invoice line.
pub(super) const LINE_MAX: usize = 64 * 1024;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
const BUFFER: usize = 128 * 1024;

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

impl From<&Path> for Input {
    /// `-` means standard input.
    fn from(path: &Path) -> Self {
        if path.as_os_str() == "-" { Self::Stdin } else { Self::File(path.to_owned()) }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Stdin => f.write_str("standard input"),
        }
    }
}

/// An open input with its header behind it.
pub struct Source {
    input: Input,
    lines: BufReader<Box<dyn Read + Send>>,
    read: BytesRead,
    size: Option<u64>,
    line: Vec<u8>,
}

/// One physical line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    Whole(&'a [u8]),
    /// The first [`LINE_MAX`] bytes of a longer one, and how long it is.
    TooLong(&'a [u8], u64),
}

/// Counts the bytes that were taken from the file, before unpacking.
#[derive(Debug, Clone, Default)]
pub struct BytesRead(Arc<AtomicU64>);

impl BytesRead {
    /// The count up to now.
    pub fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Counted<R>(R, BytesRead);

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        self.1.0.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
        Ok(count)
    }
}

impl Source {
    /// Opens the input and checks its header. Writes nothing.
    pub fn open(input: Input) -> Result<Self, ImportError> {
        let cannot = |error: io::Error| {
            let text = error.to_string();
            let reason = text.split(" (os error").next().unwrap_or(&text).to_lowercase();
            ImportError::CannotOpen { path: input.to_string(), reason }
        };
        let (raw, size): (Box<dyn Read + Send>, _) = match &input {
            Input::Stdin => (Box::new(io::stdin()), None),
            Input::File(path) => {
                let file = File::open(path).map_err(cannot)?;
                let metadata = file.metadata().map_err(cannot)?;
                // A pipe or a device is read like standard input: how much will come is not known.
                (Box::new(file), Some(metadata.len()).filter(|_| metadata.is_file()))
            }
        };
        let mut source = Self::start(input.clone(), raw, size).map_err(cannot)?;
        match source.header().map_err(cannot)? {
            found if found == HEADER => Ok(source),
            found => Err(ImportError::OtherHeader { path: input.to_string(), found: shown(&found) }),
        }
    }

    fn start(input: Input, raw: Box<dyn Read + Send>, size: Option<u64>) -> io::Result<Self> {
        let read = BytesRead::default();
        let mut raw = Counted(raw, read.clone());
        let mut magic = Vec::with_capacity(2);
        (&mut raw).take(2).read_to_end(&mut magic)?;
        let packed = magic == GZIP_MAGIC;
        let whole = Cursor::new(magic).chain(raw);
        let plain: Box<dyn Read + Send> = match packed {
            true => Box::new(MultiGzDecoder::new(BufReader::with_capacity(BUFFER, whole))),
            false => Box::new(whole),
        };
        Ok(Self { input, lines: BufReader::with_capacity(BUFFER, plain), read, size, line: Vec::new() })
    }

    /// The first line, without a byte order mark.
    fn header(&mut self) -> io::Result<String> {
        let line = match self.next_line()? {
            Some(Line::Whole(line) | Line::TooLong(line, _)) => line,
            None => &[],
        };
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        Ok(String::from_utf8_lossy(line).into_owned())
    }

    /// What is being read, for messages.
    pub fn path(&self) -> String {
        self.input.to_string()
    }

    /// How many bytes there are, where that is known.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// Counts the bytes as they are read.
    pub fn bytes_read(&self) -> BytesRead {
        self.read.clone()
    }

    /// The next line, without LF or CRLF. The last one may lack its end.
    pub(super) fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        // Room for CRLF beside the longest line.
        let room = LINE_MAX + 2;
        self.line.clear();
        let total = self.read_piece(room)?;
        if total == 0 {
            return Ok(None);
        }
        if !self.line.ends_with(b"\n") && self.line.len() == room {
            let total = self.skip_rest(total)?;
            self.line.truncate(LINE_MAX);
            return Ok(Some(Line::TooLong(&self.line, total)));
        }
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match line.get(..LINE_MAX) {
            Some(start) if line.len() > LINE_MAX => {
                Ok(Some(Line::TooLong(start, u64::try_from(line.len()).unwrap_or(u64::MAX))))
            }
            _ => Ok(Some(Line::Whole(line))),
        }
    }

    fn read_piece(&mut self, room: usize) -> io::Result<u64> {
        let room = u64::try_from(room).unwrap_or(u64::MAX);
        let count = (&mut self.lines).take(room).read_until(b'\n', &mut self.line)?;
        Ok(u64::try_from(count).unwrap_or(u64::MAX))
    }

    /// Passes over the rest of a line of which `total` bytes were read; returns its length without the end.
    fn skip_rest(&mut self, mut total: u64) -> io::Result<u64> {
        let mut last = self.line.last().copied();
        loop {
            let buffer = self.lines.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let piece = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            total += u64::try_from(piece.len()).unwrap_or(0);
            last = piece.last().copied().or(last);
            let is_over = end.is_some() || buffer.is_empty();
            let used = end.map_or(buffer.len(), |end| end + 1);
            self.lines.consume(used);
            if is_over {
                return Ok(total - u64::from(end.is_some() && last == Some(b'\r')));
            }
        }
    }
}

/// A piece of a foreign file that can stand in a message.
fn shown(line: &str) -> String {
    line.chars().filter(|char| !char.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn source(bytes: &[u8]) -> Source {
        Source::start(Input::Stdin, Box::new(Cursor::new(bytes.to_vec())), None).unwrap()
    }

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut source = source(bytes);
        let mut lines = Vec::new();
        while let Some(line) = source.next_line().unwrap() {
            lines.push(match line {
                Line::Whole(line) => String::from_utf8_lossy(line).into_owned(),
                Line::TooLong(line, total) => format!("{} of {total}", line.len()),
            });
        }
        lines
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn lines_end_with_lf_or_crlf_or_the_file() {
        assert_eq!(lines(b"a\r\nb\n\nc"), ["a", "b", "", "c"]);
        assert_eq!(lines(b"a\n"), ["a"]);
        assert_eq!(lines(b""), Vec::<String>::new());
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_and_measured() {
        for (length, ending) in
            [(LINE_MAX + 1, "\n"), (LINE_MAX + 1, "\r\n"), (LINE_MAX * 5, "\n"), (LINE_MAX * 5, "")]
        {
            let mut text = "x".repeat(length);
            text.push_str(ending);
            let is_last = ending.is_empty();
            text.push_str(if is_last { "" } else { "next" });
            let found = lines(text.as_bytes());
            assert!(found[0].starts_with(&format!("{LINE_MAX} of {length}")), "{}", found[0]);
            assert_eq!(found.get(1).map(String::as_str), if is_last { None } else { Some("next") });
        }
        assert_eq!(lines(&[b'x'; LINE_MAX])[0].len(), LINE_MAX);
        assert_eq!(lines(format!("{}\r\n", "x".repeat(LINE_MAX)).as_bytes())[0].len(), LINE_MAX);
    }

    #[test]
    fn gzip_is_recognised_by_its_first_bytes_also_in_several_members() {
        let packed = [gzip(b"a\nb"), gzip(b"c\n")].concat();
        assert_eq!(lines(&packed), ["a", "bc"]);
    }

    #[test]
    fn only_the_exact_header_is_taken() {
        let good = format!("{HEADER}\r\nrest");
        assert_eq!(source(good.as_bytes()).header().unwrap(), HEADER);
        assert_eq!(source(&[BYTE_ORDER_MARK, good.as_bytes()].concat()).header().unwrap(), HEADER);
        assert_eq!(source(&gzip(good.as_bytes())).header().unwrap(), HEADER);
        for bad in ["", "\n", "a,b", &format!("{HEADER},More\n"), &HEADER.to_lowercase()] {
            assert_ne!(source(bad.as_bytes()).header().unwrap(), HEADER, "{bad}");
        }
    }
}
