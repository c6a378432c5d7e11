"""`tape simulate`: a simulated venue, to try things out and to test against."""

import importlib.util
from typing import Annotated

from tapeworks import simulators
from tapeworks.cli.command import Application, Exit, argument
from tapeworks.errors import ConfigError
from tapeworks.registry import MEMBERS, load_name

app = Application()

EXAMPLES = """\
Examples:
  tape simulate itch --file 08222023.NASDAQ_ITCH50 --messages 1000000 --seed 7
  tape simulate binance --port 9000
  tape simulate alpaca --port 9000 --symbols AAPL BTC/USD

Each venue has options of its own: `tape simulate itch --help` lists them.
"""


@app.command(epilog=EXAMPLES, passes_on=True)
def simulate(
    venue: Annotated[str, argument(help="The venue, such as itch.")],
    options: Annotated[list[str] | None, argument(help="Those of its simulator.")] = None,
) -> None:
    """Run the simulator of a venue until Ctrl-C, or until it is done."""
    known = [
        name
        for name in MEMBERS["feed"]
        if importlib.util.find_spec(f"{simulators.__name__}.{name}") is not None
    ]
    if venue not in known:
        raise ConfigError(f"expected a venue of {', '.join(known)}, got {venue!r}")
    main = load_name(f"{simulators.__name__}.{venue}.__main__:main")
    raise Exit(main(options or [], f"tape simulate {venue}"))
