//! Order books.
//!
//! [`L2Book`] holds the price levels of one instrument and answers questions about them;
//! [`OrderBooks`] holds single orders. [`Sync`] decides, from sequences alone, whether a book is
//! verified continuous; [`SyncedBook`] is the two together. Nothing leaves a book that is not
//! continuous (see [`SyncState`]). [`BookHistory`] gives the book at any past instant back.

mod checkpoints;
mod continuity;
mod excerpt;
mod history;
mod l2;
mod l3;
mod ladder;
mod order_replay;
mod state;
mod sync;
mod synced;
mod votes;

pub use crate::record::SyncState;
pub use crate::sequencing::Continuity;
pub use excerpt::Excerpt;
pub use history::{BookHistory, BookTape, Moment, Past, PastBook, Unverified};
pub use l2::{Depth, Distance, Fill, L2Book, Touch};
pub use l3::{Applied, Doubts, OpenOrder, OrderBooks, QueuePlace};
pub use ladder::{Levels, PriceLevel};
pub use order_replay::{LastOrder, OrderReplay, CHECKPOINT_KEY};
pub(crate) use state::Cursor;
pub use sync::{
    is_reset, Action, Step, Sync, BUFFERED_LEVELS_MAX, BUFFERED_UPDATES_MAX, STALE_UPDATES_MAX,
};
pub use synced::SyncedBook;
