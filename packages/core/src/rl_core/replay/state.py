"""The stored form of a ring: only what is filled, as tensors and plain numbers, for checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from rl_core.errors import CheckpointError
from rl_core.replay.columns import TreeColumns
from rl_core.replay.ring import FINAL, INVALID, Ring


def pack_ring(ring: Ring) -> dict[str, Any]:
    """Copy the filled rows `[R, B, ...]` of all columns, and the final observations `[K, ...]` with their places."""
    places, finals = ring.finals.live()
    return {
        "head": ring.head,
        "size": ring.size,
        "obs": _pack(ring.obs, ring),
        "action": _pack(ring.action, ring),
        "state": _pack(ring.state, ring),
        "reward": torch.from_numpy(ring.reward[: ring.num_filled].copy()),
        "flags": torch.from_numpy(ring.flags[: ring.num_filled].copy()),
        "final_places": torch.from_numpy(places),
        "final_obs": ring.obs.tree(finals),
    }


def unpack_ring(ring: Ring, packed: Mapping[str, Any]) -> None:
    """Fill a new ring with what `pack_ring` gave.

    Raises:
        CheckpointError: the numbers or the lengths of the columns contradict each other.
    """
    head, size = packed["head"], packed["size"]
    full = size == ring.num_rows - 1
    ring.size, num_rows = size, ring.num_rows if full else size + 1
    flags, reward = packed["flags"].numpy(), packed["reward"].numpy()
    places = packed["final_places"].numpy()
    lengths = {len(flags), len(reward)}
    for name, columns in (("obs", ring.obs), ("action", ring.action), ("state", ring.state)):
        lengths.update(len(leaf) * ring.num_slots for leaf in columns.leaves(packed[name]))
    consistent = 0 <= head < ring.num_rows and (full or head == size) and lengths == {num_rows * ring.num_slots}
    if not consistent or not np.array_equal(np.flatnonzero(flags & FINAL), np.sort(places)):
        raise CheckpointError("replay: the checkpoint's buffer contradicts itself; it is damaged. Use an earlier one.")
    ring.head = head
    for name, columns in (("obs", ring.obs), ("action", ring.action), ("state", ring.state)):
        columns.write(0, packed[name])
    ring.reward[: len(reward)] = reward
    ring.flags[: len(flags)] = flags
    ring.num_invalid = int(np.count_nonzero(flags & INVALID)) - ring.num_slots  # less the head's row
    if len(places):
        ring.finals.push(places, ring.obs.leaves(packed["final_obs"]))


def _pack(columns: TreeColumns, ring: Ring) -> Any:
    """Copy the filled rows of a tree of columns."""
    num_rows = ring.num_filled // ring.num_slots
    return columns.tree([column[:num_rows].copy() for column in columns.rows])
