"""How long an evaluation beside training lasts."""

import time
from concurrent.futures import wait

import numpy as np
from gymnasium import Env, spaces
from runners import make_runner

from rl_core import PPOConfig
from rl_core.algorithm.evaluation import Evaluator


class Slow(Env):
    """Each episode is one step that takes 0.3 s."""

    observation_space = spaces.Box(0, 1, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        time.sleep(0.3)
        return np.zeros(1, np.float32), 1.0, True, False, {}


def test_auto_begins_no_round_that_training_would_wait_for():
    config = PPOConfig().environment(Slow).env_runners(num_envs_per_env_runner=1)
    config.evaluation(evaluation_num_env_runners=1, evaluation_parallel_to_training=True, evaluation_duration="auto")
    runner = make_runner(Slow, num_envs=1)
    evaluator = Evaluator(config, lambda: runner, [])

    def beside(training_s):
        """Return how many episodes were played, and whether they were over when training was."""
        episodes = evaluator.start(runner.get_weights(), seed=0)
        time.sleep(training_s)
        was_over = episodes.done()
        evaluator.end_of_training()
        wait([episodes])
        return len(episodes.result().returns), was_over

    assert beside(0.8) == (3, False), "how long training takes is not known yet"
    assert beside(0.8) == (2, True)
    assert beside(0.05) == (1, False), "one round there always is"
    evaluator.close()
