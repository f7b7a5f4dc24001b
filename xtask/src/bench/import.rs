//! The import of the sample data, fifty times over, against `sqlite3 .import` of the same file into one table.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use harness::process::{Job, Launch};
use harness::{Binaries, binaries, wait};
use tempfile::TempDir;

use super::{Measured, median, ratio, ticks};
use crate::shell;

const COPIES: u32 = 50;
const ROUNDS: usize = 3;
const LIMIT: Duration = Duration::from_secs(600);

pub(super) fn time_against_sqlite3(binaries: &Binaries) -> Result<Measured> {
    let folder = tempfile::tempdir()?;
    let file = repeated_file(&folder, COPIES)?;
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let theirs = sqlite3_import(&folder, &file)?;
        let ours = import(binaries, &file)?.took;
        eprintln!("import round {round}: {:.2} s, sqlite3 {:.2} s", ours.as_secs_f64(), theirs.as_secs_f64());
        ratios.push(ratio(ours, theirs));
    }
    Ok(Measured::at_most(median(ratios), 4.0))
}

pub(super) fn memory_for_fifty_times_the_file(binaries: &Binaries) -> Result<Measured> {
    let folder = tempfile::tempdir()?;
    let peak = |copies: u32| -> Result<f64> {
        let run = import(binaries, &repeated_file(&folder, copies)?)?;
        eprintln!("import of {copies} times the file: at most {} KiB of memory", run.peak_kib);
        Ok(run.peak_kib as f64)
    };
    let once = peak(1)?;
    Ok(Measured { value: peak(COPIES)? / once, least: Some(0.8), most: 1.2 })
}

struct Run {
    took: Duration,
    peak_kib: u64,
}

/// One import into a fresh database. Its memory is watched while it runs: the kernel's figure only ever grows, so the
/// last reading misses at most what the last millisecond added.
fn import(binaries: &Binaries, file: &Path) -> Result<Run> {
    let folder = tempfile::tempdir()?;
    let launch = Launch::new(binaries.path("monolith"), folder.path())
        .args(["import", "online-retail", &file.to_string_lossy()])
        .env("BANYAN_DATABASE__PATH", "monolith.db");
    let started = Instant::now();
    let mut job = Job::start(&launch)?;
    let mut peak_kib = 0;
    wait::until("the import ends", LIMIT, || {
        peak_kib = peak_kib.max(ticks::peak_memory_kib(job.pid()).unwrap_or_default());
        job.ended()
    })?;
    let took = started.elapsed();
    job.finish(LIMIT)?.ok()?;
    ensure!(peak_kib > 0, "the import ended before its memory could be read");
    Ok(Run { took, peak_kib })
}

fn sqlite3_import(folder: &TempDir, file: &Path) -> Result<Duration> {
    let database = folder.path().join("plain.db");
    if database.exists() {
        fs::remove_file(&database)?;
    }
    let started = Instant::now();
    // The file's last line breaks off; sqlite3 says so, fills it up and goes on.
    shell::output(
        Command::new("sqlite3")
            .arg(&database)
            .args([".mode csv", &format!(".import '{}' lines", file.display())]),
    )?;
    Ok(started.elapsed())
}

/// The sample data as many times as told under one header, each copy with invoice numbers of its own: the letter in
/// front of a cancellation stays, the digits get the copy's number in front.
fn repeated_file(folder: &TempDir, copies: u32) -> Result<PathBuf> {
    let path = folder.path().join(format!("online-retail-{copies}.csv"));
    let mut out = BufWriter::new(File::create(&path)?);
    for copy in 0..copies {
        let packed = binaries::workspace().join("monolith/app/data/online-retail.csv.gz");
        let packed = File::open(&packed).with_context(|| format!("cannot open {}", packed.display()))?;
        let lines = BufReader::new(GzDecoder::new(packed)).split(b'\n');
        for (number, line) in lines.enumerate() {
            let line = line?;
            match (number, copy) {
                (0, 0) => out.write_all(&line)?,
                (0, _) => continue,
                _ => write_renumbered(&mut out, &line, copy)?,
            }
            out.write_all(b"\n")?;
        }
    }
    out.flush()?;
    Ok(path)
}

fn write_renumbered(out: &mut impl Write, line: &[u8], copy: u32) -> Result<()> {
    let letters = line.iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
    let (letters, rest) = line.split_at(letters);
    out.write_all(letters)?;
    if copy > 0 && rest.first().is_some_and(u8::is_ascii_digit) {
        write!(out, "{copy}")?;
    }
    out.write_all(rest)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn renumbered(line: &str, copy: u32) -> String {
        let mut out = Vec::new();
        write_renumbered(&mut out, line.as_bytes(), copy).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_copy_has_invoice_numbers_of_its_own() {
        assert_eq!(renumbered("536365,85123A,X", 0), "536365,85123A,X");
        assert_eq!(renumbered("536365,85123A,X", 7), "7536365,85123A,X");
        assert_eq!(renumbered("C536379,D,Discount", 12), "C12536379,D,Discount");
    }

    #[test]
    fn copies_share_one_header() {
        let folder = tempfile::tempdir().unwrap();
        let once = fs::read_to_string(repeated_file(&folder, 1).unwrap()).unwrap();
        let twice = fs::read_to_string(repeated_file(&folder, 2).unwrap()).unwrap();
        assert_eq!(twice.lines().count(), 2 * once.lines().count() - 1);
        assert_eq!(twice.matches("InvoiceNo").count(), 1);
    }
}
