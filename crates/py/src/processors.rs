//! Bindings of the core's `processors`.

use std::path::PathBuf;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use tapeworks_core::latency::Quantiles;
use tapeworks_core::processors::normalize::{Normalizer, HOLD_MS};
use tapeworks_core::processors::state_files::StateFiles;
use tapeworks_core::processors::{
    self, alerts, metrics, Setting, Settings, StageConfig, PROCESSORS,
};
use tapeworks_core::tape::{Retention, TapeKind};
use tapeworks_core::{Durability, Error};

use crate::errors::to_python;
use crate::ingest::feed_of;
use crate::record::Records;
use crate::released::released;
use crate::turns::Turns;

/// Set, name, window, formula, unit, null.
type MetricLine =
    (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str);

/// Name, what it looks for, its evidence, whether it looks at the source as a whole by default.
type DetectorHead = (&'static str, &'static str, &'static str, bool, &'static str);
/// Name, default, least, most, what it does.
type DetectorNumber = (&'static str, f64, f64, f64, &'static str);
/// Name, default, what it does.
type DetectorText = (&'static str, &'static str, &'static str);

/// Of all, and since the last call.
type Durations = (Quantiles, Quantiles);

/// First and last item, newest receive time before and after, cause.
type LostInput = (u64, u64, i64, i64, &'static str);

/// One processor between two tapes, exactly once. Calls from several threads take turns.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct Stage {
    inner: Turns<Option<processors::Stage>>,
    name: &'static str,
}

impl Stage {
    /// Does `work` on the stage, with the GIL released.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut processors::Stage) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        let mut turn = self.inner.take(py)?;
        let inner = &mut *turn;
        let done = released(py, || {
            let stage = inner.as_mut().ok_or_else(|| Error::invalid("the stage is closed"))?;
            work(stage)
        });
        drop(turn);
        done.map_err(to_python)
    }
}

fn settings_from(given: Option<&Bound<'_, PyDict>>) -> PyResult<Settings> {
    let mut settings = Settings::new();
    for (name, value) in given.into_iter().flat_map(|given| given.iter()) {
        let name: String = name.extract()?;
        let value = if let Ok(number) = value.extract::<i64>() {
            Setting::Number(number)
        } else if let Ok(text) = value.extract::<String>() {
            Setting::Text(text)
        } else if let Ok(numbers) = value.extract::<Vec<i64>>() {
            Setting::Numbers(numbers)
        } else {
            return Err(PyValueError::new_err(format!(
                "the setting {name}: expected a whole number, several, or a text, got {value}"
            )));
        };
        settings = settings.with(&name, value);
    }
    Ok(settings)
}

