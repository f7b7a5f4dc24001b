//! Tables for people: bordered and coloured on a terminal, plain columns when piped.
//!
//! Invariant: printing never fails; what could not be written is known behind it ([`unwritten`]).

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

/// Why this process could not write to standard output, if it could not: its results are lost then. A closed pipe is no such
/// reason.
pub fn unwritten() -> Option<&'static io::Error> {
    UNWRITTEN.get()
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
