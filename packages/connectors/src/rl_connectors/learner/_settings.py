"""Checks of settings that several learner connectors share."""

from __future__ import annotations

import math

from rl_core.errors import ConfigError


def require_number(
    piece: object, name: str, *, above: float | None = None, at_least: float | None = None, at_most: float | None = None
) -> None:
    """Refuse a setting that is no finite number in its range.

    Args:
        piece: The connector, for its class and the setting.
        name: Of the setting.
        above: Open lower bound.
        at_least: Closed lower bound.
        at_most: Closed upper bound.

    Raises:
        ConfigError: naming the connector, the setting, and what is expected.
    """
    value = getattr(piece, name)
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    good = good and (above is None or value > above) and (at_least is None or value >= at_least)
    if not (good and (at_most is None or value <= at_most)):
        limits = [
            f"{word} {bound:g}"
            for word, bound in (("above", above), ("of at least", at_least), ("of at most", at_most))
            if bound is not None
        ]
        raise ConfigError(
            f"{type(piece).__name__}: {name}: got {value!r}, expected a finite number {' and '.join(limits)}".rstrip()
            + "."
        )


def require_count(piece: object, name: str, *, at_most: int | None = None) -> None:
    """Refuse a setting that is no whole number of at least 1.

    Raises:
        ConfigError: naming the connector, the setting, and what is expected.
    """
    value = getattr(piece, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or (at_most is not None and value > at_most):
        expected = "an int of at least 1" if at_most is None else f"an int from 1 to {at_most}"
        raise ConfigError(f"{type(piece).__name__}: {name}: got {value!r}, expected {expected}.")


def require_layers(piece: object, name: str) -> None:
    """Refuse hidden layers that are not a tuple of one or more numbers of units.

    Raises:
        ConfigError: naming the connector, the setting, and what is expected.
    """
    value = getattr(piece, name)
    good = isinstance(value, tuple) and len(value) > 0
    if not (good and all(isinstance(size, int) and not isinstance(size, bool) and size > 0 for size in value)):
        raise ConfigError(
            f"{type(piece).__name__}: {name}: got {value!r}, expected a tuple of numbers of units, such as (128,)."
        )
