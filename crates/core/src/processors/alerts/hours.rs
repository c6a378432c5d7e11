//! Hours of the week in which a market is open, by the clock of its place.

use crate::error::{Error, Result};

const MINUTE_NS: i64 = 60_000_000_000;
const HOUR_NS: i64 = 60 * MINUTE_NS;
const DAY_NS: i64 = 24 * HOUR_NS;
/// 1970-01-01 was a Thursday; Monday is 0.
const FIRST_WEEKDAY: i64 = 3;
const SATURDAY: i64 = 5;

/// Open from one time of the day to another, on days from Monday to Friday; or by the clock of UTC
/// on all days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hours {
    open: i64,
    close: i64,
    is_new_york: bool,
}

impl Hours {
    /// Reads `09:30-16:00` in the zone `utc` or `new-york`. Of New York, weekends are closed.
    ///
    /// # Errors
    /// `Error::Invalid`: it is not of that form.
    pub(super) fn parse(text: &str, zone: &str) -> Result<Self> {
        let times = text.split_once('-').map(|(open, close)| (minute(open), minute(close)));
        let Some((Some(open), Some(close))) = times.filter(|(open, close)| open < close) else {
            return Err(Error::invalid(format!(
                "hours: expected such as 09:30-16:00, got {text:?}"
            )));
        };
        let is_new_york = match zone {
            "utc" => false,
            "new-york" => true,
            _ => {
                let told = format!("zone: expected utc or new-york, got {zone:?}");
                return Err(Error::invalid(told));
            }
        };
        Ok(Self { open: open * MINUTE_NS, close: close * MINUTE_NS, is_new_york })
    }

    /// Whether it is open at `ts`.
    pub(super) fn is_open(&self, ts: i64) -> bool {
        let (day, time) = self.local(ts);
        (self.open..self.close).contains(&time) && self.has_session(day)
    }

    /// The end of the session of the day of `ts`, in ns; none where there is none.
    pub(super) fn close_of(&self, ts: i64) -> Option<i64> {
        let (day, time) = self.local(ts);
        self.has_session(day).then_some(ts - time + self.close)
    }

    const fn has_session(&self, day: i64) -> bool {
        !self.is_new_york || (day + FIRST_WEEKDAY).rem_euclid(7) < SATURDAY
    }

    /// The day since the epoch and the time of the day by its clock.
    fn local(&self, ts: i64) -> (i64, i64) {
        let local = if self.is_new_york { ts - new_york_behind(ts) } else { ts };
        (local.div_euclid(DAY_NS), local.rem_euclid(DAY_NS))
    }
}

fn minute(text: &str) -> Option<i64> {
    let (hour, minute) = text.trim().split_once(':')?;
    let (hour, minute) = (hour.parse::<i64>().ok()?, minute.parse::<i64>().ok()?);
    let is_time = (0..=24).contains(&hour) && (0..60).contains(&minute);
    (is_time && hour * 60 + minute <= 24 * 60).then_some(hour * 60 + minute)
}

/// How far New York is behind UTC, by the rule since 2007: summer time from 2 o'clock on the second
/// Sunday of March to 2 o'clock on the first one of November.
fn new_york_behind(ts: i64) -> i64 {
    let year = year_of(ts.div_euclid(DAY_NS));
    let summer = sunday_from(days_to(year, 3, 8)) * DAY_NS + 7 * HOUR_NS;
    let winter = sunday_from(days_to(year, 11, 1)) * DAY_NS + 6 * HOUR_NS;
    if (summer..winter).contains(&ts) {
        4 * HOUR_NS
    } else {
        5 * HOUR_NS
    }
}

/// The first Sunday from `day` on.
const fn sunday_from(day: i64) -> i64 {
    day + (6 - (day + FIRST_WEEKDAY).rem_euclid(7)).rem_euclid(7)
}

/// Days from the epoch to a date (Hinnant's algorithm).
const fn days_to(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn year_of(day: i64) -> i64 {
    let mut year = 1970 + day.div_euclid(365);
    while days_to(year, 1, 1) > day {
        year -= 1;
    }
    year
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_york_is_open_on_weekdays_by_its_own_clock() {
        // Seconds of `date -d '... America/New_York' +%s`: before and after both changes of 2024.
        let hours = Hours::parse("09:30-16:00", "new-york").unwrap();
        for (seconds, is_open) in [
            (1_709_908_199_i64, false), // Friday 2024-03-08 09:29:59 EST
            (1_709_908_200, true),      // 09:30:00
            (1_710_163_799, false),     // Monday 2024-03-11 09:29:59 EDT
            (1_710_163_800, true),
            (1_710_187_200, false), // 16:00:00
            (1_710_081_000, false), // Sunday
            (1_730_471_400, true),  // Friday 2024-11-01 10:30:00 EDT
            (1_730_730_600, true),  // Monday 2024-11-04 09:30:00 EST
            (1_730_730_599, false),
        ] {
            assert_eq!(hours.is_open(seconds * 1_000_000_000), is_open, "{seconds}");
        }
        assert_eq!(hours.close_of(1_710_163_800_000_000_000), Some(1_710_187_200_000_000_000));
        assert_eq!(hours.close_of(1_710_081_000_000_000_000), None);
    }

    #[test]
    fn what_is_no_span_of_a_day_is_refused() {
        for text in ["9", "16:00-09:30", "09:30-25:00", "a-b", "09:30-09:30", "09:60-10:00"] {
            assert!(Hours::parse(text, "utc").is_err(), "{text}");
        }
        assert!(Hours::parse("09:30-16:00", "mars").is_err());
    }
}
