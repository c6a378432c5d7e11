//! A seeded market and the frames in which a venue tells of it.
//!
//! [`Market`] moves only when its caller moves the time; the same seed, instruments and times give
//! the same events, however the time is cut into steps and whatever streams are wanted. It gives
//! records; [`Frames`] holds them as the venue's bytes, ready for a WebSocket.

mod alpaca;
mod binance;
mod flow;
mod frames;
mod history;
mod itch;
mod listing;
mod market;
mod massive;
mod past;
mod random;
mod stall;
mod streams;

pub use alpaca::AlpacaMarket;
pub use binance::{recorded_frames, BinanceMarket, Klines, Page};
pub use frames::{Frames, Summary, VenueFrame, Wrapping};
pub use itch::{mold_packets, ItchMarket, MoldPacket, OpenOrder};
pub use listing::Listing;
pub use market::{Event, Facts, Market, MarketConfig};
pub use massive::MassiveMarket;
pub use past::Rows;
pub use streams::StreamKind;
