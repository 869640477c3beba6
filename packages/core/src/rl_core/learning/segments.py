"""Segments for training recurrent modules: runs of consecutive steps of one episode, padded to equal length."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rl_core.records import Batch
from rl_core.tree import tree_leaves, tree_map

if TYPE_CHECKING:
    from rl_core.learning.peers import Peers


def cut_segments(done: Tensor, valid: Tensor | None, length: int) -> Tensor:
    """Cut a rollout into segments of at most `length` steps that never cross the end of an episode.

    Args:
        done: `[T, B]`, bool: the episode ended with this step.
        valid: `[T, B]`, bool: False where a step is artificial and belongs to no segment; None when all are real.
        length: L, the most steps of a segment.

    Returns:
        `[S, L]`, int64: positions `t * B + b` of the steps, -1 beyond the end of a segment.
    """
    num_steps, num_slots = done.shape
    time = torch.arange(num_steps, device=done.device).unsqueeze(1).expand(num_steps, num_slots)
    starts = torch.ones_like(done)
    starts[1:] = done[:-1]
    if valid is not None:
        starts[1:] |= ~valid[:-1]
    run_start = torch.where(starts, time, 0).cummax(0).values
    starts |= (time - run_start) % length == 0
    if valid is not None:
        starts &= valid
    slot, first = starts.t().nonzero(as_tuple=True)  # slot by slot, in order of time
    steps = first.unsqueeze(1) + torch.arange(length, device=done.device)  # [S, L]
    ends = torch.cat((first[1:], first.new_tensor([num_steps])))
    ends[:-1][slot[1:] != slot[:-1]] = num_steps
    inside = steps < ends.unsqueeze(1)
    index = steps.clamp_(max=num_steps - 1) * num_slots + slot.unsqueeze(1)
    if valid is not None:
        inside &= valid.flatten()[index]
    return torch.where(inside, index, -1)


def segment_minibatches(
    batch: Batch, *, size: int, num_epochs: int, generator: torch.Generator, peers: Peers | None = None
) -> Iterator[Batch]:
    """Yield minibatches of whole segments, every segment once per epoch.

    Args:
        batch: N samples and the segments they form.
        size: Samples of a minibatch, on average at most.
        num_epochs: Passes over the segments, each in an order of its own.
        generator: Source of the orders.
        peers: As in `minibatches`.
    """
    segments = batch.segments
    assert segments is not None
    inside = segments >= 0
    num_segments, num_samples = len(segments), int(inside.sum())
    num_parts = min(-(-num_samples // size), num_segments)
    if peers is not None:
        num_parts = peers.smallest(num_parts)
    if not num_parts:
        return
    sizes = [num_segments * (part + 1) // num_parts - num_segments * part // num_parts for part in range(num_parts)]
    lengths = inside.sum(1)
    for _ in range(num_epochs):
        order = torch.randperm(num_segments, generator=generator).to(segments.device)
        for chosen in torch.split(order, sizes):
            longest = int(lengths[chosen].max())
            yield _gather(batch, segments[chosen, :longest].t())


def segment_pieces(minibatch: Batch, real: Tensor, num_pieces: int) -> list[Batch]:
    """Cut a minibatch of segments into pieces of about as many segments each, or fewer if there are too few.

    Args:
        minibatch: As `segment_minibatches` yields them.
        real: Its positions of samples.
        num_pieces: How many.
    """
    num_segments = next(tree_leaves(minibatch.obs)).shape[1]
    ends = [num_segments * piece // num_pieces for piece in range(num_pieces + 1)]
    step, segment = real // num_segments, real % num_segments
    pieces = []
    for start, end in pairwise(ends):
        ours = ((segment >= start) & (segment < end)).nonzero().squeeze(-1)
        if not len(ours):
            continue
        columns: dict[str, Any] = {
            field.name: tree_map(lambda leaf, ours=ours: leaf.index_select(0, ours), getattr(minibatch, field.name))
            for field in dataclasses.fields(minibatch)
            if field.name not in ("obs", "state", "segments", "real")
        }
        columns["obs"] = tree_map(lambda leaf, cut=slice(start, end): leaf[:, cut], minibatch.obs)
        columns["state"] = tree_map(lambda leaf, cut=slice(start, end): leaf[cut], minibatch.state)
        pieces.append(Batch(**columns, real=step[ours] * (end - start) + segment[ours] - start))
    return pieces


def without_padding(dist_inputs: Tensor, value: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """Pick the real samples of a module's outputs for segments: `[L, S, P]` and `[L, S]` to `[N, P]` and `[N]`."""
    return dist_inputs.flatten(0, 1).index_select(0, real), value.flatten().index_select(0, real)


def _gather(batch: Batch, index: Tensor) -> Batch:
    """Pick the samples of segments; `index` is `[L, S]`, -1 for padding, which repeats the segment's first step."""
    num_steps, num_segments = index.shape
    real = (index >= 0).flatten().nonzero().squeeze(-1)
    padded = torch.where(index >= 0, index, index[0])
    flat = index.flatten()[real]

    def steps(leaf: Tensor) -> Tensor:
        return leaf.index_select(0, padded.flatten()).view(num_steps, num_segments, *leaf.shape[1:])

    columns: dict[str, Any] = {
        field.name: getattr(batch, field.name)
        for field in dataclasses.fields(batch)
        if field.name not in ("obs", "state", "segments", "real")
    }
    return Batch(
        obs=tree_map(steps, batch.obs),
        state=tree_map(lambda leaf: leaf.index_select(0, padded[0]), batch.state),
        real=real,
        **{name: tree_map(lambda leaf: leaf.index_select(0, flat), column) for name, column in columns.items()},
    )
