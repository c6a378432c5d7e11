//! Bindings of the core's `ingest`: the recorder's inner end.

use std::path::PathBuf;

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tapeworks_core::clock::ClockStep;
use tapeworks_core::feeds::foreign::{FOREIGN, FOREIGN_BY_EVENTS};
use tapeworks_core::ingest::{self, IngestConfig};
use tapeworks_core::latency::Quantiles;
use tapeworks_core::processors::Stage;
use tapeworks_core::record::{padded_or_cut, Alert, AlertState, BlobKind, Channel, GapCause};
use tapeworks_core::tape::{Durability, Retention};
use tapeworks_core::{Descriptor, Feed};

use crate::errors::to_python;
use crate::foreign::PythonFeed;
use crate::released::released;
use crate::turns::Turns;

/// Seconds by name.
type Seconds = Vec<(String, f64)>;
/// Symbol, channel, cause, first and last missing number, and the times around a gap.
type GapLine = (String, &'static str, &'static str, u64, u64, i64, i64, u64);

/// Writes the raw tape of one source, and its normalised tape right behind.
///
/// `receive` is called once a frame and only copies; `flush` is called once a read of a socket,
/// and publishes all that was received since.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct Ingest {
    /// None once closed. Hardly contended in a session, which is one thread.
    inner: Turns<Option<ingest::Ingest>>,
}

impl Ingest {
    /// Acts on the ingest, unless it was closed.
    pub fn with<T>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&mut ingest::Ingest) -> tapeworks_core::Result<T>,
    ) -> PyResult<T> {
        let acted = self.inner.take(py)?.as_mut().map(act);
        acted.ok_or_else(closed)?.map_err(to_python)
    }

    /// As `with`, with the GIL released: for what may take long.
    fn with_released<T: Send>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&mut ingest::Ingest) -> tapeworks_core::Result<T> + Send,
    ) -> PyResult<T> {
        let mut turn = self.inner.take(py)?;
        let inner = &mut *turn;
        let acted = released(py, || inner.as_mut().map(act));
        drop(turn);
        acted.ok_or_else(closed)?.map_err(to_python)
    }
}

fn closed() -> PyErr {
    PyValueError::new_err("this ingest was closed")
}

