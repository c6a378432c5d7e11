"""Footers of Parquet files with another schema: the pages before them stay as they are.

A footer is one message of Thrift's compact protocol, and a page is found by its place in the file.
So the schema can be told in other words, with the ids that Iceberg gives to columns, and no page is
read: what the footer says of row groups is copied as it stands. Only what means the same stays the
same: an integer keeps its width, and loses the note of how it is to be shown.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

MAGIC = b"PAR1"
# Behind the footer: its length, and the magic.
TAIL_BYTES = 8
# What is written of an element of the schema, of the whole footer, and of an entry beside it.
TYPE, CHILDREN, NAME, CONVERTED, FIELD_ID, LOGICAL = 1, 5, 4, 6, 9, 10
SCHEMA, ENTRIES = 2, 5
KEY = 1
INT32, INT64 = 1, 2
# What Arrow would have its own reader make of the columns: names of types that are not these.
ARROW_KEY = b"ARROW:schema"
# Types of Thrift's compact protocol.
STOP, TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(13)
UUID = 13
VARINTS = frozenset((I16, I32, I64))
SHORT_LIST_MAX = 14
CONVERTED_INTEGERS = range(11, 19)


@dataclass(frozen=True)
class _Field:
    number: int
    kind: int
    body: bytes


class _Reader:
    """Walks over a message, and cuts it at the fields of a struct."""

    def __init__(self, message: bytes, at: int = 0) -> None:
        self.message = message
        self.at = at

    def varint(self) -> int:
        """Reads a number without sign."""
        value = shift = 0
        while True:
            byte = self.message[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def skip_varint(self) -> None:
        """Passes over a number."""
        message, at = self.message, self.at
        while message[at] >= 0x80:
            at += 1
        self.at = at + 1

    def list_head(self) -> tuple[int, int]:
        """Reads how many elements a list has, and their type."""
        head = self.message[self.at]
        self.at += 1
        size = head >> 4
        return (self.varint() if size > SHORT_LIST_MAX else size), head & 0x0F

    def fields(self) -> Iterator[_Field]:
        """Yields the fields of a struct, and stands behind it at the end."""
        number = 0
        while (head := self.message[self.at]) != STOP:
            self.at += 1
            kind, delta = head & 0x0F, head >> 4
            if delta:
                number += delta
            else:
                number = signed_of(self.varint())
            begin = self.at
            self.skip(kind)
            yield _Field(number, kind, self.message[begin : self.at])
        self.at += 1

    def skip(self, kind: int) -> None:
        """Passes over a value that is a field of a struct.

        Raises:
            ValueError: there is no such type.
        """
        if kind in VARINTS:
            self.skip_varint()
        elif kind == BINARY:
            size = self.varint()
            self.at += size
        elif kind == STRUCT:
            self._skip_struct()
        elif kind in (LIST, SET):
            size, element = self.list_head()
            self._skip_elements(size, element)
        elif kind == DOUBLE:
            self.at += 8
        elif kind == BYTE:
            self.at += 1
        elif kind not in (TRUE, FALSE):
            raise ValueError(f"expected a footer of Parquet, got a field of type {kind}")

    def _skip_struct(self) -> None:
        message = self.message
        while (head := message[self.at]) != STOP:
            self.at += 1
            if head < 0x10:
                self.skip_varint()
            self.skip(head & 0x0F)
        self.at += 1

    def _skip_elements(self, size: int, element: int) -> None:
        if element in (TRUE, FALSE):
            # Of a list, each takes a byte.
            self.at += size
            return
        for _ in range(size):
            self.skip(element)


def signed_of(zigzag: int) -> int:
    """Returns the number with a sign that a number without one stands for."""
    return (zigzag >> 1) ^ -(zigzag & 1)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _number(value: int) -> bytes:
    return _varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _struct(fields: list[_Field]) -> bytes:
    out = bytearray()
    last = 0
    for field in sorted(fields, key=lambda one: one.number):
        delta = field.number - last
        if 0 < delta <= 15:
            out.append(delta << 4 | field.kind)
        else:
            out.append(field.kind)
            out += _number(field.number)
        out += field.body
        last = field.number
    out.append(STOP)
    return bytes(out)


def _list(kind: int, elements: list[bytes]) -> bytes:
    size = len(elements)
    short = size <= SHORT_LIST_MAX
    head = bytes([size << 4 | kind]) if short else bytes([0xF0 | kind]) + _varint(size)
    return head + b"".join(elements)


def _structs(body: bytes) -> Iterator[list[_Field]]:
    reader = _Reader(body)
    size, _ = reader.list_head()
    for _ in range(size):
        yield list(reader.fields())


def footer_of(file_end: bytes) -> bytes:
    """Returns the footer of a file, of whose end `file_end` has enough.

    Raises:
        ValueError: it is no Parquet file, or its end is longer; then the message says how long.
    """
    if file_end[-4:] != MAGIC:
        raise ValueError("it does not end like a Parquet file")
    size = footer_size(file_end)
    if size > len(file_end):
        raise ValueError(f"expected the last {size} bytes, got {len(file_end)}")
    return file_end[-size:-TAIL_BYTES]


def footer_size(file_end: bytes) -> int:
    """Returns how many bytes at the end of a file are its footer, with what stands behind it."""
    return int.from_bytes(file_end[-TAIL_BYTES:-4], "little") + TAIL_BYTES


def with_ids(footer: bytes, ids: Mapping[str, int]) -> bytes:
    """Returns `footer` whose columns have the ids of `ids`, by the path of their names.

    Integers are plain: of 32 bits or of 64, with a sign. The element of a list is
    `<name>.list.element`.

    Raises:
        ValueError: it is no footer of Parquet.
        KeyError: a column has no id.
    """
    reader = _Reader(footer)
    fields = list(reader.fields())
    if reader.at != len(footer):
        raise ValueError(f"expected a footer of {len(footer)} bytes, got {reader.at}")
    out = []
    for field in fields:
        if field.number == SCHEMA:
            elements = _with_ids(list(_structs(field.body)), ids)
            field = _Field(SCHEMA, LIST, _list(STRUCT, elements))
        elif field.number == ENTRIES:
            kept = [entry for entry in _structs(field.body) if _text(entry, KEY) != ARROW_KEY]
            field = _Field(ENTRIES, LIST, _list(STRUCT, [_struct(entry) for entry in kept]))
        out.append(field)
    return _struct(out)


def _with_ids(elements: list[list[_Field]], ids: Mapping[str, int]) -> list[bytes]:
    """Returns the elements of a schema, which stand in the order of its tree."""
    out = [_struct(elements[0])]
    # How many children are to come, and of what.
    open_groups: list[tuple[int, str]] = [(_int(elements[0], CHILDREN), "")]
    for element in elements[1:]:
        while open_groups[-1][0] == 0:
            open_groups.pop()
        left, prefix = open_groups.pop()
        open_groups.append((left - 1, prefix))
        path = prefix + _text(element, NAME).decode()
        children = _int(element, CHILDREN)
        # The group between a list and its elements has no id.
        is_between = bool(children) and bool(prefix)
        kept = [one for one in element if one.number != FIELD_ID]
        if _int(element, TYPE, -1) in (INT32, INT64) and _is_number(element):
            kept = [one for one in kept if one.number not in (CONVERTED, LOGICAL)]
        if not is_between:
            kept.append(_Field(FIELD_ID, I32, _number(ids[path])))
        out.append(_struct(kept))
        if children:
            open_groups.append((children, f"{path}."))
    return out


def _is_number(element: list[_Field]) -> bool:
    """Whether an element of 32 or 64 bits is an integer, and neither a time nor a decimal."""
    converted = _int(element, CONVERTED, -1)
    has_logical = any(one.number == LOGICAL for one in element)
    return converted in CONVERTED_INTEGERS or (converted < 0 and not has_logical)


def _int(element: list[_Field], number: int, absent: int = 0) -> int:
    for one in element:
        if one.number == number:
            return signed_of(_Reader(one.body).varint())
    return absent


def _text(element: list[_Field], number: int) -> bytes:
    for one in element:
        if one.number == number:
            reader = _Reader(one.body)
            size = reader.varint()
            return one.body[reader.at : reader.at + size]
    return b""
