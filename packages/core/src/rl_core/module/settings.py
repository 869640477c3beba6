"""Settings of the default network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from rl_core.config.check import Range, Settings
from rl_core.errors import ConfigError

Activation = Literal["tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "linear"]
"""Names of activation functions; `linear` is none at all."""
Size = Annotated[int, Range(ge=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings(Settings):
    """How `ActorCritic` builds its networks. Names are RLlib's where it has them."""

    fcnet_hiddens: tuple[Size, ...] = (64, 64)
    """Units of the dense layers on vector observations; images use `conv_filters` and `post_fcnet_hiddens` instead.
    Source: Schulman et al. 2017, table 3."""
    fcnet_activation: Activation = "tanh"
    """Activation of those dense layers. Source: Schulman et al. 2017, table 3."""
    conv_filters: tuple[tuple[Size, Size, Size], ...] | None = None
    """Convolutions `(channels, kernel, stride)` on image observations, without padding; kernel and stride in pixels.
    None chooses by the shorter side: from 36 pixels (32,8,4) (64,4,2) (64,3,1) [Mnih et al. 2015]; from 16 pixels
    (32,4,2) (64,3,2); from 5 pixels (16,3,1) (32,3,1) [after MinAtar, Young and Tian 2019]; less is refused."""
    conv_activation: Activation = "relu"
    """Activation of the convolutions and of `post_fcnet_hiddens`. Source: Mnih et al. 2015."""
    post_fcnet_hiddens: tuple[Size, ...] | None = None
    """Units of the dense layers that follow the convolutions. None: (512,) from 36 pixels [Mnih et al. 2015], else
    (128,) [Young and Tian 2019]."""
    vf_share_layers: bool | Literal["auto"] = "auto"
    """Whether policy and value function share all layers but the last. `auto`: images yes, vectors no. Source: Huang
    et al. 2022, details 13 and Atari 8."""
    free_log_std: bool = True
    """Box actions: learn one log standard deviation per dimension for all observations; False makes it an output of the
    network. Source: Huang et al. 2022, continuous detail 2."""
    log_std_init: float = 0.0
    """Box actions: log standard deviation (natural log, action units) at the start. Source: Huang et al. 2022."""
    log_std_bounds: tuple[float, float] = (-20.0, 2.0)
    """Box actions: limits of the log standard deviation. One that has passed a limit gets no gradient any more and
    stays there: lower the entropy coefficient or widen the limits. Source: Haarnoja et al. 2018, published code."""
    squash_actions: bool = False
    """Box actions: squash onto the bounds with tanh (they must be finite) instead of leaving them unbounded, to be
    clipped on the way to the env. Source: Huang et al. 2022, continuous detail 4 for False."""
    initializer: Literal["orthogonal", "torch"] = "orthogonal"
    """Weights at the start: orthogonal with gain sqrt(2) and zero biases (Huang et al. 2022, detail 2), or PyTorch's
    default for dense and convolutional layers, which ignores the gains below."""
    policy_head_gain: Annotated[float, Range(gt=0)] = 0.01
    """Gain of the policy's last layer: small, so that it starts nearly uniform. Source: Huang et al. 2022, detail 2."""
    value_head_gain: Annotated[float, Range(gt=0)] = 1.0
    """Gain of the value function's last layer. Source: Huang et al. 2022, detail 2."""

    def check(self) -> None:
        """Refuse log-std limits that leave no room for the start value, and an empty list of convolutions."""
        low, high = self.log_std_bounds
        if not low < high:
            raise ConfigError(f"log_std_bounds: got {self.log_std_bounds}, expected (low, high) with low < high.")
        if not low <= self.log_std_init <= high:
            raise ConfigError(f"log_std_init: got {self.log_std_init}, expected a number within {self.log_std_bounds}.")
        if self.conv_filters == ():
            raise ConfigError("conv_filters: got (), expected at least one (channels, kernel, stride), or None.")
