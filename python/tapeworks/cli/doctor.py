"""`tape doctor`: what on this machine could lose data or time, and what to do about it."""

import ctypes
import os
import platform
import resource
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from rich.markup import escape

from tapeworks.cli.cells import as_json
from tapeworks.cli.command import Application, ending_with
from tapeworks.cli.console import console
from tapeworks.cli.formats import Report, ReportOption
from tapeworks.cli.options import ConfigOption, DataOption
from tapeworks.cli.output import size
from tapeworks.cli.settings import load
from tapeworks.errors import ConfigError
from tapeworks.jobs.inspection import all_tapes
from tapeworks.pipeline import Config
from tapeworks.tape import TapeConfig
from tapeworks.views.status import Status, folder_bytes, growth_per_s

OK, WARN, FAIL = "ok", "warn", "fail"
MARKS = {OK: "[green]ok  [/]", WARN: "[yellow]warn[/]", FAIL: "[red]fail[/]"}

SYNC_WARN_MS, SYNC_TRIES = 20.0, 16
FREE_WARN_BYTES, FREE_FAIL_BYTES = 10 << 30, 1 << 30
NOFILE_WANTED = 4096
MAPS_WANTED = 65_530
FULL_WARN_DAYS = 7
JITTER_WARN_US = 2_000.0
CLOCK_ERROR_WARN_US = 50_000
PACKAGES = ("tapeworks", "picows", "msgspec", "pyarrow", "duckdb", "numpy", "click", "rich")

app = Application()


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: str
    found: str
    advice: str = ""


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2), as far as it is read; the rest is room."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


@app.command(epilog="Examples:\n  tape doctor\n  tape doctor --json")
def doctor(
    config: ConfigOption = None,
    form: ReportOption = Report.TEXT,
    data: DataOption = None,
) -> None:
    """Check clock, disk, limits, ports and settings. Exits with 1 if something must be fixed."""
    settings, problem = _settings(config)
    folder = data or (settings.data if settings else Path("data"))
    checks: list[Callable[[], Finding]] = [
        lambda: _config(settings, problem),
        _versions,
        _processors,
        _memory,
        _clock_synchronised,
        _clock_steady,
        lambda: _disk_sync(folder),
        lambda: _disk_space(folder),
        lambda: _tapes(settings, folder),
        _open_files,
        _locked_memory,
        _shared_maps,
    ]
    findings = [check() for check in checks] + _hosts(settings)
    with ending_with(1 if any(finding.state == FAIL for finding in findings) else 0):
        if form is Report.JSON:
            print(as_json([asdict(finding) for finding in findings]))
            return
        for finding in findings:
            console.print(f"{MARKS[finding.state]} {finding.name:<16} {escape(finding.found)}")
            if finding.advice:
                console.print(f"{'':>22}[dim]{escape(finding.advice)}[/]")


def _settings(config: Path | None) -> tuple[Config | None, str]:
    try:
        return load(config), ""
    except ConfigError as error:
        return None, str(error)


def _config(settings: Config | None, problem: str) -> Finding:
    if settings is None:
        return Finding("settings", FAIL, problem, "fix it, then `tape config check`")
    members = {"feeds": settings.feeds, "sinks": settings.sinks, "views": settings.views}
    told = "".join(f"{kind} {', '.join(names)}; " for kind, names in members.items() if names)
    if idle := settings.idle_sinks():
        advice = "; ".join(f"sink {name}: {why}" for name, why in idle.items())
        return Finding("settings", WARN, f"{told}data in {settings.data}", advice)
    return Finding("settings", OK, f"{told}data in {settings.data}")


def _versions() -> Finding:
    found, missing = [f"Python {platform.python_version()}"], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding("versions", WARN, ", ".join(found), f"not installed: {', '.join(missing)}")
    return Finding("versions", OK, ", ".join(found))


def _processors() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    load_1m = os.getloadavg()[0]
    found = f"{cores} cores, load {load_1m:.1f}, {platform.machine()} {platform.system()}"
    if load_1m > (cores or 1):
        return Finding("processors", WARN, found, "busier than it has cores: latency will suffer")
    return Finding("processors", OK, found)


def _memory() -> Finding:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return Finding("memory", OK, "not known on this system")
    free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    if free < 1 << 30:
        return Finding(
            "memory", WARN, f"{size(free)} available", "expected 1 GiB for the page cache"
        )
    return Finding("memory", OK, f"{size(free)} available")


def _clock_synchronised() -> Finding:
    state = _timex()
    if state is None:
        return Finding("clock sync", WARN, "not known on this system", "run an NTP client")
    timex, answer = state
    error_us = timex.maxerror
    if answer == 5 or timex.status & 0x40:  # TIME_ERROR, STA_UNSYNC
        return Finding(
            "clock sync",
            WARN,
            "the kernel says that the clock is not synchronised",
            "receive times may be off: run chrony (`sudo apt-get install -y chrony`)",
        )
    found = f"synchronised, error at most {error_us / 1000:.1f} ms"
    if error_us > CLOCK_ERROR_WARN_US:
        return Finding("clock sync", WARN, found, "chrony with near servers gets below 1 ms")
    return Finding("clock sync", OK, found)


def _timex() -> tuple[_Timex, int] | None:
    if not sys.platform.startswith("linux"):
        return None
    timex = _Timex()
    answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    return None if answer < 0 else (timex, answer)


