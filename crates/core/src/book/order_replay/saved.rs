//! Checkpoints of a replay as bytes.
//!
//! Little-endian:
//! ```text
//! offset  size  field
//!      0     8  "TWORDR" and the version as u16
//!      8    32  key: of which instrument, tape and files it is; its maker alone knows its meaning
//!     40     8  offset on the tape: all events before it are in the checkpoint
//!     48   176  22 numbers: see `OrderReplay::numbers`
//!    224     8  number of bids
//!    232     8  number of asks
//!    240     4  CRC-32C of all other bytes
//!    244     4  zero
//!    248    32  each order, bids first, by price and place in the queue: id, price, size, ts_event
//! ```

use super::limits::Limits;
use super::{LastOrder, OrderReplay, INSTRUMENT, KEPT};
use crate::book::l3::{Applied, Doubts, OrderBooks};
use crate::record::{Header, Order, OrderAction, Side, NONE};

const MAGIC: [u8; 8] = *b"TWORDR\x01\x00";
const NUMBERS: usize = 22;
const COUNTS_AT: usize = 48 + NUMBERS * 8;
const SUM_AT: usize = COUNTS_AT + 16;
const HEAD: usize = SUM_AT + 8;
const ORDER: usize = 32;
const SIDES: [Side; 2] = [Side::Bid, Side::Ask];

/// Bytes of a key.
pub const KEY: usize = 32;

impl OrderReplay {
    /// The checkpoint of all events before `offset`, which are those so far; `None` where some were
    /// left out, or some are held.
    pub fn save(&self, key: &[u8; KEY], offset: u64) -> Option<Vec<u8>> {
        if self.is_bound || self.is_cut || !self.held.is_empty() {
            return None;
        }
        let mut bytes = Vec::with_capacity(HEAD + self.len() * ORDER);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(&offset.to_le_bytes());
        self.numbers().iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
        bytes.resize(HEAD, 0);
        for (at, side) in SIDES.into_iter().enumerate() {
            let mut count = 0_u64;
            for order in self.orders(side) {
                bytes.extend_from_slice(&order.id.to_le_bytes());
                for number in [order.price, order.size, order.ts_event] {
                    bytes.extend_from_slice(&number.to_le_bytes());
                }
                count += 1;
            }
            bytes[COUNTS_AT + at * 8..][..8].copy_from_slice(&count.to_le_bytes());
        }
        let sum = checksum(&bytes).to_le_bytes();
        bytes[SUM_AT..SUM_AT + 4].copy_from_slice(&sum);
        Some(bytes)
    }

    /// The replay that goes on behind the checkpoint of `offset` in `bytes`, for events that
    /// happened up to `until` and were received before `before`. `None` if the checkpoint is not
    /// whole, has another key, version or offset, or holds what a replay of these would not.
    pub fn restore(
        bytes: &[u8],
        key: &[u8; KEY],
        offset: u64,
        until: Option<i64>,
        before: i64,
    ) -> Option<Self> {
        let head = bytes.get(..HEAD)?;
        let is_it = head[..8] == MAGIC && head[8..40] == *key && word(head, 40)? == offset;
        let is_whole = u32::from_le_bytes(head[SUM_AT..SUM_AT + 4].try_into().ok()?)
            == checksum(bytes)
            && (bytes.len() - HEAD) % ORDER == 0;
        if !is_it || !is_whole {
            return None;
        }
        let mut numbers = [0; NUMBERS];
        for (at, number) in numbers.iter_mut().enumerate() {
            *number = word(head, 48 + at * 8)?;
        }
        let mut replay = Self::of(&numbers);
        let limits = &replay.limits;
        let is_usable = until.is_none_or(|until| limits.complete_from() <= until);
        if !is_usable || limits.received() >= before {
            return None;
        }
        let bids = word(head, COUNTS_AT)?;
        let orders = bytes[HEAD..].chunks_exact(ORDER);
        if bids.checked_add(word(head, COUNTS_AT + 8)?)? != orders.len() as u64 {
            return None;
        }
        for (at, order) in orders.enumerate() {
            let side = if (at as u64) < bids { Side::Bid } else { Side::Ask };
            if replay.books.apply(&added(order, side)?) != Applied::Changed {
                return None;
            }
        }
        Some(replay)
    }

    /// All of a replay but its orders.
    fn numbers(&self) -> [u64; NUMBERS] {
        let last = self.last.unwrap_or(LastOrder { sequence: 0, ts_event: NONE, ts_recv: NONE });
        let doubts = self.doubts();
        let limits = &self.limits;
        let [lead_0, lead_1, lead_2] = self.leads.map(|time| time as u64);
        let [below_1, below_2, below_3] = limits.below.map(|time| time as u64);
        [
            self.number,
            self.seen,
            lead_0,
            lead_1,
            lead_2,
            u64::from(self.last.is_some()),
            last.sequence,
            last.ts_event as u64,
            last.ts_recv as u64,
            self.events,
            self.suspect,
            doubts.unknown,
            doubts.excess,
            doubts.repeated,
            doubts.unfit,
            below_1,
            below_2,
            below_3,
            limits.floor as u64,
            limits.block_least as u64,
            u64::from(limits.block_events),
            limits.received as u64,
        ]
    }

    /// What [`OrderReplay::numbers`] gave, without orders.
    fn of(numbers: &[u64; NUMBERS]) -> Self {
        let time = |at: usize| numbers[at] as i64;
        let mut leads = [0; KEPT];
        leads.iter_mut().enumerate().for_each(|(at, lead)| *lead = time(2 + at));
        let last = LastOrder { sequence: numbers[6], ts_event: time(7), ts_recv: time(8) };
        let doubts = Doubts {
            unknown: numbers[11],
            excess: numbers[12],
            repeated: numbers[13],
            unfit: numbers[14],
        };
        let limits = Limits {
            below: [time(15), time(16), time(17)],
            floor: time(18),
            block_least: time(19),
            block_events: numbers[20] as u32,
            received: time(21),
        };
        Self {
            books: OrderBooks::with_doubts(doubts),
            number: numbers[0],
            seen: numbers[1],
            leads,
            last: (numbers[5] != 0).then_some(last),
            events: numbers[9],
            suspect: numbers[10],
            limits,
            ..Self::default()
        }
    }
}

/// The event that puts an order of a checkpoint into the book.
fn added(bytes: &[u8], side: Side) -> Option<Order> {
    let number = |at: usize| word(bytes, at).map(|number| number as i64);
    Some(Order {
        header: Header { instrument: INSTRUMENT, ts_event: number(24)?, ..Header::of::<Order>() },
        price: number(8)?,
        size: number(16)?,
        order_id: word(bytes, 0)?,
        previous_id: 0,
        match_id: 0,
        order_price: NONE,
        remaining: NONE,
        participant: [0; 8],
        action: OrderAction::Add as u8,
        side: side as u8,
        cross: 0,
        printed: 0,
        reserved: [0; 28],
    })
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().map(u64::from_le_bytes).ok()
}

fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[..SUM_AT]), &bytes[HEAD - 4..])
}
