//! Batches of records to messages.

use super::table::{number, Form, Plan, Plans, Step, CODE};
use super::wire::{self, BYTES, FIXED64, SLACK, VARINT};
use crate::error::{Error, Result};
use crate::feeds::FeedId;
use crate::record::columns::Layout;
use crate::record::rows::Symbols;
use crate::record::{records, unpadded, Header, Kind, FLAG_NO_EVENT_TIME, NONE};

/// Bytes that the fields of every kind take at most, without symbol, exchange and source.
const HEADER_MAX: usize = 128;
/// Longest exchange or source.
const NAME_MAX: usize = 255;

/// Messages back to back. Reused between batches: no allocation in steady state.
#[derive(Debug, Default, Clone)]
pub struct EncodedBatch {
    bytes: Vec<u8>,
    used: usize,
    ends: Vec<usize>,
    instruments: Vec<u32>,
    offsets: Vec<u64>,
    kinds: Vec<(u8, u8)>,
    flags: Vec<u8>,
    times: Vec<i64>,
}

impl EncodedBatch {
    /// An empty batch.
    pub const fn new() -> Self {
        Self {
            bytes: Vec::new(),
            used: 0,
            ends: Vec::new(),
            instruments: Vec::new(),
            offsets: Vec::new(),
            kinds: Vec::new(),
            flags: Vec::new(),
            times: Vec::new(),
        }
    }

    /// Number of messages.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all messages.
    pub const fn byte_length(&self) -> usize {
        self.used
    }

    /// Message `index`.
    ///
    /// # Panics
    /// There is no such message.
    pub fn message(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.bytes[start..self.ends[index]]
    }

    /// Instrument of each message; 0 for none.
    pub fn instruments(&self) -> &[u32] {
        &self.instruments
    }

    /// Tape offset of each message.
    pub fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    /// Kind of the record of each message, and of a marker its code.
    pub fn kinds(&self) -> &[(u8, u8)] {
        &self.kinds
    }

    /// Flags of the record of each message.
    pub fn flags(&self) -> &[u8] {
        &self.flags
    }

    /// Event time of the record of each message; `NONE` for none.
    pub fn times(&self) -> &[i64] {
        &self.times
    }

    /// Removes all messages and keeps the memory.
    pub fn clear(&mut self) {
        self.used = 0;
        self.ends.clear();
        self.instruments.clear();
        self.offsets.clear();
        self.kinds.clear();
        self.flags.clear();
        self.times.clear();
    }

    fn reserve(&mut self, count: usize) {
        let needed = self.used + count;
        if needed > self.bytes.len() {
            self.bytes.resize(needed.max(self.bytes.len() * 2), 0);
        }
    }
}

/// Which records become messages.
#[derive(Debug, Default, Clone)]
pub struct Choice {
    /// Those of any of these layouts; none: all.
    pub layouts: Vec<&'static Layout>,
    /// Those of these instruments, ascending; `None`: all.
    pub instruments: Option<Vec<u32>>,
    /// None that stand before this offset.
    pub from: u64,
}

impl Choice {
    #[inline]
    fn takes(&self, bytes: &[u8], instrument: u32, offset: u64) -> bool {
        offset >= self.from
            && self.instruments.as_ref().is_none_or(|ids| ids.binary_search(&instrument).is_ok())
            && (self.layouts.is_empty() || self.layouts.iter().any(|one| one.matches(bytes)))
    }
}

/// Writes records of one source as `MarketData`.
#[derive(Debug, Clone)]
pub struct Encoder {
    /// What every message starts with; empty unless there is a frame around messages.
    frame: Vec<u8>,
    source: String,
    /// The field of the exchange by number of the feed, ready to be copied.
    exchanges: Vec<Vec<u8>>,
    /// By instrument: frame, symbol, source and instrument, ready to be copied.
    prefixes: Vec<Vec<u8>>,
    symbols: Vec<String>,
}

impl Encoder {
    /// An encoder that puts `frame` before every message: that of a schema registry, or nothing.
    ///
    /// # Errors
    /// `Error::Invalid`: the name of the source is empty, or longer than 255 bytes.
    pub fn new(source: &str, frame: &[u8]) -> Result<Self> {
        if source.is_empty() || source.len() > NAME_MAX {
            return Err(Error::invalid(format!(
                "expected a source's name of 1 to {NAME_MAX} bytes, got {}",
                source.len()
            )));
        }
        let mut encoder = Self {
            frame: frame.to_vec(),
            source: source.to_owned(),
            exchanges: FeedId::NAMES.iter().map(|name| exchange(name)).collect(),
            prefixes: Vec::new(),
            symbols: Vec::new(),
        };
        encoder.define(0, "");
        Ok(encoder)
    }

