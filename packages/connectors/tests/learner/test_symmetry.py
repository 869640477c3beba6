from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollout_maker import make_rollout, random_rollout

from rl_connectors.learner.symmetry import Symmetry
from rl_core.errors import ConfigError, UnsupportedSpaceError
from rl_core.module.distribution import Categorical, DiagonalGaussian, SquashedGaussian
from rl_core.module.exploration import EpsilonGreedy, NoisyAction
from rl_core.records import History

BOX = spaces.Box(-1, 1, (3,))


def mirrored(piece, rollout, observation_space, action_space):
    """The image alone."""
    before = rollout.obs.clone()
    _, after, report = piece.bind(observation_space, action_space)({}, rollout)
    num_slots = rollout.reward.shape[1]
    assert torch.equal(rollout.obs, before)
    assert report == {}
    assert after.env_steps == rollout.env_steps
    assert after.policy_version == rollout.policy_version
    assert torch.equal(after.obs[:, :num_slots], rollout.obs)
    assert torch.equal(after.action[:, :num_slots], rollout.action)
    assert torch.equal(after.behavior_dist_inputs[:, :num_slots], rollout.behavior_dist_inputs)
    for name in ("reward", "terminated", "truncated"):
        column = getattr(rollout, name)
        assert torch.equal(getattr(after, name), torch.cat([column, column], 1))
    return after, num_slots


def test_boxes_are_permuted_and_signed_with_their_distribution():
    piece = Symmetry(obs_sign=(-1, 1, 1), obs_permutation=(0, 2, 1), action_sign=(-1, -1), action_permutation=(1, 0))
    rollout = make_rollout(
        np.array([[[0.1, 0.2, 0.3]], [[0.4, 0.5, 0.6]]]),
        action=np.array([[[0.7, 0.8]]]),
        dist_inputs=np.array([[[1.0, 2.0, -3.0, -4.0]]]),
        terminated=[(0, 0)],
        finals=[((0, 0), np.array([0.7, 0.8, 0.9]))],
        extras={"mine": torch.tensor([[5.0]])},
    )
    after, _ = mirrored(piece, rollout, BOX, spaces.Box(-2, 2, (2,)))
    torch.testing.assert_close(after.obs[:, 1], torch.tensor([[-0.1, 0.3, 0.2], [-0.4, 0.6, 0.5]]))
    torch.testing.assert_close(after.action[0, 1], torch.tensor([-0.8, -0.7]))
    assert after.behavior_dist_inputs[0, 1].tolist() == [-2.0, -1.0, -4.0, -3.0]
    assert after.final_index.tolist() == [0, 1]
    torch.testing.assert_close(after.final_obs, torch.tensor([[0.7, 0.8, 0.9], [-0.7, 0.9, 0.8]]))
    assert after.extras["mine"].tolist() == [[5.0, 5.0]]


def test_numbers_are_permuted_with_their_logits():
    piece = Symmetry(obs_permutation=(2, 0, 1), action_permutation=(1, 2, 0))
    rollout = make_rollout(
        np.array([[10], [11]]), action=np.array([[0]]), dist_inputs=np.array([[[7.0, 8.0, 9.0]]]), invalid=[(0, 0)]
    )
    after, _ = mirrored(piece, rollout, spaces.Discrete(3, start=10), spaces.Discrete(3, start=5))
    assert after.obs.tolist() == [[10, 12], [11, 10]]
    assert after.action.tolist() == [[0, 1]]
    assert after.behavior_dist_inputs[0, 1].tolist() == [9.0, 7.0, 8.0]
    assert after.valid.tolist() == [[False, False]]


@pytest.mark.parametrize(
    ("action_space", "distribution"),
    [
        (spaces.Discrete(4), Categorical(4)),
        (spaces.Discrete(4), EpsilonGreedy(4)),
        (spaces.Discrete(4), EpsilonGreedy(4, noisy=True)),
        (spaces.Box(-2, 2, (4,)), DiagonalGaussian((4,))),
        (spaces.Box(-2, 2, (4,)), SquashedGaussian(np.full(4, -2.0), np.full(4, 2.0))),
        (spaces.Box(-2, 2, (4,)), NoisyAction(np.full(4, -2.0), np.full(4, 2.0))),
    ],
)
def test_the_image_of_an_action_is_as_likely_as_the_action(action_space, distribution):
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand((20, 3, distribution.num_inputs), generator=generator) / 2 + 0.1
    action = distribution.sample(inputs, distribution.noise((20, 3), generator))
    signs = {} if isinstance(action_space, spaces.Discrete) else {"action_sign": (1, -1, 1, -1)}
    piece = Symmetry(action_permutation=(1, 3, 0, 2), **signs)
    rollout = make_rollout(torch.zeros(21, 3, 3), action=action, dist_inputs=inputs)
    after, num_slots = mirrored(piece, rollout, BOX, action_space)
    images = after.action[:, num_slots:]
    assert not torch.equal(images, action)
    torch.testing.assert_close(
        distribution.log_prob(after.behavior_dist_inputs[:, num_slots:], images), distribution.log_prob(inputs, action)
    )


