"""A feed whose rules raise, or return what no contract allows: the recorder is none the worse."""

import logging
from typing import Any

import pytest

from tapeworks.errors import FeedError, VenueError
from tapeworks.feeds.base import Control, ControlKind, Feed, Line, LivenessPolicy, Request
from tapeworks.feeds.guard import guard

REQUEST = Request(0, "/x")
CALLS: list[tuple[str, tuple[Any, ...], Any]] = [
    ("control", (b"x",), ControlKind.UNKNOWN),
    ("heartbeat", (), b""),
    ("liveness", ("s",), LivenessPolicy()),
    ("symbol", ("s",), ""),
    ("channel", ("s",), "none"),
    ("snapshot_message", ("s",), None),
    ("flaw", (REQUEST, b""), ""),
    ("answered", (REQUEST, {}, b"", 0.0), None),
    ("opening_requests", (), ()),
    ("books", (), ()),
    ("polls", (0.0, 0), ()),
    ("without", (["s"],), ()),
]


class Broken(Feed):
    """Every method does what `act` does."""

    source = "broken"

    def __init__(self, act: Any) -> None:
        self.act = act

    def lines(self) -> list[Line]:
        return []

    def subscriptions(self, streams: Any) -> Any:
        return self.act()

    def control(self, payload: bytes) -> Control:
        control: Control = self.act()
        return control

    def __getattribute__(self, name: str) -> Any:
        known = {name for name, _, _ in CALLS} | {"refused", "snapshot_request"}
        if name in known and name not in object.__getattribute__(self, "__dict__"):
            return lambda *_, **__: self.act()
        return object.__getattribute__(self, name)


def fail() -> None:
    raise KeyError("limit")


@pytest.mark.parametrize("act", [fail, lambda: 5, lambda: [5]], ids=["raises", "number", "list"])
def test_every_method_has_an_answer(act, caplog):
    # Whatever a method does, its caller gets what its contract allows, and the error is counted.
    feed = Broken(act)
    errors = guard(feed)
    for name, arguments, wanted in CALLS:
        answer = getattr(feed, name)(*arguments)
        if name == "answered" and act is not fail:
            # It returns nothing that anybody looks at.
            continue
        assert getattr(answer, "kind", answer) == wanted, name
        assert errors.counts[name] == 1
    assert feed.snapshot_request("s", broken=True) is None
    assert isinstance(feed.refused(500, {}, b"", 0.0), VenueError)
    assert "limit" in errors.last or act is not fail


def test_broken_conversation_closes_its_connection(caplog):
    # Subscribing cannot go on without it: an error that the session retries with back-off.
    feed = Broken(fail)
    errors = guard(feed)
    with pytest.raises(VenueError, match="subscriptions"):
        feed.subscriptions(["a"])
    feed.act = lambda: object()
    talk = feed.subscriptions(["a"])
    with pytest.raises(VenueError, match="next"):
        talk.next()
    with pytest.raises(VenueError, match="done"):
        talk.done  # noqa: B018
    talk.receive(Control(ControlKind.ACK))
    assert errors.counts["subscriptions.receive"] == 1


def test_errors_without_end_are_logged_a_few_times_and_end_nothing_unless_asked(caplog):
    # A thousand errors are some lines; a feed that is set so is told of each.
    told: list[FeedError] = []
    feed = Broken(fail)
    errors = guard(feed, told.append)
    with caplog.at_level(logging.ERROR):
        for _ in range(1000):
            feed.control(b"x")
    assert errors.counts["control"] == len(told) == 1000
    assert len(caplog.records) == 12
    assert "KeyError" in str(told[0])


def test_state_that_cannot_be_taken_is_told_to_both(caplog):
    # The core keeps the older state and must see the error; whoever reads the log must, too.
    feed: Any = Broken(fail)
    feed.snapshot = fail
    errors = guard(feed)
    with pytest.raises(KeyError):
        feed.snapshot()
    assert errors.counts["snapshot"] == 1
