//! The receiving half of a WebSocket client (RFC 6455), as a state machine without I/O.
//!
//! It takes the bytes of one read from a socket at a time and passes on the whole messages in
//! them, most of them without a copy. What it holds between two reads is bounded: the front of one
//! frame and the parts of one message, up to `message_bytes_max` each.
//!
//! The payload of a text message is not checked to be UTF-8: it goes to the tape as it came.

/// Opcode of a frame that continues a message.
const CONTINUATION: u8 = 0x0;
/// Opcode of a text message.
pub const TEXT: u8 = 0x1;
/// Opcode of a binary message.
pub const BINARY: u8 = 0x2;
/// Opcode of a close frame.
pub const CLOSE: u8 = 0x8;
/// Opcode of a ping.
pub const PING: u8 = 0x9;
/// Opcode of a pong.
pub const PONG: u8 = 0xA;

/// Close code: the peer broke the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// Close code: a payload that should be UTF-8 is not.
pub const INVALID_TEXT: u16 = 1007;
/// Close code: a message breaks a limit of ours.
pub const POLICY_VIOLATION: u16 = 1008;
/// Close code: a message is too long.
pub const MESSAGE_TOO_BIG: u16 = 1009;
/// Stands for a close frame without a code; never sent (section 7.4.1).
pub const NO_CLOSE_CODE: u16 = 1005;

const CONTROL_BYTES_MAX: usize = 125;
/// Room beyond this is given back once a long message is through.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// What one venue may send at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebSocketLimits {
    /// Longest message, in one frame or in many.
    pub message_bytes_max: usize,
    /// Most frames of one message: empty ones add no bytes, but time.
    pub fragments_max: u32,
}

/// What the peer sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebSocketEvent<'a> {
    /// A whole text message.
    Text(&'a [u8]),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered with a pong of the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The peer closes; nothing that follows is read.
    Close {
        /// Its code, [`NO_CLOSE_CODE`] if it gave none.
        code: u16,
        /// Its reason.
        reason: &'a str,
    },
}

/// Why the connection must be failed: the peer broke the protocol or a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebSocketFault {
    /// The close code to send.
    pub code: u16,
    /// What is wrong, in words.
    pub reason: String,
}

impl WebSocketFault {
    fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }
}

/// The state between two reads.
#[derive(Debug)]
pub struct WebSocketReader {
    limits: WebSocketLimits,
    /// The front of a frame whose rest has not come yet.
    partial: Vec<u8>,
    /// The fragments so far of a message in several frames.
    message: Vec<u8>,
    /// Opcode of that message, if there is one.
    opcode: Option<u8>,
    fragments: u32,
    is_done: bool,
}

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FrameHead {
    opcode: u8,
    fin: bool,
    /// Bytes of the header.
    head: usize,
    /// Bytes of the header and the payload.
    size: usize,
}

impl WebSocketReader {
    /// A reader of a connection that was just upgraded.
    pub const fn new(limits: WebSocketLimits) -> Self {
        Self {
            limits,
            partial: Vec::new(),
            message: Vec::new(),
            opcode: None,
            fragments: 0,
            is_done: false,
        }
    }

