import numpy as np
import pytest
import torch
from gymnasium import spaces

from rl_connectors import StickyAction
from rl_core.checkpoint import Checkpoint, save_checkpoint
from rl_core.connect.chain import ActionChain
from rl_core.errors import ConfigError

NESTED = spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Tuple([spaces.Discrete(9), spaces.MultiBinary(2)]))


def play(chain, state, actions, first):
    taken = []
    for action, begins in zip(actions, first, strict=True):
        state, result = chain(state, action, begins)
        taken.append(result)
    return state, taken


def test_the_share_of_repeats_is_the_probability_for_each_slot():
    num_steps, num_slots, probability = 4000, 8, 0.3
    chain = ActionChain([StickyAction(probability)], spaces.Discrete(num_steps))
    actions = [torch.full((num_slots,), time) for time in range(num_steps)]
    first = np.zeros((num_steps, num_slots), bool)
    first[0] = True
    _, taken = play(chain, chain.initial_state(num_slots, seed=1), actions, first)
    repeats = torch.stack(taken).numpy() != np.arange(num_steps)[:, np.newaxis]
    np.testing.assert_allclose(repeats[1:].mean(0), probability, atol=4.5 * np.sqrt(0.3 * 0.7 / num_steps))
    assert np.abs(np.corrcoef(repeats[1:].T) - np.eye(num_slots)).max() < 5 / np.sqrt(num_steps)


def test_a_slot_repeats_what_it_took_not_what_the_module_wanted():
    chain = ActionChain([StickyAction(1.0)], spaces.Discrete(9))
    actions = [torch.tensor([time, time]) for time in range(4)]
    first = np.array([[True, True], [False, False], [False, True], [False, False]])
    _, taken = play(chain, chain.initial_state(2, seed=0), actions, first)
    assert torch.stack(taken).tolist() == [[0, 0], [0, 0], [0, 2], [0, 2]]


def test_all_leaves_of_a_slot_repeat_together():
    chain = ActionChain([StickyAction(0.5)], NESTED)
    actions = [
        {
            "a": torch.full((50, 2), float(time)),
            "b": (torch.full((50,), time), torch.full((50, 2), time)),
        }
        for time in range(10)
    ]
    first = np.arange(10)[:, np.newaxis] == np.zeros((1, 50), int)
    _, taken = play(chain, chain.initial_state(50, seed=0), actions, first)
    for result in taken:
        assert (result["a"][:, 0] == result["b"][0]).all()
        assert (result["b"][1] == result["b"][0][:, None]).all()


def test_a_run_goes_on_from_a_checkpoint_with_the_same_actions(tmp_path):
    chain = ActionChain([StickyAction(0.5), StickyAction(0.5)], spaces.Discrete(100))
    actions = [torch.arange(6) + time for time in range(20)]
    first = np.zeros((20, 6), bool)
    state, _ = play(chain, chain.initial_state(6, seed=3), actions[:10], first[:10])
    save_checkpoint(tmp_path / "saved", {"memory": state})
    restored = Checkpoint(tmp_path / "saved").load("memory")
    _, expected = play(chain, state, actions[10:], first[10:])
    _, given = play(chain, restored, actions[10:], first[10:])
    assert torch.equal(torch.stack(given), torch.stack(expected))
    assert not np.array_equal(state[0]["key"], state[1]["key"]), "two pieces draw different numbers"


@pytest.mark.parametrize("probability", [-0.1, 1.1, np.nan, "0.1"])
def test_the_probability_is_one(probability):
    with pytest.raises(ConfigError, match="StickyAction: probability: got"):
        StickyAction(probability)
