//! Frames of JSON in the form that the venue sends: no white space, no escape, no exponent.

use super::fast::{Form, Letters};
use crate::feeds::cursor::{Cursor, Key};
use crate::feeds::rfc3339::{self, Minute};

const NS_PER_S: i64 = 1_000_000_000;

/// A frame of JSON.
pub struct Json<'a, 'm> {
    at: Cursor<'a>,
    minute: &'m mut Minute,
}

impl<'a, 'm> Json<'a, 'm> {
    /// The frame `bytes`, with the minute of the last time that was read.
    pub const fn new(bytes: &'a [u8], minute: &'m mut Minute) -> Self {
        Self { at: Cursor::new(bytes), minute }
    }
}

impl<'a> Form<'a> for Json<'a, '_> {
    #[inline(always)]
    fn begin(&mut self) -> Option<()> {
        self.at.expect(b"[")
    }

    #[inline(always)]
    fn event_type(&mut self) -> Option<&'a [u8]> {
        self.at.expect(b"{\"T\":\"")?;
        self.at.text()
    }

    #[inline(always)]
    fn next_key(&mut self) -> Option<Option<Key>> {
        self.at.next_key()
    }

    #[inline(always)]
    fn has_next(&mut self) -> Option<bool> {
        if self.at.skip(b",") {
            return Some(true);
        }
        self.at.expect(b"]")?;
        self.at.is_at_end().then_some(false)
    }

    #[inline(always)]
    fn text(&mut self) -> Option<&'a [u8]> {
        self.at.expect(b"\"")?;
        self.at.text()
    }

    #[inline(always)]
    fn price(&mut self) -> Option<i64> {
        self.at.bare_price()
    }

    #[inline(always)]
    fn size(&mut self) -> Option<i64> {
        self.at.bare_size()
    }

    #[inline(always)]
    fn integer(&mut self) -> Option<u64> {
        self.at.wide_integer()
    }

    #[inline(always)]
    fn time(&mut self) -> Option<i64> {
        self.at.expect(b"\"")?;
        let start = self.minute.start_of(self.at.window::<{ rfc3339::MINUTE }>()?)?;
        self.at.advance(rfc3339::MINUTE);
        let &[b':', tens @ b'0'..=b'5', ones @ b'0'..=b'9'] = self.at.window()? else {
            return None;
        };
        self.at.advance(3);
        let second = i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
        let ns = if self.at.skip(b".") { self.at.nanoseconds()? } else { 0 };
        self.at.expect(b"Z\"")?;
        start.checked_add(second * NS_PER_S + ns)
    }

    #[inline(always)]
    fn letters(&mut self, out: &mut Letters) -> Option<()> {
        if !self.at.skip(b"[") {
            return out.push(self.text()?);
        }
        if self.at.skip(b"]") {
            return Some(());
        }
        loop {
            out.push(self.text()?)?;
            if !self.at.skip(b",") {
                return self.at.expect(b"]");
            }
        }
    }

    #[inline(always)]
    fn skip(&mut self) -> Option<()> {
        self.at.skip_value()
    }
}
