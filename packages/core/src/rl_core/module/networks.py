"""The building blocks of encoders and heads: dense and convolutional networks, and their activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from rl_core.errors import UnsupportedSpaceError
from rl_core.module.initialize import HIDDEN_GAIN, Initializer, initialize
from rl_core.module.settings import Activation, Filter

SMALLEST_SIDE = 5
"""Of an image, in pixels, for the default convolutions."""
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


class _CpuTanh(torch.autograd.Function):
    """One node and one saved tensor in the graph instead of three, which halves the time of the backward pass.

    Without `setup_context`, which costs 10 us a call, it does not know torch.func: `MLP` goes around it there.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """Compute `1 - 2 sigmoid(-2 x)`."""
        result = torch.rsub((x * -2.0).sigmoid_(), 1.0, alpha=2.0)
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        """Compute `grad (1 - tanh^2)`, in one operation that can itself be differentiated."""
        grad: Tensor = torch.ops.aten.tanh_backward.default(grad_output, *ctx.saved_tensors)
        return grad


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
        parameters = tuple(self._parameters.values())  # weight_0, bias_0, weight_1, ...: the order of registration
        for weight, bias, activate in zip(parameters[::2], parameters[1::2], self.activations, strict=True):
            x = functional.linear(x, weight, bias)  # type: ignore[arg-type]
            if activate is tanh and x.requires_grad and x.is_cpu and not torch._C._are_functorch_transforms_active():
                x = _CpuTanh.apply(x)
            elif activate is not None:
                x = activate(x)
        return x

    def extra_repr(self) -> str:
        """Show the sizes when the module is printed."""
        return " -> ".join(map(str, self.sizes))


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


