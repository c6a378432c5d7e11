"""Python code that the core calls: whatever it does, it ends with an exception, never in a wait."""

import subprocess
import sys
from pathlib import Path

import pytest

FEED = """
import os, sys, tempfile, threading, time
import tapeworks._core as core

class Feed:
    def take(self, frame, out):
        work(out)
    def snapshot(self): return b""
    def restore(self, state): pass

def together(*tasks):
    threads = [threading.Thread(target=task, daemon=True) for task in tasks]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

def spin(out):
    for _ in range(20_000): pass
    out.trade("X", "1", "1")

sys.setswitchinterval(1e-5)
work = spin
"""

PROGRAMS = {
    "levels_that_look_at_the_builder": """
def work(out):
    levels = lambda: ((price, "1") for price in ("1", "2") if out.ts_recv)
    out.depth("X", levels(), [], sequence=2)
    out.snapshot("X", levels(), levels(), sequence=3, in_stream=True)
    out.partial_depth("X", [], levels(), sequence=3)
records = core.Decoder("mine", Feed()).receive(1, b"", b"x", 1)
assert len(records) == 2 + 1 + 6 + 4, len(records)
""",
    "levels_that_write_to_the_builder": """
def work(out):
    def levels():
        out.trade("X", "1", "1")
        yield ("1", "1")
    out.depth("X", levels(), [], sequence=2)
assert len(core.Decoder("mine", Feed()).receive(1, b"", b"x", 1)) == 2
""",
    "two_threads_with_one_decoder": """
decoder = core.Decoder("mine", Feed())
def decode():
    for number in range(100): assert len(decoder.receive(1, b"", b"x", number)) == 1
def look():
    for _ in range(2000): decoder.symbols(), decoder.definitions()
together(decode, decode, look)
""",
    "a_decoder_that_calls_itself": """
def work(out):
    decoder.receive(1, b"", b"x", 1)
decoder = core.Decoder("mine", Feed())
try:
    decoder.receive(1, b"", b"x", 1)
except Exception as error:
    assert "within" in str(error.__cause__ or error) or error.reason == "raised", error
else:
    raise SystemExit("it may not come back")
""",
    "a_status_while_frames_are_decoded": """
ingest = core.Ingest(tempfile.mkdtemp(), "s", "mine", decoder=Feed())
done = threading.Event()
def receive():
    for number in range(100):
        ingest.receive(0, 1, time.time_ns(), b"x")
        ingest.flush()
    done.set()
def look():
    while not done.is_set(): ingest.stats(), ingest.notes(), ingest.needs_snapshot()
together(receive, look)
assert ingest.stats()["frames"] == 100
ingest.close()
""",
    "objects_that_go_away_while_a_status_is_made": """
import gc
class Cycle:
    def __init__(self): self.me = self
    def __del__(self):
        try: ingest.stats()
        except RuntimeError: pass
ingest = core.Ingest(tempfile.mkdtemp(), "s", "mine", decoder=Feed())
gc.set_threshold(1)
for _ in range(2000):
    Cycle()
    ingest.stats()
""",
    "a_stage_whose_decoder_looks_at_it": """
from tapeworks.tape import TapeWriter
from pathlib import Path
folder = Path(tempfile.mkdtemp())
with TapeWriter(folder / "raw", "blobs") as writer:
    for number in range(50): writer.append_blob(1, b"x", ts=number + 1, feed=255)
seen = []
def work(out):
    try: stage.covered
    except RuntimeError as error: seen.append(error)
    spin(out)
stage = core.Stage("normalize", folder / "raw", folder / "out", folder / "state", decoder=Feed())
done = threading.Event()
def step():
    stage.run_until_idle()
    done.set()
def look():
    while not done.is_set(): stage.lag, stage.counters()
together(step, look)
assert stage.covered == 50 and len(seen) == 50
stage.close()
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_python_in_the_core_never_waits_for_itself(name: str, tmp_path: Path) -> None:
    # In a process of its own, for a deadlock under the interpreter's lock stops all its threads.
    program = FEED + PROGRAMS[name]
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120, cwd=tmp_path)


DAEMONS = """
tape = os.getcwd() + "/tape"
with core.TapeWriter(tape, "blobs") as writer:
    for number in range(5_000): writer.append_blob(1, b"x", ts=number + 1, feed=255)

def forever(step):
    begun = threading.Event()
    def run():
        while True:
            step()
            begun.set()
    for _ in range(4): threading.Thread(target=run, daemon=True).start()
    begun.wait()
"""

ENDINGS = {
    "a_tape_is_verified": "forever(lambda: core.verify(tape))",
    "records_are_awaited": "forever(lambda: core.TapeReader(tape, 5_000).wait(1))",
    "a_tape_is_read": "forever(lambda: core.TapeReader(tape).read_blobs(100_000))",
    "a_tape_is_opened_that_is_not_there": """
def fail():
    try: core.TapeReader("none")
    except FileNotFoundError: pass
forever(fail)
""",
    "a_decoder_runs": """
forever(lambda: core.Decoder("mine", Feed()).receive(1, b"", b"x", 1))
""",
    # Objects of the module go away when no thread can come back from where it is.
    "a_status_is_asked_for_at_the_end": """
import types
class Last:
    def __init__(self, ingest): self.ingest = ingest
    def __del__(self, show=os.write):
        try: self.ingest.stats()
        except RuntimeError as error: show(1, str(error).encode())
ingest = core.Ingest(os.getcwd(), "s", "mine", decoder=Feed())
sys.modules["last"] = types.ModuleType("last")
sys.modules["last"].last = Last(ingest)
def receive():
    ingest.receive(0, 1, time.time_ns(), b"x")
    ingest.flush()
forever(receive)
""",
}


@pytest.mark.parametrize("name", ENDINGS)
def test_python_ends_in_order_while_a_daemon_thread_is_in_the_core(
    name: str, tmp_path: Path
) -> None:
    # It ended by SIGABRT: the thread was unwound where it asked for the interpreter's lock again.
    program = FEED + DAEMONS + ENDINGS[name]
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, cwd=tmp_path)
