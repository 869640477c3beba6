"""The building blocks of encoders and heads: dense networks and their activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
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


class MLPVJP(NamedTuple):
    """What an `MLP` computed without a graph, with its vector-Jacobian product."""

    result: Tensor
    """`[N, F]`, of whatever leading axes."""
    parameters: Sequence[Tensor]
    """`weight_0, bias_0, weight_1, ...`"""
    gradients: Callable[..., list[Any]]
    """From the gradient of the result to None, for the input's, and those of the parameters."""


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
        self._is_closed = last > 0 and all(function in _FROM_RESULT for function in self.activations)
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
        known = self.vjp(x) if torch.is_grad_enabled() or x.numel() > SMALL else None  # it pays for many samples only
        if known is not None:
            result = known.result
            if torch.is_grad_enabled():
                result = _Layers.apply(self.activations, known, x, *known.parameters)
            return result if x.dim() == 2 else result.view(*x.shape[:-1], self.num_features)
        parameters: Any = tuple(self._parameters.values())  # weight_0, bias_0, weight_1, ...: the order of registration
        for activate, weight, bias in zip(self.activations, parameters[::2], parameters[1::2], strict=True):
            x = functional.linear(x, weight, bias)
            x = x if activate is None else activate(x)
        return x

    def vjp(self, x: Tensor) -> MLPVJP | None:
        """Compute without a graph, and return what the gradients follow from; None where this has to be left alone.

        That is for tensors of other kinds or on other devices, in mixed precision, under `torch.func`, when compiled or
        traced, and where a hook or another class changes what calling this module does.
        """
        hooks = self._forward_pre_hooks or self._forward_hooks or self._backward_pre_hooks or self._backward_hooks
        if (
            not self._is_closed
            or type(x) is not Tensor
            or not x.is_cpu
            or type(self) is not MLP
            or hooks
            or self._compiled_call_impl is not None
            or torch.is_autocast_enabled("cpu")
            or torch.compiler.is_compiling()
            or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
            or torch._C._are_functorch_transforms_active()
        ):
            return None
        parameters: Any = tuple(self._parameters.values())
        x = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
        steps = [x]
        with torch.no_grad():
            for activate, weight, bias in zip(self.activations, parameters[::2], parameters[1::2], strict=True):
                x = functional.linear(x, weight, bias)
                if activate is tanh and x.dtype == torch.float32:  # 6 us in numpy for 256 x 64, 14 in `tanh` above
                    array = x.numpy()
                    np.tanh(array, out=array)
                elif activate is not None:
                    x = activate(x)
                steps.append(x)
        return MLPVJP(x, parameters, partial(_gradients, self.activations, steps, parameters))

    def extra_repr(self) -> str:
        """Show the sizes when the module is printed."""
        return " -> ".join(map(str, self.sizes))


class _Layers(torch.autograd.Function):
    """Dense layers on `[N, D]` as one node of the graph, for the CPU.

    With a node for each operation, 256 samples and two layers of 64 take a fifth more time.
    """

    @staticmethod
    def forward(ctx: Any, activations: Sequence[Any], known: MLPVJP, x: Tensor, *parameters: Tensor) -> Tensor:
        """Return the result, and keep what differentiating it takes."""
        ctx.activations, ctx.gradients = activations, known.gradients
        result = known.result.detach()  # another object: `gradients` holds the first, which must not hold this node
        ctx.save_for_backward(x, *parameters, result)  # so that changes of any of them in place are noticed
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients of `x` and the parameters, as far as they are needed."""
        (*inputs, _), (_, _, *needed) = ctx.saved_tensors, ctx.needs_input_grad
        if not torch.is_grad_enabled():
            x_grad, *grads = ctx.gradients(grad, needed)
            return None, None, None if x_grad is None else x_grad.view_as(inputs[0]), *grads
        # They are to be differentiated again, so each operation needs its node.
        wanted = [tensor for tensor, is_needed in zip(inputs, needed, strict=True) if is_needed]
        result = inputs[0]
        for activate, weight, bias in zip(ctx.activations, inputs[1::2], inputs[2::2], strict=True):
            result = functional.linear(result, weight, bias)
            result = result if activate is None else activate(result)
        found = iter(torch.autograd.grad(result, wanted, grad.view_as(result), create_graph=True))
        return None, None, *(next(found) if is_needed else None for is_needed in needed)


def _gradients(
    activations: Sequence[Any],
    steps: Sequence[Tensor],
    parameters: Sequence[Tensor],
    grad: Tensor,
    needed: Sequence[bool] | None = None,
) -> list[Any]:
    """Return the gradients of the input `steps[0]` and the parameters as far as `needed`, by default of the latter.

    `steps` also holds what came out of each layer; `grad` is the gradient of the last.
    """
    needed = needed or (False, *(True for _ in parameters))
    grads: list[Tensor | None] = [None] * len(needed)
    for layer in reversed(range(len(activations))):
        derive, x = _FROM_RESULT[activations[layer]], steps[layer]
        grad = grad if derive is None else derive(grad, steps[layer + 1])
        of_weight, of_bias = 2 * layer + 1, 2 * layer + 2
        if needed[of_weight]:  # the narrower factor first: MKL takes up to six times as long for the other order
            narrow = grad.shape[1] <= x.shape[1]
            grads[of_weight] = grad.t() @ x if narrow else (x.t() @ grad).t()
        if needed[of_bias]:
            grads[of_bias] = grad.sum(0)
        if not any(needed[:of_weight]):
            return grads
        grad = grad @ parameters[2 * layer]
    grads[0] = grad
    return grads


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
