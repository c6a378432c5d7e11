"""All modes of the hostile venue: importing this fills the registry."""

from tests.hostile import answers, conversations, floods, messages
from tests.hostile.base import MODES, Mode

__all__ = ["MODES", "Mode", "answers", "conversations", "floods", "messages"]
