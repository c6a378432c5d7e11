//! Records as Protocol Buffers messages and back: `tapeworks.v1.MarketData`.
//!
//! [`table`] says which field of a record has which number, once for both directions. How a field
//! is written follows from its meaning in the layout: prices and sizes are zigzag varints of the
//! stored integers, times are fixed 64-bit integers, numbers are varints. An absent value is not
//! written; of a plain number, zero is not either.

pub mod decode;
pub mod encode;
pub mod table;
pub mod unpack;
mod wire;

pub use decode::{Decoder, Origin};
pub use encode::{Choice, EncodedBatch, Encoder};
pub use unpack::{Reached, Rejected, Unpacked, Unpacker};
