"""Random numbers for each env slot that follow from saved keys alone, so that a restored run draws the same ones.

SplitMix64: a slot's key is a counter that grows by a constant, and a random number is the hash of the counter.

Source: Steele, Lea & Flood 2014, "Fast Splittable Pseudorandom Number Generators", figure 17 (its mixing function is
variant 13 of Stafford).
"""

from __future__ import annotations

import numpy as np

_STRIDE = np.uint64(0x9E3779B97F4A7C15)
"""What a counter grows by: odd, so that it takes all 2^64 values."""


def initial_keys(seed: int, num_slots: int) -> np.ndarray:
    """Make the keys `[B]`, uint64, of all slots; those of neighbouring seeds have nothing in common."""
    start = _mix(np.array([seed % 2**64], np.uint64))
    return _mix(start + _STRIDE * np.arange(1, num_slots + 1, dtype=np.uint64))


def uniforms(keys: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw `num` numbers per slot, uniform on [0, 1).

    Args:
        keys: `[B]`, uint64.
        num: How many, at least 1.

    Returns:
        The keys to draw the next numbers with, and `[B, num]`, float64.
    """
    counters = keys[:, np.newaxis] + _STRIDE * np.arange(1, num + 1, dtype=np.uint64)
    return counters[:, -1].copy(), (_mix(counters) >> 11) * 2.0**-53


def normals(keys: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw `num` numbers per slot from the standard normal distribution; see `uniforms`.

    Source: Box & Muller 1958, "A Note on the Generation of Random Normal Deviates".
    """
    half = (num + 1) // 2
    keys, uniform = uniforms(keys, 2 * half)
    radius = np.sqrt(-2.0 * np.log1p(-uniform[:, :half]))
    angle = 2.0 * np.pi * uniform[:, half:]
    return keys, np.concatenate((radius * np.cos(angle), radius * np.sin(angle)), axis=1)[:, :num]


def _mix(bits: np.ndarray) -> np.ndarray:
    """Hash 64 bits to 64 bits, one to one."""
    mixed: np.ndarray = (bits ^ (bits >> 30)) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> 27)) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> 31
    return mixed
