//! Order books.
//!
//! [`L2Book`] holds the price levels of one instrument and answers questions about them. [`Sync`]
//! decides, from sequences alone, whether a book is proven continuous; [`SyncedBook`] is the two
//! together, and [`SyncTracker`] many of the second without the first. Nothing leaves a book that
//! is not continuous (see [`SyncState`]).

mod l2;
mod ladder;
mod sync;
mod synced;
mod tracker;

pub use l2::{Depth, Distance, Fill, L2Book, Touch};
pub use ladder::{Levels, PriceLevel};
pub use sync::{
    Action, Continuity, Step, Sync, SyncState, BUFFERED_LEVELS_MAX, BUFFERED_UPDATES_MAX,
};
pub use synced::SyncedBook;
pub use tracker::SyncTracker;
