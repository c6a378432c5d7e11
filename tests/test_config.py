"""Settings: what is written becomes exactly one dataclass, or one clear error."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from tapeworks.config import Section, parse, redact, resolve, source_name, write_toml
from tapeworks.errors import ConfigError
from tapeworks.feeds.binance.config import BinanceConfig
from tapeworks.feeds.python import PythonFeedConfig
from tapeworks.pipeline import Config, resolve_config, workers
from tapeworks.settings import as_toml


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
    pin: int = field(default=0, metadata={"secret": True})

    def __post_init__(self) -> None:
        if self.name == "bad":
            raise ConfigError("name: expected anything but bad, got 'bad'")


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
        ("name = 3", "expected a text for name, got 3"),
        ("enabled = 1", "expected true or false for enabled, got 1"),
        ("inner.limit = true", "expected a whole number for inner.limit, got True"),
        ('symbols = "A"', "expected a list of texts for symbols, got 'A'"),
        ('symbols = ["A", 2]', "expected a text for symbols, got 2"),
        ('mode = "slow"', "expected one of 'fast', 'safe' for mode, got 'slow'"),
        ("inner = 3", "expected a table [inner], got 3"),
        ("[name]", "expected a text for name, got a table"),
        ('password = "x"', "set TAPEWORKS_PASSWORD in the environment"),
        ('name = "bad"', "expected anything but bad"),
        ("name = ", "not TOML"),
    ],
)
def test_wrong_setting_is_one_clear_error(tmp_path: Path, text: str, told: str):
    # The message says the file, the setting, what was expected and what was got.
    with pytest.raises(ConfigError) as caught:
        resolve(written(tmp_path, text), Outer)
    assert told in str(caught.value)
    assert "tapeworks.toml" in str(caught.value) or text == "[name]"
    assert "\n" not in str(caught.value)


def test_unknown_variable_is_an_error(tmp_path: Path):
    # A misspelt override must not be silently without effect.
    with pytest.raises(ConfigError, match=r"namme is not a setting; did you mean TAPEWORKS_NAME\?"):
        resolve(written(tmp_path, "", TAPEWORKS_NAMME="x"), Outer)


@pytest.mark.parametrize("service", ["TAPEWORKS", "TAPEWORKS_API", "TAPEWORKS_API_V2"])
def test_variables_of_kubernetes_services_are_no_settings(tmp_path: Path, service: str):
    # All that a cluster tells its containers of a service of this name, and of its named ports.
    told = {
        "SERVICE_HOST": "10.0.0.1",
        "SERVICE_PORT": "80",
        "SERVICE_PORT_HTTP": "80",
        "SERVICE_PORT_GRPC_WEB": "90",
        "PORT": "tcp://10.0.0.1:80",
        "PORT_80_TCP": "tcp://10.0.0.1:80",
        "PORT_80_TCP_PROTO": "tcp",
        "PORT_80_TCP_PORT": "80",
        "PORT_80_TCP_ADDR": "10.0.0.1",
        "PORT_53_UDP": "udp://10.0.0.1:53",
    }
    section = written(tmp_path, "", **{f"{service}_{name}": text for name, text in told.items()})
    assert resolve(section, Outer) == Outer()


@pytest.mark.parametrize(
    "name", ["TAPEWORKS_PORTS", "TAPEWORKS_INNER__PORT", "TAPEWORKS_SERVICE", "TAPEWORKS_HOST"]
)
def test_variables_like_those_of_services_are_errors(tmp_path: Path, name: str):
    # What no cluster sets was meant for us.
    with pytest.raises(ConfigError, match="is not a setting"):
        resolve(written(tmp_path, "", **{name: "x"}), Outer)


def test_missing_file_is_named_with_what_makes_one(tmp_path: Path):
    # The reader is told which command writes an example.
    with pytest.raises(ConfigError, match="tape config example >"):
        parse(tmp_path / "none.toml", {})


def test_what_is_written_parses_to_the_same(tmp_path: Path):
    # `tape config show` must be fit to be a config file; secrets are left out.
    name, folder = 'quote " and \\ and\nlines', tmp_path / "data"
    by_name = {"a-b": Inner(limit=9)}
    text = write_toml(Outer(name=name, folder=folder, by_name=by_name, password="hidden", pin=7531))
    assert "hidden" not in text
    assert "7531" not in text
    again = resolve(written(tmp_path, text), Outer)
    assert again == Outer(name=name, folder=folder, by_name=by_name)


def settings(tmp_path: Path, text: str, **environment: str) -> Config:
    return resolve_config(written(tmp_path, text, **environment))


FEED = 'kind = "binance"\nsymbols = ["BTCUSDT"]\n'


@pytest.mark.parametrize("name", ["a", "0", "binance-spot", "my-feed-2", "x" * 64])
def test_names_of_sources_that_are_fit(name: str):
    # Safe in a path, in SQL, in a shell, and in a variable of the environment.
    assert source_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        *("", "-a", "My-Feed", "my_feed", "my.feed", "a/b", "../../../x", "a b", "a=b", "a\n", "é"),
        *("x" * 65, ".", "..", "a\0b", "a'b", 'a"b', "_commits", "K"),
    ],
)
def test_names_of_sources_that_are_not(tmp_path: Path, name: str):
    # Refused as a table, as `source =`, and by whoever builds the settings of a feed: nothing is
    # ever stored under another spelling than the one that is asked for.
    with pytest.raises(ConfigError, match="expected the name of a source"):
        source_name(name)
    with pytest.raises(ConfigError, match="expected the name of a source"):
        settings(tmp_path, f"[feeds.{json.dumps(name)}]\n{FEED}")
    if name:
        with pytest.raises(ConfigError, match="expected the name of a source"):
            settings(tmp_path, f"[feeds.a]\n{FEED}source = {json.dumps(name)}\n")
        with pytest.raises(ConfigError, match="expected the name of a source"):
            BinanceConfig(symbols=("BTCUSDT",), source=name)
        with pytest.raises(ConfigError, match="expected the name of a source"):
            PythonFeedConfig(source=name)


def test_name_that_is_not_fit_is_told_with_one_that_is(tmp_path: Path):
    # The table that it stands in, and what could be written instead.
    with pytest.raises(ConfigError, match=r"\[feeds.My_Feed\]: .* such as 'my-feed', got"):
        settings(tmp_path, f"[feeds.My_Feed]\n{FEED}")


def test_source_is_the_one_key_of_a_feed(tmp_path: Path):
    # The table's own name is only a label then: whoever stands behind the recorder asks by source.
    config = settings(tmp_path, f'[feeds.binance-spot]\n{FEED}source = "mine"\n')
    assert list(config.feeds) == ["mine"]
    assert config.feeds["mine"].name == "mine"
    assert [worker.member for worker in workers(config)] == ["mine", "mine", "parquet"]


def test_settings_of_a_renamed_source_are_shown_as_settings(tmp_path: Path):
    # What `tape config show` prints is a config file, also of a feed whose kind is not its name.
    config = settings(tmp_path, f'[feeds.mine]\n{FEED}[feeds.b]\n{FEED}source = "other"\n')
    assert settings(tmp_path, write_toml(config)) == config


def test_lake_is_there_beside_other_sinks_unless_it_is_switched_off_by_name(tmp_path: Path):
    # Another sink, whether of the file or of a variable, leaves it; what is shown says the same.
    other, off = "[sinks.redis]\n", "[sinks.parquet]\nenabled = false\n"
    variable = {"TAPEWORKS_SINKS__REDIS__PREFIX": "x"}
    assert list(settings(tmp_path, other).sinks) == ["parquet", "redis"]
    assert list(settings(tmp_path, "", **variable).sinks) == ["parquet", "redis"]
    for text, sinks in ((other + off, ["redis"]), (off, []), (other, ["parquet", "redis"])):
        config = settings(tmp_path, text)
        assert list(config.sinks) == sinks
        assert settings(tmp_path, as_toml(config)) == config


def test_rule_for_a_source_of_the_data_folder_needs_no_feed(tmp_path: Path):
    # Settings of what is recorded already name no feed; beside a feed, another source is a slip.
    named = '[[alerts]]\nname = "wide"\nrule = "spread"\nabove_bps = 1\n'
    rule = named + 'sources = ["massive-stocks"]\n'
    assert settings(tmp_path, rule).alerts[0].sources == ("massive-stocks",)
    with pytest.raises(ConfigError, match="expected any of binance-spot, got massive-stocks"):
        settings(tmp_path, f"[feeds.binance-spot]\n{FEED}{rule}")


def test_names_with_dots_are_shown_as_settings(tmp_path: Path):
    # Those of a client library: without quotes, each would be read back as tables within tables.
    text = '[sinks.kafka]\n[sinks.kafka.properties]\n"security.protocol" = "SSL"\n'
    config = settings(tmp_path, text)
    assert config.sinks["kafka"].properties == {"security.protocol": "SSL"}
    assert settings(tmp_path, write_toml(config)) == config


def test_two_feeds_of_one_source_are_refused(tmp_path: Path):
    # A source's tapes have one writer: the second recorder would wait for ever. All are named.
    text = f'[feeds.a]\n{FEED}source = "x"\n[feeds.b]\n{FEED}source = "x"\n[feeds.x]\n{FEED}'
    with pytest.raises(ConfigError, match=r"got 3 for 'x': \[feeds.a\], \[feeds.b\], \[feeds.x\]"):
        settings(tmp_path, text)


EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
STORE = "[sinks.a]\nkind = '{kind}'\n{a}\n[sinks.b]\nkind = '{kind}'\n{b}\n"


URLS = {"redis": "redis://", "clickhouse": "http://", "questdb": "http://"}


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("kafka", "topic_prefix"),
        ("redis", "prefix"),
        ("postgres", "schema"),
        ("clickhouse", "database"),
        ("questdb", "table_prefix"),
    ],
)
def test_two_sinks_that_would_take_each_others_place_are_refused(tmp_path: Path, kind, key):
    # They store one topic in one store, chosen or by default. With other topics, or apart, they do
    # not meet.
    bars, gaps = ('topics = ["market-data.bars"]', 'topics = ["market-data.gaps"]')
    told = rf"\[sinks.b\]: expected another {key} than that of \[sinks.a\], got .* market-data"
    near, far = ("localhost", "127.0.0.1")
    if kind == "kafka":
        near, far = (f"servers = '{host}:9092'" for host in (near, far))
    elif kind == "postgres":
        near, far = (f"url = 'postgresql://u@{host}/d'" for host in (near, far))
    else:
        near, far = f"url = '{URLS[kind]}{near}:1/'", f"url = '{URLS[kind]}{far}:1'"
    for a, b in (("", ""), (bars, ""), (gaps, gaps), (near, far)):
        with pytest.raises(ConfigError, match=told):
            settings(tmp_path, STORE.format(kind=kind, a=a, b=b))
    for a, b in ((bars, gaps), ("", f"{key} = 'other'")):
        assert {"a", "b"} < set(settings(tmp_path, STORE.format(kind=kind, a=a, b=b)).sinks)


@pytest.mark.parametrize("kind", ["kafka", "redis", "own_sink:Ledger"])
def test_kinds_and_topics_of_a_sink_are_such_that_there_are(tmp_path: Path, kind, monkeypatch):
    # A topic that nobody writes would be waited for in silence; one of a processor of the user's
    # own is written.
    monkeypatch.syspath_prepend(str(EXAMPLES))
    table = f"[sinks.a]\nkind = '{kind}'\n"
    with pytest.raises(ConfigError, match=r"kinds: expected a kind of trade, .*, got .trades"):
        settings(tmp_path, table + 'kinds = ["trades"]')
    with pytest.raises(ConfigError, match=r"topics: .* once, got market-data.bars twice"):
        settings(tmp_path, table + 'topics = ["market-data.bars", "market-data.bars"]')
    told = r"\[sinks.a\]: topics: .*, got 'market-data.tick'; did you mean market-data.ticks"
    with pytest.raises(ConfigError, match=told):
        settings(tmp_path, table + 'topics = ["market-data.tick"]')
    own = '[processors.large]\nkind = "own_processor:LargeTrades"\n'
    text = table + 'kinds = ["trade"]\ntopics = ["market-data.ticks", "market-data.large"]\n'
    assert settings(tmp_path, own + text).sinks["a"].kinds == ("trade",)


def test_variable_names_a_source_with_hyphens(tmp_path: Path):
    # A variable cannot hold one; a table that the file has is found either way.
    named = {"TAPEWORKS_FEEDS__MY_FEED__KIND": "binance", "TAPEWORKS_FEEDS__MY_FEED__SYMBOLS": "A"}
    assert list(settings(tmp_path, "", **named).feeds) == ["my-feed"]
    config = settings(tmp_path, f"[feeds.my-feed]\n{FEED}", **named)
    assert config.feeds["my-feed"].symbols == ("A",)


def test_symbols_are_the_venues_spelling_each_once(tmp_path: Path):
    # Lower case is the same symbol; twice would be two subscriptions of one stream.
    text = '[feeds.binance-spot]\nsymbols = ["btcusdt", "EthUsdt", "币安人生USDT"]\n'
    config = settings(tmp_path, text)
    assert config.feeds["binance-spot"].symbols == ("BTCUSDT", "ETHUSDT", "币安人生USDT")
    for wrong, told in [
        ('["BTCUSDT", "btcusdt"]', "symbols: expected each once, got more than once: BTCUSDT"),
        ('["BTC/USDT"]', "symbols: expected the venue's own, such as BTCUSDT, got 'BTC/USDT'"),
        (r'["BTC\nUSDT"]', "symbols: expected the venue's own"),
        ('[""]', "symbols: expected the venue's own"),
        (f'["{"X" * 49}"]', "symbols: expected the venue's own"),
        ('["A"]\nchannels = ["trade", "trade"]', "channels: expected each once"),
    ]:
        with pytest.raises(ConfigError) as caught:
            settings(tmp_path, f"[feeds.binance-spot]\nsymbols = {wrong}\n")
        assert told in str(caught.value)


@pytest.mark.parametrize(
    ("key", "url", "told"),
    [
        ("ws_url", "http://host", "expected ws://host:port or wss://host:port"),
        ("ws_url", "host:1234", "has the scheme 'host'"),
        ("ws_url", "//host", "no scheme"),
        ("ws_url", "wss://", "no valid host"),
        ("ws_url", "wss://:443", "no valid host"),
        ("ws_url", "wss://ho st", "a space or a control character"),
        ("ws_url", "wss://host/\\u001b[2J", "a space or a control character"),
        ("ws_url", "wss://host:99999", "Port out of range"),
        ("ws_url", "wss://host:many", "could not be cast"),
        ("ws_url", "wss://host:0", "port 0"),
        ("rest_url", "ws://host", "expected http://host:port or https://host:port"),
        ("proxy", "socks5://host:1", "expected http://host:port"),
    ],
)
def test_urls_are_checked_before_anything_is_made(tmp_path: Path, key: str, url: str, told: str):
    # Of the venue's feed and of a feed of the user's own alike.
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, f'[feeds.binance-spot]\nsymbols = ["A"]\n{key} = "{url}"\n')
    assert f"{key}: expected" in str(caught.value)
    assert told in str(caught.value)
    with pytest.raises(ConfigError, match=f"{key}: expected"):
        PythonFeedConfig(**{key: url.replace("\\u001b", "\x1b")})


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "wss://[::1]:9443/x?y=1", "wss://a.b-c.d"])
def test_urls_that_are_right(url: str):
    # Addresses of both kinds, paths and queries.
    assert PythonFeedConfig(ws_url=url).ws == url


def test_password_in_a_url_comes_from_the_environment_only(tmp_path: Path):
    # It is refused in a file without being printed, and what shows settings leaves it out.
    line = 'proxy = "http://user:hunter2@proxy:3128"\n'
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, f"[feeds.binance-spot]\n{FEED}{line}")
    assert "TAPEWORKS_FEEDS__BINANCE_SPOT__PROXY in the environment" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    variable = {"TAPEWORKS_FEEDS__BINANCE_SPOT__PROXY": "http://user:hunter2@proxy:3128"}
    config = settings(tmp_path, f"[feeds.binance-spot]\n{FEED}", **variable)
    assert config.feeds["binance-spot"].proxy == "http://user:hunter2@proxy:3128"
    shown = write_toml(config)
    assert "hunter2" not in shown
    assert settings(tmp_path, shown, **variable) == config


def test_secret_of_a_wrong_type_is_not_printed(tmp_path: Path):
    # The message says where and what was expected; what was got is nobody's business.
    with pytest.raises(ConfigError) as caught:
        resolve(written(tmp_path, "", TAPEWORKS_PIN="hunter2"), Outer)
    assert "expected a whole number for pin" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ws://a:b@host/x failed", "ws://***@host/x failed"),
        ("wss://h/s?apiKey=abc&x=1", "wss://h/s?apiKey=***&x=1"),
        ("http://p@ss:w@rd@host", "http://***@host"),
        ("wss://host/a@b?depth=5", "wss://host/a@b?depth=5"),
    ],
)
def test_credentials_of_urls_are_redacted(text: str, shown: str):
    # In whatever text they stand.
    assert redact(text) == shown


def test_data_is_relative_to_the_file(tmp_path: Path):
    # Wherever the command is started; a variable is relative to where it is.
    assert settings(tmp_path, 'data = "there"').data == tmp_path / "there"
    assert settings(tmp_path, "").data == tmp_path / "data"
    assert settings(tmp_path, "", TAPEWORKS_DATA="here").data == Path("here")
    assert resolve_config(parse(None, {})).data == Path("data")
