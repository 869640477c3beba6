"""The default policy: dense networks on vectors, convolutions on images, any action space."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_core._internal.tree import Tree
from rl_core.errors import UnsupportedSpaceError
from rl_core.module.distribution import distribution_for
from rl_core.module.networks import CNN, MLP
from rl_core.module.rl_module import RLModule
from rl_core.module.settings import ModelSettings


class ActorCritic(RLModule):
    """A feed-forward policy and value function, with separate or shared layers, as `ModelSettings` say.

    `trunk` is what both share, or None; `policy` and `value` are the rest. `log_std` is the learned log standard
    deviation of Box actions where it does not depend on the observation, else None.
    """

    trunk: CNN | MLP | None
    policy: MLP | nn.Sequential
    value: MLP | nn.Sequential
    log_std: nn.Parameter | None
    _order: Tensor | None

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        settings: ModelSettings | None = None,
    ) -> None:
        """Build the networks, with weights from torch's global random state.

        Args:
            observation_space: A Box; three axes are an image, anything else is flattened to a vector.
            action_space: See `distribution_for`.
            settings: None takes the defaults.

        Raises:
            UnsupportedSpaceError: one of the spaces cannot be handled.
        """
        super().__init__(observation_space, action_space)
        settings = settings or ModelSettings()
        self.settings = settings
        self.distribution = distribution_for(
            action_space, squash=settings.squash_actions, log_std_bounds=settings.log_std_bounds
        )
        space = _checked(observation_space)
        is_image = len(space.shape) == 3
        # How many axes to join, 1 for none, and whether to convert: both rare, so known before the first step.
        self._num_vector_axes = 1 if is_image else len(space.shape)
        self._convert = not is_image and space.dtype != np.float32
        num_outputs = self._init_log_std(settings)
        shared = is_image if settings.vf_share_layers == "auto" else settings.vf_share_layers
        self.trunk = _body(space, settings) if shared else None
        self._plain = self._num_vector_axes == 1 and not self._convert and self.trunk is None
        self.policy = self._network(space, num_outputs, settings.policy_head_gain)
        self.value = self._network(space, 1, settings.value_head_gain)
        if not settings.free_log_std:
            self._init_log_std_outputs(settings.log_std_init)

    def forward_policy(self, obs: Tensor, state: Tree = ()) -> tuple[Tensor, Tree]:
        """Return the distribution's inputs `[..., P]` and the state as it came."""
        outputs = self.policy(obs if self._plain else self._features(obs))
        return outputs if self.log_std is None else self._dist_inputs(outputs, self.log_std), state

    def forward_value(self, obs: Tensor) -> Tensor:
        """Return the values `[...]`."""
        value: Tensor = self.value(obs if self._plain else self._features(obs))
        return value.squeeze(-1)

    def forward_train(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Return distribution inputs `[..., P]` and values `[...]`, computing a shared trunk once."""
        features = obs if self._plain else self._features(obs)
        outputs = self.policy(features)
        dist_inputs = outputs if self.log_std is None else self._dist_inputs(outputs, self.log_std)
        return dist_inputs, self.value(features).squeeze(-1)

    def _features(self, obs: Tensor) -> Tensor:
        """Bring observations into the form the networks take, through the trunk if there is one."""
        if self._num_vector_axes != 1:
            obs = obs.flatten(-self._num_vector_axes) if self._num_vector_axes else obs.unsqueeze(-1)
        if self._convert:
            obs = obs.to(torch.float32)
        return obs if self.trunk is None else self.trunk(obs)

    def _dist_inputs(self, outputs: Tensor, log_std: Tensor) -> Tensor:
        """Complete the policy's outputs with the log standard deviations that do not depend on the observation."""
        dist_inputs = torch.cat((outputs, log_std.expand(*outputs.shape[:-1], -1)), -1)
        return dist_inputs if self._order is None else dist_inputs.index_select(-1, self._order)

    def _init_log_std(self, settings: ModelSettings) -> int:
        """Make the free log standard deviations, and return how many outputs are left to the policy network."""
        self.log_std, self._order = None, None
        free = self.distribution.log_std_positions if settings.free_log_std else ()
        if not free:
            return self.distribution.num_inputs
        self.log_std = nn.Parameter(torch.full((len(free),), settings.log_std_init))
        others = [position for position in range(self.distribution.num_inputs) if position not in set(free)]
        order = np.argsort([*others, *free])
        if (order != np.arange(len(order))).any():  # a Dict or Tuple, whose parts interleave
            del self._order
            self.register_buffer("_order", torch.from_numpy(order), persistent=False)
        return len(others)

    def _init_log_std_outputs(self, log_std_init: float) -> None:
        """Let the log standard deviations that the policy network puts out begin at `log_std_init`."""
        *_, bias = self.policy.parameters()
        with torch.no_grad():
            bias[list(self.distribution.log_std_positions)] = log_std_init

    def _network(self, space: spaces.Box, num_outputs: int, gain: float) -> MLP | nn.Sequential:
        """Make what turns a shared trunk's features, or observations, into outputs."""
        settings = self.settings
        initializer, activation = settings.initializer, settings.fcnet_activation
        if self.trunk is None and len(space.shape) != 3:
            sizes = (math.prod(space.shape), *settings.fcnet_hiddens, num_outputs)
            return MLP(sizes, activation=activation, initializer=initializer, last_gain=gain)
        body = self.trunk or _body(space, settings)
        head = MLP((body.num_features, num_outputs), initializer=initializer, last_gain=gain)
        return nn.Sequential(body, head) if self.trunk is None else head


def _body(space: spaces.Box, settings: ModelSettings) -> CNN | MLP:
    """Make the layers from observations to features."""
    if len(space.shape) == 3:
        return CNN(
            space,
            filters=settings.conv_filters,
            hiddens=settings.post_fcnet_hiddens,
            activation=settings.conv_activation,
            initializer=settings.initializer,
        )
    sizes = (math.prod(space.shape), *settings.fcnet_hiddens)
    return MLP(sizes, activation=settings.fcnet_activation, activate_last=True, initializer=settings.initializer)


def _checked(space: spaces.Space[Any]) -> spaces.Box:
    """Return an observation space that the networks can take, or say why they cannot."""
    if isinstance(space, spaces.Box) and 0 not in space.shape:
        return space
    raise UnsupportedSpaceError(
        f"ActorCritic: got observations of {space}, expected a Box that is not empty. Use a connector or "
        "gymnasium.wrappers.FlattenObservation to make them one vector, or write an RLModule of your own."
    )
