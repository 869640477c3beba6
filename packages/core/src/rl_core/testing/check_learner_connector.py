"""Conformance check of a learner connector, on rollouts made up from its spaces."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from rl_core.connect.chain import ObsChain, as_tensor
from rl_core.errors import RLError
from rl_core.learning.learner_chain import LearnerChain
from rl_core.learning.learner_connector import LearnerConnector, Trained
from rl_core.module.distribution import distribution_for
from rl_core.records import Rollout, Tree
from rl_core.tree import tree_leaves, tree_map, tree_zip

Demand = Callable[[bool, str], None]

_NUM_STEPS, _NUM_SLOTS, _NUM_ROLLOUTS = 10, 3, 3
_COLUMNS = ("obs", "action", "reward", "terminated", "truncated", "behavior_dist_inputs")


class LearnerConnectorCheck:
    """One learner connector on one pair of spaces; `demand` raises with the message of the first rule broken."""

    def __init__(
        self,
        connector: LearnerConnector,
        observation_space: spaces.Space[Any],
        action_space: spaces.Space[Any],
        demand: Demand,
    ) -> None:
        self.name = type(connector).__name__
        self.connector = connector
        self.space, self.action_space = copy.deepcopy(observation_space), copy.deepcopy(action_space)
        self.demand = demand

    def run(self) -> None:
        """Pass rollouts through it as a learner does and look at what comes out."""
        random_before = torch.random.get_rng_state()
        chain, twin = self.chain(seed=0), self.chain(seed=0)
        names: set[str] | None = None
        for number in range(_NUM_ROLLOUTS):
            rollout = self.rollout(number)
            result, report = self.call(chain, rollout)
            again, _ = twin(self.rollout(number))
            self.demand(
                _same(_columns(result), _columns(again)),
                f"{self.name} gave two results for the same seed and rollouts. Draw random numbers from the seed of "
                "initial_state.",
            )
            self.check_result(rollout, result)
            self.demand(
                names is None or names == set(report),
                f"{self.name} reported {sorted(report)}, and {sorted(names or ())} before. Report the same names each "
                "time, NaN where there is no figure.",
            )
            names = set(report)
        self.demand(
            torch.equal(random_before, torch.random.get_rng_state()),
            f"{self.name} drew from torch's global random numbers, which others depend on. Use a generator of its own.",
        )
        self.check_restored(chain)

    def chain(self, *, seed: int) -> LearnerChain:
        """Bind it anew."""
        return LearnerChain([self.connector], ObsChain((), self.space, self.action_space), self.action_space, seed)

    def call(self, chain: LearnerChain, rollout: Rollout) -> tuple[Rollout, Mapping[str, float]]:
        """Call it and see that it leaves its arguments alone; `Trained` networks may change in place."""
        state = chain.states[0]
        kept, plain = copy.deepcopy(_columns(rollout)), copy.deepcopy(_plain(state))
        result: object = chain.pieces[0](state, rollout)
        if not (isinstance(result, tuple) and len(result) == 3 and isinstance(result[1], Rollout)):
            self.demand(False, f"{self.name} returned a {type(result).__name__}, expected (state, Rollout, figures).")
            raise AssertionError("demand raised")
        self.demand(
            _same(kept, _columns(rollout)), f"{self.name} changed the rollout it was given. Copy before you write."
        )
        self.demand(_same(plain, _plain(state)), f"{self.name} changed the state it was given. Return a new one.")
        chain.states[0] = result[0]
        return result[1], result[2]

    def check_result(self, rollout: Rollout, result: Rollout) -> None:
        """Look whether the columns fit together, and whether nothing was made of what was not there."""
        num_steps, num_slots = result.reward.shape[0], result.reward.shape[1]
        for column in _COLUMNS:
            rows = num_steps + (column == "obs")
            for leaf in tree_leaves(getattr(result, column)):
                self.demand(
                    tuple(leaf.shape[:2]) == (rows, num_slots),
                    f"{self.name}: {column} of the rollout has shape {tuple(leaf.shape)}, expected it to begin with "
                    f"{(rows, num_slots)}, as rewards of {(num_steps, num_slots)} say.",
                )
        self.demand(
            bool(torch.isfinite(result.reward).all()), f"{self.name} gave a reward that is not finite for finite ones."
        )
        for what in ("policy_version", "env_steps"):
            self.demand(
                getattr(result, what) == getattr(rollout, what),
                f"{self.name} changed {what} from {getattr(rollout, what)} to {getattr(result, what)}; it says what "
                "was sampled, so leave it.",
            )

    def check_restored(self, chain: LearnerChain) -> None:
        """A chain that got the saved state must go on as the one it was saved from."""
        restored = self.chain(seed=1)
        try:
            restored.set_state(copy.deepcopy(chain.get_state()))
        except RLError as error:
            self.demand(False, f"{self.name}: its state cannot be saved and restored: {error}")
        one, two = (each(self.rollout(_NUM_ROLLOUTS))[0] for each in (chain, restored))
        self.demand(
            _same(_columns(one), _columns(two)),
            f"{self.name} went on otherwise after its state was saved and restored. Keep what changes in the state.",
        )

    def rollout(self, seed: int) -> Rollout:
        """Make up a rollout in which episodes end in all ways, and some steps are not real."""
        for space in (self.space, self.action_space):
            space.seed(seed)
        random = np.random.default_rng(seed)
        fate = random.integers(10, size=(_NUM_STEPS, _NUM_SLOTS))
        terminated, truncated, invalid = fate == 0, fate == 1, fate == 2
        final = np.flatnonzero(terminated | truncated)
        final_obs = tree_map(lambda leaf: leaf[0], _drawn(self.space, 1, len(final))) if len(final) else None
        num_inputs = distribution_for(self.action_space).num_inputs
        dist_inputs = random.normal(size=(_NUM_STEPS, _NUM_SLOTS, num_inputs)).astype(np.float32)
        return Rollout(
            obs=_drawn(self.space, _NUM_STEPS + 1, _NUM_SLOTS),
            action=_drawn(_from_zero(self.action_space), _NUM_STEPS, _NUM_SLOTS),
            reward=torch.from_numpy(random.normal(size=fate.shape).astype(np.float32)),
            terminated=torch.from_numpy(terminated),
            truncated=torch.from_numpy(truncated),
            valid=torch.from_numpy(~invalid),
            final_index=torch.from_numpy(final),
            final_obs=final_obs,
            behavior_dist_inputs=torch.from_numpy(dist_inputs),
            policy_version=seed,
            env_steps=int(np.count_nonzero(~invalid)),
        )


def _drawn(space: spaces.Space[Any], num_rows: int, num_slots: int) -> Tree:
    """Sample tensors `[num_rows, num_slots, ...]` of a space."""
    rows = [tree_zip(np.stack, [space.sample() for _ in range(num_slots)]) for _ in range(num_rows)]
    return tree_map(as_tensor, tree_zip(np.stack, rows))


def _from_zero(space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Modules count choices from 0."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict([(key, _from_zero(part)) for key, part in space.spaces.items()])
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([_from_zero(part) for part in space.spaces])
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(space.n, seed=0)
    return spaces.MultiDiscrete(space.nvec, seed=0) if isinstance(space, spaces.MultiDiscrete) else space


def _columns(rollout: Rollout) -> Tree:
    """All that a learner looks at, as a tree."""
    index = () if rollout.final_obs is None else (rollout.final_index, rollout.final_obs)
    valid = () if rollout.valid is None else rollout.valid
    return tuple(getattr(rollout, name) for name in _COLUMNS), index, valid, dict(rollout.extras)


def _plain(state: Tree) -> Tree:
    """Leave out networks, which train in place."""
    if isinstance(state, dict):
        return {key: _plain(part) for key, part in state.items() if not isinstance(part, Trained)}
    return tuple(map(_plain, state)) if isinstance(state, tuple) else state


def _same(one: Tree, other: Tree) -> bool:
    first, second = list(tree_leaves(one)), list(tree_leaves(other))
    if len(first) != len(second):
        return False
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(first, second, strict=True))
