"""Minibatches of a `Batch`, drawn by index tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from rl_core._internal.tree import tree_map
from rl_core.records import Batch


def minibatches(batch: Batch, *, size: int, num_epochs: int, generator: torch.Generator) -> Iterator[Batch]:
    """Yield shuffled minibatches, every sample once per epoch.

    The number of samples is split evenly: none is dropped and no minibatch is a small rest.

    Args:
        batch: N samples.
        size: Largest number of samples of a minibatch.
        num_epochs: Passes over the samples, each in an order of its own.
        generator: Source of the orders.
    """
    num_samples = len(batch.advantage)
    num_parts = -(-num_samples // size)
    sizes = [num_samples * (part + 1) // num_parts - num_samples * part // num_parts for part in range(num_parts)]
    columns = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    for _ in range(num_epochs):
        order = torch.randperm(num_samples, generator=generator).to(batch.advantage.device)
        parts = {name: _split(column, order, sizes) for name, column in columns.items()}
        for part in range(num_parts):
            yield Batch(**{name: _part(column, part) for name, column in parts.items()})


def _split(column: Any, order: Tensor, sizes: list[int]) -> Any:
    """Reorder each leaf once and cut it into views."""
    return tree_map(lambda leaf: _Parts(leaf.index_select(0, order).split(sizes)), column)


class _Parts:
    """The parts of one leaf (its own class, so that a tree does not take the tuple for a branch)."""

    __slots__ = ("views",)

    def __init__(self, views: tuple[Tensor, ...]) -> None:
        self.views = views


def _part(column: Any, index: int) -> Any:
    """Take one part of each leaf."""
    return tree_map(lambda parts: parts.views[index], column)
