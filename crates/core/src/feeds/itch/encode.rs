//! Records to messages: what the venue would have sent, each with its length before it.
//!
//! The locate of an instrument is its id. What records do not hold has the value that the venue
//! gives it most often: tracking number 0, no attribution.

use super::imbalance::letters;
use super::wire::TIME_MAX;
use crate::error::{Error, Result};
use crate::instrument::Instruments;
use crate::record::{
    unpadded, Cross, Definition, Header, Imbalance, Order, OrderAction, RecordRef, Records, Side,
    Status, NONE, PRICE_SCALE, SIZE_SCALE,
};

/// Units of 1e-9 in a step of Price(4).
const PRICE_UNITS: i64 = PRICE_SCALE / 10_000;

/// Writes the messages of `event` to the end of `out`, by a clock whose day began at `midnight`.
/// A trade and a correction are part of what their order event says, and give no message.
pub(super) fn event(
    event: &Records,
    instruments: &Instruments,
    midnight: i64,
    out: &mut Vec<u8>,
) -> Result<()> {
    for record in event {
        let message = Message { instruments, midnight, out };
        message.write(record)?;
    }
    Ok(())
}

struct Message<'a> {
    instruments: &'a Instruments,
    midnight: i64,
    out: &'a mut Vec<u8>,
}

fn refuse<T>(what: &str) -> Result<T> {
    Err(Error::invalid(format!("ITCH has no message for {what}")))
}

