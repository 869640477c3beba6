"""Several dense networks of equal shape, evaluated as one: the critics of off-policy algorithms."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from rl_core.module.initialize import HIDDEN_GAIN, Initializer, initialize
from rl_core.module.networks import ACTIVATIONS
from rl_core.module.settings import Activation


class EnsembleMLP(nn.Module):
    """C dense networks with weights of their own, each layer one batched product."""

    def __init__(
        self, sizes: Sequence[int], num_members: int, *, activation: Activation, initializer: Initializer
    ) -> None:
        """Make and initialise the layers.

        Args:
            sizes: Features in, of each hidden layer, and out.
            num_members: C.
            activation: Between the layers.
            initializer: See `initialize`; the last layer has gain 1.
        """
        super().__init__()
        self.num_members = num_members
        self._activate = ACTIVATIONS[activation]
        for index, (num_in, num_out) in enumerate(pairwise(sizes)):
            weight = nn.Parameter(torch.empty(num_members, num_out, num_in))
            bias = nn.Parameter(torch.empty(num_members, 1, num_out))
            gain = HIDDEN_GAIN if index < len(sizes) - 2 else 1.0
            for member in range(num_members):
                initialize(weight.data[member], bias.data[member, 0], initializer, gain)
            self.register_parameter(f"weight_{index}", weight)
            self.register_parameter(f"bias_{index}", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., sizes[0]]`, the same for all, to `[C, ..., sizes[-1]]`."""
        leading = x.shape[:-1]
        x = x.reshape(-1, x.shape[-1]).expand(self.num_members, -1, -1)
        parameters = tuple(self._parameters.values())  # weight_0, bias_0, weight_1, ...: the order of registration
        last = len(parameters) - 2
        for index in range(0, len(parameters), 2):
            weight, bias = parameters[index], parameters[index + 1]
            assert weight is not None
            assert bias is not None
            x = torch.baddbmm(bias, x, weight.mT)
            if index < last and self._activate is not None:
                x = self._activate(x)
        return x.view(self.num_members, *leading, -1)
