import copy
import functools
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stateful_connectors import FrameStack, RunningMean

from rl_core import ModelSettings, RLModule
from rl_core.connect.required import ActionToEnv
from rl_core.env.gym_vector import GymVectorEnv
from rl_core.module.spec import ModuleSpec
from rl_core.policy import Policy
from rl_core.sampling.evaluate import evaluate
from rl_core.testing.envs import CountdownEnv, ObservationIsTimeEnv
from rl_core.tree import tree_leaves

MODES = list(AutoresetMode)


def make(make_envs, mode=AutoresetMode.SAME_STEP, connectors=(), spec=None):
    env = GymVectorEnv(SyncVectorEnv(make_envs, autoreset_mode=mode))
    spec = spec or ModuleSpec(model_config=ModelSettings(fcnet_hiddens=(4,)))
    policy = Policy(
        spec, env.observation_space, env.action_space, obs_connectors=connectors, action_connectors=[ActionToEnv()]
    )
    return env, policy


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("num_slots", "num_episodes"), [(1, 1), (3, 3), (3, 7), (4, 2), (2, 11)])
def test_exactly_the_episodes_asked_for_are_played_in_fair_shares(mode, num_slots, num_episodes):
    lengths = [slot + 1 for slot in range(num_slots)]  # the last slot plays the longest episodes
    env, policy = make([functools.partial(CountdownEnv, length) for length in lengths], mode)
    stats = evaluate(env, policy, num_episodes=num_episodes, seed=0, explore=True)
    shares = [num_episodes // num_slots + (slot < num_episodes % num_slots) for slot in range(num_slots)]
    assert len(stats.returns) == num_episodes
    assert sorted(stats.lengths) == sorted(np.repeat(lengths, shares).tolist())
    assert stats.returns.tolist() == stats.lengths.tolist()


@pytest.mark.parametrize("mode", MODES)
def test_episodes_are_those_that_the_env_plays(mode):
    env, policy = make([ObservationIsTimeEnv] * 2, mode)
    stats = evaluate(env, policy, num_episodes=6, seed=3, explore=True)
    lengths = sorted(3 + episode % 3 for episode in (3, 4, 5, 4, 5, 6))
    assert sorted(stats.lengths.tolist()) == lengths
    assert sorted(stats.returns.tolist()) == [length * (length + 1) / 2 for length in lengths]


def test_same_seed_gives_the_same_episodes_and_the_mode_needs_none_of_the_actions_randomness():
    env, policy = make([functools.partial(gymnasium.make, "CartPole-v1")] * 3)
    play = functools.partial(evaluate, env, policy, num_episodes=6)
    first, again, other = (play(seed=seed, explore=True).returns.tolist() for seed in (1, 1, 2))
    assert first == again != other
    greedy = [play(seed=1, explore=False).returns.tolist() for _ in range(2)]
    assert greedy[0] == greedy[1] != first


def test_evaluation_leaves_policy_and_statistics_as_they_are():
    env, policy = make([ObservationIsTimeEnv] * 2, connectors=[RunningMean(bound=1e12), FrameStack(2)])
    policy.shared = ({"count": np.array(10.0), "mean": np.array([1.0, 2.0])}, ())
    before = copy.deepcopy((policy.shared, dict(policy.module.state_dict())))
    evaluate(env, policy, num_episodes=3, seed=0, explore=True)
    for old, new in zip(
        tree_leaves(before), tree_leaves((policy.shared, dict(policy.module.state_dict()))), strict=True
    ):
        assert np.array_equal(old, new)


class Watching(RLModule):
    seen: ClassVar[list] = []

    def __init__(self, observation_space, action_space):
        super().__init__(observation_space, action_space)
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def initial_state(self, batch_size):
        return torch.zeros(batch_size, 1)

    def forward_policy(self, obs, state=()):
        self.seen.append((obs.clone(), state.clone()))
        return torch.zeros(*obs.shape[:-1], 2), state + 1

    def forward_value(self, obs):
        return obs[..., 0] * self.weight


class PaidForOnes(CountdownEnv):
    def step(self, action):
        obs, _, *rest = super().step(action)
        return obs, float(action == 1), *rest


class Coin(RLModule):
    flatten_observations = False

    def forward_policy(self, obs, state=()):
        leaf = next(iter(tree_leaves(obs)))
        return torch.zeros(len(leaf), self.distribution.num_inputs), state

    def forward_value(self, obs, state=()):
        return torch.zeros(len(next(iter(tree_leaves(obs)))))


class Fickle(Coin):
    always_explores = True


def test_a_module_that_always_explores_draws_its_actions_where_others_take_the_mode():
    means = []
    for module_class in (Coin, Fickle):
        env, policy = make([lambda: PaidForOnes(40)], spec=ModuleSpec(module_class=module_class, model_config={}))
        means.append(evaluate(env, policy, num_episodes=1, seed=0, explore=False).returns.mean())
    assert means[0] in (0, 40)
    assert 5 < means[1] < 35


@pytest.mark.parametrize("mode", MODES)
def test_statistics_are_frozen_at_what_training_gathered(mode):
    Watching.seen.clear()
    spec = ModuleSpec(module_class=Watching, model_config={})
    env, policy = make([CountdownEnv], mode, [RunningMean()], spec)
    policy.shared = ({"count": np.array(1.0), "mean": np.array([3.0])},)
    evaluate(env, policy, num_episodes=2, seed=0, explore=True)
    for obs, state in Watching.seen:
        left = 1 - state.item() / 5  # what CountdownEnv shows after that many steps
        if left > 0.1:
            assert obs.item() == pytest.approx(left - 3.0, abs=1e-6), "no step of the evaluation counts"


@pytest.mark.parametrize("mode", MODES)
def test_recurrent_state_starts_anew_with_each_episode(mode):
    Watching.seen.clear()
    env, policy = make([CountdownEnv], mode, spec=ModuleSpec(module_class=Watching, model_config={}))
    evaluate(env, policy, num_episodes=3, seed=0, explore=False)
    firsts = [state.item() for obs, state in Watching.seen if obs.item() == 1.0]
    assert firsts == [0.0] * len(firsts)
    assert len(firsts) >= 3
