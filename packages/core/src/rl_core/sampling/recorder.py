"""Puts episodes together from the rollouts they stretch over, for callbacks that ask for whole episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from rl_core.records import Rollout, Tree
from rl_core.sampling.episodes import Episode
from rl_core.tree import tree_map, tree_zip


class EpisodeRecorder:
    """Keeps the open part of each slot's episode and calls back when one is complete."""

    def __init__(self, num_slots: int, on_episode_end: Callable[[Episode], None]) -> None:
        self._on_episode_end = on_episode_end
        self._open: list[list[tuple[Tree, Tree, np.ndarray]]] = [[] for _ in range(num_slots)]

    def get_state(self) -> list[Any]:
        """Return the open parts of the episodes, slot by slot."""
        return [list(parts) for parts in self._open]

    def set_state(self, state: list[Any] | None) -> None:
        """Take back what `get_state` gave; None drops all open parts."""
        self._open = [[] for _ in self._open] if state is None else [list(parts) for parts in state]

    def add(self, rollout: Rollout, reward: np.ndarray, done: np.ndarray, broken: np.ndarray | None) -> None:
        """Add a rollout.

        Args:
            rollout: Where its segments were cut (`RolloutColumns.drop`) an episode goes on.
            reward: `[T, B]`, as the env gave it.
            done: `[T, B]`, bool: an episode ended.
            broken: `[T, B]`, bool: an episode is given up; None for none.
        """
        final_place = {int(index): place for place, index in enumerate(rollout.final_index)}
        num_steps, num_slots = done.shape
        over = done if broken is None else done | broken
        ends = [(int(time), int(slot)) for time, slot in np.argwhere(over)]
        starts = [0] * num_slots
        for time, slot in ends:
            start, starts[slot] = starts[slot], time + 1
            if not done[time, slot]:
                self._open[slot] = []
                continue
            self._keep(rollout, reward, slot, start, time + 1)
            place = final_place.get(time * num_slots + slot)
            last = (
                tree_map(lambda leaf, s=slot, t=time: leaf[t + 1, s].numpy(), rollout.obs)
                if place is None
                else tree_map(lambda leaf, p=place: leaf[p].numpy(), rollout.final_obs)
            )
            if self._open[slot]:  # a bad observation may have left nothing
                self._emit(slot, last, bool(rollout.terminated[time, slot]))
        for slot in range(num_slots):
            self._keep(rollout, reward, slot, starts[slot], num_steps)

    def _keep(self, rollout: Rollout, reward: np.ndarray, slot: int, start: int, stop: int) -> None:
        """Remember the real steps of one slot between two times."""
        times = torch.arange(start, stop)
        if rollout.valid is not None:
            times = times[rollout.valid[start:stop, slot]]
        rows = times.numpy()  # numpy would take a tensor of one number for a plain index
        if len(times):

            def take(leaf: torch.Tensor) -> np.ndarray:
                return leaf[times, slot].numpy()

            self._open[slot].append((tree_map(take, rollout.obs), tree_map(take, rollout.action), reward[rows, slot]))

    def _emit(self, slot: int, last_obs: Tree, terminated: bool) -> None:
        """Join the parts of a finished episode and call back."""
        obs, action, reward = zip(*self._open[slot], strict=True)
        self._open[slot] = []
        ending = tree_map(lambda leaf: leaf[np.newaxis], last_obs)
        self._on_episode_end(
            Episode(
                slot=slot,
                obs=tree_zip(np.concatenate, [*obs, ending]),
                action=tree_zip(np.concatenate, action),
                reward=np.concatenate(reward),
                terminated=terminated,
            )
        )
