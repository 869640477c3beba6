"""Policies of equal structure evaluated as one batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from rl_core.module.actor_critic import ActorCritic
from rl_core.module.networks import MLP
from rl_core.module.rl_module import RLModule


class PolicyStack:
    """M policies whose networks are plain dense layers of equal sizes: one batched product per layer for all of them.

    After construction the parameters of each module's policy are views into the stack's: weights that are loaded into
    a module are the stack's, too. For acting only: gradients do not flow to the modules.
    """

    def __init__(self, modules: Sequence[Any]) -> None:
        """Move the parameters together.

        Args:
            modules: M of them, for which `can_stack` holds.
        """
        networks = [module.policy for module in modules]
        self._parameters = _together([list(network.parameters()) for network in networks])
        self._activations = networks[0].activations
        self._module = modules[0]
        free = [module.log_std for module in modules if module.log_std is not None]
        self._log_std = _together([[parameter] for parameter in free])[0] if free else None

    def __call__(self, obs: Tensor) -> Tensor:
        """Map `[M, N, D]` to the distributions' inputs `[M, N, P]`."""
        parameters, x = self._parameters, obs
        for weight, bias, activate in zip(parameters[::2], parameters[1::2], self._activations, strict=True):
            x = torch.baddbmm(bias.unsqueeze(1), x, weight.mT)
            x = x if activate is None else activate(x)
        if self._log_std is None:
            return x
        dist_inputs: Tensor = self._module.with_log_std(x, self._log_std.unsqueeze(1))
        return dist_inputs


def _together(parameters: Sequence[Sequence[nn.Parameter]]) -> list[Tensor]:
    """Move the parameters of several modules into stacked tensors, whose rows they become views of."""
    stacks = [torch.stack([parameter.detach() for parameter in same]) for same in zip(*parameters, strict=True)]
    for row, own in enumerate(parameters):
        for stack, parameter in zip(stacks, own, strict=True):
            parameter.data = stack[row]
    return stacks


def can_stack(modules: Sequence[RLModule]) -> bool:
    """Whether modules are of equal structure, and simple enough to be evaluated as one batch.

    A subclass may do so whose policy is evaluated as `ActorCritic`'s is.
    """
    first = modules[0]
    return all(
        isinstance(module, ActorCritic)
        and type(module) is type(first)
        and type(module).forward_policy is ActorCritic.forward_policy
        and "forward_policy" not in vars(module)  # as it has in half precision
        and module.is_plain
        and type(module.policy) is MLP
        and module.settings == getattr(first, "settings", None)
        and module.observation_space == first.observation_space
        and module.action_space == first.action_space
        for module in modules
    )
