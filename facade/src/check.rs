//! A settings file under the magnifying glass: every fault with its line and column.
//!
//! Invariant: no line is shown with a secret in it.

mod place;
mod secret;

use std::fmt;
use std::path::Path;

use control::{Flag, Side};
use platform::settings::{SettingsError, load_sound, read, shortened};
use serde::Serialize;

use crate::plan::Plan;
use crate::reload::way_home;
use crate::settings::{DEFAULT_FILE, Settings};
use place::{Places, Span};

/// Bytes of a line that is shown; of a longer one only the place is told.
const WIDEST: usize = 200;

/// One fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong, and what to do.
    pub message: String,
    /// The file; none for a setting that stands in no file.
    pub file: Option<String>,
    /// Line, from 1.
    pub line: Option<usize>,
    /// Column in characters, from 1.
    pub column: Option<usize>,
    /// The line, without secrets, and how many of its characters are meant.
    #[serde(skip)]
    quote: Option<(String, usize)>,
}

/// Everything that is wrong with the settings of a file (or of [`DEFAULT_FILE`], where it exists) and the environment.
pub fn check(file: Option<&Path>) -> Vec<Finding> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    // What cannot be read is told by the one who loads it.
    let text = read(path).unwrap_or_default();
    let source = Source { name: path.display().to_string(), text: &text, places: Places::of(&text) };
    let broken = source.places.broken();
    if !broken.is_empty() {
        let mut findings: Vec<_> =
            broken.iter().map(|(message, span)| source.finding(message, span)).collect();
        // What comes after the first on a line follows from it.
        findings.dedup_by_key(|finding| finding.line);
        return findings;
    }
    let faults = match load_sound::<Settings>(file, DEFAULT_FILE) {
        Ok((loaded, faults)) => {
            let settings = Settings::located(loaded);
            let wrong = Plan::new(&settings).err().map_or(Vec::new(), |error| error.0);
            let wrong = wrong.into_iter().chain(control_folder(&settings)).map(with_origin);
            faults.into_iter().chain(wrong).collect()
        }
        Err(SettingsError::Invalid(faults)) => faults,
        Err(error) => vec![error.to_string()],
    };
    let mut findings: Vec<_> = faults.iter().map(|fault| source.explain(fault)).collect();
    // By place, the stable way: of two at one place, the second follows from the first.
    findings.sort_by_key(|finding| (finding.line, finding.column));
    findings.dedup_by(|second, first| {
        first.line.is_some() && (first.line, first.column) == (second.line, second.column)
    });
    findings
}

/// What is wrong with sound settings beside the flags as they stand: a context that the service owns and no route leads to,
/// so that its requests go to the monolith, whose data is behind.
pub fn check_flags(file: Option<&Path>, plan: &Plan, flags: &[Flag]) -> Vec<Finding> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    let text = read(path).unwrap_or_default();
    let source = Source { name: path.display().to_string(), text: &text, places: Places::of(&text) };
    let lost = flags.iter().filter(|flag| flag.writes == Side::Service && !plan.is_routed(&flag.context));
    let fault = |Flag { context, .. }: &Flag| {
        let is_known = plan.context_names().any(|known| known == context);
        let place =
            if is_known { format!("setting `contexts.{context}`") } else { format!("context `{context}`") };
        format!(
            "{place}: the service owns {context}, but no route leads to it, so its requests would go to the monolith, whose \
             data is behind; give it its routes, or {}",
            way_home(context)
        )
    };
    lost.map(|flag| source.explain(&fault(flag))).collect()
}

/// Says of a setting that is wrong beside others whether a variable sets it, as loading does of one that is wrong by itself.
fn with_origin(fault: String) -> String {
    let named = fault.strip_prefix("setting `").and_then(|rest| rest.split(['`', '[']).next());
    let variable = named.map(|name| format!("BANYAN_{}", name.replace('.', "__").to_uppercase()));
    match variable.filter(|variable| std::env::var_os(variable).is_some()) {
        Some(variable) => format!("{fault} (from {variable})"),
        None => fault,
    }
}

