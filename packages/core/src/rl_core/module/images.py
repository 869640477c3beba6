"""Encoders of images: convolutions, plain and residual, and what they take for granted about images."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Literal

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional

from rl_core.errors import UnsupportedSpaceError
from rl_core.module.initialize import HIDDEN_GAIN, Initializer, initialize, initializer_for
from rl_core.module.networks import ACTIVATIONS, MLP, Encoder
from rl_core.module.settings import Activation, Filter, ModelSettings

SMALLEST_SIDE = 5
"""Of an image, in pixels, for the default convolutions."""
_IMPALA_HIDDENS = (256,)


class ImageEncoder(Encoder):
    """A network on images: `[..., H, W, C]` or `[..., C, H, W]` to features `[..., F]`, float32.

    The channels are the first axis if it is shorter than the last, else the last one. Of a stack of images,
    `[..., K, H, W, C]` or `[..., K, C, H, W]`, the channels of all are taken for those of one. uint8 images are divided
    by 255, float images are taken as they are. Subclasses map planes `[N, C, H, W]` to `[N, F]` in `_features`.
    """

    def __init__(self, space: spaces.Box, dtype: Literal["float32", "bfloat16"]) -> None:
        """Look at the images.

        Args:
            space: Box of three axes, or four.
            dtype: What to compute in; the weights and the features are float32 in any case.
        """
        super().__init__()
        self._shape = space.shape
        self.channels_first, self.channels, self.height, self.width = image_shape(space)
        self.in_bfloat16 = dtype == "bfloat16"
        self._held: list[ImageEncoder] = []  # a list, so that torch does not take it for a part

    def forward(self, x: Tensor) -> Tensor:
        """Map images with any leading axes to `[..., F]`."""
        leading = x.shape[: -len(self._shape)]
        x = x.reshape(-1, *self._shape)
        if len(self._shape) == 4:
            planes = (x if self.channels_first else x.permute(0, 1, 4, 2, 3)).flatten(1, 2)
        else:
            planes = x if self.channels_first else x.permute(0, 3, 1, 2)
        if not self.in_bfloat16:
            features = self._features(_scaled(planes))
        else:
            with torch.autocast(x.device.type, torch.bfloat16):
                if self._held:
                    features = self._held[0]._features(_scaled_in_bfloat16(planes)).float()
                else:
                    features = self._features(_scaled(planes)).float()
        return features.reshape(*leading, self.num_features)

    def _features(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, F]`."""
        raise NotImplementedError

    def hold_weights(self) -> None:
        """Cast the weights to bfloat16 once, for acting: in small batches the casts would take most of the time.

        From then on they are what `forward` uses, so it has to be called again whenever the weights have changed.
        In float32 it does nothing.
        """
        if not self.in_bfloat16:
            return
        if not self._held:
            self._held.append(copy.deepcopy(self))
            for part in self._held[0].modules():
                if isinstance(part, nn.Conv2d):
                    part.to(torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
                elif isinstance(part, MLP):
                    part.to(torch.bfloat16)
        own, held = ([*encoder.parameters()] for encoder in (self, self._held[0]))
        with torch.no_grad():
            torch._foreach_copy_(held, own)  # type: ignore[arg-type]


class CNN(ImageEncoder):
    """Convolutions and dense layers; see `ImageEncoder`."""

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
            space: Box of three axes, or four.
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
        super().__init__(space, dtype)
        channels, height, width = self.channels, self.height, self.width
        if filters is None or hiddens is None:
            default = default_filters(min(height, width), space)
            filters, hiddens = filters or default[0], default[1] if hiddens is None else hiddens
        self._activate = ACTIVATIONS[activation]
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

    def _features(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, F]`."""
        for index, (layer, pads) in enumerate(zip(self.convolutions, self._pads, strict=True)):
            x = layer(functional.pad(x, pads) if pads else x)
            if self.norms:
                x = self.norms[index](x)
            x = x if self._activate is None else self._activate(x)
        features: Tensor = self.dense(x.flatten(1))
        return features


class _Residual(nn.Module):
    """`x + conv(relu(conv(relu(x))))`."""

    def __init__(self, channels: int, initializer: Initializer, use_layernorm: bool) -> None:
        super().__init__()
        self.first = _convolution(channels, channels, initializer, use_layernorm)
        self.second = _convolution(channels, channels, initializer, use_layernorm)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape `[N, C, H, W]`."""
        result: Tensor = x + self.second(torch.relu(self.first(torch.relu(x))))
        return result


class ImpalaCNN(ImageEncoder):
    """Residual convolutions and dense layers; see `ImageEncoder`.

    Each section is a convolution, a maximum over 3 x 3 pixels with stride 2 and two residual blocks; dense layers
    follow. Activations are relu.

    Source: Espeholt et al. 2018, IMPALA, figure 3 (right).
    """

    def __init__(self, space: spaces.Box, settings: ModelSettings) -> None:
        """Make and initialise the layers."""
        super().__init__(space, settings.conv_dtype)
        channels, height, width = self.channels, self.height, self.width
        initializer, normed = initializer_for(settings, "conv"), settings.conv_use_layernorm
        layers: list[nn.Module] = []
        for num_filters in settings.conv_channels:
            layers += [_convolution(channels, num_filters, initializer, normed), nn.MaxPool2d(3, 2, 1)]
            layers += [_Residual(num_filters, initializer, normed), _Residual(num_filters, initializer, normed)]
            channels, height, width = num_filters, (height + 1) // 2, (width + 1) // 2
        self.sections = nn.Sequential(*layers)
        hiddens = _IMPALA_HIDDENS if settings.post_fcnet_hiddens is None else settings.post_fcnet_hiddens
        sizes = (channels * height * width, *hiddens)
        self.dense = MLP(sizes, activation="relu", activate_last=True, initializer=initializer)
        self.num_features = sizes[-1]

    def _features(self, x: Tensor) -> Tensor:
        """Map `[N, C, H, W]` to `[N, F]`."""
        features: Tensor = self.dense(torch.relu(self.sections(x)).flatten(1))
        return features


def _convolution(num_in: int, num_out: int, initializer: Initializer, use_layernorm: bool) -> nn.Module:
    """Make a convolution of 3 x 3 pixels that keeps the size of the image, normalised over channels if asked."""
    layer = nn.Conv2d(num_in, num_out, 3, padding=1)
    initialize(layer.weight, layer.bias, initializer, HIDDEN_GAIN)  # type: ignore[arg-type]
    return nn.Sequential(layer, ChannelNorm(num_out)) if use_layernorm else layer


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
    """Tell whether an image's channels are its first axis, and their number, the height and the width in pixels.

    Those of a stack of images are the channels of all together.
    """
    *stack, first, middle, last = space.shape
    number = math.prod(stack)
    return (True, number * first, middle, last) if first < last else (False, number * last, first, middle)


def _scaled(planes: Tensor) -> Tensor:
    """Make float32 of planes `[N, C, H, W]`; bytes are divided by 255.

    In memory the channels come last: convolutions and their gradients take two thirds of the time then (256 x 84 x 84
    x 4 on a CPU), and images that arrive so need no copy.
    """
    result = planes.to(torch.float32, memory_format=torch.channels_last)
    return result.div_(255.0) if planes.dtype == torch.uint8 else result


def _scaled_in_bfloat16(planes: Tensor) -> Tensor:
    """Make bfloat16 of planes `[N, C, H, W]`, in memory as they are; bytes are divided by 255.

    In batches of 8 moving the channels last costs five times what the convolution gains by it.
    """
    result = planes.to(torch.bfloat16)
    return result.div_(255.0) if planes.dtype == torch.uint8 else result


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
