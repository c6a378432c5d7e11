"""The suite of every view: those of the table, and one of a user's own."""

import hashlib
import importlib
import json
import re
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tapeworks.config import Section, Value
from tapeworks.errors import ConfigError
from tapeworks.registry import MEMBERS as TABLE
from tapeworks.registry import load_member
from tapeworks.settings import resolve_config
from tapeworks.stopping import Stop
from tapeworks.views.base import resolve_symbols

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
OWN = "own_view:Board"


class Member(NamedTuple):
    """A view under test: its settings, and how one sees what it shows."""

    settings: dict[str, object]
    shown: Callable[[Path, str], str]


def served(folder: Path, log: str) -> str:
    """What the view that said in its log where it listens answers."""
    [url] = re.findall(r"serving (\S+)/metrics", log)
    with urllib.request.urlopen(f"{url}/metrics", timeout=10) as answer:
        return str(answer.read().decode())


def written(folder: Path, log: str) -> str:
    """What is in the file of the example."""
    return (folder / "board.json").read_text()


MEMBERS = {
    "metrics": Member({"port": 0, "age_s_max": 0.0}, served),
    OWN: Member({"path": "board.json", "every_s": 0.01}, written),
}


@pytest.fixture(autouse=True)
def _examples(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("own_view", None)


def settings(name: str, **more: object) -> Any:
    """The settings of a member, resolved as those of `tapeworks.toml` are."""
    values = {"kind": name, **MEMBERS[name].settings, **more}
    table = Section("views.mine", {key: Value(value, "test") for key, value in values.items()})
    return resolve_config(Section("", {"views": Section("views", {"mine": table})})).views["mine"]


def content(data: Path) -> dict[str, str]:
    """A hash of each file."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(data.rglob("*"))
        if path.is_file()
    }


def wait(what: Callable[[], object], thread: threading.Thread) -> None:
    """Waits until `what` is there and true."""
    deadline = time.monotonic() + 60
    while True:
        try:
            if what():
                return
        except (OSError, ValueError):
            pass
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_every_view_of_the_table_is_tested_here():
    # A new line in the table fails until its view is under this suite.
    assert set(TABLE["view"]) < set(MEMBERS)


@pytest.mark.parametrize("name", MEMBERS)
def test_view_shows_what_is_recorded_and_changes_nothing(name, spine, maker, tmp_path, caplog):
    # It starts on a folder without anything, sees what is recorded then, and ends when asked to.
    caplog.set_level("INFO")
    config, stop = settings(name), Stop()
    symbols = {"binance-spot": ("BTCUSDT", "ETHUSDT", "SOLUSDT")}
    view = load_member("view", name)(config, spine.path, symbols, stop)
    thread = threading.Thread(target=view.run, daemon=True)
    thread.start()
    wait(lambda: MEMBERS[name].shown(tmp_path, caplog.text), thread)
    spine.append(maker.definitions())
    spine.append(maker.trades(100))
    before = content(spine.path)
    wait(lambda: "binance-spot" in MEMBERS[name].shown(tmp_path, caplog.text), thread)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
    assert content(spine.path) == before


def test_example_shows_the_last_price(spine, maker, tmp_path):
    # Of the symbols that it was given, those of the trades that came last.
    spine.append(maker.definitions())
    trades = maker.trades(100)
    spine.append(trades)
    module = importlib.import_module("own_view")
    view = module.Board(settings(OWN), spine.path, {"binance-spot": ("BTCUSDT",)}, Stop())
    thread = threading.Thread(target=view.run, daemon=True)
    thread.start()
    wait(lambda: json.loads(written(tmp_path, ""))["binance-spot"], thread)
    view.stop.set()
    thread.join(20)
    shown = json.loads(written(tmp_path, ""))
    last = int(trades[trades["instrument"] == 1]["price"][-1])
    price = f"{last // 10**9}.{last % 10**9:09}"
    assert shown == {"binance-spot": {"BTCUSDT": price}}


@pytest.mark.parametrize("name", MEMBERS)
def test_settings_of_a_view_are_checked(name):
    # A wrong key names the nearest, a wrong value says what was expected, where.
    with pytest.raises(ConfigError, match=r"views\.mine\.symbol is not a setting; .*symbols\?"):
        settings(name, symbol=["BTCUSDT"])
    with pytest.raises(ConfigError, match=r"expected a list of texts for views\.mine\.sources"):
        settings(name, sources=7)
    assert settings(name, enabled=True).kind == name


@pytest.mark.parametrize(
    ("views", "told"),
    [
        ({"metric": {}}, r"views\.metric is not a setting; did you mean views\.metrics\?"),
        (
            {"mine": {"kind": "page"}},
            r"\[views\.mine\]: expected a view of metrics, or a ",
        ),
        ({"mine": {"kind": "own_view:Bord"}}, r"has no 'Bord'; views there: \['Board'\]"),
        ({"mine": {"kind": "own_view:BoardConfig"}}, r"expected a class derived from tapeworks\."),
        ({"mine": {"kind": "tapeworks.views.base:View"}}, r"the class lacks run"),
        ({"mine": {"kind": "nowhere:View"}}, r"cannot import nowhere: ModuleNotFoundError"),
        ({"../mine": {"kind": OWN}}, r"expected a name of letters, digits, .* got '../mine'"),
        ({"metrics": {"port": 70_000}}, r"port: expected 0 to 65535, got 70000"),
        ({"metrics": {"age_s_max": -1.0}}, r"age_s_max: expected 0 to 3600, got -1\.0"),
    ],
)
def test_wrong_view_is_one_clear_error(views, told):
    # As for every other kind of member.
    tables = {
        name: Section(f"views.{name}", {key: Value(value, "test") for key, value in one.items()})
        for name, one in views.items()
    }
    with pytest.raises(ConfigError, match=told):
        resolve_config(Section("", {"views": Section("views", tables)}))


def test_view_that_is_switched_off_is_not_run():
    # Its table stays as it is.
    table = Section("views.metrics", {"enabled": Value(False, "test")})
    config = resolve_config(Section("", {"views": Section("views", {"metrics": table})}))
    assert config.views == {}


def test_variables_alone_name_a_view():
    # A container has no file.
    value = Value("9999", "TAPEWORKS_VIEWS__METRICS__PORT", from_environment=True)
    views = Section("views", {"metrics": Section("views.metrics", {"port": value})})
    assert resolve_config(Section("", {"views": views})).views["metrics"].port == 9999


def test_symbols_are_those_of_the_settings_or_else_of_the_folder(spine, maker):
    # Settings need not name what a folder holds, and a folder not what is to be recorded.
    named = {"binance-usdm": ("XRPUSDT",)}
    assert resolve_symbols(spine.path, {}, (), ()) == {}
    assert resolve_symbols(spine.path, named, (), ()) == named
    spine.append(maker.definitions())
    three = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
    assert resolve_symbols(spine.path, {}, (), ()) == {"binance-spot": three}
    assert resolve_symbols(spine.path, named, ("binance-spot",), ("SOLUSDT",)) == {
        "binance-spot": ("SOLUSDT",)
    }
    # A source that has none of them is left out; one of which no symbols are known is not.
    several = {**named, "binance-spot": three, "new": ()}
    assert resolve_symbols(spine.path, several, (), ("SOLUSDT",)) == {
        "binance-spot": ("SOLUSDT",), "new": (),
    }  # fmt: skip
    with pytest.raises(ConfigError, match="a source of binance-spot, binance-usdm, got 'binance'"):
        resolve_symbols(spine.path, named, ("binance",), ())
    with pytest.raises(ConfigError, match="symbols of BTCUSDT, ETHUSDT, SOLUSDT, got DOGE, XRP"):
        resolve_symbols(spine.path, {}, (), ("XRP", "BTCUSDT", "DOGE"))
