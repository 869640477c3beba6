import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollout_maker import batch_of, bonus_of, bound, make_rollout, random_rollout, real, true_next
from torch.nn import functional

from rl_connectors.learner.icm import IntrinsicCuriosity
from rl_core.env.spaces import flatten_batch
from rl_core.errors import ConfigError

BOX = spaces.Box(-np.inf, np.inf, (3,))


def predictable(num_steps=60, num_slots=4, seed=0):
    """Numbers of a ring of 5 places: action 1 goes on by one, action 0 stays."""
    rng = np.random.default_rng(seed)
    action = rng.integers(2, size=(num_steps, num_slots))
    place = np.concatenate([rng.integers(5, size=(1, num_slots)), action]).cumsum(0) % 5
    return make_rollout(place, action=action)


def test_the_bonus_is_the_forward_models_error_at_the_true_next_observation():
    piece, state = bound(IntrinsicCuriosity(0.3, hiddens=(16,), feature_dim=4), BOX)
    rollout = random_rollout(BOX)
    network = state["network"].module
    expected = {}
    for t, b in real(rollout):
        feature = network.features(rollout.obs[t, b])
        target = network.features(torch.from_numpy(true_next(rollout, t, b)))
        action = functional.one_hot(rollout.action[t, b], 2).float()
        error = network.forward_model(torch.cat([feature, action])) - target
        expected[t, b] = 0.3 * 0.5 * error.square().sum().item()
    _, after, report = piece(state, rollout)
    bonus = bonus_of(rollout, after)
    for step, value in expected.items():
        assert bonus[step] == pytest.approx(value, rel=1e-3, abs=1e-5)
    assert report["intrinsic_reward_mean"] == pytest.approx(np.mean(list(expected.values())), rel=1e-4)


def test_the_losses_are_those_of_the_paper():
    piece, state = bound(IntrinsicCuriosity(coefficient=1.0, minibatch_size=10_000), BOX)
    rollout = random_rollout(BOX)
    network = state["network"].module
    with torch.no_grad():
        pairs = []
        for t, b in real(rollout):
            feature = network.features(rollout.obs[t, b])
            next_feature = network.features(torch.from_numpy(true_next(rollout, t, b)))
            logits = network.inverse_model(torch.cat([feature, next_feature]))
            pairs.append(functional.cross_entropy(logits, rollout.action[t, b]).item())
    _, _, report = piece(state, rollout)
    assert report["inverse_loss"] == pytest.approx(np.mean(pairs), rel=1e-4)
    assert report["forward_loss"] == pytest.approx(report["intrinsic_reward_mean"], rel=1e-4)


def test_it_learns_to_foresee_and_to_infer_actions():
    piece, state = bound(IntrinsicCuriosity(num_epochs=4, minibatch_size=32, lr=3e-3), spaces.Discrete(5))
    reports = []
    for seed in range(12):
        state, _, report = piece(state, predictable(seed=seed))
        reports.append(report)
    assert reports[-1]["inverse_loss"] < 0.1 * reports[0]["inverse_loss"]
    assert reports[-1]["intrinsic_reward_mean"] < 0.1 * reports[0]["intrinsic_reward_mean"]
    surprising = make_rollout((np.arange(61) * 3 % 5).reshape(-1, 1), action=np.zeros((60, 1), np.int64))
    assert piece(state, surprising)[2]["intrinsic_reward_mean"] > 5 * reports[-1]["intrinsic_reward_mean"]


@pytest.mark.parametrize(
    "action_space",
    [
        spaces.Discrete(3, start=4),
        spaces.Box(-2, 2, (2,)),
        spaces.MultiDiscrete([2, 3], start=[1, 1]),
        spaces.MultiBinary(2),
        spaces.Dict({"b": spaces.Discrete(2, start=1), "a": spaces.Box(-1, 1, (1,))}),
    ],
)
def test_actions_of_all_kinds_are_inferred(action_space):
    from_zero = IntrinsicCuriosity().bind(BOX, action_space).actions
    action = batch_of(from_zero.space, 40, 4)
    shown = flatten_batch(from_zero.space, action, 2)
    obs = np.concatenate([np.zeros((1, *shown.shape[1:])), shown])  # an observation shows the action that led to it
    space = spaces.Box(-3, 3, obs.shape[2:])
    piece, state = bound(IntrinsicCuriosity(num_epochs=10, minibatch_size=32, lr=3e-3), space, action_space)
    reports = []
    for _ in range(8):
        state, _, report = piece(state, make_rollout(obs, action=action))
        reports.append(report)
    assert reports[-1]["inverse_loss"] < 0.2 * reports[0]["inverse_loss"]


def test_gradient_steps_are_as_many_as_asked_for():
    piece, state = bound(IntrinsicCuriosity(num_epochs=3, minibatch_size=64), spaces.Discrete(5))
    piece(state, predictable(num_steps=50, num_slots=4))
    assert state["network"].get_state()["optimizer"]["num_steps"].item() == 3 * 4


@pytest.mark.parametrize(
    "settings",
    [
        {"coefficient": -1},
        {"lr": 0.0},
        {"beta": 1.1},
        {"hiddens": ()},
        {"hiddens": (0,)},
        {"feature_dim": 0},
        {"num_epochs": 0},
        {"minibatch_size": 0.5},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=f"IntrinsicCuriosity: {next(iter(settings))}: got .* expected"):
        IntrinsicCuriosity(**settings)
