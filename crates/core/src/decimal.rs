//! Decimal text to fixed point and back, exactly.
//!
//! No value is ever rounded: what has more digits than the field holds is refused. Trailing zeros,
//! leading zeros and exponents are read for what they mean, however many there are.

use crate::record::NONE;

/// Why a text is not a fixed-point value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfit {
    /// It is not a decimal number.
    NotNumber,
    /// It is one, and has more digits on either side of the point than the field holds.
    TooManyDigits,
}

/// Significant digits that a `u128` surely holds; no field is wider.
const SIGNIFICANT_MAX: i64 = 38;

/// A decimal number taken apart: `mantissa * 10^exponent`, the mantissa without trailing zeros.
struct Parts {
    negative: bool,
    mantissa: u128,
    exponent: i64,
}

/// Reads `text` as an integer number of units of `10^-places`.
///
/// The text is an optional `-`, digits, optionally a point and digits, optionally an exponent.
///
/// # Errors
/// See [`Unfit`]. The sentinel [`NONE`] is no value, and refused as too large.
pub fn parse(text: &[u8], places: u32) -> Result<i64, Unfit> {
    let value = parse_wide(text, places)?;
    match i64::try_from(value) {
        Ok(value) if value != NONE => Ok(value),
        _ => Err(Unfit::TooManyDigits),
    }
}

/// As [`parse`], for fields of 128 bits.
///
/// # Errors
/// See [`Unfit`].
pub fn parse_wide(text: &[u8], places: u32) -> Result<i128, Unfit> {
    let parts = take_apart(text)?;
    if parts.mantissa == 0 {
        return Ok(0);
    }
    let shift = parts.exponent.saturating_add(i64::from(places));
    if !(0..=SIGNIFICANT_MAX).contains(&shift) {
        return Err(Unfit::TooManyDigits);
    }
    let value = parts
        .mantissa
        .checked_mul(10u128.pow(shift as u32))
        .and_then(|value| i128::try_from(value).ok())
        .ok_or(Unfit::TooManyDigits)?;
    Ok(if parts.negative { -value } else { value })
}

fn take_apart(text: &[u8]) -> Result<Parts, Unfit> {
    let (negative, rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        rest => (false, rest),
    };
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, rest) = match rest {
        [b'.', rest @ ..] => rest.split_at(digits(rest)),
        rest => (&rest[..0], rest),
    };
    let point_alone = fraction.is_empty() && text.contains(&b'.');
    if whole.is_empty() || point_alone {
        return Err(Unfit::NotNumber);
    }
    let exponent = read_exponent(rest)?;
    let (mut mantissa, mut zeros, mut significant) = (0u128, 0i64, 0i64);
    for &byte in whole.iter().chain(fraction) {
        if byte == b'0' {
            zeros += i64::from(mantissa != 0);
            continue;
        }
        significant += zeros + 1;
        if significant > SIGNIFICANT_MAX {
            // The rest need not be looked at for its value, and was looked at for its form.
            return Err(Unfit::TooManyDigits);
        }
        mantissa = mantissa * 10u128.pow(zeros as u32 + 1) + u128::from(byte - b'0');
        zeros = 0;
    }
    let exponent = exponent.saturating_add(zeros).saturating_sub(fraction.len() as i64);
    Ok(Parts { negative, mantissa, exponent })
}

fn read_exponent(text: &[u8]) -> Result<i64, Unfit> {
    let (negative, digits) = match text {
        [] => return Ok(0),
        [b'e' | b'E', b'-', digits @ ..] => (true, digits),
        [b'e' | b'E', b'+', digits @ ..] | [b'e' | b'E', digits @ ..] => (false, digits),
        _ => return Err(Unfit::NotNumber),
    };
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Unfit::NotNumber);
    }
    let value = digits.iter().fold(0i64, |value, &digit| {
        value.saturating_mul(10).saturating_add(i64::from(digit - b'0'))
    });
    Ok(if negative { -value } else { value })
}

