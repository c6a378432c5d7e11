"""What `tape demo` shows of Massive: stocks."""

from tapeworks.simulators.base import Exchange

SYMBOLS = ("AAPL", "MSFT")


def exchanges(seed: int, rate: float) -> list[Exchange]:
    """Returns one exchange, of `rate` orders a second and symbol."""
    return [
        Exchange(
            source="massive-stocks",
            venue="massive",
            symbols=SYMBOLS,
            arguments=("--seed", str(seed), "--rate", str(rate)),
            settings={"api_key": "demo"},
            urls=("ws_url",),
        )
    ]
