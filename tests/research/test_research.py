"""Typical questions of research: the Python API and SQL give what the records say."""

from decimal import Decimal

import pytest
from tests.research.base import Question, Records, difference
from tests.research.market import record
from tests.research.questions import QUESTIONS

import tapeworks as tw

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> tw.Lake:
    """Twenty minutes of two venues."""
    return tw.open(record(tmp_path_factory.mktemp("research")))


@pytest.fixture(scope="module")
def records(lake: tw.Lake) -> Records:
    """What was recorded, as integers."""
    return Records(lake)


def test_a_wrong_answer_is_told():
    # A digit of money, a float beyond what floats lose, a row too many, a value for none.
    for found, expected in (
        ([("BTCUSDT", Decimal("1.00000001"))], [("BTCUSDT", Decimal("1.00000002"))]),
        ([1.0], [1.0 + 1e-8]),
        ([1, 2], [1]),
        ([0], [None]),
    ):
        assert difference(found, expected, 1e-9) is not None
    assert difference([(1.0, None, 2)], [(1.0 + 1e-12, None, Decimal(2))], 1e-9) is None


def test_there_are_forty_questions():
    # Each of them asks something, and none is asked twice.
    texts = {question.text() for question in QUESTIONS}
    assert len(texts) == len(QUESTIONS) >= 40
    assert all(text.endswith("?") for text in texts)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.__name__)
def test_answers_are_those_of_the_records(
    question: type[Question], lake: tw.Lake, records: Records
):
    # By the Python API, by SQL, and from the integers of the records alone.
    assert question().check(lake, records) == []
