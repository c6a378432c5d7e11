//! Which streams are subscribed, and which of them spoke: noted where that changes.
//!
//! A reconnect of which the venue answers what it answered before changes nothing, so that a venue
//! that cuts every connection cannot fill the tape: it costs one marker, whatever the connection
//! carries. When a line is down, its markers say so.

use std::collections::HashMap;

use super::activity;
use crate::instrument::FastHash;
use crate::record::{
    padded_or_cut, Channel, Header, Plain, Subscription, SubscriptionState, FLAG_RECV_SUSPECT,
};

/// One stream of one line.
#[derive(Debug)]
struct Asked {
    name: String,
    symbol: String,
    channel: Channel,
    line: u16,
    /// The answer of each connection that is open: whether it carries the stream.
    answers: Vec<(u16, bool)>,
    /// What was noted last; none before the first answer.
    noted: Option<SubscriptionState>,
    /// The connection on which it spoke first since the recorder started, until that is noted.
    spoke: Option<u16>,
    spoke_noted: bool,
    /// Whether it is among those that changed.
    is_changed: bool,
}

impl Asked {
    /// What became of it. With no connection open it is as it was.
    fn state(&self) -> Option<(u16, SubscriptionState)> {
        let &(first, _) = self.answers.first()?;
        let carrier = self.answers.iter().find(|&&(_, carries)| carries);
        Some(carrier.map_or((first, SubscriptionState::Refused), |&(connection, _)| {
            (connection, SubscriptionState::Subscribed)
        }))
    }
}

/// All streams that were asked for since the recorder started. Only a session names them, so that a
/// venue cannot make this grow.
#[derive(Debug, Default)]
pub struct Subscriptions {
    streams: Vec<Asked>,
    by_name: HashMap<(u16, Box<str>), usize, FastHash>,
    /// The line of each open connection.
    lines: HashMap<u16, u16, FastHash>,
    /// Streams of which something may have to be noted, in order of their first change. Each is
    /// there once, however often it changes while no record is taken.
    changed: Vec<usize>,
}

impl Subscriptions {
    /// `connection` of `line` opened.
    pub fn connect(&mut self, connection: u16, line: u16) {
        self.disconnect(connection);
        self.lines.insert(connection, line);
    }

    /// The venue answered for all `streams` of `connection`; it refused those whose names are in
    /// `refused`. Gives the line and the number of streams that the connection carries.
    pub fn settle(
        &mut self,
        connection: u16,
        streams: &[activity::Stream],
        refused: &[String],
    ) -> (u16, u32) {
        let line = self.line_of(connection);
        let mut carried = 0;
        for stream in streams {
            let carries = !refused.contains(&stream.name);
            carried += u32::from(carries);
            let index = self.index_of(line, stream);
            let answers = &mut self.streams[index].answers;
            answers.retain(|&(other, _)| other != connection);
            answers.push((connection, carries));
            self.mark_changed(index);
        }
        (line, carried)
    }

    /// `connection` ended.
    pub fn disconnect(&mut self, connection: u16) {
        if self.lines.remove(&connection).is_none() {
            return;
        }
        for index in 0..self.streams.len() {
            let answers = &mut self.streams[index].answers;
            let before = answers.len();
            answers.retain(|&(other, _)| other != connection);
            if answers.len() < before {
                self.mark_changed(index);
            }
        }
    }

    /// The first message of `stream` on `connection` came.
    pub fn hear(&mut self, connection: u16, stream: &activity::Stream) {
        let line = self.line_of(connection);
        let index = self.index_of(line, stream);
        let asked = &mut self.streams[index];
        if asked.spoke.is_none() && !asked.spoke_noted {
            asked.spoke = Some(connection);
            self.mark_changed(index);
        }
    }

    /// Whether [`Subscriptions::take_changes`] may write anything.
    pub fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Writes what changed since the last call to `out`, as records of the feed of that number.
    pub fn take_changes(&mut self, feed: u8, suspect: bool, ts: i64, out: &mut Vec<u8>) {
        for index in std::mem::take(&mut self.changed) {
            let asked = &mut self.streams[index];
            asked.is_changed = false;
            let note = |asked: &Asked, connection: u16, state: SubscriptionState| Subscription {
                header: Header {
                    feed,
                    flags: if suspect { FLAG_RECV_SUSPECT } else { 0 },
                    ts_event: ts,
                    ts_recv: ts,
                    ..Header::of::<Subscription>()
                },
                symbol: padded_or_cut(&asked.symbol),
                stream: padded_or_cut(&asked.name),
                connection,
                line: asked.line,
                channel: asked.channel as u8,
                state: state as u8,
                reserved: [0; 2],
            };
            if let Some((connection, state)) = asked.state() {
                if asked.noted.replace(state) != Some(state) {
                    out.extend_from_slice(note(asked, connection, state).as_bytes());
                }
            }
            if let Some(connection) = asked.spoke.take() {
                asked.spoke_noted = true;
                let spoke = note(asked, connection, SubscriptionState::Spoke);
                out.extend_from_slice(spoke.as_bytes());
            }
        }
    }

    fn mark_changed(&mut self, index: usize) {
        if !std::mem::replace(&mut self.streams[index].is_changed, true) {
            self.changed.push(index);
        }
    }

    fn line_of(&self, connection: u16) -> u16 {
        self.lines.get(&connection).copied().unwrap_or(0)
    }

