//! Reads packets of MoldUDP64 from a socket into an ingest: many of them in one call.

use std::io;
use std::sync::{Mutex, PoisonError};

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use tapeworks_core::feeds::itch;
use tapeworks_core::record::BlobKind;

use crate::ingest::Ingest;
use crate::turns::Turns;

/// Packets that one call of the system reads at most, and the longest there are.
const BATCH: usize = 64;
const PACKET_BYTES_MAX: usize = 65_536;

/// What is missing of the session that the lines of one feed carry.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct MoldHoles {
    inner: Turns<itch::Holes>,
}

/// Name of the session, next message, messages missing, messages given up, whether it is over.
type State<'py> = (Bound<'py, PyBytes>, u64, u64, u64, bool);

#[pymethods]
impl MoldHoles {
    #[new]
    fn new(start_max: u64) -> Self {
        Self { inner: Turns::new(itch::Holes::new(start_max)) }
    }

    /// Takes in what came at `ts_recv`, such as what came last before a restart.
    fn observe(&self, py: Python<'_>, context: &[u8], body: &[u8], ts_recv: i64) -> PyResult<()> {
        self.inner.take(py)?.observe(context, body, ts_recv);
        Ok(())
    }

    /// From now on, what came before the first packet of a session is asked for if it is at most
    /// `start_max` messages.
    fn ask_start(&self, py: Python<'_>, start_max: u64) -> PyResult<()> {
        self.inner.take(py)?.ask_start(start_max);
        Ok(())
    }

    /// What is to be asked for at `now`: first number and messages, of at most `most` holes.
    fn due(
        &self,
        py: Python<'_>,
        now: i64,
        wait_ns: i64,
        retry_ns: i64,
        hold_ns: i64,
        most: usize,
    ) -> PyResult<Vec<(u64, u64)>> {
        Ok(self.inner.take(py)?.due(now, wait_ns, retry_ns, hold_ns, most))
    }

    /// The name of the session, the number of its next message, messages that are missing now, and
    /// those that were given up; whether its sender ended it.
    fn state<'py>(&self, py: Python<'py>) -> PyResult<State<'py>> {
        let (session, next, (missing, given_up), is_over) = {
            let holes = self.inner.take(py)?;
            (*holes.session(), holes.next(), holes.missing(), holes.is_over())
        };
        Ok((PyBytes::new(py, &session), next, missing, given_up, is_over))
    }
}

/// Reads the packets of one connection.
#[pyclass(frozen, module = "tapeworks._core")]
pub struct MoldReader {
    ingest: Py<Ingest>,
    holes: Py<MoldHoles>,
    connection: u16,
    /// The stream that its packets are of; none of a connection that only answers.
    stream: Option<String>,
    buffer: Mutex<Vec<u8>>,
}

#[pymethods]
impl MoldReader {
    #[new]
    fn new(
        ingest: Py<Ingest>,
        holes: Py<MoldHoles>,
        connection: u16,
        stream: Option<String>,
    ) -> Self {
        let buffer = Mutex::new(vec![0; BATCH * PACKET_BYTES_MAX]);
        Self { ingest, holes, connection, stream, buffer }
    }

    /// Takes in what waits in the socket `fd`, which must not block: at most `packets_max` packets,
    /// received at `ts_recv`. Gives the number of packets.
    fn receive(
        &self,
        py: Python<'_>,
        fd: i32,
        ts_recv: i64,
        context: &[u8],
        packets_max: usize,
    ) -> PyResult<usize> {
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lengths = [0; BATCH];
        let mut received = 0;
        while received < packets_max {
            let count = read_packets(fd, &mut buffer, &mut lengths)?;
            let mut holes = self.holes.get().inner.take(py)?;
            self.ingest.get().with(py, |ingest| {
                for (packet, &length) in
                    buffer.chunks_exact(PACKET_BYTES_MAX).zip(&lengths[..count])
                {
                    let packet = &packet[..length];
                    let kind = BlobKind::Binary;
                    ingest.receive(self.connection, kind, ts_recv, context, packet)?;
                    if let Some(stream) = &self.stream {
                        ingest.heard(self.connection, stream, ts_recv)?;
                    }
                    holes.observe(context, packet, ts_recv);
                }
                Ok(())
            })?;
            received += count;
            if count < BATCH {
                break;
            }
        }
        Ok(received)
    }
}

/// Whether a read found nothing, or was only interrupted.
fn is_passing(error: &io::Error) -> bool {
    // Of a request whose server is not there, the socket tells as well.
    let kinds = [
        io::ErrorKind::WouldBlock,
        io::ErrorKind::Interrupted,
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::HostUnreachable,
        io::ErrorKind::NetworkUnreachable,
    ];
    kinds.contains(&error.kind())
}

/// Reads packets into `buffer`, one to each part of it; gives their number.
#[cfg(target_os = "linux")]
fn read_packets(fd: i32, buffer: &mut [u8], lengths: &mut [usize; BATCH]) -> io::Result<usize> {
    let mut parts: Vec<libc::iovec> = buffer
        .chunks_exact_mut(PACKET_BYTES_MAX)
        .map(|part| libc::iovec { iov_base: part.as_mut_ptr().cast(), iov_len: part.len() })
        .collect();
    let mut headers: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|part| {
            // SAFETY: a header of zeros asks for nothing.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            header.msg_hdr.msg_iov = part;
            header.msg_hdr.msg_iovlen = 1;
            header
        })
        .collect();
    let (count, flags) = (headers.len() as libc::c_uint, libc::MSG_DONTWAIT);
    // SAFETY: each header has one part, of the buffer, which outlive the call; no name and no
    // control data are asked for.
    let read = unsafe {
        libc::recvmmsg(fd, headers.as_mut_ptr(), count, flags as _, std::ptr::null_mut())
    };
    let Ok(read) = usize::try_from(read) else {
        let error = io::Error::last_os_error();
        return if is_passing(&error) { Ok(0) } else { Err(error) };
    };
    for (length, header) in lengths.iter_mut().zip(&headers[..read]) {
        *length = header.msg_len as usize;
    }
    Ok(read)
}

/// As above, one by one.
#[cfg(not(target_os = "linux"))]
fn read_packets(fd: i32, buffer: &mut [u8], lengths: &mut [usize; BATCH]) -> io::Result<usize> {
    let mut count = 0;
    for (part, length) in buffer.chunks_exact_mut(PACKET_BYTES_MAX).zip(lengths) {
        let start = part.as_mut_ptr().cast();
        // SAFETY: the part is as long as is told, and outlives the call.
        let read = unsafe { libc::recv(fd, start, part.len(), libc::MSG_DONTWAIT) };
        let Ok(read) = usize::try_from(read) else {
            let error = io::Error::last_os_error();
            if is_passing(&error) {
                break;
            }
            return Err(error);
        };
        (*length, count) = (read, count + 1);
    }
    Ok(count)
}

/// Adds this file's classes to the module.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<MoldHoles>()?;
    module.add_class::<MoldReader>()
}
