//! The connections that carry a feed.
//!
//! A line is one connection. Lines of one group carry the same streams, so that one stands in for
//! another. The number of the group comes with the marker of the connect, in `last`; a session
//! that has one group leaves it 0.

use super::Arbiter;
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// Serials from here on are those of connections whose opening is not known.
const UNKNOWN: u32 = 1 << 31;

/// The line of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Tells it from every other line, also from an earlier one of the same number.
    pub serial: u32,
    /// Its group.
    pub group: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Open {
    connection: u16,
    group: u16,
    serial: u32,
    /// When something first came on it, on the arbiter's own clock.
    spoke: i64,
    /// When something last came on it before another connection spoke, on the same clock.
    heard: i64,
}

/// Nothing came so far: it did not speak yet, and was not heard.
const NOT_YET: i64 = i64::MAX;
const NEVER: i64 = i64::MIN;

/// The connections that are open now, and the one that the current blob came on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// Open connections in order of opening. Bounded by the numbers there are.
    live: Vec<Open>,
    connection: u16,
    line: Line,
    serial_next: u32,
    /// When something first and last came on `connection` since another one spoke.
    spoke: i64,
    heard: i64,
}

impl Default for Lines {
    fn default() -> Self {
        let line = Line { serial: UNKNOWN, group: 0 };
        Self { live: Vec::new(), connection: 0, line, serial_next: 1, spoke: NOT_YET, heard: NEVER }
    }
}

impl Arbiter {
    /// Whether `connection` is open, by what came so far.
    pub fn is_open(&self, connection: u16) -> bool {
        self.lines.is_live(connection)
    }
}

impl Lines {
    /// Says on which connection the next blob came.
    #[inline]
    pub fn enter(&mut self, connection: u16) {
        if connection != self.connection {
            let before = self.connection;
            if let Some(open) = self.live.iter_mut().find(|open| open.connection == before) {
                (open.spoke, open.heard) = (open.spoke.min(self.spoke), open.heard.max(self.heard));
            }
            (self.spoke, self.heard) = (NOT_YET, NEVER);
            self.connection = connection;
            self.look_up();
        }
    }

    /// Something of the venue came on the connection of the current blob, at `elapsed` on the
    /// arbiter's own clock.
    #[inline]
    pub fn hear(&mut self, elapsed: i64) {
        self.spoke = self.spoke.min(elapsed);
        self.heard = elapsed;
    }

    /// The open connections of `group` but `connection` that had spoken by `since`: when something
    /// last came on each.
    pub fn beside(
        &self,
        group: u16,
        connection: u16,
        since: i64,
    ) -> impl Iterator<Item = (u16, i64)> + '_ {
        let others = self.live.iter();
        let others =
            others.filter(move |open| open.group == group && open.connection != connection);
        let times = others.map(|open| {
            let is_current = open.connection == self.connection;
            let now = if is_current { (self.spoke, self.heard) } else { (NOT_YET, NEVER) };
            (open.connection, open.spoke.min(now.0), open.heard.max(now.1))
        });
        times.filter(move |&(_, spoke, _)| spoke <= since).map(|(it, _, heard)| (it, heard))
    }

    /// The connection of the current blob.
    pub const fn connection(&self) -> u16 {
        self.connection
    }

    /// The line that it is.
    #[inline]
    pub const fn line(&self) -> Line {
        self.line
    }

    /// Whether `connection` is open.
    pub fn is_live(&self, connection: u16) -> bool {
        self.live.iter().any(|open| open.connection == connection)
    }

    /// Whether the line of that serial is open still. One whose opening is not known may be.
    pub fn is_open(&self, serial: u32) -> bool {
        serial >= UNKNOWN || self.live.iter().any(|open| open.serial == serial)
    }

    /// The open connections of `group`.
    pub fn of(&self, group: u16) -> impl Iterator<Item = u16> + '_ {
        self.live.iter().filter(move |open| open.group == group).map(|open| open.connection)
    }

    /// Whether any two lines carry the same streams.
    pub fn has_copies(&self) -> bool {
        self.live.iter().any(|open| self.of(open.group).nth(1).is_some())
    }

    /// A connection opened.
    pub fn connect(&mut self, connection: u16, group: u16) {
        let serial = self.serial_next;
        self.live.push(Open { connection, group, serial, spoke: NOT_YET, heard: NEVER });
        // Where they are used up, an old line is at worst taken for a new one.
        self.serial_next = (self.serial_next + 1) % UNKNOWN;
        self.look_up();
    }

    /// A connection ended. Gives its group if no other of the group is open.
    pub fn disconnect(&mut self, connection: u16) -> Option<u16> {
        let at = self.live.iter().position(|open| open.connection == connection)?;
        let group = self.live.remove(at).group;
        self.look_up();
        self.of(group).next().is_none().then_some(group)
    }

    /// All connections ended.
    pub fn clear(&mut self) {
        self.live.clear();
        self.look_up();
    }

    fn look_up(&mut self) {
        let connection = self.connection;
        let unknown = Line { serial: UNKNOWN | u32::from(connection), group: 0 };
        let open = self.live.iter().find(|open| open.connection == connection);
        self.line = open.map_or(unknown, |open| Line { serial: open.serial, group: open.group });
    }

    /// Writes the lines to a snapshot.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        state.u32(u32::from(self.connection));
        state.u32(self.serial_next);
        state.i64(self.spoke);
        state.i64(self.heard);
        state.length(self.live.len());
        for open in &self.live {
            state.u32(u32::from(open.connection));
            state.u32(u32::from(open.group));
            state.u32(open.serial);
            state.i64(open.spoke);
            state.i64(open.heard);
        }
    }

    /// Reads the lines from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let mut lines = Self { connection: state.u32()? as u16, ..Self::default() };
        lines.serial_next = state.u32()?;
        (lines.spoke, lines.heard) = (state.i64()?, state.i64()?);
        for _ in 0..state.length(28)? {
            let (connection, group) = (state.u32()? as u16, state.u32()? as u16);
            let (serial, spoke, heard) = (state.u32()?, state.i64()?, state.i64()?);
            lines.live.push(Open { connection, group, serial, spoke, heard });
        }
        lines.look_up();
        Ok(lines)
    }
}
