"""Preallocated columns `[T, ...]` of a rollout, written in place as the steps come."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rl_core._internal.tree import tree_map
from rl_core.records import Tree


def allocate(example: Tree, num_rows: int) -> Tree:
    """Make columns for `num_rows` rows like `example` `[B, ...]`; floats are kept in single precision."""

    def column(leaf: np.ndarray) -> np.ndarray:
        dtype = np.float32 if leaf.dtype.kind == "f" else leaf.dtype
        return np.empty((num_rows, *leaf.shape), dtype)

    return tree_map(column, example)


def write(columns: Tree, row: int, value: Tree) -> None:
    """Copy `value` `[B, ...]` into one row of each column."""
    if isinstance(columns, np.ndarray):
        columns[row] = value
    elif isinstance(columns, dict):
        for key, column in columns.items():
            write(column, row, value[key])
    else:
        for column, part in zip(columns, value, strict=True):
            write(column, row, part)


def as_tensors(tree: Tree) -> Tree:
    """View numpy arrays as tensors, without a copy."""
    return tree_map(torch.from_numpy, tree)


def row_of(tree: Tree, row: int) -> Any:
    """View one row of each leaf."""
    if isinstance(tree, torch.Tensor):
        return tree[row]
    return tree_map(lambda leaf: leaf[row], tree)
