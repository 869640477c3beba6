"""Every action piece keeps the rules of its protocol and says which spaces it cannot feed."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_connectors import ActionNoise, ClipAction, DiscretizeAction, RescaleAction, SelectActions, StickyAction
from rl_core import DQNConfig
from rl_core.connect.chain import ActionChain
from rl_core.errors import ConfigError
from rl_core.testing import check_connector

VECTOR = spaces.Box(-1, 1, (2,), np.float32)
LOPSIDED = spaces.Box(np.array([-2, 0], np.float32), np.array([4, 10], np.float32))
NESTED = spaces.Dict(a=LOPSIDED, b=spaces.Tuple([spaces.Discrete(3), VECTOR]))


@pytest.mark.parametrize(
    ("piece", "space"),
    [
        (ClipAction(), LOPSIDED),
        (ClipAction(), NESTED),
        (RescaleAction(), LOPSIDED),
        (RescaleAction(), NESTED),
        (DiscretizeAction(5), LOPSIDED),
        (DiscretizeAction(3), spaces.Box(-2, 2, (1,), np.float32)),
        (SelectActions((0, 2)), spaces.Discrete(4)),
        (StickyAction(0.3), spaces.Discrete(4)),
        (StickyAction(0.3), NESTED),
        (ActionNoise(0.1), LOPSIDED),
    ],
    ids=repr,
)
def test_every_piece_conforms(piece, space):
    check_connector(piece, VECTOR, space)


def convert(piece, space, action, first=None):
    chain = ActionChain([piece], space)
    action = torch.as_tensor(action)
    first = np.zeros(len(action), bool) if first is None else np.asarray(first)
    return np.asarray(chain(chain.initial_state(len(action), seed=0), action, first)[1])


def test_values_are_clipped_rescaled_and_looked_up():
    assert convert(ClipAction(), LOPSIDED, [[-9.0, 20.0], [1.0, 2.0]]).tolist() == [[-2, 10], [1, 2]]
    assert convert(RescaleAction(), LOPSIDED, [[-1.0, 1.0], [0.0, 0.0]]).tolist() == [[-2, 10], [1, 5]]
    assert convert(DiscretizeAction(3), LOPSIDED, [[0, 2], [1, 1]]).tolist() == [[-2, 10], [1, 5]]
    assert convert(SelectActions((3, 1)), spaces.Discrete(4), [0, 1, 0]).tolist() == [3, 1, 3]


def test_sticky_actions_repeat_as_often_as_asked_and_never_at_the_start():
    chain = ActionChain([StickyAction(0.25)], spaces.Discrete(1000))
    state, repeats, last = chain.initial_state(200, seed=3), 0, None
    random = torch.Generator().manual_seed(0)
    for time in range(60):
        action = torch.randint(1000, (200,), generator=random)
        state, result = chain(state, action, np.full(200, time % 20 == 0))
        result = np.asarray(result)
        if time % 20 == 0:
            assert (result == action.numpy()).all()
        else:
            repeats += int((result != action.numpy()).sum())
            assert (result[result != action.numpy()] == last[result != action.numpy()]).all()
        last = result
    assert repeats / (57 * 200) == pytest.approx(0.25, abs=0.02)


def test_noise_has_the_standard_deviation_asked_for():
    wide = spaces.Box(-100, 100, (2,), np.float32)
    noise = convert(ActionNoise(0.5), wide, torch.zeros(20_000, 2))
    assert noise.std() == pytest.approx(0.5, rel=0.03)
    assert noise.mean() == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize(
    ("piece", "space"),
    [
        (DiscretizeAction(3), spaces.Discrete(3)),
        (SelectActions((0, 9)), spaces.Discrete(4)),
        (RescaleAction(), spaces.Box(-np.inf, np.inf, (1,))),
        (ActionNoise(0.1), spaces.Discrete(3)),
    ],
    ids=repr,
)
def test_other_spaces_are_refused_by_name(piece, space):
    with pytest.raises(ConfigError, match=rf"Action connector 0 \({type(piece).__name__}\) cannot feed"):
        ActionChain([piece], space)


def test_an_algorithm_for_discrete_actions_takes_a_box_behind_bins():
    config = DQNConfig().environment("Pendulum-v1").env_runners(module_to_env_connector=(DiscretizeAction(5),))
    assert config.build().train()["env_steps"] > 0
