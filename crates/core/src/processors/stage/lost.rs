//! How a stage goes on behind input that is gone.

use super::config::gap_of;
use super::{newest, Loss, Stage};
use crate::error::{Error, Result};
use crate::tape::TapeKind;

impl Stage {
    /// Goes on at `first`, as the input before it is gone. The loss is declared.
    pub(super) fn skip_to(&mut self, first: u64, write: bool) -> Result<usize> {
        let from = self.position;
        let known = self.output.last_ts_recv().unwrap_or(i64::MIN);
        let ts_start = if self.ts_recv == i64::MIN { known } else { self.ts_recv };
        let (first, ts_recv) = self.first_kept(first)?;
        self.ts_recv = self.ts_recv.max(ts_recv);
        let cause = self.input.loss_cause(from)?;
        let loss = Loss { cause, first: from, last: first - 1, ts_start, ts_end: self.ts_recv };
        let topic = self.input.path().file_name().and_then(|name| name.to_str());
        let gap = gap_of(&loss, topic.unwrap_or_default());
        self.records.clear();
        self.blobs.clear();
        if self.processor.output_kind() == TapeKind::Records {
            self.records.push(&gap);
        }
        self.processor.lost(&gap, &mut self.records)?;
        self.notes.push(format!(
            "input {from} to {} of {} is gone, by cause {}: not read by this stage",
            first - 1,
            self.input.path().display(),
            cause.name()
        ));
        if write {
            self.losses.push(loss);
            self.pending = Some(first);
            self.publish()?;
        }
        self.position = first;
        Ok(self.records.len())
    }

    /// Goes to offset `first`, or to the first that is there by now, as retention goes on. Gives
    /// that offset, and the receive time of the item there.
    fn first_kept(&mut self, mut first: u64) -> Result<(u64, i64)> {
        loop {
            match self.peek(first) {
                Err(Error::OutOfRange { first: later, .. }) if later > first => first = later,
                found => return found.map(|ts_recv| (first, ts_recv)),
            }
        }
    }

    fn peek(&mut self, offset: u64) -> Result<i64> {
        self.input.seek(offset)?;
        let kind = self.processor.input_kind();
        let ts_recv = self.input.read(1)?.map_or(i64::MIN, |batch| newest(&batch, kind));
        self.input.seek(offset)?;
        Ok(ts_recv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processors::{find, Settings, StageConfig};
    use crate::record::{Header, Records, Trade};
    use crate::tape::{Reader, Tape, TapeConfig, NO_INPUT};

    #[test]
    fn retention_that_goes_on_while_a_loss_is_declared_makes_it_longer() {
        // The stage is told where the tape begins; by the time it goes there, that is gone as well.
        let folder = std::env::temp_dir().join(format!("tapeworks-lost-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        let (input, output) = (folder.join("in"), folder.join("out"));
        let config = TapeConfig { segment_bytes: 64 << 10, ..TapeConfig::new(TapeKind::Records) };
        let mut tape = Tape::open(&input, config).unwrap();
        let mut records = Records::new();
        for ts in 0..500 {
            let header = Header { instrument: 1, ts_recv: ts, ..Header::of::<Trade>() };
            records.push(&Trade {
                header,
                price: 1,
                size: 1,
                trade_id: ts as u64,
                count: 1,
                side: 1,
                channel: 1,
                conditions: [0; 2],
            });
        }
        for _ in 0..20 {
            tape.append(records.as_bytes(), 500, NO_INPUT, 500).unwrap();
        }
        let processor = find("ticks").unwrap().build(&Settings::new()).unwrap();
        let states = folder.join("states");
        let config = StageConfig::default();
        let mut stage = Stage::open(&input, &output, &states, processor, config).unwrap();
        stage.step(20).unwrap();
        let mut files: Vec<_> =
            std::fs::read_dir(&input).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|end| end == "seg"));
        files.sort();
        files.iter().take(4).for_each(|file| std::fs::remove_file(file).unwrap());
        let first = Reader::open(&input).unwrap().first().unwrap();
        assert!(first > 600);
        stage.skip_to(600, true).unwrap();
        assert_eq!(stage.position, first);
        let losses: Vec<_> = stage.losses.iter().map(|loss| (loss.first, loss.last)).collect();
        assert_eq!(losses, [(20, first - 1)]);
        drop(stage);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
