"""The short form of `python -m benchmarks.memory`: many small iterations leave nothing behind."""

import os
from pathlib import Path

import pytest
import ray
import remote_envs
from remote_envs import CountEnv

from rl_core import PPOConfig

pytestmark = pytest.mark.usefixtures("cluster")
ray.cloudpickle.register_pickle_by_value(remote_envs)
PAGE = os.sysconf("SC_PAGE_SIZE")


def resident(pids):
    """Bytes of each process that it does not share with others."""
    counts = [Path(f"/proc/{pid}/statm").read_text().split() for pid in pids]
    return [PAGE * (int(pages) - int(shared)) for _, pages, shared, *_ in counts]


def test_no_process_grows_over_many_iterations():
    config = PPOConfig().environment(CountEnv, disable_env_checking=True)
    config.env_runners(num_env_runners=2, num_envs_per_env_runner=2)
    config.training(train_batch_size_per_learner=40, minibatch_size=40, num_epochs=1)
    algorithm = config.rl_module(model_config={"fcnet_hiddens": (4,)}).build()
    pids = [os.getpid(), *algorithm.foreach_env_runner(lambda runner: os.getpid())]
    assert len(set(pids)) == 3
    for _ in range(200):
        algorithm.train()
    before = resident(pids)
    for _ in range(400):
        algorithm.train()
    grown = [now - then for now, then in zip(resident(pids), before, strict=True)]
    algorithm.stop()
    assert max(grown) < 400 * 4096, f"bytes per iteration: {[growth / 400 for growth in grown]}"
