"""An opponent that plays any legal action."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor

from rl_core import Policy, RLModule
from rl_core.connect.required import ActionToEnv
from rl_core.errors import UnsupportedSpaceError
from rl_core.module import mask_logits
from rl_core.module.spec import ModuleSpec
from rl_core.records import Tree
from rl_multiagent.env.agent_env import AgentID, MultiAgentEnv


class UniformRandom(RLModule):
    """All actions are equally likely, or all that `action_mask` allows where observations have one.

    It has no parameters and never learns: `PolicySpec(module_class=UniformRandom)`.
    """

    flatten_observations: ClassVar[bool] = False
    always_explores: ClassVar[bool] = True

    def __init__(
        self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any], **model_config: Any
    ) -> None:
        """Look for a mask.

        Args:
            observation_space: Any; a Dict may have `action_mask` `[n]`.
            action_space: Discrete.
            **model_config: Settings for other policies of the run, which mean nothing here.

        Raises:
            UnsupportedSpaceError: actions are not Discrete.
        """
        super().__init__(observation_space, action_space)
        if not isinstance(action_space, spaces.Discrete):
            raise UnsupportedSpaceError(f"UniformRandom: got actions of {action_space}, expected Discrete.")
        self._has_mask = isinstance(observation_space, spaces.Dict) and "action_mask" in observation_space.spaces

    def forward_policy(self, obs: Tree, state: Tree = ()) -> tuple[Tensor, Tree]:
        """Return equal logits `[..., n]`, masked."""
        value = self.forward_value(obs)
        logits = value.new_zeros((*value.shape, self.distribution.num_inputs))
        return (mask_logits(logits, obs["action_mask"]) if self._has_mask else logits), state

    def forward_value(self, obs: Tree, state: Tree = ()) -> Tensor:
        """Return zeros `[...]`."""
        leaf, space = obs, self.observation_space
        while isinstance(space, spaces.Dict | spaces.Tuple):  # any leaf shows the leading axes
            parts: Any = space.spaces
            key = next(iter(parts)) if isinstance(parts, dict) else 0
            leaf, space = leaf[key], parts[key]
        return torch.zeros(leaf.shape[: leaf.ndim - len(space.shape or ())], device=leaf.device)


def random_policy(env: MultiAgentEnv, agent: AgentID, *, seed: int = 0) -> Policy:
    """Make a policy that plays any legal action of an agent.

    Args:
        env: Whose spaces it is for.
        agent: One of its agents.
        seed: Of what it draws.
    """
    return Policy(
        ModuleSpec(module_class=UniformRandom, model_config={}),
        env.observation_spaces[agent],
        env.action_spaces[agent],
        action_connectors=[ActionToEnv()],
        seed=seed,
    )
