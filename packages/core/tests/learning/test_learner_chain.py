from dataclasses import dataclass, field, replace

import pytest
import torch
from gymnasium import spaces
from torch import nn

from rl_core import DQNConfig, LearnerConnector, PPOConfig, Trained
from rl_core.errors import CheckpointError, ConfigError, NonFiniteError
from rl_core.testing.envs import CountdownEnv


@dataclass(frozen=True)
class Bonus(LearnerConnector):
    """Adds the number of rollouts so far to the rewards."""

    size: float = 1.0
    space: spaces.Space | None = field(default=None, init=False, repr=False, compare=False)

    def bind(self, observation_space, action_space):
        if not isinstance(action_space, spaces.Discrete):
            raise ValueError("only for Discrete actions")
        bound = replace(self)
        object.__setattr__(bound, "space", observation_space)
        return bound

    def initial_state(self, seed):
        return {"count": 0, "sum": torch.zeros(1)}

    def __call__(self, state, rollout):
        count = state["count"] + 1
        state = {"count": count, "sum": state["sum"] + rollout.reward.sum()}
        return state, replace(rollout, reward=rollout.reward + self.size * count), {"bonus": self.size * count}


@dataclass(frozen=True)
class Predicts(LearnerConnector):
    """Trains a network to predict the observation, and rewards its error."""

    def initial_state(self, seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return {"net": Trained(nn.Linear(1, 1), lr=0.1)}

    def __call__(self, state, rollout):
        error = (state["net"].module(rollout.obs[1:]) - rollout.obs[1:]).square().mean(-1)
        state["net"].minimise(error.mean())
        return state, replace(rollout, reward=rollout.reward + error.detach()), {"error": float(error.detach().mean())}


def build(*pieces, kind=PPOConfig, seed=0):
    config = kind().environment(CountdownEnv).env_runners(num_envs_per_env_runner=2).debugging(seed=seed)
    if kind is PPOConfig:
        config.training(train_batch_size_per_learner=20, minibatch_size=20, num_epochs=1)
    return config.learners(learner_connector=pieces).build()


@pytest.mark.parametrize("kind", [PPOConfig, DQNConfig])
def test_rewards_are_changed_for_the_learner_and_not_in_the_results(kind):
    algorithm = build(Bonus(2.0), kind=kind)
    results = [algorithm.train() for _ in range(8)]
    bonuses = [result["learner/default/Bonus/bonus"] for result in results]
    assert bonuses == sorted(set(bonuses))
    assert kind is DQNConfig or bonuses == [2.0 * n for n in range(1, 9)]
    assert results[-1]["env_runners/episode_return_mean"] == 5.0


def test_two_pieces_of_one_class_keep_apart():
    result = build(Bonus(1.0), Bonus(3.0)).train()
    assert (result["learner/default/Bonus_0/bonus"], result["learner/default/Bonus_1/bonus"]) == (1.0, 3.0)


def test_a_trained_network_gets_better_and_is_saved(tmp_path):
    algorithm = build(Predicts())
    errors = [algorithm.train()["learner/default/Predicts/error"] for _ in range(60)]
    assert errors[-1] < 0.2 * errors[0]
    path = algorithm.save(tmp_path / "checkpoint")
    twin = build(Predicts(), seed=9)
    twin.restore(path)
    for _ in range(3):
        one, two = algorithm.train(), twin.train()
        assert one["learner/default/Predicts/error"] == two["learner/default/Predicts/error"]
        assert one["learner/default/total_loss"] == two["learner/default/total_loss"]


def test_the_state_of_plain_pieces_is_saved(tmp_path):
    algorithm = build(Bonus())
    algorithm.train()
    twin = build(Bonus())
    twin.restore(algorithm.save(tmp_path / "checkpoint"))
    assert twin.train()["learner/default/Bonus/bonus"] == 2.0


def test_a_checkpoint_of_other_connectors_is_refused_and_says_which(tmp_path):
    path = build(Bonus()).save(tmp_path / "checkpoint")
    with pytest.raises(CheckpointError, match=r"has the learner connectors \['Bonus'\], this run has \['Predicts'\]"):
        build(Predicts()).restore(path)
    with pytest.raises(CheckpointError, match=r"has the learner connectors \['Bonus'\], this run has none"):
        build().restore(path)


def test_what_is_no_learner_connector_is_refused_with_its_place():
    with pytest.raises(ConfigError, match="Learner connector 1: got 3, expected a LearnerConnector instance"):
        build(Bonus(), 3)


def test_a_piece_that_refuses_the_spaces_is_named():
    config = PPOConfig().environment("Pendulum-v1").learners(learner_connector=(Bonus(),))
    with pytest.raises(ConfigError, match=r"Learner connector 0 \(Bonus\) cannot take .*only for Discrete actions"):
        config.build()


def test_learner_connectors_see_observations_before_they_are_flattened():
    config = PPOConfig().environment("FrozenLake-v1").learners(learner_connector=(Bonus(),))
    algorithm = config.build()
    assert algorithm.learner.connectors.pieces[0].space == spaces.Discrete(16)
    assert algorithm.sample().obs.dtype == torch.int64
    assert algorithm.train()["learner/default/Bonus/bonus"] == 1.0


def test_a_loss_that_is_not_finite_takes_no_step():
    part = Trained(nn.Linear(1, 1), lr=0.1)
    before = part.module.weight.clone()
    with pytest.raises(NonFiniteError, match="Linear of a learner connector"):
        part.minimise(part.module(torch.full((1, 1), float("nan"))).sum())
    assert torch.equal(part.module.weight, before)


def test_a_chain_prints_as_a_table():
    algorithm = PPOConfig().environment("FrozenLake-v1").build()
    table = str(algorithm.policy.obs_chain)
    assert "FlattenObs(keys=None)" in table
    assert "Discrete(16)" in table
    assert "Box(16) float32" in table
    assert "ActionToEnv(clip=True, rescale=False)" in str(algorithm.policy.action_chain)


def test_a_learner_chain_prints_as_a_table():
    table = " ".join(str(build(Bonus(2.0), Predicts()).learner.connectors).split())
    assert (
        "Bonus(size=2.0) Box(1) float32 in [0, 1] Box(1) float32 in [0, 1] statistics: count number, sum (1,)" in table
    )
    assert (
        "Predicts() Box(1) float32 in [0, 1] Box(1) float32 in [0, 1] statistics: net weight (1, 1), bias (1,)" in table
    )