#[pymethods]
impl Ingest {
    #[new]
    #[pyo3(signature = (
        data_dir, source, feed, *,
        pending_bytes_max = 67_108_864, durability_ms = 50, segment_bytes = 268_435_456,
        retention_bytes = None, retention_ms = None, compress_after = None, wait_ms_max = None,
        decoder = None, ts_first = None
    ))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        data_dir: PathBuf,
        source: String,
        feed: &str,
        pending_bytes_max: usize,
        durability_ms: i64,
        segment_bytes: usize,
        retention_bytes: Option<u64>,
        retention_ms: Option<u64>,
        compress_after: Option<usize>,
        wait_ms_max: Option<u64>,
        decoder: Option<&Bound<'_, PyAny>>,
        ts_first: Option<i64>,
    ) -> PyResult<Self> {
        let durability = match u32::try_from(durability_ms) {
            Ok(0) => Durability::EveryFrame,
            Ok(ms) => Durability::IntervalMs(ms),
            Err(_) => Durability::Never,
        };
        let (id, decoder) = feed_of(feed, decoder)?;
        let config = IngestConfig {
            data: data_dir,
            source,
            feed: id,
            pending_bytes_max,
            durability,
            segment_bytes,
            retention: Retention {
                bytes_max: retention_bytes,
                age_ms_max: retention_ms,
                wait_ms_max,
                compress_after,
            },
            ts_first,
        };
        let inner = released(py, || ingest::Ingest::open_with(config, decoder));
        let inner = inner.map_err(to_python)?;
        Ok(Self { inner: Turns::new(Some(inner)) })
    }

    /// Takes in a frame; says whether the session should look at it, for it is not market data.
    #[pyo3(signature = (connection, kind, ts_recv, payload, context = None))]
    fn receive(
        &self,
        connection: u16,
        kind: u8,
        ts_recv: i64,
        payload: &Bound<'_, PyAny>,
        context: Option<&[u8]>,
    ) -> PyResult<bool> {
        let kind = blob_kind(kind)?;
        let context = context.unwrap_or_default();
        if let Ok(bytes) = payload.downcast::<PyBytes>() {
            let body = bytes.as_bytes();
            return self.with(payload.py(), |inner| {
                inner.receive(connection, kind, ts_recv, context, body)
            });
        }
        let buffer = PyBuffer::<u8>::get(payload)?;
        if !buffer.is_c_contiguous() {
            return Err(PyValueError::new_err("expected contiguous bytes"));
        }
        // SAFETY: the buffer is contiguous and held for the call, as is the GIL.
        let body = unsafe {
            std::slice::from_raw_parts(buffer.buf_ptr().cast::<u8>(), buffer.len_bytes())
        };
        self.with(payload.py(), |inner| inner.receive(connection, kind, ts_recv, context, body))
    }

    /// The receive time of this moment, in ns: it never falls, and follows no step of the clock.
    fn now(&self, py: Python<'_>) -> PyResult<i64> {
        self.with(py, |inner| Ok(inner.now()))
    }

    /// Why the normalised tape is not written; none if it is. The raw tape goes on without it.
    fn degraded(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.with(py, |inner| Ok(inner.degraded().map(str::to_owned)))
    }

    /// Steps of the wall clock since the last call: receive time, wall clock, whether receive times
    /// are suspect from there on, and by how much they were moved.
    fn take_clock_steps(&self, py: Python<'_>) -> PyResult<Vec<(i64, i64, bool, i64)>> {
        self.with(py, |inner| {
            let steps = inner.take_clock_steps().into_iter();
            Ok(steps.map(|step| (step.ts, step.wall, step.suspect, step.moved)).collect())
        })
    }

    /// Notes that the clock of a capture stepped: at the receive time `ts` it said `wall`. Receive
    /// times are suspect from there on, or are not any more.
    fn clock_step(&self, py: Python<'_>, ts: i64, wall: i64, suspect: bool) -> PyResult<()> {
        self.with(py, |inner| inner.clock_step(ClockStep { ts, wall, suspect, moved: 0 }))
    }

    /// Says whether the receive times of what is received from here on are suspect.
    fn doubt(&self, py: Python<'_>, suspect: bool) -> PyResult<()> {
        self.with(py, |inner| {
            inner.doubt(suspect);
            Ok(())
        })
    }

    /// Whether it is known which streams spoke; if not, silence says nothing.
    fn is_hearing(&self, py: Python<'_>) -> PyResult<bool> {
        self.with(py, |inner| Ok(inner.is_hearing()))
    }

    /// Counts a frame of a stream that the session found by reading the frame.
    fn heard(&self, py: Python<'_>, connection: u16, stream: &str, ts: i64) -> PyResult<()> {
        self.with(py, |inner| inner.heard(connection, stream, ts))
    }

    /// Publishes all that was taken in; gives the number of records published.
    fn flush(&self, py: Python<'_>) -> PyResult<u64> {
        self.with_released(py, ingest::Ingest::flush)
    }

    /// Notes on the raw tape that a connection opened; those of one group carry the same streams.
    fn connected(&self, py: Python<'_>, connection: u16, group: u16, ts: i64) -> PyResult<()> {
        self.with(py, |inner| inner.connected(connection, group, ts))
    }

    /// Notes that this recorder notes what it subscribes: what it does not note, it did not.
    #[pyo3(signature = (ts, late = Vec::new()))]
    fn begin_subscriptions(&self, py: Python<'_>, ts: i64, late: Seconds) -> PyResult<()> {
        self.with(py, |inner| inner.begin_subscriptions(ts, &late))
    }

    /// Notes that the venue answered for all streams of a connection, and which of them it refused.
    fn subscribed(
        &self,
        py: Python<'_>,
        connection: u16,
        refused: Vec<String>,
        ts: i64,
    ) -> PyResult<()> {
        self.with(py, |inner| inner.subscribed(connection, &refused, ts))
    }

    /// Notes that a connection ended, and forgets its streams.
    #[pyo3(signature = (connection, ts, stops = false))]
    fn disconnected(&self, py: Python<'_>, connection: u16, ts: i64, stops: bool) -> PyResult<()> {
        self.with(py, |inner| inner.disconnected(connection, ts, stops))
    }

    /// Notes that time passed.
    fn heartbeat(&self, py: Python<'_>, ts: i64) -> PyResult<()> {
        self.with(py, |inner| inner.heartbeat(ts))
    }

    /// Notes that the recorder stops in good order.
    fn end_session(&self, py: Python<'_>, ts: i64) -> PyResult<()> {
        self.with(py, |inner| inner.end_session(ts))
    }

    /// Notes that a connection carried nothing at all since `ts_start`.
    fn silent_connection(
        &self,
        py: Python<'_>,
        connection: u16,
        ts_start: i64,
        ts: i64,
    ) -> PyResult<()> {
        self.with(py, |inner| inner.silent_connection(connection, ts_start, ts))
    }

    /// Notes that a stream should have spoken by now; the gap ends when it does. It begins with the
    /// stream's last message on the connection; at `since` if there was none, or with `is_exact`.
    #[pyo3(signature = (connection, stream, ts, since, *, is_exact = false))]
    fn silent_stream(
        &self,
        py: Python<'_>,
        connection: u16,
        stream: &str,
        ts: i64,
        since: i64,
        is_exact: bool,
    ) -> PyResult<()> {
        self.with(py, |inner| inner.silent_stream(connection, stream, ts, since, is_exact))
    }

    /// Notes that items of the tape `topic` are lost: `cause` is a gap's, retention or damage.
    #[pyo3(signature = (items, received, ts, cause = "retention", topic = ""))]
    fn lost(
        &self,
        py: Python<'_>,
        items: (u64, u64),
        received: (i64, i64),
        ts: i64,
        cause: &str,
        topic: &str,
    ) -> PyResult<()> {
        let cause = match cause {
            "retention" => GapCause::Retention,
            "damage" => GapCause::Damage,
            other => {
                let reason = format!("expected the cause retention or damage, got {other:?}");
                return Err(PyValueError::new_err(reason));
            }
        };
        self.with(py, |inner| inner.lost(cause, topic, items, received, ts))
    }

    /// The gaps of trades and quotes that ended since the last call: symbol, channel, cause, first
    /// and last missing number, time of the event before it, time and number of that behind it.
    fn take_gaps(&self, py: Python<'_>) -> PyResult<Vec<GapLine>> {
        self.with(py, |inner| {
            let gaps = inner.take_gaps().into_iter();
            Ok(gaps
                .map(|gap| {
                    let (channel, cause) = (gap.channel.name(), gap.cause.name());
                    let ((first, last), (start, end)) = (gap.ids, gap.times);
                    (gap.symbol, channel, cause, first, last, start, end, gap.behind)
                })
                .collect())
        })
    }

    /// Notes that a gap was filled from the venue's history; says whether it was, and was noted.
    #[allow(clippy::too_many_arguments)]
    fn repaired(
        &self,
        py: Python<'_>,
        symbol: &str,
        channel: &str,
        cause: &str,
        ids: (u64, u64),
        times: (i64, i64),
        ts: i64,
    ) -> PyResult<bool> {
        let channel = channel_named(channel)?;
        let cause = GapCause::from_name(cause).ok_or_else(|| {
            PyValueError::new_err(format!("expected the cause of a gap, got {cause:?}"))
        })?;
        self.with(py, |inner| inner.repaired((symbol, channel), cause, ids, times, ts))
    }

    /// Notes what the host measured for `rule`, or that somebody has seen the alert `id`; says
    /// whether it was taken.
    #[pyo3(signature = (rule, state, ts, *, id = 0, ts_start = None, value = f64::NAN,
                        threshold = f64::NAN, count = 0, subject = "", detail = ""))]
    #[allow(clippy::too_many_arguments)]
    fn note_alert(
        &self,
        py: Python<'_>,
        rule: &str,
        state: &str,
        ts: i64,
        id: u64,
        ts_start: Option<i64>,
        value: f64,
        threshold: f64,
        count: u64,
        subject: &str,
        detail: &str,
    ) -> PyResult<bool> {
        let Some(state) = AlertState::from_name(state) else {
            let reason = format!("expected the state of an alert, got {state:?}");
            return Err(PyValueError::new_err(reason));
        };
        let note = Alert {
            id,
            ts_start: ts_start.unwrap_or(ts),
            value: value.to_bits(),
            threshold: threshold.to_bits(),
            count,
            rule: padded_or_cut(rule),
            subject: padded_or_cut(subject),
            detail: padded_or_cut(detail),
            state: state as u8,
            ..Alert::EMPTY
        };
        self.with(py, |inner| inner.note_alert(&note, ts))
    }

    /// Starts to count a stream of a connection.
    fn watch(
        &self,
        py: Python<'_>,
        connection: u16,
        stream: &str,
        symbol: &str,
        channel: &str,
    ) -> PyResult<()> {
        let channel = channel_named(channel)?;
        self.with(py, |inner| {
            inner.watch(connection, stream, symbol, channel);
            Ok(())
        })
    }

    /// Name, frames, first and last receive time of each stream of a connection.
    fn activity(&self, py: Python<'_>, connection: u16) -> PyResult<Vec<(String, u64, i64, i64)>> {
        self.with(py, |inner| {
            let streams = inner.activity().streams(connection);
            Ok(streams.iter().map(|s| (s.name.clone(), s.frames, s.ts_first, s.ts_last)).collect())
        })
    }

    /// The symbols whose books cannot go on without a snapshot.
    fn needs_snapshot(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with(py, |inner| Ok(inner.needs_snapshot().into_iter().map(str::to_owned).collect()))
    }

    /// How far the book of a symbol is verified, by the name of its state.
    fn book_state(&self, py: Python<'_>, symbol: &str) -> PyResult<&'static str> {
        self.with(py, |inner| Ok(inner.book_state(symbol).name()))
    }

    /// Whether the book of a symbol was verified at any time since the start, however short.
    fn was_verified(&self, py: Python<'_>, symbol: &str) -> PyResult<bool> {
        self.with(py, |inner| Ok(inner.was_verified(symbol)))
    }

    /// Count, p50, p99 and maximum in ns of all and of those since the last call: from the receipt
    /// to the raw tape, and to the normalized one.
    fn take_times(&self, py: Python<'_>) -> PyResult<[(Quantiles, Quantiles); 2]> {
        self.with(py, |inner| Ok(inner.take_times()))
    }

    /// What was counted since the start, and how far the tapes are.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        // Making objects of Python may run code of Python: not before the turn is over.
        let (numbers, failure, upkeep) = self.with(py, |inner| {
            let counts = inner.counts();
            let mut numbers = vec![
                ("frames", counts.frames),
                ("bytes", counts.bytes),
                ("records", counts.records),
                ("shed", inner.shed()),
                ("dead_letters", counts.dead_letters),
                ("gaps", counts.gaps),
                ("write_failures", counts.write_failures),
                ("pending_bytes", inner.pending_bytes() as u64),
                ("raw_end", inner.raw().end()),
                ("raw_durable", inner.raw().durable()),
            ];
            let stage = inner.normalizer();
            let counters = stage.map(Stage::counters).unwrap_or_default();
            numbers.extend(NORMALIZER_COUNTS.map(|name| {
                let counter = counters.iter().find(|counter| counter.0 == name);
                (name, counter.map_or(0, |counter| counter.1))
            }));
            let normalized = || stage.and_then(|stage| stage.output().upkeep_failure());
            let upkeep = inner.raw().upkeep_failure().or_else(normalized);
            Ok((numbers, inner.failure().map(str::to_owned), upkeep))
        })?;
        let stats = PyDict::new(py);
        for (name, value) in numbers {
            stats.set_item(name, value)?;
        }
        stats.set_item("failure", failure)?;
        stats.set_item("upkeep_failure", upkeep)?;
        Ok(stats)
    }

    /// What opening the tapes found that somebody should know.
    fn notes(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with(py, |inner| {
            Ok(inner.normalizer().map(|stage| stage.notes().to_vec()).unwrap_or_default())
        })
    }

    /// From socket read to publication: the ns that the part `quantile` of all frames met.
    fn latency(&self, py: Python<'_>, quantile: f64) -> PyResult<u64> {
        self.with(py, |inner| Ok(inner.latency().quantile(quantile)))
    }

    /// Makes all that is published durable, and saves the normaliser's state.
    fn sync(&self, py: Python<'_>) -> PyResult<()> {
        self.with_released(py, ingest::Ingest::sync)
    }

    /// Makes all durable and gives the tapes up. Closing twice does nothing.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let inner = self.inner.take(py)?.take();
        match inner {
            Some(mut inner) => released(py, move || inner.sync()).map_err(to_python),
            None => Ok(()),
        }
    }
}

