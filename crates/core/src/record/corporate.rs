//! Corporate actions: what changes the price of a share without a trade, or its symbol.
//!
//! One names its stock by instrument; days are told as midnight UTC.

use super::Header;

/// A split, a dividend or a change of the symbol of a stock. 128 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct CorporateAction {
    /// `ts_event` is midnight UTC of the day from which on the price is without it: the day of the
    /// execution, or the ex-date; or the first day of the symbol. The day is that of the exchange.
    pub header: Header,
    /// So many shares became `split_to`, units of 1e-9, or [`NONE`]: it is no split.
    pub split_from: i64,
    /// Units of 1e-9, or [`NONE`].
    pub split_to: i64,
    /// Dividend of a share, units of 1e-9, or [`NONE`]: it is no dividend.
    pub cash_amount: i64,
    /// Midnight UTC of the day on which it was declared, in ns, or [`NONE`].
    pub ts_declared: i64,
    /// That of the day whose owners are paid, or [`NONE`].
    pub ts_record: i64,
    /// That of the day of payment, or [`NONE`].
    pub ts_pay: i64,
    /// Currency of the dividend, zero padded; empty: not told.
    pub currency: [u8; 8],
    /// The venue's code of its kind, zero padded.
    pub subtype: [u8; 8],
    /// 1 split, 2 dividend, 3 change of the symbol.
    pub action: u8,
    /// The symbol that the stock had until then, UTF-8, zero padded; empty: it is no change of it.
    pub former: [u8; 24],
    /// Zero.
    pub reserved: [u8; 7],
}
