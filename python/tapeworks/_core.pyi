"""Types of the native module. Checked against it by stubtest."""

from typing import final

from typing_extensions import Buffer

# record.rs

@final
class Records:
    """A batch of records, never changed once made; its bytes are its buffer, read-only."""

    @property
    def first_offset(self) -> int: ...
    @property
    def next_offset(self) -> int: ...
    @staticmethod
    def from_bytes(data: Buffer, first_offset: int = 0, next_offset: int = 0) -> Records: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
