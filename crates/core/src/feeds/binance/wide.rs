//! Levels of a depth message, both numbers of a level at once, where the processor has AVX2.
//!
//! The time does not depend on how many digits the numbers have: their ends are found in one
//! comparison, and a table says how to line the digits up.

// Most intrinsics need no `unsafe` from Rust 1.86 on; the oldest supported version wants it.
#![allow(unused_unsafe)]

use std::arch::x86_64::*;

use crate::feeds::cursor::Cursor;
use crate::record::records::Writer;
use crate::record::{Level, PRICE_PLACES, SIZE_PLACES};

/// Bytes of a lane: a number is read from one.
const LANE: usize = 16;
/// Digits before the point, and after it, that fit into one lane.
const DIGITS_MAX: usize = 8;
/// Entries a row of the table: 0 to 8 digits, rounded up.
const ROW: usize = 16;

/// Bytes in which the ends of both numbers must be found: one register.
const SEEN: usize = 32;
/// Bytes that are there whenever a level is read: one lane more.
const WINDOW: usize = SEEN + LANE;

/// For each number of digits before and after the point: where each of the 16 digits comes from.
/// Those before the point end at lane 7, those after it begin at lane 8; the rest is zero.
static LINE_UP: [[u8; 16]; ROW * ROW] = line_up();

const fn line_up() -> [[u8; 16]; ROW * ROW] {
    // The high bit makes a zero.
    let mut table = [[0x80; 16]; ROW * ROW];
    let mut before = 0;
    while before <= DIGITS_MAX {
        let mut after = 0;
        while after <= DIGITS_MAX {
            let row = &mut table[before * ROW + after];
            let mut digit = 0;
            while digit < before {
                row[DIGITS_MAX - before + digit] = digit as u8;
                digit += 1;
            }
            digit = 0;
            while digit < after {
                row[DIGITS_MAX + digit] = (before + 1 + digit) as u8;
                digit += 1;
            }
            after += 1;
        }
        before += 1;
    }
    table
}

/// Whether this processor can run [`side`].
pub fn is_available() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("bmi1")
}

/// How many digits a number has, and its length with the point.
#[derive(Clone, Copy)]
struct Form {
    length: usize,
    before: usize,
    after: usize,
}

impl Form {
    /// The form of the number that starts at bit 0 of the masks, where quotes and points stand.
    #[inline(always)]
    const fn of(quotes: u32, points: u32) -> Self {
        let length = quotes.trailing_zeros() as usize;
        // Where there is no point, the closing quote takes its place.
        let before = (points | quotes).trailing_zeros() as usize;
        Self { length, before, after: (length - before).saturating_sub(1) }
    }

    /// Whether it fits into a lane, has digits, not too many, and a point only where digits follow.
    #[inline(always)]
    const fn is_usual(self) -> bool {
        self.length <= LANE
            && self.before.wrapping_sub(1) < DIGITS_MAX
            && self.after <= DIGITS_MAX
            && (self.after > 0) == (self.before != self.length)
    }

    #[inline(always)]
    fn line_up(self) -> &'static [u8; 16] {
        &LINE_UP[(self.before * ROW + self.after) & (ROW * ROW - 1)]
    }
}

/// Reads levels while they are of the usual form: `at` stands at the bracket of one, and stays at
/// the bracket of the first that is not, or goes behind the end of the array. True at the end.
///
/// # Safety
/// The processor has what [`is_available`] asks for.
#[target_feature(enable = "avx2,bmi1")]
pub unsafe fn side(at: &mut Cursor<'_>, level: &Level, writer: &mut Writer<'_, Level>) -> bool {
    let mut level = *level;
    let mut here = *at;
    loop {
        // SAFETY: the caller promises the same.
        let Some((price, size, end)) = (unsafe { read(&here) }) else {
            *at = here;
            return false;
        };
        level.price = price * 10i64.pow(PRICE_PLACES - 8);
        level.size = size * 10i64.pow(SIZE_PLACES - 8);
        writer.push(&level);
        let is_last = here.window::<WINDOW>().is_some_and(|window| window[end] == b']');
        here.advance(end + 1);
        if is_last {
            *at = here;
            return true;
        }
    }
}

