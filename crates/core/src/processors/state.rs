//! Snapshots of processors as bytes: written and read field by field, little-endian.
//!
//! A snapshot opens with the processor's name and the version of its layout, so that bytes of
//! another processor or version are refused and never half understood.

use crate::error::{Error, Result};
use crate::record::{Channel, Plain};

/// The number of channels.
const CHANNELS: usize = Channel::NAMES.len();

/// Writes a snapshot to the end of a buffer.
#[derive(Debug)]
pub struct StateWriter<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> StateWriter<'a> {
    /// Opens a snapshot of layout `version` of the processor `name`.
    pub fn new(out: &'a mut Vec<u8>, name: &str, version: u32) -> Self {
        let mut writer = Self { out };
        writer.bytes(name.as_bytes());
        writer.u32(version);
        writer
    }

    /// Writes one byte.
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// Writes a flag.
    pub fn flag(&mut self, value: bool) {
        self.out.push(u8::from(value));
    }

    /// Writes a number of 32 bits.
    pub fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes a number of 64 bits.
    pub fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes a signed number of 64 bits.
    pub fn i64(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// Writes a length.
    pub fn length(&mut self, value: usize) {
        self.u64(value as u64);
    }

    /// Writes bytes with their length.
    pub fn bytes(&mut self, value: &[u8]) {
        self.length(value.len());
        self.out.extend_from_slice(value);
    }

    /// Writes a plain value: a record, a header.
    pub fn plain<T: Plain>(&mut self, value: &T) {
        self.out.extend_from_slice(value.as_bytes());
    }
}

/// Reads what a [`StateWriter`] wrote.
#[derive(Debug)]
pub struct StateReader<'a> {
    rest: &'a [u8],
    name: &'static str,
    /// Number of channels when it was written.
    channels: usize,
}

impl<'a> StateReader<'a> {
    /// Opens the snapshot `state` of layout `version` of the processor `name`.
    ///
    /// # Errors
    /// `Error::Invalid`: it is of another processor or version.
    pub fn new(state: &'a [u8], name: &'static str, version: u32) -> Result<Self> {
        Self::of_any(state, name, &[version]).map(|(reader, _)| reader)
    }

    /// Opens the snapshot `state` of any of the layouts `versions` of the processor `name`, and
    /// tells which it is.
    ///
    /// # Errors
    /// As [`StateReader::new`].
    pub fn of_any(state: &'a [u8], name: &'static str, versions: &[u32]) -> Result<(Self, u32)> {
        let mut reader = Self { rest: state, name, channels: CHANNELS };
        let (found, layout) = (reader.bytes()?, reader.u32()?);
        if found != name.as_bytes() || !versions.contains(&layout) {
            let version = versions.iter().map(u32::to_string).collect::<Vec<_>>().join(" or ");
            return Err(Error::invalid(format!(
                "expected a snapshot of {name} in layout {version}, got one of {} in layout \
                 {layout}",
                String::from_utf8_lossy(found)
            )));
        }
        Ok((reader, layout))
    }

    /// Says how many channels there were when it was written. New ones only come behind them.
    ///
    /// # Errors
    /// `Error::Invalid`: there are not so many now.
    pub fn set_channels(&mut self, channels: usize) -> Result<()> {
        if channels == 0 || channels > CHANNELS {
            return Err(Error::invalid(format!(
                "the snapshot of {} is of a newer version: it tells of {channels} channels",
                self.name
            )));
        }
        self.channels = channels;
        Ok(())
    }

    /// How many channels there were when it was written.
    pub const fn channels(&self) -> usize {
        self.channels
    }

    /// Where the entry `place` of a table of instruments by channels is now.
    pub const fn placed(&self, place: usize) -> usize {
        place / self.channels * CHANNELS + place % self.channels
    }

    /// Reads a place in a table of instruments by channels.
    ///
    /// # Errors
    /// As [`StateReader::u8`].
    pub fn place(&mut self) -> Result<u32> {
        let place = self.u32()? as usize;
        u32::try_from(self.placed(place))
            .map_err(|_| Error::invalid(format!("the snapshot of {} has no place", self.name)))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        if length > self.rest.len() {
            return Err(Error::invalid(format!(
                "the snapshot of {} is not whole: expected {length} more bytes, got {}",
                self.name,
                self.rest.len()
            )));
        }
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Reads one byte.
    ///
    /// # Errors
    /// `Error::Invalid`: the snapshot ends before; so for all that follow.
    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    /// Reads a flag.
    ///
    /// # Errors
    /// As [`StateReader::u8`].
    pub fn flag(&mut self) -> Result<bool> {
        Ok(self.u8()? != 0)
    }

    /// Reads a number of 32 bits.
    ///
    /// # Errors
    /// As [`StateReader::u8`].
    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// Reads a number of 64 bits.
    ///
    /// # Errors
    /// As [`StateReader::u8`].
    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// Reads a signed number of 64 bits.
    ///
    /// # Errors
    /// As [`StateReader::u8`].
    pub fn i64(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    /// Reads a length of things that take at least `least` bytes each.
    ///
    /// # Errors
    /// As [`StateReader::u8`]; a length that cannot be is refused before memory is taken for it.
    pub fn length(&mut self, least: usize) -> Result<usize> {
        let length = self.u64()?;
        match usize::try_from(length) {
            Ok(length) if length.saturating_mul(least) <= self.rest.len() => Ok(length),
            _ => Err(Error::invalid(format!(
                "the snapshot of {} is not whole: it tells of {length} things",
                self.name
            ))),
        }
    }

    /// Reads bytes with their length.
    ///
    /// # Errors
    /// As [`StateReader::u8`].
    pub fn bytes(&mut self) -> Result<&'a [u8]> {
        let length = self.length(1)?;
        self.take(length)
    }

    /// Reads a plain value.
    ///
    /// # Errors
    /// As [`StateReader::u8`].
    pub fn plain<T: Plain>(&mut self) -> Result<T> {
        let bytes = self.take(size_of::<T>())?;
        T::read_from(bytes).ok_or_else(|| Error::invalid("a plain value is not whole"))
    }

    /// Whether all was read.
    pub const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Says that all was read.
    ///
    /// # Errors
    /// `Error::Invalid`: bytes are left.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "{} bytes are left after the snapshot of {}",
            self.rest.len(),
            self.name
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_of_fewer_channels_are_found_again() {
        let mut bytes = Vec::new();
        let mut state = StateWriter::new(&mut bytes, "it", 2);
        let fewer = CHANNELS - 2;
        for place in [0, fewer - 1, fewer, 3 * fewer + 4] {
            state.u32(place as u32);
        }
        let (mut reader, version) = StateReader::of_any(&bytes, "it", &[1, 2]).unwrap();
        assert_eq!(version, 2);
        reader.set_channels(fewer).unwrap();
        let found: Vec<_> = (0..4).map(|_| reader.place().unwrap() as usize).collect();
        assert_eq!(found, [0, fewer - 1, CHANNELS, 3 * CHANNELS + 4]);
        reader.finish().unwrap();
    }

    #[test]
    fn states_of_other_versions_are_refused() {
        let mut bytes = Vec::new();
        StateWriter::new(&mut bytes, "it", 3);
        let refusal = StateReader::of_any(&bytes, "it", &[1, 2]).unwrap_err().to_string();
        assert!(refusal.contains("layout 1 or 2"), "{refusal}");
        let mut reader = StateReader::new(&bytes, "it", 3).unwrap();
        assert!(reader.set_channels(CHANNELS + 1).is_err());
        assert!(reader.set_channels(0).is_err());
    }
}
