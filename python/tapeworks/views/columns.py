"""What each column of each table holds: its unit, its clock, and who says it.

`docs/formats/columns.md` is made of this, and so is the answer to `describe trades`.
"""

from dataclasses import dataclass

import pyarrow as pa

from tapeworks.lake import TABLES, Table, empty_rows, plain_type
from tapeworks.time_columns import REST

BASE, QUOTE = "base", "quote"
VENUE, HOST, HERE = "venue", "host", "here"
"""Who says it: the venue; the recorder, by the clock of its host; or it is calculated here."""


@dataclass(frozen=True)
class Column:
    """One column of a table."""

    meaning: str
    unit: str = ""
    origin: str = VENUE


def _price(meaning: str, origin: str = VENUE) -> Column:
    return Column(meaning, QUOTE, origin)


def _size(meaning: str, origin: str = VENUE) -> Column:
    return Column(meaning, BASE, origin)


def _time(meaning: str, origin: str = VENUE) -> Column:
    return Column(meaning, "UTC", origin)


FLAGS = "sum: 32 data may be missing, 64 ts_recv suspect, 128 no event time; all in columns.md"

# Of every table that has such a column, and nothing below under its own name.
COLUMNS: dict[str, Column] = {
    "venue": Column("the source, such as binance-spot", origin=HOST),
    "date": Column("day of ts_event, or of ts_to in gaps", "UTC", HERE),
    "symbol": Column("the venue's name of the instrument"),
    "ts_event": _time("when it happened, by the venue's clock; flags & 128: as ts_recv"),
    "ts_recv": _time("when it was received, by the clock of this host", HOST),
    "price": _price("price"),
    "size": _size("size"),
    "channel": Column("kind of stream it came on"),
    "sequence": Column("the venue's number of the event; 0: it has none", "id"),
    "flags": Column(FLAGS, origin=HERE),
    "tape_offset": Column("place on its tape: the order of receipt within its topic", origin=HOST),
    "partial": Column("whether trades may be missing: flags & 32", origin=HERE),
    "underlying": Column("of an OCC option symbol: its root; null: it is none", origin=HERE),
    "expiry": Column("of an OCC option symbol: the day of expiry", "New York", HERE),
    "option_right": Column("of an OCC option symbol: call or put", origin=HERE),
    "strike": _price("of an OCC option symbol: the strike, exact", HERE),
    "connection": Column("number of the connection; 65535: the recorder itself", origin=HOST),
    "line": Column("connections of one line carry the same streams", origin=HOST),
}

BARS: dict[str, Column] = {
    "open": _price("first price"),
    "high": _price("highest price"),
    "low": _price("lowest price"),
    "close": _price("last price"),
    "volume": _size("sum of the sizes"),
    "buy_volume": _size("the part of volume whose taker bought"),
    "turnover": _price("sum of price times size, exact"),
    "buy_turnover": _price("the part of turnover whose taker bought"),
    "count": Column("number of trades", "trades"),
    "interval_ms": Column("length", "ms"),
}

