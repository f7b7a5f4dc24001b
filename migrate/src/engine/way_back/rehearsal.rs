//! What `plan --back` tells: whether the way there would make of what the way back writes what the service holds.
//!
//! Invariant: nothing is written but temporary tables.

use super::{finds_by, unjudged, verdicts};
use crate::engine::compare::{CompareSource as _, CompareTarget as _, Part};
use crate::engine::driver::{Bound, Driver, KeyRange, Source as _};
use crate::engine::mapping::{Mapping, Stream};
use crate::engine::survey::{Depth, Level, Survey};
use crate::engine::verify::suspects;
use crate::error::MigrateError;

const REMEDY: &str = "correct the inverse, so that the mapping makes of its rows what the service holds: verify would hold them for \
    different ever after";
const UNTESTED: &str = "compare with `migrate verify --back` once the way back has run";

/// Adds what is found; a database that is away ends it.
pub(crate) fn rehearse<D: Driver>(
    driver: &D,
    stream: &Stream,
    depth: Depth,
    survey: &mut Survey,
) -> Result<(), MigrateError> {
    let verdicts = match verdicts(driver, stream) {
        Ok(verdicts) => verdicts,
        Err(error) => return untested(survey, "way back", error),
    };
    for (mapping, judges) in verdicts {
        match judges {
            Ok(_) => {
                let what = "rows of which the way there makes what the service holds are left alone";
                survey.add(Level::Ok, place(mapping), what, "");
            }
            Err(why) => {
                let remedy = "see that the inverse loses nothing that the monolith keeps";
                survey.add(Level::Warning, place(mapping), unjudged(mapping, &why), remedy);
            }
        }
    }
    for forward in &stream.forward {
        if let Err(error) = compare(driver, stream, forward, depth, survey) {
            untested(survey, &place(forward), error)?;
        }
    }
    Ok(())
}

/// Compares what the forward mapping would make of the inverses' rows with what its table holds.
fn compare<D: Driver>(
    driver: &D,
    stream: &Stream,
    forward: &Mapping,
    depth: Depth,
    survey: &mut Survey,
) -> Result<(), MigrateError> {
    let (table, place) = (&forward.table, place(forward));
    let writes =
        |inverse: &&Mapping| !forward.needs_key_map() && finds_by(forward, &inverse.table, &inverse.carries);
    let inverses: Vec<&Mapping> = stream.mappings.iter().filter(writes).collect();
    let Some(first) = inverses.first() else {
        let what =
            "what it makes of rows written back was not compared: no [[inverse]] fills a row by its key";
        survey.add(Level::Warning, place, what, UNTESTED);
        return Ok(());
    };
    let rows = driver.source()?.estimate(first)?;
    let page = (rows > Depth::SMALL).then_some(Depth::SAMPLE);
    if page.is_some() && !driver.reversed().source()?.orders_alike(forward)? {
        let what =
            "what it makes of rows written back was not compared: the two sides order its keys differently";
        survey.add(Level::Warning, place, what, UNTESTED);
        return Ok(());
    }
    let wrong = differing(driver, forward, &inverses, page, depth)?;
    match wrong.first() {
        Some(key) => {
            let what = format!(
                "of {} keys it would make other rows than {table} holds, once the inverse has written them back, for example of key {}",
                wrong.len(),
                key.0
            );
            survey.add(Level::Problem, place, what, REMEDY);
        }
        None => {
            let sampled = page.is_some() && depth == Depth::Sample;
            let remedy = if sampled { "`--deep` compares all of its rows" } else { "" };
            let what = format!("of what the inverse writes back it makes what {table} holds");
            survey.add(Level::Ok, place, what, remedy);
        }
    }
    Ok(())
}

/// The keys that differ, of all pages or, for a sample, of the first.
fn differing<D: Driver>(
    driver: &D,
    forward: &Mapping,
    inverses: &[&Mapping],
    page: Option<u64>,
    depth: Depth,
) -> Result<Vec<Bound>, MigrateError> {
    let (mut service, mut monolith) = (driver.source()?, driver.target()?);
    let mut held = driver.reversed().target()?;
    let (mut after, mut wrong) = (None, Vec::new());
    loop {
        let mut range = KeyRange { after, up_to: None };
        if let (Some(page), Some(first)) = (page, inverses.first()) {
            let page = u32::try_from(page).unwrap_or(u32::MAX);
            range.up_to = service.range_end(first, &range, page)?;
        }
        let up_to = range.up_to.clone();
        let mut written = Vec::new();
        for inverse in inverses {
            // Without a bound it is never too much.
            if let Ok(batch) = service.range(inverse, &range, u64::MAX)? {
                written.push((*inverse, batch));
            }
        }
        let made = monolith.would_make(forward, &written, &range)?;
        wrong.extend(suspects(held.row_hashes(forward, &Part::Range(range))?, made));
        after = up_to;
        if after.is_none() || depth == Depth::Sample {
            return Ok(wrong);
        }
    }
}

fn place(mapping: &Mapping) -> String {
    format!("mapping {}", mapping.table)
}

fn untested(survey: &mut Survey, place: &str, error: MigrateError) -> Result<(), MigrateError> {
    if matches!(error, MigrateError::Unreachable { .. }) {
        return Err(error);
    }
    let what = format!("what is written back was not compared: {}", platform::error::chain(&error));
    survey.add(Level::Warning, place, what, UNTESTED);
    Ok(())
}