def test_a_mirror_image_of_the_image_is_the_original():
    piece = Symmetry(obs_sign=(-1, 1, 1), obs_permutation=(0, 2, 1), action_permutation=(1, 0))
    rollout = random_rollout(BOX)
    after, num_slots = mirrored(piece, rollout, BOX, spaces.Discrete(2))
    again, _ = mirrored(piece, after, BOX, spaces.Discrete(2))
    for name in ("obs", "action", "behavior_dist_inputs"):
        assert torch.equal(getattr(again, name)[:, -num_slots:], getattr(rollout, name))
    index = again.final_index
    assert (index.diff() > 0).all()
    last = index % (4 * num_slots) >= 3 * num_slots
    assert torch.equal(again.final_obs[last], rollout.final_obs)
    assert again.valid.sum() == 4 * rollout.valid.sum()


@pytest.mark.parametrize(
    ("settings", "observation_space", "action_space", "match"),
    [
        ({"obs_sign": (-1,) * 3}, spaces.MultiBinary(3), spaces.Discrete(2), "the obs space is MultiBinary"),
        ({"obs_sign": (-1,) * 3}, BOX, spaces.MultiDiscrete([2]), "the action space is MultiDiscrete"),
        ({"obs_sign": (-1,) * 3}, spaces.Discrete(3), spaces.Discrete(2), "obs_sign is for a Box"),
        ({"obs_sign": (-1,) * 2}, BOX, spaces.Discrete(2), r"obs_sign has 2 entries, expected 3"),
        ({"action_permutation": (0, 1, 2)}, BOX, spaces.Discrete(2), "action_permutation has 3 entries, expected 2"),
        ({"action_sign": (-1,)}, BOX, spaces.Box(0, 1, (1,)), r"number 0 of the action lies in \[0, 1\]"),
        ({"obs_permutation": (1, 0)}, spaces.Box(np.float32([0, 0]), np.float32([1, 2])), BOX, "mirror image in"),
    ],
)
def test_spaces_that_are_not_their_own_image_are_refused(settings, observation_space, action_space, match):
    with pytest.raises(UnsupportedSpaceError, match=match):
        Symmetry(**settings).bind(observation_space, action_space)


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({}, "nothing is mirrored"),
        ({"obs_sign": (1, 0)}, "expected a tuple of 1 and -1"),
        ({"action_permutation": (0, 0)}, "each place once"),
        ({"action_permutation": [0, 1]}, "each place once"),
    ],
)
def test_settings_that_say_nothing_clear_are_refused(settings, match):
    with pytest.raises(ConfigError, match=match):
        Symmetry(**settings)


def test_rollouts_with_memory_are_refused():
    piece = Symmetry(obs_sign=(-1, 1, 1)).bind(BOX, spaces.Discrete(2))
    rollout = random_rollout(BOX)
    with pytest.raises(ConfigError, match="recurrent module"):
        piece({}, replace(rollout, state=torch.zeros(31, 3, 5)))
    first = np.zeros((31, 3), bool)
    with pytest.raises(ConfigError, match="frame stack"):
        piece({}, replace(rollout, history=History(slots=(np.zeros((3, 4, 3)),), first=first)))
    _, after, _ = piece({}, replace(rollout, history=History(slots=((),), first=first)))
    assert after.history.first.shape == (31, 6)


def test_a_distribution_it_does_not_know_is_refused():
    piece = Symmetry(action_permutation=(1, 0)).bind(BOX, spaces.Discrete(2))
    with pytest.raises(ConfigError, match="7 inputs for 2 choices"):
        piece({}, make_rollout(np.zeros((3, 1, 3)), dist_inputs=np.zeros((2, 1, 7))))
