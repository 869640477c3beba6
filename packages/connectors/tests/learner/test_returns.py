import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollout_maker import bound, make_rollout, random_rollout, real

from rl_connectors.learner.returns import NStepReturns, ReturnsToGo
from rl_core.errors import ConfigError

REWARD = np.array([[1.0, 8.0], [2.0, 4.0], [4.0, 2.0], [8.0, 1.0]])


def test_returns_to_go_sum_to_the_end_of_the_episode():
    rollout = make_rollout(np.zeros((5, 2)), reward=REWARD, terminated=[(1, 0)], truncated=[(2, 1)])
    _, after, report = ReturnsToGo(gamma=0.5)({}, rollout)
    assert after.extras["returns_to_go"].tolist() == [[2.0, 10.5], [2.0, 5.0], [8.0, 2.0], [8.0, 1.0]]
    assert report == {}
    assert rollout.extras == {}


def test_n_step_returns_stop_at_the_end_of_episode_and_rollout():
    rollout = make_rollout(np.zeros((5, 2)), reward=REWARD, terminated=[(1, 0)], truncated=[(2, 1)])
    _, after, _ = NStepReturns(num_steps=2, gamma=0.5)({}, rollout)
    assert after.extras["n_step_return"].tolist() == [[2.0, 10.0], [2.0, 5.0], [8.0, 2.0], [8.0, 1.0]]
    assert after.extras["n_step_discount"].tolist() == [[0.0, 0.25], [0.0, 0.25], [0.25, 0.5], [0.5, 0.5]]


@pytest.mark.parametrize("num_steps", [1, 3, 100])
def test_both_agree_with_a_literal_sum(num_steps):
    gamma = 0.9
    rollout = random_rollout(spaces.Discrete(3), num_steps=40)
    _, after, _ = NStepReturns(num_steps=num_steps, gamma=gamma)({}, rollout)
    _, after, _ = ReturnsToGo(gamma=gamma)({}, after)
    steps = set(real(rollout))
    for t, b in steps:
        end = t
        while not (rollout.terminated[end, b] or rollout.truncated[end, b]) and (end + 1, b) in steps:
            end += 1
        rewards = rollout.reward[t : end + 1, b].tolist()
        assert after.extras["returns_to_go"][t, b].item() == pytest.approx(
            sum(gamma**i * reward for i, reward in enumerate(rewards)), abs=1e-5
        )
        k = min(num_steps, len(rewards))
        assert after.extras["n_step_return"][t, b].item() == pytest.approx(
            sum(gamma**i * reward for i, reward in enumerate(rewards[:k])), abs=1e-5
        )
        discount = 0.0 if rollout.terminated[t + k - 1, b] else gamma**k
        assert after.extras["n_step_discount"][t, b].item() == pytest.approx(discount, abs=1e-6)


def test_steps_that_are_not_real_have_no_returns_and_give_none():
    rollout = make_rollout(np.zeros((5, 2)), reward=REWARD, invalid=[(1, 0)], extras={"mine": torch.ones(4, 2)})
    _, after, _ = NStepReturns(num_steps=3, gamma=1.0)({}, rollout)
    _, after, _ = ReturnsToGo(gamma=1.0)({}, after)
    assert after.extras["returns_to_go"][:, 0].tolist() == [1.0, 0.0, 12.0, 8.0]
    assert after.extras["n_step_return"][:, 0].tolist() == [1.0, 0.0, 12.0, 8.0]
    assert after.extras["n_step_discount"][:, 0].tolist() == [1.0, 0.0, 1.0, 1.0]
    assert set(after.extras) == {"mine", "returns_to_go", "n_step_return", "n_step_discount"}


@pytest.mark.parametrize(
    ("piece", "settings"),
    [(ReturnsToGo, {"gamma": 1.5}), (NStepReturns, {"gamma": -0.1}), (NStepReturns, {"num_steps": 0})],
)
def test_settings_out_of_range_are_refused(piece, settings):
    with pytest.raises(ConfigError, match=f"{piece.__name__}: {next(iter(settings))}: got .* expected"):
        piece(**settings)


def test_they_take_any_space():
    piece, state = bound(ReturnsToGo(), spaces.Dict({"a": spaces.Discrete(3)}))
    assert piece(state, random_rollout(spaces.Dict({"a": spaces.Discrete(3)})))[1].extras
