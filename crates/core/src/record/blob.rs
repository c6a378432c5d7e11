//! Things of variable length: raw frames, headlines, documents, vectors.
//!
//! A blob is framed by its own header, so that blobs lie back to back in a tape's frame as records
//! do. Nothing of a blob is interpreted here.

use super::{Plain, NONE};
use crate::error::{Error, Result};
use crate::numbered;

/// Ends the context of a blob of which a part never came. Whatever its bytes hold by chance, it is
/// a dead letter.
pub const CUT_MARK: &[u8] = b"#cut";

numbered! {
    /// What a blob holds.
    pub enum BlobKind {
        /// A WebSocket text frame, exactly as received.
        Text = 1, "text";
        /// A WebSocket binary frame, exactly as received.
        Binary = 2, "binary";
        /// The body of a REST answer; the context is the request's path and query.
        Rest = 3, "rest";
        /// Records made by the session itself: connects, disconnects, gaps. Passed on as they are.
        Records = 4, "records";
        /// What a venue told of a story, as JSON of one form for all: `feeds::headlines`.
        News = 5, "news";
    }
}

/// What every blob starts with, 24 bytes, little-endian. Context and body follow, then zeros up to
/// a multiple of 8.
/// ```text
/// offset  size  field
///      0     4  length of the body in bytes
///      4     2  length of the context in bytes
///      6     1  kind
///      7     1  feed
///      8     2  connection
///     10     2  flags (the FLAG_ bits of records)
///     12     4  zero
///     16     8  ts_recv, ns
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct BlobHeader {
    /// Length of the body in bytes.
    pub body_length: u32,
    /// Length of the context in bytes.
    pub context_length: u16,
    /// A [`BlobKind`].
    pub kind: u8,
    /// Number of the feed in the table of `feeds`.
    pub feed: u8,
    /// Number of the connection within the recorder.
    pub connection: u16,
    /// The `FLAG_` bits of records.
    pub flags: u16,
    /// Zero.
    pub reserved: u32,
    /// When the bytes reached this host, in ns.
    pub ts_recv: i64,
}

// SAFETY: `repr(C)` of integers, 24 bytes without padding.
unsafe impl Plain for BlobHeader {}
const _: () = assert!(size_of::<BlobHeader>() == 24);

/// One blob, read in place.
#[derive(Debug, Clone, Copy)]
pub struct Blob<'a> {
    /// Its header.
    pub header: BlobHeader,
    /// What the body belongs to: the request of a REST answer, the path of a raw stream.
    pub context: &'a [u8],
    /// The bytes, exactly as received.
    pub body: &'a [u8],
}

/// Blobs back to back, to be appended to a tape in one go.
#[derive(Debug, Default, Clone)]
pub struct Blobs {
    bytes: Vec<u8>,
    count: usize,
}

impl Blobs {
    /// An empty batch.
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), count: 0 }
    }

    /// Appends a blob. The lengths of `header` are taken from `context` and `body`.
    ///
    /// # Errors
    /// `Error::Invalid`: the context is over 65,535 bytes, or the body over 4 GiB.
    #[inline]
    pub fn push(&mut self, mut header: BlobHeader, context: &[u8], body: &[u8]) -> Result<()> {
        header.context_length = u16::try_from(context.len())
            .map_err(|_| Error::invalid("expected a blob context of at most 65,535 bytes"))?;
        header.body_length = u32::try_from(body.len())
            .map_err(|_| Error::invalid("expected a blob body of less than 4 GiB"))?;
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(context);
        self.bytes.extend_from_slice(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(8), 0);
        self.count += 1;
        Ok(())
    }

    /// Number of blobs.
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Removes all blobs and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    /// The bytes of all blobs.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Each blob in order.
    pub fn iter(&self) -> BlobIter<'_> {
        iterate(&self.bytes)
    }
}

impl<'a> IntoIterator for &'a Blobs {
    type Item = Blob<'a>;
    type IntoIter = BlobIter<'a>;

    fn into_iter(self) -> BlobIter<'a> {
        self.iter()
    }
}

/// Checks that `bytes` are whole blobs as [`Blobs::push`] makes them, of kinds that this build
/// knows. Returns their number and the receive time of the last one.
///
/// # Errors
/// `Error::Invalid` names the first that is not.
pub fn check_layout(bytes: &[u8]) -> Result<(usize, i64)> {
    let (mut at, mut count, mut ts_recv) = (0, 0, NONE);
    while at < bytes.len() {
        let wrong = |expected: &str, got: String| {
            Err(Error::invalid(format!(
                "item {count} at byte {at}: expected {expected}, got {got}"
            )))
        };
        let rest = &bytes[at..];
        let Some(header) = BlobHeader::read_from(rest) else {
            return wrong("a blob", format!("{} bytes", rest.len()));
        };
        if BlobKind::try_from(header.kind).is_err() || header.reserved != 0 {
            return wrong("a known kind of blob", format!("kind {}", header.kind));
        }
        let length =
            size_of::<BlobHeader>() + header.context_length as usize + header.body_length as usize;
        let padded = length.next_multiple_of(8);
        match rest.get(length..padded) {
            None => return wrong(&format!("{padded} bytes"), format!("{}", rest.len())),
            Some(padding) if padding.iter().any(|&byte| byte != 0) => {
                return wrong("zeros behind the body", "other bytes".to_owned());
            }
            Some(_) => {}
        }
        (at, count, ts_recv) = (at + padded, count + 1, header.ts_recv);
    }
    Ok((count, ts_recv))
}

/// Each blob of `bytes` in order. Stops before a blob that is not whole.
pub const fn iterate(bytes: &[u8]) -> BlobIter<'_> {
    BlobIter { bytes }
}

/// Iterator over the blobs of a byte slice.
#[derive(Debug, Clone)]
pub struct BlobIter<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for BlobIter<'a> {
    type Item = Blob<'a>;

    #[inline]
    fn next(&mut self) -> Option<Blob<'a>> {
        let header = BlobHeader::read_from(self.bytes)?;
        let body_start = size_of::<BlobHeader>() + header.context_length as usize;
        let body_end = body_start + header.body_length as usize;
        let end = body_end.next_multiple_of(8);
        if end > self.bytes.len() {
            return None;
        }
        let (this, rest) = self.bytes.split_at(end);
        self.bytes = rest;
        Some(Blob {
            header,
            context: &this[size_of::<BlobHeader>()..body_start],
            body: &this[body_start..body_end],
        })
    }
}
