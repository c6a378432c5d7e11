//! Values of fields that are no plain integer: turnovers, and zero-padded text.

/// Price times size, or a sum of such, in units of 1e-17, as a 128-bit integer in two halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Turnover {
    /// Low 64 bits.
    pub low: u64,
    /// High 64 bits, signed.
    pub high: i64,
}

impl From<i128> for Turnover {
    fn from(value: i128) -> Self {
        Self { low: value as u64, high: (value >> 64) as i64 }
    }
}

impl From<Turnover> for i128 {
    fn from(value: Turnover) -> Self {
        (Self::from(value.high) << 64) | Self::from(value.low)
    }
}

/// Puts `text` into a zero-padded field. `None` if it is longer than the field.
pub fn padded<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut field = [0; N];
    field.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(field)
}

/// The number that stands for a topic where a record has no room for its name. 0: it is not known.
pub const fn topic_number(topic: &str) -> u64 {
    number_of(topic.as_bytes())
}

/// The number that stands for a text: FNV-1a, 64 bits; 0 if it is empty or not known.
pub(crate) const fn number_of(bytes: &[u8]) -> u64 {
    if bytes.is_empty() {
        return 0;
    }
    let (mut at, mut number) = (0, 0xCBF2_9CE4_8422_2325_u64);
    while at < bytes.len() {
        number = (number ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01B3);
        at += 1;
    }
    number
}

/// Puts as much of `text` into a zero-padded field as it holds.
pub fn padded_or_cut<const N: usize>(text: &str) -> [u8; N] {
    let end = (0..=N.min(text.len())).rev().find(|&end| text.is_char_boundary(end));
    padded(&text[..end.unwrap_or(0)]).unwrap_or([0; N])
}

/// The text of a zero-padded field; empty if it is not UTF-8.
pub fn unpadded(field: &[u8]) -> &str {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    std::str::from_utf8(&field[..end]).unwrap_or("")
}
