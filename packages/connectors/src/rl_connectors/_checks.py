"""Checks of settings that several pieces share."""

from __future__ import annotations

import math


def is_whole(value: object, least: int) -> bool:
    """Whether a setting is an int of at least so much; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: object, *, above: float = -math.inf) -> bool:
    """Whether a setting is a finite number above a bound; True and False are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > above