/// The feed called `name`, and what decodes it: `decoder`, where that is given.
pub fn feed_of(
    name: &str,
    decoder: Option<&Bound<'_, PyAny>>,
) -> PyResult<(Descriptor, Box<dyn Feed>)> {
    let Some(decoder) = decoder else {
        let feed = Descriptor::named(name).map_err(to_python)?;
        return Ok((feed, feed.build()));
    };
    let by_events = decoder.getattr_opt("counts_events")?;
    let by_events = by_events.map_or(Ok(false), |told| told.is_truthy())?;
    let feed = if by_events { FOREIGN_BY_EVENTS } else { FOREIGN };
    Ok((feed, Box::new(PythonFeed::new(decoder, feed.number())?)))
}

/// What the status takes over from the normaliser, whose counts go on over restarts.
const NORMALIZER_COUNTS: [&str; 6] =
    ["duplicates", "late", "repaired", "stale", "quarantined", "conflicts"];

fn blob_kind(number: u8) -> PyResult<BlobKind> {
    BlobKind::try_from(number).map_err(|_| {
        let last = BlobKind::NAMES.len() - 1;
        PyValueError::new_err(format!("expected a blob kind of 1 to {last}, got {number}"))
    })
}

/// The channel of that name; `none` is the channel of what belongs to none.
pub fn channel_named(name: &str) -> PyResult<Channel> {
    let named = if name == "none" { Some(Channel::None) } else { Channel::from_name(name) };
    named.ok_or_else(|| {
        let names = Channel::NAMES[1..].join(", ");
        PyValueError::new_err(format!("expected a channel of none, {names}, got {name:?}"))
    })
}

/// Adds this file's classes and functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Ingest>()?;
    Ok(())
}
