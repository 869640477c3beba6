"""What happens where a connector cannot use an agent's observation: its segment ends there and the others go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from rl_core.errors import BadObservationError
from rl_core.records import Rollout, Tree
from rl_core.tree import tree_map

R = TypeVar("R")


def connect_usable(connect: Callable[[Tree], R], obs: Tree, last: Tree, num_slots: int) -> tuple[R, Tree, np.ndarray]:
    """Run connectors; where they refuse an observation, the one that the agent saw before stands in.

    Args:
        connect: Runs the connectors on observations `[N, ...]`; it is called again after it refused some.
        obs: `[N, ...]`: as the env gave them.
        last: `[N, ...]`: the last good ones of the same slots; zeros for an agent that had none yet.
        num_slots: N.

    Returns:
        What `connect` gave, the observations that it gave it for, and where another one stands in, `[N]`.

    Raises:
        BadObservationError: a connector refuses what stands in, too.
    """
    bad = np.zeros(num_slots, bool)
    while True:
        try:
            return connect(obs), obs, bad
        except BadObservationError as error:
            refused = np.array(error.slots)
            if bad[refused].all():
                raise
            bad[refused] = True

            def stand_in(given: np.ndarray, good: np.ndarray) -> np.ndarray:
                result = np.array(given)
                result[bad] = good[bad]
                return result

            obs = tree_map(stand_in, obs, last)


class DroppedRows:
    """Transitions of one rollout from or to an observation that could not be used: they do not train."""

    def __init__(self, num_rows: int, num_slots: int) -> None:
        self._dropped = np.zeros((num_rows, num_slots), bool)

    def add(self, rows: np.ndarray, slots: np.ndarray) -> None:
        """Drop a transition of some slots.

        Args:
            rows: `[D]`
            slots: `[D]`
        """
        self._dropped[rows, slots] = True

    def without(self, rollout: Rollout, part: slice) -> Rollout:
        """Return the rollout of some slots in which those rows do not train and segments end before them."""
        dropped = torch.from_numpy(self._dropped[: len(rollout.reward), part])
        if not dropped.any():
            return rollout
        truncated = rollout.truncated.clone()
        truncated[:-1] |= dropped[1:] & ~rollout.terminated[:-1]
        valid = ~dropped if rollout.valid is None else rollout.valid & ~dropped
        return dataclasses.replace(rollout, truncated=truncated, valid=valid)
