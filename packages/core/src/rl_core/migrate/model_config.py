"""RLlib's model settings (`model={...}` of the old API stack, `DefaultModelConfig` of the new one) as networks here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gymnasium import spaces

from rl_core.config.check import nearest
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.migrate.kinds import check_kinds
from rl_core.migrate.network import Layer, RllibNetwork
from rl_core.module.actor_critic import ActorCritic
from rl_core.module.rl_module import RLModule
from rl_core.module.settings import Activation, ModelSettings

Kwargs = dict[str, Any]
_DEFAULTS: Kwargs = {
    "fcnet_hiddens": (256, 256),
    "fcnet_activation": "tanh",
    "conv_filters": None,
    "conv_activation": "relu",
    "post_fcnet_hiddens": (),
    "post_fcnet_activation": "relu",
    "free_log_std": False,
    "log_std_clip_param": 20.0,
    "vf_share_layers": True,
    "use_lstm": False,
    "lstm_cell_size": 256,
    "max_seq_len": 20,
    # Of the new stack only.
    "head_fcnet_hiddens": (),
    "head_fcnet_activation": "relu",
    "head_fcnet_use_layernorm": False,
    "fcnet_use_layernorm": False,
    "num_atoms": 1,
    "dueling": True,
}
_UNSUPPORTED: Kwargs = {
    "no_final_linear": False,
    "use_attention": False,
    "lstm_use_prev_action": False,
    "lstm_use_prev_reward": False,
    "lstm_use_prev_action_reward": -1,
    "attention_use_n_prev_actions": 0,
    "attention_use_n_prev_rewards": 0,
    "custom_model": None,
    "custom_model_config": {},
    "custom_action_dist": None,
    "custom_preprocessor": None,
    "encoder_latent_dim": None,
    "_use_default_native_models": -1,
}
"""What changes the outputs and has no counterpart, with the values that leave it out."""
_WITHOUT_EFFECT = frozenset(
    "framestack dim grayscale zero_mean always_check_shapes _time_major _disable_preprocessor_api "
    "_disable_action_flattening attention_num_transformer_units attention_dim attention_num_heads attention_head_dim "
    "attention_memory_inference attention_memory_training attention_position_wise_mlp_dim "
    "attention_init_gru_gate_bias".split()
)
"""What shapes preprocessing, training or an unused attention net, not the outputs for given observations."""
_DEFAULT_FILTERS: dict[int, tuple[tuple[int, int, int], ...]] = {
    96: ((16, 8, 4), (32, 4, 2), (256, 11, 2)),
    84: ((16, 8, 4), (32, 4, 2), (256, 11, 1)),
    64: ((16, 4, 2), (32, 4, 2), (64, 4, 2), (128, 4, 2)),
    42: ((16, 4, 2), (32, 4, 2), (256, 11, 1)),
    10: ((16, 5, 2), (32, 5, 2)),
}
"""RLlib's convolutions (channels, kernel, stride) by the side of a square image."""
_ACTIVATIONS: dict[str, Activation] = {
    "tanh": "tanh",
    "relu": "relu",
    "elu": "elu",
    "swish": "silu",
    "silu": "silu",
    "gelu": "gelu",
    "leakyrelu": "leaky_relu",
    "sigmoid": "sigmoid",
    "linear": "linear",
    "none": "linear",
}


