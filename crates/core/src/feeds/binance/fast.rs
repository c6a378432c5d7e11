//! The frequent messages in the exact form that the venue sends today.
//!
//! One straight line a message: keys in their order, no white space, no escape. At anything else
//! the answer is `None`, with nothing written, and the frame goes the way of any JSON. Both give
//! the same records: the tests and the fuzzer compare them.

use super::decode::Task;
use super::depth::{depth_kind, set_last, DepthKind, Event};
#[cfg(target_arch = "x86_64")]
use super::wide;
use crate::feeds::cursor::Cursor;
use crate::record::records::Writer;
use crate::record::{Channel, Level, Quote, Side, Trade, FLAG_LAST, FLAG_NO_EVENT_TIME, NONE};

/// Bytes of the shortest level, `["1","2"],`: a frame has no more levels than fit.
const LEVEL_BYTES_MIN: usize = 10;

impl Task<'_> {
    /// Decodes the frame if it is of an expected form. `stream` is the one it came on, empty where
    /// the frame itself names it.
    #[inline]
    pub fn fast(&mut self, stream: &[u8]) -> Option<()> {
        let mut cursor = Cursor::new(self.bytes);
        if cursor.skip(b"{\"stream\":\"") {
            let name = cursor.text()?;
            cursor.expect(b",\"data\":")?;
            return self.fast_payload(cursor, name, true);
        }
        self.fast_payload(cursor, stream, false)
    }

    #[inline(always)]
    fn fast_payload(&mut self, cursor: Cursor<'_>, stream: &[u8], combined: bool) -> Option<()> {
        let mut at = cursor;
        if !self.chained && at.skip(b"{\"u\":") {
            return self.fast_quote(at, combined);
        }
        at.expect(b"{\"e\":\"")?;
        match at.byte() {
            b'd' => {
                at.expect(b"depthUpdate\",\"E\":")?;
                self.fast_depth(at, stream, combined)
            }
            b'b' => {
                at.expect(b"bookTicker\",\"u\":")?;
                self.fast_quote(at, combined)
            }
            b't' => {
                at.expect(b"trade\",\"E\":")?;
                self.fast_trade(at, combined)
            }
            b'a' => {
                at.expect(b"aggTrade\",\"E\":")?;
                self.fast_aggregate(at, combined)
            }
            _ => None,
        }
    }

    /// The known instrument of the symbol up to the next quote.
    #[inline(always)]
    fn fast_symbol(&self, at: &mut Cursor<'_>) -> Option<u32> {
        self.symbols.get(at.text()?, self.instruments)
    }

    #[inline(always)]
    fn fast_trade(&mut self, mut at: Cursor<'_>, combined: bool) -> Option<()> {
        at.integer()?;
        let mut ts = 0;
        if self.chained {
            at.expect(b",\"T\":")?;
            ts = at.time()?;
        }
        at.expect(b",\"s\":\"")?;
        let instrument = self.fast_symbol(&mut at)?;
        at.expect(b",\"t\":")?;
        let id = at.integer()?;
        at.expect(b",\"p\":\"")?;
        let price = at.price()?;
        at.expect(b"\",\"q\":\"")?;
        let size = at.size()?;
        at.expect(b"\"")?;
        if self.chained {
            at.expect(b",\"X\":\"")?;
            at.text()?;
        } else {
            at.expect(b",\"T\":")?;
            ts = at.time()?;
        }
        at.expect(b",\"m\":")?;
        let sold = at.flag()?;
        if !self.chained {
            at.expect(b",\"M\":")?;
            at.flag()?;
        }
        end(at, combined)?;
        let header = self.head::<Trade>(instrument, ts, id);
        self.push_trade(header, price, size, (id, 1), sold, Channel::Trade);
        Some(())
    }

    #[inline(always)]
    fn fast_aggregate(&mut self, mut at: Cursor<'_>, combined: bool) -> Option<()> {
        at.integer()?;
        let (instrument, id);
        if self.chained {
            at.expect(b",\"a\":")?;
            id = at.integer()?;
            at.expect(b",\"s\":\"")?;
            instrument = self.fast_symbol(&mut at)?;
        } else {
            at.expect(b",\"s\":\"")?;
            instrument = self.fast_symbol(&mut at)?;
            at.expect(b",\"a\":")?;
            id = at.integer()?;
        }
        at.expect(b",\"p\":\"")?;
        let price = at.price()?;
        at.expect(b"\",\"q\":\"")?;
        let size = at.size()?;
        at.expect(b"\"")?;
        if self.chained && at.skip(b",\"nq\":\"") {
            at.text()?;
        }
        at.expect(b",\"f\":")?;
        let first = at.integer()?;
        at.expect(b",\"l\":")?;
        let last = at.integer()?;
        at.expect(b",\"T\":")?;
        let ts = at.time()?;
        at.expect(b",\"m\":")?;
        let sold = at.flag()?;
        if self.chained {
            universe_number(&mut at);
        } else {
            at.expect(b",\"M\":")?;
            at.flag()?;
        }
        end(at, combined)?;
        let count = u32::try_from(last.checked_sub(first)? + 1).ok()?;
        let header = self.head::<Trade>(instrument, ts, id);
        self.push_trade(header, price, size, (first, count), sold, Channel::AggTrade);
        Some(())
    }

    #[inline(always)]
    fn fast_quote(&mut self, mut at: Cursor<'_>, combined: bool) -> Option<()> {
        let sequence = at.integer()?;
        at.expect(b",\"s\":\"")?;
        let instrument = self.fast_symbol(&mut at)?;
        if self.chained && at.skip(b",\"ps\":\"") {
            at.text()?;
        }
        at.expect(b",\"b\":\"")?;
        let bid_price = at.price()?;
        at.expect(b"\",\"B\":\"")?;
        let bid_size = at.size()?;
        at.expect(b"\",\"a\":\"")?;
        let ask_price = at.price()?;
        at.expect(b"\",\"A\":\"")?;
        let ask_size = at.size()?;
        at.expect(b"\"")?;
        let mut ts = self.header.ts_recv;
        if self.chained {
            at.expect(b",\"T\":")?;
            ts = at.time()?;
            at.expect(b",\"E\":")?;
            at.integer()?;
            universe(&mut at)?;
        }
        end(at, combined)?;
        // An empty side is written as zero at zero.
        let price = |price, size| if price | size == 0 { NONE } else { price };
        let mut header = self.head::<Quote>(instrument, ts, sequence);
        header.flags |= if self.chained { FLAG_LAST } else { FLAG_LAST | FLAG_NO_EVENT_TIME };
        self.out.push(&Quote {
            header,
            bid_price: price(bid_price, bid_size),
            bid_size,
            ask_price: price(ask_price, ask_size),
            ask_size,
        });
        Some(())
    }

    #[inline(always)]
    fn fast_depth(&mut self, mut at: Cursor<'_>, stream: &[u8], combined: bool) -> Option<()> {
        if depth_kind(stream) != DepthKind::Change {
            return None;
        }
        let mut ts = at.time()?;
        if self.chained {
            at.expect(b",\"T\":")?;
            ts = at.time()?;
        }
        at.expect(b",\"s\":\"")?;
        let instrument = self.fast_symbol(&mut at)?;
        if self.chained {
            universe(&mut at)?;
        }
        at.expect(b",\"U\":")?;
        let first = at.integer()?;
        at.expect(b",\"u\":")?;
        let last = at.integer()?;
        let mut previous = first.max(1) - 1;
        if self.chained {
            at.expect(b",\"pu\":")?;
            previous = at.integer()?;
        }
        let span = u32::try_from(last.checked_sub(first)?).ok()?;
        self.fast_levels(at, &Event { instrument, ts, last, previous, span }, combined)
    }

    #[inline(always)]
    fn fast_levels(&mut self, mut at: Cursor<'_>, event: &Event, combined: bool) -> Option<()> {
        let mut level = Level {
            header: self.head::<Level>(event.instrument, event.ts, event.last),
            price: 0,
            size: 0,
            previous: event.previous,
            span: event.span,
            side: Side::Bid as u8,
            channel: Channel::Depth as u8,
            reserved: [0; 2],
        };
        let mut writer = self.out.writer::<Level>(self.bytes.len() / LEVEL_BYTES_MIN + 1);
        at.expect(b",\"b\":[")?;
        fast_side(self.wide, &mut at, &mut level, &mut writer)?;
        level.side = Side::Ask as u8;
        at.expect(b",\"a\":[")?;
        fast_side(self.wide, &mut at, &mut level, &mut writer)?;
        if self.chained {
            universe(&mut at)?;
        }
        end(at, combined)?;
        if writer.is_empty() {
            self.empty(event);
            return Some(());
        }
        writer.commit();
        set_last(self.out);
        Some(())
    }
}

