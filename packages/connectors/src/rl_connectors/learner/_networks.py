"""What the connectors with networks of their own share: reproducible initial weights, and minibatches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from rl_core.rng import stream_seed

M = TypeVar("M", bound=nn.Module)


def seeded(seed: int, make: Callable[[], M]) -> M:
    """Make a network with weights that depend on nothing but the seed; torch's global random state stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return make()


def minibatch_indices(
    num_samples: int, *, size: int, num_epochs: int, stream: tuple[int, int]
) -> Iterator[np.ndarray[Any, Any]]:
    """Yield shuffled index arrays, every sample once per epoch, split evenly.

    Args:
        num_samples: N; nothing is yielded for 0.
        size: Most samples of a minibatch.
        num_epochs: Passes, each in an order of its own.
        stream: Seed and number of the rollout, which decide the orders.
    """
    rng = np.random.default_rng(stream_seed(stream[0], "minibatches", stream[1]))
    num_parts = -(-num_samples // size)
    for _ in range(num_epochs if num_samples else 0):
        yield from np.array_split(rng.permutation(num_samples), num_parts)