/// Price and size, in units of 1e-8, of the level here, and where the comma or bracket after it
/// stands.
#[target_feature(enable = "avx2,bmi1")]
#[inline]
unsafe fn read(here: &Cursor<'_>) -> Option<(i64, i64, usize)> {
    // Near the end of the frame, levels are left to the other way.
    let window: &[u8; WINDOW] = here.window()?;
    // SAFETY: the processor can, as the caller promises.
    let (quotes, points) = unsafe { (matches(window, b'"') >> 2, matches(window, b'.') >> 2) };
    // The price starts at 2, and the size three bytes after its end. No shift is by 32.
    let price = Form::of(quotes, points);
    let behind = |mask: u32| (mask >> (price.length & 31)) >> 3;
    let size = Form::of(behind(quotes), behind(points));
    let end = price.length + size.length + 5;
    if end >= SEEN || !price.is_usual() || !size.is_usual() {
        return None;
    }
    let next = window[end + 2];
    if window[..2] != *b"[\""
        || window[price.length + 2..price.length + 5] != *b"\",\""
        || window[end..end + 2] != *b"\"]"
        || (next != b',' && next != b']')
    {
        return None;
    }
    let texts = [window[2..].first_chunk()?, window[price.length + 5..].first_chunk()?];
    // SAFETY: as above.
    let (price, size) = unsafe { values(texts, [price.line_up(), size.line_up()]) }?;
    Some((price, size, end + 2))
}

/// One bit for each of the bytes seen that is `byte`.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn matches(window: &[u8; WINDOW], byte: u8) -> u32 {
    // SAFETY: `SEEN` bytes of the window are read, at any alignment.
    unsafe {
        let all = _mm256_loadu_si256(window.as_ptr().cast());
        _mm256_movemask_epi8(_mm256_cmpeq_epi8(all, _mm256_set1_epi8(byte as i8))) as u32
    }
}

/// The numbers, in units of 1e-8, of two texts whose digits `orders` line up. `None` where one of
/// them is no digit.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn values(texts: [&[u8; 16]; 2], orders: [&[u8; 16]; 2]) -> Option<(i64, i64)> {
    // SAFETY: each load reads 16 bytes, at any alignment.
    unsafe {
        let load = |bytes: &[u8; 16]| _mm_loadu_si128(bytes.as_ptr().cast());
        let text = _mm256_set_m128i(load(texts[1]), load(texts[0]));
        let order = _mm256_set_m128i(load(orders[1]), load(orders[0]));
        let digits = _mm256_shuffle_epi8(_mm256_xor_si256(text, _mm256_set1_epi8(0x30)), order);
        let nine = _mm256_set1_epi8(9);
        let legal = _mm256_cmpeq_epi8(_mm256_max_epu8(digits, nine), nine);
        // Neighbours are joined: two digits, four, eight.
        let twos = _mm256_maddubs_epi16(digits, _mm256_set1_epi16(0x010a));
        let fours = _mm256_madd_epi16(twos, _mm256_set1_epi32(0x0001_0064));
        let packed = _mm256_packus_epi32(fours, fours);
        let eights = _mm256_madd_epi16(packed, _mm256_set1_epi32(0x0001_2710));
        let low = _mm_cvtsi128_si64(_mm256_castsi256_si128(eights)) as u64;
        let high = _mm_cvtsi128_si64(_mm256_extracti128_si256::<1>(eights)) as u64;
        let join = |pair: u64| ((pair & 0xffff_ffff) * 100_000_000 + (pair >> 32)) as i64;
        (_mm256_movemask_epi8(legal) == -1).then(|| (join(low), join(high)))
    }
}
