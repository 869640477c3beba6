"""Rollouts for tests: written out by hand, or random ones with every kind of step in them."""

import numpy as np
import torch
from gymnasium import spaces

from rl_core import Rollout
from rl_core.tree import tree_leaves, tree_map, tree_zip


def make_rollout(obs, *, reward=None, action=None, dist_inputs=None, finals=(), **flags):
    """Make a rollout.

    Args:
        obs: Tree of arrays `[T + 1, B, ...]`.
        reward: `[T, B]`; None is zeros.
        action: Tree of arrays `[T, B, ...]`; None is zeros.
        dist_inputs: `[T, B, P]`; None is zeros for 2 inputs.
        finals: Pairs `((t, b), observation)` of true next observations, ascending.
        **flags: `terminated`, `truncated` and `invalid`, each a list of `(t, b)`; `extras` as in a Rollout.
    """
    obs = tree_map(as_tensor, obs)
    num_rows, num_slots = next(tree_leaves(obs)).shape[:2]
    shape = (num_rows - 1, num_slots)
    valid = ~flag(shape, flags["invalid"]) if flags.get("invalid") else None
    return Rollout(
        obs=obs,
        action=torch.zeros(shape, dtype=torch.int64) if action is None else tree_map(as_tensor, action),
        reward=torch.zeros(shape) if reward is None else as_tensor(reward),
        terminated=flag(shape, flags.get("terminated", ())),
        truncated=flag(shape, flags.get("truncated", ())),
        valid=valid,
        final_index=torch.tensor([t * num_slots + b for (t, b), _ in finals], dtype=torch.int64),
        final_obs=tree_map(as_tensor, tree_zip(np.stack, [value for _, value in finals])) if finals else None,
        behavior_dist_inputs=torch.zeros(*shape, 2) if dist_inputs is None else as_tensor(dist_inputs),
        policy_version=3,
        env_steps=shape[0] * shape[1] if valid is None else int(valid.sum()),
        extras=flags.get("extras", {}),
    )


def random_rollout(observation_space, action_space=None, *, num_steps=30, num_slots=3, seed=0, with_invalid=True):
    """Sample a rollout in which steps end in all ways: with and without final observation, and steps are invalid."""
    action_space = action_space or spaces.Discrete(2)
    rng = np.random.default_rng(seed)
    for space in (observation_space, action_space):
        space.seed(seed)
    steps = [(t, b) for t in range(num_steps) for b in range(num_slots)]
    fates = {step: rng.choice(["go on"] * 8 + ["terminated", "truncated", "set aside", "invalid"]) for step in steps}
    finals = [
        (step, observation_space.sample())
        for step, fate in fates.items()
        if fate in ("terminated", "set aside") and step[0] % 2
    ]
    num_inputs = 2 * action_space.shape[0] if isinstance(action_space, spaces.Box) else 2
    return make_rollout(
        batch_of(observation_space, num_steps + 1, num_slots),
        reward=rng.standard_normal((num_steps, num_slots)).astype(np.float32),
        action=batch_of(action_space, num_steps, num_slots),
        dist_inputs=rng.standard_normal((num_steps, num_slots, num_inputs)).astype(np.float32),
        finals=finals,
        terminated=[step for step, fate in fates.items() if fate == "terminated"],
        truncated=[step for step, fate in fates.items() if fate == "truncated"],
        invalid=[step for step, fate in fates.items() if fate == "invalid"] if with_invalid else (),
    )


def batch_of(space, num_rows, num_slots):
    """Sample arrays `[num_rows, num_slots, ...]` of a space."""
    rows = [tree_zip(np.stack, [space.sample() for _ in range(num_slots)]) for _ in range(num_rows)]
    return tree_zip(np.stack, rows)


def true_next(rollout, t, b):
    """Look up the true next observation of one step, literally."""
    positions = rollout.final_index.tolist()
    place = t * rollout.reward.shape[1] + b
    if place in positions:
        return tree_map(lambda leaf: leaf[positions.index(place)].numpy(), rollout.final_obs)
    return tree_map(lambda leaf: leaf[t + 1, b].numpy(), rollout.obs)


def real(rollout):
    """List the real steps `(t, b)` in order of time, then of slots."""
    num_steps, num_slots = rollout.reward.shape
    steps = [(t, b) for t in range(num_steps) for b in range(num_slots)]
    return [step for step in steps if rollout.valid is None or rollout.valid[step]]


def bonus_of(before, after):
    """The difference of the rewards as an array `[T, B]`."""
    return (after.reward - before.reward).numpy()


def bound(piece, observation_space, action_space=None, seed=0):
    """Bind a piece; return it with its first state."""
    piece = piece.bind(observation_space, action_space or spaces.Discrete(2))
    return piece, piece.initial_state(seed)


def flag(shape, steps):
    """Make `[T, B]` bool, True at the steps given."""
    result = torch.zeros(shape, dtype=torch.bool)
    for step in steps:
        result[step] = True
    return result


def as_tensor(leaf):
    """Convert to the precision that rollouts have."""
    tensor = torch.as_tensor(np.asarray(leaf))
    return tensor.float() if tensor.is_floating_point() else tensor