/// Whether this processor reads levels in wide registers.
pub fn has_wide_registers() -> bool {
    #[cfg(target_arch = "x86_64")]
    let has = wide::is_available();
    #[cfg(not(target_arch = "x86_64"))]
    let has = false;
    has
}

/// Reads levels up to the end of their array.
#[inline(always)]
fn fast_side(
    wide: bool,
    at: &mut Cursor<'_>,
    level: &mut Level,
    writer: &mut Writer<'_, Level>,
) -> Option<()> {
    if at.skip(b"]") {
        return Some(());
    }
    loop {
        // SAFETY: `wide` is set only where the processor can do it.
        #[cfg(target_arch = "x86_64")]
        if wide && unsafe { wide::side(at, level, writer) } {
            return Some(());
        }
        #[cfg(not(target_arch = "x86_64"))]
        debug_assert!(!wide);
        at.expect(b"[\"")?;
        level.price = at.price()?;
        at.expect(b"\",\"")?;
        level.size = at.size()?;
        writer.push(level);
        if at.skip(b"\"],") {
            continue;
        }
        return at.expect(b"\"]]");
    }
}

/// Moves over the members that newer futures messages have: pair and universe.
#[inline(always)]
fn universe(at: &mut Cursor<'_>) -> Option<()> {
    if at.skip(b",\"ps\":\"") {
        at.text()?;
        universe_number(at);
    }
    Some(())
}

/// USD-M or COIN-M.
#[inline(always)]
fn universe_number(at: &mut Cursor<'_>) {
    let _ = at.skip(b",\"st\":1") || at.skip(b",\"st\":2");
}

/// Whether the frame ends here.
#[inline(always)]
fn end(mut at: Cursor<'_>, combined: bool) -> Option<()> {
    if combined {
        at.expect(b"}}")?;
    } else {
        at.expect(b"}")?;
    }
    at.is_at_end().then_some(())
}
