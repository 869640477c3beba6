import numpy as np
import pytest
import torch
from gymnasium import spaces
from rollout_maker import bonus_of, bound, make_rollout, random_rollout, real, true_next

from rl_connectors.learner.rnd import RandomNetworkDistillation
from rl_core.errors import ConfigError

BOX = spaces.Box(-np.inf, np.inf, (3,))


def test_the_bonus_is_the_normalised_error_on_normalised_observations():
    piece, state = bound(RandomNetworkDistillation(0.7), BOX)
    seen, errors = [], []
    for seed in range(3):
        rollout = random_rollout(BOX, seed=seed)
        obs = np.stack([true_next(rollout, *step) for step in real(rollout)]) * 1.0
        seen.extend(obs)
        everything = np.stack(seen).astype(np.float64)
        inputs = ((obs - everything.mean(0)) / everything.std(0)).clip(-5, 5).astype(np.float32)
        network = state["network"].module
        with torch.no_grad():
            difference = network.predictor(torch.from_numpy(inputs)) - network.target(torch.from_numpy(inputs))
        error = difference.square().mean(1).numpy()
        errors.extend(error)
        state, after, _ = piece(state, rollout)
        expected = 0.7 * error / np.std(errors)
        bonus = bonus_of(rollout, after)
        np.testing.assert_allclose([bonus[step] for step in real(rollout)], expected, rtol=1e-3, atol=1e-5)


def test_familiar_observations_are_worth_less_than_new_ones():
    piece, state = bound(RandomNetworkDistillation(num_epochs=4, minibatch_size=32), spaces.Discrete(10))
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(20):
        state, _, report = piece(state, make_rollout(rng.integers(5, size=(33, 4))))
        losses.append(report["predictor_loss"])
    assert losses[-1] < 0.1 * losses[0]
    rollout = make_rollout(np.array([[0], [1], [7], [2], [8]]))
    _, after, _ = piece(state, rollout)
    familiar, new = bonus_of(rollout, after)[[0, 2], 0], bonus_of(rollout, after)[[1, 3], 0]
    assert new.min() > 5 * familiar.max()


def test_the_target_stays_as_it_is():
    piece, state = bound(RandomNetworkDistillation(), BOX)
    target = state["network"].module.target
    before = {name: value.clone() for name, value in target.state_dict().items()}
    predictor = state["network"].module.predictor.weight_0.clone()
    piece(state, random_rollout(BOX))
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())
    assert not torch.equal(predictor, state["network"].module.predictor.weight_0)


def test_observations_that_never_vary_do_not_blow_up():
    piece, state = bound(RandomNetworkDistillation(), BOX)
    _, after, _ = piece(state, make_rollout(np.full((4, 2, 3), 1e6)))
    assert torch.isfinite(after.reward).all()


@pytest.mark.parametrize("settings", [{"coefficient": -1}, {"lr": -1.0}, {"hiddens": [64]}, {"feature_dim": 0}])
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=f"RandomNetworkDistillation: {next(iter(settings))}: got .* expected"):
        RandomNetworkDistillation(**settings)
