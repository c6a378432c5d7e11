"""The table of benchmark jobs: what is measured, against whom, and what we promise."""

from job import Contender, Job, Metric, Ratio, waits

COPY = "psycopg, binary COPY of encoded rows"
DUCKDB_ASOF = "DuckDB, ASOF JOIN"
SIMDJSON, MSGSPEC = "simdjson, parsing only", "msgspec, exact"


def _ours(name: str, *command: str) -> Contender:
    return Contender(name, command, ours=True)


def _peer(name: str, *command: str) -> Contender:
    return Contender(name, command)


_RUST = ("{python}", "ours/rust.py")


def _rust(bench: str) -> Contender:
    return _ours("tapeworks", *_RUST, bench, "{data}", "{scale}")


def _decode(name: str, about: str, file: str, target: float, ratios: tuple[Ratio, ...]) -> Job:
    frames = "{data}/" + file
    return Job(
        name,
        about,
        (Metric("value", "decode", "msg/s", target=target),),
        (
            # As the parser beside it, it is given frames already apart.
            _ours("tapeworks", "{python}", "ours/rust.py", "decode", frames, "{scale}"),
            _peer("tapeworks in Python, lines", "{python}", "ours/decode.py", frames),
            _peer(SIMDJSON, "peers/parse_simdjson", frames),
            _peer(MSGSPEC, "{peers}", "peers/decode_msgspec.py", frames, "exact"),
            _peer("msgspec, float", "{peers}", "peers/decode_msgspec.py", frames, "float"),
            _peer("orjson, exact", "{peers}", "peers/decode_orjson.py", frames),
            _peer(
                "cryptofeed, with its books",
                *("{peers}", "peers/decode_cryptofeed.py", frames),
                "{data}/binance_snapshots.json",
            ),
        ),
        ratios,
    )


def _events(name: str, about: str, venue: str, file: str) -> Job:
    frames, program = "{data}/" + file, f"peers/decode_{venue}.py"
    return Job(
        name,
        f"{about} to records, one core",
        (Metric("value", "decode", "rec/s", target=5e6),),
        (
            _ours("tapeworks", *_RUST, venue, frames, "{scale}"),
            _peer(MSGSPEC, "{peers}", program, frames, "exact"),
            _peer("msgspec, float", "{peers}", program, frames, "float"),
        ),
        (Ratio("value", MSGSPEC, 8), Ratio("value", "msgspec, float", 8)),
    )


def _visible(
    name: str,
    delivery: str,
    peer: str,
    mode: str,
    p50_ms: float | None = None,
    p99_ms: float | None = None,
) -> Job:
    program = ("{python}", "ours/kafka_visible.py", "{scale}")
    return Job(
        name,
        f"a record at 10 k/s, from the tape to a reader of Kafka, {delivery}",
        (
            Metric("p50_ms", "half of them", "ms", higher=False, target=p50_ms),
            Metric("p99_ms", "99 of 100", "ms", higher=False, target=p99_ms),
        ),
        (_ours("tapeworks", *program, delivery), _peer(peer, *program, mode)),
        rounds_max=3,
    )


def _rows(name: str, about: str, client: str) -> Job:
    program = ("{python}", "ours/row_stores.py", "{scale}", name)
    return Job(
        name,
        about,
        (
            Metric("value", "rows", "rows/s"),
            Metric("core", "a core of ours", "rows/s"),
            Metric("bytes_a_row", "size", "B/row", higher=False),
        ),
        (_ours("tapeworks", *program, "sink"), _peer(client, *program, "client")),
        (Ratio("value", client, 0.9),),
        rounds_max=5,
    )


