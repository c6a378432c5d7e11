"""QuestDB by HTTP: questions in SQL, and rows by the line protocol; one connection, kept open.

A request is sent once. What becomes of one without an answer is unknown, and is never tried again
here: whoever asked finds out what the server has.
"""

import http.client
import json
import ssl
from base64 import b64encode
from typing import Any
from urllib.parse import unquote, urlencode, urlsplit

from tapeworks.config import redact
from tapeworks.errors import SinkError, SinkUnavailable

# What an operator has to change is asked for seldom.
REFUSED_RETRY_MS = 3_000
TOLD_MAX = 500


class RowsRefused(Exception):
    """The server takes none of the rows; `line` is the first that it refuses, counted from 1."""

    def __init__(self, told: str, line: int | None) -> None:
        super().__init__(told)
        self.line = line


class QuestClient:
    """One connection to a server."""

    def __init__(self, url: str, timeout_s: float) -> None:
        place = urlsplit(url)
        self._shown = redact(url)
        self._headers = {"User-Agent": "tapeworks"}
        if place.username is not None:
            pair = f"{unquote(place.username)}:{unquote(place.password or '')}"
            self._headers["Authorization"] = "Basic " + b64encode(pair.encode()).decode()
        host, port = place.hostname or "localhost", place.port
        if place.scheme == "https":
            context = ssl.create_default_context()
            self._connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port or 443, timeout=timeout_s, context=context
            )
        else:
            self._connection = http.client.HTTPConnection(host, port or 9000, timeout=timeout_s)

    def ask(self, query: str) -> list[list[Any]]:
        """Runs one statement; returns its rows.

        Raises:
            SinkUnavailable: no answer, or the server refuses to serve us.
            SinkError: the statement is wrong.
        """
        words = urlencode({"query": query, "nm": "true"})
        status, body = self._request("GET", f"/exec?{words}", None)
        if status == http.client.OK:
            found: list[list[Any]] = json.loads(body).get("dataset", [])
            return found
        told = _told(body)
        if status == http.client.BAD_REQUEST and not _is_passing(told):
            raise SinkError(f"QuestDB at {self._shown}: {told} ({query})")
        raise self._refusal(status, told)

    def write(self, lines: bytes) -> None:
        """Commits rows of one table, all or none.

        Raises:
            RowsRefused: one of them can never be taken.
            SinkUnavailable: no answer, or the server refuses to serve us.
        """
        status, body = self._request("POST", "/write?precision=n", lines)
        if status == http.client.NO_CONTENT:
            return
        told = _told(body)
        if status == http.client.BAD_REQUEST:
            raise RowsRefused(told, _line(body))
        raise self._refusal(status, told)

    def close(self) -> None:
        """Closes the connection; must not fail."""
        self._connection.close()

    def _request(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        try:
            self._connection.request(method, path, body, self._headers)
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            # It would be in the middle of an answer.
            self._connection.close()
            told = str(error) or type(error).__name__
            raise SinkUnavailable(
                f"QuestDB at {self._shown}: {told}", retry_after_ms=500
            ) from error

    def _refusal(self, status: int, told: str) -> SinkUnavailable:
        retry_ms = REFUSED_RETRY_MS if 400 <= status < 500 else 500
        return SinkUnavailable(
            f"QuestDB at {self._shown} answers {status}: {told}", retry_after_ms=retry_ms
        )


def _is_passing(told: str) -> bool:
    """Whether a statement failed for a reason that passes: another one changes the table."""
    return any(word in told for word in ("busy", "locked", "timeout", "cancelled", "memory limit"))


def _told(body: bytes) -> str:
    """Returns the server's words, on one line."""
    try:
        content = json.loads(body)
        text = str(content.get("message") or content.get("error") or content)
    except (ValueError, AttributeError):
        text = body.decode(errors="replace")
    return redact(" ".join(text.split()))[:TOLD_MAX]


def _line(body: bytes) -> int | None:
    try:
        return int(json.loads(body)["line"])
    except (ValueError, KeyError, TypeError):
        return None
