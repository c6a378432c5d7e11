"""What `tape demo` shows of Binance: spot and futures."""

from tapeworks.simulators.base import Exchange

SYMBOLS = {"spot": ("BTCUSDT", "ETHUSDT", "SOLUSDT"), "usdm": ("BTCUSDT", "ETHUSDT")}
# A snapshot of the futures holds 1000 levels a side: all of the book must be in it.
LEVELS = 400


def exchanges(seed: int, rate: float) -> list[Exchange]:
    """Returns one exchange for each product, of `rate` orders a second and symbol."""
    return [
        Exchange(
            source=f"binance-{product}",
            venue="binance",
            symbols=symbols,
            arguments=(
                *("--product", product, "--seed", str(seed)),
                *("--rate", str(rate), "--levels", str(LEVELS)),
            ),
            settings={"product": product},
            books=symbols,
        )
        for product, symbols in SYMBOLS.items()
    ]
