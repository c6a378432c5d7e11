//! What the tests of feeds whose frames are lists of events share.

use super::{Feed, Rejected};
use crate::error::{Error, Result};
use crate::instrument::Instruments;
use crate::record::blob::BlobHeader;
use crate::record::{Blob, BlobKind, Record, Records, FLAG_LAST};

/// When all frames arrived: a whole second after the latest of the captures.
pub const TS_RECV: i64 = 1_770_000_005_000_000_000;

/// A decoder with its registry.
pub struct Bench<F> {
    pub feed: F,
    pub instruments: Instruments,
}

/// What a decoder made of a frame, to be compared.
type Outcome = std::result::Result<(Rejected, Vec<u8>), String>;

impl<F: Feed> Bench<F> {
    pub fn of(feed: F) -> Self {
        Self { feed, instruments: Instruments::new() }
    }

    pub fn receive(
        &mut self,
        kind: BlobKind,
        context: &str,
        body: &[u8],
    ) -> Result<(Rejected, Records)> {
        let mut out = Records::new();
        let blob = blob(kind, context, body);
        let rejected = self.feed.receive(&blob, &mut self.instruments, &mut out)?;
        Ok((rejected, out))
    }

    /// The records of a frame of which nothing is rejected.
    pub fn text(&mut self, body: &str) -> Records {
        let (rejected, out) = self.receive(BlobKind::Text, "", body.as_bytes()).unwrap();
        assert_eq!(rejected, Rejected::NONE, "{body}");
        out
    }

    pub fn rest(&mut self, context: &str, body: &str) -> Result<Records> {
        self.receive(BlobKind::Rest, context, body.as_bytes()).map(|(_, records)| records)
    }

    fn outcome(&mut self, kind: BlobKind, body: &[u8]) -> Outcome {
        let found = self.receive(kind, "", body);
        let told = |error: Error| error.to_string();
        found.map(|(rejected, out)| (rejected, out.as_bytes().to_vec())).map_err(told)
    }

    /// Checks that a frame becomes the same on both paths, of which `set` chooses one, once its
    /// symbols are known.
    pub fn check_paths(&mut self, kind: BlobKind, body: &[u8], set: fn(&mut F, bool)) {
        // Symbols are known from the first time on.
        let [_, any, straight] = [false, false, true].map(|on| {
            set(&mut self.feed, on);
            self.outcome(kind, body)
        });
        assert_eq!(straight, any, "{}", body.escape_ascii());
    }
}

pub fn blob<'a>(kind: BlobKind, context: &'a str, body: &'a [u8]) -> Blob<'a> {
    let header = BlobHeader { kind: kind as u8, ts_recv: TS_RECV, ..BlobHeader::default() };
    Blob { header, context: context.as_bytes(), body }
}

/// Kind, context and body of each line of a file of captures, with tabs between.
pub fn captures(
    lines: &'static str,
) -> impl Iterator<Item = (BlobKind, &'static str, &'static str)> {
    lines.lines().map(|line| {
        let mut parts = line.splitn(3, '\t');
        let kind = if parts.next() == Some("rest") { BlobKind::Rest } else { BlobKind::Text };
        (kind, parts.next().unwrap(), parts.next().unwrap())
    })
}

pub fn nth<R: Record>(records: &Records, at: usize) -> R {
    records.iter().nth(at).unwrap().get::<R>().unwrap()
}

/// Each venue event of `records` on its own.
pub fn events(records: &Records) -> Vec<Records> {
    let (mut found, mut event) = (Vec::new(), Records::new());
    for record in records {
        event.push_ref(record);
        if record.header().flags & FLAG_LAST != 0 {
            found.push(std::mem::take(&mut event));
        }
    }
    assert!(event.is_empty(), "an event without an end");
    found
}

/// Checks that every cut of every capture is an error, and leaves no record and no symbol.
pub fn check_cuts<F: Feed>(lines: &'static str, fresh: fn() -> Bench<F>) {
    for (kind, context, body) in captures(lines) {
        for end in (0..body.len()).filter(|&end| body.is_char_boundary(end)) {
            let mut bench = fresh();
            let found = bench.receive(kind, context, &body.as_bytes()[..end]);
            assert!(found.is_err(), "{}", &body[..end]);
            assert!(bench.instruments.is_empty());
        }
    }
}