    /// Takes in `bytes`, which follow those of the last call, and passes on each whole message and
    /// control frame in the order of their ends. After a close or a fault nothing is read.
    ///
    /// # Errors
    /// What `on_event` returns, or a [`WebSocketFault`]: fail the connection.
    #[inline]
    pub fn read<E: From<WebSocketFault>>(
        &mut self,
        bytes: &[u8],
        mut on_event: impl FnMut(WebSocketEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let done = self.read_frames(bytes, &mut on_event);
        if done.is_err() {
            self.is_done = true;
        }
        done
    }

    /// Opcode and fragments so far of a message that has not ended, if there is one.
    pub fn unfinished(&self) -> Option<(u8, &[u8])> {
        self.opcode.map(|opcode| (opcode, self.message.as_slice()))
    }

    fn read_frames<E: From<WebSocketFault>>(
        &mut self,
        bytes: &[u8],
        on_event: &mut impl FnMut(WebSocketEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut rest = bytes;
        if !self.partial.is_empty() && !self.is_done {
            match self.complete_partial(rest)? {
                None => return Ok(()),
                Some((frame, used)) => {
                    rest = &rest[used..];
                    let partial = std::mem::take(&mut self.partial);
                    self.take_frame(frame, &partial[frame.head..frame.size], on_event)?;
                    self.partial = emptied(partial);
                }
            }
        }
        while !self.is_done {
            match self.head_of(rest)? {
                Some(frame) if frame.size <= rest.len() => {
                    self.take_frame(frame, &rest[frame.head..frame.size], on_event)?;
                    rest = &rest[frame.size..];
                }
                _ => {
                    self.partial.extend_from_slice(rest);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Adds to the partial frame what of `bytes` belongs to it. Gives the frame and how many of
    /// `bytes` it took, once it is whole.
    fn complete_partial(
        &mut self,
        bytes: &[u8],
    ) -> Result<Option<(FrameHead, usize)>, WebSocketFault> {
        let mut used = 0;
        loop {
            let wanted = match self.head_of(&self.partial)? {
                Some(frame) if frame.size == self.partial.len() => {
                    return Ok(Some((frame, used)));
                }
                Some(frame) => frame.size - self.partial.len(),
                // Byte by byte until the header is there: it has ten bytes at most.
                None => 1,
            };
            let part = wanted.min(bytes.len() - used);
            if part == 0 {
                return Ok(None);
            }
            self.partial.extend_from_slice(&bytes[used..used + part]);
            used += part;
        }
    }

    /// The header at the front of `bytes`, checked; none if it is not whole.
    #[inline]
    fn head_of(&self, bytes: &[u8]) -> Result<Option<FrameHead>, WebSocketFault> {
        let &[first, second, ..] = bytes else { return Ok(None) };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
        if first & 0x70 != 0 {
            return Err(broken(format!("expected no reserved bits, got {first:#04x}")));
        }
        if second & 0x80 != 0 {
            return Err(broken("expected unmasked frames of a server, got a masked one"));
        }
        let (head, length) = match second & 0x7F {
            126 => match bytes.get(2..4) {
                None => return Ok(None),
                Some(field) => (4, u64::from(u16::from_be_bytes([field[0], field[1]]))),
            },
            127 => match bytes.get(2..10).and_then(|field| field.try_into().ok()) {
                None => return Ok(None),
                Some(field) => (10, u64::from_be_bytes(field)),
            },
            short => (2, u64::from(short)),
        };
        match opcode {
            CONTINUATION | TEXT | BINARY => {
                let held = if opcode == CONTINUATION { self.message.len() } else { 0 };
                let room = self.limits.message_bytes_max.saturating_sub(held);
                if length > room as u64 {
                    let most = self.limits.message_bytes_max;
                    return Err(WebSocketFault::new(
                        MESSAGE_TOO_BIG,
                        format!("expected messages of at most {most} bytes, got {length} more"),
                    ));
                }
            }
            CLOSE | PING | PONG => {
                if !fin || length > CONTROL_BYTES_MAX as u64 {
                    return Err(broken(format!(
                        "expected a whole control frame of at most {CONTROL_BYTES_MAX} bytes, got \
                         one of {length} bytes, final: {fin}"
                    )));
                }
            }
            _ => return Err(broken(format!("expected a known opcode, got {opcode:#x}"))),
        }
        // Section 5.2: the shortest form must be used, and the top bit is zero. The length passed
        // a limit already, so that only the first is left to be checked.
        if (head == 4 && length < 126) || (head == 10 && length <= u64::from(u16::MAX)) {
            return Err(broken(format!("expected the shortest form of the length {length}")));
        }
        Ok(Some(FrameHead { opcode, fin, head, size: head + length as usize }))
    }

    #[inline]
    fn take_frame<E: From<WebSocketFault>>(
        &mut self,
        frame: FrameHead,
        payload: &[u8],
        on_event: &mut impl FnMut(WebSocketEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        match frame.opcode {
            TEXT | BINARY if self.opcode.is_some() => {
                Err(broken("expected the rest of a message in fragments, got a new message").into())
            }
            TEXT if frame.fin => on_event(WebSocketEvent::Text(payload)),
            BINARY if frame.fin => on_event(WebSocketEvent::Binary(payload)),
            PING => on_event(WebSocketEvent::Ping(payload)),
            PONG => on_event(WebSocketEvent::Pong(payload)),
            CLOSE => {
                self.is_done = true;
                let (code, reason) = close_of(payload)?;
                on_event(WebSocketEvent::Close { code, reason })
            }
            _ => self.take_fragment(frame, payload, on_event),
        }
    }

    fn take_fragment<E: From<WebSocketFault>>(
        &mut self,
        frame: FrameHead,
        payload: &[u8],
        on_event: &mut impl FnMut(WebSocketEvent<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if frame.opcode != CONTINUATION {
            self.opcode = Some(frame.opcode);
            self.fragments = 0;
        }
        let Some(opcode) = self.opcode else {
            return Err(broken("expected a message, got a fragment without its start").into());
        };
        self.fragments += 1;
        if self.fragments > self.limits.fragments_max {
            let most = self.limits.fragments_max;
            return Err(WebSocketFault::new(
                POLICY_VIOLATION,
                format!("expected messages of at most {most} fragments, got more"),
            )
            .into());
        }
        self.message.extend_from_slice(payload);
        if !frame.fin {
            return Ok(());
        }
        self.opcode = None;
        let message = std::mem::take(&mut self.message);
        let event = match opcode {
            TEXT => WebSocketEvent::Text(&message),
            _ => WebSocketEvent::Binary(&message),
        };
        on_event(event)?;
        self.message = emptied(message);
        Ok(())
    }
}

fn broken(reason: impl Into<String>) -> WebSocketFault {
    WebSocketFault::new(PROTOCOL_ERROR, reason)
}

/// `buffer` without its contents, and without its room if that is large.
fn emptied(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer.shrink_to(KEPT_BYTES_MAX);
    buffer
}

/// Code and reason of a close frame.
fn close_of(payload: &[u8]) -> Result<(u16, &str), WebSocketFault> {
    match payload {
        [] => Ok((NO_CLOSE_CODE, "")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            // Sections 7.4.1 and 7.4.2: what an endpoint may send.
            if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                return Err(broken(format!("expected a valid close code, got {code}")));
            }
            match std::str::from_utf8(reason) {
                Ok(reason) => Ok((code, reason)),
                Err(_) => Err(WebSocketFault::new(
                    INVALID_TEXT,
                    "expected the reason of a close frame in UTF-8, got other bytes",
                )),
            }
        }
        _ => Err(broken("expected a close code of two bytes, got one byte")),
    }
}

#[cfg(test)]
mod tests;
