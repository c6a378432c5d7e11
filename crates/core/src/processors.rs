//! Records in, records out.
//!
//! A processor sees no clock, no randomness and no environment: time is in the records. The same
//! input gives the same output bytes at any batch size, so that live equals replay. To be in
//! [`PROCESSORS`] is to be under the suite of `tests/processors.rs`.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::instrument::Instruments;
use crate::record::{records, Blobs, Definition, Header, Marker, Plain, Records, NONE};
use crate::tape::TapeKind;

pub mod alerts;
pub mod arbitration;
pub mod bars;
pub mod book_history;
pub mod books;
pub mod dead_letters;
pub mod gaps;
pub mod metrics;
pub mod news;
pub mod normalize;
pub mod raw_frames;
pub mod stage;
pub mod state;
pub mod state_files;
pub mod sync_tracker;
pub mod ticks;

pub use crate::tape::Batch;
pub use stage::{Loss, Stage, StageConfig};

/// One step of the pipeline.
pub trait Processor: Send {
    /// Its name in the table, in file names and in messages.
    fn name(&self) -> &'static str;

    /// Consumes `batch` and appends what follows from it to `out`. What is appended for an item
    /// depends on the items before it alone, never on where batches begin or end.
    ///
    /// # Errors
    /// Only what no later item can mend: the stage stops and says where.
    fn process(&mut self, batch: Batch<'_>, out: &mut Records) -> Result<()>;

    /// What it reads.
    fn input_kind(&self) -> TapeKind {
        TapeKind::Records
    }

    /// What it writes.
    fn output_kind(&self) -> TapeKind {
        TapeKind::Records
    }

    /// As [`Processor::process`], for one that writes blobs.
    ///
    /// # Errors
    /// As there; and `Error::Invalid` from a processor that gives records.
    fn process_to_blobs(&mut self, _batch: Batch<'_>, _out: &mut Blobs) -> Result<()> {
        Err(Error::invalid(format!("{} gives records, not blobs", self.name())))
    }

    /// Told that input items `gap.first` to `gap.last` are gone for good, as retention passed the
    /// reader. The stage itself writes `gap` to the output; here the state is made safe.
    ///
    /// # Errors
    /// As [`Processor::process`].
    fn lost(&mut self, _gap: &Marker, _out: &mut Records) -> Result<()> {
        Ok(())
    }

    /// Told what its output holds, batch by batch, where that does not follow from its state: the
    /// settings of before may have written what these would not.
    fn take_output(&mut self, _written: Batch<'_>) {}

    /// Whether [`Processor::take_output`] is of use to it.
    fn reads_output(&self) -> bool {
        false
    }

    /// Behind the last [`Processor::take_output`]: appends what makes the output follow from the
    /// state.
    fn reconcile(&mut self, _out: &mut Records) {}

    /// Whether it looks at definitions: at symbols, at the smallest step of a price.
    fn reads_definitions(&self) -> bool {
        false
    }

    /// The instruments that it knows, if it keeps any.
    fn instruments(&self) -> Option<&Instruments> {
        None
    }

    /// Whether it would pass on `marker`, which a session is about to note: what it says of the
    /// items before it is true.
    fn is_true(&self, _marker: &Marker) -> bool {
        true
    }

    /// The receive times at which something may follow although nothing comes of an instrument:
    /// `k * interval + phase` for each pair, in ns, and no others.
    fn due_grids(&self) -> Vec<(i64, i64)> {
        Vec::new()
    }

    /// Counters for status screens: names and values, always the same names in the same order.
    fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// Appends the whole state to `out`, versioned, such that [`Processor::restore`] on a fresh
    /// processor of the same settings continues exactly.
    fn snapshot(&self, out: &mut Vec<u8>);

    /// Takes in what [`Processor::snapshot`] wrote. On an error nothing has changed.
    ///
    /// # Errors
    /// `Error::Invalid`: the state is not whole, or of another version or processor.
    fn restore(&mut self, state: &[u8]) -> Result<()>;
}

/// Shows `processor` definitions that its input, from `offset` on, does not hold any more. They
/// make no output, and tell nothing of the time.
///
/// # Errors
/// As [`Processor::process`].
pub fn define(processor: &mut dyn Processor, definitions: &[u8], offset: u64) -> Result<()> {
    let mut timeless = Records::new();
    for record in records::iterate(definitions) {
        if let Some(definition) = Definition::read_from(record.bytes()) {
            let header = Header { ts_recv: NONE, ..definition.header };
            timeless.push(&Definition { header, ..definition });
        }
    }
    let bytes = timeless.as_bytes();
    let batch = Batch { first_offset: offset, count: timeless.len(), bytes };
    processor.process(batch, &mut Records::new())
}

/// The setting that says where the raw tape lies.
pub(crate) const RAW_TAPE: &str = "raw";

/// The value of one setting of a processor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// A whole number.
    Number(i64),
    /// Several whole numbers.
    Numbers(Vec<i64>),
    /// A text: a name, a path.
    Text(String),
}

/// The settings of one processor, by name. A builder takes out what it knows; what is left over
/// is an error.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<String, Setting>,
    known: Vec<&'static str>,
}

impl Settings {
    /// No settings: all defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same settings with `name` set to `value`.
    #[must_use]
    pub fn with(mut self, name: &str, value: Setting) -> Self {
        self.values.insert(name.to_owned(), value);
        self
    }

