"""Records the market's tape, proves it complete, and makes it queryable."""

from tapeworks.errors import TapeworksError

__all__ = ["TapeworksError", "__version__"]

__version__ = "0.1.0"
