"""Finished episodes, worked out from the columns of a rollout at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rl_core.records import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeStats:
    """Returns and lengths of finished episodes, in order of their ends."""

    returns: np.ndarray
    """`[K]`, float64: sums of rewards as the env gave them, undiscounted."""
    lengths: np.ndarray
    """`[K]`, int64: env steps."""
    parts: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Further figures of episodes by the name of their mean in the result, such as shares of the return: arrays of any
    length. A runner that has some gives all their names from the start."""
    num_steps: int = 0
    """Env steps that were played, where a number of steps was asked for; else 0."""

    @staticmethod
    def joined(parts: Sequence[EpisodeStats]) -> EpisodeStats:
        """Put the episodes of several runners one after the other."""
        names = {name: None for part in parts for name in part.parts}
        return EpisodeStats(
            returns=np.concatenate([part.returns for part in parts]),
            lengths=np.concatenate([part.lengths for part in parts]),
            parts={name: np.concatenate([part.parts[name] for part in parts if name in part.parts]) for name in names},
            num_steps=sum(part.num_steps for part in parts),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Episode:
    """One finished episode; built only for callbacks that ask for it."""

    slot: int
    """Env slot that played it."""
    obs: Tree
    """`[L + 1, ...]`: module inputs, the true last observation included; without what the learner rebuilds, so that of
    stacked frames they are the single ones."""
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

    def count(
        self, reward: np.ndarray, done: np.ndarray, artificial: np.ndarray, broken: np.ndarray | None = None
    ) -> EpisodeStats:
        """Add T steps and return the episodes that ended in them.

        Args:
            reward: `[T, B]`, as the env gave it.
            done: `[T, B]`, bool: terminated or truncated.
            artificial: `[T, B]`, bool: steps that are not real.
            broken: `[T, B]`, bool: steps at which an episode is given up, not counted; None for none.
        """
        num_steps, num_slots = reward.shape
        over = done if broken is None else done | broken
        ends = over.T.ravel()  # slot by slot: an episode is a run of steps up to the one that is done
        begins = np.empty_like(ends)
        begins[1:] = ends[:-1]
        begins[::num_steps] = True
        starts = np.flatnonzero(begins)
        returns = np.add.reduceat(reward.T.ravel().astype(np.float64), starts)
        lengths = np.add.reduceat(~artificial.T.ravel(), starts, dtype=np.int64)
        last = np.empty_like(starts)
        last[:-1] = starts[1:] - 1
        last[-1] = len(ends) - 1
        slot = starts // num_steps
        goes_on = starts % num_steps == 0
        returns[goes_on] += self.open_return
        lengths[goes_on] += self.open_length

        ended = ends[last]
        self.open_return, self.open_length = np.zeros(num_slots), np.zeros(num_slots, np.int64)
        self.open_return[slot[~ended]] = returns[~ended]
        self.open_length[slot[~ended]] = lengths[~ended]
        ended &= done.T.ravel()[last]
        order = np.lexsort((slot[ended], last[ended] % num_steps))
        return EpisodeStats(returns=returns[ended][order], lengths=lengths[ended][order])