    /// A number that two runs share only if their settings are equal. Where the tapes lie is none:
    /// a data folder may be moved, and named by another path.
    pub fn fingerprint(&self) -> u32 {
        let mut values = self.values.clone();
        values.remove(RAW_TAPE);
        crc32c::crc32c(format!("{values:?}").as_bytes())
    }

    /// Takes out a number from `least` on, or the default.
    ///
    /// # Errors
    /// `Error::Invalid`: it is of another type, or too small.
    pub fn number(&mut self, name: &'static str, default: i64, least: i64) -> Result<i64> {
        self.known.push(name);
        match self.values.remove(name) {
            None => Ok(default),
            Some(Setting::Number(value)) if value >= least => Ok(value),
            Some(other) => Err(wrong(name, &format!("a number from {least} on"), &other)),
        }
    }

    /// Takes out a list of positive numbers, each once, or the default.
    ///
    /// # Errors
    /// `Error::Invalid`: it is of another type, empty, or holds a number below 1.
    pub fn numbers(&mut self, name: &'static str, default: &[i64]) -> Result<Vec<i64>> {
        self.known.push(name);
        let found = match self.values.remove(name) {
            None => Ok(default.to_vec()),
            Some(Setting::Number(value)) if value > 0 => Ok(vec![value]),
            Some(Setting::Numbers(values))
                if !values.is_empty() && values.iter().all(|&value| value > 0) =>
            {
                Ok(values)
            }
            Some(other) => Err(wrong(name, "a list of positive numbers", &other)),
        };
        let mut each = Vec::new();
        for number in found? {
            if !each.contains(&number) {
                each.push(number);
            }
        }
        Ok(each)
    }

    /// Takes out a text, or the default; without a default it must be given.
    ///
    /// # Errors
    /// `Error::Invalid`: it is of another type, or missing without a default.
    pub fn text(&mut self, name: &'static str, default: Option<&str>) -> Result<String> {
        self.known.push(name);
        match (self.values.remove(name), default) {
            (Some(Setting::Text(value)), _) => Ok(value),
            (None, Some(default)) => Ok(default.to_owned()),
            (None, None) => Err(Error::invalid(format!("the setting {name} is needed: a text"))),
            (Some(other), _) => Err(wrong(name, "a text", &other)),
        }
    }

    /// Says that all settings were taken.
    ///
    /// # Errors
    /// `Error::Invalid`: some setting is not known; the message lists those that are.
    pub fn finish(&self) -> Result<()> {
        match self.values.keys().next() {
            None => Ok(()),
            Some(name) => Err(Error::invalid(format!(
                "the setting {name} is not known; expected any of: {}",
                self.known.join(", ")
            ))),
        }
    }
}

fn wrong(name: &str, wanted: &str, found: &Setting) -> Error {
    Error::invalid(format!("the setting {name}: expected {wanted}, got {found:?}"))
}

/// A line of the table of processors.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Its name in configs, file names and messages.
    pub name: &'static str,
    /// The topic that it reads.
    pub input: &'static str,
    /// The topic that it writes.
    pub output: &'static str,
    build: fn(&mut Settings) -> Result<Box<dyn Processor>>,
}

impl Entry {
    /// A fresh processor with `settings`.
    ///
    /// # Errors
    /// `Error::Invalid`: a setting is wrong, missing or not known.
    pub fn build(&self, settings: &Settings) -> Result<Box<dyn Processor>> {
        let mut left = settings.clone();
        let processor = (self.build)(&mut left)?;
        left.finish()?;
        Ok(processor)
    }
}

/// All processors.
pub const PROCESSORS: &[Entry] = &[
    Entry {
        name: "normalize",
        input: "market-data.raw",
        output: "market-data.normalized",
        build: normalize::build,
    },
    Entry {
        name: "books",
        input: "market-data.normalized",
        output: "market-data.book",
        build: books::build,
    },
    Entry {
        name: "bars",
        input: "market-data.normalized",
        output: "market-data.bars",
        build: bars::build,
    },
    Entry {
        name: "ticks",
        input: "market-data.normalized",
        output: "market-data.ticks",
        build: ticks::build,
    },
    Entry {
        name: "metrics",
        input: "market-data.normalized",
        output: "market-data.metrics",
        build: metrics::build,
    },
    Entry {
        name: "alerts",
        input: "market-data.normalized",
        output: "market-data.alerts",
        build: alerts::build,
    },
    Entry {
        name: "gaps",
        input: "market-data.normalized",
        output: "market-data.gaps",
        build: gaps::build,
    },
    Entry {
        name: "dead_letters",
        input: "market-data.normalized",
        output: "market-data.dead",
        build: dead_letters::build,
    },
    Entry {
        name: "news",
        input: "market-data.normalized",
        output: "market-data.news",
        build: news::build,
    },
];

/// The processor of that name.
///
/// # Errors
/// `Error::Invalid`: no such processor; the message lists all.
pub fn find(name: &str) -> Result<&'static Entry> {
    PROCESSORS.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let names: Vec<_> = PROCESSORS.iter().map(|entry| entry.name).collect();
        Error::invalid(format!("expected a processor of {}, got {name:?}", names.join(", ")))
    })
}
