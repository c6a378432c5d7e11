//! The bytes of one read of a WebSocket, taken in at once.

use super::Ingest;
use crate::error::{Error, Result};
use crate::record::BlobKind;
use crate::websocket::{WebSocketEvent, WebSocketFault, WebSocketReader};

/// What a session should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketEvent {
    /// A text message that is not market data. It is taken in already.
    Text(Vec<u8>),
    /// A binary message that is not market data. It is taken in already.
    Binary(Vec<u8>),
    /// The newest ping of the read: one pong answers those before it as well (RFC 6455, 5.5.3).
    Ping(Vec<u8>),
    /// The venue closes the connection.
    Close {
        /// Its close code.
        code: u16,
        /// Its reason.
        reason: String,
    },
    /// The venue broke the protocol or a limit: fail the connection.
    Fault(WebSocketFault),
}

/// Why a read ended early.
enum Stop {
    Fault(WebSocketFault),
    Failure(Error),
}

impl From<WebSocketFault> for Stop {
    fn from(fault: WebSocketFault) -> Self {
        Self::Fault(fault)
    }
}

impl Ingest {
    /// Takes in all messages that end in `bytes`, the bytes of one read from the socket that
    /// `reader` follows, received at `ts_recv`, and appends what the session should look at to
    /// `events`, in the order of its coming. As with [`Ingest::receive`], call [`Ingest::flush`] to
    /// publish.
    ///
    /// # Errors
    /// As [`Ingest::receive`]. What the venue did wrong is an event.
    pub fn receive_read(
        &mut self,
        reader: &mut WebSocketReader,
        connection: u16,
        ts_recv: i64,
        bytes: &[u8],
        events: &mut Vec<SocketEvent>,
    ) -> Result<()> {
        let mut ping = None;
        let done = reader.read(bytes, |event| {
            match event {
                WebSocketEvent::Text(body) => {
                    if self.take(connection, BlobKind::Text, ts_recv, body)? {
                        events.push(SocketEvent::Text(body.to_vec()));
                    }
                }
                WebSocketEvent::Binary(body) => {
                    if self.take(connection, BlobKind::Binary, ts_recv, body)? {
                        events.push(SocketEvent::Binary(body.to_vec()));
                    }
                }
                WebSocketEvent::Ping(body) => ping = Some(body.to_vec()),
                WebSocketEvent::Pong(_) => {}
                WebSocketEvent::Close { code, reason } => {
                    events.push(SocketEvent::Close { code, reason: reason.to_owned() });
                }
            }
            Ok(())
        });
        // A pong is due even if the read ends with a close.
        if let Some(ping) = ping {
            events.insert(0, SocketEvent::Ping(ping));
        }
        match done {
            Ok(()) => Ok(()),
            Err(Stop::Fault(fault)) => {
                events.push(SocketEvent::Fault(fault));
                Ok(())
            }
            Err(Stop::Failure(error)) => Err(error),
        }
    }

    #[inline]
    fn take(
        &mut self,
        connection: u16,
        kind: BlobKind,
        ts_recv: i64,
        body: &[u8],
    ) -> std::result::Result<bool, Stop> {
        self.receive(connection, kind, ts_recv, &[], body).map_err(Stop::Failure)
    }
}
