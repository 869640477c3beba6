"""Memories between encoder and heads: LSTM, gated recurrent unit, and attention over the last steps.

A memory's state is a value that is passed in and out, never kept. `step` is for acting, one env step at a time;
`sequence` is for learning and gives the same numbers for a whole segment at once.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

from rl_core.module.initialize import Initializer, initialize, initializer_for
from rl_core.module.networks import MLP
from rl_core.module.settings import ModelSettings
from rl_core.tree import Tree


class Memory(nn.Module, ABC):
    """Turns features into features that depend on the steps before."""

    num_features: int
    """H: how many features come out."""

    @abstractmethod
    def initial_state(self, batch_size: int) -> Tree:
        """Return the state `[B, ...]` at the start of an episode: zeros."""

    @abstractmethod
    def step(self, features: Tensor, state: Tree) -> tuple[Tensor, Tree]:
        """Take one step: features `[B, F]` and the state before, to `[B, H]` and the state after."""

    @abstractmethod
    def sequence(self, features: Tensor, state: Tree) -> Tensor:
        """Take L steps of S segments: `[L, S, F]` and the state `[S, ...]` before the first, to `[L, S, H]`."""


def make_memory(num_features: int, settings: ModelSettings) -> Memory | None:
    """Make the memory that the settings ask for, with weights from torch's global random state.

    Args:
        num_features: Of the encoder.
        settings: `use_lstm`, `use_gru` or `use_attention`, and their sizes.

    Returns:
        The memory, or None if the settings ask for none.
    """
    if settings.use_attention:
        return WindowedAttention(num_features, settings)
    initializer = initializer_for(settings, "lstm")
    if settings.use_lstm:
        return LSTM(num_features, settings.lstm_cell_size, initializer)
    return GRU(num_features, settings.lstm_cell_size, initializer) if settings.use_gru else None


class _Gated(Memory):
    """The parameters of an LSTM or gated recurrent unit, named and laid out as in `nn.LSTM` and `nn.GRU`."""

    num_gates: int

    def __init__(self, num_inputs: int, num_units: int, initializer: Initializer) -> None:
        super().__init__()
        self.num_features = num_units
        rows = self.num_gates * num_units
        self.weight_ih, self.bias_ih = nn.Parameter(torch.empty(rows, num_inputs)), nn.Parameter(torch.empty(rows))
        self.weight_hh, self.bias_hh = nn.Parameter(torch.empty(rows, num_units)), nn.Parameter(torch.empty(rows))
        for weight, bias in ((self.weight_ih, self.bias_ih), (self.weight_hh, self.bias_hh)):
            # Gain 1: Huang et al. 2022, LSTM detail 2. PyTorch scales all of it by the number of units.
            initialize(weight, bias, initializer, 1.0, fan_in=num_units)

    def _weights(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh


class LSTM(_Gated):
    """Long short-term memory; the state is (hidden, cell), both `[B, H]`.

    Source: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000; agrees with `nn.LSTM`.
    """

    num_gates = 4

    def initial_state(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Return zeros."""
        zeros = self.bias_ih.new_zeros(batch_size, self.num_features)
        return zeros, zeros.clone()

    def step(self, features: Tensor, state: Tree) -> tuple[Tensor, Tree]:
        """Take one step; the output is the hidden state."""
        # One cell: `nn.LSTM` takes twice the time for a sequence of one.
        state = torch.lstm_cell(features, state, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return state[0], state

    def sequence(self, features: Tensor, state: Tree) -> Tensor:
        """Take all steps in one fused operation."""
        before = [leaf.unsqueeze(0) for leaf in state]
        return torch.lstm(features, before, self._weights(), True, 1, 0.0, self.training, False, False)[0]


class GRU(_Gated):
    """Gated recurrent unit; the state is (hidden,) with `[B, H]`.

    Source: Cho et al. 2014; agrees with `nn.GRU`.
    """

    num_gates = 3

    def initial_state(self, batch_size: int) -> tuple[Tensor]:
        """Return zeros."""
        return (self.bias_ih.new_zeros(batch_size, self.num_features),)

    def step(self, features: Tensor, state: Tree) -> tuple[Tensor, Tree]:
        """Take one step; the output is the hidden state."""
        hidden = torch.gru_cell(features, state[0], self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return hidden, (hidden,)

    def sequence(self, features: Tensor, state: Tree) -> Tensor:
        """Take all steps in one operation."""
        before = state[0].unsqueeze(0)
        return torch.gru(features, before, self._weights(), True, 1, 0.0, self.training, False, False)[0]


class WindowedAttention(Memory):
    """Layers of attention in which each step looks on itself and the W steps before it.

    Each layer keeps its last W inputs, so that with several layers an output depends on more than W steps. The state is
    (inputs `[B, layers, W, D]`, oldest first, and how many of them are of this episode `[B]`, as float32).

    Source: Vaswani et al. 2017 with the normalisation before each part (Parisotto et al. 2020), the memory of Dai et
    al. 2019, and a learned bias per distance as in Raffel et al. 2020, section 2.1.
    """

    def __init__(self, num_inputs: int, settings: ModelSettings) -> None:
        """Make the layers.

        Args:
            num_inputs: F, features of the encoder.
            settings: The `attention` ones.
        """
        super().__init__()
        self.num_features, self.window = settings.attention_dim, settings.attention_window
        initializer = settings.initializer
        self.embed = MLP((num_inputs, self.num_features), initializer=initializer)
        self.layers = nn.ModuleList(
            _AttentionLayer(self.num_features, settings.attention_num_heads, self.window, initializer)
            for _ in range(settings.attention_num_layers)
        )

    def initial_state(self, batch_size: int) -> tuple[Tensor, Tensor]:
        """Return an empty window."""
        parameter = next(self.parameters())
        window = parameter.new_zeros(batch_size, len(self.layers), self.window, self.num_features)
        return window, parameter.new_zeros(batch_size)

    def step(self, features: Tensor, state: Tree) -> tuple[Tensor, Tree]:
        """Take one step, which moves the window on by one."""
        outputs, inputs = self._attend(features.unsqueeze(0), state)
        window = torch.cat((state[0], inputs), 2)[:, :, 1:]
        return outputs.squeeze(0), (window, (state[1] + 1).clamp(max=self.window))

    def sequence(self, features: Tensor, state: Tree) -> Tensor:
        """Take all steps, with one masked attention per layer."""
        return self._attend(features, state)[0]

    def _attend(self, features: Tensor, state: Tree) -> tuple[Tensor, Tensor]:
        """Return the outputs `[L, S, D]` and the inputs of all layers `[S, layers, L, D]`."""
        window, count = state
        x = self.embed(features).transpose(0, 1)  # [S, L, D]
        num_steps = x.shape[1]
        query = torch.arange(num_steps, device=x.device).unsqueeze(1) + self.window
        key = torch.arange(self.window + num_steps, device=x.device)
        distance = query - key  # [L, W + L]
        near = (distance >= 0) & (distance <= self.window)
        seen = near & (key >= self.window - count[:, None]).unsqueeze(1)  # [S, L, W + L]
        distance = distance.clamp(0, self.window)
        inputs = []
        for index, layer in enumerate(self.layers):
            inputs.append(x)
            x = layer(x, window[:, index], seen, distance)
        return x.transpose(0, 1), torch.stack(inputs, 1)


class _AttentionLayer(nn.Module):
    """Attention and two dense layers, each added to its input after a normalisation."""

    def __init__(self, size: int, num_heads: int, window: int, initializer: Initializer) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm, self.dense_norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.query = MLP((size, size), initializer=initializer, last_gain=1.0)
        self.key_value = MLP((size, 2 * size), initializer=initializer, last_gain=1.0)
        self.output = MLP((size, size), initializer=initializer, last_gain=1.0)
        self.dense = MLP((size, 2 * size, size), activation="relu", initializer=initializer, last_gain=1.0)
        self.distance_bias = nn.Parameter(torch.zeros(num_heads, window + 1))

    def forward(self, x: Tensor, before: Tensor, seen: Tensor, distance: Tensor) -> Tensor:
        """Attend from `x` `[S, L, D]` to `before` `[S, W, D]` and itself, where `seen` `[S, L, W + L]` allows it."""
        everything = self.attention_norm(torch.cat((before, x), 1))
        query = self._heads(self.query(everything[:, before.shape[1] :]))
        key, value = map(self._heads, self.key_value(everything).chunk(2, -1))  # [S, heads, W + L, D / heads]
        score = query @ key.transpose(-1, -2) / math.sqrt(key.shape[-1]) + self.distance_bias[:, distance]
        weight = functional.softmax(score.masked_fill(~seen.unsqueeze(1), -math.inf), -1)
        x = x + self.output((weight @ value).transpose(1, 2).flatten(2))
        result: Tensor = x + self.dense(self.dense_norm(x))
        return result

    def _heads(self, x: Tensor) -> Tensor:
        """Split `[S, K, D]` into `[S, heads, K, D / heads]`."""
        return x.reshape(*x.shape[:-1], self.num_heads, -1).transpose(1, 2)
