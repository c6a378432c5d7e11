"""Every rule of surveillance finds its own episode in a quiet market, and nothing in that market.

Two minutes of orders from a seed, to which one episode at a time is added. What a rule finds is the
same at any batch size, and after its state was saved and restored.
"""

import random
from collections.abc import Callable

import numpy as np
import pytest
from tests.surveillance.score import LOT, START, TICK, definition, records_of

from tapeworks._core import Processor, Records, dtype_descr, numbers

ALERT = np.dtype(dtype_descr("alert"))
SEED = 41
MS = 1_000_000
SECOND = 1_000 * MS
# When episodes begin: what rules compare with is known by then.
AT = 99 * SECOND
# A session of this stream ends 100 s after it began, at 22:15 UTC.
RULES = """\
locked\tlocked\twarning\t\t
crossed\tcrossed\twarning\t\t
stuffing\tstuffing\twarning\t\t
layering\tlayering_like\twarning\t\t
wash\twash_like\twarning\t\t
spike\tprice_spike\twarning\t\t
flicker\tquote_flicker\twarning\t\t
ignition\tmomentum_ignition_like\twarning\t\t
marking\tmarking_close_like\twarning\t\t\thours=00:00-22:15\twindow_ms=1000
fat\tfat_finger\twarning\t\t\tleast=500"""
ADD, DELETE, FILL = (numbers("order_action")[name] for name in ("add", "delete", "execute"))
BUY, SELL = 1, 2
Event = tuple[int, int, int, int, int, int]
"""Time since the start, action, side, price in ticks, size in lots, id of the order."""


def quiet() -> list[Event]:
    """Returns two minutes in which orders come, go, and are filled at a spread of two ticks."""
    chance, events, live = random.Random(SEED), [], []
    for number in range(2_400):
        ts = number * 50 * MS
        if len(live) < 20 or chance.random() < 0.5:
            side = chance.choice((BUY, SELL))
            depth = chance.randrange(5)
            price = 9_999 - depth if side == BUY else 10_001 + depth
            order = (side, price, 100 * chance.randrange(1, 6), number + 1)
            live.append(order)
            events.append((ts, ADD, *order))
        else:
            best = chance.random() < 0.3
            near = [one for one in live if one[1] in (9_999, 10_001)]
            order = chance.choice(near) if best and near else chance.choice(live)
            live.remove(order)
            events.append((ts, FILL if best and near else DELETE, *order))
    return events


