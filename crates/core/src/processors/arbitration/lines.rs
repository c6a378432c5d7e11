//! The connections that carry a feed.
//!
//! A line is one connection. Lines of one group carry the same streams, so that one stands in for
//! another. The number of the group comes with the marker of the connect, in `last`; a session
//! that has one group leaves it 0.

use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};

/// The connections that are open now, and the one that the current blob came on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lines {
    /// Open connections and their groups, in order of opening. Bounded by the numbers there are.
    live: Vec<(u16, u16)>,
    connection: u16,
    group: u16,
}

impl Lines {
    /// Says on which connection the next blob came.
    #[inline]
    pub fn enter(&mut self, connection: u16) {
        if connection != self.connection {
            self.connection = connection;
            self.look_up();
        }
    }

    /// The connection of the current blob.
    pub const fn connection(&self) -> u16 {
        self.connection
    }

    /// The group of that connection.
    #[inline]
    pub const fn group(&self) -> u16 {
        self.group
    }

    /// Whether `connection` is open.
    pub fn is_live(&self, connection: u16) -> bool {
        self.live.iter().any(|line| line.0 == connection)
    }

    /// The open connections of `group`.
    pub fn of(&self, group: u16) -> impl Iterator<Item = u16> + '_ {
        self.live.iter().filter(move |line| line.1 == group).map(|line| line.0)
    }

    /// A connection opened.
    pub fn connect(&mut self, connection: u16, group: u16) {
        self.live.push((connection, group));
        self.look_up();
    }

    /// A connection ended. Gives its group if no other of the group is open.
    pub fn disconnect(&mut self, connection: u16) -> Option<u16> {
        let at = self.live.iter().position(|line| line.0 == connection)?;
        let (_, group) = self.live.remove(at);
        self.of(group).next().is_none().then_some(group)
    }

    /// All connections ended.
    pub fn clear(&mut self) {
        self.live.clear();
    }

    fn look_up(&mut self) {
        let wanted = self.connection;
        self.group = self.live.iter().find(|line| line.0 == wanted).map_or(0, |line| line.1);
    }

    /// Writes the lines to a snapshot.
    pub fn write(&self, state: &mut StateWriter<'_>) {
        state.u32(u32::from(self.connection));
        state.u32(u32::from(self.group));
        state.length(self.live.len());
        for &(connection, group) in &self.live {
            state.u32(u32::from(connection));
            state.u32(u32::from(group));
        }
    }

    /// Reads the lines from a snapshot.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot is not whole.
    pub fn read(state: &mut StateReader<'_>) -> Result<Self> {
        let (connection, group) = (state.u32()? as u16, state.u32()? as u16);
        let count = state.length(8)?;
        let mut live = Vec::with_capacity(count);
        for _ in 0..count {
            live.push((state.u32()? as u16, state.u32()? as u16));
        }
        Ok(Self { live, connection, group })
    }
}
