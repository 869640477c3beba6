"""Minibatches of a `Batch`, drawn by index tensors."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from rl_core.learning.segments import segment_minibatches, segment_pieces
from rl_core.records import Batch
from rl_core.tree import tree_map

if TYPE_CHECKING:
    from rl_core.learning.peers import Peers

SMALL = 1 << 20
"""Bytes of a column that is put in order once per epoch; larger ones are part by part."""


def minibatches(
    batch: Batch, *, size: int, num_epochs: int, generator: torch.Generator, peers: Peers | None = None
) -> Iterator[Batch]:
    """Yield shuffled minibatches, every sample once per epoch.

    The number of samples is split evenly: none is dropped and no minibatch is a small rest. Of a recurrent module's
    batch, whole segments are shuffled.

    Args:
        batch: N samples.
        size: Largest number of samples of a minibatch.
        num_epochs: Passes over the samples, each in an order of its own.
        generator: Source of the orders.
        peers: Learners that take every step together: all get as many minibatches as the one with the fewest samples.
    """
    if batch.segments is not None:
        yield from segment_minibatches(batch, size=size, num_epochs=num_epochs, generator=generator, peers=peers)
        return
    num_samples = len(batch.advantage)
    num_parts = -(-num_samples // size)
    if peers is not None:
        num_parts = peers.smallest(num_parts)
    if not num_parts:
        return
    sizes = [num_samples * (part + 1) // num_parts - num_samples * part // num_parts for part in range(num_parts)]
    columns = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    columns = {name: column for name, column in columns.items() if column is not None}
    # To put all of a column in order at once takes fewer calls, but its memory twice.
    small = [name for name, of in columns.items() if isinstance(of, torch.Tensor) and of.nbytes <= SMALL]
    whole = [columns.pop(name) for name in small]
    for _ in range(num_epochs):
        order = torch.randperm(num_samples, generator=generator).to(batch.advantage.device)
        parts = [column.index_select(0, order).split_with_sizes(sizes) for column in whole]
        for place, index in enumerate(order.split_with_sizes(sizes)):
            take = operator.methodcaller("index_select", 0, index)
            own = {name: tree_map(take, column) for name, column in columns.items()}
            yield Batch(**own, **{name: part[place] for name, part in zip(small, parts, strict=True)})


def pieces_of(minibatch: Batch, num_pieces: int) -> list[Batch]:
    """Cut a minibatch into pieces of about the same number of samples, or of segments; or fewer if it is too small."""
    if num_pieces == 1:
        return [minibatch]
    if minibatch.real is not None:
        return segment_pieces(minibatch, minibatch.real, num_pieces)
    columns = {field.name: getattr(minibatch, field.name) for field in dataclasses.fields(minibatch)}
    columns = {name: column for name, column in columns.items() if column is not None}
    size = len(minibatch.advantage)
    ends = [size * piece // num_pieces for piece in range(num_pieces + 1)]
    cuts = [slice(*pair) for pair in pairwise(ends) if pair[0] < pair[1]]
    return [
        Batch(**{name: tree_map(operator.itemgetter(cut), column) for name, column in columns.items()}) for cut in cuts
    ]
