//! The command line's words, with their help.
//!
//! Invariant: every command says in an example how it is used; whatever changes something has `--dry-run`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use control::Who;

/// Turned on or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum OnOff {
    On,
    Off,
}

#[derive(Debug, Args)]
pub(super) struct WhoArgs {
    /// Why, for the audit trail
    #[arg(long, default_value = "not said")]
    reason: String,
    /// Who, for the audit trail [default: $USER]
    #[arg(long, env = "USER", default_value = "migrate", hide_env_values = true)]
    actor: String,
}

impl WhoArgs {
    pub(super) fn who(self) -> Who {
        Who::new(self.actor, self.reason)
    }
}

/// Which stream.
#[derive(Debug, Clone, Args)]
pub(super) struct StreamArgs {
    /// The context, as in [extractions.CONTEXT]
    pub(super) context: String,
    /// The way back: from the service's database to the monolith's, by the [[inverse]] mappings
    #[arg(long)]
    pub(super) back: bool,
}

#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    pub(super) stream: StreamArgs,
    /// Change capture: read every row of large tables, too, instead of their first 5000 keys; small ones are always read
    #[arg(long)]
    pub(super) deep: bool,
}

#[derive(Debug, Args)]
pub(super) struct InitArgs {
    /// The database to copy from: a SQLite file or postgres://user@host/name
    #[arg(long, value_name = "PLACE")]
    pub(super) source: String,
    /// The context's name
    #[arg(long, value_name = "NAME")]
    pub(super) context: String,
    /// Only these tables
    #[arg(long, value_name = "TABLE", value_delimiter = ',')]
    pub(super) tables: Vec<String>,
    /// File to write; an existing one is never overwritten
    #[arg(long, default_value = "extraction.toml", value_name = "FILE")]
    pub(super) output: PathBuf,
    /// Print the draft instead of writing it
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum CaptureCommand {
    /// Put triggers and a log of changed keys into the source; repeating it brings back what is missing
    #[command(after_help = "Example:\n  migrate capture install users --dry-run")]
    Install {
        #[command(flatten)]
        stream: StreamArgs,
        /// Only say what would be captured
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove what capture put into the source
    #[command(
        after_help = "Examples:\n  migrate capture remove users\n  migrate capture remove users --forget    # the copy's progress, too"
    )]
    Remove {
        #[command(flatten)]
        stream: StreamArgs,
        /// Forget at the target how far the copy is, so that the next one begins anew; rows stay
        #[arg(long)]
        forget: bool,
        /// Only say what would be removed
        #[arg(long)]
        dry_run: bool,
    },
    /// Show whether capture is whole, and how large its log is; exit code 1 if it is not whole
    #[command(after_help = "Example:\n  migrate capture status users --json")]
    Status {
        #[command(flatten)]
        stream: StreamArgs,
    },
}

/// How a copy by change capture runs.
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) stream: StreamArgs,
    #[command(flatten)]
    pub(super) how: HowArgs,
    /// End when everything is copied and catch-up is close behind the source
    #[arg(long)]
    pub(super) until_caught_up: bool,
}

#[derive(Debug, Args)]
pub(super) struct HowArgs {
    /// Workers of the backfill [default: extractions.CONTEXT.run.workers]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) workers: Option<u32>,
    /// Rows that the target holds before the first copy are an older copy of ours: write over them by key
    #[arg(long)]
    pub(super) adopt: bool,
    /// Only say what would be done
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct BackfillArgs {
    #[command(flatten)]
    pub(super) stream: StreamArgs,
    #[command(flatten)]
    pub(super) how: HowArgs,
    /// Keys per transaction (with change capture: at most); larger is faster and locks the filled side for longer
    /// [default: 1000; with change capture extractions.CONTEXT.run.chunk_keys]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) chunk_rows: Option<u32>,
    /// Dual-write: pause after each chunk (with change capture see `migrate throttle`)
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub(super) throttle_ms: u64,
    /// Copy everything anew, over what was copied before (dual-write: rows that the owner does not have are removed as well)
    #[arg(long)]
    pub(super) again: bool,
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The context [default: all]
    pub(super) context: Option<String>,
    /// Show it again every second until interrupted
    #[arg(long)]
    pub(super) watch: bool,
}

#[derive(Debug, Args)]
pub(super) struct PauseArgs {
    #[command(flatten)]
    pub(super) stream: StreamArgs,
    /// Let catch-up go on, so that the log does not grow
    #[arg(long)]
    pub(super) backfill_only: bool,
    /// Only say how it would be steered
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct ResumeArgs {
    #[command(flatten)]
    pub(super) stream: StreamArgs,
    /// Only say how it would be steered
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct ThrottleArgs {
    #[command(flatten)]
    pub(super) stream: StreamArgs,
    /// Workers of the backfill
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) workers: Option<u32>,
    /// Rows per second that the backfill may copy
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) rows_per_second: Option<u64>,
    /// Query at the source whose first value is a load (sessions, replication lag, …)
    #[arg(long, value_name = "SQL", requires = "load_limit")]
    pub(super) load_query: Option<String>,
    /// The load above which the backfill rests
    #[arg(long, value_name = "X")]
    pub(super) load_limit: Option<f64>,
    /// Log rows above which the backfill rests, so that catch-up comes first
    #[arg(long, value_name = "N")]
    pub(super) log_rows: Option<u64>,
    /// Lift every limit first
    #[arg(long)]
    pub(super) clear: bool,
    /// Only say how it would be steered
    #[arg(long)]
    pub(super) dry_run: bool,
}

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    pub(super) stream: StreamArgs,
    /// Differences to show; all are counted
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(super) limit: usize,
    /// Seconds for which rows that keep moving are looked at again
    #[arg(long, default_value_t = 10, value_name = "S")]
    pub(super) patience: u64,
    /// Compare only this many of a hundred parts of 50,000 keys, chosen at random, and of each table at least one
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(super) sample: Option<u8>,
    /// The same seed chooses the same parts
    #[arg(long, default_value_t = 1, requires = "sample")]
    pub(super) seed: u64,
    /// Compare only what changed since the last full verification with --keep-dirty
    #[arg(long, conflicts_with = "sample")]
    pub(super) dirty: bool,
    /// Keep the log behind this verification for so many seconds, for `--dirty`; it grows meanwhile
    #[arg(long, default_value_t = 0, value_name = "S")]
    pub(super) keep_dirty: u32,
    /// Begin anew instead of going on where a stopped one ended
    #[arg(long)]
    pub(super) anew: bool,
    /// Begin again after each pass, until interrupted or something differs
    #[arg(long, conflicts_with = "dirty")]
    pub(super) continuous: bool,
    /// Of a hundred seconds, how many the databases may be busy with it
    #[arg(long, default_value_t = 100, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=100))]
    pub(super) load: u8,
    /// Keys per part; a pair of snapshots is held for a second, and until the part under way is compared
    #[arg(long, default_value_t = 50_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) part_rows: u32,
    /// Write the report as a page that stands by itself
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct RepairArgs {
    #[command(flatten)]
    pub(super) stream: StreamArgs,
    /// Where each row is logged before and after, one JSON object per line; it is appended to
    #[arg(long, default_value = "repair.jsonl", value_name = "FILE")]
    pub(super) log: PathBuf,
    /// Only show what would be written
    #[arg(long)]
    pub(super) dry_run: bool,
}
