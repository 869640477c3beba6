"""Statistics gathered by several env runners in this process are those of one pass over all that they saw."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl_connectors import FrameStack, MeanStdFilter, NormalizeReward, PrevActionsPrevRewards
from rl_core import ModelSettings, Policy
from rl_core.connect.required import ActionToEnv
from rl_core.env.gym_vector import GymVectorEnv
from rl_core.module.spec import ModuleSpec
from rl_core.policy import with_required_connector
from rl_core.records import Weights
from rl_core.sampling.env_runner import EnvRunner
from rl_core.testing.envs import ObservationIsTimeEnv

GAMMA = 0.9
PIECES = (MeanStdFilter(), NormalizeReward(GAMMA), FrameStack(4), PrevActionsPrevRewards())
SPEC = ModuleSpec(model_config=ModelSettings(fcnet_hiddens=(4,)))


class Recorded(GymVectorEnv):
    """Keeps the observations that decisions are made on, and the discounted returns after each real step."""

    def __init__(self, env):
        super().__init__(env)
        self.observations, self.returns = [], []

    def reset(self, seed=None):
        step = super().reset(seed)
        self.observations.extend(step.obs.copy())
        self.open = np.zeros(self.num_envs)
        return step

    def step(self, action):
        step = super().step(action)
        for slot in range(self.num_envs):
            done = step.terminated[slot] or step.truncated[slot]
            if step.first[slot] or not done:
                self.observations.append(step.obs[slot].copy())
            if not step.artificial[slot]:
                self.open[slot] = self.open[slot] * GAMMA + step.reward[slot]
                self.returns.append(self.open[slot])
            if done:
                self.open[slot] = 0.0
        return step


def make_runner(number, mode):
    make = lambda: ObservationIsTimeEnv(3 + number)  # noqa: E731
    env = Recorded(SyncVectorEnv([make] * 3, autoreset_mode=mode))
    spaces = (env.observation_space, env.action_space)
    connectors = with_required_connector(SPEC, *spaces, PIECES)
    policy = Policy(SPEC, *spaces, obs_connectors=connectors, action_connectors=[ActionToEnv()])
    return EnvRunner(env, policy, num_steps=9, seed=100 * number)


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
@pytest.mark.parametrize("num_runners", [1, 2, 4])
def test_statistics_of_several_runners_are_those_of_one_pass(num_runners, mode):
    runners = [make_runner(number, mode) for number in range(num_runners)]
    chain = runners[0].policy.obs_chain
    shared = chain.shared(chain.initial_state(3))
    for version in range(5):
        for runner in runners:
            runner.sample()
        shared = chain.merge([runner.get_weights().connector_state for runner in runners], shared)
        for runner in runners:
            tensors = runner.get_weights().tensors
            runner.set_weights(Weights(version=version, tensors=tensors, connector_state=shared))
    seen = np.array([row for runner in runners for row in runner.env.observations], np.float64)
    returns = np.array([value for runner in runners for value in runner.env.returns])
    for statistics, data in ((shared[0], seen), (shared[1], returns)):
        assert statistics["count"] == len(data) > 60 * num_runners
        np.testing.assert_allclose(statistics["mean"], data.mean(0), rtol=1e-6)
        np.testing.assert_allclose(statistics["m2"] / len(data), data.var(0), rtol=1e-6)
    for runner in runners:
        assert runner.policy.obs_chain.shared(runner._state.connectors)[0]["count"] == len(seen)