    /// Takes in the symbols of instruments.
    pub fn load(&mut self, symbols: &Symbols) {
        for definition in symbols.iter() {
            self.define(definition.header.instrument, unpadded(&definition.symbol));
        }
    }

    /// Takes in the symbol of one instrument.
    pub fn define(&mut self, instrument: u32, symbol: &str) {
        let id = instrument as usize;
        if self.symbols.get(id).is_some_and(|known| known == symbol && !known.is_empty()) {
            return;
        }
        if id >= self.prefixes.len() {
            self.prefixes.resize(id + 1, Vec::new());
            self.symbols.resize(id + 1, String::new());
        }
        symbol.clone_into(&mut self.symbols[id]);
        self.prefixes[id] = self.prefix(instrument, symbol);
    }

    /// What tells the messages of an instrument from those of all others: `source/symbol`, or
    /// `source` for what is of no instrument.
    pub fn key(&self, instrument: u32) -> Vec<u8> {
        match self.symbols.get(instrument as usize).map_or("", String::as_str) {
            "" => self.source.clone().into_bytes(),
            symbol => format!("{}/{symbol}", self.source).into_bytes(),
        }
    }

    fn prefix(&self, instrument: u32, symbol: &str) -> Vec<u8> {
        let mut out = vec![0; self.frame.len() + symbol.len() + self.source.len() + 64];
        out[..self.frame.len()].copy_from_slice(&self.frame);
        let mut at = self.frame.len();
        let named = [(number::SYMBOL, symbol), (number::SOURCE, &self.source)];
        for (number, name) in named.into_iter().filter(|(_, name)| !name.is_empty()) {
            at = wire::put_bytes(&mut out, at, number, name.as_bytes());
        }
        at = put_number(&mut out, at, number::INSTRUMENT, u64::from(instrument));
        out.truncate(at);
        out
    }

    /// Appends a message for each of `records` that is chosen to `out`. The first one stands at
    /// `first_offset`. Definitions among them are taken in as they come.
    ///
    /// # Errors
    /// `Error::Invalid`: an instrument has no symbol yet, or a kind has no message in this build;
    /// `out` then holds the messages before it.
    pub fn encode(
        &mut self,
        records: &[u8],
        first_offset: u64,
        choice: &Choice,
        out: &mut EncodedBatch,
    ) -> Result<()> {
        let plans = Plans::get();
        for (record, offset) in records::iterate(records).zip(first_offset..) {
            if let Some(definition) = record.as_definition() {
                self.define(definition.header.instrument, unpadded(&definition.symbol));
            }
            let (bytes, header) = (record.bytes(), record.header());
            if !choice.takes(bytes, header.instrument, offset) {
                continue;
            }
            let Some(plan) = plans.of_record(bytes) else {
                return Err(Error::invalid(format!(
                    "offset {offset}: kind {} of records has no message",
                    header.kind
                )));
            };
            let Some(prefix) =
                self.prefixes.get(header.instrument as usize).filter(|prefix| !prefix.is_empty())
            else {
                return Err(Error::invalid(format!(
                    "offset {offset}: instrument {} has no definition on the tape so far",
                    header.instrument
                )));
            };
            let exchange = self.exchanges.get(header.feed as usize).map_or(&[][..], Vec::as_slice);
            put_message(plan, [prefix, exchange], &header, bytes, offset, out);
        }
        Ok(())
    }
}

/// The field that names an exchange; nothing for a feed that has no name.
fn exchange(name: &str) -> Vec<u8> {
    let mut out = vec![0; name.len() + SLACK];
    let end = match name {
        "" => 0,
        _ => wire::put_bytes(&mut out, 0, number::EXCHANGE, name.as_bytes()),
    };
    out.truncate(end);
    out
}

