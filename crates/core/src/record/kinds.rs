//! The small numbers of records: kinds, sides, channels, markers.
//!
//! Each number is stored, so none is ever reused. An unknown one is an error that says so, never
//! another meaning.

use crate::numbered;

numbered! {
    /// What a record is.
    pub enum Kind {
        /// One fill, or the fills of one taker order at one price.
        Trade = 1, "trade";
        /// Best bid and offer.
        Quote = 2, "quote";
        /// One price level of an L2 book set to a size.
        Level = 3, "level";
        /// One event of an order of an L3 book.
        Order = 4, "order";
        /// Open, high, low, close of an interval.
        Bar = 5, "bar";
        /// Halt, resume, price bands.
        Status = 6, "status";
        /// A trade cancelled or busted.
        Correction = 7, "correction";
        /// Snapshot begin and end, gap, reconnect, heartbeat, end of session.
        Marker = 8, "marker";
        /// An instrument: symbols, tick and lot size, validity.
        Definition = 9, "definition";
        /// Mark price, index price and funding of a derivative.
        Mark = 10, "mark";
        /// The uniform view: bid, ask, last price, volume.
        Tick = 11, "tick";
        /// What became of a stream that a recorder asked for.
        Subscription = 12, "subscription";
        /// A split or a dividend.
        CorporateAction = 13, "corporate_action";
        /// One value of one metric.
        Metric = 14, "metric";
        /// What became of an alert.
        Alert = 15, "alert";
        /// What an auction would do if it were held now.
        Imbalance = 16, "imbalance";
    }
}

numbered! {
    /// Which side of the market.
    pub enum Side {
        /// Not known.
        None = 0, "";
        /// A buyer: the taker of a trade, or the bid side of a book.
        Bid = 1, "bid";
        /// A seller: the taker of a trade, or the ask side of a book.
        Ask = 2, "ask";
    }
}

numbered! {
    /// The stream of a venue that a record came on. Sequences are compared within one channel.
    pub enum Channel {
        /// None, or not known.
        None = 0, "";
        /// Single fills.
        Trade = 1, "trade";
        /// Fills grouped by taker order.
        AggTrade = 2, "agg_trade";
        /// Best bid and offer.
        Quote = 3, "quote";
        /// Changes of an L2 book.
        Depth = 4, "depth";
        /// Whole top of an L2 book.
        PartialDepth = 5, "partial_depth";
        /// Bars made by the venue.
        Kline = 6, "kline";
        /// Rolling 24-hour statistics.
        Ticker = 7, "ticker";
        /// Mark price and funding.
        Mark = 8, "mark";
        /// L2 snapshot on request.
        Snapshot = 9, "snapshot";
        /// Instrument definitions.
        Definition = 10, "definition";
        /// The connection itself.
        Session = 11, "session";
        /// Events of orders, one by one.
        Order = 12, "order";
    }
}

numbered! {
    /// What the best prices of an instrument were.
    pub enum QuoteState {
        /// Not known: no book, or one that is not synchronised.
        Unknown = 0, "";
        /// The best bid is below the best ask.
        Ok = 1, "ok";
        /// They are equal.
        Locked = 2, "locked";
        /// The best bid is above the best ask.
        Crossed = 3, "crossed";
        /// There is no bid; nor perhaps an ask.
        EmptyBid = 4, "empty_bid";
        /// There is a bid and no ask.
        EmptyAsk = 5, "empty_ask";
    }
}

numbered! {
    /// What became of an alert.
    pub enum AlertState {
        /// Its condition began to hold.
        Opened = 1, "opened";
        /// There is more evidence, or it is worse.
        Updated = 2, "updated";
        /// Its condition no longer holds, or what it was about is over.
        Closed = 3, "closed";
        /// Somebody has seen it.
        Acknowledged = 4, "acknowledged";
    }
}

numbered! {
    /// How bad an alert is.
    pub enum Severity {
        /// To be known.
        Info = 1, "info";
        /// To be looked at.
        Warning = 2, "warning";
        /// To be looked at now.
        Critical = 3, "critical";
    }
}

numbered! {
    /// What happened to an order of an L3 book.
    pub enum OrderAction {
        /// A new order, behind all others of its price.
        Add = 1, "add";
        /// Another size or price. One that only gets smaller keeps its place in the queue.
        Modify = 2, "modify";
        /// A part of it was cancelled; it keeps its place.
        Cancel = 3, "cancel";
        /// It was executed at its own price, in whole or in part.
        Execute = 4, "execute";
        /// It gave way to a new order of the same side, which stands behind all others.
        Replace = 5, "replace";
        /// It was cancelled.
        Delete = 6, "delete";
        /// It was executed at another price than that at which it was shown.
        ExecuteAtPrice = 7, "execute_at_price";
        /// An order that was never shown was executed. No book changes.
        ExecuteHidden = 8, "execute_hidden";
        /// The orders of an auction were executed in bulk. No book changes.
        Cross = 9, "cross";
        /// An execution was declared void. No book changes.
        Break = 10, "break";
    }
}

numbered! {
    /// The auction in which an execution was made.
    pub enum Cross {
        /// None.
        None = 0, "";
        /// At the open.
        Opening = 1, "opening";
        /// At the close.
        Closing = 2, "closing";
        /// Of a new issue, or after a halt.
        Halt = 3, "halt";
        /// Within the day.
        Intraday = 4, "intraday";
        /// After the close, at its price.
        ExtendedClose = 5, "extended_close";
        /// One that is not known to this build.
        Other = 6, "other";
    }
}

