"""The replay buffer: what the learner of an off-policy algorithm adds rollouts to and draws from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl_core.errors import CheckpointError, ConfigError
from rl_core.records import Rollout, Tree
from rl_core.replay.priorities import PrioritySettings, SumTree
from rl_core.replay.records import Sequences, Transitions
from rl_core.replay.ring import FINAL, INVALID, TERMINATED, TRUNCATED, Ring
from rl_core.replay.state import pack_ring, unpack_ring
from rl_core.replay.windows import n_step as n_step_returns
from rl_core.replay.windows import one_step, trace

MAX_REDRAWS = 8
"""How often places of steps that are not real are drawn anew before the real ones are listed."""


class ReplayBuffer:
    """Keeps the newest transitions of B env slots and draws from them, with replacement.

    Rollouts are expected to go on where the last one ended. A slot where one does not is taken as truncated there.

    Source: Lin 1992; Mnih et al. 2015; with priorities Schaul et al. 2016.
    """

    def __init__(
        self,
        capacity: int,
        *,
        num_slots: int,
        seed: int,
        priorities: PrioritySettings | None = None,
        folder: Path | None = None,
    ) -> None:
        """Make an empty buffer; its columns are allocated by the first `add`, which knows their shapes.

        Args:
            capacity: Transitions to keep, at least 1; rounded up to whole rows of `num_slots`.
            num_slots: B of the rollouts, at least 1.
            seed: Of the draws.
            priorities: Draw by priority; None draws uniformly.
            folder: Map the columns to files in it instead of keeping them in memory. They are of no use once the
                process has ended, and replaced by the next buffer in the same folder.

        Raises:
            ConfigError: a number is out of range.
        """
        for name, value in (("capacity", capacity), ("num_slots", num_slots)):
            if value < 1:
                raise ConfigError(f"replay: {name}: got {value!r}, expected an int >= 1.")
        self.capacity = capacity
        self.num_slots = num_slots
        self.priorities = priorities
        self.folder = folder
        self._num_rows = -(-capacity // num_slots) + 1  # one more for the observation that follows the newest step
        self._generator = torch.Generator().manual_seed(seed)
        self._ring: Ring | None = None
        self._tree: SumTree | None = None
        self._max_priority = 1.0
        self._fits = False

    def __len__(self) -> int:
        """Transitions that can be drawn: those stored, less the steps that are not real."""
        ring = self._ring
        return 0 if ring is None else ring.size * self.num_slots - ring.num_invalid

    @property
    def nbytes(self) -> int:
        """Bytes of all columns, 0 before the first `add`. Memory is taken up only as they fill."""
        return (self._ring.nbytes if self._ring else 0) + (self._tree.nbytes if self._tree else 0)

    def add(self, rollout: Rollout) -> None:
        """Write a rollout over the oldest transitions; new ones get the highest priority seen so far.

        Args:
            rollout: T steps of `num_slots` slots, on the CPU. Its behavior distribution and extras are not kept.

        Raises:
            ValueError: it has another number of slots, or other shapes or dtypes than what is stored.
            ConfigError: there is no room for the columns (first call), or for more final observations.
        """
        if self._ring is None or not self._fits or rollout.reward.shape[1] != self.num_slots:
            self._prepare(rollout)
        ring = self._ring
        assert ring is not None
        written = ring.append(rollout)
        if self._tree is not None:
            for places in written:
                real = (ring.flags[places] & INVALID) == 0
                self._tree.set_range(places.start, real * self._max_priority)

    def sample(self, batch_size: int, *, n_step: int | tuple[int, int], gamma: float, beta: float = 1.0) -> Transitions:
        """Draw transitions.

        A transition of n steps is cut shorter where the episode ends and at the newest observation.

        Args:
            batch_size: N, at least 1.
            n_step: Steps to sum rewards over, or (least, most) to draw the number for each transition from.
            gamma: Discount factor per step, in [0, 1].
            beta: With priorities, how far the weights undo the bias of the draw, from 0, not at all, to 1, fully.

        Raises:
            ValueError: there is nothing to draw, or `n_step` is out of range.
        """
        ring = self._filled()
        place, weight = self._draw(ring, batch_size, beta)
        if n_step == 1:
            returns = one_step(ring, place, gamma)
        else:
            returns = n_step_returns(ring, place, self._draw_n_step(n_step, batch_size), gamma)
        return Transitions(
            obs=ring.obs.tree(ring.obs.take(place)),
            action=ring.action.tree(ring.action.take(place)),
            reward=torch.from_numpy(returns.reward),
            next_obs=ring.next_obs(returns.last, ring.next_places(returns.last), returns.flags),
            discount=torch.from_numpy(returns.discount),
            index=torch.from_numpy(place),
            weight=weight,
        )

    def sample_sequences(self, num_sequences: int, *, length: int, beta: float = 1.0) -> Sequences:
        """Draw sequences of successive steps; any real step may be the first.

        Args:
            num_sequences: S, at least 1.
            length: L, steps per sequence, at least 1.
            beta: As for `sample`.

        Raises:
            ValueError: there is nothing to draw, or `length` is out of range.
        """
        if length < 1:
            raise ValueError(f"replay: length: got {length}, expected at least 1.")
        ring = self._filled()
        start, weight = self._draw(ring, num_sequences, beta)
        places, flags, inside = trace(ring, start, length)
        flags *= inside
        followed = ((flags & FINAL) == 0) | ((flags & TERMINATED) != 0)
        obs_places = np.concatenate([places, ring.next_places(places[-1:])])
        return Sequences(
            obs=ring.obs.tree(ring.obs.take(obs_places)),
            action=ring.action.tree(ring.action.take(places)),
            reward=torch.from_numpy(np.where(inside, ring.reward.take(places), np.float32(0))),
            terminated=torch.from_numpy((flags & TERMINATED) != 0),
            truncated=torch.from_numpy((flags & TRUNCATED) != 0),
            valid=torch.from_numpy(inside & followed),
            state=ring.state.tree(ring.state.take(start)),
            index=torch.from_numpy(start),
            weight=weight,
        )

    def update_priorities(self, index: Tensor, priority: Tensor) -> None:
        """Set the priorities of transitions that were drawn: `(priority + epsilon)**alpha`.

        Args:
            index: `[N]`, as `sample` or `sample_sequences` gave it. Of several for one place the last holds.
            priority: `[N]`, at least 0, usually absolute errors.

        Raises:
            ValueError: the buffer draws uniformly, or a priority is negative or not finite.
        """
        if self._tree is None or self.priorities is None:
            raise ValueError("replay: this buffer draws uniformly; make it with PrioritySettings, or fill it first.")
        places = index.detach().cpu().numpy()
        raw = priority.detach().cpu().double().numpy()
        if not (raw.min(initial=0.0) >= 0 and raw.max(initial=0.0) < np.inf):
            raise ValueError(
                "replay: update_priorities: got a priority that is negative or not finite: a loss diverged?"
            )
        value = (raw + self.priorities.epsilon) ** self.priorities.alpha
        self._max_priority = max(self._max_priority, float(value.max(initial=0.0)))
        # Steps that are not real stay out of reach.
        self._tree.set(places, value * (self._tree.leaves.take(places) > 0))

    def get_state(self) -> dict[str, Any]:
        """Copy what is stored, the priorities and the state of the random numbers: tensors and plain data."""
        ring, tree = self._ring, self._tree
        state: dict[str, Any] = {"settings": self._settings(), "generator": self._generator.get_state(), "ring": None}
        if ring is not None:
            state["ring"] = pack_ring(ring)
        if ring is not None and tree is not None:
            state["max_priority"] = self._max_priority
            state["leaves"] = torch.from_numpy(tree.leaves[: ring.num_filled].copy())
        return state

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Go on from what `get_state` gave: the next draws are the same as they would have been.

        Raises:
            CheckpointError: the state is of a buffer with other settings or other data, or is malformed.
            ConfigError: there is no room for the columns.
        """
        saved = dict(state.get("settings", {}))
        for name, value in self._settings().items():
            if saved.get(name) != value:
                raise CheckpointError(
                    f"replay: the checkpoint's buffer has {name} = {saved.get(name)!r}, this one {value!r}. Make the "
                    "buffer with the settings it was saved with, or begin with an empty one."
                )
        packed = state["ring"]
        if packed is not None and self._ring is not None:
            try:
                self._require_fit(packed["obs"], packed["action"], packed["state"])
            except ValueError as error:
                raise CheckpointError(f"The checkpoint does not fit this buffer. {error}") from error
        self._clear()  # before the new columns are made, so that both need not fit
        if packed is not None:
            ring = self._make_ring(packed["obs"], packed["action"], packed["state"])
            unpack_ring(ring, packed)
            if self._tree is not None:
                self._max_priority = float(state["max_priority"])
                self._tree.set_range(0, state["leaves"].numpy())
        self._generator.set_state(state["generator"])

    def _clear(self) -> None:
        """Let go of all columns."""
        self._ring = self._tree = None
        self._max_priority, self._fits = 1.0, False

    def _settings(self) -> dict[str, Any]:
        """What a saved buffer must have in common with this one."""
        settings: dict[str, Any] = {"capacity": self.capacity, "num_slots": self.num_slots, "priorities": None}
        if self.priorities is not None:
            settings["priorities"] = dataclasses.asdict(self.priorities)
        return settings

    def _prepare(self, rollout: Rollout) -> None:
        """Allocate the columns for the first rollout, or see whether it fits those of a checkpoint."""
        num_slots = rollout.reward.shape[1]
        if num_slots != self.num_slots:
            raise ValueError(
                f"replay: got a rollout of {num_slots} env slots, the buffer was made for {self.num_slots}."
            )
        if self._ring is None:
            self._make_ring(rollout.obs, rollout.action, rollout.state)
        self._require_fit(rollout.obs, rollout.action, rollout.state)
        self._fits = True

    def _make_ring(self, obs: Tree, action: Tree, state: Tree) -> Ring:
        """Allocate columns, and the sum tree if there are priorities, for data like these trees `[?, B, ...]`."""
        size, extra = {"num_rows": self._num_rows, "num_slots": self.num_slots}, 0
        num_places = self._num_rows * self.num_slots
        if self.priorities is not None:
            extra = -(-SumTree.count_bytes(num_places) // num_places)
        self._ring = Ring(obs, action, state, **size, folder=self.folder, extra=extra)
        if self.priorities is not None:
            self._tree = SumTree(num_places)
        return self._ring

    def _require_fit(self, obs: Tree, action: Tree, state: Tree) -> None:
        """Raise a `ValueError` if trees `[?, B, ...]` are not like what is stored."""
        assert self._ring is not None
        for columns, tree in ((self._ring.obs, obs), (self._ring.action, action), (self._ring.state, state)):
            columns.require_fit(tree)

    def _filled(self) -> Ring:
        """The ring, once there is something to draw."""
        if self._ring is None or len(self) == 0:
            raise ValueError("replay: there is nothing to draw yet; add rollouts until len(buffer) > 0.")
        return self._ring

    def _draw(self, ring: Ring, count: int, beta: float) -> tuple[np.ndarray, Tensor]:
        """Draw the places `[N]` of real steps and their importance weights `[N]`."""
        if self._tree is None:
            return self._draw_uniform(ring, count), torch.ones(count)
        # Stratified: one draw from each of N equal parts of the total (Schaul et al. 2016, appendix B.2.1).
        noise = torch.rand(count, dtype=torch.float64, generator=self._generator).numpy()
        place = self._tree.draw((np.arange(count) + noise) / count)
        priority = self._tree.leaves.take(place)
        # (N * P)**-beta over its maximum, in which N and the total cancel out (same paper, section 3.4).
        weight = (priority / priority.min()) ** -beta
        return place, torch.from_numpy(weight.astype(np.float32))

    def _draw_uniform(self, ring: Ring, count: int) -> np.ndarray:
        """Draw places of real steps, each with the same probability."""
        place = self._draw_stored(ring, count)
        if not ring.num_invalid:
            return place
        for _ in range(MAX_REDRAWS):
            wrong = np.flatnonzero(ring.flags.take(place) & INVALID)
            if not len(wrong):
                return place
            place[wrong] = self._draw_stored(ring, len(wrong))
        # Nearly all are not real. What is still wrong is drawn from a list of the others.
        wrong = np.flatnonzero(ring.flags.take(place) & INVALID)
        real = np.flatnonzero((ring.flags[: ring.num_filled] & INVALID) == 0)
        place[wrong] = real[torch.randint(len(real), (len(wrong),), generator=self._generator).numpy()]
        return place

    def _draw_stored(self, ring: Ring, count: int) -> np.ndarray:
        """Draw places of stored steps, real or not: all but the head's row, which is stepped over."""
        place = torch.randint(ring.size * self.num_slots, (count,), generator=self._generator).numpy()
        place[place >= ring.head * self.num_slots] += self.num_slots
        return place

    def _draw_n_step(self, n_step: int | tuple[int, int], count: int) -> np.ndarray | int:
        """Number of steps of each transition."""
        least, most = (n_step, n_step) if isinstance(n_step, int) else n_step
        if not 1 <= least <= most:
            raise ValueError(f"replay: n_step: got {n_step!r}, expected an int >= 1, or (least, most) with least >= 1.")
        if least == most:
            return most
        return torch.randint(least, most + 1, (count,), generator=self._generator).numpy()
