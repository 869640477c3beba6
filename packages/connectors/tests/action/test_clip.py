import numpy as np
import torch
from gymnasium import spaces

from rl_connectors import ActionNoise, ClipAction
from rl_core.connect.chain import ActionChain

FIRST = np.zeros(2, bool)


def test_the_module_decides_without_bounds_and_other_leaves_pass():
    space = spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Box(0, 9, (1,), np.int64), c=spaces.Discrete(3))
    chain = ActionChain([ClipAction()], space)
    assert chain.module_space == spaces.Dict(
        a=spaces.Box(-np.inf, np.inf, (2,)), b=space.spaces["b"], c=space.spaces["c"]
    )
    action = {"a": torch.tensor([[3.0, 0.5], [-3.0, 0.0]]), "b": torch.tensor([[20], [1]]), "c": torch.tensor([2, 0])}
    _, result = chain(chain.initial_state(2, seed=0), action, FIRST)
    assert result["a"].tolist() == [[1.0, 0.5], [-1.0, 0.0]]
    assert result["b"] is action["b"]
    assert result["c"] is action["c"]


def test_bounds_of_double_precision_hold_exactly():
    space = spaces.Box(np.array([0.1]), np.array([0.7]), dtype=np.float64)
    chain = ActionChain([ClipAction()], space)
    _, result = chain(chain.initial_state(2, seed=0), torch.tensor([[0.0], [1.0]]), FIRST)
    assert result.tolist() == [[0.1], [0.7]]


def test_behind_noise_it_takes_back_what_leaves_the_bounds():
    chain = ActionChain([ActionNoise(5.0), ClipAction()], spaces.Box(-1, 1, (3,)))
    _, result = chain(chain.initial_state(2, seed=0), torch.zeros(2, 3), FIRST)
    assert (result.abs() <= 1).all()
    assert (result.abs() == 1).any()
