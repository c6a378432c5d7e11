//! Messages of many sources, in the order of their topic, back to the records of each source.
//!
//! A topic repeats messages where whoever published them was stopped before it had noted how far
//! it was. A repetition stands at an offset of its tape that was passed, and was received no later
//! than what was unpacked already: it is left out. A message at such an offset that was received
//! later is of another tape under the same name, whose instruments may be other ones: an error.

use super::decode::Decoder;
use crate::error::{Error, Result};
use crate::record::{records, Records, NONE};

/// How far a source was unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reached {
    /// Offset of its newest message on the tape of its recorder.
    pub offset: u64,
    /// Newest receive time, ns; `i64::MIN` if no record had one.
    pub ts_recv: i64,
}

/// The records of one source among a batch of messages.
#[derive(Debug)]
pub struct Unpacked {
    /// Its name.
    pub source: String,
    /// Its records, in the order of the messages.
    pub records: Records,
    /// How far it was unpacked.
    pub reached: Reached,
    /// Index of its last message, repetitions included.
    pub last: usize,
    /// How many messages were repetitions.
    pub repeated: u64,
}

/// A message that cannot be unpacked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Its index.
    pub index: usize,
    /// Why.
    pub reason: String,
    /// Whether it is a message whose kind of record this build does not know.
    pub is_newer: bool,
}

impl Rejected {
    fn new(index: usize, message: &[u8], reason: String) -> Self {
        Self { index, reason, is_newer: Decoder.is_newer(message) }
    }
}

/// Unpacks the messages of one partition of a topic.
#[derive(Debug, Default)]
pub struct Unpacker {
    sources: Vec<(String, Reached)>,
    /// Of the batch at hand: by source, what it will be once all of the batch is taken.
    parts: Vec<Unpacked>,
    scratch: Records,
}

impl Unpacker {
    /// Nothing was unpacked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on where `source` was left.
    pub fn restore(&mut self, source: &str, reached: Reached) {
        self.sources.retain(|(name, _)| name != source);
        self.sources.push((source.to_owned(), reached));
    }

    /// Unpacks `messages` up to the first one that cannot be, if there is one. `covered` says of a
    /// source before which index it has everything already: such messages count as unpacked, and
    /// their records are left out.
    ///
    /// # Errors
    /// `Error::Invalid`: a message is of another tape of its source than those before it. Nothing
    /// of the batch counts as unpacked then.
    pub fn unpack(
        &mut self,
        messages: &[&[u8]],
        covered: &[(String, usize)],
    ) -> Result<(Vec<Unpacked>, Option<Rejected>)> {
        self.parts.clear();
        let mut rejected = None;
        for (index, message) in messages.iter().enumerate() {
            self.scratch.clear();
            let origin = match Decoder.decode(message, &mut self.scratch) {
                Ok(origin) if origin.source.is_empty() => {
                    let reason = "it names no source".to_owned();
                    rejected = Some(Rejected::new(index, message, reason));
                    break;
                }
                Ok(origin) => origin,
                Err(error) => {
                    rejected = Some(Rejected::new(index, message, error.to_string()));
                    break;
                }
            };
            let Some(record) = records::iterate(self.scratch.as_bytes()).next() else { continue };
            let ts_recv = match record.header().ts_recv {
                NONE => i64::MIN,
                ts_recv => ts_recv,
            };
            let at = part_of(&mut self.parts, &self.sources, origin.source);
            let part = &mut self.parts[at];
            part.last = index;
            let is_known = part.reached.offset != u64::MAX;
            if is_known && origin.offset <= part.reached.offset {
                if ts_recv > part.reached.ts_recv {
                    return Err(Error::invalid(format!(
                        "{}: a message at offset {} of its tape follows one at offset {}, and was \
                         received later: its recorder went on with another tape under this name",
                        origin.source, origin.offset, part.reached.offset
                    )));
                }
                part.repeated += 1;
                continue;
            }
            part.reached =
                Reached { offset: origin.offset, ts_recv: part.reached.ts_recv.max(ts_recv) };
            let from = covered.iter().find(|(name, _)| name == origin.source);
            if from.is_none_or(|&(_, from)| index >= from) {
                part.records.push_ref(record);
            }
        }
        for part in &self.parts {
            match self.sources.iter_mut().find(|(name, _)| *name == part.source) {
                Some((_, reached)) => *reached = part.reached,
                None => self.sources.push((part.source.clone(), part.reached)),
            }
        }
        Ok((std::mem::take(&mut self.parts), rejected))
    }
}

/// Where the part of `source` stands; it is made at its first message.
fn part_of(parts: &mut Vec<Unpacked>, known: &[(String, Reached)], source: &str) -> usize {
    if let Some(at) = parts.iter().position(|part| part.source == source) {
        return at;
    }
    let reached = known.iter().find(|(name, _)| name == source).map(|&(_, reached)| reached);
    parts.push(Unpacked {
        source: source.to_owned(),
        records: Records::new(),
        reached: reached.unwrap_or(Reached { offset: u64::MAX, ts_recv: i64::MIN }),
        last: 0,
        repeated: 0,
    });
    parts.len() - 1
}
