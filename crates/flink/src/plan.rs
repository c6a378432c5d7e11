//! The plan as text: what `tapeworks.toml` says of processors, resolved.
//!
//! ```text
//! processor bars
//! setting grace_ms number 2000
//! setting intervals_ms numbers 1000,60000
//! setting channel text trade
//! ```
//! Settings are of the processor above them.

use tapeworks_core::keyed::Plan;
use tapeworks_core::processors::{Setting, Settings};
use tapeworks_core::{Error, Result};

/// Text from Java.
///
/// # Errors
/// `Error::Invalid`: it is no UTF-8.
pub(crate) fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| Error::invalid("expected UTF-8"))
}

/// Reads a plan.
///
/// # Errors
/// `Error::Invalid`: a line is not understood, or the plan is refused.
pub(crate) fn parse(bytes: &[u8]) -> Result<Plan> {
    let text = std::str::from_utf8(bytes).map_err(|_| Error::invalid("expected UTF-8"))?;
    let mut named: Vec<(String, Settings)> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let wrong = || Error::invalid(format!("the plan has a line that is not known: {line:?}"));
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("processor"), Some(name), None, None) => {
                named.push((name.to_owned(), Settings::new()));
            }
            (Some("setting"), Some(name), Some(kind), Some(value)) => {
                let number = |text: &str| text.parse::<i64>().map_err(|_| wrong());
                let value = match kind {
                    "number" => Setting::Number(number(value)?),
                    "numbers" => {
                        Setting::Numbers(value.split(',').map(number).collect::<Result<Vec<_>>>()?)
                    }
                    "text" => Setting::Text(value.to_owned()),
                    _ => return Err(wrong()),
                };
                let (_, settings) = named.last_mut().ok_or_else(wrong)?;
                *settings = std::mem::take(settings).with(name, value);
            }
            _ => return Err(wrong()),
        }
    }
    Plan::new(&named)
}
