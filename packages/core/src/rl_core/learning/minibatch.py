"""Minibatches of a `Batch`, drawn by index tensors."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator

import torch

from rl_core.learning.segments import segment_minibatches
from rl_core.records import Batch
from rl_core.tree import tree_map


def minibatches(batch: Batch, *, size: int, num_epochs: int, generator: torch.Generator) -> Iterator[Batch]:
    """Yield shuffled minibatches, every sample once per epoch.

    The number of samples is split evenly: none is dropped and no minibatch is a small rest. Of a recurrent module's
    batch, whole segments are shuffled.

    Args:
        batch: N samples.
        size: Largest number of samples of a minibatch.
        num_epochs: Passes over the samples, each in an order of its own.
        generator: Source of the orders.
    """
    if batch.segments is not None:
        yield from segment_minibatches(batch, size=size, num_epochs=num_epochs, generator=generator)
        return
    num_samples = len(batch.advantage)
    num_parts = -(-num_samples // size)
    sizes = [num_samples * (part + 1) // num_parts - num_samples * part // num_parts for part in range(num_parts)]
    columns = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    columns = {name: column for name, column in columns.items() if column is not None}
    for _ in range(num_epochs):
        order = torch.randperm(num_samples, generator=generator).to(batch.advantage.device)
        for index in torch.split(order, sizes):
            take = operator.methodcaller("index_select", 0, index)
            yield Batch(**{name: tree_map(take, column) for name, column in columns.items()})
