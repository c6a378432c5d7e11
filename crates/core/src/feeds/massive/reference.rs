//! Splits, dividends and changes of symbols of the reference interface.

use super::decode::Task;
use super::keys::Values;
use crate::error::{DecodeReason, Error, Result};
use crate::feeds::events::EQUITY;
use crate::feeds::fields::{self, long_keys};
use crate::feeds::scan::{Scanner, Span};
use crate::record::{number_of, padded_or_cut, CorporateAction, NONE, PRICE_SCALE};

long_keys! {
    ID "id", TICKER "ticker", EXECUTION "execution_date", SPLIT_FROM "split_from",
    SPLIT_TO "split_to",
    EX_DATE "exDate", PAYMENT "paymentDate", RATIO "ratio", CASH "cash_amount",
    EX_DIVIDEND "ex_dividend_date", DECLARED "declaration_date", RECORD "record_date",
    PAY "pay_date", CURRENCY "currency", TYPE "dividend_type", EVENTS "events", DATE "date",
    CHANGE "ticker_change",
}

/// Spans of a row's values, by slot.
type Fields = fields::Fields<{ slot::COUNT }>;

const SPLIT: u8 = 1;
const DIVIDEND: u8 = 2;
const NS_PER_DAY: i64 = 86_400_000_000_000;

impl Task<'_> {
    /// Decodes the rows of an answer, of which each tells by its keys what it is.
    ///
    /// # Errors
    /// `Error::Decode`: it is no array.
    pub fn actions(&mut self, scanner: &mut Scanner<'_>) -> Result<()> {
        scanner.array(|scanner| {
            if scanner.peek_value()? != b'{' {
                let value = scanner.value()?;
                let error = Error::decode(DecodeReason::WrongType, value.start as usize);
                return self.rejected.add(error);
            }
            let row = Fields::collect(self.bytes, scanner, self.scratch, slot::of)?;
            self.action(&row).or_else(|error| self.rejected.add(error))
        })
    }

    /// Decodes the tickers that a stock had, with the first day of each, which begin at `results`.
    ///
    /// # Errors
    /// `Error::Decode`: it is no object with a list of events, or one of these cannot be read: what
    /// comes before and behind it would be taken for neighbours.
    pub fn symbol_changes(&mut self, results: Span) -> Result<()> {
        let (bytes, mut inside) = (self.bytes, Scanner::inside(self.bytes, results));
        let fields = Fields::collect(bytes, &mut inside, self.scratch, slot::of)?;
        let Some(events) = fields.find(bytes, slot::EVENTS) else { return Ok(()) };
        let mut scanner = Scanner::inside(bytes, events);
        scanner.at_value(b'[')?;
        let mut tickers = Vec::new();
        scanner.array(|scanner| {
            let event = Fields::collect(bytes, scanner, self.scratch, slot::of)?;
            // Of all other events there is no record.
            let Some(change) = event.find(bytes, slot::CHANGE) else { return Ok(()) };
            let mut inside = Scanner::inside(bytes, change);
            let told = Fields::collect(bytes, &mut inside, self.scratch, slot::of)?;
            let day = self.values().date(event.need(slot::DATE)?)?;
            tickers.push((day, told.need(slot::TICKER)?));
            Ok(())
        })?;
        // The newest comes first.
        tickers.sort_by_key(|&(day, _)| day);
        for pair in tickers.windows(2) {
            let ((_, before), (ts, span)) = (pair[0], pair[1]);
            let (former, symbol) = (self.symbol(before)?, self.symbol(span)?);
            self.symbol_change((former.as_bytes(), symbol.as_bytes()), ts, span.start as usize)?;
        }
        Ok(())
    }

    fn action(&mut self, row: &Fields) -> Result<()> {
        let mut values = self.values();
        let none = CorporateAction {
            header: crate::record::Header::of::<CorporateAction>(),
            split_from: NONE,
            split_to: NONE,
            cash_amount: NONE,
            ts_declared: values.date_or_none(row, slot::DECLARED)?,
            ts_record: values.date_or_none(row, slot::RECORD)?,
            ts_pay: values.date_or_none(row, slot::PAY)?,
            currency: values.name(row, slot::CURRENCY)?,
            subtype: values.name(row, slot::TYPE)?,
            action: SPLIT,
            former: [0; 24],
            reserved: [0; 7],
        };
        let (day, found) = if row.has(slot::CASH) {
            let cash_amount = values.amount(row.need(slot::CASH)?, "cash_amount")?;
            let day = row.need(slot::EX_DIVIDEND)?;
            (day, CorporateAction { cash_amount, action: DIVIDEND, ..none })
        } else if row.has(slot::RATIO) {
            // The older form: so much of a share became one.
            let split_from = values.amount(row.need(slot::RATIO)?, "ratio")?;
            let ts_pay = values.date_or_none(row, slot::PAYMENT)?;
            let day = row.need(slot::EX_DATE)?;
            (day, CorporateAction { split_from, split_to: PRICE_SCALE, ts_pay, ..none })
        } else {
            let split_from = values.amount(row.need(slot::SPLIT_FROM)?, "split_from")?;
            let split_to = values.amount(row.need(slot::SPLIT_TO)?, "split_to")?;
            (row.need(slot::EXECUTION)?, CorporateAction { split_from, split_to, ..none })
        };
        let ts = values.date(day)?;
        let span = row.need(slot::TICKER)?;
        let now = self.header.ts_recv;
        let symbol = self.symbol(span)?;
        let instrument = self.instrument(symbol.as_bytes(), span.start as usize, now, EQUITY)?;
        // A digest: the venue's ids are texts, too long for a record.
        let id = row.find(self.bytes, slot::ID);
        let sequence = id.map_or(Ok(0), |span| self.values().text(span).map(number_of))?;
        let header = self.head::<CorporateAction>(instrument, ts, sequence);
        self.out.push(&CorporateAction { header, ..found });
        Ok(())
    }
}