def _clock_steady() -> Finding:
    # The wall clock against the monotonic one: a step shows as a difference, and the longest
    # pause between two readings is what the scheduler can add to any receive time.
    start_wall, start = time.time_ns(), time.monotonic_ns()
    last, pause = start, 0
    while last - start < 50_000_000:
        now = time.monotonic_ns()
        pause, last = max(pause, now - last), now
    drift = abs((time.time_ns() - start_wall) - (last - start))
    found = f"longest pause {pause / 1000:.0f} us in 50 ms, step {drift / 1000:.0f} us"
    if max(pause, drift) / 1000 > JITTER_WARN_US:
        return Finding("clock steady", WARN, found, "another process uses this core")
    return Finding("clock steady", OK, found)


def _disk_sync(data: Path) -> Finding:
    folder = next(path for path in (data, *data.resolve().parents) if path.is_dir())
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            times = []
            for _ in range(SYNC_TRIES):
                os.write(file.fileno(), bytes(4096))
                start = time.monotonic_ns()
                getattr(os, "fdatasync", os.fsync)(file.fileno())
                times.append((time.monotonic_ns() - start) / 1e6)
    except OSError as error:
        advice = f"`data` must be a folder that {os.environ.get('USER', 'this user')} can write"
        return Finding("disk sync", FAIL, f"{folder}: {error.strerror}", advice)
    found = f"{median(times):.2f} ms a sync, {max(times):.2f} ms at worst, in {folder}"
    if median(times) > SYNC_WARN_MS:
        return Finding("disk sync", WARN, found, "a slow disk: what is durable lags by that much")
    return Finding("disk sync", OK, found)


def _disk_space(data: Path) -> Finding:
    folder = next(path for path in (data, *data.resolve().parents) if path.is_dir())
    free = shutil.disk_usage(folder).free
    if free < FREE_FAIL_BYTES:
        return Finding("disk space", FAIL, f"{size(free)} free", "expected 1 GiB: free some space")
    if free < FREE_WARN_BYTES:
        return Finding("disk space", WARN, f"{size(free)} free", "a busy day needs 10 GiB")
    return Finding("disk space", OK, f"{size(free)} free")


def _tapes(settings: Config | None, data: Path) -> Finding:
    """What the tapes take, how fast they grew, and whether anything keeps them from filling up."""
    # What is not being recorded does not grow.
    growing = {one.name for one in Status(data).sample().sources if one.recorder is not None}
    taken, per_s, count = 0, 0.0, 0
    for tape in all_tapes(data):
        taken, count = taken + folder_bytes(tape), count + 1
        per_s += growth_per_s(tape) if tape.parent.name in growing else 0.0
    if not count:
        return Finding("tapes", OK, "nothing is recorded yet")
    found = f"{count} tapes take {size(taken)}"
    tape_config = settings.tape if settings else TapeConfig()
    if tape_config.keep_bytes:
        return Finding("tapes", OK, f"{found}, {size(count * tape_config.keep_bytes)} at most")
    if per_s:
        days = shutil.disk_usage(data).free / per_s / 86_400
        found += f", and {size(round(per_s * 86_400))} more a day: full in {days:,.1f} days"
        if tape_config.keep_hours:
            found += f", but for what is removed after {tape_config.keep_hours:g} hours"
        elif days < FULL_WARN_DAYS:
            advice = "set keep_hours or keep_bytes in [tape]: the lake keeps what it holds"
            return Finding("tapes", WARN, found, advice)
    return Finding("tapes", OK, found)


def _open_files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < NOFILE_WANTED:
        advice = f"`ulimit -n {min(NOFILE_WANTED, hard) if hard > 0 else NOFILE_WANTED}`"
        return Finding("open files", WARN, f"limit {soft:,}, expected {NOFILE_WANTED:,}", advice)
    return Finding("open files", OK, f"limit {soft:,}; {NOFILE_WANTED:,} are enough")


def _locked_memory() -> Finding:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    found = "no limit" if soft == resource.RLIM_INFINITY else f"limit {size(soft)}"
    return Finding("locked memory", OK, found)


def _shared_maps() -> Finding:
    try:
        count = int(Path("/proc/sys/vm/max_map_count").read_text(encoding="ascii"))
    except OSError:
        return Finding("memory maps", OK, "not limited on this system")
    if count < MAPS_WANTED:
        found = f"limit {count:,}, expected {MAPS_WANTED:,}"
        return Finding("memory maps", WARN, found, f"`sysctl vm.max_map_count={MAPS_WANTED}`")
    return Finding("memory maps", OK, f"limit {count:,}; {MAPS_WANTED:,} are enough")


def _hosts(settings: Config | None) -> list[Finding]:
    """Looks whether the venues can be reached; only a warning, as `tape demo` needs none."""
    findings = []
    for name, host, port in settings.endpoints() if settings else []:
        start = time.monotonic_ns()
        try:
            with socket.create_connection((host, port), timeout=3):
                took = (time.monotonic_ns() - start) / 1e6
            findings.append(Finding("reach", OK, f"{name}: {host}:{port} in {took:.0f} ms"))
        except OSError as error:
            advice = "needed to record; set `proxy` or other end points if this network asks for it"
            reason = error.strerror or str(error)
            findings.append(Finding("reach", WARN, f"{name}: {host}:{port}: {reason}", advice))
    return findings
