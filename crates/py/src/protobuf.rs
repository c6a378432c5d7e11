//! Bindings of the core's `protobuf`: whole batches of records become messages, and back.

use std::collections::{BTreeMap, HashMap};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use tapeworks_core::protobuf::{self, Choice, EncodedBatch, Reached};
use tapeworks_core::record::columns::Layout;
use tapeworks_core::record::{self, Kind, MarkerCode, FLAG_HISTORICAL, FLAG_OUT_OF_ORDER};

use crate::errors::to_python;
use crate::record::{Records, Symbols};
use crate::released::released;

/// A decoded batch: records, the source and offset of each, and what could not be decoded.
type Decoded = (Records, Vec<(String, u64)>, Vec<(usize, String)>);

/// Key, kind, message, event time of the last message, and whether only late versions were met.
type LastMessage<'py> = (Bound<'py, PyBytes>, &'static str, Bound<'py, PyBytes>, i64, bool);

/// Messages of one batch, to be handed to a client one by one.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct EncodedMessages {
    inner: EncodedBatch,
    /// The key of each instrument in the batch.
    keys: HashMap<u32, Vec<u8>>,
}

#[pymethods]
impl EncodedMessages {
    fn __len__(&self) -> usize {
        self.inner.len()
    }

    /// Bytes of all messages.
    #[getter]
    fn nbytes(&self) -> usize {
        self.inner.byte_length()
    }

    /// Key, message and tape offset of each, in the order of the tape.
    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let keys: HashMap<_, _> =
            self.keys.iter().map(|(&id, key)| (id, PyBytes::new(py, key))).collect();
        let offsets = self.inner.offsets();
        let instruments = self.inner.instruments();
        let items = (0..self.inner.len()).map(|index| {
            let message = PyBytes::new(py, self.inner.message(index));
            (keys[&instruments[index]].clone(), message, offsets[index])
        });
        PyList::new(py, items)
    }

    /// One Redis command, packed for the socket: `words`, then id and content of the messages from
    /// `start` to `end`. The id of a message in a stream is `offset-1`.
    fn redis_command<'py>(
        &self,
        py: Python<'py>,
        words: Vec<Vec<u8>>,
        start: usize,
        end: usize,
    ) -> PyResult<Bound<'py, PyBytes>> {
        if start > end || end > self.inner.len() {
            let count = self.inner.len();
            return Err(PyValueError::new_err(format!(
                "expected messages within 0 to {count}, got {start} to {end}"
            )));
        }
        let packed = released(py, || {
            let mut out = Vec::new();
            out.extend_from_slice(format!("*{}\r\n", words.len() + 2 * (end - start)).as_bytes());
            words.iter().for_each(|word| put_word(&mut out, word));
            for index in start..end {
                put_word(&mut out, format!("{}-1", self.inner.offsets()[index]).as_bytes());
                put_word(&mut out, self.inner.message(index));
            }
            out
        });
        Ok(PyBytes::new(py, &packed))
    }

    /// The last message of each instrument of each kind that is a state: key, kind, message, event
    /// time, and whether it is a late version. What came late, or from the venue's history, is no
    /// last one; a late version of a bar is, unless a later bar was there before it.
    fn latest<'py>(&self, py: Python<'py>) -> Vec<LastMessage<'py>> {
        let mut last: BTreeMap<_, (usize, i64, bool)> = BTreeMap::new();
        for (index, &instrument) in self.inner.instruments().iter().enumerate() {
            let (kind, code) = self.inner.kinds()[index];
            let (flags, ts) = (self.inner.flags()[index], self.inner.times()[index]);
            let is_late = flags & FLAG_OUT_OF_ORDER != 0;
            let is_newest = flags & FLAG_HISTORICAL == 0 && (!is_late || kind == Kind::Bar as u8);
            let (true, Some(state)) = (instrument != 0 && is_newest, state(kind, code)) else {
                continue;
            };
            let known = last.get(&(instrument, state)).copied();
            let (reached, only_late) = known.map_or((ts, true), |(_, ts, late)| (ts, late));
            if !is_late || ts >= reached {
                last.insert((instrument, state), (index, ts.max(reached), is_late && only_late));
            }
        }
        let bytes = |bytes: &[u8]| PyBytes::new(py, bytes);
        let one = |((instrument, state), (index, ts, is_late)): ((u32, _), (usize, _, _))| {
            (bytes(&self.keys[&instrument]), state, bytes(self.inner.message(index)), ts, is_late)
        };
        last.into_iter().map(one).collect()
    }
}

/// What a record is the state of; none if one alone says nothing of how things are.
fn state(kind: u8, code: u8) -> Option<&'static str> {
    match Kind::try_from(kind).ok()? {
        Kind::Marker if code == MarkerCode::BookState as u8 => Some("book_state"),
        kind @ (Kind::Tick
        | Kind::Trade
        | Kind::Quote
        | Kind::Mark
        | Kind::Status
        | Kind::Imbalance
        | Kind::Bar) => Some(kind.name()),
        _ => None,
    }
}

