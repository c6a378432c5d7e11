//! Times as RFC 3339 writes them, to the nanosecond and back.

use crate::decimal::Unfit;

const NS_PER_S: i64 = 1_000_000_000;
const S_PER_DAY: i64 = 86_400;
/// Digits of a fraction of a second that a time holds.
const PLACES: usize = 9;

/// Bytes of a time up to its minute.
pub const MINUTE: usize = 16;

/// The minute of the last time that was read: most often the next one is of it, too.
#[derive(Debug, Default)]
pub struct Minute {
    text: [u8; MINUTE],
    start: i64,
}

impl Minute {
    /// When the minute `text`, such as `2021-02-22T15:51`, begins, in ns since the Unix epoch; none
    /// where that is no minute, or one before the epoch.
    #[inline(always)]
    pub fn start_of(&mut self, text: &[u8; MINUTE]) -> Option<i64> {
        if self.text != *text {
            self.change(text)?;
        }
        Some(self.start)
    }

    #[cold]
    fn change(&mut self, text: &[u8; MINUTE]) -> Option<()> {
        let whole = [&text[..], b":00Z"].concat();
        self.start = parse(&whole).ok().filter(|&start| start >= 0)?;
        self.text = *text;
        Some(())
    }
}

/// Reads a time such as `2021-02-22T15:51:45.335689322Z`, in ns since the Unix epoch.
///
/// # Errors
/// `Unfit`: it is no such time, or has more than nine digits or a year that does not fit.
pub fn parse(text: &[u8]) -> Result<i64, Unfit> {
    let (head, rest) = text.split_at_checked(19).ok_or(Unfit::NotNumber)?;
    let separators = [head[4], head[7], head[10], head[13], head[16]];
    if separators != *b"--T::" {
        return Err(Unfit::NotNumber);
    }
    let part = |from: usize, to: usize| number(&head[from..to]);
    let (year, month, day) = (part(0, 4)?, part(5, 7)?, part(8, 10)?);
    let (hour, minute, second) = (part(11, 13)?, part(14, 16)?, part(17, 19)?);
    let is_time = hour < 24 && minute < 60 && second < 61;
    if !is_time || !(1..=12).contains(&month) || !(1..=month_days(year, month)).contains(&day) {
        return Err(Unfit::NotNumber);
    }
    let (ns, zone) = fraction(rest)?;
    let seconds = days(year, month, day) * S_PER_DAY + hour * 3_600 + minute * 60 + second;
    (seconds - offset(zone)?)
        .checked_mul(NS_PER_S)
        .and_then(|whole| whole.checked_add(ns))
        .ok_or(Unfit::TooManyDigits)
}

/// Appends the time `ns` since the Unix epoch, with as many digits as it needs.
pub fn format(ns: i64, out: &mut Vec<u8>) {
    let (seconds, rest) = (ns.div_euclid(NS_PER_S), ns.rem_euclid(NS_PER_S));
    let (day, second) = (seconds.div_euclid(S_PER_DAY), seconds.rem_euclid(S_PER_DAY));
    let (year, month, date) = civil(day);
    let (hour, minute) = (second / 3_600, second / 60 % 60);
    let text = format!("{year:04}-{month:02}-{date:02}T{hour:02}:{minute:02}:{:02}", second % 60);
    out.extend_from_slice(text.as_bytes());
    if rest != 0 {
        out.extend_from_slice(format!(".{rest:09}").trim_end_matches('0').as_bytes());
    }
    out.push(b'Z');
}

fn number(digits: &[u8]) -> Result<i64, Unfit> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Unfit::NotNumber);
    }
    Ok(digits.iter().fold(0, |value, &digit| value * 10 + i64::from(digit - b'0')))
}

/// The fraction of a second that `text` may start with, in ns, and what follows it.
fn fraction(text: &[u8]) -> Result<(i64, &[u8]), Unfit> {
    let Some(rest) = text.strip_prefix(b".") else { return Ok((0, text)) };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, zone) = rest.split_at(length);
    let kept = digits.iter().rposition(|&digit| digit != b'0').map_or(0, |last| last + 1);
    if kept > PLACES {
        return Err(Unfit::TooManyDigits);
    }
    if digits.is_empty() {
        return Err(Unfit::NotNumber);
    }
    let digits = &digits[..digits.len().min(PLACES)];
    Ok((number(digits)? * 10i64.pow((PLACES - digits.len()) as u32), zone))
}

/// How far a zone such as `Z` or `-05:00` is ahead of UTC, in seconds.
fn offset(zone: &[u8]) -> Result<i64, Unfit> {
    match zone {
        b"Z" | b"z" => Ok(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return Err(Unfit::NotNumber);
            }
            let ahead = hours * 3_600 + minutes * 60;
            Ok(if *sign == b'-' { -ahead } else { ahead })
        }
        _ => Err(Unfit::NotNumber),
    }
}

const fn month_days(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date. Years begin in March, so that a leap day is their last.
const fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The date that is so many days after 1970-01-01.
const fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let date = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year + era * 400 + (month <= 2) as i64, month, date)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_to_the_nanosecond() {
        for (text, wanted) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2021-02-22T15:51:45.335689322Z", 1_614_009_105_335_689_322),
            ("2021-02-22T15:51:44.208Z", 1_614_009_104_208_000_000),
            ("2021-02-22T10:51:44.208000000000-05:00", 1_614_009_104_208_000_000),
            ("2024-02-29T00:00:00.000000001Z", 1_709_164_800_000_000_001),
            ("1969-12-31T23:59:59.999999999Z", -1),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "2021-02-22",
            "2021-02-22 15:51:44Z",
            "2021-02-22T15:51:44",
            "2021-02-22T15:51:44.Z",
            "2021-02-22T24:00:00Z",
            "2021-02-30T00:00:00Z",
            "2021-13-01T00:00:00Z",
            "2021-02-22T15:51:44Zx",
            "2021-02-22T15:51:44+0500",
            "2o21-02-22T15:51:44Z",
        ] {
            assert_eq!(parse(text.as_bytes()), Err(Unfit::NotNumber), "{text}");
        }
        for text in ["2021-02-22T15:51:44.1234567891Z", "2300-01-01T00:00:00Z"] {
            assert_eq!(parse(text.as_bytes()), Err(Unfit::TooManyDigits), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        // Days over two hundred years, each at a time with other digits.
        for day in -40_000..60_000i64 {
            let ns = (day * S_PER_DAY + day.rem_euclid(S_PER_DAY)) * NS_PER_S
                + day.rem_euclid(10) * 10i64.pow(day.rem_euclid(9) as u32);
            let mut text = Vec::new();
            format(ns, &mut text);
            assert_eq!(parse(&text), Ok(ns), "{}", String::from_utf8_lossy(&text));
        }
    }
}
