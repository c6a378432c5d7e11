"""A schema registry by Confluent's API: the id of `MarketData`, under which messages are framed.

The schema is registered under the subject `<topic>-value` as it stands in `market_data.proto`, of
which a registry gives the same id however often it is told. An id that is known is not asked for
again: a registry that is down holds up only what begins.
"""

import base64
import json
import urllib.error
import urllib.request
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from tapeworks.config import redact
from tapeworks.errors import SinkError, SinkUnavailable

CONTENT = "application/vnd.schemaregistry.v1+json"
INCOMPATIBLE, NOT_FOUND, TOO_MANY = 409, 404, 429
# What a registry says of a schema that it knows, and of one that it does not accept.
UNACCEPTABLE = 422
RETRY_MS = 1_000


def schema() -> str:
    """Returns the schema of messages, as it is released."""
    return (files("tapeworks.sinks") / "market_data.proto").read_text(encoding="utf-8")


def frame(schema_id: int) -> bytes:
    """Returns the header of Confluent's wire format, for the first message of a file."""
    return b"\0" + schema_id.to_bytes(4, "big") + b"\0"


class SchemaRegistry:
    """Gives the ids of schemas; remembers those that it was given."""

    def __init__(
        self, url: str, user: str, password: str, timeout_s: float, *, registers: bool = True
    ) -> None:
        """Only remembers its arguments; without `registers` a schema must be there already."""
        self._url = url.rstrip("/")
        self._timeout_s = timeout_s
        self._registers = registers
        self._ids: dict[str, int] = {}
        self._headers = {"Content-Type": CONTENT, "Accept": CONTENT}
        if user:
            pair = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {pair}"

    def schema_id(self, topic: str) -> int:
        """Returns the id of the schema of the values of `topic`.

        Raises:
            SinkUnavailable: the registry does not answer, or has an error of its own.
            SinkError: it refuses the schema, or this user.
        """
        known = self._ids.get(topic)
        if known is None:
            known = self._ids[topic] = self._ask(f"{topic}-value")
        return known

    def _ask(self, subject: str) -> int:
        place = f"{self._url}/subjects/{quote(subject, safe='')}"
        place += "/versions" if self._registers else ""
        body = json.dumps({"schemaType": "PROTOBUF", "schema": schema()}).encode()
        try:
            # The scheme is checked with the settings.
            request = urllib.request.Request(place, body, self._headers)
            with urllib.request.urlopen(request, timeout=self._timeout_s) as answer:
                return _id_of(json.loads(answer.read(1 << 20)), self._told(subject))
        except urllib.error.HTTPError as error:
            raise self._refusal(subject, error) from error
        except (OSError, ValueError) as error:
            told = f"{self._told(subject)}: {getattr(error, 'reason', error)}"
            raise SinkUnavailable(told, retry_after_ms=RETRY_MS) from error

    def _refusal(self, subject: str, error: urllib.error.HTTPError) -> SinkError:
        text = error.read(4_096).decode("utf-8", "replace")
        told = f"{self._told(subject)}: HTTP {error.code}: {text[:500]}"
        if error.code >= 500 or error.code == TOO_MANY:
            return SinkUnavailable(told, retry_after_ms=RETRY_MS)
        if error.code in (INCOMPATIBLE, UNACCEPTABLE):
            told += f"; its versions are of another schema: register this one by hand as {subject}"
        elif error.code == NOT_FOUND and not self._registers:
            told += "; register market_data.proto there, or set schema_register = true"
        return SinkError(told)

    def _told(self, subject: str) -> str:
        return f"schema registry at {redact(self._url)}: {subject}"


def _id_of(answer: Any, told: str) -> int:
    found = answer.get("id") if isinstance(answer, dict) else None
    if not isinstance(found, int) or not 0 < found < 2**31:
        raise SinkError(f"{told}: expected an id, got {str(answer)[:200]}")
    return found
