//! What a decoder in Python writes its records with: texts in, exact records out.
//!
//! Each call is one venue event, flagged as such. It is whole or an exception; after an exception
//! that the decoder does not catch, nothing of its frame is kept.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use tapeworks_core::record::blob::BlobHeader;
use tapeworks_core::record::{
    self, Bar, Channel, Cross, Definition, Header, Imbalance, Mark, Marker, Quote, Side, Status,
    Trade, FLAG_HISTORICAL, FLAG_LAST, NONE, PRICE_PLACES, SIZE_PLACES,
};
use tapeworks_core::{Error, Instruments, Result};

use super::fields::{
    clock_time, empty_update, fixed, level_of, optional, place, sides_of, text_field, total,
    CLASSES, STATUSES,
};
use super::state::State;
use crate::errors::to_python;
use crate::ingest::channel_named;

/// Takes the records of one frame. It is open while the decoder has that frame, and no longer.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct RecordBuilder {
    state: Mutex<State>,
}

impl RecordBuilder {
    pub(super) fn new(number: u8) -> Self {
        Self { state: Mutex::new(State { number, ..State::default() }) }
    }

    /// Begins a frame: what is written goes behind `out`, with ids of `instruments`.
    pub(super) fn open(
        &self,
        header: &BlobHeader,
        instruments: &mut Instruments,
        out: &mut record::Records,
    ) {
        let mut state = self.state();
        state.open = true;
        (state.ts_recv, state.flags) = (header.ts_recv, header.flags as u8);
        std::mem::swap(&mut state.instruments, instruments);
        std::mem::swap(&mut state.out, out);
    }

    /// Ends the frame, and gives back what `open` was lent.
    pub(super) fn close(&self, instruments: &mut Instruments, out: &mut record::Records) {
        let mut state = self.state();
        state.open = false;
        std::mem::swap(&mut state.instruments, instruments);
        std::mem::swap(&mut state.out, out);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> PyResult<MutexGuard<'_, State>> {
        let state = self.state();
        if state.open {
            return Ok(state);
        }
        drop(state);
        Err(PyRuntimeError::new_err("a builder takes records only while its frame is decoded"))
    }

    /// Writes to the frame. No code of Python runs under the lock, which might come back for it.
    fn write<T>(&self, work: impl FnOnce(&mut State) -> Result<T>) -> PyResult<T> {
        let mut state = self.lock()?;
        let written = work(&mut state);
        drop(state);
        written.map_err(to_python)
    }
}

#[pymethods]
#[allow(clippy::too_many_arguments)]
impl RecordBuilder {
    /// When the frame was received, in ns: the time of what the venue gives no time.
    #[getter]
    fn ts_recv(&self) -> PyResult<i64> {
        Ok(self.lock()?.ts_recv)
    }