impl Message<'_> {
    fn write(mut self, record: RecordRef<'_>) -> Result<()> {
        let start = self.out.len();
        let done = self.body(record);
        if done.is_err() {
            self.out.truncate(start);
        }
        if self.out.len() > start {
            let length = (self.out.len() - start - 2) as u16;
            self.out[start..start + 2].copy_from_slice(&length.to_be_bytes());
        }
        done
    }

    fn body(&mut self, record: RecordRef<'_>) -> Result<()> {
        if let Some(order) = record.as_order() {
            return self.order(&order);
        }
        if let Some(definition) = record.as_definition() {
            return self.directory(&definition);
        }
        if let Some(status) = record.as_status() {
            return self.trading_action(&status);
        }
        if let Some(imbalance) = record.as_imbalance() {
            return self.imbalance(&imbalance);
        }
        if record.as_trade().is_some() || record.as_correction().is_some() {
            return Ok(());
        }
        refuse("such a record")
    }

    fn order(&mut self, order: &Order) -> Result<()> {
        let Ok(action) = OrderAction::try_from(order.action) else { return refuse("this action") };
        match action {
            OrderAction::Add => self.add(order),
            OrderAction::Modify => refuse("a changed order: it replaces or cancels"),
            OrderAction::Cancel => {
                self.head(b'X', &order.header)?;
                self.number(order.order_id);
                self.shares(order.size)
            }
            OrderAction::Delete => {
                self.head(b'D', &order.header)?;
                self.number(order.order_id);
                Ok(())
            }
            OrderAction::Replace => {
                self.head(b'U', &order.header)?;
                self.number(order.previous_id);
                self.number(order.order_id);
                self.shares(order.size)?;
                self.price(order.price)
            }
            OrderAction::Execute | OrderAction::ExecuteAtPrice => self.execute(order, action),
            OrderAction::ExecuteHidden => {
                self.head(b'P', &order.header)?;
                self.number(0);
                self.out.push(b'B');
                self.shares(order.size)?;
                self.stock(order.header.instrument)?;
                self.price(order.price)?;
                self.number(order.match_id);
                Ok(())
            }
            OrderAction::Cross => self.cross(order),
            OrderAction::Break => {
                self.head(b'B', &order.header)?;
                self.number(order.match_id);
                Ok(())
            }
        }
    }

    fn add(&mut self, order: &Order) -> Result<()> {
        let participant = unpadded(&order.participant);
        self.head(if participant.is_empty() { b'A' } else { b'F' }, &order.header)?;
        self.number(order.order_id);
        self.out.push(match Side::try_from(order.side)? {
            Side::Bid => b'B',
            Side::Ask => b'S',
            Side::None => return refuse("an order without a side"),
        });
        self.shares(order.size)?;
        self.stock(order.header.instrument)?;
        self.price(order.price)?;
        if !participant.is_empty() {
            self.text::<4>(participant)?;
        }
        Ok(())
    }

    fn execute(&mut self, order: &Order, action: OrderAction) -> Result<()> {
        let at_price = action == OrderAction::ExecuteAtPrice;
        self.head(if at_price { b'C' } else { b'E' }, &order.header)?;
        self.number(order.order_id);
        self.shares(order.size)?;
        self.number(order.match_id);
        if at_price {
            self.out.push(if order.printed == 1 { b'Y' } else { b'N' });
            self.price(order.price)?;
        }
        Ok(())
    }

    fn cross(&mut self, order: &Order) -> Result<()> {
        self.head(b'Q', &order.header)?;
        self.wide_shares(order.size)?;
        self.stock(order.header.instrument)?;
        self.price(if order.price == NONE { 0 } else { order.price })?;
        self.number(order.match_id);
        self.out.push(match Cross::try_from(order.cross)? {
            Cross::Opening => b'O',
            Cross::Closing => b'C',
            Cross::Halt => b'H',
            Cross::Intraday => b'I',
            Cross::ExtendedClose => b'A',
            Cross::None | Cross::Other => return refuse("a cross of an unknown kind"),
        });
        Ok(())
    }

    fn imbalance(&mut self, told: &Imbalance) -> Result<()> {
        self.head(b'I', &told.header)?;
        let [cross, direction, variation] = letters(told);
        self.wide_shares(told.paired_size)?;
        self.wide_shares(told.imbalance_size)?;
        self.out.push(direction);
        self.stock(told.header.instrument)?;
        for price in [told.far_price, told.near_price, told.reference_price] {
            self.price(if price == NONE { 0 } else { price })?;
        }
        self.out.extend_from_slice(&[cross, variation]);
        Ok(())
    }

    fn directory(&mut self, definition: &Definition) -> Result<()> {
        self.head(b'R', &definition.header)?;
        self.stock(definition.header.instrument)?;
        self.out.extend_from_slice(b"QN");
        self.out.extend_from_slice(&100_u32.to_be_bytes());
        self.out.extend_from_slice(b"NCZ PNN1N");
        self.out.extend_from_slice(&0_u32.to_be_bytes());
        self.out.push(b'N');
        Ok(())
    }

    fn trading_action(&mut self, status: &Status) -> Result<()> {
        self.head(b'H', &status.header)?;
        self.stock(status.header.instrument)?;
        self.out.push(match status.status {
            1 => b'T',
            2 => b'H',
            3 => b'Q',
            _ => return refuse("this trading state"),
        });
        self.out.push(b' ');
        self.text::<4>(unpadded(&status.reason))
    }

    fn head(&mut self, kind: u8, header: &Header) -> Result<()> {
        let time = header.ts_event.checked_sub(self.midnight).and_then(|ns| u64::try_from(ns).ok());
        let Some(time) = time.filter(|&time| time <= TIME_MAX) else {
            return refuse("a time outside of its day");
        };
        let Ok(locate) = u16::try_from(header.instrument) else {
            return refuse("so many instruments");
        };
        self.out.extend_from_slice(&[0, 0, kind]);
        self.out.extend_from_slice(&locate.to_be_bytes());
        self.out.extend_from_slice(&[0, 0]);
        self.out.extend_from_slice(&time.to_be_bytes()[2..]);
        Ok(())
    }

    fn number(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    fn shares(&mut self, size: i64) -> Result<()> {
        let shares = (size % SIZE_SCALE == 0).then(|| u32::try_from(size / SIZE_SCALE).ok());
        let Some(shares) = shares.flatten() else {
            return refuse("a size that is no number of shares");
        };
        self.out.extend_from_slice(&shares.to_be_bytes());
        Ok(())
    }

    fn wide_shares(&mut self, size: i64) -> Result<()> {
        if size < 0 || size % SIZE_SCALE != 0 {
            return refuse("a size that is no number of shares");
        }
        self.number((size / SIZE_SCALE) as u64);
        Ok(())
    }

    fn price(&mut self, price: i64) -> Result<()> {
        let steps = (price % PRICE_UNITS == 0).then(|| u32::try_from(price / PRICE_UNITS).ok());
        let Some(steps) = steps.flatten() else {
            return refuse("a price of more than four decimals");
        };
        self.out.extend_from_slice(&steps.to_be_bytes());
        Ok(())
    }

    fn stock(&mut self, instrument: u32) -> Result<()> {
        let Some(definition) = self.instruments.get(instrument) else {
            return refuse("an instrument that is not defined");
        };
        let symbol = definition.symbol;
        self.text::<8>(unpadded(&symbol))
    }

    fn text<const N: usize>(&mut self, text: &str) -> Result<()> {
        if text.len() > N {
            return refuse("so long a name");
        }
        let mut field = [b' '; N];
        field[..text.len()].copy_from_slice(text.as_bytes());
        self.out.extend_from_slice(&field);
        Ok(())
    }
}
