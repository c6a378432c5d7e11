"""What the simulator of ITCH is told: its market, and where its messages go."""

import argparse
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tapeworks.errors import ConfigError

SESSION_BYTES = 10
LOOPBACK = "127.0.0.1"
EPILOG = """\
A day as a file, and what becomes of it:
  tape simulate itch --file 08222023.NASDAQ_ITCH50 --messages 1000000 --seed 7
  tape import itch 08222023.NASDAQ_ITCH50

Two lines on this machine that lose packets, and a recorder of them in another terminal:
  tape simulate itch --rate 10000 --drop 0.01,0 --requests 127.0.0.1:26402
  tape record itch --set lines=127.0.0.1:26400,127.0.0.1:26401 --set requests=127.0.0.1:26402

The same session over SoupBinTCP, from its first message on:
  tape simulate itch --soup 127.0.0.1:26500
  tape record itch --set lines=soupbintcp://127.0.0.1:26500
"""


@dataclass(frozen=True)
class LineFaults:
    """What becomes of the packets of one line: the part that has each fault."""

    drop: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0


@dataclass(frozen=True)
class SimulatorConfig:
    """Everything that one simulator is told."""

    seed: int = 1
    stocks: int = 50
    messages: int = 0
    """Of the day; 0: until it is stopped."""
    file: Path | None = None
    """The day is written there, and nothing is sent."""
    lines: tuple[tuple[str, int], ...] = (("127.0.0.1", 26400), ("127.0.0.1", 26401))
    """Host or group, and port, of each line that packets are sent to."""
    faults: tuple[LineFaults, ...] = ()
    """By line."""
    interface: str = "127.0.0.1"
    """Address of the interface that multicast leaves by."""
    requests: tuple[str, int] | None = None
    """Host and port of the request server; none: there is none."""
    soup: tuple[str, int] | None = None
    """Host and port of the server of SoupBinTCP; none: there is none."""
    user: str = ""
    password: str = ""
    """What a login must have; none: any."""
    keep: int = 10_000_000
    """Messages that the request server still has, at most."""
    rate: float = 10_000.0
    """Messages a second; 0: as fast as it goes."""
    session: str = ""
    """The name of the session; none: one that follows from the seed."""
    packet_bytes: int = 1472
    heartbeat_s: float = 1.0
    end_s: float = 2.0
    """For so long the end of the session is told, and requests are answered."""
    oracle: Path | None = None
    port: int | None = None
    """Of the control interface, 0 for a free one; none: there is none."""
    wait: bool = False
    """Nothing is sent before somebody listens on all lines, or the control interface is told to."""
    with_parent: bool = False


def parse_arguments(arguments: Sequence[str], program: str) -> SimulatorConfig:
    """Reads the command line.

    Raises:
        ConfigError: a value makes no sense.
    """
    given = _parser(program).parse_args(arguments)
    if given.file is not None and not given.messages:
        raise ConfigError("expected --messages N with --file: a file has an end")
    if given.rate < 0 or given.stocks < 1 or given.messages < 0 or given.keep < 0:
        raise ConfigError("expected 0 or more of --rate, --messages and --keep, 1 of --stocks")
    if given.seed < 0:
        raise ConfigError(f"expected a seed of 0 or more, got {given.seed}")
    if not 64 <= given.packet_bytes <= 65_507:
        raise ConfigError(f"expected --packet-bytes of 64 to 65507, got {given.packet_bytes}")
    if given.port is not None and not 0 <= given.port <= 65_535:
        raise ConfigError(f"expected --port of 0 to 65535, got {given.port}")
    session = given.session or f"SIM{given.seed % 10_000_000:07d}"
    if len(session) != SESSION_BYTES or not session.isascii():
        raise ConfigError(f"expected a session of {SESSION_BYTES} letters, got {session!r}")
    lines = tuple(address_of("--line", text) for text in given.line)
    check_ip("--interface", given.interface)
    return SimulatorConfig(
        seed=given.seed,
        stocks=given.stocks,
        messages=given.messages,
        file=given.file,
        lines=lines or SimulatorConfig.lines,
        faults=_faults(given, len(lines or SimulatorConfig.lines)),
        interface=given.interface,
        requests=address_of("--requests", given.requests) if given.requests else None,
        soup=address_of("--soup", given.soup) if given.soup else None,
        user=given.user,
        password=given.password,
        keep=given.keep,
        rate=given.rate,
        session=session,
        packet_bytes=given.packet_bytes,
        end_s=given.end_s,
        oracle=given.oracle,
        port=given.port,
        wait=given.wait,
        with_parent=given.with_parent,
    )


