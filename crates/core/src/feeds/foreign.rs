//! The place of a feed whose decoder is not in this crate, and is given by whoever runs it.

use super::Feed;
use crate::error::{Error, Result};
use crate::instrument::Instruments;
use crate::record::{Blob, Records};

/// Stands where the decoder was not given. Without it nothing can be said of a frame, not even
/// that it is broken: so every frame is an error that stops.
#[derive(Debug, Clone, Copy)]
pub struct Unknown;

impl Unknown {
    fn refusal() -> Error {
        Error::invalid("these frames are of a feed with a decoder of its own: give it")
    }
}

impl Feed for Unknown {
    fn receive(&mut self, _: &Blob<'_>, _: &mut Instruments, _: &mut Records) -> Result<()> {
        Err(Self::refusal())
    }

    fn encode(&mut self, _: &Records, _: &Instruments, _: bool, _: &mut Vec<u8>) -> Result<()> {
        Err(Self::refusal())
    }

    fn restore(&mut self, _: &[u8]) -> Result<()> {
        Err(Self::refusal())
    }
}
