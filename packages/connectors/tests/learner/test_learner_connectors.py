"""What holds for every learner connector."""

import copy
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollout_maker import bonus_of, bound, random_rollout

import rl_connectors
from rl_connectors.learner.counts import CountBasedCuriosity
from rl_connectors.learner.distance import DistanceCuriosity
from rl_connectors.learner.hindsight import HindsightRelabel
from rl_connectors.learner.icm import IntrinsicCuriosity
from rl_connectors.learner.returns import NStepReturns, ReturnsToGo
from rl_connectors.learner.rnd import RandomNetworkDistillation
from rl_connectors.learner.symmetry import Symmetry
from rl_core import DQNConfig, IMPALAConfig, LearnerConnector, PPOConfig, SACConfig
from rl_core.errors import ConfigError
from rl_core.testing import check_connector
from rl_core.tree import tree_leaves, tree_map

CURIOUS = [
    CountBasedCuriosity(2.0, hash_bits=8),
    DistanceCuriosity(2.0, capacity=50, add_every=2),
    IntrinsicCuriosity(2.0, hiddens=(16,), num_epochs=2, minibatch_size=20),
    RandomNetworkDistillation(2.0, hiddens=(16,), num_epochs=2, minibatch_size=20),
]
NESTED = spaces.Dict({"z": spaces.Discrete(4), "a": spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.MultiBinary(2)])})
GOALS = spaces.Dict({key: spaces.Box(-1, 1, (2,)) for key in ("achieved_goal", "desired_goal")})
named = {"ids": lambda piece: type(piece).__name__}


def negative_distance(achieved, desired):
    return -np.linalg.norm(achieved - desired, axis=-1)


PIECES = [
    *((piece, NESTED) for piece in CURIOUS),
    (ReturnsToGo(), NESTED),
    (NStepReturns(), NESTED),
    (HindsightRelabel(negative_distance), GOALS),
    (Symmetry(obs_sign=(-1, 1)), spaces.Box(-1, 1, (2,))),
]


def snapshot(rollout):
    return copy.deepcopy({name: getattr(rollout, name) for name in rollout.__dataclass_fields__})


def same(one, two):
    return all(
        np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(tree_leaves(one), tree_leaves(two), strict=True)
    )


def run(piece, space, seeds, state=None):
    """Pass random rollouts through; return the state and the last rollout."""
    piece, first = bound(piece, space)
    state = first if state is None else state
    for seed in seeds:
        state, after, _ = piece(state, random_rollout(space, seed=seed))
    return state, after


@pytest.mark.parametrize(("piece", "space"), PIECES)
@pytest.mark.parametrize("action_space", [spaces.Discrete(2), spaces.Box(-1, 1, (2,), np.float32)], ids=repr)
def test_conforms(piece, space, action_space):
    if isinstance(piece, Symmetry) and isinstance(action_space, spaces.Box):
        piece = replace(piece, action_sign=(-1, 1))
    check_connector(piece, space, action_space)


def test_no_piece_is_left_out():
    public = [getattr(rl_connectors, name) for name in rl_connectors.__all__]
    kinds = {thing for thing in public if isinstance(thing, type) and issubclass(thing, LearnerConnector)}
    assert {type(piece) for piece, _ in PIECES} == kinds


@pytest.mark.parametrize("piece", CURIOUS, **named)
def test_the_bonus_is_proportional_to_the_coefficient(piece):
    rollout = random_rollout(NESTED, seed=1)
    bonuses = []
    for coefficient in (0.0, 1.0, 3.0):
        own, state = bound(replace(piece, coefficient=coefficient), NESTED)
        state, _, _ = own(state, random_rollout(NESTED))
        bonuses.append(bonus_of(rollout, own(state, rollout)[1]))
    assert not bonuses[0].any()
    np.testing.assert_allclose(bonuses[2], 3 * bonuses[1], rtol=1e-3, atol=1e-4)
    assert bonuses[1].max() > 0


@pytest.mark.parametrize("piece", CURIOUS, **named)
def test_steps_that_are_not_real_get_no_bonus_and_teach_nothing(piece):
    rollout = random_rollout(NESTED)
    other = random_rollout(NESTED, seed=7)
    place = int((~rollout.valid).flatten().nonzero()[0])
    after_it = place + rollout.reward.shape[1]

    def changed(leaf, given):
        leaf = leaf.clone()
        leaf.flatten(0, 1)[after_it] = given.flatten(0, 1)[after_it]
        return leaf

    # What the invalid step led to is seen by it alone, unless a real step acts on it: make that one invalid too.
    valid = rollout.valid.clone()
    valid.flatten()[after_it] = False
    rollout = replace(rollout, valid=valid)
    twin = replace(rollout, obs=tree_map(changed, rollout.obs, other.obs))
    assert not same(rollout.obs, twin.obs)
    results = []
    for given in (rollout, twin):
        own, state = bound(piece, NESTED)
        for _ in range(2):
            state, after, report = own(state, given)
        assert not bonus_of(given, after)[~valid.numpy()].any()
        results.append((bonus_of(given, after), report))
    assert same(results[0], results[1])