    fn index_of(&mut self, line: u16, stream: &activity::Stream) -> usize {
        let next = self.streams.len();
        let index = *self.by_name.entry((line, Box::from(stream.name.as_str()))).or_insert(next);
        if index == next {
            self.streams.push(Asked {
                name: stream.name.clone(),
                symbol: stream.symbol.clone(),
                channel: stream.channel,
                line,
                answers: Vec::new(),
                noted: None,
                spoke: None,
                spoke_noted: false,
                is_changed: false,
            });
        }
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{records, unpadded};

    fn streams(names: &[&str]) -> Vec<activity::Stream> {
        let mut activity = activity::Activity::default();
        names.iter().for_each(|name| activity.watch(0, name, "BTCUSDT", Channel::Trade));
        activity.streams(0).to_vec()
    }

    fn changes(subscriptions: &mut Subscriptions) -> Vec<(String, u16, u8)> {
        let mut bytes = Vec::new();
        subscriptions.take_changes(1, false, 7, &mut bytes);
        assert!(!subscriptions.has_changed());
        records::iterate(&bytes)
            .map(|record| record.as_subscription().unwrap())
            .map(|it| (unpadded(&it.stream).to_owned(), it.connection, it.state))
            .collect()
    }

    const SUBSCRIBED: u8 = SubscriptionState::Subscribed as u8;
    const REFUSED: u8 = SubscriptionState::Refused as u8;
    const SPOKE: u8 = SubscriptionState::Spoke as u8;

    #[test]
    fn a_reconnect_with_the_same_answer_notes_nothing() {
        // Whatever a line carries: only what differs from before is worth a record.
        let mut subscriptions = Subscriptions::default();
        let both = streams(&["a", "b"]);
        let refused = ["b".to_owned()];
        subscriptions.connect(0, 5);
        assert_eq!(subscriptions.settle(0, &both, &refused), (5, 1));
        let expected = [("a".to_owned(), 0, SUBSCRIBED), ("b".to_owned(), 0, REFUSED)];
        assert_eq!(changes(&mut subscriptions), expected);
        for _ in 0..3 {
            subscriptions.disconnect(0);
            subscriptions.connect(0, 5);
            subscriptions.settle(0, &both, &refused);
            assert_eq!(changes(&mut subscriptions), []);
        }
        // Now the venue agrees to both.
        subscriptions.connect(1, 5);
        subscriptions.settle(1, &both, &[]);
        assert_eq!(changes(&mut subscriptions), [("b".to_owned(), 1, SUBSCRIBED)]);
    }

    #[test]
    fn a_stream_ends_with_the_last_connection_that_carries_it() {
        // Of two connections that stand in for each other one lacks a stream: when the other ends,
        // nobody carries it, although the line is up.
        let mut subscriptions = Subscriptions::default();
        let both = streams(&["a", "b"]);
        for (connection, refused) in [(0, vec![]), (1, vec!["b".to_owned()])] {
            subscriptions.connect(connection, 5);
            subscriptions.settle(connection, &both, &refused);
        }
        let expected = [("a".to_owned(), 0, SUBSCRIBED), ("b".to_owned(), 0, SUBSCRIBED)];
        assert_eq!(changes(&mut subscriptions), expected);
        subscriptions.disconnect(0);
        assert_eq!(changes(&mut subscriptions), [("b".to_owned(), 1, REFUSED)]);
        subscriptions.disconnect(1);
        assert_eq!(changes(&mut subscriptions), []);
    }

    #[test]
    fn reconnects_take_no_memory_while_no_record_is_taken() {
        // The disk is full for days while the venue cuts every connection and answers differently
        // each time. What is noted in the end is the last of it, once for each stream.
        let mut subscriptions = Subscriptions::default();
        let both = streams(&["a", "b"]);
        for round in 0..10_000 {
            let refused = if round % 2 == 0 { vec!["b".to_owned()] } else { vec![] };
            subscriptions.connect(0, 5);
            subscriptions.settle(0, &both, &refused);
            subscriptions.hear(0, &both[0]);
        }
        assert_eq!(subscriptions.changed.len(), 2);
        assert_eq!(subscriptions.streams[0].answers.len(), 1);
        let expected = [
            ("a".to_owned(), 0, SUBSCRIBED),
            ("a".to_owned(), 0, SPOKE),
            ("b".to_owned(), 0, SUBSCRIBED),
        ];
        assert_eq!(changes(&mut subscriptions), expected);
        // And what changes after that is noted as ever.
        subscriptions.settle(0, &both, &["b".to_owned()]);
        assert_eq!(changes(&mut subscriptions), [("b".to_owned(), 0, REFUSED)]);
    }

    #[test]
    fn the_first_message_of_a_stream_is_noted_once() {
        // Also where it comes before the venue's answer; on another line it is another stream.
        let mut subscriptions = Subscriptions::default();
        let one = streams(&["a"]);
        subscriptions.connect(0, 5);
        subscriptions.hear(0, &one[0]);
        assert_eq!(changes(&mut subscriptions), [("a".to_owned(), 0, SPOKE)]);
        subscriptions.settle(0, &one, &[]);
        assert_eq!(changes(&mut subscriptions), [("a".to_owned(), 0, SUBSCRIBED)]);
        subscriptions.connect(1, 5);
        subscriptions.hear(1, &one[0]);
        assert_eq!(changes(&mut subscriptions), []);
        subscriptions.connect(2, 6);
        subscriptions.hear(2, &one[0]);
        assert_eq!(changes(&mut subscriptions), [("a".to_owned(), 2, SPOKE)]);
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_between_characters() {
        // Bytes of half a character would make the whole name unreadable.
        let name = "币".repeat(60);
        let mut subscriptions = Subscriptions::default();
        subscriptions.connect(0, 0);
        subscriptions.settle(0, &streams(&[&name]), &[]);
        assert_eq!(changes(&mut subscriptions)[0].0, "币".repeat(34));
    }
}
