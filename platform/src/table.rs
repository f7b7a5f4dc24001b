//! Tables for people: bordered and coloured on a terminal, plain columns when piped.
//!
//! Invariant: printing never fails; what could not be written is known behind it ([`all_written`]).

use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;

use comfy_table::presets::{NOTHING, UTF8_FULL_CONDENSED};
use comfy_table::{Attribute, Cell, ContentArrangement, Table};

/// Why standard output first took nothing.
static UNWRITTEN: OnceLock<io::Error> = OnceLock::new();

/// Prints rows under headers to standard output. A closed pipe (`| head`) ends quietly.
pub fn print<H, R, C>(headers: H, rows: R)
where
    H: IntoIterator<Item: Into<String>>,
    R: IntoIterator<Item = C>,
    C: IntoIterator<Item: Into<String>>,
{
    print_line(&render(headers, rows, io::stdout().is_terminal()));
}

/// Prints one line to standard output; a closed pipe ends quietly.
pub fn print_line(line: &str) {
    match writeln!(io::stdout().lock(), "{line}") {
        // The reader has seen what it wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        Err(error) => drop(UNWRITTEN.set(error)),
        Ok(()) => {}
    }
}

/// Prints what `write` writes, say a shell's completions, as [`print_line`] prints a line.
pub fn print_written(write: impl FnOnce(&mut dyn Write)) {
    let mut text = Vec::new();
    write(&mut text);
    print_line(String::from_utf8_lossy(&text).trim_end());
}

/// Whether standard output took all that this process printed; a closed pipe has.
///
/// # Errors
/// Why it first did not: a result is lost then, and no success.
pub fn all_written() -> io::Result<()> {
    UNWRITTEN.get().map_or(Ok(()), |error| {
        let message = format!("the result could not be written to standard output: {error}");
        Err(io::Error::new(error.kind(), message))
    })
}

/// Prints one line to standard error. Where that is closed or full there is nobody left to tell.
pub fn print_error_line(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

fn render<H, R, C>(headers: H, rows: R, terminal: bool) -> String
where
    H: IntoIterator<Item: Into<String>>,
    R: IntoIterator<Item = C>,
    C: IntoIterator<Item: Into<String>>,
{
    let mut table = Table::new();
    if terminal {
        table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.load_style(NOTHING);
    }
    let headers = headers.into_iter().map(|header| {
        let cell = Cell::new(header.into());
        if terminal { cell.add_attribute(Attribute::Bold) } else { cell }
    });
    table.set_header(headers.collect::<Vec<_>>());
    for row in rows {
        table.add_row(row.into_iter().map(Into::into).collect::<Vec<String>>());
    }
    table.trim_fmt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piped_table_has_no_borders_and_no_colours() {
        let text = render(["context", "token"], [["users", "7"]], false);
        assert!(text.contains("users") && !text.contains(['│', '\u{1b}']), "{text}");
    }
}
