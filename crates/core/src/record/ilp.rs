//! Records as rows of QuestDB's line protocol, version 3 (a server of 9.2 or later).
//!
//! A table names its columns; what each holds follows from the layout's field of that name. Names
//! are symbols. Prices, sizes and numbers of 64 bits are exact decimals, and times have all of
//! their nanoseconds. An absent value has no column in its line.
//!
//! ```text
//! line      table (',' symbol '=' text)...  ' ' name value (',' name value)...  ' ' ns '\n'
//! whole     '=' digits 'i'
//! time      '=' digits 'n'
//! float     "==" 16 u8  f64, little-endian
//! decimal   "==" 23 u8  places u8  bytes u8  value, big-endian, two's complement
//! ```

use super::columns::{Field, Layout, Meaning};
use super::rows::Symbols;
use super::store_rows::{instrument_of, signed, time_field, word, RowError, RowInput, StoreColumn};
use super::{unpadded, NONE, PRICE_PLACES, SIZE_PLACES, TURNOVER_PLACES};
use crate::error::{Error, Result};

const FLOAT: u8 = 16;
const DECIMAL: u8 = 23;
/// Digits of the largest value of 64 and of 128 bits, signed, and of 64 bits, unsigned.
const DIGITS_64: u32 = 19;
const DIGITS_128: u32 = 39;
const DIGITS_UNSIGNED: u32 = 20;

/// How the records of one layout become rows of a table.
#[derive(Debug, Clone)]
pub struct IlpTable {
    layout: &'static Layout,
    table: Vec<u8>,
    columns: Vec<IlpColumn>,
    ts: &'static Field,
}

/// One column: what stands before its value, and what it holds.
#[derive(Debug, Clone)]
struct IlpColumn {
    name: String,
    key: Vec<u8>,
    content: StoreColumn,
}

/// Rows as lines.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct IlpLines {
    /// The lines, back to back.
    pub bytes: Vec<u8>,
    /// Number of rows.
    pub count: u64,
    /// Time and offset of the last row.
    pub last: Option<(i64, u64)>,
}

impl IlpTable {
    /// The table called `table`, whose rows go by the time `ts`. Each of `columns` is its name and
    /// what it holds: a field of `layout`, `tape_offset`, `symbol` or `provider`.
    ///
    /// # Errors
    /// `Error::Invalid`: there is no such field; or no column is `tape_offset`, without which a
    /// line could be empty.
    pub fn new(
        layout: &'static Layout,
        table: &str,
        ts: &str,
        columns: &[(String, String)],
    ) -> Result<Self> {
        let mut found = Vec::with_capacity(columns.len());
        for (name, field) in columns {
            let content = StoreColumn::named(layout, field)?;
            if matches!(content, StoreColumn::Rest(_)) {
                return Err(Error::invalid(format!("{name}: times have their nanoseconds")));
            }
            let key = key_of(name, &content);
            found.push(IlpColumn { name: name.clone(), key, content });
        }
        if !found.iter().any(|column| matches!(column.content, StoreColumn::Offset)) {
            return Err(Error::invalid(format!("{table}: expected a column of tape_offset")));
        }
        // Symbols come first in a line.
        found.sort_by_key(|column| !is_symbol(&column.content));
        let mut escaped = Vec::new();
        put_escaped(&mut escaped, table);
        Ok(Self { layout, table: escaped, columns: found, ts: time_field(layout, ts)? })
    }

    /// The columns but that of the time, each with its type in QuestDB.
    pub fn types(&self) -> Vec<(String, String)> {
        let typed = |column: &IlpColumn| (column.name.clone(), type_of(&column.content));
        self.columns.iter().map(typed).collect()
    }