#[pymethods]
impl Stage {
    /// Opens the stage of the processor called `processor`, and brings it to where its output
    /// ends.
    #[new]
    #[pyo3(signature = (processor, source, target, state, settings = None, *,
        durability_ms = 50, segment_bytes = 268_435_456, save_items = 2_000_000,
        save_bytes = 268_435_456, retention_bytes = None, retention_ms = None,
        compress_after = None, wait_ms_max = None, reader = None, origin = None,
        decoder = None, definitions = None))]
    #[allow(clippy::too_many_arguments)]
    fn new(
        py: Python<'_>,
        processor: &str,
        source: PathBuf,
        target: PathBuf,
        state: PathBuf,
        settings: Option<&Bound<'_, PyDict>>,
        durability_ms: i64,
        segment_bytes: usize,
        save_items: u64,
        save_bytes: u64,
        retention_bytes: Option<u64>,
        retention_ms: Option<u64>,
        compress_after: Option<usize>,
        wait_ms_max: Option<u64>,
        reader: Option<String>,
        origin: Option<PathBuf>,
        decoder: Option<&Bound<'_, PyAny>>,
        definitions: Option<&Records>,
    ) -> PyResult<Self> {
        // 0 is at once, -1 never.
        let durability = match u32::try_from(durability_ms) {
            Ok(0) => Durability::EveryFrame,
            Ok(ms) => Durability::IntervalMs(ms),
            Err(_) => Durability::Never,
        };
        let settings = settings_from(settings)?;
        let fingerprint = settings.fingerprint();
        let retention = Retention {
            bytes_max: retention_bytes,
            age_ms_max: retention_ms,
            wait_ms_max,
            compress_after,
        };
        let config = StageConfig {
            durability,
            segment_bytes,
            retention,
            reader,
            origin,
            save_items,
            save_bytes,
            fingerprint,
            definitions: definitions.map_or_else(Vec::new, |one| one.get().as_bytes().to_vec()),
        };
        let given = decoder.map(|decoder| feed_of("", Some(decoder))).transpose()?;
        let opened = released(py, || {
            let entry = processors::find(processor)?;
            let built = match given {
                Some((id, decoder)) => Box::new(Normalizer::with_decoder(id, decoder, HOLD_MS)),
                None => entry.build(&settings)?,
            };
            let stage = processors::Stage::open(&source, &target, &state, built, config)?;
            Ok::<_, Error>((stage, entry.name))
        });
        let (stage, name) = opened.map_err(to_python)?;
        Ok(Self { inner: Turns::new(Some(stage)), name })
    }

    /// Processes at most `max_items` items and publishes what follows from them. Returns how many
    /// were processed: 0 when all was read.
    #[pyo3(signature = (max_items = 4096))]
    fn step(&self, py: Python<'_>, max_items: usize) -> PyResult<usize> {
        self.with(py, |stage| stage.step(max_items))
    }

    /// Steps until all published input was read. Returns how many items were processed.
    #[pyo3(signature = (max_items = 4096))]
    fn run_until_idle(&self, py: Python<'_>, max_items: usize) -> PyResult<u64> {
        self.with(py, |stage| stage.run_until_idle(max_items))
    }

    /// Waits until there is input, at most so long. Says whether there is.
    fn wait(&self, py: Python<'_>, timeout_ms: u64) -> PyResult<bool> {
        self.with(py, |stage| Ok(stage.wait(Duration::from_millis(timeout_ms))))
    }

    /// Publishes up to where the input was read, where the output does not say so.
    fn cover(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, processors::Stage::cover)
    }

    /// Saves the processor's state.
    fn save(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, processors::Stage::save)
    }

    /// Closes both tapes. What is not saved is made again by the next opening.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let stage = self.inner.take(py)?.take();
        released(py, || drop(stage));
        Ok(())
    }

    /// The processor's name.
    #[getter]
    const fn name(&self) -> &'static str {
        self.name
    }

    /// How many published input items are still to be read.
    #[getter]
    fn lag(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, processors::Stage::lag)
    }

    /// The next input item to be read.
    #[getter]
    fn covered(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |stage| Ok(stage.covered()))
    }

    /// The output's end.
    #[getter]
    fn end(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |stage| Ok(stage.output().end()))
    }

    /// What opening found that somebody should know.
    #[getter]
    fn notes(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with(py, |stage| Ok(stage.notes().to_vec()))
    }

    /// The notes since the last call, to be logged: of the opening, and of the run since.
    fn take_notes(&self, py: Python<'_>) -> PyResult<Vec<String>> {
        self.with(py, |stage| Ok(stage.take_notes()))
    }

    /// Whether `take_notes` or `take_losses` has anything to return.
    #[getter]
    fn has_reports(&self, py: Python<'_>) -> PyResult<bool> {
        let turn = self.inner.take(py)?;
        Ok(turn.as_ref().is_some_and(processors::Stage::has_reports))
    }

    /// Input that was gone before this stage had read it, since the last call: first and last
    /// item, newest receive time before and after, and why.
    fn take_losses(&self, py: Python<'_>) -> PyResult<Vec<LostInput>> {
        let losses = self.with(py, |stage| Ok(stage.take_losses()))?;
        let told = losses
            .iter()
            .map(|loss| (loss.first, loss.last, loss.ts_start, loss.ts_end, loss.cause.name()));
        Ok(told.collect())
    }

    /// Begins to measure how long records take to the output; with `has_receipt` from the venue's
    /// time to the receipt, too.
    #[pyo3(signature = (has_receipt = false))]
    fn measure(&self, py: Python<'_>, has_receipt: bool) -> PyResult<()> {
        self.with(py, |stage| {
            stage.measure(has_receipt);
            Ok(())
        })
    }

    /// Count, p50, p99 and maximum in ns of all and of those since the last call: to the output,
    /// and to the receipt where that is measured; none unless asked for.
    fn take_times(&self, py: Python<'_>) -> PyResult<Option<(Durations, Option<Durations>)>> {
        let times = self.with(py, |stage| Ok(stage.take_times()))?;
        Ok(times.map(|times| (times.output, times.receipt)))
    }

    /// What went wrong with closed segments of the output when they were last looked at.
    #[getter]
    fn upkeep_failure(&self, py: Python<'_>) -> PyResult<Option<String>> {
        self.with(py, |stage| Ok(stage.output().upkeep_failure()))
    }

    /// The processor's counters.
    fn counters<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counters = PyDict::new(py);
        for (name, value) in self.with(py, |stage| Ok(stage.counters()))? {
            counters.set_item(name, value)?;
        }
        Ok(counters)
    }
}

/// The table of processors: names and the topics that they read and write.
#[pyfunction]
fn processor_table() -> Vec<(&'static str, &'static str, &'static str)> {
    PROCESSORS.iter().map(|entry| (entry.name, entry.input, entry.output)).collect()
}

/// One processor over records in memory. Calls from several threads take turns.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct Processor {
    inner: Turns<InMemory>,
}

/// A processor, and how many items it was given.
struct InMemory {
    processor: Box<dyn processors::Processor>,
    position: u64,
}

#[pymethods]
impl Processor {
    /// A fresh processor of that name, of those that read records and write records.
    #[new]
    #[pyo3(signature = (name, settings = None))]
    fn new(name: &str, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let settings = settings_from(settings)?;
        let inner = processors::find(name).and_then(|entry| entry.build(&settings));
        let inner = inner.map_err(to_python)?;
        if [inner.input_kind(), inner.output_kind()] != [TapeKind::Records; 2] {
            return Err(PyValueError::new_err(format!(
                "expected a processor that reads and writes records, got {name}"
            )));
        }
        Ok(Self { inner: Turns::new(InMemory { processor: inner, position: 0 }) })
    }

