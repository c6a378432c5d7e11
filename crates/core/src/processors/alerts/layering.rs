//! `layering_like`: large orders on one side that are cancelled once one on the other side is
//! filled (Lee, Eom and Park 2013). Intent is not in the data.

use std::collections::VecDeque;

use super::alarm::{Evidence, Scope};
use super::detector::{Detector, Event, OrderEvent, Resting};
use super::history::Counted;
use super::rule::Rule;
use super::table::{count, positive, share, Entry};
use crate::error::Result;
use crate::processors::state::{StateReader, StateWriter};
use crate::record::Side;

/// Orders of a side that are remembered, and fills that are followed; the oldest are forgotten.
const ADDED_MAX: usize = 4_096;
const WATCHED_MAX: usize = 64;

pub(super) const ENTRY: Entry = Entry {
    numbers: &[
        positive("before_ms", 2_000.0, "how long before the fill the orders were added, at most"),
        positive("after_ms", 1_000.0, "how long after it they are cancelled, at most"),
        positive("factor", 3.0, "how many times the median size an order must be"),
        count("levels", 3.0, "prices that they stand on, at least"),
        share("cancelled", 0.8, "share of their sizes that is cancelled"),
    ],
    has_orders: true,
    ..Entry::new(
        "layering_like",
        "at a fill, large young orders stand on the other side, and are cancelled right after it",
        "side and size: of the large orders; count: their prices; value: share cancelled; detail: \
         ms to the cancel, price of the fill",
        |rule| Box::new(Layering::new(rule)),
    )
};

/// A large order that is alive.
#[derive(Debug, Clone, Copy)]
struct Layer {
    id: u64,
    ts: i64,
    offset: u64,
    price: i64,
    /// What is left of it.
    size: i64,
}

/// A fill, and the layers on the other side then.
#[derive(Debug, Clone)]
struct Watch {
    ts: i64,
    offset: u64,
    price: i64,
    /// A `Side`: that of the layers.
    side: u8,
    layers: Vec<u64>,
    levels: u64,
    total: i64,
    cancelled: i64,
}

#[derive(Debug)]
struct Layering {
    before: i64,
    after: i64,
    factor: f64,
    levels: usize,
    share: f64,
    /// Sizes of all orders added, by side.
    sizes: [Counted; 2],
    /// Orders added of late, by side.
    added: [VecDeque<Layer>; 2],
    watched: VecDeque<Watch>,
}

const fn at(side: u8) -> usize {
    (side == Side::Ask as u8) as usize
}

impl Layering {
    fn new(rule: &Rule) -> Self {
        Self {
            before: rule.ns("before_ms"),
            after: rule.ns("after_ms"),
            factor: rule.number("factor"),
            levels: rule.count("levels"),
            share: rule.number("cancelled"),
            sizes: [Counted::default(), Counted::default()],
            added: [VecDeque::new(), VecDeque::new()],
            watched: VecDeque::new(),
        }
    }

    fn add(&mut self, id: u64, order: &Resting, scope: &Scope<'_>) {
        let place = at(order.side);
        self.sizes[place].add(order.size);
        let oldest = scope.at.ts.saturating_sub(self.before);
        let added = &mut self.added[place];
        while added.len() >= ADDED_MAX || added.front().is_some_and(|layer| layer.ts <= oldest) {
            added.pop_front();
        }
        let (ts, offset, price, size) = (order.ts, scope.at.offset, order.price, order.size);
        added.push_back(Layer { id, ts, offset, price, size });
    }

    /// Looks at the other side of a filled order.
    fn fill(&mut self, id: u64, order: &Resting, size: i64, scope: &Scope<'_>) {
        self.shrink(order.side, id, size);
        let place = 1 - at(order.side);
        let ts = scope.at.ts;
        let oldest = ts.saturating_sub(self.before);
        let is_young = |layer: &&Layer| layer.ts > oldest && layer.ts <= ts && layer.size > 0;
        if self.added[place].iter().filter(is_young).count() < self.levels {
            return;
        }
        let Some(median) = self.sizes[place].median() else { return };
        let least = self.factor * median;
        let is_large = |layer: &&Layer| is_young(layer) && layer.size as f64 >= least;
        let large: Vec<_> = self.added[place].iter().filter(is_large).copied().collect();
        let mut prices: Vec<_> = large.iter().map(|layer| layer.price).collect();
        prices.sort_unstable();
        prices.dedup();
        if prices.len() < self.levels {
            return;
        }
        if self.watched.len() == WATCHED_MAX {
            self.watched.pop_front();
        }
        self.watched.push_back(Watch {
            ts,
            offset: large.iter().map(|layer| layer.offset).min().unwrap_or(scope.at.offset),
            price: order.price,
            side: if place == 1 { Side::Ask as u8 } else { Side::Bid as u8 },
            layers: large.iter().map(|layer| layer.id).collect(),
            levels: prices.len() as u64,
            total: large.iter().map(|layer| layer.size).sum(),
            cancelled: 0,
        });
    }

