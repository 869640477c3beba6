"""From observations to features: one network per kind of observation, chosen by the space."""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from rl_core.errors import UnsupportedSpaceError
from rl_core.module.images import CNN, SMALLEST_SIDE, ImpalaCNN, image_shape
from rl_core.module.initialize import initializer_for
from rl_core.module.networks import MLP, Encoder, NormedMLP
from rl_core.module.settings import ModelSettings
from rl_core.tree import Tree, tree_map

DensePart = Literal["fcnet", "fusionnet", "head_fcnet"]
"""A part of the network that is dense layers."""


def make_encoder(space: spaces.Space[Any], settings: ModelSettings) -> Encoder:
    """Choose the network from observations of a space to features, with weights from torch's global random state.

    A Box of three axes is an image, of four a stack of images. It gets convolutions, unless it is too small for the
    default ones, as a board of 3 x 3 is, and the settings name no others. A Dict or Tuple gets an encoder for each part
    and dense layers that join them. Everything else becomes a vector (discrete values one-hot) and gets dense layers.

    Args:
        space: Box, Discrete, MultiDiscrete, MultiBinary, or a Dict or Tuple of those.
        settings: Sizes, activations and initial weights.

    Returns:
        A module that maps observations with any leading axes to `[..., num_features]`, an attribute it has.

    Raises:
        UnsupportedSpaceError: there is no encoder for the space or for a part of it.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple) and len(space.spaces):
        return FusionEncoder(space, settings)
    chosen = settings.conv_filters is not None or settings.conv_architecture == "impala"
    if is_image_part(space) or (is_image(space) and chosen):
        return _image_encoder(space, settings)
    if is_plain_vector(space):
        return dense_layers((*space.shape, *settings.fcnet_hiddens), settings)  # type: ignore[misc]
    return _VectorEncoder(space, settings)


def is_image(space: spaces.Space[Any]) -> bool:
    """Whether observations of a space are images or stacks of images: a Box of three axes, or of four."""
    return isinstance(space, spaces.Box) and len(space.shape) in (3, 4) and 0 not in space.shape


def contains_image(space: spaces.Space[Any]) -> bool:
    """Whether a space is an image, or a Dict or Tuple with a part that gets convolutions."""
    if not isinstance(space, spaces.Dict | spaces.Tuple):
        return is_image(space)
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else space.spaces
    nested = (spaces.Dict, spaces.Tuple)
    return any(contains_image(part) if isinstance(part, nested) else is_image_part(part) for part in parts)


def is_image_part(space: spaces.Space[Any]) -> bool:
    """Whether observations of a space get the default convolutions: they are images that are not too small for them."""
    return is_image(space) and min(image_shape(space)[2:]) >= SMALLEST_SIDE  # type: ignore[arg-type]


def is_plain_vector(space: spaces.Space[Any]) -> bool:
    """Whether dense layers can take observations of a space as they come: float32 vectors."""
    return isinstance(space, spaces.Box) and len(space.shape) == 1 and space.dtype == np.float32 and space.shape != (0,)


def dense_layers(sizes: tuple[int, ...], settings: ModelSettings, part: DensePart = "fcnet") -> Encoder:
    """Make dense layers, all activated, as the settings of a part say; `fusionnet` is normalised where `fcnet` is."""
    activation, initializer = getattr(settings, f"{part}_activation"), initializer_for(settings, part)
    if settings.head_fcnet_use_layernorm if part == "head_fcnet" else settings.fcnet_use_layernorm:
        return NormedMLP(sizes, activation=activation, initializer=initializer)
    return MLP(sizes, activation=activation, activate_last=True, initializer=initializer)


def output_layers(num_features: int, num_outputs: int, settings: ModelSettings, *, gain: float) -> nn.Module:
    """Make the dense layers from features to outputs, as the `head_fcnet` settings say.

    The last one is not activated and has the gain, where weights are orthogonal.
    """
    sizes, initializer = (num_features, *settings.head_fcnet_hiddens), initializer_for(settings, "head_fcnet")
    if settings.head_fcnet_use_layernorm and len(sizes) > 1:
        last = MLP((sizes[-1], num_outputs), initializer=initializer, last_gain=gain)
        return nn.Sequential(dense_layers(sizes, settings, "head_fcnet"), last)
    activation = settings.head_fcnet_activation
    return MLP((*sizes, num_outputs), activation=activation, initializer=initializer, last_gain=gain)


def dense_network(num_features: int, num_outputs: int, settings: ModelSettings, *, gain: float) -> nn.Module:
    """Make the dense layers of `fcnet` and the output layers behind them, as one network if it can be: it is faster."""
    sizes = (num_features, *settings.fcnet_hiddens)
    if settings.head_fcnet_hiddens or settings.fcnet_use_layernorm:
        return nn.Sequential(dense_layers(sizes, settings), output_layers(sizes[-1], num_outputs, settings, gain=gain))
    return MLP(
        (*sizes, num_outputs),
        activation=settings.fcnet_activation,
        initializer=initializer_for(settings, "fcnet"),
        last_initializer=initializer_for(settings, "head_fcnet"),
        last_gain=gain,
    )


def _image_encoder(space: spaces.Space[Any], settings: ModelSettings) -> CNN | ImpalaCNN:
    """Make the convolutional network that the `conv` settings describe."""
    assert isinstance(space, spaces.Box), "checked by is_image"
    if settings.conv_architecture == "impala":
        return ImpalaCNN(space, settings)
    return CNN(
        space,
        filters=settings.conv_filters,
        hiddens=settings.post_fcnet_hiddens,
        activation=settings.conv_activation,
        initializer=initializer_for(settings, "conv"),
        use_layernorm=settings.conv_use_layernorm,
        dtype=settings.conv_dtype,
    )


class _VectorEncoder(Encoder):
    """Dense layers on observations that are no float vectors yet."""

    def __init__(self, space: spaces.Space[Any], settings: ModelSettings) -> None:
        super().__init__()
        self.to_vector = ToVector(space)
        self.dense = dense_layers((self.to_vector.num_features, *settings.fcnet_hiddens), settings)
        self.num_features = self.dense.num_features

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., *observation shape]` to `[..., F]`."""
        features: Tensor = self.dense(self.to_vector(x))
        return features


