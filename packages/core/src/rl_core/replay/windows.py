"""Windows of successive steps in a ring, cut where the episode or what is stored ends. k is steps of a window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rl_core.replay.ring import END, INVALID, TERMINATED, Ring


@dataclass(frozen=True, slots=True, kw_only=True)
class Returns:
    """Discounted sums over N windows, and where the windows stop."""

    reward: np.ndarray
    """`[N]` float32: discounted sum of the rewards."""
    discount: np.ndarray
    """`[N]` float32: `gamma**k`, 0 where the last step terminated."""
    last: np.ndarray
    """`[N]` int64: place of the last step."""
    flags: np.ndarray
    """`[N]` uint8: flags of the last step."""


def trace(ring: Ring, start: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow the slots of N places for `length` rows.

    Args:
        ring: Where they are.
        start: `[N]`, places of real steps.
        length: L.

    Returns:
        `[L, N]` each: places; flags; and whether the step is part of the window, which the end of the episode, a step
        that is not real and the head of the ring close.
    """
    places = (start + ring.num_slots * np.arange(length)[:, None]) % ring.num_places
    flags = ring.flags.take(places)
    inside = (flags & INVALID) == 0
    inside[1:] &= (flags[:-1] & END) == 0
    return places, flags, np.logical_and.accumulate(inside, axis=0)


def one_step(ring: Ring, start: np.ndarray, gamma: float) -> Returns:
    """Returns of single steps: the same as `n_step` with 1, in less time."""
    flags = ring.flags.take(start)
    discount = np.float32(gamma) * ((flags & TERMINATED) == 0)
    return Returns(reward=ring.reward.take(start), discount=discount, last=start, flags=flags)


def n_step(ring: Ring, start: np.ndarray, most: np.ndarray | int, gamma: float) -> Returns:
    """Returns of windows: `sum of gamma**i * reward_i` for i < k.

    Args:
        ring: Where the steps are.
        start: `[N]`, places of real steps.
        most: `[N]` or one for all: steps of a window that nothing cuts short, at least 1.
        gamma: Discount factor per step.

    Source: Sutton and Barto 2018, equation 7.1.
    """
    length = int(np.max(most))
    places, flags, inside = trace(ring, start, length)
    inside &= np.arange(length)[:, None] < most
    num_steps = np.count_nonzero(inside, axis=0)
    powers = gamma ** np.arange(length + 1)
    reward = np.where(inside, ring.reward.take(places) * powers[:length, None], 0.0).sum(0)
    last = (num_steps - 1, np.arange(len(start)))
    last_flags = flags[last]
    discount = np.where(last_flags & TERMINATED, 0.0, powers[num_steps])
    return Returns(
        reward=reward.astype(np.float32), discount=discount.astype(np.float32), last=places[last], flags=last_flags
    )