def model_settings_from_rllib(model_config: Mapping[str, Any]) -> ModelSettings:
    """Translate a `model` dict of RLlib's old API stack to the settings of this library's default module.

    Missing keys take RLlib's defaults, initialisers are left out: initial weights are this library's. Images without
    `conv_filters` get this library's convolutions; with it all but the last are padded, as RLlib's old stack does.

    Raises:
        ConfigError: names a key that is unknown, or whose value `ActorCritic` does not express.
    """
    model = checked(model_config)
    post = tuple(model["post_fcnet_hiddens"])
    convolutions: Kwargs = {"post_fcnet_hiddens": post or None}
    if model["conv_filters"]:
        *padded, last = map(tuple, model["conv_filters"])
        filters = (*((*entry[:3], "same") for entry in padded), last[:3])
        convolutions = {"post_fcnet_hiddens": post, "conv_filters": filters}
    return ModelSettings(
        **convolutions,
        fcnet_hiddens=(*model["fcnet_hiddens"], *post),
        fcnet_activation=activation(model, "fcnet" if model["fcnet_hiddens"] else "post_fcnet"),
        conv_activation=activation(model, "conv"),
        use_lstm=model["use_lstm"],
        lstm_cell_size=model["lstm_cell_size"],
        max_seq_len=model["max_seq_len"],
        vf_share_layers=model["vf_share_layers"] or model["use_lstm"],  # RLlib's LSTM is always shared
        free_log_std=model["free_log_std"],
        log_std_bounds=(-model["log_std_clip_param"], model["log_std_clip_param"]),
    )


def module_from_rllib(
    model_config: Mapping[str, Any], observation_space: spaces.Space[Any], action_space: spaces.Space[Any]
) -> RLModule:
    """Build the network that RLlib's old API stack makes from a `model` dict, with fresh weights.

    Args:
        model_config: RLlib's `model`; missing keys take its defaults.
        observation_space: A Box: what RLlib's preprocessor puts out.
        action_space: See `distribution_for`.

    Returns:
        An `ActorCritic` where that expresses the network, else an `RllibNetwork`.

    Raises:
        ConfigError: names a key that is unknown or not supported.
    """
    return build(legacy_network(checked(model_config), observation_space), observation_space, action_space)


def checked(model_config: Mapping[str, Any], *, strict: bool = True) -> Kwargs:
    """Return the settings that matter, completed by RLlib's defaults.

    Raises:
        ConfigError: a key is not supported, or (if `strict`) unknown.
    """
    check_kinds(model_config)
    for key, value in model_config.items():
        if key in _UNSUPPORTED and value not in (_UNSUPPORTED[key], None, False):
            raise ConfigError(f"{key}: got {value!r:.80}, which has no counterpart here, expected {_UNSUPPORTED[key]}.")
        known = key in _DEFAULTS or key in _UNSUPPORTED or key in _WITHOUT_EFFECT or "_initializer" in key
        if strict and not known:
            raise ConfigError(f"{key!r:.80} is no setting of an RLlib model.{nearest(str(key), _DEFAULTS)}")
    if model_config.get("num_atoms", 1) != 1:
        raise ConfigError(f"num_atoms: got {model_config['num_atoms']!r:.80}, expected 1: no distributional values.")
    return {key: model_config.get(key, default) for key, default in _DEFAULTS.items()}


def activation(model: Mapping[str, Any], part: str) -> Activation:
    """Return this library's name of the activation of `fcnet`, `conv`, `post_fcnet` or `head_fcnet`."""
    name = model[f"{part}_activation"]
    known = _ACTIVATIONS.get(str(name).lower())
    if known is None:
        raise ConfigError(f"{part}_activation: got {name!r:.80}, expected one of {', '.join(_ACTIVATIONS)}.")
    return known


def legacy_network(model: Mapping[str, Any], space: spaces.Space[Any]) -> Kwargs:
    """Describe the network of the old stack as arguments of `RllibNetwork`."""
    post, use_lstm = tuple(model["post_fcnet_hiddens"]), model["use_lstm"]
    if len(_shape(space)) == 3:
        # All convolutions but the last are padded. The last dense layer is not activated; an LSTM goes without them.
        *padded, last = _convolutions(model, space)
        value_layers: list[Layer] = [*padded, (*last[:4], "valid", last[5]), ("flatten", "channels_first")]
        names = [activation(model, "post_fcnet")] * (len(post) - 1) + ["linear"] * bool(post)
        layers = [*value_layers, *(() if use_lstm else _dense(post, names))]
        if post and model["vf_share_layers"] and not use_lstm:
            raise ConfigError("post_fcnet_hiddens: needs vf_share_layers=False on images; RLlib fails otherwise, too.")
    else:
        hiddens = (*model["fcnet_hiddens"], *post)
        name = activation(model, "fcnet" if model["fcnet_hiddens"] else "post_fcnet")
        layers = value_layers = _dense(hiddens, [name] * len(hiddens))
    shared = model["vf_share_layers"] or use_lstm
    return {"layers": layers, "value_layers": None if shared else value_layers, **_common(model)}