    /// Returns what follows from `records`, which come behind those of the last call.
    fn process(&self, py: Python<'_>, records: &Records) -> PyResult<Records> {
        let mut turn = self.inner.take(py)?;
        let inner = &mut *turn;
        let mut out = tapeworks_core::Records::new();
        let (bytes, count) = (records.get().as_bytes(), records.get().len());
        // Those of a tape say where they stand; after a restart that is not the beginning.
        inner.position = inner.position.max(records.first_offset);
        let done = released(py, || {
            let batch = processors::Batch { first_offset: inner.position, count, bytes };
            inner.processor.process(batch, &mut out)
        });
        inner.position += count as u64;
        drop(turn);
        done.map_err(to_python)?;
        Ok(Records::wrap(out, 0, 0))
    }

    /// Takes in definitions that stood before its input, and are gone from it.
    fn define(&self, py: Python<'_>, definitions: &Records) -> PyResult<()> {
        let mut inner = self.inner.take(py)?;
        let (at, bytes) = (inner.position, definitions.get().as_bytes());
        processors::define(inner.processor.as_mut(), bytes, at).map_err(to_python)
    }

    /// Returns what follows from the loss of the input items of `gap`, a marker.
    fn lost(&self, py: Python<'_>, gap: &Records) -> PyResult<Records> {
        let marker = gap.get().iter().find_map(|record| record.as_marker());
        let marker = marker.ok_or_else(|| PyValueError::new_err("expected a marker, got none"))?;
        let mut out = tapeworks_core::Records::new();
        self.inner.take(py)?.processor.lost(&marker, &mut out).map_err(to_python)?;
        Ok(Records::wrap(out, 0, 0))
    }

    /// Takes in records of the output, where that does not follow from the state.
    fn take_output(&self, py: Python<'_>, written: &Records) -> PyResult<()> {
        let (bytes, count) = (written.get().as_bytes(), written.get().len());
        let batch = processors::Batch { first_offset: written.first_offset, count, bytes };
        self.inner.take(py)?.processor.take_output(batch);
        Ok(())
    }

    /// Returns what makes the output that was taken in follow from the state.
    fn reconcile(&self, py: Python<'_>) -> PyResult<Records> {
        let mut out = tapeworks_core::Records::new();
        self.inner.take(py)?.processor.reconcile(&mut out);
        Ok(Records::wrap(out, 0, 0))
    }

    /// Returns the whole state.
    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let mut state = Vec::new();
        self.inner.take(py)?.processor.snapshot(&mut state);
        Ok(PyBytes::new(py, &state))
    }

    /// Takes in what `snapshot` of a processor of the same settings returned.
    fn restore(&self, py: Python<'_>, state: &[u8]) -> PyResult<()> {
        self.inner.take(py)?.processor.restore(state).map_err(to_python)
    }

    /// The processor's counters.
    fn counters(&self, py: Python<'_>) -> PyResult<Vec<(&'static str, u64)>> {
        Ok(self.inner.take(py)?.processor.counters())
    }
}

/// The sets of metrics and what each is, in the order of the table.
#[pyfunction]
fn metric_sets() -> Vec<(&'static str, &'static str)> {
    metrics::sets().collect()
}

/// The table of metrics: set, name without parameters, what its window is, formula, unit, null.
#[pyfunction]
fn metric_table() -> Vec<MetricLine> {
    metrics::lines()
        .map(|(set, line)| (set, line.name, line.window(), line.formula, line.unit, line.null))
        .collect()
}

/// The table of what rules of alerts look for, and the parameters of each.
#[pyfunction]
fn detector_table() -> Vec<(DetectorHead, Vec<DetectorNumber>, Vec<DetectorText>)> {
    alerts::detectors()
        .map(|entry| {
            let number =
                |one: &alerts::Number| (one.name, one.default, one.least, one.most, one.doc);
            let text = |one: &alerts::Text| (one.name, one.default, one.doc);
            (
                (entry.name, entry.doc, entry.evidence, entry.is_of_source, entry.unit),
                entry.numbers.iter().map(number).collect(),
                entry.texts.iter().map(text).collect(),
            )
        })
        .collect()
}

/// Reads the saved state at `path`: the input offset that it covers, and the output's end then.
#[pyfunction]
fn verify_state(py: Python<'_>, path: PathBuf) -> PyResult<(u64, u64)> {
    let saved = released(py, || StateFiles::load(&path)).map_err(to_python)?;
    Ok((saved.input.offset, saved.output.offset))
}

/// Adds this file's classes and functions to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<Stage>()?;
    module.add_class::<Processor>()?;
    module.add_function(wrap_pyfunction!(processor_table, module)?)?;
    module.add_function(wrap_pyfunction!(metric_sets, module)?)?;
    module.add_function(wrap_pyfunction!(metric_table, module)?)?;
    module.add_function(wrap_pyfunction!(detector_table, module)?)?;
    module.add_function(wrap_pyfunction!(verify_state, module)?)?;
    Ok(())
}
