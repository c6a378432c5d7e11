//! Binance spot and USD-M futures.

use super::{Feed, FeedId};
use crate::error::{Error, Result};
use crate::instrument::Instruments;
use crate::record::{Blob, Records};

/// The wire format of Binance.
#[derive(Debug)]
pub struct Binance {
    feed: FeedId,
}

impl Binance {
    /// A decoder and encoder of the product `feed`.
    pub const fn new(feed: FeedId) -> Self {
        Self { feed }
    }
}

impl Feed for Binance {
    fn receive(&mut self, _: &Blob<'_>, _: &mut Instruments, _: &mut Records) -> Result<()> {
        Err(Error::invalid(format!("no decoder of {} yet", self.feed.name())))
    }

    fn encode(&mut self, _: &Records, _: &Instruments, _: bool, _: &mut Vec<u8>) -> Result<()> {
        Err(Error::invalid(format!("no encoder of {} yet", self.feed.name())))
    }
}
