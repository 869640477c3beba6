"""The building blocks of encoders and heads: dense networks and their activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from rl_core.module.initialize import HIDDEN_GAIN, Initializer, initialize
from rl_core.module.settings import Activation

SMALL = 512
"""Up to this many numbers the one call of torch.tanh is faster than three others."""
_PRECISE = (torch.float32, torch.float64)


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


def _relu_backward(grad: Tensor, result: Tensor, *, grad_input: Tensor) -> Tensor:
    """Write the gradient of what went into a relu."""
    found: Tensor = torch.ops.aten.threshold_backward.grad_input(grad, result, 0.0, grad_input=grad_input)
    return found


class _Closed(NamedTuple):
    """An activation whose gradient follows from its result alone, for float32 and float64 on the CPU."""

    in_place: Callable[[Tensor], Tensor] | None
    derive: Callable[..., Tensor] | None
    """`derive(grad, result, grad_input=out)`"""
    in_array: Callable[..., Any] | None
    """Numpy's, in place as `in_array(array, out=array)`; None for none, or if it has none."""


_CLOSED: dict[Activation, _Closed] = {
    # 6 us for 256 x 64 float32, where `tanh` above takes 14.
    "tanh": _Closed(
        lambda x: torch.from_numpy(np.tanh(x.numpy(), out=x.numpy())),
        torch.ops.aten.tanh_backward.grad_input,
        np.tanh,
    ),
    "relu": _Closed(torch.relu_, _relu_backward, lambda array, out: np.maximum(array, 0.0, out=out)),
    "sigmoid": _Closed(torch.sigmoid_, torch.ops.aten.sigmoid_backward.grad_input, None),
    "linear": _Closed(None, None, None),
}


