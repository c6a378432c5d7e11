//! What an auction would do if it were held now: told again and again before it.

use super::{Header, NONE};

/// What is paired in an auction to come, what is not, and at which prices it would be. 128 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Imbalance {
    /// `sequence` is the venue's number of the message; 0 where it has none.
    pub header: Header,
    /// What would be executed at the reference price, units of 1e-8, or [`NONE`].
    pub paired_size: i64,
    /// What would be left of the larger side, units of 1e-8, or [`NONE`].
    pub imbalance_size: i64,
    /// The price to which sizes refer, units of 1e-9, or [`NONE`].
    pub reference_price: i64,
    /// The price at which the orders of the auction and those of the book together would be
    /// executed, units of 1e-9, or [`NONE`]: there is none.
    pub near_price: i64,
    /// That of the orders of the auction alone, units of 1e-9, or [`NONE`].
    pub far_price: i64,
    /// The venue's own letters, zero padded: of ITCH the type of the cross, the direction, the
    /// variation of the near price; of Massive the type of the auction.
    pub code: [u8; 8],
    /// When it is planned, as hour times 100 and minute by the clock of the exchange; 0: not told.
    pub auction_time: u16,
    /// A [`super::Side`]: the larger one. `Bid`: there is more to buy.
    pub side: u8,
    /// A [`super::Cross`]: which auction it is.
    pub cross: u8,
    /// Its place in [`Self::STATES`]: 1 there are too few orders to tell, 2 the auction is paused.
    pub state: u8,
    /// Zero.
    pub reserved: [u8; 43],
}

impl Imbalance {
    /// Names of `state`.
    pub const STATES: [&'static str; 3] = ["", "insufficient", "paused"];

    /// One of which nothing is known.
    pub const fn unknown(header: Header) -> Self {
        Self {
            header,
            paired_size: NONE,
            imbalance_size: NONE,
            reference_price: NONE,
            near_price: NONE,
            far_price: NONE,
            code: [0; 8],
            auction_time: 0,
            side: 0,
            cross: 0,
            state: 0,
            reserved: [0; 43],
        }
    }
}
