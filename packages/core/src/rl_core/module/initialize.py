"""Initial weights: the library's defaults, or a function of `torch.nn.init` by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from rl_core.module.settings import BiasInitializer, KernelInitializer, ModelSettings

HIDDEN_GAIN = math.sqrt(2.0)
Default = Literal["orthogonal", "torch"]
Part = Literal["fcnet", "conv", "fusionnet", "lstm", "head_fcnet"]
"""A part of the network with settings of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerInit:
    """How the parameters of a layer are filled; what is None is filled as `default` says."""

    default: Default = "orthogonal"
    """`orthogonal`: orthogonal weights times the layer's gain, zero biases. `torch`: as `nn.Linear` and `nn.Conv2d`."""
    kernel: KernelInitializer | None = None
    """Function of `torch.nn.init` for the weights; it knows no gain but the one in its arguments."""
    kernel_kwargs: Mapping[str, float | str] = field(default_factory=dict)
    """Its arguments."""
    bias: BiasInitializer | None = None
    """Function of `torch.nn.init` for the biases."""
    bias_kwargs: Mapping[str, float | str] = field(default_factory=dict)
    """Its arguments."""


Initializer = Default | LayerInit


def initializer_for(settings: ModelSettings, part: Part) -> LayerInit:
    """Read from the settings how a part of the network is initialised."""
    return LayerInit(
        default=settings.initializer,
        kernel=getattr(settings, f"{part}_kernel_initializer"),
        kernel_kwargs=getattr(settings, f"{part}_kernel_initializer_kwargs"),
        bias=getattr(settings, f"{part}_bias_initializer"),
        bias_kwargs=getattr(settings, f"{part}_bias_initializer_kwargs"),
    )


def initialize(
    weight: Tensor, bias: Tensor, initializer: Initializer, gain: float, *, fan_in: int | None = None
) -> None:
    """Fill the parameters of a layer in place, from torch's global random state.

    Args:
        weight: Of a dense layer `[out, in]` or a convolution `[out, in, height, width]`.
        bias: `[out]`.
        initializer: A default by name, or what `initializer_for` read.
        gain: Of orthogonal weights by default; ignored otherwise.
        fan_in: By how many inputs the `torch` default scales weights and biases; None counts those of the layer.

    Source: Huang et al. 2022, The 37 Implementation Details of PPO, detail 2, for `orthogonal`.
    """
    init = initializer if isinstance(initializer, LayerInit) else LayerInit(default=initializer)
    bound = 1.0 / math.sqrt(fan_in or weight[0].numel())
    if init.kernel is not None:
        _call(init.kernel, weight, init.kernel_kwargs)
    elif init.default == "orthogonal":
        nn.init.orthogonal_(weight, gain)
    else:
        nn.init.uniform_(weight, -bound, bound)
    if init.bias is not None:
        _call(init.bias, bias, init.bias_kwargs)
    elif init.default == "orthogonal":
        nn.init.zeros_(bias)
    else:
        nn.init.uniform_(bias, -bound, bound)


def _call(name: str, tensor: Tensor, kwargs: Mapping[str, float | str]) -> None:
    """Call a function of `torch.nn.init` by the name it has without its last underscore."""
    getattr(nn.init, f"{name}_")(tensor, **kwargs)
