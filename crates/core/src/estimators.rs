//! Estimators of market microstructure: plain functions of numbers.
//!
//! The live metrics and the functions for research share them, so that both have one definition.
//! None sees a record, a clock or chance; sums are taken in the order of the input, so that the
//! same numbers give the same bits. What has no value is `None`, never 0.

pub mod bar_spreads;
pub mod clock_line;
pub mod hawkes;
pub mod linear;
pub mod microprice;
pub mod ranges;
pub mod realized;
pub mod trade_bars;
