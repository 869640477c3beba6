"""Checks of the settings an env is made with."""

from __future__ import annotations

import math


def whole_number(where: str, value: object, at_least: int = 1) -> int:
    """Return `value` if it is a whole number of at least `at_least`.

    Args:
        where: Env and setting, for the message: `"SimpleCorridor: length"`.
        value: What the user gave.
        at_least: The smallest number that makes sense.

    Raises:
        ValueError: If it is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise ValueError(f"{where} is {value!r}, expected a whole number >= {at_least}.")
    return value


def finite_number(where: str, value: object) -> float:
    """Return `value` as a float if it is a finite number.

    Raises:
        ValueError: If it is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{where} is {value!r}, expected a finite number.")
    return float(value)


def share(where: str, value: object) -> float:
    """Return `value` as a float if it lies in [0, 1].

    Raises:
        ValueError: If it is anything else.
    """
    number = finite_number(where, value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{where} is {value!r}, expected a number in [0, 1].")
    return number
