"""The settings of a live feed of ITCH over MoldUDP64 or SoupBinTCP."""

import ipaddress
from dataclasses import dataclass, field
from typing import ClassVar

from tapeworks.config import check_once, check_within, source_name
from tapeworks.errors import ConfigError

LINES_MAX = 8
SOUP = "soupbintcp://"
USER_MAX, PASSWORD_MAX = 6, 10


@dataclass(frozen=True)
class ItchConfig:
    """What to record of a feed of NASDAQ, BX or PSX that is received over the network."""

    kind: ClassVar[str] = "itch"

    lines: tuple[str, ...] = ()
    """Group and port of each line of one session, such as `233.54.12.111:26477`; or an address of
    this host and the port that packets are sent to, such as `127.0.0.1:26400`; or a server of
    SoupBinTCP that has the same session, such as `soupbintcp://10.0.0.5:26500`."""
    user: str = ""
    """Who logs in to servers of SoupBinTCP."""
    password: str = field(default="", repr=False, metadata={"secret": True})
    """The password that goes with it. From the environment only."""
    requests: tuple[str, ...] = ()
    """Host and port of the servers that send lost messages again; none: a hole of all lines is a
    gap."""
    source: str = ""
    """The name of the source; none: that of its table."""
    interface: str = "0.0.0.0"
    """Address of the interface that groups are joined on; 0.0.0.0: the system chooses."""
    request_after_ms: int = 10
    """What is missing is asked for when no other line brought it within so long."""
    hold_ms: int = 1_000
    """What is missing is a gap when nothing brought any of it for so long."""
    start_messages_max: int = 100_000
    """Messages that were sent before the recorder started are asked for if they are no more."""
    receive_bytes: int = 32 << 20
    """The buffer of each socket; the system may give less (`net.core.rmem_max`), and tells."""
    idle_timeout_s: float = 15.0
    """A line that carries nothing for so long, not even a heartbeat, is a gap, and opened anew."""
    pending_bytes_max: int = 256 << 20
    """Packets waiting for a tape that cannot be written; beyond it the newest are shed, counted."""

    def __post_init__(self) -> None:
        if not self.lines or len(self.lines) > LINES_MAX:
            raise ConfigError(
                f"lines: expected 1 to {LINES_MAX} of GROUP:PORT, such as 233.54.12.111:26477, "
                f"got {len(self.lines)}"
            )
        check_once("lines", self.lines)
        for text in self.lines:
            host, _ = address_of("lines", text.removeprefix(SOUP))
            if not text.startswith(SOUP):
                _check_ip("lines", host)
        for name, most in (("user", USER_MAX), ("password", PASSWORD_MAX)):
            text = getattr(self, name)
            if not text.isascii() or len(text) > most:
                raise ConfigError(f"{name}: expected up to {most} ASCII characters")
        for text in self.requests:
            address_of("requests", text)
        _check_ip("interface", self.interface)
        if self.source:
            source_name(self.source)
        check_within("request_after_ms", self.request_after_ms, 0, 60_000)
        check_within("hold_ms", self.hold_ms, max(1, self.request_after_ms), 60_000)
        check_within("start_messages_max", self.start_messages_max, 0, 10_000_000)
        check_within("receive_bytes", self.receive_bytes, 1 << 16, 1 << 30)
        check_within("idle_timeout_s", self.idle_timeout_s, 1, 86_400)
        check_within("pending_bytes_max", self.pending_bytes_max, 1 << 16, 1 << 30)

    @property
    def name(self) -> str:
        """The source: the folder of its tapes."""
        return self.source or "itch"

    @property
    def ws(self) -> str:
        """Nothing is connected to."""
        return ""

    @property
    def rest(self) -> str:
        """No request is made over HTTP."""
        return ""

    @property
    def record_channels(self) -> frozenset[str]:
        """The core's names of the record channels that are received."""
        return frozenset({"order", "trade"})


def address_of(name: str, text: str) -> tuple[str, int]:
    """Returns host and port of the setting `name`.

    Raises:
        ConfigError: it is not HOST:PORT.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) <= 65_535:
        raise ConfigError(f"{name}: expected HOST:PORT, such as 127.0.0.1:26400, got {text!r}")
    return host, int(port)


def _check_ip(name: str, host: str) -> None:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        raise ConfigError(f"{name}: expected an IPv4 address, got {host!r}") from None
