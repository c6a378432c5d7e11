"""The published history: how its files are named, and what a snapshot says that it covers.

    <namespace>/<table>/data/venue=<source>/date=<day>/<first>-<last>-<size>-<sha256>.parquet
    <namespace>/<table>/data/venue=<source>/date=<day>/hour=<hour>/<...>-<sha256>.parquet
    <namespace>/<table>/data/venue=<source>/date=<day>/hour=<hour>/<...>-<sha256>-<of>.parquet
    <namespace>/<table>/metadata/                    what Iceberg keeps of the table
    <namespace>/<table>/metadata/version-hint.text   the metadata that counts
    <namespace>/_tapeworks/<source>/symbols.records  definitions of all instruments

A data file is a file of the lake, byte for byte, with another footer behind it; where a footer is
not enough, the rows stand once more in front of it. So the `size` bytes before the footer are what
the lake's commit named by its SHA-256, and the name says which rows of which tape they are. Names
are never used twice for other bytes: to publish again what is there changes nothing.

Of a table that is cut by the hour, a file of the lake with rows of several hours is a file for each
of them; `<of>` is then the SHA-256 of that file of the lake.
"""

import json
import os
import re
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pyarrow import fs

from tapeworks.addresses import secret_in
from tapeworks.commits import StoredFile
from tapeworks.durable import make_folder, sync_folder
from tapeworks.errors import LakeError, QueryError
from tapeworks.object_store import SCHEME, file_system, is_object, refusal
from tapeworks.parquet_footer import TAIL_BYTES, footer_size
from tapeworks.tape import Place

OWN = "_tapeworks"
HINT = "version-hint.text"
METADATA_SUFFIX = ".metadata.json"
PLACE_KEY = "tapeworks.place."
"""Begins the property of a snapshot that says what of a source it covers."""
COMPANIONS = {"trades": ("corrections",), "gaps": ("sessions", "subscriptions")}
"""What is published together with a table: without it, rows would stand that were cancelled, and
what was not recorded at all would not be told."""
TELLING = frozenset({"gaps", *(name for names in COMPANIONS.values() for name in names)})
"""The tables whose rows tell something of other rows, also of earlier days and hours."""
CHUNK_BYTES = 8 << 20
PART = ".part"
LOCAL = re.compile(r"^file:/+")
NAME = re.compile(
    r"data/venue=(?P<source>[^/]+)/date=(?P<day>[^/]+)/(?:hour=(?P<hour>\d\d)/)?"
    r"(?P<first>\d+)-(?P<last>\d+)-(?P<size>\d+)-(?P<sha256>[0-9a-f]{64})"
    r"(?:-(?P<origin>[0-9a-f]{64}))?\.parquet"
)


@dataclass(frozen=True)
class PublishedFile:
    """A file of the lake that was published, or its rows of one hour; what it is named by."""

    source: str
    day: str
    first: int
    last: int
    size: int
    """Of the file of the lake: what is around it in the published one does not count."""
    sha256: str
    hour: str = ""
    """With two digits, of a table that is cut by the hour."""
    origin: str = ""
    """The hash of the file of the lake of which this is a part; none: it is all of it."""

    @staticmethod
    def of(stored: StoredFile, source: str, day: str, first: int, last: int) -> "PublishedFile":
        """Returns what a file of the lake is published as."""
        return PublishedFile(source, day, first, last, stored.size, stored.sha256)

    @staticmethod
    def parse(path: str) -> "PublishedFile":
        """Returns what the path of a data file says.

        Raises:
            LakeError: it was not made by Tapeworks.
        """
        match = NAME.search(path)
        if match is None:
            raise LakeError(
                f"{path} was written by another program: what it holds of the tape is not known. "
                "Give Tapeworks a table of its own, and let no other program write or compact it"
            )
        numbers = int(match["first"]), int(match["last"]), int(match["size"])
        parts = match["hour"] or "", match["origin"] or ""
        return PublishedFile(match["source"], match["day"], *numbers, match["sha256"], *parts)

    @property
    def name(self) -> str:
        """The place below the folder of the table."""
        folder = f"data/venue={self.source}/date={self.day}"
        if self.hour:
            folder += f"/hour={self.hour}"
        of = f"-{self.origin}" if self.origin else ""
        name = f"{self.first:012d}-{self.last:012d}-{self.size}-{self.sha256}{of}.parquet"
        return f"{folder}/{name}"


@dataclass(frozen=True)
class Coverage:
    """What a snapshot holds of one source: all below `place` of the days up to `through`."""

    place: Place
    through: str
    """The instant up to which days or hours were published, in ISO form; the end of them."""
    ts: int | None = None
    """A receive time before which all is covered, of these days."""
    known: int | None = None
    """The receive time up to which what it is derived from was derived, in ns."""
    input: int | None = None
    """Of gaps: up to which offset of the records, which tell them, they go at most."""

    def to_json(self) -> str:
        """Writes it as the value of a property."""
        place = [self.place.offset, self.place.tape, self.place.fingerprint]
        said = {"place": place, "through": self.through, "ts": self.ts, "known": self.known}
        return json.dumps(said if self.input is None else said | {"input": self.input})

    @staticmethod
    def from_json(text: str) -> "Coverage":
        """Reads what `to_json` wrote.

        Raises:
            LakeError: it is something else.
        """
        try:
            found: dict[str, Any] = json.loads(text)
            offset, tape, fingerprint = found["place"]
            place = Place(offset, tape, fingerprint)
            times = found["ts"], found["known"]
            return Coverage(place, str(found["through"]), *times, found.get("input"))
        except (ValueError, KeyError, TypeError) as error:
            raise LakeError(f"expected what a snapshot covers, got {text!r}: {error}") from None


