"""The columns of rollouts, written at the clock of each agent slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rl_core import Decision, Rollout
from rl_core.connect.protocol import NO_SLOTS
from rl_core.records import Tree
from rl_core.tree import tree_map, tree_zip
from rl_multiagent.sampling.joint import JointRows
from rl_multiagent.sampling.slots import ALL, Arrival, Index, PolicySlots, put


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenDecisions:
    """Decisions whose outcome was not known when a rollout ended."""

    slots: np.ndarray
    """`[N]`"""
    seen: tuple[Tree, Tree, Tree]
    """`[N, ...]`: what they were made on, see `SlotColumns.seen`."""
    action: Tree
    """`[N, ...]`"""
    dist_inputs: np.ndarray
    """`[N, P]`"""


class SlotColumns:
    """One rollout while it is filled: row `cursor[b]` of slot b holds its open decision.

    A decision whose outcome is not known at the end of the rollout is row 0 of the next one, so that nothing is lost
    where agents wait for their turn.
    """

    def __init__(
        self,
        slots: PolicySlots,
        num_steps: int,
        open_decisions: OpenDecisions | None = None,
        *,
        joint: JointRows | None = None,
    ) -> None:
        """Allocate the columns.

        Args:
            slots: Of the policy, after a step of the envs was received.
            num_steps: T, env steps of the rollout: the most decisions a slot can make.
            open_decisions: Of the rollout before.
            joint: What all agents see, if the rollout is to tell.
        """
        num_rows = num_steps + 1  # a decision may be open from before
        shape = (num_rows, slots.num_slots)
        self._joint = joint
        self.seen: tuple[Tree, Tree, Tree] = _column(self._newest(slots, ALL), num_rows + 1)
        """`[T + 2, B, ...]`: module inputs, recurrent states before them, and what all agents saw or `()`."""
        self.reward = np.zeros(shape, np.float32)
        self.terminated = np.zeros(shape, bool)
        self.truncated = np.zeros(shape, bool)
        self.action: Tree = None
        self.dist_inputs: Any = None
        self.cursor = np.zeros(slots.num_slots, np.int64)
        self._level: int | None = 0  # the cursor of all slots, where it is the same
        self._final: list[tuple[np.ndarray, np.ndarray, tuple[Tree, Tree, Tree]]] = []
        self.arrive(slots, ALL)
        if open_decisions is not None:
            where = (0, open_decisions.slots)
            self._write_decisions(where, open_decisions.action, open_decisions.dist_inputs)
            put(self.seen, where, open_decisions.seen)

    def open_decisions(self, waiting: np.ndarray) -> OpenDecisions | None:
        """Return the decisions of some slots that the next rollout takes over; None if there are none."""
        if not len(waiting):
            return None
        rows = (self.cursor[waiting], waiting)
        seen, action, dist_inputs = tree_map(lambda column: column[rows], (self.seen, self.action, self.dist_inputs))
        return OpenDecisions(slots=waiting, seen=seen, action=action, dist_inputs=dist_inputs)

    def arrive(self, slots: PolicySlots, index: Index) -> None:
        """Write what some slots decide on next."""
        put(self.seen, self._where(index), self._newest(slots, index))

    def _newest(self, slots: PolicySlots, index: Index) -> tuple[Tree, Tree, Tree]:
        """Return the newest inputs of some slots, their recurrent states and what all agents see."""
        return (
            tree_map(lambda leaf: leaf[index], slots.inputs),
            tree_map(lambda leaf: leaf[index].numpy(), slots.state),
            () if self._joint is None else self._joint.newest(index),
        )

    def decide(self, index: Index, decision: Decision) -> None:
        """Write the decisions of some slots."""
        action = tree_map(lambda leaf: leaf.numpy(), decision.action)
        self._write_decisions(self._where(index), action, decision.dist_inputs.numpy())

    def close(self, arrival: Arrival) -> None:
        """Write the outcome of open decisions and go to the next row of those slots."""
        if len(arrival.broken):
            self._break_off(arrival.broken)
        went_on, ended = arrival.went_on, arrival.ended
        self.reward[self.cursor[went_on], went_on] = arrival.reward
        if len(ended):
            rows = (self.cursor[ended], ended)
            self.reward[rows] = arrival.ended_reward
            self.terminated[rows] = arrival.terminated
            self.truncated[rows] = arrival.truncated
            joint = () if self._joint is None else self._joint.final(ended)
            final_state = tree_map(lambda leaf: leaf.numpy(), arrival.final_state)
            self._final.append((self.cursor[ended], ended, (arrival.final_obs, final_state, joint)))
            self.cursor[ended] += 1
        self.cursor[went_on] += 1
        if self._level is not None:
            together = len(went_on) + len(ended) == len(self.cursor)
            self._level = self._level + 1 if together else None

    def _break_off(self, slots: np.ndarray) -> None:
        """Forget open decisions that have no outcome: what they were made on cuts the transition before."""
        rows = self.cursor[slots] - 1
        goes_on = (rows >= 0) & ~(self.terminated[rows, slots] | self.truncated[rows, slots])
        rows, slots = rows[goes_on], slots[goes_on]
        if len(slots):
            self.truncated[rows, slots] = True
            self._final.append((rows, slots, tree_map(lambda column: column[rows + 1, slots], self.seen)))

    def rollout(self, part: slice, policy_version: int) -> Rollout | None:
        """Hand over the complete transitions of some slots; None if there are none.

        Slots with fewer of them than others are padded at the end: their last transition counts as cut, so that its
        value goes on with the observation that follows.
        """
        cursor = self.cursor[part]
        num_rows = int(cursor.max())
        if num_rows == 0:
            return None
        valid = np.arange(num_rows)[:, np.newaxis] < cursor
        terminated, truncated = self.terminated[:num_rows, part], self.truncated[:num_rows, part].copy()
        padded = np.flatnonzero((cursor > 0) & (cursor < num_rows))
        last = (cursor[padded] - 1, padded)
        truncated[last] |= ~terminated[last]
        final_index, (final_obs, final_state, final_joint) = self._finals(part)

        def rows(column: np.ndarray) -> torch.Tensor:
            return torch.from_numpy(column[:num_rows, part])

        obs, state, joint = tree_map(lambda column: torch.from_numpy(column[: num_rows + 1, part]), self.seen)
        return Rollout(
            obs=obs,
            action=tree_map(rows, self.action),
            reward=rows(self.reward),
            terminated=torch.from_numpy(terminated),
            truncated=torch.from_numpy(truncated),
            valid=None if valid.all() else torch.from_numpy(valid),
            final_index=torch.from_numpy(final_index),
            final_obs=final_obs,
            behavior_dist_inputs=rows(self.dist_inputs),
            policy_version=policy_version,
            env_steps=int(np.count_nonzero(valid)),
            state=state,
            final_state=final_state,
            extras={} if self._joint is None else {"joint": joint, "final_joint": final_joint},
        )

    def _finals(self, part: slice) -> tuple[np.ndarray, tuple[Tree, Tree, Tree]]:
        """Put what the true last observations of some slots are, see `seen`, in order of their positions."""
        start, stop, _ = part.indices(len(self.cursor))
        times = np.concatenate([time for time, *_ in self._final]) if self._final else NO_SLOTS
        slots = np.concatenate([slot for _, slot, _ in self._final]) if self._final else NO_SLOTS
        inside = np.flatnonzero((slots >= start) & (slots < stop))
        if not len(inside):
            return NO_SLOTS, (None, (), None)
        index = times[inside] * (stop - start) + slots[inside] - start
        order = inside[np.argsort(index)]
        finals: tuple[Tree, Tree, Tree] = tree_map(
            lambda leaf, column: torch.from_numpy(leaf[order].astype(column.dtype, copy=False)),
            tree_zip(np.concatenate, [seen for *_, seen in self._final]),
            self.seen,
        )
        return np.sort(index), finals

    def _where(self, index: Index) -> tuple[Any, Any]:
        """Positions of the open row of some slots: one whole row where all are at the same."""
        if index is ALL:
            return (self._level, ALL) if self._level is not None else (self.cursor, np.arange(len(self.cursor)))
        return self.cursor[index], index

    def _write_decisions(self, where: tuple[Any, Any], action: Tree, dist_inputs: np.ndarray) -> None:
        """Write into the columns, which are made for the first decisions."""
        if self.dist_inputs is None:
            shape = self.reward.shape
            self.action = tree_map(lambda leaf: np.zeros((*shape, *leaf.shape[1:]), leaf.dtype), action)
            self.dist_inputs = np.zeros((*shape, *dist_inputs.shape[1:]), dist_inputs.dtype)
        put(self.action, where, action)
        self.dist_inputs[where] = dist_inputs


def _column(example: Tree, num_rows: int) -> Any:
    """Make columns of zeros `[num_rows, B, ...]` for values `[B, ...]`."""
    return tree_map(lambda leaf: np.zeros((num_rows, *leaf.shape), leaf.dtype), example)
