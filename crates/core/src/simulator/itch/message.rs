//! The bytes of messages, each behind its length. All integers are big-endian.

/// Messages that were made and not taken yet, and how many there were in all.
#[derive(Debug)]
pub(super) struct Messages {
    pub(super) bytes: Vec<u8>,
    pub(super) count: u64,
    /// By letter.
    pub(super) counts: [u64; 128],
}

impl Default for Messages {
    fn default() -> Self {
        Self { bytes: Vec::new(), count: 0, counts: [0; 128] }
    }
}

/// What every message begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) locate: u16,
    pub(super) tracking: u16,
    /// In ns since midnight.
    pub(super) time: u64,
}

impl Messages {
    /// Adds a message of the type `kind`, whose body `fill` writes.
    #[inline]
    pub(super) fn put(&mut self, kind: u8, head: Head, fill: impl FnOnce(&mut Body<'_>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0, kind]);
        self.bytes.extend_from_slice(&head.locate.to_be_bytes());
        self.bytes.extend_from_slice(&head.tracking.to_be_bytes());
        self.bytes.extend_from_slice(&head.time.to_be_bytes()[2..]);
        fill(&mut Body(&mut self.bytes));
        let length = (self.bytes.len() - start - 2) as u16;
        self.bytes[start..start + 2].copy_from_slice(&length.to_be_bytes());
        self.count += 1;
        self.counts[usize::from(kind & 0x7f)] += 1;
    }
}

/// The body of a message.
pub(super) struct Body<'a>(&'a mut Vec<u8>);

impl Body<'_> {
    #[inline]
    pub(super) fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    #[inline]
    pub(super) fn u64(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    #[inline]
    pub(super) fn text(&mut self, value: &[u8]) -> &mut Self {
        self.0.extend_from_slice(value);
        self
    }
}
