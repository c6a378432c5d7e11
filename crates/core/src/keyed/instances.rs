//! The instruments of some shards, and what their processors give.

use std::collections::{BTreeMap, HashMap};

use super::frame::{parts, Part};
use super::instance::Instance;
use super::Plan;
use crate::error::{Error, Result};
use crate::protobuf::{Choice, EncodedBatch, Encoder};
use crate::record::{records, unpadded, RecordRef, Records};

/// What becomes of the records that processors give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// They stay as they are: one output holds those of an instrument and a processor.
    Records,
    /// Each is a message of `proto/`, whose tape offset is the number of records before it of the
    /// same instrument and processor.
    Messages,
}

/// What a processor gave of one instrument.
#[derive(Debug, Clone, Copy)]
pub struct Output<'a> {
    /// The processor's place in the plan.
    pub step: usize,
    /// `source/symbol`, or `source` of what is of no instrument.
    pub key: &'a [u8],
    /// Event time of its last record.
    pub ts_event: i64,
    /// Records or a message, by the [`Form`].
    pub body: &'a [u8],
}

/// Takes outputs one by one.
pub trait Outputs {
    /// Takes in one.
    fn put(&mut self, output: Output<'_>);
}

impl<F: FnMut(Output<'_>)> Outputs for F {
    fn put(&mut self, output: Output<'_>) {
        self(output);
    }
}

/// One shard of one source.
#[derive(Default)]
struct Shard {
    by_instrument: BTreeMap<u32, Instance>,
}

/// The instruments of some shards.
pub struct Instances {
    plan: Plan,
    form: Form,
    shards: HashMap<(String, u32), Shard>,
    encoders: HashMap<String, Encoder>,
    made: Records,
    encoded: EncodedBatch,
}

impl Instances {
    /// None yet.
    pub fn new(plan: &Plan, form: Form) -> Self {
        Self {
            plan: plan.clone(),
            form,
            shards: HashMap::new(),
            encoders: HashMap::new(),
            made: Records::new(),
            encoded: EncodedBatch::new(),
        }
    }

    /// Number of instruments, the one that stands for none included.
    pub fn len(&self) -> usize {
        self.shards.values().map(|shard| shard.by_instrument.len()).sum()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Processes what a router dealt to a shard.
    ///
    /// # Errors
    /// `Error::Invalid`: the frame is not whole, or of an instrument that did not begin; and those
    /// of processors.
    pub fn process(
        &mut self,
        source: &str,
        number: u32,
        frame: &[u8],
        outputs: &mut impl Outputs,
    ) -> Result<()> {
        let place = (source.to_owned(), number);
        let mut shard = self.shards.remove(&place).unwrap_or_default();
        let done = self.process_shard(source, &mut shard, frame, outputs);
        self.shards.insert(place, shard);
        done
    }

    fn process_shard(
        &mut self,
        source: &str,
        shard: &mut Shard,
        frame: &[u8],
        outputs: &mut impl Outputs,
    ) -> Result<()> {
        for part in parts(frame) {
            match part? {
                Part::Begin(instrument, state) => {
                    // What concerns all before it is in its state already.
                    self.flush(source, shard, outputs)?;
                    let (_, begun) = Instance::restore(&self.plan, state)?;
                    let known = shard.by_instrument.insert(instrument, begun);
                    if known.is_some() {
                        return Err(Error::invalid(format!(
                            "{source}: instrument {instrument} begins twice"
                        )));
                    }
                }
                Part::Records(bytes) => {
                    for record in records::iterate(bytes) {
                        shard.push(source, record)?;
                    }
                }
            }
        }
        self.flush(source, shard, outputs)
    }

    /// Processes what the instruments of a shard were given.
    fn flush(&mut self, source: &str, shard: &mut Shard, outputs: &mut impl Outputs) -> Result<()> {
        let Self { encoders, made, encoded, form, .. } = self;
        if !encoders.contains_key(source) {
            encoders.insert(source.to_owned(), Encoder::new(source, &[])?);
        }
        let Some(encoder) = encoders.get_mut(source) else { return Ok(()) };
        for instance in shard.by_instrument.values_mut().filter(|it| it.has_pending()) {
            let id = instance.instrument;
            if let Some(definition) = &instance.definition {
                encoder.define(id, unpadded(&definition.symbol));
            }
            let key = match instance.definition {
                None if id != 0 => format!("{source}/#{id}").into_bytes(),
                _ => encoder.key(id),
            };
            instance.process(made, |step, before, records| {
                let times = || records.iter().map(|record| record.header().ts_event);
                if *form == Form::Records {
                    let ts_event = times().last().unwrap_or(0);
                    outputs.put(Output { step, key: &key, ts_event, body: records.as_bytes() });
                    return Ok(());
                }
                encoded.clear();
                encoder.encode(records.as_bytes(), before, &Choice::default(), encoded)?;
                for (index, ts_event) in times().enumerate() {
                    let body = encoded.message(index);
                    outputs.put(Output { step, key: &key, ts_event, body });
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Gives the state of each instrument that changed since the last call: its shard, a name that
    /// is its own, the state.
    ///
    /// # Errors
    /// Those of `each`.
    pub fn changed<E>(
        &mut self,
        mut each: impl FnMut(u32, &str, &[u8]) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let mut state = Vec::new();
        for ((source, number), shard) in &mut self.shards {
            for instance in shard.by_instrument.values_mut().filter(|it| it.is_changed) {
                state.clear();
                instance.snapshot(&self.plan, source, &mut state);
                each(*number, &format!("{source}/{}", instance.instrument), &state)?;
                instance.is_changed = false;
            }
        }
        Ok(())
    }

    /// Takes in an instrument of a shard from its state.
    ///
    /// # Errors
    /// `Error::Invalid`: the state is not whole, of another version, or of other settings.
    pub fn restore(&mut self, number: u32, state: &[u8]) -> Result<()> {
        let (source, instance) = Instance::restore(&self.plan, state)?;
        let shard = self.shards.entry((source.to_owned(), number)).or_default();
        shard.by_instrument.insert(instance.instrument, instance);
        Ok(())
    }
}

impl Shard {
    #[inline]
    fn push(&mut self, source: &str, record: RecordRef<'_>) -> Result<()> {
        let id = record.header().instrument;
        if id == 0 {
            self.by_instrument.values_mut().for_each(|instance| instance.push(record));
            return Ok(());
        }
        let Some(instance) = self.by_instrument.get_mut(&id) else {
            return Err(Error::invalid(format!("{source}: instrument {id} did not begin")));
        };
        instance.push(record);
        Ok(())
    }
}
