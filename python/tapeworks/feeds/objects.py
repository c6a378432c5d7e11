"""Files that lie in an object store (S3): fetched whole before they are read."""

from collections.abc import Callable
from pathlib import Path

from pyarrow import fs

from tapeworks.addresses import secret_in
from tapeworks.durable import make_folder
from tapeworks.errors import ConfigError, FeedError
from tapeworks.object_store import SCHEME, file_system, refusal

CHUNK_BYTES = 8 << 20
PART = ".part"


class ObjectStore:
    """The objects of one S3 service, `endpoint` unless the environment names another."""

    def __init__(self, endpoint: str = "") -> None:
        self._endpoint = endpoint
        self._store = file_system(endpoint)

    def names(self, address: str) -> list[str]:
        """Returns the objects that an address means: itself, or all below it if it ends with `/`.

        Raises:
            ConfigError: there are none, or the address has keys in it.
            FeedError: the service is not reached, or refuses.
        """
        if refused := secret_in(address):
            raise ConfigError(refused)
        place = address.removeprefix(SCHEME)
        if "/" not in place.strip("/"):
            raise ConfigError(f"expected s3://BUCKET/KEY, got {address!r}")
        try:
            if place.endswith("/"):
                selector = fs.FileSelector(place.rstrip("/"), recursive=True, allow_not_found=True)
                found = self._store.get_file_info(selector)
            else:
                found = [self._store.get_file_info(place)]
        except OSError as error:
            raise self._refusal(address, error) from None
        names = sorted(SCHEME + one.path for one in found if one.type == fs.FileType.File)
        if not names:
            raise ConfigError(
                f"expected an object at {address}, or several below it where it ends with /; got "
                "none"
            )
        return names

    def fetch(self, address: str, folder: Path, tell: Callable[[int, int], None]) -> Path:
        """Copies an object to `folder`, under its whole name; returns the path of the copy.

        A copy that is there already, of the object's size, is taken as it is. `tell` is given the
        bytes that are there, and those of the object.

        Raises:
            FeedError: the service is not reached, refuses, or sent less than the object has.
            OSError: the disk does not take it.
        """
        place = address.removeprefix(SCHEME)
        path = folder / place
        try:
            size = self._store.get_file_info(place).size or 0
            if path.is_file() and path.stat().st_size == size:
                return path
            # As it is: the readers unpack.
            source = self._store.open_input_stream(place, compression=None)
        except OSError as error:
            raise self._refusal(address, error) from None
        make_folder(path.parent)
        part = path.with_name(path.name + PART)
        done = 0
        with source, part.open("wb") as copy:
            while chunk := self._read(address, source):
                copy.write(chunk)
                done += len(chunk)
                tell(done, size)
        if done != size:
            part.unlink()
            raise FeedError(f"{address}: expected {size:,} bytes, got {done:,}: run it again")
        part.replace(path)
        return path

    def _read(self, address: str, source: object) -> bytes:
        try:
            chunk: bytes = source.read(CHUNK_BYTES)  # type: ignore[attr-defined]
        except OSError as error:
            raise self._refusal(address, error) from None
        return chunk

    def _refusal(self, address: str, error: OSError) -> FeedError:
        told = refusal(address, error, self._endpoint)
        return FeedError(f"{told}; nothing of it was imported")