def stuffing() -> list[Event]:
    found = []
    for pair in range(300):
        order = (BUY, 9_990, 100, 100_000 + pair)
        found += [(AT + pair * 2 * MS // 10, ADD, *order)]
        found += [(AT + pair * 2 * MS // 10 + MS // 10, DELETE, *order)]
    return found


def layering() -> list[Event]:
    layers = [(SELL, 10_010 + level, 9_000, 100_000 + level) for level in range(5)]
    found = [(AT + level * MS, ADD, *order) for level, order in enumerate(layers)]
    bait = (BUY, 10_000, 300, 100_100)
    found += [(AT + 10 * MS, ADD, *bait), (AT + 30 * MS, FILL, *bait)]
    return found + [(AT + (40 + level) * MS, DELETE, *order) for level, order in enumerate(layers)]


def wash() -> list[Event]:
    found = []
    for number in range(6):
        order = (BUY if number % 2 else SELL, 10_000, 777, 100_000 + number)
        found += [(AT + number * 15 * MS, ADD, *order), (AT + number * 15 * MS + MS, FILL, *order)]
    return found


def spike() -> list[Event]:
    order = (SELL, 10_070, 100, 100_000)
    return [(AT, ADD, *order), (AT + MS, FILL, *order)]


def flicker() -> list[Event]:
    order = (BUY, 10_000, 100, 100_000)
    steps = [(AT + step * 2 * MS, (ADD, DELETE)[step % 2]) for step in range(14)]
    return [(ts, action, *order) for ts, action in steps]


def ignition() -> list[Event]:
    # Not right before the close.
    start = AT - 20 * SECOND
    up = [(start + n * 20 * MS, 10_001 + 2 * n) for n in range(30)]
    down = [(start + (700 + n * 20) * MS, 10_059 - 3 * n) for n in range(15)]
    found = []
    for number, (ts, price) in enumerate((*up, *down)):
        order = (SELL, price, 100, 100_000 + number)
        found += [(ts, ADD, *order), (ts + MS, FILL, *order)]
    return found


def marking() -> list[Event]:
    found = []
    for number, price in enumerate((10_002, 10_004, 10_006, 10_008, 10_010, 10_012, 10_014)):
        order = (SELL, price, 4_000, 100_000 + number)
        found += [(AT + (370 + number * 100) * MS, ADD, *order)]
        found += [(AT + (375 + number * 100) * MS, FILL, *order)]
    return found


def fat_finger() -> list[Event]:
    order = (BUY, 9_990, 1_000_000, 100_000)
    return [(AT, ADD, *order), (AT + 5 * SECOND, DELETE, *order)]


def through_the_mid() -> list[Event]:
    order = (BUY, 10_900, 100, 100_000)
    return [(AT, ADD, *order), (AT + MS, DELETE, *order)]


def locked() -> list[Event]:
    orders = (BUY, 10_000, 100, 100_000), (SELL, 10_000, 100, 100_001)
    found = [(AT + number * MS, ADD, *order) for number, order in enumerate(orders)]
    return [*found, *[(AT + 20 * MS, DELETE, *order) for order in orders]]


def orders_of(events: list[Event]) -> np.ndarray:
    rows = sorted(events, key=lambda event: event[0])
    ts, action, side, price, size, number = (np.array(column) for column in zip(*rows, strict=True))
    return records_of(
        "order",
        len(rows),
        ts_event=START + ts,
        ts_recv=START + ts,
        action=action,
        side=side,
        price=price * TICK,
        order_price=price * TICK,
        size=size * LOT,
        order_id=number,
    )


def alerts_in(rows: np.ndarray, cut: int | None = None) -> bytes:
    """Returns the alerts of `rows`; the state is saved and restored in front of the row `cut`."""
    made, processor, start = b"", Processor("alerts", {"rules": RULES}), 0
    processor.process(Records.from_bytes(definition().tobytes()))
    for end in (len(rows),) if cut is None else (cut, len(rows)):
        if start:
            state, processor = processor.snapshot(), Processor("alerts", {"rules": RULES})
            processor.restore(state)
        batch = Records.from_bytes(rows[start:end].tobytes(), start + 1)
        made, start = made + bytes(memoryview(processor.process(batch))), end
    return made


@pytest.mark.parametrize(
    ("episode", "rules"),
    [
        (list, set()),
        (stuffing, {"stuffing"}),
        (layering, {"layering"}),
        (wash, {"wash"}),
        (spike, {"spike"}),
        (flicker, {"flicker"}),
        (ignition, {"ignition", "spike"}),
        (marking, {"marking"}),
        (fat_finger, {"fat"}),
        (through_the_mid, {"crossed", "fat"}),
        (locked, {"locked"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_episode_is_found_by_its_rule(episode: Callable[[], list[Event]], rules: set[str]):
    # A restart behind its first order, in its middle and before its last one changes nothing.
    rows = orders_of(quiet() + episode())
    whole = alerts_in(rows)
    assert {name.decode() for name in np.frombuffer(whole, ALERT)["rule"]} == rules
    own = np.flatnonzero(rows["order_id"] >= 100_000)
    for place in (1, len(own) // 2, -1) if len(own) else ():
        assert alerts_in(rows, int(own[place])) == whole, place


def test_batch_size_and_a_restart_change_nothing():
    # All episodes that do not disturb each other, in batches of 1, 7 and 4,096 and with a state
    # that is restored before every hundredth batch.
    parts = [stuffing(), layering(), spike(), fat_finger()]
    moved = [
        (ts + n * SECOND, *rest, number + 1_000 * n)
        for n, part in enumerate(parts)
        for ts, *rest, number in part
    ]
    whole = [definition().tobytes(), *(row.tobytes() for row in orders_of(quiet() + moved))]
    results = []
    for size in (1, 7, 4_096):
        processor, made = Processor("alerts", {"rules": RULES}), []
        for number, first in enumerate(range(0, len(whole), size)):
            if number % 100 == 99:
                state, processor = processor.snapshot(), Processor("alerts", {"rules": RULES})
                processor.restore(state)
            batch = Records.from_bytes(b"".join(whole[first : first + size]), first)
            made.append(bytes(memoryview(processor.process(batch))))
        results.append(b"".join(made))
    assert results[0] == results[1] == results[2] != b""
