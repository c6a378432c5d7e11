"""The venues' servers, over the same wire formats, for demo and tests."""

from tapeworks.simulators.base import Simulator, SimulatorError, start_simulator

__all__ = ["Simulator", "SimulatorError", "start_simulator"]
