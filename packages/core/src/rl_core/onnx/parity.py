"""Comparison of an exported graph with the module it was made from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rl_core.errors import RLError
from rl_core.onnx.graph import PolicyGraph
from rl_core.tree import tree_leaves

TOLERANCE = 1e-4
"""Largest difference between PyTorch and onnxruntime: absolute, and as a share of the number."""
_BATCH_SIZES = (1, 3)
_NUM_STEPS = 3


def check_parity(graph: PolicyGraph, session: Any) -> None:
    """Compare onnxruntime with PyTorch over several steps, at batch sizes other than the recorded one.

    Raises:
        RLError: numbers differ.
    """
    rng = np.random.default_rng(1)
    num_actions = graph.outputs.index("dist_inputs")
    for batch in _BATCH_SIZES:
        states = list(tree_leaves(graph.module.initial_state(batch)))
        for _ in range(_NUM_STEPS):
            leaves = (*graph.draw_obs(batch, rng), *states)
            feed = {name: leaf.numpy() for name, leaf in zip(graph.inputs, leaves, strict=True)}
            try:
                found = [torch.from_numpy(array) for array in session.run(graph.outputs, feed)]
            except Exception as error:  # onnxruntime's own, which have no common base
                raise RLError(f"export_onnx: onnxruntime fails at batch size {batch}: {error}") from error
            with torch.inference_mode():
                expected = graph(*leaves)[num_actions:]
                # The mode of onnxruntime's own inputs: where two choices are alike, the last digit decides.
                modes = tree_leaves(graph.module.distribution.mode(found[num_actions]))
            for name, own, other in zip(graph.outputs, (*modes, *expected), found, strict=True):
                _compare(name, own, other, batch)
            states = expected[1:]


def _compare(name: str, expected: Tensor, found: Tensor, batch: int) -> None:
    """Refuse an output of onnxruntime that is not PyTorch's."""
    if expected.shape == found.shape and expected.dtype == found.dtype:
        if torch.allclose(found.double(), expected.double(), rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True):
            return
        difference = f"numbers that differ by up to {(found.double() - expected.double()).abs().max():.2g}"
    else:
        difference = f"{found.dtype} {tuple(found.shape)} instead of {expected.dtype} {tuple(expected.shape)}"
    raise RLError(
        f"export_onnx: at batch size {batch}, onnxruntime gives {difference} in {name!r}. Exporting records what a "
        "module does on one input: it must not depend on Python branches on values, or on random numbers."
    )
