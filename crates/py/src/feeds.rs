//! Bindings of the core's `feeds`.

use std::collections::HashMap;
use std::io::BufRead;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tapeworks_core::feeds::itch::Run;
use tapeworks_core::feeds::FEEDS;
use tapeworks_core::record::blob::{Blob, BlobHeader, BlobKind};
use tapeworks_core::{record, Error, Feed, Instruments, Result};

use crate::errors::to_python;
use crate::ingest::feed_of;
use crate::record::Records;
use crate::released::released;
use crate::turns::Turns;

/// Records of a batch that `decode_lines` keeps before it forgets them: what fits in the cache.
const BATCH_RECORDS: usize = 4096;

/// One feed's decoder with the instruments that it has met.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct Decoder {
    state: Turns<State>,
}

struct State {
    feed: Box<dyn Feed>,
    number: u8,
    instruments: Instruments,
}

impl State {
    fn new(feed: &str, decoder: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let (descriptor, feed) = feed_of(feed, decoder)?;
        Ok(Self { feed, number: descriptor.number(), instruments: Instruments::new() })
    }

    fn receive(
        &mut self,
        kind: u8,
        context: &[u8],
        body: &[u8],
        ts_recv: i64,
        out: &mut record::Records,
    ) -> Result<()> {
        let header = BlobHeader { kind, feed: self.number, ts_recv, ..BlobHeader::default() };
        let blob = Blob { header, context, body };
        let rejected = self.feed.receive(&blob, &mut self.instruments, out)?;
        rejected.first.map_or(Ok(()), |(reason, byte)| Err(Error::decode(reason, byte)))
    }

    fn encode(&mut self, event: &record::Records, combined: bool, out: &mut Vec<u8>) -> Result<()> {
        for definition in event.iter().filter_map(|record| record.as_definition()) {
            self.instruments.load(&definition)?;
        }
        self.feed.encode(event, &self.instruments, combined, out)
    }

    /// Decodes each line of `data`: frames, records and failures.
    fn decode_lines(&mut self, data: &[u8], ts_recv: i64) -> (usize, usize, usize) {
        let mut out = record::Records::new();
        let (mut frames, mut records, mut failures) = (0, 0, 0);
        let mut rest = data;
        while !rest.is_empty() {
            let from_here = rest;
            let length = rest.skip_until(b'\n').expect("a slice is read without I/O");
            let line = &from_here[..length];
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            frames += 1;
            failures += usize::from(
                self.receive(BlobKind::Text as u8, b"", line, ts_recv, &mut out).is_err(),
            );
            if out.len() >= BATCH_RECORDS {
                records += out.len();
                out.clear();
            }
        }
        (frames, records + out.len(), failures)
    }
}

#[pymethods]
impl Decoder {
    #[new]
    #[pyo3(signature = (feed, decoder = None))]
    fn new(feed: &str, decoder: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        Ok(Self { state: Turns::new(State::new(feed, decoder)?) })
    }

    /// Decodes one blob: a frame, or the answer to the request `context`.
    fn receive(
        &self,
        py: Python<'_>,
        kind: u8,
        context: &[u8],
        body: &[u8],
        ts_recv: i64,
    ) -> PyResult<Records> {
        let mut out = record::Records::new();
        let received = self.state.take(py)?.receive(kind, context, body, ts_recv, &mut out);
        received.map_err(to_python)?;
        Ok(Records::wrap(out, 0, 0))
    }

    /// Decodes each line of `data` and forgets the records: counts of frames, records, failures.
    fn decode_lines(
        &self,
        py: Python<'_>,
        data: &[u8],
        ts_recv: i64,
    ) -> PyResult<(usize, usize, usize)> {
        let mut turn = self.state.take(py)?;
        let state = &mut *turn;
        Ok(released(py, || state.decode_lines(data, ts_recv)))
    }

    /// The frame that the venue would send for `records`, one venue event. Definitions in front of
    /// it are taken in first.
    #[pyo3(signature = (records, combined = true))]
    fn encode<'py>(
        &self,
        py: Python<'py>,
        records: &Records,
        combined: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut out = Vec::new();
        let encoded = self.state.take(py)?.encode(records.get(), combined, &mut out);
        encoded.map_err(to_python)?;
        Ok(PyBytes::new(py, &out))
    }

    /// The instrument id of each symbol that is valid now.
    fn symbols(&self, py: Python<'_>) -> PyResult<HashMap<String, u32>> {
        let state = self.state.take(py)?;
        let valid = |definition: &&record::Definition| definition.valid_to == record::NONE;
        let name = |definition: &record::Definition| {
            (record::unpadded(&definition.symbol).to_owned(), definition.header.instrument)
        };
        Ok(state.instruments.iter().filter(valid).map(name).collect())
    }

    /// All instruments, as records in order of id.
    fn definitions(&self, py: Python<'_>) -> PyResult<Records> {
        let mut out = record::Records::new();
        self.state.take(py)?.instruments.iter().for_each(|definition| out.push(definition));
        Ok(Records::wrap(out, 0, 0))
    }
}

/// Decodes one blob with a decoder that has met no instrument: the first one is number 1.
#[pyfunction]
fn decode(feed: &str, kind: u8, context: &[u8], body: &[u8], ts_recv: i64) -> PyResult<Records> {
    let mut out = record::Records::new();
    let mut state = State::new(feed, None)?;
    state.receive(kind, context, body, ts_recv, &mut out).map_err(to_python)?;
    Ok(Records::wrap(out, 0, 0))
}

/// The frame that the venue of `feed` would send for `records`: definitions of the instruments, and
/// one venue event.
#[pyfunction]
#[pyo3(signature = (feed, records, combined = true))]
fn encode<'py>(
    py: Python<'py>,
    feed: &str,
    records: &Records,
    combined: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    Decoder::new(feed, None)?.encode(py, records, combined)
}

/// Where the next run of whole ITCH messages of `data` ends, from `start` on: at most
/// `messages_max`, within `span_ns`. Its end, its messages, the time of the last in ns since
/// midnight if it has one, and whether a length of 0 follows.
#[pyfunction]
fn itch_run(
    data: &[u8],
    start: usize,
    messages_max: u32,
    span_ns: u64,
) -> (usize, u32, Option<u64>, bool) {
    let run = Run::scan(data, start.min(data.len()), messages_max, span_ns);
    (run.end, run.count, run.time_last, run.is_ended)
}

/// Whether the feed of that number tells news.
#[pyfunction]
fn tells_news(feed: u8) -> bool {
    FEEDS.iter().any(|known| known.number() == feed && known.news.is_some())
}

/// Adds this file's classes and functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Decoder>()?;
    module.add_function(wrap_pyfunction!(decode, module)?)?;
    module.add_function(wrap_pyfunction!(encode, module)?)?;
    module.add_function(wrap_pyfunction!(itch_run, module)?)?;
    module.add_function(wrap_pyfunction!(tells_news, module)?)?;
    Ok(())
}
