"""The venues' servers, over the same wire formats, for demo and tests."""

from tapeworks.simulators.base import (
    Exchange,
    Simulator,
    SimulatorError,
    exchanges,
    start_simulator,
)

__all__ = ["Exchange", "Simulator", "SimulatorError", "exchanges", "start_simulator"]
