"""Settings of the default network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from rl_core.config.check import Range, Settings
from rl_core.errors import ConfigError

Activation = Literal["tanh", "relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "linear"]
"""Names of activation functions; `linear` is none at all."""
Size = Annotated[int, Range(ge=1)]
Sides = Size | tuple[Size, Size]
"""Pixels along height and width: one number for both, or one each."""
Padding = Literal["valid", "same"]
"""`valid`: none. `same`: as many zeros as it takes for an output of `ceil(side / stride)`."""
Filter = tuple[Size, Sides, Sides] | tuple[Size, Sides, Sides, Padding]
"""A convolution: channels, kernel, stride, and the padding, `valid` unless given."""
BiasInitializer = Literal["zeros", "ones", "constant", "uniform", "normal", "trunc_normal"]
"""Names of functions of `torch.nn.init` (without their last underscore) that can fill a vector."""
KernelInitializer = Literal[
    "orthogonal",
    "xavier_uniform",
    "xavier_normal",
    "kaiming_uniform",
    "kaiming_normal",
    "zeros",
    "ones",
    "constant",
    "uniform",
    "normal",
    "trunc_normal",
    "eye",
    "dirac",
    "sparse",
]
"""Names of functions of `torch.nn.init` (without their last underscore) that can fill a matrix (all but `dirac`) or the
weights of a convolution (all but `eye` and `sparse`)."""
InitializerKwargs = dict[str, float | str]
"""Keyword arguments of such a function."""

INITIALIZER_KWARGS: Mapping[str, tuple[str, ...]] = {
    "orthogonal": ("gain",),
    "xavier_uniform": ("gain",),
    "xavier_normal": ("gain",),
    "kaiming_uniform": ("a", "mode", "nonlinearity"),
    "kaiming_normal": ("a", "mode", "nonlinearity"),
    "zeros": (),
    "ones": (),
    "constant": ("val",),
    "uniform": ("a", "b"),
    "normal": ("mean", "std"),
    "trunc_normal": ("mean", "std", "a", "b"),
    "eye": (),
    "dirac": ("groups",),
    "sparse": ("sparsity", "std"),
}
"""What each initialiser can be told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSettings(Settings):
    """How `ActorCritic` builds its networks. Names are RLlib's where it has them."""

    fcnet_hiddens: tuple[Size, ...] = (64, 64)
    """Units of the dense layers on vector observations; images use `conv_filters` and `post_fcnet_hiddens` instead.
    Source: Schulman et al. 2017, table 3."""
    fcnet_activation: Activation = "tanh"
    """Activation of those dense layers. Source: Schulman et al. 2017, table 3."""
    fcnet_use_layernorm: bool = False
    """Whether a layer normalisation stands between each of those layers and its activation. Source: Ba et al. 2016."""
    fcnet_kernel_initializer: KernelInitializer | None = None
    """Weights of those layers at the start; None takes `initializer`, a name ignores the gains."""
    fcnet_kernel_initializer_kwargs: InitializerKwargs = field(default_factory=dict)
    """Arguments of that initialiser, such as `{"gain": 0.5}`."""
    fcnet_bias_initializer: BiasInitializer | None = None
    """Biases of those layers at the start; None takes `initializer`."""
    fcnet_bias_initializer_kwargs: InitializerKwargs = field(default_factory=dict)
    """Arguments of that initialiser, such as `{"val": 0.1}`."""
    conv_architecture: Literal["plain", "impala"] = "plain"
    """`plain`: one convolution after the other, as `conv_filters` say. `impala`: residual blocks with `conv_channels`.
    Source: Espeholt et al. 2018, figure 3 (large network) for `impala`."""
    conv_channels: tuple[Size, ...] = (16, 32, 32)
    """Channels of each section of the `impala` network; each halves the sides. Source: Espeholt et al. 2018."""
    conv_filters: tuple[Filter, ...] | None = None
    """Convolutions `(channels, kernel, stride)` on image observations; kernel and stride in pixels, or pairs of those
    for height and width. A fourth entry `"same"` pads with zeros, as RLlib does; without it nothing is padded. None
    chooses by the shorter side: from 36 pixels (32,8,4) (64,4,2) (64,3,1) [Mnih et al. 2015]; from 16 pixels
    (32,4,2) (64,3,2); from 5 pixels (16,3,1) (32,3,1) [after MinAtar, Young and Tian 2019]; less gets dense layers."""
    conv_activation: Activation = "relu"
    """Activation of the convolutions and of `post_fcnet_hiddens`. Source: Mnih et al. 2015."""
    conv_use_layernorm: bool = False
    """Whether a layer normalisation over the channels of each pixel follows every convolution."""
    conv_kernel_initializer: KernelInitializer | None = None
    """Weights of the convolutions and of `post_fcnet_hiddens` at the start; None takes `initializer`."""
    conv_kernel_initializer_kwargs: InitializerKwargs = field(default_factory=dict)
    """Arguments of that initialiser."""
    conv_bias_initializer: BiasInitializer | None = None
    """Biases of those layers at the start; None takes `initializer`."""
    conv_bias_initializer_kwargs: InitializerKwargs = field(default_factory=dict)
    """Arguments of that initialiser."""
    conv_dtype: Literal["float32", "bfloat16"] = "float32"
    """What the convolutions and `post_fcnet_hiddens` compute in; weights stay float32. bfloat16 has 8 significant bits
    and is up to twice as fast on hardware with instructions for it (AVX512-BF16, AMX, recent GPUs), else slower."""
    post_fcnet_hiddens: tuple[Size, ...] | None = None
    """Units of the dense layers that follow the convolutions. None: (512,) from 36 pixels [Mnih et al. 2015], else
    (128,) [Young and Tian 2019]; `impala` (256,) [Espeholt et al. 2018]."""
    fusionnet_hiddens: tuple[Size, ...] = (256, 256, 128)
    """Units of the dense layers that join the parts of nested observations. Source: the defaults of RLlib."""
    fusionnet_activation: Activation = "relu"
    """Activation of those layers; `fcnet_use_layernorm` holds for them too. Source: the defaults of RLlib."""
    fusionnet_kernel_initializer: KernelInitializer | None = None
    """Weights of those layers at the start; None takes `initializer`."""
    fusionnet_kernel_initializer_kwargs: InitializerKwargs = field(default_factory=dict)
    """Arguments of that initialiser."""
    fusionnet_bias_initializer: BiasInitializer | None = None
    """Biases of those layers at the start; None takes `initializer`."""
    fusionnet_bias_initializer_kwargs: InitializerKwargs = field(default_factory=dict)
    """Arguments of that initialiser."""
    use_lstm: bool = False
    """Whether an LSTM follows the encoder. Source: Hochreiter and Schmidhuber 1997."""
    use_gru: bool = False
    """Whether a gated recurrent unit follows the encoder. Training it on a CPU is slower than training the LSTM, whose
    kernel for sequences is fused: 1.6 to 5.5 times with 32 to 128 units, 1 to 2.4 with 256. Source: Cho et al. 2014."""
    lstm_cell_size: Size = 256
    """Units of the LSTM or the gated recurrent unit. Source: Espeholt et al. 2018."""
    lstm_kernel_initializer: KernelInitializer | None = None
    """Weights of the LSTM or gated recurrent unit at the start; None takes `initializer` with gain 1."""
    lstm_kernel_initializer_kwargs: InitializerKwargs = field(default_factory=dict)
    """Arguments of that initialiser."""
    lstm_bias_initializer: BiasInitializer | None = None
    """Biases of the LSTM or gated recurrent unit at the start; None takes `initializer`."""
    lstm_bias_initializer_kwargs: InitializerKwargs = field(default_factory=dict)
    """Arguments of that initialiser."""
    max_seq_len: Size = 20
    """Env steps of a segment that a module with memory is trained on; gradients reach no further back. Source:
    the default of RLlib; Espeholt et al. 2018."""
    use_attention: bool = False
    """Whether attention over the last steps follows the encoder. Source: Vaswani et al. 2017; Dai et al. 2019."""
    attention_window: Size = 16
    """How many env steps back each layer of the attention looks, besides the present one."""
    attention_dim: Size = 64
    """Units of the attention layers; a multiple of `attention_num_heads`. Source: the default of RLlib."""
    attention_num_heads: Size = 1
    """Heads of each attention layer. Source: the default of RLlib."""
    attention_num_layers: Size = 1
    """How many attention layers follow each other; each looks back on the one before. Source: the default of RLlib."""
    head_fcnet_hiddens: tuple[Size, ...] = ()
    """Units of dense layers that policy and value function each have between what may be shared and their outputs."""
    head_fcnet_activation: Activation = "relu"
    """Activation of those layers."""
    head_fcnet_use_layernorm: bool = False
    """Whether a layer normalisation stands between each of those layers and its activation."""
    head_fcnet_kernel_initializer: KernelInitializer | None = None
    """Weights of those layers and of the output layers at the start; None takes `initializer` and the gains below."""
    head_fcnet_kernel_initializer_kwargs: InitializerKwargs = field(default_factory=dict)
    """Arguments of that initialiser."""
    head_fcnet_bias_initializer: BiasInitializer | None = None
    """Biases of those layers at the start; None takes `initializer`."""
    head_fcnet_bias_initializer_kwargs: InitializerKwargs = field(default_factory=dict)
    """Arguments of that initialiser."""
    vf_share_layers: bool | Literal["auto"] = "auto"
    """Whether policy and value function share all layers but the last, a memory too. `auto`: images yes, vectors no
    (CartPole without velocities is learned with memories apart, and was not with one). Source: Huang et al. 2022,
    details 13 and Atari 8."""
    free_log_std: bool = True
    """Box actions: learn one log standard deviation per dimension for all observations; False makes it an output of the
    network. Source: Huang et al. 2022, continuous detail 2."""
    log_std_init: float = 0.0
    """Box actions: log standard deviation (natural log, action units) at the start. Source: Huang et al. 2022."""
    log_std_bounds: tuple[float, float] = (-20.0, 2.0)
    """Box actions: limits of the log standard deviation (RLlib's `log_std_clip_param` x is (-x, x) here). One that has
    passed a limit gets no gradient any more and stays there: lower the entropy coefficient or widen the limits. Source:
    Haarnoja et al. 2018, published code."""
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

    @property
    def has_memory(self) -> bool:
        """Whether the network carries a state from step to step."""
        return self.use_lstm or self.use_gru or self.use_attention

    def check(self) -> None:
        """Refuse what makes no sense together: log-std limits, empty networks, two memories, unknown arguments."""
        low, high = self.log_std_bounds
        if not low < high:
            raise ConfigError(f"log_std_bounds: got {self.log_std_bounds}, expected (low, high) with low < high.")
        if not low <= self.log_std_init <= high:
            raise ConfigError(f"log_std_init: got {self.log_std_init}, expected a number within {self.log_std_bounds}.")
        if self.conv_filters == ():
            raise ConfigError("conv_filters: got (), expected at least one (channels, kernel, stride), or None.")
        if self.conv_channels == ():
            raise ConfigError("conv_channels: got (), expected the channels of at least one section.")
        memories = [name for name in ("use_lstm", "use_gru", "use_attention") if getattr(self, name)]
        if len(memories) > 1:
            raise ConfigError(f"{' and '.join(memories)}: got True for both, expected one memory at most.")
        if self.attention_dim % self.attention_num_heads:
            raise ConfigError(
                f"attention_dim: got {self.attention_dim}, expected a multiple of attention_num_heads="
                f"{self.attention_num_heads}, because every head gets an equal share."
            )
        for part in ("fcnet", "conv", "fusionnet", "lstm", "head_fcnet"):
            for which in ("kernel", "bias"):
                self._check_initializer(f"{part}_{which}_initializer")

    def _check_initializer(self, name: str) -> None:
        """Refuse arguments that the named initialiser does not take."""
        initializer, kwargs = getattr(self, name), getattr(self, f"{name}_kwargs")
        known = INITIALIZER_KWARGS[initializer] if initializer else ()
        unknown = [key for key in kwargs if key not in known]
        if unknown:
            what = f"{initializer!r} takes {', '.join(known) or 'none'}" if initializer else f"{name} is not set"
            raise ConfigError(f"{name}_kwargs: got {', '.join(map(repr, unknown))}, but {what}.")
        if initializer == "constant" and "val" not in kwargs:
            raise ConfigError(f"{name}_kwargs: got {kwargs}, expected 'val', the constant.")
