"""Rollouts of several env runners as one, with their env slots side by side, and one as parts for several learners."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from rl_core.errors import ConfigError
from rl_core.records import History, Rollout, Tree
from rl_core.tree import tree_map, tree_zip


def join_rollouts(rollouts: Sequence[Rollout]) -> Rollout:
    """Put the slots of rollouts side by side: those of the first, then those of the second, and so on.

    Rollouts with fewer steps than others are padded at the end with steps that are not real; their last steps count as
    cut, so that their value goes on with the observation that follows.

    Args:
        rollouts: Of runners alike. Of `extras`, columns whose name begins with `final_` are `[K, ...]`, all others
            `[T, B, ...]` or `[T + 1, B, ...]`.
    """
    if len(rollouts) == 1:
        return rollouts[0]
    num_steps = max(len(rollout.reward) for rollout in rollouts)
    widths = [rollout.reward.shape[1] for rollout in rollouts]
    offsets = [sum(widths[:place]) for place in range(len(widths))]

    def columns(trees: Sequence[Tree]) -> Tree:
        def join(leaves: Sequence[Tensor]) -> Tensor:
            rows = num_steps + len(leaves[0]) - len(rollouts[0].reward)
            return torch.cat([_padded(leaf, rows) for leaf in leaves], 1)

        return tree_zip(join, trees)

    index = torch.cat(
        [
            rollout.final_index // width * sum(widths) + offset + rollout.final_index % width
            for rollout, width, offset in zip(rollouts, widths, offsets, strict=True)
        ]
    )
    order = torch.argsort(index)

    def finals(trees: Sequence[Tree]) -> Tree:
        there = [tree for tree, rollout in zip(trees, rollouts, strict=True) if len(rollout.final_index)]
        return tree_zip(lambda leaves: torch.cat(tuple(leaves))[order], there) if there else trees[0]

    even = all(len(rollout.reward) == num_steps for rollout in rollouts)
    real = even and all(rollout.valid is None for rollout in rollouts)
    valid = [torch.ones_like(rollout.terminated) if rollout.valid is None else rollout.valid for rollout in rollouts]
    return Rollout(
        obs=columns([rollout.obs for rollout in rollouts]),
        action=columns([rollout.action for rollout in rollouts]),
        reward=columns([rollout.reward for rollout in rollouts]),
        terminated=columns([rollout.terminated for rollout in rollouts]),
        truncated=columns([_cut(rollout, num_steps) for rollout in rollouts]),
        valid=None if real else columns(valid),
        final_index=index[order],
        final_obs=finals([rollout.final_obs for rollout in rollouts]),
        behavior_dist_inputs=columns([rollout.behavior_dist_inputs for rollout in rollouts]),
        policy_version=min(rollout.policy_version for rollout in rollouts),
        env_steps=sum(rollout.env_steps for rollout in rollouts),
        state=columns([rollout.state for rollout in rollouts]),
        final_state=finals([rollout.final_state for rollout in rollouts]),
        history=_joined_history([rollout.history for rollout in rollouts]),
        extras={
            name: (finals if name.startswith("final_") else columns)([rollout.extras[name] for rollout in rollouts])
            for name in rollouts[0].extras
        },
    )


def split_rollout(rollout: Rollout, num_parts: int) -> list[Rollout]:
    """Cut a rollout between env slots, as evenly as it goes; the tensors are views.

    Each part has the `env_steps` of the whole: by them learners count what all of them have learned from.

    Args:
        rollout: Of at least as many slots as there are parts; its `extras` are as in `join_rollouts`.
        num_parts: How many.

    Raises:
        ConfigError: there are fewer slots.
    """
    num_slots = rollout.reward.shape[1]
    require_slots(num_slots, num_parts)
    ends = [num_slots * part // num_parts for part in range(num_parts + 1)]
    return [slots_of(rollout, slice(*ends[part : part + 2])) for part in range(num_parts)]


def require_slots(num_slots: int, num_learners: int) -> None:
    """Refuse more learners than a rollout has env slots.

    Raises:
        ConfigError: there are.
    """
    if num_slots < num_learners:
        raise ConfigError(
            f"num_learners={num_learners}, but a rollout has {num_slots} env slots, and every learner needs one or "
            "more. Set num_envs_per_env_runner or num_env_runners higher, or num_learners lower."
        )


def slots_of(rollout: Rollout, slots: slice | Tensor) -> Rollout:
    """Take some of the slots of a rollout, in their order: a range of them, or those of rising numbers `[B]`."""
    num_slots = rollout.reward.shape[1]
    chosen = torch.arange(num_slots)[slots]
    place = torch.full((num_slots,), -1)  # of each slot among the chosen
    place[chosen] = torch.arange(len(chosen))
    step, slot = rollout.final_index // num_slots, place[rollout.final_index % num_slots]
    ours = (slot >= 0).nonzero().squeeze(-1)
    history = rollout.history

    def columns(tree: Tree) -> Tree:
        return tree_map(lambda leaf: leaf[:, slots], tree)

    def finals(tree: Tree) -> Tree:
        return None if tree is None else tree_map(lambda leaf: leaf[ours], tree)

    return replace(
        rollout,
        obs=columns(rollout.obs),
        action=columns(rollout.action),
        reward=rollout.reward[:, slots],
        terminated=rollout.terminated[:, slots],
        truncated=rollout.truncated[:, slots],
        valid=None if rollout.valid is None else rollout.valid[:, slots],
        final_index=step[ours] * len(chosen) + slot[ours],
        final_obs=finals(rollout.final_obs) if len(ours) else None,
        behavior_dist_inputs=rollout.behavior_dist_inputs[:, slots],
        state=columns(rollout.state),
        final_state=finals(rollout.final_state) if len(ours) else (),
        history=history
        and History(
            slots=tuple(tree_map(lambda leaf: leaf[slots], piece) for piece in history.slots),
            first=history.first[:, slots],
        ),
        extras={
            name: finals(column) if name.startswith("final_") else columns(column)
            for name, column in rollout.extras.items()
        },
    )


def _padded(column: Tensor, num_rows: int) -> Tensor:
    """Add rows of zeros at the end."""
    missing = num_rows - len(column)
    return torch.cat((column, column.new_zeros(missing, *column.shape[1:]))) if missing else column


def _cut(rollout: Rollout, num_steps: int) -> Tensor:
    """Where episodes are cut, if steps that are not real follow the last one."""
    if len(rollout.reward) == num_steps:
        return rollout.truncated
    truncated = rollout.truncated.clone()
    truncated[-1] |= ~rollout.terminated[-1]
    return truncated


def _joined_history(histories: Sequence[History | None]) -> History | None:
    """Put the memory of the connectors of all slots together."""
    given = [history for history in histories if history is not None]
    if not given:
        return None
    slots = tuple(tree_zip(np.concatenate, pieces) for pieces in zip(*(part.slots for part in given), strict=True))
    return History(slots=slots, first=np.concatenate([part.first for part in given], 1))
