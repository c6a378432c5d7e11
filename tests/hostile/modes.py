"""All modes of the hostile venue: importing this fills the registry."""

from tests.hostile import answers, arrays, conversations, floods, messages
from tests.hostile.base import MODES, Mode

__all__ = ["MODES", "Mode", "answers", "arrays", "conversations", "floods", "messages"]
