"""Networks as RLlib builds them, for what is not read into an `ActorCritic`: convolutions, norms, dueling values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_core.errors import ConfigError
from rl_core.module.distribution import distribution_for
from rl_core.module.images import same_padding
from rl_core.module.rl_module import RLModule
from rl_core.tree import Tree

Layer = Sequence[Any]
"""`("dense", units, activation, has_norm)`, `("convolution", channels, (kernel, kernel), (stride, stride), padding,
activation)` with padding `same` or `valid`, or `("flatten", "channels_first" or "channels_last")`."""

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "leaky_relu": nn.LeakyReLU,
    "sigmoid": nn.Sigmoid,
}
_NORM_EPSILON = 1e-3
"""RLlib's, after TensorFlow's default."""


class RllibNetwork(RLModule):
    """A policy and value function of the structure that RLlib gives them.

    Observations go through `layers`, then through an LSTM if there is a `cell_size`, to the policy's head; the value's
    head follows either the same layers or its own `value_layers`, with their own LSTM.
    """

    def __init__(
        self,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        *,
        layers: Sequence[Layer],
        value_layers: Sequence[Layer] | None = None,
        cell_size: int | None = None,
        max_seq_len: int = 20,
        policy_hiddens: Sequence[Layer] = (),
        value_hiddens: Sequence[Layer] = (),
        free_log_std: bool = False,
        log_std_limit: float = 20.0,
        dueling: bool | None = None,
    ) -> None:
        """Make the layers, with PyTorch's initial weights.

        Args:
            observation_space: A Box; three axes are an image with its channels last.
            action_space: See `distribution_for`.
            layers: From observations to features; see `Layer`.
            value_layers: The value's own; None shares.
            cell_size: Units of the LSTM after the layers; None for none.
            max_seq_len: L of the segments that the LSTM is trained on.
            policy_hiddens: Layers between features and the policy's outputs.
            value_hiddens: Layers between features and the value.
            free_log_std: The log standard deviations are parameters, not outputs.
            log_std_limit: Log standard deviations are kept within plus and minus this.
            dueling: The outputs are action values, with (True) or without (False) a dueling head; None: they are not.
        """
        super().__init__(observation_space, action_space)
        self.distribution = distribution_for(action_space, log_std_bounds=(-log_std_limit, log_std_limit))
        shape = tuple(observation_space.shape or ())
        self.encoder = _Encoder(layers, shape, cell_size)
        self.value_encoder = None if value_layers is None else _Encoder(value_layers, shape, cell_size)
        num_outputs = self.distribution.num_inputs // (2 if free_log_std else 1)
        self.log_std = nn.Parameter(torch.zeros(num_outputs)) if free_log_std else None
        self.policy_head = _head(policy_hiddens, self.encoder.num_features, num_outputs)
        num_features = (self.value_encoder or self.encoder).num_features
        self.value_head = None if dueling is False else _head(value_hiddens, num_features, 1)
        self.dueling = dueling
        self.max_seq_len = max_seq_len

    def initial_state(self, batch_size: int) -> Tree:
        """Return zeros `[B, cell]`: (hidden, cell), or a pair of those if the value has its own LSTM."""
        state = self.encoder.initial_state(batch_size)
        return state if state == () or self.value_encoder is None else (state, self.encoder.initial_state(batch_size))

    def forward_policy(self, obs: Tensor, state: Tree = ()) -> tuple[Tensor, Tree]:
        """Return the distribution's inputs `[B, P]` and the next state, that of the value's LSTM included."""
        own, other = self._split(state)
        features, own = self.encoder(obs, own, one_step=True)
        if self.value_encoder is not None and state:
            _, other = self.value_encoder(obs, other, one_step=True)
            return self._dist_inputs(features), (own, other)
        return self._dist_inputs(features), own

    def forward_value(self, obs: Tensor, state: Tree = ()) -> Tensor:
        """Return the values `[B]`."""
        own, other = self._split(state)
        encoder, before = (self.encoder, own) if self.value_encoder is None else (self.value_encoder, other)
        return self._value(encoder(obs, before, one_step=True)[0])

    def forward_train(self, obs: Tensor, state: Tree = ()) -> tuple[Tensor, Tensor]:
        """Return distribution inputs `[N, P]` and values `[N]`; with an LSTM `[L, S, P]` and `[L, S]`."""
        own, other = self._split(state)
        features, _ = self.encoder(obs, own, one_step=False)
        value_features = features
        if self.value_encoder is not None:
            value_features, _ = self.value_encoder(obs, other, one_step=False)
        return self._dist_inputs(features), self._value(value_features)

    def _split(self, state: Tree) -> tuple[Tree, Tree]:
        """Return the states of the policy's and of the value's LSTM."""
        return state if state and self.value_encoder is not None else (state, ())

    def _dist_inputs(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.policy_head(features)
        if self.dueling:  # Wang et al. 2016, equation 9
            assert self.value_head is not None
            outputs = self.value_head(features) + outputs - outputs.mean(-1, keepdim=True)
        return outputs if self.log_std is None else torch.cat((outputs, self.log_std.expand_as(outputs)), -1)

    def _value(self, features: Tensor) -> Tensor:
        if self.dueling is not None:
            return self._dist_inputs(features).amax(-1)  # the value of acting greedily
        assert self.value_head is not None
        value: Tensor = self.value_head(features)
        return value.squeeze(-1)


class _Encoder(nn.Module):
    """Layers on single observations, and perhaps an LSTM over time."""

    layers: nn.Sequential
    lstm: nn.LSTM | None

    def __init__(self, layers: Sequence[Layer], shape: tuple[int, ...], cell_size: int | None) -> None:
        super().__init__()
        self.obs_shape = shape
        self.is_image = any(kind == "convolution" for kind, *_ in layers)
        before = (shape[2], *shape[:2]) if self.is_image else (math.prod(shape),)
        self.layers, (num_features,) = _stack(layers, before)
        self.lstm = None if cell_size is None else nn.LSTM(num_features, cell_size)
        self.num_features = cell_size or num_features

    def initial_state(self, batch_size: int) -> Tree:
        """Return (hidden, cell) `[B, cell]` of zeros, or `()`."""
        if self.lstm is None:
            return ()
        zeros = next(self.lstm.parameters()).new_zeros(batch_size, self.lstm.hidden_size)
        return zeros, zeros.clone()

    def forward(self, obs: Tensor, state: Tree, one_step: bool) -> tuple[Tensor, Tree]:
        """Map observations with any leading axes (with an LSTM `[B]` or `[L, S]`) to features and the next state."""
        leading = obs.shape[: obs.dim() - len(self.obs_shape)]
        rows = obs.to(torch.float32).reshape(-1, *self.obs_shape)
        rows = rows.permute(0, 3, 1, 2) if self.is_image else rows.flatten(1)
        features = self.layers(rows)
        if self.lstm is None:
            return features.reshape(*leading, -1), ()
        steps = features.reshape(*((1, *leading) if one_step else leading), -1)
        steps, (hidden, cell) = self.lstm(steps, tuple(part.unsqueeze(0).contiguous() for part in state))
        return (steps[0] if one_step else steps), (hidden[0], cell[0])


class _ChannelsLast(nn.Module):
    """Flatten `[N, C, H, W]` in the order height, width, channel."""

    def forward(self, x: Tensor) -> Tensor:
        """Return `[N, H W C]`."""
        return x.permute(0, 2, 3, 1).flatten(1)


def _head(hiddens: Sequence[Layer], num_features: int, num_outputs: int) -> nn.Sequential:
    return _stack([*hiddens, ("dense", num_outputs, "linear", False)], (num_features,))[0]


def _stack(layers: Sequence[Layer], shape: tuple[int, ...]) -> tuple[nn.Sequential, tuple[int, ...]]:
    """Make layers for inputs of a shape (channels first), and return the shape of their outputs too."""
    parts: list[nn.Module] = []
    for kind, *settings in layers:
        if kind == "dense":
            units, activation, has_norm = settings
            parts.append(nn.Linear(shape[0], units))
            parts += [nn.LayerNorm(units, eps=_NORM_EPSILON)] if has_norm else []
            shape = (units,)
        elif kind == "convolution":
            channels, kernel, stride, padding, activation = settings
            pads = [same_padding(*sizes) for sizes in zip(shape[1:], kernel, stride, strict=True)]
            pads = pads if padding == "same" else [(0, 0), (0, 0)]
            parts += [nn.ZeroPad2d((*pads[1], *pads[0])), nn.Conv2d(shape[0], channels, tuple(kernel), tuple(stride))]
            sizes = zip(shape[1:], pads, kernel, stride, strict=True)
            shape = (channels, *((size + sum(pad) - width) // step + 1 for size, pad, width, step in sizes))
        else:
            parts.append(nn.Flatten() if settings == ["channels_first"] else _ChannelsLast())
            activation, shape = "linear", (math.prod(shape),)
        if min(shape) < 1:
            raise ConfigError(f"The layer {(kind, *settings)} leaves nothing of the image. Give smaller kernels.")
        parts += [] if activation == "linear" else [_ACTIVATIONS[activation]()]
    return nn.Sequential(*parts), shape
