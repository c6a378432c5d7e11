//! Bindings of the core's `numbered`: the stored numbers by name, so that Python repeats none.

use std::collections::BTreeMap;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use tapeworks_core::book::Touch;
use tapeworks_core::feeds::{updates_of, BarSpan, Descriptor};
use tapeworks_core::record::{
    self, AlertState, BlobKind, Channel, Cross, GapCause, GapState, Kind, MarkerCode, OrderAction,
    QuoteState, Severity, Side, SubscriptionState, SyncState,
};
use tapeworks_core::{DecodeReason, FeedId, TapeKind};

/// Each enum whose numbers are stored, and the names of its numbers.
const ENUMS: &[(&str, &[&str])] = &[
    ("feed", FeedId::NAMES),
    ("kind", Kind::NAMES),
    ("side", Side::NAMES),
    ("channel", Channel::NAMES),
    ("marker_code", MarkerCode::NAMES),
    ("gap_cause", GapCause::NAMES),
    ("gap_state", GapState::NAMES),
    ("book_state", SyncState::NAMES),
    ("subscription_state", SubscriptionState::NAMES),
    ("order_action", OrderAction::NAMES),
    ("cross", Cross::NAMES),
    ("quote_state", QuoteState::NAMES),
    ("alert_state", AlertState::NAMES),
    ("severity", Severity::NAMES),
    ("blob_kind", BlobKind::NAMES),
    ("decode_reason", DecodeReason::NAMES),
    ("tape_kind", TapeKind::NAMES),
    ("touch", Touch::NAMES),
];

/// The stored numbers of one enum, by name: `channel`, `marker_code`, `gap_cause` and so on.
#[pyfunction]
fn numbers(of: &str) -> PyResult<BTreeMap<&'static str, u8>> {
    let Some((_, names)) = ENUMS.iter().find(|(name, _)| *name == of) else {
        let known: Vec<&str> = ENUMS.iter().map(|(name, _)| *name).collect();
        let known = known.join(", ");
        return Err(PyValueError::new_err(format!("expected one of {known}, got {of:?}")));
    };
    let named = names.iter().enumerate().filter(|(_, name)| !name.is_empty());
    Ok(named.map(|(number, name)| (*name, number as u8)).collect())
}

/// The conditions that hold a trade of the feed `number` back, by what they keep it from changing:
/// open and close, high and low, volume; of bars of a day, or of shorter ones.
#[pyfunction]
fn held_back(number: u8, is_daily: bool) -> [Vec<u32>; 3] {
    let span = if is_daily { BarSpan::Daily } else { BarSpan::Intraday };
    let mut found = [const { Vec::new() }; 3];
    for id in 1..=u8::MAX {
        let updates = updates_of(number, [id, 0], span);
        for (ids, allows) in
            found.iter_mut().zip([updates.open_close, updates.high_low, updates.volume])
        {
            if !allows {
                ids.push(u32::from(id));
            }
        }
    }
    found
}

/// Whether corrections of trades of `symbol`, told by the feed `number` in a gap, are missing, once
/// the gap `is_filled` or not. An empty symbol is any.
#[pyfunction]
fn loses_corrections(number: u8, symbol: &str, is_filled: bool) -> bool {
    Descriptor::numbered(number).corrections.are_lost(symbol, is_filled)
}

/// The number that stands for a topic in the ledger's entries.
#[pyfunction]
fn topic_number(topic: &str) -> u64 {
    record::topic_number(topic)
}

/// Adds this file's functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(topic_number, module)?)?;
    module.add_function(wrap_pyfunction!(held_back, module)?)?;
    module.add_function(wrap_pyfunction!(loses_corrections, module)?)?;
    module.add_function(wrap_pyfunction!(numbers, module)?)
}
