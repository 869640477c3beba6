"""RLlib's `DefaultModelConfig`, of its new API stack, as settings of the default modules here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args

from rl_core.config.check import nearest
from rl_core.errors import ConfigError
from rl_core.migrate.kinds import check_kinds
from rl_core.migrate.model_config import activation
from rl_core.module.settings import KernelInitializer, ModelSettings

_ACTIVATED = ("fcnet", "conv", "head_fcnet", "fusionnet")
_INITIALIZED = (*_ACTIVATED, "lstm")
_SAME = (
    "fcnet_hiddens",
    "fcnet_use_layernorm",
    "head_fcnet_hiddens",
    "head_fcnet_use_layernorm",
    "free_log_std",
    "vf_share_layers",
    "use_lstm",
    "max_seq_len",
    "lstm_cell_size",
    "fusionnet_hiddens",
)
"""Settings with the name and meaning they have here."""
_DEFAULTS: dict[str, Any] = {
    "fcnet_hiddens": (256, 256),
    "fcnet_activation": "tanh",
    "fcnet_use_layernorm": False,
    "conv_filters": None,
    "conv_activation": "relu",
    "head_fcnet_hiddens": (),
    "head_fcnet_activation": "relu",
    "head_fcnet_use_layernorm": False,
    "free_log_std": False,
    "log_std_clip_param": 20.0,
    "vf_share_layers": True,
    "use_lstm": False,
    "max_seq_len": 20,
    "lstm_cell_size": 256,
    "lstm_use_prev_action": False,
    "lstm_use_prev_reward": False,
    "fusionnet_hiddens": (256, 256),
    "fusionnet_activation": "tanh",
    **{
        f"{part}_{which}_initializer{suffix}": None
        for part in _INITIALIZED
        for which in ("kernel", "bias")
        for suffix in ("", "_kwargs")
    },
}
"""All fields of `DefaultModelConfig` in ray 2.60, and what they are unless given."""


def model_settings_from_default_config(config: Any) -> ModelSettings:
    """Translate RLlib's `DefaultModelConfig` to settings of this library's default modules.

    What RLlib leaves to PyTorch, initial weights, is left to PyTorch here too. Convolutions are padded as RLlib does;
    without `conv_filters` they are this library's.

    Args:
        config: A `DefaultModelConfig`, or a mapping of its fields; missing ones take RLlib's defaults.

    Raises:
        ConfigError: names a field that is unknown, or whose value has no counterpart: `lstm_use_prev_action` and
            `lstm_use_prev_reward`, for which connectors append previous actions and rewards to the observations
            (RLlib's new stack has these two fields and does not use them).
    """
    is_record = dataclasses.is_dataclass(config) and not isinstance(config, type)
    given: Mapping[str, Any] = dataclasses.asdict(config) if is_record else config
    check_kinds(given)
    for name in given:
        if name not in _DEFAULTS:
            raise ConfigError(f"{name!r:.80} is no field of DefaultModelConfig.{nearest(str(name), _DEFAULTS)}")
    model = {**_DEFAULTS, **given}
    for name in ("lstm_use_prev_action", "lstm_use_prev_reward"):
        if model[name]:
            raise ConfigError(
                f"{name}: got {model[name]!r:.80}, expected False: a module here sees what is in its observations. "
                "Put a connector in front of it that appends previous actions and rewards."
            )
    values: dict[str, Any] = {name: model[name] for name in _SAME} | _initializers(model)
    values |= {f"{part}_activation": activation(model, part) for part in _ACTIVATED}
    if model["conv_filters"] is not None:
        values["conv_filters"] = tuple((*entry, "same") for entry in model["conv_filters"])
    bound = model["log_std_clip_param"]
    return ModelSettings(**values, post_fcnet_hiddens=(), log_std_bounds=(-bound, bound), initializer="torch")


def _initializers(model: Mapping[str, Any]) -> dict[str, Any]:
    """Name the functions of `torch.nn.init` that RLlib takes by name or as they are."""
    result: dict[str, Any] = {}
    for part in _INITIALIZED:
        for name in (f"{part}_kernel_initializer", f"{part}_bias_initializer"):
            value = model[name]
            if value is not None:
                known = str(getattr(value, "__name__", value)).lower().removesuffix("_")
                if known not in get_args(KernelInitializer):
                    raise ConfigError(f"{name}: got {value!r:.80}, expected a function of torch.nn.init, or its name.")
                result[name] = known
            result[f"{name}_kwargs"] = dict(model[f"{name}_kwargs"] or {})
    return result