class ToVector(Encoder):
    """Observations as float vectors `[..., D]`: boxes flattened, discrete values one-hot, one after the other."""

    value: Tensor
    owner: Tensor

    def __init__(self, space: spaces.Space[Any]) -> None:
        """Prepare for a space.

        Raises:
            UnsupportedSpaceError: it is not a Box that holds something, Discrete, MultiDiscrete or MultiBinary.
        """
        super().__init__()
        known = isinstance(space, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary)
        if not known or 0 in (space.shape or ()):
            raise UnsupportedSpaceError(
                f"Encoder: got observations of {space}, expected a Box that is not empty, Discrete, MultiDiscrete, "
                "MultiBinary, or a Dict or Tuple of those. Use a connector or gymnasium.wrappers.FlattenObservation to "
                "make them one vector, or write an RLModule of your own."
            )
        self.num_axes = len(space.shape or ())
        self.is_discrete = isinstance(space, spaces.Discrete | spaces.MultiDiscrete)
        self.num_features = math.prod(space.shape or ())
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            # Each output says whether one of the numbers (its owner) has one certain value.
            counts = np.ravel(space.nvec if isinstance(space, spaces.MultiDiscrete) else [space.n])
            starts = np.ravel(space.start)
            value = np.concatenate([start + np.arange(count) for start, count in zip(starts, counts, strict=True)])
            owner = np.repeat(np.arange(len(counts)), counts)
            self.register_buffer("value", torch.from_numpy(value.astype(np.int64)), persistent=False)
            self.register_buffer("owner", torch.from_numpy(owner.astype(np.int64)), persistent=False)
            self.num_features = len(value)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., *observation shape]` to float32 `[..., D]`."""
        x = x.flatten(-self.num_axes) if self.num_axes else x.unsqueeze(-1)
        return (x.index_select(-1, self.owner) == self.value if self.is_discrete else x).to(torch.float32)


class FusionEncoder(Encoder):
    """One encoder for each part of a Dict or Tuple, and dense layers on their joined features.

    Images from 5 pixels on get convolutions, vectors and smaller images dense layers, discrete values stay one-hot.
    """

    def __init__(self, space: spaces.Space[Any], settings: ModelSettings) -> None:
        """Make and initialise the layers."""
        super().__init__()
        self.parts = nn.ModuleList()
        self._places = self._add_parts(space, settings)
        widths = [cast(Encoder, part).num_features for part in self.parts]
        sizes = (sum(widths), *settings.fusionnet_hiddens)
        self.fusion = dense_layers(sizes, settings, "fusionnet")
        self.num_features = sizes[-1]

    def _add_parts(self, space: spaces.Space[Any], settings: ModelSettings) -> Tree:
        """Add encoders for all parts of a space; return the tree of their places in `parts`."""
        if isinstance(space, spaces.Dict):
            # Sorted, because equal spaces may list their keys in another order, for example when read from a file.
            return {key: self._add_parts(space.spaces[key], settings) for key in sorted(space.spaces)}
        if isinstance(space, spaces.Tuple):
            return tuple(self._add_parts(part, settings) for part in space.spaces)
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
            self.parts.append(ToVector(space))
        elif is_image(space) and not is_image_part(space):
            self.parts.append(_VectorEncoder(space, settings))
        else:
            self.parts.append(make_encoder(space, settings))
        return len(self.parts) - 1

    def forward(self, obs: Tree) -> Tensor:
        """Map a tree of observations to `[..., F]`."""
        features: list[Tensor] = []
        tree_map(lambda place, leaf: features.append(self.parts[place](leaf)), self._places, obs)
        joined: Tensor = self.fusion(torch.cat(features, -1))
        return joined
