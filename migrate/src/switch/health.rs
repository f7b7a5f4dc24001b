//! Asks the side that is to own a context whether it can.
//!
//! Invariant: no URL, no question; a side that cannot be asked is not switched to.

use crate::error::MigrateError;
use crate::extraction::Extraction;
use crate::flow::End;

/// Refuses unless the side's health URL, where one is set, answers 2xx in time.
pub(super) fn probe(extraction: &Extraction, end: End) -> Result<(), MigrateError> {
    let (url, setting) = match end {
        End::Target => (&extraction.target_health, "target_health"),
        End::Source => (&extraction.source_health, "source_health"),
    };
    let Some(url) = url else { return Ok(()) };
    let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| MigrateError::Unreachable {
        message: format!("the {} does not answer at {url}; start it, or correct {setting}", end.side()),
        source: Some(source),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| unreachable(Box::new(error)))?;
    let status = runtime.block_on(async {
        let client = reqwest::Client::builder().timeout(extraction.health_timeout).build()?;
        client.get(url).send().await.map(|response| response.status())
    });
    let status = status.map_err(|error| unreachable(Box::new(error)))?;
    if !status.is_success() {
        return Err(MigrateError::refused(
            format!("the {} is not ready: {url} answers {status}", end.side()),
            "look at its log; ownership moves only to a side that is ready",
        ));
    }
    Ok(())
}