    /// Takes `size` off a remembered order.
    fn shrink(&mut self, side: u8, id: u64, size: i64) {
        let mut layers = self.added[at(side)].iter_mut().rev();
        if let Some(layer) = layers.find(|layer| layer.id == id) {
            layer.size -= size;
        }
    }

    fn cancel(&mut self, id: u64, order: &Resting, size: i64, scope: &mut Scope<'_>) {
        self.shrink(order.side, id, size);
        let (ts, share) = (scope.at.ts, self.share);
        let mut told: Option<Watch> = None;
        for watch in &mut self.watched {
            if watch.side == order.side && watch.layers.contains(&id) {
                watch.cancelled += size;
                if told.is_none() && watch.cancelled as f64 >= share * watch.total as f64 {
                    told = Some(watch.clone());
                }
            }
        }
        let Some(watch) = told else { return };
        scope.tell(&Evidence {
            ts_start: watch.ts,
            first: watch.offset,
            value: watch.cancelled as f64 / watch.total as f64,
            threshold: share,
            price: watch.price,
            size: watch.total,
            count: watch.levels,
            side: watch.side,
            detail: format!(
                "cancel_ms={:.3} orders={}",
                (ts - watch.ts) as f64 / 1e6,
                watch.layers.len()
            ),
            ..Evidence::at(&scope.at)
        });
        // Several fills against the same layers are one episode.
        let is_other = |one: &Watch| !one.layers.iter().any(|id| watch.layers.contains(id));
        self.watched.retain(is_other);
    }
}

impl Detector for Layering {
    fn event(&mut self, event: &Event<'_>, scope: &mut Scope<'_>) {
        let Event::Order(happened, _) = event else {
            if matches!(event, Event::Break) {
                self.added.iter_mut().for_each(VecDeque::clear);
                self.watched.clear();
            }
            return;
        };
        let oldest = scope.at.ts.saturating_sub(self.after);
        while self.watched.front().is_some_and(|watch| watch.ts < oldest) {
            self.watched.pop_front();
        }
        match happened {
            OrderEvent::Added { id, order } => self.add(*id, order, scope),
            OrderEvent::Filled { id, order, size } => self.fill(*id, order, *size, scope),
            OrderEvent::Cancelled { id, order, size } => self.cancel(*id, order, *size, scope),
        }
    }

    fn write(&self, state: &mut StateWriter<'_>) {
        for place in 0..2 {
            self.sizes[place].write(state);
            state.length(self.added[place].len());
            for layer in &self.added[place] {
                state.u64(layer.id);
                state.u64(layer.offset);
                [layer.ts, layer.price, layer.size].iter().for_each(|&value| state.i64(value));
            }
        }
        state.length(self.watched.len());
        for watch in &self.watched {
            [watch.ts, watch.price, watch.total, watch.cancelled]
                .iter()
                .for_each(|&value| state.i64(value));
            state.u64(watch.offset);
            state.u64(watch.levels);
            state.u8(watch.side);
            state.length(watch.layers.len());
            watch.layers.iter().for_each(|&id| state.u64(id));
        }
    }

    fn read(&mut self, state: &mut StateReader<'_>) -> Result<()> {
        for place in 0..2 {
            self.sizes[place].read(state)?;
            self.added[place].clear();
            for _ in 0..state.length(40)? {
                let (id, offset) = (state.u64()?, state.u64()?);
                let (ts, price, size) = (state.i64()?, state.i64()?, state.i64()?);
                self.added[place].push_back(Layer { id, ts, offset, price, size });
            }
        }
        self.watched.clear();
        for _ in 0..state.length(57)? {
            let mut watch = Watch {
                ts: state.i64()?,
                price: state.i64()?,
                total: state.i64()?,
                cancelled: state.i64()?,
                offset: state.u64()?,
                levels: state.u64()?,
                side: state.u8()?,
                layers: Vec::new(),
            };
            for _ in 0..state.length(8)? {
                watch.layers.push(state.u64()?);
            }
            self.watched.push_back(watch);
        }
        Ok(())
    }
}