    /// The rows of `inputs`, in their order.
    ///
    /// # Errors
    /// A record that cannot be a row.
    pub fn encode(
        &self,
        inputs: &[RowInput<'_>],
        symbols: &Symbols,
        provider: &str,
    ) -> std::result::Result<IlpLines, RowError> {
        let mut lines = IlpLines::default();
        for input in inputs {
            for (offset, bytes) in input.records(self.layout) {
                let ts = signed(self.ts, bytes);
                if ts == NONE {
                    return Err(RowError::without_time(offset, self.ts));
                }
                self.line(bytes, offset, symbols, provider, &mut lines.bytes)?;
                lines.bytes.push(b' ');
                put_signed(&mut lines.bytes, ts);
                lines.bytes.push(b'\n');
                lines.count += 1;
                lines.last = Some((ts, offset));
            }
        }
        Ok(lines)
    }

    #[inline]
    fn line(
        &self,
        bytes: &[u8],
        offset: u64,
        symbols: &Symbols,
        provider: &str,
        out: &mut Vec<u8>,
    ) -> std::result::Result<(), RowError> {
        out.extend_from_slice(&self.table);
        let mut values = None;
        for column in &self.columns {
            if values.is_none() && !is_symbol(&column.content) {
                values = Some(out.len());
            }
            match column.content {
                StoreColumn::Offset => {
                    out.extend_from_slice(&column.key);
                    put_unsigned(out, offset);
                    out.push(b'i');
                }
                StoreColumn::Provider => put_text(out, &column.key, provider),
                StoreColumn::Symbol => {
                    let instrument = instrument_of(bytes);
                    if instrument == 0 {
                        // Of all instruments.
                        continue;
                    }
                    let rank = symbols.rank_of(instrument) as usize;
                    let name = symbols.names().get(rank);
                    put_text(out, &column.key, name.ok_or(RowError::Unknown { instrument })?);
                }
                StoreColumn::Field(field) => put_field(out, &column.key, field, bytes),
                StoreColumn::Rest(_) => unreachable!("refused by `new`"),
            }
        }
        // Each name has a comma before it; what comes first behind the symbols has a space.
        if let Some(at) = values {
            out[at] = b' ';
        }
        Ok(())
    }
}

fn is_symbol(content: &StoreColumn) -> bool {
    match content {
        StoreColumn::Provider | StoreColumn::Symbol => true,
        StoreColumn::Field(field) => matches!(field.meaning, Meaning::Text | Meaning::Name(_)),
        StoreColumn::Offset | StoreColumn::Rest(_) => false,
    }
}

/// Places and bytes of a decimal; none: it is none.
fn decimal_of(field: &Field) -> Option<(u32, usize, u32)> {
    match (field.meaning, field.width) {
        (Meaning::Price, _) => Some((PRICE_PLACES, 8, DIGITS_64)),
        (Meaning::Size, _) => Some((SIZE_PLACES, 8, DIGITS_64)),
        (Meaning::Turnover, _) => Some((TURNOVER_PLACES, 16, DIGITS_128)),
        (Meaning::Number | Meaning::Hidden, 8) => Some((0, 9, DIGITS_UNSIGNED)),
        _ => None,
    }
}

fn type_of(content: &StoreColumn) -> String {
    let name = match content {
        StoreColumn::Offset => "LONG",
        StoreColumn::Field(field) => match (field.meaning, field.width) {
            (Meaning::Time, _) => "TIMESTAMP_NS",
            (Meaning::Float, _) => "DOUBLE",
            (Meaning::Number | Meaning::Hidden, 1 | 2) => "INT",
            (Meaning::Count | Meaning::Number | Meaning::Hidden, 4) => "LONG",
            _ => match decimal_of(field) {
                Some((places, _, digits)) => return format!("DECIMAL({digits},{places})"),
                None => "SYMBOL",
            },
        },
        StoreColumn::Provider | StoreColumn::Symbol | StoreColumn::Rest(_) => "SYMBOL",
    };
    name.to_owned()
}

/// What stands before a value of the column.
fn key_of(name: &str, content: &StoreColumn) -> Vec<u8> {
    let mut key = vec![b','];
    put_escaped(&mut key, name);
    key.push(b'=');
    if let StoreColumn::Field(field) = content {
        if let Some((places, width, _)) = decimal_of(field) {
            key.extend_from_slice(&[b'=', DECIMAL, places as u8, width as u8]);
        } else if matches!(field.meaning, Meaning::Float) {
            key.extend_from_slice(&[b'=', FLOAT]);
        }
    }
    key
}

#[inline]
fn put_field(out: &mut Vec<u8>, key: &[u8], field: &Field, bytes: &[u8]) {
    match field.meaning {
        Meaning::Price | Meaning::Size => match signed(field, bytes) {
            NONE => {}
            value => put(out, key, &value.to_be_bytes()),
        },
        Meaning::Time => match signed(field, bytes) {
            NONE => {}
            ts => {
                out.extend_from_slice(key);
                put_signed(out, ts);
                out.push(b'n');
            }
        },
        Meaning::Turnover => {
            let mut wide = [0; 16];
            wide.copy_from_slice(&bytes[field.offset..field.offset + 16]);
            wide.reverse();
            put(out, key, &wide);
        }
        Meaning::Float => match f64::from_bits(word::<8>(bytes, field.offset)) {
            value if value.is_nan() => {}
            value => put(out, key, &value.to_le_bytes()),
        },
        Meaning::Text => {
            put_text(out, key, unpadded(&bytes[field.offset..field.offset + field.width]));
        }
        Meaning::Name(names) => {
            put_text(out, key, names.get(bytes[field.offset] as usize).unwrap_or(&""));
        }
        Meaning::Count => match word::<4>(bytes, field.offset) {
            0xFFFF_FFFF => {}
            count => put_whole(out, key, count),
        },
        Meaning::Number | Meaning::Hidden => match field.width {
            1 => put_whole(out, key, word::<1>(bytes, field.offset)),
            2 => put_whole(out, key, word::<2>(bytes, field.offset)),
            4 => put_whole(out, key, word::<4>(bytes, field.offset)),
            _ => {
                // A ninth byte in front, or the upper half would be negative.
                let mut value = [0; 9];
                value[1..].copy_from_slice(&word::<8>(bytes, field.offset).to_be_bytes());
                put(out, key, &value);
            }
        },
    }
}

#[inline]
fn put(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

#[inline]
fn put_whole(out: &mut Vec<u8>, key: &[u8], value: u64) {
    out.extend_from_slice(key);
    put_unsigned(out, value);
    out.push(b'i');
}

/// Appends a symbol; an empty one is absent.
#[inline]
fn put_text(out: &mut Vec<u8>, key: &[u8], text: &str) {
    if !text.is_empty() {
        out.extend_from_slice(key);
        put_escaped(out, text);
    }
}

/// Appends text in which nothing is taken for a separator.
#[inline]
fn put_escaped(out: &mut Vec<u8>, text: &str) {
    for &byte in text.as_bytes() {
        if matches!(byte, b' ' | b',' | b'=' | b'\\' | b'\n' | b'\r') {
            out.push(b'\\');
        }
        out.push(byte);
    }
}

#[inline]
fn put_signed(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    put_unsigned(out, value.unsigned_abs());
}

#[inline]
fn put_unsigned(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Header, Plain, Trade};

    #[test]
    fn lines_are_what_the_protocol_says() {
        // A trade against bytes that were written by hand: a negative price, a number whose upper
        // bit is set, a symbol with separators, and an absent size, which has no column.
        let layout = Layout::named("trade").expect("a layout");
        let columns = [
            ("id", "tape_offset"),
            ("price", "price"),
            ("size", "size"),
            ("trade_id", "trade_id"),
            ("venue", "provider"),
            ("side", "side"),
            ("ts_recv", "ts_recv"),
            ("flags", "flags"),
        ]
        .map(|(name, field)| (name.to_owned(), field.to_owned()));
        let table = IlpTable::new(layout, "my trades", "ts_event", &columns).expect("a table");
        let trade = Trade {
            header: Header { ts_event: 17, ts_recv: -5, flags: 3, ..Header::of::<Trade>() },
            price: -2,
            size: NONE,
            trade_id: u64::MAX,
            count: 1,
            side: 2,
            channel: 0,
            conditions: [0; 2],
        };
        let input = RowInput { bytes: trade.as_bytes(), first_offset: 99, instruments: None };
        let lines = table.encode(&[input], &Symbols::default(), "a,b=c").expect("rows");
        let mut expected =
            b"my\\ trades,venue=a\\,b\\=c,side=sell id=99i,price==\x17\x09\x08".to_vec();
        expected.extend_from_slice(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFE]);
        expected.extend_from_slice(b",trade_id==\x17\x00\x09\x00");
        expected.extend_from_slice(&[0xFF; 8]);
        expected.extend_from_slice(b",ts_recv=-5n,flags=3i 17\n");
        assert_eq!(lines.bytes, expected);
        assert_eq!((lines.count, lines.last), (1, Some((17, 99))));
        let types: Vec<String> = table.types().into_iter().map(|(_, kind)| kind).collect();
        let expected =
            "SYMBOL SYMBOL LONG DECIMAL(19,9) DECIMAL(19,8) DECIMAL(20,0) TIMESTAMP_NS INT";
        assert_eq!(types.join(" "), expected);
        let none = Trade { header: Header { ts_event: NONE, ..trade.header }, ..trade };
        let input = RowInput { bytes: none.as_bytes(), first_offset: 7, instruments: None };
        let refused = table.encode(&[input], &Symbols::default(), "a");
        assert!(matches!(refused, Err(RowError::Refused { offset: 7, .. })));
    }
}
