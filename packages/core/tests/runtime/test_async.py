"""IMPALA and APPO with runners that sample ahead of the learner."""

import itertools
import math
import os
import signal
import time

import pytest
import ray
import remote_envs
from remote_envs import CountEnv

from rl_core import APPOConfig, IMPALAConfig

pytestmark = pytest.mark.usefixtures("cluster")
ray.cloudpickle.register_pickle_by_value(remote_envs)


def build(config, env="CartPole-v1", **env_config):
    return (
        config.environment(env, env_config=env_config, disable_env_checking=True)
        .env_runners(num_env_runners=2, num_envs_per_env_runner=4, rollout_fragment_length=8)
        .training(train_batch_size_per_learner=64, minibatch_size=64)
        .reporting(min_sample_timesteps_per_iteration=640)
        .rl_module(model_config={"fcnet_hiddens": (8,)})
        .build()
    )


@pytest.mark.parametrize("config", [IMPALAConfig, pytest.param(APPOConfig, marks=pytest.mark.learning)])
def test_each_rollout_is_learned_from_once_and_runners_do_not_run_away(config, tmp_path):
    algorithm = build(config())
    learned = []
    update = algorithm.learner.update
    algorithm.learner.update = lambda rollout: learned.append(rollout) or update(rollout)
    for _ in range(3):
        result = algorithm.train()
    assert result["env_steps"] == sum(rollout.env_steps for rollout in learned) == 3 * 640
    assert all(rollout.reward.shape == (8, 8) for rollout in learned), "two rollouts of 32 steps make a batch"
    assert 0.0 < result["learner/default/policy_age"] < 12.0
    versions = [rollout.policy_version for rollout in learned]
    assert versions[-1] > versions[0]
    time.sleep(1.0)  # a slow learner: the runners finish what they were asked for, and wait
    runner = algorithm.env_runner
    assert runner.group.num_pending <= 4
    assert len(algorithm._waiting) <= 2 + 4
    assert not math.isnan(result["learner/default/entropy"])
    path = algorithm.save(tmp_path / "saved")
    saved_version = algorithm.learner.version
    algorithm.train()
    algorithm.restore(path)
    learned.clear()
    algorithm.train()
    versions = [rollout.policy_version for rollout in learned]
    assert versions[0] == saved_version
    assert all(version <= saved_version + number for number, version in enumerate(versions)), "none is of before"
    algorithm.stop()


@pytest.mark.learning
def test_learning_goes_on_while_a_runner_is_replaced():
    algorithm = build(IMPALAConfig(), CountEnv)
    algorithm.train()
    (pid, _) = algorithm.foreach_env_runner(lambda runner: os.getpid())
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30.0
    results = [algorithm.train()]
    while algorithm.env_runner.num_restarts == 0 or algorithm.env_runner.num_healthy < 2:
        results.append(algorithm.train())
        assert time.monotonic() < deadline
    assert results[-1]["env_runners/num_env_runner_restarts"] == 1
    steps = [result["env_steps"] for result in results]
    assert all(later - earlier >= 640 for earlier, later in itertools.pairwise(steps))
    algorithm.stop()