fn put_message(
    plan: &Plan,
    [prefix, exchange]: [&[u8]; 2],
    header: &Header,
    bytes: &[u8],
    offset: u64,
    out: &mut EncodedBatch,
) {
    let start = prefix.len() + exchange.len();
    out.reserve(start + HEADER_MAX + plan.bytes_max + SLACK);
    let buffer = &mut out.bytes[out.used..];
    buffer[..prefix.len()].copy_from_slice(prefix);
    buffer[prefix.len()..start].copy_from_slice(exchange);
    let mut at = put_header(buffer, start, header, offset);
    for step in &plan.uniform {
        at = put_step(buffer, at, step, bytes);
    }
    if plan.number != 0 {
        at = wire::put_tag(buffer, at, plan.number, BYTES);
        // Nearly every body is shorter than 128 bytes, whose length takes one.
        let start = at + 1;
        let mut end = start;
        for step in &plan.fields {
            end = put_step(buffer, end, step, bytes);
        }
        let length = end - start;
        if length < 0x80 {
            buffer[at] = length as u8;
            at = end;
        } else {
            buffer.copy_within(start..end, start + 1);
            // The varint may touch more than the two bytes that it needs, so by hand.
            buffer[at] = length as u8 | 0x80;
            buffer[at + 1] = (length >> 7) as u8;
            at = end + 1;
        }
    }
    out.used += at;
    out.ends.push(out.used);
    out.instruments.push(header.instrument);
    out.offsets.push(offset);
    let is_marker = header.kind == Kind::Marker as u8;
    out.flags.push(header.flags);
    out.times.push(header.ts_event);
    out.kinds.push((header.kind, if is_marker { bytes[CODE] } else { 0 }));
}

#[inline]
fn put_header(buffer: &mut [u8], at: usize, header: &Header, offset: u64) -> usize {
    let mut at = put_time(buffer, at, number::TIMESTAMP, header.ts_event);
    at = put_time(buffer, at, number::RECEIVED, header.ts_recv);
    let is_timed =
        header.flags & FLAG_NO_EVENT_TIME == 0 && header.ts_event != NONE && header.ts_recv != NONE;
    if let (true, Some(latency)) = (is_timed, header.ts_recv.checked_sub(header.ts_event)) {
        at = wire::put_tag(buffer, at, number::LATENCY, VARINT);
        at = wire::put_varint(buffer, at, wire::zigzag(latency));
    }
    at = put_number(buffer, at, number::SEQUENCE, header.sequence);
    at = put_number(buffer, at, number::KIND, u64::from(header.kind));
    at = put_number(buffer, at, number::FLAGS, u64::from(header.flags));
    at = put_number(buffer, at, number::FEED, u64::from(header.feed));
    put_number(buffer, at, number::TAPE_OFFSET, offset)
}

#[inline]
fn put_number(buffer: &mut [u8], at: usize, number: u32, value: u64) -> usize {
    if value == 0 {
        return at;
    }
    let at = wire::put_tag(buffer, at, number, VARINT);
    wire::put_varint(buffer, at, value)
}

#[inline]
fn put_time(buffer: &mut [u8], at: usize, number: u32, value: i64) -> usize {
    if value == NONE {
        return at;
    }
    put_fixed(buffer, at, number, value as u64)
}

#[inline]
fn put_fixed(buffer: &mut [u8], at: usize, number: u32, value: u64) -> usize {
    let at = wire::put_tag(buffer, at, number, FIXED64);
    wire::put_word(buffer, at, value);
    at + 8
}

#[inline]
fn word(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}

#[inline]
fn int(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

#[inline]
fn put_step(buffer: &mut [u8], at: usize, step: &Step, bytes: &[u8]) -> usize {
    let (number, offset) = (step.number, step.offset);
    match step.form {
        Form::Byte => put_number(buffer, at, number, u64::from(bytes[offset])),
        Form::Half => {
            let value = u16::from_le_bytes([bytes[offset], bytes[offset + 1]]);
            put_number(buffer, at, number, u64::from(value))
        }
        Form::Int => put_number(buffer, at, number, u64::from(int(bytes, offset))),
        Form::Word => put_number(buffer, at, number, word(bytes, offset)),
        Form::Count => match int(bytes, offset) {
            u32::MAX => at,
            value => {
                let at = wire::put_tag(buffer, at, number, VARINT);
                wire::put_varint(buffer, at, u64::from(value))
            }
        },
        Form::Decimal => match word(bytes, offset) as i64 {
            NONE => at,
            value => {
                let at = wire::put_tag(buffer, at, number, VARINT);
                wire::put_varint(buffer, at, wire::zigzag(value))
            }
        },
        Form::Time => put_time(buffer, at, number, word(bytes, offset) as i64),
        Form::Fixed => match word(bytes, offset) {
            0 => at,
            value => put_fixed(buffer, at, number, value),
        },
        Form::Text(width) => match unpadded(&bytes[offset..offset + width]) {
            "" => at,
            text => wire::put_bytes(buffer, at, number, text.as_bytes()),
        },
    }
}