/// Appends `value`, units of `10^-places`, to `out` with at least `decimals` digits after the
/// point, and with more only where the value has them. No point is written without digits.
pub fn format(value: i128, places: u32, decimals: u32, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let mut digits = [b'0'; 80];
    let start = write_digits(value.unsigned_abs(), &mut digits);
    // At least one digit stands before the point.
    let point = digits.len() - places as usize;
    out.extend_from_slice(&digits[start.min(point - 1)..point]);
    let last = digits[point..].iter().rposition(|&digit| digit != b'0').map_or(0, |at| at + 1);
    let fraction = last.max(decimals as usize);
    if fraction > 0 {
        out.push(b'.');
        let known = fraction.min(places as usize);
        out.extend_from_slice(&digits[point..point + known]);
        out.resize(out.len() + fraction - known, b'0');
    }
}

/// Writes the digits of `value` to the end of `digits`, and tells where they start.
fn write_digits(value: u128, digits: &mut [u8; 80]) -> usize {
    let mut start = digits.len();
    let mut rest = value;
    // Division of 128 bits is slow: nearly all values leave this loop at once.
    while rest > u128::from(u64::MAX) {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let mut rest = rest as u64;
    while rest > 0 {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_exactly() {
        // Each spelling of a value, and the value in units of 1e-9, worked out by hand.
        for (text, wanted) in [
            ("0", 0),
            ("-0", 0),
            ("0.000", 0),
            ("0e99999999999999999999", 0),
            ("1.5", 1_500_000_000),
            ("-1.5", -1_500_000_000),
            ("0001.50000000000000000000000000000000000000000000", 1_500_000_000),
            ("15e-1", 1_500_000_000),
            ("0.15E+1", 1_500_000_000),
            ("0.000000001", 1),
            ("9223372036.854775806", i64::MAX - 1),
            ("-9223372036.854775808", i64::MIN),
            ("100000000000000000000000000000000000000000000000e-47", 1_000_000_000),
        ] {
            assert_eq!(parse(text.as_bytes(), 9), Ok(wanted), "{text}");
        }
    }

    #[test]
    fn value_that_does_not_fit_is_refused() {
        // One digit too many after the point, the absent sentinel, one too many before it, and
        // exponents far outside.
        for text in [
            "0.0000000001",
            "1.0000000001",
            "9223372036.854775807",
            "9223372036.854775808",
            "-9223372036.854775809",
            "99999999999999999999999999999999999999999999999999999999",
            "1e99999999999999999999",
            "1e-99999999999999999999",
        ] {
            assert_eq!(parse(text.as_bytes(), 9), Err(Unfit::TooManyDigits), "{text}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for text in ["", "-", "+1", ".5", "1.", "1.e5", "1e", "1e+", "1 ", " 1", "NaN", "1_0", "٣"]
        {
            assert_eq!(parse(text.as_bytes(), 9), Err(Unfit::NotNumber), "{text}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        // Every combination of values around powers of ten, places and decimals.
        for exponent in 0..18 {
            for offset in -2..=2 {
                let value = 10i64.pow(exponent) + offset;
                for value in [value, -value] {
                    for places in [0, 1, 8, 9] {
                        for decimals in [0, 2, 8, 12] {
                            let mut text = Vec::new();
                            format(i128::from(value), places, decimals, &mut text);
                            assert_eq!(parse(&text, places), Ok(value));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn written_decimals_are_as_many_as_asked() {
        let written = |value, places, decimals| {
            let mut text = Vec::new();
            format(value, places, decimals, &mut text);
            String::from_utf8(text).unwrap()
        };
        assert_eq!(written(67_000_010_000_000, 9, 8), "67000.01000000");
        assert_eq!(written(67_000_010_000_000, 9, 2), "67000.01");
        assert_eq!(written(67_000_010_000_000, 9, 1), "67000.01");
        assert_eq!(written(-5, 8, 0), "-0.00000005");
        assert_eq!(written(0, 8, 8), "0.00000000");
        assert_eq!(written(300_000_000, 8, 0), "3");
    }
}
