"""All questions, in the order in which they are asked."""

from tests.research import books, flow, joins, quality, quotes, trades
from tests.research.base import Question

MODULES = (trades, flow, quotes, books, joins, quality)
QUESTIONS = [
    question
    for module in MODULES
    for question in Question.ALL
    if question.__module__ == module.__name__
]
