//! The file's dates: `12/1/10 8:26`, month first, the time of day in London.
//!
//! Invariant: a date that is not in the calendar is refused; a time of day that summer time skips or repeats is taken
//! as the rules of RFC 5545 say (after the gap; the earlier of two).

use contracts::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// Turns local dates into instants and remembers the last one: the lines of an invoice share theirs.
#[derive(Debug)]
pub(super) struct Dates {
    london: Option<TimeZone>,
    last: Option<(String, Timestamp)>,
}

impl Default for Dates {
    fn default() -> Self {
        // The time zone data is compiled in, so it is there.
        Self { london: TimeZone::get("Europe/London").ok(), last: None }
    }
}

impl Dates {
    pub(super) fn parse(&mut self, text: &str) -> Option<Timestamp> {
        if let Some((last, instant)) = &self.last
            && last == text
        {
            return Some(*instant);
        }
        let local = local(text)?;
        let instant = self.london.as_ref()?.to_timestamp(local).ok()?;
        let instant = Timestamp::from_millis(instant.as_millisecond());
        self.last = Some((text.to_owned(), instant));
        Some(instant)
    }
}

fn local(text: &str) -> Option<DateTime> {
    let (date, time) = text.split_once(' ')?;
    let mut date = date.split('/');
    let (month, day, year) = (date.next()?, date.next()?, date.next()?);
    if date.next().is_some() {
        return None;
    }
    let year = match year.len() {
        2 => 2000 + number(year, 2)?,
        4 => number(year, 4)?,
        _ => return None,
    };
    let (hour, minute) = time.split_once(':')?;
    if minute.len() != 2 {
        return None;
    }
    let small = |text| i8::try_from(number(text, 2)?).ok();
    DateTime::new(year, small(month)?, small(day)?, small(hour)?, small(minute)?, 0, 0).ok()
}

fn number(text: &str, digits: usize) -> Option<i16> {
    let is_number =
        !text.is_empty() && text.len() <= digits && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Option<String> {
        Dates::default().parse(text).map(|instant| instant.to_string())
    }

    #[test]
    fn local_times_become_instants() {
        assert_eq!(utc("12/1/10 8:26").unwrap(), "2010-12-01T08:26:00.000Z");
        assert_eq!(utc("7/4/11 15:00").unwrap(), "2011-07-04T14:00:00.000Z");
        assert_eq!(utc("12/9/2011 12:50").unwrap(), "2011-12-09T12:50:00.000Z");
    }

    #[test]
    fn the_edges_of_summer_time_are_taken_as_rfc_5545_says() {
        assert_eq!(utc("3/27/11 1:30").unwrap(), "2011-03-27T01:30:00.000Z");
        assert_eq!(utc("10/30/11 1:30").unwrap(), "2011-10-30T00:30:00.000Z");
    }

    #[test]
    fn what_is_not_in_the_calendar_is_refused() {
        for text in [
            "",
            "12/1/10",
            "13/1/10 8:26",
            "2/30/11 8:26",
            "12/1/10 24:00",
            "12/1/10 8:6",
            "12/1/10 8:60",
            "12/1/110 8:26",
            "12/1/10/1 8:26",
            "+2/1/10 8:26",
            "2010-12-01 08:26",
            "12/1/10 8:26:00",
            " 12/1/10 8:26",
        ] {
            assert_eq!(utc(text), None, "{text:?}");
        }
    }
}
