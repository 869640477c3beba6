"""What happens where a connector cannot use an observation: the slot's segment ends there and the others go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from rl_core.errors import BadObservationError
from rl_core.records import Step, Tree
from rl_core.tree import tree_map

R = TypeVar("R")


class ObservationGuard:
    """Puts a slot's last good observation in the place of one that cannot be used, and says which slots that were.

    When the observations are good again, the slot's memory starts anew.
    """

    def __init__(self, num_slots: int) -> None:
        self.bad = np.zeros(num_slots, bool)
        """`[B]`: the newest observation could not be used."""
        self.num_bad = 0
        """Observations so far that could not be used."""
        self._last: Tree = None

    def __call__(self, connect: Callable[[Step], R], raw: Step) -> R:
        """Pass a step on, if need be with other observations.

        Args:
            connect: Runs the connectors; it is called again after it refused observations.
            raw: As the env gave it.

        Raises:
            BadObservationError: the very first observations are bad, and nothing can stand in for them.
        """
        if self.bad.any():
            raw = replace(raw, first=raw.first | self.bad)
        bad = np.zeros_like(self.bad)
        while True:
            try:
                result = connect(raw)
            except BadObservationError as error:
                slots = np.array(error.slots)
                if self._last is None or bad[slots].all():
                    raise
                bad[slots] = True
                raw = replace(raw, obs=self.stand_in(raw.obs, np.flatnonzero(bad)))
                continue
            self._last = tree_map(np.array, raw.obs)
            self.bad = bad
            self.num_bad += int(np.count_nonzero(bad))
            return result

    def get_state(self) -> dict[str, Any]:
        """Return what the next step depends on."""
        return {"bad": self.bad.copy(), "num_bad": self.num_bad, "last": self._last}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `get_state` gave."""
        self.bad, self.num_bad, self._last = state["bad"].copy(), state["num_bad"], state["last"]

    def restart(self) -> None:
        """Forget what was seen, before new episodes begin everywhere."""
        self.bad, self._last = np.zeros_like(self.bad), None

    def stand_in(self, obs: Tree, slots: np.ndarray) -> Tree:
        """Return the observations `[B, ...]` with the last good ones of some slots."""

        def put(given: np.ndarray, last: np.ndarray) -> np.ndarray:
            result = np.array(given)
            result[slots] = last[slots]
            return result

        return tree_map(put, obs, self._last)