# Of one table.
OWN: dict[str, dict[str, Column]] = {
    "trades": {
        "trade_id": Column("id of the first fill", "id"),
        "count": Column("fills in it: 1, or those of one taker order at one price", "fills"),
        "side": Column("who took: buy or sell"),
        "channel": Column("trade: single fills; agg_trade: fills of one taker order"),
        "conditions": Column("conditions of the venue; 0: none"),
        "sequence": Column("trade id; of agg_trade the aggregate's", "id"),
    },
    "quotes": {
        "bid_price": _price("best bid; null: no bids"),
        "bid_size": _size("size at the best bid"),
        "ask_price": _price("best ask; null: no asks"),
        "ask_size": _size("size at the best ask"),
        "sequence": Column("update id of the book", "id"),
    },
    "orders": {
        "price": _price("limit of a new order; of executions the price paid; else the order's"),
        "size": _size("whole size of a new order; else what was executed or cancelled"),
        "order_id": Column("the order; 0: the event is of none", "id"),
        "previous_id": Column("of replace: the order that gave way; else 0", "id"),
        "match_id": Column("of executions, as trades.trade_id; of break: what is void", "id"),
        "order_price": _price("price of the order before the event; null: new, or not known"),
        "remaining": _size("what is left of the order; null: not told"),
        "participant": Column("who entered the order; empty: not told"),
        "action": Column("what happened: add, cancel (a part), delete, replace, execute ..."),
        "side": Column("bid or ask: of the order; null: not known"),
        "cross": Column("of cross: opening, closing, halt, intraday, extended_close, other"),
        "printed": Column("1: a trade that counts for volume"),
        "sequence": Column("number of the venue's message, or of the row", "id"),
    },
    "marks": {
        "mark_price": _price("mark price"),
        "index_price": _price("index price"),
        "funding_rate": Column("rate of the next funding; 0.0001 is one basis point", "fraction"),
        "ts_funding": _time("when the next funding is due"),
    },
    "venue_bars": {
        **BARS,
        "ts_event": _time("start of the interval, by the venue's clock"),
        "closed": Column("1: the interval is over; 0: it may change"),
        "channel": Column("kline: bars; ticker: rolling statistics of a day"),
        "sequence": Column("id of the last trade", "id"),
    },
    "bars": {
        **{name: Column(one.meaning, one.unit, HERE) for name, one in BARS.items()},
        "ts_event": _time("start of the interval, by the venue's clock", HERE),
        "ts_recv": _time("receipt of what closed it: it could not be known sooner", HOST),
        "closed": Column("1: the interval is over; 0: it may change, or was cut short", "", HERE),
        "channel": Column("channel of the trades that it was built from"),
        "sequence": Column("id of the last trade", "id"),
    },
    "ticks": {
        "bid": _price("best bid then; null: none"),
        "ask": _price("best ask then; null: none"),
        "last": _price("price of the last trade; null: none yet"),
        "volume": _size("size traded since the tick before; 0: none; null: more than 64 bits hold"),
        "sequence": Column("that of the trade or quote that made the tick", "id"),
    },
    "metrics": {
        "ts_event": _time("as of when the value holds, by the venue's clock", HERE),
        "ts_recv": _time("receipt of what made it known", HOST),
        "metric": Column("name with its parameters, such as ofi_10s: see metrics.md", "", HERE),
        "value": Column("value; null: there is none", "of the metric", HERE),
        "count": Column("observations that it is made of", "", HERE),
        "window": Column(
            "length of its rolling window, or its horizon; 0: it has none", "ns", HERE
        ),
        "state": Column(
            "best prices: ok, locked, crossed, empty_bid, empty_ask; null: not known", "", HERE
        ),
    },
    "alerts": {
        "ts_event": _time("time of what the row says, by the venue's clock", HERE),
        "ts_recv": _time("receipt of what made it known", HOST),
        "id": Column("number of the alert within its source: the same in all its rows", "id", HERE),
        "ts_start": _time("since when the condition holds", HERE),
        "ts_end": _time("when it ended; null: it had not", HERE),
        "first_offset": Column("first record that is evidence: tape_offset of it", "id", HERE),
        "last_offset": Column("last record that is evidence", "id", HERE),
        "value": Column("what was measured, the worst so far; null: nothing", "of the rule", HERE),
        "threshold": Column("what it was compared with; null: nothing", "of the rule", HERE),
        "price": _price("a price that is evidence; null: none", HERE),
        "size": _size("a size that is evidence; null: none", HERE),
        "count": Column("messages, levels, fills or losses that are evidence", "", HERE),
        "rule": Column("name of the rule in the settings", "", HERE),
        "detector": Column("what the rule looks for, such as crossed", "", HERE),
        "subject": Column("the metric, stage or channel that is meant; empty: none", "", HERE),
        "detail": Column("further evidence, as words name=value", "", HERE),
        "state": Column("opened, updated, acknowledged or closed", "", HERE),
        "severity": Column("info, warning or critical", "", HERE),
        "side": Column("bid or ask, where a side is meant", "", HERE),
        "offset": Column("record of the normalized tape that made it known", "id", HERE),
    },
    "book_levels": {
        "size": _size("new size of the level; 0: it is removed"),
        "previous": Column("last update id before the event", "id"),
        "span": Column("update ids that the event covers, less one", "ids"),
        "side": Column("bid or ask"),
        "channel": Column("depth: a change; snapshot: of a whole book"),
        "sequence": Column("last update id of the event, the same in all its levels", "id"),
    },
    "book_markers": {
        "code": Column(
            "book_state, empty_update (one without levels), checkpoint_begin, checkpoint_end",
            origin=HERE,
        ),
        "cause": Column("0", origin=HERE),
        "state": Column("of book_state: the new state; continuous is verified", "", HERE),
        "count": Column("of a checkpoint: its levels", "levels", HERE),
        "first": Column("first update id meant; of a checkpoint its own", "id"),
        "last": Column("last update id meant; of checkpoint_end the book's checksum", "id"),
        "ts_start": _time(
            "of book_state: last event until which it was good; of a checkpoint: last receipt", HERE
        ),
    },
    "book_snapshots": {
        "bid_price": _price("up to 20 bids, the best first", HERE),
        "bid_size": _size("sizes at them", HERE),
        "ask_price": _price("up to 20 asks, the best first", HERE),
        "ask_size": _size("sizes at them", HERE),
        "ts_event": _time("of the last update in the book, by the venue's clock"),
        "ts_recv": _time("receipt of the last update in the book", HOST),
        "sequence": Column("last update id in the book", "id"),
    },
    "gaps": {
        "ts_from": _time("last event before what is missing; null: not known"),
        "ts_to": _time("first event after it; null: not known"),
        "ts_detected": _time("when it was found", HOST),
        "cause": Column(
            "sequence (ids missing), silence, disconnect, overload, decode, retention, reset, "
            "damage",
            origin=HERE,
        ),
        "state": Column(
            "open: still losing; closed: lost, its extent is known; repaired: filled from history",
            origin=HERE,
        ),
        "channel": Column("what is missing; session: of all streams"),
        "missing": Column(
            "ids of trades, update ids of depth, frames, items of a tape; null: not known",
            "ids",
            HERE,
        ),
        "first_missing": Column("first id, or first item of a tape", "id"),
        "last_missing": Column("last id, or last item of a tape", "id"),
        "sequence": Column(
            "event that showed it; of retention and damage: number of the tape's topic", "id"
        ),
    },
    "statuses": {
        "ts_event": _time("when it began, by the venue"),
        "status": Column("trading, halted, auction, closed or cancel_only; null: not known"),
        "reason": Column("the venue's code of the reason; empty: none"),
        "price_low": _price("lower price band; null: none"),
        "price_high": _price("upper price band; null: none"),
    },
    "imbalances": {
        "ts_event": _time("when it was told, by the venue"),
        "paired_size": _size("what would be executed at the reference price; null: not told"),
        "imbalance_size": _size("what would be left of the larger side; null: not told"),
        "reference_price": _price("the price that sizes refer to; null: not told"),
        "near_price": _price(
            "clearing price of the auction's orders and the book's together; null: none"
        ),
        "far_price": _price("clearing price of the auction's orders alone; null: none"),
        "code": Column("the venue's letters of auction, direction and variation; empty: none"),
        "auction_time": Column("planned, 930 is half past nine at the exchange; 0: not told"),
        "side": Column("the larger side: bid, more to buy; ask, more to sell; null: neither"),
        "cross": Column("the auction: opening, closing, halt, intraday, extended_close, other"),
        "state": Column("insufficient: too few orders to tell; paused; null: as told"),
    },
    "corrections": {
        "ts_event": _time("when it was corrected, by the venue"),
        "price": _price("corrected price; null: the trade is void"),
        "size": _size("corrected size; null: the trade is void"),
        "trade_id": Column("as trades.trade_id of the trade that is meant", "id"),
        "action": Column("cancel or correct"),
        "sequence": Column("correct: the new id of the trade; else the venue's number; or 0", "id"),
    },
    "corporate_actions": {
        "ts_event": _time("midnight UTC of its day in New York: ex-date, first day of the symbol"),
        "split_from": Column("so many shares became split_to; null: no split", "shares"),
        "split_to": Column("shares after the split; null: no split", "shares"),
        "cash_amount": Column("dividend of a share; null: no dividend", "currency"),
        "ts_declared": _time("midnight UTC of the day of the declaration; null: not told"),
        "ts_record": _time("midnight UTC of the day whose owners are paid; null: not told"),
        "ts_pay": _time("midnight UTC of the day of payment; null: not told"),
        "currency": Column("of cash_amount; empty: not told"),
        "subtype": Column("the venue's code of its kind, such as CD, SC; empty: not told"),
        "sequence": Column("digest of the venue's id of the action; 0: it has none", "id"),
        "action": Column("split, dividend or symbol_change"),
        "former": Column("the symbol that the stock had until then; empty: no change of it"),
    },
    "sessions": {
        "ts_event": _time("when it happened, by the clock of this host", HOST),
        "code": Column(
            "connected, subscribed (for all), disconnected, end_of_session, delay: see lake.md",
            origin=HOST,
        ),
        "state": Column(
            "of disconnected: 1: the recorder stops; 0: a cut; of delay: see lake.md", "", HOST
        ),
        "ts_before": _time("of the recorder's start: last receipt before it", HOST),
    },
    "subscriptions": {
        "ts_event": _time("when it happened, by the clock of this host", HOST),
        "symbol": Column("the venue's symbol; empty: a stream of several"),
        "stream": Column("the venue's name of the stream"),
        "channel": Column("channel that the stream fills; null: not known", origin=HERE),
        "state": Column("subscribed, refused, or spoke: its first message came", origin=HOST),
    },
    "news": {
        "ts_event": _time("when the story was made, by the venue"),
        "symbol": Column("always null: a story is of several, see symbols"),
        "symbols": Column("the symbols that it is about; empty: none is told"),
        "ts_updated": _time("when it was last changed, by the venue"),
        "id": Column("the venue's id of the story; null: retention took its frame", "id"),
        "headline": Column("the headline; null: retention took its frame"),
        "summary": Column("what it is about; null: not told"),
        "author": Column("who wrote it; null: not told"),
        "source": Column("who published it, such as benzinga; null: not told"),
        "url": Column("where it is told; null: not told"),
        "raw": Column("all that the venue told, as JSON"),
        "sequence": Column("the id where that is a number, or else a digest of it", "id"),
        "raw_offset": Column("place of its frame on the raw tape", origin=HOST),
    },
    "dead_letters": {
        "ts_event": _time("when it was received, by the clock of this host", HOST),
        "reason": Column("why it could not be decoded", origin=HERE),
        "byte": Column("place in frame at which decoding stopped", "bytes", HERE),
        "frame": Column("what was received, byte for byte; null: retention took it"),
        "context": Column("request that it answers, or the like", origin=HOST),
        "frame_kind": Column("text, binary, rest or records", origin=HOST),
        "raw_offset": Column("its place on the raw tape", origin=HOST),
    },
    "instruments": {
        "ts_event": _time("when the definition was received, by the clock of this host", HOST),
        "tick_size": _price("smallest step of the price; null: not known"),
        "lot_size": _size("smallest step of the size; null: not known"),
        "contract_size": Column(
            "what one contract is worth, where sizes are numbers of contracts; else 0", "quote"
        ),
        "valid_from": _time("from when on it is known", HOST),
        "valid_to": _time("until when it holds; null: still", HOST),
        "canonical": Column("name in the same form for all venues, such as BTC-USDT", "", HERE),
        "currency": Column("what prices are quoted in"),
        "asset_class": Column("spot, perpetual, future, equity, option or index"),
        "status": Column("trading, halted, auction, closed or cancel_only"),
        "feed": Column("number of the feed", origin=HERE),
        "instrument": Column("number of the instrument within the source", origin=HERE),
    },
}


