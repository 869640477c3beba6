"""One step of a policy's module as a function of flat inputs and outputs with names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from rl_core.errors import RLError
from rl_core.module.half import act_in_single
from rl_core.module.images import ImageEncoder
from rl_core.module.rl_module import RLModule
from rl_core.policy import Policy
from rl_core.tree import Tree, tree_leaves, tree_map, tree_zip

_RANGE = 10.0
"""Drawn floats are kept in [-10, 10]: those of spaces with huge bounds are of no use for a comparison."""
_MAX_DRAWS = 100


class PolicyGraph(nn.Module):
    """What is exported: from the leaves of observation and recurrent state to action, distribution inputs, next state.

    `inputs` and `outputs` are the names in order. `obs_names` and `action_names` are the same names in trees of the
    structure of the module's observations and actions.
    """

    def __init__(self, policy: Policy) -> None:
        """Copy the policy's module.

        Args:
            policy: It is not changed.
        """
        super().__init__()
        self.module = _in_float32(policy.module)
        self._space = copy.deepcopy(policy.obs_chain.output_space)  # drawing from a space changes it
        self.obs_names = _named("obs", self._space.sample())
        self._num_obs = len(list(tree_leaves(self.obs_names)))
        self._state = self.module.initial_state(1)
        num_states = len(list(tree_leaves(self._state)))
        dist_inputs = torch.zeros(1, self.module.distribution.num_inputs)
        self.action_names = _named("action", self.module.distribution.mode(dist_inputs))
        self.inputs = [*tree_leaves(self.obs_names), *(f"state.{place}" for place in range(num_states))]
        next_states = [f"next_state.{place}" for place in range(num_states)]
        self.outputs = [*tree_leaves(self.action_names), "dist_inputs", *next_states]

    def forward(self, *leaves: Tensor) -> tuple[Tensor, ...]:
        """Take one step: tensors in the order of `inputs` to tensors in the order of `outputs`."""
        dist_inputs, state = self.module.forward_policy(
            _filled(self.obs_names, leaves[: self._num_obs]), _filled(self._state, leaves[self._num_obs :])
        )
        return *tree_leaves(self.module.distribution.mode(dist_inputs)), dist_inputs, *tree_leaves(state)

    def draw_obs(self, batch_size: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Draw the leaves of observations that the module takes, `[B, ...]`.

        Raises:
            RLError: it refuses whatever is drawn.
        """
        self._space.seed(int(rng.integers(2**31)))
        refusal: Exception | None = None
        for _ in range(_MAX_DRAWS):
            rows = [tree_map(_plain, self._space.sample()) for _ in range(batch_size)]
            obs = tree_zip(lambda leaves: torch.from_numpy(np.stack(leaves)), rows)
            try:
                self.module.forward_policy(obs, self.module.initial_state(batch_size))
            except ValueError as error:  # such as a mask that forbids everything
                refusal = error
            else:
                return tuple(tree_leaves(obs))
        raise RLError(f"export_onnx: the module refuses each of {_MAX_DRAWS} drawn observations: {refusal}")


def _in_float32(module: RLModule) -> RLModule:
    """Copy a module, what is half precision in float32: onnxruntime has few operators in bfloat16 for the CPU."""
    module = copy.deepcopy(module).cpu().requires_grad_(False).eval()
    act_in_single(module)
    for part in module.modules():
        if isinstance(part, ImageEncoder):
            part.in_bfloat16 = False
    return module


def _named(name: str, tree: Tree) -> Tree:
    """Replace the leaves of a tree by their names: `name`, then the keys and positions on the way, with dots."""
    named = _paths(name, tree)
    leaves = list(tree_leaves(named))
    if len(set(leaves)) == len(leaves):
        return named
    numbers = iter(range(len(leaves)))  # keys with dots in them
    return tree_map(lambda _: f"{name}.{next(numbers)}", tree)


def _paths(path: str, tree: Tree) -> Tree:
    if isinstance(tree, dict):
        return {key: _paths(f"{path}.{key}", value) for key, value in tree.items()}
    if isinstance(tree, tuple):
        return tuple(_paths(f"{path}.{place}", value) for place, value in enumerate(tree))
    return path


def _filled(structure: Tree, leaves: Sequence[Tensor]) -> Tree:
    """Put leaves into a tree of the given structure."""
    remaining = iter(leaves)
    return tree_map(lambda _: next(remaining), structure)


def _plain(leaf: Any) -> np.ndarray[Any, Any]:
    """Convert a sampled leaf; floats beyond what unbounded spaces give are of no use for a comparison."""
    array = np.asarray(leaf)
    return np.clip(array, -_RANGE, _RANGE).astype(np.float32) if array.dtype.kind == "f" else array
