//! Messages to records.
//!
//! Fields that this build does not know are passed over: a newer writer may have added them.

use std::mem::offset_of;

use super::table::{number, Form, Plan, Plans, Step};
use super::wire::{self, Fields, Value};
use crate::error::{Error, Result};
use crate::record::columns::LAYOUTS;
use crate::record::{Header, Kind, Marker, MarkerCode, Plain, Records, NONE};

/// Longest record of any kind.
const RECORD_MAX: usize = {
    let (mut most, mut index) = (0, 0);
    while index < LAYOUTS.len() {
        if LAYOUTS[index].width > most {
            most = LAYOUTS[index].width;
        }
        index += 1;
    }
    most
};

/// Where a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin<'a> {
    /// The source whose tape it was on.
    pub source: &'a str,
    /// Symbol of its instrument; empty for none.
    pub symbol: &'a str,
    /// Its offset on the tape.
    pub offset: u64,
}

/// Reads messages as an `Encoder` writes them.
#[derive(Debug, Default, Clone, Copy)]
pub struct Decoder;

struct Parts<'a> {
    header: Header,
    origin: Origin<'a>,
    uniform: [Option<i64>; 7],
    event: Option<(&'static Plan, &'a [u8])>,
}

impl Decoder {
    /// Appends the record of `message` to `out`, and says where it came from.
    ///
    /// # Errors
    /// `Error::Invalid`: it is no such message, or of a kind of record that this build does not
    /// know; nothing was appended.
    pub fn decode<'a>(&self, message: &'a [u8], out: &mut Records) -> Result<Origin<'a>> {
        let parts = read_parts(wire::without_frame(message)?)?;
        let number = parts.header.kind;
        let kind = Kind::try_from(number)?;
        let mut record = [0_u8; RECORD_MAX];
        let width = kind.record_size();
        let (plan, body) = match parts.event {
            Some((plan, body)) => (plan, body),
            None => match Plans::get().of_kind(number) {
                Some(plan) => (plan, &[][..]),
                None => return Err(Error::invalid(format!("a {} has no event", kind.name()))),
            },
        };
        if plan.layout.kind != kind {
            return Err(Error::invalid(format!(
                "expected the event of a {}, got that of a {}",
                kind.name(),
                plan.layout.kind.name()
            )));
        }
        let header = Header { length: (width / 8) as u8, ..parts.header };
        record[..size_of::<Header>()].copy_from_slice(header.as_bytes());
        fill_absent(&plan.fields, &mut record);
        fill_absent(&plan.uniform, &mut record);
        if plan.layout.name == "gap" {
            record[offset_of!(Marker, code)] = MarkerCode::Gap as u8;
        }
        if plan.number == 0 {
            for step in &plan.uniform {
                let value = parts.uniform[step.number as usize].unwrap_or(NONE);
                record[step.offset..step.offset + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
        let mut fields = Fields::new(body);
        while let Some((number, value)) = fields.next()? {
            // They come in the order of the table, but need not.
            if let Some(step) = plan.fields.iter().find(|step| step.number == number) {
                put_step(step, value, &mut record)?;
            }
        }
        out.extend_from_bytes(&record[..width])?;
        Ok(parts.origin)
    }
}

impl Decoder {
    /// Whether `message` is one of a kind of record that this build does not know.
    pub fn is_newer(&self, message: &[u8]) -> bool {
        let parts = wire::without_frame(message).and_then(read_parts);
        parts.is_ok_and(|parts| {
            !parts.origin.source.is_empty() && Kind::try_from(parts.header.kind).is_err()
        })
    }
}

fn read_parts(message: &[u8]) -> Result<Parts<'_>> {
    let header = Header { ts_event: NONE, ts_recv: NONE, ..Header::default() };
    let mut parts = Parts { header, origin: Origin::default(), uniform: [None; 7], event: None };
    let mut fields = Fields::new(message);
    while let Some((number, value)) = fields.next()? {
        match (number, value) {
            (number::SYMBOL, Value::Bytes(bytes)) => parts.origin.symbol = text(number, bytes)?,
            (number::SOURCE, Value::Bytes(bytes)) => parts.origin.source = text(number, bytes)?,
            (number::TIMESTAMP, Value::Fixed(time)) => parts.header.ts_event = time as i64,
            (number::RECEIVED, Value::Fixed(time)) => parts.header.ts_recv = time as i64,
            (number::BID..=number::VOLUME, Value::Varint(value)) => {
                parts.uniform[number as usize] = Some(wire::unzigzag(value));
            }
            (number::SEQUENCE, Value::Varint(value)) => parts.header.sequence = value,
            (number::KIND, Value::Varint(value)) => parts.header.kind = small(number, value)?,
            (number::FLAGS, Value::Varint(value)) => parts.header.flags = small(number, value)?,
            (number::FEED, Value::Varint(value)) => parts.header.feed = small(number, value)?,
            (number::INSTRUMENT, Value::Varint(value)) => {
                parts.header.instrument = small(number, value)?;
            }
            (number::TAPE_OFFSET, Value::Varint(value)) => parts.origin.offset = value,
            (number::EXCHANGE, Value::Bytes(_)) | (number::LATENCY, Value::Varint(_)) => {}
            (number::SYMBOL..=number::TAPE_OFFSET, _) => return Err(wrong_type(number)),
            (_, Value::Bytes(body)) => {
                if let Some(plan) = Plans::get().of_number(number) {
                    parts.event = Some((plan, body));
                }
            }
            _ => {}
        }
    }
    Ok(parts)
}

fn fill_absent(steps: &[Step], record: &mut [u8]) {
    for step in steps {
        let at = step.offset;
        match step.form {
            Form::Decimal | Form::Time => {
                record[at..at + 8].copy_from_slice(&NONE.to_le_bytes());
            }
            Form::Count => record[at..at + 4].copy_from_slice(&u32::MAX.to_le_bytes()),
            _ => {}
        }
    }
}

fn put_step(step: &Step, value: Value<'_>, record: &mut [u8]) -> Result<()> {
    let (number, at) = (step.number, step.offset);
    match (step.form, value) {
        (Form::Byte, Value::Varint(value)) => record[at] = small(number, value)?,
        (Form::Half, Value::Varint(value)) => {
            let value: u16 = small(number, value)?;
            record[at..at + 2].copy_from_slice(&value.to_le_bytes());
        }
        (Form::Int | Form::Count, Value::Varint(value)) => {
            let value: u32 = small(number, value)?;
            record[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        (Form::Word, Value::Varint(value)) | (Form::Time | Form::Fixed, Value::Fixed(value)) => {
            record[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        (Form::Decimal, Value::Varint(value)) => {
            let value = wire::unzigzag(value);
            record[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        (Form::Text(width), Value::Bytes(bytes)) => {
            if bytes.len() > width {
                return Err(Error::invalid(format!(
                    "field {number}: expected up to {width} bytes, got {}",
                    bytes.len()
                )));
            }
            // The last one counts, as everywhere in protobuf.
            record[at..at + width].fill(0);
            record[at..at + bytes.len()].copy_from_slice(bytes);
        }
        _ => return Err(wrong_type(number)),
    }
    Ok(())
}

fn small<T: TryFrom<u64>>(number: u32, value: u64) -> Result<T> {
    T::try_from(value).map_err(|_| {
        Error::invalid(format!("field {number}: {value} does not fit the field of the record"))
    })
}

fn text(number: u32, bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|_| Error::invalid(format!("field {number}: expected UTF-8")))
}

#[cold]
fn wrong_type(number: u32) -> Error {
    Error::invalid(format!("field {number}: its wire type is not that of the schema"))
}