@pytest.mark.parametrize("piece", CURIOUS, **named)
def test_a_rollout_without_a_real_step_changes_nothing(piece):
    own, state = bound(piece, NESTED)
    rollout = random_rollout(NESTED)
    state, after, report = own(state, replace(rollout, valid=torch.zeros_like(rollout.terminated)))
    assert torch.equal(after.reward, rollout.reward)
    assert np.isnan(report["intrinsic_reward_mean"])
    assert torch.isfinite(own(state, rollout)[1].reward).all()


@pytest.mark.parametrize("piece", CURIOUS, **named)
def test_rewards_grow_by_the_mean_that_is_reported(piece):
    own, state = bound(piece, NESTED)
    rollout = random_rollout(NESTED, with_invalid=False)
    state, _, _ = own(state, rollout)
    _, after, report = own(state, rollout)
    assert bonus_of(rollout, after).mean() == pytest.approx(report["intrinsic_reward_mean"], rel=1e-4)


class GoalLine(gymnasium.Env):
    """Walks a line of 9 places; the goal is one of them."""

    observation_space = spaces.Dict({key: spaces.Box(-9, 9, (1,)) for key in ("achieved_goal", "desired_goal")})
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.place, self.goal = 0, 0.0, float(self.np_random.integers(-4, 5))
        return self._obs(), {}

    def step(self, action):
        self.time += 1
        self.place = float(np.clip(self.place + 2 * int(action) - 1, -4, 4))
        return self._obs(), float(self.place == self.goal) - 1.0, False, self.time == 7, {}

    def _obs(self):
        return {"achieved_goal": np.float32([self.place]), "desired_goal": np.float32([self.goal])}


@pytest.mark.parametrize("config_class", [PPOConfig, IMPALAConfig])
def test_what_loses_the_recorded_distributions_is_refused_where_they_are_learned_from(config_class):
    config = config_class().environment(GoalLine)
    config.learners(learner_connector=[CountBasedCuriosity(2.0), HindsightRelabel(negative_distance)])
    with pytest.raises(ConfigError, match=r"connector 1 \(HindsightRelabel\) is for off-policy algorithms only"):
        config.build()


def test_all_pieces_together_train_and_go_on_from_a_checkpoint(tmp_path):
    def build(seed):
        config = DQNConfig().environment(GoalLine).env_runners(num_envs_per_env_runner=2).debugging(seed=seed)
        config.training(num_steps_sampled_before_learning_starts=16, env_steps_per_gradient_step=50.0)
        pieces = (*CURIOUS, ReturnsToGo(), NStepReturns(), HindsightRelabel(negative_distance))
        return config.learners(learner_connector=pieces).build()

    algorithm = build(0)
    for _ in range(2):
        result = algorithm.train()
    twin = build(1)
    twin.restore(algorithm.save(tmp_path / "checkpoint"))
    for name in ("IntrinsicCuriosity/forward_loss", "RandomNetworkDistillation/intrinsic_reward_mean"):
        assert np.isfinite(result[f"learner/default/{name}"])
    for one, two in zip(algorithm.learner.connectors.states, twin.learner.connectors.states, strict=True):
        for key in one.keys() - {"network"}:
            assert same(one[key], two[key])


@pytest.mark.parametrize("piece", CURIOUS, **named)
def test_on_policy_algorithms_take_every_bonus(piece):
    config = PPOConfig().environment("FrozenLake-v1").learners(learner_connector=(piece,))
    config.training(train_batch_size_per_learner=64, minibatch_size=32, num_epochs=1)
    algorithm = config.build()
    results = [algorithm.train() for _ in range(2)]
    assert results[1][f"learner/default/{type(piece).__name__}/intrinsic_reward_mean"] >= 0


@pytest.mark.parametrize(
    ("kind", "env", "piece"),
    [
        (PPOConfig, "CartPole-v1", Symmetry(obs_sign=(-1,) * 4, action_permutation=(1, 0))),
        (DQNConfig, "CartPole-v1", Symmetry(obs_sign=(-1,) * 4, action_permutation=(1, 0))),
        (SACConfig, "Pendulum-v1", Symmetry(obs_sign=(1, -1, -1), action_sign=(-1,))),
    ],
)
def test_mirror_images_train_both_kinds_of_algorithm(kind, env, piece):
    config = kind().environment(env).learners(learner_connector=(piece,))
    if kind is PPOConfig:
        config.training(train_batch_size_per_learner=64, minibatch_size=64, num_epochs=1)
    else:
        config.training(num_steps_sampled_before_learning_starts=4, env_steps_per_gradient_step=50.0)
    algorithm = config.build()
    result = algorithm.train()
    assert result["env_steps"] == algorithm.learner.env_steps
    if kind is not PPOConfig:
        assert len(algorithm.learner.buffer) == 2 * result["env_steps"]
