"""Checks of the values that envs gave, of a whole rollout at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Space

from rl_core.env.check import find_bad_values
from rl_core.errors import EnvError
from rl_core.records import Rollout
from rl_core.tree import tree_map
from rl_multiagent.env.agent_env import AgentID


def check_values(name: str, rollout: Rollout, space: Space[Any], agents: Sequence[AgentID]) -> None:
    """Check the values of one policy's rollout.

    Args:
        name: Of the policy.
        rollout: Its own.
        space: That of its module's inputs.
        agents: Whom each slot plays.

    Raises:
        EnvError: a reward is not finite, or an observation left its space.
    """
    if not rollout.reward.isfinite().all():
        time, slot = (~rollout.reward.isfinite()).nonzero()[0].tolist()
        raise EnvError(
            f"Policy {name!r}: agent {agents[slot]!r} got a reward that is no finite number, for its action {time} of "
            "this rollout. Check the env's rewards."
        )
    rows = tree_map(lambda leaf: leaf.numpy(), rollout.obs)
    if rollout.valid is not None:
        real = rollout.valid.numpy()
        rows = tree_map(lambda leaf: leaf[:-1][real][np.newaxis], rows)
    problem = find_bad_values(space, rows)
    if problem:
        raise EnvError(
            f"Policy {name!r}: an observation left its space: {problem}. Correct the env or its observation_spaces, or "
            "set environment(disable_env_checking=True) if you know better."
        )
