//! The binary `bare-peer`: what the monolith is measured against. Two of its requests, and the update of its waiting events,
//! as little as actix-web and diesel can do them with: no contexts, no ports, no middleware, no log.
//!
//! Invariant: it sends the same statements to the same tables over pools of the same size as the monolith does by default, and
//! answers with the same JSON, so that what the monolith costs more is the price of its structure.

mod json;
mod postgres;
mod server;
mod sqlite;
mod tables;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand};

use server::Database;

/// A bare actix and diesel server on a database of the monolith, to measure against.
#[derive(Debug, Parser)]
#[command(name = "bare-peer", version)]
struct Arguments {
    /// `postgres://user@host:port/database`, or a SQLite file.
    #[arg(long, global = true, default_value = "monolith.db")]
    database: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Command {
    /// Serve `GET /api/v1/users/{id}` and `POST /api/v1/orders` until SIGTERM or SIGINT.
    Serve,
    /// Update every waiting event by itself, one transaction each; print how many, and the seconds they took.
    UpdateEvents,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let database = &arguments.database;
    if database.starts_with("postgres://") {
        return run_on(postgres::Postgres::open(database)?, arguments.command);
    }
    run_on(sqlite::Sqlite::open(database)?, arguments.command)
}

fn run_on<D: Database>(database: D, command: Command) -> Result<()> {
    match command {
        Command::Serve => server::serve(database),
        Command::UpdateEvents => {
            let begun = Instant::now();
            let updated = database.update_events()?;
            println!("{updated} {:.6}", begun.elapsed().as_secs_f64());
            Ok(())
        }
    }
}