class CNN(Encoder):
    """Convolutions and dense layers on images: `[..., H, W, C]` or `[..., C, H, W]` to features `[..., F]`.

    The channels are the first axis if it is shorter than the last, else the last one. uint8 images are divided by 255,
    float images are taken as they are.
    """

    def __init__(
        self,
        space: spaces.Box,
        *,
        filters: Sequence[Filter] | None = None,
        hiddens: Sequence[int] | None = None,
        activation: Activation = "relu",
        initializer: Initializer = "orthogonal",
        use_layernorm: bool = False,
        dtype: Literal["float32", "bfloat16"] = "float32",
    ) -> None:
        """Make and initialise the layers.

        Args:
            space: Box of three axes.
            filters: Channels, kernel, stride and perhaps padding of each convolution; None chooses by
                `default_filters`.
            hiddens: Units of the dense layers after the convolutions; None chooses by `default_filters`.
            activation: Function after every layer.
            initializer: See `initialize`.
            use_layernorm: Normalise over the channels after each convolution.
            dtype: What to compute in; the weights and the features are float32 in any case.

        Raises:
            UnsupportedSpaceError: the image is too small for the convolutions.
        """
        super().__init__()
        self.channels_first, channels, height, width = image_shape(space)
        if filters is None or hiddens is None:
            default = default_filters(min(height, width), space)
            filters, hiddens = filters or default[0], default[1] if hiddens is None else hiddens
        self._activate = ACTIVATIONS[activation]
        self.in_bfloat16 = dtype == "bfloat16"
        self.convolutions = nn.ModuleList()
        self._pads: list[list[int]] = []
        sides = (height, width)
        for num_filters, kernel, stride, *padding in filters:
            kernels, strides = _both(kernel), _both(stride)
            pads = [(0, 0), (0, 0)]
            if padding == ["same"]:
                pads = [same_padding(*sizes) for sizes in zip(sides, kernels, strides, strict=True)]
            sides = (sides[0] + sum(pads[0]), sides[1] + sum(pads[1]))
            if sides[0] < kernels[0] or sides[1] < kernels[1]:
                raise UnsupportedSpaceError(
                    f"CNN: images of {space} shrink to {sides[0]} x {sides[1]} pixels before a convolution with kernel "
                    f"{kernel}. Give smaller kernels or strides in conv_filters={tuple(filters)}, or larger images."
                )
            layer = nn.Conv2d(channels, num_filters, kernels, strides)
            initialize(layer.weight, layer.bias, initializer, HIDDEN_GAIN)  # type: ignore[arg-type]
            self.convolutions.append(layer)
            self._pads.append([*pads[1], *pads[0]] if padding == ["same"] else [])  # as torch has it: width first
            channels = num_filters
            sides = ((sides[0] - kernels[0]) // strides[0] + 1, (sides[1] - kernels[1]) // strides[1] + 1)
        norms = [ChannelNorm(num_filters) for num_filters, *_ in filters] if use_layernorm else []
        self.norms = nn.ModuleList(norms)
        sizes = (channels * sides[0] * sides[1], *hiddens)
        self.dense = MLP(sizes, activation=activation, activate_last=True, initializer=initializer)
        self.num_features = sizes[-1]

    def forward(self, x: Tensor) -> Tensor:
        """Map images with any leading axes to `[..., F]`."""
        leading = x.shape[:-3]
        x = as_planes(x, self.channels_first)
        if self.in_bfloat16:
            with torch.autocast(x.device.type, torch.bfloat16):
                features = self._features(x).float()
        else:
            features = self._features(x)
        return features.reshape(*leading, self.num_features)

    def _features(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, F]`."""
        for index, (layer, pads) in enumerate(zip(self.convolutions, self._pads, strict=True)):
            x = layer(functional.pad(x, pads) if pads else x)
            if self.norms:
                x = self.norms[index](x)
            x = x if self._activate is None else self._activate(x)
        features: Tensor = self.dense(x.flatten(1))
        return features


def _both(sides: int | tuple[int, int]) -> tuple[int, int]:
    """Give height and width the same number if there is one only."""
    return (sides, sides) if isinstance(sides, int) else sides


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and after an axis so that a convolution leaves `ceil(size / stride)`.

    An odd number puts one more after. A kernel smaller than the stride gives a negative number: it cuts off.
    Source: TensorFlow's padding "same", without its limit at 0, as RLlib does.
    """
    total = (-(-size // stride) - 1) * stride + kernel - size
    return total // 2, total - total // 2


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel of `[N, C, H, W]`."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; the shape stays."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def image_shape(space: spaces.Box) -> tuple[bool, int, int, int]:
    """Tell whether an image's channels are its first axis, and their number, the height and the width in pixels."""
    first, _, last = space.shape
    return (True, *space.shape) if first < last else (False, last, *space.shape[:2])  # type: ignore[return-value]


def as_planes(x: Tensor, channels_first: bool) -> Tensor:
    """Make float32 `[N, C, H, W]` of images `[..., H, W, C]` or `[..., C, H, W]`; bytes are divided by 255.

    In memory the channels come last either way: convolutions and their gradients take two thirds of the time then
    (256 x 84 x 84 x 4 on a CPU), and images that arrive so need no copy.
    """
    x = x.reshape(-1, *x.shape[-3:])
    if not channels_first:
        x = x.permute(0, 3, 1, 2)
    if x.dtype == torch.uint8:
        return x.to(torch.float32, memory_format=torch.channels_last).div_(255.0)
    return x.to(torch.float32, memory_format=torch.channels_last)


def default_filters(shorter_side: int, space: spaces.Box) -> tuple[tuple[tuple[int, int, int], ...], tuple[int, ...]]:
    """Choose convolutions (channels, kernel, stride) and dense units by the shorter side of an image, in pixels.

    Source: Mnih et al. 2015 from 36 pixels on; after MinAtar (Young and Tian 2019) below 16.

    Raises:
        UnsupportedSpaceError: the image is smaller than 5 pixels.
    """
    if shorter_side >= 36:
        return ((32, 8, 4), (64, 4, 2), (64, 3, 1)), (512,)
    if shorter_side >= 16:
        return ((32, 4, 2), (64, 3, 2)), (128,)
    if shorter_side >= SMALLEST_SIDE:
        return ((16, 3, 1), (32, 3, 1)), (128,)
    raise UnsupportedSpaceError(
        f"CNN: got images of {space}, whose shorter side has {shorter_side} pixels, expected {SMALLEST_SIDE} or more "
        "for the default convolutions. Set conv_filters and post_fcnet_hiddens yourself, or flatten the observation "
        "(gymnasium.wrappers.FlattenObservation)."
    )
