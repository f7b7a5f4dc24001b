//! Waiting for a condition, with a deadline and an error that says what was waited for.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const STEP: Duration = Duration::from_millis(5);

/// Asks `probe` until it yields a value. Its errors end the wait at once; `limit` ends it with an error that names
/// `what`.
pub fn until<T>(what: &str, limit: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = probe()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {} s in vain: {what}", limit.as_secs_f32());
        }
        thread::sleep(STEP);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_never_holds_ends_with_its_name() {
        let error = until("the moon", Duration::from_millis(20), || Ok(None::<()>)).unwrap_err();
        assert!(error.to_string().contains("the moon"));
    }
}
