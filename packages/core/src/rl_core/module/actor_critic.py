"""The default policy: any observation space, any action space, with or without memory."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_core.config.check import Settings
from rl_core.module.distribution import distribution_for
from rl_core.module.encoders import contains_image, dense_network, is_plain_vector, make_encoder, output_layers
from rl_core.module.networks import MLP, DensePass, Encoder
from rl_core.module.recurrent import RecurrentBody
from rl_core.module.rl_module import RLModule, TrainVJP
from rl_core.module.settings import ModelSettings
from rl_core.tree import Tree

_KEPT = 2**16
"""Numbers of a layer's result up to which memory for minibatches is kept: for more, taking it is the smaller part."""


class ActorCritic(RLModule):
    """A policy and value function, with separate or shared layers and with or without memory, as `ModelSettings` say.

    Without memory, `trunk` is the encoder that both share, or None, and `policy` and `value` are the rest. With
    memory, `body` holds encoder and memory, and `policy` and `value` are the heads on its features. `log_std` is the
    learned log standard deviation of Box actions where it does not depend on the observation, else None.
    """

    settings_class: ClassVar[type[Settings] | None] = ModelSettings
    trunk: Encoder | None
    body: RecurrentBody | None
    log_std: nn.Parameter | None
    _order: Tensor | None

    @classmethod
    def wants_flat(cls, observation_space: spaces.Space[Any]) -> bool:
        """Nested observations with an image stay as they are, for an encoder of each part; others become vectors."""
        return not contains_image(observation_space) and super().wants_flat(observation_space)

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        settings: ModelSettings | None = None,
    ) -> None:
        """Build the networks, with weights from torch's global random state.

        Args:
            observation_space: See `make_encoder`.
            action_space: See `distribution_for`.
            settings: None takes the defaults.

        Raises:
            UnsupportedSpaceError: one of the spaces cannot be handled.
        """
        super().__init__(observation_space, action_space)
        self._passes: dict[tuple[int, torch.dtype], tuple[DensePass, DensePass]] = {}
        settings = settings or ModelSettings()
        self.settings = settings
        self.max_seq_len = settings.max_seq_len
        self.distribution = distribution_for(
            action_space, squash=settings.squash_actions, log_std_bounds=settings.log_std_bounds
        )
        num_outputs = self._init_log_std(settings)
        shared = settings.vf_share_layers
        if shared == "auto":
            shared = contains_image(observation_space)
        self.trunk, self.body = None, None
        if settings.has_memory:
            self.body = RecurrentBody(observation_space, settings, shared=shared)
        elif shared:
            self.trunk = make_encoder(observation_space, settings)
        # Whether both networks take the observations as they come: the common case, known before the first step.
        self.is_plain = not (settings.has_memory or shared)
        self.policy = self._network(num_outputs, settings.policy_head_gain)
        self.value = self._network(1, settings.value_head_gain)
        if not settings.free_log_std:
            self._init_log_std_outputs(settings.log_std_init)

    def initial_state(self, batch_size: int) -> Tree:
        """Return the memory's state `[B, ...]` at the start of an episode; `()` without memory."""
        return () if self.body is None else self.body.initial_state(batch_size)

    def forward_policy(self, obs: Tree, state: Tree = ()) -> tuple[Tensor, Tree]:
        """Return the distribution's inputs `[B, P]` (`[..., P]` without memory) and the next state."""
        if self.is_plain:
            outputs = self.policy(obs)
        elif self.body is None:
            outputs = self.policy(self.trunk(obs))  # type: ignore[misc]
        else:
            features, state = self.body.policy_step(obs, state)
            outputs = self.policy(features)
        return outputs if self.log_std is None else self.with_log_std(outputs, self.log_std), state

    def forward_value(self, obs: Tree, state: Tree = ()) -> Tensor:
        """Return the values `[B]` (`[...]` without memory)."""
        if self.is_plain:
            value: Tensor = self.value(obs)
        elif self.body is None:
            value = self.value(self.trunk(obs))  # type: ignore[misc]
        else:
            value = self.value(self.body.value_step(obs, state))
        return value.squeeze(-1)

    def forward_train(self, obs: Tree, state: Tree = ()) -> tuple[Tensor, Tensor]:
        """Return distribution inputs `[..., P]` and values `[...]`, computing shared layers once."""
        if self.is_plain:
            features = value_features = obs
        elif self.body is None:
            features = value_features = self.trunk(obs)  # type: ignore[misc]
        else:
            features, value_features = self.body.sequence(obs, state)
        outputs = self.policy(features)
        dist_inputs = outputs if self.log_std is None else self.with_log_std(outputs, self.log_std)
        return dist_inputs, self.value(value_features).squeeze(-1)

    def forward_train_vjp(self, obs: Tree) -> TrainVJP | None:
        """Give the gradients of two plain dense networks on a vector; see `RLModule`."""
        if not (self.is_plain and self._order is None and type(self).forward_train is ActorCritic.forward_train):
            return None
        policy, value, log_std = self.policy, self.value, self.log_std
        if not (isinstance(policy, MLP) and isinstance(value, MLP) and isinstance(obs, Tensor) and obs.dim() == 2):
            return None
        if not (policy.is_left_alone(obs) and value.is_left_alone(obs)):
            return None
        place = len(obs), obs.dtype
        own, other = self._passes.get(place, (None, None))
        if own is None or other is None or own.is_open or own.network is not policy or other.network is not value:
            own, other = DensePass(policy, *place), DensePass(value, *place)
            if len(obs) * max(policy.sizes + value.sizes) <= _KEPT:
                self._passes = {**dict([*self._passes.items()][-1:]), place: (own, other)}  # minibatches have two sizes
        with torch.inference_mode():
            outputs, values = own.forward(obs), other.forward(obs)
            dist_inputs = outputs if log_std is None else self.with_log_std(outputs, log_std)
        serial = own.serial  # of both
        size, num_own, num_both = outputs.shape[1], len(own.parameters), len(own.parameters) + len(other.parameters)
        return TrainVJP(
            dist_inputs,
            values.squeeze(-1),
            [*own.parameters, *other.parameters, *([] if log_std is None else [log_std])],
            lambda dist_grad, value_grad, into: (
                own.gradients(serial, dist_grad[:, :size], into[:num_own]),
                other.gradients(serial, value_grad.unsqueeze(-1), into[num_own:num_both]),
                *(torch.sum(dist_grad[:, size:], 0, out=log_std_grad) for log_std_grad in into[num_both:]),
            ),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out memory for results: a copy takes its own."""
        return {**super().__getstate__(), "_passes": {}}  # type: ignore[no-untyped-call]

    def with_log_std(self, outputs: Tensor, log_std: Tensor) -> Tensor:
        """Complete the policy's outputs with the log standard deviations that do not depend on the observation."""
        dist_inputs = torch.cat((outputs, log_std.expand(*outputs.shape[:-1], log_std.shape[-1])), -1)
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

    def _network(self, num_outputs: int, gain: float) -> nn.Module:
        """Make what turns the features of `trunk` or `body`, or observations, into outputs."""
        settings, space = self.settings, self.observation_space
        base = self.trunk or self.body
        if base is None and is_plain_vector(space):
            return dense_network(space.shape[0], num_outputs, settings, gain=gain)  # type: ignore[index]
        encoder = base or make_encoder(space, settings)
        outputs = output_layers(encoder.num_features, num_outputs, settings, gain=gain)
        return nn.Sequential(encoder, outputs) if base is None else outputs
