"""Many agents with runners and learners in other processes."""

import os
import signal
import sys

import numpy as np
import pytest
import torch

ray = pytest.importorskip("ray")
import naming_env  # noqa: E402
from naming_env import NamingEnv, make_config, parameters  # noqa: E402

from rl_core import PPOConfig  # noqa: E402
from rl_core.runtime.packing import unpack  # noqa: E402
from rl_multiagent import (  # noqa: E402
    MAPPOConfig,
    MultiAgent,
    PolicySpec,
    add_policy,
    load_policy,
    map_agents,
    remove_policy,
    restart_policy,
    train_policies,
)

for module in (naming_env, sys.modules[__name__]):
    ray.cloudpickle.register_pickle_by_value(module)


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    if ray.is_initialized() and ray.cluster_resources()["CPU"] < 4:
        ray.shutdown()
    if not ray.is_initialized():
        ray.init(address="local", num_cpus=4, include_dashboard=False, log_to_driver=False)


def main_against_old(agent, episode):
    return "main" if (agent == "left") == (episode.number % 2 == 0) else "old"


def main_everywhere(agent, episode):
    return "main"


def test_policies_come_and_go_on_all_remote_runners():
    extension = MultiAgent(policies=("main",), policy_mapping_fn=main_everywhere)
    config = make_config(extension, NamingEnv, alike=True).env_runners(num_env_runners=2)
    algorithm = config.evaluation(evaluation_num_env_runners=1, evaluation_duration=4).build()
    algorithm.train()
    algorithm.evaluate()
    add_policy(algorithm, "old", weights="main", policy_mapping_fn=main_against_old)
    frozen = parameters(algorithm.env_runner.policies["old"])
    for _ in range(3):
        result = algorithm.train()
    assert result["env_runners/policy_episode_return_mean/old"] >= 0
    weights = algorithm.env_runner.call_each(
        lambda runner: {name: parameters(policy) for name, policy in runner.policies.items()}
    )
    assert len(weights) == 2
    for own in weights:
        assert torch.equal(own["old"], frozen)
        assert torch.equal(own["main"], weights[0]["main"])
        assert not torch.equal(own["main"], frozen)
    map_agents(algorithm, main_everywhere)
    for _ in range(3):  # until the episodes of the old one have ended
        algorithm.train()
    assert algorithm.evaluate()["evaluation/num_episodes"] == 4, "its runner, too, has had all changes"
    algorithm.env_runner.submit(1)
    remove_policy(algorithm, "old")
    assert "old" in algorithm.env_runner.arrived()[0].statistics, "under way as in IMPALA"
    algorithm.train()
    assert algorithm.env_runner.call_each(lambda runner: list(runner.policies)) == [["main"]] * 2
    algorithm.stop()


def left_or_third(agent, episode):
    return "third" if agent == "left" and episode.number % 2 else agent


def alike(algorithm):
    """Whether both learners have the same weights; returns those of each policy."""
    handles = algorithm._learner_group._handles
    first, second = map(unpack, ray.get([handle.weights.remote() for handle in handles]))
    flat = {name: torch.cat([tensor.flatten() for tensor in own.tensors.values()]) for name, own in first.items()}
    for name, own in second.items():
        assert torch.equal(torch.cat([tensor.flatten() for tensor in own.tensors.values()]), flat[name]), name
    return flat


def test_learners_share_the_policies_of_many_agents_which_come_and_go(tmp_path):
    config = make_config().env_runners(num_envs_per_env_runner=4).learners(num_learners=2)
    algorithm = config.training(train_batch_size_per_learner=200, lr=0.02).build()
    result = algorithm.train()
    assert result["env_steps"] == 400
    assert np.isfinite(result["learner/left/policy_loss"])
    before = result["env_runners/episode_return_mean"]
    for _ in range(12):
        result = algorithm.train()
    assert result["env_runners/episode_return_mean"] > before + 2
    learned = alike(algorithm)
    path = algorithm.save(tmp_path / "saved")
    like_left = PolicySpec(like="left")
    add_policy(algorithm, "third", like_left, weights="left", train=True, policy_mapping_fn=left_or_third)
    begun = alike(algorithm)
    assert torch.equal(begun["third"], learned["left"])
    assert torch.equal(begun["right"], learned["right"])
    for _ in range(3):
        result = algorithm.train()
    assert np.isfinite(result["learner/third/policy_loss"])
    after = alike(algorithm)
    assert all(not torch.equal(after[name], begun[name]) for name in ("left", "right", "third"))
    os.kill(
        ray.get(algorithm._learner_group._handles[1].__ray_call__.remote(lambda actor: os.getpid())), signal.SIGKILL
    )
    with pytest.warns(UserWarning, match="1 of 2 learners are replaced"):
        algorithm.train()
    assert set(alike(algorithm)) == {"left", "right", "third"}
    train_policies(algorithm, ("third", "right"))
    restart_policy(algorithm, "third")
    assert set(begun := alike(algorithm)) == {"right", "third"}
    load_policy(algorithm, "third", path, "left")
    assert torch.equal((loaded := alike(algorithm))["third"], learned["left"])
    assert not torch.equal(begun["third"], loaded["third"])
    assert torch.equal(begun["right"], loaded["right"])
    left = parameters(algorithm.env_runner.policies["left"])
    assert np.isfinite(algorithm.train()["learner/third/policy_loss"])
    assert not torch.equal(alike(algorithm)["third"], loaded["third"])
    assert torch.equal(parameters(algorithm.env_runner.policies["left"]), left)
    algorithm.stop()


def plain_descent(parameters, settings):
    """Steps in proportion to gradients, so that weights show them."""
    return torch.optim.SGD(parameters.values(), lr=0.1)


def test_learners_share_the_critic_of_all_policies_and_it_learns_as_one_would(tmp_path):
    extension = MultiAgent(policies={"left": PolicySpec(), "right": PolicySpec(algorithm=PPOConfig)})
    config = make_config(extension, algorithm=MAPPOConfig)  # the critic's samples fit into one minibatch
    config.training(num_epochs=1, minibatch_size=100, grad_clip=None).learners(optimizer_fn=plain_descent)
    alone = config.copy().training(train_batch_size_per_learner=200, minibatch_size=200).build()
    first = alone.learner.learners["central_critic"].get_state()["learner_only"]
    first = {name: tensor.clone() for name, tensor in first.items()}
    together = config.copy().learners(num_learners=2).build()
    results = [algorithm.train() for algorithm in (alone, together)]
    assert results[0]["env_steps"] == results[1]["env_steps"] == 200
    ours, theirs = (
        algorithm.learner.learners["central_critic"].get_state()["learner_only"] for algorithm in (alone, together)
    )
    for name, tensor in ours.items():
        assert not torch.equal(tensor, first[name]), name
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-4, atol=1e-5)
    loss = "learner/central_critic/value_loss"
    assert results[1][loss] == pytest.approx(results[0][loss], rel=1e-4)
    together.restore(alone.save(tmp_path / "saved"))
    theirs = together.learner.learners["central_critic"].get_state()["learner_only"]
    assert all(torch.equal(theirs[name], tensor) for name, tensor in ours.items())
    together.stop()
