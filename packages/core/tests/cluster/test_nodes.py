"""A cluster of several nodes, simulated on one machine: its nodes are processes that can be lost."""

import time

import pytest

from rl_core import PPOConfig
from rl_core.runtime.channel import CallChannel, LineChannel

ray = pytest.importorskip("ray")


@pytest.fixture
def cluster():
    from ray.cluster_utils import Cluster

    if ray.is_initialized():
        ray.shutdown()
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.learning
def test_a_lost_node_costs_its_runner_until_another_node_comes(cluster):
    far = cluster.add_node(num_cpus=2)
    ray.init(address=cluster.address, log_to_driver=False)
    config = PPOConfig().environment("CartPole-v1")
    config.env_runners(num_env_runners=2, num_envs_per_env_runner=2, num_cpus_per_env_runner=2)
    algorithm = config.training(train_batch_size_per_learner=64, minibatch_size=64, num_epochs=1).build()
    nodes = algorithm.env_runner.call_each(lambda runner: ray.get_runtime_context().get_node_id())
    assert len(set(nodes)) == 2, "a runner on each node"
    group = algorithm.env_runner.group
    kinds = [LineChannel if node == group._node else CallChannel for node in nodes]
    assert [type(member.channel) for member in group.members] == kinds
    assert algorithm.train()["env_runners/num_healthy_env_runners"] == 2
    cluster.remove_node(far, allow_graceful=False)
    for _ in range(20):
        result = algorithm.train()
        time.sleep(0.2)
    assert result["env_runners/num_healthy_env_runners"] == 1
    assert result["env_runners/num_env_runner_restarts"] == 1
    assert result["env_steps"] == 21 * 64, "the other runner sampled in its place"
    cluster.add_node(num_cpus=2)
    deadline = time.monotonic() + 120
    while result["env_runners/num_healthy_env_runners"] < 2:
        assert time.monotonic() < deadline
        result = algorithm.train()
        time.sleep(0.1)
    algorithm.stop()