/// A start would make the file, but not its folder.
fn control_folder(settings: &Settings) -> Option<String> {
    let path = &settings.control.path;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.is_dir())?;
    Some(format!(
        "setting `control.path`: there is no folder {}; make it, or name a file elsewhere",
        folder.display()
    ))
}

struct Source<'t> {
    name: String,
    text: &'t str,
    places: Places<'t>,
}

impl Source<'_> {
    /// Finds the place that a fault names. What comes from a variable stands in no file.
    fn explain(&self, fault: &str) -> Finding {
        let is_from_elsewhere = fault.contains("(from BANYAN_");
        let message = fault.strip_suffix(&format!(" (from {})", self.name)).unwrap_or(fault);
        match self.places.named_by(fault).filter(|_| !is_from_elsewhere) {
            Some(span) => self.finding(message, &span),
            None => {
                Finding { message: message.to_owned(), file: None, line: None, column: None, quote: None }
            }
        }
    }

    fn finding(&self, message: &str, span: &Span) -> Finding {
        let before = self.text.get(..span.start).unwrap_or(self.text);
        let begin = before.rfind('\n').map_or(0, |end| end + 1);
        let line = self.text.get(begin..).and_then(|rest| rest.lines().next()).unwrap_or_default();
        let indent = before.get(begin..).map_or(0, |text| text.chars().count());
        let meant = self.text.get(span.start..span.end.min(begin + line.len()));
        Finding {
            message: shortened(&message.replace('\n', " ")),
            file: Some(self.name.clone()),
            line: Some(before.matches('\n').count() + 1),
            column: Some(indent + 1),
            quote: self
                .shown(begin, line)
                .map(|line| (line, meant.map_or(1, |text| text.chars().count()).max(1))),
        }
    }

    /// A line as it may be seen; none where nobody can tell what in it is secret.
    fn shown(&self, begin: usize, line: &str) -> Option<String> {
        if line.len() > WIDEST {
            return None;
        }
        if !self.places.broken().is_empty() {
            let before = self.text.get(..begin).unwrap_or_default();
            if ["\"\"\"", "'''"].iter().any(|quote| before.contains(quote)) {
                return None;
            }
            // A secret is a text, and a text stands in quotation marks.
            let (plain, quoted) = line.split_at(line.find(['"', '\'']).unwrap_or(line.len()));
            return Some(plain.to_owned() + &"*".repeat(quoted.chars().count()));
        }
        let end = begin + line.len();
        let mut shown = line.to_owned();
        let on_line =
            self.places.leaves.iter().rev().filter(|(_, span)| span.start < end && span.end > begin);
        for (_, span) in on_line.filter(|(path, _)| secret::is_secret(path)) {
            let range = span.start.saturating_sub(begin)..span.end.min(end) - begin;
            // As wide as the secret, so that a mark behind it stands where it should.
            if let Some(secret) = line.get(range.clone()) {
                shown.replace_range(range, &"*".repeat(secret.chars().count()));
            }
        }
        Some(shown)
    }
}

/// As compilers do it: the message, the place, and the line with a mark under what is meant.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.message)?;
        let (Some(file), Some(line), Some(column)) = (&self.file, self.line, self.column) else {
            return Ok(());
        };
        write!(f, "\n  --> {file}:{line}:{column}")?;
        let Some((text, length)) = &self.quote else { return Ok(()) };
        let (number, width) = (line.to_string(), line.to_string().len());
        // A tab stays one, so that the mark stands under its text however wide it is shown.
        let indent: String =
            text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        write!(f, "\n{:width$} |\n{number} | {text}\n{:width$} | {indent}{}", "", "", "^".repeat(*length))
    }
}

#[cfg(test)]
mod tests;
