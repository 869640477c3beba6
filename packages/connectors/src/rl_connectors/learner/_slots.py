"""Rollouts side by side: copies of a rollout as further env slots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl_core.errors import ConfigError
from rl_core.records import Rollout
from rl_core.tree import tree_leaves, tree_zip


def require_no_memory(rollout: Rollout, who: str) -> None:
    """Refuse rollouts with memory that cannot be worked out for changed observations.

    Raises:
        ConfigError: the module is recurrent, or a connector behind remembers observations.
    """
    if rollout.state != ():
        raise ConfigError(
            f"{who}: got a rollout of a recurrent module. What it would have remembered of the changed observations is "
            "not known. Use a feed-forward module, or leave this connector out."
        )
    if rollout.history is not None and any(True for part in rollout.history.slots for _ in tree_leaves(part)):
        raise ConfigError(
            f"{who}: an observation connector that the learner runs after it, such as a frame stack, remembers "
            "observations from before the rollout, which would stay unchanged. Leave one of the two out."
        )


def side_by_side(rollouts: Sequence[Rollout]) -> Rollout:
    """Join feed-forward rollouts of equal length along the axis of the slots.

    Args:
        rollouts: The first is the one that was sampled; versions and the number of env steps are its own.

    Returns:
        A rollout of `[T, sum of B]`.
    """
    first = rollouts[0]

    def join(leaves: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(leaves), 1)

    def joined(name: str) -> Any:
        return tree_zip(join, [getattr(rollout, name) for rollout in rollouts])

    valid = None
    if any(rollout.valid is not None for rollout in rollouts):
        valid = join([torch.ones_like(each.terminated) if each.valid is None else each.valid for each in rollouts])
    history = first.history
    if history is not None:
        begins = [rollout.history.first for rollout in rollouts if rollout.history is not None]
        history = replace(history, first=np.concatenate(begins, 1))
    names = ("obs", "action", "reward", "terminated", "truncated", "behavior_dist_inputs")
    columns = {name: joined(name) for name in names}
    extras: Mapping[str, Any] = {
        name: tree_zip(join, [rollout.extras[name] for rollout in rollouts]) for name in first.extras
    }
    index, final_obs = _joined_finals(rollouts)
    return replace(
        first, valid=valid, history=history, extras=extras, final_index=index, final_obs=final_obs, **columns
    )


def _joined_finals(rollouts: Sequence[Rollout]) -> tuple[Tensor, Any]:
    """Join the true final observations, in ascending order of their positions."""
    widths = [rollout.reward.shape[1] for rollout in rollouts]
    total, offset = sum(widths), 0
    parts = []
    for rollout, width in zip(rollouts, widths, strict=True):
        parts.append(rollout.final_index // width * total + offset + rollout.final_index % width)
        offset += width
    index, order = torch.cat(parts).sort()
    given = [rollout.final_obs for rollout in rollouts if len(rollout.final_index)]
    if not given:
        return index, None
    return index, tree_zip(lambda leaves: torch.cat(list(leaves))[order], given)
