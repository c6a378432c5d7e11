//! How trades are taken together, as the settings say it.

use super::super::table::length_text;
use crate::error::{Error, Result};

/// Windows of one shape that are kept, at most; beyond it the oldest one goes as it is.
pub(in super::super) const KEPT_MAX: usize = 1 << 14;
/// Sliding windows that one trade is in, at most.
const OVERLAP_MAX: i64 = 1_000;
const MS: i64 = 1_000_000;

/// What the values of a window are called, behind the name of its shape.
pub(in super::super) const FIELDS: [&str; 8] =
    ["open", "high", "low", "close", "vwap", "volume", "buy_volume", "trades"];

/// How trades are taken together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Shape {
    /// Windows of a length, each right behind the one before.
    Tumbling(i64),
    /// Windows of a length, one for each step.
    Sliding(i64, i64),
    /// Trades that are no further apart.
    Session(i64),
    /// So many trades, in the order of the tape.
    Count(u64),
}

impl Shape {
    /// The shapes that `text` names, with commas between them.
    ///
    /// # Errors
    /// `Error::Invalid`: there is no such shape, or a length that cannot be.
    pub(in super::super) fn list(text: &str) -> Result<Vec<Self>> {
        let words = text.split(',').map(str::trim).filter(|one| !one.is_empty());
        words.map(Self::of).collect()
    }

    fn of(text: &str) -> Result<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let found = match words[..] {
            ["tumbling", length] => length_of(length).map(Self::Tumbling),
            ["sliding", length, step] => match (length_of(length), length_of(step)) {
                (Some(length), Some(step))
                    if length % step == 0 && length / step <= OVERLAP_MAX =>
                {
                    Some(Self::Sliding(length, step))
                }
                _ => None,
            },
            ["session", gap] => length_of(gap).map(Self::Session),
            ["count", count] => count.parse().ok().filter(|&n| n > 0).map(Self::Count),
            _ => None,
        };
        found.ok_or_else(|| {
            Error::invalid(format!(
                "trade_windows: expected any of \"tumbling 10ms\", \"sliding 1s 100ms\" (a \
                 multiple of its step, {OVERLAP_MAX} at most), \"session 5s\", \"count 100\", got \
                 {text:?}"
            ))
        })
    }

    /// Whether so many windows at most are kept for `kept` ns.
    pub(in super::super) fn fits(&self, kept: i64) -> bool {
        let most = KEPT_MAX as i64;
        match *self {
            Self::Tumbling(step) | Self::Session(step) => kept / step < most,
            Self::Sliding(length, step) => kept.saturating_add(length) / step < most,
            Self::Count(_) => true,
        }
    }

    /// Its name, as names of metrics begin.
    pub(in super::super) fn name(&self) -> String {
        let text = length_text;
        match *self {
            Self::Tumbling(length) => format!("tumbling_{}", text(length)),
            Self::Sliding(length, step) => format!("sliding_{}_{}", text(length), text(step)),
            Self::Session(gap) => format!("session_{}", text(gap)),
            Self::Count(count) => format!("count_{count}"),
        }
    }
}

/// A length such as `10ms` or `5s`, in ns: at least a millisecond, at most a day.
fn length_of(text: &str) -> Option<i64> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, MS),
        None => (text.strip_suffix('s')?, 1_000 * MS),
    };
    let length = number.parse::<i64>().ok()?.checked_mul(unit)?;
    (MS..=86_400_000 * MS).contains(&length).then_some(length)
}
