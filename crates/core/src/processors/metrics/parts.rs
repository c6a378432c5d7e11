//! Parts of states that families have in common.

use super::family::Best;
use crate::error::{Error, Result};
use crate::processors::state::{StateReader, StateWriter};
use crate::record::Channel;

/// Refuses a state of other settings.
pub(super) fn same_setting(name: &str, ours: i64, found: i64) -> Result<()> {
    if ours == found {
        return Ok(());
    }
    Err(Error::invalid(format!("expected a state of {name} {ours}, got one of {found}")))
}

/// Writes best prices.
pub(super) fn put_best(best: Option<Best>, state: &mut StateWriter<'_>) {
    state.flag(best.is_some());
    if let Some(best) = best {
        for value in [best.bid_price, best.bid_size, best.ask_price, best.ask_size] {
            state.i64(value);
        }
    }
}

/// Reads what [`put_best`] wrote.
pub(super) fn take_best(state: &mut StateReader<'_>) -> Result<Option<Best>> {
    if !state.flag()? {
        return Ok(None);
    }
    Ok(Some(Best {
        bid_price: state.i64()?,
        bid_size: state.i64()?,
        ask_price: state.i64()?,
        ask_size: state.i64()?,
    }))
}

/// Whether levels of that channel make up a book.
pub(super) const fn is_of_book(channel: u8) -> bool {
    channel == Channel::Depth as u8 || channel == Channel::Snapshot as u8
}
