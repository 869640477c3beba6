import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_connectors import ActionNoise
from rl_connectors.action._random import initial_keys, normals
from rl_core.connect.chain import ActionChain
from rl_core.errors import ConfigError
from rl_core.testing import check_connector

VECTOR = spaces.Box(-1, 1, (2,))


def noise_of(piece, num_slots, first, space=VECTOR, seed=0):
    """The noise in each step, `[T, B, A]`: what zero actions become."""
    chain = ActionChain([piece], space)
    state, results = chain.initial_state(num_slots, seed=seed), []
    for begins in first:
        state, action = chain(state, torch.zeros(num_slots, *space.shape), begins)
        results.append(action.numpy())
    return np.stack(results)


def test_drifting_noise_is_the_recurrence_and_begins_anew():
    random = np.random.default_rng(0)
    first = random.random((30, 4)) < 0.2
    theta, dt, std = 0.4, 0.5, 0.3
    given = noise_of(ActionNoise(std, "ornstein_uhlenbeck", theta=theta, dt=dt), 4, first)
    key, noise = initial_keys(0, 4), np.zeros((4, 2))
    for time in range(30):
        key, normal = normals(key, 2)
        for slot in range(4):
            if first[time, slot]:
                noise[slot] = 0
            noise[slot] += -theta * dt * noise[slot] + std * np.sqrt(dt) * normal[slot]
        np.testing.assert_allclose(given[time], noise, atol=1e-6)


def test_drifting_noise_has_the_spread_and_memory_of_its_process():
    theta, std = 0.2, 0.1
    noise = noise_of(ActionNoise(std, "ornstein_uhlenbeck", theta=theta), 500, np.zeros((200, 500), bool))[50:]
    assert noise.std() == pytest.approx(std / np.sqrt(1 - (1 - theta) ** 2), rel=0.03)
    assert np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1] == pytest.approx(1 - theta, abs=0.01)


def test_gaussian_noise_is_new_in_each_step_slot_and_number():
    noise = noise_of(ActionNoise(2.0), 100, np.zeros((100, 100), bool))
    assert len(np.unique(noise)) > 0.999 * noise.size
    assert noise.std() == pytest.approx(2.0, rel=0.03)
    assert abs(np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]) < 0.03


def test_leaves_that_are_no_floats_pass_and_boxes_get_noise_of_their_own():
    space = spaces.Dict(a=VECTOR, b=spaces.Discrete(3), c=spaces.Tuple([spaces.Box(-1, 1, (), np.float32)]))
    piece = ActionNoise(0.1, "ornstein_uhlenbeck")
    check_connector(piece, VECTOR, space)
    chain = ActionChain([piece], space)
    action = {"a": torch.zeros(2, 2), "b": torch.tensor([0, 2]), "c": (torch.zeros(2),)}
    state, result = chain(chain.initial_state(2, seed=0), action, np.ones(2, bool))
    assert result["b"] is action["b"]
    numbers = torch.cat((result["a"], result["c"][0][:, None]), dim=1).numpy()
    np.testing.assert_allclose(numbers, state[0]["noise"], atol=1e-7)
    assert len(np.unique(numbers)) == 6


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"std": -1}, "std: got -1"),
        ({"std": 1, "kind": "pink"}, "kind='pink', expected 'gaussian' or"),
        ({"std": 1, "theta": 0}, "theta: got 0"),
        ({"std": 1, "dt": np.inf}, "dt: got inf"),
        ({"std": 1, "theta": 1, "dt": 2.0}, "expected a product below 2"),
    ],
)
def test_bad_settings_are_refused(settings, problem):
    with pytest.raises(ConfigError, match=f"ActionNoise: .*{problem}"):
        ActionNoise(**settings)