/// Appends one word of a command in the Redis protocol.
fn put_word(out: &mut Vec<u8>, word: &[u8]) {
    out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

/// Writes records of one source as messages `tapeworks.v1.MarketData`.
#[pyclass(module = "tapeworks._core")]
pub struct ProtobufEncoder {
    inner: protobuf::Encoder,
}

#[pymethods]
impl ProtobufEncoder {
    #[new]
    #[pyo3(signature = (source, frame = None))]
    fn new(source: &str, frame: Option<&[u8]>) -> PyResult<Self> {
        let inner = protobuf::Encoder::new(source, frame.unwrap_or_default());
        Ok(Self { inner: inner.map_err(to_python)? })
    }

    /// Takes in the symbols of instruments.
    fn load(&mut self, py: Python<'_>, symbols: &Symbols) {
        let symbols = &symbols.inner;
        released(py, || self.inner.load(symbols));
    }

    /// A message for each of `records`, or for those alone that are of one of the given kinds and
    /// instruments. Definitions among them are taken in.
    #[pyo3(signature = (records, kinds = None, instruments = None))]
    fn encode(
        &mut self,
        py: Python<'_>,
        records: &Records,
        kinds: Option<Vec<String>>,
        instruments: Option<Vec<u32>>,
    ) -> PyResult<EncodedMessages> {
        let layouts = kinds.unwrap_or_default().into_iter().map(|name| Layout::named(&name));
        let layouts = layouts.collect::<Result<_, _>>().map_err(to_python)?;
        let mut choice = Choice { layouts, instruments, from: 0 };
        if let Some(ids) = &mut choice.instruments {
            ids.sort_unstable();
        }
        let (bytes, first) = (records.get().as_bytes(), records.first_offset);
        let encoded = released(py, || {
            let mut batch = EncodedBatch::new();
            self.inner.encode(bytes, first, &choice, &mut batch)?;
            Ok(batch)
        });
        let inner = encoded.map_err(to_python)?;
        let mut keys = HashMap::new();
        for &instrument in inner.instruments() {
            keys.entry(instrument).or_insert_with(|| self.inner.key(instrument));
        }
        Ok(EncodedMessages { inner, keys })
    }
}

/// The records of messages `tapeworks.v1.MarketData`, with or without the header of a schema
/// registry. Gives the records, source and tape offset of each, and of what could not be decoded
/// its index and why.
#[pyfunction]
fn decode_messages(py: Python<'_>, messages: Vec<Bound<'_, PyBytes>>) -> Decoded {
    let bytes: Vec<&[u8]> = messages.iter().map(|message| message.as_bytes()).collect();
    let (records, origins, rejected) = released(py, || {
        let (mut out, mut origins, mut rejected) = (record::Records::new(), Vec::new(), Vec::new());
        for (index, message) in bytes.iter().enumerate() {
            match protobuf::Decoder.decode(message, &mut out) {
                Ok(origin) => origins.push((origin.source.to_owned(), origin.offset)),
                Err(error) => rejected.push((index, error.to_string())),
            }
        }
        (out, origins, rejected)
    });
    (Records::wrap(records, 0, 0), origins, rejected)
}

/// By source: its name, its records, the index of its last message, offset and receive time that it
/// was unpacked up to, and how many were repetitions.
type Part = (String, Records, usize, u64, i64, u64);

/// The sources of a batch, then the message that ends it: its index, why it cannot be unpacked, and
/// whether it is newer.
type UnpackedBatch = (Vec<Part>, Option<(usize, String, bool)>);

/// Unpacks the messages of one partition of a topic into the records of each source.
#[pyclass(module = "tapeworks._core")]
pub struct Unpacker {
    inner: protobuf::Unpacker,
}

#[pymethods]
impl Unpacker {
    #[new]
    fn new() -> Self {
        Self { inner: protobuf::Unpacker::new() }
    }

    /// Goes on where `source` was left.
    fn restore(&mut self, source: &str, offset: u64, ts_recv: i64) {
        self.inner.restore(source, Reached { offset, ts_recv });
    }

    /// Unpacks `messages` up to the first one that cannot be. `covered` says of a source before
    /// which index its records are left out.
    fn unpack(
        &mut self,
        py: Python<'_>,
        messages: Vec<Bound<'_, PyBytes>>,
        covered: Vec<(String, usize)>,
    ) -> PyResult<UnpackedBatch> {
        let bytes: Vec<&[u8]> = messages.iter().map(|message| message.as_bytes()).collect();
        let inner = &mut self.inner;
        let (parts, rejected) =
            released(py, || inner.unpack(&bytes, &covered)).map_err(to_python)?;
        let parts = parts.into_iter().map(|part| {
            let Reached { offset, ts_recv } = part.reached;
            let records = Records::wrap(part.records, 0, 0);
            (part.source, records, part.last, offset, ts_recv, part.repeated)
        });
        Ok((parts.collect(), rejected.map(|one| (one.index, one.reason, one.is_newer))))
    }
}

/// Adds this file's classes and functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<EncodedMessages>()?;
    module.add_class::<ProtobufEncoder>()?;
    module.add_class::<Unpacker>()?;
    module.add_function(wrap_pyfunction!(decode_messages, module)?)
}
