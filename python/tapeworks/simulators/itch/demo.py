"""What `tape demo` shows of ITCH: two lines that lose packets, and a server that has them all."""

import contextlib
import socket

from tapeworks.simulators.base import Exchange

STOCKS = 2
HOST = "127.0.0.1"
# A line loses and swaps one packet in a hundred: what both lose is asked for.
FAULT = "0.01"
# However slow the machine is: what the server has is waited for.
HOLD_MS = "60000"


def exchanges(seed: int, rate: float) -> list[Exchange]:
    """Returns one exchange, of `rate` messages a second and stock."""
    a, b, requests = (f"{HOST}:{port}" for port in free_ports(3))
    return [
        Exchange(
            source="itch",
            venue="itch",
            symbols=(),
            arguments=(
                *("--seed", str(seed), "--stocks", str(STOCKS), "--rate", str(rate * STOCKS)),
                *("--line", a, "--line", b, "--requests", requests),
                *("--drop", FAULT, "--reorder", FAULT, "--port", "0", "--wait", "--end-s", "0"),
            ),
            settings={"lines": f"{a},{b}", "requests": requests, "hold_ms": HOLD_MS},
            urls=(),
        )
    ]


def free_ports(count: int) -> list[int]:
    """Returns ports of loopback on which nobody receives datagrams now."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            one.bind((HOST, 0))
            found.append(int(one.getsockname()[1]))
        return found
