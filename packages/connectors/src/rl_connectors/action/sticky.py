"""Actions that the env sometimes does not take over."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from gymnasium.spaces import Box, Dict, Tuple
from torch import Tensor

from rl_connectors.action._random import initial_keys, uniforms
from rl_connectors.learner._settings import require_number
from rl_core import ActionConnector
from rl_core.env.spaces import Space
from rl_core.tree import Tree, tree_map


@dataclass(frozen=True)
class StickyAction(ActionConnector):
    """With some probability a slot repeats the action it took last instead of the module's.

    It makes a deterministic env stochastic, so that no sequence of actions can be learned by heart. It belongs to the
    env: it acts in evaluation and inference, too, and rollouts hold what the module decided. An episode's first
    action is always the module's. ALE/...-v5 envs repeat actions themselves, with probability 0.25.

    Source: Machado et al. 2018, "Revisiting the Arcade Learning Environment", the section on sticky actions.
    """

    probability: float = 0.25
    """Of repeating, 0 to 1."""

    def __post_init__(self) -> None:
        """Check the probability."""
        require_number(self, "probability", at_least=0, at_most=1)

    def module_space(self, action_space: Space) -> Space:
        """Declare the same space."""
        return action_space

    def initial_state(self, action_space: Space, num_slots: int, seed: int) -> Tree:
        """Make the keys of the random numbers, `[B]`, and a last action of zeros, `[B, ...]`."""
        return {"key": initial_keys(seed, num_slots), "last": _zeros(action_space, num_slots)}

    def __call__(self, state: Tree, action: Tree, first: np.ndarray) -> tuple[Tree, Tree]:
        """Repeat the last actions of some slots."""
        key, uniform = uniforms(state["key"], 1)
        repeats = torch.from_numpy((uniform[:, 0] < self.probability) & ~first)

        def choose(last: Tensor, chosen: Tensor) -> Tensor:
            return torch.where(repeats.view(-1, *[1] * (chosen.ndim - 1)), last, chosen)

        taken = tree_map(choose, state["last"], action)
        return {"key": key, "last": taken}, taken


def _zeros(space: Space, num_slots: int) -> Tree:
    """Make zeros of the types that modules give."""
    if isinstance(space, Dict):
        return {key: _zeros(part, num_slots) for key, part in space.spaces.items()}
    if isinstance(space, Tuple):
        return tuple(_zeros(part, num_slots) for part in space.spaces)
    dtype = torch.float32 if isinstance(space, Box) else torch.int64
    return torch.zeros((num_slots, *(space.shape or ())), dtype=dtype)
