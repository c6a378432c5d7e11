//! Processors by instrument: the same output for each instrument as one processor of all, in parts
//! that may run apart.
//!
//! A [`Router`] reads the records of one source in the order of its tape and deals them to shards,
//! by instrument. [`Instances`] hold a set of processors for each instrument of the shards that
//! they are given. What concerns all instruments goes to all shards: also that a venue numbers its
//! orders anew, which an order of any instrument shows. So does the time: whenever the receive
//! times of the tape pass one at which a processor may have something due, and wherever an
//! instrument would otherwise see another time than on the tape. So where an instrument is
//! processed, and in batches of what size, changes nothing of its output.
//!
//! One thing is left to tapes: the checkpoint of a quiet book that is written because a million
//! records of other instruments followed the last one. It serves to find a book on a tape.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::processors::{self, Entry, Processor, Settings};
use crate::tape::TapeKind;

mod frame;
mod instance;
mod instances;
mod queues;
mod router;

pub use instances::{Form, Instances, Output, Outputs};
pub use router::Router;

/// The number of every instrument within the processors of its own.
const OWN: u32 = 1;

/// Which processors run, with which settings.
#[derive(Debug, Clone)]
pub struct Plan {
    steps: Arc<[(&'static Entry, Settings)]>,
}

impl Plan {
    /// A plan of these processors, by name.
    ///
    /// # Errors
    /// `Error::Invalid`: there is none, one is named twice or not known, reads or writes anything
    /// but records, or refuses its settings.
    pub fn new(named: &[(String, Settings)]) -> Result<Self> {
        let mut steps: Vec<(&'static Entry, Settings)> = Vec::new();
        for (name, settings) in named {
            let entry = processors::find(name)?;
            if steps.iter().any(|(known, _)| known.name == entry.name) {
                return Err(Error::invalid(format!("the processor {name} is named twice")));
            }
            if !matches!(entry.name, "books" | "bars" | "ticks" | "metrics" | "gaps") {
                return Err(Error::invalid(format!(
                    "the processor {name} cannot run by instrument"
                )));
            }
            let built = entry.build(settings)?;
            debug_assert_eq!([built.input_kind(), built.output_kind()], [TapeKind::Records; 2]);
            steps.push((entry, settings.clone()));
        }
        if steps.is_empty() {
            return Err(Error::invalid("expected at least one processor, got none"));
        }
        Ok(Self { steps: steps.into() })
    }

    /// Names of the processors and the topics that they write, in their order.
    pub fn topics(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        self.steps.iter().map(|(entry, _)| (entry.name, entry.output))
    }

    /// A number that two plans share only if they name the same.
    pub fn fingerprint(&self) -> u32 {
        let parts = self.steps.iter().map(|(entry, settings)| (entry.name, settings.fingerprint()));
        crc32c::crc32c(format!("{:?}", parts.collect::<Vec<_>>()).as_bytes())
    }

    fn build(&self) -> Result<Vec<Box<dyn Processor>>> {
        self.steps.iter().map(|(entry, settings)| entry.build(settings)).collect()
    }
}