def address_of(name: str, text: str) -> tuple[str, int]:
    """Returns host and port of `HOST:PORT`, or of a port of this machine.

    Raises:
        ConfigError: it is neither.
    """
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65_535:
        raise ConfigError(f"{name}: expected HOST:PORT, got {text!r}")
    check_ip(name, host or LOOPBACK)
    return host or LOOPBACK, int(port)


def check_ip(name: str, host: str) -> None:
    """Refuses what is no address of IPv4.

    Raises:
        ConfigError: it is none.
    """
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        raise ConfigError(f"{name}: expected an IPv4 address, got {host!r}") from None


def _faults(given: argparse.Namespace, lines: int) -> tuple[LineFaults, ...]:
    columns = []
    for name in ("drop", "duplicate", "reorder"):
        try:
            parts = [float(part) for part in getattr(given, name).split(",")]
        except ValueError:
            parts = [-1.0]
        if not all(0 <= part <= 1 for part in parts) or len(parts) > lines:
            raise ConfigError(
                f"expected --{name} with a part of 0 to 1 for each of {lines} lines, such as "
                f"0.01,0; got {getattr(given, name)!r}"
            )
        columns.append(parts + [parts[-1] if len(parts) == 1 else 0.0] * (lines - len(parts)))
    return tuple(LineFaults(*parts) for parts in zip(*columns, strict=True))


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        allow_abbrev=False,
        description="A day of NASDAQ at the level of orders, as a file of ITCH 5.0 or live over\n"
        "MoldUDP64, until Ctrl-C. All follows from the seed, but for the times of a live day.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    base = SimulatorConfig()
    for name, default, metavar, told in (
        ("seed", base.seed, "N", "of the random market (default: 1)"),
        ("stocks", base.stocks, "N", "stocks that are traded (default: 50)"),
        ("messages", base.messages, "N", "end the day after N messages; 0: when stopped"),
        ("rate", base.rate, "N", "messages a second; 0: all at once (default: 10000)"),
        ("interface", base.interface, "ADDRESS", "that multicast leaves by (default: 127.0.0.1)"),
        ("requests", "", "HOST:PORT", "answer requests for lost messages there"),
        ("soup", "", "HOST:PORT", "serve the session over SoupBinTCP there"),
        ("user", "", "NAME", "whom a login over SoupBinTCP must name (default: anybody)"),
        ("password", "", "WORD", "and the password that goes with it"),
        ("keep", base.keep, "N", "messages that requests and logins find (default: 10000000)"),
        ("drop", "0", "P[,P]", "part of the packets that a line loses, one for all or by line"),
        ("duplicate", "0", "P[,P]", "part of the packets that a line sends twice"),
        ("reorder", "0", "P[,P]", "part of the packets that a line sends after the next one"),
        ("session", "", "NAME", "name of the session, of 10 letters (default: by the seed)"),
        ("packet-bytes", base.packet_bytes, "N", "bytes of a packet at most (default: 1472)"),
        ("end-s", base.end_s, "SECONDS", "tell the end of the session for so long (default: 2)"),
    ):
        parser.add_argument(
            f"--{name}", type=type(default), default=default, metavar=metavar, help=told
        )
    parser.add_argument(
        "--line",
        action="append",
        default=[],
        metavar="HOST:PORT",
        help="send all packets there, to a multicast group or one receiver; again for another "
        "line (default: 127.0.0.1:26400 and 127.0.0.1:26401)",
    )
    parser.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="write the day there instead, gzipped if it ends in .gz; a name such as "
        "08222023.NASDAQ_ITCH50 tells its date",
    )
    parser.add_argument(
        "--oracle", type=Path, metavar="FILE", help="write there, as JSON, what was made and sent"
    )
    parser.add_argument(
        "--port",
        type=int,
        metavar="PORT",
        help="serve /sim/state, /sim/oracle, /sim/start and /sim/pause there; 0: on a free port",
    )
    parser.add_argument(
        "--wait",
        action="store_true",
        help="send only heartbeats until somebody listens on all lines (of multicast nobody can "
        "tell), or /sim/start is asked for",
    )
    parser.add_argument("--with-parent", action="store_true", help="end when standard input does")
    return parser
