"""The building blocks of encoders and heads: dense networks and their activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rl_core.module.initialize import HIDDEN_GAIN, Initializer, initialize
from rl_core.module.settings import Activation

SMALL = 512
"""Up to this many numbers the one call of torch.tanh is faster than three others."""


def tanh(x: Tensor) -> Tensor:
    """Compute the hyperbolic tangent, on the CPU as `1 - 2 sigmoid(-2 x)`.

    PyTorch's vectorised sigmoid is 8 times faster there than its tanh (MKL's; 4.5 and 36 us for 256 x 64 floats, torch
    2.15, one thread). The absolute error is below 3e-7; it is not relative, so tiny inputs lose digits.
    """
    if not x.is_cpu or x.numel() <= SMALL:
        return torch.tanh(x)
    return torch.rsub(torch.sigmoid(x * -2.0), 1.0, alpha=2.0)


class Tanh(nn.Module):
    """The function `tanh` above as a layer, for modules of your own."""

    def forward(self, x: Tensor) -> Tensor:
        """Apply it elementwise."""
        return tanh(x)


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor] | None] = {
    "tanh": tanh,
    "relu": torch.relu_,  # in place: what stands before it, a product or convolution, does not need its result again
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "linear": None,
}


_FROM_RESULT: dict[Any, Callable[[Tensor, Tensor], Tensor] | None] = {
    tanh: torch.ops.aten.tanh_backward.default,
    torch.relu_: lambda grad, result: torch.ops.aten.threshold_backward.default(grad, result, 0.0),
    torch.sigmoid: torch.ops.aten.sigmoid_backward.default,
    None: None,
}
"""The activations whose gradient follows from their result alone, with what computes it."""


class Encoder(nn.Module):
    """A network from observations or other features, with any leading axes, to features `[..., num_features]`."""

    num_features: int
    """F: how many features come out."""


class MLP(Encoder):
    """A stack of dense layers `[..., sizes[0]] -> [..., sizes[-1]]`, activated between layers.

    It owns the weights instead of nesting `nn.Linear`s: at the batch sizes of acting (8 x 4), calling submodules would
    cost a third of the forward pass.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: Activation = "tanh",
        activate_last: bool = False,
        initializer: Initializer = "orthogonal",
        last_initializer: Initializer | None = None,
        last_gain: float = HIDDEN_GAIN,
    ) -> None:
        """Make and initialise the layers.

        Args:
            sizes: Features in, of each hidden layer, and out.
            activation: Function between the layers.
            activate_last: Apply it to the output too.
            initializer: See `initialize`.
            last_initializer: Of the last layer; None takes the same.
            last_gain: Gain of the last layer's orthogonal weights; the others have sqrt(2).
        """
        super().__init__()
        self.sizes = tuple(sizes)
        self.num_features = self.sizes[-1]
        function, last = ACTIVATIONS[activation], len(sizes) - 2
        self.activations = tuple(function if i < last or activate_last else None for i in range(last + 1))
        self._can_be_one_node = last > 0 and all(function in _FROM_RESULT for function in self.activations)
        for index, (num_in, num_out) in enumerate(zip(self.sizes, self.sizes[1:], strict=False)):
            weight, bias = nn.Parameter(torch.empty(num_out, num_in)), nn.Parameter(torch.empty(num_out))
            if index < last:
                initialize(weight, bias, initializer, HIDDEN_GAIN)
            else:
                initialize(weight, bias, last_initializer or initializer, last_gain)
            self.register_parameter(f"weight_{index}", weight)
            self.register_parameter(f"bias_{index}", bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., sizes[0]]` to `[..., sizes[-1]]`."""
        parameters: Any = tuple(self._parameters.values())  # weight_0, bias_0, weight_1, ...: the order of registration
        if (
            self._can_be_one_node
            and torch.is_grad_enabled()
            and x.is_cpu
            and not torch._C._are_functorch_transforms_active()
            and not torch.compiler.is_compiling()
            and not torch.is_autocast_enabled("cpu")
        ):
            rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
            result: Tensor = _Layers.apply(self.activations, rows, *parameters)
            return result if x.dim() == 2 else result.view(*x.shape[:-1], self.num_features)
        for activate, weight, bias in zip(self.activations, parameters[::2], parameters[1::2], strict=True):
            x = functional.linear(x, weight, bias)
            x = x if activate is None else activate(x)
        return x

    def extra_repr(self) -> str:
        """Show the sizes when the module is printed."""
        return " -> ".join(map(str, self.sizes))


class _Layers(torch.autograd.Function):
    """Dense layers on `[N, D]` as one node of the graph, for the CPU.

    With a node for each operation, 256 samples and two layers of 64 take a fifth more time.
    """

    @staticmethod
    def forward(ctx: Any, activations: Sequence[Any], x: Tensor, *parameters: Tensor) -> Tensor:
        """Compute the result, and keep what goes into and comes out of each layer."""
        steps, num_samples = [x], len(x)
        for activate, weight, bias in zip(activations, parameters[::2], parameters[1::2], strict=True):
            if activate is tanh and num_samples * len(bias) > SMALL:
                x = torch.addmm(bias, x, weight.t(), beta=-2.0, alpha=-2.0).sigmoid_()
                x = torch.rsub(x, 1.0, alpha=2.0)
            else:
                x = torch.addmm(bias, x, weight.t())
                x = x if activate is None else (torch.tanh if activate is tanh else activate)(x)
            steps.append(x)
        ctx.activations = activations
        ctx.save_for_backward(*parameters, *steps)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients of `x` and the parameters, as far as they are needed."""
        activations, saved, (_, *needed) = ctx.activations, ctx.saved_tensors, ctx.needs_input_grad
        num_layers = len(activations)
        parameters, steps = saved[: 2 * num_layers], saved[2 * num_layers :]
        grads: list[Tensor | None] = [None] * (1 + 2 * num_layers)  # of x and of the parameters, as in `needed`
        if torch.is_grad_enabled():  # they are to be differentiated again, so each operation needs its node
            wanted = {place: of for place, of in enumerate((steps[0], *parameters)) if needed[place]}
            result = steps[0]
            for activate, weight, bias in zip(activations, parameters[::2], parameters[1::2], strict=True):
                result = functional.linear(result, weight, bias)
                result = result if activate is None else activate(result)
            found = torch.autograd.grad(result, list(wanted.values()), grad, create_graph=True)
            for place, gradient in zip(wanted, found, strict=True):
                grads[place] = gradient
            return None, *grads
        for layer in reversed(range(num_layers)):
            derive, x = _FROM_RESULT[activations[layer]], steps[layer]
            grad = grad if derive is None else derive(grad, steps[layer + 1])
            of_weight, of_bias = 2 * layer + 1, 2 * layer + 2
            if needed[of_weight]:  # the narrower factor first: MKL takes up to six times as long for the other order
                narrow = grad.shape[1] <= x.shape[1]
                grads[of_weight] = grad.t() @ x if narrow else (x.t() @ grad).t()
            if needed[of_bias]:
                grads[of_bias] = grad.sum(0)
            if not any(needed[:of_weight]):
                return None, *grads
            grad = grad @ parameters[2 * layer]
        grads[0] = grad
        return None, *grads


class NormedMLP(Encoder):
    """A stack of dense layers, each followed by a layer normalisation and an activation.

    Source: Ba et al. 2016, Layer Normalization, section 3.
    """

    def __init__(self, sizes: Sequence[int], *, activation: Activation, initializer: Initializer) -> None:
        """Make and initialise the layers; see `MLP`."""
        super().__init__()
        self.num_features = sizes[-1]
        layers = [MLP(pair, initializer=initializer) for pair in pairwise(sizes)]
        self.dense = nn.ModuleList(layers)
        self.norms = nn.ModuleList(nn.LayerNorm(layer.num_features) for layer in layers)
        self._activate = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., sizes[0]]` to `[..., sizes[-1]]`."""
        for dense, norm in zip(self.dense, self.norms, strict=True):
            x = norm(dense(x))
            x = x if self._activate is None else self._activate(x)
        return x
