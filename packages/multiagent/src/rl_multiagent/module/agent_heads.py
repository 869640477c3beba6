"""One encoder that all agents share, and heads of their own."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_core.config.check import Settings
from rl_core.env.spaces import describe
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.module.encoders import make_encoder, output_layers
from rl_core.module.rl_module import RLModule
from rl_core.module.settings import ModelSettings
from rl_core.records import Tree
from rl_multiagent.env.identify import AGENT, OBSERVATIONS


class AgentHeads(RLModule):
    """A policy and value function for each agent on the features of one encoder, trained by one optimizer.

    Agents see `Dict(agent, observations)`, see `IdentifiedAgents`. The encoder is as `ModelSettings` say for the
    observations, and `head_fcnet_hiddens` are layers of each agent's own.
    """

    flatten_observations: ClassVar[bool] = False
    settings_class: ClassVar[type[Settings] | None] = ModelSettings

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        settings: ModelSettings | None = None,
    ) -> None:
        """Build the networks, with weights from torch's global random state.

        Args:
            observation_space: Dict of `agent`, Discrete, and `observations`, anything that `make_encoder` takes.
            action_space: See `distribution_for`.
            settings: None takes the defaults.

        Raises:
            UnsupportedSpaceError: the observations do not say which agent it is.
            ConfigError: the settings ask for a memory.
        """
        super().__init__(observation_space, action_space)
        settings = settings or ModelSettings()
        if settings.has_memory:
            raise ConfigError("use_lstm, use_gru, use_attention: got True, expected False: AgentHeads has no memory.")
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {}
        who = parts.get(AGENT)
        if set(parts) != {AGENT, OBSERVATIONS} or not isinstance(who, spaces.Discrete):
            raise UnsupportedSpaceError(
                f"AgentHeads: got observations {describe(observation_space)}, expected a Dict of {AGENT!r}, Discrete, "
                f"and {OBSERVATIONS!r}. Put IdentifiedAgents around the env, and let connectors leave them apart."
            )
        self.encoder = make_encoder(parts[OBSERVATIONS], settings)
        sizes = (self.distribution.num_inputs, 1)
        self.policies, self.values = (
            nn.ModuleList(
                output_layers(self.encoder.num_features, size, settings, gain=gain) for _ in range(int(who.n))
            )
            for size, gain in zip(sizes, (settings.policy_head_gain, settings.value_head_gain), strict=True)
        )

    def forward_policy(self, obs: Tree, state: Tree) -> tuple[Tensor, Tree]:
        """Return the distribution's inputs `[..., P]`."""
        return self._choose(self.policies, self.encoder(obs[OBSERVATIONS]), obs[AGENT]), state

    def forward_value(self, obs: Tree, state: Tree = ()) -> Tensor:
        """Return the values `[...]`."""
        return self._choose(self.values, self.encoder(obs[OBSERVATIONS]), obs[AGENT]).squeeze(-1)

    def forward_train(self, obs: Tree, state: Tree = ()) -> tuple[Tensor, Tensor]:
        """Return both, with features computed once."""
        features = self.encoder(obs[OBSERVATIONS])
        values = self._choose(self.values, features, obs[AGENT]).squeeze(-1)
        return self._choose(self.policies, features, obs[AGENT]), values

    @staticmethod
    def _choose(heads: nn.ModuleList, features: Tensor, who: Tensor) -> Tensor:
        """Evaluate all heads, and take for each row that of its agent."""
        outputs = torch.stack([head(features) for head in heads], -2)  # [..., A, P]
        index = who.unsqueeze(-1).unsqueeze(-1).expand(*who.shape, 1, outputs.shape[-1])
        return outputs.gather(-2, index.long()).squeeze(-2)
