"""Of which kind the values of RLlib's model settings are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from rl_core.errors import ConfigError
from rl_core.migrate.inert import shown


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


def _is_list_of(is_one: Callable[[Any], bool], value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(is_one, value))


def _is_side(value: Any) -> bool:
    return _is_count(value) or (_is_list_of(_is_count, value) and len(value) == 2)


def _is_filter(value: Any) -> bool:
    is_list = isinstance(value, list | tuple) and 3 <= len(value) <= 4
    return (
        is_list and _is_count(value[0]) and all(map(_is_side, value[1:3])) and [*value[3:]] in ([], ["same"], ["valid"])
    )


_SIZES = ("a list of whole numbers from 1 on", partial(_is_list_of, _is_count))
_COUNT = ("a whole number from 1 on", _is_count)
_FLAG = ("True or False", lambda value: isinstance(value, int) and value in (0, 1))
_KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("fcnet_hiddens", "post_fcnet_hiddens", "head_fcnet_hiddens", "fusionnet_hiddens"), _SIZES),
    **dict.fromkeys(("lstm_cell_size", "max_seq_len"), _COUNT),
    **dict.fromkeys(("free_log_std", "vf_share_layers", "use_lstm", "dueling"), _FLAG),
    **dict.fromkeys(("fcnet_use_layernorm", "head_fcnet_use_layernorm"), _FLAG),
    "log_std_clip_param": (
        "a number above 0",
        lambda value: isinstance(value, int | float) and (value == math.inf or 0 < value < 1e300) and value is not True,
    ),
    "conv_filters": (
        "None or a list of [channels, kernel, stride]",
        lambda value: value is None or _is_list_of(_is_filter, value),
    ),
}
"""What RLlib takes for a setting, and what tells whether a value is that."""


def check_kinds(settings: Any) -> None:
    """Look at the kinds of values in a mapping of RLlib's model settings.

    Raises:
        ConfigError: it is no mapping, or names a setting whose value is of another kind.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"got {shown(settings)}, expected RLlib's model settings: a mapping by their names.")
    for name, value in settings.items():
        what, fits = _KINDS.get(name, ("", None)) if isinstance(name, str) else ("", None)
        if fits is not None and not fits(value):
            raise ConfigError(f"{name}: got {shown(value)}, expected {what}.")
