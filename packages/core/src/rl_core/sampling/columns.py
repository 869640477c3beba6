"""The columns `[T, B, ...]` of a rollout: preallocated, written in place as the steps come."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rl_core.records import Decision, History, Rollout, Step, Tree
from rl_core.tree import tree_map, tree_zip


class RolloutColumns:
    """One rollout while it is filled."""

    def __init__(self, first: Step, num_steps: int) -> None:
        """Allocate the columns.

        Args:
            first: What the first decision is made on, with the observations to keep.
            num_steps: T.
        """
        shape = (num_steps, len(first.reward))
        self.obs = allocate(first.obs, num_steps + 1)
        write(self.obs, 0, first.obs)
        self.inputs = tree_map(torch.from_numpy, self.obs)
        """The same memory as tensors."""
        self.reward = np.empty(shape, np.float32)
        self.raw_reward = np.empty(shape, np.float64)
        self.terminated = np.empty(shape, bool)
        self.truncated = np.empty(shape, bool)
        self.artificial = np.empty(shape, bool)
        self.dropped: np.ndarray | None = None
        """`[T, B]`: steps that must not train, artificial ones of an env's own autoreset aside; None for none."""
        self.broken: np.ndarray | None = None
        """`[T, B]`: the env failed, and the episode before has no end; None for nowhere."""
        self.decisions: list[Decision] = []
        self.states: list[Tree] = []
        """The recurrent state before each step, of a recurrent module."""
        self.final_index: list[np.ndarray] = []
        self.final_obs: list[Tree] = []
        self.final_states: list[Tree] = []

    def add(self, time: int, decision: Decision, raw: Step, obs: Tree, reward: np.ndarray) -> None:
        """Write one step: `raw` as the env gave it, the observations to keep and the rewards of the connectors."""
        write(self.obs, time + 1, obs)
        self.reward[time] = reward
        self.raw_reward[time] = raw.reward
        self.terminated[time] = raw.terminated
        self.truncated[time] = raw.truncated
        self.artificial[time] = raw.artificial
        self.decisions.append(decision)

    def drop(self, time: int, unusable: np.ndarray) -> None:
        """Let some slots' step at `time` not train, and end their segment before it.

        Args:
            time: Row of the step.
            unusable: `[B]`, bool.
        """
        if self.dropped is None:
            self.dropped = np.zeros(self.reward.shape, bool)
        self.dropped[time] |= unusable

    def break_off(self, time: int, broken: np.ndarray) -> None:
        """Give up some slots' episode, whose env failed in the step at `time`.

        Args:
            time: Row of the step.
            broken: `[B]`, bool.
        """
        if self.broken is None:
            self.broken = np.zeros(self.reward.shape, bool)
        self.broken[time] = broken
        self.drop(time, broken)

    def add_final(self, time: int, slots: np.ndarray, inputs: Tree, state: Tree) -> None:
        """Keep the true last observations of slots whose episode ended at `time`.

        Args:
            time: Row of the step.
            slots: `[K]`.
            inputs: `[K, ...]`, the observations to keep.
            state: `[B, ...]`, the recurrent state after the step; `()` for none.
        """
        self.final_index.append(time * self.reward.shape[1] + slots)
        self.final_obs.append(inputs)
        if state != ():
            index = torch.from_numpy(slots)
            self.final_states.append(tree_map(lambda leaf: leaf[index], state))

    def rollout(self, policy_version: int, history: History | None) -> Rollout:
        """Hand the columns over."""
        final_obs, final_index = None, np.zeros(0, np.int64)
        if self.final_obs:
            final_index = np.concatenate(self.final_index)
            final_obs = tree_map(
                lambda leaf, column: torch.from_numpy(leaf.astype(column.dtype, copy=False)),
                tree_zip(np.concatenate, self.final_obs),
                self.obs,
            )
        num_artificial = int(np.count_nonzero(self.artificial))
        invalid, truncated = self.artificial, self.truncated
        if self.dropped is not None:
            invalid = invalid | self.dropped
            truncated = truncated.copy()
            truncated[:-1] |= self.dropped[1:] & ~self.terminated[:-1]
        return Rollout(
            obs=self.inputs,
            action=tree_zip(torch.stack, [decision.action for decision in self.decisions]),
            reward=torch.from_numpy(self.reward),
            terminated=torch.from_numpy(self.terminated),
            truncated=torch.from_numpy(truncated),
            valid=torch.from_numpy(~invalid) if num_artificial or self.dropped is not None else None,
            final_index=torch.from_numpy(final_index),
            final_obs=final_obs,
            behavior_dist_inputs=torch.stack([decision.dist_inputs for decision in self.decisions]),
            policy_version=policy_version,
            env_steps=self.reward.size - num_artificial,
            state=tree_zip(torch.stack, self.states) if self.states else (),
            final_state=tree_zip(torch.cat, self.final_states) if self.final_states else (),
            history=history,
        )


def allocate(example: Tree, num_rows: int) -> Tree:
    """Make columns for `num_rows` rows like `example` `[B, ...]`; floats are kept in single precision."""
    return tree_map(
        lambda leaf: np.empty((num_rows, *leaf.shape), np.float32 if leaf.dtype.kind == "f" else leaf.dtype), example
    )


def write(columns: Tree, row: int, value: Tree) -> None:
    """Copy `value` `[B, ...]` into one row of each column."""
    if isinstance(columns, np.ndarray):
        columns[row] = value
    elif isinstance(columns, dict):
        for key, column in columns.items():
            write(column, row, value[key])
    else:
        for column, part in zip(columns, value, strict=True):
            write(column, row, part)


def rows_of(tree: Tree, num_rows: int) -> Sequence[Any]:
    """View the rows of the leaves `[num_rows, ...]` one by one; all at once is cheaper than each when it is due."""
    if isinstance(tree, torch.Tensor):
        return tree.unbind(0)
    return [tree_map(operator.itemgetter(row), tree) for row in range(num_rows)]
