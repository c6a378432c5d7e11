"""Settings: what is written becomes exactly one dataclass, or one clear error."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from tapeworks.config import Section, parse, resolve, write_toml
from tapeworks.errors import ConfigError
from tapeworks.pipeline import resolve_config


@dataclass(frozen=True)
class Inner:
    """A table within a table."""

    limit: int = 3
    share: float = 0.5


@dataclass(frozen=True)
class Outer:
    """One setting of every type that settings may have."""

    name: str = "a"
    symbols: tuple[str, ...] = ("BTCUSDT",)
    lengths_ms: tuple[int, ...] = (1000,)
    mode: Literal["fast", "safe"] = "safe"
    folder: Path = Path("data")
    enabled: bool = True
    proxy: str | None = None
    inner: Inner = field(default_factory=Inner)
    by_name: Mapping[str, Inner] = field(default_factory=dict)
    password: str = field(default="", metadata={"secret": True})

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ConfigError("name: wanted anything but bad; found 'bad'")


def written(tmp_path: Path, text: str, **environment: str) -> Section:
    path = tmp_path / "tapeworks.toml"
    path.write_text(text, encoding="utf-8")
    return parse(path, environment)


def test_every_type_is_read(tmp_path: Path):
    # One value of each type, against the dataclass built by hand.
    text = """
name = "b"
symbols = ["A", "B"]
lengths_ms = [5]
mode = "fast"
folder = "/x"
enabled = false
proxy = "http://p"
inner.limit = 4
[by_name.one]
share = 1
"""
    assert resolve(written(tmp_path, text), Outer) == Outer(
        name="b",
        symbols=("A", "B"),
        lengths_ms=(5,),
        mode="fast",
        folder=Path("/x"),
        enabled=False,
        proxy="http://p",
        inner=Inner(limit=4),
        by_name={"one": Inner(share=1.0)},
    )


def test_environment_overrides_the_file(tmp_path: Path):
    # Lists by comma, tables by double underscore, hyphens of names as underscores.
    section = written(
        tmp_path,
        'name = "file"\n[by_name.binance-spot]\nlimit = 1\n',
        TAPEWORKS_NAME="environment",
        TAPEWORKS_SYMBOLS="A, B",
        TAPEWORKS_ENABLED="no",
        TAPEWORKS_INNER__SHARE="0.25",
        TAPEWORKS_BY_NAME__BINANCE_SPOT__LIMIT="7",
        TAPEWORKS_PASSWORD="hidden",
        UNRELATED="x",
    )
    assert resolve(section, Outer) == Outer(
        name="environment",
        symbols=("A", "B"),
        enabled=False,
        inner=Inner(share=0.25),
        by_name={"binance-spot": Inner(limit=7)},
        password="hidden",
    )


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('nam = "x"', "nam is not a setting; did you mean name?"),
        ("inner.limt = 3", "inner.limt is not a setting; did you mean inner.limit?"),
        ("zzzz = 1", "known are by_name, enabled"),
        ("name = 3", "wanted a text for name, found 3"),
        ("enabled = 1", "wanted true or false for enabled, found 1"),
        ("inner.limit = true", "wanted a whole number for inner.limit, found True"),
        ('symbols = "A"', "wanted a list, each a text for symbols, found 'A'"),
        ('symbols = ["A", 2]', "wanted a text for symbols, found 2"),
        ('mode = "slow"', "wanted one of 'fast', 'safe' for mode, found 'slow'"),
        ("inner = 3", "wanted a table [inner], found 3"),
        ("[name]", "wanted a text for name, found a table"),
        ('password = "x"', "set TAPEWORKS_PASSWORD in the environment"),
        ('name = "bad"', "wanted anything but bad"),
        ("name = ", "not TOML"),
    ],
)
def test_wrong_setting_is_one_clear_error(tmp_path: Path, text: str, told: str):
    # The message says the file, the setting, what was wanted and what was found.
    with pytest.raises(ConfigError) as caught:
        resolve(written(tmp_path, text), Outer)
    assert told in str(caught.value)
    assert "tapeworks.toml" in str(caught.value) or text == "[name]"
    assert "\n" not in str(caught.value)


def test_unknown_variable_is_an_error(tmp_path: Path):
    # A misspelt override must not be silently without effect.
    with pytest.raises(ConfigError, match="TAPEWORKS_NAMME: namme is not a setting"):
        resolve(written(tmp_path, "", TAPEWORKS_NAMME="x"), Outer)


def test_missing_file_is_named_with_what_makes_one(tmp_path: Path):
    # The reader is told which command writes an example.
    with pytest.raises(ConfigError, match="tape config example >"):
        parse(tmp_path / "none.toml", {})


def test_what_is_written_parses_to_the_same(tmp_path: Path):
    # `tape config show` must be fit to be a config file; secrets are left out.
    config = Outer(name='quote " and \\', by_name={"a-b": Inner(limit=9)}, password="hidden")
    text = write_toml(config)
    assert "hidden" not in text
    again = resolve(written(tmp_path, text), Outer)
    assert again == Outer(name='quote " and \\', by_name={"a-b": Inner(limit=9)})


def test_two_feeds_of_one_source_are_refused(tmp_path: Path):
    # A source's tapes have one writer: the second recorder would wait for ever.
    path = tmp_path / "tapeworks.toml"
    path.write_text(
        '[feeds.a]\nkind = "binance"\nsymbols = ["BTCUSDT"]\nsource = "x"\n'
        '[feeds.b]\nkind = "binance"\nsymbols = ["ETHUSDT"]\nsource = "x"\n'
    )
    with pytest.raises(ConfigError, match="one feed a source; found 2 with source = 'x'"):
        resolve_config(parse(path, {}))
