"""One server that alerts are sent to, by the library Apprise: when it may be told, what it said.

What Apprise logs names targets, which are secrets. Of that only a status of HTTP is shown, and
whether there was a connection at all.
"""

import hashlib
import logging
import re
import threading
import time
from typing import Any, Protocol

import apprise

log = logging.getLogger("tapeworks.sinks")
RETRY_S, RETRY_S_MAX = 1.0, 300.0
TYPES = {"info": "info", "warning": "warning", "critical": "failure"}
REFUSED = "it refused the message"
STATUS = re.compile(r"error=(\d{3})\b")


class TargetSettings(Protocol):
    """How often a target is told, and how long it may take."""

    @property
    def per_minute(self) -> int:
        """Messages a minute, at most."""

    @property
    def timeout_seconds(self) -> float:
        """A server that does not answer for so long has failed."""


class Telling(Protocol):
    """What is sent."""

    title: str
    body: str
    severity: str


_said = threading.local()


class _Reasons(logging.Handler):
    """Keeps, for each thread, why the last message was not taken."""

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if found := STATUS.search(text):
            _said.reason = f"it answered {found[1]}"
        elif "onnection error" in text or "Socket Exception" in text:
            _said.reason = "it was not reached"


_apprise = logging.getLogger("apprise")
_apprise.setLevel(logging.WARNING)
_apprise.propagate = False
_apprise.addHandler(_Reasons())


def service_of(url: str) -> Any:
    """Returns what of Apprise sends to `url`; none where no service of it takes that."""
    return apprise.Apprise.instantiate(url, suppress_exceptions=True)


class Target:
    """One server: when it was told, and when it may be told again."""

    def __init__(self, url: str, settings: TargetSettings) -> None:
        self.mark = hashlib.sha256(url.encode()).hexdigest()[:16]
        self.trouble = self.refusal = ""
        self._server: Any = service_of(url)
        self._per_minute = settings.per_minute
        self._sent_at: list[float] = []
        self._failures, self._retry_at = 0, 0.0
        self.name = f"{self._server.service_name} ({self.mark[:6]})"
        self._server.socket_connect_timeout = settings.timeout_seconds
        self._server.socket_read_timeout = settings.timeout_seconds

    def is_ready(self) -> bool:
        """Whether it may be tried now."""
        now = time.monotonic()
        self._sent_at = [at for at in self._sent_at if now - at < 60.0]
        return now >= self._retry_at and len(self._sent_at) < self._per_minute

    def send(self, message: Telling) -> bool:
        """Sends `message`; returns whether the server took it."""
        self._sent_at.append(time.monotonic())
        _said.reason = REFUSED
        try:
            taken = bool(
                self._server.notify(
                    body=message.body, title=message.title, notify_type=TYPES[message.severity]
                )
            )
        except Exception as error:
            # Whatever a service of a stranger raises.
            log.debug("%s: %r", self.name, error)
            taken, _said.reason = False, f"it raised {type(error).__name__}"
        if taken:
            self._failures, self.trouble, self.refusal = 0, "", ""
            return True
        self._failures += 1
        self.refusal = _said.reason
        wait_s = min(RETRY_S * 2 ** min(self._failures - 1, 20), RETRY_S_MAX)
        self._retry_at = time.monotonic() + wait_s
        self.trouble = f"{self.name} failed {self._failures} times in a row: {self.refusal}"
        log.warning(
            "%s did not take an alert, %s: again in %.0f s", self.name, self.refusal, wait_s
        )
        return False

    def give_up(self, message: Telling, why: str) -> None:
        """Says that `message` is not sent, and why."""
        log.error("%s: given up, %s: %s", self.name, why, message.title)