numbered! {
    /// What a marker marks.
    pub enum MarkerCode {
        /// Levels of a snapshot follow; `first` is its sequence, `count` its number of levels. The
        /// bits [`super::SNAPSHOT_CUT`] of `state` say of which side there may be more.
        SnapshotBegin = 1, "snapshot_begin";
        /// All levels of the snapshot were sent.
        SnapshotEnd = 2, "snapshot_end";
        /// Something was lost: see [`GapCause`]. `state` says open, closed or repaired.
        Gap = 3, "gap";
        /// A connection opened. `first` is its number.
        Connected = 4, "connected";
        /// A connection ended. `first` is its number; `state` is [`super::SESSION_ENDS`] where the
        /// recorder closed it because it stops.
        Disconnected = 5, "disconnected";
        /// Nothing happened, and time passed: `ts_recv` is a watermark. `state` is
        /// [`super::ORDERS_BEGIN`] only between the parts of a router.
        Heartbeat = 6, "heartbeat";
        /// The recorder stopped in good order.
        EndOfSession = 7, "end_of_session";
        /// A depth event without levels: only its sequence range matters (`first` to `last`).
        EmptyUpdate = 8, "empty_update";
        /// A raw frame that could not be decoded. `first` is its offset on the raw tape, `last` the
        /// byte at which decoding stopped, `cause` a `DecodeReason`.
        DeadLetter = 9, "dead_letter";
        /// The synchronisation state of a book changed; `state` is the new `SyncState`.
        BookState = 10, "book_state";
        /// A full book follows on the book tape; `first` is its sequence, `count` its levels.
        CheckpointBegin = 11, "checkpoint_begin";
        /// All levels of the checkpoint were written; `last` is the checksum of the book.
        CheckpointEnd = 12, "checkpoint_end";
        /// The host's wall clock stepped, or was found behind the tape: `first` is the recorder's
        /// time and `last` the wall clock's, in ns. `state` is 1 from where receive times are
        /// suspect, and 2 where they are not any more.
        ClockStep = 13, "clock_step";
        /// The venue answered for all streams of a connection: each is carried from here on unless
        /// a [`Kind::Subscription`] says otherwise. `first` is the connection, `last` its line,
        /// `count` the streams that it carries. Of the recorder itself: it notes subscriptions.
        Subscribed = 14, "subscribed";
        /// A story: `first` is the offset of its frame on the raw tape, `last` its place among the
        /// stories of that frame, `ts_start` when it was changed last; `ts_event` is when it was
        /// made, `sequence` its id. The story itself is on the tape of news.
        News = 15, "news";
        /// Events of the source come late: by `first` to `last` ns. Both are 0 where they do not
        /// any more. `state` is 1 where few events told it so far, and from
        /// [`super::DELAY_OF_CHANNEL`] on where the recorder knows it of one channel alone.
        /// `ts_event` is the venue's time up to which all has come.
        Delay = 16, "delay";
    }
}

numbered! {
    /// What became of a stream that a recorder asked for.
    pub enum SubscriptionState {
        /// A connection of its line carries it: the venue agreed, or the venue agrees to nothing.
        Subscribed = 1, "subscribed";
        /// The venue refused it, on every connection of its line.
        Refused = 2, "refused";
        /// Its first message since the recorder started came.
        Spoke = 3, "spoke";
    }
}

numbered! {
    /// Why something was lost.
    pub enum GapCause {
        /// The venue's sequence jumped. `first` to `last` are the missing sequences.
        Sequence = 1, "sequence";
        /// A stream that should speak was silent.
        Silence = 2, "silence";
        /// No connection carried the stream for a while.
        Disconnect = 3, "disconnect";
        /// We shed frames: `count` says how many.
        Overload = 4, "overload";
        /// A frame could not be decoded.
        Decode = 5, "decode";
        /// A reader fell behind retention.
        Retention = 6, "retention";
        /// The venue began to count anew: what was lost in between is not known.
        Reset = 7, "reset";
        /// Items of a tape were damaged, and a repair gave them up.
        Damage = 8, "damage";
    }
}

numbered! {
    /// How far a gap is dealt with.
    pub enum GapState {
        /// Still losing.
        Open = 1, "open";
        /// Its extent is known.
        Closed = 2, "closed";
        /// Filled from the venue's history.
        Repaired = 3, "repaired";
        /// The venue does not keep what is missing.
        Unrecoverable = 4, "unrecoverable";
    }
}

numbered! {
    /// How far a book is verified. The numbers are stored on tapes: never reuse one.
    pub enum SyncState {
        /// Nothing came yet, or the recording session ended.
        Empty = 0, "empty";
        /// Updates are buffered; a snapshot that they continue is needed.
        AwaitingSnapshot = 1, "awaiting_snapshot";
        /// A snapshot is held; the update that continues it is awaited.
        Bridging = 2, "bridging";
        /// The book is verified. The only state in which it is shown.
        Continuous = 3, "continuous";
        /// An update was lost, or cannot be right. Updates are buffered; a new snapshot is needed.
        Broken = 4, "broken";
    }
}

// Of a book of which nothing is known.
#[allow(clippy::derivable_impls)]
impl Default for SyncState {
    fn default() -> Self {
        Self::Empty
    }
}
