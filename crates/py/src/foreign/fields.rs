//! Values of Python as fields of records: exact, or an exception that names field and value.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use tapeworks_core::record::{
    padded, Channel, Header, Level, Marker, MarkerCode, Record, Turnover, NONE, PRICE_PLACES,
    SIZE_PLACES, TURNOVER_PLACES,
};
use tapeworks_core::{decimal, DecodeReason};

/// Names of [`record::Status::status`].
pub const STATUSES: [&str; 6] = ["", "trading", "halted", "auction", "closed", "cancel_only"];
/// Names of [`record::Definition::asset_class`].
pub const CLASSES: [&str; 7] = ["", "spot", "perpetual", "future", "equity", "option", "index"];

/// Decimal text as units of `10^-places`, exactly.
///
/// # Errors
/// `DecodeError` names the field and the text; `TypeError`: it is a float, or no number at all.
pub fn fixed(value: &Bound<'_, PyAny>, places: u32, field: &str) -> PyResult<i64> {
    let text = if let Ok(text) = value.downcast::<PyString>() {
        return parse(value.py(), text.to_str()?.as_bytes(), places, field);
    } else if let Ok(bytes) = value.downcast::<PyBytes>() {
        return parse(value.py(), bytes.as_bytes(), places, field);
    } else {
        let class = value.get_type().name()?.to_string();
        if class != "int" && class != "Decimal" {
            return Err(PyTypeError::new_err(format!(
                "{field}: expected the number as text, a Decimal or an int, got {class} \
                 {value}, which need not be exact"
            )));
        }
        value.str()?
    };
    parse(value.py(), text.to_str()?.as_bytes(), places, field)
}

fn parse(py: Python<'_>, text: &[u8], places: u32, field: &str) -> PyResult<i64> {
    decimal::parse(text, places).map_err(|unfit| {
        let (reason, wanted) = match unfit {
            decimal::Unfit::NotNumber => (DecodeReason::BadNumber, "a decimal number".to_owned()),
            decimal::Unfit::TooManyDigits => (
                DecodeReason::DoesNotFit,
                format!("at most {places} decimals and 19 digits in all"),
            ),
        };
        let text = String::from_utf8_lossy(text);
        crate::errors::decode_error(py, reason, &format!("{field}: expected {wanted}, got {text}"))
    })
}

/// As [`fixed`]; absent where there is none.
pub fn optional(value: Option<&Bound<'_, PyAny>>, places: u32, field: &str) -> PyResult<i64> {
    value.map_or(Ok(NONE), |value| fixed(value, places, field))
}

/// A turnover, in units of 1e-17; 0 where there is none.
pub fn total(value: Option<&Bound<'_, PyAny>>) -> PyResult<Turnover> {
    let Some(value) = value else { return Ok(Turnover::from(0)) };
    let text = value.extract::<String>()?;
    decimal::parse_wide(text.as_bytes(), TURNOVER_PLACES)
        .map(Turnover::from)
        .map_err(|_| PyValueError::new_err(format!("turnover: expected decimal text, got {text}")))
}

/// A time of the day by the clock of an exchange, as hour times 100 and minute.
pub fn clock_time(value: u16, field: &str) -> PyResult<u16> {
    if value / 100 < 24 && value % 100 < 60 {
        return Ok(value);
    }
    Err(PyValueError::new_err(format!(
        "{field}: expected hour times 100 and minute, such as 930, got {value}"
    )))
}

/// The number that `name` has in `names`.
pub fn place(name: &str, names: &[&str], field: &str) -> PyResult<u8> {
    names.iter().position(|known| *known == name).map(|at| at as u8).ok_or_else(|| {
        let known = names.iter().skip(1).copied().collect::<Vec<_>>().join(", ");
        PyValueError::new_err(format!("{field}: expected one of {known}, got {name:?}"))
    })
}

/// A zero-padded field.
pub fn text_field<const N: usize>(text: &str, field: &str) -> PyResult<[u8; N]> {
    padded(text).ok_or_else(|| {
        PyValueError::new_err(format!("{field}: expected at most {N} bytes, got {text:?}"))
    })
}

/// An update of the book up to `header.sequence` that holds no levels.
pub const fn empty_update(header: Header, previous: u64) -> Marker {
    let first = previous.saturating_add(1);
    Marker {
        header,
        code: MarkerCode::EmptyUpdate as u8,
        cause: 0,
        state: 0,
        channel: Channel::Depth as u8,
        count: 0,
        first: if first < header.sequence { first } else { header.sequence },
        last: header.sequence,
        ts_start: previous as i64,
    }
}

/// A level of an event, whose price, size and side are still to be set.
pub const fn level_of(header: Header, previous: u64, span: u32, channel: Channel) -> Level {
    Level {
        header: Header {
            length: (size_of::<Level>() / 8) as u8,
            kind: Level::KIND as u8,
            ..header
        },
        price: 0,
        size: 0,
        previous,
        span,
        side: 0,
        channel: channel as u8,
        reserved: [0; 2],
    }
}

/// Price and size of each level, of bids and asks.
pub type Sides = [Vec<(i64, i64)>; 2];

/// The levels that objects of Python hold. They may run any code when they are asked, so that this
/// comes before the lock.
pub fn sides_of(sides: [&Bound<'_, PyAny>; 2]) -> PyResult<Sides> {
    let mut taken = Sides::default();
    for (levels, side) in sides.into_iter().zip(&mut taken) {
        for pair in levels.try_iter()? {
            let pair = pair?;
            let price = fixed(&pair.get_item(0)?, PRICE_PLACES, "price")?;
            side.push((price, fixed(&pair.get_item(1)?, SIZE_PLACES, "size")?));
        }
    }
    Ok(taken)
}
