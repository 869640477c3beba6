"""Checks of settings that several pieces share."""

from __future__ import annotations

import math


def is_whole(value: object, least: int) -> bool:
    """Whether a setting is an int of at least so much; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_positive(value: object) -> bool:
    """Whether a setting is a finite number above 0; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def is_names(value: object) -> bool:
    """Whether a setting is a tuple of different strings, at least one."""
    if not isinstance(value, tuple) or not all(isinstance(name, str) for name in value):
        return False
    return 0 < len(value) == len(set(value))