def module_network(model: Mapping[str, Any], space: spaces.Space[Any], *, shared: bool) -> Kwargs:
    """Describe the network of the new stack as arguments of `RllibNetwork`."""
    if len(_shape(space)) == 3:
        layers: list[Layer] = [*_convolutions(model, space), ("flatten", "channels_last")]
    else:
        hiddens, norm = model["fcnet_hiddens"], bool(model["fcnet_use_layernorm"])
        layers = _dense(hiddens, [activation(model, "fcnet")] * len(hiddens), norm)
    hiddens, norm = model["head_fcnet_hiddens"], bool(model["head_fcnet_use_layernorm"])
    head = _dense(hiddens, [activation(model, "head_fcnet")] * len(hiddens), norm)
    heads = {"policy_hiddens": head, "value_hiddens": head}
    return {"layers": layers, "value_layers": None if shared else layers, **heads, **_common(model)}


def build(network: Kwargs, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> RLModule:
    """Make an `ActorCritic` where it expresses the network, else an `RllibNetwork`."""
    layers, head = network["layers"], network.get("policy_hiddens", [])
    is_dense = all(kind == "dense" and not settings[-1] for kind, *settings in (*layers, *head))
    names = [sorted({name for _, _, name, _ in part}) for part in (layers, head)] if is_dense else [[]]
    if len(names[0]) != 1 or network.get("dueling") is not None:
        return RllibNetwork(observation_space, action_space, **network)
    settings = ModelSettings(
        fcnet_hiddens=tuple(units for _, units, *_ in layers),
        fcnet_activation=names[0][0],
        head_fcnet_hiddens=tuple(units for _, units, *_ in head),
        head_fcnet_activation=names[1][0] if head else "relu",
        use_lstm=network["cell_size"] is not None,
        lstm_cell_size=1 if network["cell_size"] is None else network["cell_size"],
        max_seq_len=network["max_seq_len"],
        vf_share_layers=network["value_layers"] is None,
        free_log_std=network["free_log_std"],
        log_std_bounds=(-network["log_std_limit"], network["log_std_limit"]),
    )
    return ActorCritic(observation_space, action_space, settings)


def _shape(space: spaces.Space[Any]) -> tuple[int, ...]:
    """Return the shape of a space that RLlib's plain networks take."""
    if not isinstance(space, spaces.Box):
        raise UnsupportedSpaceError(f"observations of {space}: expected a Box, what RLlib's preprocessors put out.")
    return tuple(space.shape)


def _common(model: Mapping[str, Any]) -> Kwargs:
    return {
        "max_seq_len": model["max_seq_len"],
        "cell_size": model["lstm_cell_size"] if model["use_lstm"] else None,
        "free_log_std": bool(model["free_log_std"]),
        "log_std_limit": float(model["log_std_clip_param"]),
    }


def _dense(hiddens: Any, names: list[Any], has_norm: bool = False) -> list[Layer]:
    return [("dense", units, name, has_norm) for units, name in zip(hiddens, names, strict=True)]


def _convolutions(model: Mapping[str, Any], space: spaces.Space[Any]) -> list[Layer]:
    """List the convolutions, all padded unless they say otherwise."""
    shape = _shape(space)
    filters = model["conv_filters"] or _DEFAULT_FILTERS.get(shape[0] if shape[0] == shape[1] else 0)
    if filters is None:
        raise ConfigError(f"conv_filters: got None, expected a list: RLlib has no default for images of shape {shape}.")
    layers: list[Layer] = []
    for channels, kernel, stride, *padding in filters:
        sizes = [(side, side) if isinstance(side, int) else tuple(side) for side in (kernel, stride)]
        layers.append(("convolution", channels, *sizes, padding[0] if padding else "same", activation(model, "conv")))
    return layers
