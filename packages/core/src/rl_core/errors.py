"""The exceptions of this library that a caller may want to catch.

Mistakes in arguments raise `ValueError` or `TypeError` (`ConfigError` is a `ValueError`); what can go wrong while a
run is under way, or with files from elsewhere, has a class of its own here.
"""

from collections.abc import Sequence


class RLError(Exception):
    """Base of every error this library raises on purpose: its message is written for the user, not for us."""


class ConfigError(RLError, ValueError):
    """A setting has an unknown name, a wrong type or a value out of range."""


class UnsupportedSpaceError(RLError, ValueError):
    """A space cannot be handled by the component it was given to."""


class EnvError(RLError):
    """An env cannot be made, broke the gymnasium contract, or left its declared spaces."""


class BadObservationError(EnvError):
    """Observations of some env slots cannot be used: bytes that do not decode, numbers that are not finite."""

    def __init__(self, slots: Sequence[int], problem: str) -> None:
        """Say which slots, and what is wrong with the first of them."""
        self.slots = tuple(slots)
        self.problem = problem
        super().__init__(f"Observation of slot {self.slots[0]}: {problem}")


class NonFiniteError(RLError):
    """A loss or gradient became NaN or infinite; the weights are still those before the failed step."""


class CheckpointError(RLError):
    """A checkpoint is missing, damaged, of another format, or does not fit what it is loaded into."""


class WorkerError(RLError):
    """A process of the run died, hung, or never started."""


class RunError(RLError):
    """A run folder cannot be written, is not a run, or cannot be continued."""
