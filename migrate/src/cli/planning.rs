//! `migrate plan` of a context that is copied by change capture.
//!
//! Invariant: nothing is changed at either end, and no control store is asked.

use serde::Serialize;

use super::arguments::PlanArgs;
use super::captured::{Captured, with_driver};
use crate::engine::run::{needs_empty, needs_same_beginning};
use crate::engine::survey::{Depth, Level, Survey, SurveyDriver};
use crate::engine::way_back::rehearse;
use crate::engine::{Driver, Target as _};
use crate::error::MigrateError;
use crate::output;
use crate::settings::Settings;

/// What would move, and what was found.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct CapturePlan {
    /// The stream.
    pub(crate) stream: String,
    /// Hash of the mapping.
    pub(crate) mapping_hash: String,
    /// How many rows of large tables were looked at.
    pub(crate) depth: Depth,
    /// How many findings there are of each level.
    pub(crate) counts: Counts,
    /// Everything seen.
    #[serde(flatten)]
    pub(crate) survey: Survey,
}

/// How many findings there are of each level.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Counts {
    pub(crate) ok: usize,
    pub(crate) notes: usize,
    pub(crate) warnings: usize,
    pub(crate) problems: usize,
}

/// Plans.
pub(super) fn plan(settings: &Settings, arguments: &PlanArgs, json: bool) -> Result<u8, MigrateError> {
    let captured = Captured::open(settings, &arguments.stream)?;
    let depth = if arguments.deep { Depth::Whole } else { Depth::Sample };
    let plan = with_driver!(captured, |driver| look(&driver, &captured, depth))?;
    output::capture_plan(&plan, json)
}

fn look<D: SurveyDriver>(driver: &D, captured: &Captured, depth: Depth) -> Result<CapturePlan, MigrateError> {
    let stream = &captured.stream;
    let mut survey = driver.survey(stream, depth)?;
    see_copy(driver, captured, &mut survey);
    rehearse(driver, stream, depth, &mut survey)?;
    let counts = Counts {
        ok: survey.count(Level::Ok),
        notes: survey.count(Level::Note),
        warnings: survey.count(Level::Warning),
        problems: survey.count(Level::Problem),
    };
    Ok(CapturePlan { stream: stream.name.clone(), mapping_hash: stream.hash(), depth, counts, survey })
}

/// What a run would refuse about the copy itself: that it was begun otherwise, or rows that it did not put there.
fn see_copy<D: SurveyDriver>(driver: &D, captured: &Captured, survey: &mut Survey) {
    let place = format!("the copy of {}", captured.stream.name);
    match copy(driver, captured) {
        Ok(()) => {}
        // Some of it was found before.
        Err(MigrateError::Refused { reason, .. })
            if survey.findings.iter().any(|known| known.what == reason) => {}
        Err(MigrateError::Refused { reason, remedy }) => survey.add(Level::Problem, place, reason, remedy),
        Err(other) => {
            let what =
                format!("whether it can be begun or go on is not known: {}", platform::error::chain(&other));
            survey.add(Level::Warning, place, what, "");
        }
    }
}

fn copy<D: Driver>(driver: &D, captured: &Captured) -> Result<(), MigrateError> {
    let (stream, mut target) = (&captured.stream, driver.target()?);
    match target.stream(&stream.name)? {
        Some(_) => needs_same_beginning(&mut driver.source()?, &mut target, stream),
        // A switch begins the way back where both sides are equal, so rows are there to be.
        None if captured.is_back() => Ok(()),
        None => needs_empty(&mut target, stream),
    }
}