    /// Says what is known of an instrument, and gives its id. Without it, an instrument is defined
    /// by the first record that names it.
    #[pyo3(signature = (symbol, *, canonical = "", currency = "", tick_size = None,
        lot_size = None, contract_size = None, asset_class = "", status = "", ts_event = None))]
    fn define(
        &self,
        symbol: &str,
        canonical: &str,
        currency: &str,
        tick_size: Option<&Bound<'_, PyAny>>,
        lot_size: Option<&Bound<'_, PyAny>>,
        contract_size: Option<&Bound<'_, PyAny>>,
        asset_class: &str,
        status: &str,
        ts_event: Option<i64>,
    ) -> PyResult<u32> {
        let tick_size = optional(tick_size, PRICE_PLACES, "tick_size")?;
        let lot_size = optional(lot_size, SIZE_PLACES, "lot_size")?;
        let contract_size = match contract_size {
            Some(_) => optional(contract_size, SIZE_PLACES, "contract_size")?,
            None => 0,
        };
        let (canonical, currency) =
            (text_field(canonical, "canonical")?, text_field(currency, "currency")?);
        let asset_class = place(asset_class, &CLASSES, "asset_class")?;
        let status = place(status, &STATUSES, "status")?;
        self.write(|state| {
            let header = state.head::<Definition>(symbol, ts_event, 0)?;
            let known = state.instruments.get(header.instrument).copied();
            let Some(known) = known else { return Ok(header.instrument) };
            let next = Definition {
                header,
                tick_size,
                lot_size,
                contract_size,
                canonical,
                currency,
                asset_class,
                status,
                ..known
            };
            state.instruments.update(&next);
            Ok(header.instrument)
        })
    }

    /// One fill, or with `channel="agg_trade"` the fills of one order. `sequence` is 0, or rises by
    /// one from each trade of the symbol to the next: then a hole is a gap, a repeat is dropped.
    /// With `historical` it is a row of the venue's history: what came already is dropped.
    #[pyo3(signature = (symbol, price, size, *, ts_event = None, sequence = 0, trade_id = None,
        side = "", count = 1, channel = "trade", historical = false))]
    fn trade(
        &self,
        symbol: &str,
        price: &Bound<'_, PyAny>,
        size: &Bound<'_, PyAny>,
        ts_event: Option<i64>,
        sequence: u64,
        trade_id: Option<u64>,
        side: &str,
        count: u32,
        channel: &str,
        historical: bool,
    ) -> PyResult<()> {
        let price = fixed(price, PRICE_PLACES, "price")?;
        let size = fixed(size, SIZE_PLACES, "size")?;
        let side = place(side, &["", "buy", "sell"], "side")?;
        let channel = channel_named(channel)?;
        if !matches!(channel, Channel::Trade | Channel::AggTrade) {
            return Err(PyValueError::new_err("channel: expected trade or agg_trade"));
        }
        self.write(|state| {
            let mut header = state.head::<Trade>(symbol, ts_event, sequence)?;
            header.flags |= FLAG_HISTORICAL * u8::from(historical);
            state.out.push(&Trade {
                header,
                price,
                size,
                trade_id: trade_id.unwrap_or(sequence),
                count,
                side,
                channel: channel as u8,
                conditions: [0; 2],
            });
            Ok(())
        })
    }

    /// Best bid and offer; none where a side is empty. `sequence` is 0, or rises, with or without
    /// holes: then what does not rise is a repeat. With `historical` it is a row of the venue's
    /// history: what came already is dropped, where it has no sequence.
    #[pyo3(signature = (symbol, bid_price, bid_size, ask_price, ask_size, *, ts_event = None,
        sequence = 0, historical = false))]
    fn quote(
        &self,
        symbol: &str,
        bid_price: Option<&Bound<'_, PyAny>>,
        bid_size: Option<&Bound<'_, PyAny>>,
        ask_price: Option<&Bound<'_, PyAny>>,
        ask_size: Option<&Bound<'_, PyAny>>,
        ts_event: Option<i64>,
        sequence: u64,
        historical: bool,
    ) -> PyResult<()> {
        let size = |value: Option<&Bound<'_, PyAny>>, field| {
            value.map_or(Ok(0), |value| fixed(value, SIZE_PLACES, field))
        };
        let (bid_price, ask_price) = (
            optional(bid_price, PRICE_PLACES, "bid_price")?,
            optional(ask_price, PRICE_PLACES, "ask_price")?,
        );
        let (bid_size, ask_size) = (size(bid_size, "bid_size")?, size(ask_size, "ask_size")?);
        self.write(|state| {
            let mut header = state.head::<Quote>(symbol, ts_event, sequence)?;
            header.flags |= FLAG_HISTORICAL * u8::from(historical);
            state.out.push(&Quote { header, bid_price, bid_size, ask_price, ask_size });
            Ok(())
        })
    }

    /// Changes of a book: pairs of price and new size, 0 where a level is gone. `sequence` is the
    /// id of the update, `previous` that of the one before it; none: one less.
    #[pyo3(signature = (symbol, bids, asks, *, sequence, previous = None, ts_event = None))]
    fn depth(
        &self,
        symbol: &str,
        bids: &Bound<'_, PyAny>,
        asks: &Bound<'_, PyAny>,
        sequence: u64,
        previous: Option<u64>,
        ts_event: Option<i64>,
    ) -> PyResult<()> {
        let previous = previous.unwrap_or_else(|| sequence.saturating_sub(1));
        // The ids behind the update before it and up to this one, less one.
        let span = sequence.checked_sub(previous).and_then(|ids| ids.checked_sub(1));
        let span = span.and_then(|span| u32::try_from(span).ok()).ok_or_else(|| {
            PyValueError::new_err(format!(
                "depth of {symbol}: expected a sequence above the one before it, got {sequence} \
                 after {previous}"
            ))
        })?;
        let sides = sides_of([bids, asks])?;
        self.write(|state| {
            let header = state.head::<Marker>(symbol, ts_event, sequence)?;
            let flags = header.flags & !FLAG_LAST;
            let mut level = level_of(Header { flags, ..header }, previous, span, Channel::Depth);
            if state.levels(&mut level, &sides) == 0 {
                state.out.push(&empty_update(header, previous));
            } else {
                state.flag_last();
            }
            Ok(())
        })
    }

    /// A whole book, as of the update `sequence`. With `in_stream` it came in the stream of updates
    /// itself, which goes on right behind it: a book that lost something begins anew there.
    #[pyo3(signature = (symbol, bids, asks, *, sequence, ts_event = None, in_stream = false))]
    fn snapshot(
        &self,
        symbol: &str,
        bids: &Bound<'_, PyAny>,
        asks: &Bound<'_, PyAny>,
        sequence: u64,
        ts_event: Option<i64>,
        in_stream: bool,
    ) -> PyResult<()> {
        let sides = sides_of([bids, asks])?;
        self.write(|state| {
            let header = state.head::<Marker>(symbol, ts_event, sequence)?;
            if in_stream {
                // The update up to here, whose levels the snapshot holds: the next continues it.
                state.out.push(&empty_update(header, sequence.saturating_sub(1)));
            }
            state.whole_book(header, Channel::Snapshot, &sides);
            Ok(())
        })
    }

    /// The best levels of a book, whole, for a stream that sends nothing else. `sequence` rises.
    #[pyo3(signature = (symbol, bids, asks, *, sequence, ts_event = None))]
    fn partial_depth(
        &self,
        symbol: &str,
        bids: &Bound<'_, PyAny>,
        asks: &Bound<'_, PyAny>,
        sequence: u64,
        ts_event: Option<i64>,
    ) -> PyResult<()> {
        let sides = sides_of([bids, asks])?;
        self.write(|state| {
            let header = state.head::<Marker>(symbol, ts_event, sequence)?;
            state.whole_book(header, Channel::PartialDepth, &sides);
            Ok(())
        })
    }

    /// A bar that the venue made, of the interval that starts at `ts_event`.
    #[pyo3(signature = (symbol, interval_ms, open, high, low, close, volume, *, ts_event,
        closed = true, count = 0, sequence = 0, buy_volume = None, turnover = None,
        buy_turnover = None))]
    fn bar(
        &self,
        symbol: &str,
        interval_ms: u32,
        open: &Bound<'_, PyAny>,
        high: &Bound<'_, PyAny>,
        low: &Bound<'_, PyAny>,
        close: &Bound<'_, PyAny>,
        volume: &Bound<'_, PyAny>,
        ts_event: i64,
        closed: bool,
        count: u64,
        sequence: u64,
        buy_volume: Option<&Bound<'_, PyAny>>,
        turnover: Option<&Bound<'_, PyAny>>,
        buy_turnover: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let price = |value, field| fixed(value, PRICE_PLACES, field);
        let buy_volume = buy_volume.map_or(Ok(0), |v| fixed(v, SIZE_PLACES, "buy_volume"))?;
        let bar = Bar {
            header: Header::of::<Bar>(),
            open: price(open, "open")?,
            high: price(high, "high")?,
            low: price(low, "low")?,
            close: price(close, "close")?,
            volume: fixed(volume, SIZE_PLACES, "volume")?,
            buy_volume,
            turnover: total(turnover)?,
            buy_turnover: total(buy_turnover)?,
            count,
            interval_ms,
            closed: u8::from(closed),
            channel: Channel::Kline as u8,
            reserved: [0; 2],
        };
        self.write(|state| {
            let header = state.head::<Bar>(symbol, Some(ts_event), sequence)?;
            state.out.push(&Bar { header, ..bar });
            Ok(())
        })
    }

    /// Mark price, index price and funding of a derivative.
    #[pyo3(signature = (symbol, mark_price, *, ts_event = None, index_price = None,
        funding_rate = None, ts_funding = None))]
    fn mark(
        &self,
        symbol: &str,
        mark_price: &Bound<'_, PyAny>,
        ts_event: Option<i64>,
        index_price: Option<&Bound<'_, PyAny>>,
        funding_rate: Option<&Bound<'_, PyAny>>,
        ts_funding: Option<i64>,
    ) -> PyResult<()> {
        let mark_price = fixed(mark_price, PRICE_PLACES, "mark_price")?;
        let index_price = optional(index_price, PRICE_PLACES, "index_price")?;
        let funding_rate = optional(funding_rate, PRICE_PLACES, "funding_rate")?;
        let ts_funding = ts_funding.unwrap_or(NONE);
        self.write(|state| {
            let header = state.head::<Mark>(symbol, ts_event, 0)?;
            state.out.push(&Mark { header, mark_price, index_price, funding_rate, ts_funding });
            Ok(())
        })
    }

    /// Trading state of an instrument: `trading`, `halted`, `auction`, `closed`, `cancel_only`.
    #[pyo3(signature = (symbol, status, *, ts_event = None, reason = "", price_low = None,
        price_high = None, sequence = 0))]
    fn status(
        &self,
        symbol: &str,
        status: &str,
        ts_event: Option<i64>,
        reason: &str,
        price_low: Option<&Bound<'_, PyAny>>,
        price_high: Option<&Bound<'_, PyAny>>,
        sequence: u64,
    ) -> PyResult<()> {
        let price_low = optional(price_low, PRICE_PLACES, "price_low")?;
        let price_high = optional(price_high, PRICE_PLACES, "price_high")?;
        let (status, reason) = (place(status, &STATUSES, "status")?, text_field(reason, "reason")?);
        self.write(|state| {
            let header = state.head::<Status>(symbol, ts_event, sequence)?;
            let reserved = [0; 7];
            state.out.push(&Status { header, price_low, price_high, reason, status, reserved });
            Ok(())
        })
    }

    /// What an auction would do if it were held now. `cross` says which it is: `opening`,
    /// `closing`, `halt`, `intraday`, `extended_close`, `other`; `side` the larger one, `bid` or
    /// `ask`; `state` is empty, `insufficient` or `paused`; `auction_time` is as 930, 0 where it is
    /// not told.
    #[pyo3(signature = (symbol, *, cross = "", side = "", paired_size = None, imbalance_size = None,
        reference_price = None, near_price = None, far_price = None, auction_time = 0, state = "",
        code = "", ts_event = None, sequence = 0))]
    fn imbalance(
        &self,
        symbol: &str,
        cross: &str,
        side: &str,
        paired_size: Option<&Bound<'_, PyAny>>,
        imbalance_size: Option<&Bound<'_, PyAny>>,
        reference_price: Option<&Bound<'_, PyAny>>,
        near_price: Option<&Bound<'_, PyAny>>,
        far_price: Option<&Bound<'_, PyAny>>,
        auction_time: u16,
        state: &str,
        code: &str,
        ts_event: Option<i64>,
        sequence: u64,
    ) -> PyResult<()> {
        let price = |value, field| optional(value, PRICE_PLACES, field);
        let imbalance_size = optional(imbalance_size, SIZE_PLACES, "imbalance_size")?;
        if imbalance_size < 0 {
            return Err(PyValueError::new_err(
                "imbalance_size: expected 0 or more, got less: `side` says which side is larger",
            ));
        }
        let told = Imbalance {
            paired_size: optional(paired_size, SIZE_PLACES, "paired_size")?,
            imbalance_size,
            reference_price: price(reference_price, "reference_price")?,
            near_price: price(near_price, "near_price")?,
            far_price: price(far_price, "far_price")?,
            code: text_field(code, "code")?,
            auction_time: clock_time(auction_time, "auction_time")?,
            side: place(side, Side::NAMES, "side")?,
            cross: place(cross, Cross::NAMES, "cross")?,
            state: place(state, &Imbalance::STATES, "state")?,
            ..Imbalance::unknown(Header::of::<Imbalance>())
        };
        self.write(|frame| {
            let header = frame.head::<Imbalance>(symbol, ts_event, sequence)?;
            frame.out.push(&Imbalance { header, ..told });
            Ok(())
        })
    }

    /// Whole records of any kind, as NumPy rows of `dtype_descr` or other bytes. Their instruments
    /// are ids that `define` gave; feed and time of receipt are set here.
    fn extend(&self, records: &Bound<'_, PyAny>) -> PyResult<()> {
        let buffer =
            PyBuffer::<u8>::get(&records.call_method0("tobytes").unwrap_or(records.clone()))?;
        if !buffer.is_c_contiguous() {
            return Err(PyValueError::new_err("expected contiguous bytes"));
        }
        // SAFETY: the buffer is contiguous and held for the copy, as is the GIL.
        let bytes = unsafe {
            std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes())
        };
        let batch = record::Records::from_bytes(bytes).map_err(to_python)?;
        self.write(|state| {
            let mut at = state.out.mark().0;
            let known = state.instruments.len() as u32;
            let stranger =
                batch.iter().map(|r| r.header().instrument).find(|id| !(1..=known).contains(id));
            if let Some(id) = stranger {
                return Err(Error::invalid(format!(
                    "expected instrument ids that define() gave, 1 to {known}, got {id}"
                )));
            }
            state.out.extend_from_bytes(batch.as_bytes())?;
            let (number, ts_recv) = (state.number, state.ts_recv);
            for record in batch.iter() {
                let bytes = state.out.as_bytes_mut(at);
                bytes[3] = number;
                bytes[16..24].copy_from_slice(&ts_recv.to_le_bytes());
                at += record.bytes().len();
            }
            Ok(())
        })
    }
}