PIPELINE = "redis-py, pipelined XADD, encoded before"
_FLINK = ("{python}", "ours/flink.py", "{scale}")
_MESSAGES = ("{python}", "ours/messages.py", "{scale}")
COMMAND = "from tapeworks.cli import main; main()"
SAME_FILES = "pyarrow, same columns and settings"
TRADES = ("{data}/trades.npy", "{data}/definitions.npy")
JOBS = (
    _decode(
        "decode",
        "Binance mix, bytes to records, one core",
        "binance.jsonl",
        3e6,
        (Ratio("value", SIMDJSON, 1), Ratio("value", MSGSPEC, 20)),
    ),
    _decode(
        "depth",
        "Binance depthUpdate alone, one core",
        "depth.jsonl",
        1e6,
        (Ratio("value", SIMDJSON, 1),),
    ),
    _events("massive", "Massive arrays of trades, quotes and bars", "massive", "polygon.jsonl"),
    _events("alpaca", "Alpaca arrays of trades, quotes and bars", "alpaca", "alpaca.jsonl"),
    _events("alpaca_msgpack", "the same of Alpaca in msgpack", "alpaca", "alpaca.msgpack"),
    Job(
        "itch",
        "a session of 50 M messages of ITCH, one core; its end state is checked",
        (
            Metric("decode", "to records", "msg/s", target=35e6),
            Metric("with_books", "with books of all orders", "msg/s", target=8e6),
            Metric("event_ns", "  an event of a book", "ns", higher=False),
            Metric("order_bytes", "an order at rest, in a book", "B", higher=False),
            Metric("decoder_bytes", "  in the decoder", "B", higher=False),
        ),
        (_rust("itch"),),
        rounds_max=3,
    ),
    Job(
        "orders",
        "updates of a book of single orders, some 6,000 of them",
        (Metric("update_ns", "an action", "ns", higher=False, target=60),),
        (
            _rust("orders"),
            _peer("nautilus", "{peers}", "peers/orders_nautilus.py", "{data}/l3.bin"),
        ),
        (Ratio("update_ns", "nautilus", 1),),
    ),
    Job(
        "book",
        "L2 updates at 5,000 levels a side, and the top 10 of both sides",
        (
            Metric("update_ns", "a level", "ns", higher=False, target=12),
            Metric("top10_ns", "top 10", "ns", higher=False, target=100),
        ),
        (
            _rust("book"),
            *(
                _peer(name, "{peers}", f"peers/book_{name}.py", "{data}/book_5000.bin")
                for name in ("hftbacktest", "nautilus", "order_book", "sorted_dict")
            ),
        ),
    ),
    Job(
        "metrics",
        "quotes and trades of ten instruments, measured each second, by sets of metrics",
        (
            Metric("l1_flow", "l1 and flow", "events/s", target=4e6),
            Metric("all", "all sets but those of books", "events/s", target=600e3),
            *(
                Metric(f"set_{name}", f"  {name} alone", "events/s")
                for name in (
                    *("l1", "ofi", "flow", "sign", "cost"),
                    *("impact", "vpin", "volatility", "latency", "microprice"),
                    *("ofi_beta", "range", "noise", "rates", "hawkes", "dependence"),
                    *("clocks", "orders", "resilience", "decayed"),
                )
            ),
            Metric("keyed", "best prices, order flow, bars of 1 s", "events/s"),
            Metric("windows", "  the bars corrected by late trades", "events/s"),
            Metric("instrument_bytes", "an instrument's l1, ofi, flow", "bytes", higher=False),
        ),
        (
            _ours("tapeworks", "{python}", "ours/metrics.py", "{scale}"),
            _peer("plain Python", "{peers}", "peers/keyed.py", "python", "{scale}"),
            _peer("Bytewax", "{peers}", "peers/keyed.py", "bytewax", "{scale}"),
        ),
        (
            Ratio("keyed", "plain Python", 10),
            Ratio("keyed", "Bytewax", 10),
        ),
        rounds_max=3,
    ),
    Job(
        "alerts",
        "quotes and orders of ten instruments under rules; a stage that measures how long it takes",
        (
            Metric("quotes", "quotes, four rules", "events/s"),
            Metric("orders", "orders, nine rules of surveillance", "events/s"),
            Metric("measuring", "time of a stage that measures, of one that does not", "x", False),
        ),
        (_ours("tapeworks", "{python}", "ours/alerts.py", "{scale}"),),
        rounds_max=3,
    ),
    Job(
        "tape",
        "64-byte records with checksum and index; hand-over to a process that waits busily",
        (
            Metric("append", "append 1000 at once", "rec/s", target=20e6),
            Metric("append_all", "  with the hash chain beside it", "rec/s"),
            Metric("append_of_file", "  of a plain file, in turns", "x", target=0.6),
            Metric("single", "append one by one", "rec/s", target=5e6),
            Metric("scan", "scan, checked", "rec/s", target=80e6),
            Metric("hand_over_ns", "hand-over p50", "ns", higher=False, target=1000),
            Metric("hand_over_p99_ns", "hand-over p99", "ns", higher=False),
        ),
        (
            _rust("tape"),
            _peer("memmap, no checksum", "{peers}", "peers/append.py", "{data}/append", "memmap"),
            _peer("file, no checksum", "{peers}", "peers/append.py", "{data}/append", "file"),
        ),
        rounds_max=3,
    ),
    Job(
        "tape_python",
        "the same from Python, by batches",
        (Metric("append", "append", "rec/s"), Metric("scan_python", "scan", "rec/s")),
        (_ours("tapeworks", "{python}", "ours/append.py", "{data}/append", "{scale}"),),
        rounds_max=3,
    ),
    Job(
        "mold",
        "one recorder process on two loopback lines of MoldUDP64: 1 % of the packets of one and "
        "0.05 % of the other are lost, at 520 k/s",
        (
            Metric("mold_messages_per_s", "sustained", "msg/s", target=500e3),
            Metric("mold_lost", "lost", "", higher=False, target=0),
            Metric("mold_messages_per_cpu_s", "by processor time", "msg/s", target=500e3),
            Metric("mold_packets_dropped", "packets dropped", "", higher=False),
        ),
        (_ours("tapeworks", "{python}", "mold.py", "--json", "--scale", "{scale}"),),
        rounds_max=3,
    ),
    Job(
        "recorder",
        "one recorder process on a loopback WebSocket, and a bare echo beside it",
        (
            Metric("recorder_messages_per_s", "sustained", "msg/s", target=200e3),
            Metric("recorder_lost", "lost", "", higher=False, target=0),
            Metric("recorder_messages_per_cpu_s", "by processor time", "msg/s", target=350e3),
            Metric("read_to_published_p50_us", "p50 at 20 k/s", "us", higher=False, target=50),
            Metric("read_to_published_p99_us", "p99 at 20 k/s", "us", higher=False),
            Metric("echo_p99_us", "p99 of the echo", "us", higher=False),
            Metric("p99_over_echo", "p99 / echo p99", "x", higher=False, target=2),
        ),
        (_ours("tapeworks", "{python}", "recorder.py", "--json", "--scale", "{scale}"),),
        rounds_max=9,
    ),
    Job(
        "visible",
        "from the venue's send to a reader in another process, open loop at 20 k/s",
        (
            Metric("sent_to_visible_p50_us", "p50", "us", higher=False, target=100),
            Metric("sent_to_visible_p99_us", "p99", "us", higher=False, target=2000),
            Metric("visible_lost", "lost", "", higher=False, target=0),
        ),
        (_ours("tapeworks", "{python}", "visible.py", "--scale", "{scale}"),),
        rounds_max=9,
    ),
    Job(
        "metric_visible",
        "from the venue's send to 22 metrics of each message in a reader, `tape up`, at 20 k/s",
        (
            Metric("sent_to_metric_p50_us", "p50", "us", higher=False, target=200),
            Metric("sent_to_metric_p99_us", "p99", "us", higher=False, target=5000),
            Metric("metric_lost", "lost", "", higher=False, target=0),
        ),
        (_ours("tapeworks", "{python}", "metric_visible.py", "--scale", "{scale}"),),
        rounds_max=9,
    ),
    Job(
        "lake",
        "8 M trades from the tape to Parquet, sorted, exact, committed",
        (
            Metric("value", "rows", "rows/s", target=4e6),
            Metric("bytes_a_row", "size", "B/row", higher=False, target=8),
        ),
        (
            _ours("tapeworks", "{python}", "ours/lake.py", *TRADES),
            _peer(
                "pyarrow, same 15 columns",
                *("{peers}", "peers/parquet_pyarrow.py", TRADES[0], "{data}", "decimals"),
            ),
            _peer(
                SAME_FILES,
                *("{peers}", "peers/parquet_pyarrow.py", TRADES[0], "{data}", "settings"),
            ),
            _peer(
                "pyarrow, 7 columns of integers",
                *("{peers}", "peers/parquet_pyarrow.py", TRADES[0], "{data}", "integers"),
            ),
        ),
        (Ratio("value", "pyarrow, same 15 columns", 0.75), Ratio("value", SAME_FILES, 0.55)),
    ),
    Job(
        "iceberg",
        "8 M trades of the lake into an Iceberg table on disk, committed",
        (
            Metric("value", "a core", "rows/s", target=5e6),
            Metric("wall", "wall clock", "rows/s"),
        ),
        (
            _ours("tapeworks", "{python}", "ours/iceberg.py", *TRADES, "publish"),
            _peer("pyiceberg, append", "{python}", "ours/iceberg.py", *TRADES, "append"),
        ),
        (Ratio("value", "pyiceberg, append", 1.0),),
    ),
    Job(
        "postgres",
        "2 M ticks from the tape into a day partition, visible and exactly once",
        (
            Metric("value", "rows", "rows/s", target=500e3),
            Metric("bytes_a_row", "size", "B/row", higher=False),
        ),
        (
            _ours("tapeworks", "{python}", "ours/postgres.py", "{scale}", "plain"),
            _peer(COPY, "{python}", "ours/postgres.py", "{scale}", "copy"),
        ),
        (Ratio("value", COPY, 0.9),),
    ),
    Job(
        "postgres-index",
        "the same with the index by symbol and time",
        (
            Metric("value", "rows", "rows/s", target=180e3),
            Metric("bytes_a_row", "size", "B/row", higher=False),
        ),
        (_ours("tapeworks", "{python}", "ours/postgres.py", "{scale}", "index"),),
        rounds_max=3,
    ),
    _rows(
        "questdb",
        "2 M trades from the tape into a table of QuestDB with keys, visible and exactly once",
        "questdb, frames of doubles",
    ),
    _rows(
        "clickhouse",
        "2 M trades from the tape into a table of ClickHouse's engine, exactly once",
        "clickhouse-connect, Arrow tables",
    ),
    Job(
        "protobuf",
        "trades to protobuf messages and back, one core",
        (
            Metric("encode", "encode", "msg/s", target=8e6),
            Metric("decode", "decode", "msg/s"),
        ),
        (_rust("protobuf"),),
    ),
    Job(
        "kafka",
        "2 M trades from the tape into Kafka, exactly once",
        (
            Metric("value", "a core", "msg/s", target=250e3),
            Metric("wall", "wall clock", "msg/s"),
        ),
        (
            _ours("tapeworks", *_MESSAGES, "kafka", "sink"),
            _peer("confluent-kafka, encoded before", *_MESSAGES, "kafka", "client"),
            _peer("cryptofeed's backend", "{peers}", "peers/kafka_cryptofeed.py", "{scale}"),
        ),
        (Ratio("value", "cryptofeed's backend", 5),),
        rounds_max=5,
    ),
    _visible(
        "kafka_visible", "low-latency", "confluent-kafka, each when it is due", "client", 5, 10
    ),
    _visible("kafka_visible_once", "exactly-once", "confluent-kafka, transactions", "transactions"),
    Job(
        "kafka_readers",
        "a topic of Kafka to books on other machines, two workers against one",
        (
            Metric("one", "one worker", "rec/s"),
            Metric("two", "two workers", "rec/s"),
            Metric("times", "  how many times as fast", "x"),
        ),
        (_ours("tapeworks", "{python}", "ours/kafka_readers.py", "{scale}"),),
        rounds_max=3,
    ),
    Job(
        "flink",
        "books and l1 of ten instruments by a job of Flink, parallelism 1: from a tape to nothing",
        (
            Metric("value", "wall clock", "events/s", target=600e3),
            Metric("core", "a core", "events/s"),
            Metric("start_s", "start, and the first sixth", "s", higher=False),
        ),
        (
            _ours("tapeworks, Flink job", *_FLINK, "tape"),
            _peer("tapeworks, local worker", *_FLINK, "worker"),
        ),
        rounds_max=3,
    ),
    Job(
        "flink_kafka",
        "the same job from a topic of a real broker to topics, as messages, exactly once",
        (
            Metric("value", "wall clock", "events/s"),
            Metric("core", "a core of the job", "events/s"),
            Metric("start_s", "start, and the first sixth", "s", higher=False),
        ),
        (_ours("tapeworks, Flink job", *_FLINK, "kafka"),),
        rounds_max=3,
    ),
    Job(
        "redis",
        "2 M trades from the tape into a stream of Redis, exactly once",
        (Metric("wall", "entries", "msg/s"), Metric("value", "a core of ours", "msg/s")),
        (
            _ours("tapeworks", *_MESSAGES, "redis", "sink"),
            _peer(PIPELINE, *_MESSAGES, "redis", "client"),
        ),
        (Ratio("wall", PIPELINE, 0.9),),
        rounds_max=5,
    ),
    Job(
        "replay",
        "trades from the tape to batches in Python",
        (
            Metric("value", "all symbols", "rec/s", target=5e6),
            Metric("one_symbol", "one symbol of ten", "rec/s", target=5e6),
        ),
        (_ours("tapeworks", "{python}", "ours/replay.py", *TRADES),),
    ),
    Job(
        "past",
        "book(at=) at random instants of a day with 50 M level updates",
        (
            Metric("p50_ms", "p50", "ms", higher=False, target=20),
            Metric("p99_ms", "p99", "ms", higher=False),
            Metric("cpu_ms", "p50, processor", "ms", higher=False),
            Metric("first_ms", "first question", "ms", higher=False),
        ),
        (_rust("past"),),
        rounds_max=1,
    ),
    Job(
        "past_orders",
        "book(at=, depth='orders') on a day with 10 M messages of one stock, of tape and of lake",
        waits("tape", "p50 cpu worst first replay") + waits("lake", "p50 cpu first replay"),
        (_ours("tapeworks", "{python}", "ours/past_orders.py", "{data}", "{scale}"),),
        rounds_max=1,
    ),
    Job(
        "query",
        "one hour of one symbol, all columns, out of 50 M trades",
        (
            Metric("wall_ms", "a question", "ms", higher=False, target=50),
            Metric("cpu_ms", "processor", "ms", higher=False),
            Metric("command_ms", "`tape query`, whole", "ms", higher=False),
        ),
        (
            _ours("tapeworks", "{python}", "ours/query.py", "{data}/history"),
            _peer("DuckDB, one sorted file", "{peers}", "peers/query_duckdb.py", "{data}/history"),
        ),
        setup=("{python}", "ours/history.py", *TRADES, "{data}/history", "{scale}"),
        rounds_max=3,
    ),
    Job(
        "asof",
        "2 M trades of ten symbols, each with the quote before it of 6 M, all columns, to Arrow",
        (
            Metric("wall", "joined", "rows/s"),
            Metric("core", "a core", "rows/s"),
            Metric("met", "rows that met a quote", ""),
            Metric("sum", "  sum of their bids", ""),
        ),
        (
            _ours("tapeworks", "{python}", "ours/asof.py", "ask", "{data}/asof"),
            _peer(DUCKDB_ASOF, "{peers}", "peers/asof.py", "duckdb", "{data}/asof"),
            _peer("Polars, join_asof", "{peers}", "peers/asof.py", "polars", "{data}/asof"),
        ),
        (Ratio("core", DUCKDB_ASOF, 0.6), Ratio("core", "Polars, join_asof", 0.4)),
        setup=("{python}", "ours/asof.py", "make", "{data}/asof", *TRADES, "{scale}"),
        rounds_max=5,
    ),
    Job(
        "startup",
        "whole processes, from start to end, on the folder of a demo",
        (
            Metric("import_ms", "`import tapeworks`", "ms", higher=False, target=100),
            Metric("help_ms", "`tape --help`", "ms", higher=False, target=100),
            Metric("select_ms", "`tape query`, select 1", "ms", higher=False, target=300),
            Metric("count_ms", "`tape query`, count of trades", "ms", higher=False, target=300),
        ),
        (_ours("tapeworks", "{python}", "ours/startup.py", "{data}/demo"),),
        setup=("{python}", "-c", COMMAND, "demo", "--seconds", "12", "--data", "{data}/demo"),
        rounds_max=3,
    ),
)
