//! Corporate actions of the REST interface: changes of symbols.

use super::decode::Task;
use crate::error::{DecodeReason, Error, Result};
use crate::feeds::fields::{long_keys, unfit, Fields};
use crate::feeds::rfc3339;
use crate::feeds::scan::{Scanner, Span};

long_keys! {
    ACTIONS "corporate_actions", CHANGES "name_changes", OLD "old_symbol", NEW "new_symbol",
    DATE "process_date",
}

type Row = Fields<{ slot::COUNT }>;

/// Whether `context` is a request for corporate actions.
pub fn is_asked(context: &[u8]) -> bool {
    let path = context.split(|&byte| byte == b'?').next();
    matches!(path, Some(b"/v1/corporate-actions" | b"/v1beta1/corporate-actions"))
}

impl Task<'_> {
    /// Decodes the changes of symbols of an answer. Of all other actions there is no record.
    ///
    /// # Errors
    /// `Error::Decode`: it is not one object of lists by kind.
    pub fn corporate(&mut self) -> Result<()> {
        let mut found = Scanner::new(self.bytes, 0);
        for slot in [slot::ACTIONS, slot::CHANGES] {
            let fields = Row::collect(self.bytes, &mut found, self.scratch, slot::of)?;
            let Some(span) = fields.find(self.bytes, slot) else { return Ok(()) };
            found = Scanner::inside(self.bytes, span);
        }
        found.at_value(b'[')?;
        found.array(|scanner| {
            if self.rejected.passes_over(scanner, b'{')? {
                return Ok(());
            }
            let row = Row::collect(self.bytes, scanner, self.scratch, slot::of)?;
            self.name_change(&row).or_else(|error| self.rejected.add(error))
        })
    }

    fn name_change(&mut self, row: &Row) -> Result<()> {
        let ts = self.midnight(row.need(slot::DATE)?)?;
        let former = self.symbol(row.need(slot::OLD)?)?;
        let span = row.need(slot::NEW)?;
        let symbol = self.symbol(span)?;
        self.symbol_change((former.as_bytes(), symbol.as_bytes()), ts, span.start as usize)
    }

    /// Midnight UTC of a day such as `2024-03-14`, in ns.
    fn midnight(&mut self, span: Span) -> Result<i64> {
        let byte = span.start as usize;
        let text = [self.values().text(span)?, b"T00:00:00Z"].concat();
        let ts = rfc3339::parse(&text).map_err(|why| unfit(why, "ts_event", byte))?;
        if ts < 0 {
            return Err(Error::decode(DecodeReason::BadNumber, byte));
        }
        Ok(ts)
    }
}
