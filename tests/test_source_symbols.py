"""What is kept of the instruments of a source, so that nobody has to read its whole tape."""

import pytest

from tapeworks._core import Records
from tapeworks.errors import CorruptTapeError
from tapeworks.source_symbols import KeptDefinitions, SourceSymbols
from tapeworks.tape import TapeWriter


def test_what_is_kept_of_instruments_is_not_read_from_the_tape(spine, maker):
    # What the tape begins with is damaged, so that it cannot be read again: what is kept says how
    # far it reaches, and what was defined since is behind that. What says so is not believed where
    # the file has less, as one that was restored, or where the tape is another one.
    folder = spine.tape()
    folder.mkdir(parents=True)
    with TapeWriter(folder, "records", durability="never", segment_bytes=1 << 16) as tape:
        first = maker.definitions(("BTCUSDT", "ETHUSDT")).tobytes()
        tape.append(first)
        for at in range(0, 3_000, 500):
            tape.append(maker.trades(500, at).tobytes())
        tape.sync()
        kept = KeptDefinitions(spine.path, spine.source)
        kept.keep(Records.from_bytes(first))
        kept.cover()
        assert kept.covered() == tape.end
        tape.append(maker.definitions().tobytes())
        tape.sync()
    oldest = min(folder.glob("*.seg"))
    with oldest.open("r+b") as file:
        file.seek(oldest.stat().st_size // 2)
        file.write(b"\xff" * 1_000)
    names = {1: "BTCUSDT", 2: "ETHUSDT", 3: "SOLUSDT"}
    assert SourceSymbols(spine.path, spine.source).names() == names
    told = kept.path.with_name("definitions.json")
    noted = told.read_text()
    for wrong in ('"offset": 1, "x": "', '"tape": "' + "0" * 32 + '", "x": "', "{"):
        told.write_text(noted.replace('"tape": "', wrong))
        assert kept.covered() == 0
    told.write_text(noted)
    KeptDefinitions(spine.path, spine.source).keep(Records.from_bytes(first[: len(first) // 2]))
    assert kept.covered() == 0
    with pytest.raises(CorruptTapeError):
        SourceSymbols(spine.path, spine.source).names()
