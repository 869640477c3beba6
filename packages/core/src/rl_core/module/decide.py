"""One decision of a policy for a batch of observations."""

from __future__ import annotations

from typing import Any

import torch

from rl_core._internal.tree import tree_map
from rl_core.module.rl_module import RLModule
from rl_core.records import Decision, Tree


def decide(module: RLModule, obs: Tree, state: Tree, noise: Tree) -> Decision:
    """Evaluate the policy and draw an action.

    Args:
        module: On the CPU, called without gradients.
        obs: `[B, ...]`, module inputs.
        state: The module's recurrent state, `()` if it has none.
        noise: `[B, ...]` of the module's distribution, or None for the distribution's mode.
    """
    dist_inputs, state = module.forward_policy(obs, state)
    distribution = module.distribution
    action = distribution.mode(dist_inputs) if noise is None else distribution.sample(dist_inputs, noise)
    return Decision(action=action, dist_inputs=dist_inputs, state=state)


def restart_state(module: RLModule, state: Tree, first: Any) -> Tree:
    """Put the initial recurrent state where a new episode begins (`first`: `[B]` numpy bool)."""
    if state == () or not first.any():
        return state
    mask = torch.from_numpy(first)

    def pick(initial: torch.Tensor, current: torch.Tensor) -> torch.Tensor:
        return torch.where(mask.view(-1, *[1] * (current.ndim - 1)), initial, current)

    return tree_map(pick, module.initial_state(len(first)), state)
