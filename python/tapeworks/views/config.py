"""The settings of views. They are read by who starts a view, and load nothing of it."""

from dataclasses import dataclass

from tapeworks.errors import ConfigError


@dataclass(frozen=True)
class ViewConfig:
    """The settings that every view has. One with more of its own derives from it."""

    kind: str = ""
    """Where the class is: `package.module:Class`, or a name of the registry."""
    enabled: bool = True
    sources: tuple[str, ...] = ()
    """None: all that the settings name, or else all that were recorded."""
    symbols: tuple[str, ...] = ()
    """Of these sources, as their venues write them. None: all that they record."""


@dataclass(frozen=True)
class MetricsConfig(ViewConfig):
    """Where the view `metrics` listens."""

    host: str = "127.0.0.1"
    port: int = 9464
    """0: any that is free; the log says which."""
    age_s_max: float = 1.0
    """An answer is at most so old: many that ask cost no more than one."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ConfigError(f"port: expected 0 to 65535, got {self.port}")
        if not 0 <= self.age_s_max <= 3_600:
            raise ConfigError(f"age_s_max: expected 0 to 3600, got {self.age_s_max}")