_Arrays = tuple[list[int], torch.dtype | None, list[tuple[Any, np.ndarray, np.ndarray]]]
"""Where the weights are, their type if numpy has it, and of each layer activation, weight `[in, out]` and bias."""


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
        names: list[Activation] = [activation if each else "linear" for each in self.activations]
        self.closed = names if last > 0 and all(name in _CLOSED for name in names) else None
        # numpy has no sigmoid, and for larger products its library takes several threads, whatever torch may have.
        has_arrays = self.closed is not None and "sigmoid" not in names
        self._few = 2**18 // max(map(math.prod, pairwise(self.sizes))) if has_arrays else -1
        self._arrays: _Arrays = [], None, []
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
        if (
            not torch.is_grad_enabled()
            and x.dim() == 2
            and x.shape[0] <= self._few
            and type(x) is Tensor
            and not torch.is_autocast_enabled("cpu")
            and not torch.compiler.is_compiling()
            and not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
            and not torch._C._are_functorch_transforms_active()
        ):  # numpy takes half the time for few numbers; asking `is_left_alone` instead costs 4 % of sampling CartPole
            pointers, dtype, layers = self._arrays
            if pointers != [parameter.data_ptr() for parameter in cast(Any, self._parameters.values())]:
                _, dtype, layers = self._arrays = self._view_weights()
            if x.dtype == dtype:
                array = x.numpy()
                with np.errstate(all="ignore"):  # an env in this process may have made them errors
                    for activate, weight, bias in layers:
                        array = array @ weight
                        array += bias
                        if activate is not None:
                            activate(array, out=array)
                return torch.from_numpy(array)
        functions: Sequence[Any] = self.activations
        parameters: Any = tuple(self._parameters.values())  # weight_0, bias_0, weight_1, ...: the order of registration
        if self.is_left_alone(x):
            if torch.is_grad_enabled():
                rows = x if x.dim() == 2 else x.reshape(-1, x.shape[-1])
                result: Tensor = _Layers.apply(functions, DensePass(self, len(rows), x.dtype), rows, *parameters)
                return result if x.dim() == 2 else result.view(*x.shape[:-1], self.num_features)
            functions = [_CLOSED[name].in_place for name in cast(Any, self.closed)]
        for activate, weight, bias in zip(functions, parameters[::2], parameters[1::2], strict=True):
            x = functional.linear(x, weight, bias)
            x = x if activate is None else activate(x)
        return x

    def _view_weights(self) -> _Arrays:
        """Look at the weights as arrays, if they are such as numpy has."""
        parameters: list[Any] = [*self._parameters.values()]
        pointers = [parameter.data_ptr() for parameter in parameters]
        kinds = {(parameter.dtype, parameter.is_cpu) for parameter in parameters}
        dtype = next((dtype for dtype in _PRECISE if kinds == {(dtype, True)}), None)
        if dtype is None:
            return pointers, None, []
        views = [parameter.detach().numpy() for parameter in parameters]
        functions = [_CLOSED[name].in_array for name in cast(Any, self.closed)]
        return pointers, dtype, [*zip(functions, (weight.T for weight in views[::2]), views[1::2], strict=True)]

    def is_left_alone(self, x: Tensor) -> bool:
        """Whether the layers may be computed by other calls than torch's usual ones.

        Not so with activations that are not `closed`, for numbers in half precision or on other devices, tensors of
        other kinds, under autocast or `torch.func`, when compiled or traced, and where a hook or another class changes
        what calling this module does.
        """
        return not (
            self.closed is None
            or type(x) is not Tensor
            or x.dtype not in _PRECISE
            or not x.is_cpu
            or type(self) is not MLP
            or self._forward_pre_hooks
            or self._forward_hooks
            or self._backward_pre_hooks
            or self._backward_hooks
            or self._compiled_call_impl is not None
            or torch.is_autocast_enabled("cpu")
            or torch.compiler.is_compiling()
            or torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
            or torch._C._are_functorch_transforms_active()
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the views of the weights: a copy has weights of its own."""
        return {**super().__getstate__(), "_arrays": ([], None, [])}  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        """Show the sizes when the module is printed."""
        return " -> ".join(map(str, self.sizes))


class DensePass:
    """What an `MLP` computes of N samples without a graph, and the gradients, in memory of its own.

    At the size of PPO's minibatches (256 samples, two layers of 64), recording a graph and taking the memory for each
    result anew take as long as computing.
    """

    def __init__(self, network: MLP, num_samples: int, dtype: torch.dtype) -> None:
        """Take the memory.

        Args:
            network: With `closed` activations.
            num_samples: N.
            dtype: Of all numbers.
        """
        self.network = network
        closed = [_CLOSED[name] for name in cast(Any, network.closed)]
        self._results = [_memory(num_samples, size, dtype) for size in network.sizes[1:]]
        self._activate: list[Callable[[], Any] | None] = []
        for each, result in zip(closed, self._results, strict=True):
            if each.in_array is not None:
                array = result.numpy()
                self._activate.append(partial(each.in_array, array, out=array))
            else:
                self._activate.append(each.in_place and partial(each.in_place, result))
        self._derive = [each.derive for each in closed]
        self._grads: list[Tensor] = []
        self._turned: list[Tensor] = []
        self._x = torch.empty(0)
        self._pointers: list[int] = []
        self._weights: list[Tensor] = []
        self._layers: list[tuple[Tensor, Tensor, Tensor, Callable[[], Any] | None]] = []
        self.parameters: tuple[Tensor, ...] = ()
        """`weight_0, bias_0, weight_1, ...`, as they were in `forward`."""
        self.serial = 0
        """How often `forward` was called."""
        self.is_open = False
        """Whether the gradients of the last call are still to come."""

    def forward(self, x: Tensor) -> Tensor:
        """Map `[N, D]` to `[N, F]`, valid until the next call."""
        self.serial, self.is_open = self.serial + 1, True
        self._x, self.parameters = x, tuple(cast(Any, self.network._parameters.values()))
        pointers = [parameter.data_ptr() for parameter in self.parameters]
        if pointers != self._pointers:  # they have moved
            self._pointers, self._weights = pointers, [parameter.detach() for parameter in self.parameters]
            turned = (weight.t() for weight in self._weights[::2])
            self._layers = [*zip(turned, self._weights[1::2], self._results, self._activate, strict=True)]
        addmm = torch.addmm
        for turned_weight, bias, result, activate in self._layers:
            x = addmm(bias, x, turned_weight, out=result)
            if activate is not None:
                activate()
        return x

    def gradients(
        self, serial: int, grad: Tensor, into: Sequence[Tensor | None], *, of_input: bool = False
    ) -> Tensor | None:
        """Write the gradients of the parameters, and return the input's if asked.

        Args:
            serial: Of the call of `forward` that gave the result.
            grad: `[N, F]`, of the result.
            into: Where to write that of each parameter; None to leave it out.
            of_input: Whether to go on to the input.

        Raises:
            RuntimeError: what they follow from has been overwritten.
        """
        if serial != self.serial:
            raise RuntimeError("These gradients were there once, and another minibatch has taken their place since.")
        self.is_open = False
        if not self._grads:
            self._grads = [_memory(result.shape[0], result.shape[1], result.dtype) for result in self._results]
            self._turned = [own.t() for own in self._grads]
        results, grads, mm, turned = self._results, self._grads, torch.mm, grad.t()
        for layer in range(len(results) - 1, -1, -1):
            derive, weight_grad, bias_grad = self._derive[layer], into[2 * layer], into[2 * layer + 1]
            if derive is not None:
                derive(grad, results[layer], grad_input=grads[layer])
                grad, turned = grads[layer], self._turned[layer]
            if weight_grad is not None:
                mm(turned, results[layer - 1] if layer else self._x, out=weight_grad)
            if bias_grad is not None:
                torch.sum(grad, 0, out=bias_grad)
            if layer:
                mm(grad, self._weights[2 * layer], out=grads[layer - 1])
                grad, turned = grads[layer - 1], self._turned[layer - 1]
        return grad @ self._weights[0] if of_input else None


def _memory(num_rows: int, num_columns: int, dtype: torch.dtype) -> Tensor:
    """Take memory that can be written to in any mode."""
    if not torch.is_inference_mode_enabled():
        return torch.empty(num_rows, num_columns, dtype=dtype)
    with torch.inference_mode(False):
        return torch.empty(num_rows, num_columns, dtype=dtype)


class _Layers(torch.autograd.Function):
    """Dense layers on `[N, D]` as one node of the graph, for the CPU.

    With a node for each operation, 256 samples and two layers of 64 take a fifth more time.
    """

    @staticmethod
    def forward(ctx: Any, activations: Sequence[Any], run: DensePass, x: Tensor, *parameters: Tensor) -> Tensor:
        """Return the result, and keep what differentiating it takes."""
        ctx.activations, ctx.run = activations, run
        result = run.forward(x).detach()  # another object: the pass holds the first, which must not hold this node
        ctx.save_for_backward(x, *parameters, result)  # so that changes of any of them in place are noticed
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Return the gradients of `x` and the parameters, as far as they are needed."""
        (*inputs, _), (_, _, *needed) = ctx.saved_tensors, ctx.needs_input_grad
        if not torch.is_grad_enabled():
            leaves = zip(inputs[1:], needed[1:], strict=True)
            into = [torch.empty_like(tensor) if is_needed else None for tensor, is_needed in leaves]
            return None, None, ctx.run.gradients(1, grad, into, of_input=needed[0]), *into
        # They are to be differentiated again, so each operation needs its node.
        wanted = [tensor for tensor, is_needed in zip(inputs, needed, strict=True) if is_needed]
        result = inputs[0]
        for activate, weight, bias in zip(ctx.activations, inputs[1::2], inputs[2::2], strict=True):
            result = functional.linear(result, weight, bias)
            result = result if activate is None else activate(result)
        found = iter(torch.autograd.grad(result, wanted, grad.view_as(result), create_graph=True))
        return None, None, *(next(found) if is_needed else None for is_needed in needed)


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
