"""`tape record`: records symbols of a venue into tapes and lake, without a config file."""

from dataclasses import fields, replace
from typing import Annotated

from tapeworks.cli.command import Application, Exit, argument, option
from tapeworks.cli.options import ConfigOption, DataOption, text_settings
from tapeworks.cli.running import OUTCOMES, SecondsOption, run
from tapeworks.cli.settings import load
from tapeworks.config import Section, Value
from tapeworks.errors import ConfigError
from tapeworks.pipeline import resolve_feed
from tapeworks.registry import MEMBERS, load_settings, present_name

app = Application()

EXAMPLES = """\
Examples:
  tape record binance BTCUSDT ETHUSDT
  tape record binance BTCUSDT --set product=usdm --set channels=aggTrade,bookTicker,depth
  tape record binance BTCUSDT --set endpoints=testnet --data /mnt/fast/data
  tape record itch --set lines=127.0.0.1:26400,127.0.0.1:26401

Every setting of a feed in `tape config example` can be given by --set.
"""


@app.command(epilog=EXAMPLES + "\n" + OUTCOMES)
def record(
    venue: Annotated[str, argument(help=f"The venue: {', '.join(MEMBERS['feed'])}.")],
    symbols: Annotated[
        list[str] | None, argument(help="The venue's symbols; none of one that sends all.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        option("--set", help="A setting of the feed, such as product=usdm.", metavar="K=V"),
    ] = None,
    data: DataOption = None,
    seconds: SecondsOption = None,
    config: ConfigOption = None,
) -> None:
    """Record symbols of a venue, derive books and bars, store all in the lake, until Ctrl-C."""
    venue = present_name(venue)
    if venue not in MEMBERS["feed"]:
        raise ConfigError(f"expected a venue of {', '.join(MEMBERS['feed'])}, got {venue!r}")
    written = text_settings(settings or [])
    settings_of = load_settings("feed", venue)
    if symbols and "symbols" not in {field.name for field in fields(settings_of)}:
        raise ConfigError(f"{venue} takes no symbols: all that its lines carry is recorded")
    if symbols:
        written["symbols"] = Value(",".join(symbols), "the command line", is_text=True)
    # The default of a dataclass is an attribute of it; a venue may have no products.
    default = getattr(settings_of, "product", "")
    product = written.get("product", Value(default, "")).raw
    name = f"{venue}-{product}" if product else venue
    feed = resolve_feed(name, Section(f"feeds.{name}", written))
    base = load(config)
    code = run(replace(base, feeds={feed.name: feed}, data=data or base.data), seconds)
    raise Exit(code)