def coverage_in(properties: dict[str, str]) -> dict[str, Coverage]:
    """Returns what a snapshot covers, by source."""
    return {
        key.removeprefix(PLACE_KEY): Coverage.from_json(value)
        for key, value in properties.items()
        if key.startswith(PLACE_KEY)
    }


class Store:
    """The files below one address: a folder, or `s3://bucket/prefix`.

    What is written is there whole or not at all, and of a folder survives a loss of power.
    """

    def __init__(self, address: str) -> None:
        """Reaches it.

        Raises:
            QueryError: the address has keys in it.
        """
        if refused := secret_in(address):
            raise QueryError(refused)
        self.is_local = not is_object(address)
        if self.is_local:
            self.address = str(Path(address.removeprefix("file://")).absolute())
            self._fs: fs.FileSystem = fs.LocalFileSystem()
            self._root = self.address
        else:
            self.address = address.rstrip("/")
            self._fs = file_system()
            self._root = self.address.removeprefix(SCHEME)

    @property
    def location(self) -> str:
        """The address as a URI."""
        return f"file://{self.address}" if self.is_local else self.address

    def path_of(self, uri: str) -> str:
        """Returns the path below the address that a URI, or path, names.

        Raises:
            LakeError: it lies elsewhere.
        """
        # Catalogs in Java write one slash where others write three.
        plain = LOCAL.sub("/", uri) if self.is_local else uri
        if not plain.startswith(f"{self.address}/"):
            raise LakeError(f"expected a file below {self.address}, got {uri}")
        return plain.removeprefix(f"{self.address}/")

    def size(self, path: str) -> int | None:
        """Returns the size of a file; none if there is no such file."""
        found = self._fs.get_file_info(self._at(path))
        return found.size if found.type == fs.FileType.File else None

    def read(self, path: str) -> bytes | None:
        """Returns what a file holds; none if there is no such file."""
        try:
            with self._fs.open_input_file(self._at(path)) as file:
                content: bytes = file.read()
                return content
        except FileNotFoundError:
            return None

    def write(self, path: str, parts: Iterable[bytes | memoryview]) -> None:
        """Writes a file, or replaces it."""
        if self.is_local:
            self._write_durably(Path(self._at(path)), parts)
            return
        # An object appears when its stream is closed: what fails before must not close it.
        stream = self._fs.open_output_stream(self._at(path))
        for part in parts:
            for at in range(0, len(part), CHUNK_BYTES):
                stream.write(part[at : at + CHUNK_BYTES])
        stream.close()

    def fetch(self, path: str, size: int, target: Path) -> None:
        """Copies the `size` bytes before the footer of a file to `target`, whole or not at all.

        Raises:
            LakeError: the file is shorter.
            OSError: it cannot be read, or `target` not be written.
        """
        part = target.with_name(f"{target.name}.{os.getpid()}{PART}")
        try:
            with self._fs.open_input_file(self._at(path)) as source, part.open("wb") as copy:
                end = source.size()
                source.seek(end - TAIL_BYTES)
                begin = end - footer_size(source.read(TAIL_BYTES)) - size
                if begin < 0:
                    raise LakeError(f"{path}: expected {size} bytes before its footer")
                source.seek(begin)
                left = size
                while left and (chunk := source.read(min(left, CHUNK_BYTES))):
                    copy.write(chunk)
                    left -= len(chunk)
            if left:
                raise LakeError(f"{path}: expected {size} bytes, got {size - left}")
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)

    def folders(self, path: str = "") -> list[str]:
        """Returns the names of the folders below `path`, sorted."""
        selector = fs.FileSelector(self._at(path), allow_not_found=True)
        found = self._fs.get_file_info(selector)
        return sorted(one.base_name for one in found if one.type == fs.FileType.Directory)

    def files(self, path: str) -> Iterator[tuple[str, datetime]]:
        """Yields all files below `path`, and when each was written."""
        selector = fs.FileSelector(self._at(path), recursive=True, allow_not_found=True)
        for one in self._fs.get_file_info(selector):
            if one.type == fs.FileType.File:
                name = one.path.removeprefix(f"{self._root}/")
                yield name, one.mtime or datetime.now(UTC)

    def delete(self, path: str) -> None:
        """Deletes a file."""
        self._fs.delete_file(self._at(path))

    def refusal(self, error: OSError) -> str:
        """Returns in one line why it cannot be read or written."""
        return f"{self.address}: {error}" if self.is_local else refusal(self.address, error)

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _write_durably(self, path: Path, parts: Iterable[bytes | memoryview]) -> None:
        make_folder(path.parent)
        # Several may write one file at the same time, as the hint of a table that they share.
        aside = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{PART}")
        try:
            with aside.open("wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def find_namespace(store: Store) -> str:
    """Returns the folder below `store` that holds published tables; empty: itself.

    Raises:
        QueryError: there is none, or there are several.
        OSError: the store cannot be read.
    """
    names = store.folders()
    if OWN in names:
        return ""
    found = [name for name in names if OWN in store.folders(name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise QueryError(f"expected one namespace in {store.address}, got {', '.join(found)}")
    raise QueryError(
        f"nothing is published in {store.address}: `tape publish iceberg` does it, or the address "
        "is another"
    )
