//! Venue frames in the order in which they are due, and the bytes of a WebSocket that carry them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Names of streams, by number.
pub type Names = Arc<Vec<Box<str>>>;

/// The first byte of a whole text message, and of a binary one.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;

/// What a venue puts around a payload to name its stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wrapping {
    /// Before the name.
    pub before: &'static [u8],
    /// Between the name and the payload.
    pub between: &'static [u8],
    /// After the payload.
    pub after: &'static [u8],
}

/// Frames, back to back.
#[derive(Debug, Default, Clone)]
pub struct Frames {
    names: Names,
    wrapping: Wrapping,
    bytes: Vec<u8>,
    entries: Vec<FrameEntry>,
}

#[derive(Debug, Clone)]
struct FrameEntry {
    stream: u32,
    ts: i64,
    first: u64,
    last: u64,
    millis: Range<usize>,
    /// The same in microseconds, or in another encoding; empty where nobody asked for it.
    micros: Range<usize>,
}

/// One frame: a raw payload and what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VenueFrame<'a> {
    /// Number of its stream.
    pub stream: u32,
    /// When it is due, in ns.
    pub ts: i64,
    /// First id in it; 0 if it has none.
    pub first: u64,
    /// Last id in it.
    pub last: u64,
    /// The raw payload.
    pub payload: &'a [u8],
}

/// What a batch holds of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Number of the stream.
    pub stream: u32,
    /// How many frames.
    pub count: u64,
    /// First id of the first frame.
    pub first: u64,
    /// Last id of the last frame.
    pub last: u64,
}

impl Frames {
    /// An empty batch of streams that are called `names`.
    pub const fn new(names: Names, wrapping: Wrapping) -> Self {
        Self { names, wrapping, bytes: Vec::new(), entries: Vec::new() }
    }

