//! Values of metrics: what is measured of a market.
//!
//! Prices and sizes are exact in the records that a metric is made of; its value is a float.

use super::Header;

/// One value of one metric of an instrument. 128 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Metric {
    /// `ts_event` is the time as of which the value holds, `ts_recv` that of the record by which it
    /// was known, `sequence` 0.
    pub header: Header,
    /// The bits of an IEEE 754 number of 64 bits, in the unit of the metric; not a number: the
    /// metric has no value.
    pub value: u64,
    /// Observations that the value is made of.
    pub count: u64,
    /// Length of its window, in ns; 0 where it has none.
    pub window: u64,
    /// The name with its parameters, such as `ofi_10s`, UTF-8, zero padded.
    pub metric: [u8; 40],
    /// A [`super::QuoteState`]: what the best prices were.
    pub state: u8,
    /// Zero.
    pub reserved: [u8; 31],
}

impl Metric {
    /// The bits of `value`; the same for every value that is none.
    pub const fn bits(value: Option<f64>) -> u64 {
        match value {
            Some(value) if !value.is_nan() => value.to_bits(),
            _ => f64::NAN.to_bits(),
        }
    }

    /// The value, if there is one.
    pub fn value(&self) -> Option<f64> {
        Some(f64::from_bits(self.value)).filter(|value| !value.is_nan())
    }
}
