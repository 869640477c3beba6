"""Finished episodes, worked out from the columns of a rollout at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rl_core.records import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeStats:
    """Returns and lengths of finished episodes, in order of their ends."""

    returns: np.ndarray
    """`[K]`, float64: sums of rewards as the env gave them, undiscounted."""
    lengths: np.ndarray
    """`[K]`, int64: env steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One finished episode; built only for callbacks that ask for it."""

    slot: int
    """Env slot that played it."""
    obs: Tree
    """`[L + 1, ...]`: module inputs, the true last observation included."""
    action: Tree
    """`[L, ...]`: in the module's terms."""
    reward: np.ndarray
    """`[L]`"""
    terminated: bool
    """Reached a terminal state; otherwise it was truncated."""

    @property
    def episode_return(self) -> float:
        """Sum of the rewards."""
        return float(self.reward.sum(dtype=np.float64))


class EpisodeCounter:
    """Sums rewards and steps per env slot across rollouts."""

    def __init__(self, num_slots: int) -> None:
        self.open_return = np.zeros(num_slots)
        self.open_length = np.zeros(num_slots, np.int64)

    def count(self, reward: np.ndarray, done: np.ndarray, artificial: np.ndarray) -> EpisodeStats:
        """Add T steps and return the episodes that ended in them.

        Args:
            reward: `[T, B]`, as the env gave it.
            done: `[T, B]`, bool: terminated or truncated.
            artificial: `[T, B]`, bool: steps that are not real.
        """
        total = np.cumsum(reward, axis=0, dtype=np.float64) + self.open_return  # [T, B]
        length = np.cumsum(~artificial, axis=0) + self.open_length
        slot, time = np.nonzero(done.T)  # by slot, then time
        end_return, end_length = total[time, slot], length[time, slot]
        # What a slot had summed up at its previous end in this rollout belongs to the episode before.
        same_slot = np.zeros(len(slot), bool)
        same_slot[1:] = slot[1:] == slot[:-1]
        returns, lengths = end_return.copy(), end_length.copy()
        returns[same_slot] -= end_return[:-1][same_slot[1:]]
        lengths[same_slot] -= end_length[:-1][same_slot[1:]]

        self.open_return, self.open_length = total[-1].copy(), length[-1].copy()
        last = np.ones(len(slot), bool)
        last[:-1] = slot[1:] != slot[:-1]
        self.open_return[slot[last]] -= end_return[last]
        self.open_length[slot[last]] -= end_length[last]
        order = np.lexsort((slot, time))
        return EpisodeStats(returns=returns[order], lengths=lengths[order])
