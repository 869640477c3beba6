"""The ring: time-major columns `[C, B, ...]` that the newest steps of B slots overwrite the oldest of.

Observations are stored once: what follows row t is row t + 1. So the row after the newest, the head, holds an
observation but no step yet. It carries the flag INVALID, at which every window of steps stops.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from rl_core.records import Rollout, Tree
from rl_core.replay.columns import FinalObservations, TreeColumns, split_around, write_around
from rl_core.replay.memory import allocate, require_room
from rl_core.tree import tree_leaves

TERMINATED, TRUNCATED, INVALID, FINAL = 1, 2, 4, 8
"""Flags of a step: how the episode ended with it, that it is no real step, that its true next observation is aside."""
END = TERMINATED | TRUNCATED | FINAL


class Ring:
    """What ReplayBuffer keeps: C = `num_rows` rows of `num_slots` slots. A place is `row * num_slots + slot`."""

    def __init__(
        self, obs: Tree, action: Tree, state: Tree, *, num_rows: int, num_slots: int, folder: Path | None, extra: int
    ) -> None:
        """Allocate the columns.

        Args:
            obs: Example `[?, B, ...]` of observations; and so are `action` and `state` of theirs.
            action: Example.
            state: Example; `()` when there is none.
            num_rows: C, one more than there are steps per slot.
            num_slots: B.
            folder: Where to map the columns to files; None keeps them in memory.
            extra: Bytes per place that the caller is going to allocate besides.

        Raises:
            ConfigError: there is not so much memory, or room on the disk.
        """
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        leaves = [leaf for tree in (obs, action, state) for leaf in tree_leaves(tree)]
        # reward 4, flags 1, pointer to a final observation 4
        place_bytes = 9 + extra + sum(math.prod(leaf.shape[2:]) * leaf.element_size() for leaf in leaves)
        size = num_rows * num_slots
        require_room(place_bytes * size, count=(num_rows - 1) * num_slots, what="transitions", folder=folder)
        self.num_rows, self.num_slots, self.num_places = num_rows, num_slots, size
        self.obs = TreeColumns("obs", obs, num_rows, folder)
        self.action = TreeColumns("action", action, num_rows, folder)
        self.state = TreeColumns("state", state, num_rows, folder)
        self.reward = allocate("reward", (size,), np.dtype(np.float32), folder)
        self.flags = allocate("flags", (size,), np.dtype(np.uint8), folder)
        self._reward_rows, self._flag_rows = (column.reshape(num_rows, -1) for column in (self.reward, self.flags))
        self.finals = FinalObservations(self.obs, size, folder)
        self.head = 0
        """Row the next step goes to."""
        self.size = 0
        """Rows that hold steps: those just before the head."""
        self.num_invalid = 0
        """Steps among them that are not real."""

    @property
    def num_filled(self) -> int:
        """Places up to which something was written: all of them once the ring has gone around."""
        return min(self.size + 1, self.num_rows) * self.num_slots

    @property
    def nbytes(self) -> int:
        """Bytes of all columns."""
        columns = [*self.obs.rows, *self.action.rows, *self.state.rows, self.reward, self.flags]
        return sum(column.nbytes for column in columns) + self.finals.nbytes

    def append(self, rollout: Rollout) -> list[slice]:
        """Write the steps of a rollout over the oldest ones; of a longer rollout only the last C - 1 steps.

        Returns:
            The places written, the head's included: one slice, or two around the end.
        """
        num_steps = len(rollout.reward)
        skip = max(0, num_steps - self.num_rows + 1)
        if self.size and not skip:
            self._cut_if_apart(rollout.obs)
        start, count = self.head, num_steps - skip
        self._forget(self.size + count - self.num_rows + 1)
        self.obs.write(start, rollout.obs, skip)
        self.action.write(start, rollout.action, skip)
        self.state.write(start, rollout.state, skip)
        write_around(self._reward_rows, start, rollout.reward.numpy()[skip:])
        flags = self._flags_of(rollout)
        write_around(self._flag_rows, start, flags[skip:])
        if len(rollout.final_index):
            self._push_finals(rollout, start, skip)
        self.head = (start + count) % self.num_rows
        self.size = min(self.size + count, self.num_rows - 1)
        self._flag_rows[self.head] = INVALID
        B = self.num_slots
        return [slice(rows.start * B, rows.stop * B) for rows in split_around(start, count + 1, self.num_rows)]

    def next_places(self, places: np.ndarray) -> np.ndarray:
        """The places one row on."""
        following = places + self.num_slots
        following[following >= self.num_places] -= self.num_places
        return following

    def next_obs(self, last: np.ndarray, following: np.ndarray, flags: np.ndarray) -> Tree:
        """Copy what follows steps: the next row, or the true final observation where there is one.

        Args:
            last: `[N]`, places of the steps.
            following: `[N]`, the places one row on.
            flags: `[N]` of the steps.
        """
        leaves = self.obs.take(following)
        if self.finals.num_live:
            ends = np.flatnonzero(flags & FINAL)
            if len(ends):
                for leaf, final in zip(leaves, self.finals.take(last[ends]), strict=True):
                    leaf[ends] = final
        return self.obs.tree(leaves)

    def _flags_of(self, rollout: Rollout) -> np.ndarray:
        """Put the flags `[T, B]` of a rollout into one byte each and count the steps that are not real."""
        terminated, truncated = rollout.terminated.numpy(), rollout.truncated.numpy()
        flags = terminated.view(np.uint8) | (truncated.view(np.uint8) << 1)
        if rollout.valid is not None:
            invalid = ~rollout.valid.numpy()
            flags |= invalid.view(np.uint8) * np.uint8(INVALID)
            self.num_invalid += int(np.count_nonzero(invalid[-(self.num_rows - 1) :]))
        if len(rollout.final_index):
            flags.reshape(-1)[rollout.final_index.numpy()] |= FINAL
        return flags

    def _push_finals(self, rollout: Rollout, start: int, skip: int) -> None:
        """Put the true final observations of a rollout aside."""
        index = rollout.final_index.numpy()
        kept = index >= skip * self.num_slots
        places = (index[kept] + (start - skip) * self.num_slots) % self.num_places
        self.finals.push(places, [leaf[kept] for leaf in self.obs.leaves(rollout.final_obs)])

    def _forget(self, count: int) -> None:
        """Let go of the oldest `count` rows, before they are overwritten."""
        if count <= 0 or not (self.num_invalid or self.finals.num_live):
            return
        oldest = (self.head - self.size) % self.num_rows
        for rows in split_around(oldest, min(count, self.size), self.num_rows):
            flags = self._flag_rows[rows]
            self.num_invalid -= int(np.count_nonzero(flags & INVALID))
            if self.finals.num_live:
                self.finals.pop(int(np.count_nonzero(flags & FINAL)))

    def _cut_if_apart(self, obs: Tree) -> None:
        """Truncate the newest steps of slots in which a rollout does not go on from the observation at the head.

        This happens where an env was made anew, or where rollouts of several runners come in turn. Without it, an
        observation of another episode would pass for what followed.
        """
        apart = np.zeros(self.num_slots, bool)
        for column, leaf in zip(self.obs.rows, self.obs.leaves(obs), strict=True):
            differs = column[self.head] != leaf[0]
            if differs.any():
                apart |= differs.reshape(self.num_slots, -1).any(1)
        if not apart.any():
            return
        newest = (self.head - 1) % self.num_rows
        flags = self._flag_rows[newest]
        slots = np.flatnonzero(apart & ((flags & (FINAL | INVALID)) == 0))
        flags[slots] |= np.where(flags[slots] & TERMINATED, FINAL, FINAL | TRUNCATED).astype(np.uint8)
        self.finals.push(newest * self.num_slots + slots, [column[self.head, slots] for column in self.obs.rows])
