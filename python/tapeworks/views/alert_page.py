"""The page of alerts: what rules look for, from the core's own table."""

from collections.abc import Sequence

from tapeworks._core import detector_table

PAGE_START = """\
<!-- Made by tests/views/test_alert_page.py from the table of crates/core; to make it anew:
     TAPEWORKS_WRITE=1 python -m pytest tests/views/test_alert_page.py -->

# Alerts

Rules look for conditions that people want to hear of, in the market and in the recording of it.
They are tables `[[alerts]]` of the settings, as many as you like:

```toml title="tapeworks.toml"
data = "demo"

[[alerts]]
name = "wide"
rule = "spread"
above_bps = 25
for_ms = 1000
symbols = ["BTCUSDT"]

[[alerts]]
name = "busy"
rule = "rate"
kinds = "trade"
above = 20
severity = "info"

[[alerts]]
name = "lost"
rule = "gap"
severity = "critical"

[[alerts]]
name = "no book is crossed"
rule = "crossed"
```

`tape up` runs them as the records come; the job that derives all that is on the tapes runs them
over what was not derived yet:

```bash
tape job catch-up > caught-up.txt
tape alerts list --rule busy | head -4
tape query "select rule, state, count(*) as changes from alerts group by all order by all" | head
```

**A rule that is added or changed later** looks at what comes from then on; what was derived before
stays as it is. `tape alerts try` runs the rules of the settings over all that the tapes hold,
writes nothing, and tells how often each would have opened an alert, so that a limit can be chosen
before it wakes anybody. It reads the whole tape, also with `--to`: what happened before some time
may have been received at any time since:

```bash
tape alerts try | head -4
tape alerts try wide
```

`tape alerts list` has each alert whose life touches `--from` and `--to`. Where it finds none it
says which rules looked, and since when. `not known` means that no rule looked at part of what was
asked for: it was set later, is for other symbols or only for a source as a whole, its worker is
behind or was stopped, or nothing was recorded then. Without `--from` it is asked from where the
rules began that look now; with it, up to what was received last. Times are UTC. With `--check` both
an alert and `not known` exit with 3; notices of `lake.alerts` say the same.

- **An alert is a number of records** on the tape `market-data.alerts`, and of rows in the table
  `alerts`: it is `opened`, `updated` while it goes on, perhaps `acknowledged`, and `closed`. All
  have the same `id`, and each holds the whole evidence: since when, what was measured, what it was
  compared with, a price, a size, a count, and `first_offset` and `last_offset`, the records on
  `market-data.normalized` that it is made of.
- **`updated` holds the newest value**, which may be better than one before it: at most once a
  second, or at once where it is twice the one that was told last. The worst that was told is in the
  rows of the alert: `select id, max(value) from alerts group by id`.
- **A rule has at most one alert open** of an instrument, or of a source. What is over as soon as it
  is known, such as a burst, is opened and closed at once.
- **Live equals replay**: rules see the records in the order of the tape, and no clock. A rule that
  waits (`stale`, `for_ms`) goes by the receive times of the tape, looked at ten times a second. The
  same tape gives the same alerts, at any batch size and after any restart.
- **`for_ms`** keeps an alert from flapping: what is beyond a limit for an instant, as a spread is
  hundreds of times an hour, opens none; 0 tells of each.
- **Metrics that rules name** are those that the sets and `trade_windows` of `[metrics]` make;
  without sets a rule about a metric is refused. They are made of the same records beside the rules,
  of the symbols that rules are for, so that an alert is the same whether they are recorded or not:
  `symbols` of `[metrics]` says which are recorded. What a late trade corrects in a window that is
  over changes no alert.
- **`disk`** looks at what its rule names: `free_gb`, `free_share`, or where it names both or
  neither at both, which must then both be short.
- **`latency` and `disk`** follow from this host, not from the market. What was measured is noted on
  the raw tape, so that a replay tells of it in the same place. What is open outlives a restart,
  and is closed when nothing was wrong for ten seconds.
- **Settings that change** close what they know no more, at the next start: `detail` says
  `reason=rule-removed`, or `reason=settings-changed` where the rule would not tell it now. What a
  changed rule finds open in what is recorded already is opened; what is open before and after goes
  on under its number, with who has seen it, and is updated where its severity is another. So it is
  with rules of your own, and where settings are put back. Where no rules are left, what was open
  stays open.
- **Symbols whose definitions retention took** from the tape are those that the recorder keeps
  beside it, for rules that are added or changed later, whether or not there is a lake.
- **What comes from a venue's history**, to fill a gap or from files, is no message of now: it ends
  no silence and counts in no rate or lag, and its trades are looked at by no rule of the table
  below. A quote from there sets the best prices only while nothing newer of its instrument came. A
  rule of your own is given all records: what its venue's history gave has `flags & 4`, which it
  tests.
- **What breaks the stream** (a gap, a halt, the end of a session, a venue that numbers its orders
  anew, as each day) ends what was open, and empties what rules remember: they begin anew behind it.
- **A gap that goes on when the recorder stops** keeps its alert open, also of the rule `gap` for a
  source. Where its symbol is not recorded any more, it is given up a minute after the recorder
  started again and said what it records.
- **While the venue says that a symbol is halted** it owes nothing: `stale` and `rate` with `below`
  wait for none of it. They wait again when the venue says that it trades, when it does trade, and
  behind a gap or the end of a session: the word that it trades again may have been lost there.
- **`-like`** means that the data looks so. Who owns an order, and what for, is not in the data.

`lake.alerts("BTCUSDT", is_open=True)` is the list in Python.

`tape alerts follow` prints each change as it comes, `tape alerts ack ID` says that somebody has
seen one (`ack SOURCE#ID` where several sources have that number): `tape alerts list` shows who, and
the note, in the column `acknowledged`. `severity` is `info`, `warning` or `critical`; `sources` and
`symbols` say where a rule looks, `scope = "source"` has it look at a source as a whole where the
table allows that.

## A rule of your own

A class derived from `Rule` of `tapeworks.processors.own_alerts`, which a table `[[alerts]]` names
as `kind = "my_module:MyRule"` in place of `rule`; its own settings stand beside. It is given every
record in order and no clock, and yields what it finds; its alerts are among the others, in the
order of the records that caused them. It may keep a state that JSON can hold. Where it names its
settings with their defaults, as `defaults`, others are refused with the nearest one.

- **A rule that raises stops alone**, at the record that it raises at; so does one that finds what
  cannot be, such as the end of an alert that is not open. The core's rules and all other own ones
  go on. What it has open is closed there, with `reason=rule-stopped` in `detail`. `tape status`,
  its `--json`, the line of `tape up`, `tapeworks_stopped` on `/metrics` and the log say which rule
  of which source, at which record and why; when the worker ends, it does so with an error. From
  that record on the rule does not look: `tape alerts list --rule NAME` says `not known`.
- **At the next start it begins anew**, as a new rule does, with what comes from then on.
  `tape alerts try NAME` says what it would have found before, or what it raises.
- **A rule that is slow is tried again**: it may take 10 s for a batch of records. Then it is made
  anew from its state, as if it had not been asked, and may take 20 s, and then 40 s; so a library
  that is loaded with the first batch, on a machine that is busy, does no harm. Then it stops as if
  it had raised, where the batch begins. All stages of the source wait for it meanwhile, and nothing
  is lost by it. Code in C that never returns cannot be ended: the supervisor kills the worker.

```bash
cat examples/own_rule.py
PYTHONPATH=examples python examples/own_rule.py demo
```

## Tell people

The sink `notify` sends alerts to chat, mail and web hooks by
[Apprise](https://github.com/caronc/apprise) (`pip install 'tapeworks[notify]'`), which knows some
hundred services. The targets are secrets, from the environment only:

```bash title="not run: it needs servers of yours"
export TAPEWORKS_SINKS__NOTIFY__URLS="discord://id/token,mailto://user:password@host.test"
tape up
```

```toml title="not run: as above"
[sinks.notify]
severity = "warning"
```

`tape alerts test` sends a message to each target, says which took it or why not, and exits with 1
unless all did. A target that no service of Apprise takes is wrong settings: every command that
reads them says so and exits with 2, and nothing starts. Without a target `tape config check` and
`tape doctor` say that nobody is told. What happens until a right target is there is told then,
unless it is older than `age_seconds`.

An alert becomes a message in an outbox, in one step with the place on the tape: each is there once,
through kills as well. Delivery is apart: a server that is down holds up nothing, is tried again
with back-off, and gets what waited for up to `age_seconds`. A rule of one symbol that opens again
within `quiet_seconds` is told when these are over, if it is still open and nobody acknowledged it,
and else not. One that becomes as severe as `severity` while it is open is told as opened then; the
end is told of what was told, and of nothing else. Each change is a message of its own, up to
`per_minute` of a source; further ones become one message that lists them, and grows until it is
sent. What is older than `age_seconds` when it is read, as after a long stop, is not told.

## Latency budgets

`[latency]` gives each stage of a record's way a budget in ms; what takes longer opens an alert of
the rule `latency-<stage>` that names it. `tape latency` shows the stages of what runs, from the
receipt to the raw tape (publish), the normalized one, books, metrics and each store (sink),
each with its count, median, 99th percentile and maximum, in buckets of fixed memory; with `--past`
the way from the venue to the receipt of what is recorded:

```bash
tape latency
tape latency BTCUSDT --past --source binance-usdm > past.txt
```

```text
nothing runs here; `tape latency --past` shows what is recorded
```

Reading is no stage: Tapeworks has no server that answers for it. `lake.follow`, `tape replay` and
readers of tapes run in processes of yours, which see a record as soon as it is published.

A stage that stands still measures nothing: of `book`, `metrics` and `sink` the input is looked at
too, and where it waits for longer than the budget (ten seconds at least) with nothing coming out,
the alert opens with that time as its value. An alert does not end by silence while input waits.
What waits for `receive`, `publish` and `normalize` is not known: there silence is no breach.

## Rules

Where a rule looks at best prices, these are those of quotes and of single orders: of a symbol whose
depth alone is recorded they are not known, and `spread`, `locked`, `crossed` and `fat_finger` say
nothing of it. Nor are they known of single orders of which some were lost, until the venue numbers
its orders anew. `stale` and `rate` wait for what the recorder subscribed, or a rule names.

Rules about prices of trades take those that set the last price by their conditions: odd lots,
average prices, late prints and official closes of US stocks move none.

"""


def page() -> str:
    """Returns the page of all rules."""
    parts = [PAGE_START]
    for (name, doc, evidence, is_of_source, unit), numbers, texts in detector_table():
        of = f" `unit`: {unit}." if unit else ""
        where = " It looks at a source as a whole." if is_of_source else ""
        parts.append(
            f"### {name}\n\n{doc[0].upper()}{doc[1:]}.{where} Evidence: {evidence}.{of}\n\n"
        )
        rows = [(number, _number(default), about) for number, default, *_, about in numbers]
        rows += [(text, f"`{default}`" if default else "", about) for text, default, about in texts]
        parts += _rows(rows)
    return "".join(parts).rstrip() + "\n"


def _number(value: float) -> str:
    if abs(value) >= 1e300:
        return ""
    return f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"


def _rows(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    if not rows:
        return []
    head = "| setting | default | meaning |\n|---|---|---|\n"
    return [head, *(f"| `{name}` | {default} | {about} |\n" for name, default, about in rows), "\n"]