def describe(table: Table, column: str) -> Column:
    """Returns what `column` of `table` holds; nothing is said of one that is not known."""
    own = OWN.get(table.name, {})
    if found := own.get(column) or COLUMNS.get(column):
        return found
    whole = column.removesuffix(REST)
    if whole != column and (time := own.get(whole) or COLUMNS.get(whole)):
        told = f"rest of {whole}, 0 to 999; tables, CSV and JSON show it as the last digits"
        return Column(told, "ns", time.origin)
    return Column("", origin="")


def described(table: Table, answer: pa.Table) -> pa.Table:
    """Returns DuckDB's answer to `describe` with what the columns of `table` hold."""
    found = [describe(table, name) for name in answer.column("column_name").to_pylist()]
    told = {
        "unit": [one.unit for one in found],
        "origin": [one.origin for one in found],
        "meaning": [one.meaning for one in found],
    }
    answer = answer.select(["column_name", "column_type"])
    for name, texts in told.items():
        answer = answer.append_column(name, pa.array(texts, pa.string()))
    return answer


PAGE_START = """\
<!-- Made by tests/views/test_columns.py from python/tapeworks/views/columns.py; to make it anew:
     TAPEWORKS_WRITE=1 python -m pytest tests/views/test_columns.py -->

# Columns

All columns of all tables of the [lake](lake.md), as files hold them; `tape query "describe trades"`
shows the same.

- `unit`: `base` is what is traded (BTC of BTCUSDT), `quote` what the price is in (USDT; `currency`
  in `instruments`).
- `from`: `venue`, as it was sent; `host`, noted by the recorder, its times by the clock of its
  host; `here`, calculated from what was received.
- A time is two columns, of which the page names the first: `ts_event` has the microseconds,
  `ts_event_ns` the rest, 0 to 999 ns. `tape query`, CSV and JSON show both as one time.
- `venue` and `date` are in the names of the folders. SQL shows `partial`, too, in tables of bars,
  and `underlying`, `expiry`, `option_right` and `strike` in `instruments`.
- `flags`, added up: 1 last record of an event, 2 part of a whole book, 4 from the venue's history,
  8 out of order, 16 a copy of it was dropped, 32 data may be missing, 64 `ts_recv` is suspect, 128
  the venue sent no event time, and `ts_event` is the receive time.
"""


def page() -> str:
    """Returns the page of all columns."""
    parts = [PAGE_START]
    for table in TABLES.values():
        parts.append(f"\n## {table.name}\n\n{table.doc[0].upper()}{table.doc[1:]}.\n\n")
        parts.append("| column | type | unit | from | meaning |\n|---|---|---|---|---|\n")
        schema = empty_rows(table).schema
        types = {field.name: str(plain_type(field.type)) for field in schema}
        types |= {"venue": "string", "date": "date32"}
        for name, kind in types.items():
            if name.endswith(REST) and name.removesuffix(REST) in types:
                continue
            one = describe(table, name)
            shown = kind.replace("list<item: ", "list<").replace("128(", "(")
            shown = shown.replace("tz=", "")
            parts.append(f"| `{name}` | {shown} | {one.unit} | {one.origin} | {one.meaning} |\n")
    return "".join(parts)
