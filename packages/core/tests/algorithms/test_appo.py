"""What APPO adds to a learner: a slow target policy, and batches that are learned from several times."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from rl_core import APPOConfig, LearnerConnector


@dataclass(frozen=True)
class AddOne(LearnerConnector):
    """Adds one to rewards and counts the rollouts."""

    def initial_state(self, seed):
        return {"calls": 0}

    def __call__(self, state, rollout):
        calls = state["calls"] + 1
        return {"calls": calls}, replace(rollout, reward=rollout.reward + 1.0), {"calls": float(calls)}


def small(*connectors, **training):
    config = APPOConfig().environment("CartPole-v1").env_runners(num_envs_per_env_runner=2)
    config.training(**({"train_batch_size_per_learner": 32, "minibatch_size": 32, "num_epochs": 1} | training))
    return config.learners(learner_connector=connectors).rl_module(model_config={"fcnet_hiddens": (8,)})


@pytest.mark.parametrize("num_uses", [1, 3])
def test_learner_connectors_see_each_rollout_once_however_often_it_is_learned_from(num_uses):
    uses = {"circular_buffer_num_batches": 3, "circular_buffer_iterations_per_batch": num_uses}
    algorithm = small(AddOne(), **uses).build()
    rewards = []
    prepare = algorithm.learner.objective.prepare

    def watched(module, rollout, settings):
        rewards.append(rollout.reward.unique().tolist())
        return prepare(module, rollout, settings)

    algorithm.learner.objective = replace(algorithm.learner.objective, prepare=watched)
    for place in range(5):
        figures = algorithm.learner.update(algorithm.env_runner.sample())
        assert figures["learner/default/AddOne/calls"] == place + 1
    algorithm.stop()
    assert algorithm.learner.connectors.states == [{"calls": 5}]
    assert len(rewards) == {1: 5, 3: 1 + 2 + 3 + 3 + 3}[num_uses]
    assert all(seen == [2.0] for seen in rewards), "CartPole's reward is 1"


@pytest.mark.parametrize("precision", ["bfloat16-true", "float16-true", "bfloat16-mixed", "float16-mixed"])
def test_the_target_policy_follows_in_half_precision(precision):
    algorithm = small(precision=precision, target_network_update_freq=1, tau=0.005, lr=0.0).build()
    learner, rollout = algorithm.learner, algorithm.env_runner.sample()
    algorithm.stop()
    assert [one.dtype for one in learner.target.parameters()] == [one.dtype for one in learner.module.parameters()]
    start = [one.float().clone() for one in learner.target.parameters()]
    with torch.no_grad():
        for one in learner.module.parameters():
            one.add_(0.25)
    for _ in range(100):  # twice in each
        learner.update(rollout)
    moved = [slow.float() - before for slow, before in zip(learner.target.parameters(), start, strict=True)]
    expected = 0.25 * (1 - 0.995**199)
    np.testing.assert_allclose(torch.cat([one.flatten() for one in moved]), expected, atol=0.01)


@pytest.mark.parametrize("precision", ["float32", "bfloat16-true"])
def test_learning_goes_on_from_its_state_in_half_precision_and_with_connectors(precision):
    learners = [small(AddOne(), precision=precision, tau=0.1).build().learner for _ in range(2)]
    algorithm = small().build()
    rollouts = [algorithm.env_runner.sample() for _ in range(6)]
    algorithm.stop()
    for rollout in rollouts[:4]:
        learners[0].update(rollout)
    learners[1].module.load_state_dict(learners[0].module.state_dict())
    learners[1].set_state(learners[0].get_state())
    for rollout in rollouts[4:]:
        np.testing.assert_equal(*(learner.update(rollout) for learner in learners))
    for one, other in zip(learners[0].target.parameters(), learners[1].target.parameters(), strict=True):
        assert torch.equal(one, other)
