"""Map, index and stack trees: nested dicts and tuples whose leaves are arrays or tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

Tree = Any


def tree_map(fn: Callable[..., Any], tree: Tree, *others: Tree) -> Tree:
    """Apply `fn` to the leaves of one or several trees of equal structure."""
    if isinstance(tree, dict):
        return {key: tree_map(fn, value, *(other[key] for other in others)) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(tree_map(fn, *leaves) for leaves in zip(tree, *others, strict=True))
    return fn(tree, *others)


def tree_leaves(tree: Tree) -> Iterator[Any]:
    """Yield the leaves in order of the dict keys as given and of the tuple positions."""
    if isinstance(tree, dict):
        for value in tree.values():
            yield from tree_leaves(value)
    elif isinstance(tree, tuple):
        for value in tree:
            yield from tree_leaves(value)
    else:
        yield tree


def tree_zip(fn: Callable[..., Any], trees: Sequence[Tree]) -> Tree:
    """Combine several trees of equal structure leaf by leaf: `fn([leaf of each tree])`."""
    first = trees[0]
    if isinstance(first, dict):
        return {key: tree_zip(fn, [tree[key] for tree in trees]) for key in first}
    if isinstance(first, tuple):
        return tuple(tree_zip(fn, parts) for parts in zip(*trees, strict=True))
    return fn(trees)
