"""Half precision for modules that act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from rl_core.module.rl_module import RLModule
from rl_core.tree import Tree, tree_map

HALF: Final[Mapping[str, torch.dtype]] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
"""By the names that settings have for them."""


def act_in_half(module: RLModule, dtype: torch.dtype) -> None:
    """Keep a module's weights in half precision and compute with them; what it gives is float32 as before.

    Weights that are loaded into it are cast once, not in every call.

    Args:
        module: That only acts.
        dtype: Half precision.
    """
    module.to(dtype)
    module.forward_policy = partial(_forward, module.forward_policy, dtype)  # type: ignore[method-assign]


def act_in_single(module: RLModule) -> None:
    """Undo `act_in_half`: compute in float32, with the weights as they were rounded."""
    vars(module).pop("forward_policy", None)
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.dtype in HALF.values():
            tensor.data = tensor.data.float()


def _forward(
    forward_policy: Callable[..., tuple[Tensor, Tree]], dtype: torch.dtype, *arguments: Any
) -> tuple[Tensor, Tree]:
    with torch.autocast("cpu", dtype):
        dist_inputs, state = forward_policy(*arguments)
    return dist_inputs.float(), tree_map(_widened, state)


def _widened(leaf: Tensor) -> Tensor:
    return leaf.float() if leaf.is_floating_point() else leaf