    /// Appends a frame whose payload `write` appends: first in milliseconds, and then, where
    /// `micros` asks for it, in microseconds.
    ///
    /// # Errors
    /// Those of `write`; the batch is as it was then.
    pub fn push<E>(
        &mut self,
        frame: VenueFrame<'_>,
        micros: bool,
        write: impl Fn(bool, &mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        let done = write(false, &mut self.bytes).and_then(|()| {
            let middle = self.bytes.len();
            if micros {
                write(true, &mut self.bytes)?;
            }
            Ok(middle)
        });
        let middle = match done {
            Ok(middle) => middle,
            Err(error) => {
                self.bytes.truncate(start);
                return Err(error);
            }
        };
        let VenueFrame { stream, ts, first, last, .. } = frame;
        let (millis, micros) = (start..middle, middle..self.bytes.len());
        self.entries.push(FrameEntry { stream, ts, first, last, millis, micros });
        Ok(())
    }

    /// Appends a frame with the payload that it carries.
    pub fn push_payload(&mut self, frame: VenueFrame<'_>) {
        let done = self.push(frame, false, |_, out| {
            out.extend_from_slice(frame.payload);
            Ok::<(), std::convert::Infallible>(())
        });
        debug_assert!(done.is_ok());
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The name of stream number `stream`; empty if it has none.
    pub fn name(&self, stream: u32) -> &str {
        self.names.get(stream as usize).map_or("", |name| name)
    }

    /// The frame at a place.
    pub fn get(&self, at: usize, micros: bool) -> Option<VenueFrame<'_>> {
        let entry = self.entries.get(at)?;
        let FrameEntry { stream, ts, first, last, .. } = *entry;
        Some(VenueFrame { stream, ts, first, last, payload: self.payload(entry, micros) })
    }

    /// What the batch holds, by stream.
    pub fn summary(&self) -> Vec<Summary> {
        let mut streams = BTreeMap::new();
        for &FrameEntry { stream, first, last, .. } in &self.entries {
            let summary =
                streams.entry(stream).or_insert(Summary { stream, count: 0, first, last });
            summary.count += 1;
            summary.last = last;
        }
        streams.into_values().collect()
    }

    /// Appends the WebSocket messages, as a server sends them, of the frames whose stream `wanted`
    /// marks with a byte other than 0. `combined` wraps each with the name of its stream.
    pub fn wire(&self, wanted: &[u8], combined: bool, micros: bool, out: &mut Vec<u8>) {
        for entry in &self.entries {
            if wanted.get(entry.stream as usize).is_some_and(|&mark| mark != 0) {
                let payload = self.payload(entry, micros);
                let name = self.name(entry.stream).as_bytes();
                let Wrapping { before, between, after } = self.wrapping;
                let bare: [&[u8]; 5] = [b"", b"", b"", payload, b""];
                let parts = if combined { [before, name, between, payload, after] } else { bare };
                write_message(TEXT, parts, out);
            }
        }
    }

    /// Appends the WebSocket messages of the frames whose stream `wanted` marks with a byte other
    /// than 0, where each message is an array of up to `events_max` of them: of JSON, or of msgpack
    /// where `packed` asks for it, which stands in the place of the microseconds.
    pub fn arrays(&self, wanted: &[u8], events_max: usize, packed: bool, out: &mut Vec<u8>) {
        let is_wanted =
            |entry: &&FrameEntry| wanted.get(entry.stream as usize).is_some_and(|&mark| mark != 0);
        let entries: Vec<_> = self.entries.iter().filter(is_wanted).collect();
        for events in entries.chunks(events_max.clamp(1, usize::from(u16::MAX))) {
            let payloads: Vec<_> = events.iter().map(|entry| self.payload(entry, packed)).collect();
            if packed {
                let [high, low] = (payloads.len() as u16).to_be_bytes();
                let body = payloads.concat();
                write_message(BINARY, [&[0xdc, high, low], &body, b"", b"", b""], out);
            } else {
                let body = payloads.join(&b',');
                write_message(TEXT, [b"[", &body, b"]", b"", b""], out);
            }
        }
    }

    fn payload(&self, entry: &FrameEntry, micros: bool) -> &[u8] {
        let range = if micros && !entry.micros.is_empty() { &entry.micros } else { &entry.millis };
        &self.bytes[range.clone()]
    }
}

/// Appends one WebSocket message of `parts` that begins with the byte `first`.
fn write_message(first: u8, parts: [&[u8]; 5], out: &mut Vec<u8>) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.push(first);
    match length {
        0..=125 => out.push(length as u8),
        126..=0xffff => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRAPPING: Wrapping = Wrapping { before: b"<", between: b">", after: b"!" };

    #[test]
    fn messages_have_the_length_that_they_say() {
        // Payloads around each border of the length field, raw and in an envelope, read back by
        // the rules of RFC 6455.
        for length in [0, 125, 126, 127, 65_535, 65_536, 100_000] {
            for combined in [false, true] {
                let mut frames = Frames::new(Arc::new(vec!["a@trade".into()]), WRAPPING);
                let payload = vec![b'7'; length];
                frames.push_payload(VenueFrame {
                    stream: 0,
                    ts: 0,
                    first: 1,
                    last: 1,
                    payload: &payload,
                });
                let mut out = Vec::new();
                frames.wire(&[1], combined, false, &mut out);
                let (said, head) = match out[1] {
                    127 => (u64::from_be_bytes(out[2..10].try_into().unwrap()) as usize, 10),
                    126 => (usize::from(u16::from_be_bytes(out[2..4].try_into().unwrap())), 4),
                    short => (usize::from(short), 2),
                };
                assert_eq!((out[0], said), (TEXT, out.len() - head));
                let body = &out[head..];
                if combined {
                    assert!(body.starts_with(b"<a@trade>"));
                    assert!(body.ends_with(b"!"));
                } else {
                    assert_eq!(body, payload);
                }
            }
        }
    }

    #[test]
    fn only_wanted_streams_are_sent() {
        let mut frames = Frames::new(Arc::new(vec!["a".into(), "b".into()]), WRAPPING);
        for (number, stream) in [0, 1, 0].into_iter().enumerate() {
            let (first, last) = (number as u64, number as u64);
            frames.push_payload(VenueFrame { stream, ts: 0, first, last, payload: b"{}" });
        }
        let mut out = Vec::new();
        frames.wire(&[0, 1], false, false, &mut out);
        assert_eq!(out, [TEXT, 2, b'{', b'}']);
        let counts: Vec<_> = frames.summary().iter().map(|of| (of.count, of.last)).collect();
        assert_eq!(counts, [(2, 2), (1, 1)]);
    }

    #[test]
    fn arrays_hold_the_wanted_events_in_either_encoding() {
        // Five events of two streams, two in an array; of a stream that nobody wants none.
        let mut frames = Frames::new(Arc::new(vec!["a".into(), "b".into()]), WRAPPING);
        for (number, stream) in [0, 1, 0, 0].into_iter().enumerate() {
            let id = number as u64;
            let frame = VenueFrame { stream, ts: 0, first: id, last: id, payload: b"" };
            let write = |packed: bool, out: &mut Vec<u8>| {
                out.extend_from_slice(if packed { b"\x80" } else { b"{}" });
                Ok::<(), std::convert::Infallible>(())
            };
            frames.push(frame, true, write).unwrap();
        }
        let mut out = Vec::new();
        frames.arrays(&[1, 0], 2, false, &mut out);
        assert_eq!(out, b"\x81\x07[{},{}]\x81\x04[{}]");
        out.clear();
        frames.arrays(&[1, 0], 2, true, &mut out);
        assert_eq!(out, b"\x82\x05\xdc\x00\x02\x80\x80\x82\x04\xdc\x00\x01\x80");
        out.clear();
        frames.arrays(&[], 2, true, &mut out);
        assert_eq!(out, b"");
    }
}