impl Values<'_> {
    /// A number above zero, in units of 1e-9.
    fn amount(&mut self, span: Span, field: &'static str) -> Result<i64> {
        let amount = self.price(span, field)?;
        if amount <= 0 {
            return Err(Error::decode(DecodeReason::BadNumber, span.start as usize));
        }
        Ok(amount)
    }

    /// A short text, zero padded and cut; empty where it is absent.
    fn name(&mut self, row: &Fields, slot: fields::Slot) -> Result<[u8; 8]> {
        let Some(span) = row.find(self.bytes, slot) else { return Ok([0; 8]) };
        let text = self.text(span)?;
        Ok(padded_or_cut(&String::from_utf8_lossy(text)))
    }

    fn date_or_none(&mut self, row: &Fields, slot: fields::Slot) -> Result<i64> {
        row.find(self.bytes, slot).map_or(Ok(NONE), |span| self.date(span))
    }

    /// Midnight UTC of a day such as `2022-07-18`, in ns.
    fn date(&mut self, span: Span) -> Result<i64> {
        let wrong = Error::decode(DecodeReason::BadNumber, span.start as usize);
        match self.text(span).map(day_of)? {
            Some(day) => Ok(day * NS_PER_DAY),
            None => Err(wrong),
        }
    }
}

/// Days from 1970-01-01 to a day of the years 1900 to 2199, written as `YYYY-MM-DD`.
fn day_of(text: &[u8]) -> Option<i64> {
    let &[a, b, c, d, b'-', e, f, b'-', g, h] = text else { return None };
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0i64, |sum, &digit| {
            digit.is_ascii_digit().then(|| sum * 10 + i64::from(digit - b'0'))
        })
    };
    let (year, month, day) = (number(&[a, b, c, d])?, number(&[e, f])?, number(&[g, h])?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let in_month = match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap),
        1..=12 => 31,
        _ => return None,
    };
    if !(1900..2200).contains(&year) || !(1..=in_month).contains(&day) {
        return None;
    }
    // Years that begin in March, so that the leap day is the last.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = years / 4 - years / 100 + years / 400;
    Some(years * 365 + leaps + (153 * months + 2) / 5 + day - 719_469)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970() {
        for (text, day) in [
            ("1970-01-01", Some(0)),
            ("1969-12-31", Some(-1)),
            ("2000-02-29", Some(11_016)),
            ("2000-03-01", Some(11_017)),
            ("2022-07-18", Some(19_191)),
            ("1900-02-28", Some(-25_509)),
            ("2100-02-29", None),
            ("2022-13-01", None),
            ("2022-00-01", None),
            ("2022-04-31", None),
            ("2022-04-00", None),
            ("9999-01-01", None),
            ("2022-7-18", None),
            ("2022/07/18", None),
            ("", None),
        ] {
            assert_eq!(day_of(text.as_bytes()), day, "{text}");
        }
    }
}
