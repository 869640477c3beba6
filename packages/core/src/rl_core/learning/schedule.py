"""Values that change with the number of env steps."""

from __future__ import annotations

from itertools import pairwise

from rl_core.config.settings import Schedule


def value_at(schedule: Schedule, env_steps: int) -> float:
    """Read a schedule: the constant, or the point on the lines between `((env_step, value), ...)`.

    Before the first and after the last point the value stays what it is there.
    """
    if isinstance(schedule, float):
        return schedule
    if env_steps <= schedule[0][0]:
        return schedule[0][1]
    for (start, before), (end, after) in pairwise(schedule):
        if env_steps < end:
            return before + (after - before) * (env_steps - start) / (end - start)
    return schedule[-1][1]
