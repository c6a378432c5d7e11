//! JSON as our own encoder writes it, in msgpack: what `msgpack.rs` reads, the other way round.

use crate::error::{DecodeReason, Error, Result};
use crate::feeds::rfc3339;
use crate::feeds::scan::Scanner;

const ARRAY_16: u8 = 0xdc;
const MAP_16: u8 = 0xde;
const TEXT_5: u8 = 0xa0;
const TEXT_8: u8 = 0xd9;
const UNSIGNED_64: u8 = 0xcf;
const DOUBLE: u8 = 0xcb;
const EXTENSION_8: u8 = 0xc7;
/// A timestamp of 96 bits: its length, and its type.
const TIMESTAMP: [u8; 2] = [12, 0xff];
const TEXT_16: u8 = 0xda;
/// Keys of times.
const TIMES: [&[u8]; 3] = [b"t", b"created_at", b"updated_at"];
const NS_PER_S: i64 = 1_000_000_000;

/// Appends the JSON value `text` as msgpack. Values of keys of times become
/// timestamps; a number without a fraction is an integer, any other a double, as the venue has it.
///
/// # Errors
/// `Error::Decode`: it is no JSON, or none that the encoder writes.
pub fn from_json(text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    value(&mut Scanner::new(text, 0), text, out)
}

fn value(scanner: &mut Scanner<'_>, text: &[u8], out: &mut Vec<u8>) -> Result<()> {
    match scanner.peek_value()? {
        b'{' => {
            let start = begin(MAP_16, out);
            let mut count = 0;
            scanner.object(|scanner, key| {
                count += 1;
                let name = inside(key.of(text));
                text_of(name, out);
                if !TIMES.contains(&name) || scanner.peek_value()? != b'"' {
                    return value(scanner, text, out);
                }
                let span = scanner.value()?;
                let byte = span.start as usize;
                let ns = rfc3339::parse(inside(span.of(text)))
                    .map_err(|_| Error::decode(DecodeReason::BadNumber, byte))?;
                out.push(EXTENSION_8);
                out.extend_from_slice(&TIMESTAMP);
                out.extend_from_slice(&(ns.rem_euclid(NS_PER_S) as u32).to_be_bytes());
                out.extend_from_slice(&ns.div_euclid(NS_PER_S).to_be_bytes());
                Ok(())
            })?;
            end(start, count, out);
        }
        b'[' => {
            let start = begin(ARRAY_16, out);
            let mut count = 0;
            scanner.array(|scanner| {
                count += 1;
                value(scanner, text, out)
            })?;
            end(start, count, out);
        }
        b'"' => {
            let span = scanner.value()?;
            text_of(inside(span.of(text)), out);
        }
        _ => {
            let span = scanner.value()?;
            scalar(span.of(text), span.start as usize, out)?;
        }
    }
    Ok(())
}

fn scalar(text: &[u8], byte: usize, out: &mut Vec<u8>) -> Result<()> {
    match text {
        b"null" => out.push(0xc0),
        b"false" => out.push(0xc2),
        b"true" => out.push(0xc3),
        _ => {
            let text = std::str::from_utf8(text).unwrap_or_default();
            if let Ok(whole) = text.parse::<u64>() {
                out.push(UNSIGNED_64);
                out.extend_from_slice(&whole.to_be_bytes());
            } else {
                let double: f64 =
                    text.parse().map_err(|_| Error::decode(DecodeReason::BadNumber, byte))?;
                out.push(DOUBLE);
                out.extend_from_slice(&double.to_be_bytes());
            }
        }
    }
    Ok(())
}

/// Begins a container whose count is known at its end.
fn begin(kind: u8, out: &mut Vec<u8>) -> usize {
    out.extend_from_slice(&[kind, 0, 0]);
    out.len() - 2
}

fn end(start: usize, count: usize, out: &mut [u8]) {
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    out[start..start + 2].copy_from_slice(&count.to_be_bytes());
}

/// A text of 65,535 bytes at most: headlines are no longer.
fn text_of(text: &[u8], out: &mut Vec<u8>) {
    let length = text.len().min(usize::from(u16::MAX));
    if length < 32 {
        out.push(TEXT_5 | length as u8);
    } else if let Ok(short) = u8::try_from(length) {
        out.extend_from_slice(&[TEXT_8, short]);
    } else {
        out.push(TEXT_16);
        out.extend_from_slice(&(length as u16).to_be_bytes());
    }
    out.extend_from_slice(&text[..length]);
}

/// What stands between quotes. The encoder escapes nothing that the venue has in a text.
const fn inside(quoted: &[u8]) -> &[u8] {
    match quoted {
        [b'"', text @ .., b'"'] => text,
        _ => quoted,
    }
}

#[cfg(test)]
mod tests {
    use super::super::msgpack::to_json;
    use super::*;

    #[test]
    fn what_is_packed_is_read_as_the_same() {
        let text = br#"[{"T":"o","S":"BTC/USD","i":18446744073709551615,"a":[],"r":true,"n":null,
            "b":[{"p":61800.12,"s":0.01616617}],"t":"2026-02-02T02:40:04.123456789Z"}]"#;
        let (mut packed, mut again) = (Vec::new(), Vec::new());
        from_json(text, &mut packed).unwrap();
        to_json(&packed, &mut again).unwrap();
        let wanted = [
            r#"[{"T":"o","S":"BTC/USD","i":18446744073709551615,"a":[],"r":true,"n":null,"#,
            r#""b":[{"p":6.180012e4,"s":1.616617e-2}],"t":1770000004123456789}]"#,
        ];
        assert_eq!(String::from_utf8(again).unwrap(), wanted.concat());
        for wrong in [&b"["[..], b"[1", b"{\"t\":\"now\"}", b"{1:2}", b"[-]"] {
            assert!(from_json(wrong, &mut Vec::new()).is_err(), "{wrong:?}");
        }
    }
}
